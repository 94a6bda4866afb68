package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Long packets: all lanes work on one packet, a window of 16 counters at a time,
// whose AES runs beside the GHASH of the window before. Counters 0 and 1 are no
// text: their places in the first window go to the AAD, if it has no more than
// two blocks, and 1 is E(J0).

// Layout of scratch memory for long packets.
const (
	longKeys  = 0                 // round keys that find no register, in all lanes
	longEach  = 16 * row          // H^16, H^12, H^8, H^4, each in all lanes
	longPower = longEach + 4*row  // H^16 to H, then zeros
	longNext  = longPower + 20*16 // counters 0 to 15, less those of the window's first
	longSize  = longNext + 4*row
)

const (
	lC     = v(0) // to 3: the key stream
	lX     = v(4) // to 7: ciphertext to hash
	lAcc   = v(8)
	lLo    = v(9)
	lMi    = v(10)
	lHi    = v(11)
	lT     = v(12) // to 15
	lCtr   = v(16)
	lBswap = v(17)
	lPoly  = v(18)
	lBase  = v(19)
	lEJ0   = v(20)
	lKey   = v(21) // to 31: eleven round keys
)

const keysInRegisters = 11

type long512 struct {
	c       *constants
	keyLen  int
	sealing bool
	h       hasher
}

