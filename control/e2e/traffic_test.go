package e2e

import (
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"libeesp/control/demo"
	"libeesp/control/record"
	"libeesp/control/server"
)

// Rotations under load: each packet of two gateways, which the library seals and
// opens, is opened at the other end, though packets are under way for a quarter
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
	// Packets are under way for a while, in their order. One that this machine
	// held up for longer than the path delay may be lost, and is counted apart.
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
