package wire

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"libeesp/internal/status"
)

const icv = 16

// row returns Master Key Options for a set of levels.
func row(levels uint8, idLen int) (o []byte) {
	for l := range Levels {
		if levels>>l&1 != 0 {
			o = AppendOption(o, l, byte(100+l), bytes.Repeat([]byte{byte(0x11 * (l + 1))}, idLen))
		}
	}
	return o
}

// packet returns a header with a payload and an ICV.
func packet(v uint8, id uint64, options []byte, coffset, ioffset uint8, tsc uint64, payload int) []byte {
	var b [StatelessMaxHeader]byte
	n := Template(&b, v, id, options)
	b[2], b[3] = Offsets(coffset, ioffset)
	binary.BigEndian.PutUint64(b[n-8:], tsc)
	return append(b[:n:n], make([]byte, payload+icv)...)
}

func TestHeaderRoundTrip(t *testing.T) {
	for v := range uint8(16) {
		if ValidV(v) != slices.Contains([]uint8{0, 1, 2, 8, 9, 10}, v) {
			t.Fatalf("ValidV(%#x)", v)
		}
		if !ValidV(v) {
			continue
		}
		for levels := range uint8(8) {
			for _, idLen := range []int{16, 17, 18, 19, 20, 31, 32} {
				o := row(levels, idLen)
				if !ValidOptions(o) {
					t.Fatalf("ValidOptions(%x)", o)
				}
				id := uint64(0x0102030405060708) >> (32 - 4*(v&VLongID))
				p := packet(v, id, o, 0xAB, 0xA, 0x1122334455667788, 0xAB*4)
				var h Stateless
				if c := h.Parse(p, icv); c != status.OK {
					t.Fatalf("V %#x levels %d ID of %d: %v", v, levels, idLen, c)
				}
				if h.V != v || h.ID != id || h.TSC != 0x1122334455667788 || h.COffset != 0xAB || h.IOffset != 0xA ||
					h.Present != levels || h.Len != len(p)-0xAB*4-icv || h.Len%8 != 0 || h.Len != int(p[0]&15+1)*8 {
					t.Fatalf("%+v", h)
				}
				for l := range Levels {
					if levels>>l&1 != 0 && (h.Index[l] != byte(100+l) || len(h.RootID[l]) != idLen || h.RootID[l][0] != byte(0x11*(l+1))) {
						t.Fatalf("option %d: %d %x", l, h.Index[l], h.RootID[l])
					}
				}
				if h.Parse(p[:len(p)-1], icv) != status.ErrOffset {
					t.Fatal("COffset beyond the payload was taken")
				}
			}
		}
	}
	if n := len(packet(10, 1, row(7, 32), 0, 0, 0, 0)); n != StatelessMaxHeader+icv {
		t.Fatalf("the longest header has %d octets", n-icv)
	}
}

// A packet without a whole header and ICV is ErrShort.
func TestTruncated(t *testing.T) {
	p := packet(9, 1, row(3, 17), 2, 1, 3, 8)
	for n := range p {
		var h Stateless
		want := status.ErrOffset // header and ICV are whole, the payload is cut
		if n < len(p)-8 {
			want = status.ErrShort
		}
		if c := h.Parse(p[:n:n], icv); c != want {
			t.Fatalf("%d of %d octets: %v", n, len(p), c)
		}
	}
}

func TestOptionsRefused(t *testing.T) {
	change := func(o []byte, at int, to byte) []byte { o = bytes.Clone(o); o[at] = to; return o }
	zone, user := row(1, 16), row(2, 17)
	for name, o := range map[string][]byte{
		"unknown type":        change(zone, 0, 0x02),
		"type below":          change(zone, 0, 0xDF),
		"type above":          change(zone, 0, 0xE3),
		"twice":               slices.Concat(zone, zone),
		"descending":          slices.Concat(user, zone),
		"length 0":            change(zone, 1, 0),
		"length too long":     change(zone, 1, 22),
		"length not aligned":  change(zone, 1, 19),
		"ID too short":        change(zone, 3, 1),
		"padding 4":           slices.Concat([]byte{0xE0, 22, 1, 4}, zone[4:], make([]byte, 4)),
		"padding not zero":    change(user, len(user)-1, 1),
		"cut":                 zone[:16],
		"padding in front":    slices.Concat([]byte{0, 0, 0, 0}, zone),
		"8 octets of padding": make([]byte, 8),
		"PadN too long":       {1, 3, 0, 0},
		"PadN not zero":       {1, 2, 0, 1},
		"PadN without length": {0, 0, 0, 1},
	} {
		var h Stateless
		if c := h.parseOptions(o); c != status.ErrOption {
			t.Errorf("%s: %v", name, c)
		}
		if ValidOptions(o) {
			t.Errorf("%s is valid", name)
		}
	}
	for _, o := range [][]byte{{0, 0, 0, 0}, {1, 2, 0, 0}, {1, 0, 1, 0}, slices.Concat(zone, []byte{0, 1, 1, 0})} {
		var h Stateless
		if c := h.parseOptions(o); c != status.OK {
			t.Errorf("%x: %v", o, c)
		}
		if ValidOptions(o) { // options of an exported data key have no padding
			t.Errorf("%x is valid", o)
		}
	}
}

func TestNonce(t *testing.T) {
	var n [12]byte
	StatelessNonce(&n, 0, 0x01020304, 0x1112131415161718)
	if want := []byte{1, 2, 3, 4, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18}; !bytes.Equal(n[:], want) {
		t.Fatalf("%x", n)
	}
	StatelessNonce(&n, VLongID, 0x0102030410203040, 0)
	if !bytes.Equal(n[:4], []byte{0x11, 0x22, 0x33, 0x44}) {
		t.Fatalf("%x", n)
	}
}

// FuzzHeader: a header that is parsed is written again as it was, except for the padding,
// which has several forms.
func FuzzHeader(f *testing.F) {
	f.Add(packet(0, 5, nil, 0, 0, 9, 0))
	f.Add(packet(10, 1<<40, row(7, 32), 1, 1, 1<<48, 4))
	f.Add(packet(1, 7, row(5, 17), 3, 0, 1<<63, 15))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = b[:len(b):len(b)]
		before := bytes.Clone(b)
		var h Stateless
		c := h.Parse(b, icv)
		if !bytes.Equal(b, before) {
			t.Fatal("the packet was written to")
		}
		if c != status.OK {
			return
		}
		if h.Len+icv+4*int(h.COffset) > len(b) || h.IOffset > h.COffset {
			t.Fatalf("%+v of %d octets", h, len(b))
		}
		var o []byte
		for l := range Levels {
			if h.Present>>l&1 != 0 {
				o = AppendOption(o, l, h.Index[l], h.RootID[l])
			}
		}
		if !ValidOptions(o) {
			t.Fatalf("%x", o)
		}
		again := packet(h.V, h.ID, o, h.COffset, h.IOffset, h.TSC, 0)[:h.Len]
		pad := 4 + IDLen(h.V) + len(o)
		if !bytes.Equal(again[:pad], b[:pad]) || !bytes.Equal(again[h.Len-8:], b[h.Len-8:h.Len]) {
			t.Fatalf("%x, read from %x", again, b[:h.Len])
		}
		if n := h.Len - 8 - pad; n != 0 && n != 4 {
			t.Fatalf("%d octets of padding", n)
		}
	})
}
