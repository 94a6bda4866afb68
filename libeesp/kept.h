/* SPDX-License-Identifier: BSD-3-Clause */
/* For direct.c: keeps data keys of flows that continue, so that they need not be derived for each packet. Each
 * table belongs to one thread and one plan: a new plan begins with empty tables. */
#ifndef EESP_KEPT_H
#define EESP_KEPT_H

/* A table gains a credit, worth about 8 ns, for each packet whose key it has. It pays for packets that are opened
 * singly (KEPT_ONE), for searching packets for new keys (KEPT_LOOK), and for each key that it adds (KEPT_ADD). Without
 * credits, as with many more flows than places, it is not used for KEPT_REST packets. */
enum { KEPT_QUAD = 4, KEPT_ONE = 20, KEPT_LOOK = 24, KEPT_ADD = 10, KEPT_MOST = 2 * KEPT_CREDIT, KEPT_REST = 65536 };
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
	for (size_t i = 0; i < n; i++) /* only authentic packets count as use of a key */
		t->used |= (uint32_t)(jobs[i].ok == 1) << jobs[i].key;
	t->credit = t->credit + (int32_t)n < KEPT_MOST ? t->credit + (int32_t)n : KEPT_MOST;
}

/* Opens packets of one batch if nearly all of their keys are kept. Returns how many are; 0: nothing was done. Inputs of
 * the KDF are in msgs. *more: whether there are new keys: others than those of forged packets. */
static inline EXECUTOR size_t open_kept(const struct eesp_worker_view *view, const struct eesp_direct *d,
					struct eesp_kept *t, const struct kdf_plan *k, uint16_t batch, eesp_job *jobs,
					size_t n, uint32_t *more)
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
	t->credit -= (int32_t)(n + (n - hits) * KEPT_ONE); /* as if no key was here, and more */
	*more = hits = 0;
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
	for (size_t i = n; i-- != 0;) /* the others singly */
		if (jobs[i].key == CHUNK) {
			blocks(view->msgs, inputs[--misses], len);
			derive_and_run(view, d, k, 1, index, 0, &jobs[i], 1);
			*more |= jobs[i].ok;
		}
	return hits;
}

/* Chooses the place for a new key: that of a key without authentic packets for long. taken: bits of places that
 * other packets of the same call use, and that must not be chosen. */
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
		__asm__ volatile("" ::: "memory"); /* complete before it can be found */
		t->first[is->hash] = (uint8_t)(place[i] + 1);
	}
	explicit_bzero(view->keys, n * k->key_len);
	explicit_bzero(view->area, SUB_QUAD);
	explicit_bzero(masks, sizeof masks);
	clear_registers(); /* no kernel that would clear them came after these copies */
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
	uint32_t more = 1;
	if (w->kept != NULL && k->master != NULL && share_of(w->shares, view->number) != NULL)
		t = &w->kept[view->number % SHARES];
	if (t != NULL && UNLIKELY(t->asleep > 0)) {
		t->asleep -= (int32_t)n;
		t = NULL;
	}
	if (t != NULL)
		hits = open_kept(view, w->direct, t, k, lanes->pattern->batch, jobs, n, &more);
	u = n - hits;
	if (UNLIKELY(hits == 0)) {
		if (n >= FEW_KEYS && k->master != NULL)
			u = keys_of(view->msgs, stride, (size_t)k->blocks * 16, n, index);
		derive_and_run(view, w->direct, k, u, index, 0, jobs, n);
	}
	if (t == NULL || LIKELY(hits == n))
		return u;
	if (more)
		u += keep(view, w->direct, t, k, lanes, from, jobs, n);
	if (t->credit < 0) {
		t->credit = KEPT_CREDIT;
		t->asleep = KEPT_REST;
	}
	return u;
}

#endif /* EESP_KEPT_H */
