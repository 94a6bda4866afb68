/* SPDX-License-Identifier: BSD-3-Clause */
/* Sealed packets open again, wherever they lie and however many they are. */
#include "test.h"

#define MAX_BURST 1000
#define ROOM 2048

static uint8_t (*rooms)[ROOM];
static eesp_pkt pkts[MAX_BURST], opened[MAX_BURST];

/* Payload length, COffset and IOffset of packet i, of all kinds. */
static uint32_t length_of(size_t i) { return (uint32_t)((i * 53 + 7) % 301) * (i % 97 != 5); }
static uint8_t coffset_of(size_t i)
{
	uint32_t most = length_of(i) / 4;
	return (uint8_t)(i % 5 == 0 ? most : i % 5 == 1 ? (most < 3 ? most : 3) : 0);
}
static uint8_t ioffset_of(size_t i)
{
	uint8_t c = coffset_of(i);
	return (uint8_t)(i % 2 ? (c < 15 ? c : 15) : 0);
}

static void check_header(const eesp_pkt *p, uint8_t v, uint32_t header, const eesp_pkt *before)
{
	const uint8_t *h = p->out;
	SAME(h[0], header / 8 - 1);
	SAME(h[1] >> 4, v);
	SAME((h[2] & 0xf) << 4 | h[3] >> 4, p->coffset);
	SAME(h[3] & 0xf, p->ioffset);
	uint64_t tsc = 0, id = 0;
	for (uint32_t i = header - 8; i < header; i++)
		tsc = tsc << 8 | h[i];
	for (int i = 4; i < (v & EESP_V_LONG_ID ? 12 : 8); i++)
		id = id << 8 | h[i];
	CHECK(tsc == p->tsc && id == p->id);
	if (before)
		CHECK(p->tsc == before->tsc + 1);
}

static void burst_in_place(eesp_sender *s, eesp_receiver *r, uint8_t v, size_t n)
{
	uint32_t header = eesp_sender_header_len(s);
	for (size_t i = 0; i < n; i++) {
		memset(rooms[i], CANARY, ROOM);
		pkts[i] = packet(rooms[i] + 200, length_of(i), header, EESP_ICV_LEN);
		pkts[i].coffset = coffset_of(i);
		pkts[i].ioffset = ioffset_of(i);
		pkts[i].addr.src[15] = (uint8_t)(i % 7);
		pkts[i].user = &pkts[i];
		fill(pkts[i].data, i, pkts[i].len);
	}
	SAME(eesp_seal_burst(s, pkts, n), n);
	for (size_t i = 0; i < n; i++) {
		eesp_pkt *p = &pkts[i];
		uint32_t len = length_of(i), clear = 4u * coffset_of(i);
		SAME(p->status, EESP_OK);
		CHECK(p->out == (uint8_t *)p->data - header && p->user == p && p->len == len);
		SAME(p->out_len, header + len + EESP_ICV_LEN);
		check_header(p, v, header, i ? p - 1 : NULL);
		CHECK(filled(p->data, i, clear));
		CHECK(len - clear < 16 || !filled((uint8_t *)p->data + clear, i, len - clear));
		CHECK(all_are(rooms[i], 200 - header, CANARY));
		CHECK(all_are(rooms[i] + 200 + len + EESP_ICV_LEN, ROOM - 200 - len - EESP_ICV_LEN, CANARY));
		opened[i] = sealed(p);
		opened[i].coffset = opened[i].ioffset = 0xff;
	}
	SAME(eesp_open_burst(r, opened, n), n);
	for (size_t i = 0; i < n; i++) {
		eesp_pkt *q = &opened[i];
		SAME(q->status, EESP_OK);
		SAME(q->out_len, length_of(i));
		CHECK(q->out == pkts[i].data && filled(q->out, i, q->out_len));
		CHECK(q->id == pkts[i].id && q->tsc == pkts[i].tsc);
		CHECK(q->coffset == coffset_of(i) && q->ioffset == ioffset_of(i));
	}
}

static void in_place(void)
{
	static const size_t sizes[] = { 0, 1, 31, 32, 33, 100 };
	for (uint32_t aead = 0; aead < 2; aead++)
		for (size_t v = 0; v < COUNT(all_v); v++)
			for (uint32_t variant = 0; variant < 4; variant++) {
				unsigned levels = variant & 2 ? EESP_LEVELS_ZONE | EESP_LEVELS_USER | EESP_LEVELS_TASK
							    : EESP_LEVELS_ZONE;
				eesp_group *g = new_group(aead, levels);
				eesp_sender *s = new_sender(g, all_v[v], variant & 1 ? EESP_SENDER_OPTIONS : 0);
				eesp_receiver *r = new_receiver(g);
				for (size_t n = 0; n < COUNT(sizes); n++)
					burst_in_place(s, r, all_v[v], sizes[n]);
				if (variant == 3)
					burst_in_place(s, r, all_v[v], MAX_BURST);
				eesp_sender_free(s);
				eesp_receiver_free(r);
				eesp_group_free(g);
			}
}

