package server

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"libeesp/control/pki"
	"libeesp/control/record"
	"libeesp/control/store"
)

// beat is the time between an agent's requests for a checkpoint. A stream that is silent for three beats
// is ended.
const beat = 20 * time.Second

// stream is the connection of one agent.
type stream struct {
	s      *Server
	member record.ID
	name   string
	hello  record.Hello
	pub    ed25519.PublicKey
	out    chan []byte
	done   chan struct{}
	once   sync.Once
	last   *record.Bye
	alive  chan struct{} // a record came in
	since  time.Time
	began  time.Time
	mod    int64 // revision in the store of its session's record
	blocks []record.Block
	pace   *rate.Limiter // limits its records
	ids    *rate.Limiter // limits its blocks of IDs
}

// bye sends a last record, which says why, and ends the stream.
func (st *stream) bye(code uint8, retry uint16, reason string) {
	st.once.Do(func() {
		st.last = &record.Bye{Code: code, Retry: retry, Reason: record.Text(reason, record.MaxReason)}
		close(st.done)
	})
}

// send queues a record. If the queue stays full for 10 s, because the agent does not read, it ends the stream.
func (st *stream) send(raw []byte, err error) {
	if err != nil {
		st.bye(record.ByeLater, 5, err.Error())
		return
	}
	// After one that was not queued, none is: a record without its entry would make the agent refuse the stream, and
	// not hear its last word.
	select {
	case <-st.done:
		return
	default:
	}
	select {
	case st.out <- raw:
	case <-st.done:
	case <-time.After(10 * time.Second):
		st.bye(record.ByeLater, 1, "too slow")
	}
}

// ReadRecord reads one record of a stream.
func ReadRecord(r io.Reader) ([]byte, error) {
	b := make([]byte, 12, 512)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	n, err := record.Size(b)
	if err != nil {
		return nil, err
	}
	b = append(b, make([]byte, n-12)...)
	_, err = io.ReadFull(r, b[12:])
	return b, err
}

var errRefused = errors.New("refused")

// serveStream serves POST /v1/stream: records in both directions.
func (s *Server) serveStream(w http.ResponseWriter, r *http.Request) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 || r.ProtoMajor < 2 {
		http.Error(w, "a member's certificate and HTTP/2 are needed", http.StatusForbidden)
		return
	}
	cert := r.TLS.PeerCertificates[0]
	h, err := pki.HolderOf(cert, s.Cluster)
	pub, ok := cert.PublicKey.(ed25519.PublicKey)
	if err != nil || h.Role != pki.Member || !ok {
		http.Error(w, "not a member's certificate", http.StatusForbidden)
		return
	}
	// A host may have only a few streams that have not sent a hello.
	if !s.enter(h.SPKI) {
		w.Header().Set("Retry-After", "5")
		http.Error(w, "this host begins too many streams at once", http.StatusTooManyRequests)
		return
	}
	var left sync.Once
	leave := func() { left.Do(func() { s.leave(h.SPKI) }) }
	defer leave()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	w.WriteHeader(http.StatusOK)
	w.(http.Flusher).Flush()
	st := &stream{s: s, name: h.Name, pub: pub, out: make(chan []byte, 256), done: make(chan struct{}), alive: make(chan struct{}, 1), since: time.Now(),
		pace: rate.NewLimiter(s.Limits.Records, int(5*s.Limits.Records)), ids: rate.NewLimiter(s.Limits.Blocks, 64)}
	late := time.AfterFunc(helloTime, func() { st.bye(record.ByeLater, s.Limits.Retry, "no hello in time") })
	defer late.Stop()
	greeted := func() {
		late.Stop()
		leave()
	}
	go func() {
		err := s.open(ctx, st, h, r.Body, greeted)
		if err != nil && !errors.Is(err, io.EOF) && ctx.Err() == nil {
			s.Log.Info("stream ended", "member", h.Name, "err", err)
		}
		st.bye(record.ByeLater, 1, fmt.Sprint(err))
	}()
	flush := http.NewResponseController(w)
	write := func(b []byte) bool {
		flush.SetWriteDeadline(time.Now().Add(15 * time.Second))
		_, err := w.Write(b)
		if err == nil {
			err = flush.Flush()
		}
		flush.SetWriteDeadline(time.Time{})
		return err == nil
	}
	for {
		select {
		case b := <-st.out:
			// Queued records are written together: a push is several records.
			for n := len(st.out); n > 0 && len(b) < 64<<10; n-- {
				b = append(slices.Clip(b), <-st.out...)
			}
			if !write(b) {
				st.bye(record.ByeLater, 1, "cannot write")
			}
			continue
		case <-ctx.Done():
			st.bye(record.ByeLater, 1, "gone")
		case <-st.done:
		}
		break
	}
	s.close(st)
	for len(st.out) > 0 {
		write(<-st.out)
	}
	if b, err := record.Encode(st.last); err == nil {
		write(b)
	}
}

