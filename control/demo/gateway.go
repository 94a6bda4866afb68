// Package demo is a small data plane in Go that follows an agent. It is for tests
// under load, for make demo-cluster, and an example.
package demo

import (
	"encoding/binary"
	"sync"
	"time"

	"libeesp"
)

// Gateway seals numbered packets and counts what it opens.
type Gateway struct {
	tag  uint32
	send func(packet []byte) // may keep the packet

	group    *eesp.Group
	sender   *eesp.Sender
	receiver *eesp.Receiver

	mu      sync.Mutex
	sent    uint64
	seen    map[uint32]map[uint64]bool
	refused map[string]int
}

// Stats is what a gateway counted.
type Stats struct {
	Sent    uint64            `json:"sent"`
	Opened  map[uint32]uint64 `json:"opened"` // packets by the sender's tag
	Refused map[string]int    `json:"refused"`
	States  uint64            `json:"states"`
}

// Follow attaches a gateway to an agent.
func Follow(path, group string, tag uint32, send func([]byte)) (g *Gateway, err error) {
	g = &Gateway{tag: tag, send: send, seen: map[uint32]map[uint64]bool{}, refused: map[string]int{}}
	// This is all: parameters, keys, IDs and rotations come from the agent.
	if g.group, err = eesp.FollowGroup(group, eesp.FollowConfig{Socket: path, Timeout: time.Minute, WithoutKeys: true}); err != nil {
		return nil, err
	}
	if g.receiver, err = eesp.NewReceiver(eesp.ReceiverConfig{}, g.group); err == nil {
		g.sender, err = eesp.NewSender(g.group, eesp.SenderConfig{})
	}
	if err != nil {
		g.Close()
		return nil, err
	}
	return g, nil
}

// Close ends the gateway. Its keys are wiped.
func (g *Gateway) Close() {
	g.sender.Close()
	g.receiver.Close()
	g.group.Close()
}

const payload = 4 + 8 + 52

// Burst seals and sends n packets; it returns how many.
func (g *Gateway) Burst(n int) int {
	g.mu.Lock()
	first := g.sent + 1
	g.mu.Unlock()
	pkts := make([]eesp.Packet, n)
	for i := range pkts {
		b := make([]byte, eesp.MaxHeader+payload+eesp.ICVLen)
		binary.BigEndian.PutUint32(b[eesp.MaxHeader:], g.tag)
		binary.BigEndian.PutUint64(b[eesp.MaxHeader+4:], first+uint64(i))
		pkts[i] = eesp.Packet{Buf: b, Off: eesp.MaxHeader, Len: payload}
	}
	if g.sender.Seal(pkts) == 0 { // no key, or sealing is not allowed: these numbers are used later
		g.mu.Lock()
		defer g.mu.Unlock()
		g.refused["seal: "+pkts[0].Status.Error()]++
		return 0
	}
	done := 0
	for i := range pkts {
		if pkts[i].Status == eesp.OK {
			g.send(pkts[i].Out)
			done++
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sent += uint64(n) // a refused packet counts as lost
	return done
}

// Receive opens a packet and reports whether it did.
func (g *Gateway) Receive(b []byte) bool {
	p := []eesp.Packet{{Buf: b, Len: len(b)}}
	g.receiver.Open(p)
	g.mu.Lock()
	defer g.mu.Unlock()
	if p[0].Status != eesp.OK || len(p[0].Out) != payload {
		g.refused["open: "+p[0].Status.Error()]++
		return false
	}
	tag := binary.BigEndian.Uint32(p[0].Out)
	if g.seen[tag] == nil {
		g.seen[tag] = map[uint64]bool{}
	}
	g.seen[tag][binary.BigEndian.Uint64(p[0].Out[4:])] = true
	return true
}

// Sealing reports whether packets are sealed now. Then rotations wait for this host, so it can open, too.
func (g *Gateway) Sealing() bool {
	info, err := g.group.FollowInfo()
	return err == nil && info.Sealing == eesp.OK
}

// Stats returns the counts.
func (g *Gateway) Stats() Stats {
	info, _ := g.group.FollowInfo()
	g.mu.Lock()
	defer g.mu.Unlock()
	s := Stats{Sent: g.sent, Opened: map[uint32]uint64{}, Refused: map[string]int{}, States: info.States}
	for t, m := range g.seen {
		s.Opened[t] = uint64(len(m))
	}
	for k, n := range g.refused {
		s.Refused[k] = n
	}
	return s
}
