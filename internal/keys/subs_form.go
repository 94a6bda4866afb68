//go:build !arm64

package keys

// A place is a lane in vectors of 64 octets.
const (
	SubLane = 16
	subRow  = 64
	SubMask = 15 * subRow // the vector that kernels leave alone
)
