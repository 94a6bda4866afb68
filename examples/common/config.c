/* SPDX-License-Identifier: BSD-3-Clause */
/* The parts of the configuration file that all gateways have. README.md has the format. */
#include "gw.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define SPACE " \t\r\n"

const char *gw_program = "gateway";

static const struct gw_choice levels[] = {
	{ "zone", EESP_LEVEL_ZONE }, { "user", EESP_LEVEL_USER }, { "task", EESP_LEVEL_TASK }, { 0 }
};
static const struct gw_choice profiles[] = {
	{ "stateless", EESP_PROFILE_STATELESS }, { "psp", EESP_PROFILE_PSP },
	{ "tss", EESP_PROFILE_TSS },		 { "eesp", EESP_PROFILE_EESP },
	{ 0 }
};
static const struct gw_choice aeads[] = {
	{ "aes-128-gcm", EESP_AEAD_AES_128_GCM }, { "aes-256-gcm", EESP_AEAD_AES_256_GCM }, { 0 }
};
static const struct gw_choice combiners[] = { { "hkdf", EESP_COMBINER_HKDF }, { "xor", EESP_COMBINER_XOR }, { 0 } };
static const struct gw_choice vs[] = {
	{ "id", EESP_V_ID },
	{ "id-src", EESP_V_ID_SRC },
	{ "id-src-dst", EESP_V_ID_SRC_DST },
	{ "long-id", EESP_V_LONG_ID },
	{ "long-id-src", EESP_V_LONG_ID_SRC },
	{ "long-id-src-dst", EESP_V_LONG_ID_SRC_DST },
	{ 0 }
};
static const struct gw_choice replays[] = { { "windows", GW_REPLAY_WINDOWS }, { "time", GW_REPLAY_TIME },
					    { "off", GW_REPLAY_OFF }, { 0 } };
/* Sources of keys; read_group handles them. */
static const struct gw_choice sources[] = { { "file", GW_KEYS_FILE }, { "agent", GW_KEYS_AGENT }, { 0 } };
const struct gw_choice gw_yes_no[] = { { "no", 0 }, { "yes", 1 }, { 0 } };

/* ---- Errors ------------------------------------------------------------------- */

void die(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	flockfile(stderr); /* not unlocked: if several threads fail, the first one prints and exits */
	fprintf(stderr, "%s: ", gw_program);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(1);
}

void gw_fail(const struct gw *g, unsigned line, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	fprintf(stderr, "%s: %s:%u: ", gw_program, g->path, line);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(1);
}

void gw_check(const struct gw *g, unsigned line, eesp_status status)
{
	if (status != EESP_OK)
		gw_fail(g, line, "%s (%s)", eesp_strerror(status), eesp_last_error());
}

/* ---- Words ---------------------------------------------------------------------- */

static const struct gw_choice *find_choice(const struct gw_choice *from, const char *name)
{
	while (from->name != NULL && strcmp(from->name, name) != 0)
		from++;
	return from->name != NULL ? from : NULL;
}

int gw_level(const char *name)
{
	const struct gw_choice *c = find_choice(levels, name);
	return c != NULL ? (int)c->value : -1;
}

const char *gw_level_name(int level) { return levels[level].name; }
const char *gw_profile_name(uint32_t profile) { return profiles[profile].name; }

unsigned gw_choose(const struct gw_line *l, const struct gw_choice *from, const char *key, const char *name)
{
	const struct gw_choice *c = find_choice(from, name);
	if (c != NULL)
		return c->value;
	char known[128] = "";
	for (size_t used = 0; from->name != NULL && used < sizeof known; from++)
		used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "", from->name);
	gw_fail_line(l, "%s: '%s' is none of %s", key, name, known);
}

