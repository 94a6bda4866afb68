// Package server is a controller's server: it keeps the levels' chains in a
// store, runs rotations, and serves agents' streams and operators.
package server

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"libeesp/control/pki"
	"libeesp/control/record"
	"libeesp/control/rotation"
	"libeesp/control/store"
)

// Config describes a server.
type Config struct {
	Cluster record.ID
	Name    string
	Addrs   []string // addresses of the servers for agents, until the servers have announced them
	Addr    string   // this server's
	CA      *pki.CA
	Cert    *x509.Certificate
	Key     ed25519.PrivateKey
	Levels  map[record.Level]LevelConfig
	Store   store.Store
	Dir     string // local files
	Log     *slog.Logger
	Now     func() time.Time
	Limits  Limits
}

// LevelConfig is the root of a level and this instance's keys.
type LevelConfig struct {
	Root       ed25519.PublicKey
	Before     ed25519.PublicKey // the root that Root replaced; nil: none
	Keys       Keys
	Delegation []byte // for the first entry
}

// Server is a controller instance.
type Server struct {
	Config
	ID     record.ID
	levels map[record.Level]*Level

	mu      sync.Mutex
	streams map[record.ID]*stream // by member
	rings   map[record.ID]*ringWatch
	absent  map[record.ID]time.Time // since when members have no stream
	blocks  map[record.IDKind][]uint32
	freeze  string
	kick    chan struct{}
	servers []string // their addresses
	at      map[record.ID]string
	moved   chan struct{} // closed when these change
	metrics *metrics

	newest    map[record.ID]sessionAt // newest sessions, by member
	incidents map[record.ID]string    // why members were fenced, for operators
	cloned    map[record.ID]record.ID // the newest session of each member that two machines had
	entering  map[record.Hash]int     // streams that have not sent a hello yet, by the certificate's key
	often     map[record.ID]*rate.Limiter
	places    chan struct{} // one for each stream that begins
	queued    atomic.Int32  // streams that wait for a place
	joins     *rate.Limiter
	counters  counters // nil: not read yet
}

// ringWatch is what this server has observed of a ring's step.
type ringWatch struct {
	term     uint32
	step     uint64
	entry    record.Hash
	since    time.Time
	ready    rotation.Set // agents connected here that acknowledged
	nacks    map[uint32]string
	covered  time.Time // since when all are ready; zero: they are not
	others   map[string]uint64
	needHash string
	wrote    time.Time
	dirty    bool
	asked    string
	usage    map[record.ID]record.Usage
	plan     rotation.Plan
}

// New makes a server; Run runs it.
func New(c Config) *Server {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{Config: c, levels: map[record.Level]*Level{}, streams: map[record.ID]*stream{}, rings: map[record.ID]*ringWatch{}, absent: map[record.ID]time.Time{},
		blocks: map[record.IDKind][]uint32{}, kick: make(chan struct{}, 1), servers: c.Addrs, moved: make(chan struct{})}
	s.Limits.fill()
	s.newest, s.incidents, s.cloned, s.entering, s.often = map[record.ID]sessionAt{}, map[record.ID]string{}, map[record.ID]record.ID{}, map[record.Hash]int{}, map[record.ID]*rate.Limiter{}
	s.places, s.joins = make(chan struct{}, s.Limits.Beginning), rate.NewLimiter(s.Limits.Joins, int(10*s.Limits.Joins))
	for lv, lc := range c.Levels {
		s.ID = lc.Keys.ID
		s.levels[lv] = OpenLevel(lv, c.Cluster, lc.Root, lc.Keys, c.Store, fmt.Sprintf("%s/published-%v", c.Dir, lv), c.Now)
		s.levels[lv].before = lc.Before
	}
	s.metrics = newMetrics(s)
	return s
}

// Level returns a level, or nil.
func (s *Server) Level(lv record.Level) *Level { return s.levels[lv] }

