package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The backend for AES-NI and PCLMULQDQ: 16 registers of one lane, so one packet
// at a time. Blocks to hash, powers of H and constants are memory operands;
// that leaves registers for AES and GHASH to run side by side.

// Layout of scratch memory.
const (
	soloBlocksAt = 0                    // blocks to hash, octets reversed
	soloEJ0At    = soloBlocksAt + 10*16 // E(J0)
	soloPartAt   = soloEJ0At + 16       // an end of fewer than 16 octets
	soloRawHAt   = soloPartAt + 16      // H as AES has it
	soloNoJobAt  = soloRawHAt + 16      // stands for the job before the first
	soloNoTagAt  = soloNoJobAt + 64     // its tag
	soloRowsAt   = soloNoTagAt + 16     // raw keys: round keys and powers, twice
)

const (
	expandedPowers = 8 // of an expanded key
	rawPowers      = 4 // of a raw key; packets of up to 64 octets take two
)

// Registers.
const (
	soloStream   = v(0) // key stream: to 3 or 7
	soloRoundKey = v(8) // round key
	soloCounter  = v(15)

	// A packet's start: six states, the next key in the making, and the
	// hasher of the packet before.
	soloH             = v(0)
	soloJ0            = v(1)
	soloFirst         = v(2) // to 5: key stream
	soloNextKey       = v(6) // to 9: with its odd round key and two temporaries
	soloNextOddKey    = v(7)
	soloPendingHasher = v(10)
)

var (
	soloSrc        = reg.R8
	soloDst        = reg.R9
	soloLeft       = reg.R10
	soloSlot       = reg.R11 // where the next block to hash goes
	soloPendingJob = reg.R12 // the job whose tag is pending
	soloRows       = reg.R13 // the key's rows
	soloOtherRows  = reg.R14 // those of the packet before
	soloTemp       = reg.RAX
	soloTemp2      = reg.RBX
	soloCount      = soloTemp2 // the last counter block's last octet
	soloTemp3      = reg.R15
)

// constants1 names the read-only data.
type constants1 struct {
	bswap, poly, carry, rot, last, zeros, rcon, nonce, first, counts, lens, shift, mask Mem
}

func makeConstants1() *constants1 {
	c := &constants1{
		bswap: block("bswap", 0x08090a0b0c0d0e0f, 0x0001020304050607),
		poly:  block("poly", 1, 0xc200000000000000),
		carry: block("carry", 1, 0xc200000000000001),
		rot:   block("rotword", 0x0c0f0e0d0c0f0e0d, 0x0c0f0e0d0c0f0e0d),  // word 3, rotated, in all columns
		last:  block("lastword", 0x0f0e0d0c0f0e0d0c, 0x0f0e0d0c0f0e0d0c), // word 3 in all columns
		zeros: block("zeros", 0, 0),
		nonce: block("nonce", ^uint64(0), 0x00000000ffffffff),        // without the counter
		lens:  block("lens", 0x8080808007060504, 0x8080808003020100), // Len, AADLen of a job as two 64-bit numbers
	}
	c.rcon = GLOBL("rcon", rodata)
	x := uint64(1)
	for i := range 10 {
		DATA(16*i, U64(x<<32|x))
		DATA(16*i+8, U64(x<<32|x))
		x = x<<1 ^ x>>7*0x11b
	}
	c.first = GLOBL("first", rodata) // 1, 2, .. in a big-endian counter's last octet
	for i := range 8 {
		DATA(16*i, U64(0))
		DATA(16*i+8, U64(uint64(i+1)<<56))
	}
	c.counts = lanesOf("counts", 1, 2, 3, 4, 5, 6, 7, 8)
	// From octet 16-n on, shift moves the last n octets to the front and mask
	// keeps the first n.
	c.shift = GLOBL("shift", rodata)
	DATA(0, U64(0x0706050403020100))
	DATA(8, U64(0x0f0e0d0c0b0a0908))
	DATA(16, U64(0x8080808080808080))
	DATA(24, U64(0x8080808080808080))
	c.mask = GLOBL("mask", rodata)
	DATA(0, U64(^uint64(0)))
	DATA(8, U64(^uint64(0)))
	DATA(16, U64(0))
	DATA(24, U64(0))
	return c
}

// keyRows is where an expanded key is: round keys, powers of H and folds, the
// sums of a power's halves that Karatsuba's products need.
type keyRows struct {
	base          reg.GPPhysical
	disp, stride  int
	powers, folds int // rows in front of them
	most          int // powers there are
}

func (k keyRows) round(r int) Mem { return at(k.base, k.disp+r*k.stride) }
func (k keyRows) power(i int) Mem { return at(k.base, k.disp+(k.powers+i-1)*k.stride) }
func (k keyRows) fold(i int) Mem  { return at(k.base, k.disp+(k.folds+i-1)*k.stride) }

