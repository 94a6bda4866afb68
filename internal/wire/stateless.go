// Package wire turns header octets into fields and back, one file per profile.
// It knows no keys and no cryptography, and trusts nothing it reads.
package wire

import (
	"encoding/binary"

	"libeesp/internal/status"
)

// Lengths and codes of the Security Header of
// draft-xia-ipsecme-eesp-stateless-encryption-02, section 4.3.
const (
	// StatelessMinHeader is the shortest header: first word, 4-octet ID,
	// Epoch and Counter.
	StatelessMinHeader = 16
	// StatelessMaxHeader is the longest header that HL can say: (15+1)*8.
	StatelessMaxHeader = 128

	// VLongID is the bit of V for IDs of 8 octets instead of 4.
	VLongID = 0x8
	// VAddrMask is the bits of V that say which addresses are in the context: none, the
	// source, or both.
	VAddrMask = 0x7

	// Levels is the number of root-key levels: zone, user, task.
	Levels = 3

	optPad1      = 0x00
	optPadN      = 0x01
	optMasterKey = 0xE0 // zone; user and task follow

	// MinRootKeyID and MaxRootKeyID bound a root key ID, in octets.
	MinRootKeyID = 16
	MaxRootKeyID = 32
	// MaxOption is the longest Master Key Option in octets.
	MaxOption = 4 + MaxRootKeyID
)

// Stateless holds the fields of one Security Header. ID and option slices
// point into the packet.
type Stateless struct {
	V       uint8
	COffset uint8 // in units of 4 octets
	IOffset uint8 // in units of 4 octets
	Present uint8 // bit l: there is a Master Key Option of level l
	Len     int   // octets of the whole header
	ID      uint64
	TSC     uint64 // Epoch(16) | Counter(48)
	Index   [Levels]uint8
	RootID  [Levels][]byte
}

// ValidV reports whether the profile defines v.
func ValidV(v uint8) bool { return v <= 0xF && v&VAddrMask <= 2 }

// IDLen returns the length of the ID with v, in octets.
func IDLen(v uint8) int { return 4 + int(v&VLongID)>>1 }

// StatelessFirst checks the first octet of a header.
func StatelessFirst(b byte) status.Code {
	if b>>4 != 0 {
		return status.ErrVersion
	}
	return status.OK
}

// StatelessSecond checks the second octet.
func StatelessSecond(b byte) status.Code {
	switch {
	case !ValidV(b >> 4):
		return status.ErrV
	case b&0xF != 0:
		return status.ErrReserved
	}
	return status.OK
}

// StatelessOption checks the first octet of options: whether it can begin any.
func StatelessOption(b byte) status.Code {
	if b == optPad1 || b == optPadN || b >= optMasterKey && b < optMasterKey+Levels {
		return status.OK
	}
	return status.ErrOption
}

// Parse reads the header at the start of b, which is the packet up to and
// including its ICV of icv octets. Checks come in a fixed order: length of the
// fixed part, Version, V, Reserve, HL, options, offsets.
func (h *Stateless) Parse(b []byte, icv int) status.Code {
	if len(b) < StatelessMinHeader+icv {
		return status.ErrShort
	}
	if c := StatelessFirst(b[0]); c != status.OK {
		return c
	}
	if c := StatelessSecond(b[1]); c != status.OK {
		return c
	}
	w := binary.BigEndian.Uint32(b)
	h.V = uint8(w>>20) & 0xF
	if w>>12&0xF != 0 {
		return status.ErrReserved
	}
	h.COffset = uint8(w >> 4)
	h.IOffset = uint8(w) & 0xF
	n := (int(w>>24)&0xF + 1) * 8
	at := 4 + IDLen(h.V)
	if n < at+8 {
		return status.ErrHeaderLen
	}
	if len(b) < n+icv {
		return status.ErrShort
	}
	h.Len = n
	if h.V&VLongID == 0 {
		h.ID = uint64(binary.BigEndian.Uint32(b[4:]))
	} else {
		h.ID = binary.BigEndian.Uint64(b[4:])
	}
	h.TSC = binary.BigEndian.Uint64(b[n-8 : n])
	h.Present = 0
	if at < n-8 {
		if c := h.parseOptions(b[at : n-8]); c != status.OK {
			return c
		}
	}
	if h.IOffset > h.COffset || int(h.COffset)*4 > len(b)-n-icv {
		return status.ErrOffset
	}
	return status.OK
}

