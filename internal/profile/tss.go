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

// Profile tss: Ultra Ethernet's Transport Security Sublayer.

// V of a sender, context or data key. The context has the SSI (TSSSSI) or the source
// address. A group's sender with TSSSSI seals over both IP families; over IPv6 its
// packets have V TSSSSI6.
const (
	TSSAddr  = iota // no SSI, IPv4
	TSSSSI          // SSI, IPv4
	TSSAddr6        // no SSI, IPv6
	TSSSSI6         // SSI, IPv6
)

// tssHasSSI and tssIs6 read V.
func tssHasSSI(v uint8) bool { return v == TSSSSI || v == TSSSSI6 }
func tssIs6(v uint8) bool    { return v == TSSAddr6 || v == TSSSSI6 }

// tssV returns V of a packet, with an SSI (sp) or not, over IPv6 or IPv4.
func tssV(sp, six bool) uint8 {
	switch {
	case sp && six:
		return TSSSSI6
	case sp:
		return TSSSSI
	case six:
		return TSSAddr6
	}
	return TSSAddr
}

const (
	tssKeyLen   = 32
	tssMaskLen  = 12
	tssLimitLen = 8  // octets of the counter limit in a data key
	tssAge      = 16 // default of TSSParams.EpochAge
	tssToClient = 1 << 47
	// Crypt offsets: at least the longest header, and at most what a descriptor's
	// COffset can say behind the shortest one.
	tssMinOffset = wire.TSSMaxHeader
	tssMaxOffset = wire.TSSMinHeader + 4*255

	// Bits of a data key's Params[0].
	tssParamAN          = 1
	tssParamServer      = 2
	tssParamNoDirection = 4 // no direction bit

	tssSpare = 4 // zero octets in front of the context, with an IPv6 address
	tssEnd   = 14
	tssEnd6  = tssSpare + 26
)

// tssInputs are KDF inputs for i = 1 without the parts that vary, padded for CMAC:
// with label "U1", then "U2", each with a context of 10 octets, then one for IPv6.
var tssInputs = [2][2][MaxBlocks * 16]byte{{tssInput('1', tssEnd), tssInput('1', tssEnd6)}, {tssInput('2', tssEnd), tssInput('2', tssEnd6)}}

func tssInput(label byte, end int) (m [MaxBlocks * 16]byte) {
	m[0], m[1], m[2] = 1, 'U', label
	binary.BigEndian.PutUint32(m[end:], 8*(tssKeyLen+tssMaskLen))
	m[end+4] = 0x80
	return m
}

// tssMsg writes the KDF input of a context, and zeros up to the longest one. who points
// to the SSI or IPv4 address (4 octets), or to the IPv6 address.
func tssMsg(to unsafe.Pointer, server, v6 bool, tsc uint64, rekey uint32, who unsafe.Pointer) {
	t := &tssInputs[0]
	if server {
		t = &tssInputs[1]
	}
	if !v6 {
		m := (*[MaxBlocks * 16]byte)(to)
		*m = t[0]
		binary.BigEndian.PutUint16(m[4:], uint16(tsc>>48))
		binary.BigEndian.PutUint32(m[6:], rekey)
		*(*[4]byte)(m[10:]) = *(*[4]byte)(who)
		return
	}
	m := (*[MaxBlocks * 16]byte)(to)
	*m = t[1]
	binary.BigEndian.PutUint16(m[8:], uint16(tsc>>48))
	binary.BigEndian.PutUint32(m[10:], rekey)
	*(*[16]byte)(m[14:]) = *(*[16]byte)(who)
}

func tssKDF(s *keys.Slot, v6 bool) KDF {
	if s.Raw != nil {
		return KDF{Raw: s.Raw, Usage: s.Usage, Blocks: 1, KeyLen: tssKeyLen}
	}
	k := KDF{Master: s.Master, Usage: s.Usage, Blocks: 2, KeyLen: tssKeyLen, Mask: tssMaskLen, Padded: true}
	if v6 {
		k.Blocks = 3
	}
	return k
}

// tssClear returns how many octets of a payload behind a header of n octets are in
// clear.
func tssClear(p *keys.Params, n uint32) uint32 {
	if c := uint32(p.TSS.CryptOffset); c > n {
		return c - n
	}
	return 0
}

