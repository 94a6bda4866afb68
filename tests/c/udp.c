/* SPDX-License-Identifier: BSD-3-Clause */
/* IP packets in UDP datagrams: tunnel and transport mode. */
#include "test.h"

#include <pthread.h>

enum { PORT = 1000 };

static eesp_group *group;
static eesp_sender *sender;
static eesp_receiver *receiver;
static uint32_t header;

static uint16_t be16(const uint8_t *b) { return (uint16_t)(b[0] << 8 | b[1]); }

static void put16(uint8_t *b, size_t n)
{
	b[0] = (uint8_t)(n >> 8);
	b[1] = (uint8_t)n;
}

/* The Internet checksum of n octets, an even number. */
static uint16_t checksum(const uint8_t *b, size_t n)
{
	uint32_t s = 0;
	for (size_t i = 0; i < n; i += 2)
		s += be16(b + i);
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return (uint16_t)~s;
}

/* Writes an IP packet with n octets of payload number x, and returns its length. options
 * is the length of IPv4 options. */
static uint32_t ip_packet(uint8_t *b, int v, uint32_t options, size_t x, uint32_t n)
{
	uint32_t h = v == 4 ? 20 + options : 40;
	memset(b, 0, h);
	if (v == 4) {
		b[0] = (uint8_t)(0x45 + options / 4);
		b[1] = 0xb8;
		put16(b + 2, h + n);
		put16(b + 4, 0x4321 + x);
		b[6] = 0x40;
		b[8] = 63;
		b[9] = 6;
		memcpy(b + 12, "\xc0\x00\x02\x01\xc6\x33\x64\x07", 8);
		memset(b + 20, 1, options); /* no operation */
		put16(b + 10, checksum(b, h));
	} else {
		b[0] = 0x6a;
		b[3] = 0x77;
		put16(b + 4, n);
		b[6] = 6;
		b[7] = 63;
		for (int i = 0; i < 32; i++)
			b[8 + i] = (uint8_t)(0x20 + i);
	}
	fill(b + h, x, n);
	return h + n;
}

/* Tunnels over both, and transport mode. */
static eesp_udp configs[3];
enum { OVER_4, OVER_6, TRANSPORT };

/* Octets that are added in front of the sealed header. */
static uint32_t outer_of(int c) { return c == OVER_4 ? 28 : c == OVER_6 ? 48 : 8; }

static void set_up(void)
{
	for (int i = 0; i < 3; i++) {
		const eesp_udp start = EESP_UDP_INIT;
		configs[i] = start;
		SAME(configs[i].dst_port, PORT);
	}
	eesp_addr_from_ipv4(configs[OVER_4].addr.src, "\x0a\x00\x00\x01");
	eesp_addr_from_ipv4(configs[OVER_4].addr.dst, "\x0a\x00\x00\x02");
	configs[OVER_4].ttl = 5;
	configs[OVER_4].tos = 0x2e;
	memset(configs[OVER_6].addr.src, 0xfd, 16);
	memset(configs[OVER_6].addr.dst, 0xfe, 16);
	configs[OVER_6].src_port = 7777;
	configs[TRANSPORT].mode = EESP_UDP_TRANSPORT;
}

/* Checks a datagram, and returns the length of its IP header. */
static uint32_t check_datagram(const uint8_t *b, size_t n, int c)
{
	uint32_t h = 40;
	if (b[0] >> 4 == 4) {
		h = (uint32_t)(b[0] & 15) * 4;
		SAME(be16(b + 2), n);
		SAME(checksum(b, h), 0);
		SAME(b[9], 17);
	} else {
		SAME(b[0] >> 4, 6);
		SAME(be16(b + 4), n - 40);
		SAME(b[6], 17);
	}
	const uint8_t *u = b + h;
	SAME(be16(u + 2), PORT);
	SAME(be16(u + 4), n - h);
	SAME(be16(u + 6), 0);
	if (c == OVER_6)
		SAME(be16(u), 7777);
	else
		CHECK(be16(u) >= 49152);
	if (c == OVER_4) {
		CHECK(h == 20 && b[8] == 5 && b[1] == 0x2e &&
		      memcmp(b + 12, "\x0a\x00\x00\x01\x0a\x00\x00\x02", 8) == 0);
	} else if (c == OVER_6) {
		CHECK(h == 40 && b[7] == 64 && all_are(b + 8, 16, 0xfd) && all_are(b + 24, 16, 0xfe));
	}
	return h;
}

