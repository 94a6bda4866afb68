package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"libeesp/control/agent"
	"libeesp/control/pki"
	"libeesp/control/server"
	"libeesp/control/setup"
	"libeesp/control/store/mem"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestMain(m *testing.M) {
	os.Setenv("EESP_PASSPHRASE", "for tests")
	os.Exit(m.Run())
}

// place is a cluster of one server, made by eespctl init, on a store in memory.
type place struct {
	t    *testing.T
	dir  string
	addr string
	sock string
	st   *mem.Store
	stop func()
	ends map[string]func() // of hosts' agents, by directory
}

func newPlace(t *testing.T) *place {
	t.Parallel()
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	p := &place{t: t, dir: filepath.Join(t.TempDir(), "c"), addr: l.Addr().String(), st: mem.New()}
	l.Close()
	p.sock = filepath.Join(must(os.MkdirTemp("", "eesp")), "a")
	t.Cleanup(func() { os.RemoveAll(filepath.Dir(p.sock)) })
	p.json(0, "init", "--dir", p.dir, "--server", "s="+p.addr)
	p.start(false)
	return p
}

// start starts the server; await: with an empty store, for a restore.
func (p *place) start(await bool) {
	p.t.Helper()
	c, _, err := setup.LoadServer(filepath.Join(p.dir, "s"))
	if err != nil {
		p.t.Fatal(err)
	}
	c.Store, c.Log = p.st, slog.New(slog.DiscardHandler)
	s := server.New(c)
	ctx, cancel := context.WithCancel(context.Background())
	if !await {
		if err := s.Begin(ctx); err != nil {
			p.t.Fatal(err)
		}
	}
	l := must(net.Listen("tcp", p.addr))
	hs := &http.Server{Handler: s.Secure(), TLSConfig: s.TLSConfig(), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}
	go hs.ServeTLS(l, "", "")
	os.Remove(p.sock)
	al := must(net.Listen("unix", p.sock))
	as := &http.Server{Handler: s.LocalHandler()}
	go as.Serve(al)
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	var once sync.Once
	p.stop = func() {
		once.Do(func() {
			cancel()
			<-done
			hs.Close()
			as.Close()
		})
	}
	p.t.Cleanup(p.stop)
}

// run runs a command as main does; want is its exit status.
func (p *place) run(want int, args ...string) (out string, err error) {
	p.t.Helper()
	var b bytes.Buffer
	err = run(p.t.Context(), append([]string{"--socket", p.sock}, args...), &b)
	code := 0
	var e exit
	if errors.As(err, &e) {
		code = e.code
	} else if err != nil {
		code = exitFailed
	}
	if code != want {
		p.t.Fatalf("eespctl %s: exit status %d, not %d: %v\n%s", strings.Join(args, " "), code, want, err, b.String())
	}
	return b.String(), err
}

// json runs a command with --json, whose output is to be JSON and nothing else.
func (p *place) json(want int, args ...string) (v any) {
	p.t.Helper()
	out, _ := p.run(want, append([]string{"--json"}, args...)...)
	d := json.NewDecoder(strings.NewReader(out))
	if err := d.Decode(&v); err != nil || d.More() {
		p.t.Fatalf("eespctl --json %s: %q: %v", strings.Join(args, " "), out, err)
	}
	return v
}

// at picks what is at a path of keys and numbers.
func at(v any, path ...any) any {
	for _, k := range path {
		switch k := k.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[k]
		case int:
			l, _ := v.([]any)
			if k >= len(l) {
				return nil
			}
			v = l[k]
		}
	}
	return v
}

func (p *place) eventually(what string, f func() bool) {
	p.t.Helper()
	for end := time.Now().Add(time.Minute); !f(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			out, _ := p.runAny("status")
			p.t.Fatal("never: ", what, "\n", out)
		}
	}
}

