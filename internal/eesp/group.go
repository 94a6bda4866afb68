package eesp

import (
	"sync"
	"sync/atomic"
	"time"

	"libeesp/internal/asm"
	"libeesp/internal/counter"
	"libeesp/internal/keys"
	"libeesp/internal/profile"
	"libeesp/internal/say"
	"libeesp/internal/secmem"
	"libeesp/internal/status"
	"libeesp/internal/wire"
)

type AEAD uint8

const (
	AES128GCM AEAD = iota
	AES256GCM
)

type Combiner = keys.Combiner

const (
	CombinerHKDF = keys.HKDF
	CombinerXOR  = keys.XOR
)

type Level int

const (
	Zone Level = iota
	User
	Task
)

type Levels uint8

func Set(levels ...Level) (s Levels) {
	for _, l := range levels {
		if l < Zone || l > Task {
			return 1 << 7 // which is refused; 0 would be the default levels
		}
		s |= 1 << l
	}
	return s
}

const RootKeyLen = keys.ValueLen

type ProfileID uint8

const (
	ProfileStateless ProfileID = iota
	ProfilePSP
	ProfileTSS
	ProfileEESP
)

const (
	TSSCluster = keys.TSSCluster
	TSSServer  = keys.TSSServer
	TSSDirect  = keys.TSSDirect
)

const (
	SSKDFSHA256 = 1 + iota
	SSKDFSHA384
	SSKDFSHA512
	SSKDFCMAC

	SSKDFNone = profile.EESPNone
)

const (
	EncapTransport = keys.EncapTransport
	EncapTunnel    = keys.EncapTunnel
	EncapBEET      = keys.EncapBEET
	EncapIPTFS     = keys.EncapIPTFS
)

type GroupConfig struct {
	AEAD     AEAD
	Combiner Combiner
	Profile  ProfileID

	Domain     uint32
	Mode       uint8
	Versions   uint8
	RekeyMask  uint64
	RekeyShift uint8

	CryptOffset      uint16
	EpochAge         uint16
	CounterLimit     uint64
	AuthFailureLimit uint32
	NoDirectionBit   bool

	NoSequence bool
	IV         bool
	Optimized  bool
	Align8     bool
	MaxCOffset uint8
	SubSAs     uint32
	Draft      uint8
	Encap      uint8

	Time, TimeLate bool
}

func (c *GroupConfig) params() (p keys.Params, err error) {
	if c.AEAD > AES256GCM {
		return p, say.Errorf("%w: AEAD %d", status.ErrArgument, c.AEAD)
	}
	p = keys.Params{Profile: uint8(c.Profile), KeyLen: 16 << c.AEAD, Combiner: c.Combiner, Domain: c.Domain, Mode: c.Mode,
		Versions: c.Versions, RekeyMask: c.RekeyMask, RekeyShift: c.RekeyShift, Draft: c.Draft, Encap: c.Encap,
		Timed: c.Time || c.TimeLate, TimedLate: c.TimeLate}
	p.TSS = keys.TSSParams{CryptOffset: c.CryptOffset, EpochAge: c.EpochAge, CounterLimit: c.CounterLimit,
		AuthFailures: c.AuthFailureLimit, NoDirection: c.NoDirectionBit}
	sa := wire.EESPFormat{Seq: !c.NoSequence, IV: c.IV, Full: !c.Optimized, MaxCOffset: c.MaxCOffset, SubSAs: c.SubSAs}
	p.EESP, p.Align = sa, 4
	if c.Align8 {
		p.Align = 8
	}
	// Fields that the profile does not read must be zero: they would be ignored.
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
			return p, say.Errorf("%w: %s: this profile does not read it", status.ErrArgument, f.name)
		}
	}
	pr, err := profile.ByNumber(p.Profile)
	if err != nil {
		return p, err
	}
	return p, pr.Prepare(&p)
}

