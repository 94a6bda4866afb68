package burst

import (
	"testing"
	"unsafe"

	"libeesp/internal/generic"
	"libeesp/internal/profile"
	"libeesp/internal/sha2"
)

// The octets of the fast path's known answers are those of the general path with the generic backend.
func TestKnown(t *testing.T) {
	w, err := NewWorker()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for number := range Knowns {
		k, err := NewKnown(&generic.Backend, number)
		if err != nil {
			t.Fatal(err)
		}
		var seal, open uintptr
		if err := k.Plan(w, &seal, &open, 0); err != nil {
			t.Fatal(err)
		}
		var all []byte
		for i := range KnownCount { // as libeesp/known.c makes them
			const front = 128
			n := 40 + i
			buf := make([]byte, 256)
			for x := range front {
				buf[x] = byte(i)
			}
			for x := range n {
				buf[front+x] = byte(7*i + x)
			}
			p := []profile.Desc{{Data: unsafe.Pointer(&buf[front]), Len: uint32(n), Headroom: front, Tailroom: 64, NextHeader: 17}}
			for x := range p[0].Src {
				p[0].Src[x], p[0].DstIP[x] = byte(i), byte(i)
			}
			if w.Seal(&k.s, p) != 1 {
				t.Fatalf("%s: packet %d: %v", k.name, i, p[0].Status)
			}
			at := p[0].Out - uintptr(unsafe.Pointer(&buf[0]))
			all = append(all, buf[at:][:p[0].OutLen]...)
		}
		if err := k.Check(all); err != nil {
			t.Errorf("%v: the sum is %x", err, sha2.Sum256(all))
		}
		all[70] ^= 1
		if k.Check(all) == nil {
			t.Errorf("%s: a wrong octet has the right sum", k.name)
		}
		k.Close()
	}
}
