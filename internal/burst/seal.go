package burst

import (
	"unsafe"

	"libeesp/internal/counter"
	"libeesp/internal/kernel"
	"libeesp/internal/keys"
	"libeesp/internal/profile"
	"libeesp/internal/status"
)

// sealSide is what sealing needs from burst to burst.
type sealSide struct {
	hdr     profile.Header
	sealing profile.Sealing // that made hdr
	counter *counter.Owner  // of the burst's counters
	special []uint8         // lanes of packets that are not simple
}

func (s *sealSide) init() { s.special = make([]uint8, 0, kernel.Chunk) }

// header is what begin or beginHeader made, for others to read.
func (s *sealSide) header() *profile.Header { return &s.hdr }

func (s *sealSide) forget() { s.hdr.Forget() }

// fit and look are those of the profile, for a packet of this header.
func (s *sealSide) fit(l *profile.Lane) status.Code { return s.sealing.Fit(&s.hdr, l) }

func (s *sealSide) look(l *profile.Lane, src unsafe.Pointer) status.Code {
	return s.sealing.Look(l, src)
}

// Seal seals a burst and returns how many packets were sealed.
func (w *Worker) Seal(s *Sender, pkts []profile.Desc) int {
	w.enter()
	defer w.leave()
	return w.seal(s.latest(), pkts)
}

// HeaderLen returns the length of the header that a sender writes now, in octets;
// 0: it has no key.
func (w *Worker) HeaderLen(s *Sender) int {
	w.enter()
	defer w.leave()
	if c, _ := w.beginHeader(s.latest()); c != status.OK {
		return 0
	}
	return w.hdr.Len()
}

// begin prepares hdr for the sender's packets, and sets the owner of their
// counters.
func (w *Worker) begin(s *Sender) status.Code {
	c, snap := w.beginHeader(s)
	if w.counter = s.Counter; c == status.OK && s.Renew != nil {
		w.counter, c = s.Renew(snap)
	}
	return c
}

func (w *Worker) beginHeader(s *Sender) (status.Code, *keys.Snapshot) {
	var snap *keys.Snapshot
	if s.Group != nil {
		snap = s.Group.Snapshot()
	}
	w.sealing = s.Sealing
	if snap != nil && snap.Sealing != status.OK {
		w.hdr.Forget()
		return snap.Sealing, snap
	}
	c := s.Sealing.Begin(&w.hdr, snap)
	if c == status.OK && w.hdr.Root != nil {
		c = w.makeCache() // before anything is written to a packet
	}
	if c != status.OK {
		w.hdr.Forget()
	}
	return c, snap
}

func (w *Worker) seal(s *Sender, pkts []profile.Desc) (good int) {
	if c := w.begin(s); c != status.OK {
		refuseAll(pkts, c)
	} else {
		good = w.sealBegun(s, pkts)
	}
	s.count(pkts)
	return good
}

// sealBegun seals a burst with the header that begin made. The caller counts it.
func (w *Worker) sealBegun(s *Sender, pkts []profile.Desc) int {
	if len(pkts) == 0 {
		return 0
	}
	first, have, why := w.counter.Take(len(pkts))
	for i := range pkts[have:] {
		refuse(&pkts[have+i], why)
	}
	return w.sealNumbered(s, pkts[:have], first)
}

// sealNumbered seals packets whose counters were taken, from first on.
func (w *Worker) sealNumbered(s *Sender, pkts []profile.Desc, first uint64) (good int) {
	tscs := w.counter.Map()
	for at := 0; at < len(pkts); {
		n, took := w.sealChunk(s, pkts[at:], first+uint64(at), tscs)
		at += took
		good += n
	}
	return good
}

