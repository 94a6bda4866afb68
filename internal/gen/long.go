package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Long packets: all lanes work on one packet, a window of 16 counters at a time. AES of a
// window runs beside GHASH of the window before. Counters 0 and 1 are not used for text:
// counter 1 makes E(J0), and their places in the first window hold AAD of up to two blocks.

// A body may have a head: its first four octets are in jobHead, because the memory in front of the others
// at src or dst is not the body's. When sealing, the first two octets of jobHead are a mask of four
// octets, 15, and count as zeros. When opening, jobHead is the mask, and the kernel writes the head there.

// Layout of scratch memory for long packets.
const (
	longKeysAt   = 0                    // round keys that find no register, in all lanes
	longEachAt   = 16 * row             // H^16, H^12, H^8, H^4, each in all lanes
	longPowersAt = longEachAt + 4*row   // H^16 to H, then zeros
	longAtAt     = longPowersAt + 20*16 // where the counters are: see advance
	longMidAt    = longAtAt + row       // the sums of halves of the powers in longEachAt
	longSize     = longMidAt + 4*row
)

const (
	longStream    = v(0) // to 3: the key stream
	longPending   = v(4) // to 7: ciphertext to hash
	longSum       = v(8)
	longLo        = v(9)
	longMid       = v(10)
	longHi        = v(11)
	longTemp      = v(12) // to 14
	longAAD       = v(15) // AAD of the first window; then the lengths, in all lanes
	longColumns   = v(16) // see advance
	longReverse   = v(17)
	longPoly      = v(18)
	longSixteen   = v(19) // see advance
	longEJ0       = v(20)
	longRoundKeys = v(21) // to 31: eleven round keys, or to 29: nine
)

// Key stream of sealing kernels, while it waits for its turn.
var longReady = [4]v{14, 15, 30, 31}

// A packet's end is pending until the next packet begins: its hash runs beside that
// one's first window.
//
//	    begin(noBlocks)
//	          |
//	          v     first window       windows of 16 blocks
//	+-----> packet ------------> loop ----+   |
//	|         |                   ^       |   | AES of one beside text and hash of
//	|         |                   +-------+   | the one before
//	|         | (one window only)   |  (of long packets that are sealed, the hash is of two
//	|         |                     |  windows before: see overtake)
//	|         v                     v
//	|        end: 1 to 15 blocks, or 16, are pending, with the lengths
//	|         |
//	|         v
//	+--- begin(someBlocks or allBlocks) if there is another packet, else done
//
// GHASH runs in lanes of their own until the end:
//
//	S = (S + X0)*H^16 + X1*H^12 + X2*H^8 + X3*H^4        in each lane, Xi a vector
//	S = (S + X0)*[H^16..H^13] + ... + X3*[H^4..H^1]      then all lanes together
type pendingBlocks string

const (
	noBlocks   pendingBlocks = "norest"
	someBlocks pendingBlocks = "rest"     // 1 to 15, or none; the lengths are the block behind them
	allBlocks  pendingBlocks = "fullrest" // 16, and the lengths by themselves
)

type long512 struct {
	c       *constants
	keyLen  int
	sealing bool
	h       hasher
	// places that go on after rounded
	advances []string
}

// longFunction begins a kernel for long packets.
func longFunction(keyLen int, sealing bool) {
	fn := name(baseName(sealing, "Long"), keyLen)
	function(fn, "func(rows, jobs *byte, n int, shared int, scratch *byte)",
		fn+" takes n packets, one at a time. shared: jobs have the numbers of their keys; otherwise key i is for job i.")
	Load(Param("rows"), keysPtr)
	Load(Param("jobs"), jobsPtr)
	Load(Param("n"), packets)
	Load(Param("scratch"), scratchPtr)
}

