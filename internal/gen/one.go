package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Single packets with a raw key. Latency counts, since there is no other work: the key
// schedule runs in all lanes, and up to 16 blocks of text and two for H and E(J0) use each
// round key as soon as it is made. Blocks of the AAD, of the text and of the lengths lie
// side by side, the lengths last. Padding is in front, so that powers of H have fixed
// places.
//
//	lanes    0 ..        pad ..       pad+a ..           last
//	        | zeros     | AAD        | text              | lengths |
//
// A window is 16 lanes, or 8 for up to that many blocks; others are filled by text.
// GHASH of a window in lanes of their own, until the last (see ghash.go):
//
//	sum = (sum + X0)*H^16 + X1*H^12 + X2*H^8 + X3*H^4            in each lane
//	sum = (sum + X0)*[H^16..H^13] + ... + X3*[H^4..H^1]          then all lanes together
//
// A first window without text is left out: AAD then begins up to three blocks in
// front of the next one, and their hash is where the sum begins.

// Scratch memory: round keys, if there is more than one window.
const oneKeysAt = 0

// Registers.
const (
	oneKey       = v(0) // the round key in the making
	oneOddKey    = v(1)
	oneKeyTemp   = v(2) // and 3: temporaries of the key schedule
	oneStart     = v(4) // lane 0: H; lane 1: E(J0)
	oneStream    = v(5) // to 8: key stream
	oneLo        = v(9)
	oneMid       = v(10)
	oneHi        = v(11)
	oneHashTemp  = v(12) // and 13
	oneSum       = v(14)
	onePowers    = v(15) // to 18: H^16 to H^13, ..., H^4 to H
	onePending   = v(19) // to 22: blocks to hash
	oneReverse   = v(23)
	onePoly      = v(24)
	oneEJ0       = v(25)
	oneCounter   = v(26) // counters of the next vector, octets reversed
	oneRot       = v(27)
	oneEvenWords = v(28)
	oneTemp      = v(29)
	oneAAD       = v(30)
	oneFour      = v(31)
	oneEach      = v(0) // to 3: H^16, H^12, H^8, H^4, each in all lanes
)

type one512 struct {
	c       *constants
	keyLen  int
	sealing bool
	h       hasher
}

