package eesp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"

	"libeesp/internal/status"
	"libeesp/internal/testrun"
)

// inetSum computes the Internet checksum of b in another way than the library.
func inetSum(b []byte) uint16 {
	s := uint32(0)
	for i, x := range b {
		s += uint32(x) << (8 * (1 - i%2))
		s = s&0xFFFF + s>>16
	}
	return ^uint16(s)
}

// ip4 makes an IPv4 packet.
func ip4(src, dst netip.Addr, proto uint8, options, payload []byte) []byte {
	b := []byte{0x40 | byte(5+len(options)/4), 0xB9, 0, 0, 0x12, 0x34, 0x40, 0, 61, proto, 0, 0}
	binary.BigEndian.PutUint16(b[2:], uint16(20+len(options)+len(payload)))
	b = append(append(append(b, src.AsSlice()...), dst.AsSlice()...), options...)
	binary.BigEndian.PutUint16(b[10:], inetSum(b))
	return append(b, payload...)
}

// ip6 makes an IPv6 packet.
func ip6(src, dst netip.Addr, proto uint8, payload []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, 0x6B9ABCDE)
	b = binary.BigEndian.AppendUint16(b, uint16(len(payload)))
	b = append(b, proto, 61)
	return append(append(append(b, src.AsSlice()...), dst.AsSlice()...), payload...)
}

// udpPayload returns n octets that begin with ports, as UDP and TCP do.
func udpPayload(sport uint16, n int) []byte {
	b := stream(fmt.Sprint("udp ", n), n)
	if n >= 4 {
		binary.BigEndian.PutUint16(b, sport)
		binary.BigEndian.PutUint16(b[2:], 443)
	}
	return b
}

// datagram is an IP packet with a UDP datagram in it, parsed without the library.
type datagram struct {
	v            int
	header       []byte // of IP
	src, dst     netip.Addr
	ttl, tos     uint8
	sport, dport uint16
	payload      []byte
}

// parse takes a datagram apart; all of its lengths and checksums must be right.
func parse(t testing.TB, b []byte) (d datagram) {
	t.Helper()
	d = parseSummed(t, b)
	if u := b[len(d.header):]; u[6]|u[7] != 0 {
		t.Fatalf("UDP checksum %x", u[6:8])
	}
	return d
}

// parseSummed is parse for datagrams that may have a UDP checksum.
func parseSummed(t testing.TB, b []byte) (d datagram) {
	t.Helper()
	bad := func(f string, a ...any) { t.Helper(); t.Fatalf(f+": %x", append(a, b[:min(len(b), 80)])...) }
	d.v = int(b[0] >> 4)
	switch d.v {
	case 4:
		d.header = b[:b[0]&15*4]
		if int(binary.BigEndian.Uint16(b[2:])) != len(b) || inetSum(d.header) != 0 || b[9] != 17 || b[6]&0x3F != 0 || b[7] != 0 {
			bad("IPv4 header")
		}
		d.ttl, d.tos = b[8], b[1]
		d.src, d.dst = netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
	case 6:
		d.header = b[:40]
		if int(binary.BigEndian.Uint16(b[4:])) != len(b)-40 || b[6] != 17 {
			bad("IPv6 header")
		}
		d.ttl, d.tos = b[7], b[0]<<4|b[1]>>4
		d.src, d.dst = netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
	default:
		bad("version %d", d.v)
	}
	u := b[len(d.header):]
	if int(binary.BigEndian.Uint16(u[4:])) != len(u) {
		bad("UDP header")
	}
	d.sport, d.dport, d.payload = binary.BigEndian.Uint16(u), binary.BigEndian.Uint16(u[2:]), u[8:]
	return d
}

var (
	tunnel4 = UDP{DPort: 4500, Src: v4, Dst: v4b, TTL: 9, TOS: 0x28}
	tunnel6 = UDP{DPort: PSPPort, Src: v6, Dst: v6b}
	across  = UDP{DPort: PSPPort, Transport: true}
	options = []byte{0x94, 4, 0, 0, 7, 7, 4, 1, 2, 3, 4, 0} // Router Alert, Record Route
)

// udpFormats are packet formats; those that carry a protocol number come last.
var udpFormats = []struct {
	name    string
	group   func(t testing.TB) *Group
	c       SenderConfig
	carries bool
}{
	{"stateless", formats[0].group, formats[0].c, false},
	{"stateless, 256 bits, options", formats[1].group, formats[1].c, false},
	{"psp", pspDevice, SenderConfig{}, true},
	{"psp, 256 bits, VC", pspVersions, SenderConfig{V: 1, Extra: []byte("a tenant")}, true},
	{"psp, GMAC", pspVersions, SenderConfig{V: 2}, true},
}

func pspVersions(t testing.TB) *Group {
	g := newGroup(t, "", GroupConfig{Profile: ProfilePSP, Versions: 0xF})
	if err := g.SetKey(0, stream("psp key 0", 32)); err != nil {
		t.Fatal(err)
	}
	return g
}

func sealUDP(t testing.TB, s *Sender, u *UDP, pkts []Packet) int {
	t.Helper()
	n, err := s.SealUDP(u, pkts)
	if err != nil {
		t.Fatal(err)
	}
	good := 0
	for _, p := range pkts {
		if p.Status == status.OK {
			good++
		} else if p.Out != nil || p.ID != 0 || p.TSC != 0 {
			t.Fatalf("%v, and %d octets, ID %d, TSC %d", p.Status, len(p.Out), p.ID, p.TSC)
		}
	}
	if n != good {
		t.Fatalf("%d good, says %d", good, n)
	}
	return n
}

func openUDP(t testing.TB, r *Receiver, u *UDP, pkts []Packet) int {
	t.Helper()
	n, err := r.OpenUDP(u, pkts)
	if err != nil {
		t.Fatal(err)
	}
	good := 0
	for _, p := range pkts {
		if p.Status == status.OK {
			good++
		} else if p.Out != nil {
			t.Fatalf("%v, and %d octets", p.Status, len(p.Out))
		}
	}
	if n != good {
		t.Fatalf("%d good, says %d", good, n)
	}
	return n
}

// sealed1 seals one IP packet into a datagram.
func sealed1(t testing.TB, s *Sender, u *UDP, ip []byte) []byte {
	t.Helper()
	p := []Packet{plain(ip)}
	if sealUDP(t, s, u, p) != 1 {
		t.Fatalf("seal: %v", p[0].Status)
	}
	return bytes.Clone(p[0].Out)
}

// inner returns an IP packet; by i, its version, protocol and length vary.
func inner(i int) []byte {
	body := udpPayload(uint16(1000+i%3), (i*97)%1300)
	switch i % 4 {
	case 0:
		return ip4(v4, v4b, 17, nil, body)
	case 1:
		return ip6(v6, v6b, 6, body)
	case 2:
		return ip4(v4b, v4, 1, options, body)
	}
	return ip6(v6b, v6, 58, body)
}

