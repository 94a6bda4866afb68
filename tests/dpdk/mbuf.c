/* SPDX-License-Identifier: BSD-3-Clause */
/* eesp_mbuf.h: packets in mbufs, whole and chained, through the library and back. */
#include "../c/test.h"

#include <eesp_mbuf.h>
#include <rte_eal.h>
#include <rte_errno.h>

#define OUTER 42 /* octets that are to be left in front */

static struct rte_mempool *pool, *small; /* small: so that packets come in chains */
static eesp_mbuf_burst burst;
static uint32_t next_id = 100;

/* A packet of these octets, in one mbuf or in several. */
static struct rte_mbuf *mbuf_of(struct rte_mempool *from, const uint8_t *octets, uint32_t n)
{
	struct rte_mbuf *m = NULL;
	do {
		struct rte_mbuf *s = rte_pktmbuf_alloc(from);
		CHECK(s != NULL);
		uint32_t fits = RTE_MIN(n, rte_pktmbuf_tailroom(s));
		memcpy(rte_pktmbuf_append(s, (uint16_t)fits), octets, fits);
		octets += fits, n -= fits;
		if (m == NULL)
			m = s;
		else
			SAME(rte_pktmbuf_chain(m, s), 0);
	} while (n != 0);
	m->ol_flags |= RTE_MBUF_F_RX_IP_CKSUM_GOOD | RTE_MBUF_F_RX_L4_CKSUM_BAD | RTE_MBUF_F_RX_RSS_HASH |
		       RTE_BIT64(25);
	m->packet_type = RTE_PTYPE_L3_IPV6;
	m->l3_len = 20;
	return m;
}

/* The mbuf is in order, and has these octets. */
static void is(const struct rte_mbuf *m, const uint8_t *octets, uint32_t n)
{
	const char *why;
	uint8_t b[20000];
	if (rte_mbuf_check(m, 1, &why) != 0)
		test_fail(__FILE__, __LINE__, "rte_mbuf_check", why);
	SAME(rte_pktmbuf_pkt_len(m), n);
	CHECK(n <= sizeof b);
	CHECK(n == 0 || memcmp(rte_pktmbuf_read(m, 0, n, b), octets, n) == 0);
}

/* What was true of the packet before is not said of this one. */
static void forgot(const struct rte_mbuf *m)
{
	SAME(m->ol_flags, RTE_BIT64(25)); /* a dynamic flag */
	SAME(m->packet_type, 0);
	SAME(m->tx_offload, 0);
}

static void random_octets(uint8_t *b, uint32_t n)
{
	static uint32_t x = 1;
	for (uint32_t i = 0; i < n; i++)
		b[i] = (uint8_t)((x = x * 1664525 + 1013904223) >> 24);
}

struct end {
	eesp_group *group;
	eesp_sender *sender;
	eesp_receiver *receiver;
};

static struct end end_of(uint32_t profile)
{
	struct end e;
	uint8_t key[32];
	eesp_group_config gc = EESP_GROUP_CONFIG_INIT;
	eesp_sender_config sc = EESP_SENDER_CONFIG_INIT;
	gc.profile = profile;
	random_octets(key, sizeof key);
	sc.id = next_id++;
	sc.counter_mode = EESP_COUNTER_EXPLICIT;
	if (profile == EESP_PROFILE_EESP) {
		gc.mode = EESP_SSKDF_HKDF_SHA2_256;
		gc.domain = next_id;
	}
	WORKS(eesp_group_new(&gc, &e.group));
	if (profile == EESP_PROFILE_STATELESS) {
		sc.flags = EESP_SENDER_OPTIONS;
		WORKS(eesp_group_generate_root_key(e.group, EESP_LEVEL_ZONE, key, 16));
	} else {
		WORKS(eesp_group_set_key(e.group, 0, key, sizeof key));
	}
	WORKS(eesp_sender_new(e.group, &sc, &e.sender));
	WORKS(eesp_receiver_new(&e.group, 1, NULL, &e.receiver));
	return e;
}

