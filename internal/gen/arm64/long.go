package main

import "fmt"

// The kernel for packets of any length: one packet at a time, eight blocks in
// flight. While eight counter blocks are encrypted, the eight blocks of
// ciphertext before them, which wait in registers, are hashed.
//
// Counters go by eights: the first group is 0 to 7, of which 0 is not used, 1
// makes E(J0) and 2 to 7 are the text's. So a block's counter differs from the
// one before in its last octet only, and the next is an addition away.
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
	lState = v(0)  // to 7
	lKey   = v(8)  // to 11: round keys as they come
	lText  = v(12) // to 19, when the hasher has no use for them
	lQueue = v(20) // to 27: blocks to hash
	lPoly  = v(28)
	lOne   = v(29) // 1 in a counter's last octet
	lBase  = v(30) // the next group's first counter block
	lAcc   = v(31)
)

// General registers.
const (
	lRows   = x(0) // the key
	lJob    = x(1)
	lN      = x(2)
	lHeld   = x(3)
	lSrc    = x(4)
	lDst    = x(5)
	lLeft   = x(6) // octets of text
	lCount  = x(7)
	lPower  = x(8)
	lFold   = x(9)
	lEnd    = x(10)
	lAAD    = x(11)
	lMore   = x(12) // octets of AAD
	lG      = x(13) // to 15: temporary
	lMask0  = x(19) // E(J0)
	lMask1  = x(20)
	lArea   = x(21)
	lIndex  = x(22)
	lLength = x(23)
	lG4     = x(24)
)

func long(keyLen int, sealing bool, o variant) {
	what, doc := "openLong", "opens"
	if sealing {
		what, doc = "sealLong", "seals"
	}
	f := begin(name(what, keyLen, o),
		doc+" n packets, one by one. held: jobs name their keys, else key i is job i's. powers: how many of H there are, 4 or 8; packets of 96 octets and more need 8.",
		"area *byte", "jobs *byte", "n int", "held int", "powers int")
	k := &longKernel{f, o, keyLen, sealing, hasher{o: o, lo: 12, mid: 13, hi: 14, t: 15, poly: lPoly, acc: lAcc},
		walk{lPower, lFold, lEnd, lLength, lG4}}
	k.arg("area", lArea)
	k.arg("jobs", lJob)
	k.arg("n", lN)
	k.arg("held", lHeld)
	k.arg("powers", lLength)
	k.op("LSL $4, %v", lLength)
	k.op("MOVD ZR, %v", lIndex)
	k.op("VMOVQ $0x87, $0x87, V%d", int(lPoly))
	k.op("VMOVQ $0, $0x0100000000000000, V%d", int(lOne))

	k.at("packet")
	k.begin()
	k.aad()
	k.first()

	k.op("PCALIGN $16")
	k.at("group")
	k.op("CMP $128, %v", lLeft)
	k.op("BLT end")
	k.emit(k.encrypt(8, false), k.h.queue(lRows, lQueue))
	k.text(8)
	k.op("B group")

	// Up to 127 octets are left, and eight blocks wait.
	k.at("end")
	k.op("CBZ %v, hash", lLeft)
	k.op("CMP $64, %v", lLeft)
	k.op("BGT end8")
	k.emit(k.encrypt(4, false), k.h.queue(lRows, lQueue))
	k.op("B ended")
	k.at("end8")
	k.emit(k.encrypt(8, false), k.h.queue(lRows, lQueue))
	k.op("B ended")
	k.at("hash")
	k.emit(k.h.queue(lRows, lQueue))
	k.at("ended")
	k.op("ADD $31, %v, %v", lLeft, lG) // blocks, and one for the lengths
	k.op("LSR $4, %v", lG)
	k.w.start(f, lG)
	k.h.clear(&k.lines)

	k.at("tail")
	k.tail()
	k.tag()
	k.op("ADD $%d, %v", jobBytes, lJob)
	k.op("ADD $1, %v", lIndex)
	k.op("SUBS $1, %v", lN)
	k.op("BNE packet")
	k.leave(lG, lG+1, lG+2, lMask0, lMask1)
}