uint64_t gw_number(const struct gw_line *l, const char *key, const char *word, uint64_t min, uint64_t max)
{
	char *end;
	errno = 0;
	uint64_t n = strtoull(word, &end, 0);
	if (word[0] < '0' || word[0] > '9' || *end != '\0' || errno != 0 || n < min || n > max)
		gw_fail_line(l, "%s: '%s' is not a number from %llu to %llu", key, word, (unsigned long long)min,
			     (unsigned long long)max);
	return n;
}

void gw_copy(const struct gw_line *l, const char *key, char *to, size_t size, const char *word)
{
	if ((size_t)snprintf(to, size, "%s", word) >= size)
		gw_fail_line(l, "%s: '%s' is longer than %zu characters", key, word, size - 1);
}

void gw_copy_name(const struct gw_line *l, const char *key, char to[GW_MAX_NAME], const char *word)
{
	gw_copy(l, key, to, GW_MAX_NAME, word);
	for (const unsigned char *p = (const unsigned char *)to; *p != '\0'; p++) {
		int more = *p < 0x80		      ? 0
			   : *p >= 0xc2 && *p < 0xe0 ? 1
			   : *p >= 0xe0 && *p < 0xf0 ? 2
			   : *p >= 0xf0 && *p < 0xf5 ? 3
						      : -1;
		bool bad = more < 0 || *p <= ' ' || *p == 0x7f || *p == '"' || *p == '\\' ||
			   (*p == 0xe0 && p[1] < 0xa0) || (*p == 0xed && p[1] > 0x9f) || (*p == 0xf0 && p[1] < 0x90) ||
			   (*p == 0xf4 && p[1] > 0x8f);
		for (; !bad && more > 0; more--)
			bad = *++p >> 6 != 2;
		if (bad)
			gw_fail_line(l, "%s: names consist of visible UTF-8 characters, "
					"without quotation marks and backslashes", key);
	}
}

/* A path, relative to the configuration's directory. */
static void copy_path(const struct gw_line *l, const char *key, char to[GW_MAX_PATH], const char *word)
{
	const char *slash = strrchr(l->gw->path, '/');
	int dir_len = word[0] != '/' && slash != NULL ? (int)(slash + 1 - l->gw->path) : 0;
	if (snprintf(to, GW_MAX_PATH, "%.*s%s", dir_len, l->gw->path, word) >= GW_MAX_PATH)
		gw_fail_line(l, "%s: the path is too long", key);
}

static bool parse_address(const char *word, uint8_t address[16])
{
	uint8_t v4[4];
	if (inet_pton(AF_INET6, word, address) == 1)
		return true;
	if (inet_pton(AF_INET, word, v4) != 1)
		return false;
	eesp_addr_from_ipv4(address, v4);
	return true;
}

static bool is_ipv4(const uint8_t address[16])
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	return memcmp(address, mapped, sizeof mapped) == 0;
}

void gw_address(const struct gw_line *l, const char *key, const char *word, uint8_t address[16])
{
	static const uint8_t none[16];
	if (!parse_address(word, address) ||
	    memcmp(address + (is_ipv4(address) ? 12 : 0), none, is_ipv4(address) ? 4 : 16) == 0)
		gw_fail_line(l, "%s: '%s' is not an IP address of a host", key, word);
}

const char *gw_text(const uint8_t address[16], char to[GW_ADDRESS_TEXT])
{
	bool v4 = is_ipv4(address);
	return inet_ntop(v4 ? AF_INET : AF_INET6, address + (v4 ? 12 : 0), to, GW_ADDRESS_TEXT);
}

/* Reads the pairs of key and value behind a line's first two words; each key may come once. */
bool gw_pair(const struct gw_line *l, int *at, const char **key, const char **value)
{
	if (*at >= l->count)
		return false;
	*key = l->word[*at];
	if (*at + 1 == l->count)
		gw_fail_line(l, "'%s' has no value", *key);
	*value = l->word[*at + 1];
	for (int i = *at - 2; i >= 2; i -= 2)
		if (strcmp(l->word[i], *key) == 0)
			gw_fail_line(l, "'%s' twice", *key);
	*at += 2;
	return true;
}

