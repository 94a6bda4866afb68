package burst

import (
	"encoding/binary"
	"unsafe"

	"libeesp/internal/generic"
	"libeesp/internal/kernel"
	"libeesp/internal/keys"
	"libeesp/internal/profile"
	"libeesp/internal/say"
	"libeesp/internal/secmem"
	"libeesp/internal/status"
)

// The kernels without headers, for the caller's own formats.

// KDF is an expanded AES-256-CMAC key in locked memory.
type KDF struct {
	be *kernel.Backend
	m  *kdfKey
}

type kdfKey struct {
	kernel.Master
	// K1 with the KDF's counter added, 1 and 2. With them, contexts whose first octet
	// is 0 need no copy in which the counter is set.
	counted [2][16]byte
}

// NewKDF expands a key. The error is ErrMemory.
func NewKDF(be *kernel.Backend, key *[32]byte) (*KDF, error) {
	m, err := secmem.New[kdfKey]()
	if err != nil {
		return nil, err
	}
	s, err := secmem.New[[kernel.ScratchBytes]byte]()
	if err != nil {
		secmem.Delete(m)
		return nil, err
	}
	defer secmem.Delete(s)
	generic.ExpandMaster(&m.Master, key, unsafe.Pointer(s))
	for i := range m.counted {
		m.counted[i] = m.K1
		m.counted[i][profile.CounterAt] ^= byte(i + 1)
	}
	return &KDF{be, m}, nil
}

// Memory returns the addresses of the key (a kernel.Master) and of counted.
func (k *KDF) Memory() (master, counted unsafe.Pointer) {
	return unsafe.Pointer(&k.m.Master), unsafe.Pointer(&k.m.counted)
}

// Free wipes the key once no burst uses it.
func (k *KDF) Free() { keys.Retire(func() { secmem.Delete(k.m) }) }

// Keyset is a set of expanded data keys in locked memory.
type Keyset struct {
	be     *kernel.Backend
	keyLen int
	n      int
	area   []byte
}

// MaxKeyset is the most keys in a set.
const MaxKeyset = 1 << 16

// NewKeyset expands the keys in data, one directly behind the other.
func NewKeyset(be *kernel.Backend, keyLen int, data []byte) (*Keyset, error) {
	n := len(data) / keyLen
	if n == 0 || n > MaxKeyset || n*keyLen != len(data) {
		return nil, say.Errorf("%w: %d octets of keys", status.ErrArgument, len(data))
	}
	area, err := secmem.Alloc((n + 3) &^ 3 * be.KeyBytes)
	if err != nil {
		return nil, err
	}
	s, err := secmem.New[secrets]()
	if err != nil {
		secmem.Free(area)
		return nil, err
	}
	defer secmem.Delete(s)
	for at := 0; at < n; at += kernel.Chunk {
		some := min(kernel.Chunk, n-at)
		copy(s.keys[:], data[at*keyLen:][:some*keyLen])
		be.Expand(unsafe.Pointer(&area[at*be.KeyBytes]), unsafe.Pointer(&s.keys), some, keyLen, unsafe.Pointer(&s.scratch))
	}
	return &Keyset{be, keyLen, n, area}, nil
}

// Memory returns the address of the expanded keys.
func (k *Keyset) Memory() unsafe.Pointer { return unsafe.Pointer(&k.area[0]) }

// Free wipes the keys once no burst uses them.
func (k *Keyset) Free() { keys.Retire(func() { secmem.Free(k.area) }) }

// checkJobs checks what a caller filled in; slots is the number of keys.
func checkJobs(jobs []kernel.Job, slots uint32) error {
	for i := range jobs {
		if j := &jobs[i]; !fits(j, slots) {
			return say.Errorf("%w: job %d: %s", status.ErrArgument, i, misfit(j, slots))
		}
	}
	return nil
}

func fits(j *kernel.Job, slots uint32) bool {
	gap := uintptr(j.Src) - uintptr(j.Dst)
	return j.Len <= profile.MaxLen && j.AADLen <= profile.MaxLen && j.Tag != nil && j.Key < slots && j.Reserved == 0 &&
		(j.Src != nil && j.Dst != nil || j.Len == 0) && (j.AAD != nil || j.AADLen == 0) &&
		(gap == 0 || gap >= uintptr(j.Len) && -gap >= uintptr(j.Len))
}

// misfit says why a job does not fit.
func misfit(j *kernel.Job, slots uint32) string {
	switch {
	case j.Len > profile.MaxLen || j.AADLen > profile.MaxLen:
		return "len or aad_len is too large"
	case j.Key >= slots:
		return say.Sprintf("key %d of %d", j.Key, slots)
	case j.Reserved != 0:
		return "a reserved field is not zero"
	case j.Tag == nil || j.Len != 0 && (j.Src == nil || j.Dst == nil) || j.AADLen != 0 && j.AAD == nil:
		return "a pointer is NULL"
	}
	return "src and dst overlap in part"
}

