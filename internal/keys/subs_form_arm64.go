package keys

// A place is all of a key, in one piece.
const (
	SubLane = subGroup / 4
	subRow  = subGroup
	SubMask = SubLane - 16 // kernels leave its end alone
)
