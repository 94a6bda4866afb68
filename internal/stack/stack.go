//go:build amd64 || arm64

// Package stack reserves space on a goroutine's stack.
package stack

// Room is how many octets Ensure leaves below its caller.
const Room = 64 << 10

// Ensure grows the stack if need be. A handler that the host installed without
// SA_ONSTACK runs where the stack pointer is, which in a call from C is a
// goroutine's stack.
func Ensure()
