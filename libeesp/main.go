// Command libeesp is the C library: built with -buildmode=c-shared or c-archive it is
// libeesp.so and libeesp.a. shim.c has the C functions of include/eesp.h. They call the
// functions here, which convert arguments and call internal/eesp and internal/burst.
package main

/*
#cgo CFLAGS: -I${SRCDIR}/../include -O2 -Wall -Wextra -Wshadow -Wno-unused-parameter -fvisibility=hidden -Dcrosscall2=inner_crosscall2
#cgo LDFLAGS: -lpthread
#include <stdlib.h>
#include "shim.h"
*/
import "C"

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"libeesp/internal/asm"
	"libeesp/internal/barrier"
	"libeesp/internal/burst"
	"libeesp/internal/eesp"
	"libeesp/internal/kernel"
	"libeesp/internal/keys"
	"libeesp/internal/profile"
	"libeesp/internal/say"
	"libeesp/internal/stack"
	"libeesp/internal/status"
)

func main() {}

// handles maps the numbers in C handles to objects. Reading takes no lock. The low 32 bits
// of a number are a place in the table, the others count the objects that this place has
// had. So no two objects have one number, and none has 0.
type handles struct {
	mu     sync.Mutex
	places atomic.Pointer[[]place]
	free   []uint64 // by free place: the number of its next object
}

type place struct {
	number atomic.Uint64
	v      unsafe.Pointer // atomic
}

func (t *handles) put(v unsafe.Pointer) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.free) == 0 {
		t.grow()
	}
	n := t.free[len(t.free)-1]
	t.free = t.free[:len(t.free)-1]
	s := &(*t.places.Load())[uint32(n)]
	s.number.Store(n)
	atomic.StorePointer(&s.v, v)
	return n
}

func (t *handles) grow() {
	var old []place
	if p := t.places.Load(); p != nil {
		old = *p
	}
	grown := make([]place, max(16, 2*len(old)))
	for i := range old {
		grown[i].number.Store(old[i].number.Load())
		atomic.StorePointer(&grown[i].v, atomic.LoadPointer(&old[i].v))
	}
	for i := len(grown) - 1; i >= len(old); i-- {
		t.free = append(t.free, 1<<32|uint64(i))
	}
	t.places.Store(&grown)
}

func (t *handles) get(n C.uint64_t) unsafe.Pointer {
	p := t.places.Load()
	if p == nil || uint64(uint32(n)) >= uint64(len(*p)) {
		return nil
	}
	s := &(*p)[uint32(n)]
	if s.number.Load() != uint64(n) {
		return nil
	}
	return atomic.LoadPointer(&s.v)
}

func (t *handles) drop(n C.uint64_t) unsafe.Pointer {
	t.mu.Lock()
	defer t.mu.Unlock()
	v := t.get(n)
	if v != nil {
		atomic.StorePointer(&(*t.places.Load())[uint32(n)].v, nil)
		t.free = append(t.free, uint64(n)+1<<32)
	}
	return v
}

type proxy struct {
	r *eesp.Receiver
	s *eesp.Sender
}

// The tables. They are not generic: the linker keeps what reflection can see of a type argument, which for these
// types is half of the library.
type (
	groupTable    struct{ h handles }
	senderTable   struct{ h handles }
	receiverTable struct{ h handles }
	proxyTable    struct{ h handles }
	kdfTable      struct{ h handles }
	keysetTable   struct{ h handles }
	workerTable   struct{ h handles }
)

var (
	groups    groupTable
	senders   senderTable
	receivers receiverTable
	proxies   proxyTable
	kdfs      kdfTable
	keysets   keysetTable
	workers   workerTable
)

func (t *groupTable) put(v *eesp.Group) uint64      { return t.h.put(unsafe.Pointer(v)) }
func (t *groupTable) get(n C.uint64_t) *eesp.Group  { return (*eesp.Group)(t.h.get(n)) }
func (t *groupTable) drop(n C.uint64_t) *eesp.Group { return (*eesp.Group)(t.h.drop(n)) }

func (t *senderTable) put(v *eesp.Sender) uint64      { return t.h.put(unsafe.Pointer(v)) }
func (t *senderTable) get(n C.uint64_t) *eesp.Sender  { return (*eesp.Sender)(t.h.get(n)) }
func (t *senderTable) drop(n C.uint64_t) *eesp.Sender { return (*eesp.Sender)(t.h.drop(n)) }

func (t *receiverTable) put(v *eesp.Receiver) uint64      { return t.h.put(unsafe.Pointer(v)) }
func (t *receiverTable) get(n C.uint64_t) *eesp.Receiver  { return (*eesp.Receiver)(t.h.get(n)) }
func (t *receiverTable) drop(n C.uint64_t) *eesp.Receiver { return (*eesp.Receiver)(t.h.drop(n)) }

func (t *proxyTable) put(v *proxy) uint64      { return t.h.put(unsafe.Pointer(v)) }
func (t *proxyTable) get(n C.uint64_t) *proxy  { return (*proxy)(t.h.get(n)) }
func (t *proxyTable) drop(n C.uint64_t) *proxy { return (*proxy)(t.h.drop(n)) }

func (t *kdfTable) put(v *burst.KDF) uint64      { return t.h.put(unsafe.Pointer(v)) }
func (t *kdfTable) get(n C.uint64_t) *burst.KDF  { return (*burst.KDF)(t.h.get(n)) }
func (t *kdfTable) drop(n C.uint64_t) *burst.KDF { return (*burst.KDF)(t.h.drop(n)) }

func (t *keysetTable) put(v *burst.Keyset) uint64      { return t.h.put(unsafe.Pointer(v)) }
func (t *keysetTable) get(n C.uint64_t) *burst.Keyset  { return (*burst.Keyset)(t.h.get(n)) }
func (t *keysetTable) drop(n C.uint64_t) *burst.Keyset { return (*burst.Keyset)(t.h.drop(n)) }

