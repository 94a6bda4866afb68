package server

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"net/http"
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
}

// DefaultLimits are for what Limits does not say.
var DefaultLimits = Limits{Streams: 50_000, Beginning: 64, Waiting: 256, Enter: 4, Retry: 10, Often: 2 * time.Second, Records: 200, Blocks: 1, Joins: 100}

func (l *Limits) fill() {
	d := &DefaultLimits
	l.Streams, l.Beginning, l.Waiting, l.Enter = cmp.Or(l.Streams, d.Streams), cmp.Or(l.Beginning, d.Beginning), cmp.Or(l.Waiting, d.Waiting), cmp.Or(l.Enter, d.Enter)
	l.Retry, l.Often = cmp.Or(l.Retry, d.Retry), cmp.Or(l.Often, d.Often)
	l.Records, l.Blocks, l.Joins = cmp.Or(l.Records, d.Records), cmp.Or(l.Blocks, d.Blocks), cmp.Or(l.Joins, d.Joins)
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
		MaxHeaderBytes: 16 << 10, HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 16}, ErrorLog: slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug)}
}

// Listener takes so many connections that the streams and those who join have room, and no more.
func (s *Server) Listener(l net.Listener) net.Listener {
	return netutil.LimitListener(l, s.Limits.Streams+s.Limits.Beginning+s.Limits.Waiting+1024)
}
