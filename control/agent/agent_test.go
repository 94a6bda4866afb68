package agent

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"libeesp/control/record"
)

// What a record may not do to what is in force: give a generation another value, bring
// back what is below the floor, have the floor or an epoch fall.
func TestCheck(t *testing.T) {
	inForce := func() *ring {
		return &ring{rec: record.Ring{Floor: 5, Gens: []record.Generation{{Gen: 5, Fingerprint: record.Fingerprint{1}, TSSEpoch: 3}, {Gen: 6, Fingerprint: record.Fingerprint{2}}}}}
	}
	for _, x := range []struct {
		change func(r *record.Ring)
		code   record.Code
		text   string
	}{
		{func(*record.Ring) {}, record.CodeNone, ""},
		{func(r *record.Ring) { r.Gens = r.Gens[1:]; r.Floor = 6 }, record.CodeNone, ""},
		{func(r *record.Ring) { r.Gens[1].Fingerprint[0]++ }, record.CodeFingerprint, "generation 6 has another value"},
		{func(r *record.Ring) { r.Gens[0].Gen = 4 }, record.CodeFloor, "generation 4 is below the floor 5"},
		{func(r *record.Ring) { r.Floor = 4 }, record.CodeFloor, "the floor falls from 5 to 4"},
		{func(r *record.Ring) { r.Gens[0].TSSEpoch = 2 }, record.CodeFloor, "the epoch of generation 5 falls from 3 to 2"},
	} {
		r := inForce()
		x.change(&r.rec)
		code, err := check(inForce(), r)
		if code != x.code || err == nil != (x.text == "") || err != nil && !strings.Contains(err.Error(), x.text) {
			t.Errorf("%q: %v, %v", x.text, code, err)
		}
	}
	if code, err := check(nil, inForce()); code != record.CodeNone || err != nil {
		t.Errorf("a host that has nothing yet: %v, %v", code, err)
	}
}

// two is an agent with a controller of the levels zone and task, and one of the user level.
func two(t testing.TB, zone, user []string) (a *Agent, roots [2]ed25519.PrivateKey) {
	t.Helper()
	c := Config{}
	for i, lvs := range [][]record.Level{{record.Zone, record.Task}, {record.User}} {
		pub, key, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		m := Membership{Cluster: record.ID{byte(1 + i)}, Name: "h", Dir: t.TempDir(), Roots: map[record.Level]ed25519.PublicKey{}, Key: key, Groups: [][]string{zone, user}[i]}
		for _, lv := range lvs {
			m.Roots[lv] = pub
		}
		if err := os.WriteFile(filepath.Join(m.Dir, "cache.key"), make([]byte, 32), 0o600); err != nil {
			t.Fatal(err)
		}
		c.Memberships, roots[i] = append(c.Memberships, m), key
	}
	a, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return a, roots
}

// Which controller may announce which group, as the host's files say. Rings are of zone, user, task.
func TestMay(t *testing.T) {
	const zone, user = 0, 1
	for _, x := range []struct {
		zone, user []string
		by         int
		name       string
		rings      string
		v          uint8
		why        string // "": it may
	}{
		{nil, nil, zone, "net", "zu-", 1, ""},
		{nil, nil, zone, "net", "zut", 1, ""},
		{nil, nil, zone, "net", "-ut", 1, "it has a ring at level user, which has another controller"},
		{nil, nil, user, "net", "-ut", 1, ""},
		{nil, nil, user, "net", "zu-", 1, "it has a ring at level zone,task, which has another controller"},
		{nil, nil, zone, "net", "zu-", 0, "they need 8 octets"},
		// A ring is missing.
		{nil, nil, zone, "net", "z--", 1, "it has no ring of the controller of user, and groups of this name have one"},
		{nil, nil, user, "net", "-u-", 1, "it has no ring of the controller of zone,task, and groups of this name have one"},
		{nil, []string{"net", "x*"}, zone, "xyz", "z-t", 0, "it has no ring of the controller of user"},
		{nil, []string{"net", "x*"}, zone, "other", "z-t", 0, ""},
		{nil, []string{"net", "x*"}, zone, "other", "zu-", 1, "it has a ring of the controller of user, which this host has for other groups (net, x*)"},
		// Groups of one level each.
		{[]string{"z*"}, []string{"u*"}, user, "u1", "-u-", 0, ""},
		{[]string{"z*"}, []string{"u*"}, user, "z1", "-u-", 0, "it has no ring of the controller of zone,task"},
		{[]string{"z*"}, []string{"u*"}, zone, "u1", "z--", 0, "it has a ring of the controller of zone,task, which this host has for other groups (z*)"},
		{[]string{"z*"}, []string{"u*"}, zone, "neither", "z--", 0, "for other groups"},
		{[]string{"z*"}, []string{"u*"}, zone, "taken", "z--", 0, "another group has this name"},
		// psp: no ring, and the level that it belongs to.
		{[]string{"z*"}, []string{"u*"}, user, "u1", "---", 0, ""},
		{[]string{"z*"}, []string{"u*"}, user, "z1", "---", 0, "it has no ring of the controller of zone,task"},
	} {
		a, _ := two(t, x.zone, x.user)
		g := record.Group{ID: record.ID{7}, Name: x.name, V: x.v, Level: []record.Level{record.Zone, record.User}[x.by]}
		for lv, c := range x.rings {
			if c != '-' {
				g.Rings[lv] = record.ID{9, byte(lv)}
			}
		}
		taken := record.Group{ID: record.ID{8}, Name: "taken"}
		a.levels[record.User].groups[taken.ID] = &group{rec: taken}
		if err := a.may(a.controllers[x.by], &g); err == nil != (x.why == "") || err != nil && !strings.Contains(err.Error(), x.why) {
			t.Errorf("%s by %d with %s: %v, not %q", x.name, x.by, x.rings, err, x.why)
		}
	}
	// One controller alone is not asked, but for names.
	a, _ := two(t, nil, nil)
	a.controllers = a.controllers[:1]
	if err := a.may(a.first(), &record.Group{Name: "net", Rings: [record.Levels]record.ID{{1}}}); err != nil {
		t.Error(err)
	}
}

