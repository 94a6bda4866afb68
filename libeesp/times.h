/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Replay protection by time, for direct.c: the same as internal/fresh in Go, on the
 * same table. docs/times.md says why it is right; internal/fresh/both compares the
 * two. Rare steps are left to Go: see times_begin. Not installed.
 */
#ifndef EESP_TIMES_H
#define EESP_TIMES_H

#include <string.h>
#include <time.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif
#ifdef WIDE
#include <immintrin.h>
#endif

#include "plan.h"

#define TIMES_SLICES 32
#define TIMES_LINE 8 /* words */
#define TIMES_LINES 16 /* lines that are searched, at most */
#define TIMES_CYCLE 48 /* the bit at which a word's cycle begins, above the hash */

/* Prefetches a line that will be written, which takes it away from other threads at
 * once. (__builtin_prefetch has no such instruction on x86 in general. CPUs without
 * prefetchw ignore it.) */
#if defined(__x86_64__)
#define FETCH_TO_WRITE(p) __asm__ volatile("prefetchw %0" : : "m"(*(const char *)(p)))
#else
#define FETCH_TO_WRITE(p) __builtin_prefetch(p, 1)
#endif

/* fresh.Verdict. */
enum times_verdict { TIME_FRESH, TIME_DUPLICATE, TIME_STALE, TIME_EARLY, TIME_FULL, TIME_UNMARKED };

/* Which times a burst accepts. */
struct times_pass {
	uint64_t floor, top, last; /* no time below floor or above last passes */
	/* from here to last all pass, even if the clock has gone on since the reading */
	uint64_t sure;
	uint64_t most;			  /* highest time that was accepted */
	uint64_t base, cycle;		  /* of the last packet's slice: when it began, and the cycle of its words */
	uint64_t *first;		  /* the first word of that slice */
};

/* The clock in ticks of 2^-rate s since 1970, 0 if it cannot be used. */
static inline uint64_t times_clock(unsigned rate)
{
	struct timespec t;
	if (__builtin_expect(clock_gettime(CLOCK_REALTIME, &t) != 0 || t.tv_sec < 0 ||
			     (uint64_t)t.tv_sec >> (64 - rate) != 0, 0))
		return 0;
	return ((uint64_t)t.tv_sec << rate) + ((uint64_t)t.tv_nsec << rate) / 1000000000;
}

/*
 * For a single packet, reading the clock takes longer than the rest of replay
 * protection by time. So a thread uses its last reading while it is young by the CPU's
 * counter, for times that would pass at any later reading, too: times below the
 * reading's top are below all later tops, and the floor has risen by less than
 * TIMES_SLACK. For other times it reads the clock (times_passes). So the same packets
 * pass as if it had read the clock for each. (If the clock is set back, that takes
 * effect a moment later.)
 */
#define TIMES_SLACK (UINT64_C(1) << 18) /* 1 ms: twice the age of a young reading at 1 GHz; no such counter is slower */
#if defined(__x86_64__)
static inline uint64_t times_cycles(void) { return __builtin_ia32_rdtsc(); }
static inline uint64_t times_young(void) { return UINT64_C(1) << 19; }
/* Whether the counter has a constant rate, in sleep states too: invariant TSC. */
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

/* Reads the clock and keeps the reading. The counter is read first, so that no reading
 * is older than the counter says. */
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

