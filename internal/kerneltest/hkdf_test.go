package kerneltest

import (
	"bytes"
	"testing"

	"libeesp/internal/hkdf"
)

// HKDF is no kernel, but its vectors are where those of the kernels are.
func TestWycheproofHKDF(t *testing.T) {
	var file struct {
		TestGroups []struct {
			Tests []struct {
				IKM, Salt, Info, OKM, Result string
				Size                         int
			}
		}
	}
	Wycheproof(t, "hkdf_sha256", &file)
	const longest, block = 255 * 32, 64
	n := 0
	for _, g := range file.TestGroups {
		for _, x := range g.Tests {
			salt := unhex(t, x.Salt)
			if x.Size > longest || len(salt) > block { // outside of the package's contract
				continue
			}
			out := make([]byte, x.Size)
			if err := hkdf.Key(out, unhex(t, x.IKM), salt, unhex(t, x.Info)); err != nil {
				t.Fatal(err)
			}
			if good := bytes.Equal(out, unhex(t, x.OKM)); good != (x.Result == "valid") {
				t.Errorf("HKDF of %s, salt %s, info %s is %x, the vector has %s (%s)", x.IKM, x.Salt, x.Info, out, x.OKM, x.Result)
			}
			n++
		}
	}
	AtLeast(t, n, 80)
}
