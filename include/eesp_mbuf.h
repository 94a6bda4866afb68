/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * eesp_mbuf.h - libeesp for packets in DPDK mbufs
 *
 * This file needs DPDK; libeesp itself does not. Its functions describe mbufs
 * to the library as packets and update the mbufs with the results. Packets stay
 * in their mbufs, chained ones too. Nothing is copied or allocated, except an
 * mbuf for a tail that does not fit (eesp_mbuf_tailroom).
 *
 *     static eesp_mbuf_burst b;                   // one for each lcore
 *     uint16_t n = rte_eth_rx_burst(port, queue, mbufs, EESP_MBUF_BURST);
 *     eesp_mbuf_begin(&b);
 *     for (uint16_t i = 0; i < n; i++) {
 *         rte_pktmbuf_adj(mbufs[i], RTE_ETHER_HDR_LEN);  // data is the IP packet
 *         if (eesp_mbuf_checksums(mbufs[i]) != EESP_OK ||
 *             !eesp_mbuf_tailroom(mbufs[i], EESP_MBUF_TAIL, pool) ||
 *             eesp_mbuf_add(&b, mbufs[i], OUTER, &addr) != EESP_OK)
 *             rte_pktmbuf_free(mbufs[i]);
 *     }
 *     n = eesp_mbuf_seal(&b, sender);             // sealed packets come first
 *     for (uint16_t i = 0; i < n; i++)
 *         put_outer(eesp_mbuf_of(&b.pkts[i]));    // data is the Security Header
 *     eesp_mbuf_free_rest(&b, n);                 // not sealed: statistics count why
 *
 * The metadata of an mbuf (ol_flags, packet_type, tx_offload) describes the
 * packet before sealing or opening. eesp_mbuf_sealed, _opened and _proxied,
 * which the burst functions call, clear it. Only seal and open accept chained
 * packets; UDP and proxies refuse them with EESP_ERR_SEGMENTS.
 *
 * Any thread may call all functions, on mbufs and bursts that no other thread
 * uses. Since 1.0.
 */
#ifndef EESP_MBUF_H
#define EESP_MBUF_H

#include <eesp.h>
#include <rte_ip.h>
#include <rte_mbuf.h>
#include <rte_tcp.h>
#include <rte_udp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The most packets of a burst and segments of a packet. To change them, define
 * them before including this file. */
#ifndef EESP_MBUF_BURST
#define EESP_MBUF_BURST 32
#endif
#ifndef EESP_MBUF_SEGS
#define EESP_MBUF_SEGS 16
#endif

/* Tailroom that sealing needs. */
#define EESP_MBUF_TAIL (EESP_MAX_PADDING + EESP_ICV_LEN)

/* ---- One packet ----------------------------------------------------------- */

/* Returns the mbuf of a packet. */
static inline struct rte_mbuf *eesp_mbuf_of(const eesp_pkt *p)
{
	return (struct rte_mbuf *)p->user;
}

/*
 * Fills in p to describe the packet in m. The data of m must begin with the
 * library's input: a payload, a Security Header, or for UDP an IP packet.
 * reserve: octets of headroom to leave free for other headers. iov: space for
 * iov_room segments, which must stay valid while p is used; only chained packets
 * need it. All other input fields of p (coffset, next_header, addr) are zero: set
 * them afterwards. EESP_ERR_SEGMENTS: more segments than iov_room.
 * EESP_ERR_UNSUPPORTED: m or one of its segments is shared (a clone, or a
 * reference count above 1) and must not be written to: copy it first
 * (rte_pktmbuf_copy).
 */
static inline eesp_status eesp_mbuf_to_pkt(struct rte_mbuf *m, uint32_t reserve, eesp_pkt *p, eesp_iov *iov,
					   uint16_t iov_room)
{
	uint32_t headroom = rte_pktmbuf_headroom(m);
	struct rte_mbuf *last = m;
	if (m->nb_segs > 1 && m->nb_segs > iov_room)
		return EESP_ERR_SEGMENTS;
	memset(p, 0, sizeof *p);
	for (struct rte_mbuf *s = m; s != NULL; s = s->next) {
		if (RTE_MBUF_CLONED(s) || rte_mbuf_refcnt_read(s) != 1 ||
		    (RTE_MBUF_HAS_EXTBUF(s) && rte_mbuf_ext_refcnt_read(s->shinfo) != 1))
			return EESP_ERR_UNSUPPORTED;
		if (m->nb_segs > 1) {
			iov[p->iov_count].base = rte_pktmbuf_mtod(s, void *);
			iov[p->iov_count++].len = rte_pktmbuf_data_len(s);
		}
		last = s;
	}
	if (m->nb_segs > 1)
		p->iov = iov;
	p->data = rte_pktmbuf_mtod(m, void *);
	p->len = rte_pktmbuf_data_len(m);
	p->headroom = headroom > reserve ? headroom - reserve : 0;
	p->tailroom = rte_pktmbuf_tailroom(last);
	p->user = m;
	return EESP_OK;
}