func (t *workerTable) put(v *burst.Worker) uint64      { return t.h.put(unsafe.Pointer(v)) }
func (t *workerTable) get(n C.uint64_t) *burst.Worker  { return (*burst.Worker)(t.h.get(n)) }
func (t *workerTable) drop(n C.uint64_t) *burst.Worker { return (*burst.Worker)(t.h.drop(n)) }

// report returns the status of an error, and writes its text for eesp_last_error.
func report(err error, text *C.char) C.int {
	if err == nil {
		return C.EESP_OK
	}
	s := status.ErrInternal
	errors.As(err, &s)
	// The status is returned, so its own text is left out.
	what, more := strings.CutPrefix(err.Error(), s.Error()+": ")
	if !more {
		what = strings.TrimPrefix(what, "eesp: ")
	}
	b := unsafe.Slice((*byte)(unsafe.Pointer(text)), C.EESP_ERROR_TEXT)
	n := copy(b[:len(b)-1], what)
	b[n] = 0
	return C.int(s)
}

// guard turns a panic into a status, so that none reaches C.
func guard(text *C.char, st *C.int) {
	if p := recover(); p != nil {
		*st = report(say.Errorf("%w: %v", status.ErrInternal, p), text)
	}
}

func octets(p *C.uint8_t, n C.size_t) []byte { return unsafe.Slice((*byte)(unsafe.Pointer(p)), n) }

var errHandle = say.Errorf("%w: handle was freed", status.ErrArgument)

var (
	readyMu sync.Mutex
	isReady atomic.Bool
)

//export eespGoReady
func eespGoReady(env *C.char, text *C.char) (st C.int) {
	stack.Ensure()
	if isReady.Load() {
		return C.EESP_OK
	}
	defer guard(text, &st)
	return selectBackend(env, false, text)
}

func selectBackend(name *C.char, force bool, text *C.char) C.int {
	readyMu.Lock()
	defer readyMu.Unlock()
	if isReady.Load() && !force {
		return C.EESP_OK
	}
	n := ""
	if name != nil {
		n = C.GoString(name)
	}
	if _, err := asm.Select(n, knownAnswers); err != nil {
		return report(err, text)
	}
	isReady.Store(true)
	return C.EESP_OK
}

//export eespGoBackendSelect
func eespGoBackendSelect(name *C.char, text *C.char) (st C.int) {
	defer guard(text, &st)
	return selectBackend(name, true, text)
}

var (
	namesOnce sync.Once
	allNames  []*C.char
)

func names() []*C.char {
	namesOnce.Do(func() {
		for _, s := range eesp.Backends() {
			allNames = append(allNames, C.CString(s))
		}
	})
	return allNames
}

//export eespGoBackendAt
func eespGoBackendAt(i C.size_t) *C.char {
	if n := names(); uint64(i) < uint64(len(n)) {
		return n[i]
	}
	return nil
}

//export eespGoBackendName
func eespGoBackendName() *C.char {
	s, err := eesp.Backend()
	if err != nil {
		return nil
	}
	for i, x := range eesp.Backends() {
		if x == s {
			return names()[i]
		}
	}
	return nil
}

//export eespGoBackendSupported
func eespGoBackendSupported(name *C.char) C.int {
	if eesp.BackendSupported(C.GoString(name)) {
		return 1
	}
	return 0
}

//export eespGoSelfTest
func eespGoSelfTest(text *C.char) (st C.int) {
	defer guard(text, &st)
	if err := eesp.SelfTest(); err != nil {
		return report(err, text)
	}
	readyMu.Lock()
	defer readyMu.Unlock()
	return report(asm.Each(func(be *kernel.Backend) error {
		delete(known, be)
		return knownAnswers(be)
	}), text)
}

// idle is what eespGoKeepWarm seals and opens, to keep the general path warm.
var (
	idleOnce sync.Once
	idle     *burst.Idle // nil: no backend, or no memory
)

func makeIdle() {
	if be, err := asm.Selected(); err == nil {
		idle, _ = burst.NewIdle(be)
	}
}

//export eespGoKeepWarm
func eespGoKeepWarm(worker C.uint64_t) {
	defer func() { recover() }()
	if idleOnce.Do(makeIdle); idle != nil {
		workers.get(worker).KeepWarm(idle)
	}
}

//export eespGoThreadAttach
func eespGoThreadAttach(worker *C.uint64_t, view *C.struct_eesp_worker_view, text *C.char) (st C.int) {
	defer guard(text, &st)
	w, err := takeWorker()
	if err != nil {
		return report(err, text)
	}
	procs.attach()
	*worker = C.uint64_t(workers.put(w))
	*(*burst.WorkerView)(unsafe.Pointer(view)) = w.View()
	return C.EESP_OK
}

//export eespGoThreadDetach
func eespGoThreadDetach(worker C.uint64_t) {
	defer func() { recover() }()
	if w := workers.drop(worker); w != nil {
		giveWorker(w)
		procs.detach()
	}
}

//export eespGoSweep
func eespGoSweep() {
	defer func() { recover() }()
	barrier.Threads() // for announcements of others, too: sole_begin_slowly
	keys.Sweep()
}

