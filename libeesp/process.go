package main

// #include "shim.h"
import "C"

import (
	"runtime"
	"sync"
	"syscall"
	_ "unsafe" // go:linkname

	"libeesp/internal/burst"
)

// What the library takes of its process: memory, threads.

// The first collection comes at some 8 MiB of heap, the next at three times what
// was alive. Bursts allocate nothing: only set-up makes garbage.
const gcPercent = 200

// setGCPercent is what debug.SetGCPercent calls. Package runtime/debug would bring os and fmt with it, a
// tenth of the library.
//
//go:linkname setGCPercent runtime/debug.setGCPercent
func setGCPercent(percent int32) int32

//export eespGoStart
func eespGoStart() {
	defer func() { recover() }()
	if v, _ := syscall.Getenv("GOGC"); v == "" { // which the runtime has heeded, as it has GOMEMLIMIT
		setGCPercent(gcPercent)
	}
	procs.mu.Lock()
	defer procs.mu.Unlock()
	procs.grow(spare)
}

// places says how many threads may be in Go at a time (GOMAXPROCS). More callers
// than that wait for each other for milliseconds; and each place is worth a
// thread of the runtime's, which it may want at any time, for a collection say, and
// ends the process if it cannot have it. So both are taken together, beforehand.
type places struct {
	mu      sync.Mutex
	n       int // as many there are
	callers int // threads that are attached
}

const (
	spare = 2  // for a thread that is not attached, and for the runtime itself
	more  = 3  // threads beyond that: one sleeps until a timer, others hand their place on
	step  = 4  // as many are added at a time, which stops the callers for a moment
	most  = 32 // or as many as there are CPUs
)

var procs places

// attach counts a thread in.
func (p *places) attach() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.callers++
	if want := p.callers + spare; want > p.n {
		p.grow(p.n + step)
	}
}

func (p *places) detach() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.callers--
}

// grow makes n places, if the threads for them can be had: else callers wait
// for each other now and then. p.mu is held.
func (p *places) grow(n int) {
	n = min(n, max(most, runtime.NumCPU()+spare))
	threads := n - p.n
	if p.n == 0 {
		threads += more
	}
	if threads <= 0 || C.can_have_threads(C.int(threads)) == 0 {
		return
	}
	runtime.GOMAXPROCS(n)
	p.n = n
	// A goroutine that is locked to its thread keeps that while it waits, and the
	// next one takes another.
	var here, done sync.WaitGroup
	release := make(chan struct{})
	for range n + more {
		here.Add(1)
		done.Go(func() {
			runtime.LockOSThread()
			here.Done()
			<-release
			runtime.UnlockOSThread()
		})
	}
	here.Wait()
	close(release)
	done.Wait()
}

// idle has workers of threads that have ended.
var pool struct {
	mu   sync.Mutex
	idle []*burst.Worker
}

const mostIdle = 16

func takeWorker() (*burst.Worker, error) {
	pool.mu.Lock()
	defer pool.mu.Unlock()
	if n := len(pool.idle); n > 0 {
		w := pool.idle[n-1]
		pool.idle = pool.idle[:n-1]
		return w, nil
	}
	return burst.NewWorker()
}

func giveWorker(w *burst.Worker) {
	w.Detach()
	pool.mu.Lock()
	defer pool.mu.Unlock()
	if len(pool.idle) < mostIdle {
		pool.idle = append(pool.idle, w)
	} else {
		w.Close()
	}
}
