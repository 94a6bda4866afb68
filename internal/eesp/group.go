package eesp

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"libeesp/internal/asm"
	"libeesp/internal/counter"
	"libeesp/internal/keys"
	"libeesp/internal/profile"
	"libeesp/internal/secmem"
	"libeesp/internal/status"
	"libeesp/internal/wire"
)

// AEAD is a group's cipher.
type AEAD uint8

// The ciphers.
const (
	AES128GCM AEAD = iota
	AES256GCM
)

// Combiner is how a group makes its master key from root keys.
type Combiner = keys.Combiner

// The combiners.
const (
	CombinerHKDF = keys.HKDF // HKDF-SHA-256 over values and names
	CombinerXOR  = keys.XOR  // the draft's example
)

// Level is a level of root keys.
type Level int

// The levels, in the order in which they are combined.
const (
	Zone Level = iota
	User
	Task
)

// Levels is a set of levels: 1<<Zone | 1<<User | 1<<Task.
type Levels uint8

// Set returns the set of the levels given.
func Set(levels ...Level) (s Levels) {
	for _, l := range levels {
		s |= 1 << l
	}
	return s
}

// RootKeyLen is the length of a root key's value in octets.
const RootKeyLen = keys.ValueLen

// ProfileID names a packet format.
type ProfileID uint8

// The profiles; docs/profiles.md describes them.
const (
	ProfileStateless ProfileID = iota
	ProfilePSP
	ProfileTSS
	ProfileEESP
)

// Modes of a group of profile tss.
const (
	TSSCluster = keys.TSSCluster
	TSSServer  = keys.TSSServer
	TSSDirect  = keys.TSSDirect
)

// Key-derivation functions of a group of profile eesp (Mode).
const (
	SSKDFSHA256 = 1 + iota
	SSKDFSHA384
	SSKDFSHA512
	SSKDFCMAC // experimental

	// SSKDFNone: no Sub SAs. The group's key is the SA's, and behind it 4 octets
	// of salt, as key exchange gives them.
	SSKDFNone = profile.EESPNone
)

// Encapsulation modes of a group of profile eesp (Encap), which decide the
// format in draft -03.
const (
	EncapTransport = keys.EncapTransport
	EncapTunnel    = keys.EncapTunnel // payloads are IPv4 or IPv6 packets
	EncapBEET      = keys.EncapBEET
	EncapIPTFS     = keys.EncapIPTFS
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
	RekeyMask  uint64 // tss: of the 48-bit counter; what it picks, shifted, is in the context
	RekeyShift uint8

	// CryptOffset is where encryption starts in packets of tss, in octets from
	// the header's first: a multiple of 4 from 16 to 1032; 0 = behind the header.
	CryptOffset uint16
	// EpochAge is how far behind the group's epoch packets of tss may be; 0 = 16.
	EpochAge uint16
	// CounterLimit ends sending in tss: counters are below it; 0 = 2^48.
	CounterLimit uint64
	// AuthFailureLimit lets receivers of tss drop all packets of the group
	// (ErrLatched) after this many that were not authentic, until ResetLatch; 0
	// = never.
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
	Draft      uint8  // eesp: 2 or 3, of draft-ietf-ipsecme-eesp; 0 = 3
	Encap      uint8  // eesp, -03: EncapX; Optimized is the same as EncapTunnel there

	// Time: counters are the times at which packets are sealed, so receivers can
	// refuse old packets without a window for each sender (ReplayTime). All
	// senders of the group have it. TimeLate: some of them may have sent without
	// it before; making a sender then takes a second. For stateless and psp
	// only: sequence numbers (eesp) are no times, and epochs of tss do not
	// follow the clock.
	Time, TimeLate bool
}

