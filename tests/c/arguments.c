/* SPDX-License-Identifier: BSD-3-Clause */
/* Wrong arguments are refused with the right status, and nothing is written. */
#include "test.h"

#include <pthread.h>

/* A place for an output handle that must not be written. */
#define MARK(type) ((type *)(uintptr_t)0x5eed)

#define UNWRITTEN(want, type, call, out)                                       \
	do {                                                                   \
		type *out = MARK(type);                                        \
		GIVES(want, call);                                             \
		CHECK(out == MARK(type));                                      \
	} while (0)

static struct kit kit;

static void null_objects(void)
{
	uint8_t b[256] = { 0 };
	size_t n = 77;
	eesp_root_key_info info;
	eesp_stats stats;
	eesp_context x = { .levels = 1 };
	eesp_data_key key;
	eesp_sender_config sc = EESP_SENDER_CONFIG_INIT;
	uint64_t index[3] = { 1, 2, 3 };
	memset(&info, CANARY, sizeof info);
	memset(&stats, CANARY, sizeof stats);
	memset(&key, CANARY, sizeof key);
	memset(b, CANARY, sizeof b);
	GIVES(EESP_ERR_ARGUMENT, eesp_group_new(NULL, NULL));
	GIVES(EESP_ERR_ARGUMENT, eesp_group_set_root_key_der(NULL, 0, b, 10));
	GIVES(EESP_ERR_ARGUMENT, eesp_group_set_root_key(NULL, 0, b, 16, index, RING(b)));
	GIVES(EESP_ERR_ARGUMENT, eesp_group_generate_root_key(NULL, 0, b, 16));
	GIVES(EESP_ERR_ARGUMENT, eesp_group_get_root_key_der(NULL, 0, b, &n));
	GIVES(EESP_ERR_ARGUMENT, eesp_group_rotate(NULL, 0, 1, b));
	GIVES(EESP_ERR_ARGUMENT, eesp_group_remove_root_key(NULL, 0));
	GIVES(EESP_ERR_ARGUMENT, eesp_group_set_default_levels(NULL, 1));
	GIVES(EESP_ERR_ARGUMENT, eesp_group_get_root_key_info(NULL, 0, &info));
	GIVES(EESP_ERR_ARGUMENT, eesp_derive_keys(NULL, &x, 1, b, 16));
	GIVES(EESP_ERR_ARGUMENT, eesp_data_key_export(NULL, &x, 0, &key));
	UNWRITTEN(EESP_ERR_ARGUMENT, eesp_sender, eesp_sender_new(NULL, &sc, &s), s);
	UNWRITTEN(EESP_ERR_ARGUMENT, eesp_sender, eesp_sender_new_with_key(NULL, &sc, &s), s);
	GIVES(EESP_ERR_ARGUMENT, eesp_sender_stats(NULL, &stats));
	UNWRITTEN(EESP_ERR_ARGUMENT, eesp_receiver, eesp_receiver_new(NULL, 1, NULL, &r), r);
	UNWRITTEN(EESP_ERR_ARGUMENT, eesp_receiver, eesp_receiver_new_with_key(NULL, NULL, &r), r);
	GIVES(EESP_ERR_ARGUMENT, eesp_receiver_stats(NULL, &stats));
	UNWRITTEN(EESP_ERR_ARGUMENT, eesp_proxy, eesp_proxy_new(NULL, kit.sender, &p), p);
	UNWRITTEN(EESP_ERR_ARGUMENT, eesp_proxy, eesp_proxy_new(kit.receiver, NULL, &p), p);
	SAME(eesp_sender_header_len(NULL), 0);
	SAME(eesp_sender_next_tsc(NULL), 0);
	SAME(eesp_backend_supported(NULL), 0);
	eesp_group_free(NULL);
	eesp_sender_free(NULL);
	eesp_receiver_free(NULL);
	eesp_proxy_free(NULL);
	eesp_data_key_wipe(NULL);
	eesp_thread_keep_warm();

	eesp_pkt p = packet(b, 10, 0, 0), was = p;
	SAME(eesp_seal_burst(NULL, &p, 1), 0);
	SAME(eesp_open_burst(NULL, &p, 1), 0);
	SAME(eesp_proxy_burst(NULL, &p, 1), 0);
	CHECK(memcmp(&p, &was, sizeof p) == 0);
	SAME(eesp_seal_burst(kit.sender, NULL, 5), 0);
	SAME(eesp_open_burst(kit.receiver, NULL, 5), 0);
	SAME(eesp_seal_burst(kit.sender, NULL, 0), 0);
	SAME(eesp_seal_burst(kit.sender, &p, 0), 0);
	/* More packets than fit in memory are refused. */
	static const size_t too_many[] = { SIZE_MAX / 256 + 1, SIZE_MAX / 2, SIZE_MAX };
	eesp_proxy *proxy;
	WORKS(eesp_proxy_new(kit.receiver, kit.sender, &proxy));
	for (size_t i = 0; i < COUNT(too_many); i++) {
		SAME(eesp_seal_burst(kit.sender, &p, too_many[i]), 0);
		SAME(eesp_open_burst(kit.receiver, &p, too_many[i]), 0);
		SAME(eesp_proxy_burst(proxy, &p, too_many[i]), 0);
	}
	eesp_proxy_free(proxy);
	CHECK(memcmp(&p, &was, sizeof p) == 0);
	CHECK(n == 77 && all_are(b, sizeof b, CANARY) && all_are(&info, sizeof info, CANARY) &&
	      all_are(&stats, sizeof stats, CANARY) && all_are(&key, sizeof key, CANARY));
}

