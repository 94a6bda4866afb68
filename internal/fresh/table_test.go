package fresh

import (
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"libeesp/internal/replay"
	"libeesp/internal/status"
	"libeesp/internal/testrun"
)

const (
	ms    = uint64(1<<TickBits) / 1000
	start = uint64(1_796_000_000) << TickBits
)

func newTable(t testing.TB, c Config, now uint64) *Table {
	t.Helper()
	var steady atomic.Int64
	x, err := New(c, now, 0, steady.Load)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(x.Free)
	return x
}

func key(id uint64) *replay.Key { return &replay.Key{Master: [16]byte{1, 2, 3}, ID: id} }

// open makes the calls of a receiver for a burst of one packet.
func (t *Table) open(now, id, tsc uint64) Verdict {
	p, _ := t.Begin(now)
	v := t.Check(&p, tsc)
	if v == Fresh {
		v = t.Commit(&p, key(id), tsc, tsc)
	}
	t.End(&p)
	return v
}

func want(t testing.TB, got, want Verdict, what string) {
	t.Helper()
	if got != want {
		t.Fatalf("%s: verdict %d, want %d", what, got, want)
	}
}

func TestRefusedConfigs(t *testing.T) {
	for _, c := range []Config{
		{MaxAge: -1}, {MaxAge: time.Microsecond}, {MaxAge: 11 * time.Second}, {MaxEarly: time.Microsecond}, {MaxEarly: time.Minute},
		{MaxRate: 1e9 + 1}, {MaxAge: 10 * time.Second, MaxRate: 1e9},
	} {
		if _, err := New(c, start, 0, nil); !errors.Is(err, status.ErrArgument) {
			t.Fatalf("%+v: %v", c, err)
		}
	}
	// The documents say 21 MiB for 10 million packets a second and 125 ms.
	x := newTable(t, Config{MaxRate: 10e6}, start)
	if m := x.Memory(); m < 20<<20 || m > 22<<20 {
		t.Fatalf("%d octets", m)
	}
}

func TestVerdicts(t *testing.T) {
	x := newTable(t, Config{MaxAge: 100 * time.Millisecond, MaxEarly: 25 * time.Millisecond}, start)
	want(t, x.open(start, 1, start+25*ms), Stale, "what may have been accepted before the start")
	now := start + 1000*ms
	for _, d := range []struct {
		id   uint64
		t    uint64
		want Verdict
	}{
		{1, now, Fresh}, {1, now, Duplicate}, {2, now, Fresh}, {1, now + 1, Fresh}, {1, now - 1, Fresh}, {1, now - 1, Duplicate},
		{1, now - 99*ms, Fresh}, {1, now - 101*ms, Stale}, {1, 0, Stale}, {1, now + 24*ms, Fresh}, {1, now + 24*ms, Duplicate},
		{1, now + 26*ms, Early}, {1, never, Early}, {1, never - 1, Early},
	} {
		want(t, x.open(now, d.id, d.t), d.want, strconv.FormatUint(d.t-now, 10))
	}
	if s := x.Stats(); s != (Stats{Duplicate: 3, Stale: 3, Early: 3}) {
		t.Fatalf("%+v", s)
	}
	// The hash depends on everything that tells packets apart.
	p, _ := x.Begin(now)
	for i, k := range []replay.Key{{}, {Master: [16]byte{15: 1}}, {ID: 1}, {Epoch: 1}, {Kind: 1}, {Engine: 1}, {Addr: [32]byte{1}}, {Addr: [32]byte{31: 1}}} {
		for _, tsc := range []uint64{7, 8} {
			if v := x.Commit(&p, &k, tsc, now); v != Fresh {
				t.Fatal(i, v)
			}
		}
	}
	x.Limit(now+10, never)
	want(t, x.open(now, 9, now+9), Fresh, "below the mark")
	want(t, x.open(now, 9, now+10), Unmarked, "above the mark")
}

// A packet that is MaxEarly ahead of the clock always passes, although the floor may lag
// behind the clock by a slice, which is longer than MaxEarly here.
func TestEarly(t *testing.T) {
	x := newTable(t, Config{MaxAge: 100 * time.Millisecond, MaxEarly: time.Millisecond}, start)
	if x.slice < 3*ms {
		t.Fatal(x.slice)
	}
	for now := start + 500*ms; now < start+600*ms; now += ms / 5 {
		want(t, x.open(now, 1, now+Ticks(int64(time.Millisecond))), Fresh, "max early ahead")
		want(t, x.open(now, 1, now+Ticks(int64(time.Millisecond))+1), Early, "more than that")
	}
}

