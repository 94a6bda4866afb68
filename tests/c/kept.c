/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Keys that a receiver of profile tss keeps between packets: packets have the outcome that they
 * have on the general path, whatever keys are kept; only authentic packets change what is kept;
 * and the keys are gone with the root key. Linked with the library's internal symbols, as direct.c.
 */
#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "cgo.h"

enum { FLOWS = 48, BURST = 32, LEN = 64, ROOM = EESP_TSS_LEAD_IPV6 + EESP_MAX_SEALED_LEN(256), TABLES = SHARES };

static uint32_t seed = 1;
static uint32_t any(uint32_t below)
{
	seed = seed * 1664525u + 1013904223u;
	return (uint32_t)(((uint64_t)seed * below) >> 32);
}

static struct eesp_open_plan *plan_of(eesp_receiver *r) { return *direct_open_plan(r); }

static eesp_group *tss_group(uint32_t domain, uint64_t mask, uint8_t shift, uint8_t secret)
{
	eesp_group_config c = EESP_GROUP_CONFIG_INIT;
	const uint8_t key[32] = { secret, (uint8_t)domain, (uint8_t)(domain >> 8) };
	eesp_group *g;
	c.profile = EESP_PROFILE_TSS;
	c.aead = EESP_AEAD_AES_256_GCM;
	c.domain = domain;
	c.rekey_mask = mask;
	c.rekey_shift = shift;
	WORKS(eesp_group_new(&c, &g));
	WORKS(eesp_group_set_key(g, 0, key, sizeof key));
	return g;
}

/* No two senders have one SSI: counters may begin anew. */
static eesp_sender *tss_sender(eesp_group *g, uint64_t start)
{
	static uint32_t ssi = 100;
	eesp_sender_config c = EESP_SENDER_CONFIG_INIT;
	eesp_sender *s;
	c.id = ++ssi;
	c.v = EESP_V_TSS_SSI;
	c.counter_mode = EESP_COUNTER_EXPLICIT;
	c.start_counter = start;
	WORKS(eesp_sender_new(g, &c, &s));
	return s;
}

static eesp_receiver *tss_receiver(eesp_group *const *g, size_t n, uint32_t window)
{
	eesp_receiver_config c = EESP_RECEIVER_CONFIG_INIT;
	eesp_receiver *r;
	c.replay_window = window;
	WORKS(eesp_receiver_new(g, n, &c, &r));
	return r;
}

struct sealed_packet {
	uint8_t room[ROOM];
	uint32_t prefix, len, payload;
	uint16_t flags;
};

/* Seals a packet, over IPv6 if six. */
static void seal_to(struct sealed_packet *to, eesp_sender *s, size_t x, uint32_t len, int six)
{
	static uint8_t text[256];
	const uint32_t prefix = six ? EESP_TSS_LEAD_IPV6 : EESP_TSS_LEAD_IPV4;
	eesp_pkt p = packet(text, len, 0, 0);
	fill(text, x, len);
	memset(to->room, six ? 4 : 3, prefix);
	to->room[prefix - 1] = (uint8_t)x; /* entropy */
	p.flags = six ? EESP_PKT_IPV6 : 0;
	p.dst = to->room;
	p.dst_size = sizeof to->room;
	SAME(eesp_seal_burst(s, &p, 1), 1);
	to->prefix = prefix;
	to->len = p.out_len;
	to->payload = len;
	to->flags = p.flags;
	CHECK(p.out == to->room + prefix);
}

static eesp_pkt to_open(struct sealed_packet *copy, const struct sealed_packet *from)
{
	*copy = *from;
	eesp_pkt p = packet(copy->room + copy->prefix, copy->len, copy->prefix, 0);
	p.flags = copy->flags;
	return p;
}

/* What a receiver keeps, of all threads. */
struct seen {
	struct eesp_kept t[TABLES];
	uint8_t keys[TABLES][KEPT_PLACES / 4 * SUB_QUAD];
};

static void look(eesp_receiver *r, struct seen *to)
{
	const struct eesp_kept *t = plan_of(r)->kept;
	memcpy(to->t, t, sizeof to->t);
	for (size_t i = 0; i < TABLES; i++)
		memcpy(to->keys[i], t[i].keys, sizeof to->keys[i]);
}

