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

// MaxTail is the most octets behind a payload: padding and ICV.
const MaxTail = 3 + kernel.TagSize

// MaxFlow is the longest Flow Identifier, in octets. With it, an eesp header is not
// longer than MaxHeader.
const MaxFlow = 64

// MaxAAD is the longest AAD of a lane with Skip: a whole header, and the octets that
// COffset can leave in clear.
const MaxAAD = wire.StatelessMaxHeader + 255*4

// Header is the common part of a burst's headers. It stays valid as long as sender
// and snapshot are the same. Begin sets all of it.
type Header struct {
	KDF
	Prefix  uint32 // octets in front of headers of packets with Flags
	Inner   uint32 // octets at the header's end that are encrypted
	Tail    uint32 // most octets behind the payload
	Flags   uint16 // of simple packets
	Simple  bool   // packets may be simple: then they differ only in length and addresses
	Next    bool   // headers carry the payload's protocol, which may be any
	Dummies bool   // packets with Next Header 59 are dummies
	Fixed   bool   // all packets of an epoch have one KDF input
	Mixed   bool   // packets may have the other IP family: see SwitchFamily

	b    [MaxHeader]byte // template
	n    int             // its length
	id   uint64
	salt uint32
	at   int // eesp: place of sequence number and IV in b
	msg  [MaxBlocks * 16]byte
	of   Sealing
	snap *keys.Snapshot
}

// Len is the header's length in octets.
func (h *Header) Len() int { return h.n }

// MsgLen is the length of a packet's KDF input in octets, 0 for a held data key.
func (h *Header) MsgLen() int { return int(h.Blocks) * 16 }

// Is reports whether h is still what s.Begin makes for snap.
func (h *Header) Is(s Sealing, snap *keys.Snapshot) bool { return h.of == s && h.snap == snap }

// Other reports whether packets with these flags have the other IP family, so that
// SwitchFamily must be called first.
func (h *Header) Other(flags uint16) bool { return h.Mixed && h.Flags^flags == FlagIPv6 }

// SwitchFamily makes h the header of packets of the other IP family.
func (h *Header) SwitchFamily() { h.of.(interface{ switchFamily(h *Header) }).switchFamily(h) }

// Forget makes h invalid, so that Begin makes it anew.
func (h *Header) Forget() { h.of, h.snap = nil, nil }

// write writes the template, of at least 16 octets, in pieces of 16, the last of
// which overlaps the one before.
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