// areaRows is a lane of a group that Expand wrote.
func areaRows(base reg.GPPhysical, lane int) keyRows {
	return keyRows{base, 16 * lane, row, 16, 16 + expandedPowers, expandedPowers}
}

// hasher1 is GHASH with products after Karatsuba.
type hasher1 struct {
	c                     *constants1
	acc, x, t, lo, mi, hi v
}

func newHasher1(c *constants1, r v) *hasher1 {
	return &hasher1{c: c, acc: r, x: r + 1, t: r + 2, lo: r + 3, mi: r + 4, hi: r + 5}
}

// multiply adds the product of h.x and a power to the sum, and h.x is lost; first: there is none
// yet. h.t holds the upper half of h.x in its lower.
func (h *hasher1) multiply(s *stream, power, fold Mem, first bool) {
	s.do(func() { xor(h.x.r(), h.t, h.t) })
	if first {
		s.together(
			func() { clmul(0x00, power, h.x, h.lo) },
			func() { clmul(0x00, fold, h.t, h.mi) },
			func() { clmul(0x11, power, h.x, h.hi) })
		return
	}
	s.do(func() { clmul(0x00, fold, h.t, h.t) })
	s.do(func() { xor(h.t.r(), h.mi, h.mi) })
	s.together(
		func() { clmul(0x00, power, h.x, h.t) },
		func() { clmul(0x11, power, h.x, h.x) })
	s.do(func() { xor(h.t.r(), h.lo, h.lo) })
	s.do(func() { xor(h.x.r(), h.hi, h.hi) })
}

// upper prepares h.t for multiply.
func (h *hasher1) upper(s *stream) { s.do(func() { VPSHUFD(Imm(0x4e), h.x.r(), h.t.r()) }) }

// reduce puts the sum modulo GHASH's polynomial into h.acc.
func (h *hasher1) reduce(s *stream) {
	s.do(func() { clmul(0x10, h.c.poly, h.lo, h.t) })
	s.do(func() { xor(h.lo.r(), h.mi, h.mi) })
	s.do(func() { VPSHUFD(Imm(0x4e), h.lo.r(), h.lo.r()) })
	s.do(func() { xor(h.hi.r(), h.mi, h.mi) })
	s.do(func() { xor(h.lo.r(), h.mi, h.mi) })
	s.do(func() { xor(h.t.r(), h.mi, h.mi) })
	h.reduce2(s)
}

func (h *hasher1) reduce2(s *stream) {
	s.do(func() { clmul(0x10, h.c.poly, h.mi, h.t) })
	s.do(func() { VPSHUFD(Imm(0x4e), h.mi.r(), h.mi.r()) })
	s.do(func() { xor(h.mi.r(), h.hi, h.hi) })
	s.do(func() { xor(h.t.r(), h.hi, h.acc) })
}

// square is h.acc = h.x*h.x.
func (h *hasher1) square(s *stream) {
	s.together(
		func() { clmul(0x00, h.x.r(), h.x, h.lo) },
		func() { clmul(0x11, h.x.r(), h.x, h.hi) })
	s.do(func() { clmul(0x10, h.c.poly, h.lo, h.t) })
	s.do(func() { VPSHUFD(Imm(0x4e), h.lo.r(), h.lo.r()) })
	s.do(func() { xor(h.t.r(), h.lo, h.mi) })
	h.reduce2(s)
}

// put stores h.acc as a power.
func (h *hasher1) put(s *stream, k keyRows, i int) {
	s.do(func() { store(h.acc, k.power(i)) })
	s.do(func() { VPSHUFD(Imm(0x4e), h.acc.r(), h.t.r()) })
	s.do(func() { xor(h.acc.r(), h.t, h.t) })
	s.do(func() { store(h.t, k.fold(i)) })
}

// powers makes powers of H, from H as AES has it in h.acc.
func (h *hasher1) powers(s *stream, k keyRows) {
	s.do(func() { shufb(h.c.bswap, h.acc, h.acc) })
	timesX(s, h.acc, h.t, h.c.carry)
	h.put(s, k, 1)
	for i := 2; i <= k.most; i++ {
		if i == 2 {
			s.do(func() { move(h.acc, h.x) })
		} else {
			s.do(func() { load(k.power((i+1)/2), h.x) })
		}
		if i%2 == 0 {
			h.square(s)
		} else {
			h.upper(s)
			h.multiply(s, k.power(i/2), k.fold(i/2), true)
			h.reduce(s)
		}
		h.put(s, k, i)
	}
}

