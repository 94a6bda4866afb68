package record

import (
	"fmt"
	"slices"
)

// Type is a type of record.
type Type uint8

// Records, and the messages of a stream between agent and server.
const (
	TypeDelegation  Type = 1 + iota // C1
	TypeHead                        // C2
	TypeRing                        // C3
	TypeEscrow                      // C4
	TypeGrant                       // C5
	TypeMember                      // C6
	TypeSession                     // C7
	TypeGroup                       // C8
	TypeReady                       // C9
	TypeAck                         // C10
	TypeUsage                       // C11
	TypeInvite                      // C12
	TypeClientGrant                 // C13
	TypeCache                       // C14

	TypeHello   Type = 18 + iota // 32
	TypeWelcome                  // 33
	TypeSync                     // 34
	TypeNeed                     // 35
	TypePing                     // 36
	TypeIDs                      // 37
	TypeBye                      // 38
)

func (t Type) signed() bool {
	switch t {
	case TypeDelegation, TypeHead, TypeRing, TypeEscrow, TypeGrant, TypeMember, TypeGroup, TypeAck, TypeHello:
		return true
	}
	return false
}

// Level is a level of root keys. Levels share nothing: each has its own root, chain and roster.
type Level uint8

// The levels.
const (
	Zone Level = iota
	User
	Task
	Levels
)

func (l Level) String() string {
	if l >= Levels {
		return fmt.Sprintf("level(%d)", uint8(l))
	}
	return [...]string{"zone", "user", "task"}[l]
}

// ParseLevel is the reverse of String.
func ParseLevel(s string) (Level, error) {
	for l := Zone; l < Levels; l++ {
		if s == l.String() {
			return l, nil
		}
	}
	return 0, fmt.Errorf("no level %q: zone, user or task", s)
}

func (c *codec) level(num uint16, l *Level) {
	c.u8(num, (*uint8)(l))
	if *l >= Levels {
		c.fail("level %d", *l)
	}
}

// Roles of a controller instance.
const (
	RoleRotate   = 1 << iota // signs heads and rings
	RoleAdmit                // signs members
	RoleAllocate             // gives out IDs
)

// Instance is a controller instance: a server's keys at one level.
type Instance struct {
	ID    ID
	Name  string
	Sign  [32]byte // Ed25519
	HPKE  []byte   // ML-KEM-768 + X25519
	Roles uint8
}

func (v *Instance) fields(c *codec) {
	c.fixed(crit|1, v.ID[:])
	c.str(crit|2, &v.Name, 64)
	c.fixed(crit|3, v.Sign[:])
	c.bytes(crit|4, &v.HPKE, hpkePublicLen, hpkePublicLen)
	c.u8(crit|5, &v.Roles)
}

// Delegation (C1) names the instances that may sign. The level's root signs it. Only a delegation can
// raise the term.
type Delegation struct {
	Base
	Level     Level
	Serial    uint64
	Term      uint32
	Instances []Instance
	MinReader uint8 // least version that readers must support
}

func (*Delegation) Type() Type { return TypeDelegation }
func (r *Delegation) fields(c *codec) {
	c.level(crit|1, &r.Level)
	c.u64(crit|2, &r.Serial)
	c.u32(crit|3, &r.Term)
	list(c, crit|4, &r.Instances, 16, func(c *codec, v *Instance) { v.fields(c) })
	c.u8(crit|5, &r.MinReader)
}
func (r *Delegation) check() error {
	if r.MinReader > Version {
		return fmt.Errorf("%w: %d", ErrUnsupported, r.MinReader)
	}
	if r.Serial == 0 || r.Term == 0 || len(r.Instances) == 0 {
		return fmt.Errorf("%w: empty delegation", ErrMalformed)
	}
	for i := range r.Instances {
		if slices.ContainsFunc(r.Instances[:i], func(o Instance) bool { return o.ID == r.Instances[i].ID || o.Sign == r.Instances[i].Sign }) {
			return fmt.Errorf("%w: an instance twice", ErrMalformed)
		}
	}
	return nil
}

// ByKey returns the instance with this signing key and role, or nil.
func (r *Delegation) ByKey(id KeyID, role uint8) *Instance {
	for i := range r.Instances {
		if KeyIDOf(r.Instances[i].Sign[:]) == id && r.Instances[i].Roles&role == role {
			return &r.Instances[i]
		}
	}
	return nil
}

// Change is what an entry of the log did.
type Change uint8

// The changes.
const (
	ChangeGenesis Change = 1 + iota
	ChangeDelegate
	ChangeGroup
	ChangeInvite // a member was added to the roster, without rights yet
	ChangeAdmit
	ChangeCreate
	ChangePrepare
	ChangeActivate
	ChangeAbort
	ChangeRetire
	ChangeDestroyed
	ChangeExclude
	ChangeRejoin
	ChangeRevoke
	ChangeRestore
	ChangeEmergency // a running rotation is completed, and one with a new KEK follows
	ChangeGranter   // a member may give data keys to clients, or may not any more
	ChangeEpoch     // tss: the key in use moves to its next epoch
	changes
)

