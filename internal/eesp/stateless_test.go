package eesp

import (
	"bytes"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"strings"
	"testing"
	"time"

	"libeesp/internal/keys"
	"libeesp/internal/status"
)

var (
	allV    = []uint8{VID, VIDSrc, VIDSrcDst, VLongID, VLongIDSrc, VLongIDSrcDst}
	v4, v4b = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.7")
	v6, v6b = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
)

func wantErr(t testing.TB, err error, want status.Code) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
	if strings.Contains(err.Error(), "%!") {
		t.Fatalf("badly formatted: %v", err)
	}
}

// Packets go from one group to another with the same keys, with every V, cipher, combiner, set of
// levels and offset, in place and to a destination.
func TestRoundTrip(t *testing.T) {
	offsets := [][2]uint8{{0, 0}, {1, 0}, {1, 1}, {3, 2}, {16, 15}, {25, 0}}
	for _, c := range []GroupConfig{{AEAD: AES128GCM}, {AEAD: AES256GCM}, {AEAD: AES128GCM, Combiner: CombinerXOR}, {AEAD: AES256GCM, Combiner: CombinerXOR}} {
		near, far := newGroup(t, "a", c, Zone, User, Task), newGroup(t, "a", c, Zone, User, Task)
		r := newReceiver(t, ReceiverConfig{}, far)
		for _, v := range allV {
			for levels := Levels(1); levels < 8; levels++ {
				for _, options := range []bool{true, false} {
					if !options && levels != Set(Zone, User, Task) {
						continue
					}
					s := newSender(t, near, SenderConfig{V: v, Levels: levels, Options: options})
					var in, out []Packet
					for i, o := range offsets {
						p := plain(stream("payload", 100+i))
						p.COffset, p.IOffset = o[0], o[1]
						p.SrcIP, p.DstIP = []netip.Addr{v4, v6}[i%2], []netip.Addr{v6b, v4b}[i%2]
						if i%3 == 1 {
							p.Dst = make([]byte, len(p.Buf))
						}
						in = append(in, p)
					}
					if n := s.Seal(in); n != len(in) {
						t.Fatalf("sealed %d", n)
					}
					for i, p := range in {
						want := stream("payload", 100+i)
						if len(p.Out) != s.HeaderLen()+len(want)+ICVLen {
							t.Fatalf("%d octets out", len(p.Out))
						}
						clear := 4 * int(p.COffset)
						body := p.Out[s.HeaderLen():]
						if !bytes.Equal(body[:clear], want[:clear]) || bytes.Contains(body, want[clear:]) {
							t.Fatal("COffset does not divide clear from encrypted octets")
						}
						q := whole(p.Out)
						q.SrcIP, q.DstIP = p.SrcIP, p.DstIP
						if i%3 == 2 {
							q.Dst = make([]byte, len(want)+1)
						}
						out = append(out, q)
					}
					if n := r.Open(out); n != len(out) {
						t.Fatalf("V %#x levels %d options %v: opened %d", v, levels, options, n)
					}
					for i, q := range out {
						if !bytes.Equal(q.Out, stream("payload", 100+i)) || q.COffset != offsets[i][0] || q.IOffset != offsets[i][1] ||
							q.ID != in[i].ID || q.TSC != in[i].TSC {
							t.Fatalf("packet %d differs: %+v", i, q)
						}
					}
				}
			}
		}
	}
}

// The ICV covers all octets but those of the payload before IOffset.
func TestEveryOctetIsAuthenticated(t *testing.T) {
	g := newGroup(t, "a", GroupConfig{}, Zone)
	r := newReceiver(t, ReceiverConfig{}, g)
	s := newSender(t, g, SenderConfig{V: VIDSrcDst, Options: true})
	p := plain(stream("payload", 61))
	p.COffset, p.IOffset, p.SrcIP, p.DstIP = 5, 2, v4, v6
	b := sealed(t, s, p)
	h := s.HeaderLen()
	for i := range b {
		for _, bit := range []byte{0x01, 0x80} {
			q := whole(b)
			q.Buf[i] ^= bit
			q.SrcIP, q.DstIP = v4, v6
			q = open1(r, q)
			if free := i >= h && i < h+8; free != (q.Status == status.OK) {
				t.Fatalf("octet %d ^ %#x: %v", i, bit, q.Status)
			} else if q.Status == status.ErrAuth && !allZero(q.Buf[h+4*int(q.COffset):len(b)-ICVLen]) {
				t.Fatalf("octet %d: decrypted octets were left after a wrong ICV", i)
			}
		}
	}
	for _, a := range [][2]netip.Addr{{v4b, v6}, {v4, v6b}, {v6, v4}, {}} {
		q := whole(b)
		q.SrcIP, q.DstIP = a[0], a[1]
		wantStatus(t, r, q, status.ErrAuth)
	}
	q := whole(b)
	q.SrcIP, q.DstIP = netip.AddrFrom16(v4.As16()), v6 // the same address, mapped into IPv6
	wantOpen(t, r, q, stream("payload", 61))
}

