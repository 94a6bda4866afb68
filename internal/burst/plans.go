package burst

import (
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"

	"libeesp/internal/barrier"
	"libeesp/internal/keys"
	"libeesp/internal/plan"
	"libeesp/internal/profile"
	"libeesp/internal/status"
)

// AroundLen is the number of octets in a worker for struct around of libeesp/outer.c,
// where C keeps the packets of proxies and of packets in UDP.
const AroundLen = 12 << 10

// WorkerView is the part of a worker that C uses: locked scratch memory, the
// announcement that keeps keys from being wiped (see keys.Reader), and the
// worker's number.
type WorkerView struct {
	Keys, Halves, Area, Scratch, Msgs unsafe.Pointer
	Active, Epoch, Waiting            unsafe.Pointer
	Number                            uint64
	AAD, Around                       unsafe.Pointer
	Plain                             unsafe.Pointer // barrier.Word
}

// View returns the part of the worker that C uses. It stays pinned until the
// worker is closed or detached.
func (w *Worker) View() WorkerView {
	w.pinned.Unpin()
	w.pinned.Pin(unsafe.Pointer(w.reader))
	w.pinned.Pin(unsafe.Pointer(w))
	s := w.sec
	r := WorkerView{Keys: unsafe.Pointer(&s.keys), Halves: unsafe.Pointer(&s.derived), Area: unsafe.Pointer(&s.area), Scratch: unsafe.Pointer(&s.scratch), Msgs: unsafe.Pointer(&s.msgs), Number: w.number, AAD: unsafe.Pointer(&w.cipher.aad), Around: unsafe.Pointer(&w.around)}
	r.Active, r.Epoch, r.Waiting = w.reader.Words()
	r.Plain = barrier.Word()
	return r
}

// plans is common to senders and receivers: a cell in C's memory, in which the
// executor finds the object's plan. Whenever keys of one of the object's groups
// change, a new plan is made from the keys in force, and stored in the cell before
// the old keys may be wiped. A burst that still finds the old plan has announced
// itself before that. The old plan is retired as the keys are.
type plans struct {
	mu     sync.Mutex
	cell   *uintptr
	direct uintptr
	free   func() // frees the plan in the cell
	pin    runtime.Pinner
}

// publish stores a plan in the cell and retires the one before; 0: no plan. mu is
// held.
func (p *plans) publish(plan uintptr, free func()) {
	old := p.free
	p.free = free
	atomic.StoreUintptr(p.cell, plan)
	if old != nil {
		keys.Retire(old)
	}
}

// unplan removes the plan and forgets the cell. It reports whether there was one.
func (p *plans) unplan() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cell == nil {
		return false
	}
	p.publish(0, nil)
	p.cell = nil
	keys.Retire(p.pin.Unpin)
	return true
}

type sealPlans struct{ plans }

type openPlans struct {
	plans
	early bool // there are groups whose keys are not watched yet: their plan would be made anew for each
}

// Plan publishes the sender's plans in cell until Unplan. direct is the address of
// the backend's kernel.Direct.
func (s *Sender) Plan(cell *uintptr, direct uintptr) {
	p := &s.plans
	p.mu.Lock()
	p.cell, p.direct = cell, direct
	p.pin.Pin(unsafe.Pointer(s))
	p.pin.Pin(unsafe.Pointer(s.Counter))
	p.mu.Unlock()
	if s.Group != nil {
		s.Group.Watch(unsafe.Pointer(s), s.replan)
	} else {
		s.replan()
	}
}

// Unplan ends Plan.
func (s *Sender) Unplan() {
	if s.Group != nil {
		s.Group.Unwatch(unsafe.Pointer(s))
	}
	s.plans.unplan()
}

