package eesp

import (
	"encoding/binary"
	"fmt"
	"time"
	"unsafe"

	impl "libeesp/internal/eesp"
	"libeesp/internal/secmem"
)

// AEAD is a group's cipher.
type AEAD = impl.AEAD

// The ciphers.
const (
	AES128GCM AEAD = impl.AES128GCM
	AES256GCM AEAD = impl.AES256GCM
)

// Combiner is how a group makes its master key from root keys.
type Combiner = impl.Combiner

// The combiners.
const (
	CombinerHKDF Combiner = impl.CombinerHKDF // HKDF-SHA-256 over values and names
	CombinerXOR  Combiner = impl.CombinerXOR  // the draft's example
)

// Level is a level of root keys.
type Level = impl.Level

// The levels, in the order in which they are combined.
const (
	Zone Level = impl.Zone
	User Level = impl.User
	Task Level = impl.Task
)

// Levels is a set of levels: 1<<Zone | 1<<User | 1<<Task.
type Levels = impl.Levels

// Set returns the set of the levels given. If one does not exist, every call refuses
// the set.
func Set(levels ...Level) Levels { return impl.Set(levels...) }

// RootKeyLen is the length of a root key's value in octets.
const RootKeyLen = impl.RootKeyLen

// ProfileID names a packet format.
type ProfileID = impl.ProfileID

// The profiles; docs/profiles.md describes them.
const (
	ProfileStateless ProfileID = impl.ProfileStateless
	ProfilePSP       ProfileID = impl.ProfilePSP
	ProfileTSS       ProfileID = impl.ProfileTSS
	ProfileEESP      ProfileID = impl.ProfileEESP
)

// Modes of a group of profile tss.
const (
	TSSCluster = impl.TSSCluster
	TSSServer  = impl.TSSServer
	TSSDirect  = impl.TSSDirect
)

// Key-derivation functions of a group of profile eesp (Mode).
const (
	SSKDFSHA256 = impl.SSKDFSHA256
	SSKDFSHA384 = impl.SSKDFSHA384
	SSKDFSHA512 = impl.SSKDFSHA512
	SSKDFCMAC   = impl.SSKDFCMAC // experimental

	// SSKDFNone: no Sub SAs. The group's key is the SA's key followed by 4 octets
	// of salt, as key exchange gives them.
	SSKDFNone = impl.SSKDFNone
)

// Encapsulation modes of a group of profile eesp (Encap), which decide the
// format in draft -03.
const (
	EncapTransport = impl.EncapTransport
	EncapTunnel    = impl.EncapTunnel // payloads are IPv4 or IPv6 packets
	EncapBEET      = impl.EncapBEET
	EncapIPTFS     = impl.EncapIPTFS
)

