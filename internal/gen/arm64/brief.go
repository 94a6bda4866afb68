package main

import "fmt"

// The kernel for packets of 33 to 64 octets, which are two steps of the short kernel. It
// encrypts all blocks of four packets at once, five of each packet with E(J0), so that
// round keys are loaded once. Then it hashes the ciphertext of two packets at a time.
//
// Blocks are multiplied by H one after the other, so no other power of H is needed. The
// upper half of a block b is multiplied by H*x^64. The sum of both products,
//
//	b0*H + b1*(H*x^64), with H = H0 + H1*x^64 and H*x^64 = T0 + T1*x^64 modulo the polynomial,
//	= (b0*H0 + b1*T0) + (b0*H1 + b1*T1)*x^64
//
// has 192 bits. One more product reduces it: the upper half of the factor of x^64, times
// 0x87. Behind the folds of an expanded key are H0 and T0 in one vector, H1 and T1 in
// the next.
type briefKernel struct {
	*function
	o               variant
	keyLen          int
	sealing, shared bool
}

const factorsAt = foldsEnd // 32 octets

// Vector registers: while AAD is hashed, while blocks are encrypted, and while
// ciphertext is hashed.
const (
	briefAAD     = v(0) // to 7: the last two blocks of each lane
	briefFactors = v(8) // to 15
	briefProduct = v(16)

	briefState = v(0)  // to 19: E(J0) and four blocks of each lane
	briefKey   = v(20) // to 27: two round keys a lane; then the last one and, in odd registers, text
	briefSum   = v(28) // to 31: a lane's AAD

	briefZero, briefPoly = v(30), v(31) // except while blocks are encrypted
)

// General registers.
const (
	briefRows    = x(0) // to 3
	briefSrc     = x(4) // to 7
	briefDst     = x(8) // to 11
	briefJobs    = x(12)
	briefPackets = x(13)
	briefArea    = x(14) // mode OneShot: of these four packets
	briefTemp    = x(15) // and 16
	briefConst   = x(17)
	briefLens    = x(19) // to 22: octets of AAD, and of text in the upper half
	briefTag     = x(23) // to 26; temporary before
)

func brief(keyLen int, sealing, shared bool, o variant) {
	what, doc, whose := "open", "opens", "Key i is for job i, and needs no powers of H."
	if sealing {
		what, doc = "seal", "seals"
	}
	kind := "Brief"
	if shared {
		kind, whose = "BriefExpanded", "Jobs have the numbers of their keys."
	}
	f := begin(name(what+kind, keyLen, o), doc+" n packets of 33 to 64 octets, four at a time; n is a multiple of four. "+whose, "area *byte", "jobs *byte", "n int")
	k := &briefKernel{f, o, keyLen, sealing, shared}
	k.arg("area", briefArea)
	k.arg("jobs", briefJobs)
	k.arg("n", briefPackets)
	k.op("MOVD $short<>(SB), %v", briefConst)
	k.op("PCALIGN $16")
	k.at("four")
	k.rows()
	k.aad()
	k.encrypt()
	k.text()
	for l := 0; l < 4; l += 2 {
		k.emit(k.hash(l), k.hash(l+1))
	}
	k.op("ADD $%d, %v", 4*jobBytes, briefJobs)
	if !shared {
		k.op("ADD $%d, %v", 4*slotBytes, briefArea)
	}
	k.op("SUBS $4, %v", briefPackets)
	k.op("BNE four")
	k.leave(briefTemp, briefTemp+1, briefTag, briefTag+1, briefTag+2, briefTag+3)
	for l := range 4 {
		k.otherAAD(l)
	}
	k.parts()
}

// row is where a lane's key is, from an offset on.
func (k *briefKernel) row(l, at int) (x, int) {
	if k.shared {
		return briefRows + x(l), at
	}
	return briefRows + x(l/2), l%2*slotBytes + at // within reach of pairs of registers
}

