package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Short packets: a lane is a packet. A chunk is 64 octets of each of four
// packets: four columns, a column being one block of each.

// Layout of scratch memory for short packets.
const (
	scratchRows  = 0                 // round keys of the group under way
	scratchPower = 2048              // rows of powers for lanes of unequal length; see below
	scratchJobs  = 2048 + 16*row     // four jobs, where fewer than four are left
	scratchSink  = scratchJobs + 256 // where lanes without a packet write
	sinkSize     = 1088
)

type short512 struct {
	c       *constants
	keyLen  int
	fresh   bool // keys are raw; else in groups of rows
	sealing bool

	h hasher
}

// Registers of the short kernels.
const (
	sH     = v(0)
	sJ     = v(1)
	sC     = v(2)  // to 5: columns of the chunk under way
	sKey   = v(6)  // the round key in the making
	sT     = v(7)  // to 11: temporaries
	sX     = v(12) // to 15: columns to hash
	sAcc   = v(16)
	sLo    = v(17)
	sMi    = v(18)
	sEJ0   = v(19)
	sP     = v(20) // to 23: H to H^4
	sHi    = v(24)
	sCtr   = v(25)
	sKeyB  = v(26)
	sT2    = v(27)
	sOne   = v(28)
	sRot   = v(29)
	sPoly  = v(30)
	sBswap = v(31)
)

var (
	gJobs    = reg.RDI
	gKeys    = reg.RSI
	gScratch = reg.RDX
	gN       = reg.RCX
	gOff     = reg.RBX // offset of the chunk
	gRows    = reg.R8  // round keys of the group
	gMax     = reg.R9  // octets of its longest packet
	g64      = reg.R10
	gOnes    = reg.R11
	gA       = reg.RAX
	gB       = reg.R12
	gC       = reg.R13
	gD       = reg.R14
	gE       = reg.R15
)

func job(lane, field int) Mem { return at(gJobs, lane*jobSize+field) }

func shortKernel512(c *constants, keyLen int, fresh, sealing bool) {
	k := &short512{c: c, keyLen: keyLen, fresh: fresh, sealing: sealing}
	k.h = hasher{lo: sLo, mi: sMi, hi: sHi, t: [4]v{sT + 1, sT + 2, sT + 3, sT + 4}, poly: sPoly}
	base := "open"
	if sealing {
		base = "seal"
	}
	if fresh {
		base += "Fresh"
	} else {
		base += "Held"
	}
	function(name(base, keyLen), "func(keys, jobs *byte, n int, scratch *byte)",
		name(base, keyLen)+" takes n short packets, in order of length.")
	Load(Param("keys"), gKeys)
	Load(Param("jobs"), gJobs)
	Load(Param("n"), gN)
	Load(Param("scratch"), gScratch)
	setLaneMasks(gA)
	XORL(gRows.As32(), gRows.As32())
	MOVQ(U32(64), g64)
	MOVQ(I32(-1), gOnes)
	spread(c.bswap, sBswap)
	spread(c.poly, sPoly)
	spread(c.rot, sRot)
	spread(c.one, sOne)

	Label("group")
	CMPQ(gN, num(4))
	JLT(LabelRef("part"))
	Label("four")
	MOVL(job(3, jobLen), gMax.As32())
	XORL(gOff.As32(), gOff.As32())
	k.counters()
	if fresh {
		k.freshKeys()
	} else {
		k.heldKeys()
	}
	k.aad()
	k.chunks()
	k.finish()
	k.next()
	k.part()
	Label("done")
	k.wipe()
	wipeRegisters()
	RET()
}

// wipe zeroes what the kernel left in scratch memory, but for the sink.
func (k *short512) wipe() {
	zero(sT)
	for i := range 5 {
		storeA(sT, at(gScratch, scratchPower+(4+i)*row))
	}
	TESTQ(gRows, gRows)
	JEQ(LabelRef("wiped"))
	for r := range rounds(k.keyLen) + 1 {
		storeA(sT, at(gScratch, scratchRows+r*row))
	}
	if !k.fresh {
		for r := 16; r < 20; r++ {
			storeA(sT, at(gScratch, scratchRows+r*row))
		}
	}
	Label("wiped")
}

