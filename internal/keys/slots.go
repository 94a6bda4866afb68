package keys

import (
	"sync"
	"sync/atomic"

	"libeesp/internal/generic"
	"libeesp/internal/hkdf"
	"libeesp/internal/kernel"
	"libeesp/internal/say"
	"libeesp/internal/secmem"
	"libeesp/internal/status"
)

// Profiles other than stateless have one key or two, each in a slot: device keys
// (psp) and keys of an association number (tss), of which a packet names one, or the
// root key of an SA (eesp).

// Slot is one key in force. Its Kind decides which of Master, Raw and Root it has.
type Slot struct {
	Present bool
	Name    [16]byte // name of the key, which does not reveal it
	Master  *kernel.Master
	Raw     *[RawLen]byte // the key, then the salt, if there is one
	Root    *hkdf.Expander
	Epoch   uint16        // tss: the epoch in which it seals
	Subs    *Subs         // keys that were derived from this one, for profiles that keep them
	Usage   *Usage        // counts
	Kept    *Usage        // tss: counts of the data key that a sender's plan keeps
	claimed *atomic.Int32 // outcome of Claim, which is final
}

// slotKeys is the key material of a snapshot's slots.
type slotKeys struct {
	master [2]kernel.Master
	raw    [2][RawLen]byte
}

// retire wipes what is not in the snapshot's memory, once no burst uses it.
func (s *Slot) retire() {
	if s.Subs != nil {
		Retire(s.Subs.free)
	}
	if e := s.Root; e != nil {
		Retire(func() {
			Forget(e.Serial())
			e.Free()
		})
	}
}

// domains has, by the name of a key that was sent with, its domain. Two domains with
// one key would repeat each other's nonces.
var (
	domainsMu sync.Mutex
	domains   = map[[16]byte]uint32{}
)

// Outcomes of Claim.
const (
	unclaimed = iota
	ours
	anothers
)

// Claim reserves the key of a slot for the group's Domain, in the whole process, and
// reports whether it is this Domain's: only then it may be sent with. It takes a lock
// only the first time for a key of a group: bursts begin with it.
func (s *Snapshot) Claim(slot int) bool {
	k := &s.Slot[slot]
	c := k.claimed.Load()
	if c == unclaimed {
		c = claim(&k.Name, s.Domain)
		k.claimed.Store(c)
	}
	return c == ours
}

func claim(name *[16]byte, domain uint32) int32 {
	domainsMu.Lock()
	defer domainsMu.Unlock()
	d, known := domains[*name]
	if !known {
		domains[*name] = domain
	} else if d != domain {
		return anothers
	}
	return ours
}

func (g *Group) checkSlot(slot int) error {
	if g.params.Slots == 0 {
		return say.Errorf("%w: this profile has root keys at levels", status.ErrUnsupported)
	}
	if slot < 0 || slot >= g.params.Slots {
		if g.params.Slots == 1 {
			return say.Errorf("%w: key slot %d: there is slot 0 only", status.ErrArgument, slot)
		}
		return say.Errorf("%w: key slot %d: there are %d", status.ErrArgument, slot, g.params.Slots)
	}
	return nil
}

// SetKey sets a slot's key, in place of any that is there. Senders use the first key
// of a group. Errors: ErrArgument, ErrUnsupported (the profile has no slots),
// ErrRootKey (its length, or the other slot has it), ErrMemory.
func (g *Group) SetKey(slot int, key []byte) error {
	if err := g.checkSlot(slot); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.setKey(slot, key, false)
}

