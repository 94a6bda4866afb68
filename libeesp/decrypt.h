/* SPDX-License-Identifier: BSD-3-Clause */
/* For direct.c: decrypts packets of several root keys and formats, and finds the payload in what was decrypted. */
#ifndef EESP_DECRYPT_H
#define EESP_DECRYPT_H

/* Copies what a kernel has found in a copy of the job. */
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

/* Retries packets that are not authentic with the previous key. */
static COLD NOINLINE EXECUTOR void try_previous(const struct eesp_worker_view *view, const struct eesp_open_plan *w,
					   struct lane *lanes, eesp_job *jobs, size_t n, struct times_pass *pass)
{
	for (size_t i = 0; i < n; i++) {
		struct lane *l = &lanes[i];
		const struct eesp_pattern *pt = l->pattern;
		const struct eesp_layout *s = pt->form;
		if (jobs[i].ok || pt->previous == NULL)
			continue;
		if (jobs[i].src == jobs[i].dst) /* it was decrypted in place: doing so again restores the ciphertext */
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

#endif /* EESP_DECRYPT_H */
