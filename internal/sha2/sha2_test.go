package sha2

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"math/rand/v2"
	"testing"
)

func reference(h Hash, b []byte) []byte {
	switch h {
	case SHA256:
		x := sha256.Sum256(b)
		return x[:]
	case SHA384:
		x := sha512.Sum384(b)
		return x[:]
	}
	x := sha512.Sum512(b)
	return x[:]
}

func sum(h Hash, pieces ...[]byte) []byte {
	var d Digest
	d.Reset(h)
	for _, p := range pieces {
		d.Write(p)
	}
	out := make([]byte, h.Size())
	d.Sum(out)
	return out
}

// both runs f with the CPU's instructions for SHA-256, if there are any, and without.
func both(t *testing.T, f func(t *testing.T)) {
	has := hasSHA256
	defer set(has)
	for _, use := range []bool{true, false} {
		if use && !has {
			t.Log("skipped: this CPU has no instructions for SHA-256")
			continue
		}
		set(use)
		f(t)
	}
}

// Every length up to some blocks, in one piece and in two, and at every alignment.
func TestLikeTheStandardLibrary(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, 700)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	both(t, func(t *testing.T) {
		for h := SHA256; h <= SHA512; h++ {
			for n := range 600 {
				in := b[n%17:][:n]
				want := reference(h, in)
				at := r.IntN(n + 1)
				if got := sum(h, in); !bytes.Equal(got, want) {
					t.Fatalf("hash %d, %d octets: %x, want %x", h, n, got, want)
				}
				if got := sum(h, in[:at], in[at:]); !bytes.Equal(got, want) {
					t.Fatalf("hash %d, %d and %d octets: %x, want %x", h, at, n-at, got, want)
				}
			}
			var pieces [][]byte
			var all []byte
			for range 300 {
				p := b[r.IntN(100):][:r.IntN(300)]
				pieces, all = append(pieces, p), append(all, p...)
			}
			if !bytes.Equal(sum(h, pieces...), reference(h, all)) {
				t.Fatalf("hash %d, %d octets in pieces", h, len(all))
			}
		}
		if Sum256(b) != sha256.Sum256(b) {
			t.Fatal("Sum256")
		}
	})
}

// A digest that begins with another one's state gives the same hash.
func TestResume(t *testing.T) {
	both(t, func(t *testing.T) {
		for h := SHA256; h <= SHA512; h++ {
			b := bytes.Repeat([]byte{7, 1, 9}, 100)
			var first, then Digest
			first.Reset(h)
			first.Write(b[:h.Block()])
			for i := range then.rest {
				then.rest[i] = 0xee
			}
			then.Resume(h, first.State())
			then.Write(b[h.Block():])
			got := make([]byte, h.Size())
			if then.Sum(got); !bytes.Equal(got, reference(h, b)) {
				t.Fatalf("hash %d: %x", h, got)
			}
		}
	})
}

// Hashing allocates nothing.
func TestAllocations(t *testing.T) {
	var d Digest
	b, out := make([]byte, 300), make([]byte, 64)
	if n := testing.AllocsPerRun(100, func() {
		for h := SHA256; h <= SHA512; h++ {
			d.Reset(h)
			d.Write(b)
			d.Sum(out[:h.Size()])
		}
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func BenchmarkBlock(b *testing.B) {
	var d Digest
	p := make([]byte, 1024)
	for h := SHA256; h <= SHA512; h++ {
		b.Run([]string{"", "256", "384", "512"}[h], func(b *testing.B) {
			b.SetBytes(int64(len(p)))
			d.Reset(h)
			for range b.N {
				d.Write(p)
			}
		})
	}
}
