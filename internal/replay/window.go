package replay

import (
	"math/bits"
	"sync/atomic"
	"unsafe"
)

// A window belongs to one context. It has the highest sequence number that was committed
// (top), and a ring of n = width/16+1 words that say which of the last ones were. A word
// is about a block of 16 sequence numbers: the low 48 bits of the block's number, and a
// bit for each number that was committed. The word's place is the block's number modulo
// n. The last width sequence numbers are in at most n blocks, so no two blocks of a
// window have the same place. A free word is 0: block 0 without a bit.
//
// Why commit returns Fresh only once for a number. Words change by compare-and-swap, in
// two ways: a block gets one more bit, or a later block replaces it. An earlier block
// never replaces a later one: the thread that wrote a bit of the later block had raised
// top to it before. So top, which is loaded after the word, is not below the word's
// block. If this block were later than seq's, it would be at least n blocks later, so
// top would be above seq by more than width, and seq would be Old. Hence a word never
// has the same value twice, a successful swap has seen all bits, and a bit goes only
// together with its block, for good. Nothing is lost then: top is n blocks further, so
// the whole block is below the window. (It does not matter if top moves between its load
// and the swap: then a packet is Fresh that has just become too old.)
//
// Only the low 48 bits of a block's number are kept. So a word that is older by an exact
// multiple of 2^48*n blocks (n is odd) seems to be the block's own. After a jump by such
// a multiple of 2^52*n sequence numbers, at least 5*2^52, without packets for this place
// in between, a new packet is called Duplicate. That is the safe side, and impossible
// where n is 4097.
//
// Sequence numbers are compared by their difference to a top that is not below them, so
// nothing overflows at 2^64.
//
// A window begins at a cache line, which has what almost all keys differ in, and top. So
// a packet touches two lines: this one, and that of its word. The rest of the key's Addr
// is behind the words.
type window struct {
	who  [4]uint64 // of the key; it and the addresses do not change while the index has the window
	addr [2]uint64
	top  atomic.Uint64
	// the words, and the other half of Addr
}

const (
	blockLog2 = 4
	blockBits = 1 << blockLog2
	tagShift  = 16
	wordsAt   = unsafe.Sizeof(window{})
)

// more returns the place of the second half of the key's Addr.
func (w *window) more(r *ring) *[2]uint64 {
	return (*[2]uint64)(unsafe.Pointer(w.word(r.n)))
}

func (w *window) setKey(r *ring, k *Key) {
	x := (*octets)(unsafe.Pointer(k))
	copy(w.who[:], x[:4])
	copy(w.addr[:], x[4:6])
	copy(w.more(r)[:], x[6:])
}

// is reports whether the window belongs to k.
func (w *window) is(r *ring, k *octets) bool {
	x, y, z := &w.who, &w.addr, w.more(r)
	// ^ and | have one precedence in Go.
	return (x[0]^k[0])|(x[1]^k[1])|(x[2]^k[2])|(x[3]^k[3])|(y[0]^k[4])|(y[1]^k[5])|(z[0]^k[6])|(z[1]^k[7]) == 0
}

// key returns the window's key.
func (w *window) key(r *ring) (k octets) {
	copy(k[:], w.who[:])
	copy(k[4:], w.addr[:])
	copy(k[6:], w.more(r)[:])
	return k
}

// ring is common to all windows of a table.
type ring struct {
	width uint64
	n     uint64 // words
	recip uint64 // floor(2^(64+shift) / n) + 1
	shift uint64
}

func newRing(width uint64) ring {
	r := ring{width: width, n: width/blockBits + 1}
	// n is odd, so 2^shift < n < 2^(shift+1). The reciprocal fits in 64 bits, and is too
	// large by at most 1. For blocks below 2^63 the error of the product, in units of
	// 2^-(64+shift), is then less than 1/n, and the quotient is exact.
	r.shift = uint64(bits.Len64(r.n) - 1)
	q, _ := bits.Div64(1<<r.shift, 0, r.n)
	r.recip = q + 1
	return r
}

// wordAt returns block modulo n, for blocks below 2^60.
func (r *ring) wordAt(block uint64) uint64 {
	q, _ := bits.Mul64(block, r.recip)
	return block - q>>r.shift*r.n
}

func (w *window) word(slot uint64) *atomic.Uint64 {
	return (*atomic.Uint64)(unsafe.Add(unsafe.Pointer(w), wordsAt+uintptr(slot)*8))
}

// clear empties the window. No other thread may know it.
func (w *window) clear(r *ring) {
	w.top.Store(0)
	clear(unsafe.Slice((*uint64)(unsafe.Pointer(w.word(0))), r.n))
}

// check returns what commit would return now. Another thread may still commit the same
// number.
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
	// A number that raises top is neither a duplicate nor old: no number above top was
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
