package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"libeesp/control/pki"
	"libeesp/control/record"
	"libeesp/control/socket"
	"libeesp/internal/link"
)

// A granter gives data keys to clients outside the cluster. A client gets two IDs, one for each
// direction, from blocks for clients. A program of this host makes the keys, and seals to the client
// with one of them. Each side measures the lease with its own clock: the client from before its request,
// the granter from after the answer. A step that ends the use of a generation is acknowledged when no
// lease on it is left; in an emergency the leases end at once.

// Times and limits of leases.
const (
	MaxLease     = 10 * time.Minute
	defaultLease = 5 * time.Minute
)

// ErrNotGranted is the error if a client may not have keys, or not now.
var ErrNotGranted = errors.New("not granted")

// leases are the leases of this granter.
type leases struct {
	all    []*lease
	before time.Duration              // boot time until which leases from before a restart may last
	asked  map[string][]time.Duration // by client: when it got pairs, in the last minute
	marked bool                       // leaseFile exists
}

type lease struct {
	client, group string
	up, down      uint64
	gens          [record.Levels]uint64
	until         time.Duration
	by            socket.Maker
	cut           bool // the program does not seal to the client any more
	pending       bool // the program has not answered yet: the generations are not known
	answer        record.ClientGrant
}

// leaseFile is a file that exists while there may be leases, so that an agent knows it after a restart.
func (a *Agent) leaseFile() string { return filepath.Join(a.first().Dir, "leases") }

func (a *Agent) beganWithLeases() {
	if _, err := os.Stat(a.leaseFile()); err == nil {
		a.leases.marked, a.leases.before = true, bootTime()+MaxLease
	}
}

// expire removes leases that ended. a.mu is held.
func (a *Agent) expire() {
	now := bootTime()
	a.leases.all = slices.DeleteFunc(a.leases.all, func(x *lease) bool {
		if now < x.until {
			return false
		}
		clear(x.answer.Up.Key)
		clear(x.answer.Down.Key)
		return true
	})
	if a.leases.marked && len(a.leases.all) == 0 && now >= a.leases.before {
		if os.Remove(a.leaseFile()) == nil {
			a.leases.marked = false
		}
	}
}

// leased returns how long leases on generations that are no longer current hold up a ring's step. a.mu
// is held.
func (a *Agent) leased(r *ring) (left time.Duration) {
	if r.rec.State == record.Prepared || r.rec.Class != record.ClassLevel {
		return 0
	}
	a.expire()
	urgent := r.rec.Flags&(record.RingEmergency|record.RingAgain) != 0
	now, cur := bootTime(), r.rec.Of(record.Current)
	for _, x := range a.leases.all {
		if !a.uses(x.group, r) || !x.pending && x.gens[r.rec.Level] == cur {
			continue
		}
		if x.pending {
			left = max(left, 50*time.Millisecond)
		} else if !urgent {
			left = max(left, x.until-now)
		} else if !x.cut {
			x.cut = true
			a.Planes.End(x.by, x.group, x.down)
			a.Log.Warn("a client's lease is cut off", "client", x.client, "ring", r.rec.Name)
		}
	}
	if r.rec.State == record.Active && !urgent {
		left = max(left, a.leases.before-now)
	}
	return left
}

// uses reports whether a group of this name has a ring.
func (a *Agent) uses(name string, r *ring) bool {
	for _, l := range a.levels {
		for _, g := range l.groups {
			if g.rec.Name == name && g.rec.Rings[r.rec.Level] == r.rec.ID {
				return true
			}
		}
	}
	return false
}

// GrantRequest is a client's request.
type GrantRequest struct {
	Group string `json:"group"`
	// Renew is the ID up (psp: SPI) of a pair that the client has. Its lease begins anew if its keys
	// are still the newest; otherwise the client gets a new pair.
	Renew uint64 `json:"renew,omitempty"`
}

