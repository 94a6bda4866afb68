// Package burst is the general path. It takes a burst of packets, prepares jobs, calls
// kernels for many packets at a time, and returns statuses. It knows no header
// format (package profile does) and no cipher (the kernels do).
package burst

import (
	"runtime"
	"sync/atomic"
	"unsafe"

	"libeesp/internal/kernel"
	"libeesp/internal/keys"
	"libeesp/internal/profile"
	"libeesp/internal/secmem"
)

// MaxGroups is the most trust groups that a receiver may have.
const MaxGroups = 64

// secrets is the locked memory of a worker.
type secrets struct {
	msgs    [kernel.Chunk * profile.MaxPer * profile.MaxBlocks * 16]byte
	keys    [kernel.Chunk * profile.MaxPer * 16]byte
	derived [kernel.Chunk * profile.MaxPer * 16]byte
	masks   [kernel.Chunk][16]byte // by key: what is added to nonces
	area    [(kernel.Chunk/fewKeys + 3) &^ 3 * kernel.MaxKeyBytes]byte
	scratch [kernel.ScratchBytes]byte
}

// Worker is the scratch of one thread, so that bursts allocate nothing. One
// goroutine at a time may use it.
type Worker struct {
	number uint64 // of this worker only, ever
	reader *keys.Reader
	sec    *secrets
	used   struct{ keys, derived, area, masks int } // parts of sec that leave wipes

	// The packets of a chunk, by lane.
	n     int // lanes in use
	lanes [kernel.Chunk]profile.Lane
	place [kernel.Chunk]place
	ctx   [kernel.Chunk]profile.Context
	jobs  [kernel.Chunk]kernel.Job

	sealSide                        // seal.go
	openSide                        // open.go
	keying                          // keys.go
	ordering                        // order.go
	cipher                          // kernels.go
	newcomers                       // strangers.go
	linear                          // chain.go
	timing                          // times.go
	aside                           // proxy.go and udp.go
	idle                            // idle.go
	around    [AroundLen / 8]uint64 // struct around of libeesp/outer.c
	pinned    runtime.Pinner
}

// place says where the octets of a lane are.
type place struct {
	src   unsafe.Pointer // payload to read
	body  unsafe.Pointer // payload to write
	tag   unsafe.Pointer
	copy  unsafe.Pointer // copy of the ciphertext, for a second try
	chain bool           // the packet is in linear memory and scattered at the end
	aside bool           // opened in linear memory; the payload is copied to Dst at the end

	strange bool // deriving its key takes a token of strangers
	mayKeep bool // keep its key once the packet is authentic
}

var workers atomic.Uint64 // made so far

// NewWorker allocates a worker.
func NewWorker() (*Worker, error) {
	s, err := secmem.New[secrets]()
	if err != nil {
		return nil, err
	}
	w := &Worker{number: workers.Add(1), sec: s, reader: keys.NewReader()}
	w.sealSide.init()
	return w, nil
}

// Close wipes the worker and frees its memory.
func (w *Worker) Close() {
	w.pinned.Unpin()
	w.reader.Close()
	secmem.Delete(w.sec)
	w.sec = nil
	w.linear.free()
	w.keying.free()
}

// Detach wipes what a worker keeps from burst to burst, before another thread uses
// the worker.
func (w *Worker) Detach() {
	w.pinned.Unpin()
	w.Scrub()
	w.linear.free()
	w.keying.free()
	w.openSide.detach()
}

func (w *Worker) enter() { w.reader.Enter() }

// leave wipes what the burst wrote to scratch, and announces that it has ended. It is
// deferred, so that this is done after a panic, too.
func (w *Worker) leave() {
	s := w.sec
	secmem.Wipe(s.keys[:w.used.keys])
	if w.used.derived != 0 {
		secmem.Wipe(s.derived[:w.used.derived])
	}
	if w.used.area != 0 {
		secmem.Wipe(s.area[:w.used.area])
	}
	w.linear.wipe()
	for i := range s.masks[:w.used.masks] {
		secmem.Wipe(s.masks[i][:])
	}
	w.used.keys, w.used.derived, w.used.area, w.used.masks = 0, 0, 0, 0
	w.n = 0
	w.reader.Leave()
}

// Scrub wipes all of the worker's locked memory, after a panic.
func (w *Worker) Scrub() {
	*w.sec = secrets{}
	secmem.Wipe(w.linear.octets)
	w.sealSide.forget()
	w.openSide.forget()
}

func add(p unsafe.Pointer, n uint32) unsafe.Pointer { return unsafe.Add(p, uintptr(n)) }

func octets(p unsafe.Pointer, n uint32) []byte { return unsafe.Slice((*byte)(p), n) }

// overlap reports whether two ranges of memory share an octet.
func overlap(a unsafe.Pointer, an uint32, b unsafe.Pointer, bn uint32) bool {
	return uintptr(a) < uintptr(b)+uintptr(bn) && uintptr(b) < uintptr(a)+uintptr(an)
}
