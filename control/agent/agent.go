// Package agent is a host's end: it verifies records from a server, stores
// them, passes them to data planes, and only then acknowledges them.
package agent

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	mrand "math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"libeesp/control/record"
	"libeesp/control/socket"
)

// Version is the agent's version, which it tells the server.
const Version = "1.1"

// ErrRevoked is the error of an agent whose member was revoked.
var ErrRevoked = errors.New("revoked")

// Config describes an agent.
type Config struct {
	Memberships []Membership // one for each controller; clients outside know the first one's CA
	Policy      socket.Policy
	Log         *slog.Logger
	// Client makes the HTTP client; nil: HTTPClient. For tests and namespaces.
	Client func(*tls.Config) *http.Client
	Silent time.Duration // see socket.Server
	// PolicyFile is read again for each client that asks; "": Policy is used.
	PolicyFile string
}

// Agent is a host's agent. It may have several controllers, each with its own levels; a group may
// have rings of several of them.
type Agent struct {
	Config
	Planes      socket.Server
	boot        record.ID
	controllers []*Controller

	mu     sync.Mutex
	levels map[record.Level]*level // of all controllers
	usage  map[int]map[string]socket.Usage
	leases leases

	hinted    time.Time // when the agent last asked a server because of a hint
	hintAfter time.Duration
	hints     uint64
}

// New makes an agent, and loads its caches.
func New(c Config) (*Agent, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if len(c.Memberships) == 0 {
		return nil, errors.New("no controller is known")
	}
	a := &Agent{Config: c, levels: map[record.Level]*level{}, usage: map[int]map[string]socket.Usage{}}
	if b, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		h := record.HashOf(b)
		copy(a.boot[:], h[:])
	} else {
		rand.Read(a.boot[:])
	}
	for _, m := range c.Memberships {
		ct, err := newController(a, m)
		if err != nil {
			return nil, err
		}
		a.controllers = append(a.controllers, ct)
	}
	a.beganWithLeases()
	a.Planes = socket.Server{Cluster: a.first().Cluster, Member: a.first().Name, Policy: c.Policy, Log: c.Log, IDs: a.ids, Usage: a.used, Hint: a.hint, Silent: c.Silent}
	for _, ct := range a.controllers {
		if err := ct.load(); err != nil {
			ct.log.Error("the cache is not used", "err", err)
			for _, l := range ct.levels {
				l.reset()
			}
		}
	}
	return a, nil
}

func (a *Agent) first() *Controller { return a.controllers[0] }

// of returns the controllers whose rings a group has, in the order of their levels; for a group
// without rings (psp), the controller of its level.
func (a *Agent) of(g *record.Group) (cs []*Controller) {
	none := g.Rings == [record.Levels]record.ID{}
	for lv := record.Zone; lv < record.Levels; lv++ {
		if l := a.levels[lv]; l != nil && (!g.Rings[lv].IsZero() || none && lv == g.Level) && !slices.Contains(cs, l.c) {
			cs = append(cs, l.c)
		}
	}
	return cs
}

// may returns an error if a controller may not announce a group. With several controllers the host's
// files decide (Membership.Groups): a group has rings of exactly those controllers that list its name,
// and the one of the lowest level announces it. So no controller can remove another's ring from a
// group, add its own, or announce a group of others. A group must not have the name of another one in
// force.
func (a *Agent) may(c *Controller, g *record.Group) error {
	for _, l := range a.levels {
		for id, o := range l.groups {
			if o.rec.Name == g.Name && id != g.ID {
				return fmt.Errorf("another group has this name, at level %v", l.deleg.Level)
			}
		}
	}
	if len(a.controllers) == 1 {
		return nil
	}
	for lv, id := range g.Rings {
		if !id.IsZero() && a.levels[record.Level(lv)] == nil {
			return fmt.Errorf("it has a ring at level %v, of which this host knows no controller", record.Level(lv))
		}
	}
	in := a.of(g)
	if in[0] != c {
		return fmt.Errorf("it has a ring at level %s, which has another controller: that controller must announce it", in[0].of())
	}
	for _, k := range a.controllers {
		switch is := slices.Contains(in, k); {
		case is && !k.has(g.Name):
			return fmt.Errorf("it has a ring of the controller of %s, which this host has for other groups (%s)", k.of(), strings.Join(k.Groups, ", "))
		case !is && k.has(g.Name):
			return fmt.Errorf("it has no ring of the controller of %s, and groups of this name have one", k.of())
		}
	}
	if len(in) > 1 && g.V != 1 {
		return errors.New("it has rings of several controllers, none of which may give its IDs: they need 8 octets")
	}
	return nil
}

