package main

import "fmt"

// variant is what the CPU has beyond AES and PMULL.
type variant struct {
	eor3 bool
}

func (o variant) suffix() string {
	if o.eor3 {
		return "EOR3"
	}
	return ""
}

// aes is a round, not the last one. Its two instructions stay together, since cores fuse them.
func (s *stream) aes(key, state v) {
	s.op("AESE %s, %s\nAESMC %s, %s", key.b(), state.b(), state.b(), state.b())
}

// aesLast is the last round without adding its key.
func (s *stream) aesLast(key, state v) { s.op("AESE %s, %s", key.b(), state.b()) }

func (s *stream) xor(d, a, b v)   { s.op("VEOR %s, %s, %s", a.b(), b.b(), d.b()) }
func (s *stream) zero(d v)        { s.xor(d, d, d) }
func (s *stream) move(d, a v)     { s.op("VORR %s, %s, %s", a.b(), a.b(), d.b()) }
func (s *stream) and(d, a, b v)   { s.op("VAND %s, %s, %s", a.b(), b.b(), d.b()) }
func (s *stream) add32(d, a, b v) { s.op("VADD %s, %s, %s", a.s(), b.s(), d.s()) }
func (s *stream) rbit(d, a v)     { s.op("VRBIT %s, %s", a.b(), d.b()) }
func (s *stream) tbl(d, a, idx v) { s.op("VTBL %s, [%s], %s", idx.b(), a.b(), d.b()) }

// xor3 is d = a^b^c; without EOR3 a^b is computed first.
func (s *stream) xor3(o variant, d, a, b, c v) {
	if o.eor3 {
		s.op("VEOR3 %s, %s, %s, %s", a.b(), b.b(), c.b(), d.b())
		return
	}
	if d == c {
		a, c = c, a
	}
	s.xor(d, a, b)
	s.xor(d, d, c)
}

// pmull multiplies the lower halves of a and b, pmull2 the upper ones.
func (s *stream) pmull(d, a, b v)  { s.op("VPMULL %s, %s, %s", a.lo(), b.lo(), d.q()) }
func (s *stream) pmull2(d, a, b v) { s.op("VPMULL2 %s, %s, %s", a.d(), b.d(), d.q()) }

// halves is d = {upper half of a, lower half of b}.
func (s *stream) halves(d, a, b v) { s.op("VEXT $8, %s, %s, %s", b.b(), a.b(), d.b()) }

// trn1 interleaves the even elements of a and b, trn2 the odd ones.
func (s *stream) trn1d(d, a, b v) { s.op("VTRN1 %s, %s, %s", b.d(), a.d(), d.d()) }
func (s *stream) trn2d(d, a, b v) { s.op("VTRN2 %s, %s, %s", b.d(), a.d(), d.d()) }
func (s *stream) trn1s(d, a, b v) { s.op("VTRN1 %s, %s, %s", b.s(), a.s(), d.s()) }
func (s *stream) trn2s(d, a, b v) { s.op("VTRN2 %s, %s, %s", b.s(), a.s(), d.s()) }

// Loads and stores of one register and of two.
func (s *stream) load(d v, base x, at int)  { s.op("FMOVQ %d(%v), %s", at, base, d.f()) }
func (s *stream) store(a v, base x, at int) { s.op("FMOVQ %s, %d(%v)", a.f(), at, base) }
func (s *stream) load2(d, e v, base x, at int) {
	s.op("FLDPQ %d(%v), (%s, %s)", at, base, d.f(), e.f())
}
func (s *stream) store2(a, b v, base x, at int) {
	s.op("FSTPQ (%s, %s), %d(%v)", a.f(), b.f(), at, base)
}

// constant loads 16 octets of read-only data.
func (f *function) constant(d v, name string, t x) {
	f.op("MOVD $%s<>(SB), %v", name, t)
	f.lines.load(d, t, 0)
}

func rounds(keyLen int) int { return keyLen/4 + 6 }

func name(what string, keyLen int, o variant) string {
	return fmt.Sprintf("%s%d%s", what, 8*keyLen, o.suffix())
}