static void null_pointers(void)
{
	eesp_context x = { .levels = 1 };
	eesp_data_key key;
	uint8_t b[3 * EESP_ROOT_KEY_LEN] = { 0 };
	uint64_t index[3] = { 1, 2, 3 };
	eesp_sender_config sc = EESP_SENDER_CONFIG_INIT;
	eesp_group *g = kit.group;
	GIVES(EESP_ERR_ARGUMENT, eesp_group_set_root_key_der(g, 0, NULL, 100));
	GIVES(EESP_ERR_ARGUMENT, eesp_group_set_root_key(g, 0, NULL, 16, index, RING(b)));
	GIVES(EESP_ERR_ARGUMENT, eesp_group_set_root_key(g, 0, b, 16, NULL, RING(b)));
	GIVES(EESP_ERR_ARGUMENT, eesp_group_set_root_key(g, 0, b, 16, index, NULL));
	GIVES(EESP_ERR_ARGUMENT, eesp_group_generate_root_key(g, 0, NULL, 16));
	GIVES(EESP_ERR_ARGUMENT, eesp_group_get_root_key_der(g, 0, b, NULL));
	GIVES(EESP_ERR_ARGUMENT, eesp_group_get_root_key_info(g, 0, NULL));
	GIVES(EESP_ERR_ARGUMENT, eesp_derive_keys(g, NULL, 1, b, 16));
	GIVES(EESP_ERR_ARGUMENT, eesp_derive_keys(g, &x, 1, NULL, 16));
	WORKS(eesp_derive_keys(g, NULL, 0, NULL, 0));
	GIVES(EESP_ERR_ARGUMENT, eesp_data_key_export(g, NULL, 0, &key));
	GIVES(EESP_ERR_ARGUMENT, eesp_data_key_export(g, &x, 0, NULL));
	WORKS(eesp_data_key_export(g, &x, 0, &key));
	UNWRITTEN(EESP_ERR_ARGUMENT, eesp_sender, eesp_sender_new(g, NULL, &s), s);
	GIVES(EESP_ERR_ARGUMENT, eesp_sender_new(g, &sc, NULL));
	GIVES(EESP_ERR_ARGUMENT, eesp_sender_new_with_key(&key, &sc, NULL));
	eesp_sender *keyed = NULL; /* configurations are optional here */
	eesp_receiver *opens = NULL;
	WORKS(eesp_sender_new_with_key(&key, NULL, &keyed));
	WORKS(eesp_receiver_new_with_key(&key, NULL, &opens));
	eesp_sender_free(keyed);
	eesp_receiver_free(opens);
	GIVES(EESP_ERR_ARGUMENT, eesp_sender_stats(kit.sender, NULL));
	GIVES(EESP_ERR_ARGUMENT, eesp_receiver_new(&g, 1, NULL, NULL));
	GIVES(EESP_ERR_ARGUMENT, eesp_receiver_new_with_key(&key, NULL, NULL));
	GIVES(EESP_ERR_ARGUMENT, eesp_receiver_stats(kit.receiver, NULL));
	eesp_group *many[EESP_MAX_GROUPS + 1];
	for (size_t i = 0; i < COUNT(many); i++)
		many[i] = g;
	UNWRITTEN(EESP_ERR_ARGUMENT, eesp_receiver, eesp_receiver_new(many, 0, NULL, &r), r);
	UNWRITTEN(EESP_ERR_ARGUMENT, eesp_receiver, eesp_receiver_new(many, EESP_MAX_GROUPS + 1, NULL, &r), r);
	many[5] = NULL;
	UNWRITTEN(EESP_ERR_ARGUMENT, eesp_receiver, eesp_receiver_new(many, 6, NULL, &r), r);
	eesp_receiver *r;
	WORKS(eesp_receiver_new(many, 5, NULL, &r));
	eesp_receiver_free(r);
	GIVES(EESP_ERR_ARGUMENT, eesp_proxy_new(kit.receiver, kit.sender, NULL));
}

