// Package plan holds a profile's decisions about ordinary packets, as plain
// data: how a sender's packets are written, and what packets a receiver may open
// look like. The executor (libeesp/direct.c) follows a plan and knows no
// profile. It takes the packets that the plan covers and leaves all others to
// the general path. C shares the layouts (libeesp/plan.h).
//
// A plan belongs to one sender or receiver. A new one is made when keys change;
// a published plan does not change. Its pointers are addresses of locked memory,
// or of memory that is pinned while the plan may be used.
package plan

import (
	"encoding/binary"
	"math/bits"
	"runtime"
	"unsafe"

	"libeesp/internal/status"
)

// MaxHeader is the longest header that a plan covers.
const MaxHeader = 128

// Pick says where the octets of a vector come from: octet i is the Pick[i]th of
// another vector, or zero where Pick[i] is None.
type Pick [16]uint8

// None in a Pick stands for a zero octet. As the place of a field it means that
// there is no such field.
const None = 0x80

// NoPick picks nothing.
var NoPick = Pick{None, None, None, None, None, None, None, None, None, None, None, None, None, None, None, None}

// Copy returns p with n octets more: those at "to" come from those at from.
func (p Pick) Copy(to, from, n int) Pick {
	for i := range n {
		p[to+i] = uint8(from + i)
	}
	return p
}

// Copy copies octets to place To of a KDF input.
type Copy struct {
	From int16
	What CopySource
	To   uint8
}

// CopySource says what a Copy copies, and from where From counts.
type CopySource uint8

// The sources.
const (
	CopyPacket  CopySource = iota // 16 octets of the packet; From counts from its header
	CopyDesc                      // 16 octets of the descriptor; From counts from its addresses
	CopyPacket4                   // 4 octets of a packet to be sealed; From counts from its header
)

// Split takes the engine's number out of a counter. The other bits count the
// packets of one engine.
type Split struct {
	Mask       uint64 // bits of the packet's number, before Shift
	EngineMask uint64 // bits of the engine's number
	Shift      uint8
	_          [7]uint8
}

// Unwrap says how a decrypted body becomes the payload.
type Unwrap uint8

// The forms of a body.
const (
	Bare   Unwrap = iota // the payload
	Info                 // a Payload Info Header, the payload, padding
	InfoIP               // the same, where the payload must be an IP packet
	Only                 // an IP packet, padding
)

// Odd selects how to read odd headers: those that differ from what this library's senders
// write. They come from other implementations, or are forged.
type Odd uint32

// The values of Odd.
const (
	OddNone      Odd = iota
	OddExtension     // longer by a multiple of 8 octets; part of the payload may be in clear
	OddKeys          // other padding behind the options that name keys; part of the payload may be in clear
	OddOptions       // any options behind the base header; part of the payload may be in clear
	OddDomain        // as written, but of the wrong direction, or with what only a Loose plan covers
)

// Layout is a form of headers: where fields are, and what is compared.
type Layout struct {
	Word      uint32 // the first four octets, under Open.WordMask; AddLayout adds Flags
	Flags     uint32 // of the descriptor, followed by zeros for the octets behind them
	N         uint16 // octets of the header
	Prefix    uint16 // authenticated octets in front of the header
	Vectors   uint8  // 16-octet pieces of the header that are compared
	Copies    uint8
	IDShift   uint8
	FlowLen   uint8 // octets of address that tell windows apart: 0, 4, 16, 32
	FlowDesc  uint8 // 1: these are in the descriptor
	NextAt    uint8 // place of the payload's protocol; None: nowhere
	simple    uint8 // how KDF inputs vary. 1: one block, by Picks; 2: the first block by Picks and RekeyMask, a second one not; 0: otherwise
	numbers   uint8 // 1: IDs or counters must be checked: some are in no packet
	IDAt      int16
	SourceAt  int16 // place of the 16 octets that MsgSource, NonceSource and NonceMore take from
	TSCAt     int16
	ProbeAt   int16
	FlowAt    int16
	RekeyAt   uint8 // place in the KDF input
	RekeyBits uint8 // by how many bits a counter is shifted right
	IDMask    uint64
	ProbeMask uint64
	RekeyMask uint64 // bits of the counter that are in the KDF input; 0: none
	EpochMask uint64 // of the epoch, where each epoch has its own windows
	IDNeed    uint64 // no packet has an ID with ID & IDNeed == IDNever
	IDNever   uint64
	TSCNever  uint64 // no packet has this number; 0xffffffffffffffff: all are allowed
	TailAt    int16  // place of the 16 octets that MsgTail and NonceTail take from, mostly TSCAt - 8
	Inner     uint8  // encrypted octets between the header and the payload
	Unwrap    Unwrap
	Ages      uint8 // 1: packets may be too old by their epoch: Pattern.Epoch and Age
	LeastMore uint8 // the least value at MoreAt
	Missing   int8  // of a Loose plan: the status of packets that no pattern fits, or whose number is in no packet
	Moves     uint8 // 1: counter and nonce are further back by the octets that a header has beyond N
	Copy      [2]Copy

	// Of a Loose plan. The octet at MoreAt, less 1, is by how many times 8 octets the
	// header is longer than N. The one at ClearAt, under ClearMask, is how many times
	// 4 octets behind N encryption begins. AllClear is 1 where nothing is encrypted.
	MoreAt    uint8
	ClearAt   uint8
	ClearMask uint8
	AllClear  uint8

	Mask                              [MaxHeader]byte // what is compared
	MsgSource, MsgTail                Pick
	NonceSource, NonceMore, NonceTail Pick

	wide

	// Of a Loose plan with OddDomain, except for DirectionMask and Direction.
	Begin         uint16 // where encryption begins, in octets from the header on; 0: behind the header
	DirectionMask uint8  // bits of the counter's first octet behind the epoch that tell a packet's direction
	Direction     uint8  // the direction of packets to this end
	WhoAt         int8   // place of the address that must be the Pattern's Addr
	WhoLen        uint8  // its length; 0: none
	Unusable      int8   // the status of all packets; 0: they can be opened

	Keeps     Keeps
	ProbeMore uint8 // so many groups of 8 octets, before the header's last 8, are hashed with those at ProbeAt
}

