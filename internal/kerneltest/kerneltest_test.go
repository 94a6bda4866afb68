package kerneltest

import (
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"libeesp/internal/generic"
	"libeesp/internal/kernel"
)

// probe runs a small part of each test of the suite.
func probe(t *testing.T, be *kernel.Backend) error {
	r := rigFor(t, be, kernel.Chunk, maxText)
	src := newSource(t, maxText)
	for n := 1; n < 20; n++ {
		for blocks := 1; blocks <= 3; blocks++ {
			d := &derivation{key: src.key(), n: n, blocks: blocks, padded: n%2 == 0, msgs: src.octets(n * blocks * 16), in: src.place(), out: src.place()}
			if err := r.derive(d); err != nil {
				return err
			}
		}
	}
	for range 40 {
		if err := r.roundTrip(src.random(kernel.Chunk)); err != nil {
			return err
		}
	}
	return nil
}

func at(p unsafe.Pointer, i int) *byte { return (*byte)(unsafe.Add(p, i)) }

// sink keeps reads from being optimized away.
var sink byte

type (
	deriveFunc = func(out, msgs unsafe.Pointer, n, blocks int, m *kernel.Master, sub *[16]byte, scratch unsafe.Pointer)
	expandFunc = func(area, keys unsafe.Pointer, n, keyLen int, scratch unsafe.Pointer)
)

// after is f, with a further step for each job.
func after(f cryptKernel, more func(j *kernel.Job, i, n int)) cryptKernel {
	return func(area unsafe.Pointer, jobs *kernel.Job, n, keyLen int, mode kernel.Mode, scratch unsafe.Pointer) {
		f(area, jobs, n, keyLen, mode, scratch)
		for i := range n {
			more(&unsafe.Slice(jobs, n)[i], i, n)
		}
	}
}

func sealAnd(more func(j *kernel.Job, i, n int)) func(*kernel.Backend) {
	return func(b *kernel.Backend) { b.Seal = after(b.Seal, more) }
}

func openAnd(more func(j *kernel.Job, i, n int)) func(*kernel.Backend) {
	return func(b *kernel.Backend) { b.Open = after(b.Open, more) }
}

func expandAnd(more expandFunc) func(*kernel.Backend) {
	return func(b *kernel.Backend) {
		f := b.Expand
		b.Expand = func(area, keys unsafe.Pointer, n, keyLen int, scratch unsafe.Pointer) {
			f(area, keys, n, keyLen, scratch)
			more(area, keys, n, keyLen, scratch)
		}
	}
}

func deriveAnd(more deriveFunc) func(*kernel.Backend) {
	return func(b *kernel.Backend) {
		f := b.Derive
		b.Derive = func(out, msgs unsafe.Pointer, n, blocks int, m *kernel.Master, sub *[16]byte, scratch unsafe.Pointer) {
			f(out, msgs, n, blocks, m, sub, scratch)
			more(out, msgs, n, blocks, m, sub, scratch)
		}
	}
}

