/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Bursts that use the fast path's bursts: those of proxies, which open and then seal, and
 * those of packets in UDP, with IP and UDP headers. Inside, the general path takes the
 * packets that the plans do not cover. internal/burst does the same for callers in Go.
 */
#include <string.h>

#include "shim.h"

#define ICV EESP_ICV_LEN
#define MOST_AROUND (EESP_MAX_HEADER + EESP_TSS_LEAD_IPV6 + EESP_MAX_PADDING + ICV) /* more room might make sums wrap */

/* What is kept of a packet in UDP while its content is sealed or opened. Its header is read once, since another
 * party may write to it meanwhile. */
struct outside {
	uint8_t hdr[60]; /* its IP header, which in transport mode is of n octets */
	uint8_t n, tos;	 /* tos: of the outer header, in tunnel mode */
	uint16_t sport;
	uint32_t most; /* greatest length of the packet in octets */
};

/* The packets of a chunk, in the worker's memory: the caller's stack may be short. */
struct around {
	eesp_pkt tmp[CHUNK];
	struct outside outer[CHUNK];
	uint32_t front[CHUNK]; /* octets in front of a proxy's payload, or of a packet's ESP header */
	uint8_t orig[CHUNK];
};
_Static_assert(sizeof(struct around) <= AROUND_ROOM, "what a worker has room for");

static inline uint32_t least(uint32_t a, uint32_t b) { return a < b ? a : b; }

static void refuse(eesp_pkt *p, eesp_status st)
{
	p->status = st;
	p->out = NULL;
	p->out_len = 0;
}

static const eesp_addr *out_addr(const eesp_pkt *p) { return p->out_addr != NULL ? p->out_addr : &p->addr; }

static int mapped(const uint8_t a[16])
{
	static const uint8_t prefix[12] = { [10] = 0xff, [11] = 0xff };
	return memcmp(a, prefix, 12) == 0;
}

/* Writes the prefix of a proxy's tss packet: the addresses, and zeros as entropy. Returns its length. */
static uint32_t prefix_for(const eesp_addr *a, uint8_t prefix[EESP_TSS_LEAD_IPV6])
{
	memset(prefix, 0, EESP_TSS_LEAD_IPV6);
	if (mapped(a->src) && mapped(a->dst)) {
		memcpy(prefix, a->src + 12, 4);
		memcpy(prefix + 4, a->dst + 12, 4);
		return EESP_TSS_LEAD_IPV4;
	}
	memcpy(prefix, a->src, 16);
	memcpy(prefix + 16, a->dst, 16);
	return EESP_TSS_LEAD_IPV6;
}