// Keeps says when fields of the header are read from the copy that becomes the AAD, to which no
// other party can write.
type Keeps uint8

const (
	KeepsNever   Keeps = iota
	KeepsCounted       // with windows or times, which depend on fields that are not in nonce and KDF input
	KeepsAlways        // fields that are not in nonce and KDF input are reported, or say how the header is read
)

// wide is the Layout for processors with vectors of 64 octets, which take all
// fields out of a header with one permutation (widen).
type wide struct {
	load          uint64    // bit i: octet i of the header is read to compare it, of the first 64
	front, behind uint64    // bit i: octet i of the 64 from at on, and of the next 64, is read
	picked, again uint64    // bit i: octet i of pick, and of pick2, picks something
	odd           uint64    // 1: load and front do not say all, or an octet is picked twice
	whole         uint64    // 1: KDF inputs vary by pick and pickAddr alone, whatever simple says
	ofAddr        uint64    // bit i: octet i of pickAddr picks something
	at            int64     // from the header on, 0 or less
	compared      [64]byte  // the first 64 octets of Mask
	pick, pick2   [64]byte  // places in front and behind of: nonce, KDF input, ID and TSC, who (libeesp/refuse.h), the payload's protocol
	kept          [64]byte  // bits of these that are used
	pickAddr      [64]byte  // places in the descriptor's addresses of: octets 16 to 47 of the KDF input, and its first 16
	usual         [64]byte  // what usual packets' descriptors have in of_descriptor (libeesp/headers.h)
	lengths       [4]uint32 // of a job: its AAD's, and zeros
}

// Pattern is a value that headers of a Layout have under its mask, and the key
// that such headers name.
type Pattern struct {
	Value       [MaxHeader]byte
	Nonce, msg  [16]byte // nonce and KDF input, but for the packet's octets, which are added
	_           [18]byte
	Kind        uint16 // added, with the zeros around it, to a replay.Key's Epoch, Kind and Engine
	_           [12]byte
	more        [2][16]byte // further blocks of the KDF input
	Master, Sub uintptr     // of CMAC; 0: Area has the key
	Area        uintptr     // of expanded keys
	Name        [2]uint64   // of the key, for windows
	Hash        uint64      // of Name, for windows
	Usage       uintptr     // counts of the key: keys.UsageWords; 0: none
	Next        uint32      // the next pattern of the bucket, as in Open.Bucket
	Batch       uint16      // equal for patterns whose keys are derived together
	Blocks      uint8       // of a KDF input
	KeyLen      uint8       // octets of the data key
	Counter     uint8       // place in the KDF input of the number of the output block
	Mask        uint8       // octets behind a key that are added to the nonce
	Layout      uint16      // number of the Layout
	stride      uint16      // octets from one packet's KDF input to the next one's
	MostClear   uint8       // OddOptions: the greatest crypt offset, in units of 4 octets; 0: none is allowed
	Flow        uint8       // OddOptions: 1: headers may have a Flow Identifier
	form        uintptr     // address of the Layout
	Addr        [32]byte    // of an expanded key: the addresses that descriptors must have
	Subs        uintptr     // keys.Subs: by ID, 1 + the place of the key in Area; 0: Area has one key
	SubCount    uint64      // IDs are below it
	Tally       uintptr     // counts besides the receiver's; 0: none
	Epoch       uint16      // of layouts with Ages: the key's epoch
	Age         uint16      // and how many epochs behind it packets may be
	_           uint32
	Latch       uintptr // of a Loose plan: keys.DomainState's latch; 0: none
	previous    uintptr // address of the pattern to be tried if a packet is not authentic; 0: none
}