static void elsewhere(void)
{
	struct kit k = new_kit(EESP_AEAD_AES_256_GCM, EESP_V_ID_SRC);
	uint32_t header = eesp_sender_header_len(k.sender);
	for (size_t i = 0; i < 64; i++) {
		uint8_t in[400], out[700], back[400];
		uint32_t len = length_of(i), total = header + len + EESP_ICV_LEN;
		memset(out, CANARY, sizeof out);
		memset(back, CANARY, sizeof back);
		fill(in, i, sizeof in);
		eesp_pkt p = packet(in, len, 0, 0);
		p.coffset = coffset_of(i);
		p.ioffset = ioffset_of(i);
		p.dst = out;
		p.dst_size = total - 1;
		SAME(eesp_seal_burst(k.sender, &p, 1), 0);
		SAME(p.status, EESP_ERR_ROOM);
		CHECK(all_are(out, sizeof out, CANARY) && p.out == NULL && p.out_len == 0);
		p.dst_size = total;
		SAME(eesp_seal_burst(k.sender, &p, 1), 1);
		CHECK(p.out == out && p.out_len == total && filled(in, i, sizeof in));
		CHECK(all_are(out + total, sizeof out - total, CANARY));
		check_header(&p, EESP_V_ID_SRC, header, NULL);

		uint8_t copy[700];
		memcpy(copy, out, sizeof copy);
		eesp_pkt q = sealed(&p);
		q.dst = back;
		if (len > 0) {
			q.dst_size = len - 1;
			SAME(eesp_open_burst(k.receiver, &q, 1), 0);
			SAME(q.status, EESP_ERR_ROOM);
			CHECK(all_are(back, sizeof back, CANARY));
		}
		q.dst_size = len;
		SAME(eesp_open_burst(k.receiver, &q, 1), 1);
		CHECK(q.out == back && q.out_len == len && filled(back, i, len));
		CHECK(all_are(back + len, sizeof back - len, CANARY));
		CHECK(memcmp(copy, out, sizeof copy) == 0); /* the source is not changed */
	}
	free_kit(&k);
}

/* Buffers that overlap in part are refused, except if the payload stays in its place. */
static void overlap(void)
{
	struct kit k = new_kit(EESP_AEAD_AES_128_GCM, EESP_V_ID);
	uint32_t header = eesp_sender_header_len(k.sender), len = 100, total = header + len + EESP_ICV_LEN;
	uint8_t room[1000];
	for (int shift = -(int)total - 4; shift <= (int)len + 4; shift++) {
		memset(room, CANARY, sizeof room);
		eesp_pkt p = packet(room + 400, len, 0, 0);
		fill(p.data, 1, len);
		p.dst = room + 400 + shift;
		p.dst_size = total;
		int stays = shift == -(int)header, apart = shift <= -(int)total || shift >= (int)len;
		size_t good = eesp_seal_burst(k.sender, &p, 1);
		SAME(p.status, stays || apart ? EESP_OK : EESP_ERR_OVERLAP);
		SAME(good, p.status == EESP_OK);
		if (!good) {
			CHECK(filled(room + 400, 1, len) && all_are(room, 400, CANARY) &&
			      all_are(room + 400 + len, 500 - len, CANARY));
			continue;
		}
		eesp_pkt q = sealed(&p);
		SAME(eesp_open_burst(k.receiver, &q, 1), 1);
		CHECK(filled(q.out, 1, len));
	}
	for (int shift = -(int)len - 4; shift <= (int)total + 4; shift++) {
		eesp_pkt p = packet(room + 400 + header, len, header, EESP_ICV_LEN);
		fill(p.data, 2, len);
		SAME(eesp_seal_burst(k.sender, &p, 1), 1);
		eesp_pkt q = sealed(&p);
		q.dst = room + 400 + shift;
		q.dst_size = len;
		int stays = shift == (int)header, apart = shift <= -(int)len || shift >= (int)total;
		eesp_open_burst(k.receiver, &q, 1);
		SAME(q.status, stays || apart ? EESP_OK : EESP_ERR_OVERLAP);
		CHECK(q.status != EESP_OK || filled(q.out, 2, len));
	}
	free_kit(&k);
}

/* ---- Chained packets ---- */

/* Segment lengths; UINT16_MAX ends a list. */
static const uint16_t segmentations[][10] = {
	{ 0, UINT16_MAX }, { 1, UINT16_MAX }, { 100, UINT16_MAX }, { 50, 50, UINT16_MAX },
	{ 0, 0, 0, UINT16_MAX }, { 0, 100, UINT16_MAX }, { 100, 0, UINT16_MAX }, { 7, 0, 0, 93, 0, UINT16_MAX },
	{ 1, 1, 1, 1, 1, 1, 1, 1, UINT16_MAX }, { 3, 64, 1, 200, 16, UINT16_MAX }, { 16, 16, 16, 16, UINT16_MAX },
	{ 1000, 1, 1000, UINT16_MAX },
};

