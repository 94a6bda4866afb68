package eesp

import (
	"fmt"
	"net/netip"

	"libeesp/internal/burst"
	"libeesp/internal/profile"
	"libeesp/internal/status"
	"libeesp/internal/wire"
)

// UDP ports of formats that have one.
const (
	PSPPort = wire.PSPPort
	TSSPort = wire.TSSPort
)

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

func (u *UDP) engine(usable, sealing bool) (e burst.UDP, err error) {
	if u == nil || !usable {
		return e, fmt.Errorf("%w: closed, or nil", status.ErrArgument)
	}
	e.Transport, e.ECN, e.DSCP, e.DSCPBack, e.Sum6 = u.Transport, u.ECN, u.DSCP, u.DSCPBack, u.Checksum6
	e.Src, e.Dst, e.SPort, e.DPort, e.TTL, e.TOS = as16(u.Src), as16(u.Dst), u.SPort, u.DPort, u.TTL, u.TOS
	if e.TTL == 0 {
		e.TTL = 64
	}
	if sealing && !u.Transport && (!u.Src.IsValid() || !u.Dst.IsValid()) || e.Check(sealing) != status.OK {
		return e, fmt.Errorf("%w: a destination port, and a tunnel's two addresses of one family", status.ErrArgument)
	}
	return e, nil
}

// SealUDP seals IP packets into UDP datagrams and returns how many have status
// OK. Where V asks for addresses, those of the outer header are used. The IP
// packet ends where its length field says. IPv4 headers get a checksum, UDP
// headers none (RFC 6935) unless Checksum6 is set. Jumbograms and BIG TCP
// packets, which do not tell their length, are ErrTooLong; in transport mode
// fragments and IPv6 extension headers are ErrUnsupported. An error means that u
// is not valid and nothing was done.
func (s *Sender) SealUDP(u *UDP, pkts []Packet) (int, error) {
	e, err := u.engine(s.usable(), true)
	if err != nil {
		return 0, err
	}
	return each(pkts, 0, func(w *burst.Worker, d []profile.Desc) int {
		if n := s.Engine(); n != nil {
			return w.SealUDP(n, &e, d)
		}
		return s.NoID(d)
	}), nil
}

// OpenUDP opens IP packets with UDP datagrams for the destination port, and
// returns how many have status OK. Out is the inner IP packet. Other packets,
// such as fragments or those with a wrong IPv4 checksum, are ErrEncap.
func (r *Receiver) OpenUDP(u *UDP, pkts []Packet) (int, error) {
	e, err := u.engine(r.usable(), false)
	if err != nil {
		return 0, err
	}
	return each(pkts, 0, func(w *burst.Worker, d []profile.Desc) int { return w.OpenUDP(&r.r, &e, d) }), nil
}
