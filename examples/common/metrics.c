/* SPDX-License-Identifier: BSD-3-Clause */
/* What a gateway counts, as OpenMetrics: over HTTP on a Unix socket or a port, and as a command. */
#include "gw.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define N(n) ((unsigned long long)(n))

static const char *refusal(int status)
{
	return status == 0 ? "inside is a network of another peer" : eesp_strerror(-status);
}

static void head(FILE *to, const char *name, const char *type, const char *help)
{
	fprintf(to, "# TYPE %s %s\n# HELP %s %s\n", name, type, name, help);
}

static void peers(const struct gw *g, FILE *to)
{
	static struct gw_sums s[GW_MAX_PEERS]; /* static: only one thread answers */
	char text[GW_ADDRESS_TEXT];
	for (size_t i = 0; i < g->peer_count; i++)
		gw_sum(g, &g->peers[i], &s[i]);
	head(to, "eesp_gateway_packets", "counter", "Packets that were sealed for, or opened from a peer.");
	for (size_t i = 0; i < g->peer_count; i++)
		fprintf(to, "eesp_gateway_packets_total{peer=\"%s\",what=\"sealed\"} %llu\n"
			    "eesp_gateway_packets_total{peer=\"%s\",what=\"opened\"} %llu\n",
			g->peers[i].name, N(s[i].sealed), g->peers[i].name, N(s[i].opened));
	head(to, "eesp_gateway_octets", "counter", "Octets of these.");
	for (size_t i = 0; i < g->peer_count; i++)
		fprintf(to, "eesp_gateway_octets_total{peer=\"%s\",what=\"sealed\"} %llu\n"
			    "eesp_gateway_octets_total{peer=\"%s\",what=\"opened\"} %llu\n",
			g->peers[i].name, N(s[i].sealed_octets), g->peers[i].name, N(s[i].opened_octets));
	head(to, "eesp_gateway_refused", "counter", "Packets that were not, by reason.");
	for (size_t i = 0; i < g->peer_count; i++)
		for (int n = 0; n < EESP_STATUS_COUNT; n++)
			if (s[i].refused[n] != 0)
				fprintf(to, "eesp_gateway_refused_total{peer=\"%s\",address=\"%s\",status=\"%d\","
					    "reason=\"%s\"} %llu\n",
					g->peers[i].name, gw_text(g->peers[i].address, text), -n, refusal(n),
					N(s[i].refused[n]));
}

static void strangers(struct gw *g, FILE *to)
{
	char text[GW_ADDRESS_TEXT];
	head(to, "eesp_gateway_strangers", "counter", "Packets from addresses that are no peer's.");
	pthread_mutex_lock(&g->strangers.lock);
	for (size_t i = 0; i < g->strangers.count; i++)
		fprintf(to, "eesp_gateway_strangers_total{address=\"%s\"} %llu\n",
			gw_text(g->strangers.seen[i].address, text), N(g->strangers.seen[i].packets));
	pthread_mutex_unlock(&g->strangers.lock);
	fprintf(to, "eesp_gateway_strangers_total{address=\"others\"} %llu\n", N(atomic_load(&g->strangers.others)));
}

static void replay(const struct gw *g, FILE *to)
{
	eesp_replay_stats s[GW_MAX_ENDS] = { 0 };
	for (size_t i = 0; i < g->end_count; i++)
		if (g->ends[i]->receiver != NULL && eesp_receiver_replay_stats(g->ends[i]->receiver, &s[i]) != EESP_OK)
			s[i] = (eesp_replay_stats){ 0 };
	head(to, "eesp_gateway_replay", "counter",
	     "Packets that came before, or too late, or for which there was no window.");
	for (size_t i = 0; i < g->end_count; i++)
		fprintf(to, "eesp_gateway_replay_total{end=\"%s\",what=\"duplicate\"} %llu\n"
			    "eesp_gateway_replay_total{end=\"%s\",what=\"old\"} %llu\n"
			    "eesp_gateway_replay_total{end=\"%s\",what=\"no-room\"} %llu\n",
			g->ends[i]->name, N(s[i].duplicates), g->ends[i]->name, N(s[i].old), g->ends[i]->name,
			N(s[i].no_room));
	head(to, "eesp_gateway_replay_windows", "gauge", "Replay windows in use, and how many there may be.");
	for (size_t i = 0; i < g->end_count; i++)
		fprintf(to, "eesp_gateway_replay_windows{end=\"%s\",what=\"used\"} %llu\n"
			    "eesp_gateway_replay_windows{end=\"%s\",what=\"most\"} %llu\n",
			g->ends[i]->name, N(s[i].windows), g->ends[i]->name, N(s[i].most));
}