// close removes a stream, and with it its member's acknowledgements.
func (s *Server) close(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.streams[st.member] != st {
		return
	}
	delete(s.streams, st.member)
	s.forget(st.member)
	s.wake()
}

// forget removes a member's acknowledgements, because its session has ended. s.mu is held.
func (s *Server) forget(member record.ID) {
	for _, l := range s.levels {
		l.mu.Lock()
		if m := l.members[member]; m != nil {
			for id := range l.rings {
				if w := s.rings[id]; w != nil && w.ready.Has(m.rec.Number) {
					w.ready.Del(m.rec.Number)
					w.covered, w.dirty = time.Time{}, true
				}
			}
		}
		l.mu.Unlock()
	}
}

// find returns the member with an identity key, and its best state on all levels' rosters.
func (s *Server) find(spki record.Hash) (id record.ID, number uint32, state record.MemberState) {
	s.each(func(l *Level) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, x := range l.roster.byKey[spki] {
			m := l.members[x]
			if m == nil || m.rec.SPKI != spki {
				continue
			}
			id, number = m.rec.ID, m.rec.Number
			if state == 0 || rankState(m.rec.State) > rankState(state) {
				state = m.rec.State
			}
		}
		return nil
	})
	return
}

func rankState(s record.MemberState) int {
	return slices.Index([]record.MemberState{record.Revoked, record.Invited, record.Absent, record.MemberActive}, s)
}

