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
	// TryPrevious retries packets without Master Key Options that failed with
	// the previous root keys. A forged packet then costs twice as much; prefer
	// options.
	TryPrevious bool

	// ReplayWindow is the width of replay windows in packets, 64 to 65,536; 0:
	// packets that come twice are opened twice. Each key, ID and epoch of
	// authentic packets has a window (eesp: each Sub SA). There are at most
	// ReplayContexts windows (0 = 4096); their memory is allocated when the
	// receiver is made. A packet that would need one more is ErrWindows. Windows
	// are given up when their key is gone.
	ReplayWindow   uint32
	ReplayContexts uint32
	// EngineBits are those of the senders: each engine has its own counters.
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
	// ClockTrusted: use the clock although the kernel does not say that it is
	// synchronized.
	ClockTrusted bool
	// Heir is a receiver with ReplayTime whose table the new one shares. Both may
	// go on: each packet opens in one of them.
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
	ReplayWindows ReplayMode = impl.ReplayWindows // by ReplayWindow, if it is not 0
	ReplayTime    ReplayMode = impl.ReplayTime
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
// such as fragments or those with a wrong IPv4 checksum, are ErrEncap.
func (r *Receiver) OpenUDP(u *UDP, pkts []Packet) (int, error) {
	return r.of().OpenUDP((*impl.UDP)(u), packets(pkts))
}

// SetOwnIDs replaces ReceiverConfig.OwnIDs from the next burst on. IDs that
// agents give to this process's senders are refused in any case.
func (r *Receiver) SetOwnIDs(ids ...uint64) error { return r.of().SetOwnIDs(ids...) }

// Stats returns what the receiver has counted.
func (r *Receiver) Stats() Stats { return Stats(r.of().Stats()) }

// ReplayStats is what a receiver's replay protection counts.
type ReplayStats struct {
	Windows, Most           int    // in use, and the most there may be
	Duplicates, Old, NoRoom uint64 // packets refused: seen before, older than the window, no window left
	Made, GivenUp           uint64 // windows
	// ReplayTime: Duplicates, Old (stale), NoRoom (no place for one more packet of
	// its time), and:
	Early  uint64 // packets refused: ahead of the clock
	Resets uint64 // of the table, since the clock had been ahead
	Memory uint64 // of the table, octets
}

// ReplayStats returns what replay protection has counted; all is zero without
// it.
func (r *Receiver) ReplayStats() ReplayStats { return ReplayStats(r.of().ReplayStats()) }

// Close frees the receiver. Packets of a closed receiver are ErrArgument.
func (r *Receiver) Close() { r.of().Close() }

// Proxy joins two trust domains: it opens with a receiver and seals with a
// sender.
type Proxy struct{ in *impl.Proxy }

// NewProxy makes a proxy of a receiver and a sender, which stay the caller's
// to close, after the proxy's last use: without one of them, or with a closed
// one, all packets are ErrArgument.
func NewProxy(r *Receiver, s *Sender) *Proxy { return &Proxy{impl.NewProxy(r.of(), s.of())} }

// Forward opens a burst, seals the packets that opened, and returns how many
// were sealed. In place, the new header takes the space of the old one.
func (p *Proxy) Forward(pkts []Packet) int {
	if p == nil {
		return (*impl.Proxy)(nil).Forward(packets(pkts))
	}
	return p.in.Forward(packets(pkts))
}
