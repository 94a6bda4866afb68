package server

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"libeesp/control/record"
	"libeesp/control/store"
	"libeesp/control/store/mem"
)

// fuzzed is a level with a group, a ring and a member, and what is in its store.
func fuzzed(f testing.TB) (*Level, []store.KV) {
	f.Helper()
	cluster := record.ID{1}
	rootPub, root, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	_, sign, _ := ed25519.GenerateKey(rand.Reader)
	hk, err := record.NewHPKEKey()
	if err != nil {
		f.Fatal(err)
	}
	in := record.Instance{ID: record.ID{2}, Name: "s", HPKE: hk.PublicKey().Bytes(), Roles: 7}
	copy(in.Sign[:], sign.Public().(ed25519.PublicKey))
	deleg, err := record.Sign(&record.Delegation{Serial: 1, Term: 1, Instances: []record.Instance{in}, MinReader: 1}, cluster, root)
	if err != nil {
		f.Fatal(err)
	}
	st := mem.New()
	s := New(Config{Cluster: cluster, Name: "s", Store: st, Dir: f.TempDir(), Levels: map[record.Level]LevelConfig{
		record.Zone: {Root: rootPub, Keys: Keys{ID: in.ID, Sign: sign, HPKE: hk}, Delegation: deleg}}})
	if err := s.Begin(f.Context()); err != nil {
		f.Fatal(err)
	}
	if _, err := s.CreateGroup(f.Context(), "test", GroupRequest{Name: "net", V: 1}); err != nil {
		f.Fatal(err)
	}
	l := s.Level(record.Zone)
	if _, err := l.commit(f.Context(), func() (*change, error) {
		m := &record.Member{ID: record.ID{3}, Name: "a", SPKI: record.Hash{4}, State: record.MemberActive}
		return &change{head: record.Head{Change: record.ChangeAdmit}, members: []*record.Member{m}}, nil
	}); err != nil {
		f.Fatal(err)
	}
	for id := range l.rings {
		kv, err := l.prove(&record.Ready{Ring: id, Term: 1, Step: 1, Server: in.ID, Bitmap: []byte{1}})
		if err != nil {
			f.Fatal(err)
		}
		if _, err := st.Commit(f.Context(), store.Txn{Put: []store.KV{kv}}); err != nil {
			f.Fatal(err)
		}
	}
	kvs, _, err := st.List(f.Context(), "zone/")
	if err != nil {
		f.Fatal(err)
	}
	return l, kvs
}