func longKernel512(c *constants, keyLen int, sealing bool) {
	k := &long512{c: c, keyLen: keyLen, sealing: sealing}
	k.h = hasher{lo: longLo, mi: longMid, hi: longHi, t: [4]v{longTemp, longTemp + 1}, poly: longPoly}
	longFunction(keyLen, sealing)
	setLaneMasks(tempA)
	MOVQ(U32(64), sixtyFour)
	MOVQ(I32(-1), allOnes)
	broadcast(c.bswap, longReverse)
	broadcast(c.poly, longPoly)
	setFirstColumns(tempA)
	src, dst, left := tempB, tempC, longLeft
	XORL(longIndex.As32(), longIndex.As32())
	zero(longTemp)
	store(longTemp, at(scratchPtr, longPowersAt+16*16))

	k.begin(noBlocks)

	Label("packet")
	k.powers()
	// AAD: of up to two blocks it goes into the first window, of more it is
	// hashed beforehand.
	zero(longSum)
	zero(longAAD)
	MOVL(job(0, jobAADLen), left.As32())
	MOVQ(job(0, jobAAD), src)
	CMPQ(left, num(32))
	JG(LabelRef("aad"))
	Label("aadlast")
	BZHIQ(left, allOnes, tempE)
	KMOVD(tempE.As32(), reg.K4)
	CMPQ(left, num(16))
	JLE(LabelRef("aadone"))
	VMOVDQU8_Z(at(src, 0), reg.K4, longAAD.y())
	JMP(LabelRef("aaddone"))
	Label("aadone")
	TESTQ(left, left)
	JEQ(LabelRef("aaddone"))
	VMOVDQU8_Z(at(src, 0), reg.K4, longTemp.x())
	VINSERTI32X4(Imm(1), longTemp.x(), longAAD.r(), longAAD.r())
	JMP(LabelRef("aaddone"))
	Label("aad")
	// Of a few more, the first ones are hashed one by one, which needs no power
	// that was written just now.
	CMPQ(left, num(64))
	JG(LabelRef("aadlong"))
	broadcast(at(tempA, rowPower+row), longPending+1)
	Label("aadblock")
	VMOVDQU(at(src, 0), longPending.x())
	shufb(longReverse.r(), longPending, longPending)
	xor(longSum.r(), longPending, longPending)
	var block stream
	k.h.mul(&block, longPending, (longPending + 1).r(), longSum)
	emit(block)
	ADDQ(num(16), src)
	SUBQ(num(16), left)
	CMPQ(left, num(32))
	JG(LabelRef("aadblock"))
	JMP(LabelRef("aadlast"))
	Label("aadlong")
	k.hashAAD(src)
	TESTQ(left, left)
	JG(LabelRef("aadlong"))
	VSHUFI64X2(Imm(0x45), longSum.r(), longSum.r(), longSum.r()) // to where the text begins
	Label("aaddone")

	MOVQ(job(0, jobSrc), src)
	MOVQ(job(0, jobDst), dst)
	MOVL(job(0, jobLen), left.As32())
	SUBQ(num(224), left)
	// A window: AES beside the text of the window before and its hash.
	window := func(p int, first bool, vectors int) {
		k.moveStream()
		k.spread(vectors)
		emit(k.rounds(vectors), append(k.text(src, dst, first), k.sixteen(scratchPtr, p)...))
	}
	// The end's first part, with one window or more behind it.
	end := func(first bool) {
		if first {
			k.advance("")
		} else {
			k.advance("looped")
		}
		apart := fmt.Sprintf("apart%t", first)
		// What is left ends the lanes' sums, with the lengths behind it, if
		// that is one block at least for each, and no more than there are powers.
		LEAQ(at(left, -33), tempA)
		CMPQ(tempA, num(240-33))
		JHI(LabelRef(apart))
		if !first {
			CMPQ(left, num(192))
			JLE(LabelRef("less"))
		}
		window(longEachAt, first, 4)
		JMP(LabelRef("rest"))
		if !first {
			Label("less")
			CMPQ(left, num(128))
			JLE(LabelRef("least"))
			window(longEachAt, first, 3)
			JMP(LabelRef("rest"))
			Label("least")
			window(longEachAt, first, 2)
			JMP(LabelRef("rest"))
		}
		// Or the sixteen blocks before it do.
		Label(apart)
		window(longPowersAt, first, 4)
		k.fold()
		CMPQ(left, num(240))
		JLE(LabelRef("rest"))
		JMP(LabelRef("fullrest"))
	}
	CMPQ(left, num(256))
	JLE(LabelRef("onlyone"))
	k.advance("")
	window(longEachAt, true, 4)
	SUBQ(num(256), left)
	if sealing {
		k.overtake(src, dst, left)
	}
	align()
	Label("loop")
	CMPQ(left, num(256))
	JLE(LabelRef("looped"))
	k.advance("loop")
	window(longEachAt, false, 4)
	SUBQ(num(256), left)
	JMP(LabelRef("loop"))
	Label("looped")
	end(false)
	Label("onlyone")
	end(true)

	for _, r := range []pendingBlocks{someBlocks, allBlocks} {
		Label(string(r))
		k.place(r)
		ADDQ(num(jobSize), jobsPtr)
		INCQ(longIndex)
		CMPQ(longIndex, packets)
		JGE(LabelRef(string(r) + "drain"))
		k.begin(r)
		JMP(LabelRef("packet"))
		Label(string(r) + "drain")
		k.moveStream()
		emit(k.finish(r))
		JMP(LabelRef("done"))
	}
	k.rounded()
	Label("done")
	wipeScratch(longTemp, scratchPtr, packets, longSize)
	wipeRegisters()
	RET()
}

