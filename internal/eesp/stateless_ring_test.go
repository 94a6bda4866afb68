package eesp

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"libeesp/internal/keys"
	"libeesp/internal/status"
)

// usedIDs are those that an earlier run of a test has used.
var usedIDs atomic.Uint32

// ringOf is a root key with known values; generation 0 is none.
func ringOf(pre, cur, next uint64) (g [3]uint64, v [3][RootKeyLen]byte) {
	g = [3]uint64{pre, cur, next}
	for i, n := range g {
		for k := range v[i] {
			if n != 0 {
				v[i][k] = byte(n)*7 + byte(k)
			}
		}
	}
	return g, v
}

func putRing(t testing.TB, g *Group, id string, pre, cur, next, floor uint64) error {
	t.Helper()
	gen, v := ringOf(pre, cur, next)
	return g.SetRing(Zone, fmt.Appendf(nil, "%-16s", id), gen, &v, floor)
}

func ringGroup(t testing.TB, id string, pre, cur, next uint64) *Group {
	t.Helper()
	g := must(NewGroup(GroupConfig{}))
	t.Cleanup(g.Close)
	if err := putRing(t, g, id, pre, cur, next, 0); err != nil {
		t.Fatal(err)
	}
	return g
}

func sealOne(s *Sender) ([]byte, status.Code) {
	b := make([]byte, 256)
	p := []Packet{{Buf: b, Off: 128, Len: copy(b[128:], "what everybody may read")}}
	s.Seal(p)
	return bytes.Clone(p[0].Out), p[0].Status
}

func openOne(r *Receiver, sealed []byte) status.Code {
	b := bytes.Clone(sealed)
	p := []Packet{{Buf: b, Len: len(b)}}
	r.Open(p)
	if p[0].Status == status.OK && string(p[0].Out) != "what everybody may read" {
		return status.ErrInternal
	}
	return p[0].Status
}

// Two ends rotate step by step, one of them always first. Each opens what the other seals,
// and packets of a dropped key open nowhere.
func TestRingSteps(t *testing.T) {
	id := rand.Text()[:16] // floors last for as long as the process
	a, b := ringGroup(t, id, 0, 1, 0), ringGroup(t, id, 0, 1, 0)
	sa := must(NewSender(a, SenderConfig{ID: 0x71000001 + uint64(usedIDs.Add(16)), Options: true}))
	sb := must(NewSender(b, SenderConfig{ID: 0x71800002 + uint64(usedIDs.Add(16)), Options: true}))
	c := ReceiverConfig{ReplayWindow: 64, ReplayContexts: 64}
	ra, rb := must(NewReceiver(c, a)), must(NewReceiver(c, b))
	defer func() { sa.Close(); sb.Close(); ra.Close(); rb.Close() }()
	first, _ := sealOne(sa)
	if c := openOne(rb, first); c != status.OK {
		t.Fatal(c)
	}
	check := func(step string) {
		t.Helper()
		for _, x := range []struct {
			s *Sender
			r *Receiver
		}{{sa, rb}, {sb, ra}} {
			p, c := sealOne(x.s)
			if c != status.OK {
				t.Fatalf("%s: sealing: %v", step, c)
			}
			if c := openOne(x.r, p); c != status.OK {
				t.Fatalf("%s: opening: %v", step, c)
			}
			if c := openOne(x.r, p); c != status.ErrReplay {
				t.Fatalf("%s: once more: %v", step, c)
			}
		}
	}
	floor := uint64(1)
	for n := uint64(1); n < 300; n++ { // the index wraps at 256
		for _, step := range [][3]uint64{{0, n, n + 1}, {n, n + 1, 0}, {0, n + 1, 0}} {
			for _, g := range []*Group{a, b} {
				if err := putRing(t, g, id, step[0], step[1], step[2], floor); err != nil {
					t.Fatal(step, err)
				}
				check(fmt.Sprint(step))
				if err := g.Wait(time.Second); err != nil {
					t.Fatal(err)
				}
			}
			if step == [3]uint64{0, n + 1, 0} {
				floor = n + 1
			}
			if n == 1 && step == [3]uint64{1, 2, 0} {
				if c := openOne(rb, first); c != status.ErrReplay { // windows live on
					t.Fatalf("an old packet, while its key is there: %v", c)
				}
			}
		}
		if n == 1 {
			if c := openOne(rb, first); c != status.ErrNoKey {
				t.Fatalf("an old packet, after its key was dropped: %v", c)
			}
		}
	}
}

