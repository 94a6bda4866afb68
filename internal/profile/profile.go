// Package profile turns header fields into input for internal/burst: the key,
// the key-derivation input, the nonce, and the positions of the authenticated
// and the encrypted octets. One file per profile.
package profile

import (
	"fmt"
	"unsafe"

	"libeesp/internal/kernel"
	"libeesp/internal/keys"
	"libeesp/internal/status"
	"libeesp/internal/wire"
)

// Sealing is how a sender writes its packets. It does not change.
type Sealing interface {
	// Begin prepares the headers of a burst. snap is nil for a held data key.
	Begin(h *Header, snap *keys.Snapshot) status.Code
	// Fit decides about a packet that is not simple: l has Pkt and Len; Prefix,
	// Pad, Clear and Skip are set.
	Fit(h *Header, l *Lane) status.Code
	// Look sees the payload of a packet where Header.Simple is false, before
	// anything is written.
	Look(l *Lane, payload unsafe.Pointer) status.Code
	// Fill writes the headers of packets that follow one another, the first
	// with tsc, the next with tsc+1, and nonces. The jobs' AAD begins with the
	// prefix; what is in front of the payload follows.
	Fill(h *Header, jobs []kernel.Job, pkts []Desc, tsc, step uint64)
	// Messages writes the KDF inputs of packets that Fill was called for, room
	// octets apart. pkts may be nil where Header.Fixed is true.
	Messages(h *Header, to unsafe.Pointer, room int, jobs []kernel.Job, pkts []Desc)
	// Space names the counter space that the sender takes its counters from; an
	// asterisk at its end stands for all that begin alike.
	Space() string
	// Epochs reports whether a data key is good for one epoch only.
	Epochs() bool
	// LeadFor is the prefix of a packet that a proxy makes, from its addresses.
	PrefixFor(a *Addr) (prefix [wire.TSSPrefix6]byte, n int, flags uint16)
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

func (bare) PrefixFor(*Addr) (prefix [wire.TSSPrefix6]byte, n int, flags uint16) { return }

func (bare) Look(*Lane, unsafe.Pointer) status.Code { return status.OK }

// bareOpening is that part of an Opening, for formats that say which key a
// packet is of, and have no padding.
type bareOpening struct{}

func (bareOpening) Prefix(p *Desc) (uint32, status.Code) {
	if p.Flags != 0 {
		return 0, status.ErrArgument
	}
	return 0, status.OK
}

func (bareOpening) Opened(*Lane, unsafe.Pointer) status.Code { return status.OK }

func (bareOpening) Retries() bool { return false }

// Opening is how a receiver reads packets. It does not change.
type Opening interface {
	// Prefix is how many octets in front of a packet belong to it.
	Prefix(p *Desc) (n uint32, c status.Code)
	// Parse reads the header of a packet of n octets at l.Hdr, and what follows
	// from it: the nonce and the context. snaps are the receiver's groups in
	// order.
	Parse(l *Lane, j *kernel.Job, c *Context, n uint32, snaps []*keys.Snapshot) status.Code
	// Opened looks at what an authentic packet holds: it takes Len down to the
	// payload.
	Opened(l *Lane, payload unsafe.Pointer) status.Code
	// Learn records the pattern of a packet that was parsed, if others can have
	// it.
	Learn(s *Pattern, l *Lane, c *Context)
	// Match turns packets into jobs, and writes their KDF inputs, room octets
	// apart. It stops at a packet that does not match the pattern, is not
	// simple, or would be refused: Parse is for that one. Of lanes, it fills in
	// Flow and Seq if Replay asks for them. It returns how many packets it took,
	// and whether they are in order of length.
	Match(s *Pattern, jobs []kernel.Job, lanes []Lane, pkts []Desc, msgs unsafe.Pointer, room int) (n int, sorted bool)
	// Retries reports whether Parse may set Retry.
	Retries() bool
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
func ByNumber(n uint8) (Profile, error) {
	if int(n) >= len(profiles) || profiles[n] == nil {
		return nil, fmt.Errorf("%w: profile %d", status.ErrArgument, n)
	}
	return profiles[n], nil
}

// split takes the engine's number out of a counter: what is left counts the
// packets of one engine.
func split(tsc uint64, engineBits uint8) (seq uint64, engine uint32) {
	return tsc >> (engineBits & 63), uint32(tsc) & (1<<(engineBits&63) - 1)
}
