/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * eesp_gw - an encrypting gateway on DPDK
 *
 * A tunnel seals IP packets from a port that faces hosts, and sends them to another
 * gateway:
 *
 *     Ethernet | IPv4 | UDP | Security Header | ciphertext of the IP packet | ICV
 *
 * A proxy connects two networks whose gateways share no root keys. It opens the packets of
 * one and seals them for the other. Packets stay in the mbufs in which they came, chained
 * ones too.
 *
 * Every lcore runs one worker with a queue of each port and its own senders and receivers.
 * A control thread answers commands and prints statistics. gateway.conf and proxy.conf are
 * examples of configurations. To copy from: worker.c.
 */
#define _GNU_SOURCE /* CPU sets */
#include "eesp_gw.h"

#include <pthread.h>
#include <rte_eal.h>
#include <rte_lcore.h>
#include <rte_malloc.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RX_DESCRIPTORS 1024
#define TX_DESCRIPTORS 1024
#define MBUFS_PER_QUEUE 4096
#define MBUF_CACHE 256

/* ---- Ports ------------------------------------------------------------------ */

/* Makes the headers in front of packets to a peer. */
static void prepare_outer(const struct gw_peer *peer, const struct port *p, uint8_t outer[OUTER_LEN])
{
	struct rte_ether_hdr *eth = (struct rte_ether_hdr *)outer;
	struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(eth + 1);
	struct rte_udp_hdr *udp = (struct rte_udp_hdr *)(ip + 1);
	eth->dst_addr = p->next_hop;
	eth->src_addr = p->mac;
	eth->ether_type = rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4);
	ip->version_ihl = RTE_IPV4_VHL_DEF;
	ip->fragment_offset = rte_cpu_to_be_16(RTE_IPV4_HDR_DF_FLAG);
	ip->time_to_live = 64;
	ip->next_proto_id = IPPROTO_UDP;
	ip->src_addr = p->address;
	memcpy(&ip->dst_addr, peer->address + 12, sizeof ip->dst_addr);
	udp->src_port = udp->dst_port = rte_cpu_to_be_16(p->end.udp_port);
}

