package eesp

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"libeesp/internal/asm"
	"libeesp/internal/burst"
	"libeesp/internal/counter"
	"libeesp/internal/fresh"
	"libeesp/internal/keys"
	"libeesp/internal/profile"
	"libeesp/internal/say"
	"libeesp/internal/status"
)

type ReceiverConfig struct {
	OwnIDs      []uint64
	TryPrevious bool

	ReplayWindow   uint32
	ReplayContexts uint32
	EngineBits     uint8

	Replay           ReplayMode
	MaxAge, MaxEarly time.Duration
	MaxRate          uint64
	MarkPath         string
	ClockTrusted     bool
	Heir             *Receiver
}

type ReplayMode uint8

const (
	ReplayWindows ReplayMode = iota
	ReplayTime
)

type Receiver struct {
	r      burst.Receiver
	groups []*Group
	closed atomic.Bool

	mu     sync.Mutex // guards the IDs
	own    *profile.OwnIDs
	ownIDs []uint64
}

// usable reports whether the receiver was made and is not closed.
func (r *Receiver) usable() bool { return r != nil && r.r.Opening != nil && !r.closed.Load() }

func NewReceiver(c ReceiverConfig, groups ...*Group) (*Receiver, error) {
	if len(groups) == 0 || len(groups) > MaxGroups {
		return nil, say.Errorf("%w: %d groups, not 1 to %d", status.ErrArgument, len(groups), MaxGroups)
	}
	for _, g := range groups {
		if err := g.usable(); err != nil {
			return nil, err
		}
	}
	r := &Receiver{}
	r.r.Backend = groups[0].be
	for _, g := range groups {
		if g.follows != nil {
			g.follows.replay(&c)
		}
	}
	var params []*keys.Params
	for _, g := range groups {
		params = append(params, g.g.Params())
		if params[0].Profile != g.g.Params().Profile {
			return nil, say.Errorf("%w: groups of different profiles", status.ErrArgument)
		}
	}
	if err := r.configure(&c, nil, params...); err != nil {
		return nil, err
	}
	for i, p := range params {
		if c.Replay != ReplayTime {
			break
		}
		if !p.Timed {
			r.Close()
			return nil, say.Errorf("%w: replay protection by time: counters of group %d are not times", status.ErrArgument, i)
		}
		if now := counter.Now(); c.MarkPath == "" && now < groups[i].made {
			r.Close()
			return nil, say.Errorf("%w: it has gone back since group %d was made", status.ErrClock, i)
		}
	}
	for _, g := range groups {
		if err := g.g.Retain(); err != nil {
			r.Close()
			return nil, err
		}
		r.groups = append(r.groups, g)
		r.r.Groups = append(r.r.Groups, g.g)
	}
	for _, g := range groups {
		if g.follows != nil {
			g.follows.addReceiver(r)
		}
	}
	return r, nil
}