// overtake is the loop for a packet that is sealed. It hashes the ciphertext of one window before. The
// ciphertext of this window waits for AES, and multiplications that wait for it would fill the CPU's
// queues, where AES of the next window should be. Ciphertext to open is in memory from the start.
func (k *long512) overtake(src, dst, left reg.GPPhysical) {
	CMPQ(left, num(600))
	JLE(LabelRef("loop"))
	k.moveStream()
	k.advance("")
	k.spread(4)
	emit(k.rounds(4), k.text(src, dst, false))
	SUBQ(num(256), left)
	align()
	Label("overtake")
	for i := range v(4) {
		move(longStream+i, longReady[i])
	}
	k.advance("overtake")
	k.spread(4)
	hash := k.sixteen(scratchPtr, longEachAt)
	for i := range v(4) {
		k.vector(&hash, longReady[i], longPending+i, src, dst, int(i)*64)
	}
	k.moveOn(&hash, src, dst, 256)
	emit(k.rounds(4), hash)
	SUBQ(num(256), left)
	CMPQ(left, num(256))
	JG(LabelRef("overtake"))
	emit(k.sixteen(scratchPtr, longEachAt))
	JMP(LabelRef("looped"))
}

// keysInRegisters is how many round keys have one.
func (k *long512) keysInRegisters() int {
	if k.sealing {
		return 9
	}
	return 11
}

// begin loads a packet's round keys and makes its first window's key stream,
// beside the pending end of the packet before.
func (k *long512) begin(r pendingBlocks) {
	findKey(string(r))
	for r := 0; r <= rounds(k.keyLen); r++ {
		if r < k.keysInRegisters() {
			broadcast(at(tempA, r*row), longRoundKeys+v(r))
		} else {
			broadcast(at(tempA, r*row), longTemp)
			storeA(longTemp, at(scratchPtr, longKeysAt+r*row))
		}
	}
	// The block with counter 0.
	VMOVDQU(at(jobsPtr, jobNonce), longTemp.x())
	VPAND(k.c.nonce, longTemp.x(), longTemp.x())
	VSHUFI64X2(Imm(0), longTemp.r(), longTemp.r(), longTemp.r())
	xor(longRoundKeys.r(), longTemp, longTemp)
	shufb(k.c.diagonal, longTemp, longColumns)
	xor(k.c.columns, longColumns, longColumns)
	aes((longRoundKeys + 1).r(), longTemp)
	move(longTemp, longFirst)
	VPSHUFD(Imm(0), longColumnKey.r(), longColumnKey.r())
	MOVQ(U32(0), tempE)
	MOVQ(tempE, at(scratchPtr, longAtAt))
	k.moveStream()
	VAESENC(longColumnKey.r(), longColumns.r(), longSixteen.r())
	k.spread(4)
	var hash stream
	if r != noBlocks {
		hash = k.finish(r)
	}
	emit(k.rounds(4), hash)
}

