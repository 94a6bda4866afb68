package generic

import (
	"encoding/binary"
	"encoding/hex"
	"testing"
	"unsafe"

	"libeesp/internal/kernel"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// master expands a 256-bit key.
func master(t *testing.T, key string) *kernel.Master {
	m, scratch := new(kernel.Master), new(work)
	ExpandMaster(m, (*[32]byte)(unhex(t, key)), unsafe.Pointer(scratch))
	return m
}

// FIPS-197, appendices A.3 and C.3.
func TestFIPS197With256Bits(t *testing.T) {
	m := master(t, "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
	for r, want := range map[int]string{
		0:  "603deb1015ca71be2b73aef0857d7781",
		2:  "9ba354118e6925afa51a8b5f2067fcde",
		14: "fe4890d1e6188d0b046df344706c631e",
	} {
		if m.RK[r] != [16]byte(unhex(t, want)) {
			t.Errorf("round key %d is %x, want %s", r, m.RK[r], want)
		}
	}
	m = master(t, "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")
	b := [16]byte(unhex(t, "00112233445566778899aabbccddeeff"))
	EncryptBlock(&b, &b, m, unsafe.Pointer(new(work)))
	if want := "8ea2b7ca516745bfeafc49904b496089"; b != [16]byte(unhex(t, want)) {
		t.Errorf("AES-256: %x, want %s", b, want)
	}
}

// FIPS-197, appendices B and C.1: the cipher of the packet path, lane by lane.
func TestFIPS197With128Bits(t *testing.T) {
	for _, c := range []struct{ key, in, out string }{
		{"2b7e151628aed2a6abf7158809cf4f3c", "3243f6a8885a308d313198a2e0370734", "3925841d02dc09fbdc118597196a0b32"},
		{"000102030405060708090a0b0c0d0e0f", "00112233445566778899aabbccddeeff", "69c4e0d86a7b0430d8cdb78070b4c55a"},
	} {
		for lane := range 4 {
			var area [4]key
			var keys [4 * 16]byte
			var w work
			copy(keys[16*lane:], unhex(t, c.key))
			expand(unsafe.Pointer(&area), unsafe.Pointer(&keys), 4, 16, unsafe.Pointer(&w))
			for r := range 11 {
				for i := range w.k[r] {
					w.k[r][i] = uint64(area[lane].rk[r][i]) << (16 * lane)
				}
			}
			clear(w.block[:])
			copy(w.block[16*lane:], unhex(t, c.in))
			w.q.pack(&w.block)
			w.q.encrypt(w.k[:11])
			w.q.unpack(&w.block)
			if got := [16]byte(w.block[16*lane:]); got != [16]byte(unhex(t, c.out)) {
				t.Errorf("AES-128, lane %d: %x, want %s", lane, got, c.out)
			}
		}
	}
}

// SP 800-38B, D.3: E(0) under its key, and the subkeys.
func TestSubkeys(t *testing.T) {
	m := master(t, "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
	var l [16]byte
	EncryptBlock(&l, &l, m, unsafe.Pointer(new(work)))
	for _, c := range []struct {
		name string
		got  [16]byte
		want string
	}{
		{"E(0)", l, "e568f68194cf76d6174d4cc04310a854"},
		{"K1", m.K1, "cad1ed03299eedac2e9a99808621502f"},
		{"K2", m.K2, "95a3da06533ddb585d3533010c42a0d9"},
	} {
		if c.got != [16]byte(unhex(t, c.want)) {
			t.Errorf("%s is %x, want %s", c.name, c.got, c.want)
		}
	}
}

// RFC 4493's own example of both cases of doubling.
func TestDouble(t *testing.T) {
	x := [16]byte(unhex(t, "7df76b0c1ab899b33e42f047b91b546f"))
	for _, want := range []string{"fbeed618357133667c85e08f7236a8de", "f7ddac306ae266ccf90bc11ee46d513b"} {
		double(&x, &x)
		if x != [16]byte(unhex(t, want)) {
			t.Errorf("doubled: %x, want %s", x, want)
		}
	}
}

// The GCM specification's test case 2: H, and a product.
func TestGHASHKnown(t *testing.T) {
	var area [4]key
	var keys [16]byte
	expand(unsafe.Pointer(&area), unsafe.Pointer(&keys), 1, 16, unsafe.Pointer(new(work)))
	if want := read(unhex(t, "66e94bd4ef8a2c3b884cfa59ca342b2e")); area[0].h != want {
		t.Fatalf("H is %x, want %x", area[0].h, want)
	}
	var e element
	e.update(&area[0].h, unhex(t, "0388dace60b6a392f328c2b971b2fe78"))
	if want := read(unhex(t, "5e2ec746917062882c85b0685353deb7")); e != want {
		t.Errorf("C times H is %x, want %x", e, want)
	}
	var length [16]byte
	binary.BigEndian.PutUint64(length[8:], 128)
	e.update(&area[0].h, length[:])
	if want := read(unhex(t, "f38cbb1ad69223dcc3457ae5b6b0f885")); e != want {
		t.Errorf("GHASH is %x, want %x", e, want)
	}
}