// tssOld reports whether an epoch is behind the current one by more than age, in
// serial number arithmetic (RFC 1982).
func tssOld(epoch, current, age uint16) bool {
	behind := current - epoch
	return behind < 1<<15 && behind > age
}

// tssRekey returns the part of a counter that is in the context.
func tssRekey(p *keys.Params, tsc uint64) uint32 {
	return uint32(tsc & p.RekeyMask >> (p.RekeyShift & 63))
}

// tssPrefix returns the length of the prefix of packets with these flags.
func tssPrefix(flags uint16) (n uint32, c status.Code) {
	switch flags {
	case 0:
		return wire.TSSPrefix4, status.OK
	case FlagIPv6:
		return wire.TSSPrefix6, status.OK
	}
	return 0, status.ErrArgument
}

// tssAddr returns the place of an address in a prefix.
func tssAddr(prefix unsafe.Pointer, v6, destination bool) unsafe.Pointer {
	switch {
	case !destination:
		return prefix
	case v6:
		return unsafe.Add(prefix, 16)
	}
	return unsafe.Add(prefix, 4)
}

// tssSame reports whether the address at a is b, which has the form of descriptors.
func tssSame(a unsafe.Pointer, v6 bool, b *[16]byte) bool {
	if v6 {
		return *(*[16]byte)(a) == *b
	}
	return *(*[4]byte)(a) == *(*[4]byte)(b[12:])
}

type tss struct{}

func (tss) Name() string { return "tss" }

func (tss) Prepare(p *keys.Params) error {
	switch {
	case p.KeyLen != tssKeyLen:
		return say.Errorf("%w: tss has AES-256-GCM only", status.ErrArgument)
	case p.Domain>>24 != 0:
		return say.Errorf("%w: SDI %#x does not fit in 24 bits", status.ErrArgument, p.Domain)
	case p.Mode > keys.TSSDirect:
		return say.Errorf("%w: tss has no mode %d", status.ErrArgument, p.Mode)
	case p.Mode != keys.TSSCluster && (p.RekeyMask != 0 || p.RekeyShift != 0):
		return say.Errorf("%w: a rekey mask is for cluster mode only", status.ErrArgument)
	case p.RekeyMask>>48 != 0:
		return say.Errorf("%w: rekey mask %#x does not fit in 48 bits", status.ErrArgument, p.RekeyMask)
	case p.RekeyShift > 47:
		return say.Errorf("%w: rekey shift %d: at most 47", status.ErrArgument, p.RekeyShift)
	case p.RekeyMask>>p.RekeyShift>>32 != 0:
		return say.Errorf("%w: rekey mask %#x, shifted by %d, does not fit in 32 bits", status.ErrArgument, p.RekeyMask, p.RekeyShift)
	}
	t := &p.TSS
	switch {
	case t.CryptOffset != 0 && (t.CryptOffset < tssMinOffset || t.CryptOffset > tssMaxOffset || t.CryptOffset%4 != 0):
		return say.Errorf("%w: crypt offset %d: a multiple of 4 octets from %d to %d, or 0", status.ErrArgument, t.CryptOffset, tssMinOffset, tssMaxOffset)
	case t.EpochAge >= 1<<15:
		return say.Errorf("%w: epoch age %d: at most %d", status.ErrArgument, t.EpochAge, 1<<15-1)
	case t.CounterLimit > 1<<48:
		return say.Errorf("%w: counter limit %#x: at most 2^48", status.ErrArgument, t.CounterLimit)
	case t.NoDirection && p.Mode != keys.TSSServer:
		return say.Errorf("%w: only server mode has a direction bit to leave out", status.ErrArgument)
	}
	if t.EpochAge == 0 {
		t.EpochAge = tssAge
	}
	p.State = keys.NewDomainState(t.AuthFailures)
	p.Slots, p.Kind = wire.TSSKeys, keys.CMAC
	if p.Mode == keys.TSSDirect {
		p.Kind = keys.Raw
	}
	return nil
}

func (tss) KeyOctets(p *keys.Params) int {
	if p.Mode == keys.TSSDirect {
		return tssKeyLen
	}
	return tssKeyLen + tssMaskLen
}

// tssCheckIdentity checks V, SSI and addresses of a context or data key.
func tssCheckIdentity(v uint8, id uint64, a *Addr) status.Code {
	switch {
	case v > TSSSSI6:
		return status.ErrV
	case id>>32 != 0, !tssHasSSI(v) && id != 0, v == TSSSSI && a.Src != [16]byte{}, v == TSSAddr && !wire.Mapped(&a.Src), a.Dst != [16]byte{}:
		return status.ErrArgument
	}
	return status.OK
}