/* ---- Groups and their keys -------------------------------------------------------- */

struct gw_group *gw_find_group(struct gw *g, const char *name)
{
	for (size_t i = 0; i < g->group_count; i++)
		if (strcmp(g->groups[i].name, name) == 0)
			return &g->groups[i];
	return NULL;
}

static struct gw_group *known_group(const struct gw_line *l, const char *name)
{
	struct gw_group *g = gw_find_group(l->gw, name);
	if (g == NULL)
		gw_fail_line(l, "no group '%s' above", name);
	return g;
}

static void read_window(const struct gw_line *l, struct gw_group *g, const char *key, const char *value)
{
	g->replay_window = (uint32_t)gw_number(l, key, value, 0, 65536);
	if (g->replay_window != 0 && g->replay_window < 64)
		gw_fail_line(l, "%s: '%s' is neither 0 nor at least 64", key, value);
}

/* Reads settings of replay protection by time, for the two profiles whose counters may be times. */
static bool read_time(struct gw_line *l, struct gw_group *g, const char *key, const char *value)
{
	if (g->replay != GW_REPLAY_TIME)
		return false;
	if (strcmp(key, "max-age") == 0)
		g->max_age_us = 1000 * (uint32_t)gw_number(l, key, value, 1, 10000);
	else if (strcmp(key, "max-early") == 0)
		g->max_early_us = 1000 * (uint32_t)gw_number(l, key, value, 1, 10000);
	else if (strcmp(key, "max-rate") == 0)
		g->max_rate = gw_number(l, key, value, 1, 1000000000);
	else if (strcmp(key, "mark") == 0)
		copy_path(l, key, g->mark, value);
	else
		return false;
	return true;
}

/* Reads settings that only groups of one profile have. */
static bool read_special(struct gw_line *l, struct gw_group *g, const char *key, const char *value)
{
	const uint32_t profile = g->config.profile;
	if (profile == EESP_PROFILE_STATELESS && strcmp(key, "combiner") == 0)
		g->config.combiner = gw_choose(l, combiners, key, value);
	else if (profile == EESP_PROFILE_STATELESS && strcmp(key, "v") == 0)
		g->v = (uint8_t)gw_choose(l, vs, key, value);
	else if (profile == EESP_PROFILE_PSP && strcmp(key, "spi-file") == 0)
		copy_path(l, key, g->spi_file, value);
	else if (profile == EESP_PROFILE_TSS && strcmp(key, "sdi") == 0)
		g->config.domain = (uint32_t)gw_number(l, key, value, 0, (1u << 24) - 1);
	else if (profile == EESP_PROFILE_EESP && strcmp(key, "spi") == 0)
		g->config.domain = (uint32_t)gw_number(l, key, value, 1, UINT32_MAX);
	else
		return false;
	return true;
}

/*
 * group NAME keys agent [socket PATH] [v V] [replay windows|time] [replay-window N]
 * [max-age N] ...: the name is the cluster's. Replay protection is by time if the
 * cluster's group has counters that are times, since all senders of it do; else by
 * windows as wide, and as many, as the group's.
 */
