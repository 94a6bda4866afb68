// Package kernel is the interface of a backend: the few functions that process
// keys, each for many packets at a time, and their arguments. It computes
// nothing.
//
// A burst goes through Derive (KDF blocks under one master key), then Seal or
// Open. Data keys that serve several packets go through Expand (round keys and
// hash keys) between them. All pointers handed to kernels stay valid for the
// call. No kernel keeps one, allocates, blocks, or reads or writes an octet
// outside what it was given. None returns with secrets in vector registers, or
// on the stack below its caller.
package kernel

import "unsafe"

// Chunk is the most packets that one kernel call takes: their round keys and
// hash keys together stay within a first-level data cache.
const Chunk = 32

// TagSize is the length of an ICV in octets.
const TagSize = 16

// ScratchBytes is the size of the scratch memory that a kernel may use. What it
// wrote there is zero when it returns.
const ScratchBytes = 16 << 10

// MaxKeyBytes bounds Backend.KeyBytes.
const MaxKeyBytes = 1024

// Master is an expanded 256-bit CMAC key. Its form is the same for all
// backends: FIPS-197 round keys in memory order, then the subkeys of RFC 4493.
// It lives in locked memory, aligned to 64 octets.
type Master struct {
	RK [15][16]byte
	K1 [16]byte
	K2 [16]byte
	ID [16]byte // tells keys apart and nothing about them: a fixed block, encrypted
	_  [32]byte
}

// Mode tells Seal and Open where a job's key is.
type Mode int

const (
	// OneShot: the area is the keys themselves, one directly behind the other,
	// and job i is the only one that uses key i.
	OneShot Mode = iota
	// Shared: the area is what Expand wrote; Job.Key names the slot. A slot may
	// serve any number of jobs and calls, which only read it.
	Shared
)

// Job is one packet of a Seal or Open call. Assembly knows its offsets.
// Src and Dst are equal or do not overlap; Dst and Tag do not overlap; the AAD
// overlaps neither Dst nor Tag. A kernel changes nothing in a job but OK.
type Job struct {
	AAD    unsafe.Pointer // 0: additional authenticated data
	Src    unsafe.Pointer // 8: plaintext to seal, or ciphertext to open
	Dst    unsafe.Pointer // 16: Len octets
	Tag    unsafe.Pointer // 24: TagSize octets: written by Seal, read by Open
	AADLen uint32         // 32: octets
	Len    uint32         // 36: octets
	Key    uint32         // 40: key slot (mode Shared)
	OK     uint32         // 44: set by Open: 1 when the tag is right, else 0
	Nonce  [12]byte       // 48

	Reserved uint32 // 60: kernels do not look at it
}

