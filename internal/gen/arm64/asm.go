package main

import (
	"fmt"
	"slices"
	"strings"
)

// v is a vector register. The Go assembler has a name for each of its views.
type v int

func (r v) b() string  { return fmt.Sprintf("V%d.B16", int(r)) }
func (r v) s() string  { return fmt.Sprintf("V%d.S4", int(r)) }
func (r v) d() string  { return fmt.Sprintf("V%d.D2", int(r)) }
func (r v) lo() string { return fmt.Sprintf("V%d.D1", int(r)) } // PMULL's operands
func (r v) q() string  { return fmt.Sprintf("V%d.Q1", int(r)) } // its product
func (r v) f() string  { return fmt.Sprintf("F%d", int(r)) }    // for loads and stores

func (r v) lane(kind string, i int) string { return fmt.Sprintf("V%d.%s[%d]", int(r), kind, i) }

// x is a general register. R18 and R26 to R30 have other uses.
type x int

func (r x) String() string { return fmt.Sprintf("R%d", int(r)) }

// stream is code that may be interleaved with other code. An element is one or more
// instructions with nothing between them.
type stream []string

func (s *stream) op(format string, a ...any) { *s = append(*s, fmt.Sprintf(format, a...)) }

// join appends code; together: as one element.
func (s *stream) join(more stream, together bool) {
	if together {
		more = stream{strings.Join(more, "\n")}
	}
	*s = append(*s, more...)
}

// A function is built line by line.
type function struct {
	name, signature, doc string
	args                 []string // name and kind
	lines                stream
	labels               int
}

var functions []*function

// begin starts a function; each argument is a word: "name *byte" or "name int".
func begin(name, doc string, args ...string) *function {
	f := &function{name: name, doc: doc, args: args, signature: strings.Join(args, ", ")}
	for i, a := range args {
		n, _, _ := strings.Cut(a, " ")
		f.args[i] = n
	}
	functions = append(functions, f)
	return f
}

func (f *function) op(format string, a ...any) { f.lines.op(format, a...) }

// emit interleaves streams evenly, so that all end together and fill each other's idle
// pipelines.
func (f *function) emit(ss ...stream) {
	most := 0
	for _, s := range ss {
		most = max(most, len(s))
	}
	done := make([]int, len(ss))
	for i := 1; i <= most; i++ {
		for k, s := range ss {
			for ; done[k] < i*len(s)/most; done[k]++ {
				f.lines = append(f.lines, s[done[k]])
			}
		}
	}
}

// label makes a name that no other label of the function has.
func (f *function) label(name string) string {
	f.labels++
	return fmt.Sprintf("%s_%d", name, f.labels)
}

func (f *function) at(label string) { f.lines = append(f.lines, label+":") }

// arg loads an argument.
func (f *function) arg(name string, to x) {
	i := slices.Index(f.args, name)
	if i < 0 {
		panic(f.name + " has no argument " + name)
	}
	f.op("MOVD %s+%d(FP), %v", name, 8*i, to)
}

// leave zeroes all vector registers and the general registers in secret, and returns.
func (f *function) leave(secret ...x) {
	for i := range v(32) {
		f.op("VEOR %s, %s, %s", i.b(), i.b(), i.b())
	}
	for _, r := range secret {
		f.op("MOVD ZR, %v", r)
	}
	f.op("RET")
}

func (f *function) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "// func %s(%s)\nTEXT ·%s(SB), NOSPLIT, $0-%d\n", f.name, f.signature, f.name, 8*len(f.args))
	for _, l := range f.lines {
		if strings.HasSuffix(l, ":") {
			b.WriteString(l + "\n")
			continue
		}
		for _, i := range strings.Split(l, "\n") {
			b.WriteString("\t" + i + "\n")
		}
	}
	return b.String()
}

func (f *function) stub() string {
	return fmt.Sprintf("// %s %s\n//\n//go:noescape\nfunc %s(%s)\n", f.name, f.doc, f.name, f.signature)
}

// rodata is constants, by 64-bit words.
type rodata struct {
	name  string
	words []uint64
}

var constants []rodata

func constant(name string, words ...uint64) string {
	constants = append(constants, rodata{name, words})
	return name
}

func (c rodata) text() string {
	var b strings.Builder
	for i, w := range c.words {
		fmt.Fprintf(&b, "DATA %s<>+%d(SB)/8, $%#016x\n", c.name, 8*i, w)
	}
	fmt.Fprintf(&b, "GLOBL %s<>(SB), RODATA|NOPTR, $%d\n", c.name, 8*len(c.words))
	return b.String()
}

// octets packs octets into words.
func octets(o [16]byte) (w []uint64) {
	w = make([]uint64, 2)
	for i, c := range o {
		w[i/8] |= uint64(c) << (i % 8 * 8)
	}
	return w
}
