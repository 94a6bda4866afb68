package server

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"libeesp/control/pki"
	"libeesp/control/record"
	"libeesp/control/rotation"
	"libeesp/control/store"
)

// Errors for operators.
var (
	ErrReadOnly = errors.New("read-only")
	ErrNotFound = errors.New("not found")
	ErrExists   = errors.New("exists already")
)

// Keys are the keys of an instance at one level.
type Keys struct {
	ID   record.ID
	Sign ed25519.PrivateKey
	HPKE hpke.PrivateKey
}

// entry is an entry of the log, with its record.
type entry struct {
	record.Head
	raw  []byte
	hash record.Hash
}

func (e *entry) known() record.Known {
	return record.Known{Level: e.Level, Term: e.Term, Serial: e.Serial, Hash: e.hash}
}

type item[T any] struct {
	rec  T
	raw  []byte
	hash record.Hash
	mod  int64
}

// Level is one level's chain, as this server has verified it. commit writes to it.
type Level struct {
	Level   record.Level
	cluster record.ID
	root    ed25519.PublicKey
	before  ed25519.PublicKey // the root that this one replaced; nil: none
	keys    Keys
	st      store.Store
	state   string // local file with what was published last
	now     func() time.Time

	writing  sync.Mutex // held during a transaction of this server
	mu       sync.Mutex
	deleg    item[record.Delegation]
	log      map[uint64]*entry
	head     *entry
	headMod  int64
	seen     int64 // newest revision that was applied
	rings    map[record.ID]*item[record.Ring]
	members  map[record.ID]*item[record.Member]
	roster   roster
	groups   map[record.ID]*item[record.Group]
	escrows  map[record.ID]*item[record.Escrow]
	ready    map[string]*item[record.Ready] // by key
	readyAt  map[string]uint64              // serial of the newest of each that was seen
	begun    uint64                         // serial of the first that this server has written
	beats    []beaten                       // this server's newest records of its presence
	shown    string                         // the set in the newest
	answered map[record.ID]uint64           // Since of the others, when it was written
	older    map[record.ID]*olderServer
	keks     map[record.ID]kekAt
	names    named
	broken   string        // why this server does not write; "": it does
	unkept   bool          // the reason is only that a local file cannot be read or written: tried again
	replaced bool          // the delegation is by the root before
	removed  bool          // the delegation does not name this instance any more
	changed  chan struct{} // closed at each change

	verifiedMu sync.Mutex
	verified   map[verified]bool
}

type kekAt struct {
	epoch, step uint32
	kek         record.KEK
}

func (l *Level) prefix() string { return l.Level.String() + "/" }

func logKey(p string, serial uint64) string { return fmt.Sprintf("%slog/%020d", p, serial) }

// Changed returns a channel that is closed at the next change.
func (l *Level) Changed() <-chan struct{} { l.mu.Lock(); defer l.mu.Unlock(); return l.changed }

func (l *Level) notify() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// OpenLevel makes a level on a store. Sync loads it.
func OpenLevel(lv record.Level, cluster record.ID, root ed25519.PublicKey, keys Keys, st store.Store, stateFile string, now func() time.Time) *Level {
	return &Level{Level: lv, cluster: cluster, root: root, keys: keys, st: st, state: stateFile, now: now, changed: make(chan struct{}), keks: map[record.ID]kekAt{}, readyAt: map[string]uint64{}}
}

// Sync lists the level's records, verifies and applies them. Records that are not in the store any more
// are removed here too.
func (l *Level) Sync(ctx context.Context) (rev int64, err error) {
	l.writing.Lock() // so that a list is not older than what this server wrote
	defer l.writing.Unlock()
	return l.sync(ctx)
}

func (l *Level) sync(ctx context.Context) (rev int64, err error) {
	kvs, rev, err := l.st.List(ctx, l.prefix())
	if err != nil {
		return 0, err
	}
	l.mu.Lock()
	for try := 0; rev < l.seen; { // the watch was faster: list again, so as not to undo its changes
		l.mu.Unlock()
		if kvs, rev, err = l.st.List(ctx, l.prefix()); err != nil {
			return 0, err
		}
		l.mu.Lock()
		if try++; rev < l.seen && try == 3 {
			break // the store was set back, which is found below
		}
	}
	defer l.mu.Unlock()
	l.log, l.rings, l.members, l.groups, l.escrows, l.ready = map[uint64]*entry{}, map[record.ID]*item[record.Ring]{}, map[record.ID]*item[record.Member]{},
		map[record.ID]*item[record.Group]{}, map[record.ID]*item[record.Escrow]{}, map[string]*item[record.Ready]{}
	seen, term := l.head, l.deleg.rec.Term
	l.roster = roster{}
	l.deleg, l.head, l.headMod, l.names = item[record.Delegation]{}, nil, 0, named{}
	err = l.apply(kvs)
	if err == nil && term != 0 && l.deleg.rec.Term > term {
		l.broken = "" // the roots have begun a new term since the last list
	}
	if err == nil && seen != nil && (l.head == nil || older(&l.head.Head, &seen.Head)) {
		err = errors.New("the store was set back behind what this server has read in it")
	}
	if err != nil {
		l.breakOff(err)
		l.notify()
		return rev, err
	}
	l.checkLocal()
	l.notify()
	return rev, nil
}

