package burst

import (
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"libeesp/internal/keys"
	"libeesp/internal/profile"
	"libeesp/internal/replay"
	"libeesp/internal/status"
)

// Windows is a receiver's replay protection by windows: one for each key, ID and
// epoch of authentic packets. A window is freed when its key is wiped, never
// before. A packet of a new context is refused when there is no room for its
// window.
type Windows struct {
	table *replay.Table

	seen atomic.Uint64 // how many snapshots of keys had been wiped when the last sweep began
	left atomic.Int64  // how many places of the table are left to it
	mu   sync.Mutex    // sweeps
}

// A burst gives so much effort to a sweep, some 0.1 ms, of which a window that is freed takes sweepEach for each group.
const (
	sweepEffort = 1 << 14
	sweepEach   = 32
)

// NewWindows makes a table of up to limit windows of width packets each.
func NewWindows(width, limit uint32) (*Windows, error) {
	t, err := replay.New(replay.Config{Width: width, Windows: limit})
	if err != nil {
		return nil, err
	}
	return &Windows{table: t}, nil
}

// Close frees the memory once no burst uses it.
func (r *Windows) Close() {
	if r != nil {
		keys.Retire(r.table.Close)
	}
}

// Table returns the table, to read its counts.
func (r *Windows) Table() *replay.Table { return r.table }

// begin is called before a worker checks and commits, end after it. sole says that
// no other worker has used the table.
func (r *Windows) begin(w *Worker) (sole bool) { return r.table.Begin(w.number) }

func (r *Windows) end(sole bool) {
	if sole {
		r.table.End()
	}
}

// view returns the part that C works with.
func (r *Windows) view() *replay.View {
	if r == nil {
		return nil
	}
	return &r.table.View
}

func (r *Windows) insert(k unsafe.Pointer) uintptr {
	key := *(*replay.Key)(k)
	return r.table.Insert(&key)
}

var verdicts = [...]status.Code{replay.Fresh: status.OK, replay.Duplicate: status.ErrReplay, replay.Old: status.ErrReplay, replay.Full: status.ErrWindows}

// check is called before a packet is decrypted. A packet that may have either of two
// keys (Retry) has two windows; it passes if it is new to one of them, and commit
// decides.
func (r *Windows) check(l *profile.Lane) status.Code {
	if l.Retry {
		other := l.Flow
		other.Master = l.Prev.ID
		if r.table.Look(&other, l.Seq) == replay.Fresh {
			return status.OK
		}
	}
	return verdicts[r.table.Check(&l.Flow, l.Seq)]
}

// fresh returns how many lanes, from the first on, check would let pass. It counts
// no refusals: check does, when it sees the next lane.
func (r *Windows) fresh(lanes []profile.Lane) int {
	for i := range lanes {
		if r.table.Look(&lanes[i].Flow, lanes[i].Seq) != replay.Fresh {
			return i
		}
	}
	return len(lanes)
}

func (r *Windows) commit(l *profile.Lane) status.Code {
	return verdicts[r.table.Commit(&l.Flow, l.Seq)]
}

// tidy frees windows of keys that were wiped. It goes on where the last call ended.
func (r *Windows) tidy(groups []*keys.Group) {
	wiped := uint64(0)
	for _, g := range groups {
		wiped += g.Wiped()
	}
	if wiped == r.seen.Load() && r.left.Load() == 0 || !r.mu.TryLock() {
		return
	}
	defer r.mu.Unlock()
	if r.seen.Swap(wiped) != wiped {
		r.left.Store(int64(r.table.Places()))
	}
	alive := map[[16]byte]bool{} // remembers answers: there are few keys; one that is wiped meanwhile causes another sweep
	n := r.table.Sweep(int(r.left.Load()), sweepEffort, sweepEach*len(groups), func(name *[16]byte) bool {
		if !alive[*name] && slices.ContainsFunc(groups, func(g *keys.Group) bool { return g.Alive(name) }) {
			alive[*name] = true
		}
		return alive[*name]
	}, keys.Retire)
	r.left.Add(int64(-n))
}
