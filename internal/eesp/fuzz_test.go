package eesp

import (
	"bytes"
	"net/netip"
	"testing"

	"libeesp/internal/status"
)

// FuzzMutated changes a sealed packet. It opens only if all changed octets are not
// authenticated. Nothing outside its buffer is touched, and no plaintext of a packet that is
// not authentic stays.
func FuzzMutated(f *testing.F) {
	g := newGroup(f, "a", GroupConfig{}, Zone, User, Task)
	r := newReceiver(f, ReceiverConfig{TryPrevious: true}, g, newGroup(f, "b", GroupConfig{AEAD: AES256GCM}, Zone))
	text := stream("payload", 45)
	type original struct {
		b        []byte
		from, to int // octets that are not authenticated
	}
	var originals []original
	for _, v := range allV {
		for _, c := range []SenderConfig{{V: v}, {V: v, Options: true}, {V: v, Options: true, Levels: Set(User)}} {
			s := newSender(f, g, c)
			p := plain(text)
			p.COffset, p.IOffset, p.SrcIP, p.DstIP = 4, 2, v4, v6
			originals = append(originals, original{sealed(f, s, p), s.HeaderLen(), s.HeaderLen() + 8})
		}
	}
	f.Add(uint8(0), uint16(0), []byte{1}, uint16(0xFFFF))
	f.Add(uint8(1), uint16(0), []byte{0x0F, 0x20}, uint16(40))
	f.Add(uint8(2), uint16(8), []byte{1, 2, 3, 4}, uint16(0xFFFF))
	f.Add(uint8(9), uint16(30), []byte{0x80}, uint16(70))
	f.Add(uint8(17), uint16(3), []byte{0x80}, uint16(0xFFFF))
	room := guarded(f, 4096)
	f.Fuzz(func(t *testing.T, which uint8, at uint16, change []byte, length uint16) {
		o := originals[int(which)%len(originals)]
		b := bytes.Clone(o.b[:min(len(o.b), int(length))])
		for i, x := range change {
			if j := int(at) + i; j < len(b) {
				b[j] ^= x
			} else if len(b) < 1000 && x != 0 {
				b = append(b, x) // and longer ones
			}
		}
		same := len(b) == len(o.b) && bytes.Equal(b[:o.from], o.b[:o.from]) && bytes.Equal(b[o.to:], o.b[o.to:])
		for _, atEnd := range []bool{true, false} {
			for i := range room {
				room[i] = 0xA5
			}
			buf := room[:len(b):len(b)]
			if atEnd {
				buf = room[len(room)-len(b):]
			}
			copy(buf, b)
			p := open1(r, Packet{Buf: buf, Len: len(b), SrcIP: v4, DstIP: v6})
			if same != (p.Status == status.OK) {
				t.Fatalf("%v: %x", p.Status, b)
			}
			outside := room[len(b):]
			if atEnd {
				outside = room[:len(room)-len(b)]
			}
			if len(bytes.Trim(outside, "\xA5")) != 0 {
				t.Fatal("written outside the packet")
			}
			if !same && p.Status != status.ErrAuth && !bytes.Equal(buf, b) {
				t.Fatalf("%v, but the packet was changed", p.Status)
			}
			if p.Status == status.ErrAuth && bytes.Contains(buf, text[16:24]) {
				t.Fatal("decrypted octets were left")
			}
		}
	})
}

// FuzzSeal seals packets of any form. They open to the same payload, or have the right
// status, and nothing outside is touched.
func FuzzSeal(f *testing.F) {
	type pair struct {
		s *Sender
		r *Receiver
		v uint8
	}
	var pairs []pair
	for _, c := range []GroupConfig{{AEAD: AES128GCM}, {AEAD: AES256GCM, Combiner: CombinerXOR}} {
		g := newGroup(f, "a", c, Zone, User, Task)
		for i, v := range allV {
			s := newSender(f, g, SenderConfig{V: v, Options: i%2 == 0, Levels: Levels(7 - 7*(i%2))})
			pairs = append(pairs, pair{s, newReceiver(f, ReceiverConfig{}, g), v})
		}
	}
	f.Add(uint8(0), []byte("payload"), uint8(1), uint8(0), uint16(128), uint16(16), false, []byte{})
	f.Add(uint8(11), bytes.Repeat([]byte{7}, 70), uint8(16), uint8(15), uint16(127), uint16(16), true, []byte{10, 0, 0, 1})
	f.Add(uint8(3), []byte{}, uint8(0), uint8(0), uint16(16), uint16(15), false, make([]byte, 16))
	f.Fuzz(func(t *testing.T, which uint8, text []byte, coffset, ioffset uint8, headroom, tailroom uint16, elsewhere bool, addr []byte) {
		x := pairs[int(which)%len(pairs)]
		headroom, tailroom = headroom%300, tailroom%100
		text = text[:min(len(text), 3000)]
		src, _ := netip.AddrFromSlice(addr)
		const pad = 16
		size := int(headroom) + len(text) + int(tailroom)
		room := bytes.Repeat([]byte{0xA5}, pad+size+pad)
		buf := room[pad : pad+size]
		p := Packet{Buf: buf, Off: int(headroom), Len: len(text), COffset: coffset, IOffset: ioffset, SrcIP: src, DstIP: v6}
		if elsewhere {
			p.Buf, p.Off, p.Dst = bytes.Clone(text), 0, buf
		} else {
			copy(buf[headroom:], text)
		}
		pkts := []Packet{p}
		x.s.Seal(pkts)
		p = pkts[0]
		h := x.s.HeaderLen()
		var want status.Code
		switch fits := int(headroom) >= h && tailroom >= ICVLen; {
		case x.v&7 != VID && !src.IsValid(): // V asks for an address that is not there
			want = status.ErrArgument
		case 4*int(coffset) > len(text) || ioffset > coffset || ioffset > 15:
			want = status.ErrOffset
		case !elsewhere && !fits, elsewhere && size < h+len(text)+ICVLen:
			want = status.ErrRoom
		}
		if p.Status != want {
			t.Fatalf("%v, want %v", p.Status, want)
		}
		if len(bytes.Trim(room[:pad], "\xA5")) != 0 || len(bytes.Trim(room[pad+size:], "\xA5")) != 0 {
			t.Fatal("written outside")
		}
		if want != status.OK {
			return
		}
		if len(p.Out) != h+len(text)+ICVLen {
			t.Fatalf("%d octets", len(p.Out))
		}
		q := whole(p.Out)
		q.SrcIP, q.DstIP = src, v6
		q = open1(x.r, q)
		if q.Status != status.OK || !bytes.Equal(q.Out, text) || q.COffset != coffset || q.IOffset != ioffset || q.TSC != p.TSC {
			t.Fatalf("%v: %x, sealed from %x", q.Status, q.Out, text)
		}
	})
}
