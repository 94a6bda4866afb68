package e2e

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"libeesp/control/agent"
	"libeesp/control/record"
	"libeesp/control/server"
	"libeesp/control/store"
)

// Tests against the owner of the store, who reads and writes all of it, keeps all that was ever in it, and
// has the certificates and keys of hosts and servers that were removed.

// write writes to the store behind the servers' back.
func (c *cluster) write(kvs ...store.KV) {
	c.t.Helper()
	if _, err := c.st.Commit(context.Background(), store.Txn{Put: kvs}); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) readOnly(i int) string { return c.servers[i].Status().Levels[0].ReadOnly }

// joinBy asks to join with a secret, and returns the answer's status.
func (c *cluster) joinBy(inv *record.Invite, name string) int {
	_, key := must2(newKey())
	return c.joinAt(0, inv, name, key)
}

func (c *cluster) joinAt(i int, inv *record.Invite, name string, key ed25519.PrivateKey) int {
	c.t.Helper()
	csr := must(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key))
	b := must(json.Marshal(server.JoinRequest{Secret: base64.RawURLEncoding.EncodeToString(inv.Secret[:]), Name: name, CSR: csr}))
	resp, err := agent.HTTPClient(agent.JoinTLS(inv)).Post("https://"+c.servers[i].addr+"/v1/join", "application/json", bytes.NewReader(b))
	if err != nil {
		c.t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// The store's owner makes an invite of its own, changes one that there is, and puts a used one back. None of
// them admits a host.
func TestForgedInvite(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, record.Zone)
	key := func(inv *record.Invite) string {
		return fmt.Sprintf("invite/%x", sha256.Sum256(append([]byte("eesp invite v1"), inv.Secret[:]...)))
	}
	real := c.invite(0, false)
	row := c.st.Snapshot()[key(real)].Value
	forged := *real
	forged.Secret = randID()
	later := time.Now().Add(time.Hour).Unix()
	for what, v := range map[string][]byte{
		"without signature":    fmt.Appendf(nil, `{"uses":100,"name":"*","auto":true,"expires":%d}`, later),
		"another one's row":    row,
		"another one's, by us": bytes.Replace(row, []byte(`"auto":false`), []byte(`"auto":true`), 1),
		"not JSON":             []byte("{"),
	} {
		c.write(store.KV{Key: key(&forged), Value: v})
		if s := c.joinBy(&forged, "mallory"); s != http.StatusNotFound {
			t.Errorf("%s: %d", what, s)
		}
	}
	for i := range row { // a bit of each octet
		v := bytes.Clone(row)
		v[i] ^= 1
		c.write(store.KV{Key: key(real), Value: v})
		// Its signature is of the row as it is read: what decodes to the same is the same.
		if s := c.joinBy(real, "mallory"); s != http.StatusNotFound {
			t.Errorf("octet %d (%q): %d", i, row[max(0, i-8):min(len(row), i+8)], s)
		}
	}
	if m := c.member("mallory"); m.Name != "" {
		t.Fatalf("admitted: %+v", m)
	}
	c.write(store.KV{Key: key(real), Value: row})
	once := must(c.servers[0].Invite(t.Context(), "test", server.InviteRequest{}))
	inv := must(record.ParseInvite(once.(map[string]any)["invite"].(string)))
	row = c.st.Snapshot()[key(inv)].Value
	if s := c.joinBy(inv, "first"); s != http.StatusOK {
		t.Fatalf("the first use: %d", s)
	}
	c.write(store.KV{Key: key(inv), Value: row})
	if s := c.joinBy(inv, "second"); s != http.StatusNotFound {
		t.Errorf("used again: %d", s)
	}
}

