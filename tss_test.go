package eesp

import (
	"testing"
)

func tssGroup(t testing.TB, c GroupConfig, keys ...string) *Group {
	t.Helper()
	c.Profile, c.AEAD = ProfileTSS, AES256GCM
	g := must(NewGroup(c))
	t.Cleanup(g.Close)
	for slot, k := range keys {
		if k == "" {
			continue
		}
		if err := g.SetKey(slot, stream("tss/"+k, 32)); err != nil {
			t.Fatal(err)
		}
	}
	return g
}

func TestTSSBasic(t *testing.T) {
	g := tssGroup(t, GroupConfig{Domain: 7, RekeyMask: 0xff00, RekeyShift: 8}, "a")
	s := newSender(t, g, SenderConfig{V: VTSSSSI, ID: 99})
	r := newReceiver(t, ReceiverConfig{}, g)
	p := plain([]byte("hello"))
	b := sealed(t, s, p)
	lead := p.Buf[p.Off-16-12 : p.Off-16]
	q := Packet{Buf: append(append([]byte{}, lead...), b...), Off: 12, Len: len(b)}
	wantOpen(t, r, q, []byte("hello"))
}
