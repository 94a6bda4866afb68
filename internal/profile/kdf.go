package profile

import (
	"encoding/binary"

	"libeesp/internal/hkdf"
	"libeesp/internal/kernel"
	"libeesp/internal/keys"
)

// KDF says how a data key is derived: with CMAC under Master, with HKDF under Root,
// or it is Raw. If all three are nil, the key is held, and expanded already. Contexts
// are compared as a whole, so every word of it counts.
type KDF struct {
	Master  *kernel.Master
	Root    *hkdf.Expander
	Subs    *keys.Subs         // keeps derived keys; nil: they are not kept
	Usage   *keys.Usage        // counts; nil: nothing is derived
	Raw     *[keys.RawLen]byte // the data key, and behind it the mask
	Blocks  uint8              // of the input
	KeyLen  uint8              // octets of the key
	Mask    uint8              // octets behind the key that are added to the nonce: 0, 4 or 12
	Counter uint8              // place in the input of the number of the output block
	Padded  bool               // the input was padded: subkey K2
	_       [3]uint8
}

// Per is the number of output blocks for a key and its mask.
func (k *KDF) Per() int { return (int(k.KeyLen) + int(k.Mask) + 15) / 16 }

// Sub is the subkey of the last block.
func (k *KDF) Sub() *[16]byte {
	if k.Padded {
		return &k.Master.K2
	}
	return &k.Master.K1
}

// Expanded reports whether the key was expanded before.
func (k *KDF) Expanded() bool { return k.Master == nil && k.Root == nil && k.Raw == nil }

// Derived counts the data key of a KDF input.
func (k *KDF) Derived(msg *[16]byte) {
	switch {
	case k.Raw != nil:
	case k.Subs == nil:
		k.Usage.Derived(1)
	case k.Root != nil:
		k.Usage.DerivedOnce(int(binary.BigEndian.Uint16(msg[:])))
	default:
		k.Usage.DerivedOnce(int(binary.BigEndian.Uint16(msg[eespSession:])))
	}
}

// Context is what a data key is derived from.
type Context struct {
	Msg [MaxBlocks * 16]byte // CMAC: the input for the first output block; HKDF: two octets of info
	KDF
}

// MaxBlocks is the longest CMAC input in blocks, MaxPer the longest output.
const (
	MaxBlocks = 3
	MaxPer    = 3
)

// CounterAt is the place of the counter in KDF inputs of profile stateless, and in
// those that callers pass.
const CounterAt = 0

func cmacKDF(s *keys.Snapshot, sel, blocks int) KDF {
	return KDF{Master: s.Master(sel), Usage: s.Usage(sel), Blocks: uint8(blocks), KeyLen: uint8(s.KeyLen), Counter: CounterAt}
}