// With random steps of the clock, random senders and random copies, no packet is accepted
// twice.
func TestNeverTwice(t *testing.T) {
	steps := testrun.Rounds(15_000, 60_000, 60_000)
	for seed := range uint64(6) {
		x := rand.New(rand.NewPCG(seed, 1))
		c := Config{MaxAge: time.Duration(1+x.IntN(50)) * time.Millisecond, MaxEarly: time.Duration(1+x.IntN(20)) * time.Millisecond, MaxRate: 1000}
		var steady atomic.Int64
		now := start
		table, err := New(c, now, 0, steady.Load)
		if err != nil {
			t.Fatal(err)
		}
		seen, all := map[[2]uint64]bool{}, [][2]uint64{}
		counts := [7]int{}
		for range steps {
			switch x.IntN(2000) {
			case 0: // the clock steps forward or back
				now = max(start/2, now+x.Uint64N(2000*ms)-800*ms)
			case 1, 2, 3:
				now += x.Uint64N(300 * ms)
			default:
				now += x.Uint64N(ms)
			}
			steady.Add(x.Int64N(int64(30 * time.Millisecond)))
			p, reset := table.Begin(now)
			if reset && table.BeginReset() {
				table.EndReset(now)
			}
			for range 1 + x.IntN(3) {
				k := [2]uint64{x.Uint64N(5), now + x.Uint64N(100*ms) - 60*ms}
				if len(all) > 0 && x.IntN(2) == 0 { // a copy, mostly of a recent packet
					k = all[max(0, len(all)-1-x.IntN(1+x.IntN(len(all))))]
				}
				v := table.Check(&p, k[1])
				if v == Fresh {
					v = table.Commit(&p, key(k[0]), k[1], k[1])
				}
				counts[v]++
				if v != Fresh {
					continue
				}
				if seen[k] {
					t.Fatalf("seed %d: accepted twice: %v", seed, k)
				}
				seen[k] = true
				all = append(all, k)
			}
			table.End(&p)
			if x.IntN(3000) == 0 { // a restart, at the same time or later
				table.Free()
				now = max(now, table.Most())
				if table, err = New(c, now, 0, steady.Load); err != nil {
					t.Fatal(err)
				}
			}
		}
		table.Free()
		if counts[Fresh] < 300 || counts[Duplicate] == 0 || counts[Stale] == 0 || counts[Early] == 0 {
			t.Fatal(counts)
		}
	}
}

// Two threads commit one packet, and one of them stops between two steps while time passes
// by more than all slices, and other packets take the place. At most one of them gets the
// packet.
func TestSleepers(t *testing.T) {
	defer func() { step = nil }()
	c := Config{MaxAge: 5 * time.Millisecond, MaxEarly: 5 * time.Millisecond, MaxRate: 1000}
	for when := range 6 { // the step before which the first thread stops
		for _, lives := range []uint64{0, 1, 2, 7} { // cycles of the slice that pass meanwhile
			for _, fill := range []int{0, 1, 200} { // packets that come then
				for _, again := range []bool{false, true} { // the copy comes before or after them
					table := newTable(t, c, start)
					now := start + 100*ms
					tsc := now
					accepted := 0
					copyOf := func(at uint64) {
						if table.open(at, 1, tsc) == Fresh {
							accepted++
						}
					}
					p, _ := table.Begin(now)
					if table.Check(&p, tsc) != Fresh {
						t.Fatal("not fresh")
					}
					calls, asleep := 0, false
					sleep := func() {
						asleep = true
						step = nil
						if !again {
							copyOf(now)
						}
						later := now + lives*slices*table.slice
						for i := range fill {
							table.open(later, uint64(10+i), later)
						}
						// Two cycles of the sweep.
						for range 2 * sweepCycles / 1024 {
							table.sweep(0, 1024*table.slice*slices)
						}
						if again {
							copyOf(later)
							copyOf(now)
						}
					}
					if when == 0 {
						sleep()
					}
					step = func(*Table, int) {
						if calls++; calls == when && !asleep {
							sleep()
						}
					}
					if table.Commit(&p, key(1), tsc, tsc) == Fresh {
						accepted++
					}
					step = nil
					table.End(&p)
					if !asleep {
						sleep()
					}
					copyOf(now)
					if accepted > 1 {
						t.Fatalf("before step %d, %d lives, %d others, copy afterwards: %v: accepted %d times", when, lives, fill, again, accepted)
					}
					if lives == 0 && fill == 0 && accepted != 1 {
						t.Fatalf("before step %d: nobody had it", when)
					}
					table.Free()
				}
			}
		}
	}
}

