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
func StatelessMsg(m *[MaxBlocks * 16]byte, v uint8, id uint64, epoch uint16, a *Addr, keyBits uint16) uint8 {
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
	h.v, h.id, h.held = s.V, s.ID, s.Held != nil
	var options []byte
	var room [wire.Levels * wire.MaxOption]byte
	if h.held {
		options = s.Held.Options
		h.blocks, h.bits = 0, uint16(s.Held.KeyLen*8)
	} else {
		levels := s.Levels
		if levels == 0 {
			levels = snap.Default
		}
		h.sel = snap.Master(keys.Of(levels, keys.Current))
		if levels == 0 || h.sel == nil || !s.Options && levels != snap.Default {
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
	return status.OK
}

// Fill writes the header of one packet, whose place is lane.Hdr, and all that
// follows from it.
func (h *Header) Fill(l *Lane, tsc uint64) {
	p := l.Pkt
	l.Clear, l.Skip = uint32(p.COffset)*4, uint32(p.IOffset)*4
	b := unsafe.Slice((*byte)(l.Hdr), h.n)
	copy(b, h.b[:h.n])
	b[2], b[3] = wire.Offsets(p.COffset, p.IOffset)
	binary.BigEndian.PutUint64(b[h.n-8:], tsc)
	wire.StatelessNonce(&l.Nonce, h.v, h.id, tsc)
	p.ID, p.TSC = h.id, tsc
	l.Blocks, l.Master, l.Retry, l.KeyLen = h.blocks, h.sel, false, uint8(h.bits>>3)
	if h.blocks == 0 {
		return
	}
	*(*[16]byte)(l.Msg[:]) = *(*[16]byte)(h.msg[:])
	if h.blocks == 1 {
		binary.BigEndian.PutUint16(l.Msg[12:], uint16(tsc>>48))
	} else {
		StatelessMsg(&l.Msg, h.v, h.id, uint16(tsc>>48), l.Addr, h.bits)
	}
}

// Offsets reports whether a packet to be sealed has good offsets.
func Offsets(p *Desc) bool {
	return p.IOffset <= p.COffset && p.IOffset <= 15 && uint32(p.COffset)*4 <= p.Len
}

// Parse reads the header of a packet of n octets at l.Hdr. snaps are the
// receiver's groups in order.
func (o *Opening) Parse(l *Lane, n uint32, snaps []*keys.Snapshot) status.Code {
	var h wire.Stateless
	if c := h.Parse(unsafe.Slice((*byte)(l.Hdr), n), kernel.TagSize); c != status.OK {
		return c
	}
	l.HdrLen = uint32(h.Len)
	l.Len = n - l.HdrLen - kernel.TagSize
	l.Clear, l.Skip = uint32(h.COffset)*4, uint32(h.IOffset)*4
	p := l.Pkt
	p.ID, p.TSC, p.COffset, p.IOffset = h.ID, h.TSC, h.COffset, h.IOffset
	wire.StatelessNonce(&l.Nonce, h.V, h.ID, h.TSC)
	epoch := uint16(h.TSC >> 48)
	l.Retry = false
	if k := o.Held; k != nil {
		if h.V != k.V || h.ID != k.ID || epoch != k.Epoch || !o.sameOptions(l, &h) {
			return status.ErrContext
		}
		l.Blocks, l.KeyLen = 0, uint8(k.KeyLen)
		return o.reflected(h.ID)
	}
	var snap *keys.Snapshot
	if h.Present == 0 {
		snap = snaps[0]
		l.Master = snap.Master(keys.Of(snap.Default, keys.Current))
		if o.TryPrevious {
			l.Prev = snap.Master(keys.Of(snap.Default, keys.Pre))
			l.Retry = l.Prev != nil && l.Prev != l.Master
		}
	} else {
		snap, l.Master = find(&h, snaps)
	}
	if l.Master == nil {
		return status.ErrNoKey
	}
	l.KeyLen = uint8(snap.KeyLen)
	l.Blocks = StatelessMsg(&l.Msg, h.V, h.ID, epoch, l.Addr, uint16(snap.KeyLen*8))
	return o.reflected(h.ID)
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