// counters makes the first counter blocks, in sJ and sC.
func (k *short512) counters() {
	gather([]Mem{job(0, jobNonce), job(1, jobNonce), job(2, jobNonce), job(3, jobNonce)}, sCtr)
	spread(k.c.nonce, sT)
	VPANDQ(sT.r(), sCtr.r(), sCtr.r())
	addd(sOne.r(), sCtr, sJ)
	addd(sOne.r(), sJ, sC)
	addd(sOne.r(), sC, sC+1)
	addd(sOne.r(), sC+1, sC+2)
	addd(sOne.r(), sC+2, sC+3)
	move(sC+3, sCtr)
}

// freshKeys runs the key schedule, H, E(J0) and the first four columns side by
// side; for packets with more than one chunk round keys are also stored.
func (k *short512) freshKeys() {
	loadKeys512(gKeys, k.keyLen, sKey, sKeyB, sT, false)
	Label("keys")
	CMPQ(gMax, num(64))
	JG(LabelRef("keep"))
	k.schedule(false)
	JMP(LabelRef("keyed"))
	Label("keep")
	LEAQ(at(gScratch, scratchRows), gRows)
	k.schedule(true)
	Label("keyed")
	move(sJ, sEJ0)
	shufb(sBswap.r(), sH, sP)
	spread(k.c.carry, sT)
	var s stream
	timesX(&s, sP, sT+1, sT)
	k.h.square(&s, sP, sP+1)
	emit(s)
}

// schedule interleaves the key schedule with six streams of AES.
func (k *short512) schedule(keep bool) {
	states := []v{sH, sJ, sC, sC + 1, sC + 2, sC + 3}
	a, b := sKey, sKeyB
	use := func(r int, key v) stream {
		var s stream
		if keep {
			s.do(func() { storeA(key, at(gRows, r*row)) })
		}
		for _, x := range states {
			switch {
			case r == 0 && x == sH:
				s.do(func() { move(key, x) })
			case r == 0:
				s.do(func() { xor(key.r(), x, x) })
			case r == rounds(k.keyLen):
				s.do(func() { aesLast(key.r(), x) })
			default:
				s.do(func() { aes(key.r(), x) })
			}
		}
		return s
	}
	rc, none := sT+2, sT+3
	if k.keyLen == 16 {
		emit(use(0, a))
		for r := 1; r <= 10; r++ {
			spreadWord(plus(k.c.rcon, 4*(r-1)), rc)
			emit(nextKey(a, a, sRot, rc, sT, sT+1))
			emit(use(r, a))
		}
		return
	}
	zero(none)
	emit(use(0, a))
	emit(use(1, b))
	for r := 2; r <= 14; r++ {
		if r%2 == 0 {
			spreadWord(plus(k.c.rcon, 4*(r/2-1)), rc)
			emit(nextKey(a, b, sRot, rc, sT, sT+1))
			emit(use(r, a))
		} else {
			last := sT + 4
			if r == 3 {
				spread(k.c.last, last)
			}
			emit(nextKey(b, a, last, none, sT, sT+1))
			emit(use(r, b))
		}
	}
}

// heldKeys finds the four keys. Where they are one group, in order, it is used
// as it is; else their rows are gathered into scratch memory.
func (k *short512) heldKeys() {
	for i := range 4 {
		MOVL(job(i, jobKey), []reg.GPPhysical{gA, gB, gC, gD}[i].As32())
	}
	// address of key i: (i/4)*groupSize + (i%4)*16
	for _, g := range []reg.GPPhysical{gA, gB, gC, gD} {
		MOVQ(g, gE)
		ANDQ(Imm(3), gE)
		SHRQ(Imm(2), g)
		SHLQ(Imm(7), g) // groupSize/16
		ADDQ(gE, g)
		SHLQ(Imm(4), g)
		ADDQ(gKeys, g)
	}
	MOVQ(gA, gRows)
	LEAQ(at(gA, 16), gE)
	CMPQ(gE, gB)
	JNE(LabelRef("collect"))
	LEAQ(at(gA, 32), gE)
	CMPQ(gE, gC)
	JNE(LabelRef("collect"))
	LEAQ(at(gA, 48), gE)
	CMPQ(gE, gD)
	JEQ(LabelRef("collected"))
	Label("collect")
	LEAQ(at(gScratch, scratchRows), gRows)
	rowsOf := func(from, to int) {
		for r := from; r <= to; r++ {
			d := sT + v(r%4)
			gather([]Mem{at(gA, r*row), at(gB, r*row), at(gC, r*row), at(gD, r*row)}, d)
			storeA(d, at(gRows, r*row))
		}
	}
	rowsOf(0, rounds(k.keyLen))
	rowsOf(16, 19)
	Label("collected")
	states := []v{sJ, sC, sC + 1, sC + 2, sC + 3}
	k.encrypt(states)
	move(sJ, sEJ0)
	for i := v(0); i < 4; i++ {
		loadA(at(gRows, rowPower+int(i+1)*row), sP+i)
	}
}

