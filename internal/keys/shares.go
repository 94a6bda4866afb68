package keys

import (
	"sync/atomic"
	"unsafe"
)

// Shares are parts of counts that are added to for each burst: the first few
// threads that come have one each, in a cache line of their own, to which they add
// without atomic operations. Others add to what all share. C does (libeesp/plan.h).
type Shares struct {
	_     [64]byte
	share [4]share
}

type share struct {
	owner atomic.Uint64 // a worker's number, 0: nobody yet
	n     [9]atomic.Uint64
	_     [48]byte
}

// Sum is what all of them have of one count.
func (s *Shares) Sum(i int) (n uint64) {
	for k := range s.share {
		n += s.share[k].n[i].Load()
	}
	return n
}

// Address is where C finds them, while what they are part of is pinned.
func (s *Shares) Address() uintptr { return uintptr(unsafe.Pointer(&s.share)) }

// Where a UsageWords and a Tally have theirs, and how large one is.
const (
	UsageShares = unsafe.Offsetof(UsageWords{}.Shares) + unsafe.Offsetof(Shares{}.share)
	TallyShares = unsafe.Offsetof(DomainState{}.shares) + unsafe.Offsetof(Shares{}.share) - unsafe.Offsetof(DomainState{}.counts)
	ShareSize   = unsafe.Sizeof(share{})
	ShareCount  = len(Shares{}.share)
)
