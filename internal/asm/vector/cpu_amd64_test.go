package vector

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/cpu"

	"libeesp/internal/testrun"
)

// Vendor, model and features are those that the kernel and x/sys/cpu find.
func TestCPU(t *testing.T) {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		testrun.Skip(t, err.Error())
	}
	said := func(what string) string {
		m := regexp.MustCompile(`(?m)^` + what + `\s*: (.*)$`).FindStringSubmatch(string(text))
		if m == nil {
			testrun.Skip(t, "the kernel does not tell "+what)
		}
		return m[1]
	}
	family, model := Model()
	if v, f, m := said("vendor_id"), said("cpu family"), said("model"); Vendor() != v || strconv.Itoa(family) != f || strconv.Itoa(model) != m {
		t.Errorf("%s, family %d, model %d; the kernel says %s, %s, %s", Vendor(), family, model, v, f, m)
	}
	flags := " " + said("flags") + " "
	has := func(names ...string) bool {
		for _, n := range names {
			if !strings.Contains(flags, " "+n+" ") {
				return false
			}
		}
		return true
	}
	x := &cpu.X86
	for _, f := range []struct {
		name         string
		got, kernel  bool
		others, said bool // whether x/sys/cpu knows it, and what it says
	}{
		{"SSSE3", Has.SSSE3, has("ssse3"), true, x.HasSSSE3},
		{"SSE4.1", Has.SSE41, has("sse4_1"), true, x.HasSSE41},
		{"AES", Has.AES, has("aes"), true, x.HasAES},
		{"PCLMULQDQ", Has.PCLMULQDQ, has("pclmulqdq"), true, x.HasPCLMULQDQ},
		{"AVX", Has.AVX, has("avx"), true, x.HasAVX},
		{"AVX2", Has.AVX2, has("avx2"), true, x.HasAVX2},
		{"BMI2", Has.BMI2, has("bmi2"), true, x.HasBMI2},
		{"AVX-512", Has.AVX512, has("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vbmi"), true,
			x.HasAVX512F && x.HasAVX512BW && x.HasAVX512DQ && x.HasAVX512VL && x.HasAVX512VBMI},
		{"VAES", Has.VAES, has("vaes", "vpclmulqdq"), x.HasAVX512, x.HasAVX512VAES && x.HasAVX512VPCLMULQDQ},
	} {
		if f.got != f.kernel || f.others && f.got != f.said {
			t.Errorf("%s: %t; the kernel says %t, x/sys/cpu %t", f.name, f.got, f.kernel, f.said)
		}
	}
}