// rounds of AES with the keys at gRows.
func (k *short512) aesRounds(states []v) stream {
	var s stream
	for r := 0; r <= rounds(k.keyLen); r++ {
		for _, x := range states {
			key := at(gRows, r*row)
			switch r {
			case 0:
				s.do(func() { xor(key, x, x) })
			case rounds(k.keyLen):
				s.do(func() { aesLast(key, x) })
			default:
				s.do(func() { aes(key, x) })
			}
		}
	}
	return s
}

func (k *short512) encrypt(states []v) { emit(k.aesRounds(states)) }

// more makes H^3 and H^4 of a fresh key.
func (k *short512) more() {
	if !k.fresh {
		return
	}
	var s stream
	k.h.mul(&s, sP+1, sP.r(), sP+2)
	k.h.square(&s, sP+1, sP+3)
	emit(s)
}

// turn is a 4 by 4 transposition of lanes: row i of a becomes lane i of all d.
func turn(a [4]v, d [4]v, t [4]v) {
	VSHUFI64X2(Imm(0x44), a[1].r(), a[0].r(), t[0].r())
	VSHUFI64X2(Imm(0xee), a[1].r(), a[0].r(), t[1].r())
	VSHUFI64X2(Imm(0x44), a[3].r(), a[2].r(), t[2].r())
	VSHUFI64X2(Imm(0xee), a[3].r(), a[2].r(), t[3].r())
	VSHUFI64X2(Imm(0x88), t[2].r(), t[0].r(), d[0].r())
	VSHUFI64X2(Imm(0xdd), t[2].r(), t[0].r(), d[1].r())
	VSHUFI64X2(Imm(0x88), t[3].r(), t[1].r(), d[2].r())
	VSHUFI64X2(Imm(0xdd), t[3].r(), t[1].r(), d[3].r())
}

func four(first v) [4]v { return [4]v{first, first + 1, first + 2, first + 3} }

// left sets g to how many of a lane's octets lie in the chunk at gOff, 0..64.
func left(lane, field int, g reg.GPPhysical, z reg.GPPhysical) {
	MOVL(job(lane, field), g.As32())
	SUBQ(gOff, g)
	CMOVQLT(z, g)
	CMPQ(g, g64)
	CMOVQGT(g64, g)
}

// laneLoad loads a lane's octets of the chunk, zeros behind its end; K4+lane
// is their mask.
func laneLoad(lane, pointer, length int, d v) {
	XORL(gE.As32(), gE.As32())
	left(lane, length, gA, gE)
	BZHIQ(gA, gOnes, gB)
	KMOVQ(gB, []reg.OpmaskPhysical{reg.K4, reg.K5, reg.K6, reg.K7}[lane])
	MOVQ(job(lane, pointer), gC)
	ADDQ(gOff, gC)
	TESTQ(gA, gA)
	CMOVQEQ(gScratch, gC) // no octet: nor an address outside of the buffer
	VMOVDQU8_Z(at(gC, 0), []reg.OpmaskPhysical{reg.K4, reg.K5, reg.K6, reg.K7}[lane], d.r())
}

