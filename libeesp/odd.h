/* SPDX-License-Identifier: BSD-3-Clause */
/* For direct.c: odd headers, read as the profile's Parse in Go does, from a copy that becomes the AAD. */
#ifndef EESP_ODD_H
#define EESP_ODD_H

/* Octets from the prefix on that are copied before an odd header is read: no less than what is read of one. */
enum { ODD_COPIED = 304, ODD_ROOM = ODD_COPIED + 16 };

/* What an odd header says. status is the packet's status; told: the descriptor gets the
 * header's fields. */
struct odd {
	const struct eesp_pattern *pattern;
	uint64_t id, tsc;
	uint32_t header, skip; /* skip: octets of the payload that are not authenticated */
	int32_t clear; /* octets of the payload in clear; negative: octets of the extension that are encrypted */
	uint8_t coffset, ioffset, next_header, told;
	eesp_status status;
	uint8_t *hdr; /* the header's copy */
	const struct eesp_pattern *last; /* of the packet before; NULL: none */
};

/* Sets the status of an odd header and returns s; NULL if it is 0: Go takes the packet. */
static inline const struct eesp_layout *odd_ends(struct odd *o, const struct eesp_layout *s, eesp_status st, int told)
{
	o->status = st;
	o->told = (uint8_t)told;
	return st != EESP_OK ? s : NULL;
}

static const struct eesp_layout *odd_extension(const struct eesp_open_plan *w, const eesp_pkt *p, struct odd *o)
{
	const uint8_t *hdr = o->hdr;
	const struct eesp_layout *s = layout_of(w, hdr, 0);
	if (s == NULL || p->len < (uint32_t)s->n + ICV)
		return NULL;
	const uint32_t more = once(hdr + s->more_at), begin = s->n + 4u * (once(hdr + s->clear_at) & s->clear_mask),
		       header = s->n + 8 * (more - 1);
	const eesp_status st = more < s->least_more ? EESP_ERR_HEADER_LEN : p->len < header + ICV ? EESP_ERR_SHORT
			       : p->len < begin + ICV		     ? EESP_ERR_OFFSET : EESP_OK;
	if (st != EESP_OK)
		return odd_ends(o, s, st, 0);
	o->header = p->flags == EESP_PKT_EXTENSION ? s->n : header; /* then the extension is part of the payload */
	o->clear = (int32_t)(s->all_clear ? p->len - ICV : begin) - (int32_t)o->header;
	o->coffset = s->all_clear || o->clear < 0 ? 0 : (uint8_t)(o->clear / 4);
	o->id = get64(hdr + s->id_at) >> s->id_shift & s->id_mask;
	o->tsc = get64(hdr + s->tsc_at);
	o->next_header = hdr[s->next_at];
	o->pattern = pattern_of(w, s, hdr);
	if (o->pattern == NULL || (o->id & s->id_need) == s->id_never)
		return odd_ends(o, s, s->missing, 1);
	return s;
}

/* Whether n octets are zeros. */
static int zeros(const uint8_t *b, size_t n)
{
	uint8_t any = 0;
	for (size_t i = 0; i < n; i++)
		any |= b[i];
	return any == 0;
}

enum { OPTION_PAD1 = 0, OPTION_PADN = 1, OPTION_COFFSET = 2, OPTION_FLOW = 3, OPTION_PRIVATE = 224, OPTION_KEY = 0xE0,
	LEVELS = 3 };

/* The place at which options that name keys end and padding begins; 0 if there are other
 * octets: parseOptions of internal/wire. */
static size_t key_options(const uint8_t *b, size_t at, size_t end)
{
	uint32_t next = OPTION_KEY;
	size_t names;
	while (end - at >= 4 && b[at] >= next && b[at] < OPTION_KEY + LEVELS) {
		const uint32_t size = b[at + 1] + 2u, pad = b[at + 3], id = size - 4 - pad;
		if (size > end - at || size % 4 != 0 || pad > 3 || id - 16 > 16 || !zeros(b + at + 4 + id, pad))
			return 0;
		next = b[at] + 1u;
		at += size;
	}
	names = at;
	if (end - at >= 8)
		return 0;
	while (at < end) {
		size_t size = 1;
		if (b[at] != OPTION_PAD1) {
			if (b[at] != OPTION_PADN || end - at < 2 || b[at + 1] + 2u > end - at ||
			    !zeros(b + at + 2, b[at + 1]))
				return 0;
			size = b[at + 1] + 2u;
		}
		at += size;
	}
	return names;
}

