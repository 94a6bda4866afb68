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
	ID [16]byte // name of the key, which does not reveal it: a fixed block, encrypted
	_  [32]byte
}

// Mode tells Seal and Open where a job's key is.
type Mode int

const (
	// OneShot: the area holds raw keys, one directly behind the other. Only job i
	// uses key i.
	OneShot Mode = iota
	// Shared: the area holds the keys that Expand wrote; Job.Key is the number of
	// the job's key. Any number of jobs and calls may use a key; they only read it.
	Shared
)

// Job is one packet of a Seal or Open call. Assembly knows its offsets.
// Src and Dst are equal or do not overlap; Dst and Tag do not overlap; the AAD
// overlaps neither Dst nor Tag. A kernel changes nothing in a job but OK and Reserved.
type Job struct {
	AAD    unsafe.Pointer // 0: additional authenticated data
	Src    unsafe.Pointer // 8: plaintext to seal, or ciphertext to open
	Dst    unsafe.Pointer // 16: Len octets
	Tag    unsafe.Pointer // 24: TagSize octets: written by Seal, read by Open
	AADLen uint32         // 32: octets
	Len    uint32         // 36: octets
	Key    uint32         // 40: number of the key in the area (mode Shared)
	OK     uint32         // 44: set by Open: 1 when the tag is right, else 0
	Nonce  [12]byte       // 48

	// 0, or the head of the body and its mask (see Direct.HeadLeast and internal/gen/long.go).
	// If it is not 0, Open writes the head to it.
	Reserved uint32 // 60
}

// Direct lists kernel entry points for callers outside Go, which need no cgo
// call. They have the Go assembler's calling convention: arguments on the stack,
// no register preserved but the stack pointer. They need neither a goroutine nor
// its stack. Arrays are indexed by key length (0: 16 octets, 1: 32) and direction
// (0: open, 1: seal), some by mode first. An entry of 0 means that there is no
// such kernel. C knows the layout.
type Direct struct {
	Derive uintptr // out, msgs, n, blocks, master, sub
	// Expand(area, keys, n) writes the round keys of n keys to an area.
	// Powers(area, n) writes the powers of H behind them.
	Expand, Powers [2]uintptr
	// Raw is the short kernel for mode OneShot, Expanded the one for Shared: keys or
	// area, jobs, n, scratch.
	Raw, Expanded [2][2]uintptr
	// Long is for other packets: area, jobs, n, whether mode is Shared, scratch. In
	// mode OneShot the area is what Expand and Powers made of the jobs' keys.
	Long [2][2]uintptr
	// Limit, by mode, is the longest packet of Raw and Expanded, in octets. Begin is
	// the time that Long needs to begin a packet, in octets of its throughput.
	Limit, Begin [2]uint32
	// Quads is not 0 if Raw and Expanded take packets in groups of four. A group
	// takes as long as four of its longest packet would, at QuadOctet hundredths of
	// Long's time for an octet. A call may end with a partial group if no packet is
	// longer than PartialMax octets. After it the caller zeroes scratch from
	// ResidueAt on: ResidueLen octets, and as many as the longest packet has. Packets
	// shorter than LongLeast must not go to Long.
	Quads, QuadOctet, PartialMax, LongLeast uint32
	ResidueAt, ResidueLen                   uint32
	// RowsAt is the place in scratch of an area for AtOnce keys of KeyBytes octets
	// each. LongAt is where Long's scratch begins.
	RowsAt, AtOnce, KeyBytes, LongAt uint32
	// One takes a few packets that make no group, one after the other. They have at
	// most OneAAD octets of AAD and less than OneLimit to encrypt. It has Raw's
	// arguments, then master and sub. If these are not null, it derives the keys
	// first, from messages of one block for each 16 octets of key.
	One              [2][2]uintptr
	OneLimit, OneAAD uint32
	// Pair, by mode too, has Raw's arguments. It takes groups of two packets, or one
	// that One does not take, of up to PairLimit octets.
	Pair      [2][2][2]uintptr
	PairLimit [2]uint32
	// Alone, by mode, is for kernels without Quads, which take packets in pairs: the
	// longest packet, in octets, that they take by itself.
	Alone [2]uint32
	// Wide is 1 if the processor has what the executor of plans needs to take 64
	// octets at a time: AVX-512 with VBMI, and BMI2.
	Wide uint64
	// OneBlocks is the most blocks of a message from which One derives a key and
	// what is added to the nonce (see the generator); 0: one block, and a key only.
	OneBlocks uint64
	// armv8 has no Raw: the caller expands raw keys at RowsAt. Its Expanded takes
	// groups of four packets whose lengths need equally many blocks of 32 octets:
	// area, jobs, n, whether mode is Shared, scratch at LongAt. Its Long has, in place
	// of scratch, the number of powers of H that are in the area, 4 or 8. In mode
	// OneShot the caller makes them before: Fewer makes up to H^2 for Expanded and H^4
	// for Long, and for packets of at least AllPowers octets Powers makes all. Brief,
	// by mode too, takes groups of 33 to 64 octets: area, jobs, n.
	Fewer     [2]uintptr
	AllPowers uint32
	// In mode Shared, a body of at least so many octets may have a head: its first four
	// octets, which are in Job.Reserved instead of memory (internal/gen/long.go). 0: no
	// body may have one.
	HeadLeast uint32
	Brief     [2][2][2]uintptr
	// Narrow is a One with narrower vectors. It derives from messages of one block, and a key only. It is
	// faster for packets of n blocks, n < 32, if bit n of NarrowBlocks, by length of key, is set. They have
	// at most NarrowAAD octets of AAD.
	Narrow       [2][2]uintptr
	NarrowBlocks [2]uint32
	NarrowAAD    uint32
	// In mode Shared, groups of four packets above Limit, up to RestLimit octets, are Expanded's if Long's last
	// window would hold few octets of them: see vector.Tuning.
	RestLimit uint32
}

// Backend is one implementation of the kernels.
//
// keyLen is 16 or 32. n is 1..Chunk, except for Derive, where it is any
// positive number. area, keys and scratch are aligned to 64 octets. Jobs come
// in order of non-decreasing Len.
type Backend struct {
	Name   string
	Direct *Direct // nil: only Go can call it

	// KeyBytes is the size of one key in an area, in octets. The area of n keys has
	// room for n rounded up to a multiple of 4.
	KeyBytes int

	// Derive computes n AES-256-CMACs. msgs holds n messages of blocks 16-octet
	// blocks each, already padded. sub (K1 or K2 of the master) is added to the
	// last block of each. out receives 16 octets a message, and may be msgs when
	// blocks is 1.
	Derive func(out, msgs unsafe.Pointer, n, blocks int, m *Master, sub *[16]byte, scratch unsafe.Pointer)

	// Expand fills places 0 to n-1 of an area, for mode Shared, from n keys of
	// keyLen octets, one directly behind the other.
	Expand func(area, keys unsafe.Pointer, n, keyLen int, scratch unsafe.Pointer)

	// Seal encrypts and authenticates n jobs with AES-GCM.
	Seal func(area unsafe.Pointer, jobs *Job, n, keyLen int, mode Mode, scratch unsafe.Pointer)

	// Open decrypts n jobs and sets OK. Where OK is 0, the content of Dst is
	// unspecified, and the caller zeroes it. Others may write to Src meanwhile:
	// each octet is read once, so that what is decrypted is what was authenticated.
	// For the same reason Seal does not read back what it wrote to Dst.
	Open func(area unsafe.Pointer, jobs *Job, n, keyLen int, mode Mode, scratch unsafe.Pointer)
}
