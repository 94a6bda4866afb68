package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Short packets in vectors of two lanes: a lane is a packet. A chunk is 64
// octets of each of two packets: four columns, a column being one block of
// each. A packet that finds no partner is in both lanes, and lane 1 counts: it is
// the last to store text and to say what became of the packet. Counters are added up
// in the last octet of their big-endian form, which is enough for 4000 octets.

// Layout of scratch memory for short packets.
const (
	pairRows   = 0                 // round keys
	pairPower  = 2048 + 4*32       // 1 (as x, see timesX), H, .. H^4; rows in front are zero
	pairMiddle = pairPower + 5*32  // middles of H, .. H^4
	pairText   = pairMiddle + 4*32 // two times 64 octets: pieces of chunks that are not whole
	pairEJ0    = pairText + 2*64   // of the pair in the queue; the rest belongs to it too
	pairH      = pairEJ0 + 32      // H as AES gave it, of tiny packets
	pairQueue  = pairH + 32        // columns to hash
	pairBefore = pairQueue + 10*32 // addresses of its two jobs
	pairNoJob  = pairBefore + 32   // a job for when there is none
	pairNoTag  = pairNoJob + jobSize
	pairKept   = pairNoTag + 32 // 128 octets of ciphertext of each packet
	pairEnd    = pairKept + 2*128
)

type short256 struct {
	c       *constants256
	keyLen  int
	fresh   bool // keys are raw; else in groups of rows
	sealing bool

	h karatsuba
}

// Registers of the short kernels. The key schedule runs beside the GHASH of the
// pair before, so they share none.
const (
	pC    = v(0) // to 3, or to 7: columns of key stream
	pX    = v(4) // to 7: columns to hash
	pLo   = v(8)
	pMi   = v(9)
	pAcc  = v(10)
	pT    = v(11) // to pV: temporaries
	pU    = v(12)
	pV    = v(13)
	pCtr  = v(14)
	pEJ0  = v(15)
	pSum  = v(15)
	pH    = v(4)
	pKey  = v(5) // the round key in the making
	pKeyB = v(6)
	pS    = v(7) // another temporary
)

// powerOf and middleOf are H^k in scratch memory.
func powerOf(k int) Mem  { return at(gScratch, pairPower+32*k) }
func middleOf(k int) Mem { return at(gScratch, pairMiddle+32*(k-1)) }

// gJob1 is lane 1's job; gJobs points to lane 0's.
var gJob1 = reg.R10

func pairJob(lane, field int) Mem { return at([]reg.GPPhysical{gJobs, gJob1}[lane], field) }

func shortKernel256(c *constants256, keyLen int, fresh, sealing bool) {
	k := &short256{c: c, keyLen: keyLen, fresh: fresh, sealing: sealing}
	k.h = karatsuba{lo: pLo, mi: pMi, hi: pAcc, t: pT, poly: c.poly}
	shortFunction(keyLen, fresh, sealing)
	XORL(gRows.As32(), gRows.As32())
	load(c.poly, pT)
	storeA(pT, powerOf(0))
	// Nothing is in the queue at first: its tags go nowhere.
	LEAQ(at(gScratch, pairNoJob), gA)
	LEAQ(at(gScratch, pairNoTag), gB)
	MOVQ(gB, at(gA, jobTag))
	MOVQ(gA, at(gScratch, pairBefore))
	MOVQ(gA, at(gScratch, pairBefore+8))
	if fresh {
		k.tiny()
	}

	Label("pair")
	MOVQ(gJobs, gJob1)
	CMPQ(gN, num(1))
	JLT(LabelRef("flush"))
	JEQ(LabelRef("single"))
	// Lanes of very different length are not worth it: alone is faster.
	MOVL(pairJob(0, jobLen), gA.As32())
	MOVQ(gA, gB)
	SHRQ(Imm(3), gB)
	LEAQ(Mem{Base: gA, Index: gB, Scale: 1, Disp: 128}, gA)
	MOVL(at(gJobs, jobSize+jobLen), gB.As32())
	CMPQ(gA, gB)
	JLT(LabelRef("single"))
	ADDQ(num(jobSize), gJob1)
	if fresh {
		k.loadKeys()
		JMP(LabelRef("two"))
	}
	Label("single")
	if fresh {
		k.loadKey()
		Label("two")
	}
	MOVL(pairJob(1, jobLen), gMax.As32())
	XORL(gOff.As32(), gOff.As32())
	k.counters()
	if fresh {
		k.freshKeys()
	} else {
		k.heldKeys()
	}
	k.aad()
	k.chunks()
	k.next()
	JMP(LabelRef("pair"))

	Label("flush")
	MOVQ(at(gScratch, pairBefore), gC)
	LEAQ(at(gScratch, pairNoJob), gA)
	CMPQ(gC, gA)
	JEQ(LabelRef("done"))
	emit(k.last())
	k.tags()
	Label("done")
	k.wipe()
	wipeRegisters()
	RET()
}

