//go:build !amd64 && !arm64

package generic

func clearRegisters() {}
