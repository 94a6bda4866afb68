//go:build !amd64 && !arm64

package asm

import "libeesp/internal/generic"

// list returns all backends, best first. The generic one is last and runs anywhere.
func list() []entry {
	return []entry{
		{&generic.Backend, func() bool { return true }, nil},
	}
}
