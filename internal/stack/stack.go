//go:build amd64 || arm64

// Package stack reserves space on a goroutine's stack.
package stack

// Room is how many octets are free below the caller of Ensure.
const Room = 64 << 10

// Ensure grows the stack if necessary. The program may have installed a signal handler
// without SA_ONSTACK. It runs on the current stack, which in a call from C is that of a
// goroutine.
func Ensure()
