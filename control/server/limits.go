package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/netutil"
	"golang.org/x/time/rate"

	"libeesp/control/record"
)

// Limits keep a server up when all hosts come at once, or one comes all the time. Who is over
// one hears "later", with how many seconds: agents then come back by chance within these.
type Limits struct {
	Streams   int           // at once
	Beginning int           // streams that begin at once: each costs a signature, a write of the store and all records
	Waiting   int           // that wait for a place among them
	Enter     int           // a host's streams that have not said hello yet
	Retry     uint16        // seconds within which who found no place comes again
	Often     time.Duration // between a host's sessions, behind the first 20
	Records   rate.Limit    // a stream's, in a second
	Blocks    rate.Limit    // of IDs, a stream's in a second, behind the first 64
	Joins     rate.Limit    // and renewals of certificates, in a second, behind ten times as many

	// Connections without a certificate that is good: each costs a handshake.
	Unproven int           // at once; behind that the oldest goes
	Arrive   int           // of one address, and then
	Arrivals rate.Limit    // so many in a second; one that shows a certificate is not counted
	Prove    time.Duration // in which one has to, or has to have joined
}

// DefaultLimits are for what Limits does not say.
var DefaultLimits = Limits{Streams: 50_000, Beginning: 64, Waiting: 256, Enter: 4, Retry: 10, Often: 2 * time.Second, Records: 200, Blocks: 1, Joins: 100,
	Unproven: 1024, Arrive: 256, Arrivals: 10, Prove: 30 * time.Second}

func (l *Limits) fill() {
	d := &DefaultLimits
	l.Streams, l.Beginning, l.Waiting, l.Enter = cmp.Or(l.Streams, d.Streams), cmp.Or(l.Beginning, d.Beginning), cmp.Or(l.Waiting, d.Waiting), cmp.Or(l.Enter, d.Enter)
	l.Retry, l.Often = cmp.Or(l.Retry, d.Retry), cmp.Or(l.Often, d.Often)
	l.Records, l.Blocks, l.Joins = cmp.Or(l.Records, d.Records), cmp.Or(l.Blocks, d.Blocks), cmp.Or(l.Joins, d.Joins)
	l.Unproven, l.Arrive, l.Arrivals, l.Prove = cmp.Or(l.Unproven, d.Unproven), cmp.Or(l.Arrive, d.Arrive), cmp.Or(l.Arrivals, d.Arrivals), cmp.Or(l.Prove, d.Prove)
}

const (
	helloTime = 30 * time.Second // for a stream's first record, and what a session begins with
	placeTime = 10 * time.Second // that a stream waits for a place
)

// enter counts a stream that has not said hello yet; leave ends that.
func (s *Server) enter(key record.Hash) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entering[key] >= s.Limits.Enter {
		s.metrics.shed.Inc()
		return false
	}
	s.entering[key]++
	return true
}

func (s *Server) leave(key record.Hash) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entering[key]--; s.entering[key] <= 0 {
		delete(s.entering, key)
	}
}

// mayBegin waits for a place among the streams that begin, or says why not now and when to come
// back; end frees it.
func (s *Server) mayBegin(ctx context.Context, member record.ID) (end func(), retry uint16, why string) {
	s.mu.Lock()
	often := s.often[member]
	if often == nil {
		often = rate.NewLimiter(rate.Every(s.Limits.Often), 20)
		s.often[member] = often
	}
	streams := len(s.streams)
	_, again := s.streams[member]
	s.mu.Unlock()
	if !often.Allow() {
		return nil, s.Limits.Retry, "sessions of this host begin too often"
	}
	if streams >= s.Limits.Streams && !again {
		return nil, 60, "this server has all the hosts that it takes"
	}
	select {
	case s.places <- struct{}{}:
		return func() { <-s.places }, 0, ""
	default:
	}
	if int(s.queued.Add(1)) > s.Limits.Waiting {
		s.queued.Add(-1)
		return nil, s.Limits.Retry, "too many hosts begin at once"
	}
	defer s.queued.Add(-1)
	t := time.NewTimer(placeTime)
	defer t.Stop()
	select {
	case s.places <- struct{}{}:
		return func() { <-s.places }, 0, ""
	case <-t.C:
	case <-ctx.Done():
	}
	return nil, s.Limits.Retry, "too many hosts begin at once"
}

// paced has a handler say "later" to more than Limits.Joins.
func (s *Server) paced(f http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !s.joins.Allow() {
			s.metrics.shed.Inc()
			w.Header().Set("Retry-After", "5")
			http.Error(w, "too many hosts come at once: again in some seconds", http.StatusTooManyRequests)
			return
		}
		f(w, r)
	}
}

