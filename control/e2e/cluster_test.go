// Package e2e has the tests of servers and agents together: on a store in
// memory, over TLS on the loopback, with programs that speak the socket's
// protocol.
package e2e

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"libeesp/control/agent"
	"libeesp/control/pki"
	"libeesp/control/record"
	"libeesp/control/server"
	"libeesp/control/socket"
	"libeesp/control/store"
	"libeesp/control/store/mem"
)

// cluster is servers on one store.
type cluster struct {
	t       *testing.T
	id      record.ID
	ca      *pki.CA
	st      *mem.Store
	roots   map[record.Level]ed25519.PrivateKey
	deleg   map[record.Level][]byte
	keys    []map[record.Level]server.Keys
	servers []*node
	log     *logBuffer
	now     func() time.Time // servers' clock; nil: the machine's
	limits  server.Limits
}

type node struct {
	*server.Server
	addr string
	stop func()
	dir  string
}

// logBuffer keeps what is logged, and shows it if the test fails.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}
func (l *logBuffer) has(s string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Contains(l.b.Bytes(), []byte(s))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func randID() (id record.ID) { rand.Read(id[:]); return id }

// sealing is a cluster of one server and a group "net", and a host of it, "a", that seals.
func sealing(t *testing.T) (c *cluster, a *host, p *plane) {
	t.Helper()
	c = newCluster(t, 1, record.Zone)
	c.group("net", quick)
	a = c.join("a", true).up()
	p = a.follow("net")
	c.eventually("seals", func() bool { return p.seals(record.Zone) == 1 })
	return c, a, p
}

// secondTerm returns the root's delegation that begins a second term.
func (c *cluster) secondTerm() []byte {
	return must(record.Sign(&record.Delegation{Level: record.Zone, Serial: 2, Term: 2, Instances: c.instances(record.Zone), MinReader: 1}, c.id, c.roots[record.Zone]))
}

func newCluster(t *testing.T, servers int, levels ...record.Level) *cluster {
	t.Helper()
	c := &cluster{t: t, id: randID(), st: mem.New(), roots: map[record.Level]ed25519.PrivateKey{}, deleg: map[record.Level][]byte{}, log: &logBuffer{}}
	t.Cleanup(func() {
		if t.Failed() {
			c.log.mu.Lock()
			defer c.log.mu.Unlock()
			t.Logf("log:\n%s", c.log.b.Bytes())
		}
	})
	c.ca = must(pki.NewCA(c.id, time.Now()))
	insts := map[record.Level][]record.Instance{}
	for i := range servers {
		id := randID()
		ks := map[record.Level]server.Keys{}
		for _, lv := range levels {
			_, sk := must2(ed25519.GenerateKey(rand.Reader))
			hk := must(record.NewHPKEKey())
			ks[lv] = server.Keys{ID: id, Sign: sk, HPKE: hk}
			in := record.Instance{ID: id, Name: fmt.Sprint("s", i), HPKE: hk.PublicKey().Bytes(), Roles: 7}
			copy(in.Sign[:], sk.Public().(ed25519.PublicKey))
			insts[lv] = append(insts[lv], in)
		}
		c.keys = append(c.keys, ks)
	}
	for _, lv := range levels {
		_, c.roots[lv] = must2(ed25519.GenerateKey(rand.Reader))
		c.deleg[lv] = must(record.Sign(&record.Delegation{Level: lv, Serial: 1, Term: 1, Instances: insts[lv], MinReader: 1}, c.id, c.roots[lv]))
	}
	for i := range servers {
		c.servers = append(c.servers, &node{dir: t.TempDir()})
		c.start(i)
	}
	return c
}

func must2[A, B any](a A, b B, err error) (A, B) {
	if err != nil {
		panic(err)
	}
	return a, b
}

// start starts a server, or starts it again on its address.
func (c *cluster) start(i int, on ...store.Store) {
	c.t.Helper()
	n := c.servers[i]
	pub, key := must2(ed25519.GenerateKey(rand.Reader))
	cfg := server.Config{Cluster: c.id, Name: fmt.Sprint("s", i), CA: c.ca, Key: key, Cert: must(c.ca.Issue(pub, c.id, pki.Server, fmt.Sprint("s", i), time.Hour, time.Now(), "127.0.0.1")),
		Levels: map[record.Level]server.LevelConfig{}, Store: c.st, Dir: n.dir, Log: slog.New(slog.NewTextHandler(c.log, nil)).With("server", i)}
	cfg.Now, cfg.Limits = c.now, c.limits
	if len(on) > 0 {
		cfg.Store = on[0]
	}
	for lv, root := range c.roots {
		cfg.Levels[lv] = server.LevelConfig{Root: root.Public().(ed25519.PublicKey), Keys: c.keys[i][lv], Delegation: c.deleg[lv]}
	}
	addr := n.addr
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	// An agent that dials the address meanwhile may have the port as its own.
	l, err := net.Listen("tcp", addr)
	for end := time.Now().Add(10 * time.Second); err != nil && time.Now().Before(end); l, err = net.Listen("tcp", addr) {
		time.Sleep(time.Millisecond)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	n.addr = l.Addr().String()
	cfg.Addr, cfg.Addrs = n.addr, []string{n.addr}
	n.Server = server.New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	if err := n.Begin(ctx); err != nil && c.t.Context().Err() == nil {
		c.log.Write([]byte("begin: " + err.Error() + "\n"))
	}
	hs := n.HTTP()
	h := hs.Handler
	var requests sync.RWMutex // held while one is answered: its handler may write to the server's directory
	hs.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.RLock()
		defer requests.RUnlock()
		h.ServeHTTP(w, r)
	})
	go hs.ServeTLS(n.Listener(l), "", "")
	done := make(chan struct{})
	go func() { defer close(done); n.Run(ctx) }()
	var once sync.Once
	n.stop = func() {
		once.Do(func() {
			cancel()
			<-done
			hs.Close()
			l.Close()
			requests.Lock() // until the last is answered; no further one is
		})
	}
	c.t.Cleanup(n.stop)
}

