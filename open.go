package eesp

import (
	"time"

	impl "libeesp/internal/eesp"
)

// ReceiverConfig describes a receiver.
type ReceiverConfig struct {
	// OwnIDs are the IDs that this end sends with. Packets with one of them are
	// reflections: they are refused.
	OwnIDs []uint64
	// TryPrevious retries packets without Master Key Options with the previous
	// root keys, where the current ones failed. A forged packet then costs twice
	// as much; prefer options.
	TryPrevious bool

	// ReplayWindow is the width of replay windows in packets, 64 to 65,536. With
	// 0, a packet that comes twice is opened twice. Each key, ID and epoch of
	// authentic packets has a window (eesp: each Sub SA). There are at most
	// ReplayContexts windows (0 = 4096); their memory is allocated when the
	// receiver is made. A packet that would need one more is ErrWindows. A window
	// is freed when its key is wiped.
	ReplayWindow   uint32
	ReplayContexts uint32
	// EngineBits are the senders'. Each engine has its own counters.
	EngineBits uint8

	// Replay selects how repeated packets are recognized. ReplayTime needs no
	// windows. Counters are times (GroupConfig.Time): packets older than MaxAge, or
	// further ahead of the clock than MaxEarly, are refused. Packets in between are
	// remembered in one table for all senders, with room for MaxRate packets a
	// second. The defaults are 100 ms, 25 ms and a million. After a start nothing is
	// opened for MaxEarly.
	Replay           ReplayMode
	MaxAge, MaxEarly time.Duration
	MaxRate          uint64
	// MarkPath is a file with a mark above the times of all accepted packets. With
	// it, nothing opens twice even if the clock was set back since the last start.
	MarkPath string
	// ClockTrusted lets the receiver use the clock although the kernel does not
	// say that it is synchronized. Without it and MarkPath, that is ErrClock.
	ClockTrusted bool
	// Heir is a receiver with ReplayTime. The new receiver shares its table and
	// mark. Both may be used: each packet opens in one of them.
	Heir *Receiver
}

func (c *ReceiverConfig) of() impl.ReceiverConfig {
	return impl.ReceiverConfig{OwnIDs: c.OwnIDs, TryPrevious: c.TryPrevious, ReplayWindow: c.ReplayWindow, ReplayContexts: c.ReplayContexts,
		EngineBits: c.EngineBits, Replay: c.Replay, MaxAge: c.MaxAge, MaxEarly: c.MaxEarly, MaxRate: c.MaxRate, MarkPath: c.MarkPath,
		ClockTrusted: c.ClockTrusted, Heir: c.Heir.of()}
}

// ReplayMode is how repeated packets are recognized.
type ReplayMode = impl.ReplayMode

// The replay modes.
const (
	ReplayWindows ReplayMode = impl.ReplayWindows // by windows, if ReplayWindow is not 0
	ReplayTime    ReplayMode = impl.ReplayTime    // by the times that counters are
)

// Receiver opens packets of one or more groups.
type Receiver struct{ in *impl.Receiver }

func (r *Receiver) of() *impl.Receiver {
	if r == nil {
		return nil
	}
	return r.in
}

func receiver(r *impl.Receiver, err error) (*Receiver, error) {
	if err != nil {
		return nil, err
	}
	return &Receiver{r}, nil
}

// NewReceiver makes a receiver. A packet with Master Key Options belongs to the
// first group that has all the root keys they name; one without belongs to the
// first group.
func NewReceiver(c ReceiverConfig, groups ...*Group) (*Receiver, error) {
	gs := make([]*impl.Group, len(groups))
	for i, g := range groups {
		gs[i] = g.of()
	}
	return receiver(impl.NewReceiver(c.of(), gs...))
}

// NewReceiverWithKey makes a receiver that holds only a data key. Packets of
// other contexts are ErrContext.
func NewReceiverWithKey(k *DataKey, c ReceiverConfig) (*Receiver, error) {
	return receiver(impl.NewReceiverWithKey((*impl.DataKey)(k), c.of()))
}

// Open opens a burst and returns how many packets have status OK. Where the ICV
// is wrong (ErrAuth), or a packet is refused after decryption, such as a second
// copy in the burst, zeros replace the plaintext.
func (r *Receiver) Open(pkts []Packet) int { return r.of().Open(packets(pkts)) }

// OpenUDP opens IP packets with UDP datagrams for the destination port, and
// returns how many have status OK. Out is the inner IP packet. Other packets,
// such as fragments or those with a wrong IPv4 checksum, are ErrEncap. OpenUDP
// returns an error, and does nothing, if u is not valid.
func (r *Receiver) OpenUDP(u *UDP, pkts []Packet) (int, error) {
	return r.of().OpenUDP((*impl.UDP)(u), packets(pkts))
}

// SetOwnIDs replaces ReceiverConfig.OwnIDs from the next burst on. IDs that an
// agent gave to senders of the receiver's groups are refused in any case.
func (r *Receiver) SetOwnIDs(ids ...uint64) error { return r.of().SetOwnIDs(ids...) }

// Stats returns what the receiver has counted.
func (r *Receiver) Stats() Stats { return Stats(r.of().Stats()) }

// ReplayStats is what a receiver's replay protection counts.
type ReplayStats struct {
	Windows, Most           int    // windows in use, and the most there may be
	Duplicates, Old, NoRoom uint64 // packets refused: seen before, older than the window, no window left
	Made, GivenUp           uint64 // windows made and freed
	// With ReplayTime, Old counts packets that are too old, NoRoom those for which
	// the table had no place, and:
	Early  uint64 // packets refused: ahead of the clock
	Resets uint64 // how often the table was reset because the clock had been ahead
	Memory uint64 // of the table, octets
}

// ReplayStats returns what replay protection has counted. Without replay
// protection all is zero.
func (r *Receiver) ReplayStats() ReplayStats { return ReplayStats(r.of().ReplayStats()) }

// Close frees the receiver. Packets of a closed receiver are ErrArgument.
func (r *Receiver) Close() { r.of().Close() }

// Proxy joins two trust domains: it opens with a receiver and seals with a
// sender.
type Proxy struct{ in *impl.Proxy }

// NewProxy makes a proxy of a receiver and a sender. The caller closes these
// after the proxy's last use. If one of them is nil or closed, all packets are
// ErrArgument.
func NewProxy(r *Receiver, s *Sender) *Proxy { return &Proxy{impl.NewProxy(r.of(), s.of())} }

// Forward opens a burst, seals the packets that opened, and returns how many
// were sealed. In place, the new header takes the space of the old one. The
// plaintext of packets that opened and could not be sealed is zeroed.
func (p *Proxy) Forward(pkts []Packet) int {
	if p == nil {
		return (*impl.Proxy)(nil).Forward(packets(pkts))
	}
	return p.in.Forward(packets(pkts))
}
