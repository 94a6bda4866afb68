package burst

import (
	"encoding/binary"
	"unsafe"

	"libeesp/internal/kernel"
	"libeesp/internal/keys"
	"libeesp/internal/profile"
	"libeesp/internal/status"
)

// fewKeys is from how many packets a key on it is faster to expand each key once
// than to run the key schedule for each packet.
const fewKeys = 8

// keying says which keys a chunk needs. They are numbered: places in w.sec.keys.
type keying struct {
	uniq  [kernel.Chunk]uint8 // by key: a lane that has it
	slot  [kernel.Chunk]uint8 // by lane: number of its key
	cache *keys.Cache         // made for the first HKDF key
}

func (k *keying) free() {
	if k.cache != nil {
		k.cache.Close()
		k.cache = nil
	}
}

// slotOf is the slot of a lane's key, where there are fewer keys than jobs.
func (k *keying) slotOf(x int) int { return int(k.slot[x]) }

// lanesOf is a lane for each of the keys in slots 0..u-1.
func (k *keying) lanesOf(u int) []uint8 { return k.uniq[:u] }

// ownKeys gives each of n lanes the slot of its number.
func (k *keying) ownKeys(n int) {
	for i := range k.uniq[:n] {
		k.uniq[i] = uint8(i)
	}
}

// cached reports whether a key that HKDF derives is at hand.
func (k *keying) cached(kdf *profile.KDF, info *[2]byte) bool {
	return k.cache != nil && k.cache.Has(kdf.Root, binary.BigEndian.Uint16(info[:]), int(kdf.KeyLen)+int(kdf.Mask))
}

// mask adds the masks that were derived with keys to the nonces of n jobs.
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

// distinct returns how many different contexts n lanes have, if there are so few
// that expanding each key once pays, and sets slot and uniq; otherwise it returns
// n. Lane x's context is words 64-bit words at base + x*stride. Contexts are
// public, so comparing them need not take constant time.
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

// keysAlike derives the data keys of n jobs with one KDF from inputs in msgs, in
// order of lanes; each has room for as many inputs as a key takes. same says that
// all jobs have the first one's key. It returns how many different keys there are,
// and whether they have masks.
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

// part splits the u outputs of a KDF in w.sec.keys into keys and masks.
func (w *Worker) part(u int, kdf *profile.KDF) {
	size, k := kdf.Per()*16, int(kdf.KeyLen)
	w.used.masks = max(w.used.masks, u)
	for s := range u {
		out := w.sec.keys[s*size:][:size]
		w.putMask(s, out[k:k+int(kdf.Mask)])
		copy(w.sec.keys[s*k:][:k], out)
	}
}

// putMask sets what is added to nonces with key s.
func (w *Worker) putMask(s int, m []byte) {
	w.used.masks = max(w.used.masks, s+1)
	clear(w.sec.masks[s][copy(w.sec.masks[s][:], m):])
}

// ready sets key s where no CMAC is needed: the key is raw, or HKDF's.
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

// makeCache makes the cache for HKDF's keys, unless there is one.
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

// keep marks a key that is sent with, or that opened a packet, so that it stays in
// the cache. Keys of forged packets are not marked: there may be any number of
// them.
func (w *Worker) keep(kdf *profile.KDF, info *[2]byte) {
	if kdf.Root != nil {
		w.cache.Keep(kdf.Root, binary.BigEndian.Uint16(info[:]), int(kdf.KeyLen)+int(kdf.Mask))
	}
}

// openKeys derives the data keys of n jobs of any contexts, and returns how many
// different ones there are. If there are n, they are in the order of the jobs.
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

// derive derives keys 0 to u-1, all of one length, and their masks. Mostly all of
// them have one KDF, whose outputs then are the keys; otherwise keys with the same
// KDF are derived together and copied.
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

// count counts that keys 0 to u-1 were derived.
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
