//go:build !amd64 && !arm64

package sha2

func set(bool) {}
