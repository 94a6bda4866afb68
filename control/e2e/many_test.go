package e2e

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"libeesp/control/agent"
	"libeesp/control/pki"
	"libeesp/control/record"
	"libeesp/control/server"
	"libeesp/control/setup"
	"libeesp/control/store"
	"libeesp/control/store/mem"
)

// Many agents in one process: EESP_TEST_AGENTS=1000 for as many.
func TestManyAgents(t *testing.T) {
	n := 12
	if x, err := strconv.Atoi(os.Getenv("EESP_TEST_AGENTS")); err == nil {
		n = x
	}
	c := newCluster(t, 1, record.Zone)
	var wg sync.WaitGroup
	hosts := make([]*host, n)
	for i := range hosts {
		hosts[i] = c.join("h"+strconv.Itoa(i), true)
	}
	c.group("net", quick)
	for _, h := range hosts {
		wg.Go(func() { h.up() })
	}
	wg.Wait()
	steady := func(gen uint64) func() bool {
		return func() bool {
			r := c.ring(0, "net")
			return r.State == "steady" && r.Current == gen && r.Barrier == n && len(r.Waiting) == 0
		}
	}
	c.within(5*time.Minute, "all in the barrier", steady(1))
	began, before, cpu := time.Now(), c.st.Commits(), cpuTime()
	c.rotate(server.RotateRequest{Ring: "net"})
	c.within(time.Minute, "rotated", steady(2))
	if w := c.st.Commits() - before; w > 25 {
		t.Errorf("%d writes for a rotation", w)
	}
	t.Logf("%d agents: a rotation took %v (CPU %v, of all agents and the server) and %d writes", n, time.Since(began).Round(time.Millisecond),
		(cpuTime() - cpu).Round(time.Millisecond), c.st.Commits()-before)
	t.Logf("all of them and the server in %s of memory", resident())
}

// All hosts come back at once, to a server that accepts few at a time: it tells some to come later, never
// works on more at once, and all come in the end. A host that connects again and again is told so, too, and does
// not delay the others.
func TestShed(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, record.Zone)
	c.group("net", quick)
	const n = 12
	var hosts []*host
	for i := range n {
		hosts = append(hosts, c.join("h"+strconv.Itoa(i), true))
	}
	gone := c.join("gone", true)
	c.limits = server.Limits{Beginning: 1, Waiting: 2, Retry: 1}
	// The store waits until they have met.
	var begins, most atomic.Int32
	slow := &slowStore{Store: c.st, at: func() {
		most.Store(max(most.Load(), begins.Add(1)))
		for end := time.Now().Add(20 * time.Second); !c.log.has("too many hosts begin at once") && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
		begins.Add(-1)
	}}
	c.servers[0].stop()
	c.start(0, slow)
	// Some go away while they wait for the store.
	for range 4 {
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			gone.begins(ctx)
		}()
	}
	for _, h := range hosts {
		h.up()
	}
	c.within(2*time.Minute, "all are there", func() bool { return c.servers[0].Status().Streams == n })
	if most.Load() != 1 {
		t.Errorf("%d sessions began at once", most.Load())
	}
	if !c.log.has("too many hosts begin at once") {
		t.Error("nobody was told to come later")
	}
	if testing.Verbose() {
		t.Logf("%d hosts, of which at most %d begin at once", n, most.Load())
	}
	// A host that connects again and again.
	h := *c.join("often", true)
	told := 0
	for range 40 {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		if bye, err := h.begins(ctx); err == nil && bye.Code == record.ByeLater && bye.Reason == "sessions of this host begin too often" {
			told++
		}
		cancel()
	}
	if told < 5 {
		t.Errorf("of 40 sessions at once %d were too many", told)
	}
}

// Many hosts join with one invite at once, at two servers: each takes one use of it, and after the last use
// nobody can join.
func TestJoinAtOnce(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, record.Zone)
	v, err := c.servers[0].Invite(t.Context(), "test", server.InviteRequest{Uses: 12})
	if err != nil {
		t.Fatal(err)
	}
	invite := v.(map[string]any)["invite"].(string)
	inv := must(record.ParseInvite(invite))
	var wg sync.WaitGroup
	var joined, used atomic.Int32
	for i := range 16 {
		own := *inv
		own.Servers = []string{c.servers[i%2].addr}
		text := must(own.Text())
		wg.Go(func() {
			dir := t.TempDir()
			for end := time.Now().Add(2 * time.Minute); ; {
				_, _, err := setup.Join(t.Context(), dir, text, "h"+strconv.Itoa(i))
				switch {
				case err == nil:
					joined.Add(1)
				case strings.Contains(err.Error(), "the invite is used up"):
					used.Add(1)
				case time.Now().Before(end) && (strings.Contains(err.Error(), "timeout") || strings.Contains(err.Error(), "write tcp")):
					continue // a busy machine: no server has said anything
				default:
					t.Errorf("host %d: %v", i, err)
				}
				break
			}
		})
	}
	wg.Wait()
	if joined.Load() != 12 || used.Load() != 4 {
		t.Errorf("%d joined, %d found it used up", joined.Load(), used.Load())
	}
	if n := len(c.servers[0].MembersStatus()); n != 12 {
		t.Errorf("%d members", n)
	}
}

