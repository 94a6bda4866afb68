/* SPDX-License-Identifier: BSD-3-Clause */
/* For direct.c: opens packets by a plan. */
#ifndef EESP_OPEN_H
#define EESP_OPEN_H

/* Not 0 if a descriptor has other flags than the layout's packets, segments, or a reserved field that is not 0. */
static inline uint32_t unlike_usual(const eesp_pkt *p, uint32_t flags)
{
	uint32_t f; /* flags, next_header, reserved */
	memcpy(&f, &p->flags, 4);
	return ((f & word32(0xff, 0xff, 0, 0xff)) ^ flags) | p->iov_count;
}

/* Places for copies of jobs' AAD, of which those that are not loose take AAD_STEP octets each: one line, or two. */
enum { AAD_STEP = PLAN_HEADER };
static inline uint8_t *aad_room(const struct eesp_worker_view *view)
{
	return (uint8_t *)(((uintptr_t)view->aad + 63) & ~(uintptr_t)63);
}

/* Changes to another pattern in open_some. Returns whether its keys are not derived together with those before.
 * first: there are none before. */
static inline uint32_t other_batch(const struct eesp_pattern *pt, int first, size_t *stride, uint32_t *batch)
{
	if (!first)
		return pt->batch != *batch;
	*stride = pt->stride;
	*batch = pt->batch;
	return 0;
}

/* Opens up to CHUNK packets. Those that the plan does not cover are marked as strays;
 * *stray is their number. Until a packet's length is known to be enough for header
 * and ICV, only so much is read as fits in both. */
