package wire

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"slices"
	"testing"

	"libeesp/internal/status"
)

// mapped is an IPv4-mapped address.
func mapped(a ...byte) (x [16]byte) {
	x[10], x[11] = 0xFF, 0xFF
	copy(x[12:], a)
	return
}

// plainSum is the sum of RFC 1071, 16 bits at a time.
func plainSum(b []byte) (s uint32) {
	for ; len(b) >= 2; b = b[2:] {
		s += uint32(b[0])<<8 | uint32(b[1])
		s = s>>16 + s&0xFFFF
	}
	return
}

var (
	tunnel4 = UDPTunnel{Src: mapped(192, 168, 0, 1), Dst: mapped(192, 168, 0, 199), SPort: 0xC123, DPort: PSPPort, TTL: 64}
	tunnel6 = UDPTunnel{Src: [16]byte{0x20, 1, 0xD, 0xB8, 15: 1}, Dst: [16]byte{0xFE, 0x80, 15: 2}, SPort: 0xFFFE, DPort: TSSPort, TTL: 63, TOS: 0xB9}
)

// wrap returns a packet of the tunnel with a payload of n zeros.
func (x *UDPTunnel) wrap(n int) []byte {
	b := make([]byte, x.Len()+n)
	if c := x.Write(b, n); c != status.OK {
		panic(c)
	}
	return b
}

func TestUDPTunnel(t *testing.T) {
	// The IPv4 header is the worked example of Wikipedia's "Internet checksum".
	if b := tunnel4.wrap(87); !bytes.Equal(b[:28], octets("4500 0073 0000 4000 4011 b861 c0a80001 c0a800c7 c123 03e8 005f 0000")) {
		t.Fatalf("%x", b[:28])
	}
	if b := tunnel6.wrap(5); !bytes.Equal(b[:48], octets("6b900000 000d 11 3f 20010db8000000000000000000000001 fe800000000000000000000000000002 fffe 12b9 000d 0000")) {
		t.Fatalf("%x", b[:48])
	}
	for _, x := range []*UDPTunnel{&tunnel4, &tunnel6} {
		h := x.Len()
		most := ipMax - h
		if h == MaxUDPTunnel {
			most = ipMax - UDPHeader
		}
		// The octets that were there before, and those behind, do not matter.
		b := bytes.Repeat([]byte{0xA5}, h+3)
		if c := x.Write(b, most); c != status.OK || !bytes.Equal(b[h:], []byte{0xA5, 0xA5, 0xA5}) || !bytes.Equal(b[:h], x.wrap(most)[:h]) {
			t.Errorf("%v: %x", c, b)
		}
		if at, n, c := ParseUDP(x.wrap(most), x.DPort); at != h || n != most || c != status.OK {
			t.Error(at, n, c)
		}
		if c := x.Write(b, most+1); c != status.ErrTooLong {
			t.Error(c)
		}
		if c := x.Write(b, -1); c != status.ErrArgument {
			t.Error(c)
		}
		if c := x.Write(b[:h-1], 0); c != status.ErrRoom {
			t.Error(c)
		}
		noAlloc(t, func() { x.Write(b, 5); ParseUDP(b, 5); Transport(b); FlowHash(b) })
	}
	mixed := UDPTunnel{Src: tunnel4.Src, Dst: tunnel6.Dst}
	if c := mixed.Write(make([]byte, 99), 0); c != status.ErrArgument || mixed.Len() != 0 {
		t.Error(c)
	}
	if a := mapped(1, 2, 3, 4); !Mapped(&a) || Mapped(&tunnel6.Src) || Mapped(new([16]byte)) {
		t.Error("Mapped")
	}
	for at := range 12 {
		if a := mapped(1, 2, 3, 4); Mapped((*[16]byte)(with(a[:], at, 0x7F))) {
			t.Errorf("Mapped with another octet %d", at)
		}
	}
}

// resum sets the IPv4 checksum.
func resum(b []byte) []byte { putSum(b[:int(b[0]&15)*4]); return b }

