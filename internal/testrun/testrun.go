// Package testrun is what tests know of the machine that runs them.
//
// Environment: EESP_RUNNER is the command that runs programs of another
// architecture, an emulator with its options. Give go test the same command as
// -exec. EESP_TEST_LONG, if it is set, makes tests take all that they can.
package testrun

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
)

// Long reports whether EESP_TEST_LONG is set: make test-more sets it.
func Long() bool { return os.Getenv("EESP_TEST_LONG") != "" }

// Rounds is how many rounds a test takes: few in short mode, many where tests may
// take long, usual in make test.
func Rounds(few, usual, many int) int {
	switch {
	case testing.Short():
		return few
	case Long():
		return many
	}
	return usual
}

func runner() []string { return strings.Fields(os.Getenv("EESP_RUNNER")) }

// Emulated reports whether the system calls go through an emulator. QEMU 7.2's
// says that madvise worked, and does nothing.
func Emulated() bool { return len(runner()) != 0 }

// Self is the running test program, to be started once more.
func Self(args ...string) (*exec.Cmd, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	all := append(append(runner(), exe), args...)
	return exec.Command(all[0], all[1:]...), nil
}

// Skip ends a test that cannot run here, for the reason that is given. The file
// of the environment variable EESP_SKIPPED gets a line of it, for `make test` to
// say at its end what it left out.
func Skip(t interface {
	Helper()
	Name() string
	Skip(...any)
}, why string) {
	t.Helper()
	if path := os.Getenv("EESP_SKIPPED"); path != "" {
		// One write, so that lines of tests at the same time stay whole.
		if f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err == nil {
			fmt.Fprintf(f, "%s: %s on %s\n", strings.Join(strings.Fields(why), " "), t.Name(), runtime.GOARCH)
			f.Close()
		}
	}
	t.Skip(why)
}
