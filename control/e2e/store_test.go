package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"libeesp/control/record"
	"libeesp/control/server"
	"libeesp/control/store"
	"libeesp/control/store/mem"
)

// A server is killed at any transaction, whose outcome it does not learn, and a new server continues.
// Two whole rotations and a revocation end, and no two hosts ever have two values of one generation.
func TestKilledAtEveryTransaction(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, record.Zone)
	c.group("net", quick)
	a, b, x := c.join("a", true).up(), c.join("b", true).up(), c.join("x", true).up()
	pa, pb, px := a.follow("net"), b.follow("net"), x.follow("net")
	c.eventually("all seal", func() bool {
		return pa.seals(record.Zone) == 1 && pb.seals(record.Zone) == 1 && px.seals(record.Zone) == 1
	})
	kill := make(chan bool, 64)
	n := 0
	c.st.Fail(func(_ int, txn store.Txn, do func()) error {
		for _, p := range txn.Put {
			if strings.HasSuffix(p.Key, "/head") {
				n++
				if n%2 == 0 {
					do()
				}
				if n%3 != 0 {
					kill <- true
					return mem.ErrLost
				}
				if n%2 != 0 {
					do()
				}
				return nil
			}
		}
		do()
		return nil
	})
	var asking sync.Mutex // nobody asks a server that is killed
	stop := make(chan struct{})
	killed := make(chan int)
	go func() {
		k := 0
		for {
			select {
			case <-kill:
				k++
				func() {
					asking.Lock()
					defer asking.Unlock() // also if it cannot start
					c.servers[0].stop()
					c.start(0)
				}()
			case <-stop:
				killed <- k
				return
			}
		}
	}()
	check := func() {
		for g := uint64(1); g < 10; g++ {
			if va, vb := pa.value(record.Zone, g), pb.value(record.Zone, g); va != vb && va != ([32]byte{}) && vb != ([32]byte{}) {
				t.Fatalf("generation %d has two values", g)
			}
		}
		// No host seals with a key that another one, which is in step, lacks.
		if s := pa.seals(record.Zone); s != 0 && len(pb.opens(record.Zone)) > 0 && s > slices.Max(pb.opens(record.Zone)) {
			t.Fatalf("a seals with %d, b opens %v", s, pb.opens(record.Zone))
		}
	}
	reach := func(gen uint64, ask func() error) {
		end := time.Now().Add(2 * time.Minute) // an agent whose server dies each time comes back ever later, up to a minute
		asked := time.Time{}
		for pa.seals(record.Zone) < gen || pb.seals(record.Zone) < gen || len(pa.opens(record.Zone)) != 1 || len(pb.opens(record.Zone)) != 1 {
			if time.Since(asked) > 500*time.Millisecond {
				asked = time.Now()
				asking.Lock()
				ask() // what was asked for may have died with the server
				asking.Unlock()
			}
			check()
			if time.Now().After(end) {
				t.Fatalf("a opens %v, b opens %v; %d transactions", pa.opens(record.Zone), pb.opens(record.Zone), n)
			}
			time.Sleep(2 * time.Millisecond)
		}
	}
	rotate := func() error {
		_, err := c.servers[0].Rotate(t.Context(), "test", server.RotateRequest{Ring: "net"})
		return err
	}
	reach(2, rotate)
	reach(3, rotate)
	last := pa.seals(record.Zone)
	reach(last+1, func() error {
		if c.member("x").State == "revoked" {
			return nil
		}
		_, err := c.servers[0].Revoke(t.Context(), "test", server.NameRequest{Name: "x"})
		return err
	})
	close(stop)
	k := <-killed
	if k < 4 {
		t.Errorf("killed only %d times", k)
	}
	if slices.Contains(px.opens(record.Zone), pa.seals(record.Zone)) {
		t.Error("x has the new key")
	}
	c.st.Fail(nil)
	c.eventually("at rest", func() bool { return c.ring(0, "net").State == "steady" })
	t.Logf("%d transactions of the head, server killed %d times", n, k)
}