func TestDERRoundTrip(t *testing.T) {
	type rootKey struct {
		ID    []byte
		Index []*big.Int
		Value [][]byte
	}
	id, _, value := ring("der")
	for _, first := range []int64{0, 1, 127, 128, 255, 1 << 16, 1<<63 - 3} {
		k := rootKey{ID: id}
		for i := range value {
			k.Index, k.Value = append(k.Index, big.NewInt(first+int64(i))), append(k.Value, value[i][:])
		}
		der := must(asn1.Marshal(k))
		g := newGroup(t, "", GroupConfig{})
		if err := g.SetRootKeyDER(Task, der); err != nil {
			t.Fatal(err)
		}
		out := make([]byte, len(der)+3)
		if n := must(g.WriteRootKeyDER(out, Task)); !bytes.Equal(out[:n], der) {
			t.Fatalf("%x, want %x", out[:n], der)
		}
		n, err := g.WriteRootKeyDER(out[:len(der)-1], Task)
		wantErr(t, err, status.ErrRoom)
		if n != len(der) {
			t.Fatalf("says %d octets, needs %d", n, len(der))
		}
	}
	g := newGroup(t, "", GroupConfig{})
	if err := g.GenerateRootKey(Zone, id); err != nil {
		t.Fatal(err)
	}
	i := must(g.RootKeyInfo(Zone))
	if i.Index != [3]uint64{1, 1, 2} || i.HasPrevious || !bytes.Equal(i.ID, id) {
		t.Fatalf("%+v", i)
	}
}

func TestGroupErrors(t *testing.T) {
	_, err := NewGroup(GroupConfig{AEAD: 2})
	wantErr(t, err, status.ErrArgument)
	_, err = NewGroup(GroupConfig{Combiner: 2})
	wantErr(t, err, status.ErrArgument)

	g := newGroup(t, "a", GroupConfig{}, Zone)
	id, index, value := ring("b")
	for _, l := range []Level{-1, 3} {
		wantErr(t, g.SetRootKey(l, id, index, value), status.ErrArgument)
		wantErr(t, g.GenerateRootKey(l, id), status.ErrArgument)
		wantErr(t, g.Rotate(l, 9, nil), status.ErrArgument)
		wantErr(t, g.RemoveRootKey(l), status.ErrArgument)
		_, err = g.RootKeyInfo(l)
		wantErr(t, err, status.ErrArgument)
		_, err = g.WriteRootKeyDER(nil, l)
		wantErr(t, err, status.ErrArgument)
	}
	wantErr(t, g.Rotate(Task, 9, nil), status.ErrNotFound)
	wantErr(t, g.RemoveRootKey(Task), status.ErrNotFound)
	_, err = g.RootKeyInfo(Task)
	wantErr(t, err, status.ErrNotFound)
	_, err = g.WriteRootKeyDER(make([]byte, 300), Task)
	wantErr(t, err, status.ErrNotFound)
	wantErr(t, g.SetDefaultLevels(Set(Zone, Task)), status.ErrNotFound)
	wantErr(t, g.SetDefaultLevels(1<<3), status.ErrArgument)

	wantErr(t, g.SetRootKey(Zone, id[:15], index, value), status.ErrRootKey)
	wantErr(t, g.SetRootKey(Zone, make([]byte, 33), index, value), status.ErrRootKey)
	wantErr(t, g.GenerateRootKey(Zone, nil), status.ErrRootKey)
	for _, x := range [][3]uint64{{1, 2, 1 << 63}, {1, 2, 257}, {3, 2, 3}, {1, 1, 2}, {1, 257, 2}} {
		wantErr(t, g.SetRootKey(Zone, id, x, value), status.ErrRootKey)
	}
	for _, x := range []uint64{2, 3, 2 + 256, 3 + 512, 1 << 63} { // the ring has indices 1, 2 and 3
		wantErr(t, g.Rotate(Zone, x, nil), status.ErrRootKey)
	}
	if i := must(g.RootKeyInfo(Zone)); i.Index != [3]uint64{1, 2, 3} {
		t.Fatalf("a refused change changed the ring: %d", i.Index)
	}
	if err := g.Rotate(Zone, 1+256, nil); err != nil { // after this rotation index 1 is no longer in the ring
		t.Fatal(err)
	}
}

