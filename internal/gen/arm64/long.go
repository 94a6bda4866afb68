package main

import "fmt"

// The kernel for packets of any length: one packet at a time, eight blocks at once. While
// eight counter blocks are encrypted, the eight pending blocks of ciphertext before them
// are hashed.
//
// A group is eight counters. In the first, 0 to 7, counter 0 is not used, 1 makes E(J0),
// and 2 to 7 are for text. So counters of a group differ in the last octet only, and one
// addition makes the next.
type longKernel struct {
	*function
	o       variant
	keyLen  int
	sealing bool
	h       hasher
	w       walk
}

// Vector registers.
const (
	longState   = v(0)  // to 7
	longKey     = v(8)  // to 11: the next four round keys
	longText    = v(12) // to 19, while the hasher does not use them
	longPending = v(20) // to 27: blocks to hash
	longPoly    = v(28)
	longOne     = v(29) // 1 in a counter's last octet
	longBase    = v(30) // the first counter block of the next group
	longSum     = v(31)
)

// General registers.
const (
	longRows    = x(0) // the key
	longJob     = x(1)
	longPackets = x(2)
	longShared  = x(3)
	longSrc     = x(4)
	longDst     = x(5)
	longLeft    = x(6) // octets of text
	longCount   = x(7)
	longPower   = x(8)
	longFold    = x(9)
	longEnd     = x(10)
	longAAD     = x(11)
	longAADLeft = x(12) // octets of AAD
	longTemp    = x(13) // to 15: temporary
	longEJ0     = x(19) // E(J0)
	longEJ0High = x(20)
	longArea    = x(21)
	longIndex   = x(22)
	longLength  = x(23)
	longTemp4   = x(24)
)

func long(keyLen int, sealing bool, o variant) {
	what, doc := "openLong", "opens"
	if sealing {
		what, doc = "sealLong", "seals"
	}
	f := begin(name(what, keyLen, o),
		doc+" n packets, one at a time. shared: jobs have the numbers of their keys; otherwise key i is for job i. powers: the number of powers of H in a key, 4 or 8; packets of 96 octets and more need 8.",
		"area *byte", "jobs *byte", "n int", "shared int", "powers int")
	k := &longKernel{f, o, keyLen, sealing, hasher{o: o, lo: 12, mid: 13, hi: 14, t: 15, poly: longPoly, acc: longSum},
		walk{longPower, longFold, longEnd, longLength, longTemp4}}
	k.arg("area", longArea)
	k.arg("jobs", longJob)
	k.arg("n", longPackets)
	k.arg("shared", longShared)
	k.arg("powers", longLength)
	k.op("LSL $4, %v", longLength)
	k.op("MOVD ZR, %v", longIndex)
	k.op("VMOVQ $0x87, $0x87, V%d", int(longPoly))
	k.op("VMOVQ $0, $0x0100000000000000, V%d", int(longOne))

	k.at("packet")
	k.begin()
	k.aad()
	k.first()

	k.op("PCALIGN $16")
	k.at("group")
	k.op("CMP $128, %v", longLeft)
	k.op("BLT end")
	k.emit(k.encrypt(8, false), k.h.queue(longRows, longPending))
	k.text(8)
	k.op("B group")

	// Up to 127 octets are left, and eight blocks are pending.
	k.at("end")
	k.op("CBZ %v, hash", longLeft)
	k.op("CMP $64, %v", longLeft)
	k.op("BGT end8")
	k.emit(k.encrypt(4, false), k.h.queue(longRows, longPending))
	k.op("B ended")
	k.at("end8")
	k.emit(k.encrypt(8, false), k.h.queue(longRows, longPending))
	k.op("B ended")
	k.at("hash")
	k.emit(k.h.queue(longRows, longPending))
	k.at("ended")
	k.op("ADD $31, %v, %v", longLeft, longTemp) // blocks, and one for the lengths
	k.op("LSR $4, %v", longTemp)
	k.w.start(f, longTemp)
	k.h.clear(&k.lines)

	k.at("tail")
	k.tail()
	k.tag()
	k.op("ADD $%d, %v", jobBytes, longJob)
	k.op("ADD $1, %v", longIndex)
	k.op("SUBS $1, %v", longPackets)
	k.op("BNE packet")
	k.leave(longTemp, longTemp+1, longTemp+2, longEJ0, longEJ0High)
}

