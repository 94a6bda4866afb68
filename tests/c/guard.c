/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The library touches nothing outside the buffers. Packets, descriptors, keys and
 * structures lie next to pages without access, and inputs in read-only memory: a wrong
 * access is a SIGSEGV.
 */
#include "test.h"

static struct kit kit;
static uint32_t header;

static const uint32_t lengths[] = { 0,   1,   3,   4,   7,   8,    12,   15,   16,   17,   31,   32,
				    33,  47,  48,  63,  64,  65,   79,   96,   127,  128,  129,  191,
				    255, 256, 257, 511, 512, 1023, 1024, 1499, 1500, 4095, 4096, 8942 };

/* The place of n octets at the start of the memory, or at its end. */
static uint8_t *at(struct guarded g, size_t n, int end) { return end ? g.end - n : g.start; }

/* Whether the memory is unchanged except for n octets there. */
static int intact(struct guarded g, size_t n, int end)
{
	return end ? all_are(g.start, (size_t)(g.end - g.start) - n, CANARY)
		   : all_are(g.start + n, (size_t)(g.end - g.start) - n, CANARY);
}

static void in_place(void)
{
	struct guarded g = guarded(16384), d = guarded(sizeof(eesp_pkt));
	for (int end = 0; end < 2; end++)
		for (size_t i = 0; i < COUNT(lengths); i++) {
			uint32_t n = lengths[i], total = header + n + EESP_ICV_LEN;
			eesp_pkt *p = (eesp_pkt *)(void *)at(d, sizeof *p, end);
			memset(g.start, CANARY, (size_t)(g.end - g.start));
			*p = packet(at(g, total, end) + header, n, header, EESP_ICV_LEN);
			fill(p->data, i, n);
			SAME(eesp_seal_burst(kit.sender, p, 1), 1);
			CHECK(intact(g, total, end));
			*p = sealed(p);
			SAME(eesp_open_burst(kit.receiver, p, 1), 1);
			CHECK(p->out_len == n && filled(p->out, i, n) && intact(g, total, end));

			/* A forged packet's destination is zeroed, and nothing beyond it. */
			*p = packet((uint8_t *)p->out, n, header, EESP_ICV_LEN);
			SAME(eesp_seal_burst(kit.sender, p, 1), 1);
			((uint8_t *)p->out)[total - 1] ^= 1;
			*p = sealed(p);
			SAME(eesp_open_burst(kit.receiver, p, 1), 0);
			SAME(p->status, EESP_ERR_AUTH);
			CHECK(all_are((uint8_t *)p->data + header, n, 0) && intact(g, total, end));
		}
}

/* Source and destination next to a page each, the source read-only. */
static void elsewhere(void)
{
	struct guarded from = guarded(16384), to = guarded(16384), back = guarded(16384);
	for (int end = 0; end < 4; end++)
		for (size_t i = 0; i < COUNT(lengths); i++) {
			uint32_t n = lengths[i], total = header + n + EESP_ICV_LEN;
			memset(to.start, CANARY, (size_t)(to.end - to.start));
			memset(back.start, CANARY, (size_t)(back.end - back.start));
			eesp_pkt p = packet(at(from, n, end & 1), n, 0, 0);
			p.coffset = (uint8_t)(n / 4 < 5 ? n / 4 : 5);
			p.ioffset = (uint8_t)(p.coffset / 2);
			fill(p.data, i, n);
			p.dst = at(to, total, end & 2);
			p.dst_size = total;
			read_only(from, 1);
			SAME(eesp_seal_burst(kit.sender, &p, 1), 1);
			read_only(from, 0);
			CHECK(intact(to, total, end & 2));
			eesp_pkt q = sealed(&p);
			q.dst = at(back, n, end & 1);
			q.dst_size = n;
			read_only(to, 1);
			SAME(eesp_open_burst(kit.receiver, &q, 1), 1);
			read_only(to, 0);
			CHECK(q.out_len == n && filled(q.out, i, n) && intact(back, n, end & 1));
		}
}

