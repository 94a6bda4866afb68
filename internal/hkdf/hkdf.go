// Package hkdf is HKDF-SHA-256 (RFC 5869) that leaves no copy of a key on the
// heap. The standard library's crypto/hkdf does: the hash objects that it makes
// and drops hold the padded key and the last input block until the collector
// runs, and the library that this serves keeps the collector off.
package hkdf

import (
	"crypto/sha256"
	"hash"
	"sync"

	"libeesp/internal/secmem"
)

const size = sha256.Size

// one hash object serves all; it is wiped after each use.
var (
	mu     sync.Mutex
	digest = sha256.New()
	room   *memory
)

type memory struct {
	pad  [sha256.BlockSize]byte
	prk  [size]byte
	sum  [size]byte
	last [size]byte
}

// Key fills out (at most 255*32 octets) from ikm, salt and info.
func Key(out, ikm, salt, info []byte) error {
	if len(out) > 255*size {
		panic("hkdf: output too long")
	}
	mu.Lock()
	defer mu.Unlock()
	secmem.BurnStack() // grows the stack now, not when secrets are on it
	defer secmem.BurnStack()
	if room == nil {
		m, err := secmem.New[memory]()
		if err != nil {
			return err
		}
		room = m
	}
	defer wipe(digest)
	m := room
	defer func() { *m = memory{} }()
	m.mac(m.prk[:], salt, ikm)
	var n byte
	prev := m.last[:0]
	for len(out) > 0 {
		n++
		m.mac(m.sum[:], m.prk[:], prev, info, []byte{n})
		m.last = m.sum
		prev = m.last[:]
		out = out[copy(out, m.sum[:]):]
	}
	return nil
}

// mac is HMAC-SHA-256 of the parts under a key of at most one block.
func (m *memory) mac(out, key []byte, parts ...[]byte) {
	if len(key) > len(m.pad) {
		panic("hkdf: salt longer than a block")
	}
	inner := out // holds the inner digest in between: locked memory as well
	for i, x := range []byte{0x36, 0x5c} {
		for j := range m.pad {
			m.pad[j] = x
		}
		for j, k := range key {
			m.pad[j] ^= k
		}
		digest.Reset()
		digest.Write(m.pad[:])
		if i == 0 {
			for _, p := range parts {
				digest.Write(p)
			}
		} else {
			digest.Write(inner)
		}
		digest.Sum(inner[:0])
	}
}

// wipe overwrites a SHA-256 object: Reset restores the state but leaves the
// buffer of the last block, which two short writes fill with zeros.
func wipe(h hash.Hash) {
	var zero [sha256.BlockSize]byte
	h.Reset()
	h.Write(zero[:1])
	h.Write(zero[1:])
	h.Reset()
}
