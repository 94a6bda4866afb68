// Command eespd distributes keys to data planes. It is a controller's server, a host's
// agent or, for a try, both on one machine.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/netutil"
	"golang.org/x/sys/unix"

	"libeesp/control/agent"
	"libeesp/control/record"
	"libeesp/control/server"
	"libeesp/control/setup"
	"libeesp/control/socket"
	"libeesp/control/store"
	"libeesp/control/store/etcd"
)

const usage = `usage: eespd server [--dir DIR] [--endpoints URL,...] [--await-restore]
       eespd agent  [--dir DIR] [--socket PATH] [--join INVITE [--name NAME] [--groups NAME,...]] [--grants HOST:PORT]
       eespd dev    [--dir DIR] [--grants HOST:PORT]

server  keeps keys and carries rotations on; eespctl init makes its directory
agent   brings a host's keys from a server to its data planes
dev     a server, a group "dev" and an agent on this machine, in one command
`

// exitRevoked is the exit status after which systemd must not restart the agent
// (RestartPreventExitStatus).
const exitRevoked = 77

func main() {
	if len(os.Args) < 2 {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	var err error
	switch cmd, args := os.Args[1], os.Args[2:]; cmd {
	case "server":
		err = serverCommand(ctx, args)
	case "agent":
		err = agentCommand(ctx, args)
	case "dev":
		err = devCommand(ctx, args)
	case "help", "-h", "--help":
		fmt.Print(usage)
	default:
		fmt.Fprint(os.Stderr, "eespd: no command "+cmd+"\n"+usage)
		os.Exit(2)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "eespd:", err)
		if errors.Is(err, agent.ErrRevoked) {
			fmt.Fprintln(os.Stderr, "to make this host a member again, remove the agent's directory and join with another invite")
			os.Exit(exitRevoked)
		}
		os.Exit(1)
	}
}

// harden keeps keys out of swap and core dumps. It cannot make sure that they are wiped: results of Go's HPKE
// are on the heap.
func harden(log *slog.Logger) {
	unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		log.Warn("memory is not locked: keys may get into swap", "err", err)
	}
}

func logger() *slog.Logger { return slog.New(slog.NewTextHandler(os.Stderr, nil)) }

func serverCommand(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("eespd server", flag.ExitOnError)
	dir := fs.String("dir", "/var/lib/eespd/server", "the server's directory")
	endpoints := fs.String("endpoints", "", "etcd that is there already, instead of one in this process")
	await := fs.Bool("await-restore", false, "begin with an empty store and wait for eespctl restore")
	fs.Parse(args)
	if fs.NArg() > 0 {
		return fmt.Errorf("server: unexpected argument %q", fs.Arg(0))
	}
	s, err := startServer(ctx, *dir, *endpoints, *await, logger())
	if err != nil {
		return err
	}
	<-ctx.Done()
	s.wait()
	return nil
}

// renewCert returns the server's certificate, renewed if that is due and can be done; nil: the server's directory is
// not readable.
func renewCert(dir string, log *slog.Logger) *x509.Certificate {
	c, renewed, err := setup.RenewServer(dir, time.Now())
	if err != nil {
		log.Error("a certificate is not renewed, or not in its file: tried again in an hour", "err", err)
	}
	if renewed {
		log.Info("certificates renewed", "until", c.NotAfter)
	}
	return c
}

func exposed(dir string, log *slog.Logger) {
	for _, f := range setup.Exposed(dir) {
		log.Warn("others than this user may read or write this file, and what it has is secret: chmod 600", "file", f)
	}
}

// lock locks a directory against a second process, since it has the record of what an instance published
// last. The descriptor stays open as long as the process runs.
func lock(dir string) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == nil {
		if err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
			err = errors.New("another process uses it")
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	return nil
}

type running struct {
	*server.Server
	wait func()
}

