package socket

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Devices returns the TUN and TAP devices of attached programs, and which program has each. It does not find
// those of programs whose descriptors the agent may not read.
func (s *Server) Devices() map[string]string {
	s.mu.Lock()
	programs := map[int]string{}
	for p := range s.planes {
		programs[p.pid] = p.name
	}
	s.mu.Unlock()
	m := map[string]string{}
	for pid, name := range programs {
		for _, d := range devicesOf(pid) {
			m[d] = name
		}
	}
	return m
}

// devicesOf returns the TUN and TAP devices that a process has open in this network namespace.
func devicesOf(pid int) (names []string) {
	proc := filepath.Join("/proc", fmt.Sprint(pid))
	ours, _ := os.Readlink("/proc/self/ns/net")
	if theirs, err := os.Readlink(proc + "/ns/net"); err != nil || theirs != ours {
		return nil
	}
	files, _ := filepath.Glob(proc + "/fdinfo/*")
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		for l := range strings.Lines(string(b)) {
			if n, ok := strings.CutPrefix(l, "iff:"); ok {
				names = append(names, strings.TrimSpace(n))
			}
		}
	}
	return names
}
