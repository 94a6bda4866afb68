package profile

import (
	"encoding/binary"
	"unsafe"

	"libeesp/internal/kernel"
	"libeesp/internal/keys"
	"libeesp/internal/replay"
	"libeesp/internal/say"
	"libeesp/internal/status"
	"libeesp/internal/wire"
)

// Profile stateless: draft-xia-ipsecme-eesp-stateless-encryption-02.

const labelByte = 0x45

type stateless struct{}

func (stateless) Name() string { return "stateless" }

func (stateless) Prepare(p *keys.Params) error { return nil }

func (stateless) KeyOctets(p *keys.Params) int { return p.KeyLen }

// StatelessMsg writes the KDF input for i = 1 (formats.md, section 1.4) and returns
// its length in blocks: one, two or three whole ones, so that CMAC uses subkey K1. It
// zeroes the rest of m, since contexts are compared as a whole.
func StatelessMsg(m *[MaxBlocks * 16]byte, v uint8, id uint64, epoch uint16, a *Addr, keyBits uint16) int {
	clear(m[16:])
	m[0], m[1], m[2], m[3] = 1, labelByte, v, 0
	binary.BigEndian.PutUint64(m[4:], id)
	binary.BigEndian.PutUint16(m[12:], epoch)
	switch v & wire.VAddrMask {
	case 1:
		copy(m[14:30], a.Src[:])
		binary.BigEndian.PutUint16(m[30:], keyBits)
		return 2
	case 2:
		copy(m[14:30], a.Src[:])
		copy(m[30:46], a.Dst[:])
		binary.BigEndian.PutUint16(m[46:], keyBits)
		return 3
	}
	binary.BigEndian.PutUint16(m[14:], keyBits)
	return 1
}

func statelessLevels(k *KeyContext, s *keys.Snapshot) uint8 {
	if k.Levels == 0 {
		return s.Default
	}
	return k.Levels
}

func (stateless) Resolve(s *keys.Snapshot, k *KeyContext, c *Context) status.Code {
	levels := statelessLevels(k, s)
	switch {
	case !wire.ValidV(k.V):
		return status.ErrV
	case k.V&wire.VLongID == 0 && k.ID>>32 != 0, k.Generation > 2, levels>>wire.Levels != 0:
		return status.ErrArgument
	}
	g := [3]int{keys.Current, keys.Pre, keys.Next}[k.Generation]
	sel := keys.Selection(levels, g)
	if levels == 0 || s.Master(sel) == nil {
		return status.ErrNoKey
	}
	n := StatelessMsg(&c.Msg, k.V, k.ID, k.Epoch, &k.Addr, uint16(s.KeyLen*8))
	c.KDF = cmacKDF(s, sel, n)
	return status.OK
}

func (stateless) Export(s *keys.Snapshot, k *KeyContext, options bool, d *DataKey) status.Code {
	switch k.V & wire.VAddrMask {
	case 1:
		d.Addr.Src = k.Addr.Src
	case 2:
		d.Addr = k.Addr
	}
	if !options {
		return status.OK
	}
	at := d.Options[:0]
	levels, gen := statelessLevels(k, s), [3]int{1, 0, 2}[k.Generation]
	for l := range s.Level {
		if levels>>l&1 != 0 {
			at = wire.AppendOption(at, l, s.Level[l].Index[gen], s.Level[l].ID[:s.Level[l].IDLen])
		}
	}
	d.OptionsLen = uint8(len(at))
	return status.OK
}

func (stateless) Check(k *DataKey) status.Code {
	if !wire.ValidV(k.V) {
		return status.ErrV
	}
	if k.V&wire.VLongID == 0 && k.ID>>32 != 0 || k.Params != [2]uint8{} || k.Domain != 0 {
		return status.ErrArgument
	}
	if !wire.ValidOptions(k.Options[:k.OptionsLen]) {
		return status.ErrOption
	}
	return status.OK
}

func (stateless) Sealing(p *keys.Params, c *SenderConfig) (Sealing, error) {
	s := &statelessSealing{v: c.V, id: c.ID, levels: c.Levels, options: c.Options, held: heldOf(c.Key)}
	if c.Key != nil {
		s.v, s.id = c.Key.V, c.Key.ID
	}
	switch {
	case !wire.ValidV(s.v):
		return nil, say.Errorf("%w: V %#x", status.ErrArgument, s.v)
	case s.v&wire.VLongID == 0 && s.id>>32 != 0:
		return nil, say.Errorf("%w: ID %#x does not fit in 4 octets, as V %#x says", status.ErrArgument, s.id, s.v)
	case s.levels>>wire.Levels != 0:
		return nil, say.Errorf("%w: levels %#x", status.ErrArgument, s.levels)
	case len(c.Extra) != 0:
		return nil, say.Errorf("%w: profile stateless takes no extra octets", status.ErrArgument)
	}
	return s, nil
}

