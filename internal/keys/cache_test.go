package keys

import (
	"bytes"
	stdhkdf "crypto/hkdf"
	"crypto/sha256"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"libeesp/internal/hkdf"
	"libeesp/internal/secmem"
)

func newCache(t testing.TB) *Cache {
	t.Helper()
	c, err := NewCache()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func prk(seed byte) []byte { return bytes.Repeat([]byte{seed}, 32) }

func newExpander(t testing.TB, seed byte) *hkdf.Expander {
	t.Helper()
	e, err := hkdf.NewExpander(hkdf.SHA256, prk(seed))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// derivedKey derives a key with the standard library.
func derivedKey(t testing.TB, seed byte, info uint16, n int) []byte {
	t.Helper()
	b, err := stdhkdf.Expand(sha256.New, prk(seed), string([]byte{byte(info >> 8), byte(info)}), n)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// fetch checks the key that Fetch returns, and whether it was derived (miss).
func (c *Cache) fetch(t *testing.T, e *hkdf.Expander, seed byte, info uint16, n int, miss bool) {
	t.Helper()
	var got [MaxCached + 1]byte
	before := c.derived
	c.Fetch(unsafe.Pointer(&got), e, info, n)
	if want := derivedKey(t, seed, info, n); !bytes.Equal(got[:n], want) || got[n] != 0 {
		t.Fatalf("key %d: %x, want %x", info, got[:n+1], want)
	}
	if (c.derived != before) != miss {
		t.Fatalf("key %d of %d octets was derived: %v", info, n, !miss)
	}
}

func (r *cacheTable) holds(key []byte) bool {
	return bytes.Contains(unsafe.Slice((*byte)(unsafe.Pointer(r)), unsafe.Sizeof(*r)), key)
}

func TestCache(t *testing.T) {
	c := newCache(t)
	a, b := newExpander(t, 1), newExpander(t, 2)
	defer a.Free()
	defer b.Free()
	for _, miss := range []bool{true, false} {
		for info := range uint16(100) {
			c.fetch(t, a, 1, 0xFF00+info, 36, miss)
			c.fetch(t, b, 2, 0xFF00+info, 36, miss)
		}
	}
	// A key of another length is another entry, although HKDF gives the same first octets.
	for _, n := range []int{0, 1, 20, MaxCached} {
		c.fetch(t, a, 1, 7, n, true)
		c.fetch(t, a, 1, 7, n, false)
	}
	// Keys with consecutive numbers all have room.
	for _, miss := range []bool{true, false} {
		for info := range uint16(cacheSets * cacheWays) {
			c.fetch(t, b, 2, info, 20, miss)
			c.Keep(b, info, 20)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("no panic for a key that is too long")
		}
	}()
	var room [MaxCached + 1]byte
	c.Fetch(unsafe.Pointer(&room), a, 1, len(room))
}

// A new key replaces the key of its set that Keep did not mark last, and all octets of that
// key are overwritten.
func TestCacheEviction(t *testing.T) {
	c := newCache(t)
	e := newExpander(t, 3)
	defer e.Free()
	const x, y, z = 5, 5 + cacheSets, 5 + 2*cacheSets // one set
	c.fetch(t, e, 3, x, 36, true)
	c.fetch(t, e, 3, y, 36, true)
	c.fetch(t, e, 3, x, 36, false)
	c.Keep(e, x, 36)
	if !c.entries.holds(derivedKey(t, 3, y, 36)) {
		t.Fatal("this test does not find what is there")
	}
	c.fetch(t, e, 3, z, 20, true) // for y
	if c.entries.holds(derivedKey(t, 3, y, 36)[20:]) {
		t.Fatal("the end of a longer key is left")
	}
	c.fetch(t, e, 3, x, 36, false)
	c.fetch(t, e, 3, z, 20, false)
	c.Keep(e, z, 20)
	c.fetch(t, e, 3, y, 36, true) // for x
	c.fetch(t, e, 3, z, 20, false)
	c.fetch(t, e, 3, y, 36, false)
	c.Keep(e, y, 36)
	c.Keep(e, x, 36)              // is not there
	c.fetch(t, e, 3, x, 36, true) // for z
	c.fetch(t, e, 3, y, 36, false)
}

// Any number of keys of forged packets replaces no key of an authentic packet.
func TestCacheKeeps(t *testing.T) {
	c := newCache(t)
	e, f := newExpander(t, 3), newExpander(t, 4)
	defer e.Free()
	defer f.Free()
	for info := range uint16(2000) { // first while the cache is empty
		c.fetch(t, f, 4, info, 36, true)
		c.fetch(t, f, 4, info, 36, false)
	}
	for info := range uint16(cacheSets) {
		c.fetch(t, e, 3, info, 36, true)
		c.Keep(e, info, 36)
	}
	for info := range uint16(3000) {
		c.fetch(t, f, 4, 10000+info, 36, true)
		c.fetch(t, f, 4, 10000+info, 36, false)
	}
	for info := range uint16(cacheSets) {
		c.fetch(t, e, 3, info, 36, false)
	}
}

func TestForget(t *testing.T) {
	c, other := newCache(t), newCache(t)
	e := []*hkdf.Expander{newExpander(t, 0), newExpander(t, 1), newExpander(t, 2)}
	each := func(f func(c *Cache, seed byte, info uint16)) {
		for info := range uint16(50) {
			for seed := range byte(3) {
				f(c, seed, info)
				f(other, seed, info)
			}
		}
	}
	each(func(c *Cache, seed byte, info uint16) { c.fetch(t, e[seed], seed, info, 36, true) })
	Forget(e[1].Serial())
	Forget(1 << 40) // no expander has this serial
	each(func(c *Cache, seed byte, info uint16) {
		key := derivedKey(t, seed, info, 36)
		if there := c.entries.holds(key[:16]) || c.entries.holds(key[16:32]); there == (seed == 1) {
			t.Fatalf("key %d of expander %d is in the cache: %v", info, seed, there)
		}
	})
	each(func(c *Cache, seed byte, info uint16) { c.fetch(t, e[seed], seed, info, 36, seed == 1) })
	for _, x := range e {
		Forget(x.Serial())
		x.Free()
	}
	for _, c := range []*Cache{c, other} {
		for i := range c.entries {
			for j := range c.entries[i] {
				if x := &c.entries[i][j]; x.serial.Load() != empty || x.key != [MaxCached]byte{} {
					t.Fatalf("entry %d, %d: serial %#x, key %x", i, j, x.serial.Load(), x.key)
				}
			}
		}
	}
}

// While another thread uses an entry, Fetch derives the key without it.
func TestFetchBesideForget(t *testing.T) {
	c := newCache(t)
	e := newExpander(t, 3)
	defer e.Free()
	c.fetch(t, e, 3, 0, 36, true)
	c.fetch(t, e, 3, cacheSets, 36, true)
	at := func() *[cacheWays]cacheEntry {
		for i := range c.entries {
			if c.entries[i][0].serial.Load() != empty {
				return &c.entries[i]
			}
		}
		panic("empty")
	}()
	for i := range at {
		at[i].serial.Store(busy)
	}
	before := *(*[unsafe.Sizeof(*at)]byte)(unsafe.Pointer(at))
	c.fetch(t, e, 3, 0, 36, true)
	c.fetch(t, e, 3, 2*cacheSets, 36, true)
	if *(*[unsafe.Sizeof(*at)]byte)(unsafe.Pointer(at)) != before {
		t.Fatal("an entry was changed that another thread had")
	}
}

func TestCacheClose(t *testing.T) {
	_, before := secmem.Stats()
	known := len(allCaches())
	keep, err := secmem.New[cacheTable]() // keeps the arena
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewCache()
	if err != nil {
		t.Fatal(err)
	}
	e := newExpander(t, 3)
	c.fetch(t, e, 3, 9, 36, true)
	if len(allCaches()) != known+1 {
		t.Fatalf("%d caches, %d before", len(allCaches()), known)
	}
	room := c.entries
	c.visitors.Add(1) // as Forget does
	done := make(chan bool)
	go func() {
		c.Close()
		close(done)
	}()
	select {
	case <-done:
		t.Fatal("memory is given back in which Forget is at work")
	case <-time.After(20 * time.Millisecond):
	}
	c.visitors.Add(-1)
	<-done
	if room.holds(derivedKey(t, 3, 9, 36)[:16]) { // dangling, but its pages are still there
		t.Fatal("not wiped")
	}
	if len(allCaches()) != known {
		t.Fatalf("%d caches, %d before", len(allCaches()), known)
	}
	Forget(e.Serial())
	if c.visitors.Load() != gone {
		t.Fatal("visitors")
	}
	e.Free()
	secmem.Delete(keep)
	if _, after := secmem.Stats(); after != before {
		t.Fatalf("%d allocations live, %d before", after, before)
	}
}

// onHeap puts the entries on the heap, where the race detector sees them.
func (c *Cache) onHeap(t *testing.T) {
	locked := c.entries
	c.entries = new(cacheTable)
	t.Cleanup(func() { c.entries = locked }) // before Close
}

// The owner replaces keys in one order while they are forgotten in the other.
func TestForgetWhatIsReplaced(t *testing.T) {
	c := newCache(t)
	c.onHeap(t)
	live, old := newExpander(t, 1), newExpander(t, 2)
	defer live.Free()
	defer old.Free()
	var want [100][]byte
	for i := range want {
		want[i] = derivedKey(t, 1, uint16(i), 36)
	}
	round, done := make(chan bool), make(chan bool)
	go func() {
		for range round {
			Forget(old.Serial())
			done <- true
		}
	}()
	defer close(round)
	var got [36]byte
	for range 1000 {
		for i := range want {
			c.Fetch(unsafe.Pointer(&got), old, uint16(i), 36)
			c.Fetch(unsafe.Pointer(&got), old, uint16(i+cacheSets), 36)
		}
		round <- true
		for i := len(want) - 1; i >= 0; i-- {
			if c.Fetch(unsafe.Pointer(&got), live, uint16(i), 36); !bytes.Equal(got[:], want[i]) {
				t.Fatalf("key %d: %x, want %x", i, got, want[i])
			}
		}
		<-done
		for i := range c.entries {
			for j := range c.entries[i] {
				x := &c.entries[i][j]
				if s := x.serial.Load(); s != empty && (s != live.Serial() || !bytes.Equal(x.key[:36], want[x.info])) ||
					s == empty && x.key != [MaxCached]byte{} {
					t.Fatalf("serial %#x, key %d: %x", s, x.info, x.key)
				}
			}
		}
	}
}

// Keys are retired while workers fetch other keys, and caches are made and closed.
func TestForgetAtTheSameTime(t *testing.T) {
	steady := newExpander(t, 1)
	defer steady.Free()
	var want [600][]byte
	for i := range want {
		want[i] = derivedKey(t, 1, uint16(i), 36)
	}
	var current atomic.Pointer[hkdf.Expander]
	current.Store(newExpander(t, 2))
	forgotten := sync.Map{}
	var stop atomic.Bool
	var workers, others sync.WaitGroup
	var bursts [3]atomic.Int64
	for seed := range uint64(len(bursts)) {
		c := newCache(t)
		c.onHeap(t)
		workers.Go(func() {
			r := NewReader()
			defer r.Close()
			rnd := rand.New(rand.NewPCG(seed, 1))
			var got [36]byte
			for !stop.Load() {
				r.Enter()
				e := current.Load()
				for range 32 {
					if i := rnd.IntN(len(want)); rnd.IntN(2) == 0 {
						c.Fetch(unsafe.Pointer(&got), e, uint16(i), 36)
					} else if c.Fetch(unsafe.Pointer(&got), steady, uint16(i), 36); !bytes.Equal(got[:], want[i]) {
						t.Errorf("key %d: %x, want %x", i, got, want[i])
					}
				}
				if _, bad := forgotten.Load(e.Serial()); bad {
					t.Error("forgotten during a burst")
				}
				r.Leave()
				bursts[seed].Add(1)
				runtime.Gosched()
			}
		})
	}
	others.Go(func() {
		for !stop.Load() {
			c, err := NewCache()
			if err != nil {
				t.Error(err)
				return
			}
			c.Close()
			runtime.Gosched()
		}
	})
	for i := range 300 {
		old := current.Swap(newExpander(t, byte(i)))
		Retire(func() {
			forgotten.Store(old.Serial(), true)
			Forget(old.Serial())
			old.Free()
		})
		for w := range bursts { // each worker sees some of them
			for at := bursts[w].Load(); bursts[w].Load() == at && !t.Failed(); {
				runtime.Gosched()
			}
		}
	}
	stop.Store(true)
	workers.Wait()
	others.Wait()
	last, left := current.Load(), 0
	for _, c := range allCaches() {
		for i := range c.entries {
			for j := range c.entries[i] {
				switch x := &c.entries[i][j]; x.serial.Load() {
				case steady.Serial(), last.Serial():
					left++
				case empty:
					if x.key != [MaxCached]byte{} {
						t.Fatalf("not wiped: %x", x.key)
					}
				default:
					t.Fatalf("left of serial %#x", x.serial.Load())
				}
			}
		}
	}
	if left == 0 {
		t.Fatal("nothing is left of keys that live")
	}
	Forget(last.Serial())
	last.Free()
}

func TestFetchAllocatesNothing(t *testing.T) {
	c := newCache(t)
	e := newExpander(t, 3)
	defer e.Free()
	dst, err := secmem.Alloc(36)
	if err != nil {
		t.Fatal(err)
	}
	defer secmem.Free(dst)
	var i uint16
	for name, step := range map[string]uint16{"miss": 1, "hit": 0} {
		i += 1000
		c.Fetch(unsafe.Pointer(&dst[0]), e, i, 36)
		before := c.derived
		if n := testing.AllocsPerRun(100, func() {
			i += step
			c.Fetch(unsafe.Pointer(&dst[0]), e, i, 36)
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
		if (c.derived != before) != (step != 0) {
			t.Errorf("%s: %d keys derived", name, c.derived-before)
		}
	}
	if n := testing.AllocsPerRun(10, func() { Forget(e.Serial()) }); n != 0 {
		t.Errorf("Forget: %v allocations", n)
	}
}

func BenchmarkCache(b *testing.B) {
	c := newCache(b)
	dst, err := secmem.Alloc(36)
	if err != nil {
		b.Fatal(err)
	}
	defer secmem.Free(dst)
	for name, h := range map[string]hkdf.Hash{"SHA256": hkdf.SHA256, "SHA384": hkdf.SHA384, "SHA512": hkdf.SHA512} {
		e, err := hkdf.NewExpander(h, make([]byte, h.Size()))
		if err != nil {
			b.Fatal(err)
		}
		fetch := func(mask uint16) func(*testing.B) {
			return func(b *testing.B) {
				b.ReportAllocs()
				for i := range b.N {
					c.Fetch(unsafe.Pointer(&dst[0]), e, uint16(i)&mask, 36)
				}
			}
		}
		b.Run("miss/"+name, fetch(0xFFFF))
		if h == hkdf.SHA256 {
			b.Run("hit/one", fetch(0))
			b.Run("hit/all", fetch(cacheSets*cacheWays-1))
			b.Run("forget", func(b *testing.B) {
				for range b.N {
					Forget(e.Serial())
				}
			})
		}
		e.Free()
	}
}
