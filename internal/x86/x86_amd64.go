// Package x86 says of the CPU what golang.org/x/sys/cpu does not: who made it, and whether it has VAES
// without AVX-512.
package x86

// cpuid is the instruction.
//
//go:noescape
func cpuid(leaf, sub uint32) (a, b, c, d uint32)

// What the CPU is. Whether the operating system keeps its registers is x/sys/cpu's to say.
var (
	Vendor        string // as AuthenticAMD
	Family, Model uint32

	HasVAES, HasVPCLMULQDQ bool
)

func init() {
	most, b, c, d := cpuid(0, 0)
	var v []byte
	for _, x := range []uint32{b, d, c} {
		v = append(v, byte(x), byte(x>>8), byte(x>>16), byte(x>>24))
	}
	Vendor = string(v)
	a, _, _, _ := cpuid(1, 0)
	Family, Model = a>>8&15, a>>4&15
	if Family == 6 || Family == 15 {
		Model |= a >> 12 & 0xF0
	}
	if Family == 15 {
		Family += a >> 20 & 0xFF
	}
	if most >= 7 {
		_, _, c, _ := cpuid(7, 0)
		HasVAES, HasVPCLMULQDQ = c>>9&1 != 0, c>>10&1 != 0
	}
}
