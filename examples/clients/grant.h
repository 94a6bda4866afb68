/* SPDX-License-Identifier: BSD-3-Clause */
/* A client's end of data keys: asks a granter for a pair, by TLS. */
#ifndef GRANT_H
#define GRANT_H

#include <eesp.h>

struct grant {
	eesp_data_key up, down;  /* to seal with, and to open with */
	unsigned lease;          /* seconds, from before it was asked for */
	unsigned renew_after;
};

/* The client's and its granter's identity: files of eespctl grant client. */
struct grant_from {
	const char *dir;         /* client.key, client.crt, ca.crt */
	const char *addr;        /* HOST:PORT of eespd agent --grants */
	const char *granter;     /* the host's name in the cluster */
};

/*
 * Asks for a pair of data keys of a group. renew: up.id of the pair that the client has,
 * or 0. The answer is the same pair with a new lease, or another one. Returns 0, or -1
 * with why in error. Wipe both keys when the lease has ended.
 */
int grant_get(const struct grant_from *from, const char *group, uint64_t renew, struct grant *out, char error[256]);

#endif