func (k *briefKernel) rows() {
	if !k.shared {
		k.op("MOVD %v, %v", briefArea, briefRows)
		k.op("ADD $%d, %v, %v", 2*slotBytes, briefArea, briefRows+1)
		return
	}
	for l := range 4 {
		k.op("MOVWU %d(%v), %v", jobBytes*l+jobKey, briefJobs, briefTemp)
		k.op("ADD %v<<9, %v, %v", briefTemp, briefArea, briefRows+x(l)) // slotBytes is 1<<9
	}
}

func (k *briefKernel) load2(s *stream, d v, l, at int) {
	rows, at := k.row(l, at)
	s.load2(d, d+1, rows, at)
}

// times multiplies b by H. With add, it adds the product to d. p is three registers for products, factors are two;
// b is lost.
func (k *briefKernel) times(s *stream, d, b, factors, p v, add bool) {
	f, g := factors, factors+1
	s.pmull(p, b, f)
	s.pmull2(p+1, b, f)
	s.pmull(p+2, b, g)
	s.pmull2(b, b, g)
	s.xor(p+2, p+2, b)
	s.halves(b, briefZero, p+2)
	s.pmull2(p+2, p+2, briefPoly)
	s.xor3(k.o, p, p+1, b, p)
	if add {
		s.xor3(k.o, d, p, p+2, d)
	} else {
		s.xor(d, p, p+2)
	}
}

func (k *briefKernel) constants() {
	k.lines.zero(briefZero)
	k.lines.load(briefPoly, briefConst, polyAt)
}

// aad hashes the AAD. The last 32 octets of all lanes are hashed side by side.
func (k *briefKernel) aad() {
	s := &k.lines
	k.constants()
	from, t := briefTemp, briefTemp+1
	for l := range 4 {
		a, n := briefAAD+2*v(l), briefLens+x(l)
		k.op("MOVD %d(%v), %v", jobBytes*l+jobAADLen, briefJobs, n)
		k.op("LDP %d(%v), (%v, %v)", jobBytes*l+jobAAD, briefJobs, from, briefSrc+x(l))
		k.load2(s, briefFactors+2*v(l), l, factorsAt)
		k.op("CMPW $32, %v", n)
		k.op("BHI aad%d_many", l)
		k.op("CMPW $16, %v", n)
		k.op("BLS aad%d_few", l)
		s.load(a, from, 0)
		k.op("ADD %v.UXTW, %v, %v", n, from, from)
		k.op("SUB %v.UXTW, %v, %v", n, briefConst, t)
		k.end(a+1, briefProduct+v(l), from, t)
		s.rbit(a, a)
		s.rbit(a+1, a+1)
		k.at(fmt.Sprintf("aad%d_done", l))
	}
	var ss []stream
	for l := range v(4) {
		var s stream
		a, f, p := briefAAD+2*l, briefFactors+2*l, briefProduct+3*l
		k.times(&s, a+1, a, f, p, true)
		k.times(&s, briefSum+l, a+1, f, p, false) // of all lanes last
		ss = append(ss, s)
	}
	k.emit(ss...)
}

// end loads the octets from 16 on of 17 to 32, which end at p, with zeros behind them. t is
// the address of the constants less the number of octets.
func (k *briefKernel) end(d, idx v, p, t x) {
	k.op("FMOVQ -16(%v), %s", p, d.f())
	k.lines.load(idx, t, upAt+32)
	k.lines.tbl(d, d, idx)
}