static size_t kept_here(eesp_receiver *r)
{
	size_t n = 0;
	for (size_t i = 0; i < TABLES; i++) {
		const struct eesp_kept *t = &plan_of(r)->kept[i];
		for (size_t h = 0; h < sizeof t->first; h++)
			for (size_t at = t->first[h]; at != 0; at = t->of[at - 1].next)
				n++;
	}
	return n;
}

static int is_mapped(const void *at)
{
	const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	return msync((void *)((uintptr_t)at & ~(page - 1)), 1, MS_ASYNC) == 0 || errno != ENOMEM;
}

static uint64_t derived(eesp_group *g)
{
	eesp_usage u;
	WORKS(eesp_group_usage(g, 0, 0, &u));
	return u.derived;
}

/* Random bursts of genuine and forged packets of few flows or many, with new keys all the time: both paths give the
 * same results. Rekey values wrap, epochs and root keys change, and packets of two groups are mixed. */
static void as_the_general_path(void)
{
	static struct sealed_packet from[BURST], copy[2][BURST];
	static const struct { size_t flows; uint64_t mask; uint8_t shift; } kinds[] = {
		{ 3, 0x30, 4 }, { 24, 0xfc, 2 }, { 32, 0xfff0, 4 }, { FLOWS, 0xffe, 1 }, { FLOWS, 0, 0 },
	};
	uint64_t all = 0, by_cgo = 0, opened = 0, kept = 0;
	for (size_t k = 0; k < COUNT(kinds); k++) {
		eesp_group *g[2];
		eesp_sender *s[FLOWS];
		eesp_receiver *r[2];
		uint16_t epoch = 1;
		for (uint32_t i = 0; i < 2; i++) {
			g[i] = tss_group(0x100 + 2 * (uint32_t)k + i, kinds[k].mask, kinds[k].shift, 1);
			WORKS(eesp_group_set_epoch(g[i], epoch));
		}
		for (size_t i = 0; i < kinds[k].flows; i++)
			s[i] = tss_sender(g[i % 8 == 7], any(100));
		for (int i = 0; i < 2; i++)
			r[i] = tss_receiver(g, 2, 256);
		*direct_open_plan(r[1]) = NULL;
		for (int round = 0; round < (emulated() ? 40 : 700); round++) {
			const size_t n = any(6) == 0 ? 1 + any(3) : any(3) == 0 ? 1 + any(BURST) : BURST;
			const uint32_t two_groups = any(4), forging = any(3) == 0 ? 3 : 40;
			int wrong[BURST] = { 0 };
			eesp_pkt q[2][BURST];
			for (size_t i = 0; i < n; i++) {
				size_t flow = any((uint32_t)kinds[k].flows);
				if (two_groups != 0 && flow % 8 == 7)
					flow--;
				seal_to(&from[i], s[flow], i, any(4) == 0 ? any(200) : LEN, any(9) == 0);
				if (any(forging) == 0) { /* SSI, epoch, counter, payload or ICV */
					static const uint8_t at[] = { 4, 7, 8, 9, 14, 15, 16 };
					const uint32_t bit = 1u << any(8);
					const uint32_t where = any(3) ? at[any(sizeof at)] : from[i].len - 1 - any(20);
					from[i].room[from[i].prefix + where] ^= (uint8_t)bit;
					wrong[i] = 1;
				}
			}
			for (int x = 0; x < 2; x++) {
				const uint64_t before = direct_cgo_packets();
				for (size_t i = 0; i < n; i++)
					q[x][i] = to_open(&copy[x][i], &from[i]);
				const size_t good = eesp_open_burst(r[x], q[x], n);
				if (x == 0) {
					by_cgo += direct_cgo_packets() - before;
					opened += good;
				}
			}
			for (size_t i = 0; i < n; i++) {
				const eesp_pkt *a = &q[0][i], *b = &q[1][i];
				/* A forged packet may be found to be old before or after its neighbours were opened. */
				if (!wrong[i] || b->status != EESP_ERR_REPLAY || a->status != EESP_ERR_AUTH)
					SAME(a->status, b->status);
				CHECK(a->id == b->id && a->tsc == b->tsc && a->out_len == b->out_len);
				CHECK(wrong[i] ? a->status < 0 : a->status == EESP_OK || a->status == EESP_ERR_EPOCH);
				CHECK(a->status != EESP_OK || filled(a->out, i, from[i].payload));
				if (a->status == b->status)
					SAME(memcmp(copy[0][i].room, copy[1][i].room, sizeof copy[0][i].room), 0);
			}
			all += n;
			if (plan_of(r[0]) != NULL && plan_of(r[0])->kept != NULL)
				kept += kept_here(r[0]);
			if (round % 50 == 49) {
				if (any(2))
					epoch++;
				for (int i = 0; i < 2; i++)
					WORKS(eesp_group_set_epoch(g[i], epoch));
				if (round % 150 == 149) {
					const uint8_t next[32] = { 2, (uint8_t)k, (uint8_t)round,
								   (uint8_t)(round >> 8) };
					WORKS(eesp_group_rotate_key(g[any(2)], next, sizeof next, NULL));
				}
				*direct_open_plan(r[1]) = NULL;
			}
		}
		for (size_t i = 0; i < kinds[k].flows; i++)
			eesp_sender_free(s[i]);
		for (int i = 0; i < 2; i++) {
			eesp_receiver_free(r[i]);
			eesp_group_free(g[i]);
		}
	}
	printf("     of %llu packets %llu were opened, %llu went to Go\n", (unsigned long long)all,
	       (unsigned long long)opened, (unsigned long long)by_cgo);
	CHECK(opened > all / 2 && by_cgo * 20 < all && kept != 0);
}

