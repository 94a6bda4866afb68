// Package vector makes backends from assembly kernels with a common interface.
// It decides which kernel processes which packets of a call.
package vector

import (
	"unsafe"

	"libeesp/internal/kernel"
)

// Key length of a kernel.
const (
	AES128 = iota
	AES256
)

// Direction of a kernel.
const (
	Open = iota
	Seal
)

// QuadBytes is the size of four expanded keys: 15 round keys, an unused vector, and H to
// H^16. Each of these is a vector of 64 octets, with one key in each lane of 16.
const QuadBytes = 32 * 64

// ShortMost is the longest packet, in octets, for which short kernels may be tuned. They count in the last octet of a
// counter, which begins anew behind 254 blocks: then a packet would have the same key stream twice.
const ShortMost = 3900

// Layout of scratch memory: for short kernels, then expanded keys of long packets, then for
// long kernels.
const (
	jobsAt    = 2048 + 17*64 // see internal/gen/short.go; then the sink, for octets of missing packets
	jobsBytes = 4 * 64
	sinkBytes = 1024
	longLeast = 256 // the shortest packets of long kernels, in octets
	rowsAt    = 4544
	atOnce    = 16 // how many keys of long packets are expanded at a time
	longAt    = rowsAt + atOnce/4*QuadBytes
)

// Kernels are the assembly functions of a backend.
type Kernels struct {
	Addresses func(to *uintptr) // writes those of Derive, Expand, Powers, Long, Raw, Expanded, One
	Derive    func(out, msgs *byte, n, blocks int, master, sub *byte)
	Expand    [2]func(area, keys *byte, n int) // round keys
	Powers    [2]func(area *byte, n int)       // H and its powers, behind round keys
	Raw       [2][2]func(keys, jobs *byte, n int, scratch *byte)
	Expanded  [2][2]func(area, jobs *byte, n int, scratch *byte)
	Long      [2][2]func(area, jobs *byte, n int, shared int, scratch *byte)

	// One takes packets with raw keys one after the other. They have up to OneAAD octets of
	// AAD and less than OneLimit octets to encrypt. nil: there is none, and OneLimit is 0.
	One    [2][2]func(keys, jobs *byte, n int, scratch, master, sub *byte)
	OneAAD uint32
	// Ones is Addresses of the backend that One belongs to, if that is another one.
	Ones func(to *uintptr)

	// Pairs are the kernels of a backend with narrower vectors, for one or two packets. Both
	// backends have one form of expanded keys. nil: there are none, and PairLimit is 0.
	Pairs *Kernels

	// Quads says that short kernels take groups of four packets, and as much time as if all
	// were as long as the longest. For missing packets they write up to sinkBytes octets to
	// scratch.
	Quads bool

	Wide      bool   // see kernel.Direct
	OneBlocks uint64 // see kernel.Direct
	Heads     bool   // Long takes bodies with a head: see kernel.Direct's HeadLeast

	Tuning
}

// Tuning says which kernel is fastest at which lengths, in octets. `make tune` measures it.
// Pairs of numbers are for raw keys and for expanded ones.
type Tuning struct {
	CPU string // vendor and family
	// RawLimit and ExpandedLimit are the longest packets for short kernels, with raw keys
	// and with expanded ones. OneLimit is above all packets for One.
	RawLimit, ExpandedLimit, OneLimit uint32
	// RestLimit is the longest packet above ExpandedLimit that short kernels with Quads take if it is one of four of
	// which the last of long kernels' windows would hold at most 64 octets.
	RestLimit uint32
	// NarrowBlocks, by length of key: Pairs' One takes the place of One for packets of n
	// blocks if bit n is set.
	NarrowBlocks [2]uint32
	// PairLimit is the longest packet for Pairs, which take two packets of about the same
	// length that are not in a larger group, or one that One does not take.
	PairLimit [2]uint32
	// Alone is the longest packet that short kernels without Quads, which take packets in
	// pairs, take without a second one.
	Alone [2]uint32
	// QuadOctet is the time for an octet in a group of four, in hundredths of that in long
	// kernels. Begin is the time that long kernels need to begin a packet, in octets.
	QuadOctet uint32
	Begin     [2]uint32
}

