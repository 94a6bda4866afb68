package burst

import (
	"encoding/binary"
	"unsafe"

	"libeesp/internal/kernel"
	"libeesp/internal/profile"
)

type direction int

const (
	seal  direction = iota
	open            // with contexts in ctx
	alike           // opening, with KDF inputs of one form in msgs, as in sealing
)

// fewKeys is how many packets a key must serve on average for expanding it
// once to be faster than running its schedule beside each packet.
const fewKeys = 8

// run takes n jobs, all of one key length, through derivation, expansion and
// the cipher. order picks lanes; nil: lanes 0 to n-1. held is the expanded data
// key of a sender or receiver without master key, else nil.
func (w *Worker) run(be *kernel.Backend, n, keyLen int, held *Held, order []uint8, dir direction) {
	if n == 0 {
		return
	}
	order = w.byLength(n, order)
	area, mode := unsafe.Pointer(&w.sec.keys), kernel.Once
	if held != nil {
		area, mode = unsafe.Pointer(held.area), kernel.Many
		for i := range n {
			w.jobs[at(order, i)].Key = 0
		}
	} else {
		u := 0
		switch dir {
		case open:
			u = w.openKeys(be, n, keyLen, order)
		case alike:
			u = w.keysAlike(be, n, w.shape.MsgLen(), keyLen, w.shape.Master(), false)
		default:
			u = w.sealKeys(be, n)
		}
		w.used.keys = max(w.used.keys, n*keyLen)
		switch {
		case u*fewKeys <= n: // expand each once
			area, mode = unsafe.Pointer(&w.sec.area), kernel.Many
			w.used.area = max(w.used.area, (u+3)&^3*be.KeyBytes)
			be.Expand(area, unsafe.Pointer(&w.sec.keys), u, keyLen, unsafe.Pointer(&w.sec.scratch))
			for i := range n {
				x := at(order, i)
				w.jobs[x].Key = uint32(w.slot[x])
			}
		case u < n || dir != open && order != nil: // a copy for each job
			area = unsafe.Pointer(&w.sec.derived)
			w.used.derived = max(w.used.derived, n*keyLen)
			for i := range n {
				k := at(order, i)
				if u < n {
					k = int(w.slot[k])
				}
				copy(w.sec.derived[i*keyLen:][:keyLen], w.sec.keys[k*keyLen:])
			}
		}
	}
	w.crypt(be, area, n, order, keyLen, mode, dir)
}

// byLength returns the order of non-decreasing length in which kernels want
// jobs, nil if they are in it already.
func (w *Worker) byLength(n int, order []uint8) []uint8 {
	if order == nil {
		if w.sorted {
			return nil
		}
		order = w.order[:n]
		for x := range order {
			order[x] = uint8(x)
		}
	}
	sortByLength(order, w.jobs[:])
	return order
}

// sortByLength sorts indices of jobs. Bursts are short, and of few lengths:
// then they are counted.
func sortByLength(order []uint8, jobs []kernel.Job) {
	var lens [8]uint32
	var count, at [8]uint8
	var class, out [kernel.Chunk]uint8
	d := 0
	for i, x := range order {
		n, k := jobs[x].Len, 0
		for k < d && lens[k] != n {
			k++
		}
		if k == d {
			if d == len(lens) {
				insertByLength(order, jobs)
				return
			}
			lens[d] = n
			d++
		}
		class[i] = uint8(k)
		count[k]++
	}
	for k, n := range lens[:d] {
		for o, m := range lens[:d] {
			if m < n {
				at[k] += count[o]
			}
		}
	}
	for i, x := range order {
		k := class[i] & 7
		out[at[k]&(kernel.Chunk-1)] = x
		at[k]++
	}
	copy(order, out[:])
}

// insertByLength is sortByLength for many lengths.
func insertByLength(order []uint8, jobs []kernel.Job) {
	for i := 1; i < len(order); i++ {
		x := order[i]
		n, j := jobs[x].Len, i
		for j > 0 && jobs[order[j-1]].Len > n {
			order[j] = order[j-1]
			j--
		}
		order[j] = x
	}
}