// replan publishes the plan for the keys in force.
func (s *Sender) replan() {
	p := &s.plans
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cell == nil {
		return
	}
	var snap *keys.Snapshot
	area := uintptr(0)
	if s.Group != nil {
		snap = s.Group.Snapshot()
	} else {
		area = uintptr(unsafe.Pointer(s.Expanded.area))
	}
	if snap != nil && snap.Sealing != status.OK { // the general path says why not
		p.publish(0, nil)
		return
	}
	o := s.Counter
	if s.Renew != nil {
		c := status.ErrNoKey
		if snap.Slot[snap.Current].Present {
			o, c = s.Renew(snap)
		}
		if c != status.OK {
			p.publish(0, nil)
			return
		}
	}
	to := profile.PlanSeal(s.Backend, s.Sealing, snap, area, o.Epoch())
	if to == nil {
		p.publish(0, nil)
		return
	}
	next, limit, m := o.Words()
	by, octets, shares := s.Stats.words()
	to.Keep(unsafe.Pointer(o))
	to.Counted(p.direct, uintptr(next), uintptr(limit), by, octets, shares, m, o.Serial())
	to.Publish()
	p.publish(uintptr(unsafe.Pointer(to)), to.Free)
}

// Plan is Sender.Plan for a receiver.
func (r *Receiver) Plan(cell *uintptr, direct uintptr) {
	p := &r.plans
	p.mu.Lock()
	p.cell, p.direct = cell, direct
	p.pin.Pin(unsafe.Pointer(r))
	if r.Windows != nil {
		p.pin.Pin(unsafe.Pointer(r.Windows.table))
	}
	if r.Times != nil {
		p.pin.Pin(unsafe.Pointer(r.Times.table))
	}
	for _, g := range r.Groups {
		if d := g.Params().State; d != nil {
			p.pin.Pin(unsafe.Pointer(d))
		}
	}
	p.mu.Unlock()
	for i, g := range r.Groups {
		p.mu.Lock()
		p.early = i+1 < len(r.Groups)
		p.mu.Unlock()
		g.Watch(unsafe.Pointer(r), r.replan)
	}
	if len(r.Groups) == 0 {
		r.replan()
	}
}

// Unplan ends Plan.
func (r *Receiver) Unplan() {
	for _, g := range r.Groups {
		g.Unwatch(unsafe.Pointer(r))
	}
	r.plans.unplan()
}

// Replan makes the plan anew after a change of something other than keys, such as
// own IDs.
func (r *Receiver) Replan() { r.replan() }

func (r *Receiver) replan() {
	p := &r.plans
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cell == nil || p.early {
		return
	}
	// Keys of another group may change meanwhile: then that group calls replan again.
	var snaps []*keys.Snapshot
	for _, g := range r.Groups {
		snaps = append(snaps, g.Snapshot())
	}
	area := uintptr(0)
	if len(r.Groups) == 0 {
		area = uintptr(unsafe.Pointer(r.Expanded.area))
	}
	to := profile.PlanOpen(r.Backend, r.Opening, snaps, area)
	if to == nil {
		p.publish(0, nil)
		return
	}
	for x := to; x != nil; x = x.Loose {
		if d := r.Backend.Direct; d != nil {
			x.Wide = uint8(d.Wide)
		}
		hash := func(name0, name1 uint64) uint64 { return 0 }
		if v := r.Windows.view(); v != nil {
			x.Windows = uintptr(unsafe.Pointer(v))
			hash = r.Windows.table.HashName
		}
		if r.Times != nil {
			x.Times = uintptr(unsafe.Pointer(&r.Times.table.View))
			hash = r.Times.table.HashName
		}
		x.EachPattern(func(p *plan.Pattern) { p.Hash = hash(p.Name[0], p.Name[1]) })
		x.Direct = p.direct
		x.By, x.Octets, x.Shares = r.Stats.words()
		x.Refused = uintptr(unsafe.Pointer(&r.refused))
		x.TallyOf = uintptr(unsafe.Pointer(&inDomain))
		x.Strangers = uintptr(unsafe.Pointer(&r.strangers))
	}
	if !to.Finish() {
		to.Free() // of what it has kept already
		p.publish(0, nil)
		return
	}
	p.publish(uintptr(unsafe.Pointer(to)), to.Free)
}

// Window finds or makes the window of a packet that C has opened, and returns its
// address, or 0 if there is no room. It also frees windows of wiped keys; their
// room is there after C's burst.
func (r *Receiver) Window(k unsafe.Pointer) uintptr {
	r.Windows.tidy(r.Groups)
	return r.Windows.insert(k)
}
