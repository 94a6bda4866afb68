package profile

import (
	"unsafe"

	"libeesp/internal/generic"
	"libeesp/internal/kernel"
	"libeesp/internal/keys"
	"libeesp/internal/plan"
	"libeesp/internal/secmem"
)

// plannedSealing is a Sealing that has plans. For a held data key, area is the
// address of the expanded key, and there is no snapshot. Packets that a plan does not
// cover take the general path, so a plan need not be complete.
type plannedSealing interface {
	// planSeal fills in a plan, and reports whether there is one.
	planSeal(be *kernel.Backend, snap *keys.Snapshot, area uintptr, to *plan.Seal) bool
}

// plannedOpening is an Opening that has plans.
type plannedOpening interface {
	// planOpen returns a plan, or nil if there is none.
	planOpen(be *kernel.Backend, snaps []*keys.Snapshot, area uintptr) *plan.Open
}

func newSeal(area uintptr) *plan.Seal {
	return &plan.Seal{NextAt: plan.None, EpochAt: plan.None, PadAt: plan.None, AgainAt: plan.None, Area: area}
}

// PlanSeal compiles a sender's plan; nil: it has none. epoch is that of the counters,
// if they stay in one.
func PlanSeal(be *kernel.Backend, s Sealing, snap *keys.Snapshot, area uintptr, epoch uint16) *plan.Seal {
	p := newSeal(area)
	p.Epoch = epoch
	if s, ok := s.(plannedSealing); !ok || !s.planSeal(be, snap, area, p) {
		p.Free()
		return nil
	}
	return p
}

// PlanOpen compiles a receiver's plan; nil: it has none.
func PlanOpen(be *kernel.Backend, o Opening, snaps []*keys.Snapshot, area uintptr) *plan.Open {
	if o, ok := o.(plannedOpening); ok {
		return o.planOpen(be, snaps, area)
	}
	return nil
}

// expandedKey is a data key that belongs to a plan.
type expandedKey [4 * kernel.MaxKeyBytes]byte

// expanded derives the data key of a KDF input with CMAC and expands it. mask is what
// is added to nonces.
func expanded(be *kernel.Backend, k *KDF, msg *[MaxBlocks * 16]byte) (area *expandedKey, mask [12]byte, err error) {
	w, err := secmem.New[struct {
		out     [MaxPer * 16]byte
		scratch [kernel.ScratchBytes]byte
	}]()
	if err != nil {
		return nil, mask, err
	}
	defer secmem.Delete(w)
	if area, err = secmem.New[expandedKey](); err != nil {
		return nil, mask, err
	}
	for i := range k.Per() {
		msg[k.Counter] = byte(i + 1)
		generic.Backend.Derive(unsafe.Pointer(&w.out[16*i]), unsafe.Pointer(msg), 1, int(k.Blocks), k.Master, k.Sub(), unsafe.Pointer(&w.scratch))
	}
	be.Expand(unsafe.Pointer(area), unsafe.Pointer(&w.out), 1, int(k.KeyLen), unsafe.Pointer(&w.scratch))
	copy(mask[:k.Mask], w.out[k.KeyLen:])
	return area, mask, nil
}

// memo holds, for each of the first keys.ShareCount threads, the encrypted first block of
// KDF inputs of several blocks, which mostly is equal in successive packets. It is wiped
// with the plan, as the key is.
type memo [keys.ShareCount]struct {
	block, other [16]byte         // the first block that encrypted is of; the latest different one
	encrypted    [MaxPer][16]byte // block, encrypted for each block of the data key, and of what is added to nonces
	_            [48]byte
}

// MemoSize is the size of a memo in octets. C knows the layout.
const MemoSize = unsafe.Sizeof(memo{})

// remember gives a plan a memo. Without memory for one, the plan works without it.
func remember(to *plan.Seal) {
	if m, err := secmem.New[memo](); err == nil {
		to.Memo = uintptr(unsafe.Pointer(m))
		to.Also(func() { secmem.Delete(m) })
	}
}

// counts returns the address of a key's counts, and pins them until the plan is freed.
func counts(to interface{ Keep(unsafe.Pointer) }, u *keys.Usage) uintptr {
	if u != nil {
		to.Keep(unsafe.Pointer(u))
	}
	return u.Words()
}

// addresses returns the addresses of the CMAC key and of its subkey, for a plan. It
// does not read them: the key may be gone.
func (k *KDF) addresses() (master, sub uintptr) {
	if k.Master == nil {
		return 0, 0
	}
	master = uintptr(unsafe.Pointer(k.Master))
	if k.Padded {
		return master, master + unsafe.Offsetof(k.Master.K2)
	}
	return master, master + unsafe.Offsetof(k.Master.K1)
}

// splitPlan is split as data. mask has the bits of the counter that are not the
// direction.
func splitPlan(engineBits uint8, mask uint64) plan.Split {
	return plan.Split{Mask: mask, Shift: engineBits, EngineMask: 1<<engineBits - 1}
}
