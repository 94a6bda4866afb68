package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Short packets: each lane works on its own packet. A chunk is 64 octets of each of four
// packets. It consists of four columns; a column is one block of each packet.

// Layout of scratch memory for short packets.
const (
	scratchRows  = 0                 // round keys of the present group
	scratchPower = 2048              // rows of powers for lanes of unequal length
	scratchConst = 2048 + 10*row     // constants in all lanes
	scratchCtr   = 2048 + 16*row     // counters of the present chunk
	scratchJobs  = 2048 + 17*row     // four jobs, if fewer than four packets are left
	scratchSink  = scratchJobs + 256 // output of lanes without a packet
	scratchNonce = 4544              // nonces with counter 0, plus round key 0: of rows (where long packets have their keys)
	scratchTable = 4544 + row        // each packet's first round (see advance) and other round keys, in all lanes
)

// A short kernel takes groups of four packets, chunk by chunk, in a pipeline: while AES runs
// for one chunk (or for a new group, with its key schedule, H and E(J0)), the chunk before,
// which may be the end of the group before, is hashed. A chunk that is not hashed yet is
// pending.
//
//	                     +------------ begin(pending) <------+
//	                     v                                   | another group
//	begin(nothing) --> text ---> pending is set ---> the group ends ---> drain(pending)
//	                               ^     |                     the last one
//	                               |     | the group goes on
//	                               |     v
//	                        chunkdone <-- moreText(pending)
//
//	state      takes                                      pending is then
//	text       AAD and a group's first chunk (AAD of      whole chunk: first; tail: firstTail
//	           more than four blocks is hashed at
//	           once, and chunkdone does the rest)
//	chunkdone  another chunk                              whole chunk: chunk; tail: chunkTail
//	rowdone    as chunkdone, of key stream in rows        whole chunk: row
//	uneven     any of them's chunks that are neither,     nothing, or lengths if the group ends
//	           and hashes them at once
//
// Long packets' key stream is made in rows from the second chunk on: a register has four blocks of
// one packet, and need not be transposed. That takes each round key of each packet in all lanes, which
// pays from rowsFrom octets on. Where rows end (a tail, an uneven chunk, the group), they are turned
// into columns, so that there is no more code for them.
//
// A chunk is whole if all lanes have 64 octets in it. It is a tail if it is the last one of
// all lanes and has equally many blocks in each. Otherwise it is uneven. The names are those of
// pending values and (text, chunkdone, uneven) of labels. The code for each arrow into
// moreText, begin and drain is written separately, since the pending hash is interleaved.
type pending int

const (
	pendingNothing   pending = iota
	pendingLengths           // only the lengths, which end a group as the tag does
	pendingChunk             // a whole chunk
	pendingFirst             // a group's first chunk; before it, the powers of H, and the last two blocks of AAD
	pendingChunkTail         // less than 64 octets, with equally many blocks in all lanes
	pendingFirstTail         // the same, for a group's first chunk
	pendingRow               // a whole chunk in rows
)

// rowsFrom is the length in octets from which on rows are used. On AMD's family 25 they are faster from
// about 1088 octets on, with keys of AES-128 only. On family 26 they are slower: there, long kernels take
// packets of more than 1360 octets, so that rows are not used.
const rowsFrom = 1361

// tail returns r for a tail in place of a whole chunk.
func (r pending) tail() pending { return r - pendingChunk + pendingChunkTail }

// isTail undoes tail.
func (r pending) isTail() (pending, bool) {
	if r == pendingChunkTail || r == pendingFirstTail {
		return r - pendingChunkTail + pendingChunk, true
	}
	return r, false
}

type short512 struct {
	c       *constants
	keyLen  int
	raw     bool // keys are raw, instead of expanded
	sealing bool

	h hasher
	x [4]v // where the columns to hash are
}

// Registers of the short kernels.
const (
	shortH        = v(0)
	shortJ0       = v(1)
	shortStream   = v(2) // to 5: key stream in the making, a register for each column
	shortKey      = v(6) // the round key in the making
	shortOddKey   = v(7)
	shortKeyTemp  = v(8)  // and 9: temporaries of the key schedule
	shortNext     = v(9)  // of rows: first columns of the next chunk
	shortCounter  = v(10) // of rows: the numbers of the four blocks behind it
	shortPending  = v(11) // to 14: key stream of the chunk before, then what to hash of it
	shortAAD      = v(15) // and 16: AAD to hash
	shortPowers   = v(17) // to 20: H to H^4
	shortSum      = v(21)
	shortEJ0      = v(22)
	shortTemp     = v(23)
	shortLo       = v(24)
	shortMid      = v(25)
	shortHi       = v(26)
	shortHashTemp = v(27) // and 28: temporaries of hashing
	shortText     = v(29)
	shortPoly     = v(30)
	shortReverse  = v(31)
)

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
	rowEvenWords = 23 * row // words 0 and 2
	rowDiagonal  = 15 * row // of rows, not constants: what the first round brings to the first columns,
	rowColumnKey = 20 * row // and its key for them
)

// shortFunction begins a kernel for short packets.
func shortFunction(keyLen int, raw, sealing bool) {
	kind := "Expanded"
	if raw {
		kind = "Raw"
	}
	fn := name(baseName(sealing, kind), keyLen)
	function(fn, "func(keys, jobs *byte, n int, scratch *byte)",
		fn+" takes n short packets, in order of length.")
	Load(Param("keys"), keysPtr)
	Load(Param("jobs"), jobsPtr)
	Load(Param("n"), packets)
	Load(Param("scratch"), scratchPtr)
}

