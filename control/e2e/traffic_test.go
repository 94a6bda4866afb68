package e2e

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"libeesp"
	"libeesp/control/demo"
	"libeesp/control/record"
	"libeesp/control/server"
)

// Rotations under load: each packet of two gateways, which the library seals and
// opens, is opened at the other end, though packets are in flight for a quarter
// of the path delay. EESP_TEST_ROTATIONS=1000 for as many.
func TestTraffic(t *testing.T) {
	rotations := uint64(10)
	if n, err := strconv.ParseUint(os.Getenv("EESP_TEST_ROTATIONS"), 10, 32); err == nil {
		rotations = n
	}
	c := newCluster(t, 1, record.Zone)
	p := quick
	p.PathDelay = 100
	c.group("net", p)
	a, b := c.join("a", true).up(), c.join("b", true).up()
	var gs [2]*demo.Gateway
	// Packets are in flight for a while, in their order. One that this machine
	// delays for longer than the path delay may be lost, and is counted by itself.
	const delay = 100 * time.Millisecond
	var air sync.WaitGroup
	var late, lost atomic.Int64
	type packet struct {
		b    []byte
		sent time.Time
	}
	link := func(to int) func([]byte) {
		ch := make(chan packet, 1<<16)
		t.Cleanup(func() { close(ch) })
		go func() {
			for p := range ch {
				time.Sleep(time.Until(p.sent.Add(delay / 4)))
				if !gs[to].Receive(p.b) {
					if time.Since(p.sent) > delay {
						late.Add(1)
					} else {
						lost.Add(1)
					}
				}
				air.Done()
			}
		}()
		return func(b []byte) { air.Add(1); ch <- packet{b, time.Now()} }
	}
	for i, h := range []*host{a, b} {
		g, err := demo.Follow(h.sock, "net", uint32(i), link(1-i))
		if err != nil {
			t.Fatal(err)
		}
		gs[i] = g
		defer g.Close()
	}
	// Packets that are sent before the other one has keys are not opened.
	c.eventually("both seal", func() bool { return gs[0].Sealing() && gs[1].Sealing() })
	c.eventually("both send", func() bool { return gs[0].Burst(1) == 1 && gs[1].Burst(1) == 1 })
	stop := make(chan struct{})
	var load sync.WaitGroup
	for _, g := range gs {
		load.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(200 * time.Microsecond):
					g.Burst(4)
				}
			}
		})
	}
	for n := uint64(2); n <= rotations+1; n++ {
		c.rotate(server.RotateRequest{Ring: "net"})
		c.eventually("rotation ends", func() bool {
			r := c.ring(0, "net")
			return r.State == "steady" && r.Current == n && len(r.Waiting) == 0
		})
	}
	close(stop)
	load.Wait()
	air.Wait()
	var sent, opened uint64
	for i, g := range gs {
		s, o := g.Stats(), gs[1-i].Stats()
		sent, opened = sent+s.Sent, opened+o.Opened[uint32(i)]
		t.Logf("gateway %d sent %d, refused %v", i, s.Sent, s.Refused)
	}
	if lost.Load() != 0 || opened+uint64(late.Load()) != sent || sent < 2*rotations {
		t.Errorf("%d sent, %d opened, %d lost, %d late", sent, opened, lost.Load(), late.Load())
	}
	t.Logf("%d rotations, %d packets, %d lost, %d held up for longer than the path delay", rotations, sent, lost.Load(), late.Load())
}