// crypt runs the cipher kernel over jobs in their order.
func (w *Worker) crypt(be *kernel.Backend, area unsafe.Pointer, n int, order []uint8, keyLen int, mode kernel.Mode, dir direction) {
	first := &w.jobs[0]
	for i, x := range order {
		w.moved[i] = w.jobs[x]
	}
	if order != nil {
		first = &w.moved[0]
	}
	if dir == seal {
		be.Seal(area, first, n, keyLen, mode, unsafe.Pointer(&w.sec.scratch))
		return
	}
	be.Open(area, first, n, keyLen, mode, unsafe.Pointer(&w.sec.scratch))
	for i, x := range order {
		w.jobs[x].OK = w.moved[i].OK
	}
}

// at returns the lane of job i.
func at(order []uint8, i int) int {
	if order == nil {
		return i
	}
	return int(order[i])
}

// distinct finds out whether n lanes have so few contexts that expanding each
// once pays; if so it returns their number, slot[x] is that of lane x, and
// uniq[k] a lane with the one of slot k. Else it returns n. Lane x's context is
// words 64-bit words at base + x*stride. Contexts are public.
func (w *Worker) distinct(n int, order []uint8, base unsafe.Pointer, stride, words int) int {
	u := 0
	for i := range n {
		x, k := at(order, i), 0
		c := unsafe.Slice((*uint64)(unsafe.Add(base, x*stride)), words)
	next:
		for ; k < u; k++ {
			o := unsafe.Slice((*uint64)(unsafe.Add(base, int(w.uniq[k])*stride)), words)
			for b := range c {
				if c[b] != o[b] {
					continue next
				}
			}
			break
		}
		if k == u {
			if u++; u*fewKeys > n {
				return n
			}
			w.uniq[k] = uint8(x)
		}
		w.slot[x] = uint8(k)
	}
	return u
}

// sealKeys derives the data keys of n jobs, which all have one form, in order
// of their lanes, and returns how many different ones there are.
func (w *Worker) sealKeys(be *kernel.Backend, n int) int {
	h := &w.hdr
	room := h.MsgLen() * h.KeyLen() / 16
	same := h.Fixed() && w.jobs[0].Nonce[4] == w.jobs[n-1].Nonce[4] && w.jobs[0].Nonce[5] == w.jobs[n-1].Nonce[5] // one epoch
	if h.Fixed() {
		for x := range n {
			h.Message(unsafe.Pointer(&w.sec.msgs[x*room]), nil, binary.BigEndian.Uint64(w.jobs[x].Nonce[4:]))
			if same {
				break
			}
		}
	}
	return w.keysAlike(be, n, h.MsgLen(), h.KeyLen(), h.Master(), same)
}

// keysAlike derives keys from KDF inputs of m octets in msgs, with room for
// as many as a key takes, in order of lanes; same: all are the first. It
// returns how many different ones there are.
func (w *Worker) keysAlike(be *kernel.Backend, n, m, keyLen int, master *kernel.Master, same bool) int {
	per := keyLen / 16
	u := n
	msg := func(x int) []byte { return w.sec.msgs[x*m*per:][:m] }
	if same {
		u = 1
		clear(w.slot[:n])
	} else if u = w.distinct(n, nil, unsafe.Pointer(&w.sec.msgs), m*per, m/8); u < n {
		for k, x := range w.uniq[:u] {
			copy(msg(k), msg(int(x)))
		}
	}
	for b := 1; b < per; b++ {
		for x := range u {
			next := w.sec.msgs[(x*per+b)*m:][:m]
			copy(next, msg(x))
			next[profile.CounterAt] = byte(b + 1)
		}
	}
	w.kdf(be, unsafe.Pointer(&w.sec.keys), u*per, m/16, master)
	return u
}

// openKeys derives the data keys of jobs, which may have any contexts, and
// returns how many. If there are as many as jobs, they are in their order.
func (w *Worker) openKeys(be *kernel.Backend, n, keyLen int, order []uint8) int {
	u := w.distinct(n, order, unsafe.Pointer(&w.ctx), int(unsafe.Sizeof(w.ctx[0])), int(unsafe.Sizeof(w.ctx[0])/8))
	if u == n {
		for i := range n {
			w.uniq[i] = uint8(at(order, i))
		}
	}
	w.derive(be, u, keyLen)
	return u
}

