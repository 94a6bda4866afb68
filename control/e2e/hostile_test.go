package e2e

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"libeesp"
	"libeesp/control/agent"
	"libeesp/control/pki"
	"libeesp/control/record"
	"libeesp/control/server"
	"libeesp/control/store"
	"libeesp/control/store/mem"
)

// speak opens a stream as a host would, with its own session, and returns the server's last record;
// within handles the other records.
func (h *host) speak(session record.ID, resumes bool, within func(raw []byte)) record.Bye {
	h.c.t.Helper()
	return h.say(h.hello(session, resumes), within)
}

func (h *host) hello(session record.ID, resumes bool) []byte {
	hk := must(record.NewHPKEKey())
	hello := &record.Hello{Session: session, Boot: randID(), Nonce: randID(), Key: hk.PublicKey().Bytes(), Agent: "test", Resumes: resumes}
	return must(record.Sign(hello, h.c.id, h.key))
}

func (h *host) say(hello []byte, within func(raw []byte)) record.Bye {
	h.c.t.Helper()
	bye, err := h.hear(hello, within)
	if err != nil {
		h.c.t.Fatal(err)
	}
	return bye
}

// hear is say for goroutines, which may not end the test.
func (h *host) hear(hello []byte, within func(raw []byte)) (bye record.Bye, err error) {
	t := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pki.Pool(h.c.ca.Cert), Certificates: []tls.Certificate{pki.TLS(h.cert, h.key)}, NextProtos: []string{"h2"}}
	c := agent.HTTPClient(t)
	defer c.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(h.c.t.Context(), 2*time.Minute)
	defer cancel()
	r, w := io.Pipe()
	defer w.Close()
	go w.Write(hello)
	h.out = w
	resp, err := c.Do(must(http.NewRequestWithContext(ctx, "POST", "https://"+h.c.servers[h.at].addr+"/v1/stream", r)))
	if err != nil {
		return bye, err
	}
	defer resp.Body.Close()
	for {
		raw, err := server.ReadRecord(resp.Body)
		if err != nil {
			return bye, fmt.Errorf("the stream ended without a last word: %w", err)
		}
		if record.TypeOf(raw) == record.TypeBye {
			err := record.Decode(raw, &bye)
			return bye, err
		}
		if within != nil {
			within(raw)
		}
	}
}

// answer answers as an agent does when its server asks whether it is alive.
func (h *host) answer(raw []byte) {
	if record.TypeOf(raw) == record.TypePing {
		h.out.Write(must(record.Encode(&record.Ping{Nonce: randID()})))
	}
}

func (p *plane) seal() uint8 { p.mu.Lock(); defer p.mu.Unlock(); return p.st.Seal }

// fenced waits until a host whose session was cloned is fenced and goes on under another
// session, with IDs of no block that the clone may have.
func (h *host) fenced(p *plane, was string, ids []uint64) {
	h.c.t.Helper()
	h.c.eventually("the original is fenced, and goes on", func() bool {
		p.mu.Lock()
		fenced := slices.ContainsFunc(p.history, func(s string) bool { return strings.HasSuffix(s, "seal=3") })
		p.mu.Unlock()
		return fenced && p.seal() == 1 && h.agent.Status().Session != was
	})
	for _, id := range must(p.c.NeedIDs(p.group(), 2)) {
		if slices.Contains(ids, id) || id>>32 == ids[0]>>32 {
			h.c.t.Errorf("ID %#x is of the block that the clone may have", id)
		}
	}
}

// A machine that was cloned while it ran: one session on two streams. Both are fenced,
// and the original goes on under another session and other IDs.
func TestClone(t *testing.T) {
	t.Parallel()
	_, a, p := sealing(t)
	was := a.agent.Status().Session
	ids := must(p.c.NeedIDs(p.group(), 2))
	var session record.ID
	hex.Decode(session[:], []byte(was))
	if bye := a.speak(session, true, nil); bye.Code != record.ByeCloned {
		t.Fatalf("the clone is told %d: %s", bye.Code, bye.Reason)
	}
	a.fenced(p, was, ids)
	// One whose connection broke before it was told comes with the session again.
	if bye := a.speak(session, true, nil); bye.Code != record.ByeCloned {
		t.Errorf("one that was not told is told %d: %s", bye.Code, bye.Reason)
	}
	if s := a.agent.Status(); s.Fenced || !s.Online {
		t.Errorf("the original is fenced again, or not online: %+v", s)
	}
}

