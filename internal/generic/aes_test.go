package generic

import (
	"bytes"
	"crypto/aes"
	"math/bits"
	"math/rand/v2"
	"testing"
)

// sbox computes FIPS-197's S-box from its definition: inverse, then affine.
func sbox(x byte) byte {
	mul := func(a, b byte) (p byte) {
		for ; b != 0; b >>= 1 {
			if b&1 != 0 {
				p ^= a
			}
			if a>>7 != 0 {
				a = a<<1 ^ 0x1B
			} else {
				a <<= 1
			}
		}
		return p
	}
	inv := byte(1)
	for range 254 {
		inv = mul(inv, x)
	}
	y := inv
	for i := 1; i <= 4; i++ {
		y ^= bits.RotateLeft8(inv, i)
	}
	return y ^ 0x63
}

func TestSliceLayout(t *testing.T) {
	var b, back [64]byte
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	var q slice
	q.pack(&b)
	for i := range b {
		for p := range 8 {
			if byte(q[p]>>i)&1 != b[i]>>p&1 {
				t.Fatalf("octet %d bit %d is in the wrong place", i, p)
			}
		}
	}
	q.unpack(&back)
	if back != b {
		t.Fatal("unpack does not undo pack")
	}
}

func TestSub(t *testing.T) {
	for base := 0; base < 256; base += 64 {
		var b, want [64]byte
		for i := range b {
			b[i] = byte(base + i)
			want[i] = sbox(byte(base + i))
		}
		var q slice
		q.pack(&b)
		q.sub()
		q.unpack(&b)
		if b != want {
			t.Fatalf("S-box from %d on:\n% x\nwant\n% x", base, b, want)
		}
	}
}

// Blocks with different keys side by side, against crypto/aes.
func TestScheduleAndEncrypt(t *testing.T) {
	for _, keyLen := range []int{16, 32} {
		var w [atOnce][60]uint32
		var keys [atOnce][32]byte
		for j := range keys {
			for i := range keyLen {
				keys[j][i] = byte(rand.Uint32())
				w[j][i/4] |= uint32(keys[j][i]) << (i % 4 * 8)
			}
		}
		var q slice
		schedule(&w, keyLen, &q)
		for j := 0; j < atOnce; j += 4 {
			rounds := keyLen/4 + 6
			k := make([]slice, rounds+1)
			for r := range k {
				var b [64]byte
				for i := range b {
					b[i] = byte(w[j+i/16][4*r+i%16/4] >> (i % 4 * 8))
				}
				k[r].pack(&b)
			}
			var in, out, want [64]byte
			for i := range in {
				in[i] = byte(rand.Uint32())
			}
			q.pack(&in)
			q.encrypt(k)
			q.unpack(&out)
			for l := range 4 {
				c, err := aes.NewCipher(keys[j+l][:keyLen])
				if err != nil {
					t.Fatal(err)
				}
				c.Encrypt(want[16*l:], in[16*l:])
			}
			if !bytes.Equal(out[:], want[:]) {
				t.Fatalf("AES-%d:\n% x\nwant\n% x", keyLen*8, out, want)
			}
		}
	}
}

// slowMul is the multiplication of SP 800-38D, algorithm 1, bit by bit.
func slowMul(x, y element) (z element) {
	v := y
	for i := range 128 {
		bit := x.hi >> 63
		if i >= 64 {
			bit = x.lo >> 63
		}
		if bit != 0 {
			z = element{z.hi ^ v.hi, z.lo ^ v.lo}
		}
		if i < 64 {
			x.hi <<= 1
		} else {
			x.lo <<= 1
		}
		odd := v.lo & 1
		v = element{v.hi >> 1, v.lo>>1 | v.hi<<63}
		if odd != 0 {
			v.hi ^= 0xE1 << 56
		}
	}
	return z
}

func TestMul(t *testing.T) {
	special := []uint64{0, 1, 1 << 63, ^uint64(0), 1 << 60, 0xF << 60, 0x1111111111111111, 0x8888888888888888, 1<<60 - 1}
	word := func() uint64 {
		if n := rand.IntN(3 * len(special)); n < len(special) {
			return special[n]
		}
		return rand.Uint64()
	}
	for range 20000 {
		x, y := element{word(), word()}, element{word(), word()}
		got, want := x, slowMul(x, y)
		if got.mul(&y); got != want {
			t.Fatalf("%x * %x = %x, want %x", x, y, got, want)
		}
	}
}
