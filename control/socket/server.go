package socket

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"libeesp/control/record"
	"libeesp/internal/link"
)

// Policy says which users may follow which groups. Root may follow all.
type Policy struct {
	Rules []Rule `json:"rules"`
	// Clients are the clients outside the cluster to which this host gives data keys, if it is a
	// granter.
	Clients []ClientRule `json:"clients,omitempty"`
	// ClientLease is the length of leases in seconds, at most 600; 0: 300.
	ClientLease int `json:"client_lease,omitempty"`
	// DetachGrace is how many seconds a step waits for a program that has closed its socket and
	// still runs; then the member acknowledges without it. Negative: no limit.
	DetachGrace int `json:"detach_grace"`
	// Tunnels are devices, or patterns of names, of tunnels whose keys this host has: a server is not
	// used if its route is one of them. Devices of attached programs are found without this, if the
	// agent may read the programs' descriptors.
	Tunnels []string `json:"tunnels,omitempty"`
}

// Rule lets a user or a group of users follow groups; "*" is all.
type Rule struct {
	User   string   `json:"user,omitempty"`
	Group  string   `json:"group,omitempty"`
	Follow []string `json:"follow"`
}

// ClientRule lets a client have data keys of groups. It names the client by the hash of its key, which
// eespctl grant client prints: a certificate of the CA alone is not enough.
type ClientRule struct {
	Name   string   `json:"name"`
	Key    string   `json:"key"`
	Groups []string `json:"groups"`
	// Minute is the most pairs a minute (0: 60), Live the most at one time (0: 256).
	Minute int `json:"minute,omitempty"`
	Live   int `json:"live,omitempty"`
}

// ReadPolicy reads a policy. If there is no file, only root may follow.
func ReadPolicy(file string) (p Policy, err error) {
	p.DetachGrace = 30
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return p, nil
	}
	if err == nil {
		// A word that is not known is a typing error, and what it was to allow or forbid is not clear.
		d := json.NewDecoder(bytes.NewReader(b))
		d.DisallowUnknownFields()
		if err = d.Decode(&p); err == nil && len(bytes.TrimSpace(b[d.InputOffset():])) > 0 {
			err = errors.New("something follows the policy")
		}
	}
	for _, r := range p.Rules {
		switch {
		case err != nil:
		case len(r.Follow) > 64:
			err = errors.New("a rule names more than 64 groups")
		case r.User == "" && r.Group == "":
			err = errors.New("a rule names neither a user nor a group of users")
		}
	}
	for _, r := range p.Clients {
		if k, e := hex.DecodeString(r.Key); err == nil && (e != nil || len(k) != 32) {
			err = fmt.Errorf("client %q: the key is 64 hex digits, as eespctl grant client prints it", r.Name)
		}
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", file, err)
	}
	return p, err
}

// May reports whether a process of this user and group may follow a group.
func (p *Policy) May(uid, gid uint32, group string) bool {
	if uid == 0 {
		return true
	}
	gids := []string{strconv.Itoa(int(gid))}
	if u, err := user.LookupId(strconv.Itoa(int(uid))); err == nil {
		if l, err := u.GroupIds(); err == nil {
			gids = append(gids, l...)
		}
	}
	for _, r := range p.Rules {
		if !slices.Contains(r.Follow, group) && !slices.Contains(r.Follow, "*") {
			continue
		}
		if r.User != "" {
			if u, err := user.Lookup(r.User); err == nil && u.Uid == strconv.Itoa(int(uid)) || r.User == strconv.Itoa(int(uid)) {
				return true
			}
		}
		if r.Group != "" {
			if g, err := user.LookupGroup(r.Group); err == nil && slices.Contains(gids, g.Gid) || slices.Contains(gids, r.Group) {
				return true
			}
		}
	}
	return false
}

// IDSource gives out IDs that were never given out before.
type IDSource func(ctx context.Context, g *record.Group, n int) ([]uint64, error)

// Usage is a program's usage of a generation since the program began.
type Usage struct {
	Ring                             record.ID
	Gen                              uint64
	Derived, Sealed, Opened, Refused uint64
}

// Server is the agent's end.
type Server struct {
	Cluster record.ID
	Member  string
	Policy  Policy
	IDs     IDSource
	Usage   func(pid int, u Usage)
	Hint    func() // called if a program says that packets name a newer key
	Log     *slog.Logger
	Silent  time.Duration // how long a program may take to answer; 0: 5 s

	mu     sync.Mutex
	states map[string]*State // by group's name
	planes map[*plane]bool
	seq    uint64
	moved  chan struct{} // closed when a program answers, attaches or detaches
	bucket map[string]*bucket
	asked  map[uint64]chan granted
	number uint64 // of the last grant that was requested
}

