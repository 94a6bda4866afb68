package server

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"

	"libeesp/control/pki"
	"libeesp/control/record"
)

// The store has rows that are no records of a level's log: invites, which hosts are ready, counters of IDs. The
// store is not trusted with them either: an invite is signed, and so is who is ready (record.Ready). Of a
// counter each server knows how far it was.

// sealRow returns a row for a key of the store:
//
//	content | key ID 8 | signature 64
//
// over "eesp row v1" | cluster ID | key | 0 | content, by this server's signing key at its first level.
func (s *Server) sealRow(key string, content []byte) (row []byte) {
	s.each(func(l *Level) error {
		id := record.KeyIDOf(l.keys.Sign.Public().(ed25519.PublicKey))
		row = append(append(bytes.Clone(content), id[:]...), ed25519.Sign(l.keys.Sign, s.rowOver(key, content))...)
		return errNothing // the first level
	})
	return row
}

func (s *Server) rowOver(key string, content []byte) []byte {
	b := append([]byte("eesp row v1"), s.Cluster[:]...)
	b = append(append(b, key...), 0)
	return append(b, content...)
}

// openRow returns the content of a row that a server in force has signed for this key.
func (s *Server) openRow(key string, row []byte, role uint8) (content []byte, err error) {
	n := len(row) - 8 - ed25519.SignatureSize
	if n < 0 {
		return nil, record.ErrSignature
	}
	by := record.KeyID(row[n : n+8])
	err = record.ErrSignature
	s.each(func(l *Level) error {
		l.mu.Lock()
		in := l.deleg.rec.ByKey(by, role)
		l.mu.Unlock()
		if in != nil && ed25519.Verify(in.Sign[:], s.rowOver(key, row[:n]), row[n+8:]) {
			err = nil
			return errNothing // the others need not be asked
		}
		return nil
	})
	return row[:n], err
}

// counters is how far this server has seen the store's counters of IDs, by kind. The store could set them back,
// and give IDs twice: then nonces repeat.
type counters map[record.IDKind]uint64

const countersMagic = "EESPCNT1"

func (s *Server) countersFile() string { return filepath.Join(s.Dir, "allocated") }

func readCounters(file string) (counters, error) {
	c := counters{}
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return nil, err
	}
	if len(b) != len(countersMagic)+8*int(record.Kinds) || string(b[:len(countersMagic)]) != countersMagic {
		return nil, damaged(file)
	}
	for k := range record.Kinds {
		c[k] = binary.BigEndian.Uint64(b[len(countersMagic)+8*int(k):])
	}
	return c, nil
}

func (c counters) write(file string) error {
	b := []byte(countersMagic)
	for k := range record.Kinds {
		b = binary.BigEndian.AppendUint64(b, c[k])
	}
	return pki.WriteFile(file, b, 0o600)
}