// otherAAD is aad for other lengths than 17 to 32.
func (k *briefKernel) otherAAD(l int) {
	s := &k.lines
	a, n := briefAAD+2*v(l), briefLens+x(l)
	from, t, left := briefTemp, briefTemp+1, briefTag
	label := func(what string) string { return fmt.Sprintf("aad%d_%s", l, what) }
	done := label("done")

	k.at(label("few"))
	s.zero(a)
	k.op("BEQ %s", label("whole"))
	s.zero(a + 1)
	k.op("CBZW %v, %s", n, done)
	k.op("MOVWU %v, %v", n, left)
	k.loadPart(a+1, from, left, briefTag+1, briefTag+2, briefTag+3, t)
	s.rbit(a+1, a+1)
	k.op("B %s", done)
	k.at(label("whole"))
	s.load(a+1, from, 0)
	s.rbit(a+1, a+1)
	k.op("B %s", done)

	k.at(label("many"))
	k.op("MOVWU %v, %v", n, left)
	s.zero(a)
	k.at(label("more"))
	block, p := a+1, briefProduct+3*v(l)
	k.op("FMOVQ.P 16(%v), %s", from, block.f())
	s.rbit(block, block)
	s.xor(block, block, a)
	k.times(s, a, block, briefFactors+2*v(l), p, false)
	k.op("SUB $16, %v", left)
	k.op("CMP $32, %v", left)
	k.op("BHI %s", label("more"))
	s.load(p, from, 0)
	s.rbit(p, p)
	s.xor(a, a, p)
	k.op("ADD %v, %v", left, from)
	k.op("SUB %v, %v, %v", left, briefConst, t)
	k.end(a+1, p, from, t)
	s.rbit(a+1, a+1)
	k.op("B %s", done)
}

// encrypt makes E(J0), and the key stream without its last round key.
func (k *briefKernel) encrypt() {
	s := &k.lines
	one := briefKey + 7
	s.load(one, briefConst, oneAt)
	k.op("MOVD $0x01000000, %v", briefTemp)
	for l := range v(4) {
		j := briefState + 5*l
		s.load(j, briefJobs, jobBytes*int(l)+jobNonce)
		k.op("VMOV %v, %s", briefTemp, j.lane("S", 3))
		for i := range v(4) {
			s.add32(j+i+1, j+i, one)
		}
	}
	nr := rounds(k.keyLen)
	for l := range 4 {
		k.load2(s, briefKey+2*v(l), l, 0)
	}
	for r := range nr {
		for l := range v(4) {
			key := briefKey + 2*l + v(r%2)
			for i := range v(5) {
				if r < nr-1 {
					s.aes(key, briefState+5*l+i)
				} else {
					s.aesLast(key, briefState+5*l+i)
				}
			}
			if r%2 == 1 && r < nr-1 {
				k.load2(s, briefKey+2*l, int(l), 16*(r+1))
			} else if r == nr-1 {
				rows, at := k.row(int(l), 16*nr)
				s.load(briefKey+2*l, rows, at)
			}
		}
	}
	for l := range v(4) {
		s.xor(briefState+5*l, briefState+5*l, briefKey+2*l)
	}
}

// text encrypts or decrypts. Then a lane's four blocks to hash are where its key stream
// was, and the sum of the AAD is added to the first.
func (k *briefKernel) text() {
	s := &k.lines
	for l := range 4 {
		k.op("LDP %d(%v), (%v, %v)", jobBytes*l+jobDst, briefJobs, briefDst+x(l), briefTag+x(l))
	}
	k.op("LSR $32, %v, %v", briefLens, briefTemp)
	k.op("CMP $64, %v", briefTemp) // the first packet is the shortest
	k.op("BNE part")
	for l := range 4 {
		k.two(l, 0)
		k.two(l, 2)
		s.xor(briefState+5*v(l)+1, briefState+5*v(l)+1, briefSum+v(l))
	}
	k.at("hash")
	k.constants()
}

// room is where text is loaded: the odd registers of the round keys.
func (k *briefKernel) room(i int) v { return briefKey + 1 + 2*v(i) }

// two is the whole blocks i and i+1 of a lane.
func (k *briefKernel) two(l, i int) {
	s := &k.lines
	a, key, t, u := briefState+5*v(l)+1+v(i), briefKey+2*v(l), k.room(i), k.room(i+1)
	s.load2(t, u, briefSrc+x(l), 16*i)
	s.xor3(k.o, a, t, key, a)
	s.xor3(k.o, a+1, u, key, a+1)
	s.store2(a, a+1, briefDst+x(l), 16*i)
	if k.sealing {
		t, u = a, a+1
	}
	s.rbit(a, t)
	s.rbit(a+1, u)
}