// sealChunk seals as many packets as fit in a chunk, whose counters begin with
// first. It returns how many were sealed, and how many it took.
func (w *Worker) sealChunk(s *Sender, pkts []profile.Desc, first uint64, tscs counter.Map) (n, took int) {
	h := uint32(w.hdr.Len())
	w.special = w.special[:0]
	w.linear.again()
	w.ordering.begin()
	per := w.hdr.MsgLen() * w.hdr.Per()
	for took < len(pkts) && n < kernel.Chunk {
		if w.hdr.Other(pkts[took].Flags) { // other IP family: keys are derived differently
			if n != 0 {
				break
			}
			w.hdr.SwitchFamily()
			per = w.hdr.MsgLen() * w.hdr.Per()
		}
		// A run of simple packets first, then one that is not.
		run := 0
		if w.hdr.Simple {
			run = w.simpleRun(pkts[took:min(len(pkts), took+kernel.Chunk-n)], n, h)
		}
		if run > 0 {
			w.fill(n, pkts[took:took+run], first+uint64(took), tscs, per)
			n, took = n+run, took+run
			continue
		}
		p := &pkts[took]
		c, full := w.sealSpecial(p, n)
		if full {
			break
		}
		if c != status.OK {
			refuse(p, c)
			took++
			continue
		}
		w.fill(n, pkts[took:took+1], first+uint64(took), tscs, per)
		w.job(n, false)
		n, took = n+1, took+1
	}
	if n == 0 {
		return 0, took
	}
	if c := w.run(s.Backend, n, int(w.hdr.KeyLen), s.Expanded, nil, seal); c != status.OK {
		// There were no keys: nothing was encrypted, and the headers are void.
		for i := range pkts[:took] {
			if p := &pkts[i]; p.Status == status.OK {
				refuse(p, c)
			}
		}
		return 0, took
	}
	w.hdr.Usage.Sealed(n)
	for _, x := range w.special {
		w.sealed(&w.lanes[x], &w.place[x])
	}
	return n, took
}

// SealTaken seals packets whose counters C has taken, from first on, from the owner
// with this serial. It returns how many were sealed.
func (w *Worker) SealTaken(s *Sender, pkts []profile.Desc, first, serial uint64) (good int) {
	w.enter()
	defer w.leave()
	s = s.latest()
	switch c := w.begin(s); {
	case c != status.OK:
		refuseAll(pkts, c)
	case w.counter.Serial() != serial: // keys or ID changed: those counters belong to another owner
		good = w.sealBegun(s, pkts)
	default:
		good = w.sealNumbered(s, pkts, first)
	}
	s.count(pkts)
	return good
}

// sealKeys derives the data keys of n jobs with the header's KDF, in order of
// their lanes, and returns how many different ones there are.
func (w *Worker) sealKeys(be *kernel.Backend, n int) (u int, masked bool, code status.Code) {
	h := &w.hdr
	room := h.MsgLen() * h.Per()
	same := h.Fixed && w.jobs[0].Nonce[4] == w.jobs[n-1].Nonce[4] && w.jobs[0].Nonce[5] == w.jobs[n-1].Nonce[5] // one epoch
	if h.Fixed {
		k := n
		if same {
			k = 1
		}
		w.sealing.Messages(h, unsafe.Pointer(&w.sec.msgs), room, w.jobs[:k], nil)
	}
	return w.keysAlike(be, n, &h.KDF, same)
}

// simpleRun makes jobs, from job n on, of a run of simple packets: one segment,
// wholly encrypted, with space for a header of h octets. It stops at the first
// other packet and returns the length of the run.
func (w *Worker) simpleRun(pkts []profile.Desc, n int, h uint32) int {
	jobs := w.jobs[n : n+len(pkts)]
	sorted, last, prefix, flags := true, w.lastLen(), w.hdr.Prefix, w.hdr.Flags
	i := 0
	for ; i < len(pkts) && i < len(jobs); i++ {
		p, j := &pkts[i], &jobs[i]
		if p.COffset|p.IOffset|p.Reserved != 0 || p.IOVCount != 0 || p.Flags != flags || p.Data == nil || p.Len > profile.MaxLen {
			break
		}
		hdr, body := p.Dst, p.Data
		size := h + p.Len + kernel.TagSize
		if hdr == nil {
			if p.Headroom < h+prefix || p.Tailroom < kernel.TagSize {
				break
			}
			hdr = unsafe.Add(p.Data, -int(h))
		} else {
			if p.DstSize < size+prefix {
				break
			}
			hdr = add(hdr, prefix)
			body = add(hdr, h)
			if body != p.Data && overlap(p.Data, p.Len, hdr, size) {
				break
			}
		}
		j.AAD, j.Src, j.Dst, j.Tag = unsafe.Add(hdr, -int(prefix)), p.Data, body, add(body, p.Len)
		j.AADLen, j.Len = h+prefix, p.Len
		p.Status, p.Out, p.OutLen = status.OK, uintptr(hdr), size
		sorted = sorted && p.Len >= last
		last = p.Len
	}
	w.ordering.run(sorted, last)
	return i
}

