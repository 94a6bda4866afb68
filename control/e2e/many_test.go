package e2e

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"libeesp/control/record"
	"libeesp/control/server"
)

// Many agents in one process: EESP_TEST_AGENTS=1000 for as many.
func TestManyAgents(t *testing.T) {
	n := 12
	if x, err := strconv.Atoi(os.Getenv("EESP_TEST_AGENTS")); err == nil {
		n = x
	}
	c := newCluster(t, 1, record.Zone)
	var wg sync.WaitGroup
	hosts := make([]*host, n)
	for i := range hosts {
		hosts[i] = c.join("h"+strconv.Itoa(i), true)
	}
	c.group("net", quick)
	for _, h := range hosts {
		wg.Go(func() { h.up() })
	}
	wg.Wait()
	rested := func(gen uint64) func() bool {
		return func() bool {
			r := c.ring(0, "net")
			return r.State == "steady" && r.Current == gen && r.Barrier == n && len(r.Waiting) == 0
		}
	}
	c.within(5*time.Minute, "all in the barrier", rested(1))
	began, before, cpu := time.Now(), c.st.Commits(), cpuTime()
	c.rotate(server.RotateRequest{Ring: "net"})
	c.within(time.Minute, "rotated", rested(2))
	if w := c.st.Commits() - before; w > 25 {
		t.Errorf("%d writes for a rotation", w)
	}
	t.Logf("%d agents: a rotation took %v (CPU %v, of all agents and the server) and %d writes", n, time.Since(began).Round(time.Millisecond),
		(cpuTime() - cpu).Round(time.Millisecond), c.st.Commits()-before)
	t.Logf("all of them and the server in %s of memory", resident())
}

// resident is how much memory the process has.
func resident() string {
	b, _ := os.ReadFile("/proc/self/status")
	for l := range strings.Lines(string(b)) {
		if s, ok := strings.CutPrefix(l, "VmRSS:"); ok {
			return strings.TrimSpace(s)
		}
	}
	return "unknown"
}

// cpuTime is what the process has used: how long things take depends on who else
// wants the CPUs.
func cpuTime() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
