// Package generic is the backend in portable Go: every machine can run it, and
// every other backend is compared with it. It is constant time by construction:
// AES is bitsliced, GHASH uses integer multiplication, there are no table
// lookups, and no branch depends on a secret. (Multiplication takes the same
// time for all operands on every 64-bit processor that Go supports.) The result
// does not depend on byte order.
package generic

import (
	"encoding/binary"
	"unsafe"

	"libeesp/internal/kernel"
)

// key is an expanded key: round keys in bit-sliced form, and GHASH's H.
type key struct {
	rk [15][8]uint16
	h  element
}

// work is the layout of scratch memory.
type work struct {
	q     slice
	k     [15]slice
	block [64]byte
	text  [16]byte // octets that were read from a packet
	words [atOnce][60]uint32
	mask  [kernel.Chunk][16]byte // E(J0)
	sum   [kernel.Chunk]element  // GHASH so far
	once  [kernel.Chunk]key      // expanded keys in mode OneShot
}

// batch collects CTR blocks of any jobs; four of them go through the cipher together. It
// has pointers, so it is not in scratch memory, which the collector does not see.
type batch struct {
	*work
	area   unsafe.Pointer // expanded keys; nil: they are in work.once
	rounds int
	open   bool
	n      int
	block  [4]ctrBlock
	have   [4]*key // keys whose round keys are in k
}

// ctrBlock is one block of a batch: up to 16 octets of text, whose ciphertext is added to
// sum. If src is nil, dst receives the key stream.
type ctrBlock struct {
	key      *key
	dst, src unsafe.Pointer
	size     int
	sum      *element
}

// Both must fit in the memory that internal/burst gives: this does not compile otherwise.
var (
	_ [kernel.ScratchBytes - unsafe.Sizeof(work{})]byte
	_ [kernel.MaxKeyBytes - unsafe.Sizeof(key{})]byte
)

// Backend is the backend of this package.
var Backend = kernel.Backend{
	Name:     "generic",
	KeyBytes: int(unsafe.Sizeof(key{})),
	Derive: func(out, msgs unsafe.Pointer, n, blocks int, m *kernel.Master, sub *[16]byte, scratch unsafe.Pointer) {
		sweep()
		derive(out, msgs, n, blocks, m, sub, scratch)
		sweep()
		clearRegisters()
	},
	Expand: func(area, keys unsafe.Pointer, n, keyLen int, scratch unsafe.Pointer) {
		sweep()
		expand(area, keys, n, keyLen, scratch)
		sweep()
		clearRegisters()
	},
	Seal: func(area unsafe.Pointer, jobs *kernel.Job, n, keyLen int, mode kernel.Mode, scratch unsafe.Pointer) {
		sweep()
		sealJobs(area, unsafe.Slice(jobs, n), keyLen, mode, scratch)
		sweep()
		clearRegisters()
	},
	Open: func(area unsafe.Pointer, jobs *kernel.Job, n, keyLen int, mode kernel.Mode, scratch unsafe.Pointer) {
		sweep()
		openJobs(area, unsafe.Slice(jobs, n), keyLen, mode, scratch)
		sweep()
		clearRegisters()
	},
}

// stackBytes is more stack than any function here uses.
const stackBytes = 8 << 10

// sweep zeroes the stack below its caller, where compiled code may have stored round keys,
// H and sums. It is called before and after a kernel. Before, it grows the stack: one that
// grows later is copied, and the old one is not wiped. Its callers have no secrets in
// their own frames.
//
//go:noinline
func sweep() {
	var b [stackBytes]byte
	touch(&b)
}

//go:noinline
func touch(*[stackBytes]byte) {}

func octets(p unsafe.Pointer, n int) []byte { return unsafe.Slice((*byte)(p), n) }

func keyAt(area unsafe.Pointer, i int) *key {
	return (*key)(unsafe.Add(area, i*int(unsafe.Sizeof(key{}))))
}

// ExpandMaster expands a 256-bit CMAC key.
func ExpandMaster(m *kernel.Master, k *[32]byte, scratch unsafe.Pointer) {
	sweep()
	expandMaster(m, k, scratch)
	sweep()
	clearRegisters()
}

//go:noinline
func expandMaster(m *kernel.Master, k *[32]byte, scratch unsafe.Pointer) {
	w := (*work)(scratch)
	clear(w.words[:])
	for i := range 8 {
		w.words[0][i] = binary.LittleEndian.Uint32(k[4*i:])
	}
	schedule(&w.words, 32, &w.q)
	// A slice: ranging over an array would copy it to the stack.
	for i, x := range w.words[0][:] {
		binary.LittleEndian.PutUint32(m.RK[i/4][i%4*4:], x)
	}
	var zero [16]byte
	encryptBlock(&m.K1, &zero, m, scratch)
	double(&m.K1, &m.K1)
	double(&m.K2, &m.K1)
	id := [16]byte([]byte("libeesp key name"))
	encryptBlock(&m.ID, &id, m, scratch)
}

