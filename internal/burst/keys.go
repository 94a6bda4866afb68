package burst

import (
	"encoding/binary"
	"unsafe"

	"libeesp/internal/kernel"
	"libeesp/internal/keys"
	"libeesp/internal/profile"
	"libeesp/internal/status"
)

// fewKeys is how many packets a key must serve on average for expanding it
// once to be faster than running its schedule beside each packet.
const fewKeys = 8

// keying is which keys a chunk needs.
type keying struct {
	uniq  [kernel.Chunk]uint8 // lane that slot i's key is derived for
	slot  [kernel.Chunk]uint8 // key slot of lane i
	cache *keys.Cache         // made for the first HKDF key
}

func (k *keying) free() {
	if k.cache != nil {
		k.cache.Close()
		k.cache = nil
	}
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
		var first *profile.Context
		var slots [kernel.Chunk]uint8
		k := 0
		for s, x := range w.uniq[:u] {
			c := &w.ctx[x]
			if done[s] || first != nil && c.KDF != first.KDF {
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
			if first == nil {
				first = c
			}
			w.message(k, c)
			slots[k] = uint8(s)
			k++
		}
		if first == nil {
			w.count(u)
			return status.OK
		}
		size := first.Per() * 16
		w.used.derived = max(w.used.derived, k*size)
		w.kdf(be, unsafe.Pointer(&w.sec.derived), k*first.Per(), &first.KDF)
		for i, s := range slots[:k] {
			out := w.sec.derived[i*size:][:size]
			copy(w.sec.keys[int(s)*keyLen:][:keyLen], out)
			w.putMask(int(s), out[keyLen:keyLen+int(first.Mask)])
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