/* Whether a header, but for its offsets, matches a pattern, which is that of the packet before. begin is its first
 * block without them. */
static inline int as_before(const uint8_t *hdr, v16 begin, const struct eesp_pattern *pt)
{
	const struct eesp_layout *s = pt->form;
	v16 d = (begin ^ load16(pt->value)) & load16(s->mask);
	for (size_t c = 16; c < 16u * s->vectors; c += 16)
		d |= (load16(hdr + c) ^ load16(pt->value + c)) & load16(s->mask + c);
	return !any16(d);
}

/* Finds the key that a header names, as a sender here would write it. */
static inline const struct eesp_layout *named(const struct eesp_open_plan *w, const eesp_pkt *p,
					      const uint8_t *as_written, struct odd *o)
{
	const struct eesp_layout *s = layout_of(w, as_written, 0);
	o->pattern = s != NULL ? pattern_of(w, s, as_written) : NULL;
	if (o->pattern != NULL && o->pattern->area != NULL && memcmp(&p->addr, o->pattern->addr, s->flow_len) != 0)
		o->pattern = NULL;
	return s;
}

static const struct eesp_layout *odd_keys(const struct eesp_open_plan *w, const eesp_pkt *p, struct odd *o)
{
	static const uint8_t but_offsets[16] = { 255, 255, 0,   0,   255, 255, 255, 255,
						 255, 255, 255, 255, 255, 255, 255, 255 };
	const uint8_t *hdr = o->hdr;
	const v16 begin = load16(hdr);
	const size_t n = 8 * (1 + (begin[0] & 15u)), at = w->screen.third_at[begin[1]], left = p->len - n - ICV;
	uint8_t as_written[PLAN_HEADER + 16];
	if (at == 0 || n < at + 8 || p->len < n + ICV) /* it is not what screen has read */
		return NULL;
	if (at == n - 8 && w->missing_bare == 0)
		return NULL;
	const v16 first = begin & load16(but_offsets);
	const struct eesp_layout *s;
	if (LIKELY(o->last != NULL && o->last->area == NULL && as_before(hdr, first, o->last))) {
		o->pattern = o->last;
		s = o->pattern->form;
		goto found;
	}
	store16(as_written, first);
	for (size_t b = 16; b < n; b += 16) { /* the last block has octets behind the header too */
		store16(as_written + b, load16(hdr + b));
		/* otherwise it becomes string instructions, which take long to begin */
		__asm__ volatile("" ::: "memory");
	}
	s = named(w, p, as_written, o);
	o->last = o->pattern;
	if (UNLIKELY(o->pattern == NULL && at < n - 8)) { /* perhaps with other padding */
		const size_t names = key_options(as_written, at, n - 8), pad = n - 8 - names;
		if (names == 0)
			return odd_ends(o, w->layouts, EESP_ERR_OPTION, 0);
		const uint64_t was = raw64(as_written + n - 16); /* what has the padding */
		memset(as_written + names, 0, pad);
		if (pad >= 2) {
			as_written[names] = OPTION_PADN;
			as_written[names + 1] = (uint8_t)(pad - 2);
		}
		if (raw64(as_written + n - 16) != was)
			s = named(w, p, as_written, o);
		if (names == at && o->pattern == NULL && w->missing_bare == 0)
			return NULL;
	}
found:
	o->coffset = (uint8_t)(begin[2] << 4 | begin[3] >> 4);
	o->ioffset = begin[3] & 15;
	if (o->ioffset > o->coffset || 4u * o->coffset > left)
		return odd_ends(o, w->layouts, EESP_ERR_OFFSET, 0);
	o->header = (uint32_t)n;
	o->clear = 4 * o->coffset;
	o->skip = 4u * o->ioffset;
	if (o->pattern != NULL)
		return s;
	o->id = at == 12 ? get64(hdr + 4) : get64(hdr + 4) >> 32;
	o->tsc = get64(hdr + n - 8);
	return odd_ends(o, w->layouts, w->missing, 1);
}

