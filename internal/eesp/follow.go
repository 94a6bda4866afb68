package eesp

import (
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"libeesp/internal/keys"
	"libeesp/internal/ktime"
	"libeesp/internal/link"
	"libeesp/internal/say"
	"libeesp/internal/secmem"
	"libeesp/internal/status"
	"libeesp/internal/wire"
)

// Following an agent: the group's parameters, keys and IDs come from the agent's Unix
// socket (docs/control.md). One thread for each group does the work, with blocking calls.
// It keeps one descriptor. Before each use it checks that this is still its socket: the
// program may have closed it and reused the number.

const AgentSocket = "/run/eespd/agent/agent.sock"

type FollowConfig struct {
	Socket      string
	Timeout     time.Duration
	WithoutKeys bool
	AgentUID    uint32
	Clients     bool
}

type FollowInfo struct {
	Connected      bool
	Sealing        status.Code
	Generations    [link.Levels][3]uint64
	States         uint64
	Refused        uint64
	Fenced         uint64
	IDs            []uint64
	V              uint8
	ReplayWindow   uint32
	ReplayContexts uint32
	Replay         ReplayMode
	MTU            uint16
	Profile        ProfileID
	AEAD           AEAD
	Domain         uint32
	Mode           uint8
	Problem        string
}

// follower is a group's end of the connection to the agent.
type follower struct {
	name     string
	config   FollowConfig
	instance uint64
	stop     atomic.Bool
	ended    atomic.Bool
	values   *link.Values // in locked memory
	write    sync.Mutex

	mu         sync.Mutex
	fd         int // -1: not connected
	inode      uint64
	connected  bool // and the agent has answered HELLO
	final      error
	problem    string
	g          *Group
	state      link.State // the newest state that was installed
	sealing    status.Code
	slots      [2]uint64     // tss: generations
	lost       time.Duration // boot time at which the connection was
	states     uint64
	refused    uint64
	fenced     uint64
	ids        []uint64
	senders    []*Sender
	without    []*Sender // senders that wait for an ID
	giving     bool      // take is giving IDs to senders that it has removed from without
	barred     []*Sender // senders in without whose old ID another machine may have
	asked      int       // how many IDs the agent was asked for
	askAfter   time.Time
	reported   time.Time // when usage was reported; the thread's
	receivers  []*Receiver
	clients    map[uint64]*client // by the ID of packets to them
	renewedKey time.Duration      // psp: boot time at which the newest device key was made
	ahead      atomic.Uint32      // levels at which packets name newer keys: keys.Params.Ahead
	hintAfter  time.Time          // no hint before; the thread's
}

func FollowGroup(name string, c FollowConfig) (*Group, error) {
	return FollowGroupOn(name, c, func(run func()) error { go run(); return nil })
}

// FollowGroupOn is FollowGroup for the C library. start must call run in a thread of its
// own.
func FollowGroupOn(name string, c FollowConfig, start func(run func()) error) (*Group, error) {
	switch {
	case name == "" || len(name) > 64:
		return nil, say.Errorf("%w: a group's name of %d octets, not 1 to 64", status.ErrArgument, len(name))
	case len(c.Socket) > 107:
		return nil, say.Errorf("%w: the socket's path has %d octets, more than 107", status.ErrArgument, len(c.Socket))
	case c.Timeout < 0:
		return nil, say.Errorf("%w: a timeout of %v", status.ErrArgument, c.Timeout)
	}
	if c.Socket == "" {
		c.Socket = AgentSocket
	}
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	values, err := secmem.New[link.Values]()
	if err != nil {
		return nil, err
	}
	var b [8]byte
	if err := keys.Random(b[:]); err != nil {
		return nil, err
	}
	f := &follower{name: name, config: c, instance: binary.BigEndian.Uint64(b[:]), values: values, fd: -1, lost: bootTime(), sealing: status.ErrNoKey}
	if err := start(f.run); err != nil {
		secmem.Delete(values)
		return nil, err
	}
	end := time.Now().Add(c.Timeout)
	for wait := time.Millisecond; ; wait = min(2*wait, 10*time.Millisecond) {
		g, err := f.arrived()
		if g != nil {
			return g, nil
		}
		if err == nil && time.Now().After(end) {
			err = f.missing()
		}
		if err != nil {
			f.close()
			f.mu.Lock()
			g = f.g
			f.mu.Unlock()
			g.Close()
			return nil, err
		}
		ktime.Nap(wait)
	}
}

