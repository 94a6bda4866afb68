// Package testrun is what tests know of the machine that runs them.
//
// Environment: EESP_RUNNER is the command that runs programs of another
// architecture, an emulator with its options. Whoever sets it gives go test the
// same command as -exec.
package testrun

import (
	"os"
	"os/exec"
	"strings"
)

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
