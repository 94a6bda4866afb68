package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func vaes256() {
	lanes = 2
	c := makeConstants256()
	addressesKernel("Long", "Raw", "Expanded")
	deriveKernel(nil)
	for _, keyLen := range []int{16, 32} {
		expandKernel256(&c, keyLen)
		powersKernel256(&c, keyLen)
		for _, sealing := range []bool{true, false} {
			longKernel256(&c, keyLen, sealing)
			for _, raw := range []bool{true, false} {
				shortKernel256(&c, keyLen, raw, sealing)
			}
		}
	}
}

// constants256 are as wide as a vector: with 16 registers, most are memory
// operands.
type constants256 struct {
	bswap, poly, carry, rot, last, none, even, one, nonce, lens, rcon, count, sixteen, bits, eight, tail, mask Mem
}

// everyLane makes a constant with the same 16 octets in each lane.
func everyLane(name string, lo, hi uint64) Mem {
	m := GLOBL(name, rodata)
	for i := range lanes {
		DATA(16*i, U64(lo))
		DATA(16*i+8, U64(hi))
	}
	return m
}

func makeConstants256() constants256 {
	c := constants256{
		bswap:   everyLane("bswap", 0x08090a0b0c0d0e0f, 0x0001020304050607),
		poly:    everyLane("poly", 1, 0xc200000000000000),
		carry:   everyLane("carry", 1, 0xc200000000000001),
		rot:     everyLane("rotword", 0x0c0f0e0d0c0f0e0d, 0x0c0f0e0d0c0f0e0d),  // word 3, rotated, in all columns
		last:    everyLane("lastword", 0x0f0e0d0c0f0e0d0c, 0x0f0e0d0c0f0e0d0c), // word 3 in all columns
		none:    everyLane("none", 0, 0),
		even:    everyLane("evenwords", 0xffffffff, 0xffffffff),
		one:     everyLane("one", 0, 0x0100000000000000), // 1 in a big-endian counter's last octet
		nonce:   everyLane("nonce", ^uint64(0), 0x00000000ffffffff),
		lens:    everyLane("lens", 0x8080808007060504, 0x8080808003020100), // Len, AADLen of a job as two 64-bit numbers
		sixteen: everyLane("sixteen", 16, 0),
	}
	c.count = GLOBL("count", rodata) // big-endian 0 to 15
	for i := range 16 {
		DATA(16*i, U64(0))
		DATA(16*i+8, U64(uint64(i)<<56))
	}
	c.bits = GLOBL("bits", rodata) // big-endian 1 to 7, in both lanes
	for i := range 14 {
		DATA(16*i, U64(0))
		DATA(16*i+8, U64(uint64(i/2+1)<<56))
	}
	c.eight = everyLane("eight", 0, 8<<56)
	c.rcon = GLOBL("rcon", rodata)
	x := uint64(1)
	for i := range 10 {
		for k := range 2 * lanes {
			DATA(32*i+8*k, U64(x<<32|x))
		}
		x = x<<1 ^ x>>7*0x11b
	}
	// 16 octets from tail+n-16 reverse the last n-16 octets of a block that
	// was loaded from where they end, and put zeros behind them.
	c.tail = GLOBL("tail", rodata)
	DATA(0, U64(0x8080808080808080))
	DATA(8, U64(0x8080808080808080))
	DATA(16, U64(0x08090a0b0c0d0e0f))
	DATA(24, U64(0x0001020304050607))
	// 64 octets from mask+64-n keep n octets.
	c.mask = GLOBL("mask", rodata)
	for i := range 16 {
		x := uint64(0)
		if i < 8 {
			x = ^x
		}
		DATA(8*i, U64(x))
	}
	return c
}

// karatsuba is a hasher that takes three multiplications a block: where a
// product of vectors of two lanes costs as much as one of four, they are what
// limits. It wants the sum of both halves of each power beside the power. Its sum, reduced,
// may be in hi. Only addTwo needs u.
type karatsuba struct {
	lo, mi, hi, t, u v
	poly             Mem
}

// A factor is a power of H, with the sum of its halves in a half of mid.
type factor struct {
	power, mid Op
	half       int // 0x11: the upper half
}

// together keeps instructions next to each other when a stream is emitted. On Zen 4 a multiplication
// is dispatched by itself, and other instructions six a cycle between two of them, where 13 need as much time
// as 18. So multiplications are kept together as far as there are registers.
func (s *stream) together(fs ...func()) {
	s.do(func() {
		for _, f := range fs {
			f()
		}
	})
}