static const uint32_t lengths[] = { 0, 1, 7, 8, 15, 16, 17, 63, 64, 100, 255, 1400, 8900 };

/* All kinds of packets, in place between pages and elsewhere. */
static void round_trips(void)
{
	static const struct { int v; uint32_t options; } kinds[] = { { 4, 0 }, { 4, 4 }, { 4, 40 }, { 6, 0 } };
	struct guarded g = guarded(16384), to = guarded(16384), back = guarded(16384), d = guarded(sizeof(eesp_udp));
	static uint8_t ip[10000];
	for (int c = 0; c < 3; c++) {
		read_only(d, 0);
		const eesp_udp *u = memcpy(d.end - sizeof *u, &configs[c], sizeof *u);
		read_only(d, 1);
		for (size_t k = 0; k < COUNT(kinds); k++)
			for (size_t i = 0; i < COUNT(lengths); i++) {
				uint32_t n = ip_packet(ip, kinds[k].v, kinds[k].options, i, lengths[i]);
				uint32_t front = outer_of(c) + header, total = front + n + EESP_ICV_LEN;
				for (int end = 0; end < 2; end++) {
					uint8_t *at = end ? g.end - total : g.start;
					memset(g.start, CANARY, (size_t)(g.end - g.start));
					eesp_pkt p = packet(at + front, n, front, EESP_ICV_LEN);
					memcpy(p.data, ip, n);
					SAME(eesp_udp_seal_burst(sender, u, &p, 1), 1);
					CHECK(p.out == at && p.out_len == total && p.len == n);
					CHECK(all_are(end ? g.start : at + total, (size_t)(g.end - g.start) - total,
						      CANARY));
					check_datagram(at, total, c);

					/* Opened to elsewhere; the source is read-only. */
					uint8_t *result = end ? back.end - n : back.start;
					memset(back.start, CANARY, (size_t)(back.end - back.start));
					read_only(g, 1);
					eesp_pkt q = sealed(&p);
					q.dst = result;
					q.dst_size = n;
					SAME(eesp_udp_open_burst(receiver, u, &q, 1), 1);
					read_only(g, 0);
					CHECK(q.out == result && q.out_len == n && memcmp(q.out, ip, n) == 0 &&
					      q.tsc == p.tsc);
					CHECK(all_are(end ? back.start : result + n,
						      (size_t)(back.end - back.start) - n, CANARY));
					/* Opened in place. */
					q = sealed(&p);
					SAME(eesp_udp_open_burst(receiver, u, &q, 1), 1);
					CHECK(q.out_len == n && memcmp(q.out, ip, n) == 0 && q.out == at + front);
					CHECK(all_are(end ? g.start : at + total, (size_t)(g.end - g.start) - total,
						      CANARY));

					/* Sealed elsewhere. */
					uint8_t *source = end ? g.end - n : g.start;
					memcpy(source, ip, n);
					memset(to.start, CANARY, (size_t)(to.end - to.start));
					p = packet(source, n, 0, 0);
					p.dst = end ? to.end - total : to.start;
					p.dst_size = total;
					read_only(g, 1);
					SAME(eesp_udp_seal_burst(sender, u, &p, 1), 1);
					read_only(g, 0);
					CHECK(p.out == p.dst && all_are(end ? to.start : to.start + total,
									(size_t)(to.end - to.start) - total, CANARY));
					check_datagram(p.out, total, c);
					q = sealed(&p);
					SAME(eesp_udp_open_burst(receiver, u, &q, 1), 1);
					CHECK(memcmp(q.out, ip, n) == 0);

					/* One octet of room is missing. */
					p.dst_size--;
					SAME(eesp_udp_seal_burst(sender, u, &p, 1), 0);
					SAME(p.status, EESP_ERR_ROOM);
					CHECK(p.out == NULL && p.out_len == 0 && p.id == 0 && p.tsc == 0);
				}
			}
	}
}

