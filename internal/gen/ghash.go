package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
)

// GHASH of the blocks X1 to Xn (AAD, text, lengths) is
//
//	X1*H^n + X2*H^(n-1) + ... + Xn*H
//
// It is computed k blocks (columns, where each lane is a packet) at a time, from the
// sum S so far, with one reduction:
//
//	S = (S + X1)*H^k + X2*H^(k-1) + ... + Xk*H
//
// Octets of blocks are reversed when they are loaded. Bit i of a register then is
// the coefficient of x^i modulo the reversed polynomial
//
//	P = x^128 + p*x^64 + 1,   p = x^63 + x^62 + x^57 (0xc200000000000000)
//
// and a product in GHASH's sense is a*b*x^-127. With a = a1*x^64 + a0, b likewise,
// each of a1, a0, b1, b0 half a register,
//
//	a*b = hi*x^128 + mi*x^64 + lo,   hi = a1*b1, mi = a1*b0 + a0*b1, lo = a0*b0
//
// which are four multiplications; after Karatsuba three, since mi is
// (a1+a0)*(b1+b0) + hi + lo. In a square, mi is zero. Products are added up in these
// three parts. To reduce a sum, let
//
//	fold(c) = swap(c) + c0*p,   swap(c1*x^64 + c0) = c0*x^64 + c1
//
// c is fold(c)*x^64 modulo P (multiply out), so that
//
//	hi*x^128 + mi*x^64 + lo = (hi + fold(mi + fold(lo)))*x^128   modulo P
//
// This bracket is what reduce makes: a*b*x^-128. One x is too few, so powers of H are
// kept times x, which makes them right as factors of blocks and of each other: see
// timesX. GHASH's 1, times x, is x^128 modulo P: the constant poly.
type hasher struct {
	lo, mi, hi v
	t          [4]v // two are in use here
	poly       v
}

// add multiplies x by m and adds it to the sum; first: there is none yet.
func (h *hasher) add(s *stream, x v, m Op, first bool) {
	if first {
		s.do(func() { clmul(0x00, m, x, h.lo) })
		s.do(func() { clmul(0x01, m, x, h.mi) })
		s.do(func() { clmul(0x10, m, x, h.t[0]) })
		s.do(func() { clmul(0x11, m, x, h.hi) })
		s.do(func() { xor(h.t[0].r(), h.mi, h.mi) })
		return
	}
	s.do(func() { clmul(0x00, m, x, h.t[0]) })
	s.do(func() { clmul(0x11, m, x, h.t[1]) })
	s.do(func() { xor(h.t[0].r(), h.lo, h.lo) })
	s.do(func() { xor(h.t[1].r(), h.hi, h.hi) })
	s.do(func() { clmul(0x01, m, x, h.t[0]) })
	s.do(func() { clmul(0x10, m, x, h.t[1]) })
	s.do(func() { xor3(h.t[0], h.t[1], h.mi) })
}

// four multiplies four columns, the one that waits for the sum so far last, and
// adds products two at a time where there is an instruction for it.
func (h *hasher) four(s *stream, x []v, m [4]Op) {
	h.add(s, x[1], m[1], true)
	pair := func(imm1 int, a v, ma Op, imm2 int, b v, mb Op, d v) {
		s.do(func() { clmul(imm1, ma, a, h.t[0]) })
		s.do(func() { clmul(imm2, mb, b, h.t[1]) })
		s.do(func() { xor3(h.t[0], h.t[1], d) })
	}
	pair(0x00, x[2], m[2], 0x00, x[3], m[3], h.lo)
	pair(0x11, x[2], m[2], 0x11, x[3], m[3], h.hi)
	pair(0x01, x[2], m[2], 0x10, x[2], m[2], h.mi)
	pair(0x01, x[3], m[3], 0x10, x[3], m[3], h.mi)
	h.add(s, x[0], m[0], false)
}

