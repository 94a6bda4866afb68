package counter

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"libeesp/internal/status"
)

// A lock is a lock on a file (flock) that needs no descriptor: a mapping keeps
// the open file, and with it the lock. So a host that closes all descriptors
// does not lose it, children made by fork do not have it (MADV_DONTFORK), and
// whichever way the process ends the kernel gives it up.
type lock struct {
	path     string // to be removed with the lock; "" = it stays
	mapping  []byte
	dev, ino uint64
}

var errInUse = errors.New("in use by another sender")

// id is what tells files apart.
func id(s *syscall.Stat_t) (dev, ino uint64) { return uint64(s.Dev), s.Ino }

// ours refuses files that others could write: their owner, or a mode that
// allows it.
func ours(s *syscall.Stat_t) error {
	switch {
	case s.Mode&syscall.S_IFMT != syscall.S_IFREG:
		return errors.New("not a regular file")
	case s.Uid != uint32(syscall.Geteuid()) && s.Uid != 0:
		return fmt.Errorf("belongs to another user (%d)", s.Uid)
	case s.Mode&0o022 != 0:
		return fmt.Errorf("its mode (%04o) lets others write it", s.Mode&0o7777)
	}
	return nil
}

// lockFile locks the file at path, which how may create. how is LOCK_EX or
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
	// Not os.Open, which would start the runtime's poller, and with it descriptors.
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
	// Who had the lock before may have removed the file.
	if err := syscall.Lstat(path, &now); err == syscall.ENOENT {
		return nil, true, nil
	} else if err != nil {
		return nil, false, err
	} else if dev, ino := id(&now); dev != l.dev || ino != l.ino {
		return nil, true, nil
	}
	if l.mapping, err = syscall.Mmap(fd, 0, 1, syscall.PROT_NONE, syscall.MAP_PRIVATE); err != nil {
		return nil, false, fmt.Errorf("mmap: %v", err)
	}
	if err := syscall.Madvise(l.mapping, syscall.MADV_DONTFORK); err != nil {
		l.release()
		return nil, false, fmt.Errorf("madvise: %v", err)
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

// lockID locks an ID and engine for each key that may be in use, so that no
// other process of the host can send with it. A file stands for each part of the
// counter space: its own is locked alone, those that it lies in are shared.
func lockID(name string, c *Config, keys Keys) (all []*lock, err error) {
	if strings.IndexByte(c.LockDir, 0) >= 0 {
		return nil, bad("lock directory: a zero octet in its name")
	}
	if keys == nil || len(keys.All()) == 0 {
		return nil, fmt.Errorf("%w: to lock the ID: the group has no key to seal with yet", status.ErrNoKey)
	}
	space, _, _ := strings.Cut(name, "#")
	p := part{c.Direction, c.EngineBits, c.Engine}
	for _, key := range keys.All() {
		h := sha256.New()
		fmt.Fprintf(h, "eesp lock %s\x00%d\x00", space, c.Direction)
		h.Write(key[:])
		base := fmt.Sprintf("%s/eesp-%x", c.LockDir, h.Sum(nil)[:16])
		for n := range p.bits + 1 {
			path, how := base, syscall.LOCK_SH
			if n > 0 {
				path = fmt.Sprintf("%s-%d-%d", base, n, p.shorter(n).engine)
			}
			if n == p.bits {
				how = syscall.LOCK_EX
			}
			l, err := lockFile(path, syscall.O_RDONLY|syscall.O_CREAT, how)
			if err != nil {
				for _, l := range all {
					l.release()
				}
				if errors.Is(err, errInUse) {
					return nil, fmt.Errorf("%w: this ID and key are in use by another sender of this host (%s)", status.ErrExists, path)
				}
				return nil, fmt.Errorf("%w: lock %s: %v", status.ErrState, path, err)
			}
			if how == syscall.LOCK_EX {
				l.path = path
			}
			all = append(all, l)
		}
	}
	return all, nil
}
