package eesp

import (
	"fmt"
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
	"libeesp/internal/status"
)

// ReceiverConfig describes a receiver.
type ReceiverConfig struct {
	// OwnIDs are the IDs that this end sends with; packets that carry one are
	// reflections and refused.
	OwnIDs []uint64
	// TryPrevious retries packets without Master Key Options that failed with
	// the previous root keys. A forged packet then costs twice as much; prefer
	// options.
	TryPrevious bool

	// ReplayWindow is the width of replay windows in packets, 64 to 65,536; 0:
	// packets that come twice are opened twice. There is a window for each key,
	// ID and epoch that authentic packets came with (eesp: for each Sub SA), at
	// most ReplayContexts of them (0 = 4096), in memory that is set aside at
	// once. A packet that would need one more is ErrWindows; windows are given
	// up when their key is gone.
	ReplayWindow   uint32
	ReplayContexts uint32
	// EngineBits are those of the senders: each engine counts for itself.
	EngineBits uint8

	// Replay is by what packets are told that came before. ReplayTime takes no
	// window: packets older than MaxAge, or further ahead of the clock than
	// MaxEarly, are refused by their counters, which are times (GroupConfig.Time),
	// and what came within these is in one table for all senders, with room for
	// MaxRate packets a second. 0: 100 ms, 25 ms, a million. After a start nothing
	// is opened for MaxEarly.
	Replay           ReplayMode
	MaxAge, MaxEarly time.Duration
	MaxRate          uint64
	// MarkPath is a file with a mark above all that was accepted: with it, the
	// clock may have been wrong since the last start.
	MarkPath string
	// ClockTrusted: use the clock although the kernel does not say that it is
	// synchronized.
	ClockTrusted bool
	// Heir: the receiver takes over the table of this one, which has ReplayTime
	// and may go on beside it: each packet opens in one of them.
	Heir *Receiver
}

// ReplayMode is how repeated packets are recognized.
type ReplayMode uint8

// The replay modes.
const (
	ReplayWindows ReplayMode = iota // by ReplayWindow, if it is not 0
	ReplayTime
)

// Receiver opens packets of one or more groups.
type Receiver struct {
	r      burst.Receiver
	groups []*Group
	closed atomic.Bool

	mu     sync.Mutex // of the IDs
	own    *profile.OwnIDs
	ownIDs []uint64
}

// usable reports whether it has been made, and not been closed.
func (r *Receiver) usable() bool { return r != nil && r.r.Opening != nil && !r.closed.Load() }

