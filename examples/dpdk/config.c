/* SPDX-License-Identifier: BSD-3-Clause */
/* The configuration file. gateway.conf shows all that it may hold. */
#include "eesp_gw.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_WORDS 32
#define SPACE " \t\r\n"

struct choice {
	const char *name;
	unsigned value;
};

static const struct choice levels[] = { { "zone", EESP_LEVEL_ZONE },
					{ "user", EESP_LEVEL_USER },
					{ "task", EESP_LEVEL_TASK },
					{ 0 } };
static const struct choice profiles[] = { { "stateless", EESP_PROFILE_STATELESS }, { 0 } };
static const struct choice aeads[] = { { "aes-128-gcm", EESP_AEAD_AES_128_GCM },
				       { "aes-256-gcm", EESP_AEAD_AES_256_GCM },
				       { 0 } };
static const struct choice combiners[] = { { "hkdf", EESP_COMBINER_HKDF }, { "xor", EESP_COMBINER_XOR }, { 0 } };
static const struct choice vs[] = { { "id", EESP_V_ID },
				    { "id-src", EESP_V_ID_SRC },
				    { "id-src-dst", EESP_V_ID_SRC_DST },
				    { "long-id", EESP_V_LONG_ID },
				    { "long-id-src", EESP_V_LONG_ID_SRC },
				    { "long-id-src-dst", EESP_V_LONG_ID_SRC_DST },
				    { 0 } };
static const struct choice yes_no[] = { { "no", 0 }, { "yes", 1 }, { 0 } };

/* The line being read. */
struct line {
	struct config *config;
	unsigned number;
	int count;
	char *word[MAX_WORDS];
};

#define fail(line, ...) config_fail((line)->config, (line)->number, __VA_ARGS__)

void config_fail(const struct config *c, unsigned line, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	fprintf(stderr, "eesp_gw: %s:%u: ", c->path, line);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(1);
}

int read_secret(const char *path, uint8_t *to, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	ssize_t n = 0;
	size_t len = 0;
	while (len < size && (n = read(fd, to + len, size - len)) > 0)
		len += (size_t)n;
	int error = errno;
	close(fd);
	errno = error;
	return n < 0 ? -1 : (int)len;
}

int write_secret(const char *path, const uint8_t *from, size_t len, bool replace)
{
	char temporary[MAX_PATH];
	if ((size_t)snprintf(temporary, sizeof temporary, "%s.new", path) >= sizeof temporary) {
		errno = ENAMETOOLONG;
		return -1;
	}
	if (replace)
		unlink(temporary);
	int fd = open(replace ? temporary : path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -1;
	errno = EIO;
	bool good = write(fd, from, len) == (ssize_t)len && fsync(fd) == 0;
	int error = errno;
	close(fd);
	errno = error;
	return good && (!replace || rename(temporary, path) == 0) ? 0 : -1;
}

static const struct choice *find_choice(const struct choice *from, const char *name)
{
	while (from->name != NULL && strcmp(from->name, name) != 0)
		from++;
	return from->name != NULL ? from : NULL;
}

int level_number(const char *name)
{
	const struct choice *c = find_choice(levels, name);
	return c != NULL ? (int)c->value : -1;
}

const char *level_name(int level)
{
	return levels[level].name;
}

static unsigned choose(const struct line *l, const struct choice *from, const char *key, const char *name)
{
	const struct choice *c = find_choice(from, name);
	if (c != NULL)
		return c->value;
	char known[128] = "";
	for (size_t used = 0; from->name != NULL && used < sizeof known; from++)
		used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "", from->name);
	fail(l, "%s: '%s' is none of %s", key, name, known);
}

static uint64_t number(const struct line *l, const char *key, const char *word, uint64_t min, uint64_t max)
{
	char *end;
	errno = 0;
	uint64_t n = strtoull(word, &end, 0);
	if (word[0] < '0' || word[0] > '9' || *end != '\0' || errno != 0 || n < min || n > max)
		fail(l, "%s: '%s' is not a number from %llu to %llu", key, word, (unsigned long long)min,
		     (unsigned long long)max);
	return n;
}

static void copy(const struct line *l, const char *key, char *to, size_t size, const char *word)
{
	if ((size_t)snprintf(to, size, "%s", word) >= size)
		fail(l, "%s: '%s' is longer than %zu characters", key, word, size - 1);
}

