//go:build !eesp_c

package eesp

import (
	"net/netip"
	"unsafe"

	"libeesp/internal/burst"
	"libeesp/internal/profile"
	"libeesp/internal/status"
)

type Packet struct {
	Buf []byte
	Off int
	Len int

	Dst []byte

	COffset, IOffset uint8

	NextHeader uint8

	IPv6 bool

	Extension bool

	SrcIP, DstIP   netip.Addr
	OutSrc, OutDst netip.Addr

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

// refuse ends the packets of an object that is nil or closed.
func refuse(pkts []Packet) int {
	for i := range pkts {
		p := &pkts[i]
		p.Status, p.Out, p.ID, p.TSC = status.ErrArgument, nil, 0, 0
	}
	return 0
}

// each converts a burst to descriptors and calls f, as many as a session holds at a time.
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

// lack reports whether a packet lacks addresses that are needed.
func (p *Packet) lack(needs addresses) bool {
	src, dst := p.SrcIP, p.DstIP
	if needs&ofProxy != 0 && (p.OutSrc.IsValid() || p.OutDst.IsValid()) {
		src, dst = p.OutSrc, p.OutDst
	}
	return needs&(needSrc|needDst) != 0 && !src.IsValid() || needs&needDst != 0 && !dst.IsValid()
}

// fill makes a descriptor of a packet. If slices are not valid, or needed addresses are
// missing, it sets flags that internal/burst refuses with ErrArgument.
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

func (s *Sender) Seal(pkts []Packet) int {
	if !s.usable() {
		return refuse(pkts)
	}
	n := s.now.Load()
	if n == nil {
		return each(pkts, s.needs, func(w *burst.Worker, d []profile.Desc) int { return s.NoID(d) })
	}
	return each(pkts, s.needs, func(w *burst.Worker, d []profile.Desc) int { return w.Seal(&n.s, d) })
}

func (r *Receiver) Open(pkts []Packet) int {
	if !r.usable() {
		return refuse(pkts)
	}
	return each(pkts, 0, func(w *burst.Worker, d []profile.Desc) int { return w.Open(&r.r, d) })
}

func (p *Proxy) Forward(pkts []Packet) int {
	if p == nil || !p.r.usable() || !p.s.usable() {
		return refuse(pkts)
	}
	return each(pkts, p.s.needs|ofProxy, func(w *burst.Worker, d []profile.Desc) int {
		if n := p.s.Burst(); n != nil {
			return w.Proxy(&p.r.r, n, d)
		}
		return p.s.NoID(d)
	})
}