// NewReceiver makes a receiver. A packet with Master Key Options belongs to the
// first group that has all the root keys they name; one without belongs to the
// first group.
func NewReceiver(c ReceiverConfig, groups ...*Group) (*Receiver, error) {
	if len(groups) == 0 || len(groups) > MaxGroups {
		return nil, fmt.Errorf("%w: %d groups, not 1 to %d", status.ErrArgument, len(groups), MaxGroups)
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
			g.follows.windows(&c)
		}
	}
	var params []*keys.Params
	for _, g := range groups {
		params = append(params, g.g.Params())
		if params[0].Profile != g.g.Params().Profile {
			return nil, fmt.Errorf("%w: groups of different profiles", status.ErrArgument)
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
			return nil, fmt.Errorf("%w: replay protection by time: counters of group %d are no times", status.ErrArgument, i)
		}
		if now := counter.Now(); c.MarkPath == "" && now < groups[i].made {
			r.Close()
			return nil, fmt.Errorf("%w: it is before group %d was made", status.ErrClock, i)
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

// NewReceiverWithKey makes a receiver that holds only a data key. Packets of
// other contexts are ErrContext.
func NewReceiverWithKey(k *DataKey, c ReceiverConfig) (*Receiver, error) {
	if k == nil {
		return nil, fmt.Errorf("%w: no data key", status.ErrArgument)
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
	if r.r.Held, err = burst.NewHeld(be, k.Key[:k.KeyLen]); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// configure makes the Opening of groups with these parameters, or of k.
func (r *Receiver) configure(c *ReceiverConfig, k *DataKey, params ...*keys.Params) error {
	if c.EngineBits > counter.MaxEngineBits {
		return fmt.Errorf("%w: engine bits %d: at most %d", status.ErrArgument, c.EngineBits, counter.MaxEngineBits)
	}
	if c.ReplayWindow == 0 && c.ReplayContexts != 0 {
		return fmt.Errorf("%w: replay contexts without a replay window", status.ErrArgument)
	}
	byTime := c.Replay == ReplayTime
	switch {
	case c.Replay > ReplayTime:
		return fmt.Errorf("%w: replay mode %d", status.ErrArgument, c.Replay)
	case !byTime && (c.MaxAge != 0 || c.MaxEarly != 0 || c.MaxRate != 0 || c.MarkPath != "" || c.ClockTrusted || c.Heir != nil):
		return fmt.Errorf("%w: max age, max early, max rate, mark, clock and heir go with replay protection by time", status.ErrArgument)
	case byTime && (c.ReplayWindow != 0 || c.EngineBits != 0):
		return fmt.Errorf("%w: replay protection by time has no windows, and need not know of engines", status.ErrArgument)
	case byTime && k != nil && k.Profile != uint8(ProfileStateless) && k.Profile != uint8(ProfilePSP):
		return fmt.Errorf("%w: replay protection by time: counters of this profile are no times", status.ErrArgument)
	case byTime && c.Heir != nil && (!c.Heir.usable() || c.Heir.r.Times == nil || c.MarkPath != ""):
		return fmt.Errorf("%w: heir: of a receiver with replay protection by time, whose mark it has", status.ErrArgument)
	}
	r.own, r.ownIDs = profile.NewOwnIDs(c.OwnIDs), slices.Clone(c.OwnIDs)
	n := uint8(0)
	if k != nil {
		n = k.Profile
	} else {
		n = params[0].Profile
	}
	pr, err := profile.Of(n)
	if err != nil {
		return err
	}
	for _, p := range params { // all must suit; one serves them
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
		case c.MarkPath == "" && !c.ClockTrusted && !clockSynchronised():
			err = fmt.Errorf("%w: the machine's clock is not synchronised: wait until it is, keep a mark in a file, or say that it is to be trusted", status.ErrClock)
		default:
			r.r.Times, err = burst.NewTimes(f, c.MarkPath)
		}
	}
	if c.ReplayWindow != 0 {
		r.r.Windows, err = burst.NewWindows(c.ReplayWindow, c.ReplayContexts)
	}
	return err
}

// SetOwnIDs replaces ReceiverConfig.OwnIDs from the next burst on. IDs that
// agents give to this process's senders are refused in any case.
func (r *Receiver) SetOwnIDs(ids ...uint64) error {
	if !r.usable() {
		return fmt.Errorf("%w: the receiver is closed", status.ErrArgument)
	}
	if len(ids) != 0 && len(r.groups) != 0 && ProfileID(r.groups[0].g.Params().Profile) == ProfileTSS && r.groups[0].g.Params().Mode == TSSServer {
		return fmt.Errorf("%w: own IDs in server mode: the direction is in each packet", status.ErrArgument)
	}
	r.mu.Lock()
	r.ownIDs = slices.Clone(ids)
	r.mu.Unlock()
	r.refreshOwn()
	return nil
}

// refreshOwn puts the IDs in force that there are now.
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

// Close frees the receiver. Packets of a closed receiver are ErrArgument.
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
	r.r.Held.Free()
	r.r.Windows.Close()
	r.r.Times.Close()
}

// clockSynchronised is replaced by tests.
var clockSynchronised = burst.ClockSynchronised

// Open opens a burst and returns how many packets have status OK. Where the ICV
// is wrong (ErrAuth), or a packet is refused after decryption, such as a second
// copy in the burst, zeros replace the plaintext.
func (r *Receiver) Open(pkts []Packet) int {
	if !r.usable() {
		return refuse(pkts)
	}
	return each(pkts, 0, func(w *burst.Worker, d []profile.Desc) int { return w.Open(&r.r, d) })
}

// Stats returns what the receiver has counted.
func (r *Receiver) Stats() Stats {
	if r == nil {
		return Stats{Packets: map[status.Code]uint64{}}
	}
	return stats(r.r.Stats.Read())
}

// ReplayStats is what a receiver's replay protection counts.
type ReplayStats struct {
	Windows, Most           int    // in use, and the most there may be
	Duplicates, Old, NoRoom uint64 // packets refused: seen before, older than the window, no window left
	Made, GivenUp           uint64 // windows
	// ReplayTime: Duplicates, Old (stale), NoRoom (no place for one more packet of
	// its time), and:
	Early  uint64 // packets refused: ahead of the clock
	Resets uint64 // of the table, since the clock had been ahead
	Memory uint64 // of the table, octets
}

// ReplayStats returns what replay protection has counted; all is zero without
// it.
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

// Engine is for this module's C library.
func (r *Receiver) Engine() *burst.Receiver { return &r.r }

// Proxy joins two trust domains: it opens with a receiver and seals with a
// sender.
type Proxy struct {
	r *Receiver
	s *Sender
}

// NewProxy makes a proxy of a receiver and a sender, which stay the caller's
// to close, after the proxy's last use: without one of them, or with a closed
// one, all packets are ErrArgument.
func NewProxy(r *Receiver, s *Sender) *Proxy { return &Proxy{r, s} }

// Forward opens a burst, seals the packets that opened, and returns how many
// were sealed. In place, the new header takes the space of the old one.
func (p *Proxy) Forward(pkts []Packet) int {
	if p == nil || !p.r.usable() || !p.s.usable() {
		return refuse(pkts)
	}
	return each(pkts, p.s.needs|ofProxy, func(w *burst.Worker, d []profile.Desc) int {
		if n := p.s.Engine(); n != nil {
			return w.Proxy(&p.r.r, n, d)
		}
		return p.s.NoID(d)
	})
}