static void chained(void)
{
	for (size_t v = 0; v < COUNT(all_v); v++) {
		struct kit k = new_kit(v & 1, all_v[v]);
		uint32_t header = eesp_sender_header_len(k.sender);
		for (size_t x = 0; x < COUNT(segmentations); x++)
			for (int offsets = 0; offsets < 3; offsets++) {
				static uint8_t room[10][1500];
				eesp_iov iov[10];
				uint16_t count = 0;
				uint32_t len = 0, done = 0;
				memset(room, CANARY, sizeof room);
				uint8_t whole[2100];
				fill(whole, x, sizeof whole);
				for (; segmentations[x][count] != UINT16_MAX; count++) {
					iov[count] = (eesp_iov){ room[count] + 200, segmentations[x][count] };
					memcpy(iov[count].base, whole + len, iov[count].len);
					len += segmentations[x][count];
				}
				eesp_pkt p = packet(NULL, 12345, header, EESP_ICV_LEN);
				p.iov = iov;
				p.iov_count = count;
				p.coffset = (uint8_t)(offsets == 0    ? 0
						      : len / 4 > 255 ? 255
								      : len / 4 / (unsigned)offsets);
				p.ioffset = (uint8_t)(offsets == 2 && p.coffset ? 1 : 0);
				SAME(eesp_seal_burst(k.sender, &p, 1), 1);
				CHECK(p.out == room[0] + 200 - header);
				SAME(p.len, len);
				SAME(p.out_len, header + len + EESP_ICV_LEN);
				check_header(&p, all_v[v], header, NULL);
				for (uint16_t i = 0; i < count; i++) { /* nothing is written beside the segments */
					uint32_t from = i == 0 ? 200 - header : 200;
					uint32_t to = 200 + (uint32_t)iov[i].len + (i == count - 1 ? EESP_ICV_LEN : 0);
					CHECK(all_are(room[i], from, CANARY));
					CHECK(all_are(room[i] + to, 1500 - to, CANARY));
				}
				/* Copied to one buffer, it opens. */
				uint8_t linear[2300];
				memcpy(linear, p.out, header);
				for (uint16_t i = 0; i < count; i++, done += segmentations[x][i - 1])
					memcpy(linear + header + done, iov[i].base, iov[i].len);
				memcpy(linear + header + len, (uint8_t *)iov[count - 1].base + iov[count - 1].len,
				       EESP_ICV_LEN);
				eesp_pkt q = packet(linear, p.out_len, 0, 0);
				SAME(eesp_open_burst(k.receiver, &q, 1), 1);
				CHECK(q.out_len == len && filled(q.out, x, len));
				/* It opens in segments, if the header is in the first one. */
				iov[0].base = p.out;
				iov[0].len += header;
				iov[count - 1].len += EESP_ICV_LEN;
				q = packet(NULL, 0, 0, 0);
				q.iov = iov;
				q.iov_count = count;
				SAME(eesp_open_burst(k.receiver, &q, 1), 1);
				uint16_t begins = 0; /* the first segment with payload */
				while (len != 0 && segmentations[x][begins] == 0)
					begins++;
				CHECK(q.out_len == len && q.out == room[begins] + 200 && q.coffset == p.coffset &&
				      q.ioffset == p.ioffset);
				done = 0;
				for (uint16_t i = 0; i < count; i++, done += segmentations[x][i - 1])
					CHECK(memcmp(room[i] + 200, whole + done, segmentations[x][i]) == 0);
			}
		free_kit(&k);
	}
}

/* A packet may be cut anywhere to be opened, if the header is in the first segment. */
static void cuts(void)
{
	struct kit k = new_kit(EESP_AEAD_AES_128_GCM, EESP_V_ID);
	uint32_t header = eesp_sender_header_len(k.sender), len = 40, total = header + len + EESP_ICV_LEN;
	uint8_t room[300];
	for (uint32_t a = 0; a <= total; a++)
		for (uint32_t b = a; b <= total; b += 7) {
			eesp_pkt p = packet(room + header, len, header, EESP_ICV_LEN);
			fill(p.data, a, len);
			SAME(eesp_seal_burst(k.sender, &p, 1), 1);
			uint8_t copy[300];
			memcpy(copy, room, total);
			const eesp_iov iov[] = { { room, a }, { room + a, b - a }, { room + b, total - b } };
			eesp_pkt q = packet(NULL, 0, 0, 0);
			q.iov = iov;
			q.iov_count = 3;
			size_t good = eesp_open_burst(k.receiver, &q, 1);
			SAME(good, a >= header);
			SAME(q.status, a >= header ? EESP_OK : EESP_ERR_SEGMENTS);
			CHECK(good ? filled(room + header, a, len) : memcmp(copy, room, total) == 0);
		}
	free_kit(&k);
}

