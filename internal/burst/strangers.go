package burst

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"libeesp/internal/kernel"
	"libeesp/internal/ktime"
	"libeesp/internal/profile"
	"libeesp/internal/status"
)

// strangers bounds what packets of unknown Sub SAs (eesp) cost. To derive a Sub SA's
// key costs more than to open many packets, and a forger can name a new Sub SA in
// each packet. So failed derivations are limited: each one takes a token. There are
// at most mostStrange tokens; one comes every 2^18 ns (about four a millisecond), and
// one for each refusedEach packets that were refused for lack of tokens. The latter
// lets a new Sub SA in during a flood. A derivation that ends with an authentic packet
// is free. C has the same rule (libeesp/refuse.h).
type strangers struct {
	spent   atomic.Uint64 // tokens
	refused atomic.Uint64 // packets refused by threads with shares, in units of refusedEach
	asked   atomic.Uint64 // when C last let Go see a packet whose key is missing (libeesp/odd.h)
}

const (
	mostStrange = 256
	refusedEach = 1024
)

// The clock is CLOCK_MONOTONIC, as in C. It is read through Go's clock, which needs
// no system call.
var (
	began   = time.Now()
	beganAt = time.Duration(ktime.Clock(unix.CLOCK_MONOTONIC))
)

// had returns how many tokens a receiver was given so far.
func (r *Receiver) had() uint64 {
	return mostStrange + uint64(beganAt+time.Since(began))>>18 + r.Stats.by[-status.ErrFlooded].Load()/refusedEach + r.strangers.refused.Load()
}

// left returns how many tokens there are.
func (r *Receiver) left() int {
	if had, spent := r.had(), r.strangers.spent.Load(); had > spent {
		return int(min(had-spent, mostStrange))
	}
	return 0
}

// failed takes n tokens.
func (r *Receiver) failed(n int) {
	for had := r.had(); ; {
		spent := r.strangers.spent.Load()
		if r.strangers.spent.CompareAndSwap(spent, max(spent, had-mostStrange)+uint64(n)) {
			return
		}
	}
}

// newcomers counts the derivations of a burst.
type newcomers struct {
	allowed  int    // derivations that may still begin; -1: not known yet
	newest   uint64 // ID of the last one
	failures int    // how many had no authentic packet
}

func (n *newcomers) begin() { n.allowed, n.newest, n.failures = -1, ^uint64(0), 0 }

func (n *newcomers) end(r *Receiver) {
	if n.failures != 0 {
		r.failed(n.failures)
	}
}

// meet decides whether the key of a packet may be derived. It sets mayKeep if the
// key is to be kept once the packet is authentic, and strange if the derivation
// needs a token.
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
	if !kept && (k.Root == nil || w.cached(k, info)) {
		return status.OK // CMAC keys are derived for each packet; this one is in the cache
	}
	if w.allowed < 0 {
		w.allowed = r.left()
	}
	if w.allowed == 0 && w.newest != l.Pkt.ID {
		return status.ErrFlooded
	}
	if w.newest != l.Pkt.ID { // packets of one ID that follow one another need one derivation
		w.allowed--
		w.newest = l.Pkt.ID
	}
	at.strange = true
	return status.OK
}

// met keeps those of the u keys that opened a packet, and counts those that did
// not.
func (w *Worker) met(be *kernel.Backend, n, u int, order []uint8) {
	for s, x := range w.lanesOf(u) {
		if p := &w.place[x]; !p.mayKeep && !p.strange {
			continue
		}
		ok := w.jobs[x].OK == 1
		for i := range n {
			y := at(order, i)
			ok = ok || u < n && w.slotOf(y) == s && w.jobs[y].OK == 1
		}
		switch c, p := &w.ctx[x], &w.place[x]; {
		case !ok && p.strange:
			w.failures++
		case ok && p.strange:
			w.allowed++ // an authentic packet: the token stays
			fallthrough
		case ok && p.mayKeep:
			k := int(c.KeyLen)
			c.Subs.Put(be, int(w.lanes[x].Pkt.ID), w.sec.keys[s*k:][:k], w.sec.masks[s][:c.Mask])
		}
	}
}