// wipe zeroes what the kernel left in scratch memory.
func (k *short256) wipe() {
	zero(pT)
	for i := pairPower; i < pairEnd; i += 32 {
		storeA(pT, at(gScratch, i))
	}
	TESTQ(gRows, gRows)
	JEQ(LabelRef("wiped"))
	for r := range rounds(k.keyLen) + 1 {
		storeA(pT, at(gScratch, pairRows+r*row))
	}
	Label("wiped")
}

// gather2 loads 16 octets for each of two lanes.
func gather2(a, b Mem, d v) { gather([]Mem{a, b}, d) }

// counters makes the first counter blocks, in pEJ0 and pC.
func (k *short256) counters() {
	gather2(pairJob(0, jobNonce), pairJob(1, jobNonce), pCtr)
	VPAND(k.c.nonce, pCtr.r(), pCtr.r())
	load(k.c.one, pT)
	addd(pT.r(), pCtr, pEJ0)
	addd(pT.r(), pEJ0, pC)
	k.restOfCounters(4)
}

// nextCounters makes n more.
func (k *short256) nextCounters(n int) {
	load(k.c.one, pT)
	addd(pT.r(), pCtr, pC)
	k.restOfCounters(n)
}

func (k *short256) restOfCounters(n int) {
	for i := range v(n - 1) {
		addd(pT.r(), pC+i, pC+i+1)
	}
	move(pC+v(n-1), pCtr)
}

// eightCounters makes eight more and adds round key 0. The last one so far is 5
// modulo 8, in all lanes, so blocks differ from it, or from the one eight
// later, in three bits only.
func (k *short256) eightCounters() stream {
	bits := func(n int) Mem { return plus(k.c.bits, 32*(n-1)) }
	var s stream
	s.do(func() { xor(at(gRows, 0), pCtr, pC+1) })
	s.do(func() { xor(bits(5^6), pC+1, pC) })
	s.do(func() { xor(bits(5^7), pC+1, pC+1) })
	s.do(func() { addd(k.c.eight, pCtr, pCtr) })
	s.do(func() { xor(at(gRows, 0), pCtr, pC+7) })
	for i := range 5 {
		s.do(func() { xor(bits(5^i), pC+7, pC+2+v(i)) })
	}
	return s
}

// columns are the first registers of key stream.
func (k *short256) columns(n int) []v {
	return []v{pC, pC + 1, pC + 2, pC + 3, pC + 4, pC + 5, pC + 6, pC + 7}[:n:n]
}

// freshKeys runs the key schedule, H, E(J0) and the first four columns side by
// side, and stores the round keys.
func (k *short256) freshKeys() {
	LEAQ(at(gScratch, pairRows), gRows)
	emit(k.schedule(true), k.last())
	k.started()
	var s stream
	k.hashKey(&s, pH)
	emit(s)
}

// started is for when a pair's AES and the hash of the pair before are done.
func (k *short256) started() {
	k.tags()
	MOVQ(gJobs, at(gScratch, pairBefore))
	MOVQ(gJob1, at(gScratch, pairBefore+8))
	storeA(pEJ0, at(gScratch, pairEJ0))
}

// hashKey makes H and H^2 of what AES gave.
func (k *short256) hashKey(s *stream, h v) {
	s.do(func() { shufb(k.c.bswap, h, h) })
	k.c.timesX(s, h, pT)
	k.keep(s, 1, h)
	k.h.square(s, h)
	k.keep(s, 2, pAcc)
}

// keep stores H^n and its middle.
func (k *short256) keep(s *stream, n int, p v) {
	s.do(func() { storeA(p, powerOf(n)) })
	middle(s, p, pT)
	s.do(func() { storeA(pT, middleOf(n)) })
}

// schedule interleaves the key schedule with six streams of AES.
func (k *short256) schedule(keep bool) stream {
	states := append([]v{pH, pEJ0}, k.columns(4)...)
	key := pKey
	var s stream
	for r := range rounds(k.keyLen) + 1 {
		if r > 0 {
			var t stream
			t, key = k.c.roundKey(k.keyLen, r, pKey, pKeyB, pS, pU)
			s = append(s, t...)
		}
		key := key
		if keep {
			s.do(func() { storeA(key, at(gRows, r*row)) })
		}
		s = append(s, allRound(k.keyLen, r, key, states, pH)...)
	}
	return s
}

// loadKeys loads those of a pair.
func (k *short256) loadKeys() {
	loadKeys256(at(gKeys, 0), k.keyLen, pKey, pKeyB, pS, false)
}

