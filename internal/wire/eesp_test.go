package wire

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"libeesp/internal/status"
)

// formats returns all formats that an SA can have, with 3 Sub SAs. Those of draft -02 have
// Flow Identifiers.
func formats() (all []EESPFormat) {
	for i := range 16 {
		for _, most := range []uint8{0, 1, 63} {
			s := EESPFormat{Seq: i&1 != 0, IV: i&2 != 0, Full: i&4 != 0, MaxCOffset: most, SubSAs: 3, Flow: i&8 == 0}
			if s.Valid() {
				all = append(all, s)
			}
		}
	}
	return
}

// write returns the header with these fields.
func (h *EESP) write(t testing.TB, s *EESPFormat, flow []byte, align int) []byte {
	t.Helper()
	var b [EESPMaxHeader]byte
	at, c := EESPTemplate(&b, s, h.Session, h.SPI, flow, align)
	if c != status.OK {
		t.Fatalf("%+v, %d octets of flow, alignment %d: %v", s, len(flow), align, c)
	}
	n := at + s.PeerLen()
	if s.MaxCOffset != 0 {
		b[EESPCOffset], b[EESPCOffset+1] = EESPOffsets(n, h.COffset)
	}
	if s.Seq {
		binary.BigEndian.PutUint64(b[at:], h.Seq)
	}
	if s.IV {
		binary.BigEndian.PutUint64(b[n-8:], h.IV)
	}
	return b[:n]
}

func TestEESPFormat(t *testing.T) {
	if n := len(formats()); n != 2*(3*3+3) {
		t.Fatalf("%d formats", n)
	}
	for s, ok := range map[EESPFormat]bool{
		{Seq: true, SubSAs: 1}:                               true,
		{IV: true, SubSAs: 65536}:                            true,
		{Seq: true, SubSAs: 1, Full: true, MaxCOffset: 63}:   true,
		{Seq: true, SubSAs: 0}:                               false,
		{Seq: true, SubSAs: 65537}:                           false,
		{Full: true, SubSAs: 1}:                              false,
		{Seq: true, SubSAs: 1, MaxCOffset: 1}:                false,
		{Seq: true, SubSAs: 1, Full: true, MaxCOffset: 64}:   false,
		{Seq: true, IV: true, SubSAs: 1, MaxCOffset: 1 << 7}: false,
	} {
		if s.Valid() != ok {
			t.Errorf("%+v", s)
		}
		if _, c := EESPTemplate(new([EESPMaxHeader]byte), &s, 0, 1, nil, 4); (c == status.OK) != ok {
			t.Errorf("%+v: %v", s, c)
		}
	}
}

func TestEESPLayout(t *testing.T) {
	seq, both := EESPFormat{Seq: true, SubSAs: 1, Flow: true}, EESPFormat{Seq: true, IV: true, SubSAs: 1 << 16}
	full := EESPFormat{IV: true, Full: true, SubSAs: 5, Flow: true}
	crypt := EESPFormat{Seq: true, IV: true, Full: true, MaxCOffset: 63, SubSAs: 1, Flow: true}
	for _, x := range []struct {
		s     *EESPFormat
		flow  string
		align int
		h     EESP
		want  string
	}{
		{&seq, "", 4, EESP{SPI: 0x01020304, Seq: 9}, "80000000 01020304 0000000000000009"},
		{&seq, "", 8, EESP{SPI: 0x01020304, Seq: 9}, "80000000 01020304 0000000000000009"},
		{&both, "", 4, EESP{Session: 0xFFFE, SPI: 1, Seq: 1 << 63, IV: 2}, "8000fffe 00000001 8000000000000000 0000000000000002"},
		{&full, "", 4, EESP{Session: 4, SPI: 1, IV: 7}, "80000004 00000001 0000000000000007"},
		{&full, "", 8, EESP{Session: 4, SPI: 1, IV: 7}, "80040004 00000001 01020000 0000000000000007"},
		{&full, "aa", 4, EESP{SPI: 1}, "80040000 00000001 0301aa00 0000000000000000"},
		{&full, "aabb", 4, EESP{SPI: 1}, "80040000 00000001 0302aabb 0000000000000000"},
		{&full, "aabbcc", 4, EESP{SPI: 1}, "80080000 00000001 0303aabbcc 010100 0000000000000000"},
		{&full, "aabbcc", 8, EESP{SPI: 1}, "800c0000 00000001 0303aabbcc 01050000000000 0000000000000000"},
		{&seq, "aabb", 8, EESP{SPI: 1}, "80080000 00000001 0302aabb 01020000 0000000000000000"},
		{&crypt, "", 8, EESP{SPI: 1, Seq: 3, IV: 3}, "80040000 00000001 02021c00 0000000000000003 0000000000000003"},
		{&crypt, "", 4, EESP{SPI: 1, COffset: 63, Seq: 3, IV: 3}, "80040000 00000001 02021ff0 0000000000000003 0000000000000003"},
		{&crypt, "aabbccdd", 4, EESP{SPI: 1, COffset: 17, Seq: 3, IV: 3}, "800c0000 00000001 02022510 0304aabbccdd 0100 0000000000000003 0000000000000003"},
	} {
		b := x.h.write(t, x.s, octets(x.flow), x.align)
		if !bytes.Equal(b, octets(x.want)) {
			t.Errorf("%x, want %s", b, x.want)
		}
		if (len(b)+x.s.InfoLen())%x.align != 0 {
			t.Errorf("%x is not aligned to %d", b, x.align)
		}
	}
}

