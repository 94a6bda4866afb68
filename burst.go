package eesp

import (
	"net/netip"
	"unsafe"

	impl "libeesp/internal/eesp"
)

// Sizes in octets.
const (
	ICVLen    = impl.ICVLen    // behind the payload
	MaxHeader = impl.MaxHeader // longest Security Header
	MaxLen    = impl.MaxLen    // longest payload
	MaxGroups = impl.MaxGroups // groups of one receiver
)

// V, the header field that says what is in the data key's context.
const (
	VID           = impl.VID           // 4-octet DeviceID
	VIDSrc        = impl.VIDSrc        // and the source address
	VIDSrcDst     = impl.VIDSrcDst     // and both addresses
	VLongID       = impl.VLongID       // 8-octet ConnectionID
	VLongIDSrc    = impl.VLongIDSrc    // and the source address
	VLongIDSrcDst = impl.VLongIDSrcDst // and both addresses
)

// V in profile tss. Contexts have a source address, and the SSI, which is the ID,
// if the header has one. A group's sender with VTSSSSI seals packets of both
// families, each in the context of its family.
const (
	VTSSAddr     = impl.VTSSAddr     // no SSI, IPv4
	VTSSSSI      = impl.VTSSSSI      // SSI, IPv4; a group's sender: both families
	VTSSAddrIPv6 = impl.VTSSAddrIPv6 // no SSI, IPv6
	VTSSSSIIPv6  = impl.VTSSSSIIPv6  // SSI, IPv6
)

// UDP destination ports of the formats.
const (
	UDPPort = 63377 // stateless, eesp: our choice, since no port is assigned
	PSPPort = impl.PSPPort
	TSSPort = impl.TSSPort
)

// Packet is one packet of a burst. Buf[Off:Off+Len] is what to seal or open. If
// Dst is nil, the rest of Buf is headroom and tailroom for the result. Buffers of
// different packets must not overlap.
type Packet struct {
	Buf []byte
	Off int
	Len int

	// Dst, if not nil, receives the result; it must not overlap Buf.
	Dst []byte

	// COffset and IOffset are in units of 4 octets: the payload is encrypted from
	// octet 4*COffset on, and authenticated from octet 4*IOffset on. Sealing reads
	// them, opening sets them.
	COffset, IOffset uint8

	// NextHeader is the IP protocol number of the payload, in profiles that
	// carry one (psp, eesp in the full format): sealing reads it, opening sets it.
	NextHeader uint8

	// IPv6 says that the prefix in front of a tss header has the 36 octets of IPv6
	// instead of the 12 of IPv4.
	IPv6 bool

	// Extension makes the octets of a psp header behind the IV (a VC, other
	// fields) part of the payload that is opened; COffset then counts from there.
	// Opening reads it.
	Extension bool

	// SrcIP and DstIP are the addresses of the context, where V asks for them. A
	// proxy opens with them, and seals with OutSrc and OutDst if these are valid.
	SrcIP, DstIP   netip.Addr
	OutSrc, OutDst netip.Addr

	// The outcome. Out is a part of Buf or Dst; ID and TSC
	// (Epoch(16) | Counter(48)) are those in the packet's header.
	Status Status
	Out    []byte
	ID     uint64
	TSC    uint64
}

// packets converts without copying: both types have the same fields.
func packets(p []Packet) []impl.Packet {
	return unsafe.Slice((*impl.Packet)(unsafe.SliceData(p)), len(p))
}

// UDP says how packets travel in UDP datagrams.
type UDP struct {
	// Transport puts the UDP header behind the packet's own IP header, in formats
	// that carry the protocol of the payload (psp, eesp in the full format).
	// Otherwise the whole IP packet goes behind new headers: a tunnel.
	Transport bool
	DPort     uint16 // destination port
	SPort     uint16 // source port; 0: one of 49152 to 65535, by the packet's flow

	// Sealing into a tunnel: the outer header. Both addresses are IPv4, or both
	// IPv6.
	Src, Dst netip.Addr
	TTL      uint8 // 0 = 64
	TOS      uint8

	// Tunnels: ECN copies Explicit Congestion Notification both ways (RFC 6040); a
	// packet that met congestion and cannot carry the mark is ErrEncap. DSCP
	// copies the inner DSCP to the outer header; DSCPBack copies the outer one
	// back on opening (RFC 2983). Outer headers are not authenticated: anyone on
	// the path can change what is copied back.
	ECN, DSCP, DSCPBack bool

	// Checksum6 gives sealed datagrams over IPv6 a UDP checksum. Ordinary sockets
	// and NICs drop datagrams without one; the ICV does not need it.
	Checksum6 bool
}
