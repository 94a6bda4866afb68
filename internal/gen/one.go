package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Single packets with a raw key. What counts is how long one step waits for
// another, since there is nothing to do meanwhile: the key schedule runs in all
// lanes and each round key is used as soon as it is there, by up to 16 blocks of
// text and by two for H and E(J0). Those of the AAD, the text and the lengths lie
// side by side, lengths last: padding is in front, so that powers of H have fixed
// places.
//
//	lanes    0 ..        pad ..       pad+a ..           last
//	        | zeros     | AAD        | text              | lengths |
//
// A window is 16 lanes, or 8 for up to that many blocks; others are filled by text.
// GHASH of a window in lanes of their own, until the last (see ghash.go):
//
//	sum = (sum + X0)*H^16 + X1*H^12 + X2*H^8 + X3*H^4            in each lane
//	sum = (sum + X0)*[H^16..H^13] + ... + X3*[H^4..H^1]          then all lanes together
//
// Of AAD that begins one block in front of the first window, that block, times H,
// is where the sum begins.

// Scratch memory: round keys, if there is more than one window.
const oneKeys = 0

// Registers.
const (
	oKey   = v(0) // the round key in the making
	oKeyB  = v(1)
	oT     = v(2) // and 3: temporaries of the key schedule
	oS     = v(4) // lane 0: H; lane 1: E(J0)
	oC     = v(5) // to 8: key stream
	oLo    = v(9)
	oMi    = v(10)
	oHi    = v(11)
	oU     = v(12) // and 13
	oAcc   = v(14)
	oP     = v(15) // to 18: H^16 to H^13, ..., H^4 to H
	oX     = v(19) // to 22: blocks to hash
	oBswap = v(23)
	oPoly  = v(24)
	oEJ0   = v(25)
	oCtr   = v(26) // counters of the next vector, octets reversed
	oRot   = v(27)
	oEven  = v(28)
	oD     = v(29)
	oAAD   = v(30)
	oFour  = v(31)
	oEach  = v(0) // to 3: H^16, H^12, H^8, H^4, each in all lanes
)

type one512 struct {
	c       *constants
	keyLen  int
	sealing bool
	h       hasher
}

