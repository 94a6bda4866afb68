package sha2

import "golang.org/x/sys/cpu"

var hasSHA256 = cpu.ARM64.HasSHA2

//go:noescape
func blocks256(h *[8]uint32, k *[64]uint32, p []byte)