func bootTime() time.Duration { return time.Duration(ktime.Clock(unix.CLOCK_BOOTTIME)) }

// arrived returns the group once FollowGroup need not wait any more, else nil.
func (f *follower) arrived() (*Group, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.final != nil {
		return nil, f.final
	}
	if f.g != nil && (f.config.WithoutKeys || f.hasKeys()) {
		return f.g, nil
	}
	return nil, nil
}

// hasKeys: f.mu is held.
func (f *follower) hasKeys() bool {
	if f.g != nil && f.g.g.Params().SPIs {
		return true // made here
	}
	for _, r := range f.state.Rings {
		if r != nil && r.Gens[1] != 0 {
			return true
		}
	}
	return false
}

// missing returns the error that says what has not come in time.
func (f *follower) missing() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.g != nil:
		return say.Errorf("%w: group %s has no key yet", status.ErrNoKey, f.name)
	case f.connected && f.problem != "":
		return say.Errorf("%w: %s", status.ErrNotFound, f.problem)
	case f.connected:
		return say.Errorf("%w: the agent does not know a group %s", status.ErrNotFound, f.name)
	}
	why := f.problem
	if why == "" { // the thread has not come that far
		why = "not connected yet"
	}
	return say.Errorf("%w: %s: %s", status.ErrAgent, f.config.Socket, why)
}

// close ends the thread and drops the keys.
func (f *follower) close() {
	f.stop.Store(true)
	f.mu.Lock()
	if f.fd >= 0 && f.owns(f.fd) {
		syscall.Shutdown(f.fd, syscall.SHUT_RDWR)
	}
	f.mu.Unlock()
	for end := time.Now().Add(2 * time.Second); !f.ended.Load() && time.Now().Before(end); {
		ktime.Nap(time.Millisecond)
	}
}

// run is the thread's function.
func (f *follower) run() {
	defer f.ended.Store(true)
	defer func() {
		clear(f.values[:])
		secmem.Delete(f.values)
	}()
	for wait := 50 * time.Millisecond; !f.stop.Load(); {
		began := time.Now()
		err := f.session()
		f.mu.Lock()
		was := f.connected
		f.connected = false
		if f.fd >= 0 {
			if f.owns(f.fd) {
				syscall.Close(f.fd)
			}
			f.fd = -1
		}
		if !f.stop.Load() {
			f.problem = err.Error()
		}
		if was {
			f.lost = bootTime()
		}
		f.mu.Unlock()
		if time.Since(began) > 5*time.Second || was {
			wait = 50 * time.Millisecond
		}
		for end := time.Now().Add(wait); time.Now().Before(end) && !f.stop.Load(); {
			ktime.Nap(20 * time.Millisecond)
		}
		wait = min(2*wait, 2*time.Second)
		f.look()
	}
	f.mu.Lock()
	g := f.g
	f.mu.Unlock()
	f.endClients(func(*client) bool { return true })
	if g != nil {
		f.drop(g.g)
	}
}

func (f *follower) drop(g *keys.Group) {
	g.SetSealing(status.ErrNoKey)
	if g.Params().Slots == 0 {
		g.Publish([wire.Levels]*keys.RootKey{}, status.ErrNoKey)
		return
	}
	for i := range g.Params().Slots {
		g.RemoveKey(i)
	}
}

// owns reports whether a descriptor still is the follower's socket. f.mu is held.
func (f *follower) owns(fd int) bool {
	var st syscall.Stat_t
	return syscall.Fstat(fd, &st) == nil && st.Mode&syscall.S_IFMT == syscall.S_IFSOCK && st.Ino == f.inode
}

// descriptor returns the connection's descriptor, or an error if it is gone.
func (f *follower) descriptor() (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.stop.Load():
		return -1, errors.New("closed")
	case f.fd < 0:
		return -1, errors.New("not connected")
	case !f.owns(f.fd):
		f.fd = -1 // the program uses the number for another file
		return -1, errors.New("the host has closed the connection's descriptor")
	}
	return f.fd, nil
}

