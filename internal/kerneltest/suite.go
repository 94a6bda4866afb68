// Package kerneltest has the tests that every backend must pass. Results are
// compared with crypto/aes and crypto/cipher and with the generic backend. All
// buffers are between guard pages, or between octets that are checked
// afterwards.
//
// Environment: EESP_TEST_REQUIRE is a comma-separated list of backends that tests may not
// skip; it may also have "vectors", and "eor3" for that variant of armv8. EESP_TEST_PACKETS
// is the number of packets in random bursts; with EESP_TEST_LONG there are twenty times as
// many. EESP_TEST_SEED selects other random bursts.
package kerneltest

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"libeesp/internal/generic"
	"libeesp/internal/kernel"
	"libeesp/internal/testrun"
)

// Required reports whether tests may not skip this backend or other item.
func Required(name string) bool { return slices.Contains(AllRequired(), name) }

// AllRequired is the list in EESP_TEST_REQUIRE.
func AllRequired() []string {
	return strings.FieldsFunc(os.Getenv("EESP_TEST_REQUIRE"), func(r rune) bool { return r == ',' || r == ' ' })
}

var (
	keyLens = []int{16, 32}
	modes   = []kernel.Mode{kernel.OneShot, kernel.Shared}
)

// suite is one backend under test.
type suite struct {
	rig     *rig
	quick   bool // short tests: a sample of the cases
	long    bool // all cases
	slow    bool // the generic backend
	packets int  // in random bursts
}

// Run runs all tests on one backend.
func Run(t *testing.T, be *kernel.Backend) {
	s := &suite{rig: rigFor(t, be, kernel.Chunk, maxText), quick: testing.Short(), long: testrun.Long(), slow: be.Name == generic.Backend.Name, packets: testrun.Rounds(20_000, 50_000, 1_000_000)}
	// The generic kernels have one loop for all lengths, and all cases would take a minute.
	s.quick = s.quick || s.slow && !s.long
	// The race detector does not see accesses of kernels, and makes the tests ten times slower.
	if s.slow || testrun.Race && testing.Short() {
		s.packets /= 10
	}
	if v := os.Getenv("EESP_TEST_PACKETS"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			t.Fatalf("EESP_TEST_PACKETS: %v", err)
		}
		s.packets = n
	}
	for _, x := range []struct {
		name string
		test func(*testing.T)
	}{
		{"KeyBytes", s.keyBytes},
		{"Derive", s.derive},
		{"Lengths", s.lengths},
		{"EqualLengths", s.equalLengths},
		{"NearLengths", s.nearLengths},
		{"Tiny", s.tiny},
		{"Singles", s.singles},
		{"Derived", s.derived},
		{"Alignments", s.alignments},
		{"AAD", s.aad},
		{"Slots", s.slots},
		{"Forgeries", s.forgeries},
		{"LongPackets", s.longPackets},
		{"Heads", s.heads},
		{"Bursts", s.bursts},
		{"AgainstGeneric", s.againstGeneric},
		{"Vectors", s.vectors},
		{"LeavesNothing", s.leavesNothing},
	} {
		t.Run(x.name, x.test)
	}
}

// source makes test data. Texts are parts of one pool of random octets.
type source struct {
	*rand.Rand
	pool []byte
}

func newSource(t *testing.T, text int) *source {
	h := fnv.New64a()
	h.Write([]byte(t.Name()))
	h.Write([]byte(os.Getenv("EESP_TEST_SEED")))
	var seed [32]byte
	h.Sum(seed[:0])
	c := rand.NewChaCha8(seed)
	s := &source{rand.New(c), make([]byte, 2*text+64<<10)}
	c.Read(s.pool)
	return s
}

func (s *source) octets(n int) []byte { return s.pool[s.IntN(len(s.pool)-n):][:n:n] }

func (s *source) key() (k [32]byte) {
	copy(k[:], s.octets(32))
	k[0], k[1] = byte(s.Uint32()), byte(s.Uint32())
	return k
}

// place is an edge half of the time.
func (s *source) place() where { return s.edge(s.IntN(4)) }

// edge is one of the two edges, or a place between them.
func (s *source) edge(i int) where {
	switch i {
	case 0:
		return atStart
	case 1:
		return atEnd
	}
	return where(s.IntN(64))
}

func (s *source) layout() layout {
	return layout{s.place(), s.place(), s.place(), s.place(), s.IntN(4) == 0, s.IntN(2) == 0}
}

