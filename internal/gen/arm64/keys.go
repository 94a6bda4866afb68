package main

import "fmt"

// derive computes n AES-256-CMACs, eight side by side, with all round keys of
// the master in registers. To the last block, the subkey and the first round key are
// added as one.
func derive() {
	const (
		states = v(0) // to 7
		texts  = v(8) // to 15
		keys   = v(16)
		last   = v(31)

		out, msgs, n, blocks, master, left, t, stride = x(0), x(1), x(2), x(3), x(4), x(5), x(6), x(7)
		lane                                          = x(8) // to 15: where each message is
	)
	f := begin("derive", "computes the CMACs of n messages, each of so many blocks.",
		"out *byte", "msgs *byte", "n int", "blocks int", "master *byte", "subkey *byte")
	f.arg("out", out)
	f.arg("msgs", msgs)
	f.arg("n", n)
	f.arg("blocks", blocks)
	f.arg("master", master)
	f.arg("subkey", t)
	s := &f.lines
	s.load(last, t, 0)
	for r := v(0); r < 14; r += 2 {
		s.load2(keys+r, keys+r+1, master, int(16*r))
	}
	s.load(keys+14, master, 16*14)
	s.xor(last, last, keys)
	f.op("LSL $4, %v, %v", blocks, stride)
	rounds := func(first v) {
		for r := v(0); r < 14; r++ {
			for i := range v(8) {
				switch {
				case r == 0:
					s.aes(first, states+i)
				case r < 13:
					s.aes(keys+r, states+i)
				default:
					s.aesLast(keys+r, states+i)
				}
			}
		}
		for i := range v(8) {
			s.xor(states+i, states+i, keys+14)
		}
	}
	f.op("CMP $1, %v", blocks)
	f.op("BNE eight")
	f.at("single") // messages of one block
	f.op("CMP $8, %v", n)
	f.op("BLT eight")
	for i := v(0); i < 8; i += 2 {
		s.load2(states+i, states+i+1, msgs, int(16*i))
	}
	f.op("ADD $128, %v", msgs)
	rounds(last)
	for i := v(0); i < 8; i += 2 {
		s.store2(states+i, states+i+1, out, int(16*i))
	}
	f.op("ADD $128, %v", out)
	f.op("SUBS $8, %v", n)
	f.op("BNE single")
	f.op("B done")

	f.at("eight")
	// The last message stands for those that are missing.
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

	f.at("block")
	for i := range v(8) {
		f.op("FMOVQ.P 16(%v), %s", lane+x(i), (texts + i).f())
		s.xor(states+i, states+i, texts+i)
	}
	rounds(keys)
	f.op("SUBS $1, %v", left)
	f.op("BNE block")
	f.at("last")
	for i := range v(8) {
		s.load(texts+i, lane+x(i), 0)
		s.xor(states+i, states+i, texts+i)
	}
	rounds(last)
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

// A schedule works on four keys at once. Register w+i has word i of each key: element j
// is that of key j.
type schedule struct {
	keyLen int
	w      v // to w+3, or w+7
	h      v // to h+3: the state that becomes E(0), one key each
	t      v // to t+4: temporary; this and the following registers are shared with the other four keys
	zero   v
	turn   v // indices that undo AESE's ShiftRows beforehand, and rotate the word
	stay   v // the same without the rotation
	odd    v // to odd+3, if not 0: odd round keys, which are stored together with the next ones
	slots  x
	at     int  // of the first key's slot
	middle x    // the middle of the four slots, from which LDP and STP reach all of them
	second bool // the other four keys come before these
}

// begin loads the keys: each from its own address, or all from one address. They are the
// first round key, or the first two.
func (k schedule) begin(s *stream, keys []x, at int) {
	for i := range 4 {
		h, p, at := k.h+v(i), keys[0], at+i*k.keyLen
		if len(keys) == 4 {
			p, at = keys[i], 0
		}
		switch {
		case k.keyLen == 32:
			s.load2(h, k.w+4+v(i), p, at)
		case len(keys) == 4:
			s.load(h, p, at)
		case i%2 == 0:
			s.load2(h, h+1, p, at)
		}
	}
	k.transposeWords(s, k.w, k.h)
}

// transposeWords transposes four keys to words, or four words to keys, in place if to is from.
func (k schedule) transposeWords(s *stream, to, from v) {
	t0, t1, t2, t3 := k.t, k.t+1, k.t+2, k.t+3
	s.trn1s(t0, from, from+1)
	s.trn2s(t1, from, from+1)
	s.trn1s(t2, from+2, from+3)
	s.trn2s(t3, from+2, from+3)
	s.trn1d(to, t0, t2)
	s.trn2d(to+2, t0, t2)
	s.trn1d(to+1, t1, t3)
	s.trn2d(to+3, t1, t3)
}

// first stores the round keys that begin has loaded, and runs their rounds of E(0).
func (k schedule) first(s *stream) {
	for i := range v(4) {
		h := k.h + i
		if k.keyLen == 16 {
			s.store(h, k.slots, k.at+int(i)*slotBytes)
			s.aes(k.zero, h)
			continue
		}
		s.store2(h, k.w+4+i, k.middle, (int(i)-2)*slotBytes)
		s.aes(k.zero, h)
		s.aes(k.w+4+i, h)
	}
	if k.keyLen == 32 {
		k.transposeWords(s, k.w+4, k.w+4)
	}
}

// row makes round key r of each key from the words, stores it, and runs round r of E(0).
func (k schedule) row(s *stream, r int) {
	w := k.w + v(4*r%(k.keyLen/4))
	keys := k.t + 4
	if k.odd != 0 && r%2 == 1 {
		keys = k.odd
	}
	last := rounds(k.keyLen)
	use := func(i v, key v) {
		h := k.h + i
		switch {
		case k.odd == 0:
			s.store(key, k.slots, k.at+int(i)*slotBytes+16*r)
		case r%2 == 0:
			s.store2(k.odd+i, key, k.middle, (int(i)-2)*slotBytes+16*(r-1))
		}
		switch {
		case r < last-1:
			s.aes(key, h)
		case r == last-1:
			s.aesLast(key, h)
		default:
			s.xor(h, h, key)
		}
	}
	if keys == k.odd {
		k.transposeWords(s, keys, w)
		for i := range v(4) {
			use(i, keys+i)
		}
		return
	}
	// transposeWords with one more register.
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
		use(v(i), key)
	}
}

