//go:build amd64 || arm64

package generic

// clearRegisters zeroes the registers that Go's code may have left secrets in.
//
//go:noescape
func clearRegisters()