// The suite finds each of these faults, and its message has the text on the left.
func TestSeesFaults(t *testing.T) {
	if err := probe(t, &generic.Backend); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, says string
		fault      func(*kernel.Backend)
	}{
		{"Seal writes after dst", "octet 0 after", sealAnd(func(j *kernel.Job, i, n int) { *at(j.Dst, int(j.Len)) ^= 1 })},
		{"Seal writes far after dst", "wrote octet 63 after", sealAnd(func(j *kernel.Job, i, n int) {
			if j.Len%16 == 1 {
				*at(j.Dst, int(j.Len)+63) ^= 1
			}
		})},
		{"Seal writes before dst", "1 octets before", sealAnd(func(j *kernel.Job, i, n int) { *at(j.Dst, -1) ^= 1 })},
		{"Seal reads after src", "after the room for src", sealAnd(func(j *kernel.Job, i, n int) {
			if j.Src != j.Dst {
				sink = *at(j.Src, int(j.Len))
			}
		})},
		{"Seal reads before AAD", "before the room for AAD", sealAnd(func(j *kernel.Job, i, n int) {
			if j.AADLen > 0 {
				sink = *at(j.AAD, -1)
			}
		})},
		{"Seal writes after the tag", "octet 0 after", sealAnd(func(j *kernel.Job, i, n int) { *at(j.Tag, 16) ^= 1 })},
		{"Seal reads after the jobs", "after the room for jobs", sealAnd(func(j *kernel.Job, i, n int) { sink = *at(unsafe.Pointer(j), 64*(n-i)) })},
		{"Seal changes src", "src was changed", sealAnd(func(j *kernel.Job, i, n int) {
			if j.Src != j.Dst && j.Len > 0 {
				*at(j.Src, int(j.Len)-1) ^= 1
			}
		})},
		{"Seal changes the AAD", "AAD was changed", sealAnd(func(j *kernel.Job, i, n int) {
			if j.AADLen > 100 {
				*at(j.AAD, 99) ^= 1
			}
		})},
		{"Seal changes a job", "the job record was changed", sealAnd(func(j *kernel.Job, i, n int) { j.Len++ })},
		{"Seal: last octet wrong", "ciphertext differs", sealAnd(func(j *kernel.Job, i, n int) {
			if i == 31 && j.Len > 0 {
				*at(j.Dst, int(j.Len)-1) ^= 0x80
			}
		})},
		{"Seal: tag wrong", "tag is", sealAnd(func(j *kernel.Job, i, n int) {
			if i == 5 && j.AADLen > 64 {
				*at(j.Tag, 15) ^= 1
			}
		})},
		{"Seal writes the area in mode Shared", "the area was written", func(b *kernel.Backend) {
			f := b.Seal
			b.Seal = func(area unsafe.Pointer, jobs *kernel.Job, n, keyLen int, mode kernel.Mode, scratch unsafe.Pointer) {
				f(area, jobs, n, keyLen, mode, scratch)
				*at(area, 0) ^= 1
			}
		}},
		{"Open: OK not exact", "OK is 2", openAnd(func(j *kernel.Job, i, n int) { j.OK *= 2 })},
		{"Open accepts all", "OK is 1, want 0", openAnd(func(j *kernel.Job, i, n int) { j.OK = 1 })},
		{"Open lets a neighbour fail", "OK is 0, want 1", openAnd(func(j *kernel.Job, i, n int) { j.OK &^= uint32(i / 31) })},
		{"Open changes the tag", "tag was changed", openAnd(func(j *kernel.Job, i, n int) { *at(j.Tag, 3) ^= 1 })},
		{"Open: plaintext wrong", "plaintext differs from octet 64", openAnd(func(j *kernel.Job, i, n int) {
			if j.Len > 64 {
				*at(j.Dst, 64) ^= 1
			}
		})},
		{"Expand writes after the area", "area", expandAnd(func(area, keys unsafe.Pointer, n, keyLen int, scratch unsafe.Pointer) {
			*at(area, (n+3)&^3*generic.Backend.KeyBytes) ^= 1
		})},
		{"Expand changes keys", "expand changed the keys", expandAnd(func(area, keys unsafe.Pointer, n, keyLen int, scratch unsafe.Pointer) {
			*at(keys, n*keyLen-1) ^= 1
		})},
		{"Expand leaves something in scratch", "was left behind", expandAnd(func(area, keys unsafe.Pointer, n, keyLen int, scratch unsafe.Pointer) {
			*at(scratch, kernel.ScratchBytes-1) ^= 1
		})},
		{"Expand writes after scratch", "after the room for scratch", expandAnd(func(area, keys unsafe.Pointer, n, keyLen int, scratch unsafe.Pointer) {
			*at(scratch, kernel.ScratchBytes) ^= 1
		})},
		{"Derive: one wrong", "result 4", deriveAnd(func(out, msgs unsafe.Pointer, n, blocks int, m *kernel.Master, sub *[16]byte, scratch unsafe.Pointer) {
			if n > 4 && blocks == 2 {
				*at(out, 16*4+3) ^= 1
			}
		})},
		{"Derive ignores K2", "result 0", func(b *kernel.Backend) {
			f := b.Derive
			b.Derive = func(out, msgs unsafe.Pointer, n, blocks int, m *kernel.Master, sub *[16]byte, scratch unsafe.Pointer) {
				f(out, msgs, n, blocks, m, &m.K1, scratch)
			}
		}},
		{"Derive writes after out", "after its end", deriveAnd(func(out, msgs unsafe.Pointer, n, blocks int, m *kernel.Master, sub *[16]byte, scratch unsafe.Pointer) {
			*at(out, 16*n) ^= 1
		})},
		{"Derive reads after msgs", "after the room for msgs", deriveAnd(func(out, msgs unsafe.Pointer, n, blocks int, m *kernel.Master, sub *[16]byte, scratch unsafe.Pointer) {
			sink = *at(msgs, 16*n*blocks)
		})},
		{"Derive changes the master", "master key was changed", deriveAnd(func(out, msgs unsafe.Pointer, n, blocks int, m *kernel.Master, sub *[16]byte, scratch unsafe.Pointer) {
			m.RK[14][15] ^= 1
		})},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := generic.Backend
			c.fault(&b)
			says := c.says
			if runtime.GOARCH == "s390x" && strings.Contains(says, "before") {
				says = "touched" // the message names the page of a fault, not the octet
			}
			if err := probe(t, &b); err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("the suite says %v, want something with %q", err, says)
			}
		})
	}
}

// The lengths of the tests include all lengths.
func TestTextLengths(t *testing.T) {
	have := map[int]bool{}
	for _, l := range new(suite).textLengths() {
		have[l] = true
	}
	for _, x := range [][2]int{{0, 2200}, {4056, 4136}, {8960, 9040}} {
		for l := x[0]; l <= x[1]; l++ {
			if !have[l] || l > maxText {
				t.Fatalf("length %d is missing", l)
			}
		}
	}
}

// The reference itself, against the example of RFC 4493 with a key of 128 bits.
func TestCMAC(t *testing.T) {
	key := unhex(t, "2b7e151628aed2a6abf7158809cf4f3c")
	c, err := newCMAC(key)
	if err != nil {
		t.Fatal(err)
	}
	if [16]byte(unhex(t, "fbeed618357133667c85e08f7236a8de")) != c.k1 || [16]byte(unhex(t, "f7ddac306ae266ccf90bc11ee46d513b")) != c.k2 {
		t.Errorf("subkeys %x and %x", c.k1, c.k2)
	}
	for msg, mac := range map[string]string{
		"6bc1bee22e409f96e93d7e117393172a":                                                 "070a16b46b4d4144f79bdd9dd04a287c",
		"6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411": "dfa66747de9ae63030ca32611497c827",
	} {
		if got, err := CMAC(key, unhex(t, msg)); err != nil || got != [16]byte(unhex(t, mac)) {
			t.Errorf("CMAC of %s is %x, %v", msg, got, err)
		}
	}
}
