package setup

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"libeesp/control/agent"
	"libeesp/control/pki"
	"libeesp/control/record"
	"libeesp/control/server"
)

// ServerFile is the file server.json of a server.
type ServerFile struct {
	Cluster string            `json:"cluster"`
	Name    string            `json:"name"`
	Listen  string            `json:"listen"`
	Addr    string            `json:"addr,omitempty"` // this server's address, for agents and other servers
	Addrs   []string          `json:"servers"`        // all servers' addresses
	Metrics string            `json:"metrics,omitempty"`
	Admin   string            `json:"admin_socket"`
	Roots   map[string][]byte `json:"roots"`
	Before  map[string][]byte `json:"roots_before,omitempty"` // roots that eespctl trust replace has replaced
	// etcd: embedded, alone or with the other servers; or Endpoints.
	Peer      string   `json:"etcd_peer,omitempty"`
	Peers     string   `json:"etcd_peers,omitempty"`
	Joins     bool     `json:"etcd_joins,omitempty"` // this one was added to others
	Endpoints []string `json:"etcd_endpoints,omitempty"`
	Prefix    string   `json:"etcd_prefix,omitempty"`
	EtcdCA    string   `json:"etcd_ca,omitempty"`
	EtcdCert  string   `json:"etcd_cert,omitempty"`
	EtcdKey   string   `json:"etcd_key,omitempty"`
}

// InitServer is a server that Init makes.
type InitServer struct{ Name, Addr string }

// InitOptions are the options of eespctl init.
type InitOptions struct {
	Dir     string
	Servers []InitServer
	Levels  []record.Level
	Pass    []byte
	// EtcdPort is the port by which the servers' etcds reach each other.
	EtcdPort string
}

func writeJSON(file string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return pki.WriteFile(file, append(b, '\n'), 0o600)
}

func parseID(s string) (id record.ID, err error) {
	if _, err := fmt.Sscanf(s, "%x", new([]byte)); err != nil || len(s) != 32 {
		return id, fmt.Errorf("no name of 32 hex digits: %q", s)
	}
	var b []byte
	fmt.Sscanf(s, "%x", &b)
	copy(id[:], b)
	return id, nil
}

// Init makes a cluster: roots, a CA, and a directory for each server.
func Init(o InitOptions) (cluster record.ID, err error) {
	if len(o.Servers) == 0 || len(o.Levels) == 0 {
		return cluster, errors.New("at least one server and one level are needed")
	}
	if err := o.check(); err != nil {
		return cluster, err
	}
	rand.Read(cluster[:])
	ca, err := pki.NewCA(cluster, time.Now())
	if err != nil {
		return cluster, err
	}
	// All of it is made beside its place, so that nothing is left of what did not work.
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return cluster, err
	}
	dir, err := os.MkdirTemp(o.Dir, ".init-")
	if err != nil {
		return cluster, err
	}
	defer os.RemoveAll(dir)
	roots := filepath.Join(dir, "roots")
	if err := os.Mkdir(roots, 0o700); err != nil {
		return cluster, err
	}
	type instance struct {
		id   record.ID
		keys map[record.Level][]byte
	}
	insts := make([]instance, len(o.Servers))
	for i := range insts {
		rand.Read(insts[i].id[:])
		insts[i].keys = map[record.Level][]byte{}
	}
	f := ServerFile{Cluster: cluster.String(), Roots: map[string][]byte{}, Admin: "/run/eespd/admin.sock"}
	delegs := map[record.Level][]byte{}
	for _, lv := range o.Levels {
		rootPub, root, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return cluster, err
		}
		d := &record.Delegation{Level: lv, Serial: 1, Term: 1, MinReader: 1}
		for i, s := range o.Servers {
			keys, in, err := newInstance(insts[i].id, s.Name, allRoles)
			if err != nil {
				return cluster, err
			}
			insts[i].keys[lv] = keys
			d.Instances = append(d.Instances, in)
		}
		if delegs[lv], err = record.Sign(d, cluster, root); err != nil {
			return cluster, err
		}
		if err := SealFile(RootFile(roots, lv), "root key", root.Seed(), o.Pass); err != nil {
			return cluster, err
		}
		f.Roots[lv.String()] = rootPub
	}
	var peers []string
	for _, s := range o.Servers {
		f.Addrs = append(f.Addrs, s.Addr)
		host, _, _ := net.SplitHostPort(s.Addr)
		peers = append(peers, s.Name+"=https://"+net.JoinHostPort(host, o.EtcdPort))
	}
	for i, s := range o.Servers {
		g := f
		if len(o.Servers) > 1 {
			_, g.Peer, _ = strings.Cut(peers[i], "=")
			g.Peers = strings.Join(peers, ",")
		}
		if err := writeServer(filepath.Join(dir, s.Name), g, s, ca, cluster); err != nil {
			return cluster, err
		}
		for lv := range insts[i].keys {
			if err := errors.Join(writeInstance(filepath.Join(dir, s.Name), lv, insts[i].keys[lv]), writeDelegation(filepath.Join(dir, s.Name), lv, delegs[lv])); err != nil {
				return cluster, err
			}
		}
	}
	for _, name := range append(o.names(), "roots") { // the roots last: with them there is a cluster
		if err := os.Rename(filepath.Join(dir, name), filepath.Join(o.Dir, name)); err != nil {
			return cluster, err
		}
	}
	return cluster, nil
}

