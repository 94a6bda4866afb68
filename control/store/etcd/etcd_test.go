package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"libeesp/control/store"
)

func TestEmbedded(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	dir := t.TempDir()
	s, err := Embed(ctx, Embedded{Dir: dir, Name: "a"})
	if err != nil {
		t.Fatal(err)
	}
	put := func(mod int64, v string) (int64, error) {
		return s.Commit(ctx, store.Txn{If: []store.Cond{{Key: "l/head", Mod: mod}}, Put: []store.KV{{Key: "l/head", Value: []byte(v)}, {Key: "l/log/" + v, Value: []byte(v)}}})
	}
	_, rev, err := s.List(ctx, "l/")
	if err != nil {
		t.Fatal(err)
	}
	w := s.Watch(ctx, "l/", rev)
	first, err := put(0, "1")
	if err != nil {
		t.Fatal(err)
	}
	// Of two that saw the same head, one wins.
	if _, err := put(0, "x"); !errors.Is(err, store.ErrConflict) {
		t.Errorf("a second first: %v", err)
	}
	second, err := put(first, "2")
	if err != nil || second <= first {
		t.Fatalf("%d, %v", second, err)
	}
	if _, err := put(first, "x"); !errors.Is(err, store.ErrConflict) {
		t.Errorf("behind the head: %v", err)
	}
	if _, err := s.Commit(ctx, store.Txn{Del: []string{"l/log/1"}}); err != nil {
		t.Fatal(err)
	}
	want := []string{"l/head=1", "l/log/1=1", "l/head=2", "l/log/2=2", "l/log/1="}
	var got []string
	for len(got) < len(want) {
		select {
		case evs, ok := <-w:
			if !ok {
				t.Fatalf("watch closed after %v", got)
			}
			for _, e := range evs {
				got = append(got, e.Key+"="+string(e.Value))
			}
		case <-ctx.Done():
			t.Fatalf("watched %v", got)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("watched %v, not %v", got, want)
	}
	// Events behind a compaction are lost: the watch ends, and who watches lists again.
	if _, err := s.c.Compact(ctx, second); err != nil {
		t.Fatal(err)
	}
	gap := s.Watch(ctx, "l/", first-1)
	select {
	case evs, ok := <-gap:
		if ok {
			t.Errorf("a watch from before a compaction brings %v", evs)
		}
	case <-ctx.Done():
		t.Error("a watch from before a compaction waits for ever")
	}
	id := s.Identity()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// What was committed is there after a restart, in the same cluster.
	s, err = Embed(ctx, Embedded{Dir: dir, Name: "a"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if kv, err := s.Get(ctx, "l/head"); err != nil || string(kv.Value) != "2" || kv.Mod != second || s.Identity() != id {
		t.Errorf("after a restart: %+v, %v", kv, err)
	}
	if kv, err := s.Get(ctx, "l/log/1"); err != nil || kv.Mod != 0 {
		t.Errorf("deleted: %+v, %v", kv, err)
	}
	// A new term writes all rings of a level at once.
	var all store.Txn
	for i := range 1300 {
		all.Put = append(all.Put, store.KV{Key: fmt.Sprint("all/", i), Value: make([]byte, 8<<10)})
	}
	if _, err := s.Commit(ctx, all); err != nil {
		t.Errorf("%d records at once: %v", len(all.Put), err)
	}
	for i := len(all.Put); i <= maxOps; i++ {
		all.Put = append(all.Put, store.KV{Key: fmt.Sprint("all/", i)})
	}
	if _, err := s.Commit(ctx, all); err == nil || !strings.Contains(err.Error(), "--max-txn-ops") {
		t.Errorf("too many records at once: %v", err)
	}
}
