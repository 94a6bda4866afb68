/* SPDX-License-Identifier: BSD-3-Clause */
#include "segments.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

enum { IP4_LEN = 20, IP6_LEN = 40, TCP_LEN = 20, UDP_LEN = 8 };
enum { TCP_FIN = 0x01, TCP_PSH = 0x08, TCP_ACK = 0x10, TCP_ECE = 0x40, TCP_CWR = 0x80 };
enum { TCP_SEQUENCE = 4, TCP_ACKED = 8, TCP_FLAGS = 13, TCP_WINDOW = 14, TCP_CHECKSUM = 16, UDP_LENGTH = 4,
	UDP_CHECKSUM = 6 };

static uint16_t get16(const uint8_t *b) { return (uint16_t)(b[0] << 8 | b[1]); }
static uint32_t get32(const uint8_t *b) { return (uint32_t)get16(b) << 16 | get16(b + 2); }
static void put16(uint8_t *b, uint32_t n) { b[0] = (uint8_t)(n >> 8), b[1] = (uint8_t)n; }
static void put32(uint8_t *b, uint32_t n) { put16(b, n >> 16), put16(b + 2, n); }

/* ---- The Internet checksum, in the machine's byte order ------------------------- */

static uint64_t sum(const uint8_t *b, size_t len, uint64_t s)
{
	/* Sums of 32-bit words do not overflow 64 bits. Two sums side by side do not wait for each other. */
	uint64_t t = 0;
	for (; len >= 16; len -= 16, b += 16) {
		uint32_t w[4];
		memcpy(w, b, 16);
		s += (uint64_t)w[0] + w[1];
		t += (uint64_t)w[2] + w[3];
	}
	for (; len >= 2; len -= 2, b += 2) {
		uint16_t w;
		memcpy(&w, b, 2);
		s += w;
	}
	if (len != 0) {
		uint16_t w = 0;
		memcpy(&w, b, 1);
		s += w;
	}
	return s + t;
}

static uint16_t fold(uint64_t s)
{
	while (s >> 16 != 0)
		s = (s & 0xffff) + (s >> 16);
	return (uint16_t)s;
}

/* The sum of addresses, protocol and length. */
static uint64_t pseudo(const uint8_t *ip, bool v6, uint8_t protocol, uint32_t len)
{
	const uint32_t words[2] = { htonl(len), htonl(protocol) };
	return sum((const uint8_t *)words, sizeof words, sum(ip + (v6 ? 8 : 12), v6 ? 32 : 8, 0));
}

static void ip4_checksum(uint8_t *ip, uint32_t len)
{
	memset(ip + 10, 0, 2);
	const uint16_t s = (uint16_t)~fold(sum(ip, len, 0));
	memcpy(ip + 10, &s, 2);
}

static void set_ip_len(uint8_t *ip, bool v6, uint32_t l4, uint32_t len)
{
	if (v6) {
		put16(ip + 4, len - IP6_LEN);
		return;
	}
	put16(ip + 2, len);
	ip4_checksum(ip, l4);
}

/* ---- Out ---------------------------------------------------------------------------- */

/* A single packet, which may lack its checksum. */
static uint32_t single(struct cut *c, const struct virtio_net_hdr *h, uint8_t *head, uint32_t len)
{
	c->first = head;
	c->payload = len;
	c->headers_len = 0;
	c->size = len;
	if ((h->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) == 0)
		return 1;
	const uint32_t from = h->csum_start, at = from + h->csum_offset;
	if (at + 2 > len)
		return 0;
	/* The field has the sum of the pseudo header. */
	uint16_t s = (uint16_t)~fold(sum(head + from, len - from, 0));
	if (s == 0 && h->csum_offset == UDP_CHECKSUM)
		s = 0xffff;
	memcpy(head + at, &s, 2);
	return 1;
}

uint32_t cut_begin(struct cut *c, const struct virtio_net_hdr *h, uint8_t *head, uint32_t head_len, uint8_t *rest,
		   uint32_t rest_len)
{
	const uint8_t type = h->gso_type & (uint8_t)~VIRTIO_NET_HDR_GSO_ECN;
	c->done = c->index = 0;
	if (type == VIRTIO_NET_HDR_GSO_NONE)
		return rest_len == 0 ? single(c, h, head, head_len) : 0;
	c->v6 = head[0] >> 4 == 6;
	c->tcp = type == VIRTIO_NET_HDR_GSO_TCPV4 || type == VIRTIO_NET_HDR_GSO_TCPV6;
	c->l4 = h->csum_start;
	if ((!c->tcp && type != VIRTIO_NET_HDR_GSO_UDP_L4) || c->l4 < (c->v6 ? IP6_LEN : IP4_LEN) ||
	    c->l4 + TCP_LEN > head_len)
		return 0;
	c->headers_len = c->l4 + (c->tcp ? (uint32_t)(head[c->l4 + 12] >> 4) * 4 : UDP_LEN);
	c->size = h->gso_size;
	const uint32_t one = c->headers_len + c->size;
	if (c->size == 0 || c->headers_len > MAX_HEADERS || c->headers_len > head_len ||
	    head_len + rest_len <= c->headers_len || (rest_len != 0 && one > head_len))
		return 0;
	memcpy(c->headers, head, c->headers_len);
	c->payload = head_len + rest_len - c->headers_len;
	c->first = head;
	const uint32_t more = head_len > one ? head_len - one : 0;
	memcpy(rest - more, head + one, more);
	c->rest = rest - more;
	return (c->payload + c->size - 1) / c->size;
}