func (stateless) Opening(p *keys.Params, c *ReceiverConfig) (Opening, error) {
	o := &statelessOpening{own: c.Own, tryPrevious: c.TryPrevious, replay: c.Replay, engineBits: c.EngineBits, held: heldOf(c.Key)}
	if c.Key != nil {
		o.v, o.id, o.addr = c.Key.V, c.Key.ID, c.Key.Addr
	}
	return o, nil
}

// statelessSealing is the Sealing of profile stateless.
type statelessSealing struct {
	bare
	v       uint8
	id      uint64
	levels  uint8
	options bool
	held    *heldKey
}

// Space is the ID alone: a group's root keys change, and two groups may have the same
// ones.
func (s *statelessSealing) Space() string { return say.Sprintf("%d/%x", s.v&wire.VLongID, s.id) }

func (s *statelessSealing) Epochs() bool { return true }

func (s *statelessSealing) Begin(h *Header, snap *keys.Snapshot) status.Code {
	if h.Is(s, snap) {
		return status.OK
	}
	h.begin()
	h.id, h.salt = s.id, wire.StatelessSalt(s.v, s.id)
	var options []byte
	var room [wire.Levels * wire.MaxOption]byte
	if s.held != nil {
		options = s.held.options
		h.KeyLen = uint8(s.held.keyLen)
	} else {
		levels := s.levels
		if levels == 0 {
			levels = snap.Default
		}
		sel := keys.Selection(levels, keys.Current)
		if levels == 0 || snap.Master(sel) == nil || !s.options && levels != snap.Default {
			return status.ErrNoKey
		}
		if s.options {
			n := 0
			for l := range snap.Level {
				if levels>>l&1 != 0 {
					n += copy(room[n:], snap.Level[l].Option())
				}
			}
			options = room[:n]
		}
		h.KDF = cmacKDF(snap, sel, StatelessMsg(&h.msg, s.v, s.id, 0, new(Addr), uint16(snap.KeyLen*8)))
	}
	h.Fixed = h.Blocks <= 1
	h.n = wire.Template(&h.b, s.v, s.id, options)
	return h.ready(s, snap)
}

func (s *statelessSealing) Fill(h *Header, jobs []kernel.Job, pkts []Desc, tsc, step uint64) {
	n, salt := uintptr(h.n), h.salt
	for i := range jobs {
		j, p := &jobs[i], &pkts[i]
		to := j.AAD
		h.write(to)
		if p.COffset != 0 {
			b := (*[4]byte)(to)
			b[2], b[3] = wire.Offsets(p.COffset, p.IOffset)
		}
		binary.BigEndian.PutUint64((*[8]byte)(unsafe.Add(to, n-8))[:], tsc)
		wire.Nonce(&j.Nonce, salt, tsc)
		p.ID, p.TSC = h.id, tsc
		tsc += step
	}
}

func (s *statelessSealing) Messages(h *Header, to unsafe.Pointer, room int, jobs []kernel.Job, pkts []Desc) {
	for i := range jobs {
		*(*[16]byte)(to) = *(*[16]byte)(h.msg[:])
		*(*[2]byte)(unsafe.Add(to, 12)) = *(*[2]byte)(jobs[i].Nonce[4:])
		if h.Blocks > 1 {
			p := &pkts[i]
			*(*[16]byte)(unsafe.Add(to, 14)) = p.Src
			if h.Blocks > 2 {
				*(*[16]byte)(unsafe.Add(to, 30)) = p.DstIP
			}
			end := h.MsgLen() - 2
			*(*[2]byte)(unsafe.Add(to, end)) = *(*[2]byte)(h.msg[end:])
		}
		to = unsafe.Add(to, room)
	}
}

