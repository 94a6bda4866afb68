//go:build cgo && (amd64 || arm64)

// Package both is for a test that compares replay protection by time in C
// (libeesp/times.h) with package fresh. Nothing else uses it. The headers are links,
// so that Go sees when they change.
package both

/*
#cgo CFLAGS: -O2
#include "times.h"

#define T ((struct eesp_times *)t) // a number, for cgo looks at all that is behind a pointer

static int begin(uintptr_t t, uint64_t now, struct times_pass *p) { return times_begin(T, now, 0, p); }

static int check(uintptr_t t, struct times_pass *p, uint64_t time)
{
	return times_may(p, time) ? TIME_FRESH : times_refused(T, p, time);
}

static int commit(uintptr_t t, struct times_pass *p, uint64_t flow, uint64_t tsc, uint64_t time, int alone)
{
	uint64_t word, *at = times_place(T, p, flow, tsc, time, &word);
	return times_commit(T, p, p->first, at, word, time, alone);
}

static void end(uintptr_t t, struct times_pass *p) { times_end(T, p); }

static void burst(uintptr_t t, struct times_pass *p, const uint64_t *flow, const uint64_t *tsc, uint8_t *verdict, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if ((verdict[i] = (uint8_t)check(t, p, tsc[i])) == TIME_FRESH) {
			uint64_t word, *at = times_place(T, p, flow[i], tsc[i], tsc[i], &word);
			verdict[i] = (uint8_t)times_insert(T, p->first, at, word, 0);
			if (verdict[i] == TIME_FRESH)
				p->most = tsc[i] > p->most ? tsc[i] : p->most;
		}
	uint64_t floor = times_floor(T); // once for all of them, as direct.c
	for (size_t i = 0; i < n; i++)
		if (verdict[i] == TIME_FRESH && tsc[i] < floor)
			verdict[i] = TIME_STALE;
	end(t, p);
}

static unsigned stops(const uint64_t *line, uint64_t word) { return times_stops(line, word); }
int wide_can(void);
unsigned wide_stops(const uint64_t *line, uint64_t word);
*/
import "C"

import (
	"runtime"
	"unsafe"

	"libeesp/internal/fresh"
)

// Pass is fresh.Pass in C.
type Pass struct{ p C.struct_times_pass }

func view(t *fresh.Table) *C.struct_eesp_times {
	return (*C.struct_eesp_times)(unsafe.Pointer(&t.View))
}

func at(t *fresh.Table) C.uintptr_t { return C.uintptr_t(uintptr(unsafe.Pointer(&t.View))) }

// Begin begins a burst in C. It returns false if Go must process the burst, beginning with
// fresh.Table.Begin.
func (p *Pass) Begin(t *fresh.Table, now uint64) bool {
	defer runtime.KeepAlive(t)
	return C.begin(at(t), C.uint64_t(now), &p.p) != 0
}

// Check is fresh.Table.Check in C.
func (p *Pass) Check(t *fresh.Table, time uint64) fresh.Verdict {
	defer runtime.KeepAlive(t)
	return fresh.Verdict(C.check(at(t), &p.p, C.uint64_t(time)))
}

// Commit is fresh.Table.Commit in C. flow is the key's Hash. alone says that no other thread uses the table.
func (p *Pass) Commit(t *fresh.Table, flow, tsc, time uint64, alone bool) fresh.Verdict {
	sole := C.int(0)
	if alone {
		sole = 1
	}
	defer runtime.KeepAlive(t)
	return fresh.Verdict(C.commit(at(t), &p.p, C.uint64_t(flow), C.uint64_t(tsc), C.uint64_t(time), sole))
}

// End is fresh.Table.End in C.
func (p *Pass) End(t *fresh.Table) {
	defer runtime.KeepAlive(t)
	C.end(at(t), &p.p)
}

// Burst is Check, Commit and End for several packets, in C.
func (p *Pass) Burst(t *fresh.Table, flow, tsc []uint64, verdict []fresh.Verdict) {
	defer runtime.KeepAlive(t)
	C.burst(at(t), &p.p, (*C.uint64_t)(&flow[0]), (*C.uint64_t)(&tsc[0]), (*C.uint8_t)(unsafe.Pointer(&verdict[0])), C.size_t(len(tsc)))
}

// Words returns the words of a table.
func Words(t *fresh.Table) []uint64 {
	return unsafe.Slice((*uint64)(unsafe.Pointer(view(t).words)), t.Memory()/8)
}

// Slice returns the length of a table's slices in ticks.
func Slice(t *fresh.Table) uint64 { return uint64(view(t).slice) }

// Twins gives b the hash seeds of a.
func Twins(a, b *fresh.Table) {
	x, y := view(a), view(b)
	y.seed, y.no_addr, y.tsc_seed = x.seed, x.no_addr, x.tsc_seed
}

// Stops returns at which words of a line a search for word ends, as bits.
func Stops(line *[8]uint64, word uint64) uint {
	return uint(C.stops((*C.uint64_t)(&line[0]), C.uint64_t(word)))
}

// WideStops is Stops with vectors of 64 octets. ok is false if this CPU does not have them.
func WideStops(line *[8]uint64, word uint64) (stops uint, ok bool) {
	if C.wide_can() == 0 {
		return 0, false
	}
	return uint(C.wide_stops((*C.uint64_t)(&line[0]), C.uint64_t(word))), true
}

// ClockTicks reads the wall clock in C, in units of 2^-rate s.
func ClockTicks(rate uint) uint64 { return uint64(C.times_clock(C.uint(rate))) }