/* Opens and seals up to CHUNK packets, as proxy of internal/burst does. Returns how many were sealed. */
static size_t proxy_some(const struct eesp_fast_path *open, const struct eesp_fast_path *seal,
			 const struct eesp_front *f, eesp_pkt *pkts, size_t n)
{
	struct around *a = open->view->around;
	uint8_t prefix[EESP_TSS_LEAD_IPV6];
	size_t m = 0, good = 0;
	/* In a destination, the opened payload is put where the sender will leave it: behind front. */
	for (size_t i = 0; i < n; i++) {
		const eesp_pkt *p = &pkts[i];
		eesp_pkt *t = &a->tmp[i];
		*t = *p;
		a->front[i] = f->header + (f->prefix != 0 ? prefix_for(out_addr(p), prefix) : 0);
		const uint32_t need = a->front[i] + f->tail;
		if (p->iov_count != 0) {
			t->flags = UINT16_MAX; /* is refused: proxies take no packets in segments */
		} else if (p->dst != NULL && p->dst_size < need) {
			t->dst_size = 0;
		} else if (p->dst != NULL) {
			t->dst = (uint8_t *)p->dst + a->front[i];
			t->dst_size = p->dst_size - need;
		}
	}
	direct_open(open, a->tmp, n);
	for (size_t i = 0; i < n; i++) {
		eesp_pkt *p = &pkts[i], v = a->tmp[i];
		const uint32_t front = a->front[i];
		p->id = v.id;
		p->tsc = v.tsc;
		p->coffset = v.coffset;
		p->ioffset = v.ioffset;
		p->next_header = v.next_header;
		if (v.status == EESP_OK && p->dst != NULL && p->dst_size < front + f->tail)
			v.status = EESP_ERR_ROOM; /* an empty payload was opened, but its header has no room */
		if (v.status != EESP_OK) {
			refuse(p, p->iov_count != 0 ? EESP_ERR_SEGMENTS : v.status);
			continue;
		}
		v.len = v.out_len;
		if (p->dst == NULL) {
			const uint32_t at = (uint32_t)((uint8_t *)v.out - (uint8_t *)p->data);
			v.headroom = at + least(p->headroom, MOST_AROUND);
			v.tailroom = p->len - at - v.out_len + least(p->tailroom, MOST_AROUND);
			v.data = (uint8_t *)p->data + at;
		} else {
			v.headroom = front;
			v.tailroom = p->dst_size - front - v.out_len;
			v.data = (uint8_t *)p->dst + front;
		}
		v.dst = NULL;
		v.flags = 0;
		v.addr = *out_addr(p);
		if (f->prefix != 0) {
			const uint32_t k = prefix_for(out_addr(p), prefix);
			if (v.headroom >= front)
				memcpy((uint8_t *)v.data - front, prefix, k);
			v.flags = k == EESP_TSS_LEAD_IPV6 ? EESP_PKT_IPV6 : 0;
		}
		a->orig[m] = (uint8_t)i;
		a->tmp[m++] = v; /* m <= i: tmp[m] is not used any more */
	}
	if (m != 0)
		direct_seal(seal, a->tmp, m);
	for (size_t i = 0; i < m; i++) {
		eesp_pkt *p = &pkts[a->orig[i]];
		const eesp_pkt *t = &a->tmp[i];
		p->status = t->status;
		p->out = t->out;
		p->out_len = t->out_len;
		if (t->status == EESP_OK)
			good++;
		else /* opened, but not sealed: the caller must not get plaintext */
			memset(t->data, 0, t->len);
	}
	return good;
}

size_t direct_proxy(const struct eesp_fast_path *open, const struct eesp_fast_path *seal, eesp_pkt *pkts, size_t n)
{
	size_t good = 0;
	struct eesp_front f;
	/* Lengths are read once: a rotation does not change them. */
	if (!direct_front(seal, &f))
		return SIZE_MAX;
	for (size_t at = 0; at < n; at += CHUNK)
		good += proxy_some(open, seal, &f, pkts + at, n - at < CHUNK ? n - at : CHUNK);
	return good;
}

/* ---- In UDP: internal/burst/udp.go, and internal/wire/udp.go for headers ---- */

enum { UDP_LEN = 8, IP4_LEN = 20, IP6_LEN = 40, MAX_UDP = 65535, MAX_IP = 40 + 65535, PROTO_UDP = 17, PROTO_NONE = 59 };

static inline uint32_t get16(const uint8_t *b) { return (uint32_t)b[0] << 8 | b[1]; }

static inline void put16(uint8_t *b, uint32_t x)
{
	b[0] = (uint8_t)(x >> 8);
	b[1] = (uint8_t)x;
}

/* The length of the IP packet at b by its header; 0: there is no whole header. */
static uint32_t ip_length(const uint8_t *b, uint32_t n)
{
	if (n < IP4_LEN)
		return 0;
	if (b[0] >> 4 == 4) {
		const uint32_t h = (b[0] & 15u) * 4, len = get16(b + 2);
		return h >= IP4_LEN && len >= h ? len : 0;
	}
	return b[0] >> 4 == 6 && n >= IP6_LEN && (get16(b + 4) != 0 || b[6] == PROTO_NONE || n == IP6_LEN)
	       ? IP6_LEN + get16(b + 4) : 0;
}

/* Whether its length field is 0: a jumbogram, or a packet that the network card would cut into segments. */
static int ip_jumbo(const uint8_t *b, uint32_t n)
{
	if (n >= IP4_LEN && b[0] >> 4 == 4)
		return get16(b + 2) == 0;
	return n > IP6_LEN && b[0] >> 4 == 6 && get16(b + 4) == 0 && b[6] != PROTO_NONE;
}

