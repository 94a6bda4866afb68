/* SPDX-License-Identifier: BSD-3-Clause */
/* For direct.c: seals packets by a plan. */
#ifndef EESP_SEAL_H
#define EESP_SEAL_H

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

/* Makes a job of a packet to be sealed, if it is simple: simpleRun of internal/burst. pad: octets of padding. */
static inline __attribute__((always_inline)) int simple_job(const eesp_pkt *p, const struct eesp_seal_plan *w,
							    eesp_job *j, uint32_t prefix, uint32_t pad)
{
	uint8_t *hdr, *body;
	uint32_t header = w->n, tail = pad + ICV, size = header + p->len + tail;
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
	return 1;
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

/* What headers and nonces of a plan's packets have in common. */
struct front {
	v16 last, nonce; /* last: the header's last block */
	uint64_t id;
	size_t tsc_at, next_at;
	uint32_t header, prefix;
};

static inline struct front front_of(const struct eesp_seal_plan *w, const int bare)
{
	return (struct front){ load16(w->header + (w->n >= 16 ? w->n - 16 : 0)), load16(w->nonce), w->id, w->tsc_at,
			       w->next_at, w->n, bare ? 0 : w->prefix };
}

/* Writes a packet's header, up to what depends on the body, and its nonce. */
static inline __attribute__((always_inline)) EXECUTOR uint8_t *head(const struct eesp_seal_plan *w,
								    const struct front *f, const eesp_pkt *p,
								    eesp_job *j, uint64_t mine)
{
	const v16 in_nonce = { NONE, NONE, NONE, NONE, 15, 14, 13, 12, 11, 10, 9, 8, NONE, NONE, NONE, NONE };
	const two64 numbers = { f->id, mine };
	const uint32_t header = f->header;
	uint8_t *hdr = (uint8_t *)(uintptr_t)j->aad + f->prefix;
	if (LIKELY(header >= 16)) {
		for (uint32_t x = 0; x + 16 < header; x += 16)
			store16(hdr + x, load16(w->header + x));
		store16(hdr + header - 16, f->last);
	} else {
		memcpy(hdr, w->header, header);
	}
	put64(hdr + f->tsc_at, mine);
	if (f->next_at != NONE)
		hdr[f->next_at] = p->next_header;
	store16(j->nonce, f->nonce ^ pick((v16)numbers, in_nonce));
	j->key = w->key;
	return hdr;
}

static inline void describe(const struct front *f, eesp_pkt *p, uint8_t *hdr, uint32_t len, uint64_t mine)
{
	const two64 numbers = { f->id, mine };
	p->status = EESP_OK;
	p->out = hdr;
	p->out_len = len;
	store16(&p->id, (v16)numbers); /* and tsc */
}

/* Encrypts a first block, for each input of the KDF, with room for these at "to". */
static NOINLINE void remember(const struct eesp_seal_plan *w, struct eesp_memo *memo, v16 first, uint8_t *to)
{
	static const v16 none;
	const size_t per = (w->key_len + w->mask + 15u) / 16;
	for (size_t i = 0; i < per; i++)
		store16(to + 16 * i, i == 0 ? first : first ^ octet_at((uint8_t)(1 ^ (i + 1)), w->counter_at & 15));
	call0(w->direct->derive, memo->encrypted, to, per, 1, w->master, &none);
	store16(memo->block, first);
}

/* The encrypted first blocks of KDF inputs that begin with first, from this thread's memo: a sender's first block
 * seldom changes. NULL: it does not have them. "to" is room for the inputs. */
static inline EXECUTOR const uint8_t *remembered(const struct eesp_worker_view *view, const struct eesp_seal_plan *w,
						 v16 first, uint8_t *to)
{
	if (w->memo == NULL || UNLIKELY(share_of(w->shares, view->number) == NULL))
		return NULL;
	struct eesp_memo *memo = &w->memo[view->number % SHARES]; /* only this thread uses it, as its share */
	if (UNLIKELY(any16(first ^ load16(memo->block)))) {
		if (any16(first ^ load16(memo->other))) { /* encrypted only if it comes a second time */
			store16(memo->other, first);
			return NULL;
		}
		remember(w, memo, first, to);
	}
	return memo->encrypted[0];
}

#ifdef WIDE
/* Seals a packet whose key is derived from x, as one of several. */
static NOINLINE void seal_underived(const struct eesp_worker_view *view, const struct eesp_seal_plan *w, __m512i x,
				    eesp_job *j)
{
	static const uint8_t index[CHUNK];
	const struct kdf_plan k = { w->master,  w->sub,        w->area, w->blocks,
				    w->key_len, w->counter_at, w->mask, NULL };
	_mm512_storeu_si512(view->msgs, x);
	derive_and_run(view, w->direct, &k, 1, index, 1, j, 1);
}

/* Seals a packet whose key is derived from y, and from what is added to the first block of y. */
static inline __attribute__((always_inline)) void seal_derived(const struct eesp_worker_view *view,
							       const struct eesp_seal_plan *w, __m512i y,
							       __m512i added, eesp_job *j)
{
	static const v16 none;
	const struct eesp_direct *d = w->direct;
	const int aead = w->key_len == 32;
	const __m512i x = _mm512_xor_si512(y, added);
	uint8_t *const to = view->keys;
	const uint8_t *encrypted;
	if (w->blocks != 2 || (w->mask != 0 && d->one_blocks == 0) ||
	    UNLIKELY((encrypted = remembered(view, w, (v16)_mm512_castsi512_si128(x), to)) == NULL)) {
		seal_underived(view, w, x, j);
		return;
	}
	/* Not from x: y does not wait for the counter. */
	const v16 rest = (v16)_mm512_extracti32x4_epi32(y, 1);
	for (size_t i = 0; i < 48; i += 16)
		store16(to + i, rest ^ load16(encrypted + i));
	call0(w->mask != 0 ? d->one[aead][1] : one(d, aead, 1, j), to, j, w->mask != 0 ? 1 | 4 : 1,
	      (uintptr_t)view->scratch, w->master, w->sub);
	for (size_t i = 0; i < 48; i += 16)
		store16(to + i, none);
	__asm__ volatile("" : : "r"(to) : "memory"); /* keeps the compiler from leaving the wipe out */
}

/* Seals one packet, without what only several need. Returns 0, and has done nothing, if it does not take it. */
static inline int seal_single(const struct eesp_worker_view *view, const struct eesp_seal_plan *w, eesp_pkt *p,
			      uint64_t first)
{
	if (w->n < 16)
		__builtin_unreachable(); /* plan.Seal's alone */
	eesp_job j;
	if (!simple_job(p, w, &j, w->prefix, 0) || !single(w->direct, &j))
		return 0;
	const uint64_t tsc = tsc_of(&w->counter, first);
	const struct front f = front_of(w, 0);
	describe(&f, p, head(w, &f, p, &j, tsc), f.header + j.len + ICV, tsc);
	if (w->master == NULL) {
		run(view, w->direct, w->key_len == 32, SHARED, 1, w->area, &j, 1);
	} else {
		const __m512i taken = _mm512_loadu_si512(w->pick);
		const __m512i from = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)&p->addr));
		const __m512i two = _mm512_castsi128_si512(_mm_cvtsi32_si128(__builtin_bswap16((uint16_t)(tsc >> 48))));
		const __m512i y = _mm512_xor_si512(_mm512_maskz_permutexvar_epi8(w->picked, taken, from),
						   _mm512_loadu_si512(w->msg));
		__m512i added = _mm512_maskz_permutexvar_epi8(w->of_epoch, taken, two);
		if (w->rekey_mask != 0) {
			const uint32_t by = w->rekey_at % 4u * 8, part = rekey_part(tsc, w->rekey_mask, w->rekey_bits);
			const __m512i all = _mm512_set1_epi32((int)(part << by | (uint64_t)part >> (32 - by)));
			added = _mm512_xor_si512(added, _mm512_maskz_mov_epi8(UINT64_C(15) << w->rekey_at, all));
		}
		seal_derived(view, w, y, added, &j);
	}
	used(w->usage, view->number, USAGE_SEALED, 1, w->master, 1);
	tallied(w->tally, view->number, TALLY_SEALED, 1);
	counted(w->shares, view->number, w->by, w->octets, 1, p->out_len);
	return 1;
}
#else
/* Derives the key of a single packet and seals it, with the encrypted first block of the KDF input. Returns 0, and has
 * done nothing, if it is not remembered. */
