// Command statuses writes internal/status/statuses.txt into the files that name statuses:
// for each, what is between its lines "statuses: begin" and "statuses: end".
// `make generate` calls it; with -check it only says which files differ.
package main

import (
	"flag"
	"fmt"
	"go/format"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A status is one line of the table.
type status struct {
	number               int
	name, what, text, py string
}

// c is its name in C.
func (s status) c() string {
	if s.number == 0 {
		return "EESP_OK"
	}
	return "EESP_ERR_" + s.name
}

// golang is its name in Go.
func (s status) golang() string {
	if s.number == 0 {
		return "OK"
	}
	name := "Err"
	for _, word := range strings.Split(s.name, "_") {
		name += word[:1] + strings.ToLower(word[1:])
	}
	return name
}

func read(name string) ([]status, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var all []status
	for n, line := range strings.Split(string(b), "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		f := strings.Split(line, " | ")
		if len(f) != 4 {
			return nil, fmt.Errorf("%s:%d: %d columns, want 4", name, n+1, len(f))
		}
		all = append(all, status{-len(all), f[0], f[1], f[2], f[3]})
	}
	return all, nil
}

// A part is what stands in a file between a line with "mark: begin" and one with
// "mark: end": line makes one line of each status, none where it is empty.
type part struct {
	file, mark string
	line       func(s status) string
}

func parts(all []status) []part {
	last := all[len(all)-1]
	widest := 0
	for _, s := range all {
		widest = max(widest, len(s.c()+" = ,")+len(strconv.Itoa(s.number)))
	}
	// One line for all of them: how many there are.
	count := func(format string) func(s status) string {
		return func(s status) string {
			if s != last {
				return ""
			}
			return fmt.Sprintf(format, len(all))
		}
	}
	return []part{
		{"include/eesp.h", "statuses", func(s status) string {
			code := fmt.Sprintf("%s = %d,", s.c(), s.number)
			if s == last {
				code = strings.TrimSuffix(code, ",")
			}
			return fmt.Sprintf("\t%-*s /* %s */", widest, code, s.what)
		}},
		{"include/eesp.h", "status count", count("#define EESP_STATUS_COUNT %d")},
		{"internal/status/status.go", "status count", count("\n// Count is one more than the number of error codes.\nconst Count = %d\n")},
		{"libeesp/shim.c", "statuses", func(s status) string { return fmt.Sprintf("\t\t%q,", s.text) }},
		{"libeesp/layout.go", "statuses", func(s status) string {
			return fmt.Sprintf("\t_ = same[C.%s-int(status.%s)]", s.c(), s.golang())
		}},
		{"internal/status/status.go", "statuses", func(s status) string {
			return fmt.Sprintf("\t%s Code = %d // %s", s.golang(), s.number, s.what)
		}},
		{"internal/status/status.go", "texts", func(s status) string { return fmt.Sprintf("\t%q,", s.text) }},
		{"errors.go", "statuses", func(s status) string {
			return fmt.Sprintf("\t%[1]s = status.%[1]s // %[2]s", s.golang(), s.what)
		}},
		{"bindings/python/src/eesp/_abi.py", "status count", count("STATUS_COUNT = %d")},
		{"bindings/python/src/eesp/_types.py", "statuses", func(s status) string { return fmt.Sprintf("    %s = %d", s.name, s.number) }},
		{"bindings/python/src/eesp/errors.py", "statuses", func(s status) string {
			if s.number == 0 {
				return ""
			}
			return fmt.Sprintf("    Status.%s: %s,", s.name, s.py)
		}},
		{"docs/eesp.3", "statuses", func(s status) string {
			return fmt.Sprintf(".It Dv %s Ta %d Ta %s", s.c(), s.number, s.what)
		}},
	}
}

// with is a file's text with p's lines put between the marks.
func (p part) with(text string, all []status) (string, error) {
	lines := strings.SplitAfter(text, "\n")
	begin := slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, " "+p.mark+": begin") })
	end := slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, " "+p.mark+": end") })
	if begin < 0 || end < begin {
		return "", fmt.Errorf("%s: no lines \"%s: begin\" and \"%[2]s: end\"", p.file, p.mark)
	}
	var b strings.Builder
	b.WriteString(strings.Join(lines[:begin+1], ""))
	for _, s := range all {
		if l := p.line(s); l != "" {
			fmt.Fprintln(&b, l)
		}
	}
	b.WriteString(strings.Join(lines[end:], ""))
	if !strings.HasSuffix(p.file, ".go") {
		return b.String(), nil
	}
	formatted, err := format.Source([]byte(b.String()))
	return string(formatted), err
}

func run() error {
	root := flag.String("root", ".", "the project's root")
	check := flag.Bool("check", false, "write nothing; exit with 1 if a file differs")
	flag.Parse()
	all, err := read(filepath.Join(*root, "internal/status/statuses.txt"))
	if err != nil {
		return err
	}
	var differ []string
	for _, p := range parts(all) {
		name := filepath.Join(*root, p.file)
		old, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		now, err := p.with(string(old), all)
		switch {
		case err != nil:
			return err
		case now == string(old):
		case *check:
			differ = append(differ, p.file)
		default:
			if err := os.WriteFile(name, []byte(now), 0o644); err != nil {
				return err
			}
		}
	}
	if differ != nil {
		return fmt.Errorf("%s: not what internal/status/statuses.txt says; run make generate", strings.Join(differ, ", "))
	}
	return nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "statuses:", err)
		os.Exit(1)
	}
}
