package main

import "fmt"

// addresses tells where the functions of a variant are that C calls.
func addresses(o variant) {
	const to, t = x(0), x(1)
	f := begin("addresses"+o.suffix(),
		"writes where functions are: derive; by length of key expand; powers, to H^2, H^4, H^8; by length of key and direction, to open and to seal: short, long, brief with raw keys, with expanded ones if there are any.",
		"to *uintptr")
	f.arg("to", to)
	at := 0
	put := func(name string) {
		f.op("MOVD $·%s(SB), %v", name, t)
		f.op("MOVD %v, %d(%v)", t, at, to)
		at += 8
	}
	put("derive")
	for _, keyLen := range []int{16, 32} {
		put(name("expand", keyLen, o))
	}
	for _, most := range []int{2, 4, 8} {
		put(fmt.Sprintf("powers%d%s", most, o.suffix()))
	}
	kinds := []string{"Short", "Long", "Brief"}
	if o.eor3 {
		kinds = append(kinds, "BriefExpanded")
	}
	for _, kind := range kinds {
		for _, keyLen := range []int{16, 32} {
			put(name("open"+kind, keyLen, o))
			put(name("seal"+kind, keyLen, o))
		}
	}
	f.op("RET")
}
