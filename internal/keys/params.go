package keys

import (
	"sync/atomic"

	"libeesp/internal/wire"
)

// Params are what all packets of a group have in common besides its keys; a
// profile says which of them it reads.
type Params struct {
	// Ahead, if there is one, gets a bit for each level whose root key ID a packet names with an
	// index that is ahead of the ring's (tss: bit 0, for a key number that the domain has no key of):
	// a key may have come that this group has not yet. Anybody can send such a packet.
	Ahead *atomic.Uint32

	Profile    uint8
	KeyLen     int             // of AEAD keys, octets
	Domain     uint32          // tss: SDI; eesp: SPI
	Mode       uint8           // tss: TSSx; eesp: SSKDF
	Draft      uint8           // eesp: 2 or 3
	Encap      uint8           // eesp: EncapX
	Versions   uint8           // psp: bit v: version v is in use
	EESP       wire.EESPFormat // eesp
	Align      int             // eesp: 4 or 8, where the payload begins
	RekeyMask  uint64          // tss: of the 48-bit counter
	RekeyShift uint8
	TSS        TSSParams
	Combiner   Combiner // stateless

	// Timed: counters are the times at which packets were sealed. TimedLate:
	// senders may have sent ahead of the clock before.
	Timed, TimedLate bool

	// Filled in by the profile: how many keys a group has at most, if these are
	// not the rings of profile stateless, and what is made of them.
	Slots int
	Kind  Kind
	SPIs  bool // AllocSPI gives out numbers for them

	// Domain's state, for profiles whose packets say which one they are of.
	State *DomainState
}

// TSSParams are what a domain of profile tss has besides.
type TSSParams struct {
	CryptOffset  uint16 // octets of packets that are in clear; 0: the header
	EpochAge     uint16 // epochs that packets may be behind the key's
	CounterLimit uint64 // counters are below this one
	AuthFailures uint32 // after so many, packets are dropped; 0: never
	NoDirection  bool   // server mode: no bit of the counter tells the ends apart
}

// Kind is what a key in a slot is for.
type Kind uint8

// The kinds.
const (
	CMAC     Kind = iota // AES-256-CMAC, 32 octets
	Raw                  // the AEAD key itself, 32 octets
	HKDF256              // HKDF-Expand with SHA-256, 32 octets
	HKDF384              // SHA-384, 48 octets
	HKDF512              // SHA-512, 64 octets
	Salted16             // an AEAD key itself, 16 octets, and 4 of salt
	Salted32             // 32 and 4
)

// KeyLen is the length of a key of this kind.
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

// salt is how many octets of a key of this kind are one.
func (k Kind) salt() int {
	if k == Salted16 || k == Salted32 {
		return SaltLen
	}
	return 0
}

// SaltLen is the length of a salt behind a key, and RawLen that of the longest
// key with one.
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
