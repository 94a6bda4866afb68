package main

import "fmt"

// derive computes n AES-256-CMACs, eight side by side, with all round keys of
// the master in registers.
func derive() {
	const (
		states = v(0) // to 7
		texts  = v(8) // to 15
		keys   = v(16)
		sub    = v(31)

		out, msgs, n, blocks, master, left, t, stride = x(0), x(1), x(2), x(3), x(4), x(5), x(6), x(7)
		lane                                          = x(8) // to 15: where each message is
	)
	f := begin("derive", "computes n CMACs of messages of blocks blocks.",
		"out *byte", "msgs *byte", "n int", "blocks int", "master *byte", "subkey *byte")
	f.arg("out", out)
	f.arg("msgs", msgs)
	f.arg("n", n)
	f.arg("blocks", blocks)
	f.arg("master", master)
	f.arg("subkey", t)
	s := &f.lines
	s.load(sub, t, 0)
	for r := v(0); r < 14; r += 2 {
		s.load2(keys+r, keys+r+1, master, int(16*r))
	}
	s.load(keys+14, master, 16*14)
	f.op("LSL $4, %v, %v", blocks, stride)

	f.at("eight")
	// Messages that are not there are the last one again.
	f.op("MOVD %v, %v", msgs, lane)
	for i := 1; i < 8; i++ {
		f.op("CMP $%d, %v", i, n)
		f.op("CSEL GT, %v, ZR, %v", stride, t)
		f.op("ADD %v, %v, %v", t, lane+x(i-1), lane+x(i))
	}
	f.op("ADD %v, %v, %v", stride, lane+7, msgs)
	for i := range v(8) {
		s.zero(states + i)
	}
	f.op("MOVD %v, %v", blocks, left)
	f.op("SUBS $1, %v", left)
	f.op("BEQ last")

	rounds := func() {
		for r := v(0); r < 14; r++ {
			for i := range v(8) {
				if r < 13 {
					s.aes(keys+r, states+i)
				} else {
					s.aesLast(keys+r, states+i)
				}
			}
		}
		for i := range v(8) {
			s.xor(states+i, states+i, keys+14)
		}
	}
	f.at("block")
	for i := range v(8) {
		f.op("FMOVQ.P 16(%v), %s", lane+x(i), (texts + i).f())
		s.xor(states+i, states+i, texts+i)
	}
	rounds()
	f.op("SUBS $1, %v", left)
	f.op("BNE block")
	f.at("last")
	for i := range v(8) {
		s.load(texts+i, lane+x(i), 0)
		s.xor(texts+i, texts+i, sub)
		s.xor(states+i, states+i, texts+i)
	}
	rounds()
	f.op("CMP $8, %v", n)
	f.op("BLT few")
	for i := v(0); i < 8; i += 2 {
		s.store2(states+i, states+i+1, out, int(16*i))
	}
	f.op("ADD $128, %v", out)
	f.op("SUBS $8, %v", n)
	f.op("BNE eight")
	f.op("B done")
	f.at("few")
	for i := range v(7) {
		f.op("FMOVQ.P %s, 16(%v)", (states + i).f(), out)
		f.op("SUBS $1, %v", n)
		f.op("BEQ done")
	}
	f.at("done")
	f.leave()
}

// A schedule is four keys' worth of words, word i of each key in one register:
// what SubWord and the sums do is done to four keys at once. Word i of key j is
// element j of w+i.
type schedule struct {
	keyLen int
	w      v // to w+3, or w+7
	h      v // to h+3: E(0) in the making, one key each
	t      v // to t+4: temporary; shared: with the other four keys
	shared bool
	turn   v // indices that undo AESE's ShiftRows, and rotate
	stay   v // the former only
	slots  x
	at     int // of the first key's slot
}