// host joins, and runs an agent until the test's end; err has what ended it.
func (p *place) host(name string, change func(*agent.Config)) (dir string, err chan error) {
	p.t.Helper()
	dir = filepath.Join(p.t.TempDir(), name)
	invite := at(p.json(0, "invite"), "invite").(string)
	if _, _, err := setup.Join(p.t.Context(), dir, invite, name); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cache.key"), make([]byte, 32), 0o600); err != nil {
		p.t.Fatal(err)
	}
	return dir, p.runHost(dir, change)
}

// runHost runs an agent; endHost ends it.
func (p *place) runHost(dir string, change func(*agent.Config)) (err chan error) {
	p.t.Helper()
	c := must(setup.LoadAgent(dir))
	if change != nil {
		change(&c)
	}
	a := must(agent.New(c))
	ctx, cancel := context.WithCancel(context.Background())
	err = make(chan error, 1)
	ended := make(chan struct{})
	go func() { defer close(ended); err <- a.Run(ctx) }()
	if p.ends == nil {
		p.ends = map[string]func(){}
	}
	p.ends[dir] = func() { cancel(); <-ended }
	p.t.Cleanup(p.ends[dir])
	return err
}

func (p *place) endHost(dir string) { p.ends[dir]() }

func (p *place) ring() any { return at(p.json(0, "status"), "levels", 0, "rings", 0) }

// Every command, with --json, and what it changes.
func TestCommands(t *testing.T) {
	p := newPlace(t)
	if v := at(p.json(0, "group", "create", "net", "--path-delay", "10ms", "--min-interval", "0s"), "group"); v == nil {
		t.Error("no group")
	}
	_, ended := p.host("a", nil)
	p.host("b", nil)
	if v := at(p.json(0, "members"), 0, "state"); v != "invited" {
		t.Errorf("a host that joined is %v", v)
	}
	if v, _ := at(p.json(0, "admit", "--all"), "admitted").(map[string]any); len(v) != 2 {
		t.Errorf("admitted: %v", v)
	}
	p.eventually("both in the barrier", func() bool { return at(p.ring(), "barrier") == 2.0 })
	p.json(0, "rotate", "net", "--watch", "--timeout", "30s")
	if g := at(p.ring(), "current"); g != 2.0 {
		t.Errorf("generation %v after a rotation", g)
	}
	p.json(0, "rotate", "net", "--emergency", "--watch", "--timeout", "30s", "--reason", "test")
	p.json(0, "freeze", "a holiday")
	if v := at(p.json(0, "status"), "frozen"); v != "a holiday" {
		t.Errorf("frozen: %v", v)
	}
	if _, err := p.run(exitFailed, "rotate", "net"); err == nil || !strings.Contains(err.Error(), "frozen: a holiday (eespctl thaw") {
		t.Errorf("rotates by hand: %v", err)
	}
	if _, err := p.run(exitFailed, "rotate", "net", "--emergency", "--reason", "two\nlines"); err == nil || !strings.Contains(err.Error(), "one line") {
		t.Errorf("a reason of two lines: %v", err)
	}
	p.json(0, "thaw")
	p.json(0, "grant", "host", "b")
	if v := at(p.json(0, "members"), 1, "granter"); v != true {
		t.Errorf("granter: %v", v)
	}
	out := filepath.Join(t.TempDir(), "laptop")
	if v := p.json(0, "grant", "client", "laptop", "--out", out); at(v, "rule", "key") != at(v, "key") || must(os.Stat(filepath.Join(out, "client.key"))).Mode().Perm() != 0o600 {
		t.Errorf("client: %v", v)
	}
	p.json(0, "grant", "host", "b", "--off")
	p.run(exitFailed, "epoch", "net")
	p.json(0, "group", "create", "job", "--profile", "tss", "--path-delay", "10ms")
	p.eventually("both have the other ring", func() bool {
		r := at(p.json(0, "status"), "levels", 0, "rings", 0)
		w, _ := at(r, "waiting").([]any)
		return at(r, "name") == "job" && at(r, "barrier") == 2.0 && len(w) == 0
	})
	if v := at(p.json(0, "epoch", "job", "--reason", "test"), "epochs", "job"); v != 1.0 {
		t.Errorf("epoch: %v", v)
	}
	p.json(0, "exclude", "b", "--reason", "test")
	p.eventually("back", func() bool { return at(p.ring(), "barrier") == 2.0 })
	p.json(0, "revoke", "a", "--reason", "test")
	if err := <-ended; !errors.Is(err, agent.ErrRevoked) {
		t.Errorf("the revoked host's agent: %v", err)
	}
	p.eventually("rotated without it", func() bool {
		r := at(p.json(0, "status"), "levels", 0, "rings", 1)
		return at(r, "name") == "net" && at(r, "current") == 4.0 && at(r, "state") == "steady"
	})
	if v := at(p.json(0, "audit", "verify"), "ok"); v != true {
		t.Errorf("audit: %v", v)
	}
	log := p.json(0, "audit").([]any)
	var changes []string
	for _, e := range log {
		changes = append(changes, fmt.Sprint(at(e, "change")))
	}
	for _, want := range []string{"genesis", "create", "admit", "prepare", "activate", "retire", "revoke"} {
		if !strings.Contains(strings.Join(changes, " "), want) {
			t.Errorf("no %s in the log: %v", want, changes)
		}
	}
	last := at(log[len(log)-1], "hash").(string)
	p.json(0, "audit", "verify", "--head", last)
	if _, err := p.run(exitFailed, "audit", "verify", "--head", strings.Repeat("0", 64)); !strings.Contains(err.Error(), "cut off") {
		t.Error(err)
	}
}

