package record

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
)

const invitePrefix = "eesp1-"

// Text returns the invite as one line. It has four octets of its hash, so that typing errors can be told
// from invalid invites.
func (r *Invite) Text() (string, error) {
	b, err := Encode(r)
	if err != nil {
		return "", err
	}
	h := sha256.Sum256(b)
	return invitePrefix + base64.RawURLEncoding.EncodeToString(append(b, h[:4]...)), nil
}

// ParseInvite reads a line that Text made.
func ParseInvite(s string) (*Invite, error) {
	s, ok := strings.CutPrefix(strings.TrimSpace(s), invitePrefix)
	if !ok {
		return nil, fmt.Errorf("%w: an invite begins with %s", ErrMalformed, invitePrefix)
	}
	// The decoder skips line ends inside, so that one invite could be written in several ways.
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) < 4 || strings.ContainsAny(s, "\r\n") {
		return nil, fmt.Errorf("%w: the invite is incomplete: copy the whole line", ErrMalformed)
	}
	n := len(b) - 4
	if h := sha256.Sum256(b[:n]); string(h[:4]) != string(b[n:]) {
		return nil, fmt.Errorf("%w: the invite has a typing error", ErrMalformed)
	}
	r := new(Invite)
	return r, Decode(b[:n], r)
}
