// Package profile turns header fields into what the engine works on: which
// key, which key-derivation input, which nonce, and where the authenticated and
// the encrypted octets are. One file per profile.
package profile

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync/atomic"
	"unsafe"

	"libeesp/internal/hkdf"
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

// Lane is one packet on its way through the engine: what the profile found in
// its header, and what the engine needs beside the kernels' job. A packet is
//
//	prefix | header | payload | padding | ICV
//
// The text is the last Inner octets of the header, payload and padding. It is
// authenticated, and encrypted but for some octets in front.
type Lane struct {
	Pkt    *Desc
	Hdr    unsafe.Pointer // first octet of the header
	Lead   uint32         // octets in front of the header that are authenticated
	HdrLen uint32         // octets in front of the payload
	Inner  uint32
	Len    uint32 // payload octets; when opening, until Opened: with padding
	Pad    uint32 // octets of padding, when sealing
	Clear  uint32 // octets of the text in front that are not encrypted
	Skip   uint32 // of these, octets in front that are not authenticated
	KeyLen uint8  // octets of the data key
	Retry  bool   // no Master Key Option, and Prev may be tried if the key fails
	Tunnel bool   // eesp: the payload is to be an IP packet
	Prev   *kernel.Master
	Used   *keys.Usage    // of Prev
	Group  *keys.Snapshot // tss: that Parse found the key in
	Flow   replay.Key     // whose counter Seq is, if Opening's Replay asks for it
	Seq    uint64
	Time   uint64 // when it was sealed, if counters are times: 2^-28 s since 1970
}

// KDF says how a data key comes of a context. All of its words count when
// contexts are compared.
type KDF struct {
	Master  *kernel.Master     // of CMAC, or
	Root    *hkdf.Expander     // of HKDF, or
	Subs    *keys.Subs         // keeps the keys that come of it, if not nil
	Usage   *keys.Usage        // counts; nil: nothing is derived
	Raw     *[keys.RawLen]byte // the data key itself, and behind it the mask; none: the engine holds it already
	Blocks  uint8              // of the message
	KeyLen  uint8              // octets of key
	Mask    uint8              // octets behind the key that are added to the nonce: 0, 4 or 12
	Counter uint8              // place in the message of the number of the output block
	Padded  bool               // the message was padded: subkey K2
	_       [3]uint8
}

// Per is the number of output blocks of a key.
func (k *KDF) Per() int { return (int(k.KeyLen) + int(k.Mask) + 15) / 16 }

// Sub is the subkey of the last block.
func (k *KDF) Sub() *[16]byte {
	if k.Padded {
		return &k.Master.K2
	}
	return &k.Master.K1
}

// Held reports whether the engine has the key already.
func (k *KDF) Held() bool { return k.Master == nil && k.Root == nil && k.Raw == nil }

// Derived counts the data key of a KDF input.
func (k *KDF) Derived(msg *[16]byte) {
	switch {
	case k.Raw != nil:
	case k.Subs == nil:
		k.Usage.Derived(1)
	case k.Root != nil:
		k.Usage.DerivedOnce(int(binary.BigEndian.Uint16(msg[:])))
	default:
		k.Usage.DerivedOnce(int(binary.BigEndian.Uint16(msg[eespSession:])))
	}
}

// Context is what a data key is derived from.
type Context struct {
	Msg [MaxBlocks * 16]byte // CMAC input for the first block of key; HKDF: two octets of info
	KDF
}

// MaxBlocks is the longest CMAC input in blocks, MaxPer the longest output.
const (
	MaxBlocks = 3
	MaxPer    = 3
)

// CounterAt is the place of the counter in inputs that are the caller's.
const CounterAt = 0

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
	Lead    uint32 // of packets with Flags
	Inner   uint32
	Tail    uint32 // most octets behind the payload
	Flags   uint16 // that plain packets have
	Plain   bool   // packets are simple: they differ in length and address only
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

// MsgLen is the length of a packet's KDF input in octets, 0 for a held key.
func (h *Header) MsgLen() int { return int(h.Blocks) * 16 }