// unequal hashes columns sX.. of which lane i has as many as its length says;
// lanes that end early are multiplied with 1.
func (k *short512) unequal(length int, label string) {
	// rows of powers: 1 (as x, see timesX), H, .. H^4; in front four rows for
	// columns behind the end, which are zero.
	base := scratchPower + 4*row
	storeA(sPoly, at(gScratch, base))
	for i := 1; i <= 4; i++ {
		storeA(sP+v(i-1), at(gScratch, base+i*row))
	}
	g := []reg.GPPhysical{gA, gB, gC, gD}
	XORL(gE.As32(), gE.As32())
	for i := range 4 {
		left(i, length, g[i], gE)
		ADDQ(num(15), g[i])
		SHRQ(Imm(4), g[i])
		SHLQ(Imm(6), g[i])
		ADDQ(gScratch, g[i])
	}
	var s stream
	s.do(func() { xor(sAcc.r(), sX, sX) })
	for c := range 4 {
		m := sT
		s.do(func() {
			gather([]Mem{at(g[0], base-c*row), at(g[1], base-c*row+16), at(g[2], base-c*row+32), at(g[3], base-c*row+48)}, m)
		})
		k.h.add(&s, sX+v(c), m.r(), c == 0)
	}
	k.h.reduce(&s, sAcc)
	emit(s)
}

// equal hashes n whole columns.
func (k *short512) equal(n int, first bool) stream {
	var s stream
	if !first {
		s.do(func() { xor(sAcc.r(), sX, sX) })
	}
	for c := range n {
		k.h.add(&s, sX+v(c), (sP + v(n-1-c)).r(), c == 0)
	}
	k.h.reduce(&s, sAcc)
	return s
}

// aad hashes the AAD. Headers of one burst mostly have one length, of up to
// two blocks.
func (k *short512) aad() {
	MOVL(job(0, jobAADLen), gA.As32())
	for i := 1; i < 4; i++ {
		CMPL(gA.As32(), job(i, jobAADLen))
		JNE(LabelRef("aadslow"))
	}
	CMPQ(gA, num(32))
	JG(LabelRef("aadslow"))
	CMPQ(gA, num(16))
	JLE(LabelRef("aadone"))
	BZHIQ(gA, gOnes, gB)
	KMOVD(gB.As32(), reg.K4)
	for i := range 4 {
		MOVQ(job(i, jobAAD), gC)
		VMOVDQU8_Z(at(gC, 0), reg.K4, (sT + v(i)).y())
	}
	VINSERTI64X4(Imm(1), (sT + 1).y(), sT.r(), sT.r())
	VINSERTI64X4(Imm(1), (sT + 3).y(), (sT + 2).r(), (sT + 2).r())
	VSHUFI64X2(Imm(0x88), (sT + 2).r(), sT.r(), sX.r())
	VSHUFI64X2(Imm(0xdd), (sT + 2).r(), sT.r(), (sX + 1).r())
	shufb(sBswap.r(), sX, sX)
	shufb(sBswap.r(), sX+1, sX+1)
	emit(k.equal(2, true))
	JMP(LabelRef("aaddone"))

	Label("aadone")
	zero(sAcc)
	TESTQ(gA, gA)
	JEQ(LabelRef("aaddone"))
	BZHIQ(gA, gOnes, gB)
	KMOVD(gB.As32(), reg.K4)
	for i := range 4 {
		MOVQ(job(i, jobAAD), gC)
		VMOVDQU8_Z(at(gC, 0), reg.K4, (sT + v(i)).x())
	}
	VINSERTI32X4(Imm(1), (sT + 1).x(), sT.r(), sT.r())
	VINSERTI32X4(Imm(1), (sT + 3).x(), (sT + 2).r(), (sT + 2).r())
	VSHUFI64X2(Imm(0x44), (sT + 2).r(), sT.r(), sX.r())
	shufb(sBswap.r(), sX, sX)
	emit(k.equal(1, true))
	JMP(LabelRef("aaddone"))

	Label("aadslow")
	// Any lengths: chunk by chunk.
	zero(sAcc)
	k.more()
	Label("aadchunk")
	for i := range 4 {
		laneLoad(i, jobAAD, jobAADLen, sX+v(i))
	}
	turn(four(sX), four(sX), four(sT))
	for i := v(0); i < 4; i++ {
		shufb(sBswap.r(), sX+i, sX+i)
	}
	k.unequal(jobAADLen, "aad")
	ADDQ(num(64), gOff)
	for i := range 4 {
		MOVL(job(i, jobAADLen), gA.As32())
		CMPQ(gA, gOff)
		JGT(LabelRef("aadchunk"))
	}
	XORL(gOff.As32(), gOff.As32())
	Label("aaddone")
}

