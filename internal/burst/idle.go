package burst

import (
	"unsafe"

	"libeesp/internal/counter"
	"libeesp/internal/kernel"
	"libeesp/internal/keys"
	"libeesp/internal/profile"
)

// Idle is a sender and a receiver with a random root key of their own.
type Idle struct {
	s Sender
	r Receiver
}

// NewIdle makes the objects that KeepWarm uses.
func NewIdle(be *kernel.Backend) (*Idle, error) {
	p, err := profile.ByNumber(0)
	if err != nil {
		return nil, err
	}
	params := keys.Params{KeyLen: 16}
	seal, err := p.Sealing(&params, &profile.SenderConfig{})
	if err != nil {
		return nil, err
	}
	open, err := p.Opening(&params, &profile.ReceiverConfig{})
	if err != nil {
		return nil, err
	}
	g, err := keys.NewGroup(params)
	if err != nil {
		return nil, err
	}
	k, err := keys.GenerateRootKey(make([]byte, 16))
	if err == nil {
		err = g.Set(0, k)
	}
	if err != nil {
		g.Release()
		return nil, err
	}
	c, err := counter.New(counter.Config{Mode: counter.Explicit})
	if err != nil {
		g.Release()
		return nil, err
	}
	return &Idle{
		Sender{Backend: be, Group: g, Counter: c, Sealing: seal},
		Receiver{Backend: be, Groups: []*keys.Group{g}, Opening: open},
	}, nil
}

// idle is KeepWarm's packet.
type idle struct {
	pkt [1]profile.Desc
	buf [256]byte
}

// KeepWarm seals and opens a dummy packet in the worker's memory, to keep code,
// tables and branch predictors warm while the thread has no packets.
func (w *Worker) KeepWarm(i *Idle) {
	const size, room = 64, 64
	p, buf := w.idle.pkt[:], &w.idle.buf
	p[0] = profile.Desc{Data: unsafe.Pointer(&buf[room]), Len: size, Headroom: room, Tailroom: room}
	if w.Seal(&i.s, p) != 1 {
		return
	}
	n := p[0].OutLen
	p[0] = profile.Desc{Data: unsafe.Pointer(&buf[room+size+kernel.TagSize-n]), Len: n}
	w.Open(&i.r, p)
}
