/* SPDX-License-Identifier: BSD-3-Clause */
/* The data path: what an lcore does with packets. To copy from: seal, unseal, proxy. */
#include "eesp_gw.h"

#include <rte_arp.h>
#include <rte_cycles.h>
#include <rte_lcore.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#define KEEP_WARM_US 25 /* the library asks for at most 50 */
#define COLD_US 200     /* after so long without a call the way into the library is cold */

const char *const drop_names[DROP_COUNT] = {
	[DROP_NOT_OURS] = "not for this gateway",   [DROP_MALFORMED] = "malformed",
	[DROP_INNER] = "no IP packet inside",       [DROP_TOO_LONG] = "longer than the MTU",
	[DROP_SEGMENTS] = "too many segments",      [DROP_NO_MBUF] = "out of mbufs",
	[DROP_TX_FULL] = "transmit queue full",
};

atomic_bool stop;

/* Only the worker writes: no atomic addition is needed. */
static void count(counter *c, uint64_t n)
{
	atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n, memory_order_relaxed);
}

static void discard(struct lane *l, struct rte_mbuf *m, enum drop why)
{
	rte_pktmbuf_free(m);
	count(&l->drops[why], 1);
}

/* ---- Packets in mbufs ---------------------------------------------------- */

/* Describes a packet to the library, and leaves room for outer headers in front of what it writes. */
static void describe(eesp_pkt *p, eesp_iov *iov, struct rte_mbuf *m, const eesp_addr *addr)
{
	uint32_t headroom = rte_pktmbuf_headroom(m);
	struct rte_mbuf *last = rte_pktmbuf_lastseg(m);
	*p = (eesp_pkt){
		.data = rte_pktmbuf_mtod(m, void *),
		.len = rte_pktmbuf_data_len(m),
		.headroom = headroom > OUTER_LEN ? headroom - (uint32_t)OUTER_LEN : 0,
		.tailroom = rte_pktmbuf_tailroom(last),
		.addr = *addr,
		.user = m,
	};
	if (m->nb_segs == 1)
		return;
	p->iov = iov;
	for (struct rte_mbuf *s = m; s != NULL; s = s->next)
		iov[p->iov_count++] = (eesp_iov){ rte_pktmbuf_mtod(s, void *), rte_pktmbuf_data_len(s) };
}

/* The library has put octets in front of a packet; takes them in. */
static void take_header(struct rte_mbuf *m, const eesp_pkt *p)
{
	rte_pktmbuf_prepend(m, (uint16_t)(rte_pktmbuf_mtod(m, uint8_t *) - (uint8_t *)p->out));
}

/* The same for octets behind it. */
static void take_icv(struct rte_mbuf *m)
{
	rte_pktmbuf_lastseg(m)->data_len += EESP_ICV_LEN;
	m->pkt_len += EESP_ICV_LEN;
}

/* Cuts a packet to len octets, which it has. */
static void cut(struct rte_mbuf *m, uint32_t len)
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

/* Makes sure that an ICV fits behind a packet. */
static bool make_tailroom(struct rte_mbuf *m, struct rte_mempool *pool)
{
	if (rte_pktmbuf_tailroom(rte_pktmbuf_lastseg(m)) >= EESP_ICV_LEN)
		return true;
	struct rte_mbuf *more = rte_pktmbuf_alloc(pool);
	if (more == NULL)
		return false;
	rte_pktmbuf_chain(m, more);
	return true;
}

/* Puts Ethernet in front of an IP packet. */
static void put_ethernet(struct rte_mbuf *m, const struct port *to)
{
	uint16_t type = *rte_pktmbuf_mtod(m, uint8_t *) >> 4 == 4 ? RTE_ETHER_TYPE_IPV4 : RTE_ETHER_TYPE_IPV6;
	struct rte_ether_hdr *eth = (struct rte_ether_hdr *)rte_pktmbuf_prepend(m, RTE_ETHER_HDR_LEN);
	eth->dst_addr = to->next_hop;
	eth->src_addr = to->mac;
	eth->ether_type = rte_cpu_to_be_16(type);
}