func (o *InitOptions) names() (l []string) {
	for _, s := range o.Servers {
		l = append(l, s.Name)
	}
	return l
}

// check finds what is wrong before anything is made.
func (o *InitOptions) check() error {
	if _, err := os.Stat(filepath.Join(o.Dir, "roots")); err == nil {
		return fmt.Errorf("%s has a cluster already: name another folder (--dir)", o.Dir)
	}
	if err := checkPass(o.Pass); err != nil {
		return err
	}
	for i, s := range o.Servers {
		if err := s.check(); err != nil {
			return err
		}
		for _, x := range o.Servers[:i] {
			if x.Name == s.Name || x.Addr == s.Addr {
				return fmt.Errorf("two servers have one name or address: %s=%s, %s=%s", x.Name, x.Addr, s.Name, s.Addr)
			}
		}
		if _, err := os.Stat(filepath.Join(o.Dir, s.Name)); err == nil {
			return fmt.Errorf("%s is there already: name another folder (--dir), or remove it", filepath.Join(o.Dir, s.Name))
		}
	}
	for i, lv := range o.Levels {
		if slices.Contains(o.Levels[:i], lv) {
			return fmt.Errorf("level %v twice", lv)
		}
	}
	return nil
}

// serverName is what a server's name may be: it is a folder, and a word of etcd's list of servers.
var serverName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

func (s *InitServer) check() error {
	if !serverName.MatchString(s.Name) || s.Name == "roots" {
		return fmt.Errorf("server %q: a name of letters, digits, '.', '_' and '-' is needed, and not \"roots\"", s.Name)
	}
	host, port, err := net.SplitHostPort(s.Addr)
	if err == nil && host == "" {
		err = errors.New("by which host or address do hosts reach it?")
	}
	if n, e := strconv.ParseUint(port, 10, 16); err == nil && (e != nil || n == 0) {
		err = fmt.Errorf("port %q is no number from 1 to 65535", port)
	}
	if err != nil {
		return fmt.Errorf("server %s at %q: HOST:PORT is needed: %v", s.Name, s.Addr, err)
	}
	return nil
}

