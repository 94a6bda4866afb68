/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A program of a granter: it follows a group, makes data keys for clients when the
 * agent asks for them, and sends each packet of a client back to it.
 */
#include <eesp.h>

#include "udp.h"

#include <stdlib.h>

enum { CLIENTS = 1024 };

static struct to {
	eesp_follow_client client;
	eesp_sender *sender;
} to[CLIENTS];
static size_t known;

/* Looks at the clients that there are now: makes senders for new ones, and frees those of
 * clients that are gone. */
static int look(eesp_group *group)
{
	static eesp_follow_client now[CLIENTS];
	size_t n = CLIENTS, kept = 0;
	if (eesp_follow_clients(group, now, &n) != EESP_OK)
		return -1;
	for (size_t i = 0; i < known; i++) {
		size_t j = 0;
		while (j < n && now[j].down != to[i].client.down)
			j++;
		if (j < n)
			to[kept++] = to[i];
		else
			eesp_sender_free(to[i].sender);
	}
	known = kept;
	for (size_t j = 0; j < n && known < CLIENTS; j++) {
		to[known].client = now[j];
		if (eesp_sender_new_to_client(group, now[j].down, &to[known].sender) == EESP_OK) {
			printf("client %s: up %#llx, down %#llx\n", now[j].name, (unsigned long long)now[j].up,
			       (unsigned long long)now[j].down);
			fflush(stdout);
			known++;
		}
	}
	return 0;
}

static struct to *by_up(uint64_t up)
{
	for (size_t i = 0; i < known; i++)
		if (to[i].client.up == up)
			return &to[i];
	return NULL;
}

int main(int argc, char **argv)
{
	if (argc != 4) {
		fprintf(stderr, "usage: answerer SOCKET GROUP LISTEN:PORT\n");
		return 2;
	}
	int fd = udp_socket(argv[3], 1);
	if (fd < 0) {
		fprintf(stderr, "answerer: %s: not an address of this host, or in use\n", argv[3]);
		return 1;
	}
	eesp_follow_config c = EESP_FOLLOW_CONFIG_INIT;
	eesp_group *group = NULL;
	eesp_receiver *receiver = NULL;
	c.socket_path = argv[1];
	c.flags = EESP_FOLLOW_CLIENTS;
	c.timeout_ms = 30000;
	if (eesp_group_follow(argv[2], &c, &group) != EESP_OK ||
	    eesp_receiver_new(&group, 1, NULL, &receiver) != EESP_OK) {
		fprintf(stderr, "answerer: %s\n", eesp_last_error());
		return 1;
	}
	printf("ready\n");
	fflush(stdout);
	for (;;) {
		uint8_t buf[EESP_MAX_HEADER + 2048];
		struct sockaddr_storage from;
		socklen_t len = sizeof from;
		ssize_t got = recvfrom(fd, buf + EESP_MAX_HEADER, 1500, 0, (struct sockaddr *)&from, &len);
		if (look(group) != 0)
			return 1;
		if (got <= 0)
			continue;
		eesp_pkt p = { 0 };
		p.data = buf + EESP_MAX_HEADER;
		p.len = (uint32_t)got;
		if (eesp_open_burst(receiver, &p, 1) != 1) {
			fprintf(stderr, "answerer: %s\n", eesp_strerror(p.status));
			continue;
		}
		struct to *t = by_up(p.id);
		if (t == NULL)
			continue; /* a host of the cluster */
		eesp_pkt q = { 0 };
		q.data = p.out;
		q.len = p.out_len;
		uint8_t *at = p.out;
		q.headroom = (uint32_t)(at - buf);
		q.tailroom = (uint32_t)(buf + sizeof buf - (at + q.len));
		if (eesp_seal_burst(t->sender, &q, 1) == 1)
			sendto(fd, q.out, q.out_len, 0, (struct sockaddr *)&from, len);
	}
}
