package server

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"libeesp/control/pki"
	"libeesp/control/record"
	"libeesp/control/rotation"
	"libeesp/control/store"
)

// Handler serves agents, and operators with an admin's certificate.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/stream", s.serveStream)
	mux.HandleFunc("POST /v1/join", s.paced(s.serveJoin))
	mux.HandleFunc("POST /v1/renew", s.paced(s.serveRenew))
	admin := s.admin()
	mux.HandleFunc("/v1/admin/", func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
			http.Error(w, "an operator's certificate is needed", http.StatusForbidden)
			return
		}
		h, err := pki.HolderOf(r.TLS.PeerCertificates[0], s.Cluster)
		if err != nil || h.Role != pki.Admin {
			http.Error(w, "an operator's certificate is needed", http.StatusForbidden)
			return
		}
		admin.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), whoKey{}, h.Name)))
	})
	return mux
}

// LocalHandler serves operators on a socket that only root can open.
func (s *Server) LocalHandler() http.Handler {
	admin := s.admin()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		admin.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), whoKey{}, "local")))
	})
}

// MetricsHandler serves OpenMetrics.
func (s *Server) MetricsHandler() http.Handler {
	return promhttp.HandlerFor(s.metrics.reg, promhttp.HandlerOpts{EnableOpenMetrics: true})
}

// TLSConfig returns the TLS configuration for agents and operators. Members with an expired
// certificate are let through, but only to renew it.
func (s *Server) TLSConfig() *tls.Config {
	own := func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		s.mu.Lock()
		chain := pki.TLS(s.Cert, s.Key)
		s.mu.Unlock()
		chain.Certificate = append(chain.Certificate, s.CA.Cert.Raw) // for hosts that join: their invite has its hash
		return &chain, nil
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: own, ClientAuth: tls.RequestClientCert, NextProtos: []string{"h2"},
		VerifyConnection: func(c tls.ConnectionState) error {
			if len(c.PeerCertificates) == 0 {
				return nil // only to join
			}
			_, err := c.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: pki.Pool(s.CA.Cert), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, CurrentTime: s.Now()})
			var inv x509.CertificateInvalidError
			if errors.As(err, &inv) && inv.Reason == x509.Expired {
				// Was it valid until it expired, not longer than RenewGrace ago?
				end := c.PeerCertificates[0].NotAfter
				_, e := c.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: pki.Pool(s.CA.Cert), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, CurrentTime: end})
				if late := s.Now().Sub(end); e == nil && late >= 0 && late <= pki.RenewGrace {
					return nil // only to renew: see current
				}
				err := fmt.Errorf("certificate is of %v to %v, this clock says %v", c.PeerCertificates[0].NotBefore, c.PeerCertificates[0].NotAfter, s.Now())
				if e == nil { // it is of our CA: a clock may be wrong
					s.Log.Warn("refused", "who", c.PeerCertificates[0].Subject.CommonName, "err", err)
				}
				return err
			}
			return err
		}}
}

// SetCert sets a renewed certificate, for the next connections.
func (s *Server) SetCert(c *x509.Certificate) { s.mu.Lock(); defer s.mu.Unlock(); s.Cert = c }

// current refuses expired certificates for everything but renewal, and marks the connection as verified
// for the admin's check.
func (s *Server) current(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
			c := r.TLS.PeerCertificates[0]
			if now := s.Now(); now.After(c.NotAfter) || now.Before(c.NotBefore) {
				if r.URL.Path != "/v1/renew" {
					http.Error(w, "certificate has expired: renew it", http.StatusForbidden)
					return
				}
			} else {
				r.TLS.VerifiedChains = [][]*x509.Certificate{{c, s.CA.Cert}}
				proved(r.Context())
			}
		}
		next.ServeHTTP(w, r)
	})
}

// Secure is Handler behind the checks of certificates.
func (s *Server) Secure() http.Handler { return s.current(s.Handler()) }

type whoKey struct{}

func who(r *http.Request) string { w, _ := r.Context().Value(whoKey{}).(string); return w }

// JoinRequest asks to become a member.
type JoinRequest struct {
	Secret string `json:"secret"`
	Name   string `json:"name"`
	CSR    []byte `json:"csr"` // DER
}

// JoinAnswer is a member's certificate, with the CA's and the levels' roots.
type JoinAnswer struct {
	Cert     string   `json:"cert"` // PEM
	CA       string   `json:"ca"`
	Member   string   `json:"member"`
	Roots    [][]byte `json:"roots"` // public keys, by level; the invite has their hashes
	Servers  []string `json:"servers"`
	Admitted bool     `json:"admitted"`
}

// inviteRow is an invite as it is in the store. It does not change: what was used of it says the log, in which the
// store can hide nothing from a server that knows the newest entry.
type inviteRow struct {
	Uses    int    `json:"uses"`
	Name    string `json:"name"`
	Auto    bool   `json:"auto"`
	Expires int64  `json:"expires"`
	// Terms are those in which it was made. A later one began with a backup, which may not know all uses.
	Terms map[string]uint32 `json:"terms"`
}

func secretKey(secret []byte) string {
	h := sha256.Sum256(append([]byte("eesp invite v1"), secret...))
	return "invite/" + fmt.Sprintf("%x", h[:])
}

var memberName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

