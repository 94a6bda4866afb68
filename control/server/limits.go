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

// Limits protect a server when all hosts come at once, or one comes all the time. Above a limit, the
// server answers "later" with a number of seconds, and the agent comes back at a random time within
// these. 0 means the default.
type Limits struct {
	Streams   int           // at one time
	Beginning int           // streams that begin at one time: each costs a signature, a write and all records
	Waiting   int           // streams that wait to begin
	Enter     int           // streams of one host that have not sent a hello yet
	Retry     uint16        // seconds, in the answer "later"
	Often     time.Duration // least time between sessions of a host, after the first 20
	Records   rate.Limit    // records of a stream a second
	Blocks    rate.Limit    // blocks of IDs of a stream a second, after the first 64
	Joins     rate.Limit    // joins and renewals of certificates a second, after ten times as many

	// Connections that have not shown a valid certificate: each costs a handshake.
	Unproven int           // at one time; above it, the oldest is closed
	Arrive   int           // at one time from one address
	Arrivals rate.Limit    // further ones from one address a second; those that show a certificate do not count
	Prove    time.Duration // how long one may take to show a certificate or to join
}

// DefaultLimits are the defaults.
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
	helloTime = 30 * time.Second // how long a stream may take for its first record, and for the beginning of its session
	placeTime = 10 * time.Second // how long a stream waits to begin
)

// enter counts a stream that has not sent a hello yet, and reports whether it is allowed; leave ends that.
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

// mayBegin waits until a stream may begin; end must be called afterwards. If it may not, it returns why,
// and after how many seconds to come back.
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

// paced limits calls of a handler to Limits.Joins; further ones are answered "later".
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

// HTTP returns the HTTP server for agents and operators.
func (s *Server) HTTP() *http.Server {
	return &http.Server{Handler: s.Secure(), TLSConfig: s.TLSConfig(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute,
		MaxHeaderBytes: 16 << 10, ConnContext: withArrival, HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 16}, ErrorLog: slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug)}
}

// Listener limits connections: to as many as streams and joins need, and for each address those that
// have not shown a certificate.
func (s *Server) Listener(l net.Listener) net.Listener {
	most := s.Limits.Streams + s.Limits.Beginning + s.Limits.Waiting + s.Limits.Unproven
	return &gate{Listener: netutil.LimitListener(l, most), s: s, open: map[*arrival]bool{}, from: map[netip.Addr]*places{}}
}

// gate is the listener with these limits.
type gate struct {
	net.Listener
	s    *Server
	mu   sync.Mutex
	open map[*arrival]bool // connections that have not shown a certificate
	from map[netip.Addr]*places
}

// places are the free places of an address. A place comes back with time, or at once if its connection
// shows a certificate.
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
	place *places // those of its address
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

// addressOf returns the address whose places a connection takes; for IPv6, its first 64 bits, since a
// host can have all the others.
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
		if len(g.from) >= 1<<14 { // remove addresses with all their places: they are like new ones
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

// leave removes a connection from those that have not shown a certificate, and reports whether it was
// one.
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

// withArrival adds the connection to the context of its requests.
func withArrival(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(*tls.Conn); ok {
		if a, ok := t.NetConn().(*arrival); ok {
			return context.WithValue(ctx, arrivalKey{}, a)
		}
	}
	return ctx
}

// proved gives an address its place back: the connection has a valid certificate, or has joined.
func proved(ctx context.Context) {
	if a, ok := ctx.Value(arrivalKey{}).(*arrival); ok && a.leave() {
		a.g.mu.Lock()
		defer a.g.mu.Unlock()
		a.place.add(&a.g.s.Limits, time.Now(), 1)
	}
}
