//go:build !eesp_c

package keys

import "fmt"

// Format is String for all verbs.
func (k *RootKey) Format(f fmt.State, _ rune) { fmt.Fprint(f, k.String()) }
