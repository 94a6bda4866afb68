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

// planSeal is for PlanSeal.
func (s *pspSealing) planSeal(_ *kernel.Backend, snap *keys.Snapshot, area uintptr, to *plan.Seal) bool {
	var h Header
	if s.Begin(&h, snap) != 0 || !h.Plain {
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

// pspExtensions is how many units of extension a plan covers at most.
const pspExtensions = 2

// planOpen is for PlanOpen. Of the first octets, what follows, the bits that are
// reserved, and S and D may be anything.
func (o *pspOpening) planOpen(_ *kernel.Backend, snaps []*keys.Snapshot, area uintptr) *plan.Open {
	to := plan.NewOpen(binary.NativeEndian.Uint32([]byte{0, 0xff, wire.PSPMaxOffset, 0x3f}))
	to.Split, to.Own = splitPlan(o.engineBits, ^uint64(0)), o.own.List()
	to.Screens(wire.PSPBase+kernel.TagSize, wire.PSPVersionAt, wire.PSPVersion)
	to.Lead[FlagExtension] = 0
	to.Second[0] = int8(status.ErrHeaderLen)
	for b := range to.More[1:] {
		to.More[1+b] = uint8(b * wire.PSPUnit / 8)
	}
	for version := range uint8(wire.PSPGMAC) {
		if o.held && version != o.version || !o.held && snaps[0].Versions>>version&1 == 0 {
			continue
		}
		for ext := range pspExtensions + 1 {
			for vc := range min(ext, 1) + 1 {
				for slot := range uint32(2) {
					p := &plan.Pattern{Kind: uint16(version), KeyLen: uint8(pspKeyLen(version)), Area: area}
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
						p.KDF(&c.Msg, c.Blocks, c.KDF.Counter)
						p.Master, p.Sub = c.KDF.addresses()
						p.Usage = counts(to, k.Usage)
						p.Name = *(*[2]uint64)(unsafe.Pointer(&k.Name))
					}
					n := wire.PSPTemplate(&p.Value, version, spi, vc != 0, make([]byte, ext*wire.PSPUnit))
					p.Value[2] = uint8(ext * wire.PSPUnit / 4) // nothing of the payload is in clear
					if i, ok := to.AddShape(o.shape(p, n)); ok {
						to.Add(i, p)
					}
				}
			}
		}
	}
	return to
}

// shape is the form of headers that begin as a pattern does.
func (o *pspOpening) shape(p *plan.Pattern, n int) *plan.Shape {
	s := &plan.Shape{
		N: uint16(n), NextAt: 0, IDAt: 4, IDShift: 32, IDMask: ^uint64(0), TSCAt: 8, TailAt: 0, TSCNever: ^uint64(0), ProbeAt: 0,
		IDNeed: 1<<31 - 1, IDNever: 0,
		MsgSource: plan.NoPick.Copy(8, 4, 4), MsgTail: plan.NoPick,
		NonceSource: plan.NoPick.Copy(0, 4, 12), NonceMore: plan.NoPick, NonceTail: plan.NoPick,
	}
	copy(s.Mask[:], []byte{0, 0xff, wire.PSPMaxOffset, 0x3f, 0x80})
	if o.held {
		copy(s.Mask[4:], []byte{0xff, 0xff, 0xff, 0xff})
	}
	s.ProbeMask = binary.NativeEndian.Uint64([]byte{0, 0, 0, 0, 0x80, 0, 0, 0})
	s.Word = binary.NativeEndian.Uint32(p.Value[:]) & binary.NativeEndian.Uint32(s.Mask[:])
	return s
}