/* A handle of one kind where another is asked for. */
static void wrong_kind(void)
{
	void *group = kit.group, *sender = kit.sender, *receiver = kit.receiver;
	eesp_proxy *proxy;
	WORKS(eesp_proxy_new(kit.receiver, kit.sender, &proxy));
	eesp_sender_config sc = EESP_SENDER_CONFIG_INIT;
	eesp_stats stats;
	size_t n = 0;
	GIVES(EESP_ERR_ARGUMENT, eesp_group_get_root_key_der(sender, 0, NULL, &n));
	GIVES(EESP_ERR_ARGUMENT, eesp_group_remove_root_key(receiver, 0));
	UNWRITTEN(EESP_ERR_ARGUMENT, eesp_sender, eesp_sender_new(receiver, &sc, &s), s);
	eesp_group *groups[] = { kit.group, sender };
	UNWRITTEN(EESP_ERR_ARGUMENT, eesp_receiver, eesp_receiver_new(groups, 2, NULL, &r), r);
	UNWRITTEN(EESP_ERR_ARGUMENT, eesp_proxy, eesp_proxy_new(sender, receiver, &p), p);
	GIVES(EESP_ERR_ARGUMENT, eesp_sender_stats(group, &stats));
	GIVES(EESP_ERR_ARGUMENT, eesp_receiver_stats((void *)proxy, &stats));
	SAME(eesp_sender_header_len(group), 0);
	SAME(eesp_sender_next_tsc(receiver), 0);
	eesp_pkt p[2] = { packet(&n, 4, 0, 0), packet(&n, 4, 0, 0) };
	SAME(eesp_seal_burst(receiver, p, 2), 0);
	CHECK(p[0].status == EESP_ERR_ARGUMENT && p[1].status == EESP_ERR_ARGUMENT);
	SAME(eesp_open_burst(sender, p, 2), 0);
	SAME(eesp_proxy_burst(group, p, 2), 0);
	SAME(p[1].status, EESP_ERR_ARGUMENT);
	/* Freeing a handle as another kind does nothing. */
	eesp_group_free(sender);
	eesp_sender_free(group);
	eesp_receiver_free((void *)proxy);
	eesp_proxy_free(receiver);
	SAME(one_packet(kit.sender, kit.receiver), EESP_OK);
	eesp_proxy_free(proxy);
}

/* Fills in a configuration of another size; least is that of version 1.0. */
#define SIZES(type, init, new, least)                                                                     \
	do {                                                                                              \
		struct { type c; uint8_t more[4096]; } x;                                                 \
		const type start = init;                                                                  \
		memset(&x, 0, sizeof x);                                                                  \
		x.c = start;                                                                              \
		for (uint32_t n = 0; n < (least); n++) {                                                  \
			x.c.struct_size = n;                                                              \
			GIVES(EESP_ERR_ARGUMENT, new(&x.c));                                              \
		}                                                                                         \
		x.c.struct_size = (least);                                                                \
		WORKS(new(&x.c));                                                                         \
		x.c.struct_size = sizeof(type) + 8; /* of a newer header, its new fields zero */          \
		WORKS(new(&x.c));                                                                         \
		x.more[7] = 1;                                                                            \
		GIVES(EESP_ERR_UNSUPPORTED, new(&x.c));                                                   \
		x.more[7] = 0, x.more[8] = 1; /* beyond struct_size */                                    \
		WORKS(new(&x.c));                                                                         \
		x.c.struct_size = UINT32_MAX;                                                             \
		GIVES(EESP_ERR_UNSUPPORTED, new(&x.c));                                                   \
		x.c = start;                                                                              \
		for (size_t i = 0; i < COUNT(x.c.reserved); i++) {                                        \
			x.c.reserved[i] = (uint64_t)1 << 63;                                              \
			GIVES(EESP_ERR_ARGUMENT, new(&x.c));                                              \
			x.c.reserved[i] = 0;                                                              \
		}                                                                                         \
		WORKS(new(&x.c));                                                                         \
	} while (0)

static eesp_status try_group(const eesp_group_config *c)
{
	eesp_group *g = MARK(eesp_group);
	eesp_status st = eesp_group_new(c, &g);
	CHECK((st == EESP_OK) == (g != MARK(eesp_group)));
	if (st == EESP_OK)
		eesp_group_free(g);
	return st;
}

static eesp_status try_sender(const eesp_sender_config *c)
{
	eesp_sender *s = MARK(eesp_sender);
	eesp_status st = eesp_sender_new(kit.group, c, &s);
	CHECK((st == EESP_OK) == (s != MARK(eesp_sender)));
	if (st == EESP_OK)
		eesp_sender_free(s);
	return st;
}

static eesp_status try_receiver(const eesp_receiver_config *c)
{
	eesp_receiver *r = MARK(eesp_receiver);
	eesp_status st = eesp_receiver_new(&kit.group, 1, c, &r);
	CHECK((st == EESP_OK) == (r != MARK(eesp_receiver)));
	if (st == EESP_OK)
		eesp_receiver_free(r);
	return st;
}

static void struct_sizes(void)
{
	SIZES(eesp_group_config, EESP_GROUP_CONFIG_INIT, try_group, 48);
	SIZES(eesp_sender_config, EESP_SENDER_CONFIG_INIT, try_sender, 96);
	SIZES(eesp_receiver_config, EESP_RECEIVER_CONFIG_INIT, try_receiver, 64);
}

/* The draft of eesp that a group uses: -02 in programs that were built with eesp.h 1.0,
 * -03 in programs that are built now and do not ask. Only -02 has Flow Identifiers. */