// row makes round key r of each key out of the words, stores it, and runs that
// round of E(0).
func (k schedule) row(s *stream, r int) {
	w := k.w + v(4*r%(k.keyLen/4))
	t0, t1, t2, t3, u := k.t, k.t+1, k.t+2, k.t+3, k.t+4
	s.trn1s(t0, w, w+1)
	s.trn2s(t1, w, w+1)
	s.trn1s(t2, w+2, w+3)
	s.trn2s(t3, w+2, w+3)
	s.trn1d(u, t0, t2)
	s.trn2d(t0, t0, t2)
	s.trn1d(t2, t1, t3)
	s.trn2d(t1, t1, t3)
	for i, key := range []v{u, t2, t0, t1} {
		h := k.h + v(i)
		s.store(key, k.slots, k.at+i*slotBytes+16*r)
		switch last := rounds(k.keyLen); {
		case r < last-1:
			s.aes(key, h)
		case r == last-1:
			s.aesLast(key, h)
		default:
			s.xor(h, h, key)
		}
	}
}

// next replaces words to..to+3 by the schedule's next ones. AESE with a zero
// key is SubWord of four keys but for ShiftRows.
func (k schedule) next(s *stream, o variant, to, from, idx v, rcon int) {
	t, c := k.t, k.t+1
	s.zero(t)
	s.aesLast(from, t)
	s.tbl(t, t, idx)
	if rcon >= 0 {
		s.load(c, rconTable, 16*rcon)
		s.xor3(o, to, t, c, to)
	} else {
		s.xor(to, to, t)
	}
	for i := range v(3) {
		s.xor(to+i+1, to+i+1, to+i)
	}
}

func (k schedule) begin(s *stream, keys []x) {
	for half := range k.keyLen / 16 {
		w := k.w + v(4*half)
		for i, p := range keys {
			s.load(k.h+v(i), p, 16*half)
		}
		a, b, c, d := k.h, k.h+1, k.h+2, k.h+3
		t0, t1, t2, t3 := k.t, k.t+1, k.t+2, k.t+3
		s.trn1s(t0, a, b)
		s.trn2s(t1, a, b)
		s.trn1s(t2, c, d)
		s.trn2s(t3, c, d)
		s.trn1d(w, t0, t2)
		s.trn2d(w+2, t0, t2)
		s.trn1d(w+1, t1, t3)
		s.trn2d(w+3, t1, t3)
	}
	for i := range v(4) {
		s.zero(k.h + i)
	}
}

// all is the whole schedule, and H.
func (k schedule) all(s *stream, o variant) {
	row := func(r int) {
		var u stream
		k.row(&u, r)
		s.join(u, k.shared)
	}
	next := func(to, from, idx v, rcon int) {
		var u stream
		k.next(&u, o, to, from, idx, rcon)
		s.join(u, k.shared)
	}
	row(0)
	if k.keyLen == 16 {
		for r := 1; r <= 10; r++ {
			next(k.w, k.w+3, k.turn, r-1)
			row(r)
		}
	} else {
		row(1)
		for r := 2; r <= 14; r++ {
			if r%2 == 0 {
				next(k.w, k.w+7, k.turn, r/2-1)
			} else {
				next(k.w+4, k.w+3, k.stay, -1)
			}
			row(r)
		}
	}
	for i := range v(4) {
		s.rbit(k.h+i, k.h+i)
		s.store(k.h+i, k.slots, k.at+int(i)*slotBytes+powersEnd-16)
	}
}

const rconTable = x(9)