func (s *source) packet(text, aad int) packet {
	p := packet{text: s.octets(text), aad: s.octets(aad), layout: s.layout()}
	copy(p.nonce[:], s.octets(12))
	return p
}

// burst gives packets keys: as many slots as packets.
func (s *source) burst(keyLen int, mode kernel.Mode, packets []packet) *burst {
	b := &burst{keyLen: keyLen, mode: mode, packets: packets, edge: s.place()}
	for i := range packets {
		b.keys = append(b.keys, s.key())
		packets[i].key = i
	}
	s.Shuffle(len(packets), func(i, j int) { packets[i].key, packets[j].key = packets[j].key, packets[i].key })
	return b
}

func (s *suite) do(t *testing.T, b *burst) {
	t.Helper()
	if err := s.rig.roundTrip(b); err != nil {
		t.Fatal(err)
	}
}

// each calls f for all combinations of key length and mode.
func each(f func(keyLen int, mode kernel.Mode)) {
	for _, keyLen := range keyLens {
		for _, mode := range modes {
			f(keyLen, mode)
		}
	}
}

func (s *suite) keyBytes(t *testing.T) {
	be := s.rig.be
	if be.KeyBytes < 16*15 || be.KeyBytes > kernel.MaxKeyBytes || 4*be.KeyBytes%64 != 0 {
		t.Errorf("KeyBytes is %d", be.KeyBytes)
	}
}

func (s *suite) derive(t *testing.T) {
	src := newSource(t, maxDerive)
	do := func(d *derivation) {
		d.key = src.key()
		d.msgs = src.octets(d.n * d.blocks * 16)
		if err := s.rig.derive(d); err != nil {
			t.Fatal(err)
		}
	}
	step := 1
	if s.quick {
		step = 7
	}
	for blocks := 1; blocks <= 3; blocks++ {
		for n := 1; n <= 100; n += step {
			for place := range 3 {
				padded := (n+place)%2 == 0
				do(&derivation{n: n, blocks: blocks, padded: padded, in: src.edge(place), out: src.edge(place)})
				do(&derivation{n: n, blocks: blocks, padded: !padded, in: src.place(), out: src.place()})
				if blocks == 1 {
					do(&derivation{n: n, blocks: 1, padded: padded, in: src.edge(place), inPlace: true})
				}
			}
		}
		do(&derivation{n: 1021, blocks: blocks, in: atEnd, out: atEnd})
	}
	for a := range where(64) {
		n := 1 + src.IntN(40)
		do(&derivation{n: n, blocks: 1 + src.IntN(3), in: a, out: src.place()})
		do(&derivation{n: n, blocks: 1 + src.IntN(3), in: src.place(), out: a})
		do(&derivation{n: n, blocks: 4 + src.IntN(4), in: a, out: a, padded: true})
	}
}

func (s *suite) textLengths() []int {
	var l []int
	for _, x := range [][2]int{{0, 2200}, {4096 - 40, 4096 + 40}, {9000 - 40, 9000 + 40}} {
		for n := x[0]; n <= x[1]; n++ {
			l = append(l, n)
		}
	}
	return l
}

// lengths tests each length in bursts of similar lengths, with each kind of place, in place
// and not. In short tests lengths are spread over the kinds instead.
func (s *suite) lengths(t *testing.T) {
	src := newSource(t, maxText)
	all := s.textLengths()
	pass := 0
	each(func(keyLen int, mode kernel.Mode) {
		for kind := range 4 {
			for _, inPlace := range []bool{false, true} {
				ls := all
				if s.quick { // all passes together take each length
					ls = nil
					for i := pass; i < len(all); i += 32 {
						ls = append(ls, all[i])
					}
				}
				pass++
				for len(ls) > 0 {
					n := min(len(ls), 1+src.IntN(kernel.Chunk))
					var ps []packet
					for _, l := range ls[:n] {
						p := src.packet(l, src.IntN(41))
						w := src.edge(kind)
						p.layout = layout{w, w, w, w, kind == 3, inPlace}
						ps = append(ps, p)
					}
					ls = ls[n:]
					s.do(t, src.burst(keyLen, mode, ps))
				}
			}
		}
	})
}

