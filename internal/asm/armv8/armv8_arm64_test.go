package armv8

import (
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/sys/cpu"

	"libeesp/internal/kernel"
	"libeesp/internal/kerneltest"
	"libeesp/internal/testrun"
)

// The variant that is not Backend. Backend is tested with the other backends.
func TestOtherVariant(t *testing.T) {
	if !Supported() {
		if kerneltest.Required("armv8") {
			t.Fatal("required, but this machine cannot run it")
		}
		testrun.Skip(t, "this machine cannot run backend armv8")
	}
	if !cpu.ARM64.HasSHA3 {
		if kerneltest.Required("eor3") {
			t.Fatal("EOR3 is required, but this CPU lacks it")
		}
		t.Skip("this CPU has no EOR3, and the variant without it is the backend")
	}
	be := choose(!cpu.ARM64.HasSHA3).backend()
	kerneltest.Run(t, &be)
}

// next gives the short and brief kernels only jobs that they can take.
func TestNext(t *testing.T) {
	const limit = 300
	for i := range 2000 {
		brief := i%2 == 0
		jobs := make([]kernel.Job, 1+rand.IntN(kernel.Chunk))
		most := 1 + rand.IntN(400)
		for i := range jobs {
			jobs[i].Len = uint32(rand.IntN(most))
		}
		slices.SortFunc(jobs, func(a, b kernel.Job) int { return int(a.Len) - int(b.Len) })
		for rest := jobs; len(rest) > 0; {
			n, kind := next(rest, limit, brief)
			if n < 1 || n > len(rest) {
				t.Fatalf("%d of %d jobs", n, len(rest))
			}
			if kind != isLong && n%4 != 0 {
				t.Fatalf("%d jobs in fours", n)
			}
			for i := 0; kind != isLong && i < n; i++ {
				steps := (rest[i].Len + 31) / 32
				if rest[i].Len > limit || steps != (rest[i&^3].Len+31)/32 || (brief && steps == 2) != (kind == isBrief) {
					t.Fatalf("job %d of %d octets beside one of %d", i, rest[i].Len, rest[i&^3].Len)
				}
			}
			rest = rest[n:]
		}
	}
}
