package burst

import (
	"encoding/binary"
	"unsafe"

	"libeesp/internal/kernel"
	"libeesp/internal/profile"
)

type direction int

const (
	seal direction = iota
	open
)

// run takes the lanes whose indices are in w.order[:n], all of one key length,
// through derivation, expansion and the cipher. held is the expanded data key
// of a sender or receiver without master key, else nil.
func (w *Worker) run(be *kernel.Backend, n int, held *Held, dir direction) {
	if n == 0 {
		return
	}
	order := w.order[:n]
	w.sort(order)
	scratch := unsafe.Pointer(&w.sec.scratch)
	keyLen := int(w.lanes[order[0]].KeyLen)
	area, mode := unsafe.Pointer(&w.sec.keys), kernel.Once
	if held != nil {
		area, mode = unsafe.Pointer(held.area), kernel.Many
		for i := range order {
			w.slot[i] = 0
		}
	} else {
		u := w.distinct(order)
		w.derive(be, u, keyLen)
		if u < n {
			area, mode = unsafe.Pointer(&w.sec.area), kernel.Many
			be.Expand(area, unsafe.Pointer(&w.sec.keys), u, keyLen, scratch)
			w.used.area = max(w.used.area, (u+3)&^3*be.KeyBytes)
		}
	}
	for i, x := range order {
		w.job(&w.jobs[i], int(x))
		w.jobs[i].Key = uint32(w.slot[i])
	}
	if dir == seal {
		be.Seal(area, &w.jobs[0], n, keyLen, mode, scratch)
	} else {
		be.Open(area, &w.jobs[0], n, keyLen, mode, scratch)
	}
}

// sort puts lanes in order of length, so that those which share a vector are
// about equally long. Bursts are short and mostly in order: insertion.
func (w *Worker) sort(order []uint8) {
	for i := 1; i < len(order); i++ {
		x := order[i]
		n := w.lanes[x].Len - w.lanes[x].Clear
		j := i
		for j > 0 {
			y := &w.lanes[order[j-1]]
			if y.Len-y.Clear <= n {
				break
			}
			order[j] = order[j-1]
			j--
		}
		order[j] = x
	}
}

// distinct finds the different contexts among lanes; slot[i] is that of the
// lane order[i], uniq[s] a lane of slot s. Contexts are public.
func (w *Worker) distinct(order []uint8) int {
	clear(w.table[:])
	u := 0
	for i, x := range order {
		l := &w.lanes[x]
		h := binary.LittleEndian.Uint64(l.Msg[4:]) ^ uint64(binary.LittleEndian.Uint16(l.Msg[12:]))<<17 ^ uint64(uintptr(unsafe.Pointer(l.Master)))
		if l.Blocks > 1 {
			h ^= (binary.LittleEndian.Uint64(l.Msg[22:]) * 31) ^ (binary.LittleEndian.Uint64(l.Msg[38:]) * 37)
		}
		at := h * 0x9E3779B97F4A7C15 >> 58
		for {
			s := w.table[at]
			if s == 0 {
				w.uniq[u] = x
				u++
				w.table[at] = uint8(u)
				w.slot[i] = uint8(u - 1)
				break
			}
			o := &w.lanes[w.uniq[s-1]]
			if o.Master == l.Master && o.Blocks == l.Blocks && sameMsg(o, l) {
				w.slot[i] = s - 1
				break
			}
			at = (at + 1) % uint64(len(w.table))
		}
	}
	return u
}

func sameMsg(a, b *profile.Lane) bool {
	if a.Blocks == 1 {
		return *(*[16]byte)(a.Msg[:]) == *(*[16]byte)(b.Msg[:])
	}
	n := int(a.Blocks) * 16
	return string(a.Msg[:n]) == string(b.Msg[:n])
}

// derive computes the data keys of slots 0..u-1. In the common case all share
// one master key and one message length, and the keys are put where they
// belong; otherwise slots that do are taken together.
func (w *Worker) derive(be *kernel.Backend, u, keyLen int) {
	w.used.keys = max(w.used.keys, u*keyLen)
	per := keyLen / 16 // KDF blocks per key
	first := &w.lanes[w.uniq[0]]
	uniform := true
	for _, x := range w.uniq[1:u] {
		l := &w.lanes[x]
		uniform = uniform && l.Master == first.Master && l.Blocks == first.Blocks
	}
	if uniform {
		for s, x := range w.uniq[:u] {
			w.message(s, per, &w.lanes[x])
		}
		w.kdf(be, unsafe.Pointer(&w.sec.keys), u*per, first)
		return
	}
	var done [kernel.Chunk]bool
	for {
		var lead *profile.Lane
		var slots [kernel.Chunk]uint8
		k := 0
		for s, x := range w.uniq[:u] {
			l := &w.lanes[x]
			if done[s] || lead != nil && (l.Master != lead.Master || l.Blocks != lead.Blocks) {
				continue
			}
			if lead == nil {
				lead = l
			}
			w.message(k, per, l)
			slots[k], done[s] = uint8(s), true
			k++
		}
		if lead == nil {
			return
		}
		w.kdf(be, unsafe.Pointer(&w.sec.derived), k*per, lead)
		for i, s := range slots[:k] {
			copy(w.sec.keys[int(s)*keyLen:][:keyLen], w.sec.derived[i*keyLen:])
		}
	}
}

// message writes the KDF inputs of one key at position at.
func (w *Worker) message(at, per int, l *profile.Lane) {
	n := int(l.Blocks) * 16
	for i := range per {
		m := w.sec.msgs[(at*per+i)*n:][:n]
		if n == 16 {
			*(*[16]byte)(m) = *(*[16]byte)(l.Msg[:])
		} else {
			copy(m, l.Msg[:n])
		}
		m[profile.CounterAt] = byte(i + 1)
	}
}

func (w *Worker) kdf(be *kernel.Backend, out unsafe.Pointer, n int, l *profile.Lane) {
	be.Derive(out, unsafe.Pointer(&w.sec.msgs), n, int(l.Blocks), l.Master, &l.Master.K1, unsafe.Pointer(&w.sec.scratch))
}

// job fills in a kernel job for lane x.
func (w *Worker) job(j *kernel.Job, x int) {
	l, p := &w.lanes[x], &w.place[x]
	j.Src, j.Dst, j.Tag = add(p.src, l.Clear), add(p.body, l.Clear), p.tag
	j.Len = l.Len - l.Clear
	j.OK = 0
	j.Nonce = l.Nonce
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