// begin loads a packet's job and finds its key.
func (k *longKernel) begin() {
	k.op("MOVWU %d(%v), %v", jobKey, longJob, longTemp)
	k.op("CMP $0, %v", longShared)
	k.op("CSEL NE, %v, %v, %v", longTemp, longIndex, longTemp)
	k.op("ADD %v<<9, %v, %v", longTemp, longArea, longRows) // slotBytes is 1<<9
	k.op("ADD $%d, %v, %v", powersEnd, longRows, longEnd)
	k.op("MOVD %d(%v), %v", jobAAD, longJob, longAAD)
	k.op("MOVD %d(%v), %v", jobSrc, longJob, longSrc)
	k.op("MOVD %d(%v), %v", jobDst, longJob, longDst)
	k.op("MOVWU %d(%v), %v", jobAADLen, longJob, longAADLeft)
	k.op("MOVWU %d(%v), %v", jobLen, longJob, longLeft)
	k.lines.load(longBase, longJob, jobNonce)
	k.op("VMOV ZR, %s", longBase.lane("S", 3))
	k.op("MOVD ZR, %v", longCount)
}

// aad hashes the AAD. If the text ends in the first group, the powers are those for AAD,
// text and lengths together.
func (k *longKernel) aad() {
	k.op("ADD $15, %v, %v", longAADLeft, longTemp)
	k.op("LSR $4, %v", longTemp)
	k.op("ADD $31, %v, %v", longLeft, longTemp+1)
	k.op("ADD %v>>4, %v, %v", longTemp+1, longTemp, longTemp+1)
	k.op("CMP $96, %v", longLeft)
	k.op("CSEL LT, %v, %v, %v", longTemp+1, longTemp, longTemp)
	k.w.start(k.function, longTemp)
	k.lines.zero(longSum)
	k.h.clear(&k.lines)
	k.op("CBZ %v, aad_done", longAADLeft)
	k.at("aad")
	k.op("CMP $16, %v", longAADLeft)
	k.op("BLT aad_part")
	k.op("FMOVQ.P 16(%v), %s", longAAD, longPending.f())
	k.op("SUB $16, %v", longAADLeft)
	k.at("aad_block")
	k.lines.rbit(longPending, longPending)
	k.w.block(k.function, &k.h, longPending)
	k.w.check(k.function, &k.h)
	k.op("CBNZ %v, aad", longAADLeft)
	k.op("B aad_done")
	k.at("aad_part")
	k.loadPart(longPending, longAAD, longAADLeft, longTemp, longTemp+1, longTemp+2, longTemp4)
	k.op("MOVD ZR, %v", longAADLeft)
	k.op("B aad_block")
	k.at("aad_done")
}

// encrypt runs AES over the next n counter blocks, except for adding the last round key,
// which is then in key. first: blocks of text begin with the third counter, and state 7 is
// that of E(J0).
func (k *longKernel) encrypt(n int, first bool) (s stream) {
	var states []v
	at := longBase
	count := func(d v) {
		s.add32(d, at, longOne)
		at = d
		states = append(states, d)
	}
	if first {
		count(longState + 7)
	} else {
		s.move(longState, longBase)
		at = longState
		states = append(states, longState)
	}
	for len(states) < n {
		d := longState + v(len(states))
		if first {
			d--
		}
		count(d)
	}
	// In a general register, since all octets of the counter may change.
	s.op("ADD $8, %v", longCount)
	s.op("REVW %v, %v", longCount, longTemp)
	s.op("VMOV %v, %s", longTemp, longBase.lane("S", 3))
	nr := rounds(k.keyLen)
	load := func(r int) {
		d := longKey + v(r%4)
		if r < nr {
			s.load2(d, d+1, longRows, 16*r)
		} else if r == nr {
			s.load(d, longRows, 16*r)
		}
	}
	load(0)
	for r := range nr {
		if r%2 == 0 {
			load(r + 2)
		}
		for _, x := range states {
			if r < nr-1 {
				s.aes(longKey+v(r%4), x)
			} else {
				s.aesLast(longKey+v(r%4), x)
			}
		}
	}
	return s
}

// last is the register with the last round key.
func (k *longKernel) last() v { return longKey + v(rounds(k.keyLen)%4) }

// crypt sets d to block a of text, xor the key stream in state and its last round key.
func (k *longKernel) crypt(s *stream, d, a, state v) { s.xor3(k.o, d, a, k.last(), state) }

