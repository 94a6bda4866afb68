package e2e

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"libeesp/control/record"
	"libeesp/control/rotation"
	"libeesp/control/server"
	"libeesp/control/store"
	"libeesp/control/store/mem"
)

// instance makes the keys of another server for all levels, and returns its index in c.servers.
func (c *cluster) instance() int {
	i, id, ks := len(c.servers), randID(), map[record.Level]server.Keys{}
	for lv := range c.roots {
		_, sk := must2(ed25519.GenerateKey(rand.Reader))
		ks[lv] = server.Keys{ID: id, Sign: sk, HPKE: must(record.NewHPKEKey())}
	}
	c.keys = append(c.keys, ks)
	c.servers = append(c.servers, &node{dir: c.t.TempDir()})
	return i
}

// delegation is the next one of a level, by its root: these servers alone serve it.
func (c *cluster) delegation(lv record.Level, who ...int) []byte {
	var d record.Delegation
	mustNot(record.Decode(c.deleg[lv], &d))
	d.Serial, d.Instances = d.Serial+1, nil
	for _, i := range who {
		k := c.keys[i][lv]
		in := record.Instance{ID: k.ID, Name: fmt.Sprint("s", i), HPKE: k.HPKE.PublicKey().Bytes(), Roles: 7}
		copy(in.Sign[:], k.Sign.Public().(ed25519.PublicKey))
		d.Instances = append(d.Instances, in)
	}
	return must(record.Sign(&d, c.id, c.roots[lv]))
}

// delegate gives one of the servers a delegation to these alone.
func (c *cluster) delegate(lv record.Level, ask int, who ...int) error {
	c.t.Helper()
	raw := c.delegation(lv, who...)
	_, err := c.servers[ask].Delegate(c.t.Context(), "test", server.DelegateRequest{Level: lv.String(), Delegation: raw})
	if err == nil {
		c.deleg[lv] = raw
	}
	return err
}

