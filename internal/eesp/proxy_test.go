package eesp

import (
	"bytes"
	"fmt"
	"testing"

	"libeesp/internal/kernel"
	"libeesp/internal/keys"
	"libeesp/internal/profile"
	"libeesp/internal/status"
)

// A proxy's two sides: packets come in with `in` (header 16, 24 or 40 octets
// long), go out with out, and end opens them.
type proxySides struct {
	in, out *Sender
	p       *Proxy
	end     *Receiver
}

func newProxy(t testing.TB, in, out SenderConfig) *proxySides {
	a := newGroup(t, "a", GroupConfig{AEAD: AES128GCM}, Zone)
	b := newGroup(t, "b", GroupConfig{AEAD: AES256GCM}, Zone, User)
	x := &proxySides{in: newSender(t, a, in), out: newSender(t, b, out), end: newReceiver(t, ReceiverConfig{}, b)}
	x.p = NewProxy(newReceiver(t, ReceiverConfig{}, a), x.out)
	return x
}

// changing changes a key while packets are opened.
type changing struct {
	profile.Opening
	change func()
}

func (c changing) Parse(l *profile.Lane, j *kernel.Job, x *profile.Context, n uint32, snaps []*keys.Snapshot) status.Code {
	c.change()
	return c.Opening.Parse(l, j, x, n, snaps)
}

// A burst is sealed with the keys in force when it began, even if new keys have longer IDs,
// or there was no key.
func TestProxyWhileKeysChange(t *testing.T) {
	text := stream("payload", 50)
	for _, before := range []int{0, 16, 32} {
		near, far := newGroup(t, "a", GroupConfig{}, Zone), newGroup(t, "b", GroupConfig{})
		set := func(idLen int) {
			_, index, value := ring("far")
			if err := far.SetRootKey(Zone, stream("id", idLen), index, value); err != nil {
				t.Fatal(err)
			}
		}
		if before != 0 {
			set(before)
		}
		s, r := newSender(t, near, SenderConfig{}), newReceiver(t, ReceiverConfig{}, near)
		x, out := newSender(t, far, SenderConfig{Options: true}), newReceiver(t, ReceiverConfig{}, far)
		h := x.HeaderLen()
		r.r.Opening = changing{r.r.Opening, func() { set(48 - max(before, 16)) }}
		b := sealed(t, s, plain(text))
		elsewhere := whole(b)
		elsewhere.Dst = make([]byte, h+len(text)+ICVLen)
		inPlace := plain(b)
		pkts := []Packet{elsewhere, inPlace}
		n := NewProxy(r, x).Forward(pkts)
		for i, p := range pkts {
			if before == 0 {
				if p.Status != status.ErrNoKey || bytes.Contains(p.Buf, text[:16]) || bytes.Contains(p.Dst, text[:16]) {
					t.Fatalf("no key, packet %d: %v", i, p.Status)
				}
			} else if p.Status != status.OK || len(p.Out) != h+len(text)+ICVLen {
				t.Fatalf("from %d octets of ID on, packet %d: %v", before, i, p.Status)
			}
		}
		if st := x.Stats().Packets; before != 0 && (n != 2 || st[status.OK] != 2) || before == 0 && (n != 0 || st[status.ErrNoKey] != 2) {
			t.Fatal(n, st)
		}
		if before != 0 { // the name of the key that was in force
			set(before)
			wantOpen(t, out, whole(pkts[0].Out), text)
			wantOpen(t, out, whole(pkts[1].Out), text)
		}
	}
}

