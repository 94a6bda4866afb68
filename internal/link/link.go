// Package link is the protocol between an agent and data planes on a Unix socket. The
// agent's end is in control/socket, the library's in internal/eesp/follow.go.
//
// A frame is
//
//	length u32 | type u16 | flags u16 | fields
//
// big-endian; length counts the fields, at most 64 KiB. With flag 1, an end that does not
// know the type must end the connection. A field is number u16, length u16, value; numbers
// rise. Unknown fields are skipped.
//
//	1 HELLO    to agent    1 major u16, 2 minor u16, 3 features u64, 4 library, 5 program, 6 instance u64
//	2 WELCOME  to program  1 major u16, 2 minor u16, 3 features u64, 4 cluster 16, 5 member
//	3 FOLLOW   to agent    1 group's name, 2 flags u16 (1: gives keys to clients)
//	4 STATE    to program  the whole desired state of a group: see below
//	5 DONE     to agent    1 group 16, 2 sequence u64, 3 code u8 (0: done), 4 reason
//	6 NEED_IDS to agent    1 group 16, 2 count u16
//	7 IDS      to program  1 group 16, 2 IDs u64 each
//	8 USAGE    to agent    1 ring 16, 2 generation u64, derived, sealed, opened, refused u64 each
//	9 ERROR    to program  1 code u16, 2 text, 3 group's name
//	10 GRANT   to program  1 group 16, 2 request u64, 3 up u64, 4 down u64, 5 lease u64, ms, 6 client's name, 7 flags u16
//	11 GRANTED to agent    1 group 16, 2 request u64, 3 code u8 (0: done), 4 reason, 5 up, 6 down: data keys, 7 generations u64 by level
//	12 HINT    to agent    1 group 16, 2 levels u8: at these, packets name newer keys than the group has
//
// STATE: 1 values, 288 octets, always first and so at a fixed offset: three levels of
// previous, current, next, 32 octets each, zero where there is none; 2 group 16; 3 name;
// 4 sequence u64; 5 parameters, 28 octets; 6 rings, 72 octets each; 7 seal u8; 8 max_stale
// u32, seconds. The agent sends one STATE of a group and then waits for DONE. Changes in
// the meantime are in the next STATE, which again is whole. A program answers DONE when it
// has installed the STATE: packets of a next generation open; packets are sealed with a
// new current one, and no burst that began before is running; a generation that is missing
// was wiped. A new connection of a process with the same instance replaces the old one;
// connections of different instances exist side by side.
//
// GRANT asks a program that gives keys to clients for a pair of data keys, with the IDs up
// and down (psp: SPIs without their top bit, which the program adds). The program seals to
// the client under down until the lease ends. Flag 1: the pair exists, and its lease begins
// anew; the answer has no keys. Flag 2: the lease ends now; there is no answer. A data key
// is id u64, epoch u16, V, profile, parameters u16, the lengths of key and of Options u8
// each, key, Options.
package link

import (
	"encoding/binary"
	"errors"
	"io"

	"libeesp/internal/say"
)

// Version of the protocol. The agent also serves programs of the major version before.
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
	Grant
	Granted
	Hint
)

// FollowClients is the flag of FOLLOW that says that the program gives keys to clients.
const FollowClients = 1

// Flags of a GRANT.
const (
	GrantRenew = 1 << iota
	GrantEnd
)

// Codes of an ERROR.
const (
	ErrCodePolicy  = 1 + iota // this user may not follow the group
	ErrCodeUnknown            // there is no such group yet; the request stays
	ErrCodeVersion
	ErrCodeIDs // the program asks for too many IDs
)

const (
	maxFrame  = 64 << 10
	headerLen = 8
	// MustKnow is the flag of frames that must not be skipped.
	MustKnow = 1
)

// Whether a program may seal with a group's current keys.
const (
	SealNo     = iota // no: there is no key, or the server has not confirmed it yet
	SealYes           // yes
	SealStale         // no: the servers were silent for too long
	SealFenced        // no: another machine has this identity; senders need new IDs
)

// ErrFrame is the error of a frame that is not valid.
var ErrFrame = errors.New("malformed frame")

// Frame is one frame.
type Frame struct {
	Type, Flags uint16
	Fields      []byte
}

