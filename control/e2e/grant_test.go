package e2e

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"libeesp"
	"libeesp/control/client"
	"libeesp/control/record"
	"libeesp/control/server"
	"libeesp/control/socket"
)

// granter is a host that gives keys to clients, with a program that makes them.
type granter struct {
	*host
	g    *eesp.Group
	r    *eesp.Receiver
	addr string
}

// client makes a client's key and certificate by the server.
func (c *cluster) client(name string) client.Config {
	c.t.Helper()
	_, key := must2(ed25519.GenerateKey(rand.Reader))
	csr := must(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key))
	v, err := c.servers[0].Client(c.t.Context(), "test", server.ClientRequest{Name: name, CSR: csr})
	if err != nil {
		c.t.Fatal(err)
	}
	p, _ := pem.Decode([]byte(v.(server.ClientAnswer).Cert))
	return client.Config{Cluster: c.id, CA: c.ca.Cert, Cert: must(x509.ParseCertificate(p.Bytes)), Key: key, Granter: "g"}
}

func ruleOf(c client.Config, groups ...string) socket.ClientRule {
	return socket.ClientRule{Name: strings.TrimPrefix(c.Cert.URIs[0].Path, "/client/"), Key: fmt.Sprintf("%x", sha256.Sum256(c.Cert.RawSubjectPublicKeyInfo)), Groups: groups}
}

func (c *cluster) granter(group string, p socket.Policy) *granter {
	c.t.Helper()
	h := c.join("g", true)
	h.policy, h.silent = &p, time.Minute // a client asks once: the answer is waited for
	return h.up().grants(group)
}

// grants makes a host that runs a granter, at each of its controllers.
func (h *host) grants(group string) *granter {
	h.c.t.Helper()
	x := &granter{host: h}
	x.attach(group)
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	s := &http.Server{Handler: h.agent.GrantHandler(), TLSConfig: h.agent.GrantTLS(), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}
	go s.ServeTLS(l, "", "")
	h.c.t.Cleanup(func() { s.Close() })
	x.addr = l.Addr().String()
	for _, o := range append([]*host{h}, h.more...) {
		if _, err := o.c.servers[0].Granter(h.c.t.Context(), "test", server.GranterRequest{Name: h.name}); err != nil {
			h.c.t.Fatal(err)
		}
		o.c.eventually("a granter in the barrier", func() bool { m := o.c.member(h.name); return m.State == "active" && m.Granter })
	}
	return x
}

func (x *granter) attach(group string) {
	x.c.t.Helper()
	var err error
	if x.g, err = eesp.FollowGroup(group, eesp.FollowConfig{Socket: x.sock, Timeout: time.Minute, Clients: true}); err != nil {
		x.c.t.Fatal(err)
	}
	if x.r, err = eesp.NewReceiver(eesp.ReceiverConfig{}, x.g); err != nil {
		x.c.t.Fatal(err)
	}
	x.c.t.Cleanup(func() { x.r.Close(); x.g.Close() })
}

// end is a client with a pair, and the program's sender to it.
type end struct {
	grant   *record.ClientGrant
	id      uint64 // up
	s, to   *eesp.Sender
	r       *eesp.Receiver
	program *granter
}

func (c *cluster) ask(x *granter, cl client.Config, group string, renew uint64) (*record.ClientGrant, error) {
	cl.Addr = x.addr
	return client.Grant(c.t.Context(), cl, group, renew)
}

func (c *cluster) newEnd(x *granter, cl client.Config, group string) *end {
	c.t.Helper()
	var g *record.ClientGrant
	c.eventually("a grant", func() bool {
		var err error
		if g, err = c.ask(x, cl, group, 0); err != nil {
			c.log.Write([]byte("grant: " + err.Error() + "\n"))
		}
		return err == nil
	})
	up, down := client.Keys(g)
	e := &end{grant: g, id: up.ID, program: x}
	e.s = must(eesp.NewSenderWithKey(up, eesp.SenderConfig{Counter: eesp.CounterExplicit}))
	e.r = must(eesp.NewReceiverWithKey(down, eesp.ReceiverConfig{}))
	e.to = must(x.g.ClientSender(down.ID))
	c.t.Cleanup(func() { e.s.Close(); e.r.Close(); e.to.Close() })
	return e
}

