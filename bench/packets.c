/* SPDX-License-Identifier: BSD-3-Clause */
/* The packet works: whole packets through senders, receivers and proxies. */
#define _GNU_SOURCE
#include "packets.h"
#include <eesp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SEALING_ID 7 /* of the sender that is measured; receivers know it as their own */
#define FIRST_ID 1000 /* of those whose packets are opened */
#define TIMED_ID (1u << 30) /* where counters are times: the others' are up to a second ahead of the clock */
#define SENDERS 32
#define WINDOW 1024
/* packets a second that a table of times has room for: more than are sealed and opened here */
#define MAX_RATE 10000000
#define TSS_REKEY_MASK 0xff00 /* a new key every 256 packets */

/*
 * Those who send the packets that are opened. All backends, and all threads,
 * open packets of the same senders; with several threads, with one receiver
 * that they share.
 */
struct flows {
	struct config c;
	unsigned users;
	eesp_group *group, *other; /* other: the second group of a careful receiver */
	eesp_sender **senders;
	size_t nsenders;
	uint32_t header; /* octets */
	struct flows *next;
};
struct shared {
	const struct flows *flows;
	const char *backend;
	unsigned users;
	eesp_receiver *receiver;
	struct shared *next;
};
static struct flows *all_flows;
static struct shared *all_shared;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

struct packets {
	struct set *s;
	struct flows *flows;
	struct shared *shared;
	eesp_group *out_group;
	eesp_sender *sender;
	eesp_receiver *receiver, *checker;
	eesp_proxy *proxy;
	eesp_pkt *pkts;
	uint8_t *arrived;     /* slots with the packets to open */
	uint32_t prefix, header; /* tss: octets in front of the header; of what is sealed */
	uint64_t rng;
	double sealed; /* when */
};

void must(int status, const char *what)
{
	if (status != EESP_OK)
		die("%s: %s (%s)", what, eesp_strerror(status), eesp_last_error());
}

static uint32_t prefix_of(const struct config *c)
{
	return c->profile == EESP_PROFILE_TSS ? EESP_TSS_LEAD_IPV4 : 0;
}

static eesp_group *group_new(const struct config *c, uint8_t seed)
{
	eesp_group_config config = EESP_GROUP_CONFIG_INIT;
	uint8_t id[EESP_MIN_ROOT_KEY_ID] = { seed }, values[3][EESP_ROOT_KEY_LEN];
	const uint64_t index[3] = { 1, 2, 3 };
	eesp_group *g;
	if (c->replay == TIMES)
		config.flags |= EESP_GROUP_TIME;
	memset(values, seed, sizeof values);
	values[1][0]++;
	values[2][0] += 2;
	config.profile = c->profile;
	config.aead = c->aead;
	if (c->profile == EESP_PROFILE_TSS) {
		config.domain = seed;
		config.rekey_mask = TSS_REKEY_MASK;
		config.rekey_shift = 8;
	} else if (c->profile == EESP_PROFILE_EESP) {
		config.domain = 0x1000u + seed + 256 * c->aead;
		config.mode = EESP_SSKDF_HKDF_SHA2_256;
		values[1][1] = (uint8_t)c->aead; /* one root key has one SPI */
	}
	must(eesp_group_new(&config, &g), "eesp_group_new");
	if (c->profile == EESP_PROFILE_STATELESS)
		must(eesp_group_set_root_key(g, EESP_LEVEL_ZONE, id, sizeof id, index, (const uint8_t(*)[32])values),
		     "eesp_group_set_root_key");
	else
		must(eesp_group_set_key(g, 0, values[1], sizeof values[1]), "eesp_group_set_key");
	return g;
}

bool packets_supported(const struct config *c)
{
	eesp_group_config config = EESP_GROUP_CONFIG_INIT;
	eesp_group *g = NULL;
	if (c->replay != TIMES)
		return true;
	config.flags |= EESP_GROUP_TIME;
	bool known = eesp_group_new(&config, &g) == EESP_OK;
	eesp_group_free(g);
	return known;
}

static uint8_t v_of(const struct config *c, bool by_address)
{
	switch (c->profile) {
	case EESP_PROFILE_STATELESS:
		return by_address ? EESP_V_ID_SRC : EESP_V_ID;
	case EESP_PROFILE_PSP:
		return c->aead == EESP_AEAD_AES_128_GCM ? EESP_V_PSP_AES_128_GCM : EESP_V_PSP_AES_256_GCM;
	case EESP_PROFILE_TSS:
		return EESP_V_TSS_SSI;
	default:
		return 0;
	}
}