/* Only authentic packets change what is kept, and their keys are derived once. */
static void forged_change_nothing(void)
{
	static struct sealed_packet from[BURST], copy[BURST];
	static struct seen before, after;
	eesp_group *g = tss_group(0x200, 0xffff00, 8, 3);
	eesp_sender *s[BURST];
	eesp_receiver *r = tss_receiver(&g, 1, 0);
	eesp_pkt q[BURST];
	for (size_t i = 0; i < BURST; i++)
		s[i] = tss_sender(g, 1);
	for (size_t i = 0; i < BURST; i++)
		seal_to(&from[i], s[i], i, LEN, 0);
	SAME(kept_here(r), 0);
	for (int round = 0; round < 10; round++) { /* forged ones alone: nothing is kept */
		for (size_t i = 0; i < BURST; i++) {
			q[i] = to_open(&copy[i], &from[i]);
			((uint8_t *)q[i].data)[4 + any(12)] ^= (uint8_t)(1 + any(255));
		}
		SAME(eesp_open_burst(r, q, BURST), 0);
	}
	SAME(kept_here(r), 0);
	for (int round = 0; round < 40; round++) {
		const uint64_t was = derived(g);
		for (size_t i = 0; i < BURST; i++)
			q[i] = to_open(&copy[i], &from[i]);
		SAME(eesp_open_burst(r, q, BURST), BURST);
		CHECK(round < 20 || derived(g) == was);
	}
	SAME(kept_here(r), BURST);
	for (size_t i = 0; i < TABLES; i++)
		plan_of(r)->kept[i].used = 0;
	look(r, &before);
	for (int round = 0; round < 2000; round++) { /* they evict nothing, and give no key a longer life */
		const size_t n = 1 + any(BURST);
		for (size_t i = 0; i < n; i++) {
			q[i] = to_open(&copy[i], &from[i]);
			((uint8_t *)q[i].data)[round % 2 ? q[i].len - 1 : 4 + any(12)] ^= (uint8_t)(1 + any(255));
		}
		SAME(eesp_open_burst(r, q, n), 0);
	}
	look(r, &after);
	for (size_t i = 0; i < TABLES; i++) { /* they cost credit, so that the table may rest */
		before.t[i].credit = after.t[i].credit;
		before.t[i].asleep = after.t[i].asleep;
	}
	SAME(memcmp(&before, &after, sizeof before), 0);
	uint64_t was = 0;
	for (int round = 0; round < (emulated() ? 2 : 2100); round++) {
		for (size_t i = 0; i < BURST; i++)
			q[i] = to_open(&copy[i], &from[i]);
		was = derived(g);
		SAME(eesp_open_burst(r, q, BURST), BURST);
	}
	CHECK(emulated() || derived(g) == was);
	look(r, &after);
	SAME(memcmp(&before.keys, &after.keys, sizeof before.keys), 0);
	for (size_t i = 0; i < BURST; i++)
		eesp_sender_free(s[i]);
	eesp_receiver_free(r);
	eesp_group_free(g);
}