// middle puts the sum of p's halves into both halves of d.
func middle(s *stream, p, d v) {
	s.do(func() { VPSHUFD(Imm(0x4e), p.r(), d.r()) })
	s.do(func() { xor(p.r(), d, d) })
}

// middles puts the sum of p's halves into the lower half of d, that of q's into the upper one; t is a temporary.
func middles(s *stream, p, q, d, t v) {
	s.do(func() { VPUNPCKLQDQ(q.r(), p.r(), d.r()) })
	s.do(func() { VPUNPCKHQDQ(q.r(), p.r(), t.r()) })
	s.do(func() { xor(t.r(), d, d) })
}

// add multiplies x by f and adds it to the sum; first: there is none yet. Otherwise x is lost.
func (h *karatsuba) add(s *stream, x v, f factor, first bool) {
	middle(s, x, h.t)
	if first {
		s.together(
			func() { clmul(0x00, f.power, x, h.lo) },
			func() { clmul(0x11, f.power, x, h.hi) },
			func() { clmul(f.half, f.mid, h.t, h.mi) })
		return
	}
	s.do(func() { clmul(f.half, f.mid, h.t, h.t) })
	s.do(func() { xor(h.t.r(), h.mi, h.mi) })
	s.together(
		func() { clmul(0x00, f.power, x, h.t) },
		func() { clmul(0x11, f.power, x, x) })
	s.do(func() { xor(h.t.r(), h.lo, h.lo) })
	s.do(func() { xor(x.r(), h.hi, h.hi) })
}

// addTwo adds the products of x and y with f and g, whose middles are the halves of one vector. x and y are lost.
func (h *karatsuba) addTwo(s *stream, x, y v, f, g Op, mids Op, first bool) {
	middles(s, x, y, h.t, h.u)
	if first {
		s.together(
			func() { clmul(0x00, f, x, h.lo) },
			func() { clmul(0x11, f, x, h.hi) },
			func() { clmul(0x00, mids, h.t, h.mi) },
			func() { clmul(0x11, mids, h.t, h.t) },
			func() { clmul(0x00, g, y, h.u) },
			func() { clmul(0x11, g, y, y) })
	} else {
		s.together(
			func() { clmul(0x00, f, x, h.u) },
			func() { clmul(0x11, f, x, x) })
		s.do(func() { xor(h.u.r(), h.lo, h.lo) })
		s.do(func() { xor(x.r(), h.hi, h.hi) })
		s.together(
			func() { clmul(0x00, g, y, h.u) },
			func() { clmul(0x11, g, y, y) },
			func() { clmul(0x00, mids, h.t, x) },
			func() { clmul(0x11, mids, h.t, h.t) })
		s.do(func() { xor(x.r(), h.mi, h.mi) })
	}
	s.do(func() { xor(h.u.r(), h.lo, h.lo) })
	s.do(func() { xor(y.r(), h.hi, h.hi) })
	s.do(func() { xor(h.t.r(), h.mi, h.mi) })
}

// reduce leaves the sum modulo GHASH's polynomial in hi.
func (h *karatsuba) reduce(s *stream) {
	s.do(func() { xor(h.lo.r(), h.mi, h.mi) })
	s.do(func() { xor(h.hi.r(), h.mi, h.mi) })
	h.fold(s, h.lo, h.mi)
	h.fold(s, h.mi, h.hi)
}

// fold takes x out of the sum: what it is congruent to, shifted, goes into to.
func (h *karatsuba) fold(s *stream, x, to v) {
	s.do(func() { clmul(0x10, h.poly, x, h.t) })
	s.do(func() { VPSHUFD(Imm(0x4e), x.r(), x.r()) })
	s.do(func() { xor3(x, h.t, to) }) // the product comes last
}

// mul leaves x*m in hi.
func (h *karatsuba) mul(s *stream, x v, f factor) {
	h.add(s, x, f, true)
	h.reduce(s)
}

// square leaves x*x in hi; its middle part is zero.
func (h *karatsuba) square(s *stream, x v) {
	s.together(
		func() { clmul(0x00, x.r(), x, h.lo) },
		func() { clmul(0x11, x.r(), x, h.hi) })
	s.do(func() { clmul(0x10, h.poly, h.lo, h.t) })
	s.do(func() { VPSHUFD(Imm(0x4e), h.lo.r(), h.lo.r()) })
	s.do(func() { xor(h.t.r(), h.lo, h.lo) })
	h.fold(s, h.lo, h.hi)
}

// emitAround writes AES and then text, with hash beside both. What the text
// overwrites may be what is hashed: all of it is loaded before, but for the
// last hashTail instructions of hash, which load none. AES begins alone: what is hashed was text just before.
func emitAround(aes, text, hash stream) {
	const alone = 20
	n := max(0, len(hash)-hashTail)
	emit(aes[:alone])
	emit(aes[alone:], hash[:n])
	emit(text, hash[n:])
}

