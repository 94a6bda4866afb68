package main

// #include <stdlib.h>
// #include "known.h"
import "C"

import (
	"errors"
	"unsafe"

	"libeesp/internal/burst"
	"libeesp/internal/kernel"
	"libeesp/internal/say"
	"libeesp/internal/status"
)

// known has the outcomes of the fast path's known answers, by backend. readyMu guards it.
var known = map[*kernel.Backend]error{}

// knownAnswers runs the known answers of the fast path with a backend (known.c), the first time.
func knownAnswers(be *kernel.Backend) error {
	if be.Direct == nil || C.may_be_direct() == 0 {
		return nil
	}
	err, ok := known[be]
	if !ok {
		if err = runKnown(be); err == nil || errors.Is(err, status.ErrSelfTest) {
			known[be] = err
		}
	}
	return err
}

func runKnown(be *kernel.Backend) error {
	w, err := takeWorker()
	if err != nil {
		return err
	}
	defer giveWorker(w)
	number := workers.put(w)
	defer workers.drop(C.uint64_t(number))
	c := C.known_new()
	if c == nil {
		return say.Errorf("%w: known answers", status.ErrMemory)
	}
	defer C.free(unsafe.Pointer(c))
	c.worker = C.uint64_t(number)
	*(*burst.WorkerView)(unsafe.Pointer(&c.view)) = w.View()
	for i := range burst.Knowns {
		if err := runOne(be, w, c, i); err != nil {
			return err
		}
	}
	return nil
}

func runOne(be *kernel.Backend, w *burst.Worker, c *C.struct_known, number int) error {
	k, err := burst.NewKnown(be, number)
	if err != nil {
		return err
	}
	defer k.Close()
	cell := func(p *unsafe.Pointer) *uintptr { return (*uintptr)(unsafe.Pointer(p)) }
	if err := k.Plan(w, cell(&c.seal_plan), cell(&c.open_plan), uintptr(unsafe.Pointer(direct(be)))); err != nil {
		return err
	}
	C.known_run(c)
	switch c.failed {
	case C.KNOWN_NO_PLAN:
		return k.Failed("no plan")
	case C.KNOWN_SEAL:
		return k.Failed("seal")
	}
	if err := k.Check(octets(&c.sealed[0], c.octets)); err != nil {
		return err
	}
	switch c.failed {
	case C.KNOWN_OPEN:
		return k.Failed("open")
	case C.KNOWN_FORGED:
		return k.Failed("open what is forged")
	case C.KNOWN_CGO:
		return k.Failed("calls Go")
	}
	return nil
}
