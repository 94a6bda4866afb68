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
#define COLD_US 200     /* after this time without a call the library's code path is cold */

const char *const drop_names[DROP_COUNT] = {
	[DROP_NOT_OURS] = "not for this gateway",   [DROP_MALFORMED] = "malformed",
	[DROP_INNER] = "no IP packet inside",       [DROP_TOO_LONG] = "longer than the MTU",
	[DROP_SEGMENTS] = "too many segments",      [DROP_NO_MBUF] = "out of mbufs",
	[DROP_TX_FULL] = "transmit queue full",
	[DROP_NO_PEER] = "no peer there",	    [DROP_FOREIGN] = "inside is a network of another peer",
	[DROP_OFFLOAD] = "checksums or segments that were left to a device",
};

static void discard(struct lane *l, struct rte_mbuf *m, enum drop why)
{
	rte_pktmbuf_free(m);
	gw_count(&l->drops[why], 1);
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

/* The peer whose packet p is. Its out_addr is in it. */
static struct gw_peer *peer_of(const eesp_pkt *p)
{
	return (struct gw_peer *)((uintptr_t)p->out_addr - offsetof(struct gw_peer, addr));
}

/* Puts Ethernet, IP and UDP in front of a Security Header. */
static void put_outer(struct rte_mbuf *m, const struct worker *w, const struct gw_peer *to)
{
	uint8_t *outer = (uint8_t *)rte_pktmbuf_prepend(m, OUTER_LEN);
	memcpy(outer, w->config->outer[to->index], OUTER_LEN);
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

/* The length of the IP packet at the start of m by its header; 0 if it is none. */
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

/* Removes everything around the IP packet in a host's frame. */
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
	/* virtio and TAP leave checksums out: they must be made before packets are sealed. */
	if (eesp_mbuf_checksums(m) != EESP_OK) {
		discard(l, m, DROP_OFFLOAD);
		return false;
	}
	return true;
}

/* Removes everything in front of the Security Header in a network's frame, and returns its peer. NULL: it was
 * dropped. */
static struct gw_peer *strip_outer(struct worker *w, struct lane *l, struct rte_mbuf *m, eesp_addr *addr)
{
	const struct rte_ether_hdr *eth = rte_pktmbuf_mtod(m, const struct rte_ether_hdr *);
	const struct rte_ipv4_hdr *ip = (const struct rte_ipv4_hdr *)(eth + 1);
	const struct rte_udp_hdr *udp = (const struct rte_udp_hdr *)(ip + 1);
	if (rte_pktmbuf_data_len(m) < OUTER_LEN || eth->ether_type != rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4) ||
	    ip->version_ihl != RTE_IPV4_VHL_DEF || ip->next_proto_id != IPPROTO_UDP ||
	    (ip->fragment_offset & rte_cpu_to_be_16(RTE_IPV4_HDR_MF_FLAG | RTE_IPV4_HDR_OFFSET_MASK)) != 0 ||
	    ip->dst_addr != l->from->address || udp->dst_port != rte_cpu_to_be_16(l->from->end.udp_port)) {
		discard(l, m, DROP_NOT_OURS);
		return NULL;
	}
	uint32_t len = rte_be_to_cpu_16(udp->dgram_len);
	if (len < sizeof *udp || rte_be_to_cpu_16(ip->total_length) != sizeof *ip + len ||
	    OUTER_LEN - sizeof *udp + len > rte_pktmbuf_pkt_len(m)) {
		discard(l, m, DROP_MALFORMED);
		return NULL;
	}
	eesp_addr_from_ipv4(addr->src, &ip->src_addr);
	eesp_addr_from_ipv4(addr->dst, &ip->dst_addr);
	struct gw_peer *p = gw_peer_at(w->gw, &l->from->end, addr->src);
	if (p == NULL) {
		gw_stranger(w->gw, addr->src, 1);
		discard(l, m, DROP_NO_PEER);
		return NULL;
	}
	uint16_t source_port = rte_be_to_cpu_16(udp->src_port);
	uint8_t *header = (uint8_t *)rte_pktmbuf_adj(m, OUTER_LEN);
	if (l->from->end.profile == EESP_PROFILE_TSS)
		gw_put_prefix(header, addr, source_port, l->from->end.udp_port);
	eesp_mbuf_cut(m, len - (uint32_t)sizeof *udp);
	return p;
}

/* The peer that a packet from a host is for; NULL: none, and it was dropped. */
static struct gw_peer *route(struct worker *w, struct lane *l, struct rte_mbuf *m)
{
	uint8_t source[16], destination[16];
	gw_ip(rte_pktmbuf_mtod(m, uint8_t *), rte_pktmbuf_data_len(m), source, destination);
	struct gw_peer *p = gw_route(w->gw, &l->to->end, destination);
	if (p == NULL)
		discard(l, m, DROP_NO_PEER);
	return p;
}

