package burst

import (
	"unsafe"

	"libeesp/internal/kernel"
	"libeesp/internal/keys"
	"libeesp/internal/profile"
	"libeesp/internal/status"
)

// openSide is what opening needs from burst to burst.
type openSide struct {
	pattern profile.Pattern // of packets
	snaps   [MaxGroups]*keys.Snapshot
	from    [kernel.Chunk]int32 // by lane: number of its packet, see gatherAlike
}

func (o *openSide) forget() { o.pattern.Forget() }

// detach lets go of the groups' snapshots.
func (o *openSide) detach() { clear(o.snaps[:]) }

// Open opens a burst and returns how many packets have status OK.
func (w *Worker) Open(r *Receiver, pkts []profile.Desc) int {
	w.enter()
	defer w.leave()
	return w.open(r, pkts)
}

func (w *Worker) open(r *Receiver, pkts []profile.Desc) int {
	good := w.openUncounted(r, pkts)
	r.count(pkts)
	return good
}

// openUncounted opens a burst; the caller counts it.
func (w *Worker) openUncounted(r *Receiver, pkts []profile.Desc) int {
	snaps := w.snaps[:len(r.Groups)]
	for i, g := range r.Groups {
		if s := g.Snapshot(); snaps[i] != s {
			snaps[i] = s
			w.pattern.Forget()
		}
	}
	if r.Windows != nil {
		defer r.Windows.end(r.Windows.begin(w))
		r.Windows.tidy(r.Groups)
	}
	if r.Times != nil {
		defer r.Times.end(w, r.Times.begin(w))
	}
	w.newcomers.begin()
	good := 0
	for at := 0; at < len(pkts); {
		alone := false
		if w.pattern.Is(r.Opening) {
			took, opened := w.openAlike(r, pkts[at:], snaps)
			at += took
			good += opened
			if at == len(pkts) {
				break
			}
			// After a run of packets with the pattern, a packet without it is opened
			// alone, so that those behind it can use the pattern again.
			alone = took >= kernel.Chunk/2
		}
		took, opened := w.openChunk(r, pkts[at:], snaps, alone)
		at += took
		good += opened
	}
	w.newcomers.end(r)
	return good
}

// openAlike opens packets that match the known pattern, ends packets between them
// that are not for this receiver, and stops at the first other one. It returns how
// many packets it took, and how many of these were opened.
func (w *Worker) openAlike(r *Receiver, pkts []profile.Desc, snaps []*keys.Snapshot) (took, good int) {
	keyLen := int(w.pattern.KeyLen)
	for took < len(pkts) {
		run := pkts[took:]
		n, done, more := w.gatherAlike(r, run, snaps)
		may := n
		if r.Windows != nil {
			may = r.Windows.fresh(w.lanes[:n])
		}
		if r.Times != nil {
			may = r.Times.may(w, w.lanes[:n])
		}
		if may != n {
			n, done, more = may, int(w.from[may]), false
		}
		took += done
		if n == 0 {
			break
		}
		if c := w.run(r.Backend, n, keyLen, nil, nil, alike); c != status.OK {
			for _, x := range w.from[:n] {
				fail(&run[x], c)
			}
			break
		}
		before := good
		for i, x := range w.from[:n] {
			p, j := &run[x], &w.jobs[i]
			if j.OK != 1 {
				clear(octets(j.Dst, j.Len))
				fail(p, status.ErrAuth)
				w.pattern.Failed()
				continue
			}
			if c := w.commit(r, &w.lanes[i]); c != status.OK {
				clear(octets(j.Dst, j.Len))
				fail(p, c)
				continue
			}
			good++
			p.Status, p.Out, p.OutLen = status.OK, uintptr(j.Dst), j.Len
		}
		w.pattern.Usage.Opened(good - before)
		if !more {
			break
		}
	}
	return took, good
}