static void follow_group(struct gw_line *l, struct gw_group *g)
{
	eesp_follow_config c = EESP_FOLLOW_CONFIG_INIT;
	eesp_follow_info info;
	char socket[GW_MAX_PATH];
	const char *key, *value;
	g->keys = GW_KEYS_AGENT;
	g->engine_bits = 0; /* each worker has an ID of its own */
	g->has_id = true;
	c.flags = EESP_FOLLOW_WITHOUT_KEYS;
	const char *replay = NULL;
	for (int at = 2; gw_pair(l, &at, &key, &value);)
		if (strcmp(key, "socket") == 0) {
			copy_path(l, key, socket, value);
			c.socket_path = socket;
		} else if (strcmp(key, "v") == 0) {
			g->v = (uint8_t)gw_choose(l, vs, key, value);
		} else if (strcmp(key, "replay") == 0) {
			replay = value;
			if (gw_choose(l, replays, key, value) == GW_REPLAY_OFF)
				gw_fail_line(l, "replay: a group with keys of an agent has windows, or time");
		} else if (strcmp(key, "keys") != 0 && strncmp(key, "max-", 4) != 0 && strcmp(key, "mark") != 0 &&
			   strcmp(key, "replay-window") != 0) {
			gw_fail_line(l, "a group with keys of an agent has no '%s': it comes from there", key);
		}
	gw_check(l->gw, l->number, eesp_group_follow(g->name, &c, &g->handle));
	gw_check(l->gw, l->number, eesp_group_follow_info(g->handle, &info));
	const bool times = info.replay_mode == EESP_REPLAY_TIME;
	g->replay = replay == NULL ? (times ? GW_REPLAY_TIME : GW_REPLAY_WINDOWS)
				   : (enum gw_replay)gw_choose(l, replays, "replay", replay);
	if (g->replay == GW_REPLAY_TIME && !times)
		gw_fail_line(l, "replay: counters of the cluster's group are not times");
	if (g->replay == GW_REPLAY_TIME) {
		g->replay_window = 0;
	} else if (info.replay_window != 0) {
		g->replay_window = info.replay_window;
		g->replay_contexts = info.replay_contexts;
	}
	for (int at = 2; gw_pair(l, &at, &key, &value);)
		if (strcmp(key, "replay-window") == 0 && g->replay == GW_REPLAY_WINDOWS)
			read_window(l, g, key, value);
		else if ((strcmp(key, "replay-window") == 0 || strncmp(key, "ma", 2) == 0) &&
			 !read_time(l, g, key, value))
			gw_fail_line(l, "a group with replay %s has no '%s'",
				     g->replay == GW_REPLAY_TIME ? "time" : "windows", key);
	if (g->replay == GW_REPLAY_WINDOWS && g->replay_window == 0)
		gw_fail_line(l, "replay-window: a group with keys of an agent has windows, or time");
	g->config.profile = info.profile;
	g->config.aead = info.aead;
	g->config.domain = info.domain;
}

