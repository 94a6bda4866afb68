// Package agent is a member's end: it verifies what a server sends, keeps it,
// gives it to data planes, and only then acknowledges it.
package agent

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	mrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"libeesp/control/pki"
	"libeesp/control/record"
	"libeesp/control/socket"
)

// Version is what the agent says of itself.
const Version = "1.1"

// ErrRevoked ends an agent whose member was revoked.
var ErrRevoked = errors.New("revoked")

// Config is what an agent is made of.
type Config struct {
	Cluster record.ID
	Name    string
	Dir     string
	Servers []string
	Roots   map[record.Level]ed25519.PublicKey
	CA      *x509.Certificate
	Cert    *x509.Certificate
	Key     ed25519.PrivateKey
	Policy  socket.Policy
	Log     *slog.Logger
	// Dialer, for tests and for namespaces; nil: the network.
	Client func(*tls.Config) *http.Client
	Silent time.Duration // see socket.Server
	// PolicyFile is read anew for each client that asks; "": Policy.
	PolicyFile string
	Renew      func(ctx context.Context, a *Agent) error
	// Learned keeps where the servers are; they say so themselves.
	Learned func(servers []string) error
}

// Agent is a member's agent.
type Agent struct {
	Config
	Planes  socket.Server
	session record.ID
	boot    record.ID
	hpke    hpke.PrivateKey
	key     []byte // of the cache

	mu      sync.Mutex
	servers []string // where they are
	resumes bool
	loading bool
	levels  map[record.Level]*level
	blocks  map[record.IDKind][]uint32
	next    map[record.IDKind]uint64 // number inside the first block
	online  bool
	server  string
	fenced  bool
	revoked bool
	fresh   bool          // a checkpoint of this session came
	heard   time.Duration // boot-time clock of the last checkpoint
	slept   bool          // asleep for too long: ask before sealing
	dirty   bool          // what is not of a ring is newer than the cache
	lastErr string
	send    chan []byte
	usage   map[int]map[string]socket.Usage
	leases  leases

	hinted    time.Time // when a program's hint was last acted on
	hintAfter time.Duration
	hints     uint64
	ask       chan struct{} // a checkpoint is wanted now
}

type level struct {
	deleg    record.Delegation
	delegRaw []byte
	head     record.Known
	headRaw  []byte
	entries  map[uint64]record.Hash // of heads seen, by serial
	member   record.Member
	memRaw   []byte
	memUnder []byte // the delegation by which it was verified
	rings    map[record.ID]*ring
	groups   map[record.ID]*group
	// What came since the last Sync.
	batch   []entry
	pending map[record.ID]*ring // wait for a KEK
	waits   *record.Known       // for a checkpoint of this head
}

type entry struct {
	rec  record.Head
	raw  []byte
	hash record.Hash
}

type ring struct {
	rec    record.Ring
	raw    []byte
	entry  record.Hash
	entRaw []byte
	kek    record.KEK
	epoch  uint32
	step   uint32
	values []record.Value
	acked  uint64
	nacked string
	asked  time.Time
}

type group struct {
	rec record.Group
	raw []byte
}

// New makes an agent, and loads what it had.
func New(c Config) (*Agent, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	a := &Agent{Config: c, servers: slices.Clone(c.Servers), levels: map[record.Level]*level{}, blocks: map[record.IDKind][]uint32{}, next: map[record.IDKind]uint64{}, usage: map[int]map[string]socket.Usage{}, ask: make(chan struct{}, 1)}
	for lv := range c.Roots {
		a.levels[lv] = newLevel()
	}
	if b, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		h := record.HashOf(b)
		copy(a.boot[:], h[:])
	} else {
		rand.Read(a.boot[:])
	}
	if err := a.newSession(); err != nil {
		return nil, err
	}
	var err error
	if a.key, err = cacheKey(c.Dir, func(w string) { c.Log.Warn(w) }); err != nil {
		return nil, err
	}
	a.beganWithLeases()
	a.Planes = socket.Server{Cluster: c.Cluster, Member: c.Name, Policy: c.Policy, Log: c.Log, IDs: a.ids, Usage: a.used, Hint: a.hint, Silent: c.Silent}
	if err := a.load(); err != nil {
		c.Log.Error("the cache is not used", "err", err)
		for lv := range c.Roots {
			a.levels[lv] = newLevel()
		}
	}
	return a, nil
}

func newLevel() *level {
	return &level{rings: map[record.ID]*ring{}, groups: map[record.ID]*group{}, pending: map[record.ID]*ring{}, entries: map[uint64]record.Hash{}}
}

// newSession begins anew with a name of its own: what another machine may have
// of the old one is worth nothing.
func (a *Agent) newSession() error {
	k, err := record.NewHPKEKey()
	if err != nil {
		return err
	}
	rand.Read(a.session[:])
	a.hpke, a.resumes, a.fresh = k, false, false
	a.blocks, a.next = map[record.IDKind][]uint32{}, map[record.IDKind]uint64{}
	return nil
}

func (a *Agent) cacheFile() string { return filepath.Join(a.Dir, "cache") }

