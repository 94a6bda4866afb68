// Package socket is the agent's end of the protocol with data planes on a Unix
// socket. Package libeesp/internal/link describes its frames.
package socket

import (
	"libeesp/control/record"
	"libeesp/internal/link"
)

// Version of the protocol. Programs of the major version before are served, too.
const (
	Major = link.Major
	Minor = link.Minor
)

// Whether a program may seal with a group's current keys.
const (
	SealNo     = link.SealNo
	SealYes    = link.SealYes
	SealStale  = link.SealStale
	SealFenced = link.SealFenced
)

// ErrFrame is the error of a frame that is not valid.
var ErrFrame = link.ErrFrame

// Frame is one frame.
type Frame = link.Frame

var (
	put16, put64, get16, get64 = link.Put16, link.Put64, link.Get16, link.Get64

	// Put appends a field, Fields splits a frame, WriteFrame and ReadFrame write and read one.
	Put, Fields, WriteFrame, ReadFrame = link.Put, link.Fields, link.WriteFrame, link.ReadFrame
)

// Gen is a generation with its value.
type Gen struct {
	Gen   uint64
	Role  record.Role
	Value record.Value
}

// Ring is a ring in a program's desired state.
type Ring struct {
	ID    record.ID
	Class record.Class
	State record.State
	Term  uint32
	Step  uint64
	Floor uint64
	Gens  []Gen
	Epoch uint16 // tss: of the current key
}

// State is a group's desired state.
type State struct {
	Group record.Group
	Rings [record.Levels]*Ring
	Seal  uint8
	Seq   uint64
	// MaxStale is how many seconds a program may seal after it lost its agent; 0: no limit.
	MaxStale uint32
}

// Marshal writes the fields of a STATE.
func (s *State) Marshal() []byte {
	g := &s.Group
	l := link.State{Group: g.ID, Name: g.Name, Seq: s.Seq, Seal: s.Seal, MaxStale: s.MaxStale, Params: link.Params{Profile: g.Profile, AEAD: g.AEAD, Combiner: g.Combiner, V: g.V, Mode: g.Mode,
		CounterMode: g.CounterMode, EngineBits: g.EngineBits, Domain: g.Domain, Window: g.Window, Contexts: g.Contexts, MTU: g.MTU}}
	var values link.Values
	defer clear(values[:])
	for lv, r := range s.Rings {
		if r == nil {
			continue
		}
		x := &link.Ring{ID: r.ID, Class: uint8(r.Class), State: uint8(r.State), Term: r.Term, Step: r.Step, Floor: r.Floor, Epoch: r.Epoch}
		for i := range r.Gens {
			gen := &r.Gens[i]
			x.Gens[gen.Role-1], values[lv][gen.Role-1] = gen.Gen, gen.Value
		}
		l.Rings[lv] = x
	}
	return l.Marshal(&values)
}

// ParseState reads what Marshal wrote. Programs use it.
func ParseState(b []byte) (s State, err error) {
	l, err := link.ParseState(b)
	if err != nil {
		return s, err
	}
	g := &s.Group
	s.Seq, s.Seal, s.MaxStale = l.Seq, l.Seal, l.MaxStale
	g.ID, g.Name = l.Group, l.Name
	g.Profile, g.AEAD, g.Combiner, g.V, g.Mode, g.CounterMode, g.EngineBits = l.Profile, l.AEAD, l.Combiner, l.V, l.Mode, l.CounterMode, l.EngineBits
	g.Domain, g.Window, g.Contexts, g.MTU = l.Domain, l.Window, l.Contexts, l.MTU
	for lv, r := range l.Rings {
		if r == nil {
			continue
		}
		x := &Ring{ID: r.ID, Class: record.Class(r.Class), State: record.State(r.State), Term: r.Term, Step: r.Step, Floor: r.Floor, Epoch: r.Epoch}
		for i, n := range r.Gens {
			if n != 0 {
				gen := Gen{Gen: n, Role: record.Role(i + 1)}
				copy(gen.Value[:], b[link.ValuesAt+(lv*3+i)*record.ValueLen:])
				x.Gens = append(x.Gens, gen)
			}
		}
		s.Rings[lv], g.Rings[lv] = x, r.ID
	}
	return s, nil
}
