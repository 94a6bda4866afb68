package main

func vaes512() {
	lanes = 4
	c := makeConstants()
	addressesKernel("Long", "Raw", "Expanded", "One")
	deriveKernel(&c)
	for _, keyLen := range []int{16, 32} {
		expandKernel512(&c, keyLen)
		powersKernel512(&c, keyLen)
		for _, sealing := range []bool{true, false} {
			longKernel512(&c, keyLen, sealing)
			oneKernel512(&c, keyLen, sealing)
			for _, raw := range []bool{true, false} {
				shortKernel512(&c, keyLen, raw, sealing)
			}
		}
	}
}