/* Makes sure that n octets (at most what an mbuf holds) fit behind the packet:
 * if they do not, chains an mbuf from pool to it. false: pool was empty, or the
 * chain too long. */
static inline bool eesp_mbuf_tailroom(struct rte_mbuf *m, uint16_t n, struct rte_mempool *pool)
{
	struct rte_mbuf *more;
	if (rte_pktmbuf_tailroom(rte_pktmbuf_lastseg(m)) >= n)
		return true;
	more = rte_pktmbuf_alloc(pool);
	if (more == NULL)
		return false;
	if (rte_pktmbuf_chain(m, more) == 0)
		return true;
	rte_pktmbuf_free(more);
	return false;
}

/* Cuts a packet to its first len octets; it must have that many. Frees segments
 * behind them. */
static inline void eesp_mbuf_cut(struct rte_mbuf *m, uint32_t len)
{
	struct rte_mbuf *s = m;
	m->pkt_len = len;
	m->nb_segs = 1;
	for (; len > s->data_len; s = s->next) {
		len -= s->data_len;
		m->nb_segs++;
	}
	s->data_len = (uint16_t)len;
	rte_pktmbuf_free(s->next);
	s->next = NULL;
}

/* Clears the metadata of a packet that is no longer in m. The application's own
 * (dynamic) flags stay. */
static inline void eesp_mbuf_forget(struct rte_mbuf *m)
{
	m->ol_flags &= ~((RTE_MBUF_F_FIRST_FREE - 1) | RTE_MBUF_F_TX_OFFLOAD_MASK);
	m->packet_type = RTE_PTYPE_UNKNOWN;
	m->tx_offload = 0;
}

/* Updates m after p was sealed: m begins with the header and ends with the ICV. */
static inline void eesp_mbuf_sealed(struct rte_mbuf *m, const eesp_pkt *p)
{
	uint32_t front = (uint32_t)(rte_pktmbuf_mtod(m, uint8_t *) - (uint8_t *)p->out);
	uint32_t tail = p->out_len - front - rte_pktmbuf_pkt_len(m);
	m->data_off = (uint16_t)(m->data_off - front);
	m->data_len = (uint16_t)(m->data_len + front);
	rte_pktmbuf_lastseg(m)->data_len += (uint16_t)tail;
	m->pkt_len = p->out_len;
	eesp_mbuf_forget(m);
}

/* Updates m after p was opened: m contains the payload. */
static inline void eesp_mbuf_opened(struct rte_mbuf *m, const eesp_pkt *p)
{
	/* If the first segment holds no payload, out is in a later one. */
	uintptr_t front = (uintptr_t)p->out - rte_pktmbuf_mtod(m, uintptr_t);
	if (front > m->data_len)
		front = m->data_len;
	rte_pktmbuf_adj(m, (uint16_t)front);
	eesp_mbuf_cut(m, p->out_len);
	eesp_mbuf_forget(m);
}

/* Updates m after a proxy or UDP call: p is not chained, and its result may be
 * anywhere in m. */
static inline void eesp_mbuf_proxied(struct rte_mbuf *m, const eesp_pkt *p)
{
	m->data_off = (uint16_t)((uint8_t *)p->out - (uint8_t *)m->buf_addr);
	m->data_len = (uint16_t)p->out_len;
	m->pkt_len = p->out_len;
	eesp_mbuf_forget(m);
}

/* ---- Offloads --------------------------------------------------------------- */

/*
 * Writes the checksums of an IP packet before it is sealed, if they were left to
 * hardware: to the sending device (RTE_MBUF_F_TX_x_CKSUM), or by a receiving
 * device that does not fill them in (RTE_MBUF_F_RX_x_CKSUM_NONE, from virtio and
 * TAP). Once the packet is sealed, no device can see them. Does nothing if no
 * flag is set. EESP_ERR_UNSUPPORTED: the packet is to be segmented (TSO, GSO),
 * or this function cannot compute its checksum: a fragment, IPv6 extension
 * headers, SCTP, headers that are not in the first segment.
 */
