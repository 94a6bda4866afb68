package wire

import (
	"encoding/binary"

	"libeesp/internal/status"
)

// Lengths and codes of the headers of draft-ietf-ipsecme-eesp-03, and of -02.
const (
	// EESPBase is the fixed base header.
	EESPBase = 8
	// EESPMaxOptions is the most octets of options that Opt Len can say, a multiple of 4.
	EESPMaxOptions = 252
	// EESPMaxHeader is the longest header: all options, a sequence number and an IV.
	EESPMaxHeader = EESPBase + EESPMaxOptions + 16
	// EESPInfoLen is the Payload Info Header.
	EESPInfoLen = 4
	// EESPMaxPad is the longest padding behind the payload.
	EESPMaxPad = 255
	// EESPMaxCOffset is the greatest value of the field CryptOffset.
	EESPMaxCOffset = 63
	// EESPMaxSubSAs is the number of Session IDs.
	EESPMaxSubSAs = 1 << 16

	// EESPSession, EESPSPIAt and EESPCOffset are the places of the Session ID, of the SPI
	// and, in a header that EESPTemplate made, of the Crypt Offset option's value.
	EESPSession = 2
	EESPSPIAt   = 4
	EESPCOffset = EESPBase + 2

	// ProtoNone is the Next Header of dummy packets, which carry no payload.
	ProtoNone = 59

	eespOptCOffset = 2
	eespOptFlow    = 3   // in -02; unassigned in -03
	eespOptPrivate = 224 // and above
)

// EESPFormat is the format of one SA's headers.
type EESPFormat struct {
	Seq        bool   // headers have a sequence number
	IV         bool   // headers have an explicit IV
	Full       bool   // headers have a Payload Info Header
	Tunnel     bool   // payloads are IP packets, in either format
	Flow       bool   // headers may have a Flow Identifier option: draft -02
	MaxCOffset uint8  // greatest CryptOffset, in units of 4 octets; 0: no Crypt Offset option
	SubSAs     uint32 // Session IDs are below it
}

// Valid reports whether there can be an SA of this format.
func (s *EESPFormat) Valid() bool {
	return (s.Seq || s.IV) && s.SubSAs >= 1 && s.SubSAs <= EESPMaxSubSAs &&
		s.MaxCOffset <= EESPMaxCOffset && (s.Full || s.MaxCOffset == 0)
}

// PeerLen is the length of the peer header in octets.
func (s *EESPFormat) PeerLen() int {
	n := 0
	if s.Seq {
		n = 8
	}
	if s.IV {
		n += 8
	}
	return n
}

// InfoLen is the length of the Payload Info Header in octets, 0 in the optimized format.
func (s *EESPFormat) InfoLen() int {
	if s.Full {
		return EESPInfoLen
	}
	return 0
}

// EESP holds the fields of one header.
type EESP struct {
	Session    uint16
	COffset    uint8 // in units of 4 octets, from the end of the peer header
	HasCOffset bool  // there is a Crypt Offset option
	SPI        uint32
	OptLen     int
	Peer       int    // place of the peer header
	Len        int    // octets up to the end of the peer header
	Seq        uint64 // 0 where the SA has none
	IV         uint64 // the nonce's last 8 octets: the IV, or Seq where the SA has no IV
}

// EESPFirst checks the first octet of a base header.
func EESPFirst(b byte) status.Code {
	switch {
	case b&0xF8 != 0x80: // the bit that tells EESP from ESP, and version 0
		return status.ErrVersion
	case b&7 != 0:
		return status.ErrReserved
	}
	return status.OK
}

// EESPSPI reads the SPI from the base header at the start of b, for finding the SA. A
// packet that is too short for any SA is ErrShort, whatever is in it.
func EESPSPI(b []byte, icv int) (spi uint32, c status.Code) {
	if len(b) < EESPBase+8+icv {
		return 0, status.ErrShort
	}
	if c := EESPFirst(b[0]); c != status.OK {
		return 0, c
	}
	return binary.BigEndian.Uint32(b[EESPSPIAt:]), status.OK
}

// Parse reads the header at the start of b, which is the packet up to and
// including its ICV of icv octets, by the format of the SA that the SPI names.
// Checks come in a fixed order: those of EESPSPI, the shortest length of this
// format, Opt Len, length, options, Session ID, crypt offset, sequence number.
func (h *EESP) Parse(b []byte, s *EESPFormat, icv int) (c status.Code) {
	if h.SPI, c = EESPSPI(b, icv); c != status.OK {
		return c
	}
	peer, info := s.PeerLen(), s.InfoLen()
	if len(b) < EESPBase+peer+info+icv {
		return status.ErrShort
	}
	h.OptLen = int(b[1])
	if h.OptLen%4 != 0 {
		return status.ErrHeaderLen
	}
	h.Peer = EESPBase + h.OptLen
	h.Len = h.Peer + peer
	if len(b) < h.Len+info+icv {
		return status.ErrShort
	}
	h.HasCOffset, h.COffset = false, 0
	at := 0 // place of the Crypt Offset option's value
	if h.OptLen != 0 {
		var ok bool
		if at, ok = eespOptions(b[:h.Peer], s.Flow); !ok {
			return status.ErrOption
		}
	}
	h.Session = binary.BigEndian.Uint16(b[EESPSession:])
	if uint32(h.Session) >= s.SubSAs {
		return status.ErrSession
	}
	if at != 0 {
		v := binary.BigEndian.Uint16(b[at:])
		h.HasCOffset, h.COffset = true, uint8(v>>4)&EESPMaxCOffset
		if s.MaxCOffset == 0 || !s.Full || int(v>>10)*4 != h.Len ||
			h.COffset > s.MaxCOffset || int(h.COffset)*4 > len(b)-h.Len-icv {
			return status.ErrOffset
		}
	}
	h.Seq, h.IV = 0, 0
	if s.Seq {
		h.Seq = binary.BigEndian.Uint64(b[h.Peer:])
		h.IV = h.Seq
		if h.Seq == 0 {
			return status.ErrSequence
		}
	}
	if s.IV {
		h.IV = binary.BigEndian.Uint64(b[h.Len-8:])
	}
	return status.OK
}