const (
	// recvTimeout is how often a thread that waits for a frame calls look.
	recvTimeout = 250 * time.Millisecond
	frameTime   = 10 * time.Second // how long a frame may take to arrive
	burstTime   = 4 * time.Second  // how long bursts may take to end: the agent waits 5 s
)

// session connects, and works until the connection ends.
func (f *follower) session() error {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return say.Errorf("socket: %w", err)
	}
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		syscall.Close(fd)
		return err
	}
	f.mu.Lock()
	f.fd, f.inode = fd, st.Ino
	f.mu.Unlock()
	for _, o := range []int{syscall.SO_RCVTIMEO, syscall.SO_SNDTIMEO} {
		t := syscall.NsecToTimeval(int64(recvTimeout))
		if o == syscall.SO_SNDTIMEO {
			t = syscall.NsecToTimeval(int64(5 * time.Second))
		}
		if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, o, &t); err != nil {
			return err
		}
	}
	if err := syscall.Connect(fd, &syscall.SockaddrUnix{Name: f.config.Socket}); err != nil {
		return say.Errorf("connect: %w", err)
	}
	cred, err := syscall.GetsockoptUcred(fd, syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	if err != nil {
		return say.Errorf("cannot tell which user the agent is: %w", err)
	}
	if u := cred.Uid; u != 0 && u != uint32(unix.Geteuid()) && (f.config.AgentUID == 0 || u != f.config.AgentUID) {
		return say.Errorf("the socket belongs to user %d, which is not trusted with keys", u)
	}
	h := link.Put64(link.Put16(link.Put16(nil, 1, link.Major), 2, link.Minor), 3, 0)
	h = link.Put(link.Put(h, 4, []byte("libeesp 1.1")), 5, []byte(programName()))
	if err := f.send(link.Hello, link.MustKnow, link.Put64(h, 6, f.instance)); err != nil {
		return err
	}
	typ, body, err := f.receive(false)
	if err != nil {
		return err
	}
	m, err := link.Fields(body)
	switch {
	case err != nil:
		return err
	case typ == link.Error:
		return say.Errorf("the agent says: %s", m[2])
	case typ != link.Welcome || link.Get16(m[1]) != link.Major:
		return say.Errorf("the agent speaks another protocol")
	}
	f.mu.Lock()
	f.connected, f.asked, f.askAfter, f.problem = true, 0, time.Time{}, ""
	f.mu.Unlock()
	ask := link.Put(nil, 1, []byte(f.name))
	if f.config.Clients {
		ask = link.Put16(ask, 2, link.FollowClients)
	}
	if err := f.send(link.Follow, 0, ask); err != nil {
		return err
	}
	for {
		f.look()
		typ, body, err := f.receive(true)
		if err != nil {
			return err
		}
		if err := f.frame(typ, body); err != nil {
			return err
		}
	}
}

func programName() string {
	fd, err := unix.Open("/proc/self/comm", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	b := make([]byte, 64)
	n, _ := unix.Read(fd, b)
	return string(slices.DeleteFunc(b[:max(n, 0)], func(c byte) bool { return c < ' ' }))
}

// send writes a frame.
func (f *follower) send(typ, flags uint16, fields []byte) error {
	return f.sendIn(make([]byte, 8+len(fields)), typ, flags, fields)
}

// sendIn is send with the buffer b, which has 8 octets for the header in front of the
// fields.
func (f *follower) sendIn(b []byte, typ, flags uint16, fields []byte) error {
	f.write.Lock()
	defer f.write.Unlock()
	binary.BigEndian.PutUint32(b, uint32(len(fields)))
	binary.BigEndian.PutUint16(b[4:], typ)
	binary.BigEndian.PutUint16(b[6:], flags)
	for copy(b[8:], fields); len(b) > 0; {
		fd, err := f.descriptor()
		if err != nil {
			return err
		}
		n, err := syscall.SendmsgN(fd, b, nil, nil, syscall.MSG_NOSIGNAL)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return say.Errorf("send: %w", err)
		default:
			b = b[n:]
		}
	}
	return nil
}