// All formats, with all lengths of a Flow Identifier.
func TestEESPRoundTrip(t *testing.T) {
	for _, s := range formats() {
		for _, align := range []int{4, 8} {
			fits := 0
			for n := range 256 {
				var b [EESPMaxHeader]byte
				flow := bytes.Repeat([]byte{0xEE}, n)
				if _, c := EESPTemplate(&b, &s, 2, 0xFFFFFFFF, flow, align); c == status.ErrArgument {
					continue
				}
				if fits != n {
					t.Fatalf("%+v: %d octets of flow fit, %d do not", s, n, fits)
				}
				fits++
				h := EESP{Session: 2, SPI: 0xFFFFFFFF, COffset: s.MaxCOffset, HasCOffset: s.MaxCOffset != 0}
				if s.Seq {
					h.Seq, h.IV = 1<<40, 1<<40
				}
				if s.IV {
					h.IV = 0
				}
				w := h.write(t, &s, flow, align)
				h.Len, h.Peer, h.OptLen = len(w), len(w)-s.PeerLen(), len(w)-s.PeerLen()-EESPBase
				p := add(w, max(s.InfoLen(), int(s.MaxCOffset)*4)+icv)
				var got EESP
				if c := got.Parse(p, &s, icv); c != status.OK || got != h {
					t.Fatalf("%v: %+v, want %+v: %x", c, got, h, w)
				}
				if (len(w)+s.InfoLen())%align != 0 || n > 0 && !bytes.Contains(w, flow) {
					t.Fatalf("%x", w)
				}
				want := status.ErrShort
				if s.MaxCOffset > 1 {
					want = status.ErrOffset
				}
				if c := got.Parse(p[:len(p)-1], &s, icv); c != want {
					t.Fatalf("%+v cut: %v", h, c)
				}
				if c := got.Parse(p, &EESPFormat{Seq: s.Seq, IV: s.IV, Full: s.Full, MaxCOffset: s.MaxCOffset, SubSAs: 2, Flow: s.Flow}, icv); c != status.ErrSession {
					t.Fatal(c)
				}
			}
			if !s.Flow && fits != 1 {
				t.Fatalf("%+v: %d lengths of what is not there", s, fits)
			}
			if s.Flow && fits < 200 {
				t.Fatalf("%+v: only %d lengths", s, fits)
			}
		}
	}
	var b [EESPMaxHeader]byte
	s, h := EESPFormat{Seq: true, IV: true, Full: true, MaxCOffset: 4, SubSAs: 3, Flow: true}, EESP{}
	flow := make([]byte, 9)
	noAlloc(t, func() { h.Parse(b[:], &s, icv); EESPTemplate(&b, &s, 1, 2, flow, 8) })
	for _, align := range []int{0, 2, 16, -8} {
		if _, c := EESPTemplate(&b, &s, 0, 1, nil, align); c != status.ErrArgument {
			t.Errorf("alignment %d: %v", align, c)
		}
	}
	if _, c := EESPTemplate(&b, &s, 3, 1, nil, 4); c != status.ErrArgument {
		t.Errorf("Session ID 3 of 3: %v", c)
	}
}

