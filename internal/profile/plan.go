package profile

import (
	"unsafe"

	"libeesp/internal/generic"
	"libeesp/internal/kernel"
	"libeesp/internal/keys"
	"libeesp/internal/plan"
	"libeesp/internal/secmem"
)

// planned is what a Sealing or Opening has whose ordinary packets a plan can
// describe. For a expanded key, area is where it is, and there are no snapshots.
// A plan that does not cover a packet leaves it to the general path, so that none has
// to be complete, or to be there at all.
type plannedSealing interface {
	// planSeal fills in a plan, and reports whether there is one.
	planSeal(be *kernel.Backend, snap *keys.Snapshot, area uintptr, to *plan.Seal) bool
}

type plannedOpening interface {
	planOpen(be *kernel.Backend, snaps []*keys.Snapshot, area uintptr) *plan.Open
}

func newSeal(area uintptr) *plan.Seal {
	return &plan.Seal{NextAt: plan.None, EpochAt: plan.None, PadAt: plan.None, AgainAt: plan.None, Area: area}
}

// PlanSeal compiles what a sender's packets are like, which are of that epoch if
// a data key is good for one only and counters do not leave theirs.
func PlanSeal(be *kernel.Backend, s Sealing, snap *keys.Snapshot, area uintptr, epoch uint16) *plan.Seal {
	p := newSeal(area)
	p.Epoch = epoch
	if s, ok := s.(plannedSealing); !ok || !s.planSeal(be, snap, area, p) {
		p.Free()
		return nil
	}
	return p
}

// PlanOpen compiles what the packets are like that a receiver opens.
func PlanOpen(be *kernel.Backend, o Opening, snaps []*keys.Snapshot, area uintptr) *plan.Open {
	if o, ok := o.(plannedOpening); ok {
		return o.planOpen(be, snaps, area)
	}
	return nil
}

// expandedKey is a data key that a plan has.
type expandedKey [4 * kernel.MaxKeyBytes]byte

// expanded derives the data key of a KDF input for i = 1 and expands it, and
// returns what is to be added to nonces.
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

// counts is where a key counts for C, until the plan is freed.
func counts(to interface{ Keep(any) }, u *keys.Usage) uintptr {
	if u != nil {
		to.Keep(u)
	}
	return u.Words()
}

// addresses is where a plan finds the key. The key may be gone: its address is
// all that is asked for.
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

// splitPlan is split, as data, of a counter that a mask leaves.
func splitPlan(engineBits uint8, mask uint64) plan.Split {
	return plan.Split{Mask: mask, Shift: engineBits, EngineMask: 1<<engineBits - 1}
}
