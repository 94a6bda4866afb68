package wire

import (
	"encoding/binary"

	"libeesp/internal/status"
)

// Lengths and limits of the PSP header.
const (
	// PSPBase is the header without, PSPMaxHeader with the virtualization cookie (VC).
	PSPBase      = 16
	PSPVC        = 8
	PSPMaxHeader = PSPBase + PSPVC

	// PSPPort is PSP's UDP destination port.
	PSPPort = 1000

	// PSPVersions is the number of versions; those from PSPGMAC on do not encrypt.
	PSPVersions = 4
	PSPGMAC     = 2

	// PSPMaxOffset is the greatest crypt offset of the 6-bit field. It counts
	// from behind the base header, so that a VC takes 2 of it.
	PSPMaxOffset = 63
	pspVCUnits   = PSPVC / 4

	pspVCBit = 0x02
	pspOne   = 0x01 // always set
)

// PSP holds the fields of one PSP header. The S and D bits have no effect here.
type PSP struct {
	NextHeader uint8
	Version    uint8
	COffset    uint8 // 4-octet units of the payload, that is behind the VC; 0 for GMAC
	VC         bool
	Len        int // octets of the header, with the VC
	SPI        uint32
	IV         uint64
}

// Parse reads the header at the start of b, which is the packet up to and
// including its ICV of icv octets. Checks come in a fixed order: length of the
// base header, version, reserved bits, header length, crypt offset.
func (h *PSP) Parse(b []byte, icv int) status.Code {
	if len(b) < PSPBase+icv {
		return status.ErrShort
	}
	h.Version = b[3] >> 2 & 0xF
	if h.Version >= PSPVersions {
		return status.ErrVersion
	}
	if b[2]&^PSPMaxOffset != 0 || b[3]&pspOne == 0 {
		return status.ErrReserved
	}
	vc := b[3] & pspVCBit >> 1
	if b[1] != 1+vc {
		return status.ErrHeaderLen
	}
	h.VC, h.Len = vc != 0, PSPBase+PSPVC*int(vc)
	if len(b) < h.Len+icv {
		return status.ErrShort
	}
	h.NextHeader = b[0]
	h.SPI = binary.BigEndian.Uint32(b[4:])
	h.IV = binary.BigEndian.Uint64(b[8:])
	h.COffset = 0
	if PSPBase+4*int(b[2])+icv > len(b) {
		return status.ErrOffset
	}
	if h.Version >= PSPGMAC {
		return status.OK // all is authenticated and nothing encrypted
	}
	// A VC that is in part encrypted is legal PSP, but not for this library.
	skip := vc * pspVCUnits
	if b[2] < skip {
		return status.ErrOffset
	}
	h.COffset = b[2] - skip
	return status.OK
}

// PSPTemplate writes a header that is complete but for next header (octet 0),
// crypt offset (octet 2) and IV (octets 8 to 15), and returns its length.
// Without a VC vc is nil.
func PSPTemplate(b *[PSPMaxHeader]byte, version uint8, spi uint32, vc *[PSPVC]byte) int {
	clear(b[:PSPBase])
	b[1] = 1
	b[3] = version&0xF<<2 | pspOne
	binary.BigEndian.PutUint32(b[4:], spi)
	if vc == nil {
		return PSPBase
	}
	b[1], b[3] = 2, b[3]|pspVCBit
	copy(b[PSPBase:], vc[:])
	return PSPMaxHeader
}

// PSPOffset returns octet 2 of a header of n octets that is not GMAC's, for a
// crypt offset in units of the payload.
func PSPOffset(coffset uint8, n int) byte { return coffset + uint8(n-PSPBase)/4 }
