package wire

import (
	"encoding/binary"

	"libeesp/internal/status"
)

// Lengths of the header of Ultra Ethernet's Transport Security Sublayer.
const (
	// TSSMinHeader is the length of the header without an SSI, TSSMaxHeader with one.
	TSSMinHeader = 12
	TSSMaxHeader = 16

	// TSSPrefix4 and TSSPrefix6 are the lengths of the prefix: both addresses and the
	// entropy field, which are authenticated.
	TSSPrefix4 = 12
	TSSPrefix6 = 36

	// TSSPort is the UDP destination port.
	TSSPort = 4793

	// TSSKeys is the number of association numbers.
	TSSKeys = 2

	tssType     = 1
	tssSP       = 1 << 26
	tssReserved = 1 << 25
	tssAN       = 24 // bit number
	tssSDI      = 1<<24 - 1
)

// TSS holds the fields of one header.
type TSS struct {
	SP  bool  // the header has an SSI
	AN  uint8 // 0 or 1
	Len int   // octets of the header
	SDI uint32
	SSI uint32 // 0 if there is none
	TSC uint64 // Epoch(16) | Counter(48)
}

// TSSFirst checks the first octet of a header.
func TSSFirst(b byte) status.Code {
	switch {
	case b>>3 != tssType:
		return status.ErrVersion
	case b&(tssReserved>>24) != 0:
		return status.ErrReserved
	}
	return status.OK
}

// TSSKey reads from the header at the start of b which key a packet is for. It does not
// check whether there is room for the SSI: Parse does, after the key was found.
func TSSKey(b []byte, icv int) (sdi uint32, an uint8, c status.Code) {
	if len(b) < TSSMinHeader+icv {
		return 0, 0, status.ErrShort
	}
	if c := TSSFirst(b[0]); c != status.OK {
		return 0, 0, c
	}
	w := binary.BigEndian.Uint32(b)
	return w & tssSDI, uint8(w>>tssAN) & 1, status.OK
}

// Parse reads the header at the start of b, which is the packet up to and
// including its ICV of icv octets. Checks come in a fixed order: length of the
// header without SSI, type, reserved bit, length with SSI.
func (h *TSS) Parse(b []byte, icv int) (c status.Code) {
	if h.SDI, h.AN, c = TSSKey(b, icv); c != status.OK {
		return c
	}
	h.SP, h.Len, h.SSI = b[0]&(tssSP>>24) != 0, TSSMinHeader, 0
	if h.SP {
		if len(b) < TSSMaxHeader+icv {
			return status.ErrShort
		}
		h.Len, h.SSI = TSSMaxHeader, binary.BigEndian.Uint32(b[4:])
	}
	h.TSC = binary.BigEndian.Uint64(b[h.Len-8 : h.Len])
	return status.OK
}

// TSSTemplate writes a header without Epoch and Counter, its last 8 octets, and returns its
// length. ssi is used only with sp.
func TSSTemplate(b *[TSSMaxHeader]byte, sp bool, an uint8, sdi, ssi uint32) int {
	w := tssType<<27 | uint32(an&1)<<tssAN | sdi&tssSDI
	n := TSSMinHeader
	if sp {
		w |= tssSP
		n = TSSMaxHeader
		binary.BigEndian.PutUint32(b[4:], ssi)
	}
	binary.BigEndian.PutUint32(b[:], w)
	clear(b[n-8 : n])
	return n
}
