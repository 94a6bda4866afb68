package hkdf

import (
	"bytes"
	stdhkdf "crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"math/rand/v2"
	"sync"
	"testing"

	"libeesp/internal/secmem"
	"libeesp/internal/status"
)

var standard = map[Hash]func() hash.Hash{SHA256: sha256.New, SHA384: sha512.New384, SHA512: sha512.New}

func newExpander(t testing.TB, h Hash, prk []byte) *Expander {
	t.Helper()
	e, err := NewExpander(h, prk)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Free)
	return e
}

func TestRFC5869Expand(t *testing.T) {
	s := newScratch(t)
	for name, v := range map[string]struct{ prk, info, okm string }{
		"A.1": {"077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5", "f0f1f2f3f4f5f6f7f8f9",
			"3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"},
		"A.2": {"06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244",
			"b0b1b2b3b4b5b6b7b8b9babbbcbdbebfc0c1c2c3c4c5c6c7c8c9cacbcccdcecf" +
				"d0d1d2d3d4d5d6d7d8d9dadbdcdddedfe0e1e2e3e4e5e6e7e8e9eaebecedeeeff0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
			"b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c" +
				"59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87"},
		"A.3": {"19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04", "",
			"8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"},
	} {
		want := unhex(v.okm)
		got := make([]byte, min(len(want), MaxExpand))
		newExpander(t, SHA256, unhex(v.prk)).Expand(got, unhex(v.info), s)
		if !bytes.Equal(got, want[:len(got)]) {
			t.Errorf("%s: %x", name, got)
		}
	}
}

func TestExpandLikeTheStandardLibrary(t *testing.T) {
	r := rand.NewChaCha8([32]byte([]byte("expand like the standard library")))
	s := newScratch(t)
	for h, std := range standard {
		for n := range 200 {
			b := make([]byte, h.Size()+n)
			r.Read(b)
			prk, info := b[:h.Size()], b[h.Size():]
			e := newExpander(t, h, prk)
			want, err := stdhkdf.Expand(std, prk, string(info), MaxExpand)
			if err != nil {
				t.Fatal(err)
			}
			for _, size := range []int{0, 1, 20, 31, 32, 33, 36, 48, 49, MaxExpand} {
				got := make([]byte, size)
				if e.Expand(got, info, s); !bytes.Equal(got, want[:size]) {
					t.Fatalf("hash %d, %d octets: %x, want %x", h, size, got, want[:size])
				}
			}
		}
	}
}

func TestExpanderArguments(t *testing.T) {
	key := make([]byte, 65)
	for _, x := range []struct {
		h Hash
		n int
	}{{0, 0}, {0, 32}, {4, 64}, {255, 32}, {SHA256, 31}, {SHA256, 33}, {SHA256, 0}, {SHA384, 32}, {SHA384, 64}, {SHA512, 48}, {SHA512, 65}} {
		if _, err := NewExpander(x.h, key[:x.n]); !errors.Is(err, status.ErrArgument) {
			t.Errorf("hash %d, key of %d octets: %v", x.h, x.n, err)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("no panic for an output that is too long")
		}
	}()
	newExpander(t, SHA512, key[:64]).Expand(make([]byte, MaxExpand+1), nil, newScratch(t))
}

func TestSerials(t *testing.T) {
	seen := map[uint64]bool{0: true}
	for range 100 {
		e, err := NewExpander(SHA384, make([]byte, 48))
		if err != nil {
			t.Fatal(err)
		}
		if seen[e.Serial()] {
			t.Fatalf("serial %d again", e.Serial())
		}
		seen[e.Serial()] = true
		e.Free()
	}
}

// A scratch is zero after a call, and the key is wiped when it is freed.
func TestExpanderWiped(t *testing.T) {
	_, before := secmem.Stats()
	keep, err := secmem.New[pads]() // so that the arena is not unmapped
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewScratch()
	if err != nil {
		t.Fatal(err)
	}
	for h := range standard {
		e, err := NewExpander(h, bytes.Repeat([]byte{0xA5}, h.Size()))
		if err != nil {
			t.Fatal(err)
		}
		e.Expand(make([]byte, 36), []byte("information"), s)
		s.wiped(t)
		p := e.pads
		if *p == (pads{}) {
			t.Fatal("no key")
		}
		if e.Free(); *p != (pads{}) { // p dangles, but its page is still mapped
			t.Fatalf("%x", *p)
		}
	}
	s.Free()
	secmem.Delete(keep)
	if _, after := secmem.Stats(); after != before {
		t.Fatalf("%d allocations live, %d before", after, before)
	}
}

func TestExpandAllocatesNothing(t *testing.T) {
	s := newScratch(t)
	for h := range standard {
		e := newExpander(t, h, make([]byte, h.Size()))
		if n := testing.AllocsPerRun(100, func() {
			var out [36]byte
			e.Expand(out[:], []byte{out[0], 1}, s)
		}); n != 0 {
			t.Errorf("hash %d: %v allocations", h, n)
		}
	}
}

func TestExpandAtTheSameTime(t *testing.T) {
	e := newExpander(t, SHA384, make([]byte, 48))
	var wg sync.WaitGroup
	for range 4 {
		s := newScratch(t)
		wg.Go(func() {
			var got [36]byte
			for i := range byte(100) {
				e.Expand(got[:], []byte{i}, s)
				if want, _ := stdhkdf.Expand(sha512.New384, make([]byte, 48), string([]byte{i}), 36); !bytes.Equal(got[:], want) {
					t.Errorf("%x, want %x", got, want)
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkExpand(b *testing.B) {
	s := newScratch(b)
	for h := range SHA512 {
		h++
		e := newExpander(b, h, make([]byte, h.Size()))
		for _, n := range []int{20, 36} {
			b.Run(fmt.Sprintf("SHA%d/%d", 8*h.Size(), n), func(b *testing.B) {
				room, err := secmem.Alloc(n)
				if err != nil {
					b.Fatal(err)
				}
				defer secmem.Free(room)
				b.ReportAllocs()
				for i := range b.N {
					e.Expand(room, []byte{byte(i >> 8), byte(i)}, s)
				}
			})
		}
	}
}