// parts is text if at least one of the packets is shorter than 64 octets.
func (k *briefKernel) parts() {
	s := &k.lines
	k.at("part")
	for l := range 4 {
		a, key, sum := briefState+5*v(l)+1, briefKey+2*v(l), briefSum+v(l)
		src, dst, n, t := briefSrc+x(l), briefDst+x(l), briefTemp, briefTemp+1
		b, c := k.room(0), k.room(1)
		label := func(what string) string { return fmt.Sprintf("part%d_%s", l, what) }
		k.two(l, 0)
		s.xor(a, a, sum)
		k.op("LSR $32, %v, %v", briefLens+x(l), n)
		k.op("SUB $32, %v", n)
		k.op("ADD $32, %v", src)
		k.op("ADD $32, %v", dst)
		k.op("CMP $16, %v", n)
		k.op("BLS %s", label("one"))

		// If the packet ends in the fourth block, that part is stored together with octets before it.
		up, last := k.room(2), k.room(3)
		s.load(b, src, 0)
		k.op("ADD %v, %v", n, src)
		k.op("SUB %v, %v, %v", n, briefConst, t)
		k.end(c, up, src, t)
		s.xor3(k.o, a+2, b, key, a+2)
		s.xor3(k.o, a+3, c, key, a+3)
		k.op("ADD %v, %v, %v", briefConst, n, t)
		k.op("FMOVQ %d(%v), %s", upAt-16, t, last.f())
		k.op("VTBL %s, [%s, %s], %s", last.b(), (a + 2).b(), (a + 3).b(), last.b())
		s.store(a+2, dst, 0)
		k.op("ADD %v, %v", n, dst)
		k.op("FMOVQ %s, -16(%v)", last.f(), dst)
		if k.sealing {
			s.rbit(a+2, a+2)
			s.tbl(a+3, last, up)
			s.rbit(a+3, a+3)
		} else {
			s.rbit(a+2, b)
			s.rbit(a+3, c)
		}
		k.op("B %s", label("done"))

		// Three blocks: each goes one place back, and the first is zero.
		k.at(label("one"))
		k.op("BLO %s", label("few"))
		s.load(b, src, 0)
		s.xor3(k.o, c, b, key, a+2)
		s.store(c, dst, 0)
		if k.sealing {
			s.move(b, c)
		}
		k.op("B %s", label("three"))
		k.at(label("few"))
		k.loadPart(b, src, n, briefTag, briefTag+1, briefTag+2, briefTag+3)
		s.xor3(k.o, c, b, key, a+2)
		if k.sealing {
			k.keep(b, c, n, t)
		}
		k.storePart(c, dst, n, briefTag, briefTag+1)
		k.at(label("three"))
		s.rbit(a+3, b)
		s.move(a+2, a+1)
		s.move(a+1, a)
		s.zero(a)
		k.at(label("done"))
	}
	for l := range 4 {
		k.op("MOVD %d(%v), %v", jobBytes*l+jobTag, briefJobs, briefTag+x(l))
	}
	k.op("B hash")
}

// hash hashes a lane's ciphertext and the lengths; then its ICV is there.
func (k *briefKernel) hash(l int) (s stream) {
	a := briefState + 5*v(l) + 1
	f := briefKey + 5*v(l%2)
	p, job := f+2, jobBytes*l
	k.load2(&s, f, l, factorsAt)
	k.times(&s, a+1, a, f, p, true)
	s.op("FMOVD %v, %s", briefLens+x(l), a.f())
	s.op("VUSHLL $3, V%d.S2, %s", int(a), a.d())
	s.op("VREV64 %s, %s", a.b(), a.b())
	s.rbit(a, a)
	k.times(&s, a+2, a+1, f, p, true)
	k.times(&s, a+3, a+2, f, p, true)
	k.times(&s, a, a+3, f, p, true)
	k.times(&s, a+1, a, f, p, false)
	s.rbit(a+1, a+1)
	s.xor(a+1, a+1, a-1)
	if k.sealing {
		s.store(a+1, briefTag+x(l), 0)
	} else {
		s.compare(a+1, a, briefTag+x(l), briefTemp+x(l%2), briefJobs, job)
	}
	return s
}
