package keys

import (
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"

	"libeesp/internal/kernel"
	"libeesp/internal/secmem"
)

// Subs keeps keys that were derived from a slot's key, expanded and by number, as long
// as the slot's key lives: deriving one costs more than many packets. All threads share
// them and read without a lock. Each key takes 512 octets when it comes.
type Subs struct {
	ready  atomic.Bool
	full   atomic.Bool // there is no more memory
	mu     sync.Mutex
	be     *kernel.Backend // whose Expand made them
	at     []uint32        // by number: 1 + the key's place; 0: it is not here. The word behind is full, for C
	here   []uint32        // for C, in front of at and from its end on: a bit for each number whose key is here
	n      int             // keys
	memory *secmem.Region
	one    *struct { // scratch for one key
		area    [4 * kernel.MaxKeyBytes]byte
		scratch [kernel.ScratchBytes]byte
		key     [64]byte
	}
	pin    runtime.Pinner
	closed bool
}

// Places of keys are in groups of four. What is added to nonces is where kernels leave
// octets unused. Only keys of backends that C can call are here; on one architecture
// they all have one form (subs_form.go, subs_form_arm64.go).
const SubQuad = 2048

// View returns the addresses of the places by number and of the keys, for numbers below
// most, and begins to keep keys. It is not ok if there is no memory, or if the keys are
// another backend's.
func (s *Subs) View(be *kernel.Backend, most int) (at, area uintptr, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || be.Direct == nil || 4*be.KeyBytes != SubQuad || s.be != nil && (s.be != be || len(s.at) < most) {
		return 0, 0, false
	}
	if s.be == nil {
		room, err := secmem.Reserve((most + 3) / 4 * SubQuad)
		if err != nil {
			return 0, 0, false
		}
		if secret, err := secmem.New[struct {
			area    [4 * kernel.MaxKeyBytes]byte
			scratch [kernel.ScratchBytes]byte
			key     [64]byte
		}](); err != nil {
			room.Free()
			return 0, 0, false
		} else {
			s.one = secret
		}
		bits := (most + 31) / 32
		all := make([]uint32, bits+most+1)
		s.memory, s.be, s.here, s.at = room, be, all[:bits], all[bits:][:most]
		s.pin.Pin(unsafe.Pointer(&all[0]))
		s.ready.Store(true)
	}
	return uintptr(unsafe.Pointer(&s.at[0])), uintptr(unsafe.Pointer(s.memory.Addr())), true
}

// SubKey returns where the key of a place is: its area, its number in the area, and the
// address of what is added to nonces.
func SubKey(base uintptr, place uint32) (area, mask uintptr, key uint8) {
	at := place - 1
	area = base + uintptr(at/4*SubQuad)
	return area, area + SubMask + uintptr(at%4*SubLane), uint8(at % 4)
}

// Has reports whether the key of a number is here. kept says that Put would keep it.
func (s *Subs) Has(number int) (has, kept bool) {
	if !s.ready.Load() {
		return false, false
	}
	return number < len(s.at) && atomic.LoadUint32(&s.at[number]) != 0, !s.full.Load()
}

// Put keeps the key of a number and what is added to its nonces, if there is room. Only
// keys of authentic packets should be kept: forged ones name any number of keys.
func (s *Subs) Put(be *kernel.Backend, number int, key, mask []byte) {
	if !s.ready.Load() || s.full.Load() || s.be != be {
		return
	}
	s.Find(be, number, len(key), func(out []byte) error {
		copy(out[copy(out, key):], mask)
		return nil
	})
}

// Find returns 1 + the place of a number's key. If the key is not here, f derives it:
// keyLen octets, and behind them what is added to nonces. 0: there is no room, or f
// failed. View must have been called before.
func (s *Subs) Find(be *kernel.Backend, number, keyLen int, f func(out []byte) error) uint32 {
	if number < len(s.at) {
		if e := atomic.LoadUint32(&s.at[number]); e != 0 {
			return e
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || number >= len(s.at) {
		return 0
	}
	if e := s.at[number]; e != 0 {
		return e
	}
	group := s.n / 4 * SubQuad
	b, err := s.memory.Grow(group + SubQuad)
	if err != nil {
		s.full.Store(true)
		atomic.StoreUint32(&s.at[:len(s.at)+1][len(s.at)], 1)
		return 0
	}
	defer secmem.Wipe(s.one.key[:])
	if f(s.one.key[:keyLen+4]) != nil {
		return 0
	}
	be.Expand(unsafe.Pointer(&s.one.area), unsafe.Pointer(&s.one.key), 1, keyLen, unsafe.Pointer(&s.one.scratch))
	to := b[group+s.n%4*SubLane:]
	for row := 0; row < SubQuad; row += subNonceRow {
		copy(to[row:row+SubLane], s.one.area[row:])
	}
	copy(to[SubMask:SubMask+4], s.one.key[keyLen:])
	secmem.Wipe(s.one.area[:])
	s.n++
	atomic.StoreUint32(&s.at[number], uint32(s.n))
	atomic.OrUint32(&s.here[len(s.here)-1-number/32], 1<<(number%32))
	return uint32(s.n)
}

// free wipes the keys. No burst may use them any more.
func (s *Subs) free() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.ready.Swap(false) {
		s.memory.Free()
		secmem.Delete(s.one)
		s.pin.Unpin()
	}
}
