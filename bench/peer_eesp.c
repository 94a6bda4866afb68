/* SPDX-License-Identifier: BSD-3-Clause */
/* libeesp through its C ABI, once for each backend that this machine has. */
#define _GNU_SOURCE
#include "bench.h"
#include <eesp.h>
#include <stdlib.h>
#include <string.h>

#define HEADER 16 /* Security Header with a DeviceID and without options */

struct state {
	struct set *s;
	eesp_kdf *kdf;
	eesp_keyset *keyset;
	eesp_job *jobs;
	eesp_group *in_group, *out_group;
	eesp_sender *sender;
	eesp_receiver *receiver;
	eesp_proxy *proxy;
	eesp_pkt *pkts;
	eesp_addr *addrs;
	uint8_t *arrived; /* slots with the packets to open */
};

static void must(int status, const char *what)
{
	if (status != EESP_OK)
		die("%s: %s (%s)", what, eesp_strerror(status), eesp_last_error());
}

static void pass(void *state)
{
	struct state *st = state;
	struct set *s = st->s;
	size_t burst = s->c.burst, good = 0;
	for (size_t b = 0; b < s->n; b += burst) {
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
		case PACKET_SEAL:
			good += eesp_seal_burst(st->sender, st->pkts + b, burst);
			break;
		case PACKET_OPEN:
			good += eesp_open_burst(st->receiver, st->pkts + b, burst);
			break;
		case PROXY:
			good += eesp_proxy_burst(st->proxy, st->pkts + b, burst);
			break;
		case WORKS:
			break;
		}
	}
	if (good != s->n)
		die("libeesp: %s: only %zu of %zu packets are good: %s", work_name(s->c.work), good, s->n, eesp_last_error());
}

static eesp_group *group_new(const struct set *s, uint8_t seed)
{
	eesp_group_config config = EESP_GROUP_CONFIG_INIT;
	uint8_t id[EESP_MIN_ROOT_KEY_ID] = { seed }, values[3][EESP_ROOT_KEY_LEN];
	const uint64_t index[3] = { 1, 2, 3 };
	eesp_group *g;
	config.aead = s->c.aead;
	memset(values, seed, sizeof values);
	values[1][0]++;
	values[2][0] += 2;
	must(eesp_group_new(&config, &g), "eesp_group_new");
	must(eesp_group_set_root_key(g, EESP_LEVEL_ZONE, id, sizeof id, index, (const uint8_t(*)[32])values),
	     "eesp_group_set_root_key");
	return g;
}

/* With equal contexts, V says ID; else the source address tells them apart. */
static eesp_sender *sender_new(eesp_group *g, uint64_t id, uint8_t v)
{
	eesp_sender_config config = EESP_SENDER_CONFIG_INIT;
	eesp_sender *sender;
	config.id = id;
	config.v = v;
	must(eesp_sender_new(g, &config, &sender), "eesp_sender_new");
	return sender;
}

static uint8_t v_of(const struct set *s)
{
	return s->c.contexts == EQUAL ? EESP_V_ID : EESP_V_ID_SRC;
}

/* The packets to open come from as many senders as there are contexts. */
static void make_arrived(struct state *st)
{
	struct set *s = st->s;
	st->arrived = must_alloc(HUGE_PAGE, s->n * s->stride);
	for (size_t k = 0; k < s->nkeys; k++) {
		eesp_sender *sender = sender_new(st->in_group, 1000 + k, EESP_V_ID);
		for (size_t i = 0; i < s->n; i++) {
			if (s->key[i] != k)
				continue;
			eesp_pkt p = { 0 };
			p.data = slot(s, s->plain, i);
			p.len = s->len[i];
			p.dst = slot(s, st->arrived, i) - HEADER;
			p.dst_size = HEADER + s->len[i] + TAG_LEN;
			if (eesp_seal_burst(sender, &p, 1) != 1)
				die("libeesp: a packet could not be sealed: %s", eesp_strerror(p.status));
		}
		eesp_sender_free(sender);
	}
}

