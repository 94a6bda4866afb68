package counter

import (
	"encoding/binary"
	"errors"
	"hash/maphash"
	"strings"
	"syscall"

	"libeesp/internal/say"
	"libeesp/internal/sha2"
	"libeesp/internal/status"
)

// A markFile holds one record of 64 octets, twice. Both copies are written, one after
// the other, before a counter below the mark is used. If one is damaged, or a crash
// interrupted its write, the other one still has a mark above all used counters. The
// record:
//
//	"EESPCTR3", number of the write(8),
//	epoch(2), engine bits(1), direction(1), engine(4), mark(8),
//	ID(8, hashed), key(16, its name), CRC-32 of all that(4), 0(4)
//
// Counters of this ID, part and epoch below the mark may have been used. The file is
// locked against a second sender. Before each write it is checked: it must be the file at
// the path, and hold what was written last.
type markFile struct {
	path    string
	guard   *lock // on a file beside it, which exists even if the file is removed
	lock    *lock
	fd      int // -1: none
	keys    Keys
	newest  markRecord
	number  uint64           // of the last write that was begun
	records [2][markLen]byte // what the copies hold, if known
	known   [2]bool
	lastErr error
}

type markRecord struct {
	number uint64
	epoch  uint16
	part   part
	mark   uint64
	id     [8]byte
	key    [16]byte
}

const (
	markMagic = "EESPCTR3"
	oldMagic  = "EESPCTR" // then 1 or 2: formats before this one
	markLen   = 64
)

func (r *markRecord) octets() (b [markLen]byte) {
	copy(b[:], markMagic)
	binary.BigEndian.PutUint64(b[8:], r.number)
	binary.BigEndian.PutUint16(b[16:], r.epoch)
	b[18], b[19] = r.part.bits, byte(r.part.dir)
	binary.BigEndian.PutUint32(b[20:], r.part.engine)
	binary.BigEndian.PutUint64(b[24:], r.mark)
	copy(b[32:], r.id[:])
	copy(b[40:], r.key[:])
	binary.BigEndian.PutUint32(b[56:], crc32(b[:56]))
	return b
}

// crc32 is the CRC-32 of IEEE 802.3. A record is written rarely, so that there is no table.
func crc32(b []byte) uint32 {
	c := ^uint32(0)
	for _, o := range b {
		c ^= uint32(o)
		for range 8 {
			c = c>>1 ^ 0xedb88320&-(c&1)
		}
	}
	return ^c
}

// parse reads a record; false: it is not whole, or not one.
func (r *markRecord) parse(b []byte) bool {
	if len(b) < markLen || string(b[:8]) != markMagic || crc32(b[:56]) != binary.BigEndian.Uint32(b[56:]) {
		return false
	}
	r.number, r.epoch = binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint16(b[16:])
	r.part = part{Direction(b[19]), b[18], binary.BigEndian.Uint32(b[20:])}
	r.mark = binary.BigEndian.Uint64(b[24:])
	copy(r.id[:], b[32:])
	copy(r.key[:], b[40:])
	return true
}

// pwrite and fsync are replaced by tests.
var (
	pwrite = syscall.Pwrite
	fsync  = syscall.Fsync
)

