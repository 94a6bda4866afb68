/* SPDX-License-Identifier: BSD-3-Clause */
/* The packet works: whole packets through senders, receivers and proxies. */
#ifndef PACKETS_H
#define PACKETS_H

#include "bench.h"

struct packets;

/* Whether the library can do that: one of an older revision has no times. */
bool packets_supported(const struct config *c);
/* Objects and packets for s->c, with backend in force. */
struct packets *packets_new(struct set *s, const char *backend);
void packets_free(struct packets *k);
/* Seals new packets to open. */
void packets_renew(struct packets *k);
/* All packets of the set, burst by burst: how many were good. */
size_t packets_pass(struct packets *k);
/* Packets sealed by the last pass that do not open to what was sealed; clears them. */
size_t packets_check(struct packets *k);

void must(int status, const char *what);

#endif
