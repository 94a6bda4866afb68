package counter

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"libeesp/internal/status"
)

// clock replaces the wall clock for one test; it stands still unless moved.
type clock struct{ ns int64 }

func setClock(t testing.TB, ns int64) *clock {
	c, old := &clock{ns}, wall
	wall = func() int64 { return c.ns }
	t.Cleanup(func() { wall = old })
	return c
}

func newOwner(t testing.TB, c Config) *Owner {
	t.Helper()
	o, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.close)
	return o
}

func wantTake(t testing.TB, o *Owner, n int, first uint64, have int, code status.Code) {
	t.Helper()
	f, h, c := o.Take(n)
	if h != have || c != code || h != 0 && f != first {
		t.Fatalf("Take(%d) = %#x, %d, %v; want %#x, %d, %v", n, f, h, c, first, have, code)
	}
}

func wantErr(t testing.TB, err error, code status.Code, part string) {
	t.Helper()
	if !errors.Is(err, code) || !strings.Contains(err.Error(), part) {
		t.Fatalf("error %v, want %v with %q", err, code, part)
	}
}

func TestConfigRefused(t *testing.T) {
	path := t.TempDir() + "/mark"
	for _, x := range []struct {
		c    Config
		part string
	}{
		{Config{Mode: 3}, "counter mode"},
		{Config{EngineBits: 17}, "engine bits"},
		{Config{Engine: 1}, "does not fit"},
		{Config{EngineBits: 2, Engine: 4}, "does not fit"},
		{Config{Mode: Explicit, RateLog2: 20}, "rate"},
		{Config{Mode: Reserved, Path: path, RateLog2: 20}, "rate"},
		{Config{Start: 1}, "start"},
		{Config{Mode: Reserved, Path: path, Start: 1}, "start"},
		{Config{Path: path}, "state file"},
		{Config{Mode: Explicit, Run: 1}, "state file"},
		{Config{Mode: Reserved}, "path"},
		{Config{Mode: Reserved, Path: path, Run: 1<<40 + 1}, "2^40"},
		{Config{Mode: Explicit, Start: 1 << 48}, "does not fit"},
		{Config{Mode: Explicit, EngineBits: 4, Start: 1 << 44}, "does not fit"},
		{Config{Mode: Explicit, Epoch: 1}, "epoch"},
		{Config{RateLog2: 9}, "rate"},
		{Config{RateLog2: 33}, "rate"},
		{Config{EngineBits: 8, RateLog2: 28}, "repeat"},
		{Config{Epoch: 1}, "fixed epoch"},
		{Config{EpochStart: time.Unix(1, 0)}, "fixed epoch"},
		{Config{FixedEpoch: true}, "start"},
		{Config{FixedEpoch: true, EpochStart: time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC)}, "start"},
	} {
		_, err := New(x.c)
		wantErr(t, err, status.ErrArgument, x.part)
	}
}

func TestExplicitRunsOut(t *testing.T) {
	for _, epoch := range []uint16{0, 1, 65534} {
		o := newOwner(t, Config{Mode: Explicit, FixedEpoch: true, Epoch: epoch, Start: 1<<48 - 10})
		base := uint64(epoch) << 48
		wantTake(t, o, 4, base|(1<<48-10), 4, status.OK)
		wantTake(t, o, 10, base|(1<<48-6), 6, status.ErrExhausted)
		for range 3 {
			wantTake(t, o, 1, 0, 0, status.ErrExhausted)
		}
		wantTake(t, o, 1<<30, 0, 0, status.ErrExhausted)
	}
	// The last value of the last epoch is not used: the space stays below 2^64.
	o := newOwner(t, Config{Mode: Explicit, FixedEpoch: true, Epoch: 65535, Start: 1<<48 - 4})
	wantTake(t, o, 1<<30, 1<<64-4, 3, status.ErrExhausted)
	wantTake(t, o, 1, 0, 0, status.ErrExhausted)
}

