package agent

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"

	"libeesp/control/pki"
	"libeesp/control/record"
)

// JoinTLS returns a TLS configuration that trusts only the CA whose hash is in the invite. The server
// sends that CA's certificate. So there is no trust on first use.
func JoinTLS(inv *record.Invite) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"}, InsecureSkipVerify: true, // VerifyConnection does it
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