// An invite is used up at all servers, by the log: at another one, at once or after all were started again, also if the
// store shows the invite as it was made, and after an older backup was restored. A host that asks again takes no use.
func TestInviteUsedUp(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, record.Zone, record.User)
	v := must(c.servers[0].Invite(t.Context(), "test", server.InviteRequest{Uses: 2}))
	inv := must(record.ParseInvite(v.(map[string]any)["invite"].(string)))
	made := c.st.Snapshot()
	key := fmt.Sprintf("invite/%x", sha256.Sum256(append([]byte("eesp invite v1"), inv.Secret[:]...)))
	_, first := must2(newKey())
	try := func(what string, i, want int) {
		t.Helper()
		_, k := must2(newKey())
		if s := c.joinAt(i, inv, "x"+what[:1]+fmt.Sprint(i), k); s != want {
			t.Errorf("%s, at server %d: %d", what, i, s)
		}
	}
	for i := range 4 { // one host
		if s := c.joinAt(i%2, inv, "first", first); s != http.StatusOK {
			t.Fatalf("a host, time %d: %d", i+1, s)
		}
	}
	try("second", 1, http.StatusOK)
	for _, what := range []string{"at once", "put back"} {
		for i := range 2 {
			try(what, i, http.StatusNotFound)
		}
		c.write(made[key])
	}
	for i := range 2 {
		c.servers[i].stop()
		c.start(i)
		try("restarted", i, http.StatusNotFound)
	}
	if s := c.joinAt(1, inv, "first", first); s != http.StatusOK {
		t.Errorf("the same host, later: %d", s)
	}
	// The backup has the invite, and does not know who came by it.
	c.st.Restore(made)
	c.eventually("read-only", func() bool { return c.readOnly(0) != "" && c.servers[0].Status().Levels[1].ReadOnly != "" })
	for lv := range c.roots {
		d := must(record.Sign(&record.Delegation{Level: lv, Serial: 2, Term: 2, Instances: c.instances(lv), MinReader: 1}, c.id, c.roots[lv]))
		mustNot(c.servers[0].RaiseTerm(t.Context(), lv, "test", server.TermRequest{Level: lv.String(), Delegation: d}))
	}
	if n := len(c.servers[0].MembersStatus()); n != 0 {
		t.Fatalf("%d members in the backup", n)
	}
	try("backup", 0, http.StatusNotFound)
}

// An older record of a ring, with its KEK, or of a group is put back, or a record is taken away, also while the
// servers are down. No server goes on with it, and a new host, whom a revoked one could read under the old key,
// gets nothing.
func TestRecordPutBack(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"ring", "escrow", "group", "no ring", "no escrow", "no group", "alias", "no log"} {
		for _, down := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, down %v", what, down), func(t *testing.T) {
				t.Parallel()
				putBack(t, what, down)
			})
		}
	}
}

