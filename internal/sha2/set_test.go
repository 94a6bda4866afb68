//go:build amd64 || arm64

package sha2

func set(use bool) { hasSHA256 = use }
