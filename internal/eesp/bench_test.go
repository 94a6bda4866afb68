package eesp

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"libeesp/internal/burst"
	"libeesp/internal/kerneltest"
	"libeesp/internal/profile"
)

// The general path without the cgo call: bursts of 32 with different contexts (V 1 has the
// source address), or equal ones.
func BenchmarkEngine(b *testing.B) {
	g, err := NewGroup(GroupConfig{})
	if err != nil {
		b.Fatal(err)
	}
	defer g.Close()
	if err := g.GenerateRootKey(Zone, make([]byte, 16)); err != nil {
		b.Fatal(err)
	}
	s, err := NewSender(g, SenderConfig{ID: 77, V: VIDSrc, Counter: CounterExplicit, FixedEpoch: true, Epoch: 9, Start: 1})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	r, err := NewReceiver(ReceiverConfig{}, g)
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	w, err := burst.NewWorker()
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	const n, room = 32, 9216
	for _, distinct := range []bool{true, false} {
		for _, size := range []int{64, 1420} {
			buf := make([]byte, n*room)
			var d [n]profile.Desc
			for i := range d {
				d[i] = profile.Desc{Data: unsafe.Pointer(&buf[i*room+64]), Len: uint32(size), Headroom: 64, Tailroom: 64}
				if distinct {
					d[i].Src = netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}).As16()
				}
			}
			name := fmt.Sprintf("distinct=%v/size=%d", distinct, size)
			kerneltest.Fastest(b, "seal/"+name, n, func() {
				if w.Seal(s.Burst(), d[:]) != n {
					b.Fatal(d[0].Status)
				}
			})
			out := make([]byte, n*size)
			for i := range d {
				p := &d[i]
				*p = profile.Desc{Data: unsafe.Pointer(&buf[i*room+64-s.HeaderLen()]), Len: p.OutLen, Src: p.Src, Dst: unsafe.Pointer(&out[i*size]), DstSize: uint32(size)}
			}
			kerneltest.Fastest(b, "open/"+name, n, func() {
				if w.Open(r.Burst(), d[:]) != n {
					b.Fatal(d[0].Status)
				}
			})
		}
	}
}

// Opening 32 packets of 32 Sub SAs of profile eesp, whose keys are in the worker's cache
// (hit) or not (miss).
func BenchmarkEESP(b *testing.B) {
	const n, bursts = 32, 64 // far more Sub SAs than the cache has
	w := eespWorker(b)
	for _, mode := range []uint8{SSKDFSHA256, SSKDFSHA384, SSKDFSHA512, SSKDFCMAC} {
		g := eespGroup(b, GroupConfig{Profile: ProfileEESP, Mode: mode, Domain: freshSPI()},
			stream("root", map[uint8]int{SSKDFSHA256: 32, SSKDFSHA384: 48, SSKDFSHA512: 64, SSKDFCMAC: 32}[mode]))
		r := newReceiver(b, ReceiverConfig{}, g)
		for _, size := range []int{64, 1420} {
			var d [bursts][n]profile.Desc
			out := make([]byte, n*size)
			for k := range d {
				for i := range d[k] {
					s := must(NewSender(g, SenderConfig{ID: uint64(k*n + i), Counter: CounterExplicit, Start: uint64(size)}))
					p := whole(sealed(b, s, eespPlain(make([]byte, size))))
					s.Close()
					d[k][i] = profile.Desc{Data: pointer(p.Buf), Len: uint32(p.Len), Dst: unsafe.Pointer(&out[i*size]), DstSize: uint32(size)}
				}
			}
			k := 0
			for name, step := range map[string]int{"hit": 0, "miss": 1} {
				kerneltest.Fastest(b, fmt.Sprintf("open/sskdf=%d/%s/size=%d", mode, name, size), n, func() {
					if w.Open(r.Burst(), d[k][:]) != n {
						b.Fatal(d[k][0].Status)
					}
					k = (k + step) % bursts
				})
			}
		}
	}
}

// The cost of replay windows: packets that come once each, opened in bursts of 32. Own IDs
// make a receiver without windows take the same path.
func BenchmarkReplay(b *testing.B) {
	const n, bursts, size = 32, 512, 64
	for _, f := range formats {
		g := f.group(b)
		s := newSender(b, g, f.c)
		h := s.HeaderLen()
		room := h + size + ICVLen
		buf := make([]byte, bursts*n*room)
		pkts := make([]Packet, bursts*n)
		for i := range pkts {
			pkts[i] = Packet{Buf: buf[i*room:][:room:room], Off: h, Len: size}
		}
		if s.Seal(pkts) != len(pkts) {
			b.Fatal(pkts[0].Status)
		}
		w, err := burst.NewWorker()
		if err != nil {
			b.Fatal(err)
		}
		defer w.Close()
		out := make([]byte, size)
		var d [n]profile.Desc
		for _, c := range []struct {
			name string
			c    ReceiverConfig
		}{{"without", ReceiverConfig{}}, {"own ID", ReceiverConfig{OwnIDs: []uint64{1 << 20}}}, {"window", ReceiverConfig{ReplayWindow: 1024}}} {
			b.Run(f.name+"/"+c.name, func(b *testing.B) {
				best := time.Duration(1 << 62)
				for range b.N {
					r := must(NewReceiver(c.c, g))
					start := time.Now()
					for at := 0; at < len(pkts); at += n {
						for i := range d {
							d[i] = profile.Desc{Data: unsafe.Pointer(&pkts[at+i].Buf[0]), Len: uint32(room), Dst: unsafe.Pointer(&out[0]), DstSize: size}
						}
						if w.Open(r.Burst(), d[:]) != n {
							b.Fatal(d[0].Status)
						}
					}
					best = min(best, time.Since(start))
					r.Close()
				}
				b.ReportMetric(float64(best.Nanoseconds())/float64(len(pkts)), "ns/packet")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}
