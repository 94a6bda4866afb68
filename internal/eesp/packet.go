package eesp

import (
	"net/netip"
	"unsafe"

	"libeesp/internal/burst"
	"libeesp/internal/profile"
	"libeesp/internal/status"
)

// Sizes in octets.
const (
	ICVLen    = 16              // behind the payload
	MaxHeader = 128             // longest Security Header
	MaxLen    = profile.MaxLen  // longest payload
	MaxGroups = burst.MaxGroups // groups of one receiver
)

// V, the header field that says what the data key's context is made of.
const (
	VID           = 0x0 // 4-octet DeviceID
	VIDSrc        = 0x1 // and the source address
	VIDSrcDst     = 0x2 // and the destination address
	VLongID       = 0x8 // 8-octet ConnectionID
	VLongIDSrc    = 0x9
	VLongIDSrcDst = 0xA
)

// V in profile tss: no SSI in the header, and an IPv4 source address in the
// context; an SSI, the ID; no SSI, and an IPv6 address; an SSI in the header,
// and an IPv6 address in the context. A group's sender with VTSSSSI seals
// packets of either family, each with the context of its own.
const (
	VTSSAddr     = profile.TSSAddr
	VTSSSSI      = profile.TSSSSI
	VTSSAddrIPv6 = profile.TSSAddr6
	VTSSSSIIPv6  = profile.TSSSSI6
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
	Status status.Code
	Out    []byte
	ID     uint64
	TSC    uint64
}

func as16(a netip.Addr) (b [16]byte) {
	if a.IsValid() {
		b = a.As16()
	}
	return b
}

// addresses says which a packet must have.
type addresses uint8

// The first two are as V has them.
const (
	needSrc addresses = VIDSrc
	needDst addresses = VIDSrcDst
	ofProxy addresses = 4 // those for sealing, where there are any
)

// refuse is for what has nothing to seal or open with.
func refuse(pkts []Packet) int {
	for i := range pkts {
		p := &pkts[i]
		p.Status, p.Out, p.ID, p.TSC = status.ErrArgument, nil, 0, 0
	}
	return 0
}

// each runs f over a burst in descriptors, a session's worth at a time.
func each(pkts []Packet, needs addresses, f func(w *burst.Worker, d []profile.Desc) int) int {
	s, err := getWorker()
	if err != nil {
		for i := range pkts {
			pkts[i].Status, pkts[i].Out = status.ErrMemory, nil
		}
		return 0
	}
	defer putWorker(s)
	good := 0
	for len(pkts) > 0 {
		n := min(len(pkts), len(s.descs))
		for i := range n {
			fill(&s.descs[i], &s.addrs[i], &pkts[i], needs)
		}
		good += f(s.w, s.descs[:n])
		for i := range n {
			take(&pkts[i], &s.descs[i])
		}
		clear(s.descs[:n])
		pkts = pkts[n:]
	}
	return good
}

// lack reports whether a packet has not the addresses that are needed.
func (p *Packet) lack(needs addresses) bool {
	src, dst := p.SrcIP, p.DstIP
	if needs&ofProxy != 0 && (p.OutSrc.IsValid() || p.OutDst.IsValid()) {
		src, dst = p.OutSrc, p.OutDst
	}
	return needs&(needSrc|needDst) != 0 && !src.IsValid() || needs&needDst != 0 && !dst.IsValid()
}

// fill makes the engine's descriptor of a packet. One whose slices do not fit,
// or that has not the addresses that it needs, gets flags, which the engine
// refuses as an argument error.
func fill(d *profile.Desc, a *Addr, p *Packet, needs addresses) {
	*d = profile.Desc{COffset: p.COffset, IOffset: p.IOffset, NextHeader: p.NextHeader, Src: as16(p.SrcIP), DstIP: as16(p.DstIP)}
	if p.lack(needs) || p.Off < 0 || p.Len < 0 || p.Off > len(p.Buf) || p.Len > len(p.Buf)-p.Off {
		d.Flags = ^uint16(0)
		return
	}
	if p.IPv6 {
		d.Flags |= profile.FlagIPv6
	}
	if p.Extension {
		d.Flags |= profile.FlagExtension
	}
	const most = 1 << 30
	d.Data = pointer(p.Buf[p.Off:])
	d.Len = uint32(min(p.Len, most))
	d.Headroom = uint32(min(p.Off, most))
	d.Tailroom = uint32(min(len(p.Buf)-p.Off-p.Len, most))
	if p.Dst != nil {
		d.Dst, d.DstSize = pointer(p.Dst), uint32(min(len(p.Dst), most))
	}
	if p.OutSrc.IsValid() || p.OutDst.IsValid() {
		*a = Addr{Src: as16(p.OutSrc), Dst: as16(p.OutDst)}
		d.OutAddr = unsafe.Pointer(a)
	}
}

func take(p *Packet, d *profile.Desc) {
	p.Status, p.ID, p.TSC = d.Status, d.ID, d.TSC
	p.COffset, p.IOffset, p.NextHeader = d.COffset, d.IOffset, d.NextHeader
	p.Out = nil
	if d.Status != status.OK {
		return
	}
	b := p.Buf
	if p.Dst != nil {
		b = p.Dst
	}
	at := int(d.Out - uintptr(pointer(b)))
	p.Out = b[at : at+int(d.OutLen)]
}
