/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The benchmark: libeesp through its C ABI beside other libraries that do the
 * same work, on the same inputs, in the same run. See docs/performance.md.
 */
#define _GNU_SOURCE
#include "packets.h"
#include <dlfcn.h>
#include <eesp.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_PEERS 16

static cpu_set_t process_cpus;

unsigned cpu_count(void)
{
	return (unsigned)CPU_COUNT(&process_cpus);
}

void pin(unsigned cpu)
{
	cpu_set_t one;
	unsigned seen = 0;
	for (int i = 0; i < CPU_SETSIZE; i++) {
		if (CPU_ISSET(i, &process_cpus) && seen++ == cpu % cpu_count()) {
			CPU_ZERO(&one);
			CPU_SET(i, &one);
			sched_setaffinity(0, sizeof one, &one);
			return;
		}
	}
}

void unpin(void)
{
	sched_setaffinity(0, sizeof process_cpus, &process_cpus);
}

/* ---- One round ---- */

/* What two readings of the clock take with nothing between them. */
static double clock_ns(void)
{
	double least = 1e9;
	for (int i = 0; i < 1000; i++) {
		double begin = now_ns(), t = now_ns() - begin;
		least = t < least ? t : least;
	}
	return least;
}

/* Each pass is timed by itself, and new packets are made before it. */
static double renewed_ns(const struct peer *p, void *state, unsigned passes)
{
	static double clock;
	double sum = 0;
	if (!clock)
		clock = clock_ns();
	for (unsigned i = 0; i < passes; i++) {
		p->renew(state);
		double begin = now_ns();
		p->pass(state);
		sum += now_ns() - begin - clock;
	}
	return sum;
}

struct crew {
	const struct peer *peer;
	void **states;
	unsigned threads, passes;
	bool renewed;
	double ns[MAX_THREADS];
	atomic_uint ready, done;
	atomic_bool go;
};
struct member {
	struct crew *crew;
	unsigned index;
};

static void *member_main(void *argument)
{
	struct member *m = argument;
	struct crew *c = m->crew;
	pin(cpu_count() - 1 + m->index);
	if (c->renewed)
		c->peer->renew(c->states[m->index]);
	c->peer->pass(c->states[m->index]);
	atomic_fetch_add(&c->ready, 1);
	while (!atomic_load(&c->go))
		;
	if (c->renewed)
		c->ns[m->index] = renewed_ns(c->peer, c->states[m->index], c->passes);
	else
		for (unsigned i = 0; i < c->passes; i++)
			c->peer->pass(c->states[m->index]);
	atomic_fetch_add(&c->done, 1);
	return NULL;
}

/* Time of so many passes by every thread, each over its own set; after one to warm up. */
static double round_ns(const struct peer *p, const struct config *config, void **states, unsigned passes)
{
	unsigned threads = config->threads;
	if (p->remote)
		return go_round(passes);
	struct crew c = { .peer = p, .states = states, .threads = threads, .passes = passes,
			  .renewed = renewed(config) };
	pthread_t thread[MAX_THREADS];
	struct member m[MAX_THREADS];
	for (unsigned i = 1; i < threads; i++) {
		m[i] = (struct member){ &c, i };
		if ((errno = pthread_create(&thread[i], NULL, member_main, &m[i])))
			die("pthread_create: %s", strerror(errno));
	}
	if (c.renewed)
		p->renew(states[0]);
	p->pass(states[0]);
	while (atomic_load(&c.ready) < threads - 1)
		sched_yield();
	double begin = now_ns();
	atomic_store(&c.go, true);
	if (c.renewed)
		c.ns[0] = renewed_ns(p, states[0], passes);
	else
		for (unsigned i = 0; i < passes; i++)
			p->pass(states[0]);
	while (atomic_load(&c.done) < threads - 1)
		sched_yield();
	double end = now_ns();
	for (unsigned i = 1; i < threads; i++)
		pthread_join(thread[i], NULL);
	if (c.renewed) {
		double most = 0;
		for (unsigned i = 0; i < threads; i++)
			most = c.ns[i] > most ? c.ns[i] : most;
		return most;
	}
	return end - begin;
}

/* ---- One configuration, all peers ---- */

static void check(const struct peer *p, struct set *s, void *state)
{
	if (p->remote)
		go_output(s);
	else
		(renewed(&s->c) ? p->renew(state) : (void)0), p->pass(state);
	bool sealed_packets = s->c.work == PACKET_SEAL || s->c.work == PROXY;
	size_t bad = sealed_packets ? eesp_packets_check(state, s) : set_check(s);
	if (bad)
		die("%s %s: %s, size %zu, burst %zu: %zu %s wrong", p->name, p->backend, work_name(s->c.work),
		    s->c.size, s->c.burst, bad, sealed_packets ? "packets are" : "octets are");
}