func openStore(ctx context.Context, dir string, f *setup.ServerFile, endpoints string) (store.Store, error) {
	if endpoints != "" {
		f.Endpoints = splitComma(endpoints)
	}
	if len(f.Endpoints) == 0 {
		return etcd.Embed(ctx, etcd.Embedded{Dir: filepath.Join(dir, "etcd"), Name: f.Name, Peer: f.Peer, Cluster: f.Peers, Joins: f.Joins,
			TLS: etcd.Files{Cert: filepath.Join(dir, "server.crt"), Key: filepath.Join(dir, "server.key"), CA: filepath.Join(dir, "ca.crt")}})
	}
	var t *tls.Config
	if f.EtcdCA != "" {
		ca, err := os.ReadFile(f.EtcdCA)
		if err != nil {
			return nil, err
		}
		t = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool()}
		if !t.RootCAs.AppendCertsFromPEM(ca) {
			return nil, fmt.Errorf("%s: no certificate", f.EtcdCA)
		}
		if f.EtcdCert != "" {
			c, err := tls.LoadX509KeyPair(f.EtcdCert, f.EtcdKey)
			if err != nil {
				return nil, err
			}
			t.Certificates = []tls.Certificate{c}
		}
	}
	prefix := f.Prefix
	if prefix == "" {
		prefix = "/eesp/" + f.Cluster + "/"
	}
	return etcd.Dial(ctx, f.Endpoints, t, prefix)
}

func splitComma(s string) (l []string) {
	for len(s) > 0 {
		i := 0
		for i < len(s) && s[i] != ',' {
			i++
		}
		l = append(l, s[:i])
		s = s[min(i+1, len(s)):]
	}
	return l
}

func startServer(ctx context.Context, dir, endpoints string, await bool, log *slog.Logger) (*running, error) {
	harden(log)
	c, f, err := setup.LoadServer(dir)
	if err != nil {
		return nil, err
	}
	c.Log = log
	exposed(dir, log)
	if err := lock(dir); err != nil {
		return nil, err
	}
	if r := renewCert(dir, log); r != nil {
		c.Cert = r
	}
	st, err := openStore(ctx, dir, &f, endpoints)
	if err != nil {
		return nil, err
	}
	c.Store = st
	s := server.New(c)
	if !await {
		if err := s.Begin(ctx); err != nil {
			st.Close()
			return nil, err
		}
	}
	l, err := net.Listen("tcp", f.Listen)
	if err != nil {
		st.Close()
		return nil, err
	}
	hs := s.HTTP()
	go hs.ServeTLS(s.Listener(l), "", "")
	if err := os.MkdirAll(filepath.Dir(f.Admin), 0o700); err != nil {
		return nil, err
	}
	if err := socket.RemoveSocket(f.Admin); err != nil {
		return nil, err
	}
	old := unix.Umask(0o077)
	al, err := net.Listen("unix", f.Admin)
	unix.Umask(old)
	if err != nil {
		return nil, err
	}
	as := &http.Server{Handler: s.LocalHandler(), ReadHeaderTimeout: 10 * time.Second}
	go as.Serve(al)
	if f.Metrics != "" {
		ml, err := net.Listen("tcp", f.Metrics)
		if err != nil {
			log.Warn("no metrics", "err", err)
		} else {
			go (&http.Server{Handler: s.MetricsHandler(), ReadHeaderTimeout: 10 * time.Second}).Serve(ml)
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() { s.Run(ctx) })
	wg.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Hour):
			}
			if c := renewCert(dir, log); c != nil {
				s.SetCert(c)
			}
		}
	})
	log.Info("server is ready", "cluster", f.Cluster, "name", f.Name, "listen", l.Addr())
	notify("READY=1")
	return &running{s, func() {
		wg.Wait()
		hs.Close()
		as.Close()
		st.Close()
	}}, nil
}

// notify sends a state to systemd.
func notify(s string) {
	if a := os.Getenv("NOTIFY_SOCKET"); a != "" {
		if c, err := net.Dial("unixgram", a); err == nil {
			c.Write([]byte(s))
			c.Close()
		}
	}
}

func agentCommand(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("eespd agent", flag.ExitOnError)
	dir := fs.String("dir", "/var/lib/eespd/agent", "the agent's directory")
	sock := fs.String("socket", "/run/eespd/agent/agent.sock", "where data planes find it")
	join := fs.String("join", "", "an invite: become a member first; - reads it from standard input")
	host, _ := os.Hostname()
	name := fs.String("name", host, "the member's name, with --join")
	groups := fs.String("groups", "", "with --join, on a host with several controllers: the groups, or patterns of their names, that have a ring at this one's levels (default: all)")
	only := fs.Bool("join-only", false, "with --join: end when joined")
	grants := fs.String("grants", "", "HOST:PORT for clients outside the cluster, if this host is a granter")
	fs.Parse(args)
	if fs.NArg() > 0 {
		return fmt.Errorf("agent: unexpected argument %q", fs.Arg(0))
	}
	log := logger()
	if *join != "" {
		if *join == "-" {
			var line string
			fmt.Scanln(&line)
			*join = line
		}
		fp, admitted, err := setup.Join(ctx, *dir, *join, *name, splitComma(*groups)...)
		switch {
		case errors.Is(err, setup.ErrJoined):
			log.Info(err.Error())
		case err != nil:
			return err
		default:
			fmt.Printf("joined as %s, key %s\n", *name, fp)
			if !admitted {
				fmt.Println("an operator has to admit it now: eespctl admit " + *name)
			}
		}
		if *only {
			return nil
		}
	}
	return runAgent(ctx, *dir, *sock, *grants, log)
}

