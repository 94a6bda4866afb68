package burst

import (
	"unsafe"

	"libeesp/internal/generic"
	"libeesp/internal/kernel"
	"libeesp/internal/keys"
	"libeesp/internal/profile"
	"libeesp/internal/say"
	"libeesp/internal/secmem"
	"libeesp/internal/status"
)

// Derive writes the data keys of contexts to out, one behind the other, each
// followed by what is added to nonces. On an error out is all zero.
func (w *Worker) Derive(be *kernel.Backend, g *keys.Group, contexts []profile.KeyContext, out []byte) error {
	w.enter()
	defer w.leave()
	s := g.Snapshot()
	pr, err := profile.ByNumber(s.Profile)
	size := pr.KeyOctets(s.Params)
	if err != nil {
		return err
	}
	if len(out) != len(contexts)*size {
		return say.Errorf("%w: %d octets for %d keys of %d", status.ErrArgument, len(out), len(contexts), size)
	}
	all, done := out, 0
	for len(contexts) > 0 {
		n := min(len(contexts), kernel.Chunk)
		for i := range n {
			l := &w.ctx[i]
			*l = profile.Context{}
			code := pr.Resolve(s, &contexts[i], l)
			err := refused(&contexts[i], code)
			if code == status.OK && int(l.KeyLen)+int(l.Mask) != size {
				err = say.Errorf("%w: keys of V %d are not as long as the group's AEAD says, %d octets", status.ErrArgument, contexts[i].V, size)
			}
			if err != nil {
				clear(all)
				return say.Errorf("%w (context %d)", err, done+i)
			}
		}
		w.ownKeys(n)
		if code := w.derive(be, n); code != status.OK {
			clear(all)
			return code
		}
		done += n
		for i := range n {
			k := int(w.ctx[i].KeyLen)
			copy(out, w.sec.keys[i*k:][:k])
			copy(out[k:size], w.sec.masks[i][:])
			out = out[size:]
		}
		contexts = contexts[n:]
	}
	return nil
}

// refused returns the error of a context that the profile did not resolve, nil for
// OK.
func refused(k *profile.KeyContext, code status.Code) error {
	switch code {
	case status.OK:
		return nil
	case status.ErrV:
		return say.Errorf("%w: this group has no V %#x", code, k.V)
	case status.ErrNoKey:
		return say.Errorf("%w: the group has no key for levels %#x, generation %d, ID %#x", code, k.Levels, k.Generation, k.ID)
	case status.ErrArgument:
		return say.Errorf("%w: ID %#x, epoch %d, V %#x, levels %#x, generation %d, addresses: one is out of range, or must be zero in this profile",
			code, k.ID, k.Epoch, k.V, k.Levels, k.Generation)
	}
	return code
}

// Export derives the data key of a context. With options, the key carries the
// Master Key Options that name its root keys.
func (w *Worker) Export(be *kernel.Backend, g *keys.Group, k *profile.KeyContext, options bool, d *profile.DataKey) error {
	w.enter()
	defer w.leave()
	s := g.Snapshot()
	pr, err := profile.ByNumber(s.Profile)
	if err != nil {
		return err
	}
	if options && s.Slots != 0 { // no root keys that options could name
		return say.Errorf("%w: this profile has no Master Key Options", status.ErrArgument)
	}
	c := &w.ctx[0]
	*c = profile.Context{}
	if err := refused(k, pr.Resolve(s, k, c)); err != nil {
		return err
	}
	n := profile.DataKey{ID: k.ID, Epoch: k.Epoch, V: k.V, KeyLen: c.KeyLen, Profile: s.Profile}
	if code := pr.Export(s, k, options, &n); code == status.ErrUnsupported {
		return say.Errorf("%w: this key cannot be exported: it is the group's own key, or changes with the rekey mask", code)
	} else if code != status.OK {
		return code
	}
	w.ownKeys(1)
	if code := w.derive(be, 1); code != status.OK {
		return code
	}
	*d = n
	copy(d.Key[:], w.sec.keys[:c.KeyLen])
	if c.Mask != 0 {
		d.OptionsLen = max(n.OptionsLen, c.Mask)
		copy(d.Options[:], w.sec.masks[0][:c.Mask])
	}
	return nil
}

// Check returns ErrArgument unless a data key that a caller passes is well formed.
func Check(d *profile.DataKey) error {
	pr, err := profile.ByNumber(d.Profile)
	code := status.ErrArgument
	if err == nil && (d.KeyLen == 16 || d.KeyLen == 32) && int(d.OptionsLen) <= len(d.Options) {
		code = pr.Check(d)
	}
	if code != status.OK {
		return say.Errorf("%w: a field of the data key is not as it was exported", code)
	}
	return nil
}

// Fingerprint returns a name of a data key, which does not reveal it: a block that
// is encrypted with AES-256 under the key (one of 16 octets is repeated). GCM never
// encrypts this block, since its counter is 0.
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