// text encrypts or decrypts n whole blocks, at least 6, and leaves their ciphertext
// pending, in the last registers.
func (k *longKernel) text(n int) {
	s := &k.lines
	q := longPending + v(8-n)
	for i := v(0); i < v(n); i += 2 {
		s.load2(longText+i, longText+i+1, longSrc, 16*int(i))
	}
	k.op("ADD $%d, %v", 16*n, longSrc)
	for i := v(0); i < v(n); i += 2 {
		for j := i; j < i+2; j++ {
			if k.sealing {
				k.crypt(s, q+j, longText+j, longState+j)
			} else {
				k.crypt(s, longState+j, longText+j, longState+j)
			}
		}
		if k.sealing {
			s.store2(q+i, q+i+1, longDst, 16*int(i))
		} else {
			s.store2(longState+i, longState+i+1, longDst, 16*int(i))
		}
		for j := i; j < i+2; j++ {
			if k.sealing {
				s.rbit(q+j, q+j)
			} else {
				s.rbit(q+j, longText+j)
			}
		}
	}
	s.xor(q, q, longSum)
	for i := longPending; i < q; i++ {
		s.zero(i)
	}
	k.op("ADD $%d, %v", 16*n, longDst)
	k.op("SUB $%d, %v", 16*n, longLeft)
}

// first is the first group: E(J0), and up to six blocks of text.
func (k *longKernel) first() {
	mask := func() {
		k.lines.xor(longState+7, longState+7, k.last())
		k.op("VMOV %s, %v", (longState+7).lane("D", 0), longEJ0)
		k.op("VMOV %s, %v", (longState+7).lane("D", 1), longEJ0High)
	}
	k.op("CMP $64, %v", longLeft)
	k.op("BLE first5")
	k.emit(k.encrypt(7, true))
	mask()
	k.op("CMP $96, %v", longLeft)
	k.op("BLT tail")
	k.text(6)
	k.op("B group")
	k.at("first5")
	k.emit(k.encrypt(5, true))
	mask()
	k.op("B tail")
}

// tail takes the last text, up to 127 octets, whose key stream is ready.
func (k *longKernel) tail() {
	in, out, q := longPending, longPending+1, longPending+2
	for i := range v(8) {
		whole := fmt.Sprintf("whole_%d", i)
		if i < 7 {
			k.op("CMP $16, %v", longLeft)
			k.op("BGE %s", whole)
		}
		k.op("CBZ %v, lengths", longLeft)
		if i > 0 {
			k.lines.move(longState, longState+i)
		}
		if i == 7 {
			break
		}
		k.op("B part")
		k.at(whole)
		k.op("FMOVQ.P 16(%v), %s", longSrc, in.f())
		k.crypt(&k.lines, out, in, longState+i)
		k.op("FMOVQ.P %s, 16(%v)", out.f(), longDst)
		k.op("SUB $16, %v", longLeft)
		if k.sealing {
			k.lines.rbit(q, out)
		} else {
			k.lines.rbit(q, in)
		}
		k.w.block(k.function, &k.h, q)
		// Before the last one, powers end only if four or eight blocks follow, the lengths
		// among them. There are at most eight blocks of text, and at most six if there are
		// only four powers.
		if i < 3 {
			k.w.check(k.function, &k.h)
		}
	}
	k.at("part")
	k.loadPart(in, longSrc, longLeft, longTemp, longTemp+1, longTemp+2, longTemp4)
	k.crypt(&k.lines, out, in, longState)
	if k.sealing {
		k.keep(in, out, longLeft, longTemp)
	}
	k.lines.rbit(q, in)
	k.storePart(out, longDst, longLeft, longTemp, longTemp+1)
	k.w.block(k.function, &k.h, q)
	k.at("lengths")
}

// tag hashes the lengths, and makes the ICV.
func (k *longKernel) tag() {
	q, t := longPending, longPending+1
	k.lines.lengths(q, longJob, 0)
	k.w.block(k.function, &k.h, q)
	k.h.reduce(&k.lines)
	k.lines.rbit(longSum, longSum)
	k.op("FMOVD %v, %s", longEJ0, t.f())
	k.op("VMOV %v, %s", longEJ0High, t.lane("D", 1))
	k.lines.xor(t, t, longSum)
	k.op("MOVD %d(%v), %v", jobTag, longJob, longTemp)
	if k.sealing {
		k.lines.store(t, longTemp, 0)
		return
	}
	k.lines.compare(t, q, longTemp, longTemp+1, longJob, 0)
}