func TestEnginesPartition(t *testing.T) {
	seen := map[uint64]bool{}
	for e := range uint32(8) {
		o := newOwner(t, Config{Mode: Explicit, FixedEpoch: true, Epoch: 5, EngineBits: 3, Engine: e, Start: 1<<45 - 5})
		first, n, code := o.Take(10)
		if n != 5 || code != status.ErrExhausted {
			t.Fatalf("engine %d: %d, %v", e, n, code)
		}
		for i := range uint64(n) {
			tsc := o.TSC(first + i)
			if tsc != o.Map().TSC(first+i) {
				t.Fatal("Owner.TSC and Map.TSC differ")
			}
			if seen[tsc] || tsc>>48 != 5 || tsc>>45&7 != uint64(e) || tsc&(1<<45-1) != 1<<45-5+i {
				t.Fatalf("engine %d: TSC %#x", e, tsc)
			}
			seen[tsc] = true
		}
	}
}

func TestGoroutinesNeverShareACounter(t *testing.T) {
	path := t.TempDir() + "/mark"
	start := time.Now().Add(-time.Minute)
	for name, c := range map[string]Config{
		"clock":    {FixedEpoch: true, EpochStart: start},
		"reserved": {Mode: Reserved, Path: path, Run: 1000},
		"explicit": {Mode: Explicit, EngineBits: 1, Engine: 1},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOwner(t, c)
			const workers, takes = 4, 300
			var wg sync.WaitGroup
			got := make([][]uint64, workers)
			for w := range workers {
				wg.Go(func() {
					for i := range takes {
						first, n, _ := o.Take(1 + (i*7+w)%64)
						for j := range uint64(n) {
							got[w] = append(got[w], o.TSC(first+j))
						}
					}
				})
			}
			wg.Wait()
			all := slices.Concat(got...)
			slices.Sort(all)
			if n := len(all); n < workers*takes*16 || len(slices.Compact(all)) != n {
				t.Fatalf("%d counters, %d of them different", n, len(slices.Compact(all)))
			}
		})
	}
}

const second = int64(1e9)

func TestClockLimit(t *testing.T) {
	c := setClock(t, 1_700_000_000*second)
	o := newOwner(t, Config{RateLog2: 12})
	start := uint64(1_700_000_000+1) << 12
	if o.Peek() != o.TSC(start) {
		t.Fatalf("starts at %#x", o.Peek())
	}
	wantTake(t, o, 1, 0, 0, status.ErrClock) // no time has passed
	c.ns += second / 4
	wantTake(t, o, 1000, start, 1000, status.OK)
	wantTake(t, o, 1000, start+1000, 24, status.ErrClock)
	wantTake(t, o, 1, 0, 0, status.ErrClock)
	c.ns += second
	wantTake(t, o, 4096, start+1024, 4096, status.OK)
	wantTake(t, o, 1, 0, 0, status.ErrClock)

	// Back by a little: an error, until it has caught up.
	c.ns -= second / 2
	wantTake(t, o, 1, 0, 0, status.ErrClock)
	c.ns += second/2 + second/4096 + 1 // one tick
	wantTake(t, o, 2, start+5120, 1, status.ErrClock)

	// A crash and a restart at the same moment: the new sender starts above
	// all that the old one could use, and can use none before time goes on.
	p := newOwner(t, Config{RateLog2: 12})
	if p.Peek() < o.Peek() {
		t.Fatal("a restart begins below counters that were used")
	}
	wantTake(t, p, 1, 0, 0, status.ErrClock)
}

// A clock that steps back is seen after lookEvery packets at the latest.
func TestClockStepsBack(t *testing.T) {
	c := setClock(t, 1_700_000_000*second)
	o := newOwner(t, Config{})
	c.ns += second
	_, n, code := o.Take(10)
	if n != 10 || code != status.OK {
		t.Fatal(n, code)
	}
	c.ns -= 10 * second
	_, n, code = o.Take(3 * lookEvery)
	if n > 2*lookEvery || code != status.ErrClock {
		t.Fatalf("%d counters after a step back, %v", n, code)
	}
	_, n, code = o.Take(1)
	if n != 0 || code != status.ErrClock {
		t.Fatal(n, code)
	}
}