func (s *Server) open(ctx context.Context, st *stream, h pki.Holder, body io.Reader, greeted func()) error {
	raw, err := ReadRecord(body)
	if err != nil {
		return err
	}
	if err := record.Verify(raw, &st.hello, s.Cluster, st.pub); err != nil {
		return err
	}
	if s.removed() {
		st.bye(record.ByeLater, 1, "this server was removed from the cluster")
		return errRefused
	}
	id, number, state := s.find(h.SPKI)
	refuse := func(code uint8, retry uint16, why string) error {
		st.bye(code, retry, why)
		return fmt.Errorf("%w: %s", errRefused, why)
	}
	switch state {
	case 0:
		if why := s.anyBroken(); why != "" {
			return refuse(record.ByeRefused, 10, "not on the roster of this server, which does not write: "+why)
		}
		return refuse(record.ByeRefused, 10, "not on the roster")
	case record.Revoked:
		return refuse(record.ByeRevoked, 0, "revoked")
	case record.Invited:
		return refuse(record.ByeRefused, 2, "not admitted yet: eespctl admit "+h.Name)
	}
	s.mu.Lock()
	st.member = id // before the stream is registered: close reads it
	s.mu.Unlock()
	for _, k := range st.hello.Heads {
		l := s.levels[k.Level]
		if l == nil {
			continue
		}
		l.mu.Lock()
		e := l.log[k.Serial]
		fork := e != nil && e.Term == k.Term && e.hash != k.Hash
		l.mu.Unlock()
		if fork {
			s.Log.Error("fork: a member knows another entry", "member", h.Name, "level", k.Level, "serial", k.Serial)
			s.metrics.forks.Inc()
			return refuse(record.ByeRefused, 60, fmt.Sprintf("you know another entry %d than this server: fork", k.Serial))
		}
	}
	if err := s.begin(ctx, st, refuse); err != nil {
		return err
	}
	greeted()
	welcome := func(blocks []record.Block, at []string) {
		w := &record.Welcome{Member: id, Session: st.hello.Session, Server: s.ID, Number: number, Blocks: blocks, Beat: uint16(beat / time.Second)}
		for _, a := range at {
			w.Servers = append(w.Servers, record.Server{Addr: a})
		}
		st.send(record.Encode(w))
	}
	at, moved := s.where()
	welcome(st.blocks, at)
	go s.push(ctx, st)
	go func() {
		for {
			select {
			case <-moved:
				at, moved = s.where()
				welcome(nil, at)
			case <-st.done:
				return
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		// Agents that send more than the limit are read more slowly.
		if err := st.pace.Wait(ctx); err != nil {
			return err
		}
		raw, err := s.read(ctx, st, body)
		if err != nil {
			return err
		}
		if err := s.receive(ctx, st, raw); err != nil {
			return err
		}
	}
}

// read reads one record. If none comes for three beats, it returns an error.
func (s *Server) read(_ context.Context, st *stream, body io.Reader) ([]byte, error) {
	t := time.AfterFunc(3*beat, func() { st.bye(record.ByeLater, 1, "silent") })
	defer t.Stop()
	raw, err := ReadRecord(body)
	if err == nil {
		select {
		case st.alive <- struct{}{}:
		default:
		}
		select {
		case <-st.done:
			return nil, errors.New("ended")
		default:
		}
	}
	return raw, err
}

// begin makes a stream the only one of its member, at this server and others.
func (s *Server) begin(ctx context.Context, st *stream, refuse func(uint8, uint16, string) error) error {
	s.mu.Lock()
	cloned := s.cloned[st.member] == st.hello.Session
	s.mu.Unlock()
	if cloned { // the connection broke before the agent was told
		return refuse(record.ByeCloned, 0, "this session had two streams")
	}
	end, retry, why := s.mayBegin(ctx, st.member)
	if why != "" {
		s.metrics.shed.Inc()
		return refuse(record.ByeLater, retry, why)
	}
	defer end()
	if !st.hello.Resumes {
		for _, k := range []record.IDKind{record.KindDevice, record.KindConnection} {
			b, err := s.alloc(ctx, k, 1)
			if err != nil {
				return refuse(record.ByeLater, 2, err.Error())
			}
			st.blocks = append(st.blocks, b...)
		}
	}
	if err := s.putSession(ctx, st); err != nil {
		return refuse(record.ByeLater, 1, err.Error())
	}
	// Two streams of a member may begin at once, so check again before this one is registered.
	for {
		s.mu.Lock()
		if n := s.newest[st.member]; n.mod > st.mod && n.session != st.hello.Session {
			s.mu.Unlock()
			return refuse(record.ByeFenced, 0, "a newer session of this identity is live")
		}
		old := s.streams[st.member]
		select {
		case <-st.done: // the stream ended meanwhile, and close was called
			s.mu.Unlock()
			return errRefused
		default:
		}
		if old == nil {
			st.began = time.Now()
			s.streams[st.member] = st
			delete(s.absent, st.member)
			s.mu.Unlock()
			return nil
		}
		s.mu.Unlock()
		if err := s.takeOver(ctx, st, old); err != nil {
			return err
		}
	}
}

// takeOver handles an older stream of the same identity. One with another session is fenced: two machines
// must not send with one identity. One with the same session is replaced, as after a broken connection.
// But if the older stream still answers, the machine was cloned, and both must begin a new session.
func (s *Server) takeOver(ctx context.Context, st, old *stream) error {
	if old.hello.Session != st.hello.Session {
		s.fence(old, record.ByeFenced, "a newer session of this identity is live")
		return nil
	}
	if s.answers(ctx, old) {
		s.fence(old, record.ByeCloned, "this session has two streams")
		st.bye(record.ByeCloned, 0, "this session has two streams")
		return fmt.Errorf("%w: cloned", errRefused)
	}
	old.bye(record.ByeLater, 1, "taken over")
	s.close(old)
	return ctx.Err()
}

// fence ends a stream whose identity another machine has too, and notes the incident for operators.
func (s *Server) fence(st *stream, code uint8, why string) {
	what := "fenced"
	if code == record.ByeCloned {
		what = "cloned"
	}
	s.Log.Warn(what+": "+why, "member", st.name, "session", st.hello.Session)
	s.metrics.fenced.Inc()
	s.mu.Lock()
	s.incidents[st.member] = fmt.Sprintf("%s at %s: %s", what, s.Now().UTC().Format(time.RFC3339), why)
	if code == record.ByeCloned {
		s.cloned[st.member] = st.hello.Session
	}
	s.mu.Unlock()
	st.bye(code, 0, why)
	s.close(st)
}

// answers reports whether the other end of a stream is alive. It asks twice: a record that was in flight
// when the connection broke is no answer.
func (s *Server) answers(ctx context.Context, st *stream) bool {
	for range 2 {
		select {
		case <-st.alive:
		default:
		}
		st.send(record.Encode(&record.Ping{Nonce: randomID()}))
		select {
		case <-st.alive:
		case <-st.done:
			return false
		case <-time.After(2 * time.Second):
			return false
		case <-ctx.Done():
			return false
		}
		time.Sleep(50 * time.Millisecond)
	}
	return true
}

// sessionAt says at which server a member's newest session is.
type sessionAt struct {
	session, server record.ID
	mod             int64
}

// putSession writes to the store at which server a session is, so that another server with a stream of
// this identity learns it. A session that goes on at the same server is known already.
func (s *Server) putSession(ctx context.Context, st *stream) error {
	dir := "session/" + st.member.String() + "/"
	olds, _, err := s.Store.List(ctx, dir)
	if err != nil {
		return err
	}
	r := record.Session{Member: st.member, Session: st.hello.Session, Boot: st.hello.Boot, Key: record.HashOf(st.hello.Key), Blocks: st.blocks,
		Agent: st.hello.Agent, Library: st.hello.Library, Features: st.hello.Features, Wall: s.Now().Unix()}
	key := dir + st.hello.Session.String()
	t := store.Txn{}
	for _, o := range olds {
		var was record.Session
		if o.Key != key || !st.hello.Resumes || record.Decode(o.Value, &was) != nil {
			continue
		}
		if was.Server == s.ID {
			s.mu.Lock()
			st.mod = o.Mod
			s.mu.Unlock()
			return nil
		}
		r.Blocks, t.If = was.Blocks, []store.Cond{{Key: key, Mod: o.Mod}}
	}
	r.Server = s.ID
	raw, err := record.Encode(&r)
	if err != nil {
		return err
	}
	t.Put = []store.KV{{Key: key, Value: raw}}
	slices.SortFunc(olds, func(a, b store.KV) int { return int(b.Mod - a.Mod) })
	for i, o := range olds {
		if i >= 4 && len(t.Del) < 64 && o.Key != key {
			t.Del = append(t.Del, o.Key)
		}
	}
	rev, err := s.Store.Commit(ctx, t)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st.mod = rev
	s.heardOf(st.member, sessionAt{st.hello.Session, s.ID, rev})
	return nil
}

// heardOf notes the newest session of a member. s.mu is held.
func (s *Server) heardOf(member record.ID, at sessionAt) {
	if s.newest[member].mod < at.mod {
		s.newest[member] = at
	}
}

// watchSessions fences streams of this server whose identity has a newer session at another one. After a
// gap it reads all sessions.
func (s *Server) watchSessions(ctx context.Context) {
	from := "session/ " // no key has this prefix: at first only the revision is needed, since there are no streams yet
	for ctx.Err() == nil {
		kvs, rev, err := s.Store.List(ctx, from)
		if err == nil {
			from = "session/"
			for _, e := range kvs {
				s.sessionBegan(ctx, e)
			}
			for evs := range s.Store.Watch(ctx, "session/", rev) {
				for _, e := range evs {
					s.sessionBegan(ctx, e)
				}
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (s *Server) sessionBegan(ctx context.Context, e store.KV) {
	var r record.Session
	if e.Mod == 0 || record.Decode(e.Value, &r) != nil {
		return
	}
	s.mu.Lock()
	s.heardOf(r.Member, sessionAt{r.Session, r.Server, e.Mod})
	st := s.streams[r.Member]
	if st == nil || r.Server == s.ID || e.Mod <= st.mod {
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	if st.hello.Session != r.Session {
		s.fence(st, record.ByeFenced, "a newer session of this identity is live at another server")
		return
	}
	// The session goes on at another server: its connection here broke, or there are two machines.
	go func() {
		if !s.answers(ctx, st) {
			st.bye(record.ByeLater, 1, "it went on at another server")
			s.close(st)
			return
		}
		s.fence(st, record.ByeCloned, "this session has a stream to another server")
		// The other server must check its stream too.
		told := &stream{member: st.member, hello: st.hello}
		told.hello.Resumes = true
		if err := s.putSession(ctx, told); err != nil && ctx.Err() == nil {
			s.Log.Warn("the other server was not told of a clone", "member", st.name, "err", err)
		}
	}()
}

// receive handles one record from an agent.
func (s *Server) receive(ctx context.Context, st *stream, raw []byte) error {
	switch record.TypeOf(raw) {
	case record.TypeAck:
		var a record.Ack
		if err := record.Verify(raw, &a, s.Cluster, st.pub); err != nil {
			return err
		}
		return s.ack(st, &a)
	case record.TypePing:
		var p record.Ping
		if err := record.Decode(raw, &p); err != nil {
			return err
		}
		return s.each(func(l *Level) error {
			if err := l.fresh(ctx); err != nil {
				s.Log.Warn("no checkpoint", "level", l.Level, "err", err)
				return nil
			}
			st.send(l.grant(st, p.Nonce, record.ID{}))
			return nil
		})
	case record.TypeNeed:
		var n record.Need
		if err := record.Decode(raw, &n); err != nil {
			return err
		}
		l := s.levels[n.Level]
		if l == nil {
			return errors.New("no such level")
		}
		if err := l.fresh(ctx); err != nil {
			return err
		}
		g, err := l.grant(st, n.Nonce, n.Ring)
		if err == nil {
			s.Log.Info("KEK granted", "member", st.name, "ring", n.Ring, "session", st.hello.Session)
			s.metrics.grants.Inc()
		}
		st.send(g, err)
	case record.TypeIDs:
		var q record.IDs
		if err := record.Decode(raw, &q); err != nil {
			return err
		}
		n := min(int(q.Count), 16)
		if !st.ids.AllowN(time.Now(), n) {
			return nil // the agent asks again
		}
		bs, err := s.alloc(ctx, q.Kind, n)
		if err != nil {
			s.Log.Warn("IDs", "err", err)
			return nil
		}
		st.send(record.Encode(&record.IDs{Kind: q.Kind, Blocks: bs}))
	case record.TypeUsage:
		var u record.Usage
		if err := record.Decode(raw, &u); err != nil {
			return err
		}
		s.mu.Lock()
		if w := s.rings[u.Ring]; w != nil {
			w.usage[st.member] = u
		}
		s.mu.Unlock()
		s.wake()
	default:
		return fmt.Errorf("unexpected record of type %d", record.TypeOf(raw))
	}
	return nil
}

// ack handles a member's acknowledgement of a step. It counts for this session, for the entry of this
// step, and with the right fingerprints.
func (s *Server) ack(st *stream, a *record.Ack) error {
	l := s.levels[a.Level]
	if l == nil || a.Session != st.hello.Session || a.Member != st.member {
		return errors.New("an acknowledgement of another session")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.streams[st.member] != st {
		return nil
	}
	r, m := l.rings[a.Ring], l.members[a.Member]
	if r == nil || m == nil {
		return nil
	}
	// The member must have the same chain as this server.
	if e := l.log[a.HeadSerial]; a.Code == record.CodeNone && e != nil && a.HeadTerm == e.Term && e.hash != a.Head {
		s.Log.Error("fork: a member knows another entry", "member", st.name, "serial", a.HeadSerial)
		s.metrics.forks.Inc()
		s.watch(l, r).nacks[m.rec.Number] = "knows another chain: fork"
		return nil
	}
	w := s.watch(l, r)
	if a.Code != record.CodeNone {
		if a.Step == w.step || a.Step == 0 {
			w.nacks[m.rec.Number] = fmt.Sprintf("%v: %s", a.Code, a.Reason)
			w.dirty = true
		}
		return nil
	}
	if a.Term != w.term || a.Step != w.step || a.Entry != w.entry || len(a.Fingerprints) != len(r.rec.Gens) {
		return nil
	}
	for i, g := range r.rec.Gens {
		if a.Fingerprints[i] != g.Fingerprint {
			w.nacks[m.rec.Number] = "has another value: fingerprint differs"
			return nil
		}
	}
	delete(w.nacks, m.rec.Number)
	if !w.ready.Has(m.rec.Number) {
		w.ready.Add(m.rec.Number)
		w.covered, w.dirty = time.Time{}, true
	}
	s.wake()
	return nil
}

// grant returns a grant for a session: a checkpoint with its nonce, and the KEK of a ring if one is
// given.
func (l *Level) grant(st *stream, nonce, ring record.ID) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.head == nil {
		return nil, errors.New("no head")
	}
	if l.broken != "" {
		return nil, fmt.Errorf("%w: %s", ErrReadOnly, l.broken)
	}
	g := &record.Grant{Level: l.Level, Ring: ring, Member: st.member, Session: st.hello.Session, Nonce: nonce, Term: l.head.Term, Serial: l.head.Serial, Head: l.head.hash, Instance: l.keys.ID}
	if !ring.IsZero() {
		r, m := l.rings[ring], l.members[st.member]
		if r == nil || m == nil || !m.rec.May(ring) {
			return nil, fmt.Errorf("ring %v is not for %s", ring, st.name)
		}
		k, err := l.kek(ring)
		if err != nil {
			return nil, err
		}
		g.RingHash, g.KEKEpoch, g.KEKStep, g.RingSerial = r.hash, k.epoch, k.step, r.rec.Serial
		if e := l.log[r.rec.Serial]; e != nil {
			g.Entry = e.hash
		}
		if err := g.SealKEK(l.cluster, st.hello.Key, &k.kek); err != nil {
			return nil, err
		}
	}
	return record.Sign(g, l.cluster, l.keys.Sign)
}

// removed reports whether this server was removed from a level at least.
func (s *Server) removed() (is bool) {
	s.each(func(l *Level) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		is = is || l.removed
		return nil
	})
	return is
}

// anyBroken returns why this server does not write to a level; "": it writes to all.
func (s *Server) anyBroken() (why string) {
	s.each(func(l *Level) error {
		if b := l.Broken(); why == "" {
			why = b
		}
		return nil
	})
	return why
}

// pushLeast is the least time between two pushes of entries that change nothing for an agent: while ten thousand hosts
// join or come back, each of them would get an entry for each other one.
const pushLeast = time.Second

// push sends a stream the records that its agent lacks, now and at every change.
func (s *Server) push(ctx context.Context, st *stream) {
	sent := map[record.Level]record.Known{}
	first := map[record.Level]bool{}
	var last [record.Levels]time.Time
	late := time.NewTimer(0)
	defer late.Stop()
	for _, k := range st.hello.Heads {
		sent[k.Level] = k
	}
	for {
		var cases []<-chan struct{}
		if s.removed() {
			st.bye(record.ByeLater, 1, "this server was removed from the cluster")
			return
		}
		s.each(func(l *Level) error {
			cases = append(cases, l.Changed())
			recs, head, state, idle := l.lacks(st.member, sent[l.Level], !first[l.Level])
			if state == record.Revoked {
				st.bye(record.ByeRevoked, 0, "revoked")
				return nil
			}
			if len(recs) == 0 {
				return nil
			}
			if wait := pushLeast - time.Since(last[l.Level]); idle && wait > 0 {
				late.Reset(wait)
				return nil
			}
			last[l.Level] = time.Now()
			for _, r := range recs {
				st.send(r, nil)
			}
			st.send(record.Encode(&record.Sync{Head: head}))
			if !first[l.Level] {
				st.send(l.grant(st, st.hello.Nonce, record.ID{}))
			}
			sent[l.Level], first[l.Level] = head, true
			return nil
		})
		// At most three levels; one that is missing never changes.
		for len(cases) < int(record.Levels) {
			cases = append(cases, nil)
		}
		select {
		case <-cases[0]:
		case <-cases[1]:
		case <-cases[2]:
		case <-late.C:
		case <-st.done:
			return
		case <-ctx.Done():
			return
		}
	}
}

// lacks returns the records that an agent with a known head lacks; with all, every record, as at the
// beginning of a stream. idle: nothing of it is for this member but the log's entries.
func (l *Level) lacks(member record.ID, known record.Known, all bool) (recs [][]byte, head record.Known, state record.MemberState, idle bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := l.members[member]
	if m == nil || l.head == nil {
		return nil, known, 0, false
	}
	if m.rec.State == record.Revoked {
		return nil, known, record.Revoked, false
	}
	if l.broken != "" { // the store may be old, or another one
		return nil, known, m.rec.State, false
	}
	head = l.head.known()
	if head == known && !all {
		return nil, known, m.rec.State, false
	}
	from := known.Serial
	if all || known.Term != head.Term {
		from = 0
	}
	recs = append(recs, l.deleg.raw, m.raw)
	put := map[uint64]bool{}
	addEntry := func(serial uint64) {
		if e := l.log[serial]; e != nil && !put[serial] {
			put[serial] = true
			recs = append(recs, e.raw)
		}
	}
	var rings [][]byte
	for id, r := range l.rings {
		if m.rec.May(id) && r.rec.Serial > from {
			addEntry(r.rec.Serial)
			rings = append(rings, r.raw)
		}
	}
	if k := known.Serial; known.Term == head.Term && k < head.Serial && head.Serial-k <= 64 && l.signedSince(k) {
		for n := k + 1; n <= head.Serial; n++ {
			addEntry(n)
		}
	}
	addEntry(head.Serial)
	// Entries in their order, so that the agent can follow the chain.
	slices.SortStableFunc(recs[2:], func(a, b []byte) int {
		var x, y record.Head
		record.Decode(a, &x)
		record.Decode(b, &y)
		return int(int64(x.Serial) - int64(y.Serial))
	})
	idle = !all && known.Term == head.Term && len(rings) == 0 && m.rec.Since <= from && l.names.deleg <= from && head.Serial-from <= 32
	recs = append(recs, rings...)
	for _, g := range l.groups {
		if g.rec.Since > from {
			recs, idle = append(recs, g.raw), false
		}
	}
	return recs, head, m.rec.State, idle
}

// signedSince reports whether an agent can verify all entries after one. If a removed instance signed
// some of them, it cannot, and a checkpoint must bridge the gap.
func (l *Level) signedSince(serial uint64) bool {
	for n := serial + 1; n <= l.head.Serial; n++ {
		if e := l.log[n]; e != nil && l.verify(e.raw, new(record.Head), record.RoleRotate) != nil {
			return false
		}
	}
	return true
}