func (k Change) String() string {
	if k == 0 || k >= changes {
		return fmt.Sprintf("change(%d)", uint8(k))
	}
	return [...]string{"genesis", "delegate", "group", "invite", "admit", "create", "prepare", "activate", "abort", "retire", "destroyed", "exclude", "rejoin", "revoke", "restore", "emergency", "granter", "epoch"}[k-1]
}

// Changed names a record that an entry put, by its hash.
type Changed struct {
	Type Type
	ID   ID
	Hash Hash
}

// Head (C2) is an entry of a level's log; the newest entry is the head. Prev chains the entries.
type Head struct {
	Base
	Level        Level
	Term         uint32
	Serial       uint64
	Prev         Hash
	Change       Change
	Who          string // name in the operator's certificate, or what else caused the entry
	Instance     ID
	Ring         ID
	Old, New     uint64 // generations
	Step         uint64
	RosterSerial uint64
	RosterDigest Hash
	Changed      []Changed
	Wall         int64 // seconds, for people
	Reason       string
}

func (*Head) Type() Type { return TypeHead }
func (r *Head) fields(c *codec) {
	c.level(crit|1, &r.Level)
	c.u32(crit|2, &r.Term)
	c.u64(crit|3, &r.Serial)
	c.fixed(crit|4, r.Prev[:])
	c.u8(crit|5, (*uint8)(&r.Change))
	c.str(6, &r.Who, 256)
	c.fixed(crit|7, r.Instance[:])
	c.opt().fixed(crit|8, r.Ring[:])
	c.opt().u64(crit|9, &r.Old)
	c.opt().u64(crit|10, &r.New)
	c.opt().u64(crit|11, &r.Step)
	c.u64(crit|12, &r.RosterSerial)
	c.fixed(crit|13, r.RosterDigest[:])
	list(c, crit|14, &r.Changed, 1024, func(c *codec, v *Changed) {
		c.u8(crit|1, (*uint8)(&v.Type))
		c.fixed(crit|2, v.ID[:])
		c.fixed(crit|3, v.Hash[:])
	})
	c.i64(15, &r.Wall)
	c.opt().str(16, &r.Reason, 1024)
}
func (r *Head) check() error {
	if r.Term == 0 || r.Serial == 0 || (r.Serial == 1) != r.Prev.IsZero() || r.Change == 0 || r.Change >= changes {
		return fmt.Errorf("%w: head", ErrMalformed)
	}
	return nil
}

// Names reports whether the entry put this record.
func (r *Head) Names(t Type, id ID, h Hash) bool {
	return slices.Contains(r.Changed, Changed{t, id, h})
}

// State is the state of a ring.
type State uint8

// The states of a ring.
const (
	Empty State = iota
	Steady
	Prepared
	Active
)

func (s State) String() string {
	if s > Active {
		return fmt.Sprintf("state(%d)", uint8(s))
	}
	return [...]string{"empty", "steady", "prepared", "active"}[s]
}

// Role is the place of a generation in a ring.
type Role uint8

// The roles, in the order in which a record lists them.
const (
	Previous Role = 1 + iota
	Current
	Next
)

func (r Role) String() string {
	if r == 0 || r > Next {
		return fmt.Sprintf("role(%d)", uint8(r))
	}
	return [...]string{"previous", "current", "next"}[r-1]
}

// Fingerprint identifies the value of a generation without revealing it.
type Fingerprint [16]byte

func (f Fingerprint) String() string { return fmt.Sprintf("%x", f[:]) }

// Generation is one live generation of a ring.
type Generation struct {
	Gen         uint64
	Role        Role
	Fingerprint Fingerprint
	TSSEpoch    uint16
}

// Class is the purpose of a ring's values.
type Class uint8

// The classes.
const (
	ClassLevel Class = 1 + iota // root keys of a level
	ClassTSS                    // a domain's keys, two slots
)

// Policy is what an operator sets for a ring. It is in the ring's record, so members know it too. Times
// are in seconds, except for PathDelay.
type Policy struct {
	PathDelay   uint32 `json:"path_delay_ms"` // how long packets may be in flight, milliseconds
	MaxStale    uint32 `json:"max_stale"`     // members stop sealing if they hear from no server for so long
	AbsentAfter uint32 `json:"absent_after"`  // a member without a stream for so long is excluded; 0: never
	Period      uint32 `json:"period"`        // time between rotations; 0: they are started by hand only
	MinInterval uint32 `json:"min_interval"`  // least time between rotations
	MaxUsage    uint64 `json:"max_usage"`     // a rotation starts after so many derived keys; 0: no limit
}

// DefaultPolicy is the policy of a ring if the operator sets none.
var DefaultPolicy = Policy{PathDelay: 30_000, MaxStale: 24 * 3600, AbsentAfter: 600, Period: 24 * 3600, MinInterval: 3600}