// Is reports whether h is what s.Begin would make of snap.
func (h *Header) Is(s Sealing, snap *keys.Snapshot) bool { return h.of == s && h.snap == snap }

// Other reports whether packets with these flags have another header than h,
// which Turn makes h.
func (h *Header) Other(flags uint16) bool { return h.Mixed && h.Flags^flags == FlagIPv6 }

// Turn makes h the header of packets of the other IP family.
func (h *Header) Turn() { h.of.(interface{ turn(h *Header) }).turn(h) }

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

func (h *Header) begin() { *h = Header{Tail: kernel.TagSize, Plain: true} }

func (h *Header) ready(s Sealing, snap *keys.Snapshot) status.Code {
	h.of, h.snap = s, snap
	return status.OK
}

// Sealing is how a sender writes its packets. It does not change.
type Sealing interface {
	// Begin prepares the headers of a burst. snap is nil for a held data key.
	Begin(h *Header, snap *keys.Snapshot) status.Code
	// Fit decides about a packet that is not plain: l has Pkt and Len; Lead,
	// Pad, Clear and Skip are set.
	Fit(h *Header, l *Lane) status.Code
	// Look sees the payload of a packet where Header.Plain is false, before
	// anything is written.
	Look(l *Lane, payload unsafe.Pointer) status.Code
	// Fill writes the headers of packets that follow one another, the first
	// with tsc, the next with tsc+1, and nonces. The jobs' AAD begins with the
	// lead; what is in front of the payload follows.
	Fill(h *Header, jobs []kernel.Job, pkts []Desc, tsc, step uint64)
	// Messages writes the KDF inputs of packets that Fill was called for, room
	// octets apart. pkts may be nil where Header.Fixed is true.
	Messages(h *Header, to unsafe.Pointer, room int, jobs []kernel.Job, pkts []Desc)
	// Space names the counter space that the sender takes its counters from; an
	// asterisk at its end stands for all that begin alike.
	Space() string
	// Epochs reports whether a data key is good for one epoch only.
	Epochs() bool
	// LeadFor is the lead of a packet that a proxy makes, from its addresses.
	LeadFor(a *Addr) (lead [wire.TSSLead6]byte, n int, flags uint16)
}

// Numbered is a Sealing whose packets have no counter below First.
type Numbered interface {
	First() uint64
}

// Shared is a Sealing whose data key may be that of several IDs, which do not
// share nonces: KeySpace tells them apart.
type Shared interface {
	KeySpace() string
}

// Domain is a Sealing of a group that is in an epoch, whose counters begin anew
// with each key and epoch, and end at a limit; 0: they have none.
type Domain interface {
	CounterLimit() uint64
}

// Directed is a Sealing whose packets say by the top bit of their counter which
// way they go; is: they do.
type Directed interface {
	Direction() (is bool, bit uint8)
}

// bare is the part of a Sealing that is the same for formats with nothing in
// front of their headers, and any payload.
type bare struct{}

func (bare) LeadFor(*Addr) (lead [wire.TSSLead6]byte, n int, flags uint16) { return }

func (bare) Look(*Lane, unsafe.Pointer) status.Code { return status.OK }

// bareOpening is that part of an Opening, for formats that say which key a
// packet is of, and have no padding.
type bareOpening struct{}

func (bareOpening) Lead(p *Desc) (uint32, status.Code) {
	if p.Flags != 0 {
		return 0, status.ErrArgument
	}
	return 0, status.OK
}

func (bareOpening) Opened(*Lane, unsafe.Pointer) status.Code { return status.OK }

func (bareOpening) Retries() bool { return false }