// eespOptions checks the options behind the base header, up to the end of b. With flow,
// one of them may be a Flow Identifier. It returns the place of the Crypt Offset option's
// value, 0 for none.
func eespOptions(b []byte, flow bool) (coffset int, ok bool) {
	for at := EESPBase; at < len(b); {
		t := b[at]
		if t == optPad1 {
			at++
			continue
		}
		if len(b)-at < 2 || int(b[at+1]) > len(b)-at-2 {
			return 0, false
		}
		data := b[at+2 : at+2+int(b[at+1])]
		switch {
		case t == optPadN:
			for _, z := range data {
				if z != 0 {
					return 0, false
				}
			}
		case t == eespOptCOffset:
			if len(data) != 2 || coffset != 0 {
				return 0, false
			}
			coffset = at + 2
		case t == eespOptFlow:
			if !flow {
				return 0, false
			}
			flow = false // at most one
		case t < eespOptPrivate:
			return 0, false
		}
		at += 2 + len(data)
	}
	return coffset, true
}

// EESPTemplate writes a header without peer header and value of CryptOffset, and returns
// the place of the peer header. The header has a Crypt Offset option if the format allows
// it, then a Flow Identifier option if flow has any octets (only if s.Flow is set). Padding
// aligns the payload, behind the Payload Info Header, to a multiple of align, 4 or 8. A
// format that is not valid, or more options than fit, is ErrArgument.
func EESPTemplate(b *[EESPMaxHeader]byte, s *EESPFormat, session uint16, spi uint32, flow []byte, align int) (int, status.Code) {
	if !s.Valid() || uint32(session) >= s.SubSAs || align != 4 && align != 8 || len(flow) != 0 && !s.Flow {
		return 0, status.ErrArgument
	}
	peer, info := s.PeerLen(), s.InfoLen()
	at := EESPBase
	if s.MaxCOffset != 0 {
		at += 4
	}
	pad := at
	if len(flow) != 0 {
		pad += 2 + len(flow)
	}
	end := pad + -(pad+peer+info)&(align-1)
	if end > EESPBase+EESPMaxOptions || s.MaxCOffset != 0 && end+peer > 4*63 { // Payload Offset has 6 bits
		return 0, status.ErrArgument
	}
	clear(b[:end+peer])
	b[0], b[1] = 0x80, byte(end-EESPBase)
	binary.BigEndian.PutUint16(b[EESPSession:], session)
	binary.BigEndian.PutUint32(b[4:], spi)
	if s.MaxCOffset != 0 {
		b[EESPBase], b[EESPBase+1] = eespOptCOffset, 2
		b[EESPCOffset], b[EESPCOffset+1] = EESPOffsets(end+peer, 0)
	}
	if len(flow) != 0 {
		b[at], b[at+1] = eespOptFlow, byte(len(flow))
		copy(b[at+2:], flow)
	}
	if end-pad >= 2 {
		b[pad], b[pad+1] = optPadN, byte(end-pad-2)
	}
	return end, status.OK
}

// EESPOffsets returns the value of the Crypt Offset option of a header of n octets, peer
// header included.
func EESPOffsets(n int, coffset uint8) (byte, byte) { return byte(n) | coffset>>4, coffset << 4 }

// EESPInfo returns a Payload Info Header.
func EESPInfo(next, pad uint8) [EESPInfoLen]byte { return [EESPInfoLen]byte{0, 0, next, pad} }

// ParseEESPInfo reads the Payload Info Header at the start of a decrypted body. It is not
// ok if the header is malformed or says that there is more padding than octets.
func ParseEESPInfo(b []byte) (next, pad uint8, ok bool) {
	if len(b) < EESPInfoLen || b[0] != 0 || b[1] != 0 || int(b[3]) > len(b)-EESPInfoLen {
		return 0, 0, false
	}
	return b[2], b[3], true
}

// IPLen returns the length of the IPv4 or IPv6 packet at the start of b by its header,
// which may be more than b has. It is not ok if b does not begin with a whole IPv4 or IPv6
// header, or if the header does not tell the length: see IPJumbo.
func IPLen(b []byte) (n int, ok bool) {
	if len(b) < ip4Header {
		return 0, false
	}
	switch b[0] >> 4 {
	case 4:
		h := int(b[0]&0xF) * 4
		n = int(binary.BigEndian.Uint16(b[2:]))
		return n, h >= ip4Header && n >= h
	case 6:
		n = int(binary.BigEndian.Uint16(b[4:]))
		return ip6Header + n, len(b) >= ip6Header && (n != 0 || b[6] == ProtoNone || len(b) == ip6Header)
	}
	return 0, false
}

// IPJumbo reports whether b begins with an IP packet whose length field is 0: a jumbogram
// (RFC 2675), or a "BIG TCP" packet that was not cut into segments yet. An IPv6 header with
// no octets behind it, or with protocol 59 (none), is a whole packet and not one of them.
func IPJumbo(b []byte) bool {
	switch {
	case len(b) >= ip4Header && b[0]>>4 == 4:
		return binary.BigEndian.Uint16(b[2:]) == 0
	case len(b) >= ip6Header && b[0]>>4 == 6:
		return binary.BigEndian.Uint16(b[4:]) == 0 && b[6] != ProtoNone && len(b) > ip6Header
	}
	return false
}
