package replay

import (
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"libeesp/internal/testrun"
)

type shared struct {
	next atomic.Uint64
	_    [64]byte
	ids  atomic.Uint64
}

func now(done func()) { done() }

// sweepAll is one Sweep of all places.
func (r *Table) sweepAll(alive func(*[16]byte) bool, retire func(done func())) {
	r.Sweep(r.Places(), math.MaxInt, 0, alive, retire)
}

func dead(*[16]byte) bool  { return false }
func alive(*[16]byte) bool { return true }

// verify checks the index: every chain is whole, no key has two entries, and no entry is
// hidden.
func (r *Table) verify(t testing.TB) (entries int) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := map[octets]bool{}
	numbers := map[uint32]bool{}
	for p := range r.index {
		e := r.index[p].Load()
		if e == 0 {
			continue
		}
		entries++
		w := r.window(e)
		k := w.key(&r.ring)
		if e == hidden || seen[k] || numbers[e&numberMask] {
			t.Fatalf("place %d: entry %#x, key %+v", p, e, k)
		}
		seen[k], numbers[e&numberMask] = true, true
		if got, at := r.probe(&k, r.hash(&k)); got != w || at != uint32(p) {
			t.Fatalf("place %d is not found", p)
		}
	}
	return entries
}

// Several threads commit the same numbers of several keys, all within the window. Each
// number is Fresh for one thread, whichever makes the window.
func TestOnce(t *testing.T) {
	onHeap(t)
	rounds := testrun.Rounds(8, 30, 30)
	for _, width := range []uint32{64, 1024} {
		for round := range rounds {
			const keys, threads = 7, 8
			r := newTable(t, width, keys)
			base := []uint64{0, 1 << 40, -uint64(width)}[round%3]
			fresh := make([]atomic.Int32, keys*int(width))
			var begin, end sync.WaitGroup
			begin.Add(1)
			for i := range threads {
				end.Add(1)
				go func() {
					defer end.Done()
					order := rand.Perm(keys * int(width))
					begin.Wait()
					for _, x := range order {
						k := key(1, uint64(x%keys))
						seq := base + uint64(x/keys)
						if i%2 == 0 {
							if v := r.Check(k, seq); v != Fresh && v != Duplicate {
								t.Error("Check:", v)
							}
						}
						switch v := r.Commit(k, seq); v {
						case Fresh:
							fresh[x].Add(1)
						case Duplicate:
						default:
							t.Error("Commit:", v)
						}
					}
				}()
			}
			begin.Done()
			end.Wait()
			for x := range fresh {
				if n := fresh[x].Load(); n != 1 {
					t.Fatalf("key %d, %#x: Fresh %d times", x%keys, base+uint64(x/keys), n)
				}
			}
			if r.verify(t) != keys {
				t.Fatal("windows:", r.verify(t))
			}
		}
	}
}

// The same while the window slides, in steps of all sizes. Each number is Fresh at most
// once, and the highest so far is Fresh for one thread.
func TestOnceSliding(t *testing.T) {
	onHeap(t)
	length := testrun.Rounds(8000, 30000, 30000)
	for _, width := range []uint32{64, 128, 1024} {
		const threads = 6
		r := newTable(t, width, 2)
		// Sometimes a jump over a whole window, in which all words are replaced.
		seqs := make([]uint64, length)
		at := uint64(0)
		for i := range seqs {
			seqs[i] = at
			at++
			if rand.IntN(20) == 0 {
				at += rand.Uint64N(3 * uint64(width))
			}
		}
		fresh := make([]atomic.Int32, length)
		var reached atomic.Int64
		var end sync.WaitGroup
		for range threads {
			end.Add(1)
			go func() {
				defer end.Done()
				k := key(1, 1)
				for {
					// All threads stay close to the fastest one.
					p := int(reached.Load())
					if p >= length {
						return
					}
					for range 4 {
						i := min(max(p+rand.IntN(int(width))-int(width)/2, 0), length-1)
						if i > p {
							i = p + rand.IntN(3)
						}
						i = min(i, length-1)
						if r.Commit(k, seqs[i]) == Fresh {
							fresh[i].Add(1)
						}
					}
					reached.Add(1)
				}
			}()
		}
		end.Wait()
		n := 0
		for i := range fresh {
			if c := fresh[i].Load(); c > 1 {
				t.Fatalf("width %d: %d Fresh %d times", width, seqs[i], c)
			} else if c == 1 {
				n++
			}
		}
		if n < length/4 {
			t.Errorf("width %d: %d of %d Fresh", width, n, length)
		}
	}
}

