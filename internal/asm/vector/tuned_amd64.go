package vector

import "strconv"

// CPU returns this CPU's vendor and family, as in Tuning.CPU.
func CPU() string {
	family, _ := Model()
	return Vendor() + " family " + strconv.Itoa(family)
}

// Tuned returns the tuning for this CPU, or the first one.
func Tuned(t []Tuning) Tuning {
	for i := range t {
		if t[i].CPU == CPU() {
			return t[i]
		}
	}
	return t[0]
}
