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

// None is for octets that come from nowhere.
const None = 0x80

// NoPick picks nothing.
var NoPick = Pick{None, None, None, None, None, None, None, None, None, None, None, None, None, None, None, None}

// Copy has n octets at "to" be the n octets at from.
func (p Pick) Copy(to, from, n int) Pick {
	for i := range n {
		p[to+i] = uint8(from + i)
	}
	return p
}

// Copy is for 16 octets of a KDF input that are in the packet (from counts from
// its header) or in the descriptor (from counts from its addresses), or for 4 in
// a packet that is to be sealed.
type Copy struct {
	From int16
	What CopySource
	To   uint8
}

// CopyOf says what a Copy copies.
type CopySource uint8

// What is copied.
const (
	CopyPacket CopySource = iota
	CopyDesc
	CopyPacket4
)

// Split takes the engine's number out of a counter: what is left counts the
// packets of one engine.
type Split struct {
	Mask       uint64 // of the number, before Shift
	EngineMask uint64 // of the engine's number
	Shift      uint8
	_          [7]uint8
}

// Unwrap says how an authentic text becomes the payload.
type Unwrap uint8

// What is in a text.
const (
	Bare   Unwrap = iota // the payload
	Info                 // two zeros, what follows, and how much padding is behind it
	InfoIP               // the same, and an IP packet
	Only                 // an IP packet, and padding
)

// Layout is a form of headers: where fields are, and what is compared.
type Layout struct {
	Word      uint32 // the first four octets, as far as Open.WordMask says; AddLayout adds flags
	Flags     uint32 // of the descriptor, and zeros for octets that follow them
	N         uint16 // octets of the header
	Prefix    uint16 // octets in front of it that are authenticated
	Vectors   uint8  // 16-octet pieces of the header that are compared
	Copies    uint8
	IDShift   uint8
	FlowLen   uint8 // octets of address that tell windows apart: 0, 4, 16, 32
	FlowDesc  uint8 // they are in the descriptor
	NextAt    uint8 // where the header says what follows; None: nowhere
	simple    uint8 // 1: KDF inputs are one block, of which all that varies is picked; 2: what varies is picked or RekeyMask's, in the first block, and there may be a second
	numbers   uint8 // some ID or counter is no packet's
	IDAt      int16
	SourceAt  int16 // 16 octets that nonce and KDF input take from
	TSCAt     int16
	ProbeAt   int16
	FlowAt    int16
	RekeyAt   uint8 // in the KDF input
	RekeyBits uint8 // by how many a counter is shifted
	IDMask    uint64
	ProbeMask uint64
	RekeyMask uint64 // 0: there is none
	EpochMask uint64 // of the epoch, where windows end with it
	IDNeed    uint64 // of an ID: what is IDNever in no packet
	IDNever   uint64
	TSCNever  uint64 // a number that no packet has, but for 0xffffffffffffffff
	TailAt    int16  // the 16 octets of which the nonce's last ones are taken, mostly TSCAt - 8
	Inner     uint8  // octets between the header and the payload that are encrypted with it
	Unwrap    Unwrap
	Ages      uint8 // epochs get too old
	LeastMore uint8 // at MoreAt
	Missing   int8  // of a Loose plan: the status of packets for which there is no pattern, or that have the number of none
	_         uint8
	Copy      [2]Copy

	// Of a Loose plan: where headers say how many times 8 octets (and 8 more) they are
	// longer than N, and how many times 4 octets behind N encryption begins; of some
	// layouts nothing is encrypted.
	MoreAt    uint8
	ClearAt   uint8
	ClearMask uint8
	AllClear  uint8

	Mask                              [MaxHeader]byte // what is compared
	MsgSource, MsgTail                Pick
	NonceSource, NonceMore, NonceTail Pick

	wide
}

