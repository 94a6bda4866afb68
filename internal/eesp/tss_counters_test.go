package eesp

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"libeesp/internal/status"
	"libeesp/internal/testrun"
)

// tssNumbers seals n packets and returns the counter of the first, which the
// others follow.
func tssNumbers(t *testing.T, s *Sender, n int) uint64 {
	t.Helper()
	pkts := make([]Packet, n)
	for i := range pkts {
		pkts[i] = tssPlain(tssUp4, 16, []byte("x"))
	}
	next := s.NextTSC()
	if s.Seal(pkts) != n {
		t.Fatal(pkts[0].Status)
	}
	for i, p := range pkts {
		if p.TSC != pkts[0].TSC+uint64(i) {
			t.Fatalf("packet %d: %#x after %#x", i, p.TSC, pkts[0].TSC)
		}
	}
	if pkts[0].TSC != next {
		t.Fatalf("%#x, said to be %#x", pkts[0].TSC, next)
	}
	return pkts[0].TSC
}

// Tests of counters are in direct mode: what they use is nobody else's then who
// seals without an SSI, or with a data key.

// The epoch is the group's. Counters begin where the caller says under the first
// key, at 0 with each further key and epoch, and go on where one comes back.
func TestTSSCountersBeginAnew(t *testing.T) {
	g := newTSS(t, GroupConfig{Mode: TSSDirect})
	ssi := tssSSI()
	c := SenderConfig{V: VTSSSSI, ID: ssi, Counter: CounterExplicit, Start: 70}
	s := must(NewSender(g, c))
	defer s.Close()
	if pkts := []Packet{tssPlain(tssUp4, 16, nil)}; s.NextTSC() != 0 || s.Seal(pkts) != 0 || pkts[0].Status != status.ErrNoKey {
		t.Fatal(pkts[0].Status, s.NextTSC())
	}
	if err := errors.Join(g.SetKey(0, []byte(tssKey("anew 0"))), g.SetKey(1, []byte(tssKey("anew 1")))); err != nil {
		t.Fatal(err)
	}
	want := func(epoch uint16, counter uint64) {
		t.Helper()
		if got := tssNumbers(t, s, 5); got != uint64(epoch)<<48|counter {
			t.Fatalf("%#x, want epoch %d counter %d", got, epoch, counter)
		}
	}
	in := func(epoch uint16) {
		t.Helper()
		if err := g.SetEpoch(epoch); err != nil {
			t.Fatal(err)
		}
	}
	an := func(slot int) {
		t.Helper()
		if err := g.UseKey(slot); err != nil {
			t.Fatal(err)
		}
	}
	want(0, 70)
	want(0, 75)
	in(5)
	want(5, 0)
	an(1)
	want(0, 0)
	an(0)
	want(5, 5)
	in(0)
	want(0, 80)
	an(1)
	for epoch := range uint16(20) { // more than are kept
		in(epoch)
		want(epoch, uint64(max(5, 5*int(epoch))-5*int(epoch))) // epoch 0 goes on
	}
	for epoch := range uint16(20) {
		in(epoch)
		want(epoch, map[bool]uint64{true: 10, false: 5}[epoch == 0])
	}
	// Another sender of the SSI has the same counters, in whatever group.
	other := newTSS(t, GroupConfig{Mode: TSSDirect, Domain: 77}, "", tssKey("anew 1"))
	if err := errors.Join(other.UseKey(1), other.SetEpoch(19)); err != nil {
		t.Fatal(err)
	}
	c.Start = 0
	s2 := must(NewSender(other, c))
	if got := tssNumbers(t, s2, 1); got != 19<<48|10 {
		t.Fatalf("%#x", got)
	}
	want(19, 11)
	s2.Close()
	// A new one after all are gone: not again where counters were used.
	s.Close()
	_, err := NewSender(other, c)
	wantErr(t, err, status.ErrExists)
	c.Start = 16
	s3 := must(NewSender(other, c))
	defer s3.Close()
	// One that names an epoch stays in it, whatever the group's.
	c.ID, c.Start, c.Epoch = tssSSI(), 3, 400
	s4 := must(NewSender(g, c))
	defer s4.Close()
	if got := tssNumbers(t, s4, 1); got != 400<<48|3 {
		t.Fatalf("%#x", got)
	}
}

