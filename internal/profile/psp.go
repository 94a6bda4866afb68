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

// Profile psp: Google PSP. Each SPI and version has a data key, derived from the
// device key that the SPI's top bit names.

type psp struct{}

func (psp) Name() string { return "psp" }

const pspAll = 1<<wire.PSPVersions - 1 // versions, as a set

func pspKeyLen(version uint8) int { return 16 << (version & 1) }

func (psp) Prepare(p *keys.Params) error {
	if p.Versions&^pspAll != 0 {
		return say.Errorf("%w: versions %#x: there are 0 to %d", status.ErrArgument, p.Versions, wire.PSPVersions-1)
	}
	if p.Versions == 0 {
		p.Versions = 1 << (p.KeyLen / 32)
	}
	p.Slots, p.Kind, p.SPIs = 2, keys.CMAC, true
	return nil
}

func (psp) KeyOctets(p *keys.Params) int { return p.KeyLen }

func pspSlot(s *keys.Snapshot, spi uint32) *keys.Slot { return &s.Slot[spi>>31] }

// pspKey sets the KDF and writes its input: counter(4) | "Pv" | version | 0 | SPI(4) |
// length in bits(4).
func pspKey(m *[MaxBlocks * 16]byte, k *KDF, slot *keys.Slot, version uint8, spi uint32) {
	n := pspKeyLen(version)
	*m = [MaxBlocks * 16]byte{3: 1, 4: 'P', 5: 'v', 6: '0' + version}
	binary.BigEndian.PutUint32(m[8:], spi)
	binary.BigEndian.PutUint32(m[12:], uint32(n*8))
	*k = KDF{Master: slot.Master, Usage: slot.Usage, Blocks: 1, KeyLen: uint8(n), Counter: 3}
}

func (psp) Resolve(s *keys.Snapshot, k *KeyContext, c *Context) status.Code {
	if k.V >= wire.PSPVersions || s.Versions>>k.V&1 == 0 {
		return status.ErrV
	}
	if k.ID>>32 != 0 || k.Epoch != 0 || k.Levels|k.Generation != 0 || k.Addr != (Addr{}) {
		return status.ErrArgument
	}
	spi := uint32(k.ID)
	if wire.PSPReserved(spi) {
		return status.ErrArgument
	}
	slot := pspSlot(s, spi)
	if !slot.Present {
		return status.ErrNoKey
	}
	pspKey(&c.Msg, &c.KDF, slot, k.V, spi)
	return status.OK
}

func (psp) Export(*keys.Snapshot, *KeyContext, bool, *DataKey) status.Code { return status.OK }

func (psp) Check(d *DataKey) status.Code {
	if d.V >= wire.PSPVersions {
		return status.ErrV
	}
	if int(d.KeyLen) != pspKeyLen(d.V) || d.ID>>32 != 0 || wire.PSPReserved(uint32(d.ID)) || d.Epoch != 0 || d.OptionsLen != 0 ||
		d.Params != [2]uint8{} || d.Addr != (Addr{}) || d.Domain != 0 {
		return status.ErrArgument
	}
	return status.OK
}

func (psp) Sealing(p *keys.Params, c *SenderConfig) (Sealing, error) {
	id, v := c.ID, c.V
	if c.Key != nil {
		id, v = c.Key.ID, c.Key.V
	} else if v >= wire.PSPVersions || p.Versions>>v&1 == 0 {
		return nil, say.Errorf("%w: version %d is not one of the group's (set %#x)", status.ErrArgument, v, p.Versions)
	}
	switch {
	case id>>32 != 0:
		return nil, say.Errorf("%w: SPI %#x does not fit in 32 bits", status.ErrArgument, id)
	case wire.PSPReserved(uint32(id)):
		return nil, say.Errorf("%w: SPI %#x: the low 31 bits of one are never 0", status.ErrArgument, id)
	case c.Levels != 0 || c.Options:
		return nil, errNoLevels
	case len(c.Extra)%wire.PSPUnit != 0 || len(c.Extra) > wire.PSPMaxExtension:
		return nil, say.Errorf("%w: %d octets of VC and other extension fields: not a multiple of %d, or more than %d",
			status.ErrArgument, len(c.Extra), wire.PSPUnit, wire.PSPMaxExtension)
	}
	s := &pspSealing{version: v, spi: uint32(id), held: c.Key != nil}
	s.n = wire.PSPTemplate(&s.b, v, s.spi, len(c.Extra) != 0 && !c.NoVC, c.Extra)
	if v >= wire.PSPGMAC {
		return s, nil
	}
	// With FromIV, part of the extension may be encrypted: no packet is simple.
	if c.FromIV {
		s.covered = uint32(len(c.Extra))
	} else {
		s.b[2] = uint8(len(c.Extra) / 4)
	}
	return s, nil
}