// What one controller says of another's level counts for nothing: neither by its own keys nor as the
// other's word, sent once more.
func TestOthersLevel(t *testing.T) {
	a, roots := two(t, nil, nil)
	zone, user := a.controllers[0], a.controllers[1]
	for i, c := range a.controllers { // each with an instance that signs
		in := record.Instance{ID: record.ID{1}, Name: "s", HPKE: zone.hpke.PublicKey().Bytes(), Roles: 7}
		copy(in.Sign[:], roots[i].Public().(ed25519.PublicKey))
		for lv := range c.levels {
			raw, err := record.Sign(&record.Delegation{Level: lv, Serial: 1, Term: 1, Instances: []record.Instance{in}, MinReader: 1}, c.Cluster, roots[i])
			if err == nil {
				_, err = c.take(raw)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	sign := func(i int, b record.Body) []byte {
		t.Helper()
		raw, err := record.Sign(b, a.controllers[i].Cluster, roots[i])
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	was := a.levels[record.Zone].delegRaw
	for i := range roots {
		what := [2]string{"the zone's own word, by way of the other", "the other's word"}[i]
		in := record.Instance{ID: record.ID{2}, Name: "thief", HPKE: zone.hpke.PublicKey().Bytes(), Roles: 7}
		if _, err := user.take(sign(i, &record.Delegation{Level: record.Zone, Serial: 2, Term: 2, Instances: []record.Instance{in}, MinReader: 1})); err != nil || !bytes.Equal(a.levels[record.Zone].delegRaw, was) {
			t.Errorf("%s: a delegation: %v", what, err)
		}
		for _, b := range []record.Body{
			&record.Member{ID: record.ID{3}, Level: record.Zone, Name: "h", SPKI: record.Hash{1}, State: record.MemberActive},
			&record.Head{Level: record.Zone, Term: 1, Serial: 1, Change: record.ChangeGenesis},
			&record.Ring{ID: record.ID{4}, Level: record.Zone, Name: "net", Class: record.ClassLevel, Term: 1, Serial: 1, Step: 1, State: record.Steady, KEKEpoch: 1, Floor: 1, Last: 1, Gens: []record.Generation{{Gen: 1, Role: record.Current}}},
			&record.Group{ID: record.ID{5}, Level: record.Zone, Name: "net", Rings: [record.Levels]record.ID{{4}}, V: 1},
		} {
			if _, err := user.take(sign(i, b)); err == nil || !strings.Contains(err.Error(), "a record of a level without delegation") {
				t.Errorf("%s: a record of type %v is taken: %v", what, b.Type(), err)
			}
		}
	}
	sync, err := record.Encode(&record.Sync{Head: record.Known{Level: record.Zone, Term: 9, Serial: 9}})
	if err == nil {
		err = user.receive(t.Context(), "", sync, nil, nil)
	}
	if l := a.levels[record.Zone]; err != nil || l.head.Serial != 0 || l.waits != nil || len(l.groups)+len(l.pending)+len(l.batch) != 0 {
		t.Errorf("of the zone is known: %+v, %v", l.head, err)
	}
	// No level has two.
	m := a.Memberships[0]
	if _, err := New(Config{Memberships: []Membership{m, m}}); err == nil || !strings.Contains(err.Error(), "has two controllers") {
		t.Errorf("two controllers of one level: %v", err)
	}
}

// A server that sends records without end is cut off before they fill the host's memory, which
// others' keys are in too.
func TestUnsynced(t *testing.T) {
	a, roots := two(t, nil, nil)
	c := a.controllers[1]
	raw, err := record.Sign(&record.Delegation{Level: record.Zone, Serial: 1, Term: 1, MinReader: 1, Instances: []record.Instance{{ID: record.ID{1}, Name: "s", HPKE: c.hpke.PublicKey().Bytes(), Roles: 7}}}, c.Cluster, roots[1])
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; err == nil; n += len(raw) {
		if n > mostUnsynced {
			t.Fatal("no end")
		}
		err = c.receive(t.Context(), "", raw, nil, nil)
	}
	if !strings.Contains(err.Error(), "too many records without a sync") {
		t.Error(err)
	}
}

// What a hostile controller can make a host keep is bounded: entries that lead to no head, which it says are all
// that there is; blocks of IDs; groups that it may not announce.
func TestKept(t *testing.T) {
	a, roots := two(t, nil, nil)
	c := a.controllers[1]
	sign := ed25519.NewKeyFromSeed(make([]byte, 32))
	in := record.Instance{ID: record.ID{1}, Name: "s", HPKE: c.hpke.PublicKey().Bytes(), Roles: 7}
	copy(in.Sign[:], sign.Public().(ed25519.PublicKey))
	receive := func(b record.Body, key ed25519.PrivateKey) error {
		t.Helper()
		raw, err := record.Encode(b)
		if key != nil {
			raw, err = record.Sign(b, c.Cluster, key)
		}
		if err != nil {
			t.Fatal(err)
		}
		return c.receive(t.Context(), "", raw, map[record.ID]bool{}, nil)
	}
	if err := receive(&record.Delegation{Level: record.User, Serial: 1, Term: 1, MinReader: 1, Instances: []record.Instance{in}}, roots[1]); err != nil {
		t.Fatal(err)
	}
	blocks := make([]record.Block, 256)
	for i := range blocks {
		blocks[i] = record.Block{Kind: record.KindConnection, Block: uint32(i)}
	}
	for range 100 {
		if err := receive(&record.IDs{Kind: record.KindConnection, Blocks: blocks}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(c.blocks[record.KindConnection]); n > mostBlocks {
		t.Errorf("%d blocks", n)
	}
	for i := range mostOfALevel + 10 {
		g := &record.Group{ID: record.ID{1}, Level: record.User, Name: fmt.Sprint("g", i), V: 1}
		g.Rings[record.Zone] = record.ID{2}
		if err := receive(g, sign); err != nil {
			t.Fatal(err)
		}
		c.unsynced = 0
	}
	if n := len(c.refused); n > mostOfALevel {
		t.Errorf("%d groups are refused", n)
	}
	var err error
	changed := make([]record.Changed, 900)
	for i := 0; err == nil; i++ {
		if i > mostUnsynced>>15 {
			t.Fatal("no end")
		}
		h := &record.Head{Level: record.User, Term: 1, Serial: uint64(1000 + i), Prev: record.Hash{1}, Change: record.ChangeGroup, Changed: changed}
		if err = receive(h, sign); err == nil {
			err = receive(&record.Sync{Head: record.Known{Level: record.User, Term: 1, Serial: 1 << 40}}, nil)
		}
	}
	if !strings.Contains(err.Error(), "too many entries") {
		t.Error(err)
	}
}

// Whatever a controller signs, its host does not fail.
func FuzzReceive(f *testing.F) {
	a, roots := two(f, nil, nil)
	c := a.controllers[1]
	sign := ed25519.NewKeyFromSeed(make([]byte, 32))
	in := record.Instance{ID: record.ID{1}, Name: "s", HPKE: c.hpke.PublicKey().Bytes(), Roles: 7}
	copy(in.Sign[:], sign.Public().(ed25519.PublicKey))
	deleg, err := record.Sign(&record.Delegation{Level: record.User, Serial: 1, Term: 1, MinReader: 1, Instances: []record.Instance{in}}, c.Cluster, roots[1])
	if err != nil {
		f.Fatal(err)
	}
	head := &record.Head{Level: record.User, Term: 1, Serial: 1, Change: record.ChangeGenesis, Instance: in.ID}
	for _, b := range []record.Body{head, &record.Sync{Head: record.Known{Level: record.User, Term: 1, Serial: 1}}, &record.Welcome{Beat: 1}, &record.Ping{}, &record.IDs{Kind: 1},
		&record.Grant{Level: record.User, Session: c.session, Instance: in.ID, Term: 1, Serial: 1}, &record.Member{Level: record.User, ID: record.ID{1}, SPKI: record.Hash{1}, State: record.MemberActive},
		&record.Group{ID: record.ID{5}, Level: record.User, Name: "net", V: 1, Rings: [record.Levels]record.ID{record.User: {7}}},
		&record.Ring{ID: record.ID{7}, Level: record.User, Class: record.ClassLevel, Term: 1, Serial: 1, Step: 1, State: record.Steady, KEKEpoch: 1, Gens: []record.Generation{{Gen: 1, Role: record.Current}}, Floor: 1, Last: 1, Name: "net"}} {
		raw, err := record.Sign(b, c.Cluster, sign)
		if err != nil {
			raw, err = record.Encode(b)
		}
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	// Several records, each of which is signed if its type is.
	f.Fuzz(func(t *testing.T, data []byte) {
		a.mu.Lock()
		defer a.mu.Unlock()
		for _, l := range c.levels {
			l.reset()
		}
		c.send, c.unsynced, c.refused = make(chan []byte, 256), 0, map[string]string{}
		beat := time.NewTicker(time.Hour)
		defer beat.Stop()
		if err := c.receive(t.Context(), "", deleg, nil, beat); err != nil {
			t.Fatal(err)
		}
		for nonces := map[record.ID]bool{{}: true}; len(data) > 0; {
			n, err := record.Size(data)
			if err != nil || n == 0 || n > len(data) {
				break
			}
			raw := bytes.Clone(data[:n])
			data = data[n:]
			if b := record.New(record.TypeOf(raw)); b != nil && record.Decode(raw, b) == nil {
				if s, err := record.Sign(b, c.Cluster, sign); err == nil {
					raw = s
				}
			}
			c.receive(t.Context(), "", raw, nonces, beat)
		}
		a.publishOf(c, a.publish)
		a.mu.Unlock()
		a.Status()
		a.mu.Lock()
	})
}

// A ring's record of a later version: the host says so, and stays connected.
func TestUnsupported(t *testing.T) {
	a, _ := two(t, nil, nil)
	c := a.controllers[1]
	c.send = make(chan []byte, 1)
	raw, err := record.Sign(&record.Ring{ID: record.ID{7}, Level: record.User, Class: record.ClassLevel, Term: 1, Serial: 1, Step: 1, State: record.Steady, KEKEpoch: 1,
		Gens: []record.Generation{{Gen: 1, Role: record.Current}}, Floor: 1, Last: 1, Name: "net"}, c.Cluster, ed25519.NewKeyFromSeed(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	const sig = 1 + 8 + ed25519.SignatureSize
	later := append(bytes.Clone(raw[:len(raw)-sig]), 0xc0, 0, 0, 1, 1) // a critical field
	later = append(later, raw[len(raw)-sig:]...)
	binary.BigEndian.PutUint32(later[8:], binary.BigEndian.Uint32(later[8:])+5)
	version := bytes.Clone(raw)
	version[5]++
	for what, b := range map[string][]byte{"field 16384": later, "version 2": version} {
		c.levels[record.User].deleg, c.levels[record.User].delegRaw = record.Delegation{}, []byte{1}
		if err := c.receive(t.Context(), "", b, nil, nil); err != nil {
			t.Fatal(err)
		}
		var k record.Ack
		select {
		case raw := <-c.send:
			if err := record.Verify(raw, &k, c.Cluster, c.Key.Public().(ed25519.PublicKey)); err != nil {
				t.Fatal(err)
			}
		default:
			t.Fatalf("%s: nothing said", what)
		}
		if k.Ring != (record.ID{7}) || k.Code != record.CodeUnsupported || k.Step != 0 || !strings.Contains(k.Reason, what) {
			t.Errorf("%s: %+v", what, k)
		}
	}
	if err := c.receive(t.Context(), "", later[:len(later)-1], nil, nil); err == nil {
		t.Error("what is cut off is taken")
	}
}
