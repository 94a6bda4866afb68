package profile

import (
	"encoding/binary"
	"slices"
	"unsafe"

	"libeesp/internal/kernel"
	"libeesp/internal/keys"
	"libeesp/internal/status"
	"libeesp/internal/wire"
)

const labelByte = 0x45

// StatelessMsg writes the KDF input for i = 1 (formats.md, section 1.4) and
// returns its length in blocks. The header's context ends up in one, two or
// three whole blocks, so that the CMAC uses subkey K1.
// What is left of m becomes zero, so that contexts compare as a whole.
func StatelessMsg(m *[MaxBlocks * 16]byte, v uint8, id uint64, epoch uint16, a *Addr, keyBits uint16) int {
	clear(m[16:])
	m[0], m[1], m[2], m[3] = 1, labelByte, v, 0
	binary.BigEndian.PutUint64(m[4:], id)
	binary.BigEndian.PutUint16(m[12:], epoch)
	switch v & wire.VAddrMask {
	case 1:
		copy(m[14:30], a.Src[:])
		binary.BigEndian.PutUint16(m[30:], keyBits)
		return 2
	case 2:
		copy(m[14:30], a.Src[:])
		copy(m[30:46], a.Dst[:])
		binary.BigEndian.PutUint16(m[46:], keyBits)
		return 3
	}
	binary.BigEndian.PutUint16(m[14:], keyBits)
	return 1
}

// Begin prepares the headers of a burst. snap is nil for a held data key.
func (s *Sealing) Begin(h *Header, snap *keys.Snapshot) status.Code {
	if h.of == s && h.at == snap {
		return status.OK
	}
	h.of = nil
	h.v, h.id = s.V, s.ID
	var options []byte
	var room [wire.Levels * wire.MaxOption]byte
	if s.Held != nil {
		options = s.Held.Options
		h.blocks, h.bits = 0, uint16(s.Held.KeyLen*8)
	} else {
		levels := s.Levels
		if levels == 0 {
			levels = snap.Default
		}
		h.master = snap.Master(keys.Of(levels, keys.Current))
		if levels == 0 || h.master == nil || !s.Options && levels != snap.Default {
			return status.ErrNoKey
		}
		if s.Options {
			n := 0
			for l := range snap.Level {
				if levels>>l&1 != 0 {
					n += copy(room[n:], snap.Level[l].Option())
				}
			}
			options = room[:n]
		}
		h.bits = uint16(snap.KeyLen * 8)
		h.blocks = StatelessMsg(&h.msg, s.V, s.ID, 0, new(Addr), h.bits)
	}
	h.n = wire.Template(&h.b, s.V, s.ID, options)
	h.of, h.at = s, snap
	return status.OK
}

// Fill writes the headers of packets that follow one another, the first with
// tsc, the next with tsc+1. Their places are in the jobs' AAD; so are nonces.
func (h *Header) Fill(jobs []kernel.Job, pkts []Desc, tsc uint64) {
	// A header has at least 16 octets: whole vectors, the last one overlapping.
	from, n, salt := unsafe.Pointer(&h.b), uintptr(h.n), wire.StatelessSalt(h.v, h.id)
	for i := range jobs {
		j, p := &jobs[i], &pkts[i]
		to := j.AAD
		for at := uintptr(0); at+16 < n; at += 16 {
			*(*[16]byte)(unsafe.Add(to, at)) = *(*[16]byte)(unsafe.Add(from, at))
		}
		*(*[16]byte)(unsafe.Add(to, n-16)) = *(*[16]byte)(unsafe.Add(from, n-16))
		if p.COffset != 0 {
			b := (*[4]byte)(to)
			b[2], b[3] = wire.Offsets(p.COffset, p.IOffset)
		}
		binary.BigEndian.PutUint64((*[8]byte)(unsafe.Add(to, n-8))[:], tsc)
		wire.Nonce(&j.Nonce, salt, tsc)
		p.ID, p.TSC = h.id, tsc
		tsc++
	}
}

// MsgLen is the length of a packet's KDF input in octets, 0 for a held key.
func (h *Header) MsgLen() int { return h.blocks * 16 }

// Master is the key of the KDF.
func (h *Header) Master() *kernel.Master { return h.master }