// moveStream moves key stream out of the way of the next window's.
func (k *long512) moveStream() {
	for i := v(0); i < 4; i++ {
		move(longStream+i, longPending+i)
	}
}

// powers brings those of the key at tempA to where they are used.
func (k *long512) powers() {
	for i := range 4 {
		broadcast(at(tempA, rowPower+(16-4*i)*row), longTemp)
		storeA(longTemp, at(scratchPtr, longEachAt+i*row))
		VPSHUFD(Imm(0x4e), longTemp.r(), (longTemp + 1).r())
		xor(longTemp.r(), longTemp+1, longTemp+1)
		storeA(longTemp+1, at(scratchPtr, longMidAt+i*row))
	}
	for i := range 4 {
		p := rowPower + (16-4*i)*row
		d := longTemp + v(i%3)
		gather([]Mem{at(tempA, p), at(tempA, p-row), at(tempA, p-2*row), at(tempA, p-3*row)}, d)
		store(d, at(scratchPtr, longPowersAt+i*row))
	}
}

// place prepares for finish: tempD is the octets that are left, longLeft.
func (k *long512) place(r pendingBlocks) {
	MOVQ(longLeft, tempD)
	if r == allBlocks {
		return
	}
	// H^n first, for n blocks. Where the lengths go: two bits of a mask, one for
	// each half of a block.
	LEAQ(at(tempD, 15), tailPowers)
	SHRQ(Imm(4), tailPowers)
	MOVL(U32(3), tempE.As32())
	LEAQ(Mem{Base: tailPowers, Index: tailPowers, Scale: 1}, longLeft)
	SHLXQ(longLeft, tempE, longLeft)
	INCQ(tailPowers)
	SHLQ(Imm(4), tailPowers)
	NEGQ(tailPowers)
	ADDQ(scratchPtr, tailPowers)
}

// finish ends a packet, whose job is the one before jobsPtr: tempD octets of text, of
// which key stream is in longPending, the lengths behind them, and then the tag.
func (k *long512) finish(r pendingBlocks) stream {
	var s stream
	src, dst := tempB, tempC
	s.do(func() { VMOVDQU(at(jobsPtr, jobAADLen-jobSize), longTemp.x()) })
	s.do(func() { VPSHUFB(k.c.lens, longTemp.x(), longTemp.x()) })
	s.do(func() { VPSLLQ(Imm(3), longTemp.x(), longTemp.x()) })
	s.do(func() { VSHUFI64X2(Imm(0), longTemp.r(), longTemp.r(), longAAD.r()) })
	// masked takes the octets of one vector that there are, tempD or all 64.
	masked := func(x v, m int) {
		s.do(func() {
			BZHIQ(tempD, allOnes, tempE)
			KMOVQ(tempE, reg.K4)
		})
		s.do(func() { VMOVDQU8_Z(at(src, m), reg.K4, longTemp.r()) })
		s.do(func() { xor(longTemp.r(), x, x) })
		if k.sealing {
			s.do(func() { VMOVDQU8_Z(x.r(), reg.K4, x.r()) })
			s.do(func() { VMOVDQU8(x.r(), reg.K4, at(dst, m)) })
			s.do(func() { shufb(longReverse.r(), x, x) })
		} else {
			s.do(func() { VMOVDQU8(x.r(), reg.K4, at(dst, m)) })
			s.do(func() { shufb(longReverse.r(), longTemp, x) })
		}
	}
	if r == allBlocks {
		for i := range 3 {
			k.vector(&s, longPending+v(i), longPending+v(i), src, dst, i*64)
		}
		s.do(func() { SUBQ(num(192), tempD) })
		masked(longPending+3, 192)
		s = append(s, k.sixteen(scratchPtr, longPowersAt)...)
		s.do(k.fold)
		s.do(func() { VPXORQ(longAAD.x(), longSum.x(), longSum.x()) })
		k.h.mul(&s, longSum, at(scratchPtr, longPowersAt+15*16), longSum)
	} else {
		for i := v(0); i < 4; i++ {
			masked(longPending+i, 0)
			s.do(func() { KMOVB(longLeft.As32(), reg.K5) })
			s.do(func() { VMOVDQA64(longAAD.r(), reg.K5, (longPending + i).r()) })
			if i == 3 {
				break
			}
			// Pointers stay where there is text.
			s.do(func() {
				XORL(tempE.As32(), tempE.As32())
				CMPQ(tempD, sixtyFour)
				CMOVQGT(sixtyFour, tempE)
				ADDQ(tempE, src)
				ADDQ(tempE, dst)
				XORL(tempE.As32(), tempE.As32())
				SUBQ(sixtyFour, tempD)
				CMOVQLT(tempE, tempD)
				SHRQ(Imm(8), longLeft)
			})
		}
		s = append(s, k.sixteen(tailPowers, longPowersAt+256)...)
		s.do(k.fold)
	}
	s.do(func() { VPSHUFB(longReverse.x(), longSum.x(), longSum.x()) })
	s.do(func() { VPXORQ(longEJ0.x(), longSum.x(), longSum.x()) })
	s.do(func() { oneTag(longSum, k.sealing, -jobSize, tempD) })
	return s
}