//export eespGoGroupNew
func eespGoGroupNew(c *C.eesp_group_config, object *C.uint64_t, text *C.char) (st C.int) {
	defer guard(text, &st)
	if c.aead > 255 || c.combiner > 255 {
		return report(say.Errorf("%w: aead %d, combiner %d", status.ErrArgument, c.aead, c.combiner), text)
	}
	g, err := eesp.NewGroup(eesp.GroupConfig{
		Profile: eesp.ProfileID(c.profile), AEAD: eesp.AEAD(c.aead), Combiner: eesp.Combiner(c.combiner),
		Domain: uint32(c.domain), Mode: uint8(c.mode), Versions: uint8(c.versions), RekeyMask: uint64(c.rekey_mask),
		RekeyShift: uint8(c.rekey_shift), MaxCOffset: uint8(c.max_coffset), SubSAs: uint32(c.sub_sas),
		NoSequence: c.flags&C.EESP_GROUP_NO_SEQUENCE != 0, IV: c.flags&C.EESP_GROUP_IV != 0,
		Optimized: c.flags&C.EESP_GROUP_OPTIMIZED != 0, Align8: c.flags&C.EESP_GROUP_ALIGN8 != 0,
		Time: c.flags&C.EESP_GROUP_TIME != 0, TimeLate: c.flags&C.EESP_GROUP_TIME_LATE != 0,
		Draft: uint8(c.draft), Encap: uint8(c.encap),
		CryptOffset: uint16(c.crypt_offset), EpochAge: uint16(c.epoch_age), CounterLimit: uint64(c.counter_limit),
		AuthFailureLimit: uint32(c.auth_failure_limit), NoDirectionBit: c.flags&C.EESP_GROUP_NO_DIRECTION_BIT != 0,
	})
	if err != nil {
		return report(err, text)
	}
	*object = C.uint64_t(groups.put(g))
	return C.EESP_OK
}

//export eespGoGroupFree
func eespGoGroupFree(object C.uint64_t) {
	defer func() { recover() }()
	if g := groups.drop(object); g != nil {
		g.Close()
	}
}

// withGroup calls f with the group that has this number.
func withGroup(object C.uint64_t, text *C.char, f func(g *eesp.Group) error) (st C.int) {
	defer guard(text, &st)
	g := groups.get(object)
	if g == nil {
		return report(errHandle, text)
	}
	return report(f(g), text)
}

//export eespGoGroupSetDER
func eespGoGroupSetDER(object C.uint64_t, level C.int, der *C.uint8_t, n C.size_t, text *C.char) C.int {
	return withGroup(object, text, func(g *eesp.Group) error { return g.SetRootKeyDER(eesp.Level(level), octets(der, n)) })
}

//export eespGoGroupSetKey
func eespGoGroupSetKey(object C.uint64_t, level C.int, id *C.uint8_t, n C.size_t, index *C.uint64_t, value *C.uint8_t, text *C.char) C.int {
	return withGroup(object, text, func(g *eesp.Group) error {
		return g.SetRootKey(eesp.Level(level), octets(id, n), *(*[3]uint64)(unsafe.Pointer(index)),
			(*[3][eesp.RootKeyLen]byte)(unsafe.Pointer(value)))
	})
}

//export eespGoGroupSetRing
func eespGoGroupSetRing(object C.uint64_t, level C.int, id *C.uint8_t, n C.size_t, generation *C.uint64_t, value *C.uint8_t, floor C.uint64_t, text *C.char) C.int {
	return withGroup(object, text, func(g *eesp.Group) error {
		return g.SetRing(eesp.Level(level), octets(id, n), *(*[3]uint64)(unsafe.Pointer(generation)), (*[3][eesp.RootKeyLen]byte)(unsafe.Pointer(value)), uint64(floor))
	})
}

//export eespGoGroupWait
func eespGoGroupWait(object C.uint64_t, ms C.uint32_t, sealing C.int, text *C.char) C.int {
	return withGroup(object, text, func(g *eesp.Group) error {
		d := time.Duration(ms) * time.Millisecond
		if sealing != 0 {
			return g.WaitSealing(d)
		}
		return g.Wait(d)
	})
}

// followers has the functions that the threads of groups with an agent run.
var followers handles

//export eespGoFollowRun
func eespGoFollowRun(number C.uint64_t) {
	defer func() { recover() }()
	stack.Ensure()
	if run := (*func())(followers.drop(number)); run != nil {
		(*run)()
	}
}

//export eespGoGroupFollow
func eespGoGroupFollow(name *C.char, c *C.eesp_follow_config, object *C.uint64_t, text *C.char) (st C.int) {
	defer guard(text, &st)
	f := eesp.FollowConfig{Timeout: time.Duration(c.timeout_ms) * time.Millisecond, WithoutKeys: c.flags&C.EESP_FOLLOW_WITHOUT_KEYS != 0, AgentUID: uint32(c.agent_uid),
		Clients: c.flags&C.EESP_FOLLOW_CLIENTS != 0}
	if c.socket_path != nil {
		f.Socket = C.GoString(c.socket_path)
	}
	g, err := eesp.FollowGroupOn(C.GoString(name), f, func(run func()) error {
		procs.attach()
		ended := func() {
			defer procs.detach()
			run()
		}
		n := followers.put(unsafe.Pointer(&ended))
		if C.start_follower(C.uint64_t(n)) != 0 {
			followers.drop(C.uint64_t(n))
			procs.detach()
			return say.Errorf("%w: no thread to follow the agent on", status.ErrMemory)
		}
		return nil
	})
	if err != nil {
		return report(err, text)
	}
	*object = C.uint64_t(groups.put(g))
	return C.EESP_OK
}

//export eespGoGroupFollowInfo
func eespGoGroupFollowInfo(object C.uint64_t, out *C.eesp_follow_info, text *C.char) C.int {
	return withGroup(object, text, func(g *eesp.Group) error {
		i, err := g.FollowInfo()
		if err != nil {
			return err
		}
		*out = C.eesp_follow_info{states: C.uint64_t(i.States), refused: C.uint64_t(i.Refused), fenced: C.uint64_t(i.Fenced), ids: C.uint64_t(len(i.IDs)),
			sealing: C.int32_t(i.Sealing), replay_window: C.uint32_t(i.ReplayWindow), replay_contexts: C.uint32_t(i.ReplayContexts),
			mtu: C.uint32_t(i.MTU), v: C.uint32_t(i.V), profile: C.uint32_t(i.Profile), aead: C.uint32_t(i.AEAD), domain: C.uint32_t(i.Domain), mode: C.uint32_t(i.Mode),
			replay_mode: C.uint32_t(i.Replay)}
		if i.Connected {
			out.connected = 1
		}
		for l := range i.Generations {
			for k, n := range i.Generations[l] {
				out.generation[l][k] = C.uint64_t(n)
			}
		}
		p := unsafe.Slice((*byte)(unsafe.Pointer(&out.problem)), len(out.problem))
		copy(p[:len(p)-1], i.Problem)
		return nil
	})
}