/* Good and bad packets in one burst; their order stays. */
static void mixed(void)
{
	enum { N = 100 };
	static uint8_t rooms[N][2048], ip[2048];
	static eesp_pkt p[N];
	for (int c = 0; c < 3; c++) {
		eesp_receiver *r = new_replay_receiver(group, 128, 0);
		size_t good = 0;
		for (size_t i = 0; i < N; i++) {
			uint32_t n = ip_packet(rooms[i] + 200, i % 2 ? 4 : 6, 0, i, (uint32_t)(i * 31 % 1000));
			p[i] = packet(rooms[i] + 200, n + (uint32_t)(i % 6), 200, 500);
			p[i].user = rooms[i];
			if (i % 9 == 4)
				rooms[i][200] = 0;
			else if (i % 9 == 6)
				p[i].iov_count = 1;
			else if (i % 9 == 7)
				p[i].data = NULL;
			else if (i % 9 == 8)
				p[i].flags = 1;
			else
				good++;
		}
		SAME(eesp_udp_seal_burst(sender, &configs[c], p, N), good);
		for (size_t i = 0; i < N; i++) {
			SAME(p[i].status, i % 9 == 6                ? EESP_ERR_SEGMENTS
					  : i % 9 == 4 || i % 9 > 6 ? EESP_ERR_ARGUMENT
								    : EESP_OK);
			CHECK(p[i].user == rooms[i]);
			if (p[i].status == EESP_OK) {
				check_datagram(p[i].out, p[i].out_len, c);
				CHECK(i == 0 || p[i].tsc > p[i - 1].tsc);
				p[i] = sealed(&p[i]);
				if (i % 9 == 5) { /* forged */
					((uint8_t *)p[i].data)[p[i].len - 1] ^= 1;
					good--;
				}
				p[i].len += 7; /* padding of short Ethernet frames */
			} else {
				CHECK(p[i].out == NULL && p[i].out_len == 0 && p[i].id == 0 && p[i].tsc == 0);
				p[i] = packet(rooms[i], 64, 0, 0);
				memset(rooms[i], 0, 64);
				if (i % 9 == 6)
					p[i].iov_count = 2;
				if (i % 9 == 7)
					p[i].data = NULL;
			}
		}
		SAME(eesp_udp_open_burst(r, &configs[c], p, N), good);
		for (size_t i = 0; i < N; i++) {
			static const int want[9] = { 0, 0, 0, 0, EESP_ERR_ENCAP, EESP_ERR_AUTH, EESP_ERR_SEGMENTS,
						     EESP_ERR_ARGUMENT, EESP_ERR_ENCAP };
			SAME(p[i].status, want[i % 9]);
			if (want[i % 9])
				CHECK(p[i].out == NULL && p[i].out_len == 0);
			else {
				uint32_t n = ip_packet(ip, i % 2 ? 4 : 6, 0, i, (uint32_t)(i * 31 % 1000));
				CHECK(p[i].out_len == n && memcmp(p[i].out, ip, n) == 0);
			}
		}
		eesp_stats st;
		WORKS(eesp_receiver_stats(r, &st));
		CHECK(st.packets[0] == good && st.packets[-EESP_ERR_ENCAP] == 22 &&
		      st.packets[-EESP_ERR_SEGMENTS] == 11 && st.packets[-EESP_ERR_AUTH] == 11 &&
		      st.packets[-EESP_ERR_ARGUMENT] == 11);
		eesp_receiver_free(r);
	}
}

/* If the configuration is wrong, all packets have that status, and there is no error text. */
static void bad_config(const eesp_udp *u, int sealing_only)
{
	uint8_t b[256], was[256];
	uint32_t n = ip_packet(b + 100, 4, 0, 1, 50);
	eesp_pkt p[3];
	memcpy(was, b, sizeof b);
	for (int opening = 0; opening < 2; opening++) {
		for (int i = 0; i < 3; i++) {
			p[i] = packet(b + 100, n, 100, 50);
			p[i].out = b;
			p[i].out_len = 9;
			p[i].id = p[i].tsc = 9;
		}
		SAME(opening ? eesp_udp_open_burst(receiver, u, p, 3) : eesp_udp_seal_burst(sender, u, p, 3), 0);
		for (int i = 0; i < 3; i++) {
			SAME(p[i].status, opening && sealing_only ? EESP_ERR_ENCAP : EESP_ERR_ARGUMENT);
			CHECK(p[i].out == NULL && p[i].out_len == 0 && p[i].id == 0 && p[i].tsc == 0);
		}
		CHECK(memcmp(b, was, sizeof b) == 0);
	}
}

