//go:build !linux

package barrier

import "time"

func register() bool { return false }

func execute() bool { return false }

func wait(d time.Duration) { time.Sleep(d) }
