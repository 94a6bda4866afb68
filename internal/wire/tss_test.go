package wire

import (
	"bytes"
	"encoding/binary"
	"testing"

	"libeesp/internal/status"
)

// write returns the header with these fields.
func (h *TSS) write() []byte {
	var b [TSSMaxHeader]byte
	n := TSSTemplate(&b, h.SP, h.AN, h.SDI, h.SSI)
	binary.BigEndian.PutUint64(b[n-8:], h.TSC)
	return b[:n]
}

func TestTSSLayout(t *testing.T) {
	for want, h := range map[string]TSS{
		"08 000000 0000000000000000":          {Len: 12},
		"09 abcdef 1122334455667788":          {AN: 1, SDI: 0xABCDEF, TSC: 0x1122334455667788, Len: 12},
		"0c 000001 00000000 ffffffffffffffff": {SP: true, SDI: 1, TSC: 1<<64 - 1, Len: 16},
		"0d ffffff 89abcdef 0001000000000002": {SP: true, AN: 1, SDI: 1<<24 - 1, SSI: 0x89ABCDEF, TSC: 1<<48 + 2, Len: 16},
	} {
		if b := h.write(); !bytes.Equal(b, octets(want)) {
			t.Errorf("%x, want %s", b, want)
		}
		p := add(octets(want), icv)
		got := TSS{SP: true, AN: 7, SSI: 7}
		if c := got.Parse(p, icv); c != status.OK || got != h {
			t.Errorf("%v: %+v, want %+v", c, got, h)
		}
		if sdi, an, c := TSSKey(p, icv); c != status.OK || sdi != h.SDI || an != h.AN {
			t.Errorf("%v: %d %d", c, sdi, an)
		}
	}
	// A value that is too large for its field does not change other fields.
	var b [TSSMaxHeader]byte
	if n := TSSTemplate(&b, false, 2, 0xFF000001, 7); !bytes.Equal(b[:n], octets("08000001 0000000000000000")) {
		t.Fatalf("%x", b[:n])
	}
	noAlloc(t, func() { new(TSS).Parse(b[:], 0); TSSTemplate(&b, true, 1, 2, 3) })
}

func TestTSSRefused(t *testing.T) {
	plain, ssi := add((&TSS{}).write(), icv), add((&TSS{SP: true, SDI: 5, AN: 1}).write(), icv)
	for name, x := range map[string]struct {
		b      []byte
		key, c status.Code
	}{
		"empty":                 {nil, status.ErrShort, status.ErrShort},
		"short before type":     {with(plain, 0, 0)[:27], status.ErrShort, status.ErrShort},
		"type 0":                {with(plain, 0, 0), status.ErrVersion, status.ErrVersion},
		"type 2":                {with(plain, 0, 2<<3), status.ErrVersion, status.ErrVersion},
		"type 17":               {with(plain, 0, 17<<3), status.ErrVersion, status.ErrVersion},
		"type before reserved":  {with(plain, 0, 0xF7), status.ErrVersion, status.ErrVersion},
		"reserved":              {with(plain, 0, 0x0A), status.ErrReserved, status.ErrReserved},
		"reserved before SSI":   {with(ssi, 0, 0x0E)[:31], status.ErrReserved, status.ErrReserved},
		"SSI missing":           {ssi[:28], status.OK, status.ErrShort},
		"SSI missing in part":   {ssi[:31], status.OK, status.ErrShort},
		"good":                  {plain, status.OK, status.OK},
		"good, with SSI":        {ssi, status.OK, status.OK},
		"good, SP is not there": {with(ssi, 0, 0x08)[:28], status.OK, status.OK},
	} {
		if _, _, c := TSSKey(x.b, icv); c != x.key {
			t.Errorf("%s: key: %v", name, c)
		}
		if c := new(TSS).Parse(x.b, icv); c != x.c {
			t.Errorf("%s: %v", name, c)
		}
	}
}

// FuzzTSS: a header that is read is written again as it was.
func FuzzTSS(f *testing.F) {
	f.Add(add((&TSS{SDI: 1, TSC: 2}).write(), icv))
	f.Add(add((&TSS{SP: true, AN: 1, SDI: 1, SSI: 3, TSC: 1 << 48}).write(), 5+icv))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = b[:len(b):len(b)]
		before := bytes.Clone(b)
		var h TSS
		c := h.Parse(b, icv)
		sdi, an, key := TSSKey(b, icv)
		if !bytes.Equal(b, before) {
			t.Fatal("the packet was written to")
		}
		if c != key && (c != status.ErrShort || key != status.OK) {
			t.Fatalf("%v, but %v for the key", c, key)
		}
		if c != status.OK {
			return
		}
		if h.Len+icv > len(b) || h.SDI != sdi || h.AN != an || !h.SP && h.SSI != 0 {
			t.Fatalf("%+v of %d octets", h, len(b))
		}
		if w := h.write(); !bytes.Equal(w, b[:h.Len]) {
			t.Fatalf("%x, read from %x", w, b[:h.Len])
		}
	})
}
