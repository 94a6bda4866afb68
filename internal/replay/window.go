package replay

import (
	"math/bits"
	"sync/atomic"
	"unsafe"
)

// A window is one context's: the highest sequence number committed so far, and
// a ring of n = width/16+1 words that say which of the last ones were. A word
// is about a block of 16 sequence numbers: the low 48 bits of the block's
// number, and 16 bits, one for each that was committed. The block's number
// modulo n is its slot. The last width sequence numbers touch n blocks at
// most, so no two blocks of a window share a slot. A word of 0 is nobody's:
// block 0 without a bit.
//
// Why commit says Fresh once only. Words change by compare-and-swap, in two
// ways: a block gets one more bit, or gives way to a later block. The latter
// holds because a block is younger than its slot's new owner: whoever wrote a
// block's bit had raised top to it before. So top, loaded after the word, is
// not below the word's block; and were that block later than seq's, it would
// be later by n at least, top above seq by more than width, and seq Old. Hence
// a word never has a value twice, a swap that succeeds saw all bits there were,
// and a bit goes only with its block, for good. Being replaced loses nothing,
// as all of a block that gives way is below the window by then: top is n
// blocks on. (Whether top moves between its load and the swap does not matter;
// a packet may be Fresh that has just become too old.)
//
// Only the low 48 bits of a block's number are kept, so a word that is older
// by an exact multiple of 2^48*n blocks (n is odd) looks like its own. After a
// jump of that multiple of 2^52*n sequence numbers, 5*2^52 or more, with
// nothing in the slot since, a packet is called Duplicate that is none. That
// errs on the safe side, and cannot be where n is 4097.
//
// Sequence numbers are compared by differences to a top that is not below
// them, so nothing overflows at 2^64.
//
// The words are behind the part of the key that most keys are told apart by, so
// that a packet's check and commit touch few cache lines; the key's Addr is
// behind the words.
type window struct {
	who [4]uint64 // of the key; it does not change while the index has the window
	top atomic.Uint64
	// the words, and [4]uint64 of the key
}

const (
	blockLog2 = 4
	blockBits = 1 << blockLog2
	tagShift  = 16
	wordsAt   = unsafe.Sizeof(window{})
)

// addr is the rest of the key.
func (w *window) addr(r *ring) *[4]uint64 {
	return (*[4]uint64)(unsafe.Pointer(w.word(r.n)))
}

func (w *window) setKey(r *ring, k *Key) {
	x := (*octets)(unsafe.Pointer(k))
	copy(w.who[:], x[:4])
	copy(w.addr(r)[:], x[4:])
}

// is reports whether the window is k's.
func (w *window) is(r *ring, k *octets) bool {
	x, y := &w.who, w.addr(r)
	// ^ and | have one precedence in Go.
	return (x[0]^k[0])|(x[1]^k[1])|(x[2]^k[2])|(x[3]^k[3])|(y[0]^k[4])|(y[1]^k[5])|(y[2]^k[6])|(y[3]^k[7]) == 0
}

// key is the window's.
func (w *window) key(r *ring) (k octets) {
	copy(k[:], w.who[:])
	copy(k[4:], w.addr(r)[:])
	return k
}

// ring is what all windows of a table have in common.
type ring struct {
	width uint64
	n     uint64 // words
	recip uint64 // floor(2^(64+shift) / n) + 1
	shift uint64
}

func newRing(width uint64) ring {
	r := ring{width: width, n: width/blockBits + 1}
	// n is odd, so 2^shift < n < 2^(shift+1). The reciprocal fits, and is too
	// large by 1 at most: block times that, in units of 2^-(64+shift), is less
	// than 1/n for blocks below 2^63, and slot is exact.
	r.shift = uint64(bits.Len64(r.n) - 1)
	q, _ := bits.Div64(1<<r.shift, 0, r.n)
	r.recip = q + 1
	return r
}

// slot is block modulo n, for blocks below 2^60.
func (r *ring) wordAt(block uint64) uint64 {
	q, _ := bits.Mul64(block, r.recip)
	return block - q>>r.shift*r.n
}

func (w *window) word(slot uint64) *atomic.Uint64 {
	return (*atomic.Uint64)(unsafe.Add(unsafe.Pointer(w), wordsAt+uintptr(slot)*8))
}

// clear makes the window one that nothing was committed to. Nobody else may
// know of it.
func (w *window) clear(r *ring) {
	w.top.Store(0)
	clear(unsafe.Slice((*uint64)(unsafe.Pointer(w.word(0))), r.n))
}

// check is what commit would say, as far as that can be known.
func (w *window) check(r *ring, seq uint64) Verdict {
	t := w.top.Load()
	if seq > t {
		return Fresh
	}
	if t-seq >= r.width {
		return Old
	}
	block := seq >> blockLog2
	x := w.word(r.wordAt(block)).Load()
	if x>>tagShift == block<<tagShift>>tagShift && x>>(seq%blockBits)&1 != 0 {
		return Duplicate
	}
	return Fresh
}

func (w *window) commit(r *ring, seq uint64) Verdict {
	// What raises top is no duplicate and not old: nothing above top was
	// committed.
	for t := w.top.Load(); seq > t; t = w.top.Load() {
		if w.top.CompareAndSwap(t, seq) {
			break
		}
	}
	block := seq >> blockLog2
	bit := uint64(1) << (seq % blockBits)
	word := w.word(r.wordAt(block))
	for {
		x := word.Load() // before top
		if w.top.Load()-seq >= r.width {
			return Old
		}
		y := block<<tagShift | bit
		if (x^y)>>tagShift == 0 {
			if x&bit != 0 {
				return Duplicate
			}
			y |= x
		}
		if word.CompareAndSwap(x, y) {
			return Fresh
		}
	}
}
