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

// Ways is how many senders and receivers a thread has ways for: of those whose
// numbers leave the same remainder, the last one.
const Ways = 4

// ways keeps the snapshots that were shown: another one in its place would look
// as if it were in force.
type ways struct {
	room       runtime.Pinner
	seal, open [Ways]*keys.Snapshot
	learned    bool // the shape may be another one since it was shown
	opener     uint64
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

// Pin keeps in their places what C is shown of a sender, whose kernels it has in
// direct, until Unpin.
func (s *Sender) Pin(direct uintptr) {
	s.pin.Pin(s)
	s.pin.Pin(s.Group)
	s.pin.Pin(s.Counter)
	s.direct = direct
}

// Unpin ends Pin.
func (s *Sender) Unpin() { s.pin.Unpin() }

// Pin is Sender.Pin for a receiver.
func (r *Receiver) Pin(direct uintptr) {
	r.pin.Pin(r)
	for _, g := range r.Groups {
		r.pin.Pin(g)
	}
	r.direct = direct
}

// Unpin ends Pin.
func (r *Receiver) Unpin() { r.pin.Unpin() }

// ShowSeal shows the way of the burst that was sealed last, by s, whose number
// is n, if it is not shown already.
func (w *Worker) ShowSeal(way *SealWay, n uint64, s *Sender) {
	snap := w.hdr.Snapshot(s.Sealing)
	shown := &w.ways.seal[n%Ways]
	if way.Number == n && snap != nil && *shown == snap {
		return
	}
	way.Number, *shown = 0, snap
	if snap == nil || s.direct == 0 || !w.hdr.Form(&way.Form) {
		return
	}
	way.Cell, way.Snapshot, way.Direct = uintptr(s.Group.Cell()), uintptr(unsafe.Pointer(snap)), s.direct
	next, limit, engine, shift := s.Counter.Words()
	way.Next, way.Limit, way.Engine, way.Shift = uintptr(next), uintptr(limit), engine, uint64(shift)
	way.Good, way.Octets = s.Stats.words(status.OK)
	way.Number = n
}

// ShowOpen is ShowSeal for a receiver.
func (w *Worker) ShowOpen(way *OpenWay, n uint64, r *Receiver) {
	if way.Number == n && w.ways.opener == n && !w.ways.learned {
		return
	}
	way.Number, w.ways.open[n%Ways] = 0, w.snaps[0]
	w.ways.opener, w.ways.learned = n, false
	if r.direct == 0 || len(r.Groups) != 1 || r.Windows != nil || !w.shape.Is(r.Opening) || !w.shape.Form(&way.Form) {
		return
	}
	way.Cell, way.Snapshot, way.Direct = uintptr(r.Groups[0].Cell()), uintptr(unsafe.Pointer(w.snaps[0])), r.direct
	way.Good, way.Octets = r.Stats.words(status.OK)
	way.Bad, _ = r.Stats.words(status.ErrAuth)
	way.Number = n
}