func (s *statelessSealing) Fit(h *Header, l *Lane) status.Code {
	p := l.Pkt
	if p.IOffset > p.COffset || p.IOffset > 15 || uint32(p.COffset)*4 > l.Len {
		return status.ErrOffset
	}
	if p.Flags != 0 {
		return status.ErrArgument
	}
	l.Prefix, l.Pad = 0, 0
	l.Clear, l.Skip = uint32(p.COffset)*4, uint32(p.IOffset)*4
	return status.OK
}

// statelessOpening is the Opening of profile stateless.
type statelessOpening struct {
	bareOpening
	own         *OwnIDs
	tryPrevious bool
	replay      bool
	engineBits  uint8
	held        *heldKey
	v           uint8 // of the held key, and the next two
	id          uint64
	addr        Addr
}

// Retries reports whether packets may be tried with a previous key.
func (o *statelessOpening) Retries() bool { return o.tryPrevious }

func (o *statelessOpening) Parse(l *Lane, j *kernel.Job, c *Context, n uint32, snaps []*keys.Snapshot) status.Code {
	var h wire.Stateless
	if code := h.Parse(l.Head(n)); code != status.OK {
		return code
	}
	l.HdrLen = uint32(h.Len)
	l.Len = n - l.HdrLen - kernel.TagSize
	l.Clear, l.Skip = uint32(h.COffset)*4, uint32(h.IOffset)*4
	l.Inner, l.Pad, l.Snapshot = 0, 0, nil
	p := l.Pkt
	p.ID, p.TSC, p.COffset, p.IOffset, p.NextHeader = h.ID, h.TSC, h.COffset, h.IOffset, 0
	wire.StatelessNonce(&j.Nonce, h.V, h.ID, h.TSC)
	epoch := uint16(h.TSC >> 48)
	l.Retry = false
	var master [16]byte
	if k := o.held; k != nil {
		if h.V != o.v || h.ID != o.id || epoch != k.epoch || !o.sameAddr(p) || !o.sameOptions(l, &h) {
			return status.ErrContext
		}
		c.KDF = KDF{}
		l.KeyLen = uint8(k.keyLen)
	} else {
		var snap *keys.Snapshot
		sel := 0
		if h.Present == 0 {
			snap, sel = snaps[0], keys.Selection(snaps[0].Default, keys.Current)
			if o.tryPrevious {
				pre := keys.Selection(snap.Default, keys.Pre)
				l.Prev = snap.Master(pre)
				if l.Retry = l.Prev != nil && snap.HasPre(snap.Default); l.Retry {
					l.Used = snap.Usage(pre)
				}
			}
		} else {
			snap, sel = find(&h, snaps)
		}
		if snap == nil || snap.Master(sel) == nil {
			return status.ErrNoKey
		}
		l.KeyLen = uint8(snap.KeyLen)
		c.KDF = cmacKDF(snap, sel, StatelessMsg(&c.Msg, h.V, h.ID, epoch, (*Addr)(unsafe.Pointer(&p.Src)), uint16(snap.KeyLen*8)))
		master = c.Master.ID
	}
	if o.replay {
		o.flow(l, &master, h.V)
	}
	return reflected(o.own.List(), h.ID)
}

// flow sets Flow, Seq and Time of a packet whose Desc is complete.
func (o *statelessOpening) flow(l *Lane, name *[16]byte, v uint8) {
	p := l.Pkt
	l.Flow = replay.Key{Master: *name, ID: p.ID, Epoch: uint16(p.TSC >> 48), Kind: uint16(v)}
	switch v & wire.VAddrMask {
	case 2:
		copy(l.Flow.Addr[16:], p.DstIP[:])
		fallthrough
	case 1:
		copy(l.Flow.Addr[:16], p.Src[:])
	}
	l.Seq, l.Flow.Engine = split(p.TSC&(1<<48-1), o.engineBits)
	l.Time = p.TSC
}

func (o *statelessOpening) Learn(s *Pattern, l *Lane, c *Context) {
	s.of = nil
	if o.held != nil || l.Clear != 0 || l.Retry {
		return
	}
	b := unsafe.Slice((*byte)(l.Hdr), l.HdrLen)
	v := b[1] >> 4
	s.n, s.at, s.long = l.HdrLen, uint32(4+wire.IDLen(v)), v&wire.VLongID != 0
	copy(s.word[:], b)
	copy(s.opts[:], b[s.at:s.n-8])
	s.msg, s.KDF, s.name, s.snap = c.Msg, c.KDF, l.Flow.Master, nil
	s.of = o
}