/* group NAME [profile P] [KEY VALUE]... */
static void read_group(struct gw_line *l)
{
	struct gw *gw = l->gw;
	const char *key, *value;
	if (gw->group_count == GW_MAX_GROUPS)
		gw_fail_line(l, "more than %d groups", GW_MAX_GROUPS);
	if (gw_find_group(gw, l->word[1]) != NULL)
		gw_fail_line(l, "group '%s' twice", l->word[1]);
	struct gw_group *g = &gw->groups[gw->group_count++];
	*g = (struct gw_group){ .line = l->number, .config = EESP_GROUP_CONFIG_INIT, .replay_window = GW_REPLAY_WINDOW,
				.engine_bits = GW_ENGINE_BITS };
	gw_copy_name(l, "group", g->name, l->word[1]);
	for (int at = 2; gw_pair(l, &at, &key, &value);) {
		if (strcmp(key, "profile") == 0)
			g->config.profile = gw_choose(l, profiles, key, value);
		if (strcmp(key, "keys") == 0 && gw_choose(l, sources, key, value) == GW_KEYS_AGENT) {
			follow_group(l, g);
			return;
		}
		if (strcmp(key, "replay") == 0)
			g->replay = (enum gw_replay)gw_choose(l, replays, key, value);
	}
	const uint32_t profile = g->config.profile;
	if (profile == EESP_PROFILE_TSS) {
		g->config.aead = EESP_AEAD_AES_256_GCM;
		g->v = EESP_V_TSS_SSI;
	}
	bool has_spi = false;
	for (int at = 2; gw_pair(l, &at, &key, &value);) {
		if (strcmp(key, "profile") == 0 || strcmp(key, "replay") == 0)
			continue;
		has_spi |= strcmp(key, "spi") == 0;
		if (strcmp(key, "aead") == 0) {
			g->config.aead = gw_choose(l, aeads, key, value);
		} else if (strcmp(key, "id") == 0) {
			g->id = gw_number(l, key, value, 0, UINT64_MAX);
			g->has_id = true;
		} else if (strcmp(key, "replay-window") == 0 && g->replay == GW_REPLAY_WINDOWS) {
			read_window(l, g, key, value);
		} else if (strcmp(key, "engine-bits") == 0 && profile != EESP_PROFILE_EESP) {
			g->engine_bits = (uint8_t)gw_number(l, key, value, 0, 6);
		} else if (strcmp(key, "state") == 0) {
			copy_path(l, key, g->state, value);
		} else if (strcmp(key, "keys") == 0) {
			g->keys = (enum gw_keys)gw_choose(l, sources, key, value);
		} else if (!read_special(l, g, key, value) && !read_time(l, g, key, value)) {
			gw_fail_line(l, "a group of profile %s has no '%s'", gw_profile_name(profile), key);
		}
	}
	if (profile == EESP_PROFILE_PSP)
		g->v = g->config.aead == EESP_AEAD_AES_128_GCM ? EESP_V_PSP_AES_128_GCM : EESP_V_PSP_AES_256_GCM;
	if (profile == EESP_PROFILE_EESP) {
		g->engine_bits = 0;
		g->config.mode = EESP_SSKDF_HKDF_SHA2_256;
		g->config.encap = EESP_ENCAP_TUNNEL;
		if (!has_spi)
			gw_fail_line(l, "a group of profile eesp is an SA, and needs its spi");
	}
	if (g->replay != GW_REPLAY_WINDOWS)
		g->replay_window = 0;
	if (g->replay == GW_REPLAY_TIME) {
		if (profile != EESP_PROFILE_STATELESS && profile != EESP_PROFILE_PSP)
			gw_fail_line(l, "replay: counters of profile %s are not times", gw_profile_name(profile));
		g->config.flags |= EESP_GROUP_TIME;
	}
	eesp_status status = eesp_group_new(&g->config, &g->handle);
	gw_check(gw, l->number, status);
}

/* root-key GROUP LEVEL FILE */
static void read_root_key(struct gw_line *l)
{
	struct gw_group *g = known_group(l, l->word[1]);
	char path[GW_MAX_PATH], why[GW_MAX_PATH];
	int level = gw_level(l->word[2]);
	if (level < 0)
		gw_fail_line(l, "'%s' is not zone, user or task", l->word[2]);
	copy_path(l, "root-key", path, l->word[3]);
	if (!gw_load_root_key(g, level, path, why))
		gw_fail_line(l, "%s", why);
}

/* key GROUP SLOT FILE */
static void read_key(struct gw_line *l)
{
	struct gw_group *g = known_group(l, l->word[1]);
	char path[GW_MAX_PATH], why[GW_MAX_PATH];
	unsigned slot = (unsigned)gw_number(l, "slot", l->word[2], 0, 1);
	copy_path(l, "key", path, l->word[3]);
	if (!gw_load_key(g, slot, path, why))
		gw_fail_line(l, "%s", why);
}

/* ---- Peers ----------------------------------------------------------------------------- */

struct gw_peer *gw_find_peer(struct gw *g, const char *name)
{
	for (size_t i = 0; i < g->peer_count; i++)
		if (strcmp(g->peers[i].name, name) == 0)
			return &g->peers[i];
	return NULL;
}

