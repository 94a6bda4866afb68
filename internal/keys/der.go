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
	ID     []byte
	Index  [3]uint64
	Value  *[3][ValueLen]byte
	NoNext bool   // there is no next key; Index repeats the current one's
	whole  bool   // of NewRing: indices are generations, for which there is a floor
	floor  uint64 // of NewRing
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
	return makeRootKey(id, index, false, func(v *[3][ValueLen]byte) error {
		*v = *value
		return nil
	})
}

func makeRootKey(id []byte, index [3]uint64, noNext bool, fill func(*[3][ValueLen]byte) error) (*RootKey, error) {
	v, err := secmem.New[[3][ValueLen]byte]()
	if err != nil {
		return nil, err
	}
	k := &RootKey{ID: append([]byte(nil), id...), Index: index, Value: v, NoNext: noNext}
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
	return makeRootKey(id, [3]uint64{1, 1, 2}, false, func(v *[3][ValueLen]byte) error {
		if err := Random(v[1][:]); err != nil {
			return err
		}
		v[0] = v[1]
		return Random(v[2][:])
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
	if !k.NoNext && (low[0] == low[2] || low[1] == low[2]) || low[0] == low[1] && k.HasPre() {
		return badKey("root_keys_index %d: must differ modulo 256", k.Index)
	}
	return nil
}

// HasPre reports whether the previous key is another than the current one.
func (k *RootKey) HasPre() bool {
	return k.Index[0] != k.Index[1] || subtle.ConstantTimeCompare(k.Value[0][:], k.Value[1][:]) != 1
}

// element takes one DER element off in, or says why there is none.
func element(in *cryptobyte.String, tag asn1.Tag, what string) (content cryptobyte.String, err error) {
	all := *in
	if in.ReadASN1(&content, tag) {
		return content, nil
	}
	kind := map[asn1.Tag]string{asn1.SEQUENCE: "a SEQUENCE", asn1.INTEGER: "an INTEGER", asn1.OCTET_STRING: "an OCTET STRING"}[tag]
	if len(all) == 0 {
		return nil, badKey("%s is missing", what)
	}
	if all[0] != byte(tag) {
		return nil, badKey("%s is not %s", what, kind)
	}
	// Tag, length, content. A length of 0x80 and more says in how many octets it follows.
	size, head := uint64(0), 2
	if len(all) >= head {
		size = uint64(all[1])
		if size > 0x80 && size <= 0x80+4 {
			head, size = head+int(size)-0x80, 0
			for _, b := range all[2:min(head, len(all))] {
				size = size<<8 | uint64(b)
			}
		}
	}
	switch {
	case len(all) < head:
		return nil, badKey("%s is cut short: it ends in its length", what)
	case all[1] != 0x80 && all[1] <= 0x84 && size > uint64(len(all)-head):
		return nil, badKey("%s is cut short: there are %d of %d octets", what, len(all), uint64(head)+size)
	}
	return nil, badKey("the length of %s is not in DER", what)
}

// three takes a SEQUENCE of three elements off in; read takes the i-th, under its name.
func three(in *cryptobyte.String, what string, read func(s *cryptobyte.String, i int, what string) error) error {
	s, err := element(in, asn1.SEQUENCE, what)
	if err != nil {
		return err
	}
	for i := range 3 {
		if err := read(&s, i, fmt.Sprintf("element %d of %s", i, what)); err != nil {
			return err
		}
	}
	if !s.Empty() {
		return badKey("%s has more than 3 elements", what)
	}
	return nil
}

// ParseRootKey reads a RootKeyStruct (section 1.2).
func ParseRootKey(der []byte) (*RootKey, error) {
	in := cryptobyte.String(der)
	seq, err := element(&in, asn1.SEQUENCE, "RootKeyStruct")
	if err != nil {
		return nil, err
	}
	if !in.Empty() {
		return nil, badKey("%d octets after RootKeyStruct", len(in))
	}
	id, err := element(&seq, asn1.OCTET_STRING, "root_key_id")
	if err != nil {
		return nil, err
	}
	var index [3]uint64
	if err := three(&seq, "root_keys_index", func(s *cryptobyte.String, i int, what string) error {
		one := *s
		if _, err := element(s, asn1.INTEGER, what); err != nil {
			return err
		}
		var x int64
		if !one.ReadASN1Integer(&x) || x < 0 {
			return badKey("%s is not an INTEGER of 0 to 2^63-1", what)
		}
		index[i] = uint64(x)
		return nil
	}); err != nil {
		return nil, err
	}
	var value [3]cryptobyte.String
	if err := three(&seq, "root_keys_value", func(s *cryptobyte.String, i int, what string) (err error) {
		if value[i], err = element(s, asn1.OCTET_STRING, what); err == nil && len(value[i]) != ValueLen {
			return badKey("%s has %d octets, not %d", what, len(value[i]), ValueLen)
		}
		return err
	}); err != nil {
		return nil, err
	}
	if !seq.Empty() {
		return nil, badKey("%d octets after root_keys_value", len(seq))
	}
	return makeRootKey(id, index, false, func(v *[3][ValueLen]byte) error {
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
	if k.NoNext {
		return 0, fmt.Errorf("%w: a ring without a next key has no DER form", status.ErrUnsupported)
	}
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
	if k.NoNext {
		return nil, fmt.Errorf("%w: there is no next key to rotate to: publish a whole ring", status.ErrNotFound)
	}
	return makeRootKey(k.ID, [3]uint64{k.Index[1], k.Index[2], index}, false, func(v *[3][ValueLen]byte) error {
		copy(v[:], k.Value[1:]) // an assignment of two would go by way of the stack
		if value == nil {
			return Random(v[2][:])
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
