package agent

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"

	"libeesp/control/pki"
	"libeesp/control/record"
)

// JoinTLS trusts the CA that an invite pins, which the server sends along, and
// nobody else: no trust on first use.
func JoinTLS(inv *record.Invite) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"}, InsecureSkipVerify: true, // below
		VerifyConnection: func(c tls.ConnectionState) error {
			for _, x := range c.PeerCertificates[1:] {
				if record.Hash(sha256.Sum256(x.Raw)) != inv.CA {
					continue
				}
				_, err := pki.Check(c.PeerCertificates[0], x, inv.Cluster, x509.ExtKeyUsageServerAuth, pki.Server)
				return err
			}
			return errors.New("the server's certificate is not by the CA that the invite pins")
		}}
}