// Threads open the same packets at the same time, in a table whose first lines are full,
// while the clock runs and is set. At most one thread gets each packet.
func TestThreads(t *testing.T) {
	table := newTable(t, Config{MaxAge: 5 * time.Millisecond, MaxEarly: 5 * time.Millisecond, MaxRate: 20_000}, start)
	const threads, rounds, packets = 8, 400, 64
	var had [rounds * packets]atomic.Int32
	var clock atomic.Uint64
	clock.Store(start + 100*ms)
	var wg sync.WaitGroup
	total := atomic.Int64{}
	for w := range threads {
		wg.Go(func() {
			x := rand.New(rand.NewPCG(uint64(w), 9))
			for round := range rounds {
				now := clock.Add(x.Uint64N(ms / 2))
				p, _ := table.Begin(now)
				order := x.Perm(packets)
				for _, i := range order {
					// The time of a packet is that of its round.
					n := uint64(round*packets + i)
					tsc := start + 100*ms + uint64(round)*ms*2 + uint64(i)
					if table.Check(&p, tsc) == Fresh && table.Commit(&p, key(n), tsc, tsc) == Fresh {
						total.Add(1)
						if had[n].Add(1) != 1 {
							t.Errorf("packet %d was accepted twice", n)
						}
					}
				}
				table.End(&p)
				for table.open(now, 1<<40, now) == Fresh { // until it is a duplicate, or too old
				}
			}
		})
	}
	wg.Wait()
	if total.Load() < 100 {
		t.Fatalf("%d accepted", total.Load())
	}
}

// After a restart, none of the old packets opens again. With a floor at the clock minus
// MaxEarly, which seems natural, some would.
func TestRestart(t *testing.T) {
	c := Config{MaxAge: 50 * time.Millisecond, MaxEarly: 20 * time.Millisecond, MaxRate: 100_000}
	old := newTable(t, c, start)
	var all [][2]uint64
	x := rand.New(rand.NewPCG(1, 1))
	now := start + 200*ms
	for range 3000 {
		now += x.Uint64N(ms / 10)
		k := [2]uint64{x.Uint64N(100), now + x.Uint64N(60*ms) - 40*ms} // some as early as allowed
		if old.open(now, k[0], k[1]) == Fresh {
			all = append(all, k)
		}
	}
	fresh, minus := newTable(t, c, now), 0
	for _, k := range all {
		if k[1] > now-20*ms {
			minus++
		}
		want(t, fresh.open(now, k[0], k[1]), Stale, "a packet from before the restart")
	}
	if len(all) < 2000 || minus < 100 {
		t.Fatal(len(all), minus)
	}
	// New packets pass after at most MaxEarly.
	want(t, fresh.open(now+20*ms+100, 5, now+20*ms+100), Fresh, "a packet sealed after the restart")
	for d := uint64(0); d < 100; d++ { // and later, again and again
		for _, k := range all {
			if v := fresh.open(now+d*ms, k[0], k[1]); v == Fresh {
				t.Fatal("a packet from before the restart was opened")
			}
		}
	}
	// With a mark the clock does not matter: this one is an hour behind.
	late, err := New(c, now-3600*1000*ms, now+30*ms, func() int64 { return 0 })
	if err != nil {
		t.Fatal(err)
	}
	defer late.Free()
	for _, k := range all {
		if late.open(now, k[0], k[1]) == Fresh {
			t.Fatal("a packet below the mark was opened")
		}
	}
	want(t, late.open(now+30*ms, 5, now+31*ms), Fresh, "a packet above the mark")
}

