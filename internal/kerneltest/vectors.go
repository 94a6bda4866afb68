package kerneltest

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"libeesp/internal/kernel"
	"libeesp/internal/testrun"
)

// cavpDir finds the NIST vectors of Debian's package python3-cryptography-vectors.
// EESP_VECTORS_DIR names another directory.
func cavpDir(t *testing.T) string {
	if d := os.Getenv("EESP_VECTORS_DIR"); d != "" {
		return d
	}
	for _, glob := range []string{
		"/usr/lib/python3*/dist-packages",
		"/usr/lib/python3*/site-packages",
		"/usr/local/lib/python3*/dist-packages",
		"/usr/local/lib/python3*/site-packages",
	} {
		found, _ := filepath.Glob(filepath.Join(glob, "cryptography_vectors"))
		if len(found) > 0 {
			return found[0]
		}
	}
	const missing = "no NIST vectors: install python3-cryptography-vectors, or set EESP_VECTORS_DIR"
	if Required("vectors") {
		t.Fatal(missing)
	}
	testrun.Skip(t, missing)
	return ""
}

// A record of a CAVP file: its fields, and the ones in brackets above.
type record struct {
	section map[string]string
	fields  map[string][]string
}

func (r *record) hex(t *testing.T, name string) []byte {
	t.Helper()
	if len(r.fields[name]) != 1 {
		t.Fatalf("%d fields %s in %v", len(r.fields[name]), name, r.fields)
	}
	return unhex(t, r.fields[name][0])
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func cavp(t *testing.T, name string) []record {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(cavpDir(t), name))
	if err != nil {
		t.Fatal(err)
	}
	var all []record
	section := map[string]string{}
	in := bufio.NewScanner(bytes.NewReader(text))
	for in.Scan() {
		line := strings.TrimSpace(in.Text())
		key, value, _ := strings.Cut(strings.Trim(line, "[]"), "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '[':
			section[key] = value
		case strings.EqualFold(key, "count"):
			s := map[string]string{}
			for k, v := range section {
				s[k] = v
			}
			all = append(all, record{s, map[string][]string{}})
		case len(all) > 0:
			f := all[len(all)-1].fields
			f[key] = append(f[key], value)
		}
	}
	return all
}

// Wycheproof reads a file of Wycheproof's into v. The files are beside the repository. If
// there are none, the test is skipped.
func Wycheproof(t *testing.T, name string, v any) {
	t.Helper()
	dir, err := os.Getwd()
	for err == nil {
		if _, e := os.Stat(filepath.Join(dir, "go.mod")); e == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the test")
		}
		dir = filepath.Dir(dir)
	}
	text, err := os.ReadFile(filepath.Join(dir, "..", "shared", "vectors", "wycheproof_"+name+"_test.json"))
	if os.IsNotExist(err) {
		testrun.Skip(t, "no Wycheproof vectors (../shared/vectors beside the repository)")
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, v); err != nil {
		t.Fatal(err)
	}
}

// AtLeast fails a test that ran fewer cases than its vectors have.
func AtLeast(t *testing.T, n, want int) {
	t.Helper()
	if n < want {
		t.Fatalf("%d cases, expected at least %d", n, want)
	}
	t.Logf("%d cases", n)
}

func (s *suite) vectors(t *testing.T) {
	t.Run("KnownAnswers", s.knownAnswers)
	for _, x := range []string{"gcmEncryptExtIV128", "gcmEncryptExtIV256", "gcmDecrypt128", "gcmDecrypt256"} {
		t.Run("CAVP/"+x, func(t *testing.T) { s.cavpGCM(t, x) })
	}
	t.Run("CAVP/CMAC", s.cavpCMAC)
	t.Run("CAVP/KBKDF", s.cavpKBKDF)
	t.Run("Wycheproof/GCM", s.wycheproofGCM)
	t.Run("Wycheproof/CMAC", s.wycheproofCMAC)
}

// A gcmCase is a vector. If the tag is wrong, text is not known.
type gcmCase struct {
	key, nonce, aad, text, sealed []byte
	reject                        bool
}