// loadKey loads one for both lanes.
func (k *short256) loadKey() {
	spread(at(gKeys, 0), pKey)
	if k.keyLen == 32 {
		spread(at(gKeys, 16), pKeyB)
	}
}

// heldKeys finds the two keys. Where one lies behind the other they are used
// there; else their rows are gathered into scratch memory.
func (k *short256) heldKeys() {
	for i, g := range []reg.GPPhysical{gA, gB} {
		// (key/4)*groupSize + (key%4)*16
		MOVL(pairJob(i, jobKey), g.As32())
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
	JEQ(LabelRef("collected"))
	LEAQ(at(gScratch, pairRows), gRows)
	for r := range rounds(k.keyLen) + 1 {
		d := pC + 4 + v(r%4)
		gather2(at(gA, r*row), at(gB, r*row), d)
		storeA(d, at(gRows, r*row))
	}
	Label("collected")
	emit(k.aesRounds(append(k.columns(4), pEJ0), 0), k.last())
	MOVQ(gA, gE)
	MOVQ(gB, gOff)
	k.started()
	for i := 1; i <= 4; i++ {
		var s stream
		gather2(at(gE, rowPower+i*row), at(gOff, rowPower+i*row), pU)
		k.keep(&s, i, pU)
		emit(s)
	}
	XORL(gOff.As32(), gOff.As32())
}

// aesRounds are rounds of AES, from one on, with the keys at gRows.
func (k *short256) aesRounds(states []v, from int) stream {
	const key = pU
	var s stream
	for r := from; r <= rounds(k.keyLen); r++ {
		s.do(func() { load(at(gRows, r*row), key) })
		for _, x := range states {
			switch r {
			case 0:
				s.do(func() { xor(key.r(), x, x) })
			case rounds(k.keyLen):
				s.do(func() { aesLast(key.r(), x) })
			default:
				s.do(func() { aes(key.r(), x) })
			}
		}
	}
	return s
}

// more makes H^3 and H^4 of a fresh key. The sum under way is kept in pV, and
// key stream stays.
func (k *short256) more() {
	if !k.fresh {
		return
	}
	var s stream
	s.do(func() { move(pAcc, pV) })
	s.do(func() { loadA(powerOf(2), pU) })
	k.h.mul(&s, pU, powerOf(1), middleOf(1))
	k.keep(&s, 3, pAcc)
	k.h.square(&s, pU)
	k.keep(&s, 4, pAcc)
	s.do(func() { move(pV, pAcc) })
	emit(s)
}

// turn2 takes 32 octets of each of two packets, in a and b, to two columns, or
// back.
func turn2(a, b, t v) {
	VPERM2I128(Imm(0x20), b.r(), a.r(), t.r())
	VPERM2I128(Imm(0x31), b.r(), a.r(), b.r())
	move(t, a)
}

// left2 sets g to how many of a lane's octets lie in the chunk at gOff, 0..64.
func left2(lane, field int, g, t reg.GPPhysical) {
	XORL(t.As32(), t.As32())
	MOVL(pairJob(lane, field), g.As32())
	SUBQ(gOff, g)
	CMOVQLT(t, g)
	MOVL(U32(64), t.As32())
	CMPQ(g, t)
	CMOVQGT(t, g)
}

// textOf is the room in scratch memory for a lane's piece of a chunk.
func textOf(lane, disp int) Mem { return at(gScratch, pairText+64*lane+disp) }

// piece copies a lane's octets of the chunk at gOff into scratch memory, with
// zeros behind them, and sets n to their number.
func (k *short256) piece(lane, pointer, length int, n reg.GPPhysical, label string) {
	zero(pT)
	storeA(pT, textOf(lane, 0))
	storeA(pT, textOf(lane, 32))
	left2(lane, length, n, gE)
	MOVQ(pairJob(lane, pointer), gC)
	ADDQ(gOff, gC)
	LEAQ(textOf(lane, 0), gD)
	copySmall(gC, gD, n, gE, gB, pT, pU, label)
}

// unequal hashes columns pX.. of which lane i has as many as its length says;
// lanes that end early are multiplied with 1.
func (k *short256) unequal(length int) {
	for i, g := range []reg.GPPhysical{gA, gB} {
		left2(i, length, g, gE)
		ADDQ(num(15), g)
		SHRQ(Imm(4), g)
		SHLQ(Imm(5), g)
		ADDQ(gScratch, g)
	}
	var s stream
	s.do(func() { xor(pAcc.r(), pX, pX) })
	for c := range 4 {
		s.do(func() { gather2(at(gA, pairPower-c*32), at(gB, pairPower-c*32+16), pV) })
		middle(&s, pV, pU)
		k.h.add(&s, pX+v(c), pV.r(), pU.r(), c == 0)
	}
	k.h.reduce(&s)
	emit(s)
}

// equal hashes n whole columns.
func (k *short256) equal(x v, n int, first bool) stream {
	var s stream
	if !first {
		s.do(func() { xor(pAcc.r(), x, x) })
	}
	for c := range n {
		k.h.add(&s, x+v(c), powerOf(n-c), middleOf(n-c), c == 0)
	}
	k.h.reduce(&s)
	return s
}

// aadColumns loads the AAD of a pair as one column, two columns, or not at all:
// control goes on behind for two, and to prefix+"aadone" for one. Headers of
// one burst mostly have one length, of 8 octets to two blocks; for others
// control goes to prefix+"aadslow".
func (k *short256) aadColumns(x v, prefix string) {
	slow := LabelRef(prefix + "aadslow")
	MOVL(pairJob(0, jobAADLen), gA.As32())
	CMPL(gA.As32(), pairJob(1, jobAADLen))
	JNE(slow)
	CMPQ(gA, num(32))
	JG(slow)
	CMPQ(gA, num(8))
	JLT(slow)
	MOVQ(pairJob(0, jobAAD), gC)
	MOVQ(pairJob(1, jobAAD), gD)
	CMPQ(gA, num(16))
	JG(LabelRef(prefix + "aadtwo"))
	JEQ(LabelRef(prefix + "aad16"))
	MOVL(U32(15*8), gE.As32())
	MOVQ(gA, gB)
	SHLQ(Imm(3), gB)
	SUBQ(gB, gE)
	for i, p := range []reg.GPPhysical{gC, gD} {
		MOVQ(Mem{Base: p, Disp: -8, Index: gA, Scale: 1}, gB)
		SHRXQ(gE, gB, gB)
		SHRQ(Imm(8), gB)
		VMOVQ(at(p, 0), (x + v(i)).x())
		VPINSRQ(Imm(1), gB, (x + v(i)).x(), (x + v(i)).x())
	}
	VINSERTI128(Imm(1), (x + 1).x(), x.r(), x.r())
	shufb(k.c.bswap, x, x)
	JMP(LabelRef(prefix + "aadone"))
	Label(prefix + "aad16")
	gather2(at(gC, 0), at(gD, 0), x)
	shufb(k.c.bswap, x, x)
	JMP(LabelRef(prefix + "aadone"))
	Label(prefix + "aadtwo")
	end := func(p reg.GPPhysical) Mem { return Mem{Base: p, Disp: -16, Index: gA, Scale: 1} }
	gather2(at(gC, 0), at(gD, 0), x)
	gather2(end(gC), end(gD), x+1)
	LEAQ(k.c.tail, gE)
	spread(end(gE), pT)
	shufb(k.c.bswap, x, x)
	shufb(pT.r(), x+1, x+1)
}

// aad hashes the AAD.
func (k *short256) aad() {
	k.aadColumns(pX, "")
	emit(k.equal(pX, 2, true))
	JMP(LabelRef("aaddone"))
	Label("aadone")
	emit(k.equal(pX, 1, true))
	JMP(LabelRef("aaddone"))

	Label("aadslow")
	// Any lengths: chunk by chunk.
	k.more()
	zero(pAcc)
	Label("aadchunk")
	k.piece(0, jobAAD, jobAADLen, gA, "aad0")
	k.piece(1, jobAAD, jobAADLen, gA, "aad1")
	for i := range 4 {
		gather2(textOf(0, 16*i), textOf(1, 16*i), pX+v(i))
		shufb(k.c.bswap, pX+v(i), pX+v(i))
	}
	k.unequal(jobAADLen)
	ADDQ(num(64), gOff)
	for i := range 2 {
		MOVL(pairJob(i, jobAADLen), gA.As32())
		CMPQ(gA, gOff)
		JGT(LabelRef("aadchunk"))
	}
	XORL(gOff.As32(), gOff.As32())
	Label("aaddone")
}

// text takes the columns of key stream in pC.. and the packets' octets of the
// chunk at gOff, writes the result, and leaves the columns to hash in pX... No
// lane writes before both have read: they may be one packet.
func (k *short256) text(whole bool, prefix string) {
	turn2(pC, pC+1, pT)
	turn2(pC+2, pC+3, pT)
	var from, to [2]func(disp int) Mem
	counts := []reg.GPPhysical{gA, reg.R11}
	for i, p := range []reg.GPPhysical{gC, gD} {
		if whole {
			s := []reg.GPPhysical{gA, gB}[i]
			MOVQ(pairJob(i, jobSrc), s)
			MOVQ(pairJob(i, jobDst), p)
			from[i] = func(disp int) Mem { return Mem{Base: s, Disp: disp, Index: gOff, Scale: 1} }
			to[i] = func(disp int) Mem { return Mem{Base: p, Disp: disp, Index: gOff, Scale: 1} }
			continue
		}
		k.piece(i, jobSrc, jobLen, counts[i], prefix+[]string{"in0", "in1"}[i])
		// Key stream behind the end would leave its trace there.
		LEAQ(k.c.mask, gE)
		SUBQ(counts[i], gE)
		for d := range 2 {
			ks := pC + v(2*d+i)
			VPAND(at(gE, 64+32*d), ks.r(), ks.r())
		}
		from[i] = func(disp int) Mem { return textOf(i, disp) }
		to[i] = from[i]
	}
	for d := range 2 {
		for i := range 2 {
			ks, x := pC+v(2*d+i), pX+v(2*d+i)
			if k.sealing {
				xor(from[i](32*d), ks, x)
			} else {
				load(from[i](32*d), x)
				xor(x.r(), ks, ks)
			}
		}
		for i := range 2 {
			if k.sealing {
				store(pX+v(2*d+i), to[i](32*d))
			} else {
				store(pC+v(2*d+i), to[i](32*d))
			}
		}
	}
	if !whole {
		for i := range 2 {
			MOVQ(pairJob(i, jobDst), gC)
			ADDQ(gOff, gC)
			LEAQ(textOf(i, 0), gD)
			copySmall(gD, gC, counts[i], gE, gB, pT, pU, prefix+[]string{"out0", "out1"}[i])
		}
	}
	turn2(pX, pX+1, pT)
	turn2(pX+2, pX+3, pT)
	for i := range v(4) {
		shufb(k.c.bswap, pX+i, pX+i)
	}
}

// Where both packets have two chunks, eight columns are worked on at a time,
// with GHASH beside: of ciphertext that is kept in scratch memory. There lie
// columns where packets are opened, and rows, 32 octets of one packet and 32 of
// the other, where they are sealed. Packets may lie where somebody else writes:
// they are read once when opened, and not again when sealed.

// longer jumps to label unless both packets have two chunks at gOff.
func (k *short256) longer(label string) {
	MOVL(pairJob(0, jobLen), gE.As32())
	SUBQ(num(128), gE)
	CMPQ(gE, gOff)
	JLT(LabelRef(label))
}

// pointers sets those of the two packets' text.
func (k *short256) pointers() {
	for i, f := range []int{jobSrc, jobDst} {
		MOVQ(pairJob(0, f), []reg.GPPhysical{gA, gC}[i])
		MOVQ(pairJob(1, f), []reg.GPPhysical{gB, gD}[i])
	}
}

// kept is the room for ciphertext: a column, or as much of a row.
func kept(i int) Mem { return at(gScratch, pairKept+32*i) }

// hashFirst hashes the first chunk, whose columns are kept as they go into a
// product.
func (k *short256) hashFirst() stream {
	var s stream
	s.do(func() { move(pAcc, pSum) })
	for _, i := range []int{1, 2, 3, 0} { // the sum so far is needed last
		s.do(func() { loadA(kept(i), pV) })
		if i == 0 {
			s.do(func() { xor(pSum.r(), pV, pV) })
		}
		k.h.add(&s, pV, powerOf(4-i), middleOf(4-i), i == 1)
	}
	k.h.reduce(&s)
	return s
}

// hashKept hashes eight columns: those of the packets at gOff when they are
// opened, those that are kept when they were sealed.
func (k *short256) hashKept() stream {
	m := func(p reg.GPPhysical, i int) Mem { return Mem{Base: p, Disp: 16 * i, Index: gOff, Scale: 1} }
	var s stream
	for g := 0; g < 8; g += 4 {
		s.do(func() { move(pAcc, pSum) })
		for _, i := range []int{1, 2, 3, 0} { // the sum so far is needed last
			c := g + i
			if k.sealing {
				row := 2 * (c / 2)
				s.do(func() { gather2(plus(kept(row), c%2*16), plus(kept(row+1), c%2*16), pV) })
			} else {
				s.do(func() { VMOVDQU(m(gA, c), pV.x()) })
				s.do(func() { VINSERTI128(Imm(1), m(gB, c), pV.r(), pV.r()) })
				s.do(func() { storeA(pV, kept(c)) })
			}
			s.do(func() { shufb(k.c.bswap, pV, pV) })
			if i == 0 {
				s.do(func() { xor(pSum.r(), pV, pV) })
			}
			k.h.add(&s, pV, powerOf(4-i), middleOf(4-i), i == 1)
		}
		k.h.reduce(&s)
	}
	return s
}

// eightText takes two chunks of text with the key stream in pC to pC+7.
func (k *short256) eightText() stream {
	var s stream
	for d := range 4 {
		a, b := pC+v(2*d), pC+v(2*d+1)
		m := func(p reg.GPPhysical) Mem { return Mem{Base: p, Disp: 32 * d, Index: gOff, Scale: 1} }
		if !k.sealing {
			s.do(func() { xor(kept(2*d), a, a) })
			s.do(func() { xor(kept(2*d+1), b, b) })
		}
		s.do(func() { VPERM2I128(Imm(0x20), b.r(), a.r(), pU.r()) })
		s.do(func() { VPERM2I128(Imm(0x31), b.r(), a.r(), b.r()) })
		if k.sealing {
			s.do(func() { xor(m(gA), pU, pU) })
			s.do(func() { xor(m(gB), b, b) })
			s.do(func() { storeA(pU, kept(2*d)) })
			s.do(func() { storeA(b, kept(2*d+1)) })
		}
		s.do(func() { store(pU, m(gC)) })
		s.do(func() { store(b, m(gD)) })
	}
	return s
}

// eight takes two chunks of text, with hash beside.
func (k *short256) eight(hash stream) {
	emitAround(append(k.eightCounters(), k.aesRounds(k.columns(8), 1)...), k.eightText(), hash)
	ADDQ(num(128), gOff)
}

// pairs of chunks, while there are, from the second chunk on. What is left to
// hash of the first is in pX...
func (k *short256) pairs() {
	ADDQ(num(64), gOff)
	k.longer("few")
	k.pointers()
	if k.sealing {
		for i := range 4 {
			storeA(pX+v(i), kept(i))
		}
		k.eight(k.hashFirst())
	} else {
		emit(k.equal(pX, 4, false))
	}
	Label("eight")
	if k.sealing {
		k.longer("eighteen")
	}
	k.eight(k.hashKept())
	if !k.sealing {
		k.longer("eighteen")
	}
	JMP(LabelRef("eight"))
	Label("eighteen")
	CMPQ(gOff, gMax)
	JGE(LabelRef("noneleft"))
	k.nextCounters(4)
	if k.sealing {
		emit(k.aesRounds(k.columns(4), 0), k.hashKept())
	} else {
		emit(k.aesRounds(k.columns(4), 0))
	}
	JMP(LabelRef("chunk"))
	Label("noneleft")
	if k.sealing {
		emit(k.hashKept())
	}
	JMP(LabelRef("lastnone"))
	Label("few")
	SUBQ(num(64), gOff)
}

func (k *short256) chunks() {
	// jumps to label unless both lanes fill the chunk at gOff; lane 0 is not
	// the longer one.
	whole := func(label string) {
		MOVL(pairJob(0, jobLen), gA.As32())
		SUBQ(gOff, gA)
		CMPQ(gA, num(64))
		JLT(LabelRef(label))
	}
	whole("first")
	k.text(true, "")
	k.more()
	k.pairs()
	JMP(LabelRef("hash"))
	Label("first")
	k.more()
	Label("chunk") // key stream in pC
	whole("ragged")
	k.text(true, "")
	Label("hash")
	LEAQ(at(gOff, 64), gA)
	CMPQ(gA, gMax)
	JGE(LabelRef("lastwhole"))
	// More to come: the next chunk's key stream while this one is hashed.
	k.nextCounters(4)
	emit(k.aesRounds(k.columns(4), 0), k.equal(pX, 4, false))
	ADDQ(num(64), gOff)
	JMP(LabelRef("chunk"))
	Label("ragged")
	k.text(false, "")
	LEAQ(at(gOff, 64), gA)
	CMPQ(gA, gMax)
	JGE(LabelRef("lastragged"))
	k.unequal(jobLen)
	ADDQ(num(64), gOff)
	k.nextCounters(4)
	emit(k.aesRounds(k.columns(4), 0))
	JMP(LabelRef("chunk"))
	k.leave()
}

// The last chunk of a pair and the lengths are left in the queue, to be hashed
// beside the next pair's first AES: five columns, all lanes ending together.

const lastEnd = 4 // the column of lengths

// leave is where chunks goes with columns in pX...
func (k *short256) leave() {
	Label("lastwhole")
	xor(pAcc.r(), pX, pX)
	for i := range 4 {
		storeA(pX+v(i), queue(i))
	}
	k.lengths(pX)
	JMP(LabelRef("left"))

	Label("lastragged")
	for i, g := range []reg.GPPhysical{gA, gB} {
		left2(i, jobLen, g, gE)
		ADDQ(num(15), g)
		ANDQ(I32(-16), g)
		ADDQ(g, g)
		NEGQ(g)
		LEAQ(Mem{Base: gScratch, Index: g, Scale: 1}, []reg.GPPhysical{gC, gD}[i])
	}
	TESTQ(gB, gB)
	JEQ(LabelRef("lastnone")) // nor has lane 0 any
	zero(pT)
	for c := range lastEnd {
		storeA(pT, queue(c))
	}
	xor(pAcc.r(), pX, pX)
	at0, at1 := at(gC, pairQueue+32*lastEnd), at(gD, pairQueue+32*lastEnd)
	CMPQ(gC, gD)
	JNE(LabelRef("lastunequal"))
	for i := range 4 {
		storeA(pX+v(i), plus(at0, 32*i))
	}
	k.lengths(pX)
	JMP(LabelRef("left"))
	Label("lastunequal")
	for i := range 4 {
		split(pX+v(i), plus(at0, 32*i), plus(at1, 32*i))
	}
	k.lengths(pX)
	TESTQ(gA, gA)
	JNE(LabelRef("left"))
	VMOVDQA(pAcc.x(), pAcc.x()) // lane 0 has none: its sum goes into the lengths
	xor(pAcc.r(), pX, pX)
	JMP(LabelRef("left"))

	Label("lastnone")
	zero(pT)
	for c := range lastEnd {
		storeA(pT, queue(c))
	}
	k.lengths(pX)
	xor(pAcc.r(), pX, pX)
	Label("left")
	storeA(pX, queue(lastEnd))
}

// split stores the lanes of x, the upper one 16 octets behind the address.
func split(x v, lane0, lane1 Mem) {
	VMOVDQU(x.x(), lane0)
	VEXTRACTI128(Imm(1), x.r(), plus(lane1, 16))
}

// last hashes what is in the queue.
func (k *short256) last() stream {
	const x = pV
	var s stream
	s.do(func() { loadA(queue(0), x) })
	k.h.mul(&s, x, powerOf(1), middleOf(1))
	for i := 1; i <= lastEnd; i++ {
		s.do(func() { loadA(queue(i), x) })
		if i == 1 {
			s.do(func() { xor(pAcc.r(), x, x) })
		}
		k.h.add(&s, x, powerOf(lastEnd+1-i), middleOf(lastEnd+1-i), i == 1)
	}
	k.h.reduce(&s)
	return s
}

// lengths makes the column of lengths.
func (k *short256) lengths(x v) {
	gather2(pairJob(0, jobAADLen), pairJob(1, jobAADLen), x)
	shufb(k.c.lens, x, x)
	VPSLLQ(Imm(3), x.r(), x.r())
}

// tags writes or compares those of the pair that was in the queue.
func (k *short256) tags() {
	shufb(k.c.bswap, pAcc, pAcc)
	MOVQ(at(gScratch, pairBefore), gC)
	MOVQ(at(gScratch, pairBefore+8), gD)
	MOVQ(at(gC, jobTag), gA)
	MOVQ(at(gD, jobTag), gB)
	xor(at(gScratch, pairEJ0), pAcc, pAcc)
	if k.sealing {
		VMOVDQU(pAcc.x(), at(gA, 0))
		VEXTRACTI128(Imm(1), pAcc.r(), at(gB, 0))
		return
	}
	gather2(at(gA, 0), at(gB, 0), pT)
	VPCMPEQQ(pT.r(), pAcc.r(), pT.r())
	VMOVMSKPD(pT.r(), gA.As32())
	MOVL(gA.As32(), gB.As32())
	SHRL(Imm(1), gB.As32())
	ANDL(gB.As32(), gA.As32()) // bit 2i: both halves of lane i are right
	MOVL(gA.As32(), gB.As32())
	ANDL(Imm(1), gA.As32())
	SHRL(Imm(2), gB.As32())
	MOVL(gA.As32(), at(gC, jobOK))
	MOVL(gB.As32(), at(gD, jobOK))
}

// next goes on behind the pair: by one job or two.
func (k *short256) next() {
	LEAQ(at(gJob1, jobSize), gA)
	MOVQ(gA, gB)
	SUBQ(gJobs, gA)
	MOVQ(gB, gJobs)
	SHRQ(Imm(6), gA)
	SUBQ(gA, gN)
	if k.fresh {
		SHLQ(Imm(uint64(3+k.keyLen/16)), gA)
		ADDQ(gA, gKeys)
	}
}

// Tiny packets have one chunk of text and at most two blocks of AAD. What is to
// hash of a pair, together with the lengths at most seven columns, is put into a
// queue, all lanes ending together; it is hashed beside the next pair's AES.

const queueEnd = 6 // the column of lengths

func queue(column int) Mem { return at(gScratch, pairQueue+32*column) }

// tiny takes tiny packets from the front of the burst.
func (k *short256) tiny() {
	XORL(gOff.As32(), gOff.As32())
	Label("tinypair")
	MOVQ(gJobs, gJob1)
	CMPQ(gN, num(1))
	JLT(LabelRef("tinyend"))
	JEQ(LabelRef("tinysingle"))
	ADDQ(num(jobSize), gJob1)
	k.orNotTiny()
	k.loadKeys()
	JMP(LabelRef("tinytwo"))
	Label("tinysingle")
	k.orNotTiny()
	k.loadKey()
	Label("tinytwo")
	k.counters()
	emit(k.schedule(false), k.queued())
	k.started()
	storeA(pH, at(gScratch, pairH))
	k.enqueue()
	k.next()
	JMP(LabelRef("tinypair"))

	Label("tinyend")
	MOVQ(at(gScratch, pairBefore), gC)
	LEAQ(at(gScratch, pairNoJob), gD)
	CMPQ(gC, gD)
	JEQ(LabelRef("nottiny"))
	emit(k.queued())
	k.tags()
	LEAQ(at(gScratch, pairNoJob), gD)
	MOVQ(gD, at(gScratch, pairBefore))
	MOVQ(gD, at(gScratch, pairBefore+8))
	Label("nottiny")
}

// orNotTiny ends the tiny packets unless both lanes are such.
func (k *short256) orNotTiny() {
	CMPL(pairJob(1, jobLen), Imm(64))
	JHI(LabelRef("tinyend"))
	for i := range 2 {
		CMPL(pairJob(i, jobAADLen), Imm(32))
		JHI(LabelRef("tinyend"))
	}
}

// queued hashes what is in the queue.
func (k *short256) queued() stream {
	const x = pV
	var s stream
	s.do(func() { loadA(at(gScratch, pairH), x) })
	k.hashKey(&s, x)
	for c := 0; c <= queueEnd; c += 2 {
		n := min(2, queueEnd+1-c)
		for i := range n {
			s.do(func() { loadA(queue(c+i), x) })
			if c > 0 && i == 0 {
				s.do(func() { xor(pAcc.r(), x, x) })
			}
			k.h.add(&s, x, powerOf(n-i), middleOf(n-i), i == 0)
		}
		k.h.reduce(&s)
	}
	return s
}

// enqueue takes the text of a pair and puts what is to hash into the queue.
func (k *short256) enqueue() {
	CMPL(pairJob(0, jobLen), Imm(64))
	JNE(LabelRef("tinyragged"))
	k.text(true, "")
	JMP(LabelRef("tinytext"))
	Label("tinyragged")
	k.text(false, "tiny")
	Label("tinytext")
	const a = pC // two columns of AAD
	k.aadColumns(a, "tiny")
	JMP(LabelRef("tinyqueue"))
	Label("tinyaadone")
	zero(a + 1)
	JMP(LabelRef("tinyqueue"))
	Label("tinyaadslow")
	for i := range 2 {
		k.piece(i, jobAAD, jobAADLen, gA, []string{"tinyaad0", "tinyaad1"}[i])
	}
	for i := range 2 {
		gather2(textOf(0, 16*i), textOf(1, 16*i), a+v(i))
		shufb(k.c.bswap, a+v(i), a+v(i))
	}
	Label("tinyqueue")
	// The ends of AAD are gA and gB columns in front of the lengths, the
	// beginnings gC and gD columns.
	for i, g := range []reg.GPPhysical{gA, gB} {
		b := []reg.GPPhysical{gC, gD}[i]
		MOVL(pairJob(i, jobLen), g.As32())
		MOVL(pairJob(i, jobAADLen), b.As32())
		for _, g := range []reg.GPPhysical{g, b} {
			ADDQ(num(15), g)
			ANDQ(I32(-16), g)
			ADDQ(g, g)
			NEGQ(g)
		}
		ADDQ(g, b)
		ADDQ(gScratch, g)
		ADDQ(gScratch, b)
	}
	zero(pT)
	for c := range queueEnd {
		storeA(pT, queue(c))
	}
	first := func(base reg.GPPhysical, column int) Mem { return at(base, pairQueue+32*(queueEnd+column)) }
	CMPQ(gA, gB)
	JNE(LabelRef("tinyunequal"))
	CMPQ(gC, gD)
	JNE(LabelRef("tinyunequal"))
	for i := range 2 {
		storeA(a+v(i), first(gC, i))
	}
	for i := range 4 {
		storeA(pX+v(i), first(gA, i))
	}
	JMP(LabelRef("tinylengths"))
	Label("tinyunequal")
	for i := range 2 {
		split(a+v(i), first(gC, i), first(gD, i))
	}
	for i := range 4 {
		split(pX+v(i), first(gA, i), first(gB, i))
	}
	Label("tinylengths")
	k.lengths(pT)
	storeA(pT, queue(queueEnd))
}