/* The place of the Crypt Offset option's value; 0: there is none; SIZE_MAX: an option is
 * wrong: eespOptions of internal/wire. */
static size_t any_options(const uint8_t *b, size_t at, size_t end, int flow)
{
	size_t coffset = 0;
	while (at < end) {
		const uint8_t t = b[at];
		if (t == OPTION_PAD1) {
			at++;
			continue;
		}
		if (end - at < 2)
			return SIZE_MAX;
		const size_t len = once(b + at + 1);
		if (len > end - at - 2)
			return SIZE_MAX;
		if (t == OPTION_PADN	  ? !zeros(b + at + 2, len)
		    : t == OPTION_COFFSET ? len != 2 || coffset != 0
		    : t == OPTION_FLOW	  ? !flow
					  : t < OPTION_PRIVATE)
			return SIZE_MAX;
		if (t == OPTION_COFFSET)
			coffset = at + 2;
		if (t == OPTION_FLOW) /* at most one */
			flow = 0;
		at += 2 + len;
	}
	return coffset;
}

static const struct eesp_layout *odd_options(const struct eesp_open_plan *w, const eesp_pkt *p, struct odd *o)
{
	const uint8_t *hdr = o->hdr;
	const struct eesp_pattern *pt = NULL;
	const struct eesp_layout *s = w->layouts;
	for (size_t i = 0; pt == NULL && i < w->n_layouts; i++)
		pt = pattern_of(w, s = &w->layouts[i], hdr);
	if (pt == NULL)
		return odd_ends(o, s, w->missing, 0);
	const uint32_t more = once(hdr + 1), header = s->n + more,
		       id = (uint32_t)hdr[s->id_at] << 8 | hdr[s->id_at + 1];
	if (p->len < (uint32_t)s->n + s->inner + ICV)
		return odd_ends(o, s, EESP_ERR_SHORT, 0);
	if (more % 4 != 0)
		return odd_ends(o, s, EESP_ERR_HEADER_LEN, 0);
	if (p->len < header + s->inner + ICV)
		return odd_ends(o, s, EESP_ERR_SHORT, 0);
	const size_t at = any_options(hdr, 8, 8 + more, pt->flow);
	if (at == SIZE_MAX)
		return odd_ends(o, s, EESP_ERR_OPTION, 0);
	if (pt->subs != NULL && id >= pt->sub_count)
		return odd_ends(o, s, EESP_ERR_SESSION, 0);
	if (at != 0) {
		const uint32_t v = (uint32_t)once(hdr + at) << 8 | once(hdr + at + 1), offset = v >> 4 & 63;
		if (pt->most_clear == 0 || 4 * (v >> 10) != header || offset > pt->most_clear ||
		    4 * offset > p->len - header - ICV)
			return odd_ends(o, s, EESP_ERR_OFFSET, 0);
		o->clear = (int32_t)(4 * offset);
		o->coffset = (uint8_t)(offset > 1 ? offset - 1 : 0);
	}
	if (s->tsc_never == 0 && get64(hdr + s->tsc_at + more) == 0)
		return odd_ends(o, s, EESP_ERR_SEQUENCE, 0);
	if (pt->subs == NULL && id + 1 != pt->sub_count)
		return odd_ends(o, s, EESP_ERR_CONTEXT, 0);
	o->header = header;
	o->pattern = pt;
	return s;
}

