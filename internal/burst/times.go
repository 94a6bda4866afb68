package burst

import (
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"libeesp/internal/counter"
	"libeesp/internal/fresh"
	"libeesp/internal/keys"
	"libeesp/internal/ktime"
	"libeesp/internal/profile"
	"libeesp/internal/say"
	"libeesp/internal/status"
)

// Times is a receiver's replay protection by time: one table of recent packets of
// all senders.
type Times struct {
	table *fresh.Table
	early uint64

	mu     sync.Mutex
	mark   *counter.Mark // nil: there is none
	marked uint64        // what is in the file
}

// markAhead is how far ahead of the clock a mark is written, in ticks: one second.
// After a crash nothing is accepted for up to that long.
const markAhead = uint64(1 << fresh.TickBits)

// clock is the wall clock. steady is a clock that nobody sets, and that runs on
// while the machine sleeps. Tests replace both.
var (
	clock  = func() uint64 { return fresh.Ticks(counter.Now()) }
	steady = func() int64 { return ktime.Clock(unix.CLOCK_BOOTTIME) }
)

// NewTimes makes a table, with a mark file at path unless path is empty.
func NewTimes(c fresh.Config, path string) (*Times, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	r := &Times{early: fresh.Ticks(int64(c.MaxEarly))}
	var err error
	if path != "" {
		if r.mark, r.marked, err = counter.OpenMark(path, "times of packets"); err != nil {
			return nil, err
		}
	}
	if r.table, err = fresh.New(c, clock(), r.marked, steady); err != nil {
		if r.mark != nil {
			r.mark.Close()
		}
		return nil, err
	}
	if r.mark != nil {
		r.table.Limit(r.marked, 0)
		if err := r.ahead(clock()); err != nil {
			r.mark.Close()
			r.table.Free()
			return nil, say.Errorf("%w: %s: %v", status.ErrState, path, err)
		}
	}
	return r, nil
}

// Share makes r serve one more receiver, which must have the same configuration.
func (r *Times) Share(c fresh.Config) (*Times, error) {
	if !r.table.Is(c) {
		return nil, say.Errorf("%w: the heir takes over the table: max age, max early and max rate must be the same", status.ErrArgument)
	}
	r.table.Share()
	return r, nil
}

// Close ends one receiver's use. After the last one it frees the table once no
// burst uses it.
func (r *Times) Close() {
	if r == nil || !r.table.Drop() {
		return
	}
	keys.Retire(func() {
		if r.mark != nil {
			r.mark.Write(r.table.Most() + 1) // if this fails, the higher mark stays, which is safe
			r.mark.Close()
		}
		r.table.Free()
	})
}

// Table returns the table, to read its counts.
func (r *Times) Table() *fresh.Table { return r.table }

// ahead writes a mark above all times that may be accepted from now on.
func (r *Times) ahead(now uint64) error {
	to := max(now+r.early+markAhead, r.marked)
	if err := r.mark.Write(to); err != nil {
		return err
	}
	r.marked = to
	r.table.Limit(to, to-r.early-markAhead/2)
	return nil
}

// timing is a burst's view of the table.
type timing struct{ pass fresh.Pass }

func (r *Times) begin(w *Worker) (sole bool) {
	sole = r.table.Sole.Begin(w.number)
	now := clock()
	reset := false
	if w.pass, reset = r.table.Begin(now); reset && r.table.BeginReset() {
		keys.Retire(func() { r.table.EndReset(clock()) })
	}
	if r.mark == nil || !r.mu.TryLock() {
		return sole
	}
	defer r.mu.Unlock()
	if now >= r.marked-r.early-markAhead/2 && r.ahead(now) == nil {
		w.pass, _ = r.table.Begin(now)
	}
	return sole
}

func (r *Times) end(w *Worker, sole bool) {
	r.table.End(&w.pass)
	if sole {
		r.table.Sole.End()
	}
}

var timeVerdicts = [...]status.Code{fresh.Fresh: status.OK, fresh.Duplicate: status.ErrReplay, fresh.Stale: status.ErrStale,
	fresh.Early: status.ErrEarly, fresh.Full: status.ErrFull, fresh.Unmarked: status.ErrState}

func (r *Times) check(w *Worker, l *profile.Lane) status.Code {
	return timeVerdicts[r.table.Check(&w.pass, l.Time)]
}

// may returns how many lanes, from the first on, check would let pass.
func (r *Times) may(w *Worker, lanes []profile.Lane) int {
	for i := range lanes {
		if !w.pass.May(lanes[i].Time) {
			return i
		}
	}
	return len(lanes)
}

func (r *Times) commit(w *Worker, l *profile.Lane) status.Code {
	return timeVerdicts[r.table.Commit(&w.pass, &l.Flow, l.Pkt.TSC, l.Time)]
}

// ClockSynchronized reports whether the kernel says that the clock is synchronized.
func ClockSynchronized() bool {
	const timeError = 5
	var t syscall.Timex
	state, err := syscall.Adjtimex(&t)
	return err == nil && state != timeError
}