// writeServer makes a server's directory, without its instances' keys.
func writeServer(dir string, f ServerFile, s InitServer, ca *pki.CA, cluster record.ID) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	host, port, _ := net.SplitHostPort(s.Addr) // checked before
	f.Name, f.Addr, f.Listen, f.Metrics = s.Name, s.Addr, net.JoinHostPort("", port), "127.0.0.1:9743"
	if err := writeJSON(filepath.Join(dir, "server.json"), f); err != nil {
		return err
	}
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	cert, err := ca.Issue(pub, cluster, pki.Server, s.Name, pki.ServerLife, time.Now(), host)
	if err != nil {
		return err
	}
	apub, akey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	acert, err := ca.Issue(apub, cluster, pki.Admin, "operator@"+s.Name, pki.AdminLife, time.Now())
	if err != nil {
		return err
	}
	return errors.Join(pki.WriteCert(filepath.Join(dir, "ca.crt"), ca.Cert), pki.WriteKey(filepath.Join(dir, "ca.key"), ca.Key),
		pki.WriteCert(filepath.Join(dir, "server.crt"), cert), pki.WriteKey(filepath.Join(dir, "server.key"), key),
		pki.WriteCert(filepath.Join(dir, "admin.crt"), acert), pki.WriteKey(filepath.Join(dir, "admin.key"), akey))
}

func writeInstance(dir string, lv record.Level, keys []byte) error {
	return pki.WriteFile(filepath.Join(dir, "instance-"+lv.String()+".key"), keys, 0o600)
}

func writeDelegation(dir string, lv record.Level, raw []byte) error {
	return pki.WriteFile(filepath.Join(dir, "delegation-"+lv.String()+".rec"), raw, 0o644)
}

// newInstance makes an instance's keys at a level, in the format of its file, and its entry in a delegation.
func newInstance(id record.ID, name string, roles uint8) (keys []byte, in record.Instance, err error) {
	pub, sk, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, in, err
	}
	hk, err := record.NewHPKEKey()
	if err != nil {
		return nil, in, err
	}
	hb, err := hk.Bytes()
	if err != nil {
		return nil, in, err
	}
	in = record.Instance{ID: id, Name: name, HPKE: hk.PublicKey().Bytes(), Roles: roles}
	copy(in.Sign[:], pub)
	return slices.Concat(id[:], sk.Seed(), hb), in, nil
}

const allRoles = record.RoleRotate | record.RoleAdmit | record.RoleAllocate

// AddedServer is a server that AddServer made. No delegation names it yet.
type AddedServer struct {
	Dir       string
	Peer      string // of its store; "": etcd is not embedded
	Instances map[record.Level]record.Instance
}

// OwnPeer changes the store of a single server so that others can reach it: from its next start on it
// listens at peer. It returns "" if nothing needs to change, or if etcd is not embedded.
func OwnPeer(dir, port string) (peer string, err error) {
	f, err := readServerFile(dir)
	if err != nil || f.Peer != "" || len(f.Endpoints) > 0 {
		return "", err
	}
	addr := f.Addr
	if addr == "" && len(f.Addrs) > 0 {
		addr = f.Addrs[0]
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return "", fmt.Errorf("%s/server.json: addr: %w", dir, err)
	}
	return "https://" + net.JoinHostPort(host, port), nil
}

// AddServer makes the directory of another server from that of an existing one.
func AddServer(from, out string, s InitServer, port string) (a AddedServer, err error) {
	if err := s.check(); err != nil {
		return a, err
	}
	c, f, err := LoadServer(from)
	if err != nil {
		return a, err
	}
	a = AddedServer{Dir: filepath.Join(out, s.Name), Instances: map[record.Level]record.Instance{}}
	if _, err := os.Stat(a.Dir); err == nil {
		return a, fmt.Errorf("%s is there already", a.Dir)
	}
	host, _, _ := net.SplitHostPort(s.Addr)
	f.Addrs, f.Admin, f.Before = append(f.Addrs, s.Addr), "/run/eespd/admin.sock", nil
	if f.Peer, f.Peers, f.Joins = "", "", false; len(f.Endpoints) == 0 {
		a.Peer = "https://" + net.JoinHostPort(host, port)
		f.Peer, f.Joins = a.Peer, true
	}
	if err := writeServer(a.Dir, f, s, c.CA, c.Cluster); err != nil {
		return a, err
	}
	var id record.ID
	rand.Read(id[:])
	for lv := range c.Levels {
		keys, in, err := newInstance(id, s.Name, allRoles)
		if err == nil {
			err = writeInstance(a.Dir, lv, keys)
		}
		if err != nil {
			return a, err
		}
		a.Instances[lv] = in
	}
	return a, nil
}

