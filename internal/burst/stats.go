package burst

import (
	"encoding/binary"
	"sync/atomic"
	"unsafe"

	"libeesp/internal/keys"
	"libeesp/internal/profile"
	"libeesp/internal/status"
)

// Stats counts packets by status, and octets. Each burst adds to it once.
type Stats struct {
	octets atomic.Uint64
	by     [status.Count]atomic.Uint64
	shares keys.Shares // of by[0], and of octets
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

// count counts a burst that was sealed.
func (s *Sender) count(pkts []profile.Desc) {
	s.Stats.add(pkts)
	if s.Group == nil || s.Group.Params().State == nil {
		return
	}
	d, sealed := s.Group.Params().State, uint64(0)
	for i := range pkts {
		switch pkts[i].Status {
		case status.OK:
			sealed++
		case status.ErrExhausted:
			d.Add(keys.Exhausted, 1)
		}
	}
	d.Add(keys.Sealed, sealed)
}

// count counts a burst that was opened. With domains, a packet counts for the
// domain that its header names, else for the first.
func (r *Receiver) count(pkts []profile.Desc) {
	r.Stats.add(pkts)
	if len(r.Groups) == 0 || r.Groups[0].Params().State == nil {
		return
	}
	first, opened := r.Groups[0].Params(), uint64(0)
	for i := range pkts {
		p, d := &pkts[i], first
		if len(r.Groups) > 1 {
			d = r.domain(p)
		}
		what := inDomain[-p.Status]
		if what == keys.WrongSSI && d.Mode == keys.TSSServer { // its direction is wrong, not its SSI
			what = keys.Invalid
		}
		switch {
		case p.Status == status.OK && d == first:
			opened++
		case p.Status == status.OK:
			d.State.Add(keys.Opened, 1)
		case what != 0:
			d.State.Add(int(what), 1)
		}
	}
	first.State.Add(keys.Opened, opened)
}

// inDomain says how a domain counts packets that were not opened. With 0 it does
// not: the status is about the call, not the packet.
var inDomain = [status.Count]uint8{
	-status.ErrAuth: keys.AuthFailures, -status.ErrNoKey: keys.UnknownSA, -status.ErrEpoch: keys.LateEpoch,
	-status.ErrReflected: keys.WrongSSI, -status.ErrVersion: keys.Clear, -status.ErrShort: keys.Invalid,
	-status.ErrReserved: keys.Invalid, -status.ErrOffset: keys.Invalid, -status.ErrUnsupported: keys.Invalid,
	-status.ErrReplay: keys.Invalid, -status.ErrWindows: keys.Invalid, -status.ErrLatched: keys.Invalid,
}

// domain returns the parameters of the group that a packet's header names, else
// those of the first.
func (r *Receiver) domain(p *profile.Desc) *keys.Params {
	at, n := p.Data, uintptr(p.Len)
	if p.IOVCount != 0 && p.IOV != nil {
		at, n = segments(p)[0].Base, segments(p)[0].Len
	}
	if at != nil && n >= 4 {
		sdi := binary.BigEndian.Uint32((*[4]byte)(at)[:]) & (1<<24 - 1)
		for _, g := range r.Groups {
			if g.Params().Domain == sdi {
				return g.Params()
			}
		}
	}
	return r.Groups[0].Params()
}

// Refuse ends packets that were to be sealed, and counts them.
func (s *Stats) Refuse(pkts []profile.Desc, c status.Code) int {
	refuseAll(pkts, c)
	s.add(pkts)
	return 0
}

// refusals are shares of a receiver's counts of packets that were not opened, by
// status. They belong to the threads that have keys.Shares, each in its own cache
// lines.
type refusals [keys.ShareCount][RefusedWords]atomic.Uint64

// RefusedWords is the number of counts of a share: room for all statuses.
const RefusedWords = 64

// ReadStats returns the octets of output and the packets by status (negated).
func (r *Receiver) ReadStats() (octets uint64, by [status.Count]uint64) {
	octets, by = r.Stats.Read()
	for i := range r.refused {
		for k := range by {
			by[k] += r.refused[i][k].Load()
		}
	}
	return octets, by
}

// words returns the addresses of the counts of packets by status, of octets, and of
// the threads' shares of both.
func (s *Stats) words() (by, octets, shares uintptr) {
	return uintptr(unsafe.Pointer(&s.by)), uintptr(unsafe.Pointer(&s.octets)), s.shares.Address()
}

// Read returns the octets of output and the packets by status (negated).
func (s *Stats) Read() (octets uint64, by [status.Count]uint64) {
	for i := range by {
		by[i] = s.by[i].Load()
	}
	by[0] += s.shares.Sum(0)
	return s.octets.Load() + s.shares.Sum(1), by
}
