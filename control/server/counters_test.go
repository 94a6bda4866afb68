package server

import (
	"encoding/binary"
	"fmt"
	"math"
	"testing"
	"time"

	"libeesp/control/record"
	"libeesp/control/store"
)

// A counter in the store that is so high that the next would begin at 0 again gives no ID twice.
func TestCounterWraps(t *testing.T) {
	for _, high := range []uint64{math.MaxUint64, math.MaxUint64 - blockBatch + 1, math.MaxUint64 - 1<<20} {
		l, _ := fuzzed(t)
		s := New(Config{Store: l.st, Dir: t.TempDir(), Levels: map[record.Level]LevelConfig{}})
		first, err := s.alloc(t.Context(), record.KindConnection, 1)
		if err != nil {
			t.Fatal(err)
		}
		raw := binary.BigEndian.AppendUint64(nil, high)
		if _, err := l.st.Commit(t.Context(), store.Txn{Put: []store.KV{{Key: fmt.Sprintf("alloc/%d", record.KindConnection), Value: raw}}}); err != nil {
			t.Fatal(err)
		}
		s.blocks = map[record.IDKind][]uint32{}
		for range 3 {
			if _, err := s.advance(t.Context(), record.KindConnection, blockBatch, maxConn); err == nil {
				t.Errorf("counter %x: blocks are given out", high)
			}
			if have := s.counters[record.KindConnection]; have < uint64(first[0].Block)+blockBatch {
				t.Errorf("counter %x: this server's own went back to %d", high, have)
			}
		}
	}
}

// A row opens if a server of any of this server's levels has signed it, not only of the first.
func TestRowOfAnotherLevel(t *testing.T) {
	zone, _ := fuzzed(t)
	user, _ := fuzzed(t)
	of := func(l map[record.Level]*Level) *Server {
		return &Server{Config: Config{Cluster: record.ID{1}}, levels: l}
	}
	writer := of(map[record.Level]*Level{record.User: user})
	row := writer.sealRow("invite/x", []byte("content"))
	reader := of(map[record.Level]*Level{record.Zone: zone, record.User: user})
	if got, err := reader.openRow("invite/x", row, record.RoleAdmit); err != nil || string(got) != "content" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := reader.openRow("invite/y", row, record.RoleAdmit); err == nil {
		t.Error("a row of another key opens")
	}
	if _, err := of(map[record.Level]*Level{record.Zone: zone}).openRow("invite/x", row, record.RoleAdmit); err == nil {
		t.Error("a row of a server of another level opens")
	}
}

// What another server wrote of its presence is as old as what it had read of this one's, by this one's own clock. What
// it had read of another start says nothing.
func TestRecent(t *testing.T) {
	now := time.Now()
	l := &Level{keys: Keys{ID: record.ID{1}}, beats: []beaten{{5, now.Add(-presenceStale - time.Second)}, {8, now.Add(-time.Second)}}}
	for _, x := range []struct {
		heard []record.Heard
		want  bool
	}{
		{nil, false},
		{[]record.Heard{{Server: record.ID{2}, Serial: 8}}, false},
		{[]record.Heard{{Server: record.ID{1}, Serial: 4}}, false},
		{[]record.Heard{{Server: record.ID{1}, Serial: 5}}, false},
		{[]record.Heard{{Server: record.ID{1}, Serial: 7}}, false},
		{[]record.Heard{{Server: record.ID{1}, Serial: 8}}, true},
		{[]record.Heard{{Server: record.ID{2}, Serial: 1}, {Server: record.ID{1}, Serial: 9}}, true},
	} {
		if got := l.recent(&record.Ready{Server: record.ID{2}, Heard: x.heard}, now); got != x.want {
			t.Errorf("%v: %v", x.heard, got)
		}
	}
}