func TestRingRefused(t *testing.T) {
	id := rand.Text()[:16]
	g := ringGroup(t, id, 4, 5, 0)
	for _, x := range []struct {
		name           string
		pre, cur, next uint64
		floor          uint64
		want           string
	}{
		{"below the floor", 3, 4, 0, 0, "generation 3 is below the floor 4"},
		{"below its own floor", 0, 5, 6, 6, "generation 5 is below the floor 6"},
		{"no current one", 4, 0, 6, 0, "no current one"},
		{"the same octet", 0, 5, 5 + 256, 0, "must differ modulo 256"},
		{"the same generation", 5, 5, 0, 0, ""},
	} {
		err := putRing(t, g, id, x.pre, x.cur, x.next, x.floor)
		if x.want == "" { // previous repeats current: as if there were none
			if err != nil {
				t.Errorf("%s: %v", x.name, err)
			}
			continue
		}
		if !errors.Is(err, status.ErrRootKey) || !bytes.Contains([]byte(fmt.Sprint(err)), []byte(x.want)) {
			t.Errorf("%s: %v", x.name, err)
		}
	}
	// What is refused changes nothing, and the floor is the process's.
	if i, err := g.RootKeyInfo(Zone); err != nil || i.Index != [3]uint64{5, 5, 5} || i.HasPrevious || i.HasNext {
		t.Errorf("%+v %v", i, err)
	}
	h := must(NewGroup(GroupConfig{}))
	defer h.Close()
	if err := putRing(t, h, id, 0, 4, 0, 0); !errors.Is(err, status.ErrRootKey) {
		t.Errorf("another group, below the floor: %v", err)
	}
	if err := putRing(t, h, rand.Text()[:16], 0, 4, 0, 0); err != nil {
		t.Errorf("another ID: %v", err)
	}
	if err := g.Rotate(Zone, 9, nil); !errors.Is(err, status.ErrNotFound) {
		t.Errorf("rotated without a next key: %v", err)
	}
	if _, err := g.WriteRootKeyDER(make([]byte, 512), Zone); !errors.Is(err, status.ErrUnsupported) {
		t.Errorf("DER without a next key: %v", err)
	}
}

// A wait ends when the bursts have, and not before.
func TestGroupWait(t *testing.T) {
	g := ringGroup(t, "wait", 0, 1, 0)
	burst := keys.NewReader()
	defer burst.Close()
	burst.Enter()
	if err := g.Wait(20 * time.Millisecond); !errors.Is(err, status.ErrTimeout) {
		t.Fatalf("a burst goes on: %v", err)
	}
	burst.Leave()
	if err := g.Wait(10 * time.Second); err != nil {
		t.Fatal(err)
	}
}

// IDs change while bursts go on: no counter of an ID comes twice, each packet has
// one of the IDs, and none is lost from the statistics.
func TestSetID(t *testing.T) {
	for name, mode := range map[string]CounterMode{"explicit": CounterExplicit, "clock": CounterClock} {
		t.Run(name, func(t *testing.T) { setIDs(t, mode) })
	}
}

func setIDs(t *testing.T, mode CounterMode) {
	g := ringGroup(t, "set id", 0, 1, 0)
	base := uint64(0x72000000) + uint64(usedIDs.Add(16))
	s := must(NewSender(g, SenderConfig{ID: base, Options: true, Counter: mode}))
	r := must(NewReceiver(ReceiverConfig{ReplayWindow: 65536, ReplayContexts: 64, OwnIDs: []uint64{1}}, g))
	defer r.Close()
	var stop atomic.Bool
	var all sync.WaitGroup
	var lost, n atomic.Uint64
	for range 3 {
		all.Go(func() {
			for !stop.Load() {
				p, c := sealOne(s)
				if n.Add(1); c != status.OK || openOne(r, p) != status.OK { // a counter that came twice is ErrReplay
					lost.Add(1)
				}
			}
		})
	}
	for id := base + 1; id < base+16; id++ {
		if err := s.SetID(id); err != nil || s.ID() != id {
			t.Fatal(err, s.ID())
		}
		time.Sleep(time.Millisecond)
	}
	stop.Store(true)
	all.Wait()
	if got := s.Stats().Packets[status.OK]; lost.Load() != 0 || got != n.Load() {
		t.Errorf("%d of %d lost; statistics have %d", lost.Load(), n.Load(), got)
	}
	p, _ := sealOne(s)
	if c := openOne(r, p); c != status.OK {
		t.Fatal(c)
	}
	if err := r.SetOwnIDs(s.ID()); err != nil {
		t.Fatal(err)
	}
	if p, _ = sealOne(s); openOne(r, p) != status.ErrReflected {
		t.Error("a packet of the end's own opened")
	}
	if err := r.SetOwnIDs(); err != nil {
		t.Fatal(err)
	}
	if c := openOne(r, p); c != status.OK {
		t.Error("no longer its own:", c)
	}
	s.Close()
	if err := s.SetID(5); !errors.Is(err, status.ErrArgument) {
		t.Error("of a closed sender:", err)
	}
}
