package e2e

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"

	"libeesp/control/pki"
	"libeesp/control/record"
	"libeesp/control/server"
	"libeesp/control/store"
	"libeesp/control/store/etcd"
)

// foreign starts an etcd with its own limits (128 operations and 1.5 MiB in one transaction) and users by their
// certificates, and returns one user's client of it, who may read and write one prefix.
func foreign(t *testing.T, ca *pki.CA, id record.ID, prefix string) store.Store {
	t.Helper()
	dir := t.TempDir()
	issue := func(role, name string, hosts ...string) tls.Certificate {
		pub, key := must2(ed25519.GenerateKey(rand.Reader))
		return pki.TLS(must(ca.Issue(pub, id, role, name, time.Hour, time.Now(), hosts...)), key)
	}
	own := issue(pki.Server, "etcd", "127.0.0.1")
	f := transport.TLSInfo{CertFile: filepath.Join(dir, "crt"), KeyFile: filepath.Join(dir, "key"), TrustedCAFile: filepath.Join(dir, "ca"), ClientCertAuth: true}
	mustNot(errors.Join(pki.WriteCert(f.CertFile, own.Leaf), pki.WriteKey(f.KeyFile, own.PrivateKey.(ed25519.PrivateKey)), pki.WriteCert(f.TrustedCAFile, ca.Cert)))
	c := embed.NewConfig()
	c.Name, c.Dir, c.ClientTLSInfo = "etcd", filepath.Join(dir, "etcd"), f
	c.ListenClientUrls = []url.URL{*must(url.Parse("https://127.0.0.1:0"))}
	c.AdvertiseClientUrls = c.ListenClientUrls
	c.ListenPeerUrls = []url.URL{{Scheme: "unix", Path: filepath.Join(dir, "peer")}}
	c.AdvertisePeerUrls = []url.URL{*must(url.Parse("http://localhost:2380"))} // a name; nothing listens there
	c.InitialCluster = "etcd=http://localhost:2380"
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	e, err := embed.StartEtcd(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	<-e.Server.ReadyNotify()
	admin := v3client.New(e.Server)
	t.Cleanup(func() { admin.Close() })
	eesp := issue(pki.Server, "eesp")
	user := eesp.Leaf.Subject.CommonName
	for _, err := range []error{
		second(admin.RoleAdd(t.Context(), "root")),
		second(admin.UserAddWithOptions(t.Context(), "root", "", &clientv3.UserAddOptions{NoPassword: true})),
		second(admin.UserGrantRole(t.Context(), "root", "root")),
		second(admin.RoleAdd(t.Context(), "eesp")),
		second(admin.RoleGrantPermission(t.Context(), "eesp", prefix, clientv3.GetPrefixRangeEnd(prefix), clientv3.PermissionType(clientv3.PermReadWrite))),
		second(admin.UserAddWithOptions(t.Context(), user, "", &clientv3.UserAddOptions{NoPassword: true})),
		second(admin.UserGrantRole(t.Context(), user, "eesp")),
		second(admin.AuthEnable(t.Context())),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	at := []string{"https://" + e.Clients[0].Addr().String()}
	dial := func(c tls.Certificate, prefix string) (store.Store, error) {
		return etcd.Dial(t.Context(), at, &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pki.Pool(ca.Cert), Certificates: []tls.Certificate{c}}, prefix)
	}
	st := must(dial(eesp, prefix))
	t.Cleanup(func() { st.Close() })
	// Its users are checked: neither another's keys nor another's certificate.
	other := must(dial(eesp, "/other/"))
	defer other.Close()
	if _, err := other.Get(t.Context(), "zone/head"); err == nil {
		t.Error("this user reads all")
	}
	if _, err := other.Commit(t.Context(), store.Txn{Put: []store.KV{{Key: "zone/head"}}}); !errors.Is(err, store.ErrRefused) || !strings.Contains(err.Error(), "may not write all of /other/") {
		t.Errorf("this user writes all: %v", err)
	}
	if s, err := dial(issue(pki.Member, "host"), prefix); err == nil {
		defer s.Close()
		if _, err := s.Get(t.Context(), "zone/head"); err == nil {
			t.Error("a host's certificate reads all")
		}
	}
	return st
}

func second[T any](_ T, err error) error { return err }

// On an etcd of somebody else, with its own limits and users: servers are added and removed, and a host is revoked,
// at a level with more rings than one transaction takes.
func TestForeignEtcd(t *testing.T) {
	t.Parallel()
	rings := 20
	if !testing.Short() {
		rings = 140 // a transaction takes 128 operations
	}
	c := newCluster(t, 1, record.Zone)
	const zero = 0
	c.servers[zero].stop()
	c.servers[zero].dir = t.TempDir()
	st := foreign(t, c.ca, c.id, "/eesp/"+c.id.String()+"/")
	c.start(zero, st)
	policy := quick
	policy.MinInterval = 3600
	c.group("net", policy)
	for i := 1; i < rings; i++ {
		if _, err := c.servers[0].CreateRing(t.Context(), "test", server.GroupRequest{Name: fmt.Sprint("r", i), Policy: &policy}); err != nil {
			t.Fatal(err)
		}
	}
	a, x := c.join("a", true).up(), c.join("x", true).up()
	p := a.follow("net")
	c.eventually("seals", func() bool { return p.seals(record.Zone) == 1 && c.ring(0, "net").Barrier == 2 })
	one := c.instance()
	if err := c.delegate(record.Zone, zero, zero, one); err != nil {
		t.Fatal(err)
	}
	c.start(one, st)
	c.eventually("the new one has read all", func() bool { return c.ring(one, fmt.Sprint("r", rings-1)).Current == 1 })
	epochs := map[string]uint32{}
	for _, r := range c.servers[one].Status().Levels[0].Rings {
		epochs[r.Name] = r.KEKEpoch
	}
	if len(epochs) != rings {
		t.Fatalf("%d rings", len(epochs))
	}
	if err := c.delegate(record.Zone, one, one); err != nil {
		t.Fatal(err)
	}
	c.eventually("the removed one stops", func() bool { return strings.Contains(c.readOnly(zero), "removed") })
	newer := func() bool {
		for _, r := range c.servers[one].Status().Levels[0].Rings {
			if r.KEKEpoch <= epochs[r.Name] || r.State != "steady" || len(r.Waiting) > 0 {
				return false
			}
		}
		return true
	}
	c.eventually("each ring has another KEK", newer)
	for _, kv := range first2(st.List(t.Context(), "zone/escrow/")) {
		var e record.Escrow
		mustNot(record.Decode(kv.Value, &e))
		if _, err := e.Open(c.id, c.keys[zero][record.Zone].ID, c.keys[zero][record.Zone].HPKE); err == nil {
			t.Errorf("%s: the removed one opens it", kv.Key)
		}
	}
	for _, r := range c.servers[one].Status().Levels[0].Rings {
		epochs[r.Name] = r.KEKEpoch
	}
	if _, err := c.servers[one].Revoke(t.Context(), "test", server.NameRequest{Name: "x"}); err != nil {
		t.Fatal(err)
	}
	c.eventually("rotated for it", newer)
	select {
	case err := <-x.err:
		x.err <- err
	case <-time.After(time.Minute):
		t.Error("the revoked host goes on")
	}
	// What this etcd does not take, a new term for more than 60 rings, changes nothing, and says why.
	if rings > 60 {
		d := must(record.Sign(&record.Delegation{Level: record.Zone, Serial: 9, Term: 2, Instances: c.instances(record.Zone), MinReader: 1}, c.id, c.roots[record.Zone]))
		err := c.servers[one].RaiseTerm(t.Context(), record.Zone, "test", server.TermRequest{Level: "zone", Delegation: d})
		if err == nil || !strings.Contains(err.Error(), "--max-txn-ops") || errors.Is(err, store.ErrConflict) || c.readOnly(one) != "" {
			t.Errorf("a new term of %d rings: %v; read-only: %s", rings, err, c.readOnly(one))
		}
	}
}

func first2[A, B any](a A, _ B, err error) A {
	if err != nil {
		panic(err)
	}
	return a
}
