package eesp

import (
	impl "libeesp/internal/eesp"
)

// Backends returns the names of all backends, the fastest first.
func Backends() []string { return impl.Backends() }

// BackendSupported reports whether this machine can run a backend.
func BackendSupported(name string) bool { return impl.BackendSupported(name) }

// Backend returns the name of the backend in force. It is chosen at the first
// use: the one that the environment variable EESP_BACKEND names, else the
// fastest. The error is ErrBackend or ErrSelfTest.
func Backend() (string, error) { return impl.Backend() }

// SelectBackend selects the backend of objects made from now on; "auto" is the
// fastest. It returns ErrBackend if the machine cannot run it.
func SelectBackend(name string) error { return impl.SelectBackend(name) }

// SelfTest runs the known-answer tests of every backend that this machine can
// run. The one in force was tested before its first use anyway.
func SelfTest() error { return impl.SelfTest() }