// equalLengths tests bursts of one length, with all lanes in use and with a single packet.
func (s *suite) equalLengths(t *testing.T) {
	src := newSource(t, maxText)
	step := 1
	if s.slow {
		step = 3
	}
	if s.quick {
		step = 41
	}
	all := s.textLengths()
	phase := 0
	each(func(keyLen int, mode kernel.Mode) {
		for i := phase; i < len(all); i += step {
			aad := src.IntN(41)
			for _, n := range []int{1, 2 + src.IntN(7), 9 + src.IntN(24)} {
				// All lanes: a quarter of the lengths in each case, except in long tests.
				if every := 4; n > 8 && !s.long {
					if s.quick || s.slow {
						every = 8
					}
					if (i+phase)%every != 0 {
						continue
					}
				}
				var ps []packet
				for range n {
					ps = append(ps, src.packet(all[i], aad))
				}
				s.do(t, src.burst(keyLen, mode, ps))
			}
		}
		phase++
	})
}

// singles tests single packets with AAD and text of many lengths.
func (s *suite) singles(t *testing.T) {
	src := newSource(t, maxText)
	step := 9 // all lengths in nine passes
	if s.quick {
		step = 97 // and each in two or three
	}
	phase := 0
	each(func(keyLen int, mode kernel.Mode) {
		for aad := range 67 { // some kernels for single packets take up to 64
			for text := phase % step; text < 600; text += step {
				s.do(t, src.burst(keyLen, mode, []packet{src.packet(text, aad)}))
			}
			phase++
		}
	})
}

// tiny tests few packets side by side with each number of blocks of AAD and of text, whole blocks and a little more
// or less: kernels lay such packets out in other ways than longer ones.
func (s *suite) tiny(t *testing.T) {
	src := newSource(t, maxText)
	each(func(keyLen int, mode kernel.Mode) {
		for _, aad := range []int{0, 7, 8, 15, 16, 17, 32, 33} {
			for _, text := range []int{0, 1, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65} {
				var ps []packet
				for _, more := range []int{0, 0, src.IntN(2), src.IntN(66 - text)} {
					ps = append(ps, src.packet(text+more, aad))
				}
				s.do(t, src.burst(keyLen, mode, ps))
			}
		}
	})
}

// alignments tests src, dst, AAD and tag at each place modulo 64.
func (s *suite) alignments(t *testing.T) {
	src := newSource(t, maxText)
	texts := []int{0, 1, 15, 16, 17, 31, 47, 63, 64, 65, 127, 192, 255, 256, 257, 600, 1023, 1420}
	if s.quick {
		texts = []int{1, 16, 31, 64, 257}
	}
	each(func(keyLen int, mode kernel.Mode) {
		for _, l := range texts {
			for from := 0; from < 64; from += kernel.Chunk / 4 {
				var ps []packet
				for a := from; a < from+kernel.Chunk/4; a++ {
					for part := range 4 {
						p := src.packet(l, src.IntN(60))
						p.layout.joined = false
						w := where(a)
						switch part {
						case 0:
							p.layout.src, p.layout.inPlace = w, false
						case 1:
							p.layout.dst = w
						case 2:
							p.layout.aad = w
						case 3:
							p.layout.tag = w
						}
						ps = append(ps, p)
					}
				}
				s.do(t, src.burst(keyLen, mode, ps))
			}
		}
	})
}

func (s *suite) aad(t *testing.T) {
	src := newSource(t, maxText)
	var lens []int
	for n := range 141 {
		lens = append(lens, n)
	}
	for n := 141; n <= 1200; n += 13 {
		lens = append(lens, n, n&^15)
	}
	texts := []int{0, 1, 16, 60, 64, 300, 1100}
	if s.quick {
		texts = []int{0, 60, 300}
	}
	each(func(keyLen int, mode kernel.Mode) {
		for i, text := range texts {
			for kind := range 4 {
				if s.quick && kind != i%2 { // at an edge
					continue
				}
				for rest := lens; len(rest) > 0; { // lengths mixed
					n := min(len(rest), 1+src.IntN(kernel.Chunk))
					var ps []packet
					for _, l := range rest[:n] {
						p := src.packet(text, l)
						p.layout.aad = src.edge(kind)
						ps = append(ps, p)
					}
					rest = rest[n:]
					s.do(t, src.burst(keyLen, mode, ps))
				}
			}
			for i := 0; i < len(lens); i++ { // equal
				if s.quick && i%16 != 0 {
					continue
				}
				var ps []packet
				for range 4 + i%5 {
					p := src.packet(text, lens[i])
					p.layout.aad = src.edge(i % 3)
					ps = append(ps, p)
				}
				s.do(t, src.burst(keyLen, mode, ps))
			}
		}
	})
}

