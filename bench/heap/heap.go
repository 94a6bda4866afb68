// Package heap is what measurements of crypto/cipher need, whose keys are garbage.
package heap

import (
	"runtime"
	"time"
)

// Grow makes garbage with f until the heap has its size, or for so long: as long as each new
// page of it costs a fault, that costs more than the work.
func Grow(f func(), most time.Duration) {
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	for begin := time.Now(); time.Since(begin) < most && now.NumGC < before.NumGC+20; runtime.ReadMemStats(&now) {
		for range 100 {
			f()
		}
	}
}
