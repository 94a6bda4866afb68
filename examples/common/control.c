/* SPDX-License-Identifier: BSD-3-Clause */
/* Commands on a Unix socket. One line comes in, an answer goes out. */
#define _GNU_SOURCE /* accept4 */
#include "gw.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define MAX_COMMAND 1280

atomic_bool gw_stop;

void gw_refuse(struct gw_command *c, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	fputs("error: ", c->answer);
	vfprintf(c->answer, format, args);
	fputc('\n', c->answer);
	va_end(args);
}

static void finish(struct gw_command *c, bool good, const char *why)
{
	if (good)
		fputs("ok\n", c->answer);
	else
		gw_refuse(c, "%s", why);
}

static void finish_status(struct gw_command *c, eesp_status status)
{
	if (status != EESP_OK)
		gw_refuse(c, "%s (%s)", eesp_strerror(status), eesp_last_error());
	else
		fputs("ok\n", c->answer);
}

#define N(n) ((unsigned long long)(n))

static const char *refusal(int status)
{
	return status == 0 ? "inside is a network of another peer" : eesp_strerror(-status);
}

/* ---- What is going on ------------------------------------------------------------ */

void gw_show_status(struct gw_command *c)
{
	const struct gw *g = c->gw;
	char text[GW_ADDRESS_TEXT];
	fprintf(c->answer, "gateway %s backend %s seconds %llu\n", gw_program, eesp_backend_name(),
		N(time(NULL) - g->since));
	for (size_t i = 0; i < g->end_count; i++) {
		const struct gw_end *e = g->ends[i];
		eesp_replay_stats replay;
		fprintf(c->answer, "end %s address %s port %u profile %s", e->name, gw_text(e->address, text),
			e->udp_port, gw_profile_name(e->profile));
		if (e->receiver != NULL && eesp_receiver_replay_stats(e->receiver, &replay) == EESP_OK)
			fprintf(c->answer, " windows %llu of %llu window %u duplicates %llu old %llu no-room %llu",
				N(replay.windows), N(replay.most), e->replay_window, N(replay.duplicates),
				N(replay.old), N(replay.no_room));
		fputc('\n', c->answer);
	}
	for (size_t i = 0; i < g->peer_count; i++) {
		const struct gw_peer *p = &g->peers[i];
		const struct gw_group *send = p->send;
		struct gw_sums s;
		gw_sum(g, p, &s);
		fprintf(c->answer, "peer %s address %s send %s receive %s sealed %llu opened %llu octets-sealed %llu "
				   "octets-opened %llu\n",
			p->name, gw_text(p->address, text), send != NULL ? send->name : "data-key", p->receive->name,
			N(s.sealed), N(s.opened), N(s.sealed_octets), N(s.opened_octets));
		for (int n = 0; n < EESP_STATUS_COUNT; n++)
			if (s.refused[n] != 0)
				fprintf(c->answer, "peer %s refused %llu: %s\n", p->name, N(s.refused[n]), refusal(n));
	}
	struct gw *unlocked = c->gw;
	pthread_mutex_lock(&unlocked->strangers.lock);
	for (size_t i = 0; i < g->strangers.count; i++)
		fprintf(c->answer, "stranger %s refused %llu: no peer has that address\n",
			gw_text(g->strangers.seen[i].address, text), N(g->strangers.seen[i].packets));
	pthread_mutex_unlock(&unlocked->strangers.lock);
	uint64_t others = atomic_load(&g->strangers.others);
	if (others != 0)
		fprintf(c->answer, "stranger others refused %llu: no peer has that address\n", N(others));
}

