package vector

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/cpu"
)

// What the CPU says of itself is what the kernel and x/sys/cpu make of it.
func TestCPU(t *testing.T) {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		t.Skip(err)
	}
	said := func(what string) string {
		m := regexp.MustCompile(`(?m)^` + what + `\s*: (.*)$`).FindStringSubmatch(string(text))
		if m == nil {
			t.Skipf("the kernel does not tell %s", what)
		}
		return m[1]
	}
	family, model := Model()
	if v, f, m := said("vendor_id"), said("cpu family"), said("model"); Vendor() != v || strconv.Itoa(family) != f || strconv.Itoa(model) != m {
		t.Errorf("%s, family %d, model %d; the kernel says %s, %s, %s", Vendor(), family, model, v, f, m)
	}
	if flags := " " + said("flags") + " "; HasVAES() != (strings.Contains(flags, " vaes ") && strings.Contains(flags, " vpclmulqdq ")) {
		t.Errorf("VAES %t; the kernel says%s", HasVAES(), flags)
	}
	if cpu.X86.HasAVX512VAES && !HasVAES() {
		t.Error("no VAES; x/sys/cpu says there is")
	}
}
