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

// Profile eesp: draft-ietf-ipsecme-eesp-03, or -02 if the group asks for it. A group
// is one SA. Its one slot has the root key, and each Session ID is a Sub SA with its
// own key. Without Sub SAs, the slot has the SA's key.

const (
	eespSalt    = keys.SaltLen // octets behind a key
	eespCounter = 3            // place of i's low octet in a CMAC input
	eespSession = 9            // place of the Session ID

	// EESPNone is the Mode of an SA without key derivation and Sub SAs.
	EESPNone = 255
	// EESPDraft is the default draft.
	EESPDraft = 3
)

// DataKey.Params[0]: properties of the SA that the holder of a key needs.
const (
	eespSeq = 1 << iota
	eespIV
	eespFull
	eespAlign8

	eespDraft3 = 0x40
	eespTunnel = 0x80

	eespParams = eespSeq | eespIV | eespFull | eespAlign8 | eespDraft3 | eespTunnel
)

type eesp struct{}

func (eesp) Name() string { return "eesp" }

func (eesp) Prepare(p *keys.Params) error {
	p.Slots = 1
	switch {
	case p.Mode == EESPNone:
		if p.EESP.SubSAs > 1 {
			return say.Errorf("%w: %d Sub SAs: without an SSKDF there are none", status.ErrArgument, p.EESP.SubSAs)
		}
		p.EESP.SubSAs, p.Kind = 1, keys.Salted16
		if p.KeyLen == 32 {
			p.Kind = keys.Salted32
		}
	case p.Mode < 1 || p.Mode > 4:
		return say.Errorf("%w: SSKDF %d (Mode): from 1 to 4, or %d for none", status.ErrArgument, p.Mode, EESPNone)
	default:
		p.Kind = [...]keys.Kind{keys.HKDF256, keys.HKDF384, keys.HKDF512, keys.CMAC}[p.Mode-1]
	}
	if p.EESP.SubSAs == 0 {
		p.EESP.SubSAs = wire.EESPMaxSubSAs
	}
	if err := eespLayout(&p.EESP); err != nil {
		return err
	}
	return eespEncap(p)
}

// eespEncap sets the parts of the format that the draft and the encapsulation mode
// decide.
func eespEncap(p *keys.Params) error {
	s := &p.EESP
	switch p.Draft {
	case 2:
		if s.Flow = true; p.Encap != 0 {
			return say.Errorf("%w: encapsulation mode %d: draft -02 has no modes, its format is set separately", status.ErrArgument, p.Encap)
		}
		return nil
	case 0:
		p.Draft = EESPDraft
	case EESPDraft:
	default:
		return say.Errorf("%w: draft -%02d: -02 or -03", status.ErrArgument, p.Draft)
	}
	if p.Encap > keys.EncapIPTFS {
		return say.Errorf("%w: encapsulation mode %d", status.ErrArgument, p.Encap)
	}
	if !s.Full { // the optimized format is that of tunnels
		if p.Encap > keys.EncapTunnel {
			return say.Errorf("%w: encapsulation mode %d has the full format", status.ErrArgument, p.Encap)
		}
		p.Encap = keys.EncapTunnel
	}
	// With octets in clear, a tunnel has the full format too: routers that read them
	// need the Payload Info Header.
	s.Tunnel = p.Encap == keys.EncapTunnel
	s.Full = !s.Tunnel || s.MaxCOffset != 0
	return nil
}

func eespLayout(s *wire.EESPFormat) error {
	switch {
	case s.Valid():
		return nil
	case !s.Seq && !s.IV:
		return say.Errorf("%w: an SA without sequence number needs an explicit IV", status.ErrArgument)
	case s.SubSAs > wire.EESPMaxSubSAs:
		return say.Errorf("%w: %d Sub SAs: at most %d", status.ErrArgument, s.SubSAs, wire.EESPMaxSubSAs)
	case s.MaxCOffset > wire.EESPMaxCOffset:
		return say.Errorf("%w: greatest CryptOffset %d: at most %d", status.ErrArgument, s.MaxCOffset, wire.EESPMaxCOffset)
	}
	return say.Errorf("%w: a CryptOffset needs the full format", status.ErrArgument)
}

func (eesp) KeyOctets(p *keys.Params) int { return p.KeyLen + eespSalt }

// eespKDF returns the KDF of an SA's Sub SAs; not ok: there is no root key.
func eespKDF(s *keys.Snapshot) (k KDF, ok bool) {
	r := &s.Slot[0]
	k = KDF{Master: r.Master, Root: r.Root, Raw: r.Raw, Subs: r.Subs, Usage: r.Usage, Blocks: 1, KeyLen: uint8(s.KeyLen), Mask: eespSalt}
	if r.Master != nil {
		k.Counter, k.Padded = eespCounter, true
	}
	return k, r.Present
}