/* Beyond what was measured from the beginning: by the fastest backend only, unless all are asked for. */
static bool special(const struct config *c)
{
	return c->profile || c->careful || c->flows;
}
static bool all_backends;

static void measure(struct report *r, const struct peer *peers, size_t npeers, struct config c, unsigned rounds,
		    double target_ns)
{
	struct set *sets[MAX_THREADS];
	void *states[MAX_PEERS][MAX_THREADS];
	unsigned passes[MAX_PEERS];
	struct result *results[MAX_PEERS];
	for (unsigned t = 0; t < c.threads; t++)
		sets[t] = set_new(c);
	for (size_t i = 0; i < npeers; i++) {
		const struct peer *p = &peers[i];
		results[i] = NULL;
		if (!p->how[c.work] || (special(&c) && i && !all_backends))
			continue;
		for (unsigned t = 0; t < c.threads && !p->remote; t++)
			states[i][t] = p->open(p, sets[t]);
		if (p->remote)
			go_setup(sets[0]);
		for (unsigned t = 0; t < (p->remote ? 1 : c.threads); t++)
			check(p, sets[t], states[i][t]);
		double once = round_ns(p, &c, states[i], 1);
		/* sealing takes longer than what is measured */
		double many = (renewed(&c) ? target_ns / 4 : target_ns) / once;
		passes[i] = many < 1 ? 1 : many > 1e6 ? 1000000 : (unsigned)many;
		results[i] = &r->results[r->count++];
		*results[i] = (struct result){ .c = c, .peer = p, .rounds = rounds,
					       .octets = (double)sets[0]->octets / (double)sets[0]->n };
		if (c.work == DERIVE) {
			results[i]->c.size = sets[0]->key_len;
			results[i]->octets = (double)sets[0]->key_len;
		}
	}
	for (unsigned k = 0; k < rounds; k++)
		for (size_t i = 0; i < npeers; i++)
			if (results[i])
				results[i]->ns[k] = round_ns(&peers[i], &c, states[i], passes[i]) /
						    ((double)sets[0]->n * passes[i] * c.threads);
	for (size_t i = 0; i < npeers; i++) {
		struct result *x = results[i];
		if (!x)
			continue;
		qsort(x->ns, rounds, sizeof *x->ns, by_double);
		x->min = x->ns[0];
		x->max = x->ns[rounds - 1];
		x->median = x->ns[rounds / 2];
		for (unsigned t = 0; t < c.threads && !peers[i].remote; t++) {
			check(&peers[i], sets[t], states[i][t]);
			peers[i].close(states[i][t]);
		}
	}
	for (unsigned t = 0; t < c.threads; t++)
		set_free(sets[t]);
}

/* ---- What to measure ---- */

struct plan {
	struct config *c;
	size_t n, room;
	const char *only; /* work */
};

static void add(struct plan *p, struct config c)
{
	if (p->only && strcmp(p->only, work_name(c.work)))
		return;
	if (c.work == DERIVE)
		c.size = 64; /* there is no packet */
	for (size_t i = 0; i < p->n; i++)
		if (!memcmp(&p->c[i], &c, sizeof c))
			return;
	if (p->n == p->room) {
		p->room = p->room ? 2 * p->room : 64;
		p->c = realloc(p->c, p->room * sizeof *p->c);
		if (!p->c)
			die("out of memory");
	}
	p->c[p->n++] = c;
}

static void cross(struct plan *p, const enum work *works, size_t nworks, unsigned aeads, const size_t *sizes,
		  size_t nsizes, const size_t *bursts, size_t nbursts, enum contexts contexts_from,
		  enum contexts contexts_to, unsigned threads)
{
	for (size_t w = 0; w < nworks; w++)
		for (unsigned a = 0; a < aeads; a++)
			for (size_t s = 0; s < nsizes; s++)
				for (size_t b = 0; b < nbursts; b++)
					for (enum contexts x = contexts_from; x <= contexts_to; x++) {
						struct config c;
						memset(&c, 0, sizeof c); /* padding too: add compares */
						c.work = works[w];
						c.aead = a;
						c.size = sizes[s];
						c.burst = bursts[b];
						c.contexts = x;
						c.threads = threads;
						add(p, c);
					}
}

#define COUNT(a) (sizeof(a) / sizeof *(a))
#define LIST(type, ...) (const type[]){ __VA_ARGS__ }, COUNT(((const type[]){ __VA_ARGS__ }))
#define ALL_WORKS DERIVE, REKEY_SEAL, REKEY_OPEN, CACHED_SEAL, PACKET_SEAL, PACKET_OPEN, PROXY
#define HEADLINE_SIZES 64, 256, 1420, 8942, IMIX
#define ALL_SIZES 64, 128, 256, 512, 1024, 1420, 4096, 8942, IMIX