// gatherAlike makes jobs of up to a chunk of packets that match the known pattern;
// from says which packets they are. done is how many packets it took or ended.
// more says that the next one may match, too.
func (w *Worker) gatherAlike(r *Receiver, pkts []profile.Desc, snaps []*keys.Snapshot) (n, done int, more bool) {
	room := w.pattern.MsgLen() * w.pattern.Per()
	for i := range w.jobs {
		w.jobs[i].AAD = unsafe.Pointer(&w.aad[i])
	}
	w.ordering.begin()
	for done < len(pkts) && n < kernel.Chunk {
		run := pkts[done:min(len(pkts), done+kernel.Chunk-n)]
		k, sorted := r.Opening.Match(&w.pattern, w.jobs[n:], w.lanes[n:], run, unsafe.Pointer(&w.sec.msgs[n*room]), room)
		for x := range k {
			w.from[n+x] = int32(done + x)
		}
		if k != 0 {
			w.ordering.run(sorted && w.jobs[n].Len >= w.lastLen(), w.jobs[n+k-1].Len)
			n, done = n+k, done+k
		}
		if k < len(run) {
			if !w.ended(r, &pkts[done], snaps) {
				return n, done, false
			}
			done++
		}
	}
	return n, done, true
}

// alikeKeys derives the data keys of n jobs that match the known pattern.
func (w *Worker) alikeKeys(be *kernel.Backend, n int) (u int, masked bool, code status.Code) {
	return w.keysAlike(be, n, &w.pattern.KDF, false)
}

// ended reports whether the header shows that a packet is not for this receiver,
// and if so ends the packet.
func (w *Worker) ended(r *Receiver, p *profile.Desc, snaps []*keys.Snapshot) bool {
	const x = kernel.Chunk - 1 // no job yet
	l := &w.lanes[x]
	c := w.begins(r, l, p)
	if c == status.OK && p.IOVCount == 0 {
		w.head(x, p)
		c = r.Opening.Parse(l, &w.jobs[x], &w.ctx[x], p.Len, snaps)
	}
	if c == status.OK {
		return false
	}
	fail(p, c)
	return true
}