/* Each segment has memory of its own. */
static void chained(void)
{
	enum { SEGMENTS = 5 };
	static const uint16_t cases[][SEGMENTS] = { { 1, 1, 1, 1, 1 }, { 100, 0, 3, 0, 64 }, { 0, 0, 0, 0, 0 },
						     { 4096, 16, 15, 17, 1 }, { 0, 5, 0, 7, 0 } };
	struct guarded g[SEGMENTS], v = guarded(sizeof(eesp_iov[SEGMENTS]));
	for (int s = 0; s < SEGMENTS; s++)
		g[s] = guarded(4500);
	for (int end = 0; end < 2; end++)
		for (size_t x = 0; x < COUNT(cases); x++) {
			eesp_iov *iov = (eesp_iov *)(void *)at(v, sizeof(eesp_iov[SEGMENTS]), end);
			size_t size[SEGMENTS], n = 0;
			for (int s = 0; s < SEGMENTS; s++) {
				memset(g[s].start, CANARY, (size_t)(g[s].end - g[s].start));
				size[s] = cases[x][s] + (s == 0 ? header : 0) +
					  (s == SEGMENTS - 1 ? EESP_ICV_LEN : 0u);
				iov[s].base = at(g[s], size[s], end) + (s == 0 ? header : 0);
				iov[s].len = cases[x][s];
				fill(iov[s].base, x, iov[s].len);
				n += iov[s].len;
			}
			eesp_pkt p = packet(NULL, 0, header, EESP_ICV_LEN);
			p.iov = iov;
			p.iov_count = SEGMENTS;
			read_only(v, 1);
			SAME(eesp_seal_burst(kit.sender, &p, 1), 1);
			read_only(v, 0);
			for (int s = 0; s < SEGMENTS; s++) {
				CHECK(intact(g[s], size[s], end));
				iov[s] = (eesp_iov){ at(g[s], size[s], end), size[s] };
			}
			eesp_pkt q = packet(NULL, 0, 0, 0);
			q.iov = iov;
			q.iov_count = SEGMENTS;
			SAME(eesp_open_burst(kit.receiver, &q, 1), 1);
			SAME(q.out_len, n);
			for (int s = 0; s < SEGMENTS; s++) {
				CHECK(intact(g[s], size[s], end));
				CHECK(filled((uint8_t *)iov[s].base + (s == 0 ? header : 0), x, cases[x][s]));
			}
		}
}

static void proxied(void)
{
	eesp_group *group = new_group(EESP_AEAD_AES_256_GCM, 7);
	eesp_sender *s = new_sender(group, EESP_V_LONG_ID_SRC, EESP_SENDER_OPTIONS);
	eesp_receiver *r = new_receiver(group);
	eesp_proxy *longer, *shorter;
	WORKS(eesp_proxy_new(kit.receiver, s, &longer));
	WORKS(eesp_proxy_new(r, kit.sender, &shorter));
	uint32_t other = eesp_sender_header_len(s);
	CHECK(other > header);
	struct guarded g = guarded(16384), to = guarded(16384);
	eesp_addr a = packet(NULL, 0, 0, 0).addr;
	const eesp_addr *out_addr = read_only_copy(&a, sizeof a);
	for (int end = 0; end < 2; end++)
		for (size_t i = 0; i < COUNT(lengths); i++)
			for (int dst = 0; dst < 2; dst++) {
				uint32_t n = lengths[i], total = other + n + EESP_ICV_LEN;
				memset(g.start, CANARY, (size_t)(g.end - g.start));
				memset(to.start, CANARY, (size_t)(to.end - to.start));
				eesp_pkt p = packet(at(g, total, end) + other, n, header, EESP_ICV_LEN);
				fill(p.data, i, n);
				SAME(eesp_seal_burst(kit.sender, &p, 1), 1);
				p = sealed(&p);
				p.out_addr = out_addr;
				p.headroom = other - header;
				if (dst) {
					p.headroom = 0;
					p.dst = at(to, total, end);
					p.dst_size = total;
				}
				SAME(eesp_proxy_burst(longer, &p, 1), 1);
				SAME(p.out_len, total);
				CHECK(intact(dst ? to : g, total, end));
				/* And opened: without the header it is shorter. */
				p = sealed(&p);
				SAME(eesp_proxy_burst(shorter, &p, 1), 1);
				SAME(p.out_len, header + n + EESP_ICV_LEN);
				CHECK(intact(dst ? to : g, total, end));
				p = sealed(&p);
				SAME(eesp_open_burst(kit.receiver, &p, 1), 1);
				CHECK(filled(p.out, i, n));
			}
	eesp_proxy_free(longer);
	eesp_proxy_free(shorter);
	eesp_receiver_free(r);
	eesp_sender_free(s);
	eesp_group_free(group);
}

