package eesp

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"libeesp/internal/counter"
	"libeesp/internal/keys"
	"libeesp/internal/profile"
	"libeesp/internal/say"
	"libeesp/internal/status"
)

// tssRateLog2 is the default rate of tss, of counters that follow the clock: they are the
// time since epochOrigin in units of 2^-18 s. Epochs do not follow the clock, so 48 bits
// must last: they do so for 34 years.
const tssRateLog2 = 18

// epochOrigin is the begin of 2025 in UTC. time.Date would link the reader of time zones, 30 KB.
var epochOrigin = time.Unix(1735689600, 0)

// byOrigin sets defaults of the clock mode where the epoch does not follow the clock.
func byOrigin(c *counter.Config) {
	if c.Mode != CounterClock {
		return
	}
	c.FixedEpoch = true
	if c.EpochStart.IsZero() || c.EpochStart.UnixNano() == 0 {
		c.EpochStart = epochOrigin
	}
	if c.RateLog2 == 0 {
		c.RateLog2 = tssRateLog2 - c.EngineBits
		if c.Direction != counter.NoDirection {
			c.RateLog2--
		}
	}
}

// renewed holds the owners of a group's sender whose counters begin anew with each key
// and epoch: one owner for each, shared with other senders of this ID.
type renewed struct {
	name   string
	config counter.Config
	pinned bool // the epoch is that of the configuration, not the group's
	now    atomic.Pointer[renewal]
	own    *counter.Owner // set by tests

	mu      sync.Mutex
	all     []*renewal // newest last
	started bool       // the first owner was made: only that one begins at the caller's Start
	closed  bool
}

type renewal struct {
	sequence uint64 // of the snapshot that it was made for
	key      [16]byte
	epoch    uint16
	owner    *counter.Owner
}

// keptRenewals is how many keys and epochs keep their owners. If an older one comes back,
// a new owner begins above the counters that were used.
const keptRenewals = 8

// oneKey is the only key of an owner.
type oneKey [16]byte

func (k oneKey) InUse() ([16]byte, bool) { return k, true }
func (k oneKey) All() [][16]byte         { return [][16]byte{k} }

// newRenewed also claims the ID in the process (place), so that no other sender can be
// made that could have the same key and nonces.
func newRenewed(s profile.Sealing, c counter.Config) (r *renewed, place *counter.Owner, err error) {
	if !c.FixedEpoch && c.Mode == CounterClock && c.Epoch != 0 {
		return nil, nil, say.Errorf("%w: epoch without a fixed epoch", status.ErrArgument)
	}
	byOrigin(&c)
	c.FixedEpoch = true
	r = &renewed{name: s.Space() + "@", config: c, pinned: c.Epoch != 0}
	if err := c.Check(); err != nil {
		return nil, nil, err
	}
	shift := 48 - c.EngineBits
	if c.Direction != counter.NoDirection {
		shift--
	}
	place, err = counter.Share(r.name, counter.Config{Mode: CounterExplicit, EngineBits: c.EngineBits, Engine: c.Engine,
		Direction: c.Direction, FixedEpoch: true, Epoch: 1<<16 - 1, Start: 1<<shift - 1}, nil)
	return r, place, err
}

// Owner returns the owner for the keys of a snapshot. If it is that of the burst before,
// this takes no lock.
func (r *renewed) Owner(snap *keys.Snapshot) (*counter.Owner, status.Code) {
	if r.own != nil {
		return r.own, status.OK
	}
	if n := r.now.Load(); n != nil && n.sequence == snap.Sequence {
		return n.owner, status.OK
	}
	o, err := r.renew(snap)
	if err != nil {
		code := status.ErrState
		errors.As(err, &code)
		return nil, code
	}
	return o, status.OK
}

func (r *renewed) renew(snap *keys.Snapshot) (*counter.Owner, error) {
	slot := &snap.Slot[snap.Current]
	n := &renewal{sequence: snap.Sequence, key: slot.Name, epoch: slot.Epoch}
	if r.pinned {
		n.epoch = r.config.Epoch
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, say.Errorf("%w: the sender was freed", status.ErrArgument)
	}
	for _, x := range r.all {
		if x.key == n.key && x.epoch == n.epoch {
			n.owner = x.owner
			r.now.Store(n)
			return n.owner, nil
		}
	}
	c := r.config
	c.Epoch = n.epoch
	if c.Path != "" {
		c.Path = say.Sprintf("%s.%x-%d", c.Path, n.key[:8], n.epoch)
	}
	if r.started {
		c.Start, c.Resume = 0, true
	}
	o, err := counter.Share(say.Sprintf("%s%x/%d", r.name, n.key, n.epoch), c, oneKey(n.key))
	if err != nil {
		return nil, err
	}
	n.owner, r.started = o, true
	r.all = append(r.all, n)
	r.now.Store(n)
	if len(r.all) > keptRenewals {
		old := r.all[0].owner
		r.all = append(r.all[:0], r.all[1:]...)
		keys.Retire(old.Release) // when no burst takes counters from it
	}
	return o, nil
}

func (r *renewed) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.now.Store(nil)
	for _, n := range r.all {
		n.owner.Release()
	}
	r.all = nil
}
