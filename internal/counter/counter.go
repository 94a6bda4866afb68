// Package counter owns nonce counters. It allocates runs of (Epoch, Counter)
// values, and no value twice: not to two threads, not after a crash, and not
// when the space runs out. See formats.md, section 1.5.
package counter

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"libeesp/internal/ktime"
	"libeesp/internal/plan"
	"libeesp/internal/status"
)

// Mode is how a restarted sender avoids counters that were used.
type Mode uint8

// The modes.
const (
	Clock    Mode = iota // counters follow the wall clock
	Reserved             // a file holds a mark above all counters used
	Explicit             // the caller says where to start
)

const (
	bits = 48 // octets 2..7 of Epoch || Counter

	// DefaultRateLog2 is the clock mode's ticks per second without engine
	// bits: 2^28, so that an epoch lasts 2^20 seconds.
	DefaultRateLog2 = 28
	// MinRateLog2 and MaxRateLog2 bound a configured rate.
	MinRateLog2 = 10
	MaxRateLog2 = 32
	// MaxEngineBits bounds the engines that may share one ID.
	MaxEngineBits = 16
	// DefaultRun is how many counters the reserved mode claims at a time.
	DefaultRun = 1 << 24

	// MaxTimedBits bounds them where counters are times: an engine then has 2^18
	// counters a second.
	MaxTimedBits = 10

	// LookEvery bounds the packets sent between two looks at the clock.
	LookEvery = 1 << 12
	// Idle is how long after the last look a sender counts as one that lags.
	Idle = int64(time.Second)
	// Lag is by how many seconds counters may be behind the clock, in its epoch. Those
	// of most senders always are; each time they move up to it, packets that other
	// threads have under way become too old for replay windows.
	Lag = 60
)

// Direction is the top bit of a counter, where packets say by it which way they
// go.
type Direction uint8

// The directions.
const (
	NoDirection Direction = iota // the bit is part of the number
	TopClear
	TopSet
)

// Config describes a counter space.
type Config struct {
	Mode       Mode
	EngineBits uint8  // lowest bits of Counter, which name the engine
	Engine     uint32 // this engine's number
	Direction  Direction
	// FixedEpoch: the sender stays in Epoch.
	// Otherwise (clock mode only) the epoch follows from the clock: the counter
	// as a whole is the time since 1970 in units of 1/2^(RateLog2+EngineBits) s.
	FixedEpoch bool
	Epoch      uint16
	EpochStart time.Time // clock mode with a fixed epoch
	RateLog2   uint8     // clock mode; 0 = DefaultRateLog2 - EngineBits, and less 1 with a direction
	Start      uint64    // explicit mode: first counter, without engine bits
	First      uint64    // no value below this one is given out; without engine bits
	Path       string    // reserved mode: the file
	Run        uint64    // reserved mode; 0 = DefaultRun
	LockDir    string    // where the host remembers which IDs are in use; "" = nowhere
	Limit      uint64    // counters are below this one; 0 = all of them may be used
	Resume     bool      // go on above counters that this process has used under the name

	// Timed (clock mode): a counter is the time at which its packet was sealed, not
	// before it, and at most Lead after it. Wait is the largest lead that an
	// earlier sender of this ID may have had.
	Timed      bool
	Lead, Wait time.Duration
}

// Check says what is wrong with a configuration.
func (c Config) Check() error { return c.check() }

// Keys tells apart the keys that a sender seals with, by names that do not give
// them away and that another process comes to as well.
type Keys interface {
	// InUse is the key that seals; false: there is none.
	InUse() (name [16]byte, ok bool)
	// All are the keys that may be in use: before and after a rotation too.
	All() [][16]byte
}

// Map turns linear values, the epoch above a counter without engine bits, into
// Epoch || Counter.
type Map struct {
	Fixed uint64 // direction and engine
	Shift uint64 // bits of a linear value below the epoch
	Low   uint64 // engine bits
}

