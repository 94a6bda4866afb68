// Package socket is what an agent and data planes say to each other on a Unix
// socket, and the agent's end of it.
//
// A frame is
//
//	length u32 | type u16 | flags u16 | fields
//
// big-endian; length counts the fields, at most 64 KiB; flag 1: who does not
// know the type must end the connection. A field is number u16, length u16,
// value; numbers rise. Unknown fields are skipped.
//
//	1 HELLO    to agent    1 major u16, 2 minor u16, 3 features u64, 4 library, 5 program
//	2 WELCOME  to program  1 major u16, 2 minor u16, 3 features u64, 4 cluster 16, 5 member
//	3 FOLLOW   to agent    1 group's name
//	4 STATE    to program  the whole desired state of a group; below
//	5 DONE     to agent    1 group 16, 2 sequence u64, 3 code u8 (0: done), 4 reason
//	6 NEED_IDS to agent    1 group 16, 2 count u16
//	7 IDS      to program  1 group 16, 2 IDs u64 each
//	8 USAGE    to agent    1 ring 16, 2 generation u64, derived, sealed, opened, refused u64 each
//	9 ERROR    to program  1 code u16, 2 text, 3 group's name
//
// STATE: 1 values, 288 octets, always first, so that they lie at a fixed offset:
// three levels of previous, current, next, 32 octets each, zero where there is
// none; 2 group 16; 3 name; 4 sequence u64; 5 parameters, 28 octets; 6 rings, 72
// octets each; 7 seal u8. The agent sends one STATE of a group and then waits
// for DONE; what changes meanwhile is in the next one, which is whole again. A
// program that has installed a STATE answers DONE when, for its rings: a next
// generation can be opened; a new current one is sealed with, and no burst that
// began before is running; a generation that is missing was wiped.
package socket

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"libeesp/control/record"
)

// Version of the protocol. A program of the major version before is served.
const (
	Major = 1
	Minor = 0
)

// Types of frames.
const (
	Hello = 1 + iota
	Welcome
	Follow
	StateFrame
	Done
	NeedIDs
	IDs
	UsageFrame
	Error
)

// Codes of an ERROR.
const (
	ErrCodePolicy  = 1 + iota // this user may not follow the group
	ErrCodeUnknown            // no such group, or not yet: it stays asked for
	ErrCodeVersion
	ErrCodeIDs // too many IDs in too short a time
)

const (
	maxFrame  = 64 << 10
	headerLen = 8
	// MustKnow is the flag of frames that may not be skipped.
	MustKnow = 1
)

// What a program may do with a group's current keys.
const (
	SealNo     = iota // no key, or not yet the server's word
	SealYes           //
	SealStale         // out of touch for too long
	SealFenced        // another session of this identity is live: make senders with new IDs
)

// ErrFrame is a frame that cannot be read.
var ErrFrame = errors.New("malformed frame")

// Frame is one frame.
type Frame struct {
	Type, Flags uint16
	Fields      []byte
}

// WriteFrame writes a frame.
func WriteFrame(w io.Writer, f Frame) error {
	if len(f.Fields) > maxFrame {
		return fmt.Errorf("%w: %d octets", ErrFrame, len(f.Fields))
	}
	b := make([]byte, headerLen, headerLen+len(f.Fields))
	binary.BigEndian.PutUint32(b, uint32(len(f.Fields)))
	binary.BigEndian.PutUint16(b[4:], f.Type)
	binary.BigEndian.PutUint16(b[6:], f.Flags)
	b = append(b, f.Fields...)
	_, err := w.Write(b)
	clear(b)
	return err
}

// ReadFrame reads a frame.
func ReadFrame(r io.Reader) (f Frame, err error) {
	var h [headerLen]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return f, err
	}
	n := binary.BigEndian.Uint32(h[:])
	if n > maxFrame {
		return f, fmt.Errorf("%w: %d octets", ErrFrame, n)
	}
	f.Type, f.Flags, f.Fields = binary.BigEndian.Uint16(h[4:]), binary.BigEndian.Uint16(h[6:]), make([]byte, n)
	_, err = io.ReadFull(r, f.Fields)
	return f, err
}

// Put appends a field.
func Put(b []byte, num uint16, v []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, num)
	b = binary.BigEndian.AppendUint16(b, uint16(len(v)))
	return append(b, v...)
}

func put16(b []byte, num uint16, v uint16) []byte {
	return Put(b, num, binary.BigEndian.AppendUint16(nil, v))
}
func put64(b []byte, num uint16, v uint64) []byte {
	return Put(b, num, binary.BigEndian.AppendUint64(nil, v))
}

// Fields splits a frame's fields.
func Fields(b []byte) (map[uint16][]byte, error) {
	m := map[uint16][]byte{}
	last := -1
	for len(b) > 0 {
		if len(b) < 4 {
			return nil, ErrFrame
		}
		num, n := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		if int(num) <= last || len(b) < 4+n {
			return nil, fmt.Errorf("%w: field %d", ErrFrame, num)
		}
		m[num], b, last = b[4:4+n], b[4+n:], int(num)
	}
	return m, nil
}

