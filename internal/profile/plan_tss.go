package profile

import (
	"encoding/binary"
	"slices"
	"unsafe"

	"libeesp/internal/kernel"
	"libeesp/internal/keys"
	"libeesp/internal/plan"
	"libeesp/internal/secmem"
	"libeesp/internal/status"
	"libeesp/internal/wire"
)

// planSeal: a key that all packets have is derived here. Direct mode, and packets
// with octets in clear, take the general path.
func (s *tssSealing) planSeal(be *kernel.Backend, snap *keys.Snapshot, area uintptr, to *plan.Seal) bool {
	var h Header
	if s.Begin(&h, snap) != 0 || h.Raw != nil || tssClear(s.Params, uint32(h.n)) != 0 || s.held != nil && !h.Simple {
		return false
	}
	if !s.planFamily(be, &h, snap, to.Epoch, to) {
		return false
	}
	if h.Mixed {
		h.SwitchFamily()
		other := newSeal(area)
		if !s.planFamily(be, &h, snap, to.Epoch, other) {
			other.Free()
			return false
		}
		to.Others(other)
	}
	return true
}

// planFamily fills in the plan for packets over the IP family of h.
func (s *tssSealing) planFamily(be *kernel.Backend, h *Header, snap *keys.Snapshot, epoch uint16, to *plan.Seal) bool {
	six, server := h.Flags == FlagIPv6, s.Mode == keys.TSSServer
	to.ID, to.N, to.TSCAt, to.Prefix, to.Flags = h.id, uint16(h.n), uint16(h.n-8), uint16(h.Prefix), h.Flags
	to.Header, to.KeyLen = h.b, h.KeyLen
	if s.v == TSSAddr {
		to.FromPrefix = 1
	} else {
		binary.BigEndian.PutUint32(to.Nonce[:], h.salt)
	}
	if s.held != nil {
		s.held.add((*[12]byte)(to.Nonce[:]))
		return true
	}
	to.Keep(unsafe.Pointer(s.State))
	to.Tally = s.State.Tally()
	// The sender in the context: the SSI, or an address.
	who, at := unsafe.Pointer(&h.b[4]), plan.Copy{To: 10}
	var none [16]byte
	if s.v != TSSSSI || six {
		who = unsafe.Pointer(&none)
		to.Copies, at.From = 1, -int16(h.Prefix)
		switch {
		case six && server:
			at.From += 16
		case server:
			at.From += 4
		}
	}
	var msg [MaxBlocks * 16]byte
	tssMsg(unsafe.Pointer(&msg), server, six, uint64(epoch)<<48, 0, who)
	if h.Fixed {
		area, mask, err := expanded(be, &h.KDF, &msg)
		if err != nil {
			return false
		}
		to.Also(func() { secmem.Delete(area) })
		to.Area = uintptr(unsafe.Pointer(area))
		for i, x := range mask {
			to.Nonce[i] ^= x
		}
		snap.Slot[snap.Current].Kept.Derived(1)
		to.Usage = counts(to, snap.Slot[snap.Current].Kept)
		return true
	}
	to.RekeyMask, to.RekeyBits, to.RekeyAt, to.EpochAt = s.RekeyMask, s.RekeyShift, 6, 4
	if six {
		to.RekeyAt, to.EpochAt, at.To = 10, 8, 14
	} else if to.Copies != 0 {
		at.What = plan.CopyPacket4
	}
	to.Copy[0], to.Mask = at, h.Mask
	to.KDF(&msg, h.Blocks, h.KDF.Counter)
	to.Master, to.Sub = h.KDF.addresses()
	if d := be.Direct; d != nil && d.OneBlocks != 0 { // others do not use it where there is a mask
		remember(to)
	}
	to.Usage = counts(to, h.Usage)
	return true
}

// fewDomains is how many domains with two keys and packets of all forms a plan has layouts for.
const fewDomains = 16