static inline eesp_status eesp_mbuf_checksums(struct rte_mbuf *m)
{
	uint8_t *ip = rte_pktmbuf_mtod(m, uint8_t *);
	struct rte_ipv4_hdr *ip4 = (struct rte_ipv4_hdr *)ip;
	struct rte_ipv6_hdr *ip6 = (struct rte_ipv6_hdr *)ip;
	uint64_t flags = m->ol_flags;
	bool sum_ip = (flags & RTE_MBUF_F_TX_IP_CKSUM) != 0 ||
		      (flags & RTE_MBUF_F_RX_IP_CKSUM_MASK) == RTE_MBUF_F_RX_IP_CKSUM_NONE;
	bool sum_l4 = (flags & RTE_MBUF_F_TX_L4_MASK) != 0 ||
		      (flags & RTE_MBUF_F_RX_L4_CKSUM_MASK) == RTE_MBUF_F_RX_L4_CKSUM_NONE;
	uint32_t there = rte_pktmbuf_data_len(m), hdr, at, len;
	uint16_t sum = 0, raw;
	uint8_t proto;
	bool four;
	if ((flags & (RTE_MBUF_F_TX_TCP_SEG | RTE_MBUF_F_TX_UDP_SEG)) != 0)
		return EESP_ERR_UNSUPPORTED;
	if (!sum_ip && !sum_l4)
		return EESP_OK;
	four = there >= sizeof *ip4 && ip[0] >> 4 == 4;
	if (four) {
		hdr = (ip[0] & 15u) * 4;
		proto = ip4->next_proto_id;
		len = rte_be_to_cpu_16(ip4->total_length);
		if (hdr < sizeof *ip4 || hdr > there || len < hdr)
			return EESP_ERR_UNSUPPORTED;
		len -= hdr;
		if (sum_ip) {
			ip4->hdr_checksum = 0;
			ip4->hdr_checksum = rte_ipv4_cksum(ip4);
		}
		if (sum_l4 && (ip4->fragment_offset &
			       rte_cpu_to_be_16(RTE_IPV4_HDR_MF_FLAG | RTE_IPV4_HDR_OFFSET_MASK)) != 0)
			return EESP_ERR_UNSUPPORTED;
	} else if (there >= sizeof *ip6 && ip[0] >> 4 == 6) {
		hdr = sizeof *ip6;
		proto = ip6->proto;
		len = rte_be_to_cpu_16(ip6->payload_len);
	} else {
		return EESP_ERR_UNSUPPORTED;
	}
	if (!sum_l4)
		return EESP_OK;
	if (len > rte_pktmbuf_pkt_len(m) - hdr)
		return EESP_ERR_UNSUPPORTED;
	if (proto == IPPROTO_TCP && there >= hdr + sizeof(struct rte_tcp_hdr))
		at = hdr + (uint32_t)offsetof(struct rte_tcp_hdr, cksum);
	else if (proto == IPPROTO_UDP && there >= hdr + sizeof(struct rte_udp_hdr))
		at = hdr + (uint32_t)offsetof(struct rte_udp_hdr, dgram_cksum);
	else
		return EESP_ERR_UNSUPPORTED;
	if (len < at - hdr + sizeof sum)
		return EESP_ERR_UNSUPPORTED;
	memset(ip + at, 0, sizeof sum);
	if (rte_raw_cksum_mbuf(m, hdr, len, &raw) != 0)
		return EESP_ERR_UNSUPPORTED;
	len = (uint32_t)raw + (four ? rte_ipv4_phdr_cksum(ip4, 0) : rte_ipv6_phdr_cksum(ip6, 0));
	sum = (uint16_t)~((len & 0xffff) + (len >> 16));
	if (sum == 0 && proto == IPPROTO_UDP)
		sum = 0xffff; /* 0 would be none */
	memcpy(ip + at, &sum, sizeof sum);
	return EESP_OK;
}

/*
 * Leaves the IPv4 checksum of a frame to the sending device, which must have
 * RTE_ETH_TX_OFFLOAD_IPV4_CKSUM enabled. The frame has l2_len octets of
 * Ethernet, an IPv4 header of l3_len octets, and UDP. Its UDP checksum
 * must be 0, which means none.
 */