// begin finds out about a packet.
func (k *longKernel) begin() {
	k.op("MOVWU %d(%v), %v", jobKey, lJob, lG)
	k.op("CMP $0, %v", lHeld)
	k.op("CSEL NE, %v, %v, %v", lG, lIndex, lG)
	k.op("LSL $3, %v, %v", lG, lG+1) // slotBytes is 7<<6
	k.op("SUB %v, %v", lG, lG+1)
	k.op("ADD %v<<6, %v, %v", lG+1, lArea, lRows)
	k.op("ADD $%d, %v, %v", powersEnd, lRows, lEnd)
	k.op("MOVD %d(%v), %v", jobAAD, lJob, lAAD)
	k.op("MOVD %d(%v), %v", jobSrc, lJob, lSrc)
	k.op("MOVD %d(%v), %v", jobDst, lJob, lDst)
	k.op("MOVWU %d(%v), %v", jobAADLen, lJob, lMore)
	k.op("MOVWU %d(%v), %v", jobLen, lJob, lLeft)
	k.lines.load(lBase, lJob, jobNonce)
	k.op("VMOV ZR, %s", lBase.lane("S", 3))
	k.op("MOVD ZR, %v", lCount)
}

// aad hashes the AAD. A text that ends with the first group goes with it, as if
// it were one with the AAD and the lengths.
func (k *longKernel) aad() {
	k.op("ADD $15, %v, %v", lMore, lG)
	k.op("LSR $4, %v", lG)
	k.op("ADD $31, %v, %v", lLeft, lG+1)
	k.op("ADD %v>>4, %v, %v", lG+1, lG, lG+1)
	k.op("CMP $96, %v", lLeft)
	k.op("CSEL LT, %v, %v, %v", lG+1, lG, lG)
	k.w.start(k.function, lG)
	k.lines.zero(lAcc)
	k.h.clear(&k.lines)
	k.op("CBZ %v, aad_done", lMore)
	k.at("aad")
	k.op("CMP $16, %v", lMore)
	k.op("BLT aad_part")
	k.op("FMOVQ.P 16(%v), %s", lAAD, lQueue.f())
	k.op("SUB $16, %v", lMore)
	k.at("aad_block")
	k.lines.rbit(lQueue, lQueue)
	k.w.block(k.function, &k.h, lQueue)
	k.w.check(k.function, &k.h)
	k.op("CBNZ %v, aad", lMore)
	k.op("B aad_done")
	k.at("aad_part")
	k.loadPart(lQueue, lAAD, lMore, lG, lG+1, lG+2, lG4)
	k.op("MOVD ZR, %v", lMore)
	k.op("B aad_block")
	k.at("aad_done")
}

// encrypt runs AES over the next n counter blocks; the last round key, which is
// then in key, is still to be added. first: text blocks are from the third
// counter on, and state 7 is that of E(J0).
func (k *longKernel) encrypt(n int, first bool) (s stream) {
	var states []v
	at := lBase
	count := func(d v) {
		s.add32(d, at, lOne)
		at = d
		states = append(states, d)
	}
	if first {
		count(lState + 7)
	} else {
		s.move(lState, lBase)
		at = lState
		states = append(states, lState)
	}
	for len(states) < n {
		d := lState + v(len(states))
		if first {
			d--
		}
		count(d)
	}
	// By GPR: the lower octets of the counter may all change.
	s.op("ADD $8, %v", lCount)
	s.op("REVW %v, %v", lCount, lG)
	s.op("VMOV %v, %s", lG, lBase.lane("S", 3))
	nr := rounds(k.keyLen)
	load := func(r int) {
		d := lKey + v(r%4)
		if r < nr {
			s.load2(d, d+1, lRows, 16*r)
		} else if r == nr {
			s.load(d, lRows, 16*r)
		}
	}
	load(0)
	for r := range nr {
		if r%2 == 0 {
			load(r + 2)
		}
		for _, x := range states {
			if r < nr-1 {
				s.aes(lKey+v(r%4), x)
			} else {
				s.aesLast(lKey+v(r%4), x)
			}
		}
	}
	return s
}

// last is where the last round key is.
func (k *longKernel) last() v { return lKey + v(rounds(k.keyLen)%4) }

// crypt makes d of a block of text a and the key stream's state.
func (k *longKernel) crypt(s *stream, d, a, state v) { s.xor3(k.o, d, a, k.last(), state) }