// A group that was made with replay protection by time: senders' counters are times,
// receivers use them without a setting, and a rotation does not change that.
func TestTimes(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, record.Zone)
	create := func(q server.GroupRequest) error {
		q.Policy = &quick
		_, err := c.servers[0].CreateGroup(t.Context(), "test", q)
		return err
	}
	if err := create(server.GroupRequest{Name: "no", Profile: 2, Replay: "time"}); err == nil {
		t.Error("tss, whose counters are no times")
	}
	if err := create(server.GroupRequest{Name: "timed", Replay: "time"}); err != nil {
		t.Fatal(err)
	}
	type end struct {
		s *eesp.Sender
		r *eesp.Receiver
	}
	var ends [2]end
	for i, h := range []*host{c.join("a", true).up(), c.join("b", true).up()} {
		g, err := eesp.FollowGroup("timed", eesp.FollowConfig{Socket: h.sock, Timeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		if must(g.FollowInfo()).Replay != eesp.ReplayTime {
			t.Error("the agent does not say so")
		}
		e := end{must(eesp.NewSender(g, eesp.SenderConfig{})), must(eesp.NewReceiver(eesp.ReceiverConfig{ClockTrusted: true, MaxAge: 10 * time.Second, MaxRate: 1000}, g))}
		if err := g.WaitSealing(time.Minute); err != nil {
			t.Fatal(err)
		}
		defer func() { e.s.Close(); e.r.Close(); g.Close() }()
		ends[i] = e
	}
	time.Sleep(50 * time.Millisecond) // receivers open nothing for 25 ms
	both := func(step string) {
		t.Helper()
		for i, e := range ends {
			b := make([]byte, 256)
			p := []eesp.Packet{{Buf: b, Off: 128, Len: 64}}
			if e.s.Seal(p); p[0].Status != eesp.OK {
				t.Fatalf("%s, end %d: %v", step, i, p[0].Status)
			}
			if d := time.Since(time.Unix(0, int64(float64(p[0].TSC)/(1<<28)*1e9))); d < -time.Second || d > 10*time.Second {
				t.Errorf("%s, end %d: sealed %v ago", step, i, d)
			}
			again := slices.Clone(b)
			for n, buf := range [][]byte{b, again} {
				q := []eesp.Packet{{Buf: buf, Off: 128 - e.s.HeaderLen(), Len: len(p[0].Out)}}
				ends[1-i].r.Open(q)
				if want := []eesp.Status{eesp.OK, eesp.ErrReplay}[n]; q[0].Status != want {
					t.Errorf("%s, end %d, time %d: %v, not %v", step, i, n, q[0].Status, want)
				}
			}
		}
	}
	both("at the beginning")
	c.rotate(server.RotateRequest{Ring: "timed"})
	c.eventually("steady", func() bool {
		r := c.ring(0, "timed")
		return r.State == "steady" && r.Current == 2 && len(r.Waiting) == 0
	})
	both("after a rotation")
}

// tss: the library follows. SSIs differ from each other and from source addresses, keys alternate between
// two slots, also after an abort, and each packet opens.
func TestTSS(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, record.Zone)
	if _, err := c.servers[0].CreateGroup(t.Context(), "test", server.GroupRequest{Name: "job", Profile: 2, AEAD: 1, Domain: 0x123, Policy: &quick}); err != nil {
		t.Fatal(err)
	}
	third := c.join("c", true).up()
	type end struct {
		g *eesp.Group
		s *eesp.Sender
		r *eesp.Receiver
	}
	var ends [2]end
	for i, h := range []*host{c.join("a", true).up(), c.join("b", true).up()} {
		g, err := eesp.FollowGroup("job", eesp.FollowConfig{Socket: h.sock, Timeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		e := end{g, must(eesp.NewSender(g, eesp.SenderConfig{})), must(eesp.NewReceiver(eesp.ReceiverConfig{}, g))}
		if err := g.WaitSealing(time.Minute); err != nil {
			t.Fatal(err)
		}
		defer func() { e.s.Close(); e.r.Close(); e.g.Close() }()
		ends[i] = e
	}
	if a, b := ends[0].s.ID(), ends[1].s.ID(); a == b || a>>28 != 0xF || b>>28 != 0xF {
		t.Errorf("SSIs %#x and %#x", a, b)
	}
	both := func(step string, gen uint64) {
		t.Helper()
		for i, e := range ends {
			c.eventually(step+": generation", func() bool { return must(e.g.FollowInfo()).Generations[0][1] == gen })
			b := make([]byte, 256)
			p := []eesp.Packet{{Buf: b, Off: 128, Len: 64}}
			e.s.Seal(p)
			q := []eesp.Packet{{Buf: b, Off: 128 - e.s.HeaderLen(), Len: len(p[0].Out)}}
			ends[1-i].r.Open(q)
			if p[0].Status != eesp.OK || q[0].Status != eesp.OK || q[0].ID != e.s.ID() {
				t.Fatalf("%s, end %d: sealed %v, opened %v", step, i, p[0].Status, q[0].Status)
			}
		}
	}
	steady := func(gen uint64) {
		t.Helper()
		c.eventually(fmt.Sprint("steady ", gen), func() bool {
			r := c.ring(0, "job")
			return r.State == "steady" && r.Current == gen && r.Barrier == 3 && len(r.Waiting) == 0 && (r.Destroyed || gen == 1)
		})
	}
	steady(1)
	both("at the beginning", 1)
	c.rotate(server.RotateRequest{Ring: "job"})
	steady(2)
	both("after a rotation", 2)
	third.stop() // holds the next one up
	c.rotate(server.RotateRequest{Ring: "job"})
	c.eventually("prepared", func() bool { return c.ring(0, "job").State == "prepared" })
	both("prepared", 2)
	if _, err := c.servers[0].Abort(t.Context(), "test", server.NameRequest{Name: "job"}); err != nil {
		t.Fatal(err)
	}
	third.up()
	steady(2)
	// Epochs are the group's: a host that comes back begins in the epoch of the others.
	for range 2 {
		if _, err := c.servers[0].Epoch(t.Context(), "test", server.NameRequest{Name: "job", Reason: "test"}); err != nil {
			t.Fatal(err)
		}
		steady(2)
		both("in another epoch", 2)
	}
	for i, e := range ends {
		if tsc := e.s.NextTSC(); tsc>>48 != 2 || tsc&(1<<48-1) != 1 {
			t.Errorf("end %d: after two epochs, and a packet in the last: TSC %#x", i, tsc)
		}
	}
	c.rotate(server.RotateRequest{Ring: "job"})
	steady(5) // 3 is burnt, and 4 would have the slot of 2
	both("after an abort", 5)
	if tsc := ends[0].s.NextTSC(); tsc != 1 {
		t.Errorf("with another key, which begins in epoch 0: TSC %#x", tsc)
	}
	if _, err := c.servers[0].Epoch(t.Context(), "test", server.NameRequest{Name: "net"}); err == nil {
		t.Error("an epoch of no ring")
	}
}