/* Puts Ethernet, IP and UDP in front of a Security Header. */
static void put_outer(struct rte_mbuf *m, const struct port *to)
{
	uint8_t *outer = (uint8_t *)rte_pktmbuf_prepend(m, OUTER_LEN);
	memcpy(outer, to->outer, OUTER_LEN);
	struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(outer + RTE_ETHER_HDR_LEN);
	struct rte_udp_hdr *udp = (struct rte_udp_hdr *)(ip + 1);
	uint32_t len = rte_pktmbuf_pkt_len(m) - RTE_ETHER_HDR_LEN;
	ip->total_length = rte_cpu_to_be_16((uint16_t)len);
	ip->hdr_checksum = rte_ipv4_cksum(ip);
	udp->dgram_len = rte_cpu_to_be_16((uint16_t)(len - sizeof *ip));
}

/* ---- What came in --------------------------------------------------------- */

/* Answers a request for the port's address; takes the packet. false: it is none. */
static bool answer_arp(struct worker *w, struct lane *l, struct rte_mbuf *m)
{
	struct rte_ether_hdr *eth = rte_pktmbuf_mtod(m, struct rte_ether_hdr *);
	struct rte_arp_hdr *arp = (struct rte_arp_hdr *)(eth + 1);
	const struct port *p = l->from;
	if (eth->ether_type != rte_cpu_to_be_16(RTE_ETHER_TYPE_ARP) ||
	    rte_pktmbuf_data_len(m) < sizeof *eth + sizeof *arp ||
	    arp->arp_hardware != rte_cpu_to_be_16(RTE_ARP_HRD_ETHER) ||
	    arp->arp_protocol != rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4) ||
	    arp->arp_opcode != rte_cpu_to_be_16(RTE_ARP_OP_REQUEST) || arp->arp_data.arp_tip != p->address)
		return false;
	eth->dst_addr = arp->arp_data.arp_sha;
	eth->src_addr = p->mac;
	arp->arp_opcode = rte_cpu_to_be_16(RTE_ARP_OP_REPLY);
	arp->arp_data.arp_tha = arp->arp_data.arp_sha;
	arp->arp_data.arp_tip = arp->arp_data.arp_sip;
	arp->arp_data.arp_sha = p->mac;
	arp->arp_data.arp_sip = p->address;
	if (rte_eth_tx_burst(p->port_id, w->queue, &m, 1) != 1)
		discard(l, m, DROP_TX_FULL);
	return true;
}

/* Octets of the IP packet at the start of m as it says itself, 0 if it is none. */
static uint32_t ip_len(const struct rte_mbuf *m)
{
	const uint8_t *ip = rte_pktmbuf_mtod(m, const uint8_t *);
	uint32_t there = rte_pktmbuf_data_len(m), len;
	if (there >= sizeof(struct rte_ipv4_hdr) && ip[0] >> 4 == 4) {
		len = rte_be_to_cpu_16(((const struct rte_ipv4_hdr *)ip)->total_length);
		return len >= sizeof(struct rte_ipv4_hdr) ? len : 0;
	}
	if (there >= sizeof(struct rte_ipv6_hdr) && ip[0] >> 4 == 6)
		return (uint32_t)sizeof(struct rte_ipv6_hdr) +
		       rte_be_to_cpu_16(((const struct rte_ipv6_hdr *)ip)->payload_len);
	return 0;
}

/* From a host's frame to the IP packet in it. */
static bool strip_ethernet(struct lane *l, struct rte_mbuf *m)
{
	rte_be16_t type = rte_pktmbuf_mtod(m, struct rte_ether_hdr *)->ether_type;
	if (type != rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4) && type != rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV6)) {
		discard(l, m, DROP_NOT_OURS);
		return false;
	}
	rte_pktmbuf_adj(m, RTE_ETHER_HDR_LEN);
	uint32_t len = ip_len(m);
	if (len == 0 || len > rte_pktmbuf_pkt_len(m)) {
		discard(l, m, DROP_MALFORMED);
		return false;
	}
	cut(m, len); /* short frames are padded */
	return true;
}