// seal returns whether data planes may seal with a group's keys now: SealYes or another value of
// package socket.
func (a *Agent) seal(l *level, g *group) uint8 {
	cs := a.of(&g.rec)
	if slices.ContainsFunc(cs, func(c *Controller) bool { return c.fenced }) {
		return socket.SealFenced
	}
	if slices.ContainsFunc(cs, func(c *Controller) bool { return c.revoked || !c.fresh && !g.rec.OfflineStart }) {
		return socket.SealNo
	}
	if g.rec.Profile == record.ProfilePSP && l.member.State != record.MemberActive {
		return socket.SealNo
	}
	for lv, id := range g.rec.Rings {
		if id.IsZero() {
			continue
		}
		gl := a.levels[record.Level(lv)]
		if gl == nil || gl.rings[id] == nil {
			return socket.SealNo
		}
		// Before REJOIN rotations do not wait for this member.
		if gl.member.State != record.MemberActive {
			return socket.SealNo
		}
	}
	for _, c := range cs {
		if stale := time.Duration(a.maxStale(g, c)) * time.Second; c.slept || stale != 0 && bootTime()-c.heard > stale {
			return socket.SealStale
		}
	}
	return socket.SealYes
}

// maxStale returns how many seconds a group may seal without hearing from a controller (nil: from any
// of its controllers); 0: no limit.
func (a *Agent) maxStale(g *group, of *Controller) (least uint32) {
	if g.rec.Profile == record.ProfilePSP { // it has no ring, whose policy would say
		return record.DefaultPolicy.MaxStale
	}
	for lv, id := range g.rec.Rings {
		if gl := a.levels[record.Level(lv)]; !id.IsZero() && gl != nil && gl.rings[id] != nil && (of == nil || gl.c == of) {
			if m := gl.rings[id].rec.Policy.MaxStale; m != 0 && (least == 0 || m < least) {
				least = m
			}
		}
	}
	return least
}

// publish gives the state of a group to data planes. a.mu is held.
func (a *Agent) publish(l *level, g *group) {
	st := socket.State{Group: g.rec, Seal: a.seal(l, g), MaxStale: a.maxStale(g, nil)}
	for lv, id := range g.rec.Rings {
		if id.IsZero() {
			continue
		}
		gl := a.levels[record.Level(lv)]
		if gl == nil || gl.rings[id] == nil {
			continue
		}
		r := gl.rings[id]
		x := &socket.Ring{ID: id, Class: r.rec.Class, State: r.rec.State, Term: r.rec.Term, Step: r.rec.Step, Floor: r.rec.Floor}
		for i, gen := range r.rec.Gens {
			x.Gens = append(x.Gens, socket.Gen{Gen: gen.Gen, Role: gen.Role, Value: r.values[i]})
			if gen.Role == record.Current {
				x.Epoch = gen.TSSEpoch
			}
		}
		st.Rings[lv] = x
	}
	a.Planes.Set(st)
}

// publishOf calls publish for all groups that have something of a controller.
func (a *Agent) publishOf(c *Controller, publish func(*level, *group)) {
	for _, l := range a.levels {
		for _, g := range l.groups {
			if slices.Contains(a.of(&g.rec), c) {
				publish(l, g)
			}
		}
	}
}

func clock(id int32) time.Duration {
	var t unix.Timespec
	unix.ClockGettime(id, &t)
	return time.Duration(t.Nano())
}
func bootTime() time.Duration { return clock(unix.CLOCK_BOOTTIME) }

