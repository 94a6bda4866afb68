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

func (s *statelessSealing) planSeal(_ *kernel.Backend, snap *keys.Snapshot, area uintptr, to *plan.Seal) bool {
	var h Header
	if s.Begin(&h, snap) != 0 {
		return false
	}
	to.ID, to.N, to.TSCAt = s.id, uint16(h.n), uint16(h.n-8)
	to.Header, to.KeyLen = h.b, h.KeyLen
	binary.BigEndian.PutUint32(to.Nonce[:], h.salt)
	if s.held != nil {
		return true
	}
	to.Master, to.Sub = h.KDF.addresses()
	to.Usage = counts(to, h.Usage)
	to.EpochAt = 12
	to.KDF(&h.msg, h.Blocks, h.KDF.Counter)
	to.Fixed = 1
	to.Copies, to.Copy = statelessCopies(s.v)
	if to.Copies != 0 {
		to.Fixed = 0
		remember(to)
	}
	return true
}

// statelessCopies copies the addresses that V asks for to a KDF input.
func statelessCopies(v uint8) (n uint8, c [2]plan.Copy) {
	return v & wire.VAddrMask, [2]plan.Copy{{From: 0, What: plan.CopyDesc, To: 14}, {From: 16, What: plan.CopyDesc, To: 30}}
}

// statelessLayout is the layout of headers of n octets with this V.
func statelessLayout(v uint8, n int) *plan.Layout {
	at := 4 + wire.IDLen(v)
	s := &plan.Layout{
		N: uint16(n), NextAt: plan.None, IDAt: 4, IDMask: ^uint64(0), IDNever: 1, TSCAt: int16(n - 8), TailAt: int16(n - 16), TSCNever: ^uint64(0), SourceAt: 0,
		ProbeAt: int16(at), EpochMask: 1<<16 - 1, FlowDesc: 1, FlowLen: 16 * (v & wire.VAddrMask),
		MsgSource: plan.NoPick.Copy(8, 4, 4), MsgTail: plan.NoPick.Copy(12, 8, 2),
		NonceSource: plan.NoPick.Copy(0, 4, 4), NonceMore: plan.NoPick, NonceTail: plan.NoPick.Copy(4, 8, 8),
	}
	if v&wire.VLongID != 0 {
		s.MsgSource = plan.NoPick.Copy(4, 4, 8)
		s.NonceMore = plan.NoPick.Copy(0, 8, 4)
	} else {
		s.IDShift = 32
	}
	s.Copies, s.Copy = statelessCopies(v)
	for i := range s.Mask[:n-8] {
		if i < 4 || i >= at {
			s.Mask[i] = 0xff
		}
	}
	if n-8-at >= 8 { // all options: many keys may have the first one in common
		s.ProbeMask, s.ProbeMore = ^uint64(0), uint8((n-9-at)/8)
	} else if n-8-at >= 4 {
		s.ProbeMask = binary.NativeEndian.Uint64([]byte{255, 255, 255, 255, 0, 0, 0, 0})
	}
	return s
}

var statelessVs = [...]uint8{0, 1, 2, wire.VLongID, wire.VLongID | 1, wire.VLongID | 2}

