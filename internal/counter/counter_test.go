package counter

import (
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"libeesp/internal/status"
)

// clock replaces the wall clock in one test. It moves only if the test sets it.
type clock struct{ ns int64 }

func setClock(t testing.TB, ns int64) *clock {
	c, old := &clock{ns}, wall
	wall = func() int64 { return c.ns }
	t.Cleanup(func() { wall = old })
	return c
}

func testOwner(t testing.TB, c Config) *Owner {
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
		o := testOwner(t, Config{Mode: Explicit, FixedEpoch: true, Epoch: epoch, Start: 1<<48 - 10})
		base := uint64(epoch) << 48
		wantTake(t, o, 4, base|(1<<48-10), 4, status.OK)
		wantTake(t, o, 10, base|(1<<48-6), 6, status.ErrExhausted)
		for range 3 {
			wantTake(t, o, 1, 0, 0, status.ErrExhausted)
		}
		wantTake(t, o, 1<<30, 0, 0, status.ErrExhausted)
	}
	// The last value of the last epoch: no limit can be above it.
	for _, n := range []int{1 << 30, 4} {
		o := testOwner(t, Config{Mode: Explicit, FixedEpoch: true, Epoch: 65535, Start: 1<<48 - 4})
		want := status.ErrExhausted
		if n == 4 {
			want = status.OK
		}
		wantTake(t, o, n, 1<<64-4, 4, want)
		wantTake(t, o, 1, 0, 0, status.ErrExhausted)
	}
	o := testOwner(t, Config{Mode: Explicit, FixedEpoch: true, Epoch: 65535, Start: 1<<48 - 2})
	wantTake(t, o, 1, 1<<64-2, 1, status.OK)
	wantTake(t, o, 1, 1<<64-1, 1, status.OK)
	wantTake(t, o, 2, 0, 0, status.ErrExhausted)
	o = testOwner(t, Config{Mode: Explicit, FixedEpoch: true, Epoch: 65535, Start: 1<<48 - 1})
	o.Release()
	wantTake(t, o, 1, 0, 0, status.ErrExhausted) // freed
	// It is given out once in a process: to one of several threads, and to no later sender.
	c := Config{Mode: Explicit, FixedEpoch: true, Epoch: 65535, Start: 1<<48 - 3}
	name := fmt.Sprint("last/", time.Now().UnixNano()) // names are remembered
	o = share(t, name, c)
	var got atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 3 {
				_, n, _ := o.Take(2)
				got.Add(int64(n))
			}
		})
	}
	wg.Wait()
	if got.Load() != 3 {
		t.Fatalf("%d values of three", got.Load())
	}
	o.Release()
	c.Start = 1<<48 - 1
	if _, err := Share(name, c, nil); !errors.Is(err, status.ErrExists) {
		t.Fatal(err)
	}
}

// A limit is a counter on the wire, and does not depend on the engine's number.
func TestLimit(t *testing.T) {
	for _, x := range []struct {
		bits   uint8
		engine uint32
		dir    Direction
		limit  uint64
		want   int
	}{
		{0, 0, NoDirection, 10, 10}, {0, 0, TopSet, 10, 10}, {0, 0, NoDirection, 1 << 48, 100},
		{2, 0, NoDirection, 10, 3}, {2, 1, NoDirection, 10, 3}, {2, 2, TopClear, 10, 2}, {2, 3, NoDirection, 10, 2},
		{2, 3, NoDirection, 3, 0}, {2, 3, NoDirection, 4, 1},
	} {
		o := testOwner(t, Config{Mode: Explicit, FixedEpoch: true, Epoch: 7, EngineBits: x.bits, Engine: x.engine, Direction: x.dir, Limit: x.limit})
		first, n, _ := o.Take(100)
		if n != x.want {
			t.Errorf("%+v: %d", x, n)
		}
		if n > 0 && o.TSC(first+uint64(n)-1)&(1<<47-1) >= x.limit {
			t.Errorf("%+v: %#x", x, o.TSC(first+uint64(n)-1))
		}
	}
	for _, c := range []Config{{Mode: Explicit, Limit: 1<<48 + 1}, {Mode: Clock, Limit: 5}} {
		if _, err := New(c); !errors.Is(err, status.ErrArgument) {
			t.Error(err)
		}
	}
}