func (psp) Opening(p *keys.Params, c *ReceiverConfig) (Opening, error) {
	if c.TryPrevious {
		return nil, errNoLevels
	}
	o := &pspOpening{own: c.Own, replay: c.Replay, engineBits: c.EngineBits}
	if c.Key != nil {
		o.held, o.version, o.spi = true, c.Key.V, uint32(c.Key.ID)
	}
	return o, nil
}

// pspSealing is the Sealing of profile psp.
type pspSealing struct {
	bare
	version uint8
	spi     uint32
	held    bool
	b       [MaxHeader]byte // a header without next header and IV
	n       int
	covered uint32 // octets of the extension that crypt offsets count
}

// Space is the SPI alone, as the ID in profile stateless.
func (s *pspSealing) Space() string { return say.Sprintf("psp/%x", s.spi) }

func (s *pspSealing) Epochs() bool { return false }

func (s *pspSealing) Begin(h *Header, snap *keys.Snapshot) status.Code {
	if h.Is(s, snap) {
		return status.OK
	}
	h.begin()
	if s.held {
		h.KeyLen = uint8(pspKeyLen(s.version))
	} else {
		slot := pspSlot(snap, s.spi)
		if !slot.Present {
			return status.ErrNoKey
		}
		pspKey(&h.msg, &h.KDF, slot, s.version, s.spi)
	}
	h.Fixed, h.Next, h.Simple = true, true, s.version < wire.PSPGMAC && s.covered == 0
	h.n = copy(h.b[:], s.b[:s.n])
	return h.ready(s, snap)
}

func (s *pspSealing) Fill(h *Header, jobs []kernel.Job, pkts []Desc, tsc, step uint64) {
	from := &s.b
	for i := range jobs {
		j, p := &jobs[i], &pkts[i]
		to := (*[wire.PSPBase]byte)(j.AAD)
		*to = [wire.PSPBase]byte(from[:])
		to[0] = p.NextHeader
		to[2] += p.COffset
		binary.BigEndian.PutUint64(to[8:], tsc)
		for at := wire.PSPBase; at < s.n; at += wire.PSPUnit {
			*(*[wire.PSPUnit]byte)(unsafe.Add(j.AAD, at)) = [wire.PSPUnit]byte(from[at:])
		}
		wire.Nonce(&j.Nonce, s.spi, tsc)
		p.ID, p.TSC = uint64(s.spi), tsc
		tsc += step
	}
}

// Messages: all packets have one KDF input.
func (s *pspSealing) Messages(h *Header, to unsafe.Pointer, room int, jobs []kernel.Job, pkts []Desc) {
	for range jobs {
		*(*[16]byte)(to) = [16]byte(h.msg[:])
		to = unsafe.Add(to, room)
	}
}

func (s *pspSealing) Fit(h *Header, l *Lane) status.Code {
	p := l.Pkt
	gmac := s.version >= wire.PSPGMAC
	if p.IOffset != 0 || uint32(p.COffset)*4 > s.covered+l.Len || p.COffset > wire.PSPMaxOffset-s.b[2] || gmac && p.COffset != 0 {
		return status.ErrOffset
	}
	if p.Flags != 0 {
		return status.ErrArgument
	}
	l.Prefix, l.Pad, l.Skip = 0, 0, 0
	l.Inner, l.Clear = pspText(s.version, uint32(p.COffset)*4, s.covered, l.Len)
	return status.OK
}

// pspText returns how many octets of the extension are encrypted (inner), and how many
// of a payload of n octets are in clear. The crypt offset, in octets, counts from the
// last covered octets of the extension on.
func pspText(version uint8, offset, covered, n uint32) (inner, clear uint32) {
	switch {
	case version >= wire.PSPGMAC:
		return 0, n
	case offset < covered:
		return covered - offset, 0
	}
	return 0, offset - covered
}

// pspOpening is the Opening of profile psp.
type pspOpening struct {
	bareOpening
	own        *OwnIDs
	replay     bool
	engineBits uint8
	held       bool
	version    uint8 // of the held key
	spi        uint32
}

// Prefix: there is none, but FlagExtension is allowed.
func (o *pspOpening) Prefix(p *Desc) (uint32, status.Code) {
	if p.Flags&^FlagExtension != 0 {
		return 0, status.ErrArgument
	}
	return 0, status.OK
}

