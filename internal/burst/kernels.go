package burst

import (
	"unsafe"

	"libeesp/internal/kernel"
	"libeesp/internal/profile"
	"libeesp/internal/status"
)

type direction int

const (
	seal  direction = iota
	open            // with contexts in ctx
	alike           // opening, with KDF inputs in msgs, as in sealing
)

// cipher is memory for calls of kernels.
type cipher struct {
	moved [kernel.Chunk]kernel.Job // jobs in the order of the call
	aad   [kernel.Chunk][profile.MaxAAD]byte
}

// run derives and expands the keys of n jobs, all of one key length, and runs the
// cipher. order lists the lanes; nil: lanes 0 to n-1. held is the data key of a
// sender or receiver that holds one, else nil. On an error (ErrMemory) no job was
// touched.
func (w *Worker) run(be *kernel.Backend, n, keyLen int, held *ExpandedKey, order []uint8, dir direction) status.Code {
	if n == 0 {
		return status.OK
	}
	order = w.byLength(n, order)
	area, mode, u := unsafe.Pointer(&w.sec.keys), kernel.OneShot, 0
	if held != nil {
		area, mode = unsafe.Pointer(held.area), kernel.Shared
		for i := range n {
			w.jobs[at(order, i)].Key = 0
		}
	} else {
		masked, code := false, status.OK
		switch dir {
		case open:
			u, masked, code = w.openKeys(be, n, order)
		case alike:
			u, masked, code = w.alikeKeys(be, n)
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
		case u*fewKeys <= n: // expand each key once
			area, mode = unsafe.Pointer(&w.sec.area), kernel.Shared
			w.used.area = max(w.used.area, (u+3)&^3*be.KeyBytes)
			be.Expand(area, unsafe.Pointer(&w.sec.keys), u, keyLen, unsafe.Pointer(&w.sec.scratch))
			for i := range n {
				x := at(order, i)
				w.jobs[x].Key = uint32(w.slotOf(x))
			}
		case u < n || dir != open && order != nil: // a copy for each job
			area = unsafe.Pointer(&w.sec.derived)
			w.used.derived = max(w.used.derived, n*keyLen)
			for i := range n {
				k := at(order, i)
				if u < n {
					k = w.slotOf(k)
				}
				copy(w.sec.derived[i*keyLen:][:keyLen], w.sec.keys[k*keyLen:])
			}
		}
	}
	w.crypt(be, area, w.jobs[:], n, order, keyLen, mode, dir == seal)
	if dir == open && held == nil {
		w.met(be, n, u, order)
	}
	return status.OK
}

// crypt runs the cipher kernel on n jobs, in the given order or, if it is nil, as
// they are.
func (w *Worker) crypt(be *kernel.Backend, area unsafe.Pointer, jobs []kernel.Job, n int, order []uint8, keyLen int, mode kernel.Mode, sealing bool) {
	first := &jobs[0]
	for i, x := range order {
		w.moved[i] = jobs[x]
	}
	if order != nil {
		first = &w.moved[0]
	}
	if sealing {
		be.Seal(area, first, n, keyLen, mode, unsafe.Pointer(&w.sec.scratch))
		return
	}
	be.Open(area, first, n, keyLen, mode, unsafe.Pointer(&w.sec.scratch))
	for i, x := range order {
		jobs[x].OK = w.moved[i].OK
	}
}

// job fills in lane x's kernel job, but for the nonce. kept: its AAD is in one piece already.
func (w *Worker) job(x int, kept bool) {
	l, p, j := &w.lanes[x], &w.place[x], &w.jobs[x]
	// Where nothing is encrypted, Src and Dst might point behind a buffer, into other
	// memory that the collector then keeps.
	j.Src, j.Dst, j.Tag, j.OK = p.tag, p.tag, p.tag, 0
	if j.Len = l.Inner + l.Len + l.Pad - l.Clear; j.Len != 0 {
		skip := int(l.Clear) - int(l.Inner)
		j.Src, j.Dst = unsafe.Add(p.src, skip), unsafe.Add(p.body, skip)
	}
	w.ordering.next(j.Len)
	// Header and clear octets lie side by side, in a chained packet that is opened and in
	// the one that sealing writes. So AAD needs no copy unless octets are skipped.
	front := l.Prefix + l.HdrLen - l.Inner
	j.AAD = unsafe.Add(l.Hdr, -int(l.Prefix))
	if l.Skip == 0 || kept {
		j.AADLen = front + l.Clear - l.Skip
		return
	}
	a := &w.aad[x]
	n := copy(a[:], octets(j.AAD, front))
	n += copy(a[n:], octets(add(l.Hdr, l.HdrLen+l.Skip), l.Clear-l.Skip))
	j.AAD, j.AADLen = unsafe.Pointer(a), uint32(n)
}
