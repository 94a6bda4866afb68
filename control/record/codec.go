// Package record has the records of the control plane: their encoding, their
// signatures, and the keys that are sealed in them.
//
// A record is
//
//	magic "EESP" | type u8 | version u8 | flags u16 | length u32 | fields
//
// big-endian, where length counts the octets of the fields. A field is u16 number, u16 length,
// value. If the top bit of a number is set, a reader that does not know the field must refuse the
// record. Numbers rise strictly. Signed types end with
//
//	alg u8 | key ID 8 | signature
//
// over "eesp control v1" | type | cluster ID | everything before.
//
// A record has one encoding: Decode accepts exactly what Encode writes.
package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Errors of decoders. ErrUnsupported is for records of a later version: they may be valid, but this
// reader is too old.
var (
	ErrMalformed   = errors.New("malformed record")
	ErrUnsupported = errors.New("record needs a later version")
	ErrSignature   = errors.New("signature does not verify")
	ErrSealed      = errors.New("sealed part does not open")
)

// Lengths in octets.
const (
	MaxLen    = 64 << 10 // of a record
	headerLen = 12
	sigLen    = 1 + 8 + 64
)

// Version is the version of records that Encode writes.
const Version = 1

// crit is the bit of a field's number that makes readers refuse the record if they do not know the
// field.
const crit = 0x8000

// ID is the random name of a cluster, ring, member, session, group or instance.
type ID [16]byte

func (i ID) String() string { return fmt.Sprintf("%x", i[:]) }

// IsZero reports whether the ID is not set.
func (i ID) IsZero() bool { return i == ID{} }

// Hash is a SHA-256.
type Hash [32]byte

func (h Hash) String() string { return fmt.Sprintf("%x", h[:]) }

// IsZero reports whether the hash is not set.
func (h Hash) IsZero() bool { return h == Hash{} }

// A Body is the content of a record, of one type.
type Body interface {
	Type() Type
	fields(*codec)
	check() error // checks that the fields are consistent
	base() *Base
}

// Base is part of all bodies: it keeps fields of later versions.
type Base struct{ unknown []field }

func (b *Base) base() *Base { return b }
func (*Base) check() error  { return nil }

type field struct {
	num   uint16 // with crit
	value []byte
}

// codec visits the fields of a body in rising order, to write or to read them.
type codec struct {
	writing  bool
	optional bool // the next field may be missing; its zero value is not written
	in       []field
	out      []field
	kept     []field // in reading: unknown fields
	err      error
}

func (c *codec) fail(format string, a ...any) {
	if c.err == nil {
		c.err = fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, a...)...)
	}
}

// opt makes the next field optional: it is left out if it is zero.
func (c *codec) opt() *codec { c.optional = true; return c }

// visit reads or writes one field. zero reports whether the value is zero; encode returns its octets;
// decode reads them and reports whether they are valid.
func (c *codec) visit(num uint16, zero func() bool, encode func() []byte, decode func([]byte) bool) {
	opt := c.optional
	c.optional = false
	if c.err != nil {
		return
	}
	if c.writing {
		if opt && zero() {
			return
		}
		v := encode()
		if len(v) > 0xffff {
			c.fail("field %d is too long", num&^crit)
			return
		}
		c.out = append(c.out, field{num, v})
		return
	}
	for len(c.in) > 0 && c.in[0].num&^crit < num&^crit {
		c.keep()
	}
	if len(c.in) == 0 || c.in[0].num&^crit != num&^crit {
		if !opt && c.err == nil {
			c.fail("field %d is missing", num&^crit)
		}
		return
	}
	f := c.in[0]
	c.in = c.in[1:]
	if f.num != num || !decode(f.value) || opt && zero() {
		c.fail("field %d", num&^crit)
	}
}

// keep stores a field that this version does not know.
func (c *codec) keep() {
	f := c.in[0]
	c.in = c.in[1:]
	if f.num&crit != 0 && c.err == nil {
		c.err = fmt.Errorf("%w: field %d", ErrUnsupported, f.num&^crit)
	}
	c.kept = append(c.kept, f)
}

func (c *codec) u8(num uint16, p *uint8) {
	c.visit(num, func() bool { return *p == 0 }, func() []byte { return []byte{*p} }, func(b []byte) bool {
		if len(b) != 1 {
			return false
		}
		*p = b[0]
		return true
	})
}

func (c *codec) bool(num uint16, p *bool) {
	v := uint8(0)
	if *p {
		v = 1
	}
	c.u8(num, &v)
	if v > 1 {
		c.fail("field %d", num&^crit)
	}
	*p = v == 1
}