func (tss) Resolve(s *keys.Snapshot, k *KeyContext, c *Context) status.Code {
	rekey := k.ID >> 32
	switch code := tssCheckIdentity(k.V, k.ID&(1<<32-1), &k.Addr); {
	case code != status.OK:
		return code
	case s.Mode == keys.TSSDirect && k.V == TSSAddr6:
		return status.ErrUnsupported
	case int(k.Generation) >= len(s.Slot) || k.Levels != 0 || rekey&^(s.RekeyMask>>s.RekeyShift) != 0:
		return status.ErrArgument
	}
	slot := &s.Slot[k.Generation]
	if !slot.Present {
		return status.ErrNoKey
	}
	v6 := tssIs6(k.V)
	c.KDF = tssKDF(slot, v6)
	if slot.Raw != nil {
		return status.OK
	}
	var ssi [4]byte
	binary.BigEndian.PutUint32(ssi[:], uint32(k.ID))
	who := unsafe.Pointer(&ssi)
	switch k.V {
	case TSSAddr:
		who = unsafe.Pointer(&k.Addr.Src[12])
	case TSSAddr6, TSSSSI6:
		who = unsafe.Pointer(&k.Addr.Src)
	}
	tssMsg(unsafe.Pointer(&c.Msg), s.Mode == keys.TSSServer, v6, uint64(k.Epoch)<<48, uint32(rekey), who)
	return status.OK
}

func (tss) Export(s *keys.Snapshot, k *KeyContext, options bool, d *DataKey) status.Code {
	if s.Mode == keys.TSSDirect || s.RekeyMask != 0 { // the group's own key; one of many keys
		return status.ErrUnsupported
	}
	d.Domain, d.Params[0], d.Addr.Src = s.Domain, k.Generation, k.Addr.Src
	if s.Mode == keys.TSSServer {
		d.Params[0] |= tssParamServer
	}
	if s.TSS.NoDirection {
		d.Params[0] |= tssParamNoDirection
	}
	if c := s.TSS.CryptOffset; c != 0 {
		d.Params[1] = uint8((c-tssMinOffset)/4 + 1)
	}
	if l := s.TSS.CounterLimit; l != 0 && l < 1<<48 { // behind the mask
		binary.BigEndian.PutUint64(d.Options[tssMaskLen:], l)
		d.OptionsLen = tssMaskLen + tssLimitLen
	}
	return status.OK
}

// tssOf returns the parameters of a data key's domain that its holder needs.
func tssOf(d *DataKey) *keys.Params {
	p := &keys.Params{Domain: d.Domain, Mode: keys.TSSCluster}
	if d.Params[0]&tssParamServer != 0 {
		p.Mode = keys.TSSServer
	}
	p.TSS.NoDirection = d.Params[0]&tssParamNoDirection != 0
	if n := uint16(d.Params[1]); n != 0 {
		p.TSS.CryptOffset = tssMinOffset + 4*(n-1)
	}
	if d.OptionsLen > tssMaskLen {
		p.TSS.CounterLimit = binary.BigEndian.Uint64(d.Options[tssMaskLen:])
	}
	return p
}

func (tss) Check(d *DataKey) status.Code {
	switch l := binary.BigEndian.Uint64(d.Options[tssMaskLen:]); d.OptionsLen {
	case tssMaskLen:
	case tssMaskLen + tssLimitLen:
		if l == 0 || l >= 1<<48 {
			return status.ErrArgument
		}
	default:
		return status.ErrArgument
	}
	if d.KeyLen != tssKeyLen || d.Domain>>24 != 0 ||
		d.Params[0]&^(tssParamAN|tssParamServer|tssParamNoDirection) != 0 || d.Params[0]&(tssParamServer|tssParamNoDirection) == tssParamNoDirection {
		return status.ErrArgument
	}
	return tssCheckIdentity(d.V, d.ID, &d.Addr)
}

// tssHeld is what a sender or receiver that holds a data key needs to know of it.
type tssHeld struct {
	mask  [tssMaskLen]byte
	an    uint8
	v     uint8
	epoch uint16
	sdi   uint32
	ssi   uint32
	addr  [16]byte // of the context, unless V is TSSSSI
}