func TestParseUDP(t *testing.T) {
	b, six := tunnel4.wrap(9), tunnel6.wrap(9)
	options := slices.Concat([]byte{0x47, 0, 0, 45}, b[4:20], []byte{7, 7, 4, 0, 0, 0, 0, 0}, b[20:])
	for name, x := range map[string]struct {
		b     []byte
		at, n int
	}{
		"IPv4":                {b, 28, 9},
		"IPv4 and padding":    {add(b, 9), 28, 9},
		"IPv4 with options":   {resum(options), 36, 9},
		"IPv4 without DF":     {resum(with(b, 6, 0)), 28, 9},
		"IPv4, UDP checksum":  {with(b, 27, 1), 28, 9},
		"IPv6":                {six, 48, 9},
		"IPv6 and padding":    {add(six, 1), 48, 9},
		"IPv6, flow label":    {with(six, 3, 9), 48, 9},
		"no payload":          {tunnel4.wrap(0), 28, 0},
		"no payload and IPv6": {tunnel6.wrap(0), 48, 0},
	} {
		port := uint16(PSPPort)
		if x.at == 48 {
			port = TSSPort
		}
		if at, n, c := ParseUDP(x.b, port); at != x.at || n != x.n || c != status.OK {
			t.Errorf("%s: %d %d %v", name, at, n, c)
		}
		if _, _, c := ParseUDP(x.b, port+1); c != status.ErrEncap {
			t.Errorf("%s, other port: %v", name, c)
		}
	}
	for name, x := range map[string][]byte{
		"empty":                   nil,
		"version 5":               resum(with(b, 0, 0x55)),
		"IHL 4":                   with(b, 0, 0x44),
		"IHL beyond the packet":   with(b, 0, 0x4F),
		"IPv4 cut":                b[:len(b)-1],
		"length below the header": with(b, 3, 19),
		"MF":                      resum(with(b, 6, 0x60)),
		"fragment offset":         resum(with(b, 7, 1)),
		"fragment offset, high":   resum(with(b, 6, 0x10)),
		"IPv4 checksum":           with(b, 11, b[11]+1),
		"IPv4 checksum missing":   with(with(b, 11, 0), 10, 0),
		"TCP":                     resum(with(b, 9, 6)),
		"UDP length too low":      with(b, 25, b[25]-1),
		"UDP length too high":     with(b, 25, b[25]+1),
		"UDP length 0":            with(b, 25, 0),
		"UDP cut":                 resum(with(with(b, 3, 27), 25, 7)),
		"IPv6 cut":                six[:len(six)-1],
		"IPv6 header cut":         six[:39],
		"IPv6 and TCP":            with(six, 6, 6),
		"IPv6 fragment":           with(six, 6, 44),
		"IPv6 UDP cut":            with(six, 5, 7),
		"IPv6 UDP length":         with(six, 45, 16),
		"jumbogram":               with(six, 5, 0),
	} {
		for _, port := range []uint16{PSPPort, TSSPort} {
			if at, n, c := ParseUDP(x, port); at != 0 || n != 0 || c != status.ErrEncap {
				t.Errorf("%s: %d %d %v", name, at, n, c)
			}
		}
	}
}

func TestTransport(t *testing.T) {
	b, six := tunnel4.wrap(9), tunnel6.wrap(9)
	long := with(add(b, 23), 3, 60)
	long[0] = 0x4F
	for name, x := range map[string]struct {
		b     []byte
		hdr   int
		proto uint8
		n     int
		c     status.Code
	}{
		"IPv4":                 {b, 20, 17, 37, status.OK},
		"IPv4 and padding":     {add(b, 9), 20, 17, 37, status.OK},
		"IPv4 and no checksum": {with(with(b, 10, 0), 11, 0), 20, 17, 37, status.OK},
		"IPv4, only options":   {long, 60, 17, 60, status.OK},
		"IPv6":                 {with(six, 6, 6), 40, 6, 57, status.OK},
		"IPv6 and ESP":         {with(six, 6, 50), 40, 50, 57, status.OK},
		"empty":                {nil, 0, 0, 0, status.ErrArgument},
		"cut":                  {b[:36], 0, 0, 0, status.ErrArgument},
		"IPv6 cut":             {six[:56], 0, 0, 0, status.ErrArgument},
		"not IP":               {with(b, 0, 0x35), 0, 0, 0, status.ErrArgument},
		"first fragment":       {with(b, 6, 0x20), 0, 0, 0, status.ErrUnsupported},
		"last fragment":        {with(b, 7, 1), 0, 0, 0, status.ErrUnsupported},
		"protocol 0":           {with(b, 9, 0), 0, 0, 0, status.ErrUnsupported},
		"hop by hop":           {with(six, 6, 0), 0, 0, 0, status.ErrUnsupported},
		"routing":              {with(six, 6, 43), 0, 0, 0, status.ErrUnsupported},
		"fragment":             {with(six, 6, 44), 0, 0, 0, status.ErrUnsupported},
		"AH":                   {with(six, 6, 51), 0, 0, 0, status.ErrUnsupported},
		"destination options":  {with(six, 6, 60), 0, 0, 0, status.ErrUnsupported},
		"mobility":             {with(six, 6, 135), 0, 0, 0, status.ErrUnsupported},
		"HIP":                  {with(six, 6, 139), 0, 0, 0, status.ErrUnsupported},
		"shim6":                {with(six, 6, 140), 0, 0, 0, status.ErrUnsupported},
	} {
		if hdr, proto, n, c := Transport(x.b); hdr != x.hdr || proto != x.proto || n != x.n || c != x.c {
			t.Errorf("%s: %d %d %d %v", name, hdr, proto, n, c)
		}
	}
}

