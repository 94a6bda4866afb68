//go:build amd64

// Command tune measures from which length on which kernel is faster on this CPU
// and writes that down in internal/asm: see `make tune`. The machine should be
// idle; the fastest of many short rounds counts.
package main

import (
	"fmt"
	"go/format"
	"log"
	"os"
	"path/filepath"
	"slices"
	"time"
	"unsafe"

	"libeesp/internal/asm/vaes256"
	"libeesp/internal/asm/vaes512"
	"libeesp/internal/asm/vector"
	"libeesp/internal/kernel"
)

const (
	never, always = 0, 1 << 20
	longest       = 9000
	rounds        = 150
)

type bench struct {
	k       *vector.Kernels
	be      *kernel.Backend
	area    [2][]byte // by length of key
	keys    []byte
	scratch []byte
	text    []byte
	aad     [20]byte
	jobs    [kernel.Chunk]kernel.Job
}

func aligned(n int) []byte {
	b := make([]byte, n+64)
	return b[-uintptr(unsafe.Pointer(&b[0]))%64:][:n]
}

var keyLens = [2]int{16, 32}

// ns is the time of a packet in calls of n, of this length, the mean of both
// lengths of key, in place and to elsewhere.
func (b *bench) ns(mode kernel.Mode, n, length int) float64 {
	stride := length + 128
	sum := 0.0
	for way := range 4 {
		i, keyLen := way%2, keyLens[way%2]
		for i := range n {
			p := unsafe.Pointer(&b.text[4096+i*stride])
			src := p
			if way >= 2 {
				src = unsafe.Pointer(&b.text[len(b.text)/2+i*stride])
			}
			b.jobs[i] = kernel.Job{AAD: unsafe.Pointer(&b.aad), AADLen: 20, Src: src, Dst: p, Len: uint32(length), Tag: unsafe.Add(p, length), Key: uint32(i)}
		}
		area := unsafe.Pointer(&b.keys[0])
		if mode == kernel.Shared {
			area = unsafe.Pointer(&b.area[i][0])
		}
		best := time.Hour
		for range rounds {
			t := time.Now()
			for range 4 {
				b.be.Seal(area, &b.jobs[0], n, keyLen, mode, unsafe.Pointer(&b.scratch[0]))
			}
			best = min(best, time.Since(t))
		}
		sum += float64(best.Nanoseconds())
	}
	return sum / 4 / float64(n) / 4
}

// crossover is the length up to which the first way is as fast as the second: from
// there on it is slower twice in a row.
func (b *bench) crossover(from int, first, second func(length int) float64) uint32 {
	last, slower := from, 0
	for length := from; length <= longest; length += 64 + length/16&^15 {
		a, z := first(length), second(length)
		if os.Getenv("TUNE_VERBOSE") != "" {
			fmt.Printf("  %5d octets: %.1f, %.1f ns\n", length, a, z)
		}
		if a <= z {
			last, slower = length, 0
		} else if slower++; slower == 2 {
			break
		}
	}
	return uint32(last)
}

// narrow says for which numbers of blocks Pairs' One, the key's derivation included, is faster
// than One, by bits.
func (b *bench) narrow(size int) (bits uint32) {
	master, sub := aligned(15*16), aligned(16)
	times := func(k *vector.Kernels) (best time.Duration) {
		best = time.Hour
		for range rounds {
			t := time.Now()
			for range 4 {
				k.One[size][vector.Seal](&b.keys[0], (*byte)(unsafe.Pointer(&b.jobs[0])), 1, &b.scratch[0], &master[0], &sub[0])
			}
			best = min(best, time.Since(t))
		}
		return best
	}
	for blocks := range 32 {
		n := 16 * blocks
		b.jobs[0] = kernel.Job{AAD: unsafe.Pointer(&b.aad), AADLen: 20, Src: unsafe.Pointer(&b.text[4096]), Dst: unsafe.Pointer(&b.text[8192]), Len: uint32(n), Tag: unsafe.Pointer(&b.text[8192+n])}
		if 101*times(b.k.Pairs) < 100*times(b.k) {
			bits |= 1 << blocks
		}
	}
	return bits
}