// expand writes round keys and H, eight keys at a time, or the last four.
func expand(keyLen int, o variant) {
	const (
		area, keys, n, t = x(0), x(1), x(2), x(3)
		lane             = x(10) // to 13: where four keys are
	)
	f := begin(name("expand", keyLen, o), "writes round keys and H of n keys, and of as many more as make it a multiple of four.",
		"area *byte", "keys *byte", "n int")
	f.arg("area", area)
	f.arg("keys", keys)
	f.arg("n", n)
	f.op("MOVD $rcon<>(SB), %v", rconTable)
	f.constant(30, "turn", t)
	f.constant(31, "stay", t)
	words := v(keyLen / 4)
	group := func(i int) schedule {
		k := schedule{keyLen: keyLen, w: words * v(i), h: 16 + 4*v(i), t: 24, shared: true, turn: 30, stay: 31, slots: area, at: 4 * i * slotBytes}
		if keyLen == 16 { // registers to spare, so that temporaries need not be shared
			k.t, k.h, k.shared = 20+5*v(i), 12+4*v(i), false
		}
		return k
	}
	// Keys that are not there are the last one again.
	find := func(n x) (lanes []x) {
		f.op("MOVD %v, %v", keys, lane)
		for i := 1; i < 4; i++ {
			f.op("CMP $%d, %v", i, n)
			f.op("MOVD $%d, %v", keyLen, t)
			f.op("CSEL GT, %v, ZR, %v", t, t)
			f.op("ADD %v, %v, %v", t, lane+x(i-1), lane+x(i))
		}
		f.op("ADD $%d, %v, %v", keyLen, lane+3, keys)
		return []x{lane, lane + 1, lane + 2, lane + 3}
	}
	f.at("eight")
	f.op("CMP $4, %v", n)
	f.op("BLE four")
	a, b := group(0), group(1)
	var s, u stream
	a.begin(&f.lines, find(n))
	f.op("SUB $4, %v", n)
	b.begin(&f.lines, find(n))
	a.all(&s, o)
	b.all(&u, o)
	f.emit(s, u)
	f.op("ADD $%d, %v", 8*slotBytes, area)
	f.op("SUBS $4, %v", n)
	f.op("BGT eight")
	f.op("B done")
	f.at("four")
	a.begin(&f.lines, find(n))
	a.all(&f.lines, o)
	f.at("done")
	f.leave()
}

// powers writes the powers of H up to a given one, and their folds, of four
// keys at a time.
func powers(most int, o variant) {
	const area, n = x(0), x(1)
	f := begin(fmt.Sprintf("powers%d%s", most, o.suffix()), "writes powers of H behind the round keys of n keys, and of as many more as make it a multiple of four.",
		"area *byte", "n int")
	f.arg("area", area)
	f.arg("n", n)
	const poly = v(31)
	f.op("VMOVQ $0x87, $0x87, V%d", int(poly))
	f.at("four")
	var ss []stream
	for i := range 4 {
		at := i * slotBytes
		r := 7 * v(i)
		one, fold, acc, lo, mid, hi, t := r, r+1, r+2, r+3, r+4, r+5, r+6
		var s stream
		s.load(one, area, at+powersEnd-16)
		if most > 2 {
			s.halves(fold, one, one)
			s.xor(fold, fold, one)
		}
		for n := 2; n <= most; n++ {
			if n%2 == 0 {
				p := one
				if n > 2 {
					p = acc
					s.load(p, area, at+powersEnd-16*(n/2))
				}
				// A square has no middle.
				s.pmull(lo, p, p)
				s.pmull2(hi, p, p)
				s.pmull2(mid, hi, poly)
				s.halves(t, lo, hi)
				s.xor(mid, mid, t)
			} else {
				s.halves(t, acc, acc)
				s.xor(t, t, acc)
				s.pmull(lo, acc, one)
				s.pmull2(hi, acc, one)
				s.pmull(mid, t, fold)
				s.halves(t, lo, hi)
				s.xor3(o, mid, lo, t, mid)
				s.pmull2(t, hi, poly)
				s.xor3(o, mid, hi, t, mid)
			}
			s.pmull2(t, mid, poly)
			s.trn1d(acc, lo, mid)
			s.xor(acc, acc, t)
			s.store(acc, area, at+powersEnd-16*n)
			if n%2 == 0 { // two folds in one piece, as they are loaded
				before := one
				if n > 2 {
					before = t
					s.load(t, area, at+powersEnd-16*(n-1))
				}
				s.trn1d(lo, acc, before)
				s.trn2d(mid, acc, before)
				s.xor(lo, lo, mid)
				s.store(lo, area, at+foldsEnd-8*n)
			}
		}
		ss = append(ss, s)
	}
	f.emit(ss...)
	f.op("ADD $%d, %v", 4*slotBytes, area)
	f.op("SUBS $4, %v", n)
	f.op("BGT four")
	f.leave()
}
