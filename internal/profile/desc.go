package profile

import (
	"unsafe"

	"libeesp/internal/kernel"
	"libeesp/internal/keys"
	"libeesp/internal/replay"
	"libeesp/internal/status"
	"libeesp/internal/wire"
)

// MaxLen is the longest payload or packet in octets.
const MaxLen = 1 << 20

// Desc's Flags.
const (
	FlagIPv6      = 1 << iota // tss: the prefix is that of IPv6
	FlagExtension             // psp: opening makes the header's extension part of the payload
)

// Desc describes one packet of a burst: struct eesp_pkt of include/eesp.h. Out is
// not a Go pointer, since the memory may be C's.
type Desc struct {
	Data       unsafe.Pointer
	Len        uint32
	Headroom   uint32
	Tailroom   uint32
	COffset    uint8
	IOffset    uint8
	IOVCount   uint16
	IOV        unsafe.Pointer
	Dst        unsafe.Pointer
	DstSize    uint32
	Status     status.Code
	Out        uintptr
	OutLen     uint32
	Flags      uint16
	NextHeader uint8
	Reserved   uint8
	Src        [16]byte
	DstIP      [16]byte
	ID         uint64
	TSC        uint64
	OutAddr    unsafe.Pointer // *Addr
	User       uintptr
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

// Lane is one packet on the general path: what the profile found in its header, and
// what the path needs besides the kernel's job. A packet is
//
//	prefix | header | payload | padding | ICV
//
// The body is the last Inner octets of the header, payload and padding. It is
// encrypted, except for its first Clear octets. All is authenticated, except for the
// first Skip octets of the body.
type Lane struct {
	Pkt      *Desc
	Hdr      unsafe.Pointer // first octet of the header; in opening, of its copy, see Head
	Copied   uint32         // in opening: octets that Hdr points to, at least those of a whole header
	Prefix   uint32         // octets of the prefix
	HdrLen   uint32         // octets of the header
	Inner    uint32
	Len      uint32 // payload octets; in opening, until Opened, with padding
	Pad      uint32 // octets of padding, in sealing
	Clear    uint32
	Skip     uint32
	KeyLen   uint8 // octets of the data key
	Retry    bool  // no Master Key Option, and Prev may be tried if the key fails
	Tunnel   bool  // eesp: the payload must be an IP packet
	Prev     *kernel.Master
	Used     *keys.Usage    // of Prev
	Snapshot *keys.Snapshot // tss: the one in which Parse found the key
	Flow     replay.Key     // the context in which Seq is counted, if Replay asks for it
	Seq      uint64
	Time     uint64 // when it was sealed, if counters are times: in 2^-28 s since 1970
}

// HeadRoom is how many octets of a packet are copied before its header is read: no header that is read has more.
const HeadRoom = wire.EESPMaxHeader + kernel.TagSize

// Head returns the beginning of a packet of n octets, for a codec's Parse, and the ICV's octets less those that Head
// has not: Parse counts them as if they were there. Somebody else may write where packets lie, so the header is a copy,
// and becomes the AAD.
func (l *Lane) Head(n uint32) (b []byte, icv int) {
	return unsafe.Slice((*byte)(l.Hdr), l.Copied), kernel.TagSize - int(n-l.Copied)
}

// Failed counts, for the latch of tss, a packet that was parsed and is not authentic.
func (l *Lane) Failed() { failed(l.Snapshot) }

func failed(group *keys.Snapshot) {
	if group != nil {
		group.State.Failed()
	}
}