// The clock is set forward, and right again, while threads go on. Only packets that were
// in flight are lost, and none opens twice.
func TestReset(t *testing.T) {
	c := Config{MaxAge: 50 * time.Millisecond, MaxEarly: 20 * time.Millisecond, MaxRate: 100_000}
	for _, sendersToo := range []bool{false, true} {
		var steady atomic.Int64
		table, err := New(c, start, 0, steady.Load)
		if err != nil {
			t.Fatal(err)
		}
		now := start + 100*ms
		want(t, table.open(now, 1, now), Fresh, "before")
		ahead := now + 3600*1000*ms
		if sendersToo {
			want(t, table.open(ahead, 1, ahead), Fresh, "a sender that has jumped as well")
		} else {
			want(t, table.open(ahead, 1, now+ms), Stale, "while the clock is ahead")
		}
		now += 10 * ms
		want(t, table.open(now, 1, now), Stale, "the clock is right again")
		steady.Add(int64(999 * time.Millisecond))
		if _, reset := table.Begin(now); reset {
			t.Fatal("reset before a second")
		}
		steady.Add(int64(2 * time.Millisecond))
		if _, reset := table.Begin(now); !reset || !table.BeginReset() || table.BeginReset() {
			t.Fatal("no reset after a second")
		}
		want(t, table.open(now, 2, now), Stale, "during a reset")
		table.EndReset(now)
		if sendersToo {
			want(t, table.open(now, 2, now), Stale, "what was accepted ahead stays")
		} else {
			want(t, table.open(now, 1, start+100*ms), Stale, "what was accepted before")
			want(t, table.open(now, 2, now), Fresh, "afterwards")
			want(t, table.open(now, 2, now), Duplicate, "afterwards, again")
		}
		if table.Stats().Resets != 1 {
			t.Fatal(table.Stats())
		}
		table.Free()
	}
}

// A reset while threads run bursts. It waits for bursts that began before it, so no packet
// is accepted twice.
func TestResetBesideThreads(t *testing.T) {
	var steady atomic.Int64
	c := Config{MaxAge: 20 * time.Millisecond, MaxEarly: 20 * time.Millisecond, MaxRate: 100_000}
	table, err := New(c, start, 0, steady.Load)
	if err != nil {
		t.Fatal(err)
	}
	defer table.Free()
	var bursts sync.RWMutex // stands for keys' epochs
	var wg sync.WaitGroup
	var accepted sync.Map
	now := start + 1000*ms
	var fresh atomic.Int64
	for w := range 16 {
		wg.Go(func() {
			x := rand.New(rand.NewPCG(uint64(w), 4))
			for range 600 {
				bursts.RLock()
				p, _ := table.Begin(now)
				for range 10 {
					k := [2]uint64{x.Uint64N(20), now + x.Uint64N(20*ms)}
					if table.Check(&p, k[1]) == Fresh && table.Commit(&p, key(k[0]), k[1], k[1]) == Fresh {
						fresh.Add(1)
						if _, twice := accepted.LoadOrStore(k, true); twice {
							t.Error("accepted twice")
						}
						if v := table.Commit(&p, key(k[0]), k[1], k[1]); v == Fresh {
							t.Error("its copy was accepted")
						}
					}
				}
				table.End(&p)
				bursts.RUnlock()
			}
		})
	}
	for end := time.Now().Add(10 * time.Second); fresh.Load() == 0 && time.Now().Before(end); { // during a reset new packets are refused
		time.Sleep(10 * time.Microsecond)
	}
	for range 20 {
		if table.BeginReset() {
			bursts.Lock()
			//lint:ignore SA2001 who began before has left
			bursts.Unlock()
			table.EndReset(now)
		}
		time.Sleep(100 * time.Microsecond)
	}
	wg.Wait()
	if fresh.Load() == 0 {
		t.Fatal("nothing was accepted")
	}
}

