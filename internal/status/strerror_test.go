package status

import (
	"os"
	"regexp"
	"testing"
)

// shim.c has a table of its own, so that eesp_strerror works in forked children too. Its
// texts are those of Go.
func TestStrerrorTable(t *testing.T) {
	src, err := os.ReadFile("../../libeesp/shim.c")
	if err != nil {
		t.Fatal(err)
	}
	table := regexp.MustCompile(`(?s)text\[EESP_STATUS_COUNT\] = \{(.*?)\n\t\};`).FindSubmatch(src)
	if table == nil {
		t.Fatal("no table of texts in shim.c")
	}
	texts := regexp.MustCompile(`"(.*)"`).FindAllSubmatch(table[1], -1)
	if len(texts) != Count {
		t.Fatalf("%d texts, not %d", len(texts), Count)
	}
	for i, x := range texts {
		if c := Code(-i); string(x[1]) != c.String() {
			t.Errorf("%d: C says %q, Go says %q", c, x[1], c)
		}
	}
}