func reply(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		code := http.StatusInternalServerError
		switch {
		case errors.Is(err, ErrNotFound):
			code = http.StatusNotFound
		case errors.Is(err, ErrExists), errors.Is(err, rotation.ErrGuard):
			code = http.StatusConflict
		case errors.Is(err, ErrReadOnly):
			code = http.StatusServiceUnavailable
		case errors.Is(err, errBad):
			code = http.StatusBadRequest
		}
		w.WriteHeader(code)
		json.NewEncoder(w).Encode(map[string]string{"error": err.Error()})
		return
	}
	json.NewEncoder(w).Encode(v)
}

var errBad = errors.New("bad request")

func bad(format string, a ...any) error {
	return fmt.Errorf("%w: %s", errBad, fmt.Sprintf(format, a...))
}

func body(r *http.Request, v any) error {
	d := json.NewDecoder(io.LimitReader(r.Body, 1<<20))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return bad("%v", err)
	}
	return nil
}

func (s *Server) serveJoin(w http.ResponseWriter, r *http.Request) {
	var q JoinRequest
	a, err := JoinAnswer{}, body(r, &q)
	if err == nil {
		a, err = s.join(r.Context(), q)
	}
	if err == nil {
		proved(r.Context()) // an invite counts as a certificate does
	}
	reply(w, a, err)
}

// requested checks a certificate request for a name and returns its key.
func requested(raw []byte, name string) (ed25519.PublicKey, error) {
	csr, err := x509.ParseCertificateRequest(raw)
	if err != nil || csr.CheckSignature() != nil {
		return nil, bad("certificate request")
	}
	pub, ok := csr.PublicKey.(ed25519.PublicKey)
	if !ok || !memberName.MatchString(name) {
		return nil, bad("an Ed25519 key and a name of letters, digits, '.', '_' and '-' are needed")
	}
	return pub, nil
}

// invited returns the invite with a secret, if it is for this name and has not expired.
func (s *Server) invited(ctx context.Context, secret []byte, name string) (inv inviteRow, err error) {
	key := secretKey(secret)
	kv, err := s.Store.Get(ctx, key)
	if err != nil {
		return inv, err
	}
	row, err := s.openRow(key, kv.Value, record.RoleAdmit)
	if err != nil || json.Unmarshal(row, &inv) != nil {
		if kv.Mod != 0 {
			s.Log.Error("an invite in the store is by no server of this cluster: it is not used")
		}
		return inv, errInvite
	}
	if s.Now().Unix() > inv.Expires {
		return inv, errInvite
	}
	if ok, _ := path.Match(inv.Name, name); !ok {
		return inv, bad("the invite is for %q", inv.Name)
	}
	return inv, nil
}

var errInvite = fmt.Errorf("%w: the invite is used up, has expired, or is wrong: make another (eespctl invite)", ErrNotFound)

// The entry by which an invite adds a member has this as its reason, and the first digits of the invite's hash. It is
// written only if the log has fewer than the invite's uses, and only at the newest head.
const byInvite = "invite "

func inviteName(secret []byte) string {
	_, hash, _ := strings.Cut(secretKey(secret), "/")
	return hash[:16]
}

// invite returns by which invite an entry added a member; "": by none.
func (e *entry) invite() string {
	if e.Change == record.ChangeInvite || e.Change == record.ChangeAdmit {
		if name, is := strings.CutPrefix(e.Reason, byInvite); is && len(name) >= 16 {
			return name[:16]
		}
	}
	return ""
}

// join adds a member to the rosters. It has no rights until it is admitted.
func (s *Server) join(ctx context.Context, q JoinRequest) (a JoinAnswer, err error) {
	pub, err := requested(q.CSR, q.Name)
	if err != nil {
		return a, err
	}
	secret, err := base64.RawURLEncoding.DecodeString(q.Secret)
	if err != nil || len(secret) != 16 {
		return a, bad("invite")
	}
	inv, err := s.invited(ctx, secret, q.Name)
	if err != nil {
		return a, err
	}
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return a, err
	}
	hash := record.Hash(sha256.Sum256(spki))
	id, _, state := s.find(hash)
	if state == record.Revoked {
		return a, bad("this key was revoked: make another (remove the agent's identity.key)")
	}
	if id.IsZero() {
		id = randomID()
	}
	if err := s.each(func(l *Level) error {
		_, err := l.commit(ctx, func() (*change, error) {
			if l.head == nil {
				return nil, fmt.Errorf("%w: level %v has no log yet", rotation.ErrGuard, l.Level)
			}
			next, named := uint32(0), false
			for _, m := range l.members {
				if m.rec.ID == id {
					return nil, errNothing // the same host again
				}
				named = named || m.rec.Name == q.Name && m.rec.State != record.Revoked
				next = max(next, m.rec.Number+1)
			}
			use := inviteName(secret)
			if l.names.uses[use] >= inv.Uses || inv.Terms[l.Level.String()] != l.head.Term {
				return nil, errInvite
			}
			if named {
				return nil, fmt.Errorf("%w: a member named %s; revoke it first", ErrExists, q.Name)
			}
			m := &record.Member{ID: id, Number: next, Name: q.Name, SPKI: hash, State: record.Invited}
			c := &change{head: record.Head{Change: record.ChangeInvite, Who: q.Name, Reason: byInvite + use}, members: []*record.Member{m}}
			if inv.Auto {
				m.State, c.head.Change = record.Absent, record.ChangeAdmit
				c.head.Reason += " with --auto-admit"
			}
			return c, nil
		})
		return err
	}); err != nil {
		return a, err
	}
	cert, err := s.CA.Issue(pub, s.Cluster, pki.Member, q.Name, pki.MemberLife, s.Now())
	if err != nil {
		return a, err
	}
	a = JoinAnswer{Cert: pemCert(cert), CA: pemCert(s.CA.Cert), Member: id.String(), Servers: s.known(ctx), Admitted: inv.Auto, Roots: make([][]byte, record.Levels)}
	for lv, lc := range s.Levels {
		a.Roots[lv] = lc.Root
	}
	s.Log.Info("joined", "member", q.Name, "key", fmt.Sprintf("%x", hash[:8]))
	return a, nil
}

