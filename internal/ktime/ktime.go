// Package ktime reads clocks and waits with system calls, without the runtime's
// timers: these would start its poller, whose descriptors a C program may close.
package ktime

import (
	"syscall"
	"time"
	"unsafe"
)

// Clock is one of the kernel's clocks, in ns: unix.CLOCK_MONOTONIC or
// CLOCK_BOOTTIME. It is a system call, of which the scheduler knows nothing.
func Clock(id uintptr) int64 {
	var t syscall.Timespec
	syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, id, uintptr(unsafe.Pointer(&t)), 0)
	return t.Nano()
}

// Nap waits in the kernel.
func Nap(d time.Duration) {
	t := syscall.NsecToTimespec(int64(d))
	syscall.Nanosleep(&t, nil)
}
