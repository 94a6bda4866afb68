package eesp

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"testing"

	"libeesp/internal/status"
)

// kdfKey derives a key as in NIST SP 800-108, with crypto/aes: AES-256-CMAC of one whole block.
func kdfKey(t *testing.T, key *[32]byte, context KDFContext, keyLen int) (out []byte) {
	b := must(aes.NewCipher(key[:]))
	var l [16]byte
	b.Encrypt(l[:], l[:])
	hi, lo := binary.BigEndian.Uint64(l[:8]), binary.BigEndian.Uint64(l[8:])
	carry := hi >> 63
	hi, lo = hi<<1|lo>>63, lo<<1^carry*0x87
	for i := range keyLen / 16 {
		x := context
		x[0] = byte(i + 1)
		binary.BigEndian.PutUint64(x[:8], binary.BigEndian.Uint64(x[:8])^hi)
		binary.BigEndian.PutUint64(x[8:], binary.BigEndian.Uint64(x[8:])^lo)
		b.Encrypt(x[:], x[:])
		out = append(out, x[:]...)
	}
	return out
}

func gcmOf(key []byte) cipher.AEAD { return must(cipher.NewGCM(must(aes.NewCipher(key)))) }

// kernelJobs makes more jobs than a session takes at a time, of all lengths, in place and not.
func kernelJobs(n int) (jobs []Job, contexts []KDFContext, plain [][]byte) {
	for i := range n {
		src := stream("kernels", i%300)
		j := Job{AAD: stream("aad", i%40), Src: bytes.Clone(src), Dst: make([]byte, len(src)+i%3), Tag: make([]byte, ICVLen)}
		if i%2 == 0 {
			j.Dst = j.Src
		}
		binary.BigEndian.PutUint32(j.Nonce[3:], uint32(i))
		var c KDFContext
		binary.BigEndian.PutUint32(c[i%2:], uint32(i)*77777) // octet 0 is ignored
		jobs, contexts, plain = append(jobs, j), append(contexts, c), append(plain, src)
	}
	return jobs, contexts, plain
}

func TestKernels(t *testing.T) {
	eachBackend(t, func(t *testing.T) {
		for aead, keyLen := range map[AEAD]int{AES128GCM: 16, AES256GCM: 32} {
			key := [32]byte(stream("key", 32))
			f := must(NewKDF(&key))
			defer f.Close()
			jobs, contexts, plain := kernelJobs(300)
			keys := make([]byte, len(jobs)*keyLen)
			if err := f.Derive(aead, contexts, keys); err != nil {
				t.Fatal(err)
			}
			for i := range contexts {
				if want := kdfKey(t, &key, contexts[i], keyLen); !bytes.Equal(keys[i*keyLen:][:keyLen], want) {
					t.Fatalf("key %d: %x, not %x", i, keys[i*keyLen:][:keyLen], want)
				}
			}
			s := must(NewKeySet(aead, keys))
			defer s.Close()
			for name, pair := range map[string]struct {
				seal func([]Job) error
				open func([]Job) (int, error)
				key  func(i int) int
			}{
				"KDF": {func(j []Job) error { return f.Seal(aead, contexts, j) }, func(j []Job) (int, error) { return f.Open(aead, contexts, j) },
					func(int) int { return 0 }},
				"KeySet": {s.Seal, s.Open, func(i int) int { return i }},
			} {
				jobs, _, _ := kernelJobs(300)
				for i := range jobs {
					jobs[i].Key = pair.key(i)
				}
				if err := pair.seal(jobs); err != nil {
					t.Fatal(name, err)
				}
				for i, j := range jobs {
					want := gcmOf(keys[i*keyLen:][:keyLen]).Seal(nil, j.Nonce[:], plain[i], j.AAD)
					if got := append(bytes.Clone(j.Dst[:len(plain[i])]), j.Tag...); !bytes.Equal(got, want) {
						t.Fatalf("%s, job %d: %x, not %x", name, i, got, want)
					}
					jobs[i].Src = j.Dst[:len(plain[i])]
					jobs[i].Dst = jobs[i].Src
				}
				jobs[7].Tag[0] ^= 1
				jobs[200].AAD = append(bytes.Clone(jobs[200].AAD), 0)
				good, err := pair.open(jobs)
				if good != len(jobs)-2 || err != nil {
					t.Fatal(name, good, err)
				}
				for i, j := range jobs {
					want := plain[i]
					if i == 7 || i == 200 {
						want = make([]byte, len(plain[i]))
					}
					if j.OK != (i != 7 && i != 200) || !bytes.Equal(j.Dst, want) {
						t.Fatalf("%s, job %d: %v %x", name, i, j.OK, j.Dst)
					}
				}
			}
		}
	})
}