// The clone connects to another server than its original, and the servers learn of both through the store.
// Both are fenced, and operators see it. One session that moves from server to server is not a clone.
func TestCloneAtTwoServers(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, record.Zone)
	c.group("net", quick)
	a := c.join("a", true).up()
	p := a.follow("net")
	c.eventually("seals", func() bool { return p.seals(record.Zone) == 1 })
	was, ids := a.agent.Status().Session, must(p.c.NeedIDs(p.group(), 2))
	var session record.ID
	hex.Decode(session[:], []byte(was))
	at := func() int {
		return slices.IndexFunc(c.servers, func(n *node) bool { return n.addr == a.agent.Status().Server })
	}
	// It moves, and takes its session along.
	from := at()
	c.servers[from].stop()
	c.eventually("at the other server", func() bool { s := a.agent.Status(); return s.Online && at() == 1-from })
	c.start(from)
	c.rotate(server.RotateRequest{Ring: "net"})
	c.eventually("rotated", func() bool { return p.seals(record.Zone) == 2 })
	if a.agent.Status().Session != was || c.log.has("cloned") || c.log.has("fenced") {
		t.Fatal("a host that moved was fenced")
	}
	clone := *a
	clone.at = from
	// The clone answers when it is asked, as an agent does. Its server may hear of the original's next
	// session first.
	if bye := clone.speak(session, true, clone.answer); bye.Code != record.ByeCloned && bye.Code != record.ByeFenced {
		t.Fatalf("the clone is told %d: %s", bye.Code, bye.Reason)
	}
	a.fenced(p, was, ids)
	c.eventually("both servers show it", func() bool {
		seen, cloned := 0, false
		for _, n := range c.servers {
			for _, m := range n.MembersStatus() {
				if m.Name == "a" && m.Incident != "" {
					seen++
					cloned = cloned || strings.HasPrefix(m.Incident, "cloned at ")
				}
			}
		}
		return seen == 2 && cloned
	})
}

// Two sessions of one identity begin at once, at one server and at two servers: one remains.
func TestTwoBeginAtOnce(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, record.Zone)
	a := c.join("a", true)
	type end struct {
		record.Bye
		err error
	}
	ended := make(chan end, 8)
	for i := range 8 {
		h := *a
		h.at = i % 2
		go func() {
			bye, err := h.hear(h.hello(randID(), false), nil)
			ended <- end{bye, err}
		}()
	}
	for range 7 {
		select {
		case bye := <-ended:
			if bye.err != nil {
				t.Error(bye.err)
			} else if bye.Code != record.ByeFenced {
				t.Errorf("told %d: %s", bye.Code, bye.Reason)
			}
		case <-time.After(2 * time.Minute):
			t.Fatal("two streams of one identity")
		}
	}
	if n := c.servers[0].Status().Streams + c.servers[1].Status().Streams; n != 1 {
		t.Errorf("%d streams are left", n)
	}
	c.servers[0].stop()
	c.servers[1].stop()
	<-ended // with a last word or without: servers that stop wait for nobody
}

// deaf is a store whose changes a server does not hear of.
type deaf struct{ *mem.Store }

func (deaf) Watch(ctx context.Context, _ string, _ int64) <-chan []store.KV {
	ch := make(chan []store.KV)
	context.AfterFunc(ctx, func() { close(ch) })
	return ch
}

// A host whose server does not hear of changes, and which the rotation does not wait for, sees packets of a
// key that it does not have. It asks its server to look at the store. Forged packets do not make it ask more
// often.
func TestHint(t *testing.T) {
	t.Parallel()
	for profile, name := range map[uint8]string{0: "stateless", record.ProfileTSS: "tss"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hinted(t, profile)
		})
	}
}

