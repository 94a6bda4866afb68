package vector

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unsafe"

	"libeesp/internal/kernel"
)

// recorded makes kernels that only record how many packets each was given, and checks that
// no packet is left out or given twice.
type recorded struct {
	k     Kernels
	calls []string
	taken []uint32
}

func (r *recorded) take(name string, jobs *byte, n int) {
	r.calls = append(r.calls, fmt.Sprint(name, n))
	for _, j := range unsafe.Slice((*kernel.Job)(unsafe.Pointer(jobs)), n) {
		r.taken = append(r.taken, j.Key)
	}
}

func record(t Tuning, groups, pairs bool) *recorded {
	r := new(recorded)
	short := func(name string) func(keys, jobs *byte, n int, scratch *byte) {
		return func(_, jobs *byte, n int, _ *byte) { r.take(name, jobs, n) }
	}
	fill := func(name string) (f [2][2]func(keys, jobs *byte, n int, scratch *byte)) {
		for i := range 4 {
			f[i/2][i%2] = short(name)
		}
		return f
	}
	r.k = Kernels{Quads: groups, Tuning: t, Raw: fill("raw"), Expanded: fill("expanded")}
	for i := range 4 {
		r.k.Long[i/2][i%2] = func(_, jobs *byte, n, _ int, _ *byte) { r.take("long", jobs, n) }
		r.k.One[i/2][i%2] = func(_, jobs *byte, n int, _, _, _ *byte) { r.take("one", jobs, n) }
	}
	for i := range 2 {
		r.k.Expand[i] = func(_, _ *byte, _ int) {}
		r.k.Powers[i] = func(_ *byte, _ int) {}
	}
	if pairs {
		r.k.Pairs = &Kernels{Raw: fill("pair"), Expanded: fill("pair"), OneAAD: 32}
		for i := range 4 {
			r.k.Pairs.One[i/2][i%2] = func(_, jobs *byte, n int, _, _, _ *byte) { r.take("narrow", jobs, n) }
		}
	}
	return r
}

func (r *recorded) run(mode kernel.Mode, lengths []uint32) string {
	jobs := make([]kernel.Job, len(lengths))
	for i, n := range lengths {
		jobs[i] = kernel.Job{Len: n, Key: uint32(i)}
	}
	scratch, keys := make([]byte, kernel.ScratchBytes), make([]byte, 32*kernel.Chunk)
	r.calls, r.taken = nil, nil
	r.k.crypt(unsafe.Pointer(&keys[0]), &jobs[0], len(jobs), 16, mode, unsafe.Pointer(&scratch[0]), Seal)
	return strings.Join(r.calls, " ")
}

var (
	wide   = Tuning{RawLimit: 2560, ExpandedLimit: 880, OneLimit: 8800, NarrowBlocks: [2]uint32{0x101c0, 0}, PairLimit: [2]uint32{880, 192}, QuadOctet: 123, Begin: [2]uint32{724, 373}}
	narrow = Tuning{RawLimit: 3504, ExpandedLimit: 2352, Alone: [2]uint32{672, 64}}
)

func TestWhichKernel(t *testing.T) {
	groups, pairs := record(wide, true, true), record(narrow, false, false)
	for _, c := range []struct {
		r       *recorded
		mode    kernel.Mode
		lengths []uint32
		want    string
	}{
		{groups, kernel.OneShot, []uint32{64}, "one1"},
		{groups, kernel.OneShot, []uint32{81}, "narrow1"},
		{groups, kernel.OneShot, []uint32{128}, "narrow1"},
		{groups, kernel.OneShot, []uint32{129}, "one1"},
		{groups, kernel.OneShot, []uint32{241}, "narrow1"},
		{groups, kernel.OneShot, []uint32{256}, "narrow1"},
		{groups, kernel.OneShot, []uint32{257}, "one1"},
		{groups, kernel.OneShot, []uint32{8800}, "long1"},
		{groups, kernel.OneShot, []uint32{880, 880}, "pair2"},
		{groups, kernel.OneShot, []uint32{881, 881}, "long2"},
		{groups, kernel.OneShot, []uint32{64, 1420}, "one1 one1"},
		{groups, kernel.OneShot, []uint32{64, 64, 64}, "raw3"},
		{groups, kernel.OneShot, []uint32{64, 64, 64, 64}, "raw4"},
		{groups, kernel.Shared, []uint32{192}, "pair1"},
		{groups, kernel.Shared, []uint32{128, 192}, "pair2"},
		{groups, kernel.Shared, []uint32{64, 192}, "pair1 pair1"},
		{groups, kernel.Shared, []uint32{64, 64, 64}, "expanded3"},
		{groups, kernel.Shared, []uint32{4000, 4000}, "long2"},
		{pairs, kernel.OneShot, []uint32{672}, "raw1"},
		{pairs, kernel.OneShot, []uint32{673}, "long1"},
		{pairs, kernel.OneShot, []uint32{1420, 1420}, "raw2"},
		{pairs, kernel.OneShot, []uint32{1420, 1420, 1420}, "raw2 long1"},
		{pairs, kernel.OneShot, []uint32{64, 1420, 1420}, "raw3"}, // 64 is by itself
		{pairs, kernel.OneShot, []uint32{64, 64, 1420}, "raw2 long1"},
		{pairs, kernel.OneShot, []uint32{1420, 1420, 4000}, "raw2 long1"},
		{pairs, kernel.Shared, []uint32{65}, "long1"},
		{pairs, kernel.Shared, []uint32{64}, "expanded1"},
	} {
		if got := c.r.run(c.mode, c.lengths); got != c.want {
			t.Errorf("mode %d, lengths %d: %s, want %s", c.mode, c.lengths, got, c.want)
		}
	}
}

// Each packet is taken once, in order, for random lengths.
func TestEachOnce(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		r := record(wide, true, random.IntN(2) == 0)
		if random.IntN(2) == 0 {
			r = record(narrow, false, false)
		}
		lengths := make([]uint32, 1+random.IntN(kernel.Chunk))
		last := uint32(0)
		for i := range lengths {
			last += uint32(random.IntN(1 + random.IntN(300)))
			lengths[i] = last
		}
		calls := r.run(kernel.Mode(random.IntN(2)), lengths)
		for i := range lengths {
			if len(r.taken) != len(lengths) || r.taken[i] != uint32(i) {
				t.Fatalf("lengths %d: %s took %d", lengths, calls, r.taken)
			}
		}
	}
}