// WriteFrame writes a frame.
func WriteFrame(w io.Writer, f Frame) error {
	if len(f.Fields) > maxFrame {
		return say.Errorf("%w: %d octets", ErrFrame, len(f.Fields))
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

// ReadFrame reads a frame. The error is ErrFrame, or the reader's.
func ReadFrame(r io.Reader) (f Frame, err error) {
	var h [headerLen]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return f, err
	}
	n := binary.BigEndian.Uint32(h[:])
	if n > maxFrame {
		return f, say.Errorf("%w: %d octets", ErrFrame, n)
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

// Put16 appends a field of 2 octets.
func Put16(b []byte, num uint16, v uint16) []byte {
	return Put(b, num, binary.BigEndian.AppendUint16(nil, v))
}

// Put64 appends a field of 8 octets.
func Put64(b []byte, num uint16, v uint64) []byte {
	return Put(b, num, binary.BigEndian.AppendUint64(nil, v))
}

// Fields returns a frame's fields by number. The error is ErrFrame.
func Fields(b []byte) (map[uint16][]byte, error) {
	m := map[uint16][]byte{}
	last := -1
	for len(b) > 0 {
		if len(b) < 4 {
			return nil, ErrFrame
		}
		num, n := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		if int(num) <= last || len(b) < 4+n {
			return nil, say.Errorf("%w: field %d", ErrFrame, num)
		}
		m[num], b, last = b[4:4+n], b[4+n:], int(num)
	}
	return m, nil
}

// Get64 reads a field of 8 octets; 0 if it has another length.
func Get64(b []byte) uint64 {
	if len(b) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

// Get16 reads a field of 2 octets; 0 if it has another length.
func Get16(b []byte) uint16 {
	if len(b) != 2 {
		return 0
	}
	return binary.BigEndian.Uint16(b)
}

// ID is a name of 16 octets.
type ID = [16]byte

// Levels is the number of levels of root keys.
const Levels = 3

// Values are the keys of a state: by level, previous, current and next; zero where there
// is none.
type Values [Levels][3][32]byte

// Ring is the public part of a ring.
type Ring struct {
	ID           ID
	Class, State uint8
	Term         uint32
	Step, Floor  uint64
	Gens         [3]uint64 // generations: previous, current, next; 0: none
	Epoch        uint16    // tss: of the current one
}

// Counters of a group's senders (Params.CounterMode).
const (
	CountersFromZero = 0 // they begin at 0, under IDs that were never used before
	CountersTimes    = 1 // they are times, for replay protection by time
)

// Params are a group's parameters.
type Params struct {
	Profile, AEAD, Combiner, V, Mode, CounterMode, EngineBits uint8
	Domain, Window, Contexts                                  uint32
	MTU                                                       uint16
}

// State is a group's desired state, without values.
type State struct {
	Group ID
	Name  string
	Seq   uint64
	Params
	Rings [Levels]*Ring
	Seal  uint8
	// MaxStale is how many seconds a program may seal after it lost its agent; 0: no limit.
	MaxStale uint32
}

// Sizes and places in a state's fields, in octets.
const (
	ValuesLen = Levels * 3 * 32
	// ValuesAt is the place of the values in the fields of a STATE.
	ValuesAt  = 4
	paramsLen = 28
	ringLen   = 72
)

// Marshal writes the fields of a STATE.
func (s *State) Marshal(values *Values) []byte {
	b := make([]byte, 0, 1024)
	b = binary.BigEndian.AppendUint16(b, 1)
	b = binary.BigEndian.AppendUint16(b, ValuesLen)
	for l := range values {
		for i := range values[l] {
			b = append(b, values[l][i][:]...)
		}
	}
	var rings []byte
	for l, r := range s.Rings {
		if r == nil {
			continue
		}
		rings = append(rings, byte(l), r.Class, r.State, 0)
		rings = append(rings, r.ID[:]...)
		rings = binary.BigEndian.AppendUint32(rings, r.Term)
		rings = binary.BigEndian.AppendUint64(rings, r.Step)
		rings = binary.BigEndian.AppendUint64(rings, r.Floor)
		for _, g := range r.Gens {
			rings = binary.BigEndian.AppendUint64(rings, g)
		}
		rings = binary.BigEndian.AppendUint16(rings, r.Epoch)
		rings = append(rings, make([]byte, 6)...)
	}
	p := []byte{s.Profile, s.AEAD, s.Combiner, s.V, s.Mode, s.CounterMode, s.EngineBits, 1}
	p = binary.BigEndian.AppendUint32(p, s.Domain)
	p = binary.BigEndian.AppendUint32(p, s.Window)
	p = binary.BigEndian.AppendUint32(p, s.Contexts)
	p = binary.BigEndian.AppendUint16(p, s.MTU)
	p = append(p, make([]byte, 6)...)
	b = Put(b, 2, s.Group[:])
	b = Put(b, 3, []byte(s.Name))
	b = Put64(b, 4, s.Seq)
	b = Put(b, 5, p)
	b = Put(b, 6, rings)
	b = Put(b, 7, []byte{s.Seal})
	return Put(b, 8, binary.BigEndian.AppendUint32(nil, s.MaxStale))
}

// ParseState reads what Marshal wrote, except for the values: the ValuesLen octets at
// ValuesAt, whose content does not matter. The error is ErrFrame.
func ParseState(b []byte) (s State, err error) {
	if len(b) < ValuesAt+ValuesLen {
		return s, say.Errorf("%w: state", ErrFrame)
	}
	f, err := Fields(b)
	if err != nil {
		return s, err
	}
	p, rings := f[5], f[6]
	if len(f[1]) != ValuesLen || binary.BigEndian.Uint16(b) != 1 || len(f[2]) != 16 || len(f[4]) != 8 || len(p) < paramsLen || len(rings)%ringLen != 0 || len(f[7]) != 1 {
		return s, say.Errorf("%w: state", ErrFrame)
	}
	s.Group, s.Name, s.Seq, s.Seal = ID(f[2]), string(f[3]), Get64(f[4]), f[7][0]
	if len(f[8]) == 4 { // older agents do not send it
		s.MaxStale = binary.BigEndian.Uint32(f[8])
	}
	s.Profile, s.AEAD, s.Combiner, s.V, s.Mode, s.CounterMode, s.EngineBits = p[0], p[1], p[2], p[3], p[4], p[5], p[6]
	s.Domain, s.Window, s.Contexts, s.MTU = binary.BigEndian.Uint32(p[8:]), binary.BigEndian.Uint32(p[12:]), binary.BigEndian.Uint32(p[16:]), binary.BigEndian.Uint16(p[20:])
	for ; len(rings) > 0; rings = rings[ringLen:] {
		l := rings[0]
		if l >= Levels || s.Rings[l] != nil {
			return s, say.Errorf("%w: level %d", ErrFrame, l)
		}
		r := &Ring{ID: ID(rings[4:]), Class: rings[1], State: rings[2], Term: binary.BigEndian.Uint32(rings[20:]), Step: binary.BigEndian.Uint64(rings[24:]), Floor: binary.BigEndian.Uint64(rings[32:])}
		for i := range r.Gens {
			r.Gens[i] = binary.BigEndian.Uint64(rings[40+8*i:])
		}
		r.Epoch = binary.BigEndian.Uint16(rings[64:])
		s.Rings[l] = r
	}
	return s, nil
}

// DataKey is the data key of one context, for a client.
type DataKey struct {
	ID         uint64
	Epoch      uint16
	V, Profile uint8
	Params     [2]uint8
	Key        []byte
	Options    []byte // as in eesp.DataKey
}

// Size returns how many octets Append appends.
func (k *DataKey) Size() int { return 16 + len(k.Key) + len(k.Options) }

// Append appends a data key.
func (k *DataKey) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, k.ID)
	b = binary.BigEndian.AppendUint16(b, k.Epoch)
	b = append(b, k.V, k.Profile, k.Params[0], k.Params[1], byte(len(k.Key)), byte(len(k.Options)))
	return append(append(b, k.Key...), k.Options...)
}

// ParseDataKey reads what Append wrote. The result refers to b. The error is ErrFrame.
func ParseDataKey(b []byte) (k DataKey, err error) {
	if len(b) < 16 || len(b) != 16+int(b[14])+int(b[15]) {
		return k, say.Errorf("%w: data key", ErrFrame)
	}
	k = DataKey{ID: binary.BigEndian.Uint64(b), Epoch: binary.BigEndian.Uint16(b[8:]), V: b[10], Profile: b[11], Params: [2]uint8(b[12:14])}
	k.Key, k.Options = b[16:16+int(b[14])], b[16+int(b[14]):]
	return k, nil
}