/* Adds a packet that is to be sealed for a peer. false: it was dropped. */
static bool add_to_seal(struct worker *w, struct lane *l, struct rte_mbuf *m, struct gw_peer *p)
{
	if (!eesp_mbuf_tailroom(m, EESP_MBUF_TAIL, l->from->pool)) {
		discard(l, m, DROP_NO_MBUF);
		return false;
	}
	if (eesp_mbuf_add(&w->burst, m, OUTER_LEN, &p->addr) != EESP_OK) {
		discard(l, m, DROP_SEGMENTS);
		return false;
	}
	eesp_pkt *k = &w->burst.pkts[w->burst.count - 1];
	uint8_t *ip = rte_pktmbuf_mtod(m, uint8_t *);
	k->out_addr = &p->addr;
	if (p->end->profile == EESP_PROFILE_PSP)
		k->next_header = ip[0] >> 4 == 4 ? IPPROTO_IPIP : IPPROTO_IPV6;
	else if (p->end->profile == EESP_PROFILE_TSS)
		gw_put_prefix(ip - eesp_sender_header_len(p->sender[w->queue]), &p->addr, p->end->udp_port,
			    p->end->udp_port);
	return true;
}

/* Describes those of the n frames in w->mbufs that the library is to seal or open. */
static void classify(struct worker *w, struct lane *l, uint16_t n)
{
	uint16_t chained = 0;
	eesp_mbuf_begin(&w->burst);
	for (uint16_t i = 0; i < n; i++) {
		struct rte_mbuf *m = w->mbufs[i];
		chained = (uint16_t)(chained + (m->nb_segs != 1));
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
		if (!l->from->network && !strip_ethernet(l, m))
			continue;
		struct gw_peer *p = NULL;
		eesp_addr addr = { { 0 }, { 0 } };
		if (l->from->network || l->to->network) {
			p = l->from->network ? strip_outer(w, l, m, &addr) : route(w, l, m);
			if (p == NULL)
				continue;
		}
		if (!l->from->network && l->to->network) {
			add_to_seal(w, l, m, p);
			continue;
		}
		if (eesp_mbuf_add(&w->burst, m, OUTER_LEN, &addr) != EESP_OK) {
			discard(l, m, DROP_SEGMENTS);
			continue;
		}
		/* A proxy has one peer on each side. */
		if (p != NULL)
			w->burst.pkts[w->burst.count - 1].out_addr = l->to->proxy ? &l->to->peer->addr : &p->addr;
	}
	gw_count(&l->chained, chained);
}

/* ---- The library's part --------------------------------------------------- */

/* Called after every call of the library with packets. */
static void account(struct worker *w, struct lane *l, uint64_t before)
{
	uint64_t now = rte_rdtsc();
	gw_count(&l->library, now - before);
	if (w->burst.count == 1 && before - w->last_burst > w->cold) {
		gw_count(&l->wakes, 1);
		gw_count(&l->wake_cycles, now - before);
	}
	w->last_burst = w->last_call = now;
}

/* Counts the results of a burst by peer. one: the peer of all packets, or NULL. */
static void count_results(struct worker *w, struct lane *l, struct gw_peer *one, bool sealed)
{
	for (uint16_t i = 0; i < w->burst.count; i++) {
		const eesp_pkt *p = &w->burst.pkts[i];
		struct gw_counts *c = &w->counts[(one != NULL ? one : peer_of(p))->index];
		if (p->status != EESP_OK) {
			gw_count(&c->refused[-p->status], 1);
			gw_count(&l->refused[-p->status], 1);
			continue;
		}
		gw_count(sealed ? &c->sealed : &c->opened, 1);
		gw_count(sealed ? &c->sealed_octets : &c->opened_octets, p->out_len);
	}
}

/* Open or seal; only good packets stay in the burst. */
static void open_packets(struct worker *w, struct lane *l)
{
	uint64_t before = rte_rdtsc();
	eesp_open_burst(l->from->end.receiver, w->burst.pkts, w->burst.count);
	account(w, l, before);
	count_results(w, l, l->from->proxy ? l->from->peer : NULL, false);
	eesp_mbuf_free_rest(&w->burst, eesp_mbuf_take(&w->burst, eesp_mbuf_opened));
}

/* A run of packets for one sender is one call. */
static void seal_packets(struct worker *w, struct lane *l)
{
	uint64_t before = rte_rdtsc();
	eesp_pkt *p = w->burst.pkts;
	for (uint16_t at = 0, n; at < w->burst.count; at = (uint16_t)(at + n)) {
		eesp_sender *sender = peer_of(&p[at])->sender[w->queue];
		for (n = 1; at + n < w->burst.count && peer_of(&p[at + n])->sender[w->queue] == sender; n++)
			;
		eesp_seal_burst(sender, &p[at], n);
	}
	account(w, l, before);
	count_results(w, l, NULL, true);
	eesp_mbuf_free_rest(&w->burst, eesp_mbuf_take(&w->burst, eesp_mbuf_sealed));
}

