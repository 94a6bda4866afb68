/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The fast path. It calls kernels directly, for a few nanoseconds. A cgo call costs
 * fifty, and more after a pause, when the Go runtime has to get the thread back.
 *
 * Packets go through the executor below. It knows no profile: it follows the
 * object's plan (internal/plan). Packets that the plan does not cover go to the
 * general path, in Go; the others of the burst do not.
 */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "_cgo_export.h"
#include "shim.h"
#include "times.h"

#define ICV 16
#define NOINLINE __attribute__((noinline)) /* cold: kept out of the hot code */
#define COLD __attribute__((cold)) /* compiled for size */
#if defined(WIDE) || !defined(__x86_64__)
#define KEEPS 1 /* for older processors it is not worth its kilobytes */
#else
#define KEEPS 0
#endif
#define FEW_KEYS 8 /* fewKeys of internal/burst: with so many packets a key, each key is expanded once */

#ifdef WIDE
#include <immintrin.h>
#endif

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

#ifndef WIDE
static int counters_clear(const uint8_t *contexts, size_t n)
{
	uint8_t any = 0;
	for (size_t i = 0; i < n; i++)
		any |= contexts[i * EESP_KDF_CONTEXT_LEN];
	return any == 0;
}

/* Derives the keys of up to CHUNK contexts, whose first octets are 0, and which may lie in view->msgs. */
static void derive_some(const struct eesp_worker_view *view, const struct eesp_kdf_view *v, uint32_t aead,
			const uint8_t *contexts, size_t n, uint8_t *keys)
{
	typedef uint8_t block __attribute__((vector_size(16)));
	if (aead == EESP_AEAD_AES_128_GCM) {
		call0(v->direct->derive, keys, contexts, n, 1, v->master, v->counted);
		return;
	}
	/* counted adds the counter 1 to both halves' inputs; the second one needs 2. */
	uint8_t *to = view->msgs;
	for (size_t i = n; i-- > 0;) {
		block x;
		memcpy(&x, contexts + i * 16, 16);
		memcpy(to + i * 32, &x, 16);
		x ^= (block){ 1 ^ 2 };
		memcpy(to + i * 32 + 16, &x, 16);
	}
	call0(v->direct->derive, keys, to, 2 * n, 1, v->master, v->counted);
}
#endif

/* ---- Which kernel takes which packets: internal/asm/vector ---- */

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
	while (run + 4 <= n && jobs[run + 3].len <= limit && even(jobs[run].len, jobs[run + 3].len))
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
		if (g->len <= limit && n - run >= 4 && g[3].len <= limit && even(g->len, g[3].len))
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

#ifndef WIDE
/* ---- Kernels without packets ---- */

/* Whether the caller's jobs are valid (checkJobs of internal/burst) and in order of
 * length. Jobs with a NULL pointer are BAD here; Go allows some. */
enum form { BAD, UNORDERED, ORDERED };

/* Whether a single job is valid. */
static inline int good_form(const eesp_job *j, uint32_t keys)
{
	uintptr_t gap = (uintptr_t)j->src - (uintptr_t)j->dst;
	uint32_t reserved;
	memcpy(&reserved, j->reserved, sizeof reserved);
	return j->len <= EESP_MAX_LEN && j->aad_len <= EESP_MAX_LEN && j->key < keys && reserved == 0 &&
	       j->tag != NULL && j->src != NULL && j->dst != NULL && j->aad != NULL &&
	       (gap == 0 || (gap >= j->len && -gap >= j->len));
}

/* All backends that C can call have AVX. */
#if defined(__x86_64__)
#define VECTORS_OF __attribute__((target("avx")))
#else
#define VECTORS_OF
#endif

/* Checks jobs, several fields at a time. The first octets of contexts, unless NULL,
 * must be 0. */
static inline __attribute__((always_inline)) VECTORS_OF enum form form_with(const eesp_job *jobs, size_t n,
									    uint32_t keys, const uint8_t *contexts)
{
	typedef uint32_t four __attribute__((vector_size(16)));
	typedef int32_t masks __attribute__((vector_size(16)));
	typedef int64_t two __attribute__((vector_size(16)));
	const four most = { EESP_MAX_LEN, EESP_MAX_LEN, keys - 1, UINT32_MAX };
	four lens, last = { 0 }, nonce, nonces = { 0 }, context, begins = { 0 };
	masks bad = { 0 }, disorder = { 0 };
	two in, out, wrong = { 0 };
#pragma GCC unroll 4
	for (size_t i = 0; i < n; i++) {
		const uint8_t *j = (const uint8_t *)&jobs[i];
		memcpy(&in, j, 16);	  /* aad, src */
		memcpy(&out, j + 16, 16); /* dst, tag */
		memcpy(&lens, j + 32, 16); /* aad_len, len, key, ok */
		memcpy(&nonce, j + 48, 16); /* reserved is last */
		two gap = __builtin_shuffle(in, (two){ 1, 1 }) - out, len = { jobs[i].len, 0 };
		wrong |= (in == 0) | (out == 0) | ((gap != 0) & (gap < len) & (-gap < len));
		bad |= lens > most;
		disorder |= last > lens;
		last = lens;
		nonces |= nonce;
		if (contexts != NULL) {
			memcpy(&context, contexts + i * EESP_KDF_CONTEXT_LEN, 16);
			begins |= context;
		}
	}
	if ((wrong[0] | wrong[1]) != 0 || (bad[0] | bad[1] | bad[2]) != 0 || nonces[3] != 0 || (begins[0] & 0xff) != 0)
		return BAD;
	return disorder[1] ? UNORDERED : ORDERED;
}

static NOINLINE VECTORS_OF enum form form_of(const eesp_job *jobs, size_t n, uint32_t keys)
{
	return form_with(jobs, n, keys, NULL);
}

static NOINLINE VECTORS_OF __attribute__((nonnull(3))) enum form form_with_contexts(const eesp_job *jobs, size_t n,
										    const uint8_t *contexts)
{
	return form_with(jobs, n, 1, contexts);
}

/* Runs up to CHUNK jobs, in order of length, with keys derived from contexts (kdf
 * is not NULL), or with the keys in area that they name. */
static inline void run_ordered(const struct eesp_worker_view *view, const struct eesp_direct *d,
			       const struct eesp_kdf_view *kdf, int aead, const uint8_t *contexts, const uint8_t *area,
			       eesp_job *jobs, size_t n, int seal)
{
	if (kdf == NULL) {
		run(view, d, aead, SHARED, seal, area, jobs, n);
		return;
	}
	derive_some(view, kdf, (uint32_t)aead, contexts, n, view->keys);
	run(view, d, aead, ONE_SHOT, seal, view->keys, jobs, n);
	explicit_bzero(view->keys, n * (16u << aead));
}

/* Runs a single job, key derivation included, in one kernel. */
static inline void rekey_one(const struct eesp_worker_view *view, const struct eesp_kdf_view *v, int aead,
			     const uint8_t *context, eesp_job *job, int seal)
{
	typedef uint8_t block __attribute__((vector_size(16)));
	struct { block b[2]; } m;
	memcpy(&m.b[0], context, 16);
	/* counted adds the counter 1 to both; the second one needs 2. */
	m.b[1] = m.b[0] ^ (block){ 1 ^ 2 };
	call0(one(v->direct, aead, seal, job), &m, job, 1, (uintptr_t)view->scratch, v->master, v->counted);
}

static NOINLINE void run_others(const struct eesp_worker_view *view, const struct eesp_direct *d,
				const struct eesp_kdf_view *kdf, int aead, const uint8_t *contexts, const uint8_t *area,
				eesp_job *jobs, size_t n, int seal)
{
	eesp_job moved[CHUNK];
	uint8_t from[CHUNK];
	by_length(moved, jobs, n, from);
	for (size_t i = 0; kdf != NULL && i < n; i++)
		memcpy(view->msgs + i * EESP_KDF_CONTEXT_LEN, contexts + from[i] * EESP_KDF_CONTEXT_LEN,
		       EESP_KDF_CONTEXT_LEN);
	run_ordered(view, d, kdf, aead, view->msgs, area, moved, n, seal);
	for (size_t i = 0; !seal && i < n; i++)
		jobs[from[i]].ok = moved[i].ok;
}

/* Runs any number of the caller's jobs, and returns how many are good. */
static inline size_t run_jobs(const struct eesp_worker_view *view, const struct eesp_direct *d,
			      const struct eesp_kdf_view *kdf, int aead, const uint8_t *contexts, const uint8_t *area,
			      eesp_job *jobs, size_t n, enum form form, int seal)
{
	size_t good = 0;
	for (size_t at = 0, some; at < n; at += some) {
		uint32_t right = 0;
		some = n - at < CHUNK ? n - at : CHUNK;
		if (LIKELY(form == ORDERED))
			run_ordered(view, d, kdf, aead, contexts, area, jobs + at, some, seal);
		else
			run_others(view, d, kdf, aead, contexts, area, jobs + at, some, seal);
		if (kdf != NULL)
			contexts += some * EESP_KDF_CONTEXT_LEN;
		if (seal)
			continue;
#pragma GCC unroll 8
		for (size_t i = at; i < at + some; i++)
			right += jobs[i].ok;
		good += right;
	}
	if (seal)
		return n;
	if (UNLIKELY(good != n))
		for (size_t i = 0; i < n; i++)
			if (!jobs[i].ok)
				memset(jobs[i].dst, 0, jobs[i].len);
	return good;
}

int direct_derive(const struct eesp_worker_view *view, const struct eesp_kdf_view *v, uint32_t aead,
		  const uint8_t *contexts, size_t n, uint8_t *keys)
{
	if (v->direct == NULL || !counters_clear(contexts, n))
		return 0;
	for (size_t at = 0; at < n; at += CHUNK)
		derive_some(view, v, aead, contexts + at * EESP_KDF_CONTEXT_LEN, n - at < CHUNK ? n - at : CHUNK,
			    keys + at * (aead == EESP_AEAD_AES_128_GCM ? 16 : 32));
	return 1;
}

static NOINLINE size_t rekey(const struct eesp_worker_view *view, const struct eesp_kdf_view *v, int aead,
			     const uint8_t *contexts, eesp_job *jobs, size_t n, enum form form, int seal)
{
	return run_jobs(view, v->direct, v, aead, contexts, NULL, jobs, n, form, seal);
}

int direct_rekey(const struct eesp_worker_view *view, const struct eesp_kdf_view *v, uint32_t aead,
		 const uint8_t *contexts, eesp_job *jobs, size_t n, int seal, size_t *good)
{
	const struct eesp_direct *d = v->direct;
	if (d == NULL)
		return 0;
	if (n == 1 && single(d, jobs)) {
		if (!good_form(jobs, 1) || contexts[0] != 0)
			return 0;
		rekey_one(view, v, (int)aead, contexts, jobs, seal);
		*good = seal || jobs->ok;
		if (UNLIKELY(!*good))
			memset(jobs->dst, 0, jobs->len);
		return 1;
	}
	enum form form = form_with_contexts(jobs, n, contexts);
	if (form == BAD)
		return 0;
	*good = rekey(view, v, (int)aead, contexts, jobs, n, form, seal);
	return 1;
}

int direct_keyed(const struct eesp_worker_view *view, const struct eesp_keyset_view *v, eesp_job *jobs, size_t n,
		 int seal, size_t *good)
{
	enum form form = v->direct != NULL ? form_of(jobs, n, v->n) : BAD;
	if (form == BAD)
		return 0;
	*good = run_jobs(view, v->direct, NULL, (int)v->aead, NULL, v->area, jobs, n, form, seal);
	return 1;
}

#endif /* WIDE */

/* ---- Packets ---- */

#define MOST_STRANGE 256 /* mostStrange of internal/burst */
#define REFUSED_EACH 1024 /* refusedEach of internal/burst */
#define STRAY 1 /* status of a packet that the plan does not cover, until the general path takes it */

static inline uint64_t get64(const uint8_t *p)
{
	uint64_t x;
	memcpy(&x, p, 8);
	return __builtin_bswap64(x);
}

static inline void put64(uint8_t *p, uint64_t x)
{
	x = __builtin_bswap64(x);
	memcpy(p, &x, 8);
}

static inline void put32(uint8_t *p, uint32_t x)
{
	x = __builtin_bswap32(x);
	memcpy(p, &x, 4);
}

/* An octet of a packet that says how long something is. Somebody else may write where packets
 * lie: what was checked must be what is used. */
static inline uint8_t once(const uint8_t *p) { return *(const volatile uint8_t *)p; }

/* The same, of four octets. */
typedef uint32_t anywhere __attribute__((aligned(1), may_alias));
static inline uint32_t once32(const uint8_t *p) { return *(const volatile anywhere *)p; }

static inline uint64_t raw64(const void *p)
{
	uint64_t x;
	memcpy(&x, p, 8);
	return x;
}

typedef uint8_t v16 __attribute__((vector_size(16)));

typedef uint64_t two64 __attribute__((vector_size(16)));

static inline v16 load16(const void *p)
{
	v16 v;
	memcpy(&v, p, 16);
	return v;
}

/* Four octets as they lie in memory. */
static inline uint32_t word32(uint8_t a, uint8_t b, uint8_t c, uint8_t d)
{
	const uint8_t o[4] = { a, b, c, d };
	uint32_t x;
	memcpy(&x, o, 4);
	return x;
}

static inline void store16(void *p, v16 v) { memcpy(p, &v, 16); }

/* Copies whole blocks. memcpy of unknown lengths becomes string instructions, which
 * take as long as deriving some keys. */
static inline void blocks(uint8_t *to, const uint8_t *from, size_t n)
{
	for (size_t i = 0; i < n; i += 16)
		store16(to + i, load16(from + i));
}

/* Copies octets to a place that does not overlap them, or that begins in front of them. A call of
 * memcpy costs as much as copying a short packet. */
static inline void copy_forward(uint8_t *to, const uint8_t *from, size_t n)
{
#ifdef WIDE
	if (n <= 64) {
		const __mmask64 k = _bzhi_u64(UINT64_MAX, (unsigned)n);
		_mm512_mask_storeu_epi8(to, k, _mm512_maskz_loadu_epi8(k, from));
		return;
	}
	const __m512i last = _mm512_loadu_si512(from + n - 64); /* before "to" is written */
	size_t at = 0;
	for (; at + 64 < n; at += 64) {
		_mm512_storeu_si512(to + at, _mm512_loadu_si512(from + at));
		__asm__ volatile("" ::: "memory"); /* otherwise the compiler makes it a call */
	}
	_mm512_storeu_si512(to + n - 64, last);
#else
	memmove(to, from, n);
#endif
}

/* Octet i of the result is octet how[i] of v, or 0 where how[i] is NONE. Every
 * processor that has kernels has this instruction. */
#if defined(__x86_64__)
typedef char c16 __attribute__((vector_size(16)));
#ifdef WIDE /* the whole file is compiled for it */
#define EXECUTOR
#else
#define EXECUTOR __attribute__((target("ssse3")))
#endif
static inline EXECUTOR v16 pick(v16 v, v16 how) { return (v16)__builtin_ia32_pshufb128((c16)v, (c16)how); }
#elif defined(__aarch64__)
#include <arm_neon.h>
#define EXECUTOR
static inline v16 pick(v16 v, v16 how) { return (v16)vqtbl1q_u8((uint8x16_t)v, (uint8x16_t)how); }
#else
#define EXECUTOR
static inline v16 pick(v16 v, v16 how)
{
	v16 r = { 0 };
	for (int i = 0; i < 16; i++)
		r[i] = how[i] & NONE ? 0 : v[how[i] & 15];
	return r;
}
#endif

static inline int any16(v16 v)
{
#ifdef WIDE
	return !_mm_testz_si128((__m128i)v, (__m128i)v);
#elif defined(__x86_64__)
	return __builtin_ia32_pmovmskb128((c16)(v == 0)) != 0xffff;
#else
	uint64_t x[2];
	memcpy(x, &v, 16);
	return (x[0] | x[1]) != 0;
#endif
}

static inline int overlap(const void *a, uintptr_t an, const void *b, uintptr_t bn)
{
	return (uintptr_t)a < (uintptr_t)b + bn && (uintptr_t)b < (uintptr_t)a + an;
}

#ifndef WIDE
/* Keys in force now are not wiped until leave: Enter and Leave of keys.Reader. */
static inline uint64_t enter(const struct eesp_worker_view *view)
{
	uint64_t epoch = __atomic_load_n(view->epoch, __ATOMIC_SEQ_CST);
	__atomic_exchange_n(view->active, epoch, __ATOMIC_SEQ_CST);
	return epoch;
}

static inline void leave(const struct eesp_worker_view *view, uint64_t epoch)
{
	__atomic_exchange_n(view->active, 0, __ATOMIC_SEQ_CST);
	if (UNLIKELY(epoch != __atomic_load_n(view->epoch, __ATOMIC_SEQ_CST) &&
		     __atomic_load_n(view->waiting, __ATOMIC_SEQ_CST) != 0))
		eespGoSweep();
}
#endif

/* For pick: from 16 - n on, the octets of a block moved n places up; from 32 - n on,
 * those that come into the next block. */
static const uint8_t slide[48] = {
	NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE,
	0,    1,    2,    3,    4,    5,    6,    7,    8,    9,    10,   11,   12,   13,   14,   15,
	NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE,
};

/* Adds the first n octets of x, whose others are 0, to whole blocks at "to", from
 * octet "at" on. */
static inline EXECUTOR void add_at(uint8_t *to, size_t at, v16 x, size_t n)
{
	const uint8_t *how = slide + 16 - at % 16;
	to += at & ~(size_t)15;
	store16(to, load16(to) ^ pick(x, load16(how)));
	if (at % 16 + n > 16)
		store16(to + 16, load16(to + 16) ^ pick(x, load16(how + 16)));
}

/* The part of a counter that is in the KDF input; rekeyed adds it there. */
static inline v16 rekey_of(uint64_t tsc, uint64_t mask, unsigned bits)
{
	typedef uint32_t four __attribute__((vector_size(16)));
	return (v16)(four){ __builtin_bswap32((uint32_t)((tsc & mask) >> bits)) };
}

static inline EXECUTOR void rekeyed(uint8_t *to, size_t at, uint64_t tsc, uint64_t mask, unsigned bits)
{
	add_at(to, at, rekey_of(tsc, mask, bits), 4);
}

/* How keys are derived, or (master is NULL) the area they are in: fields of a
 * sender's plan, or of a pattern. */
struct kdf_plan {
	const uint8_t *master, *sub, *area;
	uint8_t blocks, key_len;
	uint8_t counter; /* place in the input of the number of the output block */
	uint8_t mask; /* octets behind the key that are added to the nonce */
	const uint8_t *last; /* the last block that all inputs have, not counted in blocks; NULL: there is none */
};

/* Written in its place: a copy would be read by a wider load than the stores that wrote it, and wait for them. */
static inline void kdf_of(struct kdf_plan *k, const struct eesp_pattern *pt)
{
	k->master = pt->master;
	k->sub = pt->sub;
	k->area = pt->area;
	/* blocks, key_len, counter and mask: the compiler would move each by itself */
	memcpy(&k->blocks, &pt->blocks, 4);
	k->last = NULL;
	if (pt->form->simple == 2 && pt->blocks == 2) {
		k->blocks = 1;
		k->last = pt->more[0];
	}
}

/* How many KDF inputs a key takes, and the octets of all of them. */
static inline size_t inputs(const struct kdf_plan *k) { return (k->key_len + k->mask + 15u) / 16; }
static inline size_t stride_of(const struct kdf_plan *k) { return k->last != NULL ? 32 : inputs(k) * k->blocks * 16; }

/* Whether two KDF inputs of whole blocks are equal. They are public. */
static inline int same(const uint8_t *a, const uint8_t *b, size_t len)
{
	v16 d = load16(a) ^ load16(b);
	for (size_t i = 16; i < len; i += 16)
		d |= load16(a + i) ^ load16(b + i);
	return !any16(d);
}

/* Copies KDF inputs of one block in the order of the jobs, which is that of length. */
static inline void in_order(uint8_t *msgs, size_t stride, const uint8_t from[CHUNK], size_t n)
{
	v16 was[CHUNK];
	for (size_t i = 0; i < n; i++)
		was[i] = load16(msgs + i * stride);
	for (size_t i = 0; i < n; i++)
		store16(msgs + i * stride, was[from[i]]);
}

/* Finds out whether packets share few keys. If so, moves the different KDF inputs to
 * the front of msgs, makes index[k] the number of packet k's one, and returns how
 * many there are. Returns n if there are too many to expand each key once. */