// Kind says what all packets of a plan have in common. The executor is compiled for each kind.
type Kind uint8

const (
	KindAny    Kind = iota
	KindBare        // bodies are payloads, headers have no prefix, and no key is in an area
	KindSubs        // keys are those of Sub SAs; bodies have a head or are IP packets; no prefix
	KindSerial      // keys are derived; headers have a prefix, and epochs that age
)

// Open is a receiver's plan.
type Open struct {
	Direct       uintptr // kernel.Direct
	Layouts      uintptr
	Patterns     uintptr
	LayoutByWord uintptr // by a hash of the first word: 1 + number of the layout; 0: none
	Bucket       uintptr // by a hash of word and probe: the first pattern, in octets from Patterns on; 0: none
	OwnIDs       uintptr // a hash table; 0: there are none
	Windows      uintptr // replay.View; 0: there is none
	By           uintptr // statistics: packets by status
	TallyOf      uintptr // by status: which count of a Tally it is; 0: none
	Octets       uintptr // statistics: octets of output
	OwnMask      uint64
	OwnFree      uint64 // what free places of OwnIDs hold: no own ID
	ownSome      uint64 // a bit for the last six bits of each own ID
	Split        Split

	WordMask    uint32
	WordFactor  uint32
	BucketShift uint32
	kind        Kind
	extras      uint8   // 1: there are windows, times or own IDs
	held        uint8   // 1: some keys are in areas
	Wide        uint8   // kernel.Direct's, if all layouts have a wide form
	Times       uintptr // fresh.View; 0: there is none
	Strangers   uintptr // burst's strangers
	loose       uintptr
	Shares      uintptr // keys.Shares of By's first count and of Octets
	Refused     uintptr // burst's refusals: shares of By's other counts
	Kept        uintptr // derived keys, for each thread with a share; 0: they are not kept
	Odd         Odd     // how to read headers that no pattern fits
	nLayouts    uint32
	Missing     int8   // status of packets whose key is not in the plan; 0: the general path takes them
	MissingBare int8   // OddKeys: the same for packets without options that name keys
	Ahead       uint8  // 1: the general path takes a packet with a missing key now and then, to ask the agent for newer keys
	retries     uint8  // 1: some patterns have a previous one
	size        uint32 // octets of all patterns

	Screen

	// Loose is a plan for packets that this one does not cover: with headers of any
	// length, and payloads partly in clear. nil: there is none.
	Loose *Open

	Own []uint64 // own IDs: packets with one are reflections

	Unlike bool // AddLayout has seen two layouts with one Word

	keep
	cut          bool        // some layouts or patterns had no room
	previous     map[int]int // by number of a pattern, that of AddPrevious
	keyNames     []uint32
	domains      []Domain
	layouts      []Layout
	patterns     []Pattern
	layoutByWord []uint8
	bucket       []uint32
	own          []uint64
	batches      map[batch]uint16
	alike        []uint32 // before Finish, by a hash: the last pattern; Next leads to others
}

// Screen tells by the first octets which packets are not for this receiver, so
// that a flood of noise costs little. A packet that passes may still be refused
// later. Octets are numbered from 0.
type Screen struct {
	First    [256]int8  // by the octet at FirstAt: the packet's status; 0: it passes
	Second   [256]int8  // the same, then, by octet 1 of the header
	More     [256]uint8 // by octet 1: how many times 8 octets longer than Least a packet must be
	Third    [256]int8  // the same as Second, by the octet at ThirdAt, if the header reaches that far
	ThirdAt  [256]uint8 // by octet 1; 0: it passes
	Prefix   [4]uint8   // by the descriptor's flags: octets of the prefix; None: it passes
	Zero     uint32     // reserved bits of octet 2
	Least    uint32     // octets of the shortest packet, with ICV
	FirstAt  uint32
	NameAt   uint32  // place of the four octets that name the key
	NameMask uint32  // which bits of them do, in memory order; 0: none
	names    uint64  // number of Names
	nDomains uint64  // number of Domains
	Names    uintptr // names of the keys that are here
	Domains  uintptr // domains that count packets; the first counts those of no other domain, too
}

