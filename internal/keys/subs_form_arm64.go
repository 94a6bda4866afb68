package keys

// Each of four keys is in one piece.
const (
	SubLane     = SubQuad / 4
	subNonceRow = SubQuad
	SubMask     = SubLane - 16 // kernels do not use its end
)
