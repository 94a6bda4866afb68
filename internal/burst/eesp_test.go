package burst

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"reflect"
	"testing"
	"time"
	"unsafe"

	"libeesp/internal/asm"
	"libeesp/internal/counter"
	"libeesp/internal/kernel"
	"libeesp/internal/keys"
	"libeesp/internal/profile"
	"libeesp/internal/status"
	"libeesp/internal/wire"
)

// newEESP makes a rig with an SA of profile eesp. Packets have many sizes, and lie in all
// kinds of places.
func newEESP(t *testing.T, mode uint8, keyLen, n int) *rig {
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
	params := keys.Params{Profile: 3, KeyLen: keyLen, Mode: mode, Domain: 1, EESP: wire.EESPFormat{Seq: true, Full: true}, Align: 4}
	p, err := profile.ByNumber(3)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Prepare(&params); err != nil {
		t.Fatal(err)
	}
	g, err := keys.NewGroup(params)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Release)
	root := make([]byte, params.Kind.KeyLen())
	rand.Read(root)
	if err := g.SetKey(0, root); err != nil {
		t.Fatal(err)
	}
	c, err := counter.New(counter.Config{Mode: counter.Explicit, First: 1})
	if err != nil {
		t.Fatal(err)
	}
	s, err := p.Sealing(&params, &profile.SenderConfig{ID: 5})
	if err != nil {
		t.Fatal(err)
	}
	o, err := p.Opening(&params, &profile.ReceiverConfig{})
	if err != nil {
		t.Fatal(err)
	}
	x := &rig{w: w, payload: 80, bufs: make([][]byte, n), pkts: make([]profile.Desc, n)}
	x.s = &Sender{Backend: be, Group: g, Counter: c, Sealing: s}
	x.r = &Receiver{Backend: be, Groups: []*keys.Group{g}, Opening: o}
	for i := range x.bufs {
		x.bufs[i] = make([]byte, 64+x.payload+profile.MaxTail)
	}
	return x
}

func (x *rig) plainEESP() {
	x.plain()
	for i := range x.pkts {
		x.pkts[i].Tailroom = profile.MaxTail
	}
}

// cached counts the entries of the worker's cache that have octets of a key.
func (x *rig) cached() (n int) {
	entries := reflect.ValueOf(x.w.cache).Elem().FieldByName("entries").Elem()
	for i := range entries.Len() {
		for j := range entries.Index(i).Len() {
			if !entries.Index(i).Index(j).FieldByName("key").IsZero() {
				n++
			}
		}
	}
	return n
}

// After a burst only cached keys stay in memory, and these are wiped with their root key.
func TestEESPScratchIsWiped(t *testing.T) {
	eachBackend(t, func(t *testing.T) {
		for mode := range uint8(4) {
			for _, keyLen := range []int{16, 32} {
				for _, n := range []int{1, 33, 100} {
					t.Run(fmt.Sprint(mode+1, keyLen, n), func(t *testing.T) {
						x := newEESP(t, mode+1, keyLen, n)
						x.eespIsWiped(t, mode+1 < 4)
					})
				}
			}
		}
	})
}

func (x *rig) eespIsWiped(t *testing.T, caches bool) {
	for _, placement := range []string{"in place", "elsewhere", "chained"} {
		x.plainEESP()
		if placement == "chained" {
			chain(x.pkts, 50)
		}
		if n := x.w.Seal(x.s, x.pkts); n != len(x.pkts) {
			t.Fatalf("sealed %d: %v", n, x.pkts[0].Status)
		}
		x.wantClean(t, "after seal "+placement)
		x.bufs[0][64+10] ^= 1
		var dst [96]byte
		for i := range x.pkts {
			p := &x.pkts[i]
			*p = profile.Desc{Data: unsafe.Add(unsafe.Pointer(&x.bufs[i][64]), -x.w.hdr.Len()), Len: uint32(x.w.hdr.Len()) + 80 + kernel.TagSize}
			if placement == "elsewhere" {
				p.Dst, p.DstSize = unsafe.Pointer(&dst), 96
			}
		}
		if placement == "chained" {
			chain(x.pkts, 50)
		}
		if n := x.w.Open(x.r, x.pkts); n != len(x.pkts)-1 || x.pkts[0].Status != status.ErrAuth {
			t.Fatalf("opened %d: %v", n, x.pkts[0].Status)
		}
		x.wantClean(t, "after open "+placement)
	}
	p, err := profile.ByNumber(3)
	if err != nil {
		t.Fatal(err)
	}
	contexts := make([]profile.KeyContext, 600)
	for i := range contexts {
		contexts[i].ID = uint64(i)
	}
	out := make([]byte, p.KeyOctets(x.s.Group.Params())*len(contexts))
	if c := x.w.Derive(x.s.Backend, x.s.Group, contexts, out); c != nil {
		t.Fatal(c)
	}
	x.wantClean(t, "after derive")
	var k profile.DataKey
	if c := x.w.Export(x.s.Backend, x.s.Group, &profile.KeyContext{ID: 3}, false, &k); c != nil {
		t.Fatal(c)
	}
	x.wantClean(t, "after export")
	if !caches {
		return
	}
	if n := x.cached(); n < 200 {
		t.Fatalf("%d keys are cached", n)
	}
	if err := x.s.Group.RemoveKey(0); err != nil {
		t.Fatal(err)
	}
	if n := keys.Waiting(); n != 0 { // no burst runs
		t.Fatalf("%d retired keys were not wiped", n)
	}
	if n := x.cached(); n != 0 {
		t.Fatalf("%d keys are cached after their root key was removed", n)
	}
}

