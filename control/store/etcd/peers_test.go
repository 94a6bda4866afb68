package etcd

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"libeesp/control/pki"
	"libeesp/control/record"
)

// The CA signs servers' certificates and hosts': a store lets servers in, and no host.
func TestPeers(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cluster := record.ID{1}
	ca, err := pki.NewCA(cluster, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	issue := func(role, name string, hosts ...string) tls.Certificate {
		pub, key, _ := ed25519.GenerateKey(rand.Reader)
		c, err := ca.Issue(pub, cluster, role, name, time.Hour, time.Now(), hosts...)
		if err != nil {
			t.Fatal(err)
		}
		return pki.TLS(c, key)
	}
	dir, own := t.TempDir(), issue(pki.Server, "a", "127.0.0.1")
	f := Files{Cert: filepath.Join(dir, "crt"), Key: filepath.Join(dir, "key"), CA: filepath.Join(dir, "ca")}
	for _, err := range []error{pki.WriteCert(f.Cert, own.Leaf), pki.WriteKey(f.Key, own.PrivateKey.(ed25519.PrivateKey)), pki.WriteCert(f.CA, ca.Cert)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	peer := "https://" + l.Addr().String()
	l.Close()
	s, err := Embed(ctx, Embedded{Dir: filepath.Join(dir, "etcd"), Name: "a", Peer: peer, Cluster: "a=" + peer, TLS: f})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ask := func(c tls.Certificate) error {
		h := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pki.Pool(ca.Cert), Certificates: []tls.Certificate{c}}}}
		defer h.CloseIdleConnections()
		r, err := h.Get(peer + "/version")
		if err == nil {
			r.Body.Close()
		}
		return err
	}
	if err := ask(issue(pki.Server, "b", "127.0.0.1")); err != nil {
		t.Errorf("another server: %v", err)
	}
	for _, role := range []string{pki.Member, pki.Client, pki.Admin} {
		if ask(issue(role, "server a", "127.0.0.1")) == nil {
			t.Errorf("a %s's certificate gets at the store", role)
		}
	}
}