// While many hosts join, another one is not told of each: entries that change nothing for it come once a second, and
// what does comes at once.
func TestEntriesOfOthers(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, record.Zone)
	c.group("net", quick)
	a := c.join("a", true)
	var syncs, rings atomic.Int32
	var head atomic.Value
	began := time.Now()
	go a.hear(a.hello(randID(), false), func(raw []byte) {
		switch record.TypeOf(raw) {
		case record.TypeSync:
			var s record.Sync
			if record.Decode(raw, &s) == nil {
				head.Store(s.Head.Hash.String())
				syncs.Add(1)
			}
		case record.TypeRing:
			rings.Add(1)
		}
	})
	c.eventually("it has the group", func() bool { return rings.Load() == 1 && syncs.Load() == 1 })
	for i := range 40 {
		c.join(fmt.Sprint("h", i), false)
	}
	newest := func() bool { return head.Load() == c.servers[0].Status().Levels[0].Head }
	c.eventually("it has all entries", newest)
	if n, most := int(syncs.Load()), 3+int(time.Since(began)/time.Second); n > most {
		t.Errorf("40 hosts joined: %d pushes, not %d at most", n, most)
	}
	for i := range 5 {
		c.group(fmt.Sprint("g", i), quick)
		c.eventually("it has the ring", func() bool { return int(rings.Load()) == 2+i && newest() })
	}
}

// Connections without a certificate: the number for an address is limited, and so is that for all addresses. A
// connection that lasts long is closed. A connection with a certificate does not count, and is always accepted.
func TestArrivals(t *testing.T) {
	t.Parallel()
	c, a, p := sealing(t)
	b := c.join("b", false)
	c.servers[0].stop()
	c.limits = server.Limits{Arrive: 6, Arrivals: 1e-3, Unproven: 8, Prove: 2 * time.Second}
	c.start(0)
	dial := func(from string) net.Conn {
		t.Helper()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 10 * time.Second}
		x, err := d.Dial("tcp", c.servers[0].addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { x.Close() })
		return x
	}
	closed := func(x net.Conn) bool {
		x.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		_, err := x.Read(make([]byte, 1))
		return err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
	}
	count := func(xs []net.Conn) (n int) {
		for _, x := range xs {
			if closed(x) {
				n++
			}
		}
		return n
	}
	var one []net.Conn
	for range 9 {
		one = append(one, dial("127.0.0.2"))
	}
	began := time.Now()
	c.eventually("three of nine are too many", func() bool { return count(one) >= 3 })
	if n := count(one[:6]); n != 0 && time.Since(began) < time.Second {
		t.Errorf("%d of the first six are closed", n)
	}
	// Others come; the first ones have lasted longer.
	var two []net.Conn
	for range 6 {
		two = append(two, dial("127.0.0.3"))
	}
	c.eventually("the four oldest go", func() bool { return count(one[:4]) == 4 })
	if n := count(two); n != 0 && time.Since(began) < time.Second {
		t.Errorf("%d of the newest are closed", n)
	}
	// The host connects from an address without other connections, and again and again from one whose six
	// places are taken.
	c.eventually("the host is back", func() bool { return a.agent.Status().Online })
	for i := range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if _, err := b.begins(ctx); err != nil {
			t.Fatalf("connection %d with a certificate: %v", i, err)
		}
		cancel()
	}
	c.eventually("nobody holds one for long", func() bool { return count(one) == 9 && count(two) == 6 })
	if x := dial("127.0.0.2"); !closed(x) {
		c.eventually("its places do not come back so soon", func() bool { return closed(x) })
	}
	c.rotate(server.RotateRequest{Ring: "net"})
	c.eventually("rotated", func() bool { return p.seals(record.Zone) == 2 })
}

type slowStore struct {
	*mem.Store
	at func()
}

func (s *slowStore) Commit(ctx context.Context, t store.Txn) (int64, error) {
	if len(t.Put) == 1 && strings.HasPrefix(t.Put[0].Key, "session/") {
		s.at()
	}
	return s.Store.Commit(ctx, t)
}

// begins begins a session, and leaves as soon as the server welcomes it.
func (h *host) begins(ctx context.Context) (bye record.Bye, err error) {
	hk := must(record.NewHPKEKey())
	hello := must(record.Sign(&record.Hello{Session: randID(), Boot: randID(), Nonce: randID(), Key: hk.PublicKey().Bytes(), Agent: "test"}, h.c.id, h.key))
	t := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pki.Pool(h.c.ca.Cert), Certificates: []tls.Certificate{pki.TLS(h.cert, h.key)}, NextProtos: []string{"h2"}}
	c := agent.HTTPClient(t)
	defer c.CloseIdleConnections()
	r, w := io.Pipe()
	defer w.Close()
	go w.Write(hello)
	resp, err := c.Do(must(http.NewRequestWithContext(ctx, "POST", "https://"+h.c.servers[0].addr+"/v1/stream", r)))
	if err != nil {
		return bye, err
	}
	defer resp.Body.Close()
	raw, err := server.ReadRecord(resp.Body)
	if err == nil && record.TypeOf(raw) == record.TypeBye {
		err = record.Decode(raw, &bye)
	}
	return bye, err
}

// resident returns how much memory the process has.
func resident() string {
	b, _ := os.ReadFile("/proc/self/status")
	for l := range strings.Lines(string(b)) {
		if s, ok := strings.CutPrefix(l, "VmRSS:"); ok {
			return strings.TrimSpace(s)
		}
	}
	return "unknown"
}

// cpuTime returns the CPU time that the process has used, which does not depend on other processes.
func cpuTime() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