/* A forged packet in each burst makes the others open more slowly than without kept keys: so the table rests. */
static void forged_make_rest(void)
{
	static struct sealed_packet from, copy[BURST];
	eesp_group *g = tss_group(0x209, 0, 0, 12);
	eesp_sender *s = tss_sender(g, 1);
	eesp_receiver *r = tss_receiver(&g, 1, 0);
	eesp_pkt q[BURST];
	int rested = 0;
	seal_to(&from, s, 1, LEN, 0);
	for (int round = 0; round < 300 && !rested; round++) {
		for (size_t i = 0; i < BURST; i++)
			q[i] = to_open(&copy[i], &from);
		if (round >= 100)
			((uint8_t *)q[any(BURST)].data)[4] ^= 1; /* its SSI */
		SAME(eesp_open_burst(r, q, BURST), round < 100 ? BURST : BURST - 1);
		for (size_t i = 0; i < TABLES; i++)
			rested |= plan_of(r)->kept[i].asleep > 0;
		CHECK(round >= 100 || !rested);
	}
	CHECK(rested);
	eesp_sender_free(s);
	eesp_receiver_free(r);
	eesp_group_free(g);
}

/* Far more flows than places: the table rests, and still works afterwards. */
static void many_then_few(void)
{
	enum { MANY = 300 };
	static struct sealed_packet from[MANY], copy[BURST];
	eesp_group *g = tss_group(0x201, 0xffff00, 8, 4);
	eesp_sender *s[MANY];
	eesp_receiver *r = tss_receiver(&g, 1, 0);
	eesp_pkt q[BURST];
	int rested = 0;
	uint64_t was = 0;
	for (size_t i = 0; i < MANY; i++)
		s[i] = tss_sender(g, 1);
	for (size_t i = 0; i < MANY; i++)
		seal_to(&from[i], s[i], i, LEN, 0);
	for (int round = 0; round < (emulated() ? 100 : 4500); round++) {
		const uint32_t flows = round < 1500 ? MANY : 20;
		was = derived(g);
		for (size_t i = 0; i < BURST; i++)
			q[i] = to_open(&copy[i], &from[any(flows)]);
		SAME(eesp_open_burst(r, q, BURST), BURST);
		for (size_t i = 0; i < TABLES; i++)
			rested |= plan_of(r)->kept[i].asleep > 0;
		CHECK(kept_here(r) <= KEPT_PLACES);
	}
	CHECK(rested && (emulated() || derived(g) == was));
	for (size_t i = 0; i < MANY; i++)
		eesp_sender_free(s[i]);
	eesp_receiver_free(r);
	eesp_group_free(g);
}

static void open_all(eesp_receiver *r, const struct sealed_packet *from, eesp_status status)
{
	static struct sealed_packet copy[BURST];
	eesp_pkt q[BURST];
	for (int round = 0; round < 20; round++) {
		for (size_t i = 0; i < BURST; i++)
			q[i] = to_open(&copy[i], &from[i]);
		SAME(eesp_open_burst(r, q, BURST), status == EESP_OK ? BURST : 0);
		SAME(q[BURST - 1].status, status);
	}
}

/* Kept keys are gone when the root key is, or the receiver; a key that another one replaces opens nothing. */
static void gone_with_root_key(void)
{
	static struct sealed_packet from[BURST];
	eesp_group *g = tss_group(0x202, 0xff00, 8, 5);
	eesp_sender *s = tss_sender(g, 1);
	eesp_receiver *r = tss_receiver(&g, 1, 0);
	const uint8_t other[32] = { 77 };
	for (size_t i = 0; i < BURST; i++)
		seal_to(&from[i], s, i, LEN, 0);
	open_all(r, from, EESP_OK);
	SAME(kept_here(r), 1);
	const void *keys = plan_of(r)->kept->keys;
	CHECK(is_mapped(keys));
	WORKS(eesp_group_set_key(g, 0, other, sizeof other));
	WORKS(eesp_group_wait(g, 10000));
	CHECK(!is_mapped(keys) || plan_of(r)->kept->keys == keys);
	SAME(kept_here(r), 0);
	open_all(r, from, EESP_ERR_AUTH);
	seal_to(&from[0], s, 0, LEN, 0);
	for (size_t i = 1; i < BURST; i++)
		seal_to(&from[i], s, i, LEN, 0);
	open_all(r, from, EESP_OK);
	SAME(kept_here(r), 1);
	keys = plan_of(r)->kept->keys;
	WORKS(eesp_group_remove_key(g, 0));
	WORKS(eesp_group_wait(g, 10000));
	CHECK(!is_mapped(keys));
	open_all(r, from, EESP_ERR_NO_KEY);
	WORKS(eesp_group_set_key(g, 0, other, sizeof other));
	open_all(r, from, EESP_OK);
	keys = plan_of(r)->kept->keys;
	eesp_receiver_free(r);
	CHECK(!is_mapped(keys));
	eesp_sender_free(s);
	eesp_group_free(g);
}

