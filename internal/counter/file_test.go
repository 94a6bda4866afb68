package counter

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"

	"libeesp/internal/status"
	"libeesp/internal/testrun"
)

func record(epoch uint16, engineBits uint8, engine uint32, mark uint64) []byte {
	r := make([]byte, markRecord)
	copy(r, markMagic)
	binary.BigEndian.PutUint16(r[8:], epoch)
	r[10] = engineBits
	binary.BigEndian.PutUint32(r[12:], engine)
	binary.BigEndian.PutUint64(r[16:], mark)
	binary.BigEndian.PutUint32(r[24:], crc32.ChecksumIEEE(r[:24]))
	return r
}

// torn is a record whose second half did not reach the disk.
func torn(r []byte) []byte { return append(bytes.Clone(r[:16]), make([]byte, 16)...) }

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
	newest := make([]byte, markRecord)
	check := func() {
		t.Helper()
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		// A write that is torn must not cost the record that is in force.
		if !bytes.Contains(b, newest) && newest[0] != 0 {
			t.Fatal("the newest record was overwritten")
		}
		for ; len(b) >= markRecord; b = b[markRecord:] {
			if bytes.Compare(b[16:24], newest[16:24]) > 0 {
				newest = b[:markRecord]
			}
		}
		if mark := binary.BigEndian.Uint64(newest[16:]); mark < below {
			t.Fatalf("mark %d, but counters below %d were given out", mark, below)
		}
	}
	for range 20 {
		o, err := New(reserved(path))
		if err != nil {
			t.Fatal(err)
		}
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
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 || info.Size() != 2*markRecord {
		t.Fatal(info, err)
	}
}

