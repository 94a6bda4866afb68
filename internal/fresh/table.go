// Package fresh is replay protection by time. Counters are times: packets that
// are too old are refused whichever sender they are from, and one table has the
// later packets of all senders. Functions that are called once per packet take
// no lock and allocate nothing.
package fresh

import (
	"fmt"
	"math/bits"
	"math/rand/v2"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"libeesp/internal/replay"
	"libeesp/internal/status"
)

// TickBits says how long a tick is, the unit of all times here: 2^-28 s. Times
// are since 1970.
const TickBits = 28

// Ticks are the ticks of a time that is not negative; it saturates.
func Ticks(d int64) uint64 {
	if d <= 0 {
		return 0
	}
	sec, ns := uint64(d/1e9), uint64(d%1e9)
	return sec<<TickBits + ns<<TickBits/1e9 // below 2^34 s: fits
}

// Config describes a Table.
type Config struct {
	MaxAge   time.Duration // what is older is refused
	MaxEarly time.Duration // what is further ahead of the clock is refused
	MaxRate  uint64        // packets a second that there is room for, of all senders together
}

// Bounds of a Config, and what 0 stands for.
const (
	MinSpan         = time.Millisecond
	MaxSpan         = 10 * time.Second
	DefaultMaxAge   = 100 * time.Millisecond
	DefaultMaxEarly = 25 * time.Millisecond
	DefaultMaxRate  = 1e6
	MaxRate         = 1e9
	MaxMemory       = 4 << 30
)

const (
	slices    = 32
	parts     = 30 // slices that W has: slices - 2
	lineWords = 8
	lines     = 16 // that are probed at most
	minLines  = 16
	cycleBits = 16
	printBits = 64 - cycleBits
	printMask = 1<<printBits - 1
	// Every word is looked at once in this many cycles: half of those in which
	// old and new can be told apart.
	sweepCycles = 1 << (cycleBits - 2)
	// Slices that may pass from one part of the sweep to the next.
	sweepEvery = 128

	never = ^uint64(0) // a floor below which everything is

	dontDump = 16 // MADV_DONTDUMP
)

// Verdict is the outcome of Check and Commit.
type Verdict uint8

// The verdicts.
const (
	Fresh     Verdict = iota
	Duplicate         // committed before
	Stale             // too old: it may have been committed before
	Early             // too far ahead of the clock
	Full              // no place in the part of the table for this time
	Unmarked          // beyond what the mark file allows
)

// Stats counts verdicts other than Fresh, and resets.
type Stats struct {
	Duplicate, Stale, Early, Full, Resets uint64
}

// Table is what was received within the last W ticks. Check, Commit and Stats may
// be called at any time by any goroutine between Begin and End.
//
// There are 32 slices of slice ticks each, by the packet's time: a packet has
// one place to look at. A word is 16 bits of cycle, which say in which of its
// lives the slice was, and 48 bits of keyed hash. Words are taken in a fixed
// order and given up by no one but by time: floor, below which nothing is
// accepted, has passed a word's time before its slice begins anew. Why nothing
// is accepted twice is in docs/times.md, and in rule.pml as a model.
type Table struct {
	View
	memory []uint64     // the words
	steady func() int64 // ns of a clock that nobody sets

	swept   atomic.Uint64 // words looked at since the beginning
	tended  atomic.Uint64 // floor at the last part of the sweep
	markDue atomic.Uint64 // from when on the mark's owner wants to be asked
	users   atomic.Int64
	resets  atomic.Uint64
}

// View is what of a Table the executor in C works with. Its layout is shared
// (libeesp/plan.h), and so is what Begin, Check, Commit and End do
// (libeesp/times.h): what is due now and then is not, and left to Begin.
type View struct {
	replay.Seeds
	tscSeed [2]uint64

	words      uintptr
	lines      uint64 // of a slice
	slice      uint64 // G
	age, early uint64
	span       uint64 // W + G: floor + span is the highest time that may be accepted

	_      [56]byte // what is above is read by all, and never written
	floor  atomic.Uint64
	limit  atomic.Uint64 // times from here on are not accepted: see Limit
	most   atomic.Uint64 // no time above it was accepted
	due    atomic.Uint64 // from this time of the clock on, a Begin here has something to do
	behind atomic.Int64  // since when the clock is behind the floor; 0: it is not

	_                               [24]byte
	Sole                            replay.Sole // for whoever calls Begin, before, and after End
	duplicate, stale, earlier, full atomic.Uint64
	_                               [32]byte
}