func TestEESPRefused(t *testing.T) {
	seq := EESPFormat{Seq: true, SubSAs: 2}
	full := EESPFormat{Seq: true, IV: true, Full: true, SubSAs: 1 << 16}
	crypt := EESPFormat{Seq: true, Full: true, MaxCOffset: 3, SubSAs: 1, Flow: true}
	new3 := crypt // draft -03
	new3.Flow = false
	base := add(octets("80000001 00000007 0000000000000001"), icv)
	wide := add(octets("80000001 00000007 0000000000000001 0000000000000001 00000600"), icv)
	// options makes a packet of crypt's format with 12 octets behind the peer header.
	options := func(o string) []byte {
		x := octets(o)
		return add(slices.Concat([]byte{0x80, byte(len(x)), 0, 0, 0, 0, 0, 7}, x, octets("0000000000000001")), 12+icv)
	}
	for name, x := range map[string]struct {
		s   *EESPFormat
		b   []byte
		spi status.Code
		c   status.Code
	}{
		"empty":                        {&seq, nil, status.ErrShort, status.ErrShort},
		"short before version":         {&seq, with(base, 0, 0)[:31], status.ErrShort, status.ErrShort},
		"short for its format":         {&full, base, status.OK, status.ErrShort},
		"Payload Info Header cut":      {&full, wide[:43], status.OK, status.ErrShort},
		"short before Opt Len":         {&full, with(wide, 1, 3)[:43], status.OK, status.ErrShort},
		"ESP":                          {&seq, with(base, 0, 0), status.ErrVersion, status.ErrVersion},
		"version 1":                    {&seq, with(base, 0, 0x88), status.ErrVersion, status.ErrVersion},
		"version 8":                    {&seq, with(base, 0, 0xC0), status.ErrVersion, status.ErrVersion},
		"version before reserved":      {&seq, with(base, 0, 0xFF), status.ErrVersion, status.ErrVersion},
		"reserved 1":                   {&seq, with(base, 0, 0x81), status.ErrReserved, status.ErrReserved},
		"reserved 4":                   {&seq, with(base, 0, 0x84), status.ErrReserved, status.ErrReserved},
		"Opt Len 1":                    {&seq, with(base, 1, 1), status.OK, status.ErrHeaderLen},
		"Opt Len 255":                  {&seq, with(base, 1, 255), status.OK, status.ErrHeaderLen},
		"options cut":                  {&seq, with(base, 1, 4), status.OK, status.ErrShort},
		"options cut before options":   {&crypt, with(options("04000000"), 1, 32), status.OK, status.ErrShort},
		"option 4":                     {&crypt, options("04000000"), status.OK, status.ErrOption},
		"option 223":                   {&crypt, options("df020000"), status.OK, status.ErrOption},
		"option without length":        {&crypt, options("00000001"), status.OK, status.ErrOption},
		"option too long":              {&crypt, options("00000101"), status.OK, status.ErrOption},
		"private option too long":      {&crypt, options("e0030000"), status.OK, status.ErrOption},
		"PadN not zero":                {&crypt, options("01020001"), status.OK, status.ErrOption},
		"Crypt Offset of 1":            {&crypt, options("02011400"), status.OK, status.ErrOption},
		"Crypt Offset of 3":            {&crypt, options("0203180001010000"), status.OK, status.ErrOption},
		"Crypt Offset twice":           {&crypt, options("02021800 02021800"), status.OK, status.ErrOption},
		"Flow Identifier twice":        {&crypt, options("03000300"), status.OK, status.ErrOption},
		"Flow Identifier, -03":         {&new3, options("0302aabb"), status.OK, status.ErrOption},
		"empty one, -03":               {&new3, options("03000100"), status.OK, status.ErrOption},
		"reserved 1, -03":              {&new3, with(options(""), 0, 0x81), status.ErrReserved, status.ErrReserved},
		"option before Session ID":     {&crypt, with(options("04000000"), 3, 1), status.OK, status.ErrOption},
		"Session ID":                   {&seq, with(base, 3, 2), status.OK, status.ErrSession},
		"Session ID before offset":     {&crypt, with(options("02020000"), 3, 1), status.OK, status.ErrSession},
		"Payload Offset too low":       {&crypt, options("02021000"), status.OK, status.ErrOffset},
		"Payload Offset too high":      {&crypt, options("02021800"), status.OK, status.ErrOffset},
		"CryptOffset above maximum":    {&crypt, options("02021440"), status.OK, status.ErrOffset},
		"CryptOffset behind the end":   {&crypt, options("02021430")[:20+11+icv], status.OK, status.ErrOffset},
		"Crypt Offset not negotiated":  {&EESPFormat{Seq: true, Full: true, SubSAs: 1}, options("02021400"), status.OK, status.ErrOffset},
		"Crypt Offset, optimized":      {&EESPFormat{Seq: true, MaxCOffset: 3, SubSAs: 1}, options("02021400"), status.OK, status.ErrOffset},
		"offset before sequence":       {&crypt, with(options("02021000"), 19, 0), status.OK, status.ErrOffset},
		"sequence 0":                   {&seq, with(base, 15, 0), status.OK, status.ErrSequence},
		"good":                         {&seq, base, status.OK, status.OK},
		"good, full":                   {&full, wide, status.OK, status.OK},
		"good, IV 0":                   {&EESPFormat{IV: true, SubSAs: 2}, with(base, 15, 0), status.OK, status.OK},
		"good, without Crypt Offset":   {&crypt, options(""), status.OK, status.OK},
		"good, CryptOffset 3":          {&crypt, options("02021430"), status.OK, status.OK},
		"good, R and F":                {&crypt, options("0202143f"), status.OK, status.OK},
		"good, -03, 4 reserved bits":   {&new3, options("0202143f"), status.OK, status.OK},
		"good, -03, private":           {&new3, options("ff020102e0000000"), status.OK, status.OK},
		"good, Crypt Offset not first": {&crypt, options("00 0100 0302aabb 02021c30 00"), status.OK, status.OK},
		"good, private":                {&crypt, options("ff020102e0000000"), status.OK, status.OK},
		"good, 4 Pad1":                 {&crypt, options("00000000"), status.OK, status.OK},
	} {
		if spi, c := EESPSPI(x.b, icv); c != x.spi || c == status.OK && spi != 7 {
			t.Errorf("%s: SPI %d: %v", name, spi, c)
		}
		if c := new(EESP).Parse(x.b, x.s, icv); c != x.c {
			t.Errorf("%s: %v", name, c)
		}
	}
}

