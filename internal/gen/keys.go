package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Layout of a group of four expanded keys: a row is 64 octets, one lane for
// each key. Rows 0..14 are round keys, row 15+k is H^k.
const (
	row       = 64
	rowPower  = 15 * row // H^k is k rows behind it
	powers    = 16
	groupSize = 32 * row
)

func function(name, signature, doc string) {
	TEXT(name, attr.NOSPLIT, signature)
	Pragma("noescape")
	Doc(doc)
	align() // the linker packs other functions closer
}

// deriveKernel writes AES-256-CMAC of many messages under one key.
func deriveKernel(c *constants) {
	function("derive", "func(out, msgs *byte, n, blocks int, master *byte, sub *byte)",
		"derive computes the CMACs of n messages, each of so many blocks.")
	out, msgs, n, blocks, rk, sub := reg.RDI, reg.RSI, reg.RCX, reg.RDX, reg.R8, reg.R9
	Load(Param("out"), out)
	Load(Param("msgs"), msgs)
	Load(Param("n"), n)
	Load(Param("blocks"), blocks)
	Load(Param("master"), rk)
	Load(Param("sub"), sub)
	const key, subkey = v(14), v(15)
	broadcast(at(sub, 0), subkey)
	encrypt := func(k int) {
		for r := 0; r <= 14; r++ {
			broadcast(at(rk, 16*r), key)
			for i := v(0); i < v(k); i++ {
				aesRound(r, 14, key.r(), i)
			}
		}
	}
	CMPQ(blocks, num(1))
	JNE(LabelRef("long"))

	// Eight vectors side by side, then what is left: four take as long as one.
	for _, vectors := range []int{8, 4, 1} {
		less := "rest"
		if vectors > 1 {
			less = fmt.Sprintf("below%d", vectors)
		}
		Label(fmt.Sprintf("side%d", vectors))
		CMPQ(n, num(vectors*lanes))
		JLT(LabelRef(less))
		for i := range v(vectors) {
			if vectors == 1 {
				gatherNext(msgs, 0, 1)
			} else {
				load(at(msgs, width()*int(i)), i)
			}
			xor(subkey.r(), i, i)
		}
		encrypt(vectors)
		for i := range v(vectors) {
			store(i, at(out, width()*int(i)))
		}
		ADDQ(num(vectors*width()), msgs)
		ADDQ(num(vectors*width()), out)
		SUBQ(num(vectors*lanes), n)
		if vectors != 4 {
			JMP(LabelRef(fmt.Sprintf("side%d", vectors)))
		}
		if vectors > 1 {
			Label(less)
		}
	}

	Label("long")
	step := reg.R10
	MOVQ(blocks, step)
	SHLQ(Imm(4), step)
	if lanes > 1 {
		deriveLong(out, msgs, n, blocks, rk, step, key, subkey)
	}

	// Fewer messages than lanes, or longer ones: one lane at a time.
	Label("rest")
	TESTQ(n, n)
	JLE(LabelRef("done"))
	MOVQ(blocks, step)
	SHLQ(Imm(4), step)
	Label("group")
	// Up to four messages side by side; those that are not there repeat the first.
	p := []reg.GPPhysical{reg.R11, reg.R12, reg.R13, reg.R14}
	MOVQ(msgs, p[0])
	for i := 1; i < 4; i++ {
		MOVQ(p[i-1], p[i])
		ADDQ(step, p[i])
		CMPQ(n, num(i))
		CMOVQLE(msgs, p[i])
	}
	for i := v(0); i < 4; i++ {
		VPXOR(i.x(), i.x(), i.x())
	}
	left := reg.RBX
	MOVQ(blocks, left)
	Label("block")
	for i := v(0); i < 4; i++ {
		VPXOR(at(p[i], 0), i.x(), i.x())
		ADDQ(num(16), p[i])
	}
	DECQ(left)
	JNZ(LabelRef("inner"))
	for i := v(0); i < 4; i++ {
		VPXOR(subkey.x(), i.x(), i.x())
	}
	Label("inner")
	for r := 0; r <= 14; r++ {
		VMOVDQU(at(rk, 16*r), key.x())
		for i := v(0); i < 4; i++ {
			switch r {
			case 0:
				VPXOR(key.x(), i.x(), i.x())
			case 14:
				VAESENCLAST(key.x(), i.x(), i.x())
			default:
				VAESENC(key.x(), i.x(), i.x())
			}
		}
	}
	TESTQ(left, left)
	JNZ(LabelRef("block"))
	for i := v(0); i < 4; i++ {
		VMOVDQU(i.x(), at(out, 16*int(i)))
		if i < 3 {
			CMPQ(n, num(int(i)+1))
			JLE(LabelRef("done"))
		}
	}
	ADDQ(num(64), out)
	LEAQ(Mem{Base: msgs, Index: step, Scale: 4}, msgs)
	SUBQ(num(4), n)
	JG(LabelRef("group"))
	Label("done")
	wipeLower()
	RET()
}