// Bursts of good and bad packets, longer than the library handles at a time, with every format
// and mode: each good packet becomes a datagram, in order, and opens to what it was.
func TestUDPBursts(t *testing.T) {
	for _, f := range udpFormats {
		for _, u := range []UDP{tunnel4, tunnel6, across} {
			if u.Transport && !f.carries {
				continue
			}
			for _, dst := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, transport %v, to %v, dst %v", f.name, u.Transport, u.Dst, dst), func(t *testing.T) {
					g := f.group(t)
					s, r := newSender(t, g, f.c), newReceiver(t, ReceiverConfig{ReplayWindow: 256}, g)
					h := s.HeaderLen()
					const n = 100
					pkts := make([]Packet, n)
					bad := func(i int) bool { return i%7 == 3 }
					for i := range pkts {
						ip := inner(i)
						if bad(i) {
							ip[0] = 0x55
						}
						trailer := stream("padding", i%5)
						pkts[i] = plain(append(bytes.Clone(ip), trailer...))
						pkts[i].SrcIP, pkts[i].DstIP = v4, v6
						if i%3 == 1 && f.c.V < 2 {
							pkts[i].COffset = 3
						}
						if dst {
							pkts[i].Dst = make([]byte, len(ip)+48+h+ICVLen)
						}
					}
					before := s.NextTSC()
					if k := sealUDP(t, s, &u, pkts); k != n-n/7 {
						t.Fatalf("sealed %d", k)
					}
					var in []Packet
					good := 0
					for i, p := range pkts {
						if bad(i) {
							if p.Status != status.ErrArgument {
								t.Fatalf("packet %d: %v", i, p.Status)
							}
							q := whole(stream("noise", 100))
							in = append(in, q)
							continue
						}
						if p.Status != status.OK || p.ID != s.ID() || p.TSC != before+uint64(good) {
							t.Fatalf("packet %d: %v, TSC %d", i, p.Status, p.TSC)
						}
						good++
						ip := inner(i)
						d := parse(t, p.Out)
						if d.dport != u.DPort || d.sport < 49152 {
							t.Fatalf("ports %d, %d", d.sport, d.dport)
						}
						payload := len(ip)
						if u.Transport {
							payload -= len(d.header)
							if !sameButLength(d.header, ip) {
								t.Fatalf("packet %d: header %x, of %x", i, d.header, ip[:len(d.header)])
							}
						} else if d.src != u.Src || d.dst != u.Dst || d.tos != u.TOS || d.ttl != map[uint8]uint8{0: 64, 9: 9}[u.TTL] {
							t.Fatalf("packet %d: %+v", i, d)
						}
						if len(d.payload) != h+payload+ICVLen {
							t.Fatalf("packet %d: %d octets", i, len(d.payload))
						}
						if f.carries {
							want := map[bool]byte{true: 4, false: 41}[ip[0]>>4 == 4]
							if u.Transport {
								if want = ip[6]; ip[0]>>4 == 4 {
									want = ip[9]
								}
							}
							if d.payload[0] != want {
								t.Fatalf("packet %d: next header %d", i, d.payload[0])
							}
						}
						q := whole(append(bytes.Clone(p.Out), stream("trailer", i%4)...))
						q.SrcIP, q.DstIP = v4, v6
						if dst {
							q.Dst = make([]byte, len(ip))
						}
						in = append(in, q)
					}
					if k := openUDP(t, r, &u, in); k != good {
						t.Fatalf("opened %d", k)
					}
					octets := uint64(0)
					for i, q := range in {
						if bad(i) {
							if q.Status != status.ErrEncap {
								t.Fatalf("packet %d: %v", i, q.Status)
							}
						} else if ip := inner(i); q.Status != status.OK || !bytes.Equal(q.Out, ip) || q.TSC != pkts[i].TSC || q.ID != s.ID() {
							t.Fatalf("packet %d: %v\n%x, want\n%x", i, q.Status, q.Out, ip)
						} else {
							octets += uint64(len(ip))
						}
					}
					if st := r.Stats(); st.Octets != octets || st.Packets[status.OK] != uint64(good) || st.Packets[status.ErrEncap] != uint64(n-good) || len(st.Packets) != 2 {
						t.Fatalf("%+v", st)
					}
					octets = 0
					for _, p := range pkts {
						octets += uint64(len(p.Out))
					}
					if st := s.Stats(); st.Octets != octets || st.Packets[status.OK] != uint64(good) || st.Packets[status.ErrArgument] != uint64(n-good) || len(st.Packets) != 2 {
						t.Fatalf("%+v", st)
					}
					// Each opens once only.
					for i, p := range pkts {
						if p.Status == status.OK {
							q := whole(p.Out)
							q.SrcIP, q.DstIP = v4, v6
							one := []Packet{q}
							if openUDP(t, r, &u, one); one[0].Status != status.ErrReplay {
								t.Fatalf("packet %d again: %v", i, one[0].Status)
							}
						}
					}
				})
			}
		}
	}
}

// sameButLength compares an IP header with that of a packet, all but length,
// protocol and checksum.
func sameButLength(header, ip []byte) bool {
	a, b := bytes.Clone(header), bytes.Clone(ip[:len(header)])
	for _, h := range [][]byte{a, b} {
		if h[0]>>4 == 4 {
			clear(h[2:4])
			h[9] = 0
			clear(h[10:12])
		} else {
			clear(h[4:7])
		}
	}
	return bytes.Equal(a, b)
}

// Just enough room, and an octet less in each place. Nothing outside is written.
func TestUDPRoom(t *testing.T) {
	for _, f := range udpFormats {
		for _, u := range []UDP{tunnel4, tunnel6, across} {
			if u.Transport && !f.carries {
				continue
			}
			g := f.group(t)
			s, r := newSender(t, g, f.c), newReceiver(t, ReceiverConfig{}, g)
			outer := 28
			if u.Dst == v6b {
				outer = 48
			} else if u.Transport {
				outer = 8
			}
			front := outer + s.HeaderLen()
			for i := range 8 {
				ip := inner(i)
				for _, lack := range []string{"", "headroom", "tailroom", "dst", "more"} {
					room := bytes.Repeat([]byte{0xA5}, 16+front+len(ip)+ICVLen+16)
					p := Packet{Buf: room[16 : 16+front+len(ip)+ICVLen], Off: front, Len: len(ip), SrcIP: v4, DstIP: v6}
					want := status.OK
					switch lack {
					case "headroom":
						p.Buf, p.Off, want = p.Buf[1:], p.Off-1, status.ErrRoom
					case "tailroom":
						p.Buf, want = p.Buf[:len(p.Buf)-1], status.ErrRoom
					case "dst":
						p.Dst = p.Buf[:len(p.Buf)-1]
						p.Buf, p.Off, want = bytes.Clone(ip), 0, status.ErrRoom
					case "more":
						p.Dst = p.Buf
						p.Buf, p.Off = bytes.Clone(ip), 0
					}
					copy(p.Buf[p.Off:], ip)
					before := bytes.Clone(room)
					pkts := []Packet{p}
					if sealUDP(t, s, &u, pkts); pkts[0].Status != want {
						t.Fatalf("%s, lack of %q: %v, want %v", f.name, lack, pkts[0].Status, want)
					}
					if want != status.OK {
						wantOctets(t, "memory", room, before)
						continue
					}
					if len(pkts[0].Out) != front+len(ip)+ICVLen || &pkts[0].Out[0] != &room[16] {
						t.Fatalf("%d octets", len(pkts[0].Out))
					}
					wantOctets(t, "memory in front", room[:16], before[:16])
					wantOctets(t, "memory behind", room[len(room)-16:], before[:16])
					parse(t, pkts[0].Out)

					// Opened into just enough room, and into too little.
					b := bytes.Clone(pkts[0].Out)
					for _, size := range []int{len(ip), len(ip) - 1, 0} {
						back := bytes.Repeat([]byte{0xA5}, size+32)
						q := whole(b)
						q.SrcIP, q.DstIP, q.Dst = v4, v6, back[16:16+size]
						one := []Packet{q}
						openUDP(t, r, &u, one)
						if fits := size == len(ip); fits != (one[0].Status == status.OK) || !fits && one[0].Status != status.ErrRoom {
							t.Fatalf("%s: room of %d for %d: %v", f.name, size, len(ip), one[0].Status)
						} else if fits {
							wantOctets(t, "the packet", one[0].Out, ip)
						}
						if len(bytes.Trim(back[:16], "\xA5"))+len(bytes.Trim(back[16+size:], "\xA5")) != 0 {
							t.Fatal("written outside")
						}
						wantOctets(t, "the source", q.Buf, b)
					}
					one := []Packet{pkts[0]}
					one[0] = Packet{Buf: room, Off: 16, Len: len(b), SrcIP: v4, DstIP: v6}
					if openUDP(t, r, &u, one) != 1 {
						t.Fatal(one[0].Status)
					}
					wantOctets(t, "the packet", one[0].Out, ip)
					if at := 16 + front; &one[0].Out[0] != &room[at] {
						t.Fatal("the result in place is elsewhere")
					}
					wantOctets(t, "memory in front", room[:16], before[:16])
					wantOctets(t, "memory behind", room[len(room)-16:], before[:16])
				}
			}
		}
	}
}