static void drafts(void)
{
	static const struct { uint32_t size; uint8_t draft; eesp_status flow; } cases[] = {
		{ 48, 0, EESP_OK },
		{ 48, EESP_DRAFT_03, EESP_OK }, /* the field lies behind struct_size */
		{ sizeof(eesp_group_config), EESP_DRAFT_DEFAULT, EESP_ERR_ARGUMENT },
		{ sizeof(eesp_group_config), EESP_DRAFT_02, EESP_OK },
		{ sizeof(eesp_group_config), EESP_DRAFT_03, EESP_ERR_ARGUMENT },
		{ sizeof(eesp_group_config) + 8, EESP_DRAFT_DEFAULT, EESP_ERR_ARGUMENT },
	};
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct { eesp_group_config c; uint64_t more; } x = { .c = EESP_GROUP_CONFIG_INIT, .more = 0 };
		x.c.profile = EESP_PROFILE_EESP;
		x.c.mode = EESP_SSKDF_HKDF_SHA2_256;
		x.c.domain = 0xd0000000u + (uint32_t)i;
		x.c.draft = cases[i].draft;
		x.c.struct_size = cases[i].size;
		eesp_group *g = NULL;
		WORKS(eesp_group_new(&x.c, &g));
		eesp_sender_config c = EESP_SENDER_CONFIG_INIT;
		eesp_sender *s = NULL;
		c.extra = (const uint8_t *)"flow";
		c.extra_len = 4;
		c.counter_mode = EESP_COUNTER_EXPLICIT;
		GIVES(cases[i].flow, eesp_sender_new(g, &c, &s));
		eesp_sender_free(s);
		eesp_group_free(g);
	}
	eesp_group_config c = EESP_GROUP_CONFIG_INIT;
	c.profile = EESP_PROFILE_EESP;
	c.mode = EESP_SSKDF_NONE;
	c.encap = EESP_ENCAP_TUNNEL;
	WORKS(try_group(&c));
	c.reserved2[5] = 1;
	GIVES(EESP_ERR_ARGUMENT, try_group(&c));
	c.reserved2[5] = 0, c.encap = 4;
	GIVES(EESP_ERR_ARGUMENT, try_group(&c));
	c.encap = EESP_ENCAP_TUNNEL, c.draft = EESP_DRAFT_02;
	GIVES(EESP_ERR_ARGUMENT, try_group(&c));
	c.draft = 1, c.encap = 0;
	GIVES(EESP_ERR_ARGUMENT, try_group(&c));
	CHECK(strstr(eesp_last_error(), "draft"));
	c.draft = EESP_DRAFT_03, c.profile = EESP_PROFILE_PSP, c.mode = 0; /* psp does not read draft */
	GIVES(EESP_ERR_ARGUMENT, try_group(&c));
}

/* The text says more than the status. */
static int has_details(eesp_status s)
{
	return *eesp_last_error() && strcmp(eesp_last_error(), eesp_strerror(s)) != 0;
}

static void group_settings(void)
{
	eesp_group_config c = EESP_GROUP_CONFIG_INIT;
	static const uint32_t bad[] = { 2, 255, 256, 257, UINT32_MAX };
	WORKS(try_group(NULL));
	for (size_t i = 0; i < COUNT(bad); i++) {
		c.aead = bad[i];
		GIVES(EESP_ERR_ARGUMENT, try_group(&c));
		c.aead = 1;
		c.combiner = bad[i];
		GIVES(EESP_ERR_ARGUMENT, try_group(&c));
		c.combiner = 1;
		c.profile = bad[i] + 2; /* 4 and more */
		GIVES(bad[i] + 2 > 3 ? EESP_ERR_UNSUPPORTED : EESP_ERR_ARGUMENT, try_group(&c));
		c.profile = 0;
	}
	WORKS(try_group(&c));
	c.rekey_shift = 1; /* which the profile does not read */
	GIVES(EESP_ERR_ARGUMENT, try_group(&c));
	CHECK(strstr(eesp_last_error(), "rekey shift"));
}