// receive reads a frame. The values of a STATE go to locked memory only.
func (f *follower) receive(idle bool) (typ uint16, body []byte, err error) {
	var h [8]byte
	if err := f.read(h[:], idle); err != nil {
		return 0, nil, err
	}
	n, typ := binary.BigEndian.Uint32(h[:]), binary.BigEndian.Uint16(h[4:])
	if n > 64<<10 {
		return 0, nil, say.Errorf("%w: %d octets", link.ErrFrame, n)
	}
	body = make([]byte, n)
	rest := body
	if typ == link.StateFrame {
		if n < link.ValuesAt+link.ValuesLen {
			return 0, nil, say.Errorf("%w: state", link.ErrFrame)
		}
		if err := f.read(body[:link.ValuesAt], false); err != nil {
			return 0, nil, err
		}
		for l := range f.values {
			for i := range f.values[l] {
				if err := f.read(f.values[l][i][:], false); err != nil {
					return 0, nil, err
				}
			}
		}
		rest = body[link.ValuesAt+link.ValuesLen:]
	}
	return typ, body, f.read(rest, false)
}

// read fills b. Between frames (idle) it calls look from time to time.
func (f *follower) read(b []byte, idle bool) error {
	end := time.Now().Add(frameTime)
	for len(b) > 0 {
		fd, err := f.descriptor()
		if err != nil {
			return err
		}
		n, err := syscall.Read(fd, b)
		switch {
		case err == syscall.EINTR:
		case err == syscall.EAGAIN && idle:
			f.look()
			end = time.Now().Add(frameTime)
		case err == syscall.EAGAIN:
			if time.Now().After(end) {
				return errors.New("the agent sent an incomplete frame")
			}
		case err != nil:
			return say.Errorf("receive: %w", err)
		case n == 0:
			return errors.New("the agent has ended the connection")
		default:
			b, idle = b[n:], false
		}
	}
	return nil
}

// frame handles one frame from the agent.
func (f *follower) frame(typ uint16, body []byte) error {
	if typ == link.StateFrame {
		defer clear(f.values[:])
		st, err := link.ParseState(body)
		if err != nil {
			return err
		}
		answer := link.Put64(link.Put(nil, 1, st.Group[:]), 2, st.Seq)
		if err := f.apply(&st); err != nil {
			f.mu.Lock()
			f.refused++
			f.problem = err.Error()
			f.mu.Unlock()
			answer = link.Put(link.Put(answer, 3, []byte{1}), 4, []byte(err.Error()))
		} else {
			answer = link.Put(answer, 3, []byte{0})
		}
		return f.send(link.Done, 0, answer)
	}
	m, err := link.Fields(body)
	if err != nil {
		return err
	}
	switch typ {
	case link.IDs:
		var ids []uint64
		for v := m[2]; len(v) >= 8; v = v[8:] {
			ids = append(ids, binary.BigEndian.Uint64(v))
		}
		f.take(ids)
	case link.Grant:
		return f.grant(m)
	case link.Error:
		f.mu.Lock()
		f.problem = string(m[2])
		switch link.Get16(m[1]) {
		case link.ErrCodePolicy, link.ErrCodeVersion:
			if f.g == nil {
				f.final = say.Errorf("%w: %s", status.ErrAgent, f.problem)
			}
		case link.ErrCodeIDs:
			f.asked, f.askAfter = 0, time.Now().Add(2*time.Second)
		}
		f.mu.Unlock()
	}
	return nil
}

