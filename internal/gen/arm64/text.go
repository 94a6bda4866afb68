package main

// Offsets in kernel.Job.
const (
	jobAAD, jobSrc, jobDst, jobTag = 0, 8, 16, 24
	jobAADLen, jobLen, jobKey      = 32, 36, 40
	jobOK, jobNonce, jobBytes      = 44, 48, 64
)

// loadPart loads n octets, 1 to 15, with zeros behind them, from p. It reads no others. It
// uses general registers, because a wide load of narrow stores would be slower.
func (f *function) loadPart(d v, p, n x, lo, hi, t, at x) {
	few, fewer, done := f.label("few"), f.label("fewer"), f.label("loaded")
	f.op("CMP $8, %v", n)
	f.op("BLT %s", few)
	f.op("MOVD (%v), %v", p, lo)
	f.op("ADD %v, %v, %v", n, p, at)
	f.op("MOVD -8(%v), %v", at, hi)
	f.op("MOVD $120, %v", t) // 8*(16-n) in two shifts, since it may be 64
	f.op("SUB %v<<3, %v, %v", n, t, t)
	f.op("LSR $8, %v", hi)
	f.op("LSR %v, %v, %v", t, hi, hi)
	f.op("B %s", done)
	f.at(few)
	f.op("MOVD ZR, %v", hi)
	f.op("CMP $4, %v", n)
	f.op("BLT %s", fewer)
	f.op("MOVWU (%v), %v", p, lo)
	f.op("ADD %v, %v, %v", n, p, at)
	f.op("MOVWU -4(%v), %v", at, t)
	f.op("LSL $3, %v, %v", n, at)
	f.op("SUB $32, %v", at)
	f.op("LSL %v, %v, %v", at, t, t)
	f.op("ORR %v, %v", t, lo)
	f.op("B %s", done)
	f.at(fewer) // the first, middle and last octet may be one
	f.op("MOVBU (%v), %v", p, lo)
	f.op("LSR $1, %v, %v", n, at)
	f.op("MOVBU (%v)(%v), %v", p, at, t)
	f.op("LSL $3, %v", at)
	f.op("LSL %v, %v, %v", at, t, t)
	f.op("ORR %v, %v", t, lo)
	f.op("SUB $1, %v, %v", n, at)
	f.op("MOVBU (%v)(%v), %v", p, at, t)
	f.op("LSL $3, %v", at)
	f.op("LSL %v, %v, %v", at, t, t)
	f.op("ORR %v, %v", t, lo)
	f.at(done)
	f.op("FMOVD %v, %s", lo, d.f())
	f.op("VMOV %v, %s", hi, d.lane("D", 1))
}

// storePart stores the first n octets, 1 to 15, of a. p is lost.
func (f *function) storePart(a v, p, n x, lo, hi x) {
	f.op("VMOV %s, %v", a.lane("D", 0), lo)
	f.op("VMOV %s, %v", a.lane("D", 1), hi)
	for _, c := range []struct {
		size int
		move string
	}{{8, "MOVD"}, {4, "MOVW"}, {2, "MOVH"}, {1, "MOVB"}} {
		skip := f.label("no")
		f.op("TST $%d, %v", c.size, n)
		f.op("BEQ %s", skip)
		if c.size == 1 {
			f.op("MOVB %v, (%v)", lo, p)
		} else {
			f.op("%s.P %v, %d(%v)", c.move, lo, c.size, p)
			if c.size == 8 {
				f.op("MOVD %v, %v", hi, lo)
			} else {
				f.op("LSR $%d, %v", 8*c.size, lo)
			}
		}
		f.at(skip)
	}
}

// keep sets d to the first n octets, 1 to 15, of a, and zeros.
func (f *function) keep(d, a v, n, t x) {
	f.op("MOVD $mask<>+16(SB), %v", t)
	f.op("SUB %v, %v", n, t)
	f.lines.load(d, t, 0)
	f.lines.and(d, d, a)
}

// compare sets OK of the job at base+at if an ICV equals the one at tag, in constant time.
// b, tag and t are lost.
func (s *stream) compare(icv, b v, tag, t x, base x, at int) {
	s.load(b, tag, 0)
	s.xor(b, b, icv)
	s.op("VMOV %s, %v", b.lane("D", 0), tag)
	s.op("VMOV %s, %v", b.lane("D", 1), t)
	s.op("ORR %v, %v", t, tag)
	s.op("CMP $0, %v\nCSET EQ, %v", tag, tag)
	s.op("MOVW %v, %d(%v)", tag, at+jobOK, base)
}
