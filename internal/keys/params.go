package keys

import (
	"sync/atomic"

	"libeesp/internal/wire"
)

// Params are the parameters of a group, besides keys. Each profile reads some of them.
type Params struct {
	// Ahead, if not nil, gets a bit for each level whose root key ID a packet named with
	// an index ahead of the ring's (tss: bit 0, for an AN without a key): this group may
	// lack a new key. Anybody can send such packets.
	Ahead *atomic.Uint32

	Profile    uint8
	KeyLen     int             // of AEAD keys, octets
	Domain     uint32          // tss: SDI; eesp: SPI
	Mode       uint8           // tss: TSSx; eesp: SSKDF
	Draft      uint8           // eesp: 2 or 3
	Encap      uint8           // eesp: EncapX
	Versions   uint8           // psp: bit v: version v is in use
	EESP       wire.EESPFormat // eesp
	Align      int             // eesp: 4 or 8: payloads begin at a multiple of it, in octets
	RekeyMask  uint64          // tss: of the 48-bit counter
	RekeyShift uint8
	TSS        TSSParams
	Combiner   Combiner // stateless

	// Timed says that counters are the times at which packets were sealed. TimedLate says
	// that senders may have sent ahead of the clock before.
	Timed, TimedLate bool

	// Set by the profile.
	Slots int  // number of slots; 0: the group has rings at levels
	Kind  Kind // of keys in slots
	SPIs  bool // AllocSPI allocates SPIs for them

	// State is the domain's, in profile tss; nil in others.
	State *DomainState
}

// TSSParams are further parameters of a domain of profile tss.
type TSSParams struct {
	CryptOffset  uint16 // where encryption starts, in octets from the header's first; 0: behind the header
	EpochAge     uint16 // how many epochs packets may be behind the key's
	CounterLimit uint64 // counters are below it; 0: 2^48
	AuthFailures uint32 // after so many, packets are dropped; 0: never
	NoDirection  bool   // server mode: the counter's top bit does not tell the direction
}

// Kind is the algorithm of a key in a slot.
type Kind uint8

// The kinds.
const (
	CMAC     Kind = iota // AES-256-CMAC, 32 octets
	Raw                  // the AEAD key, 32 octets
	HKDF256              // HKDF-Expand with SHA-256, 32 octets
	HKDF384              // HKDF-Expand with SHA-384, 48 octets
	HKDF512              // HKDF-Expand with SHA-512, 64 octets
	Salted16             // the AEAD key, 16 octets, and 4 octets of salt
	Salted32             // the AEAD key, 32 octets, and 4 octets of salt
)

// KeyLen is the length of a key of this kind in octets, with salt.
func (k Kind) KeyLen() int {
	switch k {
	case HKDF384:
		return 48
	case HKDF512:
		return 64
	case Salted16:
		return 16 + SaltLen
	case Salted32:
		return 32 + SaltLen
	}
	return 32
}

// salt is how many octets of a key of this kind are salt.
func (k Kind) salt() int {
	if k == Salted16 || k == Salted32 {
		return SaltLen
	}
	return 0
}

// SaltLen is the length of a salt in octets, and RawLen that of the longest key with
// one.
const (
	SaltLen = 4
	RawLen  = 32 + SaltLen
)

// Encapsulation modes of a group of profile eesp.
const (
	EncapTransport = iota
	EncapTunnel
	EncapBEET
	EncapIPTFS
)

// Modes of a group of profile tss.
const (
	TSSCluster = iota
	TSSServer
	TSSDirect
)