// Finish writes what comes from the cluster: the delegations that name the server, and the machines of the
// store.
func (a *AddedServer) Finish(delegations map[record.Level][]byte, peers string) error {
	for lv, raw := range delegations {
		if err := writeDelegation(a.Dir, lv, raw); err != nil {
			return err
		}
	}
	return EditServer(a.Dir, func(f *ServerFile) { f.Peers = peers })
}

func readServerFile(dir string) (f ServerFile, err error) {
	b, err := os.ReadFile(filepath.Join(dir, "server.json"))
	if err != nil {
		return f, fmt.Errorf("%w (eespctl init makes it)", err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return f, fmt.Errorf("%s/server.json: %w", dir, err)
	}
	return f, nil
}

// Exposed returns the files with keys of a directory that others than its owner may read or write: they were
// copied without care.
func Exposed(dir string) (l []string) {
	for _, p := range []string{"*.key", "server.json", "agent.json", "cache", "records-*.json", "etcd"} {
		files, _ := filepath.Glob(filepath.Join(dir, p))
		for _, f := range files {
			if i, err := os.Stat(f); err == nil && i.Mode().Perm()&0o077 != 0 {
				l = append(l, f)
			}
		}
	}
	if i, err := os.Stat(dir); err == nil && i.Mode().Perm()&0o077 == 0 {
		return nil // nobody else gets there
	}
	return l
}

// writeCert is replaced by a test.
var writeCert = pki.WriteCert

// RenewServer renews the certificates in a server's directory, its own and its operator's, when a third of their
// life is left or less: the CA's key is there. It returns the server's, and whether a new one of either is in its
// file. What cannot be renewed does not stop the others; err names each. A new certificate of the server that cannot
// be written is returned all the same, since hosts take it: only its store reads the file, at each connection.
func RenewServer(dir string, now time.Time) (cert *x509.Certificate, renewed bool, err error) {
	c, f, err := LoadServer(dir)
	if err != nil {
		return nil, false, err
	}
	// One that is not valid yet was renewed while this machine's clock was ahead.
	due := func(c *x509.Certificate) bool {
		return now.Before(c.NotBefore) || now.After(c.NotAfter.Add(-c.NotAfter.Sub(c.NotBefore)/3))
	}
	renew := func(old *x509.Certificate, role, name string, life time.Duration, file string, hosts ...string) (n *x509.Certificate, err error) {
		pub, ok := old.PublicKey.(ed25519.PublicKey)
		if !ok {
			err = errors.New("its key is not Ed25519: it is not of this cluster")
		} else if n, err = c.CA.Issue(pub, c.Cluster, role, name, life, now, hosts...); err == nil {
			err = writeCert(filepath.Join(dir, file), n)
		}
		if renewed = renewed || err == nil; err != nil {
			err = fmt.Errorf("%s, which is valid until %v: %w", filepath.Join(dir, file), old.NotAfter, err)
		}
		return n, err
	}
	var errs []error
	cert = c.Cert
	if due(cert) {
		// It keeps the names that it has: hosts and other servers may use each of them.
		hosts := slices.DeleteFunc(slices.Clone(cert.DNSNames), func(n string) bool { return n == pki.StoreName })
		for _, ip := range cert.IPAddresses {
			hosts = append(hosts, ip.String())
		}
		if host, _, err := net.SplitHostPort(f.Addr); err == nil && host != "" && !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
		n, err := renew(cert, pki.Server, f.Name, pki.ServerLife, "server.crt", hosts...)
		if n != nil {
			cert = n
		}
		errs = append(errs, err)
	}
	// An operator's certificate may be kept elsewhere.
	if a, err := pki.ReadCert(filepath.Join(dir, "admin.crt")); err == nil && due(a) {
		_, err = renew(a, pki.Admin, "operator@"+f.Name, pki.AdminLife, "admin.crt")
		errs = append(errs, err)
	} else if err != nil && !errors.Is(err, os.ErrNotExist) {
		errs = append(errs, err)
	}
	return cert, renewed, errors.Join(errs...)
}

// LoadServer reads a server's directory.
func LoadServer(dir string) (c server.Config, f ServerFile, err error) {
	if f, err = readServerFile(dir); err != nil {
		return c, f, err
	}
	c = server.Config{Name: f.Name, Addr: f.Addr, Addrs: f.Addrs, Dir: dir, Levels: map[record.Level]server.LevelConfig{}}
	if c.Cluster, err = parseID(f.Cluster); err != nil {
		return c, f, err
	}
	caCert, err := pki.ReadCert(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return c, f, err
	}
	caKey, err := pki.ReadKey(filepath.Join(dir, "ca.key"))
	if err != nil {
		return c, f, err
	}
	c.CA = &pki.CA{Cert: caCert, Key: caKey}
	if c.Cert, err = pki.ReadCert(filepath.Join(dir, "server.crt")); err != nil {
		return c, f, err
	}
	if c.Key, err = pki.ReadKey(filepath.Join(dir, "server.key")); err != nil {
		return c, f, err
	}
	if !c.Key.Public().(ed25519.PublicKey).Equal(c.Cert.PublicKey) || !c.CA.Key.Public().(ed25519.PublicKey).Equal(c.CA.Cert.PublicKey) {
		return c, f, fmt.Errorf("%s: a certificate is not for the key beside it: copy the server's directory again, whole", dir)
	}
	for name, root := range f.Roots {
		lv, err := record.ParseLevel(name)
		if err != nil {
			return c, f, err
		}
		k, err := os.ReadFile(filepath.Join(dir, "instance-"+name+".key"))
		if err != nil {
			return c, f, err
		}
		if len(k) < 49 {
			return c, f, fmt.Errorf("%s/instance-%s.key: cut off, %d octets: copy the server's directory again", dir, name, len(k))
		}
		hk, err := record.HPKEKey(k[48:])
		if err != nil {
			return c, f, fmt.Errorf("%s/instance-%s.key: %w", dir, name, err)
		}
		lc := server.LevelConfig{Root: root, Before: f.Before[name], Keys: server.Keys{Sign: ed25519.NewKeyFromSeed(k[16:48]), HPKE: hk}}
		copy(lc.Keys.ID[:], k)
		clear(k)
		if lc.Delegation, err = os.ReadFile(filepath.Join(dir, "delegation-"+name+".rec")); err != nil {
			return c, f, err
		}
		c.Levels[lv] = lc
	}
	return c, f, nil
}

// AgentFile is the file agent.json, which makes a host a member at one controller. That of the first
// controller is in the agent's directory; others are in subdirectories.
type AgentFile struct {
	Cluster string            `json:"cluster"`
	Name    string            `json:"name"`
	Servers []string          `json:"servers"`
	Roots   map[string][]byte `json:"roots"`
	Groups  []string          `json:"groups,omitempty"` // see agent.Membership
}

// memberships returns the directories of an agent's controllers: the agent's own, and subdirectories.
func memberships(dir string) ([]string, error) {
	l, err := filepath.Glob(filepath.Join(dir, "controllers", "*", "agent.json"))
	for i := range l {
		l[i] = filepath.Dir(l[i])
	}
	return append([]string{dir}, l...), err
}

// membership returns the directory for the cluster of an invite. joined says that the host is a member of it
// already.
func membership(dir string, inv *record.Invite) (place string, joined bool, err error) {
	dirs, err := memberships(dir)
	if err != nil {
		return "", false, err
	}
	var names []string
	for lv := record.Zone; lv < record.Levels; lv++ {
		if !inv.Roots[lv].IsZero() {
			names = append(names, lv.String())
		}
	}
	place = dir
	for _, d := range dirs {
		f, err := readAgentFile(d)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", false, err
		}
		if f.Cluster == inv.Cluster.String() {
			return d, true, nil
		}
		for _, n := range names {
			if f.Roots[n] != nil {
				return "", false, fmt.Errorf("level %s has a controller on this host already, in %s: each level has one", n, d)
			}
		}
		place = filepath.Join(dir, "controllers", strings.Join(names, "-"))
	}
	return place, false, nil
}

