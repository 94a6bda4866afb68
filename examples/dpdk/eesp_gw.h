/* SPDX-License-Identifier: BSD-3-Clause */
/* What the files of eesp_gw share. eesp_gw.c says what it is and how to run it. */
#ifndef EESP_GW_H
#define EESP_GW_H

#include <eesp.h>
#include <eesp_mbuf.h>
#include <rte_ethdev.h>
#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_mbuf.h>
#include <rte_udp.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define MAX_PORTS 8
#define MAX_GROUPS 8
#define MAX_WORKERS 64
#define MAX_NAME 32
#define MAX_PATH 1024
#define BURST EESP_MBUF_BURST
#define REPLAY_WINDOW 4096 /* if the configuration does not say */

/* In front of a Security Header. */
#define OUTER_LEN (RTE_ETHER_HDR_LEN + sizeof(struct rte_ipv4_hdr) + sizeof(struct rte_udp_hdr))
#define MIN_MBUF_DATA 256 /* the first mbuf has all headers */

__attribute__((format(printf, 1, 2), noreturn)) void die(const char *format, ...);

/* ---- Configuration (config.c) ------------------------------------------- */

struct group {
	char name[MAX_NAME];
	eesp_group *handle;
	unsigned line;
};

/*
 * An Ethernet port. One with a peer faces the network: outer packets between
 * address and peer, sealed under id. One without faces hosts, in clear.
 */
struct port {
	char name[MAX_NAME], device[RTE_ETH_NAME_MAX_LEN];
	unsigned line;
	struct rte_ether_addr next_hop, mac;
	bool has_mac, has_id;
	rte_be32_t address, peer; /* 0: none */
	struct group *group;
	uint64_t id;
	uint8_t v;
	uint32_t replay_window; /* packets; 0: none */
	eesp_receiver *receiver; /* of all workers */
	uint32_t mbuf_data;
	uint16_t mtu; /* 0: the device's */
	struct port *other; /* where its packets go */
	/* From DPDK. */
	uint16_t port_id;
	bool multi_segs;
	struct rte_mempool *pool;
	uint8_t outer[OUTER_LEN]; /* headers but for lengths and checksum */
	eesp_addr addr;           /* address to peer */
};

struct config {
	const char *path;
	struct group groups[MAX_GROUPS];
	struct port ports[MAX_PORTS];
	size_t group_count, port_count;
	char control[108]; /* path of the control socket; "" = none */
	char lock_dir[MAX_PATH]; /* where IDs are locked against other processes; "" = nowhere */
	unsigned stats;    /* seconds between statistics on standard output; 0 = never */
	unsigned idle_sleep; /* us */
	bool keep_warm;
};

/* Reads a configuration, and makes its groups. Ends the program where it is wrong. */
void config_read(struct config *c, const char *path);
__attribute__((format(printf, 3, 4), noreturn)) void config_fail(const struct config *c, unsigned line,
								 const char *format, ...);
struct group *config_group(struct config *c, const char *name);
/* Number of a level, -1 if there is none of that name. */
int level_number(const char *name);
const char *level_name(int level);
/* Reads a small file; returns its length, -1 with errno set. What is in it is secret. */
int read_secret(const char *path, uint8_t *to, size_t size);
/* Makes a file that only its owner may read; one that is there is replaced whole, or is an error. -1 with errno set. */
int write_secret(const char *path, const uint8_t *from, size_t len, bool replace);
#define MAX_ROOT_KEY_DER 256

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
	DROP_OFFLOAD,   /* checksums or segments left to a device, that cannot be made here */
	DROP_COUNT
};
extern const char *const drop_names[DROP_COUNT];

/* Written by one worker, read by the control thread. */
typedef _Atomic uint64_t counter;

/* One direction as one worker has it: packets that come in at a port. */
struct lane {
	const struct port *from, *to;
	eesp_receiver *receiver; /* if from faces the network: the port's */
	eesp_sender *sender;     /* if to does */
	eesp_proxy *proxy;       /* if both do */
	counter rx, tx, bursts, chained;
	counter cycles;  /* rx to tx of bursts that had packets */
	counter library; /* of these, in the library */
	counter wakes, wake_cycles; /* bursts of one packet after idle time: these, and cycles in the library */
	counter drops[DROP_COUNT];
};

struct worker {
	unsigned lcore;
	uint16_t queue; /* of every port */
	const struct config *config;
	size_t lane_count;
	struct lane lanes[MAX_PORTS];
	uint64_t last_call, last_burst; /* of the library, TSC */
	uint64_t cold; /* cycles without a burst that count as idle time */
	/* The burst at hand. */
	struct rte_mbuf *mbufs[BURST];
	eesp_mbuf_burst burst;
};

extern atomic_bool stop;

/* Makes the ports' receivers, which workers share. */
void receivers_init(struct config *c);
void receivers_free(struct config *c);
/* Makes a worker's senders and proxies. */
void worker_init(struct worker *w, const struct config *c, unsigned lcore, uint16_t queue);
void worker_free(struct worker *w);
/* The loop of an lcore; ends when stop is set. arg: the lcore's worker. */
int worker_run(void *arg);

/* ---- Control (control.c) ------------------------------------------------- */

struct control {
	struct config *config;
	struct worker *const *workers;
	size_t worker_count;
	int listener; /* -1: none */
};

/* Makes the control socket, if one is configured. */
void control_init(struct control *k);
/* Serves it and prints statistics until stop is set. arg: a struct control. */
void *control_run(void *arg);
/* The client: sends a command, prints the answer. Returns the exit status. */
int control_client(const char *path, char *const *words, int count);

#endif
