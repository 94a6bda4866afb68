/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Replay protection by time, for direct.c: the rule that internal/fresh has for
 * Go, on the same table. docs/times.md says why it is right;
 * internal/fresh/both compares the two. What is rare is left to Go: see
 * times_begin. Not installed.
 */
#ifndef EESP_TIMES_H
#define EESP_TIMES_H

#include <string.h>
#include <time.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "plan.h"

#define TIMES_SLICES 32
#define TIMES_LINE 8 /* words */
#define TIMES_LINES 16 /* that are looked at, at most */
#define TIMES_CYCLE 48 /* where a word's cycle begins, above the hash */

/* Asks for a line that will be written: it then comes without the other threads' copies.
 * (__builtin_prefetch does not say so to x86 in general, where a CPU that lacks
 * this takes it for nothing.) */
#if defined(__x86_64__)
#define FETCH_TO_WRITE(p) __asm__ volatile("prefetchw %0" : : "m"(*(const char *)(p)))
#else
#define FETCH_TO_WRITE(p) __builtin_prefetch(p, 1)
#endif

/* fresh.Verdict. */
enum times_verdict { TIME_FRESH, TIME_DUPLICATE, TIME_STALE, TIME_EARLY, TIME_FULL, TIME_UNMARKED };

/* What a burst goes by. */
struct times_pass {
	uint64_t floor, top, limit, last; /* last: no time above it passes */
	uint64_t sure;			  /* nor below the floor; and from here on to last, whatever the clock says now */
	uint64_t most;			  /* highest time that was accepted */
	uint64_t base, cycle;		  /* of the slice that a packet was in: when it began, and its words' cycle */
	uint64_t *first;		  /* its first word */
};

/* The clock in ticks of 2^-rate s since 1970, 0 if that is nothing to go by. */
static inline uint64_t times_clock(unsigned rate)
{
	struct timespec t;
	if (__builtin_expect(clock_gettime(CLOCK_REALTIME, &t) != 0 || t.tv_sec < 0 || (uint64_t)t.tv_sec >> (64 - rate) != 0, 0))
		return 0;
	return ((uint64_t)t.tv_sec << rate) + ((uint64_t)t.tv_nsec << rate) / 1000000000;
}

/*
 * Reading the clock takes longer than all else that replay protection by time costs
 * a single packet. So a thread goes by its last reading, while that is young by
 * the CPU's counter, for times that pass at any reading since: those
 * below the reading's top are below all later ones, and the floor has risen by less
 * than TIMES_SLACK. For all others it reads the clock (times_passes). So it refuses
 * and accepts as if it had read it each time. (Should the clock be set back meanwhile,
 * that counts a moment later; no reading is one that the clock did not show.)
 */
#define TIMES_SLACK (UINT64_C(1) << 18) /* 1 ms: twice what may pass at 1 GHz, below which no such counter is */
#if defined(__x86_64__)
static inline uint64_t times_cycles(void) { return __builtin_ia32_rdtsc(); }
static inline uint64_t times_young(void) { return UINT64_C(1) << 19; }
/* Whether it runs at one speed, and on in sleep: invariant TSC. */
static inline int times_steady(void)
{
	static int known; /* 1: no, 2: yes */
	int k = __atomic_load_n(&known, __ATOMIC_RELAXED);
	if (k == 0) {
		unsigned a, b, c, d;
		k = __get_cpuid(0x80000007, &a, &b, &c, &d) && (d >> 8 & 1) ? 2 : 1;
		__atomic_store_n(&known, k, __ATOMIC_RELAXED);
	}
	return k == 2;
}
#elif defined(__aarch64__)
static inline uint64_t times_cycles(void)
{
	uint64_t c;
	__asm__ volatile("mrs %0, cntvct_el0" : "=r"(c));
	return c;
}
static inline uint64_t times_young(void)
{
	uint64_t hz;
	__asm__("mrs %0, cntfrq_el0" : "=r"(hz));
	return hz >> 11; /* 0.5 ms */
}
static inline int times_steady(void) { return 1; }
#else
static inline uint64_t times_cycles(void) { return 0; }
static inline uint64_t times_young(void) { return 0; }
static inline int times_steady(void) { return 0; }
#endif

/* Reads the clock, and keeps what it said. The counter is read first: no reading is
 * older than it says. */
static __attribute__((noinline)) uint64_t times_read(struct times_reading *r, unsigned rate)
{
	r->cycles = times_cycles();
	__asm__ volatile("" ::: "memory");
	uint64_t now = times_clock(rate);
	r->now = times_steady() ? now : 0;
	return now;
}

static inline uint64_t times_later(uint64_t t, uint64_t by) { return t + by < t ? UINT64_MAX : t + by; }

static inline uint64_t times_mix(uint64_t a, uint64_t b)
{
	unsigned __int128 x = (unsigned __int128)a * b;
	return (uint64_t)x ^ (uint64_t)(x >> 64);
}

