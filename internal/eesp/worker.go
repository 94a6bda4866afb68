package eesp

import (
	"sync/atomic"
	"unsafe"

	"libeesp/internal/burst"
	"libeesp/internal/kernel"
	"libeesp/internal/profile"
)

// session is a worker with memory for descriptors. These have pointers to the caller's
// memory, so they are on the heap, where the collector sees them.
type session struct {
	w     *burst.Worker
	descs [128]profile.Desc
	addrs [128]Addr
	jobs  [128]kernel.Job
}

// pool holds idle sessions. Taking one or giving it back is an atomic swap.
var pool [64]atomic.Pointer[session]

func getWorker() (*session, error) {
	for i := range pool {
		if pool[i].Load() != nil {
			if s := pool[i].Swap(nil); s != nil {
				return s, nil
			}
		}
	}
	w, err := burst.NewWorker()
	if err != nil {
		return nil, err
	}
	return &session{w: w}, nil
}

func putWorker(s *session) {
	for i := range pool {
		if pool[i].Load() == nil && pool[i].CompareAndSwap(nil, s) {
			return
		}
	}
	s.w.Close()
}

func pointer(b []byte) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(b)) }
