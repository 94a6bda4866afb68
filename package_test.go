package eesp

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	impl "libeesp/internal/eesp"
)

// The API: the rest is tested where it is implemented, in internal/eesp.

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// rooms are buffers of a burst with payloads of 100 octets.
func rooms(n int) []Packet {
	p := make([]Packet, n)
	for i := range p {
		p[i] = Packet{Buf: make([]byte, MaxHeader+100+ICVLen), Off: MaxHeader, Len: 100}
		copy(p[i].Buf[MaxHeader:], bytes.Repeat([]byte{byte(i + 1)}, 100))
	}
	return p
}

// arrived are sealed packets on the other side.
func arrived(p []Packet) []Packet {
	q := make([]Packet, len(p))
	for i := range p {
		q[i] = Packet{Buf: bytes.Clone(p[i].Out), Len: len(p[i].Out), SrcIP: p[i].SrcIP}
	}
	return q
}

func newPair(t *testing.T, c ReceiverConfig, id uint64) (*Group, *Sender, *Receiver) {
	g := must(NewGroup(GroupConfig{AEAD: AES256GCM}))
	t.Cleanup(g.Close)
	if err := g.GenerateRootKey(Zone, []byte("root key of package_test")); err != nil {
		t.Fatal(err)
	}
	s := must(NewSender(g, SenderConfig{ID: id, Options: true}))
	t.Cleanup(s.Close)
	r := must(NewReceiver(c, g))
	t.Cleanup(r.Close)
	return g, s, r
}

// A burst is sealed, forwarded into another domain, and opened there.
func TestFromEndToEnd(t *testing.T) {
	_, s, r := newPair(t, ReceiverConfig{ReplayWindow: 64}, 71)
	_, s2, r2 := newPair(t, ReceiverConfig{}, 72)
	p := rooms(3)
	if n := s.Seal(p); n != 3 || s.ID() != 71 || len(p[0].Out) != s.HeaderLen()+100+ICVLen {
		t.Fatal(n, s.ID(), p[0].Status, len(p[0].Out))
	}
	if next := s.NextTSC(); next <= p[2].TSC {
		t.Fatalf("the next packet's %#x, after %#x", next, p[2].TSC)
	}
	q := arrived(p)
	q[1].Buf[q[1].Len-1] ^= 1
	again := arrived(p[:1])
	for i := range q {
		q[i].Dst = make([]byte, MaxHeader+100+ICVLen)
	}
	if n := NewProxy(r, s2).Forward(q); n != 2 || q[1].Status != ErrAuth || q[0].ID != 71 {
		t.Fatal(n, q[1].Status, q[0].ID)
	}
	x := arrived([]Packet{q[0], q[2]})
	if n := r2.Open(x); n != 2 || x[0].ID != 72 {
		t.Fatal(n, x[0].Status)
	}
	for i, at := range []int{0, 2} {
		if !bytes.Equal(x[i].Out, bytes.Repeat([]byte{byte(at + 1)}, 100)) {
			t.Fatalf("packet %d opens as %x", at, x[i].Out)
		}
	}
	if r.Open(again); again[0].Status != ErrReplay {
		t.Fatal(again[0].Status)
	}
	if st := r.Stats().Packets; st[OK] != 2 || st[ErrAuth] != 1 || st[ErrReplay] != 1 || len(st) != 3 {
		t.Fatal(st)
	}
	if st := r.ReplayStats(); st.Windows != 1 || st.Duplicates != 1 {
		t.Fatal(st)
	}
}

// Data keys and UDP datagrams.
func TestDataKeyInUDP(t *testing.T) {
	g, _, r := newPair(t, ReceiverConfig{}, 73)
	k := must(g.ExportDataKey(Context{ID: 74}, true))
	out := make([]byte, 32)
	if err := g.DeriveKeys([]Context{{ID: 74, Epoch: k.Epoch}}, out); err != nil || !bytes.Equal(out, k.Key[:]) || g.KeyLen() != 32 {
		t.Fatal(err, out, k.Key)
	}
	s := must(NewSenderWithKey(k, SenderConfig{Counter: CounterExplicit}))
	defer s.Close()
	ip := make([]byte, 40) // of IPv4, and a payload of 20 octets
	copy(ip, []byte{0x45, 0, 0, 40, 0, 0, 0, 0, 64, 17})
	const around = 128 + MaxHeader
	p := []Packet{{Buf: make([]byte, around+len(ip)+ICVLen), Off: around, Len: len(ip)}}
	copy(p[0].Buf[around:], ip)
	u := &UDP{DPort: 4500, Src: netip.MustParseAddr("192.0.2.1"), Dst: netip.MustParseAddr("192.0.2.2")}
	if n, err := s.SealUDP(u, p); n != 1 || err != nil {
		t.Fatal(n, err, p[0].Status)
	}
	q := arrived(p)
	if n, err := r.OpenUDP(u, q); n != 1 || err != nil || !bytes.Equal(q[0].Out, ip) {
		t.Fatal(n, err, q[0].Status, q[0].Out)
	}
}

