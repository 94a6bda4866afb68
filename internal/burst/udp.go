package burst

import (
	"unsafe"

	"libeesp/internal/kernel"
	"libeesp/internal/profile"
	"libeesp/internal/status"
	"libeesp/internal/wire"
)

// UDP says how packets travel in UDP datagrams: struct eesp_udp. Addresses, TTL
// and TOS are those of a tunnel.
type UDP struct {
	wire.UDPTunnel      // SPort 0: one for each flow
	Transport      bool // the UDP header goes behind the packet's own IP header
	ECN            bool // tunnel: copied to the outer header and back
	DSCP           bool // tunnel, sealing: copied to the outer header
	DSCPBack       bool // tunnel, opening: copied back
	Sum6           bool // sealing: UDP over IPv6 has a checksum
}

// Check returns ErrArgument unless packets can be sealed (or opened) like this. The
// addresses of a tunnel must not be zero, which means that the caller set none.
func (u *UDP) Check(sealing bool) status.Code {
	none := [16]byte{}
	if u.DPort == 0 || sealing && !u.Transport && (u.Len() == 0 || u.TTL == 0 || u.Src == none || u.Dst == none) {
		return status.ErrArgument
	}
	return status.OK
}

// outer is what is kept of an outer packet while the inner one is sealed or opened.
type outer struct {
	hdr   [60]byte // the IP header, in transport mode
	n     uint8    // its length
	sport uint16
	tos   uint8  // in a tunnel, of the outer header
	most  uint32 // octets of the longest outer packet
}

const (
	maxUDP = 65535
	maxIP  = 40 + 65535
)

// SealUDP seals IP packets and puts IP and UDP headers in front of them. It returns
// how many were sealed. Addresses of contexts are those of the outer header.
func (w *Worker) SealUDP(s *Sender, u *UDP, pkts []profile.Desc) int {
	w.enter()
	defer w.leave()
	return w.chunks(pkts, func(pkts []profile.Desc) int { return w.sealUDP(s.latest(), u, pkts) })
}

// OpenUDP opens the packets in the UDP datagrams in IP packets, and returns how
// many were opened.
func (w *Worker) OpenUDP(r *Receiver, u *UDP, pkts []profile.Desc) int {
	w.enter()
	defer w.leave()
	return w.chunks(pkts, func(pkts []profile.Desc) int { return w.openUDP(r, u, pkts) })
}

func (w *Worker) chunks(pkts []profile.Desc, f func([]profile.Desc) int) (good int) {
	for len(pkts) > 0 {
		n := min(len(pkts), kernel.Chunk)
		good += f(pkts[:n])
		pkts = pkts[n:]
	}
	return good
}

func (w *Worker) sealUDP(s *Sender, u *UDP, pkts []profile.Desc) (good int) {
	// Statistics count the resulting IP packets, outer headers included.
	defer s.count(pkts)
	if c := w.begin(s); c != status.OK {
		refuseAll(pkts, c)
		return 0
	}
	n, hdr := 0, w.header()
	for i := range pkts {
		p, t, o := &pkts[i], &w.tmp[n], &w.outer[n]
		*t = *p
		front, c := innerOf(hdr, u, t, o)
		tail := min(p.Tailroom, maxUDP) + min(p.Len, maxIP) - uint32(o.n) - t.Len
		// No pointer may point behind the end of a buffer: the collector would take it
		// for one to the memory there.
		switch {
		case c != status.OK:
		case front+uint32(hdr.Len())+t.Len+hdr.Tail > o.most:
			c = status.ErrTooLong
		case p.Dst != nil && p.DstSize <= front:
			c = status.ErrRoom
		// In place, the new headers overwrite the packet's own one.
		case p.Dst == nil && (p.Headroom < front-uint32(o.n) || tail < kernel.TagSize):
			c = status.ErrRoom
		}
		if c != status.OK {
			refuse(p, c)
			continue
		}
		if p.Dst != nil {
			t.Dst, t.DstSize = add(p.Dst, front), p.DstSize-front
		} else {
			t.Headroom, t.Tailroom = min(p.Headroom, maxUDP)-(front-uint32(o.n)), tail
		}
		if t.Len != 0 || p.Dst == nil {
			t.Data = add(p.Data, uint32(o.n))
		} else {
			t.Data = nil
		}
		w.orig[n] = p
		n++
	}
	w.sealBegun(s, w.tmp[:n])
	for i := range n {
		p, t, o := w.orig[i], &w.tmp[i], &w.outer[i]
		p.Status, p.ID, p.TSC, p.Out, p.OutLen = t.Status, t.ID, t.TSC, 0, 0
		w.orig[i] = nil
		if t.Status != status.OK {
			continue
		}
		front := uint32(o.n) + wire.UDPHeader
		if !u.Transport {
			front = uint32(u.Len())
		}
		// Out is in the caller's buffer or in Dst.
		base := p.Dst
		if base == nil {
			base = p.Data
		}
		out := unsafe.Add(base, int(t.Out-uintptr(base))-int(front))
		b := octets(out, front)
		if u.Transport {
			copy(b, o.hdr[:o.n])
			wire.Rewrite(b[:o.n], wire.ProtoUDP, int(front+t.OutLen))
			wire.PutUDP((*[wire.UDPHeader]byte)(b[o.n:]), o.sport, u.DPort, int(t.OutLen))
		} else {
			h := u.UDPTunnel
			h.SPort, h.TOS = o.sport, o.tos
			h.Write(b, int(t.OutLen))
		}
		if u.Sum6 && b[0]>>4 == 6 {
			wire.PutUDPSum6(octets(out, front+t.OutLen))
		}
		p.Out, p.OutLen = uintptr(out), front+t.OutLen
		good++
	}
	clear(w.tmp[:n])
	return good
}

