// Package replay is replay protection by windows: a sliding window for each
// context, as in RFC 6479, shared by all threads of a receiver. Functions that
// are called once per packet take no lock and allocate nothing.
package replay

import (
	"math"
	"math/bits"
	"sync"
	"sync/atomic"
	"unsafe"

	"libeesp/internal/say"
	"libeesp/internal/status"
)

// Key names a window: the key and the sender of its packets. Keys are compared as a
// whole. Nothing in it is secret.
type Key struct {
	Master [16]byte // name of the master key or data key
	ID     uint64
	Epoch  uint16 // 0 where a window spans epochs
	Kind   uint16 // other fields that tell contexts apart
	Engine uint32
	Addr   [32]byte
}

type octets = [8]uint64 // a Key, to hash and compare

// Config describes a Table.
type Config struct {
	Width   uint32 // sequence numbers of a window: MinWidth to MaxWidth, rounded up to a multiple of 64
	Windows uint32 // the most windows; 0 = DefaultWindows
}

// Bounds of a Config.
const (
	MinWidth       = 64
	MaxWidth       = 65536
	DefaultWindows = 4096
	MaxWindows     = 1 << 22
	MaxMemory      = 4 << 30
)

// Verdict is the outcome of Check and Commit.
type Verdict uint8

// The verdicts.
const (
	Fresh     Verdict = iota
	Duplicate         // committed before
	Old               // below the window: it may have been committed before
	Full              // there is no window for this Key, and no room for one
)

// Stats counts verdicts other than Fresh, of Check and Commit together, and
// windows.
type Stats struct {
	Duplicate, Old, Full uint64
	Made, GivenUp        uint64
}

// Table is a set of windows of one width. Check, Commit, Sweep, Windows and
// Stats may be called at any time by any goroutine.
//
// The memory is one mapping, which the collector does not see: the index, the links of
// the free list, and the windows. Unused parts take address space only.
//
// The index is a hash table with linear probing, at most half full. An entry is 0,
// hidden, or the number of a window plus 1 with 9 bits of the hash above. There is no
// empty place between a key's place and its entry. The index is read without a lock, and
// changed under mu. When entries are removed, others move, so that probing stays short.
// A reader may miss an entry that moves, or a window that was taken and is not yet in the
// index. It sees that in moves, and looks again under mu.
type Table struct {
	View
	most  uint32
	index []atomic.Uint32
	links []uint32 // by window: the next one of the free list, plus 1

	moves atomic.Uint32 // odd while entries come or move
	used  atomic.Uint32 // windows that are not free

	made, givenUp atomic.Uint64

	sweeping sync.Mutex // one Sweep at a time; before mu
	at       uint32     // the place where the next Sweep begins; under sweeping
	mu       sync.Mutex // the index; before freeMu

	// freeMu is held only for a few instructions without calls, so that done (see Sweep)
	// may be called with any other lock held.
	freeMu sync.Mutex
	free   uint32 // the list's first window, plus 1
	next   uint32 // the first window that was never used
	memory []byte // nil: closed
}

// View is the part of a Table that the executor in C uses. C knows its layout
// (libeesp/plan.h) and does what hash, check and commit do.
type View struct {
	first   uintptr // of the index
	windows uintptr // the first one
	mask    uint64
	stride  uint64
	ring
	Seeds

	_ [56]byte // fields above are read by all threads and never written
	Sole

	duplicate, old, full atomic.Uint64
}

// Offsets in a View and in a window, for libeesp/layout.go.
const (
	SoleAt      = unsafe.Offsetof(View{}.Sole)
	BusyAt      = unsafe.Offsetof(Sole{}.busy)
	DuplicateAt = unsafe.Offsetof(View{}.duplicate)
	WordsAt     = wordsAt
	AddrAt      = unsafe.Offsetof(window{}.addr)
	TopAt       = unsafe.Offsetof(window{}.top)
)

const (
	numberBits = 23 // MaxWindows + 1 and hidden are different
	numberMask = 1<<numberBits - 1
	hidden     = 1<<32 - 1

	line      = 64
	moreBytes = 16   // of a key, behind the words
	sweepStep = 4096 // places of the index that Sweep looks at before it unlocks mu
	sweepLook = 16   // times as long as at a place does it take to look at a window, which is in no cache
)

func bad(f string, a ...any) error {
	return say.Errorf("%w: %s", status.ErrArgument, say.Sprintf(f, a...))
}

