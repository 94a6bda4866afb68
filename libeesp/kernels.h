/* SPDX-License-Identifier: BSD-3-Clause */
/* For direct.c: calls kernels, and decides which kernel takes which jobs (internal/asm/vector). */
#ifndef EESP_KERNELS_H
#define EESP_KERNELS_H

#if defined(__x86_64__)
/* Calls a function of the Go assembler's calling convention with six words on the
 * stack. The function preserves only the stack pointer. */
__attribute__((visibility("hidden"))) void call0(uintptr_t f, const void *a, const void *b, uintptr_t c, uintptr_t d,
						 const void *e, const void *g);
__asm__(".text\n.p2align 4\n.type call0,@function\ncall0:\n"
	".cfi_startproc\n"
	"push %rbp\n.cfi_def_cfa_offset 16\n.cfi_offset %rbp,-16\n"
	"mov %rsp,%rbp\n.cfi_def_cfa_register %rbp\n"
	"push %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
	"sub $56,%rsp\n"
	"mov %rsi,(%rsp)\nmov %rdx,8(%rsp)\nmov %rcx,16(%rsp)\nmov %r8,24(%rsp)\nmov %r9,32(%rsp)\n"
	"mov 16(%rbp),%rax\nmov %rax,40(%rsp)\n"
	"call *%rdi\n"
	"lea -40(%rbp),%rsp\n"
	"pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\n.cfi_def_cfa %rsp,8\n"
	"ret\n.cfi_endproc\n.size call0,.-call0\n");
#elif defined(__aarch64__)
#include "arm64.h"
#else
static void call0(uintptr_t f, const void *a, const void *b, uintptr_t c, uintptr_t d, const void *e, const void *g)
{
	abort();
}
#endif

/* Whether a job may go to the kernel for single packets. */
static inline int single(const struct eesp_direct *d, const eesp_job *j)
{
	return j->len < d->one_limit && j->aad_len <= d->one_aad;
}

/* The kernel for a single packet, whose key is raw or derived from blocks of one. */
static inline uintptr_t one(const struct eesp_direct *d, int aead, int seal, const eesp_job *j)
{
	const uint32_t n = (j->len + 15) / 16;
	const int narrow = n < 32 && (d->narrow_blocks[aead] >> n & 1) != 0 && j->aad_len <= d->narrow_aad;
	return narrow ? d->narrow[aead][seal] : d->one[aead][seal];
}

#if !defined(__aarch64__) /* arm64.h has what follows for armv8 */

enum { ONE_SHOT, SHARED }; /* kernel.Mode */

/* Whether packets of lengths a <= b are close enough to go side by side. */
static inline int even(uint32_t a, uint32_t b) { return b - a <= 64 + a / 8; }

/* Whether a group of n packets, fewer than four, is faster than one by one. */
static inline int quad_pays(const struct eesp_direct *d, const eesp_job *jobs, size_t n, uint32_t begin)
{
	uint32_t longest = jobs[n - 1].len, sum = 0;
	if (jobs[0].len < d->long_least)
		return 1;
	for (size_t i = 0; i < n; i++)
		sum += jobs[i].len + begin;
	return longest <= d->partial_max && 4 * longest * d->quad_octet <= 100 * sum;
}

/* Whether kernels that take packets in pairs find no second one for the last. */
static inline int last_alone(const eesp_job *jobs, size_t n)
{
	size_t i = 0;
	while (i + 1 < n)
		i += jobs[i].len + jobs[i].len / 8 + 128 >= jobs[i + 1].len ? 2 : 1;
	return i + 1 == n;
}

/* Whether short kernels take four jobs of about one length: up to the limit, and with expanded keys above it, too,
 * where the last of long kernels' windows, of 256 octets, but 224 the first, would hold at most 64. Heads of bodies
 * are for long kernels only. */
