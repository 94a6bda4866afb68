package eesp

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"testing"
	"unsafe"

	"libeesp/internal/generic"
	"libeesp/internal/kernel"
	"libeesp/internal/keys"
	"libeesp/internal/profile"
	"libeesp/internal/secmem"
	"libeesp/internal/status"
	"libeesp/internal/testrun"
	"libeesp/internal/wire"
)

// The vectors of testdata/vectors; testdata/reference/README.md describes them.
type vectors struct {
	Seal             []sealVector
	Accepted         []openVector
	Refused          []openVector
	RootKeysAccepted []rootKeyVector `json:"root_keys_accepted"`
	RootKeysRefused  []rootKeyVector `json:"root_keys_refused"`
	XORRefused       []xorVector     `json:"xor_refused"`
	Derive           []deriveVector
}

type octets []byte

func (o *octets) UnmarshalJSON(b []byte) (err error) {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	*o, err = hex.DecodeString(s)
	return err
}

func (o octets) addr() netip.Addr { a, _ := netip.AddrFromSlice(o); return a }

func (o octets) id() (id uint64) {
	for _, b := range o {
		id = id<<8 | uint64(b)
	}
	return id
}

type levelName string

func (l levelName) level() Level {
	return map[levelName]Level{"zone": Zone, "user": User, "task": Task}[l]
}

func levelSet(names []levelName) (s Levels) {
	for _, n := range names {
		s |= Set(n.level())
	}
	return s
}

type vectorGroup struct {
	AEAD, Combiner string
	Levels         []struct {
		Level levelName
		DER   octets
	}
	DefaultLevels []levelName `json:"default_levels"`
}

func (v *vectorGroup) make(t *testing.T) (*Group, error) {
	c := GroupConfig{
		AEAD:     map[string]AEAD{"aes-128-gcm": AES128GCM, "aes-256-gcm": AES256GCM}[v.AEAD],
		Combiner: map[string]Combiner{"hkdf": CombinerHKDF, "xor": CombinerXOR}[v.Combiner],
	}
	g := newGroup(t, "", c)
	for _, l := range v.Levels {
		if err := g.SetRootKeyDER(l.Level.level(), l.DER); err != nil {
			return g, err
		}
	}
	return g, g.SetDefaultLevels(levelSet(v.DefaultLevels))
}

type sealVector struct {
	Name             string
	Group            vectorGroup
	SenderGroup      *vectorGroup `json:"sender_group"`
	V                uint8
	ID               octets
	Epoch            uint16
	Counter          uint64
	SrcIP            octets `json:"src_ip"`
	DstIP            octets `json:"dst_ip"`
	Options          []levelName
	KeyGeneration    map[levelName]string `json:"key_generation"`
	COffset, IOffset uint8
	PayloadLen       int `json:"payload_len"`
	Payload          octets
	PayloadSeed      octets   `json:"payload_seed"`
	HeaderLen        int      `json:"header_len"`
	MasterKey        octets   `json:"master_key"`
	KDFInputs        []octets `json:"kdf_inputs"`
	DataKey          octets   `json:"data_key"`
	Nonce            octets
	Packet           octets
}

type openVector struct {
	Name, Reason, Decision string
	Group                  vectorGroup
	SrcIP                  octets   `json:"src_ip"`
	DstIP                  octets   `json:"dst_ip"`
	OwnIDs                 []octets `json:"own_ids"`
	Packet, Payload        octets
}

type rootKeyVector struct {
	Name, Decision string
	DER            octets
	RootKeyID      octets `json:"root_key_id"`
	Indices        []uint64
	Values         []octets
}

type xorVector struct {
	Name   string
	Group  vectorGroup
	Levels []levelName
}

type deriveVector struct {
	Name      string
	MasterKey octets `json:"master_key"`
	KeyBits   uint16 `json:"key_bits"`
	V         uint8
	ID        octets
	Epoch     uint16
	SrcIP     octets   `json:"src_ip"`
	DstIP     octets   `json:"dst_ip"`
	KDFInputs []octets `json:"kdf_inputs"`
	DataKey   octets   `json:"data_key"`
}

func load(t *testing.T) *vectors {
	t.Helper()
	v := new(vectors)
	if err := json.Unmarshal(must(os.ReadFile("../../testdata/vectors/stateless.json")), v); err != nil {
		t.Fatal(err)
	}
	return v
}

