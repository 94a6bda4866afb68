package eesp

import (
	"bytes"
	"runtime"
	"testing"
	"unsafe"

	"libeesp/internal/status"
)

// Every status that a packet may have in the Go API, in one burst each, among good packets,
// which must not be affected.
func TestSealStatuses(t *testing.T) {
	text := stream("payload", 40)
	g := newGroup(t, "a", GroupConfig{}, Zone)
	s, r := newSender(t, g, SenderConfig{}), newReceiver(t, ReceiverConfig{}, g)
	const h = 16
	long := make([]byte, h+MaxLen+1+ICVLen)
	cases := []struct {
		name string
		want status.Code
		make func() Packet
	}{
		{"offset negative", status.ErrArgument, func() Packet { p := plain(text); p.Off = -1; return p }},
		{"length negative", status.ErrArgument, func() Packet { p := plain(text); p.Len = -1; return p }},
		{"length beyond the buffer", status.ErrArgument, func() Packet { p := plain(text); p.Len = len(p.Buf) - p.Off + 1; return p }},
		{"offset beyond the buffer", status.ErrArgument, func() Packet { p := plain(text); p.Off, p.Len = len(p.Buf)+1, 0; return p }},
		{"nothing", status.ErrArgument, func() Packet { return Packet{} }},
		{"too long", status.ErrTooLong, func() Packet { return Packet{Buf: long, Off: h, Len: MaxLen + 1} }},
		{"COffset", status.ErrOffset, func() Packet { p := plain(text); p.COffset = 11; return p }},
		{"COffset of an empty payload", status.ErrOffset, func() Packet { p := plain(nil); p.COffset = 1; return p }},
		{"COffset, last unit in part", status.ErrOffset, func() Packet { p := plain(text[:39]); p.COffset = 10; return p }},
		{"IOffset above COffset", status.ErrOffset, func() Packet { p := plain(text); p.COffset, p.IOffset = 1, 2; return p }},
		{"IOffset above 15", status.ErrOffset, func() Packet { p := plain(make([]byte, 100)); p.COffset, p.IOffset = 20, 16; return p }},
		{"headroom", status.ErrRoom, func() Packet { p := plain(text); p.Buf, p.Off = p.Buf[p.Off-h+1:], h-1; return p }},
		{"no headroom", status.ErrRoom, func() Packet { p := plain(text); p.Buf, p.Off = p.Buf[p.Off:], 0; return p }},
		{"tailroom", status.ErrRoom, func() Packet { p := plain(text); p.Buf = p.Buf[:len(p.Buf)-1]; return p }},
		{"destination", status.ErrRoom, func() Packet { p := plain(text); p.Dst = make([]byte, h+40+15); return p }},
		{"destination of nothing", status.ErrRoom, func() Packet { p := plain(nil); p.Dst = []byte{}; return p }},
		{"overlap in front", status.ErrOverlap, func() Packet { p := plain(text); p.Dst = p.Buf[p.Off-h-1:][:h+40+ICVLen]; return p }},
		{"overlap behind", status.ErrOverlap, func() Packet {
			b := make([]byte, h+1+40+ICVLen)
			return Packet{Buf: b, Off: h, Len: 40, Dst: b[1:]}
		}},
		{"overlap of the last octet", status.ErrOverlap, func() Packet {
			b := make([]byte, 39+h+40+ICVLen)
			return Packet{Buf: b[:40], Len: 40, Dst: b[39:]}
		}},
		{"overlap of the ICV with the payload", status.ErrOverlap, func() Packet {
			b := make([]byte, h+40+ICVLen+39)
			return Packet{Buf: b[h+40+15:], Len: 40, Dst: b[:h+40+ICVLen]}
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			pkts := []Packet{plain(text), c.make(), plain(text)}
			before := bytes.Clone(pkts[1].Buf)
			pkts[1].Out = text
			if n := s.Seal(pkts); n != 2 || pkts[1].Status != c.want {
				t.Fatalf("%d good, %v; want %v", n, pkts[1].Status, c.want)
			}
			if pkts[1].Out != nil || !bytes.Equal(pkts[1].Buf, before) || pkts[1].Dst != nil && !allZero(pkts[1].Dst[:min(h, len(pkts[1].Dst))]) {
				t.Fatal("a refused packet was written to")
			}
			for _, i := range []int{0, 2} {
				wantOpen(t, r, whole(pkts[i].Out), text)
			}
		})
	}
}

