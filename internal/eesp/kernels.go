package eesp

import (
	"sync/atomic"
	"unsafe"

	"libeesp/internal/asm"
	"libeesp/internal/burst"
	"libeesp/internal/kernel"
	"libeesp/internal/say"
	"libeesp/internal/status"
)

// The kernels without packets, for the caller's own formats and keys.

const MaxKeySet = burst.MaxKeyset

type Job struct {
	Nonce [12]byte
	AAD   []byte
	Src   []byte
	Dst   []byte
	Tag   []byte
	Key   int

	OK bool
}

type KDFContext = [16]byte

type KDF struct {
	k atomic.Pointer[burst.KDF]
}

func NewKDF(key *[32]byte) (*KDF, error) {
	if key == nil {
		return nil, say.Errorf("%w: no key", status.ErrArgument)
	}
	be, err := asm.Selected()
	if err != nil {
		return nil, err
	}
	k, err := burst.NewKDF(be, key)
	if err != nil {
		return nil, err
	}
	f := new(KDF)
	f.k.Store(k)
	return f, nil
}

func (f *KDF) Close() {
	if f == nil {
		return
	}
	if k := f.k.Swap(nil); k != nil {
		k.Free()
	}
}

func (f *KDF) Derive(aead AEAD, contexts []KDFContext, keys []byte) error {
	k, keyLen, err := f.ready(aead)
	if err != nil {
		return err
	}
	if len(keys) != len(contexts)*keyLen {
		return say.Errorf("%w: %d octets for %d keys of %d", status.ErrArgument, len(keys), len(contexts), keyLen)
	}
	if len(contexts) == 0 {
		return nil
	}
	s, err := getWorker()
	if err != nil {
		return err
	}
	defer putWorker(s)
	s.w.DeriveRaw(k, keyLen, unsafe.Pointer(&contexts[0]), len(contexts), keys)
	return nil
}

func (f *KDF) Seal(aead AEAD, contexts []KDFContext, jobs []Job) error {
	_, err := f.crypt(aead, contexts, jobs, true)
	return err
}

func (f *KDF) Open(aead AEAD, contexts []KDFContext, jobs []Job) (int, error) {
	return f.crypt(aead, contexts, jobs, false)
}

func (f *KDF) ready(aead AEAD) (*burst.KDF, int, error) {
	if f == nil {
		return nil, 0, say.Errorf("%w: no KDF", status.ErrArgument)
	}
	k := f.k.Load()
	if k == nil {
		return nil, 0, say.Errorf("%w: the KDF is closed", status.ErrArgument)
	}
	keyLen, err := keyLenOf(aead)
	return k, keyLen, err
}

func keyLenOf(aead AEAD) (int, error) {
	switch aead {
	case AES128GCM:
		return 16, nil
	case AES256GCM:
		return 32, nil
	}
	return 0, say.Errorf("%w: AEAD %d", status.ErrArgument, aead)
}

func (f *KDF) crypt(aead AEAD, contexts []KDFContext, jobs []Job, sealing bool) (int, error) {
	k, keyLen, err := f.ready(aead)
	if err != nil {
		return 0, err
	}
	if len(contexts) != len(jobs) {
		return 0, say.Errorf("%w: %d contexts for %d jobs", status.ErrArgument, len(contexts), len(jobs))
	}
	return run(jobs, 1, sealing, func(s *session, at, n int) (int, error) {
		return s.w.Rekey(k, keyLen, unsafe.Pointer(&contexts[at]), s.jobs[:n], sealing)
	})
}

type KeySet struct {
	k atomic.Pointer[burst.Keyset]
	n int
}

func NewKeySet(aead AEAD, keys []byte) (*KeySet, error) {
	keyLen, err := keyLenOf(aead)
	if err != nil {
		return nil, err
	}
	be, err := asm.Selected()
	if err != nil {
		return nil, err
	}
	k, err := burst.NewKeyset(be, keyLen, keys)
	if err != nil {
		return nil, err
	}
	s := &KeySet{n: len(keys) / keyLen}
	s.k.Store(k)
	return s, nil
}

func (s *KeySet) Close() {
	if s == nil {
		return
	}
	if k := s.k.Swap(nil); k != nil {
		k.Free()
	}
}

func (s *KeySet) Seal(jobs []Job) error {
	_, err := s.crypt(jobs, true)
	return err
}

func (s *KeySet) Open(jobs []Job) (int, error) { return s.crypt(jobs, false) }

func (s *KeySet) crypt(jobs []Job, sealing bool) (int, error) {
	if s == nil {
		return 0, say.Errorf("%w: no key set", status.ErrArgument)
	}
	k := s.k.Load()
	if k == nil {
		return 0, say.Errorf("%w: the key set is closed", status.ErrArgument)
	}
	return run(jobs, s.n, sealing, func(w *session, at, n int) (int, error) { return w.w.Keyed(k, w.jobs[:n], sealing) })
}

// run checks all jobs, then calls f for as many as a session holds at a time.
func run(jobs []Job, keys int, sealing bool, f func(s *session, at, n int) (int, error)) (int, error) {
	for i := range jobs {
		if err := jobs[i].check(keys); err != nil {
			return 0, say.Errorf("job %d: %w", i, err)
		}
	}
	if len(jobs) == 0 {
		return 0, nil
	}
	s, err := getWorker()
	if err != nil {
		return 0, err
	}
	defer putWorker(s)
	good := 0
	for at := 0; at < len(jobs); at += len(s.jobs) {
		some := jobs[at:min(len(jobs), at+len(s.jobs))]
		for i := range some {
			some[i].fill(&s.jobs[i])
		}
		n, err := f(s, at, len(some))
		for i := range some {
			some[i].OK = !sealing && s.jobs[i].OK == 1
		}
		clear(s.jobs[:len(some)])
		if err != nil {
			return good, err
		}
		good += n
	}
	return good, nil
}

func (j *Job) check(keys int) error {
	switch {
	case len(j.Src) > MaxLen || len(j.AAD) > MaxLen:
		return say.Errorf("%w: longer than %d octets", status.ErrTooLong, MaxLen)
	case len(j.Dst) < len(j.Src):
		return say.Errorf("%w: Dst has %d octets, Src %d", status.ErrRoom, len(j.Dst), len(j.Src))
	case len(j.Tag) != ICVLen:
		return say.Errorf("%w: a tag of %d octets, not %d", status.ErrArgument, len(j.Tag), ICVLen)
	case j.Key < 0 || j.Key >= keys:
		return say.Errorf("%w: key %d of %d", status.ErrArgument, j.Key, keys)
	case !apart(j.Src, j.Dst[:len(j.Src)]):
		return say.Errorf("%w: Src and Dst", status.ErrOverlap)
	}
	return nil
}

// apart reports whether two slices of one length are equal or do not overlap.
func apart(a, b []byte) bool {
	gap := uintptr(pointer(a)) - uintptr(pointer(b))
	return gap == 0 || gap >= uintptr(len(a)) && -gap >= uintptr(len(a))
}

func (j *Job) fill(k *kernel.Job) {
	*k = kernel.Job{AAD: pointer(j.AAD), Src: pointer(j.Src), Dst: pointer(j.Dst), Tag: pointer(j.Tag),
		AADLen: uint32(len(j.AAD)), Len: uint32(len(j.Src)), Key: uint32(j.Key), Nonce: j.Nonce}
}
