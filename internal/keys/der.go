package keys

import (
	"crypto/subtle"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"libeesp/internal/secmem"
	"libeesp/internal/status"
	"libeesp/internal/wire"
)

// ValueLen is the length of a root key's value in octets.
const ValueLen = 32

// RootKey is a ring: a name, and three generations of index and value in the
// order previous, current, next. The values live in locked memory. A RootKey
// does not change; rotation makes a new one.
type RootKey struct {
	ID    []byte
	Index [3]uint64
	Value *[3][ValueLen]byte
}

func badKey(f string, a ...any) error {
	return fmt.Errorf("%w: %s", status.ErrRootKey, fmt.Sprintf(f, a...))
}

// String names the root key and never shows a value.
func (k *RootKey) String() string { return fmt.Sprintf("root key %x indices %d", k.ID, k.Index) }

// GoString is String, so that no verb shows a value.
func (k *RootKey) GoString() string { return k.String() }

// Format is String for all verbs.
func (k *RootKey) Format(f fmt.State, _ rune) { fmt.Fprint(f, k.String()) }

// NewRootKey copies its arguments.
func NewRootKey(id []byte, index [3]uint64, value *[3][ValueLen]byte) (*RootKey, error) {
	return makeRootKey(id, index, func(v *[3][ValueLen]byte) error {
		*v = *value
		return nil
	})
}

func makeRootKey(id []byte, index [3]uint64, fill func(*[3][ValueLen]byte) error) (*RootKey, error) {
	v, err := secmem.New[[3][ValueLen]byte]()
	if err != nil {
		return nil, err
	}
	k := &RootKey{append([]byte(nil), id...), index, v}
	if err = fill(v); err == nil {
		err = k.check()
	}
	if err != nil {
		k.Free()
		return nil, err
	}
	return k, nil
}

// GenerateRootKey makes a ring of random values with indices 1, 1, 2.
func GenerateRootKey(id []byte) (*RootKey, error) {
	return makeRootKey(id, [3]uint64{1, 1, 2}, func(v *[3][ValueLen]byte) error {
		if err := random(v[1][:]); err != nil {
			return err
		}
		v[0] = v[1]
		return random(v[2][:])
	})
}

func (k *RootKey) check() error {
	if len(k.ID) < wire.MinRootKeyID || len(k.ID) > wire.MaxRootKeyID {
		return badKey("root_key_id has %d octets, not %d to %d", len(k.ID), wire.MinRootKeyID, wire.MaxRootKeyID)
	}
	for i, x := range k.Index {
		if x>>63 != 0 {
			return badKey("root_keys_index %d does not fit in 63 bits", i)
		}
	}
	low := [3]byte{byte(k.Index[0]), byte(k.Index[1]), byte(k.Index[2])}
	if low[0] == low[2] || low[1] == low[2] || low[0] == low[1] && k.HasPre() {
		return badKey("root_keys_index %d: must differ modulo 256", k.Index)
	}
	return nil
}

// HasPre reports whether the previous key is another than the current one.
func (k *RootKey) HasPre() bool {
	return k.Index[0] != k.Index[1] || subtle.ConstantTimeCompare(k.Value[0][:], k.Value[1][:]) != 1
}

// ParseRootKey reads a RootKeyStruct (section 1.2).
func ParseRootKey(der []byte) (*RootKey, error) {
	in := cryptobyte.String(der)
	var seq, id, indices, values cryptobyte.String
	if !in.ReadASN1(&seq, asn1.SEQUENCE) {
		return nil, badKey("RootKeyStruct is not a SEQUENCE")
	}
	if !in.Empty() {
		return nil, badKey("%d octets after RootKeyStruct", len(in))
	}
	if !seq.ReadASN1(&id, asn1.OCTET_STRING) {
		return nil, badKey("root_key_id is not an OCTET STRING")
	}
	if !seq.ReadASN1(&indices, asn1.SEQUENCE) {
		return nil, badKey("root_keys_index is not a SEQUENCE")
	}
	if !seq.ReadASN1(&values, asn1.SEQUENCE) {
		return nil, badKey("root_keys_value is not a SEQUENCE")
	}
	if !seq.Empty() {
		return nil, badKey("%d octets after root_keys_value", len(seq))
	}
	var index [3]uint64
	for i := range index {
		var x int64
		if !indices.ReadASN1Integer(&x) || x < 0 {
			return nil, badKey("root_keys_index: element %d is not an INTEGER of 0 to 2^63-1", i)
		}
		index[i] = uint64(x)
	}
	if !indices.Empty() {
		return nil, badKey("root_keys_index has more than 3 elements")
	}
	var value [3]cryptobyte.String
	for i := range value {
		if !values.ReadASN1(&value[i], asn1.OCTET_STRING) || len(value[i]) != ValueLen {
			return nil, badKey("root_keys_value: element %d is not an OCTET STRING of %d octets", i, ValueLen)
		}
	}
	if !values.Empty() {
		return nil, badKey("root_keys_value has more than 3 elements")
	}
	return makeRootKey(id, index, func(v *[3][ValueLen]byte) error {
		for i := range v {
			copy(v[i][:], value[i])
		}
		return nil
	})
}

// DERLen is the most octets that MarshalDER writes.
const DERLen = 256

// MarshalDER writes the root key to dst, which the caller wipes after use, and
// returns the octets written. dst must have room for DERLen octets.
func (k *RootKey) MarshalDER(dst []byte) (int, error) {
	// A builder on a fixed buffer makes no copies elsewhere.
	b := cryptobyte.NewFixedBuilder(dst[:0:len(dst)])
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1OctetString(k.ID)
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			for _, x := range k.Index {
				b.AddASN1Uint64(x)
			}
		})
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			for i := range k.Value {
				b.AddASN1OctetString(k.Value[i][:])
			}
		})
	})
	out, err := b.Bytes()
	if err != nil {
		return 0, fmt.Errorf("%w: %v", status.ErrRoom, err)
	}
	return len(out), nil
}

// Rotated returns the ring after a rotation; value nil asks for a random one.
func (k *RootKey) Rotated(index uint64, value *[ValueLen]byte) (*RootKey, error) {
	return makeRootKey(k.ID, [3]uint64{k.Index[1], k.Index[2], index}, func(v *[3][ValueLen]byte) error {
		copy(v[:], k.Value[1:]) // an assignment of two would go by way of the stack
		if value == nil {
			return random(v[2][:])
		}
		v[2] = *value
		return nil
	})
}

// Free wipes the values.
func (k *RootKey) Free() {
	if k.Value != nil {
		secmem.Delete(k.Value)
		k.Value = nil
	}
}