func tssHeldOf(d *DataKey) *tssHeld {
	if d == nil {
		return nil
	}
	h := &tssHeld{an: d.Params[0] & tssParamAN, v: d.V, epoch: d.Epoch, sdi: d.Domain, ssi: uint32(d.ID), addr: d.Addr.Src}
	copy(h.mask[:], d.Mask())
	return h
}

func (h *tssHeld) add(nonce *[12]byte) {
	for i := range nonce {
		nonce[i] ^= h.mask[i]
	}
}

func (tss) Sealing(p *keys.Params, c *SenderConfig) (Sealing, error) {
	s := &tssSealing{v: c.V, id: c.ID, held: tssHeldOf(c.Key)}
	if k := c.Key; k != nil {
		s.v, s.id = k.V, k.ID
		p = tssOf(k)
	}
	s.Params = p
	switch {
	case s.v > TSSSSI6:
		return nil, say.Errorf("%w: V %#x", status.ErrArgument, s.v)
	case !tssHasSSI(s.v) && s.id != 0:
		return nil, say.Errorf("%w: ID %#x: V %#x has no SSI", status.ErrArgument, s.id, s.v)
	case s.id>>32 != 0:
		return nil, say.Errorf("%w: SSI %#x does not fit in 32 bits", status.ErrArgument, s.id)
	case c.Levels != 0 || c.Options || len(c.Extra) != 0:
		return nil, say.Errorf("%w: profile tss takes no levels, options or extra octets", status.ErrArgument)
	case p.Mode == keys.TSSDirect && s.v == TSSAddr6:
		return nil, say.Errorf("%w: direct mode over IPv6 without SSI: all senders would share nonces", status.ErrUnsupported)
	}
	return s, nil
}

// tssSealing is the Sealing of profile tss.
type tssSealing struct {
	*keys.Params
	v    uint8
	id   uint64
	held *tssHeld
}

// Space is the mode and the SSI. It has no SDI: two groups may have the same keys, and
// the SDI is in no key and, except over IPv6, in no nonce. Without an SSI it stands for
// all SSIs: an address may have the octets of another sender's SSI, and then has its
// keys.
func (s *tssSealing) Space() string {
	switch {
	case tssHasSSI(s.v):
		return say.Sprintf("tss/%d/%x", s.Mode, s.id)
	case s.held != nil && s.v == TSSAddr6: // nonces as of a sender whose SSI is the SDI
		return say.Sprintf("tss/%d/%x", s.Mode, s.Domain)
	}
	return say.Sprintf("tss/%d/*", s.Mode)
}

// KeySpace: over IPv6 all SSIs of an address have one key. Their nonces differ in the
// first octets.
func (s *tssSealing) KeySpace() string {
	if tssIs6(s.v) {
		return "-" + s.Space()
	}
	return ""
}

func (s *tssSealing) CounterLimit() uint64 { return s.TSS.CounterLimit }

// Epochs: each context has an epoch.
func (s *tssSealing) Epochs() bool { return true }

// Direction is the counter's top bit in server mode: 1 from the server, which has the
// group's keys, 0 from clients.
func (s *tssSealing) Direction() (is bool, bit uint8) {
	switch {
	case s.Mode != keys.TSSServer || s.TSS.NoDirection:
		return false, 0
	case s.held != nil:
		return true, 0
	}
	return true, 1
}

func (s *tssSealing) PrefixFor(a *Addr) (prefix [wire.TSSPrefix6]byte, n int, flags uint16) {
	if wire.Mapped(&a.Src) && wire.Mapped(&a.Dst) {
		copy(prefix[:4], a.Src[12:])
		copy(prefix[4:8], a.Dst[12:])
		return prefix, wire.TSSPrefix4, 0
	}
	copy(prefix[:16], a.Src[:])
	copy(prefix[16:32], a.Dst[:])
	return prefix, wire.TSSPrefix6, FlagIPv6
}

