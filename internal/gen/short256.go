package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Short packets in vectors of two lanes: a lane is a packet. A chunk is 64
// octets of each of two packets: four columns, a column being one block of each. A single
// packet is in both lanes; then the results of lane 1 count, which stores them last.
// Counters are added up in the last octet of their big-endian form, which is enough for
// 4000 octets.

// Layout of scratch memory for short packets.
const (
	pairRowsAt        = 0                      // round keys
	pairPowersAt      = 2048 + 4*32            // 1 (as x, see timesX), H, .. H^8; rows in front are zero
	pairMiddlesAt     = pairPowersAt + 9*32    // middles of H^2 and H, .. H^8 and H^7, each two in the halves of lanes
	pairTextAt        = pairMiddlesAt + 4*32   // two times 64 octets: pieces of chunks that are not whole
	pairEJ0At         = pairTextAt + 2*64      // of the pair in the queue; the rest belongs to it too
	pairHAt           = pairEJ0At + 32         // H as AES gave it, of tiny packets
	pairQueueAt       = pairHAt + 32           // columns to hash
	pairPendingJobsAt = pairQueueAt + 10*32    // addresses of its two jobs
	pairTinyAt        = pairPendingJobsAt + 16 // whether the text that is not whole is of tiny packets
	pairNoJobAt       = pairPendingJobsAt + 32 // a job for when there is none
	pairNoTagAt       = pairNoJobAt + jobSize
	pairKeptAt        = pairNoTagAt + 32 // 128 octets of ciphertext of each packet
	pairCounterAt     = pairKeptAt + 2*128
	pairEnd           = pairCounterAt + 32
)

type short256 struct {
	c       *constants256
	keyLen  int
	raw     bool // keys are raw; else in groups of rows
	sealing bool

	h     karatsuba
	later []func() // code for behind the end
}

// out is for code that few packets take: in front of it, most would have to jump.
func (k *short256) out(f func()) { k.later = append(k.later, f) }

// Registers of the short kernels. The key schedule runs beside the GHASH of the
// pair before, so they share none.
const (
	pairStream  = v(0) // to 3, or to 7: columns of key stream
	pairPending = v(4) // to 7: columns to hash
	pairLo      = v(8)
	pairMid     = v(9)
	pairSum     = v(10)
	pairTemp    = v(11) // to pairTemp3: temporaries
	pairTemp2   = v(12)
	pairTemp3   = v(13)
	pairCounter = v(14)
	pairEJ0     = v(15)
	pairTemp4   = v(15)
	pairH       = v(4)
	pairKey     = v(5) // the round key in the making
	pairOddKey  = v(6)
	pairKeyTemp = v(7) // another temporary
)

// powerOf is H^k in scratch memory, and middlesOf the middles of H^k, k even, and of the one below it.
func powerOf(k int) Mem   { return at(scratchPtr, pairPowersAt+32*k) }
func middlesOf(k int) Mem { return at(scratchPtr, pairMiddlesAt+32*(k/2-1)) }

func factorOf(k int) factor { return factor{powerOf(k), middlesOf(k + k%2), 0x11 * (k % 2)} }

func pairJob(lane, field int) Mem { return at([]reg.GPPhysical{jobsPtr, secondJob}[lane], field) }

func shortKernel256(c *constants256, keyLen int, raw, sealing bool) {
	k := &short256{c: c, keyLen: keyLen, raw: raw, sealing: sealing}
	k.h = karatsuba{lo: pairLo, mi: pairMid, hi: pairSum, t: pairTemp, u: pairTemp4, poly: c.poly}
	shortFunction(keyLen, raw, sealing)
	XORL(roundKeys.As32(), roundKeys.As32())
	load(c.poly, pairTemp)
	storeA(pairTemp, powerOf(0))
	// Nothing is in the queue at first: its tags go nowhere.
	LEAQ(at(scratchPtr, pairNoJobAt), tempA)
	LEAQ(at(scratchPtr, pairNoTagAt), tempB)
	MOVQ(tempB, at(tempA, jobTag))
	MOVQ(tempA, at(scratchPtr, pairPendingJobsAt))
	MOVQ(tempA, at(scratchPtr, pairPendingJobsAt+8))
	if raw {
		k.tiny()
	}

	Label("pair")
	MOVQ(jobsPtr, secondJob)
	CMPQ(packets, num(1))
	JLT(LabelRef("flush"))
	JEQ(LabelRef("single"))
	// Lanes of very different length are not worth it: alone is faster.
	MOVL(pairJob(0, jobLen), tempA.As32())
	MOVQ(tempA, tempB)
	SHRQ(Imm(3), tempB)
	LEAQ(Mem{Base: tempA, Index: tempB, Scale: 1, Disp: 128}, tempA)
	MOVL(at(jobsPtr, jobSize+jobLen), tempB.As32())
	CMPQ(tempA, tempB)
	JLT(LabelRef("single"))
	ADDQ(num(jobSize), secondJob)
	if raw {
		k.loadKeys()
		JMP(LabelRef("two"))
	}
	Label("single")
	if raw {
		k.loadKey()
		Label("two")
	}
	MOVL(pairJob(1, jobLen), longest.As32())
	XORL(chunkAt.As32(), chunkAt.As32())
	k.counters()
	if raw {
		k.rawKeys()
	} else {
		k.expandedKeys()
	}
	k.aad()
	k.chunks()
	k.next()
	JMP(LabelRef("pair"))

	Label("flush")
	MOVQ(at(scratchPtr, pairPendingJobsAt), tempC)
	LEAQ(at(scratchPtr, pairNoJobAt), tempA)
	CMPQ(tempC, tempA)
	JEQ(LabelRef("done"))
	emit(k.last())
	k.tags()
	Label("done")
	k.wipe()
	wipeRegisters()
	RET()
	for _, f := range k.later {
		f()
	}
}

