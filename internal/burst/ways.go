package burst

import (
	"runtime"
	"unsafe"

	"libeesp/internal/keys"
	"libeesp/internal/profile"
	"libeesp/internal/status"
)

// A way is what C needs to take the plain packets of one sender or receiver by
// itself, the way of the burst before: the keys that were in force, where it
// says whether they still are, and where counters and statistics are. C shares
// its layout. The engine takes what does not fit, and shows the way again.

// Room is what of a worker C uses: locked memory, and the announcement that
// keeps keys from being wiped (see keys.Reader).
type Room struct {
	Keys, Halves, Area, Scratch, Msgs unsafe.Pointer
	Active, Epoch, Waiting            unsafe.Pointer
}

// SealWay is a sender's.
type SealWay struct {
	Number         uint64  // of the sender, for C; 0: there is no way
	Cell, Snapshot uintptr // the way is good while one points to the other
	Direct         uintptr // kernels, for C
	Next, Limit    uintptr // counters
	Engine, Shift  uint64  // counter.Map
	Good, Octets   uintptr // statistics
	Form           profile.SealForm
}

// OpenWay is a receiver's.
type OpenWay struct {
	Number         uint64
	Cell, Snapshot uintptr
	Direct         uintptr
	Good, Octets   uintptr
	Bad            uintptr // packets with a wrong ICV
	Form           profile.OpenForm
}

// ways keeps what was shown where it is.
type ways struct {
	room, seal, open   runtime.Pinner
	sealSnap, openSnap *keys.Snapshot
	learned            bool // the shape may be another one since it was shown
}

func (s *ways) close() {
	s.room.Unpin()
	s.seal.Unpin()
	s.open.Unpin()
}

// Room is C's part of the worker.
func (w *Worker) Room() Room {
	w.ways.room.Unpin()
	w.ways.room.Pin(w.reader)
	s := w.sec
	r := Room{Keys: unsafe.Pointer(&s.keys), Halves: unsafe.Pointer(&s.derived), Area: unsafe.Pointer(&s.area), Scratch: unsafe.Pointer(&s.scratch), Msgs: unsafe.Pointer(&s.msgs)}
	r.Active, r.Epoch, r.Waiting = w.reader.Words()
	return r
}

// ShowSeal shows the way of the burst that was sealed last, by s, whose number
// is n, if it is not shown already.
func (w *Worker) ShowSeal(way *SealWay, n uint64, s *Sender) {
	snap := w.hdr.Snapshot(s.Sealing)
	if way.Number == n && snap != nil && w.ways.sealSnap == snap {
		return
	}
	way.Number = 0
	w.ways.seal.Unpin()
	w.ways.sealSnap = snap
	if snap == nil || s.Direct == 0 || s.Group == nil || !w.hdr.Form(&way.Form) {
		return
	}
	w.ways.seal.Pin(s.Group)
	w.ways.seal.Pin(s.Counter)
	w.ways.seal.Pin(s)
	way.Cell, way.Snapshot, way.Direct = uintptr(s.Group.Cell()), uintptr(unsafe.Pointer(snap)), s.Direct
	next, limit, engine, shift := s.Counter.Words()
	way.Next, way.Limit, way.Engine, way.Shift = uintptr(next), uintptr(limit), engine, uint64(shift)
	way.Good, way.Octets = s.Stats.words(status.OK)
	way.Number = n
}

// ShowOpen is ShowSeal for a receiver.
func (w *Worker) ShowOpen(way *OpenWay, n uint64, r *Receiver) {
	if way.Number == n && !w.ways.learned {
		return
	}
	way.Number = 0
	w.ways.open.Unpin()
	w.ways.learned, w.ways.openSnap = false, w.snaps[0]
	if r.Direct == 0 || len(r.Groups) != 1 || r.Windows != nil || !w.shape.Is(r.Opening) || !w.shape.Form(&way.Form) {
		return
	}
	w.ways.open.Pin(r.Groups[0])
	w.ways.open.Pin(r)
	way.Cell, way.Snapshot, way.Direct = uintptr(r.Groups[0].Cell()), uintptr(unsafe.Pointer(w.snaps[0])), r.Direct
	way.Good, way.Octets = r.Stats.words(status.OK)
	way.Bad, _ = r.Stats.words(status.ErrAuth)
	way.Number = n
}
