package server

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"libeesp/control/record"
	"libeesp/control/rotation"
	"libeesp/control/store"
)

// The roots add a server to a cluster, or remove one, by a new delegation in the same term. KEKs are
// sealed to the instances in the delegation.

// DelegateRequest is a level's new delegation.
type DelegateRequest struct {
	Level      string `json:"level"`
	Delegation []byte `json:"delegation"`
	Emergency  bool   `json:"emergency"` // if an instance is removed, rings rotate with the deadlines of an emergency
	// Finish does what the delegation in force has left to do, if that was interrupted: KEKs for its instances, and
	// new ones for rings that a removed server can open. There is no new delegation.
	Finish bool `json:"finish,omitempty"`
}

// escrowsPerEntry and ringsPerEntry keep transactions below etcd's 1.5 MiB: an escrow has
// 1.2 KB for each instance.
const (
	escrowsPerEntry = 32
	ringsPerEntry   = 16
	ringsPerRevoke  = 96 // without KEKs; below etcd's 128 operations, with the member and the log
)

// errAgain: records that a delegation would leave without a valid signature must be signed again first.
var errAgain = errors.New("records are still signed by the server that is removed")

// Delegate puts a delegation in force. If it leaves out instances, this instance signs their records
// again, and the rings get new KEKs and keys, since those instances may have the old ones.
func (s *Server) Delegate(ctx context.Context, by string, q DelegateRequest) (any, error) {
	lv, err := record.ParseLevel(q.Level)
	if err != nil {
		return nil, bad("no such level")
	}
	if q.Finish {
		if l := s.levels[lv]; l != nil {
			n, err := s.finish(ctx, l, by, "", q.Emergency)
			s.wake()
			return map[string]any{"level": q.Level, "rings": n}, err
		}
		return nil, bad("no such level")
	}
	l, d, err := s.delegation(lv, q.Delegation)
	if err != nil {
		return nil, err
	}
	added, left, err := l.differ(&d)
	if err != nil {
		return nil, err
	}
	if _, err := s.finish(ctx, l, by, "", q.Emergency); err != nil { // what the one before has left
		return nil, err
	}
	var what []string
	for _, n := range added {
		what = append(what, "added "+n)
	}
	for _, n := range left {
		what = append(what, removedBy+n)
	}
	reason := strings.Join(what, ", ")
	for again := true; again; {
		for len(left) > 0 {
			e, err := l.commit(ctx, func() (*change, error) { return l.signAgain(&d, by, reason) })
			if err != nil {
				return nil, err
			}
			if e == nil {
				break
			}
		}
		_, err := l.commit(ctx, func() (*change, error) {
			if _, _, err := l.differLocked(&d); err != nil { // another server was faster
				return nil, err
			}
			if c, err := l.signAgain(&d, by, reason); !errors.Is(err, errNothing) {
				if err == nil && c != nil {
					err = errAgain
				}
				return nil, err
			}
			c := &change{head: record.Head{Change: record.ChangeDelegate, Who: by, Reason: reason}, deleg: q.Delegation}
			if len(left) > 0 { // as many as this transaction takes: usually all
				l.rekeyIn(c, slices.Collect(maps.Keys(l.rings)), reason, q.Emergency)
			}
			return c, l.escrowsFor(c, d.Instances, sealedTo(d.Instances))
		})
		if again = errors.Is(err, errAgain); err != nil && !again {
			return nil, err
		}
	}
	if _, err := s.finish(ctx, l, by, reason, q.Emergency); err != nil {
		return nil, fmt.Errorf("the delegation is in force, but not all rings have their KEKs for it: give the command again: %w", err)
	}
	s.Log.Warn("delegation", "level", l.Level, "serial", d.Serial, "change", reason, "by", by)
	s.wake()
	return map[string]any{"level": q.Level, "serial": d.Serial, "added": append([]string{}, added...), "removed": append([]string{}, left...)}, nil
}

// delegation verifies a delegation by the level's root, and returns it and the level.
func (s *Server) delegation(lv record.Level, raw []byte) (l *Level, d record.Delegation, err error) {
	if l = s.levels[lv]; l == nil {
		return nil, d, bad("no such level")
	}
	if err := record.Verify(raw, &d, s.Cluster, l.root); err != nil {
		return nil, d, fmt.Errorf("%w: the delegation is not by this level's root: %v", errBad, err)
	}
	return l, d, nil
}

// differ returns the names of instances that a delegation adds and leaves out. It returns an error if
// the delegation cannot follow the one in force.
func (l *Level) differ(d *record.Delegation) (added, left []string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.differLocked(d)
}