// slots hashes blocks of scratch memory, from..to-1, with a reduction for each
// as many as there are powers. with: h.acc goes into the first.
func (h *hasher1) slots(s *stream, k keyRows, from, to int, with bool) {
	for from < to {
		n := (to-from-1)%k.most + 1
		for i := range n {
			m := at(scratchPtr, soloBlocksAt+16*(from+i))
			if i == 0 && with {
				s.do(func() { xor(m, h.acc, h.x) })
				h.upper(s)
			} else {
				s.do(func() { load(m, h.x) })
				s.do(func() { VMOVQ(plus(m, 8), h.t.x()) })
			}
			h.multiply(s, k.power(n-i), k.fold(n-i), i == 0)
		}
		h.reduce(s)
		from += n
		with = true
	}
}

// schedule1 runs a key schedule; each(r, key) is to be done with round key r.
// Keys of 32 octets begin in a and b, others in a.
func schedule1(c *constants1, keyLen int, a, b, t1, t2 v, each func(s *stream, r int, key v)) stream {
	var s stream
	each(&s, 0, a)
	rcon := func(i int) Mem { return plus(c.rcon, 16*(i-1)) }
	if keyLen == 16 {
		for r := 1; r <= 10; r++ {
			s = append(s, nextKey(a, a, c.rot, rcon(r), t1, t2)...)
			each(&s, r, a)
		}
		return s
	}
	each(&s, 1, b)
	for r := 2; r <= 14; r += 2 {
		s = append(s, nextKey(a, b, c.rot, rcon(r/2), t1, t2)...)
		each(&s, r, a)
		if r < 14 {
			s = append(s, nextKey(b, a, c.last, c.zeros, t1, t2)...)
			each(&s, r+1, b)
		}
	}
	return s
}

// expandKernel1 writes the key schedules of groups of keys.
func expandKernel1(c *constants1, keyLen int) {
	function(name("expand", keyLen), "func(area, keys *byte, n int)",
		name("expand", keyLen)+" writes the round keys of n keys to an area.")
	area, keys, n := reg.RDI, reg.RSI, reg.RCX
	Load(Param("area"), area)
	Load(Param("keys"), keys)
	Load(Param("n"), n)
	Label("group")
	var ss []stream
	p := reg.RAX
	for i := range 4 {
		a, b, t, u := v(4*i), v(4*i+1), v(4*i+2), v(4*i+3)
		// Keys that are not there repeat the group's first.
		LEAQ(at(keys, i*keyLen), p)
		CMPQ(n, num(i))
		CMOVQLE(keys, p)
		load(at(p, 0), a)
		if keyLen == 32 {
			load(at(p, 16), b)
		}
		ss = append(ss, schedule1(c, keyLen, a, b, t, u, func(s *stream, r int, key v) {
			s.do(func() { storeA(key, at(area, r*row+16*i)) })
		}))
	}
	emit(ss...)
	ADDQ(num(groupSize), area)
	ADDQ(num(4*keyLen), keys)
	SUBQ(num(4), n)
	JG(LabelRef("group"))
	wipeRegisters()
	RET()
}

// powersKernel1 writes H to H^8 and their folds behind the round keys of groups.
func powersKernel1(c *constants1, keyLen int) {
	function(name("powers", keyLen), "func(area *byte, n int)",
		name("powers", keyLen)+" writes H to H^8 of n keys behind their round keys.")
	area, n := reg.RDI, reg.RCX
	Load(Param("area"), area)
	Load(Param("n"), n)
	Label("group")
	var aess []stream
	for i := range 4 {
		k, x := areaRows(area, i), v(12+i)
		var s stream
		s.do(func() { load(k.round(0), x) })
		for r := 1; r <= rounds(keyLen); r++ {
			s.do(func() { aesRound(r, rounds(keyLen), k.round(r), x) })
		}
		aess = append(aess, s)
	}
	emit(aess...)
	for i := 0; i < 4; i += 2 {
		var ss []stream
		for j := range 2 {
			h := newHasher1(c, v(6*j))
			var s stream
			s.do(func() { move(v(12+i+j), h.acc) })
			h.powers(&s, areaRows(area, i+j))
			ss = append(ss, s)
		}
		emit(ss...)
	}
	ADDQ(num(groupSize), area)
	SUBQ(num(4), n)
	JG(LabelRef("group"))
	wipeRegisters()
	RET()
}

// A kernel1 writes a function that seals or opens.
type kernel1 struct {
	c       *constants1
	keyLen  int
	sealing bool
	keys    keyRows
	h       *hasher1
	later   []func() // code for behind the end
}