// Flags of a ring's rotation.
const (
	RingEmergency = 1 << iota // the rotation has the deadlines of an emergency
	RingHard                  // RETIRE follows ACTIVATE at once
	RingAgain                 // a rotation with a new KEK follows this one at once
)

// Ring (C3) has the generations of a root key, with sealed values.
type Ring struct {
	Base
	ID       ID // root key ID
	Level    Level
	Class    Class
	Term     uint32
	Serial   uint64 // of the entry that put this record
	Step     uint64
	State    State
	KEKEpoch uint32
	KEKStep  uint32
	Gens     []Generation
	Floor    uint64 // no generation below it is ever used again
	Last     uint64 // highest generation so far, aborted ones included
	Policy   Policy
	Flags    uint8
	Since    int64  // wall time of the last PREPARE, for the period
	KEKSince uint32 // number of rotations since the KEK was drawn
	Name     string
	Reason   string

	Sealed []byte // salt 32, values, tag
}

// Type is TypeRing.
func (*Ring) Type() Type { return TypeRing }
func (r *Ring) fields(c *codec) {
	c.fixed(crit|1, r.ID[:])
	c.level(crit|2, &r.Level)
	c.u8(crit|3, (*uint8)(&r.Class))
	c.u32(crit|4, &r.Term)
	c.u64(crit|5, &r.Serial)
	c.u64(crit|6, &r.Step)
	c.u8(crit|7, (*uint8)(&r.State))
	c.u32(crit|8, &r.KEKEpoch)
	c.u32(crit|9, &r.KEKStep)
	list(c, crit|10, &r.Gens, 3, func(c *codec, v *Generation) {
		c.u64(crit|1, &v.Gen)
		c.u8(crit|2, (*uint8)(&v.Role))
		c.fixed(crit|3, v.Fingerprint[:])
		c.opt().u16(crit|4, &v.TSSEpoch)
	})
	c.u64(crit|11, &r.Floor)
	c.u64(crit|12, &r.Last)
	c.u32(crit|13, &r.Policy.PathDelay)
	c.u32(crit|14, &r.Policy.MaxStale)
	c.u32(15, &r.Policy.AbsentAfter)
	c.u32(16, &r.Policy.Period)
	c.u32(17, &r.Policy.MinInterval)
	c.opt().u64(18, &r.Policy.MaxUsage)
	c.opt().u8(19, &r.Flags)
	c.i64(20, &r.Since)
	c.u32(21, &r.KEKSince)
	c.str(23, &r.Name, 64)
	c.opt().str(24, &r.Reason, 1024)
	c.opt().bytes(crit|0x7000, &r.Sealed, saltLen+tagLen+ValueLen, saltLen+tagLen+3*ValueLen)
}

// RingOf returns level and ID in a ring's record that may be of a later version. Nothing of it is verified.
func RingOf(data []byte) (l Level, id ID, err error) {
	if n, err := Size(data); err != nil || n != len(data) || n == 0 || TypeOf(data) != TypeRing {
		return 0, id, fmt.Errorf("%w: no ring", ErrMalformed)
	}
	fs, err := splitFields(data[headerLen : len(data)-sigLen])
	if err != nil || len(fs) < 2 || fs[0].num != crit|1 || len(fs[0].value) != len(id) || fs[1].num != crit|2 || len(fs[1].value) != 1 || fs[1].value[0] >= byte(Levels) {
		return 0, id, fmt.Errorf("%w: ring", ErrMalformed)
	}
	copy(id[:], fs[0].value)
	return Level(fs[1].value[0]), id, nil
}

// Of returns the generation with a role; 0 if there is none.
func (r *Ring) Of(role Role) uint64 {
	for _, g := range r.Gens {
		if g.Role == role {
			return g.Gen
		}
	}
	return 0
}

// Find returns a generation of the ring, or nil.
func (r *Ring) Find(gen uint64) *Generation {
	for i := range r.Gens {
		if r.Gens[i].Gen == gen {
			return &r.Gens[i]
		}
	}
	return nil
}

func (r *Ring) check() error {
	bad := func(what string) error { return fmt.Errorf("%w: ring: %s", ErrMalformed, what) }
	want := [...][]Role{Empty: {}, Steady: {Current}, Prepared: {Current, Next}, Active: {Previous, Current}}
	if r.ID.IsZero() || r.Term == 0 || r.Serial == 0 || r.State > Active || r.Class == 0 || r.Class > ClassTSS {
		return bad("header")
	}
	if r.State == Empty || len(r.Gens) != len(want[r.State]) {
		return bad("generations")
	}
	low := r.Last
	for i, g := range r.Gens {
		if g.Role != want[r.State][i] {
			return bad("roles")
		}
		if g.Gen == 0 || g.Gen > r.Last || i > 0 && g.Gen <= r.Gens[i-1].Gen {
			return bad("numbers")
		}
		// On the wire a generation is its lowest octet.
		if i > 0 && (g.Gen-r.Gens[i-1].Gen)%256 == 0 {
			return bad("two generations with one index")
		}
		low = min(low, g.Gen)
	}
	if low < r.Floor || r.Step == 0 || r.KEKEpoch == 0 {
		return bad("floor, step or epoch")
	}
	if r.Sealed != nil && len(r.Sealed) != saltLen+tagLen+ValueLen*len(r.Gens) {
		return bad("sealed part")
	}
	return nil
}

