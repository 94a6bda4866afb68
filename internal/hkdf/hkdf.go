// Package hkdf is HKDF (RFC 5869) that leaves no copy of a key on the heap. The
// standard library's crypto/hkdf does: the hash objects that it makes and drops
// hold the padded key and the last input block until the garbage collector
// runs, which is rare in this library.
package hkdf

import (
	"sync"

	"libeesp/internal/secmem"
	"libeesp/internal/sha2"
)

// Hash is a hash function.
type Hash = sha2.Hash

// The hash functions.
const (
	SHA256 = sha2.SHA256
	SHA384 = sha2.SHA384
	SHA512 = sha2.SHA512
)

// pads is an HMAC key: the states of the hash after the inner and the outer pad.
type pads struct {
	inner, outer sha2.State
}

// Scratch is memory for calls. One thread at a time may use it.
type Scratch struct {
	m *memory
}

// memory is locked, and zero between calls.
type memory struct {
	pads   pads
	digest sha2.Digest
	block  [sha2.MaxBlock]byte
	sum    [sha2.MaxSize]byte
}

// NewScratch allocates a Scratch. The error is ErrMemory.
func NewScratch() (*Scratch, error) {
	m, err := secmem.New[memory]()
	if err != nil {
		return nil, err
	}
	return &Scratch{m}, nil
}

// Free frees the locked memory.
func (s *Scratch) Free() {
	secmem.Delete(s.m)
	s.m = nil
}

// begin grows the stack before secrets are on it: the old stack is not wiped.
func (s *Scratch) begin() { secmem.BurnStack() }

// end wipes digest, memory and stack after a call.
func (s *Scratch) end() {
	*s.m = memory{}
	secmem.BurnStack()
}

// key sets p to an HMAC key of at most one block.
func (s *Scratch) key(h Hash, p *pads, key []byte) {
	block := s.m.block[:h.Block()]
	if len(key) > len(block) {
		panic("hkdf: key longer than a block")
	}
	clear(block)
	copy(block, key)
	d := &s.m.digest
	pad := func(state *sha2.State, x byte) {
		for i := range block {
			block[i] ^= x
		}
		d.Reset(h)
		d.Write(block)
		state.Set(d.State())
	}
	pad(&p.inner, 0x36)
	pad(&p.outer, 0x36^0x5c)
}

// mac leaves the HMAC of the parts in memory, and returns where.
func (s *Scratch) mac(h Hash, p *pads, parts ...[]byte) []byte {
	d, sum := &s.m.digest, s.m.sum[:h.Size()]
	d.Resume(h, &p.inner)
	for _, part := range parts {
		d.Write(part)
	}
	d.Sum(sum)
	d.Resume(h, &p.outer)
	d.Write(sum)
	d.Sum(sum)
	return sum
}

// expand is the second step of HKDF.
func (s *Scratch) expand(h Hash, p *pads, out, info []byte) {
	var prev []byte
	for n := byte(1); len(out) > 0; n++ {
		prev = s.mac(h, p, prev, info, []byte{n})
		out = out[copy(out, prev):]
	}
}

// one Scratch serves all that have none.
var (
	mu     sync.Mutex
	shared *Scratch
)

// Key fills out (at most 255*32 octets) from ikm, salt and info, with SHA-256.
func Key(out, ikm, salt, info []byte) error {
	if len(out) > 255*32 {
		panic("hkdf: output too long")
	}
	mu.Lock()
	defer mu.Unlock()
	if shared == nil {
		s, err := NewScratch()
		if err != nil {
			return err
		}
		shared = s
	}
	s := shared
	s.begin()
	defer s.end()
	p := &s.m.pads
	s.key(SHA256, p, salt)
	s.key(SHA256, p, s.mac(SHA256, p, ikm))
	s.expand(SHA256, p, out, info)
	return nil
}
