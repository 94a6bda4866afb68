package main

import (
	"os"
	"regexp"
	"testing"

	"libeesp/internal/status"
)

// shim.c has a table of its own, so that eesp_strerror works in forked
// children too. It is Go's, sentence by sentence.
func TestStrerrorTable(t *testing.T) {
	src, err := os.ReadFile("shim.c")
	if err != nil {
		t.Fatal(err)
	}
	table := regexp.MustCompile(`(?s)text\[EESP_STATUS_COUNT\] = \{(.*?)\n\t\};`).FindSubmatch(src)
	if table == nil {
		t.Fatal("no table of texts in shim.c")
	}
	texts := regexp.MustCompile(`"(.*)"`).FindAllSubmatch(table[1], -1)
	if len(texts) != status.Count {
		t.Fatalf("%d texts, not %d", len(texts), status.Count)
	}
	for i, x := range texts {
		if c := status.Code(-i); string(x[1]) != c.String() {
			t.Errorf("%d: C says %q, Go says %q", c, x[1], c)
		}
	}
}