// Escrow (C4) has a ring's KEK, sealed to the HPKE key of each instance.
type Escrow struct {
	Base
	Ring  ID
	Epoch uint32
	Step  uint32
	Keys  []EscrowKey
}

// EscrowKey is the KEK sealed to one instance.
type EscrowKey struct {
	Instance ID
	Sealed   []byte
}

// Type is TypeEscrow.
func (*Escrow) Type() Type { return TypeEscrow }
func (r *Escrow) fields(c *codec) {
	c.fixed(crit|1, r.Ring[:])
	c.u32(crit|2, &r.Epoch)
	c.u32(crit|3, &r.Step)
	list(c, crit|4, &r.Keys, 16, func(c *codec, v *EscrowKey) {
		c.fixed(crit|1, v.Instance[:])
		c.bytes(crit|2, &v.Sealed, hpkeSealedLen, hpkeSealedLen)
	})
}

// Grant (C5) is the answer to a session: a checkpoint with its nonce, and a ring's KEK if it asked for one.
// It is never stored.
type Grant struct {
	Base
	Level      Level
	Ring       ID
	Member     ID
	Session    ID
	Nonce      ID
	Term       uint32
	Serial     uint64
	Head       Hash
	Instance   ID
	RingHash   Hash // of the ring's record, as of this head
	KEKEpoch   uint32
	KEKStep    uint32
	Sealed     []byte
	RingSerial uint64
	Entry      Hash // of the entry that put the ring's record
}

// Type is TypeGrant.
func (*Grant) Type() Type { return TypeGrant }
func (r *Grant) fields(c *codec) {
	c.level(crit|1, &r.Level)
	c.opt().fixed(crit|2, r.Ring[:])
	c.fixed(crit|3, r.Member[:])
	c.fixed(crit|4, r.Session[:])
	c.fixed(crit|5, r.Nonce[:])
	c.u32(crit|6, &r.Term)
	c.u64(crit|7, &r.Serial)
	c.fixed(crit|8, r.Head[:])
	c.fixed(crit|9, r.Instance[:])
	c.opt().fixed(crit|10, r.RingHash[:])
	c.opt().u32(crit|11, &r.KEKEpoch)
	c.opt().u32(crit|12, &r.KEKStep)
	c.opt().bytes(crit|13, &r.Sealed, hpkeSealedLen, hpkeSealedLen)
	c.opt().u64(crit|14, &r.RingSerial)
	c.opt().fixed(crit|15, r.Entry[:])
}
func (r *Grant) check() error {
	if (r.Sealed != nil) != (r.KEKEpoch != 0) || r.Ring.IsZero() && r.Sealed != nil || r.Ring.IsZero() != r.RingHash.IsZero() {
		return fmt.Errorf("%w: grant", ErrMalformed)
	}
	return nil
}

// MemberState is the state of a member on a level's roster.
type MemberState uint8

// The states of a member.
const (
	Invited MemberState = 1 + iota
	MemberActive
	Absent
	Revoked
)

func (s MemberState) String() string {
	if s == 0 || s > Revoked {
		return fmt.Sprintf("state(%d)", uint8(s))
	}
	return [...]string{"invited", "active", "absent", "revoked"}[s-1]
}

// Member (C6) is an entry of a level's roster.
type Member struct {
	Base
	ID      ID
	Number  uint32 // its bit in bitmaps
	Level   Level
	Name    string
	SPKI    Hash // of its identity key
	State   MemberState
	Rings   []ID // rings that it may have; none: all of the level
	Granter bool
	Since   uint64 // serial of the entry that put this record
	Reason  string
}

// Type is TypeMember.
func (*Member) Type() Type { return TypeMember }
func (r *Member) fields(c *codec) {
	c.fixed(crit|1, r.ID[:])
	c.u32(crit|2, &r.Number)
	c.level(crit|3, &r.Level)
	c.str(4, &r.Name, 128)
	c.fixed(crit|5, r.SPKI[:])
	c.u8(crit|6, (*uint8)(&r.State))
	c.opt()
	list(c, crit|7, &r.Rings, 64, func(c *codec, v *ID) { c.fixed(crit|1, v[:]) })
	c.bool(crit|8, &r.Granter)
	c.u64(crit|9, &r.Since)
	c.opt().str(10, &r.Reason, 256)
}
func (r *Member) check() error {
	if r.ID.IsZero() || r.SPKI.IsZero() || r.State == 0 || r.State > Revoked {
		return fmt.Errorf("%w: member", ErrMalformed)
	}
	return nil
}

