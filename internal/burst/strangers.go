package burst

import (
	"encoding/binary"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"libeesp/internal/kernel"
	"libeesp/internal/ktime"
	"libeesp/internal/profile"
	"libeesp/internal/status"
)

// strangers bounds what packets cost that come with a key of their own which
// nobody has seen yet (an eesp Sub SA's): to derive one costs more than to open many
// packets, and whoever forges packets names a new one with each. Derivations that
// end with an authentic packet are free. Each of the others takes one of a store
// that holds mostStrange, and fills up by one in 2^18 ns (about four a millisecond)
// and with each refusedEach packets that were refused since it was empty: so many of a
// flood are looked at all the same, and a Sub SA that is new gets in. C has the
// same rule (libeesp/direct.c).
type strangers struct {
	spent   atomic.Uint64
	refused atomic.Uint64 // by threads that count for themselves: each refusedEach
}

const (
	mostStrange = 256
	refusedEach = 1024
)

// The clock is CLOCK_MONOTONIC, as C's: Go's, which takes no system call, and where
// it began.
var (
	began   = time.Now()
	beganAt = time.Duration(ktime.Clock(unix.CLOCK_MONOTONIC))
)

// had is how many came into a receiver's store so far.
func (r *Receiver) had() uint64 {
	return mostStrange + uint64(beganAt+time.Since(began))>>18 + r.Stats.by[-status.ErrFlooded].Load()/refusedEach + r.strangers.refused.Load()
}

// left is how many derivations may fail now.
func (r *Receiver) left() int {
	if had, spent := r.had(), r.strangers.spent.Load(); had > spent {
		return int(min(had-spent, mostStrange))
	}
	return 0
}

// failed takes n from the store.
func (r *Receiver) failed(n int) {
	for had := r.had(); ; {
		spent := r.strangers.spent.Load()
		if r.strangers.spent.CompareAndSwap(spent, max(spent, had-mostStrange)+uint64(n)) {
			return
		}
	}
}

// newcomers is what a burst has left of the store.
type newcomers struct {
	allowed  int    // derivations; -1: not known yet
	newest   uint64 // ID that the last one was for
	failures int    // how many came to nothing
}

func (n *newcomers) begin() { n.allowed, n.newest, n.failures = -1, ^uint64(0), 0 }

func (n *newcomers) end(r *Receiver) {
	if n.failures != 0 {
		r.failed(n.failures)
	}
}

// meet decides about a packet whose key may be new here; mayKeep: once it is
// authentic, the key is to be kept.
func (w *Worker) meet(r *Receiver, l *profile.Lane, at *place, k *profile.KDF, info *[2]byte) status.Code {
	at.mayKeep, at.strange = false, false
	if k.Subs == nil || k.Raw != nil {
		return status.OK
	}
	has, kept := k.Subs.Has(int(l.Pkt.ID))
	if has {
		return status.OK
	}
	at.mayKeep = kept
	if !kept && (k.Root == nil || w.cache != nil && w.cache.Has(k.Root, binary.BigEndian.Uint16(info[:]), int(k.KeyLen)+int(k.Mask))) {
		return status.OK // it is derived for each packet; or at hand
	}
	if w.allowed < 0 {
		w.allowed = r.left()
	}
	if w.allowed == 0 && w.newest != l.Pkt.ID {
		return status.ErrFlooded
	}
	if w.newest != l.Pkt.ID { // most probably the others of its burst have its key, too
		w.allowed--
		w.newest = l.Pkt.ID
	}
	at.strange = true
	return status.OK
}

// met keeps those of u keys, in slots, that an authentic packet came with, and
// counts those that none did.
func (w *Worker) met(be *kernel.Backend, n, u int, order []uint8) {
	for s, x := range w.uniq[:u] {
		if p := &w.place[x]; !p.mayKeep && !p.strange {
			continue
		}
		ok := w.jobs[x].OK == 1
		for i := range n {
			y := at(order, i)
			ok = ok || u < n && int(w.slot[y]) == s && w.jobs[y].OK == 1
		}
		switch c, p := &w.ctx[x], &w.place[x]; {
		case !ok && p.strange:
			w.failures++
		case ok && p.strange:
			w.allowed++ // it was none
			fallthrough
		case ok && p.mayKeep:
			k := int(c.KeyLen)
			c.Subs.Put(be, int(w.lanes[x].Pkt.ID), w.sec.keys[s*k:][:k], w.sec.masks[s][:c.Mask])
		}
	}
}