func get64(b []byte) uint64 {
	if len(b) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

func get16(b []byte) uint16 {
	if len(b) != 2 {
		return 0
	}
	return binary.BigEndian.Uint16(b)
}

// Gen is a live generation with its value.
type Gen struct {
	Gen   uint64
	Role  record.Role
	Value record.Value
}

// Ring is a ring as a program shall have it.
type Ring struct {
	ID    record.ID
	Class record.Class
	State record.State
	Term  uint32
	Step  uint64
	Floor uint64
	Gens  []Gen
}

// State is a group's desired state.
type State struct {
	Group record.Group
	Rings [record.Levels]*Ring
	Seal  uint8
	Seq   uint64
}

const (
	valuesLen = int(record.Levels) * 3 * record.ValueLen
	paramsLen = 28
	ringLen   = 72
)

// Marshal writes the fields of a STATE.
func (s *State) Marshal() []byte {
	values := make([]byte, valuesLen)
	var rings []byte
	for lv, r := range s.Rings {
		if r == nil {
			continue
		}
		var gens [3]uint64
		for i := range r.Gens {
			g := &r.Gens[i]
			copy(values[(lv*3+int(g.Role-1))*record.ValueLen:], g.Value[:])
			gens[g.Role-1] = g.Gen
		}
		rings = append(rings, byte(lv), byte(r.Class), byte(r.State), 0)
		rings = append(rings, r.ID[:]...)
		rings = binary.BigEndian.AppendUint32(rings, r.Term)
		rings = binary.BigEndian.AppendUint64(rings, r.Step)
		rings = binary.BigEndian.AppendUint64(rings, r.Floor)
		for _, g := range gens {
			rings = binary.BigEndian.AppendUint64(rings, g)
		}
		rings = append(rings, make([]byte, 8)...)
	}
	g := &s.Group
	params := []byte{g.Profile, g.AEAD, g.Combiner, g.V, g.Mode, g.CounterMode, g.EngineBits, 1}
	params = binary.BigEndian.AppendUint32(params, g.Domain)
	params = binary.BigEndian.AppendUint32(params, g.Window)
	params = binary.BigEndian.AppendUint32(params, g.Contexts)
	params = binary.BigEndian.AppendUint16(params, g.MTU)
	params = append(params, make([]byte, 6)...)
	b := Put(make([]byte, 0, 1024), 1, values)
	clear(values)
	b = Put(b, 2, g.ID[:])
	b = Put(b, 3, []byte(g.Name))
	b = put64(b, 4, s.Seq)
	b = Put(b, 5, params)
	b = Put(b, 6, rings)
	return Put(b, 7, []byte{s.Seal})
}

// ParseState reads what Marshal wrote: a program's side.
func ParseState(b []byte) (s State, err error) {
	f, err := Fields(b)
	if err != nil {
		return s, err
	}
	p, rings := f[5], f[6]
	if len(f[1]) != valuesLen || len(f[2]) != 16 || len(f[4]) != 8 || len(p) < paramsLen || len(rings)%ringLen != 0 || len(f[7]) != 1 {
		return s, fmt.Errorf("%w: state", ErrFrame)
	}
	g := &s.Group
	copy(g.ID[:], f[2])
	g.Name, s.Seq, s.Seal = string(f[3]), get64(f[4]), f[7][0]
	g.Profile, g.AEAD, g.Combiner, g.V, g.Mode, g.CounterMode, g.EngineBits = p[0], p[1], p[2], p[3], p[4], p[5], p[6]
	g.Domain, g.Window, g.Contexts, g.MTU = binary.BigEndian.Uint32(p[8:]), binary.BigEndian.Uint32(p[12:]), binary.BigEndian.Uint32(p[16:]), binary.BigEndian.Uint16(p[20:])
	for ; len(rings) > 0; rings = rings[ringLen:] {
		lv := rings[0]
		if lv >= byte(record.Levels) || s.Rings[lv] != nil {
			return s, fmt.Errorf("%w: level %d", ErrFrame, lv)
		}
		r := &Ring{Class: record.Class(rings[1]), State: record.State(rings[2]), Term: binary.BigEndian.Uint32(rings[20:]), Step: binary.BigEndian.Uint64(rings[24:]), Floor: binary.BigEndian.Uint64(rings[32:])}
		copy(r.ID[:], rings[4:])
		for i := range 3 {
			if n := binary.BigEndian.Uint64(rings[40+8*i:]); n != 0 {
				x := Gen{Gen: n, Role: record.Role(i + 1)}
				copy(x.Value[:], f[1][(int(lv)*3+i)*record.ValueLen:])
				r.Gens = append(r.Gens, x)
			}
		}
		s.Rings[lv], g.Rings[lv] = r, r.ID
	}
	return s, nil
}