// save writes the cache, synced. a.mu is held. with stands in place of what is
// in force of its ring.
func (a *Agent) save(with *ring) error {
	var b []byte
	defer func() { clear(b[:cap(b)]) }()
	for lv := record.Zone; lv < record.Levels; lv++ {
		l := a.levels[lv]
		if l == nil || l.delegRaw == nil || l.headRaw == nil {
			continue
		}
		b = append(append(append(b, l.delegRaw...), l.memRaw...), l.headRaw...)
		for _, g := range l.groups {
			b = append(b, g.raw...)
		}
		rings := map[record.ID]*ring{}
		for id, r := range l.rings {
			rings[id] = r
		}
		if with != nil && with.rec.Level == lv {
			rings[with.rec.ID] = with
		}
		for _, r := range rings {
			c, err := record.Encode(&record.Cache{Ring: r.rec.ID, Level: lv, KEKEpoch: r.epoch, KEKStep: r.step, KEK: r.kek, Values: r.values, Floor: r.rec.Floor, Term: r.rec.Term, Acked: r.rec.Step, Entry: r.entry})
			if err != nil {
				return err
			}
			b = append(append(append(b, r.entRaw...), r.raw...), c...)
			clear(c)
		}
	}
	return writeCache(a.cacheFile(), a.key, a.Cluster, b)
}

// load reads the cache: data planes may open at once with what is in it.
func (a *Agent) load() error {
	b, err := readCache(a.cacheFile(), a.key, a.Cluster)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer clear(b)
	a.loading = true
	defer func() { a.loading = false }()
	var lastRing *ring
	for len(b) > 0 {
		n, err := record.Size(b)
		if err != nil || n == 0 || n > len(b) {
			return errors.New("the cache is cut off")
		}
		raw := slices.Clone(b[:n])
		b = b[n:]
		if record.TypeOf(raw) != record.TypeCache {
			r, err := a.take(raw)
			if err != nil {
				return err
			}
			if r != nil {
				lastRing = r
			}
			continue
		}
		var c record.Cache
		if err := record.Decode(raw, &c); err != nil {
			return err
		}
		l := a.levels[c.Level]
		if l == nil || lastRing == nil || lastRing.rec.ID != c.Ring || len(c.Values) != len(lastRing.rec.Gens) {
			return errors.New("the cache's records do not fit")
		}
		lastRing.values, lastRing.kek, lastRing.epoch, lastRing.step = c.Values, c.KEK, c.KEKEpoch, c.KEKStep
		for i, g := range lastRing.rec.Gens {
			if f := record.FingerprintOf(c.Ring, g.Gen, &c.Values[i]); subtle.ConstantTimeCompare(f[:], g.Fingerprint[:]) != 1 {
				return errors.New("the cache's keys do not fit their record")
			}
		}
		l.rings[c.Ring] = lastRing
		delete(l.pending, c.Ring)
	}
	for _, l := range a.levels {
		var newest *entry
		for i := range l.batch {
			e := &l.batch[i]
			if newest == nil || e.rec.Serial > newest.rec.Serial {
				newest = e
			}
		}
		if newest != nil {
			l.head = record.Known{Level: newest.rec.Level, Term: newest.rec.Term, Serial: newest.rec.Serial, Hash: newest.hash}
			l.headRaw = newest.raw
		}
		l.batch = nil
	}
	return nil
}

// take verifies one record and puts it where Sync finds it. For a ring it
// returns it.
func (a *Agent) take(raw []byte) (*ring, error) {
	// Pushes repeat what seldom changes; what was verified need not be again.
	for _, l := range a.levels {
		if l.delegRaw != nil && bytes.Equal(raw, l.delegRaw) || l.memRaw != nil && bytes.Equal(raw, l.memRaw) && bytes.Equal(l.memUnder, l.delegRaw) {
			return nil, nil
		}
	}
	verify := func(l *level, b record.Body, role uint8) error {
		if l == nil || l.delegRaw == nil {
			return errors.New("a record of a level without delegation")
		}
		_, err := l.deleg.VerifyBy(raw, b, a.Cluster, role)
		if err != nil && a.loading {
			// What is cached was verified, and is this host's own word; an instance may have
			// left since that signed it.
			err = record.Decode(raw, b)
		}
		return err
	}
	switch record.TypeOf(raw) {
	case record.TypeDelegation:
		var d record.Delegation
		if err := record.Decode(raw, &d); err != nil {
			return nil, err
		}
		l, root := a.levels[d.Level], a.Roots[d.Level]
		if l == nil {
			return nil, nil
		}
		if err := record.Verify(raw, &d, a.Cluster, root); err != nil {
			return nil, err
		}
		if d.Serial < l.deleg.Serial || d.Term < l.deleg.Term {
			return nil, fmt.Errorf("delegation %d of term %d is older than the one that is known", d.Serial, d.Term)
		}
		l.deleg, l.delegRaw = d, raw
	case record.TypeHead:
		var h record.Head
		if err := record.Decode(raw, &h); err != nil {
			return nil, err
		}
		l := a.levels[h.Level]
		if err := verify(l, &h, record.RoleRotate); err != nil {
			return nil, err
		}
		e := entry{h, raw, record.HashOf(raw)}
		if k := l.head; e.rec.Term == k.Term && e.rec.Serial == k.Serial && e.hash != k.Hash {
			return nil, fmt.Errorf("two entries of serial %d: a fork", k.Serial)
		}
		l.batch = append(l.batch, e)
	case record.TypeRing:
		r := &ring{raw: raw}
		if err := record.Decode(raw, &r.rec); err != nil {
			return nil, err
		}
		l := a.levels[r.rec.Level]
		if err := verify(l, &r.rec, record.RoleRotate); err != nil {
			return nil, err
		}
		// The entry that put it names it.
		for i := range l.batch {
			if e := &l.batch[i]; e.rec.Serial == r.rec.Serial && e.rec.Term == r.rec.Term && e.rec.Names(record.TypeRing, r.rec.ID, record.HashOf(raw)) {
				r.entry, r.entRaw = e.hash, e.raw
			}
		}
		if r.entRaw == nil {
			return nil, fmt.Errorf("no entry names ring %s of serial %d", r.rec.Name, r.rec.Serial)
		}
		l.pending[r.rec.ID] = r
		return r, nil
	case record.TypeMember:
		var m record.Member
		if err := record.Decode(raw, &m); err != nil {
			return nil, err
		}
		l := a.levels[m.Level]
		if err := verify(l, &m, record.RoleAdmit); err != nil {
			return nil, err
		}
		l.member, l.memRaw, l.memUnder = m, raw, l.delegRaw
	case record.TypeGroup:
		g := &group{raw: raw}
		if err := record.Decode(raw, &g.rec); err != nil {
			return nil, err
		}
		l := a.levels[g.rec.Level]
		if err := verify(l, &g.rec, record.RoleRotate); err != nil {
			return nil, err
		}
		if o := l.groups[g.rec.ID]; o != nil && !o.rec.SameIdentity(&g.rec) {
			return nil, fmt.Errorf("group %s: its parameters changed, which they never do", g.rec.Name)
		}
		l.groups[g.rec.ID] = g
	default:
		return nil, fmt.Errorf("unexpected record of type %d", record.TypeOf(raw))
	}
	return nil, nil
}

