// Package keys holds root keys: rings at levels, or keys in slots. Bursts use them
// through snapshots, and epochs say when old keys may be wiped. It also keeps derived
// keys, and counts what keys are used for. Secret values are in locked memory only.
package keys

import (
	"crypto/subtle"
	"sync"
	"sync/atomic"
	"unsafe"

	"libeesp/internal/generic"
	"libeesp/internal/hkdf"
	"libeesp/internal/kernel"
	"libeesp/internal/say"
	"libeesp/internal/secmem"
	"libeesp/internal/status"
	"libeesp/internal/wire"
)

// Combiner says how root keys are combined into a master key.
type Combiner uint8

// The combiners of formats.md, section 1.3.
const (
	HKDF Combiner = iota // HKDF-SHA-256 over the present values and names
	XOR                  // the draft's own example
)

// Generations of a ring in a selection; 0: the level is not selected.
const (
	Pre = 1 + iota
	Current
	Next
)

// Select makes a selection, the index of a master key, from a generation per level.
func Select(zone, user, task int) int { return zone | user<<2 | task<<4 }

// Level is the public part of a ring in a snapshot.
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
	switch index { // current first: rings without a previous or next key repeat its index
	case l.Index[1]:
		return Current
	case l.Index[2]:
		return Next
	case l.Index[0]:
		return Pre
	}
	return 0
}

// Beyond reports whether an option names this ring with an index ahead of its newest
// key.
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

// masters are the master keys of a snapshot, by selection.
type masters [64]kernel.Master

// Snapshot is the keys of a group at one time. It does not change. It may be used
// between Reader.Enter and Reader.Leave; afterwards its keys may be wiped.
type Snapshot struct {
	*Params
	Level    [wire.Levels]Level
	Default  uint8       // bit l: level l is one of the default levels
	Sequence uint64      // of this snapshot only, among those of the group
	Sealing  status.Code // status of packets to be sealed, if not OK
	valid    uint64      // bit i: there is master key i
	m        *masters
	names    *[64][16]byte // of the masters
	usage    *[64]*Usage   // of the masters

	Slot    [2]Slot // for profiles with slots instead of levels
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

// Name returns the name of the master key of a selection. There must be one.
func (s *Snapshot) Name(sel int) [16]byte { return s.names[sel] }

// Has reports whether the snapshot has a key of this name.
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

// HasPre reports whether one of these levels has a previous key.
func (s *Snapshot) HasPre(levels uint8) bool {
	for l := range s.Level {
		if levels>>l&1 != 0 && s.Level[l].HasPre {
			return true
		}
	}
	return false
}

// Selection returns the selection in which all levels of a set have this generation.
func Selection(levels uint8, generation int) int {
	sel := 0
	for l := 0; l < wire.Levels; l++ {
		if levels>>l&1 != 0 {
			sel |= generation << (2 * l)
		}
	}
	return sel
}

// Group is a trust group: rings of root keys and the master keys made from them, or
// keys in slots. Any goroutine may call any method at any time.
type Group struct {
	params Params

	mu       sync.Mutex
	rings    [wire.Levels]*RootKey
	defaults uint8
	sealing  status.Code
	sequence uint64
	users    int
	closed   bool
	spi      map[[16]byte]uint32 // by the name of a key: the last number that AllocSPI gave out

	snap     atomic.Pointer[Snapshot]
	watchers map[unsafe.Pointer]func()

	usesMu sync.Mutex
	uses   [wire.Levels][3]*use // of the rings' keys

	oldMu sync.Mutex
	old   []*Snapshot // replaced, and not wiped yet
	wiped atomic.Uint64
}

// swap puts a snapshot in force, and retires the one before. ended are Usages that end
// with it.
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
		for i, s := range g.old {
			if s == old {
				copy(g.old[i:], g.old[i+1:])
				g.old[len(g.old)-1] = nil
				g.old = g.old[:len(g.old)-1]
				break
			}
		}
		g.wiped.Add(1)
	})
	return old
}

// Watch calls f now, and after each change of the group's keys until Unwatch with the
// same name. Keys that were replaced are not wiped before f returns. The group's mutex
// is held: f must not change the group.
func (g *Group) Watch(name unsafe.Pointer, f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.watchers == nil {
		g.watchers = map[unsafe.Pointer]func(){}
	}
	g.watchers[name] = f
	f()
}

// Unwatch ends Watch.
func (g *Group) Unwatch(name unsafe.Pointer) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.watchers, name)
}

