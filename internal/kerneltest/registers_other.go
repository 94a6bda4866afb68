//go:build !amd64

package kerneltest

func callThen(f uintptr, args *[6]uintptr, wide int, to *registers) { panic("no direct kernels here") }

func registerWidth() int { return 16 }
