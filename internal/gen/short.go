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
	scratchPower = 2048              // rows of powers for lanes of unequal length
	scratchConst = 2048 + 10*row     // constants in all lanes
	scratchCtr   = 2048 + 16*row     // the counters of the chunk under way
	scratchJobs  = 2048 + 17*row     // four jobs, where fewer than four are left
	scratchSink  = scratchJobs + 256 // where lanes without a packet write
)

// A short kernel works through groups of four packets and their chunks in a
// pipeline: whenever AES runs for one chunk (or for a new group, with its key
// schedule, H and E(J0)), what is left to hash of the chunk before runs beside
// it, which may be the end of the group before. What is left is one of:
type rest int

const (
	nothing   rest = iota
	lengths        // the lengths, then the tag
	chunk          // a chunk
	first          // the same; powers and AAD of up to two blocks are still to do
	chunkTail      // as chunk, but less than 64 octets, as many blocks in all lanes
	firstTail
)

// tail is r where not all lanes fill the chunk.
func (r rest) tail() rest { return r - chunk + chunkTail }

// isTail undoes tail.
func (r rest) isTail() (rest, bool) {
	if r >= chunkTail {
		return r - chunkTail + chunk, true
	}
	return r, false
}

type short512 struct {
	c       *constants
	keyLen  int
	fresh   bool // keys are raw; else in groups of rows
	sealing bool

	h hasher
	x [4]v // where the columns to hash are
}

// Registers of the short kernels.
const (
	sH     = v(0)
	sJ     = v(1)
	sC     = v(2) // to 5: key stream in the making, a register for each column
	sKey   = v(6) // the round key in the making
	sKeyB  = v(7)
	sT     = v(8)  // and 9: temporaries of the key schedule
	sRcon  = v(10) //
	sX     = v(11) // to 14: key stream of the chunk before, then what to hash of it
	sA     = v(15) // and 16: AAD to hash
	sP     = v(17) // to 20: H to H^4
	sAcc   = v(21)
	sEJ0   = v(22)
	sText  = v(23)
	sLo    = v(24)
	sMi    = v(25)
	sHi    = v(26)
	sU     = v(27) // and 28: temporaries of hashing
	sPlain = v(29)
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
	g64      = reg.R10 // long kernels only
	gPower   = reg.R8  // long kernels only: longPower+256 from there is the power that the first block in lX has
	gPOff    = reg.R10 // offset of the chunk before
	gPend    = reg.R11 // jobs that chunk belongs to
	gA       = reg.RAX
	gB       = reg.R12
	gC       = reg.R13
	gD       = reg.R14
	gE       = reg.R15
)

func job(lane, field int) Mem { return at(gJobs, lane*jobSize+field) }

// jobs is the same field of four jobs.
func jobs(base reg.GPPhysical, field int) []Mem {
	var m []Mem
	for i := range 4 {
		m = append(m, at(base, i*jobSize+field))
	}
	return m
}

var byteMask = []reg.OpmaskPhysical{reg.K4, reg.K5, reg.K6, reg.K7}

// Rows of constants.
const (
	rowCarry     = scratchConst
	rowZero      = scratchConst + row
	rowLens      = scratchConst + 2*row
	rowHave      = scratchConst + 3*row // not a constant: which keys are collected
	rowOne       = scratchConst + 4*row
	rowRot       = scratchConst + 5*row
	rowEven      = 21 * row // octets of lanes 0 and 2 of two vectors, reversed
	rowOdd       = 22 * row // of lanes 1 and 3
	rowAAD       = 24 * row // to 28: columns of AAD
	rowEvenWords = 23 * row // words 0 and 2
)

// shortFunction begins a kernel for short packets.
func shortFunction(keyLen int, fresh, sealing bool) {
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
}