// octetsFrom loads n octets, 1 to 15, with zeros behind them, from p. They are the last of
// as many octets as the job's field says. If that is a block or more, octets in front of p
// may be read.
func (k *kernel1) octetsFrom(p, n, t reg.GPPhysical, field int, d v, label string) {
	CMPL(k.job(field), num(16))
	JCS(LabelRef(label + "few"))
	load(Mem{Base: p, Index: n, Scale: 1, Disp: -16}, d)
	LEAQ(plus(k.c.shift, 16), t)
	SUBQ(n, t)
	shufb(at(t, 0), d, d)
	JMP(LabelRef(label + "loaded"))
	Label(label + "few")
	zero(d)
	store(d, at(scratchPtr, soloPartAt))
	LEAQ(at(scratchPtr, soloPartAt), t)
	for _, size := range []int{8, 4, 2, 1} {
		skip := fmt.Sprint(label, "few", size)
		TESTB(Imm(uint64(size)), n.As8())
		JEQ(LabelRef(skip))
		switch size {
		case 8:
			MOVQ(at(p, 0), soloTemp3)
			MOVQ(soloTemp3, at(t, 0))
		case 4:
			MOVL(at(p, 0), soloTemp3.As32())
			MOVL(soloTemp3.As32(), at(t, 0))
		case 2:
			MOVW(at(p, 0), soloTemp3.As16())
			MOVW(soloTemp3.As16(), at(t, 0))
		case 1:
			MOVB(at(p, 0), soloTemp3.As8())
			MOVB(soloTemp3.As8(), at(t, 0))
		}
		if size > 1 {
			ADDQ(num(size), p)
			ADDQ(num(size), t)
		}
		Label(skip)
	}
	load(at(scratchPtr, soloPartAt), d)
	Label(label + "loaded")
}

// octetsTo stores n octets, 1 to 15; s is lost.
func octetsTo(s v, p, n reg.GPPhysical, label string) {
	for _, size := range []int{8, 4, 2, 1} {
		skip := fmt.Sprint(label, "to", size)
		TESTB(Imm(uint64(size)), n.As8())
		JEQ(LabelRef(skip))
		switch size {
		case 8:
			VMOVQ(s.x(), at(p, 0))
		case 4:
			VMOVD(s.x(), at(p, 0))
		case 2:
			VPEXTRW(Imm(0), s.x(), at(p, 0))
		case 1:
			VPEXTRB(Imm(0), s.x(), at(p, 0))
		}
		if size > 1 {
			VPSRLDQ(Imm(uint64(size)), s.x(), s.x())
			ADDQ(num(size), p)
		}
		Label(skip)
	}
}

// text takes n whole blocks with key stream in c.. and leaves the ciphertext,
// reversed, at to.
func (k *kernel1) text(c v, n int, to Mem) stream {
	var s stream
	for i := range n {
		x, src, dst, slot := c+v(i), at(soloSrc, 16*i), at(soloDst, 16*i), plus(to, 16*i)
		if k.sealing {
			s.do(func() { xor(src, x, x) })
			s.do(func() { store(x, dst) })
			s.do(func() { shufb(k.c.bswap, x, x) })
			s.do(func() { store(x, slot) })
			continue
		}
		s.do(func() { load(src, k.h.x) })
		s.do(func() { xor(k.h.x.r(), x, x) })
		s.do(func() { shufb(k.c.bswap, k.h.x, k.h.x) })
		s.do(func() { store(x, dst) })
		s.do(func() { store(k.h.x, slot) })
	}
	return s
}

// tail takes soloLeft octets with key stream in c.., of up to n blocks, and
// moves soloSlot on.
func (k *kernel1) tail(label string, c v, n int) {
	for i := range n {
		CMPQ(soloLeft, num(16))
		JLT(LabelRef(fmt.Sprint(label, "end", i)))
		emit(k.text(c+v(i), 1, at(soloSlot, 0)))
		ADDQ(num(16), soloSrc)
		ADDQ(num(16), soloDst)
		ADDQ(num(16), soloSlot)
		SUBQ(num(16), soloLeft)
	}
	JMP(LabelRef(label + "tailed"))
	for i := 1; i < n; i++ {
		Label(fmt.Sprint(label, "end", i))
		move(c+v(i), c)
		if i < n-1 {
			JMP(LabelRef(label + "end0"))
		}
	}
	Label(label + "end0")
	TESTQ(soloLeft, soloLeft)
	JEQ(LabelRef(label + "tailed"))
	x, t := k.h.x, k.h.t
	k.octetsFrom(soloSrc, soloLeft, soloTemp, jobLen, x, label)
	if k.sealing {
		xor(c.r(), x, x)
		LEAQ(plus(k.c.mask, 16), soloTemp)
		SUBQ(soloLeft, soloTemp)
		VPAND(at(soloTemp, 0), x.r(), x.r())
	} else {
		xor(x.r(), c, c)
	}
	shufb(k.c.bswap, x, t)
	store(t, at(soloSlot, 0))
	if k.sealing {
		octetsTo(x, soloDst, soloLeft, label)
	} else {
		octetsTo(c, soloDst, soloLeft, label)
	}
	ADDQ(num(16), soloSlot)
	Label(label + "tailed")
}