// May reports whether the member may have a ring.
func (r *Member) May(ring ID) bool {
	return (r.State == MemberActive || r.State == Absent) && (len(r.Rings) == 0 || slices.Contains(r.Rings, ring))
}

// IDKind is a kind of IDs that are given out in blocks.
type IDKind uint8

// The kinds.
const (
	KindDevice     IDKind = 1 + iota // DeviceID: block 24 | number 8
	KindConnection                   // ConnectionID: 0 | block 31 | number 32
	KindClient                       // ConnectionIDs for clients
	KindSSI                          // 0xF0000000 + block 20 | number 8
	KindSPI                          // SPIs without their top bit: block 20 | number 11
	Kinds
)

// Block is a block of IDs.
type Block struct {
	Kind  IDKind
	Block uint32
}

func (v *Block) fields(c *codec) {
	c.u8(crit|1, (*uint8)(&v.Kind))
	c.u32(crit|2, &v.Block)
	if v.Kind == 0 || v.Kind >= Kinds {
		c.fail("kind of block %d", v.Kind)
	}
}

// Session (C7) records which member has which IDs.
type Session struct {
	Base
	Member   ID
	Session  ID
	Boot     ID
	Key      Hash // of the session's public key
	Blocks   []Block
	Agent    string // the agent's versions, for people
	Library  string
	Features uint64
	Server   ID
	Wall     int64
}

// Type is TypeSession.
func (*Session) Type() Type { return TypeSession }
func (r *Session) fields(c *codec) {
	c.fixed(crit|1, r.Member[:])
	c.fixed(crit|2, r.Session[:])
	c.fixed(crit|3, r.Boot[:])
	c.fixed(crit|4, r.Key[:])
	list(c, crit|5, &r.Blocks, 256, func(c *codec, v *Block) { v.fields(c) })
	c.opt().str(6, &r.Agent, 64)
	c.opt().str(7, &r.Library, 64)
	c.u64(8, &r.Features)
	c.fixed(crit|9, r.Server[:])
	c.i64(10, &r.Wall)
}

// Group (C8) is a trust group: its rings and parameters. Only the name and the values for replay protection
// may change.
type Group struct {
	Base
	ID           ID
	Level        Level // of the controller that announces it
	Name         string
	Rings        [Levels]ID
	Profile      uint8
	AEAD         uint8
	Combiner     uint8 // 0: HKDF
	V            uint8 // 0: DeviceID, 1: ConnectionID
	Domain       uint32
	Mode         uint8
	CounterMode  uint8 // 0: from 0 under IDs that were never used before, 1: times (stateless)
	EngineBits   uint8 // 0
	Window       uint32
	Contexts     uint32
	MTU          uint16
	OfflineStart bool // members may seal with keys from their cache before a server has answered
	Since        uint64
}

// Type is TypeGroup.
func (*Group) Type() Type { return TypeGroup }
func (r *Group) fields(c *codec) {
	c.fixed(crit|1, r.ID[:])
	c.level(crit|2, &r.Level)
	c.str(3, &r.Name, 64)
	for l := range r.Rings {
		c.opt().fixed(crit|uint16(4+l), r.Rings[l][:])
	}
	c.u8(crit|7, &r.Profile)
	c.u8(crit|8, &r.AEAD)
	c.u8(crit|9, &r.Combiner)
	c.u8(crit|10, &r.V)
	c.opt().u32(crit|11, &r.Domain)
	c.opt().u8(crit|12, &r.Mode)
	c.u8(crit|13, &r.CounterMode)
	c.u8(crit|14, &r.EngineBits)
	c.u32(crit|15, &r.Window)
	c.u32(crit|16, &r.Contexts)
	c.opt().u16(17, &r.MTU)
	c.bool(crit|18, &r.OfflineStart)
	c.u64(crit|19, &r.Since)
}
func (r *Group) check() error {
	if r.ID.IsZero() || (r.Rings == [Levels]ID{}) != (r.Profile == ProfilePSP) || r.Combiner != 0 || r.EngineBits != 0 || r.AEAD > 1 || r.V > 1 || r.CounterMode > 1 || r.CounterMode == 1 && r.Profile != 0 {
		return fmt.Errorf("%w: group", ErrMalformed)
	}
	return nil
}

// Profiles, by the library's numbers. Groups of psp have no ring: each receiver has its own device keys.
const (
	ProfilePSP = 1 + iota
	ProfileTSS
)

// SameIdentity reports whether two records are of one group: all fields that never change are equal.
func (r *Group) SameIdentity(o *Group) bool {
	a, b := *r, *o
	for _, g := range []*Group{&a, &b} {
		g.Name, g.Window, g.Contexts, g.Since, g.MTU, g.unknown = "", 0, 0, 0, 0, nil
	}
	return fmt.Sprint(a) == fmt.Sprint(b)
}

// Laggard is a member that a step waits for.
type Laggard struct {
	Number uint32
	Reason string
}

