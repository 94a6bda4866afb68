package keys

import (
	"sync/atomic"
	"unsafe"
)

// Shares are the threads' shares of counts that every burst adds to. Up to four
// workers have one each, in cache lines of its own, and add to it without locked
// operations; the others add to the shared count. C does so (libeesp/plan.h).
type Shares struct {
	_     [64]byte
	share [4]share
}

type share struct {
	owner atomic.Uint64 // a worker's number, 0: nobody yet
	n     [9]atomic.Uint64
	_     [48]byte
}

// Sum returns the sum of one count over all shares.
func (s *Shares) Sum(i int) (n uint64) {
	for k := range s.share {
		n += s.share[k].n[i].Load()
	}
	return n
}

// Address returns the address of the shares for C. The object must be pinned.
func (s *Shares) Address() uintptr { return uintptr(unsafe.Pointer(&s.share)) }

// Offsets of the shares in a UsageWords and behind a Tally, in octets; the size of a
// share; and their number.
const (
	UsageShares = unsafe.Offsetof(UsageWords{}.Shares) + unsafe.Offsetof(Shares{}.share)
	TallyShares = unsafe.Offsetof(DomainState{}.shares) + unsafe.Offsetof(Shares{}.share) - unsafe.Offsetof(DomainState{}.counts)
	ShareSize   = unsafe.Sizeof(share{})
	ShareCount  = len(Shares{}.share)
)