func TestOpenStatuses(t *testing.T) {
	text := stream("payload", 40)
	g := newGroup(t, "a", GroupConfig{}, Zone)
	s := newSender(t, g, SenderConfig{Options: true})
	own := newSender(t, g, SenderConfig{})
	r := newReceiver(t, ReceiverConfig{OwnIDs: []uint64{own.ID()}}, g)
	b := sealed(t, s, plain(text))
	h := s.HeaderLen()
	changed := func(at int, to byte) func() Packet {
		return func() Packet { p := whole(b); p.Buf[at] = to; return p }
	}
	cases := []struct {
		name string
		want status.Code
		make func() Packet
	}{
		{"nothing", status.ErrArgument, func() Packet { return Packet{} }},
		{"length negative", status.ErrArgument, func() Packet { p := whole(b); p.Len = -1; return p }},
		{"offset beyond the buffer", status.ErrArgument, func() Packet { p := whole(b); p.Off = 1; return p }},
		{"too long", status.ErrTooLong, func() Packet { n := MaxLen + 4097; return Packet{Buf: make([]byte, n), Len: n} }},
		{"empty", status.ErrShort, func() Packet { p := whole(b); p.Len = 0; return p }},
		{"short", status.ErrShort, func() Packet { p := whole(b); p.Len = h + ICVLen - 1; return p }},
		{"version", status.ErrVersion, changed(0, 0x14)},
		{"V", status.ErrV, changed(1, 0x30)},
		{"reserved", status.ErrReserved, changed(1, 0x01)},
		{"header length", status.ErrHeaderLen, changed(0, 0)},
		{"option", status.ErrOption, changed(8, 0xF0)},
		{"COffset", status.ErrOffset, changed(3, 0xB0)},
		{"IOffset", status.ErrOffset, changed(3, 0x01)},
		{"no key: index", status.ErrNoKey, changed(10, 9)},
		{"no key: ID", status.ErrNoKey, func() Packet { p := whole(b); p.Buf[12] ^= 1; return p }},
		{"reflected", status.ErrReflected, func() Packet { return whole(sealed(t, own, plain(text))) }},
		{"wrong ICV", status.ErrAuth, func() Packet { p := whole(b); p.Buf[len(b)-1] ^= 1; return p }},
		{"wrong ICV of nothing", status.ErrAuth, func() Packet {
			p := whole(sealed(t, s, plain(nil)))
			p.Buf[p.Len-1] ^= 1
			return p
		}},
		{"cut", status.ErrAuth, func() Packet { p := whole(b); p.Len--; return p }},
		{"destination", status.ErrRoom, func() Packet { p := whole(b); p.Dst = make([]byte, len(text)-1); return p }},
		{"destination of nothing", status.ErrRoom, func() Packet { p := whole(b); p.Dst = []byte{}; return p }},
		{"overlap in front", status.ErrOverlap, func() Packet { p := whole(b); p.Dst = p.Buf[h-1:]; return p }},
		{"overlap behind", status.ErrOverlap, func() Packet { p := whole(b); p.Dst = p.Buf[h+1 : h+1+len(text)]; return p }},
		{"overlap of the header", status.ErrOverlap, func() Packet { p := whole(b); p.Dst = p.Buf; return p }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			pkts := []Packet{whole(b), c.make(), whole(b)}
			before := bytes.Clone(pkts[1].Buf)
			pkts[1].Out = text
			if n := r.Open(pkts); n != 2 || pkts[1].Status != c.want || pkts[1].Out != nil {
				t.Fatalf("%d good, %v; want %v", n, pkts[1].Status, c.want)
			}
			if c.want != status.ErrAuth && !bytes.Equal(pkts[1].Buf, before) {
				t.Fatal("a packet that was not decrypted was written to")
			}
			for _, i := range []int{0, 2} {
				if !bytes.Equal(pkts[i].Out, text) {
					t.Fatalf("neighbour %d: %v", i, pkts[i].Status)
				}
			}
		})
	}
	t.Run("wrong ICV, elsewhere", func(t *testing.T) {
		p := plain(text)
		p.COffset = 2
		q := whole(sealed(t, s, p))
		q.Buf[len(q.Buf)-1] ^= 1
		q.Dst = bytes.Repeat([]byte{0x55}, len(text)+4)
		before := bytes.Clone(q.Buf)
		wantStatus(t, r, q, status.ErrAuth)
		if !allZero(q.Dst[8:40]) || !bytes.Equal(q.Dst[40:], []byte{0x55, 0x55, 0x55, 0x55}) || !bytes.Equal(q.Buf, before) {
			t.Fatalf("destination %x", q.Dst)
		}
	})
	t.Run("empty group", func(t *testing.T) {
		empty := newReceiver(t, ReceiverConfig{}, newGroup(t, "", GroupConfig{}))
		wantStatus(t, empty, whole(b), status.ErrNoKey)
		wantStatus(t, empty, whole(sealed(t, own, plain(text))), status.ErrNoKey)
	})
}