// ids gives out IDs from the session's blocks, each once. If no server has answered since the start,
// ConnectionIDs are random with the top bit set.
func (a *Agent) ids(ctx context.Context, g *record.Group, n int) ([]uint64, error) {
	kind := record.KindDevice
	switch {
	case g.Profile == record.ProfilePSP:
		return nil, errors.New("SPIs are for clients")
	case g.Profile == record.ProfileTSS:
		kind = record.KindSSI
	case g.V == 1:
		kind = record.KindConnection
	}
	return a.numbers(ctx, g, kind, n)
}

// numbers returns IDs of a kind from the controller that a group belongs to. A controller that gave an
// ID twice would make two hosts repeat nonces, even under keys that it does not know. So for a group
// with rings of several controllers the host draws random IDs.
func (a *Agent) numbers(ctx context.Context, g *record.Group, kind record.IDKind, n int) ([]uint64, error) {
	a.mu.Lock()
	cs, l := a.of(g), a.levels[g.Level]
	a.mu.Unlock()
	if l == nil {
		return nil, fmt.Errorf("no controller of level %v", g.Level)
	}
	if len(cs) > 1 {
		return drawn(n), nil
	}
	return l.c.numbers(ctx, kind, n)
}

// drawn returns random ConnectionIDs, with the top bit set; servers give out none with it.
func drawn(n int) (out []uint64) {
	for range n {
		var b [8]byte
		rand.Read(b[:])
		out = append(out, binary.BigEndian.Uint64(b[:])|1<<63)
	}
	return out
}

// used adds a program's report of usage to the sums that go to the server.
func (a *Agent) used(pid int, u socket.Usage) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.usage[pid] == nil {
		a.usage[pid] = map[string]socket.Usage{}
	}
	a.usage[pid][fmt.Sprintf("%s %d", u.Ring, u.Gen)] = u
}

// hintEvery is the least time between two requests that hints of programs cause.
const hintEvery = 10 * time.Second

// hint handles a program's hint that packets name a newer key. The agent asks the server for a
// checkpoint: the server then reads the store's head and sends newer records. Without a connection,
// the agent tries the next server at once. Anybody can forge such packets, so the agent does so
// seldom, and with a random delay, so that not all hosts ask at one time.
func (a *Agent) hint() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if time.Since(a.hinted) < a.hintAfter {
		return
	}
	a.hinted, a.hintAfter = time.Now(), hintEvery+time.Duration(mrand.Int64N(int64(hintEvery/4)))
	a.hints++
	a.Log.Info("packets name a key that has not come: asking")
	for _, c := range a.controllers {
		select {
		case c.ask <- struct{}{}:
		default:
		}
	}
}

// Run follows the controllers until ctx ends, or all have revoked the member.
func (a *Agent) Run(ctx context.Context) error {
	a.mu.Lock()
	for _, c := range a.controllers {
		c.heard = bootTime()
	}
	for _, l := range a.levels {
		for _, g := range l.groups {
			a.publish(l, g)
		}
	}
	a.mu.Unlock()
	go a.watchClock(ctx)
	ended := make(chan error)
	for _, c := range a.controllers {
		go func() { ended <- c.run(ctx) }()
	}
	var first error
	for range a.controllers {
		if err := <-ended; first == nil || first == ErrRevoked {
			first = err
		}
	}
	return first
}

// watchClock stops sealing when a group's max_stale has passed, and when this machine slept longer
// than the time after which members are excluded.
func (a *Agent) watchClock(ctx context.Context) {
	last := bootTime() - clock(unix.CLOCK_MONOTONIC)
	was := map[record.ID]uint8{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
		a.mu.Lock()
		slept := bootTime() - clock(unix.CLOCK_MONOTONIC)
		for _, l := range a.levels {
			for _, r := range l.rings {
				if d := time.Duration(r.rec.Policy.AbsentAfter) * time.Second; d != 0 && slept-last > d {
					l.c.slept = true
				}
			}
		}
		last = slept
		a.expire()
		for _, l := range a.levels {
			for id, g := range l.groups {
				if s := a.seal(l, g); s != was[id] {
					was[id] = s
					a.publish(l, g)
				}
			}
		}
		a.mu.Unlock()
	}
}