// Opening is how a receiver reads packets. It does not change.
type Opening interface {
	// Lead is how many octets in front of a packet belong to it.
	Lead(p *Desc) (n uint32, c status.Code)
	// Parse reads the header of a packet of n octets at l.Hdr, and what follows
	// from it: the nonce and the context. snaps are the receiver's groups in
	// order.
	Parse(l *Lane, j *kernel.Job, c *Context, n uint32, snaps []*keys.Snapshot) status.Code
	// Opened looks at what an authentic packet holds: it takes Len down to the
	// payload.
	Opened(l *Lane, payload unsafe.Pointer) status.Code
	// Learn records the pattern of a packet that was parsed, if others can have
	// it.
	Learn(s *Shape, l *Lane, c *Context)
	// Match turns packets into jobs, and writes their KDF inputs, room octets
	// apart. It stops at a packet that does not match the pattern, is not
	// simple, or would be refused: Parse is for that one. Of lanes, it fills in
	// Flow and Seq if Replay asks for them. It returns how many packets it took,
	// and whether they are in order of length.
	Match(s *Shape, jobs []kernel.Job, lanes []Lane, pkts []Desc, msgs unsafe.Pointer, room int) (n int, sorted bool)
	// Retries reports whether Parse may set Retry.
	Retries() bool
}

// Shape is the pattern that most packets of one burst have in common: their
// first octets, options and keys.
type Shape struct {
	KDF
	of    Opening // nil: there is none
	word  [4]byte // the first octets
	n     uint32  // octets of the header
	at    uint32  // where the options begin
	long  bool
	flags uint16
	lead  uint32
	name  [16]byte // of the key, in Flow
	group *keys.Snapshot
	opts  [wire.Levels*wire.MaxOption + 8]byte
	msg   [MaxBlocks * 16]byte
}

// Failed counts a packet that matched the pattern and is not authentic.
func (s *Shape) Failed() { failed(s.group) }

// Failed counts a packet that was parsed and is not authentic.
func (l *Lane) Failed() { failed(l.Group) }

func failed(group *keys.Snapshot) {
	if group != nil {
		group.State.Failed()
	}
}

// Is reports whether there is a shape that packets of o have.
func (s *Shape) Is(o Opening) bool { return s.of == o && o != nil }

// MsgLen is the length of a packet's KDF input in octets.
func (s *Shape) MsgLen() int { return int(s.Blocks) * 16 }

// Begins reports whether a packet begins like those of the shape.
func (s *Shape) Begins(p *Desc) bool {
	return p.IOVCount == 0 && p.Data != nil && p.Len >= 4 && *(*[4]byte)(p.Data) == s.word
}

// Forget drops the shape.
func (s *Shape) Forget() { *s = Shape{} }

// job turns a packet that begins as the shape's do into a job, but for the
// nonce, if it is plain and would not be refused.
func (s *Shape) job(p *Desc, j *kernel.Job) bool {
	const icv = kernel.TagSize
	if p.IOVCount != 0 || p.Flags^s.flags|uint16(p.Reserved) != 0 || p.Data == nil || p.Len < s.n+icv || p.Len > MaxLen ||
		p.Headroom < s.lead || *(*uint32)(p.Data) != *(*uint32)(unsafe.Pointer(&s.word)) {
		return false
	}
	text := p.Len - s.n - icv
	src := unsafe.Add(p.Data, s.n)
	j.AAD, j.Src, j.Dst, j.Tag = unsafe.Add(p.Data, -int(s.lead)), src, src, unsafe.Add(src, text)
	j.AADLen, j.Len, j.OK = s.lead+s.n, text, 0
	if p.Dst == nil || p.Dst == src {
		return true
	}
	j.Dst = p.Dst
	d := uintptr(p.Dst) - uintptr(j.AAD) // behind all of it, or as far in front
	return p.DstSize >= text && d >= uintptr(s.lead+p.Len) && -d >= uintptr(text)
}

// SenderConfig is what a sender's packets are like.
type SenderConfig struct {
	V       uint8
	ID      uint64
	Levels  uint8    // bit l: level l takes part; 0 = the group's default levels
	Options bool     // send Master Key Options
	Extra   []byte   // psp: VC and other extension fields; eesp: Flow Identifier
	NoVC    bool     // psp: Extra does not begin with a VC
	FromIV  bool     // psp: packets' COffset counts from the end of the IV, not of Extra
	Key     *DataKey // in place of a group

	EngineBits uint8 // of the counter
}