func through(s *eesp.Sender, r *eesp.Receiver) eesp.Status {
	b := make([]byte, 256)
	p := []eesp.Packet{{Buf: b, Off: 128, Len: 64}}
	if s.Seal(p); p[0].Status != eesp.OK {
		return p[0].Status
	}
	q := []eesp.Packet{{Buf: b, Off: 128 - s.HeaderLen(), Len: len(p[0].Out)}}
	r.Open(q)
	return q[0].Status
}

func (e *end) works(t *testing.T, step string) {
	t.Helper()
	if up, down := through(e.s, e.program.r), through(e.to, e.r); up != eesp.OK || down != eesp.OK {
		t.Errorf("%s: up %v, down %v", step, up, down)
	}
}

// A client outside gets a pair of keys from a granter. An emergency cuts its lease off, and
// another rotation waits for it.
func TestGrant(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, record.Zone, record.User)
	c.group("net", quick)
	good, other, greedy := c.client("laptop"), c.client("laptop"), c.client("greedy")
	few := ruleOf(greedy, "net")
	few.Minute, few.Live = 3, 2
	// The longest lease: none ends while this runs, however busy the machine is.
	x := c.granter("net", socket.Policy{DetachGrace: 30, ClientLease: 600, Clients: []socket.ClientRule{ruleOf(good, "net"), few}})
	peer := c.join("peer", true).up()
	pp := peer.follow("net")
	c.eventually("the peer seals", func() bool { return pp.seals(record.Zone) == 1 })
	e := c.newEnd(x, good, "net")
	e.works(t, "at first")
	if g := e.grant; g.Lease != 600 || g.RenewAfter != 300 || len(g.Generations) != 2 || g.Up.Connection == g.Down.Connection || g.Up.Connection>>63 != 0 {
		t.Errorf("%+v", g)
	}
	// Renewed: the same again.
	if g := must(c.ask(x, good, "net", e.id)); g.Up.Connection != e.grant.Up.Connection || string(g.Up.Key) != string(e.grant.Up.Key) {
		t.Error("renewed: another pair")
	}
	// Refused: another key with this name, a host's certificate, another group.
	if _, err := c.ask(x, other, "net", 0); err == nil || !strings.Contains(err.Error(), "no client laptop with this key") {
		t.Errorf("another key of the name: %v", err)
	}
	if _, err := c.ask(x, good, "other", 0); err == nil || !strings.Contains(err.Error(), "for group other") {
		t.Errorf("another group: %v", err)
	}
	member := client.Config{Cluster: c.id, CA: c.ca.Cert, Cert: peer.cert, Key: peer.key, Granter: "g"}
	if _, err := c.ask(x, member, "net", 0); err == nil {
		t.Error("a member's certificate is a client's")
	}
	wrong := good
	wrong.Granter = "somebody"
	if _, err := c.ask(x, wrong, "net", 0); err == nil || !strings.Contains(err.Error(), "is not the granter somebody") {
		t.Errorf("another granter: %v", err)
	}
	// Limits.
	for i := range 2 {
		if _, err := c.ask(x, greedy, "net", 0); err != nil {
			t.Errorf("pair %d: %v", i, err)
		}
	}
	if _, err := c.ask(x, greedy, "net", 0); err == nil || !strings.Contains(err.Error(), "2 pairs live at once") {
		t.Errorf("too many at once: %v", err)
	}

	// An emergency does not wait: leases are cut off.
	e.works(t, "before the emergency")
	c.rotate(server.RotateRequest{Ring: "net", Emergency: true})
	c.eventually("cut off", func() bool { return through(e.to, e.r) == eesp.ErrNoKey })
	c.eventually("said", func() bool { return c.log.has("lease is cut off") })
	c.eventually("rotated in an emergency, at both levels", func() bool {
		for _, l := range c.servers[0].Status().Levels {
			for _, r := range l.Rings {
				if r.State != "steady" || r.Current != 2 {
					return false
				}
			}
		}
		return true
	})

	// Another rotation waits for the lease, though it sits between two hosts that are ready.
	e = c.newEnd(x, good, "net")
	e.works(t, "the other pair")
	c.rotate(server.RotateRequest{Ring: "net"})
	c.eventually("held up by the lease", func() bool {
		r := c.ring(0, "net")
		return r.State == "active" && len(r.Waiting) == 1 && r.Waiting[0].Member == "g" && strings.Contains(r.Waiting[0].Why, "leases")
	})
	e.works(t, "while it waits")
	n := must(c.ask(x, good, "net", e.id)) // not renewed any more: another pair
	if n.Up.Connection == e.grant.Up.Connection {
		t.Error("a lease on a generation that goes was renewed")
	}

	// No granter any more.
	if _, err := c.servers[0].Granter(t.Context(), "test", server.GranterRequest{Name: "g", Off: true}); err != nil {
		t.Fatal(err)
	}
	c.eventually("refused", func() bool {
		_, err := c.ask(x, good, "net", 0)
		return err != nil && strings.Contains(err.Error(), "no granter")
	})
}

