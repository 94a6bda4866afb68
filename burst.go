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

// V, the header field that says what the data key's context is made of.
const (
	VID           = impl.VID       // 4-octet DeviceID
	VIDSrc        = impl.VIDSrc    // and the source address
	VIDSrcDst     = impl.VIDSrcDst // and the destination address
	VLongID       = impl.VLongID   // 8-octet ConnectionID
	VLongIDSrc    = impl.VLongIDSrc
	VLongIDSrcDst = impl.VLongIDSrcDst
)

// V in profile tss: no SSI in the header, and an IPv4 source address in the
// context; an SSI, the ID; no SSI, and an IPv6 address; an SSI in the header,
// and an IPv6 address in the context. A group's sender with VTSSSSI seals
// packets of either family, each with the context of its own.
const (
	VTSSAddr     = impl.VTSSAddr
	VTSSSSI      = impl.VTSSSSI
	VTSSAddrIPv6 = impl.VTSSAddrIPv6
	VTSSSSIIPv6  = impl.VTSSSSIIPv6
)

// UDP ports of formats that have one.
const (
	PSPPort = impl.PSPPort
	TSSPort = impl.TSSPort
)

// Packet is one packet of a burst: what to seal or open is Buf[Off:Off+Len],
// and where Dst is nil, the rest of Buf is head- and tailroom for the result.
// Buffers of different packets must not overlap.
type Packet struct {
	Buf []byte
	Off int
	Len int

	// Dst, if not nil, receives the result; it must not overlap Buf.
	Dst []byte

	// COffset and IOffset are in units of 4 octets of the payload: from
	// 4*COffset on it is encrypted, from 4*IOffset on authenticated. Sealing
	// reads them, opening sets them.
	COffset, IOffset uint8

	// NextHeader is the IP protocol number of the payload, in profiles that
	// carry one (psp, eesp in the full format): sealing reads it, opening sets it.
	NextHeader uint8

	// IPv6: the prefix in front of a tss header has the 36 octets of IPv6, not
	// the 12 of IPv4.
	IPv6 bool

	// Extension leaves a psp header's octets behind the IV (a VC, other fields)
	// in front of the payload; COffset counts from there. Opening reads it.
	Extension bool

	// Addresses of the context, where V asks for them. A proxy opens with
	// these and seals with OutSrc, OutDst where they are valid.
	SrcIP, DstIP   netip.Addr
	OutSrc, OutDst netip.Addr

	// The outcome: Out is a part of Buf or Dst, ID and TSC
	// (Epoch(16) | Counter(48)) are those in its header.
	Status Status
	Out    []byte
	ID     uint64
	TSC    uint64
}

// packets are the same, by the type that the implementation has for them.
func packets(p []Packet) []impl.Packet {
	return unsafe.Slice((*impl.Packet)(unsafe.SliceData(p)), len(p))
}

// UDP says how packets travel in UDP datagrams.
type UDP struct {
	// Transport: behind the packet's own IP header, in formats that carry the
	// protocol of the payload (psp, eesp in the full format). Else in a tunnel:
	// the IP packet as a whole behind new headers.
	Transport bool
	DPort     uint16 // destination port
	SPort     uint16 // source port; 0: one of 49152 to 65535, by the packet's flow

	// Of a tunnel that is sealed. Addresses are both IPv4 or both IPv6.
	Src, Dst netip.Addr
	TTL      uint8 // 0 = 64
	TOS      uint8

	// Of a tunnel. ECN copies Explicit Congestion Notification both ways (RFC
	// 6040): a packet that met congestion and cannot carry that is ErrEncap.
	// DSCP copies the inner DSCP to the outer header; DSCPBack copies the outer
	// one back on opening (RFC 2983). Nothing authenticates outer headers:
	// anyone on the path can change what comes back.
	ECN, DSCP, DSCPBack bool

	// Checksum6: sealed datagrams over IPv6 carry a UDP checksum. Ordinary
	// sockets and NICs drop those without one; the ICV does not need it.
	Checksum6 bool
}