/* Reads a prefix, or several separated by commas without blanks. */
static void read_routes(struct gw_line *l, struct gw_peer *p, const char *words)
{
	char text[512], *rest = text, *word;
	gw_copy(l, "routes", text, sizeof text, words);
	while ((word = strsep(&rest, ",")) != NULL) {
		if (p->route_count == GW_MAX_ROUTES)
			gw_fail_line(l, "routes: more than %d", GW_MAX_ROUTES);
		struct gw_prefix *r = &p->routes[p->route_count++];
		char *slash = strchr(word, '/'), *end = NULL;
		if (slash != NULL)
			*slash++ = '\0';
		if (!parse_address(word, r->address))
			gw_fail_line(l, "routes: '%s' is not an IP address", word);
		unsigned bits = is_ipv4(r->address) ? 32 : 128;
		unsigned long n = slash != NULL ? strtoul(slash, &end, 10) : bits;
		if (slash != NULL && (*slash < '0' || *slash > '9' || *end != '\0' || n > bits))
			gw_fail_line(l, "routes: '%s' is not a length of a prefix", slash);
		r->bits = (uint8_t)(128 - bits + n);
	}
}

/* peer NAME address A (group G | [send G | send-key FILE] receive G) [routes P,P] [port NAME] */
static void read_peer(struct gw_line *l)
{
	struct gw *g = l->gw;
	const char *key, *value;
	if (g->peer_count == GW_MAX_PEERS)
		gw_fail_line(l, "more than %d peers", GW_MAX_PEERS);
	if (gw_find_peer(g, l->word[1]) != NULL)
		gw_fail_line(l, "peer '%s' twice", l->word[1]);
	struct gw_peer *p = &g->peers[g->peer_count];
	*p = (struct gw_peer){ .line = l->number, .index = (unsigned)g->peer_count };
	gw_copy_name(l, "peer", p->name, l->word[1]);
	bool has_address = false;
	for (int at = 2; gw_pair(l, &at, &key, &value);) {
		if (strcmp(key, "address") == 0) {
			gw_address(l, key, value, p->address);
			has_address = true;
		} else if (strcmp(key, "group") == 0) {
			p->receive = known_group(l, value);
			p->send = p->receive;
		} else if (strcmp(key, "send") == 0) {
			p->send = known_group(l, value);
		} else if (strcmp(key, "receive") == 0) {
			p->receive = known_group(l, value);
		} else if (strcmp(key, "send-key") == 0) {
			copy_path(l, key, p->send_key, value);
		} else if (strcmp(key, "routes") == 0) {
			read_routes(l, p, value);
		} else if (strcmp(key, "port") == 0) {
			gw_copy(l, key, p->port, sizeof p->port, value);
		} else {
			gw_fail_line(l, "a peer has no '%s'", key);
		}
	}
	struct gw_group *send = p->send;
	if (!has_address || p->receive == NULL || (send == NULL) == (p->send_key[0] == '\0'))
		gw_fail_line(l, "a peer needs address, and group, or receive and one of send and send-key");
	if (send != NULL && send->config.profile != p->receive->config.profile)
		gw_fail_line(l, "groups '%s' and '%s' do not have the same profile", send->name, p->receive->name);
	if (send == p->receive && p->receive->config.profile == EESP_PROFILE_EESP)
		gw_fail_line(l, "an SA has one direction: a peer of profile eesp needs send and receive");
	g->peer_count++;
}

void gw_add_end(const struct gw_line *l, struct gw_end *e)
{
	struct gw *g = l->gw;
	if (g->end_count == GW_MAX_ENDS)
		gw_fail_line(l, "more than %d ports", GW_MAX_ENDS);
	g->ends[g->end_count++] = e;
}

/* The end of the gateway that a peer's packets go through. */
static struct gw_end *end_of(const struct gw *g, const struct gw_peer *p)
{
	for (size_t i = 0; i < g->end_count; i++)
		if (p->port[0] == '\0' ? g->end_count == 1 : strcmp(g->ends[i]->name, p->port) == 0)
			return g->ends[i];
	return NULL;
}

