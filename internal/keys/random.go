package keys

import (
	"golang.org/x/sys/unix"

	"libeesp/internal/say"
	"libeesp/internal/status"
)

// Random fills b with random octets. It does not use crypto/rand, whose first call starts
// a timer and with it the runtime's poller, whose descriptors a C program may close.
func Random(b []byte) error {
	for len(b) != 0 {
		n, err := unix.Getrandom(b, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return say.Errorf("%w: getrandom: %v", status.ErrUnsupported, err)
		}
		b = b[n:]
	}
	return nil
}
