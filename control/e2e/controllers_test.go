package e2e

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"libeesp"
	"libeesp/control/agent"
	"libeesp/control/record"
	"libeesp/control/server"
	"libeesp/control/socket"
)

// apart is a controller of the zone level and one of the user level, which share nothing, and hosts that have
// both. Group "net" has rings of both; "inner" has only the zone's.
func apart(t *testing.T, hosts ...string) (zone, user *cluster, hs []*host) {
	t.Helper()
	zone, user = newCluster(t, 1, record.Zone), newCluster(t, 1, record.User)
	made, err := user.servers[0].CreateRing(t.Context(), "test", server.GroupRequest{Name: "net", Policy: &quick})
	if err != nil {
		t.Fatal(err)
	}
	rings := made.(map[string]any)["rings"].(map[string]string)
	if _, err := zone.servers[0].CreateGroup(t.Context(), "test", server.GroupRequest{Name: "net", V: 1, Rings: rings, Policy: &quick}); err != nil {
		t.Fatal(err)
	}
	zone.group("inner", quick)
	for _, n := range hosts {
		h, o := zone.join(n, true), user.join(n, true)
		o.groups = []string{"net"}
		h.more = []*host{o}
		hs = append(hs, h.up())
	}
	return zone, user, hs
}

// rotated rotates a ring to a generation.
func (c *cluster) rotated(name string, gen uint64) {
	c.t.Helper()
	c.rotate(server.RotateRequest{Ring: name})
	c.eventually(fmt.Sprint(name, " rotates to ", gen), func() bool {
		r := c.ring(0, name)
		return r.State == "steady" && r.Current == gen && len(r.Waiting) == 0
	})
}

