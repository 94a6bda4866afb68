/* SPDX-License-Identifier: BSD-3-Clause */
/* Shared by the files of eesp_gw, which eesp_gw.c describes. */
#ifndef EESP_GW_H
#define EESP_GW_H

#include <eesp.h>
#include <eesp_mbuf.h>
#include <gw.h>
#include <rte_ethdev.h>
#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_mbuf.h>
#include <rte_udp.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define MAX_PORTS GW_MAX_ENDS
#define BURST EESP_MBUF_BURST

/* Headers in front of a Security Header. */
#define OUTER_LEN (RTE_ETHER_HDR_LEN + sizeof(struct rte_ipv4_hdr) + sizeof(struct rte_udp_hdr))
#define MIN_MBUF_DATA 256 /* the first mbuf has all headers */

/* ---- Configuration (config.c) ------------------------------------------- */

/*
 * An Ethernet port. A port that faces the network has peers, and exchanges outer packets
 * with their addresses. A port that faces hosts has none.
 */
struct port {
	struct gw_end end; /* name, line, address; facing hosts: not joined to the configuration */
	char device[RTE_ETH_NAME_MAX_LEN];
	struct rte_ether_addr next_hop, mac;
	bool has_mac, network;
	rte_be32_t address;
	uint32_t mbuf_data;
	uint16_t mtu; /* 0: the device's */
	struct port *other; /* the port to which its packets go */
	bool proxy;         /* both face the network: */
	struct gw_peer *peer; /* and each has one peer */
	/* From DPDK. */
	uint16_t port_id;
	bool multi_segs;
	struct rte_mempool *pool;
};

/* The part of a configuration that only this program has. */
struct config {
	struct port ports[MAX_PORTS];
	size_t port_count;
	uint8_t outer[GW_MAX_PEERS][OUTER_LEN]; /* headers but for lengths and checksum, by peer */
	unsigned idle_sleep; /* us */
	bool keep_warm;
};

extern const struct gw_statement statements[];
/* Checks the configuration as a whole. Ends the program if it is wrong. */
void config_check(struct gw *g);

/* ---- Workers (worker.c) -------------------------------------------------- */

/* Why the gateway itself dropped packets; the library counts its own. */
enum drop {
	DROP_NOT_OURS,  /* not to this port, or neither IP nor ARP */
	DROP_MALFORMED, /* lengths that contradict each other */
	DROP_INNER,     /* opened, but not an IP packet */
	DROP_TOO_LONG,  /* for the MTU of the port to send on */
	DROP_SEGMENTS,  /* more than EESP_MBUF_SEGS */
	DROP_NO_MBUF,
	DROP_TX_FULL,
	DROP_NO_PEER,   /* no peer has a route to there, or the outer address */
	DROP_FOREIGN,   /* the inner source belongs to another peer */
	DROP_OFFLOAD,   /* left to a device: checksums or segments that cannot be made here */
	DROP_COUNT
};
extern const char *const drop_names[DROP_COUNT];

/* Written by one worker, read by the control thread (gw_count). */
typedef _Atomic uint64_t counter;

/* One direction in one worker: packets that come in at a port. */
struct lane {
	const struct port *from, *to;
	eesp_proxy *proxy;       /* if both face the network, unless out of order (proxied_by) */
	eesp_sender *proxied_by; /* the proxy's sender; if the peer gets another one, the proxy is made anew */
	counter rx, tx, bursts, chained;
	counter cycles;  /* rx to tx of bursts that had packets */
	counter library; /* of these, in the library */
	counter wakes, wake_cycles; /* bursts of one packet after idle time: these, and cycles in the library */
	counter drops[DROP_COUNT], refused[EESP_STATUS_COUNT];
};

struct worker {
	unsigned lcore;
	uint16_t queue; /* of every port */
	struct gw *gw;
	const struct config *config;
	struct gw_counts counts[GW_MAX_PEERS];
	size_t lane_count;
	struct lane lanes[MAX_PORTS];
	uint64_t last_call, last_burst; /* of the library, TSC */
	uint64_t cold; /* cycles without a burst that count as idle time */
	/* The burst at hand. */
	struct rte_mbuf *mbufs[BURST];
	eesp_mbuf_burst burst;
};

void worker_init(struct worker *w, struct gw *g, unsigned lcore, uint16_t queue);
void worker_free(struct worker *w);
/* The loop of an lcore; ends when stop is set. arg: the lcore's worker. */
int worker_run(void *arg);

/* ---- Control (control.c) ------------------------------------------------- */

struct control {
	struct gw *gw;
	struct worker *const *workers;
	size_t worker_count;
	int listener, metrics; /* -1: none */
};

/* Serves the control socket and prints statistics until gw_stop is set. arg: a struct control. */
void *control_run(void *arg);

#endif
