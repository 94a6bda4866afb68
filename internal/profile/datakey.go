package profile

import (
	"slices"

	"libeesp/internal/wire"
)

// KeyContext is struct eesp_context: what a data key depends on besides the group's
// keys.
type KeyContext struct {
	ID         uint64
	Epoch      uint16
	V          uint8
	Levels     uint8 // bit l: level l; 0 = the group's default
	Generation uint8 // 0 current, 1 previous, 2 next; tss: AN
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
	Params     [2]uint8 // parameters of the group that the holder needs
	Addr       Addr
	Key        [32]byte
	Options    [wire.Levels * wire.MaxOption]byte // stateless: Master Key Options; tss, eesp: what is added to nonces, tss then the counter limit
	Domain     uint32
}

// Mask returns the octets of Options that are added to nonces; in tss, those of the
// counter limit may follow.
func (d *DataKey) Mask() []byte {
	if d.Profile == 0 {
		return nil
	}
	return d.Options[:d.OptionsLen]
}

// heldKey is what a sender or receiver that holds a data key needs to know of it.
type heldKey struct {
	keyLen  int
	epoch   uint16
	options []byte // DataKey.Options
}

func heldOf(k *DataKey) *heldKey {
	if k == nil {
		return nil
	}
	return &heldKey{int(k.KeyLen), k.Epoch, slices.Clone(k.Options[:k.OptionsLen])}
}
