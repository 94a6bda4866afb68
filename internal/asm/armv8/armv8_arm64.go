// Package armv8 is the backend for arm64's cryptographic extension: AES and
// PMULL, and SHA-3's EOR3 where the CPU has it. Its assembly is written by
// internal/gen/arm64.
package armv8

import (
	"unsafe"

	"golang.org/x/sys/cpu"

	"libeesp/internal/kernel"
)

// slotBytes is the room of an expanded key: 15 round keys, H^8 to H, and the
// powers' folds.
const slotBytes = 448

// atOnce is how many keys of mode Once are expanded at a time: they stay in
// the first-level cache between that and their use.
const atOnce = 8

// kernels are the assembly functions of a variant, by length of key and
// direction (open, seal).
type kernels struct {
	expand [2]func(area, keys *byte, n int)
	powers [3]func(area *byte, n int) // up to H^2, H^4, H^8
	long   [2][2]func(area, jobs *byte, n, held, powers int)
}

var (
	plain = kernels{
		expand: [2]func(area, keys *byte, n int){expand128, expand256},
		powers: [3]func(area *byte, n int){powers2, powers4, powers8},
		long:   [2][2]func(area, jobs *byte, n, held, powers int){{openLong128, sealLong128}, {openLong256, sealLong256}},
	}
	eor3 = kernels{
		expand: [2]func(area, keys *byte, n int){expand128EOR3, expand256EOR3},
		powers: [3]func(area *byte, n int){powers2EOR3, powers4EOR3, powers8EOR3},
		long:   [2][2]func(area, jobs *byte, n, held, powers int){{openLong128EOR3, sealLong128EOR3}, {openLong256EOR3, sealLong256EOR3}},
	}
)

// Backend is this package, in the variant that the CPU is best at.
var Backend = choose(cpu.ARM64.HasSHA3).backend()

func choose(hasEOR3 bool) *kernels {
	if hasEOR3 {
		return &eor3
	}
	return &plain
}

// Supported reports whether the CPU has what either variant needs.
func Supported() bool { return cpu.ARM64.HasAES && cpu.ARM64.HasPMULL }

func (k *kernels) backend() kernel.Backend {
	return kernel.Backend{
		Name:     "armv8",
		KeyBytes: slotBytes,
		Derive: func(out, msgs unsafe.Pointer, n, blocks int, m *kernel.Master, sub *[16]byte, scratch unsafe.Pointer) {
			derive((*byte)(out), (*byte)(msgs), n, blocks, &m.RK[0][0], &sub[0])
		},
		Expand: func(area, keys unsafe.Pointer, n, keyLen int, scratch unsafe.Pointer) {
			k.expand[keyLen>>5]((*byte)(area), (*byte)(keys), n)
			k.powers[2]((*byte)(area), n)
		},
		Seal: func(area unsafe.Pointer, jobs *kernel.Job, n, keyLen int, mode kernel.Mode, scratch unsafe.Pointer) {
			k.crypt(area, jobs, n, keyLen, mode, scratch, 1)
		},
		Open: func(area unsafe.Pointer, jobs *kernel.Job, n, keyLen int, mode kernel.Mode, scratch unsafe.Pointer) {
			k.crypt(area, jobs, n, keyLen, mode, scratch, 0)
		},
	}
}

func (k *kernels) crypt(area unsafe.Pointer, first *kernel.Job, n, keyLen int, mode kernel.Mode, scratch unsafe.Pointer, direction int) {
	jobs, size := unsafe.Slice(first, n), keyLen>>5
	if mode == kernel.Many {
		k.long[size][direction]((*byte)(area), (*byte)(unsafe.Pointer(first)), n, 1, 8)
		return
	}
	rows := (*byte)(scratch)
	for at := 0; at < n; at += atOnce {
		some := min(atOnce, n-at)
		k.expand[size](rows, (*byte)(unsafe.Add(area, at*keyLen)), some)
		powers := 2
		if jobs[at+some-1].Len < 96 {
			powers = 1
		}
		k.powers[powers](rows, some)
		k.long[size][direction](rows, (*byte)(unsafe.Pointer(&jobs[at])), some, 0, 2<<powers)
	}
	clear(unsafe.Slice(rows, (min(n, atOnce)+3)/4*4*slotBytes))
}