static struct rte_ether_addr mac(const struct line *l, const char *key, const char *word)
{
	struct rte_ether_addr a;
	if (rte_ether_unformat_addr(word, &a) != 0 || !rte_is_valid_assigned_ether_addr(&a))
		fail(l, "%s: '%s' is not a MAC address of one station", key, word);
	return a;
}

static rte_be32_t ipv4(const struct line *l, const char *key, const char *word)
{
	struct in_addr a;
	if (inet_pton(AF_INET, word, &a) != 1 || a.s_addr == 0)
		fail(l, "%s: '%s' is not an IPv4 address", key, word);
	return a.s_addr;
}

struct group *config_group(struct config *c, const char *name)
{
	for (size_t i = 0; i < c->group_count; i++)
		if (strcmp(c->groups[i].name, name) == 0)
			return &c->groups[i];
	return NULL;
}

static struct group *known_group(const struct line *l, const char *name)
{
	struct group *g = config_group(l->config, name);
	if (g == NULL)
		fail(l, "no group '%s' above", name);
	return g;
}

static struct port *find_port(struct config *c, const char *name)
{
	for (size_t i = 0; i < c->port_count; i++)
		if (strcmp(c->ports[i].name, name) == 0)
			return &c->ports[i];
	return NULL;
}

/* Behind a line's first two words are pairs of key and value, each key once. */
static bool next_pair(const struct line *l, int *at, const char **key, const char **value)
{
	if (*at >= l->count)
		return false;
	*key = l->word[*at];
	if (*at + 1 == l->count)
		fail(l, "'%s' has no value", *key);
	*value = l->word[*at + 1];
	for (int i = 2; i < *at; i += 2)
		if (strcmp(l->word[i], *key) == 0)
			fail(l, "'%s' twice", *key);
	*at += 2;
	return true;
}

/* group NAME [profile P] [aead A] [combiner C] */
static void read_group(struct line *l)
{
	struct config *c = l->config;
	eesp_group_config gc = EESP_GROUP_CONFIG_INIT;
	const char *key, *value;
	if (c->group_count == MAX_GROUPS)
		fail(l, "more than %d groups", MAX_GROUPS);
	if (config_group(c, l->word[1]) != NULL)
		fail(l, "group '%s' twice", l->word[1]);
	for (int at = 2; next_pair(l, &at, &key, &value);) {
		if (strcmp(key, "profile") == 0)
			gc.profile = choose(l, profiles, key, value);
		else if (strcmp(key, "aead") == 0)
			gc.aead = choose(l, aeads, key, value);
		else if (strcmp(key, "combiner") == 0)
			gc.combiner = choose(l, combiners, key, value);
		else
			fail(l, "a group has no '%s'", key);
	}
	struct group *g = &c->groups[c->group_count++];
	copy(l, "group", g->name, sizeof g->name, l->word[1]);
	g->line = l->number;
	eesp_status status = eesp_group_new(&gc, &g->handle);
	if (status != EESP_OK)
		fail(l, "%s (%s)", eesp_strerror(status), eesp_last_error());
}

/* root-key GROUP LEVEL FILE: relative to the configuration's directory. */
static void read_root_key(struct line *l)
{
	struct group *g = known_group(l, l->word[1]);
	int level = level_number(l->word[2]);
	if (level < 0)
		fail(l, "'%s' is none of zone, user, task", l->word[2]);
	char path[MAX_PATH];
	const char *slash = strrchr(l->config->path, '/');
	int dir_len = l->word[3][0] != '/' && slash != NULL ? (int)(slash + 1 - l->config->path) : 0;
	if ((size_t)snprintf(path, sizeof path, "%.*s%s", dir_len, l->config->path, l->word[3]) >= sizeof path)
		fail(l, "the path is too long");
	uint8_t der[MAX_ROOT_KEY_DER];
	int len = read_secret(path, der, sizeof der);
	if (len < 0)
		fail(l, "%s: %s", path, strerror(errno));
	eesp_status status = eesp_group_set_root_key_der(g->handle, level, der, (size_t)len);
	explicit_bzero(der, sizeof der);
	if (status != EESP_OK)
		fail(l, "%s: %s (%s)", path, eesp_strerror(status), eesp_last_error());
}