// A destination may be where the payload lies already, and buffers of a
// packet's two sides may touch.
func TestPlacesThatAreAllowed(t *testing.T) {
	text := stream("payload", 40)
	g := newGroup(t, "a", GroupConfig{}, Zone)
	s, r := newSender(t, g, SenderConfig{}), newReceiver(t, ReceiverConfig{}, g)
	const h, n = 16, 16 + 40 + ICVLen
	p := plain(text)
	p.Dst = p.Buf[p.Off-h:]
	b := sealed(t, s, p)
	wantOpen(t, r, whole(b), text)
	q := whole(b)
	q.Dst = q.Buf[h:]
	wantOpen(t, r, q, text)

	for _, front := range []bool{true, false} {
		room := make([]byte, 40+n+40)
		src, dst := room[:40], room[40:40+n]
		if front {
			src, dst = room[n:n+40], room[:n]
		}
		copy(src, text)
		b := sealed(t, s, Packet{Buf: src, Len: 40, Dst: dst})
		wantOpen(t, r, whole(b), text)
		room = make([]byte, 40+n)
		src, dst = room[:n], room[n:]
		if front {
			src, dst = room[40:], room[:40]
		}
		copy(src, b)
		wantOpen(t, r, Packet{Buf: src, Len: n, Dst: dst}, text)
	}
}

// Lengths around every block and chunk boundary, all in one burst that is
// longer than a chunk, in guarded memory: nothing beside a packet is touched.
func TestBurstsOfAllLengths(t *testing.T) {
	for _, aead := range []AEAD{AES128GCM, AES256GCM} {
		g := newGroup(t, "a", GroupConfig{AEAD: aead}, Zone)
		r := newReceiver(t, ReceiverConfig{}, g)
		for _, v := range []uint8{VID, VIDSrc} { // equal and different contexts
			s := newSender(t, g, SenderConfig{V: v})
			var in, out []Packet
			for i := range 300 {
				n := (i * 37) % 301
				p := Packet{Buf: guarded(t, 16+n+ICVLen), Len: n, SrcIP: v6}
				p.Buf = p.Buf[len(p.Buf)-(16+n+ICVLen):] // up to the last octet before the guard
				if i%2 == 0 {
					p.Buf = p.Buf[: 16+n+ICVLen : 16+n+ICVLen]
				}
				p.Off = 16
				if a := v6.As16(); i%3 != 0 {
					a[15] = byte(i)
					p.SrcIP = v6b
				}
				copy(p.Buf[16:], stream("payload", n))
				in = append(in, p)
			}
			if n := s.Seal(in); n != len(in) {
				t.Fatalf("sealed %d", n)
			}
			for i, p := range in {
				if p.TSC != in[0].TSC+uint64(i) {
					t.Fatal("counters are not in order")
				}
				out = append(out, Packet{Buf: p.Out, Len: len(p.Out), SrcIP: p.SrcIP})
			}
			if n := r.Open(out); n != len(out) {
				t.Fatalf("opened %d", n)
			}
			for i, p := range out {
				if !bytes.Equal(p.Out, stream("payload", len(in[i].Out)-16-ICVLen)) {
					t.Fatalf("packet %d", i)
				}
			}
		}
	}
}