// newMap is the one place that says where the parts of a counter are: the
// direction on top, then what counts, and the engine's number lowest. So a
// counter rises with time whatever the number of engine bits.
func newMap(c *Config) Map {
	m := Map{Fixed: uint64(c.Engine), Shift: bits - uint64(c.EngineBits), Low: uint64(c.EngineBits)}
	if c.Direction != NoDirection {
		m.Shift--
		m.Fixed |= uint64(c.Direction-TopClear) << (bits - 1)
	}
	return m
}

// TSC makes the header's Epoch || Counter of a linear value.
func (m Map) TSC(linear uint64) uint64 {
	return linear>>(m.Shift&63)<<bits | m.Fixed | linear&(1<<(m.Shift&63)-1)<<(m.Low&63)
}

// Step is what lies between two values of an epoch that follow one another.
func (m Map) Step() uint64 { return 1 << (m.Low & 63) }

// Owner gives out counters. Its methods may be called at any time by any
// goroutine.
type Owner struct {
	next  atomic.Uint64
	limit atomic.Uint64 // exclusive; beyond it more has to be asked for; 0: closed
	last  atomic.Int64  // newest wall-clock reading, ns
	ahead atomic.Uint64 // counters that may be given out without a look at the clock
	soft  atomic.Uint64 // reserved mode: beyond it more is asked for beside bursts; not above limit
	_     [24]byte
	m     Map
	timed bool
	lead  uint64 // ticks
	freed atomic.Bool
	asked atomic.Bool // more, beside bursts

	stopped atomic.Int32 // a status: no more counters are given out, see Rebind

	serial uint64

	mu    sync.Mutex
	cfg   Config
	end   uint64 // exclusive; the space ends here
	file  *markFile
	locks *idLocks // nil: there are none
	place place    // see Share
	refs  int
	start uint64      // first value that could be given out
	gone  atomic.Bool // the one value that no limit can be above, see spare
}

var serials atomic.Uint64 // given to owners so far

// wall is the clock; tests replace it.
var wall = func() int64 { return time.Now().UnixNano() }

func bad(f string, a ...any) error {
	return fmt.Errorf("%w: %s", status.ErrArgument, fmt.Sprintf(f, a...))
}

func (c *Config) check() error {
	most := uint8(MaxEngineBits)
	if c.Direction != NoDirection {
		most--
	}
	switch {
	case c.Mode > Explicit:
		return bad("counter mode %d", c.Mode)
	case c.Direction > TopSet:
		return bad("direction %d", c.Direction)
	case c.EngineBits > most:
		return bad("engine bits %d: at most %d", c.EngineBits, most)
	}
	shift := uint8(newMap(c).Shift)
	switch {
	case c.Engine>>c.EngineBits != 0:
		return bad("engine %d does not fit in %d engine bits", c.Engine, c.EngineBits)
	case c.Mode != Clock && c.Timed:
		return bad("counter mode: where counters are times, they follow the clock")
	case c.Mode != Clock && c.RateLog2 != 0:
		return bad("a rate goes with clock mode only")
	case c.Mode != Explicit && c.Start != 0:
		return bad("a start counter goes with explicit mode only")
	case c.Mode != Reserved && (c.Path != "" || c.Run != 0):
		return bad("a state file goes with reserved mode only")
	case c.Mode == Reserved && c.Path == "":
		return bad("reserved mode needs the path of a state file")
	case c.Mode == Explicit && c.Start>>shift != 0:
		return bad("start counter %d does not fit in %d bits", c.Start, shift)
	case c.Mode != Clock && !c.FixedEpoch && c.Epoch != 0:
		return bad("epoch without a fixed epoch")
	case c.First != 0 && c.EngineBits != 0:
		return bad("a least value goes without engine bits")
	case c.Limit > 1<<bits:
		return bad("counter limit %#x: at most 2^48", c.Limit)
	case c.Limit != 0 && !c.FixedEpoch && c.Mode == Clock:
		return bad("a counter limit goes with a fixed epoch only")
	case c.Run > 1<<40:
		return bad("reserve run %d: at most 2^40", c.Run)
	}
	if c.Mode != Clock {
		c.FixedEpoch = true
		if c.Mode == Reserved && c.Run == 0 {
			c.Run = DefaultRun
		}
		return nil
	}
	if c.RateLog2 == 0 {
		c.RateLog2 = DefaultRateLog2 - (bits - shift)
	}
	if c.Timed {
		switch {
		case c.RateLog2 != DefaultRateLog2-(bits-shift):
			return bad("rate: where counters are times it is 2^28 a second, for all engines together")
		case c.EngineBits > MaxTimedBits:
			return bad("engine bits %d: at most %d where counters are times", c.EngineBits, MaxTimedBits)
		case c.FixedEpoch && !c.EpochStart.Equal(time.Unix(int64(c.Epoch)<<20, 0)):
			return bad("epoch start: where counters are times, epoch %d began %d seconds after 1970", c.Epoch, int64(c.Epoch)<<20)
		}
	}
	if c.RateLog2 < MinRateLog2 || c.RateLog2 > MaxRateLog2 {
		return bad("rate 2^%d: from 2^%d to 2^%d", c.RateLog2, MinRateLog2, MaxRateLog2)
	}
	if c.FixedEpoch {
		if s := c.EpochStart; !time.Unix(0, s.UnixNano()).Equal(s) {
			return bad("epoch start: clock mode with a fixed epoch needs one that is between 1678 and 2262, the same at every start")
		}
	} else {
		// Epochs counted from 1970 must not come round again: 2^16 epochs of
		// 2^(shift-rate) seconds have to last for at least 2^32 s.
		if 16+int(shift)-int(c.RateLog2) < 32 {
			return bad("rate 2^%d with %d engine bits: epochs would repeat; lower the rate or give an epoch", c.RateLog2, c.EngineBits)
		}
		if c.Epoch != 0 || !c.EpochStart.IsZero() {
			return bad("epoch or epoch start without a fixed epoch")
		}
	}
	return nil
}