func older(a, b *record.Head) bool {
	return a.Term < b.Term || a.Term == b.Term && a.Serial < b.Serial
}

// breakOff makes this server stop writing. The first reason stays, but that of a local file gives way to any other.
func (l *Level) breakOff(why error) {
	if l.broken == "" || l.unkept {
		l.broken, l.unkept = why.Error(), errors.Is(why, errLocal)
	}
}

// errLocal is the error of a local file that cannot be read or written: whether the store was set back is not known
// before it can.
var errLocal = errors.New("this server writes again when that is mended")

// Broken returns why this server does not write; "": it does.
func (l *Level) Broken() string {
	idle := l.writing.TryLock() // during a transaction the files are ahead of what is applied
	if idle {
		defer l.writing.Unlock()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if idle && l.broken != "" && l.unkept && l.deleg.raw != nil {
		l.broken, l.unkept = "", false
		if err := l.keepDelegation(&l.deleg.rec); err != nil {
			l.breakOff(err)
		}
		if l.checkLocal(); l.broken == "" {
			l.notify() // hosts get what they did not meanwhile
		}
	}
	return l.broken
}

// apply verifies and applies records. The delegation comes first, since it verifies the others.
func (l *Level) apply(kvs []store.KV) error {
	p := l.prefix()
	// The newest entry first: it proves older ones by their hashes.
	sort.SliceStable(kvs, func(i, j int) bool {
		a, b := kvs[i].Key[len(p):], kvs[j].Key[len(p):]
		if rank(a) == 1 && rank(b) == 1 {
			return a > b
		}
		return rank(a) < rank(b)
	})
	for _, kv := range kvs {
		l.seen = max(l.seen, kv.Mod)
		if err := l.applyOne(kv.Key[len(p):], kv); err != nil {
			return fmt.Errorf("%s: %w", record.Text(kv.Key, 256), err)
		}
	}
	if l.head == nil {
		if l.deleg.raw != nil || len(l.log) > 0 {
			l.breakOff(errors.New("the store has a log of this level and no head: it was taken away (eespctl restore)"))
		}
		return nil
	}
	if d := l.rosterDigest(nil); d != l.head.RosterDigest {
		return fmt.Errorf("the roster is not the one that the head names: a record was put back or taken away")
	}
	if err := l.checkNamed(); err != nil {
		l.breakOff(err)
	}
	return nil
}

// ref names a record of a level.
type ref struct {
	ty record.Type
	id record.ID
}

// named is what the log says of records: of each the newest hash. It begins with the log, or with the entry
// that began the newest term, since all rings began anew there and earlier entries may be lost.
type named struct {
	hash map[ref]record.Hash
	uses map[string]int // how many members came by an invite
	// Newest step of each ring that all have wiped the generation before.
	destroyed map[record.ID]uint64
	end       record.Hash // the newest entry
	from      uint64      // serial of the first
	// Serial of the entry that put the delegation in force.
	deleg uint64
}

// checkNamed checks that the records of rings, KEKs and groups, and the delegation, are those that the log
// names: a signature alone does not say that there is no newer record. The roster has its digest.
func (l *Level) checkNamed() error {
	var news []*entry
	for e := l.head; e.hash != l.names.end; {
		news = append(news, e)
		if e.Serial == 1 || e.Change == record.ChangeRestore {
			l.names = named{hash: map[ref]record.Hash{}, uses: map[string]int{}, destroyed: map[record.ID]uint64{}, from: e.Serial}
			break
		}
		p := l.log[e.Serial-1]
		if p == nil || p.hash != e.Prev {
			return fmt.Errorf("entry %d of the log is missing in the store (eespctl restore)", e.Serial-1)
		}
		e = p
	}
	for _, e := range slices.Backward(news) {
		if by := e.invite(); by != "" {
			l.names.uses[by]++
		}
		if e.Change == record.ChangeDestroyed {
			l.names.destroyed[e.Ring] = e.Step
		}
		for _, c := range e.Changed {
			if c.Type == record.TypeDelegation {
				l.names.deleg = e.Serial
			}
			if c.Type != record.TypeMember {
				l.names.hash[ref{c.Type, c.ID}] = c.Hash
			}
		}
		l.names.end = e.hash
	}
	have := map[ref]record.Hash{{ty: record.TypeDelegation}: l.deleg.hash}
	for id, x := range l.rings {
		have[ref{record.TypeRing, id}] = x.hash
	}
	for id, x := range l.escrows {
		have[ref{record.TypeEscrow, id}] = x.hash
	}
	for id, x := range l.groups {
		have[ref{record.TypeGroup, id}] = x.hash
	}
	what := map[record.Type]string{record.TypeDelegation: "delegation", record.TypeRing: "ring", record.TypeEscrow: "escrow", record.TypeGroup: "group"}
	for r, h := range l.names.hash {
		switch now, is := have[r]; {
		case !is:
			return fmt.Errorf("%s%s/%v: the record that the log names was taken away (eespctl restore)", l.prefix(), what[r.ty], r.id)
		case now != h:
			return fmt.Errorf("%s%s/%v: not the record that the log names: one was put back, or changed (eespctl restore)", l.prefix(), what[r.ty], r.id)
		}
	}
	for r := range have {
		if _, is := l.names.hash[r]; is || r.ty == record.TypeGroup && l.groups[r.id].rec.Since < l.names.from {
			continue
		}
		return fmt.Errorf("%s%s/%v: a record that the log does not name (eespctl restore)", l.prefix(), what[r.ty], r.id)
	}
	return nil
}

func rank(k string) int {
	switch {
	case k == "delegation":
		return 0
	case k == "head":
		return 2
	default:
		return 1
	}
}

func applyTo[T any, P interface {
	*T
	record.Body
}](m map[record.ID]*item[T], name string, kv store.KV, verify func([]byte, record.Body) error, id func(P) record.ID) error {
	var n record.ID
	b, err := hex.DecodeString(name)
	copy(n[:], b)
	if err != nil || n.String() != name { // another spelling of a name would be a second record of one thing
		return errors.New("a server writes no such key: remove it from the store, or restore a backup into an empty one (eespctl restore)")
	}
	if kv.Mod == 0 {
		delete(m, n)
		return nil
	}
	if old := m[n]; old != nil && old.mod >= kv.Mod {
		return nil
	}
	it := &item[T]{raw: kv.Value, hash: record.HashOf(kv.Value), mod: kv.Mod}
	if err := verify(kv.Value, P(&it.rec)); err != nil {
		return err
	}
	if id(&it.rec) != n {
		return errors.New("a record under another one's name")
	}
	m[n] = it
	return nil
}

func (l *Level) by(role uint8) func([]byte, record.Body) error {
	return func(b []byte, r record.Body) error {
		return l.verify(b, r, role)
	}
}

// verified has records whose signature was verified, for a delegation and a role. After a gap the whole
// store is read again, and most records are the same.
type verified struct {
	record, deleg record.Hash
	role          uint8
}

func (l *Level) verify(b []byte, r record.Body, role uint8) error {
	k := verified{record.HashOf(b), l.deleg.hash, role}
	l.verifiedMu.Lock()
	known := l.verified[k]
	l.verifiedMu.Unlock()
	if known {
		return record.Decode(b, r)
	}
	if _, err := l.deleg.rec.VerifyBy(b, r, l.cluster, role); err != nil {
		return err
	}
	l.verifiedMu.Lock()
	defer l.verifiedMu.Unlock()
	if l.verified == nil || len(l.verified) >= 1<<17 {
		l.verified = map[verified]bool{}
	}
	l.verified[k] = true
	return nil
}

func (l *Level) applyOne(k string, kv store.KV) error {
	kind, name, _ := strings.Cut(k, "/")
	switch kind {
	case "delegation":
		if kv.Mod <= l.deleg.mod {
			return nil
		}
		it := item[record.Delegation]{raw: kv.Value, hash: record.HashOf(kv.Value), mod: kv.Mod}
		l.replaced = false
		if err := record.Verify(kv.Value, &it.rec, l.cluster, l.root); err != nil {
			if l.before == nil || record.Verify(kv.Value, &it.rec, l.cluster, l.before) != nil {
				return err
			}
			l.replaced = true
		}
		if l.deleg.rec.Term != 0 && it.rec.Term > l.deleg.rec.Term {
			l.broken = "" // the roots have begun a new term
		}
		if was := &l.deleg.rec; it.rec.Level != l.Level || it.rec.Term < was.Term || it.rec.Term == was.Term && it.rec.Serial < was.Serial {
			return errors.New("an older delegation")
		}
		if err := l.keepDelegation(&it.rec); err != nil {
			l.breakOff(err)
		}
		l.deleg = it
		maps.DeleteFunc(l.ready, func(_ string, r *item[record.Ready]) bool { return !r.rec.Proved(l.cluster, &it.rec) })
		if l.removed = !slices.ContainsFunc(it.rec.Instances, func(in record.Instance) bool { return in.ID == l.keys.ID }); l.removed {
			l.breakOff(fmt.Errorf("delegation %d does not name this server: it was removed", it.rec.Serial))
		}
	case "head":
		if kv.Mod <= l.headMod {
			return nil
		}
		e, err := l.entry(kv.Value)
		if err != nil {
			return err
		}
		if l.head != nil && older(&e.Head, &l.head.Head) {
			return fmt.Errorf("the head went back from %d.%d to %d.%d", l.head.Term, l.head.Serial, e.Term, e.Serial)
		}
		if o := l.log[e.Serial]; o != nil && o.hash != e.hash {
			return fmt.Errorf("two entries of serial %d: a fork", e.Serial)
		}
		if o := l.log[e.Serial-1]; o != nil && o.hash != e.Prev {
			return fmt.Errorf("entry %d does not follow entry %d: a fork", e.Serial, o.Serial)
		}
		l.head, l.headMod, l.log[e.Serial] = e, kv.Mod, e
	case "log":
		if kv.Mod == 0 {
			return errors.New("an entry of the log was taken away (eespctl restore)")
		}
		e, err := l.entry(kv.Value)
		if err != nil {
			return err
		}
		if logKey("", e.Serial) != k {
			return errors.New("an entry under another one's number")
		}
		if o := l.log[e.Serial]; o != nil && o.hash != e.hash {
			return fmt.Errorf("two entries of serial %d: a fork", e.Serial)
		}
		if o := l.log[e.Serial-1]; o != nil && o.hash != e.Prev {
			return fmt.Errorf("entry %d does not follow entry %d: a fork", e.Serial, o.Serial)
		}
		if o := l.log[e.Serial+1]; o != nil && o.Prev != e.hash {
			return fmt.Errorf("entry %d does not follow entry %d: a fork", o.Serial, e.Serial)
		}
		l.log[e.Serial] = e
	case "ring":
		return applyTo(l.rings, name, kv, l.by(record.RoleRotate), func(r *record.Ring) record.ID { return r.ID })
	case "member":
		var id record.ID
		b, _ := hex.DecodeString(name) // applyTo checks it
		copy(id[:], b)
		was := l.members[id]
		err := applyTo(l.members, name, kv, l.by(record.RoleAdmit), func(r *record.Member) record.ID { return r.ID })
		l.roster.changed(was, l.members[id])
		return err
	case "group":
		return applyTo(l.groups, name, kv, l.by(record.RoleRotate), func(r *record.Group) record.ID { return r.ID })
	case "escrow":
		return applyTo(l.escrows, name, kv, l.by(record.RoleRotate), func(r *record.Escrow) record.ID { return r.Ring })
	case "ready":
		if kv.Mod == 0 {
			delete(l.ready, name)
			return nil
		}
		if old := l.ready[name]; old != nil && old.mod >= kv.Mod {
			return nil
		}
		it := &item[record.Ready]{raw: kv.Value, mod: kv.Mod}
		if err := record.Decode(kv.Value, &it.rec); err != nil {
			return err
		}
		l.seenOlder(&it.rec)
		// A server that was removed may have left some. They do not count, and nor does an older one.
		if r := &it.rec; name != r.Ring.String()+"/"+r.Server.String() || r.Serial < l.readyAt[name] || !r.Proved(l.cluster, &l.deleg.rec) {
			delete(l.ready, name)
			return nil
		}
		l.readyAt[name] = it.rec.Serial
		l.ready[name] = it
	}
	return nil
}

func (l *Level) entry(raw []byte) (*entry, error) {
	e := &entry{raw: raw, hash: record.HashOf(raw)}
	// An entry may be by an instance that a later delegation left out. Then newer entries prove it: its
	// hash is in their chain.
	if err := l.verify(raw, &e.Head, record.RoleRotate); err != nil {
		if e2 := record.Decode(raw, &e.Head); e2 != nil {
			return nil, e2
		}
		n := l.log[e.Serial+1]
		if n == nil || n.Prev != e.hash {
			return nil, err
		}
	}
	if e.Level != l.Level {
		return nil, errors.New("an entry of another level")
	}
	return e, nil
}

// roster is the members in the order of their numbers, and by their keys. There may be ten thousand, and the log names
// the hash of all of them in each entry.
type roster struct {
	rows   []rosterRow                 // nil: to be made of all members
	byKey  map[record.Hash][]record.ID // also members that have another key now
	digest record.Hash                 // of rows; zero: not computed
}

type rosterRow struct {
	n    uint32
	hash record.Hash
}

func (r *roster) find(n uint32) (int, bool) {
	return slices.BinarySearchFunc(r.rows, n, func(a rosterRow, n uint32) int { return cmp.Compare(a.n, n) })
}

// changed replaces a member's record; nil: there is or was none.
func (r *roster) changed(was, now *item[record.Member]) {
	if was == now {
		return
	}
	r.digest = record.Hash{}
	if was != nil && r.rows != nil {
		if i, is := r.find(was.rec.Number); is && r.rows[i].hash == was.hash {
			r.rows = slices.Delete(r.rows, i, i+1)
		}
	}
	if now == nil {
		return
	}
	if r.rows != nil {
		r.put(now.rec.Number, now.hash)
	}
	if r.byKey == nil {
		r.byKey = map[record.Hash][]record.ID{}
	}
	if k := now.rec.SPKI; !slices.Contains(r.byKey[k], now.rec.ID) {
		r.byKey[k] = append(r.byKey[k], now.rec.ID)
	}
}

// put adds a row. No two members have one number: a store that shows such records has another digest.
func (r *roster) put(n uint32, hash record.Hash) {
	i, _ := r.find(n)
	r.rows = slices.Insert(r.rows, i, rosterRow{n, hash})
}

// rosterDigest hashes the records of all members in the order of their numbers. Members in with replace
// those on the roster, or are added.
func (l *Level) rosterDigest(with map[record.ID]*record.Member) record.Hash {
	r := &l.roster
	if len(with) == 0 && !r.digest.IsZero() {
		return r.digest
	}
	if r.rows == nil {
		r.rows = make([]rosterRow, 0, len(l.members)+1)
		for _, m := range l.members {
			r.rows = append(r.rows, rosterRow{m.rec.Number, m.hash})
		}
		slices.SortFunc(r.rows, func(a, b rosterRow) int { return cmp.Compare(a.n, b.n) })
	}
	if len(with) > 0 {
		r = &roster{rows: slices.Clone(r.rows)}
		for id, m := range with {
			if was := l.members[id]; was != nil {
				r.changed(was, nil)
			}
			raw, err := record.Sign(m, l.cluster, l.keys.Sign)
			if err != nil {
				continue // commit signs it again, and reports the error
			}
			r.put(m.Number, record.HashOf(raw))
		}
	}
	b := make([]byte, 0, len(r.rows)*len(record.Hash{}))
	for i := range r.rows {
		b = append(b, r.rows[i].hash[:]...)
	}
	r.digest = sha256.Sum256(b)
	return r.digest
}

// Watch follows the store until ctx ends: it lists, compares and watches, and begins again after a gap.
func (l *Level) Watch(ctx context.Context) {
	for wait := 100 * time.Millisecond; ctx.Err() == nil; {
		rev, err := l.Sync(ctx)
		if err == nil {
			wait = 100 * time.Millisecond
			for evs := range l.st.Watch(ctx, l.prefix(), rev) {
				l.mu.Lock()
				if err := l.apply(evs); err != nil {
					l.breakOff(err)
				}
				l.notify()
				l.mu.Unlock()
			}
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
			wait = min(2*wait, 5*time.Second)
		}
	}
}

// local is an instance's local record of what it published: the store's identity, the newest committed
// head, and the entry that it last tried to write.
type local struct {
	identity     uint64
	term         uint32
	serial       uint64
	hash, intent record.Hash
}

func (l *Level) writeLocal(v local) error {
	b := binary.BigEndian.AppendUint64([]byte("EESPSTA1"), v.identity)
	b = binary.BigEndian.AppendUint32(b, v.term)
	b = binary.BigEndian.AppendUint64(b, v.serial)
	b = append(b, v.hash[:]...)
	b = append(b, v.intent[:]...)
	return pki.WriteFile(l.state, b, 0o600)
}

func (l *Level) readLocal() (v local, err error) {
	b, err := os.ReadFile(l.state)
	if errors.Is(err, os.ErrNotExist) {
		return v, nil
	}
	if err != nil {
		return v, fmt.Errorf("%w: %w", err, errLocal)
	}
	if len(b) != 92 || string(b[:8]) != "EESPSTA1" {
		return v, damaged(l.state)
	}
	v.identity, v.term, v.serial = binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint32(b[16:]), binary.BigEndian.Uint64(b[20:])
	copy(v.hash[:], b[28:])
	copy(v.intent[:], b[60:])
	return v, nil
}

// damaged is the error of a local file, without which it is not known whether the store was set back.
func damaged(file string) error {
	return fmt.Errorf("%s is damaged: if the store was not set back, remove the file; else eespctl restore: %w", file, errLocal)
}

// delegatedFile has the newest delegation that this instance has seen: its term and serial. It outlives a
// restart, after which the store could show an older one, by which a removed server is still one.
func (l *Level) delegatedFile() string { return l.state + "-delegation" }

const delegatedMagic = "EESPDEL1"

func (l *Level) readDelegated() (term uint32, serial uint64, err error) {
	b, err := os.ReadFile(l.delegatedFile())
	switch {
	case errors.Is(err, os.ErrNotExist):
		return 0, 0, nil
	case err != nil:
		return 0, 0, fmt.Errorf("%w: %w", err, errLocal)
	case len(b) != 20 || string(b[:8]) != delegatedMagic:
		return 0, 0, damaged(l.delegatedFile())
	}
	return binary.BigEndian.Uint32(b[8:]), binary.BigEndian.Uint64(b[12:]), nil
}

// lastTerm is the highest term that this server knows of, in its store or from before: hosts may know it too,
// and take nothing of an earlier one. l.mu is held.
func (l *Level) lastTerm() uint32 {
	term, _, _ := l.readDelegated()
	v, _ := l.readLocal()
	return max(term, v.term, l.deleg.rec.Term)
}

// keepDelegation stores which delegation is in force, and returns an error if a newer one is known.
func (l *Level) keepDelegation(d *record.Delegation) error {
	term, serial, err := l.readDelegated()
	if err != nil {
		return err
	}
	if d.Term == term && d.Serial == serial {
		return nil
	}
	if d.Term < term || d.Term == term && d.Serial < serial {
		return fmt.Errorf("the store's delegation is %d of term %d, and this server has seen %d of term %d: it was put back (eespctl restore)", d.Serial, d.Term, serial, term)
	}
	b := binary.BigEndian.AppendUint32([]byte(delegatedMagic), d.Term)
	if err = pki.WriteFile(l.delegatedFile(), binary.BigEndian.AppendUint64(b, d.Serial), 0o600); err != nil {
		err = fmt.Errorf("%s cannot be written (is the disk full?): %w", l.delegatedFile(), errLocal)
	}
	return err
}

// checkLocal stops writing (broken) if the store is behind what this instance published: then it was
// set back, or replaced by another store.
func (l *Level) checkLocal() {
	v, err := l.readLocal()
	switch {
	case err != nil:
		l.breakOff(err)
	case l.replaced:
		l.breakOff(errors.New("the root was replaced, and the store's delegation is by the one before: begin a new term (eespctl restore --roots)"))
	case v.serial == 0:
	case l.head == nil:
		l.breakOff(errors.New("the store is empty, and this instance has written to it: restore it (eespctl restore)"))
	case l.head.Term > v.term: // the roots have begun a new term: a restore
	case v.identity != l.st.Identity():
		l.breakOff(errors.New("the store is another one than this instance wrote to: restore it (eespctl restore)"))
	case l.head.Term < v.term || l.head.Serial < v.serial:
		l.breakOff(fmt.Errorf("the store was set back: its head is %d.%d, this instance published %d.%d (eespctl restore)", l.head.Term, l.head.Serial, v.term, v.serial))
	case l.log[v.serial] != nil && l.log[v.serial].hash != v.hash:
		l.breakOff(fmt.Errorf("entry %d is another one than this instance published: a fork", v.serial))
	}
}

// change is the content of a transaction.
type change struct {
	head    record.Head
	rings   []ringChange
	members []*record.Member
	groups  []*record.Group
	deleg   []byte
	escrows []*record.Escrow
	more    []store.KV   // records that are not part of the chain
	cond    []store.Cond // conditions besides that on the head
	del     []string
}

type ringChange struct {
	ring   record.Ring
	effect rotation.Effect
}

// errNothing, from build, makes commit write nothing and return no error.
var errNothing = errors.New("nothing to do")

// prove completes a record of who is ready, for a key of the level: its number rises, also if this machine's
// clock was set back. l.mu is held.
func (l *Level) prove(r *record.Ready) (store.KV, error) {
	name := r.Ring.String() + "/" + r.Server.String()
	r.Serial = max(uint64(l.now().UnixNano()), l.readyAt[name]+1)
	l.readyAt[name] = r.Serial
	if l.begun == 0 {
		l.begun = r.Serial
	}
	r.Since = l.begun
	l.others(func(o *record.Ready) { r.Heard = append(r.Heard, record.Heard{Server: o.Server, Serial: o.Serial}) })
	slices.SortFunc(r.Heard, func(a, b record.Heard) int { return slices.Compare(a.Server[:], b.Server[:]) })
	if err := r.Prove(l.cluster, l.Level, l.keys.Sign); err != nil {
		return store.KV{}, err
	}
	raw, err := record.Encode(r)
	return store.KV{Key: l.prefix() + "ready/" + name, Value: raw}, err
}

// commit writes the change that build returns, in a transaction. If another server was faster, it calls
// build again. Nothing of the change is used before it is committed.
func (l *Level) commit(ctx context.Context, build func() (*change, error)) (*entry, error) {
	return l.commitIn(ctx, 0, build)
}

// commitIn is commit in a new term, which a delegation of the root begins. It also writes to a store
// that is broken for all other writes. 0 is the present term.
func (l *Level) commitIn(ctx context.Context, term uint32, build func() (*change, error)) (*entry, error) {
	l.writing.Lock()
	defer l.writing.Unlock()
	for try := 0; ; try++ {
		e, err := l.tryCommit(ctx, term, build)
		if errors.Is(err, errNothing) {
			return nil, nil
		}
		if !errors.Is(err, store.ErrConflict) || try == 8 {
			return e, err
		}
		if l.overtaken(ctx) {
			continue
		}
		if _, err := l.sync(ctx); err != nil {
			return nil, err
		}
	}
}

// overtaken waits a little for the watch to bring what another server has written, and reports whether it has: a list
// of ten thousand members takes long.
func (l *Level) overtaken(ctx context.Context) bool {
	kv, err := l.st.Get(ctx, l.prefix()+"head")
	late := time.NewTimer(100 * time.Millisecond)
	defer late.Stop()
	for err == nil {
		l.mu.Lock()
		at, changed := l.headMod, l.changed
		l.mu.Unlock()
		if at >= kv.Mod {
			return true
		}
		select {
		case <-changed:
		case <-late.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
	return false
}

func (l *Level) tryCommit(ctx context.Context, term uint32, build func() (*change, error)) (*entry, error) {
	l.mu.Lock()
	was := l.broken
	if was != "" && term == 0 {
		l.mu.Unlock()
		return nil, fmt.Errorf("%w: %s", ErrReadOnly, was)
	}
	c, err := build()
	if err != nil {
		l.mu.Unlock()
		return nil, err
	}
	h := &c.head
	h.Level, h.Instance, h.Wall, h.Term, h.Serial = l.Level, l.keys.ID, l.now().Unix(), max(l.deleg.rec.Term, term), 1
	identity, local0 := l.st.Identity(), local{}
	if l.head != nil {
		h.Prev, h.Serial = l.head.hash, l.head.Serial+1
		h.RosterSerial = l.head.RosterSerial
		local0 = local{identity, l.head.Term, l.head.Serial, l.head.hash, record.Hash{}}
	} else {
		var d record.Delegation
		if err := record.Verify(c.deleg, &d, l.cluster, l.root); err != nil {
			l.mu.Unlock()
			return nil, err
		}
		h.Term = d.Term
	}
	t := store.Txn{If: append([]store.Cond{{Key: l.prefix() + "head", Mod: l.headMod}}, c.cond...), Put: c.more, Del: c.del}
	put := func(kind string, id record.ID, ty record.Type, raw []byte) {
		key := l.prefix() + kind
		if !id.IsZero() {
			key += "/" + id.String()
		}
		t.Put = append(t.Put, store.KV{Key: key, Value: raw})
		if ty != 0 {
			h.Changed = append(h.Changed, record.Changed{Type: ty, ID: id, Hash: record.HashOf(raw)})
		}
	}
	fail := func(err error) (*entry, error) { l.mu.Unlock(); return nil, err }
	if c.deleg != nil {
		put("delegation", record.ID{}, record.TypeDelegation, c.deleg)
	}
	with := map[record.ID]*record.Member{}
	for _, m := range c.members {
		m.Since, m.Level = h.Serial, l.Level
		raw, err := record.Sign(m, l.cluster, l.keys.Sign)
		if err != nil {
			return fail(err)
		}
		with[m.ID] = m
		put("member", m.ID, record.TypeMember, raw)
	}
	if len(c.members) > 0 {
		h.RosterSerial = h.Serial
	}
	h.RosterDigest = l.rosterDigest(with)
	for _, g := range c.groups {
		g.Since = h.Serial
		raw, err := record.Sign(g, l.cluster, l.keys.Sign)
		if err != nil {
			return fail(err)
		}
		put("group", g.ID, record.TypeGroup, raw)
	}
	newKEKs := map[record.ID]kekAt{}
	for i := range c.rings {
		rc := &c.rings[i]
		r, e := &rc.ring, rc.effect
		r.Term, r.Serial = h.Term, h.Serial
		values, kek, err := l.values(r, e)
		if err != nil {
			return fail(err)
		}
		if err := r.Seal(&kek, values); err != nil {
			return fail(err)
		}
		clear(values)
		raw, err := record.Sign(r, l.cluster, l.keys.Sign)
		if err != nil {
			return fail(err)
		}
		put("ring", r.ID, record.TypeRing, raw)
		newKEKs[r.ID] = kekAt{r.KEKEpoch, r.KEKStep, kek}
		if e.KEK != rotation.KEKKeep {
			esc := &record.Escrow{Ring: r.ID, Epoch: r.KEKEpoch, Step: r.KEKStep}
			if err := esc.SealTo(l.cluster, &kek, l.deleg.rec.Instances); err != nil {
				return fail(err)
			}
			raw, err := record.Sign(esc, l.cluster, l.keys.Sign)
			if err != nil {
				return fail(err)
			}
			put("escrow", r.ID, record.TypeEscrow, raw)
		}
		h.Ring, h.Old, h.New, h.Step = r.ID, e.Old, e.New, r.Step
	}
	for _, x := range c.escrows {
		raw, err := record.Sign(x, l.cluster, l.keys.Sign)
		if err != nil {
			return fail(err)
		}
		put("escrow", x.Ring, record.TypeEscrow, raw)
	}
	raw, err := record.Sign(h, l.cluster, l.keys.Sign)
	if err != nil {
		return fail(err)
	}
	e := &entry{Head: *h, raw: raw, hash: record.HashOf(raw)}
	t.Put = append(t.Put, store.KV{Key: l.prefix() + "head", Value: raw}, store.KV{Key: logKey(l.prefix(), h.Serial), Value: raw})
	l.mu.Unlock()

	// The local file names the entry before it is published.
	local0.identity, local0.intent = identity, e.hash
	if err := l.writeLocal(local0); err != nil {
		return nil, err
	}
	rev, err := l.st.Commit(ctx, t)
	if err != nil && !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrRefused) {
		// The outcome is unknown: read the head. If the transaction is still running, it fails after
		// our next one, since both compare the head.
		kv, e2 := l.st.Get(ctx, l.prefix()+"head")
		if e2 != nil {
			return nil, errors.Join(err, e2)
		}
		if record.HashOf(kv.Value) == e.hash {
			rev, err = kv.Mod, nil
		} else {
			err = fmt.Errorf("%w (%v)", store.ErrConflict, err)
		}
	}
	if err != nil {
		return nil, err
	}
	if err := l.writeLocal(local{identity, e.Term, e.Serial, e.hash, record.Hash{}}); err != nil {
		return nil, err
	}
	for i := range t.Put {
		t.Put[i].Mod = rev
	}
	var ours []store.KV
	for _, kv := range t.Put {
		if strings.HasPrefix(kv.Key, l.prefix()) {
			ours = append(ours, kv)
		}
	}
	for _, k := range t.Del {
		ours = append(ours, store.KV{Key: k})
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.headMod < rev {
		if err := l.apply(ours); err != nil {
			l.breakOff(err)
			return nil, err
		}
	}
	if term != 0 && l.broken == was {
		l.broken = ""
	}
	for id, k := range newKEKs {
		if r := l.rings[id]; r != nil && r.rec.KEKEpoch == k.epoch && r.rec.KEKStep == k.step {
			l.keks[id] = k
		}
	}
	l.notify()
	return e, nil
}

// ring returns a ring. It may be gone since its ID was read, because the store is read again after each
// gap. l.mu is held.
func (l *Level) ring(id record.ID) (*item[record.Ring], error) {
	r := l.rings[id]
	if r == nil || l.head == nil {
		return nil, fmt.Errorf("%w: ring %v is not there any more", ErrNotFound, id)
	}
	return r, nil
}

// kek returns the KEK of a ring, from its escrow.
func (l *Level) kek(id record.ID) (kekAt, error) {
	r := l.rings[id]
	if r == nil {
		return kekAt{}, ErrNotFound
	}
	k, ok := l.keks[id]
	if ok && k.epoch == r.rec.KEKEpoch && k.step == r.rec.KEKStep {
		return k, nil
	}
	e := l.escrows[id]
	if e == nil || e.rec.Epoch != r.rec.KEKEpoch || e.rec.Step != r.rec.KEKStep {
		return kekAt{}, fmt.Errorf("ring %s: no KEK of epoch %d, step %d in escrow", r.rec.Name, r.rec.KEKEpoch, r.rec.KEKStep)
	}
	v, err := e.rec.Open(l.cluster, l.keys.ID, l.keys.HPKE)
	if err != nil {
		return kekAt{}, fmt.Errorf("ring %s: KEK: %w", r.rec.Name, err)
	}
	k = kekAt{e.rec.Epoch, e.rec.Step, v}
	l.keks[id] = k
	return k, nil
}

// values returns the values of a ring's new record, and its KEK: values of old generations are kept, that
// of a new one is drawn.
func (l *Level) values(r *record.Ring, e rotation.Effect) ([]record.Value, record.KEK, error) {
	var kek record.KEK
	var have []record.Value
	old := l.rings[r.ID]
	if old != nil {
		k, err := l.kek(r.ID)
		if err != nil {
			return nil, kek, err
		}
		kek = k.kek
		if have, err = old.rec.Values(&kek); err != nil {
			return nil, kek, fmt.Errorf("ring %s: %w", old.rec.Name, err)
		}
		defer clear(have)
	}
	vs := make([]record.Value, len(r.Gens))
	for i, g := range r.Gens {
		switch {
		case e.Draw && g.Gen == e.New:
			rand.Read(vs[i][:])
		default:
			j := slices.IndexFunc(old.rec.Gens, func(o record.Generation) bool { return o.Gen == g.Gen })
			if j < 0 {
				return nil, kek, fmt.Errorf("generation %d is gone", g.Gen)
			}
			vs[i] = have[j]
		}
	}
	switch e.KEK {
	case rotation.KEKNew:
		rand.Read(kek[:])
	case rotation.KEKStep:
		kek.Step(l.cluster, r.ID, r.KEKEpoch, r.KEKStep)
	}
	return vs, kek, nil
}

// fresh makes sure that this server is at the store's head, and that the store was not set back. It is
// called before a KEK is given out.
func (l *Level) fresh(ctx context.Context) error {
	kv, err := l.st.Get(ctx, l.prefix()+"head")
	if err != nil {
		return err
	}
	l.mu.Lock()
	same := l.head != nil && record.HashOf(kv.Value) == l.head.hash
	broken := l.broken
	l.mu.Unlock()
	if broken != "" {
		return fmt.Errorf("%w: %s", ErrReadOnly, broken)
	}
	if !same {
		if _, err := l.Sync(ctx); err != nil {
			return err
		}
		if b := l.Broken(); b != "" {
			return fmt.Errorf("%w: %s", ErrReadOnly, b)
		}
	}
	return nil
}

// need returns the barrier of a ring: the active members that may have it.
func (l *Level) need(ring record.ID) (s rotation.Set) {
	for _, m := range l.members {
		if m.rec.State == record.MemberActive && m.rec.May(ring) {
			s.Add(m.rec.Number)
		}
	}
	return s
}