// follows walks the batch from the known head; true: it reaches the new one.
func (l *level) follows(to record.Known) bool {
	if l.head == to {
		return true
	}
	if l.head.Term != to.Term {
		return false
	}
	at := l.head
	for _, e := range l.batch {
		if e.rec.Term == at.Term && e.rec.Serial == at.Serial+1 && e.rec.Prev == at.Hash {
			at.Serial, at.Hash = e.rec.Serial, e.hash
		}
	}
	return at.Serial == to.Serial && at.Hash == to.Hash
}

// accept takes a head for the newest: reached by the chain, or by a checkpoint.
func (l *level) accept(to record.Known) {
	for _, e := range l.batch {
		if e.hash == to.Hash {
			l.headRaw = e.raw
		}
		l.entries[e.rec.Serial] = e.hash
	}
	l.head, l.waits, l.batch = to, nil, nil
}

// older says whether a head is behind what is known.
func older(a, b record.Known) bool { return a.Term < b.Term || a.Term == b.Term && a.Serial < b.Serial }

// nack reports why a record is not taken; what is in force stays.
func (a *Agent) nack(l *level, r *ring, code record.Code, reason string) {
	if r.nacked != reason {
		a.Log.Error("not acknowledged", "ring", r.rec.Name, "step", r.rec.Step, "code", code, "reason", reason)
		r.nacked = reason
	}
	a.sendAck(l, r, code, reason)
}

func (a *Agent) sendAck(l *level, r *ring, code record.Code, reason string) {
	if a.send == nil {
		return
	}
	var m record.ID
	m = l.member.ID
	k := &record.Ack{Ring: r.rec.ID, Level: r.rec.Level, Term: r.rec.Term, Step: r.rec.Step, Entry: r.entry, HeadTerm: l.head.Term, HeadSerial: l.head.Serial, Head: l.head.Hash, Session: a.session, Member: m, Code: code}
	if len(reason) > 200 {
		reason = reason[:200]
	}
	k.Reason = reason
	if code == record.CodeNone {
		for _, g := range r.rec.Gens {
			k.Fingerprints = append(k.Fingerprints, g.Fingerprint)
		}
	}
	raw, err := record.Sign(k, a.Cluster, a.Key)
	if err != nil {
		a.Log.Error("acknowledgement", "err", err)
		return
	}
	a.out(raw)
}

func (a *Agent) out(raw []byte) {
	select {
	case a.send <- raw:
	default:
	}
}

// work does what is due for all rings of a level that wait. a.mu is held, but
// for the time that data planes take.
func (a *Agent) work(ctx context.Context, l *level) {
	for id, r := range l.pending {
		old := l.rings[id]
		if old != nil && (r.rec.Term < old.rec.Term || r.rec.Term == old.rec.Term && r.rec.Step < old.rec.Step) {
			a.nack(l, r, record.CodeChain, fmt.Sprintf("step %d.%d is behind %d.%d, which is in force", r.rec.Term, r.rec.Step, old.rec.Term, old.rec.Step))
			delete(l.pending, id)
			continue
		}
		if old != nil && old.rec.Term == r.rec.Term && old.rec.Step == r.rec.Step && old.entry == r.entry {
			delete(l.pending, id)
			a.install(ctx, l, old)
			continue
		}
		if code, err := a.check(old, r); err != nil {
			a.nack(l, r, code, err.Error())
			delete(l.pending, id)
			continue
		}
		if !a.unseal(l, old, r) {
			continue // the KEK is on its way
		}
		delete(l.pending, id)
		if r.values == nil {
			continue
		}
		if err := a.save(r); err != nil {
			a.nack(l, r, record.CodeCache, err.Error())
			l.pending[id] = r // tried again with the next beat
			continue
		}
		if old != nil {
			clear(old.values)
		}
		l.rings[id] = r
		a.install(ctx, l, r)
	}
}

