/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The fast path. It calls kernels directly, for a few nanoseconds. A cgo call costs
 * fifty, and more after a pause, when the Go runtime has to get the thread back.
 *
 * Packets go through the executor below. It knows no profile: it follows the
 * object's plan (internal/plan). Packets that the plan does not cover go to the
 * general path, in Go; the others of the burst do not.
 *
 * Its parts are the headers below, in the order in which they build on each other.
 * It is compiled twice on amd64: again with WIDE by wide_amd64.c.
 */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "_cgo_export.h"
#include "shim.h"
#include "times.h"

#define ICV 16
#define STRAY 1 /* status of a packet that the plan does not cover, until the general path takes it */
#define NOINLINE __attribute__((noinline)) /* cold: kept out of the hot code */
#define COLD __attribute__((cold)) /* compiled for size */
#if defined(WIDE) || !defined(__x86_64__)
#define KEEPS 1 /* tss keys are kept (kept.h); without AVX-512 that is not worth its kilobytes */
#else
#define KEEPS 0
#endif
#define FEW_KEYS 8 /* fewKeys of internal/burst: with so many packets a key, each key is expanded once */

#ifdef WIDE
#include <immintrin.h>
#endif

#include "kernels.h"
#ifndef WIDE
#include "jobs.h"
#endif
#include "octets.h"
#include "keys.h"
#ifndef WIDE
#include "general.h"
#endif
#include "counts.h"
#include "seal.h"
#include "refuse.h"
#include "windows.h"
#include "headers.h"
#include "decrypt.h"
#ifndef WIDE
#include "odd.h"
#endif
#if KEEPS
#include "kept.h"
#endif
#include "open.h"
#ifndef WIDE
#include "flood.h"

int direct_front(const struct eesp_fast_path *fp, struct eesp_front *f)
{
	uint64_t epoch = enter(fp->view);
	const struct eesp_seal_plan *w = __atomic_load_n(fp->plan, __ATOMIC_SEQ_CST);
	if (w != NULL) {
		f->counts = (struct eesp_counts){ w->by, w->octets, w->shares };
		f->header = w->n;
		f->prefix = w->prefix;
		f->tail = w->pad_mask + ICV;
		f->next = w->next_at != NONE && w->wrap != UNWRAP_INFO_IP;
		f->dummies = w->wrap != UNWRAP_BARE;
	}
	leave(fp->view, epoch);
	return w != NULL;
}

int direct_back(const struct eesp_fast_path *fp, struct eesp_front *f)
{
	uint64_t epoch = enter(fp->view);
	const struct eesp_open_plan *w = __atomic_load_n(fp->plan, __ATOMIC_SEQ_CST);
	memset(f, 0, sizeof *f);
	if (w != NULL) {
		f->counts = (struct eesp_counts){ w->by, w->octets, w->shares };
		f->prefix = w->screen.prefix[0];
		f->next = w->screen.prefix[EESP_PKT_EXTENSION] == 0;
	}
	leave(fp->view, epoch);
	return w != NULL;
}

void direct_count(const struct eesp_worker_view *view, const struct eesp_counts *c, uint64_t packets, uint64_t octets)
{
	counted(c->shares, view->number, c->by, c->octets, packets, octets);
}

static inline seal_executor *sealer(const struct eesp_seal_plan *w, int alone)
{
	const struct eesp_executors *e = executors(w->direct->wide != 0);
	return alone && w->alone ? e->alone : e->seal[w->wrap == UNWRAP_BARE && w->prefix == 0];
}

/* The plan for a packet's flags. */
static inline const struct eesp_seal_plan *plan_for(const struct eesp_seal_plan *w, const eesp_pkt *p)
{
	return w->other != NULL && p->flags == w->other->flags ? w->other : w;
}

