package burst

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"
	"unsafe"

	"libeesp/internal/asm"
	"libeesp/internal/counter"
	"libeesp/internal/kernel"
	"libeesp/internal/keys"
	"libeesp/internal/profile"
	"libeesp/internal/status"
	"libeesp/internal/testrun"
)

// rig is a worker with a sender and a receiver of one group.
type rig struct {
	w       *Worker
	s       *Sender
	r       *Receiver
	v       uint8
	payload int // octets of each packet
	bufs    [][]byte
	pkts    []profile.Desc
}

// sealing and opening are those of profile stateless.
func sealing(v uint8, id uint64, options bool) profile.Sealing {
	p, _ := profile.ByNumber(0)
	s, err := p.Sealing(&keys.Params{}, &profile.SenderConfig{V: v, ID: id, Options: options})
	if err != nil {
		panic(err)
	}
	return s
}

func opening(c profile.ReceiverConfig) profile.Opening {
	p, _ := profile.ByNumber(0)
	o, err := p.Opening(&keys.Params{}, &c)
	if err != nil {
		panic(err)
	}
	return o
}

// eachBackend runs f with every backend that this machine has.
func eachBackend(t *testing.T, f func(t *testing.T)) {
	be, err := asm.Selected()
	if err != nil {
		t.Fatal(err)
	}
	defer asm.Select(be.Name, nil)
	all := asm.Names()
	if testing.Short() && (testrun.Race || testrun.Emulated()) { // takes minutes, and other backends differ only in kernels
		all = []string{be.Name}
	}
	for _, name := range all {
		t.Run(name, func(t *testing.T) {
			if !asm.Supported(name) {
				testrun.Skip(t, "this machine cannot run backend "+name)
			}
			if _, err := asm.Select(name, nil); err != nil {
				t.Fatal(err)
			}
			f(t)
		})
	}
}

func newRing(t *testing.T) *keys.RootKey {
	k, err := keys.GenerateRootKey(make([]byte, 16))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// newRig makes a rig with n packets of 80 octets and a ring without a previous key.
func newRig(t *testing.T, keyLen, n int, v uint8) *rig { return newRigOf(t, keyLen, n, 80, v) }

func newRigOf(t *testing.T, keyLen, n, payload int, v uint8) *rig {
	t.Helper()
	be, err := asm.Selected()
	if err != nil {
		t.Fatal(err)
	}
	w, err := NewWorker()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	g, err := keys.NewGroup(keys.Params{KeyLen: keyLen})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Release)
	if err := g.Set(0, newRing(t)); err != nil {
		t.Fatal(err)
	}
	c, err := counter.New(counter.Config{Mode: counter.Explicit})
	if err != nil {
		t.Fatal(err)
	}
	x := &rig{w: w, v: v, payload: payload, bufs: make([][]byte, n), pkts: make([]profile.Desc, n)}
	x.s = &Sender{Backend: be, Group: g, Counter: c, Sealing: sealing(v, 1, true)}
	x.r = &Receiver{Backend: be, Groups: []*keys.Group{g}, Opening: opening(profile.ReceiverConfig{TryPrevious: true})}
	for i := range x.bufs {
		x.bufs[i] = make([]byte, 64+payload+kernel.TagSize)
	}
	return x
}

func (x *rig) plain() {
	for i, b := range x.bufs {
		x.pkts[i] = profile.Desc{Data: unsafe.Pointer(&b[64]), Len: uint32(x.payload), Headroom: 64, Tailroom: kernel.TagSize}
		x.pkts[i].Src[3] = byte(i)
	}
}

// turn describes the sealed packets to be opened.
func (x *rig) turn() {
	for i := range x.pkts {
		p := &x.pkts[i]
		h := int(p.OutLen) - x.payload - kernel.TagSize
		*p = profile.Desc{Data: unsafe.Pointer(&x.bufs[i][64-h]), Len: p.OutLen, Src: p.Src}
	}
}

// chain cuts packets into two segments.
func chain(pkts []profile.Desc, cut uint32) {
	iov := make([][2]profile.IOV, len(pkts))
	for i := range pkts {
		p := &pkts[i]
		iov[i] = [2]profile.IOV{{Base: p.Data, Len: uintptr(cut)}, {Base: add(p.Data, cut), Len: uintptr(p.Len - cut)}}
		p.Data, p.IOV, p.IOVCount = nil, unsafe.Pointer(&iov[i]), 2
	}
}