// deriveLong takes sixteen messages of several blocks side by side, then eight and four.
func deriveLong(out, msgs, n, blocks, rk, step reg.GPPhysical, key, subkey v) {
	p := []reg.GPPhysical{reg.R11, reg.R12, reg.R13, reg.R14} // messages 0 to 3
	four, twelve, left := reg.R15, reg.RAX, reg.RBX
	// from is the block of message i.
	from := func(i int) Mem {
		m := Mem{Base: p[i%4]}
		switch i / 4 {
		case 1:
			m.Index, m.Scale = four, 1
		case 2:
			m.Index, m.Scale = four, 2
		case 3:
			m.Index, m.Scale = twelve, 1
		}
		return m
	}
	setLaneMasks(left)
	MOVQ(step, four)
	SHLQ(Imm(2), four)
	LEAQ(Mem{Base: four, Index: four, Scale: 2}, twelve)
	for _, some := range []int{16, 8, 4} {
		label := func(what string) string { return fmt.Sprintf("%s%d", what, some) }
		count := v(some / lanes)
		Label(label("long"))
		CMPQ(n, num(some))
		if some > 4 {
			JLT(LabelRef(fmt.Sprintf("long%d", some/2)))
		} else {
			JLT(LabelRef("longdone"))
		}
		MOVQ(msgs, p[0])
		for i := 1; i < 4; i++ {
			LEAQ(Mem{Base: p[i-1], Index: step, Scale: 1}, p[i])
		}
		for i := range count {
			zero(i)
		}
		MOVQ(blocks, left)
		Label(label("longblock"))
		for i := range count {
			var m []Mem
			for l := range lanes {
				m = append(m, from(int(i)*lanes+l))
			}
			gather(m, key)
			xor(key.r(), i, i)
		}
		for i := range p {
			ADDQ(num(16), p[i])
		}
		DECQ(left)
		JNZ(LabelRef(label("longinner")))
		for i := range count {
			xor(subkey.r(), i, i)
		}
		Label(label("longinner"))
		for r := 0; r <= 14; r++ {
			broadcast(at(rk, 16*r), key)
			for i := range count {
				aesRound(r, 14, key.r(), i)
			}
		}
		TESTQ(left, left)
		JNZ(LabelRef(label("longblock")))
		for i := range count {
			store(i, at(out, width()*int(i)))
		}
		ADDQ(num(16*some), out)
		LEAQ(Mem{Base: msgs, Index: four, Scale: uint8(some / 4)}, msgs)
		SUBQ(num(some), n)
		if some == 16 {
			JMP(LabelRef("long16"))
		}
	}
	Label("longdone")
	if avx512() {
		wipeMasks(laneMask[1:])
	}
}

// nextKey is one step of the key schedule for all lanes: k becomes k, each
// word added to all that follow it, plus SubWord of word 3 of from, rotated if
// mask says so, plus rcon.
func nextKey(k, from v, mask, rcon Op, t1, t2 v) stream {
	var s stream
	s.do(func() { shufb(mask, from, t1) })
	s.do(func() { slldq(4, k, t2) })
	s.do(func() { aesLast(rcon, t1) })
	s.do(func() { xor(t2.r(), k, k) })
	s.do(func() { slldq(8, k, t2) })
	s.do(func() { xor3(t2, t1, k) })
	return s
}

// schedule512 is the key schedule of raw keys, in lanes that AES-128 or AES-256
// fills alike. Operands of shuffles may be registers or memory.
type schedule512 struct {
	keyLen           int
	key, oddKey      v // the round keys in the making; AES-128 has only the first, oddKey is a temporary
	t, u             v
	rot, even, zeros Op // constants rotword, evenwords and zeros
}