static void end_free(struct end *e)
{
	eesp_receiver_free(e->receiver);
	eesp_sender_free(e->sender);
	eesp_group_free(e->group);
}

/* Sealed and opened, packets of all lengths are as they were, good ones in their order, with bad ones between. */
static void there_and_back(void)
{
	static uint8_t octets[EESP_MBUF_BURST][4000];
	for (uint32_t profile = 0; profile <= EESP_PROFILE_EESP; profile++) {
		if (profile == EESP_PROFILE_TSS) /* whose prefixes are the caller's */
			continue;
		struct end e = end_of(profile);
		for (int round = 0; round < 60; round++) {
			uint32_t len[EESP_MBUF_BURST], kept = 0, at[EESP_MBUF_BURST];
			eesp_mbuf_begin(&burst);
			for (uint32_t i = 0; i < EESP_MBUF_BURST; i++) {
				len[i] = (uint32_t)(round * 61 + (int)i * 97) % 4000 + 1;
				random_octets(octets[i], len[i]);
				struct rte_mbuf *m = mbuf_of(i % 3 ? small : pool, octets[i], len[i]);
				CHECK(eesp_mbuf_tailroom(m, EESP_MBUF_TAIL, i % 3 ? small : pool));
				GIVES(m->nb_segs > EESP_MBUF_SEGS ? EESP_ERR_SEGMENTS : EESP_OK,
				      eesp_mbuf_add(&burst, m, OUTER, NULL));
				if (m->nb_segs > EESP_MBUF_SEGS) {
					rte_pktmbuf_free(m);
					continue;
				}
				if (i % 5 == 2)
					burst.pkts[burst.count - 1].reserved = 1; /* which is an error */
				else
					at[kept++] = i;
			}
			uint16_t good = eesp_mbuf_seal(&burst, e.sender);
			SAME(good, kept);
			eesp_mbuf_free_rest(&burst, good);
			SAME(burst.count, good);
			struct rte_mbuf *sealed[EESP_MBUF_BURST];
			for (uint16_t i = 0; i < good; i++) {
				struct rte_mbuf *m = sealed[i] = eesp_mbuf_of(&burst.pkts[i]);
				const char *why;
				SAME(rte_mbuf_check(m, 1, &why), 0);
				SAME(rte_pktmbuf_pkt_len(m), burst.pkts[i].out_len);
				CHECK(rte_pktmbuf_mtod(m, void *) == burst.pkts[i].out);
				CHECK(rte_pktmbuf_headroom(m) >= OUTER);
				forgot(m);
				m->ol_flags |= RTE_MBUF_F_RX_L4_CKSUM_BAD;
			}
			eesp_mbuf_begin(&burst);
			for (uint16_t i = 0; i < good; i++) {
				if (i % 7 == 3) /* damaged */
					rte_pktmbuf_mtod_offset(rte_pktmbuf_lastseg(sealed[i]), uint8_t *, 0)[0] ^= 1;
				WORKS(eesp_mbuf_add(&burst, sealed[i], OUTER, NULL));
			}
			uint16_t opened = eesp_mbuf_open(&burst, e.receiver);
			SAME(opened, good - (good + 3) / 7);
			for (uint16_t i = 0, j = 0; i < good; i++) {
				if (i % 7 == 3)
					continue;
				struct rte_mbuf *m = eesp_mbuf_of(&burst.pkts[j++]);
				is(m, octets[at[i]], len[at[i]]);
				forgot(m);
			}
			eesp_mbuf_free_rest(&burst, 0);
		}
		end_free(&e);
	}
	SAME(rte_mempool_in_use_count(pool), 0);
	SAME(rte_mempool_in_use_count(small), 0);
}

