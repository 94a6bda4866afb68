/* SPDX-License-Identifier: BSD-3-Clause */
/* For direct.c: finds the pattern that a header matches, and writes its KDF input. */
#ifndef EESP_HEADERS_H
#define EESP_HEADERS_H

/* Writes the blocks behind the first of a KDF input, and adds copied octets and the counter's part to all. */
static NOINLINE void input_more(uint8_t *to, const struct lane *l)
{
	const struct eesp_pattern *pt = l->pattern;
	const struct eesp_layout *s = pt->form;
	for (uint32_t b = 1; b < pt->blocks; b++)
		store16(to + 16 * b, load16(pt->more[b - 1]));
	for (uint32_t c = 0; c < s->copies; c++) {
		const uint8_t *from = s->copy[c].what == COPY_DESC ? (const uint8_t *)&l->p->addr : l->p->data;
		store16(to + s->copy[c].to, load16(from + s->copy[c].from));
	}
	if (s->rekey_mask != 0)
		rekeyed(to, s->rekey_at, l->p->tsc, s->rekey_mask, s->rekey_bits);
}

#ifdef WIDE
/* The octets of a descriptor that are the same in all usual packets of a layout: iov_count, flags, reserved, and
 * the highest octet of a pointer, which is 0. Layouts whose headers take two vectors expect another value there,
 * so their packets do not match, and need no branch of their own. */
static const uint8_t of_descriptor[64] = {
	[7] = 0xff, [22] = 0xff, [23] = 0xff, [60] = 0xff, [61] = 0xff, [63] = 0xff,
};
_Static_assert(offsetof(eesp_pkt, data) == 0 && offsetof(eesp_pkt, iov_count) == 22 &&
	       offsetof(eesp_pkt, flags) == 60 && offsetof(eesp_pkt, reserved) == 63, "of_descriptor");

enum { WHOLE = 3 }; /* in place of 0, simple of layouts with wide.whole */

/* Writes the further blocks of a KDF input, and returns what is added to the first one. */
static inline v16 further_blocks(uint8_t *to, const struct eesp_layout *s, const struct eesp_pattern *pt,
				 const eesp_pkt *p)
{
	const __m512i from = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)&p->addr));
	const __m512i at = _mm512_loadu_si512(s->wide.pick_addr);
	const __m512i addr = _mm512_maskz_permutexvar_epi8(s->wide.of_addr, at, from);
	store16(to + 16, load16(pt->more[0]) ^ (v16)_mm512_castsi512_si128(addr));
	if (pt->blocks > 2)
		store16(to + 32, load16(pt->more[1]) ^ (v16)_mm512_extracti32x4_epi32(addr, 1));
	return (v16)_mm512_extracti32x4_epi32(addr, 2);
}
#endif

/* 16 octets of a header from source_at on, and from tail_at on. Another party may write to the header meanwhile.
 * So nonce and KDF input, and the ID and TSC by which the window is found, are all made from these copies. */
struct ends { v16 source, tail; };

static inline struct ends ends_of(const uint8_t *source, const uint8_t *tail)
{
	struct ends e = { .source = load16(source) };
	e.tail = e.source;
	if (tail != source)
		e.tail = load16(tail);
	return e;
}

static inline uint64_t id_in(const struct ends *e, const struct eesp_layout *s)
{
	const size_t at = (size_t)(s->id_at - s->source_at);
	return get64((const uint8_t *)&e->source + (at <= 8 ? at : 0)) >> s->id_shift & s->id_mask;
}

static inline uint64_t tsc_in(const struct ends *e, const struct eesp_layout *s)
{
	return get64((const uint8_t *)&e->tail + ((s->tsc_at - s->tail_at) & 15));
}

/* Writes a packet's KDF input a second time. If ID or TSC have changed in the header, the input is one that no
 * sender uses, so the ICV will be wrong. */
static inline EXECUTOR void input(uint8_t *to, const struct lane *l)
{
	const struct eesp_layout *s = l->pattern->form;
	const uint8_t *hdr = l->p->data;
	const struct ends e = ends_of(hdr + s->source_at, hdr + s->tail_at);
	v16 first = load16(l->pattern->msg) ^ pick(e.source, load16(s->msg_source)) ^
		    pick(e.tail, load16(s->msg_tail));
	if (UNLIKELY(id_in(&e, s) != l->p->id || tsc_in(&e, s) != l->p->tsc))
		first = ~first;
	store16(to, first);
	if (s->simple == 0)
		input_more(to, l);
	else if (s->rekey_mask != 0)
		rekeyed(to, s->rekey_at, l->p->tsc, s->rekey_mask, s->rekey_bits);
}

/* The ID in a header of a layout. */
static inline uint64_t id_of(const struct eesp_layout *s, const uint8_t *hdr)
{
	return get64(hdr + s->id_at) >> s->id_shift & s->id_mask;
}

/* The layout that a header's first word and flags select, or NULL. */
static inline const struct eesp_layout *layout_of(const struct eesp_open_plan *w, const uint8_t *hdr, uint32_t flags)
{
	uint32_t word, k;
	memcpy(&word, hdr, 4);
	word = (word & w->word_mask) + flags * FLAGS_FACTOR;
	k = w->layout_by_word[word * w->word_factor >> 22];
	return k != 0 && w->layouts[k - 1].word == word ? &w->layouts[k - 1] : NULL;
}

static inline const struct eesp_layout *layout_by_word(const struct eesp_open_plan *w, const eesp_pkt *p)
{
	return p->data == NULL || p->len < 4 + ICV ? NULL : layout_of(w, p->data, p->flags);
}

/* Whether a header matches a pattern of its layout, from octet "from" on. */
static inline int equals(const uint8_t *hdr, const struct eesp_pattern *pt, const struct eesp_layout *s, size_t from)
{
	v16 d = { 0 };
	for (size_t c = from; c < 16u * s->vectors; c += 16)
		d |= (load16(hdr + c) ^ load16(pt->value + c)) & load16(s->mask + c);
	return !any16(d);
}

/* The pattern of its layout that a header matches, or NULL. Forged headers may be sent to any bucket: the hash is of
 * all that tells keys apart, so that no bucket has many patterns. */
static NOINLINE const struct eesp_pattern *pattern_of(const struct eesp_open_plan *w, const struct eesp_layout *s,
						      const uint8_t *hdr)
{
	uint64_t factor = UINT64_C(0x9E3779B97F4A7C15),
		 probe = ((raw64(hdr + s->probe_at) & s->probe_mask) ^ s->word) * factor;
	for (size_t i = s->probe_more, at = s->n; i-- > 0; at -= 8)
		probe += raw64(hdr + at - 16) * (factor += 2 * UINT64_C(0x9E3779B97F4A7C15));
	for (uint32_t at = w->bucket[probe >> w->bucket_shift]; at != 0;) {
		const struct eesp_pattern *pt = (const struct eesp_pattern *)((const uint8_t *)w->patterns + at);
		if (pt->form == s && equals(hdr, pt, s, 0))
			return pt;
		at = pt->next;
	}
	return NULL;
}

#endif /* EESP_HEADERS_H */