func putBack(t *testing.T, what string, down bool) {
	c := newCluster(t, 1, record.Zone)
	c.group("net", quick)
	a, x := c.join("a", true).up(), c.join("x", true).up()
	p, px := a.follow("net"), x.follow("net")
	c.eventually("both seal", func() bool { return p.seals(record.Zone) == 1 && px.seals(record.Zone) == 1 })
	fresh := c.join("fresh", true)
	old := c.st.Snapshot()
	if _, err := c.servers[0].Revoke(t.Context(), "test", server.NameRequest{Name: "x"}); err != nil {
		t.Fatal(err)
	}
	c.eventually("rotated", func() bool {
		r := c.ring(0, "net")
		return p.seals(record.Zone) == 2 && r.State == "steady" && len(r.Waiting) == 0
	})
	if down {
		c.servers[0].stop()
	}
	var txn store.Txn
	for k, v := range old {
		kind := strings.Split(k, "/")[1]
		switch {
		case what == "ring" && (kind == "ring" || kind == "escrow"), what == kind && kind == "escrow":
			txn.Put = append(txn.Put, v)
		case what == "group" && kind == "group":
			// One that has the same identity, signed by the server, but not of the log.
			var g record.Group
			mustNot(record.Decode(v.Value, &g))
			g.Window = 64
			v.Value = must(record.Sign(&g, c.id, c.keys[0][record.Zone].Sign))
			txn.Put = append(txn.Put, v)
		case what == "no "+kind:
			txn.Del = append(txn.Del, k)
		case what == "alias" && kind == "ring":
			v.Key = k[:len("zone/ring/")] + strings.ToUpper(k[len("zone/ring/"):])
			txn.Put = append(txn.Put, v)
		}
	}
	if len(txn.Put)+len(txn.Del) == 0 {
		t.Fatal("nothing to put back")
	}
	if _, err := c.st.Commit(context.Background(), txn); err != nil {
		t.Fatal(err)
	}
	if down {
		c.start(0)
	}
	c.eventually("read-only", func() bool { return c.readOnly(0) != "" })
	if _, err := c.servers[0].Rotate(t.Context(), "test", server.RotateRequest{}); !errors.Is(err, server.ErrReadOnly) && !errors.Is(err, server.ErrNotFound) {
		t.Errorf("it writes: %v", err)
	}
	fresh.up()
	pf := fresh.follow("net")
	time.Sleep(300 * time.Millisecond)
	if o := pf.opens(record.Zone); len(o) != 0 {
		t.Errorf("a new host has generations %v", o)
	}
	if o := p.opens(record.Zone); !slices.Equal(o, []uint64{2}) {
		t.Errorf("a host that knows better has %v", o)
	}
	// The way out is a new term.
	if err := c.servers[0].RaiseTerm(t.Context(), record.Zone, "test", server.TermRequest{Level: "zone", Delegation: c.secondTerm(), Last: 2}); err != nil {
		// What is gone cannot be restored without a backup, and a key that no server writes must be removed.
		if !strings.HasPrefix(what, "no ") && what != "escrow" && what != "ring" && what != "alias" {
			t.Error(err)
		}
	}
}

// A removed server's keys and the delegation that named it, put back together with an entry that the removed
// server signs, do not bring it back.
func TestDelegationPutBack(t *testing.T) {
	t.Parallel()
	for _, down := range []bool{false, true} {
		t.Run(fmt.Sprint("down ", down), func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 1, record.Zone)
			c.group("net", quick)
			one := c.instance()
			if err := c.delegate(record.Zone, 0, 0, one); err != nil {
				t.Fatal(err)
			}
			old := c.st.Snapshot()["zone/delegation"]
			if err := c.delegate(record.Zone, 0, 0); err != nil {
				t.Fatal(err)
			}
			c.eventually("rotated for it", func() bool { r := c.ring(0, "net"); return r.Current == 2 && r.State == "steady" })
			if down {
				c.servers[0].stop()
			}
			time.Sleep(100 * time.Millisecond)
			// The removed server signs that the old delegation is in force again.
			now := c.st.Snapshot()
			var h record.Head
			mustNot(record.Decode(now["zone/head"].Value, &h))
			h.Prev, h.Serial, h.Change, h.Instance = record.HashOf(now["zone/head"].Value), h.Serial+1, record.ChangeDelegate, c.keys[one][record.Zone].ID
			h.Ring, h.Old, h.New, h.Step = record.ID{}, 0, 0, 0
			h.Changed = []record.Changed{{Type: record.TypeDelegation, Hash: record.HashOf(old.Value)}}
			raw := must(record.Sign(&h, c.id, c.keys[one][record.Zone].Sign))
			c.st.Break()
			c.write(store.KV{Key: "zone/delegation", Value: old.Value}, store.KV{Key: "zone/head", Value: raw}, store.KV{Key: fmt.Sprintf("zone/log/%020d", h.Serial), Value: raw})
			c.st.Break()
			if down {
				c.start(0)
			}
			c.within(10*time.Second, "read-only", func() bool { return c.readOnly(0) != "" })
		})
	}
}