func (k *kernel1) job(field int) Mem { return at(jobsPtr, field) }

// aad hashes AAD of any length into h.acc, two blocks at a time.
func (k *kernel1) aad(label string) {
	h := k.h
	hash := func(n int) {
		var s stream
		h.slots(&s, k.keys, 0, n, true)
		emit(s)
	}
	block := func(m Mem, i int) {
		load(m, h.x)
		shufb(k.c.bswap, h.x, h.x)
		store(h.x, at(scratchPtr, soloBlocksAt+16*i))
	}
	zero(h.acc)
	MOVL(k.job(jobAADLen), soloLeft.As32())
	MOVQ(k.job(jobAAD), soloSrc)
	Label(label + "aadtwo")
	CMPQ(soloLeft, num(32))
	JLT(LabelRef(label + "aadone"))
	block(at(soloSrc, 0), 0)
	block(at(soloSrc, 16), 1)
	hash(2)
	ADDQ(num(32), soloSrc)
	SUBQ(num(32), soloLeft)
	JMP(LabelRef(label + "aadtwo"))
	Label(label + "aadone")
	CMPQ(soloLeft, num(16))
	JLT(LabelRef(label + "aadpart"))
	block(at(soloSrc, 0), 0)
	hash(1)
	ADDQ(num(16), soloSrc)
	SUBQ(num(16), soloLeft)
	Label(label + "aadpart")
	TESTQ(soloLeft, soloLeft)
	JEQ(LabelRef(label + "aaddone"))
	k.octetsFrom(soloSrc, soloLeft, soloTemp, jobAADLen, h.x, label+"aad")
	shufb(k.c.bswap, h.x, h.x)
	store(h.x, at(scratchPtr, soloBlocksAt))
	hash(1)
	Label(label + "aaddone")
}

// lengths is the last block to hash.
func (k *kernel1) lengths(d v, to Mem) {
	VMOVQ(k.job(jobAADLen), d.x())
	shufb(k.c.lens, d, d)
	VPSLLQ(Imm(3), d.r(), d.r())
	store(d, to)
}

// tag writes or compares the tag of a job.
func (k *kernel1) tag(job reg.GPPhysical) {
	h := k.h
	shufb(k.c.bswap, h.acc, h.acc)
	xor(at(scratchPtr, soloEJ0At), h.acc, h.acc)
	MOVQ(at(job, jobTag), soloTemp)
	if k.sealing {
		store(h.acc, at(soloTemp, 0))
		return
	}
	xor(at(soloTemp, 0), h.acc, h.acc)
	XORL(soloTemp2.As32(), soloTemp2.As32())
	VPTEST(h.acc.x(), h.acc.x())
	SETEQ(soloTemp2.As8())
	MOVL(soloTemp2.As32(), at(job, jobOK))
}

// inMemory, in place of a register: round keys are memory operands.
const inMemory = v(-1)

// rounds of AES of blocks in x.., with round keys going through a register.
func (k *kernel1) rounds(s *stream, through, x v, n int) {
	for r := range rounds(k.keyLen) + 1 {
		key := Op(k.keys.round(r))
		if through != inMemory {
			s.do(func() { load(k.keys.round(r), through) })
			key = through.r()
		}
		for i := range v(n) {
			s.do(func() { aesRound(r, rounds(k.keyLen), key, x+i) })
		}
	}
}

// counters makes the next n counter blocks in x.., and soloCounter the last of them.
// It adds to the last octet only. With a label it handles the overflow of that octet, a copy
// of which is in soloCount.
func (k *kernel1) counters(label string, x v, n int) {
	if label != "" {
		ADDB(Imm(uint64(n)), soloCount.As8())
		JCS(LabelRef(label + "carry"))
	}
	for i := range n {
		addd(plus(k.c.first, 16*i), soloCounter, x+v(i))
	}
	addd(plus(k.c.first, 16*(n-1)), soloCounter, soloCounter)
	if label == "" {
		return
	}
	Label(label + "counted")
	k.later = append(k.later, func() {
		Label(label + "carry")
		shufb(k.c.bswap, soloCounter, soloCounter)
		for i := range n {
			addd(plus(k.c.counts, 16*i), soloCounter, x+v(i))
			shufb(k.c.bswap, x+v(i), x+v(i))
		}
		addd(plus(k.c.counts, 16*(n-1)), soloCounter, soloCounter)
		shufb(k.c.bswap, soloCounter, soloCounter)
		JMP(LabelRef(label + "counted"))
	})
}