// eespMsg writes the KDF input for k: the info of HKDF, or the CMAC input for i = 1,
// 15 octets and padding.
func eespMsg(m *[MaxBlocks * 16]byte, k *KDF, session uint16) {
	clear(m[:])
	switch {
	case k.Raw != nil:
		return
	case k.Root != nil:
		binary.BigEndian.PutUint16(m[:], session)
		return
	}
	m[eespCounter] = 1
	copy(m[4:], "EESP")
	binary.BigEndian.PutUint16(m[eespSession:], session)
	binary.BigEndian.PutUint32(m[11:], uint32(k.KeyLen+k.Mask)*8)
	m[15] = 0x80
}

func (eesp) Resolve(s *keys.Snapshot, k *KeyContext, c *Context) status.Code {
	if *k != (KeyContext{ID: k.ID}) || k.ID >= uint64(s.EESP.SubSAs) {
		return status.ErrArgument
	}
	var ok bool
	if c.KDF, ok = eespKDF(s); !ok {
		return status.ErrNoKey
	}
	eespMsg(&c.Msg, &c.KDF, uint16(k.ID))
	return status.OK
}

func (eesp) Export(s *keys.Snapshot, k *KeyContext, options bool, d *DataKey) status.Code {
	// The holder may send with the key: so the root key must be this SPI's, as in Begin.
	if !s.Claim(0) {
		return status.ErrRootKey
	}
	d.Domain = s.Domain
	for _, f := range []struct {
		set bool
		bit uint8
	}{
		{s.EESP.Seq, eespSeq}, {s.EESP.IV, eespIV}, {s.EESP.Full, eespFull}, {s.Align == 8, eespAlign8},
		{!s.EESP.Flow, eespDraft3}, {s.EESP.Tunnel, eespTunnel},
	} {
		if f.set {
			d.Params[0] |= f.bit
		}
	}
	d.Params[1] = s.EESP.MaxCOffset
	return status.OK
}

// eespOf returns the SA of a data key. Its number of Sub SAs is not known.
func eespOf(d *DataKey) *keys.Params {
	p := &keys.Params{Domain: d.Domain, KeyLen: int(d.KeyLen), Align: 4}
	f := d.Params[0]
	p.EESP = wire.EESPFormat{Seq: f&eespSeq != 0, IV: f&eespIV != 0, Full: f&eespFull != 0, Flow: f&eespDraft3 == 0, Tunnel: f&eespTunnel != 0,
		MaxCOffset: d.Params[1], SubSAs: wire.EESPMaxSubSAs}
	if f&eespAlign8 != 0 {
		p.Align = 8
	}
	return p
}

func (eesp) Check(d *DataKey) status.Code {
	if d.ID >= wire.EESPMaxSubSAs || d.Epoch != 0 || d.V != 0 || d.Addr != (Addr{}) || d.OptionsLen != eespSalt ||
		d.Params[0]&^eespParams != 0 {
		return status.ErrArgument
	}
	s := eespOf(d).EESP
	if !s.Valid() || s.Flow && s.Tunnel || !s.Flow && s.Full != (!s.Tunnel || s.MaxCOffset != 0) {
		return status.ErrArgument
	}
	return status.OK
}

func (eesp) Sealing(p *keys.Params, c *SenderConfig) (Sealing, error) {
	id := c.ID
	if c.Key != nil {
		p, id = eespOf(c.Key), c.Key.ID
	}
	switch {
	case c.V != 0 || c.Levels != 0 || c.Options:
		return nil, say.Errorf("%w: profile eesp has no V, levels and options", status.ErrArgument)
	case id >= uint64(p.EESP.SubSAs):
		return nil, say.Errorf("%w: Session ID %d: the SA has %d Sub SAs", status.ErrArgument, id, p.EESP.SubSAs)
	case len(c.Extra) != 0 && !p.EESP.Flow:
		return nil, say.Errorf("%w: a Flow Identifier: draft -03 has none", status.ErrArgument)
	case len(c.Extra) > MaxFlow:
		return nil, say.Errorf("%w: a Flow Identifier of %d octets: at most %d", status.ErrArgument, len(c.Extra), MaxFlow)
	case c.EngineBits != 0:
		return nil, say.Errorf("%w: profile eesp has no engine bits: sequence numbers rise; give each engine a Sub SA", status.ErrArgument)
	}
	s := &eespSealing{session: uint16(id), spi: p.Domain, format: p.EESP, held: heldOf(c.Key)}
	var b [wire.EESPMaxHeader]byte
	at, code := wire.EESPTemplate(&b, &p.EESP, s.session, p.Domain, c.Extra, p.Align)
	if code != status.OK {
		return nil, code
	}
	s.at = at
	s.n = at + p.EESP.PeerLen() + p.EESP.InfoLen() // the info header is written for each packet
	copy(s.b[:s.n], b[:])
	return s, nil
}