/* port NAME device D next-hop MAC address A [mac MAC] [mtu N] [mbuf-data N] [peer A group G id N v V replay-window N] */
static void read_port(struct line *l)
{
	struct config *c = l->config;
	const char *key, *value;
	if (c->port_count == MAX_PORTS)
		fail(l, "more than %d ports", MAX_PORTS);
	if (find_port(c, l->word[1]) != NULL)
		fail(l, "port '%s' twice", l->word[1]);
	struct port *p = &c->ports[c->port_count];
	bool has_next_hop = false, has_v = false, has_window = false;
	*p = (struct port){ .line = l->number, .mbuf_data = RTE_MBUF_DEFAULT_DATAROOM, .replay_window = REPLAY_WINDOW };
	copy(l, "port", p->name, sizeof p->name, l->word[1]);
	for (int at = 2; next_pair(l, &at, &key, &value);) {
		if (strcmp(key, "device") == 0) {
			copy(l, key, p->device, sizeof p->device, value);
		} else if (strcmp(key, "next-hop") == 0) {
			p->next_hop = mac(l, key, value);
			has_next_hop = true;
		} else if (strcmp(key, "mac") == 0) {
			p->mac = mac(l, key, value);
			p->has_mac = true;
		} else if (strcmp(key, "address") == 0) {
			p->address = ipv4(l, key, value);
		} else if (strcmp(key, "mtu") == 0) {
			p->mtu = (uint16_t)number(l, key, value, RTE_ETHER_MIN_MTU, UINT16_MAX);
		} else if (strcmp(key, "mbuf-data") == 0) {
			p->mbuf_data = (uint32_t)number(l, key, value, MIN_MBUF_DATA, 65535 - RTE_PKTMBUF_HEADROOM);
		} else if (strcmp(key, "peer") == 0) {
			p->peer = ipv4(l, key, value);
		} else if (strcmp(key, "group") == 0) {
			p->group = known_group(l, value);
		} else if (strcmp(key, "id") == 0) {
			p->id = number(l, key, value, 0, UINT64_MAX);
			p->has_id = true;
		} else if (strcmp(key, "v") == 0) {
			p->v = (uint8_t)choose(l, vs, key, value);
			has_v = true;
		} else if (strcmp(key, "replay-window") == 0) {
			p->replay_window = (uint32_t)number(l, key, value, 0, 65536);
			if (p->replay_window != 0 && p->replay_window < 64)
				fail(l, "%s: '%s' is neither 0 nor 64 and more", key, value);
			has_window = true;
		} else {
			fail(l, "a port has no '%s'", key);
		}
	}
	if (p->device[0] == '\0' || !has_next_hop || p->address == 0)
		fail(l, "a port needs device, next-hop and address");
	if (p->peer != 0 ? p->group == NULL || !p->has_id : p->group != NULL || p->has_id || has_v || has_window)
		fail(l, "a port to the network needs peer, group and id; one to hosts has none of them");
	/* One ID in both directions would repeat nonces. */
	for (size_t i = 0; i < c->port_count && p->has_id; i++)
		if (c->ports[i].has_id && c->ports[i].id == p->id)
			fail(l, "port '%s' has the same id", c->ports[i].name);
	c->port_count++;
}

/* tunnel HOSTS NETWORK, proxy NETWORK NETWORK, forward HOSTS HOSTS */
static void read_connection(struct line *l)
{
	struct port *a = find_port(l->config, l->word[1]), *b = find_port(l->config, l->word[2]);
	if (a == NULL || b == NULL)
		fail(l, "no port '%s' above", l->word[a == NULL ? 1 : 2]);
	if (a->other != NULL || b->other != NULL || a == b)
		fail(l, "port '%s' is connected already", a->other != NULL ? a->name : b->name);
	bool proxy = strcmp(l->word[0], "proxy") == 0, forward = strcmp(l->word[0], "forward") == 0;
	if ((a->peer != 0) != proxy || (b->peer != 0) == forward)
		fail(l, "%s", proxy   ? "a proxy is between two ports that have a peer"
			     : forward ? "forwarding in clear is between two ports that have no peer"
				       : "a tunnel is from a port without a peer to one that has one");
	a->other = b;
	b->other = a;
}

static void read_control(struct line *l)
{
	copy(l, "control", l->config->control, sizeof l->config->control, l->word[1]);
}