// Threads race for the first packet of many keys. No key gets two windows, and if there are
// fewer windows than keys, each window goes to one key.
func TestFirst(t *testing.T) {
	onHeap(t)
	const keys, threads = 600, 8
	for _, most := range []uint32{keys, 100} {
		r := newTable(t, 64, most)
		var fresh, full [keys]atomic.Int32
		var end sync.WaitGroup
		for range threads {
			end.Add(1)
			go func() {
				defer end.Done()
				for _, id := range rand.Perm(keys) {
					switch r.Commit(key(1, uint64(id)), 5) {
					case Fresh:
						fresh[id].Add(1)
					case Full:
						full[id].Add(1)
					}
				}
			}()
		}
		end.Wait()
		n := 0
		for id := range keys {
			c, f := fresh[id].Load(), full[id].Load()
			if c > 1 || c == 1 && f == threads || c == 0 && f != threads {
				t.Fatalf("key %d: Fresh %d times, Full %d times", id, c, f)
			}
			n += int(c)
		}
		if used, _ := r.Windows(); n != int(most) || used != n || r.verify(t) != n {
			t.Errorf("%d keys have a window, %d in use, of %d", n, used, most)
		}
	}
}

// A thread that finds the last window taken for its own key uses it.
func TestLastWindow(t *testing.T) {
	rounds := testrun.Rounds(2000, 10000, 10000)
	const threads = 3
	for _, give := range []bool{false, true} {
		r := newTable(t, 64, 1)
		for i := range rounds {
			if !give {
				r.Close()
				r = newTable(t, 64, 1)
			}
			k := key(1, uint64(i))
			var fresh, ready atomic.Int32
			var end sync.WaitGroup
			for range threads {
				end.Add(1)
				go func() {
					defer end.Done()
					for ready.Add(1); ready.Load() < threads; {
						runtime.Gosched()
					}
					for seq := range uint64(2) {
						if v := r.Check(k, seq); v != Fresh && v != Duplicate {
							t.Error("Check:", v)
						}
						switch v := r.Commit(k, seq); v {
						case Fresh:
							fresh.Add(1)
						case Duplicate:
						default:
							t.Error("Commit:", v)
						}
					}
				}()
			}
			end.Wait()
			if fresh.Load() != 2 || t.Failed() {
				t.Fatalf("round %d: Fresh %d times", i, fresh.Load())
			}
			if give {
				r.sweepAll(dead, now)
			}
		}
	}
}

func TestFull(t *testing.T) {
	r := newTable(t, 64, 3)
	for id := range uint64(3) {
		if v := r.Commit(key(byte(id), id), 10); v != Fresh {
			t.Fatal(v)
		}
	}
	other := key(9, 9)
	if c, v := r.Check(other, 1), r.Commit(other, 1); c != Full || v != Full {
		t.Fatal(c, v)
	}
	// Keys that have a window go on.
	for id := range uint64(3) {
		k := key(byte(id), id)
		if a, b, c := r.Commit(k, 11), r.Check(k, 10), r.Commit(k, 11); a != Fresh || b != Duplicate || c != Duplicate {
			t.Fatal(a, b, c)
		}
	}
	r.sweepAll(alive, func(func()) { t.Error("nothing was to be retired") })
	if v := r.Commit(other, 1); v != Full {
		t.Fatal(v)
	}
	var done func()
	r.sweepAll(func(m *[16]byte) bool { return m[0] != 1 }, func(f func()) {
		if done != nil {
			t.Error("retire was called twice")
		}
		done = f
	})
	// Removed from the index, and not free yet.
	if used, most := r.Windows(); used != 3 || most != 3 || r.verify(t) != 2 {
		t.Fatal(used, most)
	}
	if c, v := r.Check(other, 1), r.Commit(other, 1); c != Full || v != Full {
		t.Fatal(c, v)
	}
	done()
	if used, _ := r.Windows(); used != 2 {
		t.Fatal(used)
	}
	// The window that is used again has nothing of its first key.
	for _, x := range []struct {
		seq  uint64
		want Verdict
	}{{0, Fresh}, {10, Fresh}, {11, Fresh}, {0, Duplicate}, {12, Fresh}} {
		if c, v := r.Check(other, x.seq), r.Commit(other, x.seq); c != x.want || v != x.want {
			t.Fatalf("%d: %d, %d", x.seq, c, v)
		}
	}
	if c := r.Check(key(1, 1), 10); c != Full {
		t.Fatal(c)
	}
	if s := r.Stats(); s.Full != 6 || s.Made != 4 || s.GivenUp != 1 {
		t.Errorf("%+v", s)
	}
}

