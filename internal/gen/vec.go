package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// A lane is 16 octets: one block of one packet. lanes is how many lanes a vector of the
// present backend has. Four lanes mean AVX-512, with 32 registers, masks and ternary logic.
var lanes int

func avx512() bool { return lanes == 4 }

// width is a vector's length in octets.
func width() int { return 16 * lanes }

var (
	xmm = []reg.VecPhysical{reg.X0, reg.X1, reg.X2, reg.X3, reg.X4, reg.X5, reg.X6, reg.X7, reg.X8, reg.X9, reg.X10, reg.X11, reg.X12, reg.X13, reg.X14, reg.X15,
		reg.X16, reg.X17, reg.X18, reg.X19, reg.X20, reg.X21, reg.X22, reg.X23, reg.X24, reg.X25, reg.X26, reg.X27, reg.X28, reg.X29, reg.X30, reg.X31}
	ymm = []reg.VecPhysical{reg.Y0, reg.Y1, reg.Y2, reg.Y3, reg.Y4, reg.Y5, reg.Y6, reg.Y7, reg.Y8, reg.Y9, reg.Y10, reg.Y11, reg.Y12, reg.Y13, reg.Y14, reg.Y15,
		reg.Y16, reg.Y17, reg.Y18, reg.Y19, reg.Y20, reg.Y21, reg.Y22, reg.Y23, reg.Y24, reg.Y25, reg.Y26, reg.Y27, reg.Y28, reg.Y29, reg.Y30, reg.Y31}
	zmm = []reg.VecPhysical{reg.Z0, reg.Z1, reg.Z2, reg.Z3, reg.Z4, reg.Z5, reg.Z6, reg.Z7, reg.Z8, reg.Z9, reg.Z10, reg.Z11, reg.Z12, reg.Z13, reg.Z14, reg.Z15,
		reg.Z16, reg.Z17, reg.Z18, reg.Z19, reg.Z20, reg.Z21, reg.Z22, reg.Z23, reg.Z24, reg.Z25, reg.Z26, reg.Z27, reg.Z28, reg.Z29, reg.Z30, reg.Z31}
)

// v is the number of a vector register.
type v int

// r is the register in the backend's width.
func (x v) r() reg.VecPhysical {
	switch lanes {
	case 4:
		return zmm[x]
	case 2:
		return ymm[x]
	}
	return xmm[x]
}

func (x v) x() reg.VecPhysical { return xmm[x] }
func (x v) y() reg.VecPhysical { return ymm[x] }

// at is the memory at base+disp.
func at(base reg.GPPhysical, disp int) Mem { return Mem{Base: base, Disp: disp} }

// A stream is a sequence of instructions to be emitted later, interleaved with other
// streams.
type stream []func()

func (s *stream) do(f func()) { *s = append(*s, f) }

// emit interleaves streams, each spread evenly over the longest one.
func emit(ss ...stream) {
	most := 0
	for _, s := range ss {
		most = max(most, len(s))
	}
	done := make([]int, len(ss))
	for i := 1; i <= most; i++ {
		for k, s := range ss {
			for ; done[k] < i*len(s)/most; done[k]++ {
				s[done[k]]()
			}
		}
	}
}

// beside joins streams, interleaved.
func beside(ss ...stream) (all stream) {
	var record []stream
	for _, s := range ss {
		var r stream
		for _, f := range s {
			r.do(func() { all.do(f) })
		}
		record = append(record, r)
	}
	emit(record...)
	return all
}

// The operations that differ between the widths. Operands are in Go's order:
// the destination comes last.

func load(m Mem, d v) {
	if avx512() {
		VMOVDQU64(m, d.r())
	} else {
		VMOVDQU(m, d.r())
	}
}

func store(s v, m Mem) {
	if avx512() {
		VMOVDQU64(s.r(), m)
	} else {
		VMOVDQU(s.r(), m)
	}
}

// loadA and storeA are for memory that is aligned to the width.
func loadA(m Mem, d v) {
	if avx512() {
		VMOVDQA64(m, d.r())
	} else {
		VMOVDQA(m, d.r())
	}
}

func storeA(s v, m Mem) {
	if avx512() {
		VMOVDQA64(s.r(), m)
	} else {
		VMOVDQA(s.r(), m)
	}
}

func move(s, d v) {
	if avx512() {
		VMOVDQA64(s.r(), d.r())
	} else {
		VMOVDQA(s.r(), d.r())
	}
}

// broadcast loads a block into every lane.
func broadcast(m Mem, d v) {
	switch lanes {
	case 4:
		VBROADCASTI32X4(m, d.r())
	case 2:
		VBROADCASTI128(m, d.r())
	default:
		VMOVDQU(m, d.r())
	}
}

// gather loads one block into each lane.
func gather(m []Mem, d v) {
	switch lanes {
	case 4:
		VBROADCASTI32X4(m[0], d.r())
		for i, k := range []reg.OpmaskPhysical{laneMask[1], laneMask[2], laneMask[3]} {
			VBROADCASTI32X4(m[i+1], k, d.r())
		}
	case 2:
		VMOVDQU(m[0], d.x())
		VINSERTI128(Imm(1), m[1], d.y(), d.y())
	default:
		VMOVDQU(m[0], d.r())
	}
}

