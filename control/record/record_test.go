package record

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"

	"libeesp/internal/testrun"
)

var update = flag.Bool("update", false, "write testdata/vectors.json anew")

func seed(s string) [32]byte { return sha256.Sum256([]byte("eesp test " + s)) }
func id(s string) (i ID)     { h := seed("id " + s); copy(i[:], h[:]); return }
func sigKey(s string) ed25519.PrivateKey {
	h := seed("key " + s)
	return ed25519.NewKeyFromSeed(h[:])
}
func pub32(k ed25519.PrivateKey) (p [32]byte) { copy(p[:], k.Public().(ed25519.PublicKey)); return }
func hpkeKey(s string) hpke.PrivateKey {
	h := seed("hpke " + s)
	k, err := hpke.MLKEM768X25519().DeriveKeyPair(h[:])
	if err != nil {
		panic(err)
	}
	return k
}

var (
	cluster            = id("cluster")
	rootKey, instKey   = sigKey("root"), sigKey("instance")
	memberKey          = sigKey("member")
	instHPKE, sessHPKE = hpkeKey("instance"), hpkeKey("session")
)

// The vectors: one or more records of each type, and what they are made of.
type vectors struct {
	Cluster, RootPublic, MemberPublic string
	InstanceHPKE, SessionHPKE         string // private keys
	KEK                               string // epoch 1, step 0
	KEKSteps                          []string
	Values                            []string
	Chain                             []string // heads, oldest first
	Rings                             []ringVector
	Records                           map[string]string
	InviteText                        string
}

type ringVector struct {
	Record  string
	KEKStep uint32
	Values  []string
}

