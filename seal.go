package eesp

import (
	"time"

	impl "libeesp/internal/eesp"
)

// CounterMode selects how counters are kept from repeating after a restart.
type CounterMode = impl.CounterMode

// The counter modes; see enum eesp_counter_mode in include/eesp.h.
const (
	CounterClock    CounterMode = impl.CounterClock
	CounterReserved CounterMode = impl.CounterReserved
	CounterExplicit CounterMode = impl.CounterExplicit
)

// SenderConfig describes a sender. The zero value has the 4-octet ID 0, the
// group's default levels, no options, and counters that follow the clock.
type SenderConfig struct {
	ID      uint64 // names this sender and this direction
	V       uint8  // what the data key depends on: VID and the others
	Levels  Levels // 0 = the group's default
	Options bool   // send Master Key Options; set it where root keys rotate
	// Extra, in psp, is the VC (8 octets) and other extension fields behind the
	// header's IV, a multiple of 8 octets in all, at most 112. In eesp it is the
	// Flow Identifier.
	Extra []byte
	// NoVC says that Extra has other extension fields only (psp).
	NoVC bool
	// OffsetFromIV says that COffset counts from the end of the IV, as in the
	// header, instead of from the payload (psp). The octets of Extra beyond it are
	// encrypted.
	OffsetFromIV bool

	Counter    CounterMode
	EngineBits uint8 // lowest bits of Counter that tell engines of one ID apart
	Engine     uint32
	RateLog2   uint8 // clock: 2^RateLog2 ticks a second; 0 = 28 - EngineBits (tss: 18 - EngineBits)
	FixedEpoch bool  // implied unless Counter is CounterClock
	Epoch      uint16
	// EpochStart is when the fixed epoch began (clock). It and RateLog2 belong
	// to the epoch: all senders under this ID have the same, at every start, and
	// EpochStart is never "now". With other values nonces repeat. They are refused
	// within a process and, with LockDir, within a host.
	EpochStart time.Time
	Start      uint64 // explicit: first counter; eesp: 0 is taken for 1
	ReserveRun uint64 // reserved: counters claimed at a time; 0 = 2^24
	StatePath  string // reserved: the file
	// Time and TimeLate are for senders with a data key, and as in GroupConfig.
	// Other senders follow their group.
	Time, TimeLate bool
	// LockDir is a directory for locks on the ID, with this engine and the group's
	// keys. The sender is refused (ErrExists) if another process of the host has
	// them. Packets are ErrExists if another process locks the ID under a new key
	// first. Files there also record start and rate of fixed epochs. "" = no lock.
	LockDir string
}

// TimeLead is how far a sender's counters may be ahead of its clock, where they
// are times.
const TimeLead = impl.TimeLead

// Sender seals packets under one ID and owns its counters.
type Sender struct{ in *impl.Sender }

func (s *Sender) of() *impl.Sender {
	if s == nil {
		return nil
	}
	return s.in
}

func sender(s *impl.Sender, err error) (*Sender, error) {
	if err != nil {
		return nil, err
	}
	return &Sender{s}, nil
}

// NewSender makes a sender of a group.
func NewSender(g *Group, c SenderConfig) (*Sender, error) {
	return sender(impl.NewSender(g.of(), impl.SenderConfig(c)))
}

// NewSenderWithKey makes a sender that holds only a data key. ID, V, Levels,
// Options and Epoch come from the key and must be zero in c. In psp and eesp
// keys do not depend on the epoch, so there c has it.
func NewSenderWithKey(k *DataKey, c SenderConfig) (*Sender, error) {
	return sender(impl.NewSenderWithKey((*impl.DataKey)(k), impl.SenderConfig(c)))
}

// Seal seals a burst and returns how many packets have status OK. A packet
// without the addresses that V asks for is ErrArgument.
func (s *Sender) Seal(pkts []Packet) int { return s.of().Seal(packets(pkts)) }

// SealUDP seals IP packets into UDP datagrams and returns how many have status
// OK. Where V asks for addresses, those of the outer header are used. The IP
// packet ends where its length field says. IPv4 headers get a checksum, UDP
// headers none (RFC 6935) unless Checksum6 is set. Jumbograms and BIG TCP
// packets are ErrTooLong, because their length field is zero. In transport mode,
// fragments and IPv6 extension headers are ErrUnsupported. SealUDP returns an
// error, and does nothing, if u is not valid.
func (s *Sender) SealUDP(u *UDP, pkts []Packet) (int, error) {
	return s.of().SealUDP((*impl.UDP)(u), packets(pkts))
}

// SetID changes the ID of a group's sender from the next burst on. Direction,
// settings and statistics stay; counters of the old ID stay used. It returns
// ErrUnsupported for senders with a data key, and in groups that follow an
// agent, which gives the IDs.
func (s *Sender) SetID(id uint64) error { return s.of().SetID(id) }

// ID returns the sender's ID; 0 if the agent has given none yet.
func (s *Sender) ID() uint64 { return s.of().ID() }

// HeaderLen returns the length of the header that the sender writes now, in
// octets; 0 if it has no key.
func (s *Sender) HeaderLen() int { return s.of().HeaderLen() }

// NextTSC returns Epoch(16) | Counter(48) of the next packet, if nothing is sent
// before; 0 for a closed sender.
func (s *Sender) NextTSC() uint64 { return s.of().NextTSC() }

// Stats are counts since the object was made.
type Stats struct {
	Octets  uint64            // of all results
	Packets map[Status]uint64 // by status, where not zero
}

// Stats returns what the sender has counted.
func (s *Sender) Stats() Stats { return Stats(s.of().Stats()) }

// Close frees the sender. Its counters stay used. Packets of a closed sender are
// ErrArgument.
func (s *Sender) Close() { s.of().Close() }