static inline void eesp_mbuf_offload_ipv4(struct rte_mbuf *m, uint16_t l2_len, uint16_t l3_len)
{
	rte_pktmbuf_mtod_offset(m, struct rte_ipv4_hdr *, l2_len)->hdr_checksum = 0;
	m->l2_len = l2_len & 0x7fu; /* bit-fields: for compilers that warn of conversions */
	m->l3_len = l3_len & 0x1ffu;
	m->ol_flags |= RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IP_CKSUM;
}

/* ---- Bursts ------------------------------------------------------------------- */

/* The packets of a burst; pkts[i].user is the mbuf. Too large for the stack. */
typedef struct eesp_mbuf_burst {
	uint16_t count;
	eesp_pkt pkts[EESP_MBUF_BURST];
	eesp_iov iovs[EESP_MBUF_BURST][EESP_MBUF_SEGS];
} eesp_mbuf_burst;

static inline void eesp_mbuf_begin(eesp_mbuf_burst *b)
{
	b->count = 0;
}

/* Adds a packet, with eesp_mbuf_to_pkt. addr NULL: no addresses. EESP_ERR_ROOM:
 * the burst is full. On error the mbuf still belongs to the caller. */
static inline eesp_status eesp_mbuf_add(eesp_mbuf_burst *b, struct rte_mbuf *m, uint32_t reserve, const eesp_addr *addr)
{
	eesp_pkt *p = &b->pkts[b->count];
	eesp_status status;
	if (b->count == EESP_MBUF_BURST)
		return EESP_ERR_ROOM;
	status = eesp_mbuf_to_pkt(m, reserve, p, b->iovs[b->count], EESP_MBUF_SEGS);
	if (status != EESP_OK)
		return status;
	if (addr != NULL)
		p->addr = *addr;
	b->count++;
	return EESP_OK;
}

/* Updates the mbufs of packets with EESP_OK, and moves these packets to the
 * front, in their order. Behind them are the refused packets with their
 * statuses. Returns how many have EESP_OK. */
static inline uint16_t eesp_mbuf_take(eesp_mbuf_burst *b, void (*take)(struct rte_mbuf *m, const eesp_pkt *p))
{
	uint16_t good = 0;
	for (uint16_t i = 0; i < b->count; i++) {
		if (b->pkts[i].status != EESP_OK)
			continue;
		take(eesp_mbuf_of(&b->pkts[i]), &b->pkts[i]);
		if (i != good) { /* iovs are not needed any more */
			eesp_pkt p = b->pkts[good];
			b->pkts[good] = b->pkts[i];
			b->pkts[i] = p;
		}
		good++;
	}
	return good;
}

/* Process the burst. Each returns the number of packets with EESP_OK, which come
 * first in pkts; their mbufs are updated. */
static inline uint16_t eesp_mbuf_seal(eesp_mbuf_burst *b, eesp_sender *sender)
{
	eesp_seal_burst(sender, b->pkts, b->count);
	return eesp_mbuf_take(b, eesp_mbuf_sealed);
}

static inline uint16_t eesp_mbuf_open(eesp_mbuf_burst *b, eesp_receiver *receiver)
{
	eesp_open_burst(receiver, b->pkts, b->count);
	return eesp_mbuf_take(b, eesp_mbuf_opened);
}

static inline uint16_t eesp_mbuf_proxy(eesp_mbuf_burst *b, eesp_proxy *proxy)
{
	eesp_proxy_burst(proxy, b->pkts, b->count);
	return eesp_mbuf_take(b, eesp_mbuf_proxied);
}

static inline uint16_t eesp_mbuf_udp_seal(eesp_mbuf_burst *b, eesp_sender *sender, const eesp_udp *udp)
{
	eesp_udp_seal_burst(sender, udp, b->pkts, b->count);
	return eesp_mbuf_take(b, eesp_mbuf_proxied);
}

static inline uint16_t eesp_mbuf_udp_open(eesp_mbuf_burst *b, eesp_receiver *receiver, const eesp_udp *udp)
{
	eesp_udp_open_burst(receiver, udp, b->pkts, b->count);
	return eesp_mbuf_take(b, eesp_mbuf_proxied);
}

/* Frees the mbufs behind the first good ones, and removes them from the burst. */
static inline void eesp_mbuf_free_rest(eesp_mbuf_burst *b, uint16_t good)
{
	for (uint16_t i = good; i < b->count; i++)
		rte_pktmbuf_free(eesp_mbuf_of(&b->pkts[i]));
	b->count = good;
}

#ifdef __cplusplus
}
#endif

#endif