// rounds are those of AES for a number of vectors. Each begins a round after the one
// before it, or two: beside other work, they should not all be through at the same time.
// Round 1 is made by spread.
func (k *long512) rounds(vectors int) (s stream) {
	later := k.keyLen / 16
	last := rounds(k.keyLen)
	for t := 2; t <= last+later*(vectors-1); t++ {
		for i := range vectors {
			r, x := t-later*i, longStream+v(i)
			if r < 2 || r > last {
				continue
			}
			var key Op
			if r < k.keysInRegisters() {
				key = (longRoundKeys + v(r)).r()
			} else {
				key = at(scratchPtr, longKeysAt+r*row)
			}
			s.do(func() { aesRound(r, last, key, x) })
		}
	}
	return s
}

// The first round of AES, for 16 blocks at a time. The window's first counter is a multiple of 16. Blocks
// differ in the counter's last octet, of 256 blocks, and after a round of AES in their first column:
//
//	first round of block n = [column n, and three that all blocks of these 256 share]
//
// A round's columns do not depend on each other. So one vector, as wide as four blocks, makes that column
// for 16 of them, block 4*j+l in column j of lane l. longFirst are the columns that are shared.
// longColumns are the octets that go into the first column, round key 0 added, for blocks 0 to 15.
// longAtAt, memory, has the other bits of the counter: those of its last octet in octet 3, the rest in octets 4 to 7.
const (
	longFirst     = longRoundKeys     // round key 0 is not used any more,
	longColumnKey = longRoundKeys + 1 // nor is 1, but for its first column, which is here in all columns
)

// firstColumns are the first columns of all lanes.
var firstColumns = reg.K7

// setFirstColumns sets it; t is a temporary.
func setFirstColumns(t reg.GPPhysical) {
	MOVL(U32(0x1111), t.As32())
	KMOVW(t.As32(), firstColumns)
}

// firstColumn brings column i of x to the first column of y.
func firstColumn(i int, x, y v) {
	if i == 0 {
		VMOVDQA32(x.r(), firstColumns, y.r())
		return
	}
	VPSHUFD(Imm(uint64(i)), x.r(), firstColumns, y.r())
}

// advance makes the first columns of the next window. After 256 blocks, rounded makes what they share;
// it has a place to come back to for each label here. "" is for windows that can't be such.
func (k *long512) advance(label string) {
	ADDL(U32(16<<24), at(scratchPtr, longAtAt))
	if label != "" {
		MOVL(U32(uint32(len(k.advances))), tempE.As32())
		JCS(LabelRef("rounded"))
		k.advances = append(k.advances, label+"rounded")
		Label(label + "rounded")
	}
	VPXORD_BCST(at(scratchPtr, longAtAt), longColumns.r(), longSixteen.r())
	aes(longColumnKey.r(), longSixteen)
}