func oneKernel512(c *constants, keyLen int, sealing bool) {
	k := &one512{c: c, keyLen: keyLen, sealing: sealing}
	k.h = hasher{lo: oneLo, mi: oneMid, hi: oneHi, t: [4]v{oneHashTemp, oneHashTemp + 1}, poly: onePoly}
	fn := name(baseName(sealing, "One"), keyLen)
	function(fn, "func(keys, jobs *byte, n int, scratch, master, sub *byte)",
		fn+" takes n packets one after the other; key i is for job i, and AAD has at most 64 octets. If master is not null, it takes one packet and derives its key from keys, a message for each half of it. Then n is the number of blocks of a message, plus 4 if another message gives what is added to the nonce.")
	Load(Param("keys"), keysPtr)
	Load(Param("jobs"), jobsPtr)
	Load(Param("n"), packets)
	Load(Param("scratch"), scratchPtr)
	length, pad, src, dst := reg.R9, reg.R8, tempB, tempC
	broadcast(c.bswap, oneReverse)
	broadcast(c.poly, onePoly)
	load(c.fours, oneFour)
	MOVQ(I32(-1), oneAllOnes)
	for _, m := range []struct {
		bits uint32
		k    reg.OpmaskPhysical
	}{{0x1111, reg.K1}, {0x0C, reg.K2}} {
		MOVL(U32(m.bits), tempA.As32())
		KMOVW(tempA.As32(), m.k)
	}
	Label("packet")
	broadcast(c.rot, oneRot) // these two are lost where there are windows
	broadcast(c.even, oneEvenWords)
	k.keys()
	// Blocks of AAD, and of all.
	MOVL(job(0, jobAADLen), tempA.As32())
	MOVL(job(0, jobLen), length.As32())
	BZHIQ(tempA, oneAllOnes, tempD)
	KMOVQ(tempD, reg.K3)
	MOVQ(job(0, jobAAD), tempE)
	VMOVDQU8_Z(at(tempE, 0), reg.K3, oneAAD.r())
	ADDQ(num(15), tempA)
	SHRQ(Imm(4), tempA)
	LEAQ(at(length, 15), tempE)
	SHRQ(Imm(4), tempE)
	LEAQ(Mem{Base: tempA, Index: tempE, Scale: 1, Disp: 1}, tempD)
	CMPQ(tempD, num(8))
	JG(LabelRef("windows"))

	// Up to 8 blocks.
	MOVL(U32(8), pad.As32())
	SUBQ(tempD, pad)
	k.prepare(2, length, pad, src, dst, false)
	emit(k.schedule([]v{oneStart, oneStream + 2, oneStream + 3}, nil))
	k.firstText(2, src, dst)
	{
		var s stream
		k.h1(&s)
		k.upToFour(&s)
		// The first four blocks, times H^4, go into the others.
		s.do(func() { VSHUFI64X2(Imm(0), (onePowers + 3).r(), (onePowers + 3).r(), oneTemp.r()) })
		s = append(s, k.lengths()...)
		k.h.mul(&s, onePending+2, oneTemp.r(), oneSum)
		s.do(func() { xor(oneSum.r(), onePending+3, onePending+3) })
		k.h.mul(&s, onePending+3, (onePowers + 3).r(), oneSum)
		emit(s)
	}
	JMP(LabelRef("tag"))

	// More: windows of 16 blocks.
	Label("windows")
	LEAQ(at(tempD, 15), oneWindows)
	SHRQ(Imm(4), oneWindows)
	MOVQ(tempD, pad)
	NEGQ(pad)
	ANDQ(Imm(15), pad)
	// AAD that begins in a window without text and ends in the next: that window is left out.
	LEAQ(Mem{Base: pad, Index: tempA, Scale: 1}, tempE)
	CMPQ(tempE, num(16))
	JLE(LabelRef("inside"))
	SUBQ(num(16), pad)
	DECQ(oneWindows)
	Label("inside")
	k.prepare(4, length, pad, src, dst, true)
	emit(k.schedule([]v{oneStart, oneStream, oneStream + 1, oneStream + 2, oneStream + 3}, func(s *stream, r int, key v) {
		s.do(func() { storeA(key, at(scratchPtr, oneKeysAt+r*row)) })
	}))
	k.firstText(4, src, dst)
	{
		var s stream
		k.h1(&s)
		k.upToFour(&s)
		// What is in front of the window, its last block times H.
		k.h.mul(&s, oneSum, (onePowers + 3).r(), oneSum)
		s.do(func() { foldLanes(oneSum, oneHashTemp) })
		each := func(i int) {
			s.do(func() { VSHUFI64X2(Imm(0), (onePowers + v(i)).r(), (onePowers + v(i)).r(), (oneEach + v(i)).r()) })
		}
		each(3)
		k.h.mul(&s, onePowers+3, (oneEach + 3).r(), onePowers+2)
		each(2)
		k.h.mul(&s, onePowers+3, (oneEach + 2).r(), onePowers+1)
		k.h.mul(&s, onePowers+2, (oneEach + 2).r(), onePowers)
		each(1)
		each(0)
		emit(s)
	}
	ADDQ(num(256), src)
	ADDQ(num(256), dst)
	Label("window")
	DECQ(oneWindows)
	JEQ(LabelRef("last"))
	var aess, hash stream
	for i := range v(4) {
		aess.do(func() { shufb(oneReverse.r(), oneCounter, oneStream+i) })
		aess.do(func() { addd(oneFour.r(), oneCounter, oneCounter) })
		aess.do(func() { xor(at(scratchPtr, oneKeysAt), oneStream+i, oneStream+i) })
	}
	for r := 1; r <= rounds(keyLen); r++ {
		for i := range v(4) {
			aess.do(func() { aesRound(r, rounds(keyLen), at(scratchPtr, oneKeysAt+r*row), oneStream+i) })
		}
	}
	k.sum(&hash, oneEach)
	emit(aess, hash)
	// The last octets of the last window are not text.
	MOVQ(oneAllOnes, tempD)
	CMPQ(oneWindows, num(1))
	CMOVQEQ(tempA, tempD)
	KMOVQ(tempD, byteMask[3])
	for i := range v(4) {
		m, x, from, to := byteMask[i], onePending+i, at(src, int(i)*64), at(dst, int(i)*64)
		var s stream
		if i == 3 {
			k.masked(&s, oneStream+i, x, m, from, to)
		} else if sealing {
			xor(from, oneStream+i, x)
			store(x, to)
		} else {
			load(from, x)
			xor(x.r(), oneStream+i, oneStream+i)
			store(oneStream+i, to)
		}
		emit(s)
		shufb(oneReverse.r(), x, x)
	}
	ADDQ(num(256), src)
	ADDQ(num(256), dst)
	JMP(LabelRef("window"))
	Label("last")
	{
		s := k.lengths()
		k.sum(&s, onePowers)
		emit(s)
	}
	zero(oneKeyTemp)
	for r := range rounds(keyLen) + 1 {
		storeA(oneKeyTemp, at(scratchPtr, oneKeysAt+r*row))
	}

	Label("tag")
	foldLanes(oneSum, oneHashTemp)
	VPSHUFB(oneReverse.x(), oneSum.x(), oneSum.x())
	VPXORQ(oneEJ0.x(), oneSum.x(), oneSum.x())
	oneTag(oneSum, sealing, 0, tempD)
	ADDQ(num(jobSize), jobsPtr)
	ADDQ(num(keyLen), keysPtr)
	DECQ(packets)
	JNE(LabelRef("packet"))
	wipeRegisters()
	RET()
}