// Direct lists kernel entry points for callers outside Go, which need no cgo
// call: functions of the assembler's calling convention (arguments on the stack,
// no register preserved but the stack pointer) that need neither a goroutine nor
// its stack. C knows the layout.
type Direct struct {
	Derive uintptr // out, msgs, n, blocks, master, sub
	// By length of key: expanding n keys to rows, and H's powers behind them:
	// area, keys, n; area, n.
	Expand, Powers [2]uintptr
	// By length of key (16, 32 octets) and direction (open, seal): keys or area,
	// jobs, n, scratch. Raw is for mode OneShot, Expanded for Shared; 0: there is none.
	Raw, Expanded [2][2]uintptr
	// For other packets: area, jobs, n, whether mode is Shared, scratch. If it is
	// not, the area is what Expand and Powers made of the jobs' keys.
	Long [2][2]uintptr
	// By mode: the longest packets of Raw and Expanded, in octets, and how long one
	// is that takes Long as much time as beginning a packet does.
	Limit, Begin [2]uint32
	// Groups: Raw and Expanded take packets in groups of four. A group takes as
	// much time as if all were as long as its longest: QuadOctet hundredths of
	// what an octet takes Long. A call may end with a partial group if no packet
	// is longer than PartialMax; after it, zero ResidueLen octets, and as many as
	// the longest packet has, at ResidueAt in scratch. Packets below LongLeast
	// must not go to Long.
	Quads, QuadOctet, PartialMax, LongLeast uint32
	ResidueAt, ResidueLen                   uint32
	// Where in scratch an area for AtOnce keys is, of KeyBytes each, and where
	// Long's scratch begins.
	RowsAt, AtOnce, KeyBytes, LongAt uint32
	// One, like Raw, is for few packets that make no group, one after the other:
	// of up to OneAAD octets of AAD and less than OneLimit of text; 0: there is none. Behind
	// Raw's arguments are master and sub, or null: of them keys are derived, from
	// messages of one block for each 16 octets of key.
	One              [2][2]uintptr
	OneLimit, OneAAD uint32
	// Pair, by mode, length of key and direction, has Raw's arguments and is for
	// groups of two packets, or one that is not One's, of up to PairLimit octets; 0: none.
	Pair      [2][2][2]uintptr
	PairLimit [2]uint32
	// Without Groups, by mode: a packet that Raw and Expanded would find no second one
	// for is theirs up to so many octets.
	Alone [2]uint32
	// The processor has what the executor of plans needs to take 64 octets at a time:
	// AVX-512 with VBMI, and BMI2.
	Wide uint64
	// One derives a key from messages of up to so many blocks, and what is added to
	// the nonce (see the generator); 0: of one block, and nothing else.
	OneBlocks uint64
	// armv8 has no Raw: raw keys are expanded at RowsAt. Its Expanded is for groups of
	// four of as many times 32 octets: area, jobs, n, whether mode is Shared, scratch at
	// LongAt. Long has the number of H's powers that are there, 4 or 8, in place of
	// scratch. In mode OneShot they are still to be made: up to H^2 for Expanded and H^4 for
	// Long, by Fewer; but for packets of AllPowers octets and more by Powers. Groups of
	// 33 to 64 octets are Brief's, by mode, length of key and direction: area, jobs, n; 0: there is none.
	Fewer     [2]uintptr
	AllPowers uint32
	_         uint32
	Brief     [2][2][2]uintptr
}

// Backend is one implementation of the kernels.
//
// keyLen is 16 or 32. n is 1..Chunk, except for Derive, where it is any
// positive number. area, keys and scratch are aligned to 64 octets. Jobs come
// in order of non-decreasing Len.
type Backend struct {
	Name   string
	Direct *Direct // nil: only Go can call it

	// KeyBytes is the size of one key in an area; an area for n
	// keys has n rounded up to a multiple of 4 times KeyBytes octets.
	KeyBytes int

	// Derive computes n AES-256-CMACs: msgs holds n messages of blocks whole
	// 16-octet blocks each, already padded; sub (K1 or K2 of the master) goes
	// into each last block; out receives 16 octets a message. out may be msgs
	// when blocks is 1.
	Derive func(out, msgs unsafe.Pointer, n, blocks int, m *Master, sub *[16]byte, scratch unsafe.Pointer)

	// Expand fills area's slots 0..n-1, for mode Shared, from n keys of keyLen
	// octets, one directly behind the other.
	Expand func(area, keys unsafe.Pointer, n, keyLen int, scratch unsafe.Pointer)

	// Seal encrypts and authenticates n jobs with AES-GCM.
	Seal func(area unsafe.Pointer, jobs *Job, n, keyLen int, mode Mode, scratch unsafe.Pointer)

	// Open decrypts n jobs and sets OK. What Dst holds where OK is 0 is
	// unspecified (the caller zeroes it). Somebody else may write Src
	// meanwhile: each octet is read once, so that what is decrypted is what
	// was authenticated. Nor does Seal read again what it wrote to Dst.
	Open func(area unsafe.Pointer, jobs *Job, n, keyLen int, mode Mode, scratch unsafe.Pointer)
}
