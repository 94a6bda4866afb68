// Package aesni is the backend for AES-NI and PCLMULQDQ with AVX. Its assembly
// is written by internal/gen.
package aesni

import (
	"libeesp/internal/asm/vector"
)

// A vector holds one block: short packets are no faster side by side. With expanded keys,
// Long takes packets of all lengths.
var kernels = vector.Kernels{
	Addresses: addresses,
	Derive:    derive,
	Expand:    [2]func(area, keys *byte, n int){expand128, expand256},
	Powers:    [2]func(area *byte, n int){powers128, powers256},
	Raw:       [2][2]func(keys, jobs *byte, n int, scratch *byte){{openRaw128, sealRaw128}, {openRaw256, sealRaw256}},
	Expanded:  [2][2]func(area, jobs *byte, n int, scratch *byte){{shared(openLong128), shared(sealLong128)}, {shared(openLong256), shared(sealLong256)}},
	Long:      [2][2]func(area, jobs *byte, n int, shared int, scratch *byte){{openLong128, sealLong128}, {openLong256, sealLong256}},
	One:       [2][2]func(keys, jobs *byte, n int, scratch, master, sub *byte){{openOne128, sealOne128}, {openOne256, sealOne256}},
	OneAAD:    32,
	Tuning:    vector.Tuning{RawLimit: 1024, OneLimit: 1025, ExpandedLimit: 0, Alone: [2]uint32{1024, 0}},
}

func shared(long func(area, jobs *byte, n int, shared int, scratch *byte)) func(area, jobs *byte, n int, scratch *byte) {
	return func(area, jobs *byte, n int, scratch *byte) { long(area, jobs, n, 1, scratch) }
}

// Kernels returns the kernels, of which vaes256 uses One.
func Kernels() *vector.Kernels { return &kernels }

// Backend is the backend of this package.
var Backend = kernels.Backend("aesni")

// Supported reports whether CPU and operating system have the instructions it needs.
func Supported() bool {
	x := &vector.Has
	return x.AVX && x.AES && x.PCLMULQDQ && x.SSSE3 && x.SSE41
}
