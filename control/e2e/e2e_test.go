package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"libeesp/control/record"
	"libeesp/control/server"
)

// Two hosts join, are admitted, and get one key; three rotations change it, in
// the order that loses nothing.
func TestRotations(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, record.Zone)
	c.group("net", quick)
	a, b := c.join("a", false), c.join("b", false)
	a.up()
	b.up()
	pa, pb := a.follow("net"), b.follow("net")
	time.Sleep(100 * time.Millisecond)
	if len(pa.opens(record.Zone)) != 0 {
		t.Error("keys before it was admitted")
	}
	if _, err := c.servers[0].Admit(t.Context(), "test", server.AdmitRequest{All: true}); err != nil {
		t.Fatal(err)
	}
	c.eventually("both seal", func() bool { return pa.seals(record.Zone) == 1 && pb.seals(record.Zone) == 1 })
	if v := pa.value(record.Zone, 1); v != pb.value(record.Zone, 1) || v == ([32]byte{}) {
		t.Error("not one key")
	}
	for n := uint64(2); n <= 4; n++ {
		c.rotate(server.RotateRequest{Ring: "net"})
		c.eventually("rotation ends", func() bool {
			r := c.ring(0, "net")
			return r.State == "steady" && r.Current == n && len(r.Waiting) == 0
		})
		for _, p := range []*plane{pa, pb} {
			if o := p.opens(record.Zone); !slices.Equal(o, []uint64{n}) || p.seals(record.Zone) != n {
				t.Errorf("after rotation to %d: opens %v, seals %d", n, o, p.seals(record.Zone))
			}
		}
		if pa.value(record.Zone, n) != pb.value(record.Zone, n) {
			t.Errorf("generation %d is two", n)
		}
	}
	pa.mu.Lock()
	got := strings.Join(pa.history, " ")
	pa.mu.Unlock()
	for _, want := range []string{"prepared/2/seal=1", "active/3/seal=1", "steady/4/seal=1", "prepared/5"} {
		if !strings.Contains(got, want) {
			t.Errorf("history has no %s: %s", want, got)
		}
	}
	// IDs: each once, of this session's block.
	seen := map[uint64]bool{}
	for _, p := range []*plane{pa, pb} {
		ids, err := p.c.NeedIDs(p.group(), 8)
		if err != nil || len(ids) != 8 {
			t.Fatal(ids, err)
		}
		for _, id := range ids {
			if seen[id] || id>>63 != 0 || id>>32 == 0 {
				t.Errorf("ID %x", id)
			}
			seen[id] = true
		}
	}
	if _, err := pa.c.NeedIDs(pa.group(), 16); err == nil {
		t.Error("24 IDs at once")
	}
}

// A program that refuses, or does not answer, delays PREPARE, and its name is shown. When it
// answers, the rotation continues.
func TestHeldUp(t *testing.T) {
	t.Parallel()
	c, _, p := sealing(t)
	p.set(func() { p.hang = true })
	c.rotate(server.RotateRequest{Ring: "net"})
	c.eventually("status names it", func() bool {
		r := c.ring(0, "net")
		return r.State == "prepared" && len(r.Waiting) == 1 && r.Waiting[0].Member == "a" && strings.Contains(r.Waiting[0].Why, "silent: test[")
	})
	if _, err := c.servers[0].Abort(t.Context(), "test", server.NameRequest{Name: "net", Reason: "no"}); err != nil {
		t.Fatal(err)
	}
	p.set(func() { p.hang = false })
	c.eventually("aborted", func() bool {
		return c.ring(0, "net").State == "steady" && slices.Equal(p.opens(record.Zone), []uint64{1})
	})
	// The generation of the aborted rotation is not used again.
	c.eventually("all know", func() bool { return len(c.ring(0, "net").Waiting) == 0 })
	c.rotate(server.RotateRequest{Ring: "net"})
	c.eventually("rotated", func() bool { r := c.ring(0, "net"); return r.State == "steady" && r.Current == 3 })
}

// A revoked member receives nothing more. The others rotate to a key that was sealed under a KEK
// which it never had.
func TestRevoke(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, record.Zone, record.User)
	c.group("net", quick)
	a, b := c.join("a", true).up(), c.join("b", true).up()
	pa, pb := a.follow("net"), b.follow("net")
	c.eventually("both seal", func() bool { return pa.seals(record.Zone) == 1 && pb.seals(record.User) == 1 })
	epoch := c.ring(0, "net").KEKEpoch
	if _, err := c.servers[0].Revoke(t.Context(), "test", server.NameRequest{Name: "b", Reason: "lost"}); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-b.err:
		if err == nil || err.Error() != "revoked" {
			t.Errorf("b ended with %v", err)
		}
		b.err <- err
	case <-time.After(2 * time.Minute):
		t.Error("b goes on")
	}
	c.eventually("b has nothing", func() bool { return len(pb.opens(record.Zone)) == 0 && len(pb.opens(record.User)) == 0 })
	c.eventually("a has rotated", func() bool { return pa.seals(record.Zone) == 2 && slices.Equal(pa.opens(record.Zone), []uint64{2}) })
	if r := c.ring(0, "net"); r.KEKEpoch != epoch+1 {
		t.Errorf("KEK epoch %d, was %d", r.KEKEpoch, epoch)
	}
	// One level is enough.
	if pa.seals(record.User) != 1 {
		t.Errorf("user level rotated too")
	}
	// It comes back: its certificate is valid, but the roster does not have it.
	b.stop()
	b2 := *b
	b2.up()
	select {
	case err := <-b2.err:
		if err == nil || err.Error() != "revoked" {
			t.Errorf("b came back: %v", err)
		}
		b2.err <- err
	case <-time.After(2 * time.Minute):
		t.Error("b came back")
	}
}

