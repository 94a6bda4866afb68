package burst

import (
	"unsafe"

	"libeesp/internal/generic"

	"libeesp/internal/kernel"
	"libeesp/internal/keys"
	"libeesp/internal/profile"
	"libeesp/internal/secmem"
	"libeesp/internal/status"
)

// Derive writes the data keys of contexts, each with what is added to nonces
// behind it, to out, one behind the other. On error out is all zero.
func (w *Worker) Derive(be *kernel.Backend, g *keys.Group, contexts []profile.KeyContext, out []byte) status.Code {
	w.enter()
	defer w.leave()
	s := g.Snapshot()
	pr, err := profile.Of(s.Profile)
	size := pr.KeyOctets(s.Params)
	if err != nil || len(out) != len(contexts)*size {
		return status.ErrArgument
	}
	all := out
	for len(contexts) > 0 {
		n := min(len(contexts), kernel.Chunk)
		for i := range n {
			l := &w.ctx[i]
			*l = profile.Context{}
			code := pr.Resolve(s, &contexts[i], l)
			if code == status.OK && int(l.KeyLen)+int(l.Mask) != size {
				code = status.ErrArgument
			}
			if code != status.OK {
				clear(all)
				return code
			}
			w.uniq[i] = uint8(i)
		}
		if code := w.derive(be, n); code != status.OK {
			clear(all)
			return code
		}
		for i := range n {
			k := int(w.ctx[i].KeyLen)
			copy(out, w.sec.keys[i*k:][:k])
			copy(out[k:size], w.sec.masks[i][:])
			out = out[size:]
		}
		contexts = contexts[n:]
	}
	return status.OK
}

// Export derives the data key of a context; options: with the Master Key
// Options that name the root keys it comes from.
func (w *Worker) Export(be *kernel.Backend, g *keys.Group, k *profile.KeyContext, options bool, d *profile.DataKey) status.Code {
	w.enter()
	defer w.leave()
	s := g.Snapshot()
	pr, err := profile.Of(s.Profile)
	if err != nil || options && s.Slots != 0 { // no root keys that options could name
		return status.ErrArgument
	}
	c := &w.ctx[0]
	*c = profile.Context{}
	if code := pr.Resolve(s, k, c); code != status.OK {
		return code
	}
	w.uniq[0] = 0
	if code := w.derive(be, 1); code != status.OK {
		return code
	}
	*d = profile.DataKey{ID: k.ID, Epoch: k.Epoch, V: k.V, KeyLen: c.KeyLen, Profile: s.Profile}
	copy(d.Key[:], w.sec.keys[:c.KeyLen])
	if c.Mask != 0 {
		d.OptionsLen = c.Mask
		copy(d.Options[:], w.sec.masks[0][:c.Mask])
	}
	pr.Export(s, k, options, d)
	return status.OK
}

// Check reports whether a data key from outside is well formed.
func Check(d *profile.DataKey) status.Code {
	pr, err := profile.Of(d.Profile)
	if err != nil || d.KeyLen != 16 && d.KeyLen != 32 || int(d.OptionsLen) > len(d.Options) {
		return status.ErrArgument
	}
	return pr.Check(d)
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
