// Package vector makes backends of assembly kernels that all have the same
// shape: which of them takes which packets of a call is decided here.
package vector

import (
	"unsafe"

	"libeesp/internal/kernel"
)

// Size says for which length of key a kernel is.
const (
	AES128 = iota
	AES256
)

// Direction of a kernel.
const (
	Open = iota
	Seal
)

// GroupBytes is the room of four expanded keys: 15 round keys, an unused row,
// and H to H^16, each row of 64 octets with one key a lane.
const GroupBytes = 32 * 64

// Scratch memory: short kernels use what is in front, long ones what is
// behind; expanded keys of long packets lie between.
const (
	jobsAt    = 2048 + 17*64 // see internal/gen/short.go; the sink is behind
	jobsBytes = 4 * 64
	rowsAt    = 4544
	atOnce    = 16 // keys of long packets expanded at a time
	longAt    = rowsAt + atOnce/4*GroupBytes
)

// Kernels are the assembly functions of a backend.
type Kernels struct {
	Derive func(out, msgs *byte, n, blocks int, master, sub *byte)
	Expand [2]func(area, keys *byte, n int) // round keys
	Powers [2]func(area *byte, n int)       // H and its powers, behind round keys
	Fresh  [2][2]func(keys, jobs *byte, n int, scratch *byte)
	Held   [2][2]func(area, jobs *byte, n int, scratch *byte)
	Long   [2][2]func(area, jobs *byte, n int, held int, scratch *byte)

	// Longest packets, in octets, that go to the short kernels; at most 1024.
	FreshLimit, HeldLimit uint32
}

// Backend makes a backend.
func (k *Kernels) Backend(name string) kernel.Backend {
	return kernel.Backend{
		Name:     name,
		KeyBytes: GroupBytes / 4,
		Derive: func(out, msgs unsafe.Pointer, n, blocks int, m *kernel.Master, sub *[16]byte, scratch unsafe.Pointer) {
			k.Derive((*byte)(out), (*byte)(msgs), n, blocks, &m.RK[0][0], &sub[0])
		},
		Expand: func(area, keys unsafe.Pointer, n, keyLen int, scratch unsafe.Pointer) {
			k.Expand[keyLen>>5]((*byte)(area), (*byte)(keys), n)
			k.Powers[keyLen>>5]((*byte)(area), n)
		},
		Seal: func(area unsafe.Pointer, jobs *kernel.Job, n, keyLen int, mode kernel.Mode, scratch unsafe.Pointer) {
			k.crypt(area, jobs, n, keyLen, mode, scratch, Seal)
		},
		Open: func(area unsafe.Pointer, jobs *kernel.Job, n, keyLen int, mode kernel.Mode, scratch unsafe.Pointer) {
			k.crypt(area, jobs, n, keyLen, mode, scratch, Open)
		},
	}
}

func (k *Kernels) crypt(area unsafe.Pointer, first *kernel.Job, n, keyLen int, mode kernel.Mode, scratch unsafe.Pointer, dir int) {
	jobs := unsafe.Slice(first, n)
	size := keyLen >> 5
	limit := k.FreshLimit
	if mode == kernel.Many {
		limit = k.HeldLimit
	}
	short := n
	for short > 0 && jobs[short-1].Len > limit {
		short--
	}
	if short > 0 {
		f := k.Fresh
		if mode == kernel.Many {
			f = k.Held
		}
		f[size][dir]((*byte)(area), (*byte)(unsafe.Pointer(first)), short, (*byte)(scratch))
		if short&3 != 0 {
			clear(unsafe.Slice((*byte)(unsafe.Add(scratch, jobsAt)), jobsBytes+kernel.TagSize+int(jobs[short-1].Len)))
		}
	}
	if short == n {
		return
	}
	long := (*byte)(unsafe.Add(scratch, longAt))
	if mode == kernel.Many {
		k.Long[size][dir]((*byte)(area), (*byte)(unsafe.Pointer(&jobs[short])), n-short, 1, long)
		return
	}
	rows := (*byte)(unsafe.Add(scratch, rowsAt))
	most := 0
	for at := short; at < n; at += atOnce {
		some := min(atOnce, n-at)
		k.Expand[size](rows, (*byte)(unsafe.Add(area, at*keyLen)), some)
		k.Powers[size](rows, some)
		k.Long[size][dir](rows, (*byte)(unsafe.Pointer(&jobs[at])), some, 0, long)
		most = max(most, some)
	}
	clear(unsafe.Slice(rows, (most+3)/4*GroupBytes))
}