func readAgentFile(dir string) (f AgentFile, err error) {
	b, err := os.ReadFile(filepath.Join(dir, "agent.json"))
	if err != nil {
		return f, fmt.Errorf("%w (eespd agent --join INVITE makes it)", err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return f, fmt.Errorf("%s/agent.json: %w", dir, err)
	}
	return f, nil
}

// identity returns the agent's key, which it makes the first time.
func identity(dir string) (ed25519.PrivateKey, error) {
	file := filepath.Join(dir, "identity.key")
	k, err := pki.ReadKey(file)
	if errors.Is(err, os.ErrNotExist) {
		if _, k, err = ed25519.GenerateKey(rand.Reader); err != nil {
			return nil, err
		}
		return k, pki.WriteKey(file, k)
	}
	return k, err
}

// Fingerprint returns the fingerprint of an identity key, as eespctl admit shows it.
func Fingerprint(pub ed25519.PublicKey) string {
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return ""
	}
	h := sha256.Sum256(spki)
	return fmt.Sprintf("%x", h[:8])
}

// ErrJoined is the error if the host is a member of the invite's cluster already.
var ErrJoined = errors.New("a member already; the invite is not used")

// Join makes this host a member, with an invite. It returns the fingerprint of its key. With a further
// invite, of another cluster with other levels, that cluster becomes another controller of this host; groups
// are then the names, or patterns of names, of groups with a ring there.
func Join(ctx context.Context, dir, invite, name string, groups ...string) (fingerprint string, admitted bool, err error) {
	inv, err := record.ParseInvite(invite)
	if err != nil {
		return "", false, err
	}
	for _, g := range groups {
		if _, err := path.Match(g, ""); err != nil {
			return "", false, fmt.Errorf("groups: %q: %w", g, err)
		}
	}
	dir, joined, err := membership(dir, inv)
	if err == nil && joined {
		err = ErrJoined
	}
	if err != nil {
		return "", false, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", false, err
	}
	key, err := identity(dir)
	if err != nil {
		return "", false, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return "", false, err
	}
	q, err := json.Marshal(server.JoinRequest{Secret: base64.RawURLEncoding.EncodeToString(inv.Secret[:]), Name: name, CSR: csr})
	if err != nil {
		return "", false, err
	}
	c := agent.HTTPClient(agent.JoinTLS(inv))
	defer c.CloseIdleConnections()
	var a server.JoinAnswer
	err = errors.New("the invite names no server")
	for try := range 20 {
		for _, addr := range inv.Servers {
			if err = post(ctx, c, "https://"+addr+"/v1/join", q, &a); err == nil {
				break
			}
			err = fmt.Errorf("%s: %w", addr, err)
		}
		if !errors.Is(err, errLater) {
			break
		}
		// Many hosts may come at once: each tries again after a random time.
		select {
		case <-ctx.Done():
			return "", false, ctx.Err()
		case <-time.After(time.Duration(mrand.Int64N(int64(min(5*(try+1), 60)) * int64(time.Second)))):
		}
	}
	if err != nil {
		return "", false, err
	}
	// Roots are those whose hashes are in the invite, whatever the server says.
	f := AgentFile{Cluster: inv.Cluster.String(), Name: name, Servers: a.Servers, Roots: map[string][]byte{}, Groups: groups}
	for lv := record.Zone; lv < record.Levels; lv++ {
		if inv.Roots[lv].IsZero() {
			continue
		}
		if int(lv) >= len(a.Roots) || record.HashOf(a.Roots[lv]) != inv.Roots[lv] {
			return "", false, fmt.Errorf("the root of level %v is not the one that the invite pins", lv)
		}
		f.Roots[lv.String()] = a.Roots[lv]
	}
	if err := errors.Join(writePEM(filepath.Join(dir, "agent.crt"), a.Cert), writePEM(filepath.Join(dir, "ca.crt"), a.CA), writeJSON(filepath.Join(dir, "agent.json"), f)); err != nil {
		return "", false, err
	}
	return Fingerprint(key.Public().(ed25519.PublicKey)), a.Admitted, nil
}