func hinted(t *testing.T, profile uint8) {
	c := newCluster(t, 2, record.Zone)
	q := server.GroupRequest{Name: "net", Profile: profile, V: 1, Policy: &quick}
	if profile == record.ProfileTSS {
		q.V, q.AEAD, q.Domain = 0, 1, 0x123
	}
	if _, err := c.servers[0].CreateGroup(t.Context(), "test", q); err != nil {
		t.Fatal(err)
	}
	var gs [2]*eesp.Group
	hosts := []*host{c.join("a", true), c.join("b", true)}
	c.servers[1].stop()
	c.start(1, deaf{c.st})
	for i, h := range hosts {
		h.at = i
		h.only = true
		var err error
		if gs[i], err = eesp.FollowGroup("net", eesp.FollowConfig{Socket: h.up().sock, Timeout: time.Minute}); err != nil {
			t.Fatal(err)
		}
		defer gs[i].Close()
	}
	s, r := must(eesp.NewSender(gs[0], eesp.SenderConfig{})), must(eesp.NewReceiver(eesp.ReceiverConfig{}, gs[1]))
	defer func() { s.Close(); r.Close() }()
	if err := gs[0].WaitSealing(time.Minute); err != nil {
		t.Fatal(err)
	}
	packet := func() []byte {
		q := []eesp.Packet{{Buf: make([]byte, 256), Off: 128, Len: 64}}
		if s.Seal(q); q[0].Status != eesp.OK {
			t.Fatal(q[0].Status)
		}
		return q[0].Out
	}
	open := func(b []byte) eesp.Status {
		x := []eesp.Packet{{Buf: append(make([]byte, 64), b...), Off: 64, Len: len(b)}} // behind room for addresses
		r.Open(x)
		return x[0].Status
	}
	c.eventually("opens", func() bool { return open(packet()) == eesp.OK })
	hints := func() uint64 { return hosts[1].agent.Status().Hints }
	if n := hints(); n != 0 {
		t.Errorf("%d hints, and nothing is missing", n)
	}
	c.eventually("b is waited for", func() bool { return c.member("b").State == "active" })
	if _, err := c.servers[0].Exclude(t.Context(), "test", server.NameRequest{Name: "b"}); err != nil {
		t.Fatal(err)
	}
	c.rotate(server.RotateRequest{Ring: "net"})
	c.eventually("a goes over without b", func() bool { r := c.ring(0, "net"); return r.State == "steady" && r.Current == 2 })
	if st := open(packet()); st != eesp.ErrNoKey {
		t.Fatalf("b has the key, or another thing is wrong: %v", st)
	}
	c.eventually("b has the key, after one hint", func() bool { return open(packet()) == eesp.OK })
	if n := hints(); n != 1 {
		t.Errorf("%d hints", n)
	}
	// Forged: indices that are ahead (tss: the number of no key), as fast as this machine makes them.
	b := packet()
	forge := func(f []byte, _ int) { f[0] ^= 1 } // AN: bit 24 of the first word
	if profile != record.ProfileTSS {
		at := bytes.Index(b, must(hex.DecodeString(c.ring(0, "net").ID))) - 2 // an option: type, length, index, padding, root key ID
		if at < 0 {
			t.Fatalf("no option in % x", b)
		}
		forge = func(f []byte, n int) { f[at] += byte(1 + n%100) }
	}
	began, sent := time.Now(), 0
	for end := began.Add(1500 * time.Millisecond); time.Now().Before(end); sent++ {
		f := bytes.Clone(b)
		forge(f, sent)
		if st := open(f); st != eesp.ErrNoKey {
			t.Fatalf("forged: %v", st)
		}
	}
	if n, most := hints(), 1+uint64(time.Since(began)/(10*time.Second))+1; n > most {
		t.Errorf("%d forged packets had %d hints made", sent, n)
	}
}

