/* SPDX-License-Identifier: BSD-3-Clause */
/* Commands on a Unix socket, and statistics. One line comes in, an answer goes out. */
#define _GNU_SOURCE /* accept4 */
#include "eesp_gw.h"

#include <errno.h>
#include <poll.h>
#include <rte_cycles.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define MAX_COMMAND 1280
#define MAX_ARGUMENTS 5

/* All workers' counters of one lane. */
struct sums {
	uint64_t rx, tx, bursts, chained, cycles, library, wakes, wake_cycles;
	uint64_t drops[DROP_COUNT];
	uint64_t status[EESP_STATUS_COUNT];
};

static uint64_t read_counter(const counter *c)
{
	return atomic_load_explicit(c, memory_order_relaxed);
}

static void add_statuses(struct sums *s, eesp_status got, const eesp_stats *stats)
{
	for (int i = 1; got == EESP_OK && i < EESP_STATUS_COUNT; i++)
		s->status[i] += stats->packets[i];
}

static void sum_lane(const struct control *k, size_t lane, struct sums *s)
{
	*s = (struct sums){ 0 };
	for (size_t i = 0; i < k->worker_count; i++) {
		const struct lane *l = &k->workers[i]->lanes[lane];
		eesp_stats stats;
		s->rx += read_counter(&l->rx);
		s->tx += read_counter(&l->tx);
		s->bursts += read_counter(&l->bursts);
		s->chained += read_counter(&l->chained);
		s->cycles += read_counter(&l->cycles);
		s->library += read_counter(&l->library);
		s->wakes += read_counter(&l->wakes);
		s->wake_cycles += read_counter(&l->wake_cycles);
		for (int d = 0; d < DROP_COUNT; d++)
			s->drops[d] += read_counter(&l->drops[d]);
		if (l->sender != NULL)
			add_statuses(s, eesp_sender_stats(l->sender, &stats), &stats);
	}
	eesp_receiver *receiver = k->config->ports[lane].receiver; /* all workers' */
	eesp_stats stats;
	if (receiver != NULL)
		add_statuses(s, eesp_receiver_stats(receiver, &stats), &stats);
}

static uint64_t dropped(const struct sums *s)
{
	uint64_t n = 0;
	for (int i = 0; i < DROP_COUNT; i++)
		n += s->drops[i];
	for (int i = 1; i < EESP_STATUS_COUNT; i++)
		n += s->status[i];
	return n;
}

static void print_lane_name(FILE *to, const struct control *k, size_t lane)
{
	const struct port *from = &k->config->ports[lane];
	fprintf(to, "%s>%s", from->name, from->other->name);
}

static double ratio(uint64_t a, uint64_t b)
{
	return b != 0 ? (double)a / (double)b : 0;
}

/* What happened since the last time, a line for each lane that had traffic. */
static void print_interval(const struct control *k, struct sums *last, double seconds)
{
	for (size_t i = 0; i < k->config->port_count; i++) {
		struct sums s;
		sum_lane(k, i, &s);
		uint64_t rx = s.rx - last[i].rx;
		if (rx != 0) {
			print_lane_name(stdout, k, i);
			printf(": %.0f rx/s, %.0f tx/s, %llu dropped, ", (double)rx / seconds,
			       (double)(s.tx - last[i].tx) / seconds,
			       (unsigned long long)(dropped(&s) - dropped(&last[i])));
			printf("%.0f cycles a packet (%.0f in the library), %.1f packets a burst\n",
			       ratio(s.cycles - last[i].cycles, rx), ratio(s.library - last[i].library, rx),
			       ratio(rx, s.bursts - last[i].bursts));
		}
		last[i] = s;
	}
	fflush(stdout);
}

/* ---- Commands -------------------------------------------------------------- */

struct command {
	const struct control *control;
	int count;
	char *word[MAX_ARGUMENTS];
	FILE *answer;
};

__attribute__((format(printf, 2, 3))) static void refuse(struct command *c, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	fputs("error: ", c->answer);
	vfprintf(c->answer, format, args);
	fputc('\n', c->answer);
	va_end(args);
}