//export eespGoFollowClients
func eespGoFollowClients(object C.uint64_t, out *C.eesp_follow_client, n *C.size_t, text *C.char) C.int {
	return withGroup(object, text, func(g *eesp.Group) error {
		l, err := g.Clients()
		if err != nil {
			return err
		}
		size := int(min(*n, 1<<32)) // SIZE_MAX: the caller has room for all
		*n = C.size_t(len(l))
		for i, c := range l[:min(size, len(l))] {
			x := (*C.eesp_follow_client)(unsafe.Add(unsafe.Pointer(out), i*C.sizeof_eesp_follow_client))
			*x = C.eesp_follow_client{up: C.uint64_t(c.Up), down: C.uint64_t(c.Down), lease_ms: C.uint32_t(c.Lease.Milliseconds())}
			name := unsafe.Slice((*byte)(unsafe.Pointer(&x.name)), len(x.name))
			copy(name[:len(name)-1], c.Name)
		}
		if len(l) > size {
			return say.Errorf("%w: there are %d clients", status.ErrRoom, len(l))
		}
		return nil
	})
}

//export eespGoGroupGenerate
func eespGoGroupGenerate(object C.uint64_t, level C.int, id *C.uint8_t, n C.size_t, text *C.char) C.int {
	return withGroup(object, text, func(g *eesp.Group) error {
		return g.GenerateRootKey(eesp.Level(level), octets(id, n))
	})
}

//export eespGoGroupGetDER
func eespGoGroupGetDER(object C.uint64_t, level C.int, der *C.uint8_t, n *C.size_t, text *C.char) C.int {
	return withGroup(object, text, func(g *eesp.Group) error {
		var buf []byte
		if der != nil {
			buf = octets(der, min(*n, 4096)) // longer than any root key
		}
		k, err := g.WriteRootKeyDER(buf, eesp.Level(level))
		if err == nil || errors.Is(err, status.ErrRoom) {
			*n = C.size_t(k)
		}
		return err
	})
}

//export eespGoGroupRotate
func eespGoGroupRotate(object C.uint64_t, level C.int, index C.uint64_t, value *C.uint8_t, text *C.char) C.int {
	return withGroup(object, text, func(g *eesp.Group) error {
		return g.Rotate(eesp.Level(level), uint64(index), (*[eesp.RootKeyLen]byte)(unsafe.Pointer(value)))
	})
}

//export eespGoGroupRemove
func eespGoGroupRemove(object C.uint64_t, level C.int, text *C.char) C.int {
	return withGroup(object, text, func(g *eesp.Group) error { return g.RemoveRootKey(eesp.Level(level)) })
}

//export eespGoGroupDefault
func eespGoGroupDefault(object C.uint64_t, levels C.uint, text *C.char) C.int {
	return withGroup(object, text, func(g *eesp.Group) error {
		if levels > 255 {
			return say.Errorf("%w: levels %#x", status.ErrArgument, levels)
		}
		return g.SetDefaultLevels(eesp.Levels(levels))
	})
}

//export eespGoGroupInfo
func eespGoGroupInfo(object C.uint64_t, level C.int, info *C.eesp_root_key_info, text *C.char) C.int {
	return withGroup(object, text, func(g *eesp.Group) error {
		i, err := g.RootKeyInfo(eesp.Level(level))
		if err != nil {
			return err
		}
		*info = C.eesp_root_key_info{}
		for k, x := range i.Index {
			info.index[k] = C.uint64_t(x)
		}
		info.id_len = C.uint32_t(copy(octets(&info.id[0], C.EESP_MAX_ROOT_KEY_ID), i.ID))
		if i.HasPrevious {
			info.has_previous = 1
		}
		return nil
	})
}

//export eespGoGroupSetSlot
func eespGoGroupSetSlot(object C.uint64_t, n C.uint, key *C.uint8_t, size C.size_t, text *C.char) C.int {
	return withGroup(object, text, func(g *eesp.Group) error { return g.SetKey(int(n), octets(key, size)) })
}

//export eespGoGroupUseSlot
func eespGoGroupUseSlot(object C.uint64_t, n C.uint, text *C.char) C.int {
	return withGroup(object, text, func(g *eesp.Group) error { return g.UseKey(int(n)) })
}

//export eespGoGroupRotateSlot
func eespGoGroupRotateSlot(object C.uint64_t, key *C.uint8_t, size C.size_t, n *C.uint, text *C.char) C.int {
	return withGroup(object, text, func(g *eesp.Group) error {
		var k []byte
		if key != nil {
			k = octets(key, size)
		}
		i, err := g.RotateKey(k)
		*n = C.uint(i)
		return err
	})
}

//export eespGoGroupRemoveSlot
func eespGoGroupRemoveSlot(object C.uint64_t, n C.uint, text *C.char) C.int {
	return withGroup(object, text, func(g *eesp.Group) error { return g.RemoveKey(int(n)) })
}

//export eespGoGroupSetEpoch
func eespGoGroupSetEpoch(object C.uint64_t, epoch C.uint16_t, text *C.char) C.int {
	return withGroup(object, text, func(g *eesp.Group) error { return g.SetEpoch(uint16(epoch)) })
}

//export eespGoGroupResetLatch
func eespGoGroupResetLatch(object C.uint64_t, text *C.char) C.int {
	return withGroup(object, text, func(g *eesp.Group) error { return g.ResetLatch() })
}

