package vector

import (
	"strconv"

	"libeesp/internal/x86"
)

// CPU is what a Tuning is for, here.
func CPU() string { return x86.Vendor + " family " + strconv.Itoa(int(x86.Family)) }

// Tuned is the tuning for this CPU, or the first.
func Tuned(t []Tuning) Tuning {
	for i := range t {
		if t[i].CPU == CPU() {
			return t[i]
		}
	}
	return t[0]
}