func (x *rig) seal(t *testing.T) {
	t.Helper()
	x.plain()
	if n := x.w.Seal(x.s, x.pkts); n != len(x.pkts) {
		t.Fatalf("sealed %d: %v", n, x.pkts[0].Status)
	}
}

// wantClean fails the test unless the worker's locked memory is zero, except for KDF
// inputs, which are public.
func (x *rig) wantClean(t *testing.T, when string) {
	t.Helper()
	v := reflect.ValueOf(x.w.sec).Elem()
	for i := range v.NumField() {
		f := v.Type().Field(i)
		b := unsafe.Slice((*byte)(v.Field(i).Addr().UnsafePointer()), f.Type.Size())
		if f.Name != "msgs" && len(bytes.Trim(b, "\x00")) != 0 {
			t.Fatalf("%s: %s holds %x...", when, f.Name, bytes.TrimLeft(b, "\x00")[:8])
		}
	}
	if len(bytes.Trim(x.w.linear.octets, "\x00")) != 0 {
		t.Fatalf("%s: something is left in the memory of chained packets", when)
	}
	if keys.Waiting() != 0 {
		t.Fatalf("%s: %d retired keys wait", when, keys.Waiting())
	}
}

func TestScratchIsWiped(t *testing.T) {
	eachBackend(t, func(t *testing.T) {
		for _, keyLen := range []int{16, 32} {
			for _, v := range []uint8{0, 1} { // equal and fresh contexts
				for _, n := range []int{1, 3, 32, 33, 100} {
					for _, payload := range []int{0, 80, 1500} {
						t.Run(fmt.Sprint(keyLen, v, n, payload), func(t *testing.T) { scratchIsWiped(t, newRigOf(t, keyLen, n, payload, v)) })
					}
				}
			}
		}
	})
}