// Messages on wrong arguments say what to do.
func TestWrongArguments(t *testing.T) {
	p := newPlace(t)
	p.run(0, "group", "create", "net")
	for _, x := range []struct {
		args string
		code int
		text string
	}{
		{"", exitUsage, "no command"},
		{"nonsense", exitUsage, "no command \"nonsense\""},
		{"--nonsense status", exitUsage, "nonsense"},
		{"status extra", exitUsage, "status takes no words"},
		{"members extra", exitUsage, "members takes no words"},
		{"thaw extra", exitUsage, "thaw takes no words"},
		{"freeze", exitUsage, "freeze REASON"},
		{"admit", exitUsage, "admit NAME"},
		{"admit nobody", exitFailed, "nobody"},
		{"revoke", exitUsage, "revoke NAME"},
		{"revoke nobody", exitFailed, "nobody"},
		{"exclude nobody", exitFailed, "nobody"},
		{"grant", exitUsage, "grant host NAME"},
		{"grant client x", exitUsage, "--out DIR"},
		{"grant host nobody", exitFailed, "nobody"},
		{"grant host a --out /tmp", exitUsage, "grant host NAME"},
		{"epoch", exitUsage, "epoch RING"},
		{"epoch net", exitFailed, "no group of tss"},
		{"abort", exitUsage, "abort NAME"},
		{"abort net", exitFailed, "ABORT in state steady"},
		{"rotate nonsense", exitFailed, "nonsense"},
		{"rotate net --hard", exitUsage, "--emergency"},
		{"rotate net other", exitUsage, "rotate [RING]"},
		{"rotate net --timeout x", exitUsage, "invalid value"},
		{"group", exitUsage, "group create NAME"},
		{"group create net", exitFailed, "net"},
		{"group create x --profile eesp", exitUsage, "stateless, psp or tss"},
		{"group create x --aead rot13", exitUsage, "aes-128-gcm"},
		{"group create x --id-octets 5", exitUsage, "4 or 8"},
		{"group create x --level moon", exitFailed, "moon"},
		{"group create x --replay soon", exitFailed, "windows or"},
		{"group create x --profile tss --level zone --replay time", exitFailed, "profile stateless"},
		{"invite extra", exitUsage, "invite takes no words"},
		{"invite --uses many", exitUsage, "invalid value"},
		{"audit nonsense", exitUsage, "audit [verify]"},
		{"backup", exitUsage, "backup FILE"},
		{"restore", exitUsage, "restore --roots DIR"},
		{"restore --roots /nowhere", exitFailed, "/nowhere has no root"},
		{"rebuild", exitUsage, "rebuild --from-instance DIR"},
		{"trust", exitUsage, "trust show --dir DIR"},
		{"server", exitUsage, "server list, server add"},
		{"server add b --roots x --out y", exitUsage, "NAME=HOST:PORT is needed"},
		{"server add b=c:1 --roots x --out y --dir /nowhere", exitFailed, "no such file"},
		{"server add b=c", exitUsage, "server list, server add"},
		{"server remove", exitUsage, "server list, server add"},
		{"server remove nobody --roots /nowhere", exitFailed, "/nowhere has no root"},
		{"trust show --dir /nowhere", exitFailed, "no server.json"},
		{"trust new --out /tmp --level moon", exitUsage, "moon"},
		{"agent --status /nowhere", exitFailed, "no agent at /nowhere"},
		{"init", exitUsage, "init [--dir DIR]"},
		{"init --server x", exitUsage, "NAME=HOST:PORT"},
		{"init --server a=h:1 --level moon", exitUsage, "moon"},
		{"--server h:1 status", exitUsage, "--cert"},
	} {
		_, err := p.run(x.code, strings.Fields(x.args)...)
		if err == nil || !strings.Contains(err.Error(), x.text) {
			t.Errorf("eespctl %s: %v", x.args, err)
		}
	}
	p.sock += "x"
	if _, err := p.run(exitFailed, "status"); !strings.Contains(err.Error(), "no server at") {
		t.Error(err)
	}
}

