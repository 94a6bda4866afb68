package e2e

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"libeesp/control/record"
	"libeesp/control/server"
	"libeesp/control/store"
)

// confirmed is a cluster of two servers, whose host "m" at the second one has confirmed PREPARE there and is lost
// then, with its cache, and with that server. Host "n" at the first one has not confirmed: free lets it.
func confirmed(t *testing.T) (c *cluster, m *host, free func()) {
	t.Helper()
	c = newCluster(t, 2, record.Zone)
	c.group("net", quick)
	n := c.join("n", true)
	m = c.join("m", true)
	n.silent = time.Minute // one that is reported as silent is asked again only at the next beat
	n.at, n.only, m.at, m.only = 0, true, 1, true
	pn, pm := n.up().follow("net"), m.up().follow("net")
	c.eventually("both seal", func() bool {
		return pn.seals(record.Zone) == 1 && pm.seals(record.Zone) == 1 && c.ring(0, "net").Barrier == 2 && len(c.ring(0, "net").Waiting) == 0
	})
	pn.set(func() { pn.hang = true })
	free = func() { pn.set(func() { pn.hang = false }) }
	t.Cleanup(free)
	c.rotate(server.RotateRequest{Ring: "net"})
	c.eventually("one has confirmed", func() bool {
		r := c.ring(0, "net")
		return r.State == "prepared" && len(r.Waiting) == 1 && r.Waiting[0].Member == "n"
	})
	c.servers[1].stop()
	m.stop()
	if err := os.Remove(m.dir + "/cache"); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return c, m, free
}

// waitsFor checks that a rotation waits for a host, and has not gone on.
func (c *cluster) waitsFor(name string) {
	c.t.Helper()
	c.eventually("it waits for "+name+" alone", func() bool {
		r := c.ring(0, "net")
		if r.State != "prepared" {
			c.t.Fatalf("the ring is %s, and %s has not confirmed in its session", r.State, name)
		}
		return len(r.Waiting) == 1 && r.Waiting[0].Member == name
	})
	for range 20 {
		time.Sleep(50 * time.Millisecond)
		if r := c.ring(0, "net"); r.State != "prepared" || !slices.ContainsFunc(r.Waiting, func(w server.WaitingStatus) bool { return w.Member == name }) {
			c.t.Fatalf("the ring is %s and waits for %v; %s has not confirmed in its session", r.State, r.Waiting, name)
		}
	}
}

// What a server wrote before it was started again says nothing about its hosts: they have other sessions, or none.
func TestReadyBeforeRestart(t *testing.T) {
	t.Parallel()
	c, m, free := confirmed(t)
	there := "zone/ready/" + record.ID{}.String() + "/" + c.keys[1][record.Zone].ID.String()
	was := c.st.Snapshot()[there].Mod
	c.start(1)
	c.eventually("it says who is there", func() bool { return c.st.Snapshot()[there].Mod > was })
	free()
	c.waitsFor("m")
	// When the host is back and has confirmed, the rotation goes on.
	pm := m.up().follow("net")
	c.eventually("rotated", func() bool {
		r := c.ring(0, "net")
		return r.State == "steady" && r.Current == 2 && pm.seals(record.Zone) == 2
	})
}

// A server that is started reads what one that is gone wrote before. That one's hosts are not there by its word, also
// if the store shows one by one what it wrote earlier.
func TestPresenceBeforeRestart(t *testing.T) {
	t.Parallel()
	for _, lies := range []bool{false, true} {
		t.Run(map[bool]string{false: "honest", true: "repeated"}[lies], func(t *testing.T) {
			t.Parallel()
			c, _, free := confirmed(t)
			there := "zone/ready/" + record.ID{}.String() + "/" + c.keys[1][record.Zone].ID.String()
			row := c.st.Snapshot()[there]
			c.servers[0].stop()
			if lies { // as if it were the only row
				if _, err := c.st.Commit(context.Background(), store.Txn{Del: []string{there}}); err != nil {
					t.Fatal(err)
				}
			}
			c.start(0)
			if lies {
				time.Sleep(100 * time.Millisecond)
				c.write(row)
			}
			free()
			c.waitsFor("m")
		})
	}
}

// hiding is a store that shows one server an old record for ever.
type hiding struct {
	store.Store
	old atomic.Pointer[store.KV]
}

func (h *hiding) hide(l []store.KV) []store.KV {
	if old := h.old.Load(); old != nil {
		l = slices.Clone(l)
		for i := range l {
			if l[i].Key == old.Key {
				l[i] = *old
			}
		}
	}
	return l
}

func (h *hiding) List(ctx context.Context, prefix string) ([]store.KV, int64, error) {
	l, rev, err := h.Store.List(ctx, prefix)
	return h.hide(l), rev, err
}

func (h *hiding) Watch(ctx context.Context, prefix string, after int64) <-chan []store.KV {
	out, in := make(chan []store.KV, 1024), h.Store.Watch(ctx, prefix, after)
	go func() {
		defer close(out)
		for l := range in {
			out <- h.hide(l)
		}
	}()
	return out
}

