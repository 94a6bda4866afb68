package main

import "fmt"

// addresses writes the function that gives C the addresses of a variant's kernels.
func addresses(o variant) {
	const to, t = x(0), x(1)
	f := begin("addresses"+o.suffix(),
		"writes the addresses of functions: derive; expand for each key length; powers up to H^2, H^4 and H^8; then those that open and seal, for each key length: short, long, brief with keys of mode OneShot, and brief with those of mode Shared, if the variant has it.",
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
