package kerneltest

import "golang.org/x/sys/cpu"

// callThen calls a kernel as C does and reads the vector registers behind it.
//
//go:noescape
func callThen(f uintptr, args *[6]uintptr, wide int, to *registers)

// registerWidth is how wide vector registers are here, in octets.
func registerWidth() int {
	switch {
	case cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW:
		return 64
	case cpu.X86.HasAVX:
		return 32
	}
	return 16
}
