// Package generic is the backend in plain Go that every machine runs and every
// other backend is compared with. It is constant time by construction: AES is
// bitsliced, GHASH uses integer multiplication, nothing looks anything up, and
// no branch depends on a secret. (Multiplication takes the same time for all
// operands on every 64-bit processor that Go supports.) The result does not
// depend on byte order.
package generic

import (
	"encoding/binary"
	"unsafe"

	"libeesp/internal/kernel"
)

// key is a key slot: round keys in sliced form, and GHASH's H.
type key struct {
	rk [15][8]uint16
	h  element
}

// work is how the kernels use scratch memory.
type work struct {
	q     slice
	k     [15]slice
	block [64]byte
	words [atOnce][60]uint32
	mask  [kernel.Chunk][16]byte // E(J0)
	once  [kernel.Chunk]key      // of mode Once
}

// batch is CTR blocks of any jobs, which go through the cipher by fours. It
// holds pointers, so it stays out of scratch memory, which the collector does
// not see.
type batch struct {
	*work
	area   unsafe.Pointer // expanded keys; nil: they are in once
	rounds int
	n      int
	keys   [4]*key
	dst    [4]unsafe.Pointer
	src    [4]unsafe.Pointer // nil: dst receives the key stream itself
	size   [4]int
	have   [4]*key // whose round keys are in k
}

// Both must fit where the engine puts them.
var (
	_ [kernel.ScratchBytes - unsafe.Sizeof(work{})]byte
	_ [kernel.MaxKeyBytes - unsafe.Sizeof(key{})]byte
)

// Backend is this package.
var Backend = kernel.Backend{
	Name:     "generic",
	KeyBytes: int(unsafe.Sizeof(key{})),
	Derive:   derive,
	Expand:   expand,
	Seal:     seal,
	Open:     open,
}

func octets(p unsafe.Pointer, n int) []byte { return unsafe.Slice((*byte)(p), n) }

func slot(area unsafe.Pointer, i int) *key {
	return (*key)(unsafe.Add(area, i*int(unsafe.Sizeof(key{}))))
}

// ExpandMaster makes the master form of a 256-bit CMAC key.
func ExpandMaster(m *kernel.Master, k *[32]byte, scratch unsafe.Pointer) {
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
	EncryptBlock(&m.K1, &zero, m, scratch)
	double(&m.K1, &m.K1)
	double(&m.K2, &m.K1)
	id := [16]byte([]byte("libeesp key name"))
	EncryptBlock(&m.ID, &id, m, scratch)
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
	w := (*work)(scratch)
	w.master(m)
	clear(w.block[:])
	copy(w.block[:], src[:])
	w.q.pack(&w.block)
	w.q.encrypt(w.k[:])
	w.q.unpack(&w.block)
	copy(dst[:], w.block[:])
}

// master puts a master's round keys in place for four blocks.
func (w *work) master(m *kernel.Master) {
	for r := range m.RK {
		for b := range 4 {
			copy(w.block[16*b:], m.RK[r][:])
		}
		w.k[r].pack(&w.block)
	}
}

func (w *work) wipe() { *w = work{} }

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
					k := slot(area, i+j+b)
					for p, v := range w.k[r][:] {
						k.rk[r][p] = uint16(v >> (16 * b))
					}
				}
			}
			clear(w.q[:])
			w.q.encrypt(w.k[:rounds+1])
			w.q.unpack(&w.block)
			for b := range lanes {
				slot(area, i+j+b).h = read(w.block[16*b:])
			}
		}
	}
}

// add queues one CTR block; every fourth sets the cipher to work.
func (w *batch) add(k *key, nonce *[12]byte, counter uint32, dst, src unsafe.Pointer, size int) {
	b := w.block[16*w.n:][:16]
	copy(b, nonce[:])
	binary.BigEndian.PutUint32(b[12:], counter)
	w.keys[w.n], w.dst[w.n], w.src[w.n], w.size[w.n] = k, dst, src, size
	if w.n++; w.n == 4 {
		w.flush()
	}
}

