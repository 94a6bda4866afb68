/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Straight to the kernels. They need nothing of Go, and a call from here costs
 * a few nanoseconds where a crossing costs fifty, and none of the waits that
 * Go's runtime has for a thread that comes back after a pause. Only the common
 * cases go this way: packets that are plain, of the sender or receiver that the
 * thread's last burst was of, with keys that are still in force; packets about
 * equally long and in that order, not the longest. What they have in common is
 * known from the engine (internal/burst/ways.go), which takes all others.
 */
#include <string.h>

#include "_cgo_export.h"
#include "shim.h"

#define ICV 16
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
static void call0(uintptr_t f, const void *a, const void *b, uintptr_t c, uintptr_t d, const void *e, const void *g) {}
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

/* Which kernels n jobs may go straight to: short ones for packets up to limit,
 * or those for longer ones. */
enum { NEITHER, SHORTER, LONGER };

static int kernels_for(const struct eesp_direct *d, const eesp_job *jobs, size_t n, uint32_t keys, uint32_t limit)
{
	uint32_t first, last = 0;
	if (d == NULL || n > CHUNK)
		return NEITHER;
	for (size_t i = 0; i < n; i++) {
		const eesp_job *j = &jobs[i];
		uintptr_t gap = (uintptr_t)j->src - (uintptr_t)j->dst;
		uint32_t reserved;
		memcpy(&reserved, j->reserved, sizeof reserved);
		if (j->len < last || j->aad_len > EESP_MAX_LEN || j->tag == NULL || j->key >= keys || reserved != 0 ||
		    j->src == NULL || j->dst == NULL || j->aad == NULL || (gap != 0 && (gap < j->len || -gap < j->len)))
			return NEITHER;
		last = j->len;
	}
	first = jobs[0].len;
	if (first > limit && last <= EESP_MAX_LEN)
		return LONGER;
	if (last <= limit && (!d->groups || (last - first <= 64 + first / 8 && (n % 4 == 0 || last <= d->group_limit))))
		return SHORTER;
	return NEITHER;
}

/* Runs a short kernel, and wipes what it leaves. */
static void run_short(const struct eesp_room *room, const struct eesp_direct *d, uintptr_t kernel, const uint8_t *keys, eesp_job *jobs, size_t n)
{
	call0(kernel, keys, jobs, n, (uintptr_t)room->scratch, NULL, NULL);
	if (d->groups && n % 4 != 0)
		explicit_bzero(room->scratch + d->litter_at, d->litter + jobs[n - 1].len);
}

/* The good ones of jobs that kernels are done with. */
static size_t good_jobs(eesp_job *jobs, size_t n, int seal)
{
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
	const struct eesp_direct *d = v->direct;
	if (kernels_for(d, jobs, n, 1, d ? d->fresh_limit : 0) != SHORTER || !counters_clear(contexts, n))
		return 0;
	derive_some(room, v, aead, contexts, n, room->keys);
	run_short(room, d, d->fresh[aead][seal], room->keys, jobs, n);
	*good = good_jobs(jobs, n, seal);
	explicit_bzero(room->keys, n * (aead == EESP_AEAD_AES_128_GCM ? 16 : 32));
	return 1;
}