func TestXORRefusal(t *testing.T) {
	c := GroupConfig{Combiner: CombinerXOR}
	g := newGroup(t, "a", c, Zone)
	zone := generation(levelSeed("a", Zone), 2)
	next := generation(levelSeed("a", Zone), 3)
	id, index, value := ring("b")

	same := *value
	same[1] = zone
	wantErr(t, g.SetRootKey(User, id, index, &same), status.ErrRootKey)
	zero := *value
	zero[1] = [RootKeyLen]byte{}
	wantErr(t, g.SetRootKey(User, id, index, &zero), status.ErrRootKey)
	_, err := g.RootKeyInfo(User)
	wantErr(t, err, status.ErrNotFound)

	// Values that would cancel each other only in a mixture of generations: the group works,
	// and only packets that name this mixture have no key.
	mixed := *value
	mixed[1] = next
	if err := g.SetRootKey(User, id, index, &mixed); err != nil {
		t.Fatal(err)
	}
	if g.g.Snapshot().Master(keys.Select(keys.Next, keys.Current, 0)) != nil {
		t.Fatal("a master key of values that cancel")
	}
	// A rotation that would make both the current ones is refused, and nothing changes.
	wantErr(t, g.Rotate(Zone, 9, nil), status.ErrRootKey)
	if i := must(g.RootKeyInfo(Zone)); i.Index != [3]uint64{1, 2, 3} {
		t.Fatal(i.Index)
	}
	s := newSender(t, g, SenderConfig{Options: true})
	wantOpen(t, newReceiver(t, ReceiverConfig{}, g), whole(sealed(t, s, plain([]byte("x")))), []byte("x"))

	// The HKDF combiner allows equal values.
	h := newGroup(t, "a", GroupConfig{}, Zone)
	if err := h.SetRootKey(User, id, index, &same); err != nil {
		t.Fatal(err)
	}
}

func TestRotation(t *testing.T) {
	text := []byte("in flight")
	for _, l := range []Level{Zone, User, Task} {
		near := newGroup(t, "a", GroupConfig{}, Zone, User, Task)
		far := newGroup(t, "a", GroupConfig{}, Zone, User, Task)
		s := newSender(t, near, SenderConfig{Options: true})
		r := newReceiver(t, ReceiverConfig{}, far)
		// pkts[i] was sealed when the sender had rotated i times.
		var pkts [][]byte
		for i := range uint64(4) {
			pkts = append(pkts, sealed(t, s, plain(text)))
			rotate(t, near, "a", l, 4+i)
		}
		for rotated := range 4 {
			for i, p := range pkts {
				if i-rotated >= -1 && i-rotated <= 1 { // previous, current or next
					wantOpen(t, r, whole(p), text)
				} else {
					wantStatus(t, r, whole(p), status.ErrNoKey)
				}
			}
			rotate(t, far, "a", l, uint64(4+rotated))
		}
		if i := must(far.RootKeyInfo(l)); i.Index != [3]uint64{5, 6, 7} || !i.HasPrevious {
			t.Fatalf("%+v", i)
		}
	}
	// Each level rotates by itself, so a packet may mix generations.
	near := newGroup(t, "a", GroupConfig{}, Zone, User, Task)
	far := newGroup(t, "a", GroupConfig{}, Zone, User, Task)
	rotate(t, near, "a", Zone, 4)
	rotate(t, far, "a", Task, 4)
	s := newSender(t, near, SenderConfig{Options: true})
	r := newReceiver(t, ReceiverConfig{}, far)
	wantOpen(t, r, whole(sealed(t, s, plain(text))), text)
	// Next keys made at random differ at both ends.
	for _, g := range []*Group{near, far} {
		if err := g.Rotate(User, 4, nil); err != nil {
			t.Fatal(err)
		}
	}
	wantOpen(t, r, whole(sealed(t, s, plain(text))), text) // with the next key of before
	for _, g := range []*Group{near, far} {
		if err := g.Rotate(User, 5, nil); err != nil {
			t.Fatal(err)
		}
	}
	wantStatus(t, r, whole(sealed(t, s, plain(text))), status.ErrAuth)
}

func TestNoPreviousKey(t *testing.T) {
	id, _, value := ring("a")
	value[0] = value[1]
	near, far := newGroup(t, "", GroupConfig{}), newGroup(t, "", GroupConfig{})
	for _, g := range []*Group{near, far} {
		if err := g.SetRootKey(Zone, id, [3]uint64{2, 2, 3}, value); err != nil {
			t.Fatal(err)
		}
	}
	s := newSender(t, near, SenderConfig{Options: true})
	r := newReceiver(t, ReceiverConfig{TryPrevious: true}, far)
	p := sealed(t, s, plain([]byte("x")))
	wantOpen(t, r, whole(p), []byte("x"))
	if err := far.Rotate(Zone, 4, nil); err != nil {
		t.Fatal(err)
	}
	if i := must(far.RootKeyInfo(Zone)); !i.HasPrevious || i.Index != [3]uint64{2, 3, 4} {
		t.Fatalf("%+v", i)
	}
	wantOpen(t, r, whole(p), []byte("x"))
}