static void cross_packets(struct plan *p, const enum work *works, size_t nworks, const size_t *sizes, size_t nsizes,
			  const size_t *bursts, size_t nbursts, unsigned threads)
{
	for (unsigned profile = EESP_PROFILE_STATELESS; profile <= EESP_PROFILE_EESP; profile++)
		for (size_t w = 0; w < nworks; w++)
			for (size_t s = 0; s < nsizes; s++)
				for (size_t b = 0; b < nbursts; b++)
					for (int careful = 0; careful < 2; careful++) {
						struct config c = work_of(profile, works[w]);
						c.size = sizes[s];
						c.burst = bursts[b];
						c.threads = threads;
						c.careful = careful;
						add(p, c);
					}
}

/* By number of flows: with windows, with times, and without. */
static void cross_flows(struct plan *p, const size_t *flows, size_t nflows, size_t burst, unsigned threads,
			unsigned profiles)
{
	for (unsigned profile = EESP_PROFILE_STATELESS; profile <= EESP_PROFILE_EESP; profile++)
		for (size_t f = 0; f < nflows; f++)
			for (int how = 0; how < 4; how++) { /* bare, and careful with each enum replay */
				struct config c = work_of(profile, PACKET_OPEN);
				/* their flows are senders */
				if (!(profiles >> profile & 1) || (profile && (flows[f] > 32768 || how > 1)))
					continue;
				/* one counter for all: a thread that is stopped lags by more than a window */
				if (threads > 1 && how == 1)
					continue;
				c.size = 64;
				c.burst = burst;
				c.threads = threads;
				c.careful = how != 0;
				c.replay = how == 0 ? WINDOWS : (enum replay)(how - 1);
				c.flows = flows[f];
				add(p, c);
			}
}

enum mode { QUICK, NORMAL, FULL, SMOKE, FLOWS, KERNELS };

#define NUMBERS_OF_FLOWS 1, 32, 1024, 4096, 32768, 1000000

