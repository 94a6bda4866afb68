package counter

import (
	"fmt"
	"sync"

	"libeesp/internal/status"
)

// Senders of one process that use the same ID under the same root keys would
// repeat each other's counters. They share one owner instead, found by a name
// that says which data keys they use.

var (
	sharedMu sync.Mutex
	shared   = map[string]*Owner{}
	// used holds, for names that have no owner any more, the first value that
	// was not given out; an explicit start below it is refused.
	used = map[string]uint64{}
)

// Share returns the owner of a name, made with c if there is none yet. One
// that is there must have been made with the same configuration.
func Share(name string, c Config) (*Owner, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	sharedMu.Lock()
	defer sharedMu.Unlock()
	for _, o := range shared {
		if o.name == name && o.cfg.EngineBits != c.EngineBits { // their counters would overlap
			return nil, fmt.Errorf("%w: a sender of this ID with %d engine bits", status.ErrExists, o.cfg.EngineBits)
		}
	}
	key := fmt.Sprintf("%s/%d/%d", name, c.EngineBits, c.Engine)
	if o := shared[key]; o != nil {
		if o.cfg != c {
			return nil, fmt.Errorf("%w: a sender of this ID with other counter settings", status.ErrExists)
		}
		o.refs++
		return o, nil
	}
	o, err := New(c)
	if err != nil {
		return nil, err
	}
	if u, ok := used[key]; ok && o.next.Load() < u {
		o.close()
		if c.Mode == Clock {
			return nil, fmt.Errorf("%w: the clock is behind counters that this process has used", status.ErrClock)
		}
		return nil, fmt.Errorf("%w: epoch %d counter %d: this process has used counters below epoch %d counter %d",
			status.ErrExists, c.Epoch, c.Start, u>>o.shift, u&(1<<o.shift-1))
	}
	o.name, o.key = name, key
	shared[key] = o
	return o, nil
}

// Release gives the owner back; the last user closes it.
func (o *Owner) Release() {
	sharedMu.Lock()
	defer sharedMu.Unlock()
	if o.refs--; o.refs > 0 {
		return
	}
	if o.key != "" {
		delete(shared, o.key)
		used[o.key] = max(used[o.key], o.next.Load())
	}
	o.close()
}

func (o *Owner) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.limit.Store(0) // whoever still holds it gets no counter
	if o.file != nil {
		o.file.close()
	}
	o.cfg.Mode = Explicit
}
