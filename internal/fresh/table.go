// Package fresh is replay protection by time. Counters are times: packets that
// are too old are refused whichever sender they are from, and one table has the
// later packets of all senders. Functions that are called once per packet take
// no lock and allocate nothing.
package fresh

import (
	"math/bits"
	"math/rand/v2"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"libeesp/internal/replay"
	"libeesp/internal/say"
	"libeesp/internal/status"
)

// TickBits defines the tick, the unit of all times here: 2^-28 s. Times count from 1970.
const TickBits = 28

// Ticks converts ns to ticks. Negative times become 0.
func Ticks(d int64) uint64 {
	if d <= 0 {
		return 0
	}
	sec, ns := uint64(d/1e9), uint64(d%1e9)
	return sec<<TickBits + ns<<TickBits/1e9 // below 2^34 s: fits
}

// Config describes a Table.
type Config struct {
	MaxAge   time.Duration // older packets are refused
	MaxEarly time.Duration // packets further ahead of the clock are refused
	MaxRate  uint64        // packets a second of all senders together, for which there is room
}

// Bounds and defaults of a Config.
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
	parts     = 30 // slices - 2: MaxAge and MaxEarly together take so many slices
	lineWords = 8
	lines     = 16 // lines that a search probes at most
	minLines  = 16 // the least lines of a slice
	cycleBits = 16
	printBits = 64 - cycleBits
	printMask = 1<<printBits - 1
	// The sweep looks at every word once in so many cycles: half of the 2^15 in which old
	// and new words can be told apart.
	sweepCycles = 1 << (cycleBits - 2)
	// sweepEvery is how many slices may pass between two parts of the sweep.
	sweepEvery = 128

	never = ^uint64(0) // a floor or a limit: as a floor, nothing passes

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
	Full              // there is no place in the slice
	Unmarked          // not below the mark in the file
)

// Stats counts verdicts other than Fresh, and resets.
type Stats struct {
	Duplicate, Stale, Early, Full, Resets uint64
}

// Table holds the packets of the last MaxAge + MaxEarly. Any goroutine may call Check,
// Commit and Stats at any time between Begin and End.
//
// It has 32 slices of slice ticks each. The time of a packet selects the slice, and a
// hash the place in it. A word is 16 bits of cycle, which say how often the slices have
// been gone through, and 48 bits of keyed hash. Words are taken in a fixed order and are
// not freed: floor, below which nothing is accepted, has passed a word's time before its
// slice is used again. docs/times.md says why nothing is accepted twice; rule.pml is a
// model.
type Table struct {
	View
	memory []uint64     // the words
	steady func() int64 // a clock that nobody sets, ns

	swept   atomic.Uint64 // words that the sweep has looked at
	tended  atomic.Uint64 // floor at the last part of the sweep
	markDue atomic.Uint64 // the time from which on the mark must be raised
	users   atomic.Int64
	resets  atomic.Uint64
}

// View is the part of a Table that the executor in C uses. C knows its layout
// (libeesp/plan.h) and does what Begin, Check, Commit and End do (libeesp/times.h),
// except for rare steps, which it leaves to Begin here.
type View struct {
	replay.Seeds
	tscSeed [2]uint64

	words      uintptr
	lines      uint64 // of a slice
	slice      uint64 // G
	age, early uint64
	span       uint64 // W + G: floor + span is the highest time that may be accepted

	_      [56]byte // fields above are read by all threads and never written
	floor  atomic.Uint64
	limit  atomic.Uint64 // times from here on are not accepted: see Limit
	most   atomic.Uint64 // no time above it was accepted
	due    atomic.Uint64 // from this time of the clock on, Begin here must be called
	behind atomic.Int64  // since when (steady) the clock is behind the floor; 0: it is not

	_                               [24]byte
	Sole                            replay.Sole // begins before Begin, ends after End
	duplicate, stale, earlier, full atomic.Uint64
	_                               [32]byte
}

// Offsets in a View, for libeesp/layout.go.
const (
	WordsAt     = unsafe.Offsetof(View{}.words)
	FloorAt     = unsafe.Offsetof(View{}.floor)
	BehindAt    = unsafe.Offsetof(View{}.behind)
	SoleAt      = unsafe.Offsetof(View{}.Sole)
	DuplicateAt = unsafe.Offsetof(View{}.duplicate)
)

func bad(f string, a ...any) error {
	return say.Errorf("%w: %s", status.ErrArgument, say.Sprintf(f, a...))
}

// Check sets defaults for fields that are 0, and returns ErrArgument if one is out of
// range.
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

// memory returns the size of the table in octets.
func (c *Config) memory() uint64 { return c.perSlice() * slices * lineWords * 8 }

// perSlice returns the lines of a slice, which is half full at MaxRate.
func (c *Config) perSlice() uint64 {
	ns := uint64(c.MaxAge+c.MaxEarly) / parts
	hi, lo := bits.Mul64(c.MaxRate, ns)
	packets, _ := bits.Div64(hi, lo, 1e9) // MaxRate * ns < 2^30 * 2^30
	return max(minLines, (packets*2+lineWords-1)/lineWords)
}