// apply installs a state. When it returns nil, the state is in force as package link
// describes for DONE.
func (f *follower) apply(st *link.State) (err error) {
	f.mu.Lock()
	g := f.g
	f.mu.Unlock()
	if g == nil {
		if g, err = f.makeGroup(st); err != nil {
			f.mu.Lock()
			f.final = err
			f.mu.Unlock()
			return err
		}
		defer func() {
			if err != nil {
				g.g.Release()
			}
		}()
	} else {
		a, b := st.Params, f.state.Params
		a.Window, a.Contexts, a.MTU = b.Window, b.Contexts, b.MTU // only these may change
		if st.Group != f.state.Group || a != b {
			return say.Errorf("this is another group: follow it anew")
		}
	}
	sealing := map[uint8]status.Code{link.SealYes: status.OK, link.SealStale: status.ErrOutOfTouch, link.SealFenced: status.ErrFenced}[st.Seal]
	if st.Seal != link.SealYes && sealing == status.OK {
		sealing = status.ErrNoKey
	}
	f.mu.Lock()
	if sealing == status.ErrFenced && f.sealing != status.ErrFenced {
		// Another machine may have these IDs: nothing is sealed with them any more.
		f.fenced++
		f.without, f.barred = append([]*Sender(nil), f.senders...), nil
		for _, s := range f.senders {
			if s.now.Load() != nil {
				f.barred = append(f.barred, s)
			}
		}
	}
	f.sealing = sealing
	in := f.inForce()
	f.mu.Unlock()
	if sealing != status.OK { // also if another machine may have the IDs
		f.endClients(func(*client) bool { return true })
	}
	if in != status.OK {
		if err := g.g.SetSealing(in); err != nil {
			return err
		}
	}
	switch {
	case g.g.Params().SPIs:
		err = g.g.SetSealing(in)
	case g.g.Params().Slots == 0:
		err = f.installRings(g.g, st, in)
	default:
		err = f.installSlots(g.g, st, in)
	}
	if err != nil {
		return err
	}
	if !keys.Wait(burstTime) {
		return errors.New("a burst that began before does not end")
	}
	f.mu.Lock()
	f.state, f.g = *st, g
	f.states++
	f.mu.Unlock()
	f.ask()
	return nil
}

// inForce returns the status of packets to be sealed. It is ErrFenced also while fenced
// senders wait for new IDs. f.mu is held.
func (f *follower) inForce() status.Code {
	if f.sealing == status.OK && len(f.barred) != 0 {
		return status.ErrFenced
	}
	return f.sealing
}

func (f *follower) makeGroup(st *link.State) (*Group, error) {
	p := ProfileID(st.Profile)
	if p > ProfileTSS || st.Combiner != 0 || st.EngineBits != 0 || st.CounterMode > link.CountersTimes {
		return nil, say.Errorf("%w: a group of profile %d, combiner %d, counter mode %d: this library follows stateless, psp and tss", status.ErrUnsupported, st.Profile, st.Combiner, st.CounterMode)
	}
	c := GroupConfig{Profile: p, AEAD: AEAD(st.AEAD), Time: st.CounterMode == link.CountersTimes}
	if p == ProfileTSS {
		c.Domain, c.Mode = st.Domain, st.Mode
	}
	g, err := NewGroup(c)
	if err == nil {
		g.g.Params().Ahead = &f.ahead
	}
	if err != nil {
		return nil, say.Errorf("%w: group %s as the agent has it: %v", status.ErrUnsupported, f.name, err)
	}
	if p == ProfilePSP { // device keys are made here, for this process only
		for range g.g.Params().Slots {
			if _, err := g.g.RotateKey(nil); err != nil {
				g.g.Release()
				return nil, err
			}
		}
	}
	f.renewedKey = bootTime()
	g.follows = f
	return g, nil
}

func (f *follower) installRings(g *keys.Group, st *link.State, sealing status.Code) error {
	var rings [wire.Levels]*keys.RootKey
	free := func() {
		for _, k := range rings {
			if k != nil {
				k.Free()
			}
		}
	}
	for l, r := range st.Rings {
		if r == nil || r.Gens[1] == 0 {
			continue
		}
		k, err := keys.NewRing(r.ID[:], r.Gens, &f.values[l], r.Floor)
		if err != nil {
			free()
			return err
		}
		rings[l] = k
	}
	if err := g.Publish(rings, sealing); err != nil {
		free()
		return err
	}
	return nil
}