// keyStream makes n blocks of key stream of counter blocks in x.. .
func (k *kernel1) keyStream(x v, n int) (s stream) {
	k.rounds(&s, soloRoundKey, x, n)
	return s
}

// align aligns the code that follows to a cache line, so that the speed of a loop does not
// depend on where the linker puts the function.
func align() { Instruction(&ir.Instruction{Opcode: "PCALIGN", Operands: []Op{Imm(64)}}) }

// wipe1 zeroes n octets of scratch memory.
func wipe1(n int) {
	XORL(soloTemp3.As32(), soloTemp3.As32()) // octets of text went through it
	zero(0)
	for i := 0; i < n; i += 32 {
		if n-i < 32 {
			store(0, at(scratchPtr, i))
		} else {
			VMOVDQU(v(0).y(), at(scratchPtr, i))
		}
	}
	wipeRegisters()
}

// address sets soloRows to the rows of the job's key.
func (k *kernel1) address() {
	MOVQ(jobsPtr, soloRows)
	SUBQ(Param2("jobs"), soloRows)
	SHRQ(Imm(6), soloRows) // jobSize
	MOVL(k.job(jobKey), soloTemp.As32())
	CMPQ(Param2("shared"), Imm(0))
	CMOVQNE(soloTemp, soloRows)
	rowsOf(soloRows, soloTemp)
}

// Blocks to hash: two of AAD, four of text, the lengths.
const slotText, slotLengths = 2, 6

func slot(i int) Mem { return at(scratchPtr, soloBlocksAt+16*i) }

// ending takes the last 64 octets, or fewer, and sets soloSlot to the first block.
func (k *kernel1) ending(label string) {
	k.lengths(k.h.x, slot(slotLengths))
	CMPQ(soloLeft, num(64))
	JNE(LabelRef(label + "ragged"))
	emit(k.text(soloFirst, 4, slot(slotText)))
	LEAQ(slot(slotText), soloSlot)
	JMP(LabelRef(label + "placed"))
	Label(label + "ragged")
	zero(k.h.x)
	for i := range slotLengths {
		store(k.h.x, slot(i))
	}
	LEAQ(at(soloLeft, 15), soloTemp)
	SHRQ(Imm(4), soloTemp)
	SHLQ(Imm(4), soloTemp)
	LEAQ(slot(slotLengths), soloSlot)
	SUBQ(soloTemp, soloSlot)
	MOVQ(soloSlot, soloTemp2)
	k.tail(label, soloFirst, 4)
	MOVQ(soloTemp2, soloSlot)
	Label(label + "placed")
}

// behind takes what is behind a packet's first 64 octets, of which there is some; first
// hashes these and the AAD. Blocks of the end are left to be hashed, the sum added to the first.
func (k *kernel1) behind(raw bool, first func() stream) {
	MOVL(k.job(jobLen), soloLeft.As32())
	MOVQ(k.job(jobSrc), soloSrc)
	ADDQ(num(64), soloSrc)
	SUBQ(num(64), soloLeft)
	// J0 and four blocks are behind.
	load(k.job(jobNonce), soloCounter)
	VPAND(k.c.nonce, soloCounter.r(), soloCounter.r())
	addd(plus(k.c.first, 16*4), soloCounter, soloCounter)
	more := func(n int) (s stream) {
		k.h.slots(&s, k.keys, slotText, slotText+n, true)
		return s
	}
	// Packets with raw keys are too short for 256 blocks.
	carry := func(label string) string {
		if raw {
			return ""
		}
		return label
	}
	take := func(x v, n int) {
		emit(k.text(x, n, slot(slotText)))
		ADDQ(num(16*n), soloSrc)
		ADDQ(num(16*n), soloDst)
		SUBQ(num(16*n), soloLeft)
	}
	CMPQ(soloLeft, num(64))
	JLE(LabelRef("first4"))
	k.counters("", soloStream, 8)
	MOVL(U32(1+4+8), soloCount.As32())
	emit(k.keyStream(soloStream, 8), first())
	align()
	Label("wide")
	CMPQ(soloLeft, num(128))
	JLE(LabelRef("narrow"))
	take(soloStream, 8)
	CMPQ(soloLeft, num(64))
	JLE(LabelRef("last4"))
	k.counters(carry("wide"), soloStream, 8)
	emit(k.keyStream(soloStream, 8), more(8))
	JMP(LabelRef("wide"))
	Label("narrow")
	take(soloStream, 4)
	for i := range v(4) {
		move(soloStream+4+i, soloFirst+i)
	}
	emit(more(4))
	JMP(LabelRef("last"))
	Label("first4")
	k.counters("", soloFirst, 4)
	emit(k.keyStream(soloFirst, 4), first())
	JMP(LabelRef("last"))
	Label("last4")
	k.counters(carry("last"), soloFirst, 4)
	emit(k.keyStream(soloFirst, 4), more(8))
	Label("last")
	k.ending("last")
	xor(at(soloSlot, 0), k.h.acc, k.h.acc)
	store(k.h.acc, at(soloSlot, 0))
}