// text takes the columns of key stream in sC.. and the packets' octets of the
// chunk at gOff, writes the result, and leaves the columns to hash in sX..
func (k *short512) text(masked bool) {
	turn(four(sC), four(sC), four(sT))
	for i := range 4 {
		x, ks := sX+v(i), sC+v(i)
		mask := []reg.OpmaskPhysical{reg.K4, reg.K5, reg.K6, reg.K7}[i]
		if masked {
			laneLoad(i, jobSrc, jobLen, x)
			MOVQ(job(i, jobDst), gC)
			ADDQ(gOff, gC)
			TESTQ(gA, gA)
			CMOVQEQ(gScratch, gC)
			xor(x.r(), ks, ks)
			if k.sealing {
				VMOVDQU8_Z(ks.r(), mask, x.r())
			}
			VMOVDQU8(ks.r(), mask, at(gC, 0))
			continue
		}
		MOVQ(job(i, jobSrc), gA)
		MOVQ(job(i, jobDst), gC)
		load(Mem{Base: gA, Index: gOff, Scale: 1}, x)
		if k.sealing {
			xor(ks.r(), x, x)
			store(x, Mem{Base: gC, Index: gOff, Scale: 1})
		} else {
			xor(x.r(), ks, ks)
			store(ks, Mem{Base: gC, Index: gOff, Scale: 1})
		}
	}
	turn(four(sX), four(sX), four(sT))
	for i := v(0); i < 4; i++ {
		shufb(sBswap.r(), sX+i, sX+i)
	}
}

// step hashes two columns with H^2 and H.
func (k *short512) two(x v) stream {
	var s stream
	s.do(func() { xor(sAcc.r(), x, x) })
	k.h.add(&s, x, (sP + 1).r(), true)
	k.h.add(&s, x+1, sP.r(), false)
	k.h.reduce(&s, sAcc)
	return s
}

// whole jumps to label unless all four lanes fill the chunk at gOff.
func whole(label string) {
	for i := range 4 {
		MOVL(job(i, jobLen), gA.As32())
		SUBQ(gOff, gA)
		CMPQ(gA, g64)
		JLT(LabelRef(label))
	}
}

func (k *short512) chunks() {
	// The first chunk has its key stream already.
	CMPQ(gMax, num(64))
	if k.fresh {
		JG(LabelRef("first"))
	} else {
		JMP(LabelRef("first"))
	}
	if k.fresh {
		// Packets of exactly one chunk: the powers up to two will do.
		whole("first")
		k.text(false)
		emit(k.two(sX))
		emit(k.two(sX + 2))
		JMP(LabelRef("lengths"))
	}
	Label("first")
	k.more()
	Label("chunk") // key stream in sC
	whole("ragged")
	k.text(false)
	LEAQ(at(gOff, 64), gA)
	CMPQ(gA, gMax)
	JGE(LabelRef("lastwhole"))
	// More to come: the next chunk's key stream while this one is hashed.
	k.nextCounters()
	emit(k.aesRounds([]v{sC, sC + 1, sC + 2, sC + 3}), k.equal(4, false))
	ADDQ(num(64), gOff)
	JMP(LabelRef("chunk"))
	Label("lastwhole")
	emit(k.equal(4, false))
	JMP(LabelRef("lengths"))

	Label("ragged")
	k.text(true)
	k.unequal(jobLen, "text")
	ADDQ(num(64), gOff)
	CMPQ(gOff, gMax)
	JGE(LabelRef("lengths"))
	k.nextCounters()
	k.encrypt([]v{sC, sC + 1, sC + 2, sC + 3})
	JMP(LabelRef("chunk"))
	Label("lengths")
}

func (k *short512) nextCounters() {
	addd(sOne.r(), sCtr, sC)
	addd(sOne.r(), sC, sC+1)
	addd(sOne.r(), sC+1, sC+2)
	addd(sOne.r(), sC+2, sC+3)
	move(sC+3, sCtr)
}