func oneKernel512(c *constants, keyLen int, sealing bool) {
	k := &one512{c: c, keyLen: keyLen, sealing: sealing}
	k.h = hasher{lo: oLo, mi: oMi, hi: oHi, t: [4]v{oU, oU + 1}, poly: oPoly}
	fn := name(baseName(sealing, "One"), keyLen)
	function(fn, "func(keys, jobs *byte, n int, scratch, master, sub *byte)",
		fn+" takes n packets one by one, key i being job i's. None has more than 32 octets of AAD. Of a master key the keys are derived: they are messages, of a block for each half of a key.")
	Load(Param("keys"), gKeys)
	Load(Param("jobs"), gJobs)
	Load(Param("n"), gN)
	Load(Param("scratch"), gScratch)
	length, pad, ones, windows, src, dst := gMax, reg.R8, reg.R10, reg.R11, gB, gC
	spread(c.bswap, oBswap)
	spread(c.poly, oPoly)
	load(c.fours, oFour)
	MOVQ(I32(-1), ones)
	for _, m := range []struct {
		bits uint32
		k    reg.OpmaskPhysical
	}{{0x1111, reg.K1}, {0x0C, reg.K2}} {
		MOVL(U32(m.bits), gA.As32())
		KMOVW(gA.As32(), m.k)
	}
	Label("packet")
	spread(c.rot, oRot) // these two are lost where there are windows
	spread(c.even, oEven)
	k.keys()
	// Blocks of AAD, and of all.
	MOVL(job(0, jobAADLen), gA.As32())
	MOVL(job(0, jobLen), length.As32())
	BZHIQ(gA, ones, gD)
	KMOVD(gD.As32(), reg.K3)
	MOVQ(job(0, jobAAD), gE)
	VMOVDQU8_Z(at(gE, 0), reg.K3, oAAD.y())
	ADDQ(num(15), gA)
	SHRQ(Imm(4), gA)
	LEAQ(at(length, 15), gE)
	SHRQ(Imm(4), gE)
	LEAQ(Mem{Base: gA, Index: gE, Scale: 1, Disp: 1}, gD)
	CMPQ(gD, num(8))
	JG(LabelRef("windows"))

	// Up to 8 blocks.
	MOVL(U32(8), pad.As32())
	SUBQ(gD, pad)
	k.prepare(2, length, pad, src, dst, false)
	emit(k.schedule([]v{oS, oC + 2, oC + 3}, nil))
	k.firstText(2, src, dst)
	{
		var s stream
		k.h1(&s)
		k.upToFour(&s)
		// The first four blocks, times H^4, go into the others.
		s.do(func() { VSHUFI64X2(Imm(0), (oP + 3).r(), (oP + 3).r(), oD.r()) })
		s = append(s, k.lengths()...)
		k.h.mul(&s, oX+2, oD.r(), oAcc)
		s.do(func() { xor(oAcc.r(), oX+3, oX+3) })
		k.h.mul(&s, oX+3, (oP + 3).r(), oAcc)
		emit(s)
	}
	JMP(LabelRef("tag"))

	// More: windows of 16 blocks.
	Label("windows")
	LEAQ(at(gD, 15), windows)
	SHRQ(Imm(4), windows)
	MOVQ(gD, pad)
	NEGQ(pad)
	ANDQ(Imm(15), pad)
	// Two blocks of AAD that begin with a window's last lane: without the window.
	LEAQ(Mem{Base: pad, Index: gA, Scale: 1}, gE)
	CMPQ(gE, num(17))
	JNE(LabelRef("inside"))
	SUBQ(num(16), pad)
	DECQ(windows)
	Label("inside")
	k.prepare(4, length, pad, src, dst, true)
	emit(k.schedule([]v{oS, oC, oC + 1, oC + 2, oC + 3}, func(s *stream, r int, key v) {
		s.do(func() { storeA(key, at(gScratch, oneKeys+r*row)) })
	}))
	k.firstText(4, src, dst)
	{
		var s stream
		k.h1(&s)
		k.h.mul(&s, oAcc, oP.r(), oAcc) // what is in front of the window; H is in oP
		k.upToFour(&s)
		each := func(i int) { s.do(func() { VSHUFI64X2(Imm(0), (oP + v(i)).r(), (oP + v(i)).r(), (oEach + v(i)).r()) }) }
		each(3)
		k.h.mul(&s, oP+3, (oEach + 3).r(), oP+2)
		each(2)
		k.h.mul(&s, oP+3, (oEach + 2).r(), oP+1)
		k.h.mul(&s, oP+2, (oEach + 2).r(), oP)
		each(1)
		each(0)
		emit(s)
	}
	ADDQ(num(256), src)
	ADDQ(num(256), dst)
	Label("window")
	DECQ(windows)
	JEQ(LabelRef("last"))
	var aess, hash stream
	for i := range v(4) {
		aess.do(func() { shufb(oBswap.r(), oCtr, oC+i) })
		aess.do(func() { addd(oFour.r(), oCtr, oCtr) })
		aess.do(func() { xor(at(gScratch, oneKeys), oC+i, oC+i) })
	}
	for r := 1; r <= rounds(keyLen); r++ {
		for i := range v(4) {
			if r < rounds(keyLen) {
				aess.do(func() { aes(at(gScratch, oneKeys+r*row), oC+i) })
			} else {
				aess.do(func() { aesLast(at(gScratch, oneKeys+r*row), oC+i) })
			}
		}
	}
	k.sum(&hash, oEach)
	emit(aess, hash)
	// The last octets of the last window are not text.
	MOVQ(ones, gD)
	CMPQ(windows, num(1))
	CMOVQEQ(gA, gD)
	KMOVQ(gD, byteMask[3])
	for i := range v(4) {
		m, x, from, to := byteMask[i], oX+i, at(src, int(i)*64), at(dst, int(i)*64)
		var s stream
		if i == 3 {
			k.masked(&s, oC+i, x, m, from, to)
		} else if sealing {
			xor(from, oC+i, x)
			store(x, to)
		} else {
			load(from, x)
			xor(x.r(), oC+i, oC+i)
			store(oC+i, to)
		}
		emit(s)
		shufb(oBswap.r(), x, x)
	}
	ADDQ(num(256), src)
	ADDQ(num(256), dst)
	JMP(LabelRef("window"))
	Label("last")
	{
		s := k.lengths()
		k.sum(&s, oP)
		emit(s)
	}
	zero(oT)
	for r := range rounds(keyLen) + 1 {
		storeA(oT, at(gScratch, oneKeys+r*row))
	}

	Label("tag")
	VEXTRACTI64X4(Imm(1), oAcc.r(), oU.y())
	VPXOR(oU.y(), oAcc.y(), oAcc.y())
	VEXTRACTI128(Imm(1), oAcc.y(), oU.x())
	VPXOR(oU.x(), oAcc.x(), oAcc.x())
	VPSHUFB(oBswap.x(), oAcc.x(), oAcc.x())
	VPXORQ(oEJ0.x(), oAcc.x(), oAcc.x())
	oneTag(oAcc, sealing, 0, gD)
	ADDQ(num(jobSize), gJobs)
	ADDQ(num(keyLen), gKeys)
	DECQ(gN)
	JNE(LabelRef("packet"))
	wipeRegisters()
	RET()
}