// bucket limits the IDs of one program: each ID takes a replay window at all receivers.
type bucket struct {
	left float64
	at   time.Time
}

const (
	idBurst = 16
	idEvery = 10 * time.Second
)

// plane is a program that is attached, or was and still runs.
type plane struct {
	pid      int
	uid, gid uint32
	name     string
	instance uint64 // of the program; a new connection of an instance replaces the old one
	pidfd    int
	conn     net.Conn
	ended    chan struct{}
	wmu      sync.Mutex
	detached time.Time // zero: attached
	groups   map[string]*following
	usage    map[string]Usage
}

type following struct {
	clients    bool // it gives keys to clients
	sent, done uint64
	code       uint8
	reason     string
	since      time.Time // when a state was last sent
}

func (s *Server) init() {
	if s.states == nil {
		s.states, s.planes, s.moved, s.bucket = map[string]*State{}, map[*plane]bool{}, make(chan struct{}), map[string]*bucket{}
		s.seq = uint64(time.Now().UnixNano()) // rises, also after a restart
		if s.Log == nil {
			s.Log = slog.New(slog.DiscardHandler)
		}
		if s.Silent == 0 {
			s.Silent = 5 * time.Second
		}
	}
}

func (s *Server) wake() {
	close(s.moved)
	s.moved = make(chan struct{})
}

// Listen makes the socket. Its directory belongs to root; its group may enter it.
func Listen(path string) (*net.UnixListener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, err
	}
	if err := RemoveSocket(path); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	// Anyone may connect: the policy decides by the peer's user, which the kernel tells.
	return l, os.Chmod(path, 0o666)
}

// RemoveSocket removes a socket that a process left. It removes nothing else: the path may be a mistake.
func RemoveSocket(path string) error {
	switch i, err := os.Lstat(path); {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case i.Mode().Type() != os.ModeSocket:
		return fmt.Errorf("%s is there and is no socket: it is not removed", path)
	}
	return os.Remove(path)
}

// Serve accepts programs until the listener is closed.
func (s *Server) Serve(l *net.UnixListener) {
	s.mu.Lock()
	s.init()
	s.mu.Unlock()
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return
		}
		go func() {
			if err := s.serve(c); err != nil {
				s.Log.Debug("data plane", "err", err)
			}
		}()
	}
}

func peer(c *net.UnixConn) (cred *unix.Ucred, pidfd int, err error) {
	pidfd = -1
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, -1, err
	}
	e := raw.Control(func(fd uintptr) {
		if cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err != nil {
			return
		}
		if pidfd, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PEERPIDFD); err != nil {
			pidfd, err = unix.PidfdOpen(int(cred.Pid), 0) // for older kernels
		}
		err = nil // without a pidfd, a process whose socket closes counts as ended
	})
	return cred, pidfd, errors.Join(e, err)
}

// attached reports whether the program's socket is open. s.mu is held.
func (p *plane) attached() bool { return p.detached.IsZero() }