// each calls f for the levels in their order, until it returns an error.
func (s *Server) each(f func(*Level) error) error {
	for lv := record.Zone; lv < record.Levels; lv++ {
		if l := s.levels[lv]; l != nil {
			if err := f(l); err != nil {
				return err
			}
		}
	}
	return nil
}

// Begin loads the levels, and writes the first entry of those that have none.
func (s *Server) Begin(ctx context.Context) error {
	s.findServers(ctx) // also whether rotations are frozen
	return s.each(func(l *Level) error {
		if _, err := l.Sync(ctx); err != nil {
			return fmt.Errorf("level %v: %w", l.Level, err)
		}
		if l.head != nil || l.Broken() != "" {
			return nil
		}
		_, err := l.commit(ctx, func() (*change, error) {
			if l.head != nil {
				return nil, errNothing
			}
			return &change{head: record.Head{Change: record.ChangeGenesis, Who: s.Name}, deleg: s.Levels[l.Level].Delegation}, nil
		})
		return err
	})
}

// Run runs the server until ctx ends.
func (s *Server) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, l := range s.levels {
		wg.Go(func() { l.Watch(ctx) })
		wg.Go(func() {
			for ctx.Err() == nil {
				select {
				case <-l.Changed():
					s.wake()
				case <-ctx.Done():
				}
			}
		})
	}
	wg.Go(func() { s.watchSessions(ctx) })
	wg.Go(func() { s.keepCopies(ctx) })
	wg.Go(func() { s.announce(ctx) })
	wg.Go(func() { s.watchServers(ctx) })
	timer := time.NewTimer(0)
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-s.kick:
		case <-timer.C:
		}
		if ctx.Err() != nil {
			break
		}
		again := s.pass(ctx)
		// Acknowledgements of many members come one by one; a pass handles all that are there.
		select {
		case <-ctx.Done():
		case <-time.After(passLeast):
		}
		timer.Reset(max(again-passLeast, 0))
	}
	s.mu.Lock()
	for _, st := range s.streams {
		st.bye(record.ByeLater, 1, "the server stops")
	}
	s.mu.Unlock()
	wg.Wait()
}

// passLeast is the least time between two passes.
const passLeast = 10 * time.Millisecond

func (s *Server) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// watch returns the ringWatch of a ring's present step. Each step has a new one. s.mu is held.
func (s *Server) watch(l *Level, r *item[record.Ring]) *ringWatch {
	var entry record.Hash
	if e := l.log[r.rec.Serial]; e != nil {
		entry = e.hash
	}
	w := s.rings[r.rec.ID]
	if w == nil || w.term != r.rec.Term || w.step != r.rec.Step || w.entry != entry {
		n := &ringWatch{term: r.rec.Term, step: r.rec.Step, entry: entry, since: time.Now(), nacks: map[uint32]string{}, others: map[string]uint64{}, usage: map[record.ID]record.Usage{}}
		if w != nil {
			n.asked, n.wrote = w.asked, w.wrote
			if r.rec.State == record.Steady {
				n.usage = w.usage
			}
		}
		if r.rec.State != record.Steady {
			n.asked = ""
		}
		w = n
		s.rings[r.rec.ID] = w
	}
	return w
}

// pass does what is due for every ring, and returns when to look again.
func (s *Server) pass(ctx context.Context) time.Duration {
	again := time.Second // members that become absent are noticed within that time
	s.each(func(l *Level) error {
		if l.Broken() != "" {
			return nil
		}
		l.mu.Lock()
		ids := make([]record.ID, 0, len(l.rings))
		for id := range l.rings {
			ids = append(ids, id)
		}
		l.mu.Unlock()
		slices.SortFunc(ids, func(a, b record.ID) int { return slices.Compare(a[:], b[:]) })
		for _, id := range ids {
			for n := 0; n < 8; n++ {
				did, wait := s.passRing(ctx, l, id)
				if wait != 0 {
					again = min(again, wait)
				}
				if !did {
					break
				}
			}
		}
		s.rejoin(ctx, l)
		if err := s.presence(ctx, l); err != nil && ctx.Err() == nil {
			s.Log.Warn("presence", "level", l.Level, "err", err)
		}
		return nil
	})
	return max(again, 5*time.Millisecond)
}

