package keys

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"libeesp/internal/status"
)

// Domain's counts, by what became of packets.
const (
	Sealed = iota
	Opened
	AuthFailures
	Invalid   // refused for what the header says, or latched
	UnknownSA // no key of that SDI and AN
	LateEpoch
	Exhausted
	WrongSSI
	Clear // not of the format at all
	DomainCounts
)

// DomainState is what a domain counts, and whether it drops packets because of
// too many that were not authentic.
type DomainState struct {
	most     uint64 // 0: no latch
	failures atomic.Uint64
	counts   [DomainCounts]atomic.Uint64
	shares   Shares
}

// NewDomainState makes one that latches after so many failures; 0: never.
func NewDomainState(most uint32) *DomainState { return &DomainState{most: uint64(most)} }

// Failed takes note of a packet that was not authentic.
func (d *DomainState) Failed() {
	if d != nil && d.most != 0 {
		d.failures.Add(1)
	}
}

// Latched reports whether all packets are dropped.
func (d *DomainState) Latched() bool { return d.most != 0 && d.failures.Load() >= d.most }

// Add counts packets.
func (d *DomainState) Add(what int, n uint64) { d.counts[what].Add(n) }

// Read returns the counts, and the failures since the latch was reset.
func (d *DomainState) Read() (counts [DomainCounts]uint64, failures uint64) {
	for i := range counts {
		counts[i] = d.counts[i].Load() + d.shares.Sum(i)
	}
	return counts, d.failures.Load()
}

// ResetLatch has the group's packets opened again after too many failures.
func (g *Group) ResetLatch() error {
	d := g.params.State
	if d == nil {
		return fmt.Errorf("%w: this profile has no latch", status.ErrUnsupported)
	}
	d.failures.Store(0)
	return nil
}

// SetEpoch puts the key that senders use into an epoch. A new key begins in
// epoch 0.
func (g *Group) SetEpoch(epoch uint16) error {
	if g.params.State == nil {
		return fmt.Errorf("%w: epochs of this profile are not the group's", status.ErrUnsupported)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return fmt.Errorf("%w: the group was freed", status.ErrArgument)
	}
	s, _, err := g.nextSlots()
	if err != nil {
		return err
	}
	s.Slot[s.Current].Epoch = epoch
	g.swap(s)
	return nil
}

// Epoch is that of the key in use.
func (g *Group) Epoch() uint16 {
	s := g.snap.Load()
	return s.Slot[s.Current].Epoch
}

// Tally is where packets are counted, for C; the state is pinned meanwhile.
func (d *DomainState) Tally() uintptr { return uintptr(unsafe.Pointer(&d.counts)) }
