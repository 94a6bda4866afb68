package eesp

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"libeesp/internal/asm"
	"libeesp/internal/burst"
	"libeesp/internal/counter"
	"libeesp/internal/kernel"
	"libeesp/internal/keys"
	"libeesp/internal/profile"
	"libeesp/internal/say"
	"libeesp/internal/status"
)

type CounterMode = counter.Mode

const (
	CounterClock    = counter.Clock
	CounterReserved = counter.Reserved
	CounterExplicit = counter.Explicit
)

type SenderConfig struct {
	ID           uint64
	V            uint8
	Levels       Levels
	Options      bool
	Extra        []byte
	NoVC         bool
	OffsetFromIV bool

	Counter        CounterMode
	EngineBits     uint8
	Engine         uint32
	RateLog2       uint8
	FixedEpoch     bool
	Epoch          uint16
	EpochStart     time.Time
	Start          uint64
	ReserveRun     uint64
	StatePath      string
	Time, TimeLate bool
	LockDir        string
}

const TimeLead = 2 * time.Millisecond

type Sender struct {
	now    atomic.Pointer[sending] // nil: the agent has given no ID yet
	made   bool
	g      *Group
	needs  addresses   // that packets must have
	idless burst.Stats // of packets that were refused for lack of an ID
	closed atomic.Bool

	mu     sync.Mutex // guards changes of the ID
	config SenderConfig
	past   []*sending // under earlier IDs
	cell   *uintptr   // see Plan
	direct uintptr
}

// sending is a sender under one ID.
type sending struct {
	s    burst.Sender
	g    *Group
	anew *renewed // tss, with a group; Counter then only claims the ID
	id   uint64
}

// usable reports whether the sender was made and is not closed.
func (s *Sender) usable() bool { return s != nil && s.made && !s.closed.Load() }

func NewSender(g *Group, c SenderConfig) (*Sender, error) {
	if err := g.usable(); err != nil {
		return nil, err
	}
	if c.Time || c.TimeLate {
		return nil, say.Errorf("%w: time: the group decides whether counters are times", status.ErrArgument)
	}
	s := &Sender{g: g, made: true}
	if ProfileID(g.g.Params().Profile) == ProfileStateless {
		s.needs = addresses(c.V &^ VLongID)
	}
	c.Extra = slices.Clone(c.Extra)
	if g.follows != nil {
		return g.follows.newSender(s, c)
	}
	s.config = c
	n, err := g.sending(c)
	if err != nil {
		return nil, err
	}
	s.now.Store(n)
	return s, nil
}

