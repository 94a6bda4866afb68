// Package sha2 is SHA-256, SHA-384 and SHA-512 (FIPS 180-4). A Digest has no pointers: it may be
// in locked memory, and zeroing it wipes all that a computation leaves, except on the stack. The
// standard library's hash functions would add an eighth of a megabyte of self-tests, generators
// and files that are not used here.
package sha2

import (
	"encoding/binary"
	"math/bits"
)

// Hash is a hash function.
type Hash uint8

const (
	SHA256 Hash = 1 + iota
	SHA384
	SHA512
)

const (
	MaxSize  = 64
	MaxBlock = 128
)

// Size is the length of the hash in octets.
func (h Hash) Size() int { return [...]int{0, 32, 48, 64}[h] }

// Block is the length of a block in octets.
func (h Hash) Block() int {
	if h == SHA256 {
		return 64
	}
	return MaxBlock
}

// State is the hash value after some blocks: narrow for SHA-256, wide for the others.
type State struct {
	narrow [8]uint32
	wide   [8]uint64
}

// Set makes s what o is, word by word. A copy of the whole goes through vector registers, which keep what
// they have until something saves them.
func (s *State) Set(o *State) {
	for i, w := range &o.narrow {
		s.narrow[i] = w
	}
	for i, w := range &o.wide {
		s.wide[i] = w
	}
}

// Digest hashes octets that come in pieces. Call Reset or Resume first.
type Digest struct {
	s    State
	w    [80]uint64     // the message schedule of SHA-512
	w32  [64]uint32     // of SHA-256
	rest [MaxBlock]byte // octets that are not a whole block yet
	n    uint64         // octets written so far
	hash Hash
}

// Reset begins a new hash.
func (d *Digest) Reset(h Hash) {
	d.hash, d.n = h, 0
	switch h {
	case SHA256:
		d.s.narrow = [8]uint32{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}
	case SHA384:
		d.s.wide = [8]uint64{0xcbbb9d5dc1059ed8, 0x629a292a367cd507, 0x9159015a3070dd17, 0x152fecd8f70e5939,
			0x67332667ffc00b31, 0x8eb44a8768581511, 0xdb0c2e0d64f98fa7, 0x47b5481dbefa4fa4}
	case SHA512:
		d.s.wide = [8]uint64{0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
			0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179}
	default:
		panic("sha2: no such hash function")
	}
}

// State returns the state after the last whole block.
func (d *Digest) State() *State { return &d.s }

// Resume begins with the state that another digest had after one block.
func (d *Digest) Resume(h Hash, s *State) {
	d.hash, d.n = h, uint64(h.Block())
	d.s.Set(s)
}

// Write adds octets.
func (d *Digest) Write(p []byte) {
	block := d.hash.Block()
	have := int(d.n) & (block - 1)
	d.n += uint64(len(p))
	if have > 0 {
		k := copy(d.rest[have:block], p)
		if have+k < block {
			return
		}
		d.blocks(d.rest[:block])
		p = p[k:]
	}
	whole := len(p) &^ (block - 1)
	if whole > 0 {
		d.blocks(p[:whole])
	}
	copy(d.rest[:], p[whole:])
}

// Sum ends the hash and writes it to dst, which has exactly its length.
func (d *Digest) Sum(dst []byte) {
	if len(dst) != d.hash.Size() {
		panic("sha2: another length than the hash's")
	}
	block := d.hash.Block()
	have := int(d.n) & (block - 1)
	d.rest[have] = 0x80
	clear(d.rest[have+1 : block])
	if have+1+block/8 > block { // no room for the count in this block
		d.blocks(d.rest[:block])
		clear(d.rest[:block])
	}
	binary.BigEndian.PutUint64(d.rest[block-8:], d.n<<3)
	if block == MaxBlock {
		binary.BigEndian.PutUint64(d.rest[block-16:], d.n>>61)
	}
	d.blocks(d.rest[:block])
	if d.hash == SHA256 {
		for i := range 8 {
			binary.BigEndian.PutUint32(dst[4*i:], d.s.narrow[i])
		}
		return
	}
	for i := range len(dst) / 8 {
		binary.BigEndian.PutUint64(dst[8*i:], d.s.wide[i])
	}
}

// Sum256 is SHA-256 of octets that are not secret.
func Sum256(p []byte) (sum [32]byte) {
	var d Digest
	d.Reset(SHA256)
	d.Write(p)
	d.Sum(sum[:])
	return sum
}

func (d *Digest) blocks(p []byte) {
	switch {
	case d.hash != SHA256:
		d.wide(p)
	case hasSHA256:
		blocks256(&d.s.narrow, &k256, p)
	default:
		d.narrow(p)
	}
}

