package main

import "github.com/mmcloughlin/avo/attr"

const rodata = attr.RODATA | attr.NOPTR