func scratchIsWiped(t *testing.T, x *rig) {
	n, keyLen := len(x.pkts), x.s.Group.Params().KeyLen
	x.wantClean(t, "at first")
	x.seal(t)
	x.wantClean(t, "after seal")
	x.turn()
	if got := x.w.Open(x.r, x.pkts); got != n {
		t.Fatalf("opened %d", got)
	}
	x.wantClean(t, "after open")
	x.seal(t)
	x.bufs[0][64+x.payload] ^= 1
	x.turn()
	if got := x.w.Open(x.r, x.pkts); got != n-1 || x.pkts[0].Status != status.ErrAuth {
		t.Fatalf("opened %d", got)
	}
	x.wantClean(t, "after a forged packet")
	out := make([]byte, keyLen*n)
	if c := x.w.Derive(x.s.Backend, x.s.Group, make([]profile.KeyContext, n), out); c != nil {
		t.Fatal(c)
	}
	x.wantClean(t, "after derive")
	var k profile.DataKey
	if c := x.w.Export(x.s.Backend, x.s.Group, &profile.KeyContext{V: x.v}, true, &k); c != nil {
		t.Fatal(c)
	}
	x.wantClean(t, "after export")

	kdf, err := NewKDF(x.s.Backend, &[32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	defer kdf.Free()
	contexts := unsafe.Pointer(unsafe.SliceData(make([]byte, 16*n)))
	x.w.DeriveRaw(kdf, keyLen, contexts, n, out)
	x.wantClean(t, "after derive, without headers")
	set, err := NewKeyset(x.s.Backend, keyLen, out)
	if err != nil {
		t.Fatal(err)
	}
	defer set.Free()
	jobs := make([]kernel.Job, n)
	for i, b := range x.bufs { // not in order of length
		text := unsafe.Pointer(&b[0])
		jobs[i] = kernel.Job{Src: text, Dst: text, Tag: unsafe.Pointer(&b[len(b)-kernel.TagSize]), Len: uint32(x.payload * (n - i) / n)}
	}
	rekey := func(sealing bool) (int, error) { return x.w.Rekey(kdf, keyLen, contexts, jobs, sealing) }
	keyed := func(sealing bool) (int, error) { return x.w.Keyed(set, jobs, sealing) }
	for i, f := range []func(bool) (int, error){rekey, keyed, keyed, rekey} { // each opens what another one seals
		if got, err := f(i%2 == 0); got != n || err != nil {
			t.Fatalf("step %d: %d, %v", i, got, err)
		}
		x.wantClean(t, fmt.Sprint("without headers, step ", i))
	}
}

// A burst of packets of two generations, which options name or which are tried.
func TestMixedKeysAreWiped(t *testing.T) {
	for _, options := range []bool{true, false} {
		x := newRig(t, 32, 30, 1)
		x.s.Sealing = sealing(x.v, 1, options)
		x.plain()
		n := x.w.Seal(x.s, x.pkts[:15])
		if err := x.s.Group.Rotate(0, 9, nil); err != nil {
			t.Fatal(err)
		}
		n += x.w.Seal(x.s, x.pkts[15:])
		x.turn()
		if n += x.w.Open(x.r, x.pkts); n != 60 {
			t.Fatalf("options %v: %d of 60", options, n)
		}
		x.wantClean(t, "after two generations")
	}
}

func TestChainIsWiped(t *testing.T) {
	x := newRig(t, 16, 40, 1)
	x.plain()
	chain(x.pkts, 50)
	if n := x.w.Seal(x.s, x.pkts); n != len(x.pkts) {
		t.Fatalf("sealed %d: %v", n, x.pkts[0].Status)
	}
	x.wantClean(t, "after a chained packet")
	x.turn()
	if n := x.w.Open(x.r, x.pkts); n != len(x.pkts) {
		t.Fatalf("opened %d", n)
	}
	x.wantClean(t, "after two chained bursts")
}

// After a panic in any kernel, memory is wiped and a rotation does not wait for the worker.
func TestPanicWipesToo(t *testing.T) {
	for _, where := range []string{"Derive", "Expand", "Seal", "Open"} {
		t.Run(where, func(t *testing.T) {
			v := uint8(1)
			if where == "Expand" { // it is called for equal contexts
				v = 0
			}
			x := newRig(t, 32, 40, v)
			x.seal(t)
			x.turn()
			good := x.s.Backend
			be := *good
			kernel := reflect.ValueOf(&be).Elem().FieldByName(where)
			works := reflect.ValueOf(kernel.Interface())
			kernel.Set(reflect.MakeFunc(kernel.Type(), func(args []reflect.Value) []reflect.Value {
				works.Call(args)
				panic(where)
			}))
			x.s.Backend, x.r.Backend = &be, &be
			func() {
				defer func() {
					if recover() != where {
						t.Error("no panic")
					}
				}()
				if where == "Seal" {
					x.plain()
					x.w.Seal(x.s, x.pkts)
				} else {
					x.w.Open(x.r, x.pkts)
				}
			}()
			x.wantClean(t, "after a panic")
			if err := x.s.Group.Rotate(0, 9, nil); err != nil {
				t.Fatal(err)
			}
			x.wantClean(t, "after a rotation") // no reader counts as in a burst
			x.s.Backend, x.r.Backend = good, good
			x.seal(t)
			x.turn()
			if n := x.w.Open(x.r, x.pkts); n != len(x.pkts) {
				t.Fatalf("opened %d after a panic", n)
			}
		})
	}
}

func TestWorkerAllocatesNothing(t *testing.T) {
	for _, v := range []uint8{0, 1} {
		x := newRig(t, 32, 70, v)
		if a := testing.AllocsPerRun(10, func() {
			x.seal(t)
			x.turn()
			if n := x.w.Open(x.r, x.pkts); n != len(x.pkts) {
				t.Fatalf("opened %d", n)
			}
		}); a != 0 {
			t.Errorf("V %d: %v allocations", v, a)
		}
	}
}

// Packets in segments that may be tried twice need twice the memory. For long ones that is
// more than the memory of a chunk.
func TestLongChain(t *testing.T) {
	for _, payload := range []int{100 << 10, 140 << 10, profile.MaxLen} {
		x := newRigOf(t, 16, 3, payload, 1)
		x.s.Sealing = sealing(x.v, 1, false)
		for _, forged := range []bool{false, true} {
			x.plain()
			chain(x.pkts, 1000)
			n := x.w.Seal(x.s, x.pkts[:2])
			if err := x.s.Group.Rotate(0, 3+uint64(n), nil); err != nil {
				t.Fatal(err)
			}
			n += x.w.Seal(x.s, x.pkts[2:])
			x.turn()
			chain(x.pkts, 1000)
			want := 3
			if forged {
				want = 0
				for _, b := range x.bufs {
					b[len(b)-1] ^= 1
				}
			}
			if got := x.w.Open(x.r, x.pkts); n != 3 || got != want {
				t.Fatalf("%d octets: sealed %d, opened %d, want %d", payload, n, got, want)
			}
			x.wantClean(t, "after long chained packets")
			for i, b := range x.bufs { // all zero before; forged packets are zeroed
				if len(bytes.Trim(b[64:64+payload], "\x00")) != 0 {
					t.Fatalf("packet %d: wrong payload", i)
				}
			}
			if err := x.s.Group.Set(0, newRing(t)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// If a ring has no previous key, a forged packet is tried once.
func TestNoSecondTryWithTheSameKey(t *testing.T) {
	x := newRig(t, 16, 1, 1)
	x.s.Sealing = sealing(x.v, 1, false)
	be, tries := *x.s.Backend, 0
	be.Open = func(area unsafe.Pointer, jobs *kernel.Job, n, keyLen int, mode kernel.Mode, scratch unsafe.Pointer) {
		tries += n
		x.s.Backend.Open(area, jobs, n, keyLen, mode, scratch)
	}
	x.r.Backend = &be
	for want := 1; want <= 2; want++ {
		if want == 2 {
			if err := x.s.Group.Rotate(0, 9, nil); err != nil {
				t.Fatal(err)
			}
		}
		x.seal(t)
		x.turn()
		x.bufs[0][len(x.bufs[0])-1] ^= 1
		if tries = 0; x.w.Open(x.r, x.pkts) != 0 || tries != want {
			t.Fatalf("%v after %d tries, want %d", x.pkts[0].Status, tries, want)
		}
	}
}

// Refused packets do not keep ID and TSC of an earlier burst, if one is refused or all are.
func TestRefusedHaveNoTSC(t *testing.T) {
	for name, spoil := range map[string]func(x *rig){
		"room":      func(x *rig) { x.pkts[0].Headroom = 3 },
		"exhausted": func(x *rig) { x.s.Counter.Release() },
		"no key":    func(x *rig) { x.s.Group.Remove(0) },
	} {
		t.Run(name, func(t *testing.T) {
			x := newRig(t, 16, 3, 1)
			x.seal(t)
			old := [3]profile.Desc(x.pkts)
			x.plain()
			for i := range x.pkts {
				x.pkts[i].ID, x.pkts[i].TSC, x.pkts[i].Out, x.pkts[i].OutLen = 7, 8, old[i].Out, old[i].OutLen
			}
			spoil(x)
			x.w.Seal(x.s, x.pkts)
			for i, p := range x.pkts {
				if refused := p.Status != status.OK; refused != (name != "room" || i == 0) ||
					refused && (p.ID != 0 || p.TSC != 0 || p.Out != 0 || p.OutLen != 0) || !refused && p.TSC <= old[i].TSC {
					t.Fatalf("packet %d: %v, ID %d, TSC %#x, out %#x", i, p.Status, p.ID, p.TSC, p.Out)
				}
			}
		})
	}
}

// Callers may pass more room than there is memory: sums do not wrap.
func TestRoomWithoutBounds(t *testing.T) {
	x := newRig(t, 16, 2, 1)
	x.seal(t)
	x.turn()
	for i := range x.pkts {
		x.pkts[i].Headroom, x.pkts[i].Tailroom = ^uint32(0)-uint32(i), ^uint32(0)-uint32(i)
	}
	if n := x.w.Proxy(x.r, x.s, x.pkts); n != 2 {
		t.Fatalf("forwarded %d: %v, %v", n, x.pkts[0].Status, x.pkts[1].Status)
	}
}

// A worker does not use the pattern of one receiver's packets for another receiver with the
// same groups.
func TestReceiversKeepApart(t *testing.T) {
	x := newRig(t, 16, 40, 1)
	x.s.Sealing = sealing(x.v, 1, false)
	x.seal(t)
	old := make([][]byte, len(x.bufs))
	for i, b := range x.bufs {
		old[i] = bytes.Clone(b)
	}
	if err := x.s.Group.Rotate(0, 9, nil); err != nil {
		t.Fatal(err)
	}
	for name, y := range map[string]struct {
		o    profile.ReceiverConfig
		old  bool
		want status.Code
	}{
		"try previous":            {profile.ReceiverConfig{TryPrevious: true}, true, status.OK},
		"do not try previous":     {profile.ReceiverConfig{}, true, status.ErrAuth},
		"own ID":                  {profile.ReceiverConfig{Own: profile.NewOwnIDs([]uint64{1})}, false, status.ErrReflected},
		"not this ID":             {profile.ReceiverConfig{Own: profile.NewOwnIDs([]uint64{2})}, false, status.OK},
		"previous, and own ID":    {profile.ReceiverConfig{Own: profile.NewOwnIDs([]uint64{1}), TryPrevious: true}, true, status.ErrReflected},
		"nothing that is special": {profile.ReceiverConfig{}, false, status.OK},
	} {
		t.Run(name, func(t *testing.T) {
			first := &Receiver{Backend: x.r.Backend, Groups: x.r.Groups, Opening: opening(profile.ReceiverConfig{})}
			second := &Receiver{Backend: x.r.Backend, Groups: x.r.Groups, Opening: opening(y.o)}
			for range 2 {
				x.seal(t)
				x.turn()
				if n := x.w.Open(first, x.pkts); n != len(x.pkts) {
					t.Fatalf("opened %d: %v", n, x.pkts[0].Status)
				}
				x.seal(t)
				x.turn()
				if y.old {
					for i, b := range old {
						copy(x.bufs[i], b)
					}
				}
				x.w.Open(second, x.pkts)
				for i, p := range x.pkts {
					if p.Status != y.want {
						t.Fatalf("packet %d: %v, want %v", i, p.Status, y.want)
					}
				}
			}
		})
	}
}

// Reflected packets are found among many others with the same pattern.
func TestReflectedAmongMany(t *testing.T) {
	x := newRig(t, 16, 80, 1)
	x.r.Opening = opening(profile.ReceiverConfig{Own: profile.NewOwnIDs([]uint64{1}), TryPrevious: true})
	far := &Sender{Backend: x.s.Backend, Group: x.s.Group, Counter: x.s.Counter, Sealing: sealing(1, 2, true)}
	const own = 70 // from here on
	for range 2 {
		x.plain()
		if n := x.w.Seal(far, x.pkts[:own]) + x.w.Seal(x.s, x.pkts[own:]); n != len(x.pkts) {
			t.Fatalf("sealed %d", n)
		}
		x.turn()
		x.w.Open(x.r, x.pkts)
		for i, p := range x.pkts {
			if want := i >= own; want != (p.Status == status.ErrReflected) || !want && p.Status != status.OK {
				t.Fatalf("packet %d: %v", i, p.Status)
			}
		}
	}
}

// Noise between packets does not end a run: kernels get as many packets at a time as
// without it.
func TestStraysEndNoRun(t *testing.T) {
	x := newRig(t, 16, 50, 1)
	var jobs []int
	be := *x.r.Backend
	be.Open = func(area unsafe.Pointer, first *kernel.Job, n, keyLen int, mode kernel.Mode, scratch unsafe.Pointer) {
		jobs = append(jobs, n)
		x.s.Backend.Open(area, first, n, keyLen, mode, scratch)
	}
	x.r.Backend = &be
	x.r.Opening = opening(profile.ReceiverConfig{Own: profile.NewOwnIDs([]uint64{7})})
	strays := map[int]struct {
		spoil func(p *profile.Desc, b []byte)
		want  status.Code
	}{
		0:  {func(p *profile.Desc, b []byte) { b[0] |= 0x70 }, status.ErrVersion},
		1:  {func(p *profile.Desc, b []byte) { b[2] = 0x10 }, status.ErrReserved},
		9:  {func(p *profile.Desc, b []byte) { p.Len = 5 }, status.ErrShort},
		20: {func(p *profile.Desc, b []byte) { p.Data = nil }, status.ErrArgument},
		21: {func(p *profile.Desc, b []byte) { p.Len = 1 << 30 }, status.ErrTooLong},
		31: {func(p *profile.Desc, b []byte) { b[7] = 7 }, status.ErrReflected},
		32: {func(p *profile.Desc, b []byte) { p.Flags = 4 }, status.ErrArgument},
		49: {func(p *profile.Desc, b []byte) { b[0] |= 0xf }, status.ErrShort},
	}
	for round := range 2 {
		x.seal(t)
		x.turn()
		for i, s := range strays {
			if round != 0 {
				p := &x.pkts[i]
				s.spoil(p, x.bufs[i][uintptr(p.Data)-uintptr(unsafe.Pointer(&x.bufs[i][0])):])
			}
		}
		jobs = nil
		x.w.Open(x.r, x.pkts)
	}
	for i, p := range x.pkts {
		if want := strays[i].want; p.Status != want || want == status.OK && p.OutLen != uint32(x.payload) {
			t.Errorf("packet %d: %v, want %v", i, p.Status, want)
		}
	}
	if !reflect.DeepEqual(jobs, []int{kernel.Chunk, len(x.pkts) - len(strays) - kernel.Chunk}) {
		t.Errorf("runs of %d jobs", jobs)
	}
}