uint32_t cut_next(struct cut *c, uint8_t *to)
{
	if (c->headers_len == 0)
		return c->payload;
	const uint32_t left = c->payload - c->done, n = left < c->size ? left : c->size, len = c->headers_len + n;
	if (c->index != 0) {
		memcpy(to, c->headers, c->headers_len);
		memcpy(to + c->headers_len, c->rest, n);
		c->rest += n;
	}
	if (!c->v6)
		put16(to + 4, get16(c->headers + 4) + c->index); /* identification */
	set_ip_len(to, c->v6, c->l4, len);
	uint8_t *l4 = to + c->l4;
	if (c->tcp) {
		put32(l4 + TCP_SEQUENCE, get32(c->headers + c->l4 + TCP_SEQUENCE) + c->done);
		if (n != left)
			l4[TCP_FLAGS] &= (uint8_t)~(TCP_FIN | TCP_PSH);
		if (c->index != 0)
			l4[TCP_FLAGS] &= (uint8_t)~TCP_CWR;
	} else {
		put16(l4 + UDP_LENGTH, len - c->l4);
	}
	uint8_t *at = l4 + (c->tcp ? TCP_CHECKSUM : UDP_CHECKSUM);
	memset(at, 0, 2);
	const uint32_t l4_len = len - c->l4;
	uint16_t s = (uint16_t)~fold(sum(l4, l4_len, pseudo(to, c->v6, c->tcp ? IPPROTO_TCP : IPPROTO_UDP, l4_len)));
	if (s == 0 && !c->tcp)
		s = 0xffff;
	memcpy(at, &s, 2);
	c->done += n;
	c->index++;
	return len;
}

/* ---- In ------------------------------------------------------------------------------- */

struct parsed {
	bool v6, tcp;
	uint32_t l4, headers_len;
};

/*
 * Whether a packet may be part of a run. It must be no fragment, have no options or extensions of IP, have a
 * payload and, with TCP, data only. Its checksum must be right: the kernel makes a new one, which would hide a
 * damaged packet.
 */
static bool parse(const uint8_t *ip, uint32_t len, struct parsed *p)
{
	uint8_t protocol;
	p->v6 = ip[0] >> 4 == 6;
	if (p->v6) {
		p->l4 = IP6_LEN;
		protocol = ip[6];
	} else {
		/* Don't Fragment and nothing else: otherwise identifications could be needed to join fragments. */
		if (ip[0] != 0x45 || get16(ip + 6) != 0x4000)
			return false;
		p->l4 = IP4_LEN;
		protocol = ip[9];
	}
	p->tcp = protocol == IPPROTO_TCP;
	if (len < p->l4 + (p->tcp ? TCP_LEN : UDP_LEN) || (!p->tcp && protocol != IPPROTO_UDP))
		return false;
	const uint8_t *l4 = ip + p->l4;
	if (p->tcp) {
		p->headers_len = p->l4 + (uint32_t)(l4[12] >> 4) * 4;
		if (p->headers_len < p->l4 + TCP_LEN || (l4[TCP_FLAGS] & (uint8_t)~TCP_PSH) != TCP_ACK)
			return false;
	} else {
		p->headers_len = p->l4 + UDP_LEN;
		if (get16(l4 + UDP_LENGTH) != len - p->l4 || get16(l4 + UDP_CHECKSUM) == 0)
			return false;
	}
	return p->headers_len < len && fold(sum(l4, len - p->l4, pseudo(ip, p->v6, protocol, len - p->l4))) == 0xffff;
}

