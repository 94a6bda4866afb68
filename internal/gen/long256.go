package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Long packets in vectors of two lanes: all lanes work on one packet. An
// iteration takes 16 blocks; its AES runs beside GHASH: of the ciphertext it
// is given, or of the one that the iteration before wrote. That ciphertext is
// kept in scratch memory: the packet may lie where somebody else writes, so it
// is read once when it is opened, and not again when it was sealed.

// Layout of scratch memory for long packets.
const (
	wideKeys   = 0               // round keys, in both lanes
	widePower  = 16 * 32         // H^16 to H, then zeros
	wideMiddle = widePower + 288 // the same of their middles
	wideStream = wideMiddle + 288
	widePiece  = wideStream + 256 // 32 octets: what is not a whole vector
	wideEJ0    = widePiece + 32
	wideSum    = wideEJ0 + 32
	wideText   = wideSum + 32 // 16 blocks of ciphertext
	wideSize   = wideText + 256
)

const (
	wC    = v(0) // to 7: the key stream
	wLo   = v(8)
	wMi   = v(9)
	wAcc  = v(10) // one block; the upper lane is zero
	wX    = v(11)
	wT    = v(12)
	wKey  = v(13)
	wBase = v(14) // a counter block whose number is a multiple of 16, plus round key 0
	wNext = v(15) // the number of the one after, little-endian
)

type long256 struct {
	c       *constants256
	keyLen  int
	sealing bool
	h       karatsuba
}

func longKernel256(c *constants256, keyLen int, sealing bool) {
	k := &long256{c: c, keyLen: keyLen, sealing: sealing}
	k.h = karatsuba{lo: wLo, mi: wMi, hi: wAcc, t: wT, poly: c.poly}
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
	index, src, dst, left := gOff, gB, gC, gMax
	XORL(index.As32(), index.As32())
	zero(wT)
	storeA(wT, at(scratch, widePower+256))
	storeA(wT, at(scratch, wideMiddle+256))

	Label("packet")
	findKey(index, rows, "")
	for r := range rounds(keyLen) + 1 {
		d := wC + v(r%8)
		spread(at(gA, r*row), d)
		storeA(d, at(scratch, wideKeys+r*32))
	}
	for i := range 8 {
		p := rowPower + (16-2*i)*row
		d := wC + v(i)
		gather2(at(gA, p), at(gA, p-row), d)
		storeA(d, at(scratch, widePower+i*32))
		var s stream
		middle(&s, d, wT)
		emit(s)
		storeA(wT, at(scratch, wideMiddle+i*32))
	}
	// E(J0), and the counters' start.
	spread(at(jobs, jobNonce), wBase)
	VPAND(c.nonce, wBase.r(), wBase.r())
	VPADDD(c.one, wBase.x(), wX.x())
	emit(k.rounds([]v{wX}, 0))
	storeA(wX, at(scratch, wideEJ0))
	shufb(c.bswap, wBase, wNext)
	xor(at(scratch, wideKeys), wBase, wBase)

	zero(wAcc)
	MOVL(job(0, jobAADLen), left.As32())
	MOVQ(job(0, jobAAD), src)
	Label("aad")
	TESTQ(left, left)
	JEQ(LabelRef("aaddone"))
	k.tail(src, nil, "aad")
	JMP(LabelRef("aad"))
	Label("aaddone")

	MOVQ(job(0, jobSrc), src)
	MOVQ(job(0, jobDst), dst)
	MOVL(job(0, jobLen), left.As32())
	if sealing {
		CMPQ(left, num(256))
		JLT(LabelRef("tail"))
		k.iteration(nil)
	}
	Label("loop")
	CMPQ(left, num(256))
	JLT(LabelRef("looped"))
	k.iteration(k.sixteen())
	JMP(LabelRef("loop"))
	Label("looped")
	if sealing {
		TESTQ(left, left)
		JNE(LabelRef("more"))
		emit(k.sixteen())
		JMP(LabelRef("lengths"))
		Label("more")
		emit(append(k.nextCounters(), k.rounds(k.columns(), 1)...), k.sixteen())
		JMP(LabelRef("tailed"))
	}
	Label("tail")
	TESTQ(left, left)
	JEQ(LabelRef("lengths"))
	emit(append(k.nextCounters(), k.rounds(k.columns(), 1)...))
	Label("tailed")
	k.tail(src, dst, "text")

	Label("lengths")
	VMOVDQU(at(jobs, jobAADLen), wX.x())
	VPSHUFB(c.lens, wX.x(), wX.x())
	VPSLLQ(Imm(3), wX.x(), wX.x())
	xor(wAcc.r(), wX, wX)
	{
		var s stream
		k.h.mul(&s, wX, at(scratch, widePower+15*16), at(scratch, wideMiddle+15*16))
		emit(s)
	}
	VPSHUFB(k.c.bswap, wAcc.x(), wAcc.x())
	VPXOR(at(scratch, wideEJ0), wAcc.x(), wAcc.x())
	oneTag(wAcc, sealing, 0, gA)
	ADDQ(num(jobSize), jobs)
	INCQ(index)
	CMPQ(index, n)
	JLT(LabelRef("packet"))
	zero(wT)
	for i := 0; i < wideSize; i += 32 {
		storeA(wT, at(scratch, i))
	}
	wipeRegisters()
	RET()
}