// Payload Offset has 6 bits, too few for 252 octets of options.
func TestEESPPayloadOffsetTooFar(t *testing.T) {
	p := add(append(octets("80fc0000 00000007 02020000 01f6"), make([]byte, 246)...), 8+4+icv)
	p[267] = 1
	s := EESPFormat{Seq: true, Full: true, MaxCOffset: 3, SubSAs: 1}
	for v := range 64 {
		p[10] = byte(v << 2)
		if c := new(EESP).Parse(p, &s, icv); c != status.ErrOffset {
			t.Fatalf("%d: %v", v, c)
		}
	}
	copy(p[8:], []byte{1, 2, 0, 0})
	if c := new(EESP).Parse(p, &s, icv); c != status.OK {
		t.Fatal(c)
	}
}

func TestEESPInfo(t *testing.T) {
	b := EESPInfo(6, 3)
	if !bytes.Equal(b[:], []byte{0, 0, 6, 3}) {
		t.Fatalf("%x", b)
	}
	text := add(b[:], 3)
	if next, pad, ok := ParseEESPInfo(text); next != 6 || pad != 3 || !ok {
		t.Fatal(next, pad, ok)
	}
	for name, x := range map[string][]byte{"cut": text[:3], "first nibble": with(text, 0, 0x10), "Reserved": with(text, 0, 1),
		"Reserved, end": with(text, 1, 1), "Pad Length": with(text, 3, 4), "empty": nil} {
		if _, _, ok := ParseEESPInfo(x); ok {
			t.Error(name)
		}
	}
	if _, pad, ok := ParseEESPInfo(add([]byte{0, 0, 0, 255}, EESPMaxPad)); pad != 255 || !ok {
		t.Error(pad, ok)
	}
}

func TestIPLen(t *testing.T) {
	four, six := add([]byte{0x45, 0, 0, 20}, 16), add([]byte{0x60, 0, 0, 0, 0, 0}, 34)
	for name, x := range map[string]struct {
		b  []byte
		n  int
		ok bool
	}{
		"IPv4":                  {four, 20, true},
		"IPv4, longest":         {with(with(four, 2, 255), 3, 255), 65535, true},
		"IPv4 with options":     {with(with(four, 0, 0x4F), 3, 60), 60, true},
		"IPv4, IHL 4":           {with(four, 0, 0x44), 0, false},
		"IPv4, length 19":       {with(four, 3, 19), 0, false},
		"IPv4, only half of it": {with(with(four, 0, 0x4F), 3, 59), 0, false},
		"IPv4 cut":              {four[:19], 0, false},
		"IPv6":                  {six, 40, true},
		"IPv6, longest":         {with(with(six, 4, 255), 5, 255), 65575, true},
		"IPv6 cut":              {six[:39], 0, false},
		"IPv6, more behind it":  {add(six, 20), 0, false},
		"IPv6, TCP behind it":   {with(add(six, 20), 6, 6), 0, false},
		"IPv6, no next header":  {with(add(six, 6), 6, 59), 40, true},
		"IPv4, length 0":        {with(add(four, 40), 3, 0), 0, false},
		"IPv5":                  {with(six, 0, 0x50), 0, false},
		"zeros":                 {make([]byte, 64), 0, false},
		"empty":                 {nil, 0, false},
	} {
		if n, ok := IPLen(x.b); ok != x.ok || ok && n != x.n {
			t.Errorf("%s: %d %v", name, n, ok)
		}
		if zero := name == "IPv6, more behind it" || name == "IPv6, TCP behind it" || name == "IPv4, length 0"; IPJumbo(x.b) != zero {
			t.Errorf("%s: jumbo %v", name, !zero)
		}
	}
}

