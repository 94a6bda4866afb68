package eesp

import (
	"bytes"
	"net/netip"
	"testing"

	"libeesp/internal/status"
)

// side is one side of a proxy: a format, and functions to make its packets.
type side struct {
	name   string
	g      func(t testing.TB) *Group
	c      SenderConfig
	prefix func(src, dst netip.Addr) []byte // tss: the prefix of a packet
	most   uint8                            // COffset
	next   bool                             // the format carries the next header
}

func lead4(src, dst netip.Addr) []byte {
	s, d := src.As4(), dst.As4()
	return append(append(s[:], d[:]...), 0, 0, 0, 0)
}

func lead6(src, dst netip.Addr) []byte {
	s, d := src.As16(), dst.As16()
	return append(append(s[:], d[:]...), 0, 0, 0, 0)
}

func proxySidesOfAll() []side {
	psp := func(v uint8) func(t testing.TB) *Group {
		return func(t testing.TB) *Group { return pspGroup(t, 1<<v, pspKeys[:]...) }
	}
	tss := func(t testing.TB) *Group {
		return newTSS(t, GroupConfig{Domain: 0x77, RekeyMask: 0xFF00, RekeyShift: 8}, tssKey("pairs"))
	}
	eesp := func(c GroupConfig) func(t testing.TB) *Group {
		return func(t testing.TB) *Group {
			c.Profile = ProfileEESP
			return eespGroup(t, c, stream("root", 32))
		}
	}
	return []side{
		{"stateless", func(t testing.TB) *Group { return newGroup(t, "pairs", GroupConfig{}, Zone) }, SenderConfig{V: VIDSrcDst, Options: true}, nil, 255, false},
		{"psp", psp(0), SenderConfig{}, nil, 63, true},
		{"psp 256, VC", psp(1), SenderConfig{V: 1, Extra: []byte("a cookie")}, nil, 61, true},
		{"psp GMAC", psp(2), SenderConfig{V: 2}, nil, 0, true},
		{"tss SSI", tss, SenderConfig{V: VTSSSSI}, lead4, 0, false},
		{"tss SSI, IPv6", tss, SenderConfig{V: VTSSSSI}, lead6, 0, false},
		{"eesp", eesp(GroupConfig{Mode: SSKDFSHA256}), SenderConfig{}, nil, 0, true},
		{"eesp, everything", eesp(GroupConfig{Mode: SSKDFCMAC, AEAD: AES256GCM, IV: true, Align8: true, MaxCOffset: 40, Draft: 2}), SenderConfig{Extra: []byte("flow")}, nil, 39, true},
		{"eesp, optimized", eesp(GroupConfig{Mode: SSKDFSHA256, Optimized: true, NoSequence: true, IV: true}), SenderConfig{}, nil, 0, false},
	}
}

// From every format to every other, in one call, in place and elsewhere. The payload arrives,
// with its clear octets and its protocol if both formats carry them.
func TestProxyBetweenProfiles(t *testing.T) {
	sides := proxySidesOfAll()
	for _, from := range sides {
		for _, to := range sides {
			t.Run(from.name+" to "+to.name, func(t *testing.T) {
				near, far := from.g(t), to.g(t)
				in, out := newSender(t, near, from.c), newSender(t, far, to.c)
				p := NewProxy(newReceiver(t, ReceiverConfig{ReplayWindow: window(from)}, near), out)
				end := newReceiver(t, ReceiverConfig{}, far)
				for _, dst := range []bool{false, true} {
					testPair(t, from, to, in, p, end, dst)
				}
			})
		}
	}
}

// window is the width of a replay window, for formats that can have one.
func window(s side) uint32 {
	if s.name == "eesp, optimized" {
		return 0
	}
	return 64
}

