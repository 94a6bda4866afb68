/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Straight to the kernels. They need nothing of Go, and a call from here costs
 * a few nanoseconds where a crossing costs fifty, and none of the waits that
 * Go's runtime has for a thread that comes back after a pause. Only the common
 * cases go this way: packets that are plain, of a sender or receiver that the
 * engine has had a burst of in this thread, with keys that are still in force.
 * What packets have in common is known from the engine then
 * (internal/burst/ways.go), which takes all others.
 */
#include <stdlib.h>
#include <string.h>

#include "_cgo_export.h"
#include "shim.h"

#define ICV 16
#define NOINLINE __attribute__((noinline)) /* what is rare stays out of the way of the rest */
#define FEW_KEYS 8 /* as in internal/burst: from so many packets a key on, it is expanded once */

#if defined(__x86_64__)
/* Calls a function of the Go assembler's convention with six words on the
 * stack; it preserves nothing but the stack pointer. */
__attribute__((visibility("hidden"))) void call0(uintptr_t f, const void *a, const void *b, uintptr_t c, uintptr_t d, const void *e, const void *g);
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
#else
static void call0(uintptr_t f, const void *a, const void *b, uintptr_t c, uintptr_t d, const void *e, const void *g) { abort(); }
#endif

static int counters_clear(const uint8_t *contexts, size_t n)
{
	uint8_t any = 0;
	for (size_t i = 0; i < n; i++)
		any |= contexts[i * EESP_KDF_CONTEXT_LEN];
	return any == 0;
}

/* Derives the keys of up to CHUNK contexts, the first octet of which is 0. */
static void derive_some(const struct eesp_room *room, const struct eesp_kdf_view *v, uint32_t aead, const uint8_t *contexts, size_t n, uint8_t *keys)
{
	if (aead == EESP_AEAD_AES_128_GCM) {
		call0(v->direct->derive, keys, contexts, n, 1, v->master, v->counted);
		return;
	}
	uint8_t *h = room->halves;
	for (size_t half = 0; half < 2; half++)
		call0(v->direct->derive, h + half * n * 16, contexts, n, 1, v->master, v->counted + half * 16);
	for (size_t i = 0; i < n; i++) {
		memcpy(keys + i * 32, h + i * 16, 16);
		memcpy(keys + i * 32 + 16, h + (n + i) * 16, 16);
	}
	explicit_bzero(h, n * 32);
}

/* ---- Which kernel takes which packets: internal/asm/vector ---- */

enum { ONCE, MANY }; /* kernel.Mode */

/* Whether packets of these lengths, the first no longer than the second, do well
 * side by side. */
static inline int even(uint32_t a, uint32_t b) { return b - a <= 64 + a / 8; }

/* Whether n packets, fewer than four, are better off as a group than one by one. */
static inline int group_pays(const struct eesp_direct *d, const eesp_job *jobs, size_t n, uint32_t begin)
{
	uint32_t longest = jobs[n - 1].len, sum = 0;
	if (jobs[0].len < d->long_least)
		return 1;
	for (size_t i = 0; i < n; i++)
		sum += jobs[i].len + begin;
	return longest <= d->group_limit && 4 * longest * d->group_octet <= 100 * sum;
}

/* How many of n jobs go to one kernel together, and whether to a short one. */
static inline size_t next_kernel(const struct eesp_direct *d, const eesp_job *jobs, size_t n, int mode, int *lanes)
{
	uint32_t limit = d->limit[mode];
	size_t run = 0, rest;
	*lanes = 1;
	if (!d->groups) {
		for (run = n; run > 0 && jobs[run - 1].len > limit; run--)
			;
		*lanes = run > 0;
		return run > 0 ? run : n;
	}
	if (LIKELY(jobs[n - 1].len <= limit && even(jobs[0].len, jobs[n - 1].len) &&
		   (n % 4 == 0 || (n < 4 && group_pays(d, jobs, n, d->begin[mode])))))
		return n;
	while (run + 4 <= n && jobs[run + 3].len <= limit && even(jobs[run].len, jobs[run + 3].len))
		run += 4;
	for (rest = run; rest < n && rest < run + 3 && even(jobs[run].len, jobs[rest].len); rest++)
		;
	if (rest > run && jobs[rest - 1].len <= limit && group_pays(d, jobs + run, rest - run, d->begin[mode]))
		run = rest;
	if (run > 0)
		return run;
	*lanes = 0;
	for (run = rest > 1 ? rest : 1; run < n; run++) {
		const eesp_job *g = jobs + run;
		if (g->len <= limit && n - run >= 4 && g[3].len <= limit && even(g->len, g[3].len))
			break;
	}
	return run;
}