func (d *Digest) narrow(p []byte) {
	w := &d.w32
	for ; len(p) >= 64; p = p[64:] {
		for i := range 16 {
			w[i] = binary.BigEndian.Uint32(p[4*i:])
		}
		for i := 16; i < 64; i++ {
			x, y := w[i-15], w[i-2]
			w[i] = w[i-16] + w[i-7] + (bits.RotateLeft32(x, -7) ^ bits.RotateLeft32(x, -18) ^ x>>3) +
				(bits.RotateLeft32(y, -17) ^ bits.RotateLeft32(y, -19) ^ y>>10)
		}
		h := &d.s.narrow
		a, b, c, d, e, f, g, z := h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7]
		for i := range 64 {
			t := z + (bits.RotateLeft32(e, -6) ^ bits.RotateLeft32(e, -11) ^ bits.RotateLeft32(e, -25)) + (e&f ^ ^e&g) + k256[i] + w[i]
			u := (bits.RotateLeft32(a, -2) ^ bits.RotateLeft32(a, -13) ^ bits.RotateLeft32(a, -22)) + (a&b ^ a&c ^ b&c)
			z, g, f, e, d, c, b, a = g, f, e, d+t, c, b, a, t+u
		}
		for i, x := range [8]uint32{a, b, c, d, e, f, g, z} {
			h[i] += x
		}
	}
}

func (d *Digest) wide(p []byte) {
	w := &d.w
	for ; len(p) >= MaxBlock; p = p[MaxBlock:] {
		for i := range 16 {
			w[i] = binary.BigEndian.Uint64(p[8*i:])
		}
		for i := 16; i < 80; i++ {
			x, y := w[i-15], w[i-2]
			w[i] = w[i-16] + w[i-7] + (bits.RotateLeft64(x, -1) ^ bits.RotateLeft64(x, -8) ^ x>>7) +
				(bits.RotateLeft64(y, -19) ^ bits.RotateLeft64(y, -61) ^ y>>6)
		}
		h := &d.s.wide
		a, b, c, d, e, f, g, z := h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7]
		for i := range 80 {
			t := z + (bits.RotateLeft64(e, -14) ^ bits.RotateLeft64(e, -18) ^ bits.RotateLeft64(e, -41)) + (e&f ^ ^e&g) + k512[i] + w[i]
			u := (bits.RotateLeft64(a, -28) ^ bits.RotateLeft64(a, -34) ^ bits.RotateLeft64(a, -39)) + (a&b ^ a&c ^ b&c)
			z, g, f, e, d, c, b, a = g, f, e, d+t, c, b, a, t+u
		}
		for i, x := range [8]uint64{a, b, c, d, e, f, g, z} {
			h[i] += x
		}
	}
}

// The first 64 bits of the fractional parts of the cube roots of the first 80 primes.
var k512 = [80]uint64{
	0x428a2f98d728ae22, 0x7137449123ef65cd, 0xb5c0fbcfec4d3b2f, 0xe9b5dba58189dbbc,
	0x3956c25bf348b538, 0x59f111f1b605d019, 0x923f82a4af194f9b, 0xab1c5ed5da6d8118,
	0xd807aa98a3030242, 0x12835b0145706fbe, 0x243185be4ee4b28c, 0x550c7dc3d5ffb4e2,
	0x72be5d74f27b896f, 0x80deb1fe3b1696b1, 0x9bdc06a725c71235, 0xc19bf174cf692694,
	0xe49b69c19ef14ad2, 0xefbe4786384f25e3, 0x0fc19dc68b8cd5b5, 0x240ca1cc77ac9c65,
	0x2de92c6f592b0275, 0x4a7484aa6ea6e483, 0x5cb0a9dcbd41fbd4, 0x76f988da831153b5,
	0x983e5152ee66dfab, 0xa831c66d2db43210, 0xb00327c898fb213f, 0xbf597fc7beef0ee4,
	0xc6e00bf33da88fc2, 0xd5a79147930aa725, 0x06ca6351e003826f, 0x142929670a0e6e70,
	0x27b70a8546d22ffc, 0x2e1b21385c26c926, 0x4d2c6dfc5ac42aed, 0x53380d139d95b3df,
	0x650a73548baf63de, 0x766a0abb3c77b2a8, 0x81c2c92e47edaee6, 0x92722c851482353b,
	0xa2bfe8a14cf10364, 0xa81a664bbc423001, 0xc24b8b70d0f89791, 0xc76c51a30654be30,
	0xd192e819d6ef5218, 0xd69906245565a910, 0xf40e35855771202a, 0x106aa07032bbd1b8,
	0x19a4c116b8d2d0c8, 0x1e376c085141ab53, 0x2748774cdf8eeb99, 0x34b0bcb5e19b48a8,
	0x391c0cb3c5c95a63, 0x4ed8aa4ae3418acb, 0x5b9cca4f7763e373, 0x682e6ff3d6b2b8a3,
	0x748f82ee5defb2fc, 0x78a5636f43172f60, 0x84c87814a1f0ab72, 0x8cc702081a6439ec,
	0x90befffa23631e28, 0xa4506cebde82bde9, 0xbef9a3f7b2c67915, 0xc67178f2e372532b,
	0xca273eceea26619c, 0xd186b8c721c0c207, 0xeada7dd6cde0eb1e, 0xf57d4f7fee6ed178,
	0x06f067aa72176fba, 0x0a637dc5a2c898a6, 0x113f9804bef90dae, 0x1b710b35131c471b,
	0x28db77f523047d84, 0x32caab7b40c72493, 0x3c9ebe0a15c9bebc, 0x431d67c49c100d4c,
	0x4cc5d4becb3e42b6, 0x597f299cfc657e2a, 0x5fcb6fab3ad6faec, 0x6c44198c4a475817,
}

// The first 32 bits of the first 64 of these.
var k256 = func() (k [64]uint32) {
	for i := range k {
		k[i] = uint32(k512[i] >> 32)
	}
	return k
}()
