/* SPDX-License-Identifier: BSD-3-Clause */
/* Data keys for an end without root keys. */
#include "test.h"

/* The group opens what the holder of a data key seals, and the holder what the group seals. */
static void holders(void)
{
	for (uint32_t aead = 0; aead < 2; aead++)
		for (size_t v = 0; v < COUNT(all_v); v++)
			for (int options = 0; options < 2; options++)
				for (int generation = 0; generation < (options ? 3 : 1); generation++) {
					eesp_group *g = new_group(aead, 7);
					eesp_sender *s = new_sender(g, all_v[v], options ? EESP_SENDER_OPTIONS : 0);
					eesp_receiver *r = new_receiver(g), *held;
					eesp_data_key k;
					eesp_pkt p = packet(NULL, 0, 0, 0);
					static uint64_t id = 0x5000;
					eesp_context c = { .id = ++id, .epoch = 3, .v = all_v[v],
							   .generation = (uint8_t)generation, .addr = p.addr };
					WORKS(eesp_data_key_export(g, &c, options, &k));
					SAME(k.key_len, aead ? 32 : 16);
					SAME(k.options_len, options ? 108 : 0);
					CHECK(k.id == c.id && k.epoch == 3 && k.v == c.v);
					CHECK(all_are(k.key + k.key_len, sizeof k.key - k.key_len, 0));
					uint8_t derived[32];
					WORKS(eesp_derive_keys(g, &c, 1, derived, k.key_len));
					CHECK(memcmp(derived, k.key, k.key_len) == 0);
					WORKS(eesp_receiver_new_with_key(&k, NULL, &held));
					eesp_sender_config sc = EESP_SENDER_CONFIG_INIT;
					sc.counter_mode = EESP_COUNTER_EXPLICIT;
					eesp_sender *holder;
					WORKS(eesp_sender_new_with_key(&k, &sc, &holder));
					SAME(eesp_sender_header_len(holder), eesp_sender_header_len(s));
					SAME(one_packet(holder, r), EESP_OK);
					SAME(one_packet(holder, held), EESP_OK);
					/* It refuses packets of other contexts. */
					SAME(one_packet(s, held), EESP_ERR_CONTEXT);
					eesp_sender_free(holder);
					eesp_receiver_free(held);
					eesp_receiver_free(r);
					eesp_sender_free(s);
					eesp_group_free(g);
				}
}

/* If the key depends on addresses, packets with other addresses are refused. */
static void other_address(void)
{
	eesp_group *g = new_group(1, 1);
	eesp_receiver *r = new_receiver(g), *held;
	uint8_t room[200];
	eesp_pkt p = packet(room + 64, 20, 64, 16);
	eesp_context c = { .id = 0x6000, .epoch = 3, .v = EESP_V_ID_SRC, .addr = p.addr };
	eesp_data_key k;
	eesp_sender *holder;
	eesp_sender_config sc = EESP_SENDER_CONFIG_INIT;
	sc.counter_mode = EESP_COUNTER_EXPLICIT;
	WORKS(eesp_data_key_export(g, &c, 1, &k));
	CHECK(memcmp(k.addr.src, p.addr.src, 16) == 0 && all_are(k.addr.dst, 16, 0));
	WORKS(eesp_sender_new_with_key(&k, &sc, &holder));
	WORKS(eesp_receiver_new_with_key(&k, NULL, &held));
	fill(p.data, 1, 20);
	SAME(eesp_seal_burst(holder, &p, 1), 1);
	eesp_pkt q = sealed(&p);
	q.addr.src[3] ^= 1;
	/* The ICV is right under the held key, so the library must compare the address. */
	SAME(eesp_open_burst(held, &q, 1), 0);
	SAME(q.status, EESP_ERR_CONTEXT);
	SAME(eesp_open_burst(r, &q, 1), 0);
	SAME(q.status, EESP_ERR_AUTH);
	eesp_sender_free(holder);
	eesp_receiver_free(held);
	eesp_receiver_free(r);
	eesp_group_free(g);
}

/* A held key stays valid after the group is freed, and after one rotation of root keys
 * for packets with options. */
static void outlives(void)
{
	eesp_group *g = new_group(0, 1);
	eesp_receiver *r = new_receiver(g);
	eesp_context c = { .id = 0x7000, .epoch = 9 };
	eesp_data_key k;
	eesp_sender *holder;
	eesp_sender_config sc = EESP_SENDER_CONFIG_INIT;
	sc.counter_mode = EESP_COUNTER_EXPLICIT;
	WORKS(eesp_data_key_export(g, &c, 1, &k));
	WORKS(eesp_sender_new_with_key(&k, &sc, &holder));
	eesp_data_key_wipe(&k);
	CHECK(all_are(&k, sizeof k, 0));
	SAME(one_packet(holder, r), EESP_OK);
	WORKS(eesp_group_rotate(g, 0, 13, NULL));
	SAME(one_packet(holder, r), EESP_OK);
	WORKS(eesp_group_rotate(g, 0, 14, NULL));
	SAME(one_packet(holder, r), EESP_ERR_NO_KEY);
	eesp_group_free(g);
	SAME(one_packet(holder, r), EESP_ERR_NO_KEY);
	eesp_receiver_free(r);
	eesp_sender_free(holder);
}

static void reflection(void)
{
	eesp_group *g = new_group(0, 1);
	eesp_sender *s = new_sender(g, 0, 0), *t = new_sender(g, EESP_V_LONG_ID, 0);
	uint8_t room[200];
	eesp_pkt p = packet(room + 64, 4, 64, 16);
	uint64_t own[5] = { 99, 5, 0, UINT64_MAX, 1 };
	SAME(eesp_seal_burst(s, &p, 1), 1);
	own[2] = p.id;
	eesp_receiver_config c = EESP_RECEIVER_CONFIG_INIT;
	eesp_receiver *r;
	c.own_ids = own;
	c.own_id_count = COUNT(own);
	WORKS(eesp_receiver_new(&g, 1, &c, &r));
	memset(own, 0, sizeof own); /* copied */
	SAME(one_packet(s, r), EESP_ERR_REFLECTED);
	SAME(one_packet(t, r), EESP_OK);
	eesp_receiver_free(r);
	eesp_sender_free(s);
	eesp_sender_free(t);
	eesp_group_free(g);
}

int main(void)
{
	TEST(holders);
	TEST(other_address);
	TEST(outlives);
	TEST(reflection);
	return 0;
}
