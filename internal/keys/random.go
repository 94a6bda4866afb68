package keys

import (
	"fmt"

	"golang.org/x/sys/unix"

	"libeesp/internal/status"
)

// Random fills b with random octets. crypto/rand would start a timer for its first call, and that
// the runtime's poller, which keeps descriptors: a C program may close them.
func Random(b []byte) error {
	for len(b) != 0 {
		n, err := unix.Getrandom(b, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("%w: getrandom: %v", status.ErrUnsupported, err)
		}
		b = b[n:]
	}
	return nil
}
