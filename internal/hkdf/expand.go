package hkdf

import (
	"sync/atomic"

	"libeesp/internal/say"
	"libeesp/internal/secmem"
	"libeesp/internal/status"
)

// MaxExpand is the most octets that Expand writes.
const MaxExpand = 64

var serials atomic.Uint64

// Expander is HKDF-Expand (RFC 5869, 2.3) under one pseudorandom key, which is
// in locked memory.
type Expander struct {
	hash   Hash
	serial uint64
	pads   *pads
}

// NewExpander copies a key, which must have the hash's length. The error is ErrArgument
// or ErrMemory.
func NewExpander(h Hash, prk []byte) (*Expander, error) {
	if h < SHA256 || h > SHA512 || len(prk) != h.Size() {
		return nil, say.Errorf("%w: hash %d with a key of %d octets", status.ErrArgument, h, len(prk))
	}
	s, err := NewScratch()
	if err != nil {
		return nil, err
	}
	defer s.Free()
	p, err := secmem.New[pads]()
	if err != nil {
		return nil, err
	}
	s.begin()
	defer s.end()
	s.key(h, p, prk)
	return &Expander{h, serials.Add(1), p}, nil
}

// Serial returns a number that no other Expander of the process ever has; never 0.
func (e *Expander) Serial() uint64 { return e.serial }

// Expand fills out, at most MaxExpand octets; more panics. It allocates nothing. Calls
// with different scratches may run at the same time.
func (e *Expander) Expand(out, info []byte, s *Scratch) {
	if len(out) > MaxExpand {
		panic("hkdf: output too long")
	}
	s.begin()
	defer s.end()
	s.expand(e.hash, e.pads, out, info)
}

// Free wipes the key.
func (e *Expander) Free() {
	secmem.Delete(e.pads)
	e.pads = nil
}