static void start_port(struct gw *g, struct port *p, uint16_t queues)
{
	struct rte_eth_dev_info info;
	struct rte_eth_conf conf = { 0 };
	int error;
#define TRY(what)                                                                                                     \
	do {                                                                                                          \
		if ((error = (what)) != 0)                                                                            \
			gw_fail(g, p->end.line, "device %s: %s: %s", p->device, #what, rte_strerror(-error));         \
	} while (0)
	if (rte_eth_dev_get_port_by_name(p->device, &p->port_id) != 0)
		gw_fail(g, p->end.line, "there is no device %s; was it given to EAL (-a, --vdev)?", p->device);
	TRY(rte_eth_dev_info_get(p->port_id, &info));
	if (queues > info.max_rx_queues || queues > info.max_tx_queues)
		gw_fail(g, p->end.line, "device %s does not have the %u queues that so many lcores need", p->device,
			queues);
	if (queues > 1 && info.flow_type_rss_offloads != 0) {
		conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
		conf.rx_adv_conf.rss_conf.rss_hf =
			info.flow_type_rss_offloads & (RTE_ETH_RSS_IP | RTE_ETH_RSS_UDP | RTE_ETH_RSS_TCP);
	}
	/* Frames longer than an mbuf are chains. */
	conf.rxmode.offloads = info.rx_offload_capa & RTE_ETH_RX_OFFLOAD_SCATTER;
	conf.txmode.offloads = info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
	p->multi_segs = conf.txmode.offloads != 0;
	p->pool = rte_pktmbuf_pool_create(p->end.name, queues * MBUFS_PER_QUEUE - 1u, MBUF_CACHE, 0,
					  (uint16_t)(RTE_PKTMBUF_HEADROOM + p->mbuf_data), SOCKET_ID_ANY);
	if (p->pool == NULL)
		gw_fail(g, p->end.line, "no memory for mbufs: %s", rte_strerror(rte_errno));
	uint16_t rx = RX_DESCRIPTORS, tx = TX_DESCRIPTORS;
	TRY(rte_eth_dev_configure(p->port_id, queues, queues, &conf));
	TRY(rte_eth_dev_adjust_nb_rx_tx_desc(p->port_id, &rx, &tx));
	for (uint16_t q = 0; q < queues; q++) {
		TRY(rte_eth_rx_queue_setup(p->port_id, q, rx, SOCKET_ID_ANY, NULL, p->pool));
		TRY(rte_eth_tx_queue_setup(p->port_id, q, tx, SOCKET_ID_ANY, NULL));
	}
	if (p->mtu != 0)
		TRY(rte_eth_dev_set_mtu(p->port_id, p->mtu));
	TRY(rte_eth_dev_start(p->port_id));
	TRY(rte_eth_dev_get_mtu(p->port_id, &p->mtu));
	if (p->has_mac)
		rte_eth_promiscuous_enable(p->port_id);
	else
		TRY(rte_eth_macaddr_get(p->port_id, &p->mac));
#undef TRY
	struct config *c = g->program;
	for (size_t i = 0; i < g->peer_count; i++)
		if (g->peers[i].end == &p->end)
			prepare_outer(&g->peers[i], p, c->outer[i]);
}

/* ---- Running ------------------------------------------------------------------ */

static void on_signal(int number)
{
	(void)number;
	atomic_store(&gw_stop, true);
}

static void catch_signals(void)
{
	/* SA_ONSTACK: one of the library's threads may get the signal. */
	struct sigaction a = { .sa_handler = on_signal, .sa_flags = SA_ONSTACK | SA_RESTART };
	sigemptyset(&a.sa_mask);
	sigaction(SIGINT, &a, NULL);
	sigaction(SIGTERM, &a, NULL);
}

/* Not on the lcores' CPUs, if there are others. */
static pthread_t start_control(struct control *control, const cpu_set_t *all)
{
	cpu_set_t cpus = *all;
	pthread_attr_t attributes;
	pthread_t thread;
	unsigned lcore;
	RTE_LCORE_FOREACH(lcore)
		CPU_CLR(rte_lcore_to_cpu_id((int)lcore), &cpus);
	pthread_attr_init(&attributes);
	pthread_attr_setaffinity_np(&attributes, sizeof cpus, CPU_COUNT(&cpus) != 0 ? &cpus : all);
	if (pthread_create(&thread, &attributes, control_run, control) != 0)
		die("cannot make the control thread");
	pthread_attr_destroy(&attributes);
	return thread;
}

static void run(struct gw *g, const cpu_set_t *cpus)
{
	struct config *c = g->program;
	struct worker *workers[GW_MAX_WORKERS];
	struct control control = { .gw = g, .workers = workers };
	unsigned lcore, count = rte_lcore_count();
	if (count > GW_MAX_WORKERS)
		die("more than %d lcores", GW_MAX_WORKERS);
	control.listener = gw_control_open(g);
	control.metrics = gw_metrics_open(g);
	for (size_t i = 0; i < c->port_count; i++)
		start_port(g, &c->ports[i], (uint16_t)count);
	gw_open(g, count);
	RTE_LCORE_FOREACH(lcore) {
		struct worker *w = rte_zmalloc("worker", sizeof *w, RTE_CACHE_LINE_SIZE);
		if (w == NULL)
			die("no memory for a worker");
		worker_init(w, g, lcore, (uint16_t)control.worker_count);
		workers[control.worker_count++] = w;
	}
	catch_signals();
	pthread_t control_thread = start_control(&control, cpus);
	printf("eesp_gw: running: %u lcore(s), %zu ports, %s\n", count, c->port_count, eesp_backend_name());
	fflush(stdout);
	for (size_t i = 0; i < control.worker_count; i++)
		if (workers[i]->lcore != rte_get_main_lcore())
			rte_eal_remote_launch(worker_run, workers[i], workers[i]->lcore);
	for (size_t i = 0; i < control.worker_count; i++)
		if (workers[i]->lcore == rte_get_main_lcore())
			worker_run(workers[i]);
	rte_eal_mp_wait_lcore();
	pthread_join(control_thread, NULL);
	for (size_t i = 0; i < control.worker_count; i++) {
		worker_free(workers[i]);
		rte_free(workers[i]);
	}
	gw_close(g);
	for (size_t i = 0; i < c->port_count; i++) {
		rte_eth_dev_stop(c->ports[i].port_id);
		rte_eth_dev_close(c->ports[i].port_id);
	}
	puts("eesp_gw: stopped");
}

int main(int argc, char **argv)
{
	static struct gw g;
	static struct config config = { .keep_warm = true };
	int split = 1;
	gw_program = "eesp_gw";
	g.statements = statements;
	g.check = config_check;
	g.program = &config;
	int done = gw_tools(&g, argc, argv);
	if (done >= 0)
		return done;
	while (split < argc && strcmp(argv[split], "--") != 0)
		split++;
	if (split + 2 != argc) {
		FILE *to = argc == 2 && strcmp(argv[1], "--help") == 0 ? stdout : stderr;
		fputs("usage: eesp_gw [EAL OPTION]... -- CONFIG  run the gateway\n", to);
		gw_print_tools(to);
		return to == stdout ? 0 : 2;
	}
	/* Before EAL pins this thread: the library's threads get its CPU mask. */
	cpu_set_t cpus;
	pthread_getaffinity_np(pthread_self(), sizeof cpus, &cpus);
	gw_read(&g, argv[split + 1]);
	if (rte_eal_init(split + 1, argv) < 0)
		die("EAL: %s", rte_strerror(rte_errno));
	run(&g, &cpus);
	return rte_eal_cleanup() != 0;
}