func runAgent(ctx context.Context, dir, sock, grants string, log *slog.Logger) error {
	harden(log)
	c, err := setup.LoadAgent(dir)
	if err != nil {
		return err
	}
	if err := lock(dir); err != nil {
		return err
	}
	c.Log = log
	for _, m := range c.Memberships {
		exposed(m.Dir, log)
	}
	c.PolicyFile = filepath.Join(dir, "policy.json")
	if c.Policy, err = socket.ReadPolicy(c.PolicyFile); err != nil {
		return err
	}
	a, err := agent.New(c)
	if err != nil {
		return err
	}
	l, err := socket.Listen(sock)
	if err != nil {
		return err
	}
	defer l.Close()
	go a.Planes.Serve(l)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	status := filepath.Join(filepath.Dir(sock), "status.sock")
	if err := socket.RemoveSocket(status); err != nil {
		return err
	}
	old := unix.Umask(0o077)
	sl, err := net.Listen("unix", status)
	unix.Umask(old)
	if err != nil {
		return err
	}
	go http.Serve(sl, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(a.Status())
	}))
	if grants != "" {
		gl, err := net.Listen("tcp", grants)
		if err != nil {
			return err
		}
		hs := &http.Server{Handler: a.GrantHandler(), TLSConfig: a.GrantTLS(), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
		defer hs.Close()
		go hs.ServeTLS(netutil.LimitListener(gl, 1024), "", "") // clients' connections are short
	}
	notify("READY=1")
	return a.Run(ctx)
}

func devCommand(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("eespd dev", flag.ExitOnError)
	dir := fs.String("dir", filepath.Join(os.TempDir(), "eesp-dev"), "where all of it lies; it is made anew each time")
	port := fs.Int("port", 7443, "of the server, on 127.0.0.1")
	grants := fs.String("grants", "", "HOST:PORT for clients outside; see eespctl grant")
	fs.Parse(args)
	log := logger()
	if err := os.RemoveAll(*dir); err != nil {
		return err
	}
	addr := fmt.Sprintf("127.0.0.1:%d", *port)
	// For a try on one machine, the passphrase need not be secret.
	if _, err := setup.Init(setup.InitOptions{Dir: *dir, Servers: []setup.InitServer{{Name: "dev", Addr: addr}}, Levels: []record.Level{record.Zone}, Pass: []byte("for a try only"), EtcdPort: "0"}); err != nil {
		return err
	}
	sdir := filepath.Join(*dir, "dev")
	if err := setup.EditServer(sdir, func(f *setup.ServerFile) {
		f.Listen, f.Admin, f.Metrics = addr, filepath.Join(*dir, "admin.sock"), ""
	}); err != nil {
		return err
	}
	s, err := startServer(ctx, sdir, "", false, log)
	if err != nil {
		return err
	}
	defer s.wait()
	p := record.DefaultPolicy
	p.PathDelay, p.MinInterval = 1000, 0
	if _, err := s.CreateGroup(ctx, "dev", server.GroupRequest{Name: "dev", V: 1, Policy: &p}); err != nil {
		return err
	}
	inv, err := s.Invite(ctx, "dev", server.InviteRequest{Auto: true})
	if err != nil {
		return err
	}
	adir := filepath.Join(*dir, "agent")
	if _, _, err := setup.Join(ctx, adir, inv.(map[string]any)["invite"].(string), "dev"); err != nil {
		return err
	}
	fmt.Printf("group:  dev\nsocket: %s/agent.sock\ntry:    eespctl --socket %s/admin.sock status\n", *dir, *dir)
	return runAgent(ctx, adir, filepath.Join(*dir, "agent.sock"), *grants, log)
}
