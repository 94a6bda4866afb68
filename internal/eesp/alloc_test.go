package eesp

import "testing"

// Bursts allocate nothing, with equal contexts and different ones.
func TestNoAllocation(t *testing.T) {
	for name, c := range map[string]SenderConfig{
		"equal contexts":   {},
		"options":          {Options: true, V: VLongID},
		"fresh contexts":   {V: VIDSrc},
		"fresh, both ends": {V: VLongIDSrcDst, Options: true},
	} {
		t.Run(name, func(t *testing.T) {
			g, far := newGroup(t, "a", GroupConfig{AEAD: AES256GCM}, Zone, User), newGroup(t, "b", GroupConfig{}, Zone)
			s, r := newSender(t, g, c), newReceiver(t, ReceiverConfig{TryPrevious: true}, g)
			x := NewProxy(r, newSender(t, far, SenderConfig{}))
			k := must(g.ExportDataKey(Context{ID: freshID(), V: c.V, Addr: Addr{Src: v4.As16(), Dst: v6.As16()}}, c.Options))
			ks, kr := must(NewSenderWithKey(k, SenderConfig{Counter: CounterExplicit})), must(NewReceiverWithKey(k, ReceiverConfig{}))
			defer ks.Close()
			defer kr.Close()
			const n = 140 // more than a session takes at a time
			pkts := make([]Packet, n)
			bufs := make([][]byte, n)
			for i := range bufs {
				bufs[i] = make([]byte, MaxHeader+64+ICVLen)
			}
			fill := func() {
				for i := range pkts {
					a := v6.As16()
					pkts[i] = Packet{Buf: bufs[i], Off: MaxHeader, Len: 64, SrcIP: v4, DstIP: v6}
					if a[14] = byte(i); i%2 == 0 {
						pkts[i].SrcIP = v6b
					}
				}
			}
			turn := func(h int) {
				for i := range pkts {
					pkts[i].Off, pkts[i].Len = MaxHeader-h, h+64+ICVLen
				}
			}
			for what, f := range map[string]func(){
				"seal and open": func() {
					if fill(); s.Seal(pkts) != n {
						t.Fatal(pkts[0].Status)
					}
					if turn(s.HeaderLen()); r.Open(pkts) != n {
						t.Fatal(pkts[0].Status)
					}
				},
				"forged": func() {
					if turn(s.HeaderLen()); r.Open(pkts) != 0 {
						t.Fatal("forged packets were opened")
					}
				},
				"proxy": func() {
					if fill(); s.Seal(pkts) != n {
						t.Fatal(pkts[0].Status)
					}
					if turn(s.HeaderLen()); x.Forward(pkts) != n {
						t.Fatal(pkts[0].Status)
					}
				},
				"data key": func() {
					fill()
					for i := range pkts {
						pkts[i].SrcIP = v4 // the key's
					}
					if ks.Seal(pkts) != n {
						t.Fatal(pkts[0].Status)
					}
					if turn(ks.HeaderLen()); kr.Open(pkts) != n {
						t.Fatal(pkts[0].Status)
					}
				},
			} {
				if a := testing.AllocsPerRun(5, f); a != 0 {
					t.Errorf("%s: %v allocations", what, a)
				}
			}
		})
	}
}