//export eespGoGroupDomainStats
func eespGoGroupDomainStats(object C.uint64_t, out *C.eesp_domain_stats, text *C.char) C.int {
	return withGroup(object, text, func(g *eesp.Group) error {
		s, err := g.DomainStats()
		if err != nil {
			return err
		}
		*out = C.eesp_domain_stats{sealed: C.uint64_t(s.Sealed), opened: C.uint64_t(s.Opened), auth_failures: C.uint64_t(s.AuthFailures),
			invalid: C.uint64_t(s.Invalid), unknown_sa: C.uint64_t(s.UnknownSA), late_epoch: C.uint64_t(s.LateEpoch),
			exhausted: C.uint64_t(s.Exhausted), wrong_ssi: C.uint64_t(s.WrongSSI), clear: C.uint64_t(s.Clear),
			failures: C.uint64_t(s.Failures), epoch: C.uint64_t(s.Epoch)}
		if s.Latched {
			out.latched = 1
		}
		return nil
	})
}

//export eespGoGroupUsage
func eespGoGroupUsage(object C.uint64_t, level C.int, generation C.uint, out *C.eesp_usage, text *C.char) C.int {
	return withGroup(object, text, func(g *eesp.Group) error {
		u, err := g.Usage(eesp.Level(level), eesp.Generation(min(generation, 255)))
		if err == nil {
			*out = C.eesp_usage{derived: C.uint64_t(u.Derived), sealed: C.uint64_t(u.Sealed), opened: C.uint64_t(u.Opened), index: C.uint64_t(u.Index)}
		}
		return err
	})
}

//export eespGoGroupAllocSPI
func eespGoGroupAllocSPI(object C.uint64_t, first C.uint32_t, spi *C.uint32_t, text *C.char) C.int {
	return withGroup(object, text, func(g *eesp.Group) error {
		n, err := g.AllocSPI(uint32(first))
		if err == nil {
			*spi = C.uint32_t(n)
		}
		return err
	})
}

//export eespGoDerive
func eespGoDerive(worker, object C.uint64_t, ctx *C.eesp_context, n C.size_t, keys *C.uint8_t, keysLen C.size_t, text *C.char) C.int {
	return withGroup(object, text, func(g *eesp.Group) error {
		k, be := g.Internals()
		if uint64(keysLen) != uint64(n)*uint64(g.KeyLen()) {
			return say.Errorf("%w: keys_len is not n times %d", status.ErrArgument, g.KeyLen())
		}
		return workers.get(worker).Derive(be, k, unsafe.Slice((*profile.KeyContext)(unsafe.Pointer(ctx)), n), octets(keys, keysLen))
	})
}

//export eespGoExport
func eespGoExport(worker, object C.uint64_t, ctx *C.eesp_context, options C.int, key *C.eesp_data_key, text *C.char) C.int {
	return withGroup(object, text, func(g *eesp.Group) error {
		k, be := g.Internals()
		return workers.get(worker).Export(be, k, (*profile.KeyContext)(unsafe.Pointer(ctx)), options != 0, (*profile.DataKey)(unsafe.Pointer(key)))
	})
}

func senderConfig(c *C.eesp_sender_config) eesp.SenderConfig {
	s := eesp.SenderConfig{
		ID: uint64(c.id), V: uint8(c.v), Levels: eesp.Levels(c.levels), Options: c.flags&C.EESP_SENDER_OPTIONS != 0,
		Counter: eesp.CounterMode(c.counter_mode), EngineBits: uint8(c.engine_bits), Engine: uint32(c.engine),
		RateLog2: uint8(c.rate_log2), FixedEpoch: c.flags&C.EESP_SENDER_FIXED_EPOCH != 0, Epoch: uint16(c.epoch),
		Start: uint64(c.start_counter), ReserveRun: uint64(c.reserve_run),
		NoVC: c.flags&C.EESP_SENDER_NO_VC != 0, OffsetFromIV: c.flags&C.EESP_SENDER_OFFSET_FROM_IV != 0,
	}
	if c.epoch_start_ns != 0 || s.FixedEpoch && s.Counter == eesp.CounterClock {
		s.EpochStart = time.Unix(0, int64(c.epoch_start_ns))
	}
	if s.Counter != eesp.CounterClock {
		s.FixedEpoch = true
	}
	if c.state_path != nil {
		s.StatePath = C.GoString(c.state_path)
	}
	s.Time, s.TimeLate = c.flags&C.EESP_SENDER_TIME != 0, c.flags&C.EESP_SENDER_TIME_LATE != 0
	if c.lock_dir != nil {
		s.LockDir = C.GoString(c.lock_dir)
	}
	if c.extra != nil {
		s.Extra = octets(c.extra, C.size_t(c.extra_len)) // copied by the constructor
	}
	return s
}

//export eespGoSenderNew
func eespGoSenderNew(object C.uint64_t, c *C.eesp_sender_config, out *C.uint64_t, text *C.char) C.int {
	return withGroup(object, text, func(g *eesp.Group) error {
		s, err := eesp.NewSender(g, senderConfig(c))
		if err != nil {
			return err
		}
		*out = C.uint64_t(senders.put(s))
		return nil
	})
}

//export eespGoSenderNewToClient
func eespGoSenderNewToClient(object, down C.uint64_t, out *C.uint64_t, text *C.char) C.int {
	return withGroup(object, text, func(g *eesp.Group) error {
		s, err := g.ClientSender(uint64(down))
		if err != nil {
			return err
		}
		*out = C.uint64_t(senders.put(s))
		return nil
	})
}

