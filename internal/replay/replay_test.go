package replay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"unsafe"

	"libeesp/internal/status"
	"libeesp/internal/testrun"
)

func newTable(t testing.TB, width, windows uint32) *Table {
	t.Helper()
	r, err := New(Config{width, windows})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// onHeap puts tables on the heap, where the race detector sees them.
func onHeap(t testing.TB) {
	reserve = func(n int) ([]byte, error) {
		words := make([]uint64, (n+7)/8)
		return unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), n), nil
	}
	oldRelease := release
	release = func([]byte) error { return nil }
	t.Cleanup(func() { reserve, release = mapped, oldRelease })
}

func key(master byte, id uint64) *Key {
	return &Key{Master: [16]byte{master}, ID: id}
}

// oracle is a model of a window, which remembers all numbers.
type oracle struct {
	width uint64
	any   bool
	top   uint64
	seen  map[uint64]bool
}

func newOracle(width uint64) *oracle { return &oracle{width: width, seen: map[uint64]bool{}} }

func (o *oracle) check(seq uint64) Verdict {
	switch {
	case !o.any || seq > o.top:
		return Fresh
	case o.top-seq >= o.width:
		return Old
	case o.seen[seq]:
		return Duplicate
	}
	return Fresh
}

func (o *oracle) commit(seq uint64) Verdict {
	v := o.check(seq)
	if v == Fresh {
		o.top = max(o.top, seq)
		o.any, o.seen[seq] = true, true
	}
	return v
}

// alias reports whether seq may be taken for a number that was committed long before.
func (o *oracle) alias(seq uint64) bool {
	n := o.width/16 + 1
	if n >= 1<<12 {
		return false
	}
	step := n << 52
	for s := seq; s >= step; {
		s -= step
		if o.seen[s] {
			return true
		}
	}
	return false
}

// both compares Check and Commit with the oracle.
func both(t testing.TB, r *Table, k *Key, o *oracle, seq uint64) Verdict {
	t.Helper()
	want := o.check(seq)
	if got := r.Check(k, seq); got != want && !(got == Duplicate && want == Fresh && o.alias(seq)) {
		t.Fatalf("width %d: Check(%#x) = %d, want %d; top %#x", o.width, seq, got, want, o.top)
	}
	got := r.Commit(k, seq)
	if got == Duplicate && want == Fresh && o.alias(seq) {
		o.top, o.seen[seq] = max(o.top, seq), true
		return got
	}
	if got != want {
		t.Fatalf("width %d: Commit(%#x) = %d, want %d; top %#x", o.width, seq, got, want, o.top)
	}
	o.commit(seq)
	return got
}

func TestNew(t *testing.T) {
	for _, x := range []struct {
		c         Config
		width     uint32
		most      int
		indexSize int
	}{
		{Config{64, 0}, 64, DefaultWindows, 2 * DefaultWindows},
		{Config{65, 1}, 128, 1, 2},
		{Config{65535, 3}, 65536, 3, 8},
		{Config{65536, 4}, 65536, 4, 8},
		{Config{1000, 5}, 1024, 5, 16},
		{Config{64, MaxWindows}, 64, MaxWindows, 2 * MaxWindows},
	} {
		r, err := New(x.c)
		if err != nil {
			t.Fatalf("%+v: %v", x.c, err)
		}
		if used, most := r.Windows(); r.Width() != x.width || used != 0 || most != x.most || len(r.index) != x.indexSize {
			t.Errorf("%+v: width %d, windows %d of %d, index %d", x.c, r.Width(), used, most, len(r.index))
		}
		last := r.window(uint32(x.most))
		if end := uintptr(unsafe.Pointer(last.word(r.n))) + moreBytes - uintptr(unsafe.Pointer(&r.memory[0])); int(end) > len(r.memory) {
			t.Errorf("%+v: the last window ends at %d of %d", x.c, end, len(r.memory))
		}
		if uintptr(unsafe.Pointer(last))%line != 0 {
			t.Errorf("%+v: a window is not at a cache line", x.c)
		}
		r.Close()
		r.Close()
	}
	for _, x := range []struct {
		c    Config
		says string
	}{
		{Config{0, 1}, "replay window 0"},
		{Config{63, 1}, "replay window 63"},
		{Config{65537, 1}, "replay window 65537"},
		{Config{math.MaxUint32, 1}, "replay window"},
		{Config{64, MaxWindows + 1}, "at most 4194304"},
		{Config{64, math.MaxUint32}, "at most 4194304"},
		{Config{65536, 1 << 18}, "at most 4096"},
	} {
		r, err := New(x.c)
		if r != nil || !errors.Is(err, status.ErrArgument) || !strings.Contains(err.Error(), x.says) {
			t.Errorf("%+v: %v", x.c, err)
		}
	}
	if unsafe.Sizeof(Key{}) != 64 || unsafe.Sizeof(octets{}) != 64 {
		t.Error("a Key is not 64 octets")
	}
}