// cryptKernel1 writes a kernel. Side by side run the key schedule of the next
// packet (where keys are raw), AES of this one (H, E(J0) and the first 64 octets
// of key stream) and the end of GHASH of the one before. There all packets look
// alike: the last block to hash is the lengths', before it comes up to 64 octets
// of text, and what is missing in front of that is zeros. An unusual AAD and
// text further in front are hashed already, and their hash is in the first block.
func cryptKernel1(c *constants1, keyLen int, raw, sealing bool) {
	k := &kernel1{c: c, keyLen: keyLen, sealing: sealing}
	base, hold := "Long", areaRows(soloRows, 0)
	size := 0
	if raw {
		n := rounds(keyLen) + 1
		base, hold = "Raw", keyRows{soloRows, 0, 16, n, n + rawPowers, rawPowers}
		size = 16 * (n + 2*rawPowers)
	}
	k.keys = hold
	before := hold // when the key before is no longer needed, the one after
	before.base = soloOtherRows
	// Packets of up to 64 octets.
	hold2, before2 := hold, before
	if raw {
		hold2.most, before2.most = 2, 2
	}
	fn := name(baseName(sealing, base), keyLen)
	if raw {
		function(fn, "func(keys, jobs *byte, n int, scratch *byte)",
			fn+" takes n packets with raw keys, in order of length.")
	} else {
		function(fn, "func(keys, jobs *byte, n, shared int, scratch *byte)",
			fn+" takes n packets, in order of length. shared: jobs have the numbers of their keys; otherwise key i is for job i.")
	}
	Load(Param("keys"), keysPtr)
	Load(Param("jobs"), jobsPtr)
	Load(Param("n"), packets)
	Load(Param("scratch"), scratchPtr)

	pending, current := newHasher1(c, soloPendingHasher), newHasher1(c, soloRoundKey+1)
	// hash makes the powers that are needed, for a raw key, and hashes.
	hash := func(s *stream, h *hasher1, keys keyRows, from, to int) {
		if raw {
			s.do(func() { load(at(scratchPtr, soloRawHAt), h.acc) })
			h.powers(s, keys)
		}
		h.slots(s, keys, from, to, false)
	}
	hashShort := func() (s stream) {
		hash(&s, pending, before2, 0, slotLengths+1)
		return s
	}
	hashLonger := func() (s stream) {
		pending.slots(&s, before, slotText, slotLengths+1, false)
		return s
	}
	// schedule runs that of the next key in four registers.
	schedule := func(key v, each func(s *stream, r int, key v)) stream {
		load(at(keysPtr, 0), key)
		if keyLen == 32 {
			load(at(keysPtr, 16), key+1)
		}
		return schedule1(c, keyLen, key, key+1, key+2, key+3, each)
	}
	keep := func(s *stream, r int, key v) { s.do(func() { store(key, before.round(r)) }) }
	// nextKey moves on to the next packet's; the last one's schedule runs again, for none.
	nextKey := func() {
		LEAQ(at(keysPtr, keyLen), soloTemp)
		CMPQ(packets, num(1))
		CMOVQGT(soloTemp, keysPtr)
	}
	// head starts a packet and ends the one before.
	head := func(hash stream, first bool) {
		load(k.job(jobNonce), soloH)
		VPAND(c.nonce, soloH.r(), soloH.r())
		for i := range 5 {
			addd(plus(c.first, 16*i), soloH, soloJ0+v(i))
		}
		var s stream
		switch {
		case !raw:
			k.address()
			k.rounds(&s, soloNextOddKey, soloJ0, 5)
			emit(s, hash)
		case first:
			// Its round keys are used as they are made.
			zero(soloH)
			states := []v{soloH, soloJ0, soloFirst, soloFirst + 1, soloFirst + 2, soloFirst + 3}
			s = schedule(soloNextKey, func(s *stream, r int, key v) {
				s.do(func() { store(key, k.keys.round(r)) })
				*s = append(*s, allRound(keyLen, r, key, states, -1)...)
			})
			nextKey()
			emit(s, schedule(soloPendingHasher, keep))
		default:
			nextKey()
			k.rounds(&s, inMemory, soloH, 6)
			zero(soloH)
			emit(s, schedule(soloNextKey, keep), hash)
		}
		if raw {
			store(soloH, at(scratchPtr, soloRawHAt))
		}
		if !first {
			k.h = pending
			k.tag(soloPendingJob)
		}
		k.h = current
		MOVQ(jobsPtr, soloPendingJob)
		store(soloJ0, at(scratchPtr, soloEJ0At))
		MOVL(k.job(jobLen), soloLeft.As32())
		MOVQ(k.job(jobSrc), soloSrc)
		MOVQ(k.job(jobDst), soloDst)
	}
	// aad puts AAD in front of soloSlot; of other lengths than usual, its hash
	// into the first block of text.
	aad := func(label string) {
		MOVL(k.job(jobAADLen), soloLeft.As32())
		CMPQ(soloLeft, num(16))
		JLE(LabelRef(label + "odd"))
		CMPQ(soloLeft, num(32))
		JG(LabelRef(label + "odd"))
		x, y := k.h.x, k.h.t
		MOVQ(k.job(jobAAD), soloSrc)
		LEAQ(plus(c.shift, 32), soloTemp)
		SUBQ(soloLeft, soloTemp)
		load(at(soloSrc, 0), x)
		load(Mem{Base: soloSrc, Index: soloLeft, Scale: 1, Disp: -16}, y)
		shufb(c.bswap, x, x)
		shufb(at(soloTemp, 0), y, y)
		shufb(c.bswap, y, y)
		store(x, at(soloSlot, -32))
		store(y, at(soloSlot, -16))
		JMP(LabelRef(label + "before"))
		Label(label + "odd")
		var s stream
		hash(&s, k.h, hold2, 0, 0)
		emit(s)
		k.aad(label)
		zero(k.h.x)
		store(k.h.x, slot(0))
		store(k.h.x, slot(1))
		xor(at(soloSlot, 0), k.h.acc, k.h.acc)
		store(k.h.acc, at(soloSlot, 0))
		Label(label + "before")
	}
	next := func() {
		if raw {
			XCHGQ(soloRows, soloOtherRows)
		} else {
			MOVQ(soloRows, soloOtherRows)
		}
		ADDQ(num(jobSize), jobsPtr)
		DECQ(packets)
	}

	// The first packet has none before it.
	if raw {
		LEAQ(at(scratchPtr, soloRowsAt), soloRows)
		LEAQ(at(soloRows, size), soloOtherRows)
	}
	head(nil, true)
	CMPL(k.job(jobLen), num(64))
	JLS(LabelRef("begun"))
	JMP(LabelRef("longerbegun"))

	align()
	Label("short")
	head(hashShort(), false)
	Label("begun")
	k.ending("short")
	aad("short")
	next()
	JEQ(LabelRef("shortest"))
	CMPL(k.job(jobLen), num(64))
	JLS(LabelRef("short"))
	Label("shortest")
	emit(hashShort())
	k.h = pending
	k.tag(soloPendingJob)
	TESTQ(packets, packets)
	JEQ(LabelRef("done"))
	// Nothing is pending: hash whatever is there for a job that does not exist.
	LEAQ(at(scratchPtr, soloNoTagAt), soloTemp)
	MOVQ(soloTemp, at(scratchPtr, soloNoJobAt+jobTag))
	LEAQ(at(scratchPtr, soloNoJobAt), soloPendingJob)

	align()
	Label("longer")
	head(hashLonger(), false)
	Label("longerbegun")
	emit(k.text(soloFirst, 4, slot(slotText)))
	LEAQ(slot(slotText), soloSlot)
	ADDQ(num(64), soloDst)
	aad("longer")
	k.behind(raw, func() (s stream) {
		hash(&s, k.h, k.keys, 0, slotLengths)
		return s
	})
	next()
	JNE(LabelRef("longer"))
	emit(hashLonger())
	k.h = pending
	k.tag(soloPendingJob)

	Label("done")
	wipe1(soloRowsAt + 2*size)
	RET()
	for _, f := range k.later {
		f()
	}
}

func aesni() {
	lanes = 1
	c := makeConstants1()
	addressesKernel("Long", "Raw", "", "One")
	deriveKernel(nil)
	for _, keyLen := range []int{16, 32} {
		expandKernel1(c, keyLen)
		powersKernel1(c, keyLen)
		for _, sealing := range []bool{true, false} {
			oneKernel1(c, keyLen, sealing)
			for _, raw := range []bool{true, false} {
				cryptKernel1(c, keyLen, raw, sealing)
			}
		}
	}
}
