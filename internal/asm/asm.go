// Package asm lists the backends, best first, and chooses one at run time.
package asm

import (
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"libeesp/internal/kernel"
	"libeesp/internal/say"
	"libeesp/internal/status"
)

type entry struct {
	backend   *kernel.Backend
	supported func() bool
	// slow says that on this CPU a later backend is faster: then this one is chosen by
	// name only. nil: never.
	slow func() bool
}

var (
	mu       sync.Mutex
	selected *kernel.Backend
	tested   = map[*kernel.Backend]error{}
)

// Names returns the names of all backends that this library has for this
// architecture, best first.
func Names() []string {
	var n []string
	for _, e := range list() {
		n = append(n, e.backend.Name)
	}
	return n
}

// Supported reports whether this machine can run a backend.
func Supported(name string) bool {
	for _, e := range list() {
		if e.backend.Name == name {
			return e.supported()
		}
	}
	return false
}

// Selected returns the backend in force, which has passed its known-answer test. The first
// call chooses it: the one that the environment variable EESP_BACKEND names (except in
// set-user-ID programs), else the best that this machine runs. The error is ErrBackend or
// ErrSelfTest.
func Selected() (*kernel.Backend, error) {
	mu.Lock()
	defer mu.Unlock()
	if selected != nil {
		return selected, nil
	}
	return choose(wanted(secure()), nil)
}

// wanted returns the environment's choice, unless the environment must not be trusted.
func wanted(secure bool) string {
	if secure {
		return ""
	}
	name, _ := unix.Getenv("EESP_BACKEND")
	return name
}

// secure reports whether the process has more rights than the user who started it. Then
// the environment must not be trusted.
func secure() bool {
	const atSecure = 23
	auxv, err := unix.Auxv()
	if err != nil {
		return true
	}
	for _, x := range auxv {
		if x[0] == atSecure {
			return x[1] != 0
		}
	}
	return false
}

// Select sets the backend of objects made from now on. An empty name or "auto" means the
// best. The error is ErrBackend or ErrSelfTest, or that of also, unless that is nil: a
// further test, which must not call this package.
func Select(name string, also func(*kernel.Backend) error) (*kernel.Backend, error) {
	mu.Lock()
	defer mu.Unlock()
	return choose(name, also)
}

func choose(name string, also func(*kernel.Backend) error) (*kernel.Backend, error) {
	for _, e := range list() {
		if name != "" && name != "auto" && e.backend.Name != name {
			continue
		}
		if !e.supported() {
			if e.backend.Name == name {
				return nil, say.Errorf("%w: %s: this CPU or operating system lacks it", status.ErrBackend, name)
			}
			continue
		}
		if e.slow != nil && e.backend.Name != name && e.slow() {
			continue
		}
		if err := check(e.backend); err != nil {
			return nil, err
		}
		if also != nil {
			if err := also(e.backend); err != nil {
				return nil, err
			}
		}
		selected = e.backend
		return selected, nil
	}
	return nil, say.Errorf("%w: %q: backends are %s", status.ErrBackend, name, strings.Join(Names(), ", "))
}

// check runs a backend's known-answer test the first time, and returns its outcome.
func check(b *kernel.Backend) error {
	err, ok := tested[b]
	if !ok {
		err = SelfTest(b)
		tested[b] = err
	}
	return err
}

// SelfTestAll runs the known-answer tests of all backends that this machine can run, even
// if they were run before. It returns the first ErrSelfTest.
func SelfTestAll() error {
	mu.Lock()
	defer mu.Unlock()
	return Each(func(b *kernel.Backend) error {
		tested[b] = SelfTest(b)
		return tested[b]
	})
}

// Each calls f with all backends that this machine can run, until f returns an error.
func Each(f func(b *kernel.Backend) error) error {
	for _, e := range list() {
		if !e.supported() {
			continue
		}
		if err := f(e.backend); err != nil {
			return err
		}
	}
	return nil
}