// planOpen: the loose plan also has the packets of the wrong direction, of domains with a latch,
// with octets in clear, and of data keys with an address. With many domains, those that are alike
// have the same layouts.
func (o *tssOpening) planOpen(be *kernel.Backend, snaps []*keys.Snapshot, area uintptr) *plan.Open {
	word := ^uint32(0)
	if len(snaps) > fewDomains && !o.unlike {
		word = binary.NativeEndian.Uint32([]byte{0xff, 0, 0, 0})
	}
	to, loose := plan.NewOpen(word), plan.NewOpen(word)
	to.Loose = loose
	for _, p := range []*plan.Open{to, loose} {
		p.Split, p.Own = splitPlan(o.engineBits, 1<<48-1), o.own.List()
		if o.client && !o.sa.TSS.NoDirection {
			p.Split.Mask &^= tssToClient
		}
		p.Screens(wire.TSSMinHeader+kernel.TagSize, 0, wire.TSSFirst)
		p.Prefix = [4]uint8{0: wire.TSSPrefix4, FlagIPv6: wire.TSSPrefix6, 2: plan.None, 3: plan.None}
	}
	loose.Odd, loose.Missing = plan.OddDomain, int8(status.ErrContext)
	if k := o.held; k != nil {
		for v := uint8(TSSAddr); v <= TSSSSI6; v++ {
			o.planHeld(to, k, area, v)
		}
		return to
	}
	loose.Missing = int8(status.ErrNoKey)
	to.NameMask = binary.NativeEndian.Uint32([]byte{1, 0xff, 0xff, 0xff}) // AN, SDI
	seen := map[uint32]bool{}
	for _, snap := range snaps {
		d := plan.Domain{Number: snap.Domain, Reflected: keys.WrongSSI, Tally: snap.State.Tally()}
		if snap.Mode == keys.TSSServer { // the direction is wrong, not the SSI
			d.Reflected = keys.Invalid
		}
		to.AddDomain(d)
		loose.AddDomain(d)
		if snap.Ahead != nil {
			loose.Ahead = 1
		}
		for an := range snap.Slot {
			slot := &snap.Slot[an]
			name := snap.Domain<<1 | uint32(an)
			// The first group that has the key: see tssSlot. A name without a key is added if
			// the group follows an agent: tssSlot must see such packets (Ahead).
			if !slot.Present && snap.Ahead == nil || seen[name] {
				continue
			}
			seen[name] = slot.Present
			var word [4]byte
			binary.BigEndian.PutUint32(word[:], uint32(an)<<24|snap.Domain)
			to.AddName(binary.NativeEndian.Uint32(word[:]))
			if !slot.Present {
				continue
			}
			raw := uintptr(0)
			if slot.Raw != nil {
				if raw = expandedRaw(be, slot, to); raw == 0 {
					to.Free()
					return nil
				}
			}
			for v := uint8(TSSAddr); v <= TSSSSI6; v++ {
				o.planKey(to, snap, slot, uint8(an), v, raw)
			}
			if raw == 0 {
				keepKeys(be, to)
			}
		}
	}
	if (to.Unlike || loose.Unlike) && word != ^uint32(0) {
		o.unlike = true // for good: domains do not change
		to.Free()
		return o.planOpen(be, snaps, area)
	}
	return to
}

// expandedRaw expands a slot's own key for a plan; 0: there is no memory.
func expandedRaw(be *kernel.Backend, slot *keys.Slot, to *plan.Open) uintptr {
	scratch, err := secmem.New[[kernel.ScratchBytes]byte]()
	if err != nil {
		return 0
	}
	defer secmem.Delete(scratch)
	area, err := secmem.New[expandedKey]()
	if err != nil {
		return 0
	}
	to.Also(func() { secmem.Delete(area) })
	be.Expand(unsafe.Pointer(area), unsafe.Pointer(slot.Raw), 1, tssKeyLen, unsafe.Pointer(scratch))
	return uintptr(unsafe.Pointer(area))
}

// planHeld adds the packets of a form. All but those of the data key's form are refused.
func (o *tssOpening) planHeld(to *plan.Open, k *tssHeld, area uintptr, v uint8) {
	sp, six := tssHasSSI(v), tssIs6(v)
	p := &plan.Pattern{KeyLen: tssKeyLen, Kind: uint16(k.an)<<8 | uint16(v), Area: area}
	copy(p.Nonce[:], k.mask[:])
	n := wire.TSSTemplate((*[wire.TSSMaxHeader]byte)(p.Value[:]), sp, k.an, k.sdi, k.ssi)
	binary.BigEndian.PutUint16(p.Value[n-8:], k.epoch)
	s := tssForm(n, v, k.sdi, p)
	if sp {
		for i := 4; i < 8; i++ {
			s.Mask[i] = 0xff
		}
	}
	if v != TSSSSI {
		from := tssAddr(unsafe.Pointer(&k.addr), six, false)
		s.WhoAt, s.WhoLen = -wire.TSSPrefix4, 4
		if six {
			s.WhoAt, s.WhoLen = -wire.TSSPrefix6, 16
		} else {
			from = unsafe.Pointer(&k.addr[12])
		}
		copy(p.Addr[:s.WhoLen], unsafe.Slice((*byte)(from), s.WhoLen))
		if o.client { // the destination
			s.WhoAt += int8(s.WhoLen)
		}
	}
	directed := o.client && !o.sa.TSS.NoDirection
	if directed {
		s.DirectionMask, s.Direction = tssToClient>>40, tssToClient>>40
	}
	if v == TSSSSI && k.v == v && tssClear(o.sa, uint32(n)) == 0 {
		main := *s
		if directed {
			p.Value[n-6], main.Mask[n-6] = tssToClient>>40, tssToClient>>40
		}
		addTo(to, &main, p)
	}
	s.Begin = o.sa.TSS.CryptOffset
	s.Missing = int8(status.ErrContext)
	if k.v != v {
		to.Loose.AddLayout(s)
		return
	}
	addTo(to.Loose, s, p)
}

// addTo adds a layout and a pattern of it.
func addTo(to *plan.Open, s *plan.Layout, p *plan.Pattern) {
	s.Word &= to.WordMask
	if i, ok := to.AddLayout(s); ok {
		to.Add(i, p)
	}
}

