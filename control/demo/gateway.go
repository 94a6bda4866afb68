// Package demo is a small data plane in Go that follows an agent: for
// tests under load, for make demo-cluster, and to read.
//
// The library has no ring without a next key yet, so where a state names none, a
// random one that nobody else has stands in its place, under an index far from
// those in use.
package demo

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"libeesp"
	"libeesp/control/record"
	"libeesp/control/socket"
)

// Gateway seals numbered packets and counts what it opens.
type Gateway struct {
	Tag  uint32
	Send func(packet []byte) // takes the octets over

	// bursts is held to read while a burst is sealed, so that a step can wait for
	// those that began before.
	bursts   sync.RWMutex
	mu       sync.Mutex
	client   *socket.Client
	group    *eesp.Group
	sender   *eesp.Sender
	receiver *eesp.Receiver
	id       record.ID
	v        uint8
	levels   eesp.Levels
	seal     uint8
	floor    [record.Levels]uint64
	needID   bool
	sent     uint64
	seen     map[uint32]map[uint64]bool
	refused  map[string]int
	states   int
}

// Stats is what a gateway counted.
type Stats struct {
	Sent    uint64            `json:"sent"`
	Opened  map[uint32]uint64 `json:"opened"` // by the sender's tag, each packet once
	Refused map[string]int    `json:"refused"`
	States  int               `json:"states"`
}

// Follow attaches a gateway to an agent.
func Follow(path, group string, tag uint32, send func([]byte)) (*Gateway, error) {
	g := &Gateway{Tag: tag, Send: send, seen: map[uint32]map[uint64]bool{}, refused: map[string]int{}}
	c, err := socket.Dial(path, "eesp-demo", g.apply)
	if err != nil {
		return nil, err
	}
	g.client = c
	go c.Run()
	return g, c.Follow(group)
}

// Close ends it. Its keys are wiped.
func (g *Gateway) Close() {
	g.client.Close()
	g.bursts.Lock()
	defer g.bursts.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.drop()
}

func (g *Gateway) drop() {
	if g.sender != nil {
		g.sender.Close()
	}
	if g.receiver != nil {
		g.receiver.Close()
	}
	if g.group != nil {
		g.group.Close()
	}
	g.sender, g.receiver, g.group = nil, nil, nil
}

// apply installs a state, and waits for the bursts that began before.
func (g *Gateway) apply(st socket.State) (err error) {
	g.mu.Lock()
	g.states++
	if g.group == nil {
		if g.group, err = eesp.NewGroup(eesp.GroupConfig{AEAD: eesp.AEAD(st.Group.AEAD)}); err == nil {
			g.receiver, err = eesp.NewReceiver(eesp.ReceiverConfig{ReplayWindow: st.Group.Window, ReplayContexts: st.Group.Contexts}, g.group)
		}
		if err != nil {
			g.mu.Unlock()
			return err
		}
		g.id, g.v = st.Group.ID, st.Group.V
	}
	for lv, r := range st.Rings {
		level := eesp.Level(lv)
		if r == nil || len(r.Gens) == 0 {
			if g.levels&eesp.Set(level) != 0 {
				err = errors.Join(err, g.group.RemoveRootKey(level))
				g.levels &^= eesp.Set(level)
			}
			continue
		}
		var index [3]uint64
		var value [3][eesp.RootKeyLen]byte
		for _, x := range r.Gens {
			if x.Gen < g.floor[lv] {
				err = fmt.Errorf("generation %d is below the floor %d", x.Gen, g.floor[lv])
			}
			index[x.Role-1], value[x.Role-1] = x.Gen%256, x.Value
		}
		has := func(role record.Role) bool {
			for _, x := range r.Gens {
				if x.Role == role {
					return true
				}
			}
			return false
		}
		if !has(record.Previous) {
			index[0], value[0] = index[1], value[1]
		}
		if !has(record.Next) {
			index[2] = (index[1] + 128) % 256
			rand.Read(value[2][:])
		}
		if err == nil {
			err = g.group.SetRootKey(level, r.ID[:], index, &value)
		}
		clear(value[:])
		if err == nil {
			g.levels |= eesp.Set(level)
			g.floor[lv] = r.Floor
		}
	}
	if err == nil && g.levels != 0 {
		err = g.group.SetDefaultLevels(g.levels)
	}
	if st.Seal == socket.SealFenced && g.sender != nil {
		g.sender.Close()
		g.sender = nil // another machine has its ID: the next one has a new one
	}
	g.seal = st.Seal
	g.needID = g.sender == nil && st.Seal == socket.SealYes && g.levels != 0
	need := g.needID
	g.mu.Unlock()
	g.bursts.Lock()   // those that began before have ended
	g.bursts.Unlock() //nolint:staticcheck
	if need {
		go g.makeSender()
	}
	return err
}

func (g *Gateway) makeSender() {
	ids, err := g.client.NeedIDs(g.id, 1)
	g.bursts.Lock()
	defer g.bursts.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil || g.group == nil || g.sender != nil {
		return
	}
	v := uint8(eesp.VID)
	if g.v == 1 {
		v = eesp.VLongID
	}
	g.sender, err = eesp.NewSender(g.group, eesp.SenderConfig{ID: ids[0], V: v, Options: true})
	if err != nil {
		g.refused["sender: "+err.Error()]++
	}
}

const payload = 4 + 8 + 52

// Burst seals and sends n packets; it returns how many.
func (g *Gateway) Burst(n int) int {
	g.bursts.RLock()
	g.mu.Lock()
	s, ok, first := g.sender, g.seal == socket.SealYes, g.sent+1
	g.mu.Unlock()
	if s == nil || !ok {
		g.bursts.RUnlock()
		return 0
	}
	pkts := make([]eesp.Packet, n)
	for i := range pkts {
		b := make([]byte, eesp.MaxHeader+payload+eesp.ICVLen)
		binary.BigEndian.PutUint32(b[eesp.MaxHeader:], g.Tag)
		binary.BigEndian.PutUint64(b[eesp.MaxHeader+4:], first+uint64(i))
		pkts[i] = eesp.Packet{Buf: b, Off: eesp.MaxHeader, Len: payload}
	}
	s.Seal(pkts)
	done := 0
	for i := range pkts {
		if pkts[i].Status == eesp.OK {
			g.Send(pkts[i].Out)
			done++
		} else {
			g.mu.Lock()
			g.refused["seal: "+pkts[i].Status.Error()]++
			g.mu.Unlock()
		}
	}
	g.bursts.RUnlock() // the burst has ended when its packets are sent, or a step would not wait for them
	g.mu.Lock()
	g.sent += uint64(n)
	g.mu.Unlock()
	return done
}

// Receive opens a packet, and says whether it did.
func (g *Gateway) Receive(b []byte) bool {
	g.bursts.RLock()
	defer g.bursts.RUnlock()
	g.mu.Lock()
	r := g.receiver
	g.mu.Unlock()
	if r == nil {
		return false
	}
	p := []eesp.Packet{{Buf: b, Len: len(b)}}
	r.Open(p)
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

// Stats counts.
func (g *Gateway) Stats() Stats {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := Stats{Sent: g.sent, Opened: map[uint32]uint64{}, Refused: map[string]int{}, States: g.states}
	for t, m := range g.seen {
		s.Opened[t] = uint64(len(m))
	}
	for k, n := range g.refused {
		s.Refused[k] = n
	}
	return s
}