func TestNoMemory(t *testing.T) {
	if math.MaxInt == math.MaxInt32 {
		t.Skip("2 GiB may be had")
	}
	reserve = func(int) ([]byte, error) { return mapped(math.MaxInt) }
	defer func() { reserve = mapped }()
	if r, err := New(Config{64, 1}); r != nil || !errors.Is(err, status.ErrMemory) {
		t.Fatal(err)
	}
}

func TestSlot(t *testing.T) {
	for width := uint64(MinWidth); width <= MaxWidth; width += 64 {
		r := newRing(width)
		if r.n != width/16+1 {
			t.Fatal(width, r.n)
		}
		for i := range 100 {
			b := rand.Uint64() >> 4 >> rand.IntN(60)
			if i < 4 {
				b = 1<<60 - 1 - uint64(i)
			}
			// The multiples of n are where an error would show first.
			for _, b := range []uint64{b, b - b%r.n, max(b-b%r.n, 1) - 1} {
				if s := r.wordAt(b); s != b%r.n {
					t.Fatalf("%d mod %d: %d", b, r.n, s)
				}
			}
		}
	}
}

var widths = []uint32{64, 128, 1024, 65536}

// Walks at several places of the range, with steps of many sizes up and down.
func TestWalk(t *testing.T) {
	steps := testrun.Rounds(4000, 20000, 20000)
	for _, width := range widths {
		r := newTable(t, width, 64)
		for i, start := range []uint64{0, 1, 15, 16, uint64(width) - 1, uint64(width), 1 << 32, 1<<52 - 100, 1 << 63,
			math.MaxUint64 - 3*uint64(width), math.MaxUint64 - 1, math.MaxUint64} {
			k := key(1, uint64(i))
			o := newOracle(uint64(width))
			both(t, r, k, o, start)
			at := start
			var verdicts [4]int
			for range steps {
				d := rand.Uint64() >> (64 - rand.IntN(20))
				if rand.IntN(4000) == 0 {
					d = rand.Uint64() >> (10 + rand.IntN(54))
				}
				if rand.IntN(2) == 0 {
					d = -d
				}
				if s := at + d; (d>>63 == 0) == (s >= at) { // not past an end
					at = s
				}
				verdicts[both(t, r, k, o, at)]++
				if rand.IntN(8) == 0 {
					at = o.top
				}
			}
			if verdicts[Fresh] == 0 || verdicts[Duplicate] == 0 {
				t.Errorf("width %d, start %#x: %v", width, start, verdicts)
			}
		}
	}
}

// All numbers of a window in random order, after a first packet at any place.
func TestWholeWindow(t *testing.T) {
	for _, width := range widths {
		r := newTable(t, width, 64)
		w := uint64(width)
		for i, top := range []uint64{0, w / 2, w - 1, w, w + 7, 1 << 40, 1<<63 + 5, math.MaxUint64} {
			k, o := key(2, uint64(i)), newOracle(w)
			both(t, r, k, o, top)
			for range 2 {
				for _, d := range rand.Perm(int(w) + 40) {
					if uint64(d) <= top {
						both(t, r, k, o, top-uint64(d))
					}
				}
			}
			if want := int(min(w-1, top)) + 1; len(o.seen) != want {
				t.Errorf("width %d, top %#x: %d fresh, want %d", width, top, len(o.seen), want)
			}
		}
	}
}

// The window slides up by every distance, and remembers the numbers that stay in it.
func TestSlide(t *testing.T) {
	const width = 64
	r := newTable(t, width, 4096)
	for d := uint64(1); d < 4*width; d++ {
		k, o := key(3, d), newOracle(width)
		for s := uint64(1000); s < 1000+2*width; s++ {
			both(t, r, k, o, s)
		}
		both(t, r, k, o, o.top+d)
		for s, end := o.top-3*width, o.top+20; s < end; s++ {
			both(t, r, k, o, s)
		}
	}
}

