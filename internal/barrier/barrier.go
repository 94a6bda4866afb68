// Package barrier lets threads announce that they begin or end something without a locked
// operation, which takes some twenty cycles: a plain store does, as long as those who read the
// announcements first make all threads of the process execute a memory barrier (membarrier(2)).
//
// A thread that announces, in C:
//
//	store its announcement; load what others have published
//
// Who reads announcements:
//
//	publish; barrier.Threads(); read the announcements
//
// If the announcement is not seen there, the thread's store, and so its load, came after the
// barrier, and it sees what was published. Where the system has no such barrier, Word tells
// threads to use a locked operation, and Threads does nothing.
package barrier

import (
	"sync/atomic"
	"time"
	"unsafe"
)

// Values of word.
const (
	locked   = 0 // threads use locked operations
	plain    = 1 // plain stores are enough
	settling = 2 // the system refuses the barrier from now on; stores from before may still be on their way
)

var word atomic.Uint64

// settle is far longer than any store takes to become visible to other threads.
const settle = 10 * time.Millisecond

// Enable allows plain stores, if the system has the barrier. It is called before other threads can look at Word.
func Enable() {
	if register() {
		word.Store(plain)
	}
}

// Word is the address of a word of eight octets, which is 1 as long as plain stores are enough.
func Word() unsafe.Pointer { return unsafe.Pointer(&word) }

// Threads makes all threads of the process execute a barrier.
func Threads() {
	switch word.Load() {
	case locked:
		return
	case plain:
		if execute() {
			return
		}
		word.CompareAndSwap(plain, settling) // by a filter that was set after Enable
	}
	wait(settle)
	word.CompareAndSwap(settling, locked)
}
