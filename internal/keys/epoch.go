package keys

import (
	"sync"
	"sync/atomic"
	"unsafe"
)

// Reclamation of key memory while bursts are running: a worker announces the
// epoch at which its burst began (Enter), a writer publishes new keys, then
// retires the old ones, which are wiped once no worker is left that began
// before. Readers take no lock and write only a word of their own; the last
// one to leave after a retirement does the wiping.

var (
	now     atomic.Uint64 // the epoch; starts at 1
	waiting atomic.Int64  // retired objects not yet wiped
	asked   atomic.Uint64 // sweeps asked for

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

// Enter begins a burst: key memory published now stays until Leave.
func (r *Reader) Enter() { r.active.Store(now.Load()) }

// Words are what Enter and Leave need to be done elsewhere, but for Sweep: where
// this reader's announcement is, the epoch, and how much is waiting.
func (r *Reader) Words() (active, epoch, wait unsafe.Pointer) {
	return unsafe.Pointer(&r.active), unsafe.Pointer(&now), unsafe.Pointer(&waiting)
}

// Sweep wipes what no burst uses any more.
func Sweep() { sweep() }

// Leave ends a burst, and wipes what was waiting for it.
func (r *Reader) Leave() {
	began := r.active.Load()
	r.active.Store(0)
	// What was retired before it began does not wait for this burst.
	if began != now.Load() && waiting.Load() != 0 {
		sweep()
	}
}

// Retire has wipe called once no burst is left that may use what it wipes,
// at once if there is none. The caller has published the successor before.
func Retire(wipe func()) {
	e := now.Add(1)
	waiting.Add(1)
	sweepMu.Lock()
	retired = append(retired, retiree{e, wipe})
	sweepMu.Unlock()
	sweep()
}

// sweep never blocks: whoever holds the lock sees that it was asked again.
func sweep() {
	asked.Add(1)
	for sweepMu.TryLock() {
		seen := asked.Load()
		oldest := ^uint64(0)
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

// Waiting is the number of retired objects whose last reader has not left.
func Waiting() int { return int(waiting.Load()) }