// Message writes the KDF input of one packet.
func (h *Header) Message(m unsafe.Pointer, p *Desc, tsc uint64) {
	*(*[16]byte)(m) = *(*[16]byte)(h.msg[:])
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Add(m, 12))[:], uint16(tsc>>48))
	switch h.blocks {
	case 2:
		*(*[16]byte)(unsafe.Add(m, 14)) = p.Src
		*(*uint16)(unsafe.Add(m, 30)) = *(*uint16)(unsafe.Pointer(&h.msg[30]))
	case 3:
		*(*[16]byte)(unsafe.Add(m, 14)) = p.Src
		*(*[16]byte)(unsafe.Add(m, 30)) = p.DstIP
		*(*uint16)(unsafe.Add(m, 46)) = *(*uint16)(unsafe.Pointer(&h.msg[46]))
	}
}

// Offsets reports whether a packet to be sealed has good offsets.
func Offsets(p *Desc) bool {
	return p.IOffset <= p.COffset && p.IOffset <= 15 && uint32(p.COffset)*4 <= p.Len
}

// Parse reads the header of a packet of n octets at l.Hdr, and what follows
// from it: the nonce and the context. snaps are the receiver's groups in order.
func (o *Opening) Parse(l *Lane, j *kernel.Job, c *Context, n uint32, snaps []*keys.Snapshot) status.Code {
	var h wire.Stateless
	if code := h.Parse(unsafe.Slice((*byte)(l.Hdr), n), kernel.TagSize); code != status.OK {
		return code
	}
	l.HdrLen = uint32(h.Len)
	l.Len = n - l.HdrLen - kernel.TagSize
	l.Clear, l.Skip = uint32(h.COffset)*4, uint32(h.IOffset)*4
	p := l.Pkt
	p.ID, p.TSC, p.COffset, p.IOffset = h.ID, h.TSC, h.COffset, h.IOffset
	wire.StatelessNonce(&j.Nonce, h.V, h.ID, h.TSC)
	epoch := uint16(h.TSC >> 48)
	l.Retry = false
	if k := o.Held; k != nil {
		if h.V != k.V || h.ID != k.ID || epoch != k.Epoch || !o.sameOptions(l, &h) {
			return status.ErrContext
		}
		c.Blocks, l.KeyLen = 0, uint8(k.KeyLen)
		return o.reflected(h.ID)
	}
	var snap *keys.Snapshot
	if h.Present == 0 {
		snap = snaps[0]
		c.Master = snap.Master(keys.Of(snap.Default, keys.Current))
		if o.TryPrevious {
			l.Prev = snap.Master(keys.Of(snap.Default, keys.Pre))
			l.Retry = l.Prev != nil && snap.HasPre(snap.Default)
		}
	} else {
		snap, c.Master = find(&h, snaps)
	}
	if c.Master == nil {
		return status.ErrNoKey
	}
	l.KeyLen = uint8(snap.KeyLen)
	c.Blocks = StatelessMsg(&c.Msg, h.V, h.ID, epoch, (*Addr)(unsafe.Pointer(&p.Src)), uint16(snap.KeyLen*8))
	return o.reflected(h.ID)
}

// Shape is what packets of one burst mostly have in common: the same first word
// and options, nothing in clear, and so the same root keys.
type Shape struct {
	of     *Opening // nil: there is none
	word   [4]byte
	n      uint32 // octets of the header
	at     uint32 // where the options begin
	blocks int
	keyLen int
	long   bool
	master *kernel.Master
	opts   [wire.Levels*wire.MaxOption + 8]byte
	msg    [MaxBlocks * 16]byte
}

// Learn takes the shape of a packet that was parsed, if others can have it.
func (s *Shape) Learn(o *Opening, l *Lane, c *Context) {
	s.of = nil
	if o.Held != nil || l.Clear != 0 || l.Retry || len(o.OwnIDs) != 0 {
		return
	}
	b := unsafe.Slice((*byte)(l.Hdr), l.HdrLen)
	v := b[1] >> 4
	s.n, s.at, s.long = l.HdrLen, uint32(4+wire.IDLen(v)), v&wire.VLongID != 0
	copy(s.word[:], b)
	copy(s.opts[:], b[s.at:s.n-8])
	s.msg, s.blocks, s.master, s.keyLen = c.Msg, c.Blocks, c.Master, int(l.KeyLen)
	s.of = o
}

// Is reports whether there is a shape that packets of o have.
func (s *Shape) Is(o *Opening) bool { return s.of == o }

// Begins reports whether a packet begins like those of the shape.
func (s *Shape) Begins(p *Desc) bool {
	return p.IOVCount == 0 && p.Data != nil && p.Len >= 4 && *(*[4]byte)(p.Data) == s.word
}

// Forget drops the shape.
func (s *Shape) Forget() { s.of, s.master = nil, nil }