func TestRewrite(t *testing.T) {
	h := bytes.Clone(tunnel4.wrap(87)[:20])
	if c := Rewrite(h, 6, 200); c != status.OK || !bytes.Equal(h, octets("4500 00c8 0000 4000 4006 b817 c0a80001 c0a800c7")) {
		t.Fatalf("%v: %x", c, h)
	}
	if c := Rewrite(h, 17, 115); c != status.OK || !bytes.Equal(h, tunnel4.wrap(87)[:20]) {
		t.Fatalf("%v: %x", c, h)
	}
	six := bytes.Clone(tunnel6.wrap(5)[:40])
	if c := Rewrite(six, 58, 40+65535); c != status.OK || !bytes.Equal(six, with(with(with(tunnel6.wrap(5)[:40], 4, 255), 5, 255), 6, 58)) {
		t.Fatalf("%v: %x", c, six)
	}
	for name, x := range map[string]struct {
		h     []byte
		total int
		c     status.Code
	}{
		"empty":           {nil, 20, status.ErrArgument},
		"cut":             {h[:19], 20, status.ErrArgument},
		"more than it":    {add(h, 4), 24, status.ErrArgument},
		"IPv6 cut":        {six[:39], 60, status.ErrArgument},
		"IPv6, more":      {add(six, 8), 60, status.ErrArgument},
		"not IP":          {with(h, 0, 0x55), 60, status.ErrArgument},
		"IHL 4":           {with(h, 0, 0x44), 60, status.ErrArgument},
		"below header":    {h, 19, status.ErrArgument},
		"IPv4 too long":   {h, 65536, status.ErrTooLong},
		"IPv6 too long":   {six, 65576, status.ErrTooLong},
		"negative length": {six, -1, status.ErrArgument},
	} {
		before := bytes.Clone(x.h)
		if c := Rewrite(x.h, 6, x.total); c != x.c || !bytes.Equal(x.h, before) {
			t.Errorf("%s: %v", name, c)
		}
	}
	// Checksums that fold more than once, and all header lengths.
	for n := 20; n <= 60; n += 4 {
		for _, fill := range []byte{0, 1, 0x7F, 0x80, 0xFE, 0xFF} {
			h := bytes.Repeat([]byte{fill}, n)
			h[0] = 0x40 | byte(n/4)
			if c := Rewrite(h, fill, 65535); c != status.OK || plainSum(h) != 0xFFFF || sum(h) != 0xFFFF {
				t.Errorf("%d of %#x: %v %x", n, fill, c, h)
			}
		}
	}
}

func TestFlowHash(t *testing.T) {
	b, six := tunnel4.wrap(9), tunnel6.wrap(9)
	for name, p := range map[string][]byte{"IPv4": b, "IPv6": six} {
		is := FlowHash(p)
		ports := int(p[0]&0xF) * 4
		in, out := []int{9, 12, 15, 16, 19, ports, ports + 3}, []int{1, 2, 3, 4, 8, 10, ports + 4, len(p) - 1}
		if len(p) == len(six) {
			in, out = []int{6, 8, 15, 23, 24, 39, 40, 43}, []int{1, 3, 5, 7, 44, len(p) - 1}
		}
		for _, at := range in {
			if FlowHash(with(p, at, p[at]^1)) == is {
				t.Errorf("%s: octet %d does not count", name, at)
			}
		}
		for _, at := range out {
			if FlowHash(with(p, at, p[at]^1)) != is {
				t.Errorf("%s: octet %d counts", name, at)
			}
		}
	}
	// Fragments of one packet have one port.
	if first, next := with(b, 6, 0x20), with(with(b, 7, 1), 20, 99); FlowHash(first) != FlowHash(next) {
		t.Error("fragments part")
	}
	// Consecutive ports are spread over all ports.
	seen := map[uint16]int{}
	for i := range 1 << 16 {
		binary.BigEndian.PutUint16(b[20:], uint16(i))
		p := FlowHash(b)
		if p < 0xC000 {
			t.Fatalf("%#x", p)
		}
		seen[p>>6]++
	}
	for bin := range uint16(256) { // 256 each are expected, the deviation is 16
		if n := seen[0xC000>>6+bin]; n < 256-96 || n > 256+96 {
			t.Errorf("%d flows in bin %d", n, bin)
		}
	}
}

