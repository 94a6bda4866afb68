package main

import "fmt"

// The kernel for short packets: four packets side by side, each a lane with its own key.
// A step takes two blocks of each lane, eight at once. While they are encrypted, the two
// pending blocks of each lane are hashed with two powers of H. Pending are first the last
// blocks of the AAD, then the ciphertext of the step before. If there is only one block,
// it is the second, and the first is 0. The blocks of the last step and the lengths are
// hashed while E(J0) of the next four packets is made.
//
// All four packets have the same number of steps.
type shortKernel struct {
	*function
	o       variant
	keyLen  int
	sealing bool
	h       hasher
}

// Vector registers.
const (
	shortState   = v(0)  // to 7: two a lane
	shortKey     = v(8)  // to 15: two round keys a lane
	shortPending = v(16) // to 23: two blocks a lane to hash; the lane's sum is added to the first
	shortText    = v(24) // to 31, while the hasher does not use them
)

// General registers.
const (
	shortRows    = x(0)  // to 3
	shortSrc     = x(4)  // to 7; at the end of four packets, their rows
	shortDst     = x(8)  // to 11
	shortJobs    = x(12) // of these four packets
	shortPackets = x(13)
	shortScratch = x(14) // 64 octets: E(J0)
	shortSteps   = x(15)
	shortCount   = x(16)
	shortConst   = x(17)
	shortArea    = x(19)
	shortNext    = x(20) // rows of the next key, if jobs have no numbers of keys
	shortShared  = x(21)
	shortTemp    = x(22) // to 25: temporary
	shortTemp5   = x(26)
)

// Offsets from shortConst.
const (
	polyAt = 0
	oneAt  = 16 // 1 in a counter's last octet
	upAt   = 32 // 0, 1, .. 31
)

func shortConstants() {
	words := []uint64{0x87, 0x87, 0, 0x0100000000000000}
	for i := range 2 {
		var o [16]byte
		for j := range o {
			o[j] = byte(16*i + j)
		}
		words = append(words, octets(o)...)
	}
	constant("short", words...)
}

func short(keyLen int, sealing bool, o variant) {
	what, doc := "openShort", "opens"
	if sealing {
		what, doc = "sealShort", "seals"
	}
	f := begin(name(what, keyLen, o),
		doc+" n packets, four at a time; n is a multiple of four, and the four have equally many steps of 32 octets. shared: jobs have the numbers of their keys; otherwise key i is for job i.",
		"area *byte", "jobs *byte", "n int", "shared int", "scratch *byte")
	k := &shortKernel{f, o, keyLen, sealing, hasher{o: o, lo: shortText, mid: shortText + 1, hi: shortText + 2, t: shortText + 3, poly: shortText + 5, polyFrom: shortConst}}
	k.arg("area", shortArea)
	k.arg("jobs", shortJobs)
	k.arg("n", shortPackets)
	k.arg("shared", shortShared)
	k.arg("scratch", shortScratch)
	k.op("MOVD $short<>(SB), %v", shortConst)
	k.op("MOVD %v, %v", shortArea, shortNext)
	k.rows()
	k.emit(k.masks())
	k.keepMasks()
	k.op("B start")

	k.at("four")
	for l := range x(4) {
		k.op("MOVD %v, %v", shortRows+l, shortSrc+l)
	}
	k.rows()
	k.emit(k.masks(), k.finish(shortSrc))
	k.keepMasks()
	k.at("start")
	for l := range 4 {
		k.aad(l)
	}
	for l := range 4 {
		k.op("MOVD %d(%v), %v", jobBytes*l+jobSrc, shortJobs, shortSrc+x(l))
		k.op("MOVD %d(%v), %v", jobBytes*l+jobDst, shortJobs, shortDst+x(l))
	}
	k.op("MOVWU %d(%v), %v", jobLen, shortJobs, shortSteps)
	k.op("ADD $31, %v", shortSteps)
	k.op("LSR $5, %v", shortSteps)
	k.op("MOVD $2, %v", shortCount)
	k.op("CBZ %v, ended", shortSteps)

	k.op("PCALIGN $16")
	k.at("step")
	k.emit(k.encrypt(), k.hash(shortRows))
	k.op("SUB $1, %v", shortSteps)
	k.op("CBNZ %v, full", shortSteps)
	// The first packet has the shortest last step.
	k.op("MOVWU %d(%v), %v", jobLen, shortJobs, shortTemp)
	k.op("TST $31, %v", shortTemp)
	k.op("BNE part")
	k.at("full")
	k.text()
	k.op("CBNZ %v, step", shortSteps)
	k.op("B ended")
	k.at("part")
	for l := range 4 {
		k.part(l)
	}

	k.at("ended")
	k.op("ADD $%d, %v", 4*jobBytes, shortJobs)
	k.op("ADD $%d, %v", 4*slotBytes, shortNext)
	k.op("SUBS $4, %v", shortPackets)
	k.op("BNE four")
	k.emit(k.finish(shortRows))
	k.lines.zero(0)
	k.lines.store2(0, 0, shortScratch, 0)
	k.lines.store2(0, 0, shortScratch, 32)
	k.leave(shortTemp, shortTemp+1, shortTemp+2, shortTemp+3, shortTemp5)
	for l := range 4 {
		k.manyAAD(l)
	}
}

