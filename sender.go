package eesp

import (
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"libeesp/internal/asm"
	"libeesp/internal/burst"
	"libeesp/internal/counter"
	"libeesp/internal/keys"
	"libeesp/internal/profile"
	"libeesp/internal/status"
)

// CounterMode is how counters are kept from repeating after a restart.
type CounterMode = counter.Mode

// The counter modes; see enum eesp_counter_mode in include/eesp.h.
const (
	CounterClock    = counter.Clock
	CounterReserved = counter.Reserved
	CounterExplicit = counter.Explicit
)

// SenderConfig describes a sender. The zero value: 4-octet ID 0, the group's
// default levels, no options, counters by the clock.
type SenderConfig struct {
	ID      uint64 // names this sender and this direction
	V       uint8
	Levels  Levels // 0 = the group's default
	Options bool   // send Master Key Options; set it where root keys rotate
	// Extra is, in psp, what is behind the header's IV: the VC, 8 octets, and
	// other extension fields, a multiple of 8 octets in all, at most 112; in
	// eesp the Flow Identifier.
	Extra []byte
	// NoVC has Extra hold other extension fields only (psp).
	NoVC bool
	// OffsetFromIV has packets' COffset count from the end of the IV, as in the
	// header, and not from the payload (psp): below the length of Extra, the rest
	// of it is encrypted.
	OffsetFromIV bool

	Counter    CounterMode
	EngineBits uint8 // lowest bits of Counter that tell engines of one ID apart
	Engine     uint32
	RateLog2   uint8 // clock: ticks a second; 0 = 28 - EngineBits
	FixedEpoch bool  // implied unless Counter is CounterClock
	Epoch      uint16
	// EpochStart is when the fixed epoch began (clock). It and RateLog2 belong to
	// the epoch: whoever sends in it under this ID, at every start, has the same.
	EpochStart time.Time
	Start      uint64 // explicit: first counter; eesp: 0 is taken for 1
	ReserveRun uint64 // reserved: counters claimed at a time; 0 = 2^24
	StatePath  string // reserved: the file
	// Time, of a sender that holds a data key: counters are times, as the group's
	// are that the key is of. TimeLate: as GroupConfig has it. Of a group's sender
	// the group says so.
	Time, TimeLate bool
	// LockDir is a directory in which files are locked that stand for the ID,
	// engine and keys, as these are now: another sender of the host that has them
	// is refused. "" = not.
	LockDir string
}

// TimeLead is how far a sender's counters may be ahead of its clock, where they
// are times.
const TimeLead = 2 * time.Millisecond

// Sender seals packets under one ID and owns its counters.
type Sender struct {
	s      burst.Sender
	g      *Group
	anew   *renewed // tss, of a group; Counter holds the ID's place
	id     uint64
	needs  addresses // of packets
	closed atomic.Bool
}

// usable reports whether it has been made, and not been closed.
func (s *Sender) usable() bool { return s != nil && s.s.Sealing != nil && !s.closed.Load() }

// NewSender makes a sender of a group.
func NewSender(g *Group, c SenderConfig) (*Sender, error) {
	if err := g.usable(); err != nil {
		return nil, err
	}
	if c.Time || c.TimeLate {
		return nil, fmt.Errorf("%w: time: the group says whether counters are times", status.ErrArgument)
	}
	s := &Sender{g: g}
	if ProfileID(g.g.Params().Profile) == ProfileStateless {
		s.needs = addresses(c.V &^ VLongID)
	}
	s.s.Backend, s.s.Group = g.be, g.g
	var err error
	if s.s.Sealing, err = c.sealing(g.g.Params(), nil); err != nil {
		return nil, err
	}
	if err := g.g.Retain(); err != nil {
		return nil, err
	}
	c.Time, c.TimeLate = g.g.Params().Timed, g.g.Params().TimedLate
	levels := uint8(c.Levels)
	slot := -1
	if g.g.Params().SPIs { // its top bit says which
		slot = int(c.ID >> 31 & 1)
	}
	return s.finish("", &c, ofGroup{g.g, levels, slot})
}

func (c *SenderConfig) profile(k *DataKey) *profile.SenderConfig {
	return &profile.SenderConfig{V: c.V, ID: c.ID, Levels: uint8(c.Levels), Options: c.Options, Extra: slices.Clone(c.Extra),
		NoVC: c.NoVC, FromIV: c.OffsetFromIV, Key: k, EngineBits: c.EngineBits}
}