func (s *tssSealing) Begin(h *Header, snap *keys.Snapshot) status.Code {
	if h.Is(s, snap) {
		return status.OK
	}
	h.begin()
	an, six := 0, tssIs6(s.v)
	if s.held != nil {
		an, h.KeyLen = int(s.held.an), tssKeyLen
		h.Simple = s.v == TSSSSI // otherwise Look compares addresses
	} else {
		an = snap.Current
		slot := &snap.Slot[an]
		if !slot.Present {
			return status.ErrNoKey
		}
		h.KDF = tssKDF(slot, six)
		h.Mixed = s.v == TSSSSI
	}
	h.n = wire.TSSTemplate((*[wire.TSSMaxHeader]byte)(h.b[:]), tssHasSSI(s.v), uint8(an), s.Domain, uint32(s.id))
	h.Simple = h.Simple && tssClear(s.Params, uint32(h.n)) == 0
	h.id, h.salt = s.id, uint32(s.id)
	if s.v == TSSAddr6 {
		h.salt = s.Domain
	}
	s.family(h, six)
	return h.ready(s, snap)
}

// family makes h the header of packets over IPv4 or IPv6.
func (s *tssSealing) family(h *Header, six bool) {
	h.Flags = 0
	if six {
		h.Flags = FlagIPv6
	}
	if h.Mask != 0 && six {
		h.Blocks = 3
	} else if h.Mask != 0 {
		h.Blocks = 2
	}
	h.Prefix, _ = tssPrefix(h.Flags)
	h.Fixed = h.Mask == 0 || s.v == TSSSSI && !six && s.RekeyMask == 0
}

func (s *tssSealing) switchFamily(h *Header) { s.family(h, h.Flags == 0) }

func (s *tssSealing) Fit(h *Header, l *Lane) (c status.Code) {
	p := l.Pkt
	if p.Flags != h.Flags {
		return status.ErrArgument
	}
	l.Prefix, l.Pad, l.Skip, l.Clear = h.Prefix, 0, 0, tssClear(s.Params, uint32(h.n))
	if p.IOffset != 0 || p.COffset != 0 && uint32(p.COffset)*4 != l.Clear || l.Clear > l.Len {
		return status.ErrOffset
	}
	return status.OK
}

// Look refuses a packet with another source address than the held key's: no receiver
// could open it.
func (s *tssSealing) Look(l *Lane, _ unsafe.Pointer) status.Code {
	if k := s.held; k != nil && k.v != TSSSSI && !tssSame(unsafe.Add(l.Hdr, -int(l.Prefix)), tssIs6(k.v), &k.addr) {
		return status.ErrContext
	}
	return status.OK
}

func (s *tssSealing) Fill(h *Header, jobs []kernel.Job, pkts []Desc, tsc, step uint64) {
	salt, n := h.salt, uintptr(h.n)
	for i := range jobs {
		j, p := &jobs[i], &pkts[i]
		to := unsafe.Add(j.AAD, h.Prefix)
		*(*[8]byte)(to) = *(*[8]byte)(h.b[:])
		binary.BigEndian.PutUint64((*[8]byte)(unsafe.Add(to, n-8))[:], tsc)
		if s.v == TSSAddr {
			salt = binary.BigEndian.Uint32((*[4]byte)(j.AAD)[:])
		}
		wire.Nonce(&j.Nonce, salt, tsc)
		if s.held != nil {
			s.held.add(&j.Nonce)
		}
		p.ID, p.TSC = h.id, tsc
		tsc += step
	}
}

func (s *tssSealing) Messages(h *Header, to unsafe.Pointer, room int, jobs []kernel.Job, pkts []Desc) {
	if h.Mask == 0 { // direct mode: nothing is derived
		clear(unsafe.Slice((*byte)(to), room*len(jobs)))
		return
	}
	server, v6 := s.Mode == keys.TSSServer, h.Flags == FlagIPv6
	for i := range jobs {
		who := unsafe.Pointer(&h.b[4]) // SSI
		if s.v != TSSSSI || v6 {
			who = tssAddr(jobs[i].AAD, v6, server) // a server uses the client's key: that of the destination
		}
		tsc := binary.BigEndian.Uint64(jobs[i].Nonce[4:])
		tssMsg(to, server, v6, tsc, tssRekey(s.Params, tsc), who)
		to = unsafe.Add(to, room)
	}
}