/* A header that fills the first segment, and nothing in the packet. */
static void odd_places(void)
{
	struct end e = end_of(EESP_PROFILE_PSP);
	static const uint8_t octets[4] = "abc";
	for (int n = 0; n <= 4; n += 4) {
		struct rte_mbuf *m = mbuf_of(pool, octets, (uint32_t)n), *rest;
		eesp_mbuf_begin(&burst);
		WORKS(eesp_mbuf_add(&burst, m, OUTER, NULL));
		SAME(eesp_mbuf_seal(&burst, e.sender), 1);
		/* Header | payload and ICV. */
		uint32_t header = eesp_sender_header_len(e.sender), behind = rte_pktmbuf_pkt_len(m) - header;
		rest = mbuf_of(pool, rte_pktmbuf_mtod_offset(m, uint8_t *, header), behind);
		eesp_mbuf_cut(m, header);
		SAME(rte_pktmbuf_chain(m, rest), 0);
		eesp_mbuf_begin(&burst);
		WORKS(eesp_mbuf_add(&burst, m, OUTER, NULL));
		SAME(eesp_mbuf_open(&burst, e.receiver), 1);
		is(m, octets, (uint32_t)n);
		rte_pktmbuf_free(m);
	}
	end_free(&e);
}

/* Proxies and UDP move what is in one mbuf, and refuse chains. */
static void one_mbuf(void)
{
	struct end one = end_of(EESP_PROFILE_PSP), other = end_of(EESP_PROFILE_EESP);
	eesp_proxy *proxy;
	uint8_t ip[100] = { 0x45, 0, 0, sizeof ip, 0, 0, 0, 0, 64, IPPROTO_UDP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2 };
	static const uint8_t ends[8] = { 192, 0, 2, 1, 192, 0, 2, 2 };
	eesp_udp udp = EESP_UDP_INIT;
	eesp_addr_from_ipv4(udp.addr.src, ends);
	eesp_addr_from_ipv4(udp.addr.dst, ends + 4);
	random_octets(ip + 20, sizeof ip - 20);
	WORKS(eesp_proxy_new(one.receiver, other.sender, &proxy));
	struct rte_mbuf *m = mbuf_of(pool, ip, sizeof ip), *chain = mbuf_of(small, ip, sizeof ip);
	CHECK(chain->nb_segs > 1);
	eesp_mbuf_begin(&burst);
	WORKS(eesp_mbuf_add(&burst, chain, OUTER, NULL));
	WORKS(eesp_mbuf_add(&burst, m, OUTER, NULL));
	SAME(eesp_mbuf_udp_seal(&burst, one.sender, &udp), 1);
	CHECK(eesp_mbuf_of(&burst.pkts[0]) == m && burst.pkts[1].status == EESP_ERR_SEGMENTS);
	eesp_mbuf_free_rest(&burst, 1);
	SAME(rte_pktmbuf_pkt_len(m), 20 + 8 + 16 + sizeof ip + 16);
	SAME(*rte_pktmbuf_mtod(m, uint8_t *), 0x45);
	eesp_mbuf_begin(&burst);
	WORKS(eesp_mbuf_add(&burst, m, 0, NULL));
	SAME(eesp_mbuf_udp_open(&burst, one.receiver, &udp), 1);
	is(m, ip, sizeof ip);
	eesp_mbuf_begin(&burst);
	WORKS(eesp_mbuf_add(&burst, m, OUTER, NULL));
	SAME(eesp_mbuf_seal(&burst, one.sender), 1);
	eesp_mbuf_begin(&burst);
	WORKS(eesp_mbuf_add(&burst, m, OUTER, NULL));
	SAME(eesp_mbuf_proxy(&burst, proxy), 1);
	eesp_mbuf_begin(&burst);
	WORKS(eesp_mbuf_add(&burst, m, OUTER, NULL));
	SAME(eesp_mbuf_open(&burst, other.receiver), 1);
	is(m, ip, sizeof ip);
	rte_pktmbuf_free(m);
	eesp_proxy_free(proxy);
	end_free(&one);
	end_free(&other);
}