// installSlots installs the keys of a profile with slots. The slot of a generation is its
// lowest bit. Senders change to the current key before any key is removed.
func (f *follower) installSlots(g *keys.Group, st *link.State, sealing status.Code) error {
	var r *link.Ring
	level := 0
	for l, x := range st.Rings {
		if x != nil {
			r, level = x, l
		}
	}
	if r == nil || r.Gens[1] == 0 {
		for i, have := range f.slots {
			if have != 0 {
				if err := g.RemoveKey(i); err != nil {
					return err
				}
				f.slots[i] = 0
			}
		}
		return g.SetSealing(sealing)
	}
	var other, at uint64
	for i, n := range r.Gens {
		switch {
		case n != 0 && n < r.Floor:
			return say.Errorf("generation %d is below the floor %d", n, r.Floor)
		case i == 1 || n == 0:
		case other != 0 || n&1 == r.Gens[1]&1:
			return say.Errorf("generations %d do not fit in two slots", r.Gens)
		default:
			other, at = n, uint64(i)
		}
	}
	c, lowest := r.Gens[1], r.Gens[1]
	if other != 0 {
		lowest = min(c, other)
	}
	if err := keys.AboveFloor(r.ID[:], lowest); err != nil {
		return err
	}
	set := func(n uint64, value *[32]byte) error {
		if f.slots[n&1] == n {
			return nil
		}
		if err := g.SetKey(int(n&1), value[:]); err != nil {
			return err
		}
		f.slots[n&1] = n
		return nil
	}
	if err := set(c, &f.values[level][1]); err != nil {
		return err
	}
	if s := g.Snapshot(); r.Epoch != 0 && s.Current != int(c&1) {
		g.SetSealing(status.ErrNoKey) // until the key's epoch is set
	}
	if err := g.UseKey(int(c & 1)); err != nil {
		return err
	}
	// Counters begin anew with an epoch, so an epoch must not come again.
	switch have := g.Epoch(); {
	case r.Epoch < have:
		return say.Errorf("the epoch falls from %d to %d", have, r.Epoch)
	case r.Epoch > have:
		if err := g.SetEpoch(r.Epoch); err != nil {
			return err
		}
	}
	switch {
	case other != 0:
		if err := set(other, &f.values[level][at]); err != nil {
			return err
		}
	case f.slots[1-c&1] != 0:
		if err := g.RemoveKey(int(1 - c&1)); err != nil {
			return err
		}
		f.slots[1-c&1] = 0
	}
	keys.RaiseFloor(r.ID[:], max(r.Floor, lowest))
	return g.SetSealing(sealing)
}

// spent is the counter at which a sender asks for another ID.
const spent = 1 << 47

// look does what is due from time to time: IDs, leases, reports, hints.
func (f *follower) look() {
	f.mu.Lock()
	g, stale := f.g, false
	if g != nil && !f.connected && f.state.MaxStale != 0 && f.sealing == status.OK && bootTime()-f.lost > time.Duration(f.state.MaxStale)*time.Second {
		f.sealing, stale = status.ErrOutOfTouch, true
	}
	for _, s := range f.senders {
		if f.state.CounterMode != link.CountersTimes && s.NextTSC()&(1<<48-1) >= spent && !hasSender(f.without, s) {
			f.without = append(f.without, s)
		}
	}
	report := f.connected && g != nil && time.Since(f.reported) >= usageEvery
	st := f.state
	f.mu.Unlock()
	if stale {
		g.g.SetSealing(status.ErrOutOfTouch)
	}
	now := bootTime()
	f.endClients(func(c *client) bool { return stale || now >= c.until })
	if g != nil {
		f.renewDeviceKey(g, now)
	}
	f.ask()
	f.hint()
	if report {
		f.reported = time.Now()
		f.report(g.g, &st)
	}
}

// hintEvery is the least time between two hints: anybody can send packets that cause one.
const hintEvery = 10 * time.Second

// hint tells the agent that packets name newer keys than the group has. The agent then
// asks its server at once.
func (f *follower) hint() {
	if f.ahead.Load() == 0 || time.Now().Before(f.hintAfter) {
		return
	}
	f.mu.Lock()
	id, connected := f.state.Group, f.connected
	f.mu.Unlock()
	levels := f.ahead.Swap(0)
	if !connected {
		return
	}
	var b [1]byte
	keys.Random(b[:])
	f.hintAfter = time.Now().Add(hintEvery + time.Duration(b[0])*10*time.Millisecond)
	f.send(link.Hint, 0, link.Put(link.Put(nil, 1, id[:]), 2, []byte{byte(levels)}))
}

// usageEvery is the time between two reports of usage.
var usageEvery = 5 * time.Second

