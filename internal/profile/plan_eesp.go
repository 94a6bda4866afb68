package profile

import (
	"encoding/binary"
	"unsafe"

	"libeesp/internal/generic"
	"libeesp/internal/hkdf"
	"libeesp/internal/kernel"
	"libeesp/internal/keys"
	"libeesp/internal/plan"
	"libeesp/internal/secmem"
	"libeesp/internal/status"
	"libeesp/internal/wire"
)

// eespUnwrap is the form of an SA's bodies.
func eespUnwrap(s *wire.EESPFormat) plan.Unwrap {
	switch {
	case !s.Full:
		return plan.Only
	case s.Tunnel:
		return plan.InfoIP
	}
	return plan.Info
}

// eespDerive writes the key of a Sub SA and its salt to out, which is in locked
// memory.
func eespDerive(k *KDF, session uint16, out []byte) error {
	switch {
	case k.Raw != nil:
		copy(out, k.Raw[:len(out)])
	case k.Root != nil:
		x, err := hkdf.NewScratch()
		if err != nil {
			return err
		}
		defer x.Free()
		var info [2]byte
		binary.BigEndian.PutUint16(info[:], session)
		k.Root.Expand(out, info[:], x)
	default:
		s, err := secmem.New[struct {
			scratch [kernel.ScratchBytes]byte
			out     [MaxPer * 16]byte
		}]()
		if err != nil {
			return err
		}
		defer secmem.Delete(s)
		var msg [MaxBlocks * 16]byte
		eespMsg(&msg, k, session)
		for i := range k.Per() {
			msg[k.Counter] = byte(i + 1)
			generic.Backend.Derive(unsafe.Pointer(&s.out[16*i]), unsafe.Pointer(&msg), 1, 1, k.Master, k.Sub(), unsafe.Pointer(&s.scratch))
		}
		copy(out, s.out[:])
	}
	return nil
}

// planSeal: the sender's key is one of those that keys.Subs keeps.
func (s *eespSealing) planSeal(be *kernel.Backend, snap *keys.Snapshot, area uintptr, to *plan.Seal) bool {
	var h Header
	if s.Begin(&h, snap) != 0 || !s.format.Seq { // without sequence number, the counter is the IV: the general path
		return false
	}
	to.ID, to.N, to.TSCAt, to.Fixed = uint64(s.session), uint16(s.n), uint16(s.at), 1
	to.Header, to.KeyLen = s.b, h.KeyLen
	to.Inner, to.PadMask, to.Wrap = uint8(h.Inner), 3, eespUnwrap(&s.format)
	if s.format.IV {
		to.AgainAt = uint8(s.at + 8)
	}
	if h.Inner != 0 {
		to.NextAt, to.PadAt = uint8(s.n-2), uint8(s.n-1)
	}
	if s.held != nil {
		binary.BigEndian.PutUint32(to.Nonce[:], h.salt)
		return true
	}
	subs := snap.Slot[0].Subs
	_, base, ok := subs.View(be, int(snap.EESP.SubSAs))
	if !ok {
		return false
	}
	place := subs.Find(be, int(s.session), int(h.KeyLen), func(out []byte) error { return eespDerive(&h.KDF, s.session, out) })
	if place == 0 {
		return false
	}
	h.Usage.DerivedOnce(int(s.session))
	to.Area, to.Salt, to.Key = keys.SubKey(base, place)
	to.Master, to.Sub = 0, 0
	to.Usage = counts(to, h.Usage)
	return true
}

// planOpen: the plan covers packets with the options that senders of this library
// write.
func (o *eespOpening) planOpen(be *kernel.Backend, snaps []*keys.Snapshot, area uintptr) *plan.Open {
	to := plan.NewOpen(binary.NativeEndian.Uint32([]byte{0xff, 0xff, 0, 0}))
	to.Split, to.Own = plan.Split{Mask: ^uint64(0)}, o.own.List()
	to.Loose = plan.NewOpen(0)
	to.Loose.Split, to.Loose.Own, to.Loose.Odd = to.Split, to.Own, plan.OddOptions
	if o.sa != nil {
		to.Loose.Missing = int8(status.ErrContext)
	}
	to.Screens(wire.EESPBase+8+kernel.TagSize, 0, wire.EESPFirst)
	to.Loose.Prefix = to.Prefix
	if o.sa != nil {
		p := &plan.Pattern{Area: area}
		binary.BigEndian.PutUint32(p.Nonce[:], o.salt)
		o.planSA(to, o.sa, p, o.session)
		return to
	}
	to.NameAt, to.NameMask = wire.EESPSPIAt, ^uint32(0)
	seen := map[uint32]bool{}
	for _, snap := range snaps {
		slot := &snap.Slot[0]
		if !slot.Present || seen[snap.Domain] {
			continue
		}
		seen[snap.Domain] = true
		var spi [4]byte
		binary.BigEndian.PutUint32(spi[:], snap.Domain)
		to.AddName(binary.NativeEndian.Uint32(spi[:]))
		at, base, ok := slot.Subs.View(be, int(snap.EESP.SubSAs))
		if !ok {
			continue
		}
		if slot.Raw != nil { // the SA's only key: it need not wait for a packet
			k, _ := eespKDF(snap)
			if slot.Subs.Find(be, 0, int(k.KeyLen), func(out []byte) error { return eespDerive(&k, 0, out) }) == 0 {
				continue
			}
		}
		p := &plan.Pattern{Area: base, Subs: at, SubCount: uint64(snap.EESP.SubSAs), Name: *(*[2]uint64)(unsafe.Pointer(&slot.Name)), Usage: counts(to, slot.Usage)}
		o.planSA(to, snap.Params, p, 0)
	}
	return to
}

