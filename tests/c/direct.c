/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The fast path (libeesp/direct.c) gives the same results as the general path in Go. The
 * program is linked with the library's internal symbols: it asks how many packets went to
 * Go, and removes an object's plan, so that all packets of the object go to Go.
 */
#include "test.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "cgo.h"

enum { MOST = 40, LONGEST = 4200, ROOM = EESP_MAX_SEALED_LEN(LONGEST), PAD = 64 };

static int possible; /* this backend and processor have kernels for C */

static uint32_t seed = 1;
static uint32_t any(uint32_t below)
{
	seed = seed * 1664525u + 1013904223u;
	return (uint32_t)(((uint64_t)seed * below) >> 32);
}

/* Two sides with equal objects: packets of the first take the fast path, of the second go to Go. */
static struct side {
	eesp_sender *sender;
	eesp_receiver *receiver;
	uint64_t id;
	uint8_t room[MOST][PAD + ROOM + PAD], to[MOST][PAD + ROOM + PAD];
	eesp_pkt p[MOST];
	size_t good;
} side[2];

/* The form of the packets of both sides. */
static struct {
	uint32_t prefix, tail; /* octets of the prefix, and the most behind a payload */
	int ip;		     /* payloads are IP packets */
	int other;	     /* a profile other than stateless */
	uint16_t flags;	     /* of descriptors */
	eesp_group *const *groups; /* their keys' counts are compared */
	size_t group_count;
	int each;  /* keys are derived for each packet */
	int alike; /* Go takes equal headers in runs */
	int kept;  /* the plan has the sender's only key */
	int keeps; /* the receiver keeps keys: it derives fewer, and some once more to keep them */
} form = { .tail = EESP_ICV_LEN };

/* Removes the plans of a side: until keys change, all its packets go to Go. */
static void general_only(struct side *x)
{
	*direct_seal_plan(x->sender) = NULL;
	*direct_open_plan(x->receiver) = NULL;
}

static eesp_group *another_group(uint32_t aead)
{
	static const uint8_t id[16] = { 9, 9, 9 };
	eesp_group *g = new_group(aead, 0);
	WORKS(eesp_group_generate_root_key(g, EESP_LEVEL_ZONE, id, sizeof id));
	return g;
}

static eesp_receiver *new_careful_receiver(eesp_group *const *groups, size_t n, uint32_t engine_bits)
{
	static const uint64_t own[] = { 0, 77, UINT64_MAX, 78, 79, 80 };
	eesp_receiver_config c = EESP_RECEIVER_CONFIG_INIT;
	eesp_receiver *r;
	c.own_ids = own;
	c.own_id_count = COUNT(own);
	c.replay_window = 64;
	c.replay_contexts = 4096;
	c.engine_bits = (uint8_t)engine_bits;
	WORKS(eesp_receiver_new(groups, n, &c, &r));
	return r;
}

/* The sum of the counts of all keys of all groups. */
static eesp_usage usage_now(void)
{
	eesp_usage sum = { 0 }, u;
	for (size_t g = 0; g < form.group_count; g++)
		for (int level = 0; level < 3; level++)
			for (unsigned generation = 0; generation < 3; generation++)
				if (eesp_group_usage(form.groups[g], level, generation, &u) == EESP_OK) {
					sum.derived += u.derived;
					sum.sealed += u.sealed;
					sum.opened += u.opened;
				}
	return sum;
}

static eesp_usage usage_since(const eesp_usage *then)
{
	eesp_usage u = usage_now();
	u.derived -= then->derived;
	u.sealed -= then->sealed;
	u.opened -= then->opened;
	return u;
}

static void new_sides(eesp_group *const *groups, size_t n, uint8_t v, uint32_t flags, uint32_t engine_bits, int careful)
{
	form.prefix = form.flags = 0;
	form.ip = form.other = 0;
	form.tail = EESP_ICV_LEN;
	form.groups = groups;
	form.group_count = n;
	form.each = form.alike = 1;
	form.kept = form.keeps = 0;
	for (int i = 0; i < 2; i++) {
		eesp_sender_config c = explicit_config(v);
		c.flags = flags;
		c.engine_bits = (uint8_t)engine_bits;
		c.engine = engine_bits ? 5 : 0;
		side[i].id = c.id;
		WORKS(eesp_sender_new(groups[n - 1], &c, &side[i].sender));
		side[i].receiver = careful ? new_careful_receiver(groups, n, engine_bits) : new_receiver(groups[n - 1]);
	}
	general_only(&side[1]);
}

static void free_sides(void)
{
	for (int i = 0; i < 2; i++) {
		eesp_sender_free(side[i].sender);
		eesp_receiver_free(side[i].receiver);
	}
}

struct burst {
	size_t n;
	uint32_t len[MOST], source[MOST], slack[MOST];
	/* 0: in place, 1: elsewhere, 2: to be sealed elsewhere, with the payload in its place there */
	uint8_t place[MOST];
	uint8_t fault[MOST], forged[MOST];
};

static struct burst any_burst(void)
{
	static const uint32_t usual[] = { 0,   1,   15,  16,  17,   40,   64,   65,
					  200, 255, 256, 576, 1420, 2740, 3890, LONGEST - 40 };
	struct burst b;
	uint32_t order = any(5), base = usual[any(COUNT(usual))], contexts = 1 + any(3) * any(MOST);
	memset(&b, 0, sizeof b);
	b.n = 1 + (any(3) == 0 ? any(MOST) : any(9));
	for (size_t i = 0; i < b.n; i++) {
		b.len[i] = order == 0	? any(LONGEST + 1)
			   : order == 1 ? base
			   : order == 2 ? usual[any(COUNT(usual))]
					: base + any(30);
		if (b.len[i] > LONGEST)
			b.len[i] = LONGEST;
		b.source[i] = any(contexts);
		b.place[i] = (uint8_t)any(3);
		b.slack[i] = any(3) == 0 ? any(20) : 0;
		b.fault[i] = any(60) == 0 ? (uint8_t)(1 + any(10)) : 0;
		b.forged[i] = any(40) == 0 ? (uint8_t)(1 + any(16)) : 0;
	}
	if (order == 4) /* in order of length */
		for (size_t i = 1; i < b.n; i++)
			for (size_t j = i; j > 0 && b.len[j - 1] > b.len[j]; j--) {
				uint32_t t = b.len[j];
				b.len[j] = b.len[j - 1];
				b.len[j - 1] = t;
			}
	return b;
}

static void source(eesp_pkt *p, uint32_t n)
{
	p->addr.src[14] = (uint8_t)(n >> 8);
	p->addr.dst[15] = (uint8_t)n;
}

/* Writes payload number x, or compares with it. */
static void payload(uint8_t *to, size_t x, uint32_t n)
{
	fill(to, x, n);
	if (form.ip && n >= 20 && n % 7 != 0) {
		to[0] = 0x45;
		to[2] = (uint8_t)(n >> 8);
		to[3] = (uint8_t)n;
	}
}

static int is_payload(const uint8_t *p, size_t x, uint32_t n)
{
	static uint8_t want[LONGEST + 1];
	payload(want, x, n);
	return memcmp(p, want, n) == 0;
}

/* Describes the packets of a burst, to seal them. */
static void to_seal(struct side *x, const struct burst *b, uint32_t header)
{
	static const uint8_t nothing[1];
	memset(x->room, CANARY, sizeof x->room);
	memset(x->to, CANARY, sizeof x->to);
	for (size_t i = 0; i < b->n; i++) {
		uint8_t *data = x->room[i] + PAD + EESP_MAX_HEADER;
		eesp_pkt *p = &x->p[i];
		*p = packet(data, b->len[i], form.prefix + header + b->slack[i], form.tail + b->slack[i]);
		p->flags = form.flags;
		p->next_header = form.ip && i % 8 ? 4 : (uint8_t)(i + 50);
		source(p, b->source[i]);
		p->user = p;
		if (b->place[i]) {
			p->dst = x->to[i] + PAD;
			p->dst_size = form.prefix + header + b->len[i] + form.tail + b->slack[i];
			p->headroom = p->tailroom = 0;
		}
		if (b->place[i] == 2)
			p->data = x->to[i] + PAD + form.prefix + header;
		payload(p->data, i, b->len[i]);
		switch (b->fault[i]) {
		case 1: p->reserved = 1; break;
		case 2: p->headroom = header - 1; p->dst_size = header; break;
		case 3:
			p->tailroom = EESP_ICV_LEN - 1;
			p->dst_size = form.prefix + header + b->len[i] + EESP_ICV_LEN - 1;
			break;
		case 4: p->flags ^= EESP_PKT_IPV6; break;
		case 5: p->coffset = 1; p->ioffset = 2; break;
		case 6: p->len = EESP_MAX_LEN + 1; break;
		case 7: p->data = NULL; break;
		case 8: if (b->len[i]) { p->dst = (uint8_t *)p->data + 1 - header; p->dst_size = ROOM; } break;
		case 9: if (b->len[i] >= 8) p->coffset = 2, p->ioffset = 1; break;
		case 10: p->iov_count = 1; p->iov = (const eesp_iov *)nothing; p->reserved = 1; break;
		}
	}
}

/* Both sides have the same results, except for the senders' IDs. */
static void same_results(size_t n)
{
	SAME(side[0].good, side[1].good);
	for (size_t i = 0; i < n; i++) {
		const eesp_pkt *a = &side[0].p[i], *b = &side[1].p[i];
		SAME(a->status, b->status);
		SAME(a->out_len, b->out_len);
		SAME(a->out == NULL, b->out == NULL);
		SAME(a->coffset, b->coffset);
		SAME(a->ioffset, b->ioffset);
		if (a->status != EESP_ERR_REPLAY) /* eesp: a replay may be found before or after this is decrypted */
			SAME(a->next_header, b->next_header);
		SAME(a->tsc, b->tsc);
		CHECK((a->id == side[0].id && b->id == side[1].id) || a->id == b->id ||
		      a->id - side[0].id == b->id - side[1].id || (a->id ^ side[0].id) == (b->id ^ side[1].id));
		if (a->status == EESP_OK)
			CHECK(a->id == side[0].id && b->id == side[1].id);
		if (a->out)
			SAME((const uint8_t *)a->out - (const uint8_t *)&side[0],
			     (const uint8_t *)b->out - (const uint8_t *)&side[1]);
		CHECK(a->user == (const void *)a && b->user == (const void *)b);
	}
}

/* Opens a sealed packet with key and nonce as the specification says. */
static void as_specified(eesp_group *g, uint32_t aead, const eesp_sender_config *c, const eesp_pkt *p, uint32_t header,
			 size_t i, uint32_t len)
{
	uint8_t key[32], copy[ROOM], plain[LONGEST + 1];
	size_t key_len = aead == EESP_AEAD_AES_128_GCM ? 16 : 32;
	eesp_context context = { .id = c->id, .epoch = (uint16_t)(p->tsc >> 48), .v = c->v, .addr = p->addr };
	eesp_keyset *set;
	eesp_job j;
	uint32_t salt = c->v & EESP_V_LONG_ID ? (uint32_t)(c->id >> 32) ^ (uint32_t)c->id : (uint32_t)c->id;
	WORKS(eesp_derive_keys(g, &context, 1, key, key_len));
	WORKS(eesp_keyset_new(aead, key, 1, &set));
	memcpy(copy, p->out, p->out_len);
	memset(&j, 0, sizeof j);
	j.aad = copy;
	j.aad_len = header;
	j.src = copy + header;
	j.dst = plain;
	j.tag = copy + header + len;
	j.len = len;
	for (int k = 0; k < 4; k++)
		j.nonce[k] = (uint8_t)(salt >> (24 - 8 * k));
	for (int k = 0; k < 8; k++) {
		j.nonce[4 + k] = (uint8_t)(p->tsc >> (56 - 8 * k));
		SAME(copy[header - 8 + (uint32_t)k], j.nonce[4 + k]);
	}
	SAME(eesp_keyset_open(set, &j, 1), 1);
	CHECK(filled(plain, i, len));
	eesp_keyset_free(set);
}

/* Whether all packets of a burst are ordinary: then both sides derive keys for the same packets. */
static int ordinary(const struct burst *b)
{
	for (size_t i = 0; i < b->n; i++)
		if (b->fault[i] || b->forged[i])
			return 0;
	return !form.ip;
}

static void same_usage(const eesp_usage used[2], const struct burst *b)
{
	SAME(used[0].sealed, used[1].sealed);
	SAME(used[0].opened, used[1].opened);
	CHECK(form.group_count == 0 ||
	      (used[0].sealed + used[0].opened) % (side[0].good ? side[0].good : UINT64_MAX) == 0);
	if (form.keeps && used[0].opened)
		CHECK(used[0].derived <= b->n + 4);
	else if (ordinary(b) && form.alike && !(form.kept && used[0].sealed))
		SAME(used[0].derived, used[1].derived);
}

/* Seals a burst on both sides and compares. Returns how many packets of the first side went to Go. */
static uint64_t seal_both(const struct burst *b)
{
	uint64_t by_cgo = 0;
	eesp_usage used[2];
	for (int i = 0; i < 2; i++) {
		struct side *x = &side[i];
		used[i] = usage_now();
		to_seal(x, b, eesp_sender_header_len(x->sender));
		uint64_t before = direct_cgo_packets();
		x->good = eesp_seal_burst(x->sender, x->p, b->n);
		if (i == 0)
			by_cgo = direct_cgo_packets() - before;
		else
			SAME(direct_cgo_packets() - before, b->n);
		used[i] = usage_since(&used[i]);
	}
	same_results(b->n);
	same_usage(used, b);
	return by_cgo;
}

/* Describes the sealed packets of a burst, to open them, and forges some. */
static void to_open(struct side *x, const struct burst *b)
{
	for (size_t i = 0; i < b->n; i++) {
		eesp_pkt q = sealed(&x->p[i]);
		uint8_t *o = q.data;
		q.user = &x->p[i];
		q.coffset = q.ioffset = q.next_header = 9;
		q.headroom = form.prefix;
		q.flags = form.flags;
		if (o == NULL) {
			o = q.data = x->room[i] + PAD;
			q.len = b->len[i];
		}
		if (b->place[i] == 1) {
			q.dst = o >= x->to[i] && o < x->to[i] + sizeof x->to[i] ? x->room[i] + PAD : x->to[i] + PAD;
			q.dst_size = b->len[i] + b->slack[i] + form.tail - EESP_ICV_LEN;
		}
		switch (b->forged[i]) {
		case 12: o[0] ^= 1; break;
		case 13: case 15: case 16: /* a copy of a packet that the plan covers: the others come last */
			if (i && !b->forged[i - 1] && x->p[i - 1].dst == NULL)
				q.data = x->room[i], q.len = x->p[i - 1].len, q.dst = NULL,
				memcpy(q.data, x->p[i - 1].data, q.len);
			break;
		/* an own ID, if IDs have four octets */
		case 14: q.coffset = 0; o[4] = o[5] = o[6] = 0, o[7] = 78; break;
		case 1: o[1] ^= 0x10; break;
		case 2: o[4] ^= 1; break;
		case 3: o[eesp_sender_header_len(x->sender) - 9] ^= 1; break;
		/* no counter of another packet: the order would matter */
		case 4: o[eesp_sender_header_len(x->sender) - 1] ^= 0x80; break;
		case 5: if (q.len) o[q.len - 1] ^= 0x80; break;
		case 6: q.len = q.len > 3 ? q.len - 3 : q.len; break;
		case 7: q.addr.src[0] ^= 1; break;
		case 8: q.dst = o + 1; q.dst_size = ROOM; break;
		case 9: q.dst_size = q.dst_size ? q.dst_size - 1 : 0; break;
		case 10: q.reserved = i % 2, q.iov_count = i % 2 ? 0 : i % 4 ? 1 : 0x100; break;
		case 11: q.flags = i % 2 ? 8 : 0x800; break;
		}
		x->p[i] = q;
	}
}

static uint64_t open_both(const struct burst *b)
{
	uint64_t by_cgo = 0;
	eesp_usage used[2];
	for (int i = 0; i < 2; i++) {
		struct side *x = &side[i];
		used[i] = usage_now();
		to_open(x, b);
		uint64_t before = direct_cgo_packets();
		/* each side opens what the other one sealed */
		x->good = eesp_open_burst(side[1 - i].receiver, x->p, b->n);
		if (i == 1)
			by_cgo = direct_cgo_packets() - before;
		else
			SAME(direct_cgo_packets() - before, b->n);
		used[i] = usage_since(&used[i]);
	}
	same_results(b->n);
	same_usage(used, b);
	for (size_t i = 0; i < b->n; i++) {
		const eesp_pkt *p = &side[0].p[i], *q = &side[1].p[i];
		if (p->status == EESP_ERR_AUTH && p->coffset == 0 && !form.other)
			for (int k = 0; k < 2; k++) {
				uint32_t header = eesp_sender_header_len(side[k].sender);
				const eesp_pkt *x = &side[k].p[i];
				CHECK(all_are(x->dst ? x->dst : (uint8_t *)x->data + header,
					      x->len - header - EESP_ICV_LEN, 0));
			}
		if (p->status != EESP_OK || b->forged[i] >= 13)
			continue;
		SAME(p->out_len, b->len[i]);
		CHECK(is_payload(p->out, i, b->len[i]) && is_payload(q->out, i, b->len[i]));
	}
	return by_cgo;
}

/* Nothing was written beside the packets, and the destination of a packet that is not authentic has no plaintext. */
static void canaries(const struct burst *b)
{
	for (int s = 0; s < 2; s++)
		for (size_t i = 0; i < b->n; i++) {
			if (b->fault[i] || b->forged[i])
				continue;
			CHECK(all_are(side[s].room[i], PAD, CANARY) && all_are(side[s].to[i], PAD, CANARY));
			CHECK(all_are(side[s].room[i] + PAD + ROOM, PAD, CANARY) &&
			      all_are(side[s].to[i] + PAD + ROOM, PAD, CANARY));
		}
}

/* What random bursts did on both sides. */
struct both {
	uint64_t packets, sealed_there, opened_there; /* there: by the general path */
	eesp_stats in[2], out[2];
};

/* Seals and opens random bursts on both sides, which must have the same statistics then. */
static void random_bursts(struct both *a, int rounds)
{
	*a = (struct both){ 0 };
	for (int round = 0; round < rounds; round++) {
		struct burst b = any_burst();
		a->sealed_there += seal_both(&b);
		a->opened_there += open_both(&b);
		canaries(&b);
		a->packets += b.n;
	}
	for (int k = 0; k < 2; k++) {
		WORKS(eesp_receiver_stats(side[k].receiver, &a->in[k]));
		WORKS(eesp_sender_stats(side[k].sender, &a->out[k]));
	}
	CHECK(memcmp(&a->in[0], &a->in[1], sizeof a->in[0]) == 0);
	CHECK(memcmp(&a->out[0], &a->out[1], sizeof a->out[0]) == 0);
}

static void as_the_general_path(void)
{
	uint64_t all = 0, sealed_there = 0, opened_there = 0, duplicates = 0;
	for (uint32_t aead = 0; aead < 2; aead++)
		for (size_t v = 0; v < COUNT(all_v); v++)
			for (unsigned levels = 1; levels < 8; levels += 3)
				for (uint32_t flags = 0; flags < 3; flags++) {
					eesp_group *g[2] = { another_group(aead ^ 1), new_group(aead, levels) };
					new_sides(g + !flags, 1 + (flags != 0), all_v[v],
						  flags ? EESP_SENDER_OPTIONS : 0, levels > 4 ? 3 : 0, flags == 2);
					struct both a;
					random_bursts(&a, emulated() ? 5 : 60);
					all += a.packets;
					sealed_there += a.sealed_there;
					opened_there += a.opened_there;
					if (flags == 2) {
						eesp_replay_stats replays[2];
						for (int k = 0; k < 2; k++)
							WORKS(eesp_receiver_replay_stats(side[k].receiver,
											 &replays[k]));
						CHECK(memcmp(&replays[0], &replays[1], sizeof replays[0]) == 0);
						duplicates += replays[0].duplicates;
					}
					free_sides();
					eesp_group_free(g[0]);
					eesp_group_free(g[1]);
				}
	printf("     of %llu packets %llu were sealed and %llu opened by Go\n", (unsigned long long)all,
	       (unsigned long long)sealed_there, (unsigned long long)opened_there);
	/* an emulated test has a few hundred bursts, others some thousands */
	CHECK(duplicates >= (emulated() ? 1 : 10));
	if (possible)
		CHECK(sealed_there < all / 10 && opened_there < all / 10);
	else
		CHECK(sealed_there == all && opened_there == all);
}

/* The forms of packets of other profiles. */
struct other {
	const char *name;
	eesp_group_config g;
	uint8_t v, extra_len, ipv6, held, ip;
	uint32_t prefix;
};