func (w *batch) flush() {
	if w.n == 0 {
		return
	}
	for i := w.n; i < 4; i++ { // lanes without a block repeat the first's key
		w.keys[i] = w.keys[0]
		clear(w.block[16*i:][:16])
	}
	k := w.k[:w.rounds+1]
	if w.have != w.keys {
		w.have = w.keys
		a, b, c, d := w.keys[0], w.keys[1], w.keys[2], w.keys[3]
		for r := range k {
			for i := range k[r] {
				k[r][i] = uint64(a.rk[r][i]) | uint64(b.rk[r][i])<<16 | uint64(c.rk[r][i])<<32 | uint64(d.rk[r][i])<<48
			}
		}
	}
	w.q.pack(&w.block)
	w.q.encrypt(k)
	w.q.unpack(&w.block)
	for i := range w.n {
		x, dst := w.block[16*i:], octets(w.dst[i], w.size[i])
		if w.src[i] == nil {
			copy(dst, x)
			continue
		}
		for j, c := range octets(w.src[i], w.size[i]) {
			dst[j] = c ^ x[j]
		}
	}
	w.n = 0
}

// crypt runs CTR from block 2 on over one job.
func (w *batch) crypt(k *key, j *kernel.Job) {
	for at := 0; at < int(j.Len); at += 16 {
		w.add(k, &j.Nonce, uint32(at/16)+2, unsafe.Add(j.Dst, at), unsafe.Add(j.Src, at), min(16, int(j.Len)-at))
	}
}

// of returns the key of job i.
func (w *batch) of(i int, j *kernel.Job) *key {
	if w.area == nil {
		return &w.once[i]
	}
	return slot(w.area, int(j.Key))
}

// begin sets a batch up; keys of mode Once are expanded here.
func begin(area unsafe.Pointer, n, keyLen int, mode kernel.Mode, scratch unsafe.Pointer) batch {
	w := batch{work: (*work)(scratch), rounds: keyLen/4 + 6, area: area}
	if mode == kernel.Once {
		w.expand(unsafe.Pointer(&w.once), area, n, keyLen)
		w.area = nil
	}
	return w
}

// tag adds GHASH(AAD, ciphertext) to E(J0), which is in m.
func tag(m *[16]byte, h element, j *kernel.Job, text unsafe.Pointer) {
	e := element{}.update(h, octets(j.AAD, int(j.AADLen))).update(h, octets(text, int(j.Len)))
	e.hi ^= uint64(j.AADLen) * 8
	e.lo ^= uint64(j.Len) * 8
	e = e.mul(h)
	x := read(m[:])
	binary.BigEndian.PutUint64(m[:], x.hi^e.hi)
	binary.BigEndian.PutUint64(m[8:], x.lo^e.lo)
}

func seal(area unsafe.Pointer, first *kernel.Job, n, keyLen int, mode kernel.Mode, scratch unsafe.Pointer) {
	w, jobs := begin(area, n, keyLen, mode, scratch), unsafe.Slice(first, n)
	defer w.wipe()
	for i := range jobs {
		j := &jobs[i]
		k := w.of(i, j)
		w.add(k, &j.Nonce, 1, unsafe.Pointer(&w.mask[i]), nil, 16)
		w.crypt(k, j)
	}
	w.flush()
	for i := range jobs {
		j := &jobs[i]
		tag(&w.mask[i], w.of(i, j).h, j, j.Dst)
		copy(octets(j.Tag, kernel.TagSize), w.mask[i][:])
	}
}

// open verifies all tags first; only what is genuine is decrypted.
func open(area unsafe.Pointer, first *kernel.Job, n, keyLen int, mode kernel.Mode, scratch unsafe.Pointer) {
	w, jobs := begin(area, n, keyLen, mode, scratch), unsafe.Slice(first, n)
	defer w.wipe()
	for i := range jobs {
		j := &jobs[i]
		w.add(w.of(i, j), &j.Nonce, 1, unsafe.Pointer(&w.mask[i]), nil, 16)
	}
	w.flush()
	for i := range jobs {
		j := &jobs[i]
		k := w.of(i, j)
		tag(&w.mask[i], k.h, j, j.Src)
		differ := uint32(0)
		for x, c := range octets(j.Tag, kernel.TagSize) {
			differ |= uint32(c ^ w.mask[i][x])
		}
		j.OK = (differ - 1) >> 31
		if j.OK == 1 {
			w.crypt(k, j)
		}
	}
	w.flush()
}