// sending makes a group's sender under the ID of c.
func (g *Group) sending(c SenderConfig) (*sending, error) {
	s := &sending{g: g}
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
	if g.g.Params().SPIs { // the SPI's top bit is the slot
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
	pr, err := profile.ByNumber(n)
	if err != nil {
		return nil, err
	}
	if (c.NoVC || c.OffsetFromIV) && ProfileID(n) != ProfilePSP {
		return nil, say.Errorf("%w: only psp has a VC and a crypt offset that counts from the IV", status.ErrArgument)
	}
	return pr.Sealing(p, c.profile(k))
}

func NewSenderWithKey(k *DataKey, c SenderConfig) (*Sender, error) {
	if k == nil {
		return nil, say.Errorf("%w: no data key", status.ErrArgument)
	}
	if c.ID != 0 || c.V != 0 || c.Levels != 0 || c.Options {
		return nil, say.Errorf("%w: ID, V, levels and options come with the data key", status.ErrArgument)
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
	s := &sending{}
	s.s.Backend = be
	if s.s.Sealing, err = c.sealing(nil, k); err != nil {
		return nil, err
	}
	if s.s.Sealing.Epochs() {
		if c.Epoch != 0 {
			return nil, say.Errorf("%w: the epoch comes with the data key", status.ErrArgument)
		}
		c.FixedEpoch, c.Epoch = true, k.Epoch
		if c.Counter == CounterClock && c.EpochStart.IsZero() && ProfileID(k.Profile) != ProfileTSS {
			c.EpochStart = epochStart(k.Epoch, time.Now())
		}
	}
	if s.s.Expanded, err = burst.ExpandKey(be, k.Key[:k.KeyLen]); err != nil {
		return nil, err
	}
	c.ID, c.V = k.ID, k.V
	name := say.Sprintf("#%x", f)
	if x, is := s.s.Sealing.(profile.Shared); is {
		name += x.KeySpace()
	}
	if s, err = s.finish(name, &c, held(f)); err != nil {
		return nil, err
	}
	r := &Sender{made: true}
	r.now.Store(s)
	return r, nil
}

// epochStart returns the last time, not after now, at which the clock mode's default
// epoch with this number began.
func epochStart(epoch uint16, now time.Time) time.Time {
	e := now.Unix() >> 20
	e -= int64(uint16(e) - epoch)
	return time.Unix(e<<20, 0)
}

// ofGroup names the keys of a group's sender, as counter.Keys.
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

// held names the key of a sender that holds a data key, as counter.Keys.
type held [16]byte

func (k held) InUse() ([16]byte, bool) { return k, true }
func (k held) All() [][16]byte         { return [][16]byte{k} }

func (s *sending) finish(key string, c *SenderConfig, k counter.Keys) (*sending, error) {
	s.id = c.ID
	first := uint64(0)
	if n, is := s.s.Sealing.(profile.Numbered); is {
		first = n.First()
	}
	direction := counter.NoDirection
	if d, is := s.s.Sealing.(profile.Directed); is {
		if has, bit := d.Direction(); has {
			direction = counter.TopClear + counter.Direction(bit)
		}
	}
	timed, lead, wait := c.Time || c.TimeLate, time.Duration(0), time.Duration(0)
	if timed {
		_, numbered := s.s.Sealing.(profile.Numbered)
		if _, domain := s.s.Sealing.(profile.Domain); numbered || domain {
			s.release()
			return nil, say.Errorf("%w: time: counters of this profile are not times", status.ErrArgument)
		}
		if lead, wait = TimeLead, TimeLead; c.TimeLate {
			wait = time.Second + TimeLead
		}
	}
	config := counter.Config{
		Mode: c.Counter, EngineBits: c.EngineBits, Engine: c.Engine, Direction: direction, FixedEpoch: c.FixedEpoch, Epoch: c.Epoch,
		EpochStart: c.EpochStart, RateLog2: c.RateLog2, Start: c.Start, First: first, Path: c.StatePath, Run: c.ReserveRun,
		LockDir: c.LockDir, Timed: timed, Lead: lead, Wait: wait,
		// This process may have had the ID in another cluster: then its counters go on.
		Resume: c.Counter == CounterExplicit && s.g != nil && s.g.follows != nil,
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
	if s.g != nil && o.Rebinds() {
		s.g.bindings.add(o)
	}
	return s, nil
}

// inDomain is finish for a domain: the epoch is that of the group or data key, and does
// not follow the clock.
func (s *sending) inDomain(key string, c counter.Config, d profile.Domain, k counter.Keys) (_ *sending, err error) {
	c.Limit = d.CounterLimit()
	if s.g == nil {
		byOrigin(&c)
		s.s.Counter, err = counter.Share(s.s.Sealing.Space()+key, c, k)
	} else if s.anew, s.s.Counter, err = newRenewed(s.s.Sealing, c); err == nil {
		s.s.Renew = s.anew.Owner
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

func (s *sending) release() {
	if s.g != nil {
		s.g.g.Release()
	}
	s.s.Expanded.Free()
}

func (s *Sender) SetID(id uint64) error {
	switch {
	case !s.usable():
		return say.Errorf("%w: the sender is closed", status.ErrArgument)
	case s.g == nil:
		return say.Errorf("%w: the ID comes with the data key", status.ErrUnsupported)
	case s.g.follows != nil:
		return say.Errorf("%w: the agent gives IDs in this group", status.ErrUnsupported)
	}
	return s.setID(id)
}

func (s *Sender) setID(id uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		return say.Errorf("%w: the sender is closed", status.ErrArgument)
	}
	old := s.now.Load()
	if old != nil && old.id == id {
		return nil
	}
	c := s.config
	c.ID = id
	n, err := s.g.sending(c)
	if err != nil {
		return err
	}
	s.config = c
	s.replace(n)
	return nil
}

// replace makes bursts that begin from now on seal with n. s.mu is held.
func (s *Sender) replace(n *sending) {
	old := s.now.Load()
	s.now.Store(n)
	if old != nil {
		s.past = append(s.past, old)
		old.s.Replace(&n.s)
		old.s.Unplan()
		keys.Retire(old.closeCounters) // when no burst takes counters from it
		old.closeGroup()
	}
	n.plan(s.cell, s.direct)
}

func (s *sending) closeCounters() {
	if s.anew != nil {
		s.anew.close()
	}
	s.s.Counter.Release()
}

func (s *sending) closeGroup() {
	if s.g != nil && s.s.Counter.Rebinds() {
		s.g.bindings.remove(s.s.Counter)
	}
	s.release()
}

func (s *Sender) Close() {
	if s == nil || !s.made || s.closed.Swap(true) {
		return
	}
	if s.g != nil && s.g.follows != nil {
		s.g.follows.dropSender(s)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.now.Load(); n != nil {
		n.s.Unplan()
		n.closeCounters()
		n.closeGroup()
	}
}

// Plan publishes plans in cell, for the C library. direct is the address of
// kernel.Direct.
func (s *Sender) Plan(cell *uintptr, direct uintptr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cell, s.direct = cell, direct
	if n := s.now.Load(); n != nil {
		n.plan(cell, direct)
	}
}

func (s *sending) plan(cell *uintptr, direct uintptr) {
	if cell != nil {
		s.s.Plan(cell, direct)
	}
}

// NoID refuses packets with ErrNoKey, because the sender has no ID yet.
func (s *Sender) NoID(d []profile.Desc) int { return s.idless.Refuse(d, status.ErrNoKey) }

func (s *Sender) HeaderLen() int {
	if !s.usable() || s.now.Load() == nil {
		return 0
	}
	w, err := getWorker()
	if err != nil {
		return 0
	}
	defer putWorker(w)
	return w.w.HeaderLen(s.Burst())
}

func (s *Sender) ID() uint64 {
	if s == nil || s.now.Load() == nil {
		return 0
	}
	return s.now.Load().id
}

func (s *Sender) NextTSC() uint64 {
	if !s.usable() || s.now.Load() == nil {
		return 0
	}
	n := s.now.Load()
	if n.anew == nil {
		return n.s.Counter.Peek()
	}
	snap := s.g.g.Snapshot()
	if !snap.Slot[snap.Current].Present {
		return 0
	}
	o, code := n.anew.Owner(snap)
	if code != status.OK {
		return 0
	}
	return o.Peek()
}

type Stats struct {
	Octets  uint64
	Packets map[status.Code]uint64
}

func stats(octets uint64, by [status.Count]uint64) Stats {
	r := Stats{Octets: octets, Packets: map[status.Code]uint64{}}
	for i, n := range by {
		if n != 0 {
			r.Packets[-status.Code(i)] = n
		}
	}
	return r
}

func (s *Sender) Stats() Stats {
	if s == nil {
		return Stats{Packets: map[status.Code]uint64{}}
	}
	return stats(s.Counts())
}

// Counts is Stats for the C library: octets of output, and packets by status (negated).
func (s *Sender) Counts() (octets uint64, by [status.Count]uint64) {
	s.mu.Lock()
	all := []*burst.Stats{&s.idless}
	for _, n := range s.past {
		all = append(all, &n.s.Stats)
	}
	if n := s.now.Load(); n != nil {
		all = append(all, &n.s.Stats)
	}
	s.mu.Unlock()
	for _, x := range all {
		o, b := x.Read()
		octets += o
		for i := range by {
			by[i] += b[i]
		}
	}
	return octets, by
}

// SealTaken seals packets for the C library, whose counters it has taken, from first on,
// from the owner with this serial.
func (s *Sender) SealTaken(w *burst.Worker, d []profile.Desc, first, serial uint64) int {
	return w.SealTaken(s.Burst(), d, first, serial)
}

// Backend returns the sender's backend, for the C library.
func (s *Sender) Backend() *kernel.Backend {
	if e := s.Burst(); e != nil {
		return e.Backend
	}
	return s.g.be
}

// Burst returns the sender for the C library; nil: it has no ID yet.
func (s *Sender) Burst() *burst.Sender {
	if n := s.now.Load(); n != nil {
		return &n.s
	}
	return nil
}