// A file for each key and epoch: a restart goes on above its mark, and what is
// new begins at 0.
func TestTSSReservedBeginsAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	g := newTSS(t, GroupConfig{Mode: TSSDirect}, tssKey("reserved 0"), tssKey("reserved 1"))
	c := SenderConfig{V: VTSSSSI, ID: tssSSI(), Counter: CounterReserved, StatePath: path, ReserveRun: 1000}
	var marks [2]uint64
	for round := range 3 {
		s := must(NewSender(g, c))
		for slot := range 2 {
			if err := g.UseKey(slot); err != nil {
				t.Fatal(err)
			}
			got := tssNumbers(t, s, 3)
			if round == 0 && got != 0 || got < marks[slot] || got>>48 != 0 {
				t.Fatalf("round %d, AN %d: %#x, after %d", round, slot, got, marks[slot])
			}
			marks[slot] = got + 3
		}
		if err := g.SetEpoch(uint16(100 + round)); err != nil {
			t.Fatal(err)
		}
		if got := tssNumbers(t, s, 3); got != uint64(100+round)<<48 {
			t.Fatalf("%#x", got)
		}
		s.Close()
		if err := errors.Join(g.SetEpoch(0), g.UseKey(0)); err != nil {
			t.Fatal(err)
		}
	}
	files := must(filepath.Glob(path + ".*"))
	if len(files) != 5 {
		t.Fatal(files)
	}
	// Two files that change places: each knows whose it is.
	name := func(slot int) string {
		s := g.g.Snapshot().Slot[slot].Name
		return fmt.Sprintf("%s.%x-0", path, s[:8])
	}
	if err := errors.Join(os.Rename(name(0), path), os.Rename(name(1), name(0)), os.Rename(path, name(1))); err != nil {
		t.Fatal(err)
	}
	_, err := NewSender(g, c)
	wantErr(t, err, status.ErrState)
	c.StatePath = t.TempDir() + "/nowhere/state"
	_, err = NewSender(g, c)
	wantErr(t, err, status.ErrState)
	// Where the file fails when the key changes, packets say so, and the old key's go on.
	c.StatePath, c.ID = path, tssSSI()
	if err := g.RemoveKey(1); err != nil {
		t.Fatal(err)
	}
	c.StatePath = filepath.Join(t.TempDir(), "state")
	s := must(NewSender(g, c))
	defer s.Close()
	if err := os.Chmod(filepath.Dir(c.StatePath), 0o500); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 { // whom modes do not stop
		if err := os.RemoveAll(filepath.Dir(c.StatePath)); err != nil {
			t.Fatal(err)
		}
	}
	must(g.RotateKey(nil))
	for range 2 {
		if pkts := []Packet{tssPlain(tssUp4, 16, nil)}; s.Seal(pkts) != 0 || pkts[0].Status != status.ErrState {
			t.Fatal(pkts[0].Status)
		}
	}
	if err := g.UseKey(0); err != nil {
		t.Fatal(err)
	}
	tssNumbers(t, s, 1)
}

// By the clock counters are the time since 2025, at a rate that lasts.
func TestTSSByTheClock(t *testing.T) {
	for _, mode := range []uint8{TSSDirect, TSSServer} {
		g := newTSS(t, GroupConfig{Mode: mode}, tssKey("clock"))
		s := must(NewSender(g, SenderConfig{V: VTSSSSI, ID: tssSSI(), EngineBits: 2, Engine: 1}))
		before := tssNumbers2(t, s)
		if err := g.SetEpoch(9); err != nil {
			t.Fatal(err)
		}
		if after := tssNumbers2(t, s); after>>48 != 9 || before>>48 != 0 || after&(1<<48-1) <= before {
			t.Fatalf("%#x, then %#x", before, after)
		}
		s.Close()
		if mode == TSSServer {
			k := must(g.ExportDataKey(Context{V: VTSSSSI, ID: tssSSI()}, false))
			h := must(NewSenderWithKey(k, SenderConfig{}))
			tssNumbers2(t, h)
			h.Close()
		}
		_, err := NewSender(g, SenderConfig{V: VTSSSSI, ID: tssSSI(), Epoch: 4})
		wantErr(t, err, status.ErrArgument) // by the clock, and in an epoch
	}
}