// keys loads a packet's key, or derives it.
func (k *one512) keys() {
	halves := []v{oKey, oKeyB}[:k.keyLen/16]
	MOVQ(Param2("master"), gD)
	TESTQ(gD, gD)
	JNE(LabelRef("derive"))
	for i, x := range halves {
		spread(at(gKeys, 16*i), x)
	}
	JMP(LabelRef("keyed"))
	Label("derive")
	MOVQ(Param2("sub"), gE)
	for i, x := range halves {
		VMOVDQU(at(gKeys, 16*i), x.x())
		VPXOR(at(gE, 0), x.x(), x.x())
	}
	for r := range 15 {
		for _, x := range halves {
			switch r {
			case 0:
				VPXOR(at(gD, 0), x.x(), x.x())
			case 14:
				VAESENCLAST(at(gD, 16*r), x.x(), x.x())
			default:
				VAESENC(at(gD, 16*r), x.x(), x.x())
			}
		}
	}
	for _, x := range halves {
		VSHUFI64X2(Imm(0), x.r(), x.r(), x.r())
	}
	Label("keyed")
}

// prepare makes the counter blocks and masks of the first window, of so many
// vectors, which gets to the right in byteMask and in oC to oC+3; gA is the AAD's
// number of blocks and then the mask of the last vector's text. What is
// in front of the window goes to oAcc.
func (k *one512) prepare(vectors int, length, pad, src, dst reg.GPPhysical, front bool) {
	from := 4 - vectors
	z := gE // lanes in front of the text
	LEAQ(Mem{Base: pad, Index: gA, Scale: 1}, z)
	// The AAD's place: words of 64 bits from 2*pad on.
	LEAQ(Mem{Base: pad, Index: pad, Scale: 1}, gD)
	VPBROADCASTQ(gD, oD.r())
	ADDQ(gA, gA)
	VPBROADCASTQ(gA, oU.r())
	shufb(oBswap.r(), oAAD, oAAD)
	for i := from; i < 4; i++ {
		x := oX + v(i)
		load(plus(k.c.words, 64*(i-from)), x)
		VPSUBQ(oD.r(), x.r(), x.r())
		VPCMPUQ(Imm(1), oU.r(), x.r(), reg.K3) // less
		VPERMQ_Z(oAAD.r(), x.r(), reg.K3, x.r())
	}
	if front {
		// pad is -1, or nothing is there.
		VPXORQ(oAcc.r(), oAcc.r(), oAcc.r())
		MOVQ(pad, gA)
		SARQ(Imm(63), gA)
		ANDL(Imm(3), gA.As32())
		KMOVB(gA.As32(), reg.K3)
		VMOVDQA64_Z(oAAD.r(), reg.K3, oAcc.r())
	}
	// Counters: the text's first is 2.
	MOVL(U32(2), gA.As32())
	SUBL(z.As32(), gA.As32())
	VPBROADCASTD_Z(gA.As32(), reg.K1, oD.r())
	spread(job(0, jobNonce), oT)
	spread(k.c.nonce, oU)
	VPANDQ(oU.r(), oT.r(), oT.r())
	spread(k.c.one, oU)
	addd(oU.r(), oT, oU)
	VMOVDQA64_Z(oU.r(), reg.K2, oS.r())
	shufb(oBswap.r(), oT, oT)
	addd(oD.r(), oT, oCtr)
	addd(k.c.lanes, oCtr, oCtr)
	for i := from; i < 4; i++ {
		shufb(oBswap.r(), oCtr, oC+v(i))
		addd(oFour.r(), oCtr, oCtr)
	}
	// Masks of the text: without what is in front; the last one without what is
	// behind it, if this is the last window.
	LEAQ(k.c.edge, gD)
	ADDQ(z, z)
	SUBQ(z, gD)
	for i := from; i < 4; i++ {
		KMOVQ(at(gD, 32+8*(i-from)), byteMask[i])
	}
	MOVQ(length, gA)
	NEGQ(gA)
	ANDQ(Imm(15), gA)
	NEGQ(gA)
	ADDQ(Imm(48), gA)
	BZHIQ(gA, reg.R10, gA)
	if vectors == 4 {
		MOVQ(reg.R10, gD)
		CMPQ(reg.R11, num(1))
		CMOVQEQ(gA, gD)
		KMOVQ(gD, reg.K3)
	} else {
		KMOVQ(gA, reg.K3)
	}
	KANDQ(reg.K3, byteMask[3], byteMask[3])
	SHLQ(Imm(3), z)
	MOVQ(job(0, jobSrc), src)
	MOVQ(job(0, jobDst), dst)
	SUBQ(z, src)
	SUBQ(z, dst)
}