func (c *cluster) invite(i int, auto bool) *record.Invite {
	c.t.Helper()
	v, err := c.servers[i].Invite(c.t.Context(), "test", server.InviteRequest{Uses: 100, Auto: auto})
	if err != nil {
		c.t.Fatal(err)
	}
	return must(record.ParseInvite(v.(map[string]any)["invite"].(string)))
}

// host is a member: its identity, its agent, and programs.
type host struct {
	c     *cluster
	name  string
	dir   string
	key   ed25519.PrivateKey
	cert  *x509.Certificate
	agent *agent.Agent
	stop  func()
	sock  string
	plane *plane
	err   chan error
	at    int       // the server that speak speaks to
	only  bool      // the agent knows this server alone
	out   io.Writer // what it says there
	// nil: one that lets all follow, and has no clients.
	policy *socket.Policy
	silent time.Duration // see agent.Config; 0: half a second
	groups []string      // that have a ring at this controller; see agent.Membership
	more   []*host       // what the host is at other controllers
}

// join makes a member by an invite.
func (c *cluster) join(name string, auto bool) *host {
	c.t.Helper()
	inv := c.invite(0, auto)
	pub, key := must2(ed25519.GenerateKey(rand.Reader))
	_ = pub
	csr := must(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key))
	b := must(json.Marshal(server.JoinRequest{Secret: base64.RawURLEncoding.EncodeToString(inv.Secret[:]), Name: name, CSR: csr}))
	t := agent.JoinTLS(inv)
	resp, err := agent.HTTPClient(t).Post("https://"+inv.Servers[0]+"/v1/join", "application/json", bytes.NewReader(b))
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	var a server.JoinAnswer
	if resp.StatusCode != 200 || json.NewDecoder(resp.Body).Decode(&a) != nil {
		c.t.Fatalf("join %s: %s", name, resp.Status)
	}
	p, _ := pem.Decode([]byte(a.Cert))
	h := &host{c: c, name: name, dir: c.hostDir(), key: key, cert: must(x509.ParseCertificate(p.Bytes))}
	// Where systemd-creds works it is slow; a plain key is enough here.
	if err := os.WriteFile(filepath.Join(h.dir, "cache.key"), make([]byte, 32), 0o600); err != nil {
		c.t.Fatal(err)
	}
	return h
}

func (h *host) membership() agent.Membership {
	m := agent.Membership{Cluster: h.c.id, Name: h.name, Dir: h.dir, Roots: map[record.Level]ed25519.PublicKey{}, CA: h.c.ca.Cert, Cert: h.cert, Key: h.key, Groups: h.groups}
	for i, s := range h.c.servers {
		if !h.only || i == h.at {
			m.Servers = append(m.Servers, s.addr)
		}
	}
	for lv, r := range h.c.roots {
		m.Roots[lv] = r.Public().(ed25519.PublicKey)
	}
	return m
}

