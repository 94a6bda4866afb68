package keys

import "libeesp/internal/wire"

// Params are what all packets of a group have in common besides its keys; a
// profile says which of them it reads.
type Params struct {
	Profile    uint8
	KeyLen     int            // of AEAD keys, octets
	Domain     uint32         // tss: SDI; eesp: SPI
	Mode       uint8          // tss: TSSx; eesp: SSKDF
	Versions   uint8          // psp: bit v: version v is in use
	EESP       wire.EESPShape // eesp
	Align      int            // eesp: 4 or 8, where the payload begins
	RekeyMask  uint64         // tss: of the 48-bit counter
	RekeyShift uint8
	Combiner   Combiner // stateless

	// Filled in by the profile: how many keys a group has at most, if these are
	// not the rings of profile stateless, and what is made of them.
	Slots int
	Kind  Kind
	SPIs  bool // AllocSPI gives out numbers for them
}

// Kind is what a key in a slot is for.
type Kind uint8

// The kinds.
const (
	CMAC    Kind = iota // AES-256-CMAC, 32 octets
	Raw                 // the AEAD key itself, 32 octets
	HKDF256             // HKDF-Expand with SHA-256, 32 octets
	HKDF384             // SHA-384, 48 octets
	HKDF512             // SHA-512, 64 octets
)

// KeyLen is the length of a key of this kind.
func (k Kind) KeyLen() int {
	switch k {
	case HKDF384:
		return 48
	case HKDF512:
		return 64
	}
	return 32
}

// Modes of a group of profile tss.
const (
	TSSCluster = iota
	TSSServer
	TSSDirect
)
