// SPDX-License-Identifier: BSD-3-Clause

// Command manpages writes a manual page for each function of include/eesp.h,
// from the comment in front of it, so that `man eesp_seal_burst` works. What a
// function has no comment for is in eesp(3): its page says so.
//
// usage: manpages HEADER EESP.3 OUT-DIR
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"unicode"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "manpages:", err)
		os.Exit(1)
	}
}

type function struct {
	name, result string
	args         []string
}

// page is a comment and the functions right behind it.
type page struct {
	text      []string // the comment's lines
	functions []function
}

var declaration = regexp.MustCompile(`^(?:EESP_API|static inline) (?:EESP_MUST_CHECK )?(.*?[ *])(eesp_[a-z0-9_]+)\((.*?)\)(?:;|$)`)

func parse(header string) (pages []*page) {
	lines := strings.Split(header, "\n")
	var at *page
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		switch {
		case strings.HasPrefix(line, "/*"):
			at = &page{}
			for ; ; i++ {
				l := lines[i]
				l = strings.TrimSuffix(strings.TrimSpace(l), "*/")
				l = strings.TrimPrefix(strings.TrimPrefix(l, "/*"), "*")
				at.text = append(at.text, strings.TrimRight(strings.TrimPrefix(l, " "), " "))
				if strings.Contains(lines[i], "*/") {
					break
				}
			}
		case strings.HasPrefix(line, "EESP_API") || strings.HasPrefix(line, "static inline"):
			for !strings.Contains(lines[i], ")") || strings.Count(line, "(") != strings.Count(line, ")") {
				i++
				line += " " + strings.TrimSpace(lines[i])
			}
			m := declaration.FindStringSubmatch(line)
			if m == nil {
				check(fmt.Errorf("line %d: not understood: %s", i+1, line))
			}
			if at == nil {
				at = &page{}
			}
			if len(at.functions) == 0 {
				pages = append(pages, at)
			}
			at.functions = append(at.functions, function{m[2], strings.TrimSpace(m[1]), strings.Split(m[3], ", ")})
		case line == "":
			at = nil // a comment belongs to what is right behind it
		}
	}
	return pages
}

func escape(s string) string {
	s = strings.ReplaceAll(s, `\`, `\e`)
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s
	}
	return s
}

// summary is the first sentence, as NAME wants it.
func summary(text []string) string {
	all := strings.TrimSpace(strings.Join(text, " "))
	if end := regexp.MustCompile(`[.:;]( |$)`).FindStringIndex(all); end != nil {
		all = all[:end[0]]
	}
	for strings.Count(all, "(") > strings.Count(all, ")") { // it ended within parentheses
		all = all[:strings.LastIndex(all, "(")]
	}
	all = strings.Join(strings.Fields(all), " ")
	r := []rune(all)
	if len(r) > 1 && unicode.IsLower(r[1]) {
		r[0] = unicode.ToLower(r[0])
	}
	return string(r)
}

// contract takes the lines from "Threads:" on apart: the text in front of them, and titles with their texts.
func contract(text []string) (rest []string, terms [][2]string) {
	for i, l := range text {
		if !strings.HasPrefix(l, "Threads: ") {
			continue
		}
		all := strings.TrimSpace(strings.Join(text[i:], " "))
		if since := regexp.MustCompile(` Since ([0-9.]+)\.$`).FindStringSubmatchIndex(all); since != nil {
			terms = [][2]string{{"Since", all[since[2]:since[3]]}}
			all = all[:since[0]]
		}
		starts := regexp.MustCompile(`(?:^|\. )(Threads|Writes|Errors|Statuses): `).FindAllStringSubmatchIndex(all, -1)
		for n := len(starts) - 1; n >= 0; n-- {
			term := all[starts[n][2]:starts[n][3]]
			terms = append([][2]string{{term, all[starts[n][1]:]}}, terms...)
			all = strings.TrimSuffix(all[:starts[n][2]], " ")
		}
		return text[:i], terms
	}
	return text, nil
}

var sentences = regexp.MustCompile(`([.!?][)]?) +`)

func (p *page) write(date string) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line(`.\" Made from include/eesp.h.`)
	line(".Dd %s\n.Dt %s 3\n.Os\n.Sh NAME", date, strings.ToUpper(p.functions[0].name))
	for i, f := range p.functions {
		comma := " ,"
		if i == len(p.functions)-1 {
			comma = ""
		}
		line(".Nm %s%s", f.name, comma)
	}
	line(".Nd %s", escape(summary(p.text)))
	line(".Sh LIBRARY\nlibeesp, linked with\n.Fl leesp\n.Sh SYNOPSIS\n.In eesp.h")
	for _, f := range p.functions {
		line(".Ft %s\n.Fo %s", f.result, f.name)
		for _, a := range f.args {
			line(".Fa %q", a)
		}
		line(".Fc")
	}
	line(".Sh DESCRIPTION")
	literal, space, begun := false, false, false
	text, terms := contract(p.text)
	for _, l := range text {
		switch indented := strings.HasPrefix(l, "  "); {
		case strings.TrimSpace(l) == "":
			space = true
			continue
		case indented != literal:
			if literal {
				line(".Ed")
			} else {
				line(".Bd -literal -offset indent")
			}
			literal = indented
		case space && begun && !literal:
			line(".Pp")
		}
		space, begun = false, true
		if literal {
			line("%s", escape(l))
			continue
		}
		// mdoc wants each sentence on a line of its own.
		for _, sentence := range strings.Split(sentences.ReplaceAllString(strings.TrimSpace(l), "$1\n"), "\n") {
			line("%s", escape(sentence))
		}
	}
	if literal {
		line(".Ed")
	}
	if len(terms) != 0 {
		line(".Pp\n.Bl -tag -width Statuses -compact")
		for _, t := range terms {
			line(".It %s", t[0])
			for _, sentence := range strings.Split(sentences.ReplaceAllString(t[1], "$1\n"), "\n") {
				line("%s", escape(sentence))
			}
		}
		line(".El")
	}
	line(".Sh SEE ALSO\n.Xr eesp 3 ,\nwhich has the objects, the statuses (here without EESP_ERR_),\nthe errors that every function may return, and what is true of all of them")
	return b.String()
}

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: manpages HEADER EESP.3 OUT-DIR")
		os.Exit(2)
	}
	header, err := os.ReadFile(os.Args[1])
	check(err)
	whole, err := os.ReadFile(os.Args[2])
	check(err)
	date := regexp.MustCompile(`(?m)^\.Dd (.*)$`).FindSubmatch(whole)
	if date == nil {
		check(fmt.Errorf("%s has no .Dd", os.Args[2]))
	}
	out := os.Args[3]
	check(os.MkdirAll(out, 0o777))
	n := 0
	for _, p := range parse(string(header)) {
		for i, f := range p.functions {
			text := ".so man3/" + p.functions[0].name + ".3\n"
			if len(p.text) == 0 {
				text = ".so man3/eesp.3\n"
			} else if i == 0 {
				text = p.write(string(date[1]))
			}
			check(os.WriteFile(filepath.Join(out, f.name+".3"), []byte(text), 0o666))
			n++
		}
	}
	fmt.Printf("manual pages: %d, in %s\n", n, out)
}