// Packets beside pages without access, at either end.
func TestUDPGuarded(t *testing.T) {
	room := guarded(t, 8192)
	rounds := testrun.Rounds(5, 15, 40)
	for _, f := range udpFormats {
		for _, u := range []UDP{tunnel4, tunnel6, across} {
			if u.Transport && !f.carries {
				continue
			}
			g := f.group(t)
			s, r := newSender(t, g, f.c), newReceiver(t, ReceiverConfig{}, g)
			for i := range rounds {
				ip := inner(i)
				b := sealed1(t, s, &u, ip)
				for _, atEnd := range []bool{false, true} {
					buf := room[:len(b):len(b)]
					if atEnd {
						buf = room[len(room)-len(b):]
					}
					off := len(b) - ICVLen - len(ip)
					copy(buf[off:], ip)
					pkts := []Packet{{Buf: buf, Off: off, Len: len(ip)}}
					if sealUDP(t, s, &u, pkts) != 1 || len(pkts[0].Out) != len(b) {
						t.Fatal(pkts[0].Status)
					}
					if bad := i%5 == 4; bad {
						buf[len(buf)-1] ^= 1
					}
					pkts[0] = Packet{Buf: buf, Len: len(buf)}
					openUDP(t, r, &u, pkts)
					if i%5 == 4 {
						if pkts[0].Status != status.ErrAuth {
							t.Fatal(pkts[0].Status)
						}
					} else if pkts[0].Status != status.OK || !bytes.Equal(pkts[0].Out, ip) {
						t.Fatal(pkts[0].Status)
					}
					// Packets that are cut off: nothing behind their end is read.
					for n := range len(b) {
						cut := room[len(room)-n:]
						copy(cut, b)
						pkts[0] = Packet{Buf: cut, Len: n}
						if openUDP(t, r, &u, pkts); pkts[0].Status != status.ErrEncap {
							t.Fatalf("cut to %d of %d: %v", n, len(b), pkts[0].Status)
						}
						if n > len(ip) {
							continue
						}
						copy(cut, ip)
						if n < len(ip) {
							pkts[0] = Packet{Buf: cut, Len: n, Dst: make([]byte, 2000)}
							if sealUDP(t, s, &u, pkts); pkts[0].Status != status.ErrArgument {
								t.Fatalf("cut to %d of %d: %v", n, len(ip), pkts[0].Status)
							}
						}
					}
				}
			}
		}
	}
}

func TestUDPSealRefusals(t *testing.T) {
	g := pspDevice(t)
	s := newSender(t, g, SenderConfig{})
	good4, good6 := ip4(v4, v4b, 17, nil, udpPayload(7, 30)), ip6(v6, v6b, 17, udpPayload(7, 30))
	set := func(b []byte, at int, x byte) []byte { b = bytes.Clone(b); b[at] = x; return b }
	for _, c := range []struct {
		name              string
		ip                []byte
		tunnel, transport status.Code
	}{
		{"good IPv4", good4, status.OK, status.OK},
		{"good IPv6", good6, status.OK, status.OK},
		{"empty", []byte{}, status.ErrArgument, status.ErrArgument},
		{"an octet", []byte{0x45}, status.ErrArgument, status.ErrArgument},
		{"version 0", set(good4, 0, 0x05), status.ErrArgument, status.ErrArgument},
		{"version 5", set(good4, 0, 0x55), status.ErrArgument, status.ErrArgument},
		{"short header", set(good4, 0, 0x44), status.ErrArgument, status.ErrArgument},
		{"longer than it is", set(good4, 3, byte(len(good4)+1)), status.ErrArgument, status.ErrArgument},
		{"IPv6 longer than it is", set(good6, 5, 39), status.ErrArgument, status.ErrArgument},
		{"IPv6 without its header", good6[:39], status.ErrArgument, status.ErrArgument},
		{"shorter than its header", set(good4, 3, 19), status.ErrArgument, status.ErrArgument},
		{"BIG TCP over IPv4", append(set(good4, 3, 0), make([]byte, 70000)...), status.ErrTooLong, status.ErrTooLong},
		{"BIG TCP over IPv6", append(set(set(good6, 5, 0), 6, 6), make([]byte, 70000)...), status.ErrTooLong, status.ErrTooLong},
		{"a jumbogram", append(set(set(good6, 5, 0), 6, 0), make([]byte, 70000)...), status.ErrTooLong, status.ErrTooLong},
		{"IPv6 length 0, one octet", append(set(good6[:40], 5, 0), 1), status.ErrTooLong, status.ErrTooLong},
		{"no next header, and padding of Ethernet", append(ip6(v6, v6b, 59, nil), make([]byte, 6)...), status.OK, status.OK},
		{"more fragments", set(good4, 6, 0x20), status.OK, status.ErrUnsupported},
		{"a later fragment", set(good4, 7, 1), status.OK, status.ErrUnsupported},
		{"protocol 0", set(good4, 9, 0), status.OK, status.ErrUnsupported},
		{"hop-by-hop", set(good6, 6, 0), status.OK, status.ErrUnsupported},
		{"routing", set(good6, 6, 43), status.OK, status.ErrUnsupported},
		{"IPv6 fragment", set(good6, 6, 44), status.OK, status.ErrUnsupported},
		{"AH", set(good6, 6, 51), status.OK, status.ErrUnsupported},
		{"destination options", set(good6, 6, 60), status.OK, status.ErrUnsupported},
		{"ESP", set(good6, 6, 50), status.OK, status.OK},
		{"nothing in IPv4", ip4(v4, v4b, 17, nil, nil), status.OK, status.OK},
		{"nothing in IPv6", ip6(v6, v6b, 59, nil), status.OK, status.OK},
		{"a wrong checksum", set(good4, 10, 1), status.OK, status.OK}, // a device may have to set it
	} {
		for i, u := range []UDP{tunnel4, tunnel6, across} {
			want := c.tunnel
			if u.Transport {
				want = c.transport
			}
			for _, dst := range []bool{false, true} {
				pkts := []Packet{plain(good4), plain(c.ip), plain(good6)}
				if dst {
					pkts[1].Dst = make([]byte, 300)
				}
				before := bytes.Clone(pkts[1].Buf)
				if sealUDP(t, s, &u, pkts); pkts[0].Status != status.OK || pkts[1].Status != want || pkts[2].Status != status.OK {
					t.Fatalf("%s, %d: %v, %v, %v; want %v", c.name, i, pkts[0].Status, pkts[1].Status, pkts[2].Status, want)
				}
				if want != status.OK && (!bytes.Equal(pkts[1].Buf, before) || !allZero(pkts[1].Dst)) {
					t.Fatalf("%s: written", c.name)
				}
			}
		}
	}
	stateless := newSender(t, newGroup(t, "a", GroupConfig{}, Zone), SenderConfig{})
	pkts := []Packet{plain(good4), plain([]byte("no packet"))}
	if sealUDP(t, stateless, &across, pkts); pkts[0].Status != status.ErrUnsupported || pkts[1].Status != status.ErrUnsupported {
		t.Fatal(pkts[0].Status, pkts[1].Status)
	}
	bare := newSender(t, newGroup(t, "", GroupConfig{}), SenderConfig{})
	if sealUDP(t, bare, &tunnel4, pkts); pkts[0].Status != status.ErrNoKey || bare.Stats().Packets[status.ErrNoKey] != 2 {
		t.Fatal(pkts[0].Status, bare.Stats())
	}
	offset := plain(good4)
	offset.COffset = 20
	outside := Packet{Buf: good4, Len: len(good4) + 1}
	pkts = []Packet{offset, outside, {}}
	if sealUDP(t, s, &tunnel4, pkts); pkts[0].Status != status.ErrOffset || pkts[1].Status != status.ErrArgument || pkts[2].Status != status.ErrArgument {
		t.Fatal(pkts[0].Status, pkts[1].Status, pkts[2].Status)
	}
	ownCounters(s, 0, 1<<48-1)
	pkts = []Packet{plain(good4), plain(good6)}
	if sealUDP(t, s, &tunnel4, pkts) != 1 || pkts[1].Status != status.ErrExhausted {
		t.Fatal(pkts[0].Status, pkts[1].Status)
	}
}

