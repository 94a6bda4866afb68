package keys

import (
	"encoding/binary"
	"runtime"
	"slices"
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

	empty = 0
	busy  = ^uint64(0) // whoever made it so, changes the entry
	gone  = -1 << 62   // of Cache.visitors
)

// Cache holds keys that one worker derived, in locked memory: to derive a key
// again costs more than to encrypt a packet with it. It outlives bursts. One
// goroutine at a time uses it, while Forget may come from any.
type Cache struct {
	scratch  *hkdf.Scratch
	entries  *cacheTable
	kept     [cacheSets]uint8 // the way whose key an authentic packet had last; the other one is replaced
	derived  uint64           // keys that were not there
	visitors atomic.Int64     // calls of Forget at work in room, or gone
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

// NewCache allocates a cache, which Forget then reaches.
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
	list := append(slices.Clone(allCaches()), c)
	caches.Store(&list)
}

func (c *Cache) unregister() {
	cachesMu.Lock()
	defer cachesMu.Unlock()
	list := slices.DeleteFunc(slices.Clone(allCaches()), func(x *Cache) bool { return x == c })
	caches.Store(&list)
	// A Forget that still has the old list finds it gone, or is waited for.
	for !c.visitors.CompareAndSwap(0, gone) {
		runtime.Gosched()
	}
}

// Close wipes the cache and gives its memory back.
func (c *Cache) Close() {
	c.unregister()
	secmem.Delete(c.entries)
	c.scratch.Free()
	c.entries = nil
}

// Fetch has n octets at dst, at most MaxCached, of what e expands info to, which
// is the two octets of a big-endian number. dst is in locked memory. e lives
// until the burst ends (Reader.Enter). Where a key is put in another's place, that
// is not the one that Keep was called for last: a packet that is to be opened
// may be forged, and such ones shall not drive out the keys of those that are not.
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
		return // it is being forgotten; this key is for the next time
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

// Keep marks a fetched key as that of an authentic packet.
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

// Forget wipes the keys of an expander in all caches. It is called when no
// burst is left that may use it (Retire); others may be running, and it waits
// for none.
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
