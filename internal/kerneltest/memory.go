package kerneltest

import (
	"bytes"
	"fmt"
	"os"
	"syscall"
	"unsafe"
)

// A cell is memory between two guard pages, which cannot be accessed.
type cell []byte

// where is a place in a cell: 0..63 beyond a multiple of 64, or next to one of the guard
// pages.
type where int

const (
	atStart where = -1
	atEnd   where = -2
)

func (w where) String() string {
	switch w {
	case atStart:
		return "start"
	case atEnd:
		return "end"
	}
	return fmt.Sprint("+", int(w))
}

// margin is the number of octets on each side of a span that are checked, if there are so
// many. It is more than the widest vector.
const margin = 128

// cells makes cells of at least size octets and room for both margins. They
// stay mapped: job records that point to them may outlive a test.
func cells(count, size int) ([]cell, error) {
	page := os.Getpagesize()
	room := (size + 2*margin + 64 + page - 1) &^ (page - 1)
	m, err := syscall.Mmap(-1, 0, count*(room+page)+page, syscall.PROT_NONE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("mmap: %w", err)
	}
	var c []cell
	for at := page; at < len(m); at += room + page {
		x := m[at : at+room : at+room]
		if err := syscall.Mprotect(x, syscall.PROT_READ|syscall.PROT_WRITE); err != nil {
			return nil, fmt.Errorf("mprotect: %w", err)
		}
		c = append(c, x)
	}
	return c, nil
}

// A span is a part of a cell, possibly empty.
type span struct {
	room     cell
	from, to int
}

func (c cell) at(n int, w where) span {
	switch w {
	case atStart:
		return span{c, 0, n}
	case atEnd:
		return span{c, len(c) - n, len(c)}
	}
	return span{c, margin + int(w), margin + int(w) + n}
}

// aligned returns a span at the multiple of 64 that is closest to the guard page.
func (c cell) aligned(n int, w where) span {
	s := c.at(n, w)
	s.from &^= 63
	s.to = s.from + n
	return s
}

func (s span) bytes() []byte { return s.room[s.from:s.to] }

// pointer returns the address of a span, even of an empty one at the end.
func (s span) pointer() unsafe.Pointer {
	return unsafe.Add(unsafe.Pointer(unsafe.SliceData(s.room)), s.from)
}

func (s span) sub(from, n int) span { return span{s.room, s.from + from, s.from + from + n} }

var canary = func() (c [margin]byte) {
	for i := range c {
		c[i] = byte(i*89 + 0x5B)
	}
	return c
}()

func (s span) margins() (before, after []byte) {
	return s.room[max(0, s.from-margin):s.from], s.room[s.to:min(len(s.room), s.to+margin)]
}

// fence fills the margins.
func (s span) fence() {
	before, after := s.margins()
	copy(before, canary[:])
	copy(after, canary[:])
}

// intact checks that the margins are as fence has filled them.
func (s span) intact() error {
	before, after := s.margins()
	if i := differ(before, canary[:len(before)]); i >= 0 {
		return fmt.Errorf("wrote %d octets before its start", len(before)-i)
	}
	if i := differ(after, canary[:len(after)]); i >= 0 {
		return fmt.Errorf("wrote octet %d after its end", i)
	}
	return nil
}

// differ is the first index at which two slices of one length differ, or -1.
func differ(a, b []byte) int {
	if bytes.Equal(a, b) {
		return -1
	}
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return -1
}