type Group struct {
	g       *keys.Group
	be      *backend
	closed  atomic.Bool
	made    int64     // when it was made, ns since 1970
	follows *follower // nil: the program sets the keys itself

	bindings bindings
}

// bindings are the owners of a group's senders with a state file, which names the key in
// use, or locks, which are for keys.
type bindings struct {
	mu  sync.Mutex
	all map[*counter.Owner]int // number of senders that share the owner
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

// changed updates files and locks for the keys that are in use now, unless err is not nil,
// and returns err.
func (g *Group) changed(err error) error {
	if err == nil {
		g.bindings.mu.Lock()
		defer g.bindings.mu.Unlock()
		for o := range g.bindings.all {
			keys.Retire(o.Rebind())
		}
	}
	return err
}

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

func (g *Group) Close() {
	if g != nil && g.g != nil && !g.closed.Swap(true) {
		if g.follows != nil {
			g.follows.close()
		}
		g.g.Release()
	}
}

// usable returns nil, or ErrArgument if the group is nil, not made or closed.
func (g *Group) usable() error {
	if g == nil || g.g == nil {
		return say.Errorf("%w: no group", status.ErrArgument)
	}
	if g.closed.Load() {
		return say.Errorf("%w: the group is closed", status.ErrArgument)
	}
	return nil
}

// own returns nil if the program sets the group's keys itself, else ErrUnsupported.
func (g *Group) own() error {
	if err := g.usable(); err != nil {
		return err
	}
	if g.follows != nil {
		return say.Errorf("%w: the group follows an agent, which manages its keys", status.ErrUnsupported)
	}
	return nil
}

// change calls f, which changes a group's keys, and updates files and locks.
func (g *Group) change(f func(g *keys.Group) error) error {
	if err := g.own(); err != nil {
		return err
	}
	return g.changed(f(g.g))
}

func (g *Group) SetRootKeyDER(l Level, der []byte) error {
	if err := g.usable(); err != nil {
		return err
	}
	k, err := keys.ParseRootKey(der)
	return g.set(l, k, err)
}

func (g *Group) SetRootKey(l Level, id []byte, index [3]uint64, value *[3][RootKeyLen]byte) error {
	if err := g.usable(); err != nil {
		return err
	}
	if value == nil {
		return say.Errorf("%w: no values of the root key", status.ErrArgument)
	}
	k, err := keys.NewRootKey(id, index, value)
	return g.set(l, k, err)
}

func (g *Group) GenerateRootKey(l Level, id []byte) error {
	if err := g.usable(); err != nil {
		return err
	}
	k, err := keys.GenerateRootKey(id)
	return g.set(l, k, err)
}

func (g *Group) SetRing(l Level, id []byte, generation [3]uint64, value *[3][RootKeyLen]byte, floor uint64) error {
	if err := g.usable(); err != nil {
		return err
	}
	if value == nil {
		return say.Errorf("%w: no values of the root key", status.ErrArgument)
	}
	k, err := keys.NewRing(id, generation, value, floor)
	return g.set(l, k, err)
}

func (g *Group) Wait(timeout time.Duration) error {
	if err := g.usable(); err != nil {
		return err
	}
	if !keys.Wait(timeout) {
		return say.Errorf("%w: a burst that began before has not ended", status.ErrTimeout)
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
			return say.Errorf("%w: the root key needs %d octets, there are %d", status.ErrRoom, n, len(dst))
		}
		copy(dst, b[:n])
		return nil
	})
	return n, err
}

func (g *Group) Rotate(l Level, index uint64, value *[RootKeyLen]byte) error {
	return g.change(func(g *keys.Group) error { return g.Rotate(int(l), index, value) })
}

func (g *Group) RemoveRootKey(l Level) error {
	return g.change(func(g *keys.Group) error { return g.Remove(int(l)) })
}

func (g *Group) SetDefaultLevels(s Levels) error {
	return g.change(func(g *keys.Group) error { return g.SetDefault(uint8(s)) })
}

