package vector

import (
	"encoding/binary"
	"strings"
)

func cpuid(leaf, sub uint32) (a, b, c, d uint32)

// octets are registers' octets, the lowest first.
func octets(registers ...uint32) string {
	var s []byte
	for _, r := range registers {
		s = binary.LittleEndian.AppendUint32(s, r)
	}
	return string(s)
}

// Vendor is who made the CPU, in the CPU's words: GenuineIntel, AuthenticAMD.
func Vendor() string {
	_, b, c, d := cpuid(0, 0)
	return octets(b, d, c)
}

// Model says which CPU of a vendor's it is.
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

// Name is what the CPU is sold as.
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

// HasVAES reports whether the CPU has AES and carry-less multiplication on vectors
// of more than 16 octets, with AVX-512 or without.
func HasVAES() bool {
	if most, _, _, _ := cpuid(0, 0); most < 7 {
		return false
	}
	_, _, c, _ := cpuid(7, 0)
	const vaes, vpclmulqdq = 1 << 9, 1 << 10
	return c&vaes != 0 && c&vpclmulqdq != 0
}