// stream makes the round keys, and calls each when one is there.
//
// Two round keys of AES-128 are made at a time, with fewer shuffles than twice
// nextKey. Let y move words up by one, and s and t be the substituted words, in
// all columns: the first is k(1+y)(1+yy) + s, the second is k(1+yy) + s in words
// 0 and 2 + t.
func (x *schedule512) stream(c *constants, each func(s *stream, r int, key v)) stream {
	var s stream
	a, b, t, u := x.key, x.oddKey, x.t, x.u
	each(&s, 0, a)
	if x.keyLen == 16 {
		for r := 1; r <= 10; r += 2 {
			s.do(func() { shufb(x.rot, a, t) })
			s.do(func() { slldq(8, a, u) })
			s.do(func() { aesLast(c.rconRow(r-1), t) })
			s.do(func() { xor(u.r(), a, b) })
			s.do(func() { slldq(4, b, a) })
			s.do(func() { xor3(b, t, a) })
			s.do(func() { VPTERNLOGQ(Imm(0x78), x.even, t.r(), b.r()) })
			each(&s, r, a)
			s.do(func() { shufb(x.rot, a, t) })
			s.do(func() { aesLast(c.rconRow(r), t) })
			s.do(func() { xor(t.r(), b, a) })
			each(&s, r+1, a)
		}
		return s
	}
	each(&s, 1, b)
	for r := 2; r <= 14; r++ {
		next, from, rcon := a, b, Op(c.rconRow(r/2-1))
		if r%2 == 1 {
			next, from, rcon = b, a, x.zeros
		}
		if r%2 == 0 {
			s.do(func() { shufb(x.rot, from, t) })
		} else {
			s.do(func() { VPSHUFD(Imm(0xff), from.r(), t.r()) })
		}
		s.do(func() { slldq(4, next, u) })
		s.do(func() { aesLast(rcon, t) })
		s.do(func() { xor(u.r(), next, next) })
		s.do(func() { slldq(8, next, u) })
		s.do(func() { xor3(t, u, next) })
		each(&s, r, next)
	}
	return s
}

// broadcastWord loads a 32-bit word into every word.
func broadcastWord(m Mem, d v) { VPBROADCASTD(m, d.r()) }

// loadKeys512 loads the keys of a group: into a, for keys of 32 octets into a and b. With
// masked, K4 and K5 say which octets there are, and no others are read.
func loadKeys512(keys reg.GPPhysical, keyLen int, a, b, t v, masked bool) {
	if keyLen == 16 {
		if masked {
			VMOVDQU64_Z(at(keys, 0), reg.K4, a.r())
		} else {
			load(at(keys, 0), a)
		}
		return
	}
	if masked {
		VMOVDQU64_Z(at(keys, 0), reg.K4, t.r())
		VMOVDQU64_Z(at(keys, 64), reg.K5, b.r())
	} else {
		load(at(keys, 0), t)
		load(at(keys, 64), b)
	}
	VSHUFI64X2(Imm(0x88), b.r(), t.r(), a.r())
	VSHUFI64X2(Imm(0xdd), b.r(), t.r(), b.r())
}

// keyMasks sets K4 and K5 to the qwords of n keys, n < 4.
func keyMasks(n reg.GPPhysical, keyLen int, t1, t2 reg.GPPhysical) {
	MOVQ(n, t1)
	if keyLen == 16 {
		SHLQ(Imm(1), t1)
	} else {
		SHLQ(Imm(2), t1)
	}
	MOVQ(I32(-1), t2)
	BZHIQ(t1, t2, t2)
	KMOVB(t2.As32(), reg.K4)
	if keyLen == 32 {
		SHRQ(Imm(8), t2)
		KMOVB(t2.As32(), reg.K5)
	}
}