static void chained_refused(void)
{
	struct kit k = new_kit(EESP_AEAD_AES_128_GCM, EESP_V_ID);
	uint32_t header = eesp_sender_header_len(k.sender);
	uint8_t room[2][400], other[400];
	memset(room, CANARY, sizeof room);
	eesp_iov iov[2] = { { room[0] + 200, 50 }, { room[1] + 200, 50 } };
	const eesp_pkt good = { .iov = iov, .iov_count = 2, .headroom = header, .tailroom = EESP_ICV_LEN };
	struct { eesp_pkt p; int want; } cases[8];
	for (size_t i = 0; i < COUNT(cases); i++)
		cases[i].p = good;
	cases[0].p.headroom--, cases[0].want = EESP_ERR_ROOM;
	cases[1].p.tailroom--, cases[1].want = EESP_ERR_ROOM;
	cases[2].p.iov = NULL, cases[2].want = EESP_ERR_ARGUMENT;
	cases[3].p.dst = other, cases[3].p.dst_size = sizeof other, cases[3].want = EESP_ERR_ARGUMENT;
	cases[4].p.flags = 1, cases[4].want = EESP_ERR_ARGUMENT;
	cases[5].p.coffset = 26, cases[5].want = EESP_ERR_OFFSET;
	const eesp_iov no_base[2] = { { room[0] + 200, 50 }, { NULL, 50 } };
	cases[6].p.iov = no_base, cases[6].want = EESP_ERR_SEGMENTS;
	const eesp_iov long_one[2] = { { room[0] + 200, 50 }, { room[1] + 200, SIZE_MAX - 20 } };
	cases[7].p.iov = long_one, cases[7].want = EESP_ERR_TOO_LONG;
	for (size_t i = 0; i < COUNT(cases); i++) {
		eesp_pkt *p = &cases[i].p;
		SAME(eesp_seal_burst(k.sender, p, 1), 0);
		SAME(p->status, cases[i].want);
		CHECK(p->out == NULL && p->out_len == 0 && all_are(room, sizeof room, CANARY));
	}
	eesp_pkt p = good;
	eesp_proxy *proxy;
	WORKS(eesp_proxy_new(k.receiver, k.sender, &proxy));
	SAME(eesp_proxy_burst(proxy, &p, 1), 0);
	SAME(p.status, EESP_ERR_SEGMENTS);
	CHECK(all_are(room, sizeof room, CANARY));
	eesp_proxy_free(proxy);
	free_kit(&k);
}

/* ---- Bad packets in a burst ---- */

/* Every third packet of a burst is bad; the others are not affected. */
static void mixed(void)
{
	struct kit k = new_kit(EESP_AEAD_AES_256_GCM, EESP_V_LONG_ID);
	uint32_t header = eesp_sender_header_len(k.sender);
	enum { N = 99 };
	int want[N];
	for (size_t i = 0; i < N; i++) {
		memset(rooms[i], CANARY, ROOM);
		pkts[i] = packet(rooms[i] + 200, 80, header, EESP_ICV_LEN);
		pkts[i].id = pkts[i].tsc = 7; /* as if from an earlier burst */
		fill(pkts[i].data, i, 80);
		want[i] = EESP_OK;
		if (i % 3)
			continue;
		switch (i / 3 % 7) {
		case 0: pkts[i].headroom--; want[i] = EESP_ERR_ROOM; break;
		case 1: pkts[i].tailroom--; want[i] = EESP_ERR_ROOM; break;
		case 2: pkts[i].coffset = 21; want[i] = EESP_ERR_OFFSET; break;
		case 3: pkts[i].coffset = 3, pkts[i].ioffset = 4; want[i] = EESP_ERR_OFFSET; break;
		case 4: pkts[i].data = NULL; want[i] = EESP_ERR_ARGUMENT; break;
		case 5: pkts[i].flags = 0x8000; want[i] = EESP_ERR_ARGUMENT; break;
		case 6: pkts[i].len = EESP_MAX_LEN + 1; want[i] = EESP_ERR_TOO_LONG; break;
		}
	}
	SAME(eesp_seal_burst(k.sender, pkts, N), N * 2 / 3);
	for (size_t i = 0; i < N; i++) {
		SAME(pkts[i].status, want[i]);
		if (want[i] != EESP_OK) {
			CHECK(pkts[i].out == NULL && pkts[i].out_len == 0 && pkts[i].id == 0 && pkts[i].tsc == 0);
			CHECK(all_are(rooms[i], 200, CANARY) && filled(rooms[i] + 200, i, 80));
			CHECK(all_are(rooms[i] + 280, ROOM - 280, CANARY));
			opened[i] = packet(rooms[i], 200, 0, 0);
			continue;
		}
		opened[i] = sealed(&pkts[i]);
		uint8_t *h = pkts[i].out;
		switch (i % 9) { /* damage some of the good ones */
		case 1: h[header + 3] ^= 1; want[i] = EESP_ERR_AUTH; break;
		case 2: h[header + 80] ^= 0x80; want[i] = EESP_ERR_AUTH; break;
		case 4: h[header - 1] ^= 1; want[i] = EESP_ERR_AUTH; break;
		case 5: h[0] |= 0x10; want[i] = EESP_ERR_VERSION; break;
		case 7: opened[i].len = header + 15; want[i] = EESP_ERR_SHORT; break;
		}
	}
	size_t good = eesp_open_burst(k.receiver, opened, N), count = 0;
	for (size_t i = 0; i < N; i++) {
		if (i % 3 == 0) {
			CHECK(opened[i].status != EESP_OK);
			continue;
		}
		SAME(opened[i].status, want[i]);
		count += want[i] == EESP_OK;
		if (want[i] == EESP_OK)
			CHECK(filled(opened[i].out, i, 80));
		else if (want[i] == EESP_ERR_AUTH) /* no plaintext of a forged packet */
			CHECK(all_are(rooms[i] + 200, 80, 0) && opened[i].out == NULL && opened[i].out_len == 0);
		CHECK(all_are(rooms[i] + 280 + EESP_ICV_LEN, ROOM - 280 - EESP_ICV_LEN, CANARY));
	}
	SAME(good, count);
	SAME(eesp_partition(opened, N), count);
	for (size_t i = 1; i < N; i++)
		CHECK(i < count ? opened[i].status == EESP_OK && opened[i].tsc > opened[i - 1].tsc
				: opened[i].status != EESP_OK || i == count);
	free_kit(&k);
}

