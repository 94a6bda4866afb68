/* SPDX-License-Identifier: BSD-3-Clause */
/* For direct.c: opens packets during a flood, while many packets are refused. */
#ifndef EESP_FLOOD_H
#define EESP_FLOOD_H

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
	/* the pattern of the first packet with Sub SAs: new Sub SAs of other patterns are not refused here */
	const struct eesp_pattern *pt = NULL;
	const struct eesp_layout *s = NULL;
	const uint32_t all = n < 32 ? (UINT32_C(1) << n) - 1 : UINT32_MAX, flags = pkts[0].flags;
	uint32_t noise = 0, strange = 0, least = screen->least;
	if (flags > 3 || screen->prefix[flags] == NONE)
		return all;
	for (size_t i = 0; i < n; i++) /* the first line is enough to refuse a forged packet */
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

#endif /* EESP_FLOOD_H */