static void sender_settings(void)
{
	static const uint8_t bad_v[] = { 3, 4, 5, 6, 7, 11, 15, 16, 0x80, 0xff };
#define TRY(want, ...)                                                         \
	do {                                                                   \
		eesp_sender_config c = EESP_SENDER_CONFIG_INIT;                \
		c.id = 1;                                                      \
		__VA_ARGS__;                                                   \
		GIVES(want, try_sender(&c));                                   \
		CHECK(want == EESP_OK || has_details(want));                   \
	} while (0)
	for (size_t i = 0; i < COUNT(bad_v); i++)
		TRY(EESP_ERR_ARGUMENT, c.v = bad_v[i]);
	for (int i = 2; i < 32; i++)
		TRY(EESP_ERR_ARGUMENT, c.flags = 1u << i);
	TRY(EESP_OK, c.id = UINT32_MAX);
	TRY(EESP_ERR_ARGUMENT, c.id = UINT64_C(1) << 32);
	TRY(EESP_OK, c.id = UINT64_MAX; c.v = EESP_V_LONG_ID);
	TRY(EESP_ERR_ARGUMENT, c.levels = 8);
	TRY(EESP_ERR_ARGUMENT, c.levels = 0xff);
	TRY(EESP_OK, c.levels = EESP_LEVELS_ZONE);
	TRY(EESP_ERR_ARGUMENT, c.counter_mode = 3);
	TRY(EESP_ERR_ARGUMENT, c.counter_mode = 255);
	TRY(EESP_ERR_ARGUMENT, c.reserved1 = 1);
	TRY(EESP_ERR_ARGUMENT, c.reserved2 = 1);
	TRY(EESP_ERR_ARGUMENT, c.reserved3 = 1);
	TRY(EESP_ERR_ARGUMENT, c.extra_len = 1);
	TRY(EESP_ERR_ARGUMENT, c.extra = (const uint8_t *)"12345678");
	TRY(EESP_ERR_ARGUMENT, c.extra = (const uint8_t *)"12345678"; c.extra_len = 8);
	TRY(EESP_ERR_ARGUMENT, c.engine_bits = 17);
	TRY(EESP_ERR_ARGUMENT, c.engine = 1);
	TRY(EESP_ERR_ARGUMENT, c.engine_bits = 2; c.engine = 4);
	TRY(EESP_OK, c.engine_bits = 2; c.engine = 3);
	TRY(EESP_ERR_ARGUMENT, c.rate_log2 = 9);
	TRY(EESP_ERR_ARGUMENT, c.rate_log2 = 33);
	TRY(EESP_ERR_ARGUMENT, c.start_counter = 1);
	TRY(EESP_ERR_ARGUMENT, c.reserve_run = 1);
	TRY(EESP_ERR_ARGUMENT, c.state_path = "unused");
	TRY(EESP_ERR_ARGUMENT, c.epoch = 1);
	TRY(EESP_ERR_ARGUMENT, c.counter_mode = EESP_COUNTER_RESERVED);
	TRY(EESP_ERR_ARGUMENT, c.counter_mode = EESP_COUNTER_RESERVED; c.state_path = "");
	TRY(EESP_ERR_STATE, c.counter_mode = EESP_COUNTER_RESERVED; c.state_path = "/nowhere/at/all");
	TRY(EESP_ERR_STATE, c.counter_mode = EESP_COUNTER_RESERVED; c.state_path = "/dev/null");
	TRY(EESP_ERR_ARGUMENT, c.counter_mode = EESP_COUNTER_EXPLICIT; c.start_counter = UINT64_C(1) << 48);
	TRY(EESP_ERR_ARGUMENT, c.counter_mode = EESP_COUNTER_EXPLICIT; c.rate_log2 = 20);
	TRY(EESP_OK, c.id = 2; c.counter_mode = EESP_COUNTER_EXPLICIT; c.start_counter = (UINT64_C(1) << 48) - 1);
	TRY(EESP_ERR_CLOCK, c.flags = EESP_SENDER_FIXED_EPOCH; c.epoch_start_ns = INT64_MAX);
#undef TRY
}

static void receiver_settings(void)
{
	eesp_receiver_config c = EESP_RECEIVER_CONFIG_INIT;
	WORKS(try_receiver(NULL));
	for (int i = 1; i < 32; i++) {
		c.flags = 1u << i;
		GIVES(EESP_ERR_ARGUMENT, try_receiver(&c));
	}
	c.flags = EESP_RECEIVER_TRY_PREVIOUS;
	WORKS(try_receiver(&c));
	static const struct { uint32_t window, contexts; eesp_status want; } sizes[] = {
		{ 64, 0, EESP_OK }, { 65536, 1, EESP_OK }, { 100, 1u << 22, EESP_OK },
		{ 1, 0, EESP_ERR_ARGUMENT }, { 63, 0, EESP_ERR_ARGUMENT }, { 65537, 0, EESP_ERR_ARGUMENT },
		{ UINT32_MAX, 1, EESP_ERR_ARGUMENT }, { 64, (1u << 22) + 1, EESP_ERR_ARGUMENT },
		{ 64, UINT32_MAX, EESP_ERR_ARGUMENT }, { 65536, 1u << 22, EESP_ERR_ARGUMENT },
		{ 0, 1, EESP_ERR_ARGUMENT },
	};
	for (size_t i = 0; i < COUNT(sizes); i++) {
		c.replay_window = sizes[i].window, c.replay_contexts = sizes[i].contexts;
		GIVES(sizes[i].want, try_receiver(&c));
	}
	c.replay_window = c.replay_contexts = 0, c.engine_bits = 16;
	WORKS(try_receiver(&c));
	c.engine_bits = 17;
	GIVES(EESP_ERR_ARGUMENT, try_receiver(&c));
	c.engine_bits = 0;
	for (size_t i = 0; i < COUNT(c.reserved1); i++) {
		c.reserved1[i] = 1;
		GIVES(EESP_ERR_ARGUMENT, try_receiver(&c));
		c.reserved1[i] = 0;
	}
	c.own_id_count = 1;
	GIVES(EESP_ERR_ARGUMENT, try_receiver(&c));
	uint64_t id = 1;
	c.own_ids = &id, c.own_id_count = SIZE_MAX;
	GIVES(EESP_ERR_ARGUMENT, try_receiver(&c));
}

