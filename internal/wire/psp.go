package wire

import (
	"encoding/binary"

	"libeesp/internal/status"
)

// Lengths and limits of the PSP header.
const (
	// PSPBase is the length of the header without extension. The extension is the
	// virtualization cookie (VC) and other fields, in units of PSPUnit octets.
	PSPBase = 16
	PSPUnit = 8
	// PSPMaxExtension is the longest extension that senders write.
	PSPMaxExtension = StatelessMaxHeader - PSPBase

	// PSPPort is PSP's UDP destination port.
	PSPPort = 1000

	// PSPVersions is the number of versions; those from PSPGMAC on do not encrypt.
	PSPVersions = 4
	PSPGMAC     = 2

	// PSPMaxOffset is the greatest crypt offset, in a field of 6 bits. The offset counts
	// from the end of the base header, so an extension is part of it.
	PSPMaxOffset = 63

	// PSPVersionAt is the place of the octet with the version.
	PSPVersionAt = 3
	// PSPVersionBits are the bits of that octet that a receiver looks at: version, VC, and
	// the one that is always set.
	PSPVersionBits = 0x3f
	// PSPLenAt is the place of the header's length in units, less one.
	PSPLenAt = 1

	pspVCBit = 0x02
	pspOne   = 0x01 // always set
)

// PSP holds the fields of one PSP header. S, D and the two bits in front of the crypt
// offset are ignored.
type PSP struct {
	NextHeader uint8
	Version    uint8
	Offset     uint8 // the crypt offset: in units of 4 octets, from the end of the base header
	VC         bool  // the extension begins with a VC
	Len        int   // octets of the header, extension included
	SPI        uint32
	IV         uint64
}

// PSPVersion checks the octet at PSPVersionAt.
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
	more := b[PSPLenAt]
	if more < 1+vc {
		return status.ErrHeaderLen
	}
	h.VC, h.Len = vc != 0, PSPBase+PSPUnit*(int(more)-1)
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

// PSPReserved reports whether an SPI is not allowed: its low 31 bits are 0.
func PSPReserved(spi uint32) bool { return spi<<1 == 0 }

// PSPTemplate writes a header without next header (octet 0), crypt offset (octet 2) and IV
// (octets 8 to 15), and returns its length. ext is the extension, a multiple of PSPUnit
// octets; with vc it begins with a VC.
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
