package counter

import (
	"encoding/binary"
	"errors"
	"strings"
	"syscall"

	"libeesp/internal/say"
	"libeesp/internal/sha2"
	"libeesp/internal/status"
)

// A lock is a lock on a file (flock) without a descriptor: a mapping keeps the file
// open, and with it the lock. So the lock stays if the program closes all descriptors,
// forked children do not have it (MADV_DONTFORK), and it ends with the process in any
// case.
type lock struct {
	path     string // to be removed with the lock; "" = it stays
	mapping  []byte
	dev, ino uint64
}

var errInUse = errors.New("in use by another sender")

// id returns the two numbers that identify a file.
func id(s *syscall.Stat_t) (dev, ino uint64) { return uint64(s.Dev), s.Ino }

// ours refuses files that other users could write, by their owner or mode.
func ours(s *syscall.Stat_t) error {
	switch {
	case s.Mode&syscall.S_IFMT != syscall.S_IFREG:
		return errors.New("not a regular file")
	case s.Uid != uint32(syscall.Geteuid()) && s.Uid != 0:
		return say.Errorf("belongs to another user (%d)", s.Uid)
	case s.Mode&0o022 != 0:
		return say.Errorf("its mode (%04o) lets others write it", s.Mode&0o7777)
	}
	return nil
}

// lockFile locks the file at path, which it creates if flags say so. how is LOCK_EX or
// LOCK_SH.
func lockFile(path string, flags, how int) (*lock, error) {
	for {
		fd, err := openFile(path, flags, 0o600)
		if err != nil {
			return nil, err
		}
		l, again, err := lockOpen(path, fd, how)
		syscall.Close(fd)
		if !again {
			return l, err
		}
	}
}

func openFile(path string, flags int, mode uint32) (fd int, err error) {
	// os.Open would start the runtime's poller, which keeps descriptors.
	for {
		fd, err = syscall.Open(path, flags|syscall.O_CLOEXEC|syscall.O_NOFOLLOW|syscall.O_NONBLOCK|syscall.O_NOCTTY, mode)
		if err != syscall.EINTR {
			return fd, err
		}
	}
}

func lockOpen(path string, fd, how int) (l *lock, again bool, err error) {
	var s, now syscall.Stat_t
	if err := syscall.Fstat(fd, &s); err != nil {
		return nil, false, err
	}
	if err := ours(&s); err != nil {
		return nil, false, err
	}
	for {
		if err = syscall.Flock(fd, how|syscall.LOCK_NB); err != syscall.EINTR {
			break
		}
	}
	if err == syscall.EWOULDBLOCK {
		return nil, false, errInUse
	} else if err != nil {
		return nil, false, err
	}
	l = &lock{}
	l.dev, l.ino = id(&s)
	// The process that had the lock before may have removed the file.
	if err := syscall.Lstat(path, &now); err == syscall.ENOENT {
		return nil, true, nil
	} else if err != nil {
		return nil, false, err
	} else if dev, ino := id(&now); dev != l.dev || ino != l.ino {
		return nil, true, nil
	}
	if l.mapping, err = syscall.Mmap(fd, 0, 1, syscall.PROT_NONE, syscall.MAP_PRIVATE); err != nil {
		return nil, false, say.Errorf("mmap: %v", err)
	}
	if err := syscall.Madvise(l.mapping, syscall.MADV_DONTFORK); err != nil {
		l.release()
		return nil, false, say.Errorf("madvise: %v", err)
	}
	return l, false, nil
}

func (l *lock) release() {
	if l == nil || l.mapping == nil {
		return
	}
	if l.path != "" {
		syscall.Unlink(l.path)
	}
	syscall.Munmap(l.mapping)
	l.mapping = nil
}

// idLocks are an owner's locks in a directory: on its ID and engine, under each key that
// it may seal with. So no other process of the host can seal with them.
type idLocks struct {
	dir, name string
	cfg       *Config
	keys      Keys
	held      map[[16]byte][]*lock
}

// follow locks the ID under the keys that may be in use now, and returns the locks under
// keys that are gone. On an error nothing has changed.
func (l *idLocks) follow() (gone []*lock, err error) {
	if strings.IndexByte(l.dir, 0) >= 0 {
		return nil, bad("lock directory: a zero octet in its name")
	}
	var all [][16]byte
	if l.keys != nil {
		all = l.keys.All()
	}
	if len(all) == 0 {
		if len(l.held) != 0 { // they were removed, and may come back
			return nil, nil
		}
		return nil, say.Errorf("%w: cannot lock the ID: the group has no key to seal with yet", status.ErrNoKey)
	}
	now := map[[16]byte][]*lock{}
	for _, key := range all {
		if have, is := l.held[key]; is {
			now[key] = have
			continue
		}
		locks, err := l.lock(key)
		if err == nil {
			now[key] = locks
			err = l.bind(key)
		}
		if err != nil {
			for key, locks := range now {
				if _, is := l.held[key]; !is {
					release(locks)
				}
			}
			return nil, err
		}
	}
	for key, locks := range l.held {
		if _, is := now[key]; !is {
			gone = append(gone, locks...)
		}
	}
	l.held = now
	return gone, nil
}

func release(locks []*lock) {
	for _, l := range locks {
		l.release()
	}
}

func (l *idLocks) release() {
	if l != nil {
		for _, locks := range l.held {
			release(locks)
		}
		l.held = nil
	}
}