// tune is the median of several measurements, of each number by itself.
func tune(k *vector.Kernels, be *kernel.Backend) vector.Tuning {
	const times = 5
	var all [times]vector.Tuning
	for i := range all {
		all[i] = measure(k, be)
	}
	t := all[0]
	for size := range t.NarrowBlocks {
		t.NarrowBlocks[size] = 0
		for bit := range 32 {
			set := 0
			for i := range all {
				set += int(all[i].NarrowBlocks[size] >> bit & 1)
			}
			if set > times/2 {
				t.NarrowBlocks[size] |= 1 << bit
			}
		}
	}
	for _, of := range []func(t *vector.Tuning) *uint32{
		func(t *vector.Tuning) *uint32 { return &t.RawLimit },
		func(t *vector.Tuning) *uint32 { return &t.ExpandedLimit },
		func(t *vector.Tuning) *uint32 { return &t.RestLimit },
		func(t *vector.Tuning) *uint32 { return &t.OneLimit },
		func(t *vector.Tuning) *uint32 { return &t.PairLimit[0] },
		func(t *vector.Tuning) *uint32 { return &t.PairLimit[1] },
		func(t *vector.Tuning) *uint32 { return &t.Alone[0] },
		func(t *vector.Tuning) *uint32 { return &t.Alone[1] },
		func(t *vector.Tuning) *uint32 { return &t.QuadOctet },
		func(t *vector.Tuning) *uint32 { return &t.Begin[0] },
		func(t *vector.Tuning) *uint32 { return &t.Begin[1] },
	} {
		var x []uint32
		for i := range all {
			x = append(x, *of(&all[i]))
		}
		slices.Sort(x)
		*of(&t) = x[times/2]
	}
	return t
}

func measure(k *vector.Kernels, be *kernel.Backend) vector.Tuning {
	b := &bench{k: k, be: be, keys: aligned(kernel.Chunk * 32),
		scratch: aligned(kernel.ScratchBytes), text: make([]byte, 4096+2*kernel.Chunk*(longest+256))}
	for i := range b.text { // no page of it is missing
		b.text[i] = byte(i)
	}
	for i, keyLen := range keyLens {
		b.area[i] = aligned(kernel.Chunk * kernel.MaxKeyBytes)
		be.Expand(unsafe.Pointer(&b.area[i][0]), unsafe.Pointer(&b.keys[0]), kernel.Chunk, keyLen, unsafe.Pointer(&b.scratch[0]))
	}
	was := k.Tuning
	with := func(t vector.Tuning, mode kernel.Mode, n int) func(int) float64 {
		return func(length int) float64 {
			k.Tuning = t
			return b.ns(mode, n, length)
		}
	}
	short, long := was, was
	short.RawLimit, short.ExpandedLimit = always, always
	long.RawLimit, long.ExpandedLimit, long.RestLimit = never, never, never
	t := vector.Tuning{CPU: vector.CPU()}
	const most = vector.ShortMost
	t.RawLimit = min(b.crossover(256, with(short, kernel.OneShot, 32), with(long, kernel.OneShot, 32)), most)
	t.ExpandedLimit = min(b.crossover(256, with(short, kernel.Shared, 32), with(long, kernel.Shared, 32)), most)
	of := [2]kernel.Mode{kernel.OneShot, kernel.Shared}
	if k.Quads {
		for n := int(t.ExpandedLimit) + 1; n <= most; n++ {
			if (n+31)%256 != 63 { // the longest of those that it is about
				continue
			}
			if with(short, kernel.Shared, 32)(n) >= with(long, kernel.Shared, 32)(n) {
				break
			}
			t.RestLimit = uint32(n)
		}
		// An octet in a full group, and in a long kernel; what that needs to begin follows.
		const a, z = 512, 1536
		slope := func(f func(int) float64) float64 { return (f(z) - f(a)) / (z - a) }
		for i, mode := range of {
			if i == 0 {
				t.QuadOctet = max(60, uint32(100*slope(with(short, mode, 32))/slope(with(long, mode, 32))))
			}
			// Where two packets are as fast as a group as one by one; groups may be
			// no longer than 1024.
			together, apart := was, was
			together.QuadOctet, apart.QuadOctet = 0, 100_000
			equal := min(b.crossover(256, with(together, mode, 2), with(apart, mode, 2)), 1024)
			t.Begin[i] = equal * (4*t.QuadOctet - 200) / 200
		}
		one, none := was, was
		one.OneLimit, none.OneLimit = always, never
		one.NarrowBlocks = [2]uint32{}
		none.RawLimit, none.QuadOctet, none.Begin = t.RawLimit, t.QuadOctet, t.Begin
		t.OneLimit = b.crossover(64, with(one, kernel.OneShot, 1), with(none, kernel.OneShot, 1))
		for size := range keyLens {
			t.NarrowBlocks[size] = b.narrow(size)
		}
		pair := t
		none = t
		pair.PairLimit = [2]uint32{1024, 1024}
		t.PairLimit = [2]uint32{
			min(1024, b.crossover(0, with(pair, kernel.OneShot, 2), with(none, kernel.OneShot, 2))),
			min(1024, b.crossover(0, with(pair, kernel.Shared, 1), with(none, kernel.Shared, 1)), b.crossover(0, with(pair, kernel.Shared, 2), with(none, kernel.Shared, 2))),
		}
	} else {
		short.Alone, long.Alone = [2]uint32{always, always}, [2]uint32{}
		short.OneLimit, long.OneLimit = never, never
		for i, mode := range of {
			t.Alone[i] = b.crossover(64, with(short, mode, 1), with(long, mode, 1))
		}
		one, none := t, t
		one.OneLimit, none.OneLimit = always, never
		t.OneLimit = min(b.crossover(64, with(one, kernel.OneShot, 1), with(none, kernel.OneShot, 1)), most)
	}
	k.Tuning = was
	return t
}