func tssNumbers2(t *testing.T, s *Sender) uint64 {
	t.Helper()
	pkts := []Packet{tssPlain(tssUp4, 16, []byte("x"))}
	if s.Seal(pkts) != 1 {
		t.Fatal(pkts[0].Status)
	}
	return pkts[0].TSC
}

// A domain's counters end at its limit, under each key and epoch.
func TestTSSCounterLimit(t *testing.T) {
	g := newTSS(t, GroupConfig{Mode: TSSDirect, CounterLimit: 3}, tssKey("limit"))
	s := must(NewSender(g, SenderConfig{V: VTSSSSI, ID: tssSSI(), Counter: CounterExplicit}))
	defer s.Close()
	for epoch := range uint16(3) {
		if err := g.SetEpoch(epoch); err != nil {
			t.Fatal(err)
		}
		pkts := make([]Packet, 5)
		for i := range pkts {
			pkts[i] = tssPlain(tssUp4, 16, nil)
		}
		if n := s.Seal(pkts); n != 3 || pkts[2].TSC != uint64(epoch)<<48|2 || pkts[3].Status != status.ErrExhausted || pkts[4].Status != status.ErrExhausted {
			t.Fatal(n, pkts[2].TSC, pkts[3].Status)
		}
	}
	if st := must(g.DomainStats()); st.Exhausted != 6 || st.Sealed != 9 {
		t.Fatalf("%+v", st)
	}
}

// A data key takes its domain's limit with it.
func TestTSSDataKeyCounterLimit(t *testing.T) {
	for limit, want := range map[uint64]int{3: 3, 0: 5, 1 << 48: 5} {
		g := newTSS(t, GroupConfig{Mode: TSSCluster, CounterLimit: limit}, tssKey(fmt.Sprint("limit of a data key ", limit)))
		k := must(g.ExportDataKey(Context{ID: tssSSI(), V: VTSSSSI}, false))
		s := must(NewSenderWithKey(k, SenderConfig{Counter: CounterExplicit}))
		defer s.Close()
		r := must(NewReceiverWithKey(k, ReceiverConfig{}))
		defer r.Close()
		pkts := make([]Packet, 5)
		for i := range pkts {
			pkts[i] = tssPlain(tssUp4, 16, nil)
		}
		if n := s.Seal(pkts); n != want || want < 5 && pkts[3].Status != status.ErrExhausted {
			t.Fatalf("limit %d: sealed %d: %v", limit, n, pkts[4].Status)
		}
		if k.OptionsLen == 20 {
			k.Options[12] = 1 // 2^56 and more
			if _, err := NewSenderWithKey(k, SenderConfig{Counter: CounterExplicit}); !errors.Is(err, status.ErrArgument) {
				t.Fatal(err)
			}
		}
	}
}

// Several senders of one SSI seal while keys and epochs change under them: no
// nonce twice under one key, which would make the same packet twice.
func TestTSSRenewalUnderLoad(t *testing.T) {
	g := newTSS(t, GroupConfig{Mode: TSSDirect}, tssKey("renewal 0"), tssKey("renewal 1"))
	ssi := tssSSI()
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		seen = map[string]bool{}
		done = make(chan bool)
	)
	rounds := testrun.Rounds(60, 300, 300)
	for range 3 {
		s := must(NewSender(g, SenderConfig{V: VTSSSSI, ID: ssi, Counter: CounterExplicit}))
		defer s.Close()
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				pkts := make([]Packet, 7)
				for i := range pkts {
					pkts[i] = tssPlain(tssUp4, 16, []byte("payload"))
				}
				if s.Seal(pkts) != len(pkts) {
					t.Error(pkts[0].Status)
				}
				mu.Lock()
				for _, p := range pkts {
					if seen[string(p.Out)] {
						t.Errorf("%#x twice under one key", p.TSC)
					}
					seen[string(p.Out)] = true
				}
				mu.Unlock()
			}
		})
	}
	for i := range rounds {
		if err := errors.Join(g.UseKey(i/3%2), g.SetEpoch(uint16(i/7%12))); err != nil {
			t.Error(err)
		}
	}
	close(done)
	wg.Wait()
}