// A rotation goes on when a lease ends, not sooner; then nothing is sealed to the client.
func TestGrantEnds(t *testing.T) {
	t.Parallel()
	const lease = 2 * time.Second
	c := newCluster(t, 1, record.Zone)
	c.group("net", quick)
	cl := c.client("laptop")
	x := c.granter("net", socket.Policy{DetachGrace: 30, ClientLease: int(lease / time.Second), Clients: []socket.ClientRule{ruleOf(cl, "net")}})
	began := time.Now() // the lease begins later
	e := c.newEnd(x, cl, "net")
	c.rotate(server.RotateRequest{Ring: "net"})
	c.eventually("rotated", func() bool { r := c.ring(0, "net"); return r.State == "steady" && r.Current == 2 })
	if d := time.Since(began); d < lease {
		t.Errorf("rotated after %v, with a lease of %v", d, lease)
	}
	if s := through(e.to, e.r); s != eesp.ErrNoKey {
		t.Errorf("the lease is over, and to the client: %v", s)
	}
}

// The agent restarts and knows no lease: it acknowledges nothing that would end a lease which it may
// have given. When the program restarts, its pairs are gone.
func TestGrantRestarts(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, record.Zone)
	c.group("net", quick)
	cl := c.client("laptop")
	x := c.granter("net", socket.Policy{DetachGrace: 0, Clients: []socket.ClientRule{ruleOf(cl, "net")}})
	e := c.newEnd(x, cl, "net")
	e.works(t, "at first")
	x.r.Close()
	x.g.Close()
	x.attach("net")
	g := must(c.ask(x, cl, "net", e.id))
	if g.Up.Connection == e.grant.Up.Connection {
		t.Error("a pair of a program that is gone was renewed")
	}
	if _, err := os.Stat(filepath.Join(x.dir, "leases")); err != nil {
		t.Error(err)
	}
	x.stop()
	x.up()
	c.eventually("back", func() bool { return len(c.ring(0, "net").Waiting) == 0 && c.member("g").Connected })
	c.rotate(server.RotateRequest{Ring: "net"})
	c.eventually("held up", func() bool {
		r := c.ring(0, "net")
		return r.State == "active" && len(r.Waiting) == 1 && strings.Contains(r.Waiting[0].Why, "leases")
	})
	time.Sleep(300 * time.Millisecond)
	if s := c.ring(0, "net").State; s != "active" {
		t.Errorf("it is %s, ten minutes too early", s)
	}
}

// psp: device keys never leave the program; SPIs come from blocks, each once.
func TestGrantPSP(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, record.Zone)
	if _, err := c.servers[0].CreateGroup(t.Context(), "test", server.GroupRequest{Name: "nic", Profile: record.ProfilePSP, AEAD: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.servers[0].CreateGroup(t.Context(), "test", server.GroupRequest{Name: "nic", Profile: record.ProfilePSP}); err == nil {
		t.Error("two groups of one name")
	}
	cl := c.client("laptop")
	x := c.granter("nic", socket.Policy{DetachGrace: 30, Clients: []socket.ClientRule{ruleOf(cl, "nic")}})
	seen := map[uint32]bool{}
	for range 3 {
		e := c.newEnd(x, cl, "nic")
		e.works(t, "psp")
		for _, spi := range []uint32{e.grant.Up.SPI, e.grant.Down.SPI} {
			if seen[spi&^(1<<31)] || spi&^(1<<31) < 1<<11 || e.grant.Up.Connection != 0 {
				t.Errorf("SPI %#x", spi)
			}
			seen[spi&^(1<<31)] = true
		}
		if g := must(c.ask(x, cl, "nic", e.id)); g.Up.SPI != e.grant.Up.SPI {
			t.Error("renewed: another pair")
		}
	}
	// Another process has other device keys, and SPIs that none had.
	x.r.Close()
	x.g.Close()
	x.attach("nic")
	if e := c.newEnd(x, cl, "nic"); seen[e.grant.Up.SPI&^(1<<31)] {
		t.Error("an SPI twice")
	} else {
		e.works(t, "another program")
	}
}
