package kerneltest

import "golang.org/x/sys/cpu"

// registerWidth returns the width of vector registers on this CPU, in octets.
func registerWidth() int {
	switch {
	case cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW:
		return 64
	case cpu.X86.HasAVX:
		return 32
	}
	return 16
}
