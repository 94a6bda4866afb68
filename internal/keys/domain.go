package keys

import (
	"sync/atomic"
	"unsafe"

	"libeesp/internal/say"
	"libeesp/internal/status"
)

// Counts of a domain.
const (
	Sealed = iota
	Opened
	AuthFailures
	Invalid   // refused by its header, replayed, or dropped by the latch
	UnknownSA // no key of that SDI and AN
	LateEpoch
	Exhausted
	WrongSSI
	Clear // not of this format
	DomainCounts
)

// DomainState is the counts of a domain, and its latch: after too many packets that
// were not authentic it drops all.
type DomainState struct {
	most     uint64 // failures that latch; 0: there is no latch. C has this and the next one
	failures atomic.Uint64
	counts   [DomainCounts]atomic.Uint64
	shares   Shares
}

// NewDomainState makes a state that latches after most failures; 0: never.
func NewDomainState(most uint32) *DomainState { return &DomainState{most: uint64(most)} }

// Failed counts a packet that was not authentic, for the latch.
func (d *DomainState) Failed() {
	if d != nil && d.most != 0 {
		d.failures.Add(1)
	}
}

// Latched reports whether all packets are dropped.
func (d *DomainState) Latched() bool { return d.most != 0 && d.failures.Load() >= d.most }

// Add adds n packets to the count what.
func (d *DomainState) Add(what int, n uint64) { d.counts[what].Add(n) }

// Read returns the counts, and the failures since the latch was reset.
func (d *DomainState) Read() (counts [DomainCounts]uint64, failures uint64) {
	for i := range counts {
		counts[i] = d.counts[i].Load() + d.shares.Sum(i)
	}
	return counts, d.failures.Load()
}

// ResetLatch lets receivers open the group's packets again after too many failures.
// ErrUnsupported: the profile has no latch.
func (g *Group) ResetLatch() error {
	d := g.params.State
	if d == nil {
		return say.Errorf("%w: this profile has no latch", status.ErrUnsupported)
	}
	d.failures.Store(0)
	return nil
}

// SetEpoch sets the epoch of the key that senders use. A new key begins in epoch 0.
// ErrUnsupported: the profile has no such epochs.
func (g *Group) SetEpoch(epoch uint16) error {
	if g.params.State == nil {
		return say.Errorf("%w: epochs of this profile are not the group's", status.ErrUnsupported)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return say.Errorf("%w: the group was freed", status.ErrArgument)
	}
	s, _, err := g.nextSlots()
	if err != nil {
		return err
	}
	s.Slot[s.Current].Epoch = epoch
	g.swap(s)
	return nil
}

// Epoch returns the epoch of the key that senders use.
func (g *Group) Epoch() uint16 {
	s := g.snap.Load()
	return s.Slot[s.Current].Epoch
}

// Latch returns the address of the latch for C; 0: there is none. The state must be
// pinned.
func (d *DomainState) Latch() uintptr {
	if d.most == 0 {
		return 0
	}
	return uintptr(unsafe.Pointer(&d.most))
}

// Tally returns the address of the counts for C. The state must be pinned.
func (d *DomainState) Tally() uintptr { return uintptr(unsafe.Pointer(&d.counts)) }