// Servers do not write to a store that was set back, until the roots begin a new term.
func TestStoreSetBack(t *testing.T) {
	t.Parallel()
	c, _, p := sealing(t)
	old := c.st.Snapshot()
	c.rotate(server.RotateRequest{Ring: "net"})
	c.eventually("rotated", func() bool {
		return len(c.ring(0, "net").Waiting) == 0 && p.seals(record.Zone) == 2 && c.ring(0, "net").State == "steady"
	})
	c.st.Restore(old)
	readOnly := func() string { return c.servers[0].Status().Levels[0].ReadOnly }
	c.eventually("read-only", func() bool { return strings.Contains(readOnly(), "set back") })
	if _, err := c.servers[0].Rotate(t.Context(), "test", server.RotateRequest{Ring: "net", Emergency: true}); !errors.Is(err, server.ErrReadOnly) {
		t.Errorf("written to: %v", err)
	}
	// Also by a server that starts, from its local file.
	c.servers[0].stop()
	c.start(0)
	c.eventually("read-only after a restart", func() bool { return strings.Contains(readOnly(), "set back") })
	if p.seals(record.Zone) != 2 {
		t.Error("the host took an old state")
	}
	// The roots begin a new term, with a generation above all that were used.
	d := must1(record.Sign(&record.Delegation{Level: record.Zone, Serial: 2, Term: 2, Instances: c.instances(record.Zone), MinReader: 1}, c.id, c.roots[record.Zone]))
	if err := c.servers[0].RaiseTerm(t.Context(), record.Zone, "test", server.TermRequest{Level: "zone", Delegation: d[:len(d)-1]}); err == nil {
		t.Error("a delegation that is cut off is taken")
	}
	// Meanwhile the store is read again and again, and found set back each time.
	raised := make(chan error, 1)
	go func() {
		raised <- c.servers[0].RaiseTerm(t.Context(), record.Zone, "test", server.TermRequest{Level: "zone", Delegation: d, Last: 2})
	}()
	for done := false; !done; {
		select {
		case err := <-raised:
			if done = true; err != nil {
				t.Fatal(err)
			}
		default:
			c.st.Break()
		}
	}
	c.eventually("goes on above", func() bool { return p.seals(record.Zone) == 18 && readOnly() == "" })
	c.rotate(server.RotateRequest{Ring: "net"})
	c.eventually("rotates", func() bool { return p.seals(record.Zone) == 19 })
}

func must1[T any](v T, err error) T { return must(v, err) }

func (c *cluster) instances(lv record.Level) (l []record.Instance) {
	var d record.Delegation
	if err := record.Decode(c.deleg[lv], &d); err != nil {
		panic(err)
	}
	return d.Instances
}

// A backup is restored into an empty store.
func TestBackup(t *testing.T) {
	t.Parallel()
	c, _, p := sealing(t)
	var rows []server.BackupRow
	for k, v := range c.st.Snapshot() {
		rows = append(rows, server.BackupRow{Key: k, Value: v.Value})
	}
	if err := c.servers[0].Import(t.Context(), rows); !errors.Is(err, server.ErrExists) {
		t.Errorf("over a store that is in use: %v", err)
	}
	c.servers[0].stop()
	c.st = mem.New()
	c.start(0) // begins nothing: this instance has written before
	if b := c.servers[0].Status().Levels[0].ReadOnly; !strings.Contains(b, "empty") {
		t.Errorf("an empty store: %q", b)
	}
	if err := c.servers[0].Import(t.Context(), rows); err != nil {
		t.Fatal(err)
	}
	d := c.secondTerm()
	if err := c.servers[0].RaiseTerm(t.Context(), record.Zone, "test", server.TermRequest{Level: "zone", Delegation: d}); err != nil {
		t.Fatal(err)
	}
	c.eventually("goes on", func() bool { return p.seals(record.Zone) == 17 })
}