// Where in a View things are.
const (
	WordsAt     = unsafe.Offsetof(View{}.words)
	FloorAt     = unsafe.Offsetof(View{}.floor)
	BehindAt    = unsafe.Offsetof(View{}.behind)
	SoleAt      = unsafe.Offsetof(View{}.Sole)
	DuplicateAt = unsafe.Offsetof(View{}.duplicate)
)

func bad(f string, a ...any) error {
	return fmt.Errorf("%w: %s", status.ErrArgument, fmt.Sprintf(f, a...))
}

// Check fills in what is 0 and says what is out of range.
func (c *Config) Check() error {
	if c.MaxAge == 0 {
		c.MaxAge = DefaultMaxAge
	}
	if c.MaxEarly == 0 {
		c.MaxEarly = DefaultMaxEarly
	}
	if c.MaxRate == 0 {
		c.MaxRate = DefaultMaxRate
	}
	switch {
	case c.MaxAge < MinSpan || c.MaxAge > MaxSpan:
		return bad("max age %v: from %v to %v", c.MaxAge, MinSpan, MaxSpan)
	case c.MaxEarly < MinSpan || c.MaxEarly > MaxSpan:
		return bad("max early %v: from %v to %v", c.MaxEarly, MinSpan, MaxSpan)
	case c.MaxRate > MaxRate:
		return bad("max rate %d: at most %d packets a second", c.MaxRate, uint64(MaxRate))
	case c.memory() > MaxMemory:
		return bad("max age, max early and max rate ask for %d MiB: at most %d", c.memory()>>20, MaxMemory>>20)
	}
	return nil
}

// memory is what the table takes, in octets.
func (c *Config) memory() uint64 { return c.perSlice() * slices * lineWords * 8 }

// perSlice is the lines of a slice: half full at MaxRate.
func (c *Config) perSlice() uint64 {
	ns := uint64(c.MaxAge+c.MaxEarly) / parts
	hi, lo := bits.Mul64(c.MaxRate, ns)
	packets, _ := bits.Div64(hi, lo, 1e9) // MaxRate * ns < 2^30 * 2^30
	return max(minLines, (packets*2+lineWords-1)/lineWords)
}

// New makes a table that accepts nothing that may have been accepted before
// now: neither by a table whose clock was not ahead of this one's and whose
// MaxEarly was not greater, nor what lies below mark.
func New(c Config, now, mark uint64, steady func() int64) (*Table, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	t := &Table{steady: steady}
	t.Seeds, t.tscSeed = replay.NewSeeds(), [2]uint64{rand.Uint64(), rand.Uint64()}
	t.age, t.early, t.lines = Ticks(int64(c.MaxAge)), Ticks(int64(c.MaxEarly)), c.perSlice()
	t.slice = (t.age + t.early + parts - 1) / parts
	// The floor may lag by less than a slice.
	t.span = t.age + t.early + t.slice
	b, err := syscall.Mmap(-1, 0, int(c.memory()), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("%w: %d MiB for times of packets: %v", status.ErrMemory, c.memory()>>20, err)
	}
	// It tells who sent when, though no keys.
	syscall.Madvise(b, dontDump)
	syscall.Madvise(b, syscall.MADV_HUGEPAGE) // if it may
	t.memory = unsafe.Slice((*uint64)(unsafe.Pointer(&b[0])), len(b)/8)
	t.words = uintptr(unsafe.Pointer(&b[0]))
	// Plus early: so far ahead the one before accepted.
	floor := max(later(now, t.early+1), mark)
	t.floor.Store(floor)
	t.most.Store(floor - 1) // who knows
	t.limit.Store(never)
	t.tended.Store(floor)
	t.markDue.Store(never)
	t.setDue()
	t.users.Store(1)
	return t, nil
}

func later(t, by uint64) uint64 {
	if t+by < t {
		return never
	}
	return t + by
}

// Share hands the table to one more owner.
func (t *Table) Share() { t.users.Add(1) }