/* A packet does not open if any one bit is changed. */
static void tampered(void)
{
	struct kit k = new_kit(EESP_AEAD_AES_128_GCM, EESP_V_ID);
	uint32_t header = eesp_sender_header_len(k.sender);
	uint8_t good[200], bad[200];
	eesp_pkt p = packet(good + header, 20, header, EESP_ICV_LEN);
	p.coffset = 2;
	fill(p.data, 1, 20);
	SAME(eesp_seal_burst(k.sender, &p, 1), 1);
	for (uint32_t bit = 0; bit < 8 * p.out_len; bit++) {
		memcpy(bad, good, sizeof bad);
		bad[bit / 8] ^= (uint8_t)(1 << bit % 8);
		eesp_pkt q = packet(bad, p.out_len, 0, 0);
		SAME(eesp_open_burst(k.receiver, &q, 1), 0);
		CHECK(q.status < 0 && q.status != EESP_ERR_INTERNAL && q.out == NULL && q.out_len == 0);
	}
	for (uint32_t len = 0; len <= p.out_len; len++) {
		memcpy(bad, good, sizeof bad);
		eesp_pkt q = packet(bad, len, 0, 0);
		SAME(eesp_open_burst(k.receiver, &q, 1), len == p.out_len);
	}
	free_kit(&k);
}

/* ---- Proxies ---- */

static void proxies(void)
{
	static const size_t sizes[] = { 0, 1, 31, 32, 33, 100 };
	for (int longer = 0; longer < 2; longer++)
		for (int place = 0; place < 2; place++) {
			eesp_group *ga = new_group(EESP_AEAD_AES_128_GCM, 1), *gb = new_group(EESP_AEAD_AES_256_GCM, 7);
			eesp_sender *a = new_sender(ga, EESP_V_ID_SRC, longer ? 0 : EESP_SENDER_OPTIONS);
			eesp_sender *b = new_sender(gb, EESP_V_LONG_ID_SRC_DST, longer ? EESP_SENDER_OPTIONS : 0);
			eesp_receiver *ra = new_receiver(ga), *rb = new_receiver(gb);
			eesp_proxy *x;
			WORKS(eesp_proxy_new(ra, b, &x));
			uint32_t ha = eesp_sender_header_len(a), hb = eesp_sender_header_len(b);
			uint32_t more = hb > ha ? hb - ha : 0;
			CHECK((more != 0) == longer);
			eesp_addr other;
			memset(&other, 0x77, sizeof other);
			for (size_t s = 0; s < COUNT(sizes); s++) {
				size_t n = sizes[s];
				for (size_t i = 0; i < n; i++) {
					memset(rooms[i], CANARY, ROOM);
					pkts[i] = packet(rooms[i] + 300, length_of(i), ha, EESP_ICV_LEN);
					pkts[i].coffset = coffset_of(i);
					pkts[i].ioffset = ioffset_of(i);
					fill(pkts[i].data, i, pkts[i].len);
				}
				SAME(eesp_seal_burst(a, pkts, n), n);
				for (size_t i = 0; i < n; i++) {
					opened[i] = sealed(&pkts[i]);
					/* the caller says: enough */
					opened[i].headroom = i % 2 ? more : UINT32_MAX - (uint32_t)i;
					opened[i].tailroom = i % 2 ? 0 : UINT32_MAX - (uint32_t)i;
					opened[i].out_addr = &other;
					if (place) {
						opened[i].headroom = 0;
						opened[i].dst = rooms[i] + 1000;
						opened[i].dst_size = hb + length_of(i) + EESP_ICV_LEN;
					}
				}
				SAME(eesp_proxy_burst(x, opened, n), n);
				for (size_t i = 0; i < n; i++) {
					eesp_pkt *q = &opened[i];
					SAME(q->status, EESP_OK);
					CHECK(q->id == pkts[i].id && q->tsc == pkts[i].tsc);
					SAME(q->out_len, hb + length_of(i) + EESP_ICV_LEN);
					uint8_t *from = place ? rooms[i] + 1000 : rooms[i] + 300 - hb;
					CHECK(q->out == from);
					CHECK(all_are(rooms[i], 300 - (place ? ha : hb > ha ? hb : ha), CANARY));
					size_t end = (size_t)(from - rooms[i]) + q->out_len;
					CHECK(all_are(rooms[i] + end, ROOM - end, CANARY));
					pkts[i] = sealed(q);
					pkts[i].addr = other;
				}
				SAME(eesp_open_burst(rb, pkts, n), n);
				for (size_t i = 0; i < n; i++) {
					CHECK(pkts[i].out_len == length_of(i) &&
					      filled(pkts[i].out, i, pkts[i].out_len));
					CHECK(pkts[i].coffset == coffset_of(i) && pkts[i].ioffset == ioffset_of(i));
				}
			}
			eesp_proxy_free(x);
			eesp_sender_free(a);
			eesp_sender_free(b);
			eesp_receiver_free(ra);
			eesp_receiver_free(rb);
			eesp_group_free(ga);
			eesp_group_free(gb);
		}
}