func (g *Group) SetKey(slot int, key []byte) error {
	return g.change(func(g *keys.Group) error { return g.SetKey(slot, key) })
}

func (g *Group) UseKey(slot int) error {
	return g.change(func(g *keys.Group) error { return g.UseKey(slot) })
}

func (g *Group) RotateKey(key []byte) (slot int, err error) {
	err = g.change(func(g *keys.Group) error {
		slot, err = g.RotateKey(key)
		return err
	})
	return slot, err
}

func (g *Group) RemoveKey(slot int) error {
	return g.change(func(g *keys.Group) error { return g.RemoveKey(slot) })
}

func (g *Group) AllocSPI(first uint32) (uint32, error) {
	if err := g.usable(); err != nil {
		return 0, err
	}
	return g.g.AllocSPI(first)
}

func (g *Group) SetEpoch(epoch uint16) error {
	if err := g.own(); err != nil {
		return err
	}
	return g.g.SetEpoch(epoch)
}

func (g *Group) ResetLatch() error {
	if err := g.usable(); err != nil {
		return err
	}
	return g.g.ResetLatch()
}

type DomainStats struct {
	Sealed, Opened uint64
	AuthFailures   uint64
	Invalid        uint64
	UnknownSA      uint64
	LateEpoch      uint64
	Exhausted      uint64
	WrongSSI       uint64
	Clear          uint64
	Failures       uint64
	Latched        bool
	Epoch          uint16
}

func (g *Group) DomainStats() (s DomainStats, err error) {
	if err := g.usable(); err != nil {
		return s, err
	}
	d := g.g.Params().State
	if d == nil {
		return s, say.Errorf("%w: this profile has no domain statistics", status.ErrUnsupported)
	}
	n, failures := d.Read()
	return DomainStats{n[keys.Sealed], n[keys.Opened], n[keys.AuthFailures], n[keys.Invalid], n[keys.UnknownSA], n[keys.LateEpoch],
		n[keys.Exhausted], n[keys.WrongSSI], n[keys.Clear], failures, d.Latched(), g.g.Epoch()}, nil
}

type Usage struct {
	Derived        uint64
	Sealed, Opened uint64
	Index          uint64
}

func (g *Group) Usage(level Level, generation Generation) (u Usage, err error) {
	if err := g.usable(); err != nil {
		return u, err
	}
	at, ok := map[Generation]int{Previous: 0, Current: 1, Next: 2}[generation]
	if !ok {
		return u, say.Errorf("%w: generation %d", status.ErrArgument, generation)
	}
	c, index, err := g.g.Used(int(level), at)
	if err != nil {
		return u, err
	}
	return Usage{c.Derived, c.Sealed, c.Opened, index}, nil
}

type RootKeyInfo struct {
	ID          []byte
	Index       [3]uint64
	HasPrevious bool
	HasNext     bool
}

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

type Generation uint8

const (
	Current Generation = iota
	Previous
	Next
)

type Context = profile.KeyContext

type Addr = profile.Addr

type DataKey = profile.DataKey

func (g *Group) KeyLen() int {
	if g.usable() != nil {
		return 0
	}
	p, err := profile.ByNumber(g.g.Params().Profile)
	if err != nil {
		return 0
	}
	return p.KeyOctets(g.g.Params())
}

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

func (g *Group) ExportDataKey(c Context, options bool) (*DataKey, error) {
	if err := g.usable(); err != nil {
		return nil, err
	}
	k := new(DataKey)
	return k, g.export(k, c, options)
}

func (g *Group) export(k *DataKey, c Context, options bool) error {
	w, err := getWorker()
	if err != nil {
		return err
	}
	defer putWorker(w)
	return w.w.Export(g.be, g.g, &c, options, k)
}

// Internals returns the group and its backend for the C library.
func (g *Group) Internals() (*keys.Group, *backend) { return g.g, g.be }