// Drop gives it back and reports whether there is no owner left, who then
// Frees it when no burst uses it.
func (t *Table) Drop() bool { return t.users.Add(-1) == 0 }

// Free gives the memory back.
func (t *Table) Free() {
	if b := t.memory; b != nil {
		t.memory, t.words = nil, 0
		syscall.Munmap(unsafe.Slice((*byte)(unsafe.Pointer(&b[0])), len(b)*8))
	}
}

// Is reports whether a table was made with this configuration.
func (t *Table) Is(c Config) bool {
	return c.Check() == nil && t.age == Ticks(int64(c.MaxAge)) && t.early == Ticks(int64(c.MaxEarly)) && t.lines == c.perSlice()
}

// Memory is what the table takes, in octets.
func (t *Table) Memory() uint64 { return uint64(len(t.memory)) * 8 }

// Pass is what a burst goes by.
type Pass struct {
	floor, top, limit uint64
	most              uint64 // highest time that it accepted
}

// Begin begins a burst at a time of the clock. It reports whether a Reset is
// due, which is to be called before the burst, or beside it.
func (t *Table) Begin(now uint64) (p Pass, reset bool) {
	f := t.floor.Load()
	to := uint64(0)
	if now > t.age {
		to = now - t.age
	}
	// Once for a slice, so that threads do not write it all the time. If the
	// floor has moved meanwhile, it stays as it is: Reset must not be undone.
	if to > f && to-f >= t.slice {
		t.floor.CompareAndSwap(f, to)
	}
	f = t.floor.Load()
	if now >= t.due.Load() && f != never {
		t.tend(f)
	}
	p = Pass{floor: max(f, to), top: min(later(now, t.early), later(f, t.span)), limit: t.limit.Load()}
	if f != never && later(now, t.early) < f {
		reset = t.late()
	} else if t.behind.Load() != 0 {
		t.behind.Store(0)
	}
	return p, reset
}

// tend does the part of the sweep that is due.
func (t *Table) tend(floor uint64) {
	if from := t.tended.Load(); floor > from && floor-from >= t.slice && t.tended.CompareAndSwap(from, floor) {
		t.sweep(from, floor)
	}
	t.setDue()
}

// setDue: whoever comes late here sets a due that is too early, which does no harm.
func (t *Table) setDue() {
	t.due.Store(min(later(later(t.tended.Load(), t.age), sweepEvery*t.slice), t.markDue.Load()))
}

// late reports whether the clock has been behind the floor for a second.
func (t *Table) late() bool {
	now := t.steady()
	since := t.behind.Load()
	if since == 0 {
		t.behind.CompareAndSwap(0, max(now, 1))
		return false
	}
	return now-since > int64(time.Second)
}

// Check looks at the time of a packet that is not authenticated yet, and at
// nothing else.
func (t *Table) Check(p *Pass, time uint64) Verdict {
	switch {
	case time < p.floor:
		t.stale.Add(1)
		return Stale
	case time > p.top:
		t.earlier.Add(1)
		return Early
	case time >= p.limit:
		return Unmarked
	}
	return Fresh
}

// May is Check, and counts nothing.
func (p *Pass) May(time uint64) bool { return time >= p.floor && time <= p.top && time < p.limit }

// hash is a keyed hash of what tells packets apart.
func (t *Table) hash(k *replay.Key, tsc uint64) uint64 {
	return replay.Mix(t.Hash(k)^t.tscSeed[0], tsc^t.tscSeed[1])
}

// step is called between the steps of Commit; tests replace it.
var step func(t *Table, n int)

// Commit takes note of a packet that was authenticated and passed Check with
// the same Pass, and reports whether it is the first of its kind. What is not
// Fresh must not be delivered.
func (t *Table) Commit(p *Pass, k *replay.Key, tsc, time uint64) Verdict {
	v := t.insert(t.hash(k, tsc), time)
	if step != nil {
		step(t, 5)
	}
	// The floor may have passed meanwhile, and with it the place where the word is
	// have got another life. Read after the word was written: whoever gives the
	// place up has raised the floor before.
	if v == Fresh && time < t.floor.Load() {
		v = Stale
	}
	switch v {
	case Fresh:
		p.most = max(p.most, time)
	case Duplicate:
		t.duplicate.Add(1)
	case Stale:
		t.stale.Add(1)
	case Full:
		t.full.Add(1)
	}
	return v
}

