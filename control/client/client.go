// Package client is the end of a client outside the cluster: it asks a granter for
// data keys. examples/clients has the same in C and Python.
package client

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"libeesp"
	"libeesp/control/agent"
	"libeesp/control/pki"
	"libeesp/control/record"
)

// Config has the identities of a client and of its granter.
type Config struct {
	Cluster record.ID
	CA      *x509.Certificate
	Cert    *x509.Certificate
	Key     ed25519.PrivateKey
	Granter string // the member's name
	Addr    string // host:port
}

// Grant asks for a pair of data keys. renew is the ID up (psp: SPI) of the pair that the client
// has, or 0. The lease counts from before the call.
func Grant(ctx context.Context, c Config, group string, renew uint64) (*record.ClientGrant, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pki.TLS(c.Cert, c.Key)}, InsecureSkipVerify: true, NextProtos: []string{"h2"}, // VerifyConnection checks the name in the cluster
		VerifyConnection: func(s tls.ConnectionState) error {
			h, err := pki.Check(s.PeerCertificates[0], c.CA, c.Cluster, x509.ExtKeyUsageServerAuth, pki.Member)
			if err == nil && h.Name != c.Granter {
				err = fmt.Errorf("%s is not the granter %s", h.Name, c.Granter)
			}
			return err
		}}
	h := agent.HTTPClient(t)
	defer h.CloseIdleConnections()
	q, err := json.Marshal(agent.GrantRequest{Group: group, Renew: renew})
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+c.Addr+"/v1/grant", bytes.NewReader(q))
	if err != nil {
		return nil, err
	}
	resp, err := h.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, record.MaxLen))
	if err != nil {
		return nil, err
	}
	defer clear(b)
	if resp.StatusCode != http.StatusOK {
		return nil, errors.New(string(bytes.TrimSpace(b)))
	}
	g := new(record.ClientGrant)
	return g, record.Decode(b, g)
}

// Keys returns the data keys of a pair: up to seal with, down to open with.
func Keys(g *record.ClientGrant) (up, down *eesp.DataKey) {
	key := func(s *record.ClientSide) *eesp.DataKey {
		k := &eesp.DataKey{ID: s.Connection, Epoch: s.Epoch, V: s.V, Profile: g.Profile, KeyLen: uint8(len(s.Key))}
		if g.Profile == record.ProfilePSP {
			k.ID = uint64(s.SPI)
		}
		copy(k.Key[:], s.Key)
		k.OptionsLen = uint8(copy(k.Options[:], g.MasterKeys))
		return k
	}
	return key(&g.Up), key(&g.Down)
}