// Domain is a number of 24 bits in octets 1 to 3 of packets, and the counts of
// their statuses.
type Domain struct {
	Number    uint32
	Reflected uint32  // which count reflected packets are
	Tally     uintptr // 0: they are not counted
}

// Screens sets the length of the shortest packet, with ICV, and the statuses by
// the octet at "at".
func (o *Open) Screens(least, at int, first func(byte) status.Code) {
	o.Least, o.FirstAt = uint32(least), uint32(at)
	for b := range o.First {
		o.First[b] = int8(first(byte(b)))
	}
	o.Prefix = [4]uint8{0, None, None, None}
}

// AddName adds the name of a key, in memory order; bits outside NameMask do not
// matter.
func (o *Open) AddName(name uint32) { o.keyNames = append(o.keyNames, name&o.NameMask) }

// AddDomain adds a domain. C looks for them by number, but for the first.
func (o *Open) AddDomain(d Domain) {
	i := len(o.domains)
	o.domains = append(o.domains, d)
	for ; i > 1 && o.domains[i-1].Number > d.Number; i-- {
		o.domains[i] = o.domains[i-1]
	}
	o.domains[i] = d
}

type batch struct {
	master, sub, area    uintptr
	blocks, keyLen, mask uint8
	last                 [16]byte // the last block of KDF inputs, if it is equal for all packets
}

// keep holds the memory that a plan's addresses point to.
type keep struct {
	pin  runtime.Pinner
	also []func()
}

const (
	layoutBits  = 10 // of LayoutByWord
	alikeBits   = 12
	maxLayouts  = 128
	maxPatterns = 1 << 15 // more than 64 groups with all selections of root keys have
)

// NewOpen begins a plan whose layouts are told apart by their first four octets
// under wordMask.
func NewOpen(wordMask uint32) *Open {
	o := &Open{WordMask: wordMask, patterns: make([]Pattern, 1), batches: map[batch]uint16{}, previous: map[int]int{}, alike: make([]uint32, 1<<alikeBits)}
	for i := range o.patterns[0].Value { // pattern 0 stands for none: no header equals it
		o.patterns[0].Value[i] = 0xff
	}
	return o
}

// flagsFactor spreads the descriptor's flags in Layout.Word, so that equal headers
// with different flags have different layouts.
const flagsFactor = 0x85EBCA6B

// AddLayout adds a layout and returns its number. It returns false if there are
// too many layouts, or if another one has the same Word.
func (o *Open) AddLayout(s *Layout) (int, bool) {
	s.Vectors = uint8((s.N + 15) / 16)
	s.Word += s.Flags & (1<<16 - 1) * flagsFactor
	if s.numbers = 1; s.IDNeed == 0 && s.IDNever != 0 && s.TSCNever == ^uint64(0) {
		s.numbers = 0
	}
	for i := range o.layouts {
		if x := o.layouts[i]; x.Word == s.Word {
			x.simple = s.simple
			o.Unlike = o.Unlike || x != *s
			return i, x == *s
		}
	}
	if len(o.layouts) == maxLayouts {
		o.cut = true
		return 0, false
	}
	o.layouts = append(o.layouts, *s)
	return len(o.layouts) - 1, true
}

// Add adds a pattern, unless an earlier one takes the same packets or there are
// too many.
func (o *Open) Add(layout int, p *Pattern) {
	s := &o.layouts[layout]
	for i := range p.Value {
		p.Value[i] &= s.Mask[i]
	}
	if len(o.patterns) == maxPatterns {
		o.cut = true
		return
	}
	alike := &o.alike[s.probe(p.Value[:])>>(64-alikeBits)]
	for i := *alike; i != 0; i = o.patterns[i].Next {
		if q := &o.patterns[i]; int(q.Layout) == layout && q.Value == p.Value {
			return
		}
	}
	p.Next, *alike = *alike, uint32(len(o.patterns))
	s.simple = 0
	switch {
	case s.Copies != 0 || p.Blocks > 2 || p.Blocks == 2 && p.KeyLen != 32 || s.RekeyMask != 0 && s.RekeyAt > 12: // a later block varies, too
	case p.Blocks == 2 || s.RekeyMask != 0:
		s.simple = 2
	default:
		s.simple = 1
	}
	b := batch{p.Master, p.Sub, p.Area, p.Blocks, p.KeyLen, p.Mask, [16]byte{}}
	if s.simple == 2 && p.Blocks == 2 {
		b.last = p.more[0]
	}
	if _, ok := o.batches[b]; !ok {
		o.batches[b] = uint16(len(o.batches))
	}
	p.Batch, p.Layout = o.batches[b], uint16(layout)
	o.patterns = append(o.patterns, *p)
}

