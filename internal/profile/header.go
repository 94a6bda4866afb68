package profile

import (
	"unsafe"

	"libeesp/internal/kernel"
	"libeesp/internal/keys"
	"libeesp/internal/status"
	"libeesp/internal/wire"
)

// MaxHeader is the longest header that is written.
const MaxHeader = wire.StatelessMaxHeader

// MaxTail is the most that is behind a payload: padding and ICV.
const MaxTail = 3 + kernel.TagSize

// MaxFlow is the longest Flow Identifier, so that an eesp header is no longer.
const MaxFlow = 64

// MaxAAD is the longest AAD of a lane with Skip: a whole header and what
// COffset can leave in clear.
const MaxAAD = wire.StatelessMaxHeader + 255*4

// Header is the fixed part of one burst's headers. It stays valid for as long
// as sender and snapshot are the same. Begin sets all of it.
type Header struct {
	KDF
	Prefix  uint32 // of packets with Flags
	Inner   uint32
	Tail    uint32 // most octets behind the payload
	Flags   uint16 // that simple packets have
	Simple  bool   // packets are simple: they differ in length and address only
	Next    bool   // headers say which protocol the payload is of, and it may be any
	Dummies bool   // packets of no next header are dummies
	Fixed   bool   // the key-derivation input is the same for all packets of an epoch
	Mixed   bool   // packets may be of the other IP family: Turn is for these

	b    [MaxHeader]byte
	n    int
	id   uint64
	salt uint32
	at   int // something in b
	msg  [MaxBlocks * 16]byte
	of   Sealing
	snap *keys.Snapshot
}

// Len is the header's length in octets.
func (h *Header) Len() int { return h.n }

// MsgLen is the length of a packet's KDF input in octets, 0 for a expanded key.
func (h *Header) MsgLen() int { return int(h.Blocks) * 16 }

// Is reports whether h is what s.Begin would make of snap.
func (h *Header) Is(s Sealing, snap *keys.Snapshot) bool { return h.of == s && h.snap == snap }

// Other reports whether packets with these flags have another header than h,
// which Turn makes h.
func (h *Header) Other(flags uint16) bool { return h.Mixed && h.Flags^flags == FlagIPv6 }

// Turn makes h the header of packets of the other IP family.
func (h *Header) SwitchFamily() { h.of.(interface{ switchFamily(h *Header) }).switchFamily(h) }

// Forget makes h nobody's.
func (h *Header) Forget() { h.of, h.snap = nil, nil }

// write writes the template, which has at least 16 octets: whole vectors, the
// last one overlapping.
func (h *Header) write(to unsafe.Pointer) {
	from, n := unsafe.Pointer(&h.b), uintptr(h.n)
	for at := uintptr(0); at+16 < n; at += 16 {
		*(*[16]byte)(unsafe.Add(to, at)) = *(*[16]byte)(unsafe.Add(from, at))
	}
	*(*[16]byte)(unsafe.Add(to, n-16)) = *(*[16]byte)(unsafe.Add(from, n-16))
}

func (h *Header) begin() { *h = Header{Tail: kernel.TagSize, Simple: true} }

func (h *Header) ready(s Sealing, snap *keys.Snapshot) status.Code {
	h.of, h.snap = s, snap
	return status.OK
}