// check compares a record with what is in force.
func (a *Agent) check(old, r *ring) (record.Code, error) {
	if old == nil {
		return 0, nil
	}
	for _, g := range r.rec.Gens {
		if g.Gen < old.rec.Floor {
			return record.CodeFloor, fmt.Errorf("generation %d is below the floor %d", g.Gen, old.rec.Floor)
		}
		o := old.rec.Find(g.Gen)
		if o != nil && o.Fingerprint != g.Fingerprint {
			return record.CodeFingerprint, fmt.Errorf("generation %d has another value", g.Gen)
		}
		if o != nil && g.TSSEpoch < o.TSSEpoch {
			return record.CodeFloor, fmt.Errorf("the epoch of generation %d falls from %d to %d", g.Gen, o.TSSEpoch, g.TSSEpoch)
		}
	}
	if r.rec.Floor < old.rec.Floor {
		return record.CodeFloor, fmt.Errorf("the floor falls from %d to %d", old.rec.Floor, r.rec.Floor)
	}
	return 0, nil
}

// unseal opens a record's values: with the KEK that is here, stepped forward,
// or one that it asks for. False: it has asked.
func (a *Agent) unseal(l *level, old, r *ring) bool {
	if r.epoch == 0 && old != nil && old.epoch == r.rec.KEKEpoch && old.step <= r.rec.KEKStep && r.rec.KEKStep-old.step <= 1024 {
		r.kek, r.epoch, r.step = old.kek, old.epoch, old.step
		for r.step < r.rec.KEKStep {
			r.step++
			r.kek.Step(a.Cluster, r.rec.ID, r.epoch, r.step)
		}
	}
	if r.epoch != r.rec.KEKEpoch || r.step != r.rec.KEKStep {
		if time.Since(r.asked) > 5*time.Second && a.send != nil {
			r.asked = time.Now()
			n := &record.Need{Level: r.rec.Level, Ring: r.rec.ID}
			rand.Read(n.Nonce[:])
			if raw, err := record.Encode(n); err == nil {
				a.out(raw)
			}
		}
		return false
	}
	vs, err := r.rec.Values(&r.kek)
	if err != nil {
		a.nack(l, r, record.CodeSealed, err.Error())
		return true
	}
	r.values = vs
	return true
}

// install gives data planes a ring's state, waits for them, and acknowledges.
func (a *Agent) install(ctx context.Context, l *level, r *ring) {
	var names []string
	for _, gl := range a.levels {
		for _, g := range gl.groups {
			if g.rec.Rings[r.rec.Level] == r.rec.ID {
				a.publish(gl, g)
				names = append(names, g.rec.Name)
			}
		}
	}
	a.mu.Unlock()
	var fail *socket.Failure
	for _, n := range names {
		if f := a.Planes.Wait(ctx, n); f != nil {
			fail = f
		}
	}
	a.mu.Lock()
	if l.rings[r.rec.ID] != r {
		return
	}
	if fail != nil {
		a.nack(l, r, fail.Code, fail.Error())
		return
	}
	if left := a.leased(r); left > 0 {
		a.nack(l, r, record.CodeLease, "clients have leases on the generation before")
		time.AfterFunc(left, func() {
			a.mu.Lock()
			defer a.mu.Unlock()
			if l.rings[r.rec.ID] == r && r.nacked != "" && ctx.Err() == nil {
				a.install(ctx, l, r)
			}
		})
		return
	}
	r.nacked, r.acked = "", r.rec.Step
	a.sendAck(l, r, record.CodeNone, "")
}

// seal says whether data planes may seal with a group's keys now.
func (a *Agent) seal(l *level, g *group) uint8 {
	if a.fenced {
		return socket.SealFenced
	}
	if a.revoked {
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
		// Before REJOIN nobody waits for this member.
		if gl.member.State != record.MemberActive {
			return socket.SealNo
		}
	}
	if !a.fresh && !g.rec.OfflineStart {
		return socket.SealNo
	}
	if stale := time.Duration(a.maxStale(g)) * time.Second; a.slept || stale != 0 && bootTime()-a.heard > stale {
		return socket.SealStale
	}
	return socket.SealYes
}

// maxStale is for how many seconds a group may seal that hears nothing; 0: for ever.
func (a *Agent) maxStale(g *group) (least uint32) {
	if g.rec.Profile == record.ProfilePSP { // no ring says
		return record.DefaultPolicy.MaxStale
	}
	for lv, id := range g.rec.Rings {
		if gl := a.levels[record.Level(lv)]; gl != nil && gl.rings[id] != nil {
			if m := gl.rings[id].rec.Policy.MaxStale; m != 0 && (least == 0 || m < least) {
				least = m
			}
		}
	}
	return least
}