func shortKernel512(c *constants, keyLen int, fresh, sealing bool) {
	k := &short512{c: c, keyLen: keyLen, fresh: fresh, sealing: sealing}
	k.h = hasher{lo: sLo, mi: sMi, hi: sHi, t: [4]v{sU, sU + 1}, poly: sPoly}
	shortFunction(keyLen, fresh, sealing)
	setLaneMasks(gA)
	spread(c.bswap, sBswap)
	spread(c.poly, sPoly)
	for _, x := range []struct {
		m   Mem
		row int
	}{{c.carry, rowCarry}, {c.lens, rowLens}, {c.one, rowOne}, {c.rot, rowRot}, {c.even, rowEvenWords}} {
		spread(x.m, sU)
		storeA(sU, at(gScratch, x.row))
	}
	for i, r := range []int{rowEven, rowOdd} {
		load(plus(c.pick, i*64), sU)
		storeA(sU, at(gScratch, r))
	}
	zero(sU)
	storeA(sU, at(gScratch, rowZero))
	if fresh {
		LEAQ(at(gScratch, scratchRows), gRows)
	} else {
		storeA(sU, at(gScratch, scratchRows)) // no keys collected there yet
	}

	// The first group.
	k.begin(nothing)

	Label("text")
	k.firstText()
	for _, r := range []rest{first, chunk, nothing} {
		// The group goes on: another chunk, beside what is left of this one.
		Label(labels[r] + "more")
		k.moreText(r)
	}
	k.chunkDone()
	for _, r := range ends {
		// The group ends: the next one begins beside what is left of it.
		Label(labels[r] + "next")
		if fresh {
			ADDQ(num(4*keyLen), gKeys)
		}
		ADDQ(num(4*jobSize), gJobs)
		SUBQ(num(4), gN)
		JLE(LabelRef(labels[r] + "drain"))
		k.begin(r)
		JMP(LabelRef("text"))
	}
	k.drain()
	k.part()
	Label("done")
	if !sealing {
		k.outcome()
	}
	k.wipe()
	wipeRegisters()
	RET()
}

var labels = map[rest]string{nothing: "nothing", lengths: "lengths", chunk: "chunk", first: "first", chunkTail: "chunktail", firstTail: "firsttail"}

// ends is what may be left at the end of a group.
var ends = []rest{lengths, chunk, first, chunkTail, firstTail}

// drain is what is left of the last group: a whole chunk is taken as a tail is.
func (k *short512) drain() {
	for _, r := range []rest{firstTail, chunkTail, lengths} {
		if whole, tail := r.isTail(); tail {
			Label(labels[whole] + "drain")
		}
		Label(labels[r] + "drain")
		k.moveColumns()
		emit(k.hash(r, true))
		JMP(LabelRef("done"))
	}
}

// begin starts a group: keys, H, E(J0) and the first four columns, beside the
// hashing of what is left of the group before.
func (k *short512) begin(r rest) {
	l := labels[r]
	CMPQ(gN, num(4))
	JGE(LabelRef(l + "four"))
	MOVQ(U32(uint32(r)), gOff)
	JMP(LabelRef("part"))
	Label(l + "four")
	if k.fresh {
		loadKeys512(gKeys, k.keyLen, sKey, sKeyB, sT, false)
	}
	Label(l + "keyed")
	MOVL(job(3, jobLen), gMax.As32())
	XORL(gOff.As32(), gOff.As32())
	k.counters()
	var aes stream
	if k.fresh {
		aes = k.schedule()
	} else {
		k.collect(l)
		aes = k.aesRounds([]v{sJ, sC, sC + 1, sC + 2, sC + 3})
	}
	k.emit(aes, r, true)
}

// emit writes AES beside what is left of the chunk before.
func (k *short512) emit(aes stream, r rest, end bool) {
	emit(aes, k.hash(r, end))
}

// counters makes the first counter blocks, in sJ and sC, and moves the key
// stream of the chunk before out of the way.
func (k *short512) counters() {
	k.moveColumns()
	gather(jobs(gJobs, jobNonce), sH)
	spread(k.c.nonce, sT)
	loadA(at(gScratch, rowOne), sT+1)
	VPANDQ(sT.r(), sH.r(), sH.r())
	addd((sT + 1).r(), sH, sJ)
	addd((sT + 1).r(), sJ, sC)
	addd((sT + 1).r(), sC, sC+1)
	addd((sT + 1).r(), sC+1, sC+2)
	addd((sT + 1).r(), sC+2, sC+3)
	storeA(sC+3, at(gScratch, scratchCtr))
}

func (k *short512) moveColumns() {
	for i := v(0); i < 4; i++ {
		move(sC+i, sX+i)
	}
}

func (k *short512) nextCounters() {
	k.moveColumns()
	loadA(at(gScratch, rowOne), sT)
	addd(at(gScratch, scratchCtr), sT, sC)
	addd(sT.r(), sC, sC+1)
	addd(sT.r(), sC+1, sC+2)
	addd(sT.r(), sC+2, sC+3)
	storeA(sC+3, at(gScratch, scratchCtr))
}

