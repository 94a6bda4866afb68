package keys

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"libeesp/internal/ktime"
	"libeesp/internal/status"
	"libeesp/internal/wire"
)

// Rings as those publish them who manage keys of several hosts: whole, step by
// step, so that each step can be acknowledged, and without a next key where none
// has been drawn yet.

// NewRing makes a ring of the generations that are not 0, in the order previous,
// current, next; there must be a current one. On the wire a generation is its
// lowest octet. floor is the lowest that may be in force under this ID from now
// on; the ring's own lowest one is if that is higher.
func NewRing(id []byte, gen [3]uint64, value *[3][ValueLen]byte, floor uint64) (*RootKey, error) {
	if gen[Current-1] == 0 {
		return nil, badKey("generations %d: there is no current one", gen)
	}
	from := [3]int{0, 1, 2} // a previous key that is not there repeats the current one
	if gen[Pre-1] == 0 {
		from[Pre-1] = Current - 1
	}
	index := [3]uint64{gen[from[0]], gen[from[1]], gen[from[2]]}
	noNext := gen[Next-1] == 0
	if noNext {
		index[Next-1] = index[Current-1]
	}
	k, err := makeRootKey(id, index, noNext, func(v *[3][ValueLen]byte) error {
		for i := range v {
			if i != Next-1 || !noNext {
				copy(v[i][:], value[from[i]][:])
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	k.whole, k.floor = true, max(floor, k.lowest())
	if floor > k.lowest() {
		k.Free()
		return nil, badKey("generation %d is below the floor %d", k.lowest(), floor)
	}
	return k, nil
}

func (k *RootKey) lowest() uint64 { return min(k.Index[0], k.Index[1], k.Index[2]) }

// floors are the lowest generations that may be in force, by the ID of root keys
// that NewRing made, for as long as the process lives: what was dropped and comes
// again would open old packets again.
var (
	floorsMu sync.Mutex
	floors   = map[string]uint64{}
)

// AboveFloor says whether a generation may be in force under a root key ID.
func AboveFloor(id []byte, lowest uint64) error {
	floorsMu.Lock()
	defer floorsMu.Unlock()
	if f := floors[string(id)]; lowest < f {
		return badKey("generation %d is below the floor %d of this root key ID", lowest, f)
	}
	return nil
}

// RaiseFloor sets the lowest generation from now on.
func RaiseFloor(id []byte, floor uint64) {
	floorsMu.Lock()
	defer floorsMu.Unlock()
	floors[string(id)] = max(floors[string(id)], floor)
}

// Publish puts rings in force at all levels at once, which are the default
// levels then: nil takes a level's away. The group owns them if there is no
// error. Where sealing is not OK, nothing is sealed from then on, and each packet
// has that status.
func (g *Group) Publish(rings [wire.Levels]*RootKey, sealing status.Code) error {
	if err := g.checkLevel(0); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return fmt.Errorf("%w: the group was freed", status.ErrArgument)
	}
	levels := uint8(0)
	for l, k := range rings {
		if k != nil {
			levels |= 1 << l
		}
	}
	was, old := g.sealing, g.rings
	g.sealing = sealing
	if err := g.publish(rings, levels); err != nil {
		g.sealing = was
		return err
	}
	for _, k := range old {
		if k != nil {
			k.Free() // readers use the masters, never the rings
		}
	}
	return nil
}

// SetSealing has nothing be sealed from now on, each packet with that status; OK
// allows it again. Keys stay.
func (g *Group) SetSealing(c status.Code) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.closed:
		return fmt.Errorf("%w: the group was freed", status.ErrArgument)
	case g.sealing == c:
		return nil
	}
	was := g.sealing
	g.sealing = c
	if g.params.Slots == 0 {
		if err := g.publish(g.rings, g.defaults); err != nil {
			g.sealing = was
			return err
		}
		return nil
	}
	s, _, err := g.nextSlots()
	if err != nil {
		g.sealing = was
		return err
	}
	g.swap(s)
	return nil
}

// Wait waits until all bursts have ended that began before, in any thread of the
// process; what they might have used and is no longer in force is wiped then. It
// reports whether that came about in time.
func Wait(timeout time.Duration) bool {
	var done atomic.Bool
	Retire(func() { done.Store(true) })
	end := time.Now().Add(timeout)
	for nap := 20 * time.Microsecond; !done.Load(); nap = min(2*nap, time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
		ktime.Nap(nap)
	}
	return true
}