// Alive reports whether a burst may use a key of this name: it is in force, or it was
// and is not wiped yet.
func (g *Group) Alive(name *[16]byte) bool {
	g.oldMu.Lock()
	defer g.oldMu.Unlock()
	if g.snap.Load().Has(name) {
		return true
	}
	for _, s := range g.old {
		if s.Has(name) {
			return true
		}
	}
	return false
}

// Wiped returns how many snapshots of the group were wiped.
func (g *Group) Wiped() uint64 { return g.wiped.Load() }

// NewGroup makes a group without keys, with one user. The error is ErrArgument.
func NewGroup(p Params) (*Group, error) {
	if p.KeyLen != 16 && p.KeyLen != 32 {
		return nil, say.Errorf("%w: AEAD key length %d", status.ErrArgument, p.KeyLen)
	}
	if p.Combiner > XOR {
		return nil, say.Errorf("%w: combiner %d", status.ErrArgument, p.Combiner)
	}
	g := &Group{params: p, users: 1}
	g.snap.Store(&Snapshot{Params: &g.params})
	return g, nil
}

// Params returns the group's parameters, which do not change.
func (g *Group) Params() *Params { return &g.params }

// Snapshot returns the keys in force. Call it between Reader.Enter and Leave.
func (g *Group) Snapshot() *Snapshot { return g.snap.Load() }

// Retain adds a user. ErrArgument: the group was freed.
func (g *Group) Retain() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return say.Errorf("%w: the group was freed", status.ErrArgument)
	}
	g.users++
	return nil
}

// Release removes a user. After the last one the keys are wiped when no burst uses
// them.
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
		return say.Errorf("%w: this profile has no root keys at levels", status.ErrUnsupported)
	}
	if level < 0 || level >= wire.Levels {
		return say.Errorf("%w: level %d", status.ErrArgument, level)
	}
	return nil
}

// Set sets a level's root key, in place of any that is there. The group owns it if
// there is no error. A level that had none joins the default levels.
func (g *Group) Set(level int, k *RootKey) error {
	if err := g.checkLevel(level); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return say.Errorf("%w: the group was freed", status.ErrArgument)
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

// Rotate sets a new next key: value, or a random one if value is nil. Next becomes
// current, current becomes previous, and previous is wiped when no burst uses it.
func (g *Group) Rotate(level int, index uint64, value *[32]byte) error {
	if err := g.checkLevel(level); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	old := g.rings[level]
	if old == nil {
		return say.Errorf("%w: no root key at level %d", status.ErrNotFound, level)
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

// Remove removes a level's root key, which is wiped when no burst uses it.
// ErrNotFound: there is none.
func (g *Group) Remove(level int) error {
	if err := g.checkLevel(level); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.rings[level] == nil {
		return say.Errorf("%w: no root key at level %d", status.ErrNotFound, level)
	}
	return g.replace(level, nil, g.defaults&^(1<<level))
}

// SetDefault sets the levels of packets without Master Key Options. ErrNotFound: one
// has no root key.
func (g *Group) SetDefault(levels uint8) error {
	if err := g.checkLevel(0); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for l := range g.rings {
		if levels>>l&1 != 0 && g.rings[l] == nil {
			return say.Errorf("%w: no root key at level %d", status.ErrNotFound, l)
		}
	}
	if levels>>wire.Levels != 0 {
		return say.Errorf("%w: levels %#x", status.ErrArgument, levels)
	}
	return g.publish(g.rings, levels)
}

// With calls f with the root key of a level, which f must not keep. ErrNotFound: there
// is none.
func (g *Group) With(level int, f func(*RootKey) error) error {
	if err := g.checkLevel(level); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.rings[level] == nil {
		return say.Errorf("%w: no root key at level %d", status.ErrNotFound, level)
	}
	return f(g.rings[level])
}

// publish makes a snapshot of rings and puts it in force; g.mu is held. On an error
// nothing has changed.
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

// combine is the combiners' scratch, in locked memory.
type combine struct {
	ikm     [3 * 32]byte
	master  [32]byte
	scratch [kernel.ScratchBytes]byte
}

// combineAll sets the master keys of all selections (formats.md, section 1.3). If xor
// refuses a selection of current keys only, it returns ErrRootKey; other selections that
// xor refuses have no master key.
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
		} else if allCurrent(sel) {
			return say.Errorf("%w: values of the levels cancel out under xor", status.ErrRootKey)
		}
	}
	return nil
}

// allCurrent reports whether all levels of a selection are current.
func allCurrent(sel int) bool {
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
