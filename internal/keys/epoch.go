package keys

import (
	"sync"
	"sync/atomic"
	"unsafe"

	"libeesp/internal/barrier"
)

// Epochs say when keys may be wiped while bursts run. A worker announces the epoch at
// which its burst begins (Enter). A writer publishes new keys, then retires the old
// ones: they are wiped when no worker is left whose burst began before. Workers take
// no lock and write only a word of their own. The last one to leave after a retirement
// does the wiping.

var (
	now     atomic.Uint64 // the epoch; starts at 1
	waiting atomic.Int64  // objects that are retired and not wiped yet
	asked   atomic.Uint64 // calls of sweep so far

	readersMu sync.Mutex
	readers   atomic.Pointer[[]*Reader] // copy on write

	sweepMu sync.Mutex
	retired []retiree // under sweepMu
)

type retiree struct {
	epoch uint64
	wipe  func()
}

func init() {
	now.Store(1)
	readers.Store(new([]*Reader))
}

// Reader is one worker's announcement. It must not be copied or used by two
// goroutines at once.
type Reader struct {
	_      [64]byte // alone on its cache line
	active atomic.Uint64
	_      [56]byte
}

// NewReader registers a reader.
func NewReader() *Reader {
	r := new(Reader)
	readersMu.Lock()
	defer readersMu.Unlock()
	old := *readers.Load()
	list := append(make([]*Reader, 0, len(old)+1), old...)
	list = append(list, r)
	readers.Store(&list)
	return r
}

// Close unregisters the reader.
func (r *Reader) Close() {
	readersMu.Lock()
	defer readersMu.Unlock()
	var list []*Reader
	for _, x := range *readers.Load() {
		if x != r {
			list = append(list, x)
		}
	}
	readers.Store(&list)
}

// Enter begins a burst. Keys that are in force from now on are not wiped until Leave.
func (r *Reader) Enter() { r.active.Store(now.Load()) }

// Words returns the addresses of this reader's announcement, of the epoch and of the
// number of waiting objects. With them and Sweep, C does what Enter and Leave do, with plain
// stores where package barrier allows them.
func (r *Reader) Words() (active, epoch, wait unsafe.Pointer) {
	return unsafe.Pointer(&r.active), unsafe.Pointer(&now), unsafe.Pointer(&waiting)
}

// Sweep wipes retired objects that no burst uses any more.
func Sweep() { sweep() }

// Leave ends a burst, and wipes objects that waited for it.
func (r *Reader) Leave() {
	began := r.active.Load()
	r.active.Store(0)
	// Objects that were retired before the burst began do not wait for it.
	if began != now.Load() && waiting.Load() != 0 {
		sweep()
	}
}

// Retire calls wipe when no burst is left that began before this call; at once if
// there is none. The caller must have published the successor before.
func Retire(wipe func()) {
	e := now.Add(1)
	waiting.Add(1)
	sweepMu.Lock()
	retired = append(retired, retiree{e, wipe})
	sweepMu.Unlock()
	sweep()
}

// sweep uses TryLock and never blocks: the holder of the lock sees in asked that it
// must sweep once more.
func sweep() {
	asked.Add(1)
	for sweepMu.TryLock() {
		seen := asked.Load()
		oldest := ^uint64(0)
		if len(retired) != 0 {
			barrier.Threads() // what C has announced is seen below, or C sees the epoch and the number that wait
		}
		for _, r := range *readers.Load() {
			if a := r.active.Load(); a != 0 && a < oldest {
				oldest = a
			}
		}
		rest := retired[:0]
		for _, x := range retired {
			if oldest >= x.epoch {
				x.wipe()
				waiting.Add(-1)
			} else {
				rest = append(rest, x)
			}
		}
		clear(retired[len(rest):])
		retired = rest
		sweepMu.Unlock()
		if asked.Load() == seen {
			return
		}
	}
}

// Waiting returns how many retired objects are not wiped yet.
func Waiting() int { return int(waiting.Load()) }