static size_t few_keys(uint8_t *msgs, size_t stride, size_t len, size_t n, uint8_t index[CHUNK])
{
	uint8_t first[CHUNK / FEW_KEYS];
	size_t u = 0, i = 0;
#ifdef WIDE
	/* Inputs of one or two blocks are compared with all that differ at once. */
	if (LIKELY(len <= 32)) {
		const __m512i none = _mm512_setzero_si512();
		__m512i begins = none, ends = none;
		unsigned known = 0; /* two bits an input */
		for (; i < n; i++) {
			const __m128i *m = (const __m128i *)(msgs + i * stride);
			const __m512i begin = _mm512_broadcast_i32x4(_mm_loadu_si128(m));
			const __m512i end = len == 32 ? _mm512_broadcast_i32x4(_mm_loadu_si128(m + 1)) : none;
			unsigned is = _mm512_cmpeq_epi64_mask(begins, begin) & _mm512_cmpeq_epi64_mask(ends, end);
			is &= known & is >> 1 & 0x55;
			if (is == 0) {
				if ((u + 1) * FEW_KEYS > n)
					return n;
				const __mmask8 place = (__mmask8)(3u << 2 * u);
				begins = _mm512_mask_mov_epi64(begins, place, begin);
				ends = _mm512_mask_mov_epi64(ends, place, end);
				known |= place;
				is = place;
				first[u++] = (uint8_t)i;
			}
			index[i] = (uint8_t)(__builtin_ctz(is) / 2);
		}
	}
#endif
	for (; i < n; i++) {
		const uint8_t *m = msgs + i * stride;
		size_t k = 0;
		while (k < u && !same(msgs + first[k] * stride, m, len))
			k++;
		if (k == u) {
			if ((u + 1) * FEW_KEYS > n)
				return n;
			first[u++] = (uint8_t)i;
		}
		index[i] = (uint8_t)k;
	}
	for (size_t k = 1; k < u; k++) /* first[k] >= k */
		memmove(msgs + k * stride, msgs + first[k] * stride, len);
	return u;
}

/* few_keys, but fewer than 16 packets share few keys only if all have one: which the first two mostly tell. */
static inline size_t keys_of(uint8_t *msgs, size_t stride, size_t len, size_t n, uint8_t index[CHUNK])
{
	if (n < 2 * FEW_KEYS && !same(msgs, msgs + stride, len))
		return n;
	return few_keys(msgs, stride, len, n, index);
}

/* A block of zeros with an octet at place "at". */
static inline v16 octet_at(uint8_t octet, size_t at)
{
	static const uint8_t there[31] = { [15] = 0xff };
	const v16 all = { octet, octet, octet, octet, octet, octet, octet, octet,
			  octet, octet, octet, octet, octet, octet, octet, octet };
	return load16(there + 15 - at) & all;
}

static NOINLINE void further_inputs(const struct eesp_worker_view *view, const struct kdf_plan *k, size_t u)
{
	size_t len = (size_t)k->blocks * 16, per = inputs(k);
	const v16 second = octet_at(1 ^ 2, k->counter & 15), third = octet_at(1 ^ 3, k->counter & 15);
	const size_t there = k->counter & ~(size_t)15;
	uint8_t *m = view->msgs;
	if (LIKELY(len == 32 && there == 0)) {
		for (size_t i = 0; i < u; i++, m += per * 32) {
			const v16 x = load16(m), y = load16(m + 16);
			store16(m + 32, x ^ second);
			store16(m + 48, y);
			if (per > 2) {
				store16(m + 64, x ^ third);
				store16(m + 80, y);
			}
		}
		return;
	}
	for (size_t i = 0; i < u; i++, m += per * len)
		for (size_t b = 0; b < len; b += 16) {
			const v16 x = load16(m + b);
			store16(m + len + b, b == there ? x ^ second : x);
			if (per > 2)
				store16(m + 2 * len + b, b == there ? x ^ third : x);
		}
}

/* For u keys that take two or three KDF inputs, makes the others from the first, in
 * msgs. Writes whole blocks, as kernels read them (store forwarding). */
static inline void second_inputs(const struct eesp_worker_view *view, const struct kdf_plan *k, size_t u)
{
	if (inputs(k) != 1)
		further_inputs(view, k, u);
}

/* The same if all inputs have the same last block. It derives first all keys, which lie
 * directly behind one another, then what is added to nonces. */
static void derive_apart(const struct eesp_worker_view *view, const struct eesp_direct *d, const struct kdf_plan *k,
			 size_t u, uint8_t *to)
{
	static const v16 none;
	const v16 second = octet_at(1 ^ 2, k->counter), third = octet_at(1 ^ 3, k->counter);
	uint8_t *m = view->msgs, *masks = m + u * 32, *sub = view->area;
#pragma GCC unroll 4
	for (size_t i = 0; i < u; i++) {
		const v16 x = load16(m + i * 32);
		store16(m + i * 32 + 16, x ^ second);
		store16(masks + i * 16, x ^ third); /* there is room for it if there are no masks, too */
	}
	call0(d->derive, to, m, u * inputs(k), 1, k->master, &none);
	store16(sub, load16(k->sub) ^ load16(k->last));
	call0(d->derive, to, to, u * inputs(k), 1, k->master, sub);
	explicit_bzero(sub, 16);
}

/* Derives u keys to "to" from inputs in msgs, stride_of octets apart. */
static inline void derive_keys(const struct eesp_worker_view *view, const struct eesp_direct *d,
			       const struct kdf_plan *k, size_t u, uint8_t *to)
{
	if (k->last != NULL) {
		derive_apart(view, d, k, u, to);
		return;
	}
	second_inputs(view, k, u);
	call0(d->derive, to, view->msgs, u * inputs(k), k->blocks, k->master, k->sub);
}

/* Adds four octets to the first ones of a nonce. */
static inline void add_salt(uint8_t *nonce, const uint8_t *salt)
{
	uint32_t a, b;
	memcpy(&a, nonce, 4);
	memcpy(&b, salt, 4);
	a ^= b;
	memcpy(nonce, &a, 4);
}

/* Splits u outputs of derivation in keys: into keys, one directly behind the other,
 * and masks, which it adds to the nonces of n jobs. index: by job, the number of its
 * key; NULL: they are in order. */
static NOINLINE void part(const struct kdf_plan *k, uint8_t *keys, size_t u, const uint8_t *index, eesp_job *jobs,
			  size_t n)
{
	/* octets of a mask */
	static const uint8_t twelve[16] = { 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255 };
	const size_t size = inputs(k) * 16, key_len = k->key_len;
	const v16 some = load16(twelve);
	const uint8_t *masks = keys + key_len;
	if (k->last != NULL) { /* keys are in their places already */
		masks = keys + u * 32;
#pragma GCC unroll 4
		for (size_t i = 0; index == NULL && i < n; i++)
			store16(jobs[i].nonce, load16(jobs[i].nonce) ^ (load16(masks + i * 16) & some));
		for (size_t i = 0; index != NULL && i < n; i++)
			store16(jobs[i].nonce, load16(jobs[i].nonce) ^ (load16(masks + index[i] * 16) & some));
		explicit_bzero(keys + u * 32, u * 16);
		return;
	}
	uint8_t *to = keys, *from = keys; /* to <= from: nothing is overwritten before it is read */
	if (LIKELY(index == NULL && key_len == 32)) {
		for (size_t i = 0; i < n; i++, to += 32, from += size) {
			const v16 a = load16(from), b = load16(from + 16);
			store16(jobs[i].nonce, load16(jobs[i].nonce) ^ (load16(from + 32) & some));
			store16(to, a);
			store16(to + 16, b);
		}
	} else {
		for (size_t i = 0; i < n; i++) /* 16 octets: nonce and reserved, to which 0 is added */
			store16(jobs[i].nonce,
				load16(jobs[i].nonce) ^ (load16(masks + (index != NULL ? index[i] : i) * size) & some));
		for (size_t i = 0; i < u; i++, to += key_len, from += size) {
			const v16 a = load16(from), b = load16(from + 16);
			store16(to, a);
			if (key_len == 32)
				store16(to + 16, b);
		}
	}
	explicit_bzero(keys + u * key_len, u * (size - key_len));
}

/* Derives u keys from inputs in msgs and runs the jobs. Few keys are expanded once
 * each. Where keys are in an area, there are no inputs. */
static inline void derive_and_run(const struct eesp_worker_view *view, const struct eesp_direct *d,
				  const struct kdf_plan *k, size_t u, const uint8_t index[CHUNK], int seal,
				  eesp_job *jobs, size_t n)
{
	int aead = k->key_len == 32;
	if (k->master == NULL) { /* jobs have the numbers of their keys in the area */
		run(view, d, aead, SHARED, seal, k->area, jobs, n);
		return;
	}
	const size_t all = k->blocks + (k->last != NULL);
	if (n == 1 && single(d, jobs) && (all <= d->one_blocks || (all == 1 && k->mask == 0))) {
		struct kdf_plan whole = *k;
		if (k->last != NULL) {
			whole.blocks++;
			store16(view->msgs + 16, load16(k->last));
		}
		second_inputs(view, &whole, 1);
		const uintptr_t kernel =
			all == 1 && k->mask == 0 ? one(d, aead, seal, jobs) : d->one[aead][seal];
		call0(kernel, view->msgs, jobs, all | (k->mask != 0 ? 4u : 0), (uintptr_t)view->scratch, k->master,
		      k->sub);
		return;
	}
	derive_keys(view, d, k, u, view->keys);
	if (UNLIKELY(k->mask != 0))
		part(k, view->keys, u, u < n ? index : NULL, jobs, n);
	if (u * FEW_KEYS <= n) {
		size_t octets = (u + 3) / 4 * 4 * d->key_bytes;
		call0(d->expand[aead], view->area, view->keys, u, 0, NULL, NULL);
		call0(d->powers[aead], view->area, (const void *)u, 0, 0, NULL, NULL);
		explicit_bzero(view->keys, u * k->key_len);
		for (size_t i = 0; i < n; i++)
			jobs[i].key = index[i];
		run(view, d, aead, SHARED, seal, view->area, jobs, n);
		explicit_bzero(view->area, octets);
		return;
	}
	for (size_t i = u; i < n; i++) /* a copy for each */
		blocks(view->keys + i * k->key_len, view->keys, k->key_len);
	run(view, d, aead, ONE_SHOT, seal, view->keys, jobs, n);
	explicit_bzero(view->keys, n * k->key_len);
}

#ifndef WIDE
/* Copies the strays of a burst out, hands them to the general path, and copies them
 * back. numbered: their counters, which begin with first, were taken. */
typedef size_t go_burst(const struct eesp_fast_path *fp, eesp_pkt *pkts, size_t n, uint64_t first, uint64_t serial);

static NOINLINE size_t strays(const struct eesp_fast_path *fp, eesp_pkt *pkts, size_t n, uint64_t first,
			      uint64_t serial, int numbered, go_burst *go)
{
	eesp_pkt apart[CHUNK];
	uint8_t from[CHUNK] = { 0 };
	size_t good = 0, k = 0;
	for (size_t i = 0; i < n; i++)
		if (pkts[i].status == STRAY) {
			if (k > 0 && numbered && from[k - 1] + 1u != i) { /* counters follow one another */
				good += go(fp, apart, k, first + from[0], serial);
				for (size_t x = 0; x < k; x++)
					pkts[from[x]] = apart[x];
				k = 0;
			}
			from[k] = (uint8_t)i;
			apart[k++] = pkts[i];
		}
	good += go(fp, apart, k, first + from[0], serial);
	for (size_t x = 0; x < k; x++)
		pkts[from[x]] = apart[x];
	return good;
}
#endif

/* The thread's own share of counts, or NULL. */
static inline struct eesp_share *share_of(struct eesp_share *all, uint64_t number)
{
	struct eesp_share *s = &all[number % SHARES];
	uint64_t owner = __atomic_load_n(&s->owner, __ATOMIC_RELAXED);
	if (LIKELY(owner == number))
		return s;
	return owner == 0 && __atomic_compare_exchange_n(&s->owner, &owner, number, 0, __ATOMIC_RELAXED,
							 __ATOMIC_RELAXED) ? s : NULL;
}

/* Adds to a count. The release store makes earlier counts visible to its readers. */
static inline void count(struct eesp_share *mine, int i, uint64_t *shared, uint64_t n)
{
	if (LIKELY(mine != NULL))
		__atomic_store_n(&mine->n[i], mine->n[i] + n, __ATOMIC_RELEASE);
	else
		__atomic_fetch_add(shared, n, __ATOMIC_RELEASE);
}

/* Counts what is done with a key. Derived data keys are only counted if there are not
 * as many as packets (keys.UsageWords). */
static inline void used(uint64_t *usage, uint64_t number, int what, size_t packets, const uint8_t *master,
			size_t derived)
{
	if (usage == NULL)
		return;
	struct eesp_share *mine = share_of((struct eesp_share *)(usage + USAGE_SHARES), number);
	if (packets != 0)
		count(mine, what, &usage[what], packets);
	if (master != NULL && derived != packets)
		count(mine, USAGE_EXTRA, &usage[USAGE_EXTRA], derived - packets);
}

static inline void tallied(uint64_t *tally, uint64_t number, int what, size_t packets)
{
	if (tally != NULL && packets != 0)
		count(share_of((struct eesp_share *)(tally + TALLY_SHARES), number), what, &tally[what], packets);
}

/* Counts good packets and their octets. */
static inline void counted(struct eesp_share *shares, uint64_t number, uint64_t *by, uint64_t *all_octets,
			   uint64_t packets, uint64_t octets)
{
	struct eesp_share *mine = share_of(shares, number);
	count(mine, 0, by, packets);
	count(mine, 1, all_octets, octets);
}

/* ---- Sealing ---- */

#ifndef WIDE
static size_t go_seal(const struct eesp_fast_path *fp, eesp_pkt *pkts, size_t n)
{
	*fp->cgo_packets += n;
	return eespGoSealBurst(fp->worker, fp->object, pkts, n);
}

/* serial: that of the owner whose counters were taken. */
static size_t go_seal_taken(const struct eesp_fast_path *fp, eesp_pkt *pkts, size_t n, uint64_t first, uint64_t serial)
{
	*fp->cgo_packets += n;
	return eespGoSealTaken(fp->worker, fp->object, pkts, n, first, serial);
}
#endif

/* The length of an IP packet by its header (wire.IPLen), or 0; and its protocol number
 * in an outer header (wire.IPProto). */
static uint32_t ip_len(const uint8_t *b, uint32_t n, uint8_t *proto)
{
	uint32_t len;
	if (n < 20)
		return 0;
	if (b[0] >> 4 == 4) {
		uint32_t h = (b[0] & 0xfu) * 4;
		len = (uint32_t)b[2] << 8 | b[3];
		*proto = 4;
		return h >= 20 && len >= h ? len : 0;
	}
	len = (uint32_t)b[4] << 8 | b[5];
	*proto = 41;
	return b[0] >> 4 == 6 && n >= 40 && (len != 0 || b[6] == 59 || n == 40) ? 40 + len : 0;
}

/* Whether the plan may seal a payload: some formats take only IP packets. */
static inline int wraps(const struct eesp_seal_plan *w, const eesp_pkt *p)
{
	uint8_t proto;
	if (w->wrap == UNWRAP_BARE || w->wrap == UNWRAP_INFO || (w->wrap == UNWRAP_INFO_IP && p->next_header == 59))
		return 1;
	return ip_len(p->data, p->len, &proto) == p->len && p->len != 0 &&
	       (w->wrap == UNWRAP_ONLY || proto == p->next_header);
}

static inline uint32_t padding(const struct eesp_seal_plan *w, uint32_t len) { return -(w->inner + len) & w->pad_mask; }

/* Makes a job of a packet to be sealed, if it is simple: simpleRun of internal/burst. */
static inline int simple_job(const eesp_pkt *p, const struct eesp_seal_plan *w, eesp_job *j, const int bare)
{
	uint8_t *hdr, *body;
	uint32_t header = w->n, prefix = bare ? 0 : w->prefix, tail = (bare ? 0 : padding(w, p->len)) + ICV,
		 size = header + p->len + tail;
	if ((p->coffset | p->ioffset | p->reserved) != 0 || p->iov_count != 0 || p->flags != w->flags ||
	    p->data == NULL || p->len > EESP_MAX_LEN)
		return 0;
	if (p->dst == NULL) {
		if (p->headroom < header + prefix || p->tailroom < tail)
			return 0;
		body = p->data;
		hdr = body - header;
	} else {
		if (p->dst_size < size + prefix)
			return 0;
		hdr = (uint8_t *)p->dst + prefix;
		body = hdr + header;
		if (body != p->data && overlap(p->data, p->len, hdr - prefix, size + prefix))
			return 0;
	}
	j->aad = hdr - prefix;
	j->aad_len = header + prefix;
	j->src = p->data;
	j->dst = body;
	j->tag = body + p->len;
	j->len = p->len;
	return bare || w->wrap == UNWRAP_BARE || wraps(w, p);
}

#define HEAD 4 /* octets of a body in front of the payload: eesp's Payload Info Header */

#define HEAD_MASK 15

/* Whether kernels take a body of len octets with its head in the job (internal/gen/long.go). */
static inline int head_apart(const struct eesp_direct *d, uint32_t len)
{
	return d->head_least != 0 && len >= d->head_least;
}

/* Completes a body that has more than the payload: padding behind it, and octets of
 * the header in front. */
static NOINLINE void wrap(const struct eesp_seal_plan *w, eesp_job *j, uint32_t len)
{
	const uint32_t pad = padding(w, len), all = w->inner + len + pad;
	uint8_t *body = j->dst;
	if (j->src != (const void *)body && w->inner == HEAD && pad == 0 && head_apart(w->direct, all)) {
		memcpy(j->reserved, body - HEAD, HEAD); /* two of which are zero */
		j->reserved[0] = HEAD_MASK;
		j->src = (const void *)((uintptr_t)j->src - HEAD);
	} else { /* the body must lie in one piece */
		if (j->src != (const void *)body)
			copy_forward(body, j->src, len);
		memset(body + len, 0, EESP_MAX_PADDING); /* more than needed: the ICV is written over the rest */
		j->src = body - w->inner;
	}
	j->aad_len -= w->inner;
	j->dst = body - w->inner;
	j->tag = body + len + pad;
	j->len = all;
}

static inline uint64_t tsc_of(const struct eesp_counter *c, uint64_t linear)
{
	return linear >> c->shift << 48 | c->engine | (linear & ((UINT64_C(1) << c->shift) - 1)) << c->low;
}

#ifndef WIDE
/* Takes n counters that follow one another within an epoch: Take of internal/counter,
 * without the case in which the limit must be raised. Returns 0 if it cannot. */
