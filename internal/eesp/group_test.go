package eesp

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"libeesp/internal/status"
)

func TestBackends(t *testing.T) {
	name := must(Backend())
	if names := Backends(); len(names) == 0 || names[len(names)-1] != "generic" || !BackendSupported("generic") || !BackendSupported(name) {
		t.Fatal(names, name)
	}
	if BackendSupported("none such") {
		t.Fatal("an unknown backend is supported")
	}
	wantErr(t, SelectBackend("none such"), status.ErrBackend)
	if now := must(Backend()); now != name {
		t.Fatalf("a refused choice left %s, not %s", now, name)
	}
	if err := SelfTest(); err != nil {
		t.Fatal(err)
	}
}

// Using an object that was not made, or is closed, is ErrArgument: it does not panic, and
// gives no other error.
func TestNothingToUse(t *testing.T) {
	live := newGroup(t, "a", GroupConfig{}, Zone)
	key := must(live.ExportDataKey(Context{ID: freshID()}, true))
	devices := must(NewGroup(GroupConfig{Profile: ProfilePSP}))
	defer devices.Close()
	var noGroup *Group
	var noSender *Sender
	var noReceiver *Receiver
	var noProxy *Proxy
	var noKDF *KDF
	var noKeySet *KeySet
	closedGroup, closedSender, closedReceiver := newGroup(t, "b", GroupConfig{}, Zone), newSender(t, live, SenderConfig{}), newReceiver(t, ReceiverConfig{}, live)
	heldSender, heldReceiver := must(NewSenderWithKey(key, SenderConfig{Counter: CounterExplicit})), must(NewReceiverWithKey(key, ReceiverConfig{ReplayWindow: 64}))
	for range 2 { // twice is once
		for _, o := range []interface{ Close() }{noGroup, noSender, noReceiver, noKDF, noKeySet, &Group{}, &Sender{}, &Receiver{}, &KDF{}, &KeySet{},
			closedGroup, closedSender, closedReceiver, heldSender, heldReceiver} {
			o.Close()
		}
	}
	sender, receiver := newSender(t, live, SenderConfig{}), newReceiver(t, ReceiverConfig{}, live)
	sealedPacket := sealed(t, sender, plain([]byte("x")))

	for name, g := range map[string]*Group{"no group": noGroup, "no group ": {}, "the group is closed": closedGroup} {
		out := []byte{1, 2, 3}
		for what, err := range map[string]error{
			"SetRootKeyDER":      g.SetRootKeyDER(Zone, []byte{1}),
			"SetRootKey":         g.SetRootKey(Zone, stream("id", 16), [3]uint64{1, 2, 3}, new([3][RootKeyLen]byte)),
			"GenerateRootKey":    g.GenerateRootKey(Zone, stream("id", 16)),
			"WriteRootKeyDER":    second(g.WriteRootKeyDER(make([]byte, 300), Zone)),
			"Rotate":             g.Rotate(Zone, 9, nil),
			"RemoveRootKey":      g.RemoveRootKey(Zone),
			"SetDefaultLevels":   g.SetDefaultLevels(Set(Zone)),
			"SetKey":             g.SetKey(0, make([]byte, 32)),
			"UseKey":             g.UseKey(0),
			"RotateKey":          second(g.RotateKey(nil)),
			"RemoveKey":          g.RemoveKey(0),
			"AllocSPI":           second(g.AllocSPI(1)),
			"SetEpoch":           g.SetEpoch(1),
			"ResetLatch":         g.ResetLatch(),
			"DomainStats":        second(g.DomainStats()),
			"Usage":              second(g.Usage(Zone, Current)),
			"RootKeyInfo":        second(g.RootKeyInfo(Zone)),
			"DeriveKeys":         g.DeriveKeys([]Context{{}}, out),
			"ExportDataKey":      second(g.ExportDataKey(Context{}, true)),
			"NewSender":          second(NewSender(g, SenderConfig{ID: freshID()})),
			"NewReceiver":        second(NewReceiver(ReceiverConfig{}, live, g)),
			"NewReceiver, first": second(NewReceiver(ReceiverConfig{}, g)),
		} {
			if !errors.Is(err, status.ErrArgument) || !strings.HasSuffix(err.Error(), strings.TrimSpace(name)) {
				t.Errorf("%s of %q: %v", what, name, err)
			}
		}
		if g.KeyLen() != 0 || !bytes.Equal(out, make([]byte, 3)) {
			t.Errorf("%q has keys", name)
		}
	}
	wantError(t, live.SetRootKey(Zone, stream("id", 16), [3]uint64{1, 2, 3}, nil), status.ErrArgument)
	wantError(t, second(NewSenderWithKey(nil, SenderConfig{})), status.ErrArgument)
	wantError(t, second(NewReceiverWithKey(nil, ReceiverConfig{})), status.ErrArgument)
	wantError(t, second(NewKDF(nil)), status.ErrArgument)
	wantError(t, second(noKDF.Open(AES128GCM, nil, nil)), status.ErrArgument)
	wantError(t, second(noKeySet.Open(nil)), status.ErrArgument)

	refused := func(what string, f func(pkts []Packet) int, p Packet) {
		t.Helper()
		pkts := []Packet{p, p}
		pkts[0].Out, pkts[0].TSC = []byte("of a burst before"), 7
		if n := f(pkts); n != 0 {
			t.Errorf("%s: %d packets", what, n)
		}
		for _, p := range pkts {
			if p.Status != status.ErrArgument || p.Out != nil || p.TSC != 0 {
				t.Errorf("%s: %v, %q", what, p.Status, p.Out)
			}
		}
	}
	udp := &UDP{DPort: 1, Src: v4, Dst: v4}
	for i, s := range []*Sender{noSender, {}, closedSender, heldSender} {
		what := fmt.Sprint("sender ", i)
		refused(what, s.Seal, plain([]byte("x")))
		refused(what, NewProxy(receiver, s).Forward, whole(sealedPacket))
		wantError(t, second(s.SealUDP(udp, make([]Packet, 1))), status.ErrArgument)
		if s.HeaderLen() != 0 || s.NextTSC() != 0 || s.Stats().Packets == nil {
			t.Errorf("%s is of use", what)
		}
	}
	for i, r := range []*Receiver{noReceiver, {}, closedReceiver, heldReceiver} {
		what := fmt.Sprint("receiver ", i)
		refused(what, r.Open, whole(sealedPacket))
		refused(what, NewProxy(r, sender).Forward, whole(sealedPacket))
		wantError(t, second(r.OpenUDP(udp, make([]Packet, 1))), status.ErrArgument)
		if r.ReplayStats() != (ReplayStats{}) || r.Stats().Packets == nil {
			t.Errorf("%s is of use", what)
		}
	}
	refused("no proxy", noProxy.Forward, whole(sealedPacket))
	refused("a proxy of nothing", (&Proxy{}).Forward, whole(sealedPacket))
	wantError(t, second(sender.SealUDP(nil, make([]Packet, 1))), status.ErrArgument)
	wantError(t, second(receiver.OpenUDP(nil, make([]Packet, 1))), status.ErrArgument)
	wantOpen(t, receiver, whole(sealedPacket), []byte("x"))
}

func second[T any](_ T, err error) error { return err }