func (l *Level) differLocked(d *record.Delegation) (added, left []string, err error) {
	old := &l.deleg.rec
	if l.head == nil {
		return nil, nil, fmt.Errorf("%w: level %v has no log yet", rotation.ErrGuard, l.Level)
	}
	if d.Level != l.Level || d.Term != old.Term || d.Serial != old.Serial+1 {
		return nil, nil, fmt.Errorf("%w: the delegation in force is %d of term %d, which %d of term %d does not follow", rotation.ErrGuard, old.Serial, old.Term, d.Serial, d.Term)
	}
	has := func(in []record.Instance, x record.Instance) bool {
		return slices.ContainsFunc(in, func(o record.Instance) bool {
			return o.ID == x.ID && o.Sign == x.Sign && slices.Equal(o.HPKE, x.HPKE) && o.Roles&x.Roles == x.Roles
		})
	}
	for _, x := range d.Instances {
		if !has(old.Instances, x) {
			added = append(added, x.Name)
		}
	}
	for _, x := range old.Instances {
		if !has(d.Instances, x) {
			if x.ID == l.keys.ID {
				return nil, nil, fmt.Errorf("%w: server %s cannot remove itself: run the command on another server", rotation.ErrGuard, x.Name)
			}
			left = append(left, x.Name)
		}
	}
	return added, left, nil
}

// removedBy begins the name of each removed server in the reason of a delegation's entry.
const removedBy = "removed "

// finish seals KEKs to the instances of the delegation in force, and makes rings rotate under new ones if it has
// removed a server that may have theirs: what did not fit in its own transaction, or was interrupted. It returns how
// many rings were to rotate.
func (s *Server) finish(ctx context.Context, l *Level, by, reason string, emergency bool) (rings int, err error) {
	for again := true; again; {
		e, err := l.commit(ctx, func() (*change, error) {
			c := &change{head: record.Head{Change: record.ChangeDelegate, Who: by, Reason: strings.TrimSuffix("KEKs for these instances: "+reason, ": ")}}
			if l.head == nil {
				return nil, errNothing
			}
			if err := l.escrowsFor(c, l.deleg.rec.Instances, sealedTo(l.deleg.rec.Instances)); err != nil {
				return nil, err
			}
			if len(c.escrows) == 0 {
				return nil, errNothing
			}
			return c, nil
		})
		if err != nil {
			return 0, err
		}
		again = e != nil
	}
	for {
		n := 0
		e, err := l.commit(ctx, func() (*change, error) {
			ids, why := l.toRekey()
			if len(ids) == 0 {
				return nil, errNothing
			}
			c := &change{head: record.Head{Change: record.ChangeDelegate, Who: by, Reason: "new KEKs: " + why}}
			if emergency {
				c.head.Change = record.ChangeEmergency
			}
			l.rekeyIn(c, ids, why, emergency)
			n = len(c.rings)
			return c, nil
		})
		if err != nil || e == nil {
			return rings, err
		}
		rings += n
	}
}

// toRekey returns the rings that a server which the delegation in force has removed can open, and that delegation's
// reason: those that no entry from that on has made to draw a new KEK. l.mu is held.
func (l *Level) toRekey() (ids []record.ID, reason string) {
	named := map[record.ID]bool{}
	for e := l.head; e != nil; e = l.log[e.Serial-1] {
		deleg := false
		for _, c := range e.Changed {
			deleg = deleg || c.Type == record.TypeDelegation
			switch e.Change {
			case record.ChangeDelegate, record.ChangeEmergency, record.ChangeCreate, record.ChangeRevoke, record.ChangeRestore:
				named[c.ID] = named[c.ID] || c.Type == record.TypeRing
			}
		}
		if !deleg {
			continue
		}
		if e.Change == record.ChangeDelegate && strings.Contains(e.Reason, removedBy) {
			reason = e.Reason
			for id := range l.rings {
				if !named[id] {
					ids = append(ids, id)
				}
			}
		}
		break
	}
	return ids, reason
}

// rekeyIn adds rings to a change, at most ringsPerEntry: their next rotation draws a new KEK. l.mu is held.
func (l *Level) rekeyIn(c *change, ids []record.ID, reason string, emergency bool) {
	for _, id := range ids[:min(len(ids), ringsPerEntry)] {
		r := l.rings[id]
		n := rotation.Again(&r.rec, true)
		if emergency {
			n = rotation.Urge(&r.rec, false, reason)
		}
		c.rings = append(c.rings, ringChange{n, rotation.Effect{Change: c.head.Change, New: n.Of(record.Current)}})
	}
}