// rows finds the four packets' keys.
func (k *shortKernel) rows() {
	for l := range 4 {
		k.op("MOVWU %d(%v), %v", jobBytes*l+jobKey, shortJobs, shortTemp)
		k.op("ADD %v<<9, %v, %v", shortTemp, shortArea, shortTemp+1) // slotBytes is 1<<9
		k.op("ADD $%d, %v, %v", l*slotBytes, shortNext, shortTemp)
		k.op("CMP $0, %v", shortShared)
		k.op("CSEL NE, %v, %v, %v", shortTemp+1, shortTemp, shortRows+x(l))
	}
}

// cipher runs AES over n states of each lane, except for adding the last round keys, which
// are then in the first of each lane's two registers of keys.
func (k *shortKernel) cipher(s *stream, n v) {
	nr := rounds(k.keyLen)
	load := func(r int, l v) {
		if r < nr {
			s.load2(shortKey+2*l, shortKey+2*l+1, shortRows+x(l), 16*r)
		} else {
			s.load(shortKey+2*l, shortRows+x(l), 16*r)
		}
	}
	for l := range v(4) {
		load(0, l)
	}
	for r := range nr {
		for l := range v(4) {
			key := shortKey + 2*l + v(r%2)
			for i := range n {
				if r < nr-1 {
					s.aes(key, shortState+n*l+i)
				} else {
					s.aesLast(key, shortState+n*l+i)
				}
			}
			if r%2 == 1 {
				load(r+1, l)
			}
		}
	}
}

// masks makes E(J0), without the last round key, in states 0 to 3.
func (k *shortKernel) masks() (s stream) {
	s.op("MOVD $0x01000000, %v", shortTemp5)
	for l := range v(4) {
		s.load(shortState+l, shortJobs, jobBytes*int(l)+jobNonce)
		s.op("VMOV %v, %s", shortTemp5, (shortState+l).lane("S", 3))
	}
	k.cipher(&s, 1)
	return s
}

func (k *shortKernel) keepMasks() {
	for l := range v(4) {
		k.lines.xor(shortState+l, shortState+l, shortKey+2*l)
		k.lines.store(shortState+l, shortScratch, 16*int(l))
	}
}

// encrypt makes the key stream of a step, without the last round key.
func (k *shortKernel) encrypt() (s stream) {
	one := shortKey + 7
	s.load(one, shortConst, oneAt)
	s.op("REVW %v, %v", shortCount, shortTemp5)
	s.op("ADD $2, %v", shortCount)
	for l := range v(4) {
		s.load(shortState+2*l, shortJobs, jobBytes*int(l)+jobNonce)
		s.op("VMOV %v, %s", shortTemp5, (shortState+2*l).lane("S", 3))
		s.add32(shortState+2*l+1, shortState+2*l, one)
	}
	k.cipher(&s, 2)
	return s
}