func (o *statelessOpening) Match(s *Pattern, jobs []kernel.Job, lanes []Lane, pkts []Desc, msgs unsafe.Pointer, room int) (n int, sorted bool) {
	sorted = true
	last := uint32(0)
	for n < len(pkts) && n < len(jobs) {
		p, j := &pkts[n], &jobs[n]
		if !s.job(p, j) {
			break
		}
		hdr := s.header(j)
		if s.at+8 != s.n && string(unsafe.Slice((*byte)(unsafe.Add(hdr, s.at)), s.n-8-s.at)) != string(s.opts[:s.n-8-s.at]) {
			break
		}
		id := binary.BigEndian.Uint64((*[8]byte)(unsafe.Add(hdr, 4))[:])
		salt := uint32(id>>32) ^ uint32(id)
		if !s.long {
			id >>= 32
			salt = uint32(id)
		}
		if reflected(o.own.List(), id) != status.OK {
			break
		}
		tsc := binary.BigEndian.Uint64((*[8]byte)(unsafe.Add(hdr, s.n-8))[:])
		wire.Nonce(&j.Nonce, salt, tsc)
		p.ID, p.TSC, p.COffset, p.IOffset, p.NextHeader = id, tsc, 0, 0, 0
		*(*[16]byte)(msgs) = *(*[16]byte)(s.msg[:])
		binary.BigEndian.PutUint64((*[8]byte)(unsafe.Add(msgs, 4))[:], id)
		*(*[2]byte)(unsafe.Add(msgs, 12)) = *(*[2]byte)(unsafe.Add(hdr, s.n-8))
		if s.Blocks > 1 {
			*(*[16]byte)(unsafe.Add(msgs, 14)) = p.Src
			if s.Blocks > 2 {
				*(*[16]byte)(unsafe.Add(msgs, 30)) = p.DstIP
			}
			end := s.MsgLen() - 2
			*(*[2]byte)(unsafe.Add(msgs, end)) = *(*[2]byte)(s.msg[end:])
		}
		if o.replay {
			lanes[n].Pkt = p
			o.flow(&lanes[n], &s.name, s.word[1]>>4)
		}
		msgs = unsafe.Add(msgs, room)
		sorted = sorted && j.Len >= last
		last = j.Len
		n++
	}
	return n, sorted
}

// sameAddr reports whether the packet's addresses are those of the held key, as far as
// V asks for them. The ICV does not show it: addresses are only in the context, and a
// held key does not depend on the packet.
func (o *statelessOpening) sameAddr(p *Desc) bool {
	n := o.v & wire.VAddrMask
	return (n < 1 || p.Src == o.addr.Src) && (n < 2 || p.DstIP == o.addr.Dst)
}

// sameOptions reports whether the packet's options are those of the held key. It
// compares octets: there is one canonical encoding.
func (o *statelessOpening) sameOptions(l *Lane, h *wire.Stateless) bool {
	var b [wire.Levels * wire.MaxOption]byte
	at := b[:0]
	for i := range h.RootID {
		if h.Present>>i&1 != 0 {
			at = wire.AppendOption(at, i, h.Index[i], h.RootID[i])
		}
	}
	return string(at) == string(o.held.options)
}

// find returns the first group that has all the root keys that a packet names, and
// their selection, for which the group has a master key.
func find(h *wire.Stateless, snaps []*keys.Snapshot) (*keys.Snapshot, int) {
next:
	for _, s := range snaps {
		sel := 0
		for l := range s.Level {
			if h.Present>>l&1 == 0 {
				continue
			}
			g := s.Level[l].Match(h.Index[l], h.RootID[l])
			if g == 0 {
				continue next
			}
			sel |= g << (2 * l)
		}
		if s.Master(sel) != nil {
			return s, sel
		}
	}
	for _, s := range snaps {
		if s.Ahead != nil {
			noteAhead(h, s)
		}
	}
	return nil, 0
}

// noteAhead notes that a packet names a key newer than the group's, for the thread
// that follows the agent to ask for it. It writes only if the bit is new, so that noise
// costs a read.
func noteAhead(h *wire.Stateless, s *keys.Snapshot) {
	bits := uint32(0)
	for l := range s.Level {
		if h.Present>>l&1 != 0 && s.Level[l].Beyond(h.Index[l], h.RootID[l]) {
			bits |= 1 << l
		}
	}
	if bits&^s.Ahead.Load() != 0 {
		s.Ahead.Or(bits)
	}
}