static void levels(void)
{
	static const int bad[] = { -1, 3, 8, 255, 256, 0x10000, INT32_MAX, INT32_MIN };
	uint8_t b[300];
	uint64_t index[3] = { 1, 2, 3 };
	eesp_root_key_info info;
	size_t n = sizeof b;
	WORKS(eesp_group_get_root_key_der(kit.group, 0, b, &n));
	for (size_t i = 0; i < COUNT(bad); i++) {
		size_t m = sizeof b;
		GIVES(EESP_ERR_ARGUMENT, eesp_group_set_root_key_der(kit.group, bad[i], b, n));
		GIVES(EESP_ERR_ARGUMENT, eesp_group_set_root_key(kit.group, bad[i], b, 16, index, RING(b)));
		GIVES(EESP_ERR_ARGUMENT, eesp_group_generate_root_key(kit.group, bad[i], b, 16));
		GIVES(EESP_ERR_ARGUMENT, eesp_group_get_root_key_der(kit.group, bad[i], b, &m));
		GIVES(EESP_ERR_ARGUMENT, eesp_group_rotate(kit.group, bad[i], 20, NULL));
		GIVES(EESP_ERR_ARGUMENT, eesp_group_remove_root_key(kit.group, bad[i]));
		GIVES(EESP_ERR_ARGUMENT, eesp_group_get_root_key_info(kit.group, bad[i], &info));
		SAME(m, sizeof b);
	}
	GIVES(EESP_ERR_ARGUMENT, eesp_group_set_default_levels(kit.group, 8));
	GIVES(EESP_ERR_ARGUMENT, eesp_group_set_default_levels(kit.group, 256));
	GIVES(EESP_ERR_ARGUMENT, eesp_group_set_default_levels(kit.group, 0x101));
	GIVES(EESP_ERR_NOT_FOUND, eesp_group_remove_root_key(kit.group, EESP_LEVEL_TASK));
	GIVES(EESP_ERR_NOT_FOUND, eesp_group_rotate(kit.group, EESP_LEVEL_TASK, 20, NULL));
	GIVES(EESP_ERR_NOT_FOUND, eesp_group_get_root_key_info(kit.group, EESP_LEVEL_TASK, &info));
	n = sizeof b;
	GIVES(EESP_ERR_NOT_FOUND, eesp_group_get_root_key_der(kit.group, EESP_LEVEL_TASK, b, &n));
	SAME(n, sizeof b);
}

static void root_keys(void)
{
	eesp_group *g = new_group(0, 1);
	uint8_t b[300], before[300], after[300];
	size_t n = sizeof before, m = sizeof after;
	uint64_t index[3] = { 1, 2, 3 };
	WORKS(eesp_group_get_root_key_der(g, 0, before, &n));
	memset(b, 7, sizeof b);
	GIVES(EESP_ERR_ROOT_KEY, eesp_group_set_root_key_der(g, 0, b, 0));
	GIVES(EESP_ERR_ROOT_KEY, eesp_group_set_root_key_der(g, 0, b, sizeof b));
	GIVES(EESP_ERR_ARGUMENT, eesp_group_set_root_key_der(g, 0, b, SIZE_MAX));
	static const size_t bad_len[] = { 0, 1, 15, 33, 255, 4096 };
	static const uint8_t id[4096];
	for (size_t i = 0; i < COUNT(bad_len); i++) {
		GIVES(EESP_ERR_ROOT_KEY, eesp_group_set_root_key(g, 0, id, bad_len[i], index, RING(b)));
		GIVES(EESP_ERR_ROOT_KEY, eesp_group_generate_root_key(g, 0, id, bad_len[i]));
	}
	GIVES(EESP_ERR_ARGUMENT, eesp_group_generate_root_key(g, 0, id, SIZE_MAX));
	for (int i = 0; i < 3; i++) { /* two that are equal modulo 256 */
		uint64_t same[3] = { 1, 2, 3 };
		same[(i + 1) % 3] = same[i] + 256;
		GIVES(EESP_ERR_ROOT_KEY, eesp_group_set_root_key(g, 0, root_id, 32, same, RING(b)));
	}
	GIVES(EESP_ERR_ROOT_KEY, eesp_group_rotate(g, 0, 12, b));
	GIVES(EESP_ERR_ROOT_KEY, eesp_group_rotate(g, 0, 11 + 256, b));
	CHECK(*eesp_last_error());
	WORKS(eesp_group_get_root_key_der(g, 0, after, &m));
	CHECK(n == m && memcmp(before, after, n) == 0); /* no refused call changed the key */
	m = SIZE_MAX; /* allowed, though careless: no limit */
	WORKS(eesp_group_get_root_key_der(g, 0, after, &m));
	SAME(m, n);
	eesp_group_free(g);
}

