package profile

import (
	"slices"
	"sync/atomic"

	"libeesp/internal/status"
)

// OwnIDs are the IDs with which a receiver's own end sends. They may change at any
// time.
type OwnIDs struct{ sorted atomic.Pointer[[]uint64] }

// NewOwnIDs makes the list.
func NewOwnIDs(ids []uint64) *OwnIDs {
	o := new(OwnIDs)
	o.Set(ids)
	return o
}

// Set replaces the IDs.
func (o *OwnIDs) Set(ids []uint64) {
	l := slices.Clone(ids)
	slices.Sort(l)
	o.sorted.Store(&l)
}

// List returns the IDs in force, in rising order. The caller must not change them.
func (o *OwnIDs) List() []uint64 {
	if o == nil {
		return nil
	}
	return *o.sorted.Load()
}

func reflected(own []uint64, id uint64) status.Code {
	if len(own) != 0 {
		if _, is := slices.BinarySearch(own, id); is {
			return status.ErrReflected
		}
	}
	return status.OK
}