func shortKernel512(c *constants, keyLen int, raw, sealing bool) {
	k := &short512{c: c, keyLen: keyLen, raw: raw, sealing: sealing}
	k.h = hasher{lo: shortLo, mi: shortMid, hi: shortHi, t: [4]v{shortHashTemp, shortHashTemp + 1}, poly: shortPoly}
	shortFunction(keyLen, raw, sealing)
	setLaneMasks(tempA)
	broadcast(c.bswap, shortReverse)
	broadcast(c.poly, shortPoly)
	for _, x := range []struct {
		m   Mem
		row int
	}{{c.carry, rowCarry}, {c.lens, rowLens}, {c.one, rowOne}, {c.rot, rowRot}, {c.even, rowEvenWords}} {
		broadcast(x.m, shortHashTemp)
		storeA(shortHashTemp, at(scratchPtr, x.row))
	}
	for i, r := range []int{rowEven, rowOdd} {
		load(plus(c.pick, i*64), shortHashTemp)
		storeA(shortHashTemp, at(scratchPtr, r))
	}
	zero(shortHashTemp)
	storeA(shortHashTemp, at(scratchPtr, rowZero))
	if raw {
		LEAQ(at(scratchPtr, scratchRows), roundKeys)
	} else {
		storeA(shortHashTemp, at(scratchPtr, scratchRows)) // no keys collected there yet
	}

	// The first group.
	k.begin(pendingNothing)

	Label("text")
	k.firstText()
	for _, r := range []pending{pendingFirst, pendingChunk, pendingNothing} {
		// The group goes on: another chunk, beside the pending hash of this one.
		Label(labels[r] + "more")
		if r == pendingFirst && !raw {
			k.ifOneBlock("firstone")
		}
		k.moreText(r)
	}
	if !raw {
		Label("firstone")
		k.oneBlock(pendingFirst)
	}
	k.chunkDone()
	k.rows()
	for _, r := range ends {
		// The group ends: the next one begins beside its pending hash.
		Label(labels[r] + "next")
		if raw {
			ADDQ(num(4*keyLen), keysPtr)
		}
		ADDQ(num(4*jobSize), jobsPtr)
		SUBQ(num(4), packets)
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

var labels = map[pending]string{pendingNothing: "nothing", pendingLengths: "lengths", pendingChunk: "chunk", pendingFirst: "first", pendingChunkTail: "chunktail", pendingFirstTail: "firsttail", pendingRow: "row"}

// ends is what may be left at the end of a group.
var ends = []pending{pendingLengths, pendingChunk, pendingFirst, pendingChunkTail, pendingFirstTail}

// drain hashes the pending end of the last group. It hashes a whole chunk as a tail.
func (k *short512) drain() {
	for _, r := range []pending{pendingFirstTail, pendingChunkTail, pendingLengths} {
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
// pending hash of the group before.
func (k *short512) begin(r pending) {
	l := labels[r]
	CMPQ(packets, num(4))
	JGE(LabelRef(l + "four"))
	MOVQ(U32(uint32(r)), chunkAt)
	JMP(LabelRef("part"))
	Label(l + "four")
	if k.raw {
		loadKeys512(keysPtr, k.keyLen, shortKey, shortOddKey, shortKeyTemp, false)
	}
	Label(l + "keyed")
	MOVL(job(3, jobLen), longest.As32())
	XORL(chunkAt.As32(), chunkAt.As32())
	k.counters()
	var aes stream
	if k.raw {
		aes = k.schedule()
	} else {
		k.collect(l)
		aes = k.aesRounds([]v{shortJ0, shortStream, shortStream + 1, shortStream + 2, shortStream + 3})
	}
	k.emit(aes, r, true)
}

// emit interleaves AES with the pending hash.
func (k *short512) emit(aes stream, r pending, end bool) {
	emit(aes, k.hash(r, end))
}

// counters makes the first counter blocks, in shortJ0 and shortStream, and moves the key
// stream of the chunk before out of the way.
func (k *short512) counters() {
	k.moveColumns()
	gather(jobs(jobsPtr, jobNonce), shortH)
	broadcast(k.c.nonce, shortKeyTemp)
	loadA(at(scratchPtr, rowOne), shortKeyTemp+1)
	VPANDQ(shortKeyTemp.r(), shortH.r(), shortH.r())
	addd((shortKeyTemp + 1).r(), shortH, shortJ0)
	addd((shortKeyTemp + 1).r(), shortJ0, shortStream)
	addd((shortKeyTemp + 1).r(), shortStream, shortStream+1)
	addd((shortKeyTemp + 1).r(), shortStream+1, shortStream+2)
	addd((shortKeyTemp + 1).r(), shortStream+2, shortStream+3)
	storeA(shortStream+3, at(scratchPtr, scratchCtr))
}

func (k *short512) moveColumns() {
	for i := v(0); i < 4; i++ {
		move(shortStream+i, shortPending+i)
	}
}

func (k *short512) nextCounters() {
	k.moveColumns()
	loadA(at(scratchPtr, rowOne), shortKeyTemp)
	addd(at(scratchPtr, scratchCtr), shortKeyTemp, shortStream)
	addd(shortKeyTemp.r(), shortStream, shortStream+1)
	addd(shortKeyTemp.r(), shortStream+1, shortStream+2)
	addd(shortKeyTemp.r(), shortStream+2, shortStream+3)
	storeA(shortStream+3, at(scratchPtr, scratchCtr))
}

// schedule runs the key schedule beside six streams of AES, and stores the
// round keys for further chunks.
func (k *short512) schedule() stream {
	states := []v{shortH, shortJ0, shortStream, shortStream + 1, shortStream + 2, shortStream + 3}
	x := schedule512{keyLen: k.keyLen, key: shortKey, oddKey: shortOddKey, t: shortKeyTemp, u: shortKeyTemp + 1,
		rot: at(scratchPtr, rowRot), even: at(scratchPtr, rowEvenWords), zeros: at(scratchPtr, rowZero)}
	return x.stream(k.c, func(s *stream, r int, key v) {
		s.do(func() { storeA(key, at(roundKeys, r*row)) })
		*s = append(*s, allRound(k.keyLen, r, key, states, shortH)...)
	})
}

// collect finds the four keys. If they are one group, in order, it is used in place.
// Otherwise their rows are copied to scratch memory, unless the group before had the same
// keys.
func (k *short512) collect(l string) {
	g := []reg.GPPhysical{tempA, tempB, tempC, tempD}
	for i := range g {
		MOVL(job(i, jobKey), g[i].As32())
	}
	for _, g := range g {
		rowsOf(g, tempE)
	}
	MOVQ(tempA, roundKeys)
	for i := 1; i < 4; i++ {
		LEAQ(at(tempA, 16*i), tempE)
		CMPQ(tempE, g[i])
		JNE(LabelRef(l + "collect"))
	}
	JMP(LabelRef(l + "collected"))
	Label(l + "collect")
	LEAQ(at(scratchPtr, scratchRows), roundKeys)
	// What is there: the addresses are in a row of their own.
	const have = rowHave
	for i := range g {
		CMPQ(g[i], at(scratchPtr, have+8*i))
		JNE(LabelRef(l + "gather"))
	}
	JMP(LabelRef(l + "collected"))
	Label(l + "gather")
	for i := range g {
		MOVQ(g[i], at(scratchPtr, have+8*i))
	}
	rowsOf := func(from, to int) {
		for r := from; r <= to; r++ {
			d := []v{shortH, shortKey, shortOddKey, shortKeyTemp}[r%4]
			gather([]Mem{at(tempA, r*row), at(tempB, r*row), at(tempC, r*row), at(tempD, r*row)}, d)
			storeA(d, at(roundKeys, r*row))
		}
	}
	rowsOf(0, rounds(k.keyLen))
	rowsOf(16, 19)
	Label(l + "collected")
}

// aesRounds is AES with the keys at roundKeys.
func (k *short512) aesRounds(states []v) stream {
	var s stream
	for r := 0; r <= rounds(k.keyLen); r++ {
		kr := []v{shortKey, shortOddKey}[r%2]
		s.do(func() { loadA(at(roundKeys, r*row), kr) })
		for _, x := range states {
			s.do(func() { aesRound(r, rounds(k.keyLen), kr.r(), x) })
		}
	}
	return s
}

// powers makes H times x and its powers for a new key.
func (k *short512) powers() stream {
	var s stream
	if !k.raw {
		return s
	}
	timesX(&s, shortPowers, shortHashTemp, at(scratchPtr, rowCarry))
	k.h.square(&s, shortPowers, shortPowers+1)
	k.h.mul(&s, shortPowers+1, shortPowers.r(), shortPowers+2)
	k.h.square(&s, shortPowers+1, shortPowers+3)
	return s
}

// columns hashes columns, and what there is in shortSum unless start.
func (k *short512) columns(x []v, start bool) stream {
	var s stream
	if !start {
		s.do(func() { xor(shortSum.r(), x[0], x[0]) })
	}
	if len(x) == 4 {
		k.h.four(&s, x, [4]Op{(shortPowers + 3).r(), (shortPowers + 2).r(), (shortPowers + 1).r(), shortPowers.r()})
	} else {
		for c := range x {
			k.h.add(&s, x[c], (shortPowers + v(len(x)-1-c)).r(), c == 0)
		}
	}
	k.h.reduce(&s, shortSum)
	return s
}

// tailColumns is columns for a last chunk of one to four blocks, the same number
// in all lanes: the powers are taken from memory, where they are found by it.
func (k *short512) tailColumns() stream {
	var s stream
	base := scratchPower + 4*row
	for i := 1; i <= 4; i++ {
		s.do(func() { storeA(shortPowers+v(i-1), at(scratchPtr, base+i*row)) })
	}
	s.do(func() { MOVL(at(pendingJobs, jobLen), tempD.As32()) })
	s.do(func() { SUBQ(pendingAt, tempD) })
	s.do(func() { ADDQ(num(15), tempD) })
	s.do(func() { SHRQ(Imm(4), tempD) })
	s.do(func() { SHLQ(Imm(6), tempD) })
	s.do(func() { ADDQ(scratchPtr, tempD) })
	s.do(func() { xor(shortSum.r(), k.x[0], k.x[0]) })
	for c, x := range k.x {
		k.h.add(&s, x, at(tempD, base-c*row), c == 0)
	}
	k.h.reduce(&s, shortSum)
	return s
}

// hash hashes the pending chunk. end says that the group ends with it.
func (k *short512) hash(r pending, end bool) stream {
	var s stream
	whole, tail := r.isTail()
	switch whole {
	case pendingFirst:
		s = append(s, beside(k.text(true, tail), append(k.powers(), k.columns([]v{shortAAD, shortAAD + 1}, true)...))...)
	case pendingChunk:
		s = append(s, k.text(true, tail)...)
	case pendingRow:
		s = append(s, k.text(false, false)...)
	}
	if tail {
		s = append(s, k.tailColumns()...)
	} else if r >= pendingChunk {
		s = append(s, k.columns(k.x[:], false)...)
	}
	if r == pendingNothing || !end {
		return s
	}
	return append(s, k.tags()...)
}

// tags hashes the lengths and writes or compares the tags of a group.
func (k *short512) tags() stream {
	var s stream
	s.do(func() { gather(jobs(pendingJobs, jobAADLen), shortPending) })
	s.do(func() { shufb(at(scratchPtr, rowLens), shortPending, shortPending) })
	s.do(func() { VPSLLQ(Imm(3), shortPending.r(), shortPending.r()) })
	s = append(s, k.columns([]v{shortPending}, false)...)
	s.do(func() { shufb(shortReverse.r(), shortSum, shortSum) })
	g := []reg.GPPhysical{tempA, tempB, tempC, tempD}
	for i := range 4 {
		s.do(func() { MOVQ(at(pendingJobs, i*jobSize+jobTag), g[i]) })
	}
	s.do(func() { xor(shortEJ0.r(), shortSum, shortSum) })
	if k.sealing {
		s.do(func() { VMOVDQU32(shortSum.x(), at(g[0], 0)) })
		for i := 1; i < 4; i++ {
			s.do(func() { VEXTRACTI32X4(Imm(uint64(i)), shortSum.r(), at(g[i], 0)) })
		}
		return s
	}
	s.do(func() { gather([]Mem{at(g[0], 0), at(g[1], 0), at(g[2], 0), at(g[3], 0)}, shortPending) })
	s.do(func() { VPCMPEQQ(shortPending.r(), shortSum.r(), reg.K4) })
	s.do(func() { KMOVB(reg.K4, tempA.As32()) })
	s.do(func() { MOVL(tempA.As32(), tempB.As32()) })
	s.do(func() { SHRL(Imm(1), tempB.As32()) })
	s.do(func() { ANDL(tempB.As32(), tempA.As32()) }) // bit 2i: both halves of lane i are right
	for i := range 4 {
		s.do(func() {
			MOVL(tempA.As32(), tempB.As32())
			if i > 0 {
				SHRL(Imm(uint64(2*i)), tempB.As32())
			}
			ANDL(Imm(1), tempB.As32())
			MOVL(tempB.As32(), at(pendingJobs, i*jobSize+jobOK))
		})
	}
	return s
}

// transpose is a 4 by 4 transposition of lanes: register i receives lane i of all. It
// returns the registers with the result, and the one that is free now.
func transpose(s *stream, a [4]v, t v) (d [4]v, spare v) {
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

// transposeReversed is transpose, and reverses the octets of each lane.
func transposeReversed(s *stream, a [4]v, t, u v) (d [4]v) {
	shuf := func(imm int, hi, lo, d v) { s.do(func() { VSHUFI64X2(Imm(uint64(imm)), hi.r(), lo.r(), d.r()) }) }
	pick := func(lanes int, hi, lo, d v) {
		s.do(func() { loadA(at(scratchPtr, lanes), d) })
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

func four(pendingFirst v) [4]v {
	return [4]v{pendingFirst, pendingFirst + 1, pendingFirst + 2, pendingFirst + 3}
}

// spare are registers that are free while AAD is handled.
var spare = [4]v{shortLo, shortMid, shortHi, shortHashTemp}

// left sets g to how many of a lane's octets lie in the chunk at chunkAt, 0..64.
// z is zero.
func (k *short512) left(lane, field int, g reg.GPPhysical, z reg.GPPhysical) {
	MOVL(job(lane, field), g.As32())
	SUBQ(chunkAt, g)
	CMOVQLT(z, g)
	CMPQ(g, num(64))
	CMOVQGT(k.c.bits64(), g)
}

// laneLoad loads a lane's octets of the chunk, zeros behind its end, and sets
// its mask register; tempA is how many there are.
func (k *short512) laneLoad(lane, pointer, length int, d v) {
	XORL(tempE.As32(), tempE.As32())
	k.left(lane, length, tempA, tempE)
	BZHIQ(tempA, k.c.bits, tempB)
	KMOVQ(tempB, byteMask[lane])
	MOVQ(job(lane, pointer), tempC)
	ADDQ(chunkAt, tempC)
	TESTQ(tempA, tempA)
	CMOVQEQ(scratchPtr, tempC) // no octet: nor an address outside of the buffer
	VMOVDQU8_Z(at(tempC, 0), byteMask[lane], d.r())
}

// unequal hashes columns, of which each lane has as many as its length says. Lanes that end
// early are multiplied by 1.
func (k *short512) unequal(x [4]v, length int) {
	// rows of powers: 1 (as x, see timesX), H, .. H^4; in front four rows for
	// columns behind the end, which are zero.
	base := scratchPower + 4*row
	storeA(shortPoly, at(scratchPtr, base))
	for i := 1; i <= 4; i++ {
		storeA(shortPowers+v(i-1), at(scratchPtr, base+i*row))
	}
	g := []reg.GPPhysical{tempA, tempB, tempC, tempD}
	XORL(tempE.As32(), tempE.As32())
	for i := range 4 {
		k.left(i, length, g[i], tempE)
		ADDQ(Imm(15), g[i])
		SHRQ(Imm(4), g[i])
		SHLQ(Imm(6), g[i])
		ADDQ(scratchPtr, g[i])
	}
	var s stream
	s.do(func() { xor(shortSum.r(), x[0], x[0]) })
	for c := range 4 {
		m := shortKeyTemp
		s.do(func() {
			gather([]Mem{at(g[0], base-c*row), at(g[1], base-c*row+16), at(g[2], base-c*row+32), at(g[3], base-c*row+48)}, m)
		})
		k.h.add(&s, x[c], m.r(), c == 0)
	}
	k.h.reduce(&s, shortSum)
	emit(s)
}

// firstText takes a group's AAD and first chunk.
func (k *short512) firstText() {
	move(shortJ0, shortEJ0)
	if k.raw {
		shufb(shortReverse.r(), shortH, shortPowers)
	} else {
		for i := v(0); i < 4; i++ {
			loadA(at(roundKeys, rowPower+int(i+1)*row), shortPowers+i)
		}
	}
	// AAD. Headers of one burst mostly have one length, of up to two blocks.
	MOVL(job(0, jobAADLen), tempA.As32())
	for i := 1; i < 4; i++ {
		CMPL(tempA.As32(), job(i, jobAADLen))
		JNE(LabelRef("aadslow"))
	}
	CMPQ(tempA, Imm(32))
	JG(LabelRef("aadmore"))
	BZHIQ(tempA, k.c.bits, tempB)
	KMOVD(tempB.As32(), reg.K4)
	XORL(tempE.As32(), tempE.As32())
	for i := range 4 {
		MOVQ(job(i, jobAAD), tempC)
		TESTQ(tempA, tempA)
		CMOVQEQ(scratchPtr, tempC)
		VMOVDQU8_Z(at(tempC, 0), reg.K4, (spare[i]).y())
	}
	VINSERTI64X4(Imm(1), spare[1].y(), spare[0].r(), spare[0].r())
	VINSERTI64X4(Imm(1), spare[3].y(), spare[2].r(), spare[2].r())
	VSHUFI64X2(Imm(0x88), spare[2].r(), spare[0].r(), shortAAD.r())
	VSHUFI64X2(Imm(0xdd), spare[2].r(), spare[0].r(), (shortAAD + 1).r())
	CMPQ(tempA, Imm(16))
	JG(LabelRef("aadtwo"))
	move(shortAAD, shortAAD+1) // one block (or none) is the last of two, the other zero
	zero(shortAAD)
	Label("aadtwo")
	shufb(shortReverse.r(), shortAAD, shortAAD)
	shufb(shortReverse.r(), shortAAD+1, shortAAD+1)
	Label("aadwhole")
	whole("firstragged")
	k.goOn(pendingFirst)
	k.ifTail("firstragged", pendingFirst)
	emit(append(k.powers(), k.columns([]v{shortAAD, shortAAD + 1}, true)...))
	JMP(LabelRef("uneven"))

	Label("aadmore")
	// Three or four blocks: of the first ones the sum comes to the last two.
	CMPQ(tempA, num(64))
	JG(LabelRef("aadslow"))
	BZHIQ(tempA, k.c.bits, tempB)
	KMOVQ(tempB, reg.K4)
	for i := range 4 {
		MOVQ(job(i, jobAAD), tempC)
		VMOVDQU8_Z(at(tempC, 0), reg.K4, (shortPending + v(i)).r())
	}
	power := shortPowers
	var first, second stream
	if k.raw { // powers does so when it is its turn
		power = shortKeyTemp
		move(shortPowers, power)
		timesX(&first, power, shortHashTemp, at(scratchPtr, rowCarry))
	}
	x := k.toColumns(four(shortPending), shortTemp, shortText)
	k.h.mul(&first, x[0], power.r(), shortAAD)
	emit(first)
	xor(x[1].r(), shortAAD, shortAAD)
	move(x[2], shortAAD+1)
	CMPQ(tempA, num(48))
	JLE(LabelRef("aadwhole"))
	k.h.mul(&second, shortAAD, power.r(), shortAAD)
	emit(second)
	xor(x[2].r(), shortAAD, shortAAD)
	move(x[3], shortAAD+1)
	JMP(LabelRef("aadwhole"))

	Label("aadslow")
	// Any lengths: chunk by chunk.
	zero(shortSum)
	emit(k.powers())
	Label("aadchunk")
	for i := range 4 {
		k.laneLoad(i, jobAAD, jobAADLen, shortPending+v(i))
	}
	k.unequal(k.toColumns(four(shortPending), shortTemp, shortText), jobAADLen)
	ADDQ(num(64), chunkAt)
	for i := range 4 {
		MOVL(job(i, jobAADLen), tempA.As32())
		CMPQ(tempA, chunkAt)
		JGT(LabelRef("aadchunk"))
	}
	XORL(chunkAt.As32(), chunkAt.As32())
	JMP(LabelRef("chunkdone"))
}

// chunkDone goes on after a chunk, with powers and AAD done.
func (k *short512) chunkDone() {
	Label("chunkdone")
	whole("ragged")
	k.goOn(pendingChunk)
	k.ifTail("ragged", pendingChunk)
	Label("uneven")
	k.raggedText()
}

// toColumns turns packets' octets into columns to hash.
func (k *short512) toColumns(x [4]v, t, u v) [4]v {
	var s stream
	x = transposeReversed(&s, x, t, u)
	emit(s)
	return x
}

// goOn continues after a chunk, with r pending.
func (k *short512) goOn(r pending) {
	MOVQ(jobsPtr, pendingJobs)
	MOVQ(chunkAt, pendingAt)
	ADDQ(num(64), chunkAt)
	CMPQ(chunkAt, longest)
	JLT(LabelRef(labels[r] + "more"))
	if r == pendingNothing {
		r = pendingLengths
	}
	JMP(LabelRef(labels[r] + "next"))
}

// ifTail goes on with a tail of r if the chunk is the last for all lanes, with
// the same number of blocks.
func (k *short512) ifTail(label string, r pending) {
	Label(label)
	MOVL(job(0, jobLen), tempA.As32())
	SUBQ(chunkAt, tempA)
	JLE(LabelRef(label + "unlike"))
	ADDQ(num(15), tempA)
	SHRQ(Imm(4), tempA)
	MOVQ(longest, tempB)
	SUBQ(chunkAt, tempB)
	ADDQ(num(15), tempB)
	SHRQ(Imm(4), tempB)
	CMPQ(tempA, tempB)
	JNE(LabelRef(label + "unlike"))
	MOVQ(jobsPtr, pendingJobs)
	MOVQ(chunkAt, pendingAt)
	JMP(LabelRef(labels[r.tail()] + "next"))
	Label(label + "unlike")
}

// raggedText takes a chunk that not all lanes fill, and hashes it at once.
func (k *short512) raggedText() {
	k.unequal(k.partText(), jobLen)
	MOVQ(jobsPtr, pendingJobs)
	ADDQ(num(64), chunkAt)
	CMPQ(chunkAt, longest)
	JGE(LabelRef("lengthsnext"))
	JMP(LabelRef("nothingmore"))
}

// moreText runs AES for the next chunk beside the pending hash.
func (k *short512) moreText(r pending) {
	if r == pendingFirst && k.hasRows() {
		CMPQ(longest, num(rowsFrom))
		JGE(LabelRef("rows"))
	}
	k.nextCounters()
	k.emit(k.aesRounds([]v{shortStream, shortStream + 1, shortStream + 2, shortStream + 3}), r, false)
	JMP(LabelRef("chunkdone"))
}

// ifOneBlock jumps to label if the next chunk is the last one, and all lanes have one block in it.
func (k *short512) ifOneBlock(label string) {
	MOVQ(longest, tempA)
	SUBQ(chunkAt, tempA)
	CMPQ(tempA, Imm(16))
	JG(LabelRef(label + "not"))
	MOVL(job(0, jobLen), tempA.As32())
	CMPQ(tempA, chunkAt)
	JG(LabelRef(label))
	Label(label + "not")
}

// oneBlock is moreText for a chunk as ifOneBlock finds it, and hashes it at once: bodies of 64
// octets behind a head of four are frequent, and a whole chunk takes three times as long.
func (k *short512) oneBlock(r pending) {
	const text, lane = shortPending, shortTemp // to shortPending + 3: the lanes' text
	k.moveColumns()
	if r == pendingRow {
		k.emit(k.rowColumn(), r, false)
	} else {
		loadA(at(scratchPtr, rowOne), shortKeyTemp)
		addd(at(scratchPtr, scratchCtr), shortKeyTemp, shortStream)
		k.emit(k.aesRounds([]v{shortStream}), r, false)
	}
	for i, mask := range byteMask {
		MOVL(job(i, jobLen), tempA.As32())
		SUBQ(chunkAt, tempA)
		BZHIQ(tempA, k.c.bits, tempB)
		KMOVQ(tempB, mask)
		if i == 0 {
			MOVQ(tempB, tempD)
		} else {
			SHLQ(Imm(uint64(16*i)), tempB)
			ORQ(tempB, tempD)
		}
		MOVQ(job(i, jobSrc), tempC)
		VMOVDQU8_Z(Mem{Base: tempC, Index: chunkAt, Scale: 1}, mask, (text + v(i)).x())
	}
	for i := 1; i < 4; i++ {
		VINSERTI32X4(Imm(uint64(i)), (text + v(i)).x(), text.r(), text.r())
	}
	xor(text.r(), shortStream, shortStream)
	for i, mask := range byteMask {
		MOVQ(job(i, jobDst), tempC)
		x := shortStream
		if i > 0 {
			x = lane
			VEXTRACTI32X4(Imm(uint64(i)), shortStream.r(), x.x())
		}
		VMOVDQU8(x.x(), mask, Mem{Base: tempC, Index: chunkAt, Scale: 1})
	}
	if k.sealing {
		KMOVQ(tempD, reg.K4)
		VMOVDQU8_Z(shortStream.r(), reg.K4, text.r())
	}
	shufb(shortReverse.r(), text, text)
	emit(k.columns([]v{text}, false))
	MOVQ(jobsPtr, pendingJobs)
	JMP(LabelRef("lengthsnext"))
}

// hasRows says whether long packets' key stream is made in rows.
func (k *short512) hasRows() bool { return k.raw && k.keyLen == 16 }

// rowKey is round key r of a packet in all lanes.
func (k *short512) rowKey(packet, r int) Mem {
	return at(scratchPtr, scratchTable+(packet*rounds(k.keyLen)+r-1)*row)
}

// rows takes what is left of a group of long packets, with the first chunk pending.
func (k *short512) rows() {
	if !k.hasRows() {
		return
	}
	Label("rows")
	gather(jobs(jobsPtr, jobNonce), shortKey)
	broadcast(k.c.nonce, shortKeyTemp)
	VPANDQ(shortKeyTemp.r(), shortKey.r(), shortKey.r())
	xor(at(roundKeys, 0), shortKey, shortKey)
	storeA(shortKey, at(scratchPtr, scratchNonce))
	k.firstRows()
	for r := 2; r <= rounds(k.keyLen); r++ {
		for i := range 4 {
			d := []v{shortKey, shortOddKey, shortKeyTemp, shortKeyTemp + 1}[i]
			broadcast(at(roundKeys, r*row+16*i), d)
			storeA(d, k.rowKey(i, r))
		}
	}
	emit(k.rowsAhead())
	k.emit(k.rowRounds(), pendingFirst, false)
	JMP(LabelRef("rowdone"))
	Label("rowmore")
	k.ifOneBlock("rowone")
	k.emit(k.rowRounds(), pendingRow, false)
	Label("rowdone")
	whole("rowragged")
	k.goOn(pendingRow)
	Label("rownext")
	k.turn()
	JMP(LabelRef("chunknext"))
	Label("rowragged")
	// The counters of the last column, in case the group goes on.
	k.blockAt(48, shortKey)
	xor(at(roundKeys, 0), shortKey, shortKey)
	storeA(shortKey, at(scratchPtr, scratchCtr))
	k.turn()
	JMP(LabelRef("ragged"))
	Label("rowone")
	k.oneBlock(pendingRow)
}

// blockAt makes the blocks for chunkAt plus some octets, with round key 0 added, in d.
func (k *short512) blockAt(octets int, d v) {
	LEAQ(at(chunkAt, 32+octets), tempA) // block 2 is the first
	SHLL(Imm(20), tempA.As32())
	VPBROADCASTD(tempA.As32(), d.r())
	slldq(12, d, d)
	xor(at(scratchPtr, scratchNonce), d, d)
}

// rowColumn is AES of the next block of each packet, as a column.
func (k *short512) rowColumn() stream {
	k.blockAt(0, shortStream)
	var s stream
	for r := 1; r <= rounds(k.keyLen); r++ {
		s.do(func() { aesRound(r, rounds(k.keyLen), at(roundKeys, r*row), shortStream) })
	}
	return s
}

// firstRows prepares the first round in rows, as for long packets: see advance. A vector is the first columns
// of four blocks of four packets: column i of lane l is for packet i's block l. shortKey has block 0 of
// each packet, round key 0 added.
func (k *short512) firstRows() {
	diagonal, places := shortKeyTemp, shortOddKey
	setFirstColumns(tempA)
	shufb(k.c.diagonal, shortKey, diagonal)
	broadcast(k.c.turned, places)
	VPERMB(diagonal.r(), places.r(), diagonal.r())
	storeA(diagonal, at(scratchPtr, rowDiagonal))
	loadA(at(roundKeys, row), shortKeyTemp)
	aes(shortKeyTemp.r(), shortKey)
	broadcast(k.c.fourths, places)
	VPERMD(shortKeyTemp.r(), places.r(), shortKeyTemp.r())
	storeA(shortKeyTemp, at(scratchPtr, rowColumnKey))
	for i := range 4 {
		VSHUFI64X2(Imm(uint64(0x55*i)), shortKey.r(), shortKey.r(), shortOddKey.r())
		storeA(shortOddKey, k.rowKey(i, 1))
	}
	load(k.c.fromSix, shortCounter)
}

// rowsAhead makes the first columns of the next chunk. They are not waited for then.
func (k *short512) rowsAhead() (s stream) {
	s.do(func() { VPXORD(at(scratchPtr, rowDiagonal), shortCounter.r(), shortNext.r()) })
	s.do(func() { VPADDD_BCST(k.c.four, shortCounter.r(), shortCounter.r()) })
	s.do(func() { aes(at(scratchPtr, rowColumnKey), shortNext) })
	return s
}

// rowRounds is AES of a chunk in rows.
func (k *short512) rowRounds() stream {
	k.moveColumns()
	for i := range 4 {
		loadA(k.rowKey(i, 1), shortStream+v(i))
		firstColumn(i, shortNext, shortStream+v(i))
	}
	var s stream
	last := rounds(k.keyLen)
	for r := 2; r <= last; r++ {
		for i := range 4 {
			x, key := shortStream+v(i), k.rowKey(i, r)
			s.do(func() { aesRound(r, last, key, x) })
		}
	}
	return beside(s, k.rowsAhead())
}

// turn turns rows of key stream into columns.
func (k *short512) turn() {
	var s stream
	x, _ := transpose(&s, four(shortStream), shortTemp)
	emit(s)
	move(x[2], shortStream+2)
	move(x[1], shortStream+1)
	move(x[3], shortTemp)
	move(x[0], shortStream)
	move(shortTemp, shortStream+3)
}

// text turns the key stream of a whole chunk in shortPending.. into what to hash, in k.x,
// and writes the result. columns: the key stream is in columns.
func (k *short512) text(columns, tail bool) stream {
	var s stream
	x, t, c := four(shortPending), shortTemp, shortText
	if columns {
		x, t = transpose(&s, x, t)
	}
	for i := range 4 {
		ks := x[i]
		s.do(func() { MOVQ(at(pendingJobs, i*jobSize+jobSrc), tempA) })
		s.do(func() { MOVQ(at(pendingJobs, i*jobSize+jobDst), tempE) })
		src, dst := Mem{Base: tempA, Index: pendingAt, Scale: 1}, Mem{Base: tempE, Index: pendingAt, Scale: 1}
		mask := byteMask[i]
		if tail {
			s.do(func() { MOVL(at(pendingJobs, i*jobSize+jobLen), tempB.As32()) })
			s.do(func() { SUBQ(pendingAt, tempB) })
			s.do(func() { BZHIQ(tempB, k.c.bits, tempB) })
			s.do(func() { KMOVQ(tempB, mask) })
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
	k.x = transposeReversed(&s, x, t, c)
	return s
}

// partText is text where not all lanes fill the chunk: with masks, at once, the
// key stream being in shortStream. It returns what to hash.
func (k *short512) partText() [4]v {
	var s stream
	ks, _ := transpose(&s, four(shortStream), shortTemp)
	emit(s)
	for i := range 4 {
		x, ks := shortPending+v(i), ks[i]
		k.laneLoad(i, jobSrc, jobLen, x)
		MOVQ(job(i, jobDst), tempC)
		ADDQ(chunkAt, tempC)
		TESTQ(tempA, tempA)
		CMOVQEQ(scratchPtr, tempC)
		xor(x.r(), ks, ks)
		if k.sealing {
			VMOVDQU8_Z(ks.r(), byteMask[i], x.r())
		}
		VMOVDQU8(ks.r(), byteMask[i], at(tempC, 0))
	}
	return k.toColumns(four(shortPending), shortTemp, shortText)
}

// whole jumps to label unless all four lanes fill the chunk at chunkAt.
func whole(label string) {
	LEAQ(at(chunkAt, 64), tempA)
	for i := range 4 {
		MOVL(job(i, jobLen), tempB.As32())
		CMPQ(tempB, tempA)
		JLT(LabelRef(label))
	}
}

// part sets up a group of fewer than four packets: other lanes repeat the last packet and
// write to the sink. chunkAt says what is pending of the group before.
func (k *short512) part() {
	Label("part")
	if k.raw {
		keyMasks(packets, k.keyLen, tempA, tempB)
		loadKeys512(keysPtr, k.keyLen, shortKey, shortOddKey, shortKeyTemp, true)
	}
	copyJob := func(from, to reg.GPPhysical) {
		load(at(from, 0), shortH)
		store(shortH, at(to, 0))
	}
	LEAQ(at(scratchPtr, scratchJobs), tempA)
	MOVQ(packets, tempB)
	MOVQ(jobsPtr, tempC)
	Label("copy")
	copyJob(tempC, tempA)
	ADDQ(num(jobSize), tempA)
	ADDQ(num(jobSize), tempC)
	DECQ(tempB)
	JNZ(LabelRef("copy"))
	SUBQ(num(jobSize), tempC)
	LEAQ(at(scratchPtr, scratchJobs+4*jobSize), tempD)
	LEAQ(at(scratchPtr, scratchSink), tempE)
	Label("fill")
	copyJob(tempC, tempA)
	MOVQ(tempE, at(tempA, jobDst))
	if k.sealing {
		MOVQ(tempE, at(tempA, jobTag))
	}
	ADDQ(num(jobSize), tempA)
	CMPQ(tempA, tempD)
	JLT(LabelRef("fill"))
	LEAQ(at(scratchPtr, scratchJobs), jobsPtr)
	for _, r := range ends {
		CMPQ(chunkAt, num(int(r)))
		JEQ(LabelRef(labels[r] + "keyed"))
	}
	JMP(LabelRef(labels[pendingNothing] + "keyed"))
}

// outcome copies the results of a group of fewer than four from the jobs in scratch memory.
// packets is the negated number of missing packets.
func (k *short512) outcome() {
	TESTQ(packets, packets)
	JEQ(LabelRef("told"))
	ADDQ(num(4), packets)
	MOVQ(Param2("jobs"), tempA)
	MOVQ(Param2("n"), tempB)
	SUBQ(packets, tempB)
	SHLQ(Imm(6), tempB)
	ADDQ(tempB, tempA)
	LEAQ(at(scratchPtr, scratchJobs), tempB)
	Label("outcome")
	MOVL(at(tempB, jobOK), tempC.As32())
	MOVL(tempC.As32(), at(tempA, jobOK))
	ADDQ(num(jobSize), tempA)
	ADDQ(num(jobSize), tempB)
	DECQ(packets)
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

// wipe zeroes the kernel's scratch memory, except for jobs and sink.
func (k *short512) wipe() {
	zero(shortKeyTemp)
	for i := range 5 {
		storeA(shortKeyTemp, at(scratchPtr, scratchPower+(4+i)*row))
	}
	for _, r := range []int{rowCarry, rowLens, rowOne, rowRot, rowEven, rowOdd, rowEvenWords, scratchCtr} {
		storeA(shortKeyTemp, at(scratchPtr, r))
	}
	for r := range rounds(k.keyLen) + 1 {
		storeA(shortKeyTemp, at(scratchPtr, scratchRows+r*row))
	}
	if !k.raw {
		for r := 16; r < 20; r++ {
			storeA(shortKeyTemp, at(scratchPtr, scratchRows+r*row))
		}
		storeA(shortKeyTemp, at(scratchPtr, rowHave))
	}
	if !k.hasRows() {
		return
	}
	// Rows, if there were any: all of them are wiped whenever one was used.
	loadA(k.rowKey(0, 1), shortKey)
	VPTESTMQ(shortKey.r(), shortKey.r(), reg.K4)
	KTESTB(reg.K4, reg.K4)
	JEQ(LabelRef("norows"))
	storeA(shortKeyTemp, at(scratchPtr, scratchNonce))
	storeA(shortKeyTemp, at(scratchPtr, rowDiagonal))
	storeA(shortKeyTemp, at(scratchPtr, rowColumnKey))
	LEAQ(k.rowKey(0, 1), tempA)
	wipeScratch(shortKeyTemp, tempA, tempB, 4*rounds(k.keyLen)*row)
	Label("norows")
}