/* If one octet of room is missing anywhere, the packet is refused and nothing is written. */
static void no_room(void)
{
	struct guarded g = guarded(4096);
	for (uint32_t n = 0; n < 70; n++)
		for (int lack = 0; lack < 4; lack++) {
			uint32_t total = header + n + EESP_ICV_LEN;
			memset(g.start, CANARY, (size_t)(g.end - g.start));
			eesp_pkt p = packet(g.end - n - EESP_ICV_LEN, n, header, EESP_ICV_LEN);
			switch (lack) {
			case 0: p.data = g.start + header - 1; p.headroom = header - 1; break;
			case 1: p.data = g.end - n - EESP_ICV_LEN + 1; p.tailroom = EESP_ICV_LEN - 1; break;
			case 2: p.headroom = p.tailroom = 0; break;
			case 3: p.dst = g.start; p.dst_size = total - 1; break;
			}
			SAME(eesp_seal_burst(kit.sender, &p, 1), 0);
			SAME(p.status, EESP_ERR_ROOM);
			CHECK(intact(g, 0, 1));
		}
}

/* A packet that is shorter than its header says is not read beyond its end. */
static void truncated(void)
{
	struct guarded g = guarded(4096);
	uint8_t whole[EESP_MAX_SEALED_LEN(64)];
	eesp_pkt p = packet(whole + header, 64, header, EESP_ICV_LEN);
	SAME(eesp_seal_burst(kit.sender, &p, 1), 1);
	for (uint32_t n = 0; n < p.out_len; n++)
		for (int v = 0; v < 256; v += 5) { /* and with all kinds of first octets */
			uint8_t *b = at(g, n, 1);
			memcpy(b, p.out, n);
			if (n > 1 && v) {
				b[0] = (uint8_t)(v & 15);
				b[1] = (uint8_t)v;
			}
			eesp_pkt q = packet(b, n, 0, 0);
			SAME(eesp_open_burst(kit.receiver, &q, 1), 0);
			CHECK(q.status < 0);
		}
}

