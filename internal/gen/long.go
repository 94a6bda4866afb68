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
	lT     = v(12) // to 14
	lAAD   = v(15) // AAD of the first window; then the lengths, in all lanes
	lCtr   = v(16)
	lBswap = v(17)
	lPoly  = v(18)
	lBase  = v(19)
	lEJ0   = v(20)
	lKey   = v(21) // to 31: eleven round keys
)

const keysInRegisters = 11

// remnant is what is left of a packet when the next one begins.
type remnant string

const (
	none remnant = "norest"
	some remnant = "rest"     // up to 15 blocks
	full remnant = "fullrest" // 16 blocks
)

type long512 struct {
	c       *constants
	keyLen  int
	sealing bool
	h       hasher
}

func longKernel512(c *constants, keyLen int, sealing bool) {
	k := &long512{c: c, keyLen: keyLen, sealing: sealing}
	k.h = hasher{lo: lLo, mi: lMi, hi: lHi, t: [4]v{lT, lT + 1}, poly: lPoly}
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

	k.begin(index, rows, none)

	Label("packet")
	k.powers()
	// AAD: of up to two blocks it goes into the first window, of more it is
	// hashed beforehand.
	zero(lAcc)
	zero(lAAD)
	MOVL(job(0, jobAADLen), left.As32())
	MOVQ(job(0, jobAAD), src)
	CMPQ(left, num(32))
	JG(LabelRef("aad"))
	BZHIQ(left, reg.R11, gE)
	KMOVD(gE.As32(), reg.K4)
	CMPQ(left, num(16))
	JLE(LabelRef("aadone"))
	VMOVDQU8_Z(at(src, 0), reg.K4, lAAD.y())
	JMP(LabelRef("aaddone"))
	Label("aadone")
	TESTQ(left, left)
	JEQ(LabelRef("aaddone"))
	VMOVDQU8_Z(at(src, 0), reg.K4, lT.x())
	VINSERTI32X4(Imm(1), lT.x(), lAAD.r(), lAAD.r())
	JMP(LabelRef("aaddone"))
	Label("aad")
	k.longAAD(src)
	TESTQ(left, left)
	JG(LabelRef("aad"))
	VSHUFI64X2(Imm(0x45), lAcc.r(), lAcc.r(), lAcc.r()) // to where the text begins
	Label("aaddone")

	MOVQ(job(0, jobSrc), src)
	MOVQ(job(0, jobDst), dst)
	MOVL(job(0, jobLen), left.As32())
	SUBQ(num(224), left)
	// A window: AES beside the text of the window before and its hash.
	window := func(p int, first bool, vectors int) {
		k.moveStream()
		k.nextCounters()
		emit(k.rounds(vectors), append(k.text(src, dst, first), k.sixteen(scratch, p)...))
	}
	// The end's first part, with one window or more behind it.
	end := func(first bool) {
		apart := fmt.Sprintf("apart%t", first)
		// What is left ends the lanes' sums, with the lengths behind it, if
		// that is one block at least for each, and no more than there are powers.
		LEAQ(at(left, -33), gA)
		CMPQ(gA, num(240-33))
		JHI(LabelRef(apart))
		if !first {
			CMPQ(left, num(192))
			JLE(LabelRef("less"))
		}
		window(longEach, first, 4)
		JMP(LabelRef("rest"))
		if !first {
			Label("less")
			CMPQ(left, num(128))
			JLE(LabelRef("least"))
			window(longEach, first, 3)
			JMP(LabelRef("rest"))
			Label("least")
			window(longEach, first, 2)
			JMP(LabelRef("rest"))
		}
		// Or the sixteen blocks before it do.
		Label(apart)
		window(longPower, first, 4)
		k.fold()
		CMPQ(left, num(240))
		JLE(LabelRef("rest"))
		JMP(LabelRef("fullrest"))
	}
	CMPQ(left, num(256))
	JLE(LabelRef("onlyone"))
	window(longEach, true, 4)
	SUBQ(num(256), left)
	Label("loop")
	CMPQ(left, num(256))
	JLE(LabelRef("looped"))
	window(longEach, false, 4)
	SUBQ(num(256), left)
	JMP(LabelRef("loop"))
	Label("looped")
	end(false)
	Label("onlyone")
	end(true)

	for _, r := range []remnant{some, full} {
		Label(string(r))
		k.place(r)
		ADDQ(num(jobSize), jobs)
		INCQ(index)
		CMPQ(index, n)
		JGE(LabelRef(string(r) + "drain"))
		k.begin(index, rows, r)
		JMP(LabelRef("packet"))
		Label(string(r) + "drain")
		k.moveStream()
		emit(k.rest(r))
		JMP(LabelRef("done"))
	}
	Label("done")
	zero(lT)
	for i := 0; i < longSize; i += 64 {
		store(lT, at(scratch, i))
	}
	wipeRegisters()
	RET()
}