static inline size_t seal_one(const struct eesp_fast_path *fp, eesp_pkt *p)
{
	const struct eesp_worker_view *view = fp->view;
	uint64_t epoch = enter(view), first, serial;
	const struct eesp_seal_plan *w = __atomic_load_n(fp->plan, __ATOMIC_SEQ_CST);
	size_t stray = 0;
	if (UNLIKELY(w == NULL || !take(w, 1, &first))) {
		leave(view, epoch);
		return go_seal(fp, p, 1);
	}
	serial = w->serial;
	w = plan_for(w, p);
	sealer(w, 1)(view, w, p, 1, first, &stray);
	leave(view, epoch);
	return LIKELY(stray == 0) ? 1 : go_seal_taken(fp, p, 1, first, serial);
}

static NOINLINE size_t seal_several(const struct eesp_fast_path *fp, eesp_pkt *pkts, size_t n)
{
	const struct eesp_worker_view *view = fp->view;
	size_t good = 0, at = 0;
	uint64_t first = 0, serial = 0;
	while (at < n) {
		uint64_t epoch = enter(view);
		const struct eesp_seal_plan *w = __atomic_load_n(fp->plan, __ATOMIC_SEQ_CST);
		size_t some = 0, stray = 0;
		/* The counters of a burst are taken once. After a change of keys they may belong to another owner. */
		if (UNLIKELY(w == NULL || (at == 0 ? !take(w, n, &first) : w->serial != serial))) {
			leave(view, epoch);
			return good + (at == 0 ? go_seal(fp, pkts, n)
					       : go_seal_taken(fp, pkts + at, n - at, first + at, serial));
		}
		serial = w->serial;
		do {
			some = n - at < CHUNK ? n - at : CHUNK;
			const struct eesp_seal_plan *x = plan_for(w, &pkts[at]);
			good += sealer(x, 0)(view, x, pkts + at, some, first + at, &stray);
			at += some;
		} while (stray == 0 && at < n);
		leave(view, epoch);
		if (UNLIKELY(stray == some))
			good += go_seal_taken(fp, pkts + at - some, some, first + at - some, serial);
		else if (UNLIKELY(stray != 0))
			good += strays(fp, pkts + at - some, some, first + at - some, serial, 1, go_seal_taken);
	}
	return good;
}

size_t direct_seal(const struct eesp_fast_path *fp, eesp_pkt *pkts, size_t n)
{
	return n == 1 ? seal_one(fp, pkts) : seal_several(fp, pkts, n);
}

size_t direct_open(const struct eesp_fast_path *fp, eesp_pkt *pkts, size_t n)
{
	const struct eesp_worker_view *view = fp->view;
	size_t good = 0, at = 0;
	while (at < n) {
		uint64_t epoch = enter(view);
		const struct eesp_open_plan *w = __atomic_load_n(fp->plan, __ATOMIC_SEQ_CST);
		size_t some = 0, stray = 0;
		struct times_pass pass;
		struct eesp_sole *sole = w == NULL	      ? NULL
					 : w->windows != NULL ? &w->windows->sole
					 : w->times != NULL   ? &w->times->sole
							      : NULL;
		int alone = sole != NULL && sole_begin(sole, view->number, view->plain);
		if (UNLIKELY(w == NULL ||
			     (w->times != NULL && !times_start(w->times, fp->reading, TICK_BITS, &pass)))) {
			sole_end(sole, alone);
			leave(view, epoch);
			return good + go_open(fp, pkts + at, n - at, 0, 0);
		}
		while (stray == 0 && at < n) {
			some = n - at < CHUNK ? n - at : CHUNK;
			/* a quarter of the last chunk was refused */
			if (UNLIKELY(some >= FEW_KEYS && *fp->flood >= some / 4))
				good += open_flood(fp, w, pkts + at, some, alone, &pass, &stray);
			else
				good += opener(w)(fp, w, pkts + at, some, alone, &pass, &stray);
			if (UNLIKELY(stray != 0) && w->loose != NULL)
				good += loose(fp, w->loose, pkts + at, some, alone, &pass, &stray);
			at += some;
		}
		if (w->times != NULL)
			times_end(w->times, &pass);
		sole_end(sole, alone);
		leave(view, epoch);
		if (stray == some)
			good += go_open(fp, pkts + at - some, some, 0, 0);
		else if (stray != 0)
			good += strays(fp, pkts + at - some, some, 0, 0, 0, go_open);
	}
	return good;
}
#endif /* WIDE */