// finish hashes the lengths and writes or compares the tags.
func (k *short512) finish() {
	gather([]Mem{job(0, jobAADLen), job(1, jobAADLen), job(2, jobAADLen), job(3, jobAADLen)}, sX)
	spread(k.c.lens, sT)
	shufb(sT.r(), sX, sX)
	VPSLLQ(Imm(3), sX.r(), sX.r())
	emit(k.equal(1, false))
	shufb(sBswap.r(), sAcc, sAcc)
	g := []reg.GPPhysical{gA, gB, gC, gD}
	for i := range 4 {
		MOVQ(job(i, jobTag), g[i])
	}
	xor(sEJ0.r(), sAcc, sAcc)
	if k.sealing {
		VMOVDQU32(sAcc.x(), at(g[0], 0))
		for i := 1; i < 4; i++ {
			VEXTRACTI32X4(Imm(uint64(i)), sAcc.r(), at(g[i], 0))
		}
		return
	}
	gather([]Mem{at(g[0], 0), at(g[1], 0), at(g[2], 0), at(g[3], 0)}, sX)
	VPCMPEQQ(sX.r(), sAcc.r(), reg.K4)
	KMOVB(reg.K4, gA.As32())
	MOVL(gA.As32(), gB.As32())
	SHRL(Imm(1), gB.As32())
	ANDL(gB.As32(), gA.As32()) // bit 2i: both halves of lane i are right
	for i := range 4 {
		MOVL(gA.As32(), gB.As32())
		if i > 0 {
			SHRL(Imm(uint64(2*i)), gB.As32())
		}
		ANDL(Imm(1), gB.As32())
		MOVL(gB.As32(), job(i, jobOK))
	}
}

func (k *short512) next() {
	if k.fresh {
		ADDQ(num(4*k.keyLen), gKeys)
	}
	ADDQ(num(4*jobSize), gJobs)
	SUBQ(num(4), gN)
	JG(LabelRef("group"))
	if !k.sealing {
		// A group of fewer than four was worked on in a copy.
		JEQ(LabelRef("done"))
		ADDQ(num(4), gN)
		MOVQ(Param2("jobs"), gA)
		MOVQ(Param2("n"), gB)
		SUBQ(gN, gB)
		SHLQ(Imm(6), gB)
		ADDQ(gB, gA)
		LEAQ(at(gScratch, scratchJobs), gB)
		Label("outcome")
		MOVL(at(gB, jobOK), gC.As32())
		MOVL(gC.As32(), at(gA, jobOK))
		ADDQ(num(jobSize), gA)
		ADDQ(num(jobSize), gB)
		DECQ(gN)
		JNZ(LabelRef("outcome"))
	}
	JMP(LabelRef("done"))
}

// Param2 is a parameter's memory.
func Param2(name string) Mem {
	b, err := Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	return b.Addr
}

// part sets up a group of fewer than four packets: lanes without one repeat
// the last, and write into the sink.
func (k *short512) part() {
	Label("part")
	TESTQ(gN, gN)
	JLE(LabelRef("done"))
	if k.fresh {
		keyMasks(gN, k.keyLen, gA, gB)
	}
	LEAQ(at(gScratch, scratchJobs), gA)
	MOVQ(gN, gB)
	MOVQ(gJobs, gC)
	Label("copy")
	loadA2 := func(from reg.GPPhysical, to reg.GPPhysical) {
		load(at(from, 0), sT)
		store(sT, at(to, 0))
	}
	loadA2(gC, gA)
	ADDQ(num(jobSize), gA)
	ADDQ(num(jobSize), gC)
	DECQ(gB)
	JNZ(LabelRef("copy"))
	SUBQ(num(jobSize), gC)
	LEAQ(at(gScratch, scratchJobs+4*jobSize), gD)
	LEAQ(at(gScratch, scratchSink), gE)
	Label("fill")
	loadA2(gC, gA)
	MOVQ(gE, at(gA, jobDst))
	if k.sealing {
		MOVQ(gE, at(gA, jobTag))
	}
	ADDQ(num(jobSize), gA)
	CMPQ(gA, gD)
	JLT(LabelRef("fill"))
	LEAQ(at(gScratch, scratchJobs), gJobs)
	if k.fresh {
		MOVL(job(3, jobLen), gMax.As32())
		XORL(gOff.As32(), gOff.As32())
		k.counters()
		loadKeys512(gKeys, k.keyLen, sKey, sKeyB, sT, true)
		JMP(LabelRef("keys"))
	} else {
		JMP(LabelRef("four"))
	}
}
