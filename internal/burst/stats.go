package burst

import (
	"sync/atomic"
	"unsafe"

	"libeesp/internal/profile"
	"libeesp/internal/status"
)

// Stats counts what became of packets. Bursts add to it once each.
type Stats struct {
	octets atomic.Uint64
	by     [status.Count]atomic.Uint64
}

// add counts a burst: octets of output, and packets by status.
func (s *Stats) add(pkts []profile.Desc) {
	good, octets := uint64(0), uint64(0)
	for i := range pkts {
		p := &pkts[i]
		if p.Status == status.OK {
			good++
			octets += uint64(p.OutLen)
		} else {
			s.by[-p.Status].Add(1)
		}
	}
	if good != 0 {
		s.by[0].Add(good)
		s.octets.Add(octets)
	}
}

// words is where packets are counted, by status, and octets.
func (s *Stats) words() (by, octets uintptr) {
	return uintptr(unsafe.Pointer(&s.by)), uintptr(unsafe.Pointer(&s.octets))
}

// Read returns the octets output and the packets by status (negated).
func (s *Stats) Read() (octets uint64, by [status.Count]uint64) {
	for i := range by {
		by[i] = s.by[i].Load()
	}
	return s.octets.Load(), by
}