// keeps: the nonce may not have the sequence number, and that of a data key not the Session ID.
func (o *eespOpening) keeps(e *wire.EESPFormat) plan.Keeps {
	if o.sa != nil || e.Seq && e.IV {
		return plan.KeepsAlways
	}
	return plan.KeepsNever
}

func (o *eespOpening) planSA(to *plan.Open, sa *keys.Params, p *plan.Pattern, session uint16) {
	e := &sa.EESP
	p.KeyLen = uint8(sa.KeyLen)
	o.looseSA(to.Loose, sa, p, session)
	for _, align := range []int{4, 8} {
		var b [wire.EESPMaxHeader]byte
		at, code := wire.EESPTemplate(&b, e, session, sa.Domain, nil, align)
		n := at + e.PeerLen()
		if code != 0 || n > plan.MaxHeader {
			continue
		}
		copy(p.Value[:], b[:])
		s := &plan.Layout{
			N: uint16(n), NextAt: plan.None, IDAt: 2, IDShift: 48, IDMask: ^uint64(0), IDNever: 1, ProbeAt: 0,
			TSCAt: int16(at), TailAt: int16(n - 16), TSCNever: ^uint64(0), Inner: uint8(e.InfoLen()), Unwrap: eespUnwrap(e),
			MsgSource: plan.NoPick, MsgTail: plan.NoPick,
			NonceSource: plan.NoPick, NonceMore: plan.NoPick, NonceTail: plan.NoPick.Copy(4, 8, 8),
			Keeps: o.keeps(e),
		}
		if e.Seq {
			s.TSCNever = 0
		}
		for i := range at {
			if i < wire.EESPSession || i >= wire.EESPSession+2 || o.sa != nil {
				s.Mask[i] = 0xff
			}
		}
		// AddLayout refuses an SA with the same headers and another form of bodies.
		s.Word = binary.NativeEndian.Uint32(p.Value[:]) & binary.NativeEndian.Uint32([]byte{0xff, 0xff, 0, 0})
		s.ProbeMask = binary.NativeEndian.Uint64([]byte{0xff, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff})
		if i, ok := to.AddLayout(s); ok {
			q := *p
			to.Add(i, &q)
		}
	}
}

// looseSA adds packets of an SA with whatever options: headers are compared by SPI.
func (o *eespOpening) looseSA(to *plan.Open, sa *keys.Params, p *plan.Pattern, session uint16) {
	e := &sa.EESP
	n := wire.EESPBase + e.PeerLen()
	s := &plan.Layout{
		N: uint16(n), NextAt: plan.None, IDAt: wire.EESPSession, IDShift: 48, IDMask: ^uint64(0), IDNever: 1, Moves: 1,
		TSCAt: wire.EESPBase, TailAt: int16(n - 16), TSCNever: ^uint64(0), Inner: uint8(e.InfoLen()), Unwrap: eespUnwrap(e),
		MsgSource: plan.NoPick, MsgTail: plan.NoPick,
		NonceSource: plan.NoPick, NonceMore: plan.NoPick, NonceTail: plan.NoPick.Copy(4, 8, 8),
	}
	if e.Seq {
		s.TSCNever = 0
	}
	// No two layouts begin alike, or all do: this one is found by its number.
	s.Word = uint32(n)<<8 | uint32(s.Inner)<<4 | uint32(s.Unwrap)<<1
	if e.Seq {
		s.Word |= 1
	}
	copy(s.Mask[wire.EESPSPIAt:], []byte{0xff, 0xff, 0xff, 0xff})
	s.ProbeMask = binary.NativeEndian.Uint64([]byte{0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff})
	q := *p
	binary.BigEndian.PutUint32(q.Value[wire.EESPSPIAt:], sa.Domain)
	if q.MostClear = e.MaxCOffset; e.Flow {
		q.Flow = 1
	}
	if o.sa != nil { // whose key is of one Session ID
		q.SubCount = uint64(session) + 1
	}
	if i, ok := to.AddLayout(s); ok {
		to.Add(i, &q)
	}
}
