package profile

import (
	"unsafe"

	"libeesp/internal/wire"
)

// C takes the packets of some formats by itself, without a crossing: those that
// are plain, or of the shape that is known. What it has to know of a format is
// a form, whose layout it shares. There is none for formats whose packets are
// not told apart by what is in forms.

// SealForm is how a sender's packets are written. Their nonce is Salt, Epoch and
// Counter; so are the last octets of their header.
type SealForm struct {
	Master, Sub uintptr // kernel.Master, and which of its subkeys
	ID          uint64  // for Desc
	Salt        uint32
	Len         uint32 // octets of the header
	Msg         MsgForm
	Header      [MaxHeader]byte
}

// OpenForm is what packets look like that a receiver got before.
type OpenForm struct {
	Master, Sub uintptr
	Len         uint32 // octets of the header; Epoch and Counter are the last eight
	At          uint32 // where the ID ends that begins at 4, and the options begin
	Word        [4]byte
	Msg         MsgForm
	Opts        [wire.Levels*wire.MaxOption + 8]byte
}

// MsgForm is a KDF input: octet 0 counts blocks of output, the ID is at 4 (only
// when opening), the epoch at 12, and at 14 is a source address, if there are
// two blocks, and behind it a destination address, if there are three.
type MsgForm struct {
	KeyLen, Blocks, Fixed uint8 // Fixed: nothing differs but the epoch
	_                     [5]uint8
	Msg                   [MaxBlocks * 16]byte
}

// Form fills in what C needs to know, and reports whether that is all.
func (h *Header) Form(f *SealForm) bool {
	s, ok := h.of.(interface {
		form(h *Header, f *SealForm) bool
	})
	return ok && s.form(h, f)
}

// Form fills in what C needs to know, and reports whether that is all.
func (s *Shape) Form(f *OpenForm) bool {
	o, ok := s.of.(interface {
		form(s *Shape, f *OpenForm) bool
	})
	return ok && o.form(s, f)
}

// form is what KDFs of a master key have in common. The key may be gone: its
// address is all that is asked for.
func (k *KDF) form(master, sub *uintptr, m *MsgForm, msg *[MaxBlocks * 16]byte) {
	*master = uintptr(unsafe.Pointer(k.Master))
	*sub = *master + unsafe.Offsetof(k.Master.K1)
	if k.Padded {
		*sub = *master + unsafe.Offsetof(k.Master.K2)
	}
	*m = MsgForm{KeyLen: k.KeyLen, Blocks: k.Blocks, Msg: *msg}
}