static inline int fits(const struct eesp_direct *d, const eesp_job *g, int mode)
{
	uint32_t last = g[3].len + 31;
	if (g[3].len <= d->limit[mode] || mode != SHARED || g[3].len > d->rest_limit)
		return g[3].len <= d->limit[mode];
	if (last % 256 >= 64 || (g[0].len + 31) / 256 != last / 256)
		return 0;
	for (int i = 0; i < 4; i++) {
		uint32_t head;
		memcpy(&head, g[i].reserved, sizeof head);
		if (head != 0)
			return 0;
	}
	return 1;
}

/* How many of n jobs go to the next kernel; *lanes: whether it is a short one. */
static inline size_t next_kernel(const struct eesp_direct *d, const eesp_job *jobs, size_t n, int mode, int *lanes)
{
	uint32_t limit = d->limit[mode];
	size_t run = 0, end;
	*lanes = 1;
	if (!d->quads) {
		for (run = n; run > 0 && jobs[run - 1].len > limit; run--)
			;
		if (run > 0 && jobs[run - 1].len > d->alone[mode] && last_alone(jobs, run))
			run--;
		*lanes = run > 0;
		return run > 0 ? run : n;
	}
	if (n < 4 && jobs[n - 1].len <= limit && even(jobs[0].len, jobs[n - 1].len) &&
	    quad_pays(d, jobs, n, d->begin[mode]))
		return n;
	while (run + 4 <= n && fits(d, jobs + run, mode) && even(jobs[run].len, jobs[run + 3].len))
		run += 4;
	for (end = run; end < n && end < run + 3 && even(jobs[run].len, jobs[end].len); end++)
		;
	if (end > run && jobs[end - 1].len <= limit && quad_pays(d, jobs + run, end - run, d->begin[mode]))
		run = end;
	if (run > 0)
		return run;
	*lanes = 0;
	for (run = end > 1 ? end : 1; run < n; run++) {
		const eesp_job *g = jobs + run;
		if (n - run >= 4 && fits(d, g, mode) && even(g->len, g[3].len))
			break;
	}
	return run;
}

/* There is one for both compilations of this file: no vectors make it faster. */
__attribute__((visibility("hidden"))) NOINLINE void run_mixed(const struct eesp_worker_view *view,
							      const struct eesp_direct *d, int aead, int mode, int seal,
							      const uint8_t *keys, eesp_job *jobs, size_t n);

#ifndef WIDE
/* Runs jobs one by one. keys is raw keys, or an area, by mode. */
static NOINLINE void run_long(const struct eesp_worker_view *view, const struct eesp_direct *d, int aead, int mode,
			      int seal, const uint8_t *keys, eesp_job *jobs, size_t n)
{
	uint8_t *rows = view->scratch + d->rows_at, *scratch = view->scratch + d->long_at;
	uintptr_t kernel = d->long_[aead][seal];
	if (mode == SHARED) {
		call0(kernel, keys, jobs, n, 1, scratch, NULL);
		return;
	}
	for (size_t at = 0; at < n; at += d->at_once) {
		size_t some = n - at < d->at_once ? n - at : d->at_once;
		call0(d->expand[aead], rows, keys + at * (16u << aead), some, 0, NULL, NULL);
		call0(d->powers[aead], rows, (const void *)some, 0, 0, NULL, NULL);
		call0(kernel, rows, jobs + at, some, 0, scratch, NULL);
	}
	explicit_bzero(rows, ((n < d->at_once ? n : d->at_once) + 3) / 4 * 4 * d->key_bytes);
}