// double multiplies by x in the field of RFC 4493.
func double(out, in *[16]byte) {
	hi, lo := binary.BigEndian.Uint64(in[:]), binary.BigEndian.Uint64(in[8:])
	top := hi >> 63
	binary.BigEndian.PutUint64(out[:], hi<<1|lo>>63)
	binary.BigEndian.PutUint64(out[8:], lo<<1^top*0x87)
}

// EncryptBlock encrypts one block with AES-256.
func EncryptBlock(dst, src *[16]byte, m *kernel.Master, scratch unsafe.Pointer) {
	sweep()
	encryptBlock(dst, src, m, scratch)
	sweep()
	clearRegisters()
}

//go:noinline
func encryptBlock(dst, src *[16]byte, m *kernel.Master, scratch unsafe.Pointer) {
	w := (*work)(scratch)
	w.master(m)
	clear(w.block[:])
	copy(w.block[:], src[:])
	w.q.pack(&w.block)
	w.q.encrypt(w.k[:])
	w.q.unpack(&w.block)
	copy(dst[:], w.block[:])
}

// master loads a master's round keys, repeated for four blocks.
func (w *work) master(m *kernel.Master) {
	for r := range m.RK {
		for b := range 4 {
			copy(w.block[16*b:], m.RK[r][:])
		}
		w.k[r].pack(&w.block)
	}
}

func (w *work) wipe() { *w = work{} }

//go:noinline
func derive(out, msgs unsafe.Pointer, n, blocks int, m *kernel.Master, sub *[16]byte, scratch unsafe.Pointer) {
	w := (*work)(scratch)
	defer w.wipe()
	w.master(m)
	in, dst := octets(msgs, n*blocks*16), octets(out, n*16)
	for i := 0; i < n; i += 4 {
		lanes := min(4, n-i)
		clear(w.block[:])
		for b := range blocks {
			for l := range lanes {
				x := w.block[16*l:][:16]
				for j, c := range in[((i+l)*blocks+b)*16:][:16] {
					x[j] ^= c
				}
				if b == blocks-1 {
					for j, c := range sub {
						x[j] ^= c
					}
				}
			}
			w.q.pack(&w.block)
			w.q.encrypt(w.k[:])
			w.q.unpack(&w.block)
		}
		copy(dst[16*i:], w.block[:16*lanes])
	}
}

//go:noinline
func expand(area, keys unsafe.Pointer, n, keyLen int, scratch unsafe.Pointer) {
	w := (*work)(scratch)
	defer w.wipe()
	w.expand(area, keys, n, keyLen)
}

func (w *work) expand(area, keys unsafe.Pointer, n, keyLen int) {
	in := octets(keys, n*keyLen)
	rounds := keyLen/4 + 6
	for i := 0; i < n; i += atOnce {
		some := min(atOnce, n-i)
		clear(w.words[some:])
		for j := range some {
			for x := range keyLen / 4 {
				w.words[j][x] = binary.LittleEndian.Uint32(in[(i+j)*keyLen+4*x:])
			}
		}
		schedule(&w.words, keyLen, &w.q)
		// Four keys at a time become slices; then E(0) gives their H.
		for j := 0; j < some; j += 4 {
			lanes := min(4, some-j)
			for r := range rounds + 1 {
				for b := range 4 {
					for x := range 4 {
						binary.LittleEndian.PutUint32(w.block[16*b+4*x:], w.words[j+b][4*r+x])
					}
				}
				w.k[r].pack(&w.block)
				for b := range lanes {
					k := keyAt(area, i+j+b)
					for p, v := range w.k[r][:] {
						k.rk[r][p] = uint16(v >> (16 * b))
					}
				}
			}
			clear(w.q[:])
			w.q.encrypt(w.k[:rounds+1])
			w.q.unpack(&w.block)
			for b := range lanes {
				keyAt(area, i+j+b).h = read(w.block[16*b:])
			}
		}
	}
}

// add adds one CTR block; with the fourth it runs the cipher.
func (w *batch) add(nonce *[12]byte, counter uint32, c ctrBlock) {
	b := w.work.block[16*w.n:][:16]
	copy(b, nonce[:])
	binary.BigEndian.PutUint32(b[12:], counter)
	w.block[w.n] = c
	if w.n++; w.n == 4 {
		w.flush()
	}
}