/* ---- The rest --------------------------------------------------------------------------- */

static void read_control(struct gw_line *l)
{
	gw_copy(l, "control", l->gw->control, sizeof l->gw->control, l->word[1]);
}

static void read_metrics(struct gw_line *l)
{
	gw_copy(l, "metrics", l->gw->metrics, sizeof l->gw->metrics, l->word[1]);
}

static void read_lock_dir(struct gw_line *l)
{
	char *to = l->gw->lock_dir;
	gw_copy(l, "lock-dir", to, sizeof l->gw->lock_dir, strcmp(l->word[1], "none") != 0 ? l->word[1] : "");
}

static void read_stats(struct gw_line *l)
{
	l->gw->stats = (unsigned)gw_number(l, "stats", l->word[1], 0, 3600);
}

static const struct gw_statement common[] = {
	{ "group", 2, GW_MAX_WORDS, false, read_group, "NAME [KEY VALUE]..." },
	{ "root-key", 4, 4, false, read_root_key, "GROUP LEVEL FILE" },
	{ "key", 4, 4, false, read_key, "GROUP SLOT FILE" },
	{ "peer", 2, GW_MAX_WORDS, false, read_peer, "NAME KEY VALUE..." },
	{ "control", 2, 2, true, read_control, "SOCKET" },
	{ "lock-dir", 2, 2, true, read_lock_dir, "DIRECTORY|none" },
	{ "metrics", 2, 2, true, read_metrics, "SOCKET|PORT" },
	{ "stats", 2, 2, true, read_stats, "SECONDS" },
	{ 0 },
};
#define MAX_STATEMENTS 32

static const struct gw_statement *find_statement(const struct gw_statement *from, const char *name)
{
	while (from->name != NULL && strcmp(from->name, name) != 0)
		from++;
	return from->name != NULL ? from : NULL;
}

struct once {
	const struct gw_statement *statement;
	unsigned line;
};

static void read_line(struct gw_line *l, struct once seen[MAX_STATEMENTS], size_t *count)
{
	const struct gw_statement *s = find_statement(common, l->word[0]);
	if (s == NULL)
		s = find_statement(l->gw->statements, l->word[0]);
	if (s == NULL)
		gw_fail_line(l, "unknown statement '%s'", l->word[0]);
	if (l->count < s->min || l->count > s->max)
		gw_fail_line(l, "usage: %s %s", s->name, s->usage);
	for (size_t i = 0; i < *count; i++)
		if (seen[i].statement == s)
			gw_fail_line(l, "'%s' again; it is in line %u already", s->name, seen[i].line);
	if (s->once && *count < MAX_STATEMENTS)
		seen[(*count)++] = (struct once){ s, l->number };
	s->read(l);
}

static bool has_key(const struct gw_group *g)
{
	eesp_root_key_info info;
	bool any = g->has_slot[0] || g->has_slot[1];
	for (int level = 0; g->config.profile == EESP_PROFILE_STATELESS && level < EESP_LEVEL_COUNT; level++)
		any |= eesp_group_get_root_key_info(g->handle, level, &info) == EESP_OK;
	return any;
}