// parseOptions accepts Master Key Options in ascending order, then at most
// seven octets of Pad1 and PadN.
func (h *Stateless) parseOptions(o []byte) status.Code {
	next := uint8(optMasterKey)
	for len(o) >= 4 && o[0] >= next && o[0] < optMasterKey+Levels {
		size := int(o[1]) + 2
		pad := int(o[3])
		id := size - 4 - pad
		if size > len(o) || size%4 != 0 || pad > 3 || id < MinRootKeyID || id > MaxRootKeyID {
			return status.ErrOption
		}
		for _, z := range o[4+id : size] {
			if z != 0 {
				return status.ErrOption
			}
		}
		l := o[0] - optMasterKey
		h.Present |= 1 << l
		h.Index[l] = o[2]
		h.RootID[l] = o[4 : 4+id]
		next = o[0] + 1
		o = o[size:]
	}
	if len(o) >= 8 {
		return status.ErrOption
	}
	for len(o) > 0 {
		switch o[0] {
		case optPad1:
			o = o[1:]
		case optPadN:
			if len(o) < 2 || int(o[1])+2 > len(o) {
				return status.ErrOption
			}
			size := int(o[1]) + 2
			for _, z := range o[2:size] {
				if z != 0 {
					return status.ErrOption
				}
			}
			o = o[size:]
		default:
			return status.ErrOption
		}
	}
	return status.OK
}

// AppendOption appends the Master Key Option of a level.
func AppendOption(b []byte, level int, index uint8, id []byte) []byte {
	pad := -len(id) & 3
	b = append(b, optMasterKey+byte(level), byte(2+len(id)+pad), index, byte(pad))
	b = append(b, id...)
	for range pad {
		b = append(b, 0)
	}
	return b
}

// Template writes a header without offsets, Epoch and Counter, and returns its length.
// options is what AppendOption made. It writes the one canonical encoding, with the
// shortest padding, at the end.
func Template(b *[StatelessMaxHeader]byte, v uint8, id uint64, options []byte) int {
	at := 4 + IDLen(v)
	n := (at + len(options) + 8 + 7) &^ 7
	b[0] = byte(n/8 - 1)
	b[1] = v << 4
	b[2], b[3] = 0, 0
	if v&VLongID == 0 {
		binary.BigEndian.PutUint32(b[4:], uint32(id))
	} else {
		binary.BigEndian.PutUint64(b[4:], id)
	}
	copy(b[at:n-8], options)
	pad := b[at+len(options) : n-8]
	clear(pad)
	if len(pad) >= 2 {
		pad[0], pad[1] = optPadN, byte(len(pad)-2)
	}
	return n
}

// Offsets returns the octets 2 and 3 of a header with these offsets.
func Offsets(coffset, ioffset uint8) (byte, byte) {
	return coffset >> 4, coffset<<4 | ioffset&0xF
}

// StatelessSalt returns the nonce's Salt: the ID of 4 octets, or the xor of the halves of
// one of 8 octets.
func StatelessSalt(v uint8, id uint64) uint32 {
	if v&VLongID != 0 {
		return uint32(id) ^ uint32(id>>32)
	}
	return uint32(id)
}

// Nonce writes the AEAD nonce: Salt || Epoch || Counter.
func Nonce(n *[12]byte, salt uint32, tsc uint64) {
	binary.BigEndian.PutUint32(n[:4], salt)
	binary.BigEndian.PutUint64(n[4:], tsc)
}

// StatelessNonce writes the nonce of a packet with these fields.
func StatelessNonce(n *[12]byte, v uint8, id, tsc uint64) { Nonce(n, StatelessSalt(v, id), tsc) }

// ValidOptions reports whether o is empty, or Master Key Options and nothing else.
func ValidOptions(o []byte) bool {
	var h Stateless
	if h.parseOptions(o) != status.OK {
		return false
	}
	var b [Levels * MaxOption]byte
	at := b[:0]
	for l := range h.RootID {
		if h.Present>>l&1 != 0 {
			at = AppendOption(at, l, h.Index[l], h.RootID[l])
		}
	}
	return string(at) == string(o)
}