func TestUDPOpenRefusals(t *testing.T) {
	g := pspDevice(t)
	s, r := newSender(t, g, SenderConfig{}), newReceiver(t, ReceiverConfig{}, g)
	ip := ip4(v4, v4b, 17, nil, udpPayload(7, 30))
	resum := func(b []byte) { b[10], b[11] = 0, 0; binary.BigEndian.PutUint16(b[10:], inetSum(b[:20])) }
	for i, u := range []UDP{tunnel4, tunnel6, across} {
		good := sealed1(t, s, &u, ip)
		h, six := 20, false
		if u.Dst == v6b {
			h, six = 40, true
		}
		for _, c := range []struct {
			name   string
			want   status.Code
			change func(b []byte) []byte
		}{
			{"nothing", status.OK, func(b []byte) []byte { return b }},
			{"trailer", status.OK, func(b []byte) []byte { return append(b, 1, 2, 3) }},
			{"empty", status.ErrEncap, func(b []byte) []byte { return b[:0] }},
			{"cut", status.ErrEncap, func(b []byte) []byte { return b[:len(b)-1] }},
			{"version", status.ErrEncap, func(b []byte) []byte { b[0] ^= 0x10; return b }},
			{"checksum", status.ErrEncap, func(b []byte) []byte { b[10] ^= 1; return b }},
			{"not UDP", status.ErrEncap, func(b []byte) []byte {
				if b[6] = 6; !six {
					b[6], b[9] = 0x40, 6
					resum(b)
				}
				return b
			}},
			{"fragment", status.ErrEncap, func(b []byte) []byte {
				if b[6] = 44; !six {
					b[6] = 0x20
					resum(b)
				}
				return b
			}},
			{"port", status.ErrEncap, func(b []byte) []byte { b[h+3] ^= 1; return b }},
			{"source port", status.OK, func(b []byte) []byte { b[h] ^= 1; return b }},
			{"UDP checksum", status.OK, func(b []byte) []byte { b[h+6] = 1; return b }},
			{"UDP shorter", status.ErrEncap, func(b []byte) []byte { b[h+5]--; return b }},
			{"UDP longer", status.ErrEncap, func(b []byte) []byte { b[h+5]++; return append(b, 0) }},
			{"ICV", status.ErrAuth, func(b []byte) []byte { b[len(b)-1] ^= 1; return b }},
			{"header", status.ErrAuth, func(b []byte) []byte { b[h+8+4] ^= 0x80; return b }},
			{"too short for a header", status.ErrShort, func(b []byte) []byte {
				b = b[:h+8+31]
				if six {
					binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
				} else {
					binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
					resum(b)
				}
				binary.BigEndian.PutUint16(b[h+4:], uint16(len(b)-h))
				return b
			}},
			{"no UDP payload", status.ErrShort, func(b []byte) []byte {
				b = b[:h+8]
				if six {
					binary.BigEndian.PutUint16(b[4:], 8)
				} else {
					binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
					resum(b)
				}
				binary.BigEndian.PutUint16(b[h+4:], 8)
				return b
			}},
		} {
			if c.name == "checksum" && six {
				continue
			}
			want := c.want
			changed := c.change(bytes.Clone(good))
			pkts := []Packet{whole(good), whole(changed), whole(good)}
			if openUDP(t, r, &u, pkts); pkts[0].Status != status.OK || pkts[1].Status != want || pkts[2].Status != status.OK {
				t.Fatalf("%s, %d: %v, %v, %v; want %v", c.name, i, pkts[0].Status, pkts[1].Status, pkts[2].Status, want)
			}
			if want != status.OK && want != status.ErrAuth && !bytes.Equal(pkts[1].Buf, changed) {
				t.Fatalf("%s: written", c.name)
			}
			if want == status.ErrAuth && (bytes.Contains(pkts[1].Buf, ip[20:40]) || !bytes.Equal(pkts[1].Buf[:h+8], changed[:h+8])) {
				t.Fatalf("%s: left %x", c.name, pkts[1].Buf)
			}
		}
		pkts := []Packet{{Buf: good, Len: len(good) + 1}, {}}
		if openUDP(t, r, &u, pkts); pkts[0].Status != status.ErrArgument || pkts[1].Status != status.ErrEncap && pkts[1].Status != status.ErrArgument {
			t.Fatal(pkts[0].Status, pkts[1].Status)
		}
	}
}

// datagramOf puts sealed octets into a datagram.
func datagramOf(b []byte, dport uint16) []byte {
	u := binary.BigEndian.AppendUint16([]byte{0xC0, 0}, dport)
	u = append(binary.BigEndian.AppendUint16(u, uint16(8+len(b))), 0, 0)
	return ip4(v4, v4b, 17, nil, append(u, b...))
}