// Names for one key and epoch have counters of their own. A later owner of the name begins
// above those that were used.
func TestScopes(t *testing.T) {
	scope := fmt.Sprint("scope ", time.Now().UnixNano()) // names are remembered
	c := Config{Mode: Explicit, FixedEpoch: true, Epoch: 3}
	a, b := share(t, scope+"/5@a/3", c), share(t, scope+"/5@b/3", c)
	wantTake(t, a, 10, 3<<48, 10, status.OK)
	wantTake(t, b, 4, 3<<48, 4, status.OK)
	again := share(t, scope+"/5@a/3", c)
	wantTake(t, again, 1, 3<<48|10, 1, status.OK)
	again.Release()
	a.Release()
	if _, err := Share(scope+"/5@a/3", c, nil); !errors.Is(err, status.ErrExists) {
		t.Fatal(err)
	}
	c.Resume = true
	a = share(t, scope+"/5@a/3", c)
	wantTake(t, a, 1, 3<<48|11, 1, status.OK)
	share(t, scope+"/5@a/3", c).Release()
	// Names with a data key, or for all IDs, may have any key.
	for _, name := range []string{scope + "/5#" + scope, scope + "/*", scope + "/*@a/3"} {
		if _, err := Share(name, c, nil); !errors.Is(err, status.ErrExists) {
			t.Error(name, err)
		}
	}
	a.Release()
	b.Release()
	c.Resume = false
	if _, err := Share(scope+"/5#"+scope, c, nil); !errors.Is(err, status.ErrExists) {
		t.Error(err)
	}
	c.Start = 12
	share(t, scope+"/5#"+scope, c).Release()
}