// keys loads a packet's key, or derives it.
func (k *one512) keys() {
	halves := []v{oneKey, oneOddKey}[:k.keyLen/16]
	MOVQ(Param2("master"), tempD)
	TESTQ(tempD, tempD)
	JNE(LabelRef("derive"))
	for i, x := range halves {
		broadcast(at(keysPtr, 16*i), x)
	}
	JMP(LabelRef("keyed"))
	Label("derive")
	MOVQ(Param2("sub"), tempE)
	// The messages, all at once; instead of one that is not there, the first.
	blocks, mask := oneWindows, oneKeyTemp
	states := append(halves[:len(halves):len(halves)], mask)
	MOVL(packets.As32(), blocks.As32())
	ANDL(Imm(3), blocks.As32())
	MOVL(blocks.As32(), tempB.As32())
	SHLQ(Imm(4), tempB)
	MOVQ(tempB, tempA)
	if len(halves) == 2 {
		ADDQ(tempB, tempA)
	}
	XORL(tempC.As32(), tempC.As32())
	TESTL(U32(4), packets.As32())
	CMOVQNE(tempA, tempC)
	messages := []Mem{at(keysPtr, 0), {Base: keysPtr, Index: tempB, Scale: 1}, {Base: keysPtr, Index: tempC, Scale: 1}}
	if len(halves) == 1 {
		messages = []Mem{messages[0], messages[2]}
	}
	for _, x := range states {
		VPXOR(x.x(), x.x(), x.x())
	}
	Label("block")
	for i, x := range states {
		VPXOR(messages[i], x.x(), x.x())
	}
	DECL(blocks.As32())
	JNE(LabelRef("more"))
	for _, x := range states {
		VPXOR(at(tempE, 0), x.x(), x.x())
	}
	Label("more")
	for r := range 15 {
		for _, x := range states {
			switch r {
			case 0:
				VPXOR(at(tempD, 0), x.x(), x.x())
			case 14:
				VAESENCLAST(at(tempD, 16*r), x.x(), x.x())
			default:
				VAESENC(at(tempD, 16*r), x.x(), x.x())
			}
		}
	}
	ADDQ(num(16), keysPtr)
	TESTL(blocks.As32(), blocks.As32())
	JNE(LabelRef("block"))
	TESTL(U32(4), packets.As32())
	MOVL(U32(1), packets.As32())
	JEQ(LabelRef("unmasked"))
	VPAND(k.c.nonce, mask.x(), mask.x())
	VPXOR(job(0, jobNonce), mask.x(), mask.x())
	VMOVDQU(mask.x(), job(0, jobNonce))
	Label("unmasked")
	for _, x := range halves {
		VSHUFI64X2(Imm(0), x.r(), x.r(), x.r())
	}
	Label("keyed")
}