// Authentic payloads that are no IP packets, or do not fit the mode.
func TestUDPOfOtherPayloads(t *testing.T) {
	for _, f := range udpFormats {
		g := f.group(t)
		s, r := newSender(t, g, f.c), newReceiver(t, ReceiverConfig{}, g)
		gmac := f.c.V == 2
		raw := func(payload []byte, next uint8) []byte {
			p := plain(payload)
			p.SrcIP, p.DstIP, p.NextHeader = v4, v4b, next // the datagram's addresses
			return datagramOf(sealed(t, s, p), 4500)
		}
		text := stream("no IP packet", 40)
		text[0] = 0x11
		ip := ip4(v4, v4b, 6, nil, text)
		open := func(u *UDP, b []byte, dst bool) Packet {
			p := whole(b)
			if p.SrcIP, p.DstIP = v4, v6; dst {
				p.Dst = make([]byte, 200)
			}
			pkts := []Packet{p}
			openUDP(t, r, u, pkts)
			return pkts[0]
		}
		n := uint64(0)
		for _, dst := range []bool{false, true} {
			for _, c := range []struct {
				payload []byte
				next    uint8
			}{{text, 4}, {nil, 4}, {ip[:len(ip)-1], 4}, {ip, 41}, {ip, 6}, {ip6(v6, v6b, 6, text), 4}} {
				if !f.carries && c.next != 4 || !f.carries && len(c.payload) == 80 {
					continue
				}
				n++
				p := open(&tunnel4, raw(c.payload, c.next), dst)
				if p.Status != status.ErrEncap {
					t.Fatalf("%s, %d in %x: %v", f.name, c.next, c.payload, p.Status)
				}
				if bytes.Contains(p.Dst, text[:16]) || !gmac && bytes.Contains(p.Buf, text[:16]) {
					t.Fatal("plaintext was left")
				}
			}
			// Octets behind the inner packet are not part of the result.
			p := open(&tunnel4, raw(append(bytes.Clone(ip), 0, 0, 0), 4), dst)
			if p.Status != status.OK || !bytes.Equal(p.Out, ip) {
				t.Fatalf("%s: %v, %x", f.name, p.Status, p.Out)
			}
			u := UDP{DPort: 4500, Transport: true}
			if p = open(&u, raw(text, 0), dst); p.Status != status.ErrUnsupported || bytes.Contains(p.Dst, text[:16]) || !gmac && bytes.Contains(p.Buf, text[:16]) {
				t.Fatalf("%s: %v", f.name, p.Status)
			}
		}
		if st := r.Stats().Packets; st[status.ErrEncap] != n || st[status.ErrUnsupported] != 2 || st[status.OK] != 2 || len(st) != 3 {
			t.Fatalf("%s: %v", f.name, st)
		}
	}
}

// The IP header of transport mode may change on the path.
func TestUDPTransportChanged(t *testing.T) {
	g := pspDevice(t)
	s, r := newSender(t, g, SenderConfig{}), newReceiver(t, ReceiverConfig{}, g)
	for i := range 4 {
		ip := inner(4*20 + i)
		b, want := sealed1(t, s, &across, ip), bytes.Clone(ip)
		if b[0]>>4 == 4 {
			h := int(b[0]&15) * 4
			for _, x := range [][]byte{b[:h], want[:h]} {
				x[8] -= 5
				x[1] ^= 3
				clear(x[10:12])
				binary.BigEndian.PutUint16(x[10:], inetSum(x))
			}
		} else {
			b[7], want[7] = 3, 3
		}
		pkts := []Packet{whole(b)}
		if openUDP(t, r, &across, pkts) != 1 || !bytes.Equal(pkts[0].Out, want) {
			t.Fatal(pkts[0].Status)
		}
	}
	// A header checksum that was left to a device is computed.
	ip := ip4(v4, v4b, 17, options, udpPayload(1, 50))
	want := bytes.Clone(ip)
	ip[10], ip[11] = 0, 0
	pkts := []Packet{whole(sealed1(t, s, &across, ip))}
	if openUDP(t, r, &across, pkts) != 1 || !bytes.Equal(pkts[0].Out, want) {
		t.Fatal(pkts[0].Status)
	}
}

// The longest packets that fit into IP, and one octet more.
func TestUDPTooLong(t *testing.T) {
	for _, f := range udpFormats {
		if !f.carries && f.c.Options {
			continue
		}
		g := f.group(t)
		s, r := newSender(t, g, f.c), newReceiver(t, ReceiverConfig{}, g)
		for _, c := range []struct {
			name string
			u    UDP
			six  bool
			most int // octets of the packet
		}{
			{"IPv4 in IPv4", tunnel4, false, 65535 - 28}, {"IPv6 in IPv4", tunnel4, true, 65535 - 28},
			{"IPv4 in IPv6", tunnel6, false, 65535 - 8}, {"IPv6 in IPv6", tunnel6, true, 65535 - 8},
			{"IPv4", across, false, 65535 - 8}, {"IPv6", across, true, 40 + 65535 - 8},
		} {
			if c.u.Transport && !f.carries {
				continue
			}
			most := c.most - s.HeaderLen() - ICVLen
			for n := most - 1; n <= most+1; n++ {
				ip := ip4(v4, v4b, 17, nil, udpPayload(1, n-20))
				if c.six {
					ip = ip6(v6, v6b, 17, udpPayload(1, n-40))
				}
				pkts := []Packet{plain(append(ip, make([]byte, 3000)...))} // octets behind the packet do not count
				if sealUDP(t, s, &c.u, pkts); n > most {
					if pkts[0].Status != status.ErrTooLong {
						t.Fatalf("%s, %s of %d: %v", f.name, c.name, n, pkts[0].Status)
					}
					continue
				}
				if pkts[0].Status != status.OK {
					t.Fatalf("%s, %s of %d: %v", f.name, c.name, n, pkts[0].Status)
				}
				parse(t, pkts[0].Out)
				back := []Packet{whole(pkts[0].Out)}
				back[0].Buf = append(back[0].Buf, make([]byte, 200_000)...)
				back[0].Len = len(back[0].Buf)
				if openUDP(t, r, &c.u, back) != 1 || !bytes.Equal(back[0].Out, ip[:n]) {
					t.Fatalf("%s, %s of %d: %v", f.name, c.name, n, back[0].Status)
				}
			}
		}
		// The longest IPv6 packet does not fit into another one.
		ip := ip6(v6, v6b, 17, make([]byte, 65535))
		pkts := []Packet{plain(ip)}
		if sealUDP(t, s, &tunnel6, pkts); pkts[0].Status != status.ErrTooLong {
			t.Fatal(pkts[0].Status)
		}
	}
}

