package server

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"time"

	"libeesp/control/pki"
	"libeesp/control/record"
)

// An instance keeps a copy of the newest records of its levels, as they are in the store: rings are
// sealed, and their KEKs are sealed to instances. If the store is lost and there is no backup, eespctl
// rebuild makes a new store from the copy, with a delegation by the roots.

// CopyFile returns the file with an instance's copy of a level.
func CopyFile(dir string, lv record.Level) string {
	return filepath.Join(dir, "records-"+lv.String()+".json")
}

// copyEvery is the least time between two copies of a level.
const copyEvery = time.Second

func (s *Server) keepCopies(ctx context.Context) {
	last := map[record.Level]record.Hash{}
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(copyEvery):
		}
		s.each(func(l *Level) error {
			if err := s.copyLevel(ctx, l, last); err != nil && ctx.Err() == nil {
				s.Log.Warn("no copy of the newest records", "level", l.Level, "err", err)
			}
			return nil
		})
	}
}

// copyLevel writes a level's copy if its head has changed.
func (s *Server) copyLevel(ctx context.Context, l *Level, last map[record.Level]record.Hash) error {
	l.mu.Lock()
	if l.head == nil || l.broken != "" || last[l.Level] == l.head.hash {
		l.mu.Unlock()
		return nil
	}
	hash := l.head.hash
	p := l.prefix()
	rows := []BackupRow{{p + "delegation", l.deleg.raw}, {p + "head", l.head.raw}, {logKey(p, l.head.Serial), l.head.raw}}
	for id, x := range l.rings {
		rows = append(rows, BackupRow{p + "ring/" + id.String(), x.raw})
	}
	for id, x := range l.members {
		rows = append(rows, BackupRow{p + "member/" + id.String(), x.raw})
	}
	for id, x := range l.groups {
		rows = append(rows, BackupRow{p + "group/" + id.String(), x.raw})
	}
	for id, x := range l.escrows {
		rows = append(rows, BackupRow{p + "escrow/" + id.String(), x.raw})
	}
	l.mu.Unlock()
	alloc, _, err := s.Store.List(ctx, "alloc/")
	if err != nil {
		return err
	}
	for _, kv := range alloc {
		rows = append(rows, BackupRow{kv.Key, kv.Value})
	}
	b, err := json.Marshal(rows)
	if err == nil {
		err = pki.WriteFile(CopyFile(s.Dir, l.Level), b, 0o600)
	}
	if err == nil {
		last[l.Level] = hash
	}
	return err
}

// copiedRings returns the rings that this instance's copy of a level has, without their values: they tell how
// far generations and KEKs went, since a backup may be older. Without a copy there are none.
func (s *Server) copiedRings(lv record.Level) map[record.ID]record.Ring {
	rings := map[record.ID]record.Ring{}
	var l []BackupRow
	b, err := os.ReadFile(CopyFile(s.Dir, lv))
	if err == nil {
		err = json.Unmarshal(b, &l)
	}
	if err != nil && !os.IsNotExist(err) {
		s.Log.Warn("the copy of the newest records is not readable", "level", lv, "err", err)
	}
	for _, row := range l {
		var r record.Ring
		if strings.HasPrefix(row.Key, lv.String()+"/ring/") && record.Decode(row.Value, &r) == nil {
			rings[r.ID] = r
		}
	}
	return rings
}

// ReadCopies reads an instance's copies of all levels. Of the allocators' numbers it returns the
// largest in all copies.
func ReadCopies(dir string) (rows []BackupRow, err error) {
	alloc := map[string][]byte{}
	for lv := record.Zone; lv < record.Levels; lv++ {
		b, err := os.ReadFile(CopyFile(dir, lv))
		if os.IsNotExist(err) {
			continue
		}
		var l []BackupRow
		if err == nil {
			err = json.Unmarshal(b, &l)
		}
		if err != nil {
			return nil, err
		}
		for _, r := range l {
			if !strings.HasPrefix(r.Key, "alloc/") {
				rows = append(rows, r)
			} else if string(r.Value) > string(alloc[r.Key]) { // eight octets, big-endian
				alloc[r.Key] = r.Value
			}
		}
	}
	for k, v := range alloc {
		rows = append(rows, BackupRow{k, v})
	}
	return rows, nil
}
