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
	[DROP_TX_FULL] = "transmit queue full",	       [DROP_OFFLOAD] = "checksums or segments that were left to a device",
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

/* ---- Headers ---------------------------------------------------------------- */

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
	eesp_mbuf_cut(m, len); /* short frames are padded */
	/* Checksums that virtio and TAP leave out must be there before they are sealed. */
	if (eesp_mbuf_checksums(m) != EESP_OK) {
		discard(l, m, DROP_OFFLOAD);
		return false;
	}
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
	eesp_mbuf_cut(m, len - (uint32_t)sizeof *udp);
	return true;
}

/* Turns the n frames of w->mbufs into descriptions of those that the library is to work on. */
static void classify(struct worker *w, struct lane *l, uint16_t n)
{
	uint16_t chained = 0;
	eesp_mbuf_begin(&w->burst);
	for (uint16_t i = 0; i < n; i++) {
		struct rte_mbuf *m = w->mbufs[i];
		eesp_addr addr = l->to->addr;
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
		if (l->sender != NULL && l->receiver == NULL && !eesp_mbuf_tailroom(m, EESP_MBUF_TAIL, l->from->pool)) {
			discard(l, m, DROP_NO_MBUF);
			continue;
		}
		if (eesp_mbuf_add(&w->burst, m, OUTER_LEN, &addr) != EESP_OK) {
			discard(l, m, DROP_SEGMENTS);
			continue;
		}
		w->burst.pkts[w->burst.count - 1].out_addr = &l->to->addr;
	}
	count(&l->chained, chained);
}

/* ---- The library's part --------------------------------------------------- */

/* Around every call of the library that has packets. */
static void account(struct worker *w, struct lane *l, uint64_t before)
{
	uint64_t now = rte_rdtsc();
	count(&l->library, now - before);
	if (w->burst.count == 1 && before - w->last_burst > w->cold) {
		count(&l->wakes, 1);
		count(&l->wake_cycles, now - before);
	}
	w->last_burst = w->last_call = now;
}

/* Opens, seals: what is left of the burst went well; the library has counted the rest. */
static void open_packets(struct worker *w, struct lane *l)
{
	uint64_t before = rte_rdtsc();
	eesp_open_burst(l->receiver, w->burst.pkts, w->burst.count);
	account(w, l, before);
	eesp_mbuf_free_rest(&w->burst, eesp_mbuf_take(&w->burst, eesp_mbuf_opened));
}

static void seal_packets(struct worker *w, struct lane *l)
{
	uint64_t before = rte_rdtsc();
	eesp_seal_burst(l->sender, w->burst.pkts, w->burst.count);
	account(w, l, before);
	eesp_mbuf_free_rest(&w->burst, eesp_mbuf_take(&w->burst, eesp_mbuf_sealed));
}

/* What eesp_proxy_burst does, for bursts with chained packets, which it does not take. */
static void proxy_chained(struct worker *w, struct lane *l)
{
	open_packets(w, l);
	uint16_t opened = w->burst.count;
	eesp_mbuf_begin(&w->burst); /* it grows behind where it is read */
	for (uint16_t i = 0; i < opened; i++) {
		const eesp_pkt p = w->burst.pkts[i];
		struct rte_mbuf *m = eesp_mbuf_of(&p);
		if (!eesp_mbuf_tailroom(m, EESP_MBUF_TAIL, l->from->pool)) {
			discard(l, m, DROP_NO_MBUF);
			continue;
		}
		if (eesp_mbuf_add(&w->burst, m, OUTER_LEN, &l->to->addr) != EESP_OK) {
			discard(l, m, DROP_SEGMENTS);
			continue;
		}
		eesp_pkt *q = &w->burst.pkts[w->burst.count - 1];
		q->coffset = p.coffset;
		q->ioffset = p.ioffset;
	}
	seal_packets(w, l);
}

static void proxy_packets(struct worker *w, struct lane *l)
{
	for (uint16_t i = 0; i < w->burst.count; i++)
		if (w->burst.pkts[i].iov_count != 0) {
			proxy_chained(w, l);
			return;
		}
	uint64_t before = rte_rdtsc();
	eesp_proxy_burst(l->proxy, w->burst.pkts, w->burst.count);
	account(w, l, before);
	eesp_mbuf_free_rest(&w->burst, eesp_mbuf_take(&w->burst, eesp_mbuf_proxied));
}

/* ---- What goes out ---------------------------------------------------------- */

/* Turns the burst's packets into frames, those that can be sent, in w->mbufs. */
static uint16_t make_frames(struct worker *w, struct lane *l)
{
	const struct port *to = l->to;
	uint32_t outer = l->sender != NULL ? (uint32_t)OUTER_LEN - RTE_ETHER_HDR_LEN : 0;
	uint16_t good = 0;
	for (uint16_t i = 0; i < w->burst.count; i++) {
		struct rte_mbuf *m = eesp_mbuf_of(&w->burst.pkts[i]);
		/* What ioffset leaves out is not authenticated. */
		if (l->sender == NULL && (w->burst.pkts[i].ioffset != 0 || ip_len(m) != rte_pktmbuf_pkt_len(m))) {
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
	classify(w, l, received);
	if (w->burst.count != 0) {
		if (l->proxy != NULL)
			proxy_packets(w, l);
		else if (l->receiver != NULL)
			open_packets(w, l);
		else if (l->sender != NULL)
			seal_packets(w, l);
		send_frames(w, l, make_frames(w, l));
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

/* One for all workers: a packet that comes again may come to another queue. */
void receivers_init(struct config *c)
{
	uint64_t own[MAX_PORTS];
	for (size_t i = 0; i < c->port_count; i++) {
		struct port *p = &c->ports[i];
		eesp_receiver_config rc = EESP_RECEIVER_CONFIG_INIT;
		if (p->peer == 0)
			continue;
		for (size_t j = 0; j < c->port_count; j++)
			if (c->ports[j].peer != 0 && c->ports[j].group == p->group)
				own[rc.own_id_count++] = c->ports[j].id;
		rc.own_ids = own;
		rc.replay_window = p->replay_window;
		check(c, p->line, eesp_receiver_new(&p->group->handle, 1, &rc, &p->receiver));
	}
}

void receivers_free(struct config *c)
{
	for (size_t i = 0; i < c->port_count; i++)
		eesp_receiver_free(c->ports[i].receiver);
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
		l->receiver = l->from->receiver;
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