// Memory in front of and behind a packet, as far as it is not its own.
func TestNothingElseIsTouched(t *testing.T) {
	text := stream("payload", 33)
	g := newGroup(t, "a", GroupConfig{}, Zone)
	s, r := newSender(t, g, SenderConfig{V: VLongID}), newReceiver(t, ReceiverConfig{}, g)
	const h = 24
	for _, bad := range []bool{false, true} {
		for misalign := range 17 {
			b := bytes.Repeat([]byte{0xA5}, 64+h+len(text)+ICVLen+64)
			off := 32 + misalign + h
			copy(b[off:], text)
			p := []Packet{{Buf: b, Off: off, Len: len(text)}}
			if s.Seal(p) != 1 || unsafe.SliceData(p[0].Out) != &b[off-h] {
				t.Fatal(p[0].Status)
			}
			end := off + len(text) + ICVLen
			canary := func(b []byte) {
				if len(bytes.Trim(b, "\xA5")) != 0 {
					t.Fatalf("written outside: %x", b)
				}
			}
			canary(b[:off-h])
			canary(b[end:])
			if bad {
				b[end-1] ^= 1
			}
			q := open1(r, Packet{Buf: b, Off: off - h, Len: h + len(text) + ICVLen})
			if bad != (q.Status == status.ErrAuth) {
				t.Fatal(q.Status)
			}
			canary(b[:off-h])
			canary(b[end:])
			if !bad {
				wantOctets(t, "ICV", b[end-ICVLen:end], p[0].Out[len(p[0].Out)-ICVLen:])
			}
		}
	}
}

func TestLongestPacket(t *testing.T) {
	text := stream("payload", MaxLen)
	g := newGroup(t, "a", GroupConfig{}, Zone, User, Task)
	s := newSender(t, g, SenderConfig{V: VLongIDSrcDst, Options: true})
	wantOpen(t, newReceiver(t, ReceiverConfig{}, g), whole(sealed(t, s, plain(text))), text)
}

// For packets that are in clear to their end, no pointer may point behind the end of a
// destination. The collector would take it for one into the next object, and could end the
// process ("marked free object").
func TestAllInClear(t *testing.T) {
	text := stream("payload", 48)
	g := newGroup(t, "a", GroupConfig{}, Zone)
	s, r := newSender(t, g, SenderConfig{}), newReceiver(t, ReceiverConfig{}, g)
	var kept [][]byte
	for i := range 300 {
		p := plain(text)
		p.COffset, p.IOffset = 12, 3
		q := whole(sealed(t, s, p))
		if i%2 == 1 {
			q.Buf[len(q.Buf)-1] ^= 1
		}
		q.Dst = make([]byte, len(text))
		if q = open1(r, q); i%2 == 0 != (q.Status == status.OK) || q.Status == status.OK && !bytes.Equal(q.Out, text) {
			t.Fatal(q.Status)
		}
		kept = append(kept, q.Dst)
		if i%10 == 9 {
			kept = kept[:0]
			runtime.GC()
		}
	}
}
