//go:build !eesp_c

package eesp

import (
	"fmt"
	"net/netip"

	"libeesp/internal/burst"
	"libeesp/internal/profile"
	"libeesp/internal/status"
	"libeesp/internal/wire"
)

const (
	PSPPort = wire.PSPPort
	TSSPort = wire.TSSPort
)

type UDP struct {
	Transport bool
	DPort     uint16
	SPort     uint16

	Src, Dst netip.Addr
	TTL      uint8
	TOS      uint8

	ECN, DSCP, DSCPBack bool

	Checksum6 bool
}

func (u *UDP) burst(usable, sealing bool) (e burst.UDP, err error) {
	switch {
	case u == nil:
		return e, fmt.Errorf("%w: u is nil", status.ErrArgument)
	case !usable:
		return e, fmt.Errorf("%w: the sender or receiver is closed", status.ErrArgument)
	}
	e.Transport, e.ECN, e.DSCP, e.DSCPBack, e.Sum6 = u.Transport, u.ECN, u.DSCP, u.DSCPBack, u.Checksum6
	e.Src, e.Dst, e.SPort, e.DPort, e.TTL, e.TOS = as16(u.Src), as16(u.Dst), u.SPort, u.DPort, u.TTL, u.TOS
	if e.TTL == 0 {
		e.TTL = 64
	}
	if sealing && !u.Transport && (!u.Src.IsValid() || !u.Dst.IsValid()) || e.Check(sealing) != status.OK {
		return e, fmt.Errorf("%w: a destination port is required, and for a tunnel two addresses of one family", status.ErrArgument)
	}
	return e, nil
}

func (s *Sender) SealUDP(u *UDP, pkts []Packet) (int, error) {
	e, err := u.burst(s.usable(), true)
	if err != nil {
		return 0, err
	}
	return each(pkts, 0, func(w *burst.Worker, d []profile.Desc) int {
		if n := s.Burst(); n != nil {
			return w.SealUDP(n, &e, d)
		}
		return s.NoID(d)
	}), nil
}

func (r *Receiver) OpenUDP(u *UDP, pkts []Packet) (int, error) {
	e, err := u.burst(r.usable(), false)
	if err != nil {
		return 0, err
	}
	return each(pkts, 0, func(w *burst.Worker, d []profile.Desc) int { return w.OpenUDP(&r.r, &e, d) }), nil
}
