package socket

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"libeesp/control/record"
	"libeesp/internal/link"
)

// Pair is a pair of data keys for a client, made by a program.
type Pair struct {
	Up, Down link.DataKey
	Gens     [record.Levels]uint64
	By       Maker
}

// Maker is the program that made a pair, and seals to its client.
type Maker struct{ p *plane }

// Gone reports whether the program is no longer attached.
func (m Maker) Gone() bool {
	if m.p == nil {
		return true
	}
	select {
	case <-m.p.ended:
		return true
	default:
		return false
	}
}

type granted struct {
	pair Pair
	err  error
}

// ErrNoMaker is the error if no program of this host gives keys of the group to clients.
var ErrNoMaker = errors.New("no program here gives keys of the group to clients (EESP_FOLLOW_CLIENTS)")

// Grant asks a program to make a pair.
func (s *Server) Grant(ctx context.Context, group string, up, down uint64, lease time.Duration, client string) (Pair, error) {
	s.mu.Lock()
	s.init()
	var l []*plane
	for p := range s.planes {
		if f := p.groups[group]; f != nil && f.clients && p.attached() {
			l = append(l, p)
		}
	}
	s.mu.Unlock()
	if len(l) == 0 {
		return Pair{}, ErrNoMaker
	}
	// All pairs come from one program, as long as it is attached.
	slices.SortFunc(l, func(a, b *plane) int { return a.pid - b.pid })
	return s.grant(ctx, l[0], group, up, down, lease, client, 0)
}

// Renew renews a lease.
func (s *Server) Renew(ctx context.Context, m Maker, group string, down uint64, lease time.Duration) error {
	if m.Gone() {
		return ErrNoMaker
	}
	_, err := s.grant(ctx, m.p, group, 0, down, lease, "", link.GrantRenew)
	return err
}

// End ends a lease.
func (s *Server) End(m Maker, group string, down uint64) {
	if !m.Gone() {
		s.grant(context.Background(), m.p, group, 0, down, 0, "", link.GrantEnd)
	}
}

func (s *Server) grant(ctx context.Context, p *plane, group string, up, down uint64, lease time.Duration, client string, flags uint16) (Pair, error) {
	ch := make(chan granted, 1)
	s.mu.Lock()
	st := s.states[group]
	if st == nil {
		s.mu.Unlock()
		return Pair{}, ErrNoMaker
	}
	s.number++
	n := s.number
	if s.asked == nil {
		s.asked = map[uint64]chan granted{}
	}
	s.asked[n] = ch
	id := st.Group.ID
	s.mu.Unlock()
	defer func() { s.mu.Lock(); delete(s.asked, n); s.mu.Unlock() }()
	b := put64(put64(put64(put64(Put(nil, 1, id[:]), 2, n), 3, up), 4, down), 5, uint64(lease.Milliseconds()))
	if err := p.write(Frame{Type: link.Grant, Fields: put16(Put(b, 6, []byte(client)), 7, flags)}); err != nil || flags&link.GrantEnd != 0 {
		return Pair{}, err
	}
	select {
	case g := <-ch:
		g.pair.By = Maker{p}
		return g.pair, g.err
	case <-p.ended:
		return Pair{}, ErrNoMaker
	case <-time.After(s.Silent):
		return Pair{}, fmt.Errorf("%s does not answer", p.name)
	case <-ctx.Done():
		return Pair{}, ctx.Err()
	}
}

// granted handles a program's answer.
func (s *Server) granted(m map[uint16][]byte) error {
	var g granted
	if len(m[3]) != 1 || m[3][0] != 0 {
		g.err = fmt.Errorf("the program says: %s", m[4])
	} else if m[5] != nil {
		var e1, e2 error
		g.pair.Up, e1 = link.ParseDataKey(m[5])
		g.pair.Down, e2 = link.ParseDataKey(m[6])
		if err := errors.Join(e1, e2); err != nil {
			return err
		}
		if len(m[7]) != 8*len(g.pair.Gens) {
			return fmt.Errorf("%w: generations", ErrFrame)
		}
		for i := range g.pair.Gens {
			g.pair.Gens[i] = binary.BigEndian.Uint64(m[7][8*i:])
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if ch := s.asked[get64(m[2])]; ch != nil {
		select {
		case ch <- g:
		default:
		}
	}
	return nil
}
