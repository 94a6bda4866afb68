//go:build amd64 || arm64

package kerneltest

// callThen calls a kernel as C does, then reads the vector registers.
//
//go:noescape
func callThen(f uintptr, args *[6]uintptr, wide int, to *registers)

// readRegisters reads the vector registers, of wide octets each.
//
//go:noescape
func readRegisters(wide int, to *registers)

// belowStack reads the stack below its caller's frame.
//
//go:noescape
func belowStack(to *[belowBytes]byte)

const canRead = true