func NewReceiverWithKey(k *DataKey, c ReceiverConfig) (*Receiver, error) {
	if k == nil {
		return nil, say.Errorf("%w: no data key", status.ErrArgument)
	}
	if err := burst.Check(k); err != nil {
		return nil, err
	}
	be, err := asm.Selected()
	if err != nil {
		return nil, err
	}
	r := &Receiver{}
	r.r.Backend = be
	if err := r.configure(&c, k, nil); err != nil {
		return nil, err
	}
	if r.r.Expanded, err = burst.ExpandKey(be, k.Key[:k.KeyLen]); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// configure checks c, and makes Opening and replay protection for groups with these
// parameters, or for k.
func (r *Receiver) configure(c *ReceiverConfig, k *DataKey, params ...*keys.Params) error {
	if c.EngineBits > counter.MaxEngineBits {
		return say.Errorf("%w: engine bits %d: at most %d", status.ErrArgument, c.EngineBits, counter.MaxEngineBits)
	}
	if c.ReplayWindow == 0 && c.ReplayContexts != 0 {
		return say.Errorf("%w: replay contexts without a replay window", status.ErrArgument)
	}
	byTime := c.Replay == ReplayTime
	switch {
	case c.Replay > ReplayTime:
		return say.Errorf("%w: replay mode %d", status.ErrArgument, c.Replay)
	case !byTime && (c.MaxAge != 0 || c.MaxEarly != 0 || c.MaxRate != 0 || c.MarkPath != "" || c.ClockTrusted || c.Heir != nil):
		return say.Errorf("%w: max age, max early, max rate, mark, clock and heir need replay protection by time", status.ErrArgument)
	case byTime && (c.ReplayWindow != 0 || c.EngineBits != 0):
		return say.Errorf("%w: replay protection by time takes no replay window and no engine bits", status.ErrArgument)
	case byTime && k != nil && k.Profile != uint8(ProfileStateless) && k.Profile != uint8(ProfilePSP):
		return say.Errorf("%w: replay protection by time: counters of this profile are not times", status.ErrArgument)
	case byTime && c.Heir != nil && (!c.Heir.usable() || c.Heir.r.Times == nil || c.MarkPath != ""):
		return say.Errorf("%w: heir must be a receiver by time; its mark file stays in use", status.ErrArgument)
	}
	r.own, r.ownIDs = profile.NewOwnIDs(c.OwnIDs), slices.Clone(c.OwnIDs)
	n := uint8(0)
	if k != nil {
		n = k.Profile
	} else {
		n = params[0].Profile
	}
	pr, err := profile.ByNumber(n)
	if err != nil {
		return err
	}
	for _, p := range params { // every group is checked; one Opening serves all
		o, err := pr.Opening(p, &profile.ReceiverConfig{Own: r.own, TryPrevious: c.TryPrevious, Replay: c.ReplayWindow != 0 || byTime, EngineBits: c.EngineBits, Key: k})
		if err != nil {
			return err
		}
		r.r.Opening = o
	}
	if byTime {
		f := fresh.Config{MaxAge: c.MaxAge, MaxEarly: c.MaxEarly, MaxRate: c.MaxRate}
		switch {
		case c.Heir != nil:
			r.r.Times, err = c.Heir.r.Times.Share(f)
		case c.MarkPath == "" && !c.ClockTrusted && !clockSynchronized():
			err = say.Errorf("%w: the machine's clock is not synchronized: wait until it is, set a mark file, or set the option to trust it", status.ErrClock)
		default:
			r.r.Times, err = burst.NewTimes(f, c.MarkPath)
		}
	}
	if c.ReplayWindow != 0 {
		r.r.Windows, err = burst.NewWindows(c.ReplayWindow, c.ReplayContexts)
	}
	return err
}

func (r *Receiver) SetOwnIDs(ids ...uint64) error {
	if !r.usable() {
		return say.Errorf("%w: the receiver is closed", status.ErrArgument)
	}
	if len(ids) != 0 && len(r.groups) != 0 && ProfileID(r.groups[0].g.Params().Profile) == ProfileTSS && r.groups[0].g.Params().Mode == TSSServer {
		return say.Errorf("%w: own IDs in server mode: the direction is in each packet", status.ErrArgument)
	}
	r.mu.Lock()
	r.ownIDs = slices.Clone(ids)
	r.mu.Unlock()
	r.refreshOwn()
	return nil
}

// refreshOwn sets the own IDs: the caller's, and those that agents gave.
func (r *Receiver) refreshOwn() {
	r.mu.Lock()
	defer r.mu.Unlock()
	ids := slices.Clone(r.ownIDs)
	for _, g := range r.groups {
		if g.follows != nil {
			ids = append(ids, g.follows.given()...)
		}
	}
	r.own.Set(ids)
	r.r.Replan()
}

func (r *Receiver) Close() {
	if r == nil || r.closed.Swap(true) {
		return
	}
	r.mu.Lock()
	groups := r.groups
	r.groups = nil
	r.mu.Unlock()
	for _, g := range groups {
		if g.follows != nil {
			g.follows.dropReceiver(r)
		}
		g.g.Release()
	}
	r.r.Expanded.Free()
	r.r.Windows.Close()
	r.r.Times.Close()
}

// clockSynchronized is replaced by tests.
var clockSynchronized = burst.ClockSynchronized

func (r *Receiver) Stats() Stats {
	if r == nil {
		return Stats{Packets: map[status.Code]uint64{}}
	}
	return stats(r.r.ReadStats())
}

type ReplayStats struct {
	Windows, Most           int
	Duplicates, Old, NoRoom uint64
	Made, GivenUp           uint64
	Early                   uint64
	Resets                  uint64
	Memory                  uint64
}

func (r *Receiver) ReplayStats() (s ReplayStats) {
	if !r.usable() {
		return s
	}
	if t := r.r.Times; t != nil {
		n := t.Table().Stats()
		return ReplayStats{Duplicates: n.Duplicate, Old: n.Stale, NoRoom: n.Full, Early: n.Early, Resets: n.Resets, Memory: t.Table().Memory()}
	}
	if r.r.Windows == nil {
		return s
	}
	t := r.r.Windows.Table()
	s.Windows, s.Most = t.Windows()
	n := t.Stats()
	s.Duplicates, s.Old, s.NoRoom, s.Made, s.GivenUp = n.Duplicate, n.Old, n.Full, n.Made, n.GivenUp
	return s
}

// Burst returns the receiver for the C library.
func (r *Receiver) Burst() *burst.Receiver { return &r.r }

type Proxy struct {
	r *Receiver
	s *Sender
}

func NewProxy(r *Receiver, s *Sender) *Proxy { return &Proxy{r, s} }
