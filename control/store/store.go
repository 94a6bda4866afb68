// Package store is the interface of the servers' store of records: keys with
// revisions, transactions that compare revisions, lists and watches. Package
// etcd implements it; mem is for tests.
package store

import (
	"context"
	"errors"
)

// ErrConflict is the error if a condition of a transaction does not hold, and ErrRefused if the store takes no such
// transaction, or not from this client; nothing was written. After any other error of Commit it is not known whether
// something was written: read it back.
var (
	ErrConflict = errors.New("the store has moved on")
	ErrRefused  = errors.New("the store refused it")
)

// KV is a key with its value. Mod is the revision that wrote it; 0, from Watch: the key was deleted.
type KV struct {
	Key   string
	Value []byte
	Mod   int64
}

// Cond is the condition that a key was last written at a revision; 0: that there is no such key.
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

// Store is a store. It is not trusted: records are verified by their signatures.
type Store interface {
	// Identity returns a number by which another store can be told from this one.
	Identity() uint64
	// List returns all keys with a prefix, as of one revision.
	List(ctx context.Context, prefix string) ([]KV, int64, error)
	// Get returns one key, with a linearizable read; Mod 0: there is none.
	Get(ctx context.Context, key string) (KV, error)
	// Commit returns the revision it wrote.
	Commit(ctx context.Context, t Txn) (int64, error)
	// Watch returns changes after a revision, those of one transaction together. It closes the channel
	// after a gap: then list, compare, and watch again.
	Watch(ctx context.Context, prefix string, after int64) <-chan []KV
	Close() error
}
