package eesp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"libeesp/internal/link"
	"libeesp/internal/status"
)

// grant sends GRANT as an agent does, and waits for the answer, if there is one.
func (a *fakeAgent) grant(up, down uint64, lease time.Duration, flags uint16) map[uint16][]byte {
	a.t.Helper()
	b := link.Put64(link.Put(nil, 1, a.state.Group[:]), 2, down)
	b = link.Put64(link.Put64(link.Put64(b, 3, up), 4, down), 5, uint64(lease.Milliseconds()))
	link.WriteFrame(a.c, link.Frame{Type: link.Grant, Fields: link.Put16(link.Put(b, 6, []byte("laptop")), 7, flags)})
	if flags&link.GrantEnd != 0 {
		return nil
	}
	select {
	case m := <-a.granted:
		if link.Get64(m[2]) != down {
			a.t.Fatalf("an answer to %d", link.Get64(m[2]))
		}
		return m
	case <-time.After(20 * time.Second):
		a.t.Fatal("no answer")
	}
	return nil
}

// keyOf makes a client's data key from the octets that it was given.
func keyOf(t testing.TB, b []byte) *DataKey {
	t.Helper()
	k, err := link.ParseDataKey(b)
	if err != nil {
		t.Fatal(err)
	}
	d := &DataKey{ID: k.ID, Epoch: k.Epoch, V: k.V, Profile: k.Profile, Params: k.Params, KeyLen: uint8(len(k.Key)), OptionsLen: uint8(len(k.Options))}
	copy(d.Key[:], k.Key)
	copy(d.Options[:], k.Options)
	return d
}

type clientEnd struct {
	s *Sender
	r *Receiver
}

func newClientEnd(t testing.TB, m map[uint16][]byte) clientEnd {
	t.Helper()
	if !bytes.Equal(m[3], []byte{0}) {
		t.Fatalf("refused: %s", m[4])
	}
	e := clientEnd{must(NewSenderWithKey(keyOf(t, m[5]), SenderConfig{Counter: CounterExplicit})), must(NewReceiverWithKey(keyOf(t, m[6]), ReceiverConfig{}))}
	t.Cleanup(func() { e.s.Close(); e.r.Close() })
	return e
}