static struct plan make_plan(enum mode mode, const char *only)
{
	struct plan p = { .only = only };
	unsigned two = cpu_count() < 2 ? 1 : 2;
	switch (mode) {
	case QUICK:
		cross(&p, LIST(enum work, DERIVE, REKEY_SEAL, CACHED_SEAL), 2, LIST(size_t, HEADLINE_SIZES),
		      LIST(size_t, 32), DISTINCT, DISTINCT, 1);
		cross(&p, LIST(enum work, REKEY_OPEN, PACKET_SEAL, PACKET_OPEN), 1, LIST(size_t, HEADLINE_SIZES),
		      LIST(size_t, 32), DISTINCT, DISTINCT, 1);
		cross(&p, LIST(enum work, REKEY_SEAL, REKEY_OPEN, PACKET_SEAL, PACKET_OPEN), 1, LIST(size_t, 64),
		      LIST(size_t, 1, 32), DISTINCT, DISTINCT, 1);
		cross(&p, LIST(enum work, REKEY_SEAL, REKEY_OPEN, CACHED_SEAL), 2, LIST(size_t, 64),
		      LIST(size_t, 1, 32), DISTINCT, DISTINCT, 1);
		cross(&p, LIST(enum work, REKEY_OPEN), 2, LIST(size_t, 1420), LIST(size_t, 32), DISTINCT, DISTINCT, 1);
		cross_packets(&p, LIST(enum work, PACKET_SEAL, PACKET_OPEN), LIST(size_t, 64), LIST(size_t, 1, 32), 1);
		cross_packets(&p, LIST(enum work, PACKET_SEAL, PACKET_OPEN), LIST(size_t, 1420), LIST(size_t, 32), 1);
		break;
	case NORMAL:
		cross(&p, LIST(enum work, ALL_WORKS), 2, LIST(size_t, ALL_SIZES), LIST(size_t, 32), DISTINCT, DISTINCT,
		      1);
		cross(&p, LIST(enum work, ALL_WORKS), 2, LIST(size_t, HEADLINE_SIZES), LIST(size_t, 1, 8, 32, 256),
		      DISTINCT, DISTINCT, 1);
		cross(&p, LIST(enum work, ALL_WORKS), 1, LIST(size_t, HEADLINE_SIZES), LIST(size_t, 32), DISTINCT, ZIPF,
		      1);
		cross(&p, LIST(enum work, ALL_WORKS), 1, LIST(size_t, HEADLINE_SIZES), LIST(size_t, 32), DISTINCT,
		      DISTINCT, two);
		cross_packets(&p, LIST(enum work, PACKET_SEAL, PACKET_OPEN), LIST(size_t, 64, 256, 1420, IMIX),
			      LIST(size_t, 1, 8, 32, 256), 1);
		cross_packets(&p, LIST(enum work, PACKET_OPEN), LIST(size_t, 64), LIST(size_t, 32), two);
		cross_flows(&p, LIST(size_t, NUMBERS_OF_FLOWS), 32, 1, 0xb); /* all but tss */
		break;
	case FULL:
		cross_packets(&p, LIST(enum work, PACKET_SEAL, PACKET_OPEN), LIST(size_t, ALL_SIZES),
			      LIST(size_t, 1, 8, 32, 256), 1);
		cross_packets(&p, LIST(enum work, PACKET_SEAL, PACKET_OPEN), LIST(size_t, HEADLINE_SIZES),
			      LIST(size_t, 32), two);
		cross_flows(&p, LIST(size_t, NUMBERS_OF_FLOWS), 32, 1, 0xf);
		cross(&p, LIST(enum work, ALL_WORKS), 2, LIST(size_t, ALL_SIZES), LIST(size_t, 1, 8, 32, 256), DISTINCT,
		      ZIPF, 1);
		cross(&p, LIST(enum work, ALL_WORKS), 2, LIST(size_t, ALL_SIZES), LIST(size_t, 1, 8, 32, 256), DISTINCT,
		      ZIPF, two);
		break;
	case SMOKE:
		cross(&p, LIST(enum work, ALL_WORKS), 2, LIST(size_t, 64, 1420, IMIX), LIST(size_t, 32), DISTINCT,
		      DISTINCT, 1);
		cross(&p, LIST(enum work, ALL_WORKS), 1, LIST(size_t, 64), LIST(size_t, 1, 8), EQUAL, ZIPF, two);
		cross_packets(&p, LIST(enum work, PACKET_SEAL, PACKET_OPEN), LIST(size_t, 64, 1420, IMIX),
			      LIST(size_t, 32), 1);
		cross_packets(&p, LIST(enum work, PACKET_SEAL, PACKET_OPEN), LIST(size_t, 64), LIST(size_t, 1), two);
		cross_flows(&p, LIST(size_t, 1, 100), 32, 1, 0xf);
		cross_flows(&p, LIST(size_t, 100), 1, two, 1);
		break;
	case KERNELS:
		cross(&p, LIST(enum work, REKEY_SEAL, REKEY_OPEN, CACHED_SEAL), 2, LIST(size_t, HEADLINE_SIZES),
		      LIST(size_t, 32), DISTINCT, DISTINCT, 1);
		cross(&p, LIST(enum work, REKEY_SEAL, REKEY_OPEN), 2, LIST(size_t, 64, 256, 1420), LIST(size_t, 1, 8),
		      DISTINCT, DISTINCT, 1);
		break;
	case FLOWS:
		cross_flows(&p, LIST(size_t, NUMBERS_OF_FLOWS), 32, 1, 1);
		cross_flows(&p, LIST(size_t, 32, 4096), 1, 1, 1);
		cross_flows(&p, LIST(size_t, NUMBERS_OF_FLOWS), 32, two, 1);
		break;
	}
	return p;
}

static void progress(size_t i, size_t n, const struct config *c, double began)
{
	char size[32] = "imix";
	if (c->size != IMIX)
		snprintf(size, sizeof size, "%zu", c->size);
	fprintf(stderr, "%s[%zu/%zu, %.0f s] %s %s %s, %s octets, burst %zu%s", isatty(2) ? "\r\033[K" : "", i + 1, n,
		(now_ns() - began) / 1e9, work_name(c->work), profile_name(c->profile), config_name(c), size, c->burst,
		isatty(2) ? "" : "\n");
}

/* ---- Comparing two builds of the library ---- */

/* Plans by number, so that both processes and the driver mean the same. */
static struct plan compare_plan(void)
{
	struct plan p = { 0 };
	cross(&p, LIST(enum work, DERIVE, REKEY_SEAL, REKEY_OPEN, CACHED_SEAL, PACKET_SEAL, PACKET_OPEN, PROXY), 2,
	      LIST(size_t, HEADLINE_SIZES), LIST(size_t, 32), DISTINCT, DISTINCT, 1);
	cross(&p, LIST(enum work, REKEY_SEAL, PACKET_SEAL, PACKET_OPEN), 1, LIST(size_t, 64), LIST(size_t, 1), DISTINCT,
	      DISTINCT, 1);
	cross_packets(&p, LIST(enum work, PACKET_SEAL, PACKET_OPEN), LIST(size_t, 64), LIST(size_t, 1, 8, 32), 1);
	cross_packets(&p, LIST(enum work, PACKET_SEAL, PACKET_OPEN), LIST(size_t, 1420), LIST(size_t, 32), 1);
	cross_flows(&p, LIST(size_t, 32, 4096), 32, 1, 0xb);
	return p;
}

