package rotation

import (
	"errors"
	"fmt"
	"time"

	"libeesp/control/record"
)

// Flags of a ring's record; see also record.RingEmergency and RingHard.
const (
	// again: a running rotation is completed, and one with a new KEK follows at once, after a
	// revocation or in an emergency.
	again = record.RingAgain
	emerg = record.RingEmergency
)

// KEKRotations is how many rotations a KEK serves before a new one is drawn.
const KEKRotations = 30

// KEKDue, as a ring's count of rotations, says that a rotation with a new KEK is due, since the KEK may be
// known to others.
const KEKDue = 1 << 16

// Deadlines of an emergency: members that are not ready by then are excluded.
const (
	EmergencyPrepared = 15 * time.Second
	EmergencyActive   = 10 * time.Second
	EmergencyDelay    = 2 * time.Second
)

// ErrGuard is the error if the condition of a transition does not hold, or the ring has another state.
var ErrGuard = errors.New("not now")

// KEKChange is what a transition does with the KEK.
type KEKChange uint8

// The changes of the KEK.
const (
	KEKKeep KEKChange = iota
	KEKStep
	KEKNew
)

// Effect is what else a transition does: the entry in the log, and whether to draw a value. Values of
// generations that stay do not change.
type Effect struct {
	Change   record.Change
	Old, New uint64
	Draw     bool // draw a random value for New
	KEK      KEKChange
}

// begin returns a ring's record for the next step.
func begin(r *record.Ring) record.Ring {
	n := *r
	n.Gens = append([]record.Generation(nil), r.Gens...)
	n.Step++
	n.Sealed = nil
	return n
}

func guard(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrGuard, fmt.Sprintf(format, a...))
}

// Create returns the first record of a ring.
func Create(id record.ID, l record.Level, c record.Class, name string, p record.Policy, now int64) (record.Ring, Effect) {
	return record.Ring{ID: id, Level: l, Class: c, Name: name, Policy: p, Step: 1, State: record.Steady, KEKEpoch: 1, Floor: 1, Last: 1, Since: now,
		Gens: []record.Generation{{Gen: 1, Role: record.Current}}}, Effect{Change: record.ChangeCreate, New: 1, Draw: true, KEK: KEKNew}
}

// Prepare adds a next generation, with which no packets are sealed yet.
func Prepare(r *record.Ring, reason string, now int64) (record.Ring, Effect, error) {
	if r.State != record.Steady {
		return *r, Effect{}, guard("PREPARE in state %v", r.State)
	}
	n := begin(r)
	cur := r.Of(record.Current)
	n.State, n.Last, n.Since, n.Reason = record.Prepared, r.Last+1, now, reason
	// Two generations must differ on the wire, where they are the lowest octet, or in tss the lowest bit.
	wire := uint64(256)
	if r.Class == record.ClassTSS {
		wire = 2
	}
	if (n.Last-cur)%wire == 0 {
		n.Last++
	}
	n.Gens = append(n.Gens, record.Generation{Gen: n.Last, Role: record.Next})
	e := Effect{Change: record.ChangePrepare, Old: cur, New: n.Last, Draw: true}
	n.KEKSince++
	if r.Flags&again != 0 || n.KEKSince > KEKRotations {
		e.KEK, n.KEKEpoch, n.KEKStep, n.KEKSince = KEKNew, r.KEKEpoch+1, 0, 0
	}
	n.Flags &^= again
	return n, e, nil
}

// Activate makes senders use the next generation. need is the barrier, ready the members that have
// acknowledged this step.
func Activate(r *record.Ring, need, ready Set) (record.Ring, Effect, error) {
	if r.State != record.Prepared || r.Flags&again != 0 {
		return *r, Effect{}, guard("ACTIVATE in state %v", r.State)
	}
	if l := need.Minus(ready); len(l) > 0 {
		return *r, Effect{}, guard("%d members have not acknowledged", len(l))
	}
	n := begin(r)
	n.State = record.Active
	n.Gens[0].Role, n.Gens[1].Role = record.Previous, record.Current
	return n, Effect{Change: record.ChangeActivate, Old: n.Gens[0].Gen, New: n.Gens[1].Gen}, nil
}

