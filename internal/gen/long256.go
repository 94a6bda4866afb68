package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Long packets in vectors of two lanes: all lanes work on one packet. An
// iteration takes 16 blocks. Its AES runs beside GHASH of its own ciphertext when
// opening, and of the ciphertext of the iteration before when sealing. Ciphertext is
// kept in scratch memory, since another party may write to the packet: what is opened
// is read once, and what was sealed is not read again.

// Layout of scratch memory for long packets.
const (
	wideKeysAt    = 0                  // round keys, in both lanes
	widePowersAt  = 16 * 32            // H^16 to H, then zeros
	wideMiddlesAt = widePowersAt + 288 // the same of their middles
	wideStreamAt  = wideMiddlesAt + 288
	widePieceAt   = wideStreamAt + 256 // 32 octets: what is not a whole vector
	wideEJ0At     = widePieceAt + 32
	wideSumAt     = wideEJ0At + 32
	wideTextAt    = wideSumAt + 32   // 16 blocks of ciphertext
	wideNextAt    = wideTextAt + 256 // the number of the counter block after wideBase, little-endian
	wideSize      = wideNextAt + 32
)

const (
	wideStream = v(0) // to 7: the key stream
	wideLo     = v(8)
	wideMid    = v(9)
	wideSum    = v(10) // one block; the upper lane is zero
	wideBlocks = v(11)
	wideTemp   = v(12)
	wideKey    = v(13)
	wideBase   = v(14) // a counter block whose number is a multiple of 16, plus round key 0
	wideTemp2  = v(15)
)

type long256 struct {
	c       *constants256
	keyLen  int
	sealing bool
	h       karatsuba
}

func longKernel256(c *constants256, keyLen int, sealing bool) {
	k := &long256{c: c, keyLen: keyLen, sealing: sealing}
	k.h = karatsuba{lo: wideLo, mi: wideMid, hi: wideSum, t: wideTemp, u: wideTemp2, poly: c.poly}
	longFunction(keyLen, sealing)
	src, dst, left := tempB, tempC, longLeft
	XORL(longIndex.As32(), longIndex.As32())
	zero(wideTemp)
	storeA(wideTemp, at(scratchPtr, widePowersAt+256))
	storeA(wideTemp, at(scratchPtr, wideMiddlesAt+256))

	Label("packet")
	findKey("")
	for r := range rounds(keyLen) + 1 {
		d := wideStream + v(r%8)
		broadcast(at(tempA, r*row), d)
		storeA(d, at(scratchPtr, wideKeysAt+r*32))
	}
	for i := range 8 {
		p := rowPower + (16-2*i)*row
		d := wideStream + v(i)
		gather2(at(tempA, p), at(tempA, p-row), d)
		storeA(d, at(scratchPtr, widePowersAt+i*32))
		var s stream
		middle(&s, d, wideTemp)
		emit(s)
		storeA(wideTemp, at(scratchPtr, wideMiddlesAt+i*32))
	}
	// E(J0), and the counters' start.
	broadcast(at(jobsPtr, jobNonce), wideBase)
	VPAND(c.nonce, wideBase.r(), wideBase.r())
	VPADDD(c.one, wideBase.x(), wideBlocks.x())
	emit(k.rounds([]v{wideBlocks}, 0))
	storeA(wideBlocks, at(scratchPtr, wideEJ0At))
	shufb(c.bswap, wideBase, wideTemp)
	storeA(wideTemp, at(scratchPtr, wideNextAt))
	xor(at(scratchPtr, wideKeysAt), wideBase, wideBase)

	zero(wideSum)
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
	VMOVDQU(at(jobsPtr, jobAADLen), wideBlocks.x())
	VPSHUFB(c.lens, wideBlocks.x(), wideBlocks.x())
	VPSLLQ(Imm(3), wideBlocks.x(), wideBlocks.x())
	xor(wideSum.r(), wideBlocks, wideBlocks)
	{
		var s stream
		k.h.mul(&s, wideBlocks, factor{at(scratchPtr, widePowersAt+15*16), at(scratchPtr, wideMiddlesAt+15*16), 0})
		emit(s)
	}
	VPSHUFB(k.c.bswap, wideSum.x(), wideSum.x())
	VPXOR(at(scratchPtr, wideEJ0At), wideSum.x(), wideSum.x())
	oneTag(wideSum, sealing, 0, tempA)
	ADDQ(num(jobSize), jobsPtr)
	INCQ(longIndex)
	CMPQ(longIndex, packets)
	JLT(LabelRef("packet"))
	wipeScratch(wideTemp, scratchPtr, packets, wideSize)
	wipeRegisters()
	RET()
}

// columns are the registers of key stream.
func (k *long256) columns() []v {
	return []v{wideStream, wideStream + 1, wideStream + 2, wideStream + 3, wideStream + 4, wideStream + 5, wideStream + 6, wideStream + 7}
}

// rounds are those of AES from one on.
func (k *long256) rounds(states []v, from int) stream {
	var s stream
	last := rounds(k.keyLen)
	for r := from; r <= last; r++ {
		s.do(func() { loadA(at(scratchPtr, wideKeysAt+r*32), wideKey) })
		for _, x := range states {
			s.do(func() { aesRound(r, last, wideKey.r(), x) })
		}
	}
	return s
}

