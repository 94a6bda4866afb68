// Command eespctl is the tool for operators: it talks to an eespd server on its
// socket, or over the network with an operator's certificate.
package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"libeesp/control/agent"
	"libeesp/control/pki"
	"libeesp/control/record"
	"libeesp/control/server"
	"libeesp/control/setup"
)

const usage = `usage: eespctl [--socket PATH | --server HOST:PORT --cert FILE --key FILE --ca FILE --cluster ID] [--json] COMMAND ...

  init      make a cluster: roots, a CA, and a directory for each server
  invite    make an invite for hosts
  admit     let hosts that joined have keys
  group     make a group: group create NAME; group ring NAME makes a ring alone, which a group of another
            controller names: group create NAME --ring LEVEL=ID
  rotate    rotate keys: [RING] [--watch] [--emergency [--hard]]
  abort     drop a next generation that is not used yet: RING
  freeze    let no rotation begin: REASON; thaw ends it
  thaw
  status    rings, what they wait for, and why
  members   the roster
  revoke    take a host's keys away: NAME
  exclude   stop waiting for a host: NAME
  grant     clients outside the cluster: grant host NAME [--off] makes a host a granter,
            grant client NAME --out DIR makes a client's key and certificate
  epoch     tss: the key in use goes into its next epoch: RING
  server    the servers: server list; server add NAME=HOST:PORT --roots DIR --out DIR, and
            server remove NAME --roots DIR, on a server that runs
  audit     the log; audit verify checks it
  backup    write the store to a file, under a passphrase
  restore   bring a backup back, by the roots' word
  rebuild   begin anew from an instance's copies, where store and backup are lost
  trust     show the roots that a directory pins; make new ones; pin another
  agent     what this host's agent knows

Exit status: 0 done; 1 failed; 2 wrong usage; 3 a rotation still waits; 4 the server does not write.
`

// Exit codes.
const (
	exitFailed = 1 + iota
	exitUsage
	exitWaiting
	exitReadOnly
)

type exit struct {
	code int
	err  error
}

func (e exit) Error() string { return e.err.Error() }

func usageError(format string, a ...any) error { return exit{exitUsage, fmt.Errorf(format, a...)} }

// client calls a server.
type client struct {
	http *http.Client
	base string
	json bool
	out  io.Writer
}

func (c *client) call(ctx context.Context, method, path string, q, v any) error {
	var body io.Reader
	if q != nil {
		b, err := json.Marshal(q)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, c.base+"/v1/admin/"+path, body)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(r)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) && op.Net == "unix" {
			return fmt.Errorf("no server at %s (%v): is eespd server running here, and are you root? or give --server", op.Addr, op.Err)
		}
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		var e struct {
			Error string `json:"error"`
		}
		text := strings.TrimSpace(string(b))
		if json.Unmarshal(b, &e) == nil && e.Error != "" {
			text = e.Error
		}
		code := exitFailed
		if resp.StatusCode == http.StatusServiceUnavailable {
			code = exitReadOnly
		}
		return exit{code, errors.New(text)}
	}
	if raw, ok := v.(*[]byte); ok {
		*raw = b
		return nil
	}
	if v == nil {
		return nil
	}
	return json.Unmarshal(b, v)
}

// show prints v as JSON, or by text.
func (c *client) show(v any, text func(w io.Writer)) {
	if c.json {
		e := json.NewEncoder(c.out)
		e.SetIndent("", "  ")
		e.Encode(v)
		return
	}
	w := tabwriter.NewWriter(c.out, 0, 4, 2, ' ', 0)
	text(w)
	w.Flush()
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout)
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "eespctl:", err)
	var e exit
	if errors.As(err, &e) {
		os.Exit(e.code)
	}
	os.Exit(exitFailed)
}

func run(ctx context.Context, args []string, out io.Writer) error {
	fs := flag.NewFlagSet("eespctl", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	sock := fs.String("socket", "/run/eespd/admin.sock", "")
	addr := fs.String("server", "", "")
	cert, key, ca, cluster := fs.String("cert", "", ""), fs.String("key", "", ""), fs.String("ca", "", ""), fs.String("cluster", "", "")
	asJSON := fs.Bool("json", false, "")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprint(out, usage)
			return nil
		}
		return usageError("%v\n%s", err, usage)
	}
	if fs.NArg() == 0 {
		return usageError("no command\n%s", usage)
	}
	c := &client{json: *asJSON, out: out, base: "http://eespd"}
	if *addr != "" {
		t, err := adminTLS(*cert, *key, *ca, *cluster)
		if err != nil {
			return err
		}
		c.http, c.base = agent.HTTPClient(t), "https://"+*addr
	} else {
		c.http = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", *sock)
		}}}
	}
	cmd, rest := fs.Arg(0), fs.Args()[1:]
	commands := map[string]func(context.Context, *client, []string) error{
		"init": initCommand, "invite": inviteCommand, "admit": admitCommand, "group": groupCommand, "rotate": rotateCommand, "abort": named("abort", true),
		"freeze": freezeCommand, "thaw": thawCommand, "status": statusCommand, "members": membersCommand, "revoke": named("revoke", true), "exclude": named("exclude", true), "grant": grantCommand, "epoch": epochCommand,
		"audit": auditCommand, "backup": backupCommand, "restore": restoreCommand, "rebuild": rebuildCommand, "trust": trustCommand, "server": serverCommand, "agent": agentCommand,
		"help": func(_ context.Context, c *client, _ []string) error { fmt.Fprint(c.out, usage); return nil },
	}
	f := commands[cmd]
	if f == nil {
		return usageError("no command %q\n%s", cmd, usage)
	}
	return f(ctx, c, rest)
}

func adminTLS(cert, key, ca, cluster string) (*tls.Config, error) {
	if cert == "" || key == "" || ca == "" {
		return nil, usageError("--server needs --cert, --key and --ca: admin.crt, admin.key and ca.crt of a server's directory")
	}
	c, err := pki.ReadCert(cert)
	if err != nil {
		return nil, err
	}
	k, err := pki.ReadKey(key)
	if err != nil {
		return nil, err
	}
	root, err := pki.ReadCert(ca)
	if err != nil {
		return nil, err
	}
	id, err := clusterOf(c)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cert, err)
	}
	if cluster != "" && cluster != id.String() {
		return nil, fmt.Errorf("%s is of cluster %v, not of %s", cert, id, cluster)
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pki.Pool(root), Certificates: []tls.Certificate{pki.TLS(c, k)}, NextProtos: []string{"h2"},
		VerifyConnection: func(s tls.ConnectionState) error { // the CA also signs hosts' certificates
			h, err := pki.HolderOf(s.PeerCertificates[0], id)
			if err == nil && h.Role != pki.Server {
				err = errors.New("not a server's certificate")
			}
			return err
		}}, nil
}