// An old roster record in the store does not help its member, and is noticed.
func TestRosterPutBack(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, record.Zone)
	c.group("net", quick)
	a, b := c.join("a", true).up(), c.join("b", true).up()
	pa, pb := a.follow("net"), b.follow("net")
	c.eventually("both seal", func() bool { return pa.seals(record.Zone) == 1 && pb.seals(record.Zone) == 1 })
	key := "zone/member/" + c.member("b").ID
	old := c.st.Snapshot()[key]
	if _, err := c.servers[0].Revoke(t.Context(), "test", server.NameRequest{Name: "b"}); err != nil {
		t.Fatal(err)
	}
	c.eventually("rotated", func() bool { return pa.seals(record.Zone) == 2 })
	if _, err := c.st.Commit(context.Background(), store.Txn{Put: []store.KV{{Key: key, Value: old.Value}}}); err != nil {
		t.Fatal(err)
	}
	c.eventually("read-only", func() bool { return strings.Contains(c.servers[0].Status().Levels[0].ReadOnly, "roster") })
	b.stop()
	b.up()
	time.Sleep(500 * time.Millisecond)
	pb = b.follow("net")
	time.Sleep(300 * time.Millisecond)
	if len(pb.opens(record.Zone)) != 0 {
		t.Errorf("b opens with %v", pb.opens(record.Zone))
	}
}

// Two servers share a rotation: hosts acknowledge to either, none counts twice, and when one server is
// killed, the other one takes over.
func TestTwoServers(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, record.Zone)
	c.group("net", quick)
	var hosts []*host
	for i := range 4 {
		hosts = append(hosts, c.join(fmt.Sprint("h", i), true).up())
	}
	var ps []*plane
	for _, h := range hosts {
		ps = append(ps, h.follow("net"))
	}
	all := func(n uint64) func() bool {
		return func() bool {
			for _, p := range ps {
				if p.seals(record.Zone) != n || len(p.opens(record.Zone)) != 1 {
					return false
				}
			}
			return true
		}
	}
	c.eventually("all seal", all(1))
	before := c.st.Commits()
	c.rotate(server.RotateRequest{Ring: "net"})
	c.eventually("rotated", all(2))
	c.eventually("destroyed", func() bool { return len(c.ring(0, "net").Waiting) == 0 })
	if n := c.st.Commits() - before; n > 25 {
		t.Errorf("%d writes for one rotation", n)
	}
	// No rotation begins: at no server, and after a restart.
	if _, err := c.servers[0].Freeze(t.Context(), "test", server.NameRequest{Reason: "a fair"}); err != nil {
		t.Fatal(err)
	}
	c.eventually("both are frozen", func() bool {
		return c.servers[0].Status().Frozen == "a fair" && c.servers[1].Status().Frozen == "a fair"
	})
	c.servers[1].stop()
	c.start(1)
	if f := c.servers[1].Status().Frozen; f != "a fair" {
		t.Errorf("after a restart: %q", f)
	}
	if _, err := c.servers[1].Freeze(t.Context(), "test", server.NameRequest{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("thawed", func() bool { return c.servers[0].Status().Frozen == "" })
	c.servers[1].stop()
	c.rotate(server.RotateRequest{Ring: "net"})
	c.eventually("rotated by one server", all(3))
}

// A store that shows each server another history is a fork: a host that knows one history is refused by
// the other server, and accepts nothing of it.
func TestFork(t *testing.T) {
	t.Parallel()
	c, a, p := sealing(t)
	a.stop()
	// The other half's history: same instance's keys, another machine's memory.
	fork := mem.New()
	fork.Restore(c.st.Snapshot())
	c.rotate(server.RotateRequest{Ring: "net"}) // nobody is there: it stays prepared
	c.eventually("prepared", func() bool { return c.ring(0, "net").State == "prepared" })
	a.up()
	p = a.follow("net")
	c.eventually("follows the first", func() bool { return p.seals(record.Zone) == 2 && len(p.opens(record.Zone)) == 1 })
	v := p.value(record.Zone, 2)
	c.servers[0].stop()
	c.servers[0].dir = t.TempDir()
	c.start(0, fork)
	c.rotate(server.RotateRequest{Ring: "net", Emergency: true})
	c.eventually("the fork is seen", func() bool { return c.log.has("fork: ") || c.log.has("a fork") || c.log.has("the server is behind") })
	time.Sleep(200 * time.Millisecond)
	if p.seals(record.Zone) != 2 || p.value(record.Zone, 2) != v {
		t.Error("the host took the other history")
	}
}