static const struct eesp_layout *odd_domain(const struct eesp_open_plan *w, const eesp_pkt *p, struct odd *o)
{
	const uint8_t *hdr = o->hdr;
	const struct eesp_layout *s = layout_of(w, hdr, p->flags);
	const struct eesp_pattern *pt = s != NULL ? pattern_of(w, s, hdr) : NULL;
	/* Patterns are compared by key, and the first word may not say all of it. */
	if (s == NULL || (pt == NULL && w->word_mask != UINT32_MAX))
		return odd_ends(o, w->layouts, w->missing, 0);
	struct eesp_latch *latch = pt != NULL ? pt->latch : NULL;
	if (latch != NULL && __atomic_load_n(&latch->failures, __ATOMIC_RELAXED) >= latch->most)
		return odd_ends(o, s, EESP_ERR_LATCHED, 0);
	if (p->len < (uint32_t)s->n + ICV)
		return odd_ends(o, s, EESP_ERR_SHORT, 0);
	const uint32_t clear = s->begin > s->n ? (uint32_t)s->begin - s->n : 0;
	o->id = s->id_mask == 0 ? 0 : get64(hdr + s->id_at) >> s->id_shift;
	o->tsc = get64(hdr + s->tsc_at);
	o->coffset = (uint8_t)(clear / 4);
	if (clear > p->len - s->n - ICV)
		return odd_ends(o, s, EESP_ERR_OFFSET, 1);
	if (s->unusable != EESP_OK)
		return odd_ends(o, s, s->unusable, 1);
	if ((o->tsc >> 40 & s->direction_mask) != s->direction)
		return odd_ends(o, s, EESP_ERR_REFLECTED, 1);
	if (pt == NULL || memcmp(hdr + s->who_at, pt->addr, s->who_len) != 0)
		return odd_ends(o, s, w->missing, 1);
	o->header = s->n;
	o->clear = (int32_t)clear;
	o->pattern = pt;
	return s;
}

/* Refuses a packet with the status of its odd header. */
static void refuse_odd(const struct eesp_open_plan *w, eesp_pkt *p, const struct odd *o, struct refusals *a)
{
	p->id = p->tsc = 0;
	if (o->told) {
		p->id = o->id;
		p->tsc = o->tsc;
		p->coffset = o->coffset;
		p->ioffset = o->ioffset;
		p->next_header = o->next_header;
	}
	refuse(w, p, o->status, domain_of(w, p), a);
}

/* Whether Go may see a packet whose key is missing, to ask the agent for newer keys: one a millisecond, so that forged
 * packets do not wake it all the time. */
static NOINLINE int may_ask(const struct eesp_open_plan *w)
{
	uint64_t *asked = &w->strangers->asked, now = coarse_ns() >> 20,
		 last = __atomic_load_n(asked, __ATOMIC_RELAXED);
	return now != last && __atomic_compare_exchange_n(asked, &last, now, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

/* How many octets odd copies. */
static inline uint32_t odd_copied(const struct eesp_open_plan *w, const eesp_pkt *p)
{
	const uint32_t prefix = w->screen.prefix[p->flags], all = prefix + p->len,
		       n = w->odd == ODD_OPTIONS || w->odd == ODD_KEYS ? ODD_COPIED : (prefix + 48) & ~15u;
	return all < n ? all : n;
}

/* Copies the beginning of a packet to "to", which has ODD_ROOM octets, and reads its header, which the plan does not
 * cover. Returns its layout, or NULL: Go takes the packet. */
static NOINLINE const struct eesp_layout *odd(const struct eesp_open_plan *w, const eesp_pkt *p, struct odd *o,
					      uint8_t *to)
{
	if (!ordinary(&w->screen, p) || p->len < 4 + ICV)
		return NULL;
	const uint32_t prefix = w->screen.prefix[p->flags], n = odd_copied(w, p);
	const uint8_t *from = (const uint8_t *)p->data - prefix;
	memset(o, 0, offsetof(struct odd, last));
	blocks(to, from, n & ~15u);
	store16(to + n - 16, load16(from + n - 16));
	__asm__ volatile("" ::: "memory"); /* from here on the copy is read */
	o->hdr = to + prefix;
	switch (w->odd) {
	case ODD_KEYS: return odd_keys(w, p, o);
	case ODD_OPTIONS: return odd_options(w, p, o);
	case ODD_DOMAIN: return odd_domain(w, p, o);
	default: return odd_extension(w, p, o);
	}
}

#endif /* EESP_ODD_H */
