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
	shared   = map[string]*ofID{}  // by ID
	keyIDs   = map[string]string{} // by what tells data keys apart: the ID of the first sender that had it
)

// ofID is what the process knows of an ID. There may be very many IDs.
type ofID struct {
	owners map[place]*Owner
	// used holds, for places that have no owner any more, the first value that
	// was not given out; a start below it is refused.
	used map[place]uint64
}

// idOf parts a name: the ID, and for a key's of that ID what tells it from
// others.
func idOf(name string) (id, key string) {
	id, key, _ = strings.Cut(name, "#")
	return id, key
}

// every is the ID that stands for all IDs that begin alike, at the end of its name.
const every = "*"

// rival reports whether two senders whose names differ may have one key and one
// nonce: of one ID, one has a group's keys and the other a data key; of two
// where one stands for the other, that, or both have one data key.
func rival(a, b string) bool {
	a, aKey := idOf(a)
	b, bKey := idOf(b)
	if a == b {
		return (aKey == "") != (bKey == "")
	}
	return (covers(a, b) || covers(b, a)) && (aKey == "" || bKey == "" || aKey == bKey)
}

func covers(a, b string) bool {
	begin, all := strings.CutSuffix(a, every)
	return all && strings.HasPrefix(b, begin)
}

// related is what is known of IDs that names of this one may be rivals of.
func related(id string) (all []*ofID) {
	if strings.HasSuffix(id, every) { // there are few of these
		for other, known := range shared {
			if covers(id, other) {
				all = append(all, known)
			}
		}
		return all
	}
	for _, other := range []string{id, id[:strings.LastIndexByte(id, '/')+1] + every} {
		if known := shared[other]; known != nil {
			all = append(all, known)
		}
	}
	return all
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
	id, key := idOf(name)
	if was, is := keyIDs[key]; is && was != id {
		return nil, fmt.Errorf("%w: this process has had this data key for another ID", status.ErrExists)
	}
	known := shared[id]
	if known == nil {
		known = &ofID{map[place]*Owner{}, map[place]uint64{}}
	}
	others := related(id)
	for _, other := range others {
		for at := range other.owners {
			if at.name == name && at.bits != c.EngineBits { // their counters would overlap
				return nil, fmt.Errorf("%w: a sender of this ID with %d engine bits", status.ErrExists, at.bits)
			}
			if rival(at.name, name) && (at.bits != c.EngineBits || at.engine == c.Engine) {
				return nil, fmt.Errorf("%w: a sender of this process may come to the same key and nonces: a group's and a data key's of one ID, or (tss) one with and one without SSI", status.ErrExists)
			}
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
	for _, other := range others {
		for old, u := range other.used {
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
	}
	o.place, o.start = at, o.next.Load()
	known.owners[at] = o
	shared[id] = known
	if key != "" {
		keyIDs[key] = id
	}
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