static const struct other others[] = {
	{ .name = "psp 0", .g = { .profile = EESP_PROFILE_PSP } },
	{ .name = "psp 1", .g = { .profile = EESP_PROFILE_PSP, .versions = 3 }, .v = 1, .extra_len = 8 },
	{ .name = "psp 0, data key", .g = { .profile = EESP_PROFILE_PSP }, .held = 1 },
	{ .name = "psp 1, data key", .g = { .profile = EESP_PROFILE_PSP, .versions = 3 }, .v = 1, .held = 1,
	  .extra_len = 16 },
	{ .name = "eesp", .g = { .profile = EESP_PROFILE_EESP, .mode = 1, .domain = 500 } },
	{ .name = "eesp, SHA-384",
	  .g = { .profile = EESP_PROFILE_EESP, .mode = 2, .domain = 502, .aead = 1, .flags = EESP_GROUP_ALIGN8 } },
	{ .name = "eesp, SHA-512, IV",
	  .g = { .profile = EESP_PROFILE_EESP, .mode = 3, .domain = 504, .flags = EESP_GROUP_IV } },
	{ .name = "eesp, CMAC",
	  .g = { .profile = EESP_PROFILE_EESP, .mode = 4, .domain = 506, .aead = 1, .max_coffset = 9 } },
	{ .name = "eesp, optimized",
	  .g = { .profile = EESP_PROFILE_EESP, .mode = 1, .domain = 508, .flags = EESP_GROUP_OPTIMIZED }, .ip = 1 },
	{ .name = "tss", .g = { .profile = EESP_PROFILE_TSS, .aead = 1, .domain = 7 }, .v = EESP_V_TSS_SSI,
	  .prefix = EESP_TSS_LEAD_IPV4 },
	{ .name = "tss, IPv6, rekeying",
	  .g = { .profile = EESP_PROFILE_TSS, .aead = 1, .domain = 8, .rekey_mask = 0xffffff0, .rekey_shift = 4 },
	  .v = EESP_V_TSS_SSI, .prefix = EESP_TSS_LEAD_IPV6, .ipv6 = 1 },
	{ .name = "tss, rekeying", .g = { .profile = EESP_PROFILE_TSS, .aead = 1, .domain = 9, .rekey_mask = 0xfc,
					  .rekey_shift = 2 },
	  .v = EESP_V_TSS_SSI, .prefix = EESP_TSS_LEAD_IPV4 },
	{ .name = "tss, IPv6", .g = { .profile = EESP_PROFILE_TSS, .aead = 1, .domain = 10 }, .v = EESP_V_TSS_SSI_IPV6,
	  .prefix = EESP_TSS_LEAD_IPV6, .ipv6 = 1 },
	{ .name = "tss, data key", .g = { .profile = EESP_PROFILE_TSS, .aead = 1, .domain = 11 }, .v = EESP_V_TSS_SSI,
	  .prefix = EESP_TSS_LEAD_IPV4, .held = 1 },
	{ .name = "eesp, data key", .g = { .profile = EESP_PROFILE_EESP, .mode = 1, .domain = 510, .aead = 1 },
	  .held = 1 },
};

static void other_sides(const struct other *o, eesp_group *const *groups)
{
	eesp_group *g = *groups;
	static uint32_t id = 1;
	static const uint8_t extra[16] = { 1, 2, 3 };
	form.other = 1;
	form.flags = o->ipv6 ? EESP_PKT_IPV6 : 0;
	form.prefix = o->prefix;
	form.tail = EESP_ICV_LEN + (o->g.profile == EESP_PROFILE_EESP ? EESP_MAX_PADDING : 0);
	form.ip = o->ip;
	form.groups = groups;
	form.group_count = !o->held;
	form.each = o->g.profile != EESP_PROFILE_EESP;
	form.kept = o->g.profile == EESP_PROFILE_TSS && !o->ipv6 && !o->g.rekey_mask;
	form.keeps = o->g.profile == EESP_PROFILE_TSS;
	form.alike = o->g.profile == EESP_PROFILE_TSS; /* psp: headers begin with Next Header */
	eesp_receiver *r[2];
	for (int i = 0; i < 2; i++) {
		eesp_sender_config c = EESP_SENDER_CONFIG_INIT;
		eesp_receiver_config rc = EESP_RECEIVER_CONFIG_INIT;
		eesp_data_key key;
		c.id = side[i].id = ++id;
		c.v = o->v;
		c.counter_mode = EESP_COUNTER_EXPLICIT;
		if (o->extra_len) {
			c.extra = extra;
			c.extra_len = o->extra_len;
		}
		rc.replay_window = 128;
		if (o->held) {
			eesp_context x = { .id = c.id, .v = c.v };
			WORKS(eesp_data_key_export(g, &x, 0, &key));
			c.id = c.v = 0;
			WORKS(eesp_sender_new_with_key(&key, &c, &side[i].sender));
			WORKS(eesp_receiver_new_with_key(&key, &rc, &r[i]));
		} else {
			WORKS(eesp_sender_new(g, &c, &side[i].sender));
			WORKS(eesp_receiver_new(&g, 1, &rc, &r[i]));
		}
	}
	/* A receiver with a data key opens packets of its own side, which were sealed with this key. */
	side[0].receiver = r[o->held ? 1 : 0];
	side[1].receiver = r[o->held ? 0 : 1];
	general_only(&side[1]);
}

/* The other profiles: C opens what Go seals, and Go what C seals. */
static void other_profiles(void)
{
	uint64_t all = 0, sealed_there = 0, opened_there = 0;
	for (size_t k = 0; k < COUNT(others); k++) {
		const struct other *o = &others[k];
		static uint8_t secret[64];
		eesp_group_config c = EESP_GROUP_CONFIG_INIT;
		eesp_group *g;
		c.profile = o->g.profile;
		c.mode = o->g.mode;
		c.domain = o->g.domain;
		c.aead = o->g.aead;
		c.flags = o->g.flags;
		c.versions = o->g.versions;
		c.max_coffset = o->g.max_coffset;
		c.rekey_mask = o->g.rekey_mask;
		c.rekey_shift = o->g.rekey_shift;
		WORKS(eesp_group_new(&c, &g));
		secret[0] = (uint8_t)k;
		const int short_key = o->g.profile != EESP_PROFILE_EESP || o->g.mode == 1 || o->g.mode == 4;
		WORKS(eesp_group_set_key(g, 0, secret, short_key ? 32 : o->g.mode == 2 ? 48 : 64));
		other_sides(o, &g);
		struct both a;
		random_bursts(&a, emulated() ? 5 : 150);
		sealed_there += a.sealed_there;
		opened_there += a.opened_there;
		CHECK(a.in[0].packets[0] > a.packets / 2 || o->ip);
		eesp_usage u = usage_now();
		SAME(u.sealed, o->held ? 0 : a.out[0].packets[0] + a.out[1].packets[0]);
		SAME(u.opened, o->held ? 0 : a.in[0].packets[0] + a.in[1].packets[0]);
		CHECK(form.each || u.derived == (o->held ? 0 : 2)); /* one Sub SA on each side */
		if (possible && !o->held && !o->ip && o->g.profile != EESP_PROFILE_EESP)
			CHECK(a.sealed_there < a.packets / 10);
		/* Go opens packets whose payload would begin in front of the destination. */
		CHECK(!possible || a.opened_there < a.packets / (o->g.profile == EESP_PROFILE_EESP ? 2 : 10));
		all += a.packets;
		free_sides();
		eesp_group_free(g);
	}
	printf("     of %llu packets %llu were sealed and %llu opened by Go\n", (unsigned long long)all,
	       (unsigned long long)sealed_there, (unsigned long long)opened_there);
}

/* Noise: random octets, or a packet that is damaged at its beginning or cut. */
static eesp_pkt noise_of(uint8_t *room, const eesp_pkt *good, uint32_t prefix)
{
	uint8_t *b = room + EESP_TSS_LEAD_IPV6;
	eesp_pkt p = packet(b, good->out_len, prefix, 0);
	memcpy(b - prefix, (uint8_t *)good->out - prefix, prefix + good->out_len);
	p.flags = good->flags;
	p.coffset = p.ioffset = p.next_header = 9;
	switch (any(12)) {
	case 0: case 1: case 2: case 3: case 4: /* mostly refused by the first octets */
		p.len = any(3) ? p.len : any(60);
		for (uint32_t i = 0; i < p.len; i++)
			b[i] = (uint8_t)any(256);
		break;
	/* few with a new Session ID: both paths bound those, each in its way */
	case 5: b[any(4)] ^= (uint8_t)(1u << any(8)); break;
	/* no counter of another packet: the order would matter */
	case 6: b[4 + any(12)] ^= 0x80; b[any(2)] = (uint8_t)any(256); break;
	case 7: p.len = any(p.len + 1); break;
	case 8: b[any(2)] ^= (uint8_t)(1u << any(8)); p.flags = (uint16_t)any(5); break;
	case 9: b[any(2)] ^= (uint8_t)(1u << any(8)); p.headroom = any(prefix + 1); break;
	case 10: b[0] ^= 0x40; p.reserved = any(2) == 0; p.data = any(2) ? p.data : NULL; break;
	case 11: b[any(p.len)] ^= 0x80; break;
	}
	return p;
}

/* Both paths have the same outcome, except for the place of the result. */
static void same_outcome(const eesp_pkt *a, const eesp_pkt *b)
{
	SAME(a->status, b->status);
	SAME(a->out_len, b->out_len);
	SAME(a->out == NULL, b->out == NULL);
	SAME(a->id, b->id);
	SAME(a->tsc, b->tsc);
	SAME(a->coffset, b->coffset);
	SAME(a->ioffset, b->ioffset);
	SAME(a->next_header, b->next_header);
}

/* What two receivers make of the same 32 packets, of which the second one takes the general path:
 * the same. Returns how many opened; *by_cgo grows by those that the first one left to Go. */
static size_t open_alike(eesp_receiver *const r[2], eesp_pkt q[2][32], uint8_t room[2][32][ROOM],
			 uint8_t to[2][32][PAD + ROOM + PAD], uint64_t *by_cgo)
{
	uint64_t before = direct_cgo_packets();
	size_t done = eesp_open_burst(r[0], q[0], 32);
	*by_cgo += direct_cgo_packets() - before;
	SAME(done, eesp_open_burst(r[1], q[1], 32));
	for (size_t i = 0; i < 32; i++) {
		const eesp_pkt *a = &q[0][i], *b = &q[1][i];
		same_outcome(a, b);
		if (a->status == EESP_OK) {
			CHECK(a->out == (a->dst != NULL ? a->dst : room[0][i] + ((uint8_t *)b->out - room[1][i])));
			CHECK(memcmp(a->out, b->out, a->out_len) == 0);
		}
		for (int k = 0; k < 2; k++)
			CHECK(all_are(to[k][i], PAD, CANARY) &&
			      all_are(to[k][i] + PAD + q[k][i].dst_size, PAD, CANARY));
	}
	return done;
}

/* Frees two receivers whose statistics are the same. */
static void free_alike(eesp_receiver *const r[2])
{
	eesp_stats in[2];
	for (int k = 0; k < 2; k++) {
		WORKS(eesp_receiver_stats(r[k], &in[k]));
		eesp_receiver_free(r[k]);
	}
	CHECK(memcmp(&in[0], &in[1], sizeof in[0]) == 0);
}

/* Two receivers get the same noise and the same good packets. Each packet has the same outcome, and
 * the counts are equal. */
static void beside_noise(eesp_group *const *groups, size_t n, eesp_sender *s, eesp_receiver *const r[2],
			 uint32_t prefix, uint16_t flags, int domains)
{
	static uint8_t at[MOST][ROOM], room[2][MOST][ROOM];
	uint64_t all = 0, by_cgo = 0;
	for (int round = 0; round < (emulated() ? 10 : 150); round++) {
		eesp_pkt good[MOST], p[2][MOST];
		size_t count = 1 + any(MOST), done[2];
		int alone = any(3) == 0;
		eesp_domain_stats counts[3][MOST];
		for (size_t i = 0; i < count; i++) {
			uint8_t *data = at[i] + EESP_TSS_LEAD_IPV6 + EESP_MAX_HEADER;
			good[i] = packet(data, 60 + any(100), EESP_TSS_LEAD_IPV6 + EESP_MAX_HEADER,
					 EESP_ICV_LEN + EESP_MAX_PADDING);
			good[i].flags = flags;
			memset(at[i], 7, EESP_TSS_LEAD_IPV6 + EESP_MAX_HEADER);
			payload(data, i, good[i].len);
		}
		SAME(eesp_seal_burst(s, good, count), count);
		for (size_t i = 0; i < count; i++) {
			uint32_t was = seed;
			for (int k = 0; k < 2; k++) {
				eesp_pkt *x = &p[k][i];
				seed = was;
				if (alone || any(3)) {
					*x = noise_of(room[k][i], &good[i], prefix);
				} else {
					memcpy(room[k][i], (uint8_t *)good[i].out - prefix, prefix + good[i].out_len);
					*x = packet(room[k][i] + prefix, good[i].out_len, prefix, 0);
					x->flags = flags;
				}
				x->user = x;
				if (any(4) == 0 && x->data != NULL)
					x->dst = side[k].room[i], x->dst_size = ROOM;
			}
		}
		for (int k = 0; k < 3; k++) {
			for (size_t g = 0; g < n && domains; g++)
				WORKS(eesp_group_domain_stats(groups[g], &counts[k][g]));
			if (k == 2)
				break;
			uint64_t before = direct_cgo_packets();
			done[k] = eesp_open_burst(r[k], p[k], count);
			if (k == 0)
				by_cgo += direct_cgo_packets() - before;
		}
		for (size_t g = 0; g < n && domains; g++)
			for (size_t i = 0; i < sizeof counts[0][0] / 8; i++) {
				const uint64_t *a = (const uint64_t *)&counts[0][g],
					*b = (const uint64_t *)&counts[1][g], *c = (const uint64_t *)&counts[2][g];
				SAME(b[i] - a[i], c[i] - b[i]);
			}
		SAME(done[0], done[1]);
		for (size_t i = 0; i < count; i++) {
			const eesp_pkt *a = &p[0][i], *b = &p[1][i];
			same_outcome(a, b);
			CHECK(a->status != EESP_OK || memcmp(a->out, b->out, a->out_len) == 0);
			CHECK(a->user == a && b->user == b);
		}
		all += count;
	}
	eesp_stats in[2];
	for (int k = 0; k < 2; k++)
		WORKS(eesp_receiver_stats(r[k], &in[k]));
	CHECK(memcmp(&in[0], &in[1], sizeof in[0]) == 0);
	CHECK(!possible || by_cgo < all / 2);
}

/* Half of a burst is noise, which C refuses with the right status without a cgo call. */
static void turned_away(eesp_sender *s, eesp_receiver *r, unsigned profile, uint32_t prefix, uint16_t flags)
{
	static uint8_t at[MOST][ROOM];
	for (int round = 0; round < (emulated() ? 5 : 40); round++) {
		eesp_pkt p[32], q[32];
		eesp_status want[32];
		for (size_t i = 0; i < 32; i++) {
			uint8_t *data = at[i] + EESP_TSS_LEAD_IPV6 + EESP_MAX_HEADER;
			p[i] = packet(data, 60, EESP_TSS_LEAD_IPV6 + EESP_MAX_HEADER, EESP_ICV_LEN + EESP_MAX_PADDING);
			p[i].flags = flags;
			memset(at[i], 7, EESP_TSS_LEAD_IPV6 + EESP_MAX_HEADER);
			payload(data, i, 60);
		}
		SAME(eesp_seal_burst(s, p, 32), 32);
		size_t good = 0;
		for (size_t i = 0; i < 32; i++) {
			uint8_t *h = p[i].out;
			q[i] = packet(h, p[i].out_len, prefix, 0);
			q[i].flags = flags;
			want[i] = EESP_OK;
			switch (any(6) +
				(profile == EESP_PROFILE_STATELESS || profile == EESP_PROFILE_PSP ? 10u : 0u)) {
			case 0: case 10: q[i].len = any(28); want[i] = EESP_ERR_SHORT; break;
			case 1: h[0] ^= 0x40; want[i] = EESP_ERR_VERSION; break;
			case 2: h[0] ^= profile == EESP_PROFILE_TSS ? 2 : 1; want[i] = EESP_ERR_RESERVED; break;
			case 3: h[profile == EESP_PROFILE_TSS ? 3 : 7] ^= 0x80; want[i] = EESP_ERR_NO_KEY; break;
			case 11: h[profile == EESP_PROFILE_PSP ? 3 : 0] ^= 0x20; want[i] = EESP_ERR_VERSION; break;
			case 12:
				if (profile == EESP_PROFILE_PSP)
					h[3] ^= 1, want[i] = EESP_ERR_RESERVED;
				else
					h[1] = 0x70, want[i] = EESP_ERR_V;
				break;
			case 13:
				if (profile == EESP_PROFILE_PSP)
					h[1] = 200, want[i] = EESP_ERR_SHORT;
				else
					h[1] |= 1, want[i] = EESP_ERR_RESERVED;
				break;
			}
			good += want[i] == EESP_OK;
		}
		eesp_stats before, after;
		WORKS(eesp_receiver_stats(r, &before));
		uint64_t by_cgo = direct_cgo_packets();
		SAME(eesp_open_burst(r, q, 32), good);
		/* eesp: the first burst makes a key */
		CHECK(!possible || *direct_open_plan(r) == NULL || round == 0 || direct_cgo_packets() == by_cgo);
		WORKS(eesp_receiver_stats(r, &after));
		for (size_t i = 0; i < 32; i++) {
			SAME(q[i].status, want[i]);
			CHECK(want[i] == EESP_OK ? is_payload(q[i].out, i, 60)
					      : q[i].out == NULL && q[i].out_len == 0 && q[i].id == 0 && q[i].tsc == 0);
			after.packets[-want[i]]--;
		}
		CHECK(memcmp(before.packets, after.packets, sizeof before.packets) == 0);
	}
}

static void noise(void)
{
	struct { unsigned profile, mode; uint8_t v, v6; uint32_t prefix; size_t groups; uint32_t replay; } kinds[] = {
		{ EESP_PROFILE_STATELESS, 0, EESP_V_ID, 0, 0, 1, 0 },
		{ EESP_PROFILE_STATELESS, 0, EESP_V_LONG_ID_SRC, 0, 0, 1, 64 },
		{ EESP_PROFILE_STATELESS, 0, EESP_V_ID_SRC_DST, 0, 0, 2, 64 },
		{ EESP_PROFILE_PSP, 0, 0, 0, 0, 1, 0 },
		{ EESP_PROFILE_PSP, 0, 1, 0, 0, 1, 64 },
		{ EESP_PROFILE_TSS, EESP_TSS_CLUSTER, EESP_V_TSS_SSI, 0, EESP_TSS_LEAD_IPV4, 1, 0 },
		{ EESP_PROFILE_TSS, EESP_TSS_CLUSTER, EESP_V_TSS_SSI, 1, EESP_TSS_LEAD_IPV6, 2, 64 },
		{ EESP_PROFILE_EESP, EESP_SSKDF_HKDF_SHA2_256, 0, 0, 0, 1, 64 },
		{ EESP_PROFILE_EESP, EESP_SSKDF_AES256_CMAC, 0, 0, 0, 2, 0 },
	};
	for (size_t k = 0; k < COUNT(kinds); k++) {
		eesp_group *g[2];
		eesp_sender *s;
		eesp_receiver *r[2];
		uint16_t flags = kinds[k].v6 ? EESP_PKT_IPV6 : 0;
		for (size_t i = 0; i < kinds[k].groups; i++) {
			if (kinds[k].profile == EESP_PROFILE_STATELESS) {
				g[i] = i ? another_group(0) : new_group(0, EESP_LEVELS_ZONE);
				continue;
			}
			eesp_group_config c = EESP_GROUP_CONFIG_INIT;
			uint8_t secret[32] = { 77, (uint8_t)k, (uint8_t)i };
			c.profile = kinds[k].profile;
			c.mode = (uint8_t)kinds[k].mode;
			c.aead = EESP_AEAD_AES_256_GCM;
			if (kinds[k].profile == EESP_PROFILE_PSP)
				c.versions = 7;
			else
				c.domain = 0x1000 + (uint32_t)(2 * k + i);
			WORKS(eesp_group_new(&c, &g[i]));
			WORKS(eesp_group_set_key(g[i], 0, secret, 32));
		}
		eesp_sender_config c = explicit_config(kinds[k].v);
		eesp_receiver_config rc = EESP_RECEIVER_CONFIG_INIT;
		if (kinds[k].profile != EESP_PROFILE_STATELESS) {
			c.epoch = 0;
			c.id = 1000 + k;
		} else if (kinds[k].groups == 2) {
			c.flags = EESP_SENDER_OPTIONS;
		}
		rc.replay_window = kinds[k].replay;
		WORKS(eesp_sender_new(g[0], &c, &s));
		for (int i = 0; i < 2; i++)
			WORKS(eesp_receiver_new(g, kinds[k].groups, &rc, &r[i]));
		*direct_open_plan(r[1]) = NULL;
		form.ip = 0;
		beside_noise(g, kinds[k].groups, s, r, kinds[k].prefix, flags, kinds[k].profile == EESP_PROFILE_TSS);
		turned_away(s, r[0], kinds[k].profile, kinds[k].prefix, flags);
		turned_away(s, r[1], kinds[k].profile, kinds[k].prefix, flags);
		for (int i = 0; i < 2; i++)
			eesp_receiver_free(r[i]);
		eesp_sender_free(s);
		for (size_t i = 0; i < kinds[k].groups; i++)
			eesp_group_free(g[i]);
	}
}

/* Packets of all domains have the same outcome in C and Go, however many there are. If the domains are alike, none goes
 * to Go, whether genuine or forged. */
