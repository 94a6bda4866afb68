package keys

import (
	"encoding/binary"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"

	"libeesp/internal/hkdf"
	"libeesp/internal/secmem"
)

// MaxCached is the most octets of one key in a Cache.
const MaxCached = 40

const (
	cacheSets = 256
	cacheWays = 2

	// Values of cacheEntry.serial.
	empty = 0
	busy  = ^uint64(0) // a goroutine is changing the entry
	// gone is Cache.visitors of a closed cache.
	gone = -1 << 62
)

// Cache holds keys that HKDF derived for one worker, in locked memory: deriving a key
// costs more than encrypting a packet with it. It outlives bursts. One goroutine at a
// time may use it; Forget may be called by any.
type Cache struct {
	scratch  *hkdf.Scratch
	entries  *cacheTable
	kept     [cacheSets]uint8 // by set: the way that Keep marked last; the other one is replaced
	derived  uint64           // keys that Fetch derived
	visitors atomic.Int64     // calls of Forget that use entries, or gone
}

type cacheTable [cacheSets][cacheWays]cacheEntry

// cacheEntry fills a cache line. Only the owner writes info and n. key is owned
// by the goroutine that set serial to busy, otherwise by the owner while serial
// names a live expander.
type cacheEntry struct {
	serial atomic.Uint64 // of the expander; or empty, or busy
	info   uint16
	n      uint8
	_      [13]byte
	key    [MaxCached]byte
}

var (
	cachesMu sync.Mutex
	caches   atomic.Pointer[[]*Cache] // copy on write
)

// NewCache allocates a cache and makes it known to Forget. The error is ErrMemory.
func NewCache() (*Cache, error) {
	scratch, err := hkdf.NewScratch()
	if err != nil {
		return nil, err
	}
	room, err := secmem.New[cacheTable]()
	if err != nil {
		scratch.Free()
		return nil, err
	}
	c := &Cache{scratch: scratch, entries: room}
	c.register()
	return c, nil
}

func allCaches() []*Cache {
	if p := caches.Load(); p != nil {
		return *p
	}
	return nil
}

func (c *Cache) register() {
	cachesMu.Lock()
	defer cachesMu.Unlock()
	list := append(append([]*Cache(nil), allCaches()...), c)
	caches.Store(&list)
}

func (c *Cache) unregister() {
	cachesMu.Lock()
	defer cachesMu.Unlock()
	var list []*Cache
	for _, x := range allCaches() {
		if x != c {
			list = append(list, x)
		}
	}
	caches.Store(&list)
	// A Forget with the old list either sees gone, or this waits for it.
	for !c.visitors.CompareAndSwap(0, gone) {
		runtime.Gosched()
	}
}

// Close wipes the cache and frees its memory.
func (c *Cache) Close() {
	c.unregister()
	secmem.Delete(c.entries)
	c.scratch.Free()
	c.entries = nil
}

// Fetch writes n octets, at most MaxCached, to dst: the output of e for info, two
// octets in big-endian order. dst must be in locked memory, and e must live until the
// burst ends (Reader.Enter). A new key replaces the one of the set that Keep did not
// mark last. So forged packets, whose keys are not marked, do not replace the keys of
// authentic ones.
func (c *Cache) Fetch(dst unsafe.Pointer, e *hkdf.Expander, info uint16, n int) {
	out, serial := unsafe.Slice((*byte)(dst), n), e.Serial()
	at := setOf(serial, info)
	set := &c.entries[at]
	for i := range set {
		if x := &set[i]; x.serial.Load() == serial && x.info == info && int(x.n) == n {
			copy(out, x.key[:n])
			return
		}
	}
	if n > MaxCached {
		panic("keys: too long for the cache")
	}
	c.derived++
	var label [2]byte
	binary.BigEndian.PutUint16(label[:], info)
	e.Expand(out, label[:], c.scratch)
	way := c.kept[at] ^ 1
	if set[c.kept[at]].serial.Load() == empty {
		way = c.kept[at]
	}
	x := &set[way]
	if old := x.serial.Load(); old == busy || !x.serial.CompareAndSwap(old, busy) {
		return // Forget has the entry: this key is not cached now
	}
	x.info, x.n = info, uint8(n)
	clear(x.key[copy(x.key[:], out):])
	x.serial.Store(serial)
}

// Has reports whether Fetch finds a key.
func (c *Cache) Has(e *hkdf.Expander, info uint16, n int) bool {
	serial := e.Serial()
	set := &c.entries[setOf(serial, info)]
	for i := range set {
		if x := &set[i]; x.serial.Load() == serial && x.info == info && int(x.n) == n {
			return true
		}
	}
	return false
}

// Keep marks a fetched key, because an authentic packet had it or packets are sealed
// with it.
func (c *Cache) Keep(e *hkdf.Expander, info uint16, n int) {
	serial := e.Serial()
	at := setOf(serial, info)
	for i := range c.entries[at] {
		if x := &c.entries[at][i]; x.serial.Load() == serial && x.info == info && int(x.n) == n {
			c.kept[at] = uint8(i)
		}
	}
}

func setOf(serial uint64, info uint16) uint64 {
	return (uint64(info) + serial*0x9E3779B97F4A7C15>>32) % cacheSets
}

// Forget wipes the keys of an expander in all caches. It must be called when no burst
// may use the expander any more (Retire). It does not wait for bursts.
func Forget(serial uint64) {
	for _, c := range allCaches() {
		if c.visitors.Add(1) > 0 {
			c.forget(serial)
		}
		c.visitors.Add(-1)
	}
}

func (c *Cache) forget(serial uint64) {
	for i := range c.entries {
		for j := range c.entries[i] {
			x := &c.entries[i][j]
			if x.serial.Load() == serial && x.serial.CompareAndSwap(serial, busy) {
				secmem.Wipe(x.key[:])
				x.serial.Store(empty)
			}
		}
	}
}
