// Package counter owns nonce counters: it gives out runs of (Epoch, Counter)
// values and never gives one twice, neither to two threads, nor after a crash,
// nor when the space runs out. See formats.md, section 1.5.
package counter

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"libeesp/internal/plan"
	"libeesp/internal/status"
)

// Mode is the way in which a restarted sender keeps off counters already used.
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

	// lookEvery bounds the packets sent between two looks at the clock.
	lookEvery = 1 << 16
)

// Config describes a counter space.
type Config struct {
	Mode       Mode
	EngineBits uint8  // top bits of Counter that name the engine
	Engine     uint32 // this engine's number
	// FixedEpoch: the sender stays in Epoch. Otherwise (clock mode only) the
	// epoch follows from the clock, in lengths of 2^(48-EngineBits) ticks since 1970.
	FixedEpoch bool
	Epoch      uint16
	EpochStart time.Time // clock mode with a fixed epoch
	RateLog2   uint8     // clock mode; 0 = DefaultRateLog2 - EngineBits
	Start      uint64    // explicit mode: first counter, without engine bits
	First      uint64    // no value below this one is given out; without engine bits
	Path       string    // reserved mode: the file
	Run        uint64    // reserved mode; 0 = DefaultRun
}

// Owner gives out counters. Its methods may be called at any time by any
// goroutine. Values are linear: epoch above 48-EngineBits bits of counter.
type Owner struct {
	next  atomic.Uint64
	limit atomic.Uint64 // exclusive; beyond it more has to be asked for
	_     [48]byte
	end   uint64 // exclusive; the space ends here
	shift uint8  // 48 - EngineBits
	eng   uint64 // engine number in its place

	mu    sync.Mutex
	cfg   Config
	last  int64 // newest wall-clock reading, ns
	file  *markFile
	place place // see Share
	refs  int
	start uint64 // first value that could be given out
}

// wall is the clock; tests replace it.
var wall = func() int64 { return time.Now().UnixNano() }

func bad(f string, a ...any) error {
	return fmt.Errorf("%w: %s", status.ErrArgument, fmt.Sprintf(f, a...))
}

