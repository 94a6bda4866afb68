package wire

import (
	"encoding/binary"
	"math/bits"

	"libeesp/internal/status"
)

// Lengths and codes of IP and UDP headers.
const (
	ip4Header = 20
	ip6Header = 40

	// UDPHeader is the length of a UDP header.
	UDPHeader = 8
	// MaxUDPTunnel is the most octets that UDPTunnel writes: IPv6 and UDP headers.
	MaxUDPTunnel = ip6Header + UDPHeader

	ipMax       = 65535
	ip4DF       = 0x4000
	ip4Fragment = 0x3FFF // MF and the offset

	// ProtoIPv4, ProtoIPv6 and ProtoUDP are IP protocol numbers.
	ProtoIPv4 = 4
	ProtoIPv6 = 41
	ProtoUDP  = 17

	protoTCP      = 6
	protoDCCP     = 33
	protoESP      = 50
	protoSCTP     = 132
	protoUDPLite  = 136
	protoHopByHop = 0
	protoRouting  = 43
	protoFragment = 44
	protoAH       = 51
	protoOptions  = 60
	protoMobility = 135
	protoHIP      = 139
	protoShim6    = 140

	flowPorts = 0xC000 // the dynamic ports
)

// UDPTunnel is the fields of a tunnel's outer IP and UDP headers. IPv4 addresses are
// IPv4-mapped; both addresses have one family.
type UDPTunnel struct {
	Src, Dst     [16]byte
	SPort, DPort uint16
	TTL          uint8 // hop limit
	TOS          uint8 // traffic class
}

// Mapped reports whether a is an IPv4-mapped address.
func Mapped(a *[16]byte) bool {
	return binary.BigEndian.Uint64(a[:]) == 0 && binary.BigEndian.Uint32(a[8:]) == 0xFFFF
}

// Len is the length of the headers in octets, 0 for addresses of different families.
func (t *UDPTunnel) Len() int {
	four := Mapped(&t.Src)
	if four != Mapped(&t.Dst) {
		return 0
	}
	if four {
		return ip4Header + UDPHeader
	}
	return ip6Header + UDPHeader
}

// Write writes the headers for n octets of UDP payload to the first Len octets of b.
func (t *UDPTunnel) Write(b []byte, n int) status.Code {
	h := t.Len()
	if h == 0 || n < 0 {
		return status.ErrArgument
	}
	if len(b) < h {
		return status.ErrRoom
	}
	if h == ip4Header+UDPHeader {
		if n > ipMax-h {
			return status.ErrTooLong
		}
		b[0], b[1] = 0x45, t.TOS
		binary.BigEndian.PutUint16(b[2:], uint16(h+n))
		binary.BigEndian.PutUint16(b[4:], 0) // with DF the ID has no meaning (RFC 6864)
		binary.BigEndian.PutUint16(b[6:], ip4DF)
		b[8], b[9] = t.TTL, ProtoUDP
		copy(b[12:16], t.Src[12:])
		copy(b[16:20], t.Dst[12:])
		putSum(b[:ip4Header])
	} else {
		if n > ipMax-UDPHeader {
			return status.ErrTooLong
		}
		binary.BigEndian.PutUint32(b, 6<<28|uint32(t.TOS)<<20)
		binary.BigEndian.PutUint16(b[4:], uint16(UDPHeader+n))
		b[6], b[7] = ProtoUDP, t.TTL
		copy(b[8:24], t.Src[:])
		copy(b[24:40], t.Dst[:])
	}
	PutUDP((*[UDPHeader]byte)(b[h-UDPHeader:h]), t.SPort, t.DPort, n)
	return status.OK
}

// PutUDP writes a UDP header for n octets of payload, without checksum (0): the ICV
// protects the payload, and RFC 6935 and 6936 allow it over IPv6 too. See PutUDPSum6.
func PutUDP(b *[UDPHeader]byte, sport, dport uint16, n int) {
	binary.BigEndian.PutUint16(b[0:], sport)
	binary.BigEndian.PutUint16(b[2:], dport)
	binary.BigEndian.PutUint16(b[4:], uint16(UDPHeader+n))
	binary.BigEndian.PutUint16(b[6:], 0)
}

// PutUDPSum6 sets the UDP checksum of a whole IPv6 packet, whose payload is a UDP datagram
// with checksum 0.
func PutUDPSum6(b []byte) {
	u := b[ip6Header:]
	// The pseudo header: addresses, length and protocol.
	s := addSum(0, b[8:ip6Header])
	s = addSum(s, u)
	s += uint64(bits.ReverseBytes16(uint16(len(u)))) + ProtoUDP<<8
	c := ^bits.ReverseBytes16(fold(s))
	if c == 0 {
		c = 0xFFFF // 0 would mean no checksum
	}
	binary.BigEndian.PutUint16(u[6:], c)
}