// A revoked host repeats the hello of its last session.
func TestRevokedReplays(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, record.Zone)
	c.group("net", quick)
	a, b := c.join("a", true).up(), c.join("b", true)
	pa := a.follow("net")
	c.eventually("seals", func() bool { return pa.seals(record.Zone) == 1 })
	hk := must(record.NewHPKEKey())
	hello := must(record.Sign(&record.Hello{Session: randID(), Boot: randID(), Nonce: randID(), Key: hk.PublicKey().Bytes(), Agent: "test"}, c.id, b.key))
	var rings atomic.Int32
	ended := make(chan record.Bye, 1)
	go func() {
		bye, err := b.hear(hello, func(raw []byte) {
			if record.TypeOf(raw) == record.TypeRing {
				rings.Add(1)
			}
		})
		if err != nil {
			t.Error(err)
		}
		ended <- bye
	}()
	c.eventually("it is there, and has been told of the ring", func() bool { return c.member("b").Connected && rings.Load() > 0 })
	if _, err := c.servers[0].Revoke(t.Context(), "test", server.NameRequest{Name: "b"}); err != nil {
		t.Fatal(err)
	}
	if bye := <-ended; bye.Code != record.ByeRevoked {
		t.Errorf("revoked: told %d", bye.Code)
	}
	if bye := b.say(hello, func(raw []byte) { t.Errorf("it got a record of type %d", record.TypeOf(raw)) }); bye.Code != record.ByeRevoked {
		t.Errorf("the same again: told %d: %s", bye.Code, bye.Reason)
	}
}

// The CA makes a certificate with a member's name for another key. The roster has the member's key,
// so the certificate is refused.
func TestCANamesMember(t *testing.T) {
	t.Parallel()
	c, _, _ := sealing(t)
	pub, key := must2(ed25519.GenerateKey(rand.Reader))
	forged := &host{c: c, name: "a", key: key, cert: must(c.ca.Issue(pub, c.id, pki.Member, "a", time.Hour, time.Now()))}
	if bye := forged.speak(randID(), false, func(raw []byte) { t.Errorf("it got a record of type %d", record.TypeOf(raw)) }); bye.Code != record.ByeRefused || bye.Reason != "not on the roster" {
		t.Errorf("told %d: %s", bye.Code, bye.Reason)
	}
	if m := c.member("a"); !m.Connected {
		t.Error("the member was fenced by it")
	}
}

// A host without a cache, and a store that was set back: the host gets nothing, since there is no
// checkpoint, until the roots begin a new term.
func TestFreshAgentOldStore(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, record.Zone)
	c.group("net", quick)
	a, fresh := c.join("a", true).up(), c.join("fresh", true)
	p := a.follow("net")
	c.eventually("seals", func() bool { return p.seals(record.Zone) == 1 })
	old := c.st.Snapshot()
	c.rotate(server.RotateRequest{Ring: "net"})
	c.eventually("rotated", func() bool { return p.seals(record.Zone) == 2 && c.ring(0, "net").State == "steady" })
	c.st.Restore(old)
	c.eventually("read-only", func() bool { return c.servers[0].Status().Levels[0].ReadOnly != "" })
	fresh.up()
	pf := fresh.follow("net")
	c.eventually("it is connected", func() bool { return fresh.agent.Status().Online })
	time.Sleep(300 * time.Millisecond)
	if o := pf.opens(record.Zone); len(o) != 0 || pf.seals(record.Zone) != 0 {
		t.Errorf("it opens %v", o)
	}
	d := c.secondTerm()
	if err := c.servers[0].RaiseTerm(t.Context(), record.Zone, "test", server.TermRequest{Level: "zone", Delegation: d, Last: 2}); err != nil {
		t.Fatal(err)
	}
	c.eventually("by the roots' word", func() bool { return pf.seals(record.Zone) == 18 && p.seals(record.Zone) == 18 })
}

// Recorded packets that are sent again while the old key still opens do not delay RETIRE: it waits for
// members, not for silence.
func TestReplayedWhileDraining(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, record.Zone)
	p := quick
	p.PathDelay = 300
	c.group("net", p)
	var gs [2]*eesp.Group
	for i, name := range []string{"a", "b"} {
		g, err := eesp.FollowGroup("net", eesp.FollowConfig{Socket: c.join(name, true).up().sock, Timeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		defer g.Close()
		gs[i] = g
	}
	s, r := must(eesp.NewSender(gs[0], eesp.SenderConfig{})), must(eesp.NewReceiver(eesp.ReceiverConfig{}, gs[1]))
	defer func() { s.Close(); r.Close() }()
	if err := gs[0].WaitSealing(time.Minute); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 256)
	q := []eesp.Packet{{Buf: b, Off: 128, Len: 64}}
	if s.Seal(q); q[0].Status != eesp.OK {
		t.Fatal(q[0].Status)
	}
	old := bytes.Clone(q[0].Out)
	seen := map[eesp.Status]int{}
	replay := func() eesp.Status {
		x := []eesp.Packet{{Buf: bytes.Clone(old), Len: len(old)}}
		r.Open(x)
		seen[x[0].Status]++
		return x[0].Status
	}
	replay()
	c.rotate(server.RotateRequest{Ring: "net"})
	c.eventually("rotated, with packets of before all the while", func() bool {
		replay()
		x := c.ring(0, "net")
		return x.State == "steady" && x.Current == 2 && len(x.Waiting) == 0
	})
	if st := replay(); st != eesp.ErrNoKey || seen[eesp.ErrReplay] == 0 {
		t.Errorf("behind it: %v; seen %v", st, seen)
	}
}

