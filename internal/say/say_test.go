package say

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

type kind uint8

type named string

type stringer int

func (stringer) String() string { return "it \"is\" \x01 ü" }

var errOne = errors.New("one")

// Each verb with each value gives the same text as package fmt.
func TestLikeFmt(t *testing.T) {
	numbers := []any{0, 1, -1, 42, uint8(7), int8(-128), uint16(65535), int64(-1 << 63), uint64(1<<64 - 1), kind(3), uintptr(9), 5 * time.Second,
		[3]uint64{1, 2, 300}, []int{}, []kind{4, 5}, [2][]int{{1}, {2, 3}}, [4]byte{1, 2}, []byte{9, 8}}
	strings := []any{"", "text", "%d ü \"q\" \n", named("named"), errOne, stringer(1), syscall.ENOENT, []byte("octets"), [3]byte{'a', 'b', 0xff}, []string{"a", "b"}}
	for _, x := range []struct {
		verbs  string
		values []any
	}{
		{"%d %x %#x %v %o", numbers},
		{"%02d %04o %016x", []any{0, 1, -1, 42, 12345, int8(-128), uint64(1<<64 - 1), kind(3)}},
		{"%s %v %x %#x", strings},
		{"%q", []any{"", "text", "a\"b\\\n\x00ü\xff", named("x")}},
		{"%v %t", []any{true, false}},
		{"%v", []any{nil, error(nil)}},
	} {
		for _, verb := range splitVerbs(x.verbs) {
			for _, v := range x.values {
				if got, want := Sprintf("<"+verb+">", v), fmt.Sprintf("<"+verb+">", v); got != want {
					t.Errorf("%s of %T: %s, want %s", verb, v, got, want)
				}
			}
		}
	}
	for format, a := range map[string][]any{
		"": nil, "plain": nil, "100%%": nil, "%d%%, %s: %x": {1, "two", []byte{3}}, "%d of %d": {3, uint8(4)}, "%v (%v)": {errOne, stringer(2)},
	} {
		if got, want := Sprintf(format, a...), fmt.Sprintf(format, a...); got != want {
			t.Errorf("%q: %q, want %q", format, got, want)
		}
	}
	for format, want := range map[string]string{"%d": "%!d(MISSING)", "%": "%!(NOVERB)", "x%#": "x%!(NOVERB)"} {
		if got := Sprintf(format); got != want {
			t.Errorf("%q: %q, want %q", format, got, want)
		}
	}
	if got := Sprintf("a", 1); got != "a%!(EXTRA)" {
		t.Error(got)
	}
}

func splitVerbs(s string) []string { return strings.Fields(s) }

func TestErrorf(t *testing.T) {
	err := Errorf("%w: file %s: %d", errOne, "x", 5)
	if want := fmt.Errorf("%w: file %s: %d", errOne, "x", 5); err.Error() != want.Error() || !errors.Is(err, errOne) || errors.Unwrap(err) != errOne {
		t.Error(err)
	}
	err = Errorf("outer: %w", err)
	if !errors.Is(err, errOne) || err.Error() != "outer: one: file x: 5" {
		t.Error(err)
	}
	if err = Errorf("no cause: %v", errOne); errors.Unwrap(err) != nil || errors.Is(err, errOne) || err.Error() != "no cause: one" {
		t.Error(err)
	}
	var e syscall.Errno
	if !errors.As(Errorf("x: %w", syscall.EIO), &e) || e != syscall.EIO {
		t.Error("not found in the chain")
	}
}

// No format in the sources has a verb that this package lacks, or %w twice, and no package of the
// library imports a package that imports os.
func TestFormats(t *testing.T) {
	known := regexp.MustCompile(`^([^%]|%%|%#?(0[0-9]+)?[vsdxotqw])*$`)
	heavy := map[string]bool{"fmt": true, "os": true, "net/netip": true, "math/big": true, "crypto/sha256": true, "crypto/sha512": true, "runtime/debug": true,
		"encoding/hex": true, "hash/crc32": true, "crypto/rand": true, "io/ioutil": true, "path/filepath": true, "net": true}
	others := regexp.MustCompile(`^\.\./(say|gen|kerneltest|testrun|link/|fresh/both)`) // programs and tests
	found := 0
	err := filepath.WalkDir("..", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || others.MatchString(path) {
			return err
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if strings.HasPrefix(string(src), "//go:build !eesp_c\n") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, src, 0)
		if err != nil {
			return err
		}
		for _, i := range f.Imports {
			if p, _ := strconv.Unquote(i.Path.Value); heavy[p] {
				t.Errorf("%s imports %s, which the C library does without", path, p)
			}
		}
		ast.Inspect(f, func(n ast.Node) bool {
			l, ok := n.(*ast.BasicLit)
			if !ok || l.Kind != token.STRING || !strings.Contains(l.Value, "%") {
				return true
			}
			s, _ := strconv.Unquote(l.Value)
			if found++; !known.MatchString(s) || strings.Count(s, "%w") > 1 {
				t.Errorf("%s: %q", path, s)
			}
			return true
		})
		return nil
	})
	if err != nil || found < 200 {
		t.Fatalf("%d formats, %v", found, err)
	}
}
