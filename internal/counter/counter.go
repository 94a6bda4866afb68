// Package counter owns nonce counters. It allocates runs of (Epoch, Counter)
// values, and no value twice: not to two threads, not after a crash, and not
// when the space runs out. See formats.md, section 1.5.
package counter

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"libeesp/internal/ktime"
	"libeesp/internal/plan"
	"libeesp/internal/say"
	"libeesp/internal/status"
)

// Mode says how a restarted sender avoids counters that were used.
type Mode uint8

// The modes.
const (
	Clock    Mode = iota // counters follow the wall clock
	Reserved             // a file holds a mark above all counters that may have been used
	Explicit             // the caller sets the first counter
)

const (
	bits = 48 // of Counter, in Epoch || Counter

	// DefaultRateLog2 is log2 of the clock mode's ticks a second without engine
	// bits. With it an epoch lasts 2^20 seconds.
	DefaultRateLog2 = 28
	// MinRateLog2 and MaxRateLog2 bound a configured rate.
	MinRateLog2 = 10
	MaxRateLog2 = 32
	// MaxEngineBits bounds the number of engines of one ID: 2^16.
	MaxEngineBits = 16
	// DefaultRun is how many counters the reserved mode claims at a time.
	DefaultRun = 1 << 24

	// MaxTimedBits bounds engine bits where counters are times. With so many, an
	// engine has 2^18 counters a second.
	MaxTimedBits = 10

	// LookEvery bounds the packets between two readings of the clock.
	LookEvery = 1 << 12
	// Idle is how long, in ns, a sender may go without reading the clock. After a longer time
	// a look at the clock allows no values ahead, so the next packets look again.
	Idle = int64(time.Second)
	// Lag is how many seconds counters may be behind the clock within an epoch. Most senders
	// use fewer counters than the clock allows. Each skip to the clock makes packets that other
	// threads have not sent yet too old for replay windows.
	Lag = 60
)

// Direction is the top bit of a counter, where it tells the direction of packets.
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
	// FixedEpoch says that the sender stays in Epoch. Otherwise (clock mode only) the
	// epoch follows the clock: Epoch and Counter together are the time since 1970 in
	// units of 1/2^(RateLog2+EngineBits) s.
	FixedEpoch bool
	Epoch      uint16
	EpochStart time.Time // clock mode with a fixed epoch
	RateLog2   uint8     // clock mode; 0 = DefaultRateLog2 - EngineBits, less 1 with a direction
	Start      uint64    // explicit mode: first counter, without engine bits
	First      uint64    // no lower value is given out; only without engine bits
	Path       string    // reserved mode: the file
	Run        uint64    // reserved mode: counters claimed at a time; 0 = DefaultRun
	LockDir    string    // directory of the host's locks on IDs; "" = none
	Limit      uint64    // counters are below it; 0 = no limit
	Resume     bool      // begin above counters that this process has used under the name

	// Timed (clock mode) says that a counter is a time: not before its packet is sealed,
	// and at most Lead after. Wait is the greatest lead that an earlier sender of this ID
	// may have had.
	Timed      bool
	Lead, Wait time.Duration
}

// Check returns ErrArgument, and what is wrong, if a configuration is not valid.
func (c Config) Check() error { return c.check() }

// Keys names the keys that a sender seals with. Names do not reveal keys, and are the
// same in every process.
type Keys interface {
	// InUse returns the key that seals now; false: there is none.
	InUse() (name [16]byte, ok bool)
	// All returns the keys that may seal, before and after a rotation too.
	All() [][16]byte
}

// Map maps linear values to Epoch || Counter. A linear value is the epoch above a
// counter without direction and engine bits.
type Map struct {
	Fixed uint64 // direction and engine, in their places
	Shift uint64 // bits of a linear value below the epoch
	Low   uint64 // engine bits
}

// newMap decides where the parts of a counter are: the direction highest, then the
// number, and the engine lowest. So counters rise with time whatever the engine bits.
func newMap(c *Config) Map {
	m := Map{Fixed: uint64(c.Engine), Shift: bits - uint64(c.EngineBits), Low: uint64(c.EngineBits)}
	if c.Direction != NoDirection {
		m.Shift--
		m.Fixed |= uint64(c.Direction-TopClear) << (bits - 1)
	}
	return m
}

