package asm

import (
	"errors"
	"slices"
	"testing"
	"unsafe"

	"libeesp/internal/generic"
	"libeesp/internal/kernel"
	"libeesp/internal/kerneltest"
	"libeesp/internal/status"
	"libeesp/internal/testrun"
)

// All backends are tested, even if EESP_BACKEND names one.
func TestBackends(t *testing.T) {
	for _, e := range list() {
		t.Run(e.backend.Name, func(t *testing.T) {
			if !e.supported() {
				if kerneltest.Required(e.backend.Name) {
					t.Fatal("required, but this machine cannot run it")
				}
				testrun.Skip(t, "this machine cannot run backend "+e.backend.Name)
			}
			kerneltest.Run(t, e.backend)
		})
	}
}

func TestRequiredExist(t *testing.T) {
	for _, name := range kerneltest.AllRequired() {
		if name != "vectors" && name != "eor3" && !slices.Contains(Names(), name) {
			t.Errorf("EESP_TEST_REQUIRE has %q: there are %q, eor3 and vectors", name, Names())
		}
	}
}

func TestSelfTestAll(t *testing.T) {
	if err := SelfTestAll(); err != nil {
		t.Fatal(err)
	}
}

// The self-test finds each kind of fault.
func TestSelfTestSees(t *testing.T) {
	faults := map[string]func(b *kernel.Backend){
		"CMAC": func(b *kernel.Backend) {
			b.Derive = func(out, msgs unsafe.Pointer, n, blocks int, m *kernel.Master, sub *[16]byte, scratch unsafe.Pointer) {
				generic.Backend.Derive(out, msgs, n-1, blocks, m, sub, scratch)
			}
		},
		"GCM seal": func(b *kernel.Backend) {
			b.Seal = func(area unsafe.Pointer, jobs *kernel.Job, n, keyLen int, mode kernel.Mode, scratch unsafe.Pointer) {
				generic.Backend.Seal(area, jobs, n, keyLen, mode, scratch)
				*(*byte)(jobs.Tag) ^= 1
			}
		},
		"GCM open: verification": func(b *kernel.Backend) {
			b.Open = func(area unsafe.Pointer, jobs *kernel.Job, n, keyLen int, mode kernel.Mode, scratch unsafe.Pointer) {
				generic.Backend.Open(area, jobs, n, keyLen, mode, scratch)
				for i := range unsafe.Slice(jobs, n) {
					unsafe.Slice(jobs, n)[i].OK = 1
				}
			}
		},
		"GCM open": func(b *kernel.Backend) {
			b.Open = func(area unsafe.Pointer, jobs *kernel.Job, n, keyLen int, mode kernel.Mode, scratch unsafe.Pointer) {
				generic.Backend.Open(area, jobs, n, keyLen, mode, scratch)
				*(*byte)(jobs.Dst) ^= 1
			}
		},
	}
	for what, fault := range faults {
		b := generic.Backend
		b.Name = "faulty"
		fault(&b)
		want := status.ErrSelfTest.Error() + ": backend faulty: " + what
		if err := SelfTest(&b); !errors.Is(err, status.ErrSelfTest) || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestSelect(t *testing.T) {
	mu.Lock()
	was := selected
	mu.Unlock()
	defer func() {
		mu.Lock()
		selected = was
		mu.Unlock()
	}()
	if Names()[len(Names())-1] != generic.Backend.Name || !Supported(generic.Backend.Name) {
		t.Errorf("the generic backend is not the last resort: %q", Names())
	}
	if Supported("no such") {
		t.Error("supports what is not there")
	}
	if b, err := Select("no such", nil); !errors.Is(err, status.ErrBackend) {
		t.Errorf("Select of a backend that is not there: %v, %v", b, err)
	}
	best := ""
	for _, e := range list() {
		if e.supported() && (e.slow == nil || !e.slow()) {
			best = e.backend.Name
			break
		}
	}
	for _, name := range Names() {
		b, err := Select(name, nil)
		if !Supported(name) {
			if !errors.Is(err, status.ErrBackend) {
				t.Errorf("%s is not supported, but Select says %v", name, err)
			}
			continue
		}
		if err != nil || b.Name != name {
			t.Errorf("Select(%s): %v, %v", name, b, err)
		} else if now, err := Selected(); now != b {
			t.Errorf("selected %s, but %v, %v is in force", name, now, err)
		}
	}
	for _, name := range []string{"", "auto"} {
		if b, err := Select(name, nil); err != nil || b.Name != best {
			t.Errorf("Select(%q): %v, %v, want %s", name, b, err, best)
		}
	}
}

func TestSelectedByEnvironment(t *testing.T) {
	mu.Lock()
	was := selected
	selected = nil
	mu.Unlock()
	defer func() {
		mu.Lock()
		selected = was
		mu.Unlock()
	}()
	t.Setenv("EESP_BACKEND", "no such")
	if b, err := Selected(); !errors.Is(err, status.ErrBackend) {
		t.Errorf("EESP_BACKEND names no backend: %v, %v", b, err)
	}
	t.Setenv("EESP_BACKEND", generic.Backend.Name)
	if b, err := Selected(); err != nil || b != &generic.Backend {
		t.Errorf("EESP_BACKEND=generic: %v, %v", b, err)
	}
}