func TestEnds(t *testing.T) {
	r := newTable(t, 64, 8)
	for _, x := range []struct {
		seq  uint64
		want Verdict
	}{
		{0, Fresh}, {0, Duplicate}, {1, Fresh}, {63, Fresh}, {0, Duplicate}, {64, Fresh}, {0, Old}, {1, Duplicate},
		{math.MaxUint64, Fresh}, {64, Old}, {0, Old}, {63, Old}, {math.MaxUint64 - 63, Fresh}, {math.MaxUint64 - 64, Old},
		{math.MaxUint64 - 63, Duplicate}, {math.MaxUint64, Duplicate}, {1, Old},
	} {
		if got := r.Check(key(0, 0), x.seq); got != x.want {
			t.Fatalf("Check(%#x) = %d, want %d", x.seq, got, x.want)
		}
		if got := r.Commit(key(0, 0), x.seq); got != x.want {
			t.Fatalf("Commit(%#x) = %d, want %d", x.seq, got, x.want)
		}
	}
	if s := r.Stats(); s != (Stats{Duplicate: 10, Old: 12, Made: 1}) {
		t.Errorf("%+v", s)
	}
	// A first packet with a high number is Fresh in an empty window.
	for i, seq := range []uint64{5 << 4, 1 << 52, 1<<52 + 3, 5 << 52, 5<<52 + 1, math.MaxUint64} {
		if v := r.Commit(key(0, 1+uint64(i)), seq); v != Fresh {
			t.Errorf("first %#x: %d", seq, v)
		}
	}
}

// The jump that window.go describes, after which a word seems to be the block's own.
func TestFarJump(t *testing.T) {
	for _, width := range widths {
		r := newTable(t, width, 8)
		far := (uint64(width)/16 + 1) << 52
		if width == 65536 {
			far = 1 << 52 // as 4097<<52 would overflow
		}
		want := Verdict(Duplicate)
		if width == 65536 {
			want = Fresh
		}
		k := key(4, 0)
		r.Commit(k, 7)
		if v := r.Commit(k, 7+far); v != want {
			t.Errorf("width %d: %d, want %d", width, v, want)
		}
		if v := r.Commit(k, 8+far); v != Fresh {
			t.Errorf("width %d: the next one: %d", width, v)
		}
		if v := r.Commit(k, 7); v != Old {
			t.Errorf("width %d: the old one: %d", width, v)
		}
	}
	// With half the distance no word is the same; 2^52 is another word.
	for _, d := range []uint64{1 << 52, 1 << 48, 5 << 51, 5<<52 + 16, 5<<52 - 16, 10<<52 + 80} {
		r := newTable(t, 64, 8)
		for s := uint64(100); s < 200; s++ {
			r.Commit(key(5, d), s)
		}
		for s := uint64(300); s < 400; s++ {
			if v := r.Commit(key(5, d), s+d); v != Fresh {
				t.Errorf("jump of %#x to %d: %d", d, s, v)
			}
		}
	}
}

func TestAllocs(t *testing.T) {
	r := newTable(t, 1024, 64)
	k := key(6, 0)
	var n uint64
	for what, f := range map[string]func(){
		"fresh":      func() { n++; r.Check(k, n); r.Commit(k, n) },
		"duplicate":  func() { r.Check(k, n); r.Commit(k, n) },
		"old":        func() { r.Check(k, 0); r.Commit(k, 0) },
		"new window": func() { k.ID++; r.Check(k, 1); r.Commit(k, 1) }, // full at last
		"counts":     func() { r.Stats(); r.Windows() },
	} {
		if a := testing.AllocsPerRun(100, f); a != 0 {
			t.Errorf("%s: %v allocations", what, a)
		}
	}
}