func (tss) Opening(p *keys.Params, c *ReceiverConfig) (Opening, error) {
	o := &tssOpening{own: c.Own, replay: c.Replay, engineBits: c.EngineBits, held: tssHeldOf(c.Key)}
	if c.TryPrevious {
		return nil, say.Errorf("%w: try previous: packets of tss name their key", status.ErrArgument)
	}
	if c.Key != nil {
		o.sa = tssOf(c.Key)
		o.client = o.sa.Mode == keys.TSSServer
		p = o.sa
	}
	if p.Mode == keys.TSSServer && len(c.Own.List()) != 0 {
		return nil, say.Errorf("%w: own IDs: in server mode both ends have one SSI", status.ErrArgument)
	}
	return o, nil
}

// tssOpening is the Opening of profile tss.
type tssOpening struct {
	bareOpening
	own        *OwnIDs
	replay     bool
	engineBits uint8
	client     bool // holds a data key of server mode
	held       *tssHeld
	sa         *keys.Params // domain of the held key
	unlike     bool         // domains have different layouts
}

// Prefix is both addresses and the entropy field.
func (o *tssOpening) Prefix(p *Desc) (uint32, status.Code) { return tssPrefix(p.Flags) }

// tssSlot finds the key that a packet names. If its domain has none with this AN, a new
// key may be missing, which is noted (keys.Params.Ahead). A new key with an AN that is
// in use cannot be told from a forged packet.
func tssSlot(snaps []*keys.Snapshot, sdi uint32, an uint8) (*keys.Snapshot, *keys.Slot) {
	for _, s := range snaps {
		if slot := &s.Slot[an]; s.Domain == sdi && slot.Present {
			return s, slot
		}
	}
	for _, s := range snaps {
		if s.Domain == sdi && s.Ahead != nil && s.Slot[an^1].Present && s.Ahead.Load() == 0 {
			s.Ahead.Store(1)
		}
	}
	return nil, nil
}

func (o *tssOpening) Parse(l *Lane, j *kernel.Job, c *Context, n uint32, snaps []*keys.Snapshot) status.Code {
	b, icv := l.Head(n)
	sdi, an, code := wire.TSSKey(b, icv)
	if code != status.OK {
		return code
	}
	k, d := o.held, o.sa
	var slot *keys.Slot
	if l.Snapshot = nil; k != nil {
		if sdi != k.sdi || an != k.an {
			return status.ErrContext
		}
	} else {
		if l.Snapshot, slot = tssSlot(snaps, sdi, an); slot == nil {
			return status.ErrNoKey
		}
		if d = l.Snapshot.Params; d.State.Latched() {
			return status.ErrLatched
		}
	}
	var h wire.TSS
	if code := h.Parse(b, icv); code != status.OK {
		return code
	}
	l.HdrLen = uint32(h.Len)
	l.Len = n - l.HdrLen - kernel.TagSize
	l.Clear, l.Skip, l.Inner, l.Pad = tssClear(d, l.HdrLen), 0, 0, 0
	l.KeyLen, l.Retry = tssKeyLen, false
	p := l.Pkt
	p.ID, p.TSC, p.COffset, p.IOffset, p.NextHeader = uint64(h.SSI), h.TSC, uint8(l.Clear/4), 0, 0
	prefix, six := unsafe.Add(l.Hdr, -int(l.Prefix)), l.Prefix == wire.TSSPrefix6
	v, who, salt := tssV(h.SP, six), unsafe.Add(l.Hdr, 4), h.SSI
	if v != TSSSSI {
		who = tssAddr(prefix, six, o.client)
	}
	switch v {
	case TSSAddr:
		salt = binary.BigEndian.Uint32((*[4]byte)(prefix)[:])
	case TSSAddr6:
		salt = h.SDI
	}
	wire.Nonce(&j.Nonce, salt, h.TSC)
	epoch := uint16(h.TSC >> 48)
	server := d.Mode == keys.TSSServer
	switch {
	case l.Clear > l.Len:
		return status.ErrOffset
	case slot != nil && slot.Raw != nil && v == TSSAddr6:
		return status.ErrUnsupported
	case server && !d.TSS.NoDirection && h.TSC&tssToClient != 0 != o.client:
		return status.ErrReflected
	}
	var name [16]byte
	if k != nil {
		if epoch != k.epoch || v != k.v || h.SSI != k.ssi || v != TSSSSI && !tssSame(who, six, &k.addr) {
			return status.ErrContext
		}
		k.add(&j.Nonce)
		c.KDF = KDF{}
	} else {
		if tssOld(epoch, slot.Epoch, d.TSS.EpochAge) {
			return status.ErrEpoch
		}
		name = slot.Name
		c.KDF = tssKDF(slot, six)
		if slot.Raw != nil {
			c.Msg = [len(c.Msg)]byte{}
		} else {
			tssMsg(unsafe.Pointer(&c.Msg), server, six, h.TSC, tssRekey(d, h.TSC), who)
		}
	}
	if o.replay {
		o.flow(l, &name, an, v, prefix, server && !d.TSS.NoDirection)
	}
	if h.SP && !server {
		return reflected(o.own.List(), uint64(h.SSI))
	}
	return status.OK
}