// prepare makes the counter blocks and masks of the first window, of so many
// vectors, which gets to the right in byteMask and in oneStream to oneStream+3; tempA is the AAD's
// number of blocks and then the mask of the last vector's text. What is
// in front of the window goes to oneSum.
func (k *one512) prepare(vectors int, length, pad, src, dst reg.GPPhysical, front bool) {
	from := 4 - vectors
	z := tempE // lanes in front of the text
	LEAQ(Mem{Base: pad, Index: tempA, Scale: 1}, z)
	// The AAD's place: words of 64 bits from 2*pad on.
	LEAQ(Mem{Base: pad, Index: pad, Scale: 1}, tempD)
	VPBROADCASTQ(tempD, oneTemp.r())
	ADDQ(tempA, tempA)
	VPBROADCASTQ(tempA, oneHashTemp.r())
	shufb(oneReverse.r(), oneAAD, oneAAD)
	place := func(x v) {
		VPSUBQ(oneTemp.r(), x.r(), x.r())
		VPCMPUQ(Imm(1), oneHashTemp.r(), x.r(), reg.K3) // less
		VPERMQ_Z(oneAAD.r(), x.r(), reg.K3, x.r())
	}
	for i := from; i < 4; i++ {
		load(plus(k.c.words, 64*(i-from)), onePending+v(i))
		place(onePending + v(i))
	}
	if front { // where pad is negative
		load(plus(k.c.words, -64), oneSum)
		place(oneSum)
	}
	// Counters: the text's first is 2.
	MOVL(U32(2), tempA.As32())
	SUBL(z.As32(), tempA.As32())
	VPBROADCASTD_Z(tempA.As32(), reg.K1, oneTemp.r())
	broadcast(job(0, jobNonce), oneKeyTemp)
	broadcast(k.c.nonce, oneHashTemp)
	VPANDQ(oneHashTemp.r(), oneKeyTemp.r(), oneKeyTemp.r())
	broadcast(k.c.one, oneHashTemp)
	addd(oneHashTemp.r(), oneKeyTemp, oneHashTemp)
	VMOVDQA64_Z(oneHashTemp.r(), reg.K2, oneStart.r())
	shufb(oneReverse.r(), oneKeyTemp, oneKeyTemp)
	addd(oneTemp.r(), oneKeyTemp, oneCounter)
	addd(k.c.lanes, oneCounter, oneCounter)
	for i := from; i < 4; i++ {
		shufb(oneReverse.r(), oneCounter, oneStream+v(i))
		addd(oneFour.r(), oneCounter, oneCounter)
	}
	// Masks of the text: without what is in front; the last one without what is
	// behind it, if this is the last window.
	LEAQ(k.c.edge, tempD)
	ADDQ(z, z)
	SUBQ(z, tempD)
	for i := from; i < 4; i++ {
		KMOVQ(at(tempD, 32+8*(i-from)), byteMask[i])
	}
	MOVQ(length, tempA)
	NEGQ(tempA)
	ANDQ(Imm(15), tempA)
	NEGQ(tempA)
	ADDQ(Imm(48), tempA)
	BZHIQ(tempA, oneAllOnes, tempA)
	if vectors == 4 {
		MOVQ(oneAllOnes, tempD)
		CMPQ(oneWindows, num(1))
		CMOVQEQ(tempA, tempD)
		KMOVQ(tempD, reg.K3)
	} else {
		KMOVQ(tempA, reg.K3)
	}
	KANDQ(reg.K3, byteMask[3], byteMask[3])
	SHLQ(Imm(3), z)
	MOVQ(job(0, jobSrc), src)
	MOVQ(job(0, jobDst), dst)
	SUBQ(z, src)
	SUBQ(z, dst)
}

// schedule runs the key schedule beside AES of states, of which oneStart begins as a
// block to encrypt like the others; keep is told of each round key.
func (k *one512) schedule(states []v, keep func(s *stream, r int, key v)) stream {
	x := schedule512{keyLen: k.keyLen, key: oneKey, oddKey: oneOddKey, t: oneKeyTemp, u: oneKeyTemp + 1,
		rot: oneRot.r(), even: oneEvenWords.r(), zeros: k.c.zeros}
	return x.stream(k.c, func(s *stream, r int, key v) {
		if keep != nil {
			keep(s, r, key)
		}
		*s = append(*s, allRound(k.keyLen, r, key, states, -1)...)
	})
}

