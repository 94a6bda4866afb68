package barrier

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Commands of membarrier(2).
const (
	expedited         = 1 << 3
	registerExpedited = 1 << 4
)

func command(c uintptr) bool {
	_, _, e := syscall.RawSyscall(unix.SYS_MEMBARRIER, c, 0, 0)
	return e == 0
}

func register() bool { return command(registerExpedited) && command(expedited) }

func execute() bool { return command(expedited) }

func wait(d time.Duration) {
	t := syscall.NsecToTimespec(int64(d))
	for syscall.Nanosleep(&t, &t) == syscall.EINTR {
	}
}