// clusterOf returns the cluster of a certificate.
func clusterOf(c *x509.Certificate) (id record.ID, err error) {
	for _, u := range c.URIs {
		if b, err := hex.DecodeString(u.Host); u.Scheme == "eesp" && err == nil && len(b) == len(id) {
			copy(id[:], b)
			return id, nil
		}
	}
	return id, errors.New("not a certificate of a cluster")
}

// flags parses a command's flags, which may stand before and after its arguments.
func flags(name string, args []string, def func(*flag.FlagSet)) ([]string, error) {
	fs := flag.NewFlagSet("eespctl "+name, flag.ContinueOnError)
	var text bytes.Buffer
	fs.SetOutput(&text)
	def(fs)
	var words []string
	for {
		if err := fs.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, exit{0, errors.New(text.String())}
			}
			return nil, usageError("%s", strings.TrimSpace(text.String()))
		}
		if fs.NArg() == 0 {
			return words, nil
		}
		words = append(words, fs.Arg(0))
		args = fs.Args()[1:]
	}
}

type stringList []string

func (l *stringList) String() string     { return strings.Join(*l, ",") }
func (l *stringList) Set(s string) error { *l = append(*l, s); return nil }

func initCommand(_ context.Context, c *client, args []string) error {
	var servers, levels stringList
	dir, pass, port := "", "", ""
	words, err := flags("init", args, func(fs *flag.FlagSet) {
		fs.StringVar(&dir, "dir", "eesp-cluster", "where the cluster's files are made")
		fs.Var(&servers, "server", "NAME=HOST:PORT of a server; once for each of one or three")
		fs.Var(&levels, "level", "a level: zone, user, task; once for each (default zone)")
		fs.StringVar(&pass, "passphrase-file", "", "the roots' passphrase")
		fs.StringVar(&port, "etcd-port", "7480", "by which several servers' stores reach each other")
	})
	if err != nil {
		return err
	}
	if len(words) > 0 || len(servers) == 0 {
		return usageError("init [--dir DIR] --server NAME=HOST:PORT ... [--level LEVEL] ...")
	}
	o := setup.InitOptions{Dir: dir, EtcdPort: port}
	for _, s := range servers {
		name, addr, ok := strings.Cut(s, "=")
		if !ok {
			return usageError("--server %q: NAME=HOST:PORT is needed", s)
		}
		o.Servers = append(o.Servers, setup.InitServer{Name: name, Addr: addr})
	}
	if len(levels) == 0 {
		levels = stringList{"zone"}
	}
	for _, l := range levels {
		lv, err := record.ParseLevel(l)
		if err != nil {
			return usageError("%v", err)
		}
		o.Levels = append(o.Levels, lv)
	}
	if o.Pass, err = setup.NewPassphrase(pass, "passphrase of the roots"); err != nil {
		return err
	}
	id, err := setup.Init(o)
	if err != nil {
		return err
	}
	c.show(map[string]string{"cluster": id.String(), "dir": dir}, func(w io.Writer) {
		fmt.Fprintf(w, "cluster %s\n\n", id)
		fmt.Fprintf(w, "%s/roots\tthe roots, under the passphrase: take this folder off this machine\n", dir)
		for _, s := range o.Servers {
			fmt.Fprintf(w, "%s/%s\tof server %s: copy it to /var/lib/eespd/server there, readable by root only\n", dir, s.Name, s.Name)
		}
		fmt.Fprintf(w, "\nthen, on each server:\tsystemctl enable --now eespd-server\n")
		fmt.Fprintf(w, "and on one:\teespctl group create NAME; eespctl invite --uses N\n")
	})
	return nil
}

func inviteCommand(ctx context.Context, c *client, args []string) error {
	q := server.InviteRequest{}
	words, err := flags("invite", args, func(fs *flag.FlagSet) {
		fs.StringVar(&q.Name, "name", "*", "the host's name, or a pattern")
		fs.IntVar(&q.Uses, "uses", 1, "how many hosts may use it")
		fs.IntVar(&q.Minutes, "minutes", 60, "how long it is good")
		fs.BoolVar(&q.Auto, "auto-admit", false, "who has it gets keys at once: weaker")
	})
	if err != nil {
		return err
	}
	if len(words) > 0 {
		return usageError("invite takes no words")
	}
	var a struct {
		Invite  string `json:"invite"`
		Uses    int    `json:"uses"`
		Minutes int    `json:"minutes"`
	}
	if err := c.call(ctx, "POST", "invite", q, &a); err != nil {
		return err
	}
	c.show(a, func(w io.Writer) { fmt.Fprintln(w, a.Invite) })
	return nil
}

func admitCommand(ctx context.Context, c *client, args []string) error {
	q := server.AdmitRequest{}
	var err error
	if q.Names, err = flags("admit", args, func(fs *flag.FlagSet) { fs.BoolVar(&q.All, "all", false, "all that wait") }); err != nil {
		return err
	}
	if len(q.Names) == 0 && !q.All {
		return usageError("admit NAME ... or admit --all; eespctl members shows who waits")
	}
	var a struct {
		Admitted map[string]string `json:"admitted"`
	}
	if err := c.call(ctx, "POST", "admit", q, &a); err != nil {
		return err
	}
	c.show(a, func(w io.Writer) {
		if len(a.Admitted) == 0 {
			fmt.Fprintln(w, "nobody waits to be admitted")
		}
		for n, k := range a.Admitted {
			fmt.Fprintf(w, "%s\tadmitted, key %s\n", n, k)
		}
	})
	return nil
}

