// Package armv8 is the backend for arm64's cryptographic extension: AES and
// PMULL, and SHA-3's EOR3 where the CPU has it. Its assembly is written by
// internal/gen/arm64.
package armv8

import (
	"unsafe"

	"golang.org/x/sys/cpu"

	"libeesp/internal/kernel"
)

// slotBytes is the room of an expanded key: 15 round keys, H^8 to H, and the
// powers' folds.
const slotBytes = 448

// Scratch memory: atOnce keys of mode Once are expanded there at a time, so that
// with the packets they stay in a first-level cache. Powers of H are made for
// four keys, perhaps of three slots that nobody uses. Behind them is what the
// short kernels need.
const (
	atOnce     = 16
	masksAt    = (atOnce + 3) * slotBytes
	masksBytes = 64
)

var _ [kernel.ScratchBytes - masksAt - masksBytes]byte

// Longest packets, in octets, that go to the short kernels: fresh keys have
// fewer powers of H there, which have to be made first.
const (
	freshLimit = 768
	heldLimit  = 512
)

// midLength is the length from which the long kernels need all powers of H.
const midLength = 96

// kernels are the assembly functions of a variant, by length of key and
// direction (open, seal).
type kernels struct {
	expand [2]func(area, keys *byte, n int)
	powers [3]func(area *byte, n int) // up to H^2, H^4, H^8
	long   [2][2]func(area, jobs *byte, n, held, powers int)
	short  [2][2]func(area, jobs *byte, n, held int, scratch *byte)
}

var (
	plain = kernels{
		expand: [2]func(area, keys *byte, n int){expand128, expand256},
		powers: [3]func(area *byte, n int){powers2, powers4, powers8},
		long:   [2][2]func(area, jobs *byte, n, held, powers int){{openLong128, sealLong128}, {openLong256, sealLong256}},
		short:  [2][2]func(area, jobs *byte, n, held int, scratch *byte){{openShort128, sealShort128}, {openShort256, sealShort256}},
	}
	eor3 = kernels{
		expand: [2]func(area, keys *byte, n int){expand128EOR3, expand256EOR3},
		powers: [3]func(area *byte, n int){powers2EOR3, powers4EOR3, powers8EOR3},
		long:   [2][2]func(area, jobs *byte, n, held, powers int){{openLong128EOR3, sealLong128EOR3}, {openLong256EOR3, sealLong256EOR3}},
		short:  [2][2]func(area, jobs *byte, n, held int, scratch *byte){{openShort128EOR3, sealShort128EOR3}, {openShort256EOR3, sealShort256EOR3}},
	}
)

// Backend is this package, in the variant that the CPU is best at.
var Backend = choose(cpu.ARM64.HasSHA3).backend()

func choose(hasEOR3 bool) *kernels {
	if hasEOR3 {
		return &eor3
	}
	return &plain
}

// Supported reports whether the CPU has what either variant needs.
func Supported() bool { return cpu.ARM64.HasAES && cpu.ARM64.HasPMULL }

func (k *kernels) backend() kernel.Backend {
	return kernel.Backend{
		Name:     "armv8",
		KeyBytes: slotBytes,
		Derive: func(out, msgs unsafe.Pointer, n, blocks int, m *kernel.Master, sub *[16]byte, scratch unsafe.Pointer) {
			derive((*byte)(out), (*byte)(msgs), n, blocks, &m.RK[0][0], &sub[0])
		},
		Expand: func(area, keys unsafe.Pointer, n, keyLen int, scratch unsafe.Pointer) {
			k.expand[keyLen>>5]((*byte)(area), (*byte)(keys), n)
			k.powers[2]((*byte)(area), n)
		},
		Seal: func(area unsafe.Pointer, jobs *kernel.Job, n, keyLen int, mode kernel.Mode, scratch unsafe.Pointer) {
			k.crypt(area, unsafe.Slice(jobs, n), keyLen, mode, scratch, 1)
		},
		Open: func(area unsafe.Pointer, jobs *kernel.Job, n, keyLen int, mode kernel.Mode, scratch unsafe.Pointer) {
			k.crypt(area, unsafe.Slice(jobs, n), keyLen, mode, scratch, 0)
		},
	}
}

// crypt seals or opens a call's jobs.
func (k *kernels) crypt(area unsafe.Pointer, jobs []kernel.Job, keyLen int, mode kernel.Mode, scratch unsafe.Pointer, direction int) {
	size := keyLen >> 5
	short, long := k.short[size][direction], k.long[size][direction]
	masks := (*byte)(unsafe.Add(scratch, masksAt))
	if mode == kernel.Many {
		for len(jobs) > 0 {
			n, lanes := next(jobs, heldLimit)
			if lanes {
				short((*byte)(area), first(jobs), n, 1, masks)
			} else {
				long((*byte)(area), first(jobs), n, 1, 8)
			}
			jobs = jobs[n:]
		}
		return
	}
	used := (min(len(jobs), atOnce) + 3) * slotBytes
	for at := 0; at < len(jobs); at += atOnce {
		some := jobs[at:min(at+atOnce, len(jobs))]
		k.expand[size]((*byte)(scratch), (*byte)(unsafe.Add(area, at*keyLen)), len(some))
		for slot := scratch; len(some) > 0; {
			n, lanes := next(some, freshLimit)
			switch {
			case lanes:
				k.powers[0]((*byte)(slot), n)
				short((*byte)(slot), first(some), n, 0, masks)
			case some[n-1].Len < midLength:
				k.powers[1]((*byte)(slot), n)
				long((*byte)(slot), first(some), n, 0, 4)
			default:
				k.powers[2]((*byte)(slot), n)
				long((*byte)(slot), first(some), n, 0, 8)
			}
			some = some[n:]
			slot = unsafe.Add(slot, n*slotBytes)
		}
	}
	clear(unsafe.Slice((*byte)(scratch), used))
}

func first(jobs []kernel.Job) *byte { return (*byte)(unsafe.Pointer(&jobs[0])) }

// next says how many of the jobs in front go to one kernel together, and
// whether that is the short one: groups of four with equally many steps of 32
// octets.
func next(jobs []kernel.Job, limit uint32) (n int, short bool) {
	group := func(i int) bool {
		return i+4 <= len(jobs) && jobs[i+3].Len <= limit && (jobs[i].Len+31)/32 == (jobs[i+3].Len+31)/32
	}
	for group(n) {
		n += 4
	}
	if n > 0 {
		return n, true
	}
	for n = 1; n < len(jobs) && !group(n); n++ {
	}
	return n, false
}
