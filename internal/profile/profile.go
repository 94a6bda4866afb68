// Package profile turns header fields into what the engine works on: which
// master key, which key-derivation input, which nonce, and where the
// authenticated and the encrypted octets are. One file per profile.
package profile

import (
	"unsafe"

	"libeesp/internal/kernel"
	"libeesp/internal/keys"
	"libeesp/internal/status"
	"libeesp/internal/wire"
)

// MaxLen is the longest payload or packet in octets.
const MaxLen = 1 << 20

// Desc describes one packet of a burst: struct eesp_pkt of include/eesp.h,
// field by field. Out is not a pointer for Go, since the memory is C's.
type Desc struct {
	Data     unsafe.Pointer
	Len      uint32
	Headroom uint32
	Tailroom uint32
	COffset  uint8
	IOffset  uint8
	IOVCount uint16
	IOV      unsafe.Pointer
	Dst      unsafe.Pointer
	DstSize  uint32
	Status   status.Code
	Out      uintptr
	OutLen   uint32
	Flags    uint32
	Src      [16]byte
	DstIP    [16]byte
	ID       uint64
	TSC      uint64
	OutAddr  unsafe.Pointer // *Addr
	User     uintptr
}

// Addr is struct eesp_addr: the addresses of the sealing side of a proxy.
type Addr struct {
	Src [16]byte
	Dst [16]byte
}

// IOV is struct eesp_iov: one segment of a chained packet.
type IOV struct {
	Base unsafe.Pointer
	Len  uintptr
}

// Lane is one packet on its way through the engine: what the profile found in
// its header and the engine needs beside the kernels' job.
type Lane struct {
	Pkt    *Desc
	Hdr    unsafe.Pointer // first octet of the header
	HdrLen uint32
	Len    uint32 // payload octets
	Clear  uint32 // payload octets in front that are not encrypted
	Skip   uint32 // of these, octets in front that are not authenticated
	KeyLen uint8  // octets of the data key
	Retry  bool   // no Master Key Option, and Prev may be tried if the key fails
	Prev   *kernel.Master
}

// Context is what a data key is derived from. Blocks is 0 where the engine
// holds the expanded data key already.
type Context struct {
	Msg    [MaxBlocks * 16]byte // CMAC input for the first block of key
	Master *kernel.Master
	Blocks int
}

// MaxBlocks is the longest CMAC input in blocks.
const MaxBlocks = 3

// CounterAt is the place in Msg of the KDF's 8-bit block counter.
const CounterAt = 0

// MaxAAD is the longest AAD of a lane with Skip: a whole header and what
// COffset can leave in clear.
const MaxAAD = wire.StatelessMaxHeader + 255*4

// Key is a data key with its context, for those who hold no master key.
type Key struct {
	V       uint8
	KeyLen  int
	Epoch   uint16
	ID      uint64
	Addr    Addr
	Options []byte // Master Key Options that go into the header
}

// Header is the fixed part of one burst's headers. It stays valid for as long
// as sender and snapshot are the same.
type Header struct {
	b      [wire.StatelessMaxHeader]byte
	n      int
	v      uint8
	id     uint64
	bits   uint16
	master *kernel.Master
	msg    [MaxBlocks * 16]byte // KDF input but for epoch and addresses
	blocks int
	of     *Sealing
	at     *keys.Snapshot
}

// Len is the header's length in octets.
func (h *Header) Len() int { return h.n }

// KeyLen is the length of the data keys in octets.
func (h *Header) KeyLen() int { return int(h.bits >> 3) }

// Fixed reports whether all packets of one epoch have the same context.
func (h *Header) Fixed() bool { return h.blocks <= 1 }

// Sealing says how a sender writes headers.
type Sealing struct {
	V       uint8
	ID      uint64
	Levels  uint8 // bit l: level l takes part; 0 = the group's default levels
	Options bool  // send Master Key Options
	Held    *Key  // a data key in place of a group
}

// Opening says what a receiver accepts.
type Opening struct {
	OwnIDs      []uint64 // sorted; packets that carry one are reflections
	TryPrevious bool
	Held        *Key
}
