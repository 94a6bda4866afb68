//go:build !amd64 && !arm64

package kerneltest

func readRegisters(wide int, to *registers) {}

func belowStack(to *[belowBytes]byte) {}

const canRead = false
