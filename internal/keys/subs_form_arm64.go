package keys

// Each of four keys is in one piece.
const (
	SubLane     = subQuad / 4
	subNonceRow = subQuad
	SubMask     = SubLane - 16 // kernels do not use its end
)
