package eesp

import (
	"bytes"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"libeesp/internal/keys"
	"libeesp/internal/secmem"
	"libeesp/internal/status"
	"libeesp/internal/testrun"
)

// wantWiped is for when all bursts have ended: the last one that may use a
// retired key wipes it.
func wantWiped(t *testing.T) {
	t.Helper()
	if n := keys.Waiting(); n != 0 {
		t.Fatalf("%d retired keys were not wiped", n)
	}
}

// Root keys are rotated, replaced and removed while bursts run. A packet opens, or its key
// is gone; it has no other status.
func TestRotationUnderLoad(t *testing.T) {
	rotations := testrun.Rounds(24, 40, 80)
	g := newGroup(t, "a", GroupConfig{}, Zone, User)
	side := newGroup(t, "b", GroupConfig{AEAD: AES256GCM}, Zone)
	r := newReceiver(t, ReceiverConfig{}, g, side)
	bare := newReceiver(t, ReceiverConfig{TryPrevious: true}, g)
	var (
		wg     sync.WaitGroup
		done   atomic.Bool
		ok     [3]atomic.Int64 // packets
		bursts [3]atomic.Int64
	)
	text := stream("payload", 90)
	work := func(c SenderConfig, which int, to *Group, r *Receiver, allowed ...status.Code) {
		s := newSender(t, to, c)
		wg.Go(func() {
			pkts := make([]Packet, 40)
			for !done.Load() {
				for i := range pkts {
					pkts[i] = plain(text)
				}
				s.Seal(pkts)
				for i, p := range pkts {
					if p.Status == status.OK {
						pkts[i] = Packet{Buf: p.Out, Len: len(p.Out)}
					} else if p.Status == status.ErrNoKey && which != 0 {
						pkts[i] = Packet{}
					} else {
						t.Errorf("seal: %v", p.Status)
					}
				}
				r.Open(pkts)
			packets:
				for _, p := range pkts {
					if p.Status == status.OK && bytes.Equal(p.Out, text) {
						ok[which].Add(1)
						continue
					}
					for _, a := range allowed {
						if p.Status == a {
							continue packets
						}
					}
					t.Errorf("sender %d: open: %v", which, p.Status)
				}
				bursts[which].Add(1)
			}
		})
	}
	// At most one rotation falls between sealing and opening: the writer waits
	// for each burst to pass.
	work(SenderConfig{Levels: Set(Zone), Options: true}, 0, g, r, status.ErrNoKey)
	work(SenderConfig{}, 1, g, bare, status.ErrAuth, status.ErrNoKey, status.ErrArgument)
	work(SenderConfig{Options: true}, 2, side, r, status.ErrNoKey, status.ErrArgument)
	for i := range uint64(rotations) {
		if err := g.Rotate(Zone, 4+i, nil); err != nil {
			t.Fatal(err)
		}
		switch i % 4 {
		case 0:
			if err := side.RemoveRootKey(Zone); err != nil {
				t.Fatal(err)
			}
		case 1, 3:
			if err := setRing(side, "b", Zone); err != nil {
				t.Fatal(err)
			}
		case 2:
			if err := side.Rotate(Zone, 9, nil); err != nil {
				t.Fatal(err)
			}
		}
		for which := range bursts {
			for at := bursts[which].Load(); bursts[which].Load() < at+2 && !t.Failed(); {
				time.Sleep(50 * time.Microsecond)
			}
		}
	}
	done.Store(true)
	wg.Wait()
	for i := range ok { // both keys are there after the last change, which was not the last burst
		if ok[i].Load() == 0 {
			t.Errorf("sender %d: no packet opened", i)
		}
	}
	wantWiped(t)
}

// With one rotation at a time, no packet that carries options is ever lost.
func TestNoPacketIsLostInARotation(t *testing.T) {
	g := newGroup(t, "a", GroupConfig{}, Zone, Task)
	r := newReceiver(t, ReceiverConfig{}, g)
	const workers = 3
	var (
		wg     sync.WaitGroup
		done   atomic.Bool
		passed [workers]atomic.Int64
	)
	for w := range workers {
		s := newSender(t, g, SenderConfig{Options: true, V: VIDSrc})
		wg.Go(func() {
			pkts := make([]Packet, 33)
			for !done.Load() && !t.Failed() {
				for i := range pkts {
					pkts[i] = plain([]byte("x"))
					pkts[i].SrcIP = v4
				}
				if n := s.Seal(pkts); n != len(pkts) {
					t.Errorf("sealed %d", n)
				}
				for i, p := range pkts {
					pkts[i] = Packet{Buf: p.Out, Len: len(p.Out), SrcIP: v4}
				}
				if n := r.Open(pkts); n != len(pkts) {
					t.Errorf("opened %d: %v", n, pkts[0].Status)
				}
				passed[w].Add(1)
			}
		})
	}
	for i := range uint64(50) {
		var at [workers]int64
		for w := range at {
			at[w] = passed[w].Load()
		}
		if err := g.Rotate([]Level{Zone, Task}[i%2], 4+i/2, nil); err != nil {
			t.Fatal(err)
		}
		for w := range at {
			for passed[w].Load() < at[w]+1 && !t.Failed() { // whoever saw the old keys has passed
				time.Sleep(50 * time.Microsecond)
			}
		}
	}
	done.Store(true)
	wg.Wait()
	wantWiped(t)
}

// Objects come and go without leaving locked memory behind.
func TestNothingIsLeft(t *testing.T) {
	round := func() {
		g := must(NewGroup(GroupConfig{}))
		for _, l := range []Level{Zone, User} {
			if err := setRing(g, "a", l); err != nil {
				t.Fatal(err)
			}
		}
		s := must(NewSender(g, SenderConfig{ID: freshID(), Counter: CounterExplicit, Options: true}))
		r := must(NewReceiver(ReceiverConfig{}, g))
		k := must(g.ExportDataKey(Context{ID: freshID()}, true))
		ks, kr := must(NewSenderWithKey(k, SenderConfig{Counter: CounterExplicit})), must(NewReceiverWithKey(k, ReceiverConfig{}))
		wantOpen(t, r, whole(sealed(t, s, plain([]byte("x")))), []byte("x"))
		wantOpen(t, kr, whole(sealed(t, ks, plain([]byte("x")))), []byte("x"))
		// What fails gives back what it took.
		if err := g.SetRootKey(Zone, nil, [3]uint64{}, new([3][RootKeyLen]byte)); err == nil {
			t.Fatal("no error")
		}
		if err := g.Rotate(Zone, 2, nil); err == nil {
			t.Fatal("no error")
		}
		if _, err := NewSenderWithKey(k, SenderConfig{Start: 1}); err == nil {
			t.Fatal("no error")
		}
		if _, err := NewSender(g, SenderConfig{ID: freshID(), Start: 1}); err == nil {
			t.Fatal("no error")
		}
		x := must(NewGroup(GroupConfig{Combiner: CombinerXOR}))
		if err := x.SetRootKey(Zone, stream("id", 16), [3]uint64{1, 2, 3}, new([3][RootKeyLen]byte)); err == nil {
			t.Fatal("no error")
		}
		for _, o := range []interface{ Close() }{x, ks, kr, g, s, r} {
			o.Close()
		}
		wantWiped(t)
	}
	round()
	_, before := secmem.Stats()
	for range 10 {
		round()
	}
	if _, after := secmem.Stats(); after != before {
		t.Fatalf("%d allocations of locked memory, %d before", after, before)
	}
}
