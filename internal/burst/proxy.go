package burst

import (
	"unsafe"

	"libeesp/internal/kernel"
	"libeesp/internal/profile"
	"libeesp/internal/status"
	"libeesp/internal/wire"
)

// aside holds packets between the two sides of a proxy, or without their outer
// headers.
type aside struct {
	tmp   [kernel.Chunk]profile.Desc
	orig  [kernel.Chunk]*profile.Desc
	outer [kernel.Chunk]outer  // IP and UDP headers
	front [kernel.Chunk]uint32 // octets in front of a payload that a proxy seals
}

// Proxy opens a burst with r, seals with s the packets that opened, and returns
// how many were sealed. In place, the space of the old header and ICV is reused.
func (w *Worker) Proxy(r *Receiver, s *Sender, pkts []profile.Desc) int {
	w.enter()
	defer w.leave()
	return w.chunks(pkts, func(pkts []profile.Desc) int { return w.proxy(r, s.latest(), pkts) })
}

func (w *Worker) proxy(r *Receiver, s *Sender, pkts []profile.Desc) int {
	// The header is made once, before packets are opened: payloads must go where the
	// header fits, and keys may change in between.
	front, tail := uint32(0), uint32(kernel.TagSize)
	begun, hdr := w.begin(s), w.header()
	if begun == status.OK {
		front, tail = uint32(hdr.Len()), hdr.Tail
	}
	// The first side. With a destination, the payload goes behind the space of the
	// new header, where the second side wants it.
	for i := range pkts {
		p, t := &pkts[i], &w.tmp[i]
		*t = *p
		w.front[i] = front
		if hdr.Prefix != 0 {
			_, n, _ := s.Sealing.PrefixFor(outAddr(p))
			w.front[i] += uint32(n)
		}
		switch need := w.front[i] + tail; {
		case p.IOVCount != 0:
			t.Flags = ^uint16(0) // chained packets cannot be proxied yet
		case p.Dst != nil && p.DstSize < need:
			t.DstSize = 0
		case p.Dst != nil:
			t.Dst, t.DstSize = add(p.Dst, w.front[i]), p.DstSize-need
		}
	}
	w.open(r, w.tmp[:len(pkts)])
	n := 0
	for i := range pkts {
		p, t := &pkts[i], &w.tmp[i]
		p.ID, p.TSC = t.ID, t.TSC
		p.COffset, p.IOffset, p.NextHeader = t.COffset, t.IOffset, t.NextHeader
		if t.Status == status.OK && p.Dst != nil && p.DstSize < w.front[i]+tail {
			t.Status = status.ErrRoom // an empty payload fits, but its header does not
		}
		if t.Status != status.OK {
			fail(p, t.Status)
			if p.IOVCount != 0 {
				p.Status = status.ErrSegments
			}
			continue
		}
		u := &w.tmp[n] // n <= i: it is p's, or that of a packet before, which is done
		v := *t
		v.Len = t.OutLen
		if p.Dst == nil {
			// Sealing needs no more; larger values could make sums wrap.
			const most = profile.MaxHeader + wire.TSSPrefix6 + profile.MaxTail
			v.Headroom = uint32(t.Out-uintptr(p.Data)) + min(p.Headroom, most)
			v.Tailroom = uint32(uintptr(p.Data)+uintptr(p.Len)-t.Out) - t.OutLen + min(p.Tailroom, most)
			v.Data = add(p.Data, uint32(t.Out-uintptr(p.Data)))
		} else {
			v.Data = add(p.Dst, w.front[i])
			v.Headroom, v.Tailroom = w.front[i], p.DstSize-w.front[i]-t.OutLen
		}
		v.Dst, v.Flags = nil, 0
		if p.OutAddr != nil {
			a := (*profile.Addr)(p.OutAddr)
			v.Src, v.DstIP = a.Src, a.Dst
		}
		if hdr.Prefix != 0 {
			prefix, k, flags := s.Sealing.PrefixFor(outAddr(p))
			if v.Headroom >= w.front[i] {
				copy(octets(unsafe.Add(v.Data, -int(w.front[i])), uint32(k)), prefix[:k])
			}
			v.Flags = flags // else there is no room for this family either
		}
		*u = v
		w.orig[n] = p
		n++
	}
	if begun == status.OK {
		w.sealBegun(s, w.tmp[:n])
	} else {
		refuseAll(w.tmp[:n], begun)
	}
	s.count(w.tmp[:n])
	good := 0
	for i := range n {
		p, t := w.orig[i], &w.tmp[i]
		p.Status, p.Out, p.OutLen = t.Status, t.Out, t.OutLen
		w.orig[i] = nil
		if t.Status == status.OK {
			good++
		} else { // opened, but not sealed: let no plaintext out
			clear(octets(unsafe.Pointer(t.Data), t.Len))
		}
	}
	clear(w.tmp[:len(pkts)])
	return good
}

// outAddr is the addresses that a packet is sealed with.
func outAddr(p *profile.Desc) *profile.Addr {
	if p.OutAddr != nil {
		return (*profile.Addr)(p.OutAddr)
	}
	return (*profile.Addr)(unsafe.Pointer(&p.Src))
}
