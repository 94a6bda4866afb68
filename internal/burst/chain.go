package burst

import (
	"unsafe"

	"libeesp/internal/kernel"
	"libeesp/internal/profile"
	"libeesp/internal/status"
)

// Chained packets are gathered into linear memory, go through the kernels
// there like any other packet, and are scattered back over their segments.
// Segments are as long afterwards as before: sealing puts the header into the
// headroom of the first and the ICV into the tailroom of the last; opening
// leaves the payload where it was, between the header and the ICV.

func segments(p *profile.Desc) []profile.IOV {
	return unsafe.Slice((*profile.IOV)(p.IOV), p.IOVCount)
}

// chainLen is the length of a chained packet in octets.
func chainLen(p *profile.Desc, limit uintptr) (uint32, status.Code) {
	if p.IOV == nil || p.Dst != nil || p.Flags != 0 {
		return 0, status.ErrArgument
	}
	n := uintptr(0)
	for _, s := range segments(p) {
		if s.Base == nil {
			return 0, status.ErrSegments
		}
		if s.Len > limit || n+s.Len > limit {
			return 0, status.ErrTooLong
		}
		n += s.Len
	}
	return uint32(n), status.OK
}

func gather(to unsafe.Pointer, p *profile.Desc) {
	for _, s := range segments(p) {
		copy(octets(to, uint32(s.Len)), octets(s.Base, uint32(s.Len)))
		to = unsafe.Add(to, s.Len)
	}
}

// scatter writes n octets from b to the packet, skip octets after its start.
func scatter(p *profile.Desc, skip, n uint32, b unsafe.Pointer) {
	for _, s := range segments(p) {
		k := uint32(s.Len)
		if skip >= k {
			skip -= k
			continue
		}
		k = min(k-skip, n)
		copy(octets(add(s.Base, skip), k), octets(b, k))
		b, n, skip = add(b, k), n-k, 0
		if n == 0 {
			return
		}
	}
}

func (w *Worker) gatherSeal(l *profile.Lane, at *place) (c status.Code, full bool) {
	p := l.Pkt
	n, c := chainLen(p, profile.MaxLen)
	if c != status.OK {
		return c, false
	}
	p.Len = n
	if !profile.Offsets(p) {
		return status.ErrOffset, false
	}
	if p.Headroom < l.HdrLen || p.Tailroom < kernel.TagSize {
		return status.ErrRoom, false
	}
	b, err := w.reserve(int(l.HdrLen + n + kernel.TagSize))
	if err != nil {
		return status.ErrMemory, false
	}
	if b == nil {
		return status.OK, true
	}
	l.Len = n
	l.Hdr = b
	at.src = add(b, l.HdrLen)
	at.body, at.tag = at.src, add(at.src, n)
	at.chain = true
	gather(at.src, p)
	return status.OK, false
}

func (w *Worker) scatterSeal(l *profile.Lane, at *place) {
	p := l.Pkt
	segs := segments(p)
	hdr := unsafe.Add(segs[0].Base, -int(l.HdrLen))
	copy(octets(hdr, l.HdrLen), octets(l.Hdr, l.HdrLen))
	scatter(p, l.Clear, l.Len-l.Clear, add(at.body, l.Clear))
	last := &segs[len(segs)-1]
	copy(octets(unsafe.Add(last.Base, last.Len), kernel.TagSize), octets(at.tag, kernel.TagSize))
	p.Out = uintptr(hdr)
}

func (w *Worker) gatherOpen(l *profile.Lane, at *place, twice bool) (c status.Code, full bool, n uint32) {
	p := l.Pkt
	n, c = chainLen(p, profile.MaxLen+4096)
	if c != status.OK {
		return c, false, 0
	}
	if n == 0 {
		return status.ErrShort, false, 0
	}
	room := int(n)
	if twice { // and the ciphertext once more, in the same chunk whatever its length
		room += int(n) + 1
	}
	b, err := w.reserve(room)
	if err != nil {
		return status.ErrMemory, false, 0
	}
	if b == nil {
		return status.OK, true, 0
	}
	gather(b, p)
	if twice {
		at.copy = add(b, n)
	}
	p.Len = n
	l.Hdr = b
	at.chain = true
	return status.OK, false, n
}

func (w *Worker) scatterOpen(l *profile.Lane, at *place, ok bool) {
	p := l.Pkt
	text := octets(add(at.body, l.Clear), l.Len-l.Clear)
	if !ok {
		clear(text)
	}
	scatter(p, l.HdrLen+l.Clear, uint32(len(text)), add(at.body, l.Clear))
	// The first octet of payload: that of a later segment where the header
	// fills the first one.
	skip := uintptr(l.HdrLen)
	p.Out = uintptr(segments(p)[0].Base) + skip // if it is empty
	for _, s := range segments(p) {
		if l.Len != 0 && skip < s.Len {
			p.Out = uintptr(s.Base) + skip
			return
		}
		skip -= s.Len
	}
}