// The counters of IDs are set back. A server that knows better gives out no block twice.
func TestAllocatorSetBack(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, record.Zone)
	a := c.join("a", true)
	blocks := map[uint32]bool{}
	begin := func(again bool) {
		a.speak2(t, func(w *record.Welcome) {
			for _, b := range w.Blocks {
				if b.Kind == record.KindConnection {
					if blocks[b.Block] {
						t.Errorf("block %d twice", b.Block)
					}
					blocks[b.Block] = true
				}
			}
		}, again)
	}
	begin(true)
	for _, restart := range []bool{false, true} {
		kv := c.st.Snapshot()
		for k, v := range kv {
			if strings.HasPrefix(k, "alloc/") {
				v.Value = []byte{0, 0, 0, 0, 0, 0, 0, 1}
				c.write(v)
			}
		}
		if restart {
			c.servers[0].stop()
			c.start(0)
		}
		for range 3 {
			begin(false)
		}
	}
}

// speak2 begins a session, hands over its welcome, and leaves. must: there is one.
func (h *host) speak2(t *testing.T, f func(*record.Welcome), must bool) {
	t.Helper()
	got := false
	h.say(h.hello(randID(), false), func(raw []byte) {
		if record.TypeOf(raw) == record.TypeWelcome && !got {
			var w record.Welcome
			mustNot(record.Decode(raw, &w))
			got = true
			f(&w)
			h.out.Write([]byte("no record at all"))
		}
	})
	if must && !got {
		t.Error("no welcome")
	}
}

// The store's owner writes that hosts are ready which are not, by a server that there is and one that there is
// not. The rotation waits.
func TestForgedReady(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, record.Zone)
	c.group("net", quick)
	a := c.join("a", true).up()
	p := a.follow("net")
	c.eventually("seals", func() bool { return p.seals(record.Zone) == 1 && c.ring(0, "net").Barrier == 1 })
	c.servers[1].stop()
	c.eventually("at the first", func() bool { s := a.agent.Status(); return s.Online && s.Server == c.servers[0].addr })
	p.set(func() { p.hang = true })
	defer p.set(func() { p.hang = false })
	c.rotate(server.RotateRequest{Ring: "net"})
	c.eventually("prepared", func() bool { return c.ring(0, "net").State == "prepared" })
	var r record.Ring
	var id string
	for k, v := range c.st.Snapshot() {
		if strings.HasPrefix(k, "zone/ring/") {
			mustNot(record.Decode(v.Value, &r))
			id = k[len("zone/ring/"):]
		}
	}
	entry := record.HashOf(c.st.Snapshot()[fmt.Sprintf("zone/log/%020d", r.Serial)].Value)
	for n := range 4 {
		for _, by := range []record.ID{c.keys[1][record.Zone].ID, randID()} {
			serial := uint64(time.Now().Add(time.Hour).UnixNano()) + uint64(n)
			ready := record.Ready{Ring: r.ID, Term: r.Term, Step: r.Step, Entry: entry, Server: by, Bitmap: []byte{0xff, 0xff}, Serial: serial}
			there := record.Ready{Term: 1, Server: by, Bitmap: []byte{0xff, 0xff}, Serial: serial}
			c.write(store.KV{Key: "zone/ready/" + id + "/" + by.String(), Value: must(record.Encode(&ready))},
				store.KV{Key: "zone/ready/" + record.ID{}.String() + "/" + by.String(), Value: must(record.Encode(&there))})
		}
		time.Sleep(250 * time.Millisecond)
	}
	if s := c.ring(0, "net").State; s != "prepared" {
		t.Errorf("the ring is %s, and its host has not confirmed", s)
	}
}

func newKey() (ed25519.PublicKey, ed25519.PrivateKey, error) { return ed25519.GenerateKey(rand.Reader) }

// Of a block that is given to two hosts, which only a lying store can bring about, they use different IDs.
func TestBlockTwice(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, record.Zone)
	c.group("net", quick)
	var ids []uint64
	for _, name := range []string{"a", "b"} {
		p := c.join(name, true).up().follow("net")
		c.eventually("seals", func() bool { return p.seals(record.Zone) == 1 })
		for range 2 {
			ids = append(ids, must(p.c.NeedIDs(p.group(), 4))...)
		}
	}
	for i := range ids {
		ids[i] &= 1<<32 - 1
	}
	slices.Sort(ids)
	if len(slices.Compact(ids)) != 16 {
		t.Errorf("numbers %x", ids)
	}
}