static void contexts(void)
{
	uint8_t out[64];
	eesp_data_key key;
	memset(&key, CANARY, sizeof key);
#define TRY(want, ...)                                                                       \
	do {                                                                                 \
		eesp_context x[2] = { { .levels = 1 }, { .levels = 1 } };                    \
		eesp_context *c = &x[1];                                                     \
		__VA_ARGS__;                                                                 \
		GIVES(want, eesp_derive_keys(kit.group, x, 2, out, 32));                     \
		if (want != EESP_ERR_ARGUMENT)                                               \
			CHECK(all_are(out, 32, 0));                                          \
		CHECK(c->reserved[2] != 0 || strstr(eesp_last_error(), "(context 1)"));      \
		GIVES(want, eesp_data_key_export(kit.group, c, 1, &key));                    \
		CHECK(has_details(want));                                                    \
		CHECK(all_are(&key, sizeof key, CANARY));                                    \
	} while (0)
	TRY(EESP_ERR_V, c->v = 3);
	TRY(EESP_ERR_V, c->v = 7);
	TRY(EESP_ERR_V, c->v = 0x10);
	TRY(EESP_ERR_NO_KEY, c->levels = 2);
	TRY(EESP_ERR_NO_KEY, c->levels = 7);
	TRY(EESP_ERR_ARGUMENT, c->levels = 8);
	TRY(EESP_ERR_ARGUMENT, c->generation = 3);
	TRY(EESP_ERR_ARGUMENT, c->id = UINT64_C(1) << 32);
	TRY(EESP_ERR_ARGUMENT, c->reserved[2] = 1);
#undef TRY
	eesp_context x = { .levels = 1 };
	memset(out, CANARY, sizeof out);
	GIVES(EESP_ERR_ARGUMENT, eesp_derive_keys(kit.group, &x, 1, out, 15));
	GIVES(EESP_ERR_ARGUMENT, eesp_derive_keys(kit.group, &x, 1, out, 17));
	GIVES(EESP_ERR_ARGUMENT, eesp_derive_keys(kit.group, &x, 1, out, 32));
	GIVES(EESP_ERR_ARGUMENT, eesp_derive_keys(kit.group, &x, 1, out, 0));
	GIVES(EESP_ERR_ARGUMENT, eesp_derive_keys(kit.group, &x, SIZE_MAX, out, 64));
	CHECK(all_are(out, sizeof out, CANARY));
}

static void data_keys(void)
{
	eesp_context x = { .id = 5, .levels = 1 };
	eesp_data_key good;
	WORKS(eesp_data_key_export(kit.group, &x, 1, &good));
#define TRY(want, ...)                                                                                          \
	do {                                                                                                    \
		eesp_data_key k = good;                                                                         \
		eesp_sender_config c = EESP_SENDER_CONFIG_INIT;                                                 \
		__VA_ARGS__;                                                                                    \
		UNWRITTEN(want, eesp_sender, eesp_sender_new_with_key(&k, &c, &s), s);                          \
		CHECK(has_details(want));                                                                       \
		UNWRITTEN(want, eesp_receiver, eesp_receiver_new_with_key(&k, NULL, &r), r);                    \
		CHECK(has_details(want));                                                                       \
	} while (0)
	TRY(EESP_ERR_V, k.v = 3);
	TRY(EESP_ERR_V, k.v = 0xff);
	TRY(EESP_ERR_ARGUMENT, k.key_len = 0);
	TRY(EESP_ERR_ARGUMENT, k.key_len = 24);
	TRY(EESP_ERR_ARGUMENT, k.key_len = 255);
	TRY(EESP_ERR_ARGUMENT, k.id = UINT64_C(1) << 32);
	TRY(EESP_ERR_ARGUMENT, k.params[1] = 1);
	TRY(EESP_ERR_ARGUMENT, k.profile = 255);
	TRY(EESP_ERR_ARGUMENT, k.domain = 1);
	TRY(EESP_ERR_ARGUMENT, k.options_len = EESP_MAX_OPTIONS + 1);
	TRY(EESP_ERR_ARGUMENT, k.options_len = 255);
	TRY(EESP_ERR_OPTION, k.options_len = (uint8_t)(good.options_len - 1));
	TRY(EESP_ERR_OPTION, k.options[0] = 0x7f);
#undef TRY
#define TRY(...)                                                                                    \
	do {                                                                                        \
		eesp_sender_config c = EESP_SENDER_CONFIG_INIT;                                     \
		__VA_ARGS__;                                                                        \
		UNWRITTEN(EESP_ERR_ARGUMENT, eesp_sender, eesp_sender_new_with_key(&good, &c, &s), s); \
	} while (0)
	TRY(c.id = 5);
	TRY(c.v = EESP_V_LONG_ID);
	TRY(c.levels = 1);
	TRY(c.flags = EESP_SENDER_OPTIONS);
#undef TRY
	eesp_data_key_wipe(&good);
	CHECK(all_are(&good, sizeof good, 0));
}

/* A sender or receiver works after its group was freed. Freed handles are not tested
 * further: their memory may belong to other objects. */
static void lifetimes(void)
{
	struct kit k = new_kit(0, 0);
	WORKS(eesp_group_set_default_levels(k.group, 0)); /* no levels: no key */
	SAME(one_packet(k.sender, k.receiver), EESP_ERR_NO_KEY);
	WORKS(eesp_group_set_default_levels(k.group, EESP_LEVELS_ZONE));
	eesp_group_free(k.group);
	SAME(one_packet(k.sender, k.receiver), EESP_OK);
	eesp_group *g = new_group(1, 7);
	SAME(one_packet(k.sender, k.receiver), EESP_OK);
	eesp_sender_free(k.sender);
	eesp_receiver_free(k.receiver);
	eesp_group_free(g);
	/* Places of freed handles are used again, for the right objects. */
	enum { N = 200 };
	static struct kit kits[N];
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < N; i++)
			kits[i] = new_kit(i & 1, all_v[i % 6]);
		for (int i = 0; i < N; i++)
			SAME(one_packet(kits[i].sender, kits[i].receiver), EESP_OK);
		for (int i = 0; i < N; i++)
			free_kit(&kits[(i * 7 + round) % N]);
	}
}

