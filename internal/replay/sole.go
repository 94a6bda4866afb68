package replay

import (
	"sync/atomic"
	"syscall"

	"libeesp/internal/barrier"
)

// Sole says whether only one worker has ever used a table. Then that worker may change
// it without locked operations. C has the same (libeesp/plan.h).
type Sole struct {
	owner atomic.Uint64 // number of the worker; 0: none yet; or one of the constants
	_     [56]byte
	busy  atomic.Uint64 // 1 between the owner's Begin and End
	_     [56]byte
}

// Values of owner that are no workers' numbers.
const (
	several  = ^uint64(0)     // several workers use the table
	becoming = ^uint64(0) - 1 // several, as soon as busy is 0
)

// Begin is called before a worker changes the table. who is the worker's number, neither
// 0 nor one of the two greatest. It returns true if no other worker ever called it: until
// End, changes then need no locked operations. The first other worker waits for End,
// once in the table's life. All users of the table must call Begin.
func (s *Sole) Begin(who uint64) bool {
	for {
		switch o := s.owner.Load(); o {
		case several:
			return false
		case 0, who:
			if o == 0 && !s.owner.CompareAndSwap(0, who) {
				continue
			}
			s.busy.Store(1)
			if s.owner.Load() == who {
				return true
			}
			s.busy.Store(0)
		case becoming:
			barrier.Threads() // the owner, in C, may have stored busy without one
			if s.busy.Load() == 0 {
				s.owner.CompareAndSwap(becoming, several)
				return false
			}
			syscall.Nanosleep(&syscall.Timespec{Nsec: 10_000}, nil) // the owner may need this CPU
		default:
			s.owner.CompareAndSwap(o, becoming)
		}
	}
}

// End ends a Begin that returned true.
func (s *Sole) End() { s.busy.Store(0) }
