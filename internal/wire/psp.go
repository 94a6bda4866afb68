package wire

import (
	"encoding/binary"

	"libeesp/internal/status"
)

// Lengths and limits of the PSP header.
const (
	// PSPBase is the header without extension: the virtualization cookie (VC)
	// and other fields, which come in units of PSPUnit octets.
	PSPBase = 16
	PSPUnit = 8
	// PSPMaxExtension is the longest extension that is written.
	PSPMaxExtension = StatelessMaxHeader - PSPBase

	// PSPPort is PSP's UDP destination port.
	PSPPort = 1000

	// PSPVersions is the number of versions; those from PSPGMAC on do not encrypt.
	PSPVersions = 4
	PSPGMAC     = 2

	// PSPMaxOffset is the greatest crypt offset of the 6-bit field. It counts
	// from behind the base header, so that an extension takes part of it.
	PSPMaxOffset = 63

	// PSPVersionAt is the octet that has the version.
	PSPVersionAt = 3
	// PSPVersionBits are those of it that version and VC are in, and the one that is set.
	PSPVersionBits = 0x3f
	// PSPLenAt is the octet that has the header's length, less one unit.
	PSPLenAt = 1

	pspVCBit = 0x02
	pspOne   = 0x01 // always set
)

// PSP holds the fields of one PSP header. The S and D bits have no effect here,
// nor have the two bits in front of the crypt offset.
type PSP struct {
	NextHeader uint8
	Version    uint8
	Offset     uint8 // the crypt offset: 4-octet units from behind the base header
	VC         bool  // the extension begins with one
	Len        int   // octets of the header, with its extension
	SPI        uint32
	IV         uint64
}

// PSPVersion is what the octet at PSPVersionAt says of a header.
func PSPVersion(b byte) status.Code {
	switch {
	case b>>2&0xF >= PSPVersions:
		return status.ErrVersion
	case b&pspOne == 0:
		return status.ErrReserved
	}
	return status.OK
}

// Parse reads the header at the start of b, which is the packet up to and
// including its ICV of icv octets. Checks come in a fixed order: length of the
// base header, version, reserved bit, header length, crypt offset.
func (h *PSP) Parse(b []byte, icv int) status.Code {
	if len(b) < PSPBase+icv {
		return status.ErrShort
	}
	if c := PSPVersion(b[PSPVersionAt]); c != status.OK {
		return c
	}
	h.Version = b[PSPVersionAt] >> 2 & 0xF
	vc := b[3] & pspVCBit >> 1
	if b[PSPLenAt] < 1+vc {
		return status.ErrHeaderLen
	}
	h.VC, h.Len = vc != 0, PSPBase+PSPUnit*(int(b[PSPLenAt])-1)
	if len(b) < h.Len+icv {
		return status.ErrShort
	}
	h.NextHeader = b[0]
	h.SPI = binary.BigEndian.Uint32(b[4:])
	h.IV = binary.BigEndian.Uint64(b[8:])
	h.Offset = b[2] & PSPMaxOffset
	if PSPBase+4*int(h.Offset)+icv > len(b) {
		return status.ErrOffset
	}
	return status.OK
}

// PSPReserved reports whether an SPI is none: its low 31 bits are never 0.
func PSPReserved(spi uint32) bool { return spi<<1 == 0 }

// PSPTemplate writes a header that is complete but for next header (octet 0),
// crypt offset (octet 2) and IV (octets 8 to 15), and returns its length. ext is
// a multiple of PSPUnit octets, which begin with a VC if vc.
func PSPTemplate(b *[StatelessMaxHeader]byte, version uint8, spi uint32, vc bool, ext []byte) int {
	clear(b[:PSPBase])
	b[1] = 1 + uint8(len(ext)/PSPUnit)
	b[3] = version&0xF<<2 | pspOne
	if vc {
		b[3] |= pspVCBit
	}
	binary.BigEndian.PutUint32(b[4:], spi)
	return PSPBase + copy(b[PSPBase:], ext)
}