static inline int take_below(const struct eesp_seal_plan *w, size_t n, uint64_t *first)
{
	const struct eesp_counter *c = &w->counter;
	uint64_t at, begin, end, now = 0, top = UINT64_MAX;
	if (c->time_lead != 0) { /* counters are times: not before the clock, and little ahead of it */
		now = times_clock(c->rate);
		if (UNLIKELY(now == 0))
			return 0;
		top = now + c->time_lead;
	}
	at = __atomic_load_n(w->next, __ATOMIC_SEQ_CST);
	do {
		begin = at > now ? at : now;
		end = begin + n;
		if (end < begin || end > top || end > __atomic_load_n(w->limit, __ATOMIC_SEQ_CST))
			return 0;
		uint64_t tsc = tsc_of(c, begin), last = tsc_of(c, end - 1);
		if (last != tsc + (n - 1) * c->step || last >> 48 != tsc >> 48)
			return 0;
	} while (!__atomic_compare_exchange_n(w->next, &at, end, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
	*first = begin;
	return 1;
}

/* Raises the limit of counters that follow the clock: look of internal/counter, which
 * says why these values only rise. Returns 0 if there are no counters: then Go says
 * why. */
static NOINLINE int look(const struct eesp_seal_plan *w, size_t n)
{
	const struct eesp_counter *c = &w->counter;
	int64_t last = __atomic_load_n(c->last, __ATOMIC_SEQ_CST), t, since;
	uint64_t now, at, top, limit, was, ahead;
	struct timespec ts;
	if (clock_gettime(CLOCK_REALTIME, &ts) != 0)
		return 0;
	t = (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
	if (t < last || t < c->start)
		return 0;
	since = t - last;
	while (last < t && !__atomic_compare_exchange_n(c->last, &last, t, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		;
	uint64_t sec = (uint64_t)(t - c->start) / 1000000000, frac = (uint64_t)(t - c->start) % 1000000000;
	now = c->base + (sec << c->rate) + (frac << c->rate) / 1000000000;
	if (sec >> (64 - c->rate) != 0 || now < c->base)
		return 0;
	at = __atomic_load_n(w->next, __ATOMIC_SEQ_CST);
	while (at < now && (now - at > (uint64_t)LAG_S << c->rate || at >> c->shift != now >> c->shift) &&
	       !__atomic_compare_exchange_n(w->next, &at, now < c->end ? now : c->end, 0, __ATOMIC_SEQ_CST,
					    __ATOMIC_SEQ_CST))
		;
	at = __atomic_load_n(w->next, __ATOMIC_SEQ_CST);
	top = now + (UINT64_C(1) << c->rate);
	if (top >= c->end || top < now)
		top = c->end;
	ahead = 2 * __atomic_load_n(c->ahead, __ATOMIC_RELAXED) + n;
	ahead = since >= IDLE_NS ? 0 : ahead < LOOK_EVERY ? ahead : LOOK_EVERY;
	__atomic_store_n(c->ahead, ahead, __ATOMIC_RELAXED);
	was = __atomic_load_n(w->limit, __ATOMIC_SEQ_CST);
	limit = (at > was ? at : was) + n + ahead;
	if (limit > top || limit <= at)
		limit = top;
	do {
		if (was == 0) /* closed */
			return 0;
	} while (was < limit &&
		 !__atomic_compare_exchange_n(w->limit, &was, limit, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
	return at + n <= limit && at + n > at;
}

static inline int take(const struct eesp_seal_plan *w, size_t n, uint64_t *first)
{
	if (LIKELY(take_below(w, n, first)))
		return 1;
	return w->counter.last != NULL && look(w, n) && take_below(w, n, first);
}
#endif

/* Derives the key of a single packet and seals it, with the encrypted first block of the KDF input from
 * this thread's memo: a sender's first block seldom changes. Returns 0, and has done nothing, if the memo
 * does not have it. */
static inline EXECUTOR int seal_remembered(const struct eesp_worker_view *view, const struct eesp_seal_plan *w,
					   const struct kdf_plan *k, eesp_job *job)
{
	static const v16 none;
	const struct eesp_direct *d = w->direct;
	const size_t per = inputs(k), rest = k->blocks - 1u;
	if (w->memo == NULL || !single(d, job) || (rest > d->one_blocks && rest != 1) ||
	    share_of(w->shares, view->number) == NULL)
		return 0;
	struct eesp_memo *memo = &w->memo[view->number % SHARES]; /* only this thread uses it, as its share */
	const v16 first = load16(view->msgs);
	uint8_t *to = view->keys;
	if (UNLIKELY(any16(first ^ load16(memo->block)))) {
		if (any16(first ^ load16(memo->other))) { /* encrypted only if it comes a second time */
			store16(memo->other, first);
			return 0;
		}
		for (size_t i = 0; i < per; i++)
			store16(to + 16 * i,
				i == 0 ? first : first ^ octet_at((uint8_t)(1 ^ (i + 1)), k->counter & 15));
		call0(d->derive, memo->encrypted, to, per, 1, k->master, &none);
		store16(memo->block, first);
	}
	for (size_t i = 0; i < per; i++) {
		store16(to + 16 * i * rest, load16(view->msgs + 16) ^ load16(memo->encrypted[i]));
		for (size_t b = 1; b < rest; b++)
			store16(to + 16 * (i * rest + b), load16(view->msgs + 16 + 16 * b));
	}
	const int aead = k->key_len == 32;
	const uintptr_t kernel = rest == 1 ? one(d, aead, 1, job) : d->one[aead][1];
	call0(kernel, to, job, rest, (uintptr_t)view->scratch, k->master, k->sub);
	for (size_t i = 0; i < per * rest; i++)
		store16(to + 16 * i, none);
	__asm__ volatile("" : : "r"(to) : "memory"); /* keeps the compiler from leaving the wipe out */
	return 1;
}

/* Seals up to CHUNK packets. Those that the plan does not cover are marked as strays;
 * *stray is their number. */
static inline __attribute__((always_inline)) EXECUTOR size_t seal_some(const struct eesp_worker_view *view,
								       const struct eesp_seal_plan *w, eesp_pkt *pkts,
								       size_t n, uint64_t first, size_t *stray,
								       const int bare)
{
	const struct kdf_plan k = { w->master,          w->sub, w->area, w->blocks, w->key_len, w->counter_at,
				    bare ? 0 : w->mask, NULL };
	size_t len = (size_t)k.blocks * 16, stride = stride_of(&k), m = 0, u;
	uint32_t header = w->n, prefix = bare ? 0 : w->prefix;
	uint64_t tsc = tsc_of(&w->counter, first), octets = 0;
	eesp_job jobs[CHUNK], *sorted = jobs;
	uint8_t index[CHUNK] = { 0 }, lane[CHUNK];
	const uint8_t *of = as_they_are; /* job k in order of length is packet of[k] */
	uint32_t differ = 0; /* lengths do */
	struct order o;

	for (size_t i = 0; i < n; i++) {
		lane[m] = (uint8_t)i;
		if (LIKELY(simple_job(&pkts[i], w, &jobs[m], bare))) {
			differ |= jobs[m].len ^ jobs[0].len;
			m++;
		} else {
			pkts[i].status = STRAY;
		}
	}
	*stray = n - m;
	if (m == 0)
		return 0;
	if (UNLIKELY(m != n))
		of = lane;
	if (UNLIKELY(differ != 0)) {
		sorted = ordered(&o, jobs, m);
		for (size_t i = 0; sorted != jobs && i < m; i++)
			o.other[i] = lane[o.other[i]];
		if (sorted != jobs)
			of = o.other;
	}
	u = w->fixed ? 1 : m;
	if (k.master != NULL) {
		/* Written in whole blocks, as kernels read them: for a single packet they do so at once. */
		typedef uint32_t four __attribute__((vector_size(16)));
		const uint16_t tsc_epoch = __builtin_bswap16((uint16_t)(tsc >> 48));
		size_t begin = 0;
#ifdef WIDE
		const __m512i taken = _mm512_loadu_si512(w->pick);
		const __m512i two = _mm512_castsi128_si512(_mm_cvtsi32_si128(tsc_epoch));
		const __m512i epoch = _mm512_maskz_permutexvar_epi8(w->of_epoch, taken, two);
		const __m512i base = _mm512_xor_si512(_mm512_loadu_si512(w->msg), epoch);
		const __mmask64 picked = w->picked;
		if (LIKELY(!w->of_packet && (bare || w->rekey_mask == 0)))
			/* Octets beyond an input are overwritten by the next one, or lie behind all of them. */
			for (uint8_t *to = view->msgs; begin < u; begin++, to += stride) {
				const __m256i *const addr = (const __m256i *)&pkts[of[begin]].addr;
				const __m512i from = _mm512_castsi256_si512(_mm256_loadu_si256(addr));
				_mm512_storeu_si512(to,
						    _mm512_xor_si512(base,
								     _mm512_maskz_permutexvar_epi8(picked, taken,
												   from)));
			}
#endif
		uint8_t msg[48];
		if (begin < u) {
			memcpy(msg, w->msg, 48);
			if (w->epoch_at != NONE)
				add_at(msg, w->epoch_at, (v16)(four){ tsc_epoch }, 2);
		}
		for (size_t i = begin; i < u; i++) {
			uint8_t *to = view->msgs + i * stride;
			const eesp_pkt *p = &pkts[of[i]];
			for (size_t b = 0; b < len; b += 16)
				store16(to + b, load16(msg + b));
			for (uint32_t c = 0; c < w->copies; c++) {
				const uint8_t *from = (w->copy[c].what == COPY_DESC ? (const uint8_t *)&p->addr
						       : sorted[i].aad + prefix) + w->copy[c].from;
				if (w->copy[c].what == COPY_PACKET_4) {
					uint32_t x;
					memcpy(&x, from, 4);
					add_at(to, w->copy[c].to, (v16)(four){ x }, 4);
				} else {
					add_at(to, w->copy[c].to, load16(from), 16);
				}
			}
			if (!bare && w->rekey_mask != 0)
				rekeyed(to, w->rekey_at, tsc + of[i] * w->counter.step, w->rekey_mask, w->rekey_bits);
		}
		if (m >= FEW_KEYS && !w->fixed)
			u = keys_of(view->msgs, stride, len, m, index);
	}
	const v16 last = load16(w->header + (header >= 16 ? header - 16 : 0));
	const v16 in_nonce = { NONE, NONE, NONE, NONE, 15, 14, 13, 12, 11, 10, 9, 8, NONE, NONE, NONE, NONE };
	const v16 nonce = load16(w->nonce);
	const uint64_t id = w->id, step = w->counter.step;
	const size_t tsc_at = w->tsc_at, next_at = w->next_at;
	for (size_t i = 0; i < m; i++) {
		size_t at = of[i];
		eesp_pkt *p = &pkts[at];
		eesp_job *j = &sorted[i];
		uint64_t mine = tsc + at * step;
		uint8_t *hdr = (uint8_t *)(uintptr_t)j->aad + prefix;
		if (LIKELY(header >= 16)) {
			for (uint32_t x = 0; x + 16 < header; x += 16)
				store16(hdr + x, load16(w->header + x));
			store16(hdr + header - 16, last);
		} else {
			memcpy(hdr, w->header, header);
		}
		put64(hdr + tsc_at, mine);
		if (next_at != NONE)
			hdr[next_at] = p->next_header;
		const two64 numbers = { id, mine };
		store16(j->nonce, nonce ^ pick((v16)numbers, in_nonce));
		j->key = w->key;
		p->out_len = header + j->len + ICV;
		if (!bare && w->from_prefix)
			add_salt(j->nonce, j->aad);
		if (!bare && UNLIKELY(w->wrap != UNWRAP_BARE)) {
			uint32_t text = j->len;
			if (w->salt != NULL)
				add_salt(j->nonce, w->salt);
			if (w->again_at != NONE)
				put64(hdr + w->again_at, mine);
			if (w->pad_at != NONE)
				hdr[w->pad_at] = (uint8_t)padding(w, text);
			wrap(w, j, text);
			p->out_len += padding(w, text);
		}
		p->status = EESP_OK;
		p->out = hdr;
		store16(&p->id, (v16)numbers); /* and tsc */
		octets += p->out_len;
	}
	if (m != 1 || !seal_remembered(view, w, &k, sorted))
		derive_and_run(view, w->direct, &k, u, index, 1, sorted, m);
	used(w->usage, view->number, USAGE_SEALED, m, k.master, u);
	if (!bare)
		tallied(w->tally, view->number, TALLY_SEALED, m);
	counted(w->shares, view->number, w->by, w->octets, m, octets);
	return m;
}

/* seal_some compiled twice: for formats whose body is the payload and that have no
 * prefix, and for all. */
static EXECUTOR NOINLINE size_t seal_bare(const struct eesp_worker_view *view, const struct eesp_seal_plan *w,
					  eesp_pkt *pkts, size_t n, uint64_t first, size_t *stray)
{
	return seal_some(view, w, pkts, n, first, stray, 1);
}

static EXECUTOR NOINLINE size_t seal_any(const struct eesp_worker_view *view, const struct eesp_seal_plan *w,
					 eesp_pkt *pkts, size_t n, uint64_t first, size_t *stray)
{
	return seal_some(view, w, pkts, n, first, stray, 0);
}

#ifndef WIDE
static const struct eesp_executors narrow_executors;

static inline const struct eesp_executors *executors(int wide)
{
#if defined(__x86_64__)
	if (LIKELY(wide))
		return &wide_executors;
#endif
	return &narrow_executors;
}

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

size_t direct_seal(const struct eesp_fast_path *fp, eesp_pkt *pkts, size_t n)
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
			const struct eesp_seal_plan *x =
				w->other != NULL && pkts[at].flags == w->other->flags ? w->other : w;
			good += executors(x->direct->wide != 0)
					->seal[x->wrap == UNWRAP_BARE && x->prefix == 0](view, x, pkts + at, some,
											 first + at, &stray);
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
#endif

/* ---- Opening ---- */

#ifndef WIDE
static size_t go_open(const struct eesp_fast_path *fp, eesp_pkt *pkts, size_t n, uint64_t first, uint64_t serial)
{
	(void)first;
	(void)serial;
	*fp->cgo_packets += n;
	return eespGoOpenBurst(fp->worker, fp->object, pkts, n);
}
#endif

/* A packet in open_some. */
struct lane {
	eesp_pkt *p;
	const struct eesp_pattern *pattern;
	uint8_t *window; /* replay window; NULL: there is none yet */
	uint64_t *word;	 /* the window's word that seq is in */
	/* who: Epoch, Kind and Engine of the replay.Key; hash: the key's, and mark_of(seq) once it has been checked */
	uint64_t seq, hash, id, who;
};

/* Whether an ID is one of the receiver's own IDs. */
static inline int is_own(const struct eesp_open_plan *w, uint64_t id)
{
	if (LIKELY((w->own_some >> (id & 63) & 1) == 0))
		return 0;
	for (uint64_t at = id * UINT64_C(0x9E3779B97F4A7C15) >> 32;; at++) {
		uint64_t x = w->own_ids[at & w->own_mask];
		if (LIKELY(x == w->own_free))
			return 0;
		if (x == id)
			return 1;
	}
}

/* Counts packets that were not opened. new_here reads the count of EESP_ERR_FLOODED in
 * each burst. So that this line seldom changes, threads with shares add to it in
 * units of REFUSED_EACH. */
static void count_failed(const struct eesp_open_plan *w, uint64_t number, eesp_status st, uint64_t *tally, int what,
			 uint64_t n)
{
	if (LIKELY(share_of(w->shares, number) != NULL)) {
		uint64_t *mine = w->refused + number % SHARES * REFUSED_WORDS - st, was = *mine;
		__atomic_store_n(mine, was + n, __ATOMIC_RELEASE);
		if (UNLIKELY(st == EESP_ERR_FLOODED && (was + n) / REFUSED_EACH != was / REFUSED_EACH))
			__atomic_fetch_add(&w->strangers->refused, (was + n) / REFUSED_EACH - was / REFUSED_EACH,
					   __ATOMIC_RELAXED);
	} else {
		__atomic_fetch_add(&w->by[-st], n, __ATOMIC_RELEASE);
	}
	if (tally != NULL && what != 0)
		count(share_of((struct eesp_share *)(tally + TALLY_SHARES), number), what, &tally[what], n);
}

static NOINLINE void refuse_known(eesp_pkt *p, eesp_status st, const struct eesp_open_plan *w, uint64_t number,
				  const struct eesp_pattern *pt)
{
	p->status = st;
	p->out = NULL;
	p->out_len = 0;
	count_failed(w, number, st, pt->tally, w->tally_of[-st], 1);
}

/* Counts packets with a pattern's key: all went through the cipher, and so many of
 * them were opened. */
static inline void opened_with(const struct eesp_pattern *pt, uint64_t number, size_t opened, size_t all)
{
	used(pt->usage, number, USAGE_OPENED, opened, pt->master, all);
	tallied(pt->tally, number, TALLY_OPENED, opened);
}

/* The refused packets of a burst, by status and domain. Threads share the counts, so
 * each is written once for the burst. */
struct refusals {
	size_t all;
	size_t odd; /* those that sift would not have refused */
	uint64_t number; /* of the worker */
	uint32_t kinds;
	struct refusal {
		eesp_status status;
		uint32_t n;
		const struct eesp_domain *domain;
	} of[4], *last;
};

static NOINLINE void count_refused(const struct eesp_open_plan *w, struct refusals *a)
{
	for (size_t i = 0; i < a->kinds; i++) {
		const struct refusal *t = &a->of[i];
		const int reflected = t->domain != NULL && t->status == EESP_ERR_REFLECTED;
		count_failed(w, a->number, t->status, t->domain != NULL ? t->domain->tally : NULL,
			     reflected ? (int)t->domain->reflected : w->tally_of[-t->status], t->n);
	}
	a->kinds = 0;
}

static NOINLINE struct refusal *refusal_of(const struct eesp_open_plan *w, struct refusals *a, eesp_status st,
					   const struct eesp_domain *domain)
{
	for (size_t i = 0; i < a->kinds; i++)
		if (a->of[i].status == st && a->of[i].domain == domain)
			return &a->of[i];
	if (a->kinds == sizeof a->of / sizeof a->of[0])
		count_refused(w, a);
	a->of[a->kinds] = (struct refusal){ st, 0, domain };
	return &a->of[a->kinds++];
}

static inline void refuse(const struct eesp_open_plan *w, eesp_pkt *p, eesp_status st, const struct eesp_domain *domain,
			  struct refusals *a)
{
	p->status = st;
	p->out = NULL;
	p->out_len = 0;
	if (UNLIKELY(a->kinds == 0 || a->last->status != st || a->last->domain != domain))
		a->last = refusal_of(w, a, st, domain);
	a->last->n++;
	a->all++;
}

/* The domain that a packet names, or the first if it names none; NULL: there are none. */
static inline const struct eesp_domain *domain_of(const struct eesp_open_plan *w, const eesp_pkt *p)
{
	const struct eesp_domain *d = w->screen.domains;
	uint32_t number;
	if (w->screen.n_domains == 0 || p->len < 4)
		return d;
	memcpy(&number, p->data, 4);
	number = __builtin_bswap32(number) & 0xffffff;
	for (size_t i = 0; i < w->screen.n_domains; i++)
		if (d[i].number == number)
			return &d[i];
	return d;
}

/* The status of a packet whose first octets show that it is not for this receiver;
 * EESP_OK: they do not. plan.Screen describes the fields. */
static inline eesp_status screen(const struct eesp_screen *s, const eesp_pkt *p)
{
	const uint8_t *b = p->data;
	uint32_t name, n, at;
	if (p->len < s->least)
		return EESP_ERR_SHORT;
	if (LIKELY(s->first[b[s->first_at]] != 0))
		return s->first[b[s->first_at]];
	if (s->second[b[1]] != 0)
		return s->second[b[1]];
	if (p->len < s->least + 8u * s->more[b[1]])
		return EESP_ERR_SHORT;
	if ((b[2] & s->zero) != 0)
		return EESP_ERR_RESERVED;
	if ((at = s->third_at[b[1]]) != 0) {
		n = 8 * (1 + (b[0] & 15u));
		if (n < at + 8)
			return EESP_ERR_HEADER_LEN;
		if (p->len < n + ICV)
			return EESP_ERR_SHORT;
		if (n > at + 8 && s->third[b[at]] != 0)
			return s->third[b[at]];
	}
	if (s->name_mask == 0)
		return EESP_OK;
	memcpy(&name, b + s->name_at, 4);
	for (size_t i = 0; i < s->n_names; i++)
		if ((name & s->name_mask) == s->names[i])
			return EESP_OK;
	return EESP_ERR_NO_KEY;
}

/* Refuses a packet by the octet at first_at. */
static inline void refuse_noise(const struct eesp_open_plan *w, eesp_pkt *p, eesp_status st, struct refusals *a)
{
	p->id = p->tsc = 0;
	refuse(w, p, st, w->screen.n_domains < 2 ? w->screen.domains : domain_of(w, p), a);
}

/* Refuses a packet whose key Go would have to derive. */
static inline void refuse_flooded(const struct eesp_open_plan *w, eesp_pkt *p, uint64_t id, uint64_t tsc,
				  struct refusals *a)
{
	p->id = id;
	p->tsc = tsc;
	p->coffset = p->ioffset = p->next_header = 0;
	refuse(w, p, EESP_ERR_FLOODED, NULL, a);
}

/* The same for open_some, of which there are many. */
static NOINLINE void refuse_some_noise(const struct eesp_open_plan *w, eesp_pkt *p, eesp_status st, struct refusals *a)
{
	refuse_noise(w, p, st, a);
}

static NOINLINE void refuse_one_flooded(const struct eesp_open_plan *w, eesp_pkt *p, uint64_t id, uint64_t tsc,
					struct refusals *a)
{
	refuse_flooded(w, p, id, tsc, a);
}

/* Whether a descriptor has nothing that only Go handles, and room for the prefix. */
static inline int ordinary(const struct eesp_screen *s, const eesp_pkt *p)
{
	return p->flags <= 3 && s->prefix[p->flags] != NONE && p->headroom >= s->prefix[p->flags] && p->reserved == 0 &&
	       p->iov_count == 0 && p->data != NULL && p->len <= EESP_MAX_LEN;
}

/* Takes a packet that the plan does not cover: refuses it if it is not for this
 * receiver, and otherwise marks it as a stray. */
static NOINLINE void screened(const struct eesp_open_plan *w, eesp_pkt *p, struct refusals *a)
{
	const struct eesp_screen *s = &w->screen;
	eesp_status st;
	p->status = STRAY;
	if (!ordinary(s, p))
		return;
	st = screen(s, p);
	if (st == EESP_OK)
		return;
	p->id = p->tsc = 0;
	a->odd++;
	refuse(w, p, st, domain_of(w, p), a);
}

/* Whether a Sub SA's key is here. Forged packets name ever new ones, so this is one
 * bit for each, in front of the places (keys.Subs): all bits fit in the first-level
 * cache. */
static inline int sub_here(const uint32_t *subs, uint64_t id)
{
	return __atomic_load_n(subs - 1 - id / 32, __ATOMIC_ACQUIRE) >> id % 32 & 1;
}

/* What is added to the nonces of a Sub SA's packets. */
static inline const uint8_t *sub_salt(const uint8_t *area, uint32_t key)
{
#ifdef WIDE
	/* the same, in one instruction */
	return area + SUB_MASK + _pdep_u64(key, ~(uint64_t)(SUB_QUAD - 1) | 3 * SUB_LANE);
#else
	return area + key / 4 * SUB_QUAD + SUB_MASK + key % 4 * SUB_LANE;
#endif
}

/* How many derivations of new Sub SAs' keys Go may still begin in this burst. */
struct strangers {
	int known;
	uint64_t left, last; /* last: the ID of the last one */
	const struct eesp_pattern *none; /* for this pattern there is none left */
};

static uint64_t coarse_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static uint64_t strangers_left(const struct eesp_open_plan *w)
{
	uint64_t had = MOST_STRANGE + (coarse_ns() >> 18) +
		       __atomic_load_n(&w->by[-EESP_ERR_FLOODED], __ATOMIC_RELAXED) / REFUSED_EACH +
		       __atomic_load_n(&w->strangers->refused, __ATOMIC_RELAXED);
	uint64_t spent = __atomic_load_n(&w->strangers->spent, __ATOMIC_RELAXED);
	return had <= spent ? 0 : had - spent < MOST_STRANGE ? had - spent : MOST_STRANGE;
}

/* Whether there is no room for further Sub SAs' keys: then they are derived for each packet. */
static inline int subs_full(const struct eesp_pattern *pt)
{
	return __atomic_load_n(&pt->subs[pt->sub_count], __ATOMIC_RELAXED) != 0;
}

/* Whether Go may derive the key of a packet that is not here yet. strangers of
 * internal/burst says why this is limited, and counts failures. */
static NOINLINE int new_here(const struct eesp_open_plan *w, const struct eesp_pattern *pt, uint64_t id,
			     struct strangers *s)
{
	if (subs_full(pt))
		return 1;
	if (!s->known) {
		s->left = strangers_left(w);
		s->last = UINT64_MAX;
		s->known = 1;
	}
	if (s->last == id)
		return 1;
	if (s->left == 0) {
		s->none = pt;
		return 0;
	}
	s->left--;
	s->last = id;
	return 1;
}

/* -- Replay windows: internal/replay says why this is right. -- */

enum { NUMBER_BITS = 23 };
#define HIDDEN UINT32_MAX

/* The place of a flow's address: in the descriptor, or in the AAD, of which the job has its own copy. */
static inline const uint8_t *flow_addr(const struct lane *l, const struct eesp_layout *s)
{
	const eesp_job *j = (const eesp_job *)((const uint8_t *)l - CHUNK * sizeof *j); /* see open_some */
	return (s->flow_desc ? (const uint8_t *)&l->p->addr : (const uint8_t *)j->aad + s->prefix) + s->flow_at;
}

static inline void flow_of(struct eesp_flow *f, const struct lane *l)
{
	const struct eesp_layout *s = l->pattern->form;
	f->who[0] = l->pattern->name[0];
	f->who[1] = l->pattern->name[1];
	f->who[2] = l->id;
	f->who[3] = l->who;
	const uint8_t *from = flow_addr(l, s);
	memset(f->addr, 0, sizeof f->addr);
	if (s->flow_len == 4)
		memcpy(f->addr, from, 4);
	else
		blocks((uint8_t *)f->addr, from, s->flow_len);
}

/* replay.Seeds.Hash. s: NULL if no address belongs to the key. high: the part of zeros as an address's second half. */
static inline uint64_t flow_hash(const uint64_t seed[8], uint64_t no_addr, uint64_t high, const struct lane *l,
				 uint64_t id, uint64_t who, const struct eesp_layout *s)
{
	uint64_t addr = no_addr;
	if (s != NULL && s->flow_len != 0) { /* 4, 16 or 32 */
		const uint8_t *from = flow_addr(l, s);
		uint64_t x0 = 0, x1 = 0;
		if (s->flow_len == 4) {
			memcpy(&x0, from, 4);
		} else {
			x0 = raw64(from);
			x1 = raw64(from + 8);
		}
		if (UNLIKELY(s->flow_len == 32))
			high = times_mix(raw64(from + 16) ^ seed[6], raw64(from + 24) ^ seed[7]);
		addr = times_mix(x0 ^ seed[4], x1 ^ seed[5]) ^ high;
	}
	return times_mix(id ^ seed[2] ^ l->pattern->hash, who ^ seed[3] ^ addr);
}

static inline uint8_t *window_at(const struct eesp_windows *t, uint32_t entry)
{
	return t->windows + (uint64_t)((entry & ((1u << NUMBER_BITS) - 1)) - 1) * t->stride;
}

static inline uint64_t *window_top(uint8_t *w) { return (uint64_t *)(w + WINDOW_TOP); }

static inline uint64_t *window_word(const struct eesp_windows *t, uint8_t *w, uint64_t seq)
{
	uint64_t block = seq >> 4, q = (uint64_t)((unsigned __int128)block * t->recip >> 64) >> t->shift;
	return (uint64_t *)(w + WINDOW_WORDS) + (block - q * t->n);
}

/* Whether a window belongs to the packet's context. Windows of one Kind have addresses of one length. */
static inline int window_is(const struct eesp_windows *t, const uint8_t *w, const struct lane *l, const int flows)
{
	const struct eesp_layout *s = l->pattern->form;
	v16 d = (load16(w) ^ load16(l->pattern->name)) | (load16(w + 16) ^ load16(&l->id));
	if (flows && s->flow_len != 0) {
		const uint8_t *from = flow_addr(l, s);
		v16 addr = { 0 };
		if (s->flow_len == 4)
			memcpy(&addr, from, 4);
		else
			addr = load16(from);
		d |= load16(w + WINDOW_ADDR) ^ addr;
		if (s->flow_len == 32)
			d |= load16(w + WINDOW_WORDS + t->n * 8) ^ load16(from + 16);
	}
	return !any16(d);
}

/* Finds a packet's window. NULL may be wrong while entries move: Insert makes sure. */
static NOINLINE uint8_t *window_of(const struct eesp_windows *t, const struct lane *l)
{
	uint64_t at = l->hash & t->mask;
	uint32_t tag = (uint32_t)(l->hash >> (32 + NUMBER_BITS));
	for (;; at = (at + 1) & t->mask) {
		uint32_t e = __atomic_load_n(&t->index[at], __ATOMIC_ACQUIRE);
		if (e == 0)
			return NULL;
		if (e >> NUMBER_BITS == tag && e != HIDDEN && window_is(t, window_at(t, e), l, 1))
			return window_at(t, e);
	}
}

/* Finds a lane's window and its word. Returns 0 if there is none. */
static inline int find_window(const struct eesp_windows *t, struct lane *l)
{
	l->window = window_of(t, l);
	if (l->window == NULL)
		return 0;
	l->word = window_word(t, l->window, l->seq);
	return 1;
}

/* The word of a number's block that has this number only. */
static inline uint64_t mark_of(uint64_t seq) { return (seq >> 4 << 16) | UINT64_C(1) << (seq & 15); }

enum verdict { FRESH, DUPLICATE, OLD };

static inline enum verdict window_check(const struct eesp_windows *t, const struct lane *l)
{
	uint64_t top = __atomic_load_n(window_top(l->window), __ATOMIC_RELAXED), seq = l->seq;
	if (LIKELY(seq > top))
		return FRESH;
	if (top - seq >= t->width)
		return OLD;
	uint64_t x = __atomic_load_n(l->word, __ATOMIC_RELAXED), y = seq >> 4 << 16;
	return (x ^ y) >> 16 == 0 && (x >> (seq & 15) & 1) != 0 ? DUPLICATE : FRESH;
}

/* Commits where only this thread ever used the windows, without locked operations. */
static inline enum verdict commit_alone(const struct eesp_windows *t, const struct lane *l)
{
	uint64_t *top = window_top(l->window), seq = l->seq, bit = UINT64_C(1) << (seq & 15);
	uint64_t was = __atomic_load_n(top, __ATOMIC_RELAXED), x = __atomic_load_n(l->word, __ATOMIC_RELAXED),
		 y = seq >> 4 << 16;
	if (LIKELY(seq > was))
		__atomic_store_n(top, seq, __ATOMIC_RELAXED);
	else if (was - seq >= t->width)
		return OLD;
	if ((x ^ y) >> 16 == 0) {
		if (x & bit)
			return DUPLICATE;
		y = x;
	}
	__atomic_store_n(l->word, y | bit, __ATOMIC_RELAXED);
	return FRESH;
}

static inline enum verdict commit_shared(const struct eesp_windows *t, const struct lane *l)
{
	uint64_t *top = window_top(l->window), seq = l->seq, bit = UINT64_C(1) << (seq & 15);
	uint64_t was = __atomic_load_n(top, __ATOMIC_SEQ_CST), x;
	while (seq > was && !__atomic_compare_exchange_n(top, &was, seq, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		;
	x = __atomic_load_n(l->word, __ATOMIC_SEQ_CST); /* before top */
	for (;;) {
		uint64_t y = seq >> 4 << 16, now = __atomic_load_n(top, __ATOMIC_SEQ_CST);
		if (now - seq >= t->width)
			return OLD;
		if ((x ^ y) >> 16 == 0) {
			if (x & bit)
				return DUPLICATE;
			y = x;
		}
		if (__atomic_compare_exchange_n(l->word, &x, y | bit, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
			return FRESH;
	}
}

/* Refuses and counts a packet that is not new. */
static NOINLINE void not_fresh(struct eesp_windows *t, enum verdict v, const struct lane *l,
			       const struct eesp_open_plan *w, uint64_t number)
{
	__atomic_fetch_add(v == OLD ? &t->old : &t->duplicate, 1, __ATOMIC_RELAXED);
	refuse_known(l->p, EESP_ERR_REPLAY, w, number, l->pattern);
}

#define SEVERAL UINT64_MAX
#define BECOMING (UINT64_MAX - 1)

#ifndef WIDE
/* Begin of replay.Sole, when it is not this thread's already. */
static NOINLINE int sole_begin_slowly(struct eesp_sole *t, uint64_t number)
{
	for (;;) {
		uint64_t o = __atomic_load_n(&t->owner, __ATOMIC_SEQ_CST);
		if (o == SEVERAL)
			return 0;
		if (o == 0 || o == number) {
			if (o == 0 &&
			    !__atomic_compare_exchange_n(&t->owner, &o, number, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
				continue;
			__atomic_exchange_n(&t->busy, 1, __ATOMIC_SEQ_CST);
			if (__atomic_load_n(&t->owner, __ATOMIC_SEQ_CST) == number)
				return 1;
			__atomic_exchange_n(&t->busy, 0, __ATOMIC_SEQ_CST);
		} else if (o != BECOMING) {
			__atomic_compare_exchange_n(&t->owner, &o, BECOMING, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
		} else if (__atomic_load_n(&t->busy, __ATOMIC_SEQ_CST) == 0) {
			__atomic_compare_exchange_n(&t->owner, &o, SEVERAL, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
		} else { /* the owner may need this CPU */
			struct timespec some = { 0, 10000 };
			nanosleep(&some, NULL);
		}
	}
}

static inline int sole_begin(struct eesp_sole *t, uint64_t number)
{
	uint64_t o = __atomic_load_n(&t->owner, __ATOMIC_RELAXED);
	if (o == SEVERAL)
		return 0;
	if (LIKELY(o == number)) {
		__atomic_exchange_n(&t->busy, 1, __ATOMIC_SEQ_CST);
		if (LIKELY(__atomic_load_n(&t->owner, __ATOMIC_SEQ_CST) == number))
			return 1;
		__atomic_exchange_n(&t->busy, 0, __ATOMIC_SEQ_CST);
	}
	return sole_begin_slowly(t, number);
}

static inline void sole_end(struct eesp_sole *t, int alone)
{
	if (alone)
		__atomic_store_n(&t->busy, 0, __ATOMIC_RELEASE);
}
#endif

/* A packet's number in its window, unless it is numbered, and the hash of the window's key. */
static inline void number_lane(const struct eesp_open_plan *w, struct lane *l, uint64_t high, int numbered)
{
	const struct eesp_windows *t = w->windows;
	if (!numbered)
		l->seq = (l->seq & w->split.mask) >> w->split.shift;
	l->hash = flow_hash(t->seed, t->no_addr, high, l, l->id, l->who, l->pattern->form);
}

/* Finds what most probably is a packet's window, and asks for its lines, so that cache misses overlap. */
static inline void ask_window(const struct eesp_windows *t, struct lane *l)
{
	uint64_t at = l->hash & t->mask;
	const uint32_t tag = (uint32_t)(l->hash >> (32 + NUMBER_BITS));
	uint32_t e = __atomic_load_n(&t->index[at], __ATOMIC_ACQUIRE);
	while (UNLIKELY(e >> NUMBER_BITS != tag || e == HIDDEN) && e != 0)
		e = __atomic_load_n(&t->index[++at & t->mask], __ATOMIC_ACQUIRE);
	l->window = NULL;
	if (LIKELY(e != 0)) {
		l->window = window_at(t, e);
		l->word = window_word(t, l->window, l->seq);
		FETCH_TO_WRITE(l->window);
		FETCH_TO_WRITE(l->word);
		__builtin_prefetch(l->window + (l->pattern->form->flow_len == 32 ? WINDOW_WORDS + t->n * 8 : 0));
	}
}

/* Checks the windows of n lanes. It removes lanes and jobs of packets that are not new, and returns how many remain.
 * numbered: seqs are not TSCs any more. */
static NOINLINE size_t check_windows(const struct eesp_open_plan *w, uint64_t number, struct lane *lanes,
				     eesp_job *jobs, size_t n, int numbered)
{
	struct eesp_windows *t = w->windows;
	const uint64_t high = times_mix(t->seed[6], t->seed[7]);
	uint32_t old = 0;
	size_t m = 0;
	for (struct lane *l = lanes; l < lanes + n; l++) {
		number_lane(w, l, high, numbered);
		__builtin_prefetch(&t->index[l->hash & t->mask]);
	}
	for (struct lane *l = lanes; l < lanes + n; l++)
		ask_window(t, l);
	for (struct lane *l = lanes; l < lanes + n; l++) {
		if (UNLIKELY(l->window == NULL))
			continue;
		if (UNLIKELY(!window_is(t, l->window, l, 1)) && !find_window(t, l))
			continue;
		enum verdict v = window_check(t, l);
		l->hash = mark_of(l->seq);
		if (UNLIKELY(v != FRESH)) {
			not_fresh(t, v, l, w, number);
			old |= UINT32_C(1) << (l - lanes);
		}
	}
	if (LIKELY(old == 0))
		return n;
	for (size_t i = 0; i < n; i++)
		if ((old >> i & 1) == 0) {
			lanes[m] = lanes[i];
			jobs[m++] = jobs[i];
		}
	return m;
}

#ifdef WIDE
/* The high halves of products; *low gets the low ones. */
static inline __m512i product8(__m512i a, __m512i b, __m512i *low)
{
	const __m512i half = _mm512_set1_epi64(UINT32_MAX);
	const __m512i a1 = _mm512_srli_epi64(a, 32), b1 = _mm512_srli_epi64(b, 32);
	const __m512i p = _mm512_mul_epu32(a, b);
	const __m512i q = _mm512_add_epi64(_mm512_mul_epu32(a1, b), _mm512_srli_epi64(p, 32));
	const __m512i r = _mm512_add_epi64(_mm512_mul_epu32(a, b1), _mm512_and_si512(q, half));
	*low = _mm512_mullo_epi64(a, b);
	return _mm512_add_epi64(_mm512_mul_epu32(a1, b1),
				_mm512_add_epi64(_mm512_srli_epi64(q, 32), _mm512_srli_epi64(r, 32)));
}

static inline __m512i mix8(__m512i a, __m512i b) /* times_mix */
{
	__m512i low, high = product8(a, b, &low);
	return _mm512_xor_si512(low, high);
}

/* 32 octets of two lanes. */
static inline __m512i two(const void *at)
{
	return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256(at)),
				  _mm256_loadu_si256((const __m256i *)((const struct lane *)at + 1)), 1);
}

static inline void store_two(void *at, __m512i x)
{
	_mm256_storeu_si256(at, _mm512_castsi512_si256(x));
	_mm256_storeu_si256((__m256i *)((struct lane *)at + 1), _mm512_extracti64x4_epi64(x, 1));
}

/* The addresses of lanes 0, 1, 4 and 5. at: where lane or job 0 has the pointer that they lie behind by off. */
static inline __m512i addresses(const uint8_t *at, size_t off)
{
	const uint8_t *p0, *p1, *p4, *p5;
	memcpy(&p0, at, sizeof p0);
	memcpy(&p1, at + sizeof(struct lane), sizeof p1);
	memcpy(&p4, at + 4 * sizeof(struct lane), sizeof p4);
	memcpy(&p5, at + 5 * sizeof(struct lane), sizeof p5);
	__m512i x = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)(p0 + off)));
	x = _mm512_inserti64x2(x, _mm_loadu_si128((const __m128i *)(p1 + off)), 1);
	x = _mm512_inserti64x2(x, _mm_loadu_si128((const __m128i *)(p4 + off)), 2);
	return _mm512_inserti64x2(x, _mm_loadu_si128((const __m128i *)(p5 + off)), 3);
}

/* An entry of the index, as __atomic_load_n with __ATOMIC_ACQUIRE. */
static inline __m128i entry(const uint32_t *index, uint64_t at)
{
	__m128i x;
	__asm__("vmovd %1, %0" : "=x"(x) : "m"(index[at]));
	return x;
}

/* What check_windows does, for lanes of one pattern, eight at a time, and in few instructions if all are
 * newer than what their windows have. */
static NOINLINE size_t find_windows(const struct eesp_open_plan *w, uint64_t number, struct lane *lanes, eesp_job *jobs,
				    size_t n)
{
	const struct eesp_windows *const t = w->windows;
	const struct eesp_pattern *const pt = lanes[0].pattern;
	const struct eesp_layout *const s = pt->form;
	const size_t len = s->flow_len;
	for (size_t i = n; i % 8 != 0; i++) {
		lanes[i] = lanes[n - 1];
		jobs[i].aad = jobs[n - 1].aad;
	}
	/* Behind an address of four octets, and where there is none, others are read, and masked. */
	const uint8_t *const from = s->flow_desc ? (const uint8_t *)&lanes[0].p : (const uint8_t *)&jobs[0].aad;
	const size_t off = len == 0 ? 0 : (size_t)s->flow_at + (s->flow_desc ? offsetof(eesp_pkt, addr) : s->prefix);
	const __m128i of_addr = _mm_maskz_set1_epi8((__mmask16)((1u << len) - 1), -1);
	const __m512i masks = _mm512_broadcast_i32x4(of_addr);
#define ALL(x) _mm512_set1_epi64((int64_t)(x))
	const __m512i seed2 = ALL(t->seed[2] ^ pt->hash), seed3 = ALL(t->seed[3]), seed4 = ALL(t->seed[4]),
		      seed5 = ALL(t->seed[5]), high = ALL(times_mix(t->seed[6], t->seed[7]));
	const __m512i split = ALL(w->split.mask), mask = ALL(t->mask), recip = ALL(t->recip), blocks = ALL(t->n),
		      stride = ALL(t->stride), windows = ALL((uintptr_t)t->windows);
	const __m512i half = ALL(UINT32_MAX), one = ALL(1), bits = ALL(15);
	const __m512i number_mask = ALL((1 << NUMBER_BITS) - 1), number_end = ALL((1 << NUMBER_BITS) - 2);
	const __m512i lower = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11),
		      upper = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
	const __m128i shift = _mm_cvtsi64_si128(w->split.shift), recip_shift = _mm_cvtsi64_si128((int64_t)t->shift);
	const uint32_t *const index = t->index;
	__m512i hashes[CHUNK / 8], numbers[CHUNK / 8], slots[CHUNK / 8], marks[CHUNK / 8];
	uint64_t places[CHUNK] __attribute__((aligned(64)));
	uint32_t others = 0;
	int usual = 1;
	/* In two loops, since in one, operations that wait for others would fill the processor's queues. Vectors are in
	 * this order: lanes 0, 2, 1, 3, 4, 6, 5 and 7. */
	for (size_t i = 0; i < n; i += 8) {
		const struct lane *const l = &lanes[i];
		const __m512i a = two(&l[0].seq), b = two(&l[2].seq), c = two(&l[4].seq), d = two(&l[6].seq);
		const __m512i ab = _mm512_unpacklo_epi64(a, b), cd = _mm512_unpacklo_epi64(c, d);
		const __m512i tsc = _mm512_shuffle_i64x2(ab, cd, 0x88), id = _mm512_shuffle_i64x2(ab, cd, 0xdd);
		const __m512i who =
			_mm512_shuffle_i64x2(_mm512_unpackhi_epi64(a, b), _mm512_unpackhi_epi64(c, d), 0xdd);
		const __m512i seq = _mm512_srl_epi64(_mm512_and_si512(tsc, split), shift);
		__m512i addr = ALL(t->no_addr), low;
		if (len != 0) {
			const uint8_t *at = from + i * sizeof *l;
			const __m512i x = _mm512_and_si512(addresses(at, off), masks),
				      y = _mm512_and_si512(addresses(at + 2 * sizeof *l, off), masks);
			addr = mix8(_mm512_xor_si512(_mm512_unpacklo_epi64(x, y), seed4),
				    _mm512_xor_si512(_mm512_unpackhi_epi64(x, y), seed5));
			addr = _mm512_xor_si512(addr, high);
		}
		const __m512i hash =
			mix8(_mm512_xor_si512(id, seed2), _mm512_xor_si512(_mm512_xor_si512(who, seed3), addr));
		const __m512i block = _mm512_srli_epi64(seq, 4);
		const __m512i bit = _mm512_sllv_epi64(one, _mm512_and_si512(seq, bits));
		const __m512i q = _mm512_srl_epi64(product8(block, recip, &low), recip_shift);
		_mm512_store_si512(places + i, _mm512_and_si512(hash, mask));
		hashes[i / 8] = hash;
		numbers[i / 8] = seq;
		/* the low halves suffice */
		slots[i / 8] = _mm512_and_si512(_mm512_sub_epi64(block, _mm512_mul_epu32(q, blocks)), half);
		marks[i / 8] = _mm512_or_si512(_mm512_slli_epi64(block, 16), bit);
	}
	__asm__("" : "+m"(places)); /* extracting them from vectors takes longer */
#pragma GCC unroll 4
	for (size_t i = 0; i < n; i++)
		__builtin_prefetch(&index[places[i]]);
	for (size_t i = 0; i < n; i += 8) {
		struct lane *const l = &lanes[i];
		const uint64_t *const at = places + i;
		const __m512i hash = hashes[i / 8], seq = numbers[i / 8];
		const __m128i e0 = _mm_unpacklo_epi32(entry(index, at[0]), entry(index, at[1])),
			      e2 = _mm_unpacklo_epi32(entry(index, at[2]), entry(index, at[3])),
			      e4 = _mm_unpacklo_epi32(entry(index, at[4]), entry(index, at[5])),
			      e6 = _mm_unpacklo_epi32(entry(index, at[6]), entry(index, at[7]));
		const __m512i e = _mm512_cvtepu32_epi64(_mm256_inserti128_si256(
			_mm256_castsi128_si256(_mm_unpacklo_epi64(e0, e2)), _mm_unpacklo_epi64(e4, e6), 1));
		const __m512i which = _mm512_sub_epi64(_mm512_and_si512(e, number_mask), one);
		const __mmask8 tag = _mm512_cmpeq_epi64_mask(_mm512_srli_epi64(e, NUMBER_BITS),
							     _mm512_srli_epi64(hash, 32 + NUMBER_BITS));
		/* another key's, HIDDEN or 0 */
		others |= (_mm512_mask_cmplt_epu64_mask(tag, which, number_end) ^ UINT32_C(0xff)) << i;
		const __m512i window = _mm512_add_epi64(windows, _mm512_mul_epu32(which, stride)), mark = marks[i / 8];
		const __m512i word = _mm512_add_epi64(_mm512_add_epi64(window, ALL(WINDOW_WORDS)),
						      _mm512_slli_epi64(slots[i / 8], 3));
		const __m512i x = _mm512_unpacklo_epi64(window, word), y = _mm512_unpackhi_epi64(window, word),
			      u = _mm512_unpacklo_epi64(seq, mark), v = _mm512_unpackhi_epi64(seq, mark);
		store_two(&l[0].window, _mm512_permutex2var_epi64(x, lower, u));
		store_two(&l[4].window, _mm512_permutex2var_epi64(x, upper, u));
		store_two(&l[2].window, _mm512_permutex2var_epi64(y, lower, v));
		store_two(&l[6].window, _mm512_permutex2var_epi64(y, upper, v));
#pragma GCC unroll 8
		for (size_t k = 0; k < 8; k++)
			FETCH_TO_WRITE(l[k].word); /* the window itself is read below, 32 lanes at a time */
	}
#undef ALL
	for (; UNLIKELY(others != 0); others &= others - 1) {
		static const uint8_t lane_at[8] = { 0, 2, 1, 3, 4, 6, 5, 7 };
		const size_t at = (size_t)__builtin_ctz(others);
		struct lane *l = &lanes[at / 8 * 8 + lane_at[at % 8]];
		memcpy(&l->hash, (const uint8_t *)hashes + at * sizeof l->hash, sizeof l->hash);
		ask_window(t, l);
		usual &= l->window != NULL;
		l->hash = mark_of(l->seq);
	}
	if (LIKELY(usual)) {
		const __m256i name = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)pt->name));
		__m256i differ = _mm256_setzero_si256(), differ2 = differ;
		/* whether all are: the bit of the word with their numbers */
		__mmask8 newer[2] = { 4, 4 };
#pragma GCC unroll 2
		for (size_t i = 0; i < n; i += 2)
#pragma GCC unroll 2
		for (size_t k = i; k < i + 2; k++) {
			const struct lane *l = &lanes[k];
			const uint8_t *p;
			memcpy(&p, from + k * sizeof *l, sizeof p);
			const __m256i x = _mm256_loadu_si256((const __m256i *)&l->seq);
			const __m256i addr = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(p + off)));
			const __m256i y = _mm256_inserti128_si256(addr, _mm256_castsi256_si128(x), 1);
			const __m256i first = _mm256_loadu_si256((const __m256i *)l->window);
			const __m256i second = _mm256_loadu_si256((const __m256i *)(l->window + WINDOW_ADDR));
			differ = _mm256_ternarylogic_epi64(differ, _mm256_blend_epi32(name, x, 0xf0), first, 0xf6);
			differ2 = _mm256_ternarylogic_epi64(differ2, y, second, 0xf6);
			newer[k - i] = _mm256_mask_cmplt_epu64_mask(newer[k - i], second, y);
		}
		const __m128i addrs = _mm_and_si128(_mm256_castsi256_si128(differ2), of_addr);
		if (LIKELY((newer[0] & newer[1]) != 0 && _mm256_testz_si256(differ, differ) &&
			   _mm_testz_si128(addrs, addrs)))
			return n;
	}
	return check_windows(w, number, lanes, jobs, n, 1);
}
#endif

/* Refuses a packet whose payload does not fit. If it is not new, that is its status. */
static NOINLINE void refuse_room(const struct eesp_open_plan *w, uint64_t number, struct lane *l)
{
	struct eesp_windows *t = w->windows;
	enum verdict v = FRESH;
	if (t != NULL) {
		number_lane(w, l, times_mix(t->seed[6], t->seed[7]), 0);
		if (find_window(t, l))
			v = window_check(t, l);
	}
	if (v != FRESH)
		not_fresh(t, v, l, w, number);
	else
		refuse_known(l->p, EESP_ERR_ROOM, w, number, l->pattern);
}

/* Commits an authentic packet, whose window may have to be made. */
static NOINLINE int commit_slowly(const struct eesp_fast_path *fp, const struct eesp_open_plan *w, struct lane *l,
				  int alone)
{
	struct eesp_windows *t = w->windows;
	if (UNLIKELY(l->window == NULL)) {
		struct eesp_flow f;
		flow_of(&f, l);
		l->window = (uint8_t *)eespGoWindow(fp->object, &f);
		if (l->window == NULL) {
			refuse_known(l->p, EESP_ERR_WINDOWS, w, fp->view->number, l->pattern);
			return 0;
		}
		l->word = window_word(t, l->window, l->seq);
	}
	enum verdict v = alone ? commit_alone(t, l) : commit_shared(t, l);
	if (LIKELY(v == FRESH))
		return 1;
	not_fresh(t, v, l, w, fp->view->number);
	return 0;
}

/* The same, with the usual case inline: the packet is newer than all before, and no
 * other thread uses the windows. */
static inline int commit(const struct eesp_fast_path *fp, const struct eesp_open_plan *w, struct lane *l, int alone)
{
	uint64_t *top = window_top(l->window), seq = l->seq, y = l->hash;
	if (UNLIKELY(!alone || l->window == NULL || seq <= __atomic_load_n(top, __ATOMIC_RELAXED)))
		return commit_slowly(fp, w, l, alone);
	uint64_t x = __atomic_load_n(l->word, __ATOMIC_RELAXED);
	__atomic_store_n(top, seq, __ATOMIC_RELAXED);
	__atomic_store_n(l->word, ((x ^ y) >> 16 == 0 ? x : 0) | y, __ATOMIC_RELAXED);
	return 1;
}

/* -- Times: times.h. -- */

#define TICK_BITS 28 /* fresh.TickBits */
enum { OWN = 1, WINDOWS, TIMES }; /* extras of a plan: own IDs, windows, times; the latter two may come with own IDs */

static const eesp_status time_statuses[] = {
	[TIME_DUPLICATE] = EESP_ERR_REPLAY, [TIME_STALE] = EESP_ERR_STALE,     [TIME_EARLY] = EESP_ERR_EARLY,
	[TIME_FULL] = EESP_ERR_FULL,	     [TIME_UNMARKED] = EESP_ERR_STATE,
};

enum { NOT_NEW = 2 }; /* a job's ok is NOT_NEW plus the verdict if its packet is authentic but refused */

/* Commits an authentic packet. With times, a lane's window is the first word of the
 * packet's slice, and its seq the word to be written. */
static inline __attribute__((always_inline)) int commit_time(const struct eesp_open_plan *w, uint64_t number,
							     const struct lane *l, struct times_pass *pass, int alone)
{
	enum times_verdict v = times_commit(w->times, pass, (uint64_t *)l->window, l->word, l->seq, l->p->tsc, alone);
	if (LIKELY(v == TIME_FRESH))
		return 1;
	refuse_known(l->p, time_statuses[v], w, number, l->pattern);
	return 0;
}

/* Commits the authentic packets of up to CHUNK one directly after the other, since a locked operation
 * waits for all earlier writes. Refused ones get NOT_NEW plus their verdict as ok. Returns the floor,
 * read after the last word was written: packets below it must not be delivered. */
static inline __attribute__((always_inline)) uint64_t commit_times(const struct eesp_open_plan *w,
								   const struct lane *lanes, eesp_job *jobs, size_t m,
								   int alone)
{
	struct eesp_times *const t = w->times;
	for (size_t i = 0; i < m; i++) {
		const struct lane *l = &lanes[i];
		if (LIKELY(jobs[i].ok == 1)) {
			enum times_verdict v = times_insert(t, (uint64_t *)l->window, l->word, l->seq, alone);
			if (UNLIKELY(v != TIME_FRESH)) {
				times_count(t, v);
				jobs[i].ok = NOT_NEW + v;
			}
		}
	}
	return times_floor(t);
}

/* Writes the further blocks of a KDF input, copies and the counter's part. */
static NOINLINE void input_more(uint8_t *to, const struct lane *l)
{
	const struct eesp_pattern *pt = l->pattern;
	const struct eesp_layout *s = pt->form;
	for (uint32_t b = 1; b < pt->blocks; b++)
		store16(to + 16 * b, load16(pt->more[b - 1]));
	for (uint32_t c = 0; c < s->copies; c++) {
		const uint8_t *from = s->copy[c].what == COPY_DESC ? (const uint8_t *)&l->p->addr : l->p->data;
		store16(to + s->copy[c].to, load16(from + s->copy[c].from));
	}
	if (s->rekey_mask != 0)
		rekeyed(to, s->rekey_at, l->p->tsc, s->rekey_mask, s->rekey_bits);
}

#ifdef WIDE
/* The octets of a descriptor that are the same in all usual packets of a layout: iov_count, flags, reserved; and the
 * highest octet of a pointer, which usually is 0. Layouts whose headers take two vectors ask for another octet there:
 * so they leave the usual way without a branch for it. */
static const uint8_t of_descriptor[64] = {
	[7] = 0xff, [22] = 0xff, [23] = 0xff, [60] = 0xff, [61] = 0xff, [63] = 0xff,
};
_Static_assert(offsetof(eesp_pkt, data) == 0 && offsetof(eesp_pkt, iov_count) == 22 &&
	       offsetof(eesp_pkt, flags) == 60 && offsetof(eesp_pkt, reserved) == 63, "of_descriptor");

enum { WHOLE = 3 }; /* simple of layouts with wide.whole, where it would be 0 */

/* Writes the further blocks of a KDF input, and returns what is added to the first one. */
static inline v16 further_blocks(uint8_t *to, const struct eesp_layout *s, const struct eesp_pattern *pt,
				 const eesp_pkt *p)
{
	const __m512i from = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)&p->addr));
	const __m512i at = _mm512_loadu_si512(s->wide.pick_addr);
	const __m512i addr = _mm512_maskz_permutexvar_epi8(s->wide.of_addr, at, from);
	store16(to + 16, load16(pt->more[0]) ^ (v16)_mm512_castsi512_si128(addr));
	if (pt->blocks > 2)
		store16(to + 32, load16(pt->more[1]) ^ (v16)_mm512_extracti32x4_epi32(addr, 1));
	return (v16)_mm512_extracti32x4_epi32(addr, 2);
}
#endif

/* Octets of a header from source_at on, and from tail_at on. Somebody else may write there: so ID and TSC, which a
 * packet's window is found by, are taken from the octets that its nonce and KDF input are made of. */
struct ends { v16 source, tail; };

static inline struct ends ends_of(const uint8_t *source, const uint8_t *tail)
{
	struct ends e = { .source = load16(source) };
	e.tail = e.source;
	if (tail != source)
		e.tail = load16(tail);
	return e;
}

static inline uint64_t id_in(const struct ends *e, const struct eesp_layout *s)
{
	const size_t at = (size_t)(s->id_at - s->source_at);
	return get64((const uint8_t *)&e->source + (at <= 8 ? at : 0)) >> s->id_shift & s->id_mask;
}

static inline uint64_t tsc_in(const struct ends *e, const struct eesp_layout *s)
{
	return get64((const uint8_t *)&e->tail + ((s->tsc_at - s->tail_at) & 15));
}

/* Writes a packet's KDF input, anew. If the header has changed, it is one that no sender has. */
static inline EXECUTOR void input(uint8_t *to, const struct lane *l)
{
	const struct eesp_layout *s = l->pattern->form;
	const uint8_t *hdr = l->p->data;
	const struct ends e = ends_of(hdr + s->source_at, hdr + s->tail_at);
	v16 first = load16(l->pattern->msg) ^ pick(e.source, load16(s->msg_source)) ^
		    pick(e.tail, load16(s->msg_tail));
	if (UNLIKELY(id_in(&e, s) != l->p->id || tsc_in(&e, s) != l->p->tsc))
		first = ~first;
	store16(to, first);
	if (s->simple == 0)
		input_more(to, l);
	else if (s->rekey_mask != 0)
		rekeyed(to, s->rekey_at, l->p->tsc, s->rekey_mask, s->rekey_bits);
}

/* What a kernel has found. */
static inline void take_result(eesp_job *j, const eesp_job *from)
{
	j->ok = from->ok;
	memcpy(j->reserved, from->reserved, HEAD);
}

/* Derives the keys of n jobs, from inputs in msgs in their order, and adds what is derived for nonces to these. */
static NOINLINE void derive_for(const struct eesp_worker_view *view, const struct eesp_direct *d,
				const struct kdf_plan *k, uint8_t *keys, eesp_job *jobs, size_t n)
{
	derive_keys(view, d, k, n, keys);
	if (k->mask != 0)
		part(k, keys, n, NULL, jobs, n);
}

/* Decrypts jobs whose keys have different master keys or lengths. It derives keys of
 * one batch together, then runs all jobs of a key length together. */
static NOINLINE EXECUTOR void open_mixed(const struct eesp_worker_view *view, const struct eesp_open_plan *w,
					 struct lane *lanes, eesp_job *jobs, size_t n)
{
	const struct eesp_direct *d = w->direct;
	uint8_t done[CHUNK] = { 0 };
	for (size_t i = 0; i < n; i++) { /* first the expanded keys, one area at a time */
		const struct eesp_pattern *pt = lanes[i].pattern;
		eesp_job some[CHUNK], *sorted;
		uint8_t from[CHUNK];
		size_t m = 0;
		struct order o;
		if (pt->area == NULL || done[i])
			continue;
		for (size_t x = i; x < n; x++)
			if (lanes[x].pattern->batch == pt->batch) {
				some[m] = jobs[x];
				from[m++] = (uint8_t)x;
				done[x] = 1;
			}
		sorted = ordered(&o, some, m);
		run(view, d, pt->key_len == 32, SHARED, 0, pt->area, sorted, m);
		for (size_t x = 0; x < m; x++)
			take_result(&jobs[from[o.from[x]]], &sorted[x]);
	}
	for (uint32_t key_len = 16; key_len <= 32; key_len += 16) {
		eesp_job some[CHUNK], *sorted;
		uint8_t from[CHUNK], derived[CHUNK] = { 0 };
		size_t m = 0;
		struct order o;
		for (size_t i = 0; i < n; i++)
			if (lanes[i].pattern->key_len == key_len && !done[i]) {
				some[m] = jobs[i];
				from[m++] = (uint8_t)i;
			}
		if (m == 0)
			continue;
		sorted = ordered(&o, some, m);
		for (size_t i = 0; i < m; i++) {
			const struct eesp_pattern *pt = lanes[from[o.from[i]]].pattern;
			eesp_job theirs[CHUNK];
			struct kdf_plan k;
			uint8_t which[CHUNK];
			size_t u = 0;
			kdf_of(&k, pt);
			if (derived[i])
				continue;
			for (size_t x = i; x < m; x++) {
				const struct lane *l = &lanes[from[o.from[x]]];
				if (l->pattern->batch != pt->batch)
					continue;
				input(view->msgs + u * stride_of(&k), l);
				theirs[u] = sorted[x];
				which[u++] = (uint8_t)x;
				derived[x] = 1;
			}
			derive_for(view, d, &k, view->halves, theirs, u);
			for (size_t x = 0; x < u; x++) {
				sorted[which[x]] = theirs[x];
				blocks(view->keys + which[x] * key_len, view->halves + x * key_len, key_len);
			}
			explicit_bzero(view->halves, u * key_len);
		}
		run(view, d, key_len == 32, ONE_SHOT, 0, view->keys, sorted, m);
		explicit_bzero(view->keys, m * key_len);
		for (size_t i = 0; i < m; i++)
			jobs[from[o.from[i]]].ok = sorted[i].ok;
	}
}

/* unwrap for bodies that are IP packets. next: what their heads say. */
static NOINLINE int64_t unwrap_ip(uint8_t how, eesp_pkt *p, uint8_t next, const uint8_t *text, uint32_t len)
{
	uint8_t proto;
	const uint32_t n = ip_len(text, len, &proto);
	if (how == UNWRAP_INFO_IP)
		return len == 0 || n != len || proto != next ? EESP_ERR_PAYLOAD : (int64_t)len;
	if (n == 0 || n > len || len - n > 255)
		return EESP_ERR_PAYLOAD;
	p->next_header = proto;
	return n;
}

/* Opens a single packet with its pattern's key. */
static NOINLINE EXECUTOR void open_one(const struct eesp_worker_view *view, const struct eesp_open_plan *w,
				     const struct lane *l, eesp_job *j)
{
	static const uint8_t index[CHUNK];
	struct kdf_plan k;
	kdf_of(&k, l->pattern);
	input(view->msgs, l);
	derive_and_run(view, w->direct, &k, 1, index, 0, j, 1);
}

/* Tries the previous key for packets that are not authentic with their pattern's. */
static COLD NOINLINE EXECUTOR void try_previous(const struct eesp_worker_view *view, const struct eesp_open_plan *w,
					   struct lane *lanes, eesp_job *jobs, size_t n, struct times_pass *pass)
{
	for (size_t i = 0; i < n; i++) {
		struct lane *l = &lanes[i];
		const struct eesp_pattern *pt = l->pattern;
		const struct eesp_layout *s = pt->form;
		if (jobs[i].ok || pt->previous == NULL)
			continue;
		if (jobs[i].src == jobs[i].dst) /* kernels have decrypted it: once more gives the ciphertext */
			open_one(view, w, l, &jobs[i]);
		used(pt->usage, view->number, USAGE_OPENED, 0, pt->master, 1);
		l->pattern = pt->previous;
		open_one(view, w, l, &jobs[i]);
		if (w->windows != NULL) {
			const uint64_t *seed = w->windows->seed, high = times_mix(seed[6], seed[7]);
			l->hash = flow_hash(seed, w->windows->no_addr, high, l, l->id, l->who, s);
			find_window(w->windows, l);
			l->hash = mark_of(l->seq);
		}
		if (w->times != NULL) {
			const uint64_t tsc = l->p->tsc, who = (tsc >> 48 & s->epoch_mask) | pt->kind;
			const uint64_t *seed = w->times->seed, high = times_mix(seed[6], seed[7]);
			const uint64_t hash = flow_hash(seed, w->times->no_addr, high, l, l->p->id, who, s);
			l->word = times_place(w->times, pass, hash, tsc, tsc, &l->seq);
			l->window = (uint8_t *)pass->first;
		}
	}
}

/* Finds the payload in an authentic body: Opened of internal/profile. text is the body
 * behind its head, if it has one, and len its octets. Returns the payload's octets, or a
 * status, which is negative. */
static inline int64_t unwrap(uint8_t how, eesp_pkt *p, const uint8_t *head, const uint8_t *text, uint32_t len)
{
	if (UNLIKELY(how == UNWRAP_ONLY))
		return unwrap_ip(how, p, 0, text, len);
	const uint32_t whole = once32(head);
	uint8_t is[HEAD];
	memcpy(is, &whole, HEAD);
	if (UNLIKELY((is[0] | is[1]) != 0 || is[3] > len))
		return EESP_ERR_PAYLOAD;
	p->next_header = is[2];
	len -= is[3];
	if (UNLIKELY(is[2] == 59))
		return EESP_ERR_DUMMY;
	return UNLIKELY(how == UNWRAP_INFO_IP) ? unwrap_ip(how, p, is[2], text, len) : (int64_t)len;
}

/* Whether the head of a body went to its job, so that the payload is in its place
 * already. */
static inline int head_was_apart(const eesp_job *j, const eesp_pkt *p)
{
	return j->src != j->dst && (uintptr_t)j->dst + HEAD == (uintptr_t)p->dst;
}

/* The ID in a header of a layout. */
static inline uint64_t id_of(const struct eesp_layout *s, const uint8_t *hdr)
{
	return get64(hdr + s->id_at) >> s->id_shift & s->id_mask;
}

/* The layout that a header's first word and flags select, or NULL. */
static inline const struct eesp_layout *layout_of(const struct eesp_open_plan *w, const uint8_t *hdr, uint32_t flags)
{
	uint32_t word, k;
	memcpy(&word, hdr, 4);
	word = (word & w->word_mask) + flags * FLAGS_FACTOR;
	k = w->layout_by_word[word * w->word_factor >> 22];
	return k != 0 && w->layouts[k - 1].word == word ? &w->layouts[k - 1] : NULL;
}

static inline const struct eesp_layout *layout_by_word(const struct eesp_open_plan *w, const eesp_pkt *p)
{
	return p->data == NULL || p->len < 4 + ICV ? NULL : layout_of(w, p->data, p->flags);
}

/* Whether a header matches a pattern of its layout, from octet "from" on. */
static inline int equals(const uint8_t *hdr, const struct eesp_pattern *pt, const struct eesp_layout *s, size_t from)
{
	v16 d = { 0 };
	for (size_t c = from; c < 16u * s->vectors; c += 16)
		d |= (load16(hdr + c) ^ load16(pt->value + c)) & load16(s->mask + c);
	return !any16(d);
}

/* The pattern of its layout that a header matches, or NULL. */
static inline const struct eesp_pattern *pattern_of(const struct eesp_open_plan *w, const struct eesp_layout *s,
						    const uint8_t *hdr)
{
	const uint64_t probe = ((raw64(hdr + s->probe_at) & s->probe_mask) ^ s->word) * UINT64_C(0x9E3779B97F4A7C15);
	for (uint32_t at = w->bucket[probe >> w->bucket_shift]; at != 0;) {
		const struct eesp_pattern *pt = (const struct eesp_pattern *)((const uint8_t *)w->patterns + at);
		if (pt->form == s && equals(hdr, pt, s, 0))
			return pt;
		at = pt->next;
	}
	return NULL;
}

#ifndef WIDE
/* -- Odd headers: read as the profile's Parse in Go does, from a copy that becomes the AAD. -- */

/* Octets from the prefix on that are copied before an odd header is read: no less than what is read of one. */
enum { ODD_COPIED = 304, ODD_ROOM = ODD_COPIED + 16 };

/* What an odd header says. status is the packet's status; told: the descriptor gets the
 * header's fields. */
struct odd {
	const struct eesp_pattern *pattern;
	uint64_t id, tsc;
	uint32_t header, skip; /* skip: octets of the payload that are not authenticated */
	int32_t clear; /* octets of the payload in clear; negative: octets of the extension that are encrypted */
	uint8_t coffset, ioffset, next_header, told;
	eesp_status status;
	uint8_t *hdr; /* the header's copy */
	const struct eesp_pattern *last; /* of the packet before; NULL: none */
};

/* Sets the status of an odd header and returns s; NULL if it is 0: Go takes the packet. */
static inline const struct eesp_layout *odd_ends(struct odd *o, const struct eesp_layout *s, eesp_status st, int told)
{
	o->status = st;
	o->told = (uint8_t)told;
	return st != EESP_OK ? s : NULL;
}

static const struct eesp_layout *odd_extension(const struct eesp_open_plan *w, const eesp_pkt *p, struct odd *o)
{
	const uint8_t *hdr = o->hdr;
	const struct eesp_layout *s = layout_of(w, hdr, 0);
	if (s == NULL || p->len < (uint32_t)s->n + ICV)
		return NULL;
	const uint32_t more = once(hdr + s->more_at), begin = s->n + 4u * (once(hdr + s->clear_at) & s->clear_mask),
		       header = s->n + 8 * (more - 1);
	const eesp_status st = more < s->least_more ? EESP_ERR_HEADER_LEN : p->len < header + ICV ? EESP_ERR_SHORT
			       : p->len < begin + ICV		     ? EESP_ERR_OFFSET : EESP_OK;
	if (st != EESP_OK)
		return odd_ends(o, s, st, 0);
	o->header = p->flags == EESP_PKT_EXTENSION ? s->n : header; /* then the extension is part of the payload */
	o->clear = (int32_t)(s->all_clear ? p->len - ICV : begin) - (int32_t)o->header;
	o->coffset = s->all_clear || o->clear < 0 ? 0 : (uint8_t)(o->clear / 4);
	o->id = get64(hdr + s->id_at) >> s->id_shift & s->id_mask;
	o->tsc = get64(hdr + s->tsc_at);
	o->next_header = hdr[s->next_at];
	o->pattern = pattern_of(w, s, hdr);
	if (o->pattern == NULL || (o->id & s->id_need) == s->id_never)
		return odd_ends(o, s, s->missing, 1);
	return s;
}

/* Whether n octets are zeros. */
static int zeros(const uint8_t *b, size_t n)
{
	uint8_t any = 0;
	for (size_t i = 0; i < n; i++)
		any |= b[i];
	return any == 0;
}

enum { OPTION_PAD1 = 0, OPTION_PADN = 1, OPTION_COFFSET = 2, OPTION_FLOW = 3, OPTION_PRIVATE = 224, OPTION_KEY = 0xE0,
	LEVELS = 3 };

/* The place at which options that name keys end and padding begins; 0 if there are other
 * octets: parseOptions of internal/wire. */
static size_t key_options(const uint8_t *b, size_t at, size_t end)
{
	uint32_t next = OPTION_KEY;
	size_t names;
	while (end - at >= 4 && b[at] >= next && b[at] < OPTION_KEY + LEVELS) {
		const uint32_t size = b[at + 1] + 2u, pad = b[at + 3], id = size - 4 - pad;
		if (size > end - at || size % 4 != 0 || pad > 3 || id - 16 > 16 || !zeros(b + at + 4 + id, pad))
			return 0;
		next = b[at] + 1u;
		at += size;
	}
	names = at;
	if (end - at >= 8)
		return 0;
	while (at < end) {
		size_t size = 1;
		if (b[at] != OPTION_PAD1) {
			if (b[at] != OPTION_PADN || end - at < 2 || b[at + 1] + 2u > end - at ||
			    !zeros(b + at + 2, b[at + 1]))
				return 0;
			size = b[at + 1] + 2u;
		}
		at += size;
	}
	return names;
}

/* Whether a header, but for its offsets, matches a pattern, which is that of the packet before. begin is its first
 * block without them. */
static inline int as_before(const uint8_t *hdr, v16 begin, const struct eesp_pattern *pt)
{
	const struct eesp_layout *s = pt->form;
	v16 d = (begin ^ load16(pt->value)) & load16(s->mask);
	for (size_t c = 16; c < 16u * s->vectors; c += 16)
		d |= (load16(hdr + c) ^ load16(pt->value + c)) & load16(s->mask + c);
	return !any16(d);
}

/* Finds the key that a header names, as a sender here would write it. */
static inline const struct eesp_layout *named(const struct eesp_open_plan *w, const eesp_pkt *p,
					      const uint8_t *as_written, struct odd *o)
{
	const struct eesp_layout *s = layout_of(w, as_written, 0);
	o->pattern = s != NULL ? pattern_of(w, s, as_written) : NULL;
	if (o->pattern != NULL && o->pattern->area != NULL && memcmp(&p->addr, o->pattern->addr, s->flow_len) != 0)
		o->pattern = NULL;
	return s;
}

static const struct eesp_layout *odd_keys(const struct eesp_open_plan *w, const eesp_pkt *p, struct odd *o)
{
	static const uint8_t but_offsets[16] = { 255, 255, 0,   0,   255, 255, 255, 255,
						 255, 255, 255, 255, 255, 255, 255, 255 };
	const uint8_t *hdr = o->hdr;
	const v16 begin = load16(hdr);
	const size_t n = 8 * (1 + (begin[0] & 15u)), at = w->screen.third_at[begin[1]], left = p->len - n - ICV;
	uint8_t as_written[PLAN_HEADER + 16];
	if (at == 0 || n < at + 8 || p->len < n + ICV) /* it is not what screen has read */
		return NULL;
	if (at == n - 8 && w->missing_bare == 0)
		return NULL;
	const v16 first = begin & load16(but_offsets);
	const struct eesp_layout *s;
	if (LIKELY(o->last != NULL && o->last->area == NULL && as_before(hdr, first, o->last))) {
		o->pattern = o->last;
		s = o->pattern->form;
		goto found;
	}
	store16(as_written, first);
	for (size_t b = 16; b < n; b += 16) { /* the last block has octets behind the header too */
		store16(as_written + b, load16(hdr + b));
		/* otherwise it becomes string instructions, which take long to begin */
		__asm__ volatile("" ::: "memory");
	}
	s = named(w, p, as_written, o);
	o->last = o->pattern;
	if (UNLIKELY(o->pattern == NULL && at < n - 8)) { /* perhaps with other padding */
		const size_t names = key_options(as_written, at, n - 8), pad = n - 8 - names;
		if (names == 0)
			return odd_ends(o, w->layouts, EESP_ERR_OPTION, 0);
		memset(as_written + names, 0, pad);
		if (pad >= 2) {
			as_written[names] = OPTION_PADN;
			as_written[names + 1] = (uint8_t)(pad - 2);
		}
		s = named(w, p, as_written, o);
		if (names == at && o->pattern == NULL && w->missing_bare == 0)
			return NULL;
	}
found:
	o->coffset = (uint8_t)(begin[2] << 4 | begin[3] >> 4);
	o->ioffset = begin[3] & 15;
	if (o->ioffset > o->coffset || 4u * o->coffset > left)
		return odd_ends(o, w->layouts, EESP_ERR_OFFSET, 0);
	o->header = (uint32_t)n;
	o->clear = 4 * o->coffset;
	o->skip = 4u * o->ioffset;
	if (o->pattern != NULL)
		return s;
	o->id = at == 12 ? get64(hdr + 4) : get64(hdr + 4) >> 32;
	o->tsc = get64(hdr + n - 8);
	return odd_ends(o, w->layouts, w->missing, 1);
}

/* The place of the Crypt Offset option's value; 0: there is none; SIZE_MAX: an option is
 * wrong: eespOptions of internal/wire. */
static size_t any_options(const uint8_t *b, size_t at, size_t end, int flow)
{
	size_t coffset = 0;
	while (at < end) {
		const uint8_t t = b[at];
		if (t == OPTION_PAD1) {
			at++;
			continue;
		}
		if (end - at < 2)
			return SIZE_MAX;
		const size_t len = once(b + at + 1);
		if (len > end - at - 2)
			return SIZE_MAX;
		if (t == OPTION_PADN	  ? !zeros(b + at + 2, len)
		    : t == OPTION_COFFSET ? len != 2 || coffset != 0
		    : t == OPTION_FLOW	  ? !flow
					  : t < OPTION_PRIVATE)
			return SIZE_MAX;
		if (t == OPTION_COFFSET)
			coffset = at + 2;
		if (t == OPTION_FLOW) /* at most one */
			flow = 0;
		at += 2 + len;
	}
	return coffset;
}

static const struct eesp_layout *odd_options(const struct eesp_open_plan *w, const eesp_pkt *p, struct odd *o)
{
	const uint8_t *hdr = o->hdr;
	const struct eesp_pattern *pt = NULL;
	const struct eesp_layout *s = w->layouts;
	for (size_t i = 0; pt == NULL && i < w->n_layouts; i++)
		pt = pattern_of(w, s = &w->layouts[i], hdr);
	if (pt == NULL)
		return odd_ends(o, s, w->missing, 0);
	const uint32_t more = once(hdr + 1), header = s->n + more,
		       id = (uint32_t)hdr[s->id_at] << 8 | hdr[s->id_at + 1];
	if (p->len < (uint32_t)s->n + s->inner + ICV)
		return odd_ends(o, s, EESP_ERR_SHORT, 0);
	if (more % 4 != 0)
		return odd_ends(o, s, EESP_ERR_HEADER_LEN, 0);
	if (p->len < header + s->inner + ICV)
		return odd_ends(o, s, EESP_ERR_SHORT, 0);
	const size_t at = any_options(hdr, 8, 8 + more, pt->flow);
	if (at == SIZE_MAX)
		return odd_ends(o, s, EESP_ERR_OPTION, 0);
	if (pt->subs != NULL && id >= pt->sub_count)
		return odd_ends(o, s, EESP_ERR_SESSION, 0);
	if (at != 0) {
		const uint32_t v = (uint32_t)once(hdr + at) << 8 | once(hdr + at + 1), offset = v >> 4 & 63;
		if (pt->most_clear == 0 || 4 * (v >> 10) != header || offset > pt->most_clear ||
		    4 * offset > p->len - header - ICV)
			return odd_ends(o, s, EESP_ERR_OFFSET, 0);
		o->clear = (int32_t)(4 * offset);
		o->coffset = (uint8_t)(offset > 1 ? offset - 1 : 0);
	}
	if (s->tsc_never == 0 && get64(hdr + s->tsc_at + more) == 0)
		return odd_ends(o, s, EESP_ERR_SEQUENCE, 0);
	if (pt->subs == NULL && id + 1 != pt->sub_count)
		return odd_ends(o, s, EESP_ERR_CONTEXT, 0);
	o->header = header;
	o->pattern = pt;
	return s;
}

static const struct eesp_layout *odd_domain(const struct eesp_open_plan *w, const eesp_pkt *p, struct odd *o)
{
	const uint8_t *hdr = o->hdr;
	const struct eesp_layout *s = layout_of(w, hdr, p->flags);
	if (s == NULL)
		return odd_ends(o, w->layouts, w->missing, 0);
	const struct eesp_pattern *pt = pattern_of(w, s, hdr);
	struct eesp_latch *latch = pt != NULL ? pt->latch : NULL;
	if (latch != NULL && __atomic_load_n(&latch->failures, __ATOMIC_RELAXED) >= latch->most)
		return odd_ends(o, s, EESP_ERR_LATCHED, 0);
	if (p->len < (uint32_t)s->n + ICV)
		return odd_ends(o, s, EESP_ERR_SHORT, 0);
	const uint32_t clear = s->begin > s->n ? (uint32_t)s->begin - s->n : 0;
	o->id = s->id_mask == 0 ? 0 : get64(hdr + s->id_at) >> s->id_shift;
	o->tsc = get64(hdr + s->tsc_at);
	o->coffset = (uint8_t)(clear / 4);
	if (clear > p->len - s->n - ICV)
		return odd_ends(o, s, EESP_ERR_OFFSET, 1);
	if (s->unusable != EESP_OK)
		return odd_ends(o, s, s->unusable, 1);
	if ((o->tsc >> 40 & s->way_mask) != s->way)
		return odd_ends(o, s, EESP_ERR_REFLECTED, 1);
	if (pt == NULL || memcmp(hdr + s->who_at, pt->addr, s->who_len) != 0)
		return odd_ends(o, s, w->missing, 1);
	o->header = s->n;
	o->clear = (int32_t)clear;
	o->pattern = pt;
	return s;
}

/* Refuses a packet with the status of its odd header. */
static void refuse_odd(const struct eesp_open_plan *w, eesp_pkt *p, const struct odd *o, struct refusals *a)
{
	p->id = p->tsc = 0;
	if (o->told) {
		p->id = o->id;
		p->tsc = o->tsc;
		p->coffset = o->coffset;
		p->ioffset = o->ioffset;
		p->next_header = o->next_header;
	}
	refuse(w, p, o->status, domain_of(w, p), a);
}

/* Whether Go may see a packet whose key is missing, to ask the agent for newer keys: one a millisecond, so that forged
 * packets do not wake it all the time. */
static NOINLINE int may_ask(const struct eesp_open_plan *w)
{
	uint64_t *asked = &w->strangers->asked, now = coarse_ns() >> 20,
		 last = __atomic_load_n(asked, __ATOMIC_RELAXED);
	return now != last && __atomic_compare_exchange_n(asked, &last, now, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

/* How many octets odd copies. */
static inline uint32_t odd_copied(const struct eesp_open_plan *w, const eesp_pkt *p)
{
	const uint32_t prefix = w->screen.prefix[p->flags], all = prefix + p->len,
		       n = w->odd == ODD_OPTIONS || w->odd == ODD_KEYS ? ODD_COPIED : (prefix + 48) & ~15u;
	return all < n ? all : n;
}

/* Copies the beginning of a packet to "to", which has ODD_ROOM octets, and reads its header, which the plan does not
 * cover. Returns its layout, or NULL: Go takes the packet. */
static NOINLINE const struct eesp_layout *odd(const struct eesp_open_plan *w, const eesp_pkt *p, struct odd *o,
					      uint8_t *to)
{
	if (!ordinary(&w->screen, p) || p->len < 4 + ICV)
		return NULL;
	const uint32_t prefix = w->screen.prefix[p->flags], n = odd_copied(w, p);
	const uint8_t *from = (const uint8_t *)p->data - prefix;
	memset(o, 0, offsetof(struct odd, last));
	blocks(to, from, n & ~15u);
	store16(to + n - 16, load16(from + n - 16));
	__asm__ volatile("" ::: "memory"); /* from here on the copy is read */
	o->hdr = to + prefix;
	switch (w->odd) {
	case ODD_KEYS: return odd_keys(w, p, o);
	case ODD_OPTIONS: return odd_options(w, p, o);
	case ODD_DOMAIN: return odd_domain(w, p, o);
	default: return odd_extension(w, p, o);
	}
}
#endif

/* Whether a descriptor has other flags than a layout's packets have, or what few packets have; 0: it has not. */
static inline uint32_t unlike_usual(const eesp_pkt *p, uint32_t flags)
{
	uint32_t f; /* flags, next_header, reserved */
	memcpy(&f, &p->flags, 4);
	return ((f & word32(0xff, 0xff, 0, 0xff)) ^ flags) | p->iov_count;
}

#if KEEPS
/* -- Kept keys: of flows whose packets come again, instead of deriving them for each packet. Only the thread with the
 * share uses a table, and a new plan has empty ones. -- */

/* A table earns a credit, of about 8 ns, for each packet whose key it had, and pays for looking in vain and for keys
 * that it adds. Without credit, as with many more flows than places, it rests for so many packets. */
enum { KEPT_QUAD = 4, KEPT_LOOK = 24, KEPT_ADD = 10, KEPT_MOST = 2 * KEPT_CREDIT, KEPT_REST = 65536 };
#if defined(__aarch64__)
enum { KEPT_ROW = SUB_QUAD };
#else
enum { KEPT_ROW = 64 };
#endif

static inline uint8_t kept_hash(const uint8_t *input, size_t len)
{
	uint64_t x = 0;
	for (size_t i = 0; i < len; i += 8)
		x = (x ^ raw64(input + i)) * UINT64_C(0x9E3779B97F4A7C15);
	return (uint8_t)(x >> 56);
}

/* Returns 1 + the place of a context's key, or 0. A batch has one root key, and one end of all its inputs. */
static inline size_t kept_at(const struct eesp_kept *t, const uint8_t *input, size_t len, uint16_t batch)
{
	size_t at = t->first[kept_hash(input, len)];
	while (at != 0 && !(same(t->of[at - 1].input, input, len) && t->of[at - 1].batch == batch))
		at = t->of[at - 1].next;
	return at;
}

/* Where a place's key begins; what is added to nonces is SUB_MASK octets behind. */
static inline uint8_t *kept_key(const struct eesp_kept *t, size_t place)
{
	return t->keys + place / 4 * SUB_QUAD + place % 4 * SUB_LANE;
}

/* Runs jobs whose keys are kept. place: 1 + each key's. */
static NOINLINE void kept_run(const struct eesp_worker_view *view, const struct eesp_direct *d, struct eesp_kept *t,
			      const struct kdf_plan *k, const uint8_t *place, eesp_job *jobs, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		jobs[i].key = place[i] - 1u;
		store16(jobs[i].nonce, load16(jobs[i].nonce) ^ load16(kept_key(t, jobs[i].key) + SUB_MASK));
	}
	run(view, d, k->key_len == 32, SHARED, 0, t->keys, jobs, n);
	for (size_t i = 0; i < n; i++) /* forged packets do not make a key last */
		t->used |= (uint32_t)(jobs[i].ok == 1) << jobs[i].key;
	t->credit = t->credit + (int32_t)n < KEPT_MOST ? t->credit + (int32_t)n : KEPT_MOST;
}

/* Opens packets of one batch if nearly all of their keys are kept. Returns how many are; 0: nothing was done. Inputs of
 * the KDF are in msgs. */
static inline EXECUTOR size_t open_kept(const struct eesp_worker_view *view, const struct eesp_direct *d,
					struct eesp_kept *t, const struct kdf_plan *k, uint16_t batch, eesp_job *jobs,
					size_t n)
{
	static const uint8_t index[CHUNK];
	const size_t len = k->blocks * 16u, stride = stride_of(k);
	uint8_t place[CHUNK], from[CHUNK], inputs[CHUNK / FEW_KEYS][KEPT_INPUT];
	eesp_job apart[CHUNK];
	size_t hits = 0, misses = 0;
	for (size_t i = 0; i < n; i++) {
		place[i] = (uint8_t)kept_at(t, view->msgs + i * stride, len, batch);
		hits += place[i] != 0;
	}
	if (LIKELY(hits == n)) {
		kept_run(view, d, t, k, place, jobs, n);
		return n;
	}
	if ((n - hits) * FEW_KEYS > n)
		return 0;
	hits = 0;
	for (size_t i = 0; i < n; i++)
		if (place[i] != 0) {
			place[hits] = place[i];
			from[hits] = (uint8_t)i;
			apart[hits++] = jobs[i];
		} else {
			blocks(inputs[misses++], view->msgs + i * stride, len);
			jobs[i].key = CHUNK;
		}
	kept_run(view, d, t, k, place, apart, hits);
	for (size_t i = 0; i < hits; i++)
		jobs[from[i]].ok = apart[i].ok;
	for (size_t i = n; i-- != 0;) /* the others one by one */
		if (jobs[i].key == CHUNK) {
			blocks(view->msgs, inputs[--misses], len);
			derive_and_run(view, d, k, 1, index, 0, &jobs[i], 1);
		}
	return hits;
}

/* A place for another key: of one that was not right for a packet for the longest time. taken: bits of places that
 * others of the same call have, which must stay theirs. */
static COLD size_t kept_room(struct eesp_kept *t, uint32_t *taken)
{
	if (t->used == UINT32_MAX)
		t->used = *taken;
	const size_t place = (size_t)__builtin_ctz(~t->used);
	uint8_t *at = &t->first[t->of[place].hash];
	*taken |= UINT32_C(1) << place;
	t->used |= *taken;
	while (*at != 0 && *at != place + 1)
		at = &t->of[*at - 1].next;
	if (*at != 0)
		*at = t->of[place].next;
	return place;
}

/* Derives the keys of up to KEPT_QUAD inputs in msgs and keeps them. */
static COLD NOINLINE void kept_add(const struct eesp_worker_view *view, const struct eesp_direct *d,
				   struct eesp_kept *t, const struct kdf_plan *k, uint16_t batch, size_t n)
{
	const size_t len = k->blocks * 16u, stride = stride_of(k);
	const int aead = k->key_len == 32;
	eesp_job masks[KEPT_QUAD];
	size_t place[KEPT_QUAD];
	uint32_t taken = 0;
	for (size_t i = 0; i < n; i++) {
		place[i] = kept_room(t, &taken);
		blocks(t->of[place[i]].input, view->msgs + i * stride, len);
	}
	memset(masks, 0, sizeof masks);
	derive_for(view, d, k, view->keys, masks, n);
	call0(d->expand[aead], view->area, view->keys, n, 0, NULL, NULL);
	call0(d->powers[aead], view->area, (const void *)n, 0, 0, NULL, NULL);
	for (size_t i = 0; i < n; i++) {
		struct eesp_kept_of *is = &t->of[place[i]];
		uint8_t *to = kept_key(t, place[i]);
		for (size_t row = 0; row < SUB_QUAD; row += KEPT_ROW)
			blocks(to + row, view->area + i * SUB_LANE + row, SUB_LANE);
		store16(to + SUB_MASK, load16(masks[i].nonce));
		is->batch = batch;
		is->hash = kept_hash(is->input, len);
		is->next = t->first[is->hash];
		__asm__ volatile("" ::: "memory"); /* it is found when all of it is there */
		t->first[is->hash] = (uint8_t)(place[i] + 1);
	}
	explicit_bzero(view->keys, n * k->key_len);
	explicit_bzero(view->area, SUB_QUAD);
	explicit_bzero(masks, sizeof masks);
	clear_registers(); /* these copies came behind the last kernel */
}

/* Keeps keys of authentic packets, some at a time. Returns how many it has derived. */
static COLD NOINLINE EXECUTOR size_t keep(const struct eesp_worker_view *view, const struct eesp_direct *d,
					  struct eesp_kept *t, const struct kdf_plan *k, const struct lane *lanes,
					  const uint8_t *from, const eesp_job *jobs, size_t n)
{
	const size_t len = k->blocks * 16u, stride = stride_of(k);
	const uint16_t batch = lanes->pattern->batch;
	size_t u = 0;
	for (size_t i = 0; i < n; i++) {
		uint8_t *to = view->msgs + u * stride;
		size_t x = 0;
		if (jobs[i].ok != 1)
			continue;
		input(to, &lanes[from[i]]);
		while (x < u && !same(view->msgs + x * stride, to, len))
			x++;
		if (x < u || kept_at(t, to, len, batch) != 0)
			continue;
		if (++u == KEPT_QUAD)
			break;
	}
	t->credit -= KEPT_LOOK + (int32_t)u * KEPT_ADD;
	if (t->credit < 0) {
		t->credit = KEPT_CREDIT;
		t->asleep = KEPT_REST;
		return 0;
	}
	if (u != 0)
		kept_add(view, d, t, k, batch, u);
	return u;
}

/* Opens packets of one batch, in the order of jobs, with inputs of the KDF in msgs. Returns how many keys it has
 * derived. */
static NOINLINE EXECUTOR size_t open_alike(const struct eesp_worker_view *view, const struct eesp_open_plan *w,
					   const struct kdf_plan *k, size_t stride, const struct lane *lanes,
					   const uint8_t *from, eesp_job *jobs, size_t n)
{
	struct eesp_kept *t = NULL; /* this thread's, unless it rests */
	uint8_t index[CHUNK] = { 0 };
	size_t hits = 0, u;
	if (w->kept != NULL && k->master != NULL && share_of(w->shares, view->number) != NULL)
		t = &w->kept[view->number % SHARES];
	if (t != NULL && UNLIKELY(t->asleep > 0)) {
		t->asleep -= (int32_t)n;
		t = NULL;
	}
	if (t != NULL)
		hits = open_kept(view, w->direct, t, k, lanes->pattern->batch, jobs, n);
	u = n - hits;
	if (UNLIKELY(hits == 0)) {
		if (n >= FEW_KEYS && k->master != NULL)
			u = keys_of(view->msgs, stride, (size_t)k->blocks * 16, n, index);
		derive_and_run(view, w->direct, k, u, index, 0, jobs, n);
	}
	if (t != NULL && UNLIKELY(hits != n))
		u += keep(view, w->direct, t, k, lanes, from, jobs, n);
	return u;
}
#endif

/* Places for copies of jobs' AAD, of which those that are not loose take AAD_STEP octets each: one line, or two. */
enum { AAD_STEP = PLAN_HEADER };
static inline uint8_t *aad_room(const struct eesp_worker_view *view)
{
	return (uint8_t *)(((uintptr_t)view->aad + 63) & ~(uintptr_t)63);
}

/* Takes up another pattern in open_some. Returns whether keys are not derived together with those
 * before; first: there are none. */
static inline uint32_t other_batch(const struct eesp_pattern *pt, int first, size_t *stride, uint32_t *batch)
{
	if (!first)
		return pt->batch != *batch;
	*stride = pt->stride;
	*batch = pt->batch;
	return 0;
}

/* Opens up to CHUNK packets. Those that the plan does not cover are marked as strays;
 * *stray is their number. Until a packet's length is known to be enough for header
 * and ICV, only so much is read as fits in both. */
static inline __attribute__((always_inline)) EXECUTOR size_t open_some(const struct eesp_fast_path *fp,
								       const struct eesp_open_plan *w,
									  eesp_pkt *pkts, size_t n,
	int alone, struct times_pass *pass, size_t *stray, const int kind, const int extras, const int loose)
{
	const struct eesp_worker_view *view = fp->view;
	struct eesp_times *const times = w->times;
	const int bare = kind == BARE, subs = kind == SUBS, serial = kind == SERIAL;
	const uint64_t *const seed = extras == TIMES ? times->seed : NULL;
	const uint64_t high = seed != NULL ? times_mix(seed[6], seed[7]) : 0;
	const int expanded = subs || (!bare && !serial && w->expanded != 0);
	const uint32_t word_mask = w->word_mask;
	uint8_t *const aads = aad_room(view);
	size_t m, failed = 0, stride = 0;
	uint64_t octets = 0;
	/* mixed: batches differ; differ: lengths do */
	uint32_t mixed = 0, batch = UINT32_MAX, differ = 0, first_len = 0;
	int apart = 0, several = 0; /* some jobs have the heads of their bodies; lanes have several patterns */
	struct {
		eesp_job jobs[CHUNK];
		struct lane lanes[CHUNK];
	} x;
	eesp_job *sorted = x.jobs, *j = x.jobs;
	uint8_t *msg = view->msgs;
	/* The pattern of the packet before, in a burst before too; the first one equals no header. */
	const struct eesp_pattern *const none = w->patterns;
	const struct eesp_pattern *guess = none;
	struct refusals refusals;
#ifndef WIDE
	struct { uint32_t header, skip; int32_t clear; } odds[loose ? CHUNK : 1]; /* by packet */
	struct odd is = { .last = NULL };
	uint8_t *room = view->aad, *const no_room_left = room + CHUNK * AAD_ROOM; /* loose: for copies of AAD */
	/* Go is to see one packet whose key is missing, to ask the agent for newer keys */
	int ahead = loose && w->ahead;
#endif
	struct strangers strangers = { 0, 0, 0, NULL };
	struct order o;
	const void *fetch = pass; /* times: the line of the packet before */

	refusals.all = refusals.odd = refusals.kinds = 0;
	refusals.number = view->number;
	/* So that cache misses overlap; after locked operations, which wait for them. */
#pragma GCC unroll 4
	for (const eesp_pkt *p = pkts + 1; p < pkts + n; p++) {
		__builtin_prefetch(p->data);
		__builtin_prefetch((const void *)((uintptr_t)p->data + 24)); /* where most end */
	}
	if (!loose && *fp->guess < w->patterns_size) {
		guess = (const struct eesp_pattern *)((const uint8_t *)none + *fp->guess);
		stride = guess->stride;
		batch = guess->batch;
	}
	for (eesp_pkt *p = pkts, *const end = pkts + n; p < end;) {
#ifndef WIDE
		const struct eesp_layout *const s =
			loose ? (p->status == STRAY && no_room_left - room >= ODD_ROOM ? odd(w, p, &is, room) : NULL)
			: guess != none ? guess->form
					: layout_by_word(w, p);
		if (loose && s != NULL && is.status == EESP_ERR_NO_KEY && ahead) {
			ahead = 0;
			if (may_ask(w)) {
				p++;
				continue;
			}
		}
		if (loose && s != NULL && is.status != EESP_OK) {
			refuse_odd(w, p, &is, &refusals);
			p++;
			continue;
		}
#else
		const struct eesp_layout *const s = guess != none ? guess->form : layout_by_word(w, p);
#endif
		if (UNLIKELY(s == NULL)) {
			if (!loose)
				screened(w, p, &refusals);
			p++;
			continue;
		}
		/* What follows holds as long as packets have this layout. */
		const uint32_t word = s->word, prefix = bare || subs ? 0 : s->prefix,
			       inner = bare || serial ? 0 : s->inner;
		const uint32_t least = s->n + inner + ICV, flags = s->flags;
		/* From this length on, kernels take a body with its head in the job. */
		const int heads = !loose && expanded && inner == HEAD && w->direct->head_least != 0;
		const uint32_t apart_least = heads ? w->direct->head_least : UINT32_MAX;
		const int always = !subs && !loose && s->keeps == KEEPS_ALWAYS;
		const int keeps = always ||
				  (!bare && !subs && !loose && (extras == WINDOWS || extras == TIMES) && s->keeps);
		/* One branch a packet for what few layouts ask. */
#ifdef WIDE
		const int rechecks = !bare && !subs && (always || s->way_mask != 0);
#else
		const int rechecks = keeps || (!bare && !subs && s->way_mask != 0);
#endif
		uint32_t header = s->n;
		/* payload octets in clear; if negative, so many octets of the extension are encrypted with it */
		int32_t clear = 0;
#ifdef WIDE
		const int simple = s->simple == 0 && s->wide.whole ? WHOLE : s->simple;
#else
		const int simple = s->simple;
#endif
		const v16 rekey_to = load16(slide + 16 - s->rekey_at % 16);
		const uint64_t rekey_mask = simple == 2 ? s->rekey_mask : 0;
#ifdef WIDE
		const __m512i compared = _mm512_loadu_si512(s->wide.compared), taken = _mm512_loadu_si512(s->wide.pick),
			      kept = _mm512_loadu_si512(s->wide.kept);
		const __mmask64 load = s->wide.load, front = s->wide.front, picked = s->wide.picked;
		const intptr_t front_at = s->wide.at;
		const int odd = !subs && !serial && s->wide.odd != 0;
		const __m512i described = _mm512_loadu_si512(of_descriptor);
		const __m512i usual = _mm512_loadu_si512(s->wide.usual);
		/* value and next: of the pattern. All are vectors from memory: those made of numbers here come too late
		 * for the first packet. */
		__m512i value = _mm512_loadu_si512(guess->value), numbers_of = _mm512_loadu_si512(guess->nonce);
		const __m128i lengths = _mm_loadu_si128((const __m128i *)s->wide.lengths);
#else
		const size_t source_at = (size_t)s->source_at, tail_at = (size_t)s->tail_at;
		const size_t next_at = s->next_at & 0x7f;
		const uint8_t next_mask = s->next_at == NONE ? 0 : 0xff;
		const v16 msg_source = load16(s->msg_source), msg_tail = load16(s->msg_tail),
			  nonce_source = load16(s->nonce_source), nonce_more = load16(s->nonce_more),
			  nonce_tail = load16(s->nonce_tail);
#endif
		if (j == x.jobs)
			first_len = p->len - header - ICV;
		do {
			const uint8_t *hdr = p->data;
			const struct eesp_pattern *pt = guess;
			const uint32_t len = p->len;
#ifndef WIDE
			if (loose) {
				header = is.header;
				clear = is.clear;
				hdr = is.hdr;
				pt = is.pattern;
				mixed |= other_batch(pt, j == x.jobs, &stride, &batch);
				goto matched;
			}
#endif
			if (UNLIKELY(hdr == NULL || len - least > EESP_MAX_LEN - least))
				break;
#ifdef WIDE
			const __m512i h = _mm512_maskz_loadu_epi8(load, hdr);
			const __mmask64 differs = _mm512_test_epi8_mask(_mm512_xor_si512(h, value), compared),
					unusual = _mm512_test_epi8_mask(
						_mm512_xor_si512(usual, _mm512_loadu_si512(p)), described);
			const int same_ = _kortestz_mask64_u8(differs, unusual);
			int two = 0; /* the octets that are used lie in two vectors */
#else
			const int same_ = unlike_usual(p, flags) == 0 && equals(hdr, pt, s, 0);
#endif
			if (UNLIKELY(p->headroom < prefix) || UNLIKELY(!same_)) {
				const uint32_t unlike = unlike_usual(p, flags);
				uint32_t begin;
#ifdef WIDE
				two = odd;
				if (unlike == 0 && p->headroom >= prefix && equals(hdr, pt, s, 0))
					goto matched;
#endif
				if (unlike == 0 && p->headroom >= prefix) { /* common noise is refused at once */
					const eesp_status st = w->screen.first[hdr[w->screen.first_at]];
					if (LIKELY(st != EESP_OK)) {
						refuse_some_noise(w, p, st, &refusals);
						continue;
					}
				}
				memcpy(&begin, hdr, 4);
				if ((begin & word_mask) + p->flags * FLAGS_FACTOR != word) {
					if (layout_by_word(w, p) == NULL)
						goto another;
					break;
				}
				if (unlike != 0 || p->headroom < prefix)
					goto another;
				pt = pattern_of(w, s, hdr); /* it is not the pattern of the packet before */
				if (UNLIKELY(pt == NULL))
					goto another;
#ifdef WIDE
				/* what becomes the AAD must match, too */
				if (bare && always &&
				    _mm512_test_epi8_mask(_mm512_xor_si512(h, _mm512_loadu_si512(pt->value)), compared))
					goto another;
#endif
				guess = pt;
#ifdef WIDE
				value = _mm512_loadu_si512(pt->value);
				numbers_of = _mm512_loadu_si512(pt->nonce);
#endif
				several |= j != x.jobs;
				mixed |= other_batch(pt, j == x.jobs, &stride, &batch);
			}
		matched:;
#ifndef WIDE
			const size_t moved = loose && s->moves ? header - s->n : 0;
#endif
#ifdef WIDE
			/* Where there are no octets in front of a header, these are the same ones. */
			__m512i got = bare || subs ? h : _mm512_maskz_loadu_epi8(front, hdr + front_at);
			const uint8_t *aad = hdr - prefix;
			if (UNLIKELY(keeps)) { /* front_at is -prefix */
				aad = aads + (size_t)(j - x.jobs) * AAD_STEP;
				_mm512_store_si512((void *)(uintptr_t)aad, got);
			}
			if (UNLIKELY(two)) {
				const __m512i more = _mm512_maskz_loadu_epi8(s->wide.behind, hdr + front_at + 64),
					      first = got;
				if (keeps)
					_mm512_store_si512((uint8_t *)(uintptr_t)aad + 64, more);
				got = _mm512_maskz_permutex2var_epi8(picked, first, taken, more);
				got = _mm512_xor_si512(got,
						       _mm512_maskz_permutex2var_epi8(s->wide.again, first,
										      _mm512_loadu_si512(s->wide.pick2),
										      more));
			} else {
				got = _mm512_maskz_permutexvar_epi8(picked, taken, got);
			}
			/* (got & kept) ^ the pattern's 64 octets: nonce, KDF input, ID and TSC, who and next_header */
			got = _mm512_ternarylogic_epi64(got, kept, numbers_of, 0x6a);
			const __m128i numbers = _mm512_extracti32x4_epi32(got, 2),
				      more = _mm512_extracti32x4_epi32(got, 3);
			const uint64_t id = (uint64_t)_mm_cvtsi128_si64(numbers),
				       tsc = (uint64_t)_mm_extract_epi64(numbers, 1);
#else
			const uint8_t *const aad = keeps ? aads + (size_t)(j - x.jobs) * AAD_STEP : hdr - prefix;
			const struct ends e = ends_of(hdr + source_at, hdr + moved + tail_at);
			const v16 source = e.source, tail = e.tail;
			const uint64_t id = id_in(&e, s), tsc = tsc_in(&e, s);
#endif
			uint32_t key = 0;
			if (subs ? tsc == 0
				 : !loose && !serial && s->numbers &&
					   ((id & s->id_need) == s->id_never || tsc == s->tsc_never))
				goto another;
			if (subs || (expanded && pt->area != NULL)) {
				if (!subs && pt->subs == NULL) {
					if (!loose && s->flow_desc && memcmp(&p->addr, pt->addr, s->flow_len) != 0)
						goto another;
				} else if (id >= pt->sub_count) {
					goto another;
				} else if ((key = __atomic_load_n(&pt->subs[id], __ATOMIC_ACQUIRE)) == 0) {
					if (((strangers.none != pt || strangers.last == id) &&
					     new_here(w, pt, id, &strangers)) || (extras && is_own(w, id)))
						goto another;
					refuse_one_flooded(w, p, id, tsc, &refusals);
#ifndef WIDE
					if (loose)
						p->coffset = is.coffset;
#endif
					continue;
				}
			}
			uint8_t *const data = loose ? p->data : (uint8_t *)(uintptr_t)hdr, *src = data + header,
				       *dst = p->dst;
			const uint32_t text = loose ? len - header - ICV - (uint32_t)clear : len - least + inner;
			/* The general path's status is ROOM, if the packet is not refused for another reason. */
			const int no_room = loose && dst != NULL && p->dst_size < text + (uint32_t)clear - inner;
			const uintptr_t gap = (uintptr_t)dst - (uintptr_t)data;
			/* dst has room for what is encrypted in front of the payload, too. */
			const uint32_t size = clear > 0 ? text + (uint32_t)clear : text;
			if (dst != NULL &&
			    LIKELY(gap >= len && -gap >= (uintptr_t)prefix + size && p->dst_size >= size)) {
				if (loose && clear > 0)
					dst += clear;
			} else if (dst == NULL || no_room ||
				   (dst == src + inner && (uint64_t)p->dst_size + inner >= text + (uint32_t)clear)) {
				dst = src + clear; /* the payload stays in its place, and must fit in dst_size too */
			} else {
				goto another; /* dst must not overlap the packet */
			}
#ifndef WIDE
			p->coffset = loose ? is.coffset : 0;
			p->ioffset = loose ? is.ioffset : 0;
#else
			p->coffset = p->ioffset = 0;
#endif
#ifdef WIDE
			_mm_storeu_si128((__m128i *)&p->id, numbers); /* and tsc */
			p->next_header = subs || serial ? 0 : (uint8_t)_mm_extract_epi8(more, 8);
#else
			p->id = id;
			p->tsc = tsc;
			p->next_header = hdr[next_at] & next_mask;
#endif
			if (!bare && !subs && s->ages) { /* serial numbers: tssOld */
				uint16_t behind = (uint16_t)(pt->epoch - (tsc >> 48));
				if (UNLIKELY(behind > pt->age) && behind < 0x8000) {
					refuse_known(p, EESP_ERR_EPOCH, w, view->number, pt);
					failed++;
					continue;
				}
			}
			if (extras && UNLIKELY(is_own(w, id)) && (!loose || s->id_mask != 0)) {
				refuse_known(p, EESP_ERR_REFLECTED, w, view->number, pt);
				failed++;
				continue;
			}
			if (extras == TIMES && UNLIKELY(!times_may(pass, tsc))) {
				if (times_passes(times, pass, fp->reading, TICK_BITS, tsc))
					goto again;
				refuse_known(p, time_statuses[times_refused(times, pass, tsc)], w, view->number, pt);
				failed++;
				p++;
				goto again;
			}
			/* the job's lane: both have one size */
			struct lane *l = (struct lane *)((uint8_t *)j + sizeof x.jobs);
			j->aad = aad; /* with the others: one load of all of them waits for separate stores */
			j->src = src + clear;
			j->dst = dst;
			j->tag = src + clear + text;
			l->p = p;
			l->pattern = pt;
#ifdef WIDE
			store16(&j->aad_len, (v16)_mm_insert_epi32(lengths, (int)text, 1)); /* to ok */
#else
			j->aad_len = header + prefix + (uint32_t)clear;
			j->len = text;
			j->key = 0;
			j->ok = 0;
			if (loose) {
				odds[p - pkts].header = header;
				odds[p - pkts].skip = is.skip;
				odds[p - pkts].clear = clear;
				if (text == 0) /* no pointer to behind a buffer */
					j->src = j->dst = j->tag;
				j->aad_len -= is.skip;
				const uint32_t begin = prefix + header, had = is.skip != 0 ? begin : odd_copied(w, p);
				if (j->aad_len > (size_t)(no_room_left - room))
					goto another;
				if (j->aad_len > had) /* clear octets of the payload */
					memcpy(room + had, src + is.skip + (int32_t)(had - begin), j->aad_len - had);
				room += (j->aad_len + 15) & ~(size_t)15;
			}
#endif
			if (UNLIKELY(rechecks)) {
				int changed = (tsc >> 40 & s->way_mask) != s->way; /* by another party, meanwhile */
				if (keeps) {
					const uint8_t *const copy = aad + prefix;
#ifndef WIDE
					blocks((uint8_t *)(uintptr_t)aad, hdr - prefix, j->aad_len);
					__asm__ volatile("" ::: "memory"); /* from here on the copy is read */
					changed |= get64(copy + s->tsc_at) != tsc;
					p->next_header = copy[next_at] & next_mask;
#endif
					if (always)
						changed |= !equals(copy, pt, s, 0) | (id_of(s, copy) != id);
				}
				if (UNLIKELY(changed)) {
					refuse_known(p, EESP_ERR_AUTH, w, view->number, pt);
					failed++;
					continue;
				}
			}
#ifdef WIDE
			store16(j->nonce, (v16)_mm512_castsi512_si128(got));
			v16 first = subs ? (v16){ 0 } : (v16)_mm512_extracti32x4_epi32(got, 1);
#else
			store16(j->nonce, load16(pt->nonce) ^ pick(source, nonce_source) ^ pick(source, nonce_more) ^
						  pick(tail, nonce_tail));
			v16 first = load16(pt->msg) ^ pick(source, msg_source) ^ pick(tail, msg_tail);
#endif
			/* Inputs are moved later if jobs are reordered or removed. */
			if (!serial && !subs && LIKELY(simple == 1)) {
				store16(msg, first);
			} else if (!subs) {
				/* part of the counter is in the first block; the second does not vary */
				if (serial || simple == 2)
					first ^= pick(rekey_of(tsc, rekey_mask, s->rekey_bits), rekey_to);
#ifdef WIDE
				if (simple == WHOLE)
					first ^= further_blocks(msg, s, pt, p);
#endif
				store16(msg, first);
				if (simple == 0)
					input_more(msg, l);
			}
			if (expanded && UNLIKELY(text >= apart_least) && j->src != j->dst && pt->area != NULL) {
				j->dst = (void *)((uintptr_t)dst - HEAD);
				j->reserved[0] = HEAD_MASK;
				apart = 1;
			}
			if (subs || (expanded && key != 0)) {
				const uint8_t *salt = sub_salt(pt->area, --key);
				j->key = key;
				__builtin_prefetch(salt);
				if (subs)
					l->word = (uint64_t *)(uintptr_t)salt; /* until its window is known */
			}
#ifdef WIDE
			const uint64_t who = subs ? pt->kind : (uint64_t)_mm_cvtsi128_si64(more);
#else
			const uint64_t who = (tsc >> 48 & s->epoch_mask) | pt->kind |
					     (extras == TIMES ? 0 : (tsc & w->split.engine_mask) << 32);
#endif
			if (extras == WINDOWS) {
#ifdef WIDE
				/* seq, which is the TSC for now, hash, id and who */
				_mm256_storeu_si256((__m256i *)&l->seq,
						    _mm256_permute4x64_epi64(_mm512_extracti64x4_epi64(got, 1), 0x8d));
				if (subs)
					l->who = who;
#else
				l->id = id;
				l->who = who;
				l->seq = tsc;
#endif
			}
			if (no_room) {
				refuse_room(w, view->number, l);
				failed++;
				continue;
			}
			if (extras == TIMES) {
				l->word =
					times_place(times, pass,
						    flow_hash(times->seed, times->no_addr, high, l, id, who, s), tsc,
						    tsc, &l->seq);
				l->window = (uint8_t *)pass->first;
				/* this packet's is still being computed, and what follows would wait for it */
				FETCH_TO_WRITE(fetch);
				fetch = l->word;
			}
			if (!subs)
				msg += stride;
			differ |= text ^ first_len;
			j++;
			continue;
		another:
			if (!loose)
				screened(w, p, &refusals);
		} while (++p < end && !loose);
		/* the packet is too short for the layout, or too long */
		if (!loose && p < end && layout_by_word(w, p) == s) {
			screened(w, p, &refusals);
			p++;
		}
	again: /* Behind a reading of the clock: a call inside the loop above would cost it its vector registers. */
		if (!loose && guess != none)
			*fp->guess = (uint32_t)((const uint8_t *)guess - (const uint8_t *)none);
		guess = none;
	}
	m = (size_t)(j - x.jobs);
	if (extras == TIMES)
		FETCH_TO_WRITE(fetch);
#pragma GCC unroll 4
	for (size_t i = 0; subs && i < m; i++) /* after all prefetches were started */
		add_salt(x.jobs[i].nonce, (const uint8_t *)x.lanes[i].word);
	for (size_t i = 0; !subs && expanded && i < m; i++)
		if (x.lanes[i].pattern->subs != NULL)
			add_salt(x.jobs[i].nonce, sub_salt(x.lanes[i].pattern->area, x.jobs[i].key));
	*stray = (loose ? *stray : n) - m - failed - refusals.all;
	if (!loose)
		*fp->flood = (uint32_t)(refusals.all - refusals.odd);
	int moved = 0; /* packets were removed: inputs are in other places */
	if (extras == WINDOWS) {
#ifdef WIDE
		const size_t left = m < 4 || several || x.lanes[0].pattern->form->flow_len == 32 ?
					    check_windows(w, view->number, x.lanes, x.jobs, m, 0) :
					    find_windows(w, view->number, x.lanes, x.jobs, m);
#else
		const size_t left = check_windows(w, view->number, x.lanes, x.jobs, m, 0);
		(void)several;
#endif
		moved = left != m;
		m = left;
	}
	if (m == 0) {
		count_refused(w, &refusals);
		return 0;
	}
	if (UNLIKELY(mixed)) {
		open_mixed(view, w, x.lanes, x.jobs, m);
	} else {
		const struct eesp_pattern *pt = x.lanes[0].pattern;
		struct kdf_plan k;
		uint8_t index[CHUNK] = { 0 };
		size_t u = m;
		kdf_of(&k, pt);
		o.from = as_they_are;
		if (UNLIKELY(differ != 0))
			sorted = ordered(&o, x.jobs, m);
		if (UNLIKELY(sorted != x.jobs && !moved && k.blocks == 1))
			in_order(view->msgs, stride, o.from, m);
		else if (UNLIKELY(moved || sorted != x.jobs))
			for (size_t i = 0; k.master != NULL && i < m; i++)
				input(view->msgs + i * stride, &x.lanes[o.from[i]]);
#if KEEPS
		if (!bare && !subs && !loose) {
			u = open_alike(view, w, &k, stride, x.lanes, o.from, sorted, m);
		} else
#endif
		{
			if (m >= FEW_KEYS && k.master != NULL)
				u = keys_of(view->msgs, stride, (size_t)k.blocks * 16, m, index);
			derive_and_run(view, w->direct, &k, u, index, 0, sorted, m);
		}
		for (size_t i = 0; sorted != x.jobs && i < m; i++)
			take_result(&x.jobs[o.from[i]], &sorted[i]);
		if (u != m) /* packets are counted with a key each */
			used(pt->usage, view->number, USAGE_OPENED, 0, pt->master, u - m);
	}
	if (UNLIKELY(w->retries))
		try_previous(view, w, x.lanes, x.jobs, m, pass);
	uint64_t floor = 0, most = 0;
	if (bare && extras == TIMES)
		floor = commit_times(w, x.lanes, x.jobs, m, alone);
	/* Commit in the order of the burst: in order of length, older packets might be behind the window. */
	const struct eesp_pattern *key_of = x.lanes[0].pattern;
	uint8_t how = bare || serial ? UNWRAP_BARE : key_of->form->unwrap;
	const struct lane *from = x.lanes;
	size_t opened = 0, lost = 0; /* lost: how many with key_of, since lane from, were not opened */
	for (struct lane *l = x.lanes, *const end = l + m; l < end; l++) {
		j = (eesp_job *)((uint8_t *)l - sizeof x.jobs);
		eesp_pkt *p = l->p;
		const uint8_t *head = NULL;
		if (expanded && apart && head_was_apart(j, p)) {
			head = j->reserved;
			j->dst = p->dst;
			j->len -= HEAD;
		}
		if (UNLIKELY(l->pattern != key_of)) {
			opened_with(key_of, view->number, (size_t)(l - from) - lost, (size_t)(l - from));
			opened += (size_t)(l - from) - lost;
			key_of = l->pattern;
			how = bare || serial ? UNWRAP_BARE : key_of->form->unwrap;
			from = l;
			lost = 0;
		}
		if (bare && extras == TIMES && UNLIKELY(p->tsc < floor) && j->ok == 1) {
			times_count(times, TIME_STALE);
			j->ok = NOT_NEW + TIME_STALE;
		}
		if (UNLIKELY(j->ok != 1)) {
			if (loose && l->pattern->latch != NULL)
				__atomic_fetch_add(&l->pattern->latch->failures, 1, __ATOMIC_RELAXED);
			const int late = bare && extras == TIMES && j->ok > NOT_NEW;
			refuse_known(p, late ? time_statuses[j->ok - NOT_NEW] : EESP_ERR_AUTH, w, view->number,
				     l->pattern);
		} else {
			uint32_t len = j->len;
			uint8_t *out = j->dst;
#ifndef WIDE
			if (loose) { /* clear octets go in front of the payload, or the extension is left out of it */
				const int32_t clear = odds[p - pkts].clear;
				const uint32_t header = odds[p - pkts].header, skip = odds[p - pkts].skip;
				uint8_t *payload = (uint8_t *)p->data + header;
				uint8_t *whole = p->dst == NULL || p->dst == payload + l->pattern->form->inner ? payload
													       : p->dst;
				if (clear > 0 && whole != payload) { /* as they were authenticated */
					const uint8_t *aad = (const uint8_t *)j->aad + l->pattern->form->prefix;
					memcpy(whole, payload, skip);
					memcpy(whole + skip, aad + header, (size_t)clear - skip);
				} else if (clear < 0 && whole != payload) {
					memmove(whole, out - clear, len + (uint32_t)clear);
				}
				out = whole;
				len += (uint32_t)clear;
			}
#endif
			if (subs || (!bare && !serial && UNLIKELY(how != UNWRAP_BARE))) {
				if (how != UNWRAP_ONLY && head == NULL) {
					head = out;
					out += HEAD;
					len -= HEAD;
				}
				const int64_t found = unwrap(how, p, head, out, len);
				if (UNLIKELY(found < 0)) {
					refuse_known(p, (eesp_status)found, w, view->number, l->pattern);
					memset(j->dst, 0, j->len);
					lost++;
					continue;
				}
				len = (uint32_t)found;
				if (p->dst != NULL && out != p->dst) {
					copy_forward(p->dst, out, len);
					out = p->dst;
				}
			}
			const int committed = bare && extras == TIMES ? 1
					      : extras == TIMES	      ? commit_time(w, view->number, l, pass, alone)
								      : extras != WINDOWS || commit(fp, w, l, alone);
			if (committed) {
				if (bare && extras == TIMES)
					most = p->tsc > most ? p->tsc : most;
				p->status = EESP_OK;
				p->out = out;
				p->out_len = len;
				octets += len;
				continue;
			}
		}
		memset(j->dst, 0, j->len);
		lost++;
	}
	if (bare && extras == TIMES && most > pass->most)
		pass->most = most;
	const size_t with = (size_t)(x.lanes + m - from);
	opened_with(key_of, view->number, with - lost, with);
	opened += with - lost;
	if (refusals.kinds != 0)
		count_refused(w, &refusals);
	if (UNLIKELY(fp->held != NULL)) {
		fp->held->packets += opened;
		fp->held->octets += octets;
	} else if (opened != 0) {
		counted(w->shares, view->number, w->by, w->octets, opened, octets);
	}
	return opened;
}

static inline int extras_of(const struct eesp_open_plan *w)
{
	return w->times != NULL ? TIMES : w->windows != NULL ? WINDOWS : w->extras ? OWN : 0;
}

/* open_some compiled for each case, so that packets are not asked what their plan
 * excludes. */
#define OPEN(name, kind, extras, loose) \
	static EXECUTOR NOINLINE size_t name(const struct eesp_fast_path *fp, const struct eesp_open_plan *w, \
					     eesp_pkt *pkts, size_t n, int alone, struct times_pass *pass, \
					     size_t *stray) \
	{ \
		return open_some(fp, w, pkts, n, alone, pass, stray, kind, extras, loose); \
	}
#if defined(WIDE) || !defined(__x86_64__)
OPEN(bare, BARE, 0, 0)
#else /* for older processors, one: where there are no own IDs, no bit says that there may be one */
#define bare bare_own
#endif
OPEN(bare_own, BARE, OWN, 0)
OPEN(bare_windows, BARE, WINDOWS, 0)
OPEN(bare_times, BARE, TIMES, 0)
#ifdef WIDE
OPEN(subs_windows, SUBS, WINDOWS, 0)
OPEN(serial_windows, SERIAL, WINDOWS, 0)
#else
#define subs_windows any_windows
#define serial_windows any_windows
#endif
#if defined(WIDE) || !defined(__x86_64__)
OPEN(any_own, ANY, OWN, 0)
OPEN(any_windows, ANY, WINDOWS, 0)
OPEN(any_times, ANY, TIMES, 0)
#else /* for older processors, one: each costs some kilobytes */
OPEN(any, ANY, extras_of(w), 0)
#define any_own any
#define any_windows any
#define any_times any
#endif

#define WAYS                                                                                                   \
	{                                                                                                      \
		{ seal_any, seal_bare },                                                                       \
		{                                                                                              \
			[ANY] = { any_own, any_own, any_windows, any_times },                                  \
			[BARE] = { bare, bare_own, bare_windows, bare_times },                                 \
			[SUBS] = { any_own, any_own, subs_windows, any_times },                                \
			[SERIAL] = { any_own, any_own, serial_windows, any_times },                            \
		}                                                                                              \
	}

#ifdef WIDE
const struct eesp_executors wide_executors = WAYS;
#else
static const struct eesp_executors narrow_executors = WAYS;

/* For loose plans, one too. */
OPEN(loose, ANY, extras_of(w), 1)
static inline open_executor *opener(const struct eesp_open_plan *w)
{
	return executors(w->wide)->open[w->kind][extras_of(w)];
}

/* Refuses the usual packets of a flood among up to CHUNK packets: noise, and new Sub
 * SAs for which Go may derive no key now. It returns the others as bits. Whether a
 * packet is forged is unpredictable, and a wrong prediction costs more than the rest
 * of refusing it: so the loop that tells them apart does not branch on it. Statuses
 * are those of open_some. */
static NOINLINE EXECUTOR uint32_t sift(const struct eesp_open_plan *w, eesp_pkt *pkts, size_t n, struct refusals *a)
{
	const struct eesp_screen *screen = &w->screen;
	/* of the first packet with Sub SAs: only this pattern's are refused here */
	const struct eesp_pattern *pt = NULL;
	const struct eesp_layout *s = NULL;
	const uint32_t all = n < 32 ? (UINT32_C(1) << n) - 1 : UINT32_MAX, flags = pkts[0].flags;
	uint32_t noise = 0, strange = 0, least = screen->least;
	if (flags > 3 || screen->prefix[flags] == NONE)
		return all;
	for (size_t i = 0; i < n; i++) /* forged packets need no further line */
		__builtin_prefetch(pkts[i].data);
	for (size_t i = 0; w->expanded && i < n && pt == NULL; i++) {
		s = layout_by_word(w, &pkts[i]);
		if (s == NULL || pkts[i].flags != flags || pkts[i].len < (uint32_t)s->n + s->inner + ICV)
			continue;
		pt = pattern_of(w, s, pkts[i].data);
		if (pt != NULL && (pt->area == NULL || pt->subs == NULL || subs_full(pt)))
			pt = NULL;
	}
	if (pt != NULL && least < (uint32_t)s->n + s->inner + ICV)
		least = (uint32_t)s->n + s->inner + ICV;
	for (size_t i = 0; i < n; i++) {
		const eesp_pkt *p = &pkts[i];
		const uint8_t *b = p->data;
		const uint32_t unlike = ((uint32_t)p->flags ^ flags) | p->reserved | p->iov_count;
		if (UNLIKELY(unlike != 0 || b == NULL || p->headroom < screen->prefix[flags] ||
			     p->len - least > EESP_MAX_LEN - least))
			continue;
		noise |= (uint32_t)(screen->first[b[screen->first_at]] != EESP_OK) << i;
		if (pt == NULL)
			continue;
		const uint64_t id = id_of(s, b), at = id < pt->sub_count ? id : 0;
		const uint32_t is = equals(b, pt, s, 0) & (id < pt->sub_count) & !sub_here(pt->subs, at);
		strange |= is << i;
	}
	strange &= ~noise;
	if (strange != 0 && strangers_left(w) != 0) /* open_some decides which may be derived */
		strange = 0;
	for (uint32_t left = noise; left != 0; left &= left - 1) {
		eesp_pkt *p = &pkts[__builtin_ctz(left)];
		refuse_noise(w, p, screen->first[((const uint8_t *)p->data)[screen->first_at]], a);
	}
	for (uint32_t left = strange; left != 0; left &= left - 1) {
		eesp_pkt *p = &pkts[__builtin_ctz(left)];
		const uint64_t id = id_of(s, p->data), tsc = get64((const uint8_t *)p->data + s->tsc_at);
		if (UNLIKELY((s->numbers && ((id & s->id_need) == s->id_never || tsc == s->tsc_never)) ||
			     (w->extras && is_own(w, id))))
			strange &= ~(left & -left);
		else
			refuse_flooded(w, p, id, tsc, a);
	}
	return all & ~noise & ~strange;
}

/* Opens up to CHUNK packets of a flood: those that sift leaves, copied side by side. */
static NOINLINE size_t open_flood(const struct eesp_fast_path *fp, const struct eesp_open_plan *w, eesp_pkt *pkts,
				  size_t n, int alone, struct times_pass *pass, size_t *stray)
{
	eesp_pkt apart[CHUNK];
	struct refusals a = { .number = fp->view->number };
	const uint32_t kept = sift(w, pkts, n, &a);
	size_t good = 0, m = 0;
	count_refused(w, &a);
	if (a.all == 0)
		return opener(w)(fp, w, pkts, n, alone, pass, stray);
	for (uint32_t left = kept; left != 0; left &= left - 1) {
		const eesp_pkt *p = &pkts[__builtin_ctz(left)];
		__builtin_prefetch((const void *)((uintptr_t)p->data + 64));
		__builtin_prefetch((const void *)((uintptr_t)p->data + p->len - 1));
		apart[m++] = *p;
	}
	*stray = *fp->flood = 0;
	if (m != 0)
		good = opener(w)(fp, w, apart, m, alone, pass, stray);
	*fp->flood += (uint32_t)a.all;
	m = 0;
	for (uint32_t left = kept; left != 0; left &= left - 1) { /* copies back, except for the caller's addresses */
		eesp_pkt *p = &pkts[__builtin_ctz(left)];
		memcpy(p, &apart[m], offsetof(eesp_pkt, addr));
		p->id = apart[m].id;
		p->tsc = apart[m++].tsc;
	}
	return good;
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
		int alone = sole != NULL && sole_begin(sole, view->number);
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
