package profile

import (
	"unsafe"

	"libeesp/internal/kernel"
	"libeesp/internal/keys"
	"libeesp/internal/replay"
	"libeesp/internal/status"
)

// MaxLen is the longest payload or packet in octets.
const MaxLen = 1 << 20

// Desc's Flags.
const (
	FlagIPv6      = 1 << iota // the octets in front of a tss header are IPv6's
	FlagExtension             // psp: opening leaves the header's extension in front of the payload
)

// Desc describes one packet of a burst: struct eesp_pkt of include/eesp.h,
// field by field. Out is not a pointer for Go, since the memory is C's.
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

// Lane is one packet on the general path: what the profile found in
// its header, and what the path needs beside the kernels' job. A packet is
//
//	prefix | header | payload | padding | ICV
//
// The text is the last Inner octets of the header, payload and padding. It is
// authenticated, and encrypted but for some octets in front.
type Lane struct {
	Pkt      *Desc
	Hdr      unsafe.Pointer // first octet of the header
	Prefix   uint32         // octets in front of the header that are authenticated
	HdrLen   uint32         // octets in front of the payload
	Inner    uint32
	Len      uint32 // payload octets; when opening, until Opened: with padding
	Pad      uint32 // octets of padding, when sealing
	Clear    uint32 // octets of the text in front that are not encrypted
	Skip     uint32 // of these, octets in front that are not authenticated
	KeyLen   uint8  // octets of the data key
	Retry    bool   // no Master Key Option, and Prev may be tried if the key fails
	Tunnel   bool   // eesp: the payload is to be an IP packet
	Prev     *kernel.Master
	Used     *keys.Usage    // of Prev
	Snapshot *keys.Snapshot // tss: that Parse found the key in
	Flow     replay.Key     // whose counter Seq is, if Opening's Replay asks for it
	Seq      uint64
	Time     uint64 // when it was sealed, if counters are times: 2^-28 s since 1970
}

// Failed counts a packet that was parsed and is not authentic.
func (l *Lane) Failed() { failed(l.Snapshot) }

func failed(group *keys.Snapshot) {
	if group != nil {
		group.State.Failed()
	}
}