// A backup from before servers were added is restored. Hosts, which know the later delegations, take the new
// term's, whose serial is lower.
func TestBackupBeforeServers(t *testing.T) {
	t.Parallel()
	c, _, p := sealing(t)
	old := c.st.Snapshot()
	one := c.instance()
	for _, who := range [][]int{{0, one}, {0}, {0, one}, {0}} {
		if err := c.delegate(record.Zone, 0, who...); err != nil {
			t.Fatal(err)
		}
	}
	c.eventually("all know", func() bool {
		r := c.ring(0, "net")
		return r.State == "steady" && len(r.Waiting) == 0 && p.seals(record.Zone) > 1
	})
	c.st.Restore(old)
	c.eventually("read-only", func() bool { return c.readOnly(0) != "" })
	c.deleg[record.Zone] = old["zone/delegation"].Value
	last := p.seals(record.Zone)
	if err := c.servers[0].RaiseTerm(t.Context(), record.Zone, "test", server.TermRequest{Level: "zone", Delegation: c.secondTerm(), Last: last}); err != nil {
		t.Fatal(err)
	}
	c.eventually("the host goes on", func() bool { return p.seals(record.Zone) == last+16 })
}

// One backup is restored twice, and the server's directory is lost in between, so that the second time nothing
// says which KEK's number came out the first time. Hosts take the new term's KEK all the same.
func TestRestoredTwice(t *testing.T) {
	t.Parallel()
	c, _, p := sealing(t)
	c.eventually("a copy", func() bool { _, err := os.Stat(server.CopyFile(c.servers[0].dir, record.Zone)); return err == nil })
	old := c.st.Snapshot()
	for term := uint32(2); term <= 3; term++ {
		c.servers[0].stop()
		c.servers[0].dir = t.TempDir()
		c.st.Restore(old)
		c.start(0)
		d := must(record.Sign(&record.Delegation{Level: record.Zone, Serial: uint64(term), Term: term, Instances: c.instances(record.Zone), MinReader: 1}, c.id, c.roots[record.Zone]))
		last := p.seals(record.Zone)
		if err := c.servers[0].RaiseTerm(t.Context(), record.Zone, "test", server.TermRequest{Level: "zone", Delegation: d, Last: last}); err != nil {
			t.Fatal(err)
		}
		c.eventually("the host goes on", func() bool { return p.seals(record.Zone) == last+16 })
	}
}

// The store says that servers are elsewhere. Hosts keep to the addresses that the servers announced.
func TestForgedAddress(t *testing.T) {
	t.Parallel()
	c, a, _ := sealing(t)
	at := a.agent.Status().Servers
	key := "server/" + c.keys[0][record.Zone].ID.String()
	c.eventually("announced", func() bool { return c.st.Snapshot()[key].Mod != 0 })
	real := c.st.Snapshot()[key].Value
	for _, v := range [][]byte{[]byte(`{"name":"s0","addr":"192.0.2.1:1"}`), []byte("{\"name\":\"s0\",\"addr\":\"\\u001b[2J\"}"), bytes.Replace(real, []byte("127.0.0.1"), []byte("127.0.0.2"), 1), nil} {
		c.write(store.KV{Key: key, Value: v})
		time.Sleep(200 * time.Millisecond)
		if l := a.agent.Status().Servers; !slices.Equal(l, at) {
			t.Errorf("%q: the host looks for servers at %v", v, l)
		}
		// Those that join or come back.
		if s := c.joinBy(c.invite(0, false), fmt.Sprint("x", len(v))); s != http.StatusOK {
			t.Errorf("%q: a host that joins: %d", v, s)
		}
	}
}
