package secmem

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"libeesp/internal/status"
	"libeesp/internal/testrun"
)

const childEnv = "EESP_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		limited()
		return
	}
	os.Exit(m.Run())
}

func alloc(t *testing.T, n int) []byte {
	t.Helper()
	b, err := Alloc(n)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func address(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }

// mapping returns a field of the entry of /proc/self/smaps that p is in.
func mapping(t *testing.T, p uintptr, field string) string {
	t.Helper()
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		testrun.Skip(t, err.Error())
	}
	defer f.Close()
	in := false
	for s := bufio.NewScanner(f); s.Scan(); {
		name, value, _ := strings.Cut(s.Text(), " ")
		if from, to, ok := strings.Cut(name, "-"); ok {
			a, _ := strconv.ParseUint(from, 16, 64)
			z, _ := strconv.ParseUint(to, 16, 64)
			if in = uint64(p) >= a && uint64(p) < z; in && field == "" {
				return value
			}
		} else if in && name == field+":" {
			return strings.TrimSpace(value)
		}
	}
	t.Fatalf("no %q of %#x in smaps", field, p)
	return ""
}

func TestLocked(t *testing.T) {
	flags := []string{"lo", "dd", "wf"} // locked, not dumped, wiped on fork
	if testrun.Emulated() {
		flags = flags[:1]
	}
	for _, n := range []int{1, 64, 1000, 5000, arenaSize, arenaSize + 1, 1 << 20} {
		b := alloc(t, n)
		for _, at := range []int{0, n - 1} {
			p := address(b) + uintptr(at)
			have := strings.Fields(mapping(t, p, "VmFlags"))
			for _, want := range flags {
				if !slices.Contains(have, want) {
					t.Errorf("%d octets: VmFlags %v lack %s", n, have, want)
				}
			}
			if perm := mapping(t, p, ""); !strings.HasPrefix(perm, "rw-p") {
				t.Errorf("%d octets: mapped as %s", n, perm)
			}
		}
		Free(b)
	}
	b := alloc(t, 100<<10)
	defer Free(b)
	if kb := strings.TrimSuffix(mapping(t, address(b), "Locked"), " kB"); kb == "0" {
		t.Error("nothing of it is locked in memory")
	}
	if kb, _ := strconv.Atoi(strings.TrimSuffix(mapping(t, address(b), "Swap"), " kB")); kb != 0 {
		t.Error("swapped out")
	}
}

func TestAlloc(t *testing.T) {
	_, before := Stats()
	var all [][]byte
	for i := range 300 {
		n := 1 + i*i%(12<<10)
		b := alloc(t, n)
		if len(b) != n || cap(b) != n || address(b)%align != 0 || len(bytes.Trim(b, "\x00")) != 0 {
			t.Fatalf("%d octets: len %d cap %d at %#x", n, len(b), cap(b), address(b))
		}
		for j := range b {
			b[j] = byte(i) | 1
		}
		all = append(all, b)
		if i%3 == 0 {
			Free(all[0])
			all = all[1:]
		}
	}
	slices.SortFunc(all, func(a, b []byte) int { return int(int64(address(a)) - int64(address(b))) })
	for i, b := range all {
		if i > 0 && address(all[i-1])+uintptr(len(all[i-1])) > address(b) {
			t.Fatal("two allocations overlap")
		}
		if len(bytes.Trim(b, string(b[:1]))) != 0 {
			t.Fatal("an allocation was changed")
		}
		Free(b)
	}
	if _, after := Stats(); after != before {
		t.Fatalf("%d live, %d before", after, before)
	}
	for _, n := range []int{0, -1} {
		if _, err := Alloc(n); !errors.Is(err, status.ErrArgument) {
			t.Errorf("Alloc(%d): %v", n, err)
		}
	}
}

// Freed memory goes back to the system, except for one arena of each size.
func TestArenasAreUnmapped(t *testing.T) {
	round := func() {
		var all [][]byte
		for range 200 {
			all = append(all, alloc(t, 8<<10), alloc(t, arenaSize+1)[:1:1])
			if len(all) == 20 {
				for _, b := range all {
					Free(b)
				}
				all = all[:0]
			}
		}
		for _, b := range all {
			Free(b)
		}
	}
	round()
	before, _ := Stats()
	round()
	if after, _ := Stats(); after != before || after > 10*arenaSize {
		t.Fatalf("%d octets are locked, %d before", after, before)
	}
}

