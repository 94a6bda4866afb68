// Package pki makes the certificates of a cluster: one CA, whose certificates
// name the holder's role in a URI. They authenticate streams. The roster
// decides what a member may have; a certificate alone admits nobody.
package pki

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"libeesp/control/record"
)

// Roles of a certificate's holder.
const (
	Server = "server"
	Member = "member"
	Admin  = "admin"
	Client = "client" // outside the cluster: gets data keys from granters
)

// Lifetimes.
const (
	CALife     = 10 * 365 * 24 * time.Hour
	ServerLife = 365 * 24 * time.Hour
	MemberLife = 30 * 24 * time.Hour
	AdminLife  = 365 * 24 * time.Hour
	ClientLife = 90 * 24 * time.Hour
	// RenewGrace is how long after it expired a certificate can still be renewed, by a member whose
	// key is on the roster.
	RenewGrace = 7 * 24 * time.Hour
)

// URI returns the name of a holder in certificates.
func URI(cluster record.ID, role, name string) *url.URL {
	return &url.URL{Scheme: "eesp", Host: cluster.String(), Path: "/" + role + "/" + name}
}

// Holder is the holder of a certificate: role, name and key.
type Holder struct {
	Role, Name string
	SPKI       record.Hash
}

// HolderOf returns the holder of a certificate. The certificate must be of this cluster.
func HolderOf(c *x509.Certificate, cluster record.ID) (h Holder, err error) {
	for _, u := range c.URIs {
		if u.Scheme == "eesp" && u.Host == cluster.String() {
			h.Role, h.Name, _ = strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
			h.SPKI = sha256.Sum256(c.RawSubjectPublicKeyInfo)
			return h, nil
		}
	}
	return h, errors.New("the certificate is not one of this cluster")
}

// Check verifies a certificate by the CA for one use, and that its holder has this role.
func Check(c, ca *x509.Certificate, cluster record.ID, use x509.ExtKeyUsage, role string) (h Holder, err error) {
	if _, err := c.Verify(x509.VerifyOptions{Roots: Pool(ca), KeyUsages: []x509.ExtKeyUsage{use}}); err != nil {
		return h, err
	}
	if h, err = HolderOf(c, cluster); err == nil && h.Role != role {
		err = fmt.Errorf("not a %s's certificate", role)
	}
	return h, err
}

// CA signs certificates.
type CA struct {
	Cert *x509.Certificate
	Key  ed25519.PrivateKey
}

func serial() *big.Int {
	b := make([]byte, 16)
	rand.Read(b)
	b[0] &= 0x7f
	return new(big.Int).SetBytes(b)
}

// NewCA makes a CA.
func NewCA(cluster record.ID, now time.Time) (*CA, error) {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{SerialNumber: serial(), Subject: pkix.Name{CommonName: "eesp " + cluster.String()[:8]}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(CALife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	der, err := x509.CreateCertificate(rand.Reader, t, t, pub, key)
	if err != nil {
		return nil, err
	}
	c, err := x509.ParseCertificate(der)
	return &CA{c, key}, err
}

// StoreName is a host name that only servers' certificates have. The servers' stores require it, since the
// CA also signs certificates of hosts.
const StoreName = "server.eesp.internal"

// Issue signs a certificate for a public key. hosts are names and addresses of a server.
func (ca *CA) Issue(pub ed25519.PublicKey, cluster record.ID, role, name string, life time.Duration, now time.Time, hosts ...string) (*x509.Certificate, error) {
	t := &x509.Certificate{SerialNumber: serial(), Subject: pkix.Name{CommonName: role + " " + name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(life),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, URIs: []*url.URL{URI(cluster, role, name)}}
	if role == Server || role == Member { // a member may be a granter
		t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	if role == Server {
		t.DNSNames = append(t.DNSNames, StoreName)
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, ca.Cert, pub, ca.Key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// Hash returns the hash of the CA's certificate, which invites have.
func (ca *CA) Hash() record.Hash { return sha256.Sum256(ca.Cert.Raw) }

// Pool returns a pool with one CA.
func Pool(c *x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(c)
	return p
}

// TLS returns a certificate and its key for package tls.
func TLS(c *x509.Certificate, key ed25519.PrivateKey) tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: key, Leaf: c}
}

// WriteCert writes a certificate as PEM.
func WriteCert(file string, c *x509.Certificate) error {
	return WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}), 0o644)
}

// WriteKey writes a private key as PEM, readable by its owner.
func WriteKey(file string, k ed25519.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return err
	}
	return WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}

func readPEM(file, kind string) ([]byte, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	p, _ := pem.Decode(b)
	if p == nil || p.Type != kind {
		return nil, fmt.Errorf("%s: no PEM %s", file, kind)
	}
	return p.Bytes, nil
}

// ReadCert reads a certificate that WriteCert wrote.
func ReadCert(file string) (*x509.Certificate, error) {
	der, err := readPEM(file, "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// ReadKey reads a key that WriteKey wrote.
func ReadKey(file string) (ed25519.PrivateKey, error) {
	der, err := readPEM(file, "PRIVATE KEY")
	if err != nil {
		return nil, err
	}
	k, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, err
	}
	e, ok := k.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s: no Ed25519 key", file)
	}
	return e, nil
}

// WriteFile writes a file so that after a crash there is either the old or the new one: it writes a new
// file, syncs, renames, and syncs the directory.
func WriteFile(file string, b []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(file), ".new-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(file))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
