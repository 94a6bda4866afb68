/* SPDX-License-Identifier: BSD-3-Clause */
/* For direct.c: key derivation and jobs without packets: eesp_kdf_* and eesp_keyset_*. */
#ifndef EESP_JOBS_H
#define EESP_JOBS_H

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

#endif /* EESP_JOBS_H */
