package rotation

import "crypto/ed25519"

var testKey = ed25519.NewKeyFromSeed(make([]byte, 32))
