// Package store is the interface of the servers' store of records: keys with
// revisions, transactions that compare revisions, lists and watches. Package
// etcd implements it; mem is for tests.
package store

import (
	"context"
	"errors"
)

// ErrConflict: a transaction's condition does not hold; nothing was written.
// Any other error of Commit leaves open whether it was: read back.
var ErrConflict = errors.New("the store has moved on")

// KV is a key with its value. Mod is the revision that wrote it; 0 in an Event:
// the key is gone.
type KV struct {
	Key   string
	Value []byte
	Mod   int64
}

// Cond says that a key was last written at a revision; 0: that it is not there.
type Cond struct {
	Key string
	Mod int64
}

// Txn is a transaction.
type Txn struct {
	If  []Cond
	Put []KV // Mod is ignored
	Del []string
}

// Store is a store. It may lie: what it returns is verified by signatures.
type Store interface {
	// Identity tells this store from one that was put in its place.
	Identity() uint64
	// List returns all keys with a prefix, as of one revision.
	List(ctx context.Context, prefix string) ([]KV, int64, error)
	// Get returns one key, linearizably; Mod 0: it is not there.
	Get(ctx context.Context, key string) (KV, error)
	// Commit returns the revision it wrote.
	Commit(ctx context.Context, t Txn) (int64, error)
	// Watch returns changes behind a revision, a transaction's together, and
	// closes the channel on any gap: list, compare, watch again.
	Watch(ctx context.Context, prefix string, after int64) <-chan []KV
	Close() error
}