// If any job is wrong, none is sealed.
func TestKernelArguments(t *testing.T) {
	s := must(NewKeySet(AES128GCM, make([]byte, 48)))
	buf := make([]byte, 100)
	for name, c := range map[string]struct {
		job  Job
		want error
	}{
		"no tag":       {Job{Src: make([]byte, 3), Dst: make([]byte, 3)}, status.ErrArgument},
		"short tag":    {Job{Src: make([]byte, 3), Dst: make([]byte, 3), Tag: make([]byte, 12)}, status.ErrArgument},
		"short Dst":    {Job{Src: make([]byte, 3), Dst: make([]byte, 2), Tag: make([]byte, 16)}, status.ErrRoom},
		"overlap":      {Job{Src: buf[:50], Dst: buf[1:51], Tag: make([]byte, 16)}, status.ErrOverlap},
		"overlap back": {Job{Src: buf[1:51], Dst: buf[:50], Tag: make([]byte, 16)}, status.ErrOverlap},
		"key":          {Job{Tag: make([]byte, 16), Key: 3}, status.ErrArgument},
		"negative key": {Job{Tag: make([]byte, 16), Key: -1}, status.ErrArgument},
		"long AAD":     {Job{AAD: make([]byte, MaxLen+1), Tag: make([]byte, 16)}, status.ErrTooLong},
		"long Src":     {Job{Src: make([]byte, MaxLen+1), Dst: make([]byte, MaxLen+1), Tag: make([]byte, 16)}, status.ErrTooLong},
	} {
		good := Job{Src: []byte("plain"), Dst: make([]byte, 5), Tag: make([]byte, 16)}
		jobs := append(make([]Job, 0, 200), good)
		for range 150 {
			jobs = append(jobs, Job{Tag: make([]byte, 16)})
		}
		if err := s.Seal(append(jobs, c.job)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if !bytes.Equal(good.Dst, make([]byte, 5)) || !bytes.Equal(good.Tag, make([]byte, 16)) {
			t.Errorf("%s: something was sealed", name)
		}
	}
	if err := s.Seal(nil); err != nil {
		t.Error(err)
	}
	s.Close()
	s.Close()
	if err := s.Seal(make([]Job, 1)); !errors.Is(err, status.ErrArgument) {
		t.Error(err)
	}
	key := [32]byte{1}
	f := must(NewKDF(&key))
	if err := f.Seal(AES128GCM, make([]KDFContext, 2), make([]Job, 1)); !errors.Is(err, status.ErrArgument) {
		t.Error(err)
	}
	if err := f.Derive(AES256GCM, make([]KDFContext, 2), make([]byte, 63)); !errors.Is(err, status.ErrArgument) {
		t.Error(err)
	}
	if err := f.Derive(7, nil, nil); !errors.Is(err, status.ErrArgument) {
		t.Error(err)
	}
	f.Close()
	if _, err := f.Open(AES128GCM, nil, nil); !errors.Is(err, status.ErrArgument) {
		t.Error(err)
	}
	for _, bad := range []func() error{
		func() error { _, err := NewKDF(nil); return err },
		func() error { _, err := NewKeySet(AES128GCM, make([]byte, 17)); return err },
		func() error { _, err := NewKeySet(AES128GCM, nil); return err },
		func() error { _, err := NewKeySet(9, make([]byte, 16)); return err },
	} {
		if err := bad(); !errors.Is(err, status.ErrArgument) {
			t.Error(err)
		}
	}
}

func TestKernelsAllocateNothing(t *testing.T) {
	key := [32]byte{1}
	f := must(NewKDF(&key))
	defer f.Close()
	jobs, contexts, _ := kernelJobs(40)
	if n := testing.AllocsPerRun(20, func() {
		if f.Seal(AES128GCM, contexts, jobs) != nil {
			t.Fatal()
		}
	}); n != 0 {
		t.Errorf("%v allocations a burst", n)
	}
}
