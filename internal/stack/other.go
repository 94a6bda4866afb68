//go:build !amd64 && !arm64

package stack

import "runtime"

const Room = 64 << 10

//go:noinline
func Ensure() {
	var room [Room]byte
	runtime.KeepAlive(&room)
}
