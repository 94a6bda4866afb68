/* SPDX-License-Identifier: BSD-3-Clause */
/* For direct.c: the inputs of the KDF, and the keys that are derived from them. */
#ifndef EESP_KEYS_H
#define EESP_KEYS_H

/* How keys are derived, or (master is NULL) the area they are in: fields of a
 * sender's plan, or of a pattern. */
struct kdf_plan {
	const uint8_t *master, *sub, *area;
	uint8_t blocks, key_len;
	uint8_t counter; /* place in the input of the number of the output block */
	uint8_t mask; /* octets behind the key that are added to the nonce */
	const uint8_t *last; /* the last block that all inputs have, not counted in blocks; NULL: there is none */
};

/* Fills in k where it is: a copy would be read with wider loads than the stores that wrote it, and wait for these. */
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

/* The same, but faster for fewer than 2 * FEW_KEYS packets: these share few keys only if all have one key, which
 * comparing the first two mostly rules out. */
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

/* The same if all inputs have the same last block. It first derives all keys, one directly behind the other, and
 * then what is added to nonces. */
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

#endif /* EESP_KEYS_H */