func TestMarkFileRead(t *testing.T) {
	good := func(mark uint64) []byte { return record(5, 0, 0, mark) }
	bad := func(i int) []byte { r := good(99); r[i] ^= 1; return r }
	for _, x := range []struct {
		name    string
		content [][]byte
		mark    uint64 // where code is OK
		code    status.Code
	}{
		{"none", nil, 0, status.OK},
		{"empty", [][]byte{{}}, 0, status.OK},
		{"one record", [][]byte{good(10)}, 10, status.OK},
		{"two", [][]byte{good(10), good(20)}, 20, status.OK},
		{"two, the other way", [][]byte{good(20), good(10)}, 20, status.OK},
		{"second torn", [][]byte{good(10), torn(good(20))}, 10, status.OK},
		{"first torn", [][]byte{torn(good(20)), good(10)}, 10, status.OK},
		{"second cut", [][]byte{good(10), good(20)[:27]}, 10, status.OK},
		{"first never written", [][]byte{make([]byte, 32), good(10)}, 10, status.OK},
		{"later epoch counts more", [][]byte{record(4, 0, 0, 90), good(10)}, 10, status.OK},
		{"an older epoch", [][]byte{record(4, 0, 0, 90)}, 0, status.OK},
		{"an older epoch, other side of 0", [][]byte{record(65535, 0, 0, 90)}, 0, status.OK},
		{"a later epoch", [][]byte{record(6, 0, 0, 90)}, 0, status.ErrState},
		{"a later epoch in one record", [][]byte{good(10), record(6, 0, 0, 90)}, 0, status.ErrState},
		{"both torn", [][]byte{torn(good(10)), torn(good(20))}, 0, status.ErrState},
		{"only one, torn", [][]byte{torn(good(10))}, 0, status.ErrState},
		{"short", [][]byte{good(10)[:20]}, 0, status.ErrState},
		{"magic", [][]byte{bad(0)}, 0, status.ErrState},
		{"epoch damaged", [][]byte{bad(9)}, 0, status.ErrState},
		{"mark damaged", [][]byte{bad(23)}, 0, status.ErrState},
		{"checksum damaged", [][]byte{bad(27)}, 0, status.ErrState},
		{"engine", [][]byte{record(5, 0, 1, 10)}, 0, status.ErrState},
		{"engine bits", [][]byte{record(5, 1, 0, 10)}, 0, status.ErrState},
		{"engine of one record", [][]byte{good(10), record(5, 2, 1, 10)}, 0, status.ErrState},
		{"too long", [][]byte{good(10), good(20), {0}}, 0, status.ErrState},
		{"another file", [][]byte{bytes.Repeat([]byte("text\n"), 100)}, 0, status.ErrState},
		{"mark at the end", [][]byte{good(1 << 48)}, 1 << 48, status.OK},
		{"mark beyond the end", [][]byte{good(1<<48 + 1)}, 0, status.ErrState},
		{"mark far beyond the end", [][]byte{good(1<<64 - 1)}, 0, status.ErrState},
	} {
		t.Run(x.name, func(t *testing.T) {
			path := markPath(t, x.content...)
			o, err := New(reserved(path))
			if x.code != status.OK {
				wantErr(t, err, x.code, path)
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
			// The record that was in force is still there, whole.
			if b, _ := os.ReadFile(path); x.mark != 0 && !bytes.Contains(b, good(x.mark)) {
				t.Fatalf("the only good record was overwritten: %x", b)
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
		c := reserved(markPath(t, record(epoch, 0, 0, end-1000)))
		c.Epoch = epoch
		o := newOwner(t, c)
		base := uint64(epoch) << 48
		wantTake(t, o, 990, base+end-1000, 990, status.OK)
		wantTake(t, o, 100, base+end-10, 10, status.ErrExhausted)
		wantTake(t, o, 1, 0, 0, status.ErrExhausted)
		wantTake(t, o, 1<<30, 0, 0, status.ErrExhausted)
		o.close()
		o = newOwner(t, c)
		wantTake(t, o, 1, 0, 0, status.ErrExhausted)
	}
}

func TestMarkFileIsLocked(t *testing.T) {
	path := markPath(t)
	o := newOwner(t, reserved(path))
	_, err := New(reserved(path))
	wantErr(t, err, status.ErrState, "in use")
	o.close()
	newOwner(t, reserved(path))
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

// A disk that is full stops the sender before a counter is used; once there is
// room again it goes on.
func TestDiskFull(t *testing.T) {
	path := markPath(t)
	o := newOwner(t, reserved(path))
	wantTake(t, o, 50, 5<<48, 50, status.OK)
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		testrun.Skip(t, err.Error())
	}
	defer full.Close()
	left := int(o.limit.Load() - o.next.Load())
	file := o.file.f
	o.file.f = full
	wantTake(t, o, left+1, 5<<48+50, left, status.ErrState)
	wantTake(t, o, 1, 0, 0, status.ErrState)
	o.file.f = file
	wantTake(t, o, 7, 5<<48+50+uint64(left), 7, status.OK)
	o.close()
	o = newOwner(t, reserved(path))
	if first, _, _ := o.Take(1); first < 5<<48+50+uint64(left)+7 {
		t.Fatalf("restarts at %#x", first)
	}
}

// Whatever a file holds: it is refused, or the sender starts at a mark that a
// whole record in it names, or at 0 if it holds none of this epoch.
func FuzzMarkFile(f *testing.F) {
	f.Add([]byte{}, uint64(1))
	f.Add(record(5, 0, 0, 10), uint64(10))
	f.Add(append(record(5, 0, 0, 10), record(5, 0, 0, 1<<47)...), uint64(3))
	f.Add(append(torn(record(5, 0, 0, 10)), record(4, 0, 0, 20)...), uint64(0))
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
		highest, this := uint64(0), false
		// The last octets of a record are zero: it may end without them.
		for r := append(bytes.Clone(b), 0, 0, 0, 0); len(r) >= markRecord; r = r[markRecord:] {
			mark := binary.BigEndian.Uint64(r[16:])
			if bytes.Equal(r[:28], record(5, 0, 0, mark)[:28]) {
				highest, this = max(highest, mark), true
			}
		}
		if start != highest || !this && start != 0 || start > 1<<48 {
			t.Fatalf("starts at %d, the file's mark is %d", start, highest)
		}
		if first, have, _ := o.Take(int(n % 1000)); have != 0 && first-5<<48 < highest {
			t.Fatalf("counter %d below the mark %d", first, highest)
		}
	})
}