// The cache cannot be written: the host refuses the step, and nothing changes there. When it can be
// written again, the host continues.
func TestCacheFails(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, record.Zone)
	c.group("net", quick)
	a := c.join("a", true)
	// A small file system, if this process may mount one; else its directory is removed.
	full, room := func() { mustNot(os.Rename(a.dir, a.dir+".away")) }, func() { mustNot(os.Rename(a.dir+".away", a.dir)) }
	if dir := t.TempDir(); exec.Command("mount", "-t", "tmpfs", "-o", "size=64k", "none", dir).Run() == nil {
		t.Cleanup(func() { exec.Command("umount", dir).Run() })
		mustNot(os.CopyFS(filepath.Join(dir, "a"), os.DirFS(a.dir)))
		a.dir = filepath.Join(dir, "a")
		full = func() {
			f := must(os.Create(filepath.Join(dir, "filler")))
			defer f.Close()
			for n := 1 << 12; n > 0; n /= 2 { // to the last octet
				for _, err := f.Write(make([]byte, n)); err == nil; _, err = f.Write(make([]byte, n)) {
				}
			}
		}
		room = func() { os.Remove(filepath.Join(dir, "filler")) }
	}
	a.up()
	p := a.follow("net")
	c.eventually("seals", func() bool { return p.seals(record.Zone) == 1 })
	full()
	c.rotate(server.RotateRequest{Ring: "net"})
	c.eventually("held up by the cache", func() bool {
		r := c.ring(0, "net")
		return r.State == "prepared" && len(r.Waiting) == 1 && strings.Contains(r.Waiting[0].Why, "cache: ")
	})
	if o := p.opens(record.Zone); !slices.Equal(o, []uint64{1}) {
		t.Errorf("its program has what is in no cache: %v", o)
	}
	room()
	if _, err := c.servers[0].Abort(t.Context(), "test", server.NameRequest{Name: "net"}); err != nil {
		t.Fatal(err)
	}
	c.eventually("all know", func() bool { r := c.ring(0, "net"); return r.State == "steady" && len(r.Waiting) == 0 })
	c.rotate(server.RotateRequest{Ring: "net"})
	c.eventually("goes on", func() bool { return p.seals(record.Zone) == 3 })
}

// A cache that was set back, and no server: the host seals with an old key if its group allows to start
// without a server, else not at all. Then it catches up.
func TestCacheSetBack(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, record.Zone)
	c.group("net", quick)
	if _, err := c.servers[0].CreateGroup(t.Context(), "test", server.GroupRequest{Name: "careful", V: 1, NoStart: true, Policy: &quick}); err != nil {
		t.Fatal(err)
	}
	a := c.join("a", true).up()
	p, q := a.follow("net"), a.follow("careful")
	c.eventually("seals", func() bool { return p.seals(record.Zone) == 1 && q.seals(record.Zone) == 1 })
	a.stop() // all is in the cache
	file := filepath.Join(a.dir, "cache")
	old := must(os.ReadFile(file))
	a.up()
	p, q = a.follow("net"), a.follow("careful")
	c.eventually("back", func() bool { return c.member("a").Connected && q.seals(record.Zone) == 1 })
	c.rotate(server.RotateRequest{})
	c.eventually("rotated", func() bool { return p.seals(record.Zone) == 2 && q.seals(record.Zone) == 2 })
	a.stop()
	c.servers[0].stop()
	mustNot(os.WriteFile(file, old, 0o600))
	a.up()
	p, q = a.follow("net"), a.follow("careful")
	c.eventually("the old key", func() bool { return p.seals(record.Zone) == 1 && slices.Equal(q.opens(record.Zone), []uint64{1}) })
	if q.seals(record.Zone) != 0 {
		t.Error("it seals without a server's word")
	}
	c.start(0)
	c.eventually("caught up", func() bool { return p.seals(record.Zone) == 2 && q.seals(record.Zone) == 2 })
}

