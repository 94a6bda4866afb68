// Package mem is a store in memory, for tests: they can stop it before and
// after each transaction, set it back, and show each server another one.
package mem

import (
	"context"
	"errors"
	"maps"
	"sort"
	"strings"
	"sync"

	"libeesp/control/store"
)

// Store is a store in memory.
type Store struct {
	mu      sync.Mutex
	id      uint64
	rev     int64
	kv      map[string]store.KV
	watches map[*watch]bool
	commits int
	fail    func(n int, t store.Txn, do func()) error
}

type watch struct {
	prefix string
	ch     chan []store.KV
}

// New returns an empty store.
func New() *Store {
	return &Store{id: 1, rev: 1, kv: map[string]store.KV{}, watches: map[*watch]bool{}}
}

// ErrLost is the error of a transaction whose outcome is unknown.
var ErrLost = errors.New("connection lost")

// Fail lets f decide about transactions, numbered from 1. It may call do to commit one. The writer gets its
// error.
func (s *Store) Fail(f func(n int, t store.Txn, do func()) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = f
}

// Commits returns how many transactions were committed.
func (s *Store) Commits() int { s.mu.Lock(); defer s.mu.Unlock(); return s.commits }

// Snapshot returns a copy of the content, for Restore.
func (s *Store) Snapshot() map[string]store.KV {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.kv)
}

// Restore replaces the content by a snapshot, without telling the servers.
func (s *Store) Restore(kv map[string]store.KV) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kv = maps.Clone(kv)
	for _, v := range kv { // also if it is of another store
		s.rev = max(s.rev, v.Mod)
	}
	s.breakWatches()
}

// Break ends all watches.
func (s *Store) Break() { s.mu.Lock(); defer s.mu.Unlock(); s.breakWatches() }

func (s *Store) breakWatches() {
	for w := range s.watches {
		close(w.ch)
		delete(s.watches, w)
	}
}

// Identity returns the store's number.
func (s *Store) Identity() uint64 { return s.id }

// List returns all keys with a prefix.
func (s *Store) List(_ context.Context, prefix string) (l []store.KV, rev int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, v := range s.kv {
		if strings.HasPrefix(k, prefix) {
			l = append(l, v)
		}
	}
	sort.Slice(l, func(i, j int) bool { return l[i].Key < l[j].Key })
	return l, s.rev, nil
}

// Get returns a key.
func (s *Store) Get(_ context.Context, key string) (store.KV, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kv[key], nil
}

// Commit writes, if its conditions hold.
func (s *Store) Commit(_ context.Context, t store.Txn) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range t.If {
		if s.kv[c.Key].Mod != c.Mod {
			return 0, store.ErrConflict
		}
	}
	do := func() {
		s.rev++
		s.commits++
		var evs []store.KV
		for _, p := range t.Put {
			p.Mod = s.rev
			s.kv[p.Key] = p
			evs = append(evs, p)
		}
		for _, k := range t.Del {
			delete(s.kv, k)
			evs = append(evs, store.KV{Key: k})
		}
		for w := range s.watches {
			var l []store.KV
			for _, e := range evs {
				if strings.HasPrefix(e.Key, w.prefix) {
					l = append(l, e)
				}
			}
			if len(l) == 0 {
				continue
			}
			select {
			case w.ch <- l:
			default: // too slow
				close(w.ch)
				delete(s.watches, w)
			}
		}
	}
	if s.fail != nil {
		if err := s.fail(s.commits+1, t, do); err != nil {
			return 0, err
		}
		return s.rev, nil
	}
	do()
	return s.rev, nil
}

// Watch returns changes from now on; if the store is ahead of after, it closes at once.
func (s *Store) Watch(ctx context.Context, prefix string, after int64) <-chan []store.KV {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &watch{prefix, make(chan []store.KV, 1024)}
	if after != s.rev {
		close(w.ch)
		return w.ch
	}
	s.watches[w] = true
	context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.watches[w] {
			close(w.ch)
			delete(s.watches, w)
		}
	})
	return w.ch
}

// Close does nothing: other servers of a test use the store too.
func (s *Store) Close() error { return nil }