// The disk was full when a delegation came: the server writes again when there is room, unless it has another reason
// not to.
func TestDelegationNotKept(t *testing.T) {
	l, kvs := fuzzed(t)
	for _, other := range []string{"", "another"} {
		dir := filepath.Join(t.TempDir(), "later")
		st := mem.New()
		if _, err := st.Commit(t.Context(), store.Txn{Put: kvs}); err != nil {
			t.Fatal(err)
		}
		o := OpenLevel(record.Zone, l.cluster, l.root, l.keys, st, filepath.Join(dir, "published"), time.Now)
		if _, err := o.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		if o.Broken() == "" {
			t.Error("a server that cannot keep its delegation writes")
		}
		if other != "" {
			o.breakOff(errors.New(other))
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if b := o.Broken(); b != other {
			t.Errorf("with room again: %q, not %q", b, other)
		}
		if _, serial, err := o.readDelegated(); other == "" && (err != nil || serial != 1) {
			t.Errorf("kept: %d, %v", serial, err)
		}
	}
}

// A local file cannot be read for some time, or was damaged: the server writes again when it can, if it is not behind
// what the file says.
func TestPublishedNotRead(t *testing.T) {
	l, _ := fuzzed(t)
	st := l.st.(*mem.Store)
	for _, file := range []string{l.state, l.delegatedFile()} {
		for _, behind := range []bool{false, true} {
			dir := t.TempDir()
			o := OpenLevel(record.Zone, l.cluster, l.root, l.keys, st, filepath.Join(dir, filepath.Base(l.state)), time.Now)
			good, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if behind { // a higher serial
				good[map[int]int{92: 27, 20: 19}[len(good)]]++
			}
			at := filepath.Join(dir, filepath.Base(file))
			damage := []func() error{func() error { return os.Mkdir(at, 0o700) }, func() error { return os.WriteFile(at, good[:9], 0o600) }}
			for _, d := range damage {
				if err := d(); err != nil {
					t.Fatal(err)
				}
				if _, err := o.Sync(t.Context()); err != nil {
					t.Fatal(err)
				}
				for range 2 {
					if b := o.Broken(); !strings.Contains(b, filepath.Base(file)) || !strings.Contains(b, "writes again") {
						t.Errorf("%s: %q", file, b)
					}
				}
				changed := o.Changed()
				if err := os.RemoveAll(at); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(at, good, 0o600); err != nil {
					t.Fatal(err)
				}
				b := o.Broken()
				if behind {
					if !strings.Contains(b, "eespctl restore") {
						t.Errorf("%s: behind what it published: %q", file, b)
					}
					break // until a restore
				}
				if b != "" {
					t.Errorf("%s, readable again: %q", file, b)
				}
				select {
				case <-changed:
				default:
					t.Error("hosts are not told")
				}
				os.Remove(at)
			}
		}
	}
}

// No block of IDs is drawn while the disk is full: it would be lost.
func TestDrawOnFullDisk(t *testing.T) {
	st := mem.New()
	s := New(Config{Store: st, Dir: filepath.Join(t.TempDir(), "none")})
	if _, err := s.advance(t.Context(), record.KindSSI, blockBatch, maxSSI); err == nil {
		t.Error("drawn, and not kept")
	}
	if kvs, _, err := st.List(t.Context(), "alloc/"); err != nil || len(kvs) != 0 {
		t.Errorf("lost: %v, %v", kvs, err)
	}
}

// A key of the store with anything as its value. A server that has not taken it for what it was has stopped
// writing, or it is as if the key were not there.
func FuzzStore(f *testing.F) {
	l, kvs := fuzzed(f)
	if l.Broken() != "" {
		f.Fatal(l.Broken())
	}
	for _, kv := range kvs {
		f.Add(kv.Key, kv.Value, false)
		f.Add(kv.Key, kv.Value[:len(kv.Value)-1], false)
		f.Add(kv.Key, []byte(nil), true)
		f.Add(strings.ToUpper(kv.Key), kv.Value, false)
		f.Add(kv.Key+"/", kv.Value, false)
	}
	f.Add("zone/", []byte(nil), false)
	f.Add("zone/\xff\n", []byte("EESP"), false)
	st := l.st.(*mem.Store)
	good, state := st.Snapshot(), filepath.Join(f.TempDir(), "published")
	f.Fuzz(func(t *testing.T, key string, value []byte, gone bool) {
		kv := map[string]store.KV{}
		for k, v := range good {
			kv[k] = v
		}
		if kv[key] = (store.KV{Key: key, Value: value, Mod: 1 << 40}); gone {
			delete(kv, key)
		}
		st.Restore(kv)
		o := OpenLevel(l.Level, l.cluster, l.root, l.keys, st, state, time.Now)
		o.Sync(context.Background())
		same := string(good[key].Value) == string(value) && !gone
		_, known := good[key]
		ready := strings.HasPrefix(key, "zone/ready/")
		newest := key == logKey("zone/", l.head.Serial) && gone // the head is the same entry
		if o.Broken() == "" && known && !same && !ready && !newest {
			t.Fatalf("%q was changed, and the server goes on", key)
		}
		if ready && !same && len(o.ready) > 1 {
			t.Fatalf("%q counts", key)
		}
		if o.Broken() == "" && (len(o.rings) != 1 || len(o.members) != 1 || len(o.groups) != 1 || len(o.escrows) != 1 || o.head == nil || o.head.hash != l.head.hash) {
			t.Fatalf("%q: another level", key)
		}
	})
}

// A bit of each octet of each record in the store is flipped, and each record is cut off there: the server writes
// nothing more, or does as if the record were not there.
func TestEveryOctetOfTheStore(t *testing.T) {
	l, kvs := fuzzed(t)
	st := l.st.(*mem.Store)
	good, dir := st.Snapshot(), t.TempDir()
	for _, kv := range kvs {
		for at := range kv.Value {
			flipped := bytes.Clone(kv.Value)
			flipped[at] ^= 1 << (at % 8)
			for _, v := range [][]byte{flipped, kv.Value[:at]} {
				bad := maps.Clone(good)
				bad[kv.Key] = store.KV{Key: kv.Key, Value: v, Mod: kv.Mod}
				st.Restore(bad)
				o := OpenLevel(l.Level, l.cluster, l.root, l.keys, st, filepath.Join(dir, "published"), time.Now)
				o.Sync(t.Context())
				if o.Broken() == "" && (!strings.HasPrefix(kv.Key, "zone/ready/") || len(o.ready) != 0) {
					t.Errorf("%s: octet %d", kv.Key, at)
				}
			}
		}
	}
}

// After the end of a stream nothing is queued, so that no record comes without what was to come before it.
func TestNothingBehindTheEnd(t *testing.T) {
	st := &stream{out: make(chan []byte, 100), done: make(chan struct{})}
	st.send([]byte("before"), nil)
	st.bye(record.ByeCloned, 0, "")
	for range 50 {
		st.send([]byte("behind"), nil)
	}
	if n := len(st.out); n != 1 {
		t.Errorf("%d records are queued behind the end", n-1)
	}
}
