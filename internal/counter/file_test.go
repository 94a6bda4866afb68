package counter

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	stdcrc32 "hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"libeesp/internal/status"
)

// testKeys are keys by their names' first octets, the one in use first.
type testKeys []byte

func (k testKeys) InUse() (name [16]byte, ok bool) {
	if len(k) != 0 {
		name[0], ok = k[0], true
	}
	return name, ok
}

func (k testKeys) All() (all [][16]byte) {
	for _, b := range k {
		all = append(all, [16]byte{b})
	}
	return all
}

// record is the n-th record that a sender without a name writes.
func record(n uint64, epoch uint16, engineBits uint8, engine uint32, mark uint64) []byte {
	r := markRecord{number: n, epoch: epoch, part: part{NoDirection, engineBits, engine}, mark: mark}
	copy(r.id[:], testID)
	b := r.octets()
	return b[:]
}

// slots are the records of a file.
func slots(t *testing.T, path string) (s [2][]byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil || b != nil && len(b) != 2*markLen {
		t.Fatal(err, len(b))
	}
	return [2][]byte{b[:markLen], b[markLen:]}
}

// testID is what stands for the empty name.
var testID = func() []byte { h := sha256.Sum256([]byte("eesp state ")); return h[:8] }()

// torn is a record of which only the first half was written.
func torn(r []byte) []byte { return append(bytes.Clone(r[:32]), make([]byte, 32)...) }