/* One line for each number of a key. */
static void usage_of(FILE *to, const struct gw_group *g, const char *where, const char *generation, int level,
		     unsigned nth)
{
	eesp_usage u;
	if (eesp_group_usage(g->handle, level, nth, &u) != EESP_OK)
		return;
	const uint64_t values[] = { u.derived, u.sealed, u.opened };
	static const char *const names[] = { "derived", "sealed", "opened" };
	for (size_t i = 0; i < 3; i++)
		fprintf(to, "eesp_gateway_key_usage{group=\"%s\",key=\"%s\",generation=\"%s\",what=\"%s\"} %llu\n",
			g->name, where, generation, names[i], N(values[i]));
}

/* Gauges, not counters: after a rotation, a generation is another key. */
static void keys(const struct gw *g, FILE *to)
{
	static const char *const generations[] = { [EESP_GENERATION_CURRENT] = "current",
						   [EESP_GENERATION_PREVIOUS] = "previous",
						   [EESP_GENERATION_NEXT] = "next" };
	static const unsigned place[] = { EESP_GENERATION_PREVIOUS, EESP_GENERATION_CURRENT, EESP_GENERATION_NEXT };
	eesp_root_key_info info;
	head(to, "eesp_gateway_key_usage", "gauge",
	     "Data keys derived from, and packets sealed and opened with each key that is held.");
	for (size_t i = 0; i < g->group_count; i++) {
		const struct gw_group *group = &g->groups[i];
		const bool rings = group->config.profile == EESP_PROFILE_STATELESS;
		for (int level = 0; rings && level < EESP_LEVEL_COUNT; level++)
			for (unsigned n = 0; n < 3; n++)
				usage_of(to, group, gw_level_name(level), generations[n], level, n);
		for (int slot = 0; !rings && slot < 2; slot++)
			if (group->has_slot[slot])
				usage_of(to, group, slot == 0 ? "slot 0" : "slot 1", "", slot, 0);
	}
	head(to, "eesp_gateway_key_index", "gauge", "Index of each root key that is held.");
	for (size_t i = 0; i < g->group_count; i++)
		for (int level = 0; g->groups[i].config.profile == EESP_PROFILE_STATELESS && level < EESP_LEVEL_COUNT;
		     level++)
			if (eesp_group_get_root_key_info(g->groups[i].handle, level, &info) == EESP_OK)
				for (size_t n = 0; n < 3; n++)
					fprintf(to, "eesp_gateway_key_index{group=\"%s\",key=\"%s\",generation=\"%s\"} "
						    "%llu\n",
						g->groups[i].name, gw_level_name(level), generations[place[n]],
						N(info.index[n]));
}

void gw_metric(FILE *to, const char *name, const char *type, const char *help)
{
	head(to, name, type, help);
}

void gw_metrics(struct gw *g, FILE *to)
{
	head(to, "eesp_gateway_start_time_seconds", "gauge", "When it was started, seconds since 1970.");
	fprintf(to, "eesp_gateway_start_time_seconds %lld\n", (long long)g->since);
	peers(g, to);
	strangers(g, to);
	replay(g, to);
	keys(g, to);
	if (g->metrics_of_program != NULL)
		g->metrics_of_program(g, to);
	fputs("# EOF\n", to);
}

/* ---- HTTP ------------------------------------------------------------------------- */

int gw_metrics_open(struct gw *g)
{
	struct sockaddr_in port = { .sin_family = AF_INET };
	const int on = 1;
	char *end;
	if (g->metrics[0] == '\0')
		return -1;
	/* A number alone is a port of this host's, for whoever is on it. */
	unsigned long number = strtoul(g->metrics, &end, 10);
	if (*end != '\0')
		return gw_listen("metrics: ", g->metrics);
	if (number == 0 || number > 65535)
		die("metrics: %s is not a port", g->metrics);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	port.sin_port = htons((uint16_t)number);
	port.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (listener >= 0)
		setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (listener < 0 || bind(listener, (struct sockaddr *)&port, sizeof port) != 0 || listen(listener, 4) != 0)
		die("metrics: %s: %s", g->metrics, strerror(errno));
	return listener;
}

void gw_metrics_serve(struct gw *g, int listener)
{
	char request[2048], *answer = NULL;
	size_t answer_len = 0;
	int fd = gw_accept(listener);
	if (fd < 0)
		return;
	gw_request(fd, request, sizeof request, "\r\n\r\n");
	const bool good = strncmp(request, "GET /metrics ", 13) == 0;
	FILE *to = open_memstream(&answer, &answer_len);
	if (to != NULL) {
		fprintf(to, "HTTP/1.0 %s\r\nContent-Type: %s\r\nConnection: close\r\n\r\n",
			good ? "200 OK" : "404 Not Found",
			good ? "application/openmetrics-text; version=1.0.0; charset=utf-8" : "text/plain");
		if (good)
			gw_metrics(g, to);
		else
			fputs("GET /metrics is what there is\n", to);
		fclose(to);
	}
	gw_answer(fd, answer, answer_len);
}

void gw_metrics_close(struct gw *g, int listener)
{
	if (listener >= 0) {
		close(listener);
		if (strchr(g->metrics, '/') != NULL)
			unlink(g->metrics);
	}
}