// AddPrevious gives the last pattern another one to be tried if a packet is not authentic. No
// header matches the other one by itself.
func (o *Open) AddPrevious(layout int, p *Pattern) {
	n := len(o.patterns)
	for i := range p.Value {
		p.Value[i] = 0xff
	}
	if o.Add(layout, p); len(o.patterns) > n {
		o.previous[n-1] = n
	}
}

// bucketFactor is the factor of multiplicative hashes.
const bucketFactor = 0x9E3779B97F4A7C15

func (s *Layout) probe(header []byte) uint64 {
	x, f := binary.NativeEndian.Uint64(header[s.ProbeAt:])&s.ProbeMask, uint64(bucketFactor)
	x = (x ^ uint64(s.Word)) * f
	for i := range int(s.ProbeMore) {
		f += 2 * bucketFactor & (1<<64 - 1) // multiples, so that octets in other places count differently
		x += binary.NativeEndian.Uint64(header[int(s.N)-16-8*i:]) * f
	}
	return x
}

// Finish builds the plan's tables and pins its memory. It reports whether the plan
// covers any packet.
func (o *Open) Finish() bool {
	if l := o.Loose; l != nil && l.Finish() {
		o.loose = uintptr(unsafe.Pointer(l))
		o.Also(l.Free)
	}
	if len(o.patterns) == 1 && o.loose == 0 {
		return false
	}
	o.nLayouts = uint32(len(o.layouts))
	if o.Odd != OddNone && o.Loose == nil {
		o.loose = uintptr(unsafe.Pointer(o))
	}
	if o.cut {
		o.Missing, o.MissingBare = 0, 0
	}
	o.layoutByWord = make([]uint8, 1<<layoutBits)
	factor := uint32(0x9E3779B1)
	for !o.index(factor) {
		factor += 0x6D2B79F6 // even: it stays odd
	}
	o.WordFactor = factor
	o.BucketShift = 64 - uint32(bits.Len(uint(2*len(o.patterns))))
	o.bucket = make([]uint32, 1<<(64-o.BucketShift))
	for i := len(o.patterns) - 1; i > 0; i-- {
		p := &o.patterns[i]
		at := &o.bucket[o.layouts[p.Layout].probe(p.Value[:])>>o.BucketShift]
		p.Next, *at = *at, uint32(uintptr(i)*unsafe.Sizeof(*p))
	}
	if own := o.Own; len(own) != 0 {
		size := 1 << bits.Len(uint(4*len(own)))
		o.own, o.OwnMask = make([]uint64, size), uint64(size-1)
		is := map[uint64]bool{}
		for _, id := range own {
			is[id] = true
		}
		for is[o.OwnFree] {
			o.OwnFree++
		}
		for i := range o.own {
			o.own[i] = o.OwnFree
		}
		for id := range is {
			o.ownSome |= 1 << (id & 63)
			hi, lo := bits.Mul64(id, bucketFactor)
			at := (hi ^ lo) & o.OwnMask
			for o.own[at] != o.OwnFree {
				at = (at + 1) & o.OwnMask
			}
			o.own[at] = id
		}
		o.OwnIDs = hold(&o.pin, o.own)
	}
	for i := range o.patterns[1:] {
		if o.patterns[i+1].Area != 0 {
			o.held = 1
		}
	}
	if o.Windows != 0 || o.Times != 0 || len(o.Own) != 0 {
		o.extras = 1
	}
	for len(o.keyNames)%4 != 0 { // C reads vectors
		o.keyNames = append(o.keyNames, o.keyNames[0])
	}
	if o.names = uint64(len(o.keyNames)); o.names != 0 {
		o.Names = hold(&o.pin, o.keyNames)
	}
	if o.nDomains = uint64(len(o.domains)); o.nDomains != 0 {
		o.Domains = hold(&o.pin, o.domains)
	}
	if len(o.layouts) == 0 { // hold needs one; nothing leads to it
		o.layouts = make([]Layout, 1)
	}
	for i := range o.layouts {
		if !o.layouts[i].widen(o) {
			o.Wide = 0
		}
	}
	o.kind = o.kindOf()
	o.Layouts, o.Patterns = hold(&o.pin, o.layouts), hold(&o.pin, o.patterns)
	for i := range o.patterns[1:] {
		p := &o.patterns[i+1]
		p.form = o.Layouts + uintptr(p.Layout)*unsafe.Sizeof(Layout{})
		if n := o.previous[i+1]; n != 0 {
			p.previous, o.retries = o.Patterns+uintptr(n)*unsafe.Sizeof(*p), 1
		}
		p.finish(&o.layouts[p.Layout])
	}
	o.size = uint32(uintptr(len(o.patterns)) * unsafe.Sizeof(Pattern{}))
	o.LayoutByWord, o.Bucket = hold(&o.pin, o.layoutByWord), hold(&o.pin, o.bucket)
	o.batches, o.alike = nil, nil
	o.pin.Pin(unsafe.Pointer(o))
	return true
}

