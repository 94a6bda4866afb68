package main

// #include "shim.h"
import "C"

import (
	"runtime"
	"sync"
	"syscall"
	_ "unsafe" // go:linkname

	"libeesp/internal/barrier"
	"libeesp/internal/burst"
)

// The library's use of memory and threads.

// gcPercent makes the collector run at about 8 MiB of heap, then when the heap is three times
// as large as the live objects. Bursts allocate nothing: only set-up makes garbage.
const gcPercent = 200

// setGCPercent is the function that debug.SetGCPercent calls. Package runtime/debug imports os and fmt, which
// would be a tenth of the library.
//
//go:linkname setGCPercent runtime/debug.setGCPercent
func setGCPercent(percent int32) int32

//export eespGoStart
func eespGoStart() {
	defer func() { recover() }()
	if v, _ := syscall.Getenv("GOGC"); v == "" { // otherwise the runtime has used it, as it does with GOMEMLIMIT
		setGCPercent(gcPercent)
	}
	barrier.Enable()
	procs.mu.Lock()
	defer procs.mu.Unlock()
	procs.grow(spare)
}

// places manages how many threads may be in Go at a time (GOMAXPROCS). If more threads call,
// they wait for each other for milliseconds. But for each place the runtime may want one
// more thread at any time, for example for a collection, and it ends the process if it
// cannot have one. So places and threads are added together, beforehand.
type places struct {
	mu      sync.Mutex
	n       int // number of places
	callers int // threads that are attached
}

const (
	spare = 2  // for a thread that is not attached, and for the runtime itself
	more  = 3  // further threads of the runtime: one waits for timers, others hand over their place
	step  = 4  // places that are added at a time, since adding stops all callers for a moment
	most  = 32 // the most places, unless there are more CPUs
)

var procs places

// attach counts one more thread, and adds places if necessary.
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

// grow makes n places, if there can be threads for them; otherwise callers sometimes wait
// for each other. p.mu is held.
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
	// A goroutine that is locked to its thread keeps it while it waits, so that the next
	// one needs another thread.
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

// pool has workers of threads that have ended, for later threads.
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