func TestWithoutOptions(t *testing.T) {
	text := stream("payload", 50)
	near, far := newGroup(t, "a", GroupConfig{}, Zone, User), newGroup(t, "a", GroupConfig{}, Zone, User)
	s := newSender(t, near, SenderConfig{})
	strict, lenient := newReceiver(t, ReceiverConfig{}, far), newReceiver(t, ReceiverConfig{TryPrevious: true}, far)
	seal := func() []byte {
		p := plain(text)
		p.COffset, p.IOffset = 3, 1
		return sealed(t, s, p)
	}
	old := seal()
	rotate(t, near, "a", User, 4)
	ahead := seal()

	wantOpen(t, strict, whole(old), text)
	wantStatus(t, strict, whole(ahead), status.ErrAuth) // sealed with the next key, which no option names
	wantStatus(t, lenient, whole(ahead), status.ErrAuth)
	rotate(t, far, "a", User, 4)
	wantStatus(t, strict, whole(old), status.ErrAuth)
	wantOpen(t, strict, whole(ahead), text)
	// Only the previous keys of all levels together are tried, which old was not sealed with.
	wantStatus(t, lenient, whole(old), status.ErrAuth)
	for _, g := range []*Group{near, far} {
		if err := g.SetDefaultLevels(Set(User)); err != nil {
			t.Fatal(err)
		}
	}
	old = seal()
	for _, g := range []*Group{far, near} {
		rotate(t, g, "a", User, 5)
	}
	wantStatus(t, strict, whole(old), status.ErrAuth)

	// A burst of packets of both generations and forged ones, some opened to a destination.
	var pkts []Packet
	for i := range 40 {
		b := [][]byte{old, seal(), stream("forged", len(old))}[i%3]
		q := whole(b)
		if i%3 == 2 {
			copy(q.Buf, old[:16])
		}
		if i%2 == 0 {
			q.Dst = make([]byte, len(text))
		}
		pkts = append(pkts, q)
	}
	if n := lenient.Open(pkts); n != 27 {
		t.Fatalf("opened %d", n)
	}
	for i, q := range pkts {
		if want := i%3 != 2; want != (q.Status == status.OK) || want && !bytes.Equal(q.Out, text) || !want && q.Status != status.ErrAuth {
			t.Fatalf("packet %d: %v", i, q.Status)
		}
		b := q.Dst
		if b == nil {
			b = q.Buf[16 : len(q.Buf)-ICVLen]
		}
		if q.Status == status.ErrAuth && !allZero(b[4*int(q.COffset):]) {
			t.Fatalf("packet %d left something: %x", i, b)
		}
	}

	// Without options a sender can have the default levels only.
	other := newSender(t, near, SenderConfig{Levels: Set(Zone)})
	q := []Packet{plain(text)}
	if other.Seal(q); q[0].Status != status.ErrNoKey || other.HeaderLen() != 0 {
		t.Fatal(q[0].Status)
	}
	if err := near.SetDefaultLevels(Set(Zone)); err != nil {
		t.Fatal(err)
	}
	if other.Seal(q) != 1 || other.HeaderLen() != 16 {
		t.Fatal(q[0].Status)
	}
	if err := near.SetDefaultLevels(0); err != nil {
		t.Fatal(err)
	}
	if s.Seal(q); q[0].Status != status.ErrNoKey {
		t.Fatal(q[0].Status)
	}
}

func TestRemove(t *testing.T) {
	text := []byte("x")
	near, far := newGroup(t, "a", GroupConfig{}, Zone, User), newGroup(t, "a", GroupConfig{}, Zone, User)
	s := newSender(t, near, SenderConfig{Options: true})
	zone := newSender(t, near, SenderConfig{Options: true, Levels: Set(Zone)})
	r := newReceiver(t, ReceiverConfig{}, far)
	both, one := sealed(t, s, plain(text)), sealed(t, zone, plain(text))
	if err := far.RemoveRootKey(User); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, r, whole(both), status.ErrNoKey)
	wantOpen(t, r, whole(one), text)
	if err := far.RemoveRootKey(Zone); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, r, whole(one), status.ErrNoKey)
	for _, l := range []Level{Zone, User} {
		if err := setRing(far, "a", l); err != nil {
			t.Fatal(err)
		}
	}
	wantOpen(t, r, whole(both), text)

	// A sender whose level is gone has no key; one with the default levels goes on.
	if err := near.RemoveRootKey(User); err != nil {
		t.Fatal(err)
	}
	user := newSender(t, near, SenderConfig{Options: true, Levels: Set(User)})
	p := []Packet{plain(text)}
	if user.Seal(p); p[0].Status != status.ErrNoKey {
		t.Fatal(p[0].Status)
	}
	wantOpen(t, r, whole(sealed(t, s, plain(text))), text)
}

