package setup

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"libeesp/control/pki"
	"libeesp/control/record"
)

// What is wrong with a cluster to be made is found before anything is made, so that the next try works.
func TestInit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "c")
	try := func(pass string, levels []record.Level, servers ...InitServer) error {
		_, err := Init(InitOptions{Dir: dir, Servers: servers, Levels: levels, Pass: []byte(pass), EtcdPort: "1"})
		return err
	}
	zone := []record.Level{record.Zone}
	good := InitServer{Name: "a", Addr: "10.0.0.1:7443"}
	for what, err := range map[string]error{
		"shorter than 8":         try("short", zone, good),
		"is needed":              try("long enough", zone, InitServer{Name: "a", Addr: "10.0.0.1"}),
		"no number":              try("long enough", zone, InitServer{Name: "a", Addr: "10.0.0.1:x"}),
		"from 1 to 65535":        try("long enough", zone, InitServer{Name: "a", Addr: "10.0.0.1:65536"}),
		"by which host":          try("long enough", zone, InitServer{Name: "a", Addr: ":7443"}),
		`"../a"`:                 try("long enough", zone, InitServer{Name: "../a", Addr: "10.0.0.1:7443"}),
		`not "roots"`:            try("long enough", zone, InitServer{Name: "roots", Addr: "10.0.0.1:7443"}),
		`"a,b=c"`:                try("long enough", zone, InitServer{Name: "a,b=c", Addr: "10.0.0.1:7443"}),
		"one name":               try("long enough", zone, good, InitServer{Name: "a", Addr: "10.0.0.2:7443"}),
		"or address":             try("long enough", zone, good, InitServer{Name: "b", Addr: "10.0.0.1:7443"}),
		"level zone twice":       try("long enough", append(zone, zone...), good),
		"one server and one lev": try("long enough", zone),
	} {
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if l, err := os.ReadDir(dir); err == nil && len(l) > 0 {
		t.Errorf("it left %v", l)
	}
	if err := try("long enough", zone, good); err != nil {
		t.Fatal(err)
	}
	if _, _, err := LoadServer(filepath.Join(dir, "a")); err != nil {
		t.Error(err)
	}
	// Another one's key.
	good1, err := os.ReadFile(filepath.Join(dir, "a", "server.key"))
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(filepath.Join(dir, "a", "admin.key"))
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		key  []byte
		want bool
	}{{other, false}, {good1, true}} {
		if err := os.WriteFile(filepath.Join(dir, "a", "server.key"), x.key, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := LoadServer(filepath.Join(dir, "a")); (err == nil) != x.want {
			t.Errorf("a key that fits %v: %v", x.want, err)
		}
	}
	// Its certificates are renewed in time, also those that have expired.
	for _, x := range []struct {
		after time.Duration
		want  bool
	}{{0, false}, {pki.ServerLife / 2, false}, {pki.ServerLife * 3 / 4, true}, {pki.ServerLife, false}, {4 * pki.ServerLife, true}} {
		now := time.Now().Add(x.after)
		was, _, err := LoadServer(filepath.Join(dir, "a"))
		if err != nil {
			t.Fatal(err)
		}
		c, renewed, err := RenewServer(filepath.Join(dir, "a"), now)
		if err != nil || renewed != x.want {
			t.Fatalf("after %v: renewed %v, %v", x.after, renewed, err)
		}
		for _, k := range []struct {
			file, role string
			use        x509.ExtKeyUsage
		}{{"server.crt", pki.Server, x509.ExtKeyUsageServerAuth}, {"admin.crt", pki.Admin, x509.ExtKeyUsageClientAuth}} {
			n, err := pki.ReadCert(filepath.Join(dir, "a", k.file))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := n.Verify(x509.VerifyOptions{Roots: pki.Pool(was.CA.Cert), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{k.use}}); err != nil {
				t.Errorf("after %v: %s: %v", x.after, k.file, err)
			}
			if h, err := pki.HolderOf(n, was.Cluster); err != nil || h.Role != k.role {
				t.Errorf("%s: of %s, %v", k.file, h.Role, err)
			}
		}
		if err := c.VerifyHostname("10.0.0.1"); err != nil || !c.PublicKey.(ed25519.PublicKey).Equal(was.Cert.PublicKey) || c.VerifyHostname(pki.StoreName) != nil {
			t.Errorf("after %v: another one's certificate: %v", x.after, err)
		}
	}
	// What cannot be renewed does not keep the other from it. A certificate that does not get into its file is used.
	admin := filepath.Join(dir, "a", "admin.crt")
	kept, err := os.ReadFile(admin)
	if err != nil {
		t.Fatal(err)
	}
	late := time.Now().Add(8 * pki.ServerLife)
	until := func(file string) time.Time {
		c, err := pki.ReadCert(filepath.Join(dir, "a", file))
		if err != nil {
			return time.Time{}
		}
		return c.NotAfter
	}
	for _, file := range []string{"admin.crt", "server.crt"} {
		late = late.Add(pki.ServerLife)
		writeCert = func(f string, c *x509.Certificate) error {
			if filepath.Base(f) == file {
				return errors.New("no room")
			}
			return pki.WriteCert(f, c)
		}
		c, renewed, err := RenewServer(filepath.Join(dir, "a"), late)
		if err == nil || !renewed || !strings.Contains(err.Error(), file+", which is valid until") || !strings.Contains(err.Error(), "no room") || strings.Count(err.Error(), "\n") != 0 {
			t.Errorf("%s cannot be written: renewed %v, %v", file, renewed, err)
		}
		if c == nil || c.NotAfter.Before(late) {
			t.Errorf("%s cannot be written: the server goes on with a certificate that has expired", file)
		}
		for _, f := range []string{"admin.crt", "server.crt"} {
			if until(f).After(late) != (f != file) {
				t.Errorf("%s cannot be written: %s is valid until %v", file, f, until(f))
			}
		}
		writeCert = pki.WriteCert
	}
	// An operator's that is no certificate, or of another kind, is reported.
	other1, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, other1.Public(), other1)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		b    []byte
		want string
	}{{[]byte("nothing"), "no PEM CERTIFICATE"}, {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), "not Ed25519"}} {
		late = late.Add(pki.ServerLife)
		if err := os.WriteFile(admin, x.b, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, renewed, err := RenewServer(filepath.Join(dir, "a"), late); err == nil || !renewed || !strings.Contains(err.Error(), x.want) || until("server.crt").Before(late) {
			t.Errorf("admin.crt is %.30q: renewed %v, %v", x.b, renewed, err)
		}
	}
	if err := os.Remove(admin); err != nil {
		t.Fatal(err)
	}
	if _, _, err := RenewServer(filepath.Join(dir, "a"), late.Add(pki.ServerLife)); err != nil {
		t.Errorf("the operator's certificate is kept elsewhere: %v", err)
	}
	if err := os.WriteFile(admin, kept, 0o644); err != nil {
		t.Fatal(err)
	}
	// The clock was years ahead and is right again: a certificate that is not valid yet would be refused for years. Old
	// settings without an address, those of another server first: the certificate keeps the names that it has.
	file := filepath.Join(dir, "a", "server.json")
	settings, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var set map[string]any
	if err := json.Unmarshal(settings, &set); err != nil {
		t.Fatal(err)
	}
	delete(set, "addr")
	set["servers"] = []string{"10.0.0.9:7443"}
	b, _ := json.Marshal(set)
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	c, renewed, err := RenewServer(filepath.Join(dir, "a"), time.Now())
	if err != nil || !renewed || time.Now().Before(c.NotBefore) {
		t.Errorf("a certificate of a clock that was ahead: renewed %v, %v", renewed, err)
	}
	if c.VerifyHostname("10.0.0.1") != nil || c.VerifyHostname(pki.StoreName) != nil || len(c.DNSNames) != 1 {
		t.Errorf("renewed for %v and %v", c.DNSNames, c.IPAddresses)
	}
	if err := os.WriteFile(file, settings, 0o600); err != nil {
		t.Fatal(err)
	}
	// A key that others may read, in a folder that others may enter.
	a := filepath.Join(dir, "a")
	if l := Exposed(a); l != nil {
		t.Errorf("exposed: %v", l)
	}
	for _, x := range []struct {
		file string
		mode os.FileMode
		want int
	}{{"ca.key", 0o640, 0}, {"", 0o755, 1}, {"ca.key", 0o600, 0}} {
		if err := os.Chmod(filepath.Join(a, x.file), x.mode); err != nil {
			t.Fatal(err)
		}
		if l := Exposed(a); len(l) != x.want {
			t.Errorf("%q %o: exposed: %v", x.file, x.mode, l)
		}
	}
	if l, err := os.ReadDir(dir); err != nil || len(l) != 2 {
		t.Errorf("it made %v (%v)", l, err)
	}
	if err := try("long enough", zone, good); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("over another one: %v", err)
	}
}

// A host whose identity is gone, or another one's, is told so, and makes no new one.
func TestLoadAgent(t *testing.T) {
	dir, id := t.TempDir(), record.ID{1}
	ca, err := pki.NewCA(id, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	key, err := identity(dir)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Issue(key.Public().(ed25519.PublicKey), id, pki.Member, "h", time.Hour, time.Now())
	if err == nil {
		err = errors.Join(pki.WriteCert(filepath.Join(dir, "ca.crt"), ca.Cert), pki.WriteCert(filepath.Join(dir, "agent.crt"), cert), writeJSON(filepath.Join(dir, "agent.json"), AgentFile{Cluster: id.String(), Name: "h"}))
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := LoadAgent(dir); err != nil {
		t.Error(err)
	}
	if err := os.Remove(filepath.Join(dir, "identity.key")); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadAgent(dir); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "join with another invite") {
		t.Errorf("no identity: %v", err)
	}
	if _, err := identity(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadAgent(dir); err == nil || !strings.Contains(err.Error(), "agent.crt is not for the key") {
		t.Errorf("another one's identity: %v", err)
	}
}