func pemCert(c *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

// serveRenew gives a member a new certificate for the key that is on the roster.
func (s *Server) serveRenew(w http.ResponseWriter, r *http.Request) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		http.Error(w, "a member's certificate is needed", http.StatusForbidden)
		return
	}
	c := r.TLS.PeerCertificates[0]
	h, err := pki.HolderOf(c, s.Cluster)
	pub, ok := c.PublicKey.(ed25519.PublicKey)
	_, _, state := s.find(h.SPKI)
	if err != nil || !ok || h.Role != pki.Member || state == 0 || state == record.Revoked {
		http.Error(w, "not a member", http.StatusForbidden)
		return
	}
	n, err := s.CA.Issue(pub, s.Cluster, pki.Member, h.Name, pki.MemberLife, s.Now())
	if err != nil {
		reply(w, nil, err)
		return
	}
	reply(w, JoinAnswer{Cert: pemCert(n), CA: pemCert(s.CA.Cert), Servers: s.known(r.Context())}, nil)
}

// Requests of operators.
type (
	// InviteRequest asks for an invite.
	InviteRequest struct {
		Name    string `json:"name"` // the member's, or a pattern
		Uses    int    `json:"uses"`
		Auto    bool   `json:"auto"`
		Minutes int    `json:"minutes"`
	}
	// AdmitRequest admits members: those that are named, or all.
	AdmitRequest struct {
		Names []string `json:"names"`
		All   bool     `json:"all"`
	}
	// GroupRequest makes a group with a ring at each level, or only rings, for a group of another
	// controller.
	GroupRequest struct {
		Name   string   `json:"name"`
		Levels []string `json:"levels"`
		// Rings are the IDs of rings of other controllers, by level.
		Rings    map[string]string `json:"rings,omitempty"`
		Profile  uint8             `json:"profile"`
		AEAD     uint8             `json:"aead"`
		V        uint8             `json:"v"`
		Domain   uint32            `json:"domain"`
		Mode     uint8             `json:"mode"`
		Window   uint32            `json:"window"`
		Contexts uint32            `json:"contexts"`
		Replay   string            `json:"replay"` // "windows", also if not given, or "time"
		NoStart  bool              `json:"no_offline_start"`
		Policy   *record.Policy    `json:"policy"`
	}
	// RotateRequest rotates a ring; no name: all rings.
	RotateRequest struct {
		Ring      string `json:"ring"`
		Reason    string `json:"reason"`
		Emergency bool   `json:"emergency"`
		Hard      bool   `json:"hard"`
	}
	// NameRequest names a member or a ring.
	NameRequest struct {
		Name   string `json:"name"`
		Reason string `json:"reason"`
	}
)

type (
	// GranterRequest allows a member to give data keys to clients, or ends that.
	GranterRequest struct {
		Name string `json:"name"`
		Off  bool   `json:"off"`
	}
	// ClientRequest asks for a client's certificate.
	ClientRequest struct {
		Name string `json:"name"`
		CSR  []byte `json:"csr"` // DER
	}
	// ClientAnswer has the client's certificate, and the CA's, to verify granters.
	ClientAnswer struct {
		Cert    string `json:"cert"` // PEM
		CA      string `json:"ca"`
		Cluster string `json:"cluster"`
		Key     string `json:"key"` // hash of the client's key, for policies of granters
	}
)

func handle[Q any](mux *http.ServeMux, pattern string, f func(context.Context, string, Q) (any, error)) {
	mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		var q Q
		if r.Method == http.MethodPost {
			if err := body(r, &q); err != nil {
				reply(w, nil, err)
				return
			}
		}
		v, err := f(r.Context(), who(r), q)
		reply(w, v, err)
	})
}

type none struct{}

