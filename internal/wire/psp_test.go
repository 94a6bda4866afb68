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

// with is b with one octet changed.
func with(b []byte, at int, to byte) []byte { b = bytes.Clone(b); b[at] = to; return b }

// add is b with n octets more.
func add(b []byte, n int) []byte { return append(bytes.Clone(b), make([]byte, n)...) }

// noAlloc fails where f allocates.
func noAlloc(t *testing.T, f func()) {
	t.Helper()
	if n := testing.AllocsPerRun(10, f); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

// write is the canonical header of these fields.
func (h *PSP) write() []byte {
	var b [PSPMaxHeader]byte
	var vc *[PSPVC]byte
	if h.VC {
		vc = new([PSPVC]byte)
	}
	n := PSPTemplate(&b, h.Version, h.SPI, vc)
	b[0] = h.NextHeader
	if h.Version < PSPGMAC {
		b[2] = PSPOffset(h.COffset, n)
	}
	binary.BigEndian.PutUint64(b[8:], h.IV)
	return b[:n]
}

func TestPSPLayout(t *testing.T) {
	var b [PSPMaxHeader]byte
	n := PSPTemplate(&b, 1, 0x9A345678, &[8]byte{1, 2, 3, 4, 5, 6, 7, 8})
	b[0], b[2] = 6, PSPOffset(61, n)
	binary.BigEndian.PutUint64(b[8:], 0x1112131415161718)
	if want := octets("06 02 3f 07 9a345678 1112131415161718 0102030405060708"); !bytes.Equal(b[:n], want) {
		t.Fatalf("%x", b[:n])
	}
	n = PSPTemplate(&b, 0, 5, nil)
	b[0], b[2] = 17, PSPOffset(5, n)
	if want := octets("11 01 05 01 00000005 0000000000000000"); !bytes.Equal(b[:n], want) {
		t.Fatalf("%x", b[:n])
	}
	p := add(octets("11 01 05 c1 80000007 00000000000000ff"), 20+icv) // S and D have no effect
	var h PSP
	if c := h.Parse(p, icv); c != status.OK || h != (PSP{NextHeader: 17, COffset: 5, Len: 16, SPI: 0x80000007, IV: 255}) {
		t.Fatalf("%v %+v", c, h)
	}
	noAlloc(t, func() { h.Parse(p, icv); PSPTemplate(&b, 3, 9, &[8]byte{}) })
}

func TestPSPRoundTrip(t *testing.T) {
	for version := range uint8(PSPVersions) {
		for _, vc := range []bool{false, true} {
			for coffset := range uint8(PSPMaxOffset + 1) {
				if vc && coffset > PSPMaxOffset-pspVCUnits || version >= PSPGMAC && coffset != 0 {
					break
				}
				h := PSP{NextHeader: coffset + 3, Version: version, COffset: coffset, VC: vc, Len: 16, SPI: 0x89ABCDEF, IV: 1<<63 + uint64(coffset)}
				if vc {
					h.Len = 24
				}
				p := add(h.write(), int(coffset)*4+icv)
				var got PSP
				if c := got.Parse(p, icv); c != status.OK || got != h {
					t.Fatalf("%v: %+v, want %+v", c, got, h)
				}
				if c := got.Parse(p[:len(p)-1], icv); coffset > 0 && c != status.ErrOffset || coffset == 0 && c != status.ErrShort {
					t.Fatalf("%+v cut: %v", h, c)
				}
			}
		}
	}
}

func TestPSPRefused(t *testing.T) {
	plain, vc := add((&PSP{}).write(), icv), add((&PSP{VC: true}).write(), icv)
	for name, x := range map[string]struct {
		b []byte
		c status.Code
	}{
		"empty":                          {nil, status.ErrShort},
		"short before version":           {with(plain, 3, 0x3D)[:31], status.ErrShort},
		"version 4":                      {with(plain, 3, 4<<2|1), status.ErrVersion},
		"version 15 before reserved":     {with(with(plain, 3, 15<<2), 2, 0xC0), status.ErrVersion},
		"octet 2, bit 7":                 {with(plain, 2, 0x80), status.ErrReserved},
		"octet 2, bit 6":                 {with(plain, 2, 0x40), status.ErrReserved},
		"GMAC, octet 2, bit 6":           {with(with(plain, 3, 2<<2|1), 2, 0x40), status.ErrReserved},
		"octet 3, bit 0":                 {with(plain, 3, 0), status.ErrReserved},
		"reserved before length":         {with(with(plain, 3, 0), 1, 9), status.ErrReserved},
		"length 0":                       {with(plain, 1, 0), status.ErrHeaderLen},
		"length 2 without VC":            {with(vc, 3, 1), status.ErrHeaderLen},
		"length 1 with VC":               {with(vc, 1, 1), status.ErrHeaderLen},
		"length 3":                       {with(vc, 1, 3), status.ErrHeaderLen},
		"VC cut":                         {vc[:39], status.ErrShort},
		"length before VC cut":           {with(vc, 1, 3)[:39], status.ErrHeaderLen},
		"VC cut before offset":           {with(vc, 2, 63)[:39], status.ErrShort},
		"offset behind the end":          {with(plain, 2, 1), status.ErrOffset},
		"offset behind the end, VC":      {with(vc, 2, 3), status.ErrOffset},
		"VC encrypted":                   {with(vc, 2, 0), status.ErrOffset},
		"half of VC encrypted":           {with(vc, 2, 1), status.ErrOffset},
		"good":                           {plain, status.OK},
		"good with VC":                   {vc, status.OK},
		"GMAC: offset has no meaning":    {with(with(add(plain, 252), 3, 2<<2|1), 2, 63), status.OK},
		"GMAC with VC: nothing to cover": {with(with(vc, 3, 3<<2|3), 2, 0), status.OK},
		"GMAC: offset behind the end":    {with(with(plain, 3, 2<<2|1), 2, 1), status.ErrOffset},
		"GMAC with VC: behind the end":   {with(with(vc, 3, 3<<2|3), 2, 3), status.ErrOffset},
	} {
		var h PSP
		if c := h.Parse(x.b, icv); c != x.c {
			t.Errorf("%s: %v", name, c)
		}
		if x.c == status.OK && h.COffset != 0 {
			t.Errorf("%s: %+v", name, h)
		}
	}
}

// FuzzPSP: a header that is read is written again as it was, but for the S and
// D bits, the VC and GMAC's crypt offset, which have no effect.
func FuzzPSP(f *testing.F) {
	f.Add(add((&PSP{NextHeader: 6, SPI: 1, IV: 2, COffset: 1}).write(), 4+icv))
	f.Add(add((&PSP{NextHeader: 4, Version: 1, VC: true, SPI: 1 << 31, IV: 1 << 48}).write(), icv))
	f.Add(add((&PSP{NextHeader: 41, Version: 3, VC: true}).write(), 7+icv))
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
		if h.Len+icv+4*int(h.COffset) > len(b) {
			t.Fatalf("%+v of %d octets", h, len(b))
		}
		before[3] &= 0x3F
		if h.VC {
			clear(before[PSPBase:PSPMaxHeader])
		}
		if h.Version >= PSPGMAC {
			before[2] = 0
		}
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
