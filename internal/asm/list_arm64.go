package asm

import (
	"libeesp/internal/asm/armv8"
	"libeesp/internal/generic"
)

// list returns all backends, best first. The generic one is last and runs anywhere.
func list() []entry {
	return []entry{
		{&armv8.Backend, armv8.Supported, nil},
		{&generic.Backend, func() bool { return true }, nil},
	}
}