/* A proxy refuses forged packets, and good ones without room, which it zeroes. */
static void proxy_refuses(void)
{
	struct kit k = new_kit(EESP_AEAD_AES_128_GCM, EESP_V_ID);
	eesp_group *gb = new_group(EESP_AEAD_AES_128_GCM, 7);
	eesp_sender *b = new_sender(gb, EESP_V_ID, EESP_SENDER_OPTIONS);
	eesp_proxy *x;
	WORKS(eesp_proxy_new(k.receiver, b, &x));
	uint32_t ha = eesp_sender_header_len(k.sender), hb = eesp_sender_header_len(b);
	for (int i = 0; i < 4; i++) {
		memset(rooms[i], CANARY, ROOM);
		pkts[i] = packet(rooms[i] + 300, 64, ha, EESP_ICV_LEN);
		fill(pkts[i].data, (size_t)i, 64);
	}
	SAME(eesp_seal_burst(k.sender, pkts, 4), 4);
	for (int i = 0; i < 4; i++) {
		opened[i] = sealed(&pkts[i]);
		opened[i].headroom = hb - ha;
	}
	opened[1].headroom--;
	rooms[2][310] ^= 1;
	SAME(eesp_proxy_burst(x, opened, 4), 2);
	SAME(opened[0].status, EESP_OK);
	SAME(opened[1].status, EESP_ERR_ROOM);
	SAME(opened[2].status, EESP_ERR_AUTH);
	SAME(opened[3].status, EESP_OK);
	CHECK(all_are(rooms[1] + 300, 64, 0) && all_are(rooms[2] + 300, 64, 0));
	CHECK(opened[1].out == NULL && opened[2].out == NULL && opened[1].out_len == 0);
	CHECK(all_are(rooms[1], 300 - ha, CANARY));
	eesp_proxy_free(x);
	eesp_sender_free(b);
	eesp_group_free(gb);
	free_kit(&k);
}

/* If a proxy's receiver or sender was freed first, the proxy refuses packets, and does not
 * take for them what is in the memory now. */
static void proxy_outlives(void)
{
	for (int both = 1; both <= 3; both++) {
		struct kit k = new_kit(EESP_AEAD_AES_128_GCM, EESP_V_ID);
		void *taken[64];
		eesp_proxy *x;
		WORKS(eesp_proxy_new(k.receiver, k.sender, &x));
		memset(rooms[0], CANARY, ROOM);
		pkts[0] = packet(rooms[0] + 300, 64, eesp_sender_header_len(k.sender), EESP_ICV_LEN);
		fill(pkts[0].data, 1, 64);
		SAME(eesp_seal_burst(k.sender, pkts, 1), 1);
		opened[0] = sealed(&pkts[0]);
		if (both & 1)
			eesp_receiver_free(k.receiver);
		if (both & 2)
			eesp_sender_free(k.sender);
		for (size_t i = 0; i < COUNT(taken); i++) {
			taken[i] = malloc(16 + 8 * (i % 8));
			CHECK(taken[i] != NULL);
			memset(taken[i], 0xA5, 16 + 8 * (i % 8));
		}
		SAME(eesp_proxy_burst(x, opened, 1), 0);
		SAME(opened[0].status, EESP_ERR_ARGUMENT);
		CHECK(opened[0].out == NULL && !filled(rooms[0] + 300, 1, 64));
		eesp_proxy_free(x);
		for (size_t i = 0; i < COUNT(taken); i++) {
			for (size_t at = 0; at < 16 + 8 * (i % 8); at++)
				SAME(((uint8_t *)taken[i])[at], 0xA5);
			free(taken[i]);
		}
		if (!(both & 1))
			eesp_receiver_free(k.receiver);
		if (!(both & 2))
			eesp_sender_free(k.sender);
		eesp_group_free(k.group);
	}
}