func (c *GroupConfig) params() (p keys.Params, err error) {
	if c.AEAD > AES256GCM {
		return p, fmt.Errorf("%w: AEAD %d", status.ErrArgument, c.AEAD)
	}
	p = keys.Params{Profile: uint8(c.Profile), KeyLen: 16 << c.AEAD, Combiner: c.Combiner, Domain: c.Domain, Mode: c.Mode,
		Versions: c.Versions, RekeyMask: c.RekeyMask, RekeyShift: c.RekeyShift, Draft: c.Draft, Encap: c.Encap,
		Timed: c.Time || c.TimeLate, TimedLate: c.TimeLate}
	p.TSS = keys.TSSParams{CryptOffset: c.CryptOffset, EpochAge: c.EpochAge, CounterLimit: c.CounterLimit,
		AuthFailures: c.AuthFailureLimit, NoDirection: c.NoDirectionBit}
	sa := wire.EESPShape{Seq: !c.NoSequence, IV: c.IV, Full: !c.Optimized, MaxCOffset: c.MaxCOffset, SubSAs: c.SubSAs}
	p.EESP, p.Align = sa, 4
	if c.Align8 {
		p.Align = 8
	}
	// What a profile does not read must not be set: it would be ignored.
	const stateless, psp, tss, eesp = 1 << ProfileStateless, 1 << ProfilePSP, 1 << ProfileTSS, 1 << ProfileEESP
	for _, f := range []struct {
		name   string
		set    bool
		readBy int // profiles
	}{
		{"combiner", c.Combiner != 0, stateless},
		{"domain", c.Domain != 0, tss | eesp},
		{"mode", c.Mode != 0, tss | eesp},
		{"versions", c.Versions != 0, psp},
		{"rekey mask", c.RekeyMask != 0, tss},
		{"rekey shift", c.RekeyShift != 0, tss},
		{"domain's settings", p.TSS != keys.TSSParams{}, tss},
		{"greatest CryptOffset", c.MaxCOffset != 0, eesp},
		{"number of Sub SAs", c.SubSAs != 0, eesp},
		{"draft", c.Draft != 0, eesp},
		{"encapsulation mode", c.Encap != 0, eesp},
		{"counters that are times", c.Time || c.TimeLate, stateless | psp},
		{"flags", c.NoSequence || c.IV || c.Optimized || c.Align8, eesp},
	} {
		if f.set && f.readBy>>c.Profile&1 == 0 && c.Profile <= ProfileEESP {
			return p, fmt.Errorf("%w: %s: this profile does not read it", status.ErrArgument, f.name)
		}
	}
	pr, err := profile.Of(p.Profile)
	if err != nil {
		return p, err
	}
	return p, pr.Prepare(&p)
}

// Group is a trust group: root keys, each a ring of previous, current and next.
type Group struct {
	g       *keys.Group
	be      *backend
	closed  atomic.Bool
	made    int64     // ns since 1970
	follows *follower // an agent; nil: the host has the keys in hand

	bindings bindings
}

// bindings are the state files of a group's senders, which name the key in use.
type bindings struct {
	mu  sync.Mutex
	all map[*counter.Owner]int // how many senders
}

func (b *bindings) add(o *counter.Owner) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.all == nil {
		b.all = map[*counter.Owner]int{}
	}
	b.all[o]++
}

func (b *bindings) remove(o *counter.Owner) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.all[o]--; b.all[o] == 0 {
		delete(b.all, o)
	}
}

// changed has the files name the keys that are in use now, if err is nil.
func (g *Group) changed(err error) error {
	if err == nil {
		g.bindings.mu.Lock()
		defer g.bindings.mu.Unlock()
		for o := range g.bindings.all {
			o.Rebind()
		}
	}
	return err
}

// NewGroup makes a group without root keys.
func NewGroup(c GroupConfig) (*Group, error) {
	p, err := c.params()
	if err != nil {
		return nil, err
	}
	be, err := asm.Selected()
	if err != nil {
		return nil, err
	}
	g, err := keys.NewGroup(p)
	if err != nil {
		return nil, err
	}
	return &Group{g: g, be: be, made: counter.Now()}, nil
}