// fill writes headers, nonces and KDF inputs of packets that are jobs from n on.
// per is the size of a packet's inputs in octets.
func (w *Worker) fill(n int, pkts []profile.Desc, linear uint64, tscs counter.Map, per int) {
	jobs := w.jobs[n : n+len(pkts)]
	tsc, step := tscs.TSC(linear), tscs.Step()
	if tscs.TSC(linear+uint64(len(pkts)-1)) == tsc+uint64(len(pkts)-1)*step {
		w.sealing.Fill(&w.hdr, jobs, pkts, tsc, step)
	} else { // the epoch changes within the run, and the direction bit lies in between
		for i := range pkts {
			w.sealing.Fill(&w.hdr, jobs[i:i+1], pkts[i:i+1], tscs.TSC(linear+uint64(i)), step)
		}
	}
	if !w.hdr.Fixed {
		w.sealing.Messages(&w.hdr, unsafe.Pointer(&w.sec.msgs[n*per]), per, jobs, pkts)
	}
}

// sealSpecial takes a packet that is not simple as lane x.
func (w *Worker) sealSpecial(p *profile.Desc, x int) (c status.Code, full bool) {
	l, at := &w.lanes[x], &w.place[x]
	l.Pkt = p
	if c, full = w.placeSeal(l, at); full || c != status.OK {
		return c, full
	}
	if at.src != at.body {
		switch {
		case l.Inner+l.Pad != 0: // what is encrypted must lie in one piece
			copy(octets(at.body, l.Len), octets(at.src, l.Len))
			at.src = at.body
		case l.Clear != 0:
			copy(octets(at.body, l.Clear), octets(at.src, l.Clear))
		}
	}
	if l.Pad != 0 {
		clear(octets(add(at.body, l.Len), l.Pad))
	}
	p.Status = status.OK
	w.jobs[x].AAD = unsafe.Add(l.Hdr, -int(l.Prefix))
	w.special = append(w.special, uint8(x))
	return status.OK, false
}

// placeSeal checks a packet to be sealed and decides where its parts go. full
// asks for a new chunk.
func (w *Worker) placeSeal(l *profile.Lane, at *place) (c status.Code, full bool) {
	p := l.Pkt
	h := uint32(w.hdr.Len())
	l.HdrLen, l.Inner, l.Len = h, w.hdr.Inner, p.Len
	at.chain = false
	if p.Reserved != 0 {
		return status.ErrArgument, false
	}
	if p.IOVCount != 0 {
		return w.gatherSeal(l, at)
	}
	switch {
	case p.Data == nil && (p.Len != 0 || p.Dst == nil):
		return status.ErrArgument, false
	case p.Len > profile.MaxLen:
		return status.ErrTooLong, false
	}
	if c := w.fit(l); c != status.OK {
		return c, false
	}
	at.src = p.Data
	tail := l.Pad + kernel.TagSize
	if p.Dst == nil {
		if p.Headroom < h+l.Prefix || p.Tailroom < tail {
			return status.ErrRoom, false
		}
		l.Hdr, at.body = unsafe.Add(p.Data, -int(h)), p.Data
	} else {
		total := l.Prefix + h + p.Len + tail
		if p.DstSize < total {
			return status.ErrRoom, false
		}
		l.Hdr = add(p.Dst, l.Prefix)
		at.body = add(l.Hdr, h)
		if at.src != at.body && overlap(p.Data, p.Len, p.Dst, total) {
			return status.ErrOverlap, false
		}
	}
	at.tag = add(at.body, p.Len+l.Pad)
	return w.look(l, at.src), false
}

// sealed completes a packet that is not simple and was sealed.
func (w *Worker) sealed(l *profile.Lane, at *place) {
	p := l.Pkt
	p.Status = status.OK
	p.OutLen = l.HdrLen + l.Len + l.Pad + kernel.TagSize
	if at.chain {
		w.scatterSeal(l, at)
		return
	}
	p.Out = uintptr(l.Hdr)
}