static void many_domains(void)
{
	enum { MANY = 40 };
	static eesp_group *g[MANY];
	static eesp_sender *s[MANY];
	static uint8_t room[ROOM], at[2][ROOM];
	for (uint32_t unlike = 0; unlike < 2; unlike++) {
		eesp_receiver_config rc = EESP_RECEIVER_CONFIG_INIT;
		eesp_receiver *r[2];
		uint64_t by_cgo = 0;
		for (uint32_t i = 0; i < MANY; i++) {
			eesp_group_config c = EESP_GROUP_CONFIG_INIT;
			eesp_sender_config sc = EESP_SENDER_CONFIG_INIT;
			uint8_t secret[32] = { 78, (uint8_t)unlike, (uint8_t)i };
			c.profile = EESP_PROFILE_TSS;
			c.aead = EESP_AEAD_AES_256_GCM;
			c.domain = 0x20000 + 0x1000 * unlike + i * 37 % 64 * 5;
			c.rekey_mask = unlike && i == 20 ? 0xfc : 0;
			WORKS(eesp_group_new(&c, &g[i]));
			WORKS(eesp_group_set_key(g[i], 0, secret, sizeof secret));
			secret[3] = 1;
			WORKS(eesp_group_set_key(g[i], 1, secret, sizeof secret));
			sc.id = 0x3000 + MANY * unlike + i;
			sc.v = EESP_V_TSS_SSI;
			sc.counter_mode = EESP_COUNTER_EXPLICIT;
			WORKS(eesp_sender_new(g[i], &sc, &s[i]));
		}
		rc.replay_window = 64;
		for (int k = 0; k < 2; k++)
			WORKS(eesp_receiver_new(g, MANY, &rc, &r[k]));
		*direct_open_plan(r[1]) = NULL;
		beside_noise(g, MANY, s[unlike ? 5 : 23], r, EESP_TSS_LEAD_IPV4, 0, 1);
		for (uint32_t round = 0; round < 8; round++)
			for (size_t i = 0; i < MANY; i++) {
				const uint16_t flags = round & 1 ? EESP_PKT_IPV6 : 0;
				const uint32_t prefix = flags ? EESP_TSS_LEAD_IPV6 : EESP_TSS_LEAD_IPV4;
				eesp_pkt q[2], p = packet(room + EESP_TSS_LEAD_IPV6 + EESP_MAX_HEADER, 60,
							  EESP_TSS_LEAD_IPV6 + EESP_MAX_HEADER, EESP_ICV_LEN);
				p.flags = flags;
				payload(p.data, i, 60);
				SAME(eesp_seal_burst(s[i], &p, 1), 1);
				if (round >= 4)
					((uint8_t *)p.out)[round >= 6 ? 30 : 3] ^= 1; /* of payload or domain */
				for (int k = 0; k < 2; k++) {
					memcpy(at[k], (uint8_t *)p.out - prefix, prefix + p.out_len);
					q[k] = packet(at[k] + prefix, p.out_len, prefix, 0);
					q[k].flags = flags;
				}
				const uint64_t before = direct_cgo_packets();
				SAME(eesp_open_burst(r[0], &q[0], 1), round < 4);
				by_cgo += round < 2 ? 0 : direct_cgo_packets() - before;
				SAME(eesp_open_burst(r[1], &q[1], 1), round < 4);
				same_outcome(&q[0], &q[1]);
				CHECK(round < 4 || q[0].status == EESP_ERR_AUTH || q[0].status == EESP_ERR_NO_KEY);
			}
		CHECK(unlike || !possible || by_cgo == 0);
		free_alike(r);
		for (size_t i = 0; i < MANY; i++) {
			eesp_sender_free(s[i]);
			eesp_group_free(g[i]);
		}
	}
}

/* Packets of psp with any version, extension and crypt offset have the same outcome in C
 * and Go, and few of them go to Go. */
static void psp_in_any_form(void)
{
	static uint8_t at[32][ROOM], room[2][32][ROOM], to[2][32][PAD + ROOM + PAD];
	static const uint32_t extra_lens[] = { 0, 8, 16, 24, 48, 112 };
	static const uint8_t extra[112] = { 1, 2, 3, 4, 5, 6, 7, 8, 9 };
	uint64_t all = 0, by_cgo = 0, good = 0;
	uint32_t id = 0x5000;
	for (uint32_t version = 0; version < 4; version++)
		for (uint32_t kind = 0; kind < 4 * COUNT(extra_lens); kind++) {
			eesp_group_config c = EESP_GROUP_CONFIG_INIT;
			eesp_group *g;
			eesp_sender *s;
			eesp_receiver *r[2];
			eesp_sender_config sc = explicit_config((uint8_t)version);
			eesp_receiver_config rc = EESP_RECEIVER_CONFIG_INIT;
			uint8_t secret[32] = { 78, (uint8_t)version, (uint8_t)kind };
			int held = any(4) == 0;
			c.profile = EESP_PROFILE_PSP;
			c.versions = any(3) ? 15 : (uint8_t)(1u << version);
			WORKS(eesp_group_new(&c, &g));
			WORKS(eesp_group_set_key(g, 0, secret, 32));
			sc.epoch = 0;
			sc.id = ++id;
			sc.extra = extra;
			sc.extra_len = extra_lens[kind / 4];
			if (sc.extra_len == 0)
				sc.extra = NULL;
			else if (kind & 1)
				sc.flags |= EESP_SENDER_NO_VC;
			if (kind & 2)
				sc.flags |= EESP_SENDER_OFFSET_FROM_IV;
			rc.replay_window = any(2) ? 64 : 0;
			WORKS(eesp_sender_new(g, &sc, &s));
			eesp_data_key key;
			eesp_context x = { .id = sc.id, .v = (uint8_t)version };
			if (held)
				WORKS(eesp_data_key_export(g, &x, 0, &key));
			for (int k = 0; k < 2; k++)
				if (held)
					WORKS(eesp_receiver_new_with_key(&key, &rc, &r[k]));
				else
					WORKS(eesp_receiver_new(&g, 1, &rc, &r[k]));
			*direct_open_plan(r[1]) = NULL;
			for (int round = 0; round < (emulated() ? 1 : 4); round++) {
				eesp_pkt p[32], q[2][32];
				int simple = 0;
				for (size_t i = 0; i < 32; i++) {
					p[i] = packet(at[i] + EESP_MAX_HEADER, any(3) ? 64 + any(200) : any(8),
						      EESP_MAX_HEADER, EESP_ICV_LEN);
					p[i].next_header = (uint8_t)i;
					payload(p[i].data, i, p[i].len);
					p[i].coffset = any(2) || version >= 2 ? 0 : (uint8_t)any(20);
				}
				eesp_seal_burst(s, p, 32);
				for (size_t i = 0; i < 32; i++) {
					/* NULL: the offset was beyond the payload */
					uint8_t *h = p[i].out != NULL ? p[i].out : at[i];
					uint32_t len = p[i].out != NULL ? p[i].out_len : 40, where = any(len);
					uint32_t damage = any(12), size = p[i].len + any(3) * 40,
						 size_less = any(10) == 0;
					int elsewhere = any(2), octet = (int)any(256), again = any(8) == 0 && simple;
					/* a packet twice, in the same form: otherwise the order would matter */
					if (again) {
						h = p[i - 1].out;
						len = p[i - 1].out_len;
						damage = 9;
						elsewhere = 0;
					}
					simple = !again && damage > 2 && !elsewhere && p[i].out != NULL;
					memset(to[0][i], CANARY, sizeof to[0][i]);
					memset(to[1][i], CANARY, sizeof to[1][i]);
					for (int k = 0; k < 2; k++) {
						memcpy(room[k][i], h, len);
						q[k][i] = packet(room[k][i], len, 0, 0);
						if (damage < 2)
							room[k][i][where] ^= 4;
						else if (damage == 2)
							room[k][i][1 + where % 3] = (uint8_t)octet;
						if (elsewhere) {
							q[k][i].dst = to[k][i] + PAD;
							q[k][i].dst_size = size - (size_less && size > 0);
						}
					}
				}
				good += open_alike(r, q, room, to, &by_cgo);
				all += 32;
			}
			free_alike(r);
			eesp_sender_free(s);
			eesp_group_free(g);
		}
	printf("     of %llu packets of psp %llu opened, %llu were Go's\n", (unsigned long long)all,
	       (unsigned long long)good, (unsigned long long)by_cgo);
	CHECK(good > all / 2 && (!possible || by_cgo < all / 5));
}

/* Odd headers, which senders here do not write, and wrong ones have the same outcome in C and Go, and few
 * of them go to Go. */
static const struct odd {
	eesp_group_config g;
	uint32_t flags, replay; /* of sender and receiver */
	uint8_t v, levels, groups, held, previous, extra_len, ip;
} odd_kinds[] = {
	{ .v = EESP_V_ID },
	{ .v = EESP_V_LONG_ID, .replay = 64 },
	{ .v = EESP_V_LONG_ID_SRC, .levels = 5, .flags = EESP_SENDER_OPTIONS, .groups = 1 },
	{ .v = EESP_V_ID_SRC_DST, .levels = 7, .flags = EESP_SENDER_OPTIONS, .replay = 128 },
	{ .v = EESP_V_ID_SRC, .levels = 2, .flags = EESP_SENDER_OPTIONS, .held = 1 },
	{ .v = EESP_V_ID, .previous = 1 },
	{ .v = EESP_V_LONG_ID_SRC, .previous = 1 },
	{ .g = { .profile = EESP_PROFILE_EESP, .mode = 1, .max_coffset = 20 }, .replay = 64 },
	{ .g = { .profile = EESP_PROFILE_EESP, .mode = 4, .draft = EESP_DRAFT_02, .max_coffset = 63, .aead = 1 },
	  .extra_len = 5, .groups = 1 },
	{ .g = { .profile = EESP_PROFILE_EESP, .mode = 1, .draft = EESP_DRAFT_02,
		 .flags = EESP_GROUP_IV | EESP_GROUP_ALIGN8, .max_coffset = 9 },
	  .extra_len = 13, .held = 1 },
	{ .g = { .profile = EESP_PROFILE_EESP, .mode = 1, .draft = EESP_DRAFT_02, .flags = EESP_GROUP_OPTIMIZED,
		 .sub_sas = 300 },
	  .extra_len = 3, .ip = 1 },
	{ .g = { .profile = EESP_PROFILE_EESP, .mode = 1, .draft = EESP_DRAFT_02,
		 .flags = EESP_GROUP_NO_SEQUENCE | EESP_GROUP_IV }, .extra_len = 7 },
};

/* Replaces the options behind the base header of eesp with octets that look like options. */
static uint32_t other_options(uint8_t *h, uint32_t len)
{
	uint8_t copy[ROOM], *to = copy + 8;
	uint32_t opt = h[1], want = 4 * any(8);
	memcpy(copy, h, 8);
	while (to < copy + 8 + want) {
		uint32_t left = (uint32_t)(copy + 8 + want - to), n = any(left);
		static const uint8_t types[] = { 0, 1, 1, 2, 3, 4, 223, 224, 255 };
		*to++ = types[any(sizeof types)];
		if (left < 2 || to[-1] == 0)
			continue;
		n = n > left - 2 ? left - 2 : n;
		n = to[-1] == 2 && any(2) && left >= 4 ? 2 : n;
		*to++ = (uint8_t)(any(10) ? n : n + 1);
		for (uint32_t i = 0; i < n; i++)
			to[i] = to[-2] == 1 && any(10)            ? 0
				: to[-2] == 2 && i == 0 && any(3) ? (uint8_t)(8 + want + 8)
								  : (uint8_t)any(64);
		to += n;
	}
	copy[1] = (uint8_t)want;
	if (opt > len - 8 || len - opt + want > ROOM)
		return len;
	memcpy(copy + 8 + want, h + 8 + opt, len - 8 - opt);
	memcpy(h, copy, len - opt + want);
	return len - opt + want;
}

/* Makes a header odd or wrong, and returns the packet's new length. */
static uint32_t made_odd(uint8_t *h, uint32_t len, int eesp)
{
	static const uint8_t octets[] = { 0, 1, 2, 3, 4, 16, 20, 24, 0xE0, 0xE1, 0xE2, 0xE3, 224, 255 };
	uint32_t n = eesp ? 8u + h[1] : 8 * (1 + (h[0] & 15u));
	n = n > len ? len : n;
	switch (any(8)) {
	case 0: h[any(n > 8 && !eesp ? n - 4 : n)] ^= (uint8_t)(1u << any(8)); break;
	case 1: if (n > 8) h[8 + any(n - 8)] = octets[any(sizeof octets)]; break;
	case 2: if (eesp) { h[n > 8 ? 10 : 4] ^= 4; break; } h[2] = (uint8_t)any(3); h[3] = (uint8_t)any(256); break;
	case 3: h[3] = eesp ? h[3] : (uint8_t)any(256); h[len - 1] ^= 1; break;
	case 4: return any(len + 1);
	case 5: if (eesp) return other_options(h, len); h[3] = (uint8_t)any(40); break;
	case 6: if (eesp) memset(h + n, 0, len - n < 8 ? len - n : 8); else h[0] = (uint8_t)any(16); break;
	case 7: if (!eesp && n > 20) memset(h + n - 12, 0, 4);
		else h[1] = (uint8_t)(any(2) ? h[1] ^ 0x80 : 4 * any(64));
		break;
	}
	return len;
}

static void odd_headers(void)
{
	static uint8_t at[32][ROOM], room[2][32][ROOM], to[2][32][PAD + ROOM + PAD];
	static const uint8_t extra[16] = { 1, 2, 3 };
	static uint32_t id = 0x6000;
	for (size_t kind = 0; kind < COUNT(odd_kinds); kind++) {
		const struct odd *o = &odd_kinds[kind];
		const int eesp = o->g.profile == EESP_PROFILE_EESP;
		uint64_t all = 0, by_cgo = 0, opened = 0, in_clear = 0;
		eesp_group *g[2];
		for (uint32_t i = 0; i <= o->groups; i++) {
			eesp_group_config c = EESP_GROUP_CONFIG_INIT, from = o->g;
			uint8_t secret[32] = { 79, (uint8_t)kind, (uint8_t)i };
			if (!eesp) {
				g[i] = i ? another_group(1) : new_group(0, o->levels ? o->levels : 1);
				continue;
			}
			from.struct_size = c.struct_size;
			from.domain = 0x3000 + (uint32_t)(2 * kind) + i;
			from.draft = o->g.draft ? o->g.draft : c.draft;
			WORKS(eesp_group_new(&from, &g[i]));
			WORKS(eesp_group_set_key(g[i], 0, secret, 32));
		}
		eesp_sender_config sc = explicit_config(o->v);
		eesp_receiver_config rc = EESP_RECEIVER_CONFIG_INIT;
		eesp_sender *s;
		eesp_receiver *r[2];
		eesp_data_key key;
		sc.flags = o->flags;
		rc.replay_window = o->replay;
		rc.flags = o->previous ? EESP_RECEIVER_TRY_PREVIOUS : 0;
		if (eesp) {
			sc.epoch = 0;
			sc.id = ++id % 300;
			sc.extra = o->extra_len ? extra : NULL;
			sc.extra_len = o->extra_len;
		}
		eesp_context x = { .id = sc.id, .v = o->v, .epoch = eesp ? 0 : 3 };
		if (!eesp)
			x.addr = packet(NULL, 0, 0, 0).addr;
		if (o->held)
			WORKS(eesp_data_key_export(g[0], &x, !eesp, &key));
		WORKS(eesp_sender_new(g[0], &sc, &s));
		for (int k = 0; k < 2; k++)
			if (o->held)
				WORKS(eesp_receiver_new_with_key(&key, &rc, &r[k]));
			else
				WORKS(eesp_receiver_new(g, 1u + o->groups, &rc, &r[k]));
		*direct_open_plan(r[1]) = NULL;
		form.ip = o->ip;
		for (int round = 0; round < (emulated() ? 3 : 200); round++) {
			eesp_pkt p[32], q[2][32];
			for (size_t i = 0; i < 32; i++) {
				p[i] = packet(at[i] + EESP_MAX_HEADER + 64, 50 + any(200), EESP_MAX_HEADER + 64,
					      EESP_ICV_LEN + EESP_MAX_PADDING);
				p[i].next_header = 4;
				if (!eesp && !o->held)
					source(&p[i], any(3));
				payload(p[i].data, i, p[i].len);
				if (o->ip)
					payload(p[i].data, i, p[i].len -= p[i].len % 7 == 0);
				p[i].coffset = any(2) && (!eesp || o->g.max_coffset) ? (uint8_t)any(eesp ? 8 : 12) : 0;
				p[i].ioffset = !eesp && any(2) ? (uint8_t)any(p[i].coffset + 1u) : 0;
			}
			SAME(eesp_seal_burst(s, p, 32), 32);
			for (size_t i = 0; i < 32; i++) {
				const uint32_t damage = any(3), where = any(2), was = seed,
					       size = p[i].len + any(20) - (any(8) == 0);
				memset(to[0][i], CANARY, sizeof to[0][i]);
				memset(to[1][i], CANARY, sizeof to[1][i]);
				in_clear += p[i].coffset != 0;
				for (int k = 0; k < 2; k++) {
					uint32_t len = p[i].out_len;
					memcpy(room[k][i], p[i].out, len);
					seed = was;
					if (damage == 0)
						len = made_odd(room[k][i], len, eesp);
					q[k][i] = packet(room[k][i], len, 0, 0);
					q[k][i].addr = p[i].addr;
					q[k][i].coffset = q[k][i].ioffset = q[k][i].next_header = 9;
					if (where == 0) {
						q[k][i].dst = to[k][i] + PAD;
						q[k][i].dst_size = size;
					}
					if (o->held && any(40) == 0)
						q[k][i].addr.src[3] ^= 1;
				}
			}
			opened += open_alike(r, q, room, to, &by_cgo);
			all += 32;
		}
		free_alike(r);
		printf("     odd headers %zu: of %llu packets %llu opened, %llu were Go's\n", kind,
		       (unsigned long long)all, (unsigned long long)opened, (unsigned long long)by_cgo);
		CHECK(opened > all / 2 && (o->ip || in_clear > all / 8 || o->g.max_coffset == 0));
		/* The first burst may make a key. eesp: Go opens packets whose destination lacks room for the encrypted
		 * part of the header. */
		CHECK(!possible || (eesp ? by_cgo <= 32 + all / 9 : by_cgo == 0));
		eesp_sender_free(s);
		for (uint32_t i = 0; i <= o->groups; i++)
			eesp_group_free(g[i]);
	}
	form.ip = 0;
}

/* In a flood of forged Session IDs few packets go to Go. Packets of senders that exist all open,
 * and new senders are accepted. */
static void flood(void)
{
	static uint8_t secret[32] = { 99 }, at[32][ROOM];
	eesp_group_config c = EESP_GROUP_CONFIG_INIT;
	eesp_sender_config sc = EESP_SENDER_CONFIG_INIT;
	eesp_receiver_config rc = EESP_RECEIVER_CONFIG_INIT;
	static const uint64_t own[] = { 99 };
	eesp_group *g[2];
	eesp_sender *s[3];
	eesp_receiver *r;
	struct timespec start, now;
	c.profile = EESP_PROFILE_EESP;
	c.mode = EESP_SSKDF_HKDF_SHA2_256;
	for (uint32_t i = 0; i < 2; i++) { /* two SAs with different numbers of Sub SAs */
		c.domain = 0x2000 + i;
		secret[1] = (uint8_t)i;
		WORKS(eesp_group_new(&c, &g[i]));
		WORKS(eesp_group_set_key(g[i], 0, secret, sizeof secret));
	}
	for (uint64_t i = 0; i < 3; i++) {
		sc.id = 10 + i;
		sc.counter_mode = EESP_COUNTER_EXPLICIT;
		WORKS(eesp_sender_new(g[i / 2], &sc, &s[i]));
	}
	rc.own_ids = own; /* packets with own IDs have their status in a flood too */
	rc.own_id_count = COUNT(own);
	WORKS(eesp_receiver_new(g, 2, &rc, &r));
	clock_gettime(CLOCK_MONOTONIC, &start);
	uint64_t before = 0, forged = 0, looked = 0, refused = 0, reflected = 0;
	int in = 0;
	const int bursts = emulated() ? 100 : 3000;
	for (int burst = 0; burst < bursts || !in; burst++) {
		eesp_pkt p[32], q[32];
		/* at any place: the clock may allow fewer new IDs than a burst has */
		const size_t new = burst == 0 ? 31 : 2 * any(16) + 1;
		CHECK(burst < 1000000);
		for (size_t i = 0; i < 32; i++) {
			uint8_t *data = at[i] + EESP_MAX_HEADER;
			p[i] = packet(data, 60, EESP_MAX_HEADER, EESP_ICV_LEN + EESP_MAX_PADDING);
			payload(data, i, 60);
		}
		SAME(eesp_seal_burst(s[0], p, new), new);
		SAME(eesp_seal_burst(s[1], p + new, 1), 1); /* the new sender, in the second half */
		SAME(eesp_seal_burst(s[0], p + new + 1, 31 - new), 31 - new);
		p[16] = packet(at[16] + EESP_MAX_HEADER, 60, EESP_MAX_HEADER, EESP_ICV_LEN + EESP_MAX_PADDING);
		payload(p[16].data, 16, 60);
		SAME(eesp_seal_burst(s[2], &p[16], 1), 1);
		for (size_t i = 0; i < 32; i++) {
			uint8_t *h = p[i].out;
			q[i] = packet(h, p[i].out_len, 0, 0);
			q[i].user = &p[i];
			if (burst > 0 && (i == new ? burst < bursts / 2 : i % 2)) {
				uint32_t id = any(64) ? 100 + any(60000) : (uint32_t)own[0];
				h[2] = (uint8_t)(id >> 8);
				h[3] = (uint8_t)id;
				forged++;
				q[i].coffset = q[i].ioffset = q[i].next_header = 9;
			} else if (i == new && burst == 0) {
				h[0] = 0;
			}
		}
		size_t opened = eesp_open_burst(r, q, 32);
		for (size_t i = 0; i < 32; i++) {
			CHECK(q[i].user == &p[i] && q[i].data == p[i].out);
			opened -= q[i].status == EESP_OK;
			if (burst == 0 && i == new) {
				SAME(q[i].status, EESP_ERR_VERSION);
			} else if (i == new && burst >= bursts / 2) {
				CHECK(q[i].status == EESP_OK || (!in && q[i].status == EESP_ERR_FLOODED));
				in |= q[i].status == EESP_OK;
			} else if (burst == 0 || i % 2 == 0) {
				SAME(q[i].status, EESP_OK);
				CHECK(is_payload(q[i].out, i, 60));
			} else {
				const int mine = q[i].id == own[0];
				CHECK(mine ? q[i].status == EESP_ERR_REFLECTED
					   : q[i].status == EESP_ERR_FLOODED || q[i].status == EESP_ERR_AUTH);
				CHECK(q[i].out == NULL && q[i].out_len == 0 &&
				      q[i].id == ((uint64_t)((uint8_t *)p[i].out)[2] << 8 | ((uint8_t *)p[i].out)[3]));
				SAME(q[i].tsc, p[i].tsc);
				CHECK(q[i].coffset == 0 && q[i].ioffset == 0 && q[i].next_header == 0);
				looked += q[i].status == EESP_ERR_AUTH;
				reflected += mine;
			}
			refused += q[i].status == EESP_ERR_FLOODED;
		}
		SAME(opened, 0);
		if (burst == 0)
			before = direct_cgo_packets();
	}
	clock_gettime(CLOCK_MONOTONIC, &now);
	uint64_t ns = (uint64_t)(now.tv_sec - start.tv_sec) * 1000000000 + (uint64_t)now.tv_nsec -
		      (uint64_t)start.tv_nsec;
	uint64_t most = 256 + forged / 1024 + (ns >> 18) + 64; /* and what one tick of the coarse clock allows */
	printf("     of %llu packets of Session IDs that nobody sends with %llu were looked at\n",
	       (unsigned long long)forged, (unsigned long long)looked);
	if (!possible) /* some of a thread's 512 cached keys may be of forged packets */
		most += forged / 50;
	CHECK(looked <= most && (looked >= 256 || forged < 4096));
	CHECK(!possible || direct_cgo_packets() - before <= most + reflected + 64);
	eesp_stats counts;
	WORKS(eesp_receiver_stats(r, &counts));
	SAME(counts.packets[-EESP_ERR_FLOODED], refused);
	SAME(counts.packets[-EESP_ERR_REFLECTED], reflected);
	SAME(counts.packets[-EESP_ERR_AUTH], looked);
	eesp_receiver_free(r);
	for (int i = 0; i < 3; i++)
		eesp_sender_free(s[i]);
	eesp_group_free(g[0]);
	eesp_group_free(g[1]);
}

