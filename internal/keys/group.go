package keys

import (
	"crypto/subtle"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"libeesp/internal/generic"
	"libeesp/internal/hkdf"
	"libeesp/internal/kernel"
	"libeesp/internal/secmem"
	"libeesp/internal/status"
	"libeesp/internal/wire"
)

// Combiner names how root keys become a master key.
type Combiner uint8

// The combiners of formats.md, section 1.3.
const (
	HKDF Combiner = iota // HKDF-SHA-256 over the present values and names
	XOR                  // the draft's own example
)

// Generations of a ring, as selectors: 0 is "level not present".
const (
	Pre = 1 + iota
	Current
	Next
)

// Select builds the index of a master key from one generation per level.
func Select(zone, user, task int) int { return zone | user<<2 | task<<4 }

// Level is the public part of one ring in a snapshot.
type Level struct {
	Present bool
	HasPre  bool
	HasNext bool
	IDLen   uint8
	Index   [3]uint8 // low octets, in the order pre, current, next
	ID      [wire.MaxRootKeyID]byte
	option  [wire.MaxOption]byte // the option that names the current key
	optLen  uint8
}

// Option returns the Master Key Option that names the level's current key.
func (l *Level) Option() []byte { return l.option[:l.optLen] }

// Match returns the generation that a packet's option names, or 0.
func (l *Level) Match(index uint8, id []byte) int {
	if !l.Present || len(id) != int(l.IDLen) || string(id) != string(l.ID[:l.IDLen]) {
		return 0
	}
	switch index { // current first: a ring without pre carries it twice
	case l.Index[1]:
		return Current
	case l.Index[2]: // the current one's if there is no next key
		return Next
	case l.Index[0]:
		return Pre
	}
	return 0
}

// Beyond says whether an index is ahead of the newest key of the ring that an option names.
func (l *Level) Beyond(index uint8, id []byte) bool {
	if !l.Present || len(id) != int(l.IDLen) || string(id) != string(l.ID[:l.IDLen]) {
		return false
	}
	newest := l.Index[1]
	if l.HasNext {
		newest = l.Index[2]
	}
	return int8(index-newest) > 0
}

// masters is every master key of a snapshot, by Select's index.
type masters [64]kernel.Master

// Snapshot is an immutable view of a group's keys. Between Reader.Enter and
// Reader.Leave it may be used freely; after that its keys may be gone.
type Snapshot struct {
	*Params
	Level    [wire.Levels]Level
	Default  uint8       // bit l: level l belongs to packets without options
	Sequence uint64      // differs between snapshots of one group
	Sealing  status.Code // not OK: nothing is sealed, and this is why
	valid    uint64
	m        *masters
	names    *[64][16]byte // of the masters
	usage    *[64]*Usage   // by the same

	Slot    [2]Slot // instead of levels, for profiles that have no rings
	Current int     // the slot that senders use
	slots   *slotKeys
}

// Master returns the master key of a selection, or nil if there is none.
func (s *Snapshot) Master(sel int) *kernel.Master {
	if s.valid>>sel&1 == 0 {
		return nil
	}
	return &s.m[sel]
}

// Name is that of the master key of a selection, which there is.
func (s *Snapshot) Name(sel int) [16]byte { return s.names[sel] }

// Has reports whether a key of that name is in force.
func (s *Snapshot) Has(name *[16]byte) bool {
	for i := range s.Slot {
		if s.Slot[i].Present && s.Slot[i].Name == *name {
			return true
		}
	}
	for sel := range s.names {
		if s.valid>>sel&1 != 0 && s.names[sel] == *name {
			return true
		}
	}
	return false
}

// HasPre reports whether a level of a set has a previous key that is not its
// current one.
func (s *Snapshot) HasPre(levels uint8) bool {
	for l := range s.Level {
		if levels>>l&1 != 0 && s.Level[l].HasPre {
			return true
		}
	}
	return false
}