func (s *Server) admin() http.Handler {
	mux := http.NewServeMux()
	handle(mux, "GET /v1/admin/status", func(context.Context, string, none) (any, error) { return s.Status(), nil })
	handle(mux, "GET /v1/admin/members", func(context.Context, string, none) (any, error) { return s.MembersStatus(), nil })
	handle(mux, "POST /v1/admin/invite", s.Invite)
	handle(mux, "POST /v1/admin/admit", s.Admit)
	handle(mux, "POST /v1/admin/group", s.CreateGroup)
	handle(mux, "POST /v1/admin/ring", s.CreateRing)
	handle(mux, "POST /v1/admin/rotate", s.Rotate)
	handle(mux, "POST /v1/admin/abort", s.Abort)
	handle(mux, "POST /v1/admin/revoke", s.Revoke)
	handle(mux, "POST /v1/admin/exclude", s.Exclude)
	handle(mux, "POST /v1/admin/granter", s.Granter)
	handle(mux, "POST /v1/admin/client", s.Client)
	handle(mux, "POST /v1/admin/epoch", s.Epoch)
	handle(mux, "POST /v1/admin/delegate", s.Delegate)
	handle(mux, "POST /v1/admin/store", s.StoreMember)
	handle(mux, "POST /v1/admin/freeze", s.Freeze)
	mux.HandleFunc("GET /v1/admin/audit", s.serveAudit)
	mux.HandleFunc("GET /v1/admin/backup", s.serveBackup)
	mux.HandleFunc("POST /v1/admin/term", s.serveTerm)
	mux.HandleFunc("POST /v1/admin/import", s.serveImport)
	mux.HandleFunc("GET /v1/admin/delegation", func(w http.ResponseWriter, r *http.Request) {
		lv, err := record.ParseLevel(r.URL.Query().Get("level"))
		l := s.levels[lv]
		if err != nil || l == nil {
			reply(w, nil, bad("no such level"))
			return
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		root := l.root
		if l.replaced {
			root = l.before
		}
		reply(w, map[string]any{"delegation": l.deleg.raw, "cluster": s.Cluster.String(), "read_only": l.broken, "root": root, "new_root": l.root, "term": l.lastTerm()}, nil)
	})
	return mux
}

// Invite makes an invite. The store has only its hash.
func (s *Server) Invite(ctx context.Context, _ string, q InviteRequest) (any, error) {
	if q.Name == "" {
		q.Name = "*"
	}
	if q.Uses == 0 {
		q.Uses = 1
	}
	if q.Minutes == 0 {
		q.Minutes = 60
	}
	if _, err := path.Match(q.Name, ""); err != nil || q.Uses < 1 || q.Uses > 65535 || q.Minutes < 1 {
		return nil, bad("name, uses or minutes")
	}
	inv := record.Invite{Cluster: s.Cluster, CA: s.CA.Hash(), Servers: s.known(ctx), Secret: randomID(), Uses: uint16(q.Uses), Name: q.Name}
	for lv, lc := range s.Levels {
		inv.Roots[lv] = record.HashOf(lc.Root)
	}
	text, err := inv.Text()
	if err != nil {
		return nil, err
	}
	made := inviteRow{q.Uses, q.Name, q.Auto, s.Now().Unix() + int64(q.Minutes)*60, map[string]uint32{}}
	s.each(func(l *Level) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		made.Terms[l.Level.String()] = l.deleg.rec.Term
		return nil
	})
	row, _ := json.Marshal(made)
	key := secretKey(inv.Secret[:])
	if _, err := s.Store.Commit(ctx, store.Txn{Put: []store.KV{{Key: key, Value: s.sealRow(key, row)}}}); err != nil {
		return nil, err
	}
	return map[string]any{"invite": text, "uses": q.Uses, "minutes": q.Minutes}, nil
}

// Admit lets invited members have keys. Rotations wait for them (the barrier) from when they have
// acknowledged the newest step.
func (s *Server) Admit(ctx context.Context, by string, q AdmitRequest) (any, error) {
	done := map[string]string{}
	err := s.each(func(l *Level) error {
		for range 1000 {
			e, err := l.commit(ctx, func() (*change, error) {
				c := &change{head: record.Head{Change: record.ChangeAdmit, Who: by}}
				for _, m := range l.members {
					if m.rec.State == record.Invited && (q.All || slices.Contains(q.Names, m.rec.Name)) && len(c.members) < perEntry {
						x := m.rec
						x.State = record.Absent
						c.members = append(c.members, &x)
						done[x.Name] = fmt.Sprintf("%x", x.SPKI[:8])
					}
				}
				if len(c.members) == 0 {
					return nil, errNothing
				}
				return c, nil
			})
			if err != nil || e == nil {
				return err
			}
		}
		return nil
	})
	for _, n := range q.Names {
		if _, ok := done[n]; !ok && err == nil {
			err = fmt.Errorf("%w: %s is not waiting to be admitted", ErrNotFound, n)
		}
	}
	return map[string]any{"admitted": done}, err
}

