//go:build !amd64 && !arm64

package kerneltest

func callThen(f uintptr, args *[6]uintptr, wide int, to *registers) { panic("no direct kernels here") }

func readRegisters(wide int, to *registers) {}

func belowStack(to *[belowBytes]byte) {}

const canRead = false
