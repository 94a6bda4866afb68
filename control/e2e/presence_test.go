package e2e

import (
	"context"
	"os"
	"slices"
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