// schedule runs the key schedule beside AES of states, of which oS begins as a
// block to encrypt like the others; keep is told of each round key.
func (k *one512) schedule(states []v, keep func(s *stream, r int, key v)) stream {
	var s stream
	a, b, t, u := oKey, oKeyB, oT, oT+1
	use := func(r int, key v) {
		if keep != nil {
			keep(&s, r, key)
		}
		s = append(s, allRound(k.keyLen, r, key, states, -1)...)
	}
	use(0, a)
	if k.keyLen == 16 {
		// As in short512.schedule: two round keys at a time.
		for r := 1; r <= 10; r += 2 {
			s.do(func() { shufb(oRot.r(), a, t) })
			s.do(func() { slldq(8, a, u) })
			s.do(func() { aesLast(k.c.rconRow(r-1), t) })
			s.do(func() { xor(u.r(), a, b) })
			s.do(func() { slldq(4, b, a) })
			s.do(func() { xor3(b, t, a) })
			s.do(func() { VPTERNLOGQ(Imm(0x78), oEven.r(), t.r(), b.r()) })
			use(r, a)
			s.do(func() { shufb(oRot.r(), a, t) })
			s.do(func() { aesLast(k.c.rconRow(r), t) })
			s.do(func() { xor(t.r(), b, a) })
			use(r+1, a)
		}
		return s
	}
	use(1, b)
	for r := 2; r <= 14; r++ {
		x, from := a, b
		if r%2 == 1 {
			x, from = b, a
		}
		if r%2 == 0 {
			s.do(func() { shufb(oRot.r(), from, t) })
		} else {
			s.do(func() { VPSHUFD(Imm(0xff), from.r(), t.r()) })
		}
		s.do(func() { slldq(4, x, u) })
		if r%2 == 0 {
			s.do(func() { aesLast(k.c.rconRow(r/2-1), t) })
		} else {
			s.do(func() { aesLast(k.c.zeros, t) })
		}
		s.do(func() { xor(u.r(), x, x) })
		s.do(func() { slldq(8, x, u) })
		s.do(func() { xor3(t, u, x) })
		use(r, x)
	}
	return s
}

