//go:build !arm64

package keys

// Four keys are interleaved: each has 16 octets of every vector of 64.
const (
	SubLane     = 16
	subNonceRow = 64
	SubMask     = 15 * subNonceRow // the vector that kernels do not use
)
