package burst

import (
	"encoding/binary"
	"unsafe"

	"libeesp/internal/kernel"
	"libeesp/internal/keys"
	"libeesp/internal/profile"
	"libeesp/internal/status"
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
// key of a sender or receiver without master key, else nil. It returns an error
// if keys cannot be had; then no job was touched.
func (w *Worker) run(be *kernel.Backend, n, keyLen int, held *Held, order []uint8, dir direction) status.Code {
	if n == 0 {
		return status.OK
	}
	order = w.byLength(n, order)
	area, mode, u := unsafe.Pointer(&w.sec.keys), kernel.Once, 0
	if held != nil {
		area, mode = unsafe.Pointer(held.area), kernel.Many
		for i := range n {
			w.jobs[at(order, i)].Key = 0
		}
	} else {
		masked, code := false, status.OK
		switch dir {
		case open:
			u, masked, code = w.openKeys(be, n, order)
		case alike:
			u, masked, code = w.keysAlike(be, n, &w.shape.KDF, false)
		default:
			u, masked, code = w.sealKeys(be, n)
		}
		if code != status.OK {
			return code
		}
		if masked {
			w.mask(n, u, order, dir)
		}
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
	if dir == open && held == nil {
		w.met(be, n, u, order)
	}
	return status.OK
}

// mask adds their keys' masks to the nonces of n jobs.
func (w *Worker) mask(n, u int, order []uint8, dir direction) {
	for i := range n {
		x := at(order, i)
		k := x
		if u < n {
			k = int(w.slot[x])
		} else if dir == open { // keys are in order
			k = i
		}
		nonce, m := &w.jobs[x].Nonce, &w.sec.masks[k]
		*(*uint64)(unsafe.Pointer(nonce)) ^= *(*uint64)(unsafe.Pointer(m))
		*(*uint32)(unsafe.Pointer(&nonce[8])) ^= *(*uint32)(unsafe.Pointer(&m[8]))
	}
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
func (w *Worker) sealKeys(be *kernel.Backend, n int) (u int, masked bool, code status.Code) {
	h := &w.hdr
	room := h.MsgLen() * h.Per()
	same := h.Fixed && w.jobs[0].Nonce[4] == w.jobs[n-1].Nonce[4] && w.jobs[0].Nonce[5] == w.jobs[n-1].Nonce[5] // one epoch
	if h.Fixed {
		k := n
		if same {
			k = 1
		}
		w.sealing.Messages(h, unsafe.Pointer(&w.sec.msgs), room, w.jobs[:k], nil)
	}
	return w.keysAlike(be, n, &h.KDF, same)
}

// keysAlike derives keys of one form from KDF inputs in msgs, with room for
// as many as a key takes, in order of lanes; same: all are the first. It
// returns how many different ones there are, and whether they have masks.
func (w *Worker) keysAlike(be *kernel.Backend, n int, kdf *profile.KDF, same bool) (u int, masked bool, code status.Code) {
	per, m := kdf.Per(), int(kdf.Blocks)*16
	u = n
	msg := func(x int) []byte { return w.sec.msgs[x*m*per:][:m] }
	if same {
		u = 1
		clear(w.slot[:n])
	} else if u = w.distinct(n, nil, unsafe.Pointer(&w.sec.msgs), m*per, m/8); u < n {
		for k, x := range w.uniq[:u] {
			copy(msg(k), msg(int(x)))
		}
	}
	if kdf.Master == nil {
		for k := range u {
			if code := w.ready(k, kdf, (*[2]byte)(msg(k))); code != status.OK {
				return 0, false, code
			}
			w.keep(kdf, (*[2]byte)(msg(k)))
			kdf.Derived((*[16]byte)(msg(k)))
		}
		return u, kdf.Mask != 0, status.OK
	}
	if kdf.Subs == nil {
		kdf.Usage.Derived(u)
	} else {
		for k := range u {
			kdf.Derived((*[16]byte)(msg(k)))
		}
	}
	for b := 1; b < per; b++ {
		for x := range u {
			next := w.sec.msgs[(x*per+b)*m:][:m]
			copy(next, msg(x))
			next[kdf.Counter] = byte(b + 1)
		}
	}
	w.used.keys = max(w.used.keys, u*per*16)
	w.kdf(be, unsafe.Pointer(&w.sec.keys), u*per, kdf)
	if per*16 != int(kdf.KeyLen) {
		w.part(u, kdf)
	}
	return u, kdf.Mask != 0, status.OK
}

// part takes the u outputs of a KDF in keys apart, into keys and masks.
func (w *Worker) part(u int, kdf *profile.KDF) {
	size, k := kdf.Per()*16, int(kdf.KeyLen)
	w.used.masks = max(w.used.masks, u)
	for s := range u {
		out := w.sec.keys[s*size:][:size]
		w.putMask(s, out[k:k+int(kdf.Mask)])
		copy(w.sec.keys[s*k:][:k], out)
	}
}

// putMask sets what is added to the nonces of slot s.
func (w *Worker) putMask(s int, m []byte) {
	w.used.masks = max(w.used.masks, s+1)
	clear(w.sec.masks[s][copy(w.sec.masks[s][:], m):])
}

// ready fills slot s with a key that needs no CMAC.
func (w *Worker) ready(s int, kdf *profile.KDF, info *[2]byte) status.Code {
	k := int(kdf.KeyLen)
	w.used.keys = max(w.used.keys, (s+1)*k)
	key := w.sec.keys[s*k:][:k]
	if kdf.Raw != nil {
		copy(key, kdf.Raw[:k])
		if kdf.Mask != 0 {
			w.putMask(s, kdf.Raw[k:k+int(kdf.Mask)])
		}
		return status.OK
	}
	if code := w.makeCache(); code != status.OK {
		return code
	}
	w.used.derived = max(w.used.derived, profile.MaxPer*16)
	out := w.sec.derived[:k+int(kdf.Mask)]
	w.cache.Fetch(unsafe.Pointer(&out[0]), kdf.Root, binary.BigEndian.Uint16(info[:]), len(out))
	copy(key, out)
	w.putMask(s, out[k:])
	return status.OK
}

// makeCache sees to it that there is a cache for HKDF's keys.
func (w *Worker) makeCache() status.Code {
	if w.cache == nil {
		c, err := keys.NewCache()
		if err != nil {
			return status.ErrMemory
		}
		w.cache = c
	}
	return status.OK
}

// keep has a key stay in the cache: one that is sent with, or that a packet
// opened with. Forged packets come by as many keys as they like.
func (w *Worker) keep(kdf *profile.KDF, info *[2]byte) {
	if kdf.Root != nil {
		w.cache.Keep(kdf.Root, binary.BigEndian.Uint16(info[:]), int(kdf.KeyLen)+int(kdf.Mask))
	}
}

// openKeys derives the data keys of jobs, which may have any contexts, and
// returns how many. If there are as many as jobs, they are in their order.
func (w *Worker) openKeys(be *kernel.Backend, n int, order []uint8) (u int, masked bool, code status.Code) {
	u = w.distinct(n, order, unsafe.Pointer(&w.ctx), int(unsafe.Sizeof(w.ctx[0])), int(unsafe.Sizeof(w.ctx[0])/8))
	if u == n {
		for i := range n {
			w.uniq[i] = uint8(at(order, i))
		}
	}
	for _, x := range w.uniq[:u] {
		masked = masked || w.ctx[x].Mask != 0
	}
	return u, masked, w.derive(be, u)
}

// derive computes the data keys of slots 0..u-1, all of one length, and their
// masks. In the common case all come of one master key and messages of one
// length, and are put where they belong; otherwise slots that do are taken
// together.
func (w *Worker) derive(be *kernel.Backend, u int) status.Code {
	first := &w.ctx[w.uniq[0]]
	per, keyLen := first.Per(), int(first.KeyLen)
	w.used.keys = max(w.used.keys, u*per*16)
	uniform := first.Master != nil
	for _, x := range w.uniq[1:u] {
		uniform = uniform && w.ctx[x].KDF == first.KDF
	}
	if uniform {
		for s, x := range w.uniq[:u] {
			w.message(s, &w.ctx[x])
		}
		w.kdf(be, unsafe.Pointer(&w.sec.keys), u*per, &first.KDF)
		if per*16 != keyLen {
			w.part(u, &first.KDF)
		}
		w.count(u)
		return status.OK
	}
	var done [kernel.Chunk]bool
	for {
		var lead *profile.Context
		var slots [kernel.Chunk]uint8
		k := 0
		for s, x := range w.uniq[:u] {
			c := &w.ctx[x]
			if done[s] || lead != nil && c.KDF != lead.KDF {
				continue
			}
			done[s] = true
			if c.Master == nil {
				if code := w.ready(s, &c.KDF, (*[2]byte)(c.Msg[:])); code != status.OK {
					return code
				}
				if c.Mask == 0 {
					w.putMask(s, nil)
				}
				continue
			}
			if lead == nil {
				lead = c
			}
			w.message(k, c)
			slots[k] = uint8(s)
			k++
		}
		if lead == nil {
			w.count(u)
			return status.OK
		}
		size := lead.Per() * 16
		w.used.derived = max(w.used.derived, k*size)
		w.kdf(be, unsafe.Pointer(&w.sec.derived), k*lead.Per(), &lead.KDF)
		for i, s := range slots[:k] {
			out := w.sec.derived[i*size:][:size]
			copy(w.sec.keys[int(s)*keyLen:][:keyLen], out)
			w.putMask(int(s), out[keyLen:keyLen+int(lead.Mask)])
		}
	}
}

// count counts the data keys of slots 0..u-1.
func (w *Worker) count(u int) {
	for _, x := range w.uniq[:u] {
		w.ctx[x].Derived((*[16]byte)(w.ctx[x].Msg[:]))
	}
}

// message writes the KDF inputs of one key at position at.
func (w *Worker) message(at int, c *profile.Context) {
	n, per := uintptr(c.Blocks)*16, c.Per()
	to := unsafe.Add(unsafe.Pointer(&w.sec.msgs), uintptr(at*per)*n)
	for i := range per {
		for b := uintptr(0); b < n; b += 16 {
			*(*[16]byte)(unsafe.Add(to, b)) = *(*[16]byte)(unsafe.Add(unsafe.Pointer(&c.Msg), b))
		}
		*(*byte)(unsafe.Add(to, c.Counter)) = byte(i + 1)
		to = unsafe.Add(to, n)
	}
}

func (w *Worker) kdf(be *kernel.Backend, out unsafe.Pointer, n int, k *profile.KDF) {
	be.Derive(out, unsafe.Pointer(&w.sec.msgs), n, int(k.Blocks), k.Master, k.Sub(), unsafe.Pointer(&w.sec.scratch))
}

// job fills in lane x's kernel job, but for the nonce.
func (w *Worker) job(x int) {
	l, p, j := &w.lanes[x], &w.place[x], &w.jobs[x]
	// Where nothing is encrypted, no pointer to behind a buffer may stay.
	j.Src, j.Dst, j.Tag, j.OK = p.tag, p.tag, p.tag, 0
	if j.Len = l.Inner + l.Len + l.Pad - l.Clear; j.Len != 0 {
		skip := int(l.Clear) - int(l.Inner)
		j.Src, j.Dst = unsafe.Add(p.src, skip), unsafe.Add(p.body, skip)
	}
	w.sorted, w.longest = w.sorted && j.Len >= w.longest, j.Len
	// Header and clear octets lie side by side: in the packet that is opened, in
	// the one that sealing writes.
	front := l.Lead + l.HdrLen - l.Inner
	j.AAD = unsafe.Add(l.Hdr, -int(l.Lead))
	if l.Skip == 0 {
		j.AADLen = front + l.Clear
		return
	}
	a := &w.aad[x]
	n := copy(a[:], octets(j.AAD, front))
	n += copy(a[n:], octets(add(l.Hdr, l.HdrLen+l.Skip), l.Clear-l.Skip))
	j.AAD, j.AADLen = unsafe.Pointer(a), uint32(n)
}