// expandKernel512 writes the key schedules of groups of keys.
func expandKernel512(c *constants, keyLen int) {
	function(name("expand", keyLen), "func(area, keys *byte, n int)",
		name("expand", keyLen)+" writes the round keys of n keys to an area.")
	area, keys, n := reg.RDI, reg.RSI, reg.RCX
	Load(Param("area"), area)
	Load(Param("keys"), keys)
	Load(Param("n"), n)
	const rot, last, none, rc = v(31), v(30), v(29), v(28)
	broadcast(c.rot, rot)
	broadcast(c.last, last)
	zero(none)
	// Registers of group g: key a (and b), two temporaries.
	a := func(g int) v { return v(4 * g) }
	b := func(g int) v { return v(4*g + 1) }
	t := func(g int) v { return v(4*g + 2) }
	u := func(g int) v { return v(4*g + 3) }
	schedule := func(groups int) {
		put := func(r int, reg func(int) v) {
			for g := range groups {
				storeA(reg(g), at(area, g*groupSize+r*row))
			}
		}
		put(0, a)
		if keyLen == 16 {
			for r := 1; r <= 10; r++ {
				broadcastWord(plus(c.rcon, 4*(r-1)), rc)
				var ss []stream
				for g := range groups {
					ss = append(ss, nextKey(a(g), a(g), rot.r(), rc.r(), t(g), u(g)))
				}
				emit(ss...)
				put(r, a)
			}
			return
		}
		put(1, b)
		for r := 2; r <= 14; r++ {
			var ss []stream
			for g := range groups {
				if r%2 == 0 {
					ss = append(ss, nextKey(a(g), b(g), rot.r(), rc.r(), t(g), u(g)))
				} else {
					ss = append(ss, nextKey(b(g), a(g), last.r(), none.r(), t(g), u(g)))
				}
			}
			if r%2 == 0 {
				broadcastWord(plus(c.rcon, 4*(r/2-1)), rc)
			}
			emit(ss...)
			if r%2 == 0 {
				put(r, a)
			} else {
				put(r, b)
			}
		}
	}
	Label("four")
	CMPQ(n, num(16))
	JLT(LabelRef("one"))
	for g := range 4 {
		MOVQ(keys, reg.RAX)
		ADDQ(num(g*4*keyLen), reg.RAX)
		loadKeys512(reg.RAX, keyLen, a(g), b(g), t(g), false)
	}
	schedule(4)
	ADDQ(num(4*groupSize), area)
	ADDQ(num(16*keyLen), keys)
	SUBQ(num(16), n)
	JMP(LabelRef("four"))
	Label("one")
	CMPQ(n, num(4))
	JLT(LabelRef("part"))
	loadKeys512(keys, keyLen, a(0), b(0), t(0), false)
	Label("last")
	schedule(1)
	ADDQ(num(groupSize), area)
	ADDQ(num(4*keyLen), keys)
	SUBQ(num(4), n)
	JMP(LabelRef("one"))
	Label("part")
	TESTQ(n, n)
	JLE(LabelRef("done"))
	keyMasks(n, keyLen, reg.RAX, reg.RBX)
	loadKeys512(keys, keyLen, a(0), b(0), t(0), true)
	JMP(LabelRef("last"))
	Label("done")
	wipeRegisters()
	RET()
}

// findKey leaves in tempA where the rows of a packet's key begin: the one that its
// job names if the caller says so, else that of its index. It uses tempE.
func findKey(label string) {
	MOVQ(longIndex, tempA)
	CMPQ(Param2("shared"), Imm(0))
	JEQ(LabelRef(label + "mine"))
	MOVL(job(0, jobKey), tempA.As32())
	Label(label + "mine")
	rowsOf(tempA, tempE)
}

// rowsOf turns the number of an expanded key into the address of its rows:
//
//	keysPtr + number/4*groupSize + number%4*16
func rowsOf(number, t reg.GPPhysical) {
	MOVQ(number, t)
	ANDQ(Imm(3), t)
	SHRQ(Imm(2), number)
	SHLQ(Imm(7), number) // groupSize/16
	ADDQ(t, number)
	SHLQ(Imm(4), number)
	ADDQ(keysPtr, number)
}

// allRound is round r of AES with one key on many states, of which empty is
// the one that holds nothing before round 0.
func allRound(keyLen, r int, key v, states []v, empty v) stream {
	var s stream
	for _, x := range states {
		if r == 0 && x == empty {
			s.do(func() { move(key, x) })
		} else {
			s.do(func() { aesRound(r, rounds(keyLen), key.r(), x) })
		}
	}
	return s
}