// Abort drops the next generation. Its number is not used again.
func Abort(r *record.Ring, reason string) (record.Ring, Effect, error) {
	if r.State != record.Prepared {
		return *r, Effect{}, guard("ABORT in state %v", r.State)
	}
	n := begin(r)
	burnt := n.Gens[1].Gen
	n.State, n.Gens, n.Reason = record.Steady, n.Gens[:1], reason
	if n.Flags&again == 0 {
		n.Flags = 0
	}
	return n, Effect{Change: record.ChangeAbort, Old: burnt, New: n.Gens[0].Gen}, nil
}

// Epoch moves the key of a ring of tss to its next epoch. All members of the barrier have acknowledged the
// step before, so none is more than one epoch behind; receivers accept 16.
func Epoch(r *record.Ring, need, ready Set, reason string) (record.Ring, Effect, error) {
	if r.Class != record.ClassTSS {
		return *r, Effect{}, guard("ring %s is of no group of tss: epochs are senders' own", r.Name)
	}
	if r.State != record.Steady {
		return *r, Effect{}, guard("EPOCH in state %v", r.State)
	}
	if l := need.Minus(ready); len(l) > 0 {
		return *r, Effect{}, guard("%d members have not acknowledged the step before", len(l))
	}
	n := begin(r)
	if n.Gens[0].TSSEpoch == 1<<16-1 {
		return *r, Effect{}, guard("the key's last epoch: rotate")
	}
	n.Gens[0].TSSEpoch++
	n.Reason = reason
	return n, Effect{Change: record.ChangeEpoch, Old: n.Gens[0].Gen, New: n.Gens[0].Gen}, nil
}

// Delay returns how long RETIRE waits after the last member was ready.
func Delay(r *record.Ring) time.Duration {
	d := time.Duration(r.Policy.PathDelay) * time.Millisecond
	if r.Flags&record.RingHard != 0 {
		return 0
	}
	if r.Flags&(emerg|again) != 0 {
		d = min(d, EmergencyDelay)
	}
	return d
}

// Retire drops the previous generation. covered is how long all members of need have been ready without
// interruption, by the monotonic clock of the server that commits. It begins again when a member's session
// ends.
func Retire(r *record.Ring, need, ready Set, covered time.Duration) (record.Ring, Effect, error) {
	if r.State != record.Active {
		return *r, Effect{}, guard("RETIRE in state %v", r.State)
	}
	if r.Flags&record.RingHard == 0 {
		if l := need.Minus(ready); len(l) > 0 {
			return *r, Effect{}, guard("%d members have not acknowledged", len(l))
		}
		if d := Delay(r) - covered; d > 0 {
			return *r, Effect{}, guard("packets may be in flight for %v", d.Round(time.Millisecond))
		}
	}
	n := begin(r)
	old := n.Gens[0].Gen
	n.State, n.Gens, n.KEKStep = record.Steady, n.Gens[1:], r.KEKStep+1
	n.Floor = n.Gens[0].Gen
	if n.Flags&again == 0 {
		n.Flags = 0
	}
	return n, Effect{Change: record.ChangeRetire, Old: old, New: n.Floor, KEK: KEKStep}, nil
}

// Urge marks a ring for an emergency rotation, after a member was revoked or if keys may be known.
func Urge(r *record.Ring, hard bool, reason string) record.Ring {
	n := begin(r)
	n.Flags |= again | emerg
	if hard {
		n.Flags |= record.RingHard
	}
	n.Reason = reason
	return n
}

// Again returns a ring's record to be written once more, for a new signature. With newKEK, the next
// rotation draws a new KEK and begins as soon as it may.
func Again(r *record.Ring, newKEK bool) record.Ring {
	n := begin(r)
	if newKEK {
		n.KEKSince = KEKDue
	}
	return n
}

// World is what a server knows besides the ring's record.
type World struct {
	Need, Ready Set
	Absent      Set           // members of Need that have had no stream for longer than AbsentAfter
	Covered     time.Duration // see Retire
	InStep      time.Duration // since this server saw the step
	Wall        int64         // seconds
	Usage       uint64        // keys derived with the current generation
	Asked       string        // why a rotation was requested; "": it was not
	Freeze      string        // why only rotations of an emergency may begin; "": all may
	Turn        bool          // no other level is in transit
	Destroyed   bool          // the log says that all have wiped the generation that this step dropped
}

// Plan says what a server should do now.
type Plan struct {
	Do      record.Change // 0: nothing
	Reason  string
	Exclude []uint32      // Do is ChangeExclude
	Again   time.Duration // when to look again at the latest; 0: when something has changed
	Waiting []uint32      // members that the step waits for
	Why     string        // what the step waits for, for people
}