// alive reports whether the process still runs. s.mu is held.
func (p *plane) alive() bool {
	if p.pidfd < 0 {
		return p.attached()
	}
	fds := []unix.PollFd{{Fd: int32(p.pidfd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err != nil || n == 0
}

func (s *Server) serve(c *net.UnixConn) (err error) {
	defer c.Close()
	cred, pidfd, err := peer(c)
	if err != nil {
		return err
	}
	p := &plane{pid: int(cred.Pid), uid: cred.Uid, gid: cred.Gid, pidfd: pidfd, conn: c, ended: make(chan struct{}), groups: map[string]*following{}, usage: map[string]Usage{}}
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	f, err := ReadFrame(c)
	if err != nil {
		return err
	}
	h, err := Fields(f.Fields)
	if err != nil || f.Type != link.Hello {
		return errors.Join(ErrFrame, err)
	}
	if v := get16(h[1]); v != Major {
		p.error(link.ErrCodeVersion, fmt.Sprintf("protocol %d: this agent speaks %d.%d", v, Major, Minor), "")
		return fmt.Errorf("protocol %d", v)
	}
	p.name, p.instance = fmt.Sprintf("%s[%d]", h[5], p.pid), get64(h[6])
	c.SetReadDeadline(time.Time{})
	w := put64(put16(put16(nil, 1, Major), 2, Minor), 3, 0)
	if err := p.write(Frame{Type: link.Welcome, Fields: Put(Put(w, 4, s.Cluster[:]), 5, []byte(s.Member))}); err != nil {
		return err
	}
	s.mu.Lock()
	// A program that attaches again replaces its former connection.
	for o := range s.planes {
		if o.pid == p.pid && o.instance == p.instance && (!o.attached() || p.instance != 0) {
			s.drop(o)
		}
	}
	s.planes[p] = true
	s.wake()
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		p.detached = time.Now()
		close(p.ended)
		if !p.alive() || len(p.groups) == 0 {
			s.drop(p)
		} else {
			s.Log.Warn("data plane closed its socket and lives on", "program", p.name)
		}
		s.wake()
	}()
	for {
		f, err := ReadFrame(c)
		if err != nil {
			return err
		}
		if err := s.receive(p, f); err != nil {
			return err
		}
	}
}

// drop removes a program. s.mu is held.
func (s *Server) drop(p *plane) {
	if s.planes[p] {
		delete(s.planes, p)
		if p.pidfd >= 0 {
			unix.Close(p.pidfd)
			p.pidfd = -1
		}
	}
}

func (p *plane) write(f Frame) error {
	p.wmu.Lock()
	defer p.wmu.Unlock()
	p.conn.SetWriteDeadline(time.Now().Add(5 * time.Second))
	return WriteFrame(p.conn, f) // an error once serve has closed it
}

func (p *plane) error(code uint16, text, group string) {
	b := Put(put16(nil, 1, code), 2, []byte(text))
	p.write(Frame{Type: link.Error, Fields: Put(b, 3, []byte(group))})
}

func (s *Server) receive(p *plane, f Frame) error {
	m, err := Fields(f.Fields)
	if err != nil {
		return err
	}
	var group record.ID
	copy(group[:], m[1])
	switch f.Type {
	case link.Follow:
		name := string(m[1])
		if !s.Policy.May(p.uid, p.gid, name) || len(p.groups) >= 64 {
			s.Log.Warn("data plane refused", "program", p.name, "uid", p.uid, "group", name)
			p.error(link.ErrCodePolicy, fmt.Sprintf("user %d may not follow group %s: see the agent's policy", p.uid, name), name)
			return nil
		}
		s.mu.Lock()
		p.groups[name] = &following{clients: get16(m[2])&link.FollowClients != 0}
		known := s.states[name] != nil
		s.wake()
		s.mu.Unlock()
		if !known {
			p.error(link.ErrCodeUnknown, "no group "+name+" yet", name)
		}
		s.send(p, name)
	case link.Done:
		s.mu.Lock()
		for name, fl := range p.groups {
			if st := s.states[name]; st != nil && st.Group.ID == group && get64(m[2]) == fl.sent && len(m[3]) == 1 {
				fl.done, fl.code, fl.reason = fl.sent, m[3][0], string(m[4])
			}
		}
		s.wake()
		s.mu.Unlock()
		for name := range p.groups {
			s.send(p, name) // if the state changed while the program was at work
		}
	case link.NeedIDs:
		return s.giveIDs(p, group, int(get16(m[2])))
	case link.UsageFrame:
		if s.Usage == nil || len(m[1]) != 16 || len(m[2]) != 40 {
			return nil
		}
		u := Usage{Ring: group}
		for i, x := range []*uint64{&u.Gen, &u.Derived, &u.Sealed, &u.Opened, &u.Refused} {
			*x = binary.BigEndian.Uint64(m[2][8*i:])
		}
		s.Usage(p.pid, u)
	case link.Granted:
		return s.granted(m)
	case link.Hint:
		s.mu.Lock()
		follows := false
		for name := range p.groups {
			follows = follows || s.states[name] != nil && s.states[name].Group.ID == group
		}
		s.mu.Unlock()
		if follows && s.Hint != nil {
			s.Hint()
		}
	default:
		if f.Flags&link.MustKnow != 0 {
			return fmt.Errorf("%w: type %d", ErrFrame, f.Type)
		}
	}
	return nil
}

func (s *Server) giveIDs(p *plane, group record.ID, n int) error {
	s.mu.Lock()
	var g *record.Group
	for name := range p.groups {
		if st := s.states[name]; st != nil && st.Group.ID == group {
			x := st.Group
			g = &x
		}
	}
	key := fmt.Sprintf("%d %s", p.uid, group)
	b := s.bucket[key]
	if b == nil {
		b = &bucket{left: idBurst, at: time.Now()}
		s.bucket[key] = b
	}
	b.left = min(idBurst, b.left+time.Since(b.at).Seconds()/idEvery.Seconds())
	b.at = time.Now()
	ok := g != nil && n > 0 && n <= idBurst && b.left >= float64(n)
	if ok {
		b.left -= float64(n)
	}
	s.mu.Unlock()
	if g == nil {
		return fmt.Errorf("%w: IDs for a group that is not followed", ErrFrame)
	}
	if !ok {
		s.Log.Warn("data plane asks for too many IDs", "program", p.name, "group", g.Name)
		p.error(link.ErrCodeIDs, "too many IDs in too short a time: 16, then one in 10 s", g.Name)
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ids, err := s.IDs(ctx, g, n)
	if err != nil {
		p.error(link.ErrCodeIDs, err.Error(), g.Name)
		return nil
	}
	var v []byte
	for _, id := range ids {
		v = binary.BigEndian.AppendUint64(v, id)
	}
	return p.write(Frame{Type: link.IDs, Fields: Put(Put(nil, 1, group[:]), 2, v)})
}

// send sends a program the newest state of a group, if it has answered the one before.
func (s *Server) send(p *plane, name string) {
	s.mu.Lock()
	st, f := s.states[name], p.groups[name]
	if st == nil || f == nil || !p.attached() || f.sent != f.done || f.sent == st.Seq {
		s.mu.Unlock()
		return
	}
	f.sent, f.since = st.Seq, time.Now()
	b := st.Marshal()
	s.mu.Unlock()
	if err := p.write(Frame{Type: link.StateFrame, Flags: link.MustKnow, Fields: b}); err != nil {
		s.Log.Warn("data plane does not read", "program", p.name, "err", err)
	}
	clear(b)
}

// Failure says in which program a step is not done, and why.
type Failure struct {
	Code    record.Code
	Program string
	Reason  string
}

func (f *Failure) Error() string { return fmt.Sprintf("%s: %s", f.Program, f.Reason) }

// Set sets the desired state of a group, and sends it to programs.
func (s *Server) Set(st State) {
	s.mu.Lock()
	s.init()
	s.seq++
	st.Seq = s.seq
	s.states[st.Group.Name] = &st
	var ps []*plane
	for p := range s.planes {
		ps = append(ps, p)
	}
	s.mu.Unlock()
	for _, p := range ps {
		s.send(p, st.Group.Name)
	}
}

// Wait waits until all programs that follow the group have installed the state that is the newest now, or a
// newer one: further changes do not make it wait longer. It returns the first program that refuses or does
// not answer, else nil.
func (s *Server) Wait(ctx context.Context, name string) *Failure {
	deadline := time.Now().Add(s.Silent)
	s.mu.Lock()
	s.init()
	st := s.states[name]
	s.mu.Unlock()
	for {
		s.mu.Lock()
		var fail *Failure
		open := false
		for p := range s.planes {
			if !p.attached() && !p.alive() {
				s.drop(p)
				continue
			}
			f := p.groups[name]
			if f == nil || st == nil {
				continue
			}
			switch {
			case !p.attached():
				if g := s.Policy.DetachGrace; g >= 0 && time.Since(p.detached) > time.Duration(g)*time.Second {
					s.Log.Error("acknowledging without a data plane that closed its socket", "program", p.name)
					s.drop(p)
					continue
				}
				open, fail = true, &Failure{record.CodeDetached, p.name, "closed its socket and lives on"}
			case f.done < st.Seq:
				open = true
				if fail == nil {
					fail = &Failure{record.CodeSilent, p.name, "does not answer"}
				}
			case f.code != 0:
				fail = &Failure{record.CodeDataPlane, p.name, f.reason}
			}
		}
		moved := s.moved
		s.mu.Unlock()
		if !open {
			return fail
		}
		left := time.Until(deadline)
		if left <= 0 {
			return fail
		}
		select {
		case <-moved:
		case <-time.After(min(left, 100*time.Millisecond)):
		case <-ctx.Done():
			return fail
		}
	}
}

// Programs returns a line for each attached program, for status.
func (s *Server) Programs() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := []string{}
	for p := range s.planes {
		for g, f := range p.groups {
			how := "in step"
			if !p.attached() {
				how = "detached"
			} else if st := s.states[g]; st == nil || f.done != st.Seq {
				how = "behind"
			}
			l = append(l, p.name+" "+g+": "+how)
		}
	}
	slices.Sort(l)
	return l
}

// SealOf returns whether the newest state of a group allows sealing, as SealYes; -1: there is none.
func (s *Server) SealOf(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.states[name]; st != nil {
		return int(st.Seal)
	}
	return -1
}