static void show_keys(struct gw_command *c)
{
	for (size_t i = 0; i < c->gw->group_count; i++) {
		const struct gw_group *g = &c->gw->groups[i];
		eesp_root_key_info info;
		eesp_domain_stats domain;
		for (int level = 0; g->config.profile == EESP_PROFILE_STATELESS && level < EESP_LEVEL_COUNT; level++)
			if (eesp_group_get_root_key_info(g->handle, level, &info) == EESP_OK)
				fprintf(c->answer, "%s %s previous %llu current %llu next %llu\n", g->name,
					gw_level_name(level), N(info.index[0]), N(info.index[1]), N(info.index[2]));
		if (g->config.profile == EESP_PROFILE_STATELESS)
			continue;
		for (unsigned slot = 0; slot < 2; slot++)
			if (g->has_slot[slot])
				fprintf(c->answer, "%s slot %u%s\n", g->name, slot, slot == g->slot ? " in use" : "");
		if (g->config.profile == EESP_PROFILE_TSS && eesp_group_domain_stats(g->handle, &domain) == EESP_OK)
			fprintf(c->answer, "%s epoch %llu\n", g->name, N(domain.epoch));
	}
}

/* ---- Keys that change --------------------------------------------------------------- */

static struct gw_group *the_group(struct gw_command *c, bool slots)
{
	struct gw_group *g = gw_find_group(c->gw, c->word[1]);
	if (g == NULL)
		gw_refuse(c, "no group '%s'", c->word[1]);
	else if ((g->config.profile != EESP_PROFILE_STATELESS) != slots)
		gw_refuse(c, "group '%s' is of profile %s: its keys are %s", g->name,
			  gw_profile_name(g->config.profile),
			  slots ? "at levels (rotate, save)" : "in slots (key, use)");
	else
		return g;
	return NULL;
}

static bool the_level(struct gw_command *c, int *level)
{
	*level = gw_level(c->word[2]);
	if (*level < 0)
		gw_refuse(c, "'%s' is not zone, user or task", c->word[2]);
	return *level >= 0;
}

static bool the_number(struct gw_command *c, const char *word, const char *what, unsigned long long most,
		       unsigned long long *n)
{
	char *end;
	errno = 0;
	*n = strtoull(word, &end, 10);
	bool good = word[0] >= '0' && word[0] <= '9' && *end == '\0' && errno == 0 && *n <= most;
	if (!good)
		gw_refuse(c, "'%s' is not %s", word, what);
	return good;
}

static void rotate(struct gw_command *c)
{
	unsigned long long index;
	char why[GW_MAX_PATH];
	int level;
	uint8_t value[EESP_ROOT_KEY_LEN + 1]; /* one more, to notice a longer file */
	struct gw_group *g = the_group(c, false);
	if (g == NULL || !the_level(c, &level) || !the_number(c, c->word[3], "an index", UINT64_MAX, &index))
		return;
	int len = gw_read_secret(c->word[4], value, sizeof value, why);
	if (len < 0)
		gw_refuse(c, "%s", why);
	else if (len != EESP_ROOT_KEY_LEN)
		gw_refuse(c, "%s: does not have %d octets", c->word[4], EESP_ROOT_KEY_LEN);
	else
		finish_status(c, eesp_group_rotate(g->handle, level, index, value));
	explicit_bzero(value, sizeof value);
}

/* Saves root keys after rotations: a gateway that starts again needs these. */
static void save(struct gw_command *c)
{
	int level;
	uint8_t der[GW_MAX_SECRET];
	size_t len = sizeof der;
	struct gw_group *g = the_group(c, false);
	if (g == NULL || !the_level(c, &level))
		return;
	eesp_status status = eesp_group_get_root_key_der(g->handle, level, der, &len);
	if (status == EESP_OK && gw_write_secret(c->word[3], der, len, true) != 0)
		gw_refuse(c, "%s: %s", c->word[3], strerror(errno));
	else
		finish_status(c, status);
	explicit_bzero(der, sizeof der);
}

/* Returns the group and the slot that a command names; NULL: the command was refused. */
static struct gw_group *the_slot(struct gw_command *c, unsigned *slot)
{
	unsigned long long number;
	struct gw_group *g = the_group(c, true);
	if (g == NULL || !the_number(c, c->word[2], "a slot", 1, &number))
		return NULL;
	*slot = (unsigned)number;
	return g;
}

static void set_key(struct gw_command *c)
{
	unsigned slot;
	char why[GW_MAX_PATH];
	struct gw_group *g = the_slot(c, &slot);
	if (g != NULL)
		finish(c, gw_load_key(g, slot, c->word[3], why), why);
}

