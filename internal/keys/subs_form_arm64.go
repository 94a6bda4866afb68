package keys

// A place is all of a key, in one piece.
const (
	SubLane     = subQuad / 4
	subNonceRow = subQuad
	SubMask     = SubLane - 16 // kernels leave its end alone
)