/* Root keys of both slots in turn: contexts are equal, keys are not. */
static void both_slots(void)
{
	static struct sealed_packet from[2][BURST];
	eesp_group *g = tss_group(0x206, 0xff00, 8, 9);
	eesp_sender *s[4];
	eesp_receiver *r = tss_receiver(&g, 1, 0);
	const uint8_t other[32] = { 78 };
	for (int i = 0; i < 4; i++)
		s[i] = tss_sender(g, 1);
	for (int k = 0; k < 2; k++) {
		for (size_t i = 0; i < BURST; i++)
			seal_to(&from[k][i], s[i % 4], i, LEN, 0);
		const uint8_t *a = from[0][0].room + EESP_TSS_LEAD_IPV4, *b = from[k][0].room + EESP_TSS_LEAD_IPV4;
		CHECK(a[0] == (b[0] ^ k) && memcmp(a + 1, b + 1, 14) == 0); /* all but the counter's last octet */
		if (k == 0)
			WORKS(eesp_group_rotate_key(g, other, sizeof other, NULL));
	}
	for (int round = 0; round < 6; round++)
		open_all(r, from[round % 2], EESP_OK);
	SAME(kept_here(r), 8);
	for (int i = 0; i < 4; i++)
		eesp_sender_free(s[i]);
	eesp_receiver_free(r);
	eesp_group_free(g);
}

/* Threads open packets of the same flows with one receiver, while its keys come and go. */
static struct {
	eesp_receiver *r;
	struct sealed_packet from[2][BURST]; /* of each root key */
	atomic_int end, turn;
	atomic_ulong opened;
} together;

static void *opens(void *arg)
{
	struct sealed_packet *copy = malloc(BURST * sizeof *copy);
	eesp_pkt q[BURST];
	(void)arg;
	CHECK(copy != NULL);
	while (!together.end)
		for (int k = 0; k < 2; k++) {
			for (size_t i = 0; i < BURST; i++)
				q[i] = to_open(&copy[i], &together.from[k][i]);
			eesp_open_burst(together.r, q, BURST);
			for (size_t i = 0; i < BURST; i++) {
				CHECK(q[i].status == EESP_OK || q[i].status == EESP_ERR_AUTH ||
				      q[i].status == EESP_ERR_NO_KEY);
				if (q[i].status == EESP_OK) {
					CHECK(filled(q[i].out, i, LEN));
					together.opened++;
				}
			}
		}
	free(copy);
	return NULL;
}

static void threads_together(void)
{
	eesp_group *g = tss_group(0x203, 0xff0, 4, 6);
	eesp_sender *s[2][8];
	pthread_t t[6];
	for (int k = 0; k < 2; k++) {
		const uint8_t key[32] = { 60, (uint8_t)k };
		WORKS(eesp_group_set_key(g, 0, key, sizeof key));
		for (int i = 0; i < 8; i++)
			s[k][i] = tss_sender(g, 1);
		for (size_t i = 0; i < BURST; i++)
			seal_to(&together.from[k][i], s[k][i % 8], i, LEN, 0);
	}
	together.r = tss_receiver(&g, 1, 0);
	for (size_t i = 0; i < COUNT(t); i++)
		CHECK(pthread_create(&t[i], NULL, opens, NULL) == 0);
	for (int round = 0; round < (emulated() ? 20 : 300); round++) {
		const uint8_t key[32] = { 60, round & 1 };
		if (round % 10 == 9)
			WORKS(eesp_group_remove_key(g, 0));
		WORKS(eesp_group_set_key(g, 0, key, sizeof key));
		usleep(2000);
	}
	together.end = 1;
	for (size_t i = 0; i < COUNT(t); i++)
		CHECK(pthread_join(t[i], NULL) == 0);
	CHECK(together.opened > 0);
	for (int k = 0; k < 2; k++)
		for (int i = 0; i < 8; i++)
			eesp_sender_free(s[k][i]);
	eesp_receiver_free(together.r);
	eesp_group_free(g);
}