func groupCommand(ctx context.Context, c *client, args []string) error {
	q := server.GroupRequest{}
	var levels, rings stringList
	p := record.DefaultPolicy
	profile, aead := "", ""
	var window, contexts, domain, mode, octets uint
	var delay, stale, absent, period, interval time.Duration
	words, err := flags("group", args, func(fs *flag.FlagSet) {
		fs.StringVar(&profile, "profile", "stateless", "stateless, psp or tss")
		fs.StringVar(&aead, "aead", "aes-256-gcm", "aes-128-gcm or aes-256-gcm")
		fs.Var(&levels, "level", "a level that the group has a ring at (default: all of the cluster)")
		fs.Var(&rings, "ring", "LEVEL=ID of a ring at a level of another controller; once for each")
		fs.DurationVar(&delay, "path-delay", 30*time.Second, "how long packets may be in flight")
		fs.DurationVar(&stale, "max-stale", 24*time.Hour, "without a server's word for so long, hosts stop sealing")
		fs.DurationVar(&absent, "absent-after", 10*time.Minute, "without a stream for so long, a host is not waited for")
		fs.DurationVar(&period, "period", 24*time.Hour, "between rotations; 0: by hand")
		fs.DurationVar(&interval, "min-interval", time.Hour, "at least so long between rotations that no operator asked for")
		fs.Uint64Var(&p.MaxUsage, "max-usage", 0, "keys derived that start a rotation; 0: none")
		fs.BoolVar(&q.NoStart, "no-offline-start", false, "hosts that start seal only when a server has answered")
		fs.StringVar(&q.Replay, "replay", "windows", "protection that receivers have: windows or, where all hosts' clocks are right to some milliseconds, time; it stays so")
		fs.UintVar(&window, "window", 1024, "width of replay windows")
		fs.UintVar(&contexts, "contexts", 4096, "replay windows of a receiver")
		fs.UintVar(&domain, "domain", 0, "tss: SDI")
		fs.UintVar(&mode, "mode", 0, "tss: mode")
		fs.UintVar(&octets, "id-octets", 8, "of senders' IDs: 4 or 8")
	})
	if err != nil {
		return err
	}
	if octets != 4 && octets != 8 {
		return usageError("--id-octets %d: 4 or 8", octets)
	}
	q.Window, q.Contexts, q.Domain, q.Mode, q.V = uint32(window), uint32(contexts), uint32(domain), uint8(mode), uint8(octets/8)
	if len(words) != 2 || words[0] != "create" && words[0] != "ring" {
		return usageError("group create NAME, or group ring NAME")
	}
	for _, x := range rings {
		level, id, ok := strings.Cut(x, "=")
		if !ok || words[0] == "ring" {
			return usageError("--ring %q: LEVEL=ID, with group create", x)
		}
		if q.Rings == nil {
			q.Rings = map[string]string{}
		}
		q.Rings[level] = id
	}
	q.Name, q.Levels = words[1], levels
	var ok bool
	if q.Profile, ok = map[string]uint8{"stateless": 0, "psp": record.ProfilePSP, "tss": 2}[profile]; !ok {
		return usageError("--profile %q: stateless, psp or tss", profile)
	}
	if q.AEAD, ok = map[string]uint8{"aes-128-gcm": 0, "aes-256-gcm": 1}[aead]; !ok {
		return usageError("--aead %q: aes-128-gcm or aes-256-gcm", aead)
	}
	p.PathDelay = uint32(delay / time.Millisecond)
	p.MaxStale, p.AbsentAfter, p.Period, p.MinInterval = uint32(stale/time.Second), uint32(absent/time.Second), uint32(period/time.Second), uint32(interval/time.Second)
	q.Policy = &p
	if words[0] == "ring" {
		var a struct {
			Rings map[string]string `json:"rings"`
		}
		if err := c.call(ctx, "POST", "ring", q, &a); err != nil {
			return err
		}
		c.show(a, func(w io.Writer) {
			for level, id := range a.Rings {
				fmt.Fprintf(w, "at the controller of the group's lowest level:\teespctl group create %s --ring %s=%s\n", q.Name, level, id)
			}
		})
		return nil
	}
	var a map[string]any
	if err := c.call(ctx, "POST", "group", q, &a); err != nil {
		return err
	}
	c.show(a, func(w io.Writer) { fmt.Fprintf(w, "group %s\t%v\n", q.Name, a["group"]) })
	return nil
}

func rotateCommand(ctx context.Context, c *client, args []string) error {
	q := server.RotateRequest{}
	watch := false
	var timeout time.Duration
	words, err := flags("rotate", args, func(fs *flag.FlagSet) {
		fs.BoolVar(&watch, "watch", false, "wait until it ends, and show who holds it up")
		fs.DurationVar(&timeout, "timeout", 10*time.Minute, "with --watch")
		fs.BoolVar(&q.Emergency, "emergency", false, "short deadlines and a new KEK; who is late is cut off")
		fs.BoolVar(&q.Hard, "hard", false, "with --emergency: drop the old keys at once; loses packets")
		fs.StringVar(&q.Reason, "reason", "", "for the log")
	})
	if err != nil {
		return err
	}
	if len(words) > 1 || q.Hard && !q.Emergency {
		return usageError("rotate [RING] [--watch] [--emergency [--hard]]")
	}
	if len(words) == 1 {
		q.Ring = words[0]
	}
	before, err := rings(ctx, c)
	if err != nil {
		return err
	}
	var a struct {
		Rings map[string]uint64 `json:"rings"`
	}
	if err := c.call(ctx, "POST", "rotate", q, &a); err != nil {
		return err
	}
	if !watch {
		c.show(a, func(w io.Writer) {
			for r := range a.Rings {
				fmt.Fprintf(w, "%s\trotation requested; eespctl status shows its progress\n", r)
			}
		})
		return nil
	}
	return watchRotation(ctx, c, before, q.Ring, timeout)
}

func rings(ctx context.Context, c *client) (map[string]server.RingStatus, error) {
	var s server.Status
	if err := c.call(ctx, "GET", "status", nil, &s); err != nil {
		return nil, err
	}
	m := map[string]server.RingStatus{}
	for _, l := range s.Levels {
		for _, r := range l.Rings {
			m[l.Level+"/"+r.Name] = r
		}
	}
	return m, nil
}