// FuzzEESP: a header with the options that EESPTemplate writes is written again as it was.
// The octets in front of the packet select format and flow.
func FuzzEESP(f *testing.F) {
	for i, s := range formats() {
		h := EESP{Session: uint16(i % 3), SPI: uint32(i), Seq: 5, IV: 5}
		flow := make([]byte, i)
		if !s.Flow {
			flow = nil
		}
		w := h.write(f, &s, flow, 4+i%2*4)
		f.Add(byte(i), i%2 != 0, make([]byte, i), add(w, 16+icv))
	}
	f.Fuzz(func(t *testing.T, which byte, wide bool, flow, b []byte) {
		b = b[:len(b):len(b)]
		before := bytes.Clone(b)
		all := formats()
		s := all[int(which)%len(all)]
		align := 4
		if wide {
			align = 8
		}
		var h EESP
		c := h.Parse(b, &s, icv)
		spi, first := EESPSPI(b, icv)
		n, isIP := IPLen(b)
		_, pad, info := ParseEESPInfo(b)
		if !bytes.Equal(b, before) {
			t.Fatal("the packet was written to")
		}
		if isIP && n < ip4Header || info && int(pad)+EESPInfoLen > len(b) {
			t.Fatal(n, pad)
		}
		if first != status.OK && c != first {
			t.Fatalf("%v, but %v for the SPI", c, first)
		}
		// A header that was written is read.
		var room [EESPMaxHeader]byte
		if at, c := EESPTemplate(&room, &s, h.Session%3, h.SPI, flow, align); c == status.OK {
			x := EESP{Session: h.Session % 3, SPI: h.SPI, OptLen: at - EESPBase, Peer: at, Len: at + s.PeerLen(),
				COffset: h.COffset % (s.MaxCOffset + 1), HasCOffset: s.MaxCOffset != 0, IV: h.IV}
			if s.Seq {
				x.Seq = max(h.Seq, 1)
				if !s.IV {
					x.IV = x.Seq
				}
			}
			w := x.write(t, &s, flow, align)
			var y EESP
			if c := y.Parse(add(w, max(4*int(x.COffset), s.InfoLen())+icv), &s, icv); c != status.OK || x != y {
				t.Fatalf("%v: %+v, written from %+v", c, y, x)
			}
		}
		if c != status.OK {
			return
		}
		if h.SPI != spi || h.Len+s.InfoLen()+icv > len(b) || h.Len+4*int(h.COffset)+icv > len(b) || h.Len != EESPBase+h.OptLen+s.PeerLen() ||
			h.COffset > s.MaxCOffset || h.HasCOffset && s.MaxCOffset == 0 || !h.HasCOffset && h.COffset != 0 ||
			uint32(h.Session) >= s.SubSAs || s.Seq == (h.Seq == 0) {
			t.Fatalf("%+v of %d octets", h, len(b))
		}
		// A header that was read is written again, if its options are the canonical ones.
		flow = nil
		at := EESPBase
		if s.MaxCOffset != 0 {
			at += 4
		}
		if at+2 <= h.Peer && b[at] == eespOptFlow && at+2+int(b[at+1]) <= h.Peer {
			flow = b[at+2 : at+2+int(b[at+1])]
		}
		for _, align := range []int{4, 8} {
			at, c := EESPTemplate(&room, &s, h.Session, h.SPI, flow, align)
			if c != status.OK || at != h.Peer {
				continue
			}
			if s.MaxCOffset != 0 {
				before[EESPCOffset+1] &= 0xF0 // R and F
				copy(room[EESPCOffset:], before[EESPCOffset:EESPCOffset+2])
			}
			if !bytes.Equal(room[:at], before[:at]) {
				continue
			}
			if w := h.write(t, &s, flow, align); !bytes.Equal(w, before[:h.Len]) {
				t.Fatalf("%x, read from %x", w, b[:h.Len])
			}
		}
	})
}