// TSC returns Epoch || Counter of a linear value.
func (m Map) TSC(linear uint64) uint64 {
	return linear>>(m.Shift&63)<<bits | m.Fixed | linear&(1<<(m.Shift&63)-1)<<(m.Low&63)
}

// Step is the difference of Epoch || Counter between linear values that follow one
// another in an epoch.
func (m Map) Step() uint64 { return 1 << (m.Low & 63) }

// Owner gives out counters. Its methods may be called at any time by any
// goroutine.
type Owner struct {
	next  atomic.Uint64
	limit atomic.Uint64 // values below it may be given out; then extend; 0: closed
	last  atomic.Int64  // newest reading of the wall clock, ns
	ahead atomic.Uint64 // how many values the last look allowed beyond those asked for
	soft  atomic.Uint64 // reserved mode: from this value on, askAhead is called; at most limit
	_     [24]byte
	m     Map
	timed bool
	lead  uint64 // ticks
	freed atomic.Bool
	asked atomic.Bool // askAhead is at work

	stopped atomic.Int32 // a status, if no more counters are given out: see stop

	serial uint64

	mu    sync.Mutex
	cfg   Config
	end   uint64 // values are below it
	file  *markFile
	locks *idLocks // nil: there are none
	place place    // see Share
	refs  int
	start uint64      // first value that could be given out
	gone  atomic.Bool // the spare value was given out, see spare
}

var serials atomic.Uint64 // of owners so far

// wall is the clock; tests replace it.
var wall = func() int64 { return time.Now().UnixNano() }

func bad(f string, a ...any) error {
	return say.Errorf("%w: %s", status.ErrArgument, say.Sprintf(f, a...))
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
		// Epochs counted from 1970 must not repeat: 2^16 epochs of 2^(shift-rate)
		// seconds must last at least 2^32 s.
		if 16+int(shift)-int(c.RateLog2) < 32 {
			return bad("rate 2^%d with %d engine bits: epochs would repeat; lower the rate or give an epoch", c.RateLog2, c.EngineBits)
		}
		if c.Epoch != 0 || !c.EpochStart.IsZero() {
			return bad("epoch or epoch start without a fixed epoch")
		}
	}
	return nil
}

// New makes an owner that is not shared; see Share. Errors are those of Share, except
// ErrExists for names.
func New(c Config) (*Owner, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	return newOwner("", c, nil)
}

// newOwner makes the owner of a name. c must have been checked.
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

