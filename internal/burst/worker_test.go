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
)

// rig is a worker with a sender and a receiver of one group.
type rig struct {
	w    *Worker
	s    *Sender
	r    *Receiver
	bufs [][]byte
	pkts []profile.Desc
}

const payload = 80

func newRig(t *testing.T, keyLen, n int, v uint8) *rig {
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
	g, err := keys.NewGroup(keyLen, keys.HKDF)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Release)
	k, err := keys.GenerateRootKey(make([]byte, 16))
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Set(0, k); err != nil {
		t.Fatal(err)
	}
	c, err := counter.New(counter.Config{Mode: counter.Explicit})
	if err != nil {
		t.Fatal(err)
	}
	x := &rig{w: w, bufs: make([][]byte, n), pkts: make([]profile.Desc, n)}
	x.s = &Sender{Backend: be, Group: g, Counter: c, Sealing: profile.Sealing{V: v, ID: 1, Options: true}}
	x.r = &Receiver{Backend: be, Groups: []*keys.Group{g}, Opening: profile.Opening{TryPrevious: true}}
	for i := range x.bufs {
		x.bufs[i] = make([]byte, 64+payload+kernel.TagSize)
	}
	return x
}

func (x *rig) plain() {
	for i, b := range x.bufs {
		x.pkts[i] = profile.Desc{Data: unsafe.Pointer(&b[64]), Len: payload, Headroom: 64, Tailroom: kernel.TagSize}
		x.pkts[i].Src[3] = byte(i)
	}
}

// turn makes the packets that were sealed the ones to open.
func (x *rig) turn() {
	for i := range x.pkts {
		p := &x.pkts[i]
		h := p.OutLen - payload - kernel.TagSize
		*p = profile.Desc{Data: unsafe.Pointer(&x.bufs[i][64-h]), Len: p.OutLen, Src: p.Src}
	}
}

func (x *rig) seal(t *testing.T) {
	t.Helper()
	x.plain()
	if n := x.w.Seal(x.s, x.pkts); n != len(x.pkts) {
		t.Fatalf("sealed %d: %v", n, x.pkts[0].Status)
	}
}

// wantClean looks for anything in the worker's locked memory. KDF inputs,
// which are public, may stay.
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
	if len(bytes.Trim(x.w.linear, "\x00")) != 0 {
		t.Fatalf("%s: something is left in the memory of chained packets", when)
	}
	if keys.Waiting() != 0 {
		t.Fatalf("%s: %d retired keys wait", when, keys.Waiting())
	}
}

func TestScratchIsWiped(t *testing.T) {
	for _, keyLen := range []int{16, 32} {
		for _, v := range []uint8{0, 1} { // equal and fresh contexts
			for _, n := range []int{1, 3, 32, 33, 100} {
				t.Run(fmt.Sprint(keyLen, v, n), func(t *testing.T) {
					x := newRig(t, keyLen, n, v)
					x.wantClean(t, "at first")
					x.seal(t)
					x.wantClean(t, "after seal")
					x.turn()
					if got := x.w.Open(x.r, x.pkts); got != n {
						t.Fatalf("opened %d", got)
					}
					x.wantClean(t, "after open")
					x.seal(t)
					x.bufs[0][64+3] ^= 1
					x.turn()
					if got := x.w.Open(x.r, x.pkts); got != n-1 || x.pkts[0].Status != status.ErrAuth {
						t.Fatalf("opened %d", got)
					}
					x.wantClean(t, "after a forged packet")
					out := make([]byte, keyLen*n)
					if c := x.w.Derive(x.s.Backend, x.s.Group, make([]Context, n), out); c != status.OK {
						t.Fatal(c)
					}
					x.wantClean(t, "after derive")
					var k DataKey
					if c := x.w.Export(x.s.Backend, x.s.Group, &Context{V: v}, true, &k); c != status.OK {
						t.Fatal(c)
					}
					x.wantClean(t, "after export")
				})
			}
		}
	}
}

// A burst of packets of two generations, found by their options or tried.
func TestMixedKeysAreWiped(t *testing.T) {
	for _, options := range []bool{true, false} {
		x := newRig(t, 32, 30, 1)
		x.s.Sealing.Options = options
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
	iov := make([][2]profile.IOV, len(x.pkts))
	for i := range x.pkts {
		b := unsafe.Pointer(&x.bufs[i][64])
		iov[i] = [2]profile.IOV{{Base: b, Len: 50}, {Base: unsafe.Add(b, 50), Len: payload - 50}}
		x.pkts[i].Data, x.pkts[i].IOV, x.pkts[i].IOVCount = nil, unsafe.Pointer(&iov[i]), 2
	}
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

// A panic anywhere in a kernel leaves nothing behind and holds up no rotation.
func TestPanicWipesToo(t *testing.T) {
	for _, where := range []string{"Derive", "Expand", "Seal", "Open"} {
		t.Run(where, func(t *testing.T) {
			v := uint8(1)
			if where == "Expand" { // which is for contexts that are equal
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
			x.wantClean(t, "after a rotation") // no reader is taken to be at work
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