// A member whose packets all have times of one slice fills this slice, and no other.
func TestOneSliceFull(t *testing.T) {
	table := newTable(t, Config{MaxAge: 100 * time.Millisecond, MaxEarly: 20 * time.Millisecond, MaxRate: 100_000}, start)
	now := start + 1000*ms
	for id := uint64(0); table.Stats().Full == 0; id++ {
		v := table.open(now, id, now)
		if v != Fresh && v != Full || id > 10_000 {
			t.Fatal(id, v)
		}
	}
	places := table.lines * lineWords
	for id := range places * 3 {
		table.open(now, 1<<30+id, now)
	}
	want(t, table.open(now, 1<<40, now), Full, "the slice that is full")
	want(t, table.open(now, 1, now), Duplicate, "what was accepted in it")
	for _, d := range []uint64{8 * ms, 16 * ms, 50 * ms} {
		want(t, table.open(now, 1, now-d), Fresh, "another slice")
	}
	want(t, table.open(now+8*ms, 1, now+8*ms), Fresh, "the next slice")
	// In the next cycle the slice has room again.
	next := now + table.slice*slices
	want(t, table.open(next, 1<<40, next), Fresh, "the slice's next life")
}

// Words are zeroed before they are so old that newer ones look the same.
func TestSweep(t *testing.T) {
	table := newTable(t, Config{MaxAge: time.Millisecond, MaxEarly: time.Millisecond, MaxRate: 1000}, start)
	now := start + 100*ms
	used := func() (n int) {
		for i := range table.memory {
			if atomic.LoadUint64(&table.memory[i]) != 0 {
				n++
			}
		}
		return n
	}
	for id := range uint64(500) {
		want(t, table.open(now+id*table.slice/20, id, now+id*table.slice/20), Fresh, "a packet")
	}
	if used() < 400 {
		t.Fatal(used())
	}
	life := table.slice * slices
	for n := range uint64(4 * sweepCycles / 64) { // bursts, some time apart
		at := now + (n+1)*64*life
		want(t, table.open(at, 1<<20+n, at), Fresh, "a genuine packet, whatever is left of old ones")
	}
	if n := used(); n > 100 {
		t.Fatalf("%d words are left", n)
	}
	// All words at once, after a long pause.
	at := now + 101*sweepCycles*life
	table.open(at, 1, at)
	if n := used(); n != 1 {
		t.Fatalf("%d words are left", n)
	}
}

// Many packets of many flows: none opens twice, and no new one is refused. EESP_TEST_LONG:
// 10^8 packets of 10^6 flows.
func TestMany(t *testing.T) {
	packets, flows := 400_000, uint64(10_000)
	if testrun.Long() {
		packets, flows = 100_000_000, 1_000_000
	}
	table := newTable(t, Config{MaxRate: 2e6}, start)
	x := rand.New(rand.NewPCG(7, 7))
	now := start + 1000*ms
	var ring [1 << 14][2]uint64
	refused, twice := 0, 0
	for i := 0; i < packets; {
		now += ms / 10 // 100 packets in 0.1 ms: a million a second
		p, _ := table.Begin(now)
		for range 100 {
			k := [2]uint64{x.Uint64N(flows), now - x.Uint64N(50*ms)}
			if table.Check(&p, k[1]) != Fresh || table.Commit(&p, key(k[0]), k[1], k[1]) != Fresh {
				refused++
			}
			ring[i&(len(ring)-1)] = k
			i++
			if r := ring[x.IntN(len(ring))]; r[1] != 0 && table.Check(&p, r[1]) == Fresh && table.Commit(&p, key(r[0]), r[1], r[1]) == Fresh {
				twice++
			}
		}
		table.End(&p)
	}
	if refused != 0 || twice != 0 {
		t.Fatalf("of %d genuine packets %d were refused, and %d opened twice", packets, refused, twice)
	}
	t.Logf("%d packets of %d flows: 0 refused, 0 opened twice", packets, flows)
}

func BenchmarkCommit(b *testing.B) {
	for _, flows := range []uint64{1, 32, 1024, 32768, 1_000_000} {
		b.Run(strconv.FormatUint(flows, 10), func(b *testing.B) {
			table := newTable(b, Config{MaxRate: 10e6}, start)
			now := start + 1000*ms
			k := *key(0)
			b.ResetTimer()
			for i := 0; i < b.N; i += 32 {
				now += 32 * (1 << TickBits) / 10_000_000
				p, _ := table.Begin(now)
				for j := range uint64(32) {
					k.ID = (k.ID + 1) % flows
					tsc := now + j
					if table.Check(&p, tsc) != Fresh || table.Commit(&p, &k, tsc, tsc) != Fresh {
						b.Fatal("not fresh")
					}
				}
				table.End(&p)
			}
		})
	}
}