func (a *Agent) publishIfChanged(l *level, g *group) {
	if a.Planes.SealOf(g.rec.Name) != int(a.seal(l, g)) {
		a.publish(l, g)
	}
}

// Status is the agent's state, for people and scripts. The embedded part is that of the first
// controller.
type Status struct {
	ControllerStatus
	Controllers []ControllerStatus `json:"controllers"`
	Groups      []GroupStatus      `json:"groups"`
	Programs    []string           `json:"programs"`
	Hints       uint64             `json:"hints,omitempty"` // how often a server was asked because packets named a newer key
	Heads       []HeadStatus       `json:"heads"`
}

// ControllerStatus is the agent's state at one controller.
type ControllerStatus struct {
	Levels  string            `json:"levels"`
	Cluster string            `json:"cluster"`
	Member  string            `json:"member"`
	Session string            `json:"session"`
	Server  string            `json:"server,omitempty"`
	Servers []string          `json:"servers"` // their addresses
	Online  bool              `json:"online"`
	Fenced  bool              `json:"fenced,omitempty"`
	Revoked bool              `json:"revoked,omitempty"`
	Heard   float64           `json:"heard_seconds"`
	Error   string            `json:"error,omitempty"`
	Refused map[string]string `json:"refused,omitempty"` // groups that it may not announce, and why
}

// HeadStatus is the newest entry of a level that the agent knows: eespctl audit
// verify --head compares the log with it.
type HeadStatus struct {
	Level  string `json:"level"`
	Term   uint32 `json:"term"`
	Serial uint64 `json:"serial"`
	Hash   string `json:"hash"`
}

// GroupStatus is the state of a group.
type GroupStatus struct {
	Name  string       `json:"name"`
	Seal  string       `json:"seal"`
	Rings []RingStatus `json:"rings"`
}

// RingStatus is the state of a ring.
type RingStatus struct {
	Level   string `json:"level"`
	State   string `json:"state"`
	Step    uint64 `json:"step"`
	Acked   uint64 `json:"acked"`
	Current uint64 `json:"current"`
	Why     string `json:"why,omitempty"`
}

// Status returns the agent's state.
func (a *Agent) Status() Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := Status{Groups: []GroupStatus{}, Programs: a.Planes.Programs(), Hints: a.hints}
	for _, c := range a.controllers {
		s.Controllers = append(s.Controllers, ControllerStatus{Levels: c.of(), Cluster: c.Cluster.String(), Member: c.Name, Session: c.session.String(), Server: c.server, Servers: slices.Clone(c.servers),
			Online: c.online, Fenced: c.fenced, Revoked: c.revoked, Heard: (bootTime() - c.heard).Seconds(), Error: c.lastErr, Refused: maps.Clone(c.refused)})
	}
	s.ControllerStatus = s.Controllers[0]
	for lv, l := range a.levels {
		s.Heads = append(s.Heads, HeadStatus{lv.String(), l.head.Term, l.head.Serial, l.head.Hash.String()})
		for _, g := range l.groups {
			gs := GroupStatus{Name: g.rec.Name, Seal: [...]string{"no", "yes", "stale", "fenced"}[a.seal(l, g)], Rings: []RingStatus{}}
			for lv, id := range g.rec.Rings {
				if gl := a.levels[record.Level(lv)]; !id.IsZero() && gl != nil && gl.rings[id] != nil {
					r := gl.rings[id]
					gs.Rings = append(gs.Rings, RingStatus{record.Level(lv).String(), r.rec.State.String(), r.rec.Step, r.acked, r.rec.Of(record.Current), r.nacked})
				}
			}
			s.Groups = append(s.Groups, gs)
		}
	}
	slices.SortFunc(s.Groups, func(a, b GroupStatus) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return s
}
