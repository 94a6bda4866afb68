package eesp

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"slices"
	"time"

	"libeesp/internal/keys"
	"libeesp/internal/link"
	"libeesp/internal/say"
	"libeesp/internal/secmem"
	"libeesp/internal/status"
)

// Data keys for clients outside the cluster. The agent asks a program that follows a
// group for a pair of them, one for each direction, and gives it to a client for the time
// of a lease. The pair does not change while root keys rotate, so the rotation waits for
// leases to end (docs/control.md). The follower's thread does all of it. It also installs
// states, so that a pair comes from the keys in force.

type Client struct {
	Name     string
	Up, Down uint64
	Lease    time.Duration
}

type client struct {
	Client
	until  time.Duration // end of the lease, boot time
	sender *Sender
	ended  *sending // refuses packets when the lease has ended
	taken  bool
}

// deviceKeyLife is how long a device key of a group of psp that follows an agent is used
// for new SPIs.
var deviceKeyLife = 24 * time.Hour

// grant makes a pair of data keys, or changes a lease.
func (f *follower) grant(m map[uint16][]byte) error {
	up, down, lease, flags := link.Get64(m[3]), link.Get64(m[4]), time.Duration(link.Get64(m[5]))*time.Millisecond, link.Get16(m[7])
	b, err := secmem.Alloc(4096)
	if err != nil {
		return err
	}
	defer secmem.Free(b)
	// In locked memory: it has keys.
	body := link.Put64(link.Put(b[8:8], 1, m[1]), 2, link.Get64(m[2]))
	f.mu.Lock()
	c, g, st, may := f.clients[down], f.g, f.state, f.config.Clients && f.sealing == status.OK && f.connected
	if c != nil && flags&link.GrantRenew != 0 {
		c.until = bootTime() + lease
	}
	f.mu.Unlock()
	switch {
	case flags&link.GrantEnd != 0:
		f.endClients(func(c *client) bool { return c.Down == down })
		return nil
	case !bytes.Equal(m[1], st.Group[:]) || g == nil || !may:
		err = say.Errorf("%w: the group has no keys that may be used, or gives none to clients", status.ErrNoKey)
	case flags&link.GrantRenew != 0 && c == nil:
		err = say.Errorf("%w: no pair has this ID", status.ErrNotFound)
	case flags&link.GrantRenew != 0:
		body = link.Put(body, 3, []byte{0})
	case c != nil:
		err = say.Errorf("%w: a client has this ID", status.ErrExists)
	default:
		at := body
		if body, err = f.newClient(g, &st, link.Put(body, 3, []byte{0}), Client{Name: string(m[6]), Up: up, Down: down, Lease: lease}); err != nil {
			body = at
		}
	}
	if err != nil {
		body = link.Put(link.Put(body, 3, []byte{1}), 4, []byte(err.Error()))
	}
	return f.sendIn(b[:8+len(body)], link.Granted, 0, body)
}

// newClient exports the pair to body, and makes the sender to the client.
func (f *follower) newClient(g *Group, st *link.State, body []byte, c Client) ([]byte, error) {
	if p := ProfileID(g.g.Params().Profile); p != ProfileStateless && p != ProfilePSP {
		return nil, say.Errorf("%w: clients have data keys of stateless and psp", status.ErrUnsupported)
	}
	if g.g.Params().Timed {
		return nil, say.Errorf("%w: clients have no data keys of groups whose counters are times", status.ErrUnsupported)
	}
	k, err := secmem.New[DataKey]()
	if err != nil {
		return nil, err
	}
	defer secmem.Delete(k)
	if g.g.Params().SPIs {
		bit := uint64(g.g.Snapshot().Current) << 31
		c.Up, c.Down = c.Up|bit, c.Down|bit
	}
	for i, id := range []uint64{c.Up, c.Down} {
		if err := g.export(k, f.context(g, st, id), g.g.Params().Slots == 0); err != nil {
			return nil, err
		}
		x := link.DataKey{ID: k.ID, Epoch: k.Epoch, V: k.V, Profile: k.Profile, Params: k.Params, Key: k.Key[:k.KeyLen], Options: k.Options[:k.OptionsLen]}
		if body = appendKey(body, uint16(5+i), &x); body == nil {
			return nil, say.Errorf("%w: data keys", status.ErrRoom)
		}
	}
	var gens []byte
	for _, r := range st.Rings {
		n := uint64(0)
		if r != nil {
			n = r.Gens[1]
		}
		gens = binary.BigEndian.AppendUint64(gens, n)
	}
	// k is the key down. Counters begin at 0: the ID was never used.
	s, err := NewSenderWithKey(k, SenderConfig{Counter: CounterExplicit})
	if err != nil {
		return nil, err
	}
	ended, err := g.without(s, k.V)
	if err != nil {
		s.Close()
		return nil, err
	}
	f.mu.Lock()
	if f.clients == nil {
		f.clients = map[uint64]*client{}
	}
	f.clients[c.Down] = &client{Client: c, until: bootTime() + c.Lease, sender: s, ended: ended}
	f.ids = append(f.ids, c.Down) // a reflection, if it comes here
	receivers := append([]*Receiver(nil), f.receivers...)
	f.mu.Unlock()
	for _, r := range receivers {
		r.refreshOwn()
	}
	return link.Put(body, 7, gens), nil
}

