package asm

import (
	"libeesp/internal/asm/vaes512"
	"libeesp/internal/generic"
)

// list is every backend, best first. The generic one is last and runs anywhere.
func list() []entry {
	return []entry{
		{&vaes512.Backend, vaes512.Supported},
		{&generic.Backend, func() bool { return true }},
	}
}