func TestUDPSourcePorts(t *testing.T) {
	g := pspDevice(t)
	s := newSender(t, g, SenderConfig{})
	for _, u := range []UDP{tunnel4, tunnel6, across} {
		ports := map[uint16]bool{}
		for flow := range 200 {
			flows := [][]byte{
				ip4(v4, v4b, 6, nil, udpPayload(uint16(flow), 20)),
				ip6(v6, v6b, 17, udpPayload(uint16(flow), 20)),
				ip4(netip.AddrFrom4([4]byte{10, 0, 0, byte(flow)}), v4, 1, nil, []byte("ping")),
			}
			for _, ip := range flows {
				port := parse(t, sealed1(t, s, &u, ip)).sport
				if port < 49152 {
					t.Fatalf("port %d", port)
				}
				ports[port] = true
				// The same flow, another packet.
				next := bytes.Clone(ip)
				if next[0]>>4 == 4 {
					next[4] ^= 0xFF // ID
					next[8]--
				} else {
					next[7]--
				}
				next[len(next)-1] ^= 0xFF
				if again := parse(t, sealed1(t, s, &u, next)).sport; again != port {
					t.Fatalf("ports %d, %d of one flow", port, again)
				}
			}
		}
		if len(ports) < 500 {
			t.Fatalf("600 flows have %d ports", len(ports))
		}
		u.SPort = 77
		if d := parse(t, sealed1(t, s, &u, inner(1))); d.sport != 77 {
			t.Fatal(d.sport)
		}
	}
}

func TestUDPConfig(t *testing.T) {
	g := pspDevice(t)
	s, r := newSender(t, g, SenderConfig{}), newReceiver(t, ReceiverConfig{}, g)
	zero := netip.Addr{}
	for _, c := range []struct {
		u          UDP
		seal, open bool
	}{
		{UDP{}, false, false},
		{UDP{Src: v4, Dst: v4b}, false, false},
		{UDP{Transport: true}, false, false},
		{UDP{DPort: 1}, false, true},
		{UDP{DPort: 1, Src: v4}, false, true},
		{UDP{DPort: 1, Dst: v4}, false, true},
		{UDP{DPort: 1, Src: zeros, Dst: v6}, false, true},
		{UDP{DPort: 1, Src: v6, Dst: zeros}, false, true},
		{UDP{DPort: 1, Src: v6, Dst: zero}, false, true},
		{UDP{DPort: 1, Src: v4, Dst: v6}, false, true},
		{UDP{DPort: 1, Src: v6, Dst: v4}, false, true},
		{UDP{DPort: 1, Src: v4, Dst: v4b}, true, true},
		{UDP{DPort: 1, Src: v6, Dst: v6b}, true, true},
		{UDP{DPort: 1, Src: netip.AddrFrom16(v4.As16()), Dst: v4b}, true, true},
		{UDP{DPort: 1, Transport: true}, true, true},
		{UDP{DPort: 1, Transport: true, Src: v4, Dst: v6}, true, true}, // addresses are not read
	} {
		before := plain(inner(0))
		pkts := []Packet{before}
		n, err := s.SealUDP(&c.u, pkts)
		if (err == nil) != c.seal || (n == 1) != c.seal {
			t.Fatalf("%+v: %d, %v", c.u, n, err)
		}
		if err != nil {
			wantErr(t, err, status.ErrArgument)
		}
		n, err = r.OpenUDP(&c.u, []Packet{{}})
		if (err == nil) != c.open || n != 0 {
			t.Fatalf("%+v: %v", c.u, err)
		}
		if err != nil {
			wantErr(t, err, status.ErrArgument)
		}
	}
	if n, err := s.SealUDP(&tunnel4, nil); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	if n, err := r.OpenUDP(&tunnel4, nil); n != 0 || err != nil {
		t.Fatal(n, err)
	}
}

// The addresses of the context are those of the outer header.
func TestUDPAddresses(t *testing.T) {
	g := newGroup(t, "a", GroupConfig{}, Zone)
	s, r := newSender(t, g, SenderConfig{V: VIDSrcDst}), newReceiver(t, ReceiverConfig{}, g)
	p := plain(inner(0))
	p.SrcIP, p.DstIP = v6b, v4 // are not read
	pkts := []Packet{p}
	if sealUDP(t, s, &tunnel4, pkts) != 1 {
		t.Fatal(pkts[0].Status)
	}
	out := pkts[0].Out
	moved := ip4(v4b, v4b, 17, nil, out[20:]) // from another address
	for _, c := range []struct {
		b    []byte
		want status.Code
	}{{out, status.OK}, {moved, status.ErrAuth}} {
		pkts := []Packet{whole(c.b)}
		if openUDP(t, r, &tunnel4, pkts); pkts[0].Status != c.want {
			t.Fatal(pkts[0].Status)
		}
	}
	// With Open, the caller passes the addresses.
	q := whole(out[28:])
	q.SrcIP, q.DstIP = v4, v4b
	pkts = []Packet{q}
	if r.Open(pkts) != 1 {
		t.Fatal(pkts[0].Status)
	}
}

// A destination may be where the payload stays in place, but may not overlap otherwise.
func TestUDPOverlap(t *testing.T) {
	g := pspDevice(t)
	s, r := newSender(t, g, SenderConfig{}), newReceiver(t, ReceiverConfig{}, g)
	ip := ip4(v4, v4b, 17, options, udpPayload(1, 200))
	for _, u := range []UDP{tunnel4, tunnel6, across} {
		n := len(sealed1(t, s, &u, ip))
		front := n - ICVLen - len(ip)
		for shift := -3; shift <= 3; shift++ {
			buf := make([]byte, 64+n+64)
			copy(buf[64+front:], ip)
			p := []Packet{{Buf: buf, Off: 64 + front, Len: len(ip), Dst: buf[64+shift : 64+shift+n]}}
			if sealUDP(t, s, &u, p); shift != 0 {
				if p[0].Status != status.ErrOverlap || !bytes.Equal(buf[64+front:][:len(ip)], ip) {
					t.Fatalf("shifted by %d: %v", shift, p[0].Status)
				}
				continue
			}
			if p[0].Status != status.OK {
				t.Fatal(p[0].Status)
			}
			b := p[0].Out
			parse(t, b)
			for shift := -3; shift <= 3; shift++ {
				buf := append(bytes.Clone(b), make([]byte, 64)...)
				q := []Packet{{Buf: buf, Len: len(b), Dst: buf[front+shift:][:len(ip)]}}
				if openUDP(t, r, &u, q); shift != 0 && (q[0].Status != status.ErrOverlap || !bytes.Equal(buf[:len(b)], b)) {
					t.Fatalf("shifted by %d: %v", shift, q[0].Status)
				} else if shift == 0 && (q[0].Status != status.OK || !bytes.Equal(q[0].Out, ip)) {
					t.Fatal(q[0].Status)
				}
			}
		}
	}
}

