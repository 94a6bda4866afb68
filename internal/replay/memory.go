package replay

import (
	"syscall"

	"libeesp/internal/say"
	"libeesp/internal/status"
)

// Tests replace these with memory that the race detector sees.
var reserve, release = mapped, syscall.Munmap

// mapped returns n zero octets that the collector does not see. Pages take memory when
// they are written to.
func mapped(n int) ([]byte, error) {
	m, err := syscall.Mmap(-1, 0, n, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		return nil, say.Errorf("%w: mmap of %d KiB for replay windows: %v", status.ErrMemory, n>>10, err)
	}
	return m, nil
}
