package secmem

import (
	"fmt"
	"os"
	"syscall"

	"libeesp/internal/status"
)

// Region is one stretch of addresses, of which memory is had from the front on
// as it is asked for: its beginning never moves.
type Region struct {
	mapping []byte // with its guard pages
	body    []byte
	have    int
}

// regionStep is by how much memory a Region grows.
const regionStep = 64 << 10

// Reserve makes a Region of at most n octets, without memory.
func Reserve(n int) (*Region, error) {
	page := os.Getpagesize()
	n = (n + regionStep - 1) &^ (regionStep - 1)
	m, err := syscall.Mmap(-1, 0, n+2*page, syscall.PROT_NONE, syscall.MAP_PRIVATE|syscall.MAP_ANON|syscall.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("%w: mmap: %v", status.ErrMemory, err)
	}
	return &Region{mapping: m, body: m[page : page+n : page+n]}, nil
}

// Grow sees to it that the first n octets are there: zero at first, locked, and
// all that Alloc promises.
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

// Addr is the Region's beginning.
func (r *Region) Addr() *byte { return &r.mapping[len(r.mapping)-len(r.body)-os.Getpagesize()] }

// Free wipes the memory and gives it back.
func (r *Region) Free() {
	Wipe(r.body[:r.have])
	mu.Lock()
	locked -= r.have
	mu.Unlock()
	syscall.Munmap(r.mapping)
}