// Buffers that end where an empty part would begin. No pointer may point there: the garbage
// collector would take it for a pointer into the next object.
func TestUDPOfNothing(t *testing.T) {
	for _, f := range udpFormats {
		if !f.carries {
			continue
		}
		g := f.group(t)
		s, r := newSender(t, g, f.c), newReceiver(t, ReceiverConfig{}, g)
		for i := range 200 {
			ip := ip4(v4, v4b, 17, nil, nil)
			if i%2 == 0 {
				ip = ip6(v6, v6b, 17, nil)
			}
			h := len(ip)
			exactly := func(n int) []byte { return make([]byte, n)[:n:n] }
			src, size := exactly(h), h+8+s.HeaderLen()+ICVLen
			copy(src, ip)
			pkts := []Packet{
				{Buf: src, Len: h, Dst: exactly(size)},
				{Buf: src, Len: h}, // no room
				{Buf: src, Len: h, Dst: exactly(h + 8)},
			}
			if sealUDP(t, s, &across, pkts) != 1 || pkts[1].Status != status.ErrRoom || pkts[2].Status != status.ErrRoom {
				t.Fatal(pkts[0].Status, pkts[1].Status, pkts[2].Status)
			}
			empty := exactly(h + 8)
			copy(empty, pkts[0].Out)
			if binary.BigEndian.PutUint16(empty[h+4:], 8); h == 20 {
				binary.BigEndian.PutUint16(empty[2:], 28)
				clear(empty[10:12])
				binary.BigEndian.PutUint16(empty[10:], inetSum(empty[:20]))
			} else {
				binary.BigEndian.PutUint16(empty[4:], 8)
			}
			back := []Packet{whole(pkts[0].Out), {Buf: empty, Len: h + 8}, whole(pkts[0].Out)}
			back[0].Dst, back[2].Dst = exactly(h), exactly(h-1)
			if openUDP(t, r, &across, back) != 1 || !bytes.Equal(back[0].Out, ip) || &back[0].Out[0] != &back[0].Dst[0] ||
				back[1].Status != status.ErrShort || back[2].Status != status.ErrRoom {
				t.Fatal(back[0].Status, back[1].Status, back[2].Status)
			}
			if i%50 == 49 {
				runtime.GC()
			}
		}
	}
}

func TestUDPAllocatesNothing(t *testing.T) {
	g := pspDevice(t)
	s, r := newSender(t, g, SenderConfig{}), newReceiver(t, ReceiverConfig{ReplayWindow: 1024}, g)
	const n = 70
	pkts, bufs := make([]Packet, n), make([][]byte, n)
	ip := ip4(v4, v4b, 17, nil, udpPayload(1, 100))
	for i := range bufs {
		bufs[i] = make([]byte, MaxHeader+len(ip)+ICVLen)
	}
	for _, u := range []UDP{tunnel4, tunnel6, across} {
		if a := testing.AllocsPerRun(10, func() {
			for i := range pkts {
				copy(bufs[i][MaxHeader:], ip)
				pkts[i] = Packet{Buf: bufs[i], Off: MaxHeader, Len: len(ip)}
			}
			if k, err := s.SealUDP(&u, pkts); k != n || err != nil {
				t.Fatal(pkts[0].Status, err)
			}
			for i := range pkts {
				size := len(pkts[i].Out)
				pkts[i].Off, pkts[i].Len = len(bufs[i])-size, size
			}
			if k, err := r.OpenUDP(&u, pkts); k != n || err != nil {
				t.Fatal(pkts[0].Status, err)
			}
			if k, err := r.OpenUDP(&u, pkts); k != 0 || err != nil {
				t.Fatal(pkts[0].Status, err)
			}
		}); a != 0 {
			t.Errorf("%v allocations", a)
		}
	}
}

// FuzzOpenUDP opens any octets as a datagram. Nothing outside is touched, and only sealed
// packets open.
func FuzzOpenUDP(f *testing.F) {
	type pair struct {
		u UDP
		s *Sender
		r *Receiver
	}
	var pairs []pair
	for _, x := range udpFormats {
		for _, u := range []UDP{tunnel4, tunnel6, across} {
			g := x.group(f)
			pairs = append(pairs, pair{u, newSender(f, g, x.c), newReceiver(f, ReceiverConfig{}, g)})
		}
	}
	for i, x := range pairs {
		if i%3 == 2 && !udpFormats[i/3].carries {
			continue
		}
		p := plain(inner(i))
		p.SrcIP, p.DstIP = v4, v6
		pkts := []Packet{p}
		sealUDP(f, x.s, &x.u, pkts)
		f.Add(uint8(i), bytes.Clone(pkts[0].Out), false)
		f.Add(uint8(i), append(bytes.Clone(pkts[0].Out), 0, 0), true)
		f.Add(uint8(i), datagramOf(bytes.Clone(pkts[0].Out), x.u.DPort), true)
	}
	f.Add(uint8(0), []byte{0x45}, false)
	f.Add(uint8(1), []byte{}, false)
	room := guarded(f, 1<<17)
	f.Fuzz(func(t *testing.T, which uint8, b []byte, elsewhere bool) {
		x := pairs[int(which)%len(pairs)]
		b = b[:min(len(b), 1<<16)]
		for _, atEnd := range []bool{true, false} {
			at := 64
			if atEnd {
				at = len(room) - len(b)
			}
			area := room[max(0, at-64):min(len(room), at+len(b)+64)]
			for i := range area {
				area[i] = 0xA5
			}
			buf := room[at : at+len(b) : at+len(b)]
			copy(buf, b)
			p := []Packet{{Buf: buf, Len: len(b), SrcIP: v4, DstIP: v6}}
			if elsewhere {
				p[0].Dst = make([]byte, 1500)
			}
			openUDP(t, x.r, &x.u, p)
			if len(bytes.Trim(room[max(0, at-64):at], "\xA5")) != 0 || len(bytes.Trim(room[at+len(b):min(len(room), at+len(b)+64)], "\xA5")) != 0 {
				t.Fatal("written outside")
			}
			if elsewhere && !bytes.Equal(buf, b) {
				t.Fatal("the source was written to")
			}
			if p[0].Status == status.OK {
				if v := p[0].Out[0] >> 4; v != 4 && v != 6 {
					t.Fatalf("opened to %x", p[0].Out)
				}
			}
		}
	})
}

// Random packets with random headroom, tailroom and destinations.
func TestUDPRandom(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for _, f := range udpFormats {
		g := f.group(t)
		s, r := newSender(t, g, f.c), newReceiver(t, ReceiverConfig{}, g)
		for range 300 {
			u := []UDP{tunnel4, tunnel6, across}[rnd.IntN(3)]
			pkts := make([]Packet, 1+rnd.IntN(5))
			ips := make([][]byte, len(pkts))
			for i := range pkts {
				ips[i] = inner(rnd.IntN(400))
				head, tail := rnd.IntN(130), rnd.IntN(30)
				buf := append(append(make([]byte, head), ips[i]...), make([]byte, tail)...)
				pkts[i] = Packet{Buf: buf, Off: head, Len: len(ips[i])}
				if rnd.IntN(2) == 0 {
					pkts[i].Dst = make([]byte, head+len(ips[i])+tail)
				}
			}
			sealUDP(t, s, &u, pkts)
			for i, p := range pkts {
				outer := 28
				if u.Transport {
					outer = 8
				} else if u.Dst == v6b {
					outer = 48
				}
				need := outer + s.HeaderLen()
				fits := p.Off >= need && len(p.Buf)-p.Off-p.Len >= ICVLen
				if p.Dst != nil {
					fits = len(p.Dst) >= need+len(ips[i])+ICVLen
				}
				want := status.OK
				if u.Transport && !f.carries {
					want = status.ErrUnsupported
				} else if !fits {
					want = status.ErrRoom
				}
				if p.Status != want {
					t.Fatalf("%v, want %v", p.Status, want)
				}
				if want != status.OK {
					continue
				}
				one := []Packet{whole(p.Out)}
				if openUDP(t, r, &u, one) != 1 || !bytes.Equal(one[0].Out, ips[i]) {
					t.Fatal(one[0].Status)
				}
			}
		}
	}
}