// hash hashes the pending blocks; a lane's sum is then in its first block.
func (k *shortKernel) hash(rows x) (s stream) {
	for l := range v(4) {
		k.hashLane(&s, rows, l)
	}
	return s
}

func (k *shortKernel) hashLane(s *stream, rows x, l v) {
	q := shortPending + 2*l
	k.h.acc = q
	k.h.pair(s, rows+x(l), q, q+1, 2, true)
	k.h.reduce(s)
}

// finish hashes the pending blocks of the four packets before and the lengths, and makes
// their ICVs.
func (k *shortKernel) finish(rows x) (s stream) {
	for l := range v(4) {
		k.hashLane(&s, rows, l)
	}
	for l := range v(4) {
		q, job := shortPending+2*l, jobBytes*(int(l)-4)
		h := &k.h
		h.acc = q
		p, fold, t, b, rows := h.t, h.t+1, h.t+2, q+1, rows+x(l)
		s.lengths(b, shortJobs, job)
		s.load(p, rows, powersEnd-16)
		s.op("FMOVD %d(%v), %s", foldsEnd-8, rows, fold.f())
		s.xor(b, b, q)
		s.halves(t, b, b)
		s.xor(t, t, b)
		s.pmull(h.lo, b, p)
		s.pmull2(h.hi, b, p)
		s.pmull(h.mid, t, fold)
		h.reduce(&s)
		s.load(b, shortScratch, 16*int(l))
		s.rbit(q, q)
		s.xor(q, q, b)
		s.op("MOVD %d(%v), %v", job+jobTag, shortJobs, shortTemp)
		if k.sealing {
			s.store(q, shortTemp, 0)
		} else {
			s.compare(q, b, shortTemp, shortTemp+1, shortJobs, job)
		}
	}
	return s
}

// aad leaves the last 1 to 32 octets of a lane's AAD pending, and hashes all before.
func (k *shortKernel) aad(l int) {
	q, t, u := shortPending+2*v(l), shortText, shortText+1
	from, n := shortTemp, shortTemp+1
	label := func(what string) string { return fmt.Sprintf("aad%d_%s", l, what) }
	s := &k.lines
	k.op("MOVD %d(%v), %v", jobBytes*l+jobAAD, shortJobs, from)
	k.op("MOVWU %d(%v), %v", jobBytes*l+jobAADLen, shortJobs, n)
	s.zero(q)
	k.op("CMP $32, %v", n)
	k.op("BGT %s", label("many"))
	k.at(label("last"))
	k.op("CMP $16, %v", n)
	k.op("BGT %s", label("two"))
	k.op("BEQ %s", label("whole"))
	s.zero(q + 1)
	k.op("CBZ %v, %s", n, label("done"))
	k.loadPart(q+1, from, n, shortTemp+2, shortTemp+3, shortTemp5, shortCount)
	k.op("B %s", label("one"))
	k.at(label("whole"))
	s.load(q+1, from, 0)
	k.at(label("one"))
	s.rbit(q+1, q+1)
	s.xor(q+1, q+1, q)
	s.zero(q)
	k.op("B %s", label("done"))
	k.at(label("two"))
	s.load(t, from, 0)
	k.end(q+1, u, from, n)
	s.rbit(t, t)
	s.xor(q, q, t)
	s.rbit(q+1, q+1)
	k.at(label("done"))
}

// end loads octets 16 to n-1 of those at p, 17 <= n <= 32, with zeros behind them: it loads
// the last 16 and shifts them by indices, which stay in idx. p is lost.
func (k *shortKernel) end(d, idx v, p, n x) {
	s := &k.lines
	k.op("ADD %v, %v", n, p)
	k.op("FMOVQ -16(%v), %s", p, d.f())
	k.op("MOVD $32, %v", shortTemp+2)
	k.op("SUB %v, %v", n, shortTemp+2)
	k.op("ADD %v, %v", shortConst, shortTemp+2)
	s.load(idx, shortTemp+2, upAt)
	s.tbl(d, d, idx)
}