// New makes a table with all memory that it needs. The error is ErrArgument or
// ErrMemory.
func New(c Config) (*Table, error) {
	if c.Windows == 0 {
		c.Windows = DefaultWindows
	}
	switch {
	case c.Width < MinWidth || c.Width > MaxWidth:
		return nil, bad("replay window %d: from %d to %d", c.Width, MinWidth, MaxWidth)
	case c.Windows > MaxWindows:
		return nil, bad("%d replay windows: at most %d", c.Windows, MaxWindows)
	}
	t := &Table{View: View{ring: newRing(uint64(c.Width+63) &^ 63)}, most: c.Windows}
	size := uint64(2) << bits.Len32(c.Windows-1)
	t.mask = size - 1
	t.stride = uint64(wordsAt+uintptr(t.n)*8+moreBytes+line-1) &^ (line - 1)
	head := (4*(size+uint64(c.Windows)) + line - 1) &^ (line - 1)
	total := head + t.stride*uint64(c.Windows)
	if total > min(MaxMemory, math.MaxInt) {
		return nil, bad("%d replay windows of %d take %d MiB: at most %d", c.Windows, t.width, total>>20, MaxMemory>>20)
	}
	var err error
	if t.memory, err = reserve(int(total)); err != nil {
		return nil, err
	}
	p := unsafe.Pointer(&t.memory[0])
	t.index = unsafe.Slice((*atomic.Uint32)(p), size)
	t.links = unsafe.Slice((*uint32)(unsafe.Add(p, 4*size)), c.Windows)
	t.first, t.windows = uintptr(p), uintptr(p)+uintptr(head)
	t.Seeds = NewSeeds()
	return t, nil
}

// Close frees the memory. Check, Commit and Sweep must not be called after or during it.
// The function that Sweep passed to retire may.
func (t *Table) Close() {
	t.freeMu.Lock()
	defer t.freeMu.Unlock()
	if t.memory != nil {
		release(t.memory)
		t.memory, t.index, t.links, t.first, t.windows = nil, nil, nil, 0, 0
	}
}

// Width is the number of sequence numbers in a window.
func (t *Table) Width() uint32 { return uint32(t.width) }

// Windows returns how many windows are in use, or were freed and may still be read, and
// the most that there may be.
func (t *Table) Windows() (used, most int) { return int(t.used.Load()), int(t.most) }

// Stats returns the counts.
func (t *Table) Stats() Stats {
	return Stats{t.duplicate.Load(), t.old.Load(), t.full.Load(), t.made.Load(), t.givenUp.Load()}
}

// Check is called before a packet is authenticated. It changes no window. Fresh is not
// final: Commit decides. Check and Commit must be called between Reader.Enter and Leave,
// so that Sweep's retired windows are not reused meanwhile.
func (t *Table) Check(k *Key, seq uint64) Verdict { return t.count(t.Look(k, seq)) }

// Look is Check without counting.
func (t *Table) Look(k *Key, seq uint64) Verdict {
	w, full := t.lookup(k)
	switch {
	case w != nil:
		return w.check(&t.ring, seq)
	case full:
		return Full
	}
	return Fresh
}

// Commit is called for an authentic packet. It makes the window if there is none. It
// returns Fresh once for each k and seq, as long as the window exists. With any other
// verdict the packet must not be delivered.
func (t *Table) Commit(k *Key, seq uint64) Verdict {
	w, full := t.lookup(k)
	if w == nil {
		if !full {
			w = t.insert(k)
		}
		if w == nil {
			return t.count(Full)
		}
	}
	return t.count(w.commit(&t.ring, seq))
}

func (t *Table) count(v Verdict) Verdict {
	if v != Fresh {
		t.countSlow(v)
	}
	return v
}

//go:noinline
func (t *Table) countSlow(v Verdict) {
	switch v {
	case Duplicate:
		t.duplicate.Add(1)
	case Old:
		t.old.Add(1)
	default:
		t.full.Add(1)
	}
}

func (t *Table) window(entry uint32) *window {
	return (*window)(unsafe.Pointer(&t.memory[uint64(t.windows-t.first)+uint64(entry&numberMask-1)*t.stride]))
}

// probe returns k's window and its place in the index, or nil and the empty place at
// which the search ended.
func (t *Table) probe(k *octets, h uint64) (*window, uint32) {
	mask := uint32(t.mask)
	p := uint32(h) & mask
	for {
		e := t.index[p&mask].Load()
		if e == 0 {
			return nil, p
		}
		// A hidden entry may have the same 9 bits.
		if e>>numberBits == uint32(h>>(64-32+numberBits)) && e != hidden {
			if w := t.window(e); w.is(&t.ring, k) {
				return w, p
			}
		}
		p = (p + 1) & mask
	}
}

// lookup returns k's window, or nil. full says that there is none and no room for it,
// which is certain; otherwise insert makes sure.
func (t *Table) lookup(k *Key) (w *window, full bool) {
	full = t.used.Load() == t.most // before k is found missing
	moves := t.moves.Load()
	x := (*octets)(unsafe.Pointer(k))
	h := t.hash(x)
	w, _ = t.probe(x, h)
	if w == nil && full && (moves&1 != 0 || t.moves.Load() != moves) {
		t.mu.Lock()
		w, _ = t.probe(x, h)
		t.mu.Unlock()
	}
	return w, full
}