// A window that is used again has nothing of its first key, whose numbers were higher and
// filled every word.
func TestReuse(t *testing.T) {
	for _, width := range widths {
		r := newTable(t, width, 1)
		for i, base := range []uint64{1 << 50, 1 << 50, 1 << 30, 0, 1<<50 + 1} {
			k := key(1, uint64(i))
			for range 2 {
				o := newOracle(uint64(width))
				if i%2 == 0 {
					both(t, r, k, o, base) // top at first
				}
				for s := base; s < base+2*uint64(width)+16; s++ {
					both(t, r, k, o, s)
				}
				r.sweepAll(dead, now)
			}
		}
	}
}

// Contexts come and go in a table that is sometimes full. Chains stay whole, and the index
// has no more entries than windows.
func TestChurn(t *testing.T) {
	rounds := testrun.Rounds(60, 400, 400)
	for _, most := range []uint32{1, 2, 5, 64, 3000} {
		r := newTable(t, 64, most)
		live := map[byte]map[uint64]bool{}
		count := 0
		var pending []func()
		for range rounds {
			for range rand.IntN(int(most)/4 + 2) {
				m, id := byte(rand.IntN(20)), rand.Uint64N(1<<40)
				switch v := r.Commit(key(m, id), 3); {
				case v == Fresh:
					if live[m] == nil {
						live[m] = map[uint64]bool{}
					}
					live[m][id] = true
					count++
				case v != Full:
					t.Fatal(v)
				case len(pending) == 0 && count != int(most):
					t.Fatalf("full with %d of %d", count, most)
				}
			}
			if rand.IntN(3) == 0 {
				m := byte(rand.IntN(20))
				r.sweepAll(func(x *[16]byte) bool { return x[0] != m }, func(done func()) { pending = append(pending, done) })
				count -= len(live[m])
				delete(live, m)
			}
			if rand.IntN(3) == 0 {
				rand.Shuffle(len(pending), func(i, j int) { pending[i], pending[j] = pending[j], pending[i] })
				for _, done := range pending {
					done()
				}
				pending = nil
				if used, _ := r.Windows(); used != count {
					t.Fatalf("%d windows in use, %d are alive", used, count)
				}
			}
			if n := r.verify(t); n != count {
				t.Fatalf("%d entries, %d are alive", n, count)
			}
		}
		for m, ids := range live {
			for id := range ids {
				if a, b := r.Check(key(m, id), 3), r.Commit(key(m, id), 3); a != Duplicate || b != Duplicate {
					t.Fatalf("forgotten: %d, %d", a, b)
				}
			}
		}
		r.sweepAll(dead, now)
		for _, done := range pending {
			done()
		}
		if used, _ := r.Windows(); used != 0 || r.verify(t) != 0 {
			t.Fatal(used)
		}
	}
}

