package agent

import (
	"context"
	"crypto/ed25519"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"libeesp/control/pki"
	"libeesp/control/record"
	"libeesp/control/socket"
	"libeesp/internal/testrun"
)

// No server is used whose route is a tunnel of a program that follows here, or of the policy, be the
// route there from the start or come later. In a network namespace of its own.
func TestThroughTunnel(t *testing.T) {
	if os.Getenv("EESP_TEST_NETNS") == "" {
		c := exec.Command("unshare", "-n", os.Args[0], "-test.run=^TestThroughTunnel$", "-test.v")
		c.Env = append(os.Environ(), "EESP_TEST_NETNS=1")
		out, err := c.CombinedOutput()
		switch {
		case errors.Is(err, exec.ErrNotFound) || strings.Contains(string(out), "unshare failed") || strings.Contains(string(out), "SKIP") || os.Getuid() != 0:
			t.Logf("%s", out)
			testrun.Skip(t, "no network namespace, TUN device or veth pair here, or not root")
		case err != nil:
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip(err)
	}
	tun, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skip(err)
	}
	defer unix.Close(tun)
	r, _ := unix.NewIfreq("eesp0")
	r.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(tun, unix.TUNSETIFF, r); err != nil {
		t.Skip(err)
	}
	ip := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %s", args, out)
		}
	}
	ip("link", "set", "lo", "up")
	ip("link", "set", "eesp0", "up")
	ip("address", "add", "10.98.0.1/24", "dev", "eesp0")
	ip("-6", "address", "add", "fd00:98::1/64", "dev", "eesp0", "nodad")
	if out, err := exec.Command("ip", "link", "add", "plain", "type", "veth", "peer", "name", "other").CombinedOutput(); err != nil {
		t.Skipf("no veth here: %v %s", err, out)
	}
	ip("link", "set", "plain", "up")
	ip("link", "set", "other", "up")
	ip("address", "add", "10.97.0.1/24", "dev", "plain")
	for addr, want := range map[string]string{"10.98.0.2": "eesp0", "fd00:98::2": "eesp0", "10.97.0.2": "plain", "127.0.0.1": "lo"} {
		if dev, err := routeOf(netip.MustParseAddr(addr)); dev != want {
			t.Errorf("%s by %q, not %q: %v", addr, dev, want, err)
		}
	}
	if dev, err := routeOf(netip.MustParseAddr("192.0.2.1")); err == nil {
		t.Errorf("no route, and %q", dev)
	}

	id, dir := record.ID{1}, t.TempDir()
	ca, err := pki.NewCA(id, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pub, key, _ := ed25519.GenerateKey(nil)
	cert, err := ca.Issue(pub, id, pki.Member, "h", time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cache.key"), make([]byte, 32), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := New(Config{Memberships: []Membership{{Cluster: id, Name: "h", Dir: dir, Servers: []string{"10.98.0.2:7443"}, Roots: map[record.Level]ed25519.PublicKey{record.Zone: pub}, CA: ca.Cert, Cert: cert, Key: key}}})
	if err != nil {
		t.Fatal(err)
	}
	refused := func(addr, who string) {
		t.Helper()
		err := a.tunnelled(t.Context(), addr)
		if who == "" && err != nil || who != "" && (err == nil || !strings.Contains(err.Error(), "is routed through eesp0, the tunnel of "+who)) {
			t.Errorf("%s, tunnel of %q: %v", addr, who, err)
		}
	}
	refused("10.98.0.2:7443", "") // it is nobody's yet
	a.Policy.Tunnels = []string{"ees*"}
	refused("10.98.0.2:7443", "the policy")
	refused("[fd00:98::2]:7443", "the policy")
	refused("10.97.0.2:7443", "")
	a.Policy.Tunnels = nil
	l, err := socket.Listen(filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go a.Planes.Serve(l)
	gw, err := socket.Dial(filepath.Join(dir, "s"), "gw", func(socket.State) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	defer gw.Close()
	for end := time.Now().Add(10 * time.Second); len(a.Planes.Devices()) == 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	refused("10.98.0.2:7443", "gw[")
	refused("[fd00:98::2]:7443", "gw[")
	refused("10.97.0.2:7443", "")

	// The agent says so, and dials nobody; with another route it does.
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); a.Run(ctx) }()
	says := func(what string) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); !strings.Contains(a.Status().Error, what); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("it says %q, not %q", a.Status().Error, what)
			}
		}
	}
	says("is routed through eesp0")
	ip("address", "add", "10.98.0.2/32", "dev", "lo")
	says("connection refused")
	cancel()
	<-ended
}