func TestClockEpochRollsOver(t *testing.T) {
	const epoch = 1 << 20 * second
	c := setClock(t, 0x615*epoch+epoch-second-second/1000)
	o := newOwner(t, Config{})
	if o.Peek()>>48 != 0x615 {
		t.Fatalf("TSC %#x", o.Peek())
	}
	c.ns += second / 100
	last := o.Peek() - 1
	crossed := false
	for i := 0; i < 200; i++ {
		first, n, _ := o.Take(10000)
		for j := range uint64(n) {
			tsc := o.TSC(first + j)
			if tsc <= last || tsc>>48 != last>>48 && tsc != 0x616<<48 {
				t.Fatalf("%#x after %#x", tsc, last)
			}
			crossed = crossed || tsc>>48 != last>>48
			last = tsc
		}
	}
	if !crossed {
		t.Fatal("the epoch did not change")
	}
	// Where the epochs counted from 1970 would come round, the sender stops.
	c.ns = 1<<32*second - second/2
	o = newOwner(t, Config{EngineBits: 4, RateLog2: 28})
	c.ns += second
	wantTake(t, o, 1, 0, 0, status.ErrExhausted)
}

func TestClockFixedEpochEnds(t *testing.T) {
	for _, epoch := range []uint16{0, 7, 65535} {
		for _, engineBits := range []uint8{0, 4} {
			t.Run(fmt.Sprintf("epoch %d, %d bits", epoch, engineBits), func(t *testing.T) {
				cfg := Config{FixedEpoch: true, Epoch: epoch, EpochStart: time.Unix(1_700_000_000, 0), EngineBits: engineBits}
				const length = 1 << 20 * second
				at := 1_700_000_000*second + length
				c := setClock(t, at-2*second)
				o := newOwner(t, cfg)
				c.ns += second / 1000
				if _, n, _ := o.Take(100); n != 100 || o.Peek()>>48 != uint64(epoch) {
					t.Fatalf("%d, TSC %#x", n, o.Peek())
				}
				// In the last second, after the end, and long after it.
				for _, late := range []int64{-second + 1, -1, 0, 1, length, 1000 * length} {
					c.ns = at + late
					p := newOwner(t, cfg)
					for range 2 {
						wantTake(t, p, 1, 0, 0, status.ErrExhausted)
						c.ns += second
					}
				}
				wantTake(t, o, 0, 0, 0, status.OK)
				for o.limit.Load() < o.end {
					if _, n, _ := o.Take(1 << 30); n == 0 {
						break
					}
				}
				wantTake(t, o, 1, 0, 0, status.ErrExhausted)
				c.ns = 1_699_999_999 * second
				_, err := New(cfg)
				wantErr(t, err, status.ErrClock, "before")
			})
		}
	}
}