// gcm runs vectors of one key length in bursts of several sizes.
func (s *suite) gcm(t *testing.T, cases []gcmCase) {
	src := newSource(t, maxText)
	slices.SortStableFunc(cases, func(x, y gcmCase) int { return len(x.sealed) - len(y.sealed) })
	for _, mode := range modes {
		for rest := cases; len(rest) > 0; {
			n := min(len(rest), 1+src.IntN(kernel.Chunk))
			b := &burst{keyLen: len(rest[0].key), mode: mode, edge: src.place()}
			for i, c := range rest[:n] {
				p := packet{key: i, nonce: [12]byte(c.nonce), aad: c.aad, text: c.text, sealed: c.sealed, given: true, reject: c.reject, layout: src.layout()}
				if c.reject {
					p.text = make([]byte, len(c.sealed)-kernel.TagSize)
				}
				b.packets = append(b.packets, p)
				b.keys = append(b.keys, [32]byte(append(slices.Clone(c.key), make([]byte, 32)...)))
			}
			rest = rest[n:]
			if err := s.rig.expand(b, false); err != nil {
				t.Fatal(err)
			}
			if err := s.rig.open(b); err != nil {
				t.Fatal(err)
			}
			good := *b
			good.packets, good.keys = nil, nil
			for i, p := range b.packets {
				if !p.reject {
					p.key = len(good.keys)
					good.packets = append(good.packets, p)
					good.keys = append(good.keys, b.keys[i])
				}
			}
			if len(good.packets) == 0 {
				continue
			}
			if err := s.rig.expand(&good, false); err != nil {
				t.Fatal(err)
			}
			if err := s.rig.seal(&good); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func (s *suite) cavpGCM(t *testing.T, name string) {
	var cases []gcmCase
	for _, r := range cavp(t, filepath.Join("ciphers", "AES", "GCM", name+".rsp")) {
		if r.section["IVlen"] != "96" || r.section["Taglen"] != "128" {
			continue
		}
		c := gcmCase{key: r.hex(t, "Key"), nonce: r.hex(t, "IV"), aad: r.hex(t, "AAD")}
		c.sealed = append(r.hex(t, "CT"), r.hex(t, "Tag")...)
		_, c.reject = r.fields["FAIL"]
		if !c.reject {
			c.text = r.hex(t, "PT")
		}
		cases = append(cases, c)
	}
	AtLeast(t, len(cases), 375)
	s.gcm(t, cases)
}

func (s *suite) wycheproofGCM(t *testing.T) {
	var file struct {
		TestGroups []struct {
			KeySize, IVSize, TagSize int
			Tests                    []struct{ Key, IV, AAD, Msg, CT, Tag, Result string }
		}
	}
	Wycheproof(t, "aes_gcm", &file)
	cases, n := map[int][]gcmCase{}, 0
	for _, g := range file.TestGroups {
		if g.KeySize == 192 || g.IVSize != 96 || g.TagSize != 128 {
			continue
		}
		for _, x := range g.Tests {
			cases[g.KeySize] = append(cases[g.KeySize], gcmCase{unhex(t, x.Key), unhex(t, x.IV), unhex(t, x.AAD), unhex(t, x.Msg),
				append(unhex(t, x.CT), unhex(t, x.Tag)...), x.Result != "valid"})
			n++
		}
	}
	AtLeast(t, n, 133)
	s.gcm(t, cases[128])
	s.gcm(t, cases[256])
}

// cmac compares a tag with the backend's CMAC of a message, alone and in several lanes.
func (s *suite) cmac(t *testing.T, key, msg, tag []byte) {
	t.Helper()
	padded, k2 := pad(msg)
	for _, n := range []int{1, 5} {
		d := &derivation{key: [32]byte(key), n: n, blocks: len(padded) / 16, padded: k2, msgs: bytes.Repeat(padded, n),
			in: atEnd, out: atEnd, want: bytes.Repeat(tag, n)}
		if err := s.rig.derive(d); err != nil {
			t.Fatal(err)
		}
	}
}

func (s *suite) cavpCMAC(t *testing.T) {
	n := 0
	for _, r := range cavp(t, filepath.Join("CMAC", "nist-800-38b-aes256.txt")) {
		s.cmac(t, r.hex(t, "KEY"), r.hex(t, "MESSAGE"), r.hex(t, "OUTPUT"))
		n++
	}
	AtLeast(t, n, 4)
}

// cavpKBKDF is SP 800-108 in counter mode. The vectors give the PRF's input
// for each iteration.
func (s *suite) cavpKBKDF(t *testing.T) {
	n := 0
	for _, r := range cavp(t, filepath.Join("KDF", "nist-800-108-KBKDF-CTR.txt")) {
		if r.section["PRF"] != "CMAC_AES256" {
			continue
		}
		ko, in := r.hex(t, "KO"), r.fields["instring"]
		bits, err := strconv.Atoi(r.fields["L"][0])
		if err != nil || len(ko)*8 != bits || len(in) != (len(ko)+15)/16 {
			t.Fatalf("L = %v with %d octets of output and %d iterations", r.fields["L"], len(ko), len(in))
		}
		for i, x := range in {
			want := ko[16*i : min(16*i+16, len(ko))]
			if len(want) < 16 { // the last is truncated
				c, err := newCMAC(r.hex(t, "KI"))
				if err != nil {
					t.Fatal(err)
				}
				p, k2 := pad(unhex(t, x))
				sub := &c.k1
				if k2 {
					sub = &c.k2
				}
				whole := c.mac(p, sub)
				if !bytes.Equal(whole[:len(want)], want) {
					t.Fatalf("crypto/aes gives %x, the vector %x", whole, want)
				}
				want = whole[:]
			}
			s.cmac(t, r.hex(t, "KI"), unhex(t, x), want)
		}
		n++
	}
	AtLeast(t, n, 480)
}

func (s *suite) wycheproofCMAC(t *testing.T) {
	var file struct {
		TestGroups []struct {
			KeySize, TagSize int
			Tests            []struct{ Key, Msg, Tag, Result string }
		}
	}
	Wycheproof(t, "aes_cmac", &file)
	n := 0
	for _, g := range file.TestGroups {
		if g.KeySize != 256 || g.TagSize != 128 {
			continue
		}
		for _, x := range g.Tests {
			n++
			key, msg, tag := unhex(t, x.Key), unhex(t, x.Msg), unhex(t, x.Tag)
			if x.Result == "valid" {
				s.cmac(t, key, msg, tag)
				continue
			}
			padded, k2 := pad(msg)
			d := &derivation{key: [32]byte(key), n: 1, blocks: len(padded) / 16, padded: k2, msgs: padded, in: atEnd, out: atEnd}
			if err := s.rig.derive(d); err != nil {
				t.Fatal(err)
			}
			if bytes.Equal(s.rig.out.at(16, atEnd).bytes(), tag) {
				t.Fatalf("CMAC of %x is %x, which is a modified tag", msg, tag)
			}
		}
	}
	AtLeast(t, n, 102)
}

// knownAnswers needs no files: SP 800-38B, D.3; PSP data keys for version 0 and version 1,
// which has two blocks; test cases 1, 2, 13 and 14 of the GCM specification.
func (s *suite) knownAnswers(t *testing.T) {
	const d3 = "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4"
	const text = "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51" +
		"30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
	const psp = "563952565d3a78ae773ec1b779f2f2d99f4a7f53a6fbb9b07d5b71f39364d739"
	for _, c := range []struct{ key, msg, tag string }{
		{d3, "", "028962f61b7bf89efc6b551f4667d983"},
		{d3, text[:2*16], "28a7023f452e8f82bd4bf28d8c37c35c"},
		{d3, text[:2*40], "aaf3d8f1de5640c232f5b169b9c911e6"},
		{d3, text, "e1992190549f6ed5696a2c056c315410"},
		{psp, "0000000150763000" + "9a34567800000080", "3946da2554eae46ad1ef77a64372edc4"},
		{psp, "0000000150763100" + "9a34567800000100", "fa00f609df6020289a1c93d6027081a6"},
		{psp, "0000000250763100" + "9a34567800000100", "37ad45b24a5576b36e6f49dd43114d80"},
	} {
		s.cmac(t, unhex(t, c.key), unhex(t, c.msg), unhex(t, c.tag))
	}
	zero := make([]byte, 32)
	s.gcm(t, []gcmCase{{key: zero[:16], nonce: zero[:12], sealed: unhex(t, "58e2fccefa7e3061367f1d57a4e7455a")},
		{key: zero[:16], nonce: zero[:12], text: zero[:16], sealed: unhex(t, "0388dace60b6a392f328c2b971b2fe78ab6e47d42cec13bdf53a67b21257bddf")}})
	s.gcm(t, []gcmCase{{key: zero, nonce: zero[:12], sealed: unhex(t, "530f8afbc74536b9a963b4f1c4cb738b")},
		{key: zero, nonce: zero[:12], text: zero[:16], sealed: unhex(t, "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919")}})
}