// world returns the input of rotation.Next. s.mu and l.mu are held.
func (s *Server) world(l *Level, r *item[record.Ring], w *ringWatch) rotation.World {
	now := time.Now()
	ready := w.ready.Clone()
	changed := false
	for key, o := range l.ready {
		if o.rec.Ring != r.rec.ID || o.rec.Server == s.ID || o.rec.Term != w.term || o.rec.Step != w.step || o.rec.Entry != w.entry {
			continue
		}
		// If that server is gone, so are its streams, and if it was started again, those of before. A host that has no
		// stream there any more has no session either, or another one elsewhere.
		p := l.ready[presenceKey(o.rec.Server)]
		if p == nil || !l.recent(&p.rec, now) || p.rec.Since != o.rec.Since {
			continue
		}
		if w.others[key] != o.rec.Serial {
			w.others[key], changed = o.rec.Serial, true
		}
		ready.Or(rotation.Set(o.rec.Bitmap).And(p.rec.Bitmap))
	}
	need := l.need(r.rec.ID)
	if string(need) != w.needHash {
		w.needHash, changed = string(need), true
	}
	switch {
	case !ready.Covers(need):
		w.covered = time.Time{}
	case w.covered.IsZero() || changed:
		w.covered = now
	}
	wd := rotation.World{Need: need, Ready: ready, InStep: now.Sub(w.since), Wall: s.Now().Unix(), Asked: w.asked, Freeze: s.freeze, Turn: true, Destroyed: l.destroyed(r.rec.ID, r.rec.Step)}
	if !w.covered.IsZero() {
		wd.Covered = now.Sub(w.covered)
	}
	for _, m := range l.members {
		after := time.Duration(r.rec.Policy.AbsentAfter) * time.Second
		if len(l.deleg.rec.Instances) > 1 {
			after = max(after, presenceLeast)
		}
		if since, ok := s.absent[m.rec.ID]; ok && r.rec.Policy.AbsentAfter != 0 && now.Sub(since) >= after {
			wd.Absent.Add(m.rec.Number)
		}
	}
	for _, u := range w.usage {
		for _, g := range u.Gens {
			if g.Gen == r.rec.Of(record.Current) {
				wd.Usage += g.Derived
			}
		}
	}
	return wd
}

// passRing does one transition, if one is due.
func (s *Server) passRing(ctx context.Context, l *Level, id record.ID) (did bool, wait time.Duration) {
	s.mu.Lock()
	l.mu.Lock()
	r := l.rings[id]
	if r == nil || l.head == nil {
		l.mu.Unlock()
		s.mu.Unlock()
		return false, 0
	}
	w := s.watch(l, r)
	wd := s.world(l, r, w)
	// One level at a time, except in an emergency.
	for _, o := range s.levels {
		if o == l {
			continue
		}
		o.mu.Lock()
		for _, x := range o.rings {
			wd.Turn = wd.Turn && x.rec.State == record.Steady
		}
		o.mu.Unlock()
	}
	plan := rotation.Next(&r.rec, wd)
	w.plan = plan
	serial, step, name := l.head.Serial, r.rec.Step, r.rec.Name
	l.mu.Unlock()
	s.mu.Unlock()
	wait = plan.Again
	later, err := s.writeReady(ctx, l, id)
	if err != nil && ctx.Err() == nil {
		s.Log.Warn("ready set not written", "ring", name, "err", err)
		later = time.Second
	}
	if later != 0 && (wait == 0 || later < wait) {
		wait = later
	}
	if plan.Do == 0 {
		if len(plan.Waiting) > 0 && (wait == 0 || wait > time.Second) {
			wait = time.Second // members that the step waits for may become absent
		}
		return false, wait
	}
	e, err := l.commit(ctx, func() (*change, error) {
		// The plan holds for this head; with another one it is made again.
		r := l.rings[id]
		if r == nil || l.head.Serial != serial || r.rec.Step != step {
			return nil, errNothing
		}
		return s.transition(l, &r.rec, plan, wd)
	})
	switch {
	case err == nil && e == nil: // another server was faster
		return false, max(wait, time.Second)
	case err == nil:
		s.Log.Info("rotation", "level", l.Level, "ring", name, "change", plan.Do, "reason", plan.Reason)
		return true, 0
	case errors.Is(err, rotation.ErrGuard):
		return false, max(wait, time.Second)
	case ctx.Err() == nil:
		s.Log.Warn("rotation", "ring", name, "change", plan.Do, "err", err)
		s.mu.Lock()
		w.plan.Why = fmt.Sprintf("%v fails: %v", plan.Do, err) // for operators
		s.mu.Unlock()
	}
	return false, time.Second
}