/* From a frame of the network to the Security Header in it. */
static bool strip_outer(struct lane *l, struct rte_mbuf *m, eesp_addr *addr)
{
	const struct rte_ether_hdr *eth = rte_pktmbuf_mtod(m, const struct rte_ether_hdr *);
	const struct rte_ipv4_hdr *ip = (const struct rte_ipv4_hdr *)(eth + 1);
	const struct rte_udp_hdr *udp = (const struct rte_udp_hdr *)(ip + 1);
	if (rte_pktmbuf_data_len(m) < OUTER_LEN || eth->ether_type != rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4) ||
	    ip->version_ihl != RTE_IPV4_VHL_DEF || ip->next_proto_id != IPPROTO_UDP ||
	    (ip->fragment_offset & rte_cpu_to_be_16(RTE_IPV4_HDR_MF_FLAG | RTE_IPV4_HDR_OFFSET_MASK)) != 0 ||
	    ip->dst_addr != l->from->address || udp->dst_port != rte_cpu_to_be_16(EESP_UDP_PORT)) {
		discard(l, m, DROP_NOT_OURS);
		return false;
	}
	uint32_t len = rte_be_to_cpu_16(udp->dgram_len);
	if (len < sizeof *udp || rte_be_to_cpu_16(ip->total_length) != sizeof *ip + len ||
	    OUTER_LEN - sizeof *udp + len > rte_pktmbuf_pkt_len(m)) {
		discard(l, m, DROP_MALFORMED);
		return false;
	}
	eesp_addr_from_ipv4(addr->src, &ip->src_addr);
	eesp_addr_from_ipv4(addr->dst, &ip->dst_addr);
	rte_pktmbuf_adj(m, OUTER_LEN);
	cut(m, len - (uint32_t)sizeof *udp);
	return true;
}

/* Turns the n frames of w->mbufs into descriptions of those that the library is to work on. */
static uint16_t classify(struct worker *w, struct lane *l, uint16_t n)
{
	uint16_t good = 0, chained = 0;
	for (uint16_t i = 0; i < n; i++) {
		struct rte_mbuf *m = w->mbufs[i];
		eesp_addr addr = l->to->addr;
		if (m->nb_segs > MAX_SEGMENTS - 1) { /* one more may be needed for the ICV */
			discard(l, m, DROP_SEGMENTS);
			continue;
		}
		chained += m->nb_segs != 1;
		if (rte_pktmbuf_data_len(m) < RTE_ETHER_HDR_LEN) {
			discard(l, m, DROP_MALFORMED);
			continue;
		}
		if (answer_arp(w, l, m))
			continue;
		if (!rte_is_same_ether_addr(&rte_pktmbuf_mtod(m, struct rte_ether_hdr *)->dst_addr, &l->from->mac)) {
			discard(l, m, DROP_NOT_OURS);
			continue;
		}
		if (l->receiver != NULL ? !strip_outer(l, m, &addr) : !strip_ethernet(l, m))
			continue;
		if (l->sender != NULL && l->receiver == NULL && !make_tailroom(m, l->from->pool)) {
			discard(l, m, DROP_NO_MBUF);
			continue;
		}
		describe(&w->pkts[good], w->iovs[good], m, &addr);
		w->pkts[good].out_addr = &l->to->addr;
		good++;
	}
	count(&l->chained, chained);
	return good;
}

/* ---- The library's part --------------------------------------------------- */

/* Around every call of the library that has packets. */
static void account(struct worker *w, struct lane *l, uint64_t before, uint16_t n)
{
	uint64_t now = rte_rdtsc();
	count(&l->library, now - before);
	if (n == 1 && before - w->last_burst > w->cold) {
		count(&l->wakes, 1);
		count(&l->wake_cycles, now - before);
	}
	w->last_burst = w->last_call = now;
}

/* Opens, seals: of the n packets described, those that went well come first. */
static uint16_t open_packets(struct worker *w, struct lane *l, uint16_t n)
{
	uint16_t good = 0;
	uint64_t before = rte_rdtsc();
	eesp_open_burst(l->receiver, w->pkts, n);
	account(w, l, before, n);
	for (uint16_t i = 0; i < n; i++) {
		const eesp_pkt *p = &w->pkts[i];
		struct rte_mbuf *m = p->user;
		if (p->status != EESP_OK) {
			rte_pktmbuf_free(m); /* the library has counted it */
			continue;
		}
		rte_pktmbuf_adj(m, (uint16_t)(rte_pktmbuf_pkt_len(m) - EESP_ICV_LEN - p->out_len));
		cut(m, p->out_len);
		w->pkts[good++] = *p;
	}
	return good;
}