// begin loads a packet's round keys and makes its first window's key stream,
// beside what is left of the packet before.
func (k *long512) begin(index, rows reg.GPPhysical, r remnant) {
	findKey(index, rows, string(r))
	for r := 0; r <= rounds(k.keyLen); r++ {
		if r < keysInRegisters {
			spread(at(gA, r*row), lKey+v(r))
		} else {
			spread(at(gA, r*row), lT)
			storeA(lT, at(gScratch, longKeys+r*row))
		}
	}
	// The block with counter 0, octets reversed: the counter is its low word.
	VMOVDQU(at(gJobs, jobNonce), lT.x())
	VPAND(k.c.nonce, lT.x(), lT.x())
	VPSHUFB(lBswap.x(), lT.x(), lT.x())
	VSHUFI64X2(Imm(0), lT.r(), lT.r(), lCtr.r())
	k.moveStream()
	k.nextCounters()
	var hash stream
	if r != none {
		hash = k.rest(r)
	}
	emit(k.rounds(4), hash)
}

// moveStream moves key stream out of the way of the next window's.
func (k *long512) moveStream() {
	for i := v(0); i < 4; i++ {
		move(lC+i, lX+i)
	}
}

// powers brings those of the key at gA to where they are used.
func (k *long512) powers() {
	for i := range 4 {
		spread(at(gA, rowPower+(16-4*i)*row), lT)
		storeA(lT, at(gScratch, longEach+i*row))
	}
	for i := range 4 {
		p := rowPower + (16-4*i)*row
		d := lT + v(i%3)
		gather([]Mem{at(gA, p), at(gA, p-row), at(gA, p-2*row), at(gA, p-3*row)}, d)
		store(d, at(gScratch, longPower+i*row))
	}
}

// place prepares for rest: gD is the octets that are left, gMax.
func (k *long512) place(r remnant) {
	MOVQ(gMax, gD)
	if r == full {
		return
	}
	// H^n first, for n blocks. Where the lengths go: two bits of a mask, one for
	// each half of a block.
	LEAQ(at(gD, 15), gPower)
	SHRQ(Imm(4), gPower)
	MOVL(U32(3), gE.As32())
	LEAQ(Mem{Base: gPower, Index: gPower, Scale: 1}, gMax)
	SHLXQ(gMax, gE, gMax)
	INCQ(gPower)
	SHLQ(Imm(4), gPower)
	NEGQ(gPower)
	ADDQ(gScratch, gPower)
}