func TestShare(t *testing.T) {
	name := fmt.Sprint(t.Name(), time.Now().UnixNano()) // names are remembered
	c := Config{Mode: Explicit, FixedEpoch: true, Epoch: 3, Start: 100}
	a, err := Share(name, c)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Share(name, c)
	if err != nil || a != b {
		t.Fatal("two senders of one name do not share counters", err)
	}
	other := c
	other.Start = 200
	_, err = Share(name, other)
	wantErr(t, err, status.ErrExists, "other counter settings")
	other = c
	other.EngineBits, other.Engine, other.Start = 1, 1, 0
	_, err = Share(name, other)
	wantErr(t, err, status.ErrExists, "0 engine bits")

	var engines [3]*Owner
	for i := range engines {
		e := Config{Mode: Explicit, EngineBits: 4, Engine: uint32(i) / 2}
		if engines[i], err = Share(name+"/engines", e); err != nil {
			t.Fatal(err)
		}
		defer engines[i].Release()
	}
	if engines[0] != engines[1] || engines[1] == engines[2] {
		t.Fatal("engines share a counter, or senders of one do not")
	}

	wantTake(t, a, 10, 3<<48|100, 10, status.OK)
	a.Release()
	wantTake(t, b, 10, 3<<48|110, 10, status.OK)
	b.Release()
	wantTake(t, b, 1, 0, 0, status.ErrExhausted) // whoever kept it gets none

	_, err = Share(name, c)
	wantErr(t, err, status.ErrExists, "counter 120")
	c.Start = 119
	_, err = Share(name, c)
	wantErr(t, err, status.ErrExists, "counter 120")
	c.Start = 120
	a, err = Share(name, c)
	if err != nil {
		t.Fatal(err)
	}
	a.Release()

	// The clock, set back between two senders.
	now := setClock(t, 1_700_000_000*second)
	a, err = Share(name+"/clock", Config{})
	if err != nil {
		t.Fatal(err)
	}
	now.ns += second
	a.Take(1000)
	a.Release()
	now.ns -= 2 * second
	_, err = Share(name+"/clock", Config{})
	wantErr(t, err, status.ErrClock, "behind")
	if _, err = Share(name, Config{Mode: 9}); err == nil {
		t.Fatal("a wrong configuration was taken")
	}
}

// Counters that were used stay used, whichever way the next owner goes by the
// ID: with other engine bits, or as the holder of a data key.
func TestUsedCountersStayUsed(t *testing.T) {
	explicit := func(epoch uint16, bits uint8, engine uint32, start uint64) Config {
		return Config{Mode: Explicit, FixedEpoch: true, Epoch: epoch, EngineBits: bits, Engine: engine, Start: start}
	}
	for i, x := range []struct {
		key, nextKey string
		c, next      Config
		refused      bool
	}{
		// One partition of the space: what is above is free.
		{"", "", explicit(3, 4, 1, 100), explicit(3, 4, 1, 109), true},
		{"", "", explicit(3, 4, 1, 100), explicit(3, 4, 1, 110), false},
		{"", "", explicit(3, 4, 1, 100), explicit(2, 4, 1, 1<<44-1), true},
		{"", "", explicit(3, 4, 1, 100), explicit(4, 4, 1, 0), false},
		{"", "", explicit(3, 4, 1, 100), explicit(3, 4, 2, 0), false},
		// Others: an epoch that was begun is spent, where they overlap.
		{"", "", explicit(3, 0, 0, 0), explicit(3, 4, 0, 0), true},
		{"", "", explicit(3, 0, 0, 0), explicit(3, 4, 15, 1<<44-1), true},
		{"", "", explicit(3, 0, 0, 0), explicit(2, 4, 15, 0), true},
		{"", "", explicit(3, 0, 0, 0), explicit(4, 4, 15, 0), false},
		{"", "", explicit(3, 4, 15, 0), explicit(3, 0, 0, 0), true},
		{"", "", explicit(3, 4, 15, 0), explicit(3, 0, 0, 1<<48-1), true},
		{"", "", explicit(3, 4, 15, 0), explicit(4, 0, 0, 0), false},
		{"", "", explicit(3, 2, 1, 0), explicit(3, 4, 5, 0), true},
		{"", "", explicit(3, 2, 1, 0), explicit(3, 4, 3, 0), false},
		{"", "", explicit(3, 4, 7, 0), explicit(3, 2, 1, 0), true},
		{"", "", explicit(3, 4, 8, 0), explicit(3, 2, 1, 0), false},
		// The last counter of an epoch does not begin the next one.
		{"", "", explicit(3, 0, 0, 1<<48-10), explicit(4, 4, 0, 0), false},
		{"", "", explicit(3, 4, 0, 1<<44-10), explicit(4, 0, 0, 0), false},
		// A data key may be the one that a group derives, and the other way round.
		{"", "#k", explicit(3, 0, 0, 100), explicit(3, 0, 0, 109), true},
		{"", "#k", explicit(3, 0, 0, 100), explicit(3, 0, 0, 110), false},
		{"", "#k", explicit(3, 0, 0, 100), explicit(3, 4, 15, 1<<40), true},
		{"#k", "", explicit(3, 0, 0, 100), explicit(3, 0, 0, 109), true},
		{"#k", "", explicit(3, 0, 0, 100), explicit(3, 0, 0, 110), false},
		{"#k", "", explicit(3, 4, 15, 100), explicit(3, 0, 0, 110), true},
		{"#k", "#k", explicit(3, 0, 0, 100), explicit(3, 2, 0, 110), true},
		{"#k", "#m", explicit(3, 0, 0, 100), explicit(3, 0, 0, 0), false},
		{"", "", explicit(3, 0, 0, 0), Config{}, false}, // the clock is past epoch 3
		{"#k", "", explicit(65535, 0, 0, 0), Config{}, true},
	} {
		id := fmt.Sprint(t.Name(), i, "/", time.Now().UnixNano())                      // names are remembered
		own := func(key string) string { return strings.ReplaceAll(key, "#", "#"+id) } // one key has one ID
		for _, used := range []bool{false, true} {
			o, err := Share(id+own(x.key), x.c)
			if err != nil {
				t.Fatal(i, err)
			}
			if used {
				o.Take(10)
			}
			o.Release()
			o, err = Share(id+own(x.nextKey), x.next)
			if refused := used && x.refused; refused {
				wantErr(t, err, status.ErrExists, "this process has used counters")
			} else if err != nil {
				t.Fatalf("case %d, used %v: %v", i, used, err)
			} else {
				o.Release()
			}
		}
	}
}

