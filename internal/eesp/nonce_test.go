package eesp

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"libeesp/internal/status"
	"libeesp/internal/testrun"
)

// Several senders of one ID in many goroutines: no ID, Epoch and Counter come twice.
func TestSendersOfOneID(t *testing.T) {
	g := newGroup(t, "a", GroupConfig{}, Zone)
	id := freshID()
	const bursts = 60
	var (
		wg  sync.WaitGroup
		mu  sync.Mutex
		all []uint64
	)
	for w := range 6 {
		// Two senders of each of three engines.
		s := newSender(t, g, SenderConfig{ID: id, EngineBits: 2, Engine: uint32(w % 3), Counter: CounterExplicit})
		wg.Go(func() {
			pkts := make([]Packet, 7+w)
			for range bursts {
				for i := range pkts {
					pkts[i] = plain([]byte("x"))
				}
				s.Seal(pkts)
				mu.Lock()
				for _, p := range pkts {
					all = append(all, p.TSC)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	wantDistinct(t, all, bursts*(6*7+15))
	engines := map[uint64]int{}
	for _, tsc := range all {
		engines[tsc&3]++
	}
	if len(engines) != 3 || engines[3] != 0 {
		t.Fatal(engines)
	}
}

func wantDistinct(t *testing.T, all []uint64, n int) {
	t.Helper()
	slices.Sort(all)
	for i := 1; i < len(all); i++ {
		if all[i] == all[i-1] {
			t.Fatalf("TSC %#x was used twice", all[i])
		}
	}
	if len(all) != n {
		t.Fatalf("%d packets, want %d", len(all), n)
	}
}

// Two senders with one ID and the same root keys share counters, in whatever way they were
// made.
func TestSendersShareCounters(t *testing.T) {
	send := func(s *Sender) (all []uint64) {
		for range 20 {
			p := []Packet{plain([]byte("x"))}
			if s.Seal(p) != 1 {
				t.Fatal(p[0].Status)
			}
			all = append(all, p[0].TSC)
		}
		return all
	}
	g := newGroup(t, "a", GroupConfig{}, Zone, User)
	for name, pair := range map[string]func(c SenderConfig) (a, b *Sender){
		"same group": func(c SenderConfig) (a, b *Sender) { return newSender(t, g, c), newSender(t, g, c) },
		"made before its keys": func(c SenderConfig) (a, b *Sender) {
			h := newGroup(t, "", GroupConfig{})
			a = newSender(t, h, c)
			if err := setRing(h, "a", Zone); err != nil {
				t.Fatal(err)
			}
			return a, newSender(t, h, c)
		},
		"made before a level": func(c SenderConfig) (a, b *Sender) {
			h := newGroup(t, "a", GroupConfig{}, Zone)
			c.Levels = Set(Zone)
			a = newSender(t, h, c)
			if err := setRing(h, "a", User); err != nil {
				t.Fatal(err)
			}
			if err := h.SetDefaultLevels(Set(Zone)); err != nil {
				t.Fatal(err)
			}
			c.Levels = 0
			return a, newSender(t, h, c)
		},
		"default and named levels": func(c SenderConfig) (a, b *Sender) {
			a = newSender(t, g, c)
			c.Levels, c.Options = Set(Zone, User), true
			return a, newSender(t, g, c)
		},
		"two groups of the same keys": func(c SenderConfig) (a, b *Sender) {
			return newSender(t, g, c), newSender(t, newGroup(t, "a", GroupConfig{}, Zone, User), c)
		},
		"xor does not use names": func(c SenderConfig) (a, b *Sender) {
			x := GroupConfig{Combiner: CombinerXOR}
			h, k := newGroup(t, "a", x, Zone), newGroup(t, "", x)
			_, index, value := ring(levelSeed("a", Zone))
			if err := k.SetRootKey(Zone, []byte("another root key"), index, value); err != nil {
				t.Fatal(err)
			}
			return newSender(t, h, c), newSender(t, k, c)
		},
		"different V, one length of ID": func(c SenderConfig) (a, b *Sender) {
			a = newSender(t, g, c)
			c.V = VIDSrc
			return a, newSender(t, g, c)
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := pair(SenderConfig{ID: freshID()})
			wantDistinct(t, slices.Concat(send(a), send(b), send(a)), 60)
		})
	}

	// Another configuration would have other counters: refused.
	id := freshID()
	newSender(t, g, SenderConfig{ID: id})
	_, err := NewSender(g, SenderConfig{ID: id, Counter: CounterExplicit, Start: 1})
	wantErr(t, err, status.ErrExists)
	_, err = NewSender(g, SenderConfig{ID: id})
	wantErr(t, err, status.ErrExists)
	_, err = NewSender(g, SenderConfig{ID: id, Counter: CounterExplicit, EngineBits: 1, Engine: 1})
	wantErr(t, err, status.ErrExists)

	// Counters that a closed sender has used are refused too, also with a data key.
	for _, make := range []func(start uint64) (*Sender, error){
		func(start uint64) (*Sender, error) {
			return NewSender(g, SenderConfig{ID: id + 1<<30, Counter: CounterExplicit, Start: start})
		},
		func(start uint64) (*Sender, error) {
			k := must(g.ExportDataKey(Context{ID: id + 1<<31}, false))
			return NewSenderWithKey(k, SenderConfig{Counter: CounterExplicit, Start: start})
		},
	} {
		s := must(make(5))
		send(s)
		s.Close()
		for _, start := range []uint64{0, 5, 24} {
			_, err = make(start)
			wantErr(t, err, status.ErrExists)
		}
		s = must(make(25))
		send(s)
		s.Close()
	}
}

// A sender that is made after another one of its ID was closed does not begin with used
// counters, in whatever way it was made.
func TestUsedCountersStayUsed(t *testing.T) {
	g := newGroup(t, "a", GroupConfig{}, Zone)
	ofGroup := func(id uint64, c SenderConfig) (*Sender, error) {
		c.ID = id
		return NewSender(g, c)
	}
	holder := func(id uint64, c SenderConfig) (*Sender, error) {
		return NewSenderWithKey(must(g.ExportDataKey(Context{ID: id}, false)), c)
	}
	for name, x := range map[string]struct {
		first, next func(id uint64, c SenderConfig) (*Sender, error)
		engineBits  uint8
	}{
		"the group, the data key's holder": {ofGroup, holder, 0},
		"the holder, the group":            {holder, ofGroup, 0},
		"other engine bits":                {ofGroup, ofGroup, 4},
		"a holder with other engine bits":  {ofGroup, holder, 4},
	} {
		t.Run(name, func(t *testing.T) {
			id, c := freshID(), SenderConfig{Counter: CounterExplicit}
			s := must(x.first(id, c))
			sealed(t, s, plain([]byte("x")))
			s.Close()
			c.EngineBits = x.engineBits
			_, err := x.next(id, c)
			wantErr(t, err, status.ErrExists)
		})
	}
}

// Closing an object twice takes nothing from open ones.
func TestCloseAgain(t *testing.T) {
	g := must(NewGroup(GroupConfig{}))
	if err := setRing(g, "a", Zone); err != nil {
		t.Fatal(err)
	}
	c := SenderConfig{ID: freshID()}
	r := newReceiver(t, ReceiverConfig{}, g)
	first, other := newSender(t, g, c), newReceiver(t, ReceiverConfig{}, g)
	held := must(NewReceiverWithKey(must(g.ExportDataKey(Context{ID: freshID()}, false)), ReceiverConfig{}))
	first.Close()
	a := newSender(t, g, c)
	b := newSender(t, g, c)
	for _, o := range []interface{ Close() }{first, other, held, g} {
		for range 10 { // more than there are users of the group
			o.Close()
		}
	}
	var all []uint64
	for _, s := range []*Sender{a, b, a} {
		p := sealed(t, s, plain([]byte("x")))
		wantOpen(t, r, whole(p), []byte("x"))
		all = append(all, binary.BigEndian.Uint64(p[8:]))
	}
	wantDistinct(t, all, 3)
}

func TestExhaustion(t *testing.T) {
	g := newGroup(t, "a", GroupConfig{}, Zone)
	r := newReceiver(t, ReceiverConfig{}, g)
	s := newSender(t, g, SenderConfig{Start: 1<<48 - 50, FixedEpoch: true, Epoch: 0x1234, Counter: CounterExplicit})
	pkts := make([]Packet, 60)
	for i := range pkts {
		pkts[i] = plain([]byte("x"))
	}
	if n := s.Seal(pkts); n != 50 {
		t.Fatalf("sealed %d", n)
	}
	for i, p := range pkts {
		if i >= 50 {
			if p.Status != status.ErrExhausted || p.Out != nil || p.Buf[p.Off] != 'x' {
				t.Fatalf("packet %d: %v", i, p.Status)
			}
		} else if p.TSC != 0x1235<<48-50+uint64(i) {
			t.Fatalf("packet %d: TSC %#x", i, p.TSC)
		} else {
			wantOpen(t, r, whole(p.Out), []byte("x"))
		}
	}
	for range 3 {
		p := []Packet{plain([]byte("x"))}
		if s.Seal(p); p[0].Status != status.ErrExhausted {
			t.Fatal(p[0].Status)
		}
	}
}

// A sender in clock mode that is faster than its rate: some packets of a burst are sealed,
// the others must wait.
func TestFasterThanTheClock(t *testing.T) {
	g := newGroup(t, "a", GroupConfig{}, Zone)
	s := must(NewSender(g, SenderConfig{ID: freshID(), RateLog2: 10}))
	defer s.Close()
	pkts := make([]Packet, 5000)
	for i := range pkts {
		pkts[i] = plain(nil)
	}
	n := s.Seal(pkts)
	if n == 0 || n == len(pkts) {
		t.Fatalf("sealed %d", n)
	}
	if st := s.Stats(); st.Packets[status.ErrClock] != uint64(len(pkts)-n) || len(st.Packets) != 2 {
		t.Fatalf("%+v", st)
	}
}

func TestStateFileErrors(t *testing.T) {
	g := newGroup(t, "a", GroupConfig{}, Zone)
	path := filepath.Join(t.TempDir(), "mark")
	c := SenderConfig{ID: freshID(), Counter: CounterReserved, StatePath: path}
	s := newSender(t, g, c)
	c.ID = freshID()
	_, err := NewSender(g, c) // the file belongs to another ID's sender
	wantErr(t, err, status.ErrState)
	sealed(t, s, plain(nil))
	for _, path := range []string{"/dev/full", "/proc/version", filepath.Dir(path), path + "/none"} {
		c.StatePath = path
		_, err = NewSender(g, c)
		wantErr(t, err, status.ErrState)
		if !strings.Contains(err.Error(), path) {
			t.Fatalf("%v does not name the file", err)
		}
	}
}

// A lock directory needs a key. A sender locks its ID under each key that it may seal with,
// and Close removes the locks' files.
func TestLockDir(t *testing.T) {
	c := SenderConfig{ID: freshID(), LockDir: t.TempDir()}
	generated := must(NewGroup(GroupConfig{}))
	defer generated.Close()
	_, err := NewSender(generated, c)
	wantErr(t, err, status.ErrNoKey)
	if err := generated.GenerateRootKey(Zone, []byte("a zone's root key")); err != nil {
		t.Fatal(err)
	}
	three := newGroup(t, "a", GroupConfig{}, Zone, User, Task)
	for _, g := range []*Group{generated, three} {
		s := must(NewSender(g, c))
		sealed(t, s, plain(nil))
		if n := len(must(os.ReadDir(c.LockDir))); n < 2 || n > 27 {
			t.Fatal(n)
		}
		s.Close()
		if left := must(os.ReadDir(c.LockDir)); len(left) != 0 {
			t.Fatal(left)
		}
	}
}

// A state file names the key in use, and follows rotations.
func TestStateFileFollowsRotation(t *testing.T) {
	dir := t.TempDir()
	g := newGroup(t, "a", GroupConfig{}, Zone)
	c := SenderConfig{ID: freshID(), Counter: CounterReserved, StatePath: dir + "/mark", ReserveRun: 100}
	s := must(NewSender(g, c))
	var last uint64
	for i := range uint64(5) { // no key of the first round is left
		p := []Packet{plain(nil)}
		if s.Seal(p) != 1 || i != 0 && p[0].TSC <= last {
			t.Fatal(p[0].Status, p[0].TSC)
		}
		last = p[0].TSC
		if err := g.Rotate(Zone, 1000+i, nil); err != nil {
			t.Fatal(err)
		}
	}
	der := make([]byte, 512)
	n := must(g.WriteRootKeyDER(der, Zone))
	s.Close()
	h := must(NewGroup(GroupConfig{}))
	defer h.Close()
	_, err := NewSender(h, c)
	wantErr(t, err, status.ErrNoKey)
	if err := h.SetRootKeyDER(Zone, der[:n]); err != nil {
		t.Fatal(err)
	}
	c.ID = freshID() // in place of another process: this one knows the ID's counters
	_, err = NewSender(h, c)
	wantErr(t, err, status.ErrState)
	c.ID = s.ID()
	s = must(NewSender(h, c))
	p := []Packet{plain(nil)}
	if s.Seal(p) != 1 || p[0].TSC <= last {
		t.Fatal(p[0].Status)
	}
	s.Close()
	old := newGroup(t, "a", GroupConfig{}, Zone)
	if _, err := NewSender(old, c); err == nil || !strings.Contains(err.Error(), "another key") {
		t.Fatal(err)
	}
	// The same with slots (tss has a file for each key), and with a data key.
	id := freshID()
	for name, make := range map[string]func(path, key string) (*Sender, error){
		"slot": func(path, key string) (*Sender, error) {
			g := must(NewGroup(GroupConfig{Profile: ProfilePSP}))
			t.Cleanup(g.Close)
			if err := g.SetKey(0, stream(key, 32)); err != nil {
				return nil, err
			}
			return NewSender(g, SenderConfig{ID: id, Counter: CounterReserved, StatePath: path})
		},
		"data key": func(path, key string) (*Sender, error) {
			k := must(newGroup(t, key, GroupConfig{}, Zone).ExportDataKey(Context{ID: id}, false))
			return NewSenderWithKey(k, SenderConfig{Counter: CounterReserved, StatePath: path})
		},
	} {
		s, err := make(dir+"/"+name, "one")
		if err != nil {
			t.Fatal(name, err)
		}
		s.Close()
		if _, err = make(dir+"/"+name, "two"); !errors.Is(err, status.ErrState) || !strings.Contains(err.Error(), "another key") {
			t.Fatal(name, err)
		}
	}
}

const (
	childEnv  = "EESP_TEST_CHILD" // what the child does: clock or reserved
	childFile = "EESP_TEST_STATE"
	recordLen = 16
)

// killChild seals packets and reports each as it is sent, until it is killed.
func killChild(mode string) {
	g := must(NewGroup(GroupConfig{}))
	if err := setRing(g, "kill", Zone); err != nil {
		panic(err)
	}
	c := SenderConfig{ID: 1, V: VLongID, Options: true}
	switch mode {
	case "clock":
		c.RateLog2 = 14 // slow, so that it uses all counters that the clock allows
	case "reserved":
		c.Counter, c.StatePath, c.ReserveRun = CounterReserved, os.Getenv(childFile), 50
	}
	s := must(NewSender(g, c))
	pkts := make([]Packet, 16)
	b := make([]byte, MaxHeader+1+ICVLen)
	var report []byte
	for {
		for i := range pkts {
			pkts[i] = Packet{Buf: b, Off: MaxHeader, Len: 1}
		}
		n := 1 + rand.IntN(len(pkts))
		for i := range n { // one buffer: the packets themselves go nowhere
			s.Seal(pkts[i : i+1])
		}
		report = report[:0]
		for _, p := range pkts[:n] {
			switch p.Status {
			case status.OK:
				report = binary.BigEndian.AppendUint64(report, p.ID)
				report = binary.BigEndian.AppendUint64(report, p.TSC)
			case status.ErrClock: // for the moment
			default:
				fmt.Fprintln(os.Stderr, p.Status)
				os.Exit(1)
			}
		}
		if _, err := os.Stdout.Write(report); err != nil {
			os.Exit(1)
		}
	}
}

// A sender that is killed at any time, and started again at once, never repeats an ID, Epoch
// and Counter that it used.
func TestKill(t *testing.T) {
	kills := testrun.Rounds(6, 8, 25)
	for _, mode := range []string{"clock", "reserved"} {
		t.Run(mode, func(t *testing.T) {
			state := filepath.Join(t.TempDir(), "mark")
			type name struct{ id, tsc uint64 }
			seen := map[name]int{}
			total := 0
			for run := range kills {
				cmd := must(testrun.Self())
				cmd.Env = append(os.Environ(), childEnv+"="+mode, childFile+"="+state)
				cmd.Stderr = os.Stderr
				out := must(cmd.StdoutPipe())
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				in := bufio.NewReader(out)
				most := 1 + rand.IntN(4000)
				deadline := time.AfterFunc(5*time.Minute, func() { cmd.Process.Kill() }) // it hangs
				var r [recordLen]byte
				got := 0
				for {
					_, err := io.ReadFull(in, r[:])
					if err != nil { // also a record cut short by the kill
						break
					}
					n := name{binary.BigEndian.Uint64(r[:]), binary.BigEndian.Uint64(r[8:])}
					if before, ok := seen[n]; ok {
						t.Fatalf("%+v was sent in runs %d and %d", n, before, run)
					}
					seen[n] = run
					if got++; got == most {
						cmd.Process.Kill() // the packets that it has printed until then are checked
					}
				}
				killed := deadline.Stop()
				cmd.Wait()
				if !killed || got < most {
					t.Fatalf("run %d: %d packets of at least %d, %v", run, got, most, cmd.ProcessState)
				}
				total += got
			}
			if len(seen) != total {
				t.Fatal("lost count")
			}
			t.Logf("%d kills, %d packets", kills, total)
		})
	}
}