// spread makes so many vectors of blocks, after the first round, of what advance made.
func (k *long512) spread(vectors int) {
	for i := range v(vectors) {
		move(longFirst, longStream+i)
	}
	for i := range vectors {
		firstColumn(i, longSixteen, longStream+v(i))
	}
}

// rounded makes the first round of the next 256 blocks.
func (k *long512) rounded() {
	Label("rounded")
	MOVL(tempE.As32(), at(scratchPtr, longAtAt+8))
	findKey("rounded")
	MOVL(at(scratchPtr, longAtAt+4), tempE.As32())
	INCL(tempE.As32())
	MOVL(tempE.As32(), at(scratchPtr, longAtAt+4))
	SHLL(Imm(8), tempE.As32())
	BSWAPL(tempE.As32())
	VMOVDQU64(at(jobsPtr, jobNonce), longSixteen.x())
	VPINSRD(Imm(3), tempE.As32(), longSixteen.x(), longSixteen.x())
	VPXORQ(at(tempA, 0), longSixteen.x(), longSixteen.x())
	VAESENC(at(tempA, row), longSixteen.x(), longSixteen.x())
	VSHUFI64X2(Imm(0), longSixteen.r(), longSixteen.r(), longFirst.r())
	MOVL(at(scratchPtr, longAtAt+8), tempE.As32())
	for i, label := range k.advances[1:] {
		CMPL(tempE.As32(), Imm(uint64(i+1)))
		JEQ(LabelRef(label))
	}
	JMP(LabelRef(k.advances[0]))
}

// text takes a window's octets, whose key stream is in longPending, and leaves the
// ciphertext there, reversed. In the first window they begin in the third
// lane; AAD is in the lanes before, of longAAD, and key stream of a block E(J0).
func (k *long512) text(src, dst reg.GPPhysical, first bool) stream {
	var s stream
	from := 0
	if first {
		from = 1
		s.do(func() { VEXTRACTI32X4(Imm(1), longPending.r(), longEJ0.x()) })
		// Two blocks, in the register's upper half.
		s.do(func() { VEXTRACTI64X4(Imm(1), longPending.r(), longTemp.y()) })
		s.do(headMask)
		if k.sealing {
			s.do(func() { VMOVD(job(0, jobHead), (longTemp + 1).x()) })
			s.do(func() { VPSRLD(Imm(16), (longTemp + 1).x(), (longTemp + 1).x()) })
			s.do(func() { VPSLLD(Imm(16), (longTemp + 1).x(), (longTemp + 1).x()) })
			s.do(func() { VMOVDQU8(at(src, 0), headless, (longTemp + 1).y()) })
			s.do(func() { VPXOR((longTemp + 1).y(), longTemp.y(), longTemp.y()) })
			s.do(func() { VMOVDQU(longTemp.y(), at(dst, 0)) })
		} else {
			s.do(func() { VMOVDQU(at(src, 0), (longTemp + 1).y()) })
			s.do(func() { VPXOR((longTemp + 1).y(), longTemp.y(), longTemp.y()) })
			s.do(func() { VMOVDQU8(longTemp.y(), headless, at(dst, 0)) })
			s.do(func() { VMOVDQU8(longTemp.x(), headOnly, job(0, jobHead)) })
			s.do(func() { move(longTemp+1, longTemp) })
		}
		s.do(func() { VINSERTI64X4(Imm(1), longTemp.y(), longAAD.r(), longPending.r()) })
		s.do(func() { shufb(longReverse.r(), longPending, longPending) })
	}
	for i := from; i < 4; i++ {
		k.vector(&s, longPending+v(i), longPending+v(i), src, dst, i*64-32*from)
	}
	k.moveOn(&s, src, dst, 256-32*from)
	return s
}

// Octets of the first two blocks: those of a head, and those at src or dst.
var headOnly, headless = reg.K4, reg.K5

func headMask() {
	KMOVW(job(0, jobHead), headOnly)
	KNOTD(headOnly, headless)
}

func (k *long512) moveOn(s *stream, src, dst reg.GPPhysical, n int) {
	s.do(func() { ADDQ(num(n), src) })
	s.do(func() { ADDQ(num(n), dst) })
}