// flow sets Flow and Seq of a packet whose Desc is complete.
func (o *tssOpening) flow(l *Lane, name *[16]byte, an, v uint8, prefix unsafe.Pointer, directed bool) {
	p := l.Pkt
	count := p.TSC & (1<<48 - 1)
	l.Flow = replay.Key{Master: *name, ID: p.ID, Epoch: uint16(p.TSC >> 48), Kind: uint16(an)<<8 | uint16(v)}
	switch v {
	case TSSAddr:
		copy(l.Flow.Addr[:], (*[4]byte)(prefix)[:])
	case TSSAddr6, TSSSSI6:
		copy(l.Flow.Addr[:], (*[16]byte)(prefix)[:])
	}
	if directed { // the direction is not part of the number
		count &^= tssToClient
	}
	l.Seq, l.Flow.Engine = split(count, o.engineBits)
}

// Learn: the pattern holds for packets of one epoch.
func (o *tssOpening) Learn(s *Pattern, l *Lane, c *Context) {
	s.of = nil
	if o.held != nil || l.Clear != 0 {
		return
	}
	s.snap, s.flags, s.prefix, s.n = l.Snapshot, l.Pkt.Flags, l.Prefix, l.HdrLen
	s.word = *(*[4]byte)(l.Hdr)
	copy(s.opts[:2], unsafe.Slice((*byte)(unsafe.Add(l.Hdr, l.HdrLen-8)), 2))
	s.KDF, s.name = c.KDF, l.Flow.Master
	s.of = o
}

func (o *tssOpening) Match(s *Pattern, jobs []kernel.Job, lanes []Lane, pkts []Desc, msgs unsafe.Pointer, room int) (n int, sorted bool) {
	epoch := binary.BigEndian.Uint16(s.opts[:])
	if s.snap.State.Latched() {
		return 0, true
	}
	sp, v6, server := s.n == wire.TSSMaxHeader, s.prefix == wire.TSSPrefix6, s.snap.Mode == keys.TSSServer
	directed := server && !s.snap.TSS.NoDirection
	v := tssV(sp, v6)
	sdi := binary.BigEndian.Uint32(s.word[:]) & (1<<24 - 1)
	sorted = true
	last := uint32(0)
	for n < len(pkts) && n < len(jobs) {
		p, j := &pkts[n], &jobs[n]
		if !s.job(p, j) {
			break
		}
		hdr := s.header(j)
		tsc := binary.BigEndian.Uint64((*[8]byte)(unsafe.Add(hdr, s.n-8))[:])
		if uint16(tsc>>48) != epoch || directed && tsc&tssToClient != 0 {
			break
		}
		who, id, salt := j.AAD, uint32(0), sdi
		switch {
		case sp:
			ssi := unsafe.Add(hdr, 4)
			if id = binary.BigEndian.Uint32((*[4]byte)(ssi)[:]); !server && reflected(o.own.List(), uint64(id)) != status.OK {
				return n, sorted
			}
			if salt = id; !v6 {
				who = ssi
			}
		case !v6:
			salt = binary.BigEndian.Uint32((*[4]byte)(who)[:])
		}
		wire.Nonce(&j.Nonce, salt, tsc)
		p.ID, p.TSC, p.COffset, p.IOffset, p.NextHeader = uint64(id), tsc, 0, 0, 0
		if s.Raw == nil {
			tssMsg(msgs, server, v6, tsc, tssRekey(s.snap.Params, tsc), who)
		} else {
			*(*[16]byte)(msgs) = [16]byte{}
		}
		if o.replay {
			lanes[n].Pkt = p
			o.flow(&lanes[n], &s.name, s.word[0]&1, v, j.AAD, directed)
		}
		msgs = unsafe.Add(msgs, room)
		sorted = sorted && j.Len >= last
		last = j.Len
		n++
	}
	return n, sorted
}
