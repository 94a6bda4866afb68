// Package armv8 is the backend for arm64's cryptographic extension: AES and
// PMULL, and SHA-3's EOR3 where the CPU has it. Its assembly is written by
// internal/gen/arm64.
package armv8

import (
	"unsafe"

	"golang.org/x/sys/cpu"

	"libeesp/internal/kernel"
)

// keyBytes is the size of an expanded key: 15 round keys, H^8 to H, the folds of these
// powers, the factors of the brief kernels, and 48 octets that kernels do not use.
const keyBytes = 512

// Scratch memory. Of mode OneShot, atOnce keys are expanded at a time, so that they stay in
// the first-level cache with the packets. Powers of H are made for four keys at a time, so
// there are three more places for keys. Behind them is the scratch of the short kernels.
const (
	atOnce     = 16
	masksAt    = (atOnce + 3) * keyBytes
	masksBytes = 64
)

var _ [kernel.ScratchBytes - masksAt - masksBytes]byte

// The longest packets for the short kernels, in octets. With raw keys the short kernels need
// fewer powers of H than the long ones, and powers must be made first.
const (
	freshLimit = 768
	heldLimit  = 512
)

// midLength is the length from which the long kernels need all powers of H.
const midLength = 96

// kernels are the assembly functions of a variant, by length of key and
// direction (open, seal).
type kernels struct {
	addresses func(to *uintptr)
	expand    [2]func(area, keys *byte, n int)
	powers    [3]func(area *byte, n int) // up to H^2, H^4, H^8
	long      [2][2]func(area, jobs *byte, n, shared, powers int)
	short     [2][2]func(area, jobs *byte, n, shared int, scratch *byte)
	brief     [2][2][2]func(area, jobs *byte, n int) // by mode first; nil: none
}

var (
	plain = kernels{
		addresses: addresses,
		expand:    [2]func(area, keys *byte, n int){expand128, expand256},
		powers:    [3]func(area *byte, n int){powers2, powers4, powers8},
		long:      [2][2]func(area, jobs *byte, n, shared, powers int){{openLong128, sealLong128}, {openLong256, sealLong256}},
		short:     [2][2]func(area, jobs *byte, n, shared int, scratch *byte){{openShort128, sealShort128}, {openShort256, sealShort256}},
		brief: [2][2][2]func(area, jobs *byte, n int){
			{{openBrief128, sealBrief128}, {openBrief256, sealBrief256}},
		},
	}
	eor3 = kernels{
		addresses: addressesEOR3,
		expand:    [2]func(area, keys *byte, n int){expand128EOR3, expand256EOR3},
		powers:    [3]func(area *byte, n int){powers2EOR3, powers4EOR3, powers8EOR3},
		long:      [2][2]func(area, jobs *byte, n, shared, powers int){{openLong128EOR3, sealLong128EOR3}, {openLong256EOR3, sealLong256EOR3}},
		short:     [2][2]func(area, jobs *byte, n, shared int, scratch *byte){{openShort128EOR3, sealShort128EOR3}, {openShort256EOR3, sealShort256EOR3}},
		brief: [2][2][2]func(area, jobs *byte, n int){
			{{openBrief128EOR3, sealBrief128EOR3}, {openBrief256EOR3, sealBrief256EOR3}},
			{{openBriefExpanded128EOR3, sealBriefExpanded128EOR3}, {openBriefExpanded256EOR3, sealBriefExpanded256EOR3}},
		},
	}
)

// Backend is the backend of this package, in the variant that is faster on this CPU.
var Backend = choose(cpu.ARM64.HasSHA3).backend()

func choose(hasEOR3 bool) *kernels {
	if hasEOR3 {
		return &eor3
	}
	return &plain
}

// Supported reports whether the CPU has the instructions that both variants need.
func Supported() bool { return cpu.ARM64.HasAES && cpu.ARM64.HasPMULL }

func (k *kernels) backend() kernel.Backend {
	return kernel.Backend{
		Name:     "armv8",
		Direct:   k.direct(),
		KeyBytes: keyBytes,
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

// direct lists the kernels for C, which chooses among them as crypt does (libeesp/arm64.h).
func (k *kernels) direct() *kernel.Direct {
	var a [22]uintptr
	k.addresses(&a[0])
	return &kernel.Direct{
		Derive:    a[0],
		Expand:    [2]uintptr{a[1], a[2]},
		Fewer:     [2]uintptr{a[3], a[4]},
		Powers:    [2]uintptr{a[5], a[5]},
		Expanded:  [2][2]uintptr{{a[6], a[7]}, {a[8], a[9]}},
		Long:      [2][2]uintptr{{a[10], a[11]}, {a[12], a[13]}},
		Brief:     [2][2][2]uintptr{{{a[14], a[15]}, {a[16], a[17]}}, {{a[18], a[19]}, {a[20], a[21]}}}, // or 0
		Limit:     [2]uint32{freshLimit, heldLimit},
		AllPowers: midLength,
		AtOnce:    atOnce, KeyBytes: keyBytes, LongAt: masksAt,
	}
}

// crypt seals or opens a call's jobs; run of libeesp/arm64.h does the same.
func (k *kernels) crypt(area unsafe.Pointer, jobs []kernel.Job, keyLen int, mode kernel.Mode, scratch unsafe.Pointer, direction int) {
	size := keyLen >> 5
	short, long, brief := k.short[size][direction], k.long[size][direction], k.brief[mode][size][direction]
	masks := (*byte)(unsafe.Add(scratch, masksAt))
	if mode == kernel.Shared {
		for len(jobs) > 0 {
			n, kind := next(jobs, heldLimit, brief != nil)
			switch kind {
			case isBrief:
				brief((*byte)(area), first(jobs), n)
			case isShort:
				short((*byte)(area), first(jobs), n, 1, masks)
			default:
				long((*byte)(area), first(jobs), n, 1, 8)
			}
			jobs = jobs[n:]
		}
		return
	}
	used := (min(len(jobs), atOnce) + 3) * keyBytes
	for at := 0; at < len(jobs); at += atOnce {
		some := jobs[at:min(at+atOnce, len(jobs))]
		k.expand[size]((*byte)(scratch), (*byte)(unsafe.Add(area, at*keyLen)), len(some))
		for slot := scratch; len(some) > 0; {
			n, kind := next(some, freshLimit, brief != nil)
			switch {
			case kind == isBrief:
				brief((*byte)(slot), first(some), n)
			case kind == isShort:
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
			slot = unsafe.Add(slot, n*keyBytes)
		}
	}
	clear(unsafe.Slice((*byte)(scratch), used))
}

func first(jobs []kernel.Job) *byte { return (*byte)(unsafe.Pointer(&jobs[0])) }

// Kinds of kernels. Short and brief ones take groups of four packets with equally many steps
// of 32 octets. Brief ones, if there are any, take those with two steps.
const (
	isLong = iota
	isShort
	isBrief
)

// next returns how many of the first jobs go to one kernel together, and its kind.
func next(jobs []kernel.Job, limit uint32, brief bool) (n, kind int) {
	of := func(i int) int {
		if i+4 > len(jobs) || jobs[i+3].Len > limit {
			return isLong
		}
		switch least, most := (jobs[i].Len+31)/32, (jobs[i+3].Len+31)/32; {
		case least != most:
			return isLong
		case brief && least == 2:
			return isBrief
		}
		return isShort
	}
	if kind = of(0); kind != isLong {
		for n = 4; of(n) == kind; n += 4 {
		}
		return n, kind
	}
	for n = 1; n < len(jobs) && of(n) == isLong; n++ {
	}
	return n, isLong
}
