package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
)

// Single packets with a raw key, for registers of one lane; see one.go. Here too, H, E(J0)
// and the first 64 octets use each round key as soon as it is made. For packets of up to 64
// octets (two blocks of AAD, four of text, the lengths), only the blocks to hash go through
// memory:
//
//	sum = (X0*H^3 + X1*H^2 + X2*H + X3)*H^4 + X4*H^3 + X5*H^2 + X6*H

// Registers when AES is done.
const (
	oneH1       = v(0) // to 3: H to H^4
	oneFirstSum = v(4) // to 8
	oneLastSum  = v(9) // to 13
	oneX        = v(14)
	onePoly1    = v(15)
)

func oneKernel1(c *constants1, keyLen int, sealing bool) {
	n := rounds(keyLen) + 1
	size := 16 * (n + 2*rawPowers)
	k := &kernel1{c: c, keyLen: keyLen, sealing: sealing,
		keys: keyRows{soloRows, 0, 16, n, n + rawPowers, rawPowers}, h: newHasher1(c, soloRoundKey+1)}
	fn := name(baseName(sealing, "One"), keyLen)
	function(fn, "func(keys, jobs *byte, n int, scratch, master, sub *byte)",
		fn+" takes n packets one after the other; key i is for job i, and AAD has at most 32 octets. If master is not null, it derives the keys from keys, messages of one block for each half of a key.")
	Load(Param("keys"), keysPtr)
	Load(Param("jobs"), jobsPtr)
	Load(Param("n"), packets)
	Load(Param("scratch"), scratchPtr)
	LEAQ(at(scratchPtr, soloRowsAt), soloRows)
	Label("packet")
	halves := []v{soloNextKey, soloNextOddKey}[:keyLen/16]
	for i, x := range halves {
		load(at(keysPtr, 16*i), x)
	}
	MOVQ(Param2("master"), soloTemp)
	TESTQ(soloTemp, soloTemp)
	JEQ(LabelRef("keyed"))
	MOVQ(Param2("sub"), soloTemp2)
	for _, x := range halves {
		xor(at(soloTemp2, 0), x, x)
	}
	for r := range 15 {
		for _, x := range halves {
			aesRound(r, 14, at(soloTemp, 16*r), x)
		}
	}
	Label("keyed")
	load(k.job(jobNonce), soloH)
	VPAND(c.nonce, soloH.r(), soloH.r())
	for i := range 5 {
		addd(plus(c.first, 16*i), soloH, soloJ0+v(i))
	}
	zero(soloH)
	states := []v{soloH, soloJ0, soloFirst, soloFirst + 1, soloFirst + 2, soloFirst + 3}
	emit(schedule1(c, keyLen, soloNextKey, soloNextOddKey, soloNextKey+2, soloNextKey+3, func(s *stream, r int, key v) {
		s.do(func() { store(key, k.keys.round(r)) })
		*s = append(*s, allRound(keyLen, r, key, states, -1)...)
	}))
	store(soloJ0, at(scratchPtr, soloEJ0At))
	MOVL(k.job(jobLen), soloLeft.As32())
	MOVQ(k.job(jobSrc), soloSrc)
	MOVQ(k.job(jobDst), soloDst)
	CMPQ(soloLeft, num(64))
	JHI(LabelRef("longer"))

	k.ending("short")
	k.oneAAD("short")
	k.oneHash()
	k.h.acc = oneLastSum + 2
	k.tag(jobsPtr)
	JMP(LabelRef("next"))

	Label("longer")
	k.h = newHasher1(c, soloRoundKey+1)
	store(soloH, at(scratchPtr, soloRawHAt))
	emit(k.text(soloFirst, 4, slot(slotText)))
	LEAQ(slot(slotText), soloSlot)
	ADDQ(num(64), soloDst)
	k.oneAAD("longer")
	k.behind(true, func() (s stream) {
		s.do(func() { load(at(scratchPtr, soloRawHAt), k.h.acc) })
		k.h.powers(&s, k.keys)
		k.h.slots(&s, k.keys, 0, slotLengths, false)
		return s
	})
	var s stream
	k.h.slots(&s, k.keys, slotText, slotLengths+1, false)
	emit(s)
	k.tag(jobsPtr)

	Label("next")
	ADDQ(num(jobSize), jobsPtr)
	ADDQ(num(keyLen), keysPtr)
	DECQ(packets)
	JNE(LabelRef("packet"))
	wipe1(soloRowsAt + size)
	RET()
}

// oneAAD writes up to 32 octets of AAD to the two blocks in front of soloSlot.
func (k *kernel1) oneAAD(label string) {
	x, y := k.h.x, k.h.t
	MOVL(k.job(jobAADLen), soloLeft.As32())
	MOVQ(k.job(jobAAD), soloSrc)
	CMPQ(soloLeft, num(16))
	JLE(LabelRef(label + "aadone"))
	LEAQ(plus(k.c.shift, 32), soloTemp)
	SUBQ(soloLeft, soloTemp)
	load(at(soloSrc, 0), x)
	load(Mem{Base: soloSrc, Index: soloLeft, Scale: 1, Disp: -16}, y)
	shufb(k.c.bswap, x, x)
	shufb(at(soloTemp, 0), y, y)
	shufb(k.c.bswap, y, y)
	JMP(LabelRef(label + "aadtwo"))
	Label(label + "aadone")
	zero(y)
	JEQ(LabelRef(label + "aadwhole"))
	TESTQ(soloLeft, soloLeft)
	JEQ(LabelRef(label + "aadnone"))
	k.octetsFrom(soloSrc, soloLeft, soloTemp, jobAADLen, y, label+"aad")
	shufb(k.c.bswap, y, y)
	JMP(LabelRef(label + "aadnone"))
	Label(label + "aadwhole")
	load(at(soloSrc, 0), y)
	shufb(k.c.bswap, y, y)
	Label(label + "aadnone")
	zero(x)
	Label(label + "aadtwo")
	store(x, at(soloSlot, -32))
	store(y, at(soloSlot, -16))
}

// oneHash hashes seven blocks. soloH has H as AES returned it.
func (k *kernel1) oneHash() {
	first := hasher{lo: oneFirstSum, mi: oneFirstSum + 1, hi: oneFirstSum + 2, t: [4]v{oneFirstSum + 3, oneFirstSum + 4}, poly: onePoly1}
	last := hasher{lo: oneLastSum, mi: oneLastSum + 1, hi: oneLastSum + 2, t: [4]v{oneLastSum + 3, oneLastSum + 4}, poly: onePoly1}
	h := func(n int) v { return oneH1 + v(n-1) }
	var s stream
	s.do(func() { load(k.c.poly, onePoly1) })
	s.do(func() { shufb(k.c.bswap, soloH, h(1)) })
	timesX(&s, h(1), oneX, k.c.carry)
	first.square(&s, h(1), h(2))
	emit(s)
	var a, b stream
	first.mul(&a, h(2), h(1).r(), h(3))
	last.square(&b, h(2), h(4))
	emit(a, b)
	a, b = nil, nil
	for i := range 3 {
		first.add(&a, h(3-i), slot(i), i == 0)
		last.add(&b, h(3-i), slot(4+i), i == 0)
	}
	first.reduce(&a, first.hi)
	emit(a, b)
	s = nil
	s.do(func() { xor(slot(3), first.hi, oneX) })
	last.add(&s, oneX, h(4).r(), false)
	last.reduce(&s, last.hi)
	emit(s)
}
