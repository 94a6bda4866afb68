package burst

import (
	"unsafe"

	"libeesp/internal/generic"

	"libeesp/internal/kernel"
	"libeesp/internal/keys"
	"libeesp/internal/profile"
	"libeesp/internal/secmem"
	"libeesp/internal/status"
	"libeesp/internal/wire"
)

// Context is struct eesp_context: what a data key depends on besides root keys.
type Context struct {
	ID         uint64
	Epoch      uint16
	V          uint8
	Levels     uint8 // bit l: level l; 0 = the group's default
	Generation uint8 // 0 current, 1 previous, 2 next
	_          [3]uint8
	Addr       profile.Addr
}

func (c *Context) resolve(s *keys.Snapshot) (*kernel.Master, uint8, status.Code) {
	levels := c.Levels
	if levels == 0 {
		levels = s.Default
	}
	switch {
	case !wire.ValidV(c.V):
		return nil, 0, status.ErrV
	case c.V&wire.VLongID == 0 && c.ID>>32 != 0, c.Generation > 2, levels>>wire.Levels != 0:
		return nil, 0, status.ErrArgument
	}
	g := [3]int{keys.Current, keys.Pre, keys.Next}[c.Generation]
	m := s.Master(keys.Of(levels, g))
	if m == nil || levels == 0 {
		return nil, 0, status.ErrNoKey
	}
	return m, levels, status.OK
}

// Derive writes the data keys of contexts to out, one behind the other. On
// error out is all zero.
func (w *Worker) Derive(be *kernel.Backend, g *keys.Group, contexts []Context, out []byte) status.Code {
	w.enter()
	defer w.leave()
	s := g.Snapshot()
	if len(out) != len(contexts)*s.KeyLen {
		return status.ErrArgument
	}
	all := out
	for len(contexts) > 0 {
		n := min(len(contexts), kernel.Chunk)
		for i := range n {
			c, l := &contexts[i], &w.ctx[i]
			m, _, code := c.resolve(s)
			if code != status.OK {
				clear(all)
				return code
			}
			l.Master = m
			l.Blocks = profile.StatelessMsg(&l.Msg, c.V, c.ID, c.Epoch, &c.Addr, uint16(s.KeyLen*8))
			w.uniq[i] = uint8(i)
		}
		w.derive(be, n, s.KeyLen)
		copy(out, w.sec.keys[:n*s.KeyLen])
		contexts, out = contexts[n:], out[n*s.KeyLen:]
	}
	return status.OK
}

// DataKey is struct eesp_data_key.
type DataKey struct {
	ID         uint64
	Epoch      uint16
	V          uint8
	KeyLen     uint8
	OptionsLen uint8
	_          [3]uint8
	Addr       profile.Addr
	Key        [32]byte
	Options    [wire.Levels * wire.MaxOption]byte
	_          [4]uint8
}

// Export derives the data key of a context, with the Master Key Options that
// name the root keys it comes from, if asked for.
func (w *Worker) Export(be *kernel.Backend, g *keys.Group, c *Context, options bool, k *DataKey) status.Code {
	w.enter()
	defer w.leave()
	s := g.Snapshot()
	_, levels, code := c.resolve(s)
	if code != status.OK {
		return code
	}
	*k = DataKey{ID: c.ID, Epoch: c.Epoch, V: c.V, KeyLen: uint8(s.KeyLen)}
	switch c.V & wire.VAddrMask {
	case 1:
		k.Addr.Src = c.Addr.Src
	case 2:
		k.Addr = c.Addr
	}
	if options {
		at := k.Options[:0]
		gen := [3]int{1, 0, 2}[c.Generation]
		for l := range s.Level {
			if levels>>l&1 != 0 {
				at = wire.AppendOption(at, l, s.Level[l].Index[gen], s.Level[l].ID[:s.Level[l].IDLen])
			}
		}
		k.OptionsLen = uint8(len(at))
	}
	// The worker's reader is active: derive in the same announcement.
	l := &w.ctx[0]
	l.Master, _, _ = c.resolve(s)
	l.Blocks = profile.StatelessMsg(&l.Msg, c.V, c.ID, c.Epoch, &c.Addr, uint16(s.KeyLen*8))
	w.uniq[0] = 0
	w.derive(be, 1, s.KeyLen)
	copy(k.Key[:], w.sec.keys[:s.KeyLen])
	return status.OK
}

// Check reports whether a data key from outside is well formed.
func (k *DataKey) Check() status.Code {
	if !wire.ValidV(k.V) {
		return status.ErrV
	}
	if k.KeyLen != 16 && k.KeyLen != 32 || int(k.OptionsLen) > len(k.Options) || k.V&wire.VLongID == 0 && k.ID>>32 != 0 {
		return status.ErrArgument
	}
	if !wire.ValidOptions(k.Options[:k.OptionsLen]) {
		return status.ErrOption
	}
	return status.OK
}

// Fingerprint tells data keys apart without giving them away: an AES-256
// encryption, under the key (a short one twice), of a block that GCM never
// encrypts, since its counter is 0.
func Fingerprint(key []byte) (out [16]byte, err error) {
	m, err := secmem.New[struct {
		kernel.Master
		scratch [kernel.ScratchBytes]byte
		key     [32]byte
	}]()
	if err != nil {
		return out, err
	}
	defer secmem.Delete(m)
	if copy(m.key[:], key) == 16 {
		copy(m.key[16:], key)
	}
	generic.ExpandMaster(&m.Master, &m.key, unsafe.Pointer(&m.scratch))
	block := [16]byte([]byte("eesp key\x00\x00\x00\x00\x00\x00\x00\x00"))
	generic.EncryptBlock(&out, &block, &m.Master, unsafe.Pointer(&m.scratch))
	return out, nil
}