// transition returns the change of a plan. l.mu is held.
func (s *Server) transition(l *Level, r *record.Ring, plan rotation.Plan, wd rotation.World) (*change, error) {
	c := &change{head: record.Head{Change: plan.Do, Who: s.Name, Reason: plan.Reason}}
	var n record.Ring
	var e rotation.Effect
	var err error
	switch plan.Do {
	case record.ChangePrepare:
		n, e, err = rotation.Prepare(r, plan.Reason, wd.Wall)
	case record.ChangeActivate:
		n, e, err = rotation.Activate(r, wd.Need, wd.Ready)
	case record.ChangeRetire:
		n, e, err = rotation.Retire(r, wd.Need, wd.Ready, wd.Covered)
	case record.ChangeAbort:
		n, e, err = rotation.Abort(r, plan.Reason)
	case record.ChangeDestroyed:
		// Only an entry: with a new record of the ring all would have to acknowledge again.
		if l.destroyed(r.ID, r.Step) {
			return nil, errNothing
		}
		c.head.Ring, c.head.New, c.head.Step = r.ID, r.Of(record.Current), r.Step
		return c, nil
	case record.ChangeExclude:
		var who rotation.Set
		for _, n := range plan.Exclude {
			who.Add(n)
		}
		for _, m := range l.members {
			if m.rec.State == record.MemberActive && who.Has(m.rec.Number) {
				x := m.rec
				x.State, x.Reason = record.Absent, plan.Reason
				c.members = append(c.members, &x)
				if len(c.members) == perEntry {
					break // the others in the next transaction
				}
			}
		}
		if len(c.members) == 0 {
			return nil, errNothing
		}
		return c, nil
	}
	if err != nil {
		return nil, err
	}
	c.rings = []ringChange{{n, e}}
	return c, nil
}

// destroyed reports whether the log says that all members have wiped the generation that this step
// dropped.
func (l *Level) destroyed(ring record.ID, step uint64) bool { return l.names.destroyed[ring] == step }

// rejoin puts excluded members back into the barrier once they have acknowledged the newest step of all
// their rings in their session.
func (s *Server) rejoin(ctx context.Context, l *Level) {
	for range 64 {
		who := map[record.ID]bool{}
		s.mu.Lock()
		l.mu.Lock()
		for _, m := range l.members {
			if m.rec.State == record.Absent && len(who) < perEntry && s.caughtUp(l, &m.rec) {
				who[m.rec.ID] = true
			}
		}
		l.mu.Unlock()
		s.mu.Unlock()
		if len(who) == 0 {
			return
		}
		e, err := l.commit(ctx, func() (*change, error) {
			c := &change{head: record.Head{Change: record.ChangeRejoin, Who: s.Name}}
			for id := range who {
				m := l.members[id]
				if m == nil || m.rec.State != record.Absent || !s.caughtUpLocked(l, &m.rec) {
					continue
				}
				x := m.rec
				x.State, x.Reason = record.MemberActive, ""
				c.members = append(c.members, &x)
				c.head.Reason = x.Name
			}
			if n := len(c.members); n == 0 {
				return nil, errNothing
			} else if n > 1 {
				c.head.Reason = fmt.Sprintf("%d members", n)
			}
			return c, nil
		})
		if err != nil && ctx.Err() == nil {
			s.Log.Warn("rejoin", "err", err)
		}
		if err != nil || e == nil {
			return
		}
	}
}

