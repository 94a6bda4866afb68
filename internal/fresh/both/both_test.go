//go:build cgo && (amd64 || arm64)

package both

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"libeesp/internal/fresh"
	"libeesp/internal/replay"
	"libeesp/internal/testrun"
)

const (
	ms    = uint64(1<<fresh.TickBits) / 1000
	start = uint64(1_796_000_000) << fresh.TickBits
	never = ^uint64(0)
)

func newTable(t testing.TB, c fresh.Config, steady func() int64) *fresh.Table {
	t.Helper()
	x, err := fresh.New(c, start, 0, steady)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func key(id uint64) *replay.Key {
	k := &replay.Key{Master: [16]byte{1, 2, 3}, ID: id, Epoch: uint16(id * 77), Kind: uint16(id & 3)}
	if id&1 != 0 {
		k.Addr[id%32] = byte(id)
	}
	return k
}

// burst is a burst that Go has begun on one table and C on its twin.
type burst struct {
	g   fresh.Pass
	c   Pass
	isC bool       // false: C left it to Go
	b   fresh.Pass // what Go began for C
}

func begin(a, b *fresh.Table, now uint64) (x burst, resetA, resetB bool) {
	x.g, resetA = a.Begin(now)
	if x.isC = x.c.Begin(b, now); !x.isC {
		x.b, resetB = b.Begin(now)
	}
	return
}

// With random steps of the clock and random packets, C has the same verdicts, counts, floor
// and words as Go.
func TestSame(t *testing.T) {
	steps := testrun.Rounds(12_000, 30_000, 30_000)
	var verdicts [fresh.Unmarked + 1]int
	crossed, bursts, late := 0, 0, 0
	for seed := range uint64(6) {
		x := rand.New(rand.NewPCG(seed, 2))
		c := fresh.Config{MaxAge: time.Duration(1+x.IntN(50)) * time.Millisecond, MaxEarly: time.Duration(1+x.IntN(20)) * time.Millisecond, MaxRate: []uint64{1000, 60_000}[seed%2]}
		var steady atomic.Int64
		now := start
		a, b := newTable(t, c, steady.Load), newTable(t, c, steady.Load)
		Twins(a, b)
		var all [][2]uint64
		var old []burst // begun earlier and not ended yet
		limit := never
		for step := range steps {
			switch x.IntN(2000) {
			case 0: // the clock steps forward or back
				now = max(start/2, now+x.Uint64N(600*ms)-200*ms)
			case 1, 2, 3:
				now += x.Uint64N(300 * ms)
			case 4:
				now = now / 32 / Slice(a) * 32 * Slice(a) // the beginning of a slice and a cycle
			case 5:
				due := now + x.Uint64N(30*ms)
				if limit = now + x.Uint64N(60*ms); x.IntN(4) != 0 {
					limit, due = never, never
				}
				a.Limit(limit, due)
				b.Limit(limit, due)
			default:
				now += x.Uint64N(ms)
			}
			if step == steps/2 { // soon the cycle in words is 0
				now = (now/32/Slice(a)>>16+1)<<16*32*Slice(a) - 100*ms
			}
			steady.Add(x.Int64N(int64(60 * time.Millisecond)))
			y, resetA, resetB := begin(a, b, now)
			if bursts++; !y.isC {
				crossed++
			}
			if resetA != resetB {
				t.Fatalf("seed %d, step %d: reset %v and %v", seed, step, resetA, resetB)
			}
			if resetA && a.BeginReset() && b.BeginReset() {
				old = nil // a reset waits for these
				a.EndReset(now)
				b.EndReset(now)
			}
			wasLate := false
			if len(old) > 0 && x.IntN(3) == 0 {
				y, old, wasLate = old[0], old[1:], true
				late++
			} else if x.IntN(20) == 0 {
				old = append(old, y)
				continue
			}
			many := 1 + x.IntN(3)
			if x.IntN(500) == 0 || wasLate && x.IntN(50) == 0 {
				many = 300 // a part of the table is full
			}
			for range many {
				k := [2]uint64{x.Uint64N(5), now + x.Uint64N(100*ms) - 60*ms}
				if many > 3 {
					k = [2]uint64{x.Uint64(), now - x.Uint64N(10)}
				} else if len(all) > 0 && x.IntN(2) == 0 {
					k = all[max(0, len(all)-1-x.IntN(1+x.IntN(len(all))))]
				}
				switch x.IntN(40) { // at the bounds
				case 0:
					k[1] = limit - uint64(x.IntN(2))
				case 1:
					k[1] = a.Floor() - uint64(x.IntN(2))
				}
				id := key(k[0])
				va := a.Check(&y.g, k[1])
				if va == fresh.Fresh {
					va = a.Commit(&y.g, id, k[1], k[1])
				}
				var vb fresh.Verdict
				if y.isC {
					if vb = y.c.Check(b, k[1]); vb == fresh.Fresh {
						vb = y.c.Commit(b, b.Hash(id), k[1], k[1], seed%2 == 0)
					}
					verdicts[vb]++
				} else if vb = b.Check(&y.b, k[1]); vb == fresh.Fresh {
					vb = b.Commit(&y.b, id, k[1], k[1])
				}
				if va != vb {
					t.Fatalf("seed %d, step %d: Go's verdict on %v is %d, C's %d", seed, step, k, va, vb)
				}
				if va == fresh.Fresh {
					all = append(all, k)
				}
			}
			a.End(&y.g)
			if y.isC {
				y.c.End(b)
			} else {
				b.End(&y.b)
			}
			if a.Floor() != b.Floor() || a.Most() != b.Most() || a.Stats() != b.Stats() {
				t.Fatalf("seed %d, step %d: floors %#x %#x, most %#x %#x, counts %+v %+v", seed, step, a.Floor(), b.Floor(), a.Most(), b.Most(), a.Stats(), b.Stats())
			}
			if (step%512 == 0 || wasLate && many > 3 || step > steps/2 && step < steps/2+300) && !slices.Equal(Words(a), Words(b)) {
				t.Fatalf("seed %d, step %d: words differ", seed, step)
			}
		}
		a.Free()
		b.Free()
	}
	t.Logf("%d bursts, %d of them late, %d left to Go; C's verdicts: %v", bursts, late, crossed, verdicts)
	for v, n := range verdicts {
		if n < 20 {
			t.Errorf("verdict %d: %d times only", v, n)
		}
	}
	if crossed*2 > bursts || late < 100 {
		t.Error("C has taken too few bursts")
	}
}

// Threads commit the same packets to one table, half of them in C and half in Go. One
// thread gets each packet; if the floor moves, at most one.
func TestOnce(t *testing.T) {
	for _, moves := range []bool{false, true} {
		c := fresh.Config{MaxAge: 5 * time.Second, MaxEarly: 5 * time.Millisecond, MaxRate: 60_000}
		if moves {
			c = fresh.Config{MaxAge: 5 * time.Millisecond, MaxEarly: 5 * time.Millisecond, MaxRate: 20_000}
		}
		table := newTable(t, c, func() int64 { return 0 })
		const threads, rounds, packets = 6, 150, 48
		var had [rounds * packets]atomic.Int32
		var clock atomic.Uint64
		clock.Store(start + 100*ms)
		var wg sync.WaitGroup
		var total, byC atomic.Int64
		for w := range threads {
			wg.Go(func() {
				x := rand.New(rand.NewPCG(uint64(w), 9))
				var flow, tsc []uint64
				var verdict [packets]fresh.Verdict
				for round := range rounds {
					now := clock.Load()
					if moves {
						now = clock.Add(x.Uint64N(ms / 2))
					}
					order := x.Perm(packets)
					flow, tsc = flow[:0], tsc[:0]
					for _, i := range order {
						n := round*packets + i
						at := start + 100*ms + uint64(i)
						if moves {
							at += uint64(round) * ms * threads / 4
						}
						flow, tsc = append(flow, table.Hash(key(uint64(n)))), append(tsc, at)
					}
					var p Pass
					if w%2 == 0 && p.Begin(table, now) {
						p.Burst(table, flow, tsc, verdict[:])
						byC.Add(1)
					} else {
						q, _ := table.Begin(now)
						for i, k := range order {
							if verdict[i] = table.Check(&q, tsc[i]); verdict[i] == fresh.Fresh {
								verdict[i] = table.Commit(&q, key(uint64(round*packets+k)), tsc[i], tsc[i])
							}
						}
						table.End(&q)
					}
					for i, k := range order {
						if verdict[i] == fresh.Fresh {
							total.Add(1)
							if had[round*packets+k].Add(1) != 1 {
								t.Errorf("packet %d was accepted twice", round*packets+k)
							}
						}
					}
				}
			})
		}
		wg.Wait()
		if n := total.Load(); !moves && n != rounds*packets || n < 100 || byC.Load() < threads*rounds/4 {
			t.Errorf("%d accepted, %d bursts by C", n, byC.Load())
		}
		table.Free()
	}
}

// C reads the same clock as Go.
func TestClock(t *testing.T) {
	for _, rate := range []uint{28, 18} {
		before := time.Now().UnixNano()
		c := ClockTicks(rate)
		after := time.Now().UnixNano()
		if low, high := fresh.Ticks(before)>>(fresh.TickBits-rate), fresh.Ticks(after)>>(fresh.TickBits-rate); c < low || c > high {
			t.Fatalf("%#x, not from %#x to %#x", c, low, high)
		}
	}
}

// Every other line of a slice is full. Two threads, in C and in Go, commit the same packets at the
// same time: one of them gets each packet.
func TestFullFirstLine(t *testing.T) {
	table := newTable(t, fresh.Config{MaxAge: 5 * time.Second, MaxEarly: 5 * time.Millisecond, MaxRate: 60_000}, func() int64 { return 0 })
	defer table.Free()
	const packets = 3000
	time := start + 200*ms
	slice, words := Slice(table), Words(table)
	per := uint64(len(words)) / 32
	n := time / slice
	for i := range per {
		if i/8%2 == 0 {
			words[n%32*per+i] = n/32<<48 | (i + 1)
		}
	}
	var had [2][packets]fresh.Verdict
	var wg sync.WaitGroup
	var at atomic.Int64
	for w := range 2 {
		wg.Go(func() {
			var c Pass
			if w == 0 && !c.Begin(table, time) {
				t.Error("left to Go")
			}
			g, _ := table.Begin(time)
			for i := range packets {
				at.Add(1)
				for spin := 0; at.Load() < int64(2*i+1) && spin < 1000; spin++ { // so that both run at the same time
				}
				tsc := n*slice + uint64(i)
				if w == 0 {
					had[w][i] = c.Commit(table, table.Hash(key(uint64(i))), tsc, tsc, false)
				} else {
					had[w][i] = table.Commit(&g, key(uint64(i)), tsc, tsc)
				}
			}
		})
	}
	wg.Wait()
	for i := range packets {
		a, b := had[0][i], had[1][i]
		if !(a == fresh.Fresh && b == fresh.Duplicate || a == fresh.Duplicate && b == fresh.Fresh) {
			t.Fatalf("packet %d: C says %d, Go %d", i, a, b)
		}
	}
}

// Counters with 0, 8 and 16 engine bits, across the end of an epoch. Times go on, each packet opens
// once, several engines may have packets of one time, and packets are refused by their time, in
// either epoch.
func TestEngineBitsAndEpochs(t *testing.T) {
	c := fresh.Config{MaxAge: 50 * time.Millisecond, MaxEarly: 20 * time.Millisecond, MaxRate: 60_000}
	for _, bits := range []uint{0, 8, 16} {
		end := (start>>48 + 1) << 48
		now := end - 120*ms
		var tables [2]*fresh.Table
		for i := range tables {
			x, err := fresh.New(c, now-100*ms, 0, func() int64 { return 0 })
			if err != nil {
				t.Fatal(err)
			}
			defer x.Free()
			tables[i] = x
		}
		Twins(tables[0], tables[1])
		open := func(tsc uint64, want fresh.Verdict, what string) {
			t.Helper()
			x, _, _ := begin(tables[0], tables[1], now)
			if !x.isC {
				t.Fatalf("%d bits, %s: left to Go", bits, what)
			}
			a, b := tables[0].Check(&x.g, tsc), x.c.Check(tables[1], tsc)
			if a == fresh.Fresh && b == fresh.Fresh {
				a, b = tables[0].Commit(&x.g, key(7), tsc, tsc), x.c.Commit(tables[1], tables[1].Hash(key(7)), tsc, tsc, false)
			}
			tables[0].End(&x.g)
			x.c.End(tables[1])
			if a != want || b != want {
				t.Fatalf("%d bits, %d ms from the epoch's end, %s, TSC %#x: Go says %d, C %d, want %d", bits, int64(now-end)/int64(ms), what, tsc, a, b, want)
			}
		}
		engines := []uint64{0, 1, 1<<bits - 1}
		if bits == 0 {
			engines = engines[:1]
		}
		var all []uint64
		epochs := map[uint64]int{}
		for ; now < end+120*ms; now += ms {
			for _, e := range engines {
				tsc := now>>bits<<bits | e // the counter that a sender takes now
				open(tsc, fresh.Fresh, "a packet of now")
				open(tsc, fresh.Duplicate, "again")
				all = append(all, tsc)
				epochs[tsc>>48]++
			}
			open((now-51*ms)>>bits<<bits, fresh.Stale, "too old")
			open((now+22*ms)>>bits<<bits, fresh.Early, "too early")
			for _, old := range all {
				want := fresh.Duplicate
				if old+49*ms < now {
					want = fresh.Stale
				}
				if old+49*ms >= now || old+52*ms < now {
					open(old, want, "a replay")
				}
			}
		}
		if len(epochs) != 2 {
			t.Fatal(epochs)
		}
	}
}

// A search ends at the word itself and at words of other cycles: unused ones, and ones whose cycle
// differs in one bit.
func TestStops(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	wide := false
	for range 200_000 {
		word := (1+r.Uint64N(1<<16-1))<<48 | (1 + r.Uint64N(1<<48-1))
		var line [8]uint64
		want := uint(0)
		for i := range line {
			switch r.IntN(6) {
			case 0: // never used
			case 1:
				line[i] = word
			case 2:
				line[i] = word ^ 1<<r.IntN(64)
			case 3: // of another packet in this cycle, with a hash close to it
				line[i] = word ^ 1
			case 4:
				line[i] = word - 1<<48
			case 5:
				line[i] = word&^(1<<48-1) | r.Uint64N(1<<48)
			}
			if line[i] == word || line[i]>>48 != word>>48 {
				want |= 1 << i
			}
		}
		if got := Stops(&line, word); got != want {
			t.Fatalf("%x in %x: stops %08b, want %08b", word, line, got, want)
		}
		if got, ok := WideStops(&line, word); ok && got != want {
			t.Fatalf("%x in %x, wide: stops %08b, want %08b", word, line, got, want)
		} else {
			wide = ok
		}
	}
	if !wide {
		testrun.Skip(t, "no AVX-512")
	}
}