// A data key comes to another end as octets, those of C's eesp_data_key; then it is wiped.
func TestDataKeyTravels(t *testing.T) {
	g, _, r := newPair(t, ReceiverConfig{}, 77)
	k := must(g.ExportDataKey(Context{ID: 78}, true))
	sent := must(k.MarshalBinary())
	if len(sent) != 192 || !bytes.Equal(sent[80-32:80], k.Key[:]) || sent[0] != 78 || sent[11] != 32 {
		t.Fatalf("%x", sent)
	}
	var came DataKey
	if err := came.UnmarshalBinary(sent); err != nil || came != *k {
		t.Fatal(err, came)
	}
	for _, n := range []int{0, 191, 193} {
		if err := came.UnmarshalBinary(make([]byte, n)); !errors.Is(err, ErrArgument) || came != *k {
			t.Fatal(n, err)
		}
	}
	s := must(NewSenderWithKey(&came, SenderConfig{Counter: CounterExplicit}))
	defer s.Close()
	came.Wipe()
	if came != (DataKey{}) {
		t.Fatal("not wiped")
	}
	if _, err := NewSenderWithKey(&came, SenderConfig{}); !errors.Is(err, ErrArgument) {
		t.Fatal(err)
	}
	p := rooms(3)
	if s.Seal(p) != 3 || r.Open(arrived(p)) != 3 {
		t.Fatal(p[0].Status)
	}
}

func TestDataKeyIsNotPrinted(t *testing.T) {
	k := DataKey{ID: 5, KeyLen: 32, Key: [32]byte{0: 0xAB, 31: 0xCD}, Options: [108]byte{0xEF}}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
		for _, x := range []any{k, &k, []DataKey{k}, struct{ K *DataKey }{&k}} {
			if text := strings.ToLower(fmt.Sprintf(verb, x)); strings.Contains(text, "ab") && !strings.Contains(text, "datakey") ||
				strings.Contains(text, "171") || strings.Contains(text, "205") {
				t.Errorf("%s of %T: %s", verb, x, text)
			}
		}
	}
}

// A set with a level that does not exist is not the default one.
func TestSet(t *testing.T) {
	g, _, _ := newPair(t, ReceiverConfig{}, 79)
	if s := Set(Zone, Task); s != 5 {
		t.Fatal(s)
	}
	for _, l := range []Level{-1, 3, 8, 64} {
		if _, err := NewSender(g, SenderConfig{ID: 80, Levels: Set(l)}); !errors.Is(err, ErrArgument) {
			t.Errorf("level %d: %v", l, err)
		}
		if err := g.SetDefaultLevels(Set(Zone, l)); !errors.Is(err, ErrArgument) {
			t.Errorf("level %d: %v", l, err)
		}
	}
}

// The kernels: what one seals the other opens, with the key that the KDF derives.
func TestKernelsThroughTheAPI(t *testing.T) {
	kdf := must(NewKDF(&[32]byte{1}))
	defer kdf.Close()
	key := make([]byte, 16)
	contexts := []KDFContext{{1: 7}}
	if err := kdf.Derive(AES128GCM, contexts, key); err != nil {
		t.Fatal(err)
	}
	set := must(NewKeySet(AES128GCM, key))
	defer set.Close()
	sealed, tag, opened := make([]byte, 5), make([]byte, ICVLen), make([]byte, 5)
	if err := kdf.Seal(AES128GCM, contexts, []Job{{Src: []byte("hello"), Dst: sealed, Tag: tag}}); err != nil {
		t.Fatal(err)
	}
	jobs := []Job{{Src: sealed, Dst: opened, Tag: tag}}
	if n, err := set.Open(jobs); n != 1 || err != nil || !jobs[0].OK || string(opened) != "hello" {
		t.Fatal(n, err, opened)
	}
}