/* Copies what may be the IP header of a packet of n octets. */
static inline void copy_header(uint8_t hdr[60], const uint8_t *b, uint32_t n)
{
	if (n >= 60)
		memcpy(hdr, b, 60);
	else
		memcpy(hdr, b, n);
}

static uint8_t ip_proto(const uint8_t *b) { return b[0] >> 4 == 4 ? 4 : 41; }

static void ip_addresses(const uint8_t *b, eesp_addr *a)
{
	if (b[0] >> 4 == 6) {
		memcpy(a->src, b + 8, 16);
		memcpy(a->dst, b + 24, 16);
		return;
	}
	memset(a, 0, sizeof *a);
	a->src[10] = a->src[11] = a->dst[10] = a->dst[11] = 0xff;
	memcpy(a->src + 12, b + 12, 4);
	memcpy(a->dst + 12, b + 16, 4);
}

static uint32_t fold(uint64_t s)
{
	s = (s >> 32) + (s & 0xffffffff);
	s = (s >> 16) + (s & 0xffff);
	s = (s >> 16) + (s & 0xffff);
	return (uint32_t)((s >> 16) + (s & 0xffff));
}

/* The sum of 16-bit words for the Internet checksum. */
static uint32_t sum(const uint8_t *b, uint32_t n)
{
	uint64_t s = 0;
	for (; n >= 2; b += 2, n -= 2)
		s += get16(b);
	return fold(n != 0 ? s + ((uint64_t)b[0] << 8) : s);
}

static void put_sum(uint8_t *h, uint32_t n)
{
	put16(h + 10, 0);
	put16(h + 10, ~sum(h, n));
}

/* Sets the UDP checksum, which is 0, of a whole IPv6 packet without extension headers. */
static void put_udp_sum6(uint8_t *b, uint32_t n)
{
	const uint32_t len = n - IP6_LEN;
	const uint32_t c = ~fold((uint64_t)sum(b + 8, 32) + sum(b + IP6_LEN, len) + (len & 0xffff) + PROTO_UDP) &
			   0xffff;
	put16(b + IP6_LEN + 6, c != 0 ? c : 0xffff);
}

static void put_udp(uint8_t *b, uint32_t sport, uint32_t dport, uint32_t n)
{
	put16(b, sport);
	put16(b + 2, dport);
	put16(b + 4, UDP_LEN + n);
	put16(b + 6, 0);
}

static uint8_t tos_of(const uint8_t *b) { return b[0] >> 4 == 4 ? b[1] : (uint8_t)(b[0] << 4 | b[1] >> 4); }

static void set_tos(uint8_t *b, uint8_t tos)
{
	if (b[0] >> 4 == 6) {
		b[0] = (uint8_t)(6 << 4 | tos >> 4);
		b[1] = (uint8_t)(tos << 4 | (b[1] & 15));
		return;
	}
	const uint64_t s = (uint64_t)(~get16(b + 10) & 0xffff) + (~get16(b) & 0xffff); /* RFC 1624, equation 3 */
	b[1] = tos;
	put16(b + 10, ~fold(s + get16(b)));
}

/* Copies bits of the outer TOS to a packet from a tunnel, as flags say. 0: RFC 6040 has it dropped. */
static int back(uint8_t *b, uint8_t outer, uint32_t flags)
{
	const uint8_t was = tos_of(b), in = was & 3, out = outer & 3;
	uint8_t tos = flags & EESP_UDP_DSCP_BACK ? (uint8_t)(in | (outer & ~3)) : was;
	if (flags & EESP_UDP_ECN) {
		if (out == 3 && in == 0)
			return 0;
		if (out == 3 || (out == 1 && in == 2))
			tos = (uint8_t)((tos & ~3) | out);
	}
	if (tos != was)
		set_tos(b, tos);
	return 1;
}

