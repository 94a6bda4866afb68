// Package burst is the engine. It takes a burst of packets, prepares jobs, calls
// kernels for many packets at a time, and returns statuses. It knows no header
// format (package profile does) and no cipher (the kernels do).
package burst

import (
	"runtime"
	"sync/atomic"
	"unsafe"

	"libeesp/internal/counter"
	"libeesp/internal/fresh"
	"libeesp/internal/kernel"
	"libeesp/internal/keys"
	"libeesp/internal/profile"
	"libeesp/internal/secmem"
)

// MaxGroups is the most trust groups that a receiver may have.
const MaxGroups = 64

// maxLinear bounds the memory that chained packets are gathered in.
const (
	minLinear = 256 << 10
	maxLinear = profile.MaxLen + 4096
)

// secrets is what a worker holds in locked memory.
type secrets struct {
	msgs    [kernel.Chunk * profile.MaxPer * profile.MaxBlocks * 16]byte
	keys    [kernel.Chunk * profile.MaxPer * 16]byte
	derived [kernel.Chunk * profile.MaxPer * 16]byte
	masks   [kernel.Chunk][16]byte // of slots: what is added to their nonces
	area    [(kernel.Chunk/fewKeys + 3) &^ 3 * kernel.MaxKeyBytes]byte
	scratch [kernel.ScratchBytes]byte
}

// Worker is the scratch of one thread: nothing is allocated while bursts run.
// One goroutine at a time.
type Worker struct {
	pass    fresh.Pass // of the burst, by time
	number  uint64     // no other one ever has it
	reader  *keys.Reader
	sec     *secrets
	linear  []byte // locked; grows when chained packets come
	linearN int    // octets of linear in use by this chunk

	cache *keys.Cache // made for the first HKDF key

	used struct{ keys, derived, area, linear, masks int } // to be wiped

	n           int // lanes in use
	lanes       [kernel.Chunk]profile.Lane
	place       [kernel.Chunk]place
	ctx         [kernel.Chunk]profile.Context
	jobs        [kernel.Chunk]kernel.Job // of the lanes
	moved       [kernel.Chunk]kernel.Job // in order of length
	order       [kernel.Chunk]uint8
	from        [kernel.Chunk]int32 // see gatherAlike
	special     []uint8             // lanes of packets that are not plain
	sorted      bool                // jobs so far are in order of length
	longest     uint32              // length of the last of them
	uniq        [kernel.Chunk]uint8 // lane that slot i's key is derived for
	slot        [kernel.Chunk]uint8 // key slot of lane i
	aad         [kernel.Chunk][profile.MaxAAD]byte
	hdr         profile.Header
	counter     *counter.Owner       // of the burst that is being sealed
	sealing     profile.Sealing      // whose hdr is
	shape       profile.Shape        // of packets to open
	strange     int                  // derivations for strangers that the burst has left, -1: not known yet
	lastStrange uint64               // the last of them
	failures    int                  // how many of them came to nothing
	front       [kernel.Chunk]uint32 // octets in front of a payload that a proxy seals
	snaps       [MaxGroups]*keys.Snapshot
	tmp         [kernel.Chunk]profile.Desc // a proxy's sealing side
	orig        [kernel.Chunk]*profile.Desc
	room        runtime.Pinner
	outer       [kernel.Chunk]outer // IP and UDP headers of packets that are in tmp
	idle        struct {            // KeepWarm's packet
		pkt [1]profile.Desc
		buf [256]byte
	}
}

// place says where the octets of a lane are.
type place struct {
	src   unsafe.Pointer // payload to read
	body  unsafe.Pointer // payload to write
	tag   unsafe.Pointer
	copy  unsafe.Pointer // of the ciphertext, for a second try
	chain bool           // all of it is in linear memory; scatter at the end
	aside bool           // opened in linear memory; the payload goes to Dst at the end

	strange bool // see strangers
	mayKeep bool // the key, if the packet is authentic
}

var workers atomic.Uint64 // made so far

// NewWorker allocates a worker.
func NewWorker() (*Worker, error) {
	s, err := secmem.New[secrets]()
	if err != nil {
		return nil, err
	}
	return &Worker{number: workers.Add(1), sec: s, reader: keys.NewReader(), special: make([]uint8, 0, kernel.Chunk)}, nil
}

// Close wipes the worker and gives its memory back.
func (w *Worker) Close() {
	w.room.Unpin()
	w.reader.Close()
	secmem.Delete(w.sec)
	w.sec = nil
	if w.linear != nil {
		secmem.Free(w.linear)
		w.linear = nil
	}
	if w.cache != nil {
		w.cache.Close()
		w.cache = nil
	}
}

// Rest wipes what a worker keeps from burst to burst, for another thread to go on
// with the rest of it.
func (w *Worker) Rest() {
	w.room.Unpin()
	w.Scrub()
	if w.linear != nil {
		secmem.Free(w.linear)
		w.linear, w.used.linear = nil, 0
	}
	if w.cache != nil {
		w.cache.Close()
		w.cache = nil
	}
	clear(w.snaps[:])
}

func (w *Worker) enter() { w.reader.Enter() }

// leave wipes what the burst left in scratch, and says that it has ended.
// Deferred, so that a panic leaves nothing behind either.
func (w *Worker) leave() {
	s := w.sec
	secmem.Wipe(s.keys[:w.used.keys])
	if w.used.derived != 0 {
		secmem.Wipe(s.derived[:w.used.derived])
	}
	if w.used.area != 0 {
		secmem.Wipe(s.area[:w.used.area])
	}
	if w.used.linear != 0 {
		secmem.Wipe(w.linear[:w.used.linear])
	}
	for i := range s.masks[:w.used.masks] {
		secmem.Wipe(s.masks[i][:])
	}
	w.used.keys, w.used.derived, w.used.area, w.used.linear, w.used.masks = 0, 0, 0, 0, 0
	w.n, w.linearN = 0, 0
	w.reader.Leave()
}

// Scrub wipes all of the worker's locked memory, after a panic.
func (w *Worker) Scrub() {
	*w.sec = secrets{}
	secmem.Wipe(w.linear)
	w.hdr.Forget()
	w.shape.Forget()
}

// reserve returns n octets of linear memory, or nil if this chunk has no room
// for them; then the chunk ends here, and the next one has.
func (w *Worker) reserve(n int) (unsafe.Pointer, error) {
	n = (n + 63) &^ 63
	if w.linearN+n > len(w.linear) {
		if w.linearN != 0 {
			return nil, nil
		}
		size := max(minLinear, n)
		b, err := secmem.Alloc(size)
		if err != nil {
			return nil, err
		}
		if w.linear != nil {
			secmem.Free(w.linear)
			w.used.linear = 0
		}
		w.linear = b
	}
	p := unsafe.Pointer(&w.linear[w.linearN])
	w.linearN += n
	w.used.linear = max(w.used.linear, w.linearN)
	return p, nil
}

func add(p unsafe.Pointer, n uint32) unsafe.Pointer { return unsafe.Add(p, uintptr(n)) }

func octets(p unsafe.Pointer, n uint32) []byte { return unsafe.Slice((*byte)(p), n) }

// overlap reports whether two stretches of memory share an octet.
func overlap(a unsafe.Pointer, an uint32, b unsafe.Pointer, bn uint32) bool {
	return uintptr(a) < uintptr(b)+uintptr(bn) && uintptr(b) < uintptr(a)+uintptr(an)
}
