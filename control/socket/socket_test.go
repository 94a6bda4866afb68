package socket

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"libeesp/control/record"
)

func sample() State {
	s := State{Group: record.Group{ID: record.ID{1}, Name: "net", Profile: 0, AEAD: 1, V: 1, Domain: 7, Window: 1024, Contexts: 4096, MTU: 1500}, Seal: SealYes, Seq: 9}
	s.Rings[record.User] = &Ring{ID: record.ID{2}, Class: record.ClassLevel, State: record.Active, Term: 1, Step: 3, Floor: 1,
		Gens: []Gen{{1, record.Previous, record.Value{1, 2}}, {2, record.Current, record.Value{3, 4}}}}
	s.Group.Rings[record.User] = record.ID{2}
	return s
}

// Where C reads keys to is fixed: the first field, at its offset.
func TestState(t *testing.T) {
	want := sample()
	b := want.Marshal()
	if b[0] != 0 || b[1] != 1 || int(b[2])<<8|int(b[3]) != 288 {
		t.Fatalf("the values are not first: %x", b[:4])
	}
	user := b[4+3*32:]
	if user[0] != 1 || user[1] != 2 || user[32] != 3 || !bytes.Equal(user[64:96], make([]byte, 32)) || !bytes.Equal(b[4:4+96], make([]byte, 96)) {
		t.Errorf("values lie elsewhere: %x", b[4:292])
	}
	got, err := ParseState(b)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
}

func FuzzState(f *testing.F) {
	s := sample()
	f.Add(s.Marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := ParseState(b); err == nil {
			if again, err := ParseState(s.Marshal()); err != nil || !reflect.DeepEqual(s, again) {
				t.Fatalf("%+v became %+v, %v", s, again, err)
			}
		}
	})
}

func TestPolicy(t *testing.T) {
	file := filepath.Join(t.TempDir(), "policy.json")
	p, err := ReadPolicy(file)
	if err != nil || !p.May(0, 0, "net") || p.May(12345, 12345, "net") || p.DetachGrace != 30 {
		t.Errorf("without a file: %+v, %v", p, err)
	}
	if err := os.WriteFile(file, []byte(`{"rules": [{"user": "12345", "follow": ["net"]}, {"group": "777", "follow": ["*"]}, {"user": "nobody", "follow": ["x"]}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if p, err = ReadPolicy(file); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		uid, gid uint32
		group    string
		may      bool
	}{{12345, 1, "net", true}, {12345, 1, "other", false}, {54321, 777, "other", true}, {54321, 1, "net", false}, {65534, 65534, "x", true}, {65534, 65534, "net", false}} {
		if p.May(c.uid, c.gid, c.group) != c.may {
			t.Errorf("%+v", c)
		}
	}
	if err := os.WriteFile(file, []byte(`{"rules": [`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadPolicy(file); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a broken file: %v", err)
	}
}

// A program that closes its socket and lives on holds a step up until its grace
// has passed; one that is gone does not.
func TestDetached(t *testing.T) {
	s := &Server{Silent: time.Minute, Policy: Policy{DetachGrace: 600}}
	dir, err := os.MkdirTemp("", "eesp")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	l, err := Listen(filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go s.Serve(l)
	got := make(chan State, 8)
	c, err := Dial(filepath.Join(dir, "s"), "test", func(st State) error { got <- st; return nil })
	if err != nil {
		t.Fatal(err)
	}
	go c.Run()
	if err := c.Follow("net"); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); len(s.Programs()) == 0 && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
	s.Set(sample())
	if f := s.Wait(t.Context(), "net"); f != nil {
		t.Fatal(f)
	}
	if st := <-got; st.Group.Name != "net" {
		t.Errorf("%+v", st)
	}
	closed := time.Now()
	c.Close()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if p := s.Programs(); len(p) == 1 && strings.HasSuffix(p[0], "detached") {
			break
		}
	}
	s.Silent = 100 * time.Millisecond
	if f := s.Wait(t.Context(), "net"); f == nil || f.Code != record.CodeDetached {
		t.Errorf("a program that lives on: %v", f)
	}
	s.Silent, s.Policy.DetachGrace = time.Minute, 1
	if f := s.Wait(t.Context(), "net"); f != nil || time.Since(closed) < time.Second {
		t.Errorf("%v after it closed its socket, with a grace of a second: %v", time.Since(closed), f)
	}
}

// A program closes its socket while states are sent to it.
func TestClosesMeanwhile(t *testing.T) {
	for range 20 {
		file := filepath.Join(t.TempDir(), "s")
		l, err := Listen(file)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		s := &Server{Silent: time.Millisecond, Policy: Policy{DetachGrace: -1}}
		go s.Serve(l)
		c, err := Dial(file, "test", func(State) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		go c.Run()
		if err := c.Follow("net"); err != nil {
			t.Fatal(err)
		}
		shows := func(what string) bool { return strings.Contains(strings.Join(s.Programs(), "\n"), what) }
		for end := time.Now().Add(10 * time.Second); !shows("net") && time.Now().Before(end); time.Sleep(time.Millisecond) {
		}
		s.Set(sample())
		go c.Close()
		for end := time.Now().Add(10 * time.Second); !shows("detached") && time.Now().Before(end); {
			s.Set(sample())
		}
		if f := s.Wait(t.Context(), "net"); f == nil || f.Code != record.CodeDetached {
			t.Fatalf("a program that lives on: %v", f)
		}
	}
}