// innerOf prepares t, the descriptor of what is sealed of an IP packet under a
// header, except for Data: in transport mode the IP header, o.n octets, is still in
// front of it. It returns how many octets go in front of the sealed header.
func innerOf(hdr *profile.Header, u *UDP, t *profile.Desc, o *outer) (front uint32, c status.Code) {
	switch {
	case hdr.Prefix != 0, u.Transport && !hdr.Next:
		return 0, status.ErrUnsupported
	case t.IOVCount != 0:
		return 0, status.ErrSegments
	case t.Data == nil:
		return 0, status.ErrArgument
	}
	b := octets(t.Data, min(t.Len, maxIP))
	if o.sport = u.SPort; o.sport == 0 {
		o.sport = wire.FlowHash(b)
	}
	o.n = 0
	if !u.Transport {
		n, ok := wire.IPLen(b)
		if wire.IPJumbo(b) {
			return 0, status.ErrTooLong
		}
		if !ok || n > len(b) {
			return 0, status.ErrArgument
		}
		o.tos = wire.Outward(u.TOS, wire.TOS(b), u.ECN, u.DSCP)
		t.Len, t.NextHeader = uint32(n), wire.IPProto(b)
		t.Src, t.DstIP = u.Src, u.Dst
		front = uint32(u.Len())
		o.most = most(front > wire.UDPHeader+20)
		return front, status.OK
	}
	h, proto, n, c := wire.Transport(b)
	if c != status.OK {
		return 0, c
	}
	if hdr.Dummies && proto == wire.ProtoNone {
		return 0, status.ErrUnsupported // the other end would discard it
	}
	o.n = uint8(copy(o.hdr[:], b[:h]))
	t.Src, t.DstIP = wire.Addresses(b)
	o.most = most(b[0]>>4 == 6)
	t.Len, t.NextHeader = uint32(n-h), proto
	return uint32(h) + wire.UDPHeader, status.OK
}

// most returns the length of the longest IP packet. The length field of IPv6 does
// not count the header.
func most(six bool) uint32 {
	if six {
		return maxIP
	}
	return maxUDP
}

func (w *Worker) openUDP(r *Receiver, u *UDP, pkts []profile.Desc) (good int) {
	defer r.count(pkts)
	n := 0
	for i := range pkts {
		p, t, o := &pkts[i], &w.tmp[n], &w.outer[n]
		*t = *p
		o.n = 0
		c := status.OK
		at, size := 0, 0
		switch prefix, bad := r.Opening.Prefix(p); {
		case bad != status.OK:
			c = bad
		case prefix != 0, p.Flags&profile.FlagExtension != 0: // the payload is to be an IP packet
			c = status.ErrUnsupported
		case t.IOVCount != 0:
			c = status.ErrSegments
		case t.Data == nil:
			c = status.ErrArgument
		default:
			at, size, c = wire.ParseUDP(octets(t.Data, min(t.Len, maxIP)), u.DPort)
			if c == status.OK && size == 0 {
				c = status.ErrShort
			}
		}
		if c == status.OK && u.Transport {
			o.n = uint8(copy(o.hdr[:], octets(t.Data, uint32(at-wire.UDPHeader))))
			if p.Dst != nil && p.DstSize < uint32(o.n) {
				c = status.ErrRoom
			}
		}
		if c != status.OK {
			refuse(p, c)
			continue
		}
		t.Src, t.DstIP = wire.Addresses(octets(p.Data, p.Len))
		o.tos = wire.TOS(octets(p.Data, p.Len))
		t.Data, t.Len, t.Headroom = add(p.Data, uint32(at)), uint32(size), uint32(at)
		if p.Dst != nil {
			if t.DstSize -= uint32(o.n); t.DstSize != 0 { // else it may be empty
				t.Dst = add(p.Dst, uint32(o.n))
			}
		}
		w.orig[n] = p
		n++
	}
	w.openUncounted(r, w.tmp[:n])
	for i := range n {
		p, t, o := w.orig[i], &w.tmp[i], &w.outer[i]
		p.Status, p.Out, p.OutLen = t.Status, 0, 0
		p.ID, p.TSC, p.COffset, p.IOffset, p.NextHeader = t.ID, t.TSC, t.COffset, t.IOffset, t.NextHeader
		w.orig[i] = nil
		if t.Status != status.OK {
			continue
		}
		base := p.Dst
		if base == nil {
			base = p.Data
		}
		payload := unsafe.Add(base, int(t.Out-uintptr(base)))
		out := p.Dst
		if out == nil {
			out = unsafe.Add(payload, -int(o.n))
		}
		c, size := status.OK, t.OutLen
		if u.Transport {
			if c = wire.Rewrite(o.hdr[:o.n], t.NextHeader, int(o.n)+int(t.OutLen)); t.NextHeader == 0 {
				c = status.ErrUnsupported // the format does not carry the protocol
			}
		} else {
			b := octets(payload, t.OutLen)
			k, ok := wire.IPLen(b)
			if !ok || k > len(b) || t.NextHeader != 0 && t.NextHeader != wire.IPProto(b) {
				c = status.ErrEncap
			} else if (u.ECN || u.DSCPBack) && !wire.Back(b[:k], o.tos, u.ECN, u.DSCPBack) {
				c = status.ErrEncap
			}
			size = uint32(k) // octets behind the packet are padding of the other end
		}
		if c != status.OK {
			clear(octets(payload, t.OutLen))
			p.Status = c
			continue
		}
		copy(octets(out, uint32(o.n)), o.hdr[:o.n])
		p.Out, p.OutLen = uintptr(out), uint32(o.n)+size
		good++
	}
	clear(w.tmp[:n])
	return good
}
