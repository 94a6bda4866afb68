package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"testing"

	"libeesp/internal/status"
)

// octets reads hexadecimal digits, spaces ignored.
func octets(s string) []byte {
	b, err := hex.DecodeString(string(bytes.ReplaceAll([]byte(s), []byte(" "), nil)))
	if err != nil {
		panic(err)
	}
	return b
}

// with returns b with one octet changed.
func with(b []byte, at int, to byte) []byte { b = bytes.Clone(b); b[at] = to; return b }

// add returns b with n zeros behind it.
func add(b []byte, n int) []byte { return append(bytes.Clone(b), make([]byte, n)...) }

// noAlloc fails the test if f allocates.
func noAlloc(t *testing.T, f func()) {
	t.Helper()
	if n := testing.AllocsPerRun(10, f); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

// write returns the canonical header with these fields, and an extension of zeros.
func (h *PSP) write() []byte {
	var b [StatelessMaxHeader]byte
	n := PSPTemplate(&b, h.Version, h.SPI, h.VC, make([]byte, h.Len-PSPBase))
	b[0], b[2] = h.NextHeader, h.Offset
	binary.BigEndian.PutUint64(b[8:], h.IV)
	return b[:n]
}

func TestPSPLayout(t *testing.T) {
	var b [StatelessMaxHeader]byte
	n := PSPTemplate(&b, 1, 0x9A345678, true, []byte{1, 2, 3, 4, 5, 6, 7, 8})
	b[0], b[2] = 6, 63
	binary.BigEndian.PutUint64(b[8:], 0x1112131415161718)
	if want := octets("06 02 3f 07 9a345678 1112131415161718 0102030405060708"); !bytes.Equal(b[:n], want) {
		t.Fatalf("%x", b[:n])
	}
	n = PSPTemplate(&b, 0, 5, false, nil)
	b[0], b[2] = 17, 5
	if want := octets("11 01 05 01 00000005 0000000000000000"); !bytes.Equal(b[:n], want) {
		t.Fatalf("%x", b[:n])
	}
	n = PSPTemplate(&b, 2, 5, false, bytes.Repeat([]byte{0xEE}, 112))
	if want := append(octets("00 0f 00 09 00000005 0000000000000000"), bytes.Repeat([]byte{0xEE}, 112)...); !bytes.Equal(b[:n], want) {
		t.Fatalf("%x", b[:n])
	}
	// S, D and the bits in front of the crypt offset have no effect.
	p := add(octets("11 01 c5 c1 80000007 00000000000000ff"), 20+icv)
	var h PSP
	if c := h.Parse(p, icv); c != status.OK || h != (PSP{NextHeader: 17, Offset: 5, Len: 16, SPI: 0x80000007, IV: 255}) {
		t.Fatalf("%v %+v", c, h)
	}
	p = add(octets("11 ff 3f 0b 80000007 00000000000000ff"), 2032+icv) // the longest extension
	if c := h.Parse(p, icv); c != status.OK || h != (PSP{NextHeader: 17, Version: 2, Offset: 63, VC: true, Len: 2048, SPI: 0x80000007, IV: 255}) {
		t.Fatalf("%v %+v", c, h)
	}
	noAlloc(t, func() { h.Parse(p, icv); PSPTemplate(&b, 3, 9, true, b[:8]) })
	for spi, want := range map[uint32]bool{0: true, 1 << 31: true, 1: false, 1<<31 | 1: false, 1<<31 - 1: false, 1<<32 - 1: false} {
		if PSPReserved(spi) != want {
			t.Errorf("SPI %#x", spi)
		}
	}
}

func TestPSPRoundTrip(t *testing.T) {
	for version := range uint8(PSPVersions) {
		for ext := 0; ext <= PSPMaxExtension; ext += PSPUnit {
			for offset := range uint8(PSPMaxOffset + 1) {
				h := PSP{NextHeader: offset + 3, Version: version, Offset: offset, VC: ext != 0 && offset&1 != 0, Len: 16 + ext, SPI: 0x89ABCDEF, IV: 1<<63 + uint64(offset)}
				p := add(h.write(), max(0, int(offset)*4-ext)+icv)
				var got PSP
				if c := got.Parse(p, icv); c != status.OK || got != h {
					t.Fatalf("%v: %+v, want %+v", c, got, h)
				}
				want := status.ErrShort
				if int(offset)*4 > ext {
					want = status.ErrOffset
				}
				if c := got.Parse(p[:len(p)-1], icv); c != want {
					t.Fatalf("%+v cut: %v", h, c)
				}
			}
		}
	}
}

func TestPSPRefused(t *testing.T) {
	plain, vc := add((&PSP{Len: 16}).write(), icv), add((&PSP{VC: true, Len: 24}).write(), icv)
	for name, x := range map[string]struct {
		b []byte
		c status.Code
	}{
		"empty":                         {nil, status.ErrShort},
		"short before version":          {with(plain, 3, 0x3D)[:31], status.ErrShort},
		"version 4":                     {with(plain, 3, 4<<2|1), status.ErrVersion},
		"version 15 before reserved":    {with(plain, 3, 15<<2), status.ErrVersion},
		"octet 3, bit 0":                {with(plain, 3, 0), status.ErrReserved},
		"reserved before length":        {with(with(plain, 3, 0), 1, 0), status.ErrReserved},
		"length 0":                      {with(plain, 1, 0), status.ErrHeaderLen},
		"length 0 with VC":              {with(vc, 1, 0), status.ErrHeaderLen},
		"length 1 with VC":              {with(vc, 1, 1), status.ErrHeaderLen},
		"length before cut":             {with(vc, 1, 1)[:39], status.ErrHeaderLen},
		"length 3 of two":               {with(vc, 1, 3), status.ErrShort},
		"length 255":                    {with(add(plain, 2031), 1, 255), status.ErrShort},
		"VC cut":                        {vc[:39], status.ErrShort},
		"VC cut before offset":          {with(vc, 2, 63)[:39], status.ErrShort},
		"offset behind the end":         {with(plain, 2, 1), status.ErrOffset},
		"offset behind the end, 2":      {with(plain, 2, 0xC1), status.ErrOffset},
		"offset behind the end, VC":     {with(vc, 2, 3), status.ErrOffset},
		"GMAC: offset behind the end":   {with(with(plain, 3, 2<<2|1), 2, 1), status.ErrOffset},
		"GMAC with VC: behind the end":  {with(with(vc, 3, 3<<2|3), 2, 3), status.ErrOffset},
		"good":                          {plain, status.OK},
		"good with VC":                  {vc, status.OK},
		"octet 2, bit 7":                {with(plain, 2, 0x80), status.OK},
		"octet 2, bit 6":                {with(plain, 2, 0x40), status.OK},
		"length 2 without VC":           {with(vc, 3, 1), status.OK},
		"length 3":                      {with(add(vc, 8), 1, 3), status.OK},
		"length 255, all":               {with(add(plain, 2032), 1, 255), status.OK},
		"VC encrypted":                  {with(vc, 2, 0), status.OK},
		"half of VC encrypted":          {with(vc, 2, 1), status.OK},
		"GMAC: offset has no meaning":   {with(with(add(plain, 252), 3, 2<<2|1), 2, 63), status.OK},
		"GMAC with VC: none is covered": {with(with(vc, 3, 3<<2|3), 2, 0), status.OK},
	} {
		var h PSP
		if c := h.Parse(x.b, icv); c != x.c {
			t.Errorf("%s: %v", name, c)
		}
		if x.c == status.OK && (h.Offset != x.b[2]&63 || h.Len != 8+8*int(x.b[1])) {
			t.Errorf("%s: %+v", name, h)
		}
	}
}

// FuzzPSP: a header that is read is written again as it was, except for S, D and the bits in
// front of the crypt offset, which have no effect, and for the content of the extension.
func FuzzPSP(f *testing.F) {
	f.Add(add((&PSP{NextHeader: 6, SPI: 1, IV: 2, Offset: 1, Len: 16}).write(), 4+icv))
	f.Add(add((&PSP{NextHeader: 4, Version: 1, VC: true, SPI: 1 << 31, IV: 1 << 48, Len: 24}).write(), icv))
	f.Add(add((&PSP{NextHeader: 41, Version: 3, VC: true, Offset: 1, Len: 24}).write(), 7+icv))
	f.Add(add((&PSP{NextHeader: 41, Version: 1, Offset: 9, Len: 40}).write(), 16+icv))
	f.Add(add((&PSP{Version: 1, VC: true, Offset: 63, SPI: 5, Len: 128}).write(), 256+icv))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = b[:len(b):len(b)]
		before := bytes.Clone(b)
		var h PSP
		c := h.Parse(b, icv)
		if !bytes.Equal(b, before) {
			t.Fatal("the packet was written to")
		}
		if c != status.OK {
			return
		}
		if h.Len+icv > len(b) || PSPBase+icv+4*int(h.Offset) > len(b) || h.VC && h.Len == PSPBase {
			t.Fatalf("%+v of %d octets", h, len(b))
		}
		if h.Len > StatelessMaxHeader {
			return // templates have no such header
		}
		before[2] &= 0x3F
		before[3] &= 0x3F
		clear(before[PSPBase:h.Len])
		w := h.write()
		if !bytes.Equal(w, before[:h.Len]) {
			t.Fatalf("%x, read from %x", w, b[:h.Len])
		}
		var again PSP
		if c := again.Parse(append(w, b[h.Len:]...), icv); c != status.OK || again != h {
			t.Fatalf("%v: %+v, was %+v", c, again, h)
		}
	})
}
