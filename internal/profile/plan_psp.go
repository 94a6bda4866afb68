package profile

import (
	"encoding/binary"
	"unsafe"

	"libeesp/internal/kernel"
	"libeesp/internal/keys"
	"libeesp/internal/plan"
	"libeesp/internal/status"
	"libeesp/internal/wire"
)

func (s *pspSealing) planSeal(_ *kernel.Backend, snap *keys.Snapshot, area uintptr, to *plan.Seal) bool {
	var h Header
	if s.Begin(&h, snap) != 0 || !h.Simple {
		return false
	}
	to.ID, to.N, to.TSCAt, to.NextAt = uint64(s.spi), uint16(s.n), 8, 0
	to.Header, to.KeyLen, to.Fixed = h.b, h.KeyLen, 1
	binary.BigEndian.PutUint32(to.Nonce[:], s.spi)
	to.KDF(&h.msg, h.Blocks, h.KDF.Counter)
	to.Master, to.Sub = h.KDF.addresses()
	to.Usage = counts(to, h.Usage)
	return true
}

// pspExtensions is the most units of extension that the plan covers; the loose plan
// covers all.
const pspExtensions = 2

// planOpen: of the first octets, Next Header, S, D and reserved bits may be anything.
func (o *pspOpening) planOpen(_ *kernel.Backend, snaps []*keys.Snapshot, area uintptr) *plan.Open {
	to := plan.NewOpen(binary.NativeEndian.Uint32([]byte{0, 0xff, wire.PSPMaxOffset, 0x3f}))
	to.Split, to.Own = splitPlan(o.engineBits, ^uint64(0)), o.own.List()
	to.Screens(wire.PSPBase+kernel.TagSize, wire.PSPVersionAt, wire.PSPVersion)
	to.Prefix[FlagExtension] = 0
	to.Second[0] = int8(status.ErrHeaderLen)
	for b := range to.More[1:] {
		to.More[1+b] = uint8(b * wire.PSPUnit / 8)
	}
	loose := plan.NewOpen(binary.NativeEndian.Uint32([]byte{0, 0, 0, wire.PSPVersionBits}))
	loose.Split, loose.Own, loose.Odd, loose.Prefix = to.Split, to.Own, plan.OddExtension, to.Prefix
	to.Loose = loose
	for version := range uint8(wire.PSPVersions) {
		missing := status.ErrNoKey
		if o.held {
			missing = status.ErrContext
		} else if snaps[0].Versions>>version&1 == 0 {
			missing = status.ErrVersion
		}
		for vc := range 2 {
			var p plan.Pattern
			n := wire.PSPTemplate(&p.Value, version, 0, vc != 0, nil)
			loose.AddLayout(o.looseLayout(&p, n, version, uint8(1+vc), missing))
		}
		if o.held && version != o.version || missing == status.ErrVersion {
			continue
		}
		for slot := range uint32(2) {
			key := plan.Pattern{Kind: uint16(version), KeyLen: uint8(pspKeyLen(version)), Area: area}
			spi := slot << 31
			if o.held {
				if spi = o.spi; slot != 0 {
					continue
				}
			} else {
				k := &snaps[0].Slot[slot]
				if !k.Present {
					continue
				}
				var c Context
				pspKey(&c.Msg, &c.KDF, k, version, 0)
				key.KDF(&c.Msg, c.Blocks, c.KDF.Counter)
				key.Master, key.Sub = c.KDF.addresses()
				key.Usage = counts(to, k.Usage)
				key.Name = *(*[2]uint64)(unsafe.Pointer(&k.Name))
			}
			for vc := range 2 {
				p := key
				n := wire.PSPTemplate(&p.Value, version, spi, vc != 0, nil)
				if i, ok := loose.AddLayout(o.looseLayout(&p, n, version, uint8(1+vc), missing)); ok {
					loose.Add(i, &p)
				}
			}
			if version >= wire.PSPGMAC {
				continue
			}
			for ext := range pspExtensions + 1 {
				for vc := range min(ext, 1) + 1 {
					p := key
					n := wire.PSPTemplate(&p.Value, version, spi, vc != 0, make([]byte, ext*wire.PSPUnit))
					p.Value[2] = uint8(ext * wire.PSPUnit / 4) // nothing of the payload is in clear
					if i, ok := to.AddLayout(o.layout(&p, n)); ok {
						to.Add(i, &p)
					}
				}
			}
		}
	}
	return to
}

// looseLayout is the layout of headers with any extension and crypt offset.
func (o *pspOpening) looseLayout(p *plan.Pattern, n int, version, least uint8, missing status.Code) *plan.Layout {
	s := o.layout(p, n)
	s.Mask[1], s.Mask[2], s.Mask[3] = 0, 0, wire.PSPVersionBits
	s.LeastMore, s.Missing = least, int8(missing)
	s.Word = binary.NativeEndian.Uint32(p.Value[:]) & binary.NativeEndian.Uint32(s.Mask[:])
	s.MoreAt, s.ClearAt, s.ClearMask = wire.PSPLenAt, 2, wire.PSPMaxOffset
	if version >= wire.PSPGMAC {
		s.AllClear = 1
	}
	return s
}

// layout is the layout of a pattern's headers, of n octets.
func (o *pspOpening) layout(p *plan.Pattern, n int) *plan.Layout {
	s := &plan.Layout{
		N: uint16(n), NextAt: 0, IDAt: 4, IDShift: 32, IDMask: ^uint64(0), TSCAt: 8, TailAt: 0, TSCNever: ^uint64(0), ProbeAt: 0,
		IDNeed: 1<<31 - 1, IDNever: 0,
		MsgSource: plan.NoPick.Copy(8, 4, 4), MsgTail: plan.NoPick,
		NonceSource: plan.NoPick.Copy(0, 4, 12), NonceMore: plan.NoPick, NonceTail: plan.NoPick,
		Keeps: plan.KeepsAlways, // next header, header length and crypt offset are only in the header
	}
	copy(s.Mask[:], []byte{0, 0xff, wire.PSPMaxOffset, 0x3f, 0x80})
	if o.held {
		copy(s.Mask[4:], []byte{0xff, 0xff, 0xff, 0xff})
	}
	s.ProbeMask = binary.NativeEndian.Uint64([]byte{0, 0, 0, 0, 0x80, 0, 0, 0})
	s.Word = binary.NativeEndian.Uint32(p.Value[:]) & binary.NativeEndian.Uint32(s.Mask[:])
	return s
}