func writePEM(file, text string) error {
	p, _ := pem.Decode([]byte(text))
	if p == nil {
		return errors.New("no certificate in the answer")
	}
	c, err := x509.ParseCertificate(p.Bytes)
	if err != nil {
		return err
	}
	return pki.WriteCert(file, c)
}

var errLater = errors.New("later")

func post(ctx context.Context, c *http.Client, url string, q []byte, v any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(q))
	if err != nil {
		return err
	}
	resp, err := c.Do(r)
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) { // the server's limit for this address is reached
		return fmt.Errorf("%w: %w", errLater, err)
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode == http.StatusTooManyRequests {
		return fmt.Errorf("%w: %s", errLater, bytes.TrimSpace(b))
	}
	if resp.StatusCode != http.StatusOK {
		var e struct {
			Error string `json:"error"`
		}
		if json.Unmarshal(b, &e) == nil && e.Error != "" {
			return errors.New(e.Error)
		}
		return fmt.Errorf("%s: %s", resp.Status, bytes.TrimSpace(b))
	}
	return json.Unmarshal(b, v)
}

// LoadAgent reads an agent's directory.
func LoadAgent(dir string) (c agent.Config, err error) {
	dirs, err := memberships(dir)
	if err != nil {
		return c, err
	}
	for _, d := range dirs {
		m, err := loadMembership(d)
		if err != nil {
			return c, err
		}
		c.Memberships = append(c.Memberships, m)
	}
	return c, nil
}