// withTOS returns an IP packet with another TOS and the checksum for it.
func withTOS(ip []byte, tos uint8) []byte {
	b := bytes.Clone(ip)
	if b[0]>>4 == 6 {
		b[0], b[1] = 0x60|tos>>4, b[1]&0xF|tos<<4
		return b
	}
	n := b[0] & 15 * 4
	b[1], b[10], b[11] = tos, 0, 0
	binary.BigEndian.PutUint16(b[10:], inetSum(b[:n]))
	return b
}

func tosOf(b []byte) uint8 {
	if b[0]>>4 == 6 {
		return b[0]<<4 | b[1]>>4
	}
	return b[1]
}

// ECN and DSCP of a tunnel, with all values of the inner header, all changes of the outer one on
// the path, and all flags, over both versions of IP. The table is written from RFC 6040, section 4.2.
func TestUDPTrafficClass(t *testing.T) {
	const drop = 9
	back := [4][4]uint8{ // inner, outer: Not-ECT, ECT(1), ECT(0), CE
		{0, 0, 0, drop},
		{1, 1, 1, 3},
		{2, 1, 2, 3},
		{3, 3, 3, 3},
	}
	const efDSCP, other = 46 << 2, 10 << 2
	for _, f := range []struct {
		name  string
		group *Group
	}{
		{"stateless", newGroup(t, "a", GroupConfig{}, Zone)},
		{"psp", pspDevice(t)},
		{"eesp", eespGroup(t, GroupConfig{Profile: ProfileEESP, Mode: SSKDFSHA256, Domain: freshSPI(), Encap: EncapTunnel}, stream("root", 32))},
	} {
		s, r := newSender(t, f.group, SenderConfig{}), newReceiver(t, ReceiverConfig{}, f.group)
		for _, u := range []UDP{tunnel4, tunnel6} {
			u.TOS = other | 2
			for _, ip := range [][]byte{ip4(v4, v4b, 17, nil, udpPayload(7, 30)), ip4(v4, v4b, 17, options, udpPayload(7, 30)), ip6(v6, v6b, 17, udpPayload(7, 30))} {
				for flags := range 8 {
					u.ECN, u.DSCP, u.DSCPBack = flags&1 != 0, flags&2 != 0, flags&4 != 0
					for inner := range uint8(4) {
						packet := withTOS(ip, efDSCP|inner)
						q := []Packet{eespPlain(packet)}
						if sealUDP(t, s, &u, q) != 1 {
							t.Fatal(q[0].Status)
						}
						b, want := q[0].Out, u.TOS
						if u.ECN {
							want = want&^3 | inner
						}
						if u.DSCP {
							want = want&3 | efDSCP
						}
						if d := parse(t, b); d.tos != want {
							t.Fatalf("%s, %+v: outer TOS %#x of inner %#x, want %#x", f.name, u, d.tos, packet[1], want)
						}
						for outer := range uint8(4) {
							for _, dst := range []bool{false, true} {
								p := whole(withTOS(b, 20<<2|outer))
								if dst {
									p.Dst = make([]byte, len(packet)+3)
								}
								pkts := []Packet{p}
								openUDP(t, r, &u, pkts)
								tos := efDSCP | inner
								if u.DSCPBack {
									tos = 20<<2 | inner
								}
								if u.ECN {
									if back[inner][outer] == drop {
										if p := pkts[0]; p.Status != status.ErrEncap || !allZero(p.Dst) || bytes.Contains(p.Buf, packet[len(packet)-10:]) {
											t.Fatalf("%s, congestion of a packet that cannot say so: %v, dst %v\n%x\n%x", f.name, p.Status, dst, p.Buf, p.Dst)
										}
										continue
									}
									tos = tos&^3 | back[inner][outer]
								}
								// withTOS computes the inner checksum, which must be right again.
								if pkts[0].Status != status.OK || !bytes.Equal(pkts[0].Out, withTOS(ip, tos)) {
									t.Fatalf("%s, %+v: inner %d, outer %d: %v\n%x, want\n%x", f.name, u, inner, outer, pkts[0].Status, pkts[0].Out, withTOS(ip, tos))
								}
							}
						}
					}
				}
			}
		}
	}
	// A wrong inner checksum, left to a device, stays wrong when ECN changes the header.
	g := pspDevice(t)
	s, r := newSender(t, g, SenderConfig{}), newReceiver(t, ReceiverConfig{}, g)
	u := tunnel4
	u.ECN = true
	ip := withTOS(ip4(v4, v4b, 17, nil, nil), 2)
	ip[11] ^= 0x55
	b := []Packet{whole(withTOS(sealed1(t, s, &u, ip), 3))}
	if openUDP(t, r, &u, b) != 1 || tosOf(b[0].Out) != 3 || inetSum(b[0].Out[:20]) == 0 {
		t.Fatal(b[0].Status)
	}
	// In transport mode the header is the packet's own: its TOS stays.
	u = across
	u.ECN, u.DSCP, u.DSCPBack, u.TOS = true, true, true, 0xFF
	ip = withTOS(inner(4), efDSCP|2)
	if d := parse(t, sealed1(t, s, &u, ip)); d.tos != efDSCP|2 {
		t.Fatalf("TOS %#x", d.tos)
	}
	b = []Packet{whole(withTOS(sealed1(t, s, &u, ip), efDSCP|3))}
	if openUDP(t, r, &u, b) != 1 || !bytes.Equal(b[0].Out, withTOS(ip, efDSCP|3)) {
		t.Fatal(b[0].Status)
	}
}

// UDP's checksum over IPv6 is right for packets of all lengths, is never 0, and is there only
// where it is asked for.
func TestUDPChecksum(t *testing.T) {
	g := pspDevice(t)
	s, r := newSender(t, g, SenderConfig{}), newReceiver(t, ReceiverConfig{}, g)
	for _, c := range []struct {
		u   UDP
		six bool
	}{{tunnel6, false}, {tunnel6, true}, {across, true}, {across, false}, {tunnel4, true}} {
		c.u.Checksum6 = true
		for n := range 300 {
			if n > 200 {
				n = n*64 - 200*63
			}
			ip := ip4(v4, v4b, 17, nil, udpPayload(1, n))
			if c.six {
				ip = ip6(v6, v6b, 17, udpPayload(1, n))
			}
			pkts := []Packet{plain(ip), plain(ip)}
			pkts[1].Dst = make([]byte, 48+s.HeaderLen()+len(ip)+ICVLen)
			if sealUDP(t, s, &c.u, pkts) != 2 {
				t.Fatal(pkts[0].Status)
			}
			for i, p := range pkts {
				b := bytes.Clone(p.Out)
				d := parseSummed(t, b)
				u := b[len(d.header):]
				if d.v == 4 {
					if u[6]|u[7] != 0 {
						t.Fatal("a checksum over IPv4")
					}
				} else {
					pseudo := append(append(bytes.Clone(b[8:40]), 0, 0, u[4], u[5], 0, 0, 0, 17), u...)
					if inetSum(pseudo) != 0 || u[6]|u[7] == 0 {
						t.Fatalf("%d octets: checksum %x", n, u[6:8])
					}
				}
				back := []Packet{whole(b)}
				if openUDP(t, r, &c.u, back) != 1 || !bytes.Equal(back[0].Out, ip) {
					t.Fatalf("packet %d of %d: %v", i, n, back[0].Status)
				}
			}
		}
	}
}