static void refused(void)
{
	static const uint8_t octets[600];
	struct rte_mbuf *m = mbuf_of(pool, octets, 100), *chain = mbuf_of(small, octets, 600);
	eesp_iov iov[EESP_MBUF_SEGS];
	eesp_pkt p;
	GIVES(EESP_ERR_SEGMENTS, eesp_mbuf_to_pkt(chain, 0, &p, iov, (uint16_t)(chain->nb_segs - 1)));
	WORKS(eesp_mbuf_to_pkt(chain, 0, &p, iov, chain->nb_segs));
	SAME(p.iov_count, chain->nb_segs);
	WORKS(eesp_mbuf_to_pkt(m, 0, &p, NULL, 0));
	SAME(p.headroom, RTE_PKTMBUF_HEADROOM);
	WORKS(eesp_mbuf_to_pkt(m, 1 << 20, &p, NULL, 0));
	SAME(p.headroom, 0);
	/* Somebody else has it too. */
	rte_mbuf_refcnt_update(chain->next, 1);
	GIVES(EESP_ERR_UNSUPPORTED, eesp_mbuf_to_pkt(chain, 0, &p, iov, EESP_MBUF_SEGS));
	rte_mbuf_refcnt_update(chain->next, -1);
	struct rte_mbuf *clone = rte_pktmbuf_clone(m, pool);
	CHECK(clone != NULL);
	GIVES(EESP_ERR_UNSUPPORTED, eesp_mbuf_to_pkt(m, 0, &p, NULL, 0));
	GIVES(EESP_ERR_UNSUPPORTED, eesp_mbuf_to_pkt(clone, 0, &p, NULL, 0));
	rte_pktmbuf_free(clone);
	WORKS(eesp_mbuf_to_pkt(m, 0, &p, NULL, 0));
	/* A burst that is full. */
	eesp_mbuf_begin(&burst);
	for (int i = 0; i < EESP_MBUF_BURST; i++)
		WORKS(eesp_mbuf_add(&burst, m, 0, NULL));
	GIVES(EESP_ERR_ROOM, eesp_mbuf_add(&burst, m, 0, NULL));
	rte_pktmbuf_free(m);
	rte_pktmbuf_free(chain);
	SAME(rte_mempool_in_use_count(pool), 0);
	SAME(rte_mempool_in_use_count(small), 0);
}

/* The Internet checksum of a pseudo header and what is behind an IP header, 0 over a right one. */
static uint16_t sum_of(const struct rte_mbuf *m)
{
	uint8_t b[20000];
	const uint8_t *ip = rte_pktmbuf_read(m, 0, rte_pktmbuf_pkt_len(m), b);
	uint32_t hdr = ip[0] >> 4 == 4 ? (ip[0] & 15u) * 4 : 40, n = rte_pktmbuf_pkt_len(m);
	uint32_t s = n - hdr + (hdr == 40 ? ip[6] : ip[9]);
	for (uint32_t i = hdr == 40 ? 8 : 12; i < n; i++) {
		if (hdr != 40 && i == 20)
			i = hdr; /* options are not in it */
		s += (i - hdr) % 2 ? ip[i] : (uint32_t)ip[i] << 8;
	}
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return (uint16_t)~s;
}

