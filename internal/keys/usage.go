package keys

import (
	"crypto/subtle"
	"sync/atomic"
	"unsafe"

	"libeesp/internal/say"
	"libeesp/internal/status"
	"libeesp/internal/wire"
)

// Usage counts what was done with a key from which data keys are derived: that of a
// slot, or a master key. C counts there too, by Words.
type Usage struct {
	n     UsageWords
	each  bool              // data keys are derived for each packet, and not kept
	of    [wire.Levels]*use // of a master key: its root keys by level
	known []atomic.Uint64   // keys that are kept: bits by number, of those that were derived
}

// UsageWords are the counts. If data keys are derived for each packet (each), Extra is
// by how much derivations exceed packets: mostly each packet has one, so it rarely
// changes. Otherwise it is the number of derivations.
type UsageWords struct {
	Sealed, Opened, Extra atomic.Uint64
	Shares                // in the same order
}

// use counts what was done with a root key: the sum of master keys that are wiped, and
// the Usages of those that are not.
type use struct {
	sum  Counts
	live map[*Usage]bool
}

// Counts is the sum of a Usage.
type Counts struct{ Derived, Sealed, Opened uint64 }

func (c *Counts) add(d Counts) {
	c.Derived += d.Derived
	c.Sealed += d.Sealed
	c.Opened += d.Opened
}

// newUsage makes the Usage of a slot's key.
func (p *Params) newUsage() *Usage {
	u := &Usage{each: p.Kind == CMAC && p.EESP.SubSAs == 0}
	if n := p.EESP.SubSAs; n != 0 {
		u.known = make([]atomic.Uint64, (n+63)/64)
	}
	return u
}

// Words returns the address of the counts for C; 0 if u is nil. The Usage must be
// pinned.
func (u *Usage) Words() uintptr {
	if u == nil {
		return 0
	}
	return uintptr(unsafe.Pointer(&u.n))
}

// Sealed counts packets. Extra changes last and is read first, so that readers never
// see too few derivations.
func (u *Usage) Sealed(n int) {
	if u != nil {
		u.n.Sealed.Add(uint64(n))
		u.less(n)
	}
}

// Opened counts packets.
func (u *Usage) Opened(n int) {
	if u != nil {
		u.n.Opened.Add(uint64(n))
		u.less(n)
	}
}

func (u *Usage) less(n int) {
	if u.each {
		u.n.Extra.Add(-uint64(n))
	}
}

// Derived counts data keys that were derived.
func (u *Usage) Derived(n int) {
	if u != nil {
		u.n.Extra.Add(uint64(n))
	}
}

// DerivedOnce counts the data key of a number the first time.
func (u *Usage) DerivedOnce(number int) {
	if u == nil || number/64 >= len(u.known) {
		return
	}
	w, bit := &u.known[number/64], uint64(1)<<(number%64)
	if w.Load()&bit == 0 && w.Or(bit)&bit == 0 {
		u.n.Extra.Add(1)
	}
}

func (u *Usage) read() Counts {
	c := Counts{Derived: u.n.Extra.Load() + u.n.Sum(2)}
	c.Sealed, c.Opened = u.n.Sealed.Load()+u.n.Sum(0), u.n.Opened.Load()+u.n.Sum(1)
	if u.each {
		c.Derived += c.Sealed + c.Opened
	}
	return c
}

// made is the name of a master key and the levels whose root keys made it.
type made struct {
	name   [16]byte
	levels uint8
}

