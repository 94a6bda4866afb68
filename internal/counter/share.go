package counter

import (
	"hash/maphash"
	"strings"
	"sync"

	"libeesp/internal/say"
	"libeesp/internal/status"
)

// Senders of one process with one ID and the same keys would repeat each other's
// counters. So they share an owner, which is found by a name: the counter space
// (profile.Sealing.Space), and for a sender that holds a data key "#" and a name of the
// key. A group's sender may derive the same data key, so of one ID only one of the two
// kinds may have counters at a time.

// place is the name and the part of an owner's counter space.
type place struct {
	name string
	part
}

var (
	sharedMu sync.Mutex
	shared   = map[string]map[place]*Owner{} // owners in use, by ID
	keyIDs   = map[string]*keyID{}           // by the name of a data key: the ID that uses it
	used     = marks{seed: maphash.MakeSeed()}
)

type keyID struct {
	id     string
	owners int
}

// idOf returns the ID in a name, and the name of the data key, if it has one.
func idOf(name string) (id, key string) {
	id, key, _ = strings.Cut(name, "#")
	id, _, _ = strings.Cut(id, "@")
	return id, key
}

// scoped reports whether a name is for one key and epoch of a group only.
func scoped(name string) bool { return strings.Contains(name, "@") }

// every at the end of an ID makes it stand for all IDs that begin with the rest.
const every = "*"

// rival reports whether two senders with different names may have one key and
// one nonce. There are three cases: they have one ID, and one has a group's keys
// and the other a data key; one name covers the other, and at least one has a
// group's keys; one covers the other, and both have the same data key.
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

// begins returns the part of an ID before which every could stand.
func begins(id string) string { return id[:strings.LastIndexByte(id, '/')+1] }

// related returns the owners of IDs whose names may be rivals of names of this one.
func related(id string) (all []map[place]*Owner) {
	if strings.HasSuffix(id, every) { // there are few such IDs: look at all owners
		for other, owners := range shared {
			if covers(id, other) {
				all = append(all, owners)
			}
		}
		return all
	}
	for _, other := range []string{id, begins(id) + every} {
		if owners := shared[other]; owners != nil {
			all = append(all, owners)
		}
	}
	return all
}

// Kinds of sets in which used counters are noted.
const (
	ofGroups       = iota // of an ID, with groups' keys
	ofHolders             // of an ID, with data keys
	ofKey                 // of a data key
	alikeOfGroups         // ofGroups of all IDs that begin alike
	alikeOfHolders        // ofHolders of all IDs that begin alike
	ofScope               // of a scoped name
)

// notes calls f with the sets in which a name's counters are noted.
func notes(name string, f func(s set)) {
	id, key := idOf(name)
	begin, all := begins(id), strings.HasSuffix(id, every)
	if key == "" {
		if scoped(name) {
			f(set{ofScope, name})
		}
		f(set{ofGroups, id})
		if !all && begin != "" {
			f(set{alikeOfGroups, begin})
		}
		return
	}
	f(set{ofKey, key})
	f(set{ofHolders, id})
	if !all && begin != "" {
		f(set{alikeOfHolders, begin})
	}
}

// rivals calls f with the sets of other names whose counters this name must not use
// again: see rival.
func rivals(name string, f func(s set)) {
	id, key := idOf(name)
	begin := begins(id)
	if !scoped(name) {
		f(set{ofGroups, id})
	}
	if key == "" {
		f(set{ofHolders, id})
	}
	if strings.HasSuffix(id, every) {
		f(set{alikeOfGroups, begin})
		if key == "" {
			f(set{alikeOfHolders, begin})
		}
		return
	}
	f(set{ofGroups, begin + every})
	if key == "" {
		f(set{ofHolders, begin + every})
	}
}