func (c *codec) u16(num uint16, p *uint16) {
	c.visit(num, func() bool { return *p == 0 }, func() []byte { return binary.BigEndian.AppendUint16(nil, *p) }, func(b []byte) bool {
		if len(b) != 2 {
			return false
		}
		*p = binary.BigEndian.Uint16(b)
		return true
	})
}

func (c *codec) u32(num uint16, p *uint32) {
	c.visit(num, func() bool { return *p == 0 }, func() []byte { return binary.BigEndian.AppendUint32(nil, *p) }, func(b []byte) bool {
		if len(b) != 4 {
			return false
		}
		*p = binary.BigEndian.Uint32(b)
		return true
	})
}

func (c *codec) u64(num uint16, p *uint64) {
	c.visit(num, func() bool { return *p == 0 }, func() []byte { return binary.BigEndian.AppendUint64(nil, *p) }, func(b []byte) bool {
		if len(b) != 8 {
			return false
		}
		*p = binary.BigEndian.Uint64(b)
		return true
	})
}

func (c *codec) i64(num uint16, p *int64) {
	v := uint64(*p)
	c.u64(num, &v)
	*p = int64(v)
}

// fixed visits a value of fixed length.
func (c *codec) fixed(num uint16, p []byte) {
	c.visit(num, func() bool { return allZero(p) }, func() []byte { return append([]byte(nil), p...) }, func(b []byte) bool {
		return len(b) == len(p) && copy(p, b) == len(b)
	})
}

func (c *codec) bytes(num uint16, p *[]byte, least, most int) {
	c.visit(num, func() bool { return len(*p) == 0 }, func() []byte {
		if len(*p) < least || len(*p) > most {
			c.fail("field %d has %d octets", num&^crit, len(*p))
		}
		return *p
	}, func(b []byte) bool {
		*p = append([]byte(nil), b...)
		return len(b) >= least && len(b) <= most
	})
}

// str visits text for people: valid UTF-8 without control characters.
func (c *codec) str(num uint16, p *string, most int) {
	c.visit(num, func() bool { return *p == "" }, func() []byte {
		if !printable(*p) || len(*p) > most {
			c.fail("field %d is no text of at most %d octets", num&^crit, most)
		}
		return []byte(*p)
	}, func(b []byte) bool {
		*p = string(b)
		return len(b) <= most && printable(*p)
	})
}

func printable(s string) bool { return utf8.ValidString(s) && !strings.ContainsFunc(s, control) }

// control reports whether a character controls a terminal or the order of text.
func control(r rune) bool {
	return r < 0x20 || r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0x2028 || r == 0x2029 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069
}

// Text makes a text that a record can have, of at most so many octets, of any text: errors and what others
// sent may have other characters, or be longer.
func Text(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if control(r) {
			return utf8.RuneError
		}
		return r
	}, strings.ToValidUTF8(s, string(utf8.RuneError)))
	for len(s) > most {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return s
}

// list visits a field of entries, each a u16 length and fields.
func list[T any](c *codec, num uint16, p *[]T, most int, visit func(*codec, *T)) {
	c.visit(num, func() bool { return len(*p) == 0 }, func() []byte {
		var b []byte
		if len(*p) > most {
			c.fail("field %d has %d entries", num&^crit, len(*p))
		}
		for i := range *p {
			sub := codec{writing: true}
			visit(&sub, &(*p)[i])
			e, err := appendFields(nil, sub.out)
			if sub.err != nil || err != nil || len(e) > 0xffff {
				c.err = errors.Join(sub.err, err)
				c.fail("field %d", num&^crit)
				return nil
			}
			b = append(binary.BigEndian.AppendUint16(b, uint16(len(e))), e...)
		}
		return b
	}, func(b []byte) bool {
		*p = nil
		for len(b) > 0 {
			if len(b) < 2 || len(b)-2 < int(binary.BigEndian.Uint16(b)) || len(*p) == most {
				return false
			}
			n := 2 + int(binary.BigEndian.Uint16(b))
			in, err := splitFields(b[2:n])
			if err != nil {
				return false
			}
			b = b[n:]
			var v T
			sub := codec{in: in}
			visit(&sub, &v)
			// Entries have no unknown fields: later versions add fields beside the list.
			if sub.err != nil || len(sub.in) > 0 || len(sub.kept) > 0 {
				if sub.err != nil && c.err == nil {
					c.err = sub.err
				}
				return false
			}
			*p = append(*p, v)
		}
		return true
	})
}

func allZero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}