// New makes an owner that nothing else knows of; see Share.
func New(c Config) (*Owner, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	return newOwner("", c, nil)
}

// newOwner makes the owner of a name; c was checked.
func newOwner(name string, c Config, keys Keys) (o *Owner, err error) {
	o = &Owner{cfg: c, m: newMap(&c), refs: 1, serial: serials.Add(1), timed: c.Timed}
	if c.LockDir != "" {
		o.locks = &idLocks{dir: c.LockDir, name: name, cfg: &o.cfg, keys: keys}
		if _, err := o.locks.follow(); err != nil {
			return nil, err
		}
	}
	if err := o.begin(name, keys); err != nil {
		o.close()
		return nil, err
	}
	return o, nil
}

// base is the first linear value of the fixed epoch.
func (o *Owner) base() uint64 {
	if !o.cfg.FixedEpoch {
		return 0
	}
	return uint64(o.cfg.Epoch) << o.m.Shift
}

// bound sets where the space ends.
func (o *Owner) bound() {
	switch {
	case o.cfg.FixedEpoch:
		n := uint64(1) << o.m.Shift
		if l := o.cfg.Limit; l != 0 { // on the wire, with the engine's number
			step := o.m.Step()
			n = min(n, (max(l, uint64(o.cfg.Engine))-uint64(o.cfg.Engine)+step-1)/step)
		}
		o.end = o.base() + n
	case o.m.Shift != bits:
		o.end = 1 << (16 + o.m.Shift)
	default:
		o.end = 0
	}
	if o.end == 0 { // no engine bits: stay below 2^64
		o.end--
	}
}

// spare reports whether the last of 2^64 values can be had: no limit is above it,
// so that it is the slow way's to give out. No mark in a file could say that it
// was used.
func (o *Owner) spare() bool {
	return o.end == ^uint64(0) && o.cfg.FixedEpoch && o.cfg.Limit == 0 && o.cfg.Mode == Explicit && !o.gone.Load()
}

// takeSpare claims it, if all below were given out.
func (o *Owner) takeSpare() bool {
	return o.next.Load() == ^uint64(0) && o.spare() && o.gone.CompareAndSwap(false, true)
}

// resume moves next above counters below a mark, which is of Epoch || Counter,
// and returns the first that may be given out.
func (o *Owner) resume(mark uint64) uint64 {
	last := mark - 1
	if last>>bits != o.TSC(o.next.Load())>>bits {
		return o.TSC(o.next.Load())
	}
	count := last & (1<<bits - 1)
	if o.cfg.Direction != NoDirection {
		count &= 1<<(bits-1) - 1
	}
	o.raise(min(o.base()+count>>o.m.Low+1, o.end))
	return o.TSC(o.next.Load())
}