// Close frees the group. Its keys are wiped when its last sender and receiver
// are closed too.
func (g *Group) Close() {
	if g != nil && g.g != nil && !g.closed.Swap(true) {
		if g.follows != nil {
			g.follows.close()
		}
		g.g.Release()
	}
}

// usable is nil, or says why there is nothing to use.
func (g *Group) usable() error {
	if g == nil || g.g == nil {
		return fmt.Errorf("%w: no group", status.ErrArgument)
	}
	if g.closed.Load() {
		return fmt.Errorf("%w: the group is closed", status.ErrArgument)
	}
	return nil
}

// own is nil if the host has the group's keys in hand.
func (g *Group) own() error {
	if err := g.usable(); err != nil {
		return err
	}
	if g.follows != nil {
		return fmt.Errorf("%w: the group follows an agent, which has its keys in hand", status.ErrUnsupported)
	}
	return nil
}

// change does something to a group's keys.
func (g *Group) change(f func(g *keys.Group) error) error {
	if err := g.own(); err != nil {
		return err
	}
	return g.changed(f(g.g))
}

// SetRootKeyDER sets a level's root key from its DER form (RootKeyStruct of the
// draft), in place of any that is there.
func (g *Group) SetRootKeyDER(l Level, der []byte) error {
	if err := g.usable(); err != nil {
		return err
	}
	k, err := keys.ParseRootKey(der)
	return g.set(l, k, err)
}

// SetRootKey sets a level's root key; index and value are in the order previous,
// current, next. A ring without a previous key repeats the current one.
func (g *Group) SetRootKey(l Level, id []byte, index [3]uint64, value *[3][RootKeyLen]byte) error {
	if err := g.usable(); err != nil {
		return err
	}
	if value == nil {
		return fmt.Errorf("%w: no values of the root key", status.ErrArgument)
	}
	k, err := keys.NewRootKey(id, index, value)
	return g.set(l, k, err)
}

// GenerateRootKey sets a random root key, with indices 1, 1, 2.
func (g *Group) GenerateRootKey(l Level, id []byte) error {
	if err := g.usable(); err != nil {
		return err
	}
	k, err := keys.GenerateRootKey(id)
	return g.set(l, k, err)
}

// SetRing sets a whole ring of a level: the generations that are not 0, in the
// order previous, current, next. There must be a current one. A ring without a
// next key has no DER form. Hosts that rotate together make each step with one
// call, and Wait tells when it is done. On the wire a generation is its lowest
// octet. Generations below floor, or below the ring's lowest one, are ErrRootKey
// under this ID from then on, in the whole process: if a key came back, old
// packets would open again. Replay windows of keys that stay go on.
func (g *Group) SetRing(l Level, id []byte, generation [3]uint64, value *[3][RootKeyLen]byte, floor uint64) error {
	if err := g.usable(); err != nil {
		return err
	}
	if value == nil {
		return fmt.Errorf("%w: no values of the root key", status.ErrArgument)
	}
	k, err := keys.NewRing(id, generation, value, floor)
	return g.set(l, k, err)
}

// Wait waits until every burst has ended that began before this call, in all
// threads of the process. No burst then uses keys from before the last change,
// and those are wiped. ErrTimeout: one still runs.
func (g *Group) Wait(timeout time.Duration) error {
	if err := g.usable(); err != nil {
		return err
	}
	if !keys.Wait(timeout) {
		return fmt.Errorf("%w: a burst that began before has not ended", status.ErrTimeout)
	}
	return nil
}

func (g *Group) set(l Level, k *keys.RootKey, err error) error {
	if err != nil {
		return err
	}
	if err := g.own(); err != nil {
		k.Free()
		return err
	}
	if err := g.g.Set(int(l), k); err != nil {
		k.Free()
		return err
	}
	return g.changed(nil)
}