// columns are the registers of key stream.
func (k *long256) columns() []v {
	return []v{wC, wC + 1, wC + 2, wC + 3, wC + 4, wC + 5, wC + 6, wC + 7}
}

// rounds are those of AES from one on.
func (k *long256) rounds(states []v, from int) stream {
	var s stream
	last := rounds(k.keyLen)
	for r := from; r <= last; r++ {
		s.do(func() { loadA(at(gScratch, wideKeys+r*32), wKey) })
		for _, x := range states {
			switch r {
			case 0:
				s.do(func() { xor(wKey.r(), x, x) })
			case last:
				s.do(func() { aesLast(wKey.r(), x) })
			default:
				s.do(func() { aes(wKey.r(), x) })
			}
		}
	}
	return s
}

// nextCounters makes 16 counter blocks, from one whose number is 2 modulo 16,
// and adds round key 0. So blocks differ from wBase in four bits only, and the
// last two from the wBase that follows.
func (k *long256) nextCounters() stream {
	var s stream
	for i := range v(7) {
		s.do(func() { xor(plus(k.c.count, 32*int(i+1)), wBase, wC+i) })
	}
	s.do(func() { addd(k.c.sixteen, wNext, wNext) })
	s.do(func() { shufb(k.c.bswap, wNext, wBase) })
	s.do(func() { xor(at(gScratch, wideKeys), wBase, wBase) })
	s.do(func() { xor(k.c.count, wBase, wC+7) })
	return s
}

// iteration takes 256 octets of text, with hash beside.
func (k *long256) iteration(hash stream) {
	src, dst := gB, gC
	var text stream
	for i := range v(8) {
		m := int(i) * 32
		kept := at(gScratch, wideText+m)
		if k.sealing {
			text.do(func() { xor(at(src, m), wC+i, wC+i) })
			text.do(func() { storeA(wC+i, kept) })
		} else {
			text.do(func() { xor(kept, wC+i, wC+i) })
		}
		text.do(func() { store(wC+i, at(dst, m)) })
	}
	emitAround(append(k.nextCounters(), k.rounds(k.columns(), 1)...), text, hash)
	ADDQ(num(256), src)
	ADDQ(num(256), dst)
	SUBQ(num(256), gMax)
}