func (c *Config) check() error {
	switch {
	case c.Mode > Explicit:
		return bad("counter mode %d", c.Mode)
	case c.EngineBits > MaxEngineBits:
		return bad("engine bits %d: at most %d", c.EngineBits, MaxEngineBits)
	case c.Engine>>c.EngineBits != 0:
		return bad("engine %d does not fit in %d engine bits", c.Engine, c.EngineBits)
	case c.Mode != Clock && c.RateLog2 != 0:
		return bad("a rate goes with clock mode only")
	case c.Mode != Explicit && c.Start != 0:
		return bad("a start counter goes with explicit mode only")
	case c.Mode != Reserved && (c.Path != "" || c.Run != 0):
		return bad("a state file goes with reserved mode only")
	case c.Mode == Reserved && c.Path == "":
		return bad("reserved mode needs the path of a state file")
	case c.Mode == Explicit && c.Start>>(bits-c.EngineBits) != 0:
		return bad("start counter %d does not fit in %d bits", c.Start, bits-c.EngineBits)
	case c.Mode != Clock && !c.FixedEpoch && c.Epoch != 0:
		return bad("epoch without a fixed epoch")
	case c.First != 0 && c.EngineBits != 0:
		return bad("a least value goes without engine bits")
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
		c.RateLog2 = DefaultRateLog2 - c.EngineBits
	}
	if c.RateLog2 < MinRateLog2 || c.RateLog2 > MaxRateLog2 {
		return bad("rate 2^%d: from 2^%d to 2^%d", c.RateLog2, MinRateLog2, MaxRateLog2)
	}
	if c.FixedEpoch {
		if s := c.EpochStart; !time.Unix(0, s.UnixNano()).Equal(s) {
			return bad("epoch start: clock mode with a fixed epoch needs one that is between 1678 and 2262")
		}
	} else {
		// Epochs counted from 1970 must not come round again: 2^16 epochs of
		// 2^(48-engine bits-rate) seconds have to last for at least 2^32 s.
		if 16+bits-int(c.EngineBits)-int(c.RateLog2) < 32 {
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
	o := &Owner{cfg: c, shift: bits - c.EngineBits, refs: 1}
	o.eng = uint64(c.Engine) << o.shift
	base := uint64(0)
	if c.FixedEpoch {
		base = uint64(c.Epoch) << o.shift
		o.end = base + 1<<o.shift
		if o.end == 0 { // epoch 65535 without engine bits: stay below 2^64
			o.end--
		}
	} else {
		o.end = ^uint64(0)
		if c.EngineBits != 0 {
			o.end = 1 << (64 - c.EngineBits)
		}
	}
	switch c.Mode {
	case Explicit:
		o.next.Store(max(base+c.Start, c.First))
		o.limit.Store(o.end)
	case Reserved:
		f, mark, err := openMark(c.Path, c.Epoch, c.EngineBits, c.Engine)
		if err != nil {
			return nil, err
		}
		if mark > o.end-base {
			f.close()
			return nil, fmt.Errorf("%w: %s: mark beyond the counter space", status.ErrState, c.Path)
		}
		o.file = f
		start := max(base+mark, c.First)
		o.next.Store(start)
		o.limit.Store(start)
		if code := o.claim(start, 1); code != status.OK && code != status.ErrExhausted {
			f.close()
			return nil, fmt.Errorf("%w: %s: %v", status.ErrState, c.Path, f.lastErr)
		}
	case Clock:
		o.last = wall()
		t, err := o.ticks(o.last)
		if err != nil {
			return nil, err
		}
		start := t + 1<<c.RateLog2
		if start > o.end || start < t {
			start = o.end
		}
		start = max(start, c.First)
		o.next.Store(start)
		o.limit.Store(start)
		// Let some ticks pass, so that the first bursts find counters: a
		// sender may not use more than have passed since it started.
		time.Sleep(min(2*time.Millisecond, time.Duration(1<<40>>c.RateLog2)))
	}
	return o, nil
}

// ticks converts a wall-clock reading to a linear value.
func (o *Owner) ticks(ns int64) (uint64, error) {
	base, since := uint64(0), ns
	if o.cfg.FixedEpoch {
		base = uint64(o.cfg.Epoch) << o.shift
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
	for {
		at := o.next.Load()
		if end := at + uint64(n); end <= o.limit.Load() && end >= at {
			if o.next.CompareAndSwap(at, end) {
				return at, n, status.OK
			}
			continue
		}
		if code := o.extend(at, n); code != status.OK {
			return o.takeRest(n, code)
		}
	}
}

// takeRest claims what is left below the limit.
func (o *Owner) takeRest(n int, code status.Code) (uint64, int, status.Code) {
	for {
		at, limit := o.next.Load(), o.limit.Load()
		if at >= limit {
			return 0, 0, code
		}
		k := min(uint64(n), limit-at)
		if o.next.CompareAndSwap(at, at+k) {
			if k == uint64(n) {
				code = status.OK
			}
			return at, int(k), code
		}
	}
}

// extend tries to move the limit beyond at+n.
func (o *Owner) extend(at uint64, n int) status.Code {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.limit.Load() >= at+uint64(n) && at+uint64(n) >= at {
		return status.OK // another thread did
	}
	switch o.cfg.Mode {
	case Clock:
		return o.look(n)
	case Reserved:
		return o.claim(at, n)
	}
	return status.ErrExhausted
}

// look reads the clock and moves the limit to one second ahead of it.
func (o *Owner) look(n int) status.Code {
	t := wall()
	if t < o.last {
		return status.ErrClock
	}
	o.last = t
	ticks, err := o.ticks(t)
	if err != nil {
		return status.ErrClock
	}
	at := o.next.Load()
	top := ticks + 1<<o.cfg.RateLog2
	code := status.ErrClock
	if top >= o.end || top < ticks {
		top, code = o.end, status.ErrExhausted
	}
	// Not too far ahead: a clock that steps back should be seen soon.
	limit := top
	if want := max(at, o.limit.Load()) + uint64(n) + lookEvery; want < top && want > at {
		limit = want
	}
	if limit > o.limit.Load() {
		o.limit.Store(limit)
	}
	if at+uint64(n) > limit || at+uint64(n) < at {
		return code
	}
	return status.OK
}

// claim writes a mark above at+n before any counter below it is used.
func (o *Owner) claim(at uint64, n int) status.Code {
	base := uint64(o.cfg.Epoch) << o.shift
	limit := o.limit.Load()
	top := o.end
	if want := max(at, limit) + uint64(n) + o.cfg.Run; want < o.end && want > at {
		top = want
	}
	if top > limit {
		if err := o.file.write(o.cfg.Epoch, top-base); err != nil {
			return status.ErrState
		}
		o.limit.Store(top)
	}
	if end := at + uint64(n); end > top || end < at {
		return status.ErrExhausted
	}
	return status.OK
}

// TSC makes the header's Epoch || Counter of a linear value.
func (o *Owner) TSC(linear uint64) uint64 {
	return linear>>o.shift<<bits | o.eng | linear&(1<<o.shift-1)
}

// Map returns what a loop over many values needs to do as TSC does.
func (o *Owner) Map() Map { return Map{o.eng, o.shift} }

// Map turns linear values into Epoch || Counter.
type Map struct {
	eng   uint64
	shift uint8
}

// TSC is Owner.TSC.
func (m Map) TSC(linear uint64) uint64 {
	return linear>>(m.shift&63)<<bits | m.eng | linear&(1<<(m.shift&63)-1)
}

// Words are what Take needs to be done elsewhere: where the next value and the
// limit are, and Map as data.
func (o *Owner) Words() (next, limit unsafe.Pointer, m plan.Counter) {
	return unsafe.Pointer(&o.next), unsafe.Pointer(&o.limit), plan.Counter{Engine: o.eng, Step: 1, Shift: o.shift}
}

// Peek returns Epoch || Counter of the next packet, if no one else sends.
func (o *Owner) Peek() uint64 { return o.TSC(o.next.Load()) }