// All hosts and the server start at once: all come up, and rotate.
func TestAllCold(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, record.Zone)
	c.group("net", quick)
	var hosts []*host
	for i := range 8 {
		hosts = append(hosts, c.join(fmt.Sprint("h", i), true).up())
	}
	all := func(n uint64) func() bool {
		return func() bool {
			r := c.ring(0, "net")
			return r.State == "steady" && r.Current == n && r.Barrier == len(hosts) && len(r.Waiting) == 0
		}
	}
	c.eventually("all in the barrier", all(1))
	c.rotate(server.RotateRequest{Ring: "net"})
	c.eventually("prepared or behind", func() bool { return c.ring(0, "net").State != "steady" || all(2)() })
	for _, h := range hosts {
		h.stop()
	}
	c.servers[0].stop()
	var ps []*plane
	for _, h := range hosts { // the hosts first: nobody answers them
		h.up()
		ps = append(ps, h.follow("net"))
	}
	c.eventually("keys from caches", func() bool {
		return !slices.ContainsFunc(ps, func(p *plane) bool { return len(p.opens(record.Zone)) == 0 })
	})
	c.start(0)
	c.eventually("all up, and the rotation ended", func() bool {
		if r := c.ring(0, "net"); r.State == "steady" && r.Current == 1 {
			c.rotate(server.RotateRequest{Ring: "net"})
		}
		return all(2)()
	})
}

// A server whose clock is a year off accepts no host, and reports both clocks. Running hosts continue,
// and no step is done by that clock.
func TestClockOff(t *testing.T) {
	t.Parallel()
	c, _, p := sealing(t)
	c.servers[0].stop()
	c.now = func() time.Time { return time.Now().Add(365 * 24 * time.Hour) }
	c.start(0)
	c.eventually("refused, with both clocks", func() bool { return c.log.has("this clock says " + fmt.Sprint(time.Now().Year()+1)) })
	if p.seals(record.Zone) != 1 || c.member("a").Connected {
		t.Error("the host has stopped, or was let in")
	}
	c.servers[0].stop()
	c.now = nil
	c.start(0)
	c.eventually("back", func() bool { return c.member("a").Connected })
	c.rotate(server.RotateRequest{Ring: "net"})
	c.eventually("rotated", func() bool { return p.seals(record.Zone) == 2 })
}

// Watches break again and again, also in the middle of a rotation: servers list the store again, compare,
// and continue. Two rotations that are requested at once become two, or one.
func TestWatchesBreak(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, record.Zone)
	c.group("net", quick)
	a, b := c.join("a", true).up(), c.join("b", true).up()
	pa, pb := a.follow("net"), b.follow("net")
	c.eventually("both seal", func() bool { return pa.seals(record.Zone) == 1 && pb.seals(record.Zone) == 1 })
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(3 * time.Millisecond):
				c.st.Break()
			}
		}
	}()
	for n := uint64(2); n <= 4; n++ {
		c.rotate(server.RotateRequest{Ring: "net"})
		if _, err := c.servers[1].Rotate(t.Context(), "test", server.RotateRequest{Ring: "net"}); err != nil {
			t.Fatal(err)
		}
		// A request while a rotation runs joins it.
		c.eventually("rotated", func() bool {
			return pa.seals(record.Zone) >= n && pb.seals(record.Zone) >= n && c.ring(0, "net").State == "steady" && c.ring(1, "net").State == "steady"
		})
	}
	c.eventually("at rest", func() bool {
		r := c.ring(0, "net")
		return r.State == "steady" && len(r.Waiting) == 0 && pa.seals(record.Zone) == r.Current && pb.seals(record.Zone) == r.Current
	})
	if r := c.ring(0, "net"); r.Current > 7 || pa.value(record.Zone, r.Current) != pb.value(record.Zone, r.Current) {
		t.Errorf("generation %d after three rotations that were asked for twice", r.Current)
	}
}

func mustNot(err error) {
	if err != nil {
		panic(err)
	}
}
