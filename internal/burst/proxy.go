package burst

import (
	"unsafe"

	"libeesp/internal/kernel"
	"libeesp/internal/profile"
	"libeesp/internal/status"
	"libeesp/internal/wire"
)

// Proxy opens a burst with r and seals what was good with s, in one go.
// In place, the room of the old header and ICV is reused.
func (w *Worker) Proxy(r *Receiver, s *Sender, pkts []profile.Desc) int {
	w.enter()
	defer w.leave()
	good := 0
	for len(pkts) > 0 {
		n := min(len(pkts), kernel.Chunk)
		good += w.proxy(r, s, pkts[:n])
		pkts = pkts[n:]
	}
	return good
}

func (w *Worker) proxy(r *Receiver, s *Sender, pkts []profile.Desc) int {
	var snapLen uint32
	if s.Group != nil {
		s.Sealing.Begin(&w.hdr, s.Group.Snapshot())
	} else {
		s.Sealing.Begin(&w.hdr, nil)
	}
	snapLen = uint32(w.hdr.Len())
	// First side. With a destination, the payload goes to where the second
	// side wants it: behind the room of the new header.
	for i := range pkts {
		p, t := &pkts[i], &w.tmp[i]
		*t = *p
		switch {
		case p.IOVCount != 0:
			t.Flags = ^uint32(0) // chained packets cannot be proxied yet
		case p.Dst != nil && p.DstSize < snapLen+kernel.TagSize:
			t.DstSize = 0
		case p.Dst != nil:
			t.Dst, t.DstSize = add(p.Dst, snapLen), p.DstSize-snapLen-kernel.TagSize
		}
	}
	w.open(r, w.tmp[:len(pkts)])
	n := 0
	for i := range pkts {
		p, t := &pkts[i], &w.tmp[i]
		p.ID, p.TSC = t.ID, t.TSC
		p.COffset, p.IOffset = t.COffset, t.IOffset
		if t.Status == status.OK && p.Dst != nil && p.DstSize < snapLen+kernel.TagSize {
			t.Status = status.ErrRoom // an empty payload fits anywhere, its header does not
		}
		if t.Status != status.OK {
			fail(p, t.Status)
			if p.IOVCount != 0 {
				p.Status = status.ErrSegments
			}
			continue
		}
		u := &w.tmp[n] // n <= i: u is p's or one that is done with
		room := uint32(0)
		if p.Dst == nil {
			room = uint32(uintptr(t.Out) - uintptr(p.Data))
		}
		data := p.Data
		if p.Dst != nil {
			data = p.Dst
			room = snapLen
		}
		v := *t
		v.Data, v.Len = add(data, room), t.OutLen
		v.Headroom, v.Tailroom = room, kernel.TagSize
		if p.Dst == nil {
			// Sealing needs no more than that; sums must not wrap.
			const most = wire.StatelessMaxHeader + kernel.TagSize
			v.Headroom, v.Tailroom = room+min(p.Headroom, most), kernel.TagSize+min(p.Tailroom, most)
		}
		v.Dst, v.Flags = nil, 0
		if p.OutAddr != nil {
			a := (*profile.Addr)(p.OutAddr)
			v.Src, v.DstIP = a.Src, a.Dst
		}
		*u = v
		w.orig[n] = p
		n++
	}
	w.seal(s, w.tmp[:n])
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