/* Sets protocol and total length in an IP header, and its checksum. */
static eesp_status rewrite(uint8_t *h, uint32_t n, uint8_t proto, uint32_t total)
{
	if (h[0] >> 4 == 4) {
		if (total > MAX_UDP)
			return EESP_ERR_TOO_LONG;
		put16(h + 2, total);
		h[9] = proto;
		put_sum(h, n);
		return EESP_OK;
	}
	if (total > MAX_IP)
		return EESP_ERR_TOO_LONG;
	put16(h + 4, total - IP6_LEN);
	h[6] = proto;
	return EESP_OK;
}

static uint64_t get64(const uint8_t *b)
{
	uint64_t x;
	memcpy(&x, b, 8);
	return __builtin_bswap64(x);
}

static uint64_t mix(uint64_t h, uint64_t w)
{
	const unsigned __int128 x = (unsigned __int128)(h ^ w) * UINT64_C(0xD6E8FEB86659FD93);
	return (uint64_t)(x >> 64) ^ (uint64_t)x;
}

static uint32_t flow_hash(const uint8_t *b, uint32_t n)
{
	uint64_t h = UINT64_C(0x9E3779B97F4A7C15);
	uint32_t at = n; /* of ports */
	uint8_t proto = 0;
	if (n >= IP4_LEN && b[0] >> 4 == 4) {
		const uint32_t len = (b[0] & 15u) * 4;
		proto = b[9];
		h = mix(h, get64(b + 12));
		if (len >= IP4_LEN && len <= n && (get16(b + 6) & 0x3fff) == 0)
			at = len;
	} else if (n >= IP6_LEN && b[0] >> 4 == 6) {
		proto = b[6];
		for (uint32_t i = 8; i < 40; i += 8)
			h = mix(h, get64(b + i));
		at = IP6_LEN;
	}
	uint64_t w = proto;
	switch (proto) {
	case 6: case 17: case 33: case 132: case 136: case 50:
		if (n - at >= 4)
			w |= (uint64_t)(get16(b + at) << 16 | get16(b + at + 2)) << 8;
	}
	h = mix(h, w);
	h = mix(h, h >> 32);
	return 0xc000 | ((uint32_t)(h >> 20) & 0x3fff);
}

/* The length of the outer IP and UDP headers in tunnel mode; 0: the addresses are of two families. */
static uint32_t tunnel_len(const eesp_udp *u)
{
	const int four = mapped(u->addr.src);
	return four != mapped(u->addr.dst) ? 0 : UDP_LEN + (four ? (uint32_t)IP4_LEN : (uint32_t)IP6_LEN);
}

static void put_tunnel(const eesp_udp *u, uint8_t *b, uint32_t h, uint32_t sport, uint8_t tos, uint32_t n)
{
	const uint8_t ttl = u->ttl != 0 ? u->ttl : 64;
	memset(b, 0, h);
	if (h == IP4_LEN + UDP_LEN) {
		b[0] = 0x45;
		b[1] = tos;
		put16(b + 2, h + n);
		b[6] = 0x40; /* DF */
		b[8] = ttl;
		b[9] = PROTO_UDP;
		memcpy(b + 12, u->addr.src + 12, 4);
		memcpy(b + 16, u->addr.dst + 12, 4);
		put_sum(b, IP4_LEN);
	} else {
		b[0] = (uint8_t)(6 << 4 | tos >> 4);
		b[1] = (uint8_t)(tos << 4);
		put16(b + 4, UDP_LEN + n);
		b[6] = PROTO_UDP;
		b[7] = ttl;
		memcpy(b + 8, u->addr.src, 16);
		memcpy(b + 24, u->addr.dst, 16);
	}
	put_udp(b + h - UDP_LEN, sport, u->dst_port, n);
}

/* Reads the IP header of a packet to seal in transport mode: its length, protocol and total length. */
static eesp_status transport(const uint8_t *b, uint32_t n, uint32_t *hdr, uint8_t *proto, uint32_t *total)
{
	*total = ip_length(b, n);
	if (ip_jumbo(b, n))
		return EESP_ERR_TOO_LONG;
	if (*total == 0 || *total > n)
		return EESP_ERR_ARGUMENT;
	if (b[0] >> 4 == 4) {
		*hdr = (b[0] & 15u) * 4;
		*proto = b[9];
		return (get16(b + 6) & 0x3fff) != 0 || b[9] == 0 ? EESP_ERR_UNSUPPORTED : EESP_OK;
	}
	*hdr = IP6_LEN;
	*proto = b[6];
	switch (b[6]) {
	case 0: case 43: case 44: case 51: case 60: case 135: case 139: case 140:
		return EESP_ERR_UNSUPPORTED;
	}
	return EESP_OK;
}