func TestGroupOutlivesItsHandle(t *testing.T) {
	g := must(NewGroup(GroupConfig{}))
	if err := setRing(g, "a", Zone); err != nil {
		t.Fatal(err)
	}
	s := newSender(t, g, SenderConfig{Options: true})
	r := newReceiver(t, ReceiverConfig{}, g)
	g.Close()
	wantOpen(t, r, whole(sealed(t, s, plain([]byte("x")))), []byte("x"))

	closed := must(NewGroup(GroupConfig{}))
	closed.Close()
	_, err := NewSender(closed, SenderConfig{ID: freshID()})
	wantErr(t, err, status.ErrArgument)
	_, err = NewReceiver(ReceiverConfig{}, closed)
	wantErr(t, err, status.ErrArgument)
	wantErr(t, setRing(closed, "a", Zone), status.ErrArgument)
}

func TestReceiverOfManyGroups(t *testing.T) {
	var groups []*Group
	for i := range MaxGroups {
		// Groups of both key lengths.
		groups = append(groups, newGroup(t, fmt.Sprint(i), GroupConfig{AEAD: AEAD(i % 2)}, Zone))
	}
	_, err := NewReceiver(ReceiverConfig{})
	wantErr(t, err, status.ErrArgument)
	_, err = NewReceiver(ReceiverConfig{}, append(groups, groups[0])...)
	wantErr(t, err, status.ErrArgument)
	r := newReceiver(t, ReceiverConfig{}, groups...)
	var pkts []Packet
	for i, g := range groups {
		s := newSender(t, g, SenderConfig{Options: true})
		pkts = append(pkts, whole(sealed(t, s, plain(stream(fmt.Sprint(i), i)))))
		bare := newSender(t, g, SenderConfig{})
		pkts = append(pkts, whole(sealed(t, bare, plain(stream(fmt.Sprint(i), i)))))
	}
	if n := r.Open(pkts); n != MaxGroups+1 {
		t.Fatalf("opened %d", n)
	}
	for i, p := range pkts {
		if i%2 == 0 || i == 1 {
			if p.Status != status.OK || !bytes.Equal(p.Out, stream(fmt.Sprint(i/2), i/2)) {
				t.Fatalf("packet %d: %v", i, p.Status)
			}
		} else if p.Status != status.ErrAuth { // without options the first group is asked
			t.Fatalf("packet %d: %v", i, p.Status)
		}
	}

	// The first group with all root keys that the packet names is asked, and no other.
	a, b := newGroup(t, "a", GroupConfig{}, Zone), newGroup(t, "a", GroupConfig{}, Zone, User)
	r = newReceiver(t, ReceiverConfig{}, a, b)
	s := newSender(t, b, SenderConfig{Options: true})
	wantOpen(t, r, whole(sealed(t, s, plain([]byte("x")))), []byte("x"))
	impostor := newGroup(t, "", GroupConfig{})
	id, index, value := ring(levelSeed("a", Zone))
	value[1][0] ^= 1
	if err := impostor.SetRootKey(Zone, id, index, value); err != nil {
		t.Fatal(err)
	}
	p := sealed(t, newSender(t, a, SenderConfig{Options: true}), plain([]byte("x")))
	wantStatus(t, newReceiver(t, ReceiverConfig{}, impostor, a), whole(p), status.ErrAuth)
	wantOpen(t, newReceiver(t, ReceiverConfig{}, a, impostor), whole(p), []byte("x"))
}

func TestReflection(t *testing.T) {
	g := newGroup(t, "a", GroupConfig{}, Zone)
	s := newSender(t, g, SenderConfig{})
	own := s.ID()
	p := sealed(t, s, plain([]byte("x")))
	wantStatus(t, newReceiver(t, ReceiverConfig{OwnIDs: []uint64{1 << 40, own, 0}}, g), whole(p), status.ErrReflected)
	wantOpen(t, newReceiver(t, ReceiverConfig{OwnIDs: []uint64{own + 1, own - 1}}, g), whole(p), []byte("x"))
	k := must(g.ExportDataKey(Context{ID: own}, false))
	r := must(NewReceiverWithKey(k, ReceiverConfig{OwnIDs: []uint64{own}}))
	defer r.Close()
	wantStatus(t, r, whole(p), status.ErrReflected)
}