static void packets_new(struct state *st)
{
	struct set *s = st->s;
	bool arriving = s->c.work != PACKET_SEAL, sealing = s->c.work != PACKET_OPEN;
	if (arriving) {
		eesp_receiver_config config = EESP_RECEIVER_CONFIG_INIT;
		st->in_group = group_new(s, 1);
		make_arrived(st);
		must(eesp_receiver_new(&st->in_group, 1, &config, &st->receiver), "eesp_receiver_new");
	}
	if (sealing) {
		st->out_group = group_new(s, 101);
		st->sender = sender_new(st->out_group, 7, v_of(s));
	}
	if (arriving && sealing)
		must(eesp_proxy_new(st->receiver, st->sender, &st->proxy), "eesp_proxy_new");
	st->pkts = must_alloc(64, s->n * sizeof *st->pkts);
	st->addrs = must_alloc(64, s->n * sizeof *st->addrs);
	for (size_t i = 0; i < s->n; i++) {
		eesp_pkt *p = &st->pkts[i];
		const uint8_t ipv4[4] = { 10, 0, (uint8_t)(s->key[i] >> 8), (uint8_t)s->key[i] };
		eesp_addr_from_ipv4(st->addrs[i].src, ipv4);
		eesp_addr_from_ipv4(st->addrs[i].dst, (const uint8_t[4]){ 10, 1, 0, 1 });
		p->addr = st->addrs[i];
		p->data = arriving ? slot(s, st->arrived, i) - HEADER : slot(s, s->plain, i);
		p->len = s->len[i] + (arriving ? HEADER + TAG_LEN : 0);
		p->dst = slot(s, s->out, i) - (sealing ? HEADER : 0);
		p->dst_size = s->len[i] + (sealing ? HEADER + TAG_LEN : 0);
	}
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
		packets_new(st);
	else
		jobs_new(st);
	return st;
}

static void eesp_close_state(void *state)
{
	struct state *st = state;
	eesp_proxy_free(st->proxy);
	eesp_sender_free(st->sender);
	eesp_receiver_free(st->receiver);
	eesp_group_free(st->in_group);
	eesp_group_free(st->out_group);
	if (st->kdf)
		eesp_kdf_free(st->kdf);
	if (st->keyset)
		eesp_keyset_free(st->keyset);
	free(st->jobs);
	free(st->pkts);
	free(st->addrs);
	free(st->arrived);
	free(st);
}

/*
 * A sealed packet holds another counter each time, so it cannot be compared
 * with stored octets: it is opened with OpenSSL, with the key that
 * eesp_derive_keys tells, and its plaintext is compared.
 */
size_t eesp_packets_check(void *state, struct set *s)
{
	struct state *st = state;
	size_t bad = 0;
	uint8_t *plain = must_alloc(64, s->stride), *key = must_alloc(64, 32);
	for (size_t i = 0; i < s->n; i++) {
		const uint8_t *packet = slot(s, s->out, i) - HEADER;
		uint8_t nonce[12] = { 0, 0, 0, 7 };
		eesp_context c = { .id = 7, .v = v_of(s), .addr = st->addrs[i] };
		memcpy(nonce + 4, packet + 8, 8); /* Epoch, Counter */
		c.epoch = (uint16_t)(packet[8] << 8 | packet[9]);
		must(eesp_derive_keys(st->out_group, &c, 1, key, s->key_len), "eesp_derive_keys");
		if (!reference_open(key, s->key_len, nonce, packet, HEADER, packet + HEADER, s->len[i], plain,
				    packet + HEADER + s->len[i]) ||
		    memcmp(plain, slot(s, s->plain, i), s->len[i]))
			bad++;
	}
	free(plain);
	free(key);
	memset(s->out, 0, s->n * s->stride);
	return bad;
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
				[PACKET_SEAL] = "eesp_seal_burst, to another buffer; V = 1 (one more KDF block than rekey-seal), "
						"equal contexts V = 0; no options",
				[PACKET_OPEN] = "eesp_open_burst, to another buffer; V = 0, a sender for each context; no options",
				[PROXY] = "eesp_proxy_burst, to another buffer; in V = 0, out V = 1, equal contexts V = 0; no options",
			},
			.open = eesp_open_state,
			.pass = pass,
			.close = eesp_close_state,
		};
	}
	return n;
}