// perEntry is the most members that one entry changes: the size of transactions is limited.
const perEntry = 64

// caughtUp reports whether a member has acknowledged the newest step of all its rings. s.mu and l.mu are
// held.
func (s *Server) caughtUp(l *Level, m *record.Member) bool {
	st := s.streams[m.ID]
	if st == nil {
		return false
	}
	for id, r := range l.rings {
		if m.May(id) && !s.watch(l, r).ready.Has(m.Number) {
			return false
		}
	}
	return true
}

// caughtUpLocked is caughtUp where only l.mu is held, by a commit. The order of locks is s.mu, l.mu, so
// this only tries to lock s.mu.
func (s *Server) caughtUpLocked(l *Level, m *record.Member) bool {
	if !s.mu.TryLock() {
		return false
	}
	defer s.mu.Unlock()
	return s.caughtUp(l, m)
}

// Presence: if there are several servers, each writes to the store which agents have a stream to it. A
// member is absent when no server has a stream of it. What the store shows may be old: the other server is gone,
// or the store lies. So each record names the newest one that its writer had read of each other server: it was written
// after that, which the other has the time of, by its own clock.
const (
	presenceEvery = 20 * time.Second
	presenceStale = 90 * time.Second
	presenceLeast = 10 * time.Second // with several servers, the least AbsentAfter: presence takes a while to arrive
)

// beaten is the number of a record of this server's presence, and from when it is.
type beaten struct {
	serial uint64
	at     time.Time
}

// olderServer is what a server of an earlier version wrote of its presence: it does not say since when it runs, and may
// not sign. Who is ready by its word does not count. But who is there by its word is not absent: while servers are
// upgraded, a rotation waits, as the store can make it do anyway.
type olderServer struct {
	name   string
	serial uint64
	here   rotation.Set
	at     time.Time
	told   bool
}

// seenOlder notes a record of an earlier version. l.mu is held.
func (l *Level) seenOlder(r *record.Ready) {
	if !r.Ring.IsZero() {
		return
	}
	i := slices.IndexFunc(l.deleg.rec.Instances, func(in record.Instance) bool { return in.ID == r.Server && in.ID != l.keys.ID })
	o := l.older[r.Server]
	switch {
	case i < 0 || r.Since != 0:
		delete(l.older, r.Server)
	case o == nil:
		if l.older == nil {
			l.older = map[record.ID]*olderServer{}
		}
		l.older[r.Server] = &olderServer{name: l.deleg.rec.Instances[i].Name, serial: r.Serial, here: r.Bitmap, at: time.Now()}
	case o.serial != r.Serial:
		o.serial, o.here, o.at = r.Serial, r.Bitmap, time.Now()
	}
}

// others calls f for the records of other servers' presence. l.mu is held.
func (l *Level) others(f func(*record.Ready)) {
	for _, o := range l.ready {
		if o.rec.Ring.IsZero() && o.rec.Server != l.keys.ID {
			f(&o.rec)
		}
	}
}

// recent reports whether another server wrote this of its presence not longer ago than presenceStale. l.mu is held.
func (l *Level) recent(o *record.Ready, now time.Time) bool {
	for _, h := range o.Heard {
		if h.Server != l.keys.ID {
			continue
		}
		for _, b := range slices.Backward(l.beats) {
			if b.serial <= h.Serial {
				return now.Sub(b.at) <= presenceStale
			}
		}
	}
	return false
}

func presenceKey(server record.ID) string { return record.ID{}.String() + "/" + server.String() }