// fourKaratsuba is four with three multiplications a column. mid are the sums of
// the powers' halves, in each half of a lane. x is lost.
func (h *hasher) fourKaratsuba(s *stream, x []v, m, mid [4]Op) {
	t, u := h.t[0], h.t[1]
	// halves puts the sums of the halves of two columns into the halves of x[i].
	halves := func(i, j int) {
		s.do(func() { VPUNPCKLQDQ(x[j].r(), x[i].r(), t.r()) })
		s.do(func() { VPUNPCKHQDQ(x[j].r(), x[i].r(), u.r()) })
		s.do(func() { xor(t.r(), u, x[i]) })
	}
	// Columns 1 to 3 first, then 0, which waits for the sum so far.
	s.do(func() { clmul(0x00, m[1], x[1], h.lo) })
	s.do(func() { clmul(0x11, m[1], x[1], h.hi) })
	s.do(func() { clmul(0x00, m[2], x[2], t) })
	s.do(func() { clmul(0x00, m[3], x[3], u) })
	s.do(func() { xor3(t, u, h.lo) })
	s.do(func() { clmul(0x11, m[2], x[2], t) })
	s.do(func() { clmul(0x11, m[3], x[3], u) })
	s.do(func() { xor3(t, u, h.hi) })
	halves(2, 3)
	s.do(func() { clmul(0x00, mid[2], x[2], h.mi) })
	s.do(func() { clmul(0x01, mid[3], x[2], x[2]) })
	s.do(func() { clmul(0x00, m[0], x[0], x[3]) })
	s.do(func() { xor(x[3].r(), h.lo, h.lo) })
	s.do(func() { clmul(0x11, m[0], x[0], x[3]) })
	s.do(func() { xor(x[3].r(), h.hi, h.hi) })
	halves(1, 0)
	s.do(func() { clmul(0x00, mid[1], x[1], t) })
	s.do(func() { clmul(0x01, mid[0], x[1], u) })
	s.do(func() { xor3(h.lo, h.hi, h.mi) })
	s.do(func() { xor(x[2].r(), h.mi, h.mi) })
	s.do(func() { xor3(t, u, h.mi) })
}

// reduce puts the sum modulo P into d: hi + fold(mi + fold(lo)).
func (h *hasher) reduce(s *stream, d v) {
	s.do(func() { clmul(0x01, h.lo.r(), h.poly, h.t[0]) })
	s.do(func() { VPSHUFD(Imm(0x4e), h.lo.r(), h.lo.r()) })
	s.do(func() { xor3(h.t[0], h.lo, h.mi) })
	s.do(func() { clmul(0x01, h.mi.r(), h.poly, h.t[0]) })
	s.do(func() { VPSHUFD(Imm(0x4e), h.mi.r(), h.mi.r()) })
	s.do(func() { xor3(h.t[0], h.mi, h.hi) })
	if d != h.hi {
		s.do(func() { move(h.hi, d) })
	}
}

// mul is d = x*m.
func (h *hasher) mul(s *stream, x v, m Op, d v) {
	h.add(s, x, m, true)
	h.reduce(s, d)
}

// square is d = x*x: mi is zero.
func (h *hasher) square(s *stream, x v, d v) {
	s.do(func() { clmul(0x00, x.r(), x, h.lo) })
	s.do(func() { clmul(0x11, x.r(), x, h.hi) })
	s.do(func() { clmul(0x01, h.lo.r(), h.poly, h.t[0]) })
	s.do(func() { VPSHUFD(Imm(0x4e), h.lo.r(), h.lo.r()) })
	s.do(func() { xor(h.t[0].r(), h.lo, h.mi) })
	s.do(func() { clmul(0x01, h.mi.r(), h.poly, h.t[0]) })
	s.do(func() { VPSHUFD(Imm(0x4e), h.mi.r(), h.mi.r()) })
	s.do(func() { xor3(h.t[0], h.mi, h.hi) })
	if d != h.hi {
		s.do(func() { move(h.hi, d) })
	}
}

// timesX turns a reversed block into its product with x: what a power of H
// has to be. Where bit 127 is set, x^128 is taken out again; in the same go the
// bit that the shift of each half loses at its end is carried over: both are in
// the constant carry, masked by the sign of the words that bits 63 and 127 end.
func timesX(s *stream, h, t v, carry Op) {
	s.do(func() { VPSHUFD(Imm(0xd3), h.r(), t.r()) })
	s.do(func() { VPSRAD(Imm(31), t.r(), t.r()) })
	s.do(func() { VPADDQ(h.r(), h.r(), h.r()) })
	if avx512() {
		s.do(func() { VPTERNLOGQ(Imm(0x78), carry, t.r(), h.r()) })
		return
	}
	s.do(func() { VPAND(carry, t.r(), t.r()) })
	s.do(func() { xor(t.r(), h, h) })
}

// foldLanes adds the lanes of sum up in its first, and clears the others.
func foldLanes(sum, t v) {
	if lanes == 4 {
		VEXTRACTI64X4(Imm(1), sum.r(), t.y())
		VPXOR(t.y(), sum.y(), sum.y())
	}
	VEXTRACTI128(Imm(1), sum.y(), t.x())
	VPXOR(t.x(), sum.x(), sum.x())
}