func samples(t *testing.T) (v vectors, bodies map[string]Body) {
	t.Helper()
	must := func(b []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	kek0, values := KEK(seed("kek")), []Value{seed("value 1"), seed("value 2"), seed("value 3")}
	v = vectors{Cluster: hex.EncodeToString(cluster[:]), RootPublic: hex.EncodeToString(rootKey.Public().(ed25519.PublicKey)),
		MemberPublic: hex.EncodeToString(memberKey.Public().(ed25519.PublicKey)), Records: map[string]string{},
		InstanceHPKE: hex.EncodeToString(must(instHPKE.Bytes())), SessionHPKE: hex.EncodeToString(must(sessHPKE.Bytes())), KEK: hex.EncodeToString(kek0[:])}
	for _, x := range values {
		v.Values = append(v.Values, hex.EncodeToString(x[:]))
	}
	kek := kek0
	for s := uint32(1); s <= 3; s++ {
		kek.Step(cluster, id("ring"), 1, s)
		v.KEKSteps = append(v.KEKSteps, hex.EncodeToString(kek[:]))
	}
	bodies = map[string]Body{}
	signed := func(name string, b Body, k ed25519.PrivateKey) []byte {
		t.Helper()
		d := must(Sign(b, cluster, k))
		v.Records[name], bodies[name] = hex.EncodeToString(d), b
		return d
	}
	plain := func(name string, b Body) {
		t.Helper()
		v.Records[name], bodies[name] = hex.EncodeToString(must(Encode(b))), b
	}
	inst := Instance{ID: id("instance"), Name: "a", Sign: pub32(instKey), HPKE: instHPKE.PublicKey().Bytes(), Roles: RoleRotate | RoleAdmit | RoleAllocate}
	deleg := signed("delegation", &Delegation{Serial: 1, Term: 1, Instances: []Instance{inst}, MinReader: 1}, rootKey)
	member := signed("member", &Member{ID: id("member"), Number: 7, Name: "host-b", SPKI: seed("spki"), State: MemberActive, Rings: []ID{id("ring")}, Granter: true, Since: 2}, instKey)
	roster := HashOf(member)
	digest := HashOf(roster[:])

	// A ring's life: created, prepared, activated, retired.
	type step struct {
		change   Change
		state    State
		gens     []Generation
		values   []Value
		kekStep  uint32
		floor    uint64
		last     uint64
		old, new uint64
	}
	steps := []step{
		{ChangeCreate, Steady, []Generation{{Gen: 1, Role: Current}}, values[:1], 0, 1, 1, 0, 1},
		{ChangePrepare, Prepared, []Generation{{Gen: 1, Role: Current}, {Gen: 2, Role: Next}}, values[:2], 0, 1, 2, 1, 2},
		{ChangeActivate, Active, []Generation{{Gen: 1, Role: Previous}, {Gen: 2, Role: Current}}, values[:2], 0, 1, 2, 1, 2},
		{ChangeRetire, Steady, []Generation{{Gen: 2, Role: Current}}, values[1:2], 1, 2, 2, 1, 2},
	}
	head := func(h Head) Hash {
		t.Helper()
		d := must(Sign(&h, cluster, instKey))
		v.Chain = append(v.Chain, hex.EncodeToString(d))
		v.Records["head"], bodies["head"] = hex.EncodeToString(d), &h
		return HashOf(d)
	}
	prev := head(Head{Term: 1, Serial: 1, Change: ChangeGenesis, Who: "init", Instance: inst.ID, Wall: 1_800_000_000,
		RosterDigest: HashOf(nil), Changed: []Changed{{TypeDelegation, ID{}, HashOf(deleg)}}})
	prev = head(Head{Term: 1, Serial: 2, Prev: prev, Change: ChangeAdmit, Who: "operator", Instance: inst.ID, Wall: 1_800_000_060,
		RosterSerial: 2, RosterDigest: digest, Changed: []Changed{{TypeMember, id("member"), HashOf(member)}}})
	for i, s := range steps {
		k := kek0
		for n := uint32(1); n <= s.kekStep; n++ {
			k.Step(cluster, id("ring"), 1, n)
		}
		r := &Ring{ID: id("ring"), Class: ClassLevel, Term: 1, Serial: uint64(3 + i), Step: uint64(1 + i), State: s.state, KEKEpoch: 1, KEKStep: s.kekStep,
			Gens: s.gens, Floor: s.floor, Last: s.last, Policy: DefaultPolicy, Since: 1_800_000_120, Name: "ring of zone"}
		salt := seed("salt " + s.change.String())
		if err := r.sealWith(&k, s.values, salt[:]); err != nil {
			t.Fatal(err)
		}
		d := signed("ring "+s.change.String(), r, instKey)
		rv := ringVector{Record: hex.EncodeToString(d), KEKStep: s.kekStep}
		for _, x := range s.values {
			rv.Values = append(rv.Values, hex.EncodeToString(x[:]))
		}
		v.Rings = append(v.Rings, rv)
		prev = head(Head{Term: 1, Serial: r.Serial, Prev: prev, Change: s.change, Who: "operator", Instance: inst.ID, Ring: r.ID, Old: s.old, New: s.new, Step: r.Step,
			Wall: 1_800_000_120 + int64(i), RosterSerial: 2, RosterDigest: digest, Changed: []Changed{{TypeRing, r.ID, HashOf(d)}}})
	}

	e := &Escrow{Ring: id("ring"), Epoch: 1}
	if err := e.SealTo(cluster, &kek0, []Instance{inst}); err != nil {
		t.Fatal(err)
	}
	signed("escrow", e, instKey)
	g := &Grant{Ring: id("ring"), Member: id("member"), Session: id("session"), Nonce: id("nonce"), Term: 1, Serial: 6, Head: prev, Instance: inst.ID,
		RingHash: seed("ring hash"), KEKEpoch: 1, KEKStep: 1, RingSerial: 6, Entry: prev}
	if err := g.SealKEK(cluster, sessHPKE.PublicKey().Bytes(), &kek0); err != nil {
		t.Fatal(err)
	}
	signed("grant", g, instKey)
	signed("checkpoint", &Grant{Member: id("member"), Session: id("session"), Nonce: id("nonce"), Term: 1, Serial: 6, Head: prev, Instance: inst.ID}, instKey)
	plain("session", &Session{Member: id("member"), Session: id("session"), Boot: id("boot"), Key: seed("session key"), Blocks: []Block{{KindDevice, 5}, {KindConnection, 6}}, Agent: "1.0", Library: "1.1", Server: inst.ID, Wall: 1_800_000_000})
	signed("group", &Group{ID: id("group"), Name: "net", Rings: [Levels]ID{Zone: id("ring")}, AEAD: 1, V: 1, Window: 1024, Contexts: 4096, MTU: 1500, OfflineStart: true, Since: 2}, instKey)
	plain("ready", &Ready{Ring: id("ring"), Term: 1, Step: 2, Entry: prev, Server: inst.ID, Bitmap: []byte{0x81, 0x01}, Laggards: []Laggard{{3, "silent: gw"}}, Serial: 4, Since: 2, Heard: []Heard{{id("other"), 3}}})
	signed("ack", &Ack{Ring: id("ring"), Term: 1, Step: 4, Entry: prev, HeadTerm: 1, HeadSerial: 6, Head: prev, Fingerprints: []Fingerprint{FingerprintOf(id("ring"), 2, &values[1])}, Session: id("session"), Member: id("member")}, memberKey)
	plain("usage", &Usage{Ring: id("ring"), Gens: []GenUsage{{2, 10, 2000, 1999, 1}}})
	inv := &Invite{Cluster: cluster, Roots: [Levels]Hash{Zone: HashOf(rootKey.Public().(ed25519.PublicKey))}, CA: seed("ca"), Servers: []string{"192.0.2.1:7443"}, Secret: id("secret"), Uses: 1, Name: "host-*"}
	plain("invite", inv)
	txt, err := inv.Text()
	if err != nil {
		t.Fatal(err)
	}
	v.InviteText = txt
	key := seed("data key")
	plain("client grant", &ClientGrant{Group: id("group"), Up: ClientSide{Connection: 1 << 32, Epoch: 9, V: 1, Options: true, Key: key[:16]}, Down: ClientSide{Connection: 2 << 32, V: 1, Options: true, Key: key[16:], SPI: 77},
		Lease: 600, RenewAfter: 300, Generations: []Generation{{Gen: 2, Role: Current, Fingerprint: FingerprintOf(id("ring"), 2, &values[1])}}, MasterKeys: []byte{0xE0, 0x02}})
	plain("client grant psp", &ClientGrant{Group: id("group"), Up: ClientSide{V: 1, Key: key[:], SPI: 0x80000801}, Down: ClientSide{V: 1, Key: key[:], SPI: 0x80000802}, Lease: 600, RenewAfter: 300, Profile: ProfilePSP})
	plain("cache", &Cache{Ring: id("ring"), KEKEpoch: 1, KEKStep: 1, KEK: kek0, Values: values[1:2], Floor: 2, Term: 1, Acked: 4, Entry: prev})
	signed("hello", &Hello{Member: id("member"), Session: id("session"), Boot: id("boot"), Nonce: id("nonce"), Key: sessHPKE.PublicKey().Bytes(), Heads: []Known{{Zone, 1, 6, prev}}, Agent: "1.0", Library: "1.1"}, memberKey)
	plain("welcome", &Welcome{Member: id("member"), Session: id("session"), Server: inst.ID, Number: 7, Blocks: []Block{{KindConnection, 6}}, Beat: 60})
	plain("sync", &Sync{Head: Known{Zone, 1, 6, prev}})
	plain("need", &Need{Ring: id("ring"), Nonce: id("nonce")})
	plain("ping", &Ping{Nonce: id("nonce")})
	plain("ids", &IDs{Kind: KindConnection, Blocks: []Block{{KindConnection, 9}}})
	plain("bye", &Bye{Code: ByeLater, Retry: 5, Reason: "shutting down"})
	return v, bodies
}

const vectorFile = "testdata/vectors.json"

func load(t testing.TB) (v vectors) {
	t.Helper()
	b, err := os.ReadFile(vectorFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What is written today is what was written then, but for what HPKE draws.
func TestVectors(t *testing.T) {
	now, bodies := samples(t)
	if *update {
		b, _ := json.MarshalIndent(now, "", " ")
		if err := os.WriteFile(vectorFile, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	was := load(t)
	for name, b := range bodies {
		data := unhex(t, was.Records[name])
		fresh := New(b.Type())
		if err := Decode(data, fresh); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		again, err := encode(fresh)
		if err != nil || !bytes.HasPrefix(data, again) {
			t.Errorf("%s: written anew it differs (%v)", name, err)
		}
		switch b := b.(type) {
		case *Escrow:
			k, err := fresh.(*Escrow).Open(cluster, b.Keys[0].Instance, instHPKE)
			if err != nil || hex.EncodeToString(k[:]) != was.KEK {
				t.Errorf("escrow: KEK %x, %v", k, err)
			}
		case *Grant:
			if b.Sealed == nil {
				break
			}
			k, err := fresh.(*Grant).OpenKEK(cluster, sessHPKE)
			if err != nil || hex.EncodeToString(k[:]) != was.KEK {
				t.Errorf("grant: KEK %x, %v", k, err)
			}
			other := *fresh.(*Grant)
			other.Session = id("another session")
			if _, err := other.OpenKEK(cluster, sessHPKE); !errors.Is(err, ErrSealed) {
				t.Errorf("a grant for another session opens: %v", err)
			}
		default:
			if now.Records[name] != was.Records[name] {
				t.Errorf("%s:\n%s, was\n%s", name, now.Records[name], was.Records[name])
			}
			if !reflect.DeepEqual(b, fresh) {
				t.Errorf("%s: %+v, not %+v", name, fresh, b)
			}
		}
	}
	now.Records, was.Records = nil, nil
	if !reflect.DeepEqual(now, was) {
		t.Errorf("vectors differ")
	}
	inv, err := ParseInvite(was.InviteText)
	if err != nil || inv.Name != "host-*" || inv.Servers[0] != "192.0.2.1:7443" {
		t.Errorf("invite: %+v, %v", inv, err)
	}
	for _, bad := range []string{"", was.InviteText[6:], was.InviteText[:40], strings.Replace(was.InviteText, "A", "B", 1)} {
		if _, err := ParseInvite(bad); !errors.Is(err, ErrMalformed) {
			t.Errorf("invite %.20q: %v", bad, err)
		}
	}
}

// An independent reader, which shares nothing with this package, agrees.
func TestVectorsPython(t *testing.T) {
	const python = "/usr/bin/python3"
	if err := exec.Command(python, "-c", "import cryptography").Run(); err != nil {
		testrun.Skip(t, "python3-cryptography is not installed")
	}
	out, err := exec.Command(python, "testdata/reader.py", vectorFile).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "chain: 6 entries") {
		t.Fatalf("%v\n%s", err, out)
	}
	// It is no reader if it takes anything.
	v := load(t)
	b := unhex(t, v.Chain[3])
	b[60] ^= 1
	v.Chain[3] = hex.EncodeToString(b)
	f := t.TempDir() + "/bad.json"
	j, _ := json.Marshal(v)
	if err := os.WriteFile(f, j, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(python, "testdata/reader.py", f).CombinedOutput(); err == nil {
		t.Fatalf("the reader takes a changed entry:\n%s", out)
	}
}

func TestSignatures(t *testing.T) {
	v := load(t)
	data := unhex(t, v.Records["head"])
	pub := instKey.Public().(ed25519.PublicKey)
	if err := Verify(data, new(Head), cluster, pub); err != nil {
		t.Fatal(err)
	}
	if err := Verify(data, new(Head), id("another cluster"), pub); !errors.Is(err, ErrSignature) {
		t.Errorf("another cluster: %v", err)
	}
	if err := Verify(data, new(Head), cluster, rootKey.Public().(ed25519.PublicKey)); !errors.Is(err, ErrSignature) {
		t.Errorf("another key: %v", err)
	}
	for i := range data {
		bad := bytes.Clone(data)
		bad[i] ^= 1
		if err := Verify(bad, new(Head), cluster, pub); err == nil {
			t.Errorf("octet %d changed, and it verifies", i)
		}
	}
	var d Delegation
	if err := Verify(unhex(t, v.Records["delegation"]), &d, cluster, rootKey.Public().(ed25519.PublicKey)); err != nil {
		t.Fatal(err)
	}
	if i, err := d.VerifyBy(data, new(Head), cluster, RoleRotate); err != nil || i.Name != "a" {
		t.Errorf("by a delegated instance: %v", err)
	}
	d.Instances[0].Roles &^= RoleRotate
	if _, err := d.VerifyBy(data, new(Head), cluster, RoleRotate); !errors.Is(err, ErrSignature) {
		t.Errorf("without the role: %v", err)
	}
	// A record of one type is none of another, even if the fields would do.
	if err := Decode(unhex(t, v.Records["ping"]), new(Need)); !errors.Is(err, ErrMalformed) {
		t.Errorf("another type: %v", err)
	}
}

func TestStrict(t *testing.T) {
	good, err := Encode(&Ping{Nonce: id("n")})
	if err != nil {
		t.Fatal(err)
	}
	with := func(extra ...byte) []byte {
		b := append(bytes.Clone(good), extra...)
		b[11] += byte(len(extra))
		return b
	}
	change := func(i int, x byte) []byte { b := bytes.Clone(good); b[i] = x; return b }
	for name, c := range map[string]struct {
		data []byte
		want error
	}{
		"empty":                  {nil, ErrMalformed},
		"header only":            {good[:12], ErrMalformed},
		"short":                  {good[:len(good)-1], ErrMalformed},
		"octet too many":         {append(bytes.Clone(good), 0), ErrMalformed},
		"magic":                  {change(0, 'e'), ErrMalformed},
		"later version":          {change(5, 2), ErrUnsupported},
		"flags":                  {change(7, 1), ErrUnsupported},
		"field missing":          {append(bytes.Clone(good[:8]), 0, 0, 0, 0), ErrMalformed},
		"critical bit missing":   {change(12, 0), ErrMalformed},
		"field twice":            {with(good[12:]...), ErrMalformed},
		"fields out of order":    {with(0, 0, 0, 0), ErrMalformed},
		"truncated field":        {with(0, 9, 0, 4, 1), ErrMalformed},
		"unknown critical field": {with(0x80, 9, 0, 1, 1), ErrUnsupported},
		"unknown field":          {with(0, 9, 0, 1, 1), nil},
	} {
		p := new(Ping)
		if err := Decode(c.data, p); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		} else if err == nil {
			if b, err := Encode(p); err != nil || !bytes.Equal(b, c.data) {
				t.Errorf("%s: kept as %x (%v), not %x", name, b, err, c.data)
			}
		}
	}
	ring := func(f func(*Ring)) *Ring {
		r := &Ring{ID: id("ring"), Class: ClassLevel, Term: 1, Serial: 3, Step: 2, State: Prepared, KEKEpoch: 1,
			Gens: []Generation{{Gen: 1, Role: Current}, {Gen: 2, Role: Next}}, Floor: 1, Last: 2}
		f(r)
		return r
	}
	for name, f := range map[string]func(*Ring){
		"roles":           func(r *Ring) { r.Gens[0].Role = Next },
		"order":           func(r *Ring) { r.Gens[0].Gen, r.Gens[1].Gen = 2, 1 },
		"one index":       func(r *Ring) { r.Gens[1].Gen, r.Last = 257, 257 },
		"below floor":     func(r *Ring) { r.Floor = 2 },
		"above last":      func(r *Ring) { r.Last = 1 },
		"three":           func(r *Ring) { r.Gens = append(r.Gens, Generation{Gen: 3, Role: Next}) },
		"empty":           func(r *Ring) { r.State, r.Gens = Empty, nil },
		"generation zero": func(r *Ring) { r.Gens[0].Gen = 0 },
		"a name of lines": func(r *Ring) { r.Name = "two\nlines" },
		"no UTF-8":        func(r *Ring) { r.Name = "\xff" },
		"sealed part":     func(r *Ring) { r.Sealed = make([]byte, 80) },
	} {
		if _, err := Sign(ring(f), cluster, instKey); !errors.Is(err, ErrMalformed) {
			t.Errorf("ring, %s: %v", name, err)
		}
	}
}

func TestSealedRing(t *testing.T) {
	kek := KEK(seed("kek"))
	vs := []Value{seed("1"), seed("2")}
	r := &Ring{ID: id("ring"), Class: ClassLevel, Term: 1, Serial: 3, Step: 2, State: Prepared, KEKEpoch: 1,
		Gens: []Generation{{Gen: 1, Role: Current}, {Gen: 2, Role: Next}}, Floor: 1, Last: 2}
	if err := r.Seal(&kek, vs); err != nil {
		t.Fatal(err)
	}
	got, err := r.Values(&kek)
	if err != nil || !reflect.DeepEqual(got, vs) {
		t.Fatalf("%x, %v", got, err)
	}
	first := bytes.Clone(r.Sealed)
	if err := r.Seal(&kek, vs); err != nil || bytes.Equal(first, r.Sealed) {
		t.Errorf("sealed twice alike (%v)", err)
	}
	// Any part of what is public changed: it does not open.
	for name, f := range map[string]func(*Ring){
		"step":        func(r *Ring) { r.Step++ },
		"policy":      func(r *Ring) { r.Policy.PathDelay++ },
		"fingerprint": func(r *Ring) { r.Gens = append([]Generation(nil), r.Gens...); r.Gens[0].Fingerprint[0] ^= 1 },
		"salt":        func(r *Ring) { r.Sealed = bytes.Clone(r.Sealed); r.Sealed[0] ^= 1 },
		"tag":         func(r *Ring) { r.Sealed = bytes.Clone(r.Sealed); r.Sealed[len(r.Sealed)-1] ^= 1 },
	} {
		c := *r
		f(&c)
		if _, err := c.Values(&kek); !errors.Is(err, ErrSealed) {
			t.Errorf("%s changed: %v", name, err)
		}
	}
	kek.Step(cluster, r.ID, 1, 1)
	if _, err := r.Values(&kek); !errors.Is(err, ErrSealed) {
		t.Errorf("another step's KEK: %v", err)
	}
}

// What the decoder takes, it writes the same.
func FuzzDecode(f *testing.F) {
	for _, r := range load(f).Records {
		f.Add(unhex(f, r))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		b := New(TypeOf(data))
		if b == nil || Decode(data, b) != nil {
			return
		}
		out, err := encode(b)
		if err != nil {
			t.Fatalf("decoded, but not encoded: %v", err)
		}
		if b.Type().signed() {
			data = data[:len(data)-sigLen]
		}
		if !bytes.Equal(out, data) {
			t.Fatalf("%x\nbecame\n%x", data, out)
		}
	})
}

// What is read as an invite's line is written the same.
func FuzzInvite(f *testing.F) {
	is := load(f).InviteText
	f.Add(is)
	for _, end := range []string{"\r", "\n", "\r\n"} { // inside of the line, and behind it
		f.Add(is[:40] + end + is[40:])
		f.Add(is + end)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseInvite(s)
		if err != nil {
			return
		}
		if out, err := r.Text(); err != nil || out != strings.TrimSpace(s) {
			t.Fatalf("%q became %q: %v", s, out, err)
		}
	})
}

// Any text becomes one that a record can have.
func FuzzText(f *testing.F) {
	f.Add("two\nlines \xff \u202e", 5)
	f.Fuzz(func(t *testing.T, s string, most int) {
		if most %= 300; most < 0 {
			return
		}
		out := Text(s, most)
		if _, err := Encode(&Bye{Code: 1, Reason: Text(s, MaxReason)}); err != nil || len(out) > most || !printable(out) {
			t.Fatalf("%q became %q: %v", s, out, err)
		}
		if printable(s) && len(s) <= most && out != s {
			t.Fatalf("%q became %q", s, out)
		}
	})
}

// Who is ready counts by the word of the instance that the record names, for one cluster and level, octet by octet.
func TestReadyProof(t *testing.T) {
	in := Instance{ID: id("instance"), Name: "a", Sign: pub32(instKey), HPKE: instHPKE.PublicKey().Bytes(), Roles: RoleRotate}
	other := Instance{ID: id("other"), Name: "b", Sign: pub32(memberKey), HPKE: instHPKE.PublicKey().Bytes(), Roles: RoleRotate}
	d := &Delegation{Level: User, Serial: 1, Term: 1, Instances: []Instance{other, in}}
	r := &Ready{Ring: id("ring"), Term: 1, Step: 2, Entry: seed("entry"), Server: in.ID, Bitmap: []byte{5}, Laggards: []Laggard{{1, "why"}}, Serial: 9, Since: 7, Heard: []Heard{{other.ID, 3}}}
	if r.Proved(cluster, d) {
		t.Error("without a proof")
	}
	if err := r.Prove(cluster, User, instKey); err != nil || !r.Proved(cluster, d) {
		t.Fatalf("%v", err)
	}
	raw, err := Encode(r)
	if err != nil {
		t.Fatal(err)
	}
	for at := range raw {
		b := bytes.Clone(raw)
		b[at] ^= 1 << (at % 8)
		var x Ready
		if Decode(b, &x) == nil && x.Proved(cluster, d) {
			t.Errorf("octet %d flipped", at)
		}
	}
	no := func(what string, cl ID, d Delegation) {
		t.Helper()
		if r.Proved(cl, &d) {
			t.Error(what)
		}
	}
	no("another cluster", id("x"), *d)
	no("another level", cluster, Delegation{Level: Zone, Instances: d.Instances})
	no("an instance that was removed", cluster, Delegation{Level: User, Instances: d.Instances[:1]})
	in.Roles = RoleAdmit
	no("another role", cluster, Delegation{Level: User, Instances: []Instance{in}})
	if err := r.Prove(cluster, User, memberKey); err != nil || r.Proved(cluster, d) {
		t.Errorf("by another instance: %v", err)
	}
}