// next replaces the words from to on by the next ones of the schedule. AESE with a zero key
// is SubWord of four keys, except for ShiftRows. The round constant stays in a register for
// the other four keys, whose next follows.
func (k schedule) next(s *stream, o variant, to, from, idx v, rcon int) {
	t, c := k.t, k.t+1
	s.tbl(t, from, idx)
	s.aesLast(k.zero, t)
	if rcon >= 0 {
		if !k.second {
			s.load(c, rconTable, 16*rcon)
		}
		s.xor3(o, to, t, c, to)
	} else {
		s.xor(to, to, t)
	}
	for i := range v(3) {
		s.xor(to+i+1, to+i+1, to+i)
	}
}

// all is the whole schedule, and H. Code that uses the temporary registers is one element
// of the stream.
func (k schedule) all(s *stream, o variant) {
	step := func(f func(s *stream)) {
		var u stream
		f(&u)
		s.join(u, true)
	}
	row := func(r int) { step(func(s *stream) { k.row(s, r) }) }
	next := func(to, from, idx v, rcon int) { step(func(s *stream) { k.next(s, o, to, from, idx, rcon) }) }
	step(k.first)
	if k.keyLen == 16 {
		for r := 1; r <= 10; r++ {
			next(k.w, k.w+3, k.turn, r-1)
			row(r)
		}
	} else {
		for r := 2; r <= 14; r++ {
			if r%2 == 0 {
				next(k.w, k.w+7, k.turn, r/2-1)
			} else {
				next(k.w+4, k.w+3, k.stay, -1)
			}
			row(r)
		}
	}
	// The factors of brief.go; H begins the powers. The words are not needed any more.
	poly, m, t := k.w, k.w+1, k.w+2
	s.load(poly, rconTable, polyBehind)
	for i := range v(4) {
		h := k.h + i
		s.rbit(h, h)
		s.pmull2(m, h, poly)
		s.halves(t, h, h)
		s.trn1d(h, h, m)
		s.trn2d(m, k.zero, m)
		s.xor(t, t, m)
		s.store2(h, t, k.middle, (int(i)-2)*slotBytes+factorsAt)
	}
}