// rest ends a packet, whose job is the one before gJobs: gD octets of text, of
// which key stream is in lX, the lengths behind them, and then the tag.
func (k *long512) rest(r remnant) stream {
	var s stream
	src, dst := gB, gC
	s.do(func() { VMOVDQU(at(gJobs, jobAADLen-jobSize), lT.x()) })
	s.do(func() { VPSHUFB(k.c.lens, lT.x(), lT.x()) })
	s.do(func() { VPSLLQ(Imm(3), lT.x(), lT.x()) })
	s.do(func() { VSHUFI64X2(Imm(0), lT.r(), lT.r(), lAAD.r()) })
	// masked takes the octets of one vector that there are, gD or all 64.
	masked := func(x v, m int) {
		s.do(func() {
			BZHIQ(gD, reg.R11, gE)
			KMOVQ(gE, reg.K4)
		})
		s.do(func() { VMOVDQU8_Z(at(src, m), reg.K4, lT.r()) })
		s.do(func() { xor(lT.r(), x, x) })
		if k.sealing {
			s.do(func() { VMOVDQU8_Z(x.r(), reg.K4, x.r()) })
			s.do(func() { VMOVDQU8(x.r(), reg.K4, at(dst, m)) })
			s.do(func() { shufb(lBswap.r(), x, x) })
		} else {
			s.do(func() { VMOVDQU8(x.r(), reg.K4, at(dst, m)) })
			s.do(func() { shufb(lBswap.r(), lT, x) })
		}
	}
	if r == full {
		for i := range 3 {
			k.vector(&s, lX+v(i), src, dst, i*64)
		}
		s.do(func() { SUBQ(num(192), gD) })
		masked(lX+3, 192)
		s = append(s, k.sixteen(gScratch, longPower)...)
		s.do(k.fold)
		s.do(func() { VPXORQ(lAAD.x(), lAcc.x(), lAcc.x()) })
		k.h.mul(&s, lAcc, at(gScratch, longPower+15*16), lAcc)
	} else {
		for i := v(0); i < 4; i++ {
			masked(lX+i, 0)
			s.do(func() { KMOVB(gMax.As32(), reg.K5) })
			s.do(func() { VMOVDQA64(lAAD.r(), reg.K5, (lX + i).r()) })
			if i == 3 {
				break
			}
			// Pointers stay where there is text.
			s.do(func() {
				XORL(gE.As32(), gE.As32())
				CMPQ(gD, g64)
				CMOVQGT(g64, gE)
				ADDQ(gE, src)
				ADDQ(gE, dst)
				XORL(gE.As32(), gE.As32())
				SUBQ(g64, gD)
				CMOVQLT(gE, gD)
				SHRQ(Imm(8), gMax)
			})
		}
		s = append(s, k.sixteen(gPower, longPower+256)...)
		s.do(k.fold)
	}
	s.do(func() { VPSHUFB(lBswap.x(), lAcc.x(), lAcc.x()) })
	s.do(func() { VPXORQ(lEJ0.x(), lAcc.x(), lAcc.x()) })
	s.do(func() { oneTag(lAcc, k.sealing, -jobSize, gD) })
	return s
}