// A group with rings of two controllers. Hosts have both keys. Rotations of one controller do not depend on
// the other: while one is down, the other one rotates, also if a host's agent restarts meanwhile. Neither of
// them gives its IDs.
func TestTwoControllers(t *testing.T) {
	t.Parallel()
	zone, user, hs := apart(t, "a", "b")
	pa, pb := hs[0].follow("net"), hs[1].follow("net")
	at := func(z, u uint64) func() bool {
		return func() bool {
			return pa.seals(record.Zone) == z && pb.seals(record.Zone) == z && pa.seals(record.User) == u && pb.seals(record.User) == u
		}
	}
	zone.eventually("both seal", at(1, 1))
	for _, lv := range []record.Level{record.Zone, record.User} {
		if v := pa.value(lv, 1); v == ([32]byte{}) || v != pb.value(lv, 1) {
			t.Errorf("not one key at level %v", lv)
		}
	}
	zone.eventually("both in both barriers", func() bool { return zone.ring(0, "net").Barrier == 2 && user.ring(0, "net").Barrier == 2 })
	zone.rotated("net", 2)
	user.rotated("net", 2)
	zone.eventually("both rotated", at(2, 2))
	ids := append(must(pa.c.NeedIDs(pa.group(), 4)), must(pb.c.NeedIDs(pb.group(), 4))...)
	slices.Sort(ids)
	if len(slices.Compact(ids)) != 8 || ids[0]>>63 != 1 {
		t.Errorf("IDs %x", ids)
	}

	// The user level's controller is down.
	user.servers[0].stop()
	zone.rotated("net", 3)
	hs[0].stop()
	hs[0].up()
	pa = hs[0].follow("net")
	zone.eventually("a has both keys again, by its caches and one controller", at(3, 2))
	zone.rotated("net", 4)
	if s := hs[0].agent.Status(); !s.Controllers[0].Online || s.Controllers[1].Online || s.Controllers[1].Levels != "user" {
		t.Errorf("status %+v", s.Controllers)
	}
	user.start(0)
	user.eventually("it is back", func() bool { return len(user.ring(0, "net").Waiting) == 0 && user.servers[0].Status().Streams == 2 })
	user.rotated("net", 3)
	zone.eventually("both rotated", at(4, 3))

	// What one seals the other opens.
	var s *eesp.Sender
	var r *eesp.Receiver
	for i, h := range hs {
		g, err := eesp.FollowGroup("net", eesp.FollowConfig{Socket: h.sock, Timeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		defer g.Close()
		if err := g.WaitSealing(time.Minute); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			s = must(eesp.NewSender(g, eesp.SenderConfig{}))
			defer s.Close()
		} else {
			r = must(eesp.NewReceiver(eesp.ReceiverConfig{}, g))
			defer r.Close()
		}
	}
	zone.eventually("a packet crosses", func() bool {
		b := make([]byte, 256)
		p := []eesp.Packet{{Buf: b, Off: 128, Len: 64}}
		if s.Seal(p); p[0].Status != eesp.OK {
			return false // its ID is on its way
		}
		q := []eesp.Packet{{Buf: b, Off: 128 - s.HeaderLen(), Len: len(p[0].Out)}}
		if r.Open(q); q[0].Status != eesp.OK || q[0].ID != s.ID() || s.ID()>>63 != 1 {
			t.Fatalf("ID %x, opened %v", s.ID(), q[0].Status)
		}
		return true
	})
}

// A controller in wrong hands. Hosts refuse what it announces for groups of others; its constant rotations
// delay nobody else, and do not affect the zone's own group.
func TestControllerKeepsToItsLevel(t *testing.T) {
	t.Parallel()
	zone, user, hs := apart(t, "a")
	a := hs[0]
	net, inner := a.follow("net"), a.follow("inner")
	zone.eventually("seals both", func() bool { return net.seals(record.User) == 1 && inner.seals(record.Zone) == 1 })
	was := [2]record.ID{net.group(), inner.group()}
	refused := func(i int, name, why string) {
		t.Helper()
		zone.eventually(name+" is refused", func() bool { return strings.Contains(a.agent.Status().Controllers[i].Refused[name], why) })
	}
	// Without the other's ring, whose key it does not know; and a group of which it has no part.
	for name, why := range map[string]string{"net": "another group has this name", "inner": "another group has this name", "mine": "it has no ring of the controller of zone"} {
		q := server.GroupRequest{Name: name, V: 1, Policy: &quick}
		if name == "net" { // there is a ring of the name
			q.Profile = record.ProfilePSP
		}
		if _, err := user.servers[0].CreateGroup(t.Context(), "thief", q); err != nil {
			t.Fatal(err)
		}
		refused(1, name, why)
	}
	for ctx := t.Context(); ; {
		if _, err := user.servers[0].Rotate(ctx, "thief", server.RotateRequest{}); err != nil {
			t.Fatal(err)
		}
		if user.ring(0, "net").Current > 3 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	go func() {
		for user.ring(0, "net").Current < 200 && t.Context().Err() == nil {
			user.servers[0].Rotate(t.Context(), "thief", server.RotateRequest{})
			time.Sleep(time.Millisecond)
		}
	}()
	for gen := uint64(2); gen <= 4; gen++ {
		zone.rotated("net", gen)
		zone.rotated("inner", gen)
	}
	zone.eventually("both seal on", func() bool { return net.seals(record.Zone) == 4 && inner.seals(record.Zone) == 4 })
	if net.group() != was[0] || inner.group() != was[1] {
		t.Error("a group is another one")
	}
	// It cannot name a ring of the lower level in a group of its own.
	r := zone.ring(0, "inner")
	if _, err := user.servers[0].CreateGroup(t.Context(), "thief", server.GroupRequest{Name: "low", V: 1, Rings: map[string]string{"zone": r.ID}}); err == nil {
		t.Error("the server lets a group be made at the wrong level")
	}
}

// A host that is revoked at one controller loses the keys of the groups there and keeps those of other groups,
// also when its agent restarts. When the other controller revokes it, too, the agent ends.
func TestRevokedAtOne(t *testing.T) {
	t.Parallel()
	zone, user, hs := apart(t, "a", "b")
	b := hs[1]
	pa, pb, inner := hs[0].follow("net"), b.follow("net"), b.follow("inner")
	zone.eventually("all seal", func() bool {
		return pa.seals(record.User) == 1 && pb.seals(record.User) == 1 && inner.seals(record.Zone) == 1
	})
	if _, err := user.servers[0].Revoke(t.Context(), "test", server.NameRequest{Name: "b", Reason: "lost"}); err != nil {
		t.Fatal(err)
	}
	gone := func() bool { return len(pb.opens(record.User)) == 0 && pb.seals(record.Zone) == 0 && pb.seal() == 0 }
	zone.eventually("b has no key of net", gone)
	user.eventually("a has another", func() bool { return slices.Equal(pa.opens(record.User), []uint64{2}) && pa.seals(record.Zone) == 1 })
	zone.rotated("inner", 2)
	zone.eventually("b goes on with inner", func() bool { return inner.seals(record.Zone) == 2 })
	b.stop()
	b.up()
	pb, inner = b.follow("net"), b.follow("inner")
	zone.eventually("b goes on with inner", func() bool { return inner.seals(record.Zone) == 2 })
	zone.eventually("b is told so again", func() bool { s := b.agent.Status(); return s.Controllers[1].Revoked && !s.Revoked })
	if !gone() {
		t.Error("b has keys of net again")
	}
	if _, err := zone.servers[0].Revoke(t.Context(), "test", server.NameRequest{Name: "b"}); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-b.err:
		if !errors.Is(err, agent.ErrRevoked) {
			t.Errorf("b ended with %v", err)
		}
		b.err <- err
	case <-time.After(2 * time.Minute):
		t.Error("b goes on, and nobody has it")
	}
	zone.eventually("b has nothing", func() bool { return len(inner.opens(record.Zone)) == 0 })
}

// A client gets keys of a group that two controllers share. The client knows the granter by the first one, both
// must allow the host to be a granter, and the host draws the pair's IDs.
func TestControllersGrant(t *testing.T) {
	t.Parallel()
	zone, user, hs := apart(t, "g")
	cl := zone.client("laptop")
	hs[0].stop()
	hs[0].policy = &socket.Policy{DetachGrace: 30, ClientLease: 60, Clients: []socket.ClientRule{ruleOf(cl, "net")}}
	x := hs[0].up().grants("net")
	e := zone.newEnd(x, cl, "net")
	e.works(t, "at first")
	if up, down := e.grant.Up.Connection, e.grant.Down.Connection; up>>63 != 1 || down>>63 != 1 || up == down {
		t.Errorf("IDs %x and %x", up, down)
	}
	if _, err := user.servers[0].Granter(t.Context(), "test", server.GranterRequest{Name: "g", Off: true}); err != nil {
		t.Fatal(err)
	}
	user.eventually("no granter any more", func() bool {
		_, err := zone.ask(x, cl, "net", 0)
		return err != nil && strings.Contains(err.Error(), "this host is no granter at level user")
	})
}