// Ready (C9) is the set of members that acknowledged a step to one server.
type Ready struct {
	Base
	Ring     ID
	Term     uint32
	Step     uint64
	Entry    Hash
	Server   ID
	Bitmap   []byte
	Laggards []Laggard
	Serial   uint64 // number of the write; rises
	Proof    []byte // the server's signature: see Prove
	// Since is the number of the server's first write since it was started: earlier ones are of other sessions. Heard
	// says how far it had read what others write of their presence, which tells them how old this can be.
	Since uint64
	Heard []Heard
}

// Heard is the number of the newest record of its presence that a server wrote.
type Heard struct {
	Server ID
	Serial uint64
}

// Type is TypeReady.
func (*Ready) Type() Type { return TypeReady }
func (r *Ready) fields(c *codec) {
	c.fixed(crit|1, r.Ring[:])
	c.u32(crit|2, &r.Term)
	c.u64(crit|3, &r.Step)
	c.fixed(crit|4, r.Entry[:])
	c.fixed(crit|5, r.Server[:])
	c.bytes(crit|6, &r.Bitmap, 0, 32<<10)
	c.opt()
	list(c, 7, &r.Laggards, 64, func(c *codec, v *Laggard) {
		c.u32(crit|1, &v.Number)
		c.str(crit|2, &v.Reason, 256)
	})
	c.u64(8, &r.Serial)
	c.opt().bytes(9, &r.Proof, proofLen, proofLen)
	c.opt().u64(10, &r.Since)
	c.opt()
	list(c, 11, &r.Heard, 16, func(c *codec, v *Heard) {
		c.fixed(crit|1, v.Server[:])
		c.u64(crit|2, &v.Serial)
	})
}

// Code says why a member does not acknowledge a step.
type Code uint8

// The codes of a NACK. CodeNone: it acknowledges.
const (
	CodeNone Code = iota
	CodeUnsupported
	CodeSignature
	CodeChain
	CodeFingerprint
	CodeFloor
	CodeSealed
	CodeCache
	CodeDataPlane
	CodeSilent
	CodeStale
	CodeDetached
	CodeLease // clients have leases on a generation that is being dropped
	codes
)

func (c Code) String() string {
	if c >= codes {
		return fmt.Sprintf("code(%d)", uint8(c))
	}
	return [...]string{"ok", "unsupported", "signature", "chain", "fingerprint", "floor", "sealed", "cache", "data plane", "silent", "stale", "detached", "lease"}[c]
}

// Ack (C10) is a member's acknowledgement of a step, or says why there is none.
type Ack struct {
	Base
	Ring         ID
	Level        Level
	Term         uint32
	Step         uint64
	Entry        Hash // of the entry that put the step
	HeadTerm     uint32
	HeadSerial   uint64
	Head         Hash // the newest head that the member knows
	Fingerprints []Fingerprint
	Session      ID
	Member       ID
	Code         Code
	Reason       string
}

// Type is TypeAck.
func (*Ack) Type() Type { return TypeAck }
func (r *Ack) fields(c *codec) {
	c.fixed(crit|1, r.Ring[:])
	c.level(crit|2, &r.Level)
	c.u32(crit|3, &r.Term)
	c.u64(crit|4, &r.Step)
	c.fixed(crit|5, r.Entry[:])
	c.u32(crit|6, &r.HeadTerm)
	c.u64(crit|7, &r.HeadSerial)
	c.fixed(crit|8, r.Head[:])
	list(c, crit|9, &r.Fingerprints, 3, func(c *codec, v *Fingerprint) { c.fixed(crit|1, v[:]) })
	c.fixed(crit|10, r.Session[:])
	c.fixed(crit|11, r.Member[:])
	c.u8(crit|12, (*uint8)(&r.Code))
	c.opt().str(13, &r.Reason, 256)
}
func (r *Ack) check() error {
	if r.Code >= codes {
		return fmt.Errorf("%w: code %d", ErrMalformed, r.Code)
	}
	return nil
}

// GenUsage is the usage of one generation since the session began.
type GenUsage struct {
	Gen     uint64
	Derived uint64
	Sealed  uint64
	Opened  uint64
	Refused uint64
}

// Usage (C11) reports usage to the server. It may start a rotation and raise alarms.
type Usage struct {
	Base
	Ring ID
	Gens []GenUsage
}

// Type is TypeUsage.
func (*Usage) Type() Type { return TypeUsage }
func (r *Usage) fields(c *codec) {
	c.fixed(crit|1, r.Ring[:])
	list(c, crit|2, &r.Gens, 8, func(c *codec, v *GenUsage) {
		c.u64(crit|1, &v.Gen)
		c.u64(crit|2, &v.Derived)
		c.u64(crit|3, &v.Sealed)
		c.u64(crit|4, &v.Opened)
		c.u64(crit|5, &v.Refused)
	})
}

// Invite (C12) lets a host ask to be a member. It is secret.
type Invite struct {
	Base
	Cluster ID
	Roots   [Levels]Hash // of each level's root key; zero: no such level
	CA      Hash         // of the CA's certificate
	Servers []string     // addresses
	Secret  ID
	Uses    uint16
	Name    string // the member's, or a pattern
}