// h1 puts H in all lanes of onePowers, and E(J0) in oneEJ0.
func (k *one512) h1(s *stream) {
	s.do(func() { VEXTRACTI32X4(Imm(1), oneStart.r(), oneEJ0.x()) })
	s.do(func() { VSHUFI64X2(Imm(0), oneStart.r(), oneStart.r(), onePowers.r()) })
	s.do(func() { shufb(oneReverse.r(), onePowers, onePowers) })
	timesX(s, onePowers, oneTemp, k.c.carryRow)
}

// upToFour makes [H^4, H^3, H^2, H] in onePowers+3, of H in onePowers: that is
// [H^2, H, H^2, H] times [H^2, H^2, 1, 1].
func (k *one512) upToFour(s *stream) {
	k.h.square(s, onePowers, oneTemp)
	s.do(func() { move(onePowers, onePowers+3) })
	s.do(func() { move(onePoly, onePowers+2) }) // 1 (as x, see timesX)
	s.do(func() {
		MOVL(U32(0x33), tempD.As32())
		KMOVB(tempD.As32(), reg.K3)
	})
	s.do(func() { VMOVDQA64(oneTemp.r(), reg.K3, (onePowers + 3).r()) })
	s.do(func() {
		MOVL(U32(0x0F), tempD.As32())
		KMOVB(tempD.As32(), reg.K3)
	})
	s.do(func() { VMOVDQA64(oneTemp.r(), reg.K3, (onePowers + 2).r()) })
	k.h.mul(s, onePowers+3, (onePowers + 2).r(), onePowers+3)
}

// firstText takes the text of the first window; AAD is in onePending already. Vectors in
// front of the text are left out: a masked access of memory that is not mapped is slow,
// even if its mask is empty.
func (k *one512) firstText(vectors int, src, dst reg.GPPhysical) {
	for i := 4 - vectors; i < 4; i++ {
		var s stream
		none := fmt.Sprintf("none%dof%d", i, vectors)
		KTESTQ(byteMask[i], byteMask[i])
		JEQ(LabelRef(none))
		m, ks := (i-4+vectors)*64, oneStream+v(i)
		t := ks
		if !k.sealing {
			t = oneAAD
		}
		k.masked(&s, ks, t, byteMask[i], at(src, m), at(dst, m))
		s.do(func() { shufb(oneReverse.r(), t, t) })
		s.do(func() { xor(t.r(), onePending+v(i), onePending+v(i)) })
		emit(s)
		Label(none)
	}
}

// masked takes a vector of text of which there may be a part only, with key stream
// ks, and leaves the ciphertext in x.
func (k *one512) masked(s *stream, ks, x v, m reg.OpmaskPhysical, from, to Mem) {
	if k.sealing {
		s.do(func() { VMOVDQU8_Z(from, m, oneRot.r()) })
		s.do(func() { VPXORQ(oneRot.r(), ks.r(), x.r()) })
		s.do(func() { VMOVDQU8_Z(x.r(), m, x.r()) })
		s.do(func() { VMOVDQU8(x.r(), m, to) })
		return
	}
	s.do(func() { VMOVDQU8_Z(from, m, x.r()) })
	s.do(func() { xor(x.r(), ks, ks) })
	s.do(func() { VMOVDQU8(ks.r(), m, to) })
}

// lengths puts those into the last lane.
func (k *one512) lengths() stream {
	var s stream
	s.do(func() { VMOVQ(job(0, jobAADLen), oneEvenWords.x()) })
	s.do(func() { VPSHUFB(k.c.lens, oneEvenWords.x(), oneEvenWords.x()) })
	s.do(func() { VPSLLQ(Imm(3), oneEvenWords.x(), oneEvenWords.x()) })
	s.do(func() { VINSERTI32X4(Imm(3), oneEvenWords.x(), (onePending + 3).r(), (onePending + 3).r()) })
	return s
}

// sum hashes a window with powers from p on.
func (k *one512) sum(s *stream, p v) {
	s.do(func() { xor(oneSum.r(), onePending, onePending) })
	k.h.four(s, []v{onePending, onePending + 1, onePending + 2, onePending + 3}, [4]Op{p.r(), (p + 1).r(), (p + 2).r(), (p + 3).r()})
	k.h.reduce(s, oneSum)
}