func (o *Owner) begin(name string, keys Keys) error {
	c := &o.cfg
	o.bound()
	base := o.base()
	switch c.Mode {
	case Explicit:
		o.next.Store(max(base+c.Start, c.First))
		o.limit.Store(o.end)
	case Reserved:
		f, mark, err := openMark(name, c, keys)
		if err != nil {
			return err
		}
		o.file = f
		if mark > o.end-base {
			return fmt.Errorf("%w: %s: mark beyond the counter space", status.ErrState, c.Path)
		}
		start := max(base+mark, c.First)
		o.next.Store(start)
		o.limit.Store(start)
		if code := o.claim(start, 1); code != status.OK && code != status.ErrExhausted {
			return fmt.Errorf("%w: %s: %v", status.ErrState, c.Path, f.lastErr)
		}
	case Clock:
		if c.Timed {
			return o.beginTimed()
		}
		o.last.Store(wall())
		t, err := o.ticks(o.last.Load())
		if err != nil {
			return err
		}
		start := t + 1<<c.RateLog2
		if c.EngineBits != 0 {
			start++ // above what others with fewer bits had in this tick
		}
		if start > o.end || start < t {
			start = o.end
		}
		start = max(start, c.First)
		o.next.Store(start)
		o.limit.Store(start)
		// Let some ticks pass, so that the first bursts find counters: a
		// sender may not use more than have passed since it started.
		ktime.Nap(min(2*time.Millisecond, time.Duration(1<<40>>c.RateLog2)))
	}
	return nil
}

// ticks converts a wall-clock reading to a linear value.
func (o *Owner) ticks(ns int64) (uint64, error) {
	base, since := o.base(), ns
	if o.cfg.FixedEpoch {
		since = ns - o.cfg.EpochStart.UnixNano()
	}
	if since < 0 {
		return 0, fmt.Errorf("%w: the clock is before the epoch's start", status.ErrClock)
	}
	sec, frac := uint64(since/1e9), uint64(since%1e9)
	// frac < 2^30 and the rate at most 2^32: no overflow. sec is bounded by
	// the space, which the caller checks against end.
	t := sec<<o.cfg.RateLog2 + frac<<o.cfg.RateLog2/1e9
	if sec>>(64-o.cfg.RateLog2) != 0 || base+t < base {
		return o.end, nil
	}
	return base + t, nil
}

// Take claims up to n counters that follow one another and returns the first
// (linear) and how many. If that is less than n, the code says why.
func (o *Owner) Take(n int) (uint64, int, status.Code) {
	if o.timed {
		return o.takeTimed(n)
	}
	for {
		at := o.next.Load()
		if end := at + uint64(n); end <= o.limit.Load() && end >= at {
			if o.next.CompareAndSwap(at, end) {
				if o.cfg.Path != "" && end > o.soft.Load() {
					o.askAhead()
				}
				return at, n, status.OK
			}
			continue
		}
		if code := o.extend(n); code != status.OK {
			return o.takeLast(n, o.why(code))
		}
	}
}

// takeRest claims what is left below the limit.
func (o *Owner) takeLast(n int, code status.Code) (uint64, int, status.Code) {
	for {
		at, limit := o.next.Load(), o.limit.Load()
		if at >= limit {
			if at == ^uint64(0) && o.takeSpare() {
				if n == 1 {
					code = status.OK
				}
				return at, 1, code
			}
			return 0, 0, code
		}
		k := min(uint64(n), limit-at)
		if o.next.CompareAndSwap(at, at+k) {
			if k < uint64(n) && o.takeSpare() {
				k++
			}
			if k == uint64(n) {
				code = status.OK
			}
			return at, int(k), code
		}
	}
}

