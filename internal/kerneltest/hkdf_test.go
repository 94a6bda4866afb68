package kerneltest

import (
	"bytes"
	stdhkdf "crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"hash"
	"testing"

	"libeesp/internal/hkdf"
)

// HKDF is not a kernel; its test is here because its vectors are.
func TestWycheproofHKDF(t *testing.T) {
	for _, x := range []struct {
		name string
		hash hkdf.Hash
		std  func() hash.Hash
	}{
		{"sha256", hkdf.SHA256, sha256.New},
		{"sha384", hkdf.SHA384, sha512.New384},
		{"sha512", hkdf.SHA512, sha512.New},
	} {
		t.Run(x.name, func(t *testing.T) { wycheproofHKDF(t, x.name, x.hash, x.std) })
	}
}

func wycheproofHKDF(t *testing.T, name string, h hkdf.Hash, std func() hash.Hash) {
	var file struct {
		TestGroups []struct {
			Tests []struct {
				IKM, Salt, Info, OKM, Result string
				Size                         int
			}
		}
	}
	Wycheproof(t, "hkdf_"+name, &file)
	s, err := hkdf.NewScratch()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Free()
	n := 0
	for _, g := range file.TestGroups {
		for _, x := range g.Tests {
			ikm, salt, info := unhex(t, x.IKM), unhex(t, x.Salt), unhex(t, x.Info)
			if x.Size > 255*h.Size() { // the package does not allow it
				continue
			}
			check := func(what string, out []byte) {
				t.Helper()
				okm := unhex(t, x.OKM)
				if good := bytes.Equal(out, okm[:min(len(out), len(okm))]); good != (x.Result == "valid") {
					t.Errorf("%s of %s, salt %s, info %s is %x, the vector has %s (%s)", what, x.IKM, x.Salt, x.Info, out, x.OKM, x.Result)
				}
			}
			if h == hkdf.SHA256 && len(salt) <= sha256.BlockSize {
				out := make([]byte, x.Size)
				if err := hkdf.Key(out, ikm, salt, info); err != nil {
					t.Fatal(err)
				}
				check("HKDF", out)
			}
			prk, err := stdhkdf.Extract(std, ikm, salt)
			if err != nil {
				t.Fatal(err)
			}
			e, err := hkdf.NewExpander(h, prk)
			if err != nil {
				t.Fatal(err)
			}
			out := make([]byte, min(x.Size, hkdf.MaxExpand))
			e.Expand(out, info, s)
			e.Free()
			check("HKDF-Expand", out)
			n++
		}
	}
	AtLeast(t, n, 80)
}
