package eesp

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"crypto/rand"

	"libeesp/internal/link"
	"libeesp/internal/status"
	"libeesp/internal/testrun"
)

// fakeAgent is an agent whose messages the test chooses.
type fakeAgent struct {
	t      testing.TB
	path   string
	l      net.Listener
	state  link.State
	values link.Values

	mu       sync.Mutex
	c        net.Conn
	follows  int
	instance []uint64
	nextID   uint64
	noIDs    bool
	usage    [5]uint64   // generation, derived, sealed, opened, refused: as reported last
	answers  chan string // "" or the reason, of DONE
	granted  chan map[uint16][]byte
}

func newFakeAgent(t testing.TB, params link.Params) *fakeAgent {
	a := &fakeAgent{t: t, path: filepath.Join(t.TempDir(), "agent.sock"), answers: make(chan string, 64), granted: make(chan map[uint16][]byte, 8), nextID: uint64(0x73000000 + usedIDs.Add(64))}
	a.state = link.State{Name: "net", Params: params, Seal: link.SealYes}
	rand.Read(a.state.Group[:])
	a.change(func(s *link.State) { s.Rings[0] = &link.Ring{Class: 1, State: 1, Term: 1} })
	rand.Read(a.state.Rings[0].ID[:])
	a.listen()
	t.Cleanup(func() { a.stop() })
	return a
}

func (a *fakeAgent) listen() {
	a.l = must(net.Listen("unix", a.path))
	go func() {
		for {
			c, err := a.l.Accept()
			if err != nil {
				return
			}
			go a.serve(c)
		}
	}()
}

func (a *fakeAgent) stop() {
	a.l.Close()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.c != nil {
		a.c.Close()
	}
}

func (a *fakeAgent) serve(c net.Conn) {
	a.mu.Lock()
	a.c = c
	a.mu.Unlock()
	for {
		f, err := link.ReadFrame(c)
		if err != nil {
			return
		}
		m := must(link.Fields(f.Fields))
		switch f.Type {
		case link.Hello:
			a.mu.Lock()
			a.instance = append(a.instance, link.Get64(m[6]))
			a.mu.Unlock()
			link.WriteFrame(c, link.Frame{Type: link.Welcome, Fields: link.Put16(nil, 1, link.Major)})
		case link.Follow:
			a.mu.Lock()
			a.follows++
			a.mu.Unlock()
			switch string(m[1]) {
			case "net":
				a.send()
			case "forbidden":
				link.WriteFrame(c, link.Frame{Type: link.Error, Fields: link.Put(link.Put16(nil, 1, link.ErrCodePolicy), 2, []byte("user 5 may not follow group forbidden"))})
			default:
				link.WriteFrame(c, link.Frame{Type: link.Error, Fields: link.Put(link.Put16(nil, 1, link.ErrCodeUnknown), 2, []byte("no group "+string(m[1])+" yet"))})
			}
		case link.Done:
			a.mu.Lock()
			if link.Get64(m[2]) == a.state.Seq {
				a.answers <- string(m[4])
			}
			a.mu.Unlock()
		case link.UsageFrame:
			a.mu.Lock()
			for i := range a.usage {
				a.usage[i] = binary.BigEndian.Uint64(m[2][8*i:])
			}
			a.mu.Unlock()
		case link.Granted:
			a.granted <- m
		case link.NeedIDs:
			a.mu.Lock()
			n, no := link.Get16(m[2]), a.noIDs
			var v []byte
			for range n {
				a.nextID++
				v = binary.BigEndian.AppendUint64(v, a.nextID)
			}
			a.mu.Unlock()
			if !no {
				link.WriteFrame(c, link.Frame{Type: link.IDs, Fields: link.Put(link.Put(nil, 1, m[1]), 2, v)})
			}
		}
	}
}

func (a *fakeAgent) change(f func(s *link.State)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f(&a.state)
}

func (a *fakeAgent) send() {
	a.mu.Lock()
	defer a.mu.Unlock()
	link.WriteFrame(a.c, link.Frame{Type: link.StateFrame, Flags: link.MustKnow, Fields: a.state.Marshal(&a.values)})
}

// set sends a state with these generations, and expects this answer.
func (a *fakeAgent) set(pre, cur, next uint64, want string) {
	a.t.Helper()
	a.mu.Lock()
	if a.state.Rings[0] != nil {
		a.state.Rings[0].Gens, a.values[0] = ringOf(pre, cur, next)
	}
	a.state.Seq++
	c := a.c
	a.mu.Unlock()
	if c == nil {
		return
	}
	a.send()
	a.wait(want)
}