// watchRotation waits until each ring has a new current generation and all members have dropped the old one.
func watchRotation(ctx context.Context, c *client, before map[string]server.RingStatus, name string, timeout time.Duration) error {
	tty := false
	if f, ok := c.out.(*os.File); ok && !c.json {
		st, err := f.Stat()
		tty = err == nil && st.Mode()&os.ModeCharDevice != 0
	}
	last := map[string]string{}
	for end := time.Now().Add(timeout); ; {
		now, err := rings(ctx, c)
		if err != nil {
			return err
		}
		open := []string{}
		for k, r := range now {
			b, ok := before[k]
			if !ok || name != "" && r.Name != name && !strings.HasPrefix(r.ID, name) {
				continue
			}
			line := progress(k, r)
			if line != last[k] && !c.json {
				if tty {
					fmt.Fprintf(c.out, "\r\x1b[K%s", line)
				} else {
					fmt.Fprintln(c.out, line)
				}
				last[k] = line
			}
			if r.State != "steady" || r.Current == b.Current || len(r.Waiting) > 0 {
				open = append(open, k)
			}
		}
		if len(open) == 0 {
			if tty {
				fmt.Fprintln(c.out)
			}
			c.show(now, func(w io.Writer) { fmt.Fprintln(w, "done: the old keys are destroyed on all hosts") })
			return nil
		}
		if time.Now().After(end) {
			return exit{exitWaiting, fmt.Errorf("still waiting: %s", strings.Join(open, ", "))}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// progress returns a line about a ring's rotation: a bar, and which members it waits for.
func progress(name string, r server.RingStatus) string {
	const width = 20
	n := width
	if r.Barrier > 0 {
		n = width * r.Ready / r.Barrier
	}
	s := fmt.Sprintf("%-16s %-8s [%s%s] %d/%d", name, r.State, strings.Repeat("#", n), strings.Repeat(".", width-n), r.Ready, r.Barrier)
	for i, w := range r.Waiting {
		if i == 3 {
			s += fmt.Sprintf(", and %d more", len(r.Waiting)-3)
			break
		}
		s += fmt.Sprintf("; %s: %s", w.Member, w.Why)
	}
	if len(r.Waiting) == 0 && r.Why != "" {
		s += " " + r.Why
	}
	return s
}

func named(path string, reason bool) func(context.Context, *client, []string) error {
	return func(ctx context.Context, c *client, args []string) error {
		q := server.NameRequest{}
		words, err := flags(path, args, func(fs *flag.FlagSet) {
			if reason {
				fs.StringVar(&q.Reason, "reason", "", "for the log")
			}
		})
		if err != nil {
			return err
		}
		if len(words) != 1 {
			return usageError("%s NAME [--reason TEXT]", path)
		}
		q.Name = words[0]
		var a map[string]string
		if err := c.call(ctx, "POST", path, q, &a); err != nil {
			return err
		}
		c.show(a, func(w io.Writer) {
			for k, v := range a {
				fmt.Fprintf(w, "%s\t%s\n", k, v)
			}
		})
		return nil
	}
}

// grantCommand makes a host a granter, or a client's certificate.
func grantCommand(ctx context.Context, c *client, args []string) error {
	off, out := false, ""
	words, err := flags("grant", args, func(fs *flag.FlagSet) {
		fs.BoolVar(&off, "off", false, "with host: not any more")
		fs.StringVar(&out, "out", "", "with client: where its key and certificates are written")
	})
	if err != nil {
		return err
	}
	if len(words) == 2 && words[0] == "host" && out == "" {
		var a map[string]any
		if err := c.call(ctx, "POST", "granter", server.GranterRequest{Name: words[1], Off: off}, &a); err != nil {
			return err
		}
		c.show(a, func(w io.Writer) {
			if off {
				fmt.Fprintf(w, "%s gives no keys to clients any more; its leases run until they end\n", words[1])
			} else {
				fmt.Fprintf(w, "%s may give keys to the clients in its policy.json (eespd agent --grants HOST:PORT)\n", words[1])
			}
		})
		return nil
	}
	if len(words) != 2 || words[0] != "client" || out == "" || off {
		return usageError("grant host NAME [--off], or grant client NAME --out DIR")
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return err
	}
	var a server.ClientAnswer
	if err := c.call(ctx, "POST", "client", server.ClientRequest{Name: words[1], CSR: csr}, &a); err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o700); err != nil {
		return err
	}
	if err := errors.Join(pki.WriteKey(filepath.Join(out, "client.key"), key), pki.WriteFile(filepath.Join(out, "client.crt"), []byte(a.Cert), 0o644),
		pki.WriteFile(filepath.Join(out, "ca.crt"), []byte(a.CA), 0o644)); err != nil {
		return err
	}
	rule := map[string]any{"name": words[1], "key": a.Key, "groups": []string{"GROUP"}}
	c.show(map[string]any{"client": words[1], "key": a.Key, "cluster": a.Cluster, "rule": rule}, func(w io.Writer) {
		b, _ := json.Marshal(rule)
		fmt.Fprintf(w, "%s\tthe client's key and certificate, and the CA's\n", out)
		fmt.Fprintf(w, "\nfor \"clients\" in the granter's policy.json, with the groups that it may have:\n%s\n", b)
	})
	return nil
}

func epochCommand(ctx context.Context, c *client, args []string) error {
	q := server.NameRequest{}
	words, err := flags("epoch", args, func(fs *flag.FlagSet) { fs.StringVar(&q.Reason, "reason", "", "for the log") })
	if err != nil {
		return err
	}
	if len(words) != 1 {
		return usageError("epoch RING [--reason TEXT]")
	}
	q.Name = words[0]
	var a struct {
		Epochs map[string]uint16 `json:"epochs"`
	}
	if err := c.call(ctx, "POST", "epoch", q, &a); err != nil {
		return err
	}
	c.show(a, func(w io.Writer) {
		for r, n := range a.Epochs {
			fmt.Fprintf(w, "%s\tepoch %d\n", r, n)
		}
	})
	return nil
}

func freezeCommand(ctx context.Context, c *client, args []string) error {
	if len(args) == 0 {
		return usageError("freeze REASON")
	}
	return freeze(ctx, c, strings.Join(args, " "))
}

func thawCommand(ctx context.Context, c *client, args []string) error {
	if len(args) != 0 {
		return usageError("thaw takes no words")
	}
	return freeze(ctx, c, "")
}

func freeze(ctx context.Context, c *client, reason string) error {
	if err := c.call(ctx, "POST", "freeze", server.NameRequest{Reason: reason}, nil); err != nil {
		return err
	}
	c.show(map[string]string{"frozen": reason}, func(w io.Writer) {
		if reason != "" {
			fmt.Fprintln(w, "no rotation begins until eespctl thaw, except emergencies")
		} else {
			fmt.Fprintln(w, "rotations begin again")
		}
	})
	return nil
}

func statusCommand(ctx context.Context, c *client, args []string) error {
	if len(args) != 0 {
		return usageError("status takes no words")
	}
	var s server.Status
	if err := c.call(ctx, "GET", "status", nil, &s); err != nil {
		return err
	}
	c.show(s, func(w io.Writer) {
		fmt.Fprintf(w, "cluster %s, server %s, %d agents connected to it\n", s.Cluster, s.Server, s.Streams)
		if s.Frozen != "" {
			fmt.Fprintf(w, "FROZEN: %s\n", s.Frozen)
		}
		for _, l := range s.Levels {
			fmt.Fprintf(w, "\nlevel %s: entry %d.%d, %d members active, %d absent, %d waiting to be admitted\n", l.Level, l.Term, l.Serial, l.Members["active"], l.Members["absent"], l.Members["invited"])
			if l.ReadOnly != "" {
				fmt.Fprintf(w, "READ-ONLY: %s\n", l.ReadOnly)
			}
			if len(l.Rings) > 0 {
				fmt.Fprintln(w, "RING\tSTATE\tGENERATION\tREADY\tROTATED\tWAITS FOR")
			}
			for _, r := range l.Rings {
				gen := fmt.Sprint(r.Current)
				if r.Next != 0 {
					gen += fmt.Sprintf(" (next %d)", r.Next)
				}
				if r.Previous != 0 {
					gen += fmt.Sprintf(" (previous %d)", r.Previous)
				}
				wait := r.Why
				for i, x := range r.Waiting {
					if i == 3 {
						wait = fmt.Sprintf("%s, and %d more", wait, len(r.Waiting)-3)
						break
					}
					if i > 0 {
						wait += "; "
					} else {
						wait = ""
					}
					wait += x.Member + ": " + x.Why
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%d/%d\t%s\t%s\n", r.Name, r.State, gen, r.Ready, r.Barrier, time.Unix(r.Since, 0).Format(time.DateTime), wait)
			}
		}
	})
	for _, l := range s.Levels {
		if l.ReadOnly != "" {
			return exit{exitReadOnly, errors.New("level " + l.Level + " is read-only")}
		}
	}
	return nil
}

func membersCommand(ctx context.Context, c *client, args []string) error {
	if len(args) != 0 {
		return usageError("members takes no words")
	}
	var ms []server.MemberStatus
	if err := c.call(ctx, "GET", "members", nil, &ms); err != nil {
		return err
	}
	c.show(ms, func(w io.Writer) {
		fmt.Fprintln(w, "LEVEL\tNAME\tSTATE\tKEY\tCONNECTED\tGRANTER\tREASON")
		for _, m := range ms {
			conn := "-"
			if m.Connected {
				conn = (time.Duration(m.Since) * time.Second).String()
			}
			why := m.Reason
			if m.Incident != "" {
				why = strings.TrimPrefix(why+"; "+m.Incident, "; ")
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%v\t%s\n", m.Level, m.Name, m.State, m.Key, conn, m.Granter, why)
		}
	})
	return nil
}

// auditRow is an entry for people.
type auditRow struct {
	Level    string `json:"level"`
	Term     uint32 `json:"term"`
	Serial   uint64 `json:"serial"`
	Hash     string `json:"hash"`
	Change   string `json:"change"`
	Who      string `json:"who"`
	Instance string `json:"instance"`
	Ring     string `json:"ring,omitempty"`
	Old      uint64 `json:"old,omitempty"`
	New      uint64 `json:"new,omitempty"`
	Step     uint64 `json:"step,omitempty"`
	Time     string `json:"time"`
	Reason   string `json:"reason,omitempty"`
}

func auditCommand(ctx context.Context, c *client, args []string) error {
	from := ""
	words, err := flags("audit", args, func(fs *flag.FlagSet) {
		fs.StringVar(&from, "head", "", "with verify: a head's hash that the log must have, from eespctl agent of some host")
	})
	if err != nil {
		return err
	}
	verify := len(words) == 1 && words[0] == "verify"
	if len(words) > 0 && !verify {
		return usageError("audit [verify]")
	}
	var as []server.AuditAnswer
	if err := c.call(ctx, "GET", "audit", nil, &as); err != nil {
		return err
	}
	var rows []auditRow
	seen := from == ""
	for _, a := range as {
		rs, err := walk(a)
		if err != nil {
			return fmt.Errorf("level %s: %w", a.Level, err)
		}
		for _, r := range rs {
			seen = seen || r.Hash == from
		}
		rows = append(rows, rs...)
	}
	if !seen {
		return fmt.Errorf("no entry has the hash %s: the log's end was cut off, or it is another one", from)
	}
	if verify {
		c.show(map[string]any{"entries": len(rows), "ok": true}, func(w io.Writer) {
			fmt.Fprintf(w, "%d entries: signatures, chain and numbers are right\n", len(rows))
		})
		return nil
	}
	c.show(rows, func(w io.Writer) {
		fmt.Fprintln(w, "LEVEL\tENTRY\tTIME\tCHANGE\tWHO\tGENERATION\tREASON")
		for _, r := range rows {
			gen := ""
			if r.New != 0 {
				gen = fmt.Sprintf("%d to %d", r.Old, r.New)
			}
			fmt.Fprintf(w, "%s\t%d.%d\t%s\t%s\t%s\t%s\t%s\n", r.Level, r.Term, r.Serial, r.Time, r.Change, r.Who, gen, r.Reason)
		}
	})
	return nil
}

// walk verifies a level's log: the delegation by the root, each entry by an instance, and that each entry
// follows the one before.
func walk(a server.AuditAnswer) (rows []auditRow, err error) {
	var cluster record.ID
	if n, err := fmt.Sscanf(a.Cluster, "%x", new([]byte)); n != 1 || err != nil || len(a.Cluster) != 32 {
		return nil, errors.New("no cluster")
	}
	var b []byte
	fmt.Sscanf(a.Cluster, "%x", &b)
	copy(cluster[:], b)
	var d record.Delegation
	if err := record.Verify(a.Delegation, &d, cluster, ed25519.PublicKey(a.Root)); err != nil {
		return nil, fmt.Errorf("delegation: %w", err)
	}
	var prev record.Head
	var prevHash record.Hash
	first := uint64(0)
	for i, raw := range a.Entries {
		var h record.Head
		in, err := d.VerifyBy(raw, &h, cluster, record.RoleRotate)
		if err != nil {
			// Signed by an instance that was removed since: the next entry must have its hash, and so on
			// up to an entry by an instance of the delegation.
			var next record.Head
			if i+1 == len(a.Entries) || record.Decode(raw, &h) != nil || record.Decode(a.Entries[i+1], &next) != nil || next.Prev != record.HashOf(raw) {
				return nil, fmt.Errorf("entry %d: %w", i+1, err)
			}
			in = &record.Instance{Name: "removed since"}
		}
		if i > 0 && (h.Prev != prevHash || h.Serial != prev.Serial+1 || h.Term < prev.Term) {
			return nil, fmt.Errorf("entry %d.%d does not follow %d.%d", h.Term, h.Serial, prev.Term, prev.Serial)
		}
		if i == 0 {
			first = h.Serial
		}
		// The log was rebuilt: earlier entries were lost, and an entry with the roots' new term follows.
		if first != 1 && (len(a.Entries) == 1 || i == 1 && h.Change != record.ChangeRestore) {
			return nil, fmt.Errorf("the log begins with entry %d", first)
		}
		prev, prevHash = h, record.HashOf(raw)
		r := auditRow{Level: a.Level, Term: h.Term, Serial: h.Serial, Hash: prevHash.String(), Change: h.Change.String(), Who: h.Who, Instance: in.Name, Old: h.Old, New: h.New, Step: h.Step, Time: time.Unix(h.Wall, 0).UTC().Format(time.RFC3339), Reason: h.Reason}
		if !h.Ring.IsZero() {
			r.Ring = h.Ring.String()
		}
		rows = append(rows, r)
	}
	return rows, nil
}

func backupCommand(ctx context.Context, c *client, args []string) error {
	pass := ""
	words, err := flags("backup", args, func(fs *flag.FlagSet) { fs.StringVar(&pass, "passphrase-file", "", "the backup's passphrase") })
	if err != nil {
		return err
	}
	if len(words) != 1 {
		return usageError("backup FILE")
	}
	p, err := setup.NewPassphrase(pass, "passphrase of the backup")
	if err != nil {
		return err
	}
	var raw []byte
	if err := c.call(ctx, "GET", "backup", nil, &raw); err != nil {
		return err
	}
	if err := setup.SealFile(words[0], "backup", raw, p); err != nil {
		return err
	}
	c.show(map[string]any{"file": words[0], "octets": len(raw)}, func(w io.Writer) {
		fmt.Fprintf(w, "%s\t%d octets; useless without a server's instance keys, which are not in it\n", words[0], len(raw))
	})
	return nil
}

func restoreCommand(ctx context.Context, c *client, args []string) error {
	pass := ""
	var w rootsWord
	words, err := flags("restore", args, func(fs *flag.FlagSet) {
		fs.StringVar(&pass, "passphrase-file", "", "the backup's passphrase")
		w.flags(fs)
	})
	if err != nil {
		return err
	}
	if len(words) > 1 || w.roots == "" {
		return usageError("restore --roots DIR [FILE]; without FILE the store stays as it is, and the roots say that it is right")
	}
	if err := w.open(); err != nil { // before anything is written to the store
		return err
	}
	if len(words) == 1 {
		p, err := setup.Passphrase(pass, "passphrase of the backup")
		if err != nil {
			return err
		}
		raw, err := setup.OpenFile(words[0], "backup", p)
		if err != nil {
			return err
		}
		var rows []server.BackupRow
		if err := json.Unmarshal(raw, &rows); err != nil {
			return err
		}
		if err := c.call(ctx, "POST", "import", rows, nil); err != nil {
			return err
		}
	}
	return w.newTerm(ctx, c)
}

// rootsWord is what is needed to sign with the roots: their directory, and how far hosts have come.
type rootsWord struct {
	roots, passFile string
	last            uint64
	term            uint32                              // of the level, the last one that the server knows of; set by each
	keys            map[record.Level]ed25519.PrivateKey // read by open
}

func (w *rootsWord) flags(fs *flag.FlagSet) {
	fs.StringVar(&w.passFile, "root-passphrase-file", "", "the roots' passphrase")
	fs.StringVar(&w.roots, "roots", "", "the folder of the roots")
	fs.Uint64Var(&w.last, "last-generation", 0, "the highest generation that any host reports (eespctl agent)")
}

// each calls f for the levels whose root is in the directory, with the delegation in force. f changes it and
// calls sign.
func (w *rootsWord) each(ctx context.Context, c *client, f func(lv record.Level, d *record.Delegation, sign func() ([]byte, error)) error) error {
	if err := w.open(); err != nil {
		return err
	}
	for lv := record.Zone; lv < record.Levels; lv++ {
		root := w.keys[lv]
		if root == nil {
			continue
		}
		var a struct {
			Delegation []byte `json:"delegation"`
			Cluster    string `json:"cluster"`
			Root       []byte `json:"root"`     // the root that signed the delegation
			NewRoot    []byte `json:"new_root"` // the root that has replaced it, if any
			Term       uint32 `json:"term"`     // the last one that the server knows of
		}
		if err := c.call(ctx, "GET", "delegation?level="+lv.String(), nil, &a); err != nil {
			return err
		}
		var id record.ID
		var b []byte
		fmt.Sscanf(a.Cluster, "%x", &b)
		copy(id[:], b)
		var d record.Delegation
		by := root.Public().(ed25519.PublicKey)
		if bytes.Equal(a.NewRoot, by) {
			by = a.Root // the same root, or the one before: its delegation's instances stay
		}
		if err := record.Verify(a.Delegation, &d, id, by); err != nil {
			return fmt.Errorf("level %v: the server's delegation is not by this root: %w", lv, err)
		}
		w.term = a.Term
		if err := f(lv, &d, func() ([]byte, error) { return record.Sign(&d, id, root) }); err != nil {
			return fmt.Errorf("level %v: %w", lv, err)
		}
	}
	return nil
}

// open reads the roots.
func (w *rootsWord) open() error {
	if w.keys != nil {
		return nil
	}
	keys := map[record.Level]ed25519.PrivateKey{}
	var pass []byte
	for lv := record.Zone; lv < record.Levels; lv++ {
		file := setup.RootFile(w.roots, lv)
		if _, err := os.Stat(file); err != nil {
			continue
		}
		var err error
		if pass == nil {
			pass, err = setup.Passphrase(w.passFile, "passphrase of the roots")
		}
		if err == nil {
			keys[lv], err = setup.Root(file, pass)
		}
		if err != nil {
			return err
		}
	}
	if len(keys) == 0 {
		return fmt.Errorf("%s has no root: name the folder that eespctl init made (--roots)", w.roots)
	}
	w.keys = keys
	return nil
}

// newTerm begins a new term of the roots' levels.
func (w *rootsWord) newTerm(ctx context.Context, c *client) error {
	done := map[string]uint32{}
	if err := w.each(ctx, c, func(lv record.Level, d *record.Delegation, sign func() ([]byte, error)) error {
		d.Term = max(d.Term, w.term) + 1 // a backup's term may be lower than the one that hosts know
		d.Serial++
		raw, err := sign()
		if err != nil {
			return err
		}
		if err := c.call(ctx, "POST", "term", server.TermRequest{Level: lv.String(), Delegation: raw, Last: w.last}, nil); err != nil {
			return err
		}
		done[lv.String()] = d.Term
		return nil
	}); err != nil {
		return err
	}
	c.show(done, func(w io.Writer) {
		for l, t := range done {
			fmt.Fprintf(w, "%s\tterm %d begins; its rings rotate now\n", l, t)
		}
	})
	return nil
}

// rebuildCommand restores a store from the copies that an instance keeps.
func rebuildCommand(ctx context.Context, c *client, args []string) error {
	dir := ""
	var w rootsWord
	words, err := flags("rebuild", args, func(fs *flag.FlagSet) {
		fs.StringVar(&dir, "from-instance", "", "a server's directory")
		w.flags(fs)
	})
	if err != nil {
		return err
	}
	if len(words) > 0 || w.roots == "" || dir == "" {
		return usageError("rebuild --from-instance DIR --roots DIR; the server waits for it with an empty store: eespd server --await-restore")
	}
	if err := w.open(); err != nil {
		return err
	}
	rows, err := server.ReadCopies(dir)
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		return fmt.Errorf("%s has no copies (records-LEVEL.json)", dir)
	}
	if err := c.call(ctx, "POST", "import", rows, nil); err != nil {
		return err
	}
	return w.newTerm(ctx, c)
}

// trustCommand lists the trusted roots, makes new ones, and replaces them.
func trustCommand(_ context.Context, c *client, args []string) error {
	dir, pass, out, root, fingerprint, level := "", "", "", "", "", "zone"
	words, err := flags("trust", args, func(fs *flag.FlagSet) {
		fs.StringVar(&dir, "dir", "", "a server's or a host's directory")
		fs.StringVar(&level, "level", "zone", "zone, user or task")
		fs.StringVar(&out, "out", "", "with new: where the root is written")
		fs.StringVar(&pass, "passphrase-file", "", "with new: the root's passphrase")
		fs.StringVar(&root, "root", "", "with replace: root-LEVEL.pub")
		fs.StringVar(&fingerprint, "fingerprint", "", "with replace: as trust new printed it, compared by hand")
	})
	if err != nil {
		return err
	}
	lv, err := record.ParseLevel(level)
	if err != nil {
		return usageError("%v", err)
	}
	how := ""
	if len(words) == 1 {
		how = words[0]
	}
	switch {
	case how == "show" && dir != "":
		roots, err := setup.Roots(dir)
		if err != nil {
			return err
		}
		shown := map[string]string{}
		for l, k := range roots {
			shown[l] = setup.RootFingerprint(k)
		}
		c.show(shown, func(w io.Writer) {
			for l, f := range shown {
				fmt.Fprintf(w, "%s\t%s\n", l, f)
			}
		})
		return nil
	case how == "new" && out != "":
		p, err := setup.NewPassphrase(pass, "passphrase of the new root")
		if err != nil {
			return err
		}
		pub, err := setup.NewRoot(out, lv, p)
		if err != nil {
			return err
		}
		c.show(map[string]string{"level": level, "fingerprint": setup.RootFingerprint(pub)}, func(w io.Writer) {
			fmt.Fprintf(w, "%s/root-%s.key\tunder the passphrase: take it off this machine\n", out, level)
			fmt.Fprintf(w, "%s/root-%s.pub\tfor trust replace, on all servers and hosts\n", out, level)
			fmt.Fprintf(w, "fingerprint %s\n", setup.RootFingerprint(pub))
		})
		return nil
	case how == "replace" && dir != "" && root != "" && fingerprint != "":
		pub, err := setup.ReadRoot(root)
		if err != nil {
			return err
		}
		if f := setup.RootFingerprint(pub); f != strings.ToLower(fingerprint) {
			return fmt.Errorf("%s has the fingerprint %s, not the given one: nothing is replaced", root, f)
		}
		if err := setup.ReplaceRoot(dir, lv, pub); err != nil {
			return err
		}
		c.show(map[string]string{"level": level, "dir": dir, "fingerprint": setup.RootFingerprint(pub)}, func(w io.Writer) {
			fmt.Fprintf(w, "%s pins the new root of level %s; start its program again\n", dir, level)
			fmt.Fprintln(w, "when all servers and hosts have it: eespctl restore --roots DIR, with the new root")
		})
		return nil
	}
	return usageError("trust show --dir DIR, trust new --out DIR, or trust replace --dir DIR --root FILE --fingerprint HEX; [--level LEVEL]")
}

// serverCommand lists servers, adds one, and removes one.
func serverCommand(ctx context.Context, c *client, args []string) error {
	dir, out, port, emergency := "", "", "", false
	var w rootsWord
	words, err := flags("server", args, func(fs *flag.FlagSet) {
		fs.StringVar(&dir, "dir", "/var/lib/eespd/server", "with add: the directory of the server that is asked")
		fs.StringVar(&out, "out", "", "with add: where the new server's directory is made")
		fs.StringVar(&port, "etcd-port", "7480", "with add: by which the servers' stores reach each other")
		fs.BoolVar(&emergency, "emergency", false, "with remove: its keys may be in wrong hands; rings rotate by an emergency's deadlines")
		w.flags(fs)
	})
	if err != nil {
		return err
	}
	how := ""
	if len(words) > 0 {
		how = words[0]
	}
	switch {
	case how == "list" && len(words) == 1:
		var s server.Status
		if err := c.call(ctx, "GET", "status", nil, &s); err != nil {
			return err
		}
		c.show(s.Servers, func(w io.Writer) {
			fmt.Fprintln(w, "SERVER\tADDRESS\tLEVELS")
			for _, x := range s.Servers {
				fmt.Fprintf(w, "%s\t%s\t%s\n", x.Name, x.Addr, strings.Join(x.Levels, ", "))
			}
		})
		return nil
	case how == "add" && len(words) == 2 && w.roots != "" && out != "":
		name, addr, ok := strings.Cut(words[1], "=")
		if !ok {
			return usageError("server add %q: NAME=HOST:PORT is needed", words[1])
		}
		return addServer(ctx, c, &w, dir, out, port, setup.InitServer{Name: name, Addr: addr})
	case how == "remove" && len(words) == 2 && w.roots != "":
		return removeServer(ctx, c, &w, words[1], emergency)
	}
	return usageError("server list, server add NAME=HOST:PORT --roots DIR --out DIR, or server remove NAME --roots DIR [--emergency]")
}

func addServer(ctx context.Context, c *client, w *rootsWord, dir, out, port string, s setup.InitServer) error {
	own, err := setup.OwnPeer(dir, port)
	if err != nil {
		return err
	}
	if own != "" {
		if err := c.call(ctx, "POST", "store", server.StoreRequest{Op: "move", Peer: own}, nil); err != nil {
			return err
		}
		if err := setup.EditServer(dir, func(f *setup.ServerFile) { f.Peer, f.Peers = own, f.Name+"="+own }); err != nil {
			return err
		}
		return exit{exitWaiting, fmt.Errorf("this server was alone: its store listens at %s from its next start on. Start it again (systemctl restart eespd-server), then give this command again", own)}
	}
	var st server.Status
	if err := c.call(ctx, "GET", "status", nil, &st); err != nil {
		return err
	}
	for _, x := range st.Servers {
		if x.Name == s.Name {
			return fmt.Errorf("there is a server named %s; eespctl server remove removes it", s.Name)
		}
	}
	a, err := setup.AddServer(dir, out, s, port)
	if err != nil {
		return err
	}
	undo := true
	defer func() {
		if undo { // no delegation names it yet
			os.RemoveAll(a.Dir)
		}
	}()
	var q struct {
		Cluster string `json:"cluster"`
	}
	if err := c.call(ctx, "POST", "store", server.StoreRequest{Op: "add", Name: s.Name, Peer: a.Peer}, &q); err != nil {
		return err
	}
	delegations := map[record.Level][]byte{}
	if err := w.each(ctx, c, func(lv record.Level, d *record.Delegation, sign func() ([]byte, error)) error {
		in, ok := a.Instances[lv]
		if !ok {
			return nil // it is for another server
		}
		d.Serial++
		d.Instances = append(d.Instances, in)
		raw, err := sign()
		if err != nil {
			return err
		}
		if err := c.call(ctx, "POST", "delegate", server.DelegateRequest{Level: lv.String(), Delegation: raw}, nil); err != nil {
			return err
		}
		undo, delegations[lv] = false, raw
		return nil
	}); err != nil {
		return err
	}
	if err := a.Finish(delegations, q.Cluster); err != nil {
		return err
	}
	if len(delegations) != len(a.Instances) {
		return fmt.Errorf("%s does not have the roots of all levels: %s serves %d of %d; give the command again with the others", w.roots, s.Name, len(delegations), len(a.Instances))
	}
	c.show(map[string]any{"server": s.Name, "dir": a.Dir}, func(w io.Writer) {
		fmt.Fprintf(w, "%s\tof server %s: copy it to /var/lib/eespd/server there, readable by root only\n", a.Dir, s.Name)
		fmt.Fprintf(w, "then, there:\tsystemctl enable --now eespd-server; hosts hear of it by themselves\n")
	})
	return nil
}

func removeServer(ctx context.Context, c *client, w *rootsWord, name string, emergency bool) error {
	levels, rings := []string{}, 0
	if err := w.each(ctx, c, func(lv record.Level, d *record.Delegation, sign func() ([]byte, error)) error {
		n := len(d.Instances)
		d.Serial++
		d.Instances = slices.DeleteFunc(d.Instances, func(in record.Instance) bool { return in.Name == name })
		switch len(d.Instances) {
		case n: // this may be the second try
			var done struct {
				Rings int `json:"rings"`
			}
			err := c.call(ctx, "POST", "delegate", server.DelegateRequest{Level: lv.String(), Finish: true, Emergency: emergency}, &done)
			rings += done.Rings
			return err
		case 0:
			return fmt.Errorf("%s is the only server", name)
		}
		raw, err := sign()
		if err != nil {
			return err
		}
		levels = append(levels, lv.String())
		return c.call(ctx, "POST", "delegate", server.DelegateRequest{Level: lv.String(), Delegation: raw, Emergency: emergency}, nil)
	}); err != nil {
		return err
	}
	// Even if it was removed before: this may be the second try.
	if err := c.call(ctx, "POST", "store", server.StoreRequest{Op: "remove", Name: name}, nil); err != nil {
		return err
	}
	c.show(map[string]any{"removed": name, "levels": levels, "rings": rings}, func(w io.Writer) {
		if rings > 0 {
			fmt.Fprintf(w, "an earlier removal was interrupted: %d more rings rotate to keys that the removed server never had\n", rings)
		}
		if len(levels) == 0 {
			fmt.Fprintf(w, "no level's delegation named %s\n", name)
			return
		}
		fmt.Fprintf(w, "%s\tremoved at %s: it can sign nothing and open no new KEK; the rings rotate to keys that it never had\n", name, strings.Join(levels, ", "))
		fmt.Fprintf(w, "then, there:\tsystemctl disable --now eespd-server, and erase /var/lib/eespd/server\n")
	})
	return nil
}

func agentCommand(ctx context.Context, c *client, args []string) error {
	sock := ""
	words, err := flags("agent", args, func(fs *flag.FlagSet) {
		fs.StringVar(&sock, "status", "/run/eespd/agent/status.sock", "the agent's socket for this")
	})
	if err != nil {
		return err
	}
	if len(words) > 0 {
		return usageError("agent takes no words")
	}
	h := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", sock)
	}}}
	r, err := http.NewRequestWithContext(ctx, "GET", "http://agent/", nil)
	if err != nil {
		return err
	}
	resp, err := h.Do(r)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err
		}
		return fmt.Errorf("no agent at %s (%v): is eespd agent running here, and are you root?", sock, err)
	}
	defer resp.Body.Close()
	var s agent.Status
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		return err
	}
	c.show(s, func(w io.Writer) {
		for _, k := range s.Controllers {
			state := "no server answers: " + k.Error
			switch {
			case k.Revoked:
				state = "revoked"
			case k.Online:
				state = "connected to " + k.Server
			}
			if len(s.Controllers) > 1 {
				state = "controller of " + k.Levels + ": " + state
			}
			fmt.Fprintf(w, "%s: %s; heard %.0f s ago\n", k.Member, state, k.Heard)
			for _, name := range slices.Sorted(maps.Keys(k.Refused)) {
				fmt.Fprintf(w, "group %s is refused: %s\n", name, k.Refused[name])
			}
		}
		for _, g := range s.Groups {
			for _, r := range g.Rings {
				fmt.Fprintf(w, "%s\t%s\tgeneration %d\t%s\tseals: %s\t%s\n", g.Name, r.Level, r.Current, r.State, g.Seal, r.Why)
			}
		}
		for _, p := range s.Programs {
			fmt.Fprintln(w, p)
		}
		for _, k := range s.Heads {
			fmt.Fprintf(w, "head of %s: entry %d.%d\t%s\n", k.Level, k.Term, k.Serial, k.Hash)
		}
	})
	return nil
}
