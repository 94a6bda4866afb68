package burst

import (
	"sync/atomic"
	"unsafe"

	"libeesp/internal/counter"
	"libeesp/internal/kernel"
	"libeesp/internal/keys"
	"libeesp/internal/profile"
	"libeesp/internal/secmem"
	"libeesp/internal/status"
)

// Held is an expanded data key in locked memory, made for one backend.
type Held struct {
	area *[4 * kernel.MaxKeyBytes]byte
}

// NewHeld expands a data key.
func NewHeld(be *kernel.Backend, key []byte) (*Held, error) {
	a, err := secmem.New[[4 * kernel.MaxKeyBytes]byte]()
	if err != nil {
		return nil, err
	}
	s, err := secmem.New[secrets]()
	if err != nil {
		secmem.Delete(a)
		return nil, err
	}
	defer secmem.Delete(s)
	copy(s.keys[:], key)
	be.Expand(unsafe.Pointer(a), unsafe.Pointer(&s.keys), 1, len(key), unsafe.Pointer(&s.scratch))
	return &Held{a}, nil
}

// Free wipes the key once no burst uses it.
func (h *Held) Free() {
	if h != nil {
		keys.Retire(func() { secmem.Delete(h.area) })
	}
}

// Sender is what the engine needs to know of a sender.
type Sender struct {
	Backend *kernel.Backend
	Group   *keys.Group // nil: Held
	Held    *Held
	Sealing profile.Sealing
	Counter *counter.Owner
	Stats   Stats

	// Renew, if there is one, returns the owner of counters for the keys of a
	// snapshot, in formats whose counters begin anew with keys; Counter's are not
	// used then.
	Renew func(snap *keys.Snapshot) (*counter.Owner, status.Code)

	plans sealPlans
	next  atomic.Pointer[Sender]
}

// Replace has bursts that begin from now on seal with another sender in place of
// this one, under another ID.
func (s *Sender) Replace(with *Sender) { s.next.Store(with) }

// latest is the sender to seal with; it is asked within the burst, so that the one
// before is done with when the bursts are that had begun.
func (s *Sender) latest() *Sender {
	for n := s.next.Load(); n != nil; n = s.next.Load() {
		s = n
	}
	return s
}

// Receiver is what the engine needs to know of a receiver.
type Receiver struct {
	Backend *kernel.Backend
	Groups  []*keys.Group // none: Held
	Held    *Held
	Opening profile.Opening
	Windows *Windows // nil, and Times too: no replay protection
	Times   *Times
	Stats   Stats

	plans     openPlans
	strangers strangers
}

// Seal seals a burst and returns how many packets were.
func (w *Worker) Seal(s *Sender, pkts []profile.Desc) int {
	w.enter()
	defer w.leave()
	return w.seal(s.latest(), pkts)
}

// Open opens a burst and returns how many packets were.
func (w *Worker) Open(r *Receiver, pkts []profile.Desc) int {
	w.enter()
	defer w.leave()
	return w.open(r, pkts)
}

// refuse ends a packet that was to be sealed: no header has its ID and TSC.
func refuse(p *profile.Desc, c status.Code) {
	p.ID, p.TSC = 0, 0
	fail(p, c)
}

// fail ends a packet.
func fail(p *profile.Desc, c status.Code) {
	p.Status, p.Out, p.OutLen = c, 0, 0
}

// begin makes hdr what the sender's packets begin with, and counter the owner of
// what they are numbered with.
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