// Parse uses the first group: headers do not tell groups apart.
func (o *pspOpening) Parse(l *Lane, j *kernel.Job, c *Context, n uint32, snaps []*keys.Snapshot) status.Code {
	var h wire.PSP
	if code := h.Parse(l.Head(n)); code != status.OK {
		return code
	}
	p := l.Pkt
	l.HdrLen = uint32(h.Len)
	if p.Flags&FlagExtension != 0 {
		l.HdrLen = wire.PSPBase
	}
	l.Len = n - l.HdrLen - kernel.TagSize
	l.Inner, l.Clear = pspText(h.Version, uint32(h.Offset)*4, l.HdrLen-wire.PSPBase, l.Len)
	l.Skip, l.Pad, l.Snapshot, l.Retry = 0, 0, nil, false
	l.KeyLen = uint8(pspKeyLen(h.Version))
	p.COffset = 0
	if h.Version < wire.PSPGMAC {
		p.COffset = uint8(l.Clear / 4)
	}
	p.ID, p.TSC, p.IOffset, p.NextHeader = uint64(h.SPI), h.IV, 0, h.NextHeader
	wire.Nonce(&j.Nonce, h.SPI, h.IV)
	var name [16]byte
	if o.held {
		if h.Version != o.version || h.SPI != o.spi {
			return status.ErrContext
		}
		c.KDF = KDF{}
	} else {
		if snaps[0].Versions>>h.Version&1 == 0 {
			return status.ErrVersion
		}
		slot := pspSlot(snaps[0], h.SPI)
		if wire.PSPReserved(h.SPI) || !slot.Present {
			return status.ErrNoKey
		}
		pspKey(&c.Msg, &c.KDF, slot, h.Version, h.SPI)
		name = slot.Name
	}
	if o.replay {
		o.flow(l, &name, h.Version)
	}
	return reflected(o.own.List(), uint64(h.SPI))
}

// flow sets Flow, Seq and Time of a packet whose Desc is complete.
func (o *pspOpening) flow(l *Lane, name *[16]byte, version uint8) {
	l.Flow = replay.Key{Master: *name, ID: l.Pkt.ID, Kind: uint16(version)}
	l.Seq, l.Flow.Engine = split(l.Pkt.TSC, o.engineBits)
	l.Time = l.Pkt.TSC
}

// Learn: the pattern is the first four octets and the device key.
func (o *pspOpening) Learn(s *Pattern, l *Lane, c *Context) {
	s.of = nil
	gmac := c.Msg[6] >= '0'+wire.PSPGMAC // l.Clear does not show it if the payload is empty
	if o.held || gmac || l.Inner|l.Clear != 0 {
		return
	}
	s.n, s.word, s.flags, s.prefix = l.HdrLen, *(*[4]byte)(l.Hdr), l.Pkt.Flags, 0
	s.msg, s.KDF, s.name, s.snap = c.Msg, c.KDF, l.Flow.Master, nil
	s.of = o
}

func (o *pspOpening) Match(s *Pattern, jobs []kernel.Job, lanes []Lane, pkts []Desc, msgs unsafe.Pointer, room int) (n int, sorted bool) {
	sorted = true
	last := uint32(0)
	for n < len(pkts) && n < len(jobs) {
		p, j := &pkts[n], &jobs[n]
		// With FlagExtension the pattern's header is the base, but a packet must hold the extension, too.
		if !s.job(p, j) || p.Len < wire.PSPBase+wire.PSPUnit*(uint32(s.word[wire.PSPLenAt])-1)+kernel.TagSize {
			break
		}
		b := *(*[wire.PSPBase]byte)(s.header(j))
		spi := uint64(binary.BigEndian.Uint32(b[4:]))
		if (b[4]^s.msg[8])>>7 != 0 || wire.PSPReserved(uint32(spi)) || reflected(o.own.List(), spi) != status.OK {
			break // the other device key, or the packet is refused
		}
		*(*[12]byte)(j.Nonce[:]) = [12]byte(b[4:])
		p.ID, p.TSC, p.COffset, p.IOffset, p.NextHeader = spi, binary.BigEndian.Uint64(b[8:]), 0, 0, b[0]
		*(*[16]byte)(msgs) = [16]byte(s.msg[:])
		*(*[4]byte)(unsafe.Add(msgs, 8)) = [4]byte(b[4:])
		if o.replay {
			lanes[n].Pkt = p
			o.flow(&lanes[n], &s.name, s.word[3]>>2&0xF)
		}
		msgs = unsafe.Add(msgs, room)
		sorted = sorted && j.Len >= last
		last = j.Len
		n++
	}
	return n, sorted
}