// Sweeps in small parts, among packets of new contexts, free all windows of a dead key, and no other.
func TestSweepInParts(t *testing.T) {
	rounds := testrun.Rounds(20, 200, 200)
	const keys, most = 700, 1500
	r := newTable(t, 64, most)
	for round := range rounds {
		m := byte(round)
		for id := range uint64(keys) {
			if v := r.Commit(key(m, id), 1); v != Fresh {
				t.Fatal(v)
			}
		}
		isAlive := func(x *[16]byte) bool { return x[0] == m }
		calls, fresh := 0, uint64(keys)
		for left := r.Places(); left > 0; calls++ {
			n := r.Sweep(left, 1+rand.IntN(3*sweepLook), rand.IntN(50), isAlive, now)
			if n > 3*sweepLook {
				t.Fatalf("%d places at a time", n)
			}
			left -= n
			if calls%20 == 0 && fresh < keys+50 {
				if v := r.Commit(key(m, fresh), 1); v != Fresh {
					t.Fatal(v)
				}
				fresh++
			}
		}
		if n := r.verify(t); n != int(fresh) || calls < 100 {
			t.Fatalf("%d windows, not %d, after %d calls", n, fresh, calls)
		}
		for id := range fresh {
			if v := r.Check(key(m, id), 1); v != Duplicate {
				t.Fatal(v)
			}
		}
	}
}

// All entries are in one chain, across the end of the index.
func TestOneChain(t *testing.T) {
	r := newTable(t, 64, 8)
	var ids []uint64
	for id := uint64(0); len(ids) < 8; id++ {
		k := *(*octets)(ptr(key(byte(len(ids)), id)))
		if h := r.hash(&k) & r.mask; h == r.mask-2 || h == r.mask {
			ids = append(ids, id)
		}
	}
	for range 50 {
		for m, id := range ids {
			if v := r.Commit(key(byte(m), id), 1); v != Fresh {
				t.Fatal(v)
			}
		}
		left := 8
		for _, m := range rand.Perm(8) {
			r.sweepAll(func(x *[16]byte) bool { return x[0] != byte(m) }, now)
			if left--; r.verify(t) != left {
				t.Fatal("left:", r.verify(t), left)
			}
			if v := r.Check(key(byte(m), ids[m]), 1); v != Fresh {
				t.Fatal(v)
			}
		}
	}
}

// If a master key comes back while its entries are hidden, it keeps its windows. A thread
// that looks for them meanwhile waits.
func TestRevived(t *testing.T) {
	r := newTable(t, 64, 1)
	k := key(1, 1)
	x := (*octets)(ptr(k))
	for r.hash(x)>>55 != 1<<9-1 { // like that of a hidden entry
		k.ID++
	}
	r.Commit(k, 1)
	asked := 0
	verdicts := make(chan Verdict, 2)
	r.sweepAll(func(*[16]byte) bool {
		if asked++; asked == 2 {
			if w, _ := r.probe(x, r.hash(x)); w != nil {
				t.Error("the window can be found")
			}
			go func() { verdicts <- r.Check(k, 1); verdicts <- r.Commit(k, 1) }()
			time.Sleep(10 * time.Millisecond)
		}
		return asked == 2
	}, func(func()) { t.Error("retired") })
	if a, b := <-verdicts, <-verdicts; asked != 2 || a != Duplicate || b != Duplicate {
		t.Fatal(asked, a, b)
	}
}

// A retirement may end after the table was closed.
func TestLateRetirement(t *testing.T) {
	r := newTable(t, 64, 4)
	r.Commit(key(1, 1), 1)
	var late func()
	r.sweepAll(dead, func(done func()) { late = done })
	r.Close()
	late()
	if s := r.Stats(); s.Made != 1 || s.GivenUp != 1 || r.Width() != 64 {
		t.Errorf("%+v", s)
	}
}