// GroupConfig describes a trust group. The zero value is profile stateless,
// AES-128-GCM, HKDF. docs/profiles.md says which fields a profile reads; the
// others must be zero.
type GroupConfig struct {
	AEAD     AEAD
	Combiner Combiner // stateless
	Profile  ProfileID

	Domain     uint32 // tss: SDI, 24 bits; eesp: SPI
	Mode       uint8  // tss: TSSx; eesp: SSKDFx
	Versions   uint8  // psp: bit v: version v is in use; 0 = the one of GCM with keys of AEAD
	RekeyMask  uint64 // tss: these bits of the 48-bit counter, shifted, are part of the context
	RekeyShift uint8

	// CryptOffset is where encryption starts in packets of tss, in octets from
	// the first octet of the header: a multiple of 4 from 16 to 1032; 0 = behind
	// the header.
	CryptOffset uint16
	// EpochAge is how far behind the group's epoch packets of tss may be, in
	// epochs; 0 = 16.
	EpochAge uint16
	// CounterLimit is above all counters of tss: further packets are not sealed
	// (ErrExhausted); 0 = 2^48.
	CounterLimit uint64
	// AuthFailureLimit lets receivers of tss drop all packets of the group
	// (ErrLatched) after this many wrong ICVs, until ResetLatch; 0 = never.
	AuthFailureLimit uint32
	// NoDirectionBit is for peers in server mode of tss that do not know that
	// the counter's top bit tells a packet's direction. Both ends then seal with
	// one key and count from 0: nonces repeat, which exposes plaintext and the
	// authentication key, unless something else keeps the ends' counters apart.
	NoDirectionBit bool

	NoSequence bool   // eesp: packets have no sequence number
	IV         bool   // eesp: packets have an explicit IV
	Optimized  bool   // eesp: packets have no Payload Info Header
	Align8     bool   // eesp: payloads begin at a multiple of 8 octets
	MaxCOffset uint8  // eesp: greatest CryptOffset, 0 to 63
	SubSAs     uint32 // eesp: number of Session IDs; 0 = 65,536
	Draft      uint8  // eesp: version 2 or 3 of draft-ietf-ipsecme-eesp; 0 = 3
	Encap      uint8  // eesp, draft -03: EncapX; Optimized is the same as EncapTunnel there

	// Time says that counters are the times at which packets are sealed, so that
	// receivers can refuse old packets without a window for each sender
	// (ReplayTime). All senders of the group must have it. Set TimeLate if some of
	// them may have sent without it before; making a sender then takes a second.
	// For stateless and psp only: sequence numbers of eesp are no times, and epochs
	// of tss do not follow the clock.
	Time, TimeLate bool
}

// Group is a trust group. It holds root keys, each a ring of a previous, a
// current and a next key.
type Group struct{ in *impl.Group }

func (g *Group) of() *impl.Group {
	if g == nil {
		return nil
	}
	return g.in
}

func group(g *impl.Group, err error) (*Group, error) {
	if err != nil {
		return nil, err
	}
	return &Group{g}, nil
}

// NewGroup makes a group without root keys.
func NewGroup(c GroupConfig) (*Group, error) { return group(impl.NewGroup(impl.GroupConfig(c))) }

// Close frees the group. Its keys are wiped when its last sender and receiver
// are closed too.
func (g *Group) Close() { g.of().Close() }

// SetRootKeyDER sets a level's root key from its DER form (RootKeyStruct of the
// draft), in place of any that is there.
func (g *Group) SetRootKeyDER(l Level, der []byte) error { return g.of().SetRootKeyDER(l, der) }

// SetRootKey sets a level's root key; index and value are in the order previous,
// current, next. A ring without a previous key repeats the current one.
func (g *Group) SetRootKey(l Level, id []byte, index [3]uint64, value *[3][RootKeyLen]byte) error {
	return g.of().SetRootKey(l, id, index, value)
}

// GenerateRootKey sets a random root key, with indices 1, 1, 2.
func (g *Group) GenerateRootKey(l Level, id []byte) error { return g.of().GenerateRootKey(l, id) }

// SetRing sets a whole ring of a level: the generations that are not 0, in the
// order previous, current, next. There must be a current one. A ring without a
// next key has no DER form. Hosts that rotate together make each step with one
// call; Wait returns when the step is done. On the wire a generation is its
// lowest octet. From then on, generations below floor or below the ring's lowest
// one are ErrRootKey under this ID, in the whole process: if a key came back, old
// packets would open again. Keys that stay keep their replay windows.
func (g *Group) SetRing(l Level, id []byte, generation [3]uint64, value *[3][RootKeyLen]byte, floor uint64) error {
	return g.of().SetRing(l, id, generation, value, floor)
}

// Wait waits until every burst has ended that began before this call, in all
// threads of the process. Then no burst uses keys from before the last change,
// and they are wiped. It returns ErrTimeout if such a burst still runs.
func (g *Group) Wait(timeout time.Duration) error { return g.of().Wait(timeout) }

// WriteRootKeyDER writes the DER form of a level's root key, which is secret,
// to dst and returns its length. If it does not fit, the error is ErrRoom and n
// is the length it needs.
func (g *Group) WriteRootKeyDER(dst []byte, l Level) (n int, err error) {
	return g.of().WriteRootKeyDER(dst, l)
}