/* Sets which times pass, from a reading of the clock that is up to slack ticks old. */
static inline void times_look(struct eesp_times *t, uint64_t now, uint64_t slack, struct times_pass *p)
{
	uint64_t f = __atomic_load_n(&t->floor, __ATOMIC_SEQ_CST), to = now > t->age ? now - t->age : 0,
		 early = times_later(now, t->early);
	if (__builtin_expect(to > f && to - f >= t->slice, 0)) {
		__atomic_compare_exchange_n(&t->floor, &f, to, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
		f = __atomic_load_n(&t->floor, __ATOMIC_SEQ_CST);
	}
	p->floor = f > to ? f : to;
	p->sure = times_later(p->floor, slack);
	p->top = times_later(f, t->span);
	if (early < p->top)
		p->top = early;
	uint64_t limit = __atomic_load_n(&t->limit, __ATOMIC_SEQ_CST);
	p->last = p->top < limit ? p->top : limit - 1;
	if (__builtin_expect(limit == 0, 0)) { /* nothing passes */
		p->sure = UINT64_MAX;
		p->last = 0;
	}
}

/* Begins a burst at a reading of the clock. It returns 0 if Go must do so: a part of
 * the sweep or the mark is due, or the clock is or was behind the floor. */
static inline int times_begin(struct eesp_times *t, uint64_t now, uint64_t slack, struct times_pass *p)
{
	if (__builtin_expect(times_later(now, t->early) < __atomic_load_n(&t->floor, __ATOMIC_SEQ_CST) ||
				     now >= __atomic_load_n(&t->due, __ATOMIC_SEQ_CST) ||
				     __atomic_load_n(&t->behind, __ATOMIC_SEQ_CST) != 0, 0))
		return 0;
	times_look(t, now, slack, p);
	p->most = 0;
	p->base = p->cycle = 0; /* no packet yet: slice 0 */
	p->first = t->words;
	return 1;
}

/* The same, at the last reading if it is young, else at a new one. */
static inline int times_start(struct eesp_times *t, struct times_reading *r, unsigned rate, struct times_pass *p)
{
	if (__builtin_expect(times_cycles() - r->cycles < times_young() && r->now != 0, 1))
		return times_begin(t, r->now, TIMES_SLACK, p);
	uint64_t now = times_read(r, rate);
	return times_begin(t, now, 0, p);
}

/* Whether the time of a packet that is not authenticated yet passes, now or at any time since the reading. */
static inline int times_may(const struct times_pass *p, uint64_t time) { return time >= p->sure && time <= p->last; }

/* Whether a time that times_may does not let pass does so at a new reading. */
static __attribute__((noinline)) int times_passes(struct eesp_times *t, struct times_pass *p, struct times_reading *r,
						  unsigned rate, uint64_t time)
{
	if (p->sure != p->floor)
		times_look(t, times_read(r, rate), 0, p);
	return times_may(p, time);
}

/* Counts a time that does not pass, and returns why. */
static __attribute__((noinline)) enum times_verdict times_refused(struct eesp_times *t, const struct times_pass *p,
								  uint64_t time)
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

/* The line where the search for a packet's word begins, and the word. flow is
 * replay.Seeds.Hash of its key. */
static inline uint64_t *times_place(const struct eesp_times *t, struct times_pass *p, uint64_t flow, uint64_t tsc,
				    uint64_t time, uint64_t *word)
{
	uint64_t h = times_mix(flow ^ t->tsc_seed[0], tsc ^ t->tsc_seed[1]),
		 print = h & ((UINT64_C(1) << TIMES_CYCLE) - 1);
	if (__builtin_expect(time - p->base >= t->slice, 0)) {
		uint64_t n = time / t->slice;
		p->base = n * t->slice;
		p->cycle = n / TIMES_SLICES << TIMES_CYCLE;
		p->first = t->words + n % TIMES_SLICES * t->lines * TIMES_LINE;
	}
	*word = p->cycle | (print + (print == 0)); /* no word is 0 */
	return p->first + (uint64_t)((unsigned __int128)h * t->lines >> 64) * TIMES_LINE;
}

/* The words of a line at which a search for word ends, as bits: an equal one, and those
 * of other cycles. The cycle of word must not be 0. */
static inline unsigned times_stops(const uint64_t *line, uint64_t word)
{
#if defined(WIDE)
	/* 8 octets are never torn */
	const __m512i x = _mm512_xor_si512(_mm512_loadu_si512(line), _mm512_set1_epi64((long long)word));
	return _mm512_cmpge_epu64_mask(_mm512_sub_epi64(x, _mm512_set1_epi64(1)),
				       _mm512_set1_epi64((1LL << TIMES_CYCLE) - 1));
#elif defined(__x86_64__)
	typedef long long two __attribute__((vector_size(16), aligned(8), may_alias));
	typedef unsigned long long utwo __attribute__((vector_size(16)));
	typedef int four __attribute__((vector_size(16)));
	typedef float floats __attribute__((vector_size(16)));
	/* 8 octets of a load are never torn */
	const two w = { (long long)word, (long long)word }, *at = (const two *)line;
	const two a = at[0] ^ w, b = at[1] ^ w, c = at[2] ^ w, d = at[3] ^ w;
#define STOP(x) ((four)((utwo)((x) | ((x) - 1)) >> TIMES_CYCLE)) /* a stop if the low half is not 0 */
	const four e = __builtin_shuffle(STOP(a), STOP(b), (four){ 0, 2, 4, 6 }) > 0,
		   f = __builtin_shuffle(STOP(c), STOP(d), (four){ 0, 2, 4, 6 }) > 0;
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

/* Finds or writes a packet's word, from the line at "at" on: fresh.Table.insert. first
 * is the first word of the slice. */
static __attribute__((noinline)) enum times_verdict times_walk(const struct eesp_times *t, uint64_t *first,
							       uint64_t *at, uint64_t word)
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

/* The same, with the usual case inline: the word goes to the first line. alone: no
 * other thread has ever used the table. */
static inline enum times_verdict times_insert(const struct eesp_times *t, uint64_t *first, uint64_t *at, uint64_t word,
					      int alone)
{
	unsigned stops = times_stops(at, word);
	if (__builtin_expect(stops != 0 && word >> TIMES_CYCLE != 0, 1)) {
		uint64_t *w = at + __builtin_ctz(stops), old = __atomic_load_n(w, __ATOMIC_SEQ_CST);
		if (old == word)
			return TIME_DUPLICATE;
		/* Free, or of an older cycle: no branch, since which of both is unpredictable. */
		uint64_t ours = (((old >> TIMES_CYCLE) - (word >> TIMES_CYCLE)) & 0x8000) | (old == 0);
		if (__builtin_expect(ours != 0, 1)) {
			if (alone) {
				__atomic_store_n(w, word, __ATOMIC_RELAXED);
				return TIME_FRESH;
			}
			if (__builtin_expect(__atomic_compare_exchange_n(w, &old, word, 0, __ATOMIC_SEQ_CST,
									 __ATOMIC_SEQ_CST), 1))
				return TIME_FRESH;
		}
	}
	return times_walk(t, first, at, word);
}

static __attribute__((noinline)) void times_count(struct eesp_times *t, enum times_verdict v)
{
	__atomic_fetch_add(v == TIME_DUPLICATE ? &t->duplicate : v == TIME_STALE ? &t->stale : &t->full, 1,
			   __ATOMIC_RELAXED);
}

/* The floor, for packets whose words are written: packets below it must not be delivered. It is read
 * after the words were written, since a thread that reuses a word's place has raised the floor before.
 * One reading is enough for a burst. */
static inline uint64_t times_floor(const struct eesp_times *t) { return __atomic_load_n(&t->floor, __ATOMIC_SEQ_CST); }

/* Commits an authentic packet whose time passed. Unless the result is TIME_FRESH, the
 * packet must not be delivered. */
static inline enum times_verdict times_commit(struct eesp_times *t, struct times_pass *p, uint64_t *first, uint64_t *at,
					      uint64_t word, uint64_t time, int alone)
{
	enum times_verdict v = times_insert(t, first, at, word, alone);
	if (__builtin_expect(v == TIME_FRESH && time < times_floor(t), 0))
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
	       !__atomic_compare_exchange_n(&t->most, &m, times_later(p->most, t->slice), 0, __ATOMIC_SEQ_CST,
					    __ATOMIC_SEQ_CST))
		;
}

#endif