static void finish(struct command *c, eesp_status status)
{
	if (status != EESP_OK)
		refuse(c, "%s (%s)", eesp_strerror(status), eesp_last_error());
	else
		fputs("ok\n", c->answer);
}

/* Since the start: a line for each counter that is not zero. */
static void show_stats(struct command *c)
{
	for (size_t i = 0; i < c->control->config->port_count; i++) {
		struct sums s;
		sum_lane(c->control, i, &s);
		const struct {
			const char *name;
			double value;
		} rows[] = {
			{ "rx", (double)s.rx },
			{ "tx", (double)s.tx },
			{ "bursts", (double)s.bursts },
			{ "chained", (double)s.chained },
			{ "cycles-per-packet", ratio(s.cycles, s.rx) },
			{ "library-cycles-per-packet", ratio(s.library, s.rx) },
			{ "wakes", (double)s.wakes },
			{ "library-cycles-per-wake", ratio(s.wake_cycles, s.wakes) },
		};
		for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
			print_lane_name(c->answer, c->control, i);
			fprintf(c->answer, " %s %.0f\n", rows[r].name, rows[r].value);
		}
		for (int d = 0; d < DROP_COUNT; d++)
			if (s.drops[d] != 0) {
				print_lane_name(c->answer, c->control, i);
				fprintf(c->answer, " dropped %llu: %s\n", (unsigned long long)s.drops[d],
					drop_names[d]);
			}
		for (int d = 1; d < EESP_STATUS_COUNT; d++)
			if (s.status[d] != 0) {
				print_lane_name(c->answer, c->control, i);
				fprintf(c->answer, " dropped %llu: %s\n", (unsigned long long)s.status[d],
					eesp_strerror(-d));
			}
	}
}

static bool find_level(struct command *c, struct group **g, int *level)
{
	*g = config_group(c->control->config, c->word[1]);
	*level = level_number(c->word[2]);
	if (*g == NULL)
		refuse(c, "no group '%s'", c->word[1]);
	else if (*level < 0)
		refuse(c, "'%s' is none of zone, user, task", c->word[2]);
	return *g != NULL && *level >= 0;
}

static void show_keys(struct command *c)
{
	if (c->control->config->group_count == 0)
		refuse(c, "no groups");
	for (size_t i = 0; i < c->control->config->group_count; i++)
		for (int level = 0; level < EESP_LEVEL_COUNT; level++) {
			const struct group *g = &c->control->config->groups[i];
			eesp_root_key_info info;
			if (eesp_group_get_root_key_info(g->handle, level, &info) == EESP_OK)
				fprintf(c->answer, "%s %s previous %llu current %llu next %llu\n", g->name,
					level_name(level), (unsigned long long)info.index[0],
					(unsigned long long)info.index[1], (unsigned long long)info.index[2]);
		}
}

static void rotate(struct command *c)
{
	struct group *g;
	int level, len;
	char *end;
	uint8_t value[EESP_ROOT_KEY_LEN + 1]; /* a longer file is seen */
	errno = 0;
	unsigned long long index = strtoull(c->word[3], &end, 10);
	if (!find_level(c, &g, &level))
		return;
	if (c->word[3][0] < '0' || c->word[3][0] > '9' || *end != '\0' || errno != 0) {
		refuse(c, "'%s' is not an index", c->word[3]);
		return;
	}
	len = read_secret(c->word[4], value, sizeof value);
	if (len < 0)
		refuse(c, "%s: %s", c->word[4], strerror(errno));
	else if (len != EESP_ROOT_KEY_LEN)
		refuse(c, "%s: does not have %d octets", c->word[4], EESP_ROOT_KEY_LEN);
	else
		finish(c, eesp_group_rotate(g->handle, level, index, value));
	explicit_bzero(value, sizeof value);
}

/* A gateway that is started again needs the root keys of after the rotations. */
static void save(struct command *c)
{
	struct group *g;
	int level;
	uint8_t der[MAX_ROOT_KEY_DER];
	size_t len = sizeof der;
	if (!find_level(c, &g, &level))
		return;
	eesp_status status = eesp_group_get_root_key_der(g->handle, level, der, &len);
	if (status == EESP_OK && write_secret(c->word[3], der, len, true) != 0)
		refuse(c, "%s: %s", c->word[3], strerror(errno));
	else
		finish(c, status);
	explicit_bzero(der, sizeof der);
}