// Of returns the selection in which every level of a bit set has the given
// generation.
func Selection(levels uint8, generation int) int {
	sel := 0
	for l := 0; l < wire.Levels; l++ {
		if levels>>l&1 != 0 {
			sel |= generation << (2 * l)
		}
	}
	return sel
}

// Group is a trust group: root-key rings, and the master keys made of them.
// All methods may be called at any time by any goroutine.
type Group struct {
	params Params

	mu       sync.Mutex
	rings    [wire.Levels]*RootKey
	defaults uint8
	sealing  status.Code
	sequence uint64
	users    int
	closed   bool
	spi      map[[16]byte]uint32 // by a key's name: the last number that AllocSPI gave out

	snap     atomic.Pointer[Snapshot]
	watchers map[any]func()

	usesMu sync.Mutex
	uses   [wire.Levels][3]*use // of rings' keys

	oldMu sync.Mutex
	old   []*Snapshot // out of force, and not wiped yet
	wiped atomic.Uint64
}

// swap puts a snapshot in force; the one before is wiped when no burst uses it,
// and what ended counts then.
func (g *Group) swap(s *Snapshot, ended ...*Usage) (old *Snapshot) {
	g.oldMu.Lock()
	old = g.snap.Load()
	g.old = append(g.old, old)
	g.snap.Store(s)
	g.oldMu.Unlock()
	for _, f := range g.watchers {
		f()
	}
	Retire(func() {
		old.wipe()
		g.end(ended)
		g.oldMu.Lock()
		defer g.oldMu.Unlock()
		g.old = slices.DeleteFunc(g.old, func(s *Snapshot) bool { return s == old })
		g.wiped.Add(1)
	})
	return old
}

// Watch has f called now and after each change of the group's keys, before keys
// that are no longer in force may be wiped, until Unwatch with the same name.
// Group's mutex is held: f must not change the group.
func (g *Group) Watch(name any, f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.watchers == nil {
		g.watchers = map[any]func(){}
	}
	g.watchers[name] = f
	f()
}

// Unwatch ends Watch.
func (g *Group) Unwatch(name any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.watchers, name)
}

// Alive reports whether a burst may use a key of that name: it is in force, or
// was and is not wiped yet.
func (g *Group) Alive(name *[16]byte) bool {
	g.oldMu.Lock()
	defer g.oldMu.Unlock()
	return g.snap.Load().Has(name) || slices.ContainsFunc(g.old, func(s *Snapshot) bool { return s.Has(name) })
}

// Wiped counts snapshots that were wiped.
func (g *Group) Wiped() uint64 { return g.wiped.Load() }

// NewGroup makes a group without keys.
func NewGroup(p Params) (*Group, error) {
	if p.KeyLen != 16 && p.KeyLen != 32 {
		return nil, fmt.Errorf("%w: AEAD key length %d", status.ErrArgument, p.KeyLen)
	}
	if p.Combiner > XOR {
		return nil, fmt.Errorf("%w: combiner %d", status.ErrArgument, p.Combiner)
	}
	g := &Group{params: p, users: 1}
	g.snap.Store(&Snapshot{Params: &g.params})
	return g, nil
}

// Params are what the group was made with; they do not change.
func (g *Group) Params() *Params { return &g.params }

// Snapshot returns the keys in force. Call it between Enter and Leave.
func (g *Group) Snapshot() *Snapshot { return g.snap.Load() }

// Retain and Release count the group's users; the last one wipes its keys.
func (g *Group) Retain() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return fmt.Errorf("%w: the group was freed", status.ErrArgument)
	}
	g.users++
	return nil
}

// Release ends one use.
func (g *Group) Release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return
	}
	if g.users--; g.users > 0 {
		return
	}
	g.closed = true
	old := g.swap(&Snapshot{Params: &g.params})
	for i := range old.Slot {
		old.Slot[i].retire()
	}
	for l, k := range g.rings {
		if k != nil {
			k.Free()
			g.rings[l] = nil
		}
	}
}

