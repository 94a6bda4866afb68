// Package vaes512 is the backend for AVX-512 with VAES and VPCLMULQDQ. Its
// assembly is written by internal/gen.
package vaes512

import (
	"libeesp/internal/asm/vaes256"
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
	One:       [2][2]func(keys, jobs *byte, n int, scratch, master, sub *byte){{openOne128, sealOne128}, {openOne256, sealOne256}},
	OneAAD:    64,
	Pairs:     vaes256.Kernels(),
	Quads:     true,
	Wide:      true,
	Heads:     true,
	OneBlocks: 3,
	Tuning:    vector.Tuned(Tunings),
}

// Kernels returns the kernels for make tune.
func Kernels() *vector.Kernels { return &kernels }

// Backend is the backend of this package.
var Backend = kernels.Backend("vaes512")

// Supported reports whether CPU and operating system have the instructions it needs.
func Supported() bool {
	x := &vector.Has
	return x.AVX512 && x.VAES && x.BMI2
}

// Slow reports whether this CPU lowers its clock for vectors of 512 bits, as Intel's Ice
// Lake and Tiger Lake families do. Other CPUs with VAES, AMD's and Intel's later ones, do
// not.
func Slow() bool {
	family, model := vector.Model()
	if vector.Vendor() != "GenuineIntel" || family != 6 {
		return false
	}
	switch model {
	case 0x6a, 0x6c, 0x7d, 0x7e, 0x9d, 0x8c, 0x8d:
		return true
	}
	return false
}