/* Checks what depends on the whole file. */
static void check_whole(struct gw *g)
{
	for (size_t i = 0; i < g->group_count; i++) {
		const struct gw_group *group = &g->groups[i];
		bool used = group->config.profile != EESP_PROFILE_EESP; /* the next SA's key may come later */
		for (size_t j = 0; j < g->peer_count; j++)
			used |= g->peers[j].send == group || g->peers[j].receive == group;
		if (used && group->keys == GW_KEYS_FILE && !has_key(group))
			gw_fail(g, group->line, "group '%s' has no %s", group->name,
				group->config.profile == EESP_PROFILE_STATELESS ? "root key" : "key");
	}
	for (size_t i = 0; i < g->peer_count; i++) {
		struct gw_peer *p = &g->peers[i];
		struct gw_end *e = p->end = end_of(g, p);
		if (e == NULL)
			gw_fail(g, p->line, "peer '%s': %s%s", p->name,
				p->port[0] != '\0' ? "no port " : "which port? There is not one only", p->port);
		if (is_ipv4(p->address) != is_ipv4(e->address))
			gw_fail(g, p->line, "peer '%s': its address and this end's are not both IPv4 or both IPv6",
				p->name);
		if (memcmp(p->address, e->address, 16) == 0)
			gw_fail(g, p->line, "peer '%s' has this end's own address", p->name);
		for (size_t j = 0; j < i; j++)
			if (g->peers[j].end == e) {
				if (g->peers[j].receive->config.profile != p->receive->config.profile)
					gw_fail(g, p->line,
						"peers '%s' and '%s' of one port do not have the same profile",
						g->peers[j].name, p->name);
				if (memcmp(g->peers[j].address, p->address, 16) == 0)
					gw_fail(g, p->line, "peer '%s' has the same address", g->peers[j].name);
				if (p->route_count == 0 && g->peers[j].route_count == 0)
					gw_fail(g, p->line, "peer '%s' gets all packets already: say routes",
						g->peers[j].name);
			}
		e->profile = p->receive->config.profile;
		memcpy(p->addr.src, e->address, 16);
		memcpy(p->addr.dst, p->address, 16);
		struct gw_group *group = p->send;
		/* Hosts have different addresses, so the address makes an ID of this end's own. */
		if (group != NULL && !group->has_id && group->config.profile != EESP_PROFILE_EESP) {
			if (!is_ipv4(e->address) || group->config.profile == EESP_PROFILE_PSP)
				gw_fail(g, group->line, "group '%s' needs an id", group->name);
			for (int n = 12; n < 16; n++)
				group->id = group->id << 8 | e->address[n];
			group->has_id = true;
		}
		if (group != NULL && group->config.profile == EESP_PROFILE_TSS && group->keys == GW_KEYS_FILE &&
		    group->state[0] == '\0')
			gw_fail(g, group->line,
				"group '%s' needs state: counters of tss begin with each key, and are kept there",
				group->name);
	}
	for (size_t i = 0; i < g->end_count; i++) {
		struct gw_end *e = g->ends[i];
		if (e->udp_port == 0)
			e->udp_port = e->profile == EESP_PROFILE_PSP ? EESP_PSP_UDP_PORT
				      : e->profile == EESP_PROFILE_TSS ? EESP_TSS_UDP_PORT
								       : EESP_UDP_PORT;
	}
}

void gw_read(struct gw *g, const char *path)
{
	char text[2048];
	struct once seen[MAX_STATEMENTS];
	size_t count = 0;
	g->path = path;
	g->stats = 1;
	snprintf(g->lock_dir, sizeof g->lock_dir, "/run/eesp");
	pthread_mutex_init(&g->strangers.lock, NULL);
	FILE *f = fopen(path, "re");
	if (f == NULL)
		die("%s: %s", path, strerror(errno));
	struct gw_line l = { .gw = g };
	while (fgets(text, sizeof text, f) != NULL) {
		l.number++;
		l.count = 0;
		if (strchr(text, '\n') == NULL && !feof(f))
			gw_fail_line(&l, "longer than %zu characters", sizeof text - 2);
		text[strcspn(text, "#")] = '\0';
		char *rest = text, *word;
		while ((word = strtok_r(rest, SPACE, &rest)) != NULL) {
			if (l.count == GW_MAX_WORDS)
				gw_fail_line(&l, "more than %d words", GW_MAX_WORDS);
			l.word[l.count++] = word;
		}
		if (l.count != 0)
			read_line(&l, seen, &count);
	}
	if (ferror(f))
		die("%s: %s", path, strerror(errno));
	fclose(f);
	check_whole(g);
	if (g->check != NULL)
		g->check(g);
}
