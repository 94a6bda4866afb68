/* SPDX-License-Identifier: BSD-3-Clause */
/* Senders and receivers of the peers, and finding the peer that a packet belongs to. */
#include "gw.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>

/* group: NULL for a data key of the peer. */
static void set_up(const struct gw *g, const struct gw_group *group, const struct gw_group *like, size_t worker,
		   eesp_sender_config *c, char state[GW_MAX_PATH + 16])
{
	*c = (eesp_sender_config)EESP_SENDER_CONFIG_INIT;
	/* A second gateway with this ID would repeat our nonces. */
	if (like->keys == GW_KEYS_AGENT) { /* which sees to all but this */
		c->v = like->v;
		return;
	}
	c->lock_dir = g->lock_dir[0] != '\0' ? g->lock_dir : NULL;
	c->engine_bits = like->engine_bits;
	c->engine = (uint32_t)worker;
	if (group == NULL) {
		c->flags = like->replay == GW_REPLAY_TIME ? EESP_SENDER_TIME : 0;
		return;
	}
	c->id = group->id + (group->config.profile == EESP_PROFILE_EESP ? worker : 0);
	c->v = group->v;
	if (group->config.profile == EESP_PROFILE_EESP)
		c->engine = 0;
	if (group->config.profile == EESP_PROFILE_STATELESS)
		c->flags = EESP_SENDER_OPTIONS; /* root keys rotate */
	if (group->state[0] != '\0') {
		snprintf(state, GW_MAX_PATH + 16, "%s.%u", group->state, (unsigned)worker);
		c->counter_mode = EESP_COUNTER_RESERVED;
		c->state_path = state;
	}
}

/* If there are more workers than engines, some share an engine. */
static size_t engine_of(const struct gw_group *group, size_t worker)
{
	return group->config.profile == EESP_PROFILE_EESP || group->keys == GW_KEYS_AGENT ? worker
	       : worker % ((size_t)1 << group->engine_bits);
}

static eesp_status group_senders(const struct gw *g, struct gw_group *group)
{
	char state[GW_MAX_PATH + 16];
	eesp_sender_config c;
	for (size_t i = 0; i < g->senders; i++) {
		if (group->sender[i] != NULL)
			continue;
		set_up(g, group, group, engine_of(group, i), &c, state);
		eesp_status status = eesp_sender_new(group->handle, &c, &group->sender[i]);
		if (status != EESP_OK)
			return status;
	}
	return EESP_OK;
}

/* Replaces a peer's senders. Bursts with the old ones may be running, so these are freed only at the end. */
static void put_senders(struct gw *g, struct gw_peer *p, eesp_sender *const *senders, struct gw_group *group)
{
	for (size_t i = 0; i < g->senders; i++) {
		eesp_sender *old = atomic_exchange(&p->sender[i], senders[i]);
		if (old != NULL && p->send == NULL)
			g->retired[g->retired_count++] = old;
	}
	p->send = group;
}

bool gw_send_group(struct gw *g, struct gw_peer *p, struct gw_group *group, char why[GW_MAX_PATH])
{
	if (group->config.profile != p->receive->config.profile) {
		snprintf(why, GW_MAX_PATH, "group '%s' has another profile than '%s'", group->name, p->receive->name);
		return false;
	}
	eesp_status status = group_senders(g, group);
	if (status != EESP_OK) {
		snprintf(why, GW_MAX_PATH, "%s (%.900s)", eesp_strerror(status), eesp_last_error());
		return false;
	}
	put_senders(g, p, group->sender, group);
	return true;
}

bool gw_send_key(struct gw *g, struct gw_peer *p, const char *path, char why[GW_MAX_PATH])
{
	eesp_data_key key;
	eesp_sender_config c;
	eesp_sender *senders[GW_MAX_WORKERS] = { 0 };
	if (g->retired_count + g->senders > sizeof g->retired / sizeof g->retired[0]) {
		snprintf(why, GW_MAX_PATH, "too many senders were replaced: start the gateway again");
		return false;
	}
	int len = gw_read_secret(path, (uint8_t *)&key, sizeof key, why);
	bool good = len >= 0;
	if (good && (len != sizeof key || key.profile != p->receive->config.profile)) {
		snprintf(why, GW_MAX_PATH, "%.900s: this is no data key of profile %s", path,
			 gw_profile_name(p->receive->config.profile));
		good = false;
	}
	for (size_t i = 0; good && i < g->senders; i++) {
		set_up(g, NULL, p->receive, engine_of(p->receive, i), &c, NULL);
		eesp_status status = eesp_sender_new_with_key(&key, &c, &senders[i]);
		good = status == EESP_OK;
		if (!good)
			snprintf(why, GW_MAX_PATH, "%.500s: %s (%.400s)", path, eesp_strerror(status),
				 eesp_last_error());
	}
	eesp_data_key_wipe(&key);
	if (good) {
		put_senders(g, p, senders, NULL);
		return true;
	}
	for (size_t i = 0; i < g->senders; i++)
		eesp_sender_free(senders[i]);
	return false;
}