// count sets the Usages of a new snapshot's masters, made from rings. Masters that the
// snapshot in force has too keep theirs. It returns the Usages that end with that
// snapshot. g.mu is held.
func (g *Group) count(s *Snapshot, rings *[wire.Levels]*RootKey) (ended []*Usage) {
	g.usesMu.Lock()
	defer g.usesMu.Unlock()
	old, before := g.snap.Load(), map[made]*Usage{}
	if old.usage != nil {
		for sel, u := range old.usage {
			if u != nil {
				before[made{old.names[sel], levelsOf(sel)}] = u
			}
		}
	}
	for l, k := range rings {
		g.uses[l] = carried(g.rings[l], k, &g.uses[l])
	}
	if s.m != nil {
		s.usage = new([64]*Usage)
		for sel := range s.usage {
			if s.valid>>sel&1 == 0 {
				continue
			}
			name := made{s.names[sel], levelsOf(sel)}
			u := before[name]
			if u == nil {
				u = &Usage{each: true}
				for l := range u.of {
					if gen := sel >> (2 * l) & 3; gen != 0 {
						u.of[l] = g.uses[l][gen-1]
						u.of[l].live[u] = true
					}
				}
				before[name] = u
			}
			s.usage[sel] = u
		}
	}
	for _, u := range before {
		if !s.counts(u) {
			ended = append(ended, u)
		}
	}
	return ended
}

func (s *Snapshot) counts(u *Usage) bool {
	if s.usage != nil {
		for _, x := range s.usage {
			if x == u {
				return true
			}
		}
	}
	return false
}

// carried returns the uses of a ring's keys. Keys that are in the old ring too keep
// theirs.
func carried(old, now *RootKey, uses *[3]*use) (n [3]*use) {
	if now == nil {
		return n
	}
	for i := range n {
		for k := range i { // a ring without a previous key repeats the current one
			if sameRootKey(now, i, now, k) {
				n[i] = n[k]
			}
		}
		for k := range uses {
			if n[i] == nil && old != nil && sameRootKey(now, i, old, k) {
				n[i] = uses[k]
			}
		}
		if n[i] == nil {
			n[i] = &use{live: map[*Usage]bool{}}
		}
	}
	return n
}

func sameRootKey(a *RootKey, i int, b *RootKey, k int) bool {
	return a.Index[i] == b.Index[k] && string(a.ID) == string(b.ID) && subtle.ConstantTimeCompare(a.Value[i][:], b.Value[k][:]) == 1
}

// end adds the counts of masters that no burst uses any more to their root keys.
func (g *Group) end(ended []*Usage) {
	g.usesMu.Lock()
	defer g.usesMu.Unlock()
	for _, u := range ended {
		for _, x := range u.of {
			if x != nil && x.live[u] {
				x.sum.add(u.read())
				delete(x.live, u)
			}
		}
	}
}

// Usage returns that of the master key of a selection. There must be one.
func (s *Snapshot) Usage(sel int) *Usage { return s.usage[sel] }

// Used returns what was done with a key since it came to the group. level is the level
// of a root key, and generation its place in the ring; index is the key's. In profiles
// with slots level is the slot. ErrNotFound: there is no such key.
func (g *Group) Used(level, generation int) (c Counts, index uint64, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.params.Slots != 0 {
		if err := g.checkSlot(level); err != nil {
			return c, 0, err
		}
		if generation != Current-1 {
			return c, 0, say.Errorf("%w: keys in slots have no generations", status.ErrArgument)
		}
		k := &g.snap.Load().Slot[level]
		if !k.Present {
			return c, 0, say.Errorf("%w: no key in slot %d", status.ErrNotFound, level)
		}
		c = k.Usage.read()
		c.add(k.Kept.read())
		return c, 0, nil
	}
	if err := g.checkLevel(level); err != nil {
		return c, 0, err
	}
	k := g.rings[level]
	switch {
	case k == nil:
		return c, 0, say.Errorf("%w: no root key at level %d", status.ErrNotFound, level)
	case generation == Pre-1 && !k.HasPre():
		return c, 0, say.Errorf("%w: no previous root key at level %d", status.ErrNotFound, level)
	case generation == Next-1 && k.NoNext:
		return c, 0, say.Errorf("%w: no next root key at level %d", status.ErrNotFound, level)
	}
	g.usesMu.Lock()
	defer g.usesMu.Unlock()
	u := g.uses[level][generation]
	c = u.sum
	for x := range u.live {
		c.add(x.read())
	}
	return c, k.Index[generation], nil
}
