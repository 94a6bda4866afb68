// Command backends prints the backends that this machine can run, a line each.
package main

import (
	"fmt"

	eesp "libeesp"
)

func main() {
	for _, b := range eesp.Backends() {
		if eesp.BackendSupported(b) {
			fmt.Println(b)
		}
	}
}