// nextCounters makes 16 counter blocks, from one whose number is 2 modulo 16,
// and adds round key 0. So blocks differ from wideBase in four bits only, and the
// last two from the wideBase that follows.
func (k *long256) nextCounters() stream {
	var s stream
	for i := range v(7) {
		s.do(func() { xor(plus(k.c.count, 32*int(i+1)), wideBase, wideStream+i) })
	}
	const next = wideStream + 7
	s.do(func() { loadA(k.c.sixteen, next) })
	s.do(func() { addd(at(scratchPtr, wideNextAt), next, next) })
	s.do(func() { storeA(next, at(scratchPtr, wideNextAt)) })
	s.do(func() { shufb(k.c.bswap, next, wideBase) })
	s.do(func() { xor(at(scratchPtr, wideKeysAt), wideBase, wideBase) })
	s.do(func() { xor(k.c.count, wideBase, wideStream+7) })
	return s
}

// iteration takes 256 octets of text, with hash beside.
func (k *long256) iteration(hash stream) {
	src, dst := tempB, tempC
	var text stream
	for i := range v(8) {
		m := int(i) * 32
		kept := at(scratchPtr, wideTextAt+m)
		if k.sealing {
			text.do(func() { xor(at(src, m), wideStream+i, wideStream+i) })
			text.do(func() { storeA(wideStream+i, kept) })
		} else {
			text.do(func() { xor(kept, wideStream+i, wideStream+i) })
		}
		text.do(func() { store(wideStream+i, at(dst, m)) })
	}
	emitAround(append(k.nextCounters(), k.rounds(k.columns(), 1)...), text, hash)
	ADDQ(num(256), src)
	ADDQ(num(256), dst)
	SUBQ(num(256), longLeft)
}

// sixteen hashes 256 octets: those that were sealed before, or those to open.
func (k *long256) sixteen() stream {
	var s stream
	s.do(func() { storeA(wideSum, at(scratchPtr, wideSumAt)) })
	for _, i := range []int{1, 2, 3, 4, 5, 6, 7, 0} { // the sum so far is needed last
		kept := at(scratchPtr, wideTextAt+i*32)
		if k.sealing {
			s.do(func() { loadA(kept, wideBlocks) })
		} else {
			s.do(func() { load(at(tempB, i*32), wideBlocks) })
			s.do(func() { storeA(wideBlocks, kept) })
		}
		s.do(func() { shufb(k.c.bswap, wideBlocks, wideBlocks) })
		if i == 0 {
			s.do(func() { xor(at(scratchPtr, wideSumAt), wideBlocks, wideBlocks) })
		}
		k.h.add(&s, wideBlocks, factor{at(scratchPtr, widePowersAt+i*32), at(scratchPtr, wideMiddlesAt+i*32), 0}, i == 1)
	}
	k.h.reduce(&s)
	s.do(k.fold)
	return s
}

// fold adds the lanes of the sum up in its first, and clears the other.
func (k *long256) fold() { foldLanes(wideSum, wideTemp) }

// tail takes up to 256 octets, zero-padded to whole blocks, with the powers
// that belong to them. It moves src on and sets longLeft to the octets left. With
// dst, key stream is in wideStream.
func (k *long256) tail(src, dst reg.GPPhysical, label string) {
	// Octets of this piece, at most 256; from H^blocks on are its powers.
	piece, ks, power := tempA, reg.R11, reg.R8
	MOVQ(longLeft, piece)
	MOVQ(U32(256), tempD)
	CMPQ(piece, tempD)
	CMOVQGT(tempD, piece)
	SUBQ(piece, longLeft)
	LEAQ(at(piece, 15), power)
	ANDQ(I32(-16), power)
	NEGQ(power)
	ADDQ(scratchPtr, power)
	if dst != nil {
		for i := range v(8) {
			storeA(wideStream+i, at(scratchPtr, wideStreamAt+int(i)*32))
		}
		MOVQ(scratchPtr, ks)
	}
	sum := wideStream // goes into the first block
	move(wideSum, sum)
	zero(wideLo)
	zero(wideMid)
	zero(wideSum)
	hash := func() {
		shufb(k.c.bswap, wideBlocks, wideBlocks)
		xor(sum.r(), wideBlocks, wideBlocks)
		var s stream
		load(at(power, widePowersAt+256), wideStream+1)
		load(at(power, wideMiddlesAt+256), wideStream+2)
		k.h.add(&s, wideBlocks, factor{(wideStream + 1).r(), (wideStream + 2).r(), 0}, false)
		emit(s)
	}
	Label(label + "vector")
	CMPQ(piece, num(32))
	JLT(LabelRef(label + "part"))
	load(at(src, 0), wideBlocks)
	if dst != nil {
		xor(at(ks, wideStreamAt), wideBlocks, wideStream+1)
		store(wideStream+1, at(dst, 0))
		if k.sealing {
			move(wideStream+1, wideBlocks)
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
	zero(wideBlocks)
	storeA(wideBlocks, at(scratchPtr, widePieceAt))
	LEAQ(at(scratchPtr, widePieceAt), tempD)
	half := reg.R10
	copySmall(src, tempD, piece, tempE, half, wideBlocks, wideTemp, label+"in")
	ADDQ(piece, src)
	loadA(at(tempD, 0), wideBlocks)
	if dst != nil {
		// Key stream behind the end must not get into the ciphertext.
		LEAQ(k.c.mask, tempE)
		SUBQ(piece, tempE)
		load(at(ks, wideStreamAt), wideStream+1)
		VPAND(at(tempE, 64), (wideStream + 1).r(), (wideStream + 1).r())
		xor(wideBlocks.r(), wideStream+1, wideStream+1)
		storeA(wideStream+1, at(tempD, 0))
		if k.sealing {
			move(wideStream+1, wideBlocks)
		}
		copySmall(tempD, dst, piece, tempE, half, wideStream+1, wideTemp, label+"out")
	}
	hash()
	Label(label + "reduce")
	var s stream
	k.h.reduce(&s)
	emit(s)
	k.fold()
}
