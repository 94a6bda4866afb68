package burst

import (
	"sync/atomic"
	"unsafe"

	"libeesp/internal/counter"
	"libeesp/internal/kernel"
	"libeesp/internal/keys"
	"libeesp/internal/profile"
	"libeesp/internal/secmem"
	"libeesp/internal/status"
)

// ExpandedKey is a data key in locked memory, expanded for one backend.
type ExpandedKey struct {
	area *[4 * kernel.MaxKeyBytes]byte
}

// ExpandKey expands a data key of 16 or 32 octets. The error is ErrMemory.
func ExpandKey(be *kernel.Backend, key []byte) (*ExpandedKey, error) {
	a, err := secmem.New[[4 * kernel.MaxKeyBytes]byte]()
	if err != nil {
		return nil, err
	}
	s, err := secmem.New[secrets]()
	if err != nil {
		secmem.Delete(a)
		return nil, err
	}
	defer secmem.Delete(s)
	copy(s.keys[:], key)
	be.Expand(unsafe.Pointer(a), unsafe.Pointer(&s.keys), 1, len(key), unsafe.Pointer(&s.scratch))
	return &ExpandedKey{a}, nil
}

// Free wipes the key once no burst uses it.
func (h *ExpandedKey) Free() {
	if h != nil {
		keys.Retire(func() { secmem.Delete(h.area) })
	}
}

// Sender is what bursts need to know of a sender.
type Sender struct {
	Backend  *kernel.Backend
	Group    *keys.Group // nil: Expanded
	Expanded *ExpandedKey
	Sealing  profile.Sealing
	Counter  *counter.Owner
	Stats    Stats

	// Renew, if it is not nil, returns the owner of counters for the keys of a
	// snapshot, in formats in which counters begin anew with each key. Counter is
	// not used then.
	Renew func(snap *keys.Snapshot) (*counter.Owner, status.Code)

	plans sealPlans
	next  atomic.Pointer[Sender]
}

// Replace makes bursts that begin from now on seal with another sender in place of
// this one, under another ID.
func (s *Sender) Replace(with *Sender) { s.next.Store(with) }

// latest returns the sender to seal with. It is called within the burst: the old
// sender may be freed when the bursts have ended that began before Replace.
func (s *Sender) latest() *Sender {
	for n := s.next.Load(); n != nil; n = s.next.Load() {
		s = n
	}
	return s
}

// Receiver is what bursts need to know of a receiver.
type Receiver struct {
	Backend  *kernel.Backend
	Groups   []*keys.Group // none: Expanded
	Expanded *ExpandedKey
	Opening  profile.Opening
	Windows  *Windows // replay protection; at most one of these two is not nil
	Times    *Times
	Stats    Stats

	plans     openPlans
	strangers strangers
	refused   refusals
}

// refuse ends a packet that was to be sealed, without ID and TSC: no header has
// them.
func refuse(p *profile.Desc, c status.Code) {
	p.ID, p.TSC = 0, 0
	fail(p, c)
}

// fail ends a packet.
func fail(p *profile.Desc, c status.Code) {
	p.Status, p.Out, p.OutLen = c, 0, 0
}

func refuseAll(pkts []profile.Desc, c status.Code) {
	for i := range pkts {
		refuse(&pkts[i], c)
	}
}