// publish makes a group's state the desired one. a.mu is held.
func (a *Agent) publish(l *level, g *group) {
	st := socket.State{Group: g.rec, Seal: a.seal(l, g), MaxStale: a.maxStale(g)}
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

func (a *Agent) publishAll() {
	for _, l := range a.levels {
		for _, g := range l.groups {
			a.publish(l, g)
		}
	}
}

func clock(id int32) time.Duration {
	var t unix.Timespec
	unix.ClockGettime(id, &t)
	return time.Duration(t.Nano())
}
func bootTime() time.Duration { return clock(unix.CLOCK_BOOTTIME) }

// ids gives out IDs of the session's blocks, each once. Without a server, since
// the start, a ConnectionID is random with the top bit set.
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
	return a.numbers(ctx, kind, n)
}

// numbers are those of a kind.
func (a *Agent) numbers(ctx context.Context, kind record.IDKind, n int) (out []uint64, err error) {
	for deadline := time.Now().Add(8 * time.Second); ; {
		a.mu.Lock()
		for len(out) < n && len(a.blocks[kind]) > 0 {
			b, num := uint64(a.blocks[kind][0]), a.next[kind]
			if num == 0 {
				num = 1
			}
			width, most := 8, uint64(255)
			switch kind {
			case record.KindConnection, record.KindClient:
				width, most = 32, 1<<32-1
			case record.KindSPI:
				width, most = 11, 1<<11-1
			}
			id := b<<width | num
			if kind == record.KindSSI {
				id |= 0xF0000000 // no source address is one
			}
			out = append(out, id)
			if a.next[kind] = num + 1; num == most {
				a.blocks[kind], a.next[kind] = a.blocks[kind][1:], 0
			}
		}
		if len(out) == n {
			a.mu.Unlock()
			return out, nil
		}
		online := a.online
		if online {
			if raw, err := record.Encode(&record.IDs{Kind: kind, Count: 1}); err == nil {
				a.out(raw)
			}
		}
		a.mu.Unlock()
		if !online {
			switch kind {
			case record.KindConnection:
			case record.KindClient, record.KindSPI:
				return nil, errors.New("no server answers, and clients' IDs come from one")
			default:
				return nil, errors.New("no server answers, and IDs of 4 octets come from one: this group opens only")
			}
			for len(out) < n {
				var b [8]byte
				rand.Read(b[:])
				out = append(out, binary.BigEndian.Uint64(b[:])|1<<63)
			}
			return out, nil
		}
		if time.Now().After(deadline) {
			return nil, errors.New("the server gives no IDs")
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// used keeps what programs report, sums of which go to the server.
func (a *Agent) used(pid int, u socket.Usage) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.usage[pid] == nil {
		a.usage[pid] = map[string]socket.Usage{}
	}
	a.usage[pid][fmt.Sprintf("%s %d", u.Ring, u.Gen)] = u
}

// hintEvery is how often at most hints of all programs have the agent ask a server.
const hintEvery = 10 * time.Second

// hint is a program's word that packets name a key which it has not. The server is asked for a
// checkpoint, for which it reads the store's head, and sends what is newer; without a server the
// next one is tried at once. Anybody can forge such packets, so that it is seldom and not at one
// time on all hosts.
func (a *Agent) hint() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if time.Since(a.hinted) < a.hintAfter {
		return
	}
	a.hinted, a.hintAfter = time.Now(), hintEvery+time.Duration(mrand.Int64N(int64(hintEvery/4)))
	a.hints++
	a.Log.Info("packets name a key that has not come: asking")
	select {
	case a.ask <- struct{}{}:
	default:
	}
}

func (a *Agent) sendUsage() {
	sums := map[record.ID]map[uint64]*record.GenUsage{}
	for _, m := range a.usage {
		for _, u := range m {
			if sums[u.Ring] == nil {
				sums[u.Ring] = map[uint64]*record.GenUsage{}
			}
			g := sums[u.Ring][u.Gen]
			if g == nil {
				g = &record.GenUsage{Gen: u.Gen}
				sums[u.Ring][u.Gen] = g
			}
			g.Derived += u.Derived
			g.Sealed += u.Sealed
			g.Opened += u.Opened
			g.Refused += u.Refused
		}
	}
	for _, l := range a.levels {
		for id, r := range l.rings {
			m := &record.Usage{Ring: id}
			for _, g := range r.rec.Gens {
				if u := sums[id][g.Gen]; u != nil {
					m.Gens = append(m.Gens, *u)
				}
			}
			if len(m.Gens) > 0 {
				if raw, err := record.Encode(m); err == nil {
					a.out(raw)
				}
			}
		}
	}
}

// Run follows the servers until ctx ends, or the member is revoked.
func (a *Agent) Run(ctx context.Context) error {
	a.mu.Lock()
	a.heard = bootTime()
	a.publishAll()
	a.mu.Unlock()
	go a.watchClock(ctx)
	go a.keepCert(ctx)
	wait := time.Second
	for n := mrand.IntN(1 << 16); ctx.Err() == nil; n++ {
		servers := a.Addresses()
		if len(servers) == 0 {
			return errors.New("no server is known")
		}
		addr := servers[n%len(servers)]
		began := time.Now()
		bye, err := a.stream(ctx, addr)
		a.mu.Lock()
		a.online, a.send = false, nil
		a.saveRest()
		if err != nil {
			a.lastErr = fmt.Sprintf("%s: %v", addr, err)
		}
		a.mu.Unlock()
		if ctx.Err() != nil {
			break
		}
		if time.Since(began) > 10*time.Second {
			wait = time.Second
		}
		switch bye.Code {
		case record.ByeRevoked:
			a.Log.Error("revoked: all keys are dropped")
			a.drop()
			return ErrRevoked
		case record.ByeFenced, record.ByeCloned:
			a.Log.Error("fenced", "reason", bye.Reason)
			a.mu.Lock()
			a.fenced = true
			a.publishAll()
			if err := a.newSession(); err != nil {
				a.mu.Unlock()
				return err
			}
			a.mu.Unlock()
			if bye.Code == record.ByeFenced {
				wait = time.Minute // the newer one stays; come back if it ends
			}
		case record.ByeRefused, record.ByeLater:
			a.Log.Info("server says", "server", addr, "reason", bye.Reason)
			if bye.Retry != 0 {
				wait = max(time.Second, time.Duration(bye.Retry)*time.Second)
			}
		default:
			a.Log.Warn("no server", "server", addr, "err", err)
		}
		// Full jitter, so that all hosts at once are no storm.
		select {
		case <-ctx.Done():
		case <-a.ask:
		case <-time.After(time.Duration(mrand.Int64N(int64(wait)) + int64(50*time.Millisecond))):
		}
		wait = min(2*wait, time.Minute)
	}
	return ctx.Err()
}

// keepCert renews the certificate in time. Renew says itself whether it is due.
func (a *Agent) keepCert(ctx context.Context) {
	for a.Renew != nil {
		wait := time.Hour
		if err := a.Renew(ctx, a); err != nil && ctx.Err() == nil {
			a.Log.Warn("certificate not renewed", "err", err)
			wait = time.Minute
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// watchClock stops sealing when a group's max_stale has passed, and when this
// machine slept for longer than it takes to be excluded.
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
					a.slept = true
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

// drop erases all that the member had.
func (a *Agent) drop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.revoked = true
	a.Planes.Drop()
	for lv, l := range a.levels {
		for _, r := range l.rings {
			clear(r.values)
			clear(r.kek[:])
		}
		a.levels[lv] = newLevel()
	}
	os.Remove(a.cacheFile())
}

func (a *Agent) tls() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pki.Pool(a.CA), Certificates: []tls.Certificate{pki.TLS(a.Cert, a.Key)}, NextProtos: []string{"h2"},
		VerifyConnection: func(c tls.ConnectionState) error {
			h, err := pki.HolderOf(c.PeerCertificates[0], a.Cluster)
			if err == nil && h.Role != pki.Server {
				err = errors.New("not a server's certificate")
			}
			return err
		}}
}

// SetCert puts a renewed certificate in force, from the next stream on.
func (a *Agent) SetCert(c *x509.Certificate) { a.mu.Lock(); defer a.mu.Unlock(); a.Cert = c }

// HTTPClient is one that speaks HTTP/2 to a server of the cluster.
func HTTPClient(t *tls.Config) *http.Client {
	tr := &http.Transport{TLSClientConfig: t, ForceAttemptHTTP2: true, TLSHandshakeTimeout: 10 * time.Second, HTTP2: &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 10 * time.Second}}
	return &http.Client{Transport: tr}
}

