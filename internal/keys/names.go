package keys

import (
	"slices"

	"libeesp/internal/wire"
)

// Names returns the names of keys that a sender may seal with, before and after a
// rotation too, and of the one that it seals with now. levels are the sender's (0: the
// default ones); in profiles with slots slot is (-1: the one in use). Names are the same
// in every process.
func (g *Group) Names(levels uint8, slot int) (inUse [16]byte, ok bool, all [][16]byte) {
	s := g.Snapshot()
	if s == nil {
		return
	}
	if s.Slots != 0 {
		current := slot
		if current < 0 {
			current = s.Current
		}
		for i := range s.Slots {
			if k := &s.Slot[i]; k.Present && (slot < 0 || i == slot) {
				all = append(all, k.Name)
				if i == current {
					inUse, ok = k.Name, true
				}
			}
		}
		return
	}
	if levels == 0 {
		levels = s.Default
	}
	if levels == 0 || s.names == nil {
		return
	}
	for sel := range s.names {
		if s.valid>>sel&1 == 0 || levelsOf(sel) != levels {
			continue
		}
		if !slices.Contains(all, s.names[sel]) { // a ring without a previous key repeats the current one
			all = append(all, s.names[sel])
		}
		if sel == Selection(levels, Current) {
			inUse, ok = s.names[sel], true
		}
	}
	return
}

// levelsOf returns the set of levels in a selection.
func levelsOf(sel int) (levels uint8) {
	for l := range wire.Levels {
		if sel>>(2*l)&3 != 0 {
			levels |= 1 << l
		}
	}
	return levels
}
