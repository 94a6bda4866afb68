package vector

import "strconv"

// CPU is what a Tuning is for, here.
func CPU() string {
	family, _ := Model()
	return Vendor() + " family " + strconv.Itoa(family)
}

// Tuned is the tuning for this CPU, or the first.
func Tuned(t []Tuning) Tuning {
	for i := range t {
		if t[i].CPU == CPU() {
			return t[i]
		}
	}
	return t[0]
}
