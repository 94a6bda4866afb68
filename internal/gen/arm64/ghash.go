package main

// GHASH. An element's bits are reversed in each octet, which makes it the
// polynomial in the ordinary order: bit i of the 128 is the coefficient of x^i.
// That takes one RBIT a block, and H as it is; the other common form, octets
// reversed, needs H times x. The modulus is x^128 + x^7 + x^2 + x + 1.
//
// Products are made after Karatsuba: on smaller cores PMULL shares its pipeline with AES,
// and additions are free.
type hasher struct {
	o           variant
	lo, mid, hi v // sums of products
	t           v // to t+4: temporary
	poly        v // 0x87 in both halves
	polyFrom    x // not 0: poly is loaded from there each time
	acc         v
}

// The parts of an expanded key: round keys, powers of H from H^8 down to H, then the fold
// of each power, which is the sum of its halves, in the same order. So the powers for n
// blocks begin n rows before the end.
const (
	slotBytes  = 512 // kernels do not use the last 48
	mostPowers = 8
	powersAt   = 15 * 16
	powersEnd  = powersAt + mostPowers*16
	foldsAt    = powersEnd
	foldsEnd   = foldsAt + mostPowers*8
)

// pair adds the products of two blocks a and b with H^i and H^(i-1); i is even.
// Both blocks are lost. first: it sets the sums.
func (h *hasher) pair(s *stream, rows x, a, b v, i int, first bool) {
	p, q, fold, t, u := h.t, h.t+1, h.t+2, h.t+3, h.t+4
	s.load2(p, q, rows, powersEnd-16*i)
	s.load(fold, rows, foldsEnd-8*i)
	s.trn1d(t, a, b)
	s.trn2d(u, a, b)
	s.xor(t, t, u) // folds of both
	s.pmull(u, a, p)
	s.pmull2(a, a, p)
	s.pmull(p, b, q)
	s.pmull2(b, b, q)
	s.pmull(q, t, fold)
	s.pmull2(t, t, fold)
	if first {
		s.xor(h.lo, u, p)
		s.xor(h.hi, a, b)
		s.xor(h.mid, q, t)
		return
	}
	s.xor3(h.o, h.lo, u, p, h.lo)
	s.xor3(h.o, h.hi, a, b, h.hi)
	s.xor3(h.o, h.mid, q, t, h.mid)
}

// reduce puts the sums modulo the polynomial into h.acc. With the product's
// words v3..v0, v3 goes to where its multiple of 0x87 belongs, then v2 likewise.
func (h *hasher) reduce(s *stream) {
	t, z := h.t, h.t+1
	if h.polyFrom != 0 {
		s.load(h.poly, h.polyFrom, polyAt)
	}
	s.pmull2(t, h.hi, h.poly)
	s.halves(z, h.lo, h.hi)
	s.xor3(h.o, h.mid, h.lo, h.hi, h.mid)
	s.xor3(h.o, h.mid, h.mid, z, t) // v1, v2
	s.pmull2(t, h.mid, h.poly)
	s.trn1d(z, h.lo, h.mid) // v0, v1
	s.xor(h.acc, z, t)
}

// queue hashes 8 blocks, from first on, to which h.acc has been added.
func (h *hasher) queue(rows x, first v) (s stream) {
	for i := range v(4) {
		h.pair(&s, rows, first+2*i, first+2*i+1, 8-2*int(i), i == 0)
	}
	h.reduce(&s)
	return s
}

// clear makes the sums 0.
func (h *hasher) clear(s *stream) {
	s.zero(h.lo)
	s.zero(h.mid)
	s.zero(h.hi)
}

// walk is a position in the powers of H, for blocks that come one at a time: the last
// block is multiplied by H itself.
type walk struct {
	power, fold, end x // end is behind H; see powersEnd
	length           x // 16 times the number of powers there are
	t                x
}

// start begins n blocks before the end. Between two reductions there are as many blocks as
// powers. n may be 0, and is lost.
func (w walk) start(f *function, n x) {
	f.op("SUB $1, %v", n)
	f.op("LSL $4, %v", n)
	f.op("SUB $16, %v, %v", w.length, w.t)
	f.op("AND %v, %v", w.t, n)
	f.op("ADD $16, %v", n)
	f.op("SUB %v, %v, %v", n, w.end, w.power)
	f.op("LSR $1, %v", n)
	f.op("ADD $%d, %v, %v", foldsEnd-powersEnd, w.end, w.fold)
	f.op("SUB %v, %v", n, w.fold)
}

// block adds h.acc to block a, and the product with its power to the sums.
func (w walk) block(f *function, h *hasher, a v) {
	p, fold, t, u := h.t, h.t+1, h.t+2, h.t+3
	s := &f.lines
	s.op("FMOVQ.P 16(%v), %s", w.power, p.f())
	s.op("FMOVD.P 8(%v), %s", w.fold, fold.f())
	s.xor(a, a, h.acc)
	s.zero(h.acc)
	s.halves(t, a, a)
	s.xor(t, t, a)
	s.pmull(u, a, p)
	s.pmull2(a, a, p)
	s.pmull(t, t, fold)
	s.xor(h.lo, h.lo, u)
	s.xor(h.hi, h.hi, a)
	s.xor(h.mid, h.mid, t)
}

// check reduces the sums to h.acc behind the last power, and goes back to the first.
func (w walk) check(f *function, h *hasher) {
	s := &f.lines
	skip := f.label("more")
	f.op("CMP %v, %v", w.power, w.end)
	f.op("BNE %s", skip)
	h.reduce(s)
	h.clear(s)
	f.op("SUB %v, %v, %v", w.length, w.end, w.power)
	f.op("LSR $1, %v, %v", w.length, w.t)
	f.op("ADD $%d, %v, %v", foldsEnd-powersEnd, w.end, w.fold)
	f.op("SUB %v, %v", w.t, w.fold)
	f.at(skip)
}

// lengths makes d the block of the lengths of the job at base+at.
func (s *stream) lengths(d v, base x, at int) {
	s.op("FMOVD %d(%v), %s", at+jobAADLen, base, d.f())
	s.op("VUSHLL $3, V%d.S2, %s", int(d), d.d())
	s.op("VREV64 %s, %s", d.b(), d.b())
	s.rbit(d, d)
}