/* The vector registers, as a call has left them. */
static uint8_t saved[32 * 64] __attribute__((aligned(64)));

#define ALL(f) f(0) f(1) f(2) f(3) f(4) f(5) f(6) f(7) f(8) f(9) f(10) f(11) f(12) f(13) f(14) f(15)
#define MORE(f) f(16) f(17) f(18) f(19) f(20) f(21) f(22) f(23) f(24) f(25) f(26) f(27) f(28) f(29) f(30) f(31)
static inline __attribute__((always_inline)) void save(void)
{
#if defined(__x86_64__) /* with AVX-512: without it no keys are kept */
#define REGISTER(n) "vmovdqu64 %%zmm" #n ", " #n "*64(%0)\n"
#else
#define REGISTER(n) "str q" #n ", [%0, #" #n "*16]\n"
#endif
	__asm__ volatile(ALL(REGISTER) MORE(REGISTER)::"r"(saved) : "memory");
}

static inline __attribute__((always_inline)) void clear(void)
{
#if defined(__x86_64__)
#define CLEAR(n) "vpxord %%zmm" #n ", %%zmm" #n ", %%zmm" #n "\n"
	__asm__ volatile(ALL(CLEAR) MORE(CLEAR)::: "memory");
#else /* the others have what functions preserve */
#define CLEAR(n) "movi v" #n ".2d, #0\n"
	__asm__ volatile(CLEAR(0) CLEAR(1) CLEAR(2) CLEAR(3) CLEAR(4) CLEAR(5) CLEAR(6) CLEAR(7) MORE(CLEAR)
			 ::: "memory");
#endif
}

/* No part of a kept key, nor of what is added to nonces, is in a register afterwards: neither when keys are added to
 * the table, nor when they are used. */
static void none_in_registers(void)
{
	static struct sealed_packet from[BURST], copy[BURST];
	static struct seen is;
	eesp_group *g = tss_group(0x207, 0xffff00, 8, 10);
	eesp_sender *s[BURST];
	eesp_receiver *r = tss_receiver(&g, 1, 0);
	eesp_pkt q[BURST];
	for (size_t i = 0; i < BURST; i++) {
		s[i] = tss_sender(g, 1);
		seal_to(&from[i], s[i], i, LEN, 0);
	}
	for (int round = 0; round < 20; round++) {
		const size_t n = round < 10 ? 1 + (size_t)round : BURST;
		for (size_t i = 0; i < n; i++)
			q[i] = to_open(&copy[i], &from[i]);
		clear();
		const size_t good = eesp_open_burst(r, q, n);
		save();
		SAME(good, n);
		look(r, &is);
		for (size_t at = 0; at < sizeof is.keys; at += 8) {
			const uint8_t *part = (const uint8_t *)is.keys + at;
			if (!all_are(part, 4, 0) && !all_are(part + 4, 4, 0))
				CHECK(memmem(saved, sizeof saved, part, 8) == NULL);
		}
	}
	SAME(kept_here(r), BURST);
	for (size_t i = 0; i < BURST; i++)
		eesp_sender_free(s[i]);
	eesp_receiver_free(r);
	eesp_group_free(g);
}

/* Each place is in one list at most, in that of its hash, and all lists end. */
static void lists_are_right(eesp_receiver *r)
{
	for (size_t i = 0; i < TABLES; i++) {
		const struct eesp_kept *t = &plan_of(r)->kept[i];
		uint32_t found = 0;
		for (size_t h = 0; h < COUNT(t->first); h++)
			for (size_t at = t->first[h]; at != 0; at = t->of[at - 1].next) {
				CHECK(at <= KEPT_PLACES && t->of[at - 1].hash == h);
				CHECK((found >> (at - 1) & 1) == 0);
				found |= UINT32_C(1) << (at - 1);
			}
	}
}