static eesp_sender *sender_new(eesp_group *g, const struct config *c, uint64_t id, bool by_address)
{
	eesp_sender_config config = EESP_SENDER_CONFIG_INIT;
	eesp_sender *sender;
	config.id = id;
	config.v = v_of(c, by_address);
	if (c->careful && c->profile == EESP_PROFILE_STATELESS)
		config.flags |= EESP_SENDER_OPTIONS;
	if (c->profile == EESP_PROFILE_TSS) {
		/* By the clock it seals 2^18 packets a second. Counters that begin anew need an SSI that this process
		 * has not used: the library at older revisions, which bench --compare measures, asks for one even
		 * where the key is another. */
		static atomic_uint made;
		config.counter_mode = EESP_COUNTER_EXPLICIT;
		config.id = FIRST_ID + atomic_fetch_add(&made, 1);
	}
	must(eesp_sender_new(g, &config, &sender), "eesp_sender_new");
	return sender;
}

/* Flows of profile stateless are source addresses where they are many: no sender each. */
static bool by_address(const struct config *c)
{
	return c->flows && c->profile == EESP_PROFILE_STATELESS;
}

static struct flows *flows_get(const struct set *s)
{
	const struct config *c = &s->c;
	struct flows *f;
	pthread_mutex_lock(&lock);
	for (f = all_flows; f; f = f->next)
		if (f->c.profile == c->profile && f->c.aead == c->aead && f->c.careful == c->careful &&
		    f->c.replay == c->replay && f->c.flows == c->flows && f->c.visited == c->visited &&
		    (c->flows || f->nsenders == s->nkeys))
			break;
	if (!f) {
		f = must_alloc(64, sizeof *f);
		f->c = *c;
		f->group = group_new(c, 1);
		if (c->careful && c->profile != EESP_PROFILE_PSP) /* a psp receiver looks at one group only */
			f->other = group_new(c, 51);
		f->nsenders = by_address(c) ? 1 : c->flows ? c->flows : s->nkeys;
		f->senders = must_alloc(64, f->nsenders * sizeof *f->senders);
		for (size_t k = 0; k < f->nsenders; k++)
			f->senders[k] = sender_new(f->group, c, (c->replay == TIMES ? TIMED_ID : FIRST_ID) + k,
						   by_address(c));
		f->header = eesp_sender_header_len(f->senders[0]);
		f->next = all_flows;
		all_flows = f;
	}
	f->users++;
	pthread_mutex_unlock(&lock);
	return f;
}

static void flows_put(struct flows *f)
{
	pthread_mutex_lock(&lock);
	if (!--f->users) {
		struct flows **at = &all_flows;
		while (*at != f)
			at = &(*at)->next;
		*at = f->next;
		for (size_t k = 0; k < f->nsenders; k++)
			eesp_sender_free(f->senders[k]);
		eesp_group_free(f->group);
		eesp_group_free(f->other);
		free(f->senders);
		free(f);
	}
	pthread_mutex_unlock(&lock);
}

static void set_address(eesp_addr *a, size_t flow)
{
	const uint8_t src[4] = { 10, (uint8_t)(flow >> 16), (uint8_t)(flow >> 8), (uint8_t)flow };
	eesp_addr_from_ipv4(a->src, src);
	eesp_addr_from_ipv4(a->dst, (const uint8_t[4]){ 10, 255, 0, 1 });
}

/* Opens a packet of each flow, so that its window is there before anything is measured. */
static void make_windows(const struct flows *f, eesp_receiver *receiver)
{
	enum { SOME = 32, ROOM = EESP_MAX_SEALED_LEN(8) };
	static uint8_t room[SOME][ROOM];
	for (size_t flow = 0; flow < f->c.flows;) {
		eesp_pkt p[SOME] = { 0 }, q[SOME] = { 0 };
		size_t n = 0;
		for (; n < SOME && flow < f->c.flows; n++, flow++) {
			p[n].data = room[n] + EESP_MAX_HEADER;
			p[n].len = 8;
			p[n].headroom = EESP_MAX_HEADER;
			p[n].tailroom = ROOM - EESP_MAX_HEADER - 8;
			set_address(&p[n].addr, flow);
			if (eesp_seal_burst(f->senders[by_address(&f->c) ? 0 : flow], &p[n], 1) != 1)
				die("libeesp: a packet could not be sealed: %s", eesp_strerror(p[n].status));
			q[n].data = p[n].out;
			q[n].len = p[n].out_len;
			q[n].headroom = prefix_of(&f->c);
			if (f->c.work == PACKET_OPEN)
				q[n].addr = p[n].addr;
		}
		if (eesp_open_burst(receiver, q, n) != n)
			die("libeesp: a flow's first packet could not be opened: %s", eesp_strerror(q[0].status));
	}
}

