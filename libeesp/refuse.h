/* SPDX-License-Identifier: BSD-3-Clause */
/* For direct.c: refuses packets (own IDs, no key, floods) and counts them. */
#ifndef EESP_REFUSE_H
#define EESP_REFUSE_H

#define MOST_STRANGE 256 /* mostStrange of internal/burst */
#define REFUSED_EACH 1024 /* refusedEach of internal/burst */

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
	/* all bits of the ID count: own IDs may differ in any of them only */
	for (uint64_t at = times_mix(id, UINT64_C(0x9E3779B97F4A7C15));; at++) {
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

/* The domain that a packet names, or the first if it names none; NULL: there are none. All but the first are in order
 * of their numbers. */
static inline const struct eesp_domain *domain_of(const struct eesp_open_plan *w, const eesp_pkt *p)
{
	const struct eesp_domain *d = w->screen.domains, *at = d + 1;
	uint32_t number;
	if (w->screen.n_domains < 2 || p->len < 4)
		return d;
	memcpy(&number, p->data, 4);
	number = __builtin_bswap32(number) & 0xffffff;
	if (d->number == number)
		return d;
	/* without branches: numbers of forged packets are unpredictable */
	for (size_t n = w->screen.n_domains - 1, half; n > 1; n -= half) {
		half = n / 2;
		at += at[half - 1].number < number ? half : 0;
	}
	return at->number == number ? at : d;
}

/* The status of a packet whose first octets show that it is not for this receiver;
 * EESP_OK: they do not. plan.Screen describes the fields. */
static inline eesp_status screen(const struct eesp_screen *s, const eesp_pkt *p)
{
	typedef uint32_t four __attribute__((vector_size(16)));
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
	v16 is = { 0 };
	for (size_t i = 0; i < s->n_names; i += 4) /* they are whole vectors */
		is |= (v16)((four)load16(s->names + i) == (name & s->name_mask));
	return any16(is) ? EESP_OK : EESP_ERR_NO_KEY;
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

/* The same, not inlined, for open_some, which is compiled many times. */
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

#endif /* EESP_REFUSE_H */