// FuzzUDP: any octets that are accepted as an IP packet can be wrapped, rewritten and found
// again, and no other octets are written.
func FuzzUDP(f *testing.F) {
	f.Add(tunnel4.wrap(20), uint16(PSPPort), uint8(6), uint16(60))
	f.Add(tunnel6.wrap(7), uint16(TSSPort), uint8(17), uint16(0))
	f.Add(with(tunnel4.wrap(40), 0, 0x46), uint16(1), uint8(1), uint16(65535))
	f.Fuzz(func(t *testing.T, b []byte, port uint16, proto uint8, more uint16) {
		b = b[:len(b):len(b)]
		before := bytes.Clone(b)
		at, n, c := ParseUDP(b, port)
		hdr, inner, total, tc := Transport(b)
		hash := FlowHash(b)
		if !bytes.Equal(b, before) {
			t.Fatal("the packet was written to")
		}
		if hash < 0xC000 {
			t.Fatalf("%#x", hash)
		}
		if c == status.OK {
			if at < 28 || n < 0 || at+n > len(b) {
				t.Fatalf("%d octets at %d of %d", n, at, len(b))
			}
			// The same headers without options, for the same payload.
			x := UDPTunnel{SPort: binary.BigEndian.Uint16(b[at-8:]), DPort: port}
			if b[0]>>4 == 4 {
				x.TTL, x.TOS = b[8], b[1]
				x.Src, x.Dst = mapped(b[12:16]...), mapped(b[16:20]...)
			} else {
				x.TTL, x.TOS = b[7], b[0]<<4|b[1]>>4
				x.Src, x.Dst = [16]byte(b[8:24]), [16]byte(b[24:40])
			}
			if h := x.Len(); h != 0 && n <= ipMax-MaxUDPTunnel && (b[0]>>4 == 4) == (h == 28) {
				w := append(make([]byte, h), b[at:at+n]...)
				if c := x.Write(w, n); c != status.OK {
					t.Fatal(c)
				}
				if again, m, c := ParseUDP(w, port); again != h || m != n || c != status.OK {
					t.Fatalf("%d octets at %d: %v", m, again, c)
				}
				if h == 48 {
					before[1] &= 0xF0 // flow label
					before[2], before[3] = 0, 0
				} else {
					copy(before[4:8], []byte{0, 0, 0x40, 0}) // ID, DF
					resum(before)
				}
				before[at-2], before[at-1] = 0, 0 // UDP checksum
				if at == h && !bytes.Equal(w, before[:at+n]) {
					t.Fatalf("%x, read from %x", w, b)
				}
			}
		}
		if tc != status.OK {
			if c == status.OK {
				t.Fatal("a UDP packet that is none")
			}
			return
		}
		if hdr < 20 || hdr > total || total > len(b) {
			t.Fatalf("header %d of %d of %d", hdr, total, len(b))
		}
		// Rewrite, and rewrite back.
		h := bytes.Clone(b[:hdr])
		if n := hdr + int(more); n > ipMax {
			if c := Rewrite(h, proto, n); (c != status.ErrTooLong || b[0]>>4 != 4) && (c != status.OK || b[0]>>4 != 6) {
				t.Fatal(c)
			}
		} else if c := Rewrite(h, proto, n); c != status.OK {
			t.Fatal(c)
		} else if l, ok := IPLen(h); !ok || l != n {
			t.Fatalf("length %d, want %d", l, n)
		}
		if c := Rewrite(h, inner, total); c != status.OK {
			t.Fatal(c)
		}
		want := bytes.Clone(b[:hdr])
		if b[0]>>4 == 4 {
			resum(want)
		}
		if !bytes.Equal(h, want) {
			t.Fatalf("%x, was %x", h, want)
		}
	})
}

// addSum for all lengths, against a sum of single octets.
func TestAddSum(t *testing.T) {
	b := make([]byte, 1500)
	for i := range b {
		b[i] = byte(i*7) | byte(i>>8)
	}
	for fill := range 3 {
		if fill > 0 {
			for i := range b {
				b[i] = byte(fill-1) * 0xFF
			}
		}
		for n := range b {
			want := uint32(0)
			for i, x := range b[:n] {
				want += uint32(x) << (8 * (1 - i%2))
				want = want&0xFFFF + want>>16
			}
			got := bits.ReverseBytes16(fold(addSum(0, b[:n])))
			if uint32(got) != want && !(got == 0xFFFF && want == 0) && !(got == 0 && want == 0xFFFF) {
				t.Fatalf("%d octets: %#x, want %#x", n, got, want)
			}
			if (got == 0) != (want == 0) {
				t.Fatalf("%d octets: %#x and %#x are two zeros", n, got, want)
			}
		}
	}
}
