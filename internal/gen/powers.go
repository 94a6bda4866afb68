package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// powersKernel512 writes H and its powers behind the round keys of groups.
func powersKernel512(c *constants, keyLen int) {
	function(name("powers", keyLen), "func(area *byte, n int)",
		name("powers", keyLen)+" writes H to H^16 of n keys behind their round keys.")
	area, n := reg.RDI, reg.RCX
	Load(Param("area"), area)
	Load(Param("n"), n)
	const poly, carry, bswap = v(31), v(30), v(29)
	broadcast(c.poly, poly)
	broadcast(c.carry, carry)
	broadcast(c.bswap, bswap)
	// One power after another would wait for each product; these two sums
	// share nothing, so that products run side by side.
	h := [2]hasher{
		{lo: 16, mi: 17, hi: 18, t: [4]v{19, 20, 21, 22}, poly: poly},
		{lo: 23, mi: 24, hi: 25, t: [4]v{26, 27, 28, 22}, poly: poly},
	}
	h[1].t[3] = 15
	p := func(k int) v { return v(k - 1) } // H^k, k up to 8 in registers
	put := func(k int, r v) func() { return func() { storeA(r, at(area, rowPower+k*row)) } }
	Label("group")
	TESTQ(n, n)
	JLE(LabelRef("done"))
	loadA(at(area, 0), p(1))
	for r := 1; r <= rounds(keyLen); r++ {
		aesRound(r, rounds(keyLen), at(area, r*row), p(1))
	}
	shufb(bswap.r(), p(1), p(1))
	var s stream
	timesX(&s, p(1), 16, carry.r())
	s.do(put(1, p(1)))
	h[0].square(&s, p(1), p(2))
	s.do(put(2, p(2)))
	emit(s)
	pair := func(x, y stream) { emit(x, y) }
	var a, b stream
	h[0].mul(&a, p(2), p(1).r(), p(3))
	a.do(put(3, p(3)))
	h[1].square(&b, p(2), p(4))
	b.do(put(4, p(4)))
	pair(a, b)
	for k := 5; k <= 16; k += 2 {
		var a, b stream
		base := 4
		if k > 8 {
			base = 8
		}
		da, db := p(k), p(k+1)
		if k > 8 {
			da, db = h[0].hi, h[1].hi
		}
		h[0].mul(&a, p(base), p(k-base).r(), da)
		a.do(put(k, da))
		if k+1 == 2*base {
			h[1].square(&b, p(base), db)
		} else {
			h[1].mul(&b, p(base), p(k+1-base).r(), db)
		}
		b.do(put(k+1, db))
		pair(a, b)
	}
	ADDQ(num(groupSize), area)
	SUBQ(num(4), n)
	JMP(LabelRef("group"))
	Label("done")
	wipeRegisters()
	RET()
}