// openMark opens a sender's file, or makes it, and returns the mark in it. The error is
// ErrState or ErrNoKey.
func openMark(name string, c *Config, keys Keys) (*markFile, uint64, error) {
	m := &markFile{path: c.Path, fd: -1, keys: keys}
	fail := func(err error) (*markFile, uint64, error) {
		m.close()
		return nil, 0, say.Errorf("%w: %s: %v", status.ErrState, c.Path, err)
	}
	if strings.IndexByte(c.Path, 0) >= 0 {
		return fail(errors.New("a zero octet in the path"))
	}
	space, _ := idOf(name)
	mine := markRecord{epoch: c.Epoch, part: part{c.Direction, c.EngineBits, c.Engine}}
	hash := sha2.Sum256([]byte("eesp state " + space))
	copy(mine.id[:], hash[:])
	if keys != nil {
		var ok bool
		if mine.key, ok = keys.InUse(); !ok {
			return nil, 0, say.Errorf("%w: a state file is bound to a key, and the group has none to seal with yet", status.ErrNoKey)
		}
	}
	// If the file of a running sender were removed, a second sender would make a new one
	// and begin with the same counters: the guard prevents that. In a directory where we
	// cannot make files, the guard is not needed: no process of our user can remove one.
	var s syscall.Stat_t
	there := syscall.Lstat(c.Path, &s) == nil
	if err := ours(&s); there && err != nil {
		return fail(err)
	}
	guard := c.Path + ".lock"
	l, err := lockFile(guard, syscall.O_RDWR|syscall.O_CREAT, syscall.LOCK_EX)
	if err == nil {
		l.path, m.guard = guard, l
	} else if !there || err != syscall.EACCES && err != syscall.EROFS {
		return fail(say.Errorf("its .lock: %w", err))
	}
	for {
		l, err := lockFile(c.Path, syscall.O_RDWR, syscall.LOCK_EX)
		if err == nil {
			m.lock = l
			break
		}
		if err != syscall.ENOENT {
			return fail(err)
		}
		if err := m.create(mine); err != nil && err != syscall.EEXIST {
			return fail(err)
		}
	}
	if err := m.open(); err != nil {
		return fail(err)
	}
	b, err := m.read()
	if err != nil {
		return fail(err)
	}
	mark, err := m.adopt(b, &mine)
	if err != nil {
		return fail(err)
	}
	return m, mark, nil
}