static void checksums(void)
{
	static const struct { uint64_t flags; bool ip, l4; } cases[] = {
		{ 0, false, false },
		{ RTE_MBUF_F_RX_IP_CKSUM_GOOD | RTE_MBUF_F_RX_L4_CKSUM_GOOD, false, false },
		{ RTE_MBUF_F_RX_L4_CKSUM_NONE, false, true },
		{ RTE_MBUF_F_RX_IP_CKSUM_NONE, true, false },
		{ RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IP_CKSUM | RTE_MBUF_F_TX_TCP_CKSUM, true, true },
		{ RTE_MBUF_F_TX_UDP_CKSUM, false, true },
	};
	for (int chained = 0; chained < 2; chained++)
		for (int six = 0; six < 2; six++)
			for (uint32_t n = 60; n < 600; n += 77)
				for (size_t i = 0; i < COUNT(cases); i++)
					for (int tcp = 0; tcp < 2; tcp++) {
						uint8_t b[600], hdr = six ? 40 : 24;
						random_octets(b, n);
						b[0] = six ? 0x60 : 0x46;
						b[2] = (uint8_t)(n >> 8), b[3] = (uint8_t)n;
						b[six ? 4 : 6] = (uint8_t)(six ? (n - 40) >> 8 : 0);
						b[six ? 5 : 7] = (uint8_t)(six ? n - 40 : 0);
						b[six ? 6 : 9] = tcp ? IPPROTO_TCP : IPPROTO_UDP;
						struct rte_mbuf *m = mbuf_of(chained ? small : pool, b, n);
						m->ol_flags = cases[i].flags;
						WORKS(eesp_mbuf_checksums(m));
						SAME(sum_of(m) == 0, cases[i].l4);
						struct rte_ipv4_hdr *ip = rte_pktmbuf_mtod(m, struct rte_ipv4_hdr *);
						if (!six)
							SAME(rte_raw_cksum(ip, hdr) == 0xffff, cases[i].ip);
						rte_pktmbuf_free(m);
					}
	static const struct { int at; uint8_t octet; uint64_t flags; } wrong[] = {
		{ 0, 0x46, RTE_MBUF_F_TX_TCP_SEG },	   { 0, 0x46, RTE_MBUF_F_TX_UDP_SEG },
		{ 0, 0x44, RTE_MBUF_F_RX_L4_CKSUM_NONE }, { 0, 0x50, RTE_MBUF_F_RX_L4_CKSUM_NONE },
		{ 6, 0x20, RTE_MBUF_F_RX_L4_CKSUM_NONE }, { 9, IPPROTO_SCTP, RTE_MBUF_F_TX_SCTP_CKSUM },
		{ 3, 10, RTE_MBUF_F_RX_L4_CKSUM_NONE },	   { 3, 101, RTE_MBUF_F_RX_L4_CKSUM_NONE },
		{ 3, 30, RTE_MBUF_F_RX_L4_CKSUM_NONE },	   { 0, 0x4f, RTE_MBUF_F_RX_L4_CKSUM_NONE },
	};
	for (size_t i = 0; i < COUNT(wrong); i++) {
		uint8_t b[100] = { 0x46, 0, 0, sizeof b, 0, 0, 0, 0, 64, IPPROTO_UDP };
		b[wrong[i].at] = wrong[i].octet;
		struct rte_mbuf *m = mbuf_of(pool, b, wrong[i].octet == 0x4f ? 59 : sizeof b);
		m->ol_flags = wrong[i].flags;
		GIVES(EESP_ERR_UNSUPPORTED, eesp_mbuf_checksums(m));
		rte_pktmbuf_free(m);
	}
	/* What a device is told of a frame. */
	uint8_t frame[60] = { 0 };
	frame[24] = 9;
	struct rte_mbuf *m = mbuf_of(pool, frame, sizeof frame);
	eesp_mbuf_forget(m);
	eesp_mbuf_offload_ipv4(m, 14, 20);
	SAME(m->ol_flags, RTE_BIT64(25) | RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IP_CKSUM);
	SAME(m->l2_len * 100 + m->l3_len, 1420);
	SAME(rte_pktmbuf_mtod(m, uint8_t *)[24], 0);
	rte_pktmbuf_free(m);
}

int main(int argc, char **argv)
{
	(void)argc;
	char *eal[] = { argv[0],	     (char *)(uintptr_t)"--no-huge",   (char *)(uintptr_t)"--no-pci",
			(char *)(uintptr_t)"-m", (char *)(uintptr_t)"64", (char *)(uintptr_t)"--no-shconf",
			(char *)(uintptr_t)"--no-telemetry", (char *)(uintptr_t)"--log-level",
			(char *)(uintptr_t)"error" };
	CHECK(rte_eal_init(COUNT(eal), eal) >= 0);
	pool = rte_pktmbuf_pool_create("whole", 255, 0, 0, RTE_PKTMBUF_HEADROOM + 6000, SOCKET_ID_ANY);
	small = rte_pktmbuf_pool_create("small", 2047, 0, 0, RTE_PKTMBUF_HEADROOM + 64, SOCKET_ID_ANY);
	CHECK(pool != NULL && small != NULL);
	TEST(there_and_back);
	TEST(odd_places);
	TEST(one_mbuf);
	TEST(refused);
	TEST(checksums);
	return rte_eal_cleanup() != 0;
}