func (eesp) Opening(p *keys.Params, c *ReceiverConfig) (Opening, error) {
	o := &eespOpening{own: c.Own, replay: c.Replay, held: heldOf(c.Key)}
	if c.Key != nil {
		p = eespOf(c.Key)
		o.sa, o.session = p, uint16(c.Key.ID)
		if o.held != nil {
			o.salt = binary.BigEndian.Uint32(o.held.options)
		}
	}
	switch {
	case c.TryPrevious:
		return nil, say.Errorf("%w: profile eesp has no previous keys", status.ErrArgument)
	case c.EngineBits != 0:
		return nil, say.Errorf("%w: profile eesp has no engine bits", status.ErrArgument)
	case c.Replay && !p.EESP.Seq:
		return nil, say.Errorf("%w: replay protection needs sequence numbers, which SA %#x does not have", status.ErrArgument, p.Domain)
	}
	return o, nil
}

// eespSealing is the Sealing of profile eesp.
type eespSealing struct {
	bare
	session uint16
	spi     uint32
	format  wire.EESPFormat
	held    *heldKey
	b       [MaxHeader]byte // template, without sequence number, IV, CryptOffset and info header
	n       int             // its length
	at      int             // place of sequence number and IV
}

// Space is the Sub SA. Begin makes sure that a root key is sent with under one SPI.
func (s *eespSealing) Space() string { return say.Sprintf("eesp/%x/%x", s.spi, s.session) }

// First is 1: there is no sequence number 0.
func (s *eespSealing) First() uint64 { return 1 }

// Epochs is false: a Sub SA has one key.
func (s *eespSealing) Epochs() bool { return false }

func (s *eespSealing) Begin(h *Header, snap *keys.Snapshot) status.Code {
	if h.Is(s, snap) {
		return status.OK
	}
	h.begin()
	if s.held != nil {
		h.KeyLen = uint8(s.held.keyLen)
		h.salt = binary.BigEndian.Uint32(s.held.options)
	} else {
		var ok bool
		if h.KDF, ok = eespKDF(snap); !ok {
			return status.ErrNoKey
		}
		if !snap.Claim(0) {
			return status.ErrRootKey
		}
		eespMsg(&h.msg, &h.KDF, s.session)
	}
	h.Inner, h.Tail = uint32(s.format.InfoLen()), MaxTail
	h.Simple, h.Fixed, h.Next = false, true, s.format.Full && !s.format.Tunnel
	h.Dummies = true
	h.b, h.n, h.at, h.id = s.b, s.n, s.at, uint64(s.session)
	return h.ready(s, snap)
}

// Fit: CryptOffset counts from the Payload Info Header.
func (s *eespSealing) Fit(h *Header, l *Lane) status.Code {
	p := l.Pkt
	if p.Flags != 0 {
		return status.ErrArgument
	}
	field := s.field(p)
	if p.IOffset != 0 || field > uint32(s.format.MaxCOffset) || uint32(p.COffset)*4 > l.Len {
		return status.ErrOffset
	}
	l.Prefix, l.Skip = 0, 0
	l.Pad, l.Clear = eespPad(h.Inner+l.Len), field*4
	return status.OK
}

func eespPad(text uint32) uint32 { return -text & 3 }

// field returns the CryptOffset of a packet. If payload octets are in clear, the
// Payload Info Header, 4 octets, is too.
func (s *eespSealing) field(p *Desc) uint32 {
	if p.COffset == 0 {
		return 0
	}
	return uint32(p.COffset) + 1
}

// Look: in a tunnel and in the optimized format, the payload must be one IP packet. In
// a tunnel's full format Next Header must name its version, or a dummy packet.
func (s *eespSealing) Look(l *Lane, payload unsafe.Pointer) status.Code {
	full := s.format.Full
	if full && (!s.format.Tunnel || l.Pkt.NextHeader == wire.ProtoNone) {
		return status.OK
	}
	b := unsafe.Slice((*byte)(payload), l.Len)
	if n, ok := wire.IPLen(b); !ok || n != int(l.Len) || full && l.Pkt.NextHeader != wire.IPProto(b) {
		return status.ErrArgument
	}
	return status.OK
}