func (a *fakeAgent) wait(want string) {
	a.t.Helper()
	select {
	case got := <-a.answers:
		if want == "" && got != "" || !strings.Contains(got, want) {
			a.t.Fatalf("the answer was %q, not %q", got, want)
		}
	case <-time.After(20 * time.Second):
		a.t.Fatal("no answer")
	}
}

// other makes a group with the keys of the state, without following.
func (a *fakeAgent) other(pre, cur, next uint64) *Group {
	g := must(NewGroup(GroupConfig{}))
	a.t.Cleanup(g.Close)
	gen, v := ringOf(pre, cur, next)
	if err := g.SetRing(Zone, a.state.Rings[0].ID[:], gen, &v, 0); err != nil {
		a.t.Fatal(err)
	}
	return g
}

func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !f(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never:", what)
		}
	}
}

func TestFollow(t *testing.T) {
	defer func(d time.Duration) { usageEvery = d }(usageEvery)
	usageEvery = 10 * time.Millisecond
	a := newFakeAgent(t, link.Params{V: 1, Window: 128, Contexts: 32})
	a.set(0, 4, 0, "")
	g := must(FollowGroup("net", FollowConfig{Socket: a.path}))
	defer g.Close()
	a.wait("")
	a.mu.Lock()
	a.noIDs = true
	a.mu.Unlock()
	s := must(NewSender(g, SenderConfig{}))
	defer s.Close()
	r := must(NewReceiver(ReceiverConfig{}, g))
	defer r.Close()
	if _, c := sealOne(s); c != status.ErrNoKey || s.ID() != 0 || s.HeaderLen() != 0 {
		t.Errorf("without an ID: %v, ID %#x", c, s.ID())
	}
	if err := g.WaitSealing(10 * time.Millisecond); !errors.Is(err, status.ErrNoKey) {
		t.Errorf("waiting without an ID: %v", err)
	}
	a.mu.Lock()
	a.noIDs = false
	a.c.Close() // the program connects and asks again
	a.mu.Unlock()
	a.wait("")
	if err := g.WaitSealing(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	if i := must(g.FollowInfo()); !i.Connected || i.Sealing != status.OK || i.Generations[0] != [3]uint64{0, 4, 0} || len(i.IDs) != 1 || i.IDs[0] != s.ID() || i.V != VLongID {
		t.Errorf("%+v", i)
	}
	if a.instance[0] == 0 || a.instance[0] != a.instance[1] {
		t.Errorf("instances %x", a.instance)
	}
	p, c := sealOne(s)
	if c != status.OK {
		t.Fatal(c)
	}
	if w, v := string(p[4:12]), p[1]>>4; v != VLongID || w != string(binary.BigEndian.AppendUint64(nil, s.ID())) || len(p) < 30 || p[12]&0xF0 != 0xE0 {
		t.Errorf("V %#x, ID %x, options %x", v, w, p[12:20])
	}
	if c := openOne(r, p); c != status.ErrReflected {
		t.Errorf("the end's own packet: %v", c)
	}
	peer := a.other(0, 4, 5)
	rp := must(NewReceiver(ReceiverConfig{}, peer))
	defer rp.Close()
	sp := must(NewSender(peer, SenderConfig{ID: 0x74000000 + uint64(usedIDs.Add(1)), Options: true}))
	defer sp.Close()
	both := func(step string) {
		t.Helper()
		for _, x := range []struct {
			s *Sender
			r *Receiver
		}{{s, rp}, {sp, r}} {
			p, c := sealOne(x.s)
			if c != status.OK || openOne(x.r, p) != status.OK {
				t.Fatalf("%s: %v, %v", step, c, openOne(x.r, p))
			}
		}
		q, _ := sealOne(sp)
		if openOne(r, q) != status.OK || openOne(r, q) != status.ErrReplay { // the group's windows
			t.Fatalf("%s: replayed", step)
		}
	}
	both("steady")
	a.set(0, 4, 5, "")
	both("prepared")
	old, _ := sealOne(s)
	a.set(4, 5, 0, "")
	both("active")
	if now, _ := sealOne(s); now[14] != 5 || old[14] != 4 {
		t.Errorf("sealed with %d, then %d", old[14], now[14])
	}
	gen, v := ringOf(0, 5, 0)
	if err := peer.SetRing(Zone, a.state.Rings[0].ID[:], gen, &v, 0); err != nil {
		t.Fatal(err)
	}
	a.set(0, 5, 0, "")
	both("steady again")
	a.set(0, 4, 0, "generation 4 is below the floor 5") // refused: the keys in force stay
	both("after an old state")
	if i := must(g.FollowInfo()); i.Refused != 1 || i.Generations[0] != [3]uint64{0, 5, 0} {
		t.Errorf("%+v", i)
	}

	// The program cannot change the keys.
	for name, err := range map[string]error{
		"generate": g.GenerateRootKey(User, make([]byte, 16)), "rotate": g.Rotate(Zone, 9, nil), "remove": g.RemoveRootKey(Zone),
		"ring": putRing(t, g, "x", 0, 1, 0, 0), "set ID": s.SetID(5)} {
		if !errors.Is(err, status.ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, c := range map[string]SenderConfig{"ID": {ID: 5}, "counters": {Counter: CounterExplicit}, "rate": {RateLog2: 10}} {
		if _, err := NewSender(g, c); !errors.Is(err, status.ErrArgument) {
			t.Errorf("%s: %v", name, err)
		}
	}

	// Whether the agent lets the program seal.
	for _, x := range []struct {
		seal uint8
		want status.Code
	}{{link.SealStale, status.ErrOutOfTouch}, {link.SealNo, status.ErrNoKey}, {link.SealYes, status.OK}} {
		a.change(func(s *link.State) { s.Seal = x.seal })
		a.set(0, 5, 0, "")
		if _, c := sealOne(s); c != x.want {
			t.Errorf("seal %d: %v", x.seal, c)
		}
		if q, _ := sealOne(sp); openOne(r, q) != status.OK {
			t.Errorf("seal %d: does not open", x.seal)
		}
	}
	// The usage of the key is reported.
	for range 3 {
		sealOne(s)
	}
	u := must(g.Usage(Zone, Current))
	eventually(t, "usage", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.usage == [5]uint64{5, u.Derived, u.Sealed, u.Opened, 0} && u.Sealed >= 3 && u.Opened >= 3
	})
	was := s.ID()
	a.change(func(s *link.State) { s.Seal = link.SealFenced })
	a.set(0, 5, 0, "")
	if _, c := sealOne(s); c != status.ErrFenced {
		t.Errorf("fenced: %v", c)
	}
	a.change(func(s *link.State) { s.Seal = link.SealYes })
	a.set(0, 5, 0, "")
	if err := g.WaitSealing(20 * time.Second); err != nil || s.ID() == was {
		t.Fatalf("after being fenced: %v, ID %#x, was %#x", err, s.ID(), was)
	}
	both("with another ID")
	if i := must(g.FollowInfo()); i.Fenced != 1 || len(i.IDs) != 2 {
		t.Errorf("%+v", i)
	}

	// Without the agent the program goes on sealing, as long as the group allows.
	a.change(func(s *link.State) { s.MaxStale = 1 })
	a.set(0, 5, 0, "")
	a.stop()
	both("without an agent")
	eventually(t, "out of touch", func() bool { _, c := sealOne(s); return c == status.ErrOutOfTouch })
	if q, _ := sealOne(sp); openOne(r, q) != status.OK {
		t.Error("out of touch: does not open")
	}
	a.listen()
	a.wait("")
	eventually(t, "sealing again", func() bool { _, c := sealOne(s); return c == status.OK })
	both("the agent is back")

	// Closing the group ends everything.
	g.Close()
	if _, c := sealOne(s); c != status.ErrNoKey {
		t.Errorf("after the group's end: %v", c)
	}
}

// The error says something even if the thread has not tried to connect in time.
func TestFollowNothingTried(t *testing.T) {
	f := follower{config: FollowConfig{Socket: "here"}}
	if err := f.missing(); !errors.Is(err, status.ErrAgent) || !strings.HasSuffix(err.Error(), "here: not connected yet") {
		t.Fatal(err)
	}
}

func TestFollowRefused(t *testing.T) {
	a := newFakeAgent(t, link.Params{})
	short := FollowConfig{Socket: a.path, Timeout: 200 * time.Millisecond}
	for _, x := range []struct {
		group string
		c     FollowConfig
		want  error
		text  string
	}{
		{"net", FollowConfig{Socket: a.path + "x", Timeout: 100 * time.Millisecond}, status.ErrAgent, "no such file"},
		{"forbidden", FollowConfig{Socket: a.path}, status.ErrAgent, "may not follow"},
		{"unknown", short, status.ErrNotFound, "no group unknown yet"},
		{"", short, status.ErrArgument, "name"},
	} {
		_, err := FollowGroup(x.group, x.c)
		if !errors.Is(err, x.want) || !strings.Contains(err.Error(), x.text) {
			t.Errorf("%q: %v", x.group, err)
		}
	}
	// The state has parameters, but no keys.
	a.change(func(s *link.State) { s.Rings[0] = nil })
	if _, err := FollowGroup("net", short); !errors.Is(err, status.ErrNoKey) {
		t.Errorf("without keys: %v", err)
	}
	short.WithoutKeys = true
	g, err := FollowGroup("net", short)
	if err != nil {
		t.Fatal(err)
	}
	s := must(NewSender(g, SenderConfig{}))
	if _, c := sealOne(s); c != status.ErrNoKey {
		t.Error(c)
	}
	s.Close()
	g.Close()
	a.change(func(s *link.State) { s.Profile = 3 })
	if _, err := FollowGroup("net", short); !errors.Is(err, status.ErrUnsupported) {
		t.Errorf("eesp: %v", err)
	}
}

// A second cluster gives an ID that this process had in the first one. Its senders get it at once, and
// their counters go on, since both clusters may have the same keys.
func TestFollowAnother(t *testing.T) {
	first := newFakeAgent(t, link.Params{V: 1}).nextID
	var seen []uint64
	for range 3 {
		a := newFakeAgent(t, link.Params{V: 1})
		a.nextID = first
		a.set(0, 4, 0, "")
		g := must(FollowGroup("net", FollowConfig{Socket: a.path}))
		defer g.Close()
		a.wait("")
		s := must(NewSender(g, SenderConfig{}))
		if err := g.WaitSealing(20 * time.Second); err != nil {
			t.Fatal(err)
		}
		if s.ID() != first+1 {
			t.Errorf("ID %#x, not %#x", s.ID(), first+1)
		}
		for range 2 {
			seen = append(seen, s.NextTSC())
			if _, c := sealOne(s); c != status.OK {
				t.Fatal(c)
			}
		}
		s.Close()
	}
	if want := []uint64{0, 1, 2, 3, 4, 5}; !slices.Equal(seen, want) {
		t.Errorf("counters %d, want %d", seen, want)
	}
}

// A group whose counters are times: senders use times, and receivers use protection by time
// unless they ask for windows.
func TestFollowTimes(t *testing.T) {
	a := newFakeAgent(t, link.Params{CounterMode: link.CountersTimes, Window: 128, Contexts: 32})
	a.set(0, 4, 0, "")
	g := must(FollowGroup("net", FollowConfig{Socket: a.path}))
	defer g.Close()
	a.wait("")
	s := must(NewSender(g, SenderConfig{}))
	defer s.Close()
	if err := g.WaitSealing(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	if i := must(g.FollowInfo()); i.Replay != ReplayTime || i.ReplayWindow != 128 {
		t.Errorf("%+v", i)
	}
	if behind := time.Since(time.Unix(0, int64(float64(s.NextTSC())/(1<<28)*1e9))); behind < -time.Second || behind > time.Second {
		t.Errorf("counters are %v behind the clock", behind)
	}
	// Half of all times have the bit at which other counters are spent.
	for range 3 {
		time.Sleep(10 * time.Millisecond)
		if i := must(g.FollowInfo()); len(i.IDs) != 1 {
			t.Fatalf("IDs %x", i.IDs)
		}
	}
	byTime := must(NewReceiver(ReceiverConfig{ClockTrusted: true, MaxAge: 10 * time.Second, MaxRate: 1000}, g))
	defer byTime.Close()
	windows := must(NewReceiver(ReceiverConfig{ReplayWindow: 64}, g))
	defer windows.Close()
	peer := a.other(0, 4, 5) // its counters are not times, and far from now
	for _, x := range []struct {
		r    *Receiver
		want status.Code
	}{{byTime, status.ErrStale}, {windows, status.OK}} {
		o := must(NewSender(peer, SenderConfig{ID: 0x74000000 + uint64(usedIDs.Add(1)), Options: true, Counter: CounterExplicit, Start: 1}))
		p, c := sealOne(o)
		if c != status.OK {
			t.Fatal(c)
		}
		if c := openOne(x.r, p); c != x.want {
			t.Errorf("counter 1 of epoch 0: %v, want %v", c, x.want)
		}
		o.Close()
	}
	b := newFakeAgent(t, link.Params{CounterMode: link.CountersTimes + 1})
	b.set(0, 4, 0, "?")
	if _, err := FollowGroup("net", FollowConfig{Socket: b.path, Timeout: 5 * time.Second}); !errors.Is(err, status.ErrUnsupported) {
		t.Errorf("counter mode 2: %v", err)
	}
}

// tss: two slots; the lowest bit of a generation selects one.
//
// It runs in a new process: its later epochs would use up counters with which data keys of other tests begin. Such a key may
// have any member's counters.
func TestFollowTSS(t *testing.T) {
	if alone := "EESP_TEST_ALONE"; os.Getenv(alone) == "" {
		cmd := must(testrun.Self("-test.run=^" + t.Name() + "$"))
		cmd.Env = append(os.Environ(), alone+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	a := newFakeAgent(t, link.Params{Profile: 2, AEAD: 1, Domain: 0x123})
	a.set(0, 4, 0, "")
	g := must(FollowGroup("net", FollowConfig{Socket: a.path}))
	defer g.Close()
	a.wait("")
	s := must(NewSender(g, SenderConfig{}))
	defer s.Close()
	if err := g.WaitSealing(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	p := must(NewGroup(GroupConfig{Profile: ProfileTSS, AEAD: AES256GCM, Domain: 0x123}))
	defer p.Close()
	_, v := ringOf(0, 4, 5)
	for i := range 2 {
		if err := p.SetKey(i, v[1+i][:]); err != nil {
			t.Fatal(err)
		}
	}
	r := must(NewReceiver(ReceiverConfig{}, p))
	defer r.Close()
	an := func() int {
		t.Helper()
		b := make([]byte, 256)
		q := []Packet{{Buf: b, Off: 128, Len: 40}}
		if s.Seal(q); q[0].Status != status.OK {
			t.Fatal(q[0].Status)
		}
		at := 128 - s.HeaderLen()
		o := []Packet{{Buf: b, Off: at, Len: s.HeaderLen() + 40 + ICVLen}}
		n := int(b[at] >> 0 & 1)
		if r.Open(o); o[0].Status != status.OK || o[0].ID != s.ID() {
			t.Fatal(o[0].Status, o[0].ID)
		}
		for i := range 2 { // which of the two keys it was
			if err := p.RemoveKey(i); err != nil {
				t.Fatal(err)
			}
			c := must(NewReceiver(ReceiverConfig{}, p))
			q[0] = Packet{Buf: make([]byte, 256), Off: 128, Len: 40}
			s.Seal(q)
			x := []Packet{{Buf: q[0].Buf, Off: at, Len: o[0].Len}}
			if c.Open(x); x[0].Status == status.ErrNoKey {
				n = i
			}
			c.Close()
			if err := p.SetKey(i, v[1+i][:]); err != nil {
				t.Fatal(err)
			}
		}
		return n
	}
	for _, x := range []struct {
		gens [3]uint64
		an   int
	}{{[3]uint64{0, 4, 0}, 0}, {[3]uint64{0, 4, 5}, 0}, {[3]uint64{4, 5, 0}, 1}, {[3]uint64{0, 5, 0}, 1}} {
		a.set(x.gens[0], x.gens[1], x.gens[2], "")
		if got := an(); got != x.an {
			t.Errorf("%v: sealed with the key of slot %d", x.gens, got)
		}
	}
	// The key's epoch is that of the ring, and never falls. Counters begin at 0.
	a.change(func(s *link.State) { s.Rings[0].Epoch = 3 })
	a.set(0, 5, 0, "")
	if tsc := s.NextTSC(); tsc != 3<<48 || an() != 1 {
		t.Errorf("in epoch 3: TSC %#x", tsc)
	}
	if b := must(p.DomainStats()); b.LateEpoch != 0 {
		t.Errorf("%+v", b)
	}
	a.change(func(s *link.State) { s.Rings[0].Epoch = 2 })
	a.set(0, 5, 0, "the epoch falls from 3 to 2")
	a.change(func(s *link.State) { s.Rings[0].Epoch = 0 })
	a.set(5, 6, 0, "") // another key begins in epoch 0
	if tsc := s.NextTSC(); tsc != 0 {
		t.Errorf("with another key: TSC %#x", tsc)
	}
	a.set(0, 6, 8, "do not fit in two slots")
	a.set(0, 4, 0, "below the floor 5")
}