// A host confirmed a step at another server and has left it. The store does not show what that server wrote then of
// who is ready, but a host that is not there does not count.
func TestReadyAndGone(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, record.Zone)
	h := &hiding{Store: c.st}
	c.servers[0].stop()
	c.start(0, h)
	c.group("net", quick)
	n, m := c.join("n", true), c.join("m", true)
	n.silent = time.Minute
	n.at, n.only, m.at, m.only = 0, true, 1, true
	pn, pm := n.up().follow("net"), m.up().follow("net")
	c.eventually("both seal", func() bool {
		return pn.seals(record.Zone) == 1 && pm.seals(record.Zone) == 1 && c.ring(0, "net").Barrier == 2 && len(c.ring(0, "net").Waiting) == 0
	})
	pn.set(func() { pn.hang = true })
	free := func() { pn.set(func() { pn.hang = false }) }
	defer free()
	c.rotate(server.RotateRequest{Ring: "net"})
	c.eventually("one has confirmed", func() bool {
		r := c.ring(0, "net")
		return r.State == "prepared" && len(r.Waiting) == 1 && r.Waiting[0].Member == "n"
	})
	for k, v := range c.st.Snapshot() {
		if strings.HasPrefix(k, "zone/ready/") && !strings.HasPrefix(k, "zone/ready/"+record.ID{}.String()) && strings.HasSuffix(k, c.keys[1][record.Zone].ID.String()) {
			h.old.Store(&v)
		}
	}
	if h.old.Load() == nil {
		t.Fatal("nothing to hide")
	}
	m.stop()
	c.eventually("it is seen to have left", func() bool { return len(c.ring(0, "net").Waiting) == 2 })
	free()
	c.waitsFor("m")
}

// Servers are upgraded one after the other. What one of an earlier version writes, without a signature, does not
// confirm a step, but its hosts are not taken for absent, and status names it.
func TestEarlierVersion(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, record.Zone)
	p := quick
	p.AbsentAfter = 1
	c.group("net", p)
	n, m := c.join("n", true), c.join("m", true)
	n.at, n.only, m.at, m.only = 0, true, 1, true
	pn, pm := n.up().follow("net"), m.up().follow("net")
	c.eventually("both seal", func() bool {
		return pn.seals(record.Zone) == 1 && pm.seals(record.Zone) == 1 && c.ring(0, "net").Barrier == 2 && len(c.ring(0, "net").Waiting) == 0
	})
	c.servers[1].stop()
	m.stop() // it would find the other server
	stop, stopped := make(chan struct{}), make(chan struct{})
	defer func() { close(stop); <-stopped }()
	go func() { // as the version before would
		defer close(stopped)
		by := c.keys[1][record.Zone].ID
		for serial := uint64(time.Now().UnixNano()); ; serial++ {
			var kvs []store.KV
			for k, v := range c.st.Snapshot() {
				var r record.Ring
				if strings.HasPrefix(k, "zone/ring/") && record.Decode(v.Value, &r) == nil {
					entry := record.HashOf(c.st.Snapshot()[fmt.Sprintf("zone/log/%020d", r.Serial)].Value)
					ready := record.Ready{Ring: r.ID, Term: r.Term, Step: r.Step, Entry: entry, Server: by, Bitmap: []byte{3}, Serial: serial}
					kvs = append(kvs, store.KV{Key: "zone/ready/" + r.ID.String() + "/" + by.String(), Value: must(record.Encode(&ready))})
				}
			}
			there := record.Ready{Term: 1, Server: by, Bitmap: []byte{3}, Serial: serial}
			kvs = append(kvs, store.KV{Key: "zone/ready/" + record.ID{}.String() + "/" + by.String(), Value: must(record.Encode(&there))})
			if _, err := c.st.Commit(context.Background(), store.Txn{Put: kvs}); err != nil {
				t.Error(err)
			}
			select {
			case <-stop:
				return
			case <-time.After(200 * time.Millisecond):
			}
		}
	}()
	c.rotate(server.RotateRequest{Ring: "net"})
	began := time.Now()
	c.eventually("status names it", func() bool {
		r := c.ring(0, "net")
		w := r.Waiting
		return r.State == "prepared" && len(w) == 1 && w[0].Member == "m" && strings.Contains(w[0].Why, "server s1, which is of an earlier version: upgrade it")
	})
	for time.Since(began) < 12*time.Second { // with several servers, 10 s at least
		if r := c.ring(0, "net"); r.State != "prepared" || c.member("m").State != "active" {
			t.Fatalf("after %v: %s, m is %s", time.Since(began), r.State, c.member("m").State)
		}
		time.Sleep(100 * time.Millisecond)
	}
	if !c.log.has("a server is of an earlier version") {
		t.Error("the log does not say it")
	}
}