// up starts the host's agent.
func (h *host) up() *host {
	h.c.t.Helper()
	p := socket.Policy{DetachGrace: 30}
	if h.policy != nil {
		p = *h.policy
	}
	ms := []agent.Membership{h.membership()}
	for _, o := range h.more {
		ms = append(ms, o.membership())
	}
	a, err := agent.New(agent.Config{Memberships: ms, Log: slog.New(slog.NewTextHandler(h.c.log, nil)).With("agent", h.name), Silent: cmp.Or(h.silent, 500*time.Millisecond), Policy: p})
	if err != nil {
		h.c.t.Fatal(err)
	}
	h.agent = a
	h.sock = filepath.Join(must(os.MkdirTemp("", "eesp")), "s")
	l, err := socket.Listen(h.sock)
	if err != nil {
		h.c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go a.Planes.Serve(l)
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	var once sync.Once
	h.err = done
	h.stop = func() {
		once.Do(func() {
			cancel()
			l.Close()
			select {
			case <-done:
			case <-time.After(2 * time.Minute):
				h.c.t.Error("the agent does not end")
			}
			os.RemoveAll(filepath.Dir(h.sock))
		})
	}
	h.c.t.Cleanup(h.stop)
	return h
}

// plane is a program that follows a group and keeps what it was given.
type plane struct {
	c       *socket.Client
	mu      sync.Mutex
	st      socket.State
	history []string
	hang    bool
	refuse  string
}

func (h *host) follow(group string) *plane {
	h.c.t.Helper()
	p := &plane{}
	var err error
	p.c, err = socket.Dial(h.sock, "test", p.apply)
	if err != nil {
		h.c.t.Fatal(err)
	}
	go p.c.Run()
	if err := p.c.Follow(group); err != nil {
		h.c.t.Fatal(err)
	}
	h.plane = p
	h.c.t.Cleanup(func() { p.c.Close() })
	return p
}

func (p *plane) apply(s socket.State) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuse != "" {
		return errors.New(p.refuse)
	}
	for p.hang {
		p.mu.Unlock()
		time.Sleep(10 * time.Millisecond)
		p.mu.Lock()
	}
	p.st = s
	for _, r := range s.Rings {
		if r != nil {
			p.history = append(p.history, fmt.Sprintf("%v/%d/seal=%d", r.State, r.Step, s.Seal))
		}
	}
	return nil
}

func (p *plane) set(f func()) { p.mu.Lock(); f(); p.mu.Unlock() }

func (p *plane) group() record.ID { p.mu.Lock(); defer p.mu.Unlock(); return p.st.Group.ID }

// opens and seals tell which generations of a level's ring the program uses.
func (p *plane) opens(lv record.Level) (gens []uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r := p.st.Rings[lv]; r != nil {
		for _, g := range r.Gens {
			gens = append(gens, g.Gen)
		}
	}
	slices.Sort(gens)
	return gens
}

func (p *plane) seals(lv record.Level) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r := p.st.Rings[lv]; r != nil && p.st.Seal == socket.SealYes {
		for _, g := range r.Gens {
			if g.Role == record.Current {
				return g.Gen
			}
		}
	}
	return 0
}

func (p *plane) value(lv record.Level, gen uint64) [32]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r := p.st.Rings[lv]; r != nil {
		for _, g := range r.Gens {
			if g.Gen == gen {
				return sha256.Sum256(g.Value[:])
			}
		}
	}
	return [32]byte{}
}

// eventually waits much longer than the condition takes, since machines may be busy.
func (c *cluster) eventually(what string, f func() bool) {
	c.t.Helper()
	c.within(2*time.Minute, what, f)
}

func (c *cluster) within(d time.Duration, what string, f func() bool) {
	c.t.Helper()
	for end := time.Now().Add(d); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			b, _ := json.Marshal(c.servers[0].Status())
			c.t.Fatalf("not in time: %s\n%s", what, b)
		}
	}
}

// ring is a ring's status at a server.
func (c *cluster) ring(i int, name string) server.RingStatus {
	for _, l := range c.servers[i].Status().Levels {
		for _, r := range l.Rings {
			if r.Name == name {
				return r
			}
		}
	}
	return server.RingStatus{}
}

func (c *cluster) member(name string) server.MemberStatus {
	for _, m := range c.servers[0].MembersStatus() {
		if m.Name == name {
			return m
		}
	}
	return server.MemberStatus{}
}

var quick = record.Policy{PathDelay: 20, MaxStale: 3600, AbsentAfter: 600, MinInterval: 0}

func (c *cluster) group(name string, p record.Policy, levels ...string) {
	c.t.Helper()
	if _, err := c.servers[0].CreateGroup(c.t.Context(), "test", server.GroupRequest{Name: name, V: 1, Levels: levels, Policy: &p}); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) rotate(q server.RotateRequest) {
	c.t.Helper()
	if _, err := c.servers[0].Rotate(c.t.Context(), "test", q); err != nil {
		c.t.Fatal(err)
	}
}

// hostDir returns a directory in memory for a host's cache: hosts have a disk each, and here they would
// share one.
func (c *cluster) hostDir() string {
	if d, err := os.MkdirTemp("/dev/shm", "eesp-host-"); err == nil {
		c.t.Cleanup(func() { os.RemoveAll(d) })
		return d
	}
	return c.t.TempDir()
}