/* The other end of compare: does what it reads, a line for a line. */
static int serve(const char *backend)
{
	struct peer peers[MAX_PEERS];
	if (!eesp_peers(peers, MAX_PEERS, backend ? backend : eesp_backend_name()))
		die("no backend");
	struct plan plan = compare_plan();
	struct set *s = NULL;
	void *state = NULL;
	char command;
	unsigned n;
	pin(cpu_count() - 1);
	while (scanf(" %c %u", &command, &n) == 2) {
		if (command == 'S') {
			const struct config *c = &plan.c[n];
			bool keys = c->work < PACKET_SEAL;
			if (keys ? !dlsym(RTLD_DEFAULT, "eesp_keyset_new") : !packets_supported(c)) {
				printf("-\n");
			} else {
				s = set_new(*c);
				state = peers[0].open(&peers[0], s);
				check(&peers[0], s, state);
				printf("%s\n", peers[0].backend);
			}
		} else if (command == 'R') {
			printf("%.4f\n", round_ns(&peers[0], &s->c, &state, n) / ((double)s->n * n));
		} else {
			peers[0].close(state);
			set_free(s);
			printf("+\n");
		}
		fflush(stdout);
	}
	return 0;
}

struct server {
	FILE *to, *from;
	pid_t pid;
	const char *libdir, *backend;
	char answer[64];
};

static void start(struct server *v)
{
	int in[2], back[2];
	char path[4096];
	char *argv[] = { "/proc/self/exe", "--serve", v->backend ? "--backend" : NULL, (char *)v->backend, NULL };
	posix_spawn_file_actions_t actions;
	snprintf(path, sizeof path, "%s/libeesp.so", v->libdir);
	if (access(path, R_OK))
		die("%s: %s", path, strerror(errno));
	if (setenv("LD_LIBRARY_PATH", v->libdir, 1) || pipe2(in, O_CLOEXEC) || pipe2(back, O_CLOEXEC))
		die("pipe: %s", strerror(errno));
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, in[0], 0);
	posix_spawn_file_actions_adddup2(&actions, back[1], 1);
	if ((errno = posix_spawn(&v->pid, "/proc/self/exe", &actions, NULL, argv, environ)))
		die("cannot start: %s", strerror(errno));
	posix_spawn_file_actions_destroy(&actions);
	close(in[0]);
	close(back[1]);
	v->to = fdopen(in[1], "w");
	v->from = fdopen(back[0], "r");
}

static void stop(struct server *v)
{
	fclose(v->to);
	fclose(v->from);
	waitpid(v->pid, NULL, 0);
}

/* NULL: the process is gone. */
static const char *ask(struct server *v, char command, unsigned n)
{
	fprintf(v->to, "%c %u\n", command, n);
	return fflush(v->to) || fscanf(v->from, "%63s", v->answer) != 1 ? NULL : v->answer;
}

/* Time of a packet, or 0: the process is gone. */
static double ask_ns(struct server *v, unsigned passes)
{
	const char *answer = ask(v, 'R', passes);
	return answer ? atof(answer) : 0;
}

struct rounds {
	double ns[2][MAX_ROUNDS], ratio[MAX_ROUNDS];
};

/* -1: all is measured; otherwise which process is gone. */
static int compare_rounds(struct server v[2], const struct config *c, unsigned rounds, double target_ns,
			  struct rounds *x)
{
	double once = ask_ns(&v[0], 1) * 32, target = renewed(c) ? target_ns / 4 : target_ns;
	if (once == 0)
		return 0;
	unsigned passes = once < target ? (unsigned)(target / once) : 1;
	for (unsigned r = 0; r < rounds; r++) {
		for (unsigned k = 0; k < 2; k++) { /* first one first, then the other */
			unsigned which = k ^ (r & 1);
			if ((x->ns[which][r] = ask_ns(&v[which], passes)) == 0)
				return (int)which;
		}
		x->ratio[r] = x->ns[1][r] / x->ns[0][r];
	}
	qsort(x->ratio, rounds, sizeof *x->ratio, by_double);
	qsort(x->ns[0], rounds, sizeof **x->ns, by_double);
	qsort(x->ns[1], rounds, sizeof **x->ns, by_double);
	return -1;
}

/* What is asked for of a comparison; NULL: all. */
struct choice {
	const char *work, *profile, *sizes;
};

static void size_text(const struct config *c, char text[32])
{
	if (c->size == IMIX)
		strcpy(text, "imix");
	else
		snprintf(text, 32, "%zu", c->size);
}

static bool chosen(const struct choice *want, const struct config *c)
{
	char size[32];
	size_text(c, size);
	if (want->work && strcmp(want->work, work_name(c->work)))
		return false;
	if (want->profile && (c->work < PACKET_SEAL || strcmp(want->profile, profile_name(c->profile))))
		return false;
	if (want->sizes && c->work == DERIVE) /* there is no packet */
		return false;
	size_t n = strlen(size);
	const char *at = want->sizes;
	while (at && (strncmp(at, size, n) || (at[n] && at[n] != ',')))
		at = (at = strchr(at, ',')) ? at + 1 : NULL;
	return at || !want->sizes;
}