/* Without an SSI one sender seals for all addresses, and both paths open its packets. */
static void tss_addresses(void)
{
	for (unsigned six = 0; six < 2; six++) {
		static uint8_t copy[8][ROOM], secret[32] = { 5 };
		const uint32_t prefix = six ? EESP_TSS_LEAD_IPV6 : EESP_TSS_LEAD_IPV4;
		eesp_group_config c = EESP_GROUP_CONFIG_INIT;
		eesp_sender_config sc = EESP_SENDER_CONFIG_INIT;
		eesp_receiver_config rc = EESP_RECEIVER_CONFIG_INIT;
		eesp_group *g;
		eesp_sender *s;
		eesp_receiver *r[2];
		c.profile = EESP_PROFILE_TSS;
		c.aead = EESP_AEAD_AES_256_GCM;
		c.domain = 77;
		c.rekey_mask = 0xfffe;
		c.rekey_shift = 1;
		WORKS(eesp_group_new(&c, &g));
		secret[1] = (uint8_t)six;
		WORKS(eesp_group_set_key(g, 1, secret, 32));
		sc.start_counter = 100000 + 10000 * six; /* above those of all SSIs */
		sc.v = six ? EESP_V_TSS_ADDR_IPV6 : EESP_V_TSS_ADDR;
		sc.counter_mode = EESP_COUNTER_EXPLICIT;
		WORKS(eesp_sender_new(g, &sc, &s));
		rc.replay_window = 64;
		for (int k = 0; k < 2; k++)
			WORKS(eesp_receiver_new(&g, 1, &rc, &r[k]));
		*direct_open_plan(r[1]) = NULL;
		for (int round = 0; round < 20; round++) {
			eesp_pkt p[8], q[8];
			for (size_t i = 0; i < COUNT(p); i++) {
				uint8_t *data = side[0].room[i] + PAD + EESP_MAX_HEADER;
				uint32_t len = 60 + any(100), header = eesp_sender_header_len(s);
				p[i] = packet(data, len, EESP_MAX_HEADER, EESP_ICV_LEN);
				p[i].flags = six ? EESP_PKT_IPV6 : 0;
				memset(data - header - prefix, (int)(i % 3) + 1, prefix);
				fill(data, i, len);
			}
			uint64_t sealing = direct_cgo_packets();
			SAME(eesp_seal_burst(s, p, COUNT(p)), COUNT(p));
			CHECK(!possible || direct_cgo_packets() == sealing);
			for (int k = 0; k < 2; k++) {
				uint64_t before = direct_cgo_packets();
				for (size_t i = 0; i < COUNT(p); i++) {
					memcpy(copy[i], (uint8_t *)p[i].out - prefix, prefix + p[i].out_len);
					q[i] = packet(copy[i] + prefix, p[i].out_len, prefix, 0);
					q[i].flags = p[i].flags;
					if (round == 7)
						copy[i][0] ^= 1; /* another sender's address */
				}
				SAME(eesp_open_burst(r[k], q, COUNT(q)), round == 7 ? 0 : COUNT(q));
				for (size_t i = 0; i < COUNT(q); i++) {
					SAME(q[i].status, round == 7 ? EESP_ERR_AUTH : EESP_OK);
					SAME(q[i].tsc, p[i].tsc);
					CHECK(round == 7 || filled(q[i].out, i, p[i].len));
				}
				CHECK(k == 1 || !possible || direct_cgo_packets() == before);
			}
		}
		for (int k = 0; k < 2; k++)
			eesp_receiver_free(r[k]);
		eesp_sender_free(s);
		eesp_group_free(g);
	}
}

/* Seals n packets, and returns how many of them went to Go. */
static uint64_t seal_run(eesp_sender *s, eesp_pkt *p, size_t n, uint32_t prefix, uint16_t flags)
{
	uint64_t before = direct_cgo_packets();
	for (size_t i = 0; i < n; i++) {
		uint8_t *data = side[0].room[i] + PAD + EESP_MAX_HEADER;
		p[i] = packet(data, 64, EESP_MAX_HEADER, EESP_ICV_LEN + EESP_MAX_PADDING);
		p[i].flags = flags;
		memset(data - EESP_MAX_HEADER, 0, EESP_MAX_HEADER);
		memset(data - eesp_sender_header_len(s) - prefix, 3, prefix);
		fill(data, i, 64);
	}
	size_t good = eesp_seal_burst(s, p, n);
	SAME(p[0].status, EESP_OK);
	SAME(good, n);
	return direct_cgo_packets() - before;
}

static void open_run(eesp_receiver *r, const eesp_pkt *p, size_t n, uint32_t prefix)
{
	for (size_t i = 0; i < n; i++) {
		static uint8_t copy[ROOM];
		memcpy(copy, (uint8_t *)p[i].out - prefix, prefix + p[i].out_len);
		eesp_pkt q = packet(copy + prefix, p[i].out_len, prefix, 0);
		q.flags = p[i].flags;
		SAME(eesp_open_burst(r, &q, 1), 1);
		CHECK(filled(q.out, i, 64));
	}
}

/* tss: counters begin anew with each key and epoch, over both IP families. Packets that the plan does
 * not cover have the counters between those of their neighbours. */
static void tss_renews(void)
{
	static uint8_t secret[32] = { 6 };
	for (uint32_t mask = 0; mask < 16; mask += 12) {
		eesp_group_config c = EESP_GROUP_CONFIG_INIT;
		eesp_sender_config sc = EESP_SENDER_CONFIG_INIT;
		eesp_receiver_config rc = EESP_RECEIVER_CONFIG_INIT;
		eesp_group *g;
		eesp_sender *s;
		eesp_receiver *r;
		eesp_pkt p[MOST];
		c.profile = EESP_PROFILE_TSS;
		c.aead = EESP_AEAD_AES_256_GCM;
		c.domain = 90;
		c.rekey_mask = mask;
		WORKS(eesp_group_new(&c, &g));
		secret[1] = (uint8_t)mask;
		WORKS(eesp_group_set_key(g, 0, secret, 32));
		sc.id = 9000 + mask;
		sc.v = EESP_V_TSS_SSI;
		sc.counter_mode = EESP_COUNTER_EXPLICIT;
		sc.start_counter = 300000; /* above those of addresses */
		WORKS(eesp_sender_new(g, &sc, &s));
		rc.replay_window = 64;
		WORKS(eesp_receiver_new(&g, 1, &rc, &r));
		uint64_t start = sc.start_counter, epoch = 0;
		for (int round = 0; round < 6; round++) {
			SAME(seal_run(s, p, MOST, EESP_TSS_LEAD_IPV4, 0), possible ? 0 : MOST);
			for (size_t i = 0; i < MOST; i++)
				SAME(p[i].tsc, (epoch << 48) + start + i);
			open_run(r, p, MOST, EESP_TSS_LEAD_IPV4);
			SAME(seal_run(s, p, 5, EESP_TSS_LEAD_IPV6, EESP_PKT_IPV6), possible ? 0 : 5);
			SAME(p[4].tsc, (epoch << 48) + start + MOST + 4);
			open_run(r, p, 5, EESP_TSS_LEAD_IPV6);
			/* one of the other family in the middle, one too long */
			for (size_t i = 0; i < 7; i++) {
				p[i] = packet(side[0].room[i] + PAD + EESP_MAX_HEADER, 64, EESP_MAX_HEADER,
					      EESP_ICV_LEN);
				fill(p[i].data, i, 64);
			}
			p[3].flags = EESP_PKT_IPV6;
			p[5].len = EESP_MAX_LEN + 1;
			SAME(eesp_seal_burst(s, p, 7), 6);
			SAME(p[5].status, EESP_ERR_TOO_LONG);
			for (size_t i = 0; i < 7; i++)
				SAME(p[i].tsc, i == 5 ? 0 : (epoch << 48) + start + MOST + 5 + i);
			start = 0;
			if (round % 3 == 2) { /* in epoch 0, senders without SSI have had these counters */
				secret[2]++;
				WORKS(eesp_group_rotate_key(g, secret, 32, NULL));
			}
			WORKS(eesp_group_set_epoch(g, (uint16_t)++epoch));
		}
		eesp_domain_stats d;
		eesp_stats out;
		WORKS(eesp_group_domain_stats(g, &d));
		WORKS(eesp_sender_stats(s, &out));
		SAME(d.sealed, 6 * (MOST + 5 + 6));
		SAME(out.packets[0], d.sealed);
		WORKS(eesp_group_remove_key(g, 0));
		WORKS(eesp_group_remove_key(g, 1));
		SAME(eesp_seal_burst(s, p, 1), 0);
		SAME(p[0].status, EESP_ERR_NO_KEY);
		eesp_sender_free(s);
		eesp_receiver_free(r);
		eesp_group_free(g);
	}
}

/* Server mode: the client with the address or SSI opens the server's packets, and the server opens the
 * client's. Neither opens its own. */
static void tss_server(void)
{
	static const uint8_t vs[] = { EESP_V_TSS_SSI, EESP_V_TSS_ADDR, EESP_V_TSS_ADDR_IPV6, EESP_V_TSS_SSI_IPV6 };
	for (size_t k = 0; k < COUNT(vs); k++) {
		static uint8_t secret[32] = { 7 };
		int six = vs[k] == EESP_V_TSS_ADDR_IPV6 || vs[k] == EESP_V_TSS_SSI_IPV6;
		int ssi = vs[k] == EESP_V_TSS_SSI || vs[k] == EESP_V_TSS_SSI_IPV6;
		const uint32_t prefix = six ? EESP_TSS_LEAD_IPV6 : EESP_TSS_LEAD_IPV4;
		const uint16_t flags = six ? EESP_PKT_IPV6 : 0;
		eesp_group_config c = EESP_GROUP_CONFIG_INIT;
		eesp_sender_config sc = EESP_SENDER_CONFIG_INIT, cc = EESP_SENDER_CONFIG_INIT;
		eesp_receiver_config rc = EESP_RECEIVER_CONFIG_INIT;
		eesp_context x = { .id = ssi ? 9100 + k : 0, .v = vs[k] };
		eesp_group *g;
		eesp_sender *server, *client;
		eesp_receiver *at_server, *at_client;
		eesp_data_key key;
		eesp_pkt p[MOST], q;
		c.profile = EESP_PROFILE_TSS;
		c.aead = EESP_AEAD_AES_256_GCM;
		c.domain = 91;
		c.mode = EESP_TSS_SERVER;
		WORKS(eesp_group_new(&c, &g));
		secret[1]++;
		WORKS(eesp_group_set_key(g, 0, secret, 32));
		sc.id = x.id;
		sc.v = vs[k];
		sc.counter_mode = cc.counter_mode = EESP_COUNTER_EXPLICIT;
		sc.start_counter = cc.start_counter = 1000 * k;
		WORKS(eesp_sender_new(g, &sc, &server));
		memset(&x.addr.src, six ? 3 : 0, 16);
		if (!ssi && !six)
			memcpy(x.addr.src, (const uint8_t[16]){ 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 3, 3, 3, 3 },
			       16);
		if (vs[k] == EESP_V_TSS_SSI)
			memset(&x.addr, 0, sizeof x.addr);
		WORKS(eesp_data_key_export(g, &x, 0, &key));
		WORKS(eesp_sender_new_with_key(&key, &cc, &client));
		rc.replay_window = 128;
		WORKS(eesp_receiver_new(&g, 1, &rc, &at_server));
		WORKS(eesp_receiver_new_with_key(&key, &rc, &at_client));
		for (int round = 0; round < 3; round++) {
			SAME(seal_run(server, p, MOST, prefix, flags), possible ? 0 : MOST);
			q = packet(p[0].out, p[0].out_len, prefix, 0);
			q.flags = flags;
			SAME(eesp_open_burst(at_server, &q, 1), 0);
			SAME(q.status, EESP_ERR_REFLECTED);
			open_run(at_client, p, MOST, prefix);
			SAME(seal_run(client, p, MOST, prefix, flags), possible && vs[k] == EESP_V_TSS_SSI ? 0 : MOST);
			q = packet(p[0].out, p[0].out_len, prefix, 0);
			q.flags = flags;
			SAME(eesp_open_burst(at_client, &q, 1), 0);
			SAME(q.status, EESP_ERR_REFLECTED);
			open_run(at_server, p, MOST, prefix);
		}
		eesp_data_key_wipe(&key);
		eesp_sender_free(server);
		eesp_sender_free(client);
		eesp_receiver_free(at_server);
		eesp_receiver_free(at_client);
		eesp_group_free(g);
	}
}

/* Bursts of one packet, whose KDF input changes with the counter, the address or the other IP family, or not: Go opens
 * them, and each is counted once. */
static void sealed_singly(void)
{
	enum { ROUNDS = 300 };
	static const struct {
		uint32_t profile, aead;
		uint64_t mask;
		uint8_t shift, v;
	} kinds[] = {
		{ EESP_PROFILE_STATELESS, 0, 0, 0, EESP_V_ID },
		{ EESP_PROFILE_STATELESS, 1, 0, 0, EESP_V_ID_SRC },
		{ EESP_PROFILE_STATELESS, 0, 0, 0, EESP_V_LONG_ID_SRC_DST },
		{ EESP_PROFILE_PSP, 0, 0, 0, EESP_V_PSP_AES_128_GCM },
		{ EESP_PROFILE_PSP, 1, 0, 0, EESP_V_PSP_AES_256_GCM },
		{ EESP_PROFILE_TSS, 1, 0x3c, 2, EESP_V_TSS_SSI },
		{ EESP_PROFILE_TSS, 1, 0x7f0, 4, EESP_V_TSS_SSI },
		{ EESP_PROFILE_TSS, 1, 0x7f0, 4, EESP_V_TSS_SSI_IPV6 },
	};
	for (size_t k = 0; k < COUNT(kinds); k++) {
		const int tss = kinds[k].profile == EESP_PROFILE_TSS;
		const int stateless = kinds[k].profile == EESP_PROFILE_STATELESS;
		const uint8_t secret[32] = { 83, (uint8_t)k };
		eesp_group_config c = EESP_GROUP_CONFIG_INIT;
		eesp_sender_config sc = EESP_SENDER_CONFIG_INIT;
		eesp_receiver_config rc = EESP_RECEIVER_CONFIG_INIT;
		eesp_group *g;
		eesp_sender *s;
		eesp_receiver *r;
		eesp_addr from = { .src = { 0 } };
		uint64_t octets = 0, before = direct_cgo_packets();
		c.profile = kinds[k].profile;
		c.aead = kinds[k].aead;
		c.domain = tss ? 0x6100 + (uint32_t)k : 0;
		c.rekey_mask = kinds[k].mask;
		c.rekey_shift = kinds[k].shift;
		if (stateless) {
			g = new_group(kinds[k].aead, EESP_LEVELS_ZONE);
			sc.flags = EESP_SENDER_OPTIONS;
		} else {
			WORKS(eesp_group_new(&c, &g));
			WORKS(eesp_group_set_key(g, 0, secret, 32));
		}
		if (tss)
			WORKS(eesp_group_set_epoch(g, 23)); /* senders without SSI have had the counters before */
		sc.id = 0x9200 + k;
		sc.v = kinds[k].v;
		sc.counter_mode = EESP_COUNTER_EXPLICIT;
		WORKS(eesp_sender_new(g, &sc, &s));
		rc.replay_window = 64;
		WORKS(eesp_receiver_new(&g, 1, &rc, &r));
		*direct_open_plan(r) = NULL;
		for (int i = 0; i < ROUNDS; i++) {
			static uint8_t copy[ROOM];
			uint8_t *room = side[0].room[0] + PAD;
			const int six = kinds[k].v == EESP_V_TSS_SSI_IPV6 || (tss && any(6) == 0);
			const uint32_t prefix = !tss ? 0 : six ? EESP_TSS_LEAD_IPV6 : EESP_TSS_LEAD_IPV4;
			const uint32_t len = any(8) == 0 ? any(LONGEST) : any(200), header = eesp_sender_header_len(s);
			eesp_pkt p = packet(room + EESP_MAX_HEADER, len, EESP_MAX_HEADER, EESP_ICV_LEN);
			if (any(3) == 0)
				from.src[any(2) ? 0 : 15] ^= (uint8_t)any(3);
			p.addr = from;
			p.flags = six ? EESP_PKT_IPV6 : 0;
			fill(p.data, (size_t)i, len);
			if (any(2)) {
				p.dst = side[1].room[0] + PAD;
				p.dst_size = prefix + header + len + EESP_ICV_LEN;
			}
			memset(p.dst != NULL ? p.dst : room + EESP_MAX_HEADER - header - prefix, i, prefix);
			SAME(eesp_seal_burst(s, &p, 1), 1);
			SAME(p.out_len, header + len + EESP_ICV_LEN);
			octets += p.out_len;
			memcpy(copy, (uint8_t *)p.out - prefix, prefix + p.out_len);
			eesp_pkt q = packet(copy + prefix, p.out_len, prefix, 0);
			q.addr = from;
			q.flags = p.flags;
			CHECK(!possible || direct_cgo_packets() == before + (uint64_t)i);
			SAME(eesp_open_burst(r, &q, 1), 1);
			SAME(q.tsc, p.tsc);
			CHECK(filled(q.out, (size_t)i, len));
		}
		eesp_stats out;
		eesp_usage u;
		WORKS(eesp_sender_stats(s, &out));
		SAME(out.packets[0], ROUNDS);
		SAME(out.octets, octets);
		WORKS(eesp_group_usage(g, stateless ? EESP_LEVEL_ZONE : 0, stateless ? EESP_GENERATION_CURRENT : 0,
				       &u));
		SAME(u.sealed, ROUNDS);
		SAME(u.derived, 2 * ROUNDS); /* as if no part of a derivation was kept */
		if (tss) {
			eesp_domain_stats d;
			WORKS(eesp_group_domain_stats(g, &d));
			SAME(d.sealed, ROUNDS);
		}
		eesp_sender_free(s);
		eesp_receiver_free(r);
		eesp_group_free(g);
	}
}

