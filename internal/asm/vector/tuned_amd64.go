package vector

import (
	"strconv"

	"github.com/klauspost/cpuid/v2"
)

// CPU is what a Tuning is for, here.
func CPU() string { return cpuid.CPU.VendorString + " family " + strconv.Itoa(cpuid.CPU.Family) }

// Tuned is the tuning for this CPU, or the first.
func Tuned(t []Tuning) Tuning {
	for i := range t {
		if t[i].CPU == CPU() {
			return t[i]
		}
	}
	return t[0]
}