// wide says the same for processors with vectors of 64 octets: all that is taken
// out of a header is picked at once (widen).
type wide struct {
	load          uint64   // octets of the header that are compared, but for those behind the first 64
	front, behind uint64   // of 64 octets from at on, and of the next 64: those that are read
	picked, again uint64   // octets of pick and pick2 that are something
	odd           uint64   // there is more than load and front, or something is picked twice
	at            int64    // from the header on, 0 or less
	compared      [64]byte // Mask
	pick, pick2   [64]byte // of front and behind: a nonce, a KDF input, ID and TSC, Who, and what follows the header
	kept          [64]byte // of what is picked
}

// Pattern is what headers of a Layout equal under its mask, and the key that they
// name.
type Pattern struct {
	Value       [MaxHeader]byte
	Nonce, msg  [16]byte // what is added to what the packet gives; KDF input, zero where the packet's octets go
	_           [18]byte
	Kind        uint16 // with the zeros around it, what is added to a replay.Key's Epoch, Kind and Engine
	_           [12]byte
	more        [2][16]byte // further blocks of the KDF input
	Master, Sub uintptr     // of CMAC; 0: Area has the key
	Area        uintptr
	Name        [2]uint64 // of the key, for windows
	Hash        uint64    // of Name, for windows
	Usage       uintptr   // where the key counts: keys.UsageWords; 0: nowhere
	Next        uint32    // pattern to try when this is not it, as in Open.Bucket
	Batch       uint16    // the same for patterns whose keys are derived alike
	Blocks      uint8
	KeyLen      uint8
	Layout      uint16
	Counter     uint8 // place in the KDF input of the number of the output block
	Mask        uint8 // octets behind a key that are added to the nonce
	_           [4]uint8
	form        uintptr  // the Layout
	Addr        [32]byte // of a expanded key, which descriptors must have
	Subs        uintptr  // keys.Subs: by ID, 1 + the place in Area of the key; 0: Area has one key
	SubCount    uint64
	Tally       uintptr // counts besides the receiver's; 0: there are none
	Epoch       uint16  // of layouts with Ages: the key's, and how far behind it a packet's may be
	Age         uint16
	_           uint32
}

// Open is a receiver's plan.
type Open struct {
	Direct       uintptr // kernels
	Layouts      uintptr
	Patterns     uintptr
	LayoutByWord uintptr // by a hash of the first word: 1 + number of the layout; 0: none
	Bucket       uintptr // by a hash of word and probe: where in Patterns the first one to try is; 0: none
	OwnIDs       uintptr // a hash table; 0: there are none
	Windows      uintptr // replay.Table; 0: there are none
	By           uintptr // statistics: packets by status
	TallyOf      uintptr // by status: which of a Tally's counts, 0: none
	Octets       uintptr
	OwnMask      uint64
	OwnFree      uint64 // what free places of OwnIDs hold: no own ID
	ownSome      uint64 // bits, by a hash: IDs without theirs are not own ones
	Split        Split

	WordMask    uint32
	WordFactor  uint32
	BucketShift uint32
	bare        uint8   // texts are payloads, with nothing in front of headers, and no key is in an area
	extras      uint8   // there are windows or own IDs
	held        uint8   // some keys are in areas
	Wide        uint8   // kernel.Direct's, if all layouts can be taken so
	Times       uintptr // fresh.View; 0: there is none
	Strangers   uintptr // burst's
	loose       uintptr
	Shares      uintptr // of By's first count and Octets: keys.Shares
	Refused     uintptr // and of its others: burst's refusals

	Screen

	// Loose is a plan for packets that this one does not cover, with headers of any
	// length, and payloads of which some is in clear; nil: there is none.
	Loose *Open

	Own []uint64 // own IDs: packets with one are reflections

	keep
	keyNames     []uint32
	domains      []Domain
	layouts      []Layout
	patterns     []Pattern
	layoutByWord []uint8
	bucket       []uint32
	own          []uint64
	batches      map[batch]uint16
}