// Type is TypeInvite.
func (*Invite) Type() Type { return TypeInvite }
func (r *Invite) fields(c *codec) {
	c.fixed(crit|1, r.Cluster[:])
	for l := range r.Roots {
		c.opt().fixed(crit|uint16(2+l), r.Roots[l][:])
	}
	c.fixed(crit|5, r.CA[:])
	list(c, crit|6, &r.Servers, 16, func(c *codec, v *string) { c.str(crit|1, v, 256) })
	c.fixed(crit|7, r.Secret[:])
	c.u16(crit|8, &r.Uses)
	c.str(crit|9, &r.Name, 128)
}

// ClientSide is one direction of a client's grant.
type ClientSide struct {
	Connection uint64
	Epoch      uint16
	V          uint8
	Options    bool
	Key        []byte
	SPI        uint32 // psp
}

// ClientGrant (C13) has a pair of data keys for a client outside the cluster.
type ClientGrant struct {
	Base
	Group       ID
	Up, Down    ClientSide
	Lease       uint32 // seconds
	RenewAfter  uint32
	Generations []Generation // one for each level
	Profile     uint8
	MasterKeys  []byte // Master Key Options of both directions' packets
}

// Type is TypeClientGrant.
func (*ClientGrant) Type() Type { return TypeClientGrant }
func (r *ClientGrant) fields(c *codec) {
	c.fixed(crit|1, r.Group[:])
	for i, s := range []*ClientSide{&r.Up, &r.Down} {
		one := []ClientSide{*s}
		list(c, crit|uint16(2+i), &one, 1, func(c *codec, v *ClientSide) {
			c.u64(crit|1, &v.Connection)
			c.u16(crit|2, &v.Epoch)
			c.u8(crit|3, &v.V)
			c.bool(crit|4, &v.Options)
			c.bytes(crit|5, &v.Key, 16, 32)
			c.opt().u32(crit|6, &v.SPI)
		})
		if len(one) != 1 {
			c.fail("one direction")
			return
		}
		*s = one[0]
	}
	c.u32(crit|4, &r.Lease)
	c.u32(crit|5, &r.RenewAfter)
	list(c, crit|6, &r.Generations, int(Levels), func(c *codec, v *Generation) {
		c.u64(crit|1, &v.Gen)
		c.u8(crit|2, (*uint8)(&v.Role))
		c.fixed(crit|3, v.Fingerprint[:])
	})
	c.opt().u8(crit|7, &r.Profile)
	c.opt().bytes(crit|8, &r.MasterKeys, 1, 255)
}

// Cache (C14) is what an agent stores of one ring. It is secret. A cache file has these and the records
// that they come from, sealed as a whole.
type Cache struct {
	Base
	Ring     ID
	Level    Level
	KEKEpoch uint32
	KEKStep  uint32
	KEK      [32]byte
	Values   [][ValueLen]byte // in the order of the generations in the ring's record
	Floor    uint64
	Term     uint32
	Acked    uint64 // the step that was acknowledged
	Entry    Hash   // of the entry that put it
}

// Type is TypeCache.
func (*Cache) Type() Type { return TypeCache }
func (r *Cache) fields(c *codec) {
	c.fixed(crit|1, r.Ring[:])
	c.level(crit|2, &r.Level)
	c.u32(crit|3, &r.KEKEpoch)
	c.u32(crit|4, &r.KEKStep)
	c.fixed(crit|5, r.KEK[:])
	list(c, crit|6, &r.Values, 3, func(c *codec, v *[ValueLen]byte) { c.fixed(crit|1, v[:]) })
	c.u64(crit|7, &r.Floor)
	c.u32(crit|8, &r.Term)
	c.u64(crit|9, &r.Acked)
	c.fixed(crit|10, r.Entry[:])
}

// Known is a head that an agent knows.
type Known struct {
	Level  Level
	Term   uint32
	Serial uint64
	Hash   Hash
}

func (v *Known) fields(c *codec) {
	c.level(crit|1, &v.Level)
	c.u32(crit|2, &v.Term)
	c.u64(crit|3, &v.Serial)
	c.fixed(crit|4, v.Hash[:])
}

// Hello opens a stream. It names the agent's session and is signed by its identity key.
type Hello struct {
	Base
	Member   ID // zero: by its key
	Session  ID
	Boot     ID
	Nonce    ID
	Key      []byte // the session's HPKE key
	Heads    []Known
	Agent    string
	Library  string
	Features uint64
	Resumes  bool // the session has had a stream before
}

// Type is TypeHello.
func (*Hello) Type() Type { return TypeHello }
func (r *Hello) fields(c *codec) {
	c.opt().fixed(crit|1, r.Member[:])
	c.fixed(crit|2, r.Session[:])
	c.fixed(crit|3, r.Boot[:])
	c.fixed(crit|4, r.Nonce[:])
	c.bytes(crit|5, &r.Key, hpkePublicLen, hpkePublicLen)
	c.opt()
	list(c, crit|6, &r.Heads, int(Levels), func(c *codec, v *Known) { v.fields(c) })
	c.opt().str(7, &r.Agent, 64)
	c.opt().str(8, &r.Library, 64)
	c.u64(9, &r.Features)
	c.bool(crit|10, &r.Resumes)
}