// h1 puts H in all lanes of oP, and E(J0) in oEJ0.
func (k *one512) h1(s *stream) {
	s.do(func() { VEXTRACTI32X4(Imm(1), oS.r(), oEJ0.x()) })
	s.do(func() { VSHUFI64X2(Imm(0), oS.r(), oS.r(), oP.r()) })
	s.do(func() { shufb(oBswap.r(), oP, oP) })
	s.do(func() { VPSHUFD(Imm(0xd3), oP.r(), oD.r()) })
	s.do(func() { VPSRAD(Imm(31), oD.r(), oD.r()) })
	s.do(func() { VPADDQ(oP.r(), oP.r(), oP.r()) })
	s.do(func() { VPTERNLOGQ(Imm(0x78), k.c.carryRow, oD.r(), oP.r()) })
}

// upToFour makes [H^4, H^3, H^2, H] in oP+3, of H in oP: that is
// [H^2, H, H^2, H] times [H^2, H^2, 1, 1].
func (k *one512) upToFour(s *stream) {
	k.h.square(s, oP, oD)
	s.do(func() { move(oP, oP+3) })
	s.do(func() { move(oPoly, oP+2) }) // 1 (as x, see timesX)
	s.do(func() {
		MOVL(U32(0x33), gD.As32())
		KMOVB(gD.As32(), reg.K3)
	})
	s.do(func() { VMOVDQA64(oD.r(), reg.K3, (oP + 3).r()) })
	s.do(func() {
		MOVL(U32(0x0F), gD.As32())
		KMOVB(gD.As32(), reg.K3)
	})
	s.do(func() { VMOVDQA64(oD.r(), reg.K3, (oP + 2).r()) })
	k.h.mul(s, oP+3, (oP + 2).r(), oP+3)
}

// firstText takes the text of the first window; AAD is in oX already. Vectors in
// front of the text are left out: where there is no memory, CPUs take long to find
// out that they are to touch none of it.
func (k *one512) firstText(vectors int, src, dst reg.GPPhysical) {
	for i := 4 - vectors; i < 4; i++ {
		var s stream
		none := fmt.Sprintf("none%dof%d", i, vectors)
		KTESTQ(byteMask[i], byteMask[i])
		JEQ(LabelRef(none))
		m, ks := (i-4+vectors)*64, oC+v(i)
		t := ks
		if !k.sealing {
			t = oAAD
		}
		k.masked(&s, ks, t, byteMask[i], at(src, m), at(dst, m))
		s.do(func() { shufb(oBswap.r(), t, t) })
		s.do(func() { xor(t.r(), oX+v(i), oX+v(i)) })
		emit(s)
		Label(none)
	}
}

// masked takes a vector of text of which there may be a part only, with key stream
// ks, and leaves the ciphertext in x.
func (k *one512) masked(s *stream, ks, x v, m reg.OpmaskPhysical, from, to Mem) {
	if k.sealing {
		s.do(func() { VMOVDQU8_Z(from, m, oRot.r()) })
		s.do(func() { VPXORQ(oRot.r(), ks.r(), x.r()) })
		s.do(func() { VMOVDQU8_Z(x.r(), m, x.r()) })
		s.do(func() { VMOVDQU8(x.r(), m, to) })
		return
	}
	s.do(func() { VMOVDQU8_Z(from, m, x.r()) })
	s.do(func() { xor(x.r(), ks, ks) })
	s.do(func() { VMOVDQU8(ks.r(), m, to) })
}

// lengths puts those into the last lane.
func (k *one512) lengths() stream {
	var s stream
	s.do(func() { VMOVQ(job(0, jobAADLen), oEven.x()) })
	s.do(func() { VPSHUFB(k.c.lens, oEven.x(), oEven.x()) })
	s.do(func() { VPSLLQ(Imm(3), oEven.x(), oEven.x()) })
	s.do(func() { VINSERTI32X4(Imm(3), oEven.x(), (oX + 3).r(), (oX + 3).r()) })
	return s
}

// sum hashes a window with powers from p on.
func (k *one512) sum(s *stream, p v) {
	s.do(func() { xor(oAcc.r(), oX, oX) })
	k.h.four(s, []v{oX, oX + 1, oX + 2, oX + 3}, [4]Op{p.r(), (p + 1).r(), (p + 2).r(), (p + 3).r()})
	k.h.reduce(s, oAcc)
}
