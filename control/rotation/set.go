// Package rotation decides the next step of a ring's rotation: pure functions
// of a ring's record, the roster's barrier and the members that are ready. It
// makes no keys, reads no clock and sends nothing, so a server can be killed at
// any point and any other can continue.
//
// model/rotation.pml is the same machine for spin.
package rotation

import "math/bits"

// Set is a set of roster numbers, as bitmaps hold it: bit n%8 of octet n/8.
type Set []byte

// Add adds a number.
func (s *Set) Add(n uint32) {
	for int(n/8) >= len(*s) {
		*s = append(*s, 0)
	}
	(*s)[n/8] |= 1 << (n % 8)
}

// Del removes a number.
func (s Set) Del(n uint32) {
	if int(n/8) < len(s) {
		s[n/8] &^= 1 << (n % 8)
	}
}

// Has reports whether a number is in the set.
func (s Set) Has(n uint32) bool { return int(n/8) < len(s) && s[n/8]>>(n%8)&1 != 0 }

// Len returns how many numbers are in the set.
func (s Set) Len() (n int) {
	for _, b := range s {
		n += bits.OnesCount8(b)
	}
	return n
}

// And returns the numbers that are in both.
func (s Set) And(o Set) Set {
	n := make(Set, min(len(s), len(o)))
	for i := range n {
		n[i] = s[i] & o[i]
	}
	return n
}

// Or adds all numbers of o.
func (s *Set) Or(o Set) {
	for len(*s) < len(o) {
		*s = append(*s, 0)
	}
	for i, b := range o {
		(*s)[i] |= b
	}
}

// Minus returns the numbers that are in s and not in o.
func (s Set) Minus(o Set) (l []uint32) {
	for i, b := range s {
		if i < len(o) {
			b &^= o[i]
		}
		for ; b != 0; b &= b - 1 {
			l = append(l, uint32(i*8+bits.TrailingZeros8(b)))
		}
	}
	return l
}

// Covers reports whether all numbers of o are in s: the condition of a barrier.
func (s Set) Covers(o Set) bool { return len(o.Minus(s)) == 0 }

// Clone returns a copy.
func (s Set) Clone() Set { return append(Set(nil), s...) }