// Screen says which packets are none of the receiver's, as their first octets
// show: what floods in from anywhere shall cost little. A packet that passes is not
// good yet.
type Screen struct {
	First    [256]int8  // by the octet at FirstAt: what a packet gets, a status; 0: it passes
	Second   [256]int8  // the same, after it, by the octet of the header that has number 1
	More     [256]uint8 // by that octet, too: how many times 8 octets more than Least there must be
	Third    [256]int8  // the same, by the octet at ThirdAt, where headers have one there
	ThirdAt  [256]uint8 // by the octet with number 1; 0: it passes
	Prefix   [4]uint8   // by the descriptor's flags: octets that are in front; None: it passes
	Zero     uint32     // bits of the octet that has number 2, which are reserved
	Least    uint32     // octets of the shortest packet
	FirstAt  uint32
	NameAt   uint32 // four octets that say which key a packet is for
	NameMask uint32 // of them, as they lie in memory; 0: they do not say it
	names    uint64
	nDomains uint64
	Names    uintptr // those of the keys that are here
	Domains  uintptr // whose packets are counted; the first has those that are of none
}

// Domain is a number of 24 bits that packets begin with, behind one octet, and
// where their statuses are counted, if there are counts for it.
type Domain struct {
	Number uint32
	_      uint32
	Tally  uintptr
}

// Screens sets what packets must be like: how long at least, with ICV, and what the
// octet at "at" may be.
func (o *Open) Screens(least, at int, first func(byte) status.Code) {
	o.Least, o.FirstAt = uint32(least), uint32(at)
	for b := range o.First {
		o.First[b] = int8(first(byte(b)))
	}
	o.Prefix = [4]uint8{0, None, None, None}
}

// AddName adds the name of a key, as far as NameMask says, as it lies in memory.
func (o *Open) AddName(name uint32) { o.keyNames = append(o.keyNames, name&o.NameMask) }

// AddDomain adds a domain.
func (o *Open) AddDomain(number uint32, tally uintptr) {
	o.domains = append(o.domains, Domain{Number: number, Tally: tally})
}

type batch struct {
	master, sub, area    uintptr
	blocks, keyLen, mask uint8
}

// keep is what a plan's addresses are in.
type keep struct {
	pin  runtime.Pinner
	also []func()
}

const (
	layoutBits  = 10 // of LayoutByWord
	maxLayouts  = 128
	maxPatterns = 4096
)

// NewOpen begins a plan.
func NewOpen(wordMask uint32) *Open {
	o := &Open{WordMask: wordMask, patterns: make([]Pattern, 1), batches: map[batch]uint16{}}
	for i := range o.patterns[0].Value { // no header equals the one that is none
		o.patterns[0].Value[i] = 0xff
	}
	return o
}

// flagsFactor has headers that are alike, but for the descriptor's flags, be of
// different layouts.
const flagsFactor = 0x85EBCA6B

// AddLayout adds a layout and returns its number, or false if there is no room, or
// another one that begins alike.
func (o *Open) AddLayout(s *Layout) (int, bool) {
	s.Vectors = uint8((s.N + 15) / 16)
	s.Word += s.Flags & (1<<16 - 1) * flagsFactor
	if s.numbers = 1; s.IDNeed == 0 && s.IDNever != 0 && s.TSCNever == ^uint64(0) {
		s.numbers = 0
	}
	for i := range o.layouts {
		if x := o.layouts[i]; x.Word == s.Word {
			x.simple = s.simple
			return i, x == *s
		}
	}
	if len(o.layouts) == maxLayouts {
		return 0, false
	}
	o.layouts = append(o.layouts, *s)
	return len(o.layouts) - 1, true
}

// Add adds a pattern, unless an earlier one takes the same packets.
func (o *Open) Add(layout int, p *Pattern) {
	s := &o.layouts[layout]
	for i := range p.Value {
		p.Value[i] &= s.Mask[i]
	}
	if len(o.patterns) == maxPatterns {
		return
	}
	for i := 1; i < len(o.patterns); i++ {
		if q := &o.patterns[i]; int(q.Layout) == layout && q.Value == p.Value {
			return
		}
	}
	b := batch{p.Master, p.Sub, p.Area, p.Blocks, p.KeyLen, p.Mask}
	if _, ok := o.batches[b]; !ok {
		o.batches[b] = uint16(len(o.batches))
	}
	p.Batch, p.Layout = o.batches[b], uint16(layout)
	s.simple = 0
	switch {
	case s.Copies != 0 || p.Blocks > 2 || s.RekeyMask != 0 && s.RekeyAt > 12: // not all that varies is in the first block
	case p.Blocks == 2 || s.RekeyMask != 0:
		s.simple = 2
	default:
		s.simple = 1
	}
	o.patterns = append(o.patterns, *p)
}