// A backup comes back into an empty store by the roots' word, and not without; a
// store that was set back behind a server's back is not written to until the roots
// say so.
func TestBackupRestore(t *testing.T) {
	p := newPlace(t)
	p.run(0, "group", "create", "net", "--path-delay", "10ms")
	p.host("a", nil)
	p.run(0, "admit", "--all")
	p.eventually("in the barrier", func() bool { return at(p.ring(), "barrier") == 1.0 })
	file := filepath.Join(t.TempDir(), "backup")
	if v := at(p.json(0, "backup", file), "octets"); v == nil || v == 0.0 {
		t.Errorf("backup of %v octets", v)
	}
	if b, st := must(os.ReadFile(file)), must(os.Stat(file)); bytes.Contains(b, []byte("zone/")) || st.Mode().Perm() != 0o600 {
		t.Errorf("the backup lies open: mode %v", st.Mode())
	}
	old := p.st.Snapshot()
	p.run(0, "rotate", "net", "--watch", "--timeout", "30s")
	roots := filepath.Join(p.dir, "roots")

	// Set back behind its back: read-only, until the roots say that it is right.
	p.stop()
	p.st.Restore(old)
	p.start(true)
	p.eventually("read-only", func() bool {
		out, err := p.runAny("status")
		return exitOf(err) == exitReadOnly && strings.Contains(out, "READ-ONLY")
	})
	if _, err := p.run(exitReadOnly, "rotate", "net"); err == nil {
		t.Error("rotated in a store that was set back")
	}
	if _, err := p.run(exitFailed, "restore", "--roots", roots, "--root-passphrase-file", "/dev/null"); err == nil {
		t.Error("restored by a wrong passphrase")
	}
	if v := at(p.json(0, "restore", "--roots", roots), "zone"); v != 2.0 {
		t.Errorf("term %v", v)
	}
	p.eventually("a fresh key above all that there was", func() bool { g, _ := at(p.ring(), "current").(float64); return g >= 17 })
	p.eventually("the host has it", func() bool {
		w, _ := at(p.ring(), "waiting").([]any)
		return len(w) == 0 && at(p.ring(), "barrier") == 1.0
	})

	// A backup over a store that is in use is refused; into an empty one it goes.
	if _, err := p.run(exitFailed, "restore", "--roots", roots, file); !strings.Contains(err.Error(), "empty") {
		t.Errorf("over a store in use: %v", err)
	}
	p.stop()
	p.st = mem.New()
	p.start(true)
	if _, err := p.run(exitFailed, "restore", "--roots", roots, "--passphrase-file", "/dev/null", file); err == nil {
		t.Error("opened with another passphrase")
	}
	if _, err := p.run(exitFailed, "restore", "--roots", "/nowhere", file); !strings.Contains(err.Error(), "/nowhere has no root") || func() bool { _, is := p.st.Snapshot()["zone/head"]; return is }() {
		t.Errorf("without roots: %v, or it wrote to the store", err)
	}
	// The backup is of term 1, as its delegation is, and hosts know term 2: the term after that.
	if v := at(p.json(0, "restore", "--roots", roots, file), "zone"); v != 3.0 {
		t.Errorf("term %v", v)
	}
	p.eventually("goes on, with the host", func() bool {
		out, _ := p.runAny("status")
		w, _ := at(p.ring(), "waiting").([]any)
		return strings.Contains(out, "net") && !strings.Contains(out, "READ-ONLY") && len(w) == 0 && at(p.ring(), "barrier") == 1.0
	})
	p.json(0, "audit", "verify")
}

