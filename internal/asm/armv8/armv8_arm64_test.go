package armv8

import (
	"testing"

	"golang.org/x/sys/cpu"

	"libeesp/internal/kerneltest"
)

// The variant that is not Backend; that one is tested with the other backends.
func TestOtherVariant(t *testing.T) {
	if !Supported() {
		if kerneltest.Required("armv8") {
			t.Fatal("required, but this machine cannot run it")
		}
		t.Skip("this machine cannot run it")
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