// signAgain makes the next transaction with records to be signed again, since no instance of a
// delegation signed them. l.mu is held.
func (l *Level) signAgain(d *record.Delegation, by, reason string) (*change, error) {
	// l.verify remembers what it has verified: there may be ten thousand members, and many transactions.
	signed := func(raw []byte, r record.Body, role uint8) bool {
		by := record.Signer(raw)
		is, was := d.ByKey(by, role), l.deleg.rec.ByKey(by, role)
		return is != nil && was != nil && is.Sign == was.Sign && l.verify(raw, r, role) == nil
	}
	c := &change{head: record.Head{Change: record.ChangeDelegate, Who: by, Reason: "signed again: " + reason}}
	for _, m := range l.members {
		if len(c.members) < perEntry && !signed(m.raw, new(record.Member), record.RoleAdmit) {
			x := m.rec
			c.members = append(c.members, &x)
		}
	}
	if len(c.members) > 0 {
		return c, nil
	}
	for _, g := range l.groups {
		if len(c.groups) < perEntry && !signed(g.raw, new(record.Group), record.RoleRotate) {
			x := g.rec
			c.groups = append(c.groups, &x)
		}
	}
	if len(c.groups) > 0 {
		return c, nil
	}
	for _, r := range l.rings {
		var entry []byte
		if e := l.log[r.rec.Serial]; e != nil {
			entry = e.raw
		}
		if len(c.rings) < ringsPerEntry && (!signed(r.raw, new(record.Ring), record.RoleRotate) || !signed(entry, new(record.Head), record.RoleRotate)) {
			n := rotation.Again(&r.rec, false)
			c.rings = append(c.rings, ringChange{n, rotation.Effect{Change: record.ChangeDelegate, New: n.Of(record.Current)}})
		}
	}
	if len(c.rings) > 0 {
		return c, nil
	}
	if err := l.escrowsFor(c, d.Instances, func(e *item[record.Escrow]) bool { return signed(e.raw, new(record.Escrow), record.RoleRotate) }); err != nil {
		return nil, err
	}
	if len(c.escrows) == 0 {
		return nil, errNothing
	}
	return c, nil
}

// sealedTo returns a function that reports whether an escrow is for exactly these instances.
func sealedTo(to []record.Instance) func(*item[record.Escrow]) bool {
	return func(e *item[record.Escrow]) bool {
		return len(e.rec.Keys) == len(to) && !slices.ContainsFunc(to, func(in record.Instance) bool {
			return !slices.ContainsFunc(e.rec.Keys, func(k record.EscrowKey) bool { return k.Instance == in.ID })
		})
	}
}

// escrowsFor adds new escrows, for these instances, to a change, for rings whose escrow is not good any
// more: at most escrowsPerEntry. l.mu is held.
func (l *Level) escrowsFor(c *change, to []record.Instance, good func(*item[record.Escrow]) bool) error {
	for id, r := range l.rings {
		if len(c.escrows) == escrowsPerEntry {
			return nil
		}
		if o := l.escrows[id]; o != nil && o.rec.Epoch == r.rec.KEKEpoch && o.rec.Step == r.rec.KEKStep && good(o) {
			continue
		}
		k, err := l.kek(id)
		if err != nil {
			return err
		}
		e := &record.Escrow{Ring: id, Epoch: k.epoch, Step: k.step}
		if err := e.SealTo(l.cluster, &k.kek, to); err != nil {
			return err
		}
		c.escrows = append(c.escrows, e)
	}
	return nil
}

// announced is a server's entry in the store about itself, for hosts that join.
type announced struct {
	Name string `json:"name"`
	Addr string `json:"addr"`
}

func announceKey(id record.ID) string { return "server/" + id.String() }