// Store and backup are lost: an instance's copies and the roots are enough.
func TestRebuild(t *testing.T) {
	p := newPlace(t)
	p.run(0, "group", "create", "net", "--path-delay", "10ms")
	p.host("a", nil)
	p.run(0, "admit", "--all")
	p.eventually("in the barrier", func() bool { return at(p.ring(), "barrier") == 1.0 })
	p.run(0, "rotate", "net", "--watch", "--timeout", "30s")
	dir, roots := filepath.Join(p.dir, "s"), filepath.Join(p.dir, "roots")
	head := func() any { return at(p.json(0, "status"), "levels", 0, "serial") }
	p.eventually("a copy", func() bool {
		rows, err := server.ReadCopies(dir)
		for _, r := range rows {
			if strings.HasSuffix(r.Key, fmt.Sprintf("log/%020.0f", head())) {
				return err == nil
			}
		}
		return false
	})
	before := p.st.Snapshot()
	p.stop()
	p.st = mem.New()
	p.start(true)
	if _, err := p.run(exitFailed, "rebuild", "--from-instance", t.TempDir(), "--roots", roots); !strings.Contains(err.Error(), "no copies") {
		t.Error(err)
	}
	if v := at(p.json(0, "rebuild", "--from-instance", dir, "--roots", roots), "zone"); v != 2.0 {
		t.Errorf("term %v", v)
	}
	p.eventually("a fresh key above all that there was", func() bool { g, _ := at(p.ring(), "current").(float64); return g >= 18 })
	p.eventually("the host has it", func() bool {
		w, _ := at(p.ring(), "waiting").([]any)
		return len(w) == 0 && at(p.ring(), "barrier") == 1.0
	})
	p.json(0, "audit", "verify")
	p.json(0, "rotate", "net", "--watch", "--timeout", "30s")
	// IDs go on behind those that were given out.
	for _, k := range []string{"alloc/1", "alloc/2"} {
		was, is := before[k].Value, p.st.Snapshot()[k].Value
		if len(was) != 8 || string(is) <= string(was) {
			t.Errorf("%s: %x, was %x", k, is, was)
		}
	}
}