// context returns the context of a client's data key.
func (f *follower) context(g *Group, st *link.State, id uint64) Context {
	if p := g.g.Params(); p.SPIs { // the lowest version
		return Context{ID: id, V: uint8(bits.TrailingZeros8(p.Versions))}
	}
	c := Context{ID: id}
	if st.V == 1 {
		c.V = VLongID
	}
	return c
}

// appendKey appends a field with a data key, without another copy of the key.
func appendKey(b []byte, num uint16, k *link.DataKey) []byte {
	n := k.Size()
	if cap(b)-len(b) < 4+n {
		return nil
	}
	b = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(b, num), uint16(n))
	return k.Append(b)
}

// without makes a sending that refuses all packets with ErrNoKey, for a sender whose key
// is gone.
func (g *Group) without(s *Sender, v uint8) (_ *sending, err error) {
	of := s.now.Load()
	n := &sending{g: &Group{be: g.be}, id: of.id}
	n.s.Backend = g.be
	if n.s.Group, err = keys.NewGroup(*g.g.Params()); err != nil {
		return nil, err
	}
	n.g.g = n.s.Group
	c := SenderConfig{ID: of.id, V: v, Counter: CounterExplicit}
	if n.s.Sealing, err = c.sealing(n.s.Group.Params(), nil); err != nil {
		n.s.Group.Release()
		return nil, err
	}
	n.s.Counter = of.s.Counter
	n.s.Counter.Retain()
	return n, nil
}

// endClients ends the leases of some clients: nothing is sealed to them any more.
func (f *follower) endClients(which func(*client) bool) {
	var l []*client
	f.mu.Lock()
	for id, c := range f.clients {
		if which(c) {
			l = append(l, c)
			delete(f.clients, id)
		}
	}
	f.mu.Unlock()
	for _, c := range l {
		c.sender.end(c.ended)
		if !c.taken {
			c.sender.Close()
		}
	}
}

// renewDeviceKey rotates the device key of a group of psp when the one in use is old,
// unless a lease still uses the key that would be replaced.
func (f *follower) renewDeviceKey(g *Group, now time.Duration) {
	if !g.g.Params().SPIs || !f.deviceKeyIsDue(uint64(1-g.g.Snapshot().Current)<<31, now) {
		return
	}
	if _, err := g.g.RotateKey(nil); err == nil {
		f.mu.Lock()
		f.renewedKey = now
		f.mu.Unlock()
	}
}

func (f *follower) deviceKeyIsDue(replaced uint64, now time.Duration) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.clients {
		if c.Down&(1<<31) == replaced {
			return false
		}
	}
	return now-f.renewedKey >= deviceKeyLife
}

func (g *Group) Clients() ([]Client, error) {
	f, err := g.following()
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	ids := make([]uint64, 0, len(f.clients))
	for down := range f.clients {
		ids = append(ids, down)
	}
	slices.Sort(ids)
	l := make([]Client, len(ids))
	for i, down := range ids {
		c := f.clients[down]
		l[i] = c.Client
		l[i].Lease = max(c.until-bootTime(), 0)
	}
	return l, nil
}

func (g *Group) ClientSender(down uint64) (*Sender, error) {
	f, err := g.following()
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch c := f.clients[down]; {
	case c == nil:
		return nil, say.Errorf("%w: no client with the ID %#x", status.ErrNotFound, down)
	case c.taken:
		return nil, say.Errorf("%w: the sender to this client was made", status.ErrExists)
	default:
		c.taken = true
		return c.sender, nil
	}
}

// end makes a sender refuse all packets from now on.
func (s *Sender) end(with *sending) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		with.closeCounters()
		with.closeGroup()
		return
	}
	s.replace(with)
}