struct visit {
	const struct flows *f;
	eesp_receiver *receiver;
};

static void *visit(void *arg)
{
	const struct visit *v = arg;
	make_windows(v->f, v->receiver);
	return NULL;
}

static eesp_receiver *receiver_new(const struct flows *f)
{
	static const uint64_t own[] = { SEALING_ID, SEALING_ID + 1 };
	eesp_receiver_config config = EESP_RECEIVER_CONFIG_INIT;
	eesp_group *groups[] = { f->group, f->other };
	eesp_receiver *receiver;
	if (f->c.careful) {
		size_t contexts = 4 * (f->c.flows ? f->c.flows : f->nsenders);
		config.own_ids = own;
		config.own_id_count = 2;
		if (f->c.replay == TIMES) {
			config.replay_mode = EESP_REPLAY_TIME;
			config.flags |= EESP_RECEIVER_CLOCK_TRUSTED;
			config.max_rate = MAX_RATE;
		} else if (f->c.replay == WINDOWS) {
			config.replay_window = WINDOW;
			config.replay_contexts = contexts < 4096 ? 0 : (uint32_t)contexts;
		}
		/* The group that packets name comes second. */
		if (f->other) {
			groups[0] = f->other;
			groups[1] = f->group;
		}
	}
	must(eesp_receiver_new(groups, f->other ? 2 : 1, &config, &receiver), "eesp_receiver_new");
	if (f->c.replay == TIMES)
		nanosleep(&(struct timespec){ 0, 26000000 }, NULL); /* so long it opens nothing */
	else if (f->c.careful && f->c.replay == WINDOWS && f->c.flows)
		make_windows(f, receiver);
	if (f->c.visited) {
		struct visit v = { f, receiver };
		pthread_t thread;
		if (pthread_create(&thread, NULL, visit, &v) != 0)
			die("no thread");
		pthread_join(thread, NULL);
	}
	return receiver;
}

static struct shared *shared_get(const struct flows *f, const char *backend)
{
	struct shared *h;
	pthread_mutex_lock(&lock);
	for (h = all_shared; h; h = h->next)
		if (h->flows == f && h->backend == backend)
			break;
	if (!h) {
		h = must_alloc(64, sizeof *h);
		*h = (struct shared){ .flows = f, .backend = backend, .receiver = receiver_new(f), .next = all_shared };
		all_shared = h;
	}
	h->users++;
	pthread_mutex_unlock(&lock);
	return h;
}

static void shared_put(struct shared *h)
{
	pthread_mutex_lock(&lock);
	if (!--h->users) {
		struct shared **at = &all_shared;
		while (*at != h)
			at = &(*at)->next;
		*at = h->next;
		eesp_receiver_free(h->receiver);
		free(h);
	}
	pthread_mutex_unlock(&lock);
}