// enough fails the test where less ran than the file is known to hold.
func enough(t *testing.T, n, least int) {
	t.Helper()
	if n < least {
		t.Fatalf("%d vectors, want at least %d", n, least)
	}
}

// skipped leaves three vectors of four out of a short test, others with each
// backend; of 16, 15 where races are looked for.
func skipped(i int) bool {
	n := 4
	if testrun.Race {
		n = 16
	}
	return testing.Short() && (i+len(must(Backend())))%n != 0
}

func wantOctets(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Fatalf("%s: %x, want %x", what, got, want)
	}
}

// vectorPayload is what a vector names: octets, or n of a seed's stream.
func vectorPayload(t *testing.T, p, seed octets, n int) []byte {
	t.Helper()
	if len(seed) != 0 {
		p = stream(string(seed), n)
	}
	if len(p) != n {
		t.Fatalf("payload has %d octets, not %d", len(p), n)
	}
	return p
}

func (v *sealVector) payload(t *testing.T) []byte {
	return vectorPayload(t, v.Payload, v.PayloadSeed, v.PayloadLen)
}

func (v *sealVector) context() Context {
	return Context{ID: v.ID.id(), Epoch: v.Epoch, V: v.V, Levels: uint8(levelSet(v.Options)),
		Addr: Addr{Src: as16(v.SrcIP.addr()), Dst: as16(v.DstIP.addr())}}
}

func (v *sealVector) plain(t *testing.T) Packet {
	p := plain(v.payload(t))
	p.COffset, p.IOffset = v.COffset, v.IOffset
	p.SrcIP, p.DstIP = v.SrcIP.addr(), v.DstIP.addr()
	return p
}

func TestVectorsSeal(t *testing.T) {
	vs := load(t).Seal
	enough(t, len(vs), 378)
	for i := range vs {
		t.Run(vs[i].Name, func(t *testing.T) { vs[i].run(t) })
	}
}

func (v *sealVector) run(t *testing.T) {
	group := must(v.Group.make(t))
	from := group
	if v.SenderGroup != nil {
		from = must(v.SenderGroup.make(t))
	}
	v.checkKeys(t, group)

	key := must(from.ExportDataKey(v.context(), len(v.Options) != 0))
	wantOctets(t, "exported data key", key.Key[:key.KeyLen], v.DataKey)
	derived := make([]byte, from.KeyLen())
	if err := from.DeriveKeys([]Context{v.context()}, derived); err != nil {
		t.Fatal(err)
	}
	wantOctets(t, "derived data key", derived, v.DataKey)

	// Not both at a time: one ID's counters have one owner.
	ofGroup := func() *Sender {
		return must(NewSender(from, SenderConfig{ID: v.ID.id(), V: v.V, Levels: levelSet(v.Options), Options: len(v.Options) != 0}))
	}
	holder := func() *Sender {
		return must(NewSenderWithKey(key, SenderConfig{Counter: CounterExplicit, Start: 1<<48 - 1}))
	}
	for _, newSender := range []func() *Sender{ofGroup, holder} {
		s := newSender()
		defer s.Close()
		ownCounters(s, v.Epoch, v.Counter)
		if n := s.HeaderLen(); n != v.HeaderLen {
			t.Fatalf("header length %d, want %d", n, v.HeaderLen)
		}
		wantOctets(t, "packet", sealed(t, s, v.plain(t)), v.Packet)
		if v.Counter == 1<<48-1 { // which was the last one
			p := []Packet{v.plain(t)}
			if s.Seal(p); p[0].Status != status.ErrExhausted {
				t.Fatalf("seal: %v", p[0].Status)
			}
		}
		ownCounters(s, v.Epoch, v.Counter)
		elsewhere := v.plain(t)
		elsewhere.Dst = make([]byte, len(v.Packet))
		wantOctets(t, "packet elsewhere", sealed(t, s, elsewhere), v.Packet)
	}

	receivers := []*Receiver{must(NewReceiver(ReceiverConfig{}, group)), must(NewReceiverWithKey(key, ReceiverConfig{}))}
	for i, r := range receivers {
		defer r.Close()
		if i == 1 && v.SenderGroup != nil && len(v.Options) == 0 {
			t.Fatal("a vector without options cannot be of another generation")
		}
		pkts := make([]Packet, 3)
		for j := range pkts {
			pkts[j] = whole(v.Packet)
			pkts[j].SrcIP, pkts[j].DstIP = v.SrcIP.addr(), v.DstIP.addr()
		}
		pkts[0].Buf[len(v.Packet)-1] ^= 1
		pkts[2].Dst = make([]byte, v.PayloadLen)
		if n := r.Open(pkts); n != 2 || pkts[0].Status != status.ErrAuth {
			t.Fatalf("open: %d good, %v %v %v", n, pkts[0].Status, pkts[1].Status, pkts[2].Status)
		}
		for _, p := range pkts[1:] {
			wantOctets(t, "payload", p.Out, v.payload(t))
			if p.COffset != v.COffset || p.IOffset != v.IOffset || p.ID != v.ID.id() || p.TSC != uint64(v.Epoch)<<48|v.Counter {
				t.Fatalf("COffset %d IOffset %d ID %#x TSC %#x", p.COffset, p.IOffset, p.ID, p.TSC)
			}
		}
	}
}

