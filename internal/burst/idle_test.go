package burst

import (
	"testing"

	"libeesp/internal/asm"
	"libeesp/internal/status"
)

// KeepWarm seals a packet, and opens it as authentic.
func TestKeepWarm(t *testing.T) {
	be, err := asm.Selected()
	if err != nil {
		t.Fatal(err)
	}
	i, err := NewIdle(be)
	if err != nil {
		t.Fatal(err)
	}
	w, err := NewWorker()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for range 3 {
		w.KeepWarm(i)
	}
	if _, by := i.s.Stats.Read(); by[-status.OK] != 3 {
		t.Errorf("sealed %v", by)
	}
	if _, by := i.r.Stats.Read(); by[-status.OK] != 3 {
		t.Errorf("opened %v", by)
	}
	if a := testing.AllocsPerRun(100, func() { w.KeepWarm(i) }); a != 0 {
		t.Errorf("%v allocations", a)
	}
}