// sealing makes the Sealing of a group with these parameters, or of k.
func (c *SenderConfig) sealing(p *keys.Params, k *DataKey) (profile.Sealing, error) {
	n := uint8(0)
	if k != nil {
		n = k.Profile
	} else {
		n = p.Profile
	}
	pr, err := profile.Of(n)
	if err != nil {
		return nil, err
	}
	if (c.NoVC || c.OffsetFromIV) && ProfileID(n) != ProfilePSP {
		return nil, fmt.Errorf("%w: only psp has a VC and a crypt offset that counts from the IV", status.ErrArgument)
	}
	return pr.Sealing(p, c.profile(k))
}

// NewSenderWithKey makes a sender that holds one data key. ID, V, Levels and
// Options come with the key and must be zero in c; so does the epoch, but for
// psp and eesp, whose keys do not depend on it.
func NewSenderWithKey(k *DataKey, c SenderConfig) (*Sender, error) {
	if k == nil {
		return nil, fmt.Errorf("%w: no data key", status.ErrArgument)
	}
	if c.ID != 0 || c.V != 0 || c.Levels != 0 || c.Options {
		return nil, fmt.Errorf("%w: ID, V, levels and options come with the data key", status.ErrArgument)
	}
	if err := burst.Check(k); err != nil {
		return nil, err
	}
	be, err := asm.Selected()
	if err != nil {
		return nil, err
	}
	f, err := burst.Fingerprint(k.Key[:k.KeyLen])
	if err != nil {
		return nil, err
	}
	s := &Sender{}
	s.s.Backend = be
	if s.s.Sealing, err = c.sealing(nil, k); err != nil {
		return nil, err
	}
	if s.s.Sealing.Epochs() {
		if c.Epoch != 0 {
			return nil, fmt.Errorf("%w: the epoch comes with the data key", status.ErrArgument)
		}
		c.FixedEpoch, c.Epoch = true, k.Epoch
		if c.Counter == CounterClock && c.EpochStart.IsZero() && ProfileID(k.Profile) != ProfileTSS {
			c.EpochStart = epochStart(k.Epoch, time.Now())
		}
	}
	if s.s.Held, err = burst.NewHeld(be, k.Key[:k.KeyLen]); err != nil {
		return nil, err
	}
	c.ID, c.V = k.ID, k.V
	name := fmt.Sprintf("#%x", f)
	if x, is := s.s.Sealing.(profile.Shared); is {
		name += x.KeySpace()
	}
	return s.finish(name, &c, held(f))
}

// epochStart is when the clock mode's default epoch of that number began: the
// last time not after now.
func epochStart(epoch uint16, now time.Time) time.Time {
	e := now.Unix() >> 20
	e -= int64(uint16(e) - epoch)
	return time.Unix(e<<20, 0)
}

// ofGroup are the keys that a group's sender seals with.
type ofGroup struct {
	g      *keys.Group
	levels uint8
	slot   int
}

func (k ofGroup) InUse() (name [16]byte, ok bool) {
	name, ok, _ = k.g.Names(k.levels, k.slot)
	return name, ok
}

func (k ofGroup) All() [][16]byte {
	_, _, all := k.g.Names(k.levels, k.slot)
	return all
}

// held is the key of a sender that holds one.
type held [16]byte

func (k held) InUse() ([16]byte, bool) { return k, true }
func (k held) All() [][16]byte         { return [][16]byte{k} }