static void configurations(void)
{
	struct { eesp_udp u; uint8_t more[4096]; } x;
	GIVES(EESP_ERR_ARGUMENT, eesp_group_remove_root_key(NULL, 0));
	char text[256];
	snprintf(text, sizeof text, "%s", eesp_last_error());
	bad_config(NULL, 0);
	for (int c = 0; c < 3; c++) {
		memset(&x, 0, sizeof x);
		x.u = configs[c];
		for (uint32_t n = 0; n < sizeof(eesp_udp); n++) {
			x.u.struct_size = n;
			bad_config(&x.u, 0);
		}
		static const uint32_t newer[] = { sizeof(eesp_udp) + 8, 4096, 4097, UINT32_MAX };
		for (size_t i = 0; i < COUNT(newer); i++) {
			uint8_t b[512];
			x.u.struct_size = newer[i];
			if (newer[i] > 4096) {
				bad_config(&x.u, 0);
				continue;
			}
			eesp_pkt p = packet(b + 200, ip_packet(b + 200, 6, 0, 3, 50), 200, 100);
			SAME(eesp_udp_seal_burst(sender, &x.u, &p, 1), 1);
			p = sealed(&p);
			SAME(eesp_udp_open_burst(receiver, &x.u, &p, 1), 1);
			x.more[7] = 1; /* an unknown field */
			bad_config(&x.u, 0);
			x.more[7] = 0;
		}
		x.u = configs[c];
		x.u.mode = 2;
		bad_config(&x.u, 0);
		x.u = configs[c];
		x.u.dst_port = 0;
		bad_config(&x.u, 0);
		x.u = configs[c];
		x.u.reserved1 = 1;
		bad_config(&x.u, 0);
		x.u = configs[c];
		for (int bit = 4; bit < 32; bit++) {
			x.u.flags = (uint32_t)1 << bit;
			bad_config(&x.u, 0);
		}
		for (int i = 0; i < 2; i++) {
			x.u = configs[c];
			x.u.reserved[i] = (uint64_t)1 << 63;
			bad_config(&x.u, 0);
		}
	}
	x.u = configs[OVER_4];
	memcpy(x.u.addr.dst, configs[OVER_6].addr.dst, 16);
	bad_config(&x.u, 1);
	x.u = configs[OVER_6];
	memcpy(x.u.addr.src, configs[OVER_4].addr.src, 16);
	bad_config(&x.u, 1);
	CHECK(strcmp(text, eesp_last_error()) == 0);
}