static uint16_t seal_packets(struct worker *w, struct lane *l, uint16_t n)
{
	uint16_t good = 0;
	uint64_t before = rte_rdtsc();
	eesp_seal_burst(l->sender, w->pkts, n);
	account(w, l, before, n);
	for (uint16_t i = 0; i < n; i++) {
		const eesp_pkt *p = &w->pkts[i];
		struct rte_mbuf *m = p->user;
		if (p->status != EESP_OK) {
			rte_pktmbuf_free(m);
			continue;
		}
		take_header(m, p);
		take_icv(m);
		w->pkts[good++] = *p;
	}
	return good;
}

/* What eesp_proxy_burst does, for bursts with chained packets, which it does not take. */
static uint16_t proxy_chained(struct worker *w, struct lane *l, uint16_t n)
{
	uint16_t opened = open_packets(w, l, n);
	n = 0;
	for (uint16_t i = 0; i < opened; i++) {
		const eesp_pkt p = w->pkts[i];
		struct rte_mbuf *m = p.user;
		if (!make_tailroom(m, l->from->pool)) {
			discard(l, m, DROP_NO_MBUF);
			continue;
		}
		describe(&w->pkts[n], w->iovs[n], m, &l->to->addr);
		w->pkts[n].coffset = p.coffset;
		w->pkts[n++].ioffset = p.ioffset;
	}
	return seal_packets(w, l, n);
}

static uint16_t proxy_packets(struct worker *w, struct lane *l, uint16_t n)
{
	uint16_t good = 0;
	for (uint16_t i = 0; i < n; i++)
		if (w->pkts[i].iov_count != 0)
			return proxy_chained(w, l, n);
	uint64_t before = rte_rdtsc();
	eesp_proxy_burst(l->proxy, w->pkts, n);
	account(w, l, before, n);
	for (uint16_t i = 0; i < n; i++) {
		const eesp_pkt *p = &w->pkts[i];
		struct rte_mbuf *m = p->user;
		if (p->status != EESP_OK) {
			rte_pktmbuf_free(m);
			continue;
		}
		m->data_off = (uint16_t)((uint8_t *)p->out - (uint8_t *)m->buf_addr);
		m->data_len = (uint16_t)p->out_len;
		m->pkt_len = p->out_len;
		w->pkts[good++] = *p;
	}
	return good;
}

/* ---- What goes out ---------------------------------------------------------- */

/* Turns n packets into frames, those that can be sent, in w->mbufs. */
static uint16_t make_frames(struct worker *w, struct lane *l, uint16_t n)
{
	const struct port *to = l->to;
	uint32_t outer = l->sender != NULL ? (uint32_t)OUTER_LEN - RTE_ETHER_HDR_LEN : 0;
	uint16_t good = 0;
	for (uint16_t i = 0; i < n; i++) {
		struct rte_mbuf *m = w->pkts[i].user;
		/* What ioffset leaves out is not authenticated. */
		if (l->sender == NULL && (w->pkts[i].ioffset != 0 || ip_len(m) != rte_pktmbuf_pkt_len(m))) {
			discard(l, m, DROP_INNER);
			continue;
		}
		if (rte_pktmbuf_pkt_len(m) + outer > to->mtu) {
			discard(l, m, DROP_TOO_LONG);
			continue;
		}
		if (l->sender != NULL)
			put_outer(m, to);
		else
			put_ethernet(m, to);
		if (!to->multi_segs && rte_pktmbuf_linearize(m) != 0) {
			discard(l, m, DROP_SEGMENTS);
			continue;
		}
		w->mbufs[good++] = m;
	}
	return good;
}

static void send_frames(struct worker *w, struct lane *l, uint16_t n)
{
	uint16_t sent = rte_eth_tx_burst(l->to->port_id, w->queue, w->mbufs, n);
	count(&l->tx, sent);
	for (uint16_t i = sent; i < n; i++)
		discard(l, w->mbufs[i], DROP_TX_FULL);
}