// checkKeys compares what lies between root keys and cipher.
func (v *sealVector) checkKeys(t *testing.T, g *Group) {
	var gen [3]int
	for l, name := range v.KeyGeneration {
		gen[l.level()] = map[string]int{"pre": keys.Pre, "current": keys.Current, "next": keys.Next}[name]
	}
	m := g.g.Snapshot().Master(keys.Select(gen[0], gen[1], gen[2]))
	if m == nil {
		t.Fatal("no master key")
	}
	wantOctets(t, "master key", append(m.RK[0][:], m.RK[1][:]...), v.MasterKey)
	c := v.context()
	checkInputs(t, &c, uint16(g.KeyLen()*8), v.KDFInputs)
	var nonce [12]byte
	wire.StatelessNonce(&nonce, v.V, v.ID.id(), uint64(v.Epoch)<<48|v.Counter)
	wantOctets(t, "nonce", nonce[:], v.Nonce)
}

// checkInputs compares KDF inputs and returns the length of one in blocks.
func checkInputs(t *testing.T, c *Context, bits uint16, want []octets) int {
	t.Helper()
	var m [profile.MaxBlocks * 16]byte
	n := int(profile.StatelessMsg(&m, c.V, c.ID, c.Epoch, &c.Addr, bits))
	if len(want) != int(bits/128) {
		t.Fatalf("%d KDF inputs", len(want))
	}
	for i, w := range want {
		m[profile.CounterAt] = byte(i + 1)
		wantOctets(t, "KDF input", m[:n*16], w)
	}
	return n
}

func (v *openVector) receiver(t *testing.T, g *Group) *Receiver {
	var c ReceiverConfig
	for _, id := range v.OwnIDs {
		c.OwnIDs = append(c.OwnIDs, id.id())
	}
	return newReceiver(t, c, g)
}

func (v *openVector) packet() Packet {
	p := whole(v.Packet)
	p.SrcIP, p.DstIP = v.SrcIP.addr(), v.DstIP.addr()
	return p
}

func TestVectorsAccepted(t *testing.T) {
	vs := load(t).Accepted
	enough(t, len(vs), 24)
	for i := range vs {
		v := &vs[i]
		t.Run(v.Name, func(t *testing.T) {
			r := v.receiver(t, must(v.Group.make(t)))
			if v.Decision == "own_id_length" {
				// Own IDs are numbers here: one of either length is refused.
				wantStatus(t, r, v.packet(), status.ErrReflected)
				return
			}
			wantOpen(t, r, v.packet(), v.Payload)
		})
	}
}

var reasons = map[string]status.Code{
	"version": status.ErrVersion, "v": status.ErrV, "reserved": status.ErrReserved, "header_len": status.ErrHeaderLen, "short": status.ErrShort,
	"option": status.ErrOption, "offset": status.ErrOffset, "no_key": status.ErrNoKey, "reflected": status.ErrReflected, "auth": status.ErrAuth,
}