// vector is text for one vector, in all of which there are octets, with key stream ks;
// the ciphertext goes to x, reversed.
func (k *long512) vector(s *stream, ks, x v, src, dst reg.GPPhysical, m int) {
	if k.sealing {
		s.do(func() { xor(at(src, m), ks, ks) })
		s.do(func() { store(ks, at(dst, m)) })
		s.do(func() { shufb(longReverse.r(), ks, x) })
		return
	}
	// What is hashed is what was decrypted: memory is read once.
	s.do(func() { load(at(src, m), longTemp) })
	s.do(func() { xor(longTemp.r(), ks, ks) })
	s.do(func() { store(ks, at(dst, m)) })
	s.do(func() { shufb(longReverse.r(), longTemp, x) })
}

// sixteen hashes longPending with the powers at a place: with those in longEachAt the lanes
// keep sums of their own, from longPowersAt on the sums of all lanes belong together.
func (k *long512) sixteen(base reg.GPPhysical, p int) stream {
	var s stream
	s.do(func() { xor(longSum.r(), longPending, longPending) })
	x := []v{longPending, longPending + 1, longPending + 2, longPending + 3}
	m := [4]Op{at(base, p), at(base, p+64), at(base, p+128), at(base, p+192)}
	if p == longEachAt {
		const mid = longMidAt
		k.h.fourKaratsuba(&s, x, m, [4]Op{at(base, mid), at(base, mid+64), at(base, mid+128), at(base, mid+192)})
	} else {
		k.h.four(&s, x, m)
	}
	k.h.reduce(&s, longSum)
	return s
}

// fold adds the lanes of the sum up in its first, and clears the others.
func (k *long512) fold() { foldLanes(longSum, longTemp) }

// hashAAD hashes up to 256 octets of AAD, zero-padded to whole blocks, with the
// powers that belong to them. It moves src on and sets longLeft to the octets left.
func (k *long512) hashAAD(src reg.GPPhysical) {
	// Octets of this piece, at most 256.
	MOVQ(longLeft, tempA)
	MOVQ(U32(256), tempD)
	CMPQ(tempA, tempD)
	CMOVQGT(tempD, tempA)
	SUBQ(tempA, longLeft)
	// The powers for its blocks: H^blocks first.
	LEAQ(at(tempA, 15), tailPowers)
	ANDQ(I32(-16), tailPowers)
	NEGQ(tailPowers)
	ADDQ(scratchPtr, tailPowers)
	for i := v(0); i < 4; i++ {
		// tempA octets are left of the piece; mask those of this vector.
		MOVQ(tempA, tempD)
		CMPQ(tempD, sixtyFour)
		CMOVQGT(sixtyFour, tempD)
		BZHIQ(tempD, allOnes, tempE)
		KMOVQ(tempE, reg.K4)
		x := longPending + i
		VMOVDQU8_Z(at(src, 0), reg.K4, x.r())
		ADDQ(tempD, src)
		shufb(longReverse.r(), x, x)
		if i == 0 {
			xor(longSum.r(), x, x)
		}
		var s stream
		k.h.add(&s, x, at(tailPowers, longPowersAt+256+int(i)*64), i == 0)
		emit(s)
		SUBQ(tempD, tempA)
		if i < 3 {
			JEQ(LabelRef("aadreduce"))
		}
	}
	Label("aadreduce")
	var s stream
	k.h.reduce(&s, longSum)
	emit(s)
	k.fold()
}

// oneTag writes the tag of the packet whose job is at an offset from jobsPtr, or
// compares it.
func oneTag(tag v, sealing bool, job int, t reg.GPPhysical) {
	MOVQ(at(jobsPtr, job+jobTag), t)
	if sealing {
		VMOVDQU(tag.x(), at(t, 0))
		return
	}
	VPXOR(at(t, 0), tag.x(), tag.x())
	XORL(tempE.As32(), tempE.As32())
	VPTEST(tag.x(), tag.x())
	SETEQ(tempE.As8())
	MOVL(tempE.As32(), at(jobsPtr, job+jobOK))
}