// stream holds one stream to a server until it ends.
func (a *Agent) stream(ctx context.Context, addr string) (bye record.Bye, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := a.tunnelled(ctx, addr); err != nil {
		return bye, err
	}
	a.mu.Lock()
	hello := &record.Hello{Session: a.session, Boot: a.boot, Key: a.hpke.PublicKey().Bytes(), Agent: Version, Resumes: a.resumes}
	rand.Read(hello.Nonce[:])
	for _, l := range a.levels {
		if l.head.Serial != 0 {
			hello.Heads = append(hello.Heads, l.head)
		}
		hello.Member = l.member.ID
		l.batch, l.waits = nil, nil
		clear(l.pending)
	}
	slices.SortFunc(hello.Heads, func(x, y record.Known) int { return int(x.Level) - int(y.Level) })
	send := make(chan []byte, 256)
	a.send = send
	nonces := map[record.ID]bool{hello.Nonce: true}
	a.mu.Unlock()
	first, err := record.Sign(hello, a.Cluster, a.Key)
	if err != nil {
		return bye, err
	}
	pr, pw := io.Pipe()
	defer pw.Close()
	go func() {
		if _, err := pw.Write(first); err != nil {
			return
		}
		for {
			select {
			case b := <-send:
				if _, err := pw.Write(b); err != nil {
					return
				}
			case <-ctx.Done():
				pw.CloseWithError(ctx.Err())
				return
			}
		}
	}()
	mk := a.Client
	if mk == nil {
		mk = HTTPClient
	}
	a.mu.Lock()
	t := a.tls()
	a.mu.Unlock()
	c := mk(t)
	defer c.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+addr+"/v1/stream", pr)
	if err != nil {
		return bye, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return bye, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 512))
		return bye, fmt.Errorf("%s: %s", resp.Status, b)
	}
	recs := make(chan []byte)
	var readErr error
	go func() {
		defer close(recs)
		for {
			b := make([]byte, 12, 1024)
			if _, readErr = io.ReadFull(resp.Body, b); readErr != nil {
				return
			}
			n, err := record.Size(b)
			if err != nil {
				readErr = err
				return
			}
			b = append(b, make([]byte, n-12)...)
			if _, readErr = io.ReadFull(resp.Body, b[12:]); readErr != nil {
				return
			}
			select {
			case recs <- b:
			case <-ctx.Done():
				return
			}
		}
	}()
	beat := time.NewTicker(20 * time.Second)
	defer beat.Stop()
	for {
		select {
		case <-ctx.Done():
			return bye, ctx.Err()
		case <-a.ask:
			a.mu.Lock()
			a.askCheckpoint(nonces)
			a.mu.Unlock()
		case <-beat.C:
			if err := a.tunnelled(ctx, addr); err != nil { // the route may have come since
				return bye, err
			}
			a.mu.Lock()
			p := &record.Ping{}
			rand.Read(p.Nonce[:])
			nonces[p.Nonce] = true
			if len(nonces) > 8 {
				clear(nonces)
				nonces[p.Nonce] = true
			}
			if raw, err := record.Encode(p); err == nil {
				a.out(raw)
			}
			a.sendUsage()
			a.retry(ctx)
			a.saveRest()
			a.mu.Unlock()
		case b, ok := <-recs:
			if !ok {
				return bye, readErr
			}
			if record.TypeOf(b) == record.TypeBye {
				err := record.Decode(b, &bye)
				return bye, errors.Join(err, errors.New(bye.Reason))
			}
			a.mu.Lock()
			err := a.receive(ctx, addr, b, nonces, beat)
			a.mu.Unlock()
			if err != nil {
				a.Log.Error("refused what the server sent", "server", addr, "err", err)
				return bye, err
			}
		}
	}
}