/* As eesp_proxy_burst, for bursts that it does not take: chained packets, and tss, whose prefix has the ports. */
static void open_and_seal(struct worker *w, struct lane *l)
{
	open_packets(w, l);
	uint16_t opened = w->burst.count;
	eesp_mbuf_begin(&w->burst); /* entries are read before they are overwritten */
	for (uint16_t i = 0; i < opened; i++) {
		const eesp_pkt p = w->burst.pkts[i];
		if (!add_to_seal(w, l, eesp_mbuf_of(&p), l->to->peer))
			continue;
		eesp_pkt *q = &w->burst.pkts[w->burst.count - 1];
		q->coffset = p.coffset;
		q->ioffset = p.ioffset;
	}
	seal_packets(w, l);
}

/* The proxy, with the sender that the peer has now. */
static eesp_proxy *proxy_of(struct worker *w, struct lane *l)
{
	eesp_sender *sender = l->to->peer->sender[w->queue];
	if (sender != l->proxied_by) {
		eesp_proxy_free(l->proxy);
		l->proxy = NULL;
		if (eesp_proxy_new(l->from->end.receiver, sender, &l->proxy) == EESP_OK)
			l->proxied_by = sender;
	}
	return l->proxy;
}

static void proxy_packets(struct worker *w, struct lane *l)
{
	bool plain = l->to->end.profile != EESP_PROFILE_TSS;
	for (uint16_t i = 0; i < w->burst.count; i++)
		plain &= w->burst.pkts[i].iov_count == 0;
	eesp_proxy *proxy = plain ? proxy_of(w, l) : NULL;
	if (proxy == NULL) {
		open_and_seal(w, l);
		return;
	}
	uint64_t before = rte_rdtsc();
	eesp_proxy_burst(proxy, w->burst.pkts, w->burst.count);
	account(w, l, before);
	count_results(w, l, l->from->peer, false);
	eesp_mbuf_free_rest(&w->burst, eesp_mbuf_take(&w->burst, eesp_mbuf_proxied));
	count_results(w, l, l->to->peer, true);
}

/* ---- What goes out ---------------------------------------------------------- */

/* Whether an opened packet is an IP packet of its peer's networks. */
static bool is_inner(struct lane *l, struct rte_mbuf *m, const eesp_pkt *p)
{
	uint8_t source[16], destination[16];
	/* Octets in front of ioffset are not authenticated. */
	if (p->ioffset != 0 || gw_ip(rte_pktmbuf_mtod(m, uint8_t *), rte_pktmbuf_data_len(m), source, destination) !=
				       rte_pktmbuf_pkt_len(m)) {
		discard(l, m, DROP_INNER);
		return false;
	}
	if (!gw_is_inside(peer_of(p), source)) {
		discard(l, m, DROP_FOREIGN);
		return false;
	}
	return true;
}

/* Makes frames in w->mbufs of the burst's packets that can be sent. */
static uint16_t make_frames(struct worker *w, struct lane *l)
{
	const struct port *to = l->to;
	uint32_t outer = to->network ? (uint32_t)OUTER_LEN - RTE_ETHER_HDR_LEN : 0;
	uint16_t good = 0;
	for (uint16_t i = 0; i < w->burst.count; i++) {
		const eesp_pkt *p = &w->burst.pkts[i];
		struct rte_mbuf *m = eesp_mbuf_of(p);
		if (l->from->network && !to->network && !is_inner(l, m, p))
			continue;
		if (rte_pktmbuf_pkt_len(m) + outer > to->mtu) {
			discard(l, m, DROP_TOO_LONG);
			continue;
		}
		if (to->network)
			put_outer(m, w, peer_of(p));
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
	gw_count(&l->tx, sent);
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
		if (l->from->proxy)
			proxy_packets(w, l);
		else if (l->from->network)
			open_packets(w, l);
		else if (l->to->network)
			seal_packets(w, l);
		send_frames(w, l, make_frames(w, l));
	}
	gw_count(&l->rx, received);
	gw_count(&l->bursts, 1);
	gw_count(&l->cycles, rte_rdtsc() - before);
	return received;
}

/* ---- The worker --------------------------------------------------------------- */

void worker_init(struct worker *w, struct gw *g, unsigned lcore, uint16_t queue)
{
	const struct config *c = w->config = g->program;
	w->gw = g;
	w->lcore = lcore;
	w->queue = queue;
	w->cold = COLD_US * rte_get_tsc_hz() / 1000000;
	g->counts[g->worker_count++] = &w->counts;
	for (size_t i = 0; i < c->port_count; i++) {
		struct lane *l = &w->lanes[w->lane_count++];
		l->from = &c->ports[i];
		l->to = l->from->other;
		if (l->from->network || !l->to->network)
			continue;
		/* A proxy has more room, since it removes headers. */
		const uint32_t room = RTE_PKTMBUF_HEADROOM + RTE_ETHER_HDR_LEN, overhead = gw_overhead(g, &l->to->end);
		if (overhead + OUTER_LEN > room + EESP_ICV_LEN + EESP_MAX_PADDING)
			gw_fail(g, l->to->end.line, "headers and trailer have %u octets; mbufs have room for %zu",
				overhead, room - OUTER_LEN);
	}
}

void worker_free(struct worker *w)
{
	for (size_t i = 0; i < w->lane_count; i++)
		eesp_proxy_free(w->lanes[i].proxy);
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
	while (!atomic_load_explicit(&gw_stop, memory_order_relaxed)) {
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