static void stop_gateway(struct command *c)
{
	atomic_store(&stop, true);
	finish(c, EESP_OK);
}

static const struct {
	const char *name;
	int words;
	void (*run)(struct command *c);
	const char *usage;
} commands[] = {
	{ "stats", 1, show_stats, "" },
	{ "keys", 1, show_keys, "" },
	{ "rotate", 5, rotate, " GROUP LEVEL INDEX FILE" },
	{ "save", 4, save, " GROUP LEVEL FILE" },
	{ "stop", 1, stop_gateway, "" },
};

static void run_command(struct command *c, char *line)
{
	char *word;
	while ((word = strtok_r(line, " \t\r\n", &line)) != NULL) {
		if (c->count == MAX_ARGUMENTS) {
			refuse(c, "too many words");
			return;
		}
		c->word[c->count++] = word;
	}
	for (size_t i = 0; c->count != 0 && i < sizeof commands / sizeof commands[0]; i++)
		if (strcmp(commands[i].name, c->word[0]) == 0) {
			if (c->count == commands[i].words)
				commands[i].run(c);
			else
				refuse(c, "usage: %s%s", commands[i].name, commands[i].usage);
			return;
		}
	refuse(c, "the commands are stats, keys, rotate, save, stop");
}

/* ---- The socket -------------------------------------------------------------- */

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

void control_init(struct control *k)
{
	const char *path = k->config->control;
	struct sockaddr_un a;
	k->listener = -1;
	if (path[0] == '\0')
		return;
	int other = connect_to(path);
	if (other >= 0)
		die("%s: another gateway is running", path);
	struct stat st;
	if (errno == ECONNREFUSED && lstat(path, &st) == 0 && S_ISSOCK(st.st_mode))
		unlink(path); /* of one that was killed */
	set_address(&a, path);
	k->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	mode_t mask = umask(077);
	if (k->listener < 0 || bind(k->listener, (struct sockaddr *)&a, sizeof a) != 0 || listen(k->listener, 4) != 0)
		die("%s: %s", path, strerror(errno));
	umask(mask);
}

static void serve(const struct control *k)
{
	char line[MAX_COMMAND];
	size_t len = 0;
	ssize_t n;
	int fd = accept4(k->listener, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0)
		return;
	const struct timeval patience = { .tv_sec = 1 };
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
	while (len < sizeof line - 1 && (n = read(fd, line + len, sizeof line - 1 - len)) > 0) {
		len += (size_t)n;
		if (memchr(line, '\n', len) != NULL)
			break;
	}
	line[len] = '\0';
	char *answer = NULL;
	size_t answer_len = 0;
	struct command c = { .control = k, .answer = open_memstream(&answer, &answer_len) };
	if (c.answer != NULL) {
		if (strchr(line, '\n') != NULL)
			run_command(&c, line);
		else
			refuse(&c, "a command ends with a newline and has at most %d characters", MAX_COMMAND - 2);
		fclose(c.answer);
		for (size_t at = 0; at < answer_len && (n = send(fd, answer + at, answer_len - at, MSG_NOSIGNAL)) > 0;)
			at += (size_t)n;
		free(answer);
	}
	close(fd);
}

void *control_run(void *arg)
{
	const struct control *k = arg;
	struct sums last[MAX_PORTS] = { 0 };
	struct pollfd p = { .fd = k->listener, .events = POLLIN };
	uint64_t hz = rte_get_tsc_hz(), interval = hz * k->config->stats, since = rte_rdtsc();
	while (!atomic_load(&stop)) {
		if (poll(&p, 1, 50) > 0) /* so long does stopping take, too */
			serve(k);
		uint64_t now = rte_rdtsc();
		if (interval != 0 && now - since >= interval) {
			print_interval(k, last, (double)(now - since) / (double)hz);
			since = now;
		}
	}
	if (k->listener >= 0) {
		close(k->listener);
		unlink(k->config->control);
	}
	return NULL;
}

int control_client(const char *path, char *const *words, int count)
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