// A server is added to a running cluster, and the first one is removed. The new one continues alone: the
// first one cannot write any more, nor open later KEKs. The records that it signed are signed again. Hosts
// continue, also one that was off meanwhile.
func TestServersChange(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, record.Zone, record.User)
	c.group("net", quick)
	c.group("more", quick, "zone")
	a, off := c.join("a", true).up(), c.join("off", true).up()
	pa, po := a.follow("net"), off.follow("net")
	sealing := func(gen uint64, ps ...*plane) func() bool {
		return func() bool {
			for _, p := range ps {
				if p.seals(record.Zone) != gen || p.seals(record.User) != gen || len(p.opens(record.Zone)) != 1 || len(p.opens(record.User)) != 1 {
					return false
				}
			}
			return true
		}
	}
	c.eventually("both seal", sealing(1, pa, po))
	one := c.instance()
	for lv := range c.roots {
		if err := c.delegate(lv, 0, 0, one); err != nil {
			t.Fatal(err)
		}
		// One by the same serial does not follow it.
		var d record.Delegation
		mustNot(record.Decode(c.deleg[lv], &d))
		if _, err := c.servers[0].Delegate(t.Context(), "test", server.DelegateRequest{Level: lv.String(), Delegation: must(record.Sign(&d, c.id, c.roots[lv]))}); !errors.Is(err, rotation.ErrGuard) {
			t.Errorf("the same again: %v", err)
		}
		d.Serial++
		if _, err := c.servers[0].Delegate(t.Context(), "test", server.DelegateRequest{Level: lv.String(), Delegation: must(record.Sign(&d, c.id, c.keys[0][lv].Sign))}); err == nil {
			t.Error("a delegation that the root did not sign")
		}
		d.Instances = d.Instances[1:]
		if _, err := c.servers[0].Delegate(t.Context(), "test", server.DelegateRequest{Level: lv.String(), Delegation: must(record.Sign(&d, c.id, c.roots[lv]))}); !errors.Is(err, rotation.ErrGuard) {
			t.Errorf("itself taken off: %v", err)
		}
	}
	c.start(one)
	c.eventually("the new one has read all", func() bool { return c.ring(one, "net").Current == 1 && c.ring(one, "more").Current == 1 })
	// Hosts learn of it from their server, and find it when that one is gone.
	c.eventually("hosts know it", func() bool { return len(a.agent.Status().Servers) == 2 && len(off.agent.Status().Servers) == 2 })
	c.servers[0].stop()
	if _, err := c.servers[one].Rotate(t.Context(), "test", server.RotateRequest{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("rotated by the new one alone", sealing(2, pa, po))
	c.start(0)
	off.stop()
	epoch := c.ring(one, "net").KEKEpoch
	for lv := range c.roots {
		if err := c.delegate(lv, one, one); err != nil {
			t.Fatal(err)
		}
	}
	c.eventually("the other stops", func() bool {
		s := c.servers[0].Status()
		return strings.Contains(s.Levels[0].ReadOnly, "removed") && strings.Contains(s.Levels[1].ReadOnly, "removed")
	})
	if _, err := c.servers[0].Rotate(t.Context(), "test", server.RotateRequest{Emergency: true}); !errors.Is(err, server.ErrReadOnly) {
		t.Errorf("it writes: %v", err)
	}
	if _, err := c.servers[one].Exclude(t.Context(), "test", server.NameRequest{Name: "off", Reason: "it is off"}); err != nil {
		t.Fatal(err)
	}
	c.eventually("rotated, for who left had the keys", sealing(3, pa))
	for lv := range c.roots {
		for k, v := range c.st.Snapshot() {
			if strings.HasPrefix(k, lv.String()+"/escrow/") {
				var e record.Escrow
				mustNot(record.Decode(v.Value, &e))
				if _, err := e.Open(c.id, c.keys[0][lv].ID, c.keys[0][lv].HPKE); err == nil || len(e.Keys) != 1 || e.Epoch <= epoch {
					t.Errorf("%s: %d keys, of epoch %d; it opens it: %v", k, len(e.Keys), e.Epoch, err)
				}
			}
		}
	}
	off.up()
	po = off.follow("net")
	c.eventually("back", sealing(3, pa, po))
	// A server that starts reads a store in which only old entries of the log have the other one's
	// signatures.
	c.servers[one].stop()
	c.servers[0].stop()
	c.start(one)
	if _, err := c.servers[one].Rotate(t.Context(), "test", server.RotateRequest{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("rotated", sealing(4, pa, po))
}

// A removal is interrupted after its delegation is in force. Given again, the command makes the other rings rotate,
// too, to keys that the removed server never had; and given once more, it does nothing.
func TestRemovalInterrupted(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, record.Zone)
	for i := range 20 { // more than one transaction takes
		c.group(fmt.Sprint("g", i), quick)
	}
	one := c.instance()
	if err := c.delegate(record.Zone, 0, 0, one); err != nil {
		t.Fatal(err)
	}
	var removed atomic.Bool
	c.st.Fail(func(_ int, t store.Txn, do func()) error {
		for _, kv := range t.Put {
			if !removed.Load() && kv.Key == "zone/delegation" {
				removed.Store(true)
				do()
				return nil
			}
		}
		if removed.Load() {
			return mem.ErrLost
		}
		do()
		return nil
	})
	if err := c.delegate(record.Zone, 0, 0); err == nil || !strings.Contains(err.Error(), "give the command again") {
		t.Errorf("interrupted: %v", err)
	}
	epochs := func(at uint32) (n int) {
		for _, r := range c.servers[0].Status().Levels[0].Rings {
			if r.State == "steady" && r.KEKEpoch == at {
				n++
			}
		}
		return n
	}
	c.st.Fail(nil)
	c.eventually("those of the delegation's own transaction rotate", func() bool { return epochs(2) == 16 })
	for _, want := range []int{4, 0} {
		v, err := c.servers[0].Delegate(t.Context(), "test", server.DelegateRequest{Level: "zone", Finish: true})
		if err != nil || v.(map[string]any)["rings"] != want {
			t.Errorf("given again: %v, %v; not %d rings", v, err, want)
		}
		c.eventually("all rotate", func() bool { return epochs(2) == 20 })
	}
}