/* Finds the payload of a UDP datagram to a port. hdr: the packet's IP header. */
static eesp_status parse_udp(const uint8_t *hdr, const uint8_t *b, uint32_t n, uint32_t dport, uint32_t *at,
			     uint32_t *size)
{
	const uint32_t total = ip_length(hdr, n);
	if (total == 0 || total > n)
		return EESP_ERR_ENCAP;
	uint8_t proto = hdr[6];
	uint32_t h = IP6_LEN;
	if (hdr[0] >> 4 == 4) {
		proto = hdr[9];
		h = (hdr[0] & 15u) * 4;
		if ((get16(hdr + 6) & 0x3fff) != 0 || sum(hdr, h) != 0xffff)
			return EESP_ERR_ENCAP;
	}
	if (proto != PROTO_UDP || total - h < UDP_LEN || get16(b + h + 4) != total - h || get16(b + h + 2) != dport)
		return EESP_ERR_ENCAP;
	*at = h + UDP_LEN;
	*size = total - h - UDP_LEN;
	return *size == 0 ? EESP_ERR_SHORT : EESP_OK;
}

/* Sets in t the fields of what is sealed of a packet, except its place and room. */
static eesp_status inner_of(const eesp_udp *u, const struct eesp_front *f, eesp_pkt *t, struct outside *o,
			    uint32_t *front)
{
	const uint8_t *b = o->hdr;
	const uint32_t n = least(t->len, MAX_IP);
	uint32_t total, h;
	uint8_t proto;
	if (u->mode == EESP_UDP_TRANSPORT && !f->next)
		return EESP_ERR_UNSUPPORTED;
	if (t->iov_count != 0)
		return EESP_ERR_SEGMENTS;
	if (t->data == NULL)
		return EESP_ERR_ARGUMENT;
	copy_header(o->hdr, t->data, n);
	o->sport = (uint16_t)(u->src_port != 0 ? u->src_port : flow_hash(t->data, n));
	o->n = 0;
	if (u->mode == EESP_UDP_TUNNEL) {
		uint8_t mask = 0;
		total = ip_length(b, n);
		if (ip_jumbo(b, n))
			return EESP_ERR_TOO_LONG;
		if (total == 0 || total > n)
			return EESP_ERR_ARGUMENT;
		mask |= u->flags & EESP_UDP_ECN ? 3 : 0;
		mask |= u->flags & EESP_UDP_DSCP ? 0xfc : 0;
		o->tos = (uint8_t)((u->tos & ~mask) | (tos_of(b) & mask));
		t->len = total;
		t->next_header = ip_proto(b);
		t->addr = u->addr;
		*front = tunnel_len(u);
		o->most = *front > UDP_LEN + IP4_LEN ? MAX_IP : MAX_UDP;
		return EESP_OK;
	}
	const eesp_status st = transport(b, n, &h, &proto, &total);
	if (st != EESP_OK)
		return st;
	if (f->dummies && proto == PROTO_NONE)
		return EESP_ERR_UNSUPPORTED; /* the other end would discard it */
	o->n = (uint8_t)h;
	ip_addresses(b, &t->addr);
	o->most = b[0] >> 4 == 6 ? MAX_IP : MAX_UDP;
	t->len = total - h;
	t->next_header = proto;
	*front = h + UDP_LEN;
	return EESP_OK;
}

/* Refuses and counts a packet that the inner burst does not get; it has no id and TSC. */
static void refuse_outer(const struct eesp_counts *c, eesp_pkt *p, eesp_status st)
{
	refuse(p, st);
	p->id = p->tsc = 0;
	__atomic_fetch_add(&c->by[-st], 1, __ATOMIC_RELEASE);
}

