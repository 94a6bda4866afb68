package kerneltest

import (
	"bytes"
	"crypto/aes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"runtime"
	"testing"
	"unsafe"

	"libeesp/internal/kernel"
)

// registers are the vector registers, 64 octets each, and AVX-512's masks.
type registers struct {
	vector [32][64]byte
	mask   [8]uint64
}

// belowBytes is the number of octets of the stack below a frame that are searched.
const belowBytes = 6144

// secrets are octets that must not be found after a kernel has run.
type secrets map[string][]byte

func (s secrets) add(name string, b []byte) {
	for i := 0; i+8 <= len(b); i += 8 {
		s[fmt.Sprint(name, ", octet ", i)] = b[i : i+8]
	}
}

// addKey adds a key, and its H in both orders of octets.
func (s secrets) addKey(t *testing.T, name string, key []byte) {
	s.add(name, key)
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	var h, r [16]byte
	block.Encrypt(h[:], h[:])
	for i := range h {
		r[i] = h[15-i]
	}
	s.add(name+"'s H", h[:])
	s.add(name+"'s H reversed", r[:])
	// Multiplication without tables takes every fourth bit of H. With few bits set, such a
	// number can occur by chance: 0x80000 is no secret.
	hi, lo := binary.BigEndian.Uint64(h[:]), binary.BigEndian.Uint64(h[8:])
	for i := range 4 {
		for what, x := range map[string]uint64{"upper": hi, "lower": lo, "sum of both": hi ^ lo} {
			if x &= 0x1111111111111111 << i; bits.OnesCount64(x) >= 5 {
				s.add(fmt.Sprintf("%s's H, %s half, bits %d modulo 4", name, what, i), binary.NativeEndian.AppendUint64(nil, x))
			}
		}
	}
}

func (s secrets) in(b []byte) string {
	for name, x := range s {
		if bytes.Contains(b, x) {
			return name
		}
	}
	return ""
}

// leavesNothing runs each kernel and searches the vector registers and the stack, on which
// Go code keeps values.
func (s *suite) leavesNothing(t *testing.T) {
	if !canRead {
		t.Skip("registers cannot be read here")
	}
	src := newSource(t, maxText)
	r, wide := s.rig, registerWidth()
	each(func(keyLen int, mode kernel.Mode) {
		for _, lens := range [][]int{{0}, {64}, {60, 61, 64}, {1, 30, 64, 64, 70, 200}, {700}, {1420}, {3000, 3000, 3000, 3000, 3001}, {9000}} {
			var ps []packet
			for _, l := range lens {
				ps = append(ps, src.packet(l, 20))
			}
			b := src.burst(keyLen, mode, ps)
			secret := secrets{}
			for i := range b.keys {
				secret.addKey(t, fmt.Sprint("key ", i), b.keys[i][:keyLen])
			}
			b.order()
			if err := b.reference(); err != nil {
				t.Fatal(err)
			}
			if err := r.expand(b, false); err != nil {
				t.Fatal(err)
			}
			for i := range ps {
				r.lay(i, &ps[i], ps[i].text, nil)
			}
			scratch := r.scratch.at(kernel.ScratchBytes, atEnd).pointer()
			area, keys := r.slots.pointer(), r.keys.aligned(len(b.keys)*keyLen, b.edge).pointer()
			jobs := make([]kernel.Job, len(ps))
			for i := range ps {
				jobs[i] = r.job(i, b, &r.spans[i])
			}
			look := func(what string, call func()) {
				t.Helper()
				secret.leftBy(t, fmt.Sprintf("%s of %v", what, lens), wide, call)
			}
			look("Seal", func() { r.be.Seal(area, &jobs[0], len(jobs), keyLen, mode, scratch) })
			look("Open", func() { r.be.Open(area, &jobs[0], len(jobs), keyLen, mode, scratch) })
			if mode == kernel.Shared {
				look("Expand", func() { r.be.Expand(area, keys, len(jobs), keyLen, scratch) })
			}
			if r.be.Direct != nil {
				r.direct(t, keyLen, mode, area, keys, jobs, scratch)
			}
		}
	})
	key := src.key()
	secret := secrets{}
	secret.add("master", key[:])
	var m *kernel.Master
	secret.leftBy(t, "ExpandMaster", wide, func() { m = r.newMaster(&key) })
	for i := range m.RK {
		secret.add(fmt.Sprint("round key ", i), m.RK[i][:])
	}
	secret.add("K1", m.K1[:])
	for n := range 40 {
		msgs, out := r.msgs.at((n+1)*16, 0), r.out.at((n+1)*16, 0)
		run := func() {
			r.be.Derive(out.pointer(), msgs.pointer(), n+1, 1, m, &m.K1, r.scratch.at(kernel.ScratchBytes, atEnd).pointer())
		}
		run()
		secret["derived"] = bytes.Clone(out.bytes()[:8])
		secret.leftBy(t, fmt.Sprint("Derive of ", n+1), wide, run)
		if d := r.be.Direct; d != nil {
			for blocks := range 3 {
				msgs := r.msgs.at((blocks+1)*(n+1)*16, 0).pointer()
				r.clean(t, "derive", d.Derive, [6]uintptr{uintptr(out.pointer()), uintptr(msgs), uintptr(n + 1), uintptr(blocks + 1), uintptr(unsafe.Pointer(m)), uintptr(unsafe.Pointer(&m.K1))})
			}
		}
	}
}

