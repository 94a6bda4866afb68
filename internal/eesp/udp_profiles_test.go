package eesp

import (
	"bytes"
	"fmt"
	"testing"

	"libeesp/internal/status"
)

// Profile eesp pads payloads, and carries protocols in the full format.
func TestUDPWithEESP(t *testing.T) {
	for _, c := range []GroupConfig{{}, {IV: true, MaxCOffset: 30, AEAD: AES256GCM}, {Optimized: true}, {Optimized: true, Align8: true},
		{Encap: EncapTunnel}, {Encap: EncapTunnel, MaxCOffset: 9}, {Encap: EncapBEET}, {Draft: 2}, {Draft: 2, Optimized: true}} {
		tunnel := c.Optimized || c.Encap == EncapTunnel
		for _, u := range []UDP{tunnel4, tunnel6, across} {
			t.Run(fmt.Sprintf("%+v to %v", c, u.Dst), func(t *testing.T) {
				c := c
				c.Profile, c.Mode, c.Domain = ProfileEESP, SSKDFSHA256, freshSPI()
				g := eespGroup(t, c, stream("root", 32))
				s, r := newSender(t, g, SenderConfig{ID: 5}), newReceiver(t, ReceiverConfig{ReplayWindow: 128}, g)
				outer := 28
				if u.Transport {
					outer = 8
				} else if u.Dst == v6b {
					outer = 48
				}
				for _, dst := range []bool{false, true} {
					pkts, back := make([]Packet, 70), make([]Packet, 70)
					for i := range pkts {
						ip := inner(i)
						front := outer + s.HeaderLen()
						buf := append(append(make([]byte, front), ip...), make([]byte, 3+ICVLen)...)
						pkts[i] = Packet{Buf: buf, Off: front, Len: len(ip)}
						if dst {
							pkts[i].Dst = make([]byte, len(buf))
						}
						if i%8 == 7 { // no room at all
							if pkts[i].Buf = buf[:len(buf)-3-1]; dst {
								pkts[i].Dst = pkts[i].Dst[:len(buf)-3-1]
							}
						}
					}
					want := 70 - 8
					if u.Transport && tunnel {
						want = 0
					}
					if n := sealUDP(t, s, &u, pkts); n != want {
						t.Fatalf("sealed %d: %v", n, pkts[0].Status)
					}
					for i, p := range pkts {
						if u.Transport && tunnel {
							if p.Status != status.ErrUnsupported {
								t.Fatal(p.Status)
							}
							continue
						}
						if i%8 == 7 {
							if p.Status != status.ErrRoom {
								t.Fatal(p.Status)
							}
							continue
						}
						d := parse(t, p.Out)
						n := len(inner(i))
						if u.Transport {
							n -= len(d.header)
						}
						if pad := len(d.payload) - s.HeaderLen() - n - ICVLen; pad < 0 || pad > 3 {
							t.Fatalf("padding of %d", pad)
						}
						if back[i] = whole(p.Out); dst {
							back[i].Dst = make([]byte, len(inner(i))+3) // padding is decrypted too
						}
					}
					if n := openUDP(t, r, &u, back); n != want {
						t.Fatalf("opened %d: %v", n, back[0].Status)
					}
					for i, p := range back {
						if p.Status == status.OK && !bytes.Equal(p.Out, inner(i)) {
							t.Fatalf("packet %d:\n%x, want\n%x", i, p.Out, inner(i))
						}
					}
				}
			})
		}
	}
}

