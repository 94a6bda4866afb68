package x86

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/cpu"
)

// The kernel reads the same instruction.
func TestCPU(t *testing.T) {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		t.Skip(err)
	}
	field := func(name string) string {
		m := regexp.MustCompile(`(?m)^` + name + `\s*: (.*)$`).FindSubmatch(b)
		if m == nil {
			t.Skipf("no %s in /proc/cpuinfo", name)
		}
		return string(m[1])
	}
	flags := strings.Fields(field("flags"))
	got := fmt.Sprintln(Vendor, Family, Model, HasVAES, HasVPCLMULQDQ)
	want := fmt.Sprintln(field("vendor_id"), field("cpu family"), field("model"), slices.Contains(flags, "vaes"), slices.Contains(flags, "vpclmulqdq"))
	if got != want {
		t.Errorf("%s, /proc/cpuinfo has %s", got, want)
	}
	if cpu.X86.HasAVX512VAES && !HasVAES {
		t.Error("x/sys/cpu knows VAES")
	}
}
