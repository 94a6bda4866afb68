package sha2

func cpu() bool

var hasSHA256 = cpu()

//go:noescape
func blocks256(h *[8]uint32, k *[64]uint32, p []byte)