// OwnIDs are the IDs that a receiver's end sends with. They may change at any time.
type OwnIDs struct{ sorted atomic.Pointer[[]uint64] }

// NewOwnIDs makes such a list.
func NewOwnIDs(ids []uint64) *OwnIDs {
	o := new(OwnIDs)
	o.Set(ids)
	return o
}

// Set puts others in force.
func (o *OwnIDs) Set(ids []uint64) {
	l := slices.Clone(ids)
	slices.Sort(l)
	o.sorted.Store(&l)
}

// List is the IDs in rising order, which do not change.
func (o *OwnIDs) List() []uint64 {
	if o == nil {
		return nil
	}
	return *o.sorted.Load()
}

// ReceiverConfig is what a receiver accepts.
type ReceiverConfig struct {
	Own         *OwnIDs // packets that carry one are reflections; nil: there are none
	TryPrevious bool
	Replay      bool     // tell Flow, Seq and Time
	EngineBits  uint8    // of senders' counters
	Key         *DataKey // in place of groups
}

// Profile is one packet format.
type Profile interface {
	Name() string
	// Prepare checks a group's parameters and fills in what follows from them.
	Prepare(p *keys.Params) error
	// Sealing and Opening make the two sides; p is nil where the configuration
	// has a data key.
	Sealing(p *keys.Params, c *SenderConfig) (Sealing, error)
	Opening(p *keys.Params, c *ReceiverConfig) (Opening, error)
	// KeyOctets is the length of what is derived for a context: the key, and
	// what is added to nonces.
	KeyOctets(p *keys.Params) int
	// Resolve finds the key of a context, and its KDF input.
	Resolve(s *keys.Snapshot, k *KeyContext, c *Context) status.Code
	// Export fills in what goes with a data key of a context that Resolve found,
	// or says why there is none.
	Export(s *keys.Snapshot, k *KeyContext, options bool, d *DataKey) status.Code
	// Check looks at a data key from outside.
	Check(d *DataKey) status.Code
}

// The profiles, by their numbers in the C ABI.
var profiles = [...]Profile{0: stateless{}, 1: psp{}, 2: tss{}, 3: eesp{}}

// errNoLevels is for what goes with root keys at levels only.
var errNoLevels = fmt.Errorf("%w: this profile has no root keys at levels: no levels, options, or previous keys", status.ErrArgument)

// Of returns the profile of that number.
func Of(n uint8) (Profile, error) {
	if int(n) >= len(profiles) || profiles[n] == nil {
		return nil, fmt.Errorf("%w: profile %d", status.ErrArgument, n)
	}
	return profiles[n], nil
}

// KeyContext is struct eesp_context: what a data key depends on besides keys.
type KeyContext struct {
	ID         uint64
	Epoch      uint16
	V          uint8
	Levels     uint8 // bit l: level l; 0 = the group's default
	Generation uint8 // 0 current, 1 previous, 2 next
	Reserved   [3]uint8
	Addr       Addr
}

// DataKey is struct eesp_data_key.
type DataKey struct {
	ID         uint64
	Epoch      uint16
	V          uint8
	KeyLen     uint8
	OptionsLen uint8
	Profile    uint8
	Params     [2]uint8 // of the group, what the holder has to know
	Addr       Addr
	Key        [32]byte
	Options    [wire.Levels * wire.MaxOption]byte // stateless: Master Key Options
	Domain     uint32
}

// Mask is what of Options is added to nonces.
func (d *DataKey) Mask() []byte {
	if d.Profile == 0 {
		return nil
	}
	return d.Options[:d.OptionsLen]
}

// split takes the engine's number out of a counter: what is left counts the
// packets of one engine.
func split(tsc uint64, engineBits uint8) (seq uint64, engine uint32) {
	return tsc >> (engineBits & 63), uint32(tsc) & (1<<(engineBits&63) - 1)
}