// saveRest saves heads, rosters and groups, for which nobody waits.
func (a *Agent) saveRest() {
	if !a.dirty {
		return
	}
	if err := a.save(nil); err != nil {
		a.Log.Error("cache", "err", err)
		return
	}
	a.dirty = false
}

// retry does again what a ring was not acknowledged for.
func (a *Agent) retry(ctx context.Context) {
	for _, l := range a.levels {
		a.work(ctx, l)
		for _, r := range l.rings {
			if r.nacked != "" {
				a.install(ctx, l, r)
			}
		}
	}
}

// receive takes one record of a server. a.mu is held.
func (a *Agent) receive(ctx context.Context, addr string, raw []byte, nonces map[record.ID]bool, beat *time.Ticker) error {
	switch record.TypeOf(raw) {
	case record.TypeWelcome:
		var w record.Welcome
		if err := record.Decode(raw, &w); err != nil {
			return err
		}
		for _, b := range w.Blocks {
			a.blocks[b.Kind] = append(a.blocks[b.Kind], b.Block)
		}
		if w.Beat > 0 {
			beat.Reset(time.Duration(w.Beat) * time.Second)
		}
		a.learn(w.Servers)
		if a.online {
			break // it said only where servers are
		}
		a.online, a.server, a.resumes, a.lastErr = true, addr, true, ""
		a.fenced = false
		a.Log.Info("connected", "server", addr, "session", a.session)
	case record.TypePing: // the server asks whether this end is alive
		var p record.Ping
		if err := record.Decode(raw, &p); err != nil {
			return err
		}
		rand.Read(p.Nonce[:])
		nonces[p.Nonce] = true
		b, err := record.Encode(&p)
		if err == nil {
			a.out(b)
		}
		return err
	case record.TypeIDs:
		var m record.IDs
		if err := record.Decode(raw, &m); err != nil {
			return err
		}
		for _, b := range m.Blocks {
			a.blocks[b.Kind] = append(a.blocks[b.Kind], b.Block)
		}
	case record.TypeSync:
		var s record.Sync
		if err := record.Decode(raw, &s); err != nil {
			return err
		}
		l := a.levels[s.Head.Level]
		if l == nil {
			return nil
		}
		if older(s.Head, l.head) {
			return fmt.Errorf("the server is behind: it shows entry %d.%d, %d.%d is known", s.Head.Term, s.Head.Serial, l.head.Term, l.head.Serial)
		}
		for _, e := range l.batch {
			if e.rec.Term == l.head.Term && e.rec.Serial == l.head.Serial+1 && e.rec.Prev != l.head.Hash {
				return fmt.Errorf("entry %d does not follow the one that is known: a fork", e.rec.Serial)
			}
		}
		if !l.follows(s.Head) {
			h := s.Head
			l.waits = &h // until a checkpoint bridges the gap
			a.askCheckpoint(nonces)
			return nil
		}
		l.accept(s.Head)
		a.synced(ctx, l)
	case record.TypeGrant:
		var g record.Grant
		if err := record.Decode(raw, &g); err != nil {
			return err
		}
		l := a.levels[g.Level]
		if l == nil {
			return nil
		}
		in, err := l.deleg.VerifyBy(raw, &g, a.Cluster, record.RoleRotate)
		if err != nil {
			return err
		}
		if in.ID != g.Instance || g.Session != a.session {
			return errors.New("a grant of another session")
		}
		return a.granted(ctx, l, &g, nonces)
	default:
		_, err := a.take(raw)
		return err
	}
	return nil
}