/* Inputs that are not packets. */
static void inputs(void)
{
	eesp_group_config gc = EESP_GROUP_CONFIG_INIT;
	eesp_group *g;
	WORKS(eesp_group_new(read_only_copy(&gc, sizeof gc), &g));
	WORKS(eesp_group_generate_root_key(g, EESP_LEVEL_ZONE, read_only_copy(root_id, 16), 16));
	uint64_t index[3] = { 1, 2, 3 };
	uint8_t value[3][EESP_ROOT_KEY_LEN] = { { 1 }, { 2 }, { 3 } };
	WORKS(eesp_group_set_root_key(g, EESP_LEVEL_USER, read_only_copy(root_id, 32), 32,
				      read_only_copy(index, sizeof index), RING(read_only_copy(value, sizeof value))));
	WORKS(eesp_group_rotate(g, EESP_LEVEL_USER, 4, read_only_copy(value[0], 32)));

	struct guarded m = guarded(512);
	size_t len = 0;
	GIVES(EESP_ERR_ROOM, eesp_group_get_root_key_der(g, EESP_LEVEL_USER, NULL, &len));
	size_t less = len - 1;
	GIVES(EESP_ERR_ROOM, eesp_group_get_root_key_der(g, EESP_LEVEL_USER, m.end - less, &less));
	SAME(less, len);
	CHECK(intact(m, 0, 1));
	WORKS(eesp_group_get_root_key_der(g, EESP_LEVEL_USER, m.end - len, &len));
	CHECK(intact(m, len, 1));
	const uint8_t *der = read_only_copy(m.end - len, len);
	WORKS(eesp_group_set_root_key_der(g, EESP_LEVEL_TASK, der, len));
	for (size_t n = 0; n < len; n++) /* the DER says that there is more */
		GIVES(EESP_ERR_ROOT_KEY, eesp_group_set_root_key_der(g, EESP_LEVEL_TASK, read_only_copy(der, n), n));

	struct guarded i = guarded(sizeof(eesp_root_key_info));
	WORKS(eesp_group_get_root_key_info(g, EESP_LEVEL_USER, (eesp_root_key_info *)(void *)i.start));
	CHECK(intact(i, sizeof(eesp_root_key_info), 0));
	WORKS(eesp_group_get_root_key_info(g, EESP_LEVEL_USER,
					   (eesp_root_key_info *)(void *)(i.end - sizeof(eesp_root_key_info))));

	eesp_context x[70];
	memset(x, 0, sizeof x);
	for (size_t k = 0; k < COUNT(x); k++)
		x[k] = (eesp_context){ .id = k, .v = all_v[k % COUNT(all_v)], .levels = 1 };
	struct guarded keys = guarded(70 * 16);
	WORKS(eesp_derive_keys(g, read_only_copy(x, sizeof x), 70, keys.end - 70 * 16, 70 * 16));
	CHECK(intact(keys, 70 * 16, 1));
	memset(keys.start, CANARY, (size_t)(keys.end - keys.start));
	WORKS(eesp_derive_keys(g, read_only_copy(x, sizeof x), 70, keys.start, 70 * 16));
	CHECK(intact(keys, 70 * 16, 0));

	struct guarded dk = guarded(sizeof(eesp_data_key));
	eesp_data_key *key = (eesp_data_key *)(void *)(dk.end - sizeof *key);
	WORKS(eesp_data_key_export(g, read_only_copy(&x[1], sizeof x[1]), 1, key));
	CHECK(intact(dk, sizeof *key, 1));
	const eesp_data_key *copy = read_only_copy(key, sizeof *key);
	eesp_data_key_wipe(key);
	CHECK(all_are(key, sizeof *key, 0) && intact(dk, sizeof *key, 1));

	eesp_sender_config sc = explicit_config(EESP_V_ID), kc = EESP_SENDER_CONFIG_INIT;
	eesp_sender *s;
	WORKS(eesp_sender_new(g, read_only_copy(&sc, sizeof sc), &s));
	eesp_sender_free(s);
	WORKS(eesp_sender_new_with_key(copy, read_only_copy(&kc, sizeof kc), &s));
	eesp_sender_free(s);
	uint64_t own[] = { 5, 3 };
	eesp_receiver_config rc = EESP_RECEIVER_CONFIG_INIT;
	rc.own_ids = read_only_copy(own, sizeof own);
	rc.own_id_count = 2;
	eesp_receiver *r;
	WORKS(eesp_receiver_new(read_only_copy(&g, sizeof g), 1, read_only_copy(&rc, sizeof rc), &r));
	struct guarded st = guarded(sizeof(eesp_stats));
	WORKS(eesp_receiver_stats(r, (eesp_stats *)(void *)(st.end - sizeof(eesp_stats))));
	eesp_receiver_free(r);
	WORKS(eesp_receiver_new_with_key(copy, read_only_copy(&rc, sizeof rc), &r));
	eesp_receiver_free(r);

	const char *name = read_only_copy("generic", 8);
	SAME(eesp_backend_supported(name), 1);
	eesp_group_free(g);
}

int main(void)
{
	kit = new_kit(EESP_AEAD_AES_128_GCM, EESP_V_ID);
	header = eesp_sender_header_len(kit.sender);
	TEST(in_place);
	TEST(elsewhere);
	TEST(chained);
	TEST(proxied);
	TEST(no_room);
	TEST(truncated);
	TEST(inputs);
	free_kit(&kit);
	return 0;
}
