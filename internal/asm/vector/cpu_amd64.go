package vector

import (
	"encoding/binary"
	"strings"
)

func cpuid(leaf, sub uint32) (a, b, c, d uint32)

func xgetbv() uint32

// octets returns the octets of registers, the lowest first.
func octets(registers ...uint32) string {
	var s []byte
	for _, r := range registers {
		s = binary.LittleEndian.AppendUint32(s, r)
	}
	return string(s)
}

// Vendor returns the CPU's vendor: GenuineIntel, AuthenticAMD.
func Vendor() string {
	_, b, c, d := cpuid(0, 0)
	return octets(b, d, c)
}

// Model returns the CPU's family and model numbers.
func Model() (family, model int) {
	a, _, _, _ := cpuid(1, 0)
	family, model = int(a>>8&0xf), int(a>>4&0xf)
	if family == 0xf {
		family += int(a >> 20 & 0xff)
	}
	if family >= 6 {
		model |= int(a >> 12 & 0xf0)
	}
	return family, model
}

// Name returns the CPU's product name, "" if it has none.
func Name() string {
	const first, last = 0x8000_0002, 0x8000_0004
	if most, _, _, _ := cpuid(0x8000_0000, 0); most < last {
		return ""
	}
	name := ""
	for leaf := uint32(first); leaf <= last; leaf++ {
		name += octets(cpuid(leaf, 0))
	}
	return strings.TrimSpace(strings.TrimRight(name, "\x00"))
}

// Features are the instructions that the CPU has and the operating system supports. (x/sys/cpu would
// bring package os into the C library, and reports VAES only together with AVX-512.)
type Features struct {
	SSSE3, SSE41, AES, PCLMULQDQ bool
	AVX, AVX2, BMI2              bool
	AVX512                       bool // F, BW, DQ, VL and VBMI
	VAES                         bool // AES and carry-less multiplication on vectors of more than 16 octets
}

// Has is the features of this CPU.
var Has = features()

func features() (f Features) {
	most, _, _, _ := cpuid(0, 0)
	if most < 1 {
		return f
	}
	_, _, c, _ := cpuid(1, 0)
	has := func(word uint32, bits ...int) bool {
		for _, b := range bits {
			if word>>b&1 == 0 {
				return false
			}
		}
		return true
	}
	f.SSSE3, f.SSE41, f.AES, f.PCLMULQDQ = has(c, 9), has(c, 19), has(c, 25), has(c, 1)
	var saved uint32 // the registers that the operating system saves
	if has(c, 27) {
		saved = xgetbv()
	}
	f.AVX = has(c, 28) && has(saved, 1, 2)
	if most < 7 {
		return f
	}
	_, b, c, _ := cpuid(7, 0)
	f.AVX2, f.BMI2 = has(b, 5) && has(saved, 1, 2), has(b, 8)
	f.AVX512 = has(b, 16, 17, 30, 31) && has(c, 1) && has(saved, 1, 2, 5, 6, 7)
	f.VAES = has(c, 9, 10)
	return f
}
