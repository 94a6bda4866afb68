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
				if _, err := c.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: pki.Pool(x), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err != nil {
					return err
				}
				h, err := pki.HolderOf(c.PeerCertificates[0], inv.Cluster)
				if err == nil && h.Role != pki.Server {
					err = errors.New("not a server's certificate")
				}
				return err
			}
			return errors.New("the server's certificate is not by the CA that the invite pins")
		}}
}