func TestWipedWhenFreed(t *testing.T) {
	keep := alloc(t, 200) // so that the arena is not unmapped
	defer Free(keep)
	b := alloc(t, 200)
	for i := range b {
		b[i] = 0xA5
	}
	Free(b)
	if len(bytes.Trim(b, "\x00")) != 0 { // b dangles, but its page is still mapped
		t.Fatalf("%x", b)
	}
	type pair struct{ a, b [40]byte }
	p, err := New[pair]()
	if err != nil {
		t.Fatal(err)
	}
	p.a[3], p.b[39] = 1, 1
	k, _ := New[pair]()
	defer Delete(k)
	Delete(p)
	if *p != (pair{}) {
		t.Fatal("not wiped")
	}
	w := []byte{1, 2, 3}
	if Wipe(w[:2]); !bytes.Equal(w, []byte{0, 0, 3}) {
		t.Fatal(w)
	}
}

func panics(f func()) (did bool) {
	defer func() { did = recover() != nil }()
	f()
	return false
}

func TestFreeOfTheWrongThing(t *testing.T) {
	b := alloc(t, 128)
	for name, f := range map[string]func(){
		"nothing":      func() { Free(nil) },
		"the middle":   func() { Free(b[64:]) },
		"other memory": func() { Free(make([]byte, 128)) },
	} {
		if !panics(f) {
			t.Errorf("no panic for %s", name)
		}
	}
	Free(b)
	if !panics(func() { Free(b) }) {
		t.Error("no panic for freeing twice")
	}
}

// Reading in front of an arena or behind it is a fault.
func TestGuardPages(t *testing.T) {
	b := alloc(t, 1<<20) // alone in its arena
	defer Free(b)
	read := func(p unsafe.Pointer) bool {
		defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
		return !panics(func() { _ = *(*byte)(p) + 1; sink = *(*byte)(p) })
	}
	first := unsafe.Pointer(&b[0])
	for at, want := range map[int]bool{-os.Getpagesize(): false, -1: false, 0: true, len(b) - 1: true, len(b): false, len(b) + 100: false} {
		if got := read(unsafe.Add(first, at)); got != want {
			t.Errorf("octet %d of %d can be read: %v", at, len(b), got)
		}
	}
}

var sink byte

// limited runs in a child that may lock 256 KiB. At some point Alloc must return an error
// that says what to do, and earlier memory must still work.
func limited() {
	const limit = 256 << 10
	err := syscall.Setrlimit(8 /* RLIMIT_MEMLOCK */, &syscall.Rlimit{Cur: limit, Max: limit})
	if err == nil && os.Getuid() == 0 {
		err = syscall.Setuid(65534) // drops CAP_IPC_LOCK
	}
	if err != nil {
		fmt.Println("skip:", err)
		return
	}
	var all [][]byte
	for range 100 {
		b, err := Alloc(16 << 10)
		if err != nil {
			text := err.Error()
			if !errors.Is(err, status.ErrMemory) || !strings.Contains(text, "RLIMIT_MEMLOCK") {
				fmt.Println("wrong error:", err)
			}
			if got, n := Stats(); got > limit || n != len(all) {
				fmt.Println("locked:", got, "octets,", n, "allocations")
			}
			for _, b := range all {
				Free(b)
			}
			if _, err := Alloc(16 << 10); err != nil {
				fmt.Println("does not recover:", err)
			}
			fmt.Println("done")
			return
		}
		b[0] = 1
		all = append(all, b)
	}
	fmt.Println("skip: the limit is not enforced here")
}

func TestLimit(t *testing.T) {
	cmd, err := testrun.Self()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Env = append(os.Environ(), childEnv+"=1")
	out, err := cmd.CombinedOutput()
	if strings.HasPrefix(string(out), "skip:") {
		testrun.Skip(t, strings.TrimPrefix(string(out), "skip: "))
	}
	if err != nil || string(out) != "done\n" {
		t.Fatalf("%v: %s", err, out)
	}
}
