// Package profile turns header fields into input for internal/burst: the key,
// the key-derivation input, the nonce, and the positions of the authenticated
// and the encrypted octets. One file per profile.
package profile

import (
	"unsafe"

	"libeesp/internal/kernel"
	"libeesp/internal/keys"
	"libeesp/internal/say"
	"libeesp/internal/status"
	"libeesp/internal/wire"
)

// Sealing writes a sender's packets. It does not change.
type Sealing interface {
	// Begin prepares the headers of a burst. snap is nil if the sender holds a
	// data key.
	Begin(h *Header, snap *keys.Snapshot) status.Code
	// Fit checks a packet that is not simple, by l.Pkt and l.Len, and sets Prefix,
	// Pad, Clear and Skip.
	Fit(h *Header, l *Lane) status.Code
	// Look checks the payload of a packet that is not simple, before anything is
	// written.
	Look(l *Lane, payload unsafe.Pointer) status.Code
	// Fill writes headers and nonces of packets with tsc, tsc+step and so on. A
	// job's AAD points to the prefix, behind which the header goes.
	Fill(h *Header, jobs []kernel.Job, pkts []Desc, tsc, step uint64)
	// Messages writes the KDF inputs of packets, after Fill, room octets apart.
	// pkts may be nil where Header.Fixed is true.
	Messages(h *Header, to unsafe.Pointer, room int, jobs []kernel.Job, pkts []Desc)
	// Space names the counter space of the sender's counters. An asterisk at its
	// end stands for all names that begin with the rest.
	Space() string
	// Epochs reports whether a data key is good for one epoch only.
	Epochs() bool
	// PrefixFor returns the prefix of a packet that a proxy makes, from its
	// addresses.
	PrefixFor(a *Addr) (prefix [wire.TSSPrefix6]byte, n int, flags uint16)
}

// Numbered is a Sealing whose counters are not below First.
type Numbered interface {
	First() uint64
}

// Shared is a Sealing whose data key several IDs may have, with different nonces.
// KeySpace tells these IDs apart.
type Shared interface {
	KeySpace() string
}

// Domain is a Sealing in a domain: its counters begin anew with each key and epoch,
// and are below CounterLimit; 0: no limit.
type Domain interface {
	CounterLimit() uint64
}

// Directed is a Sealing that may tell a packet's direction by the top bit of its
// counter. Direction returns whether it does, and the bit.
type Directed interface {
	Direction() (is bool, bit uint8)
}

// bare has methods of a Sealing for formats without prefix that take any payload.
type bare struct{}

func (bare) PrefixFor(*Addr) (prefix [wire.TSSPrefix6]byte, n int, flags uint16) { return }

func (bare) Look(*Lane, unsafe.Pointer) status.Code { return status.OK }

// bareOpening has methods of an Opening for formats without prefix, padding and
// second tries.
type bareOpening struct{}

func (bareOpening) Prefix(p *Desc) (uint32, status.Code) {
	if p.Flags != 0 {
		return 0, status.ErrArgument
	}
	return 0, status.OK
}

func (bareOpening) Opened(*Lane, unsafe.Pointer) status.Code { return status.OK }

func (bareOpening) Retries() bool { return false }

// Opening reads a receiver's packets. It does not change.
type Opening interface {
	// Prefix returns how many octets in front of the header are authenticated.
	Prefix(p *Desc) (n uint32, c status.Code)
	// Parse reads the header of a packet of n octets from l.Head. It sets the lane, the
	// nonce and the context. snaps are the receiver's groups, in order.
	Parse(l *Lane, j *kernel.Job, c *Context, n uint32, snaps []*keys.Snapshot) status.Code
	// Opened checks the content of an authentic packet and reduces Len to the
	// payload's.
	Opened(l *Lane, payload unsafe.Pointer) status.Code
	// Learn records the pattern of a packet that was parsed, if other packets can
	// have it.
	Learn(s *Pattern, l *Lane, c *Context)
	// Match makes jobs of packets, and writes their KDF inputs, room octets apart. It
	// stops at a packet that does not match the pattern, is not simple, or would be
	// refused: Parse takes that one. If Replay asks for them, it sets Flow, Seq and
	// Time of lanes. It returns how many packets it took, and whether they are in
	// order of length.
	Match(s *Pattern, jobs []kernel.Job, lanes []Lane, pkts []Desc, msgs unsafe.Pointer, room int) (n int, sorted bool)
	// Retries reports whether Parse may set Retry.
	Retries() bool
}

// SenderConfig says what packets a sender writes.
type SenderConfig struct {
	V       uint8
	ID      uint64
	Levels  uint8    // bit l: level l takes part; 0 = the group's default levels
	Options bool     // send Master Key Options
	Extra   []byte   // psp: VC and other extension fields; eesp: Flow Identifier
	NoVC    bool     // psp: Extra does not begin with a VC
	FromIV  bool     // psp: packets' COffset counts from the end of the IV, not of Extra
	Key     *DataKey // instead of a group

	EngineBits uint8 // of the counter
}

// ReceiverConfig says what packets a receiver accepts.
type ReceiverConfig struct {
	Own         *OwnIDs // packets with one of them are reflections; nil: there are none
	TryPrevious bool
	Replay      bool     // set Flow, Seq and Time of lanes
	EngineBits  uint8    // of senders' counters
	Key         *DataKey // instead of groups
}

// Profile is one packet format.
type Profile interface {
	Name() string
	// Prepare checks a group's parameters and sets those that follow from others.
	Prepare(p *keys.Params) error
	// Sealing and Opening make the two sides; p is nil where the configuration
	// has a data key.
	Sealing(p *keys.Params, c *SenderConfig) (Sealing, error)
	Opening(p *keys.Params, c *ReceiverConfig) (Opening, error)
	// KeyOctets returns how many octets are derived for a context: the key, and what
	// is added to nonces.
	KeyOctets(p *keys.Params) int
	// Resolve sets the KDF and its input for a context.
	Resolve(s *keys.Snapshot, k *KeyContext, c *Context) status.Code
	// Export sets the fields that go with the data key of a context, after Resolve.
	// If the key cannot be exported, it returns why.
	Export(s *keys.Snapshot, k *KeyContext, options bool, d *DataKey) status.Code
	// Check checks a data key that a caller passes.
	Check(d *DataKey) status.Code
}

// The profiles, by their numbers in the C ABI.
var profiles = [...]Profile{0: stateless{}, 1: psp{}, 2: tss{}, 3: eesp{}}

// errNoLevels refuses settings that need root keys at levels.
var errNoLevels = say.Errorf("%w: this profile has no root keys at levels: no levels, options, or previous keys", status.ErrArgument)

// ByNumber returns the profile with this number in the C ABI, or ErrArgument.
func ByNumber(n uint8) (Profile, error) {
	if int(n) >= len(profiles) || profiles[n] == nil {
		return nil, say.Errorf("%w: profile %d", status.ErrArgument, n)
	}
	return profiles[n], nil
}

// split parts a counter into the number of the packet and that of the engine.
func split(tsc uint64, engineBits uint8) (seq uint64, engine uint32) {
	return tsc >> (engineBits & 63), uint32(tsc) & (1<<(engineBits&63) - 1)
}
