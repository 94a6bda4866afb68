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
	"errors"
	"fmt"
	"io"
	"log/slog"
	mrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"libeesp/control/pki"
	"libeesp/control/record"
	"libeesp/control/socket"
)

// Membership makes this host a member at one controller. Controllers share nothing of it, nor of its
// directory.
type Membership struct {
	Cluster record.ID
	Name    string
	Dir     string
	Servers []string
	Roots   map[record.Level]ed25519.PublicKey // of the levels that it is the controller of
	CA      *x509.Certificate
	Cert    *x509.Certificate
	Key     ed25519.PrivateKey
	// Groups are the names, or patterns of names, of the groups that have a ring at its levels;
	// none: all. It is used only if a host has several controllers.
	Groups []string
	// Renew renews the certificate if it is due.
	Renew func(ctx context.Context, c *Controller) error
	// Learned stores the addresses of the servers, which a server told.
	Learned func(servers []string) error
}

// Controller is the agent's end of one controller: its levels, a session, a stream to one of its
// servers, and a cache. Its records count for its own levels only.
type Controller struct {
	Membership
	a    *Agent
	log  *slog.Logger
	hpke hpke.PrivateKey
	key  []byte // of the cache

	// a.mu guards these.
	session  record.ID
	servers  []string // their addresses
	resumes  bool
	loading  bool
	levels   map[record.Level]*level // those of this controller
	blocks   map[record.IDKind][]uint32
	next     map[record.IDKind]uint64 // next number in the first block
	online   bool
	server   string
	fenced   bool
	revoked  bool
	fresh    bool          // this session had a checkpoint
	heard    time.Duration // boot time of the last checkpoint
	slept    bool          // the machine slept too long: no sealing before a checkpoint
	dirty    bool          // records other than rings are newer than the cache
	unsynced int           // octets of records since the last Sync
	lastErr  string
	send     chan []byte
	refused  map[string]string // groups that it may not announce, and why
	ask      chan struct{}     // asks for a checkpoint at once
}

// Limits of what this host keeps for a controller.
const (
	mostUnsynced = 64 << 20 // octets of records until a Sync
	mostOfALevel = 4096     // rings of a level, and groups; names of groups that are refused
	mostBlocks   = 1024     // blocks of IDs of a kind: an agent asks for one at a time
)

func newController(a *Agent, m Membership) (*Controller, error) {
	c := &Controller{Membership: m, a: a, log: a.Log, servers: slices.Clone(m.Servers), levels: map[record.Level]*level{}, refused: map[string]string{}, ask: make(chan struct{}, 1)}
	for lv := range m.Roots {
		if l := a.levels[lv]; l != nil {
			return nil, fmt.Errorf("level %v has two controllers: %s and %s", lv, l.c.Dir, c.Dir)
		}
		l := &level{c: c}
		l.reset()
		c.levels[lv], a.levels[lv] = l, l
	}
	if len(a.Memberships) > 1 {
		c.log = a.Log.With("controller", c.of())
	}
	if err := c.newSession(); err != nil {
		return nil, err
	}
	var err error
	c.key, err = cacheKey(m.Dir, func(w string) { c.log.Warn(w) })
	return c, err
}

// of returns the names of the controller's levels, for messages.
func (c *Controller) of() string {
	var l []string
	for lv := record.Zone; lv < record.Levels; lv++ {
		if c.levels[lv] != nil {
			l = append(l, lv.String())
		}
	}
	return strings.Join(l, ",")
}

// has reports whether a group of this name has a ring at its levels, by Membership.Groups.
func (c *Controller) has(name string) bool {
	return len(c.Groups) == 0 || slices.ContainsFunc(c.Groups, func(p string) bool { ok, _ := path.Match(p, name); return ok })
}