/* A payload for which dst has no room is refused without a cgo call; if its packet is not new, that is the status. */
static void small_destinations(void)
{
	static uint8_t copy[32][ROOM], to[8];
	for (unsigned profile = EESP_PROFILE_STATELESS; profile <= EESP_PROFILE_EESP; profile++) {
		const uint32_t prefix = profile == EESP_PROFILE_TSS ? EESP_TSS_LEAD_IPV4 : 0;
		eesp_group_config c = EESP_GROUP_CONFIG_INIT;
		eesp_sender_config sc = EESP_SENDER_CONFIG_INIT;
		eesp_receiver_config rc = EESP_RECEIVER_CONFIG_INIT;
		uint8_t secret[32] = { 82, (uint8_t)profile };
		eesp_group *g = NULL;
		eesp_sender *s;
		eesp_receiver *r[2];
		eesp_pkt p[32], q[32];
		c.profile = profile;
		c.mode = profile == EESP_PROFILE_EESP ? EESP_SSKDF_HKDF_SHA2_256 : 0;
		c.domain = profile < EESP_PROFILE_TSS ? 0 : 0x6000;
		c.aead = profile == EESP_PROFILE_TSS ? EESP_AEAD_AES_256_GCM : EESP_AEAD_AES_128_GCM;
		if (profile == EESP_PROFILE_STATELESS) {
			g = new_group(0, EESP_LEVELS_ZONE);
		} else {
			WORKS(eesp_group_new(&c, &g));
			WORKS(eesp_group_set_key(g, 0, secret, 32));
		}
		if (profile == EESP_PROFILE_TSS)
			WORKS(eesp_group_set_epoch(g, 22)); /* senders without SSI have had the counters before */
		sc.id = 0x9100;
		sc.v = profile == EESP_PROFILE_TSS ? EESP_V_TSS_SSI : EESP_V_ID;
		sc.counter_mode = EESP_COUNTER_EXPLICIT;
		WORKS(eesp_sender_new(g, &sc, &s));
		rc.replay_window = 64;
		for (int k = 0; k < 2; k++)
			WORKS(eesp_receiver_new(&g, 1, &rc, &r[k]));
		*direct_open_plan(r[1]) = NULL;
		seal_run(s, p, 32, prefix, 0);
		for (int k = 0; k < 2; k++) {
			/* The first 16, so that there are a key and a window; then all, and these are not new. */
			for (size_t n = 16; n <= 32; n += 16) {
				for (size_t i = 0; i < n; i++) {
					memcpy(copy[i], (uint8_t *)p[i].out - prefix, prefix + p[i].out_len);
					q[i] = packet(copy[i] + prefix, p[i].out_len, prefix, 0);
					if (n == 32) {
						q[i].dst = i % 2 ? to : copy[i] + prefix + eesp_sender_header_len(s);
						q[i].dst_size = sizeof to;
					}
				}
				uint64_t before = direct_cgo_packets();
				SAME(eesp_open_burst(r[k], q, n), n == 16 ? 16 : 0);
				for (size_t i = 0; n == 32 && i < n; i++)
					SAME(q[i].status, i < 16 ? EESP_ERR_REPLAY : EESP_ERR_ROOM);
				CHECK(n == 16 || k == 1 || !possible || direct_cgo_packets() == before);
			}
		}
		free_alike(r);
		eesp_sender_free(s);
		eesp_group_free(g);
	}
}

/* Opens a packet that was opened with the current key, which is the previous one now. */
static void open_again(eesp_receiver *r, const uint8_t *sealed_packet, eesp_pkt p, int replayed)
{
	static uint8_t copy[ROOM];
	p.data = memcpy(copy, sealed_packet, p.len);
	SAME(eesp_open_burst(r, &p, 1), !replayed);
	SAME(p.status, replayed ? EESP_ERR_REPLAY : EESP_OK);
}

/* With EESP_RECEIVER_TRY_PREVIOUS, packets without a Master Key Option open with the current key or the one before,
 * without a cgo call. Those of neither key are not authentic. */
static void previous_keys(void)
{
	static uint8_t room[32][ROOM], at[2][32][ROOM], to[2][32][PAD + ROOM + PAD], kept[ROOM];
	for (uint32_t kind = 0; kind < 3 * COUNT(all_v); kind++) {
		const uint8_t v = all_v[kind / 3];
		const int windows = kind % 3 == 1, timed = kind % 3 == 2;
		eesp_group_config gc = EESP_GROUP_CONFIG_INIT;
		eesp_sender_config c = explicit_config(v);
		eesp_receiver_config rc = EESP_RECEIVER_CONFIG_INIT;
		eesp_group *g;
		eesp_sender *s;
		eesp_receiver *r[2];
		eesp_pkt again = { .len = 0 };
		uint64_t by_cgo = 0;
		gc.aead = kind % 2;
		gc.flags = timed ? EESP_GROUP_TIME : 0;
		WORKS(eesp_group_new(&gc, &g));
		set_root_key(g, EESP_LEVEL_ZONE);
		if (timed) {
			c.counter_mode = EESP_COUNTER_CLOCK;
			c.epoch = 0;
		}
		WORKS(eesp_sender_new(g, &c, &s));
		rc.flags = EESP_RECEIVER_TRY_PREVIOUS | (timed ? EESP_RECEIVER_CLOCK_TRUSTED : 0);
		rc.replay_window = windows ? 64 : 0;
		rc.max_age_us = timed ? 10000000 : 0;
		rc.replay_mode = timed ? EESP_REPLAY_TIME : EESP_REPLAY_WINDOWS;
		for (int k = 0; k < 2; k++)
			WORKS(eesp_receiver_new(&g, 1, &rc, &r[k]));
		if (timed) /* the receivers may have accepted what is not so much older, before they were made */
			nanosleep(&(struct timespec){ 0, 60000000 }, NULL);
		for (int round = 0; round < 4; round++) {
			eesp_pkt p[32], q[2][32];
			eesp_usage used[3][2];
			for (size_t i = 0; i < 32; i++) {
				if (i == 16)
					WORKS(eesp_group_rotate(g, EESP_LEVEL_ZONE, 13 + (uint64_t)round, NULL));
				p[i] = packet(room[i] + 96, 40 + any(100), 96, EESP_ICV_LEN);
				payload(p[i].data, i, p[i].len);
				p[i].coffset = any(3) ? 0 : (uint8_t)any(9);
				p[i].ioffset = (uint8_t)any(p[i].coffset + 1u);
				SAME(eesp_seal_burst(s, &p[i], 1), 1);
			}
			*direct_open_plan(r[1]) = NULL;
			for (int k = 0; k < 2 && round > 0; k++)
				open_again(r[k], kept, again, windows || timed);
			for (size_t i = 0; i < 32; i++) {
				const uint32_t damage = any(6), elsewhere = any(2), where = any(p[i].len);
				const uint32_t other = any(8) == 0 && i > 0 ? (uint32_t)i - 1 : (uint32_t)i; /* again */
				for (int k = 0; k < 2; k++) {
					memcpy(at[k][i], p[other].out, p[other].out_len);
					if (damage == 0)
						at[k][i][p[other].out_len - 1 - where % p[other].len] ^= 1;
					q[k][i] = packet(at[k][i], p[other].out_len, 0, 0);
					q[k][i].addr = p[other].addr;
					memset(to[k][i], CANARY, sizeof to[k][i]);
					if (elsewhere) {
						q[k][i].dst = to[k][i] + PAD;
						q[k][i].dst_size = ROOM;
					}
				}
			}
			for (int k = 0; k < 3; k++) {
				WORKS(eesp_group_usage(g, EESP_LEVEL_ZONE, EESP_GENERATION_PREVIOUS, &used[k][0]));
				WORKS(eesp_group_usage(g, EESP_LEVEL_ZONE, EESP_GENERATION_CURRENT, &used[k][1]));
				if (k == 2)
					break;
				uint64_t before = direct_cgo_packets();
				size_t good = eesp_open_burst(r[k], q[k], 32);
				by_cgo += k == 0 ? direct_cgo_packets() - before : 0;
				CHECK(good > (windows || timed ? 8 : 16));
			}
			for (int k = 0; k < 2 && round > 0; k++) /* the current key has windows, too, now */
				open_again(r[k], kept, again, windows || timed);
			for (int i = 0; i < 2; i++)
				SAME(used[1][i].opened - used[0][i].opened, used[2][i].opened - used[1][i].opened);
			for (size_t i = 0; i < 32; i++) {
				same_outcome(&q[0][i], &q[1][i]);
				if (q[0][i].status != EESP_OK)
					continue;
				CHECK(memcmp(q[0][i].out, q[1][i].out, q[0][i].out_len) == 0);
				if (i <= 16)
					continue;
				const eesp_pkt *x = q[0][i].tsc == p[i].tsc ? &p[i] : &p[i - 1];
				again = packet(NULL, x->out_len, 0, 0);
				again.addr = x->addr;
				memcpy(kept, x->out, x->out_len);
			}
		}
		CHECK(!possible || by_cgo == 0);
		free_alike(r);
		eesp_sender_free(s);
		eesp_group_free(g);
	}
}

/* The number of an authentic packet is used though nothing is delivered: a dummy packet opens once, too. */
static void dummies_once(void)
{
	static uint8_t room[ROOM], copy[ROOM], secret[32] = { 77 };
	eesp_group_config c = EESP_GROUP_CONFIG_INIT;
	eesp_sender_config sc = EESP_SENDER_CONFIG_INIT;
	eesp_group *g;
	eesp_sender *s;
	eesp_receiver *r[2];
	c.profile = EESP_PROFILE_EESP;
	c.mode = EESP_SSKDF_HKDF_SHA2_256;
	c.domain = 0x3100;
	WORKS(eesp_group_new(&c, &g));
	WORKS(eesp_group_set_key(g, 0, secret, sizeof secret));
	sc.id = 5;
	sc.counter_mode = EESP_COUNTER_EXPLICIT;
	WORKS(eesp_sender_new(g, &sc, &s));
	for (int k = 0; k < 2; k++)
		r[k] = new_replay_receiver(g, 64, 4);
	*direct_open_plan(r[1]) = NULL;
	for (int round = 0; round < 40; round++) {
		eesp_pkt p = packet(room + EESP_MAX_HEADER, 60, EESP_MAX_HEADER, EESP_ICV_LEN + EESP_MAX_PADDING);
		p.next_header = round % 4 == 0 ? 17 : 59;
		payload(p.data, (size_t)round, 60);
		SAME(eesp_seal_burst(s, &p, 1), 1);
		for (int again = 0; again < 3; again++)
			for (int k = 0; k < 2; k++) {
				eesp_pkt q = packet(memcpy(copy, p.out, p.out_len), p.out_len, 0, 0);
				eesp_open_burst(r[k], &q, 1);
				SAME(q.status, again ? EESP_ERR_REPLAY : round % 4 == 0 ? EESP_OK : EESP_ERR_DUMMY);
			}
	}
	free_alike(r);
	eesp_sender_free(s);
	eesp_group_free(g);
}

/* Own IDs that differ in few bits have places of their own: forged packets find none of them after a long search. */
static void own_ids_apart(void)
{
	enum { MANY = 2000 };
	static uint64_t own[MANY];
	static uint8_t room[ROOM];
	eesp_group *g = new_group(0, EESP_LEVELS_ZONE);
	eesp_sender *s = new_sender(g, EESP_V_LONG_ID, EESP_SENDER_OPTIONS);
	for (unsigned shift = 0; shift <= 53; shift++) {
		eesp_receiver_config c = EESP_RECEIVER_CONFIG_INIT;
		eesp_receiver *r;
		for (uint64_t i = 0; i < MANY; i++)
			own[i] = (i + 1) << shift ^ 5;
		c.own_ids = own;
		c.own_id_count = MANY;
		WORKS(eesp_receiver_new(&g, 1, &c, &r));
		const struct eesp_open_plan *w = *direct_open_plan(r);
		size_t run = 0;
		for (size_t i = 0; possible && i <= 2 * w->own_mask; i++) {
			run = w->own_ids[i & w->own_mask] != w->own_free ? run + 1 : 0;
			CHECK(run < 100);
		}
		for (int k = 0; k < 2; k++) {
			eesp_pkt p = packet(room + EESP_MAX_HEADER, 60, EESP_MAX_HEADER, EESP_ICV_LEN);
			SAME(eesp_seal_burst(s, &p, 1), 1);
			const uint64_t id = k ? own[any(MANY)] : (uint64_t)(MANY + 1 + any(40)) << shift ^ 5;
			for (int i = 0; i < 8; i++)
				((uint8_t *)p.out)[4 + i] = (uint8_t)(id >> (56 - 8 * i));
			p = packet(p.out, p.out_len, 0, 0);
			SAME(eesp_open_burst(r, &p, 1), 0);
			SAME(p.status, k ? EESP_ERR_REFLECTED : EESP_ERR_AUTH);
		}
		eesp_receiver_free(r);
	}
	eesp_sender_free(s);
	eesp_group_free(g);
}

/* Whatever keys groups have in common, forged packets find few patterns to compare, and those of unknown keys do not
 * wake Go. */
static void keys_in_common(void)
{
	enum { MANY = 64 };
	static uint8_t room[32][ROOM], to[ROOM];
	static eesp_group *g[MANY];
	eesp_sender_config c = explicit_config(EESP_V_LONG_ID);
	eesp_sender *s;
	eesp_receiver *r;
	eesp_pkt p[32];
	for (size_t i = 0; i < MANY; i++) {
		g[i] = new_group(0, EESP_LEVELS_ZONE);
		for (int level = EESP_LEVEL_USER; level <= EESP_LEVEL_TASK; level++) {
			const uint64_t index[3] = { 10, 11, 12 };
			uint8_t id[ROOT_ID_LEN], value[3][EESP_ROOT_KEY_LEN];
			memcpy(id, root_id, sizeof id);
			id[20] = (uint8_t)i;
			for (int x = 0; x < 3; x++)
				root_value(value[x], level, x);
			WORKS(eesp_group_set_root_key(g[i], level, id, sizeof id, index, RING(value)));
		}
	}
	c.flags = EESP_SENDER_OPTIONS;
	WORKS(eesp_sender_new(g[MANY - 1], &c, &s));
	WORKS(eesp_receiver_new(g, MANY, NULL, &r));
	const struct eesp_open_plan *w = *direct_open_plan(r);
	for (size_t k = 0; possible && k < (size_t)1 << (64 - w->bucket_shift); k++) {
		size_t n = 0;
		for (uint32_t at = w->bucket[k]; at != 0; n++)
			at = ((const struct eesp_pattern *)((const uint8_t *)w->patterns + at))->next;
		CHECK(n <= 8);
	}
	const uint64_t before = direct_cgo_packets();
	for (uint32_t round = 0; round < 200; round++) {
		for (size_t i = 0; i < 32; i++) {
			p[i] = packet(room[i] + EESP_MAX_HEADER, 60, EESP_MAX_HEADER, EESP_ICV_LEN);
			payload(p[i].data, i, 60);
		}
		SAME(eesp_seal_burst(s, p, 32), 32);
		for (size_t i = 0; i < 32; i++) {
			p[i] = packet(p[i].out, p[i].out_len, 0, 0);
			p[i].dst = to;
			p[i].dst_size = sizeof to;
			if (round % 4 != 3) /* an octet of one of the root key IDs */
				((uint8_t *)p[i].data)[16 + 36 * (round % 4) + any(32)] ^= (uint8_t)(1 + any(255));
		}
		for (size_t i = 0; i < 32; i++) {
			const int good = round % 4 == 3;
			SAME(eesp_open_burst(r, &p[i], 1), good);
			CHECK(p[i].status == (good ? EESP_OK : EESP_ERR_NO_KEY) ||
			      (!good && p[i].status == EESP_ERR_AUTH)); /* another group's */
		}
	}
	CHECK(!possible || direct_cgo_packets() == before);
	eesp_receiver_free(r);
	eesp_sender_free(s);
	for (size_t i = 0; i < MANY; i++)
		eesp_group_free(g[i]);
}

/* Where a group follows an agent, Go sees packets with unknown keys, to ask for newer ones: forged ones wake it once a
 * millisecond at most. */
static void few_ask(void)
{
	static uint8_t copy[ROOM];
	eesp_group *g = new_group(0, EESP_LEVELS_ZONE), *other = another_group(0);
	eesp_sender_config c = explicit_config(EESP_V_ID);
	eesp_receiver_config rc = EESP_RECEIVER_CONFIG_INIT;
	eesp_sender *s;
	eesp_receiver *r;
	eesp_pkt p, q[32];
	struct timespec from, to;
	uint64_t before = direct_cgo_packets();
	const int rounds = emulated() ? 20 : 2000;
	c.flags = EESP_SENDER_OPTIONS;
	WORKS(eesp_sender_new(other, &c, &s));
	WORKS(eesp_receiver_new(&g, 1, &rc, &r));
	if (possible)
		((struct eesp_open_plan *)*direct_open_plan(r))->ahead = 1;
	seal_run(s, &p, 1, 0, 0);
	before = direct_cgo_packets();
	clock_gettime(CLOCK_MONOTONIC, &from);
	for (int round = 0; round < rounds; round++) {
		for (size_t i = 0; i < 32; i++)
			q[i] = packet(memcpy(copy, p.out, p.out_len), p.out_len, 0, 0);
		SAME(eesp_open_burst(r, q, 32), 0);
		for (size_t i = 0; i < 32; i++)
			SAME(q[i].status, EESP_ERR_NO_KEY);
	}
	clock_gettime(CLOCK_MONOTONIC, &to);
	uint64_t most = 2 + (uint64_t)(to.tv_sec - from.tv_sec) * 1000 + (uint64_t)(to.tv_nsec / 1000000) -
			(uint64_t)(from.tv_nsec / 1000000);
	uint64_t asked = direct_cgo_packets() - before;
	CHECK(!possible || (asked > 0 && asked <= most && asked < (uint64_t)rounds));
	eesp_receiver_free(r);
	eesp_sender_free(s);
	eesp_group_free(g);
	eesp_group_free(other);
}

/* tss: packets of each form, genuine ones, of the wrong direction, cut, of another address or association
 * number, have the same outcome in C and Go, and none goes to Go. */