func TestVectorsRefused(t *testing.T) {
	vs := load(t).Refused
	enough(t, len(vs), 1049)
	seen := map[string]int{}
	for i := range vs {
		v := &vs[i]
		seen[v.Reason]++
		t.Run(v.Name, func(t *testing.T) {
			g, err := v.Group.make(t)
			if v.Decision == "uncombinable" {
				// Such root keys do not get into a group in the first place.
				if !errors.Is(err, status.ErrRootKey) {
					t.Fatal(err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			p := v.packet()
			wantStatus(t, v.receiver(t, g), p, reasons[v.Reason])
			if v.Reason != "auth" {
				wantOctets(t, "buffer of a packet that was not decrypted", p.Buf, v.Packet)
			}
		})
	}
	for reason := range reasons {
		if seen[reason] == 0 {
			t.Errorf("no vector with reason %s", reason)
		}
	}
}

func TestVectorsRootKeys(t *testing.T) {
	all := load(t)
	enough(t, len(all.RootKeysAccepted), 40)
	enough(t, len(all.RootKeysRefused), 213)
	for _, v := range all.RootKeysAccepted {
		t.Run("accepted/"+v.Name, func(t *testing.T) {
			g := newGroup(t, "", GroupConfig{})
			if err := g.SetRootKeyDER(User, v.DER); err != nil {
				t.Fatal(err)
			}
			i := must(g.RootKeyInfo(User))
			wantOctets(t, "ID", i.ID, v.RootKeyID)
			var value [3][RootKeyLen]byte
			for j := range value {
				if i.Index[j] != v.Indices[j] {
					t.Fatalf("indices %d, want %d", i.Index, v.Indices)
				}
				copy(value[j][:], v.Values[j])
			}
			if hasPre := v.Indices[0] != v.Indices[1]; i.HasPrevious != hasPre {
				t.Fatalf("HasPrevious %v", i.HasPrevious)
			}
			der := make([]byte, len(v.DER))
			n := must(g.WriteRootKeyDER(der, User))
			wantOctets(t, "DER", der[:n], v.DER)

			// The same ring from its parts has the same form.
			if err := g.SetRootKey(User, v.RootKeyID, [3]uint64(v.Indices), &value); err != nil {
				t.Fatal(err)
			}
			n = must(g.WriteRootKeyDER(der, User))
			wantOctets(t, "DER of the parts", der[:n], v.DER)
		})
	}
	for _, v := range all.RootKeysRefused {
		t.Run("refused/"+v.Name, func(t *testing.T) {
			g := newGroup(t, "keep", GroupConfig{}, User)
			before := must(g.RootKeyInfo(User))
			if err := g.SetRootKeyDER(User, v.DER); !errors.Is(err, status.ErrRootKey) {
				t.Fatalf("%x: %v", v.DER, err)
			}
			if after := must(g.RootKeyInfo(User)); !bytes.Equal(after.ID, before.ID) || after.Index != before.Index {
				t.Fatal("a refused root key replaced the one that was there")
			}
		})
	}
}

func TestVectorsXORRefused(t *testing.T) {
	vs := load(t).XORRefused
	enough(t, len(vs), 11)
	for _, v := range vs {
		t.Run(v.Name, func(t *testing.T) {
			if _, err := v.Group.make(t); !errors.Is(err, status.ErrRootKey) {
				t.Fatal(err)
			}
		})
	}
}

func TestVectorsDerive(t *testing.T) {
	vs := load(t).Derive
	enough(t, len(vs), 84)
	m := must(secmem.New[struct {
		kernel.Master
		scratch [kernel.ScratchBytes]byte
		msgs    [2 * profile.MaxBlocks * 16]byte
		out     [32]byte
	}]())
	defer secmem.Delete(m)
	be := newGroup(t, "", GroupConfig{}).be
	for _, v := range vs {
		t.Run(v.Name, func(t *testing.T) {
			c := Context{ID: v.ID.id(), Epoch: v.Epoch, V: v.V, Addr: Addr{Src: as16(v.SrcIP.addr()), Dst: as16(v.DstIP.addr())}}
			blocks := checkInputs(t, &c, v.KeyBits, v.KDFInputs)
			at := m.msgs[:0]
			for _, in := range v.KDFInputs {
				at = append(at, in...)
			}
			generic.ExpandMaster(&m.Master, (*[32]byte)(v.MasterKey), unsafe.Pointer(&m.scratch))
			be.Derive(unsafe.Pointer(&m.out), unsafe.Pointer(&m.msgs), len(v.KDFInputs), blocks, &m.Master, &m.K1, unsafe.Pointer(&m.scratch))
			wantOctets(t, "data key", m.out[:v.KeyBits/8], v.DataKey)
		})
	}
}