// lock locks the ID and engine under one key. Each part of the counter space has a file:
// the owner's own is locked exclusively, and those of parts that contain it are shared.
func (l *idLocks) lock(key [16]byte) (all []*lock, err error) {
	c := l.cfg
	space, _, _ := strings.Cut(l.name, "#")
	p := part{c.Direction, c.EngineBits, c.Engine}
	hash := sha2.Sum256(append([]byte(say.Sprintf("eesp lock %s\x00%d\x00", space, c.Direction)), key[:]...))
	base := say.Sprintf("%s/eesp-%x", l.dir, hash[:16])
	for n := range p.bits + 1 {
		path, how := base, syscall.LOCK_SH
		if n > 0 {
			path = say.Sprintf("%s-%d-%d", base, n, p.shorter(n).engine)
		}
		if n == p.bits {
			how = syscall.LOCK_EX
		}
		x, err := lockFile(path, syscall.O_RDONLY|syscall.O_CREAT, how)
		if err != nil {
			release(all)
			if errors.Is(err, errInUse) {
				return nil, say.Errorf("%w: this ID and key are in use by another sender of this host (%s)", status.ErrExists, path)
			}
			return nil, say.Errorf("%w: lock %s: %v", status.ErrState, path, err)
		}
		if how == syscall.LOCK_EX {
			x.path = path
		}
		all = append(all, x)
	}
	return all, nil
}

// A boundEpoch records how counters of a fixed epoch follow the clock. That must be the
// same at every start. Each ID has a file of such records beside the locks. Records of
// 64 octets are appended; of two for one key and epoch the first one counts:
//
//	"EESPEPO1", key(16, hashed), epoch(2), log2 of counters a second(1), 0(5),
//	start(8, ns since 1970), CRC-32 of all that(4), 0(20)
type boundEpoch struct {
	key   [16]byte
	epoch uint16
	rate  uint8 // of all engines together
	start int64
}

const (
	boundMagic = "EESPEPO1"
	boundLen   = 64
)

func (b *boundEpoch) octets() (r [boundLen]byte) {
	copy(r[:], boundMagic)
	copy(r[8:], b.key[:])
	binary.BigEndian.PutUint16(r[24:], b.epoch)
	r[26] = b.rate
	binary.BigEndian.PutUint64(r[32:], uint64(b.start))
	binary.BigEndian.PutUint32(r[40:], crc32(r[:40]))
	return r
}

func (b *boundEpoch) parse(r []byte) bool {
	if string(r[:8]) != boundMagic || crc32(r[:40]) != binary.BigEndian.Uint32(r[40:]) {
		return false
	}
	copy(b.key[:], r[8:])
	b.epoch, b.rate = binary.BigEndian.Uint16(r[24:]), r[26]
	b.start = int64(binary.BigEndian.Uint64(r[32:]))
	return true
}

// bind records how counters follow the clock, and refuses (ErrExists) what differs from
// an earlier start.
func (l *idLocks) bind(key [16]byte) error {
	c := l.cfg
	if c.Mode != Clock || !c.FixedEpoch || c.Timed { // otherwise start and rate cannot differ
		return nil
	}
	space, _ := idOf(l.name)
	name := say.Sprintf("eesp epochs %s\x00%d", space, c.Direction)
	mine := boundEpoch{epoch: c.Epoch, rate: c.RateLog2 + c.EngineBits, start: c.EpochStart.UnixNano()}
	hash := sha2.Sum256([]byte(name))
	path := say.Sprintf("%s/eesp-%x.epochs", l.dir, hash[:16])
	hash = sha2.Sum256(append([]byte(name+"\x00"), key[:]...))
	copy(mine.key[:], hash[:])
	was, err := bindEpoch(path, mine)
	switch {
	case err != nil:
		return say.Errorf("%w: %s: %v", status.ErrState, path, err)
	case was != mine:
		return say.Errorf("%w: epoch %d of this ID and key began at %d ns since 1970 and has 2^%d counters a second on this host, not %d ns and 2^%d: counters would repeat (%s)",
			status.ErrExists, was.epoch, was.start, was.rate, mine.start, mine.rate, path)
	}
	return nil
}

// bindEpoch returns the first record of a key and epoch in a file. If there is none, it
// appends mine.
func bindEpoch(path string, mine boundEpoch) (was boundEpoch, err error) {
	fd, err := openFile(path, syscall.O_RDWR|syscall.O_APPEND|syscall.O_CREAT, 0o600)
	if err != nil {
		return was, err
	}
	defer syscall.Close(fd)
	var s syscall.Stat_t
	if err := syscall.Fstat(fd, &s); err != nil {
		return was, err
	}
	if err := ours(&s); err != nil {
		return was, err
	}
	for wrote := false; ; wrote = true {
		found, err := findEpoch(fd, &mine, &was)
		if err != nil || found {
			return was, err
		}
		if wrote {
			return was, errReplaced
		}
		// One write, which appends behind records that others have written meanwhile.
		b := mine.octets()
		n, err := syscall.Write(fd, b[:])
		if err == nil && n != len(b) {
			err = syscall.ENOSPC
		}
		if err == nil {
			err = fsync(fd)
		}
		if err != nil {
			return was, err
		}
	}
}

// findEpoch reads the first record with mine's key and epoch to was.
func findEpoch(fd int, mine, was *boundEpoch) (found bool, err error) {
	var b [32 * boundLen]byte
	for at := int64(0); ; {
		n, err := syscall.Pread(fd, b[:], at)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return false, err
		}
		if n < boundLen {
			return false, errors.New("damaged: cannot tell when epochs began")
		}
		for i := 0; i+boundLen <= n; i += boundLen {
			if !was.parse(b[i:]) {
				return false, errors.New("damaged: cannot tell when epochs began")
			}
			if was.key == mine.key && was.epoch == mine.epoch {
				return true, nil
			}
			at += boundLen
		}
	}
}