// sixteen hashes 256 octets: those that were sealed before, or those to open.
func (k *long256) sixteen() stream {
	var s stream
	s.do(func() { storeA(wAcc, at(gScratch, wideSum)) })
	for _, i := range []int{1, 2, 3, 4, 5, 6, 7, 0} { // the sum so far is needed last
		kept := at(gScratch, wideText+i*32)
		if k.sealing {
			s.do(func() { loadA(kept, wX) })
		} else {
			s.do(func() { load(at(gB, i*32), wX) })
			s.do(func() { storeA(wX, kept) })
		}
		s.do(func() { shufb(k.c.bswap, wX, wX) })
		if i == 0 {
			s.do(func() { xor(at(gScratch, wideSum), wX, wX) })
		}
		k.h.add(&s, wX, at(gScratch, widePower+i*32), at(gScratch, wideMiddle+i*32), i == 1)
	}
	k.h.reduce(&s)
	s.do(k.fold)
	return s
}

// fold adds the lanes up in the first, and clears the other.
func (k *long256) fold() {
	VEXTRACTI128(Imm(1), wAcc.y(), wT.x())
	VPXOR(wT.x(), wAcc.x(), wAcc.x())
}

// tail takes up to 256 octets, zero-padded to whole blocks, with the powers
// that belong to them. It moves src on and sets gMax to the octets left. With
// dst, key stream is in wC.
func (k *long256) tail(src, dst reg.GPPhysical, label string) {
	// Octets of this piece, at most 256; from H^blocks on are its powers.
	piece, ks, power := gA, reg.R11, reg.R8
	MOVQ(gMax, piece)
	MOVQ(U32(256), gD)
	CMPQ(piece, gD)
	CMOVQGT(gD, piece)
	SUBQ(piece, gMax)
	LEAQ(at(piece, 15), power)
	ANDQ(I32(-16), power)
	NEGQ(power)
	ADDQ(gScratch, power)
	if dst != nil {
		for i := range v(8) {
			storeA(wC+i, at(gScratch, wideStream+int(i)*32))
		}
		MOVQ(gScratch, ks)
	}
	sum := wC // goes into the first block
	move(wAcc, sum)
	zero(wLo)
	zero(wMi)
	zero(wAcc)
	hash := func() {
		shufb(k.c.bswap, wX, wX)
		xor(sum.r(), wX, wX)
		var s stream
		load(at(power, widePower+256), wC+1)
		load(at(power, wideMiddle+256), wC+2)
		k.h.add(&s, wX, (wC + 1).r(), (wC + 2).r(), false)
		emit(s)
	}
	Label(label + "vector")
	CMPQ(piece, num(32))
	JLT(LabelRef(label + "part"))
	load(at(src, 0), wX)
	if dst != nil {
		xor(at(ks, wideStream), wX, wC+1)
		store(wC+1, at(dst, 0))
		if k.sealing {
			move(wC+1, wX)
		}
		ADDQ(num(32), ks)
		ADDQ(num(32), dst)
	}
	hash()
	zero(sum)
	ADDQ(num(32), src)
	ADDQ(num(32), power)
	SUBQ(num(32), piece)
	JMP(LabelRef(label + "vector"))

	Label(label + "part")
	TESTQ(piece, piece)
	JEQ(LabelRef(label + "reduce"))
	zero(wX)
	storeA(wX, at(gScratch, widePiece))
	LEAQ(at(gScratch, widePiece), gD)
	half := reg.R10
	copySmall(src, gD, piece, gE, half, wX, wT, label+"in")
	ADDQ(piece, src)
	loadA(at(gD, 0), wX)
	if dst != nil {
		// Key stream behind the end would leave its trace there.
		LEAQ(k.c.mask, gE)
		SUBQ(piece, gE)
		load(at(ks, wideStream), wC+1)
		VPAND(at(gE, 64), (wC + 1).r(), (wC + 1).r())
		xor(wX.r(), wC+1, wC+1)
		storeA(wC+1, at(gD, 0))
		if k.sealing {
			move(wC+1, wX)
		}
		copySmall(gD, dst, piece, gE, half, wC+1, wT, label+"out")
	}
	hash()
	Label(label + "reduce")
	var s stream
	k.h.reduce(&s)
	emit(s)
	k.fold()
}