// wipe zeroes what the kernel left in scratch memory.
func (k *short256) wipe() {
	zero(pairTemp)
	TESTQ(roundKeys, roundKeys)
	JEQ(LabelRef("norows"))
	for r := range rounds(k.keyLen) + 1 {
		storeA(pairTemp, at(scratchPtr, pairRowsAt+r*row))
	}
	Label("norows")
	ADDQ(num(pairPowersAt), scratchPtr)
	wipeScratch(pairTemp, scratchPtr, tempA, pairEnd-pairPowersAt)
}

// gather2 loads 16 octets for each of two lanes.
func gather2(a, b Mem, d v) { gather([]Mem{a, b}, d) }

// counters makes the first counter blocks, in pairEJ0 and pairStream.
func (k *short256) counters() {
	gather2(pairJob(0, jobNonce), pairJob(1, jobNonce), pairCounter)
	VPAND(k.c.nonce, pairCounter.r(), pairCounter.r())
	load(k.c.one, pairTemp)
	addd(pairTemp.r(), pairCounter, pairEJ0)
	addd(pairTemp.r(), pairEJ0, pairStream)
	k.remainingCounters(4)
}

// nextCounters makes n more.
func (k *short256) nextCounters(n int) {
	load(k.c.one, pairTemp)
	addd(pairTemp.r(), pairCounter, pairStream)
	k.remainingCounters(n)
}

func (k *short256) remainingCounters(n int) {
	for i := range v(n - 1) {
		addd(pairTemp.r(), pairStream+i, pairStream+i+1)
	}
	move(pairStream+v(n-1), pairCounter)
}

// eightCounters makes eight more, of the counter in memory, and adds round key 0. The last one so far is 5
// modulo 8, in all lanes, so blocks differ from it, or from the one eight
// later, in three bits only.
func (k *short256) eightCounters() stream {
	bits := func(n int) Mem { return plus(k.c.bits, 32*(n-1)) }
	const last = pairStream + 7
	var s stream
	s.do(func() { loadA(at(scratchPtr, pairCounterAt), last) })
	s.do(func() { xor(at(roundKeys, 0), last, pairStream+1) })
	s.do(func() { xor(bits(5^6), pairStream+1, pairStream) })
	s.do(func() { xor(bits(5^7), pairStream+1, pairStream+1) })
	s.do(func() { addd(k.c.eight, last, last) })
	s.do(func() { storeA(last, at(scratchPtr, pairCounterAt)) })
	s.do(func() { xor(at(roundKeys, 0), last, last) })
	for i := range 5 {
		s.do(func() { xor(bits(5^i), last, pairStream+2+v(i)) })
	}
	return s
}

// columns are the first registers of key stream.
func (k *short256) columns(n int) []v {
	return []v{pairStream, pairStream + 1, pairStream + 2, pairStream + 3, pairStream + 4, pairStream + 5, pairStream + 6, pairStream + 7}[:n:n]
}

// rawKeys runs the key schedule, H, E(J0) and the first four columns side by
// side, and stores the round keys.
func (k *short256) rawKeys() {
	LEAQ(at(scratchPtr, pairRowsAt), roundKeys)
	emit(k.schedule(true), k.last())
	k.started()
	var s stream
	k.hashKey(&s, pairH)
	emit(s)
}

// started is for when a pair's AES and the hash of the pair before are done.
func (k *short256) started() {
	k.tags()
	k.begun()
}

// begun puts a pair into the queue's place.
func (k *short256) begun() {
	MOVQ(jobsPtr, at(scratchPtr, pairPendingJobsAt))
	MOVQ(secondJob, at(scratchPtr, pairPendingJobsAt+8))
	storeA(pairEJ0, at(scratchPtr, pairEJ0At))
}

// hashKey makes H and H^2 of what AES gave.
func (k *short256) hashKey(s *stream, h v) {
	s.do(func() { shufb(k.c.bswap, h, h) })
	timesX(s, h, pairTemp, k.c.carry)
	k.h.square(s, h)
	k.keep(s, 2, pairSum, h, pairTemp, pairLo)
}

// keep stores H^n and H^(n-1) and their middles; t and u are temporaries.
func (k *short256) keep(s *stream, n int, p, q, t, u v) {
	s.do(func() { storeA(p, powerOf(n)) })
	s.do(func() { storeA(q, powerOf(n-1)) })
	middles(s, p, q, t, u)
	s.do(func() { storeA(t, middlesOf(n)) })
}

// schedule interleaves the key schedule with six streams of AES.
func (k *short256) schedule(keep bool) stream {
	states := append([]v{pairH, pairEJ0}, k.columns(4)...)
	key := pairKey
	var s stream
	for r := range rounds(k.keyLen) + 1 {
		if r > 0 {
			var t stream
			t, key = k.c.roundKey(k.keyLen, r, pairKey, pairOddKey, pairKeyTemp, pairTemp2)
			s = append(s, t...)
		}
		key := key
		if keep {
			s.do(func() { storeA(key, at(roundKeys, r*row)) })
		}
		s = append(s, allRound(k.keyLen, r, key, states, pairH)...)
	}
	return s
}

// loadKeys loads those of a pair.
func (k *short256) loadKeys() {
	loadKeys256(at(keysPtr, 0), k.keyLen, pairKey, pairOddKey, pairKeyTemp, false)
}

// loadKey loads one for both lanes.
func (k *short256) loadKey() {
	broadcast(at(keysPtr, 0), pairKey)
	if k.keyLen == 32 {
		broadcast(at(keysPtr, 16), pairOddKey)
	}
}