func write(root, name string, all []vector.Tuning, t vector.Tuning) {
	// What was measured on other CPUs stays, behind.
	table := []vector.Tuning{t}
	for _, x := range all {
		if x.CPU != t.CPU {
			table = append(table, x)
		}
	}
	text := fmt.Sprintf("// Code generated by make tune. DO NOT EDIT.\n\npackage %s\n\nimport \"libeesp/internal/asm/vector\"\n\n", name)
	text += "// Tunings by CPU; the first is for those that are not there.\nvar Tunings = []vector.Tuning{\n"
	for _, x := range table {
		text += fmt.Sprintf("\t{CPU: %q, RawLimit: %d, ExpandedLimit: %d, RestLimit: %d, OneLimit: %d, NarrowBlocks: [2]uint32{%#x, %#x}, PairLimit: [2]uint32{%d, %d}, Alone: [2]uint32{%d, %d}, QuadOctet: %d, Begin: [2]uint32{%d, %d}},\n",
			x.CPU, x.RawLimit, x.ExpandedLimit, x.RestLimit, x.OneLimit, x.NarrowBlocks[0], x.NarrowBlocks[1], x.PairLimit[0], x.PairLimit[1], x.Alone[0], x.Alone[1], x.QuadOctet, x.Begin[0], x.Begin[1])
	}
	out, err := format.Source([]byte(text + "}\n"))
	if err == nil {
		err = os.WriteFile(filepath.Join(root, "internal/asm", name, "tuned_amd64.go"), out, 0o644)
	}
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s on %s (%s): %+v\n", name, vector.Name(), t.CPU, t)
}

func main() {
	root := "."
	if len(os.Args) > 1 {
		root = os.Args[1]
	}
	if vaes512.Supported() {
		write(root, "vaes512", vaes512.Tunings, tune(vaes512.Kernels(), &vaes512.Backend))
	}
	if vaes256.Supported() {
		write(root, "vaes256", vaes256.Tunings, tune(vaes256.Kernels(), &vaes256.Backend))
	}
}