static void tss_in_any_form(void)
{
	static uint8_t at[32][ROOM], room[2][32][ROOM], to[2][32][PAD + ROOM + PAD];
	static const uint8_t vs[] = { EESP_V_TSS_ADDR, EESP_V_TSS_SSI, EESP_V_TSS_ADDR_IPV6, EESP_V_TSS_SSI_IPV6 };
	static const struct {
		eesp_group_config g;
		uint8_t held, own;
		uint32_t replay;
	} kinds[] = {
		{ .g = { .mode = EESP_TSS_CLUSTER }, .own = 1, .replay = 64 },
		{ .g = { .mode = EESP_TSS_CLUSTER, .crypt_offset = 40 }, .replay = 64 },
		{ .g = { .mode = EESP_TSS_CLUSTER, .crypt_offset = 16, .rekey_mask = 0xff0, .rekey_shift = 4 },
		  .own = 1 },
		{ .g = { .mode = EESP_TSS_CLUSTER, .auth_failure_limit = 1000000 }, .replay = 64 },
		{ .g = { .mode = EESP_TSS_SERVER }, .replay = 64 },
		{ .g = { .mode = EESP_TSS_SERVER, .crypt_offset = 24 } },
		{ .g = { .mode = EESP_TSS_SERVER, .flags = EESP_GROUP_NO_DIRECTION_BIT }, .replay = 64 },
		{ .g = { .mode = EESP_TSS_DIRECT }, .replay = 64, .own = 1 },
		{ .g = { .mode = EESP_TSS_DIRECT, .crypt_offset = 64 } },
		{ .g = { .mode = EESP_TSS_CLUSTER }, .held = 1, .replay = 64 },
		{ .g = { .mode = EESP_TSS_CLUSTER, .crypt_offset = 20 }, .held = 1 },
		{ .g = { .mode = EESP_TSS_SERVER }, .held = 1, .replay = 64 },
		{ .g = { .mode = EESP_TSS_SERVER, .crypt_offset = 32 }, .held = 1, .replay = 64 },
	};
	static const uint8_t mapped[16] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 3, 3, 3, 3 };
	static uint32_t id = 0x7000;
	static uint64_t start = 1000000;
	uint64_t all = 0, by_cgo = 0, opened = 0, by[EESP_STATUS_COUNT] = { 0 };
	for (size_t kind = 0; kind < COUNT(kinds); kind++)
		for (size_t k = 0; k < COUNT(vs); k++) {
			const int six = vs[k] == EESP_V_TSS_ADDR_IPV6 || vs[k] == EESP_V_TSS_SSI_IPV6;
			const int ssi = vs[k] == EESP_V_TSS_SSI || vs[k] == EESP_V_TSS_SSI_IPV6;
			const int server = kinds[kind].g.mode == EESP_TSS_SERVER, held = kinds[kind].held;
			const uint32_t prefix = six ? EESP_TSS_LEAD_IPV6 : EESP_TSS_LEAD_IPV4;
			eesp_group_config c = EESP_GROUP_CONFIG_INIT, from = kinds[kind].g;
			eesp_sender_config sc = EESP_SENDER_CONFIG_INIT;
			eesp_receiver_config rc = EESP_RECEIVER_CONFIG_INIT;
			uint8_t secret[32] = { 80, (uint8_t)kind, (uint8_t)k };
			uint64_t own[] = { 5, 0 };
			eesp_group *g[2];
			eesp_sender *s;
			eesp_receiver *r[2];
			eesp_data_key key;
			eesp_context x = { .id = ssi ? ++id : 0, .v = vs[k] };
			if (vs[k] == EESP_V_TSS_ADDR_IPV6 && from.mode == EESP_TSS_DIRECT)
				continue; /* nobody can send those */
			from.struct_size = c.struct_size;
			from.profile = EESP_PROFILE_TSS;
			from.aead = EESP_AEAD_AES_256_GCM;
			for (uint32_t i = 0; i < 2; i++) {
				from.domain = 0x4000 + (uint32_t)(8 * kind + 2 * k) + i;
				secret[3] = (uint8_t)i;
				WORKS(eesp_group_new(&from, &g[i]));
				WORKS(eesp_group_set_key(g[i], 0, secret, 32));
				WORKS(eesp_group_set_epoch(g[i], 20));
			}
			sc.id = x.id;
			sc.v = vs[k];
			sc.counter_mode = EESP_COUNTER_EXPLICIT;
			sc.start_counter = start += 1000000; /* all senders without SSI share their counters */
			x.epoch = 20;
			memset(x.addr.src, 3, 16);
			if (vs[k] == EESP_V_TSS_ADDR)
				memcpy(x.addr.src, mapped, 16);
			if (vs[k] == EESP_V_TSS_SSI)
				memset(&x.addr, 0, sizeof x.addr);
			/* A server's receiver gets what clients send, and a client's what the server sends. */
			if (held || (server && !from.flags))
				WORKS(eesp_data_key_export(g[0], &x, 0, &key));
			if (held == server || from.flags) {
				WORKS(eesp_sender_new(g[0], &sc, &s));
			} else {
				sc.id = sc.v = 0;
				WORKS(eesp_sender_new_with_key(&key, &sc, &s));
			}
			rc.replay_window = kinds[kind].replay;
			if (kinds[kind].own) {
				rc.own_ids = own;
				rc.own_id_count = 2;
			}
			for (int i = 0; i < 2; i++)
				if (held)
					WORKS(eesp_receiver_new_with_key(&key, &rc, &r[i]));
				else
					WORKS(eesp_receiver_new(g, 2, &rc, &r[i]));
			*direct_open_plan(r[1]) = NULL;
			for (int round = 0; round < (emulated() ? 2 : 30); round++) {
				eesp_pkt p[32], q[2][32];
				eesp_domain_stats counts[3][MOST];
				const uint32_t header = eesp_sender_header_len(s);
				enum { front = EESP_TSS_LEAD_IPV6 + EESP_MAX_HEADER };
				for (size_t i = 0; i < 32; i++) {
					uint8_t *data = at[i] + front;
					p[i] = packet(data, 60 + any(100), front, EESP_ICV_LEN);
					p[i].flags = six ? EESP_PKT_IPV6 : 0;
					memset(data - header - prefix, 3, prefix);
					payload(data, i, p[i].len);
				}
				SAME(eesp_seal_burst(s, p, 32), 32);
				for (size_t i = 0; i < 32; i++) {
					const uint32_t size = p[i].len, where = any(2), damage = any(20);
					const uint32_t bit = 1u << any(8), place = any(header - 5);
					const uint32_t less = any(p[i].out_len), before = any(prefix);
					memset(to[0][i], CANARY, sizeof to[0][i]);
					memset(to[1][i], CANARY, sizeof to[1][i]);
					for (int n = 0; n < 2; n++) {
						uint8_t *h = room[n][i] + EESP_TSS_LEAD_IPV6;
						uint32_t len = p[i].out_len;
						memcpy(h - prefix, (uint8_t *)p[i].out - prefix, prefix + len);
						switch (damage) {
						case 0: h[header - 6] ^= 0x80; break; /* the other direction */
						case 1: len = 28 + less % 4; break;
						case 2: len = less; break;
						case 3: h[place] ^= bit; break; /* no other packet's counter */
						case 4: h[-(int)prefix + (int)before] ^= bit; break;
						case 5: h[0] ^= 1; break; /* association number */
						case 6: h[0] ^= 4; break; /* SSI */
						case 7: h[header - 7] = (uint8_t)(place + 1); break; /* epoch */
						case 8: h[3] ^= 1; break; /* the other group's domain */
						case 9: memset(h + 4, 0, 3); h[7] = 5; break; /* an own ID */
						case 10: len = header + EESP_ICV_LEN + 4 * (less % 20); break;
						}
						q[n][i] = packet(h, len, prefix, 0);
						q[n][i].flags = p[i].flags;
						if (damage == 11 && prefix == EESP_TSS_LEAD_IPV6)
							q[n][i].flags = 0; /* over IPv4: other addresses */
						q[n][i].coffset = q[n][i].ioffset = q[n][i].next_header = 9;
						if (where == 0) {
							q[n][i].dst = to[n][i] + PAD;
							q[n][i].dst_size = size;
						}
					}
				}
				for (size_t n = 0; n < 2; n++)
					WORKS(eesp_group_domain_stats(g[n], &counts[0][n]));
				uint64_t before = direct_cgo_packets();
				size_t done = eesp_open_burst(r[0], q[0], 32);
				by_cgo += direct_cgo_packets() - before;
				for (size_t n = 0; n < 2; n++)
					WORKS(eesp_group_domain_stats(g[n], &counts[1][n]));
				SAME(done, eesp_open_burst(r[1], q[1], 32));
				for (size_t n = 0; n < 2; n++)
					WORKS(eesp_group_domain_stats(g[n], &counts[2][n]));
				for (size_t i = 0; i < 32; i++) {
					const eesp_pkt *a = &q[0][i], *b = &q[1][i];
					same_outcome(a, b);
					by[-b->status]++;
					if (a->status == EESP_OK)
						CHECK(memcmp(a->out, b->out, a->out_len) == 0);
					for (int n = 0; n < 2; n++)
						CHECK(all_are(to[n][i], PAD, CANARY) &&
						      all_are(to[n][i] + PAD + q[n][i].dst_size, PAD, CANARY));
				}
				for (size_t n = 0; n < 2; n++)
					for (size_t i = 0; i < sizeof counts[0][0] / 8; i++) {
						const uint64_t *a = (const uint64_t *)&counts[0][n];
						const uint64_t *b = (const uint64_t *)&counts[1][n];
						const uint64_t *d = (const uint64_t *)&counts[2][n];
						SAME(b[i] - a[i], d[i] - b[i]);
					}
				opened += done;
				all += 32;
			}
			free_alike(r);
			eesp_sender_free(s);
			eesp_group_free(g[0]);
			eesp_group_free(g[1]);
		}
	printf("     of %llu packets of tss %llu opened, %llu were Go's\n", (unsigned long long)all,
	       (unsigned long long)opened, (unsigned long long)by_cgo);
	CHECK(opened > all / 3 && (!possible || by_cgo == 0));
	CHECK(by[-EESP_ERR_REFLECTED] && by[-EESP_ERR_SHORT] && by[-EESP_ERR_OFFSET] && by[-EESP_ERR_EPOCH]);
	CHECK(by[-EESP_ERR_CONTEXT] && by[-EESP_ERR_NO_KEY] && by[-EESP_ERR_UNSUPPORTED] && by[-EESP_ERR_AUTH]);
}

/* After too many failures a domain drops all packets, without a cgo call, until its latch is reset. */
static void tss_latches(void)
{
	static uint8_t secret[32] = { 81 }, copy[32][ROOM];
	enum { LIMIT = 20 };
	eesp_group_config c = EESP_GROUP_CONFIG_INIT;
	eesp_sender_config sc = EESP_SENDER_CONFIG_INIT;
	eesp_receiver_config rc = EESP_RECEIVER_CONFIG_INIT;
	eesp_group *g;
	eesp_sender *s;
	eesp_receiver *r;
	eesp_pkt p[32], q[32];
	c.profile = EESP_PROFILE_TSS;
	c.aead = EESP_AEAD_AES_256_GCM;
	c.domain = 0x5000;
	c.auth_failure_limit = LIMIT;
	WORKS(eesp_group_new(&c, &g));
	WORKS(eesp_group_set_key(g, 0, secret, 32));
	WORKS(eesp_group_set_epoch(g, 21)); /* senders without SSI have had the counters before */
	sc.id = 0x8000;
	sc.v = EESP_V_TSS_SSI;
	sc.counter_mode = EESP_COUNTER_EXPLICIT;
	WORKS(eesp_sender_new(g, &sc, &s));
	WORKS(eesp_receiver_new(&g, 1, &rc, &r));
	uint64_t before = direct_cgo_packets();
	for (int step = 0; step < 5; step++) { /* good, failing, latched, reset, good */
		seal_run(s, p, 32, EESP_TSS_LEAD_IPV4, 0);
		if (step == 3)
			WORKS(eesp_group_reset_latch(g));
		before = direct_cgo_packets();
		for (size_t i = 0; i < 32; i++) {
			memcpy(copy[i], (uint8_t *)p[i].out - EESP_TSS_LEAD_IPV4, EESP_TSS_LEAD_IPV4 + p[i].out_len);
			q[i] = packet(copy[i] + EESP_TSS_LEAD_IPV4, p[i].out_len, EESP_TSS_LEAD_IPV4, 0);
			if (step == 1)
				copy[i][EESP_TSS_LEAD_IPV4 + 20] ^= i < LIMIT;
		}
		SAME(eesp_open_burst(r, q, 32), step == 1 ? 32 - LIMIT : step == 2 ? 0 : 32);
		for (size_t i = 0; i < 32; i++)
			SAME(q[i].status, step == 2		     ? EESP_ERR_LATCHED
					  : step == 1 && i < LIMIT ? EESP_ERR_AUTH
								   : EESP_OK);
		CHECK(!possible || direct_cgo_packets() == before);
	}
	eesp_receiver_free(r);
	eesp_sender_free(s);
	eesp_group_free(g);
}

/* Each packet is as the specification says, and counters follow one another. */
static void to_the_letter(void)
{
	for (uint32_t aead = 0; aead < 2; aead++)
		for (size_t v = 0; v < COUNT(all_v); v++) {
			eesp_group *g = new_group(aead, EESP_LEVELS_ZONE);
			eesp_sender_config c = explicit_config(all_v[v]);
			eesp_sender *s;
			uint64_t next = 0;
			c.flags = v & 1 ? EESP_SENDER_OPTIONS : 0;
			WORKS(eesp_sender_new(g, &c, &s));
			for (size_t n = 1; n < 12; n++) {
				uint64_t before = direct_cgo_packets();
				struct burst b;
				memset(&b, 0, sizeof b);
				b.n = n;
				for (size_t i = 0; i < n; i++) {
					b.len[i] = 60 + (uint32_t)i;
					b.source[i] = (uint32_t)i;
				}
				uint32_t header = eesp_sender_header_len(s);
				to_seal(&side[0], &b, header);
				SAME(eesp_seal_burst(s, side[0].p, n), n);
				if (possible)
					SAME(direct_cgo_packets(), before);
				for (size_t i = 0; i < n; i++) {
					SAME(side[0].p[i].tsc, (UINT64_C(3) << 48) + next++);
					SAME(side[0].p[i].id, c.id);
					as_specified(g, aead, &c, &side[0].p[i], header, i, b.len[i]);
				}
			}
			eesp_stats stats;
			WORKS(eesp_sender_stats(s, &stats));
			SAME(stats.packets[0], next);
			eesp_sender_free(s);
			eesp_group_free(g);
		}
}

/* Jobs in any order, more than a kernel takes at a time. Each is sealed with its own key. Opening
 * refuses exactly the forged ones. */
static void jobs_in_any_order(void)
{
	enum { JOBS = 70 };
	static uint8_t text[JOBS][LONGEST + EESP_ICV_LEN], back[JOBS][LONGEST], aad[JOBS][40], keys[JOBS * 32],
		contexts[JOBS][EESP_KDF_CONTEXT_LEN];
	static const uint8_t secret[32] = { 1, 2, 3 };
	eesp_kdf *kdf;
	WORKS(eesp_kdf_new(secret, &kdf));
	for (int round = 0; round < (emulated() ? 4 : 40); round++) {
		const uint32_t aead = (uint32_t)round & 1, named = (uint32_t)round >> 1 & 1;
		const size_t n = 1 + any(JOBS), key_len = aead ? 32 : 16;
		eesp_keyset *all;
		eesp_job j[JOBS];
		uint8_t bad[JOBS];
		size_t good = 0;
		memset(j, 0, sizeof j);
		for (size_t i = 0; i < n; i++) {
			contexts[i][1 + i % 15] = (uint8_t)(i + 1);
			j[i].len = any(4) ? any(3) * 530 + any(40) : any(LONGEST);
			j[i].aad = aad[i];
			j[i].aad_len = any(sizeof aad[i] + 1);
			j[i].src = j[i].dst = text[i];
			j[i].tag = text[i] + j[i].len;
			j[i].nonce[5] = (uint8_t)i;
			fill(aad[i], i, sizeof aad[i]);
			fill(text[i], i, j[i].len);
			bad[i] = any(8) == 0;
			good += !bad[i];
		}
		WORKS(eesp_kdf_derive(kdf, aead, contexts[0], n, keys, n * key_len));
		WORKS(eesp_keyset_new(aead, keys, n, &all));
		for (size_t i = 0; i < n; i++)
			j[i].key = named ? (uint32_t)(n - 1 - i) : 0;
		SAME(named ? eesp_keyset_seal(all, j, n) : eesp_kdf_seal(kdf, aead, contexts[0], j, n), n);
		for (size_t i = 0; i < n; i++) { /* each alone, with a set of one key */
			eesp_keyset *one;
			eesp_job x = j[i];
			x.dst = back[i];
			x.key = 0;
			WORKS(eesp_keyset_new(aead, keys + (named ? j[i].key : i) * key_len, 1, &one));
			SAME(eesp_keyset_open(one, &x, 1), 1);
			CHECK(filled(back[i], i, x.len));
			eesp_keyset_free(one);
			if (bad[i])
				text[i][j[i].len + i % EESP_ICV_LEN] ^= 4;
		}
		SAME(named ? eesp_keyset_open(all, j, n) : eesp_kdf_open(kdf, aead, contexts[0], j, n), good);
		for (size_t i = 0; i < n; i++) {
			SAME(j[i].ok, !bad[i]);
			CHECK(bad[i] ? all_are(text[i], j[i].len, 0) : filled(text[i], i, j[i].len));
		}
		eesp_keyset_free(all);
	}
	eesp_kdf_free(kdf);
}

/* A burst that begins in one epoch and ends in the next has two keys. */
static void epochs_meet(void)
{
	for (size_t v = 0; v < COUNT(all_v); v++)
		for (uint8_t bits = 0; bits < 9; bits += 4) {
			eesp_group *g = new_group(0, 1);
			eesp_sender_config c = explicit_config(all_v[v]);
			eesp_receiver *r = new_receiver(g);
			eesp_sender *s;
			eesp_pkt p[6], q[6];
			c.counter_mode = EESP_COUNTER_CLOCK; /* epochs follow the clock */
			c.epoch = 0;
			c.engine_bits = bits;
			c.engine = bits ? 11 : 0;
			WORKS(eesp_sender_new(g, &c, &s));
			for (int round = 0; round < 4; round++) {
				uint64_t before = direct_cgo_packets();
				const struct eesp_seal_plan *w = *direct_seal_plan(s);
				for (size_t i = 0; i < COUNT(p); i++) {
					p[i] = packet(side[0].room[i] + EESP_MAX_HEADER, 64, EESP_MAX_HEADER,
						      EESP_ICV_LEN);
					fill(p[i].data, i, 64);
				}
				if (possible && round == 2) { /* the epoch has three counters left */
					uint32_t shift = w->counter.shift;
					*w->limit = (*w->next >> shift << shift) + (UINT64_C(1) << shift) + 1000;
					*w->next = *w->limit - 1000 - 3;
				}
				SAME(eesp_seal_burst(s, p, COUNT(p)), COUNT(p));
				SAME(direct_cgo_packets() - before, possible && round != 2 ? 0 : COUNT(p));
				if (possible && round == 2)
					SAME((p[5].tsc >> 48) - (p[0].tsc >> 48), 1);
				for (size_t i = 0; i < COUNT(p); i++) {
					as_specified(g, 0, &c, &p[i], eesp_sender_header_len(s), i, 64);
					SAME(p[i].tsc & ((1u << bits) - 1), c.engine);
					q[i] = sealed(&p[i]);
				}
				SAME(eesp_open_burst(r, q, COUNT(q)), COUNT(q));
			}
			eesp_sender_free(s);
			eesp_receiver_free(r);
			eesp_group_free(g);
		}
}

/* Seals a burst of one packet. */
static int seal_one_from(eesp_sender *s, uint8_t room[ROOM], eesp_pkt *p, const eesp_addr *from)
{
	*p = packet(room + EESP_MAX_HEADER, 64, EESP_MAX_HEADER, EESP_ICV_LEN);
	p->addr = *from;
	fill(p->data, 3, 64);
	return eesp_seal_burst(s, p, 1) == 1;
}

static int seal_one(eesp_sender *s, uint8_t room[ROOM], eesp_pkt *p)
{
	static const eesp_addr nobody;
	return seal_one_from(s, room, p, &nobody);
}

/* When counters run out, each was given out exactly once. */
static void runs_out(void)
{
	eesp_group *g = new_group(0, 1);
	eesp_sender_config c = explicit_config(EESP_V_ID_SRC);
	eesp_sender *s;
	uint64_t last = 0;
	size_t good = 0;
	c.start_counter = (UINT64_C(1) << 48) - 100;
	WORKS(eesp_sender_new(g, &c, &s));
	for (size_t i = 0; i < 60; i++) {
		eesp_pkt p[3];
		for (size_t k = 0; k < 3; k++)
			p[k] = packet(side[0].room[k] + EESP_MAX_HEADER, 64, EESP_MAX_HEADER, EESP_ICV_LEN);
		good += eesp_seal_burst(s, p, 3);
		for (size_t k = 0; k < 3; k++) {
			if (p[k].status != EESP_OK) {
				SAME(p[k].status, EESP_ERR_EXHAUSTED);
				continue;
			}
			CHECK(p[k].tsc > last);
			last = p[k].tsc;
		}
	}
	SAME(good, 100);
	SAME(last, (UINT64_C(4) << 48) - 1);
	eesp_sender_free(s);
	eesp_group_free(g);
}

/* Keys that are not in force any more are not used, even if the burst before used them. */
static void keys_change(void)
{
	eesp_group *g = new_group(1, 1);
	eesp_sender_config c = explicit_config(EESP_V_ID);
	eesp_sender *s;
	eesp_receiver *r = new_receiver(g);
	uint8_t room[ROOM], old[ROOM];
	eesp_pkt p, q;
	c.flags = EESP_SENDER_OPTIONS;
	WORKS(eesp_sender_new(g, &c, &s));
	CHECK(seal_one(s, room, &p) && seal_one(s, room, &p));
	memcpy(old, p.out, p.out_len);
	q = sealed(&p);
	SAME(eesp_open_burst(r, &q, 1), 1);
	for (uint64_t i = 0; i < 4; i++) {
		WORKS(eesp_group_rotate(g, EESP_LEVEL_ZONE, 13 + i, NULL));
		for (int k = 0; k < 2; k++) {
			CHECK(seal_one(s, room, &p));
			as_specified(g, 1, &c, &p, eesp_sender_header_len(s), 3, 64); /* sealed with the key in force */
			q = sealed(&p);
			SAME(eesp_open_burst(r, &q, 1), 1);
			CHECK(filled(q.out, 3, 64));
		}
	}
	/* The packet of four rotations ago. */
	q = packet(old, p.out_len, 0, 0);
	SAME(eesp_open_burst(r, &q, 1), 0);
	SAME(q.status, EESP_ERR_NO_KEY);
	CHECK(seal_one(s, room, &p) && seal_one(s, room, &p));
	WORKS(eesp_group_remove_root_key(g, EESP_LEVEL_ZONE));
	CHECK(!seal_one(s, old, &q));
	SAME(q.status, EESP_ERR_NO_KEY);
	q = sealed(&p);
	SAME(eesp_open_burst(r, &q, 1), 0);
	SAME(q.status, EESP_ERR_NO_KEY);
	eesp_sender_free(s);
	eesp_receiver_free(r);
	eesp_group_free(g);
}

/* Many senders in turn: each packet has its sender's ID and key. */
static void objects_in_turn(void)
{
	enum { OBJECTS = 7 };
	eesp_group *g[OBJECTS];
	eesp_sender_config c[OBJECTS];
	eesp_sender *s[OBJECTS];
	eesp_receiver *r[OBJECTS];
	uint64_t next[OBJECTS] = { 0 }, before = direct_cgo_packets();
	uint8_t room[ROOM];
	eesp_pkt p, q;
	for (int i = 0; i < OBJECTS; i++) {
		g[i] = new_group((uint32_t)i & 1, 1 + (unsigned)i);
		c[i] = explicit_config(all_v[i % 6]);
		WORKS(eesp_sender_new(g[i], &c[i], &s[i]));
		r[i] = new_receiver(g[i]);
	}
	for (int round = 0; round < 500; round++) {
		uint32_t i = any(round < 250 ? OBJECTS : 2);
		/* The first two octets are in the first block of the KDF input, which the thread's memo has. */
		eesp_addr from = { .src = { 0xfd, any(4) == 0 } };
		for (int k = 2; k < 16; k++)
			from.src[k] = from.dst[k] = (uint8_t)any(256);
		CHECK(seal_one_from(s[i], room, &p, &from));
		SAME(p.tsc, (UINT64_C(3) << 48) + next[i]++);
		as_specified(g[i], i & 1, &c[i], &p, eesp_sender_header_len(s[i]), 3, 64);
		q = sealed(&p);
		SAME(eesp_open_burst(r[i], &q, 1), 1);
		CHECK(filled(q.out, 3, 64));
		if (any(50) == 0)
			WORKS(eesp_group_rotate(g[i], __builtin_ctz(1 + i), 13 + (uint64_t)round, NULL));
	}
	CHECK(!possible || direct_cgo_packets() == before);
	for (int i = 0; i < OBJECTS; i++) {
		eesp_sender_free(s[i]);
		eesp_receiver_free(r[i]);
		eesp_group_free(g[i]);
	}
}