void run_mixed(const struct eesp_worker_view *view, const struct eesp_direct *d, int aead, int mode, int seal,
	       const uint8_t *keys, eesp_job *jobs, size_t n)
{
	uintptr_t kernel = mode == ONE_SHOT ? d->raw[aead][seal] : d->expanded[aead][seal];
	for (size_t at = 0; at < n;) {
		int lanes;
		const uint8_t *k = mode == ONE_SHOT ? keys + at * (16u << aead) : keys;
		size_t some = next_kernel(d, jobs + at, n - at, mode, &lanes);
		if (some == 1 && mode == ONE_SHOT && single(d, jobs + at)) {
			call0(one(d, aead, seal, jobs + at), k, jobs + at, 1, (uintptr_t)view->scratch, NULL, NULL);
		} else if (some <= 2 && jobs[at + some - 1].len <= d->pair_limit[mode] &&
			   d->pair[mode][aead][seal] != 0) {
			call0(d->pair[mode][aead][seal], k, jobs + at, some, (uintptr_t)view->scratch, NULL, NULL);
		} else if (lanes && kernel != 0) {
			call0(kernel, k, jobs + at, some, (uintptr_t)view->scratch, NULL, NULL);
			if (d->quads && some % 4 != 0)
				explicit_bzero(view->scratch + d->residue_at, d->residue_len + jobs[at + some - 1].len);
		} else {
			run_long(view, d, aead, mode, seal, k, jobs + at, some);
		}
		at += some;
	}
}
#endif

/* Runs up to CHUNK jobs, in order of length. keys is raw keys in the same order, or
 * an area, by mode. */
static inline void run(const struct eesp_worker_view *view, const struct eesp_direct *d, int aead, int mode, int seal,
		       const uint8_t *keys, eesp_job *jobs, size_t n)
{
	/* Groups of four of about one length: one kernel takes all. */
	if (LIKELY(d->quads && n != 0 && n % 4 == 0 && jobs[n - 1].len <= d->limit[mode] &&
		   even(jobs[0].len, jobs[n - 1].len)))
		call0(mode == ONE_SHOT ? d->raw[aead][seal] : d->expanded[aead][seal], keys, jobs, n,
		      (uintptr_t)view->scratch, NULL, NULL);
	else
		run_mixed(view, d, aead, mode, seal, keys, jobs, n);
}

#endif

/* Copies up to CHUNK jobs to "to" in order of length; to[k] is jobs[from[k]].
 * Lengths in a burst are unpredictable, so each job is ranked against all others
 * without branches. */
static NOINLINE void by_length(eesp_job *to, const eesp_job *jobs, size_t n, uint8_t from[CHUNK])
{
#ifdef WIDE
	enum { LANES = 16 };
#else
	enum { LANES = 4 };
#endif
	typedef int32_t lanes __attribute__((vector_size(4 * LANES)));
	union { lanes v[CHUNK / LANES]; int32_t x[CHUNK]; } key, place;
	for (size_t v = 0; v < CHUNK / LANES; v++)
		place.v[v] = (lanes){ 0 };
	for (size_t i = 0; i < CHUNK; i++)
		key.x[i] = i < n ? (int32_t)(jobs[i].len << 5 | i) : 0;
	for (size_t i = 0; i < n; i++) {
		const lanes k = (lanes){ 0 } + key.x[i];
		for (size_t v = 0; v < CHUNK / LANES; v++)
			place.v[v] -= key.v[v] > k;
	}
	for (size_t i = 0; i < n; i++) {
		to[place.x[i]] = jobs[i];
		from[place.x[i]] = (uint8_t)i;
	}
}

static const uint8_t as_they_are[CHUNK] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
					 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31 };

/* Jobs in order of length: job k was from[k]. */
struct order {
	eesp_job moved[CHUNK]; /* unused if the jobs were in order */
	uint8_t other[CHUNK];
	const uint8_t *from;
};

static inline eesp_job *ordered(struct order *o, eesp_job *jobs, size_t n)
{
	uint32_t last = 0, disorder = 0;
	for (size_t i = 0; i < n; i++) {
		disorder |= jobs[i].len < last;
		last = jobs[i].len;
	}
	o->from = as_they_are;
	if (LIKELY(!disorder))
		return jobs;
	by_length(o->moved, jobs, n, o->other);
	o->from = o->other;
	return o->moved;
}

#endif /* EESP_KERNELS_H */
