/* SPDX-License-Identifier: BSD-3-Clause */
/* Statistics, and the thread that answers commands. */
#include "eesp_gw.h"

#include <poll.h>
#include <rte_cycles.h>
#include <rte_telemetry.h>
#include <stdio.h>
#include <string.h>

/* The sums of all workers' counters for one lane. */
struct sums {
	uint64_t rx, tx, bursts, chained, cycles, library, wakes, wake_cycles;
	uint64_t drops[DROP_COUNT];
	uint64_t status[EESP_STATUS_COUNT];
};

static uint64_t read_counter(const counter *c)
{
	return atomic_load_explicit(c, memory_order_relaxed);
}

static void sum_lane(const struct control *k, size_t lane, struct sums *s)
{
	*s = (struct sums){ 0 };
	for (size_t i = 0; i < k->worker_count; i++) {
		const struct lane *l = &k->workers[i]->lanes[lane];
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
		for (int n = 1; n < EESP_STATUS_COUNT; n++)
			s->status[n] += read_counter(&l->refused[n]);
	}
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

static const struct config *config_of(const struct control *k) { return k->gw->program; }

static void print_lane_name(FILE *to, const struct control *k, size_t lane)
{
	const struct port *from = &config_of(k)->ports[lane];
	fprintf(to, "%s>%s", from->end.name, from->other->end.name);
}

static double ratio(uint64_t a, uint64_t b)
{
	return b != 0 ? (double)a / (double)b : 0;
}

/* Prints counts since the last call, a line for each lane with traffic. */
static void print_interval(const struct control *k, struct sums *last, double seconds)
{
	for (size_t i = 0; i < config_of(k)->port_count; i++) {
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

static const struct control *the_control; /* its statistics are shown by a command */

/* Prints counts since the start: a line for each counter that is not zero. */
static void show_stats(struct gw_command *c)
{
	const struct control *k = the_control;
	for (size_t i = 0; i < config_of(k)->port_count; i++) {
		struct sums s;
		sum_lane(k, i, &s);
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
			print_lane_name(c->answer, k, i);
			fprintf(c->answer, " %s %.0f\n", rows[r].name, rows[r].value);
		}
		for (int d = 0; d < DROP_COUNT; d++)
			if (s.drops[d] != 0) {
				print_lane_name(c->answer, k, i);
				fprintf(c->answer, " dropped %llu: %s\n", (unsigned long long)s.drops[d],
					drop_names[d]);
			}
		for (int d = 1; d < EESP_STATUS_COUNT; d++)
			if (s.status[d] != 0) {
				print_lane_name(c->answer, k, i);
				fprintf(c->answer, " dropped %llu: %s\n", (unsigned long long)s.status[d],
					eesp_strerror(-d));
			}
	}
}

/* The lanes' counters. Look at cycles per packet, and at packets per burst. */
static void own_metrics(struct gw *g, FILE *to)
{
	static struct sums s[MAX_PORTS]; /* static: only one thread answers */
	const struct control *k = the_control;
	const struct config *c = g->program;
	for (size_t i = 0; i < c->port_count; i++)
		sum_lane(k, i, &s[i]);
	const struct {
		const char *name, *help;
		size_t at;
	} rows[] = {
		{ "eesp_gateway_lane_received", "Frames that came in, by direction.", offsetof(struct sums, rx) },
		{ "eesp_gateway_lane_sent", "Frames that went out.", offsetof(struct sums, tx) },
		{ "eesp_gateway_lane_bursts", "Bursts that had frames.", offsetof(struct sums, bursts) },
		{ "eesp_gateway_lane_chained", "Packets in chains of mbufs.", offsetof(struct sums, chained) },
		{ "eesp_gateway_lane_cycles", "CPU cycles of these bursts.", offsetof(struct sums, cycles) },
		{ "eesp_gateway_lane_library_cycles", "Of these, in the library.", offsetof(struct sums, library) },
	};
	for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
		gw_metric(to, rows[r].name, "counter", rows[r].help);
		for (size_t i = 0; i < c->port_count; i++) {
			uint64_t n;
			memcpy(&n, (const char *)&s[i] + rows[r].at, sizeof n);
			fprintf(to, "%s_total{lane=\"", rows[r].name);
			print_lane_name(to, k, i);
			fprintf(to, "\"} %llu\n", (unsigned long long)n);
		}
	}
	gw_metric(to, "eesp_gateway_dropped", "counter", "Packets that the gateway itself dropped, by reason.");
	for (size_t i = 0; i < c->port_count; i++)
		for (int d = 0; d < DROP_COUNT; d++) {
			fputs("eesp_gateway_dropped_total{lane=\"", to);
			print_lane_name(to, k, i);
			fprintf(to, "\",reason=\"%s\"} %llu\n", drop_names[d], (unsigned long long)s[i].drops[d]);
		}
}

/* ---- DPDK's telemetry: /eesp/peers, and /eesp/peer,NAME -------------------------- */

static int telemetry_peers(const char *command, const char *parameter, struct rte_tel_data *d)
{
	const struct gw *g = the_control->gw;
	(void)command, (void)parameter;
	rte_tel_data_start_array(d, RTE_TEL_STRING_VAL);
	for (size_t i = 0; i < g->peer_count; i++)
		rte_tel_data_add_array_string(d, g->peers[i].name);
	return 0;
}

static int telemetry_peer(const char *command, const char *parameter, struct rte_tel_data *d)
{
	struct gw *g = the_control->gw;
	const struct gw_peer *p = parameter != NULL ? gw_find_peer(g, parameter) : NULL;
	struct gw_sums s;
	(void)command;
	if (p == NULL)
		return -1;
	gw_sum(g, p, &s);
	rte_tel_data_start_dict(d);
	rte_tel_data_add_dict_u64(d, "sealed", s.sealed);
	rte_tel_data_add_dict_u64(d, "sealed_octets", s.sealed_octets);
	rte_tel_data_add_dict_u64(d, "opened", s.opened);
	rte_tel_data_add_dict_u64(d, "opened_octets", s.opened_octets);
	for (int n = 1; n < EESP_STATUS_COUNT; n++)
		if (s.refused[n] != 0) {
			char name[16];
			snprintf(name, sizeof name, "refused_%d", n);
			rte_tel_data_add_dict_u64(d, name, s.refused[n]);
		}
	return 0;
}

static const struct gw_verb verbs[] = { { "stats", 1, 1, show_stats, "" }, { 0 } };

void *control_run(void *arg)
{
	const struct control *k = the_control = arg;
	struct sums last[MAX_PORTS] = { 0 };
	struct pollfd fds[] = { { k->listener, POLLIN, 0 }, { k->metrics, POLLIN, 0 } };
	uint64_t hz = rte_get_tsc_hz(), interval = hz * k->gw->stats, since = rte_rdtsc();
	k->gw->metrics_of_program = own_metrics;
	rte_telemetry_register_cmd("/eesp/peers", telemetry_peers, "Names of the peers. No parameters.");
	rte_telemetry_register_cmd("/eesp/peer", telemetry_peer,
				   "Counters of a peer; refused_N: by status -N. Parameter: its name.");
	while (!atomic_load(&gw_stop)) {
		if (poll(fds, 2, 50) > 0) { /* stopping may take 50 ms, too */
			if (fds[0].revents != 0)
				gw_control_serve(k->gw, k->listener, verbs);
			if (fds[1].revents != 0)
				gw_metrics_serve(k->gw, k->metrics);
		}
		uint64_t now = rte_rdtsc();
		if (interval != 0 && now - since >= interval) {
			print_interval(k, last, (double)(now - since) / (double)hz);
			since = now;
		}
	}
	gw_metrics_close(k->gw, k->metrics);
	gw_control_close(k->gw, k->listener);
	return NULL;
}