/* Whether a packet's headers say that it follows the run. */
static bool follows(const struct run *r, const uint8_t *ip, const struct parsed *p)
{
	const uint8_t *first = r->first, *a = first + r->l4, *b = ip + r->l4;
	if (p->v6 != r->v6 || p->tcp != r->tcp || p->headers_len != r->headers_len)
		return false;
	if (r->v6 ? memcmp(first, ip, 4) != 0 || memcmp(first + 6, ip + 6, 34) != 0
		  : first[1] != ip[1] || first[8] != ip[8] || memcmp(first + 12, ip + 12, 8) != 0)
		return false;
	if (memcmp(a, b, 4) != 0) /* ports */
		return false;
	if (!r->tcp)
		return true;
	return get32(b + TCP_SEQUENCE) == r->next_sequence && memcmp(a + TCP_ACKED, b + TCP_ACKED, 4) == 0 &&
	       memcmp(a + TCP_WINDOW, b + TCP_WINDOW, 2) == 0 &&
	       memcmp(a + TCP_LEN, b + TCP_LEN, r->headers_len - r->l4 - TCP_LEN) == 0;
}

bool run_add(struct run *r, uint8_t *ip, uint32_t len)
{
	struct parsed p;
	const bool joins = (r->count == 0 || (!r->closed && r->count < MAX_RUN)) && parse(ip, len, &p) &&
			   (p.tcp || r->udp_segments);
	if (r->count == 0) {
		r->first = ip;
		r->total = len;
		r->closed = !joins;
		r->iov[1] = (struct iovec){ ip, len };
		r->count = 1;
		if (joins) {
			r->v6 = p.v6;
			r->tcp = p.tcp;
			r->l4 = p.l4;
			r->headers_len = p.headers_len;
			r->size = len - p.headers_len;
			r->next_sequence = p.tcp ? get32(ip + p.l4 + TCP_SEQUENCE) + r->size : 0;
			r->closed = p.tcp && (ip[p.l4 + TCP_FLAGS] & TCP_PSH) != 0;
		}
		return true;
	}
	if (!joins || !follows(r, ip, &p))
		return false;
	const uint32_t n = len - p.headers_len;
	if (n > r->size || r->total + n > MAX_PACKET)
		return false;
	r->iov[++r->count] = (struct iovec){ ip + p.headers_len, n };
	r->total += n;
	r->next_sequence += n;
	r->closed = n < r->size;
	if (r->tcp && (ip[r->l4 + TCP_FLAGS] & TCP_PSH) != 0) {
		r->first[r->l4 + TCP_FLAGS] |= TCP_PSH;
		r->closed = true;
	}
	return true;
}

uint32_t flow_hash(const uint8_t *ip, uint32_t len)
{
	const bool v6 = ip[0] >> 4 == 6, whole = v6 || (get16(ip + 6) & 0x3fff) == 0;
	const uint8_t protocol = ip[v6 ? 6 : 9];
	const uint32_t l4 = v6 ? IP6_LEN : (ip[0] & 15u) * 4;
	uint32_t h = protocol;
	/* A sum, so that the order of source and destination does not matter. */
	for (uint32_t i = 0; i < (v6 ? 32 : 8); i += 4)
		h += get32(ip + (v6 ? 8 : 12) + i) * 0x9e3779b1u;
	if (whole && (protocol == IPPROTO_TCP || protocol == IPPROTO_UDP) && len >= l4 + 4)
		h += (uint32_t)(get16(ip + l4) + get16(ip + l4 + 2)) * 0x85ebca6bu;
	h ^= h >> 15;
	h *= 0x2c1b3c6du;
	return h >> 12;
}

int run_end(struct run *r)
{
	const int elements = 1 + (int)r->count;
	r->header = (struct virtio_net_hdr){ 0 };
	r->iov[0] = (struct iovec){ &r->header, sizeof r->header };
	if (r->count > 1) {
		uint8_t *at = r->first + r->l4 + (r->tcp ? TCP_CHECKSUM : UDP_CHECKSUM);
		const uint32_t l4_len = r->total - r->l4;
		set_ip_len(r->first, r->v6, r->l4, r->total);
		if (!r->tcp)
			put16(r->first + r->l4 + UDP_LENGTH, l4_len);
		const uint16_t s = fold(pseudo(r->first, r->v6, r->tcp ? IPPROTO_TCP : IPPROTO_UDP, l4_len));
		memcpy(at, &s, 2);
		r->header.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
		r->header.gso_type = !r->tcp ? VIRTIO_NET_HDR_GSO_UDP_L4
				     : r->v6 ? VIRTIO_NET_HDR_GSO_TCPV6
					     : VIRTIO_NET_HDR_GSO_TCPV4;
		r->header.hdr_len = (uint16_t)r->headers_len;
		r->header.gso_size = (uint16_t)r->size;
		r->header.csum_start = (uint16_t)r->l4;
		r->header.csum_offset = r->tcp ? TCP_CHECKSUM : UDP_CHECKSUM;
	}
	r->count = 0;
	return elements;
}
