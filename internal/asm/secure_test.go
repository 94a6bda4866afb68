package asm

import "testing"

// The environment chooses the backend, except in a program with more rights than the user
// who started it. This program has none.
func TestEnvironment(t *testing.T) {
	t.Setenv("EESP_BACKEND", "generic")
	if secure() {
		t.Error("a test is taken for a set-user-ID program")
	}
	if got := wanted(false); got != "generic" {
		t.Errorf("EESP_BACKEND=generic: %q", got)
	}
	if got := wanted(true); got != "" {
		t.Errorf("EESP_BACKEND in a set-user-ID program: %q", got)
	}
}
