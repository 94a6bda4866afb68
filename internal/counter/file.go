package counter

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"syscall"

	"libeesp/internal/status"
)

// A mark file: two records of 32 octets, written alternately, so that a crash
// in the middle of a write leaves the other one whole. Each: "EESPCTR1",
// epoch(2), engine bits(1), 0(1), engine(4), mark(8), CRC-32 of all that(4), 0(4).
// Every counter below the mark may have been used. An exclusive lock on the
// file keeps a second process from using it.
type markFile struct {
	f       *os.File
	bits    uint8
	engine  uint32
	slot    int64
	lastErr error
}

const (
	markMagic  = "EESPCTR1"
	markRecord = 32
)

func openMark(path string, epoch uint16, engineBits uint8, engine uint32) (*markFile, uint64, error) {
	fail := func(err error) (*markFile, uint64, error) {
		return nil, 0, fmt.Errorf("%w: %s: %v", status.ErrState, path, err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return fail(err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return fail(errors.New("in use by another sender"))
	}
	m := &markFile{f: f, bits: engineBits, engine: engine}
	var b [2*markRecord + 1]byte
	n, err := f.ReadAt(b[:], 0)
	if err != nil && err != io.EOF {
		f.Close()
		return fail(err)
	}
	if n == 0 { // new: the directory entry must last as well
		if err := syncDir(path); err != nil {
			f.Close()
			return fail(err)
		}
		return m, 0, nil
	}
	if n > 2*markRecord {
		f.Close()
		return fail(errors.New("not a counter file"))
	}
	mark, found, at := uint64(0), false, epoch
	for s := 0; s < 2; s++ {
		r := b[s*markRecord : (s+1)*markRecord]
		if string(r[:8]) != markMagic || crc32.ChecksumIEEE(r[:24]) != binary.BigEndian.Uint32(r[24:]) {
			continue
		}
		if r[10] != engineBits || binary.BigEndian.Uint32(r[12:]) != engine {
			f.Close()
			return fail(errors.New("belongs to another engine"))
		}
		e, v := binary.BigEndian.Uint16(r[8:]), binary.BigEndian.Uint64(r[16:])
		// The record with the later epoch, then the higher mark, is the newest.
		if !found || int16(e-at) > 0 || e == at && v >= mark {
			mark, at, found = v, e, true
			m.slot = int64(1-s) * markRecord
		}
	}
	if !found {
		f.Close()
		return fail(errors.New("no intact record: cannot tell which counters were used"))
	}
	if at != epoch {
		if int16(epoch-at) < 0 {
			f.Close()
			return fail(fmt.Errorf("holds epoch %d, later than %d", at, epoch))
		}
		mark = 0
	}
	return m, mark, nil
}

func syncDir(path string) error {
	dir := "."
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == '/' {
			dir = path[:i+1]
			break
		}
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// write puts a mark on the disk and returns when it is there.
func (m *markFile) write(epoch uint16, mark uint64) error {
	var r [markRecord]byte
	copy(r[:], markMagic)
	binary.BigEndian.PutUint16(r[8:], epoch)
	r[10] = m.bits
	binary.BigEndian.PutUint32(r[12:], m.engine)
	binary.BigEndian.PutUint64(r[16:], mark)
	binary.BigEndian.PutUint32(r[24:], crc32.ChecksumIEEE(r[:24]))
	if _, m.lastErr = m.f.WriteAt(r[:], m.slot); m.lastErr != nil {
		return m.lastErr
	}
	if m.lastErr = m.f.Sync(); m.lastErr != nil {
		return m.lastErr
	}
	m.slot ^= markRecord
	return nil
}

func (m *markFile) close() { m.f.Close() }