// GrantTLS returns the TLS configuration for clients.
func (a *Agent) GrantTLS() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAnyClientCert, NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			a.mu.Lock()
			defer a.mu.Unlock()
			c := pki.TLS(a.first().Cert, a.first().Key)
			return &c, nil
		},
		VerifyConnection: func(c tls.ConnectionState) error {
			_, err := pki.Check(c.PeerCertificates[0], a.first().CA, a.first().Cluster, x509.ExtKeyUsageClientAuth, pki.Client)
			return err
		}}
}

// GrantHandler serves clients: POST /v1/grant, answered with a ClientGrant (C13).
func (a *Agent) GrantHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/grant", func(w http.ResponseWriter, r *http.Request) {
		h, err := pki.HolderOf(r.TLS.PeerCertificates[0], a.first().Cluster)
		var q GrantRequest
		if err == nil {
			err = json.NewDecoder(io.LimitReader(r.Body, 4096)).Decode(&q)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), 15*time.Second)
		defer cancel()
		raw, err := a.Grant(ctx, h, q)
		switch {
		case errors.Is(err, ErrNotGranted):
			http.Error(w, err.Error(), http.StatusForbidden)
		case err != nil:
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		default:
			w.Header().Set("Content-Type", "application/octet-stream")
			w.Header().Set("Cache-Control", "no-store")
			w.Write(raw)
			clear(raw)
		}
		if err != nil {
			a.Log.Warn("client", "name", h.Name, "group", q.Group, "err", err)
		}
	})
	return mux
}

func refused(format string, x ...any) error {
	return fmt.Errorf("%w: %s", ErrNotGranted, fmt.Sprintf(format, x...))
}

// rule returns the policy's rule and lease for a client and a group. The error is ErrNotGranted.
func (a *Agent) rule(h pki.Holder, group string) (socket.ClientRule, time.Duration, error) {
	p := a.Policy
	if a.PolicyFile != "" {
		var err error
		if p, err = socket.ReadPolicy(a.PolicyFile); err != nil {
			return socket.ClientRule{}, 0, err
		}
	}
	for _, r := range p.Clients {
		if r.Name != h.Name || r.Key != h.SPKI.String() || !slices.Contains(r.Groups, group) {
			continue
		}
		if r.Minute <= 0 {
			r.Minute = 60
		}
		if r.Live <= 0 {
			r.Live = 256
		}
		d := time.Duration(p.ClientLease) * time.Second
		if d <= 0 {
			d = defaultLease
		}
		return r, min(d, MaxLease), nil
	}
	return socket.ClientRule{}, 0, refused("the granter's policy has no client %s with this key for group %s", h.Name, group)
}

// granter returns a group of which this member may give keys now.
func (a *Agent) granter(name string) (*record.Group, error) {
	for _, l := range a.levels {
		for _, g := range l.groups {
			if g.rec.Name != name {
				continue
			}
			for lv, id := range g.rec.Rings {
				if gl := a.levels[record.Level(lv)]; !id.IsZero() && (gl == nil || !gl.member.Granter) {
					return nil, refused("this host is no granter at level %v", record.Level(lv))
				}
			}
			if !l.member.Granter {
				return nil, refused("this host is no granter at level %v", g.rec.Level)
			}
			if a.seal(l, g) != socket.SealYes {
				return nil, fmt.Errorf("group %s: this host may not seal now", name)
			}
			x := g.rec
			return &x, nil
		}
	}
	return nil, refused("no group %s", name)
}