// Each field of a receiver's configuration arrives.
func TestReceiverConfigIsWhole(t *testing.T) {
	heir := &Receiver{}
	var c ReceiverConfig
	v := reflect.ValueOf(&c).Elem()
	for i := range v.NumField() {
		switch f := v.Field(i); f.Kind() {
		case reflect.Bool:
			f.SetBool(true)
		case reflect.Int64:
			f.SetInt(int64(i) + 1)
		case reflect.Uint8, reflect.Uint32, reflect.Uint64:
			f.SetUint(uint64(i) + 1)
		case reflect.String:
			f.SetString("mark")
		case reflect.Slice:
			f.Set(reflect.ValueOf([]uint64{1}))
		case reflect.Pointer:
			f.Set(reflect.ValueOf(heir))
		default:
			t.Fatal(f.Kind())
		}
	}
	heir.in = new(impl.Receiver)
	w := reflect.ValueOf(c.of())
	if w.NumField() != v.NumField() {
		t.Fatalf("%d fields, %d of the implementation", v.NumField(), w.NumField())
	}
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		a, b := v.Field(i).Interface(), w.FieldByName(name).Interface()
		if name == "Heir" {
			a = heir.in
		}
		if !reflect.DeepEqual(a, b) {
			t.Errorf("%s: %v, and not %v", name, b, a)
		}
	}
}

var objects = []any{(*Group)(nil), (*Sender)(nil), (*Receiver)(nil), (*Proxy)(nil), (*KDF)(nil), (*KeySet)(nil)}

// Objects that nobody made refuse everything, and do not panic.
func TestNilAndZero(t *testing.T) {
	for _, o := range objects {
		for _, v := range []reflect.Value{reflect.ValueOf(o), reflect.New(reflect.TypeOf(o).Elem())} {
			for i := range v.NumMethod() {
				m := v.Type().Method(i)
				args := make([]reflect.Value, v.Method(i).Type().NumIn())
				for n := range args {
					args[n] = reflect.Zero(v.Method(i).Type().In(n))
				}
				call := v.Method(i).Call
				if m.Type.IsVariadic() {
					call = v.Method(i).CallSlice
				}
				for _, r := range call(args) {
					if err, is := r.Interface().(error); is && !errors.Is(err, ErrArgument) && m.Name != "WaitSealing" && m.Name != "FollowInfo" {
						t.Errorf("%s.%s: %v", v.Type(), m.Name, err)
					}
					if r.Type() == reflect.TypeFor[error]() && r.IsNil() {
						t.Errorf("%s.%s: no error", v.Type(), m.Name)
					}
				}
			}
		}
	}
}

// No method takes or returns what belongs to the implementation.
func TestHandsOutNoInternals(t *testing.T) {
	// What the root package has under the same name.
	ours := map[string]bool{"eesp.AEAD": true, "eesp.Level": true, "eesp.Levels": true, "eesp.Generation": true, "status.Code": true}
	var look func(where string, x reflect.Type)
	look = func(where string, x reflect.Type) {
		switch x.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Array:
			if x.Name() == "" {
				look(where, x.Elem())
				return
			}
		case reflect.Func:
			t.Errorf("%s: a function", where)
		}
		if strings.Contains(x.PkgPath(), "/internal/") && !ours[x.String()] {
			t.Errorf("%s: %s", where, x)
		}
	}
	n := 0
	for _, o := range objects {
		x := reflect.TypeOf(o)
		for i := range x.NumMethod() {
			m := x.Method(i)
			for a := 1; a < m.Type.NumIn(); a++ {
				look(x.String()+"."+m.Name, m.Type.In(a))
				n++
			}
			for a := range m.Type.NumOut() {
				look(x.String()+"."+m.Name, m.Type.Out(a))
				n++
			}
		}
		for i := range x.Elem().NumField() {
			if f := x.Elem().Field(i); f.IsExported() {
				t.Errorf("%s has a field %s", x, f.Name)
			}
		}
	}
	if n < 80 {
		t.Fatalf("%d arguments and results", n)
	}
}

// Nothing is allocated for a burst.
func TestNoAllocationThroughTheAPI(t *testing.T) {
	_, s, r := newPair(t, ReceiverConfig{}, 75)
	p := rooms(40)
	n := s.HeaderLen()
	if a := testing.AllocsPerRun(20, func() {
		for i := range p {
			p[i].Off, p[i].Len = MaxHeader, 100
		}
		if s.Seal(p) != len(p) {
			t.Fatal(p[0].Status)
		}
		for i := range p {
			p[i].Off, p[i].Len = MaxHeader-n, n+100+ICVLen
		}
		if r.Open(p) != len(p) {
			t.Fatal(p[0].Status)
		}
	}); a != 0 {
		t.Fatalf("%v allocations", a)
	}
}