//export eespGoSenderNewKey
func eespGoSenderNewKey(key *C.eesp_data_key, c *C.eesp_sender_config, out *C.uint64_t, text *C.char) (st C.int) {
	defer guard(text, &st)
	conf := senderConfig(c)
	if c.epoch_start_ns == 0 {
		conf.EpochStart = time.Time{}
	}
	s, err := eesp.NewSenderWithKey((*profile.DataKey)(unsafe.Pointer(key)), conf)
	if err != nil {
		return report(err, text)
	}
	*out = C.uint64_t(senders.put(s))
	return C.EESP_OK
}

//export eespGoSenderFree
func eespGoSenderFree(object C.uint64_t) {
	defer func() { recover() }()
	if s := senders.drop(object); s != nil {
		s.Close()
	}
}

// planned makes an object publish its plans in cell, if C can call the backend's kernels.
func planned(plan func(cell *uintptr, direct uintptr), be *kernel.Backend, cell *unsafe.Pointer) {
	if d := direct(be); d != nil {
		plan((*uintptr)(unsafe.Pointer(cell)), uintptr(unsafe.Pointer(d)))
	}
}

//export eespGoSenderPlan
func eespGoSenderPlan(object C.uint64_t, cell *unsafe.Pointer) {
	defer func() { recover() }()
	s := senders.get(object)
	planned(s.Plan, s.Backend(), cell)
}

//export eespGoReceiverPlan
func eespGoReceiverPlan(object C.uint64_t, cell *unsafe.Pointer) {
	defer func() { recover() }()
	e := receivers.get(object).Burst()
	planned(e.Plan, e.Backend, cell)
}

//export eespGoSenderHeaderLen
func eespGoSenderHeaderLen(worker, object C.uint64_t) (n C.uint32_t) {
	defer func() { recover() }()
	s := senders.get(object)
	if s == nil || s.Burst() == nil {
		return 0
	}
	return C.uint32_t(workers.get(worker).HeaderLen(s.Burst()))
}

//export eespGoSenderNext
func eespGoSenderNext(object C.uint64_t) C.uint64_t {
	if s := senders.get(object); s != nil {
		return C.uint64_t(s.NextTSC())
	}
	return 0
}

//export eespGoSenderID
func eespGoSenderID(object C.uint64_t) C.uint64_t {
	if s := senders.get(object); s != nil {
		return C.uint64_t(s.ID())
	}
	return 0
}

//export eespGoSenderSetID
func eespGoSenderSetID(object, id C.uint64_t, text *C.char) (st C.int) {
	defer guard(text, &st)
	s := senders.get(object)
	if s == nil {
		return report(errHandle, text)
	}
	return report(s.SetID(uint64(id)), text)
}

//export eespGoReceiverSetOwnIDs
func eespGoReceiverSetOwnIDs(object C.uint64_t, ids *C.uint64_t, n C.size_t, text *C.char) (st C.int) {
	defer guard(text, &st)
	r := receivers.get(object)
	if r == nil {
		return report(errHandle, text)
	}
	var l []uint64
	for _, id := range unsafe.Slice(ids, n) {
		l = append(l, uint64(id))
	}
	return report(r.SetOwnIDs(l...), text)
}

func fillStats(out *C.eesp_stats, octets uint64, by [status.Count]uint64) {
	*out = C.eesp_stats{octets: C.uint64_t(octets)}
	for i, n := range by {
		out.packets[i] = C.uint64_t(n)
	}
}

//export eespGoSenderStats
func eespGoSenderStats(object C.uint64_t, out *C.eesp_stats, text *C.char) (st C.int) {
	defer guard(text, &st)
	s := senders.get(object)
	if s == nil {
		return report(errHandle, text)
	}
	o, by := s.Counts()
	fillStats(out, o, by)
	return C.EESP_OK
}

func receiverConfig(c *C.eesp_receiver_config, heir C.uint64_t) eesp.ReceiverConfig {
	r := eesp.ReceiverConfig{Replay: eesp.ReplayMode(c.replay_mode), MaxAge: time.Duration(c.max_age_us) * time.Microsecond,
		MaxEarly: time.Duration(c.max_early_us) * time.Microsecond, MaxRate: uint64(c.max_rate),
		ClockTrusted: c.flags&C.EESP_RECEIVER_CLOCK_TRUSTED != 0, Heir: receivers.get(heir),
		TryPrevious: c.flags&C.EESP_RECEIVER_TRY_PREVIOUS != 0, ReplayWindow: uint32(c.replay_window),
		ReplayContexts: uint32(c.replay_contexts), EngineBits: uint8(c.engine_bits)}
	for _, id := range unsafe.Slice(c.own_ids, c.own_id_count) {
		r.OwnIDs = append(r.OwnIDs, uint64(id))
	}
	if c.mark_path != nil {
		r.MarkPath = C.GoString(c.mark_path)
	}
	return r
}

//export eespGoReceiverNew
func eespGoReceiverNew(objects *C.uint64_t, n C.size_t, c *C.eesp_receiver_config, heir C.uint64_t, out *C.uint64_t, text *C.char) (st C.int) {
	defer guard(text, &st)
	var gs []*eesp.Group
	for _, object := range unsafe.Slice(objects, n) {
		g := groups.get(object)
		if g == nil {
			return report(errHandle, text)
		}
		gs = append(gs, g)
	}
	r, err := eesp.NewReceiver(receiverConfig(c, heir), gs...)
	if err != nil {
		return report(err, text)
	}
	*out = C.uint64_t(receivers.put(r))
	return C.EESP_OK
}

//export eespGoReceiverNewKey
func eespGoReceiverNewKey(key *C.eesp_data_key, c *C.eesp_receiver_config, heir C.uint64_t, out *C.uint64_t, text *C.char) (st C.int) {
	defer guard(text, &st)
	r, err := eesp.NewReceiverWithKey((*profile.DataKey)(unsafe.Pointer(key)), receiverConfig(c, heir))
	if err != nil {
		return report(err, text)
	}
	*out = C.uint64_t(receivers.put(r))
	return C.EESP_OK
}