// slots tests jobs that share keys, in any order, in several calls.
func (s *suite) slots(t *testing.T) {
	src := newSource(t, maxText)
	for _, keyLen := range keyLens {
		for slots := 1; slots <= kernel.Chunk; slots++ {
			b := &burst{keyLen: keyLen, mode: kernel.Shared, edge: src.place()}
			for range slots {
				b.keys = append(b.keys, src.key())
			}
			for call := range 4 {
				b.packets = nil
				for i := range 1 + src.IntN(kernel.Chunk) {
					p := src.packet(src.IntN(200), src.IntN(40))
					if i%5 == 4 {
						p = src.packet(src.IntN(2000), 20)
					}
					p.key = src.IntN(slots)
					if call == 0 {
						p.key = slots - 1
					}
					b.packets = append(b.packets, p)
				}
				b.order()
				if err := b.reference(); err != nil {
					t.Fatal(err)
				}
				if call == 0 { // once for all calls
					if err := s.rig.expand(b, false); err != nil {
						t.Fatal(err)
					}
				}
				if err := s.rig.seal(b); err != nil {
					t.Fatal(err)
				}
				if err := s.rig.open(b); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// forgeries changes one bit of one packet; the others must open.
func (s *suite) forgeries(t *testing.T) {
	src := newSource(t, maxText)
	texts := []int{0, 1, 16, 63, 64, 100, 300, 1100}
	if s.quick {
		texts = []int{0, 60, 300}
	}
	each(func(keyLen int, mode kernel.Mode) {
		for _, text := range texts {
			try := func(forged part, bits, step int) {
				for bit := 0; bit < bits; bit += step {
					var ps []packet
					for range 1 + src.IntN(9) {
						ps = append(ps, src.packet(text, 20))
					}
					b := src.burst(keyLen, mode, ps)
					if err := b.reference(); err != nil {
						t.Fatal(err)
					}
					if mode == kernel.Shared {
						if err := s.rig.expand(b, false); err != nil {
							t.Fatal(err)
						}
					}
					victim := &ps[src.IntN(len(ps))]
					victim.forged, victim.bit = forged, bit
					if err := s.rig.reopen(b); err != nil {
						t.Fatal(err)
					}
				}
			}
			textStep := 3
			if text > 100 || s.quick {
				textStep = 61 // prime to 8 and 128
			}
			tagStep := 1
			if s.quick {
				tagStep = 5
			}
			try(tagPart, 128, tagStep)
			try(textPart, 8*text, textStep)
			try(aadPart, 8*20, 7)
			try(noncePart, 96, 5)
			try(keyPart, 8*keyLen, 11)
		}
		// Several forged packets at once, and all.
		for every := 1; every <= 3; every++ {
			for _, n := range []int{1, 2, 4, 7, 8, 16, 32} {
				var ps []packet
				for i := range n {
					p := src.packet(64+i%3, 20)
					if i%every == 0 {
						p.forged, p.bit = tagPart, src.IntN(128)
					}
					ps = append(ps, p)
				}
				s.do(t, src.burst(keyLen, mode, ps))
			}
		}
	})
}

// longPackets tests packets whose block counters carry over two octets, up to the longest
// packets and a little longer.
func (s *suite) longPackets(t *testing.T) {
	const most = 1<<20 + 700
	r := rigFor(t, s.rig.be, 4, most)
	src := newSource(t, most)
	each(func(keyLen int, mode kernel.Mode) {
		if s.quick && mode == kernel.Shared {
			return
		}
		ps := []packet{src.packet(most-src.IntN(300), 20)}
		ps[0].nonce = [12]byte{11: 0xFF, 10: 0xFF}
		if !s.slow {
			ps = append(ps, src.packet(1<<20, 0), src.packet(65534*16, 33), src.packet(60, 20))
		}
		if err := r.roundTrip(src.burst(keyLen, mode, ps)); err != nil {
			t.Fatal(err)
		}
	})
}

// random makes a random burst of up to most packets.
func (s *source) random(most int) *burst {
	n := 1 + s.IntN(most)
	if s.IntN(4) == 0 {
		n = most
	}
	kind, long := s.IntN(6), s.IntN(100) == 0
	base := s.IntN(1500)
	var ps []packet
	for range n {
		var text int
		switch kind {
		case 0, 1: // IMIX
			text = [12]int{7: 594, 594, 594, 594, 1420}[s.IntN(12)]
			if text == 0 {
				text = 64
			}
			text -= s.IntN(3)
		case 2: // tiny
			text = s.IntN(100)
		case 3:
			text = s.IntN(300)
		case 4: // neighbours
			text = base + s.IntN(20)
		case 5: // anything
			text = s.IntN(2201)
			if s.IntN(2) == 0 {
				text &^= 15
			}
		}
		if long && s.IntN(3) == 0 {
			text = s.IntN(maxText)
		}
		aad := 16 + s.IntN(25)
		switch s.IntN(32) {
		case 0:
			aad = s.IntN(maxAAD)
		case 1, 2, 3:
			aad = s.IntN(141)
		}
		ps = append(ps, s.packet(text, aad))
	}
	b := s.burst(keyLens[s.IntN(2)], modes[s.IntN(2)], ps)
	if b.mode == kernel.Shared && s.IntN(2) == 0 { // shared slots
		slots := 1 + s.IntN(n)
		for i := range ps {
			ps[i].key = s.IntN(slots)
		}
	}
	if s.IntN(4) == 0 {
		for i := range ps {
			if s.IntN(8) != 0 {
				continue
			}
			f := []part{tagPart, textPart, aadPart, noncePart}[s.IntN(4)]
			bits := [...]int{tagPart: 128, textPart: 8 * len(ps[i].text), aadPart: 8 * len(ps[i].aad), noncePart: 96}[f]
			if bits > 0 {
				ps[i].forged, ps[i].bit = f, s.IntN(bits)
			}
		}
	}
	return b
}

// nearLengths tests groups of four packets, which short kernels take side by side, of all numbers of
// chunks: packets that end in different chunks, and packets that all end in one, with few octets there, also not
// equally many.
func (s *suite) nearLengths(t *testing.T) {
	src := newSource(t, maxText)
	const most = 3968 // longer ones are never side by side
	step := 64
	if s.slow {
		step = 320
	}
	each(func(keyLen int, mode kernel.Mode) {
		group := func(length func(i int) int) {
			var ps []packet
			aad := src.IntN(65) // of one length: for others the first chunk takes another way
			for i := range 4 {
				ps = append(ps, src.packet(length(i), aad))
			}
			s.do(t, src.burst(keyLen, mode, ps))
		}
		for n := 64; n <= most; n += step {
			apart := 64 + n/8
			group(func(i int) int { return n + i*apart/3 })
			group(func(i int) int { return n + src.IntN(apart+1) })
			group(func(int) int { return n + 1 + src.IntN(16) })
			for _, tail := range []int{1, 12, 15, 16, 17, 32, 33, 63} {
				group(func(int) int { return n + tail })
			}
		}
	})
}

func (s *suite) bursts(t *testing.T) {
	src := newSource(t, maxText)
	done := 0
	for done < s.packets {
		b := src.random(kernel.Chunk)
		s.do(t, b)
		done += len(b.packets)
	}
	t.Logf("%d packets", done)
}

// againstGeneric compares random bursts and derivations with the generic
// backend, which shares no code with crypto/aes.
func (s *suite) againstGeneric(t *testing.T) {
	if s.slow {
		t.Skip("this is the generic backend")
	}
	g := rigFor(t, &generic.Backend, kernel.Chunk, maxText)
	src := newSource(t, maxText)
	for done := 0; done < min(s.packets/5, 10_000); {
		b := src.random(kernel.Chunk)
		b.order()
		if err := b.reference(); err != nil {
			t.Fatal(err)
		}
		if err := g.expand(b, false); err != nil {
			t.Fatal(err)
		}
		if err := g.seal(b); err != nil {
			t.Fatal(fmt.Errorf("generic: %w", err))
		}
		for i := range b.packets {
			p, x := &b.packets[i], &g.spans[i]
			p.sealed = append(append(p.sealed[:0], x.dst.bytes()...), x.tag.bytes()...)
			p.given = true
		}
		s.do(t, b)
		done += len(b.packets)
	}
	for range 200 {
		d := &derivation{key: src.key(), n: 1 + src.IntN(100), blocks: 1 + src.IntN(3), padded: src.IntN(2) == 0, in: src.place(), out: src.place()}
		d.msgs = src.octets(d.n * d.blocks * 16)
		if err := g.derive(d); err != nil {
			t.Fatal(fmt.Errorf("generic: %w", err))
		}
		d.want = append([]byte(nil), g.out.at(d.n*16, d.out).bytes()...)
		if err := s.rig.derive(d); err != nil {
			t.Fatal(err)
		}
	}
}