// bound sets end.
func (o *Owner) bound() {
	switch {
	case o.cfg.FixedEpoch:
		n := uint64(1) << o.m.Shift
		if l := o.cfg.Limit; l != 0 { // of Counter, which has the engine's number
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

// spare reports whether the last of 2^64 values can be given out. No limit can be above
// it, so takeLast gives it out. In reserved mode it is never used: no mark could be
// above it.
func (o *Owner) spare() bool {
	return o.end == ^uint64(0) && o.cfg.FixedEpoch && o.cfg.Limit == 0 && o.cfg.Mode == Explicit && !o.gone.Load()
}

// takeSpare claims it, if all lower values were given out.
func (o *Owner) takeSpare() bool {
	return o.next.Load() == ^uint64(0) && o.spare() && o.gone.CompareAndSwap(false, true)
}

// resume moves next above all counters below a mark of Epoch || Counter, and returns
// Epoch || Counter of next.
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
			return say.Errorf("%w: %s: mark beyond the counter space", status.ErrState, c.Path)
		}
		start := max(base+mark, c.First)
		o.next.Store(start)
		o.limit.Store(start)
		if code := o.claim(start, 1); code != status.OK && code != status.ErrExhausted {
			return say.Errorf("%w: %s: %v", status.ErrState, c.Path, f.lastErr)
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
			start++ // above counters of this tick that a sender with fewer engine bits had
		}
		if start > o.end || start < t {
			start = o.end
		}
		start = max(start, c.First)
		o.next.Store(start)
		o.limit.Store(start)
		// Let some ticks pass: a sender may not use more counters than ticks have passed
		// since it started, and the first bursts need some.
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
		return 0, say.Errorf("%w: the clock is before the epoch's start", status.ErrClock)
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

// Take claims up to n counters that follow one another. It returns the first, as a
// linear value, and how many it claimed. If that is less than n, the code says why:
// ErrExhausted, ErrClock, ErrState or ErrExists.
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

// takeLast claims the values that are left below the limit, up to n.
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

// extend tries to raise the limit above the next n values.
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

// look reads the clock. It moves next up to the clock if it is too far behind, and the
// limit up to at most one second ahead of it.
func (o *Owner) look(n int) status.Code {
	last := o.last.Load() // before the clock is read: C changes it, too, without the lock
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
	// So epochs follow the clock even if there are few packets. All values that were
	// given out are lower, and lower than the first one after a restart.
	if at := o.next.Load(); ticks > at && (ticks-at > Lag<<o.cfg.RateLog2 || ticks>>o.m.Shift != at>>o.m.Shift) {
		o.raise(min(ticks, o.end))
	}
	at := o.next.Load()
	top := ticks + 1<<o.cfg.RateLog2
	code := status.ErrClock
	if top >= o.end || top < ticks {
		top, code = o.end, status.ErrExhausted
	}
	// Not too far ahead: a step back of the clock should be seen soon, and slow senders
	// should not fall behind for long.
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

// claim writes a mark above at+n to the file, then raises the limit to it; mu is held.
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

// askAhead claims the next run in the background, while bursts use the rest of this one.
// A burst that reaches its end earlier waits for the file.
func (o *Owner) askAhead() {
	if !o.asked.CompareAndSwap(false, true) {
		return
	}
	// Do not ask again until this is done. If soft was lowered meanwhile, it stays.
	if soft, limit := o.soft.Load(), o.limit.Load(); soft != 0 {
		o.soft.CompareAndSwap(soft, limit)
	}
	go func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		defer o.asked.Store(false)
		if !o.freed.Load() && o.why(status.OK) == status.OK && o.cfg.Mode == Reserved {
			o.claim(o.next.Load(), 0) // on an error, a later extend fails too and returns it
		}
	}()
}

// Rebind follows a change of keys: it writes the name of the key in use to the state
// file, and locks the ID under new keys. done releases the locks under keys that are
// gone; call it when no burst uses them any more. If the file cannot be written, no
// counters are given out until a write succeeds. If another process has locked the ID
// under a new key, no counters are given out any more.
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

// stop ends giving out counters, with a status; mu is held.
func (o *Owner) stop(why status.Code) {
	o.stopped.Store(int32(why))
	o.soft.Store(0)
	o.limit.Store(0)
	o.gone.Store(true)
}

// why returns the status of stop, or code if there was none.
func (o *Owner) why(code status.Code) status.Code {
	if s := status.Code(o.stopped.Load()); s != status.OK {
		return s
	}
	return code
}

// Rebinds reports whether Rebind must be called when keys change.
func (o *Owner) Rebinds() bool { return o.cfg.Path != "" || o.cfg.LockDir != "" }

// TSC returns Epoch || Counter of a linear value.
func (o *Owner) TSC(linear uint64) uint64 { return o.m.TSC(linear) }

// Map returns the Map from linear values to Epoch || Counter.
func (o *Owner) Map() Map { return o.m }

// Words returns what C needs to take counters: the addresses of the next value and of
// the limit, and Map and clock as data.
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

// Peek returns Epoch || Counter of the next value.
func (o *Owner) Peek() uint64 { return o.TSC(o.next.Load()) }

// Serial returns a number that no other owner has.
func (o *Owner) Serial() uint64 { return o.serial }

// Epoch returns the fixed epoch, if there is one.
func (o *Owner) Epoch() uint16 { return o.cfg.Epoch }

// Now returns the wall clock in ns since 1970.
func Now() int64 { return wall() }

// beginTimed waits until all times that an earlier sender may have used have passed,
// instead of beginning ahead of the clock.
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

// takeTimed is Take where counters are times. It reads the clock each time: after a
// pause, next is an old time.
func (o *Owner) takeTimed(n int) (uint64, int, status.Code) {
	for {
		// next is read before the clock. Otherwise, if this thread were stopped in between,
		// others could move next ahead of the reading.
		at, end := o.next.Load(), o.limit.Load() // 0 when it is closed
		t, err := o.ticks(wall())
		if err != nil {
			return 0, 0, status.ErrClock
		}
		first, k, code := max(at, t), uint64(n), status.OK
		if top := min(t+o.lead, end); first+k > top || first+k < first {
			code = status.ErrClock // more packets than ticks, or the clock was set back
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