/* The flags' effect on the outer header, and on the inner one when it is opened. */
static void traffic_classes(void)
{
	static const struct { uint32_t flags; uint8_t outer, on_path, inner; } cases[] = {
		/* The inner packet has DSCP 46 and ECT(0), 0xba; tos is 0x28. */
		{ 0, 0x28, 0x2b, 0xba },
		{ EESP_UDP_ECN, 0x2a, 0x2b, 0xbb },
		{ EESP_UDP_DSCP, 0xb8, 0xbb, 0xba },
		{ EESP_UDP_ECN | EESP_UDP_DSCP, 0xba, 0x29, 0xb9 },
		{ EESP_UDP_DSCP_BACK, 0x28, 0x2b, 0x2a },
		{ EESP_UDP_ECN | EESP_UDP_DSCP_BACK, 0x2a, 0x4b, 0x4b },
	};
	for (size_t i = 0; i < COUNT(cases); i++) {
		eesp_udp u = configs[OVER_6];
		uint8_t b[512];
		u.tos = 0x28;
		u.flags = cases[i].flags | EESP_UDP_CHECKSUM6;
		uint32_t n = ip_packet(b + 200, 6, 0, 3, 50);
		b[200] = 0x60 | 0xba >> 4;
		b[201] = (uint8_t)((b[201] & 0x0f) | (0xba << 4 & 0xff));
		eesp_pkt p = packet(b + 200, n, 200, 100);
		SAME(eesp_udp_seal_burst(sender, &u, &p, 1), 1);
		uint8_t *o = p.out;
		SAME((uint8_t)(o[0] << 4 | o[1] >> 4), cases[i].outer);
		uint32_t sum = p.out_len - 40 + 17; /* the pseudo header's length and protocol */
		for (uint32_t at = 8; at < p.out_len; at++)
			sum += at % 2 ? o[at] : (uint32_t)o[at] << 8;
		while (sum >> 16)
			sum = (sum & 0xffff) + (sum >> 16);
		SAME(sum, 0xffff);
		CHECK(o[46] != 0 || o[47] != 0);
		o[0] = 0x60 | cases[i].on_path >> 4;
		o[1] = (uint8_t)(cases[i].on_path << 4);
		eesp_pkt q = sealed(&p);
		SAME(eesp_udp_open_burst(receiver, &u, &q, 1), 1);
		o = q.out;
		SAME((uint8_t)(o[0] << 4 | o[1] >> 4), cases[i].inner);
		SAME(q.out_len, n);
	}
}

static void nulls(void)
{
	uint8_t b[256];
	eesp_pkt p = packet(b + 100, ip_packet(b + 100, 4, 0, 1, 50), 100, 50), was = p;
	const eesp_udp *u = &configs[OVER_4];
	SAME(eesp_udp_seal_burst(NULL, u, &p, 1), 0);
	SAME(eesp_udp_open_burst(NULL, u, &p, 1), 0);
	SAME(eesp_udp_seal_burst(sender, u, NULL, 5), 0);
	SAME(eesp_udp_open_burst(receiver, u, NULL, 5), 0);
	SAME(eesp_udp_seal_burst(sender, u, &p, 0), 0);
	SAME(eesp_udp_open_burst(receiver, u, &p, 0), 0);
	SAME(eesp_udp_seal_burst(sender, u, &p, SIZE_MAX), 0);
	SAME(eesp_udp_open_burst(receiver, u, &p, SIZE_MAX / 2), 0);
	CHECK(memcmp(&p, &was, sizeof p) == 0);
	SAME(eesp_udp_seal_burst((void *)receiver, u, &p, 1), 0);
	SAME(p.status, EESP_ERR_ARGUMENT);
	p = was;
	SAME(eesp_udp_open_burst((void *)sender, u, &p, 1), 0);
	SAME(p.status, EESP_ERR_ARGUMENT);
	p = was;
	p.reserved = 1;
	SAME(eesp_udp_seal_burst(sender, u, &p, 1), 0);
	SAME(p.status, EESP_ERR_ARGUMENT);
	p = packet(NULL, 0, 0, 0);
	SAME(eesp_udp_open_burst(receiver, u, &p, 1), 0);
	SAME(p.status, EESP_ERR_ARGUMENT);
	/* Impossible lengths: nothing is read beyond the IP packet. */
	for (int c = 0; c < 3; c++) {
		p = was;
		p.len = p.headroom = p.tailroom = UINT32_MAX;
		SAME(eesp_udp_seal_burst(sender, &configs[c], &p, 1), 1);
		p = sealed(&p);
		p.len = UINT32_MAX;
		SAME(eesp_udp_open_burst(receiver, &configs[c], &p, 1), 1);
		ip_packet(b + 100, 4, 0, 1, 50);
	}
}

/* Formats without the payload's protocol have no transport mode. */
static void other_formats(void)
{
	for (size_t v = 0; v < COUNT(all_v); v++) {
		struct kit k = new_kit(EESP_AEAD_AES_256_GCM, all_v[v]);
		uint8_t b[400];
		uint32_t n = ip_packet(b + 200, 4, 0, 1, 50);
		eesp_pkt p = packet(b + 200, n, 200, 50);
		SAME(eesp_udp_seal_burst(k.sender, &configs[TRANSPORT], &p, 1), 0);
		SAME(p.status, EESP_ERR_UNSUPPORTED);
		SAME(eesp_udp_seal_burst(k.sender, &configs[OVER_6], &p, 1), 1);
		check_datagram(p.out, p.out_len, OVER_6);
		eesp_pkt q = sealed(&p);
		SAME(eesp_udp_open_burst(k.receiver, &configs[OVER_6], &q, 1), 1);
		uint8_t ip[100];
		CHECK(q.out_len == ip_packet(ip, 4, 0, 1, 50) && memcmp(q.out, ip, n) == 0);
		free_kit(&k);
	}
}