// In a flood of forged packets with many Session IDs, keys are derived for few of them, and
// none is kept. Meanwhile all packets of known Sub SAs open, and packets of new ones are
// accepted. Without forged packets, any number of Sub SAs is accepted.
func TestStrangers(t *testing.T) {
	eachBackend(t, func(t *testing.T) {
		for _, mode := range []uint8{1, 4} {
			x := newEESP(t, mode, 16, 32)
			subs := x.s.Group.Snapshot().Slot[0].Subs
			_, _, kept := subs.View(x.r.Backend, wire.EESPMaxSubSAs)
			if mode == 4 && !kept { // opening includes deriving the key
				continue
			}
			p, _ := profile.ByNumber(3)
			send := func(id int) { // a burst of one Sub SA
				x.plainEESP()
				var err error
				if x.s.Sealing, err = p.Sealing(x.s.Group.Params(), &profile.SenderConfig{ID: uint64(id)}); err != nil {
					t.Fatal(err)
				}
				if n := x.w.Seal(x.s, x.pkts); n != len(x.pkts) {
					t.Fatalf("sealed %d: %v", n, x.pkts[0].Status)
				}
				for i := range x.pkts {
					hdr := x.w.hdr.Len()
					x.pkts[i] = profile.Desc{Data: unsafe.Pointer(&x.bufs[i][64-hdr]), Len: uint32(hdr + x.payload + kernel.TagSize)}
				}
			}
			forge := func(i, id int) { binary.BigEndian.PutUint16(x.bufs[i][64-x.w.hdr.Len()+wire.EESPSession:], uint16(id)) }
			for id := range 2000 {
				send(id)
				if n := x.w.Open(x.r, x.pkts); n != len(x.pkts) {
					t.Fatalf("Sub SA %d: opened %d: %v", id, n, x.pkts[0].Status)
				}
				if has, _ := subs.Has(id); has != kept {
					t.Fatalf("Sub SA %d: its key is kept: %v", id, has)
				}
			}
			start, forged, looked := time.Now(), 0, 0
			for burst := range 1000 {
				send(1999)
				for i := 0; i < len(x.pkts); i += 2 {
					forge(i, 10000+forged)
					forged++
				}
				if n := x.w.Open(x.r, x.pkts); n != len(x.pkts)/2 {
					t.Fatalf("burst %d: opened %d", burst, n)
				}
				for i := range x.pkts {
					switch c := x.pkts[i].Status; {
					case c == status.ErrAuth && i%2 == 0:
						looked++
					case i%2 == 0 && c != status.ErrFlooded || i%2 != 0 && c != status.OK:
						t.Fatalf("burst %d, packet %d: %v", burst, i, c)
					}
				}
			}
			// The bound rises with time, so it holds on slow machines too.
			most := mostStrange + forged/refusedEach + int(time.Since(start)>>18) + 2
			if looked < 256 || looked > most {
				t.Errorf("of %d forged packets the keys of %d were derived, not 256 to %d", forged, looked, most)
			}
			for id := 10000; id < 10000+forged; id++ {
				if has, _ := subs.Has(id); has {
					t.Fatalf("the key of forged Session ID %d is kept", id)
				}
			}
			for opened, burst := 0, 0; opened == 0; burst++ { // one new Sub SA in a flood
				send(5000)
				for i := range x.pkts {
					if i != burst%len(x.pkts) {
						forge(i, 10000+forged%50000)
						forged++
					}
				}
				if opened = x.w.Open(x.r, x.pkts); burst == 100000 {
					t.Fatal("a new Sub SA did not get in")
				}
			}
		}
	})
}