/* ---- Known answers, from testdata/vectors/stateless.json ---- */

static const char zone_der[] = "30818504107d2ea5882e38ae4a3992f575ca3d82a8300902010702010802010930660420"
	"bd9eb6bc0d4771e9b5bb54ed30a33ff276549357a849ae43ff1c9a6e45ed1e2d"
	"0420b44e31719d541cb49daf44989966318b6ba3b7239c43b0cfc7511c2b356ecdbf"
	"042047638a0eca6bca423729488e61b969506e73772800dd06d8335bd313cea3170b";

/* "padding/pad1-pad1-pad1-pad1/alone" */
static void known_packet(void)
{
	uint8_t der[256], want[64], b[128];
	size_t der_len = unhex(der, zone_der);
	eesp_group *g = new_group(EESP_AEAD_AES_256_GCM, 0);
	WORKS(eesp_group_set_root_key_der(g, EESP_LEVEL_ZONE, der, der_len));
	eesp_receiver *r = new_receiver(g);
	eesp_pkt p = packet(
		b, (uint32_t)unhex(b, "028000002a3fc56567b401870000000000010000000000012e9741fb8dca180026dfb7aa0c"
						  "efec224a69956b1cc9a183d0858376fbcb459e1eb804372c438f0a"), 0, 0);
	size_t n = unhex(want, "9c8d5b284f1b2042399d53eea4129e0bd4d04e2218ae0d4b");
	SAME(eesp_open_burst(r, &p, 1), 1);
	CHECK(p.out_len == n && memcmp(p.out, want, n) == 0);
	CHECK(p.id == 0x2a3fc56567b40187 && p.tsc == 0x0001000000000001);

	eesp_receiver_free(r);
	eesp_group_free(g);
}

/* "matrix/aes-128-gcm/hkdf/va/zone" */
static void known_sealing(void)
{
	uint8_t der[256], id[32], want[128], b[128];
	eesp_group *g = new_group(EESP_AEAD_AES_128_GCM, 0);
	uint64_t index[3] = { 7, 8, 9 };
	uint8_t values[3][EESP_ROOT_KEY_LEN];
	unhex(der, zone_der);
	for (int i = 0; i < 3; i++) /* the values of zone_der with another ID */
		memcpy(values[i], der + 36 + 34 * i, sizeof values[i]);
	unhex(id, "6a758c4b260e11ac1019d275aeb1e0cd19ac522f602b98014edf27c9c35968f5");
	WORKS(eesp_group_set_root_key(g, EESP_LEVEL_ZONE, id, 32, index, RING(values)));
	eesp_sender_config c = EESP_SENDER_CONFIG_INIT;
	c.flags = EESP_SENDER_OPTIONS;
	c.id = 0x04dc23cc6e6aa7ca;
	c.v = EESP_V_LONG_ID_SRC_DST;
	c.counter_mode = EESP_COUNTER_EXPLICIT;
	c.epoch = 13902;
	c.start_counter = 42000000294;
	eesp_sender *s;
	WORKS(eesp_sender_new(g, &c, &s));
	SAME(eesp_sender_header_len(s), 56);
	CHECK(eesp_sender_next_tsc(s) == ((uint64_t)13902 << 48 | 42000000294));
	eesp_pkt p = packet(b + 56, 24, 56, EESP_ICV_LEN);
	unhex(p.data, "528acd210bab7bd040cfc5393646289466a83fcf1c499d89");
	unhex(p.addr.src, "20010db8000000000000000000000001");
	unhex(p.addr.dst, "20010db8ffff00ff0123456789abcdef");
	p.coffset = 6;
	p.ioffset = 5;
	SAME(eesp_seal_burst(s, &p, 1), 1);
	size_t n = unhex(want, "06a0006504dc23cc6e6aa7cae02208006a758c4b260e11ac1019d275aeb1e0cd19ac522f602b98014edf"
			       "27c9c35968f5364e0009c7652526528acd210bab7bd040cfc5393646289466a83fcf1c499d89e2daaac6"
			       "3eb7ad03d0556d90cf30c083");
	SAME(p.out_len, n);
	CHECK(memcmp(p.out, want, n) == 0);

	eesp_context x = { .id = c.id, .epoch = c.epoch, .v = c.v, .addr = p.addr };
	uint8_t key[16];
	WORKS(eesp_derive_keys(g, &x, 1, key, sizeof key));
	unhex(want, "1bf215e0743312de7859859039c1509e");
	CHECK(memcmp(key, want, sizeof key) == 0);
	eesp_sender_free(s);
	eesp_group_free(g);
}

/* psp: a header's extension, encrypted wholly, in part, or not at all. Opened in place it
 * lies in front of the payload; with EESP_PKT_EXTENSION it is part of the payload. */