func (s *Sender) finish(key string, c *SenderConfig, k counter.Keys) (*Sender, error) {
	s.id = c.ID
	first := uint64(0)
	if n, is := s.s.Sealing.(profile.Numbered); is {
		first = n.First()
	}
	way := counter.NoDirection
	if d, is := s.s.Sealing.(profile.Directed); is {
		if has, bit := d.Direction(); has {
			way = counter.TopClear + counter.Direction(bit)
		}
	}
	timed, lead, wait := c.Time || c.TimeLate, time.Duration(0), time.Duration(0)
	if timed {
		_, numbered := s.s.Sealing.(profile.Numbered)
		if _, domain := s.s.Sealing.(profile.Domain); numbered || domain {
			s.release()
			return nil, fmt.Errorf("%w: time: counters of this profile are no times", status.ErrArgument)
		}
		if lead, wait = TimeLead, TimeLead; c.TimeLate {
			wait = time.Second + TimeLead
		}
	}
	config := counter.Config{
		Mode: c.Counter, EngineBits: c.EngineBits, Engine: c.Engine, Direction: way, FixedEpoch: c.FixedEpoch, Epoch: c.Epoch,
		EpochStart: c.EpochStart, RateLog2: c.RateLog2, Start: c.Start, First: first, Path: c.StatePath, Run: c.ReserveRun,
		LockDir: c.LockDir, Timed: timed, Lead: lead, Wait: wait,
	}
	if d, is := s.s.Sealing.(profile.Domain); is {
		return s.inDomain(key, config, d, k)
	}
	o, err := counter.Share(s.s.Sealing.Space()+key, config, k)
	if err != nil {
		s.release()
		return nil, err
	}
	s.s.Counter = o
	if s.g != nil && o.Reserved() {
		s.g.bindings.add(o)
	}
	return s, nil
}

// inDomain is finish where the epoch is the group's, or the data key's, and not
// the clock's.
func (s *Sender) inDomain(key string, c counter.Config, d profile.Domain, k counter.Keys) (_ *Sender, err error) {
	c.Limit = d.CounterLimit()
	if s.g == nil {
		byOrigin(&c)
		s.s.Counter, err = counter.Share(s.s.Sealing.Space()+key, c, k)
	} else if s.anew, s.s.Counter, err = newRenewed(s.s.Sealing, c); err == nil {
		s.s.Renew = s.anew.Of
		if snap := s.g.g.Snapshot(); snap.Slot[snap.Current].Present {
			if _, err = s.anew.renew(snap); err != nil {
				s.s.Counter.Release()
			}
		}
	}
	if err != nil {
		s.release()
		return nil, err
	}
	return s, nil
}

func (s *Sender) release() {
	if s.g != nil {
		s.g.g.Release()
	}
	s.s.Held.Free()
}

// Close frees the sender. The counters that it used stay used. Packets of a
// closed sender are ErrArgument.
func (s *Sender) Close() {
	if s == nil || s.s.Sealing == nil || s.closed.Swap(true) {
		return
	}
	if s.anew != nil {
		s.anew.close()
	}
	if s.g != nil && s.s.Counter.Reserved() {
		s.g.bindings.remove(s.s.Counter)
	}
	s.s.Counter.Release()
	s.release()
}

// Seal seals a burst and returns how many packets have status OK. A packet
// without the addresses that V asks for is ErrArgument.
func (s *Sender) Seal(pkts []Packet) int {
	if !s.usable() {
		return refuse(pkts)
	}
	return each(pkts, s.needs, func(w *burst.Worker, d []profile.Desc) int { return w.Seal(&s.s, d) })
}

// HeaderLen is the length of the header that the sender writes at present, in
// octets; 0 if it has no key.
func (s *Sender) HeaderLen() int {
	if !s.usable() {
		return 0
	}
	w, err := getWorker()
	if err != nil {
		return 0
	}
	defer putWorker(w)
	return w.w.HeaderLen(&s.s)
}

// NextTSC is Epoch(16) | Counter(48) of the next packet, if nothing else is
// sent first; 0 of a sender that is closed.
func (s *Sender) NextTSC() uint64 {
	if !s.usable() {
		return 0
	}
	if s.anew == nil {
		return s.s.Counter.Peek()
	}
	snap := s.g.g.Snapshot()
	if !snap.Slot[snap.Current].Present {
		return 0
	}
	o, code := s.anew.Of(snap)
	if code != OK {
		return 0
	}
	return o.Peek()
}

// Stats are counts since the object was made.
type Stats struct {
	Octets  uint64            // of all results
	Packets map[Status]uint64 // by status, where not zero
}

func stats(s *burst.Stats) Stats {
	octets, by := s.Read()
	r := Stats{Octets: octets, Packets: map[Status]uint64{}}
	for i, n := range by {
		if n != 0 {
			r.Packets[-Status(i)] = n
		}
	}
	return r
}

// Stats tells what became of the sender's packets.
func (s *Sender) Stats() Stats {
	if s == nil {
		return Stats{Packets: map[Status]uint64{}}
	}
	return stats(&s.s.Stats)
}

// Engine is for this module's C library.
func (s *Sender) Engine() *burst.Sender { return &s.s }
