// Package etcd is the store on etcd: embedded in the server, or an existing
// cluster.
package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	etcderrors "go.etcd.io/etcd/server/v3/etcdserver/errors"
	"go.uber.org/zap"

	"libeesp/control/pki"
	"libeesp/control/store"
)

// Store is a client of etcd, and the embedded server if there is one.
type Store struct {
	c      *clientv3.Client
	e      *embed.Etcd
	prefix string
	id     uint64
	closed chan struct{}
}

// Embedded says how to run etcd in this process.
type Embedded struct {
	Dir     string
	Name    string
	Peer    string // URL by which peers reach this one; "" if there are none
	Cluster string // name=URL,...: all members; "" if there are no others
	Joins   bool   // the other members exist, and have added this one
	TLS     Files  // for peers
	Quota   int64  // octets; 0: 2 GiB
	Timeout time.Duration
}

// Files of a TLS identity.
type Files struct{ Cert, Key, CA string }

// Embed starts etcd in this process. Only this process can reach it, and its peers, with certificates.
func Embed(ctx context.Context, o Embedded) (*Store, error) {
	c := embed.NewConfig()
	c.Name, c.Dir = o.Name, o.Dir
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, err
	}
	// A socket in a directory that only we may enter: the client here does not use it.
	sock := url.URL{Scheme: "unix", Host: "", Path: filepath.Join(o.Dir, "client.sock")}
	os.Remove(sock.Path)
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{sock}, []url.URL{sock}
	if o.Peer == "" {
		p := url.URL{Scheme: "unix", Path: filepath.Join(o.Dir, "peer.sock")}
		os.Remove(p.Path)
		// etcd needs an address as a member's name; nothing listens there.
		name, _ := url.Parse("http://localhost:2380")
		c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{p}, []url.URL{*name}
		c.InitialCluster = o.Name + "=" + name.String()
	} else {
		u, err := url.Parse(o.Peer)
		if err != nil || u.Scheme != "https" {
			return nil, fmt.Errorf("peer URL %q: https://host:port is needed", o.Peer)
		}
		c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{*u}, []url.URL{*u}
		c.InitialCluster = o.Cluster
		c.PeerTLSInfo = transport.TLSInfo{CertFile: o.TLS.Cert, KeyFile: o.TLS.Key, TrustedCAFile: o.TLS.CA, ClientCertAuth: true}
		// The CA also signs hosts' certificates, which must not give access to the store.
		if own, err := pki.ReadCert(o.TLS.Cert); err == nil && own.VerifyHostname(pki.StoreName) == nil {
			c.PeerTLSInfo.AllowedHostnames = []string{pki.StoreName}
		}
		if o.Joins {
			c.ClusterState = embed.ClusterStateFlagExisting
		}
	}
	c.InitialClusterToken = "eesp"
	c.QuotaBackendBytes = o.Quota
	if c.QuotaBackendBytes == 0 {
		c.QuotaBackendBytes = 2 << 30
	}
	c.MaxTxnOps, c.MaxRequestBytes = maxOps, maxRequest
	c.AutoCompactionMode, c.AutoCompactionRetention = "revision", "1000"
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	e, err := embed.StartEtcd(c)
	if err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	timeout := o.Timeout
	if timeout == 0 {
		timeout = 2 * time.Minute
	}
	fail := func(err error) (*Store, error) { e.Close(); return nil, err }
	select {
	case <-e.Server.ReadyNotify():
	case err := <-e.Err():
		return fail(fmt.Errorf("etcd: %w", err))
	case <-ctx.Done():
		return fail(ctx.Err())
	case <-time.After(timeout):
		return fail(errors.New("etcd: no quorum: are the other servers up?"))
	}
	// A machine that was added first receives the data of the others, and then gets a vote.
	for end := time.Now().Add(timeout); e.Server.IsLearner(); {
		select {
		case err := <-e.Err():
			return fail(fmt.Errorf("etcd: %w", err))
		case <-ctx.Done():
			return fail(ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(end) {
			return fail(errors.New("etcd: this server was added and has no vote yet: are the other servers up?"))
		}
	}
	s := &Store{c: v3client.New(e.Server), e: e, prefix: "/eesp/", id: uint64(e.Server.Cluster().ID()), closed: make(chan struct{})}
	if o.Peer != "" {
		go s.promote()
	}
	return s, nil
}

// promote gives a vote to a machine that was added, as soon as it has the data of the others.
func (s *Store) promote() {
	for {
		select {
		case <-s.closed:
			return
		case <-time.After(time.Second):
		}
		for _, m := range s.e.Server.Cluster().Members() {
			if m.IsLearner && m.Name != "" { // it has started
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				s.c.MemberPromote(ctx, uint64(m.ID)) // etcd refuses it until the data are there
				cancel()
			}
		}
	}
}

// AddMember adds a machine; see server.Members.
func (s *Store) AddMember(ctx context.Context, name, peer string) (string, error) {
	if s.e == nil {
		return "", nil
	}
	l, err := s.c.MemberList(ctx)
	if err != nil {
		return "", err
	}
	all, there := name+"="+peer, false
	for _, m := range l.Members {
		for _, u := range m.PeerURLs {
			switch {
			case u == peer:
				there = true // it was added before
			case m.Name == name:
				return "", fmt.Errorf("etcd: a member named %s at %s", name, u)
			case !strings.HasPrefix(u, "https://"):
				return "", fmt.Errorf("etcd: server %s has no address for the others yet", m.Name)
			default:
				all += "," + m.Name + "=" + u
			}
		}
	}
	for end := time.Now().Add(20 * time.Second); !there; {
		// etcd refuses it until the others have been connected for some seconds.
		if _, err = s.c.MemberAddAsLearner(ctx, []string{peer}); !errors.Is(err, etcderrors.ErrUnhealthy) && !errors.Is(err, rpctypes.ErrUnhealthy) || time.Now().After(end) {
			break
		}
		select {
		case <-time.After(500 * time.Millisecond):
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	return all, err
}

// RemoveMember removes a machine.
func (s *Store) RemoveMember(ctx context.Context, name string) error {
	if s.e == nil {
		return nil
	}
	l, err := s.c.MemberList(ctx)
	if err != nil {
		return err
	}
	for _, m := range l.Members {
		if m.Name == name {
			_, err := s.c.MemberRemove(ctx, m.ID)
			return err
		}
	}
	return nil
}

// MoveMember sets the URL by which the others reach this machine, from its next start on.
func (s *Store) MoveMember(ctx context.Context, peer string) error {
	if s.e == nil {
		return nil
	}
	_, err := s.c.MemberUpdate(ctx, uint64(s.e.Server.MemberID()), []string{peer})
	return err
}

// Dial connects to an existing cluster.
func Dial(ctx context.Context, endpoints []string, t *tls.Config, prefix string) (*Store, error) {
	c, err := clientv3.New(clientv3.Config{Endpoints: endpoints, TLS: t, DialTimeout: 10 * time.Second, Context: context.WithoutCancel(ctx), Logger: zap.NewNop(),
		DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 5 * time.Second, MaxCallSendMsgSize: maxRequest + 1<<20})
	if err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	m, err := c.MemberList(ctx)
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("etcd at %v: %w", endpoints, err)
	}
	return &Store{c: c, prefix: prefix, id: m.Header.ClusterId}, nil
}

// Identity returns the ID of the etcd cluster.
func (s *Store) Identity() uint64 { return s.id }

// List returns all keys with a prefix, in pages of one revision.
func (s *Store) List(ctx context.Context, prefix string) (l []store.KV, rev int64, err error) {
	from, end := s.prefix+prefix, clientv3.GetPrefixRangeEnd(s.prefix+prefix)
	for {
		opts := []clientv3.OpOption{clientv3.WithRange(end), clientv3.WithLimit(2000)}
		if rev != 0 {
			opts = append(opts, clientv3.WithRev(rev))
		}
		r, err := s.c.Get(ctx, from, opts...)
		if err != nil {
			return nil, 0, err
		}
		if rev == 0 {
			rev = r.Header.Revision
		}
		for _, kv := range r.Kvs {
			key, ok := strings.CutPrefix(string(kv.Key), s.prefix+prefix)
			if !ok || string(kv.Key) < from {
				return nil, 0, fmt.Errorf("etcd: %q is not what was asked for", kv.Key)
			}
			l = append(l, store.KV{Key: prefix + key, Value: kv.Value, Mod: kv.ModRevision})
		}
		if !r.More {
			return l, rev, nil
		}
		if len(r.Kvs) == 0 {
			return nil, 0, errors.New("etcd: a page without keys, and more of them")
		}
		from = string(r.Kvs[len(r.Kvs)-1].Key) + "\x00"
	}
}

// Get returns a key.
func (s *Store) Get(ctx context.Context, key string) (store.KV, error) {
	r, err := s.c.Get(ctx, s.prefix+key)
	if err != nil || len(r.Kvs) == 0 {
		return store.KV{}, err
	}
	return store.KV{Key: key, Value: r.Kvs[0].Value, Mod: r.Kvs[0].ModRevision}, nil
}

// A new term, after a restore, writes all rings of a level and their KEKs at once, as many as an entry of the log
// can name: with etcd's own limits, 128 operations and 1.5 MiB, a level of 63 rings could not be restored.
const (
	maxOps     = 4096
	maxRequest = 16 << 20
)

// Commit writes, if its conditions hold.
func (s *Store) Commit(ctx context.Context, t store.Txn) (int64, error) {
	var cs []clientv3.Cmp
	for _, c := range t.If {
		cs = append(cs, clientv3.Compare(clientv3.ModRevision(s.prefix+c.Key), "=", c.Mod))
	}
	var ops []clientv3.Op
	for _, p := range t.Put {
		ops = append(ops, clientv3.OpPut(s.prefix+p.Key, string(p.Value)))
	}
	for _, k := range t.Del {
		ops = append(ops, clientv3.OpDelete(s.prefix+k))
	}
	r, err := s.c.Txn(ctx).If(cs...).Then(ops...).Commit()
	if errors.Is(err, rpctypes.ErrTooManyOps) || errors.Is(err, rpctypes.ErrRequestTooLarge) {
		return 0, fmt.Errorf("etcd takes no change of %d records at once: start it with --max-txn-ops %d --max-request-bytes %d: %w: %w", len(ops), maxOps, maxRequest, store.ErrRefused, err)
	}
	if errors.Is(err, rpctypes.ErrPermissionDenied) {
		return 0, fmt.Errorf("this user may not write all of %s in etcd: %w: %w", s.prefix, store.ErrRefused, err)
	}
	if err != nil {
		return 0, err
	}
	if !r.Succeeded {
		return 0, store.ErrConflict
	}
	return r.Header.Revision, nil
}

// Watch returns changes behind a revision.
func (s *Store) Watch(ctx context.Context, prefix string, after int64) <-chan []store.KV {
	out := make(chan []store.KV, 64)
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	in := s.c.Watch(ctx, s.prefix+prefix, clientv3.WithPrefix(), clientv3.WithRev(after+1))
	go func() {
		defer close(out)
		defer cancel()
		for r := range in {
			if r.Err() != nil {
				return // compacted, or no leader: the caller lists again
			}
			var l []store.KV
			for _, e := range r.Events {
				key, ok := strings.CutPrefix(string(e.Kv.GetKey()), s.prefix+prefix)
				if !ok {
					return
				}
				kv := store.KV{Key: prefix + key, Value: e.Kv.Value, Mod: e.Kv.ModRevision}
				if e.Type == clientv3.EventTypeDelete {
					kv.Mod, kv.Value = 0, nil
				}
				l = append(l, kv)
			}
			if len(l) == 0 {
				continue
			}
			select {
			case out <- l:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

// Snapshot writes a copy of the whole store.
func (s *Store) Snapshot(ctx context.Context, w io.Writer) error {
	r, err := s.c.Snapshot(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(w, r)
	return err
}

// Close ends the client and the embedded server.
func (s *Store) Close() error {
	err := s.c.Close()
	if errors.Is(err, context.Canceled) { // the error of closing the client in this process
		err = nil
	}
	if s.e != nil {
		close(s.closed)
		s.e.Close()
	}
	return err
}
