package asm

import (
	"slices"
	"testing"

	"libeesp/internal/asm/vaes256"
	"libeesp/internal/asm/vaes512"
	"libeesp/internal/asm/vector"
)

// No CPU's tuning has short kernels take packets for which their counters are too short, and tests on
// one CPU do not see what others have.
func TestLimits(t *testing.T) {
	for _, x := range slices.Concat(vaes512.Tunings, vaes256.Tunings) {
		if x.RawLimit > vector.ShortMost || max(x.ExpandedLimit, x.RestLimit) > vector.ShortMost || max(x.PairLimit[0], x.PairLimit[1]) > vector.ShortMost {
			t.Errorf("%+v: short kernels take packets of more than %d octets", x, vector.ShortMost)
		}
	}
	for _, x := range vaes256.Tunings {
		if x.OneLimit > vector.ShortMost { // these single kernels count as short ones
			t.Errorf("%+v: single kernels take packets of more than %d octets", x, vector.ShortMost)
		}
	}
}
