// Package heap grows the heap before crypto/cipher is measured, which allocates for each key.
package heap

import (
	"runtime"
	"time"
)

// Grow calls f, which makes garbage, until the collector has run 20 times or most has passed. Then
// the heap no longer grows: page faults for new memory would cost more than the work measured.
func Grow(f func(), most time.Duration) {
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	for begin := time.Now(); time.Since(begin) < most && now.NumGC < before.NumGC+20; runtime.ReadMemStats(&now) {
		for range 100 {
			f()
		}
	}
}