static void use_key(struct gw_command *c)
{
	unsigned slot;
	struct gw_group *g = the_slot(c, &slot);
	if (g == NULL)
		return;
	eesp_status status = eesp_group_use_key(g->handle, slot);
	if (status == EESP_OK)
		g->slot = slot;
	finish_status(c, status);
}

static void drop_key(struct gw_command *c)
{
	unsigned slot;
	struct gw_group *g = the_slot(c, &slot);
	if (g == NULL)
		return;
	eesp_status status = eesp_group_remove_key(g->handle, slot);
	if (status == EESP_OK)
		g->has_slot[slot] = false;
	finish_status(c, status);
}

static void set_epoch(struct gw_command *c)
{
	unsigned long long epoch;
	struct gw_group *g = the_group(c, true);
	if (g != NULL && the_number(c, c->word[2], "an epoch", UINT16_MAX, &epoch))
		finish_status(c, eesp_group_set_epoch(g->handle, (uint16_t)epoch));
}

static struct gw_peer *the_peer(struct gw_command *c)
{
	struct gw_peer *p = gw_find_peer(c->gw, c->word[1]);
	if (p == NULL)
		gw_refuse(c, "no peer '%s'", c->word[1]);
	return p;
}

static void send_key(struct gw_command *c)
{
	char why[GW_MAX_PATH];
	struct gw_peer *p = the_peer(c);
	if (p != NULL)
		finish(c, gw_send_key(c->gw, p, c->word[2], why), why);
}

static void send_group(struct gw_command *c)
{
	char why[GW_MAX_PATH];
	struct gw_peer *p = the_peer(c);
	struct gw_group *g = gw_find_group(c->gw, c->word[2]);
	if (p != NULL && g == NULL)
		gw_refuse(c, "no group '%s'", c->word[2]);
	else if (p != NULL)
		finish(c, gw_send_group(c->gw, p, g, why), why);
}

static void show_metrics(struct gw_command *c) { gw_metrics(c->gw, c->answer); }

static void stop_gateway(struct gw_command *c)
{
	atomic_store(&gw_stop, true);
	finish(c, true, NULL);
}

/* ---- Words to commands ------------------------------------------------------------------ */

static void help(struct gw_command *c);

static const struct gw_verb common[] = {
	{ "status", 1, 1, gw_show_status, "" },
	{ "keys", 1, 1, show_keys, "" },
	{ "rotate", 5, 5, rotate, " GROUP LEVEL INDEX FILE" },
	{ "save", 4, 4, save, " GROUP LEVEL FILE" },
	{ "key", 4, 4, set_key, " GROUP SLOT FILE" },
	{ "use", 3, 3, use_key, " GROUP SLOT" },
	{ "drop", 3, 3, drop_key, " GROUP SLOT" },
	{ "epoch", 3, 3, set_epoch, " GROUP EPOCH" },
	{ "send-key", 3, 3, send_key, " PEER FILE" },
	{ "send", 3, 3, send_group, " PEER GROUP" },
	{ "metrics", 1, 1, show_metrics, "" },
	{ "stop", 1, 1, stop_gateway, "" },
	{ "help", 1, 1, help, "" },
	{ 0 },
};

static void help(struct gw_command *c)
{
	for (const struct gw_verb *v = common; v->name != NULL; v++)
		fprintf(c->answer, "%s%s\n", v->name, v->usage);
}

static const struct gw_verb *find_verb(const struct gw_verb *from, const char *name)
{
	while (from != NULL && from->name != NULL && strcmp(from->name, name) != 0)
		from++;
	return from != NULL && from->name != NULL ? from : NULL;
}

static void run_command(struct gw_command *c, char *line, const struct gw_verb *own)
{
	char *word;
	while ((word = strtok_r(line, " \t\r\n", &line)) != NULL) {
		if (c->count == GW_MAX_WORDS) {
			gw_refuse(c, "too many words");
			return;
		}
		c->word[c->count++] = word;
	}
	const char *name = c->count != 0 ? c->word[0] : "";
	const struct gw_verb *v = find_verb(common, name);
	if (v == NULL)
		v = find_verb(own, name);
	if (v == NULL) {
		gw_refuse(c, "'%s' is not a command; help lists the commands", name);
		return;
	}
	if (c->count >= v->min && c->count <= v->max)
		v->run(c);
	else
		gw_refuse(c, "usage: %s%s", v->name, v->usage);
	for (v = own; strcmp(name, "help") == 0 && v != NULL && v->name != NULL; v++)
		fprintf(c->answer, "%s%s\n", v->name, v->usage);
}