type level struct {
	c        *Controller
	deleg    record.Delegation
	delegRaw []byte
	head     record.Known
	headRaw  []byte
	member   record.Member
	memRaw   []byte
	memUnder []byte // the delegation by which it was verified
	rings    map[record.ID]*ring
	groups   map[record.ID]*group
	batch    []entry             // entries since the last Sync that was accepted
	unproved int                 // their octets
	pending  map[record.ID]*ring // rings that wait for a KEK
	waits    *record.Known       // a head that needs a checkpoint
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

// reset forgets everything about a level.
func (l *level) reset() {
	*l = level{c: l.c, rings: map[record.ID]*ring{}, groups: map[record.ID]*group{}, pending: map[record.ID]*ring{}}
}

// newSession begins a session with a new ID and key: another machine that has the old ones can do
// nothing with them.
func (c *Controller) newSession() error {
	k, err := record.NewHPKEKey()
	if err != nil {
		return err
	}
	rand.Read(c.session[:])
	c.hpke, c.resumes, c.fresh = k, false, false
	c.blocks, c.next = map[record.IDKind][]uint32{}, map[record.IDKind]uint64{}
	return nil
}

func (c *Controller) cacheFile() string { return filepath.Join(c.Dir, "cache") }

// save writes the cache and syncs it. If with is not nil, it is written instead of the ring in force.
// a.mu is held.
func (c *Controller) save(with *ring) error {
	var parts, secret [][]byte // joined at the end: a slice that grows leaves copies of keys behind
	defer func() {
		for _, p := range secret {
			clear(p)
		}
	}()
	for lv := record.Zone; lv < record.Levels; lv++ {
		l := c.levels[lv]
		if l == nil || l.delegRaw == nil || l.headRaw == nil {
			continue
		}
		parts = append(parts, l.delegRaw, l.memRaw, l.headRaw)
		for _, g := range l.groups {
			parts = append(parts, g.raw)
		}
		rings := map[record.ID]*ring{}
		for id, r := range l.rings {
			rings[id] = r
		}
		if with != nil && with.rec.Level == lv {
			rings[with.rec.ID] = with
		}
		for _, r := range rings {
			cached, err := record.Encode(&record.Cache{Ring: r.rec.ID, Level: lv, KEKEpoch: r.epoch, KEKStep: r.step, KEK: r.kek, Values: r.values, Floor: r.rec.Floor, Term: r.rec.Term, Acked: r.rec.Step, Entry: r.entry})
			if err != nil {
				return err
			}
			parts, secret = append(parts, r.entRaw, r.raw, cached), append(secret, cached)
		}
	}
	b := bytes.Join(parts, nil)
	secret = append(secret, b)
	return writeCache(c.cacheFile(), c.key, c.Cluster, b)
}

// load reads the cache. Data planes may open with its keys at once.
func (c *Controller) load() error {
	b, err := readCache(c.cacheFile(), c.key, c.Cluster)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer clear(b)
	c.loading = true
	defer func() { c.loading = false }()
	var lastRing *ring
	for len(b) > 0 {
		n, err := record.Size(b)
		if err != nil || n == 0 || n > len(b) {
			return errors.New("the cache is cut off")
		}
		raw := slices.Clone(b[:n])
		b = b[n:]
		if record.TypeOf(raw) != record.TypeCache {
			r, err := c.take(raw)
			if err != nil {
				return err
			}
			if r != nil {
				lastRing = r
			}
			continue
		}
		var k record.Cache
		err = record.Decode(raw, &k)
		clear(raw)
		if err != nil {
			return err
		}
		l := c.levels[k.Level]
		if l == nil || lastRing == nil || lastRing.rec.ID != k.Ring || len(k.Values) != len(lastRing.rec.Gens) {
			return errors.New("the cache's records do not fit")
		}
		lastRing.values, lastRing.kek, lastRing.epoch, lastRing.step = k.Values, k.KEK, k.KEKEpoch, k.KEKStep
		for i, g := range lastRing.rec.Gens {
			if f := record.FingerprintOf(k.Ring, g.Gen, &k.Values[i]); subtle.ConstantTimeCompare(f[:], g.Fingerprint[:]) != 1 {
				return errors.New("the cache's keys do not fit their record")
			}
		}
		l.rings[k.Ring] = lastRing
		delete(l.pending, k.Ring)
	}
	for _, l := range c.levels {
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
		l.batch, l.unproved = nil, 0
	}
	return nil
}

// take verifies one record and stores it for Sync. It returns the ring if it is one.
func (c *Controller) take(raw []byte) (*ring, error) {
	// Pushes repeat records that seldom change: those that were verified are not verified again.
	for _, l := range c.levels {
		if l.delegRaw != nil && bytes.Equal(raw, l.delegRaw) || l.memRaw != nil && bytes.Equal(raw, l.memRaw) && bytes.Equal(l.memUnder, l.delegRaw) {
			return nil, nil
		}
	}
	verify := func(l *level, b record.Body, role uint8) error {
		if l == nil || l.delegRaw == nil {
			return errors.New("a record of a level without delegation")
		}
		_, err := l.deleg.VerifyBy(raw, b, c.Cluster, role)
		if err != nil && c.loading {
			// A record from the cache was verified before. The instance that signed it may have left
			// since.
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
		l, root := c.levels[d.Level], c.Roots[d.Level]
		if l == nil {
			return nil, nil
		}
		if err := record.Verify(raw, &d, c.Cluster, root); err != nil {
			return nil, err
		}
		if d.Term < l.deleg.Term || d.Term == l.deleg.Term && d.Serial < l.deleg.Serial { // a new term may begin from a backup
			return nil, fmt.Errorf("delegation %d of term %d is older than the one that is known", d.Serial, d.Term)
		}
		l.deleg, l.delegRaw = d, raw
	case record.TypeHead:
		var h record.Head
		if err := record.Decode(raw, &h); err != nil {
			return nil, err
		}
		l := c.levels[h.Level]
		if err := verify(l, &h, record.RoleRotate); err != nil {
			return nil, err
		}
		e := entry{h, raw, record.HashOf(raw)}
		if k := l.head; e.rec.Term == k.Term && e.rec.Serial == k.Serial && e.hash != k.Hash {
			return nil, fmt.Errorf("two entries of serial %d: a fork", k.Serial)
		}
		if l.unproved += len(raw); l.unproved > mostUnsynced {
			return nil, errors.New("too many entries that nothing proves")
		}
		l.batch = append(l.batch, e)
	case record.TypeRing:
		r := &ring{raw: raw}
		if err := record.Decode(raw, &r.rec); err != nil {
			return nil, err
		}
		l := c.levels[r.rec.Level]
		if err := verify(l, &r.rec, record.RoleRotate); err != nil {
			return nil, err
		}
		// The entry that put the record must name it.
		for i := range l.batch {
			if e := &l.batch[i]; e.rec.Serial == r.rec.Serial && e.rec.Term == r.rec.Term && e.rec.Names(record.TypeRing, r.rec.ID, record.HashOf(raw)) {
				r.entry, r.entRaw = e.hash, e.raw
			}
		}
		if r.entRaw == nil {
			return nil, fmt.Errorf("no entry names ring %s of serial %d", r.rec.Name, r.rec.Serial)
		}
		if len(l.rings)+len(l.pending) >= mostOfALevel && l.rings[r.rec.ID] == nil {
			return nil, fmt.Errorf("more than %d rings", mostOfALevel)
		}
		l.pending[r.rec.ID] = r
		return r, nil
	case record.TypeMember:
		var m record.Member
		if err := record.Decode(raw, &m); err != nil {
			return nil, err
		}
		l := c.levels[m.Level]
		if err := verify(l, &m, record.RoleAdmit); err != nil {
			return nil, err
		}
		l.member, l.memRaw, l.memUnder = m, raw, l.delegRaw
	case record.TypeGroup:
		g := &group{raw: raw}
		if err := record.Decode(raw, &g.rec); err != nil {
			return nil, err
		}
		l := c.levels[g.rec.Level]
		if err := verify(l, &g.rec, record.RoleRotate); err != nil {
			return nil, err
		}
		if o := l.groups[g.rec.ID]; o != nil && !o.rec.SameIdentity(&g.rec) {
			return nil, fmt.Errorf("group %s: its parameters changed, which they never do", g.rec.Name)
		}
		if err := c.a.may(c, &g.rec); err != nil {
			// Its rings are followed all the same: groups that it may announce have them.
			if c.refused[g.rec.Name] != err.Error() && (len(c.refused) < mostOfALevel || c.refused[g.rec.Name] != "") {
				c.refused[g.rec.Name] = err.Error()
				c.log.Error("a group is refused", "group", g.rec.Name, "err", err)
			}
			return nil, nil
		}
		delete(c.refused, g.rec.Name)
		if len(l.groups) >= mostOfALevel && l.groups[g.rec.ID] == nil {
			return nil, fmt.Errorf("more than %d groups", mostOfALevel)
		}
		l.groups[g.rec.ID] = g
	default:
		return nil, fmt.Errorf("unexpected record of type %d", record.TypeOf(raw))
	}
	return nil, nil
}

// follows reports whether the entries in the batch lead from the known head to the new one.
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

// accept makes a head the known one, after the chain or a checkpoint has proved it.
func (l *level) accept(to record.Known) {
	for _, e := range l.batch {
		if e.hash == to.Hash {
			l.headRaw = e.raw
		}
	}
	l.head, l.waits, l.batch, l.unproved = to, nil, nil, 0
}

// older reports whether head a is behind head b.
func older(a, b record.Known) bool { return a.Term < b.Term || a.Term == b.Term && a.Serial < b.Serial }

// nack tells the server why a record is not installed. The ring in force stays.
func (c *Controller) nack(l *level, r *ring, code record.Code, reason string) {
	if r.nacked != reason {
		c.log.Error("not acknowledged", "ring", r.rec.Name, "step", r.rec.Step, "code", code, "reason", reason)
		r.nacked = reason
	}
	c.sendAck(l, r, code, reason)
}

func (c *Controller) sendAck(l *level, r *ring, code record.Code, reason string) {
	if c.send == nil {
		return
	}
	k := &record.Ack{Ring: r.rec.ID, Level: r.rec.Level, Term: r.rec.Term, Step: r.rec.Step, Entry: r.entry, HeadTerm: l.head.Term, HeadSerial: l.head.Serial, Head: l.head.Hash, Session: c.session, Member: l.member.ID, Code: code}
	k.Reason = record.Text(reason, 200)
	if code == record.CodeNone {
		for _, g := range r.rec.Gens {
			k.Fingerprints = append(k.Fingerprints, g.Fingerprint)
		}
	}
	raw, err := record.Sign(k, c.Cluster, c.Key)
	if err != nil {
		c.log.Error("acknowledgement", "err", err)
		return
	}
	c.out(raw)
}

func (c *Controller) out(raw []byte) {
	select {
	case c.send <- raw:
	default:
	}
}

// work installs all rings of a level that wait, if they can be. a.mu is held, except while it waits
// for data planes.
func (c *Controller) work(ctx context.Context, l *level) {
	for id, r := range l.pending {
		old := l.rings[id]
		if old != nil && (r.rec.Term < old.rec.Term || r.rec.Term == old.rec.Term && r.rec.Step < old.rec.Step) {
			c.nack(l, r, record.CodeChain, fmt.Sprintf("step %d.%d is behind %d.%d, which is in force", r.rec.Term, r.rec.Step, old.rec.Term, old.rec.Step))
			delete(l.pending, id)
			continue
		}
		if old != nil && old.rec.Term == r.rec.Term && old.rec.Step == r.rec.Step && old.entry == r.entry {
			delete(l.pending, id)
			c.install(ctx, l, old)
			continue
		}
		if code, err := check(old, r); err != nil {
			c.nack(l, r, code, err.Error())
			delete(l.pending, id)
			continue
		}
		if !c.unseal(l, old, r) {
			continue // the KEK was asked for
		}
		delete(l.pending, id)
		if r.values == nil {
			continue
		}
		if err := c.save(r); err != nil {
			c.nack(l, r, record.CodeCache, err.Error())
			l.pending[id] = r // tried again at the next beat
			continue
		}
		if old != nil {
			clear(old.values)
			clear(old.kek[:])
		}
		l.rings[id] = r
		c.install(ctx, l, r)
	}
}

// check returns why a ring's record cannot follow the one in force; nil: it can.
func check(old, r *ring) (record.Code, error) {
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

// unseal opens the values of a record, with the KEK that is here, stepped forward. If there is none, it
// asks the server for it and returns false.
func (c *Controller) unseal(l *level, old, r *ring) bool {
	// A new term has a new KEK, whatever number a backup led to.
	if r.epoch == 0 && old != nil && old.rec.Term == r.rec.Term && old.epoch == r.rec.KEKEpoch && old.step <= r.rec.KEKStep && r.rec.KEKStep-old.step <= 1024 {
		r.kek, r.epoch, r.step = old.kek, old.epoch, old.step
		for r.step < r.rec.KEKStep {
			r.step++
			r.kek.Step(c.Cluster, r.rec.ID, r.epoch, r.step)
		}
	}
	if r.epoch != r.rec.KEKEpoch || r.step != r.rec.KEKStep {
		if time.Since(r.asked) > 5*time.Second && c.send != nil {
			r.asked = time.Now()
			n := &record.Need{Level: r.rec.Level, Ring: r.rec.ID}
			rand.Read(n.Nonce[:])
			if raw, err := record.Encode(n); err == nil {
				c.out(raw)
			}
		}
		return false
	}
	vs, err := r.rec.Values(&r.kek)
	if err != nil {
		c.nack(l, r, record.CodeSealed, err.Error())
		return true
	}
	r.values = vs
	return true
}

// install stores a ring in the cache, gives it to data planes, waits for them, and acknowledges it.
func (c *Controller) install(ctx context.Context, l *level, r *ring) {
	var names []string
	for _, gl := range c.a.levels {
		for _, g := range gl.groups {
			if g.rec.Rings[r.rec.Level] == r.rec.ID {
				c.a.publish(gl, g)
				names = append(names, g.rec.Name)
			}
		}
	}
	c.a.mu.Unlock()
	var fail *socket.Failure
	for _, n := range names {
		if f := c.a.Planes.Wait(ctx, n); f != nil {
			fail = f
		}
	}
	c.a.mu.Lock()
	if l.rings[r.rec.ID] != r {
		return
	}
	if fail != nil {
		c.nack(l, r, fail.Code, fail.Error())
		return
	}
	if left := c.a.leased(r); left > 0 {
		c.nack(l, r, record.CodeLease, "clients have leases on the generation before")
		time.AfterFunc(left, func() {
			c.a.mu.Lock()
			defer c.a.mu.Unlock()
			if l.rings[r.rec.ID] == r && r.nacked != "" && ctx.Err() == nil {
				c.install(ctx, l, r)
			}
		})
		return
	}
	r.nacked, r.acked = "", r.rec.Step
	c.sendAck(l, r, record.CodeNone, "")
}

// numbers returns n IDs of a kind from the session's blocks, and asks for blocks if necessary.
func (c *Controller) numbers(ctx context.Context, kind record.IDKind, n int) (out []uint64, err error) {
	for deadline := time.Now().Add(8 * time.Second); ; {
		c.a.mu.Lock()
		for len(out) < n && len(c.blocks[kind]) > 0 {
			b, num := uint64(c.blocks[kind][0]), c.next[kind]
			if num == 0 {
				num = 1
			}
			width, most := 8, uint64(255)
			switch kind {
			case record.KindConnection, record.KindClient:
				width, most = 32, 1<<32-1
				if c.next[kind] == 0 {
					// A store that lies to several servers could have a block given out twice. There is room
					// enough for its two holders to have different numbers all the same.
					num += mrand.Uint64N(1 << 31)
				}
			case record.KindSPI:
				width, most = 11, 1<<11-1
			}
			id := b<<width | num
			if kind == record.KindSSI {
				id |= 0xF0000000 // no source address has such octets
			}
			out = append(out, id)
			if c.next[kind] = num + 1; num == most {
				c.blocks[kind], c.next[kind] = c.blocks[kind][1:], 0
			}
		}
		if len(out) == n {
			c.a.mu.Unlock()
			return out, nil
		}
		online := c.online
		if online {
			if raw, err := record.Encode(&record.IDs{Kind: kind, Count: 1}); err == nil {
				c.out(raw)
			}
		}
		c.a.mu.Unlock()
		if !online {
			switch kind {
			case record.KindConnection:
			case record.KindClient, record.KindSPI:
				return nil, errors.New("no server answers, and clients' IDs come from servers")
			default:
				return nil, errors.New("no server answers, and IDs of 4 octets come from servers: this group can only open")
			}
			return append(out, drawn(n-len(out))...), nil
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

func (c *Controller) sendUsage() {
	sums := map[record.ID]map[uint64]*record.GenUsage{}
	for _, m := range c.a.usage {
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
	for _, l := range c.levels {
		for id, r := range l.rings {
			m := &record.Usage{Ring: id}
			for _, g := range r.rec.Gens {
				if u := sums[id][g.Gen]; u != nil {
					m.Gens = append(m.Gens, *u)
				}
			}
			if len(m.Gens) > 0 {
				if raw, err := record.Encode(m); err == nil {
					c.out(raw)
				}
			}
		}
	}
}

// run follows the controller's servers until ctx ends, or the member is revoked.
func (c *Controller) run(ctx context.Context) error {
	go c.keepCert(ctx)
	wait := time.Second
	for n := mrand.IntN(1 << 16); ctx.Err() == nil; n++ {
		servers := c.Addresses()
		if len(servers) == 0 {
			return fmt.Errorf("%s: no server is known", c.Dir)
		}
		addr := servers[n%len(servers)]
		began := time.Now()
		bye, err := c.stream(ctx, addr)
		c.a.mu.Lock()
		c.online, c.send = false, nil
		c.saveRest()
		if err != nil {
			c.lastErr = fmt.Sprintf("%s: %v", addr, err)
		}
		c.a.mu.Unlock()
		if ctx.Err() != nil {
			break
		}
		if time.Since(began) > 10*time.Second {
			wait = time.Second
		}
		switch bye.Code {
		case record.ByeRevoked:
			c.log.Error("revoked: all keys are dropped")
			c.drop()
			return ErrRevoked
		case record.ByeFenced, record.ByeCloned:
			c.log.Error("fenced", "reason", bye.Reason)
			c.a.mu.Lock()
			c.fenced = true
			c.a.publishOf(c, c.a.publish)
			if err := c.newSession(); err != nil {
				c.a.mu.Unlock()
				return err
			}
			c.a.mu.Unlock()
			if bye.Code == record.ByeFenced {
				wait = time.Minute // the newer session stays; try again in case it ends
			}
		case record.ByeRefused, record.ByeLater:
			c.log.Info("server says", "server", addr, "reason", bye.Reason)
			if bye.Retry != 0 {
				wait = max(time.Second, time.Duration(bye.Retry)*time.Second)
			}
		default:
			c.log.Warn("no server", "server", addr, "err", err)
		}
		// Full jitter, so that not all hosts come back at one time.
		select {
		case <-ctx.Done():
		case <-c.ask:
		case <-time.After(time.Duration(mrand.Int64N(int64(wait)) + int64(50*time.Millisecond))):
		}
		wait = min(2*wait, time.Minute)
	}
	return ctx.Err()
}

// keepCert calls Renew regularly, which renews the certificate when it is due.
func (c *Controller) keepCert(ctx context.Context) {
	for c.Renew != nil {
		wait := time.Hour
		if err := c.Renew(ctx, c); err != nil && ctx.Err() == nil {
			c.log.Warn("certificate not renewed", "err", err)
			wait = time.Minute
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// drop erases everything that the host had from this controller. Groups with a ring of it have no key
// any more, even if they also have rings of others. Other groups go on.
func (c *Controller) drop() {
	c.a.mu.Lock()
	defer c.a.mu.Unlock()
	c.revoked = true
	for _, l := range c.levels {
		for _, r := range l.rings {
			clear(r.values)
			clear(r.kek[:])
		}
		clear(l.rings)
	}
	c.a.publishOf(c, c.a.publish)
	for _, l := range c.levels {
		l.reset()
	}
	os.Remove(c.cacheFile())
}

func (c *Controller) tls() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pki.Pool(c.CA), Certificates: []tls.Certificate{pki.TLS(c.Cert, c.Key)}, NextProtos: []string{"h2"},
		VerifyConnection: func(s tls.ConnectionState) error {
			h, err := pki.HolderOf(s.PeerCertificates[0], c.Cluster)
			if err == nil && h.Role != pki.Server {
				err = errors.New("not a server's certificate")
			}
			return err
		}}
}

// SetCert sets a renewed certificate, for the next stream.
func (c *Controller) SetCert(n *x509.Certificate) { c.a.mu.Lock(); defer c.a.mu.Unlock(); c.Cert = n }

// HTTPClient returns a client that speaks HTTP/2 to a server of the cluster.
func HTTPClient(t *tls.Config) *http.Client {
	tr := &http.Transport{TLSClientConfig: t, ForceAttemptHTTP2: true, TLSHandshakeTimeout: 10 * time.Second, HTTP2: &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 10 * time.Second}}
	return &http.Client{Transport: tr}
}

// stream holds one stream to a server until it ends.
func (c *Controller) stream(ctx context.Context, addr string) (bye record.Bye, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := c.a.tunnelled(ctx, addr); err != nil {
		return bye, err
	}
	c.a.mu.Lock()
	hello := &record.Hello{Session: c.session, Boot: c.a.boot, Key: c.hpke.PublicKey().Bytes(), Agent: Version, Resumes: c.resumes}
	rand.Read(hello.Nonce[:])
	for _, l := range c.levels {
		if l.head.Serial != 0 {
			hello.Heads = append(hello.Heads, l.head)
		}
		hello.Member = l.member.ID
		l.batch, l.waits, l.unproved = nil, nil, 0
		clear(l.pending)
	}
	c.unsynced = 0
	slices.SortFunc(hello.Heads, func(x, y record.Known) int { return int(x.Level) - int(y.Level) })
	send := make(chan []byte, 256)
	c.send = send
	nonces := map[record.ID]bool{hello.Nonce: true}
	c.a.mu.Unlock()
	first, err := record.Sign(hello, c.Cluster, c.Key)
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
	mk := c.a.Client
	if mk == nil {
		mk = HTTPClient
	}
	c.a.mu.Lock()
	t := c.tls()
	c.a.mu.Unlock()
	h := mk(t)
	defer h.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+addr+"/v1/stream", pr)
	if err != nil {
		return bye, err
	}
	resp, err := h.Do(req)
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
		case <-c.ask:
			c.a.mu.Lock()
			c.askCheckpoint(nonces)
			c.a.mu.Unlock()
		case <-beat.C:
			if err := c.a.tunnelled(ctx, addr); err != nil { // the route may have changed since
				return bye, err
			}
			c.a.mu.Lock()
			p := &record.Ping{}
			rand.Read(p.Nonce[:])
			nonces[p.Nonce] = true
			if len(nonces) > 8 {
				clear(nonces)
				nonces[p.Nonce] = true
			}
			if raw, err := record.Encode(p); err == nil {
				c.out(raw)
			}
			c.sendUsage()
			c.retry(ctx)
			c.saveRest()
			c.a.mu.Unlock()
		case b, ok := <-recs:
			if !ok {
				return bye, readErr
			}
			if record.TypeOf(b) == record.TypeBye {
				err := record.Decode(b, &bye)
				return bye, errors.Join(err, errors.New(bye.Reason))
			}
			c.a.mu.Lock()
			err := c.receive(ctx, addr, b, nonces, beat)
			c.a.mu.Unlock()
			if err != nil {
				c.log.Error("refused what the server sent", "server", addr, "err", err)
				return bye, err
			}
		}
	}
}

// addBlocks keeps blocks of IDs from a server, those that are more than a host can need not.
func (c *Controller) addBlocks(bs []record.Block) {
	for _, b := range bs {
		if len(c.blocks[b.Kind]) < mostBlocks {
			c.blocks[b.Kind] = append(c.blocks[b.Kind], b.Block)
		}
	}
}

// saveRest saves the cache if heads, rosters or groups have changed. Nothing waits for that.
func (c *Controller) saveRest() {
	if !c.dirty {
		return
	}
	if err := c.save(nil); err != nil {
		c.log.Error("cache", "err", err)
		return
	}
	c.dirty = false
}

// retry tries again to install rings that were not acknowledged.
func (c *Controller) retry(ctx context.Context) {
	for _, l := range c.levels {
		c.work(ctx, l)
		for _, r := range l.rings {
			if r.nacked != "" {
				c.install(ctx, l, r)
			}
		}
	}
}

// receive handles one record from a server. a.mu is held.
func (c *Controller) receive(ctx context.Context, addr string, raw []byte, nonces map[record.ID]bool, beat *time.Ticker) error {
	switch record.TypeOf(raw) {
	case record.TypeWelcome:
		var w record.Welcome
		if err := record.Decode(raw, &w); err != nil {
			return err
		}
		c.addBlocks(w.Blocks)
		if w.Beat > 0 {
			beat.Reset(time.Duration(w.Beat) * time.Second)
		}
		c.learn(w.Servers)
		if c.online {
			break // it only told the servers' addresses
		}
		c.online, c.server, c.resumes, c.lastErr = true, addr, true, ""
		c.fenced = false
		c.log.Info("connected", "server", addr, "session", c.session)
	case record.TypePing: // the server checks whether this end is alive
		var p record.Ping
		if err := record.Decode(raw, &p); err != nil {
			return err
		}
		rand.Read(p.Nonce[:])
		nonces[p.Nonce] = true
		b, err := record.Encode(&p)
		if err == nil {
			c.out(b)
		}
		return err
	case record.TypeIDs:
		var m record.IDs
		if err := record.Decode(raw, &m); err != nil {
			return err
		}
		c.addBlocks(m.Blocks)
	case record.TypeSync:
		var s record.Sync
		if err := record.Decode(raw, &s); err != nil {
			return err
		}
		c.unsynced = 0
		l := c.levels[s.Head.Level]
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
			l.waits = &h // a checkpoint must bridge the gap
			c.askCheckpoint(nonces)
			return nil
		}
		l.accept(s.Head)
		c.synced(ctx, l)
	case record.TypeGrant:
		var g record.Grant
		if err := record.Decode(raw, &g); err != nil {
			return err
		}
		l := c.levels[g.Level]
		if l == nil {
			return nil
		}
		in, err := l.deleg.VerifyBy(raw, &g, c.Cluster, record.RoleRotate)
		if err != nil {
			return err
		}
		if in.ID != g.Instance || g.Session != c.session {
			return errors.New("a grant of another session")
		}
		return c.granted(ctx, l, &g, nonces)
	default:
		if c.unsynced += len(raw); c.unsynced > mostUnsynced {
			return errors.New("too many records without a sync")
		}
		_, err := c.take(raw)
		if errors.Is(err, record.ErrUnsupported) && record.TypeOf(raw) == record.TypeRing {
			// The other records are still of use, and the rotation waits for an agent that can read this one.
			return c.unsupported(raw, err)
		}
		return err
	}
	return nil
}

// unsupported tells the server that this agent is too old for a ring's record.
func (c *Controller) unsupported(raw []byte, why error) error {
	lv, id, err := record.RingOf(raw)
	l := c.levels[lv]
	if err != nil || l == nil {
		return errors.Join(why, err)
	}
	r := &ring{rec: record.Ring{ID: id, Level: lv}}
	if o := l.rings[id]; o != nil {
		r.rec.Name = o.rec.Name
	}
	c.nack(l, r, record.CodeUnsupported, fmt.Sprintf("agent %s: %v", Version, why))
	return nil
}

// Addresses returns the addresses of the servers that this host knows.
func (c *Controller) Addresses() []string {
	c.a.mu.Lock()
	defer c.a.mu.Unlock()
	return slices.Clone(c.servers)
}

// learn stores the addresses of all servers as a server reported them. With wrong addresses a host loses its
// servers, but no more: it trusts signatures only. a.mu is held.
func (c *Controller) learn(said []record.Server) {
	var l []string
	for _, s := range said {
		if _, _, err := net.SplitHostPort(s.Addr); err == nil {
			l = append(l, s.Addr)
		}
	}
	if len(l) == 0 || slices.Equal(l, c.servers) {
		return
	}
	c.servers = l
	c.log.Info("servers", "at", l)
	if c.Learned != nil {
		if err := c.Learned(slices.Clone(l)); err != nil {
			c.log.Error("where the servers are is not kept", "err", err)
		}
	}
}

func (c *Controller) askCheckpoint(nonces map[record.ID]bool) {
	var p record.Ping
	rand.Read(p.Nonce[:])
	nonces[p.Nonce] = true
	if raw, err := record.Encode(&p); err == nil {
		c.out(raw)
	}
}

// granted handles a grant: a checkpoint, and perhaps a KEK.
func (c *Controller) granted(ctx context.Context, l *level, g *record.Grant, nonces map[record.ID]bool) error {
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
		c.heard = bootTime()
		was := c.fresh && !c.slept
		c.fresh, c.slept = true, false
		if l.waits != nil && *l.waits == head {
			l.accept(head)
		}
		if l.head == head {
			c.synced(ctx, l)
		}
		if !was {
			c.a.publishOf(c, c.a.publish)
		}
		return nil
	}
	r := l.pending[g.Ring]
	if r == nil {
		return nil
	}
	if g.RingHash != record.HashOf(r.raw) {
		r.asked = time.Time{} // the ring has changed meanwhile; its new record will be pushed
		return nil
	}
	kek, err := g.OpenKEK(c.Cluster, c.hpke)
	if err != nil {
		return err
	}
	r.kek, r.epoch, r.step = kek, g.KEKEpoch, g.KEKStep
	c.work(ctx, l)
	return nil
}

// synced completes a Sync: it installs rings and publishes changes.
func (c *Controller) synced(ctx context.Context, l *level) {
	if l.waits != nil {
		return
	}
	c.work(ctx, l)
	// The member's own state may have changed: whether it may seal.
	c.a.publishOf(c, c.a.publishIfChanged)
	c.dirty = true // saved at the next beat: rings that were acknowledged are saved already
}