// bucketFactor and wordShare spread probes.
const bucketFactor = 0x9E3779B97F4A7C15

func (s *Layout) probe(header []byte) uint64 {
	x := binary.NativeEndian.Uint64(header[s.ProbeAt:]) & s.ProbeMask
	return (x ^ uint64(s.Word)) * bucketFactor
}

// Finish makes the plan ready, and reports whether it covers any packet.
func (o *Open) Finish() bool {
	if l := o.Loose; l != nil && l.Finish() {
		o.loose = uintptr(unsafe.Pointer(l))
		o.Also(l.Free)
	}
	if len(o.patterns) == 1 && o.loose == 0 {
		return false
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
			o.ownSome |= 1 << (id * bucketFactor >> 58)
			at := id * bucketFactor >> 32 & o.OwnMask
			for o.own[at] != o.OwnFree {
				at = (at + 1) & o.OwnMask
			}
			o.own[at] = id
		}
		o.OwnIDs = hold(&o.pin, o.own)
	}
	o.bare = 1
	for i := range o.patterns[1:] {
		p := &o.patterns[i+1]
		if s := &o.layouts[p.Layout]; p.Area != 0 {
			o.held, o.bare = 1, 0
		} else if s.Inner != 0 || s.Unwrap != Bare || s.Prefix != 0 || s.IDMask != ^uint64(0) {
			o.bare = 0
		}
	}
	if o.Windows != 0 || o.Times != 0 || len(o.Own) != 0 {
		o.extras = 1
	}
	if o.names = uint64(len(o.keyNames)); o.names != 0 {
		o.Names = hold(&o.pin, o.keyNames)
	}
	if o.nDomains = uint64(len(o.domains)); o.nDomains != 0 {
		o.Domains = hold(&o.pin, o.domains)
	}
	if len(o.layouts) == 0 { // there is an address, and no way to it
		o.layouts = make([]Layout, 1)
	}
	for i := range o.layouts {
		if !o.layouts[i].widen(o) {
			o.Wide = 0
		}
	}
	o.Layouts, o.Patterns = hold(&o.pin, o.layouts), hold(&o.pin, o.patterns)
	for i := range o.patterns[1:] {
		p := &o.patterns[i+1]
		p.form = o.Layouts + uintptr(p.Layout)*unsafe.Sizeof(Layout{})
	}
	o.LayoutByWord, o.Bucket = hold(&o.pin, o.layoutByWord), hold(&o.pin, o.bucket)
	o.batches = nil
	o.pin.Pin(o)
	return true
}

// index puts the layouts where the hash of their words says, if it is a place
// for each.
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

// widen fills in wide, and reports whether that says all that the layout says.
func (s *Layout) widen(o *Open) bool {
	var word [4]byte
	binary.NativeEndian.PutUint32(word[:], o.WordMask)
	for i, b := range word { // what equals a pattern has its layout's Word
		if s.Mask[i]&b != b {
			return false
		}
	}
	// Octet i of what is picked is that of the header at from[i][0], or from[i][1]
	// added to it.
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
	copy(s.compared[:], s.Mask[:])
	if s.behind|s.again != 0 || most > 64 {
		s.odd = 1
	}
	return true
}

// EachPattern calls f with each pattern, before the plan is published.
func (o *Open) EachPattern(f func(p *Pattern)) {
	for i := range o.patterns[1:] {
		f(&o.patterns[i+1])
	}
}

// Keep has something that C writes to stay where it is until Free.
func (k *keep) Keep(p any) { k.pin.Pin(p) }

// Also has f be called by Free.
func (k *keep) Also(f func()) { k.also = append(k.also, f) }

// Free ends the plan's use.
func (k *keep) Free() {
	k.pin.Unpin()
	for _, f := range k.also {
		f()
	}
}

