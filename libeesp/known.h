/* SPDX-License-Identifier: BSD-3-Clause */
/* Known answers of the fast path (known.c). Not installed. */
#ifndef EESP_KNOWN_H
#define EESP_KNOWN_H

#include "shim.h"

enum { KNOWN_PACKETS = 33, KNOWN_ROOM = 256 }; /* burst.KnownCount; octets of a packet's memory */

/* What failed. */
enum { KNOWN_GOOD, KNOWN_NO_PLAN, KNOWN_SEAL, KNOWN_OPEN, KNOWN_FORGED, KNOWN_CGO, KNOWN_MEMORY };

struct known {
	struct eesp_worker_view view;
	uint64_t worker;
	void *seal_plan, *open_plan;
	size_t octets; /* at sealed */
	int failed;
	uint8_t sealed[KNOWN_PACKETS * KNOWN_ROOM], room[KNOWN_PACKETS][KNOWN_ROOM];
};

struct known *known_new(void);
void known_run(struct known *k);

#endif