// HTTP is the server that agents and operators come to.
func (s *Server) HTTP() *http.Server {
	return &http.Server{Handler: s.Secure(), TLSConfig: s.TLSConfig(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute,
		MaxHeaderBytes: 16 << 10, ConnContext: withArrival, HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 16}, ErrorLog: slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug)}
}

// Listener takes so many connections that the streams and those who join have room, and no more; and
// few of an address that shows no certificate.
func (s *Server) Listener(l net.Listener) net.Listener {
	most := s.Limits.Streams + s.Limits.Beginning + s.Limits.Waiting + s.Limits.Unproven
	return &gate{Listener: netutil.LimitListener(l, most), s: s, open: map[*arrival]bool{}, from: map[netip.Addr]*places{}}
}

// gate is where connections arrive.
type gate struct {
	net.Listener
	s    *Server
	mu   sync.Mutex
	open map[*arrival]bool // that have shown no certificate
	from map[netip.Addr]*places
}

// places are an address's that are free: they come back with time, and at once from a connection that
// showed a certificate.
type places struct {
	free float64
	at   time.Time
}

func (p *places) add(l *Limits, now time.Time, n float64) float64 {
	p.free = min(float64(l.Arrive), p.free+max(0, now.Sub(p.at).Seconds())*float64(l.Arrivals)+n)
	p.at = now
	return p.free
}

// arrival is a connection.
type arrival struct {
	net.Conn
	g     *gate
	since time.Time
	place *places // of its address
	late  *time.Timer
}

func (g *gate) Accept() (net.Conn, error) {
	for {
		c, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if a := g.enter(c); a != nil {
			return a, nil
		}
		g.s.metrics.shed.Inc()
		c.Close()
	}
}

// addressOf is whose places a connection takes: an address; of IPv6 the 64 bits that a host has all of.
func addressOf(c net.Conn) netip.Addr {
	t, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	a := t.AddrPort().Addr().Unmap().WithZone("")
	if p, err := a.Prefix(64); a.Is6() && err == nil {
		a = p.Addr()
	}
	return a
}

func (g *gate) enter(c net.Conn) *arrival {
	g.mu.Lock()
	defer g.mu.Unlock()
	key, now, limits := addressOf(c), time.Now(), &g.s.Limits
	p := g.from[key]
	if p == nil {
		if len(g.from) >= 1<<14 { // who has all its places is as good as new
			for k, o := range g.from {
				if o.add(limits, now, 0) >= float64(limits.Arrive) {
					delete(g.from, k)
				}
			}
		}
		p = &places{float64(limits.Arrive), now}
		g.from[key] = p
	}
	if p.add(limits, now, 0) < 1 {
		return nil
	}
	p.free--
	if len(g.open) >= g.s.Limits.Unproven {
		var oldest *arrival
		for a := range g.open {
			if oldest == nil || a.since.Before(oldest.since) {
				oldest = a
			}
		}
		delete(g.open, oldest)
		g.s.metrics.shed.Inc()
		oldest.late.Stop()
		go oldest.Conn.Close()
	}
	a := &arrival{Conn: c, g: g, since: now, place: p}
	a.late = time.AfterFunc(g.s.Limits.Prove, func() {
		if a.leave() {
			g.s.metrics.shed.Inc()
			a.Conn.Close()
		}
	})
	g.open[a] = true
	return a
}

// leave says whether it was still among those that have shown nothing.
func (a *arrival) leave() bool {
	a.g.mu.Lock()
	defer a.g.mu.Unlock()
	was := a.g.open[a]
	delete(a.g.open, a)
	a.late.Stop()
	return was
}

func (a *arrival) Close() error {
	a.leave()
	return a.Conn.Close()
}

type arrivalKey struct{}

// withArrival has a connection's requests know it.
func withArrival(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(*tls.Conn); ok {
		if a, ok := t.NetConn().(*arrival); ok {
			return context.WithValue(ctx, arrivalKey{}, a)
		}
	}
	return ctx
}

// proved gives an address its place back: the connection has a certificate that is good, or joined.
func proved(ctx context.Context) {
	if a, ok := ctx.Value(arrivalKey{}).(*arrival); ok && a.leave() {
		a.g.mu.Lock()
		defer a.g.mu.Unlock()
		a.place.add(&a.g.s.Limits, time.Now(), 1)
	}
}