// A packet of no next header would be a dummy to the other end, which discards
// it: transport mode does not take it. psp does; so do tunnels.
func TestUDPOfNoNextHeader(t *testing.T) {
	none := ip6(v6, v6b, 59, nil)
	beet := eespGroup(t, GroupConfig{Profile: ProfileEESP, Mode: SSKDFSHA256, Domain: freshSPI(), Encap: EncapBEET}, stream("root", 32))
	for _, x := range []struct {
		g    *Group
		u    UDP
		want status.Code
	}{{beet, across, status.ErrUnsupported}, {beet, tunnel6, status.OK}, {pspDevice(t), across, status.OK}, {pspDevice(t), tunnel4, status.OK}} {
		s, r := newSender(t, x.g, SenderConfig{}), newReceiver(t, ReceiverConfig{}, x.g)
		p := []Packet{eespPlain(none)}
		if sealUDP(t, s, &x.u, p); p[0].Status != x.want {
			t.Fatalf("%v, want %v", p[0].Status, x.want)
		}
		if x.want == status.OK {
			b := []Packet{whole(p[0].Out)}
			if openUDP(t, r, &x.u, b) != 1 || !bytes.Equal(b[0].Out, none) {
				t.Fatal(b[0].Status)
			}
		}
	}
}

// Profile tss has octets in front of its header, which a datagram has not.
func TestUDPWithTSS(t *testing.T) {
	g := newTSS(t, GroupConfig{}, tssKey("in UDP"))
	s, r := newSender(t, g, SenderConfig{V: 1}), newReceiver(t, ReceiverConfig{}, g)
	other := newSender(t, pspDevice(t), SenderConfig{})
	for _, u := range []UDP{tunnel4, tunnel6, across} {
		pkts := []Packet{plain(inner(0)), plain(inner(1)), {}}
		pkts[1].IPv6 = true
		if sealUDP(t, s, &u, pkts); pkts[0].Status != status.ErrUnsupported || pkts[1].Status != status.ErrUnsupported || pkts[2].Status != status.ErrUnsupported {
			t.Fatal(pkts[0].Status, pkts[1].Status, pkts[2].Status)
		}
		pkts = []Packet{whole(sealed1(t, other, &u, inner(0))), whole(sealed1(t, other, &u, inner(0)))}
		pkts[1].IPv6 = true
		before := bytes.Clone(pkts[0].Buf)
		if openUDP(t, r, &u, pkts); pkts[0].Status != status.ErrUnsupported || pkts[1].Status != status.ErrUnsupported || !bytes.Equal(before, pkts[0].Buf) {
			t.Fatal(pkts[0].Status, pkts[1].Status)
		}
	}
}

// A psp header's extension, hidden or in clear, goes around what is inside like
// the rest of the header. With its octets in front of it, a payload would be no
// IP packet.
func TestUDPWithHiddenExtension(t *testing.T) {
	for _, u := range []UDP{tunnel4, tunnel6, across} {
		g := pspDevice(t)
		r := newReceiver(t, ReceiverConfig{}, g)
		for n := 0; n <= 24; n += 8 {
			s := newSender(t, g, SenderConfig{Extra: stream("ext", n), OffsetFromIV: true})
			for _, dst := range []bool{false, true} {
				pkts, back := make([]Packet, 40), make([]Packet, 40)
				for i := range pkts {
					pkts[i] = plain(inner(i))
					pkts[i].COffset = uint8(i % (n/4 + 4))
				}
				if got := sealUDP(t, s, &u, pkts); got != len(pkts) {
					t.Fatal(got, pkts[0].Status)
				}
				for i, p := range pkts {
					if back[i] = whole(p.Out); dst {
						back[i].Dst = make([]byte, len(inner(i)))
					}
				}
				flagged := whole(back[0].Buf)
				flagged.Extension = true
				if openUDP(t, r, &u, []Packet{flagged}) != 0 {
					t.Fatal("an extension in front of an IP packet")
				}
				if got := openUDP(t, r, &u, back); got != len(back) {
					t.Fatal(got, back[0].Status)
				}
				for i, p := range back {
					if !bytes.Equal(p.Out, inner(i)) {
						t.Fatalf("packet %d:\n%x, want\n%x", i, p.Out, inner(i))
					}
				}
			}
		}
	}
}
