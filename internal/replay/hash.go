package replay

import (
	"math/bits"
	"math/rand/v2"
	"unsafe"
)

// Seeds are secret random numbers for a hash of Keys, so that senders cannot choose keys
// with equal hashes. The executor in C has the same hash (libeesp/plan.h).
type Seeds struct {
	seed   [8]uint64
	noAddr uint64 // hashAddr of a zero Addr
}

// NewSeeds draws seeds.
func NewSeeds() (s Seeds) {
	for i := range s.seed {
		s.seed[i] = rand.Uint64()
	}
	s.noAddr = s.hashAddr(&[4]uint64{})
	return s
}

// Mix multiplies and xors the halves of the product.
func Mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

func (s *Seeds) hash(k *octets) uint64 {
	addr := s.noAddr
	if k[4]|k[5]|k[6]|k[7] != 0 {
		addr = s.hashAddr((*[4]uint64)(k[4:]))
	}
	return Mix(k[2]^s.seed[2]^s.HashName(k[0], k[1]), k[3]^s.seed[3]^addr)
}

// Hash returns the hash of a Key.
func (s *Seeds) Hash(k *Key) uint64 { return s.hash((*octets)(unsafe.Pointer(k))) }

// HashName returns the part of the hash that depends on Master only.
func (s *Seeds) HashName(a, b uint64) uint64 { return Mix(a^s.seed[0], b^s.seed[1]) }

func (s *Seeds) hashAddr(k *[4]uint64) uint64 {
	return Mix(k[0]^s.seed[4], k[1]^s.seed[5]) ^ Mix(k[2]^s.seed[6], k[3]^s.seed[7])
}