/* Opens an end. All its peers have one profile. IDs of groups that both send and receive are own IDs. */
static void open_end(struct gw *g, struct gw_end *e)
{
	eesp_group *groups[GW_MAX_GROUPS];
	uint64_t own[GW_MAX_GROUPS];
	size_t count = 0;
	eesp_receiver_config c = EESP_RECEIVER_CONFIG_INIT;
	unsigned line = 0;
	c.own_ids = own;
	for (size_t i = 0; i < g->group_count; i++) {
		struct gw_group *group = &g->groups[i];
		bool receives = false, sends = false;
		for (size_t j = 0; j < g->peer_count; j++) {
			const struct gw_peer *p = &g->peers[j];
			receives |= p->end == e && p->receive == group;
			sends |= p->send == group;
		}
		/* An SA that is not in use yet is one that peers may begin with. */
		const bool next_sa = group->config.profile == EESP_PROFILE_EESP && !sends;
		if (e->profile != group->config.profile || !(receives || next_sa))
			continue;
		if (group->config.profile == EESP_PROFILE_PSP && count != 0)
			gw_fail(g, group->line,
				"a port can have only one group of profile psp: packets do not name their group");
		if (count != 0 && (c.replay_mode == EESP_REPLAY_TIME) != (group->replay == GW_REPLAY_TIME))
			gw_fail(g, group->line, "group '%s' and the one before do not have the same replay",
				group->name);
		if (group->replay == GW_REPLAY_TIME && count == 0) { /* one table, as the first group wants it */
			c.replay_mode = EESP_REPLAY_TIME;
			c.max_age_us = group->max_age_us;
			c.max_early_us = group->max_early_us;
			c.max_rate = group->max_rate;
			c.mark_path = group->mark[0] != '\0' ? group->mark : NULL;
		}
		if (count != 0 && c.replay_mode != EESP_REPLAY_TIME && c.engine_bits != group->engine_bits)
			gw_fail(g, group->line, "group '%s' and the one before do not have the same engine-bits",
				group->name);
		groups[count++] = group->handle;
		c.engine_bits = group->replay == GW_REPLAY_TIME ? 0 : group->engine_bits;
		line = group->line;
		c.replay_window = group->replay_window > c.replay_window ? group->replay_window : c.replay_window;
		c.replay_contexts = group->replay_contexts > c.replay_contexts ? group->replay_contexts
									       : c.replay_contexts;
		if (sends && group->keys == GW_KEYS_FILE)
			own[c.own_id_count++] = group->id;
	}
	if (c.replay_window == 0)
		c.replay_contexts = 0;
	e->replay_window = c.replay_window;
	if (count != 0)
		gw_check(g, line, eesp_receiver_new(groups, count, &c, &e->receiver));
}

void gw_open(struct gw *g, size_t workers)
{
	char why[GW_MAX_PATH];
	g->senders = workers;
	if (g->lock_dir[0] != '\0' && mkdir(g->lock_dir, 0700) != 0 && errno != EEXIST)
		die("lock-dir %s: %s", g->lock_dir, strerror(errno));
	g->since = time(NULL);
	for (size_t i = 0; i < g->peer_count; i++) {
		struct gw_peer *p = &g->peers[i];
		bool good = p->send != NULL ? gw_send_group(g, p, p->send, why) : gw_send_key(g, p, p->send_key, why);
		if (!good)
			gw_fail(g, p->line, "%s", why);
	}
	for (size_t i = 0; i < g->end_count; i++)
		open_end(g, g->ends[i]);
	for (size_t i = 0; i < g->group_count; i++)
		if (g->groups[i].keys == GW_KEYS_AGENT && g->groups[i].sender[0] != NULL &&
		    eesp_follow_wait(g->groups[i].handle, 10000) != EESP_OK)
			fprintf(stderr, "%s: group '%s' seals nothing yet: %s\n", gw_program, g->groups[i].name,
				eesp_last_error());
}

void gw_close(struct gw *g)
{
	for (size_t i = 0; i < g->peer_count; i++)
		for (size_t w = 0; w < g->senders && g->peers[i].send == NULL; w++)
			eesp_sender_free(g->peers[i].sender[w]);
	for (size_t i = 0; i < g->retired_count; i++)
		eesp_sender_free(g->retired[i]);
	for (size_t i = 0; i < g->end_count; i++)
		eesp_receiver_free(g->ends[i]->receiver);
	for (size_t i = 0; i < g->group_count; i++) {
		for (size_t w = 0; w < g->senders; w++)
			eesp_sender_free(g->groups[i].sender[w]);
		eesp_group_free(g->groups[i].handle);
	}
}

static uint32_t prefix_len(const uint8_t address[16])
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	return memcmp(address, mapped, sizeof mapped) == 0 ? EESP_TSS_LEAD_IPV4 : EESP_TSS_LEAD_IPV6;
}

