package keys

import (
	"sync"
	"sync/atomic"
	"time"

	"libeesp/internal/ktime"
	"libeesp/internal/say"
	"libeesp/internal/status"
	"libeesp/internal/wire"
)

// Whole rings, for hosts that rotate together: each step of a rotation sets a ring, so
// that hosts can acknowledge it, and there need not be a next key yet.

// NewRing makes a ring of the generations that are not 0, in the order previous,
// current, next; there must be a current one. On the wire a generation is its
// lowest octet. floor is the lowest generation that may be in force under this ID once
// the ring is; it is at most the ring's lowest one, which counts if it is higher. The
// error is ErrRootKey or ErrMemory.
func NewRing(id []byte, gen [3]uint64, value *[3][ValueLen]byte, floor uint64) (*RootKey, error) {
	if gen[Current-1] == 0 {
		return nil, badKey("generations %d: there is no current one", gen)
	}
	from := [3]int{0, 1, 2} // without a previous key, the current one is repeated
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

// floors are the lowest generations that may be in force, by root key ID, as long as
// the process lives. If a key that was dropped came back, old packets would open again.
var (
	floorsMu sync.Mutex
	floors   = map[string]uint64{}
)

// AboveFloor returns ErrRootKey if a generation is below the floor of a root key ID.
func AboveFloor(id []byte, lowest uint64) error {
	floorsMu.Lock()
	defer floorsMu.Unlock()
	if f := floors[string(id)]; lowest < f {
		return badKey("generation %d is below the floor %d of this root key ID", lowest, f)
	}
	return nil
}

// RaiseFloor raises the floor of a root key ID.
func RaiseFloor(id []byte, floor uint64) {
	floorsMu.Lock()
	defer floorsMu.Unlock()
	floors[string(id)] = max(floors[string(id)], floor)
}

// Publish puts the rings of all levels in force at once; nil removes a level's. The
// levels with a ring become the default levels. The group owns the rings if there is no
// error. If sealing is not OK, packets to be sealed have this status from then on.
func (g *Group) Publish(rings [wire.Levels]*RootKey, sealing status.Code) error {
	if err := g.checkLevel(0); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return say.Errorf("%w: the group was freed", status.ErrArgument)
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

// SetSealing sets the status of packets to be sealed from now on; OK allows sealing
// again. Keys stay.
func (g *Group) SetSealing(c status.Code) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.closed:
		return say.Errorf("%w: the group was freed", status.ErrArgument)
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

// Wait waits until all bursts of the process have ended that began before this call.
// Keys that they might have used, and that are no longer in force, are wiped then. It
// returns false after timeout.
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