// A client's pair of keys stays while the group's keys change. The sender to the client ends
// with the lease.
func TestFollowClients(t *testing.T) {
	for _, profile := range []ProfileID{ProfileStateless, ProfilePSP} {
		a := newFakeAgent(t, link.Params{Profile: uint8(profile), AEAD: 1, V: 1 - uint8(profile), Window: 128, Contexts: 32})
		if profile == ProfilePSP {
			a.change(func(s *link.State) { s.Rings[0] = nil })
		}
		a.set(0, 4, 0, "")
		g := must(FollowGroup("net", FollowConfig{Socket: a.path, Clients: true}))
		t.Cleanup(g.Close)
		a.wait("")
		r := must(NewReceiver(ReceiverConfig{}, g))
		t.Cleanup(r.Close)
		up, down := uint64(0x7A000000+usedIDs.Add(2)), uint64(0x7A000000+usedIDs.Add(2))
		m := a.grant(up, down, time.Hour, 0)
		c := newClientEnd(t, m)
		if profile == ProfileStateless && binary.BigEndian.Uint64(m[7]) != 4 {
			t.Errorf("generations %x", m[7])
		}
		l := must(g.Clients())
		if len(l) != 1 || l[0].Name != "laptop" || l[0].Up != c.s.ID() || l[0].Down&^(1<<31) != down&^(1<<31) || l[0].Lease < 59*time.Minute {
			t.Fatalf("%+v", l)
		}
		down = l[0].Down
		if _, err := g.ClientSender(down + 1); !errors.Is(err, status.ErrNotFound) {
			t.Errorf("another's sender: %v", err)
		}
		s := must(g.ClientSender(down))
		if _, err := g.ClientSender(down); !errors.Is(err, status.ErrExists) {
			t.Errorf("a second sender: %v", err)
		}
		both := func(step string) {
			t.Helper()
			p, c1 := sealOne(c.s)
			q, c2 := sealOne(s)
			if s1, s2 := openOne(r, p), openOne(c.r, q); c1 != status.OK || c2 != status.OK || s1 != status.OK || s2 != status.OK {
				t.Fatalf("profile %d, %s: up %v, %v; down %v, %v", profile, step, c1, s1, c2, s2)
			}
		}
		both("at first")
		if q, _ := sealOne(s); openOne(r, q) != status.ErrReflected {
			t.Error("what is for the client opens here")
		}
		if profile == ProfileStateless {
			a.set(0, 4, 5, "")
			both("prepared")
			a.set(4, 5, 0, "")
			both("active: the pair stays as it is")
			if n := newClientEnd(t, a.grant(up+1, down+1, time.Hour, 0)); n.s.ID() != up+1 {
				t.Error(n.s.ID())
			}
			a.grant(0, down+1, 0, link.GrantEnd)
		}
		// Renewed, or of a client that does not exist.
		if m := a.grant(0, down, time.Minute, link.GrantRenew); !bytes.Equal(m[3], []byte{0}) || m[5] != nil {
			t.Errorf("renewed: %v %s", m[3], m[4])
		}
		if l := must(g.Clients()); len(l) != 1 || l[0].Lease > time.Minute {
			t.Errorf("%+v", l)
		}
		if m := a.grant(0, down+3, time.Minute, link.GrantRenew); bytes.Equal(m[3], []byte{0}) {
			t.Error("renewed what is not there")
		}
		// psp: a device key that a lease uses is not replaced.
		if profile == ProfilePSP {
			if _, err := NewSender(g, SenderConfig{}); !errors.Is(err, status.ErrUnsupported) {
				t.Errorf("a sender without a client: %v", err)
			}
			turned := func() bool { return g.g.Snapshot().Current != int(down>>31) }
			g.follows.renewDeviceKey(g, bootTime()+2*deviceKeyLife) // the other slot, on which there is none
			if !turned() {
				t.Error("the device key is not replaced")
			}
			both("after a new device key")
			g.follows.renewDeviceKey(g, bootTime()+5*deviceKeyLife) // this one's
			if !turned() {
				t.Error("a device key was replaced that a lease is on")
			}
			both("after another, which had to wait")
		}
		a.grant(0, down, 10*time.Millisecond, link.GrantRenew)
		eventually(t, "the lease ends", func() bool { _, c := sealOne(s); return c == status.ErrNoKey })
		if l := must(g.Clients()); len(l) != 0 {
			t.Errorf("after its end: %+v", l)
		}
		if p, _ := sealOne(c.s); openOne(r, p) != status.OK { // the group's keys say what opens
			t.Error("up does not open")
		}
		s.Close()
		// If the group may not seal, it seals to no client.
		down += 8
		c = newClientEnd(t, a.grant(up+8, down&^(1<<31), time.Hour, 0))
		s = must(g.ClientSender(must(g.Clients())[0].Down))
		both("another client")
		a.change(func(st *link.State) { st.Seal = link.SealFenced })
		a.set(0, 5, 0, "")
		if _, c := sealOne(s); c != status.ErrNoKey {
			t.Errorf("fenced: %v", c)
		}
		s.Close()
	}
}

// A program that gives no keys to clients answers no GRANT.
func TestFollowNoClients(t *testing.T) {
	a := newFakeAgent(t, link.Params{V: 1})
	a.set(0, 4, 0, "")
	g := must(FollowGroup("net", FollowConfig{Socket: a.path}))
	defer g.Close()
	a.wait("")
	if m := a.grant(5, 6, time.Hour, 0); bytes.Equal(m[3], []byte{0}) || m[5] != nil {
		t.Errorf("%v", m)
	}
}