/* What a thread remembers of a receiver with many keys it does not look for in one with few. */
static void many_then_few(void)
{
	enum { GROUPS = 16 };
	eesp_group *g[GROUPS];
	eesp_sender *s[2];
	eesp_receiver *r[2];
	uint8_t room[ROOM];
	eesp_pkt p, q;
	for (int i = 0; i < GROUPS; i++) {
		const uint8_t id[16] = { (uint8_t)(1 + i) };
		g[i] = new_group(0, 0);
		WORKS(eesp_group_generate_root_key(g[i], EESP_LEVEL_ZONE, id, sizeof id));
	}
	for (int i = 0; i < 2; i++) {
		eesp_sender_config c = explicit_config(EESP_V_ID_SRC);
		c.flags = EESP_SENDER_OPTIONS; /* so that packets name their key */
		WORKS(eesp_sender_new(g[i == 0 ? GROUPS - 1 : 0], &c, &s[i]));
	}
	r[0] = new_careful_receiver(g, GROUPS, 0);
	r[1] = new_receiver(g[0]);
	uint64_t before = direct_cgo_packets();
	for (int i = 0; i < 20; i++) {
		eesp_addr from = { .src = { 0xfd, (uint8_t)i } };
		CHECK(seal_one_from(s[i % 2], room, &p, &from));
		q = sealed(&p);
		SAME(eesp_open_burst(r[i % 2], &q, 1), 1);
		CHECK(filled(q.out, 3, 64));
	}
	CHECK(!possible || direct_cgo_packets() == before);
	for (int i = 0; i < 2; i++) {
		eesp_sender_free(s[i]);
		eesp_receiver_free(r[i]);
	}
	for (int i = 0; i < GROUPS; i++)
		eesp_group_free(g[i]);
}

/* New objects do not use state of freed ones. */
static void objects_change(void)
{
	eesp_group *g = new_group(0, 1);
	uint8_t room[ROOM];
	eesp_pkt p, q;
	for (int i = 0; i < 50; i++) {
		eesp_sender_config c = explicit_config(i & 1 ? EESP_V_ID : EESP_V_LONG_ID_SRC);
		eesp_receiver_config own = EESP_RECEIVER_CONFIG_INIT;
		eesp_sender *s;
		eesp_receiver *r;
		own.own_ids = &c.id;
		own.own_id_count = 1;
		WORKS(eesp_sender_new(g, &c, &s));
		for (int k = 0; k < 3; k++) {
			CHECK(seal_one(s, room, &p));
			SAME(p.id, c.id);
			SAME(p.tsc, (UINT64_C(3) << 48) + (uint64_t)k);
			r = new_receiver(g);
			q = sealed(&p);
			SAME(eesp_open_burst(r, &q, 1), 1);
			eesp_receiver_free(r);
			CHECK(seal_one(s, room, &p));
			q = sealed(&p);
			WORKS(eesp_receiver_new(&g, 1, &own, &r));
			SAME(eesp_open_burst(r, &q, 1), 0);
			SAME(q.status, EESP_ERR_REFLECTED);
			eesp_receiver_free(r);
			eesp_sender_free(s);
			c = explicit_config(c.v);
			WORKS(eesp_sender_new(g, &c, &s));
			for (int j = 0; j <= k; j++)
				CHECK(seal_one(s, room, &p));
		}
		eesp_sender_free(s);
	}
	eesp_group_free(g);
}

/* When destructors of other thread-specific data run, the thread's worker is gone: then the
 * library must not use its memory. */
static eesp_sender *dying;
static pthread_key_t key;

static void seal_dying(void *again)
{
	uint8_t room[ROOM];
	eesp_pkt p;
	for (int i = 0; i < 3; i++)
		CHECK(seal_one(dying, room, &p));
	if (again == (void *)1)
		CHECK(pthread_setspecific(key, (void *)2) == 0);
}

static void *dies(void *nothing)
{
	(void)nothing;
	CHECK(pthread_setspecific(key, (void *)1) == 0);
	seal_dying(NULL);
	return NULL;
}

static void threads_end(void)
{
	eesp_group *g = new_group(0, 1);
	dying = new_sender(g, EESP_V_ID_SRC, 0);
	CHECK(pthread_key_create(&key, seal_dying) == 0);
	for (int i = 0; i < 20; i++) {
		pthread_t t;
		CHECK(pthread_create(&t, NULL, dies, NULL) == 0 && pthread_join(t, NULL) == 0);
	}
	eesp_stats stats;
	WORKS(eesp_sender_stats(dying, &stats));
	SAME(stats.packets[0], 20 * 9);
	eesp_sender_free(dying);
	eesp_group_free(g);
}

/* Threads seal with one sender, and open, while keys rotate. Each thread has some bursts
 * under each key. */
static struct {
	eesp_group *group;
	eesp_sender *sender;
	eesp_receiver *receiver;
	atomic_int stop, rotations;
	atomic_ullong packets, by_cgo;
	atomic_ullong rounds[4]; /* by thread */
} shared;

enum { THREADS = sizeof shared.rounds / sizeof *shared.rounds, ROTATIONS = 300, ROUNDS = 40,
	EACH = 4 * ROUNDS * (ROTATIONS + 1) };

static uint64_t tscs_of[THREADS][EACH];

static void *rotating(void *arg)
{
	size_t me = (size_t)(uintptr_t)arg;
	uint64_t *tscs = tscs_of[me];
	uint8_t room[4][ROOM];
	uint64_t before = direct_cgo_packets();
	for (size_t i = 0; !shared.stop;) {
		if (i >= ROUNDS * ((size_t)shared.rotations + 1)) {
			sched_yield();
			continue;
		}
		eesp_pkt p[4], q[4];
		size_t n = 1 + i % 4;
		for (size_t k = 0; k < n; k++) {
			p[k] = packet(room[k] + EESP_MAX_HEADER, 64, EESP_MAX_HEADER, EESP_ICV_LEN);
			fill(p[k].data, k, 64);
		}
		SAME(eesp_seal_burst(shared.sender, p, n), n);
		for (size_t k = 0; k < n; k++) {
			*tscs++ = p[k].tsc;
			q[k] = sealed(&p[k]);
		}
		size_t good = eesp_open_burst(shared.receiver, q, n);
		for (size_t k = 0; k < n; k++) /* two rotations meanwhile: the key is gone */
			CHECK(q[k].status == EESP_ERR_NO_KEY || (q[k].status == EESP_OK && filled(q[k].out, k, 64)));
		CHECK(good <= n);
		shared.packets += 2 * n;
		shared.rounds[me] = ++i;
	}
	shared.by_cgo += direct_cgo_packets() - before;
	return NULL;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

static void rotation_beside(void)
{
	static uint64_t all[THREADS * EACH];
	pthread_t t[THREADS];
	size_t n = 0;
	shared.group = new_group(0, 1);
	shared.sender = new_sender(shared.group, EESP_V_ID_SRC, EESP_SENDER_OPTIONS);
	shared.receiver = new_receiver(shared.group);
	for (size_t i = 0; i < THREADS; i++)
		CHECK(pthread_create(&t[i], NULL, rotating, (void *)(uintptr_t)i) == 0);
	for (unsigned i = 0; i < ROTATIONS; i++) {
		WORKS(eesp_group_rotate(shared.group, EESP_LEVEL_ZONE, 13 + i, NULL));
		shared.rotations++;
		for (size_t k = 0; k < THREADS; k++)
			while (shared.rounds[k] < ROUNDS * i + ROUNDS / 2)
				sched_yield();
	}
	shared.stop = 1;
	for (size_t i = 0; i < THREADS; i++)
		CHECK(pthread_join(t[i], NULL) == 0);
	for (size_t i = 0; i < THREADS; i++)
		for (size_t k = 0; k < EACH && tscs_of[i][k]; k++)
			all[n++] = tscs_of[i][k];
	qsort(all, n, sizeof *all, by_value);
	for (size_t i = 1; i < n; i++)
		CHECK(all[i] != all[i - 1]);
	printf("     of %llu packets %llu were Go's\n", shared.packets, shared.by_cgo);
	CHECK(!possible || shared.by_cgo < shared.packets / 2);
	eesp_sender_free(shared.sender);
	eesp_receiver_free(shared.receiver);
	eesp_group_free(shared.group);
}

/* Clock mode: C reads the clock without Go, in two threads too. Counters rise, none is given out
 * twice, and they are not far ahead of the time. A sender that is too fast gets EESP_ERR_CLOCK. */
static eesp_sender *by_clock;
static uint64_t clock_tscs[2][200 * 64];

static void *seals_by_clock(void *arg)
{
	uint64_t *to = clock_tscs[(uintptr_t)arg], before = direct_cgo_packets();
	static uint8_t room[2][64][ROOM];
	for (int round = 0; round < 200; round++) {
		eesp_pkt p[64];
		for (size_t i = 0; i < COUNT(p); i++)
			p[i] = packet(room[(uintptr_t)arg][i] + EESP_MAX_HEADER, 16, EESP_MAX_HEADER, EESP_ICV_LEN);
		SAME(eesp_seal_burst(by_clock, p, COUNT(p)), COUNT(p));
		for (size_t i = 0; i < COUNT(p); i++) {
			CHECK((round == 0 && i == 0) || p[i].tsc > to[-1]);
			*to++ = p[i].tsc;
		}
	}
	CHECK(!possible || direct_cgo_packets() == before);
	return NULL;
}

static uint64_t clock_now(uint32_t rate)
{
	struct timespec t;
	CHECK(clock_gettime(CLOCK_REALTIME, &t) == 0);
	return ((uint64_t)t.tv_sec << rate) + ((uint64_t)t.tv_nsec << rate) / 1000000000;
}

static void by_the_clock(void)
{
	static uint64_t all[2 * COUNT(clock_tscs[0])];
	eesp_group *g = new_group(0, 1);
	eesp_sender_config c = EESP_SENDER_CONFIG_INIT;
	pthread_t t[2];
	c.id = 771122;
	WORKS(eesp_sender_new(g, &c, &by_clock));
	uint64_t began = clock_now(28);
	for (uintptr_t k = 0; k < 2; k++)
		CHECK(pthread_create(&t[k], NULL, seals_by_clock, (void *)k) == 0);
	for (int k = 0; k < 2; k++)
		CHECK(pthread_join(t[k], NULL) == 0);
	memcpy(all, clock_tscs, sizeof all);
	qsort(all, COUNT(all), sizeof *all, by_value);
	for (size_t i = 1; i < COUNT(all); i++)
		CHECK(all[i] != all[i - 1]);
	CHECK(all[0] >= began && all[COUNT(all) - 1] < clock_now(28) + (UINT64_C(1) << 28) + COUNT(all));
	eesp_sender_free(by_clock);

	/* 1,024 counters a second, and as many ahead */
	c.id++;
	c.rate_log2 = 10;
	c.flags = EESP_SENDER_FIXED_EPOCH;
	c.epoch_start_ns = UINT64_C(1700000000) * 1000000000;
	began = clock_now(10);
	WORKS(eesp_sender_new(g, &c, &by_clock));
	size_t good = 0;
	for (;;) {
		static uint8_t room[8][ROOM];
		eesp_pkt p[8];
		for (size_t i = 0; i < COUNT(p); i++)
			p[i] = packet(room[i] + EESP_MAX_HEADER, 16, EESP_MAX_HEADER, EESP_ICV_LEN);
		size_t n = eesp_seal_burst(by_clock, p, COUNT(p));
		good += n;
		CHECK(good <= clock_now(10) - began + 1024);
		if (n < COUNT(p)) {
			SAME(p[COUNT(p) - 1].status, EESP_ERR_CLOCK);
			break;
		}
	}
	eesp_sender_free(by_clock);
	eesp_group_free(g);
}

/* SAs of different formats in one burst: each packet is read in the format of its SA. */
static void formats_together(void)
{
	static const uint32_t flags[] = { 0, EESP_GROUP_OPTIMIZED, EESP_GROUP_IV | EESP_GROUP_ALIGN8 };
	static uint8_t secret[32] = { 8, 0, 1 }, room[COUNT(flags) * 10][ROOM];
	eesp_group *g[COUNT(flags)];
	eesp_sender *s[COUNT(flags)];
	eesp_receiver *r;
	eesp_pkt q[COUNT(room)];
	eesp_receiver_config rc = EESP_RECEIVER_CONFIG_INIT;
	for (size_t k = 0; k < COUNT(flags); k++) {
		eesp_group_config c = EESP_GROUP_CONFIG_INIT;
		eesp_sender_config sc = EESP_SENDER_CONFIG_INIT;
		c.profile = EESP_PROFILE_EESP;
		c.mode = EESP_SSKDF_HKDF_SHA2_256;
		c.domain = 700 + (uint32_t)k;
		c.flags = flags[k];
		c.aead = k & 1;
		secret[1] = (uint8_t)k;
		WORKS(eesp_group_new(&c, &g[k]));
		WORKS(eesp_group_set_key(g[k], 0, secret, 32));
		sc.id = 3;
		sc.counter_mode = EESP_COUNTER_EXPLICIT;
		WORKS(eesp_sender_new(g[k], &sc, &s[k]));
	}
	rc.replay_window = 64;
	WORKS(eesp_receiver_new(g, COUNT(flags), &rc, &r));
	form.ip = 1;
	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < COUNT(room); i++) {
			eesp_pkt p = packet(room[i] + EESP_MAX_HEADER, 71 + (uint32_t)i % 5, EESP_MAX_HEADER,
					    EESP_ICV_LEN + EESP_MAX_PADDING);
			p.next_header = 4;
			payload(p.data, i, p.len);
			eesp_seal_burst(s[i % COUNT(flags)], &p, 1);
			SAME(p.status, EESP_OK);
			q[i] = sealed(&p);
		}
		uint64_t before = direct_cgo_packets();
		SAME(eesp_open_burst(r, q, COUNT(room)), COUNT(room));
		/* Of formats that begin alike the plan has one: packets of the others go to Go. */
		CHECK(!possible || round == 0 || direct_cgo_packets() - before <= 2 * COUNT(room) / 3);
		for (size_t i = 0; i < COUNT(room); i++) {
			SAME(q[i].out_len, 71 + i % 5);
			SAME(q[i].next_header, 4);
			CHECK(is_payload(q[i].out, i, q[i].out_len));
		}
	}
	form.ip = 0;
	for (size_t k = 0; k < COUNT(flags); k++) {
		eesp_sender_free(s[k]);
		eesp_group_free(g[k]);
	}
	eesp_receiver_free(r);
}

/* SAs of one format in one burst, with keys of two lengths: all packets open. */
static void associations_together(void)
{
	enum { SAS = 3, SENDERS = 4 * SAS };
	static uint8_t room[32][ROOM];
	eesp_group *g[SAS];
	eesp_sender *s[SENDERS];
	for (uint32_t k = 0; k < SAS; k++) {
		eesp_group_config c = EESP_GROUP_CONFIG_INIT;
		uint8_t secret[32] = { 9, 1, (uint8_t)k };
		c.profile = EESP_PROFILE_EESP;
		c.mode = EESP_SSKDF_HKDF_SHA2_256;
		c.domain = 710 + k;
		c.aead = k == 2;
		WORKS(eesp_group_new(&c, &g[k]));
		WORKS(eesp_group_set_key(g[k], 0, secret, sizeof secret));
	}
	for (size_t k = 0; k < SENDERS; k++) {
		eesp_sender_config sc = EESP_SENDER_CONFIG_INIT;
		sc.id = 3 + k / SAS;
		sc.counter_mode = EESP_COUNTER_EXPLICIT;
		WORKS(eesp_sender_new(g[k % SAS], &sc, &s[k]));
	}
	eesp_receiver *r = NULL;
	for (int round = 0; round < 40; round++) {
		eesp_pkt q[COUNT(room)];
		uint64_t before = direct_cgo_packets();
		eesp_receiver_config rc = EESP_RECEIVER_CONFIG_INIT;
		rc.replay_window = 1024;
		if (round % 20 == 0) {
			eesp_receiver_free(r);
			WORKS(eesp_receiver_new(g, SAS, round == 0 ? NULL : &rc, &r)); /* then with windows */
		}
		for (size_t i = 0; i < COUNT(room); i++) {
			eesp_pkt p = packet(room[i] + EESP_MAX_HEADER, 60 + any(3), EESP_MAX_HEADER,
					    EESP_ICV_LEN + EESP_MAX_PADDING);
			fill(p.data, i, p.len);
			SAME(eesp_seal_burst(s[i < SENDERS ? i : any(SENDERS)], &p, 1), 1);
			q[i] = sealed(&p);
		}
		SAME(eesp_open_burst(r, q, COUNT(room)), COUNT(room));
		CHECK(!possible || round % 20 == 0 || direct_cgo_packets() == before);
		for (size_t i = 0; i < COUNT(room); i++)
			CHECK(filled(q[i].out, i, q[i].out_len));
	}
	eesp_receiver_free(r);
	for (size_t k = 0; k < SENDERS; k++)
		eesp_sender_free(s[k]);
	for (size_t k = 0; k < SAS; k++)
		eesp_group_free(g[k]);
}

/* What the head of an authentic body of eesp may say: only who has the key can seal such packets. */
static void heads(void)
{
	static const struct { uint8_t head[4]; eesp_status want; uint32_t len; } cases[] = {
		{ { 0, 0, 4, 0 }, EESP_OK, 60 },	      { { 0, 0, 4, 3 }, EESP_OK, 57 },
		{ { 0, 0, 4, 60 }, EESP_OK, 0 },	      { { 0, 0, 4, 61 }, EESP_ERR_PAYLOAD, 0 },
		{ { 0, 0, 4, 255 }, EESP_ERR_PAYLOAD, 0 }, { { 1, 0, 4, 0 }, EESP_ERR_PAYLOAD, 0 },
		{ { 0, 128, 4, 0 }, EESP_ERR_PAYLOAD, 0 }, { { 0, 0, 59, 0 }, EESP_ERR_DUMMY, 0 },
	};
	eesp_group_config c = EESP_GROUP_CONFIG_INIT;
	eesp_sender_config sc = EESP_SENDER_CONFIG_INIT;
	eesp_receiver_config rc = EESP_RECEIVER_CONFIG_INIT;
	const eesp_context context = { .id = 3 };
	uint8_t secret[32] = { 9, 2 };
	eesp_data_key k;
	eesp_keyset *keys;
	eesp_group *g;
	eesp_sender *s;
	eesp_receiver *r;
	c.profile = EESP_PROFILE_EESP;
	c.mode = EESP_SSKDF_HKDF_SHA2_256;
	c.domain = 720;
	WORKS(eesp_group_new(&c, &g));
	WORKS(eesp_group_set_key(g, 0, secret, sizeof secret));
	sc.id = 3;
	sc.counter_mode = EESP_COUNTER_EXPLICIT;
	WORKS(eesp_sender_new(g, &sc, &s));
	rc.replay_window = 1024;
	WORKS(eesp_receiver_new(&g, 1, &rc, &r));
	WORKS(eesp_data_key_export(g, &context, 0, &k));
	WORKS(eesp_keyset_new(EESP_AEAD_AES_128_GCM, k.key, 1, &keys));
	for (int round = 0; round < 2; round++) { /* on the general path, then on the fast one */
		uint8_t room[COUNT(cases)][ROOM], out[COUNT(cases)][ROOM];
		eesp_pkt q[COUNT(cases)];
		for (size_t i = 0; i < COUNT(cases); i++) {
			const uint32_t header = eesp_sender_header_len(s), front = header - 4;
			eesp_pkt p = packet(room[i] + EESP_MAX_HEADER, 60, EESP_MAX_HEADER,
					    EESP_ICV_LEN + EESP_MAX_PADDING);
			uint8_t body[64];
			fill(p.data, i, p.len);
			memcpy(body, cases[i].head, 4);
			memcpy(body + 4, p.data, 60);
			SAME(eesp_seal_burst(s, &p, 1), 1);
			uint8_t *o = p.out;
			eesp_job j = { .aad = o, .src = body, .dst = o + front, .tag = o + header + 60,
				       .aad_len = front, .len = sizeof body };
			memcpy(j.nonce, k.options, 4);
			memcpy(j.nonce + 4, o + front - 8, 8);
			SAME(eesp_keyset_seal(keys, &j, 1), 1);
			q[i] = sealed(&p);
			memset(out[i], 1, ROOM);
			q[i].dst = out[i];
			q[i].dst_size = ROOM;
		}
		SAME(eesp_open_burst(r, q, COUNT(cases)), 3);
		for (size_t i = 0; i < COUNT(cases); i++) {
			SAME(q[i].status, cases[i].want);
			SAME(q[i].out_len, cases[i].len);
			CHECK(cases[i].want == EESP_OK ? filled(q[i].out, i, q[i].out_len) : all_are(out[i], 60, 0));
		}
	}
	eesp_keyset_free(keys);
	eesp_receiver_free(r);
	eesp_sender_free(s);
	eesp_group_free(g);
}