/* ---- The socket ---------------------------------------------------------------------------- */

static void set_address(struct sockaddr_un *a, const char *path)
{
	*a = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (strlen(path) >= sizeof a->sun_path)
		die("%s: the path is too long for a socket", path);
	strcpy(a->sun_path, path);
}

static int connect_to(const char *path)
{
	struct sockaddr_un a;
	set_address(&a, path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a) != 0) {
		int error = errno;
		close(fd);
		errno = error;
		return -1;
	}
	return fd;
}

int gw_listen(const char *what, const char *path)
{
	struct sockaddr_un a;
	struct stat st;
	if (connect_to(path) >= 0)
		die("%s%s: another gateway is running", what, path);
	if (errno == ECONNREFUSED && lstat(path, &st) == 0 && S_ISSOCK(st.st_mode))
		unlink(path); /* left by a gateway that was killed */
	set_address(&a, path);
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	mode_t mask = umask(077);
	if (listener < 0 || bind(listener, (struct sockaddr *)&a, sizeof a) != 0 || listen(listener, 4) != 0)
		die("%s%s: %s", what, path, strerror(errno));
	umask(mask);
	return listener;
}

int gw_accept(int listener)
{
	const struct timeval patience = { .tv_sec = 1 };
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (fd >= 0) {
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
	}
	return fd;
}

bool gw_request(int fd, char *to, size_t size, const char *end)
{
	size_t len = 0;
	ssize_t n;
	to[0] = '\0';
	while (len < size - 1 && strstr(to, end) == NULL && (n = read(fd, to + len, size - 1 - len)) > 0) {
		len += (size_t)n;
		to[len] = '\0';
	}
	return strstr(to, end) != NULL;
}

void gw_answer(int fd, char *text, size_t len)
{
	ssize_t n;
	for (size_t at = 0; at < len && (n = send(fd, text + at, len - at, MSG_NOSIGNAL)) > 0;)
		at += (size_t)n;
	free(text);
	close(fd);
}

int gw_control_open(struct gw *g) { return g->control[0] == '\0' ? -1 : gw_listen("", g->control); }

void gw_control_serve(struct gw *g, int listener, const struct gw_verb *verbs)
{
	char line[MAX_COMMAND], *answer = NULL;
	size_t answer_len = 0;
	int fd = gw_accept(listener);
	if (fd < 0)
		return;
	const bool whole = gw_request(fd, line, sizeof line, "\n");
	struct gw_command c = { .gw = g, .answer = open_memstream(&answer, &answer_len) };
	if (c.answer != NULL) {
		if (whole)
			run_command(&c, line, verbs);
		else
			gw_refuse(&c, "a command ends with a newline and has at most %d characters", MAX_COMMAND - 2);
		fclose(c.answer);
	}
	gw_answer(fd, answer, answer_len);
}

void gw_control_close(struct gw *g, int listener)
{
	if (listener >= 0) {
		close(listener);
		unlink(g->control);
	}
}

int gw_control_client(const char *path, char *const *words, int count)
{
	char answer[4096], first[8] = "";
	size_t got = 0;
	ssize_t n;
	int fd = connect_to(path);
	if (fd < 0)
		die("%s: %s", path, strerror(errno));
	for (int i = 0; i < count; i++)
		dprintf(fd, "%s%s", words[i], i + 1 < count ? " " : "\n");
	while ((n = read(fd, answer, sizeof answer)) > 0) {
		for (ssize_t i = 0; i < n && got < sizeof first - 1; i++)
			first[got++] = answer[i];
		fwrite(answer, 1, (size_t)n, stdout);
	}
	if (n < 0 || got == 0)
		die("%s: no answer", path);
	close(fd);
	return strncmp(first, "error: ", 7) == 0;
}
