package status

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestText(t *testing.T) {
	seen := map[string]bool{}
	for c := OK; c > -Count; c-- {
		s := c.String()
		if s == "" || seen[s] || strings.HasSuffix(s, ".") || s == "unknown status" {
			t.Errorf("%d: %q", c, s)
		}
		seen[s] = true
	}
	for _, c := range []Code{1, -Count, -1 << 31, 1<<31 - 1} {
		if c.String() != "unknown status" {
			t.Errorf("%d: %s", c, c)
		}
	}
	if err := fmt.Errorf("%w: more", ErrRoom); !errors.Is(err, ErrRoom) || errors.Is(err, ErrAuth) || !strings.HasPrefix(err.Error(), "eesp: ") {
		t.Error(err)
	}
}