// text encrypts or decrypts n whole blocks, at least 6, and leaves their
// ciphertext waiting, at the queue's end.
func (k *longKernel) text(n int) {
	s := &k.lines
	q := lQueue + v(8-n)
	for i := v(0); i < v(n); i += 2 {
		s.load2(lText+i, lText+i+1, lSrc, 16*int(i))
	}
	k.op("ADD $%d, %v", 16*n, lSrc)
	for i := v(0); i < v(n); i += 2 {
		for j := i; j < i+2; j++ {
			if k.sealing {
				k.crypt(s, q+j, lText+j, lState+j)
			} else {
				k.crypt(s, lState+j, lText+j, lState+j)
			}
		}
		if k.sealing {
			s.store2(q+i, q+i+1, lDst, 16*int(i))
		} else {
			s.store2(lState+i, lState+i+1, lDst, 16*int(i))
		}
		for j := i; j < i+2; j++ {
			if k.sealing {
				s.rbit(q+j, q+j)
			} else {
				s.rbit(q+j, lText+j)
			}
		}
	}
	s.xor(q, q, lAcc)
	for i := lQueue; i < q; i++ {
		s.zero(i)
	}
	k.op("ADD $%d, %v", 16*n, lDst)
	k.op("SUB $%d, %v", 16*n, lLeft)
}

// first is the first group: E(J0), and up to six blocks of text.
func (k *longKernel) first() {
	mask := func() {
		k.lines.xor(lState+7, lState+7, k.last())
		k.op("VMOV %s, %v", (lState+7).lane("D", 0), lMask0)
		k.op("VMOV %s, %v", (lState+7).lane("D", 1), lMask1)
	}
	k.op("CMP $64, %v", lLeft)
	k.op("BLE first5")
	k.emit(k.encrypt(7, true))
	mask()
	k.op("CMP $96, %v", lLeft)
	k.op("BLT tail")
	k.text(6)
	k.op("B group")
	k.at("first5")
	k.emit(k.encrypt(5, true))
	mask()
	k.op("B tail")
}

// tail is the last text, up to 127 octets, whose key stream is there.
func (k *longKernel) tail() {
	in, out, q := lQueue, lQueue+1, lQueue+2
	for i := range v(8) {
		whole := fmt.Sprintf("whole_%d", i)
		if i < 7 {
			k.op("CMP $16, %v", lLeft)
			k.op("BGE %s", whole)
		}
		k.op("CBZ %v, lengths", lLeft)
		if i > 0 {
			k.lines.move(lState, lState+i)
		}
		if i == 7 {
			break
		}
		k.op("B part")
		k.at(whole)
		k.op("FMOVQ.P 16(%v), %s", lSrc, in.f())
		k.crypt(&k.lines, out, in, lState+i)
		k.op("FMOVQ.P %s, 16(%v)", out.f(), lDst)
		k.op("SUB $16, %v", lLeft)
		if k.sealing {
			k.lines.rbit(q, out)
		} else {
			k.lines.rbit(q, in)
		}
		k.w.block(k.function, &k.h, q)
		// An end, but for the last, has four or eight blocks behind it, of which
		// one is the lengths'. There are at most eight blocks of text, and where
		// there are only four powers, six.
		if i < 3 {
			k.w.check(k.function, &k.h)
		}
	}
	k.at("part")
	k.loadPart(in, lSrc, lLeft, lG, lG+1, lG+2, lG4)
	k.crypt(&k.lines, out, in, lState)
	if k.sealing {
		k.keep(in, out, lLeft, lG)
	}
	k.lines.rbit(q, in)
	k.storePart(out, lDst, lLeft, lG, lG+1)
	k.w.block(k.function, &k.h, q)
	k.at("lengths")
}

// tag hashes the lengths; then the ICV is there.
func (k *longKernel) tag() {
	q, t := lQueue, lQueue+1
	k.lines.lengths(q, lJob, 0)
	k.w.block(k.function, &k.h, q)
	k.h.reduce(&k.lines)
	k.lines.rbit(lAcc, lAcc)
	k.op("FMOVD %v, %s", lMask0, t.f())
	k.op("VMOV %v, %s", lMask1, t.lane("D", 1))
	k.lines.xor(t, t, lAcc)
	k.op("MOVD %d(%v), %v", jobTag, lJob, lG)
	if k.sealing {
		k.lines.store(t, lG, 0)
		return
	}
	k.lines.compare(t, q, lG, lG+1, lJob, 0)
}