static size_t udp_seal_some(const struct eesp_fast_path *fp, const eesp_udp *u, const struct eesp_front *f,
			    eesp_pkt *pkts, size_t n)
{
	struct around *a = fp->view->around;
	size_t m = 0, good = 0;
	uint64_t octets = 0;
	for (size_t i = 0; i < n; i++) {
		eesp_pkt *p = &pkts[i], *t = &a->tmp[m];
		struct outside *o = &a->outer[m];
		uint32_t front = 0;
		*t = *p;
		eesp_status st = inner_of(u, f, t, o, &front);
		const uint32_t tail = st != EESP_OK ? 0 : least(p->tailroom, MAX_UDP) + least(p->len, MAX_IP) - o->n -
			t->len;
		if (st != EESP_OK)
			;
		else if (front + f->header + t->len + f->tail > o->most)
			st = EESP_ERR_TOO_LONG;
		else if (p->dst != NULL ? p->dst_size <= front : p->headroom < front - o->n || tail < ICV)
			st = EESP_ERR_ROOM;
		if (st != EESP_OK) {
			refuse_outer(&f->counts, p, st);
			continue;
		}
		if (p->dst != NULL) {
			t->dst = (uint8_t *)p->dst + front;
			t->dst_size = p->dst_size - front;
		} else { /* the new header overwrites the packet's own one, of o->n octets */
			t->headroom = least(p->headroom, MAX_UDP) - (front - o->n);
			t->tailroom = tail;
		}
		t->data = t->len != 0 || p->dst == NULL ? (uint8_t *)p->data + o->n : NULL;
		a->front[m] = front;
		a->orig[m++] = (uint8_t)i;
	}
	if (m != 0)
		direct_seal(fp, a->tmp, m);
	for (size_t i = 0; i < m; i++) {
		eesp_pkt *p = &pkts[a->orig[i]];
		const eesp_pkt *t = &a->tmp[i];
		struct outside *o = &a->outer[i];
		const uint32_t front = a->front[i];
		refuse(p, t->status);
		p->id = t->id;
		p->tsc = t->tsc;
		if (t->status != EESP_OK)
			continue;
		uint8_t *out = (uint8_t *)t->out - front;
		if (u->mode == EESP_UDP_TRANSPORT) {
			rewrite(o->hdr, o->n, PROTO_UDP, front + t->out_len);
			memcpy(out, o->hdr, o->n);
			put_udp(out + o->n, o->sport, u->dst_port, t->out_len);
		} else {
			put_tunnel(u, out, front, o->sport, o->tos, t->out_len);
		}
		if (u->flags & EESP_UDP_CHECKSUM6 && out[0] >> 4 == 6)
			put_udp_sum6(out, front + t->out_len);
		p->out = out;
		p->out_len = front + t->out_len;
		octets += front;
		good++;
	}
	/* outer headers are octets, too; the inner burst counted the rest */
	direct_count(fp->view, &f->counts, 0, octets);
	return good;
}

