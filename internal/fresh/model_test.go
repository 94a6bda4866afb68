package fresh

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"libeesp/internal/testrun"
)

// rule.pml is a model of the rule. With any delays between its steps, no packet is accepted
// twice. Variants with faults fail, so the model does find faults.
func TestModel(t *testing.T) {
	for _, tool := range []string{"spin", "gcc"} {
		if _, err := exec.LookPath(tool); err != nil {
			testrun.Skip(t, "no "+tool+" (Debian package spin)")
		}
	}
	rule, err := filepath.Abs("rule.pml")
	if err != nil {
		t.Fatal(err)
	}
	for i, x := range []struct {
		options string
		good    bool
	}{
		{"-DTWO", true}, {"-DONE -DRESTART", true}, {"-DONE -DRESET", true}, {"-DTWO -DNO_REREAD", false}, {"-DONE -DNO_CYCLE", false},
		{"-DONE -DRESTART -DMINUS", false}, {"-DONE -DRESET -DPLAIN_RAISE", false},
		{"-DONE", true}, {"-DONE -DNO_REREAD", false}, {"-DONE -DPLAIN_STORE", false},
	} {
		t.Run(strings.ReplaceAll(x.options, "-D", ""), func(t *testing.T) {
			// Short tests run one variant that holds and one that does not. The others take a
			// minute, and change only if the model does.
			if i != 0 && i != 3 && !testrun.Long() {
				t.Skip("some seconds: EESP_TEST_LONG")
			}
			t.Parallel()
			dir := t.TempDir()
			run := func(name string, args ...string) string {
				cmd := exec.Command(name, args...)
				cmd.Dir = dir
				out, err := cmd.CombinedOutput()
				if err != nil && !strings.HasSuffix(name, "pan") {
					t.Fatalf("%s: %v: %s", name, err, out)
				}
				return string(out)
			}
			run("spin", append(strings.Fields(x.options), "-a", rule)...)
			run("gcc", "-O1", "-DSAFETY", "-w", "-o", "pan", "pan.c")
			out := run(filepath.Join(dir, "pan"), "-m20000", "-w22")
			if strings.Contains(out, "max search depth too small") || strings.Contains(out, "Search not completed") && x.good ||
				strings.Contains(out, "invalid end state (") {
				t.Fatal(out)
			}
			if good := strings.Contains(out, "errors: 0"); good != x.good || !good && !strings.Contains(out, "assertion violated") {
				t.Fatalf("%s: no errors: %v, want %v: %s", x.options, good, x.good, out)
			}
		})
	}
}