static int compare(char **libdirs, const char *backend, const struct choice *want, unsigned rounds, double target_ns)
{
	struct server v[2];
	struct plan plan = compare_plan();
	size_t rows = 0, failed = 0;
	for (unsigned i = 0; i < plan.n; i++)
		rows += chosen(want, &plan.c[i]);
	if (!rows)
		die("there is nothing to compare: no row has that work, profile and size");
	signal(SIGPIPE, SIG_IGN); /* a process that is gone costs its row only */
	for (int k = 0; k < 2; k++) {
		v[k] = (struct server){ .libdir = libdirs[k], .backend = backend };
		start(&v[k]);
	}
	printf("| %-12s | %-9s | config  | flows | aead | octets | burst |  base ns |   new ns | new : base "
	       "| quartiles     |\n"
	       "|:-------------|:----------|:--------|------:|-----:|-------:|------:|---------:|---------:"
	       "|-----------:|:--------------|\n",
	       "work", "profile");
	for (unsigned i = 0; i < plan.n; i++) {
		const struct config *c = &plan.c[i];
		struct rounds x;
		char size[32], flows[32] = "";
		bool packets = c->work >= PACKET_SEAL, there[2] = { false, false };
		int gone = -1;
		if (!chosen(want, c))
			continue;
		size_text(c, size);
		if (c->flows)
			snprintf(flows, sizeof flows, "%zu", c->flows);
		printf("| %-12s | %-9s | %-7s | %5s | %4s | %6s | %5zu |", work_name(c->work),
		       packets ? profile_name(c->profile) : "", packets ? config_name(c) : "", flows,
		       c->aead ? "256" : "128", c->work == DERIVE ? "" : size, c->burst);
		fflush(stdout);
		for (int k = 0; k < 2 && gone < 0; k++) {
			const char *answer = ask(&v[k], 'S', i);
			if (!answer)
				gone = k;
			there[k] = answer && strcmp(answer, "-");
		}
		if (gone < 0 && there[0] && there[1])
			gone = compare_rounds(v, c, rounds, target_ns, &x);
		for (int k = 0; k < 2; k++)
			if (gone != k && there[k] && !ask(&v[k], 'E', 0))
				gone = k;
		if (gone >= 0) {
			printf(" %8s | %8s | %10s | %-13s |\n", "", "", "", gone ? "new failed" : "base failed");
			stop(&v[gone]);
			start(&v[gone]);
			failed++;
		} else if (there[0] && there[1]) {
			printf(" %8.2f | %8.2f | %10.3f | %.3f - %.3f |\n", x.ns[0][rounds / 2], x.ns[1][rounds / 2],
			       x.ratio[rounds / 2], x.ratio[rounds / 4], x.ratio[rounds * 3 / 4]);
		} else {
			printf(" %8s | %8s | %10s | %-13s |\n", "", "", "", "not in both");
		}
		fflush(stdout);
	}
	for (int k = 0; k < 2; k++)
		stop(&v[k]);
	if (failed)
		fprintf(stderr, "bench: %zu of %zu rows failed\n", failed, rows);
	return failed != 0;
}

static bool number_in(const char *text, double least, double most)
{
	char *end;
	double x = strtod(text, &end);
	return end != text && *end == 0 && x >= least && x <= most;
}

static void usage(FILE *f)
{
	fputs("usage: bench [--quick | --full | --smoke | --flows | --kernels] [--out DIR] [--gopeer PROGRAM] "
	      "[--backend NAME]\n"
	      "             [--work NAME] [--rounds N] [--tails] [--peer FILE]...\n"
	      "       bench --on-top [--backend NAME] [--profile NAME] [--work NAME] [--rounds N]\n"
	      "       bench --windows [--backend NAME] [--profile NAME] [--rounds N]\n"
	      "       bench --tails-only [--backend NAME] [--profile NAME] [--work NAME] [--gap US] [--seconds N] "
	      "[--rounds N]\n"
	      "       bench --compare BASE-LIBDIR NEW-LIBDIR [--backend NAME] [--profile NAME] [--work NAME] "
	      "[--sizes LIST] [--rounds N]\n"
	      "  --quick    the headline, in less than a minute\n"
	      "  --full     every combination\n"
	      "  --smoke    a little of everything, too short to be meant as a measurement\n"
	      "  --flows    opening by number of flows alone\n"
	      "  --kernels  keys and GCM beside peers alone, in bursts of 1, 8 and 32\n"
	      "  --on-top   what careful packets cost on top of their kernels, measured by turns\n"
	      "  --windows  what replay windows add to careful packets, by number of flows, measured by turns\n"
	      "  --tails    also the times of single calls, which the default and full runs include\n"
	      "  --tails-only  these alone, beside libipsec-mb, by turns: by default 20 seconds each, in 20 rounds\n"
	      "  --gap      tails only: microseconds between calls; by default 1000\n"
	      "  --seconds  tails only: for how long each is called\n"
	      "  --out      where results.json, bench.txt (for benchstat) and tables.md go\n"
	      "  --gopeer   the program that is Go's crypto/cipher\n"
	      "  --peer     a library built elsewhere, as bench/plugin.sh makes it (make bench BENCH_PEERS=...)\n"
	      "  --backend  only this one of the library's backends\n"
	      "  --work     only this work: derive, rekey-seal, rekey-open, cached-seal, packet-seal, "
	      "packet-open, proxy\n"
	      "  --profile  on top, windows, tails only, compare: only packets of this profile\n"
	      "  --sizes    compare: only packets of these octets; a list such as 64,1420,imix\n"
	      "  --rounds   rounds of each measurement, 3 to 101; on top, windows: to 10000\n",
	      f);
}