static void read_lock_dir(struct line *l)
{
	char *to = l->config->lock_dir;
	copy(l, "lock-dir", to, sizeof l->config->lock_dir, strcmp(l->word[1], "none") != 0 ? l->word[1] : "");
}

static void read_stats(struct line *l)
{
	l->config->stats = (unsigned)number(l, "stats", l->word[1], 0, 3600);
}

static void read_idle_sleep(struct line *l)
{
	l->config->idle_sleep = (unsigned)number(l, "idle-sleep", l->word[1], 0, 1000);
}

static void read_keep_warm(struct line *l)
{
	l->config->keep_warm = choose(l, yes_no, "keep-warm", l->word[1]);
}

static const struct statement {
	const char *name;
	int min, max; /* words, its own too */
	bool once;
	void (*read)(struct line *l);
	const char *usage;
} statements[] = {
	{ "group", 2, MAX_WORDS, false, read_group, "NAME [KEY VALUE]..." },
	{ "root-key", 4, 4, false, read_root_key, "GROUP LEVEL FILE" },
	{ "port", 2, MAX_WORDS, false, read_port, "NAME KEY VALUE..." },
	{ "tunnel", 3, 3, false, read_connection, "PORT PORT" },
	{ "proxy", 3, 3, false, read_connection, "PORT PORT" },
	{ "forward", 3, 3, false, read_connection, "PORT PORT" },
	{ "control", 2, 2, true, read_control, "SOCKET" },
	{ "lock-dir", 2, 2, true, read_lock_dir, "DIRECTORY|none" },
	{ "stats", 2, 2, true, read_stats, "SECONDS" },
	{ "idle-sleep", 2, 2, true, read_idle_sleep, "MICROSECONDS" },
	{ "keep-warm", 2, 2, true, read_keep_warm, "yes|no" },
};
#define STATEMENTS (sizeof statements / sizeof statements[0])

static void read_line(struct line *l, unsigned seen[STATEMENTS])
{
	size_t i = 0;
	while (i < STATEMENTS && strcmp(statements[i].name, l->word[0]) != 0)
		i++;
	if (i == STATEMENTS)
		fail(l, "'%s' is not known", l->word[0]);
	const struct statement *s = &statements[i];
	if (l->count < s->min || l->count > s->max)
		fail(l, "usage: %s %s", s->name, s->usage);
	if (s->once && seen[i] != 0)
		fail(l, "'%s' again; it is in line %u already", s->name, seen[i]);
	seen[i] = l->number;
	s->read(l);
}

static void check_whole(const struct config *c)
{
	if (c->port_count == 0)
		config_fail(c, 1, "there is no port");
	for (size_t i = 0; i < c->port_count; i++)
		if (c->ports[i].other == NULL)
			config_fail(c, c->ports[i].line, "port '%s' is not connected", c->ports[i].name);
	for (size_t i = 0; i < c->group_count; i++) {
		eesp_root_key_info info;
		bool any = false;
		for (int level = 0; level < EESP_LEVEL_COUNT; level++)
			any |= eesp_group_get_root_key_info(c->groups[i].handle, level, &info) == EESP_OK;
		if (!any)
			config_fail(c, c->groups[i].line, "group '%s' has no root key", c->groups[i].name);
	}
}

void config_read(struct config *c, const char *path)
{
	char text[1024];
	unsigned seen[STATEMENTS] = { 0 };
	*c = (struct config){ .path = path, .stats = 1, .keep_warm = true, .lock_dir = "/run/eesp" };
	FILE *f = fopen(path, "re");
	if (f == NULL)
		die("%s: %s", path, strerror(errno));
	struct line l = { .config = c };
	while (fgets(text, sizeof text, f) != NULL) {
		l.number++;
		l.count = 0;
		if (strchr(text, '\n') == NULL && !feof(f))
			fail(&l, "longer than %zu characters", sizeof text - 2);
		text[strcspn(text, "#")] = '\0';
		char *rest = text, *word;
		while ((word = strtok_r(rest, SPACE, &rest)) != NULL) {
			if (l.count == MAX_WORDS)
				fail(&l, "more than %d words", MAX_WORDS);
			l.word[l.count++] = word;
		}
		if (l.count != 0)
			read_line(&l, seen);
	}
	if (ferror(f))
		die("%s: %s", path, strerror(errno));
	fclose(f);
	check_whole(c);
}
