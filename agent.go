package eesp

import (
	"time"

	impl "libeesp/internal/eesp"
)

// AgentSocket is the path of an agent's socket by default.
const AgentSocket = impl.AgentSocket

// FollowConfig says how to follow an agent. The zero value means the host's agent.
type FollowConfig struct {
	Socket string // "" = AgentSocket
	// Timeout is how long FollowGroup waits; 0 = 10 s.
	Timeout time.Duration
	// WithoutKeys lets FollowGroup return as soon as the group's parameters are
	// known. Packets are ErrNoKey until keys arrive.
	WithoutKeys bool
	// AgentUID is another user that the agent may run as. Root and this process's
	// user are always allowed; 0 = no other.
	AgentUID uint32
	// Clients lets the agent ask this group for data keys of clients outside the
	// cluster (Group.Clients).
	Clients bool
}

// FollowInfo describes a group that follows an agent.
type FollowInfo struct {
	Connected      bool
	Sealing        Status       // OK, or the status of packets to be sealed: ErrNoKey, ErrOutOfTouch, ErrFenced
	Generations    [3][3]uint64 // by level: previous, current, next; 0 = none
	States         uint64       // states of the agent that were installed
	Refused        uint64       // states that were refused
	Fenced         uint64       // how often another machine had this machine's IDs
	IDs            []uint64     // all IDs that the agent has given for this group
	V              uint8        // stateless: VID or VLongID; a sender's own V adds addresses
	ReplayWindow   uint32       // of receivers that set none
	ReplayContexts uint32
	Replay         ReplayMode // of receivers that set none; ReplayTime: counters are times
	MTU            uint16     // a hint; 0 = none
	Profile        ProfileID
	AEAD           AEAD
	Domain         uint32 // tss
	Mode           uint8  // tss
	Problem        string // the last problem, as text; "" = none
}

// FollowGroup makes a group whose parameters, keys and IDs come from an agent,
// and waits until it has keys. The agent gives senders their IDs and counters
// (SenderConfig.ID must be 0). Until a sender has its ID, its packets are
// ErrNoKey. Senders send Master Key Options. Receivers refuse the IDs of the
// group's senders and use the group's replay protection unless they set their
// own. Functions that set keys return ErrUnsupported. After Close the group, its
// senders and its receivers no longer follow the agent.
func FollowGroup(name string, c FollowConfig) (*Group, error) {
	return group(impl.FollowGroup(name, impl.FollowConfig(c)))
}

// FollowInfo describes a group that follows an agent.
func (g *Group) FollowInfo() (FollowInfo, error) {
	i, err := g.of().FollowInfo()
	return FollowInfo(i), err
}

// WaitSealing waits until the senders of a group that follows an agent can seal:
// there are keys, the agent allows sealing, and each sender has an ID. After
// timeout it returns the reason as an error.
func (g *Group) WaitSealing(timeout time.Duration) error { return g.of().WaitSealing(timeout) }

// Client is a client outside the cluster that has a pair of this group's data keys.
type Client struct {
	Name     string        // from its certificate
	Up, Down uint64        // IDs (psp: SPIs) of packets from it, and of packets to it
	Lease    time.Duration // what is left of it
}

// Clients lists the clients that have data keys of a group that follows an agent
// (FollowConfig.Clients), sorted by ID.
func (g *Group) Clients() ([]Client, error) {
	l, err := g.of().Clients()
	out := make([]Client, len(l))
	for i, c := range l {
		out[i] = Client(c)
	}
	return out, err
}

// ClientSender returns the sender to the client with this Down. It can be called
// once for each client. The sender's key does not change when the group's do. When
// the lease ends, packets are ErrNoKey.
func (g *Group) ClientSender(down uint64) (*Sender, error) { return sender(g.of().ClientSender(down)) }
