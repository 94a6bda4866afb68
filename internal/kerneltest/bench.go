package kerneltest

import (
	"testing"
	"time"
)

// Fastest runs a benchmark of bursts of n packets and reports nanoseconds a
// packet in the fastest of many short rounds, which other work on the machine
// disturbs least.
func Fastest(b *testing.B, name string, n int, burst func()) {
	b.Run(name, func(b *testing.B) {
		const each = 8
		best := time.Duration(1<<63 - 1)
		for range b.N {
			t := time.Now()
			for range each {
				burst()
			}
			best = min(best, time.Since(t))
		}
		b.ReportMetric(float64(best.Nanoseconds())/each/float64(n), "ns/packet")
		b.ReportMetric(0, "ns/op")
	})
}