// Rotate sets a new next key of a level: value, or a random one if value is nil.
// Next becomes current, current becomes previous, and previous is wiped when the
// last burst that may use it has ended.
func (g *Group) Rotate(l Level, index uint64, value *[RootKeyLen]byte) error {
	return g.of().Rotate(l, index, value)
}

// RemoveRootKey removes a level's root key.
func (g *Group) RemoveRootKey(l Level) error { return g.of().RemoveRootKey(l) }

// SetDefaultLevels sets the levels of packets without Master Key Options.
func (g *Group) SetDefaultLevels(s Levels) error { return g.of().SetDefaultLevels(s) }

// SetKey sets a slot's key, in place of any that is there, in profiles that have
// slots instead of levels: a device key (psp, slots 0 and 1), the key of an
// association number (tss, 0 and 1), the root key of an SA (eesp, 0). Senders use
// the first key that was set, until UseKey or RotateKey.
func (g *Group) SetKey(slot int, key []byte) error { return g.of().SetKey(slot, key) }

// UseKey selects the slot that senders use.
func (g *Group) UseKey(slot int) error { return g.of().UseKey(slot) }

// RotateKey sets the key of the slot that senders do not use, selects that slot,
// and returns it. A nil key means a random one.
func (g *Group) RotateKey(key []byte) (slot int, err error) { return g.of().RotateKey(key) }

// RemoveKey removes the key of a slot.
func (g *Group) RemoveKey(slot int) error { return g.of().RemoveKey(slot) }

// AllocSPI allocates an SPI for a peer of profile psp. The top bit is the slot of
// the device key in use; the other bits are allocated once for each key, in
// rising order, beginning with first. After a restart with the same device keys,
// pass the last SPI + 1. ErrExhausted: none is left for this key.
func (g *Group) AllocSPI(first uint32) (uint32, error) { return g.of().AllocSPI(first) }

// SetEpoch sets the group's epoch (tss). Senders seal in it, and receivers drop
// packets that are more than EpochAge behind it. It is the epoch of the key in
// use: a new key begins in epoch 0, and in each epoch counters begin at 0.
func (g *Group) SetEpoch(epoch uint16) error { return g.of().SetEpoch(epoch) }

// ResetLatch lets receivers open packets again after too many were not authentic
// (AuthFailureLimit).
func (g *Group) ResetLatch() error { return g.of().ResetLatch() }

// DomainStats is what all senders and receivers of a group of profile tss count.
type DomainStats struct {
	Sealed, Opened uint64 // packets
	AuthFailures   uint64 // wrong ICV
	Invalid        uint64 // refused by its header, replayed, or dropped by the latch
	UnknownSA      uint64 // no key of that SDI and AN
	LateEpoch      uint64 // further behind the epoch than EpochAge
	Exhausted      uint64 // not sealed: no counter left
	WrongSSI       uint64 // an SSI that this end sends with
	Clear          uint64 // not of this format, so perhaps in clear
	Failures       uint64 // wrong ICVs since the latch was reset, if there is a limit
	Latched        bool
	Epoch          uint16 // of the key in use
}

// DomainStats returns what the group has counted.
func (g *Group) DomainStats() (DomainStats, error) {
	d, err := g.of().DomainStats()
	return DomainStats(d), err
}

// Usage is what was done with a key since it came to the group.
type Usage struct {
	// Derived is how often a data key was derived from it: mostly once for each
	// packet, authentic or not. Packets of a burst with one context may share a
	// derivation. In eesp it is how many Sub SAs had a key.
	Derived        uint64
	Sealed, Opened uint64 // packets
	Index          uint64 // of a root key
}

// Usage returns what was done with a level's root key. In profiles with slots,
// level is the slot and generation must be Current.
func (g *Group) Usage(level Level, generation Generation) (Usage, error) {
	u, err := g.of().Usage(level, generation)
	return Usage(u), err
}

