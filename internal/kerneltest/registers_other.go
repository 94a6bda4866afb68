//go:build !amd64

package kerneltest

func registerWidth() int { return 16 }