// CreateGroup makes a group and a ring at each of its levels.
func (s *Server) CreateGroup(ctx context.Context, by string, q GroupRequest) (any, error) {
	if !memberName.MatchString(q.Name) {
		return nil, bad("a group's name has letters, digits, '.', '_' and '-'")
	}
	if q.Profile > record.ProfileTSS {
		return nil, bad("profile %d: groups are of profile stateless (0), psp (1) or tss (2)", q.Profile)
	}
	if len(q.Levels) == 0 {
		s.each(func(l *Level) error { q.Levels = append(q.Levels, l.Level.String()); return nil })
		if q.Profile == record.ProfilePSP { // without ring, but of one level
			q.Levels = q.Levels[:1]
		}
	}
	if q.Profile == record.ProfileTSS && len(q.Levels) != 1 {
		return nil, bad("a group of profile tss has one ring: name one level")
	}
	times := map[string]uint8{"": 0, "windows": 0, "time": 1}
	if _, known := times[q.Replay]; !known || q.Profile != 0 && times[q.Replay] == 1 {
		return nil, bad("replay %q: windows or, for groups of profile stateless, time", q.Replay)
	}
	if q.Profile == record.ProfilePSP && len(q.Levels) != 1 {
		return nil, bad("a group of profile psp has no ring, and one level that it belongs to: name one")
	}
	if q.Window == 0 {
		q.Window = 1024
	}
	if q.Contexts == 0 {
		q.Contexts = 4096
	}
	p := record.DefaultPolicy
	if q.Policy != nil {
		p = *q.Policy
	}
	if err := s.unused(q.Name); err != nil {
		return nil, err
	}
	g := record.Group{ID: randomID(), Name: q.Name, Profile: q.Profile, AEAD: q.AEAD, V: q.V, Domain: q.Domain, Mode: q.Mode, Window: q.Window, Contexts: q.Contexts, CounterMode: times[q.Replay], OfflineStart: !q.NoStart}
	var owner *Level
	class := record.ClassLevel
	if q.Profile == record.ProfileTSS {
		class = record.ClassTSS
	}
	for _, name := range q.Levels {
		l, err := s.levelNamed(name)
		if err != nil {
			return nil, err
		}
		if q.Profile != record.ProfilePSP {
			g.Rings[l.Level] = randomID()
		}
		if owner == nil {
			owner = l
		}
	}
	if len(q.Rings) > 0 {
		if q.Profile != 0 || q.V != 1 {
			return nil, bad("a group with rings of several controllers is of profile stateless, and its IDs have 8 octets: hosts draw them")
		}
		lowest := slices.IndexFunc(g.Rings[:], func(id record.ID) bool { return !id.IsZero() })
		owner = s.levels[record.Level(lowest)]
	}
	for name, text := range q.Rings {
		lv, err := record.ParseLevel(name)
		if err != nil {
			return nil, bad("%v", err)
		}
		if s.levels[lv] != nil {
			return nil, bad("level %s is this controller's own: its ring is made with the group", name)
		}
		if lv < owner.Level {
			return nil, bad("a group is made at the controller of its lowest level, which is %s", name)
		}
		b, err := hex.DecodeString(text)
		if err != nil || copy(g.Rings[lv][:], b) != len(g.Rings[lv]) || len(b) != len(g.Rings[lv]) || g.Rings[lv].IsZero() {
			return nil, bad("ring %q: 32 hex digits are needed, as eespctl group ring at its controller prints them", text)
		}
	}
	g.Level = owner.Level
	for lv := range g.Rings {
		l := s.levels[record.Level(lv)]
		if g.Rings[lv].IsZero() || l == nil || l == owner {
			continue
		}
		if err := s.createRing(ctx, l, by, g.Rings[lv], class, q.Name, p, nil); err != nil {
			return nil, err
		}
	}
	if q.Profile == record.ProfilePSP {
		_, err := owner.commit(ctx, func() (*change, error) {
			return &change{head: record.Head{Change: record.ChangeGroup, Who: by, Reason: q.Name}, groups: []*record.Group{&g}}, nil
		})
		return map[string]any{"group": g.ID.String(), "rings": g.Rings}, err
	}
	if err := s.createRing(ctx, owner, by, g.Rings[owner.Level], class, q.Name, p, &g); err != nil {
		return nil, err
	}
	return map[string]any{"group": g.ID.String(), "rings": g.Rings}, nil
}

// unused returns an error if a group at any level has this name: programs follow groups by name.
func (s *Server) unused(name string) error {
	return s.each(func(l *Level) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, g := range l.groups {
			if g.rec.Name == name {
				return fmt.Errorf("%w: a group named %s", ErrExists, name)
			}
		}
		return nil
	})
}

// levelNamed returns the level of this cluster with a name.
func (s *Server) levelNamed(name string) (*Level, error) {
	lv, err := record.ParseLevel(name)
	if err != nil {
		return nil, bad("%v", err)
	}
	if l := s.levels[lv]; l != nil {
		return l, nil
	}
	return nil, bad("this cluster has no level %s", name)
}

// CreateRing makes a ring at each of the request's levels and no group: a group of another controller
// will have them.
func (s *Server) CreateRing(ctx context.Context, by string, q GroupRequest) (any, error) {
	if !memberName.MatchString(q.Name) {
		return nil, bad("a ring's name has letters, digits, '.', '_' and '-'")
	}
	if len(q.Levels) == 0 {
		s.each(func(l *Level) error { q.Levels = append(q.Levels, l.Level.String()); return nil })
	}
	p := record.DefaultPolicy
	if q.Policy != nil {
		p = *q.Policy
	}
	made := map[string]string{}
	for _, name := range q.Levels {
		l, err := s.levelNamed(name)
		if err != nil {
			return nil, err
		}
		id := randomID()
		if err := s.createRing(ctx, l, by, id, record.ClassLevel, q.Name, p, nil); err != nil {
			return nil, err
		}
		made[name] = id.String()
	}
	return map[string]any{"rings": made}, nil
}

func (s *Server) createRing(ctx context.Context, l *Level, by string, id record.ID, class record.Class, name string, p record.Policy, g *record.Group) error {
	_, err := l.commit(ctx, func() (*change, error) {
		for _, r := range l.rings {
			if r.rec.Name == name {
				return nil, fmt.Errorf("%w: a ring named %s at level %v", ErrExists, name, l.Level)
			}
		}
		n, e := rotation.Create(id, l.Level, class, name, p, s.Now().Unix())
		c := &change{head: record.Head{Change: record.ChangeCreate, Who: by}, rings: []ringChange{{n, e}}}
		if g != nil {
			c.groups = []*record.Group{g}
		}
		return c, nil
	})
	return err
}