func longKernel512(c *constants, keyLen int, sealing bool) {
	k := &long512{c: c, keyLen: keyLen, sealing: sealing}
	k.h = hasher{lo: lLo, mi: lMi, hi: lHi, t: [4]v{lT, lT + 1, lT + 2, lT + 3}, poly: lPoly}
	base := "openLong"
	if sealing {
		base = "sealLong"
	}
	function(name(base, keyLen), "func(rows, jobs *byte, n int, held int, scratch *byte)",
		name(base, keyLen)+" takes n packets one at a time; held: jobs name their keys, else key i is job i's.")
	rows, jobs, n, scratch := reg.RSI, gJobs, gN, gScratch
	Load(Param("rows"), rows)
	Load(Param("jobs"), jobs)
	Load(Param("n"), n)
	Load(Param("scratch"), scratch)
	setLaneMasks(gA)
	MOVQ(U32(64), g64)
	MOVQ(I32(-1), reg.R11)
	spread(c.bswap, lBswap)
	spread(c.poly, lPoly)
	for i := range 4 {
		load(plus(c.counts, i*row), lT)
		store(lT, at(scratch, longNext+i*row))
	}
	index, src, dst, left := gOff, gB, gC, gMax
	XORL(index.As32(), index.As32())
	zero(lT)
	store(lT, at(scratch, longPower+16*16))

	Label("packet")
	findKey(index, rows)
	// Round keys and powers in all lanes.
	for r := 0; r <= rounds(keyLen); r++ {
		if r < keysInRegisters {
			spread(at(gA, r*row), lKey+v(r))
		} else {
			spread(at(gA, r*row), lT)
			storeA(lT, at(scratch, longKeys+r*row))
		}
	}
	for i := range 4 {
		spread(at(gA, rowPower+(16-4*i)*row), lT)
		storeA(lT, at(scratch, longEach+i*row))
	}
	for i := range 4 {
		p := rowPower + (16-4*i)*row
		gather([]Mem{at(gA, p), at(gA, p-row), at(gA, p-2*row), at(gA, p-3*row)}, lT+v(i))
		store(lT+v(i), at(scratch, longPower+i*row))
	}
	// The block with counter 0, octets reversed: the counter is its low word.
	VMOVDQU(at(jobs, jobNonce), lT.x())
	VPAND(c.nonce, lT.x(), lT.x())
	VPSHUFB(lBswap.x(), lT.x(), lT.x())
	VSHUFI64X2(Imm(0), lT.r(), lT.r(), lCtr.r())
	// AAD: of up to two blocks it goes into the first window, of more it is
	// hashed beforehand.
	zero(lAcc)
	zero(lX)
	MOVL(job(0, jobAADLen), left.As32())
	MOVQ(job(0, jobAAD), src)
	CMPQ(left, num(32))
	JG(LabelRef("aad"))
	BZHIQ(left, reg.R11, gE)
	KMOVD(gE.As32(), reg.K4)
	CMPQ(left, num(16))
	JLE(LabelRef("aadone"))
	VMOVDQU8_Z(at(src, 0), reg.K4, lX.y())
	JMP(LabelRef("aaddone"))
	Label("aadone")
	TESTQ(left, left)
	JEQ(LabelRef("aaddone"))
	VMOVDQU8_Z(at(src, 0), reg.K4, lT.x())
	VINSERTI32X4(Imm(1), lT.x(), lX.r(), lX.r())
	JMP(LabelRef("aaddone"))
	Label("aad")
	k.tail(src, reg.R8, "aad", nil)
	TESTQ(left, left)
	JG(LabelRef("aad"))
	zero(lX)
	Label("aaddone")

	MOVQ(job(0, jobSrc), src)
	MOVQ(job(0, jobDst), dst)
	MOVL(job(0, jobLen), left.As32())
	k.nextCounters()
	{
		var s stream
		k.rounds(&s, []v{lC, lC + 1, lC + 2, lC + 3})
		emit(s)
	}
	k.firstText(src, dst)
	SUBQ(num(224), left)
	// Two roads: from the first window, whose text is done, and from those
	// whose text waits for the next one's AES.
	window := func(p int, pending bool) {
		if pending {
			for i := v(0); i < 4; i++ {
				move(lC+i, lX+i)
			}
		}
		k.nextCounters()
		var s, h stream
		k.rounds(&s, []v{lC, lC + 1, lC + 2, lC + 3})
		if pending {
			h = k.laterText(src, dst)
		}
		emit(s, append(h, k.sixteen(p)...))
	}
	end := func(pending bool) {
		// The last sixteen blocks end the lanes' separate sums.
		l := fmt.Sprintf("alone%t", pending)
		TESTQ(left, left)
		JEQ(LabelRef(l))
		window(longPower, pending)
		k.fold()
		JMP(LabelRef("tailed"))
		Label(l)
		var s stream
		if pending {
			for i := v(0); i < 4; i++ {
				move(lC+i, lX+i)
			}
			s = k.laterText(src, dst)
		}
		emit(append(s, k.sixteen(longPower)...))
		k.fold()
		JMP(LabelRef("lengths"))
	}
	CMPQ(left, num(256))
	JLT(LabelRef("onlyone"))
	window(longEach, false)
	SUBQ(num(256), left)
	Label("loop")
	CMPQ(left, num(256))
	JLT(LabelRef("looped"))
	window(longEach, true)
	SUBQ(num(256), left)
	JMP(LabelRef("loop"))
	Label("looped")
	end(true)
	Label("onlyone")
	end(false)
	Label("tailed")
	k.tail(src, reg.R8, "text", dst)

	Label("lengths")
	VMOVDQU(at(jobs, jobAADLen), lX.x())
	VPSHUFB(c.lens, lX.x(), lX.x())
	VPSLLQ(Imm(3), lX.x(), lX.x())
	VPXOR(lX.x(), lAcc.x(), lX.x())
	{
		x := hasher{lo: lLo, mi: lMi, hi: lHi, t: k.h.t, poly: lPoly}
		lanes = 1
		VMOVDQU(at(scratch, longPower+15*16), (lX + 1).x())
		var s stream
		VPCLMULQDQ(Imm(0x00), (lX + 1).x(), lX.x(), lLo.x())
		VPCLMULQDQ(Imm(0x01), (lX + 1).x(), lX.x(), lMi.x())
		VPCLMULQDQ(Imm(0x10), (lX + 1).x(), lX.x(), lT.x())
		VPCLMULQDQ(Imm(0x11), (lX + 1).x(), lX.x(), lHi.x())
		VPXOR(lT.x(), lMi.x(), lMi.x())
		lanes = 4
		k.reduceX(&s, x, lAcc)
		emit(s)
	}
	VPSHUFB(lBswap.x(), lAcc.x(), lAcc.x())
	VPXORQ(lEJ0.x(), lAcc.x(), lAcc.x())
	oneTag(lAcc, sealing)
	ADDQ(num(jobSize), jobs)
	INCQ(index)
	CMPQ(index, n)
	JLT(LabelRef("packet"))
	zero(lT)
	for i := 0; i < longSize; i += 64 {
		store(lT, at(scratch, i))
	}
	wipeRegisters()
	RET()
}

