/* SPDX-License-Identifier: BSD-3-Clause */
/* What tap_gw cuts and joins: sequence, lengths, identifications and checksums, by a sum of its own. */
#include "../../examples/tap/segments.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(c)                                                                          \
	do {                                                                              \
		if (!(c)) {                                                               \
			fprintf(stderr, "segments.c:%d: %s (case %u)\n", __LINE__, #c, nth); \
			exit(1);                                                          \
		}                                                                         \
	} while (0)

static unsigned nth;
static uint32_t state = 1;
static uint32_t next(void) { return (state = state * 1664525 + 1013904223) >> 8; }

/* RFC 1071, an octet at a time. */
static uint32_t add(uint32_t s, const uint8_t *b, size_t len)
{
	for (size_t i = 0; i < len; i++)
		s += i % 2 != 0 ? b[i] : (uint32_t)b[i] << 8;
	return s;
}
static uint32_t fold(uint32_t s)
{
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return s;
}
static uint32_t l4_sum(const uint8_t *ip, uint32_t len)
{
	const int v6 = ip[0] >> 4 == 6, l4 = v6 ? 40 : 20;
	uint32_t s = add(0, ip + (v6 ? 8 : 12), v6 ? 32 : 8);
	return fold(add(s + len - (uint32_t)l4 + ip[v6 ? 6 : 9], ip + l4, len - (uint32_t)l4));
}
static uint32_t get(const uint8_t *b, int n)
{
	uint32_t v = 0;
	for (int i = 0; i < n; i++)
		v = v << 8 | b[i];
	return v;
}

/* A packet of payload octets; returns where TCP or UDP begins. */
static uint32_t make(uint8_t *ip, int v6, int tcp, uint32_t options, uint32_t payload)
{
	const uint32_t l4 = v6 ? 40 : 20, head = l4 + (tcp ? 20 + options : 8), len = head + payload;
	memset(ip, 0, head);
	for (uint32_t i = 0; i < payload; i++)
		ip[head + i] = (uint8_t)next();
	if (v6) {
		ip[0] = 0x60, ip[4] = (uint8_t)((len - 40) >> 8), ip[5] = (uint8_t)(len - 40), ip[6] = tcp ? 6 : 17,
		ip[7] = 64;
		for (int i = 8; i < 40; i++)
			ip[i] = (uint8_t)(i * 7);
	} else {
		ip[0] = 0x45, ip[2] = (uint8_t)(len >> 8), ip[3] = (uint8_t)len, ip[4] = 0xff, ip[5] = 0xfe,
		ip[6] = 0x40, ip[8] = 64, ip[9] = tcp ? 6 : 17;
		for (int i = 12; i < 20; i++)
			ip[i] = (uint8_t)(i * 5);
	}
	uint8_t *b = ip + l4;
	b[1] = 80, b[3] = 99;
	if (tcp) {
		memset(b + 4, 0xff, 3), b[7] = 0x80; /* the sequence number wraps */
		b[11] = 7, b[12] = (uint8_t)((20 + options) / 4 << 4), b[13] = 0x18, b[14] = 1;
		for (uint32_t i = 0; i < options; i++)
			b[20 + i] = 1;
	} else {
		b[4] = (uint8_t)((len - l4) >> 8), b[5] = (uint8_t)(len - l4);
	}
	return l4;
}

int main(void)
{
	static uint8_t whole[70000], slots[256][2048], rest_room[2048 + 70000], head[2048];
	unsigned segments_of_all = 0;
	for (nth = 0; nth < 400; nth++) {
		const int v6 = next() % 2, tcp = next() % 4 != 0;
		const uint32_t options = tcp ? next() % 4 * 4 : 0, size = 300 + next() % 1000;
		const uint32_t payload = nth < 4 ? size : 1 + next() % (nth % 8 == 0 ? 60000 : size * 20);
		const uint32_t l4 = make(whole, v6, tcp, options, payload), headers = l4 + (tcp ? 20 + options : 8),
			       len = headers + payload, count = (payload + size - 1) / size;
		if (count > 256)
			continue;
		/* As the kernel gives it: the pseudo header's sum where the checksum belongs. */
		struct virtio_net_hdr h = { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .hdr_len = (uint16_t)headers,
					    .gso_type = !tcp ? VIRTIO_NET_HDR_GSO_UDP_L4
						      : v6   ? VIRTIO_NET_HDR_GSO_TCPV6
							     : VIRTIO_NET_HDR_GSO_TCPV4,
					    .gso_size = (uint16_t)size, .csum_start = (uint16_t)l4,
					    .csum_offset = tcp ? 16 : 6 };
		const uint32_t room = headers + size + next() % 3 * 50, first = len < room ? len : room;
		uint8_t *rest = rest_room + 2048;
		memcpy(head, whole, first);
		memcpy(rest, whole + first, len - first);
		struct cut c;
		CHECK(cut_begin(&c, &h, head, first, rest, len - first) == count);
		uint32_t done = 0;
		for (uint32_t i = 0; i < count; i++) {
			uint8_t *s = i == 0 ? head : slots[i];
			const uint32_t n = cut_next(&c, s), own = n - headers;
			CHECK(own == (payload - done < size ? payload - done : size));
			CHECK(memcmp(s + headers, whole + headers + done, own) == 0);
			CHECK(v6 ? get(s + 4, 2) == n - 40 : get(s + 2, 2) == n && fold(add(0, s, 20)) == 0xffff);
			CHECK(v6 || get(s + 4, 2) == ((0xfffe + i) & 0xffff));
			CHECK(l4_sum(s, n) == 0xffff);
			CHECK(!tcp || get(s + l4 + 4, 4) == 0xffffff80u + done);
			CHECK(!tcp || ((s[l4 + 13] & 8) != 0) == (i == count - 1));
			CHECK(tcp || get(s + l4 + 4, 2) == n - l4);
			done += own;
		}
		segments_of_all += count;

		/* Joined again they are what they were cut of, as far as runs go. */
		static struct run r;
		r = (struct run){ .udp_segments = true };
		uint32_t at = 0;
		for (uint32_t i = 0; i < count; at = i) {
			const uint32_t begin = i;
			for (; i < count; i++) {
				uint8_t *s = i == 0 ? head : slots[i];
				if (!run_add(&r, s, headers + (i == count - 1 ? payload - i * size : size)))
					break;
			}
			CHECK(i == count || i - begin == MAX_RUN);
			const uint32_t packets = i - begin;
			const int elements = run_end(&r);
			CHECK(elements == 1 + (int)packets);
			static uint8_t joined[70000];
			uint32_t total = 0;
			for (int e = 1; e < elements; e++) {
				memcpy(joined + total, r.iov[e].iov_base, r.iov[e].iov_len);
				total += (uint32_t)r.iov[e].iov_len;
			}
			CHECK(memcmp(joined + headers, whole + headers + begin * size, total - headers) == 0);
			CHECK(v6 ? get(joined + 4, 2) == total - 40
				 : get(joined + 2, 2) == total && fold(add(0, joined, 20)) == 0xffff);
			if (packets == 1) {
				CHECK(r.header.flags == 0 && r.header.gso_type == VIRTIO_NET_HDR_GSO_NONE);
				CHECK(l4_sum(joined, total) == 0xffff);
				continue;
			}
			CHECK(r.header.flags == VIRTIO_NET_HDR_F_NEEDS_CSUM && r.header.gso_type == h.gso_type);
			CHECK(r.header.gso_size == size && r.header.csum_start == l4 && r.header.hdr_len == headers);
			CHECK(r.header.csum_offset == h.csum_offset);
			/* The kernel adds what is behind csum_start to the pseudo header's sum that is there. */
			const uint32_t rest_sum = fold(add(0, joined + l4, total - l4));
			memset(joined + l4 + h.csum_offset, 0, 2);
			joined[l4 + h.csum_offset] = (uint8_t)(~rest_sum >> 8),
			joined[l4 + h.csum_offset + 1] = (uint8_t)~rest_sum;
			CHECK(l4_sum(joined, total) == 0xffff);
		}
		(void)at;
	}

	/* What is not joined: each of these begins a run of its own. */
	nth = 1000;
	for (unsigned fault = 0; fault < 9; fault++, nth++) {
		static struct run r;
		uint8_t *a = slots[0], *b = slots[1];
		r = (struct run){ .udp_segments = true };
		for (int i = 0; i < 2; i++) {
			uint8_t *s = slots[i];
			make(s, 0, 1, 0, 100);
			s[20 + 13] = 0x10;
			if (i == 1)
				s[20 + 7] = (uint8_t)(0x80 + 100), s[20 + 4] = s[20 + 5] = s[20 + 6] = 0xff;
			if (i == 1 && fault == 1) s[20 + 7]++;               /* sequence number */
			if (i == 1 && fault == 2) s[20 + 3]++;               /* port */
			if (i == 1 && fault == 3) s[20 + 13] = 0x11;         /* FIN */
			if (i == 1 && fault == 4) s[1] = 2;                  /* TOS: ECN */
			if (i == 0 && fault == 5) s[20 + 13] = 0x18;         /* pushed: nothing behind it */
			if (i == 1 && fault == 6) s[6] = 0x20;               /* a fragment */
			if (i == 1 && fault == 7) s[20 + 11]++;              /* acknowledged */
			s[20 + 16] = s[20 + 17] = 0;
			const uint32_t sum = l4_sum(s, 140);
			s[20 + 16] = (uint8_t)(~sum >> 8), s[20 + 17] = (uint8_t)~sum;
			/* a wrong checksum, which must stay wrong */
			if (i == 1 && fault == 8) s[139] ^= 1;
		}
		CHECK(run_add(&r, a, 140));
		CHECK(run_add(&r, b, 140) == (fault == 0));
	}
	/* A flow is one both ways, in whole packets and in fragments; flows are spread. */
	unsigned spread[2] = { 0 };
	for (int v6 = 0; v6 < 2; v6++)
		for (int tcp = 0; tcp < 2; tcp++)
			for (nth = 0; nth < 200; nth++) {
				const uint32_t l4 = v6 ? 40 : 20, at = v6 ? 8 : 12, half = v6 ? 16 : 4, len = l4 + 20;
				uint8_t *a = slots[0], *b = slots[1];
				make(a, v6, tcp, 0, 100);
				for (uint32_t i = 0; i < 4; i++)
					a[l4 + i] = (uint8_t)next();
				memcpy(b, a, len);
				memcpy(b + at, a + at + half, half);
				memcpy(b + at + half, a + at, half);
				memcpy(b + l4, a + l4 + 2, 2);
				memcpy(b + l4 + 2, a + l4, 2);
				const uint32_t h = flow_hash(a, len);
				CHECK(flow_hash(b, len) == h);
				spread[h % 2]++;
				b[l4 + 1] ^= 1; /* another port */
				CHECK(flow_hash(b, len) != h);
				CHECK(flow_hash(a, l4) == flow_hash(b, l4)); /* too short for ports */
				if (!v6) {
					a[6] = 0x20, b[6] = 0, b[7] = 9; /* the first fragment and a later one */
					CHECK(flow_hash(a, len) == flow_hash(b, len) &&
					      flow_hash(a, len) == flow_hash(a, l4));
				}
			}
	CHECK(spread[0] > 300 && spread[1] > 300);
	/* Malformed: sizes that contradict each other. */
	struct cut c;
	struct virtio_net_hdr h = { .flags = 1, .gso_type = VIRTIO_NET_HDR_GSO_TCPV4, .gso_size = 100, .csum_start = 20,
				    .csum_offset = 16 };
	make(head, 0, 1, 0, 1000);
	CHECK(cut_begin(&c, &h, head, 1040, rest_room + 2048, 0) == 10);
	h.gso_size = 0;
	CHECK(cut_begin(&c, &h, head, 1040, rest_room + 2048, 0) == 0);
	h.gso_size = 100, h.csum_start = 1040;
	CHECK(cut_begin(&c, &h, head, 1040, rest_room + 2048, 0) == 0);
	h.csum_start = 20, h.gso_type = 77;
	CHECK(cut_begin(&c, &h, head, 1040, rest_room + 2048, 0) == 0);
	h.gso_type = VIRTIO_NET_HDR_GSO_NONE, h.csum_offset = 1021;
	CHECK(cut_begin(&c, &h, head, 1040, rest_room + 2048, 0) == 0);
	printf("segments: %u were cut as the kernel would, and joined again\n", segments_of_all);
	return 0;
}