// ringsNamed calls f for the rings with a name; "": for all.
func (s *Server) ringsNamed(name string, f func(*Level, record.ID) error) error {
	n := 0
	err := s.each(func(l *Level) error {
		l.mu.Lock()
		var ids []record.ID
		for id, r := range l.rings {
			if name == "" || r.rec.Name == name || strings.HasPrefix(id.String(), name) && len(name) >= 8 {
				ids = append(ids, id)
			}
		}
		l.mu.Unlock()
		for _, id := range ids {
			n++
			if err := f(l, id); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && n == 0 {
		err = fmt.Errorf("%w: no ring %s", ErrNotFound, name)
	}
	return err
}

// checkReason returns an error if a reason that an operator gives cannot be in a record.
func checkReason(s string) error {
	if record.Text(s, 200) != s {
		return bad("a reason is one line of at most 200 octets")
	}
	return nil
}

// Rotate starts a rotation. If one is running, a normal request joins it; an emergency completes it and
// begins another.
func (s *Server) Rotate(ctx context.Context, by string, q RotateRequest) (any, error) {
	if err := checkReason(q.Reason); err != nil {
		return nil, err
	}
	s.mu.Lock()
	freeze := s.freeze
	s.mu.Unlock()
	if freeze != "" && !q.Emergency && !q.Hard {
		return nil, fmt.Errorf("%w: rotations are frozen: %s (eespctl thaw ends that; --emergency rotates all the same)", rotation.ErrGuard, freeze)
	}
	if q.Reason == "" {
		q.Reason = "by hand: " + by
	}
	began := map[string]uint64{}
	err := s.ringsNamed(q.Ring, func(l *Level, id record.ID) error {
		if b := l.Broken(); b != "" {
			return fmt.Errorf("%w: %s", ErrReadOnly, b)
		}
		if q.Emergency || q.Hard {
			e, err := l.commit(ctx, func() (*change, error) {
				r, err := l.ring(id)
				if err != nil {
					return nil, err
				}
				n := rotation.Urge(&r.rec, q.Hard, q.Reason)
				began[r.rec.Name] = n.Step
				return &change{head: record.Head{Change: record.ChangeEmergency, Who: by, Reason: q.Reason}, rings: []ringChange{{n, rotation.Effect{Change: record.ChangeEmergency, New: n.Of(record.Current)}}}}, nil
			})
			_ = e
			return err
		}
		s.mu.Lock()
		l.mu.Lock()
		r, err := l.ring(id)
		if err == nil {
			began[r.rec.Name] = r.rec.Step
			if r.rec.State == record.Steady {
				s.watch(l, r).asked = q.Reason
			}
		}
		l.mu.Unlock()
		s.mu.Unlock()
		if err != nil {
			return err
		}
		s.wake()
		return nil
	})
	return map[string]any{"rings": began}, err
}

// Abort drops the next generation of a ring.
func (s *Server) Abort(ctx context.Context, by string, q NameRequest) (any, error) {
	if err := checkReason(q.Reason); err != nil {
		return nil, err
	}
	return map[string]string{"aborted": q.Name}, s.ringsNamed(q.Name, func(l *Level, id record.ID) error {
		_, err := l.commit(ctx, func() (*change, error) {
			r, err := l.ring(id)
			if err != nil {
				return nil, err
			}
			n, e, err := rotation.Abort(&r.rec, q.Reason)
			if err != nil {
				return nil, err
			}
			return &change{head: record.Head{Change: e.Change, Who: by, Reason: q.Reason}, rings: []ringChange{{n, e}}}, nil
		})
		return err
	})
}

// Revoke removes a member's rights at all levels, and rotates its rings at the first level: one new
// generation is enough to exclude it.
func (s *Server) Revoke(ctx context.Context, by string, q NameRequest) (any, error) {
	if err := checkReason(q.Reason); err != nil {
		return nil, err
	}
	found := false
	first := true
	reason := "revoked " + q.Name
	urge := func(l *Level, c *change, id record.ID) {
		n := rotation.Urge(&l.rings[id].rec, false, reason)
		c.rings = append(c.rings, ringChange{n, rotation.Effect{Change: record.ChangeRevoke, New: n.Of(record.Current)}})
	}
	err := s.each(func(l *Level) error {
		var left []record.ID // rings for which this transaction has no room
		e, err := l.commit(ctx, func() (*change, error) {
			left = nil
			var m *record.Member
			for _, x := range l.members {
				if (x.rec.Name == q.Name || x.rec.ID.String() == q.Name) && x.rec.State != record.Revoked {
					c := x.rec
					m = &c
				}
			}
			if m == nil {
				return nil, errNothing
			}
			had := m.State != record.Invited
			c := &change{head: record.Head{Change: record.ChangeRevoke, Who: by, Reason: reason + ": " + q.Reason}, members: []*record.Member{m}}
			for id := range l.rings {
				switch {
				case !had || !first || !m.May(id):
				case len(c.rings) < ringsPerRevoke:
					urge(l, c, id)
				default:
					left = append(left, id)
				}
			}
			m.State, m.Reason = record.Revoked, q.Reason
			return c, nil
		})
		if e != nil {
			found, first = true, false
		}
		if err != nil {
			return err
		}
		for part := range slices.Chunk(left, ringsPerRevoke) {
			if _, err := l.commit(ctx, func() (*change, error) {
				c := &change{head: record.Head{Change: record.ChangeRevoke, Who: by, Reason: reason + ": more rings"}}
				for _, id := range part {
					if l.rings[id] != nil {
						urge(l, c, id)
					}
				}
				return c, nil
			}); err != nil {
				return fmt.Errorf("%s is revoked, but not all rings rotate for that: eespctl rotate --emergency: %w", q.Name, err)
			}
		}
		return nil
	})
	if err == nil && !found {
		err = fmt.Errorf("%w: no member %s", ErrNotFound, q.Name)
	}
	s.wake()
	return map[string]string{"revoked": q.Name}, err
}

// Exclude lets rotations go on without members that have not acknowledged.
func (s *Server) Exclude(ctx context.Context, by string, q NameRequest) (any, error) {
	if err := checkReason(q.Reason); err != nil {
		return nil, err
	}
	found, err := s.changeMember(ctx, q.Name, func(m *record.Member) (*record.Head, bool) {
		if m.State != record.MemberActive {
			return nil, false
		}
		m.State, m.Reason = record.Absent, "by hand: "+q.Reason
		return &record.Head{Change: record.ChangeExclude, Who: by, Reason: q.Name + ": " + q.Reason}, true
	})
	if err == nil && !found {
		err = fmt.Errorf("%w: no active member %s", ErrNotFound, q.Name)
	}
	return map[string]string{"excluded": q.Name}, err
}

// changeMember changes a member at each level. f changes the member and returns the entry for the log
// (nil: nothing to change), and whether this is the member.
func (s *Server) changeMember(ctx context.Context, name string, f func(*record.Member) (*record.Head, bool)) (found bool, err error) {
	err = s.each(func(l *Level) error {
		_, err := l.commit(ctx, func() (*change, error) {
			for _, x := range l.members {
				m := x.rec
				if m.Name != name {
					continue
				}
				h, is := f(&m)
				if !is {
					continue
				}
				found = true
				if h == nil {
					return nil, errNothing
				}
				return &change{head: *h, members: []*record.Member{&m}}, nil
			}
			return nil, errNothing
		})
		return err
	})
	return found, err
}

// Granter allows a member to give data keys to clients, at all levels, or ends that.
func (s *Server) Granter(ctx context.Context, by string, q GranterRequest) (any, error) {
	reason := q.Name
	if q.Off {
		reason += ": not any more"
	}
	found, err := s.changeMember(ctx, q.Name, func(m *record.Member) (*record.Head, bool) {
		if m.State == record.Revoked {
			return nil, false
		}
		if m.Granter == !q.Off {
			return nil, true
		}
		m.Granter = !q.Off
		return &record.Head{Change: record.ChangeGranter, Who: by, Reason: reason}, true
	})
	if err == nil && !found {
		err = fmt.Errorf("%w: no member %s", ErrNotFound, q.Name)
	}
	return map[string]any{"member": q.Name, "granter": !q.Off}, err
}

// Client makes a client's certificate. The certificate alone gives no rights: each granter's policy
// names the key of a client and its groups.
func (s *Server) Client(_ context.Context, by string, q ClientRequest) (any, error) {
	pub, err := requested(q.CSR, q.Name)
	if err != nil {
		return nil, err
	}
	c, err := s.CA.Issue(pub, s.Cluster, pki.Client, q.Name, pki.ClientLife, s.Now())
	if err != nil {
		return nil, err
	}
	key := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	s.Log.Info("client's certificate", "client", q.Name, "key", fmt.Sprintf("%x", key[:8]), "by", by)
	return ClientAnswer{pemCert(c), pemCert(s.CA.Cert), s.Cluster.String(), fmt.Sprintf("%x", key)}, nil
}

// Epoch moves a ring of tss to the next epoch of its key. Counters begin at 0 again, and packets of old
// epochs are refused. It is for when hosts have left or come back.
func (s *Server) Epoch(ctx context.Context, by string, q NameRequest) (any, error) {
	if err := checkReason(q.Reason); err != nil {
		return nil, err
	}
	epochs := map[string]uint16{}
	return map[string]any{"epochs": epochs}, s.ringsNamed(q.Name, func(l *Level, id record.ID) error {
		s.mu.Lock()
		l.mu.Lock()
		r, err := l.ring(id)
		var wd rotation.World
		var step uint64
		if err == nil {
			wd, step = s.world(l, r, s.watch(l, r)), r.rec.Step
		}
		l.mu.Unlock()
		s.mu.Unlock()
		if err != nil {
			return err
		}
		_, err = l.commit(ctx, func() (*change, error) {
			r, err := l.ring(id)
			if err != nil {
				return nil, err
			}
			if r.rec.Step != step {
				return nil, fmt.Errorf("%w: the ring has moved on", rotation.ErrGuard)
			}
			n, e, err := rotation.Epoch(&r.rec, wd.Need, wd.Ready, q.Reason)
			if err != nil {
				return nil, err
			}
			epochs[r.rec.Name] = n.Gens[0].TSSEpoch
			return &change{head: record.Head{Change: e.Change, Who: by, Reason: q.Reason}, rings: []ringChange{{n, e}}}, nil
		})
		return err
	})
}

// AuditAnswer is a level's log of signed entries.
type AuditAnswer struct {
	Cluster    string   `json:"cluster"`
	Level      string   `json:"level"`
	Root       []byte   `json:"root"`
	Delegation []byte   `json:"delegation"`
	Entries    [][]byte `json:"entries"`
}

func (s *Server) serveAudit(w http.ResponseWriter, r *http.Request) {
	out := []AuditAnswer{}
	s.each(func(l *Level) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		a := AuditAnswer{Cluster: s.Cluster.String(), Level: l.Level.String(), Root: l.root, Delegation: l.deleg.raw}
		var es []*entry
		for _, e := range l.log {
			es = append(es, e)
		}
		slices.SortFunc(es, func(a, b *entry) int { return int(int64(a.Serial) - int64(b.Serial)) })
		for _, e := range es {
			a.Entries = append(a.Entries, e.raw)
		}
		out = append(out, a)
		return nil
	})
	reply(w, out, nil)
}

// BackupRow is a key of the store with its value.
type BackupRow struct {
	Key   string `json:"key"`
	Value []byte `json:"value"`
}

// serveBackup sends the whole store. The rings in it are sealed, and can be opened only with an
// instance's private key.
func (s *Server) serveBackup(w http.ResponseWriter, r *http.Request) {
	kvs, _, err := s.Store.List(r.Context(), "")
	if err != nil {
		reply(w, nil, err)
		return
	}
	rows := make([]BackupRow, len(kvs))
	for i, kv := range kvs {
		rows[i] = BackupRow{kv.Key, kv.Value}
	}
	s.Log.Warn("backup read", "by", who(r), "keys", len(rows))
	reply(w, rows, nil)
}

// serveImport writes a backup to an empty store. Nothing else is written to it before the roots begin a
// new term.
func (s *Server) serveImport(w http.ResponseWriter, r *http.Request) {
	var rows []BackupRow
	err := json.NewDecoder(io.LimitReader(r.Body, 1<<30)).Decode(&rows)
	if err == nil {
		err = s.Import(r.Context(), rows)
	}
	reply(w, map[string]int{"keys": len(rows)}, err)
}

// Import writes a backup's keys.
func (s *Server) Import(ctx context.Context, rows []BackupRow) error {
	if err := s.each(func(l *Level) error {
		kv, err := s.Store.Get(ctx, l.prefix()+"head")
		if err == nil && kv.Mod != 0 {
			err = fmt.Errorf("%w: the store has a log of level %v: restore into an empty one (eespd server --await-restore); if the backup was brought in before, eespctl restore --roots DIR without a file goes on", ErrExists, l.Level)
		}
		return err
	}); err != nil {
		return err
	}
	for _, x := range rows {
		if lv, err := record.ParseLevel(strings.TrimSuffix(x.Key, "/delegation")); err == nil && s.levels[lv] != nil {
			l := s.levels[lv]
			if err := record.Verify(x.Value, new(record.Delegation), s.Cluster, l.root); err != nil && (l.before == nil || record.Verify(x.Value, new(record.Delegation), s.Cluster, l.before) != nil) {
				return bad("this is of another cluster, or of other roots: the delegation of level %v: %v", lv, err)
			}
		}
	}
	// Heads last: without them the store still counts as empty.
	head := func(r BackupRow) int {
		if path.Base(r.Key) == "head" {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(rows, func(a, b BackupRow) int { return head(a) - head(b) })
	for part := range slices.Chunk(rows, 64) {
		var t store.Txn
		for _, x := range part {
			t.Put = append(t.Put, store.KV{Key: x.Key, Value: x.Value})
		}
		if _, err := s.Store.Commit(ctx, t); err != nil {
			return err
		}
	}
	return s.each(func(l *Level) error {
		_, err := l.Sync(ctx)
		l.mu.Lock()
		l.unkept = false
		l.broken = "restored from a backup: the roots have to begin a new term (eespctl restore --roots DIR)"
		if err != nil {
			l.broken = fmt.Sprintf("the backup is not whole: %v", err)
		}
		l.mu.Unlock()
		return err
	})
}

// TermRequest begins a new term by the root's delegation: from then on this store is the right one.
type TermRequest struct {
	Level      string `json:"level"`
	Delegation []byte `json:"delegation"`
	Last       uint64 `json:"last"` // highest generation that is known from other sources, such as hosts
}

func (s *Server) serveTerm(w http.ResponseWriter, r *http.Request) {
	var q TermRequest
	err := body(r, &q)
	if err == nil {
		var lv record.Level
		if lv, err = record.ParseLevel(q.Level); err == nil {
			err = s.RaiseTerm(r.Context(), lv, who(r), q)
		}
	}
	reply(w, map[string]string{"level": q.Level}, err)
}

// How many numbers are skipped after a restore: more than may have been given out since the backup.
const (
	generationJump = 16
	blockJump      = 1 << 20
	ssiJump        = 1 << 12
)

// RaiseTerm begins a higher term by the root's delegation, after a restore. Allocators skip numbers,
// and every ring begins with a generation above all that may have been used, since generations of a
// backup may be below members' floors.
func (s *Server) RaiseTerm(ctx context.Context, lv record.Level, by string, q TermRequest) error {
	l, d, err := s.delegation(lv, q.Delegation)
	if err != nil {
		return err
	}
	check := func() error {
		if last := l.lastTerm(); d.Level != l.Level || d.Term <= last || d.Serial <= l.deleg.rec.Serial {
			return bad("the delegation's term and serial must be higher than %d and %d", last, l.deleg.rec.Serial)
		}
		return nil
	}
	l.mu.Lock()
	err = check()
	l.mu.Unlock()
	if err != nil {
		return err
	}
	if err := s.jumpAllocators(ctx); err != nil {
		return err
	}
	copied := s.copiedRings(lv)
	_, err = l.commitIn(ctx, d.Term, func() (*change, error) {
		if err := check(); err != nil { // another server may have been faster
			return nil, err
		}
		c := &change{head: record.Head{Change: record.ChangeRestore, Who: by, Reason: record.Text(l.broken, record.MaxHeadReason)}, deleg: q.Delegation}
		for _, r := range l.rings {
			was, copy := r.rec, copied[r.rec.ID]
			was.KEKEpoch, was.Step = max(was.KEKEpoch, copy.KEKEpoch), max(was.Step, copy.Step)
			n, e := rotation.Restore(&was, max(was.Last, q.Last, copy.Last)+generationJump)
			c.rings = append(c.rings, ringChange{n, e})
		}
		return c, nil
	})
	s.wake()
	return err
}
