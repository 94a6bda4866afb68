package keys

import (
	"bytes"
	"encoding/asn1"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"libeesp/internal/kernel"
	"libeesp/internal/secmem"
	"libeesp/internal/status"
	"libeesp/internal/wire"
)

func newRing(t testing.TB, seed byte) *RootKey {
	t.Helper()
	var v [3][ValueLen]byte
	for i := range v {
		for j := range v[i] {
			v[i][j] = seed + byte(i*64+j)
		}
	}
	k, err := NewRootKey(bytes.Repeat([]byte{seed}, 16), [3]uint64{1, 2, 3}, &v)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newGroup(t testing.TB, seeds ...byte) *Group {
	t.Helper()
	g, err := NewGroup(Params{KeyLen: 16})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Release)
	for l, s := range seeds {
		if err := g.Set(l, newRing(t, s)); err != nil {
			t.Fatal(err)
		}
	}
	return g
}

func octets(m *masters) []byte { return unsafe.Slice((*byte)(unsafe.Pointer(m)), unsafe.Sizeof(*m)) }

// The keys of an old snapshot stay until readers that began before have left, and are wiped
// then.
func TestRetire(t *testing.T) {
	g := newGroup(t, 1, 2)
	keep := newGroup(t, 9) // so that the arena of snapshots is not unmapped
	_ = keep
	r, late := NewReader(), NewReader()
	defer r.Close()
	defer late.Close()
	if Waiting() != 0 {
		t.Fatalf("%d waiting", Waiting())
	}
	r.Enter()
	old := g.Snapshot()
	master := *old.Master(Select(Current, Current, 0))
	steps := []func() error{
		func() error { return g.Rotate(0, 4, nil) },
		func() error { return g.SetDefault(1) },
		func() error { return g.Remove(1) },
	}
	for i, f := range steps {
		if err := f(); err != nil {
			t.Fatal(err)
		}
		if Waiting() != i+1 {
			t.Fatalf("%d waiting after %d changes", Waiting(), i+1)
		}
	}
	late.Enter() // sees the newest keys, and delays nothing
	if *old.Master(Select(Current, Current, 0)) != master {
		t.Fatal("keys changed under a reader")
	}
	m := old.m
	r.Leave()
	if Waiting() != 0 {
		t.Fatalf("%d waiting after the reader left", Waiting())
	}
	if len(bytes.Trim(octets(m), "\x00")) != 0 {
		t.Fatal("keys of an old snapshot were not wiped")
	}
	if g.Snapshot().Master(Select(Current, 0, 0)) == nil || g.Snapshot().Master(Select(Current, Current, 0)) != nil {
		t.Fatal("wrong keys in force")
	}
	late.Leave()
}

// A burst that began after a retirement does not call sweep. Otherwise one long burst would
// make all others do so.
func TestLaterBurstsDoNotSweep(t *testing.T) {
	slow, r := NewReader(), NewReader()
	defer slow.Close()
	defer r.Close()
	slow.Enter()
	wiped := false
	Retire(func() { wiped = true })
	before := asked.Load()
	r.Enter()
	r.Leave()
	if asked.Load() != before || wiped {
		t.Fatalf("%d sweeps, wiped %v", asked.Load()-before, wiped)
	}
	slow.Leave()
	if !wiped {
		t.Fatal("the last burst that may have used it did not wipe it")
	}
}

func TestRotationWipesTheOldRing(t *testing.T) {
	g, keep := newGroup(t), newRing(t, 7)
	defer keep.Free()
	k := newRing(t, 1)
	if err := g.Set(0, k); err != nil {
		t.Fatal(err)
	}
	v := k.Value
	current, next := v[1], v[2]
	if err := g.Rotate(0, 4, nil); err != nil {
		t.Fatal(err)
	}
	if *v != ([3][ValueLen]byte{}) {
		t.Fatal("the old ring's memory was not wiped")
	}
	g.With(0, func(k *RootKey) error {
		if k.Value[0] != current || k.Value[1] != next || k.Value[2] == next || k.Index != [3]uint64{2, 3, 4} {
			t.Error("wrong ring after a rotation")
		}
		return nil
	})
}