uint32_t gw_overhead(const struct gw *g, const struct gw_end *e)
{
	uint32_t most = 0;
	for (size_t i = 0; i < g->peer_count; i++) {
		uint32_t n = g->peers[i].end == e ? eesp_sender_header_len(g->peers[i].sender[0]) : 0;
		if (n == 0 && g->peers[i].end == e && g->peers[i].receive->keys == GW_KEYS_AGENT)
			n = EESP_MAX_HEADER; /* no key has come yet */
		most = n > most ? n : most;
	}
	return most + EESP_ICV_LEN + (e->profile == EESP_PROFILE_EESP ? EESP_MAX_PADDING : 0);
}

/* ---- Which peer ---------------------------------------------------------------------- */

uint32_t gw_ip(const void *ip, uint32_t there, uint8_t source[16], uint8_t destination[16])
{
	const uint8_t *b = ip;
	uint32_t len;
	if (there >= 20 && b[0] >> 4 == 4) {
		len = (uint32_t)b[2] << 8 | b[3];
		eesp_addr_from_ipv4(source, b + 12);
		eesp_addr_from_ipv4(destination, b + 16);
		return len >= 20 ? len : 0;
	}
	if (there >= 40 && b[0] >> 4 == 6) {
		memcpy(source, b + 8, 16);
		memcpy(destination, b + 24, 16);
		return 40 + ((uint32_t)b[4] << 8 | b[5]);
	}
	return 0;
}

static bool is_in(const struct gw_prefix *r, const uint8_t address[16])
{
	const unsigned whole = r->bits / 8, rest = r->bits % 8;
	return memcmp(r->address, address, whole) == 0 &&
	       (rest == 0 || (r->address[whole] ^ address[whole]) >> (8 - rest) == 0);
}

struct gw_peer *gw_route(const struct gw *g, const struct gw_end *e, const uint8_t destination[16])
{
	const struct gw_peer *best = NULL;
	int bits = -1;
	for (size_t i = 0; i < g->peer_count; i++) {
		const struct gw_peer *p = &g->peers[i];
		if (p->end != e)
			continue;
		if (p->route_count == 0 && bits < 0)
			best = p;
		for (size_t j = 0; j < p->route_count; j++)
			if (p->routes[j].bits > bits && is_in(&p->routes[j], destination)) {
				best = p;
				bits = p->routes[j].bits;
			}
	}
	return (struct gw_peer *)best;
}

bool gw_is_inside(const struct gw_peer *p, const uint8_t source[16])
{
	for (size_t i = 0; i < p->route_count; i++)
		if (is_in(&p->routes[i], source))
			return true;
	return p->route_count == 0;
}

struct gw_peer *gw_peer_at(const struct gw *g, const struct gw_end *e, const uint8_t address[16])
{
	for (size_t i = 0; i < g->peer_count; i++)
		if (memcmp(g->peers[i].address, address, 16) == 0 && g->peers[i].end == e)
			return (struct gw_peer *)&g->peers[i];
	return NULL;
}

uint32_t gw_put_prefix(uint8_t *header, const eesp_addr *addr, uint16_t source_port, uint16_t destination_port)
{
	const uint32_t len = prefix_len(addr->src), half = (len - 4) / 2;
	uint8_t *prefix = header - len;
	const uint16_t ports[2] = { htons(source_port), htons(destination_port) };
	memcpy(prefix, addr->src + 16 - half, half);
	memcpy(prefix + half, addr->dst + 16 - half, half);
	memcpy(prefix + 2 * half, ports, sizeof ports);
	return len;
}

void gw_stranger(struct gw *g, const uint8_t address[16], uint64_t packets)
{
	/* A flood must not make workers wait for each other. */
	if (pthread_mutex_trylock(&g->strangers.lock) != 0) {
		atomic_fetch_add_explicit(&g->strangers.others, packets, memory_order_relaxed);
		return;
	}
	size_t i = 0;
	while (i < g->strangers.count && memcmp(g->strangers.seen[i].address, address, 16) != 0)
		i++;
	if (i == g->strangers.count && i < GW_MAX_STRANGERS)
		memcpy(g->strangers.seen[g->strangers.count++].address, address, 16);
	if (i < GW_MAX_STRANGERS)
		g->strangers.seen[i].packets += packets;
	else
		atomic_fetch_add_explicit(&g->strangers.others, packets, memory_order_relaxed);
	pthread_mutex_unlock(&g->strangers.lock);
}

void gw_sum(const struct gw *g, const struct gw_peer *p, struct gw_sums *s)
{
	*s = (struct gw_sums){ 0 };
	for (size_t w = 0; w < g->worker_count; w++) {
		struct gw_counts *c = &(*g->counts[w])[p->index];
		s->sealed += atomic_load_explicit(&c->sealed, memory_order_relaxed);
		s->sealed_octets += atomic_load_explicit(&c->sealed_octets, memory_order_relaxed);
		s->opened += atomic_load_explicit(&c->opened, memory_order_relaxed);
		s->opened_octets += atomic_load_explicit(&c->opened_octets, memory_order_relaxed);
		for (int i = 0; i < EESP_STATUS_COUNT; i++)
			s->refused[i] += atomic_load_explicit(&c->refused[i], memory_order_relaxed);
	}
}
