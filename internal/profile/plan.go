package profile

import (
	"unsafe"

	"libeesp/internal/kernel"
	"libeesp/internal/keys"
	"libeesp/internal/plan"
)

// planned is what a Sealing or Opening has whose ordinary packets a plan can
// describe. For a held key, area is where it is, and there are no snapshots.
// A plan that does not cover a packet leaves it to the engine, so that none has
// to be complete, or to be there at all.
type plannedSealing interface {
	// planSeal fills in a plan, and reports whether there is one.
	planSeal(be *kernel.Backend, snap *keys.Snapshot, area uintptr, to *plan.Seal) bool
}

type plannedOpening interface {
	planOpen(be *kernel.Backend, snaps []*keys.Snapshot, area uintptr) *plan.Open
}

// PlanSeal compiles what a sender's packets are like.
func PlanSeal(be *kernel.Backend, s Sealing, snap *keys.Snapshot, area uintptr) *plan.Seal {
	p := &plan.Seal{NextAt: plan.None, EpochAt: plan.None, PadAt: plan.None, AgainAt: plan.None, Area: area}
	if s, ok := s.(plannedSealing); !ok || !s.planSeal(be, snap, area, p) {
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
