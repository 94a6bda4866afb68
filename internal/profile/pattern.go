package profile

import (
	"unsafe"

	"libeesp/internal/kernel"
	"libeesp/internal/keys"
	"libeesp/internal/wire"
)

// Pattern is what most packets of a burst have in common: first octets, options and
// key.
type Pattern struct {
	KDF
	of     Opening // nil: there is none
	word   [4]byte // the first octets
	n      uint32  // octets of the header
	at     uint32  // where the options begin
	long   bool    // stateless: the ID has 8 octets
	flags  uint16
	prefix uint32
	name   [16]byte       // of the key, in Flow
	snap   *keys.Snapshot // tss
	opts   [wire.Levels*wire.MaxOption + 8]byte
	msg    [MaxBlocks * 16]byte
}

// Failed counts a packet that matched the pattern and is not authentic.
func (s *Pattern) Failed() { failed(s.snap) }

// Is reports whether packets of o have a known pattern.
func (s *Pattern) Is(o Opening) bool { return s.of == o && o != nil }

// MsgLen is the length of a packet's KDF input in octets.
func (s *Pattern) MsgLen() int { return int(s.Blocks) * 16 }

// Begins reports whether a packet has the pattern's first octets.
func (s *Pattern) Begins(p *Desc) bool {
	return p.IOVCount == 0 && p.Data != nil && p.Len >= 4 && *(*[4]byte)(p.Data) == s.word
}

// Forget drops the pattern.
func (s *Pattern) Forget() { *s = Pattern{} }

// job makes a job, except for the nonce, of a packet that has the pattern's first
// octets and is simple. It copies the AAD to where the job's AAD points to. It reports whether it did.
func (s *Pattern) job(p *Desc, j *kernel.Job) bool {
	const icv = kernel.TagSize
	if p.IOVCount != 0 || p.Flags^s.flags|uint16(p.Reserved) != 0 || p.Data == nil || p.Len < s.n+icv || p.Len > MaxLen ||
		p.Headroom < s.prefix || *(*uint32)(p.Data) != *(*uint32)(unsafe.Pointer(&s.word)) {
		return false
	}
	from, n := unsafe.Add(p.Data, -int(s.prefix)), s.prefix+s.n
	copy(unsafe.Slice((*byte)(j.AAD), n), unsafe.Slice((*byte)(from), n))
	if *(*uint32)(s.header(j)) != *(*uint32)(unsafe.Pointer(&s.word)) {
		return false
	}
	text := p.Len - s.n - icv
	src := unsafe.Add(p.Data, s.n)
	j.Src, j.Dst, j.Tag = src, src, unsafe.Add(src, text)
	j.AADLen, j.Len, j.OK = n, text, 0
	if p.Dst == nil || p.Dst == src {
		return p.Dst == nil || p.DstSize >= text
	}
	j.Dst = p.Dst
	d := uintptr(p.Dst) - uintptr(from) // Dst must not overlap the packet
	return p.DstSize >= text && d >= uintptr(s.prefix+p.Len) && -d >= uintptr(text)
}

// header is the copy of a packet's header that job made.
func (s *Pattern) header(j *kernel.Job) unsafe.Pointer { return unsafe.Add(j.AAD, s.prefix) }