// RootKeyInfo is the public part of a root key.
type RootKeyInfo struct {
	ID          []byte
	Index       [3]uint64 // previous, current, next
	HasPrevious bool      // false: the previous key is the current one
	HasNext     bool      // false: there is none, and its index is the current one's
}

// RootKeyInfo returns the public part of a level's root key.
func (g *Group) RootKeyInfo(l Level) (RootKeyInfo, error) {
	i, err := g.of().RootKeyInfo(l)
	return RootKeyInfo(i), err
}

// Generation names one key of each ring.
type Generation = impl.Generation

// The generations.
const (
	Current  Generation = impl.Current
	Previous Generation = impl.Previous
	Next     Generation = impl.Next
)

// Addr holds a source and a destination address of 16 octets each; an IPv4
// address is ::ffff:a.b.c.d (netip.Addr.As16).
type Addr = impl.Addr

// Context is what a data key depends on besides the group's keys.
type Context struct {
	ID         uint64
	Epoch      uint16
	V          uint8
	Levels     uint8 // a set; 0 = the group's default levels
	Generation uint8 // a Generation
	Reserved   [3]uint8
	Addr       Addr // where V asks for addresses
}

// DataKey is the key of one context, for an end that must not hold the group's
// keys. It is secret: wipe it after use (Wipe). Package fmt does not print the key.
type DataKey struct {
	ID         uint64
	Epoch      uint16
	V          uint8
	KeyLen     uint8
	OptionsLen uint8
	Profile    uint8
	Params     [2]uint8 // parameters of the group that the holder needs
	Addr       Addr
	Key        [32]byte
	Options    [108]byte // stateless: Master Key Options; others: what is added to nonces
	Domain     uint32
}

const dataKeyLen = int(unsafe.Sizeof(DataKey{}))

// Wipe overwrites the key with zeros.
func (k *DataKey) Wipe() {
	if k != nil {
		secmem.Wipe(unsafe.Slice((*byte)(unsafe.Pointer(k)), dataKeyLen))
	}
}

// Format writes what may be printed of the key, whatever the verb.
func (k DataKey) Format(f fmt.State, verb rune) {
	fmt.Fprintf(f, "DataKey{profile %d, ID %#x, epoch %d, V %d, %d octets}", k.Profile, k.ID, k.Epoch, k.V, k.KeyLen)
}

// MarshalBinary returns the whole key, to be sent over a protected channel: 192
// octets, those of C's eesp_data_key on little-endian machines, and of
// DataKey.to_octets in Python.
func (k *DataKey) MarshalBinary() ([]byte, error) {
	b := make([]byte, 0, dataKeyLen)
	return binary.Append(b, binary.LittleEndian, k)
}

// UnmarshalBinary reads what MarshalBinary wrote. Octets that are no data key are
// refused when a sender or receiver is made.
func (k *DataKey) UnmarshalBinary(b []byte) error {
	if len(b) != dataKeyLen {
		return fmt.Errorf("%w: a data key as a whole has %d octets, not %d", ErrArgument, dataKeyLen, len(b))
	}
	_, err := binary.Decode(b, binary.LittleEndian, k)
	return err
}

// KeyLen returns how many octets DeriveKeys writes for a context: the data key,
// and the octets that the profile adds to nonces (tss 12, eesp 4).
func (g *Group) KeyLen() int { return g.of().KeyLen() }

// DeriveKeys writes the data keys of contexts to out, which must have exactly
// KeyLen octets for each. On an error out is all zero.
func (g *Group) DeriveKeys(contexts []Context, out []byte) error {
	return g.of().DeriveKeys(unsafe.Slice((*impl.Context)(unsafe.SliceData(contexts)), len(contexts)), out)
}

// ExportDataKey derives the data key of a context. With options, packets
// sealed with it carry the Master Key Options that name the root keys.
func (g *Group) ExportDataKey(c Context, options bool) (*DataKey, error) {
	k, err := g.of().ExportDataKey(impl.Context(c), options)
	return (*DataKey)(k), err
}