// schedule runs the key schedule beside six streams of AES, and stores the
// round keys for further chunks.
func (k *short512) schedule() stream {
	var s stream
	states := []v{sH, sJ, sC, sC + 1, sC + 2, sC + 3}
	a, b := sKey, sKeyB
	use := func(r int, key v) {
		s.do(func() { storeA(key, at(gRows, r*row)) })
		s = append(s, allRound(k.keyLen, r, key, states, sH)...)
	}
	// step makes the next round key out of k, from being the one before.
	step := func(k, from v, rcon Op, rotate bool) {
		t, u := sT, sT+1
		if rotate {
			s.do(func() { shufb(at(gScratch, rowRot), from, t) })
		} else {
			s.do(func() { VPSHUFD(Imm(0xff), from.r(), t.r()) })
		}
		s.do(func() { slldq(4, k, u) })
		s.do(func() { aesLast(rcon, t) })
		s.do(func() { xor(u.r(), k, k) })
		s.do(func() { slldq(8, k, u) })
		s.do(func() { xor3(t, u, k) })
	}
	// two makes two round keys of AES-128, with fewer shuffles than two steps.
	// Let y move words up by one, and s and t be the substituted words, in all
	// columns: the first is k(1+y)(1+yy) + s, the second k(1+yy) + s in words 0
	// and 2 + t.
	two := func(r int) {
		t, u := sT, sT+1
		s.do(func() { shufb(at(gScratch, rowRot), a, t) })
		s.do(func() { slldq(8, a, u) })
		s.do(func() { aesLast(k.c.rconRow(r-1), t) })
		s.do(func() { xor(u.r(), a, b) })
		s.do(func() { slldq(4, b, a) })
		s.do(func() { xor3(b, t, a) })
		s.do(func() { VPTERNLOGQ(Imm(0x78), at(gScratch, rowEvenWords), t.r(), b.r()) })
		use(r, a)
		s.do(func() { shufb(at(gScratch, rowRot), a, t) })
		s.do(func() { aesLast(k.c.rconRow(r), t) })
		s.do(func() { xor(t.r(), b, a) })
		use(r+1, a)
	}
	use(0, a)
	if k.keyLen == 16 {
		for r := 1; r <= 10; r += 2 {
			two(r)
		}
		return s
	}
	use(1, b)
	for r := 2; r <= 14; r++ {
		if r%2 == 0 {
			step(a, b, k.c.rconRow(r/2-1), true)
			use(r, a)
		} else {
			step(b, a, at(gScratch, rowZero), false)
			use(r, b)
		}
	}
	return s
}

// collect finds the four keys. Where they are one group, in order, it is used
// as it is; else their rows are gathered into scratch memory, unless they are
// there from the group before.
func (k *short512) collect(l string) {
	g := []reg.GPPhysical{gA, gB, gC, gD}
	for i := range g {
		MOVL(job(i, jobKey), g[i].As32())
	}
	// address of key i: (i/4)*groupSize + (i%4)*16
	for _, g := range g {
		MOVQ(g, gE)
		ANDQ(Imm(3), gE)
		SHRQ(Imm(2), g)
		SHLQ(Imm(7), g) // groupSize/16
		ADDQ(gE, g)
		SHLQ(Imm(4), g)
		ADDQ(gKeys, g)
	}
	MOVQ(gA, gRows)
	for i := 1; i < 4; i++ {
		LEAQ(at(gA, 16*i), gE)
		CMPQ(gE, g[i])
		JNE(LabelRef(l + "collect"))
	}
	JMP(LabelRef(l + "collected"))
	Label(l + "collect")
	LEAQ(at(gScratch, scratchRows), gRows)
	// What is there: the addresses are in a row of their own.
	const have = rowHave
	for i := range g {
		CMPQ(g[i], at(gScratch, have+8*i))
		JNE(LabelRef(l + "gather"))
	}
	JMP(LabelRef(l + "collected"))
	Label(l + "gather")
	for i := range g {
		MOVQ(g[i], at(gScratch, have+8*i))
	}
	rowsOf := func(from, to int) {
		for r := from; r <= to; r++ {
			d := []v{sH, sKey, sKeyB, sT}[r%4]
			gather([]Mem{at(gA, r*row), at(gB, r*row), at(gC, r*row), at(gD, r*row)}, d)
			storeA(d, at(gRows, r*row))
		}
	}
	rowsOf(0, rounds(k.keyLen))
	rowsOf(16, 19)
	Label(l + "collected")
}

