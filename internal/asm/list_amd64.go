package asm

import (
	"libeesp/internal/asm/aesni"
	"libeesp/internal/asm/vaes256"
	"libeesp/internal/asm/vaes512"
	"libeesp/internal/generic"
)

// list returns all backends, best first. The generic one is last and runs anywhere.
func list() []entry {
	return []entry{
		{&vaes512.Backend, vaes512.Supported, vaes512.Slow},
		{&vaes256.Backend, vaes256.Supported, nil},
		{&aesni.Backend, aesni.Supported, nil},
		{&generic.Backend, func() bool { return true }, nil},
	}
}
