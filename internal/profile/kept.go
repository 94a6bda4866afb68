package profile

import (
	"runtime"
	"unsafe"

	"libeesp/internal/kernel"
	"libeesp/internal/keys"
	"libeesp/internal/plan"
	"libeesp/internal/secmem"
)

// kept is one thread's table of derived data keys, expanded, by their KDF inputs. The
// inputs are public; the keys are in locked memory. Only C uses it.
type kept struct {
	keys           uintptr // KeptPlaces of them, as keys.Subs has them
	used           uint32
	credit, asleep int32
	_              [44]byte
	first          [256]uint8
	of             [KeptPlaces]struct {
		input      [MaxBlocks * 16]byte
		batch      uint16
		hash, next uint8
		_          [12]byte
	}
}

// KeptPlaces is how many keys a thread keeps, KeptCredit the credit that its table
// begins with. C knows them.
const (
	KeptPlaces = 32
	KeptCredit = 2048
	keptBytes  = keys.ShareCount * KeptPlaces / 4 * keys.SubQuad
)

// KeptSize is the size of the tables of all threads in octets. C knows the layout.
const KeptSize = unsafe.Sizeof([keys.ShareCount]kept{})

// keepKeys gives a plan tables for derived keys, one for each of the first
// keys.ShareCount threads. They are wiped with the plan, as root keys are: each change of
// keys makes a new plan. Where locked memory is scarce, the plan works without them.
func keepKeys(be *kernel.Backend, to *plan.Open) {
	if d := be.Direct; to.Kept != 0 || d == nil || d.Wide == 0 && runtime.GOARCH == "amd64" || 4*be.KeyBytes != keys.SubQuad {
		return
	}
	room := secmem.Spare(keptBytes)
	if room == nil {
		return
	}
	to.Also(room.Free)
	words := make([]uint64, KeptSize/8)
	to.Kept = uintptr(unsafe.Pointer(&words[0]))
	to.Keep(unsafe.Pointer(&words[0]))
	for i := range keys.ShareCount {
		k := (*kept)(unsafe.Add(unsafe.Pointer(&words[0]), i*int(unsafe.Sizeof(kept{}))))
		k.keys = uintptr(unsafe.Pointer(room.Addr())) + uintptr(i*keptBytes/keys.ShareCount)
		k.credit = KeptCredit
	}
}