// Next decides what a server should do now.
func Next(r *record.Ring, w World) Plan {
	waiting := w.Need.Minus(w.Ready)
	p := Plan{Waiting: waiting}
	exclude := func(reason string, who []uint32) Plan {
		p.Do, p.Exclude, p.Reason = record.ChangeExclude, who, reason
		return p
	}
	var gone []uint32
	for _, n := range waiting {
		if w.Absent.Has(n) {
			gone = append(gone, n)
		}
	}
	if len(gone) > 0 {
		return exclude("absent", gone)
	}
	urgent := r.Flags&(again|emerg) != 0
	deadline := func(after time.Duration) bool {
		if !urgent || len(waiting) == 0 {
			return false
		}
		if w.InStep >= after {
			p = exclude("emergency's deadline", waiting)
			return true
		}
		p.Again = after - w.InStep
		return false
	}
	switch r.State {
	case record.Steady:
		if r.Flags&again != 0 {
			p.Do, p.Reason = record.ChangePrepare, r.Reason
			return p
		}
		if !w.Destroyed && len(waiting) == 0 && r.Last > 1 {
			p.Do = record.ChangeDestroyed
			return p
		}
		if r.Class == record.ClassTSS && !w.Destroyed && r.Last > 1 {
			p.Why = "members drop the previous generation"
			return p
		}
		since := w.Wall - r.Since
		var why string
		switch period := int64(r.Policy.Period); {
		case w.Asked != "" && w.Freeze != "": // asked for before
			p.Why = "frozen: " + w.Freeze
			return p
		case w.Asked != "":
			p.Do, p.Reason = record.ChangePrepare, w.Asked
			return p
		case r.KEKSince >= KEKDue && w.Freeze == "":
			p.Do, p.Reason = record.ChangePrepare, "a new KEK is due"
			return p
		case period != 0 && since >= period:
			why = "period"
		case r.Policy.MaxUsage != 0 && w.Usage >= r.Policy.MaxUsage:
			why = "usage"
		default:
			if period != 0 {
				p.Again = time.Duration(max(period-since, 1)) * time.Second
			}
			return p
		}
		switch {
		case w.Freeze != "":
			p.Why = "frozen: " + w.Freeze
		case since < int64(r.Policy.MinInterval):
			p.Why, p.Again = "min_interval", time.Duration(int64(r.Policy.MinInterval)-since)*time.Second
		case !w.Turn:
			p.Why, p.Again = "another level is in transit", time.Second
		default:
			p.Do, p.Reason = record.ChangePrepare, why
		}
	case record.Prepared:
		if r.Flags&again != 0 {
			p.Do, p.Reason = record.ChangeAbort, r.Reason
			return p
		}
		if len(waiting) == 0 {
			p.Do = record.ChangeActivate
			return p
		}
		if deadline(EmergencyPrepared) {
			return p
		}
		p.Why = "members acknowledge that they can open with the next generation"
	case record.Active:
		if r.Flags&record.RingHard != 0 {
			p.Do = record.ChangeRetire
			return p
		}
		if len(waiting) > 0 {
			if deadline(EmergencyActive) {
				return p
			}
			p.Why = "members acknowledge that they seal with the new generation"
			return p
		}
		if d := Delay(r) - w.Covered; d > 0 {
			p.Why, p.Again = "packets in flight arrive", d
			return p
		}
		p.Do = record.ChangeRetire
	}
	return p
}

// Restore returns a ring's first record in a new term: one new generation, gen or above, under a new KEK.
// Generations in the store may be older than those that members have retired, so none of them is kept, and
// packets are lost while members change.
func Restore(r *record.Ring, gen uint64) (record.Ring, Effect) {
	n := begin(r)
	e := Effect{Change: record.ChangeRestore, Old: r.Of(record.Current), New: max(gen, r.Last+1), Draw: true, KEK: KEKNew}
	n.State, n.Last, n.Floor, n.Flags, n.Reason = record.Steady, e.New, e.New, 0, "restored"
	n.KEKEpoch, n.KEKStep, n.KEKSince = r.KEKEpoch+restoredEpochs, 0, 0
	n.Gens = []record.Generation{{Gen: e.New, Role: record.Current}}
	return n, e
}

// restoredEpochs is how many KEK epochs a restore skips: more than were used since the backup.
const restoredEpochs = 1 << 16