static void no_keys(void)
{
	eesp_group *g = new_group(0, 0);
	eesp_sender *s = new_sender(g, 0, 0);
	eesp_receiver *r = new_receiver(g);
	SAME(eesp_sender_header_len(s), 0);
	SAME(one_packet(s, r), EESP_ERR_NO_KEY);
	set_root_key(g, EESP_LEVEL_TASK);
	SAME(eesp_sender_header_len(s), 16);
	SAME(one_packet(s, r), EESP_OK);
	WORKS(eesp_group_remove_root_key(g, EESP_LEVEL_TASK));
	SAME(one_packet(s, r), EESP_ERR_NO_KEY);
	eesp_sender_free(s);
	eesp_receiver_free(r);
	eesp_group_free(g);
}

/* ---- Status codes and texts ---- */

static void status_texts(void)
{
	for (int i = 0; i < EESP_STATUS_COUNT; i++) {
		const char *t = eesp_strerror(-i);
		CHECK(t && *t && strcmp(t, eesp_strerror(1)) != 0);
		for (int j = 0; j < i; j++)
			CHECK(strcmp(t, eesp_strerror(-j)) != 0);
	}
	static const int unknown[] = { 1, 2, -EESP_STATUS_COUNT, -EESP_STATUS_COUNT - 1, INT32_MAX, INT32_MIN };
	for (size_t i = 0; i < COUNT(unknown); i++)
		CHECK(strcmp(eesp_strerror(unknown[i]), "unknown status") == 0);
	SAME(EESP_ERR_FLOODED, 1 - EESP_STATUS_COUNT);
}

static void *another_thread(void *arg)
{
	CHECK(strcmp(eesp_last_error(), "") == 0);
	GIVES(EESP_ERR_ARGUMENT, eesp_group_remove_root_key(kit.group, 99));
	CHECK(strstr(eesp_last_error(), "99"));
	return arg;
}

static void last_error(void)
{
	pthread_t t;
	eesp_sender_config c = EESP_SENDER_CONFIG_INIT;
	c.engine_bits = 2;
	c.engine = 9;
	GIVES(EESP_ERR_ARGUMENT, try_sender(&c));
	/* without the text of the status */
	CHECK(strcmp(eesp_last_error(), "engine 9 does not fit in 2 engine bits") == 0);
	char before[256];
	strcpy(before, eesp_last_error());
	CHECK(pthread_create(&t, NULL, another_thread, NULL) == 0 && pthread_join(t, NULL) == 0);
	SAME(one_packet(kit.sender, kit.receiver), EESP_OK);
	eesp_pkt p = packet(before, 10, 0, 0);
	SAME(eesp_seal_burst(kit.sender, &p, 1), 0); /* bursts do not set it */
	CHECK(strcmp(before, eesp_last_error()) == 0);
	/* A long text is cut. */
	char path[4000] = "/";
	memset(path + 1, 'x', sizeof path - 2);
	c = explicit_config(0);
	c.counter_mode = EESP_COUNTER_RESERVED;
	c.state_path = path;
	GIVES(EESP_ERR_STATE, try_sender(&c));
	CHECK(strlen(eesp_last_error()) > 100);
}

static void version(void)
{
	char s[32];
	SAME(eesp_version(), EESP_VERSION);
	snprintf(s, sizeof s, "%u.%u.%u", eesp_version() >> 24, eesp_version() >> 16 & 255, eesp_version() >> 8 & 255);
	CHECK(strcmp(s, eesp_version_string()) == 0);
}

static void helpers(void)
{
	static const uint8_t want[16] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 33 },
			     v4[] = { 192, 0, 2, 33 };
	uint8_t a[16];
	memset(a, CANARY, sizeof a);
	eesp_addr_from_ipv4(a, v4);
	CHECK(memcmp(a, want, 16) == 0);
	SAME(eesp_partition(NULL, 0), 0);
	for (unsigned mask = 0; mask < 64; mask++) { /* every pattern of six */
		eesp_pkt p[6];
		size_t good = 0;
		for (unsigned i = 0; i < 6; i++) {
			p[i] = packet(NULL, i, 0, 0);
			p[i].status = mask >> i & 1 ? EESP_OK : EESP_ERR_AUTH;
			good += mask >> i & 1;
		}
		SAME(eesp_partition(p, 6), good);
		unsigned seen = 0;
		for (unsigned i = 0; i < 6; i++) {
			seen |= 1u << p[i].len;
			CHECK((p[i].status == EESP_OK) == (i < good) && (mask >> p[i].len & 1) == (i < good));
			CHECK(i == 0 || i >= good || p[i].len > p[i - 1].len);
		}
		SAME(seen, 63);
	}
}

int main(void)
{
	kit = new_kit(EESP_AEAD_AES_128_GCM, EESP_V_ID);
	TEST(null_objects);
	TEST(null_pointers);
	TEST(wrong_kind);
	TEST(struct_sizes);
	TEST(drafts);
	TEST(group_settings);
	TEST(sender_settings);
	TEST(receiver_settings);
	TEST(levels);
	TEST(root_keys);
	TEST(contexts);
	TEST(data_keys);
	TEST(lifetimes);
	TEST(no_keys);
	TEST(status_texts);
	TEST(last_error);
	TEST(version);
	TEST(helpers);
	free_kit(&kit);
	return 0;
}
