/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Known answers of the fast path. Before it is used, each profile seals and opens packets with it, on a thread
 * that has never called Go. This shows that the fast path needs nothing that Go sets up for threads that call it.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "known.h"

enum { HEADROOM = 128, FORGED = 5 };

struct known *known_new(void) { return calloc(1, sizeof(struct known)); }

static uint8_t octet(size_t packet, size_t i) { return (uint8_t)(7 * packet + i); }
static uint32_t length(size_t packet) { return (uint32_t)(40 + packet); }

static void *answer(void *known)
{
	struct known *k = known;
	uint64_t cgo_packets = 0;
	uint32_t flood = 0, guess = 0;
	struct times_reading reading = { 0, 0 };
	const struct eesp_seal_plan *w = k->seal_plan;
	const struct eesp_fast_path seal = {
		&k->view, k->worker, 0, &k->seal_plan, &cgo_packets, &reading, &flood, &guess, NULL,
	};
	struct eesp_fast_path open = seal;
	eesp_pkt p[KNOWN_PACKETS];
	open.plan = &k->open_plan;
	memset(p, 0, sizeof p);
	for (size_t i = 0; i < KNOWN_PACKETS; i++) {
		p[i].data = k->room[i] + HEADROOM;
		p[i].len = length(i);
		p[i].headroom = HEADROOM;
		p[i].tailroom = KNOWN_ROOM - HEADROOM - length(i);
		p[i].next_header = 17;
		memset(&p[i].addr, (int)i, sizeof p[i].addr);
		memset(k->room[i] + HEADROOM - w->n - w->prefix, (int)i, w->prefix);
		for (size_t x = 0; x < length(i); x++)
			k->room[i][HEADROOM + x] = octet(i, x);
	}
	k->failed = KNOWN_SEAL;
	if (direct_seal(&seal, p, KNOWN_PACKETS - 1) + direct_seal(&seal, p + KNOWN_PACKETS - 1, 1) != KNOWN_PACKETS)
		return NULL;
	for (size_t i = 0; i < KNOWN_PACKETS; i++) {
		uint8_t *out = p[i].out;
		memcpy(k->sealed + k->octets, out, p[i].out_len);
		k->octets += p[i].out_len;
		p[i].data = out;
		p[i].len = p[i].out_len;
		p[i].headroom = w->prefix;
		p[i].tailroom = 0;
	}
	((uint8_t *)p[FORGED].data)[p[FORGED].len - 1] ^= 1;
	size_t good = direct_open(&open, p, KNOWN_PACKETS - 1) + direct_open(&open, p + KNOWN_PACKETS - 1, 1);
	k->failed = KNOWN_FORGED;
	if (p[FORGED].status != EESP_ERR_AUTH)
		return NULL;
	k->failed = KNOWN_OPEN;
	for (size_t i = 0; i < KNOWN_PACKETS; i++) {
		if (i == FORGED)
			continue;
		if (p[i].status != EESP_OK || p[i].out_len != length(i))
			return NULL;
		for (size_t x = 0; x < length(i); x++)
			if (((uint8_t *)p[i].out)[x] != octet(i, x))
				return NULL;
	}
	if (good != KNOWN_PACKETS - 1)
		return NULL;
	k->failed = cgo_packets != 0 ? KNOWN_CGO : KNOWN_GOOD;
	return NULL;
}

void known_run(struct known *k)
{
	pthread_t t;
	sigset_t every, mask;
	k->octets = 0;
	k->failed = KNOWN_NO_PLAN;
	if (k->seal_plan == NULL || k->open_plan == NULL)
		return;
	sigfillset(&every);
	pthread_sigmask(SIG_SETMASK, &every, &mask);
	if (pthread_create(&t, NULL, answer, k) == 0)
		pthread_join(t, NULL);
	else /* the process may have no more threads */
		answer(k);
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
}
