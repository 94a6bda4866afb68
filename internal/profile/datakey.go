package profile

import (
	"slices"

	"libeesp/internal/wire"
)

// KeyContext is struct eesp_context: what a data key depends on besides keys.
type KeyContext struct {
	ID         uint64
	Epoch      uint16
	V          uint8
	Levels     uint8 // bit l: level l; 0 = the group's default
	Generation uint8 // 0 current, 1 previous, 2 next
	Reserved   [3]uint8
	Addr       Addr
}

// DataKey is struct eesp_data_key.
type DataKey struct {
	ID         uint64
	Epoch      uint16
	V          uint8
	KeyLen     uint8
	OptionsLen uint8
	Profile    uint8
	Params     [2]uint8 // of the group, what the holder has to know
	Addr       Addr
	Key        [32]byte
	Options    [wire.Levels * wire.MaxOption]byte // stateless: Master Key Options
	Domain     uint32
}

// Mask is what of Options is added to nonces.
func (d *DataKey) Mask() []byte {
	if d.Profile == 0 {
		return nil
	}
	return d.Options[:d.OptionsLen]
}

// heldKey is a data key with its context, for those who hold no master key.
type heldKey struct {
	keyLen  int
	epoch   uint16
	options []byte // Master Key Options that go into the header
}

func heldOf(k *DataKey) *heldKey {
	if k == nil {
		return nil
	}
	return &heldKey{int(k.KeyLen), k.Epoch, slices.Clone(k.Options[:k.OptionsLen])}
}