// create makes a file with a first record, all at once.
func (m *markFile) create(r markRecord) error {
	path := say.Sprintf("%s.new-%x", m.path, maphash.Bytes(maphash.MakeSeed(), nil))
	fd, err := openFile(path, syscall.O_RDWR|syscall.O_CREAT|syscall.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer syscall.Unlink(path)
	defer syscall.Close(fd)
	r.number = 1
	for i := range int64(2) {
		if err := writeRecord(fd, r.octets(), i*markLen); err != nil {
			return err
		}
	}
	if err := syscall.Link(path, m.path); err != nil {
		return err
	}
	return syncDir(m.path) // the directory entry must last as well
}

// adopt reads the records of a file, checks that they are the sender's, and returns the
// mark.
func (m *markFile) adopt(b []byte, mine *markRecord) (mark uint64, err error) {
	switch {
	case len(b) == 0:
		return 0, errors.New("empty: it cannot tell which counters were used")
	case len(b) > 2*markLen:
		return 0, errors.New("not a counter file")
	case strings.HasPrefix(string(b), oldMagic+"1"), strings.HasPrefix(string(b), oldMagic+"2"):
		return 0, errors.New("written before files had this format: take a new file and a later epoch")
	}
	found := false
	for at := 0; at < len(b); at += markLen {
		var r markRecord
		if !r.parse(b[at:]) {
			continue
		}
		switch {
		case r.id != mine.id:
			return 0, errors.New("belongs to another ID")
		case r.part != mine.part:
			return 0, errors.New("belongs to another engine, or other engine bits")
		case r.epoch > mine.epoch:
			return 0, say.Errorf("holds epoch %d, later than %d", r.epoch, mine.epoch)
		case r.epoch == mine.epoch:
			mark = max(mark, r.mark)
		}
		m.records[at/markLen], m.known[at/markLen] = r.octets(), true
		if !found || r.number > m.newest.number {
			m.newest, found = r, true
		}
	}
	m.number = m.newest.number
	if !found {
		return 0, errors.New("no intact record: cannot tell which counters were used")
	}
	if key := m.newest.key; key != mine.key {
		for _, k := range m.all() {
			if k == key {
				return mark, nil
			}
		}
		return 0, errors.New("belongs to another key: take the right file, or a new one and a later epoch")
	}
	return mark, nil
}

func (m *markFile) all() [][16]byte {
	if m.keys == nil {
		return nil
	}
	return m.keys.All()
}

// open opens the locked file, unless fd still is a descriptor of it: the program may have
// closed fd, and opened another file under the number.
func (m *markFile) open() error {
	var s syscall.Stat_t
	same := func(fd int) bool {
		if syscall.Fstat(fd, &s) != nil {
			return false
		}
		dev, ino := id(&s)
		return dev == m.lock.dev && ino == m.lock.ino
	}
	if m.fd >= 0 && same(m.fd) {
		return nil
	}
	m.fd = -1
	fd, err := openFile(m.path, syscall.O_RDWR, 0)
	if err != nil {
		return err
	}
	if !same(fd) {
		syscall.Close(fd)
		return errReplaced
	}
	m.fd = fd
	return nil
}

var errReplaced = errors.New("removed or replaced while in use")

func (m *markFile) read() ([]byte, error) {
	b := make([]byte, 2*markLen+1)
	n, err := syscall.Pread(m.fd, b, 0)
	if err != nil {
		return nil, err
	}
	return b[:n], nil
}

// check returns an error unless the file at the path is the locked one and holds what
// was written last.
func (m *markFile) check() error {
	var s syscall.Stat_t
	if err := syscall.Lstat(m.path, &s); err == syscall.ENOENT {
		return errReplaced
	} else if err != nil {
		return err
	}
	if dev, ino := id(&s); dev != m.lock.dev || ino != m.lock.ino {
		return errReplaced
	}
	if err := m.open(); err != nil {
		return err
	}
	b, err := m.read()
	if err != nil {
		return err
	}
	for i, want := range m.records {
		if at := i * markLen; m.known[i] && (len(b) < at+markLen || string(b[at:at+markLen]) != string(want[:])) {
			return errors.New("changed by somebody else while in use")
		}
	}
	return nil
}

// write writes a mark and returns when it is on the disk.
func (m *markFile) write(epoch uint16, mark uint64) error {
	if m.lastErr = m.check(); m.lastErr != nil {
		return m.lastErr
	}
	r := m.newest
	m.number++
	r.number, r.epoch, r.mark = m.number, epoch, mark
	if m.keys != nil {
		if key, ok := m.keys.InUse(); ok {
			r.key = key
		}
	}
	// A copy that is not whole is written first, while the other one stays.
	first := 0
	if m.known[0] && !m.known[1] {
		first = 1
	}
	for _, i := range [2]int{first, 1 - first} {
		m.known[i] = false
		if m.lastErr = writeRecord(m.fd, r.octets(), int64(i)*markLen); m.lastErr != nil {
			return m.lastErr
		}
		m.records[i], m.known[i] = r.octets(), true
	}
	m.newest = r
	return nil
}

// bound reports whether the file names the key in use.
func (m *markFile) bound() bool {
	if m.keys == nil {
		return true
	}
	key, ok := m.keys.InUse()
	return !ok || key == m.newest.key
}

func writeRecord(fd int, b [markLen]byte, at int64) error {
	// A write beyond RLIMIT_FSIZE would end the process by a signal.
	var limit syscall.Rlimit
	const fsize = 1 // RLIMIT_FSIZE
	if syscall.Getrlimit(fsize, &limit) == nil && limit.Cur < 2*markLen {
		return say.Errorf("RLIMIT_FSIZE is %d octets: %w", limit.Cur, syscall.EFBIG)
	}
	n, err := pwrite(fd, b[:], at)
	if err == nil && n != len(b) {
		err = syscall.ENOSPC
	}
	if err == nil {
		err = fsync(fd)
	}
	return err
}

func syncDir(path string) error {
	dir := path[:strings.LastIndexByte(path, '/')+1]
	if dir == "" {
		dir = "."
	}
	d, err := syscall.Open(dir, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(d)
	return fsync(d)
}

// close releases the locks and closes the descriptor, if it is still the file's.
func (m *markFile) close() {
	if m.fd >= 0 {
		var s syscall.Stat_t
		if err := syscall.Fstat(m.fd, &s); err == nil {
			if dev, ino := id(&s); dev == m.lock.dev && ino == m.lock.ino {
				syscall.Close(m.fd)
			}
		}
	}
	m.fd = -1
	m.lock.release()
	m.guard.release()
}

// Mark is a mark file for other numbers that must not repeat.
type Mark struct{ f *markFile }

// OpenMark opens a mark file, or makes it, and returns the mark. what names its purpose:
// a file for another one is refused. The error is ErrState.
func OpenMark(path, what string) (*Mark, uint64, error) {
	f, mark, err := openMark(what, &Config{Path: path}, nil)
	if err != nil {
		return nil, 0, err
	}
	return &Mark{f}, mark, nil
}

// Write writes a mark and returns when it is on the disk.
func (m *Mark) Write(mark uint64) error { return m.f.write(0, mark) }

// Close releases the file.
func (m *Mark) Close() { m.f.close() }