// Insert finds or makes k's window and returns its address. It returns 0, and counts
// that, if there is no room.
func (t *Table) Insert(k *Key) uintptr {
	w := t.insert(k)
	if w == nil {
		t.count(Full)
	}
	return uintptr(unsafe.Pointer(w))
}

// insert finds or makes k's window; nil: there is no room.
func (t *Table) insert(k *Key) *window {
	x := (*octets)(unsafe.Pointer(k))
	h := t.hash(x)
	t.mu.Lock()
	defer t.mu.Unlock()
	w, p := t.probe(x, h)
	if w != nil {
		return w
	}
	t.moves.Add(1) // before the window is taken
	defer t.moves.Add(1)
	entry, again := t.take()
	if entry == 0 {
		return nil
	}
	w = t.window(entry)
	w.setKey(&t.ring, k)
	if again {
		w.clear(&t.ring)
	}
	t.made.Add(1)
	t.index[p].Store(uint32(h>>(64-32+numberBits))<<numberBits | entry) // publishes the window
	return w
}

// take returns the number of a free window plus 1, and whether the window was used
// before; 0: none is free.
func (t *Table) take() (entry uint32, again bool) {
	t.freeMu.Lock()
	defer t.freeMu.Unlock()
	switch {
	case t.free != 0:
		entry, again = t.free, true
		t.free = t.links[entry-1]
	case t.next < t.most:
		t.next++
		entry = t.next
	default:
		return 0, false
	}
	t.used.Add(1)
	return entry, again
}

// give puts a list of windows on the free list. No thread may read them any more.
func (t *Table) give(first, last, count uint32) {
	t.freeMu.Lock()
	defer t.freeMu.Unlock()
	if t.memory == nil {
		return
	}
	t.links[last-1] = t.free
	t.free = first
	t.used.Add(-count)
}

// Sweep frees windows whose master key no longer exists. From then on they are not
// found. If there are any, Sweep calls retire once. retire must call done when no thread
// is left in a Check or Commit that began before; only then the windows are reused. So a
// thread between Reader.Enter and Leave cannot get them at once. done may be called with
// any lock held.
//
// A burst has not the time for all windows. Sweep looks at up to places places of the
// index, from where the last call ended, and returns how many it was. It ends earlier
// when it has used up effort: a place takes 1, a window sweepLook, and one that is freed
// each more.
//
// alive must return true for a master key as long as a thread may still commit a packet
// with it: until the key is wiped, not until it is replaced. Otherwise a late packet
// would get a new window, and be Fresh again. A master key may come back at any time;
// then alive must return true before a packet is committed with it. alive is called with
// mu held: it must not call the Table.
func (t *Table) Sweep(places, effort, each int, alive func(master *[16]byte) bool, retire func(done func())) (n int) {
	t.sweeping.Lock()
	master := new([16]byte)
	var first, last, count uint32 // of a list of windows
	// Entries move to places that were before them, from where the search for them comes,
	// but not to places before this one: none is missed.
	for places = min(places, len(t.index)); n < places && effort > 0; {
		t.mu.Lock()
		for end := min(n+sweepStep, places); n < end && effort > 0; {
			effort--
			if e := t.index[t.at].Load(); e != 0 {
				effort -= sweepLook
				*master = *(*[16]byte)(unsafe.Pointer(&t.window(e).who))
				if !alive(master) && t.remove(t.at, alive, master) {
					effort -= each
					t.links[e&numberMask-1] = first
					first = e & numberMask
					if count == 0 {
						last = first
					}
					count++
					continue // another entry may have moved to this place
				}
			}
			n++
			t.at = (t.at + 1) & uint32(t.mask)
		}
		t.mu.Unlock()
	}
	t.sweeping.Unlock()
	if count != 0 {
		t.givenUp.Add(uint64(count))
		retire(func() { t.give(first, last, count) })
	}
	return n
}

// Places returns the number of places of the index.
func (t *Table) Places() int { return len(t.index) }

// remove removes the entry at p from the index, unless its master key is alive again.
// It hides the entry first and then asks: a thread that gets the key after the answer
// must not find the old window.
func (t *Table) remove(p uint32, alive func(master *[16]byte) bool, master *[16]byte) bool {
	t.moves.Add(1)
	defer t.moves.Add(1)
	e := t.index[p].Swap(hidden)
	if alive(master) {
		t.index[p].Store(e)
		return false
	}
	// Following entries whose search passes the hole move into it, and leave a hole
	// themselves, up to the next empty place. Meanwhile an entry is in two places, never in
	// none.
	hole, mask := p, uint32(t.mask)
	for q := (p + 1) & mask; ; q = (q + 1) & mask {
		e := t.index[q].Load()
		if e == 0 {
			break
		}
		k := t.window(e).key(&t.ring)
		home := uint32(t.hash(&k))
		if (q-home)&mask >= (q-hole)&mask {
			t.index[hole].Store(e)
			hole = q
		}
	}
	t.index[hole].Store(0)
	return true
}
