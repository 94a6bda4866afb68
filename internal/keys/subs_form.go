//go:build !arm64

package keys

// A place is a lane in vectors of 64 octets.
const (
	SubLane     = 16
	subNonceRow = 64
	SubMask     = 15 * subNonceRow // the vector that kernels leave alone
)