//export eespGoReceiverFree
func eespGoReceiverFree(object C.uint64_t) {
	defer func() { recover() }()
	if r := receivers.drop(object); r != nil {
		r.Burst().Unplan()
		r.Close()
	}
}

//export eespGoReceiverStats
func eespGoReceiverStats(object C.uint64_t, out *C.eesp_stats, text *C.char) (st C.int) {
	defer guard(text, &st)
	r := receivers.get(object)
	if r == nil {
		return report(errHandle, text)
	}
	o, by := r.Burst().ReadStats()
	fillStats(out, o, by)
	return C.EESP_OK
}

//export eespGoReceiverReplayStats
func eespGoReceiverReplayStats(object C.uint64_t, out *C.eesp_replay_stats, text *C.char) (st C.int) {
	defer guard(text, &st)
	r := receivers.get(object)
	if r == nil {
		return report(errHandle, text)
	}
	s := r.ReplayStats()
	*out = C.eesp_replay_stats{windows: C.uint64_t(s.Windows), most: C.uint64_t(s.Most), duplicates: C.uint64_t(s.Duplicates),
		old: C.uint64_t(s.Old), no_room: C.uint64_t(s.NoRoom), made: C.uint64_t(s.Made), given_up: C.uint64_t(s.GivenUp),
		early: C.uint64_t(s.Early)}
	return C.EESP_OK
}

//export eespGoProxyNew
func eespGoProxyNew(r, s C.uint64_t, out *C.uint64_t, text *C.char) (st C.int) {
	defer guard(text, &st)
	p := &proxy{receivers.get(r), senders.get(s)}
	if p.r == nil || p.s == nil {
		return report(errHandle, text)
	}
	*out = C.uint64_t(proxies.put(p))
	return C.EESP_OK
}

//export eespGoProxyFree
func eespGoProxyFree(object C.uint64_t) {
	defer func() { recover() }()
	proxies.drop(object)
}

func descs(pkts *C.eesp_pkt, n C.size_t) []profile.Desc {
	return unsafe.Slice((*profile.Desc)(unsafe.Pointer(pkts)), n)
}

// failed ends all packets of a burst with one status.
func failed(d []profile.Desc, c status.Code) C.size_t {
	for i := range d {
		d[i].Status, d[i].Out, d[i].OutLen, d[i].ID, d[i].TSC = c, 0, 0, 0, 0
	}
	return 0
}

// caught ends a burst in which Go code panicked: the worker is wiped, and all packets are
// ErrInternal.
func caught(worker C.uint64_t, d []profile.Desc, good *C.size_t) {
	if p := recover(); p != nil {
		workers.get(worker).Scrub()
		*good = failed(d, status.ErrInternal)
	}
}

//export eespGoSealBurst
func eespGoSealBurst(worker, object C.uint64_t, pkts *C.eesp_pkt, n C.size_t) (good C.size_t) {
	d := descs(pkts, n)
	defer caught(worker, d, &good)
	s := senders.get(object)
	if s == nil {
		return failed(d, status.ErrArgument)
	}
	e := s.Burst()
	if e == nil {
		return C.size_t(s.NoID(d))
	}
	return C.size_t(workers.get(worker).Seal(e, d))
}

//export eespGoSealTaken
func eespGoSealTaken(worker, object C.uint64_t, pkts *C.eesp_pkt, n C.size_t, first, serial C.uint64_t) (good C.size_t) {
	d := descs(pkts, n)
	defer caught(worker, d, &good)
	return C.size_t(senders.get(object).SealTaken(workers.get(worker), d, uint64(first), uint64(serial)))
}

//export eespGoOpenBurst
func eespGoOpenBurst(worker, object C.uint64_t, pkts *C.eesp_pkt, n C.size_t) (good C.size_t) {
	d := descs(pkts, n)
	defer caught(worker, d, &good)
	r := receivers.get(object)
	if r == nil {
		return failed(d, status.ErrArgument)
	}
	return C.size_t(workers.get(worker).Open(r.Burst(), d))
}

//export eespGoWindow
func eespGoWindow(object C.uint64_t, flow *C.struct_eesp_flow) (window C.uintptr_t) {
	defer func() { recover() }()
	return C.uintptr_t(receivers.get(object).Burst().Window(unsafe.Pointer(flow)))
}

// outside converts struct eesp_udp.
func outside(u *C.eesp_udp) (e burst.UDP) {
	e.Transport = u.mode == C.EESP_UDP_TRANSPORT
	a := (*eesp.Addr)(unsafe.Pointer(&u.addr))
	e.Src, e.Dst = a.Src, a.Dst
	e.SPort, e.DPort, e.TTL, e.TOS = uint16(u.src_port), uint16(u.dst_port), uint8(u.ttl), uint8(u.tos)
	e.ECN, e.DSCP = u.flags&C.EESP_UDP_ECN != 0, u.flags&C.EESP_UDP_DSCP != 0
	e.DSCPBack, e.Sum6 = u.flags&C.EESP_UDP_DSCP_BACK != 0, u.flags&C.EESP_UDP_CHECKSUM6 != 0
	if e.TTL == 0 {
		e.TTL = 64
	}
	return e
}

//export eespGoUDPSealBurst
func eespGoUDPSealBurst(worker, object C.uint64_t, u *C.eesp_udp, pkts *C.eesp_pkt, n C.size_t) (good C.size_t) {
	d := descs(pkts, n)
	defer caught(worker, d, &good)
	s, e := senders.get(object), outside(u)
	if s == nil || e.Check(true) != status.OK {
		return failed(d, status.ErrArgument)
	}
	n_ := s.Burst()
	if n_ == nil {
		return C.size_t(s.NoID(d))
	}
	return C.size_t(workers.get(worker).SealUDP(n_, &e, d))
}