static void psp_extension(void)
{
	static const uint8_t extra[24] = "a cookie, and 2 others..", payload[20] = "a payload of twenty.";
	eesp_group_config gc = EESP_GROUP_CONFIG_INIT;
	eesp_receiver *receiver;
	eesp_group *group;
	gc.profile = EESP_PROFILE_PSP;
	WORKS(eesp_group_new(&gc, &group));
	WORKS(eesp_group_rotate_key(group, NULL, 0, NULL));
	WORKS(eesp_receiver_new(&group, 1, NULL, &receiver));
	for (uint32_t n = 0; n <= sizeof extra; n += 8)
		for (uint8_t offset = 0; offset <= (n + sizeof payload) / 4; offset++) {
			eesp_sender_config sc = EESP_SENDER_CONFIG_INIT;
			eesp_sender *sender;
			uint8_t buf[16 + sizeof extra + sizeof payload + EESP_ICV_LEN], copy[sizeof buf],
				dst[sizeof buf];
			sc.id = 1000 + n + offset;
			sc.extra = n ? extra : NULL;
			sc.extra_len = n;
			sc.flags = EESP_SENDER_OFFSET_FROM_IV | (offset & 1 ? EESP_SENDER_NO_VC : 0);
			WORKS(eesp_sender_new(group, &sc, &sender));
			SAME(eesp_sender_header_len(sender), 16 + n);
			eesp_pkt p = packet(buf + 16 + n, sizeof payload, 16 + n, EESP_ICV_LEN);
			memcpy(p.data, payload, sizeof payload);
			p.coffset = offset;
			SAME(eesp_seal_burst(sender, &p, 1), 1);
			SAME(buf[1], 1 + n / 8);
			SAME(buf[2], offset);
			SAME(buf[3], n && !(offset & 1) ? 3 : 1);
			size_t clear = 4u * offset < n ? 4u * offset : n;
			CHECK(memcmp(buf + 16, extra, clear) == 0);
			CHECK(clear == n || memcmp(buf + 16 + clear, extra + clear, n - clear) != 0);
			buf[2] |= 0xC0; /* bits that senders set to 0; they are authenticated */
			memcpy(copy, buf, sizeof buf);
			eesp_pkt q = sealed(&p);
			SAME(eesp_open_burst(receiver, &q, 1), 0);
			SAME(q.status, EESP_ERR_AUTH);
			copy[2] &= 0x3F;
			memcpy(buf, copy, sizeof buf);
			SAME(eesp_open_burst(receiver, &q, 1), 1);
			SAME(q.coffset, 4u * offset > n ? offset - n / 4 : 0);
			CHECK(q.out == buf + 16 + n && q.out_len == sizeof payload &&
			      memcmp(q.out, payload, sizeof payload) == 0);
			CHECK(memcmp(buf + 16, extra, n) == 0);
			q.data = copy;
			q.dst = dst;
			q.dst_size = sizeof dst;
			q.flags = EESP_PKT_EXTENSION;
			SAME(eesp_open_burst(receiver, &q, 1), 1);
			SAME(q.coffset, offset);
			CHECK(q.out == dst && q.out_len == n + sizeof payload);
			CHECK(memcmp(dst, extra, n) == 0 && memcmp(dst + n, payload, sizeof payload) == 0);
			eesp_sender_free(sender);
		}
	eesp_receiver_free(receiver);
	eesp_group_free(group);
}

static void statistics(void)
{
	struct kit k = new_kit(EESP_AEAD_AES_128_GCM, EESP_V_ID);
	eesp_stats s;
	for (int i = 0; i < 10; i++)
		SAME(one_packet(k.sender, k.receiver), EESP_OK);
	eesp_pkt p = packet(rooms[0], 10, 0, 0);
	SAME(eesp_seal_burst(k.sender, &p, 1), 0);
	SAME(eesp_open_burst(k.receiver, &p, 1), 0);
	memset(&s, 0xff, sizeof s);
	WORKS(eesp_sender_stats(k.sender, &s));
	CHECK(s.packets[0] == 10 && s.packets[-EESP_ERR_ROOM] == 1 && s.reserved[0] == 0);
	SAME(s.octets, 10 * (64 + EESP_ICV_LEN + eesp_sender_header_len(k.sender)));
	WORKS(eesp_receiver_stats(k.receiver, &s));
	CHECK(s.packets[0] == 10 && s.packets[-EESP_ERR_SHORT] == 1 && s.octets == 640);
	free_kit(&k);
}

int main(void)
{
	rooms = malloc(MAX_BURST * sizeof *rooms);
	CHECK(rooms != NULL);
	TEST(in_place);
	TEST(elsewhere);
	TEST(overlap);
	TEST(chained);
	TEST(cuts);
	TEST(chained_refused);
	TEST(mixed);
	TEST(tampered);
	TEST(proxies);
	TEST(proxy_refuses);
	TEST(proxy_outlives);
	TEST(known_packet);
	TEST(known_sealing);
	TEST(psp_extension);
	TEST(statistics);
	free(rooms);
	return 0;
}
