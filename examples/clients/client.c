/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A client outside a cluster. It gets data keys from a granter, sends packets to a program
 * on the granter's host (answerer.c), and checks the answers. It renews its lease in time,
 * and changes to a new pair when its keys are no longer the newest.
 */
#include "grant.h"
#include "udp.h"

#include <stdlib.h>
#include <time.h>

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_BOOTTIME, &t); /* a lease runs on while the machine sleeps */
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

struct pair {
	uint64_t id; /* of packets up */
	eesp_sender *up;
	eesp_receiver *down;
	double renew, end;
};

static int use(struct pair *p, const struct grant *g, double asked)
{
	eesp_sender_config sc = EESP_SENDER_CONFIG_INIT;
	/* The ID was never used before, so counters begin at 0: of a pair there is one sender. */
	sc.counter_mode = EESP_COUNTER_EXPLICIT;
	if (p->up == NULL || g->up.id != p->id) {
		eesp_sender_free(p->up);
		eesp_receiver_free(p->down);
		p->up = NULL;
		p->down = NULL;
		if (eesp_sender_new_with_key(&g->up, &sc, &p->up) != EESP_OK ||
		    eesp_receiver_new_with_key(&g->down, NULL, &p->down) != EESP_OK) {
			fprintf(stderr, "client: %s\n", eesp_last_error());
			return -1;
		}
		printf("a pair of keys: up %#llx, down %#llx, for %u s\n", (unsigned long long)g->up.id,
		       (unsigned long long)g->down.id, g->lease);
	}
	p->id = g->up.id;
	p->renew = asked + g->renew_after;
	p->end = asked + g->lease;
	return 0;
}

static int get(struct pair *p, const struct grant_from *from, const char *group)
{
	struct grant g;
	char error[256];
	double asked = now(); /* the lease counts from here */
	if (grant_get(from, group, p->up != NULL ? p->id : 0, &g, error) != 0) {
		fprintf(stderr, "client: %s\n", error);
		return -1;
	}
	int r = use(p, &g, asked);
	eesp_data_key_wipe(&g.up); /* sender and receiver have them */
	eesp_data_key_wipe(&g.down);
	return r;
}

int main(int argc, char **argv)
{
	if (argc != 7) {
		fprintf(stderr, "usage: client DIR GRANTER HOST:PORT GROUP ANSWERER:PORT PACKETS\n");
		return 2;
	}
	struct grant_from from = { argv[1], argv[3], argv[2] };
	struct pair pair = { 0 };
	char *end;
	long packets = strtol(argv[6], &end, 10);
	if (packets < 1 || packets > 1000000 || *end != '\0') {
		fprintf(stderr, "client: PACKETS is '%s', not a number from 1 to 1000000\n", argv[6]);
		return 2;
	}
	int fd = udp_socket(argv[5], 0), answered = 0;
	if (fd < 0) {
		fprintf(stderr, "client: %s: no such address\n", argv[5]);
		return 1;
	}
	for (int i = 0; i < packets; i++) {
		uint8_t buf[512];
		char text[64];
		if ((pair.up == NULL || now() >= pair.renew) && get(&pair, &from, argv[4]) != 0 && now() >= pair.end)
			return 1;
		eesp_pkt p = { 0 };
		int n = snprintf(text, sizeof text, "packet %d", i);
		memcpy(buf + EESP_MAX_HEADER, text, (size_t)n);
		p.data = buf + EESP_MAX_HEADER;
		p.len = (uint32_t)n;
		p.headroom = EESP_MAX_HEADER;
		p.tailroom = (uint32_t)(sizeof buf - EESP_MAX_HEADER - (size_t)n);
		if (eesp_seal_burst(pair.up, &p, 1) != 1) {
			fprintf(stderr, "client: packet %d: %s\n", i, eesp_strerror(p.status));
			return 1;
		}
		if (send(fd, p.out, p.out_len, 0) < 0)
			continue;
		ssize_t got = recv(fd, buf, sizeof buf, 0);
		if (got <= 0)
			continue; /* lost */
		memset(&p, 0, sizeof p);
		p.data = buf;
		p.len = (uint32_t)got;
		if (eesp_open_burst(pair.down, &p, 1) == 1 && p.out_len == (uint32_t)n &&
		    memcmp(p.out, text, (size_t)n) == 0)
			answered++;
		usleep(20000);
	}
	printf("%ld packets, %d answered\n", packets, answered);
	eesp_sender_free(pair.up);
	eesp_receiver_free(pair.down);
	close(fd);
	return answered == packets ? 0 : 1;
}