//export eespGoUDPOpenBurst
func eespGoUDPOpenBurst(worker, object C.uint64_t, u *C.eesp_udp, pkts *C.eesp_pkt, n C.size_t) (good C.size_t) {
	d := descs(pkts, n)
	defer caught(worker, d, &good)
	r, e := receivers.get(object), outside(u)
	if r == nil || e.Check(false) != status.OK {
		return failed(d, status.ErrArgument)
	}
	return C.size_t(workers.get(worker).OpenUDP(r.Burst(), &e, d))
}

//export eespGoProxyBurst
func eespGoProxyBurst(worker, object C.uint64_t, pkts *C.eesp_pkt, n C.size_t) (good C.size_t) {
	d := descs(pkts, n)
	defer caught(worker, d, &good)
	p := proxies.get(object)
	if p == nil {
		return failed(d, status.ErrArgument)
	}
	e := p.s.Burst()
	if e == nil {
		return C.size_t(p.s.NoID(d))
	}
	return C.size_t(workers.get(worker).Proxy(p.r.Burst(), e, d))
}

func keyLen(aead C.uint32_t) int { return 16 << aead }

var (
	directMu sync.Mutex
	directs  = map[*kernel.Backend]*C.struct_eesp_direct{}
)

// direct returns a backend's kernel.Direct in C memory, which is never freed.
func direct(be *kernel.Backend) *C.struct_eesp_direct {
	if be.Direct == nil {
		return nil
	}
	directMu.Lock()
	defer directMu.Unlock()
	d := directs[be]
	if d == nil {
		d = (*C.struct_eesp_direct)(C.malloc(C.size_t(unsafe.Sizeof(*d))))
		*(*kernel.Direct)(unsafe.Pointer(d)) = *be.Direct
		directs[be] = d
	}
	return d
}

//export eespGoKDFNew
func eespGoKDFNew(key *C.uint8_t, out *C.uint64_t, view *C.struct_eesp_kdf_view, text *C.char) (st C.int) {
	defer guard(text, &st)
	be, err := asm.Selected()
	if err != nil {
		return report(err, text)
	}
	k, err := burst.NewKDF(be, (*[32]byte)(unsafe.Pointer(key)))
	if err != nil {
		return report(err, text)
	}
	*out = C.uint64_t(kdfs.put(k))
	master, counted := k.Memory()
	*view = C.struct_eesp_kdf_view{direct(be), (*C.uint8_t)(master), (*C.uint8_t)(counted)}
	return C.EESP_OK
}

//export eespGoKDFFree
func eespGoKDFFree(object C.uint64_t) {
	defer func() { recover() }()
	if k := kdfs.drop(object); k != nil {
		k.Free()
	}
}

//export eespGoKDFDerive
func eespGoKDFDerive(worker, object C.uint64_t, aead C.uint32_t, contexts *C.uint8_t, n C.size_t, keys *C.uint8_t, keysLen C.size_t, text *C.char) (st C.int) {
	defer guard(text, &st)
	k := kdfs.get(object)
	if k == nil {
		return report(errHandle, text)
	}
	workers.get(worker).DeriveRaw(k, keyLen(aead), unsafe.Pointer(contexts), int(n), octets(keys, keysLen))
	return C.EESP_OK
}

//export eespGoKeysetNew
func eespGoKeysetNew(aead C.uint32_t, keys *C.uint8_t, n C.size_t, out *C.uint64_t, view *C.struct_eesp_keyset_view, text *C.char) (st C.int) {
	defer guard(text, &st)
	be, err := asm.Selected()
	if err != nil {
		return report(err, text)
	}
	k, err := burst.NewKeyset(be, keyLen(aead), octets(keys, n*C.size_t(keyLen(aead))))
	if err != nil {
		return report(err, text)
	}
	*out = C.uint64_t(keysets.put(k))
	*view = C.struct_eesp_keyset_view{direct(be), (*C.uint8_t)(k.Memory()), C.uint32_t(n), aead}
	return C.EESP_OK
}

//export eespGoKeysetFree
func eespGoKeysetFree(object C.uint64_t) {
	defer func() { recover() }()
	if k := keysets.drop(object); k != nil {
		k.Free()
	}
}

func jobs(first *C.eesp_job, n C.size_t) []kernel.Job {
	return unsafe.Slice((*kernel.Job)(unsafe.Pointer(first)), n)
}

// outcome returns how many jobs are good; with an error none is, and its text is reported.
func outcome(good int, err error, text *C.char) C.size_t {
	if err != nil {
		report(err, text)
	}
	return C.size_t(good)
}

// noneGood ends a burst of jobs in which Go code panicked.
func noneGood(worker C.uint64_t, jobs []kernel.Job, text *C.char, good *C.size_t) {
	if p := recover(); p != nil {
		workers.get(worker).Scrub()
		for i := range jobs {
			jobs[i].OK = 0
		}
		*good = outcome(0, say.Errorf("%w: %v", status.ErrInternal, p), text)
	}
}

//export eespGoRekey
func eespGoRekey(worker, object C.uint64_t, aead C.uint32_t, contexts *C.uint8_t, first *C.eesp_job, n C.size_t, sealing C.int, text *C.char) (good C.size_t) {
	defer noneGood(worker, jobs(first, n), text, &good)
	k := kdfs.get(object)
	if k == nil {
		return outcome(0, errHandle, text)
	}
	done, err := workers.get(worker).Rekey(k, keyLen(aead), unsafe.Pointer(contexts), jobs(first, n), sealing != 0)
	return outcome(done, err, text)
}

//export eespGoKeyed
func eespGoKeyed(worker, object C.uint64_t, first *C.eesp_job, n C.size_t, sealing C.int, text *C.char) (good C.size_t) {
	defer noneGood(worker, jobs(first, n), text, &good)
	k := keysets.get(object)
	if k == nil {
		return outcome(0, errHandle, text)
	}
	done, err := workers.get(worker).Keyed(k, jobs(first, n), sealing != 0)
	return outcome(done, err, text)
}