func (s *Server) presence(ctx context.Context, l *Level) error {
	now := time.Now()
	s.mu.Lock()
	l.mu.Lock()
	alone := len(l.deleg.rec.Instances) == 1
	here := rotation.Set{}
	for id := range s.streams {
		if m := l.members[id]; m != nil {
			here.Add(m.rec.Number)
		}
	}
	seen := here.Clone()
	news := false // a server that was started waits for the others to say that they have read it
	l.others(func(o *record.Ready) {
		if l.recent(o, now) {
			seen.Or(o.Bitmap)
		}
		news = news || l.answered[o.Server] != o.Since
	})
	for _, o := range l.older {
		if now.Sub(o.at) <= presenceStale {
			seen.Or(o.here)
			if !o.told {
				s.Log.Warn("a server is of an earlier version: rotations wait for its hosts until it is upgraded", "server", o.name)
			}
			o.told = true
		}
	}
	for id, m := range l.members {
		if seen.Has(m.rec.Number) || m.rec.State != record.MemberActive {
			delete(s.absent, id)
		} else if _, ok := s.absent[id]; !ok {
			s.absent[id] = now
		}
	}
	// At once if a stream began or ended, or a server was started, but at most once a second.
	var since time.Duration = presenceEvery
	if n := len(l.beats); n > 0 {
		since = now.Sub(l.beats[n-1].at)
	}
	due := !alone && (since >= presenceEvery || (news || string(here) != l.shown) && since >= time.Second)
	var kv store.KV
	var err error
	if due {
		p := &record.Ready{Server: s.ID, Term: 1, Bitmap: here}
		if kv, err = l.prove(p); err == nil {
			l.shown, l.answered = string(here), map[record.ID]uint64{}
			l.others(func(o *record.Ready) { l.answered[o.Server] = o.Since })
			l.beats = slices.DeleteFunc(l.beats, func(b beaten) bool { return now.Sub(b.at) > 2*presenceStale })
			l.beats = append(l.beats, beaten{p.Serial, now})
		}
	}
	l.mu.Unlock()
	s.mu.Unlock()
	if !due || err != nil {
		return err
	}
	_, err = s.Store.Commit(ctx, store.Txn{Put: []store.KV{kv}})
	return err
}

// writeReady writes to the store which agents of this server are ready, if there are other servers: when
// all that are connected here are ready, and before that at most once a second. It returns after which
// time to write if it has not.
func (s *Server) writeReady(ctx context.Context, l *Level, id record.ID) (later time.Duration, err error) {
	s.mu.Lock()
	l.mu.Lock()
	var kv store.KV
	if r := l.rings[id]; r != nil && len(l.deleg.rec.Instances) > 1 {
		if w := s.watch(l, r); w.dirty {
			full := true
			need := l.need(id)
			for member := range s.streams {
				if m := l.members[member]; m != nil && need.Has(m.rec.Number) && !w.ready.Has(m.rec.Number) {
					full = false
				}
			}
			if since := time.Since(w.wrote); !full && since < time.Second {
				later = time.Second - since
			} else {
				w.dirty, w.wrote = false, time.Now()
				rec := &record.Ready{Ring: id, Term: w.term, Step: w.step, Entry: w.entry, Server: s.ID, Bitmap: w.ready.Clone()}
				for n, why := range w.nacks {
					if len(rec.Laggards) < 64 {
						rec.Laggards = append(rec.Laggards, record.Laggard{Number: n, Reason: record.Text(why, record.MaxReason)})
					}
				}
				kv, err = l.prove(rec)
			}
		}
	}
	l.mu.Unlock()
	s.mu.Unlock()
	if err == nil && kv.Key == "" {
		return later, nil
	}
	if err == nil {
		_, err = s.Store.Commit(ctx, store.Txn{Put: []store.KV{kv}})
	}
	if err != nil { // others must learn of it all the same: again
		s.mu.Lock()
		if w := s.rings[id]; w != nil {
			w.dirty = true
		}
		s.mu.Unlock()
	}
	return 0, err
}

// Block layouts.
const (
	blockBatch = 256
	maxDevice  = 1 << 24
	maxConn    = 1 << 31
	maxSSI     = 1 << 20
	maxSPI     = 1 << 20
)