int main(int argc, char **argv)
{
	enum { OPT_QUICK = 1, OPT_FULL, OPT_SMOKE, OPT_FLOWS, OPT_KERNELS, OPT_ON_TOP, OPT_OUT, OPT_GOPEER, OPT_BACKEND,
	       OPT_PEER, OPT_WORK, OPT_PROFILE, OPT_SIZES, OPT_ROUNDS, OPT_TAILS, OPT_COMPARE, OPT_SERVE, OPT_HELP,
	       OPT_TAILS_ONLY, OPT_GAP, OPT_SECONDS, OPT_WINDOWS };
	static const struct option options[] = {
		{ "quick", 0, NULL, OPT_QUICK },     { "full", 0, NULL, OPT_FULL },
		{ "smoke", 0, NULL, OPT_SMOKE },     { "flows", 0, NULL, OPT_FLOWS },
		{ "kernels", 0, NULL, OPT_KERNELS }, { "on-top", 0, NULL, OPT_ON_TOP },
		{ "profile", 1, NULL, OPT_PROFILE }, { "sizes", 1, NULL, OPT_SIZES },
		{ "out", 1, NULL, OPT_OUT },	     { "gopeer", 1, NULL, OPT_GOPEER },
		{ "backend", 1, NULL, OPT_BACKEND }, { "work", 1, NULL, OPT_WORK },
		{ "peer", 1, NULL, OPT_PEER },	     { "rounds", 1, NULL, OPT_ROUNDS },
		{ "tails", 0, NULL, OPT_TAILS },     { "compare", 0, NULL, OPT_COMPARE },
		{ "serve", 0, NULL, OPT_SERVE },     { "help", 0, NULL, OPT_HELP },
		{ "tails-only", 0, NULL, OPT_TAILS_ONLY }, { "gap", 1, NULL, OPT_GAP },
		{ "seconds", 1, NULL, OPT_SECONDS }, { "windows", 0, NULL, OPT_WINDOWS },
		{ NULL, 0, NULL, 0 },
	};
	enum mode mode = NORMAL;
	const char *out = NULL, *gopeer = NULL, *backend = NULL, *only = NULL, *profile = NULL, *sizes = NULL;
	const char *plugins[MAX_PEERS];
	size_t nplugins = 0;
	unsigned rounds = 0;
	bool tails = false, tails_only = false, on_top = false, windows = false;
	bool comparing = false, serving = false, counted = false;
	const char *gap = NULL, *seconds = NULL;
	for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		switch (o) {
		case OPT_QUICK:
			mode = QUICK;
			break;
		case OPT_FULL:
			mode = FULL;
			break;
		case OPT_SMOKE:
			mode = SMOKE;
			break;
		case OPT_FLOWS:
			mode = FLOWS;
			break;
		case OPT_KERNELS:
			mode = KERNELS;
			break;
		case OPT_ON_TOP:
			on_top = true;
			break;
		case OPT_WINDOWS:
			windows = true;
			break;
		case OPT_OUT:
			out = optarg;
			break;
		case OPT_GOPEER:
			gopeer = optarg;
			break;
		case OPT_BACKEND:
			backend = optarg;
			break;
		case OPT_WORK:
			only = optarg;
			break;
		case OPT_PROFILE:
			profile = optarg;
			break;
		case OPT_SIZES:
			sizes = optarg;
			break;
		case OPT_PEER:
			if (nplugins == MAX_PEERS)
				die("--peer: %d at most", MAX_PEERS);
			plugins[nplugins++] = optarg;
			break;
		case OPT_ROUNDS:
			rounds = (unsigned)strtoul(optarg, NULL, 10);
			counted = true;
			break;
		case OPT_TAILS:
			tails = true;
			break;
		case OPT_TAILS_ONLY:
			tails_only = true;
			break;
		case OPT_GAP:
			gap = optarg;
			break;
		case OPT_SECONDS:
			seconds = optarg;
			break;
		case OPT_COMPARE:
			comparing = true;
			break;
		case OPT_SERVE:
			serving = true;
			break;
		case OPT_HELP:
			usage(stdout);
			return 0;
		default:
			usage(stderr);
			return 2;
		}
	}
	if (argc - optind != (comparing ? 2 : 0)) {
		usage(stderr);
		return 2;
	}
	const unsigned most = on_top || windows ? 10000 : MAX_ROUNDS;
	if (counted && (rounds < 3 || rounds > most))
		die("--rounds: 3 to %u", most);
	bool known = profile == NULL;
	for (unsigned i = EESP_PROFILE_STATELESS; !known && i <= EESP_PROFILE_EESP; i++)
		known = !strcmp(profile, profile_name(i));
	if (!known)
		die("no such profile: %s", profile);
	if (profile && !on_top && !windows && !comparing && !tails_only)
		die("--profile goes with --on-top, --windows, --tails-only and --compare");
	if (windows && only)
		die("--windows measures packet-open alone, without --work");
	if ((gap || seconds) && !tails_only)
		die("--gap and --seconds go with --tails-only");
	if (sizes && !comparing)
		die("--sizes goes with --compare");
	struct tail_choice choice = { profile, only, 1000, counted ? rounds : 20, 20 };
	if (gap && (!number_in(gap, 0, 999999) || strchr(gap, '.')))
		die("--gap: 0 to 999999");
	if (seconds && !number_in(seconds, 0.1, 3600))
		die("--seconds: 0.1 to 3600");
	if (gap)
		choice.gap_us = (unsigned)strtoul(gap, NULL, 10);
	if (seconds)
		choice.seconds = strtod(seconds, NULL);
	bool whole = !only || !strcmp(only, work_name(PACKET_SEAL)) || !strcmp(only, work_name(PACKET_OPEN));
	if ((on_top || tails_only) && !whole)
		die("--on-top and --tails-only measure packet-seal and packet-open, not %s", only);
	sched_getaffinity(0, sizeof process_cpus, &process_cpus);
	if (!rounds)
		rounds = mode == SMOKE ? 3 : mode == FULL ? 11 : 21;
	double target_ns = mode == SMOKE ? 1e4 : 1.5e6;
	all_backends = mode == FULL || backend;
	if (serving)
		return serve(backend);
	if (comparing)
		return compare(argv + optind, backend, &(struct choice){ only, profile, sizes }, rounds, target_ns);

	struct peer peers[MAX_PEERS];
	size_t n = eesp_peers(peers, MAX_PEERS, backend);
	if (!n)
		die("this machine cannot run backend %s", backend ? backend : "(any)");
	if (on_top || windows) {
		pin(cpu_count() - 1);
		if (on_top)
			run_on_top(stdout, &peers[0], profile, only, counted ? rounds : 4000);
		if (windows)
			run_windows(stdout, &peers[0], profile, counted ? rounds : 4000);
		return 0;
	}
	n += ipsec_peers(peers + n, MAX_PEERS - n);
	if (tails_only) {
		run_tail_turns(stdout, peers, n, &choice);
		return 0;
	}
	n += openssl_peers(peers + n, MAX_PEERS - n);
	for (size_t i = 0; i < nplugins; i++)
		n += plugin_peers(peers + n, MAX_PEERS - n, plugins[i]);
	if (gopeer)
		n += go_peers(peers + n, MAX_PEERS - n, gopeer);
	for (size_t i = 0; i < n; i++)
		fprintf(stderr, "peer: %s %s\n", peers[i].name, peers[i].backend);

	struct plan plan = make_plan(mode, only);
	if (!plan.n)
		die("no such work: %s", only);
	struct report r = { .results = must_alloc(64, plan.n * n * sizeof *r.results) };
	double began = now_ns();
	pin(cpu_count() - 1);
	for (size_t i = 0; i < plan.n; i++) {
		progress(i, plan.n, &plan.c[i], began);
		measure(&r, peers, n, plan.c[i], rounds, target_ns);
	}
	unpin();
	if (isatty(2))
		fputs("\r\033[K", stderr);
	go_stop();
	if (tails || (mode != QUICK && mode != KERNELS && !only))
		run_tails(&r, peers, n, mode == SMOKE ? 0.02 : 1);
	report_tables(&r, stdout);
	if (out) {
		report_write(&r, out);
		printf("\nwritten: %s/results.json, bench.txt, tables.md\n", out);
	}
	fprintf(stderr, "%zu measurements of %u rounds in %.0f s; all peers' results are the same, octet by octet\n",
		r.count, rounds, (now_ns() - began) / 1e9);
	return 0;
}
