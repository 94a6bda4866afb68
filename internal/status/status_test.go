package status

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// The enumeration of include/eesp.h is this list, number by number.
func TestHeaderHasTheSameCodes(t *testing.T) {
	f, err := os.Open("../../include/eesp.h")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	line := regexp.MustCompile(`^\tEESP_(OK|ERR_[A-Z_]+) = (-?[0-9]+),?`)
	var names []string
	for s := bufio.NewScanner(f); s.Scan(); {
		if m := line.FindStringSubmatch(s.Text()); m != nil {
			if m[2] != fmt.Sprint(-len(names)) {
				t.Fatalf("%s is %s, want %d", m[1], m[2], -len(names))
			}
			names = append(names, m[1])
		}
		if m := strings.TrimPrefix(s.Text(), "#define EESP_STATUS_COUNT "); m != s.Text() && m != fmt.Sprint(Count) {
			t.Fatalf("EESP_STATUS_COUNT is %s", m)
		}
	}
	if len(names) != Count {
		t.Fatalf("%d codes in the header, %d here", len(names), Count)
	}
	for name, c := range map[string]Code{"OK": OK, "ERR_AUTH": ErrAuth, "ERR_ROOM": ErrRoom, "ERR_CONTEXT": ErrContext,
		"ERR_MEMORY": ErrMemory, "ERR_SEGMENTS": ErrSegments, "ERR_EPOCH": ErrEpoch,
		"ERR_SESSION": ErrSession, "ERR_SEQUENCE": ErrSequence, "ERR_PAYLOAD": ErrPayload, "ERR_WINDOWS": ErrWindows, "ERR_ENCAP": ErrEncap, "ERR_LATCHED": ErrLatched} {
		if names[-c] != name {
			t.Errorf("%d is %s in the header, %s here", c, names[-c], name)
		}
	}
}

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