// MsgLen, KeyLen and Master are those of the packets' keys.
func (s *Shape) MsgLen() int            { return s.blocks * 16 }
func (s *Shape) KeyLen() int            { return s.keyLen }
func (s *Shape) Master() *kernel.Master { return s.master }

// Match turns packets into jobs, and writes their KDF inputs, room octets apart,
// until one has another shape, is not plain, or would be refused: Parse is for
// that one. It returns how many it took, and whether they are in order of
// length.
func (s *Shape) Match(jobs []kernel.Job, pkts []Desc, msgs unsafe.Pointer, room int) (n int, sorted bool) {
	const icv = kernel.TagSize
	word := *(*uint32)(unsafe.Pointer(&s.word))
	sorted = true
	last := uint32(0)
	for n < len(pkts) && n < len(jobs) {
		p, j := &pkts[n], &jobs[n]
		if p.IOVCount != 0 || p.Flags != 0 || p.Data == nil || p.Len < s.n+icv || p.Len > MaxLen || *(*uint32)(p.Data) != word ||
			s.at+8 != s.n && string(unsafe.Slice((*byte)(unsafe.Add(p.Data, s.at)), s.n-8-s.at)) != string(s.opts[:s.n-8-s.at]) {
			break
		}
		text := p.Len - s.n - icv
		src := unsafe.Add(p.Data, s.n)
		dst := src
		if p.Dst != nil && p.Dst != src {
			dst = p.Dst
			if a, b := uintptr(p.Data), uintptr(dst); p.DstSize < text || a < b+uintptr(text) && b < a+uintptr(p.Len) {
				break
			}
		}
		id := binary.BigEndian.Uint64((*[8]byte)(unsafe.Add(p.Data, 4))[:])
		salt := uint32(id>>32) ^ uint32(id)
		if !s.long {
			id >>= 32
			salt = uint32(id)
		}
		tsc := binary.BigEndian.Uint64((*[8]byte)(unsafe.Add(p.Data, s.n-8))[:])
		j.AAD, j.Src, j.Dst, j.Tag = p.Data, src, dst, unsafe.Add(src, text)
		j.AADLen, j.Len, j.OK = s.n, text, 0
		wire.Nonce(&j.Nonce, salt, tsc)
		p.ID, p.TSC, p.COffset, p.IOffset = id, tsc, 0, 0
		*(*[16]byte)(msgs) = *(*[16]byte)(s.msg[:])
		binary.BigEndian.PutUint64((*[8]byte)(unsafe.Add(msgs, 4))[:], id)
		*(*[2]byte)(unsafe.Add(msgs, 12)) = *(*[2]byte)(unsafe.Add(p.Data, s.n-8))
		if s.blocks > 1 {
			*(*[16]byte)(unsafe.Add(msgs, 14)) = p.Src
			if s.blocks > 2 {
				*(*[16]byte)(unsafe.Add(msgs, 30)) = p.DstIP
			}
			end := s.blocks*16 - 2
			*(*[2]byte)(unsafe.Add(msgs, end)) = *(*[2]byte)(s.msg[end:])
		}
		msgs = unsafe.Add(msgs, room)
		sorted = sorted && text >= last
		last = text
		n++
	}
	return n, sorted
}

func (o *Opening) reflected(id uint64) status.Code {
	if len(o.OwnIDs) != 0 {
		if _, own := slices.BinarySearch(o.OwnIDs, id); own {
			return status.ErrReflected
		}
	}
	return status.OK
}

// sameOptions reports whether the packet's options are those of the held key,
// octet by octet (there is one canonical encoding).
func (o *Opening) sameOptions(l *Lane, h *wire.Stateless) bool {
	var b [wire.Levels * wire.MaxOption]byte
	at := b[:0]
	for i := range h.RootID {
		if h.Present>>i&1 != 0 {
			at = wire.AppendOption(at, i, h.Index[i], h.RootID[i])
		}
	}
	return string(at) == string(o.Held.Options)
}

// find returns the first group that has all the root keys a packet names, and
// the master key made of them.
func find(h *wire.Stateless, snaps []*keys.Snapshot) (*keys.Snapshot, *kernel.Master) {
next:
	for _, s := range snaps {
		sel := 0
		for l := range s.Level {
			if h.Present>>l&1 == 0 {
				continue
			}
			g := s.Level[l].Match(h.Index[l], h.RootID[l])
			if g == 0 {
				continue next
			}
			sel |= g << (2 * l)
		}
		if m := s.Master(sel); m != nil {
			return s, m
		}
	}
	return nil, nil
}