// rounds are those of AES for a number of vectors. Each begins two rounds after
// the one before it: beside other work, they should not all be through at the
// same time.
func (k *long512) rounds(vectors int) (s stream) {
	const later = 2
	last := rounds(k.keyLen)
	for t := 1; t <= last+later*(vectors-1); t++ {
		for i := range vectors {
			r, x := t-later*i, lC+v(i)
			if r < 1 || r > last {
				continue
			}
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
	return s
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

// text takes a window's octets, whose key stream is in lX, and leaves the
// ciphertext there, reversed. In the first window they begin in the third
// lane; AAD is in the lanes before, of lAAD, and key stream of a block E(J0).
func (k *long512) text(src, dst reg.GPPhysical, first bool) stream {
	var s stream
	from := 0
	if first {
		from = 1
		s.do(func() { VEXTRACTI32X4(Imm(1), lX.r(), lEJ0.x()) })
		// Two blocks, in the register's upper half.
		s.do(func() { VEXTRACTI64X4(Imm(1), lX.r(), lT.y()) })
		if k.sealing {
			s.do(func() { VPXOR(at(src, 0), lT.y(), lT.y()) })
			s.do(func() { VMOVDQU(lT.y(), at(dst, 0)) })
		} else {
			s.do(func() { VMOVDQU(at(src, 0), (lT + 1).y()) })
			s.do(func() { VPXOR((lT + 1).y(), lT.y(), lT.y()) })
			s.do(func() { VMOVDQU(lT.y(), at(dst, 0)) })
			s.do(func() { move(lT+1, lT) })
		}
		s.do(func() { VINSERTI64X4(Imm(1), lT.y(), lAAD.r(), lX.r()) })
		s.do(func() { shufb(lBswap.r(), lX, lX) })
	}
	for i := from; i < 4; i++ {
		k.vector(&s, lX+v(i), src, dst, i*64-32*from)
	}
	s.do(func() { ADDQ(num(256-32*from), src) })
	s.do(func() { ADDQ(num(256-32*from), dst) })
	return s
}

// vector is text for one vector, in all of which there are octets.
func (k *long512) vector(s *stream, x v, src, dst reg.GPPhysical, m int) {
	if k.sealing {
		s.do(func() { xor(at(src, m), x, x) })
		s.do(func() { store(x, at(dst, m)) })
	} else {
		// What is hashed is what was decrypted: memory is read once.
		s.do(func() { load(at(src, m), lT) })
		s.do(func() { xor(lT.r(), x, x) })
		s.do(func() { store(x, at(dst, m)) })
		s.do(func() { shufb(lBswap.r(), lT, x) })
		return
	}
	s.do(func() { shufb(lBswap.r(), x, x) })
}

// sixteen hashes lX with the powers at a place: with those in longEach the lanes
// keep sums of their own, from longPower on the sums of all lanes belong together.
func (k *long512) sixteen(base reg.GPPhysical, p int) stream {
	var s stream
	s.do(func() { xor(lAcc.r(), lX, lX) })
	k.h.four(&s, []v{lX, lX + 1, lX + 2, lX + 3}, [4]Op{at(base, p), at(base, p+64), at(base, p+128), at(base, p+192)})
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

// longAAD hashes up to 256 octets of AAD, zero-padded to whole blocks, with the
// powers that belong to them. It moves src on and sets gMax to the octets left.
func (k *long512) longAAD(src reg.GPPhysical) {
	// Octets of this piece, at most 256.
	MOVQ(gMax, gA)
	MOVQ(U32(256), gD)
	CMPQ(gA, gD)
	CMOVQGT(gD, gA)
	SUBQ(gA, gMax)
	// The powers for its blocks: H^blocks first.
	LEAQ(at(gA, 15), gPower)
	ANDQ(I32(-16), gPower)
	NEGQ(gPower)
	ADDQ(gScratch, gPower)
	for i := v(0); i < 4; i++ {
		// gA octets are left of the piece; mask those of this vector.
		MOVQ(gA, gD)
		CMPQ(gD, g64)
		CMOVQGT(g64, gD)
		BZHIQ(gD, reg.R11, gE)
		KMOVQ(gE, reg.K4)
		x := lX + i
		VMOVDQU8_Z(at(src, 0), reg.K4, x.r())
		ADDQ(gD, src)
		shufb(lBswap.r(), x, x)
		if i == 0 {
			xor(lAcc.r(), x, x)
		}
		var s stream
		k.h.add(&s, x, at(gPower, longPower+256+int(i)*64), i == 0)
		emit(s)
		SUBQ(gD, gA)
		if i < 3 {
			JEQ(LabelRef("aadreduce"))
		}
	}
	Label("aadreduce")
	var s stream
	k.h.reduce(&s, lAcc)
	emit(s)
	k.fold()
}

// oneTag writes the tag of the packet whose job is at an offset from gJobs, or
// compares it.
func oneTag(tag v, sealing bool, job int, t reg.GPPhysical) {
	MOVQ(at(gJobs, job+jobTag), t)
	if sealing {
		VMOVDQU(tag.x(), at(t, 0))
		return
	}
	VPXOR(at(t, 0), tag.x(), tag.x())
	XORL(gE.As32(), gE.As32())
	VPTEST(tag.x(), tag.x())
	SETEQ(gE.As8())
	MOVL(gE.As32(), at(gJobs, job+jobOK))
}
