package generic

import (
	"encoding/binary"
	"math/bits"
)

// GHASH (NIST SP 800-38D) without tables. An element is two words, read
// big-endian: hi has the coefficients of x^0 to x^63, x^0 in its top bit.
type element struct{ hi, lo uint64 }

func read(b []byte) element {
	return element{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}
}

// clmul multiplies polynomials over GF(2) by integer multiplication of numbers in which
// only every fourth bit may be set. At most 15 products then fall in one place, and their
// sum fits in the four bits that there are before the next. So it handles the low 60 bits
// of both; their high four bits are added by shifting.
func clmul(x, y uint64) (hi, lo uint64) {
	const every = 0x0111111111111111
	x0, x1, x2, x3 := x&every, x&(every<<1), x&(every<<2), x&(every<<3)
	y0, y1, y2, y3 := y&every, y&(every<<1), y&(every<<2), y&(every<<3)
	var h, l uint64

	ha, la := bits.Mul64(x0, y0)
	hb, lb := bits.Mul64(x1, y3)
	hc, lc := bits.Mul64(x2, y2)
	hd, ld := bits.Mul64(x3, y1)
	h, l = (ha^hb^hc^hd)&0x1111111111111111, (la^lb^lc^ld)&0x1111111111111111

	ha, la = bits.Mul64(x0, y1)
	hb, lb = bits.Mul64(x1, y0)
	hc, lc = bits.Mul64(x2, y3)
	hd, ld = bits.Mul64(x3, y2)
	h, l = h|(ha^hb^hc^hd)&0x2222222222222222, l|(la^lb^lc^ld)&0x2222222222222222

	ha, la = bits.Mul64(x0, y2)
	hb, lb = bits.Mul64(x1, y1)
	hc, lc = bits.Mul64(x2, y0)
	hd, ld = bits.Mul64(x3, y3)
	h, l = h|(ha^hb^hc^hd)&0x4444444444444444, l|(la^lb^lc^ld)&0x4444444444444444

	ha, la = bits.Mul64(x0, y3)
	hb, lb = bits.Mul64(x1, y2)
	hc, lc = bits.Mul64(x2, y1)
	hd, ld = bits.Mul64(x3, y0)
	h, l = h|(ha^hb^hc^hd)&0x8888888888888888, l|(la^lb^lc^ld)&0x8888888888888888

	low := x & (1<<60 - 1)
	for i := range uint(4) {
		m := -(x >> (60 + i) & 1) // the whole of y
		h ^= y >> (4 - i) & m
		l ^= y << (60 + i) & m
		m = -(y >> (60 + i) & 1) // the low 60 bits of x
		h ^= low >> (4 - i) & m
		l ^= low << (60 + i) & m
	}
	return h, l
}

// mul is e *= h modulo x^128 + x^7 + x^2 + x + 1.
func (e *element) mul(h *element) {
	v3, v2 := clmul(e.hi, h.hi)
	v1, v0 := clmul(e.lo, h.lo)
	mh, ml := clmul(e.hi^e.lo, h.hi^h.lo)
	mh, ml = mh^v3^v1, ml^v2^v0
	v2, v1 = v2^mh, v1^ml

	// The product of two reflected polynomials is shifted by one bit.
	v3 = v3<<1 | v2>>63
	v2 = v2<<1 | v1>>63
	v1 = v1<<1 | v0>>63
	v0 <<= 1

	v2 ^= v0 ^ v0>>1 ^ v0>>2 ^ v0>>7
	v1 ^= v0<<63 ^ v0<<62 ^ v0<<57
	v3 ^= v1 ^ v1>>1 ^ v1>>2 ^ v1>>7
	v2 ^= v1<<63 ^ v1<<62 ^ v1<<57
	e.hi, e.lo = v3, v2
}

// add hashes one block.
func (e *element) add(h *element, b []byte) {
	x := read(b)
	e.hi ^= x.hi
	e.lo ^= x.lo
	e.mul(h)
}

// update hashes b, zero-padded to whole blocks.
func (e *element) update(h *element, b []byte) {
	for len(b) >= 16 {
		e.add(h, b)
		b = b[16:]
	}
	if len(b) > 0 {
		var last [16]byte
		copy(last[:], b)
		e.add(h, last[:])
	}
}