// expandedKeys finds the two keys. Where one lies behind the other they are used
// there; else their rows are gathered into scratch memory.
func (k *short256) expandedKeys() {
	k.rows(tempA, tempB, tempE)
	MOVQ(tempA, roundKeys)
	LEAQ(at(tempA, 16), tempE)
	CMPQ(tempE, tempB)
	JEQ(LabelRef("collected"))
	LEAQ(at(scratchPtr, pairRowsAt), roundKeys)
	for r := range rounds(k.keyLen) + 1 {
		d := pairStream + 4 + v(r%4)
		gather2(at(tempA, r*row), at(tempB, r*row), d)
		storeA(d, at(roundKeys, r*row))
	}
	Label("collected")
	emit(k.aesRounds(append(k.columns(4), pairEJ0), 0), k.last())
	MOVQ(tempA, tempE)
	MOVQ(tempB, chunkAt)
	k.started()
	emit(k.gatherPowers(2, tempE, chunkAt, pairLo, pairMid, pairTemp, pairTemp2))
	emit(k.gatherPowers(4, tempE, chunkAt, pairLo, pairMid, pairTemp, pairTemp2))
	XORL(chunkAt.As32(), chunkAt.As32())
}

// rows sets a and b to where the two keys are; t is a temporary.
func (k *short256) rows(a, b, t reg.GPPhysical) {
	for i, g := range []reg.GPPhysical{a, b} {
		MOVL(pairJob(i, jobKey), g.As32())
		rowsOf(g, t)
	}
}

// gatherPowers brings H^n and H^(n-1) of the keys at two places to scratch memory.
func (k *short256) gatherPowers(n int, a, b reg.GPPhysical, x, y, t, u v) (s stream) {
	for i, d := range []v{x, y} {
		m := rowPower + (n-i)*row
		s.do(func() { VMOVDQU(at(a, m), d.x()) })
		s.do(func() { VINSERTI128(Imm(1), at(b, m), d.y(), d.y()) })
	}
	k.keep(&s, n, x, y, t, u)
	return s
}

// aesRounds are rounds of AES, from one on, with the keys at roundKeys.
func (k *short256) aesRounds(states []v, from int) stream {
	const key = pairTemp2
	var s stream
	for r := from; r <= rounds(k.keyLen); r++ {
		s.do(func() { load(at(roundKeys, r*row), key) })
		for _, x := range states {
			s.do(func() { aesRound(r, rounds(k.keyLen), key.r(), x) })
		}
	}
	return s
}

// more makes H^3 and H^4 of a fresh key. The sum so far is kept in pairTemp3, and
// key stream stays.
func (k *short256) more() {
	if !k.raw {
		return
	}
	var s stream
	s.do(func() { move(pairSum, pairTemp3) })
	k.nextPowers(&s, &k.h, 4, pairTemp2, pairTemp4)
	s.do(func() { move(pairTemp3, pairSum) })
	emit(s)
}

// nextPowers makes H^n and H^(n-1) of those below; x and y are temporaries.
func (k *short256) nextPowers(s *stream, h *karatsuba, n int, x, y v) {
	s.do(func() { loadA(powerOf(n/2), x) })
	h.mul(s, x, factorOf(n/2-1))
	s.do(func() { move(h.hi, y) })
	h.square(s, x)
	k.keep(s, n, h.hi, y, h.t, h.lo)
}

// transpose2 takes 32 octets of each of two packets, in a and b, to two columns, in t and b, or
// back.
func transpose2(a, b, t v) {
	VPERM2I128(Imm(0x20), b.r(), a.r(), t.r())
	VPERM2I128(Imm(0x31), b.r(), a.r(), b.r())
}

// left2 sets g to how many of a lane's octets lie in the chunk at chunkAt, 0..64.
func left2(lane, field int, g, t reg.GPPhysical) {
	XORL(t.As32(), t.As32())
	MOVL(pairJob(lane, field), g.As32())
	SUBQ(chunkAt, g)
	CMOVQLT(t, g)
	MOVL(U32(64), t.As32())
	CMPQ(g, t)
	CMOVQGT(t, g)
}

// textOf is the room in scratch memory for a lane's piece of a chunk.
func textOf(lane, disp int) Mem { return at(scratchPtr, pairTextAt+64*lane+disp) }

// piece copies a lane's octets of the chunk at chunkAt into scratch memory, with
// zeros behind them, and sets n to their number.
func (k *short256) piece(lane, pointer, length int, n reg.GPPhysical, label string) {
	zero(pairTemp)
	storeA(pairTemp, textOf(lane, 0))
	storeA(pairTemp, textOf(lane, 32))
	left2(lane, length, n, tempE)
	MOVQ(pairJob(lane, pointer), tempC)
	ADDQ(chunkAt, tempC)
	LEAQ(textOf(lane, 0), tempD)
	copySmall(tempC, tempD, n, tempE, tempB, pairTemp, pairTemp2, label)
}

// unequal hashes columns pairPending.. of which lane i has as many as its length says;
// lanes that end early are multiplied with 1.
func (k *short256) unequal(length int) {
	for i, g := range []reg.GPPhysical{tempA, tempB} {
		left2(i, length, g, tempE)
		ADDQ(num(15), g)
		SHRQ(Imm(4), g)
		SHLQ(Imm(5), g)
		ADDQ(scratchPtr, g)
	}
	var s stream
	s.do(func() { xor(pairSum.r(), pairPending, pairPending) })
	for c := range 4 {
		s.do(func() { gather2(at(tempA, pairPowersAt-c*32), at(tempB, pairPowersAt-c*32+16), pairTemp3) })
		middle(&s, pairTemp3, pairTemp2)
		k.h.add(&s, pairPending+v(c), factor{pairTemp3.r(), pairTemp2.r(), 0}, c == 0)
	}
	k.h.reduce(&s)
	emit(s)
}

