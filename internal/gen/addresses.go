package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// addressesKernel writes the function that returns the addresses of kernels for C, which
// need neither a goroutine nor its stack: derive, expand, powers, and kinds.
func addressesKernel(kinds ...string) {
	function("addresses", "func(to *uintptr)",
		"addresses writes the addresses of functions: derive; expand, then powers, for each key length; then those that open and seal: long, short with raw keys, short with expanded keys, single.")
	to, a := reg.RDI, reg.RAX
	Load(Param("to"), to)
	at := 0
	put := func(name string) {
		LEAQ(NewDataAddr(Symbol{Name: "·" + name}, 0), a)
		MOVQ(a, Mem{Base: to, Disp: 8 * at})
		at++
	}
	put("derive")
	for _, kind := range []string{"expand", "powers"} {
		for _, keyLen := range []int{16, 32} {
			put(name(kind, keyLen))
		}
	}
	for _, kind := range kinds {
		if kind == "" { // the backend has none
			at += 4
			continue
		}
		for _, keyLen := range []int{16, 32} {
			put(name("open"+kind, keyLen))
			put(name("seal"+kind, keyLen))
		}
	}
	RET()
}