// Threads run bursts with the current master keys, while these are replaced, windows are
// swept and retired, and the table is sometimes full. A number of a key is Fresh at most
// once in the life of a master key, and exactly once if the table was not full.
func TestSweepUnderTraffic(t *testing.T) {
	onHeap(t)
	lives := testrun.Rounds(40, 150, 150)
	const threads, ids, seqs, width = 4, 12, 64, 64
	for _, most := range []uint32{4 * ids, ids + 5} {
		r := newTable(t, width, most)
		type life struct {
			master byte
			fresh  [ids * seqs]atomic.Int32
			full   [ids * seqs]atomic.Int32
			tries  [ids * seqs]atomic.Int32
		}
		var (
			current atomic.Pointer[life]
			bursts  sync.RWMutex // read-locked by bursts; locked to wait for their end
			exists  [8]atomic.Bool
			stop    atomic.Bool
			done    atomic.Int64 // bursts
			end     sync.WaitGroup
			late    sync.WaitGroup
		)
		grace := func() {
			bursts.Lock()
			//lint:ignore SA2001 who began before has left
			bursts.Unlock()
		}
		retire := func(done func()) {
			late.Add(1)
			go func() { grace(); done(); late.Done() }()
		}
		isAlive := func(m *[16]byte) bool { return exists[m[0]].Load() }
		all := make([]*life, lives)
		for i := range all {
			all[i] = &life{master: byte(i % 3)} // keys come again
		}
		exists[all[0].master].Store(true)
		current.Store(all[0])
		for range threads {
			end.Add(1)
			go func() {
				defer end.Done()
				for !stop.Load() {
					bursts.RLock()
					l := current.Load()
					sweep := false
					for range 64 {
						x := rand.IntN(ids * seqs)
						k, seq := key(l.master, uint64(x%ids)), uint64(x/ids)
						l.tries[x].Add(1)
						r.Check(k, seq)
						switch r.Commit(k, seq) {
						case Fresh:
							l.fresh[x].Add(1)
						case Full:
							l.full[x].Add(1)
							sweep = true
						case Old:
							t.Error("Old")
						}
					}
					if sweep {
						r.sweepAll(isAlive, retire)
					}
					done.Add(1) // in the life in which it began
					bursts.RUnlock()
					runtime.Gosched()
				}
			}()
		}
		for i := 1; i < lives; i++ {
			for n := done.Load() + int64(1+rand.IntN(40)); done.Load() < n; { // each life sees some
				runtime.Gosched()
			}
			old := all[i-1]
			exists[all[i].master].Store(true)
			current.Store(all[i])
			grace() // the old key is wiped when no burst uses it
			exists[old.master].Store(false)
			r.sweepAll(isAlive, retire)
		}
		stop.Store(true)
		end.Wait()
		late.Wait()
		r.verify(t)
		n := 0
		for i, l := range all {
			for x := range l.fresh {
				f := l.fresh[x].Load()
				if f > 1 || f == 0 && l.tries[x].Load() > l.full[x].Load() {
					t.Fatalf("life %d, %d: Fresh %d times, Full %d, of %d", i, x, f, l.full[x].Load(), l.tries[x].Load())
				}
				n += int(f)
			}
		}
		s := r.Stats()
		t.Logf("%d Fresh, %+v", n, s)
		if s.GivenUp == 0 || s.Duplicate == 0 {
			t.Errorf("%+v", s)
		}
		exists[all[lives-1].master].Store(false)
		r.sweepAll(isAlive, now)
		if used, _ := r.Windows(); used != 0 {
			t.Error(used, "windows left")
		}
	}
}

// While entries move, a context with a window never gets the verdict Full, nor a second
// window.
func TestFoundWhileMoving(t *testing.T) {
	onHeap(t)
	rounds := testrun.Rounds(500, 3000, 3000)
	const most = 32
	r := newTable(t, 64, most)
	for id := range uint64(most / 2) {
		r.Commit(key(0, id), 1)
	}
	var bursts sync.RWMutex
	var stop atomic.Bool
	var end sync.WaitGroup
	for range 3 {
		end.Add(1)
		go func() {
			defer end.Done()
			for !stop.Load() {
				bursts.RLock()
				for id := range uint64(most / 2) {
					if a, b := r.Check(key(0, id), 1), r.Commit(key(0, id), 1); (a != Duplicate && a != Fresh) || b != Duplicate {
						t.Error(a, b)
					}
				}
				bursts.RUnlock()
				runtime.Gosched()
			}
		}()
	}
	for i := range rounds {
		for id := range uint64(most) {
			r.Commit(key(1, uint64(i)<<8|id), 1)
		}
		r.sweepAll(func(m *[16]byte) bool { return m[0] == 0 }, func(done func()) {
			for range 3 { // full meanwhile
				runtime.Gosched()
			}
			bursts.Lock()
			done()
			bursts.Unlock()
		})
	}
	stop.Store(true)
	end.Wait()
	if s := r.Stats(); r.verify(t) != most/2 || s.GivenUp != uint64(rounds)*most/2 {
		t.Errorf("%d entries, %+v", r.verify(t), s)
	}
}

func ptr(k *Key) unsafe.Pointer { return unsafe.Pointer(k) }
