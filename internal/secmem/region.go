package secmem

import (
	"syscall"

	"libeesp/internal/say"
	"libeesp/internal/status"
)

// Region is a range of addresses that gets memory from the front on, as Grow asks for it.
// It never moves.
type Region struct {
	mapping []byte // with its guard pages
	body    []byte
	have    int
}

// regionStep is by how much memory a Region grows.
const regionStep = 64 << 10

// Reserve makes a Region of at most n octets, without memory yet. The error is
// ErrMemory.
func Reserve(n int) (*Region, error) {
	page := syscall.Getpagesize()
	n = (n + regionStep - 1) &^ (regionStep - 1)
	m, err := syscall.Mmap(-1, 0, n+2*page, syscall.PROT_NONE, syscall.MAP_PRIVATE|syscall.MAP_ANON|syscall.MAP_NORESERVE)
	if err != nil {
		return nil, say.Errorf("%w: mmap: %v", status.ErrMemory, err)
	}
	return &Region{mapping: m, body: m[page : page+n : page+n]}, nil
}

// Grow returns the first n octets. New ones are zero and protected as those of Alloc. The
// error is ErrMemory.
func (r *Region) Grow(n int) ([]byte, error) {
	for r.have < n {
		a := arena{body: r.body[r.have : r.have+regionStep]}
		if err := a.protect(); err != nil {
			return nil, err
		}
		r.have += regionStep
		mu.Lock()
		locked += regionStep
		mu.Unlock()
	}
	return r.body[:n], nil
}

// Spare returns a Region that has n octets, or nil unless half of what the process may lock
// is still free then for keys that must be there.
func Spare(n int) *Region {
	const memlock = 8 // RLIMIT_MEMLOCK, but on MIPS and SPARC
	var l syscall.Rlimit
	mu.Lock()
	all := locked + n
	mu.Unlock()
	if syscall.Getrlimit(memlock, &l) != nil || uint64(all) > l.Cur/2 {
		return nil
	}
	r, err := Reserve(n)
	if err == nil {
		if _, err = r.Grow(n); err != nil {
			r.Free()
		}
	}
	if err != nil {
		return nil
	}
	return r
}

// Addr returns the Region's first address.
func (r *Region) Addr() *byte { return &r.mapping[len(r.mapping)-len(r.body)-syscall.Getpagesize()] }

// Free wipes and frees the memory.
func (r *Region) Free() {
	Wipe(r.body[:r.have])
	mu.Lock()
	locked -= r.have
	mu.Unlock()
	syscall.Munmap(r.mapping)
}
