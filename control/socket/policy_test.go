package socket

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A policy with a typing error is refused: it is not known what it was to allow.
func TestReadPolicy(t *testing.T) {
	file := filepath.Join(t.TempDir(), "policy.json")
	if p, err := ReadPolicy(file); err != nil || len(p.Rules) != 0 || p.DetachGrace != 30 {
		t.Errorf("no file: %+v, %v", p, err)
	}
	key := strings.Repeat("0a", 32)
	for text, want := range map[string]string{
		`{"rules": [{"user": "x", "follow": ["net"]}, {"group": "y", "follow": ["*"]}], "tunnels": ["eesp*"]}` + "\n": "",
		`{"clients": [{"name": "c", "key": "` + key + `", "groups": ["net"]}], "client_lease": 300}`:                  "",
		`{"rules": [{"usr": "x", "follow": ["net"]}]}`:                                                                "unknown field",
		`{"rules": [{"follow": ["net"]}]}`:                                                                            "neither a user nor",
		`{"rule": []}`:                                                                                                "unknown field",
		`{"rules": []} more`:                                                                                          "follows the policy",
		`{"rules": [`:                                                                                                 "unexpected E",
		`{"clients": [{"name": "c", "key": "0a", "groups": ["net"]}]}`:                                                "64 hex digits",
		`{"rules": [{"user": "x", "follow": [` + strings.Repeat(`"a",`, 64) + `"a"]}]}`:                               "more than 64",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := ReadPolicy(file)
		if err == nil != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), file)) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// What is at the socket's path is removed only if it is a socket.
func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if l, err = Listen(path); err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := os.WriteFile(path, []byte("of value"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Error(err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "of value" {
		t.Errorf("%q, %v", b, err)
	}
}
