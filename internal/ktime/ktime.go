// Package ktime reads clocks and waits with system calls, without the runtime's
// timers: these would start its poller, whose descriptors a C program may close.
package ktime

import (
	"syscall"
	"time"
	"unsafe"
)

// Clock reads one of the kernel's clocks, in ns: unix.CLOCK_MONOTONIC or
// CLOCK_BOOTTIME. The system call is raw: the scheduler is not told of it.
func Clock(id uintptr) int64 {
	var t syscall.Timespec
	syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, id, uintptr(unsafe.Pointer(&t)), 0)
	return t.Nano()
}

// Nap sleeps in the kernel, and blocks the thread for d or until a signal.
func Nap(d time.Duration) {
	t := syscall.NsecToTimespec(int64(d))
	syscall.Nanosleep(&t, nil)
}