// extend tries to move the limit beyond the next n values.
func (o *Owner) extend(n int) status.Code {
	o.mu.Lock()
	defer o.mu.Unlock()
	at := o.next.Load()
	if o.limit.Load() >= at+uint64(n) && at+uint64(n) >= at {
		return status.OK // another thread did
	}
	if code := o.why(status.OK); code != status.OK {
		return code
	}
	switch o.cfg.Mode {
	case Clock:
		return o.look(n)
	case Reserved:
		return o.claim(at, n)
	}
	return status.ErrExhausted
}

// look reads the clock, moves next up to it if it lags, and the limit to at
// most one second ahead of it.
func (o *Owner) look(n int) status.Code {
	last := o.last.Load() // before the clock: C looks at it, too, and takes no lock
	t := wall()
	if t < last {
		return status.ErrClock
	}
	since := t - last
	for last < t && !o.last.CompareAndSwap(last, t) {
		last = o.last.Load()
	}
	ticks, err := o.ticks(t)
	if err != nil {
		return status.ErrClock
	}
	// So epochs follow the clock, however few packets there are. What was given
	// out lies below, and stays below where a restart begins.
	if at := o.next.Load(); ticks > at && (ticks-at > Lag<<o.cfg.RateLog2 || ticks>>o.m.Shift != at>>o.m.Shift) {
		o.raise(min(ticks, o.end))
	}
	at := o.next.Load()
	top := ticks + 1<<o.cfg.RateLog2
	code := status.ErrClock
	if top >= o.end || top < ticks {
		top, code = o.end, status.ErrExhausted
	}
	// Not too far ahead: a clock that steps back should be seen soon, and a
	// sender that is slow should not lag for long.
	ahead := min(2*o.ahead.Load()+uint64(n), LookEvery)
	if since >= Idle {
		ahead = 0
	}
	o.ahead.Store(ahead)
	limit := top
	if want := max(at, o.limit.Load()) + uint64(n) + ahead; want < top && want > at {
		limit = want
	}
	for was := o.limit.Load(); was < limit && !o.limit.CompareAndSwap(was, limit); {
		was = o.limit.Load()
	}
	if at+uint64(n) > limit || at+uint64(n) < at {
		return code
	}
	return status.OK
}

// raise moves next up to a value.
func (o *Owner) raise(to uint64) {
	for {
		at := o.next.Load()
		if at >= to || o.next.CompareAndSwap(at, to) {
			return
		}
	}
}

// claim writes a mark above at+n before any counter below it is used.
func (o *Owner) claim(at uint64, n int) status.Code {
	limit := o.limit.Load()
	top := o.end
	if want := max(at, limit) + uint64(n) + o.cfg.Run; want < o.end && want > at {
		top = want
	}
	if top > limit {
		if err := o.file.write(o.cfg.Epoch, top-o.base()); err != nil {
			return status.ErrState
		}
		o.limit.Store(top)
		o.soft.Store(max(limit, top-min(top, o.cfg.Run/2)))
	}
	if end := at + uint64(n); end > top || end < at {
		return status.ErrExhausted
	}
	return status.OK
}

// askAhead claims the next run in the background, while bursts use up what is left of
// this one. A burst that comes to its end before waits for the file.
func (o *Owner) askAhead() {
	if !o.asked.CompareAndSwap(false, true) {
		return
	}
	// Ask no more until there is an answer; what was lowered meanwhile stays low.
	if soft, limit := o.soft.Load(), o.limit.Load(); soft != 0 {
		o.soft.CompareAndSwap(soft, limit)
	}
	go func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		defer o.asked.Store(false)
		if !o.freed.Load() && o.why(status.OK) == status.OK && o.cfg.Mode == Reserved {
			o.claim(o.next.Load(), 0) // if that fails, so does the one that waits, which says so
		}
	}()
}

// Rebind writes the key that is in use now to the state file, and moves the locks to those
// of the keys that may be; done gives the locks of others up, which is for when no
// burst uses those keys any more. If the file cannot be written, no more counters
// are given out until a write succeeds; if another process has the ID under a new
// key, none are any more.
func (o *Owner) Rebind() (done func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	done = func() {}
	if o.freed.Load() {
		return done
	}
	if o.locks != nil {
		gone, err := o.locks.follow()
		if err != nil {
			code := status.ErrState
			errors.As(err, &code)
			o.stop(code)
		}
		done = func() { release(gone) }
	}
	if o.file == nil || o.cfg.Mode != Reserved || o.file.bound() {
		return done
	}
	if o.file.write(o.cfg.Epoch, o.limit.Load()-o.base()) != nil {
		o.soft.Store(0)
		o.limit.Store(min(o.limit.Load(), o.next.Load()))
	}
	return done
}

