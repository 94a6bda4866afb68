// Package hkdf is HKDF (RFC 5869) that leaves no copy of a key on the heap. The
// standard library's crypto/hkdf does: the hash objects that it makes and drops
// hold the padded key and the last input block until the garbage collector
// runs, which is rare in this library.
package hkdf

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding"
	"hash"
	"sync"

	"libeesp/internal/secmem"
)

// Hash is a hash function.
type Hash uint8

// The hash functions.
const (
	SHA256 Hash = 1 + iota
	SHA384
	SHA512
)

const (
	hashes   = int(SHA512)
	maxSize  = sha512.Size
	maxBlock = sha512.BlockSize
	maxState = 4 + 64 + maxBlock + 8
)

// Size is the length of the hash, and of the keys of an Expander.
func (h Hash) Size() int { return [...]int{0, sha256.Size, sha512.Size384, sha512.Size}[h] }

func (h Hash) block() int {
	if h == SHA256 {
		return sha256.BlockSize
	}
	return sha512.BlockSize
}

// digest is a hash object of the standard library. Its state can be moved out of it and
// back, so that the object, which is on the heap, holds a secret only during a call.
type digest interface {
	hash.Hash
	encoding.BinaryAppender
	encoding.BinaryUnmarshaler
}

func newDigests() [hashes]digest {
	return [...]digest{sha256.New().(digest), sha512.New384().(digest), sha512.New().(digest)}
}

// fresh is the state of each hash object that has hashed nothing.
var fresh = func() (f [hashes][]byte) {
	for i, d := range newDigests() {
		f[i], _ = d.AppendBinary(nil)
	}
	return f
}()

// pads is an HMAC key: the states of the hash after the inner and the outer pad.
type pads struct {
	inner, outer [maxState]byte
}

// Scratch is memory for calls. One thread at a time may use it.
type Scratch struct {
	digests [hashes]digest // fresh between calls
	m       *memory
}

// memory is locked, and zero between calls.
type memory struct {
	pads  pads
	block [maxBlock]byte
	sum   [maxSize]byte
}

// NewScratch allocates a Scratch. The error is ErrMemory.
func NewScratch() (*Scratch, error) {
	m, err := secmem.New[memory]()
	if err != nil {
		return nil, err
	}
	return &Scratch{newDigests(), m}, nil
}

// Free frees the locked memory.
func (s *Scratch) Free() {
	secmem.Delete(s.m)
	s.m = nil
}

// begin grows the stack before secrets are on it: the old stack is not wiped.
func (s *Scratch) begin() { secmem.BurnStack() }

// end wipes digest, memory and stack after a call.
func (s *Scratch) end(h Hash) {
	s.load(h, fresh[h-1])
	*s.m = memory{}
	secmem.BurnStack()
}

func (s *Scratch) load(h Hash, state []byte) {
	if err := s.digests[h-1].UnmarshalBinary(state); err != nil {
		panic("hkdf: " + err.Error())
	}
}

// key sets p to an HMAC key of at most one block.
func (s *Scratch) key(h Hash, p *pads, key []byte) {
	block := s.m.block[:h.block()]
	if len(key) > len(block) {
		panic("hkdf: key longer than a block")
	}
	clear(block)
	copy(block, key)
	d, n := s.digests[h-1], len(fresh[h-1])
	pad := func(state []byte, x byte) {
		for i := range block {
			block[i] ^= x
		}
		d.Reset()
		d.Write(block)
		d.AppendBinary(state[:0])
	}
	pad(p.inner[:n], 0x36)
	pad(p.outer[:n], 0x36^0x5c)
}

// mac writes the HMAC of the parts to s.m.sum and returns it. It copies the parts for the
// hash object, so that they may be on the stack.
func (s *Scratch) mac(h Hash, p *pads, parts ...[]byte) []byte {
	d, n, sum := s.digests[h-1], len(fresh[h-1]), s.m.sum[:h.Size()]
	s.load(h, p.inner[:n])
	for _, part := range parts {
		for len(part) > 0 {
			k := copy(s.m.block[:], part)
			d.Write(s.m.block[:k])
			part = part[k:]
		}
	}
	d.Sum(sum[:0])
	s.load(h, p.outer[:n])
	d.Write(sum)
	d.Sum(sum[:0])
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
	if len(out) > 255*sha256.Size {
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
	defer s.end(SHA256)
	p := &s.m.pads
	s.key(SHA256, p, salt)
	s.key(SHA256, p, s.mac(SHA256, p, ikm))
	s.expand(SHA256, p, out, info)
	return nil
}
