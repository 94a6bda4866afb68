package eesp

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"libeesp/internal/status"
	"libeesp/internal/wire"
)

func wantUsage(t *testing.T, g *Group, l Level, gen Generation, want Usage) {
	t.Helper()
	if got, err := g.Usage(l, gen); err != nil || got != want {
		t.Errorf("level %d, generation %d: %+v, %v; want %+v", l, gen, got, err, want)
	}
}

// plains returns n packets, each with its own buffer.
func plains(n int) (pkts []Packet) {
	for range n {
		p := plain([]byte("a payload"))
		p.Buf = append(p.Buf, 0, 0, 0) // padding
		pkts = append(pkts, p)
	}
	return pkts
}

func wholes(sealed []Packet) (pkts []Packet) {
	for i := range sealed {
		pkts = append(pkts, whole(sealed[i].Out))
	}
	return pkts
}

// TestUsage follows each root key's counts through two levels, rotations, another
// ring and removal.
func TestUsage(t *testing.T) {
	g := newGroup(t, "usage", GroupConfig{}, Zone, User)
	s := newSender(t, g, SenderConfig{Options: true})
	zone := newSender(t, g, SenderConfig{Options: true, Levels: Set(Zone)})
	r := newReceiver(t, ReceiverConfig{ReplayWindow: 64}, g)
	first := plains(10)
	if s.Seal(first) != 10 || zone.Seal(plains(3)) != 3 {
		t.Fatal("not sealed")
	}
	again := wholes(first)
	again[9].Buf[again[9].Len-1] ^= 1
	if n := r.Open(wholes(first)[:4]); n != 4 {
		t.Fatal(n)
	}
	if n := r.Open(again); n != 5 { // four duplicates, for which no key is derived, and a forged one
		t.Fatal(n)
	}
	// All packets of a burst have one context, but a few packets get a key each.
	wantUsage(t, g, Zone, Current, Usage{Derived: 2 + 4 + 6, Sealed: 13, Opened: 9, Index: 2})
	wantUsage(t, g, User, Current, Usage{Derived: 1 + 4 + 6, Sealed: 10, Opened: 9, Index: 2})
	wantUsage(t, g, Zone, Next, Usage{Index: 3})
	wantUsage(t, g, Zone, Previous, Usage{Index: 1})

	rotate(t, g, "usage", Zone, 4)
	wantUsage(t, g, Zone, Previous, Usage{Derived: 12, Sealed: 13, Opened: 9, Index: 2})
	wantUsage(t, g, Zone, Current, Usage{Index: 3})
	wantUsage(t, g, Zone, Next, Usage{Index: 4})
	wantUsage(t, g, User, Current, Usage{Derived: 11, Sealed: 10, Opened: 9, Index: 2})
	s.Seal(plains(1))
	if r.Open(wholes(first[9:])) != 1 { // under the previous key
		t.Fatal("not opened")
	}
	wantUsage(t, g, Zone, Previous, Usage{Derived: 13, Sealed: 13, Opened: 10, Index: 2})
	wantUsage(t, g, Zone, Current, Usage{Derived: 1, Sealed: 1, Index: 3})
	wantUsage(t, g, User, Current, Usage{Derived: 13, Sealed: 11, Opened: 10, Index: 2})
	// The zone's key of index 2 is gone. What it was used for still counts for the user's key.
	rotate(t, g, "usage", Zone, 5)
	wantUsage(t, g, Zone, Previous, Usage{Derived: 1, Sealed: 1, Index: 3})
	wantUsage(t, g, User, Current, Usage{Derived: 13, Sealed: 11, Opened: 10, Index: 2})
	if err := g.RemoveRootKey(Zone); err != nil {
		t.Fatal(err)
	}
	wantUsage(t, g, User, Current, Usage{Derived: 13, Sealed: 11, Opened: 10, Index: 2})
	if err := g.DeriveKeys([]Context{{}, {ID: 1}, {ID: 2}}, make([]byte, 48)); err != nil {
		t.Fatal(err)
	}
	wantUsage(t, g, User, Current, Usage{Derived: 16, Sealed: 11, Opened: 10, Index: 2})
	// The same ring, set again, keeps its counts; another one with these indices starts at 0.
	if err := setRing(g, "usage", User); err != nil {
		t.Fatal(err)
	}
	wantUsage(t, g, User, Current, Usage{Derived: 16, Sealed: 11, Opened: 10, Index: 2})
	if err := setRing(g, "another", User); err != nil {
		t.Fatal(err)
	}
	wantUsage(t, g, User, Current, Usage{Index: 2})

	for _, c := range []struct {
		l    Level
		gen  Generation
		want status.Code
	}{{Zone, Current, status.ErrNotFound}, {Task, Next, status.ErrNotFound}, {3, Current, status.ErrArgument}, {-1, Current, status.ErrArgument}, {User, 3, status.ErrArgument}} {
		if u, err := g.Usage(c.l, c.gen); !errors.Is(err, c.want) || u != (Usage{}) {
			t.Errorf("level %d, generation %d: %+v, %v", c.l, c.gen, u, err)
		}
	}
	must0(t, g.GenerateRootKey(Zone, make([]byte, 16)))
	wantError(t, second(g.Usage(Zone, Previous)), status.ErrNotFound) // a generated ring has no previous key
}