func TestDataKeyHolders(t *testing.T) {
	text := stream("payload", 70)
	for _, c := range []GroupConfig{{AEAD: AES128GCM}, {AEAD: AES256GCM}} {
		for _, v := range allV {
			for _, options := range []bool{false, true} {
				g := newGroup(t, "a", c, Zone, Task)
				x := Context{ID: freshID(), V: v, Epoch: 9, Addr: Addr{Src: v4.As16(), Dst: v6.As16()}}
				k := must(g.ExportDataKey(x, options))
				hs, hr := must(NewSenderWithKey(k, SenderConfig{Counter: CounterExplicit, Start: 1000})), must(NewReceiverWithKey(k, ReceiverConfig{}))
				gr := newReceiver(t, ReceiverConfig{}, g)
				p := plain(text)
				p.COffset = 2
				b := sealed(t, hs, p)
				from := func(src, dst netip.Addr) Packet {
					q := whole(b)
					q.SrcIP, q.DstIP = src, dst
					return q
				}
				wantOpen(t, gr, from(v4, v6), text)
				wantOpen(t, hr, from(v4, v6), text)
				// The holder has one key for all addresses, so it must compare them.
				for i, q := range []Packet{from(v4b, v6), from(v4, v6b)} {
					if used := int(v &^ VLongID); used > i {
						wantStatus(t, hr, q, status.ErrContext)
					} else {
						wantOpen(t, hr, q, text)
					}
				}

				// The group's packets open at the holder, those of another context do not. While
				// the holder has a sender, the group may have none, which would repeat nonces.
				if _, err := NewSender(g, SenderConfig{ID: x.ID, V: v, Counter: CounterExplicit, FixedEpoch: true, Epoch: 9, Start: 2000}); !errors.Is(err, status.ErrExists) {
					t.Fatalf("a second sender of the ID: %v", err)
				}
				hs.Close()
				for _, o := range []struct {
					what string
					want status.Code
					c    SenderConfig
				}{
					{"its own", status.OK, SenderConfig{ID: x.ID, V: v, Options: options, FixedEpoch: true, Epoch: 9, Start: 2000}},
					{"options", status.ErrContext, SenderConfig{ID: x.ID, V: v, Options: !options, FixedEpoch: true, Epoch: 9, Start: 3000}},
					{"epoch", status.ErrContext, SenderConfig{ID: x.ID, V: v, Options: options, FixedEpoch: true, Epoch: 10}},
					{"ID", status.ErrContext, SenderConfig{ID: freshID(), V: v, Options: options, FixedEpoch: true, Epoch: 9}},
					{"V", status.ErrContext, SenderConfig{ID: x.ID, V: v ^ 8, Options: options, FixedEpoch: true, Epoch: 9}},
				} {
					o.c.Counter = CounterExplicit
					s := must(NewSender(g, o.c))
					p := plain(text)
					p.SrcIP, p.DstIP = v4, v6
					q := whole(sealed(t, s, p))
					q.SrcIP, q.DstIP = v4, v6
					if q = open1(hr, q); q.Status != o.want {
						t.Fatalf("%s: %v, want %v", o.what, q.Status, o.want)
					}
					s.Close()
				}
				bad := from(v4, v6)
				bad.Buf[len(b)-1] ^= 1
				wantStatus(t, hr, bad, status.ErrAuth)
				hr.Close()
			}
		}
	}
}

func TestExportErrors(t *testing.T) {
	g := newGroup(t, "a", GroupConfig{}, Zone)
	for _, x := range []struct {
		c    Context
		want status.Code
	}{
		{Context{V: 3}, status.ErrV}, {Context{V: 16}, status.ErrV}, {Context{V: 0xFF}, status.ErrV},
		{Context{ID: 1 << 32}, status.ErrArgument},
		{Context{Generation: 3}, status.ErrArgument},
		{Context{Levels: 8}, status.ErrArgument},
		{Context{Levels: 2}, status.ErrNoKey}, {Context{Levels: 3}, status.ErrNoKey},
	} {
		_, err := g.ExportDataKey(x.c, true)
		wantErr(t, err, x.want)
		out := bytes.Repeat([]byte{1}, 3*g.KeyLen())
		wantErr(t, g.DeriveKeys([]Context{{}, {}, x.c}, out), x.want)
		if !allZero(out) {
			t.Fatal("keys were left in the output after an error")
		}
	}
	wantErr(t, g.DeriveKeys([]Context{{}}, make([]byte, g.KeyLen()+1)), status.ErrArgument)
	wantErr(t, g.DeriveKeys([]Context{{}}, nil), status.ErrArgument)
	if err := g.DeriveKeys(nil, nil); err != nil {
		t.Fatal(err)
	}
	empty := newGroup(t, "", GroupConfig{})
	_, err := empty.ExportDataKey(Context{}, false)
	wantErr(t, err, status.ErrNoKey)
}