const hashTail = 8

// roundKey makes round key r, r > 0, of a schedule in a and b, or only says
// where it is if it was there from the start.
func (c *constants256) roundKey(keyLen, r int, a, b, t1, t2 v) (stream, v) {
	switch {
	case keyLen == 16:
		return c.roundKey128(r, a, b, t1, t2), a
	case r == 1:
		return nil, b
	case r%2 == 0:
		return nextKey(a, b, c.rot, plus(c.rcon, 32*(r/2-1)), t1, t2), a
	}
	return nextKey(b, a, c.last, c.none, t1, t2), b
}

// roundKey128 makes two round keys out of one, k, with fewer shuffles than
// twice nextKey. Let y move words up by one, and s and t be the substituted
// words, in all columns: the first is k(1+y)(1+yy) + s, the second is
// k(1+yy) + s in words 0 and 2 + t. b keeps what the second needs.
func (c *constants256) roundKey128(r int, a, b, t1, t2 v) stream {
	var s stream
	s.do(func() { shufb(c.rot, a, t1) })
	if r%2 == 0 {
		s.do(func() { aesLast(plus(c.rcon, 32*(r-1)), t1) })
		s.do(func() { xor(t1.r(), b, a) })
		return s
	}
	s.do(func() { slldq(8, a, t2) })
	s.do(func() { aesLast(plus(c.rcon, 32*(r-1)), t1) })
	s.do(func() { xor(t2.r(), a, a) })
	s.do(func() { slldq(4, a, t2) })
	s.do(func() { xor(a.r(), t2, t2) })
	s.do(func() { VPAND(c.even, t1.r(), b.r()) })
	s.do(func() { xor(a.r(), b, b) })
	s.do(func() { xor(t1.r(), t2, a) })
	return s
}

// loadKeys256 loads two keys, or one: octets of 16 in a, or halves in a and b.
func loadKeys256(m Mem, keyLen int, a, b, t v, one bool) {
	if keyLen == 16 {
		if one {
			VMOVDQU(m, a.x())
		} else {
			load(m, a)
		}
		return
	}
	load(m, t)
	if one {
		zero(b)
	} else {
		load(plus(m, 32), b)
	}
	VPERM2I128(Imm(0x20), b.r(), t.r(), a.r())
	VPERM2I128(Imm(0x31), b.r(), t.r(), b.r())
}

// expandKernel256 writes the key schedules of groups of keys.
func expandKernel256(c *constants256, keyLen int) {
	function(name("expand", keyLen), "func(area, keys *byte, n int)",
		name("expand", keyLen)+" writes the round keys of n keys to an area.")
	area, keys, n := reg.RDI, reg.RSI, reg.RCX
	Load(Param("area"), area)
	Load(Param("keys"), keys)
	Load(Param("n"), n)
	// Pair p of keys has registers 4p to 4p+3.
	a := func(p int) v { return v(4 * p) }
	b := func(p int) v { return v(4*p + 1) }
	t := func(p int) v { return v(4*p + 2) }
	u := func(p int) v { return v(4*p + 3) }
	schedule := func(pairs int) {
		for r := range rounds(keyLen) + 1 {
			var ss []stream
			key := a
			for p := range pairs {
				if r > 0 {
					s, k := c.roundKey(keyLen, r, a(p), b(p), t(p), u(p))
					ss = append(ss, s)
					if k == b(p) {
						key = b
					}
				}
			}
			emit(ss...)
			for p := range pairs {
				storeA(key(p), at(area, p/2*groupSize+r*row+p%2*32))
			}
		}
	}
	Label("eight")
	CMPQ(n, num(8))
	JLT(LabelRef("four"))
	for p := range 4 {
		loadKeys256(at(keys, p*2*keyLen), keyLen, a(p), b(p), t(p), false)
	}
	schedule(4)
	ADDQ(num(2*groupSize), area)
	ADDQ(num(8*keyLen), keys)
	SUBQ(num(8), n)
	JMP(LabelRef("eight"))
	// Groups of four and what is left: keys of the last pair that are not
	// there are taken as zero.
	Label("four")
	CMPQ(n, num(0))
	JLE(LabelRef("done"))
	CMPQ(n, num(2))
	JLT(LabelRef("one"))
	loadKeys256(at(keys, 0), keyLen, a(0), b(0), t(0), false)
	JEQ(LabelRef("last"))
	CMPQ(n, num(4))
	JLT(LabelRef("three"))
	loadKeys256(at(keys, 2*keyLen), keyLen, a(1), b(1), t(1), false)
	JMP(LabelRef("both"))
	Label("three")
	loadKeys256(at(keys, 2*keyLen), keyLen, a(1), b(1), t(1), true)
	Label("both")
	schedule(2)
	ADDQ(num(groupSize), area)
	ADDQ(num(4*keyLen), keys)
	SUBQ(num(4), n)
	JMP(LabelRef("four"))
	Label("one")
	loadKeys256(at(keys, 0), keyLen, a(0), b(0), t(0), true)
	Label("last")
	schedule(1)
	Label("done")
	wipeRegisters()
	RET()
}