// finish sets what depends on the layout. The executor adds octets of addresses where
// others copy them, so these must be zero.
func (p *Pattern) finish(s *Layout) {
	p.stride = uint16(p.KeyLen+p.Mask+15) / 16 * uint16(p.Blocks) * 16
	if s.simple == 2 && p.Blocks == 2 { // the second block is in none of them
		p.stride = 32
	}
	for i := range 48 {
		if s.ofAddr>>i&1 == 0 {
			continue
		}
		if i < 32 {
			p.more[i/16][i%16] = 0
		} else {
			p.msg[i-32] = 0
		}
	}
}

// kindOf finds out what all patterns of the plan have in common.
func (o *Open) kindOf() Kind {
	isBare, isSubs, isSerial := true, true, true
	for i := range o.patterns[1:] {
		p := &o.patterns[i+1]
		s := &o.layouts[p.Layout]
		payload := s.Inner == 0 && s.Unwrap == Bare && p.Area == 0
		plain := s.odd == 0 && s.kept[56] == 0 // the first 64 octets say all, but no protocol
		isBare = isBare && payload && s.Prefix == 0 && s.IDMask == ^uint64(0)
		isSerial = isSerial && payload && plain && s.numbers == 0
		isSubs = isSubs && plain && s.Keeps == 0 && p.Subs != 0 && s.Unwrap != Bare && s.Prefix == 0 && s.Ages == 0 && s.FlowLen == 0 &&
			[8]byte(s.kept[48:]) == [8]byte{} && s.IDNeed == 0 && s.IDNever != 0 && s.TSCNever == 0
	}
	switch {
	case isBare:
		return KindBare
	case isSubs:
		return KindSubs
	case isSerial:
		return KindSerial
	}
	return KindAny
}

// index fills layoutByWord with this factor of the hash, and reports whether no
// two layouts have one place.
func (o *Open) index(factor uint32) bool {
	clear(o.layoutByWord)
	for i := range o.layouts {
		at := &o.layoutByWord[o.layouts[i].Word*factor>>(32-layoutBits)]
		if *at != 0 {
			return false
		}
		*at = uint8(i + 1)
	}
	return true
}