// report sends the agent the usage of each key in force.
func (f *follower) report(g *keys.Group, st *link.State) {
	for l, r := range st.Rings {
		if r == nil {
			continue
		}
		for i, n := range r.Gens {
			at, gen := l, i
			if g.Params().Slots != 0 {
				at, gen = int(n&1), keys.Current-1
			}
			c, _, err := g.Used(at, gen)
			if n == 0 || err != nil {
				continue
			}
			var v []byte
			for _, x := range []uint64{n, c.Derived, c.Sealed, c.Opened, 0} {
				v = binary.BigEndian.AppendUint64(v, x)
			}
			if f.send(link.UsageFrame, 0, link.Put(link.Put(nil, 1, r.ID[:]), 2, v)) != nil {
				return
			}
		}
	}
}

// ask asks the agent for the IDs that senders wait for, once; after fencing only when
// nothing is sealed any more with the old ones.
func (f *follower) ask() {
	f.mu.Lock()
	n := min(len(f.without), 16)
	if n == 0 || f.asked != 0 || !f.connected || f.g == nil || f.sealing != status.OK || time.Now().Before(f.askAfter) {
		f.mu.Unlock()
		return
	}
	f.asked = n
	id := f.state.Group
	f.mu.Unlock()
	if err := f.send(link.NeedIDs, 0, link.Put16(link.Put(nil, 1, id[:]), 2, uint16(n))); err != nil {
		f.mu.Lock()
		f.asked = 0
		f.mu.Unlock()
	}
}

// take gives IDs to senders that wait for one. Receivers get them first, as own IDs.
func (f *follower) take(ids []uint64) {
	f.mu.Lock()
	f.asked, f.giving = 0, true
	f.ids = append(f.ids, ids...)
	receivers := append([]*Receiver(nil), f.receivers...)
	f.mu.Unlock()
	for _, r := range receivers {
		r.refreshOwn()
	}
	for _, id := range ids {
		f.mu.Lock()
		var s *Sender
		if len(f.without) > 0 {
			s, f.without = f.without[0], f.without[1:]
		}
		f.mu.Unlock()
		if s == nil {
			break
		}
		if err := s.setID(id); err != nil && !s.closed.Load() {
			f.mu.Lock()
			f.problem, f.askAfter = say.Sprintf("ID %#x: %v", id, err), time.Now().Add(2*time.Second)
			f.without = append(f.without, s)
			f.mu.Unlock()
			continue
		}
		f.mu.Lock()
		f.barred = dropped(f.barred, s)
		f.mu.Unlock()
	}
	f.mu.Lock()
	g, in := f.g, f.inForce()
	f.mu.Unlock()
	if g != nil {
		g.g.SetSealing(in)
	}
	f.mu.Lock()
	f.giving = false
	f.mu.Unlock()
	f.ask()
}

// newSender makes a sender whose ID comes from the agent.
func (f *follower) newSender(s *Sender, c SenderConfig) (*Sender, error) {
	switch {
	case s.g.g.Params().SPIs:
		return nil, say.Errorf("%w: psp: a group that follows an agent seals to its clients (Group.ClientSender)", status.ErrUnsupported)
	case c.ID != 0:
		return nil, say.Errorf("%w: ID: the agent gives it", status.ErrArgument)
	case c.Counter != CounterClock || c.EngineBits != 0 || c.RateLog2 != 0 || c.FixedEpoch || c.StatePath != "" || c.LockDir != "":
		return nil, say.Errorf("%w: senders of a group that follows an agent take no counter settings, state file or lock", status.ErrArgument)
	}
	f.mu.Lock()
	st := f.state
	f.mu.Unlock()
	switch ProfileID(s.g.g.Params().Profile) {
	case ProfileStateless:
		c.V &^= VLongID
		if st.V == 1 {
			c.V |= VLongID
		}
		c.Options = true
	case ProfileTSS:
		if c.V == VTSSAddr {
			c.V = VTSSSSI
		}
		if c.V != VTSSSSI && c.V != VTSSSSIIPv6 {
			return nil, say.Errorf("%w: V %#x: senders of a group that follows an agent have an SSI", status.ErrArgument, c.V)
		}
	}
	if st.CounterMode != link.CountersTimes {
		c.Counter = CounterExplicit
	}
	if _, err := c.sealing(s.g.g.Params(), nil); err != nil {
		return nil, err
	}
	s.config = c
	f.mu.Lock()
	f.senders, f.without = append(f.senders, s), append(f.without, s)
	f.mu.Unlock()
	f.ask()
	return s, nil
}