// New makes a table. It accepts no time below mark, and none that an earlier table may
// have accepted, if that one's clock was not ahead of now and its MaxEarly was not
// greater. steady is a clock that nobody sets, in ns. The error is ErrArgument or
// ErrMemory.
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
		return nil, say.Errorf("%w: %d MiB for times of packets: %v", status.ErrMemory, c.memory()>>20, err)
	}
	// The table has no keys, but tells when packets were sent.
	syscall.Madvise(b, dontDump)
	syscall.Madvise(b, syscall.MADV_HUGEPAGE) // if allowed; errors do not matter
	t.memory = unsafe.Slice((*uint64)(unsafe.Pointer(&b[0])), len(b)/8)
	t.words = uintptr(unsafe.Pointer(&b[0]))
	// Plus early: the table before accepted times so far ahead.
	floor := max(later(now, t.early+1), mark)
	t.floor.Store(floor)
	t.most.Store(floor - 1) // an upper bound of what was accepted
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

// Share adds a user of the table.
func (t *Table) Share() { t.users.Add(1) }

// Drop removes a user and reports whether it was the last one. Then the caller must call
// Free when no burst uses the table.
func (t *Table) Drop() bool { return t.users.Add(-1) == 0 }

// Free frees the memory.
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

// Memory returns the size of the table in octets.
func (t *Table) Memory() uint64 { return uint64(len(t.memory)) * 8 }

// Pass says which times a burst accepts: from floor to top, and below limit.
type Pass struct {
	floor, top, limit uint64
	most              uint64 // highest time that it accepted
}

// Begin begins a burst at a reading of the clock, in ticks. reset says that BeginReset
// is due.
func (t *Table) Begin(now uint64) (p Pass, reset bool) {
	f := t.floor.Load()
	to := uint64(0)
	if now > t.age {
		to = now - t.age
	}
	// The floor is written once for a slice, so that threads do not write it all the time.
	// If it has moved meanwhile, it stays: a reset must not be undone.
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

// setDue sets due. If threads race, it may be too early, which does no harm.
func (t *Table) setDue() {
	t.due.Store(min(later(later(t.tended.Load(), t.age), sweepEvery*t.slice), t.markDue.Load()))
}

// late reports whether the clock has been behind the floor for more than a second.
func (t *Table) late() bool {
	now := t.steady()
	since := t.behind.Load()
	if since == 0 {
		t.behind.CompareAndSwap(0, max(now, 1))
		return false
	}
	return now-since > int64(time.Second)
}

// Check checks the time of a packet that is not authenticated yet, and counts a refusal.
// It does not look the packet up.
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

// May reports whether Check returns Fresh. It counts nothing.
func (p *Pass) May(time uint64) bool { return time >= p.floor && time <= p.top && time < p.limit }

// hash returns a keyed hash of a packet's Key and TSC.
func (t *Table) hash(k *replay.Key, tsc uint64) uint64 {
	return replay.Mix(t.Hash(k)^t.tscSeed[0], tsc^t.tscSeed[1])
}

// step is called between the steps of Commit; tests replace it.
var step func(t *Table, n int)

// Commit notes an authentic packet that passed Check with the same Pass. Unless it
// returns Fresh, the packet must not be delivered.
func (t *Table) Commit(p *Pass, k *replay.Key, tsc, time uint64) Verdict {
	v := t.insert(t.hash(k, tsc), time)
	if step != nil {
		step(t, 5)
	}
	// Meanwhile the floor may have passed the packet's time, and the slice may be used
	// again. The floor is read after the word was written: a thread that reuses the place
	// has raised the floor before.
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

// insert finds or writes the word of a packet.
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
					return Stale // the slice is used again already
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

// End ends a burst. It notes a time that is up to a slice too high, so that most is
// written once for a slice.
func (t *Table) End(p *Pass) {
	for {
		m := t.most.Load()
		if m >= p.most || t.most.CompareAndSwap(m, later(p.most, t.slice)) {
			return
		}
	}
}

// sweep looks at some words, and at more if more time has passed. It zeroes words whose
// time is below the floor, before their 16 bits of cycle repeat.
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

// BeginReset refuses all packets from now on. If it returns true, the caller must see to
// it that EndReset is called when no burst is left that began before.
func (t *Table) BeginReset() bool {
	f := t.floor.Load()
	return f != never && t.floor.CompareAndSwap(f, never)
}

// EndReset empties the table, for a clock that had been ahead and is right again. From
// then on times above all that were ever accepted are accepted.
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

// Limit sets a limit: no time from it on is accepted. From due on, Begin here is called
// for each burst, so that the mark can be raised and Limit called again.
func (t *Table) Limit(time, due uint64) {
	t.limit.Store(time)
	t.markDue.Store(due)
	t.setDue()
}

// Most returns a time above which none was ever accepted, by earlier tables either.
func (t *Table) Most() uint64 { return t.most.Load() }

// Floor returns the time below which packets are refused.
func (t *Table) Floor() uint64 { return t.floor.Load() }

// Stats returns the counts.
func (t *Table) Stats() Stats {
	return Stats{t.duplicate.Load(), t.stale.Load(), t.earlier.Load(), t.full.Load(), t.resets.Load()}
}