func refuseAll(pkts []profile.Desc, c status.Code) {
	for i := range pkts {
		refuse(&pkts[i], c)
	}
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

// sealBegun seals a burst with the header that begin made, and counts nothing.
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

// sealNumbered seals packets whose counters were taken.
func (w *Worker) sealNumbered(s *Sender, pkts []profile.Desc, first uint64) (good int) {
	tscs := w.counter.Map()
	for at := 0; at < len(pkts); {
		n, took := w.sealChunk(s, pkts[at:], first+uint64(at), tscs)
		at += took
		good += n
	}
	return good
}

// sealChunk seals as many packets as fit in a chunk; it returns how many were
// sealed, and how many are done with. first is the counter of the first one.
func (w *Worker) sealChunk(s *Sender, pkts []profile.Desc, first uint64, tscs counter.Map) (n, took int) {
	h := uint32(w.hdr.Len())
	w.special, w.linearN = w.special[:0], 0
	w.sorted, w.longest = true, 0
	per := w.hdr.MsgLen() * w.hdr.Per()
	for took < len(pkts) && n < kernel.Chunk {
		if w.hdr.Other(pkts[took].Flags) { // keys are derived in another way
			if n != 0 {
				break
			}
			w.hdr.Turn()
			per = w.hdr.MsgLen() * w.hdr.Per()
		}
		// A run of simple packets first, then one that is not.
		row := 0
		if w.hdr.Plain {
			row = w.plainRow(pkts[took:min(len(pkts), took+kernel.Chunk-n)], n, h)
		}
		if row > 0 {
			w.fill(n, pkts[took:took+row], first+uint64(took), tscs, per)
			n, took = n+row, took+row
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
		w.job(n)
		n, took = n+1, took+1
	}
	if n == 0 {
		return 0, took
	}
	if c := w.run(s.Backend, n, int(w.hdr.KeyLen), s.Held, nil, seal); c != status.OK {
		// No key could be had: nothing was encrypted, and no header may stay.
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

// plainRow makes jobs from n on of a run of simple packets: in place or
// elsewhere, all of it encrypted, with space for a header of h octets. It stops
// at the first other packet.
func (w *Worker) plainRow(pkts []profile.Desc, n int, h uint32) int {
	jobs := w.jobs[n : n+len(pkts)]
	sorted, last, lead, flags := true, w.longest, w.hdr.Lead, w.hdr.Flags
	i := 0
	for ; i < len(pkts) && i < len(jobs); i++ {
		p, j := &pkts[i], &jobs[i]
		if p.COffset|p.IOffset|p.Reserved != 0 || p.IOVCount != 0 || p.Flags != flags || p.Data == nil || p.Len > profile.MaxLen {
			break
		}
		hdr, body := p.Dst, p.Data
		size := h + p.Len + kernel.TagSize
		if hdr == nil {
			if p.Headroom < h+lead || p.Tailroom < kernel.TagSize {
				break
			}
			hdr = unsafe.Add(p.Data, -int(h))
		} else {
			if p.DstSize < size+lead {
				break
			}
			hdr = add(hdr, lead)
			body = add(hdr, h)
			if body != p.Data && overlap(p.Data, p.Len, hdr, size) {
				break
			}
		}
		j.AAD, j.Src, j.Dst, j.Tag = unsafe.Add(hdr, -int(lead)), p.Data, body, add(body, p.Len)
		j.AADLen, j.Len = h+lead, p.Len
		p.Status, p.Out, p.OutLen = status.OK, uintptr(hdr), size
		sorted = sorted && p.Len >= last
		last = p.Len
	}
	w.sorted, w.longest = w.sorted && sorted, last
	return i
}

// fill writes headers, nonces and KDF inputs of packets that are jobs from n
// on; per is the room of a packet's inputs.
func (w *Worker) fill(n int, pkts []profile.Desc, linear uint64, tscs counter.Map, per int) {
	jobs := w.jobs[n : n+len(pkts)]
	tsc, step := tscs.TSC(linear), tscs.Step()
	if tscs.TSC(linear+uint64(len(pkts)-1)) == tsc+uint64(len(pkts)-1)*step {
		w.sealing.Fill(&w.hdr, jobs, pkts, tsc, step)
	} else { // the epoch changes in between, and there is a direction
		for i := range pkts {
			w.sealing.Fill(&w.hdr, jobs[i:i+1], pkts[i:i+1], tscs.TSC(linear+uint64(i)), step)
		}
	}
	if !w.hdr.Fixed {
		w.sealing.Messages(&w.hdr, unsafe.Pointer(&w.sec.msgs[n*per]), per, jobs, pkts)
	}
}

// sealSpecial takes a packet that is not plain as lane x.
func (w *Worker) sealSpecial(p *profile.Desc, x int) (c status.Code, full bool) {
	l, at := &w.lanes[x], &w.place[x]
	l.Pkt = p
	if c, full = w.placeSeal(l, at); full || c != status.OK {
		return c, full
	}
	if at.src != at.body {
		switch {
		case l.Inner+l.Pad != 0: // the text must lie in one piece
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
	w.jobs[x].AAD = unsafe.Add(l.Hdr, -int(l.Lead))
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
	if c := w.sealing.Fit(&w.hdr, l); c != status.OK {
		return c, false
	}
	at.src = p.Data
	tail := l.Pad + kernel.TagSize
	if p.Dst == nil {
		if p.Headroom < h+l.Lead || p.Tailroom < tail {
			return status.ErrRoom, false
		}
		l.Hdr, at.body = unsafe.Add(p.Data, -int(h)), p.Data
	} else {
		total := l.Lead + h + p.Len + tail
		if p.DstSize < total {
			return status.ErrRoom, false
		}
		l.Hdr = add(p.Dst, l.Lead)
		at.body = add(l.Hdr, h)
		if at.src != at.body && overlap(p.Data, p.Len, p.Dst, total) {
			return status.ErrOverlap, false
		}
	}
	at.tag = add(at.body, p.Len+l.Pad)
	return w.sealing.Look(l, at.src), false
}

// sealed reports a sealed packet.
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

func (w *Worker) open(r *Receiver, pkts []profile.Desc) int {
	good := w.openUncounted(r, pkts)
	r.count(pkts)
	return good
}

// openUncounted opens a burst and leaves it to the caller to count.
func (w *Worker) openUncounted(r *Receiver, pkts []profile.Desc) int {
	snaps := w.snaps[:len(r.Groups)]
	for i, g := range r.Groups {
		if s := g.Snapshot(); snaps[i] != s {
			snaps[i] = s
			w.shape.Forget()
		}
	}
	if r.Windows != nil {
		defer r.Windows.end(r.Windows.begin(w))
		r.Windows.tidy(r.Groups)
	}
	if r.Times != nil {
		defer r.Times.end(w, r.Times.begin(w))
	}
	w.strange, w.lastStrange, w.failures = -1, ^uint64(0), 0
	good := 0
	for at := 0; at < len(pkts); {
		alone := false
		if w.shape.Is(r.Opening) {
			took, opened := w.openAlike(r, pkts[at:])
			at += took
			good += opened
			if at == len(pkts) {
				break
			}
			// A stray packet among many that are alike shall not slow those
			// that follow it.
			alone = took >= kernel.Chunk/2
		}
		took, opened := w.openChunk(r, pkts[at:], snaps, alone)
		at += took
		good += opened
	}
	if w.failures != 0 {
		r.failed(w.failures)
	}
	return good
}

// openAlike opens packets that match the known pattern and stops at the first
// other one. It returns how many it took, and how many of them are good.
func (w *Worker) openAlike(r *Receiver, pkts []profile.Desc) (took, good int) {
	keyLen := int(w.shape.KeyLen)
	room := w.shape.MsgLen() * w.shape.Per()
	for took < len(pkts) {
		row := pkts[took:min(len(pkts), took+kernel.Chunk)]
		n, sorted := r.Opening.Match(&w.shape, w.jobs[:], w.lanes[:], row, unsafe.Pointer(&w.sec.msgs), room)
		if r.Windows != nil {
			n = r.Windows.fresh(w.lanes[:n])
		}
		if r.Times != nil {
			n = r.Times.may(w, w.lanes[:n])
		}
		if n == 0 {
			break
		}
		w.sorted = sorted
		if c := w.run(r.Backend, n, keyLen, nil, nil, alike); c != status.OK {
			for x := range n {
				fail(&row[x], c)
			}
			took += n
			break
		}
		before := good
		for x := range n {
			p, j := &row[x], &w.jobs[x]
			if j.OK != 1 {
				clear(octets(j.Dst, j.Len))
				fail(p, status.ErrAuth)
				w.shape.Failed()
				continue
			}
			if c := w.commit(r, &w.lanes[x]); c != status.OK {
				clear(octets(j.Dst, j.Len))
				fail(p, c)
				continue
			}
			good++
			p.Status, p.Out, p.OutLen = status.OK, uintptr(j.Dst), j.Len
		}
		w.shape.Usage.Opened(good - before)
		took += n
		if n < len(row) {
			break
		}
	}
	return took, good
}

// openChunk opens as many packets as fit in a chunk (alone: until one has the
// known shape); it returns how many are done with, and how many are good.
func (w *Worker) openChunk(r *Receiver, pkts []profile.Desc, snaps []*keys.Snapshot, alone bool) (took, good int) {
	w.n, w.linearN = 0, 0
	w.sorted, w.longest = true, 0
	retry := false
	var lens [2]int // lanes with 16- and 32-octet keys
	for took < len(pkts) && w.n < kernel.Chunk {
		p := &pkts[took]
		if alone && took > 0 && w.shape.Begins(p) {
			break
		}
		l, at := &w.lanes[w.n], &w.place[w.n]
		l.Pkt = p
		c, full := w.placeOpen(r, l, at, snaps)
		if full {
			break
		}
		took++
		if c != status.OK {
			fail(p, c)
			continue
		}
		w.job(w.n)
		retry = retry || l.Retry
		lens[l.KeyLen>>5&1]++
		w.n++
	}
	if w.n == 0 {
		return took, 0
	}
	if lens[0] == w.n || lens[1] == w.n {
		c := w.run(r.Backend, w.n, int(w.lanes[0].KeyLen), r.Held, nil, open)
		for x := range w.n {
			good += w.opened(r, x, c)
		}
	} else {
		for k := range lens {
			good += w.openSome(r, func(l *profile.Lane) bool { return int(l.KeyLen) == 16<<k }, 16<<k)
		}
	}
	if retry {
		good += w.openAgain(r)
	}
	if last := w.n - 1; !alone && !w.place[last].chain && w.lanes[last].Pkt.Status == status.OK {
		r.Opening.Learn(&w.shape, &w.lanes[last], &w.ctx[last]) // learn only from authenticated packets
	}
	return took, good
}

// openSome opens the lanes that which picks, all with keys of one length.
func (w *Worker) openSome(r *Receiver, which func(l *profile.Lane) bool, keyLen int) int {
	order := w.order[:0]
	for x := range w.n {
		if which(&w.lanes[x]) {
			order = append(order, uint8(x))
		}
	}
	c := w.run(r.Backend, len(order), keyLen, r.Held, order, open)
	good := 0
	for _, x := range order {
		good += w.opened(r, int(x), c)
	}
	return good
}

// openAgain tries the previous key for lanes that failed and have one.
func (w *Worker) openAgain(r *Receiver) int {
	for x := range w.lanes[:w.n] {
		if l := &w.lanes[x]; l.Retry && l.Pkt.Status == status.ErrAuth {
			w.ctx[x].Master, w.ctx[x].Usage, w.place[x].src = l.Prev, l.Used, w.place[x].copy
			l.Flow.Master = l.Prev.ID
			w.job(x)
		} else {
			l.Retry = false
		}
	}
	good := 0
	for k := range 2 {
		good += w.openSome(r, func(l *profile.Lane) bool { return l.Retry && int(l.KeyLen) == 16<<k }, 16<<k)
	}
	return good
}

// placeOpen parses a packet and decides where its parts are.
func (w *Worker) placeOpen(r *Receiver, l *profile.Lane, at *place, snaps []*keys.Snapshot) (c status.Code, full bool) {
	p := l.Pkt
	p.ID, p.TSC = 0, 0
	at.chain, at.aside = false, false
	n := p.Len
	var err error
	if l.Lead, c = r.Opening.Lead(p); c != status.OK {
		return c, false
	}
	if p.Reserved != 0 {
		return status.ErrArgument, false
	}
	if p.Headroom < l.Lead {
		return status.ErrRoom, false
	}
	if p.IOVCount != 0 {
		c, full, n = w.gatherOpen(l, at, r.Opening.Retries())
		if c != status.OK || full {
			return c, full
		}
	} else {
		switch {
		case p.Data == nil:
			return status.ErrArgument, false
		case n > profile.MaxLen+4096:
			return status.ErrTooLong, false
		}
		l.Hdr = p.Data
	}
	c = r.Opening.Parse(l, &w.jobs[w.n], &w.ctx[w.n], n, snaps)
	if c == status.OK {
		c = w.check(r, l)
	}
	if c == status.OK {
		c = w.meet(r, l, at, &w.ctx[w.n].KDF, (*[2]byte)(w.ctx[w.n].Msg[:]))
	}
	if c != status.OK {
		return c, false
	}
	if at.chain {
		if seg := segments(p)[0].Len; uintptr(l.HdrLen) > seg {
			return status.ErrSegments, false
		}
	}
	at.src = add(l.Hdr, l.HdrLen)
	at.body = at.src
	at.tag = add(at.src, l.Len)
	if p.Dst != nil && !at.chain {
		if p.DstSize < l.Len {
			return status.ErrRoom, false
		}
		if p.Dst != at.src {
			if overlap(unsafe.Add(p.Data, -int(l.Lead)), l.Lead+n, p.Dst, l.Len) {
				return status.ErrOverlap, false
			}
			at.body = p.Dst
		}
		if l.Inner != 0 && at.body != at.src {
			// What is decrypted begins in front of the payload, where Dst has no room.
			b, err := w.reserve(int(l.Inner + l.Len))
			if err != nil {
				return status.ErrMemory, false
			}
			if b == nil {
				return status.OK, true
			}
			at.body, at.aside = add(b, l.Inner), true
		}
	}
	if l.Retry {
		// Kernels may decrypt as they go; the second try needs the ciphertext.
		if !at.chain {
			if at.copy, err = w.reserve(int(l.Len) + 1); err != nil {
				return status.ErrMemory, false
			}
			if at.copy == nil {
				return status.OK, true
			}
		}
		copy(octets(at.copy, l.Len), octets(at.src, l.Len))
	}
	return status.OK, false
}

// opened reports the outcome of a packet that went through the cipher, 1 if
// it is good. code is why it did not.
func (w *Worker) opened(r *Receiver, x int, code status.Code) int {
	l, at := &w.lanes[x], &w.place[x]
	p := l.Pkt
	if code != status.OK {
		fail(p, code)
		return 0
	}
	text := octets(unsafe.Add(at.body, -int(l.Inner)), l.Inner+l.Len)
	whole := l.Len
	if w.jobs[x].OK != 1 {
		code = status.ErrAuth
		l.Failed()
	} else {
		c := &w.ctx[x]
		w.keep(&c.KDF, (*[2]byte)(c.Msg[:]))
		if at.body != at.src && l.Clear != 0 {
			copy(text, octets(unsafe.Add(at.src, -int(l.Inner)), l.Clear))
		}
		code = r.Opening.Opened(l, at.body)
		// Also where there is nothing to deliver: the packet came.
		if c := w.commit(r, l); c != status.OK {
			code = c
		}
	}
	if code != status.OK {
		clear(text[l.Clear:])
	}
	switch {
	case at.chain:
		w.scatterOpen(l, at, whole)
	case at.aside && code == status.OK:
		copy(octets(p.Dst, l.Len), octets(at.body, l.Len))
		at.body = p.Dst
	case at.aside: // zeros where it would be
		clear(octets(p.Dst, whole)[max(l.Clear, l.Inner)-l.Inner:])
	}
	if code != status.OK {
		fail(p, code)
		return 0
	}
	w.ctx[x].Usage.Opened(1)
	p.Status, p.OutLen = status.OK, l.Len
	if !at.chain {
		p.Out = uintptr(at.body)
	}
	return 1
}

// HeaderLen is the length of the header that a sender writes at present.
func (w *Worker) HeaderLen(s *Sender) int {
	w.enter()
	defer w.leave()
	if c, _ := w.beginHeader(s.latest()); c != status.OK {
		return 0
	}
	return w.hdr.Len()
}
