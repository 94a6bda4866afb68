package profile

import (
	"slices"
	"sync/atomic"

	"libeesp/internal/status"
)

// OwnIDs are the IDs that a receiver's end sends with. They may change at any time.
type OwnIDs struct{ sorted atomic.Pointer[[]uint64] }

// NewOwnIDs makes such a list.
func NewOwnIDs(ids []uint64) *OwnIDs {
	o := new(OwnIDs)
	o.Set(ids)
	return o
}

// Set puts others in force.
func (o *OwnIDs) Set(ids []uint64) {
	l := slices.Clone(ids)
	slices.Sort(l)
	o.sorted.Store(&l)
}

// List is the IDs in rising order, which do not change.
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