// Rekey derives a key for each job from its context of 16 octets, and seals or
// opens the job. It returns how many were sealed, or had the right tag.
func (w *Worker) Rekey(k *KDF, keyLen int, contexts unsafe.Pointer, jobs []kernel.Job, sealing bool) (int, error) {
	good := 0
	if err := checkJobs(jobs, 1); err != nil {
		return 0, err
	}
	w.enter()
	defer w.leave()
	for at := 0; at < len(jobs); at += kernel.Chunk {
		some := jobs[at:min(len(jobs), at+kernel.Chunk)]
		n, order := len(some), w.inOrder(some)
		w.used.keys = max(w.used.keys, n*keyLen)
		w.deriveRaw(k, unsafe.Pointer(&w.sec.keys), keyLen, unsafe.Add(contexts, at*16), n, order)
		good += w.cryptRaw(k.be, unsafe.Pointer(&w.sec.keys), some, order, keyLen, kernel.OneShot, sealing)
	}
	return good, nil
}

// DeriveRaw writes the keys of n contexts to out, one behind the other.
func (w *Worker) DeriveRaw(k *KDF, keyLen int, contexts unsafe.Pointer, n int, out []byte) {
	w.enter()
	defer w.leave()
	for at := 0; at < n; at += kernel.Chunk {
		w.deriveRaw(k, unsafe.Pointer(&out[at*keyLen]), keyLen, unsafe.Add(contexts, at*16), min(n-at, kernel.Chunk), nil)
	}
}

// Keyed seals or opens jobs with the keys that they name. It returns how many were
// sealed, or had the right tag.
func (w *Worker) Keyed(k *Keyset, jobs []kernel.Job, sealing bool) (int, error) {
	good := 0
	if err := checkJobs(jobs, uint32(k.n)); err != nil {
		return 0, err
	}
	w.enter()
	defer w.leave()
	for len(jobs) > 0 {
		n := min(len(jobs), kernel.Chunk)
		good += w.cryptRaw(k.be, unsafe.Pointer(&k.area[0]), jobs[:n], w.inOrder(jobs[:n]), k.keyLen, kernel.Shared, sealing)
		jobs = jobs[n:]
	}
	return good, nil
}

// deriveRaw derives the keys of n contexts, in the given order or, if it is nil, as
// they are.
func (w *Worker) deriveRaw(k *KDF, out unsafe.Pointer, keyLen int, contexts unsafe.Pointer, n int, order []uint8) {
	scratch := unsafe.Pointer(&w.sec.scratch)
	first := byte(0)
	for i := range n {
		first |= *(*byte)(unsafe.Add(contexts, i*16+profile.CounterAt))
	}
	if first != 0 || order != nil {
		w.contexts(keyLen, contexts, n, order)
		k.be.Derive(out, unsafe.Pointer(&w.sec.msgs), n*keyLen/16, 1, &k.m.Master, &k.m.K1, scratch)
		return
	}
	if keyLen == 16 {
		k.be.Derive(out, contexts, n, 1, &k.m.Master, &k.m.counted[0], scratch)
		return
	}
	// The first halves of all keys, then the second ones.
	w.used.derived = max(w.used.derived, n*32)
	half := [2]unsafe.Pointer{unsafe.Pointer(&w.sec.derived), unsafe.Pointer(&w.sec.derived[n*16])}
	for i, h := range half {
		k.be.Derive(h, contexts, n, 1, &k.m.Master, &k.m.counted[i], scratch)
	}
	for i := range n {
		*(*[16]byte)(unsafe.Add(out, i*32)) = *(*[16]byte)(unsafe.Add(half[0], i*16))
		*(*[16]byte)(unsafe.Add(out, i*32+16)) = *(*[16]byte)(unsafe.Add(half[1], i*16))
	}
}

// The KDF's counter in a word that holds the first eight octets of an input.
var (
	counterMask = binary.NativeEndian.Uint64([]byte{0xff, 0, 0, 0, 0, 0, 0, 0})
	counterOne  = binary.NativeEndian.Uint64([]byte{1, 0, 0, 0, 0, 0, 0, 0})
)

// contexts writes the KDF inputs of n contexts to msgs, in the given order or, if
// it is nil, as they are.
func (w *Worker) contexts(keyLen int, from unsafe.Pointer, n int, order []uint8) {
	per := keyLen / 16
	to := unsafe.Pointer(&w.sec.msgs)
	mask, one := counterMask, counterOne
	for i := range n {
		c := (*[2]uint64)(unsafe.Add(from, at(order, i)*16))
		a, b := c[0]&^mask, c[1]
		for k := range per {
			m := (*[2]uint64)(to)
			m[0], m[1] = a|one*uint64(k+1), b
			to = unsafe.Add(to, 16)
		}
	}
}

// cryptRaw runs a caller's jobs in an order (nil: as they are), zeroes plaintext
// whose tag is wrong, and returns how many jobs are good.
func (w *Worker) cryptRaw(be *kernel.Backend, area unsafe.Pointer, jobs []kernel.Job, order []uint8, keyLen int, mode kernel.Mode, sealing bool) int {
	w.crypt(be, area, jobs, len(jobs), order, keyLen, mode, sealing)
	if sealing {
		return len(jobs)
	}
	good := 0
	for i := range jobs {
		if jobs[i].OK == 1 {
			good++
		} else {
			clear(octets(jobs[i].Dst, jobs[i].Len))
		}
	}
	return good
}