// WriteRootKeyDER writes the DER form of a level's root key, which is secret,
// to dst and returns its length; ErrRoom if it does not fit, with the length
// that it needs.
func (g *Group) WriteRootKeyDER(dst []byte, l Level) (n int, err error) {
	if err := g.usable(); err != nil {
		return 0, err
	}
	err = g.g.With(int(l), func(k *keys.RootKey) error {
		b, err := secmem.Alloc(keys.DERLen)
		if err != nil {
			return err
		}
		defer secmem.Free(b)
		if n, err = k.MarshalDER(b); err != nil {
			return err
		}
		if n > len(dst) {
			return fmt.Errorf("%w: the root key takes %d octets", status.ErrRoom, n)
		}
		copy(dst, b[:n])
		return nil
	})
	return n, err
}

// Rotate sets a level's new next key; next becomes current, current becomes
// previous, and previous is wiped when the last burst that may use it has ended.
// value nil: a random one.
func (g *Group) Rotate(l Level, index uint64, value *[RootKeyLen]byte) error {
	return g.change(func(g *keys.Group) error { return g.Rotate(int(l), index, value) })
}

// RemoveRootKey removes a level's root key.
func (g *Group) RemoveRootKey(l Level) error {
	return g.change(func(g *keys.Group) error { return g.Remove(int(l)) })
}

// SetDefaultLevels sets the levels of packets without Master Key Options.
func (g *Group) SetDefaultLevels(s Levels) error {
	return g.change(func(g *keys.Group) error { return g.SetDefault(uint8(s)) })
}

// SetKey sets a slot's key, in place of any that is there, in profiles without
// root keys at levels: a device key (psp, slots 0 and 1), the key of an
// association number (tss, 0 and 1), the root key of an SA (eesp, 0). Senders
// use the first key that is set.
func (g *Group) SetKey(slot int, key []byte) error {
	return g.change(func(g *keys.Group) error { return g.SetKey(slot, key) })
}

// UseKey selects the slot that senders use.
func (g *Group) UseKey(slot int) error {
	return g.change(func(g *keys.Group) error { return g.UseKey(slot) })
}

// RotateKey sets the key (nil: a random one) of the slot that senders do not
// use, and selects that slot. It returns the slot.
func (g *Group) RotateKey(key []byte) (slot int, err error) {
	err = g.change(func(g *keys.Group) error {
		slot, err = g.RotateKey(key)
		return err
	})
	return slot, err
}

// RemoveKey removes the key of a slot.
func (g *Group) RemoveKey(slot int) error {
	return g.change(func(g *keys.Group) error { return g.RemoveKey(slot) })
}

// AllocSPI allocates an SPI for a peer of profile psp: each once for the device
// key in use, which is its top bit, in rising order, beginning with first. After
// a restart with the same device keys, pass the last SPI + 1.
func (g *Group) AllocSPI(first uint32) (uint32, error) {
	if err := g.usable(); err != nil {
		return 0, err
	}
	return g.g.AllocSPI(first)
}

// SetEpoch sets the group's epoch (tss). Senders seal in it, and receivers drop
// packets that are more than EpochAge behind it. It is the epoch of the key in
// use: a new key begins in epoch 0, and in each epoch counters begin at 0.
func (g *Group) SetEpoch(epoch uint16) error {
	if err := g.own(); err != nil {
		return err
	}
	return g.g.SetEpoch(epoch)
}

// ResetLatch lets receivers open packets again after too many were not authentic
// (AuthFailureLimit).
func (g *Group) ResetLatch() error {
	if err := g.usable(); err != nil {
		return err
	}
	return g.g.ResetLatch()
}

// DomainStats is what a group of profile tss counts, of all senders and receivers.
type DomainStats struct {
	Sealed, Opened uint64 // packets
	AuthFailures   uint64 // wrong ICV
	Invalid        uint64 // refused for what the header says, replayed, or dropped by the latch
	UnknownSA      uint64 // no key of that SDI and AN
	LateEpoch      uint64
	Exhausted      uint64 // not sealed: no counter left
	WrongSSI       uint64 // an SSI that this end sends with
	Clear          uint64 // not of this format, so perhaps in clear
	Failures       uint64 // wrong ICVs since the latch was reset, if there is a limit
	Latched        bool
	Epoch          uint16 // of the key in use
}