func (w *batch) flush() {
	if w.n == 0 {
		return
	}
	var keys [4]*key
	for i := range keys { // lanes without a block use the first one's key
		keys[i] = w.block[0].key
		if i < w.n {
			keys[i] = w.block[i].key
		} else {
			clear(w.work.block[16*i:][:16])
		}
	}
	k := w.k[:w.rounds+1]
	if w.have != keys {
		w.have = keys
		a, b, c, d := keys[0], keys[1], keys[2], keys[3]
		for r := range k {
			for i := range k[r] {
				k[r][i] = uint64(a.rk[r][i]) | uint64(b.rk[r][i])<<16 | uint64(c.rk[r][i])<<32 | uint64(d.rk[r][i])<<48
			}
		}
	}
	w.q.pack(&w.work.block)
	w.q.encrypt(k)
	w.q.unpack(&w.work.block)
	for i := range w.n {
		c, x := &w.block[i], w.work.block[16*i:][:16]
		if c.src == nil {
			copy(octets(c.dst, 16), x)
			continue
		}
		// Others may write to the packet's memory: each octet is read once, for both
		// cipher and hash, and ciphertext that was written is not read back.
		t := w.text[:]
		clear(t)
		copy(t, octets(c.src, c.size))
		for j := range c.size {
			x[j] ^= t[j]
		}
		copy(octets(c.dst, c.size), x)
		if !w.open {
			clear(t)
			copy(t, x[:c.size])
		}
		c.sum.add(&c.key.h, t)
	}
	w.n = 0
}

// crypt runs CTR over job i. E(J0) goes to mask[i], GHASH of AAD and ciphertext to
// sum[i].
func (w *batch) crypt(i int, j *kernel.Job) {
	k, sum := w.of(i, j), &w.sum[i]
	*sum = element{}
	sum.update(&k.h, octets(j.AAD, int(j.AADLen)))
	w.add(&j.Nonce, 1, ctrBlock{key: k, dst: unsafe.Pointer(&w.mask[i])})
	for at := 0; at < int(j.Len); at += 16 {
		w.add(&j.Nonce, uint32(at/16)+2, ctrBlock{key: k, dst: unsafe.Add(j.Dst, at), src: unsafe.Add(j.Src, at),
			size: min(16, int(j.Len)-at), sum: sum})
	}
}

// of returns the key of job i.
func (w *batch) of(i int, j *kernel.Job) *key {
	if w.area == nil {
		return &w.once[i]
	}
	return keyAt(w.area, int(j.Key))
}

// begin makes a batch, and expands the keys in mode OneShot.
func begin(area unsafe.Pointer, n, keyLen int, mode kernel.Mode, scratch unsafe.Pointer, open bool) batch {
	w := batch{work: (*work)(scratch), rounds: keyLen/4 + 6, area: area, open: open}
	if mode == kernel.OneShot {
		w.expand(unsafe.Pointer(&w.once), area, n, keyLen)
		w.area = nil
	}
	return w
}

// run puts all jobs through the cipher and leaves their tags in mask.
func (w *batch) run(jobs []kernel.Job) {
	for i := range jobs {
		w.crypt(i, &jobs[i])
	}
	w.flush()
	for i := range jobs {
		j, m, e := &jobs[i], w.mask[i][:], &w.sum[i]
		e.hi ^= uint64(j.AADLen) * 8
		e.lo ^= uint64(j.Len) * 8
		e.mul(&w.of(i, j).h)
		binary.BigEndian.PutUint64(m, binary.BigEndian.Uint64(m)^e.hi)
		binary.BigEndian.PutUint64(m[8:], binary.BigEndian.Uint64(m[8:])^e.lo)
	}
}

//go:noinline
func sealJobs(area unsafe.Pointer, jobs []kernel.Job, keyLen int, mode kernel.Mode, scratch unsafe.Pointer) {
	w := begin(area, len(jobs), keyLen, mode, scratch, false)
	defer w.wipe()
	w.run(jobs)
	for i := range jobs {
		copy(octets(jobs[i].Tag, kernel.TagSize), w.mask[i][:])
	}
}

//go:noinline
func openJobs(area unsafe.Pointer, jobs []kernel.Job, keyLen int, mode kernel.Mode, scratch unsafe.Pointer) {
	w := begin(area, len(jobs), keyLen, mode, scratch, true)
	defer w.wipe()
	w.run(jobs)
	for i := range jobs {
		j := &jobs[i]
		differ := uint32(0)
		for x, c := range octets(j.Tag, kernel.TagSize) {
			differ |= uint32(c ^ w.mask[i][x])
		}
		j.OK = (differ - 1) >> 31
	}
}