// derive computes the data keys of slots 0..u-1. In the common case all share
// one master key and one message length, and the keys are put where they
// belong; otherwise slots that do are taken together.
func (w *Worker) derive(be *kernel.Backend, u, keyLen int) {
	w.used.keys = max(w.used.keys, u*keyLen)
	per := keyLen / 16 // KDF blocks per key
	first := &w.ctx[w.uniq[0]]
	uniform := true
	for _, x := range w.uniq[1:u] {
		c := &w.ctx[x]
		uniform = uniform && c.Master == first.Master && c.Blocks == first.Blocks
	}
	if uniform {
		for s, x := range w.uniq[:u] {
			w.message(s, per, &w.ctx[x])
		}
		w.kdf(be, unsafe.Pointer(&w.sec.keys), u*per, first.Blocks, first.Master)
		return
	}
	var done [kernel.Chunk]bool
	for {
		var lead *profile.Context
		var slots [kernel.Chunk]uint8
		k := 0
		for s, x := range w.uniq[:u] {
			c := &w.ctx[x]
			if done[s] || lead != nil && (c.Master != lead.Master || c.Blocks != lead.Blocks) {
				continue
			}
			if lead == nil {
				lead = c
			}
			w.message(k, per, c)
			slots[k], done[s] = uint8(s), true
			k++
		}
		if lead == nil {
			return
		}
		w.used.derived = max(w.used.derived, k*keyLen)
		w.kdf(be, unsafe.Pointer(&w.sec.derived), k*per, lead.Blocks, lead.Master)
		for i, s := range slots[:k] {
			copy(w.sec.keys[int(s)*keyLen:][:keyLen], w.sec.derived[i*keyLen:])
		}
	}
}

// message writes the KDF inputs of one key at position at.
func (w *Worker) message(at, per int, c *profile.Context) {
	n := uintptr(c.Blocks) * 16
	to := unsafe.Add(unsafe.Pointer(&w.sec.msgs), uintptr(at*per)*n)
	for i := range per {
		for b := uintptr(0); b < n; b += 16 {
			*(*[16]byte)(unsafe.Add(to, b)) = *(*[16]byte)(unsafe.Add(unsafe.Pointer(&c.Msg), b))
		}
		*(*byte)(unsafe.Add(to, profile.CounterAt)) = byte(i + 1)
		to = unsafe.Add(to, n)
	}
}

func (w *Worker) kdf(be *kernel.Backend, out unsafe.Pointer, n, blocks int, m *kernel.Master) {
	be.Derive(out, unsafe.Pointer(&w.sec.msgs), n, blocks, m, &m.K1, unsafe.Pointer(&w.sec.scratch))
}

// job fills in lane x's kernel job, but for the nonce.
func (w *Worker) job(x int) {
	l, p, j := &w.lanes[x], &w.place[x], &w.jobs[x]
	// Where nothing is encrypted, no pointer to behind a buffer may stay.
	j.Src, j.Dst, j.Tag, j.OK = p.tag, p.tag, p.tag, 0
	if j.Len = l.Len - l.Clear; j.Len != 0 {
		j.Src, j.Dst = add(p.src, l.Clear), add(p.body, l.Clear)
	}
	w.sorted, w.longest = w.sorted && j.Len >= w.longest, j.Len
	if l.Skip == 0 && (l.Clear == 0 || uintptr(p.src) == uintptr(l.Hdr)+uintptr(l.HdrLen)) {
		j.AAD, j.AADLen = l.Hdr, l.HdrLen+l.Clear
		return
	}
	// Header and authenticated clear octets do not lie side by side.
	a := &w.aad[x]
	n := copy(a[:], octets(l.Hdr, l.HdrLen))
	n += copy(a[n:], octets(add(p.src, l.Skip), l.Clear-l.Skip))
	j.AAD, j.AADLen = unsafe.Pointer(a), uint32(n)
}