// Deriving the keys of many contexts gives the key of each, at every generation and V.
func TestDeriveKeys(t *testing.T) {
	for _, aead := range []AEAD{AES128GCM, AES256GCM} {
		g := newGroup(t, "a", GroupConfig{AEAD: aead}, Zone, User)
		var cs []Context
		for i := range 100 {
			cs = append(cs, Context{ID: uint64(i % 7), V: allV[i%6], Epoch: uint16(i % 3), Levels: uint8(i % 4),
				Generation: uint8(i % 3), Addr: Addr{Src: [16]byte{byte(i)}, Dst: [16]byte{15: byte(i)}}})
		}
		n := g.KeyLen()
		all := make([]byte, len(cs)*n)
		if err := g.DeriveKeys(cs, all); err != nil {
			t.Fatal(err)
		}
		for i, c := range cs {
			k := must(g.ExportDataKey(c, false))
			wantOctets(t, fmt.Sprintf("key %d", i), all[i*n:][:n], k.Key[:k.KeyLen])
		}
	}
	g := newGroup(t, "a", GroupConfig{}, Zone)
	var before [3]*DataKey
	for i := range before {
		before[i] = must(g.ExportDataKey(Context{Generation: uint8(i)}, true))
	}
	rotate(t, g, "a", Zone, 4)
	if after := must(g.ExportDataKey(Context{Generation: uint8(Previous)}, true)); *after != *before[Current] {
		t.Fatal("the previous key is not what was current")
	}
	if after := must(g.ExportDataKey(Context{Generation: uint8(Current)}, true)); *after != *before[Next] {
		t.Fatal("the current key is not what was next")
	}
}

func TestDataKeyRefused(t *testing.T) {
	g := newGroup(t, "a", GroupConfig{}, Zone, User)
	good := *must(g.ExportDataKey(Context{ID: freshID()}, true))
	for name, x := range map[string]struct {
		change func(k *DataKey)
		want   status.Code
	}{
		"V":                  {func(k *DataKey) { k.V = 5 }, status.ErrV},
		"key length":         {func(k *DataKey) { k.KeyLen = 24 }, status.ErrArgument},
		"no key":             {func(k *DataKey) { *k = DataKey{} }, status.ErrArgument},
		"ID":                 {func(k *DataKey) { k.ID = 1 << 32 }, status.ErrArgument},
		"options length":     {func(k *DataKey) { k.OptionsLen = uint8(len(k.Options)) + 1 }, status.ErrArgument},
		"options cut":        {func(k *DataKey) { k.OptionsLen-- }, status.ErrOption},
		"options padded":     {func(k *DataKey) { k.OptionsLen += 2 }, status.ErrOption},
		"option type":        {func(k *DataKey) { k.Options[0] = 0xE3 }, status.ErrOption},
		"option twice":       {func(k *DataKey) { k.Options[20] = 0xE0 }, status.ErrOption},
		"option not minimal": {func(k *DataKey) { k.Options[1] = 22 }, status.ErrOption},
	} {
		k := good
		x.change(&k)
		_, err := NewSenderWithKey(&k, SenderConfig{Counter: CounterExplicit})
		if !errors.Is(err, x.want) {
			t.Errorf("%s: sender: %v", name, err)
		}
		_, err = NewReceiverWithKey(&k, ReceiverConfig{})
		if !errors.Is(err, x.want) {
			t.Errorf("%s: receiver: %v", name, err)
		}
	}
	for _, c := range []SenderConfig{{ID: 1}, {V: 1}, {Levels: 1}, {Options: true}, {Epoch: 1}} {
		_, err := NewSenderWithKey(&good, c)
		wantErr(t, err, status.ErrArgument)
	}
}