static void in_forked_child(void)
{
	uint8_t b[256];
	for (int i = 0; i < 3; i++) {
		eesp_pkt p = packet(b + 100, ip_packet(b + 100, 4, 0, 1, 50), 100, 50);
		SAME(eesp_udp_seal_burst(sender, i == 2 ? NULL : &configs[i], &p, 1), 0);
		SAME(p.status, EESP_ERR_FORKED);
		CHECK(p.out == NULL);
		SAME(eesp_udp_open_burst(receiver, i == 2 ? NULL : &configs[i], &p, 1), 0);
		SAME(p.status, EESP_ERR_FORKED);
	}
}

static void forked(void) { in_child(in_forked_child); }

static eesp_receiver *read_from;
static int ended;
static void *reads(void *fell)
{
	eesp_stats now, last = { 0 };
	while (!__atomic_load_n(&ended, __ATOMIC_RELAXED)) {
		WORKS(eesp_receiver_stats(read_from, &now));
		*(int *)fell += now.octets < last.octets || now.packets[0] < last.packets[0];
		last = now;
	}
	return NULL;
}

/* Counts only grow, although each datagram opens and then is refused. */
static void counts_grow(void)
{
	static uint8_t room[32][256];
	struct kit k = new_kit(EESP_AEAD_AES_128_GCM, EESP_V_ID);
	eesp_udp u = EESP_UDP_INIT;
	eesp_stats st;
	pthread_t reader;
	int fell = 0;
	read_from = k.receiver;
	CHECK(pthread_create(&reader, NULL, reads, &fell) == 0);
	for (int round = 0; round < 3000; round++) {
		eesp_pkt p[32];
		for (size_t i = 0; i < COUNT(p); i++) {
			p[i] = packet(room[i] + 128, 40, 128, 64);
			memset(p[i].data, 0, 40); /* no IP packet */
		}
		SAME(eesp_seal_burst(k.sender, p, COUNT(p)), COUNT(p));
		for (size_t i = 0; i < COUNT(p); i++) {
			const uint32_t n = p[i].out_len + 48;
			uint8_t *b = (uint8_t *)p[i].out - 48;
			memset(b, 0, 48);
			b[0] = 0x60, b[5] = (uint8_t)(n - 40), b[6] = 17;
			b[42] = EESP_PSP_UDP_PORT >> 8, b[43] = EESP_PSP_UDP_PORT & 255, b[45] = (uint8_t)(n - 40);
			p[i] = packet(b, n, 0, 0);
		}
		SAME(eesp_udp_open_burst(k.receiver, &u, p, COUNT(p)), 0);
		SAME(p[0].status, EESP_ERR_ENCAP);
	}
	__atomic_store_n(&ended, 1, __ATOMIC_RELAXED);
	CHECK(pthread_join(reader, NULL) == 0);
	SAME(fell, 0);
	WORKS(eesp_receiver_stats(k.receiver, &st));
	CHECK(st.octets == 0 && st.packets[0] == 0 && st.packets[-EESP_ERR_ENCAP] == 3000 * 32);
	free_kit(&k);
}

int main(void)
{
	set_up();
	group = new_psp_group();
	sender = new_sender(group, EESP_V_PSP_AES_128_GCM, 0);
	receiver = new_receiver(group);
	header = eesp_sender_header_len(sender);
	TEST(round_trips);
	TEST(mixed);
	TEST(configurations);
	TEST(traffic_classes);
	TEST(nulls);
	TEST(other_formats);
	TEST(counts_grow);
	TEST(forked);
	eesp_sender_free(sender);
	eesp_receiver_free(receiver);
	eesp_group_free(group);
	return 0;
}
