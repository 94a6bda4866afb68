// Package say formats error texts as package fmt does. Package fmt, with os and reflection, would be
// an eighth of the C library. This package has the verbs that the library uses: %v, %s, %d, %x, %o,
// %t, %q, %w and %%, with #, 0 and a width, for strings, octets, integers, booleans, errors, values
// with a String method, and slices and arrays of values that are no errors and have no String method.
// TestFormats refuses other formats in the sources, and vet compares verbs with arguments.
package say

import (
	"errors"
	"reflect"
	"strconv"
)

type wrapped struct {
	text  string
	cause error
}

func (e *wrapped) Error() string { return e.text }
func (e *wrapped) Unwrap() error { return e.cause }

// Errorf is fmt.Errorf, with one %w or none.
func Errorf(format string, a ...any) error {
	b, cause := appendf(format, a)
	if cause == nil {
		return errors.New(string(b))
	}
	return &wrapped{string(b), cause}
}

// Sprintf is fmt.Sprintf.
func Sprintf(format string, a ...any) string {
	b, _ := appendf(format, a)
	return string(b)
}

// how is a verb with its flags.
type how struct {
	verb  byte
	sharp bool
	zeros int // the least number of digits
}

func appendf(format string, a []any) (b []byte, cause error) {
	for i := 0; i < len(format); i++ {
		if format[i] != '%' {
			b = append(b, format[i])
			continue
		}
		var h how
		for i++; i < len(format) && (format[i] == '#' || format[i] >= '0' && format[i] <= '9'); i++ {
			if format[i] == '#' {
				h.sharp = true
			} else {
				h.zeros = 10*h.zeros + int(format[i]-'0')
			}
		}
		if i == len(format) {
			return append(b, "%!(NOVERB)"...), cause
		}
		h.verb = format[i]
		switch {
		case h.verb == '%':
			b = append(b, '%')
			continue
		case len(a) == 0:
			b = append(append(b, '%', '!', h.verb), "(MISSING)"...)
			continue
		case h.verb == 'w':
			cause, _ = a[0].(error)
			h.verb = 'v'
		}
		b = h.value(b, a[0])
		a = a[1:]
	}
	if len(a) > 0 {
		b = append(b, "%!(EXTRA)"...)
	}
	return b, cause
}

func (h how) value(b []byte, x any) []byte {
	if x == nil {
		return append(b, "<nil>"...)
	}
	if h.verb != 'd' && h.verb != 'o' && h.verb != 't' {
		switch s := x.(type) {
		case error:
			return h.octets(b, s.Error())
		case interface{ String() string }:
			return h.octets(b, s.String())
		}
	}
	return h.reflected(b, reflect.ValueOf(x))
}

func (h how) reflected(b []byte, v reflect.Value) []byte {
	switch v.Kind() {
	case reflect.String:
		return h.octets(b, v.String())
	case reflect.Bool:
		return strconv.AppendBool(b, v.Bool())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		n := v.Int()
		if n < 0 {
			h.zeros-- // the sign is one of them
			return h.number(append(b, '-'), -uint64(n))
		}
		return h.number(b, uint64(n))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return h.number(b, v.Uint())
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 && (h.verb == 's' || h.verb == 'x' || h.verb == 'q') {
			o := make([]byte, v.Len())
			for i := range o {
				o[i] = byte(v.Index(i).Uint())
			}
			return h.octets(b, string(o))
		}
		b = append(b, '[')
		for i := range v.Len() {
			if i > 0 {
				b = append(b, ' ')
			}
			b = h.reflected(b, v.Index(i))
		}
		return append(b, ']')
	}
	return append(b, '?')
}

func (h how) octets(b []byte, s string) []byte {
	switch h.verb {
	case 'x':
		if h.sharp && s != "" {
			b = append(b, "0x"...)
		}
		for i := range len(s) {
			b = append(b, digits[s[i]>>4], digits[s[i]&15])
		}
		return b
	case 'q':
		return strconv.AppendQuote(b, s)
	}
	return append(b, s...)
}

const digits = "0123456789abcdef"

func (h how) number(b []byte, n uint64) []byte {
	base := 10
	switch h.verb {
	case 'x':
		if base = 16; h.sharp {
			b = append(b, "0x"...)
		}
	case 'o':
		base = 8
	}
	s := strconv.FormatUint(n, base)
	for range h.zeros - len(s) {
		b = append(b, '0')
	}
	return append(b, s...)
}