// A root is lost, or not to be trusted any more: another is pinned by hand, with its
// fingerprint, and begins a new term.
func TestTrust(t *testing.T) {
	p := newPlace(t)
	p.run(0, "group", "create", "net", "--path-delay", "10ms")
	dir, _ := p.host("a", nil)
	p.run(0, "admit", "--all")
	p.eventually("in the barrier", func() bool { return at(p.ring(), "barrier") == 1.0 })
	server, out := filepath.Join(p.dir, "s"), filepath.Join(t.TempDir(), "new")
	was := at(p.json(0, "trust", "show", "--dir", server), "zone")
	f := at(p.json(0, "trust", "new", "--out", out), "fingerprint").(string)
	pub := filepath.Join(out, "root-zone.pub")
	if _, err := p.run(exitFailed, "trust", "replace", "--dir", server, "--root", pub, "--fingerprint", was.(string)); !strings.Contains(err.Error(), "nothing is replaced") {
		t.Error(err)
	}
	p.stop()
	p.json(0, "trust", "replace", "--dir", server, "--root", pub, "--fingerprint", f)
	if is := at(p.json(0, "trust", "show", "--dir", server), "zone"); is != f || was == f {
		t.Errorf("pinned: %v, was %v, new %v", is, was, f)
	}
	p.start(false)
	p.eventually("read-only", func() bool {
		out, err := p.runAny("status")
		return exitOf(err) == exitReadOnly && strings.Contains(out, "root was replaced")
	})
	if _, err := p.run(exitFailed, "restore", "--roots", filepath.Join(p.dir, "roots")); err == nil {
		t.Error("the old root begins a new term")
	}
	if v := at(p.json(0, "restore", "--roots", out), "zone"); v != 2.0 {
		t.Errorf("term %v", v)
	}
	// The host that pins the old root takes nothing; with the new one it goes on.
	time.Sleep(100 * time.Millisecond)
	if w, _ := at(p.ring(), "waiting").([]any); len(w) != 1 {
		t.Error("a host that pins the old root acknowledges")
	}
	p.endHost(dir)
	p.json(0, "trust", "replace", "--dir", dir, "--root", pub, "--fingerprint", f)
	p.runHost(dir, nil)
	p.eventually("the host has the new key", func() bool {
		w, _ := at(p.ring(), "waiting").([]any)
		return len(w) == 0 && at(p.ring(), "barrier") == 1.0
	})
	p.json(0, "rotate", "net", "--watch", "--timeout", "30s")
	p.json(0, "audit", "verify")
}

func exitOf(err error) int {
	var e exit
	if errors.As(err, &e) {
		return e.code
	}
	if err != nil {
		return exitFailed
	}
	return 0
}

func (p *place) runAny(args ...string) (string, error) {
	var b bytes.Buffer
	err := run(p.t.Context(), append([]string{"--socket", p.sock}, args...), &b)
	return b.String(), err
}

// A certificate is renewed before it ends, and after, within the grace, as long as
// the roster has the host's key.
func TestRenewal(t *testing.T) {
	p := newPlace(t)
	p.run(0, "group", "create", "net", "--path-delay", "10ms")
	ca := &pki.CA{Cert: must(pki.ReadCert(filepath.Join(p.dir, "s", "ca.crt"))), Key: must(pki.ReadKey(filepath.Join(p.dir, "s", "ca.key")))}
	with := func(life time.Duration) func(*agent.Config) {
		return func(c *agent.Config) {
			m := &c.Memberships[0]
			m.Cert = must(ca.Issue(m.Key.Public().(ed25519.PublicKey), m.Cluster, pki.Member, m.Name, life, time.Now()))
			if err := pki.WriteCert(filepath.Join(m.Dir, "agent.crt"), m.Cert); err != nil {
				t.Fatal(err)
			}
		}
	}
	left := func(dir string) time.Duration {
		c, err := pki.ReadCert(filepath.Join(dir, "agent.crt"))
		if err != nil {
			return 0
		}
		return time.Until(c.NotAfter)
	}
	soon, _ := p.host("soon", with(time.Minute))
	expired, _ := p.host("expired", with(-time.Minute))
	late, _ := p.host("late", with(-pki.RenewGrace-time.Minute))
	p.run(0, "admit", "soon", "expired", "late")
	p.eventually("renewed", func() bool { return left(soon) > time.Hour && left(expired) > time.Hour })
	p.eventually("both in the barrier", func() bool { return at(p.ring(), "barrier") == 2.0 })
	if d := left(late); d > 0 {
		t.Errorf("a certificate that expired too long ago was renewed, for %v", d)
	}
}