func loadMembership(dir string) (c agent.Membership, err error) {
	f, err := readAgentFile(dir)
	if err != nil {
		return c, err
	}
	c = agent.Membership{Name: f.Name, Dir: dir, Servers: f.Servers, Roots: map[record.Level]ed25519.PublicKey{}, Groups: f.Groups, Renew: renew}
	c.Learned = func(servers []string) error {
		return editJSON(filepath.Join(dir, "agent.json"), func(f *AgentFile) { f.Servers = servers })
	}
	if c.Cluster, err = parseID(f.Cluster); err != nil {
		return c, err
	}
	for _, g := range f.Groups {
		if _, err := path.Match(g, ""); err != nil {
			return c, fmt.Errorf("%s/agent.json: groups: %q: %w", dir, g, err)
		}
	}
	for name, root := range f.Roots {
		lv, err := record.ParseLevel(name)
		if err != nil || len(root) != ed25519.PublicKeySize {
			return c, fmt.Errorf("%s/agent.json: root of %s", dir, name)
		}
		c.Roots[lv] = root
	}
	if c.CA, err = pki.ReadCert(filepath.Join(dir, "ca.crt")); err != nil {
		return c, err
	}
	if c.Cert, err = pki.ReadCert(filepath.Join(dir, "agent.crt")); err != nil {
		return c, err
	}
	if c.Key, err = pki.ReadKey(filepath.Join(dir, "identity.key")); err != nil {
		return c, fmt.Errorf("%w: bring it back, or remove %s and join with another invite", err, dir)
	}
	if !c.Key.Public().(ed25519.PublicKey).Equal(c.Cert.PublicKey) {
		return c, fmt.Errorf("%s/agent.crt is not for the key in identity.key: bring back the one that belongs to it, or remove %s and join with another invite", dir, dir)
	}
	return c, nil
}

