package burst

import (
	"unsafe"

	"libeesp/internal/kernel"
	"libeesp/internal/profile"
	"libeesp/internal/secmem"
	"libeesp/internal/status"
)

// Chained packets are gathered into linear memory, go through the kernels there
// like all others, and are scattered back over their segments. The lengths of
// segments do not change: sealing writes the header to the headroom of the first
// segment and the ICV to the tailroom of the last; opening leaves the payload
// where it was, between header and ICV.

// linear is locked memory for chained packets. It grows when they come.
type linear struct {
	octets []byte
	n      int // in use by this chunk
	used   int // by this burst, to be wiped
}

const minLinear = 256 << 10

// reserve returns n octets, or nil if this chunk has no room for them. Then the
// chunk ends here: the next one has the room.
func (m *linear) reserve(n int) (unsafe.Pointer, error) {
	n = (n + 63) &^ 63
	if m.n+n > len(m.octets) {
		if m.n != 0 {
			return nil, nil
		}
		b, err := secmem.Alloc(max(minLinear, n))
		if err != nil {
			return nil, err
		}
		m.free()
		m.octets = b
	}
	p := unsafe.Pointer(&m.octets[m.n])
	m.n += n
	m.used = max(m.used, m.n)
	return p, nil
}

// again makes all of it free for the next chunk.
func (m *linear) again() { m.n = 0 }

func (m *linear) wipe() {
	if m.used != 0 {
		secmem.Wipe(m.octets[:m.used])
		m.used, m.n = 0, 0
	}
}

func (m *linear) free() {
	if m.octets != nil {
		secmem.Free(m.octets)
		*m = linear{}
	}
}

func segments(p *profile.Desc) []profile.IOV {
	return unsafe.Slice((*profile.IOV)(p.IOV), p.IOVCount)
}

// chainLen is the length of a chained packet in octets.
func chainLen(p *profile.Desc, limit uintptr) (uint32, status.Code) {
	if p.IOV == nil || p.Dst != nil {
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
	p.Len, l.Len = n, n
	if c := w.fit(l); c != status.OK {
		return c, false
	}
	if p.Headroom < l.Prefix+l.HdrLen || p.Tailroom < l.Pad+kernel.TagSize {
		return status.ErrRoom, false
	}
	b, err := w.reserve(int(l.Prefix + l.HdrLen + n + l.Pad + kernel.TagSize))
	if err != nil {
		return status.ErrMemory, false
	}
	if b == nil {
		return status.OK, true
	}
	l.Hdr = add(b, l.Prefix)
	at.src = add(l.Hdr, l.HdrLen)
	at.body, at.tag = at.src, add(at.src, n+l.Pad)
	at.chain = true
	copy(octets(b, l.Prefix), octets(unsafe.Add(segments(p)[0].Base, -int(l.Prefix+l.HdrLen)), l.Prefix))
	gather(at.src, p)
	return w.look(l, at.src), false
}

func (w *Worker) scatterSeal(l *profile.Lane, at *place) {
	p := l.Pkt
	segs := segments(p)
	hdr := unsafe.Add(segs[0].Base, -int(l.HdrLen))
	copy(octets(hdr, l.HdrLen), octets(l.Hdr, l.HdrLen))
	asIs := max(l.Clear, l.Inner) - l.Inner // payload octets in clear
	scatter(p, asIs, l.Len-asIs, add(at.body, asIs))
	last := &segs[len(segs)-1]
	tail := l.Pad + kernel.TagSize
	copy(octets(unsafe.Add(last.Base, last.Len), tail), octets(add(at.body, l.Len), tail))
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
	room := int(l.Prefix + n)
	if twice { // for a copy of the ciphertext, too, which must be in the same chunk
		room += int(n) + 1
	}
	b, err := w.reserve(room)
	if err != nil {
		return status.ErrMemory, false, 0
	}
	if b == nil {
		return status.OK, true, 0
	}
	l.Hdr = add(b, l.Prefix)
	copy(octets(b, l.Prefix), octets(unsafe.Add(segments(p)[0].Base, -int(l.Prefix)), l.Prefix))
	gather(l.Hdr, p)
	if twice {
		at.copy = add(l.Hdr, n)
	}
	p.Len = n
	at.chain = true
	return status.OK, false, n
}

// scatterOpen writes what was decrypted, or zeros, back to the segments. whole is
// the length of payload and padding.
func (w *Worker) scatterOpen(l *profile.Lane, at *place, whole uint32) {
	p := l.Pkt
	scatter(p, l.HdrLen-l.Inner+l.Clear, l.Inner+whole-l.Clear, unsafe.Add(at.body, int(l.Clear)-int(l.Inner)))
	// Out is the first octet of payload. It is in a later segment if the header
	// fills the first one.
	skip := uintptr(l.HdrLen)
	p.Out = uintptr(segments(p)[0].Base) + skip // for an empty payload
	for _, s := range segments(p) {
		if l.Len != 0 && skip < s.Len {
			p.Out = uintptr(s.Base) + skip
			return
		}
		skip -= s.Len
	}
}
