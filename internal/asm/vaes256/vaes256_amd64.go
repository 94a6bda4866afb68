// Package vaes256 is the backend for AVX2 with VAES and VPCLMULQDQ. Its
// assembly is written by internal/gen.
package vaes256

import (
	"libeesp/internal/asm/aesni"
	"libeesp/internal/asm/vector"
)

var kernels = vector.Kernels{
	Addresses: addresses,
	Derive:    derive,
	Expand:    [2]func(area, keys *byte, n int){expand128, expand256},
	Powers:    [2]func(area *byte, n int){powers128, powers256},
	Raw:       [2][2]func(keys, jobs *byte, n int, scratch *byte){{openRaw128, sealRaw128}, {openRaw256, sealRaw256}},
	Expanded:  [2][2]func(area, jobs *byte, n int, scratch *byte){{openExpanded128, sealExpanded128}, {openExpanded256, sealExpanded256}},
	Long:      [2][2]func(area, jobs *byte, n int, shared int, scratch *byte){{openLong128, sealLong128}, {openLong256, sealLong256}},
	One:       aesni.Kernels().One,
	OneAAD:    aesni.Kernels().OneAAD,
	Ones:      aesni.Kernels().Addresses,
	Tuning:    vector.Tuned(Tunings),
}

// Kernels returns the kernels for make tune.
func Kernels() *vector.Kernels { return &kernels }

// Backend is the backend of this package.
var Backend = kernels.Backend("vaes256")

// Supported reports whether CPU and operating system have the instructions it needs.
func Supported() bool {
	x := &vector.Has
	return x.AVX2 && x.BMI2 && x.AES && x.VAES
}
