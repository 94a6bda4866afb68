package profile

import (
	"encoding/binary"
	"slices"
	"unsafe"

	"libeesp/internal/kernel"
	"libeesp/internal/keys"
	"libeesp/internal/plan"
	"libeesp/internal/secmem"
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
	to.Usage = counts(to, h.Usage)
	return true
}

// planOpen: packets of domains with a latch, or with octets in clear, take the general
// path.
func (o *tssOpening) planOpen(_ *kernel.Backend, snaps []*keys.Snapshot, area uintptr) *plan.Open {
	to := plan.NewOpen(^uint32(0))
	to.Split, to.Own = splitPlan(o.engineBits, 1<<48-1), o.own.List()
	to.Screens(wire.TSSMinHeader+kernel.TagSize, 0, wire.TSSFirst)
	to.Prefix = [4]uint8{0: wire.TSSPrefix4, FlagIPv6: wire.TSSPrefix6, 2: plan.None, 3: plan.None}
	if k := o.held; k != nil {
		if k.v != TSSSSI { // packets must have the key's address in their prefix, which plans do not compare
			return nil
		}
		p := &plan.Pattern{KeyLen: tssKeyLen, Kind: uint16(k.an)<<8 | uint16(k.v), Area: area}
		copy(p.Nonce[:], k.mask[:])
		n := wire.TSSTemplate((*[wire.TSSMaxHeader]byte)(p.Value[:]), true, k.an, k.sdi, k.ssi)
		if tssClear(o.sa, uint32(n)) != 0 {
			return nil
		}
		binary.BigEndian.PutUint16(p.Value[n-8:], k.epoch)
		s := tssLayout(n)
		for i := 4; i < 8; i++ {
			s.Mask[i] = 0xff
		}
		s.IDMask = ^uint64(0)
		if o.client && !o.sa.TSS.NoDirection {
			p.Value[n-6], s.Mask[n-6] = tssToClient>>40, tssToClient>>40
			to.Split.Mask &^= tssToClient
		}
		s.Word = binary.NativeEndian.Uint32(p.Value[:])
		if i, ok := to.AddLayout(s); ok {
			to.Add(i, p)
		}
		return to
	}
	to.NameMask = binary.NativeEndian.Uint32([]byte{1, 0xff, 0xff, 0xff}) // AN, SDI
	seen := map[uint32]bool{}
	for _, snap := range snaps {
		to.AddDomain(snap.Domain, snap.State.Tally())
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
			if !slot.Present || slot.Raw != nil || snap.TSS.AuthFailures != 0 {
				continue
			}
			for v := uint8(TSSAddr); v <= TSSSSI6; v++ {
				o.planKey(to, snap, slot, uint8(an), v)
			}
		}
	}
	return to
}

func (o *tssOpening) planKey(to *plan.Open, snap *keys.Snapshot, slot *keys.Slot, an, v uint8) {
	sp, six := tssHasSSI(v), tssIs6(v)
	server := snap.Mode == keys.TSSServer
	k := tssKDF(slot, six)
	p := &plan.Pattern{KeyLen: k.KeyLen, Mask: k.Mask, Kind: uint16(an)<<8 | uint16(v), Name: *(*[2]uint64)(unsafe.Pointer(&slot.Name)), Usage: counts(to, slot.Usage)}
	n := wire.TSSTemplate((*[wire.TSSMaxHeader]byte)(p.Value[:]), sp, an, snap.Domain, 0)
	if tssClear(snap.Params, uint32(n)) != 0 || !sp && slices.Contains(o.own.List(), 0) {
		return
	}
	p.Epoch, p.Age = slot.Epoch, snap.TSS.EpochAge
	p.Master, p.Sub = k.addresses()
	var none [16]byte
	var msg [MaxBlocks * 16]byte
	tssMsg(unsafe.Pointer(&msg), server, six, 0, 0, unsafe.Pointer(&none))
	p.KDF(&msg, k.Blocks, k.Counter)
	p.Tally = snap.State.Tally()
	s := tssLayout(n)
	s.RekeyMask, s.RekeyBits, s.RekeyAt = snap.RekeyMask, snap.RekeyShift, 6
	s.Ages, s.Mask[n-8], s.Mask[n-7] = 1, 0, 0 // the epoch is not compared, but may be too old
	if sp {
		s.IDMask = ^uint64(0)
	}
	if six {
		s.Flags, s.Prefix = FlagIPv6, wire.TSSPrefix6
		s.MsgSource, s.MsgTail = plan.NoPick, plan.NoPick.Copy(8, 8, 2)
		s.Copies, s.Copy[0] = 1, plan.Copy{From: -wire.TSSPrefix6, To: 14}
		s.RekeyAt = 10
		s.FlowAt, s.FlowLen = -wire.TSSPrefix6, 16
		if !sp {
			s.NonceSource = plan.NoPick
			binary.BigEndian.PutUint32(p.Nonce[:], snap.Domain)
		}
	} else if !sp {
		s.SourceAt = -wire.TSSPrefix4
		s.MsgSource, s.NonceSource = plan.NoPick.Copy(10, 0, 4), plan.NoPick.Copy(0, 0, 4)
		s.FlowAt, s.FlowLen = -wire.TSSPrefix4, 4
	}
	if server && !snap.TSS.NoDirection {
		s.Mask[n-6] = 0x80 // no packets to clients
	}
	s.Word = binary.NativeEndian.Uint32(p.Value[:])
	if i, ok := to.AddLayout(s); ok {
		to.Add(i, p)
	}
}

// tssLayout is the layout of headers of n octets over IPv4 with a known epoch.
func tssLayout(n int) *plan.Layout {
	s := &plan.Layout{
		N: uint16(n), Prefix: wire.TSSPrefix4, NextAt: plan.None, IDAt: 4, IDShift: 32, IDNever: 1, ProbeAt: 0,
		TSCAt: int16(n - 8), TailAt: int16(n - 16), TSCNever: ^uint64(0), EpochMask: 1<<16 - 1,
		SourceAt: 0, MsgSource: plan.NoPick.Copy(10, 4, 4), MsgTail: plan.NoPick.Copy(4, 8, 2),
		NonceSource: plan.NoPick.Copy(0, 4, 4), NonceMore: plan.NoPick, NonceTail: plan.NoPick.Copy(4, 8, 8),
	}
	for i := range 4 {
		s.Mask[i] = 0xff
	}
	s.Mask[n-8], s.Mask[n-7] = 0xff, 0xff
	return s
}