func markPath(t testing.TB, content ...[]byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mark")
	if content != nil {
		if err := os.WriteFile(path, bytes.Join(content, nil), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func reserved(path string) Config {
	return Config{Mode: Reserved, FixedEpoch: true, Epoch: 5, Path: path, Run: 100}
}

func TestReservedRestartsAtTheMark(t *testing.T) {
	path := markPath(t)
	below := uint64(0) // all counters below were used or may have been
	check := func() {
		t.Helper()
		for _, r := range slots(t, path) {
			if mark := binary.BigEndian.Uint64(r[24:]); mark < below {
				t.Fatalf("mark %d, but counters below %d were given out", mark, below)
			}
		}
	}
	for range 20 {
		o, err := New(reserved(path))
		if err != nil {
			t.Fatal(err)
		}
		o.asked.Store(true) // no claims beside: each is looked at
		check()
		for range 3 {
			first, n, code := o.Take(70)
			if n != 70 || code != status.OK || first-5<<48 < below {
				t.Fatalf("%#x, %d, %v; counters below %d were used", first, n, code, below)
			}
			below = first - 5<<48 + 70
			check() // a crash now: what a new sender would read is above it
		}
		o.close()
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 || info.Size() != 2*markLen {
		t.Fatal(info, err)
	}
}

func TestMarkFileRead(t *testing.T) {
	good := func(n, mark uint64) []byte { return record(n, 5, 0, 0, mark) }
	bad := func(i int) []byte { r := good(1, 99); r[i] ^= 1; return r }
	key := func(k byte) []byte {
		r := markRecord{number: 1, epoch: 5, mark: 10, key: [16]byte{k}}
		copy(r.id[:], testID)
		b := r.octets()
		return b[:]
	}
	other := markRecord{number: 1, epoch: 5, mark: 10}
	otherID := other.octets()
	directed := markRecord{number: 1, epoch: 5, mark: 10, part: part{dir: TopSet}}
	copy(directed.id[:], testID)
	otherDirection := directed.octets()
	for _, x := range []struct {
		name    string
		content [][]byte
		mark    uint64 // where why is ""
		why     string
	}{
		{"none", nil, 0, ""},
		{"empty", [][]byte{{}}, 0, "empty"},
		{"one record", [][]byte{good(2, 10)}, 10, ""},
		{"two", [][]byte{good(4, 10), good(5, 20)}, 20, ""},
		{"two, the other way", [][]byte{good(6, 20), good(5, 10)}, 20, ""},
		{"second torn", [][]byte{good(2, 10), torn(good(3, 20))}, 10, ""},
		{"first torn", [][]byte{torn(good(4, 20)), good(3, 10)}, 10, ""},
		{"second cut", [][]byte{good(2, 10), good(3, 20)[:59]}, 10, ""},
		{"first never written", [][]byte{make([]byte, 64), good(1, 10)}, 10, ""},
		{"later epoch counts more", [][]byte{record(2, 4, 0, 0, 90), good(3, 10)}, 10, ""},
		{"an older epoch", [][]byte{record(2, 4, 0, 0, 90)}, 0, ""},
		{"an older epoch that serial arithmetic takes for a later one", [][]byte{record(2, 65535, 0, 0, 90)}, 0, "later"},
		{"a later epoch", [][]byte{record(2, 6, 0, 0, 90)}, 0, "holds epoch 6, later than 5"},
		{"a later epoch in one record", [][]byte{good(2, 10), record(3, 6, 0, 0, 90)}, 0, "later"},
		{"both torn", [][]byte{torn(good(2, 10)), torn(good(3, 20))}, 0, "no intact record"},
		{"only one, torn", [][]byte{torn(good(2, 10))}, 0, "no intact record"},
		{"short", [][]byte{good(2, 10)[:20]}, 0, "no intact record"},
		{"magic", [][]byte{bad(0)}, 0, "no intact record"},
		{"epoch damaged", [][]byte{bad(17)}, 0, "no intact record"},
		{"mark damaged", [][]byte{bad(31)}, 0, "no intact record"},
		{"key damaged", [][]byte{bad(40)}, 0, "no intact record"},
		{"checksum damaged", [][]byte{bad(59)}, 0, "no intact record"},
		{"of the first format", [][]byte{append([]byte("EESPCTR1"), make([]byte, 24)...)}, 0, "written before"},
		{"ID", [][]byte{otherID[:]}, 0, "another ID"},
		{"direction", [][]byte{otherDirection[:]}, 0, "another engine"},
		{"key", [][]byte{key(7)}, 0, "another key"},
		{"engine", [][]byte{record(2, 5, 0, 1, 10)}, 0, "another engine"},
		{"engine bits", [][]byte{record(2, 5, 1, 0, 10)}, 0, "another engine"},
		{"engine of one record", [][]byte{good(2, 10), record(3, 5, 2, 1, 10)}, 0, "another engine"},
		{"too long", [][]byte{good(2, 10), good(3, 20), {0}}, 0, "not a counter file"},
		{"another file", [][]byte{bytes.Repeat([]byte("text\n"), 100)}, 0, "not a counter file"},
		{"mark at the end", [][]byte{good(2, 1<<48)}, 1 << 48, ""},
		{"mark beyond the end", [][]byte{good(2, 1<<48+1)}, 0, "beyond"},
		{"mark far beyond the end", [][]byte{good(2, 1<<64-1)}, 0, "beyond"},
	} {
		t.Run(x.name, func(t *testing.T) {
			path := markPath(t, x.content...)
			o, err := New(reserved(path))
			if x.why != "" {
				wantErr(t, err, status.ErrState, path)
				wantErr(t, err, status.ErrState, x.why)
				if b, _ := os.ReadFile(path); !bytes.Equal(b, bytes.Join(x.content, nil)) {
					t.Fatal("a file that was refused has changed")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer o.close()
			if x.mark == 1<<48 {
				wantTake(t, o, 1, 0, 0, status.ErrExhausted)
				return
			}
			wantTake(t, o, 3, 5<<48+x.mark, 3, status.OK)
			// Both records are whole again.
			if b, _ := os.ReadFile(path); len(b) != 2*markLen || !bytes.Equal(b[:markLen], b[markLen:]) {
				t.Fatalf("the file holds %x", b)
			}
		})
	}
}

func TestReservedRunsOut(t *testing.T) {
	for _, epoch := range []uint16{0, 5, 65534, 65535} {
		end := uint64(1 << 48)
		if epoch == 65535 {
			end-- // below 2^64
		}
		c := reserved(markPath(t, record(2, epoch, 0, 0, end-1000)))
		c.Epoch = epoch
		o := testOwner(t, c)
		base := uint64(epoch) << 48
		wantTake(t, o, 990, base+end-1000, 990, status.OK)
		wantTake(t, o, 100, base+end-10, 10, status.ErrExhausted)
		wantTake(t, o, 1, 0, 0, status.ErrExhausted)
		wantTake(t, o, 1<<30, 0, 0, status.ErrExhausted)
		o.close()
		o = testOwner(t, c)
		wantTake(t, o, 1, 0, 0, status.ErrExhausted)
	}
}

func TestMarkFileIsLocked(t *testing.T) {
	path := markPath(t)
	o := testOwner(t, reserved(path))
	_, err := New(reserved(path))
	wantErr(t, err, status.ErrState, "in use")
	// Even if the file was removed: a new one would begin with the same counters.
	os.Remove(path)
	_, err = New(reserved(path))
	wantErr(t, err, status.ErrState, "in use")
	o.close()
	testOwner(t, reserved(path)).close()
	if left := must(os.ReadDir(filepath.Dir(path))); len(left) != 1 {
		t.Fatal(left)
	}
}

func TestMarkFileCannotBeOpened(t *testing.T) {
	dir := t.TempDir()
	link := dir + "/link"
	if err := os.Symlink(dir+"/target", link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, dir + "/none/mark", link, "/dev/full", "/proc/version"} {
		_, err := New(reserved(path))
		wantErr(t, err, status.ErrState, path)
	}
	if _, err := os.Stat(dir + "/target"); err == nil {
		t.Fatal("a symbolic link was followed")
	}
}

// A full disk stops the sender before it uses a counter. It goes on when there is room
// again.
func TestDiskFull(t *testing.T) {
	path := markPath(t)
	o := testOwner(t, reserved(path))
	wantTake(t, o, 50, 5<<48, 50, status.OK)
	left := int(o.limit.Load() - o.next.Load())
	old := pwrite
	defer func() { pwrite = old }()
	pwrite = func(fd int, b []byte, at int64) (int, error) { return 0, syscall.ENOSPC }
	wantTake(t, o, left+1, 5<<48+50, left, status.ErrState)
	wantTake(t, o, 1, 0, 0, status.ErrState)
	pwrite = func(fd int, b []byte, at int64) (int, error) { return old(fd, b[:10], at) } // a part of it
	wantTake(t, o, 1, 0, 0, status.ErrState)
	pwrite = old
	wantTake(t, o, 7, 5<<48+50+uint64(left), 7, status.OK)
	o.close()
	o = testOwner(t, reserved(path))
	if first, _, _ := o.Take(1); first < 5<<48+50+uint64(left)+7 {
		t.Fatalf("restarts at %#x", first)
	}
}

// A file with any content is refused, or the sender starts at the mark of a whole record in
// it, or at 0 if it has none of this epoch.
func FuzzMarkFile(f *testing.F) {
	f.Add([]byte{}, uint64(1))
	f.Add(record(2, 5, 0, 0, 10), uint64(10))
	f.Add(append(record(2, 5, 0, 0, 10), record(3, 5, 0, 0, 1<<47)...), uint64(3))
	f.Add(append(torn(record(2, 5, 0, 0, 10)), record(3, 4, 0, 0, 20)...), uint64(0))
	path := filepath.Join(f.TempDir(), "mark")
	f.Fuzz(func(t *testing.T, b []byte, n uint64) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		o, err := New(reserved(path))
		if err != nil {
			return
		}
		defer o.close()
		start := o.next.Load() - 5<<48
		highest, any := uint64(0), false
		for r := b; len(r) >= markLen; r = r[markLen:] {
			var x markRecord
			if x.parse(r) {
				if any = true; x.epoch == 5 {
					highest = max(highest, x.mark)
				}
			}
		}
		if start != highest || !any || start > 1<<48 {
			t.Fatalf("starts at %d, the file's mark is %d", start, highest)
		}
		if first, have, _ := o.Take(int(n % 1000)); have != 0 && first-5<<48 < highest {
			t.Fatalf("counter %d below the mark %d", first, highest)
		}
	})
}

// After a crash at any point of a write, or damage of one record, no counter comes again. If
// both records are damaged, the file is refused.
func TestMarkFileDamage(t *testing.T) {
	path, after := markPath(t), filepath.Join(t.TempDir(), "after")
	used := uint64(0)
	var now []byte
	begins := func(what string, b []byte) {
		t.Helper()
		if err := os.WriteFile(after, b, 0o600); err != nil {
			t.Fatal(err)
		}
		o, err := New(reserved(after))
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if first, n, c := o.Take(1); n != 1 || c != status.OK || first-5<<48 < used {
			t.Fatalf("%s: begins at %#x, counters below %#x were used", what, first, used)
		}
		o.close()
	}
	old, oldSync := pwrite, fsync
	defer func() { pwrite, fsync = old, oldSync }()
	fsync = func(int) error { return nil } // nothing crashes here
	writing := false
	spy := func(fd int, b []byte, at int64) (int, error) {
		if !writing {
			writing = true
			for cut := 0; cut <= len(b); cut += 4 { // the write before and a part of this one, or in the other order
				x, y := bytes.Clone(now), bytes.Clone(now)
				copy(x[at:], b[:cut])
				copy(y[int(at)+cut:], b[cut:])
				begins(fmt.Sprint("torn at ", cut), x)
				begins(fmt.Sprint("torn the other way at ", cut), y)
				clear(x[int(at)+cut : int(at)+len(b)])
				begins(fmt.Sprint("torn with zeros from ", cut), x)
			}
			writing = false
			copy(now[at:], b)
		}
		return old(fd, b, at)
	}
	for range 3 {
		pwrite = old
		o := testOwner(t, reserved(path))
		o.asked.Store(true) // no claims beside: each write is looked at
		s := slots(t, path)
		now = append(bytes.Clone(s[0]), s[1]...)
		for range 3 {
			pwrite = spy
			first, n, c := o.Take(70)
			pwrite = old
			if n != 70 || c != status.OK {
				t.Fatal(n, c)
			}
			used = first - 5<<48 + 70
			for i, r := range slots(t, path) {
				for at := 0; at < 60; at += 3 { // the rest is zero
					x := bytes.Clone(now)
					x[i*markLen+at] ^= 1 << (at % 8)
					begins(fmt.Sprintf("octet %d of record %d", at, i), x)
				}
				x := bytes.Clone(now)
				clear(x[i*markLen:][:len(r)])
				begins(fmt.Sprint("no record ", i), x)
			}
		}
		o.close()
	}
	x := bytes.Clone(now)
	x[30] ^= 1
	x[markLen+30] ^= 1
	os.WriteFile(after, x, 0o600)
	_, err := New(reserved(after))
	wantErr(t, err, status.ErrState, "no intact record")
}

func bound(t testing.TB, name string, c Config, keys Keys) *Owner {
	t.Helper()
	o, err := newOwner(name, c, keys)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.close)
	return o
}

// A file of another ID, engine or key is refused, and so is one of a key that is gone.
// Files stay valid during a rotation.
func TestMarkFileIsBound(t *testing.T) {
	c := reserved(markPath(t))
	bound(t, "a", c, testKeys{1, 2}).close()
	for name, x := range map[string]struct {
		id   string
		c    func(c *Config)
		keys testKeys
		why  string
	}{
		"the same":                    {"a", func(*Config) {}, testKeys{1, 2}, ""},
		"the key is the previous one": {"a", func(*Config) {}, testKeys{3, 1, 2}, ""},
		"another ID":                  {"b", func(*Config) {}, testKeys{1, 2}, "another ID"},
		"another key":                 {"a", func(*Config) {}, testKeys{3, 2}, "another key"},
		"another engine":              {"a", func(c *Config) { c.EngineBits, c.Engine = 1, 1 }, testKeys{1, 2}, "another engine"},
		"another direction":           {"a", func(c *Config) { c.Direction = TopClear }, testKeys{1, 2}, "another engine"},
		"no key":                      {"a", func(*Config) {}, testKeys{}, "no key"},
	} {
		d, before := c, must(os.ReadFile(c.Path))
		x.c(&d)
		o, err := newOwner(x.id, d, x.keys)
		if x.why == "" {
			if err != nil {
				t.Fatal(name, err)
			}
			o.close()
			if err := os.WriteFile(c.Path, before, 0o600); err != nil {
				t.Fatal(err)
			}
			continue
		}
		code := status.ErrState
		if len(x.keys) == 0 {
			code = status.ErrNoKey
		}
		wantErr(t, err, code, x.why)
	}
	// Each write names the key in use, and Rebind writes it at once.
	keys := testKeys{1, 2}
	o := bound(t, "a", c, keys)
	keys[0], keys[1] = 8, 9
	o.Rebind()
	at := o.next.Load()
	o.close()
	o = bound(t, "a", c, testKeys{8})
	if o.next.Load() < at {
		t.Fatal("the mark was lost")
	}
	o.close()
	_, err := newOwner("a", c, testKeys{1, 2})
	wantErr(t, err, status.ErrState, "another key")
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// If the file is changed while its sender runs, no counter is used that is not below a mark
// in the file.
func TestMarkFileIsWatched(t *testing.T) {
	for name, x := range map[string]struct {
		do   func(t *testing.T, path string)
		why  string
		undo func(path string) // after this the sender goes on
	}{
		"removed": {func(t *testing.T, p string) { os.Remove(p) }, "removed or replaced", nil},
		"renamed": {func(t *testing.T, p string) { os.Rename(p, p+"2") }, "removed or replaced", func(p string) { os.Rename(p+"2", p) }},
		"replaced by a copy": {func(t *testing.T, p string) {
			b := must(os.ReadFile(p))
			os.Rename(p, p+"2")
			os.WriteFile(p, b, 0o600)
		}, "removed or replaced", func(p string) { os.Rename(p+"2", p) }},
		"replaced by a link":  {func(t *testing.T, p string) { os.Rename(p, p+"2"); os.Symlink(p+"2", p) }, "removed or replaced", nil},
		"emptied":             {func(t *testing.T, p string) { os.Truncate(p, 0) }, "changed by somebody else", nil},
		"cut":                 {func(t *testing.T, p string) { os.Truncate(p, 20) }, "changed by somebody else", nil},
		"written by others":   {func(t *testing.T, p string) { os.WriteFile(p, record(2, 5, 0, 0, 7), 0o600) }, "changed by somebody else", nil},
		"its directory moved": {func(t *testing.T, p string) { os.Rename(filepath.Dir(p), filepath.Dir(p)+"2") }, "removed or replaced", func(p string) { os.Rename(filepath.Dir(p)+"2", filepath.Dir(p)) }},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "d")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			o := testOwner(t, reserved(dir+"/mark"))
			wantTake(t, o, 10, 5<<48, 10, status.OK)
			left := int(o.limit.Load() - o.next.Load())
			x.do(t, dir+"/mark")
			wantTake(t, o, left+1, 5<<48+10, left, status.ErrState)
			wantTake(t, o, 1, 0, 0, status.ErrState)
			if !strings.Contains(o.file.lastErr.Error(), x.why) {
				t.Fatal(o.file.lastErr)
			}
			if x.undo != nil {
				x.undo(dir + "/mark")
				wantTake(t, o, 1, 5<<48+10+uint64(left), 1, status.OK)
			}
		})
	}
}

// If the program closes descriptors that it did not open, the sender goes on. Files that
// the program opens under these numbers are not written to, and stay open.
func TestMarkFileDescriptorClosed(t *testing.T) {
	path, mine := markPath(t), markPath(t, []byte("the host's"))
	o := testOwner(t, reserved(path))
	wantTake(t, o, 10, 5<<48, 10, status.OK)
	next := uint64(5<<48 + 10)
	for _, reuse := range []bool{false, true, true} {
		fd := o.file.fd
		syscall.Close(fd)
		got := -1
		if reuse {
			got = must(syscall.Open(mine, syscall.O_RDWR, 0))
			if got != fd {
				if err := syscall.Dup3(got, fd, 0); err != nil {
					t.Fatal(err)
				}
				syscall.Close(got)
				got = fd
			}
		}
		if _, err := New(reserved(path)); err == nil {
			t.Fatal("the lock went with the descriptor")
		}
		left := int(o.limit.Load() - o.next.Load())
		wantTake(t, o, left+1, next, left+1, status.OK)
		next += uint64(left) + 1
		if got >= 0 {
			if reuse && o.file.fd == fd {
				t.Fatal("the host's descriptor is taken for ours")
			}
			if b := make([]byte, 100); must(syscall.Pread(got, b, 0)) != 10 || string(b[:10]) != "the host's" {
				t.Fatalf("the host's file holds %q", b)
			}
			syscall.Close(got)
		}
	}
	fd := o.file.fd
	syscall.Close(fd)
	got := must(syscall.Open(mine, syscall.O_RDWR, 0))
	o.close()
	if _, err := syscall.Pread(got, make([]byte, 1), 0); err != nil {
		t.Fatal("the host's descriptor was closed:", err)
	}
	syscall.Close(got)
	o = testOwner(t, reserved(path))
	if first, _, _ := o.Take(1); first < next {
		t.Fatalf("%#x was used", first)
	}
}

// Files that other users can write are refused.
func TestMarkFileOfOthers(t *testing.T) {
	path := markPath(t)
	testOwner(t, reserved(path)).close()
	for _, mode := range []os.FileMode{0o666, 0o620, 0o602, 0o640, 0o644} {
		os.Chmod(path, mode)
		o, err := New(reserved(path))
		if mode&0o022 == 0 {
			if err != nil {
				t.Fatal(err)
			}
			o.close()
			continue
		}
		wantErr(t, err, status.ErrState, "lets others write it")
	}
	os.Chmod(path, 0o600)
	if os.Geteuid() == 0 {
		os.Chown(path, 65534, 0)
		_, err := New(reserved(path))
		wantErr(t, err, status.ErrState, "another user")
	}
}

// If the file cannot be made, there is no sender, and no part of the file stays.
func TestMarkFileCannotBeMade(t *testing.T) {
	dir := t.TempDir()
	old := pwrite
	defer func() { pwrite = old }()
	pwrite = func(fd int, b []byte, at int64) (int, error) { return 0, syscall.ENOSPC }
	_, err := New(reserved(dir + "/mark"))
	wantErr(t, err, status.ErrState, "no space")
	if left := must(os.ReadDir(dir)); len(left) != 0 {
		t.Fatal(left)
	}
}

// Only one process of the host has an ID and engine under a key.
func TestLockID(t *testing.T) {
	dir := t.TempDir()
	explicit := func(bits uint8, engine uint32) Config {
		return Config{Mode: Explicit, EngineBits: bits, Engine: engine, LockDir: dir}
	}
	has := func(id string, c Config, keys testKeys, ok bool) *Owner {
		t.Helper()
		o, err := newOwner(id, c, keys) // as another process would: nothing is shared but files
		if !ok {
			wantErr(t, err, status.ErrExists, "in use by another sender of this host")
			return nil
		}
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	before := descriptors(t)
	a := has("a", explicit(0, 0), testKeys{1, 2}, true)
	has("a", explicit(0, 0), testKeys{1}, false)
	has("a", explicit(0, 0), testKeys{3, 2}, false) // one that has rotated already
	has("a", explicit(4, 3), testKeys{1}, false)    // one engine is all of it
	has("a#k", explicit(0, 0), testKeys{1}, false)
	if n := descriptors(t); n != before {
		t.Fatalf("%d descriptors, %d before", n, before)
	}
	b := has("b", explicit(4, 3), testKeys{1}, true)
	has("b", explicit(4, 3), testKeys{1}, false)
	has("b", explicit(2, 3), testKeys{1}, false) // has 4 of 16 engines, ours among them
	has("b", explicit(6, 35), testKeys{1}, false)
	has("b", explicit(0, 0), testKeys{1}, false)
	for _, o := range []*Owner{has("b", explicit(4, 2), testKeys{1}, true), has("b", explicit(2, 2), testKeys{4}, true), has("b", explicit(2, 1), testKeys{1}, true),
		has("a", explicit(0, 0), testKeys{3}, true)} {
		o.close()
	}
	a.close()
	has("a", explicit(0, 0), testKeys{1}, true).close()
	b.close()
	has("b", explicit(0, 0), testKeys{1}, true).close()
	_, err := newOwner("c", explicit(0, 0), testKeys{})
	wantErr(t, err, status.ErrNoKey, "no key")
	_, err = newOwner("c", Config{Mode: Explicit, LockDir: dir + "/none"}, testKeys{1})
	wantErr(t, err, status.ErrState, "none")
}

func descriptors(t *testing.T) int { return len(must(os.ReadDir("/proc/self/fd"))) }

// keysOf is a Keys whose keys change.
type keysOf struct{ testKeys }

// With a lock directory, a fixed epoch has one start and one rate for all senders and
// processes. Others are refused, in any order.
func TestBoundEpoch(t *testing.T) {
	dir := t.TempDir()
	start := time.Unix(1_700_000_000, 0)
	config := func(epoch uint16, begin time.Time, rate, bits uint8, engine uint32) Config {
		return Config{Mode: Clock, FixedEpoch: true, Epoch: epoch, EpochStart: begin, RateLog2: rate, EngineBits: bits, Engine: engine, LockDir: dir}
	}
	has := func(id string, c Config, keys testKeys, want string) {
		t.Helper()
		if err := c.check(); err != nil {
			t.Fatal(err)
		}
		o, err := newOwner(id, c, keys) // as another process would: nothing is shared but files
		if want != "" {
			wantErr(t, err, status.ErrExists, want)
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		o.close()
	}
	const again = "counters would repeat"
	has("a", config(5, start, 20, 0, 0), testKeys{1, 2}, "")
	for range 2 { // also after one that was refused
		has("a", config(5, start.Add(1), 20, 0, 0), testKeys{1}, again)
		has("a", config(5, time.Now(), 20, 0, 0), testKeys{1}, again)
		has("a", config(5, start.Add(-time.Hour), 20, 0, 0), testKeys{1}, again)
		has("a", config(5, start, 19, 0, 0), testKeys{1}, again)
		has("a", config(5, start, 21, 0, 0), testKeys{2}, again)
		has("a", config(5, start, 20, 1, 0), testKeys{1}, again)
		has("a#data", config(5, start.Add(1), 20, 0, 0), testKeys{1}, again)
	}
	has("a", config(5, start, 20, 0, 0), testKeys{1}, "")
	has("a", config(5, start, 18, 2, 3), testKeys{1}, "") // 2^20 of all engines together
	has("a", config(6, start.Add(1), 19, 0, 0), testKeys{1}, "")
	has("a", config(5, start.Add(1), 19, 0, 0), testKeys{3}, "")
	has("b", config(5, start.Add(1), 19, 0, 0), testKeys{1}, "")
	has("a", config(6, start, 19, 0, 0), testKeys{1}, again)
	has("a", config(5, start, 19, 0, 0), testKeys{4, 3}, again)
	// Epochs counted from 1970, and other modes, have no record.
	has("c", Config{Mode: Clock, LockDir: dir}, testKeys{1}, "")
	has("c", Config{Mode: Explicit, LockDir: dir}, testKeys{1}, "")
	files, err := filepath.Glob(dir + "/*.epochs")
	if err != nil || len(files) != 2 { // of a and b
		t.Fatal(files, err)
	}
	// Many records in one file.
	for epoch := range uint16(300) {
		was, err := bindEpoch(dir+"/many", boundEpoch{epoch: epoch, start: int64(epoch)})
		if err != nil || was.start != int64(epoch) {
			t.Fatal(epoch, was, err)
		}
	}
	for epoch := range uint16(300) {
		if was, err := bindEpoch(dir+"/many", boundEpoch{epoch: epoch, start: -1}); err != nil || was.start != int64(epoch) {
			t.Fatal(epoch, was, err)
		}
	}
	// Several processes at the same time: one is the first.
	first := make(chan int64)
	for i := range int64(8) {
		go func() {
			was, err := bindEpoch(dir+"/race", boundEpoch{start: i + 1})
			if err != nil {
				t.Error(err)
			}
			first <- was.start
		}()
	}
	won := <-first
	for range 7 {
		if x := <-first; x != won || x == 0 {
			t.Fatal(x, won)
		}
	}
	// A file that cannot be read, or that other users may write, is an error.
	path := dir + "/many"
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	bad := slices.Clone(b)
	bad[26] ^= 1
	for _, damaged := range [][]byte{b[:len(b)-1], append(slices.Clone(b), 0), bad} {
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := bindEpoch(path, boundEpoch{epoch: 999}); err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(path, 0o622); err != nil {
		t.Fatal(err)
	}
	if _, err := bindEpoch(path, boundEpoch{}); err == nil || !strings.Contains(err.Error(), "lets others write it") {
		t.Fatal(err)
	}
}

// Locks follow keys: the ID is locked under a new key when it comes, and unlocked under one
// that is gone. If another process has the ID under the new key, nothing is sealed any
// more.
func TestLocksFollowKeys(t *testing.T) {
	for _, c := range []Config{{Mode: Explicit}, {Mode: Clock}, {Mode: Reserved}, {Mode: Clock, Timed: true, Lead: time.Millisecond}} {
		c.LockDir = t.TempDir()
		if c.Mode == Reserved {
			c.Path = c.LockDir + "/mark"
		}
		if err := c.check(); err != nil {
			t.Fatal(err)
		}
		k := &keysOf{testKeys{1, 2}}
		o, err := newOwner("a", c, k)
		if err != nil {
			t.Fatal(err)
		}
		other := Config{Mode: Explicit, LockDir: c.LockDir}
		refused := func(key byte) {
			t.Helper()
			_, err := newOwner("a", other, testKeys{key})
			wantErr(t, err, status.ErrExists, "in use by another sender of this host")
		}
		k.testKeys = testKeys{2, 3}
		done := o.Rebind()
		refused(1) // bursts may use it still
		done()
		refused(2)
		refused(3)
		x, err := newOwner("a", other, testKeys{1, 4})
		if err != nil {
			t.Fatal(err)
		}
		k.testKeys = testKeys{}
		o.Rebind()()
		refused(2)
		k.testKeys = testKeys{2}
		o.Rebind()()
		if _, n, code := o.Take(3); n != 3 || code != status.OK {
			t.Fatal(c.Mode, n, code)
		}
		k.testKeys = testKeys{2, 4}
		o.Rebind()()
		for range 3 {
			if _, n, code := o.Take(3); n != 0 || code != status.ErrExists {
				t.Fatal(c.Mode, n, code)
			}
			o.Rebind()()
		}
		refused(2)
		x.close()
		o.close()
		if x, err = newOwner("a", other, testKeys{1, 2, 3, 4}); err != nil {
			t.Fatal(err)
		}
		x.close()
	}
}

func TestCRC32(t *testing.T) {
	b := make([]byte, 300)
	for i := range b {
		b[i] = byte(i * i)
	}
	for n := range b {
		if got, want := crc32(b[:n]), stdcrc32.ChecksumIEEE(b[:n]); got != want {
			t.Fatalf("%d octets: %#x, want %#x", n, got, want)
		}
	}
}