// Addresses are where the servers are, as far as this host knows.
func (a *Agent) Addresses() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.servers)
}

// learn takes over where a server says that all of them are. A wrong word costs a host its
// servers and nothing else: it believes signatures. a.mu is held.
func (a *Agent) learn(said []record.Server) {
	var l []string
	for _, s := range said {
		if _, _, err := net.SplitHostPort(s.Addr); err == nil {
			l = append(l, s.Addr)
		}
	}
	if len(l) == 0 || slices.Equal(l, a.servers) {
		return
	}
	a.servers = l
	a.Log.Info("servers", "at", l)
	if a.Learned != nil {
		if err := a.Learned(slices.Clone(l)); err != nil {
			a.Log.Error("where the servers are is not kept", "err", err)
		}
	}
}

func (a *Agent) askCheckpoint(nonces map[record.ID]bool) {
	var p record.Ping
	rand.Read(p.Nonce[:])
	nonces[p.Nonce] = true
	if raw, err := record.Encode(&p); err == nil {
		a.out(raw)
	}
}

// granted takes a checkpoint, or a KEK.
func (a *Agent) granted(ctx context.Context, l *level, g *record.Grant, nonces map[record.ID]bool) error {
	head := record.Known{Level: g.Level, Term: g.Term, Serial: g.Serial, Hash: g.Head}
	if g.Ring.IsZero() {
		if !nonces[g.Nonce] {
			return errors.New("a checkpoint with a nonce that is not ours")
		}
		if older(head, l.head) {
			return fmt.Errorf("the checkpoint is behind: entry %d.%d, %d.%d is known", head.Term, head.Serial, l.head.Term, l.head.Serial)
		}
		if head.Term == l.head.Term && head.Serial == l.head.Serial && head.Hash != l.head.Hash {
			return errors.New("the checkpoint is of another chain: fork")
		}
		a.heard = bootTime()
		was := a.fresh && !a.slept
		a.fresh, a.slept = true, false
		if l.waits != nil && *l.waits == head {
			l.accept(head)
		}
		if l.head == head {
			a.synced(ctx, l)
		}
		if !was {
			a.publishAll()
		}
		return nil
	}
	r := l.pending[g.Ring]
	if r == nil {
		return nil
	}
	if g.RingHash != record.HashOf(r.raw) {
		r.asked = time.Time{} // it has changed meanwhile, and is pushed
		return nil
	}
	kek, err := g.OpenKEK(a.Cluster, a.hpke)
	if err != nil {
		return err
	}
	r.kek, r.epoch, r.step = kek, g.KEKEpoch, g.KEKStep
	a.work(ctx, l)
	return nil
}

// synced does what a new head brings.
func (a *Agent) synced(ctx context.Context, l *level) {
	if l.waits != nil {
		return
	}
	a.work(ctx, l)
	// The member's own state may have changed: whether it may seal.
	for _, gl := range a.levels {
		for _, g := range gl.groups {
			a.publishIfChanged(gl, g)
		}
	}
	a.dirty = true // saved with the next beat: what was acknowledged is saved already
}

func (a *Agent) publishIfChanged(l *level, g *group) {
	if a.Planes.SealOf(g.rec.Name) != int(a.seal(l, g)) {
		a.publish(l, g)
	}
}

// Status is what the agent knows, for people and scripts.
type Status struct {
	Cluster  string        `json:"cluster"`
	Member   string        `json:"member"`
	Session  string        `json:"session"`
	Server   string        `json:"server,omitempty"`
	Servers  []string      `json:"servers"` // where they are
	Online   bool          `json:"online"`
	Fenced   bool          `json:"fenced,omitempty"`
	Revoked  bool          `json:"revoked,omitempty"`
	Heard    float64       `json:"heard_seconds"`
	Error    string        `json:"error,omitempty"`
	Groups   []GroupStatus `json:"groups"`
	Programs []string      `json:"programs"`
	Hints    uint64        `json:"hints,omitempty"` // times that packets named a key that had not come, and a server was asked
	Heads    []HeadStatus  `json:"heads"`
}

// HeadStatus is the newest entry of a level that the agent knows: eespctl audit
// verify --head compares the log with it.
type HeadStatus struct {
	Level  string `json:"level"`
	Term   uint32 `json:"term"`
	Serial uint64 `json:"serial"`
	Hash   string `json:"hash"`
}

// GroupStatus is a group's.
type GroupStatus struct {
	Name  string       `json:"name"`
	Seal  string       `json:"seal"`
	Rings []RingStatus `json:"rings"`
}

// RingStatus is a ring's.
type RingStatus struct {
	Level   string `json:"level"`
	State   string `json:"state"`
	Step    uint64 `json:"step"`
	Acked   uint64 `json:"acked"`
	Current uint64 `json:"current"`
	Why     string `json:"why,omitempty"`
}

// Status gathers it.
func (a *Agent) Status() Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := Status{Cluster: a.Cluster.String(), Member: a.Name, Session: a.session.String(), Server: a.server, Servers: slices.Clone(a.servers), Online: a.online, Fenced: a.fenced, Revoked: a.revoked,
		Heard: (bootTime() - a.heard).Seconds(), Error: a.lastErr, Groups: []GroupStatus{}, Programs: a.Planes.Programs(), Hints: a.hints}
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
