package keys

import (
	"crypto/subtle"
	"math/bits"

	"libeesp/internal/say"
	"libeesp/internal/secmem"
	"libeesp/internal/status"
	"libeesp/internal/wire"
)

// ValueLen is the length of a root key's value in octets.
const ValueLen = 32

// RootKey is a ring: an ID, and index and value of three generations in the order
// previous, current, next. The values are in locked memory. A RootKey does not change;
// rotation makes a new one.
type RootKey struct {
	ID     []byte
	Index  [3]uint64
	Value  *[3][ValueLen]byte
	NoNext bool   // there is no next key; Index repeats the current one's
	whole  bool   // made by NewRing: indices are generations, and there is a floor
	floor  uint64 // of NewRing
}

func badKey(f string, a ...any) error {
	return say.Errorf("%w: %s", status.ErrRootKey, say.Sprintf(f, a...))
}

// String names the root key and never shows a value.
func (k *RootKey) String() string { return say.Sprintf("root key %x indices %d", k.ID, k.Index) }

// GoString is String, so that no verb shows a value.
func (k *RootKey) GoString() string { return k.String() }

// NewRootKey makes a ring of copies of its arguments. The error is ErrRootKey or
// ErrMemory.
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

// HasPre reports whether the previous key differs from the current one.
func (k *RootKey) HasPre() bool {
	return k.Index[0] != k.Index[1] || subtle.ConstantTimeCompare(k.Value[0][:], k.Value[1][:]) != 1
}

// Tags of DER. All are one octet.
const (
	derInteger  = 0x02
	derOctets   = 0x04
	derSequence = 0x30
)

// take removes one DER element with this tag from in. The element must be whole, and its
// length in the one form that DER allows (X.690, 10.1): the shortest.
func take(in *[]byte, tag byte) (content []byte, ok bool) {
	b := *in
	if len(b) < 2 || b[0] != tag {
		return nil, false
	}
	size, head := uint64(b[1]), 2
	if size >= 0x80 {
		head += int(size) - 0x80
		if head == 2 || head > 2+4 || head > len(b) {
			return nil, false
		}
		size = 0
		for _, x := range b[2:head] {
			size = size<<8 | uint64(x)
		}
		if size < 0x80 || b[2] == 0 {
			return nil, false
		}
	}
	if size > uint64(len(b)-head) {
		return nil, false
	}
	end := head + int(size)
	*in = b[end:]
	return b[head:end], true
}

// number reads the content of an INTEGER of 0 to 2^63-1, in as few octets as DER asks for
// (X.690, 8.3.2).
func number(b []byte) (x uint64, ok bool) {
	if len(b) == 0 || len(b) > 8 || b[0] >= 0x80 || len(b) > 1 && b[0] == 0 && b[1] < 0x80 {
		return 0, false
	}
	for _, o := range b {
		x = x<<8 | uint64(o)
	}
	return x, true
}

// element removes one DER element with this tag from in, or says why it cannot.
func element(in *[]byte, tag byte, what string) (content []byte, err error) {
	all := *in
	if content, ok := take(in, tag); ok {
		return content, nil
	}
	if len(all) == 0 {
		return nil, badKey("%s is missing", what)
	}
	if all[0] != tag {
		kind := "a SEQUENCE"
		switch tag {
		case derInteger:
			kind = "an INTEGER"
		case derOctets:
			kind = "an OCTET STRING"
		}
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

// three removes a SEQUENCE of three elements from in; read reads element i, whose name
// is for errors.
func three(in *[]byte, what string, read func(s *[]byte, i int, what string) error) error {
	s, err := element(in, derSequence, what)
	if err != nil {
		return err
	}
	for i := range 3 {
		if err := read(&s, i, say.Sprintf("element %d of %s", i, what)); err != nil {
			return err
		}
	}
	if len(s) != 0 {
		return badKey("%s has more than 3 elements", what)
	}
	return nil
}

// ParseRootKey reads a RootKeyStruct (formats.md, section 1.2). The error is ErrRootKey
// or ErrMemory.
func ParseRootKey(der []byte) (*RootKey, error) {
	in := der
	seq, err := element(&in, derSequence, "RootKeyStruct")
	if err != nil {
		return nil, err
	}
	if len(in) != 0 {
		return nil, badKey("%d octets after RootKeyStruct", len(in))
	}
	id, err := element(&seq, derOctets, "root_key_id")
	if err != nil {
		return nil, err
	}
	var index [3]uint64
	if err := three(&seq, "root_keys_index", func(s *[]byte, i int, what string) error {
		b, err := element(s, derInteger, what)
		if err != nil {
			return err
		}
		var ok bool
		if index[i], ok = number(b); !ok {
			return badKey("%s is not an INTEGER of 0 to 2^63-1", what)
		}
		return nil
	}); err != nil {
		return nil, err
	}
	var value [3][]byte
	if err := three(&seq, "root_keys_value", func(s *[]byte, i int, what string) (err error) {
		if value[i], err = element(s, derOctets, what); err == nil && len(value[i]) != ValueLen {
			return badKey("%s has %d octets, not %d", what, len(value[i]), ValueLen)
		}
		return err
	}); err != nil {
		return nil, err
	}
	if len(seq) != 0 {
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

// MarshalDER writes the root key to dst and returns the number of octets. The caller
// wipes dst after use. Errors: ErrRoom (DERLen octets are always enough), ErrUnsupported
// (there is no next key).
func (k *RootKey) MarshalDER(dst []byte) (int, error) {
	if k.NoNext {
		return 0, say.Errorf("%w: a ring without a next key has no DER form", status.ErrUnsupported)
	}
	ints, size := 0, len(k.Value)*(2+ValueLen)
	for _, x := range k.Index {
		ints += 2 + bits.Len64(x)/8 + 1 // with a sign bit of 0
	}
	total := derHead(len(k.ID)) + len(k.ID) + derHead(ints) + ints + derHead(size) + size
	if n := derHead(total) + total; n > len(dst) {
		return 0, say.Errorf("%w: %d octets, there are %d", status.ErrRoom, n, len(dst))
	}
	b := appendHead(dst[:0], derSequence, total)
	b = append(appendHead(b, derOctets, len(k.ID)), k.ID...)
	b = appendHead(b, derSequence, ints)
	for _, x := range k.Index {
		n := bits.Len64(x)/8 + 1
		b = appendHead(b, derInteger, n)
		for n--; n >= 0; n-- {
			b = append(b, byte(x>>(8*n)))
		}
	}
	b = appendHead(b, derSequence, size)
	for i := range k.Value {
		b = append(appendHead(b, derOctets, ValueLen), k.Value[i][:]...)
	}
	return len(b), nil
}

// derHead returns how many octets tag and length have for content of n < 256 octets.
func derHead(n int) int {
	if n < 0x80 {
		return 2
	}
	return 3
}

func appendHead(b []byte, tag byte, n int) []byte {
	if n < 0x80 {
		return append(b, tag, byte(n))
	}
	return append(b, tag, 0x81, byte(n))
}

// Rotated returns the ring after a rotation. value is the new next key; nil means a
// random one.
func (k *RootKey) Rotated(index uint64, value *[ValueLen]byte) (*RootKey, error) {
	if k.NoNext {
		return nil, say.Errorf("%w: there is no next key to rotate to: publish a whole ring", status.ErrNotFound)
	}
	return makeRootKey(k.ID, [3]uint64{k.Index[1], k.Index[2], index}, false, func(v *[3][ValueLen]byte) error {
		copy(v[:], k.Value[1:]) // an assignment of two elements could copy through the stack
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
