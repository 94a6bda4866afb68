package rotation

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"libeesp/internal/testrun"
)

// build makes spin's checker of the model for n members.
func build(t *testing.T, n string) string {
	t.Helper()
	for _, tool := range []string{"spin", "gcc"} {
		if _, err := exec.LookPath(tool); err != nil {
			testrun.Skip(t, "no "+tool+" (Debian package)")
		}
	}
	model, err := filepath.Abs("model/rotation.pml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, c := range [][]string{{"spin", "-a", "-DN=" + n, model}, {"gcc", "-O2", "-w", "-DSAFETY", "-DCOLLAPSE", "-DVECTORSZ=1024", "-DMEMLIM=6000", "-o", "pan", "pan.c"}} {
		cmd := exec.Command(c[0], c[1:]...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", c, err, out)
		}
	}
	return dir
}

var (
	reErrors = regexp.MustCompile(`errors: (\d+)`)
	reStates = regexp.MustCompile(`(\d+) states, stored`)
)

// check searches all states that the budgets allow, and returns what failed.
func check(t *testing.T, dir, setting string) (failed string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Hour)
	defer cancel()
	// -E: processes that wait for ever are no error; the model says what is.
	cmd := exec.CommandContext(ctx, "./pan", "-E", "-n", "-m2000000", "-w20")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), strings.Fields(setting)...)
	out, err := cmd.CombinedOutput()
	m := reErrors.FindSubmatch(out)
	if m == nil || strings.Contains(string(out), "search not completed") && string(m[1]) == "0" || strings.Contains(string(out), "max search depth too small") {
		t.Fatalf("%s: not searched whole (%v):\n%s", setting, err, out)
	}
	if s := reStates.FindSubmatch(out); s != nil {
		t.Logf("%s: %s states, %s errors", setting, s[1], m[1])
	}
	if string(m[1]) == "0" {
		return ""
	}
	for _, l := range strings.Split(string(out), "\n") {
		if strings.Contains(l, "assertion violated") {
			return l
		}
	}
	return "an error"
}

// The model holds I1, I3, I7 and ends every rotation, and each mutant fails. In short
// tests a few of them, to see that it checks: the rest differs only if the model does.
func TestModel(t *testing.T) {
	dir := build(t, "2")
	for i, s := range []string{
		"ROTATIONS=1 CRASHES=1 SCRASHES=1",
		"ROTATIONS=1 ABORTS=1 REVOKES=1",
		"ROTATIONS=1 SETBACK=1",
		"ROTATIONS=1 EXCLUDES=1 CRASHES=1",
		"ROTATIONS=1 LOST=1 EXCLUDES=1",
		"LIVE=1 ROTATIONS=1 ABORTS=1 REVOKES=1 CRASHES=1",
		"LIVE=1 ROTATIONS=2 SCRASHES=1 LOST=1",
	} {
		if testing.Short() && i != 1 && i != 6 {
			continue
		}
		if failed := check(t, dir, s); failed != "" {
			t.Errorf("%s: %s", s, failed)
		}
	}
	for i, m := range []struct{ setting, what string }{
		{"MUTANT=1 ROTATIONS=1", "no ACTIVATE barrier"},
		{"MUTANT=2 ROTATIONS=1", "acknowledges what was fetched only"},
		{"MUTANT=3 ROTATIONS=1 CRASHES=1", "installs before it persists"},
		{"MUTANT=4 ROTATIONS=1", "RETIRE when no packet is seen"},
		{"MUTANT=5 ROTATIONS=1", "RETIRE without delay"},
		{"MUTANT=6 ROTATIONS=1", "counts instead of sets"},
		{"MUTANT=7 ROTATIONS=1 ABORTS=1", "a transaction that compares nothing"},
		{"MUTANT=8 REVOKES=1", "a standing next and a revocation"},
		{"MUTANT=9 ROTATIONS=2 ABORTS=1", "an abort that gives its number again"},
		{"MUTANT=10 ROTATIONS=2 RESTORES=1", "serials judged without their term"},
		{"MUTANT=11 ROTATIONS=1 SETBACK=1", "acknowledgements of an earlier session"},
		{"MUTANT=12 ROTATIONS=1 SETBACK=1", "a delay that outlives a member's session"},
	} {
		if testing.Short() && i%4 != 0 {
			continue
		}
		if check(t, dir, m.setting) == "" {
			t.Errorf("mutant holds: %s", m.what)
		}
	}
}

// More of everything: minutes, and the last one, of more than 18 million states and 4 GB, much longer
// beside other work.
func TestModelLarge(t *testing.T) {
	if testing.Short() || os.Getenv("EESP_TEST_LONG") == "" {
		t.Skip("EESP_TEST_LONG is not set")
	}
	// The longest first: as many run at once as there are CPUs.
	dirs := map[string]string{"2": build(t, "2"), "3": build(t, "3")}
	for _, s := range []struct{ members, setting string }{
		{"3", "LIVE=1 ROTATIONS=2 ABORTS=1 REVOKES=1 CRASHES=1 EXCLUDES=1"},
		{"2", "LIVE=1 ROTATIONS=2 ABORTS=1 REVOKES=1 CRASHES=1 SCRASHES=1 LOST=1"},
		{"2", "ROTATIONS=2 ABORTS=1 REVOKES=1 CRASHES=1"},
		{"2", "ROTATIONS=1 REVOKES=1 CRASHES=1 SCRASHES=1 EXCLUDES=1"},
		{"2", "ROTATIONS=2 RESTORES=1"},
		{"3", "ROTATIONS=1"},
		{"3", "REVOKES=1"},
	} {
		t.Run(s.members+" "+s.setting, func(t *testing.T) {
			t.Parallel()
			if failed := check(t, dirs[s.members], s.setting); failed != "" {
				t.Error(failed)
			}
		})
	}
}