// aesRounds is AES with the keys at gRows.
func (k *short512) aesRounds(states []v) stream {
	var s stream
	for r := 0; r <= rounds(k.keyLen); r++ {
		kr := []v{sKey, sKeyB}[r%2]
		s.do(func() { loadA(at(gRows, r*row), kr) })
		for _, x := range states {
			key := kr.r()
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

// powers makes H times x and its powers of a fresh key.
func (k *short512) powers() stream {
	var s stream
	if !k.fresh {
		return s
	}
	s.do(func() { VPSHUFD(Imm(0xd3), sP.r(), sU.r()) })
	s.do(func() { VPSRAD(Imm(31), sU.r(), sU.r()) })
	s.do(func() { VPADDQ(sP.r(), sP.r(), sP.r()) })
	s.do(func() { VPTERNLOGQ(Imm(0x78), at(gScratch, rowCarry), sU.r(), sP.r()) })
	k.h.square(&s, sP, sP+1)
	k.h.mul(&s, sP+1, sP.r(), sP+2)
	k.h.square(&s, sP+1, sP+3)
	return s
}

// columns hashes columns, and what there is in sAcc unless start.
func (k *short512) columns(x []v, start bool) stream {
	var s stream
	if !start {
		s.do(func() { xor(sAcc.r(), x[0], x[0]) })
	}
	if len(x) == 4 {
		k.h.four(&s, x, [4]Op{(sP + 3).r(), (sP + 2).r(), (sP + 1).r(), sP.r()})
	} else {
		for c := range x {
			k.h.add(&s, x[c], (sP + v(len(x)-1-c)).r(), c == 0)
		}
	}
	k.h.reduce(&s, sAcc)
	return s
}

// aadColumns hashes the four columns of AAD in scratch memory.
func (k *short512) aadColumns() stream {
	var s stream
	for c := range 4 {
		k.h.add(&s, sP+v(3-c), at(gScratch, rowAAD+c*row), c == 0)
	}
	k.h.reduce(&s, sAcc)
	return s
}

// tailColumns is columns for a last chunk of one to four blocks, the same number
// in all lanes: the powers are taken from memory, where they are found by it.
func (k *short512) tailColumns() stream {
	var s stream
	base := scratchPower + 4*row
	for i := 1; i <= 4; i++ {
		s.do(func() { storeA(sP+v(i-1), at(gScratch, base+i*row)) })
	}
	s.do(func() { MOVL(at(gPend, jobLen), gD.As32()) })
	s.do(func() { SUBQ(gPOff, gD) })
	s.do(func() { ADDQ(num(15), gD) })
	s.do(func() { SHRQ(Imm(4), gD) })
	s.do(func() { SHLQ(Imm(6), gD) })
	s.do(func() { ADDQ(gScratch, gD) })
	s.do(func() { xor(sAcc.r(), k.x[0], k.x[0]) })
	for c, x := range k.x {
		k.h.add(&s, x, at(gD, base-c*row), c == 0)
	}
	k.h.reduce(&s, sAcc)
	return s
}

// hash is what is left of the chunk before; end: with it the group ends.
func (k *short512) hash(r rest, end bool) stream {
	var s stream
	whole, tail := r.isTail()
	switch whole {
	case first:
		s = append(s, beside(k.text(tail), append(k.powers(), k.columns([]v{sA, sA + 1}, true)...))...)
	case chunk:
		s = append(s, k.text(tail)...)
	}
	if tail {
		s = append(s, k.tailColumns()...)
	} else if r >= chunk {
		s = append(s, k.columns(k.x[:], false)...)
	}
	if r == nothing || !end {
		return s
	}
	return append(s, k.tags()...)
}

// tags hashes the lengths and writes or compares the tags of a group.
func (k *short512) tags() stream {
	var s stream
	s.do(func() { gather(jobs(gPend, jobAADLen), sX) })
	s.do(func() { shufb(at(gScratch, rowLens), sX, sX) })
	s.do(func() { VPSLLQ(Imm(3), sX.r(), sX.r()) })
	s = append(s, k.columns([]v{sX}, false)...)
	s.do(func() { shufb(sBswap.r(), sAcc, sAcc) })
	g := []reg.GPPhysical{gA, gB, gC, gD}
	for i := range 4 {
		s.do(func() { MOVQ(at(gPend, i*jobSize+jobTag), g[i]) })
	}
	s.do(func() { xor(sEJ0.r(), sAcc, sAcc) })
	if k.sealing {
		s.do(func() { VMOVDQU32(sAcc.x(), at(g[0], 0)) })
		for i := 1; i < 4; i++ {
			s.do(func() { VEXTRACTI32X4(Imm(uint64(i)), sAcc.r(), at(g[i], 0)) })
		}
		return s
	}
	s.do(func() { gather([]Mem{at(g[0], 0), at(g[1], 0), at(g[2], 0), at(g[3], 0)}, sX) })
	s.do(func() { VPCMPEQQ(sX.r(), sAcc.r(), reg.K4) })
	s.do(func() { KMOVB(reg.K4, gA.As32()) })
	s.do(func() { MOVL(gA.As32(), gB.As32()) })
	s.do(func() { SHRL(Imm(1), gB.As32()) })
	s.do(func() { ANDL(gB.As32(), gA.As32()) }) // bit 2i: both halves of lane i are right
	for i := range 4 {
		s.do(func() {
			MOVL(gA.As32(), gB.As32())
			if i > 0 {
				SHRL(Imm(uint64(2*i)), gB.As32())
			}
			ANDL(Imm(1), gB.As32())
			MOVL(gB.As32(), at(gPend, i*jobSize+jobOK))
		})
	}
	return s
}

// turn is a 4 by 4 transposition of lanes: lane i of all becomes register i. The
// registers move: it returns where they are, and which is now the spare one.
func turn(s *stream, a [4]v, t v) (d [4]v, spare v) {
	shuf := func(imm int, hi, lo, d v) { s.do(func() { VSHUFI64X2(Imm(uint64(imm)), hi.r(), lo.r(), d.r()) }) }
	shuf(0x44, a[1], a[0], t)
	shuf(0xee, a[1], a[0], a[0])
	shuf(0x44, a[3], a[2], a[1])
	shuf(0xee, a[3], a[2], a[2])
	shuf(0x88, a[1], t, a[3])
	shuf(0xdd, a[1], t, t)
	shuf(0x88, a[2], a[0], a[1])
	shuf(0xdd, a[2], a[0], a[0])
	return [4]v{a[3], t, a[1], a[0]}, a[2]
}

// turnReversed is turn, and reverses the octets of each lane.
func turnReversed(s *stream, a [4]v, t, u v) (d [4]v) {
	shuf := func(imm int, hi, lo, d v) { s.do(func() { VSHUFI64X2(Imm(uint64(imm)), hi.r(), lo.r(), d.r()) }) }
	pick := func(lanes int, hi, lo, d v) {
		s.do(func() { loadA(at(gScratch, lanes), d) })
		s.do(func() { VPERMI2B(hi.r(), lo.r(), d.r()) })
	}
	shuf(0x44, a[1], a[0], t)
	shuf(0xee, a[1], a[0], a[0])
	shuf(0x44, a[3], a[2], a[1])
	shuf(0xee, a[3], a[2], a[2])
	pick(rowEven, a[1], t, a[3])
	pick(rowOdd, a[1], t, u)
	pick(rowEven, a[2], a[0], t)
	pick(rowOdd, a[2], a[0], a[1])
	return [4]v{a[3], u, t, a[1]}
}

func four(first v) [4]v { return [4]v{first, first + 1, first + 2, first + 3} }

// spare are registers that hold nothing while AAD is handled.
var spare = [4]v{sLo, sMi, sHi, sU}

// left sets g to how many of a lane's octets lie in the chunk at gOff, 0..64.
// z is zero.
func (k *short512) left(lane, field int, g reg.GPPhysical, z reg.GPPhysical) {
	MOVL(job(lane, field), g.As32())
	SUBQ(gOff, g)
	CMOVQLT(z, g)
	CMPQ(g, num(64))
	CMOVQGT(k.c.bits64(), g)
}

// laneLoad loads a lane's octets of the chunk, zeros behind its end, and sets
// its mask register; gA is how many there are.
func (k *short512) laneLoad(lane, pointer, length int, d v) {
	XORL(gE.As32(), gE.As32())
	k.left(lane, length, gA, gE)
	BZHIQ(gA, k.c.bits, gB)
	KMOVQ(gB, byteMask[lane])
	MOVQ(job(lane, pointer), gC)
	ADDQ(gOff, gC)
	TESTQ(gA, gA)
	CMOVQEQ(gScratch, gC) // no octet: nor an address outside of the buffer
	VMOVDQU8_Z(at(gC, 0), byteMask[lane], d.r())
}

// unequal hashes columns of which lane i has as many as its length says;
// lanes that end early are multiplied with 1.
func (k *short512) unequal(x [4]v, length int) {
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
		k.left(i, length, g[i], gE)
		ADDQ(Imm(15), g[i])
		SHRQ(Imm(4), g[i])
		SHLQ(Imm(6), g[i])
		ADDQ(gScratch, g[i])
	}
	var s stream
	s.do(func() { xor(sAcc.r(), x[0], x[0]) })
	for c := range 4 {
		m := sT
		s.do(func() {
			gather([]Mem{at(g[0], base-c*row), at(g[1], base-c*row+16), at(g[2], base-c*row+32), at(g[3], base-c*row+48)}, m)
		})
		k.h.add(&s, x[c], m.r(), c == 0)
	}
	k.h.reduce(&s, sAcc)
	emit(s)
}

// firstText takes a group's AAD and first chunk.
func (k *short512) firstText() {
	move(sJ, sEJ0)
	if k.fresh {
		shufb(sBswap.r(), sH, sP)
	} else {
		for i := v(0); i < 4; i++ {
			loadA(at(gRows, rowPower+int(i+1)*row), sP+i)
		}
	}
	// AAD. Headers of one burst mostly have one length, of up to two blocks.
	MOVL(job(0, jobAADLen), gA.As32())
	for i := 1; i < 4; i++ {
		CMPL(gA.As32(), job(i, jobAADLen))
		JNE(LabelRef("aadslow"))
	}
	CMPQ(gA, Imm(32))
	JG(LabelRef("aadmore"))
	BZHIQ(gA, k.c.bits, gB)
	KMOVD(gB.As32(), reg.K4)
	XORL(gE.As32(), gE.As32())
	for i := range 4 {
		MOVQ(job(i, jobAAD), gC)
		TESTQ(gA, gA)
		CMOVQEQ(gScratch, gC)
		VMOVDQU8_Z(at(gC, 0), reg.K4, (spare[i]).y())
	}
	VINSERTI64X4(Imm(1), spare[1].y(), spare[0].r(), spare[0].r())
	VINSERTI64X4(Imm(1), spare[3].y(), spare[2].r(), spare[2].r())
	VSHUFI64X2(Imm(0x88), spare[2].r(), spare[0].r(), sA.r())
	VSHUFI64X2(Imm(0xdd), spare[2].r(), spare[0].r(), (sA + 1).r())
	CMPQ(gA, Imm(16))
	JG(LabelRef("aadtwo"))
	move(sA, sA+1) // one block (or none) is the last of two, the other zero
	zero(sA)
	Label("aadtwo")
	shufb(sBswap.r(), sA, sA)
	shufb(sBswap.r(), sA+1, sA+1)
	whole("firstragged")
	k.goOn(first)
	k.ifTail("firstragged", first)
	emit(append(k.powers(), k.columns([]v{sA, sA + 1}, true)...))
	JMP(LabelRef("uneven"))

	Label("aadmore")
	// Three or four blocks: columns in scratch memory, three after one of zeros.
	CMPQ(gA, num(64))
	JG(LabelRef("aadslow"))
	BZHIQ(gA, k.c.bits, gB)
	KMOVQ(gB, reg.K4)
	for i := range 4 {
		MOVQ(job(i, jobAAD), gC)
		VMOVDQU8_Z(at(gC, 0), reg.K4, (sX + v(i)).r())
	}
	zero(sA)
	storeA(sA, at(gScratch, rowAAD))
	MOVQ(gScratch, gE)
	LEAQ(at(gScratch, row), gD)
	CMPQ(gA, num(48))
	CMOVQLE(gD, gE)
	for c, x := range k.toColumns(four(sX), sText, sPlain) {
		storeA(x, at(gE, rowAAD+c*row))
	}
	emit(append(k.powers(), k.aadColumns()...))
	JMP(LabelRef("chunkdone"))

	Label("aadslow")
	// Any lengths: chunk by chunk.
	zero(sAcc)
	emit(k.powers())
	Label("aadchunk")
	for i := range 4 {
		k.laneLoad(i, jobAAD, jobAADLen, sX+v(i))
	}
	k.unequal(k.toColumns(four(sX), sText, sPlain), jobAADLen)
	ADDQ(num(64), gOff)
	for i := range 4 {
		MOVL(job(i, jobAADLen), gA.As32())
		CMPQ(gA, gOff)
		JGT(LabelRef("aadchunk"))
	}
	XORL(gOff.As32(), gOff.As32())
	JMP(LabelRef("chunkdone"))
}

// chunkDone goes on after a chunk, with powers and AAD done.
func (k *short512) chunkDone() {
	Label("chunkdone")
	whole("ragged")
	k.goOn(chunk)
	k.ifTail("ragged", chunk)
	Label("uneven")
	k.raggedText()
}

// toColumns turns packets' octets into columns to hash.
func (k *short512) toColumns(x [4]v, t, u v) [4]v {
	var s stream
	x = turnReversed(&s, x, t, u)
	emit(s)
	return x
}

// goOn continues after a chunk of which r is left.
func (k *short512) goOn(r rest) {
	MOVQ(gJobs, gPend)
	MOVQ(gOff, gPOff)
	ADDQ(num(64), gOff)
	CMPQ(gOff, gMax)
	JLT(LabelRef(labels[r] + "more"))
	if r == nothing {
		r = lengths
	}
	JMP(LabelRef(labels[r] + "next"))
}

// ifTail goes on with a tail of r if the chunk is the last for all lanes, with
// the same number of blocks.
func (k *short512) ifTail(label string, r rest) {
	Label(label)
	MOVL(job(0, jobLen), gA.As32())
	SUBQ(gOff, gA)
	JLE(LabelRef(label + "unlike"))
	ADDQ(num(15), gA)
	SHRQ(Imm(4), gA)
	MOVQ(gMax, gB)
	SUBQ(gOff, gB)
	ADDQ(num(15), gB)
	SHRQ(Imm(4), gB)
	CMPQ(gA, gB)
	JNE(LabelRef(label + "unlike"))
	MOVQ(gJobs, gPend)
	MOVQ(gOff, gPOff)
	JMP(LabelRef(labels[r.tail()] + "next"))
	Label(label + "unlike")
}

// raggedText takes a chunk that not all lanes fill, and hashes it at once.
func (k *short512) raggedText() {
	k.unequal(k.partText(), jobLen)
	MOVQ(gJobs, gPend)
	ADDQ(num(64), gOff)
	CMPQ(gOff, gMax)
	JGE(LabelRef("lengthsnext"))
	JMP(LabelRef("nothingmore"))
}

// moreText runs AES for the next chunk beside what is left of the last one.
func (k *short512) moreText(r rest) {
	k.nextCounters()
	k.emit(k.aesRounds([]v{sC, sC + 1, sC + 2, sC + 3}), r, false)
	JMP(LabelRef("chunkdone"))
}

// text turns the key stream of a whole chunk in sX.. into what to hash, in k.x,
// and writes the result.
func (k *short512) text(tail bool) stream {
	var s stream
	c := sPlain
	x, t := turn(&s, four(sX), sText)
	for i := range 4 {
		ks := x[i]
		s.do(func() { MOVQ(at(gPend, i*jobSize+jobSrc), gA) })
		s.do(func() { MOVQ(at(gPend, i*jobSize+jobDst), gE) })
		src, dst := Mem{Base: gA, Index: gPOff, Scale: 1}, Mem{Base: gE, Index: gPOff, Scale: 1}
		mask := byteMask[i]
		if tail {
			s.do(func() { MOVL(at(gPend, i*jobSize+jobLen), gB.As32()) })
			s.do(func() { SUBQ(gPOff, gB) })
			s.do(func() { BZHIQ(gB, k.c.bits, gB) })
			s.do(func() { KMOVQ(gB, mask) })
			c := c
			s.do(func() { VMOVDQU8_Z(src, mask, c.r()) })
			s.do(func() { xor(c.r(), ks, ks) })
			if k.sealing {
				s.do(func() { VMOVDQU8_Z(ks.r(), mask, ks.r()) })
			}
			s.do(func() { VMOVDQU8(ks.r(), mask, dst) })
		} else if k.sealing {
			s.do(func() { xor(src, ks, ks) })
			s.do(func() { store(ks, dst) })
		} else {
			c := c
			s.do(func() { load(src, c) })
			s.do(func() { xor(c.r(), ks, ks) })
			s.do(func() { store(ks, dst) })
		}
		if !k.sealing { // to hash is what was decrypted, and the key stream's register is free
			x[i], c = c, ks
		}
	}
	k.x = turnReversed(&s, x, t, c)
	return s
}

// partText is text where not all lanes fill the chunk: with masks, at once, the
// key stream being in sC. It returns what to hash.
func (k *short512) partText() [4]v {
	var s stream
	ks, _ := turn(&s, four(sC), sText)
	emit(s)
	for i := range 4 {
		x, ks := sX+v(i), ks[i]
		k.laneLoad(i, jobSrc, jobLen, x)
		MOVQ(job(i, jobDst), gC)
		ADDQ(gOff, gC)
		TESTQ(gA, gA)
		CMOVQEQ(gScratch, gC)
		xor(x.r(), ks, ks)
		if k.sealing {
			VMOVDQU8_Z(ks.r(), byteMask[i], x.r())
		}
		VMOVDQU8(ks.r(), byteMask[i], at(gC, 0))
	}
	return k.toColumns(four(sX), sText, sPlain)
}

// whole jumps to label unless all four lanes fill the chunk at gOff.
func whole(label string) {
	LEAQ(at(gOff, 64), gA)
	for i := range 4 {
		MOVL(job(i, jobLen), gB.As32())
		CMPQ(gB, gA)
		JLT(LabelRef(label))
	}
}

// part sets up a group of fewer than four packets: lanes without one repeat
// the last, and write into the sink. gOff says what is left of the group
// before.
func (k *short512) part() {
	Label("part")
	if k.fresh {
		keyMasks(gN, k.keyLen, gA, gB)
		loadKeys512(gKeys, k.keyLen, sKey, sKeyB, sT, true)
	}
	copyJob := func(from, to reg.GPPhysical) {
		load(at(from, 0), sH)
		store(sH, at(to, 0))
	}
	LEAQ(at(gScratch, scratchJobs), gA)
	MOVQ(gN, gB)
	MOVQ(gJobs, gC)
	Label("copy")
	copyJob(gC, gA)
	ADDQ(num(jobSize), gA)
	ADDQ(num(jobSize), gC)
	DECQ(gB)
	JNZ(LabelRef("copy"))
	SUBQ(num(jobSize), gC)
	LEAQ(at(gScratch, scratchJobs+4*jobSize), gD)
	LEAQ(at(gScratch, scratchSink), gE)
	Label("fill")
	copyJob(gC, gA)
	MOVQ(gE, at(gA, jobDst))
	if k.sealing {
		MOVQ(gE, at(gA, jobTag))
	}
	ADDQ(num(jobSize), gA)
	CMPQ(gA, gD)
	JLT(LabelRef("fill"))
	LEAQ(at(gScratch, scratchJobs), gJobs)
	for _, r := range ends {
		CMPQ(gOff, num(int(r)))
		JEQ(LabelRef(labels[r] + "keyed"))
	}
	JMP(LabelRef(labels[nothing] + "keyed"))
}

// outcome copies what became of a group of fewer than four from the copy that
// was worked on; gN is how many were too few, negated.
func (k *short512) outcome() {
	TESTQ(gN, gN)
	JEQ(LabelRef("told"))
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
	Label("told")
}

// Param2 is a parameter's memory.
func Param2(name string) Mem {
	b, err := Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	return b.Addr
}

// wipe zeroes what the kernel left in scratch memory, but for jobs and sink.
func (k *short512) wipe() {
	zero(sT)
	for i := range 5 {
		storeA(sT, at(gScratch, scratchPower+(4+i)*row))
	}
	for _, r := range []int{rowCarry, rowLens, rowOne, rowRot, rowEven, rowOdd, rowEvenWords, scratchCtr} {
		storeA(sT, at(gScratch, r))
	}
	for r := range 5 {
		storeA(sT, at(gScratch, rowAAD+r*row))
	}
	for r := range rounds(k.keyLen) + 1 {
		storeA(sT, at(gScratch, scratchRows+r*row))
	}
	if !k.fresh {
		for r := 16; r < 20; r++ {
			storeA(sT, at(gScratch, scratchRows+r*row))
		}
		storeA(sT, at(gScratch, rowHave))
	}
}