// Giving an owner back once too often does not take it from those who have the
// place now.
func TestReleaseTwice(t *testing.T) {
	name := fmt.Sprint(t.Name(), time.Now().UnixNano()) // names are remembered
	share := func() *Owner {
		o, err := Share(name, Config{Mode: Explicit, Start: 5})
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	first := share()
	first.Release()
	a := share()
	first.Release()
	b := share()
	defer b.Release()
	defer a.Release()
	if a != b || a == first {
		t.Fatal("two owners of one place")
	}
	wantTake(t, first, 1, 0, 0, status.ErrExhausted)
	wantTake(t, a, 1, 5, 1, status.OK)
}

// A name with an asterisk stands for all that begin alike; a data key is that
// of one ID.
func TestNamesThatMeet(t *testing.T) {
	c := Config{Mode: Explicit, Start: 5}
	run := fmt.Sprint("/run ", time.Now().UnixNano()) // names are remembered
	has := func(name string, want error) *Owner {
		t.Helper()
		name = strings.Replace(name, "meet", "meet"+run, 1)
		if strings.Contains(name, "#") {
			name += run
		}
		o, err := Share(name, c)
		if !errors.Is(err, want) {
			t.Fatalf("%s: %v, want %v", name, err, want)
		}
		return o
	}
	one := has("meet/1/a", nil)
	has("meet/1/*", status.ErrExists)
	has("meet/1/*#key", status.ErrExists)
	has("meet/1/a#key", status.ErrExists)
	has("meet/2/*", nil).Release()
	has("meet/1/b", nil).Release()
	one.Take(10)
	one.Release()
	has("meet/1/*", status.ErrExists) // counters from 5 on were used
	c.Start = 15
	all := has("meet/1/*", nil)
	if has("meet/1/*", nil) != all {
		t.Fatal("two owners of one name")
	}
	all.Release()
	has("meet/1/c", status.ErrExists)
	has("meet/1/c#key", status.ErrExists)
	all.Take(1)
	all.Release()
	has("meet/1/c", status.ErrExists) // 15 was
	c.Start = 16
	has("meet/1/c", nil).Release()
	// Two data keys have nothing to do with each other; one has one ID.
	all = has("meet/3/*#one", nil)
	has("meet/3/d#two", nil).Release()
	has("meet/3/d#one", status.ErrExists)
	all.Release()
	has("meet/4/d#one", status.ErrExists)
	has("meet/3/*#one", nil).Release()
}