static inline EXECUTOR int seal_remembered(const struct eesp_worker_view *view, const struct eesp_seal_plan *w,
					   const struct kdf_plan *k, eesp_job *job)
{
	static const v16 none;
	const struct eesp_direct *d = w->direct;
	const size_t per = inputs(k), rest = k->blocks - 1u;
	const uint8_t *encrypted;
	uint8_t *to = view->keys;
	if (k->mask != 0 || !single(d, job) || (rest > d->one_blocks && rest != 1) ||
	    (encrypted = remembered(view, w, load16(view->msgs), to)) == NULL)
		return 0;
	for (size_t i = 0; i < per; i++) {
		store16(to + 16 * i * rest, load16(view->msgs + 16) ^ load16(encrypted + 16 * i));
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
#endif

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
	uint32_t prefix = bare ? 0 : w->prefix;
	uint64_t tsc = tsc_of(&w->counter, first), octets = 0;
	eesp_job jobs[CHUNK], *sorted = jobs;
	uint8_t index[CHUNK] = { 0 }, lane[CHUNK];
	const uint8_t *of = as_they_are; /* job k in order of length is packet of[k] */
	uint32_t differ = 0; /* lengths do */
	struct order o;

	for (size_t i = 0; i < n; i++) {
		lane[m] = (uint8_t)i;
		if (LIKELY(simple_job(&pkts[i], w, &jobs[m], prefix, bare ? 0 : padding(w, pkts[i].len)) &&
			   (bare || w->wrap == UNWRAP_BARE || wraps(w, &pkts[i])))) {
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
	const struct front f = front_of(w, bare);
	const uint64_t step = w->counter.step;
	for (size_t i = 0; i < m; i++) {
		size_t at = of[i];
		eesp_pkt *p = &pkts[at];
		eesp_job *j = &sorted[i];
		uint64_t mine = tsc + at * step;
		uint8_t *hdr = head(w, &f, p, j, mine);
		uint32_t out_len = f.header + j->len + ICV;
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
			out_len += padding(w, text);
		}
		describe(&f, p, hdr, out_len, mine);
		octets += out_len;
	}
#ifndef WIDE
	if (m != 1 || !seal_remembered(view, w, &k, sorted))
#endif
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

/* For plans with a short way for single packets. */
#ifdef WIDE
static NOINLINE size_t seal_alone(const struct eesp_worker_view *view, const struct eesp_seal_plan *w, eesp_pkt *pkts,
				  size_t n, uint64_t first, size_t *stray)
{
	return seal_single(view, w, pkts, first) ? 1 : seal_any(view, w, pkts, n, first, stray);
}
#else
#define seal_alone seal_any
#endif

#endif /* EESP_SEAL_H */