func FuzzWindow(f *testing.F) {
	f.Add(uint8(0), uint64(0), []byte{1, 0, 2, 0, 3, 255, 4, 7})
	f.Add(uint8(1), uint64(math.MaxUint64-100), []byte{0x81, 4, 0x02, 200, 0x83, 255, 0x44, 7, 0, 0, 0x05, 255})
	f.Add(uint8(2), uint64(1)<<52, []byte{0x0d, 255, 0x8d, 255, 0x0e, 1, 0, 0, 0x8e, 1, 0x81, 1, 0x81, 1})
	f.Add(uint8(3), uint64(65535), []byte{0x31, 255, 0xb1, 255, 0, 1, 0x80, 1, 0x01, 64, 0x81, 64})
	tables := [4]*Table{}
	ids := [4]uint64{}
	f.Fuzz(func(t *testing.T, which uint8, start uint64, steps []byte) {
		// One table for many inputs, so that windows are used again too.
		which %= 4
		r := tables[which]
		if r == nil {
			var err error
			if r, err = New(Config{widths[which], 16}); err != nil {
				t.Fatal(err)
			}
			tables[which] = r
		}
		ids[which]++
		k, o := key(which, ids[which]), newOracle(uint64(widths[which]))
		at := start
		both(t, r, k, o, at)
		// A step is a direction, a shift and a distance, from the last number or from top.
		for ; len(steps) >= 2; steps = steps[2:] {
			d := uint64(steps[1]) << (steps[0] & 0x3f)
			if steps[0]&0x40 != 0 {
				at = o.top
			}
			if steps[0]&0x80 != 0 {
				d = -d
			}
			at += d
			both(t, r, k, o, at)
		}
		if ids[which]%4 == 0 {
			r.sweepAll(func(*[16]byte) bool { return false }, func(done func()) { done() })
			if used, _ := r.Windows(); used != 0 {
				t.Fatal(used, "windows left")
			}
		}
	})
}

func BenchmarkReplay(b *testing.B) {
	for _, width := range []uint32{64, 1024, 65536} {
		for _, keys := range []int{1, 1000} {
			b.Run(fmt.Sprintf("width=%d/keys=%d", width, keys), func(b *testing.B) {
				r := newTable(b, width, 4096)
				ks := make([]Key, keys)
				for i := range ks {
					ks[i].Addr[0] = 1
					binary.BigEndian.PutUint32(ks[i].Addr[28:], uint32(i))
				}
				seq, at := uint64(1), 0
				for b.Loop() {
					k := &ks[at]
					if r.Check(k, seq)|r.Commit(k, seq) != Fresh {
						b.Fatal(seq)
					}
					if at++; at == keys {
						at = 0
						seq++
					}
				}
			})
		}
	}
	b.Run("unknown", func(b *testing.B) {
		r := newTable(b, 1024, 4096)
		for i := range 4096 {
			r.Commit(key(1, uint64(i)), 1)
		}
		k := key(2, 0)
		for b.Loop() {
			k.ID++
			r.Check(k, 1)
		}
	})
	b.Run("duplicate", func(b *testing.B) {
		r := newTable(b, 1024, 4096)
		r.Commit(key(1, 0), 1)
		for b.Loop() {
			r.Check(key(1, 0), 1)
		}
	})
	for _, keys := range []int{1, 0} {
		b.Run([]string{"threads/key-each", "threads/one-key"}[keys], func(b *testing.B) {
			r := newTable(b, 65536, 4096)
			seq := shared{}
			b.RunParallel(func(pb *testing.PB) {
				me := key(1, 0)
				if keys == 0 {
					me.ID = seq.ids.Add(1)
				}
				n := uint64(0)
				for pb.Next() {
					if keys == 0 {
						n++
					} else {
						n = seq.next.Add(1)
					}
					r.Check(me, n)
					r.Commit(me, n)
				}
			})
		})
	}
}

// A key that differs in any of its words, or in two words by the same bits, has another
// window.
func TestOneWindowOfAKey(t *testing.T) {
	r := newTable(t, 64, 1)
	var k octets
	for i := range k {
		k[i] = uint64(i) * 0x1111
	}
	w := r.insert((*Key)(unsafe.Pointer(&k)))
	if !w.is(&r.ring, &k) {
		t.Fatal("its own key is not known")
	}
	for i := range k {
		for j := range k {
			for _, bits := range []uint64{1, 1 << 63, 0x1111, k[i], k[j], ^uint64(0)} {
				for _, other := range []uint64{bits, bits | k[j], bits ^ k[j], bits &^ k[j]} {
					x := k
					x[i] ^= bits
					if i != j {
						x[j] ^= other
					}
					if x != k && w.is(&r.ring, &x) {
						t.Fatalf("%x is taken for %x", x, k)
					}
				}
			}
		}
	}
}