// Grant gives a client a pair, or renews its lease.
func (a *Agent) Grant(ctx context.Context, h pki.Holder, q GrantRequest) ([]byte, error) {
	rule, span, err := a.rule(h, q.Group)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	a.expire()
	g, err := a.granter(q.Group)
	var old *lease
	for _, x := range a.leases.all {
		if x.client == h.Name && x.group == q.Group && q.Renew != 0 && x.up == q.Renew && !x.cut && g != nil && a.newest(x, g) {
			old = x
		}
	}
	a.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if old != nil && a.Planes.Renew(ctx, old.by, q.Group, old.down, span) == nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		if bootTime() < old.until { // otherwise it has ended meanwhile
			old.until = bootTime() + span
			return record.Encode(&old.answer)
		}
	}
	now := bootTime()
	a.mu.Lock()
	mine, total := 0, 0
	for _, x := range a.leases.all {
		if x.client == h.Name {
			mine++
		}
		if x.group == q.Group {
			total++
		}
	}
	if a.leases.asked == nil {
		a.leases.asked = map[string][]time.Duration{}
	}
	given := slices.DeleteFunc(a.leases.asked[h.Name], func(t time.Duration) bool { return now-t >= time.Minute })
	switch {
	case len(given) >= rule.Minute:
		err = refused("%d pairs a minute: renew the one you have", rule.Minute)
	case mine >= rule.Live:
		err = refused("%d pairs live at once", rule.Live)
	case g.Profile != record.ProfilePSP && 2*(total+1) >= int(g.Contexts):
		err = refused("clients have half of the group's replay windows")
	default:
		given = append(given, now)
	}
	a.leases.asked[h.Name] = given
	if err == nil && !a.leases.marked {
		err = pki.WriteFile(a.leaseFile(), nil, 0o600)
		a.leases.marked = err == nil
	}
	a.mu.Unlock()
	if err != nil {
		return nil, err
	}
	kind := record.KindDevice
	switch {
	case g.Profile == record.ProfilePSP:
		kind = record.KindSPI
	case g.V == 1:
		kind = record.KindClient
	}
	ids, err := a.numbers(ctx, g, kind, 2)
	if err != nil {
		return nil, err
	}
	x := &lease{client: h.Name, group: q.Group, until: bootTime() + 2*MaxLease, pending: true}
	a.mu.Lock()
	a.leases.all = append(a.leases.all, x)
	a.mu.Unlock()
	p, err := a.Planes.Grant(ctx, q.Group, ids[0], ids[1], span, h.Name)
	a.mu.Lock()
	defer a.mu.Unlock()
	x.until = bootTime() + span
	if err != nil {
		x.until = 0 // if the pair was made, the client did not get it
		return nil, err
	}
	x.up, x.down, x.gens, x.by, x.pending = p.Up.ID, p.Down.ID, p.Gens, p.By, false
	x.answer = record.ClientGrant{Group: g.ID, Up: side(&p.Up), Down: side(&p.Down), Lease: uint32(span / time.Second), RenewAfter: uint32(span / time.Second / 2), Profile: g.Profile, MasterKeys: slices.Clone(p.Up.Options)}
	for lv, n := range p.Gens {
		if l := a.levels[record.Level(lv)]; n != 0 && l != nil && l.rings[g.Rings[lv]] != nil {
			if gen := l.rings[g.Rings[lv]].rec.Find(n); gen != nil {
				x.answer.Generations = append(x.answer.Generations, record.Generation{Gen: n, Role: record.Current, Fingerprint: gen.Fingerprint})
			}
		}
	}
	a.Log.Info("data keys for a client", "client", h.Name, "group", q.Group, "lease", span)
	return record.Encode(&x.answer)
}

func side(k *link.DataKey) record.ClientSide {
	s := record.ClientSide{Connection: k.ID, Epoch: k.Epoch, V: k.V, Options: len(k.Options) > 0, Key: slices.Clone(k.Key)}
	if k.Profile == record.ProfilePSP {
		s.Connection, s.SPI = 0, uint32(k.ID)
	}
	return s
}

// newest reports whether a pair was made with the current generations.
func (a *Agent) newest(x *lease, g *record.Group) bool {
	for lv, id := range g.Rings {
		if id.IsZero() {
			continue
		}
		l := a.levels[record.Level(lv)]
		if l == nil || l.rings[id] == nil || l.rings[id].rec.Of(record.Current) != x.gens[lv] {
			return false
		}
	}
	return true
}