// widen fills in wide, and reports whether the layout has a wide form.
func (s *Layout) widen(o *Open) bool {
	var word [4]byte
	binary.NativeEndian.PutUint32(word[:], o.WordMask)
	for i, b := range word { // a header that equals a pattern must have its layout's Word
		if s.Mask[i]&b != b {
			return false
		}
	}
	// Octet i of the result is the header's octet at from[i][0], plus (xor) the one
	// at from[i][1].
	const none = -1 << 15
	var from [64][2]int
	for i := range from {
		from[i] = [2]int{none, none}
	}
	put := func(i, at int) {
		k := 0
		if from[i][0] != none {
			k = 1
		}
		from[i][k], s.kept[i] = at, 0xff
	}
	for i := range 16 {
		for _, p := range []struct {
			to, of int
			how    *Pick
		}{{0, int(s.SourceAt), &s.NonceSource}, {0, int(s.SourceAt), &s.NonceMore}, {0, int(s.TailAt), &s.NonceTail},
			{16, int(s.SourceAt), &s.MsgSource}, {16, int(s.TailAt), &s.MsgTail}} {
			if x := p.how[i]; x != None {
				put(p.to+i, p.of+int(x))
			}
		}
	}
	keep := func(i int, mask uint64) {
		for b := range 8 {
			if s.kept[i+b] != 0 {
				s.kept[i+b] = byte(mask >> (8 * b))
			}
		}
	}
	for b := range 8 - int(s.IDShift)/8 {
		put(32+b, int(s.IDAt)+7-int(s.IDShift)/8-b)
	}
	keep(32, s.IDMask)
	for b := range 8 {
		put(40+b, int(s.TSCAt)+7-b)
	}
	engine := o.Split.EngineMask
	if o.Times != 0 {
		engine = 0
	}
	for b := range 2 {
		put(48+b, int(s.TSCAt)+1-b)
	}
	for b := range 4 {
		put(52+b, int(s.TSCAt)+7-b)
	}
	keep(48, s.EpochMask&0xffff|engine<<32)
	if s.NextAt != None {
		put(56, int(s.NextAt))
	}
	least, most := 0, int(s.N)
	if s.Keeps != KeepsNever { // the load from at on is the whole AAD
		least = -int(s.Prefix)
	}
	for _, f := range from {
		for _, at := range f {
			if at != none {
				least = min(least, at)
			}
		}
	}
	if s.IDShift%8 != 0 || most-least > 128 || -least > int(s.Prefix) || engine>>32 != 0 {
		return false
	}
	low := func(n int) uint64 { // 0 to 64 bits
		if n <= 0 {
			return 0
		}
		return ^uint64(0) >> (64 - min(n, 64))
	}
	s.at, s.load, s.front, s.behind = int64(least), low(most), low(most-least), low(most-least-64)
	for i, f := range from {
		if f[0] != none {
			s.pick[i] = byte(f[0] - least)
			s.picked |= 1 << i
		}
		if f[1] != none {
			s.pick2[i] = byte(f[1] - least)
			s.again |= 1 << i
		}
	}
	s.whole = 1
	if s.RekeyMask != 0 {
		s.whole = 0
	}
	for _, c := range s.Copy[:s.Copies] {
		if c.What != CopyDesc || c.From < 0 || c.From > 16 || c.To > 32 {
			s.whole, s.ofAddr = 0, 0
			break
		}
		for i := range 16 {
			k := (int(c.To) + i + 32) % 48
			s.pickAddr[k], s.ofAddr = byte(int(c.From)+i), s.ofAddr|1<<k
		}
	}
	copy(s.compared[:], s.Mask[:])
	if s.behind|s.again != 0 || most > 64 {
		s.odd = 1
		s.usual[7] = 0x80 // no pointer has it
	}
	binary.NativeEndian.PutUint32(s.usual[60:], s.Flags)
	s.lengths[0] = uint32(s.N) + uint32(s.Prefix)
	return true
}

// EachPattern calls f with each pattern, before the plan is published.
func (o *Open) EachPattern(f func(p *Pattern)) {
	for i := range o.patterns[1:] {
		f(&o.patterns[i+1])
	}
}

// Keep pins memory that C writes to, until Free. It takes an unsafe.Pointer because pinning a typed
// pointer makes the linker keep the type's description and methods for reflection.
func (k *keep) Keep(p unsafe.Pointer) { k.pin.Pin(p) }

// Also adds a function that Free calls.
func (k *keep) Also(f func()) { k.also = append(k.also, f) }

// Free ends the plan's use.
func (k *keep) Free() {
	k.pin.Unpin()
	for _, f := range k.also {
		f()
	}
}

func hold[T any](pin *runtime.Pinner, s []T) uintptr {
	pin.Pin(unsafe.Pointer(&s[0]))
	return uintptr(unsafe.Pointer(&s[0]))
}

// Seal is a sender's plan.
type Seal struct {
	Direct      uintptr
	Next, Limit uintptr // of the counters' owner: the next value, and the limit of values
	By, Octets  uintptr // statistics
	Master, Sub uintptr // of CMAC; 0: Area has the key
	Area        uintptr
	Usage       uintptr // as in Pattern
	ID          uint64  // for the descriptor
	Salt        uintptr // four octets that are added to the nonce's first ones; 0: none
	Other       uintptr // plan for packets with other Flags; 0: none
	Tally       uintptr // counts besides the sender's; 0: none
	Serial      uint64  // of the counters' owner
	Shares      uintptr // keys.Shares of By's first count and of Octets
	Memo        uintptr // encrypted first blocks of KDF inputs, for each thread; 0: none
	RekeyMask   uint64  // bits of the counter that are in the KDF input; 0: none
	Counter     Counter
	N           uint16 // octets of the header, up to the payload
	Prefix      uint16 // authenticated octets in front of the header
	Flags       uint16 // of descriptors that this plan takes
	TSCAt       uint16
	NextAt      uint8 // place of the payload's protocol; None: nowhere
	Blocks      uint8 // of a KDF input
	KeyLen      uint8 // octets of the data key
	Fixed       uint8 // 1: only the epoch varies in the KDF input
	EpochAt     uint8 // place in the KDF input; None: nowhere
	Copies      uint8
	CounterAt   uint8 // place in the KDF input of the number of the output block
	Key         uint8 // place of the key in Area
	Copy        [2]Copy
	Inner       uint8  // octets of the header that are encrypted, its last ones
	PadMask     uint8  // text is padded to a multiple of this and one
	PadAt       uint8  // None: nowhere
	AgainAt     uint8  // where the counter is once more; None: nowhere
	Wrap        Unwrap // what payloads must be
	Mask        uint8  // octets behind a key that are added to the nonce
	RekeyAt     uint8  // in the KDF input
	RekeyBits   uint8  // by how many a counter is shifted
	FromPrefix  uint8  // the nonce begins with the prefix's first four octets
	alone       uint8  // 1: there is a short way for single packets
	_           [6]uint8
	Nonce       [16]byte    // the counter is added to its octets 4 to 11
	Msg         [3][16]byte // KDF input, but for the packet's octets, which are added
	Header      [MaxHeader]byte

	// For processors with vectors of 64 octets: bit i of picked says that octet i of
	// Msg is octet pick[i] of the descriptor's addresses. ofPacket is 1 if octets of
	// the packet are needed, too. Bit i of ofEpoch: octet i is octet pick[i] of the epoch.
	ofPacket uint64
	picked   uint64
	ofEpoch  uint64
	pick     [64]byte

	Epoch uint16 // the epoch of counters that stay in one

	keep
	other *Seal
}