// stop has no more counters be given out; mu is held.
func (o *Owner) stop(why status.Code) {
	o.stopped.Store(int32(why))
	o.soft.Store(0)
	o.limit.Store(0)
	o.gone.Store(true)
}

// why is the code that says why there are no counters: code, if it did not stop.
func (o *Owner) why(code status.Code) status.Code {
	if s := status.Code(o.stopped.Load()); s != status.OK {
		return s
	}
	return code
}

// Rebinds reports whether keys that change matter: to a state file, or to locks.
func (o *Owner) Rebinds() bool { return o.cfg.Path != "" || o.cfg.LockDir != "" }

// TSC makes the header's Epoch || Counter of a linear value.
func (o *Owner) TSC(linear uint64) uint64 { return o.m.TSC(linear) }

// Map returns what a loop over many values needs to do as TSC does.
func (o *Owner) Map() Map { return o.m }

// Words are what Take needs to be done elsewhere: where the next value and the
// limit are, and Map as data.
func (o *Owner) Words() (next, limit unsafe.Pointer, m plan.Counter) {
	m = plan.Counter{Engine: o.m.Fixed, Step: o.m.Step(), Shift: uint8(o.m.Shift), Low: uint8(o.m.Low)}
	limit = unsafe.Pointer(&o.limit)
	switch {
	case o.cfg.Mode == Reserved:
		limit = unsafe.Pointer(&o.soft)
	case o.timed:
		m.Rate, m.TimeLead = o.cfg.RateLog2, o.lead
	case o.cfg.Mode == Clock:
		m.Rate, m.Last, m.Ahead, m.Base, m.End = o.cfg.RateLog2, uintptr(unsafe.Pointer(&o.last)), uintptr(unsafe.Pointer(&o.ahead)), o.base(), o.end
		if o.cfg.FixedEpoch {
			m.Start = o.cfg.EpochStart.UnixNano()
		}
	}
	return unsafe.Pointer(&o.next), limit, m
}

// Peek returns Epoch || Counter of the next packet, if no one else sends.
func (o *Owner) Peek() uint64 { return o.TSC(o.next.Load()) }

// Serial is no other owner's.
func (o *Owner) Serial() uint64 { return o.serial }

// Epoch is the one that counters stay in, if they do.
func (o *Owner) Epoch() uint16 { return o.cfg.Epoch }

// Now is the wall clock, ns since 1970.
func Now() int64 { return wall() }

// beginTimed waits until all counters that an earlier sender may have had are
// times that have passed, in place of starting ahead of the clock.
func (o *Owner) beginTimed() error {
	ktime.Nap(o.cfg.Wait)
	t, err := o.ticks(wall())
	if err != nil {
		return err
	}
	o.lead = uint64(o.cfg.Lead) << o.cfg.RateLog2 / 1e9 // both small
	o.next.Store(min(t, o.end))
	o.limit.Store(o.end)
	return nil
}

// takeTimed is Take where counters are times. The clock is read each time: a
// sender that has been idle must not send what is old.
func (o *Owner) takeTimed(n int) (uint64, int, status.Code) {
	for {
		// Before the clock: what others take while this thread does not run lies ahead
		// of a time that was read before.
		at, end := o.next.Load(), o.limit.Load() // 0 when it is closed
		t, err := o.ticks(wall())
		if err != nil {
			return 0, 0, status.ErrClock
		}
		first, k, code := max(at, t), uint64(n), status.OK
		if top := min(t+o.lead, end); first+k > top || first+k < first {
			code = status.ErrClock // faster than its rate, or the clock was set back
			if top == end {
				code = status.ErrExhausted
			}
			if first >= top {
				return 0, 0, o.why(code)
			}
			k = top - first
		}
		if o.next.CompareAndSwap(at, first+k) {
			return first, int(k), code
		}
	}
}
