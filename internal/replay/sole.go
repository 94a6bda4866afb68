package replay

import (
	"sync/atomic"
	"syscall"
)

// Sole knows whether a table has one user only, who need not change it by atomic
// operations. It is C's too (libeesp/plan.h).
type Sole struct {
	owner atomic.Uint64
	_     [56]byte
	busy  atomic.Uint64 // the owner is at work
	_     [56]byte
}

// Owners other than those who are numbers.
const (
	several  = ^uint64(0)     // several
	becoming = ^uint64(0) - 1 // several, once busy is 0
)

// Begin is for whoever is about to change the table, with a number of its own,
// neither 0 nor one of the greatest two, and tells whether it is the only one
// that ever did. Then what it changes need not be done by atomic operations until
// it calls End. The first other one to come waits for End, once in the table's
// life. Where it is not called, nobody may.
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
			if s.busy.Load() == 0 {
				s.owner.CompareAndSwap(becoming, several)
				return false
			}
			syscall.Nanosleep(&syscall.Timespec{Nsec: 10_000}, nil) // whoever it is may need this CPU
		default:
			s.owner.CompareAndSwap(o, becoming)
		}
	}
}

// End ends what Begin began, for the one whom it told that it is the only one.
func (s *Sole) End() { s.busy.Store(0) }