// DomainStats returns what the group has counted.
func (g *Group) DomainStats() (s DomainStats, err error) {
	if err := g.usable(); err != nil {
		return s, err
	}
	d := g.g.Params().State
	if d == nil {
		return s, fmt.Errorf("%w: this profile has no domains that count", status.ErrUnsupported)
	}
	n, failures := d.Read()
	return DomainStats{n[keys.Sealed], n[keys.Opened], n[keys.AuthFailures], n[keys.Invalid], n[keys.UnknownSA], n[keys.LateEpoch],
		n[keys.Exhausted], n[keys.WrongSSI], n[keys.Clear], failures, d.Latched(), g.g.Epoch()}, nil
}

// Usage is what was done with a key since it came to the group.
type Usage struct {
	// Derived is how often a data key was derived from it: mostly once for each
	// packet, authentic or not; packets of a burst that have one context may share
	// one. eesp: how many Sub SAs had one.
	Derived        uint64
	Sealed, Opened uint64 // packets
	Index          uint64 // of a root key
}

// Usage returns what was done with a level's root key; with generation Current,
// of the key in the slot level.
func (g *Group) Usage(level Level, generation Generation) (u Usage, err error) {
	if err := g.usable(); err != nil {
		return u, err
	}
	at, ok := map[Generation]int{Previous: 0, Current: 1, Next: 2}[generation]
	if !ok {
		return u, fmt.Errorf("%w: generation %d", status.ErrArgument, generation)
	}
	c, index, err := g.g.Used(int(level), at)
	if err != nil {
		return u, err
	}
	return Usage{c.Derived, c.Sealed, c.Opened, index}, nil
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
	var i RootKeyInfo
	if err := g.usable(); err != nil {
		return i, err
	}
	err := g.g.With(int(l), func(k *keys.RootKey) error {
		i = RootKeyInfo{append([]byte(nil), k.ID...), k.Index, k.HasPre(), !k.NoNext}
		return nil
	})
	return i, err
}

// Generation names one key of each ring.
type Generation uint8

// The generations.
const (
	Current Generation = iota
	Previous
	Next
)

// Context is what a data key depends on besides root keys. Its Levels are a
// set; 0 means the group's default levels.
type Context = profile.KeyContext

// Addr holds a source and a destination address of 16 octets each; an IPv4
// address is ::ffff:a.b.c.d (netip.Addr.As16).
type Addr = profile.Addr

// DataKey is the key of one context, for an end that must not hold root keys. It
// is secret.
type DataKey = profile.DataKey

// KeyLen is the number of octets that DeriveKeys writes for a context: the data
// key, and the octets that the profile adds to nonces (tss 12, eesp 4).
func (g *Group) KeyLen() int {
	if g.usable() != nil {
		return 0
	}
	p, err := profile.Of(g.g.Params().Profile)
	if err != nil {
		return 0
	}
	return p.KeyOctets(g.g.Params())
}

// DeriveKeys writes the data keys of contexts to out, which has exactly
// KeyLen octets for each. On error out is all zero.
func (g *Group) DeriveKeys(contexts []Context, out []byte) error {
	if err := g.usable(); err != nil {
		clear(out)
		return err
	}
	w, err := getWorker()
	if err != nil {
		return err
	}
	defer putWorker(w)
	return w.w.Derive(g.be, g.g, contexts, out)
}

// ExportDataKey derives the data key of a context. With options, packets
// sealed with it carry the Master Key Options that name the root keys.
func (g *Group) ExportDataKey(c Context, options bool) (*DataKey, error) {
	if err := g.usable(); err != nil {
		return nil, err
	}
	w, err := getWorker()
	if err != nil {
		return nil, err
	}
	defer putWorker(w)
	k := new(DataKey)
	return k, w.w.Export(g.be, g.g, &c, options, k)
}

// Engine is for this module's C library.
func (g *Group) Engine() (*keys.Group, *backend) { return g.g, g.be }