// Master keys exist for all selections of levels with root keys, and for no others.
func TestMasters(t *testing.T) {
	g := newGroup(t, 1, 2)
	s := g.Snapshot()
	seen := map[kernel.Master]int{}
	for sel := range 64 {
		m := s.Master(sel)
		if want := sel != 0 && sel>>4 == 0; want != (m != nil) {
			t.Fatalf("selection %#x: %v", sel, m != nil)
		}
		if m != nil {
			if other, ok := seen[*m]; ok {
				t.Fatalf("selections %#x and %#x have one master key", sel, other)
			}
			seen[*m] = sel
		}
	}
	if s.Default != 3 || Selection(3, Next) != Select(Next, Next, 0) {
		t.Fatal(s.Default)
	}
}

// Many readers and one writer: no reader sees a wiped key, and all old keys are wiped.
func TestReadersAndWriter(t *testing.T) {
	g := newGroup(t, 1)
	var (
		wg    sync.WaitGroup
		done  atomic.Bool
		reads atomic.Int64
		zero  [16]byte
	)
	for range 3 {
		wg.Go(func() {
			r := NewReader()
			defer r.Close()
			for !done.Load() {
				r.Enter()
				m := g.Snapshot().Master(Select(Current, 0, 0))
				before := m.RK[0]
				for range 20 {
					if now := m.RK[0]; now != before || now == zero || m.K1 == zero {
						t.Error("a key was wiped under a reader")
						break
					}
				}
				r.Leave()
				reads.Add(1)
				runtime.Gosched()
			}
		})
	}
	for i := range uint64(200) {
		if err := g.Rotate(0, 4+i, nil); err != nil {
			t.Fatal(err)
		}
		for at := reads.Load(); reads.Load() < at+2 && !t.Failed(); {
			runtime.Gosched()
		}
	}
	done.Store(true)
	wg.Wait()
	if Waiting() != 0 {
		t.Fatalf("%d waiting", Waiting())
	}
}

func TestMemoryIsGivenBack(t *testing.T) {
	_, before := secmem.Stats()
	g, err := NewGroup(Params{KeyLen: 32, Combiner: XOR})
	if err != nil {
		t.Fatal(err)
	}
	for l := range 3 {
		if err := g.Set(l, newRing(t, byte(l+1))); err != nil {
			t.Fatal(err)
		}
	}
	same := newRing(t, 2) // user's values: refused at another level
	if err := g.Set(2, same); !errors.Is(err, status.ErrRootKey) {
		t.Fatal(err)
	}
	same.Free()
	if err := g.Retain(); err != nil {
		t.Fatal(err)
	}
	g.Release()
	if g.Snapshot().Master(Select(Current, Current, Current)) == nil {
		t.Fatal("the first of two users took the keys away")
	}
	g.Release()
	if _, after := secmem.Stats(); after != before {
		t.Fatalf("%d allocations, %d before", after, before)
	}
}

// FuzzRootKey: a root key that is read is written as the same octets, since DER has only one
// form, and errors say what is wrong.
func FuzzRootKey(f *testing.F) {
	for _, x := range [][3]uint64{{1, 2, 3}, {0, 255, 128}, {1 << 62, 1<<62 + 1, 1<<63 - 1}} {
		k := newRing(f, 5)
		k.Index = x
		var b [DERLen]byte
		n, err := k.MarshalDER(b[:])
		if err != nil {
			f.Fatal(err)
		}
		f.Add(bytes.Clone(b[:n]))
		k.Free()
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		_, before := secmem.Stats()
		k, err := ParseRootKey(der)
		if err != nil {
			if !errors.Is(err, status.ErrRootKey) {
				t.Fatal(err)
			}
			if _, after := secmem.Stats(); after != before {
				t.Fatal("memory was kept after an error")
			}
			return
		}
		defer k.Free()
		var b [DERLen]byte
		n, err := k.MarshalDER(b[:])
		if err != nil || !bytes.Equal(b[:n], der) {
			t.Fatalf("%x, read from %x (%v)", b[:n], der, err)
		}
	})
}

