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

// Windows is a receiver's replay protection: a window for each key, ID and
// epoch that authentic packets came from. Windows are given up when their key is
// gone, never before: a packet of a new context is refused when there is no
// room for its window.
type Windows struct {
	table *replay.Table

	seen atomic.Uint64 // how often keys had been wiped at the last look
	mu   sync.Mutex
}

// NewWindows makes windows of width packets, at most most of them.
func NewWindows(width, most uint32) (*Windows, error) {
	t, err := replay.New(replay.Config{Width: width, Windows: most})
	if err != nil {
		return nil, err
	}
	return &Windows{table: t}, nil
}

// Close gives the memory back once no burst uses it.
func (r *Windows) Close() {
	if r != nil {
		keys.Retire(r.table.Close)
	}
}

// Table is the windows themselves, to read what they count.
func (r *Windows) Table() *replay.Table { return r.table }

// begin is for a worker that is about to check and commit; it ends with end.
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

// check is for a packet that is not decrypted yet. One that may be of either of
// two keys has two windows, and is for commit to judge if it is new to one.
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

// fresh is how many lanes in front are those of packets that check would let
// pass. What is behind is not counted as refused: check is to see it again.
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

// tidy gives up windows of keys that were wiped.
func (r *Windows) tidy(groups []*keys.Group) {
	wiped := uint64(0)
	for _, g := range groups {
		wiped += g.Wiped()
	}
	if wiped == r.seen.Load() || !r.mu.TryLock() {
		return
	}
	defer r.mu.Unlock()
	r.seen.Store(wiped)
	alive := map[[16]byte]bool{} // few keys have many windows; one that dies now brings another sweep
	r.table.Sweep(func(name *[16]byte) bool {
		if !alive[*name] && slices.ContainsFunc(groups, func(g *keys.Group) bool { return g.Alive(name) }) {
			alive[*name] = true
		}
		return alive[*name]
	}, keys.Retire)
}
