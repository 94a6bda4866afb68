/* SPDX-License-Identifier: BSD-3-Clause */
/* libeesp through its C ABI, once for each backend that this machine has. */
#define _GNU_SOURCE
#include "packets.h"
#include <eesp.h>
#include <stdlib.h>
#include <string.h>

struct state {
	struct set *s;
	eesp_kdf *kdf;
	eesp_keyset *keyset;
	eesp_job *jobs;
	struct packets *packets;
};

static void pass(void *state)
{
	struct state *st = state;
	struct set *s = st->s;
	size_t burst = s->c.burst, good = 0;
	if (st->packets)
		good = packets_pass(st->packets);
	for (size_t b = 0; b < s->n && !st->packets; b += burst) {
		const uint8_t *contexts = s->context + 16 * b;
		switch (s->c.work) {
		case DERIVE:
			if (eesp_kdf_derive(st->kdf, s->c.aead, contexts, burst, s->keys_out + b * s->key_len,
					    burst * s->key_len) == EESP_OK)
				good += burst;
			break;
		case REKEY_SEAL:
			good += eesp_kdf_seal(st->kdf, s->c.aead, contexts, st->jobs + b, burst);
			break;
		case REKEY_OPEN:
			good += eesp_kdf_open(st->kdf, s->c.aead, contexts, st->jobs + b, burst);
			break;
		case CACHED_SEAL:
			good += eesp_keyset_seal(st->keyset, st->jobs + b, burst);
			break;
		default:
			break;
		}
	}
	if (good != s->n)
		die("libeesp: %s: only %zu of %zu packets are good: %s", work_name(s->c.work), good, s->n,
		    eesp_last_error());
}

static void jobs_new(struct state *st)
{
	struct set *s = st->s;
	if (s->c.work == CACHED_SEAL)
		must(eesp_keyset_new(s->c.aead, s->keys, s->nkeys, &st->keyset), "eesp_keyset_new");
	else
		must(eesp_kdf_new(s->kdf_key, &st->kdf), "eesp_kdf_new");
	st->jobs = must_alloc(64, s->n * sizeof *st->jobs);
	for (size_t i = 0; i < s->n; i++) {
		eesp_job *j = &st->jobs[i];
		bool opening = s->c.work == REKEY_OPEN;
		j->aad = aad(s, i);
		j->aad_len = AAD_LEN;
		j->src = slot(s, opening ? s->sealed : s->plain, i);
		j->dst = slot(s, s->out, i);
		j->tag = slot(s, opening ? s->sealed : s->out, i) + s->len[i];
		j->len = s->len[i];
		j->key = s->c.work == CACHED_SEAL ? s->key[i] : 0;
		memcpy(j->nonce, s->nonce + 12 * i, 12);
	}
}

static void *eesp_open_state(const struct peer *p, struct set *s)
{
	struct state *st = must_alloc(64, sizeof *st);
	st->s = s;
	must(eesp_backend_select(p->backend), p->backend);
	if (s->c.work >= PACKET_SEAL)
		st->packets = packets_new(s, p->backend);
	else
		jobs_new(st);
	return st;
}

static void eesp_close_state(void *state)
{
	struct state *st = state;
	if (st->packets)
		packets_free(st->packets);
	if (st->kdf)
		eesp_kdf_free(st->kdf);
	if (st->keyset)
		eesp_keyset_free(st->keyset);
	free(st->jobs);
	free(st);
}

static void eesp_renew(void *state)
{
	packets_renew(((struct state *)state)->packets);
}

size_t eesp_packets_check(void *state, struct set *s)
{
	(void)s;
	return packets_check(((struct state *)state)->packets);
}

size_t eesp_peers(struct peer *out, size_t room, const char *only)
{
	size_t n = 0;
	const char *name;
	for (size_t i = 0; (name = eesp_backend_at(i)) && n < room; i++) {
		if (!eesp_backend_supported(name) || (only && strcmp(only, name)))
			continue;
		out[n++] = (struct peer){
			.name = "libeesp",
			.backend = name,
			.how = {
				[DERIVE] = "eesp_kdf_derive",
				[REKEY_SEAL] = "eesp_kdf_seal",
				[REKEY_OPEN] = "eesp_kdf_open",
				[CACHED_SEAL] = "eesp_keyset_seal",
				[PACKET_SEAL] = "eesp_seal_burst, to another buffer; stateless: V = 1 (one more KDF "
						"block than rekey-seal), equal contexts V = 0; careful: with options",
				[PACKET_OPEN] = "eesp_open_burst, to another buffer; stateless: V = 0, a sender for "
						"each context (by flows: V = 1, an address each); careful: options, "
						"windows, own IDs, two groups; time: times in place of windows; "
						"no-replay: neither",
				[PROXY] = "eesp_proxy_burst, to another buffer; in V = 0, out V = 1, equal contexts "
					  "V = 0; careful: as packet-open and packet-seal",
			},
			.open = eesp_open_state,
			.pass = pass,
			.renew = eesp_renew,
			.close = eesp_close_state,
		};
	}
	return n;
}
