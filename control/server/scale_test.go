package server

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"libeesp/control/record"
	"libeesp/control/store"
)

// large is a server with a level of n active members.
func large(t testing.TB, n int) (*Server, *Level) {
	t.Helper()
	l, _ := fuzzed(t)
	s := New(Config{Cluster: l.cluster, Name: "s", Store: l.st, Dir: t.TempDir(), Levels: map[record.Level]LevelConfig{}})
	s.levels[record.Zone], s.ID = l, l.keys.ID
	for at := 1; at < n; at += perEntry {
		if _, err := l.commit(t.Context(), func() (*change, error) {
			c := &change{head: record.Head{Change: record.ChangeAdmit}}
			for i := at; i < min(n, at+perEntry); i++ {
				c.members = append(c.members, numbered(uint32(i)))
			}
			return c, nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if len(l.members) != n {
		t.Fatal(len(l.members))
	}
	return s, l
}

// numbered is a member; fuzzed has number 0.
func numbered(n uint32) *record.Member {
	m := &record.Member{Number: n, Name: fmt.Sprint("m", n), State: record.MemberActive}
	binary.BigEndian.PutUint32(m.ID[:], n*2654435761+7) // in no order
	binary.BigEndian.PutUint32(m.SPKI[:], n)
	return m
}

// The roster that is kept up to date is that of all members, at each change, also for members that are about to
// change.
func TestRoster(t *testing.T) {
	_, l := large(t, 200)
	naive := func(with map[record.ID]*record.Member) record.Hash {
		rows := map[uint32]record.Hash{}
		for id, m := range l.members {
			if with[id] == nil {
				rows[m.rec.Number] = m.hash
			}
		}
		for _, m := range with {
			raw, err := record.Sign(m, l.cluster, l.keys.Sign)
			if err != nil {
				t.Fatal(err)
			}
			rows[m.Number] = record.HashOf(raw)
		}
		h := sha256.New()
		for n := range uint32(1000) {
			if x, is := rows[n]; is {
				h.Write(x[:])
			}
		}
		return record.Hash(h.Sum(nil))
	}
	s := &Server{levels: map[record.Level]*Level{record.Zone: l}}
	rnd := rand.New(rand.NewPCG(1, 2))
	for try := range 500 {
		with := map[record.ID]*record.Member{}
		for range rnd.IntN(4) {
			m := numbered(uint32(1 + rnd.IntN(300)))
			m.Reason = fmt.Sprint(try)
			with[m.ID] = m
		}
		if l.rosterDigest(with) != naive(with) || l.rosterDigest(nil) != naive(nil) {
			t.Fatalf("change %d: another digest", try)
		}
		var kvs []store.KV
		for id, m := range with {
			kv := store.KV{Key: "member/" + id.String()}
			if rnd.IntN(5) > 0 { // else the store deletes it
				raw, err := record.Sign(m, l.cluster, l.keys.Sign)
				if err != nil {
					t.Fatal(err)
				}
				kv.Value, kv.Mod = raw, int64(1e6+try)
			}
			kvs = append(kvs, kv)
		}
		for _, kv := range kvs {
			if err := l.applyOne(kv.Key, kv); err != nil {
				t.Fatal(err)
			}
		}
		m := numbered(uint32(1 + rnd.IntN(300)))
		id, n, _ := s.find(m.SPKI)
		if x := l.members[m.ID]; x == nil && !id.IsZero() || x != nil && (id != m.ID || n != m.Number) {
			t.Fatalf("change %d: member %d is %v", try, m.Number, id)
		}
	}
	if l.rosterDigest(nil) != naive(nil) {
		t.Error("another digest")
	}
}

// raced is a store at which another server is faster, once, and which counts lists.
type raced struct {
	store.Store
	first func()
	lists atomic.Int32
}

func (r *raced) Commit(ctx context.Context, t store.Txn) (int64, error) {
	if f := r.first; f != nil {
		r.first = nil
		f()
	}
	return r.Store.Commit(ctx, t)
}

func (r *raced) List(ctx context.Context, prefix string) ([]store.KV, int64, error) {
	r.lists.Add(1)
	return r.Store.List(ctx, prefix)
}

// A server that is overtaken by another one takes what its watch brings, and does not list the level again.
func TestOvertaken(t *testing.T) {
	l, _ := fuzzed(t)
	st := &raced{Store: l.st}
	o := OpenLevel(record.Zone, l.cluster, l.root, l.keys, st, filepath.Join(t.TempDir(), "published"), time.Now)
	ctx, cancel := context.WithCancel(t.Context())
	watched := make(chan struct{})
	go func() { defer close(watched); o.Watch(ctx) }()
	defer func() { cancel(); <-watched }()
	admit := func(l *Level, n uint32) {
		t.Helper()
		if _, err := l.commit(t.Context(), func() (*change, error) {
			if l.members[numbered(n).ID] != nil {
				t.Errorf("member %d is there already", n)
			}
			return &change{head: record.Head{Change: record.ChangeAdmit}, members: []*record.Member{numbered(n)}}, nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	for o.Broken() != "" || func() bool { o.mu.Lock(); defer o.mu.Unlock(); return o.head == nil }() {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(20 * time.Millisecond) // the watch begins
	if _, err := l.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := st.lists.Load()
	for n := uint32(1); n < 9; n += 2 {
		st.first = func() {
			admit(l, n)
		}
		admit(o, n+1)
		if _, err := l.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := st.lists.Load() - before; n > 1 { // one: a busy machine
		t.Errorf("%d lists", n)
	}
	if o.Broken() != "" || len(o.members) != 9 {
		t.Errorf("%d members; %s", len(o.members), o.Broken())
	}
}

// What grows with the number of members.
func BenchmarkMembers(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		s, l := large(b, n)
		o := OpenLevel(record.Zone, l.cluster, l.root, l.keys, l.st, filepath.Join(b.TempDir(), "published"), time.Now)
		for _, x := range []struct {
			name string
			f    func()
		}{
			{"list again", func() { o.Sync(b.Context()) }},
			{"one member", func() {
				l.commit(b.Context(), func() (*change, error) {
					return &change{head: record.Head{Change: record.ChangeAdmit}, members: []*record.Member{numbered(1)}}, nil
				})
			}},
			{"whose key", func() { s.find(record.Hash{9}) }},
			{"what an agent lacks", func() { l.lacks(record.ID{3}, l.head.known(), true) }},
			{"pass", func() { s.pass(b.Context()) }},
			{"status", func() { s.Status() }},
			{"sign again", func() { l.mu.Lock(); l.signAgain(&l.deleg.rec, "", ""); l.mu.Unlock() }},
			{"copy", func() { s.copyLevel(b.Context(), l, map[record.Level]record.Hash{}) }},
		} {
			b.Run(fmt.Sprintf("%s/%d", x.name, n), func(b *testing.B) {
				for b.Loop() {
					x.f()
				}
			})
		}
	}
}