// planKey adds the packets of a form with a key of a group. raw is the expanded key in direct mode.
func (o *tssOpening) planKey(to *plan.Open, snap *keys.Snapshot, slot *keys.Slot, an, v uint8, raw uintptr) {
	sp, six := tssHasSSI(v), tssIs6(v)
	server := snap.Mode == keys.TSSServer
	k := tssKDF(slot, six)
	p := &plan.Pattern{KeyLen: k.KeyLen, Mask: k.Mask, Kind: uint16(an)<<8 | uint16(v), Name: *(*[2]uint64)(unsafe.Pointer(&slot.Name)), Usage: counts(to, slot.Usage)}
	n := wire.TSSTemplate((*[wire.TSSMaxHeader]byte)(p.Value[:]), sp, an, snap.Domain, 0)
	p.Epoch, p.Age = slot.Epoch, snap.TSS.EpochAge
	p.Tally = snap.State.Tally()
	s := tssForm(n, v, snap.Domain, p)
	s.Ages, s.Mask[n-8], s.Mask[n-7] = 1, 0, 0 // the epoch is not compared, but may be too old
	if p.Area = raw; raw == 0 {
		var none [16]byte
		var msg [MaxBlocks * 16]byte
		p.Master, p.Sub = k.addresses()
		tssMsg(unsafe.Pointer(&msg), server, six, 0, 0, unsafe.Pointer(&none))
		p.KDF(&msg, k.Blocks, k.Counter)
		s.RekeyMask, s.RekeyBits, s.RekeyAt = snap.RekeyMask, snap.RekeyShift, 6
		if six {
			s.MsgSource, s.MsgTail = plan.NoPick, plan.NoPick.Copy(8, 8, 2)
			s.Copies, s.Copy[0] = 1, plan.Copy{From: -wire.TSSPrefix6, To: 14}
			s.RekeyAt = 10
		} else if !sp {
			s.MsgSource = plan.NoPick.Copy(10, 0, 4)
		}
	}
	unusable := slot.Raw != nil && v == TSSAddr6
	directed := server && !snap.TSS.NoDirection
	if directed {
		s.DirectionMask = tssToClient >> 40
	}
	own := !sp && slices.Contains(o.own.List(), 0) // main plans would take the SSI for 0
	if tssClear(snap.Params, uint32(n)) == 0 && snap.TSS.AuthFailures == 0 && !unusable && !own {
		main := *s
		if directed {
			main.Mask[n-6] = tssToClient >> 40 // no packets to clients
		}
		addTo(to, &main, p)
	}
	if unusable {
		s.Unusable = int8(status.ErrUnsupported)
	}
	s.Begin, p.Latch = snap.TSS.CryptOffset, snap.State.Latch()
	addTo(to.Loose, s, p)
}

// tssForm is the layout of headers of n octets with this V. It writes what the form decides into
// the pattern.
func tssForm(n int, v uint8, sdi uint32, p *plan.Pattern) *plan.Layout {
	s := tssLayout(n)
	sp := tssHasSSI(v)
	if sp {
		s.IDMask = ^uint64(0)
	}
	switch {
	case tssIs6(v):
		s.Flags, s.Prefix = FlagIPv6, wire.TSSPrefix6
		s.FlowAt, s.FlowLen, s.Keeps = -wire.TSSPrefix6, 16, plan.KeepsCounted
		if !sp {
			s.NonceSource = plan.NoPick
			for i, b := range binary.BigEndian.AppendUint32(nil, sdi) {
				p.Nonce[i] ^= b
			}
		}
	case !sp:
		s.SourceAt = -wire.TSSPrefix4
		s.NonceSource = plan.NoPick.Copy(0, 0, 4)
		s.FlowAt, s.FlowLen, s.Keeps = -wire.TSSPrefix4, 4, plan.KeepsCounted
	}
	s.Word = binary.NativeEndian.Uint32(p.Value[:])
	return s
}

// tssLayout is the layout of headers of n octets over IPv4 with a known epoch.
func tssLayout(n int) *plan.Layout {
	s := &plan.Layout{
		N: uint16(n), Prefix: wire.TSSPrefix4, NextAt: plan.None, IDAt: 4, IDShift: 32, IDNever: 1, ProbeAt: 0,
		TSCAt: int16(n - 8), TailAt: int16(n - 16), TSCNever: ^uint64(0), EpochMask: 1<<16 - 1,
		SourceAt: 0, MsgSource: plan.NoPick.Copy(10, 4, 4), MsgTail: plan.NoPick.Copy(4, 8, 2),
		NonceSource: plan.NoPick.Copy(0, 4, 4), NonceMore: plan.NoPick, NonceTail: plan.NoPick.Copy(4, 8, 8),
		ProbeMask: uint64(binary.NativeEndian.Uint32([]byte{0xff, 0xff, 0xff, 0xff})),
	}
	for i := range 4 {
		s.Mask[i] = 0xff
	}
	s.Mask[n-8], s.Mask[n-7] = 0xff, 0xff
	return s
}