// polyBehind is the place of the polynomial behind the table.
const polyBehind = 160

const rconTable = x(9)

// expand writes round keys and H, eight keys at a time, or the last four.
func expand(keyLen int, o variant) {
	const (
		area, keys, n, t = x(0), x(1), x(2), x(3)
		middle           = x(4)  // and 5
		lane             = x(10) // to 13: addresses of four keys
	)
	f := begin(name("expand", keyLen, o), "writes round keys and H of n keys, rounded up to a multiple of four.",
		"area *byte", "keys *byte", "n int")
	f.arg("area", area)
	f.arg("keys", keys)
	f.arg("n", n)
	f.op("MOVD $rcon<>(SB), %v", rconTable)
	f.constant(30, "turn", t)
	f.constant(31, "stay", t)
	f.lines.zero(29)
	words := v(keyLen / 4)
	group := func(i int) schedule {
		k := schedule{keyLen: keyLen, w: words * v(i), h: 16 + 4*v(i), t: 24, zero: 29, turn: 30, stay: 31, slots: area, at: 4 * i * slotBytes, middle: middle + x(i)}
		if keyLen == 16 { // registers to spare
			k.odd = 8 + 4*v(i)
		}
		return k
	}
	f.op("ADD $%d, %v, %v", 2*slotBytes, area, middle)
	f.op("ADD $%d, %v, %v", 6*slotBytes, area, middle+1)
	// The last key stands for those that are missing.
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
	b.second = true
	var s, u stream
	f.op("CMP $8, %v", n)
	f.op("BLT uneven")
	a.begin(&f.lines, []x{keys}, 0)
	b.begin(&f.lines, []x{keys}, 4*keyLen)
	f.op("ADD $%d, %v", 8*keyLen, keys)
	f.op("SUB $4, %v", n)
	f.op("B ready")
	f.at("uneven")
	a.begin(&f.lines, find(n), 0)
	f.op("SUB $4, %v", n)
	b.begin(&f.lines, find(n), 0)
	f.at("ready")
	a.all(&s, o)
	b.all(&u, o)
	f.emit(s, u)
	f.op("ADD $%d, %v", 8*slotBytes, area)
	f.op("ADD $%d, %v", 8*slotBytes, middle)
	f.op("ADD $%d, %v", 8*slotBytes, middle+1)
	f.op("SUBS $4, %v", n)
	f.op("BGT eight")
	f.op("B done")
	f.at("four")
	a.begin(&f.lines, find(n), 0)
	a.all(&f.lines, o)
	f.at("done")
	f.leave()
}

// powers writes the powers of H up to H^most, and their folds, for four keys at a time.
func powers(most int, o variant) {
	const area, n, middle = x(0), x(1), x(2)
	f := begin(fmt.Sprintf("powers%d%s", most, o.suffix()), fmt.Sprintf("writes the powers of H up to H^%d behind the round keys of n keys, rounded up to a multiple of four.", most),
		"area *byte", "n int")
	f.arg("area", area)
	f.arg("n", n)
	const poly = v(31)
	f.op("VMOVQ $0x87, $0x87, V%d", int(poly))
	f.at("four")
	f.op("ADD $%d, %v, %v", 2*slotBytes, area, middle)
	var ss []stream
	for i := range 4 {
		at := i * slotBytes
		r := 7 * v(i)
		one, fold, acc, lo, mid, hi, t := r, r+1, r+2, r+3, r+4, r+5, r+6
		var s stream
		s.load2(one, t, middle, at-2*slotBytes+factorsAt)
		s.trn1d(one, one, t)
		s.store(one, area, at+powersEnd-16)
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