func appendFields(b []byte, fs []field) ([]byte, error) {
	last := -1
	for _, f := range fs {
		if int(f.num&^crit) <= last {
			return nil, fmt.Errorf("%w: field %d twice or out of order", ErrMalformed, f.num&^crit)
		}
		last = int(f.num &^ crit)
		b = binary.BigEndian.AppendUint16(b, f.num)
		b = binary.BigEndian.AppendUint16(b, uint16(len(f.value)))
		b = append(b, f.value...)
	}
	return b, nil
}

func splitFields(b []byte) (fs []field, err error) {
	last := -1
	for len(b) > 0 {
		if len(b) < 4 {
			return nil, fmt.Errorf("%w: truncated field", ErrMalformed)
		}
		num, n := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		if int(num&^crit) <= last {
			return nil, fmt.Errorf("%w: field %d twice or out of order", ErrMalformed, num&^crit)
		}
		if len(b)-4 < n {
			return nil, fmt.Errorf("%w: truncated field %d", ErrMalformed, num&^crit)
		}
		last = int(num &^ crit)
		fs = append(fs, field{num, b[4 : 4+n]})
		b = b[4+n:]
	}
	return fs, nil
}

// encode writes a record's header and fields, without a signature.
func encode(b Body) ([]byte, error) {
	if err := b.check(); err != nil {
		return nil, err
	}
	c := codec{writing: true}
	b.fields(&c)
	if c.err != nil {
		return nil, c.err
	}
	fs, unknown := c.out, b.base().unknown
	if len(unknown) > 0 {
		merged := make([]field, 0, len(fs)+len(unknown))
		for len(fs) > 0 || len(unknown) > 0 {
			if len(unknown) == 0 || len(fs) > 0 && fs[0].num&^crit < unknown[0].num&^crit {
				merged, fs = append(merged, fs[0]), fs[1:]
			} else {
				merged, unknown = append(merged, unknown[0]), unknown[1:]
			}
		}
		fs = merged
	}
	out := append([]byte("EESP"), byte(b.Type()), Version, 0, 0, 0, 0, 0, 0)
	out, err := appendFields(out, fs)
	if err != nil {
		return nil, err
	}
	if len(out)+sigLen > MaxLen {
		return nil, fmt.Errorf("%w: %d octets", ErrMalformed, len(out))
	}
	binary.BigEndian.PutUint32(out[8:], uint32(len(out)-headerLen))
	return out, nil
}

// Size returns the length of the record at the start of b; 0 if b is too short to tell.
func Size(b []byte) (int, error) {
	if len(b) < headerLen {
		return 0, nil
	}
	if string(b[:4]) != "EESP" {
		return 0, fmt.Errorf("%w: no magic", ErrMalformed)
	}
	n := uint64(binary.BigEndian.Uint32(b[8:])) + headerLen
	if Type(b[4]).signed() {
		n += sigLen
	}
	if n > MaxLen {
		return 0, fmt.Errorf("%w: %d octets", ErrMalformed, n)
	}
	return int(n), nil
}

// TypeOf returns the type that a record's header names.
func TypeOf(b []byte) Type {
	if len(b) < headerLen {
		return 0
	}
	return Type(b[4])
}

// Decode reads one whole record of b's type. It does not verify the signature: Verify does.
func Decode(data []byte, b Body) error {
	n, err := Size(data)
	if err != nil {
		return err
	}
	if n == 0 || n != len(data) {
		return fmt.Errorf("%w: %d octets", ErrMalformed, len(data))
	}
	if Type(data[4]) != b.Type() {
		return fmt.Errorf("%w: type %d, not %d", ErrMalformed, data[4], b.Type())
	}
	if data[5] != Version {
		return fmt.Errorf("%w: version %d", ErrUnsupported, data[5])
	}
	if data[6] != 0 || data[7] != 0 {
		return fmt.Errorf("%w: flags %x", ErrUnsupported, data[6:8])
	}
	end := len(data)
	if b.Type().signed() {
		end -= sigLen
		if data[end] != algEd25519 {
			return fmt.Errorf("%w: signature algorithm %d", ErrUnsupported, data[end])
		}
	}
	fs, err := splitFields(data[headerLen:end])
	if err != nil {
		return err
	}
	c := codec{in: fs}
	b.fields(&c)
	for len(c.in) > 0 {
		c.keep()
	}
	if c.err != nil {
		return c.err
	}
	b.base().unknown = nil
	for _, f := range c.kept {
		b.base().unknown = append(b.base().unknown, field{f.num, append([]byte(nil), f.value...)})
	}
	return b.check()
}