/* Keys that come together have different places, also where nearly all others are in use: after 32 flows came and
 * another one took the first place, all old ones but those of one or two places are used, and more flows come. */
static void places_apart(void)
{
	enum { NEW = KEPT_PLACES + 1, ALL = NEW + 4 };
	static struct sealed_packet from[ALL], copy[ALL];
	eesp_group *g = tss_group(0x208, 0xffff00, 8, 11);
	eesp_sender *s[ALL];
	eesp_pkt q[ALL];
	for (size_t i = 0; i < ALL; i++) {
		s[i] = tss_sender(g, 1);
		seal_to(&from[i], s[i], i, LEN, 0);
	}
	for (size_t unused = 1; unused < KEPT_PLACES; unused++)
		for (size_t two = 0; two < 2; two++)
			for (size_t n = 1; n <= ALL - NEW; n++) {
				eesp_receiver *r = tss_receiver(&g, 1, 0);
				size_t m = 0;
				for (size_t i = 0; i < NEW; i++) {
					q[0] = to_open(&copy[0], &from[i]);
					SAME(eesp_open_burst(r, q, 1), 1);
				}
				for (size_t i = 1; i < KEPT_PLACES; i++)
					if (i != unused && i != unused + two) {
						q[m] = to_open(&copy[m], &from[i]);
						m++;
					}
				SAME(eesp_open_burst(r, q, m), m);
				lists_are_right(r);
				for (int again = 0; again < 2; again++) {
					const uint64_t was = derived(g);
					for (size_t i = 0; i < n; i++)
						q[i] = to_open(&copy[i], &from[NEW + i]);
					SAME(eesp_open_burst(r, q, n), n);
					lists_are_right(r);
					CHECK(!again || derived(g) == was);
				}
				eesp_receiver_free(r);
			}
	for (size_t i = 0; i < ALL; i++)
		eesp_sender_free(s[i]);
	eesp_group_free(g);
}

/* Where little memory can be locked, receivers keep no keys, and open packets as well. */
static void without_memory(void)
{
	static struct sealed_packet from[BURST];
	struct rlimit was, less;
	char line[256];
	unsigned long locked = 0;
	FILE *f = fopen("/proc/self/status", "r");
	CHECK(f != NULL);
	while (fgets(line, sizeof line, f) != NULL)
		sscanf(line, "VmLck: %lu", &locked);
	CHECK(fclose(f) == 0 && locked > 256);
	CHECK(getrlimit(RLIMIT_MEMLOCK, &was) == 0);
	less = was;
	less.rlim_cur = (locked + 256) * 1024;
	if (less.rlim_cur > was.rlim_max)
		return;
	eesp_group *g = tss_group(0x204, 0xff00, 8, 7);
	eesp_sender *s = tss_sender(g, 1);
	CHECK(setrlimit(RLIMIT_MEMLOCK, &less) == 0);
	eesp_receiver *r = tss_receiver(&g, 1, 0);
	CHECK(plan_of(r) != NULL && plan_of(r)->kept == NULL);
	for (size_t i = 0; i < BURST; i++)
		seal_to(&from[i], s, i, LEN, 0);
	open_all(r, from, EESP_OK);
	CHECK(setrlimit(RLIMIT_MEMLOCK, &was) == 0);
	eesp_sender_free(s);
	eesp_receiver_free(r);
	eesp_group_free(g);
}

int main(void)
{
	eesp_group *g = tss_group(0x205, 0xff00, 8, 8);
	eesp_receiver *r = tss_receiver(&g, 1, 0);
	const int here = plan_of(r) != NULL && plan_of(r)->kept != NULL;
	eesp_receiver_free(r);
	eesp_group_free(g);
	if (!here) {
		printf("     kept: not tested, this backend on this processor keeps no keys of tss\n");
		return 0;
	}
	TEST(as_the_general_path);
	TEST(forged_change_nothing);
	TEST(forged_make_rest);
	TEST(many_then_few);
	TEST(gone_with_root_key);
	TEST(both_slots);
	TEST(places_apart);
	TEST(none_in_registers);
	TEST(threads_together);
	TEST(without_memory);
	return 0;
}
