package eesp

import (
	"crypto/rand"
	"testing"

	"libeesp/internal/status"
)

// Three levels in transit at once, with 1,000 senders that go over one level after the
// other: every mixture that is sent opens, and takes a window of its own. There is
// room for exactly these, so that one sender more is refused until keys have gone.
func TestLevelsInTransit(t *testing.T) {
	const senders, mixtures = 1000, 4
	g, far := must(NewGroup(GroupConfig{})), must(NewGroup(GroupConfig{}))
	t.Cleanup(func() { g.Close(); far.Close() })
	var id [3][]byte
	set := func(g *Group, l Level, pre, cur, next uint64) {
		t.Helper()
		gen, v := ringOf(pre, cur, next)
		for i := range v { // not the same at all levels
			if gen[i] != 0 {
				v[i][0] ^= byte(l)
			}
		}
		if err := g.SetRing(l, id[l], gen, &v, 0); err != nil {
			t.Fatal(err)
		}
	}
	for l := range Level(3) {
		id[l] = make([]byte, 16)
		rand.Read(id[l])
		set(g, l, 0, 1, 0)
		set(far, l, 0, 1, 0)
	}
	for _, x := range []*Group{g, far} {
		if err := x.SetDefaultLevels(Set(Zone, User, Task)); err != nil {
			t.Fatal(err)
		}
	}
	r := must(NewReceiver(ReceiverConfig{ReplayWindow: 64, ReplayContexts: senders * mixtures}, far))
	t.Cleanup(r.Close)
	first := uint64(0x7B000000 + usedIDs.Add(senders+1))
	var ss []*Sender
	for i := range uint64(senders + 1) {
		s := must(NewSender(g, SenderConfig{ID: first + i, V: VLongID, Options: true, Counter: CounterExplicit}))
		t.Cleanup(s.Close)
		ss = append(ss, s)
	}
	all := func(step string) {
		t.Helper()
		for i, s := range ss[:senders] {
			p, c := sealOne(s)
			if o := openOne(r, p); c != status.OK || o != status.OK {
				t.Fatalf("%s: sender %d: %v, %v; %+v", step, i, c, o, r.ReplayStats())
			}
		}
	}
	all("steady")
	for l := range Level(3) {
		set(far, l, 0, 1, 2)
	}
	all("prepared")
	for l := range Level(3) { // receivers have both; senders go over
		set(far, l, 1, 2, 0)
	}
	for l := range Level(3) {
		set(g, l, 1, 2, 0)
		all("active at one level more")
	}
	if n := r.ReplayStats(); n.Windows != senders*mixtures {
		t.Errorf("%d windows", n.Windows)
	}
	p, _ := sealOne(ss[senders])
	if c := openOne(r, p); c != status.ErrWindows {
		t.Errorf("one sender more than there is room for: %v", c)
	}
	for l := range Level(3) {
		set(far, l, 0, 2, 0)
		set(g, l, 0, 2, 0)
	}
	all("steady again")
	p, _ = sealOne(ss[senders])
	if c := openOne(r, p); c != status.OK {
		t.Errorf("when the old keys have gone: %v", c)
	}
}