static inline __attribute__((always_inline)) EXECUTOR size_t open_some(const struct eesp_fast_path *fp,
								       const struct eesp_open_plan *w,
									  eesp_pkt *pkts, size_t n,
	int alone, struct times_pass *pass, size_t *stray, const int kind, const int extras, const int loose)
{
	const struct eesp_worker_view *view = fp->view;
	struct eesp_times *const times = w->times;
	const int bare = kind == BARE, subs = kind == SUBS, serial = kind == SERIAL;
	const uint64_t *const seed = extras == TIMES ? times->seed : NULL;
	const uint64_t high = seed != NULL ? times_mix(seed[6], seed[7]) : 0;
	const int expanded = subs || (!bare && !serial && w->expanded != 0);
	const uint32_t word_mask = w->word_mask;
	uint8_t *const aads = aad_room(view);
	size_t m, failed = 0, stride = 0;
	uint64_t octets = 0;
	/* mixed: batches differ; differ: lengths do */
	uint32_t mixed = 0, batch = UINT32_MAX, differ = 0, first_len = 0;
	int apart = 0, several = 0; /* some jobs have the heads of their bodies; lanes have several patterns */
	struct {
		eesp_job jobs[CHUNK];
		struct lane lanes[CHUNK];
	} x;
	eesp_job *sorted = x.jobs, *j = x.jobs;
	uint8_t *msg = view->msgs;
	/* The pattern of the thread's last packet, also across bursts. The first pattern of a plan matches no
	 * header. */
	const struct eesp_pattern *const none = w->patterns;
	const struct eesp_pattern *guess = none;
	struct refusals refusals;
#ifndef WIDE
	struct { uint32_t header, skip; int32_t clear; } odds[loose ? CHUNK : 1]; /* by packet */
	struct odd is = { .last = NULL };
	uint8_t *room = view->aad, *const no_room_left = room + CHUNK * AAD_ROOM; /* loose: for copies of AAD */
	/* Go is to see one packet whose key is missing, to ask the agent for newer keys */
	int ahead = loose && w->ahead;
#endif
	struct strangers strangers = { 0, 0, 0, NULL };
	struct order o;
	const void *fetch = pass; /* times: the line of the packet before */

	refusals.all = refusals.odd = refusals.kinds = 0;
	refusals.number = view->number;
	/* So that cache misses overlap; after locked operations, which wait for them. */
#pragma GCC unroll 4
	for (const eesp_pkt *p = pkts + 1; p < pkts + n; p++) {
		__builtin_prefetch(p->data);
		__builtin_prefetch((const void *)((uintptr_t)p->data + 24)); /* where most end */
	}
	if (!loose && *fp->guess < w->patterns_size) {
		guess = (const struct eesp_pattern *)((const uint8_t *)none + *fp->guess);
		stride = guess->stride;
		batch = guess->batch;
	}
	for (eesp_pkt *p = pkts, *const end = pkts + n; p < end;) {
#ifndef WIDE
		const struct eesp_layout *const s =
			loose ? (p->status == STRAY && no_room_left - room >= ODD_ROOM ? odd(w, p, &is, room) : NULL)
			: guess != none ? guess->form
					: layout_by_word(w, p);
		if (loose && s != NULL && is.status == EESP_ERR_NO_KEY && ahead) {
			ahead = 0;
			if (may_ask(w)) {
				p++;
				continue;
			}
		}
		if (loose && s != NULL && is.status != EESP_OK) {
			refuse_odd(w, p, &is, &refusals);
			p++;
			continue;
		}
#else
		const struct eesp_layout *const s = guess != none ? guess->form : layout_by_word(w, p);
#endif
		if (UNLIKELY(s == NULL)) {
			if (!loose)
				screened(w, p, &refusals);
			p++;
			continue;
		}
		/* What follows holds as long as packets have this layout. */
		const uint32_t word = s->word, prefix = bare || subs ? 0 : s->prefix,
			       inner = bare || serial ? 0 : s->inner;
		const uint32_t least = s->n + inner + ICV, flags = s->flags;
		/* From this length on, kernels take a body with its head in the job. */
		const int heads = !loose && expanded && inner == HEAD && w->direct->head_least != 0;
		const uint32_t apart_least = heads ? w->direct->head_least : UINT32_MAX;
		const int always = !subs && !loose && s->keeps == KEEPS_ALWAYS;
		const int keeps = always ||
				  (!bare && !subs && !loose && (extras == WINDOWS || extras == TIMES) && s->keeps);
		/* One branch a packet for all that only few layouts need. */
#ifdef WIDE
		const int rechecks = !bare && !subs && (always || s->direction_mask != 0);
#else
		const int rechecks = keeps || (!bare && !subs && s->direction_mask != 0);
#endif
		uint32_t header = s->n;
		/* payload octets in clear; if negative, so many octets of the extension are encrypted with it */
		int32_t clear = 0;
#ifdef WIDE
		const int simple = s->simple == 0 && s->wide.whole ? WHOLE : s->simple;
#else
		const int simple = s->simple;
#endif
		const v16 rekey_to = load16(slide + 16 - s->rekey_at % 16);
		const uint64_t rekey_mask = simple == 2 ? s->rekey_mask : 0;
#ifdef WIDE
		const __m512i compared = _mm512_loadu_si512(s->wide.compared), taken = _mm512_loadu_si512(s->wide.pick),
			      kept = _mm512_loadu_si512(s->wide.kept);
		const __mmask64 load = s->wide.load, front = s->wide.front, picked = s->wide.picked;
		const intptr_t front_at = s->wide.at;
		const int odd = !subs && !serial && s->wide.odd != 0;
		const __m512i described = _mm512_loadu_si512(of_descriptor);
		const __m512i usual = _mm512_loadu_si512(s->wide.usual);
		/* value and next: of the pattern. All are vectors from memory: building them from numbers would
		 * delay the first packet. */
		__m512i value = _mm512_loadu_si512(guess->value), numbers_of = _mm512_loadu_si512(guess->nonce);
		const __m128i lengths = _mm_loadu_si128((const __m128i *)s->wide.lengths);
#else
		const size_t source_at = (size_t)s->source_at, tail_at = (size_t)s->tail_at;
		const size_t next_at = s->next_at & 0x7f;
		const uint8_t next_mask = s->next_at == NONE ? 0 : 0xff;
		const v16 msg_source = load16(s->msg_source), msg_tail = load16(s->msg_tail),
			  nonce_source = load16(s->nonce_source), nonce_more = load16(s->nonce_more),
			  nonce_tail = load16(s->nonce_tail);
#endif
		if (j == x.jobs)
			first_len = p->len - header - ICV;
		do {
			const uint8_t *hdr = p->data;
			const struct eesp_pattern *pt = guess;
			const uint32_t len = p->len;
#ifndef WIDE
			if (loose) {
				header = is.header;
				clear = is.clear;
				hdr = is.hdr;
				pt = is.pattern;
				mixed |= other_batch(pt, j == x.jobs, &stride, &batch);
				goto matched;
			}
#endif
			if (UNLIKELY(hdr == NULL || len - least > EESP_MAX_LEN - least))
				break;
#ifdef WIDE
			const __m512i h = _mm512_maskz_loadu_epi8(load, hdr);
			const __mmask64 differs = _mm512_test_epi8_mask(_mm512_xor_si512(h, value), compared),
					unusual = _mm512_test_epi8_mask(
						_mm512_xor_si512(usual, _mm512_loadu_si512(p)), described);
			const int same_ = _kortestz_mask64_u8(differs, unusual);
			int two = 0; /* the octets that are used lie in two vectors */
#else
			const int same_ = unlike_usual(p, flags) == 0 && equals(hdr, pt, s, 0);
#endif
			if (UNLIKELY(p->headroom < prefix) || UNLIKELY(!same_)) {
				const uint32_t unlike = unlike_usual(p, flags);
				uint32_t begin;
#ifdef WIDE
				two = odd;
				if (unlike == 0 && p->headroom >= prefix && equals(hdr, pt, s, 0))
					goto matched;
#endif
				if (unlike == 0 && p->headroom >= prefix) { /* common noise is refused at once */
					const eesp_status st = w->screen.first[hdr[w->screen.first_at]];
					if (LIKELY(st != EESP_OK)) {
						refuse_some_noise(w, p, st, &refusals);
						continue;
					}
				}
				memcpy(&begin, hdr, 4);
				if ((begin & word_mask) + p->flags * FLAGS_FACTOR != word) {
					if (layout_by_word(w, p) == NULL)
						goto another;
					break;
				}
				if (unlike != 0 || p->headroom < prefix)
					goto another;
				pt = pattern_of(w, s, hdr); /* it is not the pattern of the packet before */
				if (UNLIKELY(pt == NULL))
					goto another;
#ifdef WIDE
				/* what becomes the AAD must match, too */
				if (bare && always &&
				    _mm512_test_epi8_mask(_mm512_xor_si512(h, _mm512_loadu_si512(pt->value)), compared))
					goto another;
#endif
				guess = pt;
#ifdef WIDE
				value = _mm512_loadu_si512(pt->value);
				numbers_of = _mm512_loadu_si512(pt->nonce);
#endif
				several |= j != x.jobs;
				mixed |= other_batch(pt, j == x.jobs, &stride, &batch);
			}
		matched:;
#ifndef WIDE
			const size_t moved = loose && s->moves ? header - s->n : 0;
#endif
#ifdef WIDE
			/* Without octets in front of the header, these are h. */
			__m512i got = bare || subs ? h : _mm512_maskz_loadu_epi8(front, hdr + front_at);
			const uint8_t *aad = hdr - prefix;
			if (UNLIKELY(keeps)) { /* front_at is -prefix */
				aad = aads + (size_t)(j - x.jobs) * AAD_STEP;
				_mm512_store_si512((void *)(uintptr_t)aad, got);
			}
			if (UNLIKELY(two)) {
				const __m512i more = _mm512_maskz_loadu_epi8(s->wide.behind, hdr + front_at + 64),
					      first = got;
				if (keeps)
					_mm512_store_si512((uint8_t *)(uintptr_t)aad + 64, more);
				got = _mm512_maskz_permutex2var_epi8(picked, first, taken, more);
				got = _mm512_xor_si512(got,
						       _mm512_maskz_permutex2var_epi8(s->wide.again, first,
										      _mm512_loadu_si512(s->wide.pick2),
										      more));
			} else {
				got = _mm512_maskz_permutexvar_epi8(picked, taken, got);
			}
			/* (got & kept) ^ the pattern's 64 octets: nonce, KDF input, ID and TSC, who and next_header */
			got = _mm512_ternarylogic_epi64(got, kept, numbers_of, 0x6a);
			const __m128i numbers = _mm512_extracti32x4_epi32(got, 2),
				      more = _mm512_extracti32x4_epi32(got, 3);
			const uint64_t id = (uint64_t)_mm_cvtsi128_si64(numbers),
				       tsc = (uint64_t)_mm_extract_epi64(numbers, 1);
#else
			const uint8_t *const aad = keeps ? aads + (size_t)(j - x.jobs) * AAD_STEP : hdr - prefix;
			const struct ends e = ends_of(hdr + source_at, hdr + moved + tail_at);
			const v16 source = e.source, tail = e.tail;
			const uint64_t id = id_in(&e, s), tsc = tsc_in(&e, s);
#endif
			uint32_t key = 0;
			if (subs ? tsc == 0
				 : !loose && !serial && s->numbers &&
					   ((id & s->id_need) == s->id_never || tsc == s->tsc_never))
				goto another;
			if (subs || (expanded && pt->area != NULL)) {
				if (!subs && pt->subs == NULL) {
					if (!loose && s->flow_desc && memcmp(&p->addr, pt->addr, s->flow_len) != 0)
						goto another;
				} else if (id >= pt->sub_count) {
					goto another;
				} else if ((key = __atomic_load_n(&pt->subs[id], __ATOMIC_ACQUIRE)) == 0) {
					if (((strangers.none != pt || strangers.last == id) &&
					     new_here(w, pt, id, &strangers)) || (extras && is_own(w, id)))
						goto another;
					refuse_one_flooded(w, p, id, tsc, &refusals);
#ifndef WIDE
					if (loose)
						p->coffset = is.coffset;
#endif
					continue;
				}
			}
			uint8_t *const data = loose ? p->data : (uint8_t *)(uintptr_t)hdr, *src = data + header,
				       *dst = p->dst;
			const uint32_t text = loose ? len - header - ICV - (uint32_t)clear : len - least + inner;
			/* The general path's status is ROOM, if the packet is not refused for another reason. */
			const int no_room = loose && dst != NULL && p->dst_size < text + (uint32_t)clear - inner;
			const uintptr_t gap = (uintptr_t)dst - (uintptr_t)data;
			/* dst has room for what is encrypted in front of the payload, too. */
			const uint32_t size = clear > 0 ? text + (uint32_t)clear : text;
			if (dst != NULL &&
			    LIKELY(gap >= len && -gap >= (uintptr_t)prefix + size && p->dst_size >= size)) {
				if (loose && clear > 0)
					dst += clear;
			} else if (dst == NULL || no_room ||
				   (dst == src + inner && (uint64_t)p->dst_size + inner >= text + (uint32_t)clear)) {
				dst = src + clear; /* the payload stays in its place, and must fit in dst_size too */
			} else {
				goto another; /* dst must not overlap the packet */
			}
#ifndef WIDE
			p->coffset = loose ? is.coffset : 0;
			p->ioffset = loose ? is.ioffset : 0;
#else
			p->coffset = p->ioffset = 0;
#endif
#ifdef WIDE
			_mm_storeu_si128((__m128i *)&p->id, numbers); /* and tsc */
			p->next_header = subs || serial ? 0 : (uint8_t)_mm_extract_epi8(more, 8);
#else
			p->id = id;
			p->tsc = tsc;
			p->next_header = hdr[next_at] & next_mask;
#endif
			if (!bare && !subs && s->ages) { /* serial numbers: tssOld */
				uint16_t behind = (uint16_t)(pt->epoch - (tsc >> 48));
				if (UNLIKELY(behind > pt->age) && behind < 0x8000) {
					refuse_known(p, EESP_ERR_EPOCH, w, view->number, pt);
					failed++;
					continue;
				}
			}
			if (extras && UNLIKELY(is_own(w, id)) && (!loose || s->id_mask != 0)) {
				refuse_known(p, EESP_ERR_REFLECTED, w, view->number, pt);
				failed++;
				continue;
			}
			if (extras == TIMES && UNLIKELY(!times_may(pass, tsc))) {
				if (times_passes(times, pass, fp->reading, TICK_BITS, tsc))
					goto again;
				refuse_known(p, time_statuses[times_refused(times, pass, tsc)], w, view->number, pt);
				failed++;
				p++;
				goto again;
			}
			/* the job's lane: both have one size */
			struct lane *l = (struct lane *)((uint8_t *)j + sizeof x.jobs);
			j->aad = aad; /* with the others: one load of all of them waits for separate stores */
			j->src = src + clear;
			j->dst = dst;
			j->tag = src + clear + text;
			l->p = p;
			l->pattern = pt;
#ifdef WIDE
			store16(&j->aad_len, (v16)_mm_insert_epi32(lengths, (int)text, 1)); /* to ok */
#else
			j->aad_len = header + prefix + (uint32_t)clear;
			j->len = text;
			j->key = 0;
			j->ok = 0;
			if (loose) {
				odds[p - pkts].header = header;
				odds[p - pkts].skip = is.skip;
				odds[p - pkts].clear = clear;
				if (text == 0) /* no pointer to behind a buffer */
					j->src = j->dst = j->tag;
				j->aad_len -= is.skip;
				const uint32_t begin = prefix + header, had = is.skip != 0 ? begin : odd_copied(w, p);
				if (j->aad_len > (size_t)(no_room_left - room))
					goto another;
				if (j->aad_len > had) /* clear octets of the payload */
					memcpy(room + had, src + is.skip + (int32_t)(had - begin), j->aad_len - had);
				room += (j->aad_len + 15) & ~(size_t)15;
			}
#endif
			if (UNLIKELY(rechecks)) {
				/* by another party, meanwhile */
				int changed = (tsc >> 40 & s->direction_mask) != s->direction;
				if (keeps) {
					const uint8_t *const copy = aad + prefix;
#ifndef WIDE
					blocks((uint8_t *)(uintptr_t)aad, hdr - prefix, j->aad_len);
					__asm__ volatile("" ::: "memory"); /* from here on the copy is read */
					changed |= get64(copy + s->tsc_at) != tsc;
					p->next_header = copy[next_at] & next_mask;
#endif
					if (always)
						changed |= !equals(copy, pt, s, 0) | (id_of(s, copy) != id);
				}
				if (UNLIKELY(changed)) {
					refuse_known(p, EESP_ERR_AUTH, w, view->number, pt);
					failed++;
					continue;
				}
			}
#ifdef WIDE
			store16(j->nonce, (v16)_mm512_castsi512_si128(got));
			v16 first = subs ? (v16){ 0 } : (v16)_mm512_extracti32x4_epi32(got, 1);
#else
			store16(j->nonce, load16(pt->nonce) ^ pick(source, nonce_source) ^ pick(source, nonce_more) ^
						  pick(tail, nonce_tail));
			v16 first = load16(pt->msg) ^ pick(source, msg_source) ^ pick(tail, msg_tail);
#endif
			/* Inputs are moved later if jobs are reordered or removed. */
			if (!serial && !subs && LIKELY(simple == 1)) {
				store16(msg, first);
			} else if (!subs) {
				/* part of the counter is in the first block; the second does not vary */
				if (serial || simple == 2)
					first ^= pick(rekey_of(tsc, rekey_mask, s->rekey_bits), rekey_to);
#ifdef WIDE
				if (simple == WHOLE)
					first ^= further_blocks(msg, s, pt, p);
#endif
				store16(msg, first);
				if (simple == 0)
					input_more(msg, l);
			}
			if (expanded && UNLIKELY(text >= apart_least) && j->src != j->dst && pt->area != NULL) {
				j->dst = (void *)((uintptr_t)dst - HEAD);
				j->reserved[0] = HEAD_MASK;
				apart = 1;
			}
			if (subs || (expanded && key != 0)) {
				const uint8_t *salt = sub_salt(pt->area, --key);
				j->key = key;
				__builtin_prefetch(salt);
				if (subs)
					l->word = (uint64_t *)(uintptr_t)salt; /* until its window is known */
			}
#ifdef WIDE
			const uint64_t who = subs ? pt->kind : (uint64_t)_mm_cvtsi128_si64(more);
#else
			const uint64_t who = (tsc >> 48 & s->epoch_mask) | pt->kind |
					     (extras == TIMES ? 0 : (tsc & w->split.engine_mask) << 32);
#endif
			if (extras == WINDOWS) {
#ifdef WIDE
				/* seq, which is the TSC for now, hash, id and who */
				_mm256_storeu_si256((__m256i *)&l->seq,
						    _mm256_permute4x64_epi64(_mm512_extracti64x4_epi64(got, 1), 0x8d));
				if (subs)
					l->who = who;
#else
				l->id = id;
				l->who = who;
				l->seq = tsc;
#endif
			}
			if (no_room) {
				refuse_room(w, view->number, l);
				failed++;
				continue;
			}
			if (extras == TIMES) {
				l->word =
					times_place(times, pass,
						    flow_hash(times->seed, times->no_addr, high, l, id, who, s), tsc,
						    tsc, &l->seq);
				l->window = (uint8_t *)pass->first;
				/* this packet's line is still being computed, and what follows would wait for it */
				FETCH_TO_WRITE(fetch);
				fetch = l->word;
			}
			if (!subs)
				msg += stride;
			differ |= text ^ first_len;
			j++;
			continue;
		another:
			if (!loose)
				screened(w, p, &refusals);
		} while (++p < end && !loose);
		/* the packet is too short for the layout, or too long */
		if (!loose && p < end && layout_by_word(w, p) == s) {
			screened(w, p, &refusals);
			p++;
		}
	again: /* Behind a reading of the clock: a call inside the loop above would cost it its vector registers. */
		if (!loose && guess != none)
			*fp->guess = (uint32_t)((const uint8_t *)guess - (const uint8_t *)none);
		guess = none;
	}
	m = (size_t)(j - x.jobs);
	if (extras == TIMES)
		FETCH_TO_WRITE(fetch);
#pragma GCC unroll 4
	for (size_t i = 0; subs && i < m; i++) /* after all prefetches were started */
		add_salt(x.jobs[i].nonce, (const uint8_t *)x.lanes[i].word);
	for (size_t i = 0; !subs && expanded && i < m; i++)
		if (x.lanes[i].pattern->subs != NULL)
			add_salt(x.jobs[i].nonce, sub_salt(x.lanes[i].pattern->area, x.jobs[i].key));
	*stray = (loose ? *stray : n) - m - failed - refusals.all;
	if (!loose)
		*fp->flood = (uint32_t)(refusals.all - refusals.odd);
	int moved = 0; /* packets were removed: inputs are in other places */
	int run = 0; /* see find_run */
	if (extras == WINDOWS) {
#ifdef WIDE
		const int few = m < 4 || several || x.lanes[0].pattern->form->flow_len == 32;
		/* where nothing else may be wrong with an authentic packet */
		run = (bare || serial) && !few && !w->retries;
		const size_t left = few ? check_windows(w, view->number, x.lanes, x.jobs, m, 0) :
					  find_windows(w, view->number, x.lanes, x.jobs, m, &run);
#else
		const size_t left = check_windows(w, view->number, x.lanes, x.jobs, m, 0);
		(void)several;
#endif
		moved = left != m;
		m = left;
	}
	if (m == 0) {
		count_refused(w, &refusals);
		return 0;
	}
	if (UNLIKELY(mixed)) {
		open_mixed(view, w, x.lanes, x.jobs, m);
	} else {
		const struct eesp_pattern *pt = x.lanes[0].pattern;
		struct kdf_plan k;
		uint8_t index[CHUNK] = { 0 };
		size_t u = m;
		kdf_of(&k, pt);
		o.from = as_they_are;
		if (UNLIKELY(differ != 0))
			sorted = ordered(&o, x.jobs, m);
		if (UNLIKELY(sorted != x.jobs && !moved && k.blocks == 1))
			in_order(view->msgs, stride, o.from, m);
		else if (UNLIKELY(moved || sorted != x.jobs))
			for (size_t i = 0; k.master != NULL && i < m; i++)
				input(view->msgs + i * stride, &x.lanes[o.from[i]]);
#if KEEPS
		if (!bare && !subs && !loose) {
			u = open_alike(view, w, &k, stride, x.lanes, o.from, sorted, m);
		} else
#endif
		{
			if (m >= FEW_KEYS && k.master != NULL)
				u = keys_of(view->msgs, stride, (size_t)k.blocks * 16, m, index);
			derive_and_run(view, w->direct, &k, u, index, 0, sorted, m);
		}
		for (size_t i = 0; sorted != x.jobs && i < m; i++)
			take_result(&x.jobs[o.from[i]], &sorted[i]);
		if (u != m) /* packets are counted with a key each */
			used(pt->usage, view->number, USAGE_OPENED, 0, pt->master, u - m);
	}
	if (UNLIKELY(w->retries))
		try_previous(view, w, x.lanes, x.jobs, m, pass);
	uint64_t floor = 0, most = 0;
	if (bare && extras == TIMES)
		floor = commit_times(w, x.lanes, x.jobs, m, alone);
	/* Commit in the order of the burst: in order of length, older packets might be behind the window. */
	const struct eesp_pattern *key_of = x.lanes[0].pattern;
	uint8_t how = bare || serial ? UNWRAP_BARE : key_of->form->unwrap;
	const struct lane *from = x.lanes;
	size_t opened = 0, lost = 0; /* lost: how many with key_of, since lane from, were not opened */
	struct lane *l = x.lanes;
	if ((bare || serial) && run)
		l += commit_run(w->windows, l, x.jobs, m, alone, &octets);
	for (struct lane *const end = x.lanes + m; l < end; l++) {
		j = (eesp_job *)((uint8_t *)l - sizeof x.jobs);
		eesp_pkt *p = l->p;
		const uint8_t *head = NULL;
		if (expanded && apart && head_was_apart(j, p)) {
			head = j->reserved;
			j->dst = p->dst;
			j->len -= HEAD;
		}
		if (UNLIKELY(l->pattern != key_of)) {
			opened_with(key_of, view->number, (size_t)(l - from) - lost, (size_t)(l - from));
			opened += (size_t)(l - from) - lost;
			key_of = l->pattern;
			how = bare || serial ? UNWRAP_BARE : key_of->form->unwrap;
			from = l;
			lost = 0;
		}
		if (bare && extras == TIMES && UNLIKELY(p->tsc < floor) && j->ok == 1) {
			times_count(times, TIME_STALE);
			j->ok = NOT_NEW + TIME_STALE;
		}
		if (UNLIKELY(j->ok != 1)) {
			if (loose && l->pattern->latch != NULL)
				__atomic_fetch_add(&l->pattern->latch->failures, 1, __ATOMIC_RELAXED);
			const int late = bare && extras == TIMES && j->ok > NOT_NEW;
			refuse_known(p, late ? time_statuses[j->ok - NOT_NEW] : EESP_ERR_AUTH, w, view->number,
				     l->pattern);
		} else {
			uint32_t len = j->len;
			uint8_t *out = j->dst;
#ifndef WIDE
			if (loose) { /* clear octets go in front of the payload, or the extension is left out of it */
				const int32_t clear = odds[p - pkts].clear;
				const uint32_t header = odds[p - pkts].header, skip = odds[p - pkts].skip;
				uint8_t *payload = (uint8_t *)p->data + header;
				uint8_t *whole = p->dst == NULL || p->dst == payload + l->pattern->form->inner ? payload
													       : p->dst;
				if (clear > 0 && whole != payload) { /* as they were authenticated */
					const uint8_t *aad = (const uint8_t *)j->aad + l->pattern->form->prefix;
					memcpy(whole, payload, skip);
					memcpy(whole + skip, aad + header, (size_t)clear - skip);
				} else if (clear < 0 && whole != payload) {
					memmove(whole, out - clear, len + (uint32_t)clear);
				}
				out = whole;
				len += (uint32_t)clear;
			}
#endif
			if (subs || (!bare && !serial && UNLIKELY(how != UNWRAP_BARE))) {
				if (how != UNWRAP_ONLY && head == NULL) {
					head = out;
					out += HEAD;
					len -= HEAD;
				}
				const int64_t found = unwrap(how, p, head, out, len);
				if (UNLIKELY(found < 0)) { /* nothing is delivered, but its number was used */
					if (extras != WINDOWS || commit_slowly(fp, w, l, alone))
						refuse_known(p, (eesp_status)found, w, view->number, l->pattern);
					memset(j->dst, 0, j->len);
					lost++;
					continue;
				}
				len = (uint32_t)found;
				if (p->dst != NULL && out != p->dst) {
					copy_forward(p->dst, out, len);
					out = p->dst;
				}
			}
			const int committed = bare && extras == TIMES ? 1
					      : extras == TIMES	      ? commit_time(w, view->number, l, pass, alone)
								      : extras != WINDOWS || commit(fp, w, l, alone);
			if (committed) {
				if (bare && extras == TIMES)
					most = p->tsc > most ? p->tsc : most;
				p->status = EESP_OK;
				p->out = out;
				p->out_len = len;
				octets += len;
				continue;
			}
		}
		memset(j->dst, 0, j->len);
		lost++;
	}
	if (bare && extras == TIMES && most > pass->most)
		pass->most = most;
	const size_t with = (size_t)(x.lanes + m - from);
	opened_with(key_of, view->number, with - lost, with);
	opened += with - lost;
	if (refusals.kinds != 0)
		count_refused(w, &refusals);
	if (UNLIKELY(fp->held != NULL)) {
		fp->held->packets += opened;
		fp->held->octets += octets;
	} else if (opened != 0) {
		counted(w->shares, view->number, w->by, w->octets, opened, octets);
	}
	return opened;
}