// renew asks for a new certificate when a third of the old one's life is left.
func renew(ctx context.Context, a *agent.Controller) error {
	life := a.Cert.NotAfter.Sub(a.Cert.NotBefore)
	if time.Until(a.Cert.NotAfter) > life/3 {
		return nil
	}
	t := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pki.Pool(a.CA), Certificates: []tls.Certificate{pki.TLS(a.Cert, a.Key)}, NextProtos: []string{"h2"}}
	c := agent.HTTPClient(t)
	defer c.CloseIdleConnections()
	var ans server.JoinAnswer
	var err error
	for _, addr := range a.Addresses() {
		if err = post(ctx, c, "https://"+addr+"/v1/renew", []byte("{}"), &ans); err == nil {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("certificate of %v to %v, this clock says %v: %w", a.Cert.NotBefore, a.Cert.NotAfter, time.Now(), err)
	}
	p, _ := pem.Decode([]byte(ans.Cert))
	if p == nil {
		return errors.New("no certificate in the answer")
	}
	n, err := x509.ParseCertificate(p.Bytes)
	if err != nil {
		return err
	}
	if err := pki.WriteCert(filepath.Join(a.Dir, "agent.crt"), n); err != nil {
		return err
	}
	a.SetCert(n)
	return nil
}

// RootFile returns the file of a level's root key in the directory of the roots.
func RootFile(roots string, lv record.Level) string {
	return filepath.Join(roots, "root-"+lv.String()+".key")
}

// Root reads a level's root key with its passphrase.
func Root(file string, pass []byte) (ed25519.PrivateKey, error) {
	seed, err := OpenFile(file, "root key", pass)
	if err != nil {
		return nil, err
	}
	if len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("%s: no root key", file)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// NewRoot makes a level's root: a file with its key, encrypted with a passphrase, and one with the public
// key.
func NewRoot(dir string, lv record.Level, pass []byte) (ed25519.PublicKey, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	file := RootFile(dir, lv)
	if _, err := os.Stat(file); err == nil {
		return nil, fmt.Errorf("%s is there already", file)
	}
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	if err := SealFile(file, "root key", key.Seed(), pass); err != nil {
		return nil, err
	}
	return pub, pki.WriteFile(filepath.Join(dir, "root-"+lv.String()+".pub"), []byte(base64.StdEncoding.EncodeToString(pub)+"\n"), 0o644)
}

// ReadRoot reads the public key that NewRoot wrote.
func ReadRoot(file string) (ed25519.PublicKey, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	k, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(b)))
	if err != nil || len(k) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("%s: no root's public key", file)
	}
	return k, nil
}

// RootFingerprint returns the fingerprint of a root, for people to compare.
func RootFingerprint(pub ed25519.PublicKey) string { return fmt.Sprintf("%x", sha256.Sum256(pub)) }

// Roots returns the roots that a server's or host's directory trusts.
func Roots(dir string) (map[string][]byte, error) {
	for _, name := range []string{"server.json", "agent.json"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		var f struct {
			Roots map[string][]byte `json:"roots"`
		}
		if err == nil {
			err = json.Unmarshal(b, &f)
		}
		return f.Roots, err
	}
	return nil, fmt.Errorf("%s has no server.json and no agent.json", dir)
}

// ReplaceRoot replaces the root of a level that a server's or host's directory trusts.
func ReplaceRoot(dir string, lv record.Level, pub ed25519.PublicKey) error {
	name := lv.String()
	if _, err := os.Stat(filepath.Join(dir, "server.json")); err == nil {
		return EditServer(dir, func(f *ServerFile) {
			if f.Before == nil {
				f.Before = map[string][]byte{}
			}
			if !bytes.Equal(f.Roots[name], pub) {
				f.Before[name], f.Roots[name] = f.Roots[name], pub
			}
		})
	}
	return editJSON(filepath.Join(dir, "agent.json"), func(f *AgentFile) { f.Roots[name] = pub })
}

// EditServer changes a server's server.json.
func EditServer(dir string, f func(*ServerFile)) error {
	return editJSON(filepath.Join(dir, "server.json"), f)
}

func editJSON[T any](file string, f func(*T)) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var x T
	if err := json.Unmarshal(b, &x); err != nil {
		return err
	}
	f(&x)
	return writeJSON(file, x)
}