/* Runs jobs one by one, of which keys are raw or in an area. */
static NOINLINE void run_long(const struct eesp_room *room, const struct eesp_direct *d, int aead, int mode, int seal, const uint8_t *keys,
		     eesp_job *jobs, size_t n)
{
	uint8_t *rows = room->scratch + d->rows_at, *scratch = room->scratch + d->long_at;
	uintptr_t kernel = d->long_[aead][seal];
	if (mode == MANY) {
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

/* Runs up to CHUNK jobs, in order of length, of which keys are raw, in that order
 * too, or in an area. */
static void run(const struct eesp_room *room, const struct eesp_direct *d, int aead, int mode, int seal, const uint8_t *keys,
		eesp_job *jobs, size_t n)
{
	uintptr_t kernel = mode == ONCE ? d->fresh[aead][seal] : d->held[aead][seal];
	for (size_t at = 0; at < n;) {
		int lanes;
		size_t some = next_kernel(d, jobs + at, n - at, mode, &lanes);
		const uint8_t *k = mode == ONCE ? keys + at * (16u << aead) : keys;
		if (lanes && kernel != 0) {
			call0(kernel, k, jobs + at, some, (uintptr_t)room->scratch, NULL, NULL);
			if (d->groups && some % 4 != 0)
				explicit_bzero(room->scratch + d->litter_at, d->litter + jobs[at + some - 1].len);
		} else {
			run_long(room, d, aead, mode, seal, k, jobs + at, some);
		}
		at += some;
	}
}

/* Puts up to CHUNK jobs in order of length, to another place: job k is then the
 * one that was from[k]. Which length comes next in a burst cannot be guessed, so
 * that each is compared with each, without branches. */
static NOINLINE void by_length(eesp_job *to, const eesp_job *jobs, size_t n, uint8_t from[CHUNK])
{
	typedef int32_t four __attribute__((vector_size(16)));
	union { four v[CHUNK / 4]; int32_t x[CHUNK]; } key, place;
	memset(&place, 0, sizeof place);
	for (size_t i = 0; i < CHUNK; i++)
		key.x[i] = i < n ? (int32_t)(jobs[i].len << 5 | i) : 0;
	for (size_t i = 0; i < n; i++) {
		four k = { key.x[i], key.x[i], key.x[i], key.x[i] };
		for (size_t v = 0; v < CHUNK / 4; v++)
			place.v[v] -= key.v[v] > k;
	}
	for (size_t i = 0; i < n; i++) {
		to[place.x[i]] = jobs[i];
		from[place.x[i]] = (uint8_t)i;
	}
}

static const uint8_t as_they_are[CHUNK] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
					 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31 };

/* Jobs in order of length, and which each was: those that are there, or moved. */
struct order {
	eesp_job moved[CHUNK];
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

/* ---- Kernels without packets ---- */

/* Whether the caller's jobs are as they should be (checkJobs of internal/burst),
 * and whether they are in order of length. */
enum form { BAD, UNORDERED, ORDERED };

static inline enum form form_of(const eesp_job *jobs, size_t n, uint32_t keys)
{
	uint32_t last = 0, disorder = 0;
	for (size_t i = 0; i < n; i++) {
		const eesp_job *j = &jobs[i];
		uintptr_t gap = (uintptr_t)j->src - (uintptr_t)j->dst;
		uint32_t reserved;
		memcpy(&reserved, j->reserved, sizeof reserved);
		if (j->len > EESP_MAX_LEN || j->aad_len > EESP_MAX_LEN || j->tag == NULL || j->key >= keys || reserved != 0 ||
		    j->src == NULL || j->dst == NULL || j->aad == NULL || (gap != 0 && (gap < j->len || -gap < j->len)))
			return BAD;
		disorder |= j->len < last;
		last = j->len;
	}
	return disorder ? UNORDERED : ORDERED;
}

/* Runs jobs in order of length, up to CHUNK, with raw keys of their contexts or
 * with those that they name. */
static inline void run_ordered(const struct eesp_room *room, const struct eesp_direct *d, const struct eesp_kdf_view *kdf, int aead,
			       const uint8_t *contexts, const uint8_t *area, eesp_job *jobs, size_t n, int seal)
{
	if (kdf == NULL) {
		run(room, d, aead, MANY, seal, area, jobs, n);
		return;
	}
	derive_some(room, kdf, (uint32_t)aead, contexts, n, room->keys);
	run(room, d, aead, ONCE, seal, room->keys, jobs, n);
	explicit_bzero(room->keys, n * (16u << aead));
}

static NOINLINE void run_others(const struct eesp_room *room, const struct eesp_direct *d, const struct eesp_kdf_view *kdf, int aead,
				const uint8_t *contexts, const uint8_t *area, eesp_job *jobs, size_t n, int seal)
{
	eesp_job moved[CHUNK];
	uint8_t from[CHUNK];
	by_length(moved, jobs, n, from);
	for (size_t i = 0; kdf != NULL && i < n; i++)
		memcpy(room->msgs + i * EESP_KDF_CONTEXT_LEN, contexts + from[i] * EESP_KDF_CONTEXT_LEN, EESP_KDF_CONTEXT_LEN);
	run_ordered(room, d, kdf, aead, room->msgs, area, moved, n, seal);
	for (size_t i = 0; !seal && i < n; i++)
		jobs[from[i]].ok = moved[i].ok;
}

/* Runs the caller's jobs, any number, and returns how many are good. */
static inline size_t run_jobs(const struct eesp_room *room, const struct eesp_direct *d, const struct eesp_kdf_view *kdf, int aead,
			      const uint8_t *contexts, const uint8_t *area, eesp_job *jobs, size_t n, enum form form, int seal)
{
	for (size_t at = 0, some; at < n; at += some) {
		some = n - at < CHUNK ? n - at : CHUNK;
		if (LIKELY(form == ORDERED))
			run_ordered(room, d, kdf, aead, contexts, area, jobs + at, some, seal);
		else
			run_others(room, d, kdf, aead, contexts, area, jobs + at, some, seal);
		if (kdf != NULL)
			contexts += some * EESP_KDF_CONTEXT_LEN;
	}
	if (seal)
		return n;
	size_t good = 0;
	for (size_t i = 0; i < n; i++) {
		good += jobs[i].ok;
		if (UNLIKELY(!jobs[i].ok))
			memset(jobs[i].dst, 0, jobs[i].len);
	}
	return good;
}

int direct_derive(const struct eesp_room *room, const struct eesp_kdf_view *v, uint32_t aead, const uint8_t *contexts, size_t n,
		  uint8_t *keys)
{
	if (v->direct == NULL || !counters_clear(contexts, n))
		return 0;
	for (size_t at = 0; at < n; at += CHUNK)
		derive_some(room, v, aead, contexts + at * EESP_KDF_CONTEXT_LEN, n - at < CHUNK ? n - at : CHUNK,
			    keys + at * (aead == EESP_AEAD_AES_128_GCM ? 16 : 32));
	return 1;
}

int direct_rekey(const struct eesp_room *room, const struct eesp_kdf_view *v, uint32_t aead, const uint8_t *contexts,
		 eesp_job *jobs, size_t n, int seal, size_t *good)
{
	enum form form = v->direct != NULL ? form_of(jobs, n, 1) : BAD;
	if (form == BAD || !counters_clear(contexts, n))
		return 0;
	*good = run_jobs(room, v->direct, v, (int)aead, contexts, NULL, jobs, n, form, seal);
	return 1;
}

int direct_keyed(const struct eesp_room *room, const struct eesp_keyset_view *v, eesp_job *jobs, size_t n, int seal, size_t *good)
{
	enum form form = v->direct != NULL ? form_of(jobs, n, v->n) : BAD;
	if (form == BAD)
		return 0;
	*good = run_jobs(room, v->direct, NULL, (int)v->aead, NULL, v->area, jobs, n, form, seal);
	return 1;
}

/* ---- Packets ---- */

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

static inline int overlap(const void *a, uintptr_t an, const void *b, uintptr_t bn)
{
	return (uintptr_t)a < (uintptr_t)b + bn && (uintptr_t)b < (uintptr_t)a + an;
}

/* Keys that are in force now stay until leave: keys.Reader's Enter and Leave. */
static inline uint64_t enter(const struct eesp_room *room)
{
	uint64_t epoch = __atomic_load_n(room->epoch, __ATOMIC_SEQ_CST);
	__atomic_store_n(room->active, epoch, __ATOMIC_SEQ_CST);
	return epoch;
}

static inline void leave(const struct eesp_room *room, uint64_t epoch)
{
	__atomic_store_n(room->active, 0, __ATOMIC_SEQ_CST);
	if (UNLIKELY(epoch != __atomic_load_n(room->epoch, __ATOMIC_SEQ_CST) && __atomic_load_n(room->waiting, __ATOMIC_SEQ_CST) != 0))
		eespGoSweep();
}

static inline int in_force(void *const *cell, const void *snapshot)
{
	return __atomic_load_n(cell, __ATOMIC_SEQ_CST) == snapshot;
}

/* Which of few keys is whose: packet k has that of the KDF input that is now the
 * slot[k]th. Returns how many there are, or n if there are so many that each
 * packet had better bring its own. */
static size_t few_keys(uint8_t *msgs, size_t stride, size_t len, size_t n, uint8_t slot[CHUNK])
{
	uint8_t first[CHUNK / FEW_KEYS];
	size_t u = 0;
	for (size_t i = 0; i < n; i++) {
		const uint8_t *m = msgs + i * stride;
		size_t k = 0;
		while (k < u && memcmp(msgs + first[k] * stride, m, len) != 0)
			k++;
		if (k == u) {
			if ((u + 1) * FEW_KEYS > n)
				return n;
			first[u++] = (uint8_t)i;
		}
		slot[i] = (uint8_t)k;
	}
	for (size_t k = 1; k < u; k++) /* first[k] >= k */
		memmove(msgs + k * stride, msgs + first[k] * stride, len);
	return u;
}

/* A packet's KDF input but for ID and epoch. */
static inline void message(uint8_t *to, const struct eesp_msg_form *f, const eesp_addr *a)
{
	memcpy(to, f->msg, 16);
	if (f->blocks > 1) {
		memcpy(to + 16, f->msg + 16, 16);
		memcpy(to + 14, a->src, 16);
	}
	if (f->blocks > 2) {
		memcpy(to + 32, f->msg + 32, 16);
		memcpy(to + 30, a->dst, 16);
	}
}

/* Derives u keys from inputs in msgs, each with room for as many blocks of output
 * as it takes, and runs the jobs: few keys are expanded once each. */
static inline void derive_and_run(const struct eesp_room *room, const struct eesp_direct *d, const struct eesp_msg_form *f,
				  const uint8_t *master, const uint8_t *sub, size_t u, const uint8_t slot[CHUNK], int seal,
				  eesp_job *jobs, size_t n)
{
	size_t len = (size_t)f->blocks * 16;
	int aead = f->key_len == 32;
	if (aead)
		for (size_t i = 0; i < u; i++) {
			uint8_t *m = room->msgs + i * 2 * len;
			memcpy(m + len, m, len);
			m[len] = 2;
		}
	call0(d->derive, room->keys, room->msgs, u * (f->key_len / 16), f->blocks, master, sub);
	if (u * FEW_KEYS <= n) {
		size_t octets = (u + 3) / 4 * 4 * d->key_bytes;
		call0(d->expand[aead], room->area, room->keys, u, 0, NULL, NULL);
		call0(d->powers[aead], room->area, (const void *)u, 0, 0, NULL, NULL);
		explicit_bzero(room->keys, u * f->key_len);
		for (size_t i = 0; i < n; i++)
			jobs[i].key = slot[i];
		run(room, d, aead, MANY, seal, room->area, jobs, n);
		explicit_bzero(room->area, octets);
		return;
	}
	for (size_t i = u; i < n; i++) /* a copy for each */
		memcpy(room->keys + i * f->key_len, room->keys, f->key_len);
	run(room, d, aead, ONCE, seal, room->keys, jobs, n);
	explicit_bzero(room->keys, n * f->key_len);
}

/* Makes a packet to be sealed a job, if it is plain: plainRow of internal/burst. */
static inline int plain(const eesp_pkt *p, uint32_t header, eesp_job *j)
{
	uint8_t *hdr, *body;
	uint32_t size = header + p->len + ICV;
	if ((p->coffset | p->ioffset | p->reserved) != 0 || p->iov_count != 0 || p->flags != 0 || p->data == NULL || p->len > EESP_MAX_LEN)
		return 0;
	if (p->dst == NULL) {
		if (p->headroom < header || p->tailroom < ICV)
			return 0;
		body = p->data;
		hdr = body - header;
	} else {
		if (p->dst_size < size)
			return 0;
		hdr = p->dst;
		body = hdr + header;
		if (body != p->data && overlap(p->data, p->len, hdr, size))
			return 0;
	}
	j->aad = hdr;
	j->aad_len = header;
	j->src = p->data;
	j->dst = body;
	j->tag = body + p->len;
	j->len = p->len;
	return 1;
}

static inline uint64_t tsc_of(const struct eesp_seal_way *w, uint64_t linear)
{
	return linear >> w->shift << 48 | w->engine | (linear & ((UINT64_C(1) << w->shift) - 1));
}

/* Takes n counters that follow one another within an epoch: Take of
 * internal/counter, but where more have to be asked for. */
static inline int take(const struct eesp_seal_way *w, size_t n, uint64_t *tsc)
{
	uint64_t at = __atomic_load_n(w->next, __ATOMIC_SEQ_CST), end;
	do {
		end = at + n;
		if (end < at || end > __atomic_load_n(w->limit, __ATOMIC_SEQ_CST))
			return 0;
		*tsc = tsc_of(w, at);
		uint64_t last = tsc_of(w, end - 1);
		if (last != *tsc + n - 1 || last >> 48 != *tsc >> 48)
			return 0;
	} while (!__atomic_compare_exchange_n(w->next, &at, end, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
	return 1;
}

int direct_seal(const struct eesp_room *room, const struct eesp_seal_way *w, uint64_t number, eesp_pkt *pkts, size_t n, size_t *good)
{
	const struct eesp_msg_form *f = &w->msg;
	const struct eesp_direct *d = w->direct;
	size_t len = (size_t)f->blocks * 16, stride = f->key_len / 16 * len, u = f->fixed ? 1 : n;
	uint32_t header = w->len;
	uint64_t tsc, octets = 0;
	eesp_job jobs[CHUNK], *sorted;
	uint8_t slot[CHUNK] = { 0 };
	struct order o;

	if (w->number != number)
		return 0;
	for (size_t i = 0; i < n; i++)
		if (!plain(&pkts[i], header, &jobs[i]))
			return 0;
	sorted = ordered(&o, jobs, n);
	for (size_t i = 0; i < u; i++)
		message(room->msgs + i * stride, f, &pkts[o.from[i]].addr);
	if (n >= FEW_KEYS && !f->fixed)
		u = few_keys(room->msgs, stride, len, n, slot);

	uint64_t epoch = enter(room);
	if (!in_force(w->cell, w->snapshot) || !take(w, n, &tsc)) {
		leave(room, epoch);
		return 0;
	}
	for (size_t i = 0; i < u; i++) {
		uint8_t *m = room->msgs + i * stride;
		m[12] = (uint8_t)(tsc >> 56);
		m[13] = (uint8_t)(tsc >> 48);
	}
	for (size_t i = 0; i < n; i++) {
		eesp_pkt *p = &pkts[o.from[i]];
		eesp_job *j = &sorted[i];
		uint64_t mine = tsc + o.from[i];
		uint8_t *hdr = (uint8_t *)(uintptr_t)j->aad;
		for (uint32_t at = 0; at + 16 < header; at += 16)
			memcpy(hdr + at, w->header + at, 16);
		memcpy(hdr + header - 16, w->header + header - 16, 16);
		put64(hdr + header - 8, mine);
		put32(j->nonce, w->salt);
		put64(j->nonce + 4, mine);
		p->status = EESP_OK;
		p->out = hdr;
		p->out_len = header + j->len + ICV;
		p->id = w->id;
		p->tsc = mine;
		octets += p->out_len;
	}
	derive_and_run(room, d, f, w->master, w->sub, u, slot, 1, sorted, n);
	__atomic_fetch_add(w->good, n, __ATOMIC_RELAXED);
	__atomic_fetch_add(w->octets, octets, __ATOMIC_RELAXED);
	leave(room, epoch);
	*good = n;
	return 1;
}

/* Makes a packet to be opened a job, if it looks as the one before: Shape.job and
 * Match of internal/profile. */
static inline int alike(const eesp_pkt *p, const struct eesp_open_way *w, eesp_job *j)
{
	uint8_t *data = p->data;
	if (p->iov_count != 0 || p->flags != 0 || p->reserved != 0 || data == NULL || p->len < w->len + ICV || p->len > EESP_MAX_LEN ||
	    memcmp(data, w->word, 4) != 0 || (w->at + 8 != w->len && memcmp(data + w->at, w->opts, w->len - 8 - w->at) != 0))
		return 0;
	uint32_t text = p->len - w->len - ICV;
	uint8_t *src = data + w->len;
	j->aad = data;
	j->aad_len = w->len;
	j->src = j->dst = src;
	j->tag = src + text;
	j->len = text;
	if (p->dst == NULL || p->dst == src)
		return 1;
	j->dst = p->dst;
	uintptr_t gap = (uintptr_t)p->dst - (uintptr_t)data;
	return p->dst_size >= text && gap >= p->len && -gap >= text;
}

int direct_open(const struct eesp_room *room, const struct eesp_open_way *w, uint64_t number, eesp_pkt *pkts, size_t n, size_t *good)
{
	const struct eesp_msg_form *f = &w->msg;
	const struct eesp_direct *d = w->direct;
	size_t len = (size_t)f->blocks * 16, stride = f->key_len / 16 * len, u = n, opened = 0;
	uint64_t octets = 0;
	eesp_job jobs[CHUNK], *sorted;
	uint8_t slot[CHUNK];
	struct order o;

	if (w->number != number)
		return 0;
	for (size_t i = 0; i < n; i++)
		if (!alike(&pkts[i], w, &jobs[i]))
			return 0;
	sorted = ordered(&o, jobs, n);
	for (size_t i = 0; i < n; i++) {
		eesp_pkt *p = &pkts[o.from[i]];
		const uint8_t *hdr = p->data, *tsc = hdr + w->len - 8;
		uint8_t *m = room->msgs + i * stride;
		uint64_t id = get64(hdr + 4);
		uint32_t salt = (uint32_t)(id >> 32);
		if (w->at == 12) /* an ID of eight octets */
			salt ^= (uint32_t)id;
		else
			id >>= 32;
		message(m, f, &p->addr);
		put64(m + 4, id);
		memcpy(m + 12, tsc, 2);
		put32(sorted[i].nonce, salt);
		memcpy(sorted[i].nonce + 4, tsc, 8);
		sorted[i].ok = 0;
		p->id = id;
		p->tsc = get64(tsc);
		p->coffset = p->ioffset = p->next_header = 0;
	}
	if (n >= FEW_KEYS)
		u = few_keys(room->msgs, stride, len, n, slot);

	uint64_t epoch = enter(room);
	if (!in_force(w->cell, w->snapshot)) {
		leave(room, epoch);
		return 0;
	}
	derive_and_run(room, d, f, w->master, w->sub, u, slot, 0, sorted, n);
	for (size_t i = 0; i < n; i++) {
		eesp_pkt *p = &pkts[o.from[i]];
		if (UNLIKELY(sorted[i].ok != 1)) {
			memset(sorted[i].dst, 0, sorted[i].len);
			p->status = EESP_ERR_AUTH;
			p->out = NULL;
			p->out_len = 0;
			continue;
		}
		opened++;
		p->status = EESP_OK;
		p->out = sorted[i].dst;
		p->out_len = sorted[i].len;
		octets += sorted[i].len;
	}
	if (opened != 0) {
		__atomic_fetch_add(w->good, opened, __ATOMIC_RELAXED);
		__atomic_fetch_add(w->octets, octets, __ATOMIC_RELAXED);
	}
	if (UNLIKELY(opened != n))
		__atomic_fetch_add(w->bad, n - opened, __ATOMIC_RELAXED);
	leave(room, epoch);
	*good = opened;
	return 1;
}