// Errors say what is wrong with the DER, or that it is cut short.
func TestRootKeyErrors(t *testing.T) {
	k := newRing(t, 5)
	defer k.Free()
	var b [DERLen]byte
	n, err := k.MarshalDER(b[:])
	if err != nil {
		t.Fatal(err)
	}
	says := func(der []byte, want string) {
		t.Helper()
		if k, err := ParseRootKey(der); k != nil || !errors.Is(err, status.ErrRootKey) || !strings.HasSuffix(err.Error(), ": "+want) {
			t.Errorf("%d octets: %v, want %q", len(der), err, want)
		}
	}
	says(nil, "RootKeyStruct is missing")
	for i := 1; i < 3; i++ {
		says(b[:i], "RootKeyStruct is cut short: it ends in its length")
	}
	for i := 3; i < n; i++ {
		says(b[:i], fmt.Sprintf("RootKeyStruct is cut short: there are %d of %d octets", i, n))
	}
	says(b[:n+1], "1 octets after RootKeyStruct")
	// 30 81 xx, 04 10 and 16 octets, 30 09 and 02 01 x three times, 30 66 and 04 20 x three times
	changed := func(at int, x ...byte) []byte {
		der := bytes.Clone(b[:n])
		copy(der[at:], x)
		return der
	}
	says(changed(0, 4), "RootKeyStruct is not a SEQUENCE")
	says(changed(1, 0x80), "the length of RootKeyStruct is not in DER")
	says(changed(1, 0x85), "the length of RootKeyStruct is not in DER")
	says(changed(1, 0x84, 0xFF, 0xFF, 0xFF, 0xFF), fmt.Sprintf("RootKeyStruct is cut short: there are %d of %d octets", n, int64(1<<32-1+6)))
	says(changed(3, 2), "root_key_id is not an OCTET STRING")
	says(changed(4, 0x7F), "root_keys_index is not a SEQUENCE")
	says(changed(21, 4), "root_keys_index is not a SEQUENCE")
	says(changed(23, 4), "element 0 of root_keys_index is not an INTEGER")
	says(changed(25, 0x80), "element 0 of root_keys_index is not an INTEGER of 0 to 2^63-1")
	says(changed(30, 2), "element 2 of root_keys_index is cut short: there are 3 of 4 octets")
	says(changed(32, 2), "root_keys_value is not a SEQUENCE")
	says(changed(34, 2), "element 0 of root_keys_value is not an OCTET STRING")
	says(changed(35, 0x1F), "element 0 of root_keys_value has 31 octets, not 32")
}

// With any one octet changed, a root key is accepted if and only if encoding/asn1 accepts it.
func TestRootKeyOctets(t *testing.T) {
	k := newRing(t, 5)
	defer k.Free()
	var b [DERLen]byte
	n, err := k.MarshalDER(b[:])
	if err != nil {
		t.Fatal(err)
	}
	type ring struct {
		ID    []byte
		Index []int64
		Value [][]byte
	}
	good := func(der []byte) bool {
		var r ring
		rest, err := asn1.Unmarshal(der, &r)
		if err != nil || len(rest) != 0 || len(r.ID) < wire.MinRootKeyID || len(r.ID) > wire.MaxRootKeyID || len(r.Index) != 3 || len(r.Value) != 3 {
			return false
		}
		low := map[byte]bool{}
		for i := range 3 {
			if r.Index[i] < 0 || len(r.Value[i]) != ValueLen {
				return false
			}
			low[byte(r.Index[i])] = true
		}
		return len(low) == 3
	}
	reads := func(der []byte) {
		r, err := ParseRootKey(der)
		if (err == nil) != good(der) {
			t.Errorf("%x: %v", der, err)
		}
		if r != nil {
			r.Free()
		}
	}
	reads(b[:n])
	for at := range n {
		was := b[at]
		for _, x := range []byte{was ^ 1, was ^ 2, was ^ 4, was ^ 8, was ^ 16, was ^ 32, was ^ 64, was ^ 128, 0, 0x7F, 0x80, 0x81, 0x82, 0xFF} {
			b[at] = x
			reads(b[:n])
		}
		b[at] = was
	}
	// Lengths and integers in more octets than needed.
	for _, x := range [][2]string{{"\x04\x10", "\x04\x81\x10"}, {"\x30\x09", "\x30\x81\x09"}, {"\x30\x81", "\x30\x82\x00"}, {"\x02\x01", "\x02\x02\x00"}} {
		der := bytes.Replace(bytes.Clone(b[:n]), []byte(x[0]), []byte(x[1]), 1)
		if x[0][0] != 0x30 || x[0][1] != 0x81 {
			der[2] += byte(len(x[1]) - len(x[0]))
		}
		if x[0][0] == 2 {
			der[bytes.Index(der, []byte("\x30\x09"))+1]++
		}
		reads(der)
	}
}