// gatherNext loads lanes blocks that lie behind one another, each by itself: a wider load would wait
// until the stores that wrote them a moment before have reached the cache. t is a temporary.
func gatherNext(p reg.GPPhysical, d, t v) {
	if lanes != 4 {
		gather([]Mem{at(p, 0), at(p, 16)}, d)
		return
	}
	for i, x := range []v{d, t} {
		VMOVDQU(at(p, 32*i), x.x())
		VINSERTI128(Imm(1), at(p, 32*i+16), x.y(), x.y())
	}
	VINSERTI64X4(Imm(1), t.y(), d.r(), d.r())
}

// laneMask are the mask registers that pick one lane, four dwords each.
var laneMask = [4]reg.OpmaskPhysical{1: reg.K1, 2: reg.K2, 3: reg.K3}

// setLaneMasks sets laneMask; t is a temporary.
func setLaneMasks(t reg.GPPhysical) {
	if !avx512() {
		return
	}
	for i := 1; i < 4; i++ {
		MOVL(U32(0xF<<(4*i)), t.As32())
		KMOVW(t.As32(), laneMask[i])
	}
}

func xor(a Op, b, d v) {
	if avx512() {
		VPXORQ(a, b.r(), d.r())
	} else {
		VPXOR(a, b.r(), d.r())
	}
}

// xor3 adds a and b to d.
// aesRound is round r of AES, of which last is the last one. Round 0 adds its key.
func aesRound(r, last int, key Op, s v) {
	switch r {
	case 0:
		xor(key, s, s)
	case last:
		aesLast(key, s)
	default:
		aes(key, s)
	}
}

func xor3(a, b, d v) {
	if avx512() {
		VPTERNLOGQ(Imm(0x96), a.r(), b.r(), d.r())
	} else {
		VPXOR(a.r(), d.r(), d.r())
		VPXOR(b.r(), d.r(), d.r())
	}
}

func aes(key Op, s v)               { VAESENC(key, s.r(), s.r()) }
func aesLast(key Op, s v)           { VAESENCLAST(key, s.r(), s.r()) }
func clmul(imm int, a Op, b v, d v) { VPCLMULQDQ(Imm(uint64(imm)), a, b.r(), d.r()) }
func shufb(mask Op, s, d v)         { VPSHUFB(mask, s.r(), d.r()) }
func slldq(n int, s, d v)           { VPSLLDQ(Imm(uint64(n)), s.r(), d.r()) }
func addd(a Op, b, d v)             { VPADDD(a, b.r(), d.r()) }
func zero(d v) {
	if avx512() {
		VPXORD(d.x(), d.x(), d.x())
	} else {
		VPXOR(d.x(), d.x(), d.x())
	}
}

// wipeScratch zeroes n octets of scratch memory from p on, four vectors at a time; it changes p, t and x.
func wipeScratch(x v, p, t reg.GPPhysical, n int) {
	const vectors = 4
	n = (n + width() - 1) / width()
	zero(x)
	for i := range n % vectors {
		storeA(x, at(p, n/vectors*vectors*width()+i*width()))
	}
	MOVL(U32(uint32(n/vectors)), t.As32())
	Label("wipe")
	for i := range vectors {
		storeA(x, at(p, i*width()))
	}
	ADDQ(num(vectors*width()), p)
	DECL(t.As32())
	JNE(LabelRef("wipe"))
}

// masks are AVX-512's mask registers; K0 is none, and nothing uses it.
var masks = []reg.OpmaskPhysical{reg.K1, reg.K2, reg.K3, reg.K4, reg.K5, reg.K6, reg.K7}

// wipeRegisters zeroes all vector registers. VZEROALL is microcode on Zen 4 and takes
// 1.4 ns; these instructions take 0.5.
func wipeRegisters() {
	if avx512() {
		for i := v(16); i < 32; i++ {
			VPXORD(i.x(), i.x(), i.x())
		}
		wipeMasks(masks)
	}
	wipeLower()
}

// wipeLower zeroes vector registers 0 to 15, for kernels that use no others.
func wipeLower() {
	if avx512() {
		for i := v(0); i < 16; i++ {
			VPXOR(v(0).x(), v(0).x(), i.x())
		}
		VZEROUPPER()
		return
	}
	VZEROALL()
}

func wipeMasks(some []reg.OpmaskPhysical) {
	for _, k := range some {
		KXORQ(k, k, k)
	}
}

// constants names the read-only data of the backend.
type constants struct {
	bswap, poly, rot, last, one, nonce, rcon, lens, carry, fromSix, diagonal, columns, turned, fourths, four, bits, pick, even, rcons Mem
	lanes, fours, words, edge, carryRow, zeros                                                                                        Mem // of single packets
}

// block makes a constant of 16 octets.
func block(name string, lo, hi uint64) Mem {
	m := GLOBL(name, rodata)
	DATA(0, U64(lo))
	DATA(8, U64(hi))
	return m
}