func TestSenderConfigRefused(t *testing.T) {
	g := newGroup(t, "a", GroupConfig{}, Zone)
	for _, c := range []SenderConfig{
		{V: 3}, {V: 7}, {V: 0xB}, {V: 0x10}, {V: 0x80},
		{ID: 1 << 32}, {ID: 1 << 32, V: VIDSrcDst},
		{Levels: 8},
		{Counter: 3},
		{EngineBits: 17}, {Engine: 1}, {EngineBits: 1, Engine: 2},
		{RateLog2: 9}, {RateLog2: 33}, {RateLog2: 20, Counter: CounterExplicit},
		{Start: 1}, {Start: 1 << 48, Counter: CounterExplicit},
		{StatePath: "x"}, {Counter: CounterReserved}, {ReserveRun: 1},
		{Epoch: 1}, {EpochStart: time.Unix(1, 0)}, {FixedEpoch: true},
	} {
		_, err := NewSender(g, c)
		if !errors.Is(err, status.ErrArgument) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	c := SenderConfig{FixedEpoch: true, EpochStart: time.Now().Add(time.Hour), ID: freshID()}
	_, err := NewSender(g, c)
	wantErr(t, err, status.ErrClock)
}

// epochStart returns when the last epoch of this number began.
func TestEpochStart(t *testing.T) {
	at := func(e int64) time.Time { return time.Unix(e<<20, 0) }
	for _, x := range []struct {
		epoch uint16
		now   time.Time
		want  time.Time
	}{
		{0, at(0), at(0)},
		{0x612, at(0x612), at(0x612)},
		{0x612, at(0x613).Add(-1), at(0x612)},
		{0x611, at(0x612), at(0x611)},
		{3, at(0x10003), at(0x10003)},
		{3, at(0x10002), at(3)},
		{0xFFFF, at(0x10002), at(0xFFFF)},
	} {
		if got := epochStart(x.epoch, x.now); !got.Equal(x.want) {
			t.Errorf("epoch %d at %v: %v, want %v", x.epoch, x.now, got, x.want)
		}
	}
	g := newGroup(t, "a", GroupConfig{}, Zone)
	now := uint16(time.Now().Unix() >> 20)
	k := must(g.ExportDataKey(Context{ID: freshID(), Epoch: now}, false))
	s := must(NewSenderWithKey(k, SenderConfig{}))
	defer s.Close()
	wantOpen(t, newReceiver(t, ReceiverConfig{}, g), whole(sealed(t, s, plain([]byte("x")))), []byte("x"))
	if s.NextTSC()>>48 != uint64(now) {
		t.Fatalf("TSC %#x", s.NextTSC())
	}
}

func TestStats(t *testing.T) {
	g := newGroup(t, "a", GroupConfig{}, Zone)
	s, r := newSender(t, g, SenderConfig{Start: 1<<48 - 10}), newReceiver(t, ReceiverConfig{}, g)
	pkts := make([]Packet, 12)
	for i := range pkts {
		pkts[i] = plain(make([]byte, 10))
	}
	pkts[3].COffset = 9
	if n := s.Seal(pkts); n != 9 {
		t.Fatal(n)
	}
	st := s.Stats()
	if st.Octets != 9*42 || len(st.Packets) != 3 || st.Packets[status.OK] != 9 || st.Packets[status.ErrOffset] != 1 || st.Packets[status.ErrExhausted] != 2 {
		t.Fatalf("%+v", st)
	}
	for i := range pkts[:9] {
		pkts[i] = Packet{Buf: pkts[i].Out, Len: len(pkts[i].Out)}
	}
	pkts[0].Buf[30] ^= 1
	pkts[1].Len = 20
	r.Open(pkts[:3])
	r.Open(nil)
	if st = r.Stats(); st.Octets != 10 || len(st.Packets) != 3 || st.Packets[status.ErrAuth] != 1 || st.Packets[status.ErrShort] != 1 {
		t.Fatalf("%+v", st)
	}
}

// No verb prints a root key's value.
func TestRootKeysAreNotPrinted(t *testing.T) {
	id, index, value := ring("a")
	k := must(keys.NewRootKey(id, index, value))
	defer k.Free()
	for _, f := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
		if got := fmt.Sprintf(f, k); got != k.String() {
			t.Fatalf("%s: %s", f, got)
		}
	}
}

// With a V that needs addresses, a packet without them is refused, not taken for zeros.
func TestMissingAddresses(t *testing.T) {
	g, far := newGroup(t, "a", GroupConfig{}, Zone), newGroup(t, "b", GroupConfig{}, Zone)
	receiver := newReceiver(t, ReceiverConfig{}, g)
	from := newSender(t, g, SenderConfig{})
	none := netip.Addr{}
	for v, needs := range map[uint8]int{VID: 0, VLongID: 0, VIDSrc: 1, VLongIDSrc: 1, VIDSrcDst: 2, VLongIDSrcDst: 2} {
		s, x := newSender(t, g, SenderConfig{V: v}), NewProxy(receiver, newSender(t, far, SenderConfig{V: v}))
		for _, ends := range [][2]netip.Addr{{none, none}, {v4, none}, {none, v4}, {v4, v6}} {
			good := needs == 0 || ends[0].IsValid() && (needs == 1 || ends[1].IsValid())
			want := status.OK
			if !good {
				want = status.ErrArgument
			}
			next := s.NextTSC()
			// The packet after it is sealed.
			pkts := []Packet{plain([]byte("x")), plain([]byte("y"))}
			pkts[0].SrcIP, pkts[0].DstIP, pkts[1].SrcIP, pkts[1].DstIP = ends[0], ends[1], v6, v4
			s.Seal(pkts)
			if pkts[0].Status != want || pkts[1].Status != status.OK || pkts[1].TSC > next+1 {
				t.Errorf("V %d, %v: %v, %v", v, ends, pkts[0].Status, pkts[1].Status)
			}
			// A proxy with addresses for both halves, or with others for sealing.
			in := sealed(t, from, plain([]byte("x")))
			pkts = []Packet{whole(in), whole(in)}
			pkts[0].Dst, pkts[0].SrcIP, pkts[0].DstIP = make([]byte, 200), ends[0], ends[1]
			pkts[1].Dst, pkts[1].SrcIP, pkts[1].DstIP = make([]byte, 200), v6, v6
			pkts[1].OutSrc, pkts[1].OutDst = ends[0], ends[1]
			x.Forward(pkts)
			own := want
			if ends == [2]netip.Addr{none, none} {
				own = status.OK // SrcIP and DstIP are taken
			}
			if pkts[0].Status != want || pkts[1].Status != own {
				t.Errorf("proxy, V %d, %v: %v, %v", v, ends, pkts[0].Status, pkts[1].Status)
			}
		}
	}
}