// A ring for another controller's group, and a group that names one: what is printed and what is refused.
func TestRings(t *testing.T) {
	p := newPlace(t)
	id, _ := at(p.json(0, "group", "ring", "net"), "rings", "zone").(string)
	if out, _ := p.run(0, "group", "ring", "other"); len(id) != 32 || !strings.Contains(out, "eespctl group create other --ring zone=") {
		t.Errorf("%q, %s", id, out)
	}
	user := strings.Repeat("ab", 16)
	for _, x := range []struct {
		want int
		text string
		args []string
	}{
		{2, "group create NAME, or group ring NAME", []string{"group", "ring"}},
		{2, "LEVEL=ID", []string{"group", "create", "x", "--ring", "user"}},
		{2, "LEVEL=ID", []string{"group", "ring", "x", "--ring", "user=" + user}},
		{1, "level zone is this controller's own", []string{"group", "create", "x", "--ring", "zone=" + user}},
		{1, "no level", []string{"group", "create", "x", "--ring", "house=" + user}},
		{1, "32 hex digits", []string{"group", "create", "x", "--ring", "user=ab"}},
		{1, "32 hex digits", []string{"group", "create", "x", "--ring", "user=" + strings.Repeat("0", 32)}},
		{1, "8 octets", []string{"group", "create", "x", "--id-octets", "4", "--ring", "user=" + user}},
		{1, "of profile stateless", []string{"group", "create", "x", "--profile", "tss", "--ring", "user=" + user}},
		{1, "a ring named net", []string{"group", "ring", "net"}},
		{1, "this cluster has no level user", []string{"group", "ring", "x", "--level", "user"}},
	} {
		if _, err := p.run(x.want, x.args...); err == nil || !strings.Contains(err.Error(), x.text) {
			t.Errorf("%q: %v", x.args, err)
		}
	}
	if v := at(p.json(0, "group", "create", "x", "--ring", "user="+user), "group"); v == nil {
		t.Error("no group")
	}
	if _, err := p.run(1, "group", "create", "x", "--profile", "psp"); err == nil || !strings.Contains(err.Error(), "a group named x") {
		t.Errorf("a name twice: %v", err)
	}
}

// An operator far from the server: by the certificate, of this cluster, and to a server only.
func TestRemote(t *testing.T) {
	p := newPlace(t)
	d := filepath.Join(p.dir, "s")
	ask := func(addr string, more ...string) error {
		args := append([]string{"--server", addr, "--cert", filepath.Join(d, "admin.crt"), "--key", filepath.Join(d, "admin.key"), "--ca", filepath.Join(d, "ca.crt")}, more...)
		return run(t.Context(), append(args, "status"), &bytes.Buffer{})
	}
	if err := ask(p.addr); err != nil {
		t.Fatal(err)
	}
	c, _, err := setup.LoadServer(d)
	if err != nil {
		t.Fatal(err)
	}
	if err := ask(p.addr, "--cluster", c.Cluster.String()); err != nil {
		t.Error(err)
	}
	if err := ask(p.addr, "--cluster", "00"); err == nil || !strings.Contains(err.Error(), "not of 00") {
		t.Errorf("another cluster: %v", err)
	}
	// A host whose certificate the CA made for this address.
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	cert := must(c.CA.Issue(pub, c.Cluster, pki.Member, "m", time.Hour, time.Now(), "127.0.0.1"))
	l := must(tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pki.TLS(cert, key)}, NextProtos: []string{"h2", "http/1.1"}, MinVersion: tls.VersionTLS13}))
	defer l.Close()
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("{}")) }))
	if err := ask(l.Addr().String()); err == nil || !strings.Contains(err.Error(), "not a server's certificate") {
		t.Errorf("a host as a server: %v", err)
	}
}
