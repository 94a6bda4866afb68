/* SPDX-License-Identifier: BSD-3-Clause */
/* For direct.c: replay windows. internal/replay describes the algorithm and why it is correct. */
#ifndef EESP_WINDOWS_H
#define EESP_WINDOWS_H

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

/* Finds a packet's window. NULL may be wrong while entries move: then Insert finds the window. */
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
static NOINLINE int sole_begin_slowly(struct eesp_sole *t, uint64_t number, const uint64_t *plain)
{
	for (;;) {
		uint64_t o = __atomic_load_n(&t->owner, __ATOMIC_SEQ_CST);
		if (o == SEVERAL)
			return 0;
		if (o == 0 || o == number) {
			if (o == 0 &&
			    !__atomic_compare_exchange_n(&t->owner, &o, number, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
				continue;
			announce(&t->busy, 1, plain);
			if (__atomic_load_n(&t->owner, __ATOMIC_SEQ_CST) == number)
				return 1;
			__atomic_exchange_n(&t->busy, 0, __ATOMIC_SEQ_CST);
		} else if (o != BECOMING) {
			__atomic_compare_exchange_n(&t->owner, &o, BECOMING, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
		} else if (eespGoSweep(), __atomic_load_n(&t->busy, __ATOMIC_SEQ_CST) == 0) {
			__atomic_compare_exchange_n(&t->owner, &o, SEVERAL, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
		} else { /* the owner may need this CPU */
			struct timespec some = { 0, 10000 };
			nanosleep(&some, NULL);
		}
	}
}

static inline int sole_begin(struct eesp_sole *t, uint64_t number, const uint64_t *plain)
{
	uint64_t o = __atomic_load_n(&t->owner, __ATOMIC_RELAXED);
	if (o == SEVERAL)
		return 0;
	if (LIKELY(o == number)) {
		announce(&t->busy, 1, plain);
		if (LIKELY(__atomic_load_n(&t->owner, __ATOMIC_SEQ_CST) == number))
			return 1;
		__atomic_exchange_n(&t->busy, 0, __ATOMIC_SEQ_CST);
	}
	return sole_begin_slowly(t, number, plain);
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

/* Finds what probably is a packet's window and prefetches its lines, so that cache misses overlap. */
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

/* Checks the windows of n lanes, removes lanes and jobs of packets that are not new, and returns how many remain.
 * numbered: number_lane was called for them. */
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

/* find_windows for a run: packets of one window that are newer than what it has, with consecutive numbers. Returns 0 if
 * they are none. Of a run, only the first lane's window, word and number are set. */
static NOINLINE int find_run(const struct eesp_open_plan *w, struct lane *lanes, const uint8_t *from, size_t off,
			     __m128i of_addr, size_t n)
{
	const struct eesp_windows *const t = w->windows;
	const uint64_t first = (lanes[0].seq & w->split.mask) >> w->split.shift;
	const uint64_t field = w->split.mask >> w->split.shift;
	const __m256i step = _mm256_zextsi128_si256(_mm_cvtsi64_si128(INT64_C(1) << w->split.shift));
	__m256i is = _mm256_loadu_si256((const __m256i *)&lanes[0].seq), differ = _mm256_setzero_si256();
	const uint8_t *p;
	memcpy(&p, from, sizeof p);
	const __m128i addr = _mm_loadu_si128((const __m128i *)(p + off));
	__m128i others = _mm_setzero_si128();
	for (size_t i = 1; i < n; i++) {
		memcpy(&p, from + i * sizeof *lanes, sizeof p);
		is = _mm256_add_epi64(is, step);
		const __m256i next = _mm256_loadu_si256((const __m256i *)&lanes[i].seq);
		differ = _mm256_ternarylogic_epi64(differ, is, next, 0xf6);
		others = _mm_ternarylogic_epi64(others, addr, _mm_loadu_si128((const __m128i *)(p + off)), 0xf6);
	}
	/* all words but the hash, which is not set yet */
	if (_mm256_mask_test_epi64_mask(0xd, differ, differ) != 0 || !_mm_testz_si128(others, of_addr) ||
	    (field & (field + 1)) != 0 || first > UINT64_MAX - CHUNK)
		return 0;
	lanes[0].hash = flow_hash(t->seed, t->no_addr, times_mix(t->seed[6], t->seed[7]), &lanes[0], lanes[0].id,
				  lanes[0].who, lanes[0].pattern->form);
	uint8_t *const window = window_of(t, &lanes[0]);
	if (window == NULL || first <= __atomic_load_n(window_top(window), __ATOMIC_RELAXED))
		return 0;
	lanes[0].window = window;
	lanes[0].word = window_word(t, window, first);
	lanes[0].hash = mark_of(first);
	lanes[0].seq = first;
	return 1;
}

/* What check_windows does, for lanes of one pattern, eight at a time, and in few instructions if all are
 * newer than what their windows have. run: whether they may be, and are, a run. */
static NOINLINE size_t find_windows(const struct eesp_open_plan *w, uint64_t number, struct lane *lanes, eesp_job *jobs,
				    size_t n, int *run)
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
	const uint64_t over = (lanes[n - 1].seq & w->split.mask) - (lanes[0].seq & w->split.mask);
	*run = *run && over >> w->split.shift == n - 1 && find_run(w, lanes, from, off, of_addr, n);
	if (*run)
		return n;
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
static COLD NOINLINE void refuse_room(const struct eesp_open_plan *w, uint64_t number, struct lane *l)
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

/* There is one of these for both compilations of direct.c: no vectors make them faster. */
#define ONCE __attribute__((visibility("hidden"))) NOINLINE
ONCE int commit_slowly(const struct eesp_fast_path *fp, const struct eesp_open_plan *w, struct lane *l, int alone);
ONCE size_t commit_run(const struct eesp_windows *t, struct lane *lanes, const eesp_job *jobs, size_t n, int alone,
		       uint64_t *octets);

#ifndef WIDE
/* Commits an authentic packet, whose window may have to be made. */
int commit_slowly(const struct eesp_fast_path *fp, const struct eesp_open_plan *w, struct lane *l, int alone)
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

/* Commits a run and returns n, if all its packets are authentic and no other thread uses the windows. If not, it sets
 * lanes as those of packets that are no run, and returns 0. */
size_t commit_run(const struct eesp_windows *t, struct lane *lanes, const eesp_job *jobs, size_t n, int alone,
		  uint64_t *octets)
{
	uint8_t *const window = lanes[0].window;
	const uint64_t first = lanes[0].seq, last = first + n - 1;
	uint32_t ok = alone != 0;
	for (size_t i = 0; i < n; i++)
		ok &= jobs[i].ok;
	if (UNLIKELY(!ok)) {
		for (size_t i = 1; i < n; i++) {
			lanes[i].window = window;
			lanes[i].seq = first + i;
			lanes[i].hash = mark_of(first + i);
			lanes[i].word = window_word(t, window, first + i);
		}
		return 0;
	}
	__atomic_store_n(window_top(window), last, __ATOMIC_RELAXED);
	for (uint64_t block = first >> 4; block <= last >> 4; block++) {
		uint64_t *const word = window_word(t, window, block << 4), x = __atomic_load_n(word, __ATOMIC_RELAXED);
		uint64_t y = block << 16 | 0xffff;
		if (block == first >> 4)
			y &= ~(uint64_t)0xffff | 0xffff << (first & 15);
		if (block == last >> 4)
			y &= ~(uint64_t)0xffff | 0xffff >> (15 - (last & 15));
		__atomic_store_n(word, ((x ^ y) >> 16 == 0 ? x : 0) | y, __ATOMIC_RELAXED);
	}
	for (size_t i = 0; i < n; i++) {
		eesp_pkt *p = lanes[i].p;
		p->status = EESP_OK;
		p->out = jobs[i].dst;
		p->out_len = jobs[i].len;
		*octets += jobs[i].len;
	}
	return n;
}
#endif

/* Commits an authentic packet, with the usual case inline: it is newer than all before, and no other thread uses the
 * windows. */
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

/* -- Replay protection by time: times.h. -- */

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

#endif /* EESP_WINDOWS_H */