// A member that is gone delays a rotation only for some time, and comes back by REJOIN.
func TestAbsent(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, record.Zone)
	p := quick
	p.AbsentAfter = 1
	c.group("net", p)
	a, b := c.join("a", true).up(), c.join("b", true).up()
	pa, pb := a.follow("net"), b.follow("net")
	c.eventually("both seal", func() bool { return pa.seals(record.Zone) == 1 && pb.seals(record.Zone) == 1 })
	b.stop()
	c.rotate(server.RotateRequest{Ring: "net"})
	c.eventually("held up", func() bool { return c.ring(0, "net").State == "prepared" })
	c.eventually("excluded and rotated", func() bool { r := c.ring(0, "net"); return r.State == "steady" && r.Current == 2 })
	if m := c.member("b"); m.State != "absent" || m.Reason != "absent" {
		t.Errorf("b is %+v", m)
	}
	b.up()
	pb = b.follow("net")
	c.eventually("back", func() bool { return c.member("b").State == "active" && pb.seals(record.Zone) == 2 })
}

// Emergency, with a member that does not answer: it is cut off at the deadline.
func TestEmergency(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("waits for the deadlines of an emergency: 25 s")
	}
	c := newCluster(t, 1, record.Zone)
	c.group("net", quick)
	a, b := c.join("a", true).up(), c.join("b", true).up()
	pa, pb := a.follow("net"), b.follow("net")
	c.eventually("both seal", func() bool { return pa.seals(record.Zone) == 1 && pb.seals(record.Zone) == 1 })
	pb.set(func() { pb.hang = true })
	c.rotate(server.RotateRequest{Ring: "net", Emergency: true})
	c.eventually("rotated", func() bool { r := c.ring(0, "net"); return r.State == "steady" && r.Current == 2 && r.KEKEpoch == 2 })
	if m := c.member("b"); m.State != "absent" || m.Reason != "emergency's deadline" {
		t.Errorf("b is %+v", m)
	}
	pb.set(func() { pb.hang = false })
	c.eventually("b is back", func() bool { return c.member("b").State == "active" && pb.seals(record.Zone) == 2 })
}

// The agent restarts while no server answers: programs have the keys at once, from the cache. Offline
// IDs are random, with the top bit set.
func TestOfflineStart(t *testing.T) {
	t.Parallel()
	c, a, p := sealing(t)
	v := p.value(record.Zone, 1)
	a.stop()
	c.servers[0].stop()
	a.up()
	p = a.follow("net")
	c.eventually("seals offline", func() bool { return p.seals(record.Zone) == 1 })
	if p.value(record.Zone, 1) != v {
		t.Error("another key")
	}
	ids, err := p.c.NeedIDs(p.group(), 2)
	if err != nil || ids[0]>>63 != 1 || ids[0] == ids[1] {
		t.Errorf("IDs %x, %v", ids, err)
	}
	c.start(0)
	c.rotate(server.RotateRequest{Ring: "net"})
	c.eventually("rotated", func() bool { return p.seals(record.Zone) == 2 })
	if ids, err := p.c.NeedIDs(p.group(), 1); err != nil || ids[0]>>63 != 0 {
		t.Errorf("ID online %x, %v", ids, err)
	}
}

// Two machines have one identity: the older one is fenced, and its programs hear of it.
func TestFenced(t *testing.T) {
	t.Parallel()
	c, a, p := sealing(t)
	twin := *a
	twin.dir = t.TempDir()
	twin.up()
	c.eventually("the older is fenced", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.st.Seal == 3
	})
	pt := twin.follow("net")
	c.eventually("the newer goes on", func() bool { return pt.seals(record.Zone) == 1 })
}

// Three levels in transit, one after the other.
func TestThreeLevels(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, record.Zone, record.User, record.Task)
	c.group("net", quick)
	a, b := c.join("a", true).up(), c.join("b", true).up()
	pa, pb := a.follow("net"), b.follow("net")
	all := func(n uint64) bool {
		for lv := record.Zone; lv < record.Levels; lv++ {
			if pa.seals(lv) != n || pb.seals(lv) != n {
				return false
			}
		}
		return true
	}
	c.eventually("all seal", func() bool { return all(1) })
	c.rotate(server.RotateRequest{})
	c.eventually("all rotated", func() bool { return all(2) })
	if fmt.Sprint(pa.opens(0)) == "" {
		t.Error("no keys")
	}
}