// powersKernel256 writes H and its powers behind the round keys, for a pair of
// keys at a time.
func powersKernel256(c *constants256, keyLen int) {
	function(name("powers", keyLen), "func(area *byte, n int)",
		name("powers", keyLen)+" writes H to H^16 of n keys behind their round keys.")
	area, n, step := reg.RDI, reg.RCX, reg.RAX
	Load(Param("area"), area)
	Load(Param("n"), n)
	MOVQ(U32(32), step)
	const h1, mid = v(14), v(13)
	// Two products at a time.
	h := [2]karatsuba{{lo: 0, mi: 1, hi: 2, t: 3, poly: c.poly}, {lo: 4, mi: 5, hi: 6, t: 7, poly: c.poly}}
	const x, y = v(8), v(9)
	power := func(k int) Mem { return at(area, rowPower+k*row) }
	Label("pair")
	TESTQ(n, n)
	JLE(LabelRef("done"))
	loadA(at(area, 0), h1)
	for r := 1; r <= rounds(keyLen); r++ {
		aesRound(r, rounds(keyLen), at(area, r*row), h1)
	}
	shufb(c.bswap, h1, h1)
	var s stream
	timesX(&s, h1, x, c.carry)
	s.do(func() { storeA(h1, power(1)) })
	middle(&s, h1, mid)
	emit(s)
	// next is H^k: a square, or H times the power before.
	next := func(h *karatsuba, k int, x v) stream {
		var s stream
		if k%2 == 0 {
			s.do(func() { loadA(power(k/2), x) })
			h.square(&s, x)
		} else {
			s.do(func() { loadA(power(k-1), x) })
			h.mul(&s, x, factor{h1.r(), mid.r(), 0})
		}
		s.do(func() { storeA(h.hi, power(k)) })
		return s
	}
	emit(next(&h[0], 2, x))
	emit(next(&h[0], 4, x), next(&h[1], 3, y))
	for k := 6; k <= powers; k += 2 {
		emit(next(&h[0], k, x), next(&h[1], k-1, y))
	}
	ADDQ(step, area) // 32 to the second pair of the group, then on to the next
	XORQ(num(32^(groupSize-32)), step)
	SUBQ(num(2), n)
	JMP(LabelRef("pair"))
	Label("done")
	wipeRegisters()
	RET()
}

// copySmall copies n octets, 0 to 64, with moves that may overlap. It changes
// t, half, x and y.
func copySmall(from, to, n, t, half reg.GPPhysical, x, y v, label string) {
	last := func(p reg.GPPhysical, size int) Mem { return Mem{Base: p, Disp: -size, Index: n, Scale: 1} }
	done := LabelRef(label + "done")
	for _, step := range []struct {
		size int
		move func(from, to Op)
		x, y reg.VecPhysical
	}{{32, VMOVDQU, x.y(), y.y()}, {16, VMOVDQU, x.x(), y.x()}, {8, VMOVQ, x.x(), y.x()}, {4, VMOVD, x.x(), y.x()}} {
		smaller := fmt.Sprint(label, step.size-1)
		CMPQ(n, num(step.size))
		JLT(LabelRef(smaller))
		step.move(at(from, 0), step.x)
		step.move(last(from, step.size), step.y)
		step.move(step.x, at(to, 0))
		step.move(step.y, last(to, step.size))
		JMP(done)
		Label(smaller)
	}
	TESTQ(n, n)
	JEQ(done)
	MOVQ(n, half)
	SHRQ(Imm(1), half)
	MOVBLZX(at(from, 0), t.As32())
	MOVB(t.As8(), at(to, 0))
	MOVBLZX(last(from, 1), t.As32())
	MOVB(t.As8(), last(to, 1))
	MOVBLZX(Mem{Base: from, Index: half, Scale: 1}, t.As32())
	MOVB(t.As8(), Mem{Base: to, Index: half, Scale: 1})
	XORL(t.As32(), t.As32())
	Label(label + "done")
}