static size_t udp_open_some(const struct eesp_fast_path *fp, const eesp_udp *u, const struct eesp_front *f,
			    eesp_pkt *pkts, size_t n)
{
	struct around *a = fp->view->around;
	size_t m = 0, good = 0;
	uint64_t octets = 0, wrong = 0;
	struct eesp_held held = { 0, 0 }; /* some may be refused, and counts only grow */
	struct eesp_fast_path inner = *fp;
	inner.held = &held;
	for (size_t i = 0; i < n; i++) {
		eesp_pkt *p = &pkts[i], *t = &a->tmp[m];
		struct outside *o = &a->outer[m];
		eesp_status st = EESP_OK;
		uint32_t at = 0, size = 0;
		*t = *p;
		o->n = 0;
		if (p->flags != 0) /* the payload is to be an IP packet */
			st = p->flags == EESP_PKT_EXTENSION && f->next ? EESP_ERR_UNSUPPORTED : EESP_ERR_ARGUMENT;
		else if (p->iov_count != 0)
			st = EESP_ERR_SEGMENTS;
		else if (p->data == NULL)
			st = EESP_ERR_ARGUMENT;
		else {
			const uint32_t len = least(p->len, MAX_IP);
			copy_header(o->hdr, p->data, len);
			st = parse_udp(o->hdr, p->data, len, u->dst_port, &at, &size);
		}
		if (st == EESP_OK && u->mode == EESP_UDP_TRANSPORT) {
			o->n = (uint8_t)(at - UDP_LEN);
			if (p->dst != NULL && p->dst_size < o->n)
				st = EESP_ERR_ROOM;
		}
		if (st != EESP_OK) {
			refuse_outer(&f->counts, p, st);
			continue;
		}
		ip_addresses(o->hdr, &t->addr);
		o->tos = tos_of(o->hdr);
		t->data = (uint8_t *)p->data + at;
		t->len = size;
		t->headroom = at;
		if (p->dst != NULL && (t->dst_size -= o->n) != 0)
			t->dst = (uint8_t *)p->dst + o->n;
		a->orig[m++] = (uint8_t)i;
	}
	if (m != 0)
		direct_open(&inner, a->tmp, m);
	for (size_t i = 0; i < m; i++) {
		eesp_pkt *p = &pkts[a->orig[i]];
		const eesp_pkt *t = &a->tmp[i];
		struct outside *o = &a->outer[i];
		refuse(p, t->status);
		p->id = t->id;
		p->tsc = t->tsc;
		p->coffset = t->coffset;
		p->ioffset = t->ioffset;
		p->next_header = t->next_header;
		if (t->status != EESP_OK)
			continue;
		uint8_t *payload = t->out, *out = p->dst != NULL ? p->dst : payload - o->n;
		uint32_t size = t->out_len;
		eesp_status st = EESP_OK;
		if (u->mode == EESP_UDP_TRANSPORT) {
			st = rewrite(o->hdr, o->n, t->next_header, o->n + t->out_len);
			if (t->next_header == 0)
				st = EESP_ERR_UNSUPPORTED; /* the format does not carry it */
		} else {
			size = ip_length(payload, t->out_len);
			if (size == 0 || size > t->out_len ||
			    (t->next_header != 0 && t->next_header != ip_proto(payload)) ||
			    (u->flags & (EESP_UDP_ECN | EESP_UDP_DSCP_BACK) && !back(payload, o->tos, u->flags)))
				st = EESP_ERR_ENCAP;
		}
		if (st != EESP_OK) {
			memset(payload, 0, t->out_len);
			p->status = st;
			__atomic_fetch_add(&f->counts.by[-st], 1, __ATOMIC_RELEASE);
			octets -= t->out_len;
			wrong++;
			continue;
		}
		memcpy(out, o->hdr, o->n);
		p->out = out;
		p->out_len = o->n + size;
		octets += (uint64_t)p->out_len - t->out_len;
		good++;
	}
	direct_count(fp->view, &f->counts, held.packets - wrong, held.octets + octets);
	return good;
}

static int no_address(const uint8_t a[16])
{
	static const uint8_t none[16];
	return memcmp(a, none, 16) == 0;
}

size_t direct_udp_seal(const struct eesp_fast_path *fp, const eesp_udp *u, eesp_pkt *pkts, size_t n)
{
	struct eesp_front f;
	size_t good = 0;
	if (u->dst_port == 0 || !direct_front(fp, &f) || f.prefix != 0 ||
	    (u->mode == EESP_UDP_TUNNEL && (tunnel_len(u) == 0 || no_address(u->addr.src) || no_address(u->addr.dst))))
		return SIZE_MAX;
	for (size_t at = 0; at < n; at += CHUNK)
		good += udp_seal_some(fp, u, &f, pkts + at, n - at < CHUNK ? n - at : CHUNK);
	return good;
}

size_t direct_udp_open(const struct eesp_fast_path *fp, const eesp_udp *u, eesp_pkt *pkts, size_t n)
{
	struct eesp_front f;
	size_t good = 0;
	if (u->dst_port == 0 || !direct_back(fp, &f) || f.prefix != 0)
		return SIZE_MAX;
	for (size_t at = 0; at < n; at += CHUNK)
		good += udp_open_some(fp, u, &f, pkts + at, n - at < CHUNK ? n - at : CHUNK);
	return good;
}
