//go:build amd64 || arm64

package generic

// clearRegisters zeroes the registers in which Go code may have left secrets.
//
//go:noescape
func clearRegisters()