/* One burst of one lane. Returns the frames that came in. */
static uint16_t run_lane(struct worker *w, struct lane *l)
{
	uint64_t before = rte_rdtsc();
	uint16_t received = rte_eth_rx_burst(l->from->port_id, w->queue, w->mbufs, BURST);
	if (received == 0)
		return 0;
	uint16_t n = classify(w, l, received);
	if (n != 0) {
		if (l->proxy != NULL)
			n = proxy_packets(w, l, n);
		else if (l->receiver != NULL)
			n = open_packets(w, l, n);
		else if (l->sender != NULL)
			n = seal_packets(w, l, n);
		n = make_frames(w, l, n);
		send_frames(w, l, n);
	}
	count(&l->rx, received);
	count(&l->bursts, 1);
	count(&l->cycles, rte_rdtsc() - before);
	return received;
}

/* ---- The worker --------------------------------------------------------------- */

static void check(const struct config *c, unsigned line, eesp_status status)
{
	if (status != EESP_OK)
		config_fail(c, line, "%s (%s)", eesp_strerror(status), eesp_last_error());
}

static void open_sender(struct lane *l, const struct config *c)
{
	eesp_sender_config sc = EESP_SENDER_CONFIG_INIT;
	sc.flags = EESP_SENDER_OPTIONS; /* root keys rotate */
	sc.id = l->to->id;
	sc.v = l->to->v;
	sc.lock_dir = c->lock_dir[0] != '\0' ? c->lock_dir : NULL;
	check(c, l->to->line, eesp_sender_new(l->to->group->handle, &sc, &l->sender));
	/* What a proxy takes off makes more room than that. */
	uint32_t room = RTE_PKTMBUF_HEADROOM + RTE_ETHER_HDR_LEN;
	if (l->receiver == NULL && eesp_sender_header_len(l->sender) + OUTER_LEN > room)
		config_fail(c, l->to->line, "the Security Header has %u octets; mbufs have room for %zu",
			    eesp_sender_header_len(l->sender), room - OUTER_LEN);
}

static void open_receiver(struct lane *l, const struct config *c)
{
	eesp_receiver_config rc = EESP_RECEIVER_CONFIG_INIT;
	uint64_t own[MAX_PORTS];
	for (size_t i = 0; i < c->port_count; i++)
		if (c->ports[i].peer != 0 && c->ports[i].group == l->from->group)
			own[rc.own_id_count++] = c->ports[i].id;
	rc.own_ids = own;
	check(c, l->from->line, eesp_receiver_new(&l->from->group->handle, 1, &rc, &l->receiver));
}

void worker_init(struct worker *w, const struct config *c, unsigned lcore, uint16_t queue)
{
	w->config = c;
	w->lcore = lcore;
	w->queue = queue;
	w->cold = COLD_US * rte_get_tsc_hz() / 1000000;
	for (size_t i = 0; i < c->port_count; i++) {
		struct lane *l = &w->lanes[w->lane_count++];
		l->from = &c->ports[i];
		l->to = l->from->other;
		if (l->from->peer != 0)
			open_receiver(l, c);
		if (l->to->peer != 0)
			open_sender(l, c);
		if (l->receiver != NULL && l->sender != NULL)
			check(c, l->from->line, eesp_proxy_new(l->receiver, l->sender, &l->proxy));
	}
}

void worker_free(struct worker *w)
{
	for (size_t i = 0; i < w->lane_count; i++) {
		eesp_proxy_free(w->lanes[i].proxy);
		eesp_receiver_free(w->lanes[i].receiver);
		eesp_sender_free(w->lanes[i].sender);
	}
}

int worker_run(void *arg)
{
	struct worker *w = arg;
	const struct timespec sleep = { .tv_nsec = w->config->idle_sleep * 1000L };
	const uint64_t warm = KEEP_WARM_US * rte_get_tsc_hz() / 1000000;
	eesp_status status = eesp_thread_init();
	if (status != EESP_OK)
		die("lcore %u: %s (%s)", w->lcore, eesp_strerror(status), eesp_last_error());
	if (w->config->idle_sleep != 0)
		prctl(PR_SET_TIMERSLACK, 1); /* ns; the default, 50 us, is longer than the sleep */
	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		uint16_t frames = 0;
		for (size_t i = 0; i < w->lane_count; i++)
			frames += run_lane(w, &w->lanes[i]);
		if (frames != 0)
			continue;
		if (w->config->keep_warm && rte_rdtsc() - w->last_call > warm) {
			eesp_thread_keep_warm();
			w->last_call = rte_rdtsc();
		}
		if (w->config->idle_sleep != 0)
			nanosleep(&sleep, NULL);
	}
	return 0;
}