static inline int extras_of(const struct eesp_open_plan *w)
{
	return w->times != NULL ? TIMES : w->windows != NULL ? WINDOWS : w->extras ? OWN : 0;
}

/* open_some compiled for each case, so that no packet pays for checks that its plan excludes. */
#define OPEN(name, kind, extras, loose) \
	static EXECUTOR NOINLINE size_t name(const struct eesp_fast_path *fp, const struct eesp_open_plan *w, \
					     eesp_pkt *pkts, size_t n, int alone, struct times_pass *pass, \
					     size_t *stray) \
	{ \
		return open_some(fp, w, pkts, n, alone, pass, stray, kind, extras, loose); \
	}
#if defined(WIDE) || !defined(__x86_64__)
OPEN(bare, BARE, 0, 0)
#else /* for older processors, one: where there are no own IDs, no bit says that there may be one */
#define bare bare_own
#endif
OPEN(bare_own, BARE, OWN, 0)
OPEN(bare_windows, BARE, WINDOWS, 0)
#if defined(WIDE) || !defined(__x86_64__)
OPEN(bare_times, BARE, TIMES, 0)
#else
#define bare_times any_times
#endif
#ifdef WIDE
OPEN(subs_windows, SUBS, WINDOWS, 0)
OPEN(serial_windows, SERIAL, WINDOWS, 0)
#else
#define subs_windows any_windows
#define serial_windows any_windows
#endif
#if defined(WIDE) || !defined(__x86_64__)
OPEN(any_own, ANY, OWN, 0)
OPEN(any_windows, ANY, WINDOWS, 0)
OPEN(any_times, ANY, TIMES, 0)
#else /* for older processors, one: each costs some kilobytes */
OPEN(any, ANY, extras_of(w), 0)
#define any_own any
#define any_windows any
#define any_times any
#endif

#define EXECUTORS                                                                                              \
	{                                                                                                      \
		{ seal_any, seal_bare }, seal_alone,                                                           \
		{                                                                                              \
			[ANY] = { any_own, any_own, any_windows, any_times },                                  \
			[BARE] = { bare, bare_own, bare_windows, bare_times },                                 \
			[SUBS] = { any_own, any_own, subs_windows, any_times },                                \
			[SERIAL] = { any_own, any_own, serial_windows, any_times },                            \
		}                                                                                              \
	}

#ifdef WIDE
const struct eesp_executors wide_executors = EXECUTORS;
#else
static const struct eesp_executors narrow_executors = EXECUTORS;

static inline const struct eesp_executors *executors(int wide)
{
#if defined(__x86_64__)
	if (LIKELY(wide))
		return &wide_executors;
#endif
	return &narrow_executors;
}

/* For loose plans, one too. */
OPEN(loose, ANY, extras_of(w), 1)
#endif

#endif /* EESP_OPEN_H */
