package keys

import (
	"unsafe"

	"libeesp/internal/kernel"
)

func scratchOf(b *[kernel.ScratchBytes]byte) unsafe.Pointer { return unsafe.Pointer(b) }