/* Proxies have the same results on both paths, and receivers open what they sealed. */
static void proxies(void)
{
	static uint8_t at[MOST][ROOM], room[2][MOST][PAD + ROOM + PAD], to[2][MOST][PAD + ROOM + PAD];
	static const struct kind { unsigned profile; uint8_t v, v6; } kinds[] = {
		{ EESP_PROFILE_STATELESS, EESP_V_ID, 0 }, { EESP_PROFILE_STATELESS, EESP_V_LONG_ID_SRC_DST, 0 },
		{ EESP_PROFILE_PSP, 0, 0 },
		{ EESP_PROFILE_TSS, EESP_V_TSS_SSI, 0 },  { EESP_PROFILE_TSS, EESP_V_TSS_SSI, 1 },
		{ EESP_PROFILE_EESP, 0, 0 },
	};
	uint64_t all = 0, by_cgo = 0, opened = 0;
	for (size_t pair = 0; pair < COUNT(kinds) * COUNT(kinds); pair++) {
		const struct kind *k[2] = { &kinds[pair / COUNT(kinds)], &kinds[pair % COUNT(kinds)] };
		eesp_group *g[2];
		eesp_sender *first, *s[2];
		eesp_receiver *r[2], *last;
		eesp_proxy *proxy[2];
		static uint64_t id = 0x7000;
		for (size_t i = 0; i < 2; i++) {
			eesp_group_config c = EESP_GROUP_CONFIG_INIT;
			uint8_t secret[32] = { 80, (uint8_t)pair, (uint8_t)i };
			if (k[i]->profile == EESP_PROFILE_STATELESS) {
				g[i] = i ? another_group(1) : new_group(0, EESP_LEVELS_ZONE);
				if (i)
					WORKS(eesp_group_set_default_levels(g[i], EESP_LEVELS_ZONE));
				continue;
			}
			c.profile = k[i]->profile;
			c.mode = k[i]->profile == EESP_PROFILE_EESP ? EESP_SSKDF_HKDF_SHA2_256 : 0;
			c.aead = k[i]->profile == EESP_PROFILE_TSS;
			if (c.profile != EESP_PROFILE_PSP)
				c.domain = 0x4000 + (uint32_t)(2 * pair + i);
			WORKS(eesp_group_new(&c, &g[i]));
			WORKS(eesp_group_set_key(g[i], 0, secret, 32));
		}
		for (int i = 0; i < 3; i++) {
			eesp_sender_config c = explicit_config(k[i != 0]->v);
			if (k[i != 0]->profile != EESP_PROFILE_STATELESS) {
				/* other tests have used counters of all IDs in epoch 0 */
				c.epoch = k[i != 0]->profile == EESP_PROFILE_TSS;
				c.id = ++id;
			}
			WORKS(eesp_sender_new(g[i != 0], &c, i ? &s[i - 1] : &first));
		}
		for (int i = 0; i < 2; i++) {
			WORKS(eesp_receiver_new(&g[0], 1, NULL, &r[i]));
			WORKS(eesp_proxy_new(r[i], s[i], &proxy[i]));
		}
		WORKS(eesp_receiver_new(&g[1], 1, NULL, &last));
		*direct_seal_plan(s[1]) = NULL;
		*direct_open_plan(r[1]) = NULL;
		uint32_t prefix[2] = { 0 };
		for (int i = 0; i < 2; i++)
			if (k[i]->profile == EESP_PROFILE_TSS)
				prefix[i] = k[i]->v6 ? EESP_TSS_LEAD_IPV6 : EESP_TSS_LEAD_IPV4;
		for (int round = 0; round < (emulated() ? 2 : 20); round++) {
			eesp_pkt p[MOST], q[2][MOST], z[2][MOST];
			eesp_addr out = { .src = { [10] = 255, 255, 10, 0, 0, 1 },
					  .dst = { [10] = 255, 255, 10, 0, 0, 2 } };
			eesp_iov none = { NULL, 0 };
			const size_t n = 1 + any(MOST);
			const int alike = any(2);
			if (k[1]->v6)
				out.src[0] = 0x20;
			for (size_t i = 0; i < n; i++) {
				p[i] = packet(at[i] + 256, alike ? 64 : any(200), 256, EESP_ICV_LEN + EESP_MAX_PADDING);
				p[i].flags = k[0]->v6 ? EESP_PKT_IPV6 : 0;
				p[i].next_header = (uint8_t)(1 + i);
				memset(at[i], 7, 256);
				fill(p[i].data, i, p[i].len);
			}
			SAME(eesp_seal_burst(first, p, n), n);
			for (size_t i = 0; i < n; i++) {
				const uint32_t was = seed;
				for (int w = 0; w < 2; w++) {
					eesp_pkt *x = &q[w][i];
					seed = was;
					memset(room[w][i], CANARY, sizeof room[w][i]);
					memset(to[w][i], CANARY, sizeof to[w][i]);
					uint8_t *b = room[w][i] + PAD + 256;
					memcpy(b - prefix[0], (uint8_t *)p[i].out - prefix[0],
					       prefix[0] + p[i].out_len);
					*x = packet(b, p[i].out_len, 256, 128);
					x->flags = p[i].flags;
					x->addr = p[i].addr;
					x->out_addr = &out;
					x->user = x;
					x->coffset = x->ioffset = x->next_header = 9;
					if (any(3) == 0)
						x->dst = to[w][i] + PAD, x->dst_size = 300 + any(300);
					switch (any(30)) {
					case 0: x->headroom = prefix[0] + any(30); break;
					case 1: x->tailroom = any(4); break;
					case 2: x->dst_size = any(120); break;
					case 3: b[x->len - 1] ^= 1; break;
					case 4: b[any(x->len)] ^= 0x80; break;
					case 5: x->len = any(x->len + 1); break;
					case 6: x->iov = &none; x->iov_count = 1; break;
					case 7: x->dst = b + any(40); x->dst_size = 150; break;
					case 8: x->reserved = 1; break;
					case 9: x->data = NULL; break;
					case 10: if (!prefix[1]) x->out_addr = NULL; break;
					}
				}
			}
			const uint64_t before = direct_cgo_packets();
			const size_t good = eesp_proxy_burst(proxy[0], q[0], n);
			by_cgo += direct_cgo_packets() - before;
			SAME(good, eesp_proxy_burst(proxy[1], q[1], n));
			size_t m = 0;
			for (size_t i = 0; i < n; i++) {
				const eesp_pkt *a = &q[0][i], *b = &q[1][i];
				same_outcome(a, b);
				CHECK(a->user == a && b->user == b);
				for (int w = 0; w < 2; w++) {
					CHECK(all_are(room[w][i], PAD, CANARY) &&
					      all_are(room[w][i] + PAD + ROOM, PAD, CANARY));
					CHECK(all_are(to[w][i], PAD, CANARY));
					CHECK(q[w][i].dst != to[w][i] + PAD ||
					      all_are(to[w][i] + PAD + q[w][i].dst_size, PAD, CANARY));
					/* not sealed: wiped */
					if (a->status == EESP_ERR_ROOM && a->dst == NULL && p[i].len >= 16)
						CHECK(!filled(room[w][i] + PAD + 256 + eesp_sender_header_len(first), i,
							      p[i].len));
				}
				if (a->status != EESP_OK)
					continue;
				CHECK((uint8_t *)a->out - (a->dst ? to[0][i] : room[0][i]) ==
				      (uint8_t *)b->out - (b->dst ? to[1][i] : room[1][i]));
				CHECK(prefix[1] == 0 ||
				      memcmp((uint8_t *)a->out - prefix[1], (uint8_t *)b->out - prefix[1],
					     prefix[1]) == 0);
				for (int w = 0; w < 2; w++) {
					z[w][m] = packet(q[w][i].out, q[w][i].out_len, prefix[1], 0);
					z[w][m].flags = k[1]->v6 ? EESP_PKT_IPV6 : 0;
					z[w][m].addr = q[w][i].out_addr ? *q[w][i].out_addr : q[w][i].addr;
				}
				m++;
			}
			SAME(m, good);
			SAME(eesp_open_burst(last, z[0], m), m);
			SAME(eesp_open_burst(last, z[1], m), m);
			for (size_t i = 0; i < m; i++)
				CHECK(z[0][i].out_len == z[1][i].out_len &&
				      memcmp(z[0][i].out, z[1][i].out, z[0][i].out_len) == 0);
			all += n;
			opened += good;
		}
		eesp_stats in[2], out[2];
		for (int i = 0; i < 2; i++) {
			WORKS(eesp_receiver_stats(r[i], &in[i]));
			WORKS(eesp_sender_stats(s[i], &out[i]));
			eesp_proxy_free(proxy[i]);
			eesp_receiver_free(r[i]);
			eesp_sender_free(s[i]);
		}
		CHECK(memcmp(&in[0], &in[1], sizeof in[0]) == 0 && memcmp(&out[0], &out[1], sizeof out[0]) == 0);
		eesp_receiver_free(last);
		eesp_sender_free(first);
		eesp_group_free(g[0]);
		eesp_group_free(g[1]);
	}
	printf("     of %llu packets %llu went through proxies, %llu were Go's\n", (unsigned long long)all,
	       (unsigned long long)opened, (unsigned long long)by_cgo);
	CHECK(opened > all / 2 && (!possible || by_cgo < all / 5));
}

/* Writes an IP packet of n octets. */
static void ip_packet(uint8_t *b, uint32_t n, int six)
{
	static const uint8_t protos[] = { 6, 17, 17, 50, 58, 59, 44, 0, 132 };
	fill(b, n, n);
	if (n < 40)
		return;
	b[0] = six ? (uint8_t)(0x60 | any(16)) : (uint8_t)(0x45 + (any(10) == 0));
	b[1] = (uint8_t)any(256);
	b[2] = (uint8_t)(n >> 8);
	b[3] = (uint8_t)n;
	if (six) {
		b[4] = (uint8_t)((n - 40) >> 8);
		b[5] = (uint8_t)(n - 40);
		b[6] = any(4) ? 17 : protos[any(sizeof protos)];
	} else {
		b[6] = any(10) ? 0x40 : 0x20;
		b[7] = 0;
		b[9] = any(4) ? 6 : protos[any(sizeof protos)];
	}
	if (any(12) == 0)
		b[any(12)] ^= (uint8_t)(1u << any(8));
}

/* Packets in UDP have the same results on both paths, outer headers included. */
static void in_udp(void)
{
	static uint8_t from[MOST][ROOM], room[2][MOST][PAD + ROOM + PAD], to[2][MOST][PAD + ROOM + PAD];
	static const struct { unsigned profile, flags; uint8_t v; } kinds[] = {
		{ EESP_PROFILE_STATELESS, 0, EESP_V_ID }, { EESP_PROFILE_STATELESS, 0, EESP_V_LONG_ID_SRC_DST },
		{ EESP_PROFILE_PSP, 0, 0 },
		{ EESP_PROFILE_EESP, 0, 0 }, { EESP_PROFILE_EESP, EESP_GROUP_OPTIMIZED, 0 },
		{ EESP_PROFILE_TSS, 0, EESP_V_TSS_SSI },
	};
	uint64_t all = 0, sealed_there = 0, opened_there = 0, opened = 0;
	for (size_t kind = 0; kind < COUNT(kinds); kind++) {
		eesp_group_config c = EESP_GROUP_CONFIG_INIT;
		eesp_group *g;
		eesp_sender *s[2];
		eesp_receiver *r[2];
		static uint64_t id = 0x7800;
		uint8_t secret[32] = { 81, (uint8_t)kind };
		c.profile = kinds[kind].profile;
		c.flags = kinds[kind].flags;
		c.mode = c.profile == EESP_PROFILE_EESP ? EESP_SSKDF_HKDF_SHA2_256 : 0;
		c.aead = c.profile == EESP_PROFILE_TSS;
		c.domain = c.profile >= EESP_PROFILE_TSS ? 0x5000 + (uint32_t)kind : 0;
		if (c.profile == EESP_PROFILE_STATELESS) {
			g = new_group(0, EESP_LEVELS_ZONE);
		} else {
			WORKS(eesp_group_new(&c, &g));
			WORKS(eesp_group_set_key(g, 0, secret, 32));
		}
		for (int i = 0; i < 2; i++) {
			eesp_sender_config sc = explicit_config(kinds[kind].v);
			if (c.profile != EESP_PROFILE_STATELESS) {
				sc.epoch = c.profile == EESP_PROFILE_TSS;
				sc.id = ++id;
			}
			WORKS(eesp_sender_new(g, &sc, &s[i]));
			WORKS(eesp_receiver_new(&g, 1, NULL, &r[i]));
		}
		*direct_seal_plan(s[1]) = NULL;
		*direct_open_plan(r[1]) = NULL;
		for (int round = 0; round < (emulated() ? 5 : 200); round++) {
			eesp_pkt q[2][MOST], z[2][MOST];
			eesp_udp u = EESP_UDP_INIT;
			const size_t n = 1 + any(MOST);
			const int six = any(2);
			u.mode = (uint8_t)any(2);
			u.flags = any(16);
			u.tos = (uint8_t)any(256);
			u.ttl = (uint8_t)any(3);
			u.src_port = any(2) ? 0 : 4711;
			u.addr = (eesp_addr){ .src = { [10] = 255, 255, 10, 0, 0, 1 },
					      .dst = { [10] = 255, 255, 10, 0, 0, 2 } };
			if (any(2))
				u.addr.src[0] = u.addr.dst[0] = 0x20;
			if (any(50) == 0)
				u.addr.dst[0] ^= 1;
			for (size_t i = 0; i < n; i++) {
				const uint32_t was = seed;
				for (int w = 0; w < 2; w++) {
					eesp_pkt *x = &q[w][i];
					seed = was;
					const uint32_t len = any(20) ? 40 + any(300) : any(100);
					memset(room[w][i], CANARY, sizeof room[w][i]);
					memset(to[w][i], CANARY, sizeof to[w][i]);
					ip_packet(room[w][i] + PAD + 256, len, six);
					*x = packet(room[w][i] + PAD + 256, len + (any(4) == 0 ? any(9) : 0), 256, 128);
					x->user = x;
					if (any(3) == 0)
						x->dst = to[w][i] + PAD, x->dst_size = 600;
					switch (any(40)) {
					case 0: x->headroom = any(90); break;
					case 1: x->tailroom = any(30); break;
					case 2: x->dst_size = any(120); break;
					case 3: x->iov_count = 1; break;
					case 4: x->data = NULL; break;
					case 5: x->flags = (uint16_t)any(4); break;
					case 6: x->len = any(x->len + 1); break;
					case 7: x->coffset = 1; break;
					}
				}
			}
			uint64_t before = direct_cgo_packets();
			size_t good = eesp_udp_seal_burst(s[0], &u, q[0], n);
			sealed_there += direct_cgo_packets() - before;
			SAME(good, eesp_udp_seal_burst(s[1], &u, q[1], n));
			size_t m = 0;
			for (size_t i = 0; i < n; i++) {
				const eesp_pkt *a = &q[0][i], *b = &q[1][i];
				SAME(a->status, b->status);
				SAME(a->out_len, b->out_len);
				SAME(a->tsc, b->tsc);
				SAME(a->id == 0, b->id == 0);
				SAME(a->out == NULL, b->out == NULL);
				for (int w = 0; w < 2; w++)
					CHECK(all_are(room[w][i], PAD, CANARY) && all_are(to[w][i], PAD, CANARY));
				if (a->status != EESP_OK)
					continue;
				const uint8_t *h = a->out, *k = b->out;
				const uint32_t ip = h[0] >> 4 == 6 ? 40 : (h[0] & 15u) * 4;
				CHECK(h - (a->dst ? to[0][i] : room[0][i]) == k - (b->dst ? to[1][i] : room[1][i]));
				CHECK(memcmp(h, k, ip + 6) == 0); /* the checksum differs: the senders' IDs do */
				SAME((h[ip + 6] | h[ip + 7]) == 0, (k[ip + 6] | k[ip + 7]) == 0);
				memcpy(from[m], h, a->out_len);
				z[0][m] = packet(from[m], a->out_len, 0, 0);
				m++;
			}
			SAME(m, good);
			for (size_t i = 0; i < m; i++) {
				const uint32_t was = seed, len = z[0][i].len;
				for (int w = 0; w < 2; w++) {
					uint8_t *b = room[w][i] + PAD;
					seed = was;
					memcpy(b, from[i], len);
					memset(to[w][i], CANARY, sizeof to[w][i]);
					z[w][i] = packet(b, len, 0, 0);
					z[w][i].user = &z[w][i];
					z[w][i].coffset = z[w][i].ioffset = z[w][i].next_header = 9;
					if (any(3) == 0)
						z[w][i].dst = to[w][i] + PAD,
						z[w][i].dst_size = any(4) ? 600 : any(200);
					switch (any(24)) {
					case 0: b[any(48)] ^= (uint8_t)(1u << any(8)); break;
					case 1: b[len - 1] ^= 1; break;
					case 2: z[w][i].len = any(len + 1); break;
					case 3: z[w][i].flags = (uint16_t)any(4); break;
					case 4: z[w][i].iov_count = 1; break;
					case 5: z[w][i].data = NULL; break;
					case 6: z[w][i].len += any(30); break;
					case 7: if (b[0] >> 4 == 6) b[1] ^= 0x30; break; /* ECN */
					}
				}
			}
			const int other = any(8);
			u.flags ^= other == 0 ? 1 : 0;
			u.mode ^= other == 1;
			u.dst_port = (uint16_t)(u.dst_port + (other == 2));
			before = direct_cgo_packets();
			size_t done = eesp_udp_open_burst(r[0], &u, z[0], m);
			opened_there += direct_cgo_packets() - before;
			SAME(done, eesp_udp_open_burst(r[1], &u, z[1], m));
			for (size_t i = 0; i < m; i++) {
				const eesp_pkt *a = &z[0][i], *b = &z[1][i];
				same_outcome(a, b);
				for (int w = 0; w < 2; w++)
					CHECK(all_are(to[w][i], PAD, CANARY) &&
					      all_are(to[w][i] + PAD + z[w][i].dst_size, PAD, CANARY));
				if (a->status == EESP_OK) {
					CHECK((uint8_t *)a->out - (a->dst ? to[0][i] : room[0][i]) ==
					      (uint8_t *)b->out - (b->dst ? to[1][i] : room[1][i]));
					CHECK(memcmp(a->out, b->out, a->out_len) == 0);
				}
			}
			all += n;
			opened += done;
		}
		eesp_stats in[2], out[2];
		for (int i = 0; i < 2; i++) {
			WORKS(eesp_receiver_stats(r[i], &in[i]));
			WORKS(eesp_sender_stats(s[i], &out[i]));
			eesp_receiver_free(r[i]);
			eesp_sender_free(s[i]);
		}
		CHECK(memcmp(&in[0], &in[1], sizeof in[0]) == 0 && memcmp(&out[0], &out[1], sizeof out[0]) == 0);
		eesp_group_free(g);
	}
	printf("     of %llu packets in UDP %llu opened; %llu were sealed and %llu opened by Go\n",
	       (unsigned long long)all, (unsigned long long)opened, (unsigned long long)sealed_there,
	       (unsigned long long)opened_there);
	CHECK(opened > all / (emulated() ? 8 : 4)); /* an emulated test has few bursts */
}

/* A second thread begins to use a receiver while the first one opens. Of two copies of each packet one opens. */
static struct {
	eesp_receiver *receiver;
	eesp_pkt from[64];
	atomic_int begun;
	atomic_size_t opened;
} race;

static void *second(void *arg)
{
	static uint8_t room[2][64][256];
	size_t me = (uintptr_t)arg, n = COUNT(race.from);
	eesp_pkt q[64];
	for (size_t i = 0; i < n; i++) {
		memcpy(room[me][i], race.from[i].out, race.from[i].out_len);
		q[i] = packet(room[me][i], race.from[i].out_len, 0, 0);
	}
	if (me == 1)
		while (!race.begun)
			sched_yield();
	for (size_t at = 0; at < n; at += 4) {
		race.opened += eesp_open_burst(race.receiver, q + at, 4);
		race.begun = 1;
	}
	for (size_t i = 0; i < n; i++)
		CHECK(q[i].status == EESP_OK ? filled(q[i].out, i, 64) : q[i].status == EESP_ERR_REPLAY);
	return NULL;
}

static void second_comes(void)
{
	eesp_group *g = new_group(0, 1);
	eesp_sender *s = new_sender(g, EESP_V_ID, 0);
	for (int round = 0; round < (emulated() ? 3 : 60); round++) {
		pthread_t t[2];
		eesp_receiver_config rc = EESP_RECEIVER_CONFIG_INIT;
		rc.replay_window = 128;
		WORKS(eesp_receiver_new(&g, 1, &rc, &race.receiver));
		for (size_t i = 0; i < COUNT(race.from); i++) {
			race.from[i] = packet(side[0].room[i % MOST] + (i / MOST) * 512 + EESP_MAX_HEADER, 64,
					      EESP_MAX_HEADER, EESP_ICV_LEN);
			fill(race.from[i].data, i, 64);
		}
		SAME(eesp_seal_burst(s, race.from, COUNT(race.from)), COUNT(race.from));
		race.begun = 0;
		race.opened = 0;
		for (uintptr_t k = 0; k < 2; k++)
			CHECK(pthread_create(&t[k], NULL, second, (void *)k) == 0);
		for (int k = 0; k < 2; k++)
			CHECK(pthread_join(t[k], NULL) == 0);
		SAME(race.opened, COUNT(race.from));
		eesp_receiver_free(race.receiver);
	}
	eesp_sender_free(s);
	eesp_group_free(g);
}

int main(void)
{
	const char *backend = eesp_backend_name();
	CHECK(backend);
	const char *direct = getenv("EESP_DIRECT");
	possible = strcmp(backend, "vaes512") == 0 || strcmp(backend, "vaes256") == 0 ||
		   strcmp(backend, "aesni") == 0 || strcmp(backend, "armv8") == 0;
	possible = possible && (direct == NULL || strcmp(direct, "0") != 0);
	if (!possible)
		printf("     backend %s has no kernels for C: all packets are Go's\n", backend);
	TEST(to_the_letter);
	TEST(as_the_general_path);
	TEST(other_profiles);
	TEST(noise);
	TEST(many_domains);
	TEST(psp_in_any_form);
	TEST(odd_headers);
	TEST(flood);
	TEST(tss_addresses);
	TEST(tss_renews);
	TEST(tss_server);
	TEST(epochs_meet);
	TEST(jobs_in_any_order);
	TEST(runs_out);
	TEST(keys_change);
	TEST(objects_in_turn);
	TEST(many_then_few);
	TEST(objects_change);
	TEST(threads_end);
	TEST(rotation_beside);
	TEST(by_the_clock);
	TEST(formats_together);
	TEST(associations_together);
	TEST(heads);
	TEST(proxies);
	TEST(in_udp);
	TEST(second_comes);
	TEST(dummies_once);
	TEST(own_ids_apart);
	TEST(keys_in_common);
	TEST(few_ask);
	TEST(previous_keys);
	TEST(tss_in_any_form); /* behind all others of tss: it begins later epochs */
	TEST(tss_latches);
	TEST(small_destinations);
	TEST(sealed_singly);
	return 0;
}