// addSum adds octets to the sum of an Internet checksum, as little-endian words: the octets
// of the result need to be swapped once (RFC 1071).
func addSum(s uint64, b []byte) uint64 {
	var c uint64
	for ; len(b) >= 32; b = b[32:] {
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(b), 0)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(b[8:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(b[16:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(b[24:]), c)
		s += c
	}
	for ; len(b) >= 8; b = b[8:] {
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(b), 0)
		s += c
	}
	var last [8]byte
	copy(last[:], b)
	s, c = bits.Add64(s, binary.LittleEndian.Uint64(last[:]), 0)
	return uint64(fold(s)) + c
}

// fold reduces a sum to 16 bits.
func fold(s uint64) uint16 {
	s = s>>32 + s&0xFFFFFFFF
	s = s>>16 + s&0xFFFF
	s = s>>16 + s&0xFFFF
	return uint16(s>>16 + s&0xFFFF)
}

// Codepoints of ECN (RFC 3168), the low two bits of TOS.
const (
	ecnMask = 3
	ect1    = 1
	ect0    = 2
	ecnCE   = 3
)

// TOS returns DSCP and ECN of the whole IP packet at the start of b.
func TOS(b []byte) uint8 {
	if b[0]>>4 == 4 {
		return b[1]
	}
	return b[0]<<4 | b[1]>>4
}

// setTOS changes DSCP and ECN. A right IPv4 checksum stays right.
func setTOS(b []byte, tos uint8) {
	if b[0]>>4 == 6 {
		b[0], b[1] = 6<<4|tos>>4, tos<<4|b[1]&0xF
		return
	}
	// RFC 1624, equation 3, for the word with TOS.
	s := uint64(^binary.BigEndian.Uint16(b[10:])) + uint64(^binary.BigEndian.Uint16(b))
	b[1] = tos
	binary.BigEndian.PutUint16(b[10:], ^fold(s+uint64(binary.BigEndian.Uint16(b))))
}

// Outward returns the TOS of a tunnel's outer header: own, with ECN copied from inner as in
// the normal mode of RFC 6040, and DSCP as in the uniform model of RFC 2983.
func Outward(own, inner uint8, ecn, dscp bool) uint8 {
	mask := uint8(0)
	if ecn {
		mask |= ecnMask
	}
	if dscp {
		mask |= ^uint8(ecnMask)
	}
	return own&^mask | inner&mask
}

// Back copies from the outer TOS of a tunnel to the packet at the start of b: ECN by RFC
// 6040, section 4.2, DSCP by the uniform model of RFC 2983. If the packet met congestion
// and cannot carry the mark, it is not ok and nothing is changed: the packet must be
// dropped.
func Back(b []byte, outer uint8, ecn, dscp bool) (ok bool) {
	inner := TOS(b)
	tos := inner
	if dscp {
		tos = tos&ecnMask | outer&^ecnMask
	}
	if ecn {
		switch in, out := inner&ecnMask, outer&ecnMask; {
		case out == ecnCE && in == 0:
			return false
		case out == ecnCE, out == ect1 && in == ect0:
			tos = tos&^ecnMask | out
		}
	}
	if tos != inner {
		setTOS(b, tos)
	}
	return true
}

// ParseUDP finds the UDP payload in the IP packet at the start of b: n octets at place at.
// The packet must be whole, no fragment, without IPv6 extension headers, and for port
// dport; otherwise it is ErrEncap. Octets behind its end, such as the padding of a short
// Ethernet frame, are ignored. So is the UDP checksum: the ICV is stronger.
func ParseUDP(b []byte, dport uint16) (at, n int, c status.Code) {
	total, ok := IPLen(b)
	if !ok || total > len(b) {
		return 0, 0, status.ErrEncap
	}
	b = b[:total]
	proto := b[6]
	at = ip6Header
	if b[0]>>4 == 4 {
		proto, at = b[9], int(b[0]&0xF)*4
		if binary.BigEndian.Uint16(b[6:])&ip4Fragment != 0 || sum(b[:at]) != 0xFFFF {
			return 0, 0, status.ErrEncap
		}
	}
	if proto != ProtoUDP || total-at < UDPHeader {
		return 0, 0, status.ErrEncap
	}
	u := b[at : at+UDPHeader]
	if int(binary.BigEndian.Uint16(u[4:])) != total-at || binary.BigEndian.Uint16(u[2:]) != dport {
		return 0, 0, status.ErrEncap
	}
	return at + UDPHeader, total - at - UDPHeader, status.OK
}

// Transport measures the IP packet at the start of b, for sealing behind its own IP
// header: octets of the header, protocol and octets in all. It does not check the IPv4
// checksum, which may be left to a device. ErrArgument: it is not a whole IP packet.
// ErrTooLong: IPJumbo is true. ErrUnsupported: it is a fragment, has protocol 0, or an
// IPv6 extension header (ESP is not taken for one).
func Transport(b []byte) (hdr int, proto uint8, n int, c status.Code) {
	n, ok := IPLen(b)
	if IPJumbo(b) {
		return 0, 0, 0, status.ErrTooLong
	}
	if !ok || n > len(b) {
		return 0, 0, 0, status.ErrArgument
	}
	if b[0]>>4 == 4 {
		// After opening, protocol 0 means that there is none.
		if binary.BigEndian.Uint16(b[6:])&ip4Fragment != 0 || b[9] == 0 {
			return 0, 0, 0, status.ErrUnsupported
		}
		return int(b[0]&0xF) * 4, b[9], n, status.OK
	}
	switch b[6] {
	case protoHopByHop, protoRouting, protoFragment, protoAH, protoOptions, protoMobility, protoHIP, protoShim6:
		return 0, 0, 0, status.ErrUnsupported
	}
	return ip6Header, b[6], n, status.OK
}

// IPProto returns the protocol number of IPv4 or IPv6, for the whole IP packet at the start
// of b.
func IPProto(b []byte) uint8 {
	if b[0]>>4 == 4 {
		return ProtoIPv4
	}
	return ProtoIPv6
}

// Addresses returns the addresses of the whole IP packet at the start of b.
func Addresses(b []byte) (src, dst [16]byte) {
	if b[0]>>4 == 6 {
		copy(src[:], b[8:24])
		copy(dst[:], b[24:40])
		return src, dst
	}
	src[10], src[11], dst[10], dst[11] = 0xFF, 0xFF, 0xFF, 0xFF
	copy(src[12:], b[12:16])
	copy(dst[12:], b[16:20])
	return src, dst
}

// Rewrite changes an IP header for another protocol and a packet of total octets, header
// included. hdr is the whole header.
func Rewrite(hdr []byte, proto uint8, total int) status.Code {
	if len(hdr) < ip4Header || total < len(hdr) {
		return status.ErrArgument
	}
	switch {
	case hdr[0]>>4 == 4 && len(hdr) == int(hdr[0]&0xF)*4:
		if total > ipMax {
			return status.ErrTooLong
		}
		binary.BigEndian.PutUint16(hdr[2:], uint16(total))
		hdr[9] = proto
		putSum(hdr)
	case hdr[0]>>4 == 6 && len(hdr) == ip6Header:
		if total > ip6Header+ipMax {
			return status.ErrTooLong
		}
		binary.BigEndian.PutUint16(hdr[4:], uint16(total-ip6Header))
		hdr[6] = proto
	default:
		return status.ErrArgument
	}
	return status.OK
}

// sum returns the sum of an IPv4 header; 0xFFFF: its checksum is right.
func sum(h []byte) uint16 {
	s := uint64(0)
	for ; len(h) >= 4; h = h[4:] {
		s += uint64(binary.BigEndian.Uint32(h))
	}
	return fold(s)
}

// putSum sets the checksum of an IPv4 header.
func putSum(h []byte) {
	binary.BigEndian.PutUint16(h[10:], 0)
	binary.BigEndian.PutUint16(h[10:], ^sum(h))
}

// FlowHash returns a UDP source port, one of the dynamic ones, by addresses, protocol and
// ports of the IP packet at the start of b. So the network can spread flows and keep each
// in order. Packets that are not IP share one port. The port does not hide the flow: anyone
// can compute the hash.
func FlowHash(b []byte) uint16 {
	h := uint64(0x9E3779B97F4A7C15)
	mix := func(w uint64) {
		hi, lo := bits.Mul64(h^w, 0xD6E8FEB86659FD93)
		h = hi ^ lo
	}
	var proto uint8
	var ports []byte
	switch {
	case len(b) >= ip4Header && b[0]>>4 == 4:
		proto = b[9]
		mix(binary.BigEndian.Uint64(b[12:]))
		// Fragments have no ports, except for the first one; all get one port.
		if n := int(b[0]&0xF) * 4; n >= ip4Header && n <= len(b) && binary.BigEndian.Uint16(b[6:])&ip4Fragment == 0 {
			ports = b[n:]
		}
	case len(b) >= ip6Header && b[0]>>4 == 6:
		proto = b[6]
		for at := 8; at < 40; at += 8 {
			mix(binary.BigEndian.Uint64(b[at:]))
		}
		ports = b[ip6Header:]
	}
	w := uint64(proto)
	switch proto {
	case protoTCP, ProtoUDP, protoDCCP, protoSCTP, protoUDPLite, protoESP: // of ESP, the SPI
		if len(ports) >= 4 {
			w |= uint64(binary.BigEndian.Uint32(ports)) << 8
		}
	}
	mix(w)
	mix(h >> 32)
	return flowPorts | uint16(h>>20)&^flowPorts
}