func (o *statelessOpening) planOpen(_ *kernel.Backend, snaps []*keys.Snapshot, area uintptr) *plan.Open {
	to := plan.NewOpen(^uint32(0))
	to.Split, to.Own = splitPlan(o.engineBits, 1<<48-1), o.own.List()
	to.Screens(wire.StatelessMinHeader+kernel.TagSize, 0, wire.StatelessFirst)
	to.Zero = 0xf0
	for b := range to.Second {
		to.Second[b] = int8(wire.StatelessSecond(byte(b)))
		to.ThirdAt[b] = uint8(4 + wire.IDLen(uint8(b)>>4))
		to.Third[b] = int8(wire.StatelessOption(byte(b)))
	}
	to.Odd, to.Missing = plan.OddKeys, int8(status.ErrNoKey)
	to.MissingBare = to.Missing
	for _, snap := range snaps {
		if snap.Ahead != nil {
			to.Ahead = 1
		}
	}
	if o.held != nil {
		to.Missing, to.MissingBare = int8(status.ErrContext), int8(status.ErrContext)
		p := &plan.Pattern{Area: area, KeyLen: uint8(o.held.keyLen), Kind: uint16(o.v)}
		n := wire.Template(&p.Value, o.v, o.id, o.held.options)
		binary.BigEndian.PutUint16(p.Value[n-8:], o.held.epoch)
		s := statelessLayout(o.v, n)
		s.Keeps = plan.KeepsAlways // the nonce does not have all of a long ID
		for i := range n - 6 {
			s.Mask[i] = 0xff
		}
		s.Word = binary.NativeEndian.Uint32(p.Value[:])
		copy(p.Addr[:], o.addr.Src[:])
		copy(p.Addr[16:], o.addr.Dst[:])
		if i, ok := to.AddLayout(s); ok {
			to.Add(i, p)
		}
		return to
	}
	// Packets without options first: the number of patterns is limited.
	for g, snap := range snaps {
		if g == 0 && snap.Default != 0 {
			pre := 0
			if o.tryPrevious && snap.HasPre(snap.Default) {
				pre = keys.Selection(snap.Default, keys.Pre)
			}
			o.planKey(to, snap, keys.Selection(snap.Default, keys.Current), pre, nil)
		}
	}
	for _, snap := range snaps { // the first group that has the keys: see find
		for sel := 1; sel < 64; sel++ {
			var room [wire.Levels * wire.MaxOption]byte
			options := room[:0]
			for l := range snap.Level {
				if g := sel >> (2 * l) & 3; g != 0 {
					lv := &snap.Level[l]
					// Match takes the key for another generation: no pattern of its own.
					if !lv.Present || lv.Match(lv.Index[g-1], lv.ID[:lv.IDLen]) != g {
						options = nil
						break
					}
					options = wire.AppendOption(options, l, lv.Index[g-1], lv.ID[:lv.IDLen])
				}
			}
			if options != nil {
				o.planKey(to, snap, sel, 0, options)
			}
		}
	}
	return to
}

// planKey adds a pattern for each V, for packets with one key of a snapshot. pre is a key to be tried
// after it; 0: none.
func (o *statelessOpening) planKey(to *plan.Open, snap *keys.Snapshot, sel, pre int, options []byte) {
	if snap.Master(sel) == nil {
		return
	}
	usage, usagePre := counts(to, snap.Usage(sel)), uintptr(0)
	if pre != 0 && snap.Master(pre) != nil {
		usagePre = counts(to, snap.Usage(pre))
	} else {
		pre = 0
	}
	for _, v := range statelessVs {
		var msg [MaxBlocks * 16]byte
		k := cmacKDF(snap, sel, StatelessMsg(&msg, v, 0, 0, new(Addr), uint16(snap.KeyLen*8)))
		name := snap.Name(sel)
		p := &plan.Pattern{KeyLen: k.KeyLen, Kind: uint16(v), Name: *(*[2]uint64)(unsafe.Pointer(&name)), Usage: usage}
		p.Master, p.Sub = k.addresses()
		p.KDF(&msg, k.Blocks, k.Counter)
		s := statelessLayout(v, wire.Template(&p.Value, v, 0, options))
		s.Word = binary.NativeEndian.Uint32(p.Value[:])
		i, ok := to.AddLayout(s)
		if !ok {
			continue
		}
		if to.Add(i, p); pre != 0 {
			k, name := cmacKDF(snap, pre, int(p.Blocks)), snap.Name(pre)
			p.Master, p.Sub = k.addresses()
			p.Name, p.Usage = *(*[2]uint64)(unsafe.Pointer(&name)), usagePre
			to.AddPrevious(i, p)
		}
	}
}