func must0(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestUsageRetried tries several keys: each counts as derived, and the packet counts for the key
// that opened it.
func TestUsageRetried(t *testing.T) {
	g := newGroup(t, "retried", GroupConfig{}, Zone)
	s := newSender(t, g, SenderConfig{})
	r := newReceiver(t, ReceiverConfig{TryPrevious: true}, g)
	before := plains(2)
	s.Seal(before)
	rotate(t, g, "retried", Zone, 4)
	if r.Open(wholes(before)) != 2 {
		t.Fatal("not opened")
	}
	wantUsage(t, g, Zone, Previous, Usage{Derived: 1 + 2, Sealed: 2, Opened: 2, Index: 2})
	wantUsage(t, g, Zone, Current, Usage{Derived: 2, Index: 3})
}

// TestUsageOfSlots follows the counts of the other profiles' keys.
func TestUsageOfSlots(t *testing.T) {
	for _, f := range []struct {
		name string
		g    GroupConfig
		key  int
		want Usage // ten packets of one sender in two bursts, opened one by one
	}{
		{"psp", GroupConfig{Profile: ProfilePSP}, 32, Usage{Derived: 2 + 10, Sealed: 10, Opened: 10}},
		{"tss", GroupConfig{Profile: ProfileTSS, AEAD: AES256GCM, Domain: 9}, 32, Usage{Derived: 2 + 10, Sealed: 10, Opened: 10}},
		{"tss, direct", GroupConfig{Profile: ProfileTSS, AEAD: AES256GCM, Domain: 9, Mode: TSSDirect}, 32, Usage{Sealed: 10, Opened: 10}},
		{"eesp", GroupConfig{Profile: ProfileEESP, Mode: SSKDFSHA256}, 32, Usage{Derived: 1, Sealed: 10, Opened: 10}},
		{"eesp, CMAC", GroupConfig{Profile: ProfileEESP, Mode: SSKDFCMAC}, 32, Usage{Derived: 1, Sealed: 10, Opened: 10}},
		{"eesp, one SA", GroupConfig{Profile: ProfileEESP, Mode: SSKDFNone}, 20, Usage{Sealed: 10, Opened: 10}},
	} {
		t.Run(f.name, func(t *testing.T) {
			if f.g.Profile == ProfileEESP {
				f.g.Domain = uint32(freshID()) // eesp's counters are used only once in a process
			}
			g := must(NewGroup(f.g))
			defer g.Close()
			key := stream(fmt.Sprintf("usage of %s, %d", f.name, freshID()), f.key)
			wantError(t, second(g.Usage(0, Current)), status.ErrNotFound)
			must0(t, g.SetKey(0, key))
			c := SenderConfig{ID: freshID(), Counter: CounterExplicit}
			switch f.g.Profile {
			case ProfileEESP:
				c.ID = 0
			case ProfileTSS:
				c.V = VTSSSSI
			}
			s := must(NewSender(g, c))
			defer s.Close()
			r := must(NewReceiver(ReceiverConfig{ReplayWindow: 64}, g))
			defer r.Close()
			prefix := 0
			if f.g.Profile == ProfileTSS {
				prefix = wire.TSSPrefix4
			}
			for range 2 {
				pkts := plains(5)
				if s.Seal(pkts) != 5 {
					t.Fatal(pkts[0].Status)
				}
				for i := range pkts {
					p := pkts[i]
					b := append(make([]byte, prefix), p.Out...)
					if prefix != 0 {
						copy(b, p.Buf[MaxHeader+len("a payload")+ICVLen-len(p.Out)-prefix:][:prefix])
					}
					if q := open1(r, Packet{Buf: b, Off: prefix, Len: len(p.Out), SrcIP: zeros, DstIP: zeros}); q.Status != status.OK {
						t.Fatal(q.Status)
					}
				}
			}
			wantUsage(t, g, 0, Current, f.want)
			wantError(t, second(g.Usage(0, Next)), status.ErrArgument)
			wantError(t, second(g.Usage(2, Current)), status.ErrArgument)
			if f.g.Profile == ProfileTSS {
				must0(t, g.SetEpoch(1))
			}
			must0(t, g.SetKey(0, key)) // the same key keeps its counts
			wantUsage(t, g, 0, Current, f.want)
			must0(t, g.SetKey(0, stream("another", f.key)))
			wantUsage(t, g, 0, Current, Usage{})
		})
	}
}

// TestUsageUnderLoad counts packets while keys rotate: the counts of all keys together are those
// of all packets.
func TestUsageUnderLoad(t *testing.T) {
	g := newGroup(t, "load", GroupConfig{}, Zone, Task)
	var wg sync.WaitGroup
	var sent [3]int
	stop := make(chan struct{})
	for i := range sent {
		s := newSender(t, g, SenderConfig{Options: true})
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					sent[i] += s.Seal(plains(3))
				}
			}
		})
	}
	for index := uint64(4); index < 100; index++ {
		rotate(t, g, "load", Zone, index)
	}
	close(stop)
	wg.Wait()
	all := uint64(sent[0] + sent[1] + sent[2])
	wantUsage(t, g, Task, Current, Usage{Derived: all / 3, Sealed: all, Index: 2})
}