// Backend makes a backend.
func (k *Kernels) Backend(name string) kernel.Backend {
	return kernel.Backend{
		Name:     name,
		Direct:   k.direct(),
		KeyBytes: QuadBytes / 4,
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

// direct lists the kernels for C.
func (k *Kernels) direct() *kernel.Direct {
	var a [21]uintptr
	k.Addresses(&a[0])
	d := &kernel.Direct{
		Derive:    a[0],
		Expand:    [2]uintptr{a[1], a[2]},
		Powers:    [2]uintptr{a[3], a[4]},
		Long:      [2][2]uintptr{{a[5], a[6]}, {a[7], a[8]}},
		Raw:       [2][2]uintptr{{a[9], a[10]}, {a[11], a[12]}},
		Expanded:  [2][2]uintptr{{a[13], a[14]}, {a[15], a[16]}},
		Limit:     [2]uint32{k.RawLimit, k.ExpandedLimit},
		Begin:     k.Begin,
		Alone:     k.Alone,
		ResidueAt: jobsAt, ResidueLen: jobsBytes + kernel.TagSize,
		QuadOctet: k.QuadOctet, RestLimit: k.RestLimit, PartialMax: sinkBytes, LongLeast: longLeast,
		RowsAt: rowsAt, AtOnce: atOnce, KeyBytes: QuadBytes / 4, LongAt: longAt,
	}
	if k.Quads {
		d.Quads = 1
	}
	if k.Wide {
		d.Wide = 1
	}
	if k.Heads { // longer ones are always Long's
		d.HeadLeast = 1 + max(k.ExpandedLimit, k.PairLimit[kernel.Shared], longLeast)
	}
	if k.OneLimit != 0 {
		if k.Ones != nil {
			k.Ones(&a[0])
		}
		d.One, d.OneLimit, d.OneAAD = [2][2]uintptr{{a[17], a[18]}, {a[19], a[20]}}, k.OneLimit, k.OneAAD
		d.OneBlocks = k.OneBlocks
	}
	if k.Pairs != nil {
		pairs := k.Pairs.direct()
		d.Pair, d.PairLimit = [2][2][2]uintptr{pairs.Raw, pairs.Expanded}, k.PairLimit
		d.Narrow, d.NarrowBlocks, d.NarrowAAD = pairs.One, k.NarrowBlocks, pairs.OneAAD
	}
	return d
}

func (k *Kernels) crypt(area unsafe.Pointer, first *kernel.Job, n, keyLen int, mode kernel.Mode, scratch unsafe.Pointer, dir int) {
	jobs := unsafe.Slice(first, n)
	size := keyLen >> 5
	short, limit := k.Raw[size][dir], k.RawLimit
	if mode == kernel.Shared {
		short, limit = k.Expanded[size][dir], k.ExpandedLimit
	}
	for at := 0; at < n; {
		keys := keysOf(area, at, keyLen, mode)
		some, lanes := k.next(jobs[at:], limit, mode)
		if mode == kernel.OneShot && some == 1 && k.single(&jobs[at]) {
			one := k.One[size][dir]
			if n := (jobs[at].Len + 15) / 16; k.Pairs != nil && k.NarrowBlocks[size]>>n&1 != 0 && jobs[at].AADLen <= k.Pairs.OneAAD {
				one = k.Pairs.One[size][dir]
			}
			one((*byte)(keys), (*byte)(unsafe.Pointer(&jobs[at])), 1, (*byte)(scratch), nil, nil)
		} else if k.Pairs != nil && some <= 2 && jobs[at+some-1].Len <= k.PairLimit[mode] {
			pair := k.Pairs.Raw[size][dir]
			if mode == kernel.Shared {
				pair = k.Pairs.Expanded[size][dir]
			}
			pair((*byte)(keys), (*byte)(unsafe.Pointer(&jobs[at])), some, (*byte)(scratch))
		} else if lanes {
			short((*byte)(keys), (*byte)(unsafe.Pointer(&jobs[at])), some, (*byte)(scratch))
			if some&3 != 0 && k.Quads {
				clear(unsafe.Slice((*byte)(unsafe.Add(scratch, jobsAt)), jobsBytes+kernel.TagSize+int(jobs[at+some-1].Len)))
			}
		} else {
			k.long(keys, jobs[at:at+some], keyLen, mode, scratch, dir)
		}
		at += some
	}
}

// single reports whether a packet may go to One.
func (k *Kernels) single(j *kernel.Job) bool { return j.Len < k.OneLimit && j.AADLen <= k.OneAAD }

// keysOf returns the keys of the jobs from number at on.
func keysOf(area unsafe.Pointer, at, keyLen int, mode kernel.Mode) unsafe.Pointer {
	if mode == kernel.Shared {
		return area
	}
	return unsafe.Add(area, at*keyLen)
}

// next returns how many jobs go to the next kernel, and whether it is the short one.
func (k *Kernels) next(jobs []kernel.Job, limit uint32, mode kernel.Mode) (n int, short bool) {
	n = len(jobs)
	begin := k.Begin[mode]
	if !k.Quads {
		for n > 0 && jobs[n-1].Len > limit {
			n--
		}
		if n > 0 && jobs[n-1].Len > k.Alone[mode] && lastAlone(jobs[:n]) {
			n--
		}
		if n == 0 {
			return len(jobs), false
		}
		return n, true
	}
	if last := jobs[n-1].Len; last <= limit && n&3 == 0 && even(jobs[0].Len, last) {
		return n, true
	}
	// As many groups of four packets of about the same length as there are, and then a
	// partial group.
	run := 0
	for run+4 <= n && k.fits(jobs[run:run+4], limit, mode) && even(jobs[run].Len, jobs[run+3].Len) {
		run += 4
	}
	rest := run
	for rest < n && rest < run+3 && even(jobs[run].Len, jobs[rest].Len) {
		rest++
	}
	if rest > run && k.quadPays(jobs[run:rest], begin) && jobs[rest-1].Len <= limit {
		run = rest
	}
	if run > 0 {
		return run, true
	}
	// Long kernels take the packets up to the next group of four.
	for run = max(rest, 1); run < n; run++ {
		if g := jobs[run:]; len(g) >= 4 && k.fits(g, limit, mode) && even(g[0].Len, g[3].Len) {
			break
		}
	}
	return run, false
}

// fits reports whether short kernels take four jobs of about one length: up to the limit, and with expanded keys above
// it, too, where the last of long kernels' windows, of 256 octets, but 224 the first, would hold at most 64. Heads of
// bodies are for long kernels only.
func (k *Kernels) fits(g []kernel.Job, limit uint32, mode kernel.Mode) bool {
	last := g[3].Len + 31
	return g[3].Len <= limit || mode == kernel.Shared && g[3].Len <= k.RestLimit && last%256 < 64 && (g[0].Len+31)/256 == last/256 &&
		g[0].Reserved|g[1].Reserved|g[2].Reserved|g[3].Reserved == 0
}

// lastAlone reports whether kernels that take packets in pairs, if the lengths of two allow
// it (see short256.go of internal/gen), find no second one for the last.
func lastAlone(jobs []kernel.Job) bool {
	i := 0
	for i+1 < len(jobs) {
		if a := jobs[i].Len; a+a/8+128 >= jobs[i+1].Len {
			i++
		}
		i++
	}
	return i == len(jobs)-1
}

// even reports whether packets of lengths a <= b are close enough to go side by side: steps
// of 64 octets that not all four have take twice the time.
func even(a, b uint32) bool { return b-a <= 64+a/8 }

// quadPays reports whether a group of fewer than four packets is faster in the short
// kernels, which take as long as for four, than one by one.
func (k *Kernels) quadPays(jobs []kernel.Job, begin uint32) bool {
	longest := jobs[len(jobs)-1].Len
	if jobs[0].Len < longLeast {
		return true
	}
	sum := uint32(0)
	for i := range jobs {
		sum += jobs[i].Len + begin
	}
	return 4*longest*k.QuadOctet <= 100*sum && longest <= sinkBytes
}

// long runs jobs through the long kernels.
func (k *Kernels) long(area unsafe.Pointer, jobs []kernel.Job, keyLen int, mode kernel.Mode, scratch unsafe.Pointer, dir int) {
	n, size := len(jobs), keyLen>>5
	room := (*byte)(unsafe.Add(scratch, longAt))
	if mode == kernel.Shared {
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
	clear(unsafe.Slice(rows, (min(n, atOnce)+3)/4*QuadBytes))
}