// Welcome is the answer to Hello.
type Welcome struct {
	Base
	Member  ID
	Session ID
	Server  ID
	Number  uint32
	Blocks  []Block
	Beat    uint16 // seconds between the agent's pings
	Servers []Server
}

// Server is the address of a server.
type Server struct{ Addr string }

// Type is TypeWelcome.
func (*Welcome) Type() Type { return TypeWelcome }
func (r *Welcome) fields(c *codec) {
	c.fixed(crit|1, r.Member[:])
	c.fixed(crit|2, r.Session[:])
	c.fixed(crit|3, r.Server[:])
	c.u32(crit|4, &r.Number)
	c.opt()
	list(c, crit|5, &r.Blocks, 64, func(c *codec, v *Block) { v.fields(c) })
	c.u16(crit|6, &r.Beat)
	c.opt()
	list(c, 7, &r.Servers, 64, func(c *codec, v *Server) { c.str(crit|1, &v.Addr, 262) })
}

// Sync ends a push of one level: the records since the last Sync are all that the agent lacked up to this
// head.
type Sync struct {
	Base
	Head Known
}

// Type is TypeSync.
func (*Sync) Type() Type { return TypeSync }
func (r *Sync) fields(c *codec) {
	one := []Known{r.Head}
	list(c, crit|1, &one, 1, func(c *codec, v *Known) { v.fields(c) })
	if len(one) != 1 {
		c.fail("head")
		return
	}
	r.Head = one[0]
}

// Need asks for a ring's KEK.
type Need struct {
	Base
	Level Level
	Ring  ID
	Nonce ID
}

// Type is TypeNeed.
func (*Need) Type() Type { return TypeNeed }
func (r *Need) fields(c *codec) {
	c.level(crit|1, &r.Level)
	c.fixed(crit|2, r.Ring[:])
	c.fixed(crit|3, r.Nonce[:])
}

// Ping asks for a checkpoint of each level.
type Ping struct {
	Base
	Nonce ID
}

// Type is TypePing.
func (*Ping) Type() Type        { return TypePing }
func (r *Ping) fields(c *codec) { c.fixed(crit|1, r.Nonce[:]) }

// IDs asks for blocks of IDs (Count) and answers (Blocks).
type IDs struct {
	Base
	Kind   IDKind
	Count  uint16
	Blocks []Block
}

// Type is TypeIDs.
func (*IDs) Type() Type { return TypeIDs }
func (r *IDs) fields(c *codec) {
	c.u8(crit|1, (*uint8)(&r.Kind))
	c.opt().u16(crit|2, &r.Count)
	c.opt()
	list(c, crit|3, &r.Blocks, 256, func(c *codec, v *Block) { v.fields(c) })
}

// Why a server ends a stream.
const (
	ByeLater   = 1 + iota // come back after Retry seconds, or to another server
	ByeRevoked            // the member was revoked: drop everything
	ByeFenced             // another session of this identity is in use
	ByeCloned             // this session has two streams: begin another session
	ByeRefused            // the member is not on the roster, or not yet
)

// Bye is the last record of a stream.
type Bye struct {
	Base
	Code   uint8
	Retry  uint16
	Reason string
}

// Type is TypeBye.
func (*Bye) Type() Type { return TypeBye }
func (r *Bye) fields(c *codec) {
	c.u8(crit|1, &r.Code)
	c.u16(2, &r.Retry)
	c.str(3, &r.Reason, 256)
}

// MaxReason is how many octets a reason has at most in an acknowledgement, in a laggard's entry, and in a
// stream's last record; MaxHeadReason in an entry of the log.
const (
	MaxReason     = 256
	MaxHeadReason = 1024
)

// New returns an empty body of a type, or nil.
func New(t Type) Body {
	for _, f := range bodies {
		if b := f(); b.Type() == t {
			return b
		}
	}
	return nil
}

var bodies = []func() Body{
	func() Body { return new(Delegation) }, func() Body { return new(Head) }, func() Body { return new(Ring) },
	func() Body { return new(Escrow) }, func() Body { return new(Grant) }, func() Body { return new(Member) },
	func() Body { return new(Session) }, func() Body { return new(Group) }, func() Body { return new(Ready) },
	func() Body { return new(Ack) }, func() Body { return new(Usage) }, func() Body { return new(Invite) },
	func() Body { return new(ClientGrant) }, func() Body { return new(Cache) }, func() Body { return new(Hello) },
	func() Body { return new(Welcome) }, func() Body { return new(Sync) }, func() Body { return new(Need) },
	func() Body { return new(Ping) }, func() Body { return new(IDs) }, func() Body { return new(Bye) },
}