func (s *Snapshot) wipe() {
	if s.m != nil {
		secmem.Delete(s.m)
	}
	if s.slots != nil {
		secmem.Delete(s.slots)
	}
}

func (g *Group) checkLevel(level int) error {
	if g.params.Slots != 0 {
		return fmt.Errorf("%w: this profile has no root keys at levels", status.ErrUnsupported)
	}
	if level < 0 || level >= wire.Levels {
		return fmt.Errorf("%w: level %d", status.ErrArgument, level)
	}
	return nil
}

// Set puts a root key at a level, in place of one that is there; the group
// owns it if there is no error. A level that is new joins the default levels.
func (g *Group) Set(level int, k *RootKey) error {
	if err := g.checkLevel(level); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return fmt.Errorf("%w: the group was freed", status.ErrArgument)
	}
	d := g.defaults
	if g.rings[level] == nil {
		d |= 1 << level
	}
	return g.replace(level, k, d)
}

// replace publishes the group with another ring at one level.
func (g *Group) replace(level int, k *RootKey, defaults uint8) error {
	rings := g.rings
	old := rings[level]
	rings[level] = k
	if err := g.publish(rings, defaults); err != nil {
		return err
	}
	if old != nil {
		old.Free() // readers use the masters, never the rings
	}
	return nil
}

// Rotate makes a new next key; old next becomes current, old current pre, and
// old pre is wiped. value nil asks for a random one.
func (g *Group) Rotate(level int, index uint64, value *[32]byte) error {
	if err := g.checkLevel(level); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	old := g.rings[level]
	if old == nil {
		return fmt.Errorf("%w: no root key at level %d", status.ErrNotFound, level)
	}
	k, err := old.Rotated(index, value)
	if err != nil {
		return err
	}
	if err := g.replace(level, k, g.defaults); err != nil {
		k.Free()
		return err
	}
	return nil
}

// Remove takes a level's root key out of the group and wipes it.
func (g *Group) Remove(level int) error {
	if err := g.checkLevel(level); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.rings[level] == nil {
		return fmt.Errorf("%w: no root key at level %d", status.ErrNotFound, level)
	}
	return g.replace(level, nil, g.defaults&^(1<<level))
}

// SetDefault says which levels packets without Master Key Options use.
func (g *Group) SetDefault(levels uint8) error {
	if err := g.checkLevel(0); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for l := range g.rings {
		if levels>>l&1 != 0 && g.rings[l] == nil {
			return fmt.Errorf("%w: no root key at level %d", status.ErrNotFound, l)
		}
	}
	if levels>>wire.Levels != 0 {
		return fmt.Errorf("%w: levels %#x", status.ErrArgument, levels)
	}
	return g.publish(g.rings, levels)
}

// With calls f with the root key of a level, which f must not keep.
func (g *Group) With(level int, f func(*RootKey) error) error {
	if err := g.checkLevel(level); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.rings[level] == nil {
		return fmt.Errorf("%w: no root key at level %d", status.ErrNotFound, level)
	}
	return f(g.rings[level])
}

// publish makes the snapshot of rings and puts it in force; g.mu is held.
// On error nothing has changed.
func (g *Group) publish(rings [wire.Levels]*RootKey, defaults uint8) error {
	g.sequence++
	s := &Snapshot{Params: &g.params, Default: defaults, Sequence: g.sequence, Sealing: g.sealing}
	any := false
	for l, k := range rings {
		if k != nil {
			if k != g.rings[l] {
				if err := AboveFloor(k.ID, k.lowest()); err != nil {
					return err
				}
			}
			any = true
			s.Level[l].fill(l, k)
		}
	}
	if any {
		m, err := secmem.New[masters]()
		if err != nil {
			return err
		}
		s.m = m
		if err := s.combineAll(&rings, g.params.Combiner); err != nil {
			s.wipe()
			return err
		}
	}
	ended := g.count(s, &rings)
	for l, k := range rings {
		if k != nil && k != g.rings[l] && k.whole {
			RaiseFloor(k.ID, k.floor)
		}
	}
	g.rings, g.defaults = rings, defaults
	g.swap(s, ended...)
	return nil
}