// RotateKey sets the key of the slot that senders do not use, lets them use it, and
// returns the slot. A nil key means a random one. Errors are those of SetKey.
func (g *Group) RotateKey(key []byte) (int, error) {
	if g.params.Slots == 1 {
		return 0, say.Errorf("%w: this profile has one key slot: a new key needs a new group", status.ErrArgument)
	}
	if err := g.checkSlot(1); err != nil {
		return 0, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if key == nil {
		k, err := secmem.New[[64]byte]()
		if err != nil {
			return 0, err
		}
		defer secmem.Delete(k)
		key = k[:g.params.Kind.KeyLen()]
		if err := Random(key); err != nil {
			return 0, err
		}
	}
	s := g.snap.Load()
	slot := 1 - s.Current
	if !s.Slot[s.Current].Present {
		slot = s.Current // the first key
	}
	return slot, g.setKey(slot, key, true)
}

// setKey sets a slot's key and, with use, selects it; g.mu is held.
func (g *Group) setKey(slot int, key []byte, use bool) error {
	if g.closed {
		return say.Errorf("%w: the group was freed", status.ErrArgument)
	}
	p := &g.params
	if len(key) != p.Kind.KeyLen() {
		return say.Errorf("%w: a key of %d octets, not %d", status.ErrRootKey, len(key), p.Kind.KeyLen())
	}
	s, old, err := g.nextSlots()
	if err != nil {
		return err
	}
	n := &s.Slot[slot]
	*n = Slot{Present: true, Subs: new(Subs), Usage: p.newUsage(), Kept: new(Usage), claimed: new(atomic.Int32)}
	w, err := secmem.New[struct {
		key     [32]byte
		named   kernel.Master
		scratch [kernel.ScratchBytes]byte
	}]()
	if err != nil {
		s.wipe()
		return err
	}
	defer secmem.Delete(w)
	switch p.Kind {
	case CMAC, Raw, Salted16, Salted32:
		copy(w.key[:], key[:len(key)-p.Kind.salt()])
		n.Master = &s.slots.master[slot]
		generic.ExpandMaster(n.Master, &w.key, scratchOf(&w.scratch))
		n.Name = n.Master.ID
		if p.Kind != CMAC {
			n.Raw, n.Master = &s.slots.raw[slot], nil
			clear(n.Raw[copy(n.Raw[:], key):])
			s.slots.master[slot] = kernel.Master{}
		}
	default:
		e, err := hkdf.NewExpander(map[Kind]hkdf.Hash{HKDF256: hkdf.SHA256, HKDF384: hkdf.SHA384, HKDF512: hkdf.SHA512}[p.Kind], key)
		if err != nil {
			s.wipe()
			return err
		}
		x, err := hkdf.NewScratch()
		if err != nil {
			e.Free()
			s.wipe()
			return err
		}
		e.Expand(n.Name[:], []byte("libeesp key name"), x)
		x.Free()
		n.Root = e
	}
	for i := range s.Slot {
		if o := &s.Slot[i]; i != slot && o.Present && o.Name == n.Name {
			n.retire()
			s.wipe()
			return say.Errorf("%w: the other slot holds this key", status.ErrRootKey)
		}
	}
	if use || !old.Slot[0].Present && !old.Slot[1].Present {
		s.Current = slot
	}
	switch o := &old.Slot[slot]; {
	case o.Present && o.Name == n.Name: // the same key again
		n.Epoch, n.Usage, n.Kept = o.Epoch, o.Usage, o.Kept
	case !old.Slot[0].Present && !old.Slot[1].Present: // the epoch was set before there was a key
		n.Epoch = old.Slot[old.Current].Epoch
	}
	g.swap(s)
	old.Slot[slot].retire()
	return nil
}

// UseKey selects the slot that senders use. ErrNotFound: it has no key.
func (g *Group) UseKey(slot int) error {
	return g.change(slot, func(s *Snapshot) { s.Current = slot })
}

// RemoveKey removes a slot's key, which is wiped when no burst uses it. ErrNotFound:
// there is none.
func (g *Group) RemoveKey(slot int) error {
	return g.change(slot, func(s *Snapshot) {
		if k := &s.Slot[slot]; k.Root == nil {
			s.slots.master[slot], s.slots.raw[slot] = kernel.Master{}, [RawLen]byte{}
		}
		s.Slot[slot] = Slot{}
	})
}

// change publishes a copy of the snapshot that f changed; the slot must have a key.
func (g *Group) change(slot int, f func(s *Snapshot)) error {
	if err := g.checkSlot(slot); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.snap.Load().Slot[slot].Present {
		return say.Errorf("%w: no key in slot %d", status.ErrNotFound, slot)
	}
	s, old, err := g.nextSlots()
	if err != nil {
		return err
	}
	f(s)
	g.swap(s)
	if !s.Slot[slot].Present {
		old.Slot[slot].retire()
	}
	return nil
}

// nextSlots copies the snapshot in force; the copy has its own memory for keys.
func (g *Group) nextSlots() (s, old *Snapshot, err error) {
	old = g.snap.Load()
	g.sequence++
	s = &Snapshot{Params: &g.params, Sequence: g.sequence, Sealing: g.sealing, Slot: old.Slot, Current: old.Current}
	if s.slots, err = secmem.New[slotKeys](); err != nil {
		return nil, nil, err
	}
	if old.slots != nil {
		*s.slots = *old.slots
	}
	for i := range s.Slot {
		if k := &s.Slot[i]; k.Master != nil {
			k.Master = &s.slots.master[i]
		} else if k.Raw != nil {
			k.Raw = &s.slots.raw[i]
		}
	}
	return s, old, nil
}

// AllocSPI allocates an SPI of profile psp: the slot that senders use as top bit, and
// a number that is given out once for this key, in rising order from first on. If a
// key is set again, its numbers go on. Errors: ErrUnsupported (another profile),
// ErrNoKey, ErrExhausted.
func (g *Group) AllocSPI(first uint32) (uint32, error) {
	if !g.params.SPIs {
		return 0, say.Errorf("%w: this profile has no SPIs to allocate", status.ErrUnsupported)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.snap.Load()
	k := &s.Slot[s.Current]
	if !k.Present {
		return 0, say.Errorf("%w: the slot in use has no device key", status.ErrNoKey)
	}
	const most = 1<<31 - 1
	last := g.spi[k.Name]
	if last == most {
		return 0, say.Errorf("%w: no SPI left for this key", status.ErrExhausted)
	}
	last = max(last+1, first&most)
	if g.spi == nil {
		g.spi = map[[16]byte]uint32{}
	}
	g.spi[k.Name] = last
	return uint32(s.Current)<<31 | last, nil
}
