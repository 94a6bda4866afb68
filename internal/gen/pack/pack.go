// Package pack writes assembly with many instructions on a line: what is
// generated is not read line by line, and the tables of lines that the library has
// are shorter.
package pack

import "bytes"

const columns = 400

// Lines joins neighbouring instructions. Labels, directives, comments and data
// keep lines of their own. One that names a parameter is not behind another kind of
// instruction: go vet takes a line's first for the one that reads it.
func Lines(text []byte) []byte {
	var out, line bytes.Buffer
	flush := func() {
		if line.Len() > 0 {
			out.WriteByte('\t')
			out.Write(line.Bytes())
			out.WriteByte('\n')
			line.Reset()
		}
	}
	for _, l := range bytes.Split(bytes.TrimSuffix(text, []byte("\n")), []byte("\n")) {
		if !bytes.HasPrefix(l, []byte("\t")) || bytes.Contains(l, []byte("//")) {
			flush()
			out.Write(l)
			out.WriteByte('\n')
			continue
		}
		l = bytes.Join(bytes.Fields(l), []byte(" "))
		if line.Len() > 0 {
			if line.Len()+len(l) > columns || bytes.Contains(l, []byte("(FP)")) && !bytes.Equal(mnemonic(l), mnemonic(line.Bytes())) {
				flush()
			} else {
				line.WriteString("; ")
			}
		}
		line.Write(l)
	}
	flush()
	return out.Bytes()
}

func mnemonic(l []byte) []byte {
	first, _, _ := bytes.Cut(l, []byte(" "))
	return first
}
