package hkdf

import (
	"bytes"
	stdhkdf "crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"testing"
	"unsafe"
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

func TestRFC5869(t *testing.T) {
	for name, v := range map[string]struct{ ikm, salt, info, okm string }{
		"A.1": {"0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "000102030405060708090a0b0c", "f0f1f2f3f4f5f6f7f8f9",
			"3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"},
		"A.3": {"0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "", "",
			"8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"},
	} {
		want := unhex(v.okm)
		got := make([]byte, len(want))
		if err := Key(got, unhex(v.ikm), unhex(v.salt), unhex(v.info)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %x, %v", name, got, err)
		}
	}
}

func TestLikeTheStandardLibrary(t *testing.T) {
	b := bytes.Repeat([]byte{1, 2, 3, 5, 7, 11, 13}, 30)
	for n := range 130 {
		ikm, salt, info := b[:n%97], b[n%5:][:n%65], b[:n]
		for _, size := range []int{0, 1, 31, 32, 33, 64, 65, 255 * 32} {
			want, err := stdhkdf.Key(sha256.New, ikm, salt, string(info), size)
			if err != nil {
				t.Fatal(err)
			}
			got := make([]byte, size)
			if err := Key(got, ikm, salt, info); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%d octets: %x, want %x", size, got, want)
			}
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("no panic for an output that is too long")
		}
	}()
	Key(make([]byte, 255*32+1), b, nil, nil)
}

func newScratch(t testing.TB) *Scratch {
	t.Helper()
	s, err := NewScratch()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Free)
	return s
}

// wiped fails a test unless the locked memory, in which the hash object is, is zero.
func (s *Scratch) wiped(t *testing.T) {
	t.Helper()
	if locked := unsafe.Slice((*byte)(unsafe.Pointer(s.m)), unsafe.Sizeof(*s.m)); len(bytes.Trim(locked, "\x00")) != 0 {
		t.Fatalf("locked memory: %x", locked)
	}
}

func TestWiped(t *testing.T) {
	ikm, out := bytes.Repeat([]byte("secret!!"), 12), make([]byte, 32)
	if err := Key(out, ikm, nil, []byte("info")); err != nil {
		t.Fatal(err)
	}
	shared.wiped(t)
	func() {
		defer func() { recover() }()
		Key(out, ikm, make([]byte, 65), nil)
		t.Error("no panic for a salt that is too long")
	}()
	shared.wiped(t)
}
