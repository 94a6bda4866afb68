// Package secmem is memory for keys: locked against swapping, left out of core
// dumps, absent in forked children, guarded by unmapped pages, wiped when freed.
// A mutex guards it: it is for set-up, not for the hot path.
package secmem

import (
	"runtime"
	"sync"
	"syscall"
	"unsafe"

	"libeesp/internal/say"
	"libeesp/internal/status"
)

const (
	align     = 64
	arenaSize = 256 << 10
	classes   = 13 // 64 << 12 == arenaSize

	madvDontDump   = 16 // MADV_DONTDUMP
	madvWipeOnFork = 18 // MADV_WIPEONFORK
)

// arena is one locked mapping, cut into blocks of one size class. Mappings
// larger than arenaSize hold a single block.
type arena struct {
	mapping []byte // with its guard pages
	body    []byte
	size    int // of a block
	free    []int32
	used    int
}

type block struct {
	a  *arena
	at int32
	n  int
}

var (
	mu     sync.Mutex
	arenas [classes][]*arena
	live   = map[uintptr]block{}
	locked int
)

// Alloc returns n zero octets, aligned to 64. The error is ErrMemory, and says which limit
// to raise, or ErrArgument.
func Alloc(n int) ([]byte, error) {
	if n <= 0 {
		return nil, say.Errorf("%w: %d octets", status.ErrArgument, n)
	}
	mu.Lock()
	defer mu.Unlock()
	class, size := 0, align
	for size < n && class < classes {
		class, size = class+1, size*2
	}
	if class >= classes {
		a, err := newArena(n)
		if err != nil {
			return nil, err
		}
		return a.take(n), nil
	}
	for _, a := range arenas[class] {
		if len(a.free) != 0 {
			return a.take(n), nil
		}
	}
	a, err := newArena(size)
	if err != nil {
		return nil, err
	}
	arenas[class] = append(arenas[class], a)
	return a.take(n), nil
}

// newArena maps an arena for blocks of a size. Small blocks get a small arena, so that a
// process with few keys locks little memory.
func newArena(size int) (*arena, error) {
	page := syscall.Getpagesize()
	room := max(size, min(arenaSize, 16*size))
	room = (room + page - 1) &^ (page - 1)
	m, err := syscall.Mmap(-1, 0, room+2*page, syscall.PROT_NONE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		return nil, say.Errorf("%w: mmap: %v", status.ErrMemory, err)
	}
	a := &arena{mapping: m, body: m[page : page+room : page+room], size: size}
	if err := a.protect(); err != nil {
		syscall.Munmap(m)
		return nil, err
	}
	locked += room
	for at := room/size - 1; at >= 0; at-- {
		a.free = append(a.free, int32(at*size))
	}
	return a, nil
}

func (a *arena) protect() error {
	if err := syscall.Mprotect(a.body, syscall.PROT_READ|syscall.PROT_WRITE); err != nil {
		return say.Errorf("%w: mprotect: %v", status.ErrMemory, err)
	}
	if err := syscall.Mlock(a.body); err != nil {
		return say.Errorf("%w: cannot lock %d KiB for keys (%v): raise RLIMIT_MEMLOCK (ulimit -l, LimitMEMLOCK= of systemd) or grant CAP_IPC_LOCK",
			status.ErrMemory, len(a.body)>>10, err)
	}
	if err := syscall.Madvise(a.body, madvDontDump); err != nil {
		return say.Errorf("%w: madvise(MADV_DONTDUMP): %v", status.ErrMemory, err)
	}
	if err := syscall.Madvise(a.body, madvWipeOnFork); err != nil {
		return say.Errorf("%w: madvise(MADV_WIPEONFORK): %v", status.ErrMemory, err)
	}
	return nil
}

func (a *arena) take(n int) []byte {
	at := a.free[len(a.free)-1]
	a.free = a.free[:len(a.free)-1]
	a.used++
	b := a.body[at : int(at)+n : int(at)+n]
	live[uintptr(unsafe.Pointer(&b[0]))] = block{a, at, n}
	return b
}

// Free wipes and frees memory that Alloc returned. It panics for other memory.
func Free(b []byte) {
	if len(b) == 0 {
		panic("secmem: Free of nothing")
	}
	free(unsafe.Pointer(&b[0]))
}

func free(p unsafe.Pointer) {
	mu.Lock()
	defer mu.Unlock()
	x, ok := live[uintptr(p)]
	if !ok {
		panic("secmem: Free of memory that is not allocated")
	}
	delete(live, uintptr(p))
	a := x.a
	Wipe(a.body[x.at : int(x.at)+x.n])
	a.free = append(a.free, x.at)
	if a.used--; a.used > 0 {
		return
	}
	// Keep one empty arena of each class, so that not every allocation maps one.
	for c := range arenas {
		for i, y := range arenas[c] {
			if y != a {
				continue
			}
			if len(arenas[c]) == 1 {
				return
			}
			arenas[c] = append(arenas[c][:i], arenas[c][i+1:]...)
		}
	}
	locked -= len(a.body)
	syscall.Munmap(a.mapping)
}

// New allocates a T, all zero. T must hold no pointers into the Go heap: the
// collector does not see this memory.
func New[T any]() (*T, error) {
	b, err := Alloc(int(unsafe.Sizeof(*new(T))))
	if err != nil {
		return nil, err
	}
	return (*T)(unsafe.Pointer(&b[0])), nil
}

// Delete wipes and frees memory that New returned.
func Delete[T any](p *T) { free(unsafe.Pointer(p)) }

// Wipe overwrites b with zeros, even if the compiler sees that b is not used any more.
//
//go:noinline
func Wipe(b []byte) {
	clear(b)
	runtime.KeepAlive(b)
}

// Stats returns how many octets are locked, and how many allocations are not freed.
func Stats() (lockedOctets, allocations int) {
	mu.Lock()
	defer mu.Unlock()
	return locked, len(live)
}

// BurnStack overwrites the stack below its caller, where functions that were called may
// have left secrets. For example, hash.Hash.Sum copies the state to the stack.
//
//go:noinline
func BurnStack() {
	var b [4096]byte
	Wipe(b[:])
}