// insert finds the word of a packet, or makes it.
func (t *Table) insert(h, time uint64) Verdict {
	slice, cycle := time/t.slice%slices, uint16(time/t.slice/slices)
	print := h & printMask
	if print == 0 {
		print = 1 // no word is 0
	}
	word := uint64(cycle)<<printBits | print
	line, _ := bits.Mul64(h, t.lines)
	first := slice * t.lines
	for range min(lines, t.lines) {
		at := (first + line) * lineWords
		for i := range uint64(lineWords) {
			w := &t.memory[at+i]
			for {
				if step != nil {
					step(t, 4)
				}
				old := atomic.LoadUint64(w)
				if old == word {
					return Duplicate
				}
				if d := int16(uint16(old>>printBits) - cycle); old != 0 && d > 0 {
					return Stale // the slice is in a later life
				} else if old != 0 && d == 0 {
					break // another packet's: the next word
				}
				if step != nil {
					step(t, 4)
				}
				if atomic.CompareAndSwapUint64(w, old, word) {
					return Fresh
				}
			}
		}
		if line++; line == t.lines {
			line = 0
		}
	}
	return Full
}

// End ends a burst. What it notes is up to a slice too high, so that it is
// written once for a slice.
func (t *Table) End(p *Pass) {
	for {
		m := t.most.Load()
		if m >= p.most || t.most.CompareAndSwap(m, later(p.most, t.slice)) {
			return
		}
	}
}

// sweep looks at some words, more if time has passed: those that are below the
// floor become 0, since 16 bits of cycle come round again.
func (t *Table) sweep(from, to uint64) {
	total := uint64(len(t.memory))
	n := total
	if passed := to/t.slice - from/t.slice; passed < sweepCycles*slices {
		n = min(total, total*passed/(sweepCycles*slices)+lineWords) // below 2^29 * 2^20
	}
	at := t.swept.Add(n) - n
	floor := t.floor.Load()
	if floor == never {
		return
	}
	for i := range n {
		x := (at + i) % total
		w := &t.memory[x]
		old := atomic.LoadUint64(w)
		if old == 0 {
			continue
		}
		slice := x / (t.lines * lineWords)
		cycles := floor / t.slice / slices
		back := int16(uint16(cycles) - uint16(old>>printBits))
		if back >= 0 && cycles >= uint64(back) && ((cycles-uint64(back))*slices+slice+1)*t.slice <= floor {
			// By a swap: the word may be one of the slice's next life by now.
			atomic.CompareAndSwapUint64(w, old, 0)
		}
	}
}

// BeginReset refuses everything from now on, and reports whether it is the
// caller who is to have EndReset called once no burst is under way that began
// before.
func (t *Table) BeginReset() bool {
	f := t.floor.Load()
	return f != never && t.floor.CompareAndSwap(f, never)
}

// EndReset forgets everything, and accepts what is above all that was ever
// accepted. The clock was ahead, and is right again.
func (t *Table) EndReset(now uint64) {
	b := unsafe.Slice((*byte)(unsafe.Pointer(&t.memory[0])), len(t.memory)*8)
	if syscall.Madvise(b, syscall.MADV_DONTNEED) != nil {
		clear(t.memory)
	}
	t.resets.Add(1)
	t.behind.Store(0)
	floor := t.most.Load() + 1
	if now > t.age {
		floor = max(floor, now-t.age)
	}
	t.tended.Store(floor)
	t.setDue()
	t.floor.Store(floor)
}

// Limit has no time from t on accepted until it is called again, which is asked
// for (Begin) when the clock has come to due.
func (t *Table) Limit(time, due uint64) {
	t.limit.Store(time)
	t.markDue.Store(due)
	t.setDue()
}

// Most is a time above which none was accepted, nor may have been before.
func (t *Table) Most() uint64 { return t.most.Load() }

// Floor is the time below which everything is refused.
func (t *Table) Floor() uint64 { return t.floor.Load() }

// Stats reads the counts.
func (t *Table) Stats() Stats {
	return Stats{t.duplicate.Load(), t.stale.Load(), t.earlier.Load(), t.full.Load(), t.resets.Load()}
}