// leftBy searches for secrets after call, below the stack and in the vector registers. Go's
// runtime may interrupt between the call and the search, and save registers or copy the
// stack, with what the reference and this test left there. So only secrets that are found
// after each of several calls count.
func (s secrets) leftBy(t *testing.T, what string, wide int, call func()) {
	t.Helper()
	const calls = 4
	inStack, inRegisters := map[string]int{}, map[string]int{}
	for n := 1; n <= calls; n++ {
		var regs registers
		var below [belowBytes]byte
		zeroBelow() // wipes what the reference left
		call()
		belowStack(&below)
		call()
		readRegisters(wide, &regs)
		stack, register := s.in(below[:]), s.in(unsafe.Slice((*byte)(unsafe.Pointer(&regs)), unsafe.Sizeof(regs)))
		if stack != "" {
			inStack[stack]++
		}
		if register != "" {
			inRegisters[register]++
		}
		if stack == "" && register == "" {
			return
		}
	}
	t.Fatalf("%s left on the stack: %v, in registers: %v (and how many of %d times)", what, inStack, inRegisters, calls)
}

// direct calls the kernels as C does: they leave every vector register zero.
func (r *rig) direct(t *testing.T, keyLen int, mode kernel.Mode, area, keys unsafe.Pointer, jobs []kernel.Job, scratch unsafe.Pointer) {
	t.Helper()
	d, size, n := r.be.Direct, keyLen>>5, uintptr(len(jobs))
	first := uintptr(unsafe.Pointer(&jobs[0]))
	if d.AllPowers != 0 {
		r.slots4(t, size, mode, area, keys, jobs, scratch)
		return
	}
	for seal := range 2 {
		short := d.Expanded[size][seal]
		if mode == kernel.OneShot {
			short = d.Raw[size][seal]
		}
		if jobs[len(jobs)-1].Len <= d.Limit[mode] && short != 0 && (d.Quads == 0 || n%4 == 0 || jobs[len(jobs)-1].Len <= d.PartialMax) {
			r.clean(t, "short", short, [6]uintptr{uintptr(area), first, n, uintptr(scratch)})
		}
		if mode == kernel.OneShot && d.OneLimit != 0 {
			r.clean(t, "one", d.One[size][seal], [6]uintptr{uintptr(area), first, n, uintptr(scratch)})
		}
		if pair := d.Pair[mode][size][seal]; pair != 0 && jobs[len(jobs)-1].Len <= d.PairLimit[mode] {
			r.clean(t, "pair", pair, [6]uintptr{uintptr(area), first, n, uintptr(scratch)})
		}
		if mode == kernel.Shared && jobs[0].Len >= d.LongLeast {
			r.clean(t, "long", d.Long[size][seal], [6]uintptr{uintptr(area), first, n, 1, uintptr(unsafe.Add(scratch, d.LongAt))})
		}
	}
	runtime.KeepAlive(jobs)
	if mode == kernel.Shared {
		r.clean(t, "expand", d.Expand[size], [6]uintptr{uintptr(area), uintptr(keys), n})
		r.clean(t, "powers", d.Powers[size], [6]uintptr{uintptr(area), n})
	}
}

// slots4 is direct for kernels that take expanded keys only.
func (r *rig) slots4(t *testing.T, size int, mode kernel.Mode, area, keys unsafe.Pointer, jobs []kernel.Job, scratch unsafe.Pointer) {
	t.Helper()
	if mode != kernel.Shared {
		return
	}
	d, n := r.be.Direct, uintptr(len(jobs))
	r.clean(t, "expand", d.Expand[size], [6]uintptr{uintptr(area), uintptr(keys), n})
	for _, powers := range []uintptr{d.Fewer[0], d.Fewer[1], d.Powers[size]} {
		r.clean(t, "powers", powers, [6]uintptr{uintptr(area), n})
	}
	for seal := range 2 {
		four := []kernel.Job{jobs[0], jobs[0], jobs[0], jobs[0]}
		if four[0].Len <= d.Limit[mode] {
			r.clean(t, "short", d.Expanded[size][seal], [6]uintptr{uintptr(area), uintptr(unsafe.Pointer(&four[0])), 4, 1, uintptr(unsafe.Add(scratch, d.LongAt))})
		}
		for mode := range 2 {
			if four[0].Len > 32 && four[0].Len <= 64 && d.Brief[mode][size][seal] != 0 {
				r.clean(t, "brief", d.Brief[mode][size][seal], [6]uintptr{uintptr(area), uintptr(unsafe.Pointer(&four[0])), 4})
			}
		}
		r.clean(t, "long", d.Long[size][seal], [6]uintptr{uintptr(area), uintptr(unsafe.Pointer(&jobs[0])), n, 1, 8})
		runtime.KeepAlive(four)
	}
	runtime.KeepAlive(jobs)
}

func (r *rig) clean(t *testing.T, what string, f uintptr, args [6]uintptr) {
	t.Helper()
	var regs registers
	callThen(f, &args, registerWidth(), &regs)
	if regs != (registers{}) {
		for i, v := range regs.vector {
			if v != [64]byte{} {
				t.Errorf("%s left %x in vector register %d", what, v[:registerWidth()], i)
			}
		}
		for i, m := range regs.mask {
			if m != 0 {
				t.Errorf("%s left %#x in mask %d", what, m, i)
			}
		}
		t.FailNow()
	}
}

// zeroBelow zeroes the stack below its frame.
//
//go:noinline
func zeroBelow() {
	var zeros [belowBytes + 1024]byte
	touch(&zeros)
}

//go:noinline
func touch(p *[belowBytes + 1024]byte) { p[0] = 0 }