// announce writes this server's address to the store.
func (s *Server) announce(ctx context.Context) {
	if s.Addr == "" {
		return
	}
	b, err := json.Marshal(announced{s.Name, s.Addr})
	b = s.sealRow(announceKey(s.ID), b)
	for wait := time.Second; err == nil && ctx.Err() == nil; wait = min(2*wait, time.Minute) {
		kv, e := s.Store.Get(ctx, announceKey(s.ID))
		if e == nil && string(kv.Value) != string(b) {
			_, e = s.Store.Commit(ctx, store.Txn{Put: []store.KV{{Key: announceKey(s.ID), Value: b}}})
		}
		if e == nil {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// watchServers keeps the servers' addresses up to date, and makes streams tell their agents changes.
func (s *Server) watchServers(ctx context.Context) {
	var delegations record.Hash
	for ctx.Err() == nil {
		_, rev, err := s.Store.List(ctx, "server/ ") // no key has this prefix: for the revision only
		if err == nil {
			events := s.Store.Watch(ctx, "server/", rev)
			for open := true; open && ctx.Err() == nil; {
				s.findServers(ctx)
				for again := false; !again; { // a new delegation may name other servers
					select {
					case _, open = <-events:
						again = true
					case <-time.After(time.Second):
						now := s.delegations()
						again, delegations = now != delegations, now
					case <-ctx.Done():
						again = true
					}
				}
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// delegations returns a hash of the delegations in force.
func (s *Server) delegations() record.Hash {
	var b []byte
	s.each(func(l *Level) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		b = append(b, l.deleg.hash[:]...)
		return nil
	})
	return record.HashOf(b)
}

func (s *Server) findServers(ctx context.Context) {
	now, at := s.addresses(ctx)
	frozen, err := s.Store.Get(ctx, freezeKey)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = at
	if now := record.Text(string(frozen.Value), 200); err == nil && now != s.freeze {
		s.freeze = now
		s.Log.Info("freeze", "reason", s.freeze)
		s.wake()
	}
	if !slices.Equal(now, s.servers) {
		s.servers = now
		close(s.moved)
		s.moved = make(chan struct{})
	}
}

// freezeKey is the store's key with the reason why no rotation may begin.
const freezeKey = "server/freeze"

// Freeze stops rotations from beginning, except for emergencies. Without a reason it ends that.
func (s *Server) Freeze(ctx context.Context, by string, q NameRequest) (any, error) {
	if err := checkReason(q.Reason); err != nil {
		return nil, err
	}
	t := store.Txn{Put: []store.KV{{Key: freezeKey, Value: []byte(q.Reason)}}}
	if q.Reason == "" {
		t = store.Txn{Del: []string{freezeKey}}
	}
	if _, err := s.Store.Commit(ctx, t); err != nil {
		return nil, err
	}
	s.Log.Warn("freeze", "reason", q.Reason, "by", by)
	s.findServers(ctx)
	return map[string]string{"frozen": q.Reason}, nil
}

// where returns the servers' addresses, and a channel that is closed when they change.
func (s *Server) where() ([]string, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.servers, s.moved
}

// addresses returns the addresses for agents of the servers of this store: those that the servers
// announced and, as long as one has not, those of this server's file. at has each server's own.
func (s *Server) addresses(ctx context.Context) (addrs []string, at map[record.ID]string) {
	named := map[string]record.ID{}
	s.each(func(l *Level) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, in := range l.deleg.rec.Instances {
			named[announceKey(in.ID)] = in.ID
		}
		return nil
	})
	kvs, _, err := s.Store.List(ctx, "server/")
	at = map[record.ID]string{}
	var out []announced
	for _, kv := range kvs {
		var a announced
		id, is := named[kv.Key]
		if !is {
			continue
		}
		b, err := s.openRow(kv.Key, kv.Value, 0)
		if err == nil && json.Unmarshal(b, &a) == nil && a.Addr != "" && record.Text(a.Addr, 256) == a.Addr {
			out = append(out, a)
			at[id] = a.Addr
		}
	}
	if err != nil || len(out) == 0 {
		return s.Addrs, at
	}
	slices.SortFunc(out, func(a, b announced) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Addr, b.Addr))
	})
	for _, a := range out {
		addrs = append(addrs, a.Addr)
	}
	if len(out) < len(named) {
		for _, a := range s.Addrs {
			if !slices.Contains(addrs, a) {
				addrs = append(addrs, a)
			}
		}
	}
	return addrs, at
}

// Members is a store with machines that can be added and removed: etcd embedded in the servers.
type Members interface {
	// AddMember adds a machine, at first as a learner, without a vote. It returns all machines, as
	// name=URL,..., with which the new one must start.
	AddMember(ctx context.Context, name, peer string) (cluster string, err error)
	// RemoveMember removes a machine.
	RemoveMember(ctx context.Context, name string) error
	// MoveMember sets the URL by which others reach this machine from now on.
	MoveMember(ctx context.Context, peer string) error
}

// StoreRequest changes the machines of the embedded store.
type StoreRequest struct {
	Op   string `json:"op"` // add, remove, move
	Name string `json:"name"`
	Peer string `json:"peer"` // URL
}

// StoreMember calls Members for an operator.
func (s *Server) StoreMember(ctx context.Context, by string, q StoreRequest) (any, error) {
	m, ok := s.Store.(Members)
	if !ok {
		return map[string]string{"cluster": ""}, nil // an external etcd is managed with its own tools
	}
	s.Log.Warn("store", "op", q.Op, "name", q.Name, "peer", q.Peer, "by", by)
	switch q.Op {
	case "add":
		c, err := m.AddMember(ctx, q.Name, q.Peer)
		return map[string]string{"cluster": c}, err
	case "remove":
		return map[string]string{"cluster": ""}, m.RemoveMember(ctx, q.Name)
	case "move":
		return map[string]string{"cluster": ""}, m.MoveMember(ctx, q.Peer)
	}
	return nil, bad("op %q: add, remove or move", q.Op)
}

// known reads the servers' addresses from the store.
func (s *Server) known(ctx context.Context) []string { l, _ := s.addresses(ctx); return l }