func (l *Level) fill(level int, k *RootKey) {
	l.Present = true
	l.HasPre, l.HasNext = k.HasPre(), !k.NoNext
	l.IDLen = uint8(copy(l.ID[:], k.ID))
	for i, x := range k.Index {
		l.Index[i] = uint8(x)
	}
	l.optLen = uint8(len(wire.AppendOption(l.option[:0], level, l.Index[1], k.ID)))
}

// combiners' scratch: in locked memory, for key material must not stay on the
// heap.
type combine struct {
	ikm     [3 * 32]byte
	master  [32]byte
	scratch [kernel.ScratchBytes]byte
}

// combineAll fills in the master keys of all selections (section 1.3). Where
// xor refuses every selection of generation current at all levels, the change
// as a whole is refused; other refused selections are just absent.
func (s *Snapshot) combineAll(rings *[wire.Levels]*RootKey, c Combiner) error {
	w, err := secmem.New[combine]()
	if err != nil {
		return err
	}
	defer secmem.Delete(w)
	s.names = new([64][16]byte)
	for sel := 1; sel < 64; sel++ {
		if !s.has(sel) {
			continue
		}
		ok := true
		switch c {
		case HKDF:
			if err := s.hkdf(w, rings, sel); err != nil {
				return err
			}
		case XOR:
			ok = xor(w, rings, sel)
		}
		if ok {
			generic.ExpandMaster(&s.m[sel], &w.master, scratchOf(&w.scratch))
			s.valid |= 1 << sel
			s.names[sel] = s.m[sel].ID
		} else if sameGeneration(sel) {
			return fmt.Errorf("%w: xor of the levels' values cancels or is zero", status.ErrRootKey)
		}
	}
	return nil
}

// sameGeneration reports whether all levels of a selection are current.
func sameGeneration(sel int) bool {
	for ; sel != 0; sel >>= 2 {
		if g := sel & 3; g != 0 && g != Current {
			return false
		}
	}
	return true
}

func (s *Snapshot) has(sel int) bool {
	for l := range s.Level {
		if g := sel >> (2 * l) & 3; g != 0 && !s.Level[l].Present || g == Next && !s.Level[l].HasNext {
			return false
		}
	}
	return true
}

func (s *Snapshot) hkdf(w *combine, rings *[wire.Levels]*RootKey, sel int) error {
	ikm := w.ikm[:0]
	info := make([]byte, 0, 128)
	info = append(info, "EESP-SE master"...)
	for l, k := range rings {
		g := sel >> (2 * l) & 3
		if g == 0 {
			continue
		}
		ikm = append(ikm, k.Value[g-1][:]...)
		info = append(info, 0xE0+byte(l), byte(k.Index[g-1]), byte(len(k.ID)))
		info = append(info, k.ID...)
	}
	return hkdf.Key(w.master[:], ikm, nil, info)
}

func xor(w *combine, rings *[wire.Levels]*RootKey, sel int) bool {
	clear(w.master[:])
	same := 0
	for l, k := range rings {
		g := sel >> (2 * l) & 3
		if g == 0 {
			continue
		}
		subtle.XORBytes(w.master[:], w.master[:], k.Value[g-1][:])
		for m := 0; m < l; m++ {
			if h := sel >> (2 * m) & 3; h != 0 {
				same |= subtle.ConstantTimeCompare(k.Value[g-1][:], rings[m].Value[h-1][:])
			}
		}
	}
	var or byte
	for _, b := range w.master[:] { // ranging over the array would copy it to the stack
		or |= b
	}
	return same == 0 && or != 0
}
