package barrier

import (
	"testing"
	"time"
)

// TestRefused: a barrier that the system refuses later makes threads use locked operations, and returns only when
// earlier plain stores have long become visible.
func TestRefused(t *testing.T) {
	defer word.Store(word.Load())
	word.Store(settling)
	began := time.Now()
	Threads()
	if d := time.Since(began); d < settle {
		t.Errorf("returned after %v", d)
	}
	if w := word.Load(); w != locked {
		t.Errorf("the word is %d, not %d", w, locked)
	}
	Threads() // does nothing
	if w := word.Load(); w != locked {
		t.Errorf("the word is %d, not %d", w, locked)
	}
}

func TestEnable(t *testing.T) {
	defer word.Store(word.Load())
	word.Store(locked)
	Enable()
	if w := word.Load(); w != plain && register() {
		t.Errorf("the word is %d, though the system has the barrier", w)
	}
	Threads()
	if w := word.Load(); w == settling {
		t.Error("a barrier that was there is not there any more")
	}
}