func (k *long512) rounds(s *stream, states []v) {
	last := rounds(k.keyLen)
	for r := 1; r <= last; r++ {
		for _, x := range states {
			var key Op
			if r < keysInRegisters {
				key = (lKey + v(r)).r()
			} else {
				key = at(gScratch, longKeys+r*row)
			}
			if r == last {
				s.do(func() { aesLast(key, x) })
			} else {
				s.do(func() { aes(key, x) })
			}
		}
	}
}

// nextCounters makes the 16 blocks of a window, with the first round key added.
// The window's first counter is a multiple of 16, so that others differ from it
// in the last octet only.
func (k *long512) nextCounters() {
	shufb(lBswap.r(), lCtr, lBase)
	addd(k.c.sixteens, lCtr, lCtr)
	xor(lKey.r(), lBase, lBase)
	for i := v(0); i < 4; i++ {
		xor(at(gScratch, longNext+int(i)*row), lBase, lC+i)
	}
}

// firstText takes the 224 octets of the first window. AAD is in the first two
// lanes of lX, or its hash in lAcc.
func (k *long512) firstText(src, dst reg.GPPhysical) {
	VEXTRACTI32X4(Imm(1), lC.r(), lEJ0.x())
	MOVL(U32(0xf0), gE.As32())
	KMOVB(gE.As32(), reg.K4)
	VMOVDQU64(at(src, -32), reg.K4, lX.r())
	if k.sealing {
		VPXORQ(lC.r(), lX.r(), reg.K4, lX.r())
		VMOVDQU64(lX.r(), reg.K4, at(dst, -32))
	} else {
		xor(lX.r(), lC, lC)
		VMOVDQU64(lC.r(), reg.K4, at(dst, -32))
	}
	shufb(lBswap.r(), lX, lX)
	VPXORQ(lT.r(), lT.r(), lT.r())
	VINSERTI32X4(Imm(2), lAcc.x(), lT.r(), lT.r())
	xor(lT.r(), lX, lX)
	zero(lAcc)
	ADDQ(num(32), src)
	ADDQ(num(32), dst)
	k.text(src, dst, 1)
}

// text takes a window's octets, from vector from on, and leaves the ciphertext,
// reversed, in lX.
func (k *long512) text(src, dst reg.GPPhysical, from int) {
	for i := v(from); i < 4; i++ {
		move(lC+i, lX+i)
	}
	emit(k.textStream(src, dst, from))
}

// laterText is text with the key stream in lX, for all of a window.
func (k *long512) laterText(src, dst reg.GPPhysical) stream { return k.textStream(src, dst, 0) }

func (k *long512) textStream(src, dst reg.GPPhysical, from int) stream {
	var s stream
	for i := from; i < 4; i++ {
		x := lX + v(i)
		m := (i - from) * 64
		if k.sealing {
			s.do(func() { xor(at(src, m), x, x) })
			s.do(func() { store(x, at(dst, m)) })
		} else {
			s.do(func() { xor(at(src, m), x, lT) })
			s.do(func() { load(at(src, m), x) })
			s.do(func() { store(lT, at(dst, m)) })
		}
		s.do(func() { shufb(lBswap.r(), x, x) })
	}
	s.do(func() { ADDQ(num(64*(4-from)), src) })
	s.do(func() { ADDQ(num(64*(4-from)), dst) })
	return s
}

// sixteen hashes lX with the powers at an offset of scratch memory: with those
// in longEach the lanes keep sums of their own, with longPower the sums of all
// lanes belong together.
func (k *long512) sixteen(p int) stream {
	var s stream
	s.do(func() { xor(lAcc.r(), lX, lX) })
	k.h.four(&s, []v{lX, lX + 1, lX + 2, lX + 3}, [4]Op{at(gScratch, p), at(gScratch, p+64), at(gScratch, p+128), at(gScratch, p+192)})
	k.h.reduce(&s, lAcc)
	return s
}