// Share returns the owner of a name, and makes it with c if there is none. An owner that
// is there must have the same configuration. keys are the sender's; the reserved mode and
// LockDir need them. Errors: ErrArgument (c), ErrExists (another sender or process has
// these counters, or they were used), ErrClock, ErrState, ErrNoKey (the reserved mode or
// LockDir, without a key), ErrMemory.
func Share(name string, c Config, keys Keys) (*Owner, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	sharedMu.Lock()
	defer sharedMu.Unlock()
	id, key := idOf(name)
	at := place{name, part{c.Direction, c.EngineBits, c.Engine}}
	if was := keyIDs[key]; was != nil && was.id != id || key != "" && used.has(set{ofKey, key}) && !used.has(set{ofHolders, id}) {
		return nil, say.Errorf("%w: this process has used this data key with another ID", status.ErrExists)
	}
	for _, owners := range related(id) {
		for other := range owners {
			if other.name == name && (other.bits != c.EngineBits || (other.dir == NoDirection) != (c.Direction == NoDirection)) { // their counters would overlap
				return nil, say.Errorf("%w: this process has a sender of this ID with %d engine bits, or another direction", status.ErrExists, other.bits)
			}
			if rival(other.name, name) && at.overlaps(other.part) {
				return nil, say.Errorf("%w: this process has a sender that could use the same key and nonces: of one ID, one with a group and one with a data key, or (tss) one with and one without SSI", status.ErrExists)
			}
		}
	}
	if o := shared[id][at]; o != nil {
		was, is := o.cfg, c
		if is.Resume { // the start does not matter
			was.Start, is.Start = 0, 0
		}
		was.Resume, is.Resume = false, false
		if was != is {
			return nil, say.Errorf("%w: this process has a sender of this ID with other counter settings", status.ErrExists)
		}
		o.refs++
		return o, nil
	}
	o, err := newOwner(name, c, keys)
	if err != nil {
		return nil, err
	}
	if err := o.meets(at); err != nil {
		o.close()
		return nil, err
	}
	var reserved []set
	notes(name, func(s set) {
		if err == nil {
			if err = used.reserve(s, at.part); err == nil {
				reserved = append(reserved, s)
			}
		}
	})
	if err != nil {
		for _, s := range reserved {
			used.note(s, at.part, 0, false)
		}
		o.close()
		return nil, err
	}
	o.place, o.start = at, o.next.Load()
	if shared[id] == nil {
		shared[id] = map[place]*Owner{}
	}
	shared[id][at] = o
	if key != "" {
		if keyIDs[key] == nil {
			keyIDs[key] = &keyID{id: id}
		}
		keyIDs[key].owners++
	}
	return o, nil
}

// overlaps reports whether two parts may have counters in common. Parts with different
// engine bits are taken to overlap.
func (p part) overlaps(q part) bool {
	if p.dir != q.dir && p.dir != NoDirection && q.dir != NoDirection {
		return false
	}
	return p.bits != q.bits || p.engine == q.engine
}

// meets returns an error if a new owner would begin with counters that were used. In
// every part counters rise with time, so they must be above all that were used.
func (o *Owner) meets(at place) error {
	next := o.next.Load()
	if next >= o.end && !o.spare() { // it has no counters
		return nil
	}
	tsc := o.TSC(next)
	id, key := idOf(at.name)
	own := set{ofGroups, id}
	switch {
	case key != "":
		own = set{ofKey, key}
	case scoped(at.name):
		own = set{ofScope, at.name}
	}
	mark := used.highest(own, at.part)
	if o.cfg.Resume && tsc < mark {
		tsc = o.resume(mark)
	}
	// No mark can be above the last counter of all.
	if mark == ^uint64(0) && tsc == mark {
		tsc--
	}
	if tsc < mark && o.cfg.Mode == Clock {
		return say.Errorf("%w: the clock is behind counters that this process has used", status.ErrClock)
	}
	rivals(at.name, func(s set) {
		mark = max(mark, used.highest(s, at.part))
	})
	if tsc < mark {
		m := mark - 1
		count := m&(1<<bits-1)>>o.m.Low + 1
		return say.Errorf("%w: epoch %d counter %d: this process has used counters of this ID below epoch %d counter %d",
			status.ErrExists, tsc>>bits, tsc&(1<<bits-1)>>o.m.Low, m>>bits, count)
	}
	return nil
}

// Retain adds a user to an owner that has one.
func (o *Owner) Retain() {
	sharedMu.Lock()
	defer sharedMu.Unlock()
	o.refs++
}

// Release removes a user. The last one closes the owner; its counters stay used.
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
	if o.place.name == "" {
		return
	}
	id, key := idOf(o.place.name)
	if delete(shared[id], o.place); len(shared[id]) == 0 {
		delete(shared, id)
	}
	if k := keyIDs[key]; k != nil {
		if k.owners--; k.owners == 0 {
			delete(keyIDs, key)
		}
	}
	mark := uint64(0)
	if next := o.next.Load(); next != o.start { // otherwise none was used
		mark = o.TSC(next-1) + 1
	}
	// Names with a data key are noted in any case: the key stays bound to its ID.
	notes(o.place.name, func(s set) { used.note(s, o.place.part, mark, mark != 0 || key != "") })
}

func (o *Owner) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.freed.Store(true)
	o.soft.Store(0)
	o.limit.Store(0) // senders that still hold it get no counter
	o.gone.Store(true)
	if o.file != nil {
		o.file.close()
	}
	o.locks.release()
	o.cfg.Mode = Explicit
}