// equal hashes n whole columns.
func (k *short256) equal(x v, n int, first bool) stream {
	var s stream
	if !first {
		s.do(func() { xor(pairSum.r(), x, x) })
	}
	if n == 1 {
		k.h.add(&s, x, factorOf(1), true)
	}
	for c := 0; c+1 < n; c += 2 {
		k.h.addTwo(&s, x+v(c), x+v(c+1), powerOf(n-c), powerOf(n-c-1), middlesOf(n-c), c == 0)
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
	MOVL(pairJob(0, jobAADLen), tempA.As32())
	CMPL(tempA.As32(), pairJob(1, jobAADLen))
	JNE(slow)
	CMPQ(tempA, num(32))
	JG(slow)
	CMPQ(tempA, num(8))
	JLT(slow)
	MOVQ(pairJob(0, jobAAD), tempC)
	MOVQ(pairJob(1, jobAAD), tempD)
	CMPQ(tempA, num(16))
	JG(LabelRef(prefix + "aadtwo"))
	JEQ(LabelRef(prefix + "aad16"))
	MOVL(U32(15*8), tempE.As32())
	MOVQ(tempA, tempB)
	SHLQ(Imm(3), tempB)
	SUBQ(tempB, tempE)
	for i, p := range []reg.GPPhysical{tempC, tempD} {
		MOVQ(Mem{Base: p, Disp: -8, Index: tempA, Scale: 1}, tempB)
		SHRXQ(tempE, tempB, tempB)
		SHRQ(Imm(8), tempB)
		VMOVQ(at(p, 0), (x + v(i)).x())
		VPINSRQ(Imm(1), tempB, (x + v(i)).x(), (x + v(i)).x())
	}
	VINSERTI128(Imm(1), (x + 1).x(), x.r(), x.r())
	shufb(k.c.bswap, x, x)
	JMP(LabelRef(prefix + "aadone"))
	Label(prefix + "aad16")
	gather2(at(tempC, 0), at(tempD, 0), x)
	shufb(k.c.bswap, x, x)
	JMP(LabelRef(prefix + "aadone"))
	Label(prefix + "aadtwo")
	end := func(p reg.GPPhysical) Mem { return Mem{Base: p, Disp: -16, Index: tempA, Scale: 1} }
	gather2(at(tempC, 0), at(tempD, 0), x)
	gather2(end(tempC), end(tempD), x+1)
	LEAQ(k.c.tail, tempE)
	broadcast(end(tempE), pairTemp)
	shufb(k.c.bswap, x, x)
	shufb(pairTemp.r(), x+1, x+1)
}

// aad hashes the AAD.
func (k *short256) aad() {
	k.aadColumns(pairPending, "")
	emit(k.equal(pairPending, 2, true))
	JMP(LabelRef("aaddone"))
	Label("aadone")
	emit(k.equal(pairPending, 1, true))
	JMP(LabelRef("aaddone"))

	Label("aadslow")
	// Any lengths: chunk by chunk.
	k.more()
	zero(pairSum)
	Label("aadchunk")
	k.piece(0, jobAAD, jobAADLen, tempA, "aad0")
	k.piece(1, jobAAD, jobAADLen, tempA, "aad1")
	for i := range 4 {
		gather2(textOf(0, 16*i), textOf(1, 16*i), pairPending+v(i))
		shufb(k.c.bswap, pairPending+v(i), pairPending+v(i))
	}
	k.unequal(jobAADLen)
	ADDQ(num(64), chunkAt)
	for i := range 2 {
		MOVL(pairJob(i, jobAADLen), tempA.As32())
		CMPQ(tempA, chunkAt)
		JGT(LabelRef("aadchunk"))
	}
	XORL(chunkAt.As32(), chunkAt.As32())
	Label("aaddone")
}

// text takes the columns of key stream in pairStream.. and the packets' octets of the
// chunk at chunkAt, writes the result, and leaves the columns to hash in pairPending... No
// lane writes before both have read: they may be one packet.
func (k *short256) text(whole bool) {
	// Rows of lane 0 are in temporaries.
	rows := [2][2]v{{pairTemp3, pairStream + 1}, {pairTemp4, pairStream + 3}}
	for d, r := range rows {
		transpose2(pairStream+v(2*d), r[1], r[0])
	}
	var from, to [2]func(disp int) Mem
	counts := []reg.GPPhysical{tempA, reg.R11}
	for i, p := range []reg.GPPhysical{tempC, tempD} {
		if whole {
			s := []reg.GPPhysical{tempA, tempB}[i]
			MOVQ(pairJob(i, jobSrc), s)
			MOVQ(pairJob(i, jobDst), p)
			from[i] = func(disp int) Mem { return Mem{Base: s, Disp: disp, Index: chunkAt, Scale: 1} }
			to[i] = func(disp int) Mem { return Mem{Base: p, Disp: disp, Index: chunkAt, Scale: 1} }
			continue
		}
		k.piece(i, jobSrc, jobLen, counts[i], []string{"in0", "in1"}[i])
		// Key stream behind the end must not get into the ciphertext.
		LEAQ(k.c.mask, tempE)
		SUBQ(counts[i], tempE)
		for d := range 2 {
			ks := rows[d][i]
			VPAND(at(tempE, 64+32*d), ks.r(), ks.r())
		}
		from[i] = func(disp int) Mem { return textOf(i, disp) }
		to[i] = from[i]
	}
	for d := range 2 {
		for i := range 2 {
			ks, x := rows[d][i], pairPending+v(2*d+i)
			if k.sealing {
				xor(from[i](32*d), ks, x)
			} else {
				load(from[i](32*d), x)
				xor(x.r(), ks, ks)
			}
		}
		for i := range 2 {
			if k.sealing {
				store(pairPending+v(2*d+i), to[i](32*d))
			} else {
				store(rows[d][i], to[i](32*d))
			}
		}
	}
	if !whole {
		for i := range 2 {
			MOVQ(pairJob(i, jobDst), tempC)
			ADDQ(chunkAt, tempC)
			LEAQ(textOf(i, 0), tempD)
			copySmall(tempD, tempC, counts[i], tempE, tempB, pairTemp, pairTemp2, []string{"out0", "out1"}[i])
		}
	}
	for d := range v(2) {
		x, y := pairPending+2*d, pairPending+2*d+1
		transpose2(x, y, pairTemp)
		shufb(k.c.bswap, pairTemp, x)
		shufb(k.c.bswap, y, y)
	}
}

// If both packets have two more chunks, eight columns are taken at a time, beside GHASH of
// ciphertext that is kept in scratch memory: columns when opening, and 32 octets of one
// packet, then 32 of the other when sealing. Another party may write to packets, so what is
// opened is read once, and what was sealed is not read again.

// longer jumps to label unless both packets have so many octets at chunkAt.
func (k *short256) longer(octets int, label string) {
	MOVL(pairJob(0, jobLen), tempE.As32())
	SUBQ(num(octets), tempE)
	CMPQ(tempE, chunkAt)
	JLT(LabelRef(label))
}

// pointers sets those of the two packets' text.
func (k *short256) pointers() {
	for i, f := range []int{jobSrc, jobDst} {
		MOVQ(pairJob(0, f), []reg.GPPhysical{tempA, tempC}[i])
		MOVQ(pairJob(1, f), []reg.GPPhysical{tempB, tempD}[i])
	}
}

// kept is the room for ciphertext: a column, or as much of a row.
func kept(i int) Mem { return at(scratchPtr, pairKeptAt+32*i) }

// Registers beside eight columns: what is hashed goes through them. The counter is in memory meanwhile.
const (
	pairX = pairTemp3
	pairY = pairCounter
)

// hashColumns hashes columns that load brings to registers, at most so many with one reduction.
func (k *short256) hashColumns(columns, most int, y v, load func(s *stream, c int, d v)) (s stream) {
	for c := 0; c < columns; c += 2 {
		load(&s, c, pairX)
		load(&s, c+1, y)
		n := most - c%most
		if n == most {
			s.do(func() { xor(pairSum.r(), pairX, pairX) })
		}
		k.h.addTwo(&s, pairX, y, powerOf(n), powerOf(n-1), middlesOf(n), n == most)
		if n == 2 {
			k.h.reduce(&s)
		}
	}
	return s
}

// morePays says that H^5 to H^8 are made for the loop of eight columns, which saves a reduction: not where
// AES takes so long that it costs more than it saves.
func (k *short256) morePays() bool { return !k.raw || k.keyLen == 16 }

// wideLeast is for how many octets behind the first chunk eight columns at a time pay, measured on Zen 4.
func (k *short256) wideLeast() int {
	switch {
	case k.keyLen == 32:
		return 192
	case k.raw:
		return 448
	}
	return 320
}

// hashFirst hashes the first chunk, whose columns are kept as they go into a
// product.
func (k *short256) hashFirst() stream {
	return k.hashColumns(4, 4, pairY, func(s *stream, c int, d v) { s.do(func() { loadA(kept(c), d) }) })
}

// hashKept hashes eight columns: those of the packets at chunkAt when they are
// opened, those that are kept when they were sealed.
func (k *short256) hashKept(y v) stream {
	m := func(p reg.GPPhysical, i int) Mem { return Mem{Base: p, Disp: 16 * i, Index: chunkAt, Scale: 1} }
	most := 4
	if k.morePays() {
		most = 8
	}
	return k.hashColumns(8, most, y, func(s *stream, c int, d v) {
		a, b := m(tempA, c), m(tempB, c)
		if k.sealing {
			a = plus(kept(c/2*2), c%2*16)
			b = plus(a, 32)
		}
		s.do(func() { VMOVDQU(a, d.x()) })
		if c == 0 || k.sealing && c%2 == 0 {
			s.do(func() { VINSERTI128(Imm(1), b, d.r(), d.r()) })
		} else {
			// A blend may go to more ports. It loads the block in front, too: neither of them was stored just
			// now, or both together.
			s.do(func() { VPBLENDD(Imm(0xf0), plus(b, -16), d.r(), d.r()) })
		}
		if !k.sealing {
			s.do(func() { storeA(d, kept(c)) })
		}
		s.do(func() { shufb(k.c.bswap, d, d) })
	})
}

// morePowers makes H^5 to H^8 of a fresh key, or takes them from where an expanded one is.
func (k *short256) morePowers(h *karatsuba, x, y v) (s stream) {
	if !k.morePays() {
		return nil
	}
	for _, n := range []int{6, 8} {
		if k.raw {
			k.nextPowers(&s, h, n, x, y)
		} else {
			s = append(s, k.gatherPowers(n, tempE, reg.R11, x, y, h.t, h.lo)...)
		}
	}
	return s
}

// eightText takes two chunks of text with the key stream in pairStream to pairStream+7.
func (k *short256) eightText() stream {
	var s stream
	for d := range 4 {
		a, b := pairStream+v(2*d), pairStream+v(2*d+1)
		m := func(p reg.GPPhysical) Mem { return Mem{Base: p, Disp: 32 * d, Index: chunkAt, Scale: 1} }
		if !k.sealing {
			s.do(func() { xor(kept(2*d), a, a) })
			s.do(func() { xor(kept(2*d+1), b, b) })
		}
		s.do(func() { VPERM2I128(Imm(0x20), b.r(), a.r(), pairTemp2.r()) })
		s.do(func() { VPERM2I128(Imm(0x31), b.r(), a.r(), b.r()) })
		if k.sealing {
			s.do(func() { xor(m(tempA), pairTemp2, pairTemp2) })
			s.do(func() { xor(m(tempB), b, b) })
			s.do(func() { storeA(pairTemp2, kept(2*d)) })
			s.do(func() { storeA(b, kept(2*d+1)) })
		}
		s.do(func() { store(pairTemp2, m(tempC)) })
		s.do(func() { store(b, m(tempD)) })
	}
	return s
}

// eight takes two chunks of text, with hash beside.
func (k *short256) eight(hash stream) {
	emitAround(append(k.eightCounters(), k.aesRounds(k.columns(8), 1)...), k.eightText(), hash)
	ADDQ(num(128), chunkAt)
}

// pairs of chunks, while there are, from the second chunk on. What is left to
// hash of the first is in pairPending...
func (k *short256) pairs() {
	ADDQ(num(64), chunkAt)
	k.longer(k.wideLeast(), "few")
	storeA(pairCounter, at(scratchPtr, pairCounterAt))
	if !k.raw {
		k.rows(tempE, reg.R11, tempA)
	}
	k.pointers()
	if k.sealing {
		for i := range 4 {
			storeA(pairPending+v(i), kept(i))
		}
		hash := k.hashFirst()
		if more := k.morePowers(&k.h, pairX, pairTemp4); more != nil {
			hash.do(func() { move(pairSum, pairY) })
			hash = append(hash, more...)
			hash.do(func() { move(pairY, pairSum) })
		}
		k.eight(hash)
	} else {
		h := k.h
		h.lo, h.mi, h.hi, h.t = pairStream, pairStream+1, pairStream+2, pairStream+3
		emit(k.equal(pairPending, 4, false), k.morePowers(&h, pairTemp2, pairTemp3))
	}
	Label("eight")
	if k.sealing {
		k.longer(128, "eighteen")
	}
	k.eight(k.hashKept(pairY))
	if !k.sealing {
		k.longer(128, "eighteen")
	}
	JMP(LabelRef("eight"))
	Label("eighteen")
	loadA(at(scratchPtr, pairCounterAt), pairCounter)
	// Four columns of AES-128 take no longer than hash does, and are made even if there is no text for them.
	none := "lastnone"
	if k.sealing {
		none = "noneleft"
	}
	if !k.sealing || k.keyLen == 32 {
		CMPQ(chunkAt, longest)
		JGE(LabelRef(none))
	}
	k.nextCounters(4)
	aes := k.aesRounds(k.columns(4), 0)
	if k.sealing {
		emit(aes, k.hashKept(pairPending))
	} else {
		emit(aes)
	}
	if k.sealing && k.keyLen == 16 {
		CMPQ(chunkAt, longest)
		JGE(LabelRef("lastnone"))
	}
	JMP(LabelRef("chunk"))
	if k.sealing && k.keyLen == 32 {
		Label(none)
		emit(k.hashKept(pairPending))
		JMP(LabelRef("lastnone"))
	}
	Label("few")
	SUBQ(num(64), chunkAt)
}

func (k *short256) chunks() {
	// jumps to label unless both lanes fill the chunk at chunkAt; lane 0 is not
	// the longer one.
	whole := func(label string) {
		MOVL(pairJob(0, jobLen), tempA.As32())
		SUBQ(chunkAt, tempA)
		CMPQ(tempA, num(64))
		JLT(LabelRef(label))
	}
	whole("first")
	k.text(true)
	k.more()
	k.pairs()
	JMP(LabelRef("hash"))
	Label("first")
	k.more()
	Label("chunk") // key stream in pairStream
	whole("ragged")
	k.text(true)
	Label("hash")
	LEAQ(at(chunkAt, 64), tempA)
	CMPQ(tempA, longest)
	JGE(LabelRef("lastwhole"))
	// One block more of both packets, and no more.
	LEAQ(at(chunkAt, 80), tempB)
	CMPQ(tempB, longest)
	JLT(LabelRef("notone"))
	MOVL(pairJob(0, jobLen), tempB.As32())
	CMPQ(tempB, tempA)
	JGT(LabelRef("one"))
	Label("notone")
	// More to come: the next chunk's key stream while this one is hashed.
	k.nextCounters(4)
	emit(k.aesRounds(k.columns(4), 0), k.equal(pairPending, 4, false))
	ADDQ(num(64), chunkAt)
	JMP(LabelRef("chunk"))
	Label("ragged")
	if k.raw {
		MOVL(U32(0), at(scratchPtr, pairTinyAt))
	}
	Label("raggedtext")
	k.text(false)
	if k.raw {
		CMPL(at(scratchPtr, pairTinyAt), Imm(0))
		JNE(LabelRef("tinytext"))
	}
	LEAQ(at(chunkAt, 64), tempA)
	CMPQ(tempA, longest)
	JGE(LabelRef("lastragged"))
	k.unequal(jobLen)
	ADDQ(num(64), chunkAt)
	k.nextCounters(4)
	emit(k.aesRounds(k.columns(4), 0))
	JMP(LabelRef("chunk"))
	k.leave()
}

// The last chunk of a pair and the lengths are left in the queue, to be hashed
// beside the next pair's first AES: five columns, all lanes ending together.

const lastEnd = 4 // the column of lengths

// leave is where chunks goes with columns in pairPending...
func (k *short256) leave() {
	k.oneBlock()
	Label("lastwhole")
	xor(pairSum.r(), pairPending, pairPending)
	for i := range 4 {
		storeA(pairPending+v(i), queue(i))
	}
	k.lengths(pairPending)
	JMP(LabelRef("left"))

	Label("lastragged")
	for i, g := range []reg.GPPhysical{tempA, tempB} {
		left2(i, jobLen, g, tempE)
		ADDQ(num(15), g)
		ANDQ(I32(-16), g)
		ADDQ(g, g)
		NEGQ(g)
		LEAQ(Mem{Base: scratchPtr, Index: g, Scale: 1}, []reg.GPPhysical{tempC, tempD}[i])
	}
	TESTQ(tempB, tempB)
	JEQ(LabelRef("lastnone")) // nor has lane 0 any
	zero(pairTemp)
	for c := range lastEnd {
		storeA(pairTemp, queue(c))
	}
	xor(pairSum.r(), pairPending, pairPending)
	at0, at1 := at(tempC, pairQueueAt+32*lastEnd), at(tempD, pairQueueAt+32*lastEnd)
	CMPQ(tempC, tempD)
	JNE(LabelRef("lastunequal"))
	for i := range 4 {
		storeA(pairPending+v(i), plus(at0, 32*i))
	}
	k.lengths(pairPending)
	JMP(LabelRef("left"))
	Label("lastunequal")
	for i := range 4 {
		split(pairPending+v(i), plus(at0, 32*i), plus(at1, 32*i))
	}
	k.lengths(pairPending)
	TESTQ(tempA, tempA)
	JNE(LabelRef("left"))
	VMOVDQA(pairSum.x(), pairSum.x()) // lane 0 has none: its sum goes into the lengths
	xor(pairSum.r(), pairPending, pairPending)
	JMP(LabelRef("left"))

	Label("lastnone")
	zero(pairTemp)
	for c := range lastEnd {
		storeA(pairTemp, queue(c))
	}
	k.lengths(pairPending)
	xor(pairSum.r(), pairPending, pairPending)
	Label("left")
	storeA(pairPending, queue(lastEnd))
}

// oneBlock takes a last chunk of one block of both packets, of which there are chunks before.
// Text is loaded up to its end, with octets of the chunk before that are of no use.
func (k *short256) oneBlock() {
	Label("one")
	k.nextCounters(1)
	emit(k.aesRounds(k.columns(1), 0), k.equal(pairPending, 4, false))
	ADDQ(num(64), chunkAt)
	const text, reverse, there, ks = pairPending, pairPending + 1, pairPending + 2, pairStream
	counts := []reg.GPPhysical{tempA, reg.R11}
	for i, p := range []reg.GPPhysical{tempC, tempD} {
		MOVQ(pairJob(i, jobSrc), p)
		MOVL(pairJob(i, jobLen), counts[i].As32())
		ADDQ(counts[i], p)
		SUBQ(chunkAt, counts[i])
	}
	LEAQ(k.c.tail, tempE)
	gather2(at(tempC, -16), at(tempD, -16), text)
	gather2(Mem{Base: tempE, Index: counts[0], Scale: 1}, Mem{Base: tempE, Index: counts[1], Scale: 1}, reverse)
	shufb(reverse.r(), text, text)
	// Key stream behind the end must not get into the ciphertext.
	VPCMPEQB(there.r(), there.r(), there.r())
	VPCMPGTB(there.r(), reverse.r(), there.r())
	shufb(k.c.bswap, ks, ks)
	VPAND(there.r(), ks.r(), ks.r())
	xor(text.r(), ks, ks)
	if k.sealing {
		move(ks, text)
	}
	shufb(k.c.bswap, ks, ks)
	storeA(ks, textOf(0, 0))
	for i := range 2 {
		MOVQ(pairJob(i, jobDst), tempC)
		ADDQ(chunkAt, tempC)
		LEAQ(textOf(0, 16*i), tempD)
		copySmall(tempD, tempC, counts[i], tempE, tempB, pairTemp, pairTemp2, []string{"one0", "one1"}[i])
	}
	xor(pairSum.r(), text, text)
	zero(pairTemp)
	for c := range lastEnd - 1 {
		storeA(pairTemp, queue(c))
	}
	storeA(text, queue(lastEnd-1))
	k.lengths(pairPending)
	JMP(LabelRef("left"))
}

// split stores the lanes of x, the upper one 16 octets behind the address.
func split(x v, lane0, lane1 Mem) {
	VMOVDQU(x.x(), lane0)
	VEXTRACTI128(Imm(1), x.r(), plus(lane1, 16))
}

// last hashes what is in the queue.
func (k *short256) last() stream {
	const x = pairTemp3
	var s stream
	s.do(func() { loadA(queue(0), x) })
	k.h.mul(&s, x, factorOf(1))
	for i := 1; i <= lastEnd; i++ {
		s.do(func() { loadA(queue(i), x) })
		if i == 1 {
			s.do(func() { xor(pairSum.r(), x, x) })
		}
		k.h.add(&s, x, factorOf(lastEnd+1-i), i == 1)
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
	shufb(k.c.bswap, pairSum, pairSum)
	MOVQ(at(scratchPtr, pairPendingJobsAt), tempC)
	MOVQ(at(scratchPtr, pairPendingJobsAt+8), tempD)
	MOVQ(at(tempC, jobTag), tempA)
	MOVQ(at(tempD, jobTag), tempB)
	xor(at(scratchPtr, pairEJ0At), pairSum, pairSum)
	if k.sealing {
		VMOVDQU(pairSum.x(), at(tempA, 0))
		VEXTRACTI128(Imm(1), pairSum.r(), at(tempB, 0))
		return
	}
	gather2(at(tempA, 0), at(tempB, 0), pairTemp)
	VPCMPEQQ(pairTemp.r(), pairSum.r(), pairTemp.r())
	VMOVMSKPD(pairTemp.r(), tempA.As32())
	MOVL(tempA.As32(), tempB.As32())
	SHRL(Imm(1), tempB.As32())
	ANDL(tempB.As32(), tempA.As32()) // bit 2i: both halves of lane i are right
	MOVL(tempA.As32(), tempB.As32())
	ANDL(Imm(1), tempA.As32())
	SHRL(Imm(2), tempB.As32())
	MOVL(tempA.As32(), at(tempC, jobOK))
	MOVL(tempB.As32(), at(tempD, jobOK))
}

// next goes on behind the pair: by one job or two.
func (k *short256) next() {
	LEAQ(at(secondJob, jobSize), tempA)
	MOVQ(tempA, tempB)
	SUBQ(jobsPtr, tempA)
	MOVQ(tempB, jobsPtr)
	SHRQ(Imm(6), tempA)
	SUBQ(tempA, packets)
	if k.raw {
		SHLQ(Imm(uint64(3+k.keyLen/16)), tempA)
		ADDQ(tempA, keysPtr)
	}
}

// Tiny packets have one chunk of text and at most two blocks of AAD. What is to
// hash of a pair, together with the lengths at most seven columns, is put into a
// queue, all lanes ending together; it is hashed beside the next pair's AES.

const queueEnd = 6 // the column of lengths

func queue(column int) Mem { return at(scratchPtr, pairQueueAt+32*column) }

// tiny takes tiny packets from the front of the burst.
func (k *short256) tiny() {
	XORL(chunkAt.As32(), chunkAt.As32())
	// The first pair has nothing to hash beside it, which takes longer than its AES.
	k.tinyPair("first")
	emit(k.schedule(false))
	k.begun()
	JMP(LabelRef("tinybegun"))
	Label("tinypair")
	k.tinyPair("tiny")
	emit(k.schedule(false), k.queued())
	k.started()
	Label("tinybegun")
	storeA(pairH, at(scratchPtr, pairHAt))
	k.enqueue()
	k.next()
	JMP(LabelRef("tinypair"))

	Label("tinyend")
	MOVQ(at(scratchPtr, pairPendingJobsAt), tempC)
	LEAQ(at(scratchPtr, pairNoJobAt), tempD)
	CMPQ(tempC, tempD)
	JEQ(LabelRef("nottiny"))
	emit(k.queued())
	k.tags()
	LEAQ(at(scratchPtr, pairNoJobAt), tempD)
	MOVQ(tempD, at(scratchPtr, pairPendingJobsAt))
	MOVQ(tempD, at(scratchPtr, pairPendingJobsAt+8))
	Label("nottiny")
}

// tinyPair loads the keys of the next pair, or of one packet for both lanes, and
// makes counters.
func (k *short256) tinyPair(label string) {
	MOVQ(jobsPtr, secondJob)
	CMPQ(packets, num(1))
	JLT(LabelRef("tinyend"))
	JEQ(LabelRef(label + "single"))
	ADDQ(num(jobSize), secondJob)
	k.orNotTiny()
	k.loadKeys()
	JMP(LabelRef(label + "two"))
	Label(label + "single")
	k.orNotTiny()
	k.loadKey()
	Label(label + "two")
	k.counters()
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
	const x = pairTemp3
	var s stream
	s.do(func() { loadA(at(scratchPtr, pairHAt), x) })
	k.hashKey(&s, x)
	// Each group waits for the one before it: H^3 saves one.
	k.h.mul(&s, x, factorOf(2))
	s.do(func() { storeA(pairSum, powerOf(3)) })
	middle(&s, pairSum, pairTemp)
	s.do(func() { storeA(pairTemp, middlesOf(4)) })
	from := 0
	for _, n := range []int{2, 2, 3} {
		for i := range n {
			column := queue(from + i)
			s.do(func() { loadA(column, x) })
			if from > 0 && i == 0 {
				s.do(func() { xor(pairSum.r(), x, x) })
			}
			k.h.add(&s, x, factorOf(n-i), i == 0)
		}
		k.h.reduce(&s)
		from += n
	}
	return s
}

// enqueue takes the text of a pair and puts what is to hash into the queue.
func (k *short256) enqueue() {
	CMPL(pairJob(0, jobLen), Imm(64))
	JNE(LabelRef("tinyragged"))
	k.text(true)
	k.out(func() {
		Label("tinyragged")
		MOVL(U32(1), at(scratchPtr, pairTinyAt))
		JMP(LabelRef("raggedtext"))
	})
	Label("tinytext")
	const a = pairStream // two columns of AAD
	k.aadColumns(a, "tiny")
	// All lanes that have four columns of text end together.
	CMPL(pairJob(0, jobLen), Imm(48))
	JLS(LabelRef("tinyplaces"))
	Label("tinyqueue")
	for i := range 2 {
		storeA(a+v(i), queue(i))
	}
	for i := range 4 {
		storeA(pairPending+v(i), queue(2+i))
	}
	Label("tinylengths")
	k.lengths(pairTemp)
	storeA(pairTemp, queue(queueEnd))
	k.out(func() {
		Label("tinyaadone")
		move(a, a+1)
		CMPL(pairJob(0, jobLen), Imm(48))
		zero(a)
		JHI(LabelRef("tinyqueue"))
		move(a+1, a)
		JMP(LabelRef("tinyplaces"))
		Label("tinyaadslow")
		for i := range 2 {
			k.piece(i, jobAAD, jobAADLen, tempA, []string{"tinyaad0", "tinyaad1"}[i])
		}
		for i := range 2 {
			gather2(textOf(0, 16*i), textOf(1, 16*i), a+v(i))
			shufb(k.c.bswap, a+v(i), a+v(i))
		}
		Label("tinyplaces")
		k.places(a)
		JMP(LabelRef("tinylengths"))
	})
}

// places puts columns into the queue where lanes have not all of them.
func (k *short256) places(a v) {
	// The ends of AAD are tempA and tempB columns in front of the lengths, the
	// beginnings tempC and tempD columns.
	for i, g := range []reg.GPPhysical{tempA, tempB} {
		b := []reg.GPPhysical{tempC, tempD}[i]
		MOVL(pairJob(i, jobLen), g.As32())
		MOVL(pairJob(i, jobAADLen), b.As32())
		for _, g := range []reg.GPPhysical{g, b} {
			ADDQ(num(15), g)
			ANDQ(I32(-16), g)
			ADDQ(g, g)
			NEGQ(g)
		}
		ADDQ(g, b)
		ADDQ(scratchPtr, g)
		ADDQ(scratchPtr, b)
	}
	zero(pairTemp)
	for c := range queueEnd {
		storeA(pairTemp, queue(c))
	}
	first := func(base reg.GPPhysical, column int) Mem { return at(base, pairQueueAt+32*(queueEnd+column)) }
	CMPQ(tempA, tempB)
	JNE(LabelRef("tinyunequal"))
	CMPQ(tempC, tempD)
	JNE(LabelRef("tinyunequal"))
	for i := range 2 {
		storeA(a+v(i), first(tempC, i))
	}
	for i := range 4 {
		storeA(pairPending+v(i), first(tempA, i))
	}
	JMP(LabelRef("tinylengths"))
	Label("tinyunequal")
	for i := range 2 {
		split(a+v(i), first(tempC, i), first(tempD, i))
	}
	for i := range 4 {
		split(pairPending+v(i), first(tempA, i), first(tempB, i))
	}
}
