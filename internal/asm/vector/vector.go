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
	sinkBytes = 1024
	longLeast = 256 // long kernels take no shorter packets
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

	// Longest packets, in octets, that go to the short kernels.
	FreshLimit, HeldLimit uint32

	// Waste is for short kernels that take groups of four packets as if all
	// were as long as the longest: how many octets a group may lack before it
	// is better off in the long kernels. They may write up to sinkBytes where
	// packets are missing. 0: unequal packets cost nothing.
	Waste uint32
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
	short, limit := k.Fresh[size][dir], k.FreshLimit
	if mode == kernel.Many {
		short, limit = k.Held[size][dir], k.HeldLimit
	}
	for at := 0; at < n; {
		some := k.shortRun(jobs[at:], limit)
		if some == 0 && jobs[at].Len < longLeast { // unequal, but too short for the others
			for some < 4 && at+some < n && jobs[at+some].Len < longLeast {
				some++
			}
		}
		if some > 0 {
			short((*byte)(keysOf(area, at, keyLen, mode)), (*byte)(unsafe.Pointer(&jobs[at])), some, (*byte)(scratch))
			if some&3 != 0 && k.Waste != 0 {
				clear(unsafe.Slice((*byte)(unsafe.Add(scratch, jobsAt)), jobsBytes+kernel.TagSize+int(jobs[at+some-1].Len)))
			}
		} else {
			for some = min(4, n-at); at+some < n && k.shortRun(jobs[at+some:], limit) == 0; {
				some += min(4, n-at-some)
			}
			k.long(keysOf(area, at, keyLen, mode), jobs[at:at+some], keyLen, mode, scratch, dir)
		}
		at += some
	}
}

// keysOf is the area of the jobs from at on.
func keysOf(area unsafe.Pointer, at, keyLen int, mode kernel.Mode) unsafe.Pointer {
	if mode == kernel.Many {
		return area
	}
	return unsafe.Add(area, at*keyLen)
}

// shortRun is how many jobs from the first on are for the short kernels.
func (k *Kernels) shortRun(jobs []kernel.Job, limit uint32) int {
	n := len(jobs)
	if last := jobs[n-1].Len; last <= limit && (k.Waste == 0 || n&3 == 0 && last-jobs[0].Len <= k.Waste/4) {
		return n
	}
	run := 0
	for run < n {
		some := min(4, n-run)
		longest := jobs[run+some-1].Len
		if longest > limit {
			if k.Waste == 0 { // packet by packet
				for jobs[run].Len <= limit {
					run++
				}
			}
			break
		}
		if k.Waste != 0 {
			waste := 4 * longest
			for i := range some {
				waste -= jobs[run+i].Len
			}
			if waste > k.Waste/4*uint32(some) || some < 4 && longest > sinkBytes {
				break
			}
		}
		run += some
	}
	return run
}

// long runs jobs through the long kernels.
func (k *Kernels) long(area unsafe.Pointer, jobs []kernel.Job, keyLen int, mode kernel.Mode, scratch unsafe.Pointer, dir int) {
	n, size := len(jobs), keyLen>>5
	room := (*byte)(unsafe.Add(scratch, longAt))
	if mode == kernel.Many {
		k.Long[size][dir]((*byte)(area), (*byte)(unsafe.Pointer(&jobs[0])), n, 1, room)
		return
	}
	rows := (*byte)(unsafe.Add(scratch, rowsAt))
	for at := 0; at < n; at += atOnce {
		some := min(atOnce, n-at)
		k.Expand[size](rows, (*byte)(unsafe.Add(area, at*keyLen)), some)
		k.Powers[size](rows, some)
		k.Long[size][dir](rows, (*byte)(unsafe.Pointer(&jobs[at])), some, 0, room)
	}
	clear(unsafe.Slice(rows, (min(n, atOnce)+3)/4*GroupBytes))
}