// alloc returns blocks of IDs that were never given out before. Blocks of a failed transaction are lost.
func (s *Server) alloc(ctx context.Context, kind record.IDKind, n int) (bs []record.Block, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(bs) < n {
		if len(s.blocks[kind]) == 0 {
			if err := s.draw(ctx, kind); err != nil {
				return nil, err
			}
		}
		bs = append(bs, record.Block{Kind: kind, Block: s.blocks[kind][0]})
		s.blocks[kind] = s.blocks[kind][1:]
	}
	return bs, nil
}

func (s *Server) draw(ctx context.Context, kind record.IDKind) error {
	limit := map[record.IDKind]uint64{record.KindDevice: maxDevice, record.KindConnection: maxConn, record.KindClient: maxConn, record.KindSSI: maxSSI, record.KindSPI: maxSPI}[kind]
	counter := kind
	if kind == record.KindClient { // IDs for clients are ConnectionIDs too: one counter for both
		counter = record.KindConnection
	}
	next, err := s.advance(ctx, counter, blockBatch, limit)
	for b := next; err == nil && b < next+blockBatch; b++ {
		s.blocks[kind] = append(s.blocks[kind], uint32(b))
	}
	return err
}

// advance takes a number of blocks from a counter in the store, and returns the first.
func (s *Server) advance(ctx context.Context, kind record.IDKind, by, limit uint64) (uint64, error) {
	key := fmt.Sprintf("alloc/%d", kind)
	if s.counters == nil {
		c, err := readCounters(s.countersFile())
		if err != nil {
			return 0, err
		}
		s.counters = c
	}
	// Blocks are lost if the file cannot be written afterwards: on a full disk hosts that ask again would use up all.
	if err := s.counters.write(s.countersFile()); err != nil {
		return 0, err
	}
	for range 16 {
		kv, err := s.Store.Get(ctx, key)
		if err != nil {
			return 0, err
		}
		next := uint64(1) // block 0 is for IDs that people choose
		if len(kv.Value) == 8 {
			next = binary.BigEndian.Uint64(kv.Value)
		}
		if was := s.counters[kind]; next < was {
			s.Log.Error("the store's counter of IDs was set back: IDs continue behind those that this server knows", "kind", kind, "from", was, "to", next)
			next = was
			if jump := jumps[kind]; s.several() { // others may have drawn more
				next += jump
			}
		}
		if next > limit || by > limit-next { // no sum: one that wraps would let the store begin at 0 again
			return 0, fmt.Errorf("IDs of kind %d are used up", kind)
		}
		_, err = s.Store.Commit(ctx, store.Txn{If: []store.Cond{{Key: key, Mod: kv.Mod}}, Put: []store.KV{{Key: key, Value: binary.BigEndian.AppendUint64(nil, next+by)}}})
		if err == nil {
			// None of them is given out before the file says so.
			s.counters[kind] = next + by
			err = s.counters.write(s.countersFile())
		}
		if !errors.Is(err, store.ErrConflict) {
			return next, err
		}
	}
	return 0, fmt.Errorf("IDs of kind %d: %w", kind, store.ErrConflict)
}

func randomID() (id record.ID) {
	for id.IsZero() {
		rand.Read(id[:])
	}
	return id
}

// jumps is how many blocks may have been given out without this server's knowledge.
var jumps = map[record.IDKind]uint64{record.KindDevice: blockJump >> 4, record.KindConnection: blockJump, record.KindSSI: ssiJump, record.KindSPI: ssiJump}

// several reports whether other servers give out IDs too.
func (s *Server) several() (is bool) {
	s.each(func(l *Level) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		is = is || len(l.deleg.rec.Instances) > 1
		return nil
	})
	return is
}

// jumpAllocators skips IDs that may have been given out since a backup.
func (s *Server) jumpAllocators(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blocks = map[record.IDKind][]uint32{}
	for kind, jump := range jumps {
		if _, err := s.advance(ctx, kind, jump, math.MaxUint64>>1); err != nil {
			return err
		}
	}
	return nil
}