func TestProxy(t *testing.T) {
	configs := []SenderConfig{{V: VID}, {V: VLongIDSrc}, {V: VIDSrcDst, Options: true}}
	for _, in := range configs {
		for _, out := range configs {
			for _, dst := range []bool{false, true} {
				t.Run(fmt.Sprintf("V %d to %d, dst %v", in.V, out.V, dst), func(t *testing.T) {
					x := newProxy(t, in, out)
					var pkts []Packet
					for i := range 70 {
						p := plain(stream("payload", 20+i))
						p.COffset, p.IOffset, p.SrcIP, p.DstIP = uint8(i%6), uint8(i%3), v4, v6
						if p.IOffset > p.COffset {
							p.IOffset = 0
						}
						b := sealed(t, x.in, p)
						room := max(0, x.out.HeaderLen()-x.in.HeaderLen())
						q := Packet{Buf: append(make([]byte, room), b...), Off: room, Len: len(b), SrcIP: v4, DstIP: v6}
						if i%2 == 0 {
							q.OutSrc, q.OutDst = v6b, v4b
						}
						if i%10 == 9 {
							q.Buf[len(q.Buf)-1] ^= 1
						}
						if dst {
							q.Dst = make([]byte, x.out.HeaderLen()+20+i+ICVLen+i%2)
						}
						pkts = append(pkts, q)
					}
					if n := x.p.Forward(pkts); n != 63 {
						t.Fatalf("forwarded %d", n)
					}
					for i, p := range pkts {
						text := stream("payload", 20+i)
						if i%10 == 9 {
							if p.Status != status.ErrAuth || p.Out != nil {
								t.Fatalf("packet %d: %v", i, p.Status)
							}
							continue
						}
						if p.Status != status.OK || p.ID != x.in.ID() {
							t.Fatalf("packet %d: %v, ID %d", i, p.Status, p.ID)
						}
						q := whole(p.Out)
						q.SrcIP, q.DstIP = v4, v6
						if i%2 == 0 {
							q.SrcIP, q.DstIP = v6b, v4b
						}
						q = open1(x.end, q)
						if q.Status != status.OK || !bytes.Equal(q.Out, text) || q.COffset != p.COffset || q.COffset != uint8(i%6) {
							t.Fatalf("packet %d opens as %v at the end", i, q.Status)
						}
					}
					in, out := x.p.r.Stats(), x.p.s.Stats()
					if in.Packets[status.OK] != 63 || in.Packets[status.ErrAuth] != 7 || out.Packets[status.OK] != 63 || len(out.Packets) != 1 {
						t.Fatal(in, out)
					}
				})
			}
		}
	}
}

// If a packet was opened but cannot be sealed, its plaintext is wiped.
func TestProxyRefusals(t *testing.T) {
	text := stream("payload", 50)
	for _, c := range []struct {
		name string
		want status.Code
		set  func(x *proxySides, p *Packet)
	}{
		{"no headroom for a longer header", status.ErrRoom, func(x *proxySides, p *Packet) { p.Buf, p.Off = p.Buf[p.Off:], 0 }},
		{"one octet too little", status.ErrRoom, func(x *proxySides, p *Packet) { p.Buf, p.Off = p.Buf[1:], p.Off-1 }},
		{"destination", status.ErrRoom, func(x *proxySides, p *Packet) { p.Dst = make([]byte, x.out.HeaderLen()+50+ICVLen-1) }},
		{"destination without room for a payload", status.ErrRoom, func(x *proxySides, p *Packet) { p.Dst = make([]byte, 8) }},
		{"exhausted", status.ErrExhausted, func(x *proxySides, p *Packet) { ownCounters(x.out, 0, 1<<48-1); x.out.now.Load().s.Counter.Take(1) }},
		{"no key", status.ErrNoKey, func(x *proxySides, p *Packet) { x.out.g.RemoveRootKey(User); x.out.g.RemoveRootKey(Zone) }},
		{"wrong ICV", status.ErrAuth, func(x *proxySides, p *Packet) { p.Buf[len(p.Buf)-1] ^= 1 }},
		{"version", status.ErrVersion, func(x *proxySides, p *Packet) { p.Buf[p.Off] |= 0x10 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newProxy(t, SenderConfig{}, SenderConfig{V: VIDSrcDst, Options: true})
			b := sealed(t, x.in, plain(text))
			room := x.out.HeaderLen() - x.in.HeaderLen()
			p := []Packet{{Buf: append(make([]byte, room), b...), Off: room, Len: len(b), SrcIP: zeros, DstIP: zeros}}
			c.set(x, &p[0])
			if n := x.p.Forward(p); n != 0 || p[0].Status != c.want || p[0].Out != nil {
				t.Fatalf("%d good, %v; want %v", n, p[0].Status, c.want)
			}
			if bytes.Contains(p[0].Buf, text[:8]) || bytes.Contains(p[0].Dst, text[:8]) {
				t.Fatal("plaintext was left")
			}
		})
	}
}

// A destination that is too small is not written to, whatever the payload.
func TestProxyStaysInItsDestination(t *testing.T) {
	x := newProxy(t, SenderConfig{}, SenderConfig{V: VLongID, Options: true})
	need := x.out.HeaderLen() + ICVLen
	for size := range need + 2 {
		room := bytes.Repeat([]byte{0xA5}, need+64)
		b := sealed(t, x.in, plain(nil))
		p := []Packet{{Buf: b, Len: len(b), Dst: room[:size:size]}}
		x.p.Forward(p)
		if fits := size >= need; fits != (p[0].Status == status.OK) || !fits && p[0].Status != status.ErrRoom {
			t.Fatalf("%d octets: %v", size, p[0].Status)
		}
		if len(bytes.Trim(room[size:], "\xA5")) != 0 {
			t.Fatalf("wrote beyond a destination of %d octets", size)
		}
	}
}
