package counter

import (
	"fmt"
	"strings"
	"sync"

	"libeesp/internal/status"
)

// Senders of one process that use the same ID under the same keys would repeat
// each other's counters. They share one owner instead, found by a name: the
// sender's ID, and for one that holds a data key "#" and what tells that key
// from others. A data key may be one that a group's sender derives, so that
// those two never have counters of one ID at the same time.

// place is an owner's part of the counter space.
type place struct {
	name   string
	bits   uint8
	engine uint32
}

var (
	sharedMu sync.Mutex
	shared   = map[string]*ofID{} // by ID
)

// ofID is what the process knows of an ID. There may be very many IDs.
type ofID struct {
	owners map[place]*Owner
	// used holds, for places that have no owner any more, the first value that
	// was not given out; a start below it is refused.
	used map[place]uint64
}

// idOf parts a name: the ID, and whether it is a key's of that ID.
func idOf(name string) (id string, key bool) {
	id, _, key = strings.Cut(name, "#")
	return id, key
}

// rival reports whether one name is an ID's and the other a key's of that ID.
func rival(a, b string) bool {
	a, aKey := idOf(a)
	b, bKey := idOf(b)
	return a == b && aKey != bKey
}

// meets reports whether counters from next on may be some that were used below
// u at an old place. Where engine bits differ, an epoch that was used is spent.
func (p place) meets(old place, next, u uint64) bool {
	if p.name != old.name && !rival(p.name, old.name) || u == 0 {
		return false
	}
	common := min(p.bits, old.bits)
	if p.engine>>(p.bits-common) != old.engine>>(old.bits-common) {
		return false // other parts of the space
	}
	if p.bits == old.bits {
		return next < u
	}
	return next>>(bits-p.bits) <= (u-1)>>(bits-old.bits)
}

// Share returns the owner of a name, made with c if there is none yet. One
// that is there must have been made with the same configuration.
func Share(name string, c Config) (*Owner, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	sharedMu.Lock()
	defer sharedMu.Unlock()
	id, _ := idOf(name)
	known := shared[id]
	if known == nil {
		known = &ofID{map[place]*Owner{}, map[place]uint64{}}
	}
	for at := range known.owners {
		if at.name == name && at.bits != c.EngineBits { // their counters would overlap
			return nil, fmt.Errorf("%w: a sender of this ID with %d engine bits", status.ErrExists, at.bits)
		}
		if rival(at.name, name) && (at.bits != c.EngineBits || at.engine == c.Engine) {
			return nil, fmt.Errorf("%w: this ID has a sender with a group's keys and would have one with a data key", status.ErrExists)
		}
	}
	at := place{name, c.EngineBits, c.Engine}
	if o := known.owners[at]; o != nil {
		if o.cfg != c {
			return nil, fmt.Errorf("%w: a sender of this ID with other counter settings", status.ErrExists)
		}
		o.refs++
		return o, nil
	}
	o, err := New(c)
	if err != nil {
		return nil, err
	}
	for old, u := range known.used {
		if !at.meets(old, o.next.Load(), u) {
			continue
		}
		o.close()
		if c.Mode == Clock && old == at {
			return nil, fmt.Errorf("%w: the clock is behind counters that this process has used", status.ErrClock)
		}
		shift := bits - old.bits
		return nil, fmt.Errorf("%w: epoch %d counter %d: this process has used counters of this ID below epoch %d counter %d, with %d engine bits",
			status.ErrExists, c.Epoch, c.Start, u>>shift, u&(1<<shift-1), old.bits)
	}
	o.place, o.start = at, o.next.Load()
	known.owners[at] = o
	shared[id] = known
	return o, nil
}

// Release gives the owner back; the last user closes it.
func (o *Owner) Release() {
	sharedMu.Lock()
	defer sharedMu.Unlock()
	if o.refs == 0 { // released once too often: the place may be another's
		return
	}
	if o.refs--; o.refs > 0 {
		return
	}
	o.close()
	if o.place.name != "" {
		id, _ := idOf(o.place.name)
		known := shared[id]
		delete(known.owners, o.place)
		if next := o.next.Load(); next != o.start { // what was never given out is not used
			known.used[o.place] = max(known.used[o.place], next)
		}
		if len(known.owners)+len(known.used) == 0 {
			delete(shared, id)
		}
	}
}

func (o *Owner) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.limit.Store(0) // whoever still holds it gets no counter
	if o.file != nil {
		o.file.close()
	}
	o.cfg.Mode = Explicit
}
