package eesp

import (
	"unsafe"

	impl "libeesp/internal/eesp"
)

// The kernels without packets, for the caller's own formats and keys. Here the
// caller must see to it that no key seals two messages with one nonce.

// MaxKeySet is the most keys that a KeySet can hold.
const MaxKeySet = impl.MaxKeySet

// Job is one message to seal or open with AES-GCM. Dst may equal Src, to work in
// place; otherwise the two must not overlap. AAD and Tag overlap neither.
type Job struct {
	Nonce [12]byte
	AAD   []byte // at most MaxLen octets
	Src   []byte // at most MaxLen octets
	Dst   []byte // at least as long as Src: receives len(Src) octets
	Tag   []byte // ICVLen octets; sealing writes it, opening reads it
	Key   int    // number of the key in a KeySet; with a KDF: 0

	// OK is set by opening: whether the tag is right. If it is not, Dst is zeroed.
	OK bool
}

func implJobs(j []Job) []impl.Job {
	return unsafe.Slice((*impl.Job)(unsafe.SliceData(j)), len(j))
}

// KDFContext is the input of a KDF. Octet 0 is replaced by the KDF's counter.
type KDFContext = [16]byte

// KDF is AES-256-CMAC in counter mode (NIST SP 800-108) under one key, which
// derives a data key for each message.
type KDF struct{ in *impl.KDF }

func (f *KDF) of() *impl.KDF {
	if f == nil {
		return nil
	}
	return f.in
}

// NewKDF expands a key into locked memory.
func NewKDF(key *[32]byte) (*KDF, error) {
	f, err := impl.NewKDF(key)
	if err != nil {
		return nil, err
	}
	return &KDF{f}, nil
}

// Derive writes the data keys of contexts, one behind the other: 16 octets each
// with AES128GCM, 32 with AES256GCM. keys must be exactly that long.
func (f *KDF) Derive(aead AEAD, contexts []KDFContext, keys []byte) error {
	return f.of().Derive(aead, contexts, keys)
}

// Seal derives a key for each job from the context of the same number, and
// seals the job with it. Nothing is sealed if an argument is wrong (ErrArgument).
func (f *KDF) Seal(aead AEAD, contexts []KDFContext, jobs []Job) error {
	return f.of().Seal(aead, contexts, implJobs(jobs))
}

// Open derives a key for each job from the context of the same number, opens the
// job with it, and returns how many tags were right; see Job.OK.
func (f *KDF) Open(aead AEAD, contexts []KDFContext, jobs []Job) (int, error) {
	return f.of().Open(aead, contexts, implJobs(jobs))
}

// Close wipes the key.
func (f *KDF) Close() { f.of().Close() }

// KeySet is a set of data keys, expanded, in locked memory.
type KeySet struct{ in *impl.KeySet }

func (s *KeySet) of() *impl.KeySet {
	if s == nil {
		return nil
	}
	return s.in
}

// NewKeySet expands keys, one behind the other: 16 octets each with AES128GCM,
// 32 with AES256GCM.
func NewKeySet(aead AEAD, keys []byte) (*KeySet, error) {
	s, err := impl.NewKeySet(aead, keys)
	if err != nil {
		return nil, err
	}
	return &KeySet{s}, nil
}

// Seal seals each job with the key that it names. Nothing is sealed if an
// argument is wrong (ErrArgument).
func (s *KeySet) Seal(jobs []Job) error { return s.of().Seal(implJobs(jobs)) }

// Open opens each job with the key that it names, and returns how many tags were
// right; see Job.OK.
func (s *KeySet) Open(jobs []Job) (int, error) { return s.of().Open(implJobs(jobs)) }

// Close wipes the keys.
func (s *KeySet) Close() { s.of().Close() }