static uint64_t draw(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

void packets_renew(struct packets *k)
{
	struct set *s = k->s;
	k->sealed = now_ns();
	for (size_t i = 0; i < s->n; i++) {
		size_t flow = s->c.flows ? draw(&k->rng) % s->c.flows : s->key[i];
		eesp_pkt p = { 0 }, *arrived = &k->pkts[i];
		p.data = slot(s, s->plain, i);
		p.len = s->len[i];
		/* tss: zeros are where the addresses in front of the header are. */
		p.dst = slot(s, k->arrived, i) - k->flows->header - k->prefix;
		p.dst_size = k->prefix + k->flows->header + s->len[i] + BACK;
		set_address(&p.addr, flow);
		if (eesp_seal_burst(k->flows->senders[by_address(&s->c) ? 0 : flow], &p, 1) != 1)
			die("libeesp: a packet could not be sealed: %s", eesp_strerror(p.status));
		arrived->data = p.out;
		arrived->len = p.out_len;
		arrived->headroom = k->prefix;
		if (s->c.work == PACKET_OPEN)
			arrived->addr = p.addr;
	}
}

struct packets *packets_new(struct set *s, const char *backend)
{
	struct packets *k = must_alloc(64, sizeof *k);
	bool opening = s->c.work != PACKET_SEAL, sealing = s->c.work != PACKET_OPEN;
	k->s = s;
	k->rng = 88172645463325252u;
	k->prefix = prefix_of(&s->c);
	k->pkts = must_alloc(64, s->n * sizeof *k->pkts);
	if (opening) {
		k->flows = flows_get(s);
		k->arrived = must_alloc(HUGE_PAGE, s->n * s->stride);
		if (s->c.threads > 1 && renewed(&s->c)) {
			k->shared = shared_get(k->flows, backend);
			k->receiver = k->shared->receiver;
		} else {
			k->receiver = receiver_new(k->flows);
		}
		packets_renew(k);
	}
	if (sealing) {
		k->out_group = group_new(&s->c, 101);
		k->sender = sender_new(k->out_group, &s->c, SEALING_ID, s->c.contexts != EQUAL);
		k->header = eesp_sender_header_len(k->sender);
		if (s->c.profile != EESP_PROFILE_STATELESS) {
			must(eesp_backend_select("generic"), "generic");
			must(eesp_receiver_new(&k->out_group, 1, NULL, &k->checker), "eesp_receiver_new");
			must(eesp_backend_select(backend), backend);
		}
	}
	if (opening && sealing)
		must(eesp_proxy_new(k->receiver, k->sender, &k->proxy), "eesp_proxy_new");
	for (size_t i = 0; i < s->n; i++) {
		eesp_pkt *p = &k->pkts[i];
		uint32_t before = sealing ? k->header + k->prefix : 0;
		if (sealing)
			set_address(&p->addr, s->key[i]);
		if (!opening) {
			p->data = slot(s, s->plain, i);
			p->len = s->len[i];
		}
		p->dst = slot(s, s->out, i) - before;
		p->dst_size = before + s->len[i] + BACK;
	}
	return k;
}

void packets_free(struct packets *k)
{
	eesp_proxy_free(k->proxy);
	eesp_sender_free(k->sender);
	eesp_receiver_free(k->checker);
	if (k->shared)
		shared_put(k->shared);
	else
		eesp_receiver_free(k->receiver);
	eesp_group_free(k->out_group);
	if (k->flows)
		flows_put(k->flows);
	free(k->pkts);
	free(k->arrived);
	free(k);
}

size_t packets_pass(struct packets *k)
{
	struct set *s = k->s;
	size_t burst = s->c.burst, good = 0;
	for (size_t b = 0; b < s->n; b += burst) {
		if (s->c.work == PACKET_SEAL)
			good += eesp_seal_burst(k->sender, k->pkts + b, burst);
		else if (s->c.work == PACKET_OPEN)
			good += eesp_open_burst(k->receiver, k->pkts + b, burst);
		else
			good += eesp_proxy_burst(k->proxy, k->pkts + b, burst);
	}
	/* A machine that stops for so long makes packets old. */
	for (size_t i = 0; s->c.replay == TIMES && good < s->n && now_ns() - k->sealed > 5e7 && i < s->n; i++)
		good += k->pkts[i].status == EESP_ERR_STALE;
	return good;
}

/* Of profile stateless: with OpenSSL, under the key that eesp_derive_keys tells. */
static bool opens_by_reference(struct packets *k, size_t i, uint8_t *plain)
{
	struct set *s = k->s;
	const eesp_pkt *p = &k->pkts[i];
	const uint8_t *packet = p->out, *tsc = packet + k->header - 8;
	uint8_t nonce[12] = { 0, 0, 0, SEALING_ID }, key[32];
	eesp_context c = { .id = SEALING_ID, .v = v_of(&s->c, s->c.contexts != EQUAL), .addr = p->addr };
	memcpy(nonce + 4, tsc, 8); /* Epoch, Counter */
	c.epoch = (uint16_t)(tsc[0] << 8 | tsc[1]);
	must(eesp_derive_keys(k->out_group, &c, 1, key, s->key_len), "eesp_derive_keys");
	return p->out_len == k->header + s->len[i] + TAG_LEN &&
	       reference_open(key, s->key_len, nonce, packet, k->header, packet + k->header, s->len[i], plain,
			      packet + k->header + s->len[i]);
}

/* Of other profiles: with the library's portable backend, which shares no kernel with the others. */
static bool opens_by_generic(struct packets *k, size_t i, uint8_t *plain)
{
	eesp_pkt q = { .data = k->pkts[i].out, .len = k->pkts[i].out_len, .headroom = k->prefix, .dst = plain,
		       .dst_size = (uint32_t)k->s->stride };
	return eesp_open_burst(k->checker, &q, 1) == 1 && q.out == plain && q.out_len == k->s->len[i];
}

/*
 * A sealed packet holds another counter each time, so it cannot be compared
 * with stored octets: it is opened, and its plaintext is compared.
 */
size_t packets_check(struct packets *k)
{
	struct set *s = k->s;
	size_t bad = 0;
	uint8_t *plain = must_alloc(64, s->stride);
	for (size_t i = 0; i < s->n; i++) {
		bool opens = k->checker ? opens_by_generic(k, i, plain) : opens_by_reference(k, i, plain);
		bad += !opens || memcmp(plain, slot(s, s->plain, i), s->len[i]);
	}
	free(plain);
	memset(s->out, 0, s->n * s->stride);
	return bad;
}