func testPair(t *testing.T, from, to side, in *Sender, p *Proxy, end *Receiver, dst bool) {
	t.Helper()
	src1, dst1, src2, dst2 := addrsOf(from)[0], addrsOf(from)[1], addrsOf(to)[0], addrsOf(to)[1]
	var pkts []Packet
	var texts [][]byte
	var nexts []uint8
	for i := range 40 {
		text, next := ipPacket(4, 60+i), uint8(4)
		if i%2 == 1 {
			text, next = ipPacket(6, 60+i), 41
		}
		q := plain(text)
		q.SrcIP, q.DstIP, q.NextHeader = src1, dst1, next
		q.COffset = min(uint8(i%7), from.most, to.most)
		prefix := []byte(nil)
		if from.prefix != nil {
			prefix = from.prefix(src1, dst1)
			q = tssPlain(prefix, in.HeaderLen(), text)
		}
		q.Buf = append(q.Buf, 0, 0, 0) // for padding
		b := append(bytes.Clone(prefix), sealed(t, in, q)...)
		const room, more = 200, 20
		q = Packet{Buf: append(append(make([]byte, room), b...), make([]byte, more)...), Off: room + len(prefix), Len: len(b) - len(prefix),
			SrcIP: src1, DstIP: dst1, OutSrc: src2, OutDst: dst2, IPv6: len(prefix) == 36}
		if dst {
			q.Dst = make([]byte, 400)
		}
		if i%10 == 9 {
			q.Buf[room+len(b)-1] ^= 1
		}
		pkts, texts, nexts = append(pkts, q), append(texts, text), append(nexts, next)
	}
	if n := p.Forward(pkts); n != 36 {
		t.Fatalf("dst %v: forwarded %d: %v", dst, n, pkts[0].Status)
	}
	for i, q := range pkts {
		if i%10 == 9 {
			if q.Status != status.ErrAuth || q.Out != nil {
				t.Fatalf("packet %d: %v", i, q.Status)
			}
			continue
		}
		if q.Status != status.OK {
			t.Fatalf("packet %d: %v", i, q.Status)
		}
		b := q.Buf
		if dst {
			b = q.Dst
		}
		at := cap(b) - cap(q.Out)
		r := Packet{Buf: bytes.Clone(b), Off: at, Len: len(q.Out), SrcIP: src2, DstIP: dst2}
		if to.prefix != nil {
			prefix := to.prefix(src2, dst2)
			r.IPv6 = len(prefix) == 36
			if !bytes.Equal(b[at-len(prefix):at], prefix) {
				t.Fatalf("packet %d: prefix %x, want %x", i, b[at-len(prefix):at], prefix)
			}
		}
		r = open1(end, r)
		if r.Status != status.OK || !bytes.Equal(r.Out, texts[i]) {
			t.Fatalf("packet %d: opens as %v", i, r.Status)
		}
		if want := min(uint8(i%7), from.most, to.most); r.COffset != want {
			t.Fatalf("packet %d: COffset %d, want %d", i, r.COffset, want)
		}
		if from.next && to.next && r.NextHeader != nexts[i] {
			t.Fatalf("packet %d: next header %d", i, r.NextHeader)
		}
	}
}

func addrsOf(s side) [2]netip.Addr {
	if s.prefix != nil && len(s.prefix(v4, v4b)) == 36 {
		return [2]netip.Addr{v6, v6b}
	}
	return [2]netip.Addr{v4, v4b}
}

// A packet with clear octets that the other format cannot leave in clear is refused.
func TestProxyKeepsClearOctets(t *testing.T) {
	sides := proxySidesOfAll()
	for _, to := range sides[1:] {
		far := to.g(t)
		near := sides[0].g(t)
		in, out := newSender(t, near, sides[0].c), newSender(t, far, to.c)
		p := plain(ipPacket(4, 400))
		p.SrcIP, p.DstIP, p.COffset = v4, v4b, to.most+1
		b := sealed(t, in, p)
		q := []Packet{{Buf: append(make([]byte, 200), append(b, make([]byte, 20)...)...), Off: 200, Len: len(b), SrcIP: v4, DstIP: v4b}}
		NewProxy(newReceiver(t, ReceiverConfig{}, near), out).Forward(q)
		if q[0].Status != status.ErrOffset || bytes.Contains(q[0].Buf, ipPacket(4, 400)[380:]) {
			t.Fatalf("%s: %v", to.name, q[0].Status)
		}
	}
}
