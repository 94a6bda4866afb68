package vector

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
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
	r.k = Kernels{Quads: groups, Tuning: t, Raw: fill("raw"), Expanded: fill("expanded"), OneAAD: 48}
	for i := range 4 {
		r.k.Long[i/2][i%2] = func(_, jobs *byte, n, _ int, _ *byte) { r.take("long", jobs, n) }
		r.k.One[i/2][i%2] = func(_, jobs *byte, n int, _, _, _ *byte) { r.take("one", jobs, n) }
	}
	for i := range 2 {
		r.k.Expand[i] = func(_, _ *byte, _ int) {}
		r.k.Powers[i] = func(_ *byte, _ int) {}
	}
	if pairs {
		r.k.Pairs = &Kernels{Raw: fill("pair"), Expanded: fill("pair"), OneAAD: 32, Tuning: Tuning{OneLimit: 1}}
		for i := range 4 {
			r.k.Pairs.One[i/2][i%2] = func(_, jobs *byte, n int, _, _, _ *byte) { r.take("narrow", jobs, n) }
		}
	}
	return r
}

func (r *recorded) run(mode kernel.Mode, keyLen int, lengths []uint32, aad ...uint32) string {
	jobs := make([]kernel.Job, len(lengths))
	for i, n := range lengths {
		jobs[i] = kernel.Job{Len: n, Key: uint32(i)}
		if i < len(aad) {
			jobs[i].AADLen = aad[i]
		}
	}
	scratch, keys := make([]byte, kernel.ScratchBytes), make([]byte, 32*kernel.Chunk)
	r.calls, r.taken = nil, nil
	r.k.crypt(unsafe.Pointer(&keys[0]), &jobs[0], len(jobs), keyLen, mode, unsafe.Pointer(&scratch[0]), Seal)
	return strings.Join(r.calls, " ")
}

var (
	wide   = Tuning{RawLimit: 2560, ExpandedLimit: 880, RestLimit: 1312, OneLimit: 8800, NarrowBlocks: [2]uint32{0x101c0, 0x18}, PairLimit: [2]uint32{880, 192}, QuadOctet: 123, Begin: [2]uint32{724, 373}}
	narrow = Tuning{RawLimit: 3504, ExpandedLimit: 2352, Alone: [2]uint32{672, 64}}
)

// which returns what a line of the file says of the kernels, by Kernels.direct.
func (r *recorded) which(name string) string {
	r.k.Addresses = func(*uintptr) {}
	if r.k.Pairs != nil {
		r.k.Pairs.Addresses = r.k.Addresses
	}
	d := r.k.direct()
	return fmt.Sprint("kernels ", name, " ", d.Quads, d.Limit[0], d.Limit[1], d.Begin[0], d.Begin[1], d.Alone[0], d.Alone[1], d.QuadOctet,
		d.PartialMax, d.LongLeast, d.AtOnce, d.OneLimit, d.OneAAD, d.PairLimit[0], d.PairLimit[1], d.NarrowBlocks[0], d.NarrowBlocks[1], d.NarrowAAD, d.RestLimit)
}

// Bodies with heads are for long kernels, whatever their length.
func TestHeadsAreLong(t *testing.T) {
	k := Kernels{Quads: true, Tuning: wide}
	jobs := make([]kernel.Job, 4)
	for i := range jobs {
		jobs[i].Len = 1024
	}
	if !k.fits(jobs, k.ExpandedLimit, kernel.Shared) {
		t.Error("none has a head")
	}
	for i := range jobs {
		jobs[i].Reserved = 15
		if k.fits(jobs, k.ExpandedLimit, kernel.Shared) {
			t.Errorf("job %d has a head", i)
		}
		jobs[i].Reserved = 0
	}
}

var update = flag.Bool("update", false, "write testdata/choices.txt")

// Which kernel takes which packets, by testdata/choices.txt. tests/c/choices.c compares C's decision (libeesp/kernels.h)
// with the same file. Its first cases were written by hand; the others show what the code did when they were written.
func TestChoices(t *testing.T) {
	const file = "testdata/choices.txt"
	kernels := map[string]*recorded{"wide": record(wide, true, true), "narrow": record(narrow, false, false)}
	if *update {
		updateChoices(t, file, kernels)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	cases := 0
	for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		word := strings.Fields(line)
		switch word[0] {
		case "#":
		case "kernels":
			if want := kernels[word[1]].which(word[1]); line != want {
				t.Errorf("%s, want %s", line, want)
			}
		case "case":
			keyLen, mode, lengths, aad := parseChoice(t, word)
			want := line[strings.Index(line, "= ")+2:]
			if got := kernels[word[1]].run(mode, keyLen, lengths, aad...); got != want {
				t.Errorf("%s: %s", line, got)
			}
			cases++
		default:
			t.Fatal(line)
		}
	}
	if cases < 200 {
		t.Errorf("%d cases", cases)
	}
}

// parseChoice reads "case KERNELS KEY-LENGTH MODE LENGTHS = CALLS". A length may be followed by + and the AAD's.
func parseChoice(t *testing.T, word []string) (keyLen int, mode kernel.Mode, lengths, aad []uint32) {
	if len(word) < 7 || word[5] != "=" || word[3] != "one-shot" && word[3] != "shared" {
		t.Fatal(word)
	}
	if word[3] == "shared" {
		mode = kernel.Shared
	}
	if _, err := fmt.Sscan(word[2], &keyLen); err != nil {
		t.Fatal(err)
	}
	for _, w := range strings.Split(word[4], ",") {
		var n, more uint32
		if got, err := fmt.Sscanf(w, "%d+%d", &n, &more); got == 0 {
			t.Fatal(w, err)
		}
		lengths, aad = append(lengths, n), append(aad, more)
	}
	return keyLen, mode, lengths, aad
}

// updateChoices keeps the cases that were written by hand, and makes others.
func updateChoices(t *testing.T, file string, kernels map[string]*recorded) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const begin = "# made by go test -update\n"
	hand, _, _ := strings.Cut(string(text), begin)
	var b strings.Builder
	for _, line := range strings.SplitAfter(hand, "\n") {
		if word := strings.Fields(line); len(word) > 1 && word[0] == "kernels" {
			line = kernels[word[1]].which(word[1]) + "\n"
		}
		b.WriteString(line)
	}
	b.WriteString(begin)
	random := rand.New(rand.NewPCG(3, 4))
	for i := range 240 {
		name, modeName, keyLen := []string{"wide", "narrow"}[i%2], []string{"one-shot", "shared"}[i/2%2], 16<<(i/4%2)
		lengths, words := make([]uint32, 1+random.IntN(1+random.IntN(kernel.Chunk))), []string(nil)
		last, step := uint32(random.IntN(500)), 1+random.IntN(600)
		for j := range lengths {
			last += uint32(random.IntN(1 + random.IntN(step)))
			lengths[j] = last
			words = append(words, fmt.Sprint(last))
		}
		calls := kernels[name].run(kernel.Mode(i/2%2), keyLen, lengths)
		fmt.Fprintf(&b, "case %s %d %s %s = %s\n", name, keyLen, modeName, strings.Join(words, ","), calls)
	}
	if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
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
		calls := r.run(kernel.Mode(random.IntN(2)), 16<<random.IntN(2), lengths)
		for i := range lengths {
			if len(r.taken) != len(lengths) || r.taken[i] != uint32(i) {
				t.Fatalf("lengths %d: %s took %d", lengths, calls, r.taken)
			}
		}
	}
}