// manyAAD hashes AAD until 1 to 32 octets are left.
func (k *shortKernel) manyAAD(l int) {
	q, t := shortPending+2*v(l), shortText
	many := fmt.Sprintf("aad%d_many", l)
	s := &k.lines
	k.at(many)
	k.op("FLDPQ.P 32(%v), (%s, %s)", shortTemp, t.f(), (q + 1).f())
	s.rbit(t, t)
	s.xor(q, q, t)
	s.rbit(q+1, q+1)
	k.hashLane(s, shortRows, v(l))
	k.op("SUB $32, %v", shortTemp+1)
	k.op("CMP $32, %v", shortTemp+1)
	k.op("BGT %s", many)
	k.op("B aad%d_last", l)
}

// crypt sets d to block a of text, xor the key stream in state and the last round key of lane l.
func (k *shortKernel) crypt(d, a, state v, l int) { k.lines.xor3(k.o, d, a, shortKey+2*v(l), state) }

// text encrypts or decrypts a whole step.
func (k *shortKernel) text() {
	s := &k.lines
	for l := range 4 {
		t := shortText + 2*v(l)
		k.op("FLDPQ.P 32(%v), (%s, %s)", shortSrc+x(l), t.f(), (t + 1).f())
	}
	for l := range 4 {
		t, a, q := shortText+2*v(l), shortState+2*v(l), shortPending+2*v(l)
		k.crypt(a, t, a, l)
		k.crypt(a+1, t+1, a+1, l)
		k.op("FSTPQ.P (%s, %s), 32(%v)", a.f(), (a + 1).f(), shortDst+x(l))
		c := t
		if k.sealing {
			c = a
		}
		s.rbit(t, c)
		s.rbit(q+1, c+1)
		s.xor(q, q, t)
	}
}

// part is a lane's last step of 1 to 32 octets.
func (k *shortKernel) part(l int) {
	t, a, q := shortText, shortState+2*v(l), shortPending+2*v(l)
	src, dst, n := shortSrc+x(l), shortDst+x(l), shortTemp+1
	label := func(what string) string { return fmt.Sprintf("part%d_%s", l, what) }
	s := &k.lines
	k.op("MOVWU %d(%v), %v", jobBytes*l+jobLen, shortJobs, n)
	k.op("SUB $1, %v", n)
	k.op("AND $31, %v", n)
	k.op("ADD $1, %v", n)
	k.op("CMP $16, %v", n)
	k.op("BLE %s", label("one"))

	// If the packet ends in the second block, that part is stored together with octets before it.
	up := t + 2
	s.load(t, src, 0)
	k.end(t+1, up, src, n)
	k.crypt(a, t, a, l)
	k.crypt(a+1, t+1, a+1, l)
	k.op("ADD %v, %v, %v", shortConst, n, shortTemp+2)
	k.op("FMOVQ %d(%v), %s", upAt-16, shortTemp+2, (t + 3).f())
	k.op("VTBL %s, [%s, %s], %s", (t + 3).b(), a.b(), (a + 1).b(), (t + 3).b())
	s.store(a, dst, 0)
	k.op("ADD %v, %v", n, dst)
	k.op("FMOVQ %s, -16(%v)", (t + 3).f(), dst)
	if k.sealing {
		s.rbit(t, a)
		s.tbl(t+1, t+3, up)
	} else {
		s.rbit(t, t)
	}
	s.xor(q, q, t)
	s.rbit(q+1, t+1)
	k.op("B %s", label("done"))

	k.at(label("one"))
	k.op("BLT %s", label("few"))
	s.load(t, src, 0)
	k.crypt(a, t, a, l)
	s.store(a, dst, 0)
	if k.sealing {
		s.move(t, a)
	}
	k.op("B %s", label("hash"))
	k.at(label("few"))
	k.loadPart(t, src, n, shortTemp+2, shortTemp+3, shortTemp5, shortCount)
	k.crypt(a, t, a, l)
	if k.sealing {
		k.keep(t, a, n, shortTemp)
	}
	k.storePart(a, dst, n, shortTemp+2, shortTemp+3)
	k.at(label("hash"))
	s.rbit(t, t)
	s.xor(q+1, q, t)
	s.zero(q)
	k.at(label("done"))
}