func (f *follower) dropSender(s *Sender) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.senders, f.without, f.barred = dropped(f.senders, s), dropped(f.without, s), dropped(f.barred, s)
}

func hasSender(list []*Sender, s *Sender) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// dropped takes a sender out of a list, in place. It is not slices.DeleteFunc, because generic functions over
// senders make the linker keep what reflection can see of their types, which is half of the library.
func dropped(list []*Sender, s *Sender) []*Sender {
	n := 0
	for _, x := range list {
		if x != s {
			list[n] = x
			n++
		}
	}
	clear(list[n:])
	return list[:n]
}

// given returns the IDs that this group's senders have or had, as own IDs of receivers.
func (f *follower) given() []uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if ProfileID(f.state.Profile) == ProfileTSS && f.state.Mode == TSSServer {
		return nil // both ends send with one ID
	}
	return slices.Clone(f.ids)
}

// replay sets the group's replay protection in the configuration of a receiver that sets
// none.
func (f *follower) replay(c *ReceiverConfig) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case c.Replay != ReplayWindows || c.ReplayWindow != 0 || c.ReplayContexts != 0:
	case f.state.CounterMode == link.CountersTimes:
		c.Replay = ReplayTime
	case f.state.Window != 0:
		c.ReplayWindow, c.ReplayContexts = f.state.Window, f.state.Contexts
	}
}

func (f *follower) addReceiver(r *Receiver) {
	f.mu.Lock()
	f.receivers = append(f.receivers, r)
	f.mu.Unlock()
	r.refreshOwn()
}

func (f *follower) dropReceiver(r *Receiver) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, x := range f.receivers {
		if x != r {
			f.receivers[n] = x
			n++
		}
	}
	clear(f.receivers[n:])
	f.receivers = f.receivers[:n]
}

func (g *Group) following() (*follower, error) {
	if err := g.usable(); err != nil {
		return nil, err
	}
	if g.follows == nil {
		return nil, say.Errorf("%w: the group follows no agent", status.ErrArgument)
	}
	return g.follows, nil
}

func (g *Group) FollowInfo() (i FollowInfo, err error) {
	f, err := g.following()
	if err != nil {
		return i, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	i = FollowInfo{Connected: f.connected, Sealing: f.inForce(), States: f.states, Refused: f.refused, Fenced: f.fenced, IDs: slices.Clone(f.ids),
		ReplayWindow: f.state.Window, ReplayContexts: f.state.Contexts, MTU: f.state.MTU, Problem: f.problem,
		Profile: ProfileID(f.state.Profile), AEAD: AEAD(f.state.AEAD), Domain: f.state.Domain, Mode: f.state.Mode}
	if f.state.V == 1 {
		i.V = VLongID
	}
	if f.state.CounterMode == link.CountersTimes {
		i.Replay = ReplayTime
	}
	for l, r := range f.state.Rings {
		if r != nil {
			i.Generations[l] = r.Gens
		}
	}
	return i, nil
}

func (g *Group) WaitSealing(timeout time.Duration) error {
	f, err := g.following()
	if err != nil {
		return err
	}
	for end, wait := time.Now().Add(timeout), time.Millisecond; ; wait = min(2*wait, 10*time.Millisecond) {
		f.mu.Lock()
		c, keyed, n, giving, problem := f.inForce(), f.hasKeys(), len(f.without), f.giving, f.problem
		f.mu.Unlock()
		if c == status.OK && keyed && n == 0 && !giving {
			return nil
		}
		if time.Now().After(end) {
			switch {
			case c != status.OK:
				return say.Errorf("%w: %s", c, problem)
			case !keyed:
				return say.Errorf("%w: group %s has no key yet", status.ErrNoKey, f.name)
			}
			return say.Errorf("%w: %d senders wait for an ID: %s", status.ErrNoKey, n, problem)
		}
		ktime.Nap(wait)
	}
}
