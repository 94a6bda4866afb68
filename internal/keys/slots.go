package keys

import (
	"fmt"
	"sync"
	"sync/atomic"

	"libeesp/internal/generic"
	"libeesp/internal/hkdf"
	"libeesp/internal/kernel"
	"libeesp/internal/secmem"
	"libeesp/internal/status"
)

// Profiles other than stateless have one key, or two of which packets say which
// one they use: device keys (psp), keys of an association number (tss), the root
// key of an SA (eesp). Each has a slot.

// Slot is one key in force, as its kind wants it.
type Slot struct {
	Present bool
	Name    [16]byte // tells keys apart and nothing about them
	Master  *kernel.Master
	Raw     *[RawLen]byte // and what is behind it the salt, if there is one
	Root    *hkdf.Expander
	Epoch   uint16        // tss: in which it is used
	Subs    *Subs         // of keys derived from this one, for profiles that keep them
	Usage   *Usage        // of keys that are derived for packets, or kept
	Kept    *Usage        // of those that a plan keeps, where they are mostly derived
	claimed *atomic.Int32 // outcome of Claim, which does not change
}

// slotKeys is the key material of a snapshot's slots.
type slotKeys struct {
	master [2]kernel.Master
	raw    [2][RawLen]byte
}

// retire wipes what the slot alone has, once no burst uses it.
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

// domains remembers, by their names, which domain keys are of that were sent
// with. Under one key, two domains would repeat each other's nonces.
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

// Claim makes the key of a slot one that the group's Domain alone sends with, in
// the whole process, and reports whether it is. After the first time for a key
// of a group it takes no lock: bursts begin with it.
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
		return fmt.Errorf("%w: this profile has root keys at levels", status.ErrUnsupported)
	}
	if slot < 0 || slot >= g.params.Slots {
		if g.params.Slots == 1 {
			return fmt.Errorf("%w: key slot %d: there is slot 0 only", status.ErrArgument, slot)
		}
		return fmt.Errorf("%w: key slot %d: there are %d", status.ErrArgument, slot, g.params.Slots)
	}
	return nil
}

// SetKey puts a key into a slot, in place of one that is there. The first key
// of a group is the one that senders use.
func (g *Group) SetKey(slot int, key []byte) error {
	if err := g.checkSlot(slot); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.setKey(slot, key, false)
}

// RotateKey puts a key, nil: a random one, into the slot that senders do not
// use, and has them use it. It returns the slot.
func (g *Group) RotateKey(key []byte) (int, error) {
	if g.params.Slots == 1 {
		return 0, fmt.Errorf("%w: this profile has one key slot: a new key needs a new group", status.ErrArgument)
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

// setKey: g.mu is held.
func (g *Group) setKey(slot int, key []byte, use bool) error {
	if g.closed {
		return fmt.Errorf("%w: the group was freed", status.ErrArgument)
	}
	p := &g.params
	if len(key) != p.Kind.KeyLen() {
		return fmt.Errorf("%w: a key of %d octets, not %d", status.ErrRootKey, len(key), p.Kind.KeyLen())
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
			return fmt.Errorf("%w: the other slot holds this key", status.ErrRootKey)
		}
	}
	if use || !old.Slot[0].Present && !old.Slot[1].Present {
		s.Current = slot
	}
	switch o := &old.Slot[slot]; {
	case o.Present && o.Name == n.Name: // the same key goes on
		n.Epoch, n.Usage, n.Kept = o.Epoch, o.Usage, o.Kept
	case !old.Slot[0].Present && !old.Slot[1].Present: // set before there was a key
		n.Epoch = old.Slot[old.Current].Epoch
	}
	g.swap(s)
	old.Slot[slot].retire()
	return nil
}

// UseKey selects the slot that senders use.
func (g *Group) UseKey(slot int) error {
	return g.change(slot, func(s *Snapshot) { s.Current = slot })
}

// RemoveKey takes a slot's key away; it is wiped when no burst uses it.
func (g *Group) RemoveKey(slot int) error {
	return g.change(slot, func(s *Snapshot) {
		if k := &s.Slot[slot]; k.Root == nil {
			s.slots.master[slot], s.slots.raw[slot] = kernel.Master{}, [RawLen]byte{}
		}
		s.Slot[slot] = Slot{}
	})
}

// change publishes the group with something done to a slot that has a key.
func (g *Group) change(slot int, f func(s *Snapshot)) error {
	if err := g.checkSlot(slot); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.snap.Load().Slot[slot].Present {
		return fmt.Errorf("%w: no key in slot %d", status.ErrNotFound, slot)
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

// nextSlots copies the snapshot in force, with memory of its own for keys.
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

// AllocSPI gives out a number for a peer of profile psp: each once for the key
// that senders use, whose slot is its top bit, in rising order from first on. A
// key that comes back into the group goes on where it was.
func (g *Group) AllocSPI(first uint32) (uint32, error) {
	if !g.params.SPIs {
		return 0, fmt.Errorf("%w: this profile has no SPIs to allocate", status.ErrUnsupported)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.snap.Load()
	k := &s.Slot[s.Current]
	if !k.Present {
		return 0, fmt.Errorf("%w: the slot in use has no device key", status.ErrNoKey)
	}
	const most = 1<<31 - 1
	last := g.spi[k.Name]
	if last == most {
		return 0, fmt.Errorf("%w: no SPI left for this key", status.ErrExhausted)
	}
	last = max(last+1, first&most)
	if g.spi == nil {
		g.spi = map[[16]byte]uint32{}
	}
	g.spi[k.Name] = last
	return uint32(s.Current)<<31 | last, nil
}