int direct_keyed(const struct eesp_room *room, const struct eesp_keyset_view *v, eesp_job *jobs, size_t n, int seal, size_t *good)
{
	const struct eesp_direct *d = v->direct;
	switch (kernels_for(d, jobs, n, v->n, d ? d->held_limit : 0)) {
	case SHORTER:
		if (d->held[v->aead][seal] == 0)
			return 0;
		run_short(room, d, d->held[v->aead][seal], v->area, jobs, n);
		break;
	case LONGER:
		call0(d->long_[v->aead][seal], v->area, jobs, n, 1, room->scratch + d->long_at, NULL);
		break;
	default:
		return 0;
	}
	*good = good_jobs(jobs, n, seal);
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

/* Whether jobs are as the short kernels for fresh keys want them. */
static inline int fits(const struct eesp_direct *d, const eesp_job *jobs, size_t n)
{
	uint32_t first = jobs[0].len, last = jobs[n - 1].len;
	return last <= d->fresh_limit && (!d->groups || (last - first <= 64 + first / 8 && (n % 4 == 0 || last <= d->group_limit)));
}

/* Whether so few keys are behind n messages that the engine expands each once. */
static int few_keys(const uint8_t *msgs, size_t stride, size_t len, size_t n)
{
	const uint8_t *seen[CHUNK / FEW_KEYS];
	size_t u = 0;
	for (size_t i = 0; i < n; i++) {
		const uint8_t *m = msgs + i * stride;
		size_t k = 0;
		while (k < u && memcmp(seen[k], m, len) != 0)
			k++;
		if (k == u) {
			if ((u + 1) * FEW_KEYS > n)
				return 0;
			seen[u++] = m;
		}
	}
	return 1;
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

/* Derives n keys from inputs in msgs, each with room for as many blocks of
 * output as it takes. */
static inline void derive(const struct eesp_room *room, const struct eesp_direct *d, const struct eesp_msg_form *f,
			  const uint8_t *master, const uint8_t *sub, size_t n)
{
	size_t len = (size_t)f->blocks * 16;
	if (f->key_len == 32)
		for (size_t i = 0; i < n; i++) {
			uint8_t *m = room->msgs + i * 2 * len;
			memcpy(m + len, m, len);
			m[len] = 2;
		}
	call0(d->derive, room->keys, room->msgs, n * (f->key_len / 16), f->blocks, master, sub);
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
		if (tsc_of(w, end - 1) != *tsc + n - 1)
			return 0;
	} while (!__atomic_compare_exchange_n(w->next, &at, end, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
	return 1;
}

int direct_seal(const struct eesp_room *room, const struct eesp_seal_way *w, uint64_t number, eesp_pkt *pkts, size_t n, size_t *good)
{
	const struct eesp_msg_form *f = &w->msg;
	const struct eesp_direct *d = w->direct;
	size_t per = f->key_len / 16, len = (size_t)f->blocks * 16, keys = f->fixed ? 1 : n;
	uint32_t header = w->len;
	uint64_t tsc, octets = 0;
	eesp_job jobs[CHUNK];

	if (w->number != number || (f->fixed && n >= FEW_KEYS))
		return 0;
	for (size_t i = 0; i < n; i++)
		if (!plain(&pkts[i], header, &jobs[i]) || (i > 0 && jobs[i].len < jobs[i - 1].len))
			return 0;
	if (!fits(d, jobs, n))
		return 0;
	for (size_t i = 0; i < keys; i++)
		message(room->msgs + i * per * len, f, &pkts[i].addr);
	if (n >= FEW_KEYS && few_keys(room->msgs, per * len, len, n))
		return 0;

	uint64_t epoch = enter(room);
	if (!in_force(w->cell, w->snapshot) || !take(w, n, &tsc)) {
		leave(room, epoch);
		return 0;
	}
	for (size_t i = 0; i < keys; i++) {
		uint8_t *m = room->msgs + i * per * len;
		m[12] = (uint8_t)(tsc >> 56);
		m[13] = (uint8_t)(tsc >> 48);
	}
	for (size_t i = 0; i < n; i++) {
		eesp_pkt *p = &pkts[i];
		eesp_job *j = &jobs[i];
		uint8_t *hdr = (uint8_t *)(uintptr_t)j->aad;
		for (uint32_t at = 0; at + 16 < header; at += 16)
			memcpy(hdr + at, w->header + at, 16);
		memcpy(hdr + header - 16, w->header + header - 16, 16);
		put64(hdr + header - 8, tsc + i);
		put32(j->nonce, w->salt);
		put64(j->nonce + 4, tsc + i);
		p->status = EESP_OK;
		p->out = hdr;
		p->out_len = header + j->len + ICV;
		p->id = w->id;
		p->tsc = tsc + i;
		octets += p->out_len;
	}
	derive(room, d, f, w->master, w->sub, keys);
	for (size_t i = keys; i < n; i++)
		memcpy(room->keys + i * f->key_len, room->keys, f->key_len);
	run_short(room, d, d->fresh[f->key_len == 32][1], room->keys, jobs, n);
	explicit_bzero(room->keys, n * f->key_len);
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
	size_t per = f->key_len / 16, len = (size_t)f->blocks * 16, opened = 0;
	uint64_t octets = 0;
	eesp_job jobs[CHUNK];

	if (w->number != number)
		return 0;
	for (size_t i = 0; i < n; i++)
		if (!alike(&pkts[i], w, &jobs[i]) || (i > 0 && jobs[i].len < jobs[i - 1].len))
			return 0;
	if (!fits(d, jobs, n))
		return 0;
	for (size_t i = 0; i < n; i++) {
		const uint8_t *hdr = pkts[i].data, *tsc = hdr + w->len - 8;
		uint8_t *m = room->msgs + i * per * len;
		uint64_t id = get64(hdr + 4);
		uint32_t salt = (uint32_t)(id >> 32);
		if (w->at == 12) /* an ID of eight octets */
			salt ^= (uint32_t)id;
		else
			id >>= 32;
		message(m, f, &pkts[i].addr);
		put64(m + 4, id);
		memcpy(m + 12, tsc, 2);
		put32(jobs[i].nonce, salt);
		memcpy(jobs[i].nonce + 4, tsc, 8);
		jobs[i].ok = 0;
	}
	if (n >= FEW_KEYS && few_keys(room->msgs, per * len, len, n))
		return 0;

	uint64_t epoch = enter(room);
	if (!in_force(w->cell, w->snapshot)) {
		leave(room, epoch);
		return 0;
	}
	derive(room, d, f, w->master, w->sub, n);
	/* Source and destination may be one: what the header says is read first. */
	for (size_t i = 0; i < n; i++) {
		eesp_pkt *p = &pkts[i];
		p->id = get64(room->msgs + i * per * len + 4);
		p->tsc = get64(jobs[i].nonce + 4);
		p->coffset = p->ioffset = p->next_header = 0;
	}
	run_short(room, d, d->fresh[f->key_len == 32][0], room->keys, jobs, n);
	explicit_bzero(room->keys, n * f->key_len);
	for (size_t i = 0; i < n; i++) {
		eesp_pkt *p = &pkts[i];
		if (UNLIKELY(jobs[i].ok != 1)) {
			memset(jobs[i].dst, 0, jobs[i].len);
			p->status = EESP_ERR_AUTH;
			p->out = NULL;
			p->out_len = 0;
			continue;
		}
		opened++;
		p->status = EESP_OK;
		p->out = jobs[i].dst;
		p->out_len = jobs[i].len;
		octets += jobs[i].len;
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