// KDF sets the KDF input, its blocks, and the place of its counter.
func (s *Seal) KDF(msg *[48]byte, blocks, counter uint8) {
	s.Blocks, s.CounterAt = blocks, counter
	for i := range s.Msg {
		copy(s.Msg[i][:], msg[16*i:])
	}
}

// KDF sets the KDF input, its blocks, and the place of its counter.
func (p *Pattern) KDF(msg *[48]byte, blocks, counter uint8) {
	p.Blocks, p.Counter = blocks, counter
	copy(p.msg[:], msg[:])
	for i := range p.more {
		copy(p.more[i][:], msg[16*(i+1):])
	}
}

// Others sets the plan for packets with other flags. It is freed with this one.
func (s *Seal) Others(o *Seal) {
	s.other = o
	s.Also(o.Free)
}

// Counted sets where counters come from and where packets are counted, for both
// plans.
func (s *Seal) Counted(direct, next, limit, by, octets, shares uintptr, c Counter, serial uint64) {
	s.Direct, s.Next, s.Limit, s.By, s.Octets, s.Shares, s.Counter, s.Serial = direct, next, limit, by, octets, shares, c, serial
	if o := s.other; o != nil {
		o.Counted(direct, next, limit, by, octets, shares, c, serial)
		o.Publish()
		s.Other = uintptr(unsafe.Pointer(o))
	}
}

// Publish completes the plan and pins its memory.
func (s *Seal) Publish() {
	// The executor adds octets, so these must be zero.
	msg := unsafe.Slice(&s.Msg[0][0], len(s.Msg)*16)
	if s.EpochAt != None {
		clear(msg[s.EpochAt:][:2])
		s.pick[s.EpochAt+1], s.ofEpoch = 1, 3<<s.EpochAt
	}
	for _, c := range s.Copy[:s.Copies] {
		n := 16
		if c.What == CopyPacket4 {
			n = 4
		}
		if c.What != CopyDesc {
			s.ofPacket = 1
		}
		for i := range n {
			s.pick[int(c.To)+i], s.picked = byte(int(c.From)+i), s.picked|1<<(int(c.To)+i)
		}
		clear(msg[c.To:][:n])
	}
	if s.RekeyMask != 0 {
		clear(msg[s.RekeyAt:][:4])
	}
	// Keys need nothing of the packet, and what the counter adds is in Msg's first block.
	first := (s.EpochAt == None || s.EpochAt <= 14) && (s.RekeyMask == 0 || s.RekeyAt <= 12)
	if first && s.ofPacket == 0 && s.FromPrefix == 0 && s.Wrap == Bare && s.N >= 16 {
		s.alone = 1
	}
	s.pin.Pin(unsafe.Pointer(s))
}

// Counter says how linear values become Epoch and Counter (counter.Map), and how
// they follow the clock.
type Counter struct {
	Engine   uint64 // direction and engine, in their places
	Step     uint64 // from one packet's TSC to the next one's
	Shift    uint8  // bits of a linear value below the epoch
	Low      uint8  // by how many bits they are shifted left
	Rate     uint8  // of values that are times or follow the clock: 2^Rate a second
	_        [5]uint8
	TimeLead uint64 // how far ahead of the clock times may be, in ticks; 0: values are no times

	Last, Ahead uintptr // fields of counter.Owner, for values that follow the clock; 0: they do not
	Base, End   uint64  // the value at Start, and the end of the space
	Start       int64   // ns since 1970
}