/* What passes at a time of the clock, which may have gone on by slack since. */
static inline void times_look(struct eesp_times *t, uint64_t now, uint64_t slack, struct times_pass *p)
{
	uint64_t f = __atomic_load_n(&t->floor, __ATOMIC_SEQ_CST), to = now > t->age ? now - t->age : 0, early = times_later(now, t->early);
	if (__builtin_expect(to > f && to - f >= t->slice, 0)) {
		__atomic_compare_exchange_n(&t->floor, &f, to, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
		f = __atomic_load_n(&t->floor, __ATOMIC_SEQ_CST);
	}
	p->floor = f > to ? f : to;
	p->sure = times_later(p->floor, slack);
	p->top = times_later(f, t->span);
	if (early < p->top)
		p->top = early;
	p->limit = __atomic_load_n(&t->limit, __ATOMIC_SEQ_CST);
	p->last = p->top < p->limit ? p->top : p->limit - 1;
}

/* Begins a burst at a time of the clock. It returns 0 where that is Go's: a part
 * of the sweep is due, or the mark; or the clock is behind the floor, or was. */
static inline int times_begin(struct eesp_times *t, uint64_t now, uint64_t slack, struct times_pass *p)
{
	if (__builtin_expect(times_later(now, t->early) < __atomic_load_n(&t->floor, __ATOMIC_SEQ_CST) ||
				     now >= __atomic_load_n(&t->due, __ATOMIC_SEQ_CST) || __atomic_load_n(&t->behind, __ATOMIC_SEQ_CST) != 0, 0))
		return 0;
	times_look(t, now, slack, p);
	p->most = 0;
	p->base = p->cycle = 0; /* slice 0 is there */
	p->first = t->words;
	return 1;
}

/* The same, at a reading that is young, or now. */
static inline int times_start(struct eesp_times *t, struct times_reading *r, unsigned rate, struct times_pass *p)
{
	if (__builtin_expect(times_cycles() - r->cycles < times_young() && r->now != 0, 1))
		return times_begin(t, r->now, TIMES_SLACK, p);
	uint64_t now = times_read(r, rate);
	return times_begin(t, now, 0, p);
}

/* Whether the time of a packet that is not authenticated yet passes, at any time since the reading. */
static inline int times_may(const struct times_pass *p, uint64_t time) { return time >= p->sure && time <= p->last && p->limit != 0; }

/* Whether it passes now: of what times_may does not let pass. */
static __attribute__((noinline)) int times_passes(struct eesp_times *t, struct times_pass *p, struct times_reading *r, unsigned rate, uint64_t time)
{
	if (p->sure != p->floor)
		times_look(t, times_read(r, rate), 0, p);
	return times_may(p, time);
}

/* What it is if it does not; counted. */
static __attribute__((noinline)) enum times_verdict times_refused(struct eesp_times *t, const struct times_pass *p, uint64_t time)
{
	if (time < p->floor) {
		__atomic_fetch_add(&t->stale, 1, __ATOMIC_RELAXED);
		return TIME_STALE;
	}
	if (time > p->top) {
		__atomic_fetch_add(&t->ahead, 1, __ATOMIC_RELAXED);
		return TIME_EARLY;
	}
	return TIME_UNMARKED;
}

/* Where a packet's word is looked for first, and what it is; flow: replay.Seeds.Hash. */
static inline uint64_t *times_place(const struct eesp_times *t, struct times_pass *p, uint64_t flow, uint64_t tsc, uint64_t time, uint64_t *word)
{
	uint64_t h = times_mix(flow ^ t->tsc_seed[0], tsc ^ t->tsc_seed[1]), print = h & ((UINT64_C(1) << TIMES_CYCLE) - 1);
	if (__builtin_expect(time - p->base >= t->slice, 0)) {
		uint64_t n = time / t->slice;
		p->base = n * t->slice;
		p->cycle = n / TIMES_SLICES << TIMES_CYCLE;
		p->first = t->words + n % TIMES_SLICES * t->lines * TIMES_LINE;
	}
	*word = p->cycle | (print + (print == 0)); /* no word is 0 */
	return p->first + (uint64_t)((unsigned __int128)h * t->lines >> 64) * TIMES_LINE;
}

/* The words of a line at which a search ends, as bits: the one that is looked for,
 * and those of other cycles than its, which is not 0. */
static inline unsigned times_stops(const uint64_t *line, uint64_t word)
{
#if defined(__x86_64__)
	typedef long long two __attribute__((vector_size(16), aligned(8), may_alias));
	typedef unsigned long long utwo __attribute__((vector_size(16)));
	typedef int four __attribute__((vector_size(16)));
	typedef float floats __attribute__((vector_size(16)));
	const two w = { (long long)word, (long long)word }, *at = (const two *)line; /* 8 octets of a load are never torn */
	const two a = at[0] ^ w, b = at[1] ^ w, c = at[2] ^ w, d = at[3] ^ w;
#define STOP(x) ((four)((utwo)((x) | ((x) - 1)) >> TIMES_CYCLE)) /* in the low half, not 0: a stop */
	const four e = __builtin_shuffle(STOP(a), STOP(b), (four){ 0, 2, 4, 6 }) > 0, f = __builtin_shuffle(STOP(c), STOP(d), (four){ 0, 2, 4, 6 }) > 0;
#undef STOP
	return (unsigned)__builtin_ia32_movmskps((floats)e) | (unsigned)__builtin_ia32_movmskps((floats)f) << 4;
#else
	unsigned stops = 0;
	for (int i = 0; i < TIMES_LINE; i++) {
		uint64_t x = __atomic_load_n(line + i, __ATOMIC_RELAXED) ^ word;
		stops |= (unsigned)((x | (x - 1)) >> TIMES_CYCLE != 0) << i;
	}
	return stops;
#endif
}

/* Finds a packet's word, or makes it: fresh.Table.insert. first is its slice's. */
static __attribute__((noinline)) enum times_verdict times_walk(const struct eesp_times *t, uint64_t *first, uint64_t *at, uint64_t word)
{
	uint64_t lines = t->lines < TIMES_LINES ? t->lines : TIMES_LINES;
	for (uint64_t n = 0; n < lines; n++) {
		for (uint64_t *w = at; w < at + TIMES_LINE; w++) {
			uint64_t old = __atomic_load_n(w, __ATOMIC_SEQ_CST);
			for (;;) {
				int16_t d = (int16_t)((old >> TIMES_CYCLE) - (word >> TIMES_CYCLE));
				if (old == word)
					return TIME_DUPLICATE;
				if (old != 0 && d > 0)
					return TIME_STALE; /* the slice is in a later life */
				if (old != 0 && d == 0)
					break;
				if (__atomic_compare_exchange_n(w, &old, word, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
					return TIME_FRESH;
			}
		}
		at += TIMES_LINE;
		if (at == first + t->lines * TIMES_LINE)
			at = first;
	}
	return TIME_FULL;
}

/* The same, in its first line mostly. alone: no other thread is at work on the table, and
 * none was ever. */
static inline enum times_verdict times_insert(const struct eesp_times *t, uint64_t *first, uint64_t *at, uint64_t word, int alone)
{
	unsigned stops = times_stops(at, word);
	if (__builtin_expect(stops != 0 && word >> TIMES_CYCLE != 0, 1)) {
		uint64_t *w = at + __builtin_ctz(stops), old = __atomic_load_n(w, __ATOMIC_SEQ_CST);
		if (old == word)
			return TIME_DUPLICATE;
		/* Never used, or of an older cycle: which of both cannot be guessed. */
		uint64_t ours = (((old >> TIMES_CYCLE) - (word >> TIMES_CYCLE)) & 0x8000) | (old == 0);
		if (__builtin_expect(ours != 0, 1)) {
			if (alone) {
				__atomic_store_n(w, word, __ATOMIC_RELAXED);
				return TIME_FRESH;
			}
			if (__builtin_expect(__atomic_compare_exchange_n(w, &old, word, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST), 1))
				return TIME_FRESH;
		}
	}
	return times_walk(t, first, at, word);
}

static __attribute__((noinline)) void times_count(struct eesp_times *t, enum times_verdict v)
{
	__atomic_fetch_add(v == TIME_DUPLICATE ? &t->duplicate : v == TIME_STALE ? &t->stale : &t->full, 1, __ATOMIC_RELAXED);
}

/* Takes note of a packet that was authenticated, and whose time passed. What is
 * not TIME_FRESH must not be delivered. */
static inline enum times_verdict times_commit(struct eesp_times *t, struct times_pass *p, uint64_t *first, uint64_t *at, uint64_t word,
						uint64_t time, int alone)
{
	enum times_verdict v = times_insert(t, first, at, word, alone);
	/* Read after the word was written: whoever gives its place up has raised the
	 * floor before. */
	if (__builtin_expect(v == TIME_FRESH && time < __atomic_load_n(&t->floor, __ATOMIC_SEQ_CST), 0))
		v = TIME_STALE;
	if (__builtin_expect(v == TIME_FRESH, 1))
		p->most = time > p->most ? time : p->most;
	else
		times_count(t, v);
	return v;
}

static inline void times_end(struct eesp_times *t, const struct times_pass *p)
{
	uint64_t m = __atomic_load_n(&t->most, __ATOMIC_SEQ_CST);
	while (__builtin_expect(m < p->most, 0) &&
	       !__atomic_compare_exchange_n(&t->most, &m, times_later(p->most, t->slice), 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		;
}

#endif
