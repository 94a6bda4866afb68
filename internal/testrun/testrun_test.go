package testrun

import (
	"os"
	"runtime"
	"testing"
)

type skipped struct {
	*testing.T
	why string
}

func (s *skipped) Skip(args ...any) { s.why = args[0].(string) }

// Skip writes one line for each skipped test to the file.
func TestSkip(t *testing.T) {
	path := t.TempDir() + "/list"
	t.Setenv("EESP_SKIPPED", path)
	for range 2 {
		s := &skipped{T: t}
		if Skip(s, "no such\nthing "); s.why != "no such\nthing " {
			t.Fatalf("%q", s.why)
		}
	}
	line := "no such thing: TestSkip on " + runtime.GOARCH + "\n"
	if got, err := os.ReadFile(path); err != nil || string(got) != line+line {
		t.Fatalf("%q, %v", got, err)
	}
	t.Setenv("EESP_SKIPPED", "")
	Skip(&skipped{T: t}, "not written down")
}
