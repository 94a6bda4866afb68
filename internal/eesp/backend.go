package eesp

import (
	"libeesp/internal/asm"
	"libeesp/internal/kernel"
)

type backend = kernel.Backend

// Backends returns the names of all backends, the fastest first.
func Backends() []string { return asm.Names() }

// BackendSupported reports whether this machine can run a backend.
func BackendSupported(name string) bool { return asm.Supported(name) }

// Backend returns the name of the backend in force. The first use chooses: the
// one that the environment variable EESP_BACKEND names, else the fastest.
func Backend() (string, error) {
	b, err := asm.Selected()
	if err != nil {
		return "", err
	}
	return b.Name, nil
}

// SelectBackend selects the backend of objects made from now on; "auto" is the
// fastest. ErrBackend: this machine cannot run it.
func SelectBackend(name string) error {
	_, err := asm.Select(name)
	return err
}

// SelfTest runs the known-answer tests of every backend that this machine can
// run. The one in force was tested before its first use anyway.
func SelfTest() error { return asm.SelfTestAll() }