func TestEnginesPartition(t *testing.T) {
	seen := map[uint64]bool{}
	for e := range uint32(8) {
		o := testOwner(t, Config{Mode: Explicit, FixedEpoch: true, Epoch: 5, EngineBits: 3, Engine: e, Start: 1<<45 - 5})
		first, n, code := o.Take(10)
		if n != 5 || code != status.ErrExhausted {
			t.Fatalf("engine %d: %d, %v", e, n, code)
		}
		for i := range uint64(n) {
			tsc := o.TSC(first + i)
			if tsc != o.Map().TSC(first+i) {
				t.Fatal("Owner.TSC and Map.TSC differ")
			}
			if seen[tsc] || tsc>>48 != 5 || tsc&7 != uint64(e) || tsc&(1<<48-1)>>3 != 1<<45-5+i {
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
			o := testOwner(t, c)
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
	o := testOwner(t, Config{RateLog2: 12})
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

	// The clock steps back a little: an error until it has caught up.
	c.ns -= second / 2
	wantTake(t, o, 1, 0, 0, status.ErrClock)
	c.ns += second/2 + second/4096 + 1 // one tick
	wantTake(t, o, 2, start+5120, 1, status.ErrClock)

	// A crash and a restart at the same time. The new sender starts above all counters that
	// the old one could use, and can use none before time passes.
	p := testOwner(t, Config{RateLog2: 12})
	if p.Peek() < o.Peek() {
		t.Fatal("a restart begins below counters that were used")
	}
	wantTake(t, p, 1, 0, 0, status.ErrClock)
}

// A step back of the clock is noticed after at most LookEvery packets.
func TestClockStepsBack(t *testing.T) {
	c := setClock(t, 1_700_000_000*second)
	o := testOwner(t, Config{})
	c.ns += second
	_, n, code := o.Take(10)
	if n != 10 || code != status.OK {
		t.Fatal(n, code)
	}
	c.ns -= 10 * second
	_, n, code = o.Take(3 * LookEvery)
	if n > 2*LookEvery || code != status.ErrClock {
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
	o := testOwner(t, Config{})
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
	// Before the epochs counted from 1970 repeat, the sender stops.
	c.ns = 1<<32*second - second/2
	o = testOwner(t, Config{EngineBits: 4, RateLog2: 28})
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
				o := testOwner(t, cfg)
				c.ns += second / 1000
				if _, n, _ := o.Take(100); n != 100 || o.Peek()>>48 != uint64(epoch) {
					t.Fatalf("%d, TSC %#x", n, o.Peek())
				}
				// In the last second, after the end, and long after it.
				for _, late := range []int64{-second + 1, -1, 0, 1, length, 1000 * length} {
					c.ns = at + late
					p := testOwner(t, cfg)
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
	a, err := Share(name, c, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Share(name, c, nil)
	if err != nil || a != b {
		t.Fatal("two senders of one name do not share counters", err)
	}
	other := c
	other.Start = 200
	_, err = Share(name, other, nil)
	wantErr(t, err, status.ErrExists, "other counter settings")
	other = c
	other.EngineBits, other.Engine, other.Start = 1, 1, 0
	_, err = Share(name, other, nil)
	wantErr(t, err, status.ErrExists, "0 engine bits")

	var engines [3]*Owner
	for i := range engines {
		e := Config{Mode: Explicit, EngineBits: 4, Engine: uint32(i) / 2}
		if engines[i], err = Share(name+"/engines", e, nil); err != nil {
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

	_, err = Share(name, c, nil)
	wantErr(t, err, status.ErrExists, "counter 120")
	c.Start = 119
	_, err = Share(name, c, nil)
	wantErr(t, err, status.ErrExists, "counter 120")
	c.Start = 120
	a, err = Share(name, c, nil)
	if err != nil {
		t.Fatal(err)
	}
	a.Release()

	// The clock, set back between two senders.
	now := setClock(t, 1_700_000_000*second)
	a, err = Share(name+"/clock", Config{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	now.ns += second
	a.Take(1000)
	a.Release()
	now.ns -= 2 * second
	_, err = Share(name+"/clock", Config{}, nil)
	wantErr(t, err, status.ErrClock, "behind")
	if _, err = Share(name, Config{Mode: 9}, nil); err == nil {
		t.Fatal("a wrong configuration was taken")
	}
}

// Used counters stay used for a later owner of the ID, even with other engine bits or with
// a data key.
func TestUsedCountersStayUsed(t *testing.T) {
	explicit := func(epoch uint16, bits uint8, engine uint32, start uint64) Config {
		return Config{Mode: Explicit, FixedEpoch: true, Epoch: epoch, EngineBits: bits, Engine: engine, Start: start}
	}
	directed := func(c Config, d Direction) Config { c.Direction = d; return c }
	for i, x := range []struct {
		key, nextKey string
		c, next      Config
		refused      bool
	}{
		// The same part of the space: higher counters are free.
		{"", "", explicit(3, 4, 1, 100), explicit(3, 4, 1, 109), true},
		{"", "", explicit(3, 4, 1, 100), explicit(3, 4, 1, 110), false},
		{"", "", explicit(3, 4, 1, 100), explicit(2, 4, 1, 1<<44-1), true},
		{"", "", explicit(3, 4, 1, 100), explicit(4, 4, 1, 0), false},
		{"", "", explicit(3, 4, 1, 100), explicit(3, 4, 2, 0), false},
		// Other parts: higher counters are free, for any number of engine bits.
		{"", "", explicit(3, 0, 0, 100), explicit(3, 4, 0, 6), true},   // 0x60; 109 is 0x6d
		{"", "", explicit(3, 0, 0, 100), explicit(3, 4, 13, 6), true},  // 0x6d
		{"", "", explicit(3, 0, 0, 100), explicit(3, 4, 14, 6), false}, // 0x6e
		{"", "", explicit(3, 0, 0, 100), explicit(3, 4, 0, 7), false},
		{"", "", explicit(3, 0, 0, 100), explicit(2, 4, 15, 1<<44-1), true},
		{"", "", explicit(3, 0, 0, 100), explicit(4, 4, 0, 0), false},
		{"", "", explicit(3, 4, 15, 100), explicit(3, 0, 0, 109<<4|15), true},
		{"", "", explicit(3, 4, 15, 100), explicit(3, 0, 0, 110<<4), false},
		{"", "", explicit(3, 2, 1, 100), explicit(3, 4, 5, 27), true}, // 27<<4|5 is one of the first's: 109<<2|1
		{"", "", explicit(3, 2, 1, 100), explicit(3, 4, 5, 28), false},
		{"", "", explicit(3, 2, 1, 100), explicit(3, 4, 7, 0), false}, // 7 ends in 3
		{"", "", explicit(3, 4, 7, 100), explicit(3, 2, 3, 437), true},
		{"", "", explicit(3, 4, 7, 100), explicit(3, 2, 3, 438), false},
		{"", "", explicit(3, 4, 7, 100), explicit(3, 2, 1, 0), false},
		{"", "", explicit(3, 16, 65535, 100), explicit(3, 1, 1, 0), true},
		{"", "", explicit(3, 16, 65535, 100), explicit(3, 1, 0, 0), false},
		{"", "", explicit(3, 1, 1, 1<<20), explicit(3, 16, 65535, 0), true},
		{"", "", explicit(3, 1, 1, 1<<20), explicit(3, 16, 65534, 0), false},
		// The last counter of an epoch does not begin the next one.
		{"", "", explicit(3, 0, 0, 1<<48-10), explicit(4, 4, 0, 0), false},
		{"", "", explicit(3, 4, 0, 1<<44-10), explicit(4, 0, 0, 0), false},
		// Counters of two directions differ. A sender without direction shares with both.
		{"", "", directed(explicit(3, 0, 0, 100), TopSet), directed(explicit(3, 0, 0, 0), TopClear), false},
		{"", "#k", directed(explicit(3, 0, 0, 100), TopSet), directed(explicit(3, 0, 0, 0), TopClear), false},
		{"", "", directed(explicit(3, 0, 0, 100), TopSet), directed(explicit(3, 0, 0, 100), TopSet), true},
		{"", "", directed(explicit(3, 0, 0, 100), TopClear), explicit(3, 0, 0, 0), true},
		{"", "", directed(explicit(3, 0, 0, 100), TopClear), explicit(3, 0, 0, 110), false},
		{"", "", directed(explicit(3, 0, 0, 100), TopSet), explicit(3, 0, 0, 110), true},
		{"", "", explicit(3, 0, 0, 100), directed(explicit(3, 0, 0, 100), TopClear), true},
		// A data key may be one that a group derives.
		{"", "#k", explicit(3, 0, 0, 100), explicit(3, 0, 0, 109), true},
		{"", "#k", explicit(3, 0, 0, 100), explicit(3, 0, 0, 110), false},
		{"", "#k", explicit(3, 0, 0, 100), explicit(3, 4, 15, 0), true},
		{"", "#k", explicit(3, 0, 0, 100), explicit(3, 4, 15, 7), false},
		{"#k", "", explicit(3, 0, 0, 100), explicit(3, 0, 0, 109), true},
		{"#k", "", explicit(3, 0, 0, 100), explicit(3, 0, 0, 110), false},
		{"#k", "", explicit(3, 4, 15, 100), explicit(3, 0, 0, 110), true},
		{"#k", "#k", explicit(3, 0, 0, 100), explicit(3, 2, 0, 27), true},
		{"#k", "#k", explicit(3, 0, 0, 100), explicit(3, 2, 0, 110), false},
		{"#k", "#m", explicit(3, 0, 0, 100), explicit(3, 0, 0, 0), false},
		{"", "", explicit(3, 0, 0, 0), Config{}, false}, // the clock is past epoch 3
		{"#k", "", explicit(65535, 0, 0, 0), Config{}, true},
	} {
		id := fmt.Sprint(t.Name(), i, "/", time.Now().UnixNano())                      // names are remembered
		own := func(key string) string { return strings.ReplaceAll(key, "#", "#"+id) } // one key has one ID
		for _, used := range []bool{false, true} {
			o, err := Share(id+own(x.key), x.c, nil)
			if err != nil {
				t.Fatal(i, err)
			}
			if used {
				o.Take(10)
			}
			o.Release()
			o, err = Share(id+own(x.nextKey), x.next, nil)
			if refused := used && x.refused; refused {
				if err == nil {
					t.Errorf("case %d: not refused", i)
					continue
				}
				wantErr(t, err, status.ErrExists, "this process has used counters")
			} else if err != nil {
				t.Fatalf("case %d, used %v: %v", i, used, err)
			} else {
				o.Release()
			}
		}
	}
}

// An owner that is released too often is not taken from its other users.
func TestReleaseTwice(t *testing.T) {
	name := fmt.Sprint(t.Name(), time.Now().UnixNano()) // names are remembered
	share := func() *Owner {
		o, err := Share(name, Config{Mode: Explicit, Start: 5}, nil)
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

// A name with an asterisk stands for all names that begin alike. A data key belongs to one
// ID.
func TestNamesThatMeet(t *testing.T) {
	c := Config{Mode: Explicit, Start: 5}
	run := fmt.Sprint("/run ", time.Now().UnixNano()) // names are remembered
	has := func(name string, want error) *Owner {
		t.Helper()
		name = strings.Replace(name, "meet", "meet"+run, 1)
		if strings.Contains(name, "#") {
			name += run
		}
		o, err := Share(name, c, nil)
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
	// Two data keys are independent. Each has one ID.
	all = has("meet/3/*#one", nil)
	has("meet/3/d#two", nil).Release()
	has("meet/3/d#one", status.ErrExists)
	all.Release()
	has("meet/4/d#one", status.ErrExists)
	has("meet/3/*#one", nil).Release()
}

// With a clock that only goes forward, a later sender starts above all used counters, with
// any engine bits.
func TestRestartWithOtherEngineBits(t *testing.T) {
	c := setClock(t, 0)
	x := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		c.ns = 1_795_991_044*second + x.Int64N(1<<20*second)
		fixed, direction := x.IntN(2) == 0, Direction(x.IntN(3)) // the same for all senders of the ID
		make := func() *Owner {
			bits := uint8(x.IntN(17))
			k := Config{EngineBits: bits, Engine: uint32(x.IntN(1 << bits))}
			if direction != NoDirection {
				bits = min(bits, 15)
				k = Config{EngineBits: bits, Engine: uint32(x.IntN(1 << bits)), Direction: direction}
			}
			if fixed { // one rate and start
				k.FixedEpoch, k.Epoch, k.EpochStart = true, 9, time.Unix(1_795_900_000, 0)
				k.Direction, k.RateLog2 = NoDirection, 28-bits
			}
			return testOwner(t, k)
		}
		a := make()
		c.ns += x.Int64N(3 * second)
		last := uint64(0)
		for range 1 + x.IntN(4) {
			if first, n, _ := a.Take(1 << 20); n != 0 { // all that the clock allows
				last = max(last, a.TSC(first+uint64(n)-1))
			}
		}
		for a.limit.Load() > a.next.Load() {
			a.Take(1 << 20)
			last = a.TSC(a.next.Load() - 1)
		}
		c.ns += x.Int64N(1000) // less than a tick, mostly
		b := make()
		if b.Peek() <= last && last != 0 {
			t.Fatalf("%+v after %+v: begins at %#x, %#x was used", b.cfg, a.cfg, b.Peek(), last)
		}
	}
}

// A slow sender does not stay behind the clock for long, and its epochs follow the clock.
func TestLaggingSender(t *testing.T) {
	c := setClock(t, 1_795_991_044*second)
	o := testOwner(t, Config{})
	last := uint64(0)
	for day := range 220 {
		c.ns += 86400 * second
		for range 1 + day%3 {
			first, n, code := o.Take(8)
			if n != 8 || code != status.OK || first <= last {
				t.Fatalf("day %d: %#x, %d, %v after %#x", day, first, n, code, last)
			}
			last = first + 7
		}
		if epoch := uint64(c.ns/second) >> 20; day%3 == 2 && o.Peek()>>48 != epoch {
			t.Fatalf("day %d: epoch %d, the clock's is %d", day, o.Peek()>>48, epoch)
		}
	}
	// After many packets too: at most LookEvery packets lag.
	for range 1000 {
		c.ns += 100_000
		o.Take(64)
	}
	c.ns += 100 * 86400 * second
	for range LookEvery/32 + 1 {
		o.Take(32)
	}
	if epoch := uint64(c.ns/second) >> 20; o.Peek()>>48 != epoch {
		t.Fatalf("epoch %d, the clock's is %d", o.Peek()>>48, epoch)
	}
	// The counters that it skips are below the first one after a restart.
	if p := testOwner(t, Config{}); p.Peek() <= o.limit.Load() {
		t.Fatal("a restart begins below counters that may be used")
	}
}

// A sender that is behind the clock by less than Lag skips no counters: packets of several
// threads stay close together.
func TestSkipsAreRare(t *testing.T) {
	c := setClock(t, 1_795_991_044*second)
	for _, k := range []Config{{}, {EngineBits: 8}, {RateLog2: 20}, {FixedEpoch: true, EpochStart: time.Unix(1_795_900_000, 0)}} {
		o := testOwner(t, k)
		start, skips, last := c.ns, 0, o.next.Load()-1
		for c.ns < start+600*second {
			c.ns += 10_000_000
			first, n, code := o.Take(32)
			if n != 32 || code != status.OK {
				t.Fatalf("%+v: %d, %v", k, n, code)
			}
			if first != last+1 {
				skips++
			}
			last = first + 31
			if now, _ := o.ticks(c.ns); now > last && now-last > (Lag+45)<<o.cfg.RateLog2 { // and 4096 packets
				t.Fatalf("%+v: %d behind", k, now-last)
			}
		}
		if skips < 5 || skips > 10 {
			t.Errorf("%+v: %d skips in ten minutes", k, skips)
		}
	}
}

// A sender enters a new epoch of the clock at once.
func TestEpochOfTheClock(t *testing.T) {
	c := setClock(t, (1712<<20-20)*second)
	o := testOwner(t, Config{})
	for range 300 {
		c.ns += 100_000_000
		first, n, code := o.Take(32)
		if epoch := uint64(c.ns/second) >> 20; n != 32 || code != status.OK || o.TSC(first)>>48 < epoch-1 || c.ns > (1712<<20+5)*second && o.TSC(first)>>48 != epoch {
			t.Fatalf("%d, %v: epoch %d at %d", n, code, o.TSC(first)>>48, c.ns)
		}
	}
}

// Each name that has sealed takes about 16 octets outside the heap, and is never forgotten.
func TestManyNames(t *testing.T) {
	names := 20000
	if !testing.Short() {
		names = 100000
	}
	m := marks{seed: maphash.MakeSeed()}
	var buf [32]byte
	for i := range names {
		s := set{ofGroups, string(strconv.AppendInt(append(buf[:0], "psp/"...), int64(i), 16))}
		if err := m.reserve(s, whole); err != nil {
			t.Fatal(err)
		}
		m.note(s, whole, uint64(i)+1, true)
	}
	slots, used, most := 0, 0, 0
	for i := range m.shards {
		s := &m.shards[i]
		slots, used, most = slots+len(s.records), used+s.used, max(most, s.used*8-len(s.records)*7)
		if s.promised != 0 {
			t.Fatal("a promise is left")
		}
	}
	if used != names || most > 0 || slots*16 > names*26+shards*4096 {
		t.Fatalf("%d slots for %d names, of %d", slots, used, names)
	}
	for i := range names {
		if mark := m.highest(set{ofGroups, fmt.Sprintf("psp/%x", i)}, whole); mark != uint64(i)+1 {
			t.Fatalf("name %d: %d", i, mark)
		}
	}
	if m.has(set{ofGroups, "psp/none"}) || m.has(set{ofHolders, "psp/1"}) {
		t.Fatal("a name that was never noted")
	}
}

// For marks of random parts in random order, the highest one that concerns a part is found.
func TestMarksOfParts(t *testing.T) {
	x := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		m := marks{seed: maphash.MakeSeed()}
		draw := func() part {
			p := part{dir: Direction(x.IntN(3)), bits: uint8(x.IntN(4))}
			p.engine = x.Uint32N(1 << p.bits)
			return p
		}
		noted := map[part]uint64{}
		for range 1 + x.IntN(6) {
			p, mark := draw(), 1+x.Uint64N(100)
			if err := m.reserve(set{ofKey, "k"}, p); err != nil {
				t.Fatal(err)
			}
			m.note(set{ofKey, "k"}, p, mark, true)
			noted[p] = max(noted[p], mark)
		}
		for range 20 {
			p, want := draw(), uint64(0)
			for q, mark := range noted {
				n := min(p.bits, q.bits)
				if p.shorter(n).engine == q.shorter(n).engine && (p.dir == q.dir || p.dir == NoDirection || q.dir == NoDirection) {
					want = max(want, mark)
				}
			}
			if got := m.highest(set{ofKey, "k"}, p); got != want {
				t.Fatalf("%+v of %v: %d, want %d", p, noted, got, want)
			}
		}
	}
}

// Names stay nowhere on the heap.
func TestNamesLeaveNothingOnTheHeap(t *testing.T) {
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // twice: for pools and finalizers
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	run := time.Now().UnixNano()
	use := func(name string) {
		o, err := Share(name, Config{Mode: Explicit}, nil)
		if err != nil {
			t.Fatal(err)
		}
		o.Take(1)
		o.Release()
	}
	use(fmt.Sprint("first/", run))
	use(fmt.Sprint("first/2-", run, "#key ", run))
	const names, rounds = 10000, 3
	least := int64(math.MaxInt64) // of several rounds: the runtime and the end of other tests use the heap, too, but not in each
	for r := range rounds {
		before := heap()
		for i := r * names; i < (r+1)*names; i++ {
			use(fmt.Sprintf("heap/%d-%x", run, i))
			use(fmt.Sprintf("held/%d-%x#key %d %d", run, i, run, i))
		}
		least = min(least, int64(heap()-before))
	}
	if least > names*8 {
		t.Fatalf("%d octets of heap more after %d names", least, names)
	}
	_, err := Share(fmt.Sprintf("held/%d-%x", run, 7), Config{Mode: Explicit}, nil)
	wantErr(t, err, status.ErrExists, "counter 1") // and all are known
}

// share is Share for names that need no keys.
func share(t *testing.T, name string, c Config) *Owner {
	t.Helper()
	o, err := Share(name, c, nil)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// A thread is stopped after it has read the clock, and others take counters meanwhile. It
// does not take that for a clock that is behind.
func TestStoppedAtTheClock(t *testing.T) {
	for _, timed := range []Config{{Timed: true, Lead: 2 * time.Millisecond}, {}} {
		c := setClock(t, 1_796_000_000*second)
		o := testOwner(t, timed)
		read, others := wall, 0
		wall = func() (ns int64) {
			ns = read()
			if others++; others == 1 {
				c.ns += 4 * second
				if timed.Timed {
					now, _ := o.ticks(c.ns)
					wantTake(t, o, 5, now, 5, status.OK)
				} else { // as C does
					o.limit.Store(o.limit.Load() + 4<<DefaultRateLog2)
					o.next.Store(o.limit.Load() - 100)
				}
			}
			return ns
		}
		if _, n, code := o.Take(7); n != 7 || code != status.OK {
			t.Errorf("timed %v: %d, %v", timed.Timed, n, code)
		}
		wall = read
	}
}

// If counters are times, they are never before the time of Take, never more than the lead
// after it, and never given out twice, for any steps of the clock.
func TestTimed(t *testing.T) {
	c := setClock(t, 1_796_000_000*second)
	const ms = second / 1000
	for _, bits := range []uint8{0, 4, 8, 10} {
		o := testOwner(t, Config{Timed: true, Lead: 2 * time.Millisecond, EngineBits: bits})
		tick := func() uint64 { x, _ := o.ticks(c.ns); return x }
		rate := uint64(1) << (28 - bits)
		lead := 2 * rate / 1000
		first, n, code := o.Take(10)
		if first != tick() || n != 10 || code != status.OK {
			t.Fatalf("%#x, %d, %v; the time is %#x", first, n, code, tick())
		}
		// The counter as a whole is the time in units of 2^-28 s.
		if at := o.TSC(first) >> bits << bits; at != tick()<<bits || at>>28 != uint64(c.ns/second) {
			t.Fatalf("TSC %#x", o.TSC(first))
		}
		wantTake(t, o, 10, first+10, 10, status.OK)                           // no time has passed
		wantTake(t, o, 1<<30, first+20, int(lead-20), status.ErrClock)        // up to the lead
		wantTake(t, o, 1, 0, 0, status.ErrClock)                              // none above
		c.ns += ms                                                            //
		wantTake(t, o, 1<<30, first+lead, int(tick()-first), status.ErrClock) // as time has passed
		c.ns += 3600 * second                                                 // idle
		wantTake(t, o, 5, tick(), 5, status.OK)                               // by the clock again
		before := tick()                                                      //
		c.ns -= ms                                                            // set back by less than the lead
		wantTake(t, o, 5, before+5, 5, status.OK)                             // never back
		c.ns -= 10 * ms                                                       // set back by more
		wantTake(t, o, 1, 0, 0, status.ErrClock)                              //
		c.ns += 20 * ms                                                       //
		wantTake(t, o, 1, tick(), 1, status.OK)                               //
		c.ns = (c.ns/(1<<20*second)+1)<<20*second - ms                        // epochs
		if a, b := o.TSC(tick())>>48, o.TSC(tick()+rate)>>48; b != a+1 {      //
			t.Fatal(a, b)
		}
		next, n, code := o.Take(int(lead))
		if n != int(lead) || code != status.OK || o.TSC(next+lead-1)>>48 != o.TSC(next)>>48+1 {
			t.Fatal(n, code)
		}
		o.close()
		wantTake(t, o, 1, 0, 0, status.ErrExhausted)
	}
	// A later sender is not below, even at the same time, since it waits.
	a := testOwner(t, Config{Timed: true, Lead: 2 * time.Millisecond, Wait: 2 * time.Millisecond})
	a.Take(1 << 30)
	c.ns += 2 * ms
	b := testOwner(t, Config{Timed: true, Lead: 2 * time.Millisecond, Wait: 2 * time.Millisecond})
	if first, _, _ := b.Take(1); first < a.next.Load() {
		t.Fatal("a restart begins below counters that were used")
	}
	for _, x := range []struct {
		c    Config
		part string
	}{
		{Config{Timed: true, Mode: Explicit}, "follow the clock"}, {Config{Timed: true, RateLog2: 27}, "rate"}, {Config{Timed: true, EngineBits: 11}, "engine bits"}, {Config{Timed: true, EngineBits: 16}, "engine bits"},
		{Config{Timed: true, FixedEpoch: true, Epoch: 3, EpochStart: time.Unix(3<<20+1, 0)}, "epoch start"},
	} {
		_, err := New(x.c)
		wantErr(t, err, status.ErrArgument, x.part)
	}
}

// While half a run is left, the next one is claimed in the background, so that Take does
// not wait for the file. A closed owner gives out nothing.
func TestReservedAhead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mark")
	const run = 1000
	o, err := New(Config{Mode: Reserved, Path: path, Run: run})
	if err != nil {
		t.Fatal(err)
	}
	last := uint64(0)
	for range 20 {
		limit := o.limit.Load()
		for o.next.Load() <= o.soft.Load() {
			first, n, code := o.Take(10)
			if n != 10 || code != status.OK || last != 0 && first != last+10 {
				t.Fatal(first, last, n, code)
			}
			last = first
		}
		if left := limit - o.next.Load(); left < run/2-20 {
			t.Fatalf("asked with %d left", left)
		}
		for n := 0; o.limit.Load() == limit; n++ {
			if n > 10000 {
				t.Fatal("nothing was claimed")
			}
			time.Sleep(time.Millisecond)
		}
		for o.asked.Load() { // otherwise the next run is asked for only at another Take
			time.Sleep(10 * time.Microsecond)
		}
		if soft, limit := o.soft.Load(), o.limit.Load(); soft > limit || limit-soft != run/2 {
			t.Fatal(soft, limit)
		}
	}
	o.askAhead()
	o.close()
	if _, n, code := o.Take(1); n != 0 || code != status.ErrExhausted || o.soft.Load() != 0 {
		t.Fatal(n, code, o.soft.Load())
	}
	o.askAhead()
	if o.soft.Load() != 0 {
		t.Fatal("a closed owner may be taken from")
	}
	again, err := New(Config{Mode: Reserved, Path: path, Run: run})
	if err != nil {
		t.Fatal(err)
	}
	if first, _, _ := again.Take(1); first <= last {
		t.Fatal(first, last)
	}
	again.close()
}