func (s *eespSealing) Fill(h *Header, jobs []kernel.Job, pkts []Desc, tsc, step uint64) {
	full, offset, both := s.format.Full, s.format.MaxCOffset != 0, s.format.Seq && s.format.IV
	head := h.n - int(h.Inner)
	for i := range jobs {
		j, p := &jobs[i], &pkts[i]
		to := j.AAD
		h.write(to)
		if offset {
			b := (*[2]byte)(unsafe.Add(to, wire.EESPCOffset))
			b[0], b[1] = wire.EESPOffsets(head, uint8(s.field(p)))
		}
		binary.BigEndian.PutUint64((*[8]byte)(unsafe.Add(to, h.at))[:], tsc)
		if both {
			binary.BigEndian.PutUint64((*[8]byte)(unsafe.Add(to, h.at+8))[:], tsc)
		}
		if full {
			*(*[wire.EESPInfoLen]byte)(unsafe.Add(to, head)) = wire.EESPInfo(p.NextHeader, uint8(eespPad(h.Inner+p.Len)))
		}
		wire.Nonce(&j.Nonce, h.salt, tsc)
		p.ID, p.TSC = h.id, tsc
		tsc += step
	}
}

// Messages: all packets have one KDF input.
func (s *eespSealing) Messages(h *Header, to unsafe.Pointer, room int, jobs []kernel.Job, pkts []Desc) {
	for range jobs {
		*(*[16]byte)(to) = *(*[16]byte)(h.msg[:])
		to = unsafe.Add(to, room)
	}
}

// eespOpening is the Opening of profile eesp.
type eespOpening struct {
	bareOpening
	own     *OwnIDs
	replay  bool
	sa      *keys.Params // of the held key, and the next two
	session uint16
	salt    uint32
	held    *heldKey
}

func (o *eespOpening) Parse(l *Lane, j *kernel.Job, c *Context, n uint32, snaps []*keys.Snapshot) status.Code {
	b, icv := l.Head(n)
	spi, code := wire.EESPSPI(b, icv)
	if code != status.OK {
		return code
	}
	sa, salt := o.sa, o.salt
	var name [16]byte
	if sa != nil {
		if spi != sa.Domain {
			return status.ErrContext
		}
		c.KDF = KDF{}
	} else {
		for _, s := range snaps {
			if s.Domain != spi {
				continue
			}
			var ok bool
			if c.KDF, ok = eespKDF(s); ok {
				sa, name = s.Params, s.Slot[0].Name
				break
			}
		}
		if sa == nil {
			return status.ErrNoKey
		}
	}
	var h wire.EESP
	if code := h.Parse(b, &sa.EESP, icv); code != status.OK {
		return code
	}
	if o.held == nil {
		eespMsg(&c.Msg, &c.KDF, h.Session)
	} else if h.Session != o.session {
		return status.ErrContext
	}
	l.Inner = uint32(sa.EESP.InfoLen())
	l.HdrLen = uint32(h.Len) + l.Inner
	l.Len = n - l.HdrLen - kernel.TagSize
	l.Clear, l.Skip, l.Pad = uint32(h.COffset)*4, 0, 0
	l.KeyLen, l.Retry, l.Snapshot, l.Tunnel = uint8(sa.KeyLen), false, nil, sa.EESP.Tunnel
	p := l.Pkt
	p.ID, p.TSC, p.COffset, p.IOffset, p.NextHeader = uint64(h.Session), h.IV, max(h.COffset, 1)-1, 0, 0
	if sa.EESP.Seq {
		p.TSC = h.Seq
	}
	wire.Nonce(&j.Nonce, salt, h.IV)
	if o.replay {
		l.Flow, l.Seq = replay.Key{Master: name, ID: uint64(h.Session)}, h.Seq
	}
	return reflected(o.own.List(), p.ID)
}

// Opened removes padding and checks the payload of a tunnel.
func (o *eespOpening) Opened(l *Lane, payload unsafe.Pointer) status.Code {
	if l.Inner != 0 {
		next, pad, ok := wire.ParseEESPInfo(unsafe.Slice((*byte)(unsafe.Add(payload, -int(l.Inner))), l.Inner+l.Len))
		if !ok {
			return status.ErrPayload
		}
		l.Pkt.NextHeader = next
		l.Len -= uint32(pad)
		if next == wire.ProtoNone {
			return status.ErrDummy
		}
		if l.Tunnel {
			b := unsafe.Slice((*byte)(payload), l.Len)
			if n, ok := wire.IPLen(b); !ok || n != int(l.Len) || next != wire.IPProto(b) {
				return status.ErrPayload
			}
		}
		return status.OK
	}
	b := unsafe.Slice((*byte)(payload), l.Len)
	n, ok := wire.IPLen(b)
	if !ok || n > int(l.Len) || int(l.Len)-n > wire.EESPMaxPad {
		return status.ErrPayload
	}
	l.Pkt.NextHeader = wire.IPProto(b)
	l.Len = uint32(n)
	return status.OK
}

// Learn never records a pattern: bursts mix Sub SAs.
func (o *eespOpening) Learn(s *Pattern, l *Lane, c *Context) { s.of = nil }

// Match matches no packets: there is no pattern.
func (o *eespOpening) Match(*Pattern, []kernel.Job, []Lane, []Desc, unsafe.Pointer, int) (n int, sorted bool) {
	return 0, true
}
