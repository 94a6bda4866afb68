package eesp

import (
	"fmt"
	"slices"
	"sync"

	"libeesp/internal/asm"
	"libeesp/internal/burst"
	"libeesp/internal/profile"
	"libeesp/internal/status"
)

// ReceiverConfig describes a receiver.
type ReceiverConfig struct {
	// OwnIDs are the IDs that this end sends with; packets that carry one are
	// reflections and refused.
	OwnIDs []uint64
	// TryPrevious has packets without Master Key Options tried with the
	// previous root keys as well if they fail. It doubles what a forged packet
	// costs; better have senders send options.
	TryPrevious bool
}

// Receiver opens packets of one or more groups.
type Receiver struct {
	r      burst.Receiver
	groups []*Group
	once   sync.Once // closed
}

// NewReceiver makes a receiver. A packet with Master Key Options belongs to
// the first group that has all root keys that they name, one without to the
// first group.
func NewReceiver(c ReceiverConfig, groups ...*Group) (*Receiver, error) {
	if len(groups) == 0 || len(groups) > MaxGroups {
		return nil, fmt.Errorf("%w: %d groups, not 1 to %d", status.ErrArgument, len(groups), MaxGroups)
	}
	r := &Receiver{}
	r.r.Backend = groups[0].be
	r.configure(c)
	for _, g := range groups {
		if err := g.g.Retain(); err != nil {
			r.Close()
			return nil, err
		}
		r.groups = append(r.groups, g)
		r.r.Groups = append(r.r.Groups, g.g)
	}
	return r, nil
}

// NewReceiverWithKey makes a receiver that holds one data key and opens the
// packets of its context only; others are ErrContext.
func NewReceiverWithKey(k *DataKey, c ReceiverConfig) (*Receiver, error) {
	if code := k.Check(); code != OK {
		return nil, code
	}
	be, err := asm.Selected()
	if err != nil {
		return nil, err
	}
	r := &Receiver{}
	r.r.Backend = be
	if r.r.Held, err = burst.NewHeld(be, k.Key[:k.KeyLen]); err != nil {
		return nil, err
	}
	r.configure(c)
	r.r.Opening.Held = held(k)
	return r, nil
}

func (r *Receiver) configure(c ReceiverConfig) {
	ids := slices.Clone(c.OwnIDs)
	slices.Sort(ids)
	r.r.Opening = profile.Opening{OwnIDs: ids, TryPrevious: c.TryPrevious}
}

// Close frees the receiver.
func (r *Receiver) Close() {
	r.once.Do(func() {
		for _, g := range r.groups {
			g.g.Release()
		}
		r.groups = nil
		r.r.Held.Free()
	})
}

// Open opens a burst and returns how many packets have status OK. Where the
// ICV is wrong (ErrAuth), zeros are left where plaintext would have been.
func (r *Receiver) Open(pkts []Packet) int {
	return each(pkts, func(w *burst.Worker, d []profile.Desc) int { return w.Open(&r.r, d) })
}

// Stats tells what became of the receiver's packets.
func (r *Receiver) Stats() Stats { return stats(&r.r.Stats) }

// Engine is for this module's C library.
func (r *Receiver) Engine() *burst.Receiver { return &r.r }

// Proxy joins two trust domains: it opens with a receiver and seals with a
// sender.
type Proxy struct {
	r *Receiver
	s *Sender
}

// NewProxy makes a proxy of a receiver and a sender, which stay the caller's
// to close, after the proxy's last use.
func NewProxy(r *Receiver, s *Sender) *Proxy { return &Proxy{r, s} }

// Forward opens a burst and seals what was good, and returns how much. In
// place, the old header and ICV make room for the new ones.
func (p *Proxy) Forward(pkts []Packet) int {
	return each(pkts, func(w *burst.Worker, d []profile.Desc) int { return w.Proxy(&p.r.r, &p.s.s, d) })
}
