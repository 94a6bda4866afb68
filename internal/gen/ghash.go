package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
)

// GHASH works on blocks with their octets reversed and on powers of H that are
// multiplied by x, so that a product needs no shift (as in Intel's white paper
// on PCLMULQDQ). A product is summed up in three parts, lo, mi and hi, and
// reduced once for several blocks.
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

// reduce puts the sum modulo GHASH's polynomial into d.
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

// square is d = x*x, for which the middle part is zero.
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
// has to be. carry is the constant of that name in a register.
func timesX(s *stream, h, t, carry v) {
	s.do(func() { VPSHUFD(Imm(0xd3), h.r(), t.r()) })
	s.do(func() { VPSRAD(Imm(31), t.r(), t.r()) })
	s.do(func() { VPADDQ(h.r(), h.r(), h.r()) })
	if avx512() {
		s.do(func() { VPTERNLOGQ(Imm(0x78), carry.r(), t.r(), h.r()) })
		return
	}
	s.do(func() { VPAND(carry.r(), t.r(), t.r()) })
	s.do(func() { xor(t.r(), h, h) })
}