// lanesOf makes a vector with a number in the low word of each lane.
func lanesOf(name string, n ...uint64) Mem {
	m := GLOBL(name, rodata)
	for i, x := range n {
		DATA(16*i, U64(x))
		DATA(16*i+8, U64(0))
	}
	return m
}

func makeConstants() constants {
	var c constants
	c.bswap = block("bswap", 0x08090a0b0c0d0e0f, 0x0001020304050607)
	c.poly = block("poly", 1, 0xc200000000000000)
	c.carry = block("carry", 1, 0xc200000000000001)
	c.rot = block("rotword", 0x0c0f0e0d0c0f0e0d, 0x0c0f0e0d0c0f0e0d)           // word 3, rotated, in all columns
	c.last = block("lastword", 0x0f0e0d0c0f0e0d0c, 0x0f0e0d0c0f0e0d0c)         // word 3 in all columns
	c.one = block("one", 0, 0x0100000000000000)                                // 1 in a big-endian counter's last octet
	c.nonce = block("nonce", ^uint64(0), 0x00000000ffffffff)                   // without the counter
	c.lens = block("lens", 0x8080808007060504, 0x8080808003020100)             // Len, AADLen of a job as two 64-bit numbers
	c.diagonal = everyLane("diagonal", 0x0f0a05000f0a0500, 0x0f0a05000f0a0500) // what a round brings to the first column, in all columns
	c.columns = GLOBL("columns", rodata)                                       // of the last octets, counters: a round brings 4*j+l to column j of lane l
	for i := range 16 {
		DATA(4*i, U32(uint32((i+1)%4*4+i/4)<<24))
	}
	c.fromSix = GLOBL("fromsix", rodata) // as last octets of a lane's columns
	for i := range 16 {
		DATA(4*i, U32(uint32(6+i/4)<<24))
	}
	c.turned = block("turned", 0x2332011013223100, 0x312213033021120) // for a round to bring what is in lane i to column i
	c.fourths = block("fourths", 0x400000000, 0xc00000008)            // words 0, 4, 8 and 12
	c.four = block("four", 4<<24, 0)
	c.bits = block("bits", ^uint64(0), 64)
	c.pick = GLOBL("pick", rodata)
	for i := range 16 { // lanes 0, 2, 0, 2, then 1, 3, 1, 3; the latter two of the second vector
		lane := uint64(i/8 + i/2%2*2)
		from := lane*16 + uint64(i/4%2)*64
		for b := range 8 {
			DATA(8*i+b, U8(from+15-uint64(i%2*8+b)))
		}
	}
	c.even = block("evenwords", 0xffffffff, 0xffffffff)
	c.rcons = GLOBL("rcons", rodata)
	for i, x := 0, uint32(1); i < 10; i, x = i+1, x<<1^x>>7*0x11b {
		for w := range 16 {
			DATA(i*row+4*w, U32(x))
		}
	}
	c.lanes = lanesOf("lanes", 0, 1, 2, 3)
	c.fours = lanesOf("fours", 4, 4, 4, 4)
	c.words = GLOBL("words", rodata) // -8 to -1, and from plus(64) on 0 to 31
	for i := range 40 {
		DATA(8*i, U64(uint64(i-8)))
	}
	c.words = plus(c.words, 64)
	c.edge = GLOBL("edge", rodata) // from octet 32-n on: 8*n bits that are clear, then others
	for i := range 8 {
		DATA(8*i, U64(-uint64(i/4)))
	}
	c.carryRow = everyLane("carries", 1, 0xc200000000000001)
	c.zeros = everyLane("zeros", 0, 0)
	c.rcon = GLOBL("rcon", rodata)
	x := uint32(1)
	for i := range 10 {
		DATA(4*i, U32(x))
		x = x<<1 ^ x>>7*0x11b
	}
	return c
}

// bits64 is the number 64 in memory.
func (c *constants) bits64() Mem { return plus(c.bits, 8) }

// rconRow is a round constant in all words of a vector of four lanes.
func (c *constants) rconRow(i int) Mem { return plus(c.rcons, i*row) }

// plus adds n octets to a memory operand's address.
func plus(m Mem, n int) Mem {
	m.Disp += n
	return m
}

// Offsets of kernel.Job; libeesp/layout.go pins them.
const (
	jobAAD, jobSrc, jobDst, jobTag             = 0, 8, 16, 24
	jobAADLen, jobLen, jobKey, jobOK, jobNonce = 32, 36, 40, 44, 48
	jobHead                                    = 60 // Reserved: see long.go
	jobSize                                    = 64
)

// baseName is the first part of the names of functions that seal or open.
func baseName(sealing bool, kind string) string {
	if sealing {
		return "seal" + kind
	}
	return "open" + kind
}

func name(base string, keyLen int) string { return fmt.Sprintf("%s%d", base, keyLen*8) }

func rounds(keyLen int) int { return keyLen/4 + 6 }

// num is an immediate operand of the size that instructions on 64-bit
// registers take.
func num(n int) Op {
	if n < 128 {
		return Imm(uint64(n))
	}
	return I32(int32(n))
}