// openChunk opens as many packets as fit in a chunk; alone: only until one has the
// known pattern. It returns how many it took, and how many of these were opened.
func (w *Worker) openChunk(r *Receiver, pkts []profile.Desc, snaps []*keys.Snapshot, alone bool) (took, good int) {
	w.n = 0
	w.linear.again()
	w.ordering.begin()
	retry := false
	var lens [2]int // lanes with 16- and 32-octet keys
	for took < len(pkts) && w.n < kernel.Chunk {
		p := &pkts[took]
		if alone && took > 0 && w.pattern.Begins(p) {
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
		w.job(w.n, !at.chain)
		retry = retry || l.Retry
		lens[l.KeyLen>>5&1]++
		w.n++
	}
	if w.n == 0 {
		return took, 0
	}
	if lens[0] == w.n || lens[1] == w.n {
		c := w.run(r.Backend, w.n, int(w.lanes[0].KeyLen), r.Expanded, nil, open)
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
	// Only from authentic packets. Those that match a pattern are not tried with a previous key.
	if last := w.n - 1; !alone && !retry && !w.place[last].chain && w.lanes[last].Pkt.Status == status.OK {
		r.Opening.Learn(&w.pattern, &w.lanes[last], &w.ctx[last])
	}
	return took, good
}

// openSome opens the lanes that which picks, all with keys of one length.
func (w *Worker) openSome(r *Receiver, which func(l *profile.Lane) bool, keyLen int) int {
	order := w.lanesToPick()
	for x := range w.n {
		if which(&w.lanes[x]) {
			order = append(order, uint8(x))
		}
	}
	c := w.run(r.Backend, len(order), keyLen, r.Expanded, order, open)
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
			w.job(x, !w.place[x].chain)
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

// begins checks the descriptor of a packet and begins its lane.
func (w *Worker) begins(r *Receiver, l *profile.Lane, p *profile.Desc) (c status.Code) {
	l.Pkt = p
	p.ID, p.TSC = 0, 0
	if l.Prefix, c = r.Opening.Prefix(p); c != status.OK {
		return c
	}
	switch {
	case p.Reserved != 0:
		return status.ErrArgument
	case p.Headroom < l.Prefix:
		return status.ErrRoom
	case p.IOVCount != 0:
	case p.Data == nil:
		return status.ErrArgument
	case p.Len > profile.MaxLen+4096:
		return status.ErrTooLong
	}
	return status.OK
}

// head copies the beginning of lane x's packet, with its prefix, to where its AAD will be.
func (w *Worker) head(x int, p *profile.Desc) {
	l := &w.lanes[x]
	l.Hdr, l.Copied = unsafe.Pointer(&w.aad[x][l.Prefix]), min(p.Len, profile.HeadRoom)
	if p.Len != 0 { // an empty one in Go may be anywhere
		copy(w.aad[x][:], octets(unsafe.Add(p.Data, -int(l.Prefix)), l.Prefix+l.Copied))
	}
}

// keepAAD completes the copy of lane x's AAD with payload octets in clear. It reports whether this chunk has no room.
func (w *Worker) keepAAD(x int, p *profile.Desc) (c status.Code, full bool) {
	l, a := &w.lanes[x], w.aad[x][:]
	front := l.Prefix + l.HdrLen - l.Inner
	had, n := l.Prefix+l.Copied, front+l.Clear-l.Skip
	if l.Skip != 0 {
		had = front
	}
	if had >= n {
		return status.OK, false
	}
	if n > uint32(len(a)) { // psp: nothing is encrypted
		b, err := w.reserve(int(n))
		switch {
		case err != nil:
			return status.ErrMemory, false
		case b == nil:
			return status.OK, true
		}
		copy(octets(b, n), a[:had])
		l.Hdr, a = add(b, l.Prefix), octets(b, n)
	}
	copy(a[had:n], octets(add(p.Data, had-l.Prefix+l.Skip), n-had))
	return status.OK, false
}

// placeOpen parses a packet and decides where its parts are.
func (w *Worker) placeOpen(r *Receiver, l *profile.Lane, at *place, snaps []*keys.Snapshot) (c status.Code, full bool) {
	p := l.Pkt
	at.chain, at.aside = false, false
	n := p.Len
	var err error
	if c = w.begins(r, l, p); c != status.OK {
		return c, false
	}
	first := p.Data
	if p.IOVCount != 0 {
		c, full, n = w.gatherOpen(l, at, r.Opening.Retries())
		if c != status.OK || full {
			return c, full
		}
		first, l.Copied = l.Hdr, n
	} else {
		w.head(w.n, p)
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
	} else if c, full = w.keepAAD(w.n, p); c != status.OK || full {
		return c, full
	}
	at.src = add(first, l.HdrLen)
	at.body = at.src
	at.tag = add(at.src, l.Len)
	if p.Dst != nil && !at.chain {
		if p.DstSize < l.Len {
			return status.ErrRoom, false
		}
		if p.Dst != at.src {
			if overlap(unsafe.Add(p.Data, -int(l.Prefix)), l.Prefix+n, p.Dst, l.Len) {
				return status.ErrOverlap, false
			}
			at.body = p.Dst
		}
		if l.Inner != 0 && at.body != at.src {
			// The encrypted part begins in front of the payload, where Dst has no room.
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
		// Kernels may decrypt in place before they know the tag; a second try needs
		// the ciphertext.
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

// opened completes a packet that went through the cipher, and returns 1 if it was
// opened, else 0. If code is not OK, the packet did not reach the cipher, and code
// is its status.
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
			copy(text, octets(unsafe.Add(at.src, -int(l.Inner)), l.Skip))
			copy(text[l.Skip:], octets(add(w.jobs[x].AAD, l.Prefix+l.HdrLen-l.Inner), l.Clear-l.Skip))
		}
		code = r.Opening.Opened(l, at.body)
		// Also where nothing is delivered (a dummy packet): its number was used.
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
	case at.aside: // zeros in place of the payload
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