func hold[T any](pin *runtime.Pinner, s []T) uintptr {
	pin.Pin(&s[0])
	return uintptr(unsafe.Pointer(&s[0]))
}

// Seal is a sender's plan.
type Seal struct {
	Direct      uintptr
	Next, Limit uintptr // counters
	By, Octets  uintptr // statistics
	Master, Sub uintptr // of CMAC; 0: Area has the key
	Area        uintptr
	Usage       uintptr
	ID          uint64  // for the descriptor
	Salt        uintptr // what is added to the nonce's first four octets; 0: nothing
	Other       uintptr // plan for packets with other Flags; 0: none
	Tally       uintptr // counts besides the sender's; 0: there are none
	Serial      uint64  // of who gives out counters
	Shares      uintptr // of the first packets' counts: keys.Shares
	RekeyMask   uint64  // of a counter: what is in the KDF input; 0: nothing
	Counter     Counter
	N           uint16 // octets of the header, up to the payload
	Prefix      uint16
	Flags       uint16
	TSCAt       uint16
	NextAt      uint8 // None: nowhere
	Blocks      uint8
	KeyLen      uint8
	Fixed       uint8 // nothing of the KDF input differs but the epoch
	EpochAt     uint8 // in the KDF input; None: nowhere
	Copies      uint8
	CounterAt   uint8 // in the KDF input: the number of the output block
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
	_           [7]uint8
	Nonce       [16]byte // the counter goes to its octets 4 to 11
	Msg         [3][16]byte
	Header      [MaxHeader]byte

	// For processors with vectors of 64 octets: octets of Msg are those of the
	// descriptor's addresses where picked has a bit, unless some are the packet's.
	ofPacket uint64
	picked   uint64
	pick     [64]byte

	Epoch uint16 // of counters that stay in one

	keep
	other *Seal
}

// KDF sets how keys are derived, but for what of.
func (s *Seal) KDF(msg *[48]byte, blocks, counter uint8) {
	s.Blocks, s.CounterAt = blocks, counter
	for i := range s.Msg {
		copy(s.Msg[i][:], msg[16*i:])
	}
}

// KDF sets how keys are derived, but for what of.
func (p *Pattern) KDF(msg *[48]byte, blocks, counter uint8) {
	p.Blocks, p.Counter = blocks, counter
	copy(p.msg[:], msg[:])
	for i := range p.more {
		copy(p.more[i][:], msg[16*(i+1):])
	}
}

// Others names the second plan, for packets with other flags, which ends with
// this one.
func (s *Seal) Others(o *Seal) {
	s.other = o
	s.Also(o.Free)
}

// Counted is where counters come from and packets are counted.
func (s *Seal) Counted(direct, next, limit, by, octets, shares uintptr, c Counter, serial uint64) {
	s.Direct, s.Next, s.Limit, s.By, s.Octets, s.Shares, s.Counter, s.Serial = direct, next, limit, by, octets, shares, c, serial
	if o := s.other; o != nil {
		o.Counted(direct, next, limit, by, octets, shares, c, serial)
		o.Publish()
		s.Other = uintptr(unsafe.Pointer(o))
	}
}

// Publish makes the plan ready.
func (s *Seal) Publish() {
	// What comes there is added.
	msg := unsafe.Slice(&s.Msg[0][0], len(s.Msg)*16)
	if s.EpochAt != None {
		clear(msg[s.EpochAt:][:2])
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
	s.pin.Pin(s)
}

// Counter is how linear values become Epoch and Counter: counter.Map.
type Counter struct {
	Engine   uint64 // in its place
	Step     uint64 // from one packet's to the next
	Shift    uint8  // bits of a linear value below the epoch
	Low      uint8  // by how many these are shifted
	Rate     uint8  // where linear values are times, or follow the clock: 2^Rate a second
	_        [5]uint8
	TimeLead uint64 // how far ahead of the clock they may be; 0: they are no times

	Last, Ahead uintptr // where they follow the clock: of counter.Owner; 0: they do not
	Base, End   uint64  // the value at Start, and the end of the space
	Start       int64   // ns since 1970
}
