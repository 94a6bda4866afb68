package eesp

import (
	"time"

	impl "libeesp/internal/eesp"
)

// AgentSocket is the path of an agent's socket by default.
const AgentSocket = impl.AgentSocket

// FollowConfig says how to follow an agent. The zero value is the host's agent.
type FollowConfig struct {
	Socket string // "" = AgentSocket
	// Timeout is for how long FollowGroup waits; 0 = 10 s.
	Timeout time.Duration
	// WithoutKeys lets FollowGroup return as soon as the group's parameters are
	// known: until keys have come, packets are ErrNoKey.
	WithoutKeys bool
	// AgentUID is a user that the agent may run as, besides root and this
	// process's own; 0 = none.
	AgentUID uint32
	// Clients: the agent may have this group make data keys for clients outside
	// the cluster (Group.Clients).
	Clients bool
}

// FollowInfo is what is known of a group that follows an agent.
type FollowInfo struct {
	Connected      bool
	Sealing        Status       // OK, or what packets are refused with: ErrNoKey, ErrOutOfTouch, ErrFenced
	Generations    [3][3]uint64 // by level: previous, current, next; 0: there is none
	States         uint64       // that were installed
	Refused        uint64       // that were not
	Fenced         uint64       // how often another machine had this one's IDs
	IDs            []uint64     // that the agent gave, for this group, since the start
	V              uint8        // stateless: VID or VLongID; senders add what the context has of addresses
	ReplayWindow   uint32       // what receivers have if they do not say
	ReplayContexts uint32
	Replay         ReplayMode // ReplayTime: counters are times, and what receivers have if they do not say
	MTU            uint16     // a hint; 0: none
	Profile        ProfileID
	AEAD           AEAD
	Domain         uint32 // tss
	Mode           uint8  // tss
	Problem        string // the last one, in words; "": none
}

// FollowGroup makes a group whose parameters, keys and IDs come from an agent,
// and waits until it has keys. The agent gives senders their IDs and counters
// (SenderConfig.ID must be 0), and they send Master Key Options; until the ID
// has come, packets are ErrNoKey. Receivers refuse the IDs of the group's
// senders, and have its replay windows if they do not ask for others. Functions
// that set keys are ErrUnsupported. Closing the group ends following, also for
// its senders and receivers.
func FollowGroup(name string, c FollowConfig) (*Group, error) {
	return group(impl.FollowGroup(name, impl.FollowConfig(c)))
}

// FollowInfo returns what is known of a group that follows an agent.
func (g *Group) FollowInfo() (FollowInfo, error) {
	i, err := g.of().FollowInfo()
	return FollowInfo(i), err
}

// WaitSealing waits until the senders of a group that follows an agent can seal:
// there are keys, the agent allows it, and each sender has an ID. After timeout it
// returns why not.
func (g *Group) WaitSealing(timeout time.Duration) error { return g.of().WaitSealing(timeout) }

// Client is a client outside the cluster that has a pair of this group's data keys.
type Client struct {
	Name     string        // as its certificate says
	Up, Down uint64        // IDs (psp: SPIs): of its packets, and of those to it
	Lease    time.Duration // that is left
}

// Clients lists the clients that have data keys of a group that follows an agent
// (FollowConfig.Clients), by their IDs.
func (g *Group) Clients() ([]Client, error) {
	l, err := g.of().Clients()
	out := make([]Client, len(l))
	for i, c := range l {
		out[i] = Client(c)
	}
	return out, err
}

// ClientSender returns the sender to a client, by its Down; once. Its key does not
// change with the group's. When the lease ends, packets are ErrNoKey.
func (g *Group) ClientSender(down uint64) (*Sender, error) { return sender(g.of().ClientSender(down)) }