// fold adds the lanes of lAcc up in its first, and clears the others.
func (k *long512) fold() {
	VEXTRACTI64X4(Imm(1), lAcc.r(), lT.y())
	VPXOR(lT.y(), lAcc.y(), lAcc.y())
	VEXTRACTI128(Imm(1), lAcc.y(), lT.x())
	VPXOR(lT.x(), lAcc.x(), lAcc.x())
}

// reduceX is hasher.reduce on one lane.
func (k *long512) reduceX(s *stream, h hasher, d v) {
	s.do(func() { VPCLMULQDQ(Imm(1), h.lo.x(), h.poly.x(), h.t[0].x()) })
	s.do(func() { VPSHUFD(Imm(0x4e), h.lo.x(), h.lo.x()) })
	s.do(func() { VPTERNLOGQ(Imm(0x96), h.t[0].x(), h.lo.x(), h.mi.x()) })
	s.do(func() { VPCLMULQDQ(Imm(1), h.mi.x(), h.poly.x(), h.t[0].x()) })
	s.do(func() { VPSHUFD(Imm(0x4e), h.mi.x(), h.mi.x()) })
	s.do(func() { VPTERNLOGQ(Imm(0x96), h.t[0].x(), h.mi.x(), h.hi.x()) })
	s.do(func() { VMOVDQA(h.hi.x(), d.x()) })
}

// tail takes up to 256 octets, zero-padded to whole blocks, with the powers
// that belong to them. It moves src on and sets gMax to the octets left. With
// dst, key stream is in lC.
func (k *long512) tail(src, t reg.GPPhysical, label string, dst reg.GPPhysical) {
	// Octets of this piece, at most 256.
	MOVQ(gMax, gA)
	MOVQ(U32(256), gD)
	CMPQ(gA, gD)
	CMOVQGT(gD, gA)
	SUBQ(gA, gMax)
	// The powers for its blocks: H^blocks first.
	LEAQ(at(gA, 15), t)
	SHRQ(Imm(4), t)
	SHLQ(Imm(4), t)
	NEGQ(t)
	ADDQ(gScratch, t)
	for i := v(0); i < 4; i++ {
		// gA octets are left of the piece; mask those of this vector.
		XORL(gE.As32(), gE.As32())
		MOVQ(gA, gD)
		CMPQ(gD, g64)
		CMOVQGT(g64, gD)
		BZHIQ(gD, reg.R11, gE)
		KMOVQ(gE, reg.K4)
		x := lX + i
		VMOVDQU8_Z(at(src, 0), reg.K4, x.r())
		if dst != nil {
			if k.sealing {
				xor(x.r(), lC+i, x)
				VMOVDQU8_Z(x.r(), reg.K4, x.r())
				VMOVDQU8(x.r(), reg.K4, at(dst, 0))
			} else {
				xor(x.r(), lC+i, lC+i)
				VMOVDQU8((lC + i).r(), reg.K4, at(dst, 0))
			}
			ADDQ(gD, dst)
		}
		ADDQ(gD, src)
		shufb(lBswap.r(), x, x)
		if i == 0 {
			xor(lAcc.r(), x, x)
		}
		var s stream
		load(at(t, longPower+256+int(i)*64), lC+i)
		k.h.add(&s, x, (lC + i).r(), i == 0)
		emit(s)
		SUBQ(gD, gA)
		if i < 3 {
			JEQ(LabelRef(label + "reduce"))
		}
	}
	Label(label + "reduce")
	var s stream
	k.h.reduce(&s, lAcc)
	emit(s)
	k.fold()
}

// oneTag writes the tag of the packet at gJobs, or compares it.
func oneTag(tag v, sealing bool) {
	MOVQ(job(0, jobTag), gA)
	if sealing {
		VMOVDQU(tag.x(), at(gA, 0))
		return
	}
	VPXOR(at(gA, 0), tag.x(), tag.x())
	XORL(gE.As32(), gE.As32())
	VPTEST(tag.x(), tag.x())
	SETEQ(gE.As8())
	MOVL(gE.As32(), job(0, jobOK))
}
