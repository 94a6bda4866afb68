/* SPDX-License-Identifier: BSD-3-Clause */
/* How long a single call takes, at its worst, when the caller has been silent. */
#define _GNU_SOURCE
#include "bench.h"
#include <eesp.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#define ROOM 400000 /* calls of one worker */

struct worker {
	pthread_t thread;
	pthread_barrier_t *start;
	const struct peer *peer;
	void *state;
	bool renewed;
	unsigned gap_us;
	double seconds;
	size_t calls;
	float *ns;
};

/* A call after a gap: its time, and when it ended. */
static float call_ns(const struct peer *p, void *state, bool renew, unsigned gap_us, double *end)
{
	const struct timespec gap = { 0, (long)gap_us * 1000 };
	if (renew)
		p->renew(state);
	if (gap_us)
		nanosleep(&gap, NULL);
	double begin = now_ns();
	p->pass(state);
	*end = now_ns();
	return (float)(*end - begin);
}

static void *work(void *argument)
{
	struct worker *w = argument;
	prctl(PR_SET_TIMERSLACK, 1);
	if (w->renewed)
		w->peer->renew(w->state);
	w->peer->pass(w->state);
	pthread_barrier_wait(w->start);
	double end = now_ns() + w->seconds * 1e9, t = 0;
	while (w->calls < ROOM && t < end)
		w->ns[w->calls++] = call_ns(w->peer, w->state, w->renewed, w->gap_us, &t);
	return NULL;
}

static int by_ns(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;
	return x < y ? -1 : x > y;
}

static struct config tail_config(unsigned profile, enum work w, bool careful)
{
	struct config c = work_of(profile, w);
	c.size = 64;
	c.burst = c.packets = 32;
	c.threads = 1;
	c.careful = careful;
	return c;
}

static struct tail measure(const struct peer *p, struct config c, unsigned workers, unsigned gap_us, double seconds)
{
	struct worker w[MAX_THREADS] = { 0 };
	struct set *sets[MAX_THREADS];
	pthread_barrier_t start;
	struct tail t = { .peer = p, .c = c, .workers = workers, .gap_us = gap_us };
	pthread_barrier_init(&start, NULL, workers);
	for (unsigned i = 0; i < workers; i++) {
		sets[i] = set_new(c); /* one burst: a pass is a call */
		w[i] = (struct worker){ .start = &start, .peer = p, .state = p->open(p, sets[i]),
					.renewed = renewed(&c), .gap_us = gap_us,
					.seconds = seconds, .ns = must_alloc(64, ROOM * sizeof(float)) };
	}
	for (unsigned i = 0; i < workers; i++)
		if ((errno = pthread_create(&w[i].thread, NULL, work, &w[i])))
			die("pthread_create: %s", strerror(errno));
	for (unsigned i = 0; i < workers; i++) {
		pthread_join(w[i].thread, NULL);
		t.calls += w[i].calls;
	}
	float *all = must_alloc(64, t.calls * sizeof *all);
	size_t n = 0;
	for (unsigned i = 0; i < workers; i++) {
		memcpy(all + n, w[i].ns, w[i].calls * sizeof *all);
		n += w[i].calls;
		p->close(w[i].state);
		set_free(sets[i]);
		free(w[i].ns);
	}
	qsort(all, n, sizeof *all, by_ns);
	t.p50 = (double)all[n / 2];
	t.p99 = (double)all[(size_t)((double)n * 0.99)];
	t.p999 = (double)all[(size_t)((double)n * 0.999)];
	t.max = (double)all[n - 1];
	if (n < 5000)
		snprintf(t.note, sizeof t.note, "%zu calls: %zu lie at or above ns_p999", n,
			 n - (size_t)((double)n * 0.999));
	free(all);
	pthread_barrier_destroy(&start);
	return t;
}

void run_tails(struct report *r, struct peer *peers, size_t n, double scale)
{
	static const struct {
		unsigned gap_us;
		double seconds;
	} gaps[] = { { 0, 0.3 }, { 50, 0.5 }, { 1000, 1.5 }, { 20000, 2 } };
	static const struct {
		const char *peer;
		enum work work;
		unsigned profile;
		bool careful;
	} callees[] = {
		{ "ipsec-mb", REKEY_SEAL, 0, false },
		{ "libeesp", REKEY_SEAL, 0, false },
		{ "libeesp", PACKET_SEAL, EESP_PROFILE_STATELESS, true },
		{ "libeesp", PACKET_OPEN, EESP_PROFILE_STATELESS, true },
		{ "libeesp", PACKET_SEAL, EESP_PROFILE_PSP, true },
		{ "libeesp", PACKET_OPEN, EESP_PROFILE_PSP, true },
		{ "libeesp", PACKET_SEAL, EESP_PROFILE_TSS, true },
		{ "libeesp", PACKET_OPEN, EESP_PROFILE_TSS, true },
		{ "libeesp", PACKET_SEAL, EESP_PROFILE_EESP, true },
		{ "libeesp", PACKET_OPEN, EESP_PROFILE_EESP, true },
		{ "libeesp", PROXY, EESP_PROFILE_STATELESS, true },
	};
	const size_t kinds = sizeof callees / sizeof callees[0];
	unsigned cpus = cpu_count();
	cpus = cpus > MAX_THREADS / 2 ? MAX_THREADS / 2 : cpus;
	r->tails = must_alloc(64, 2 * 4 * kinds * sizeof *r->tails);
	for (unsigned workers = cpus; workers <= 2 * cpus; workers += cpus) {
		for (size_t g = 0; g < 4; g++) {
			fprintf(stderr, "tails: %u workers, %u us between calls\n", workers, gaps[g].gap_us);
			for (size_t k = 0; k < kinds; k++) {
				size_t i = 0;
				while (i < n && strcmp(peers[i].name, callees[k].peer))
					i++;
				if (i < n)
					r->tails[r->tail_count++] =
						measure(&peers[i],
							tail_config(callees[k].profile, callees[k].work,
								    callees[k].careful),
							workers, gaps[g].gap_us, gaps[g].seconds * scale);
			}
		}
	}
}

/*
 * By turns: libeesp beside libipsec-mb, each in short slots, so that a disturbance hits all alike, and with
 * enough calls of each that the 99.9th percentile rests on many.
 */

#define SLOT_NS 1e8
#define MOST_CALLS 1000000 /* of a worker and callee */
#define WARM 3 /* calls at the beginning of a slot that are not counted */
#define MOST_CALLEES 16

struct callee {
	const struct peer *peer;
	struct config c;
	size_t against; /* number of the callee that it is compared with; itself: none */
	void *state[MAX_THREADS];
	struct set *set[MAX_THREADS];
	float *ns[MAX_THREADS];			      /* of each call */
	size_t calls[MAX_THREADS], end[MAX_THREADS][MAX_ROUNDS]; /* end: how many by the end of each round */
};

struct turns {
	struct callee callee[MOST_CALLEES];
	size_t n, slot_calls; /* slot_calls: the most in a slot */
	unsigned workers, gap_us, rounds, slots; /* slots of each callee in a round */
	double slot_ns;
	pthread_barrier_t start;
};

struct turner {
	pthread_t thread;
	struct turns *all;
	unsigned number;
};

static void slot_of(struct turns *t, struct callee *e, unsigned worker)
{
	const bool renew = renewed(&e->c);
	double end = now_ns() + t->slot_ns, now = 0;
	for (unsigned i = 0; now < end && i < t->slot_calls + WARM; i++) {
		const float ns = call_ns(e->peer, e->state[worker], renew, t->gap_us, &now);
		if (i >= WARM)
			e->ns[worker][e->calls[worker]++] = ns;
	}
}

static void *take_turns(void *argument)
{
	struct turner *me = argument;
	struct turns *t = me->all;
	prctl(PR_SET_TIMERSLACK, 1);
	for (unsigned round = 0; round < t->rounds; round++) {
		for (size_t i = 0; i < t->slots * t->n; i++) {
			pthread_barrier_wait(&t->start);
			slot_of(t, &t->callee[(i + i / t->n + round) % t->n], me->number);
		}
		for (size_t k = 0; k < t->n; k++)
			t->callee[k].end[me->number][round] = t->callee[k].calls[me->number];
	}
	return NULL;
}

/* Sorted times of a callee's calls from the end of round "from" to that of round "to"; from 0: all before. */
static float *times_of(const struct turns *t, const struct callee *e, unsigned from, unsigned to, size_t *n)
{
	size_t most = 1;
	for (unsigned w = 0; w < t->workers; w++)
		most += e->calls[w];
	float *all = must_alloc(64, most * sizeof *all);
	*n = 0;
	for (unsigned w = 0; w < t->workers; w++) {
		size_t begin = from == 0 ? 0 : e->end[w][from - 1], some = e->end[w][to - 1] - begin;
		memcpy(all + *n, e->ns[w] + begin, some * sizeof *all);
		*n += some;
	}
	qsort(all, *n, sizeof *all, by_ns);
	return all;
}

static double percentile(const float *sorted, size_t n, double which)
{
	return n == 0 ? 0 : (double)sorted[(size_t)((double)(n - 1) * which + 0.5)];
}

static double p999_of(const struct turns *t, const struct callee *e, unsigned from, unsigned to)
{
	size_t n;
	float *all = times_of(t, e, from, to, &n);
	double ns = percentile(all, n, 0.999);
	free(all);
	return ns;
}

static void name_of(const struct callee *e, char name[96])
{
	if (e->c.work >= PACKET_SEAL)
		snprintf(name, 96, "%s %s %s", profile_name(e->c.profile), work_name(e->c.work), config_name(&e->c));
	else
		snprintf(name, 96, "%s %s %s, %s", e->peer->name, work_name(e->c.work), e->c.aead ? "256" : "128",
			 contexts_name(e->c.contexts));
}

static void write_turns(FILE *f, const struct turns *t)
{
	fprintf(f,
		"\nTimes of single calls of %zu packets of %zu octets, by turns in slots of %.0f ms: %u workers, "
		"%u us between calls, %u rounds\n\n"
		"| %-34s |   calls | median us | 99.9%% us |   max us | %-34s | its 99.9%% us | ratio "
		"| by rounds, quartiles |\n"
		"|:-----------------------------------|--------:|----------:|---------:|---------:"
		"|:-----------------------------------|-------------:|------:|:---------------------|\n",
		t->callee[0].c.burst, t->callee[0].c.size, t->slot_ns / 1e6, t->workers, t->gap_us, t->rounds, "",
		"against");
	for (size_t k = 0; k < t->n; k++) {
		const struct callee *e = &t->callee[k], *o = &t->callee[e->against];
		char label[96], other[96] = "", ratio[32] = "", its[32] = "", quartiles[64] = "";
		size_t calls;
		float *all = times_of(t, e, 0, t->rounds, &calls);
		const double p999 = percentile(all, calls, 0.999);
		name_of(e, label);
		if (o != e) {
			double there = p999_of(t, o, 0, t->rounds), r[MAX_ROUNDS];
			for (unsigned i = 0; i < t->rounds; i++) {
				double of = p999_of(t, o, i, i + 1);
				r[i] = of == 0 ? 0 : p999_of(t, e, i, i + 1) / of;
			}
			qsort(r, t->rounds, sizeof *r, by_double);
			name_of(o, other);
			snprintf(its, sizeof its, "%.2f", there / 1000);
			snprintf(ratio, sizeof ratio, "%.2f", there == 0 ? 0 : p999 / there);
			snprintf(quartiles, sizeof quartiles, "%.2f %.2f %.2f", r[t->rounds / 4], r[t->rounds / 2],
				 r[t->rounds * 3 / 4]);
		}
		const double median = percentile(all, calls, 0.5), most = percentile(all, calls, 1);
		free(all);
		fprintf(f, "| %-34s | %7zu | %9.2f | %8.2f | %8.2f | %-34s | %12s | %5s | %-20s |\n", label, calls,
			median / 1000, p999 / 1000, most / 1000, other, its, ratio, quartiles);
	}
}

static size_t add_callee(struct turns *t, const struct peer *p, struct config c)
{
	for (size_t i = 0; i < t->n; i++)
		if (t->callee[i].peer == p && t->callee[i].c.work == c.work && t->callee[i].c.aead == c.aead &&
		    t->callee[i].c.profile == c.profile && t->callee[i].c.contexts == c.contexts)
			return i;
	t->callee[t->n] = (struct callee){ .peer = p, .c = c, .against = t->n };
	return t->n++;
}

void run_tail_turns(FILE *f, const struct peer *peers, size_t n, const struct tail_choice *choice)
{
	struct turns *t = must_alloc(64, sizeof *t);
	struct turner me[MAX_THREADS];
	const struct peer *other = NULL;
	memset(t, 0, sizeof *t);
	for (size_t i = 0; i < n && !other; i++)
		other = strcmp(peers[i].name, "ipsec-mb") ? NULL : &peers[i];
	for (unsigned profile = EESP_PROFILE_STATELESS; profile <= EESP_PROFILE_EESP; profile++)
		for (enum work work = PACKET_SEAL; work <= PACKET_OPEN; work++) {
			struct config c = tail_config(profile, work, true);
			if ((choice->profile && strcmp(choice->profile, profile_name(profile))) ||
			    (choice->work && strcmp(choice->work, work_name(work))))
				continue;
			size_t k = add_callee(t, &peers[0], c);
			if (!other)
				continue;
			/* The same in plain C. */
			struct config as = tail_config(0, kernels_of(profile, work), false);
			as.aead = c.aead;
			as.contexts = c.contexts;
			t->callee[k].against = add_callee(t, other, as);
		}
	t->workers = cpu_count() > MAX_THREADS / 2 ? MAX_THREADS / 2 : cpu_count();
	t->gap_us = choice->gap_us;
	t->rounds = choice->rounds;
	t->slot_ns = SLOT_NS;
	t->slots = (unsigned)(choice->seconds * 1e9 / SLOT_NS / t->rounds);
	if (t->slots == 0) {
		t->slots = 1;
		t->slot_ns = choice->seconds * 1e9 / t->rounds;
	}
	t->slot_calls = (size_t)(t->slot_ns / 1e3 / (t->gap_us + 1.0)) + 1;
	if (t->slot_calls > MOST_CALLS / t->slots / t->rounds)
		t->slot_calls = MOST_CALLS / t->slots / t->rounds;
	const size_t room = t->slot_calls * t->slots * t->rounds;
	pthread_barrier_init(&t->start, NULL, t->workers);
	for (size_t k = 0; k < t->n; k++)
		for (unsigned w = 0; w < t->workers; w++) {
			struct callee *e = &t->callee[k];
			e->set[w] = set_new(e->c);
			e->state[w] = e->peer->open(e->peer, e->set[w]);
			e->ns[w] = must_alloc(64, room * sizeof(float));
			memset(e->ns[w], 0, room * sizeof(float)); /* no page faults later */
		}
	for (unsigned w = 0; w < t->workers; w++) {
		me[w] = (struct turner){ .all = t, .number = w };
		if ((errno = pthread_create(&me[w].thread, NULL, take_turns, &me[w])))
			die("pthread_create: %s", strerror(errno));
	}
	for (unsigned w = 0; w < t->workers; w++)
		pthread_join(me[w].thread, NULL);
	write_turns(f, t);
	for (size_t k = 0; k < t->n; k++)
		for (unsigned w = 0; w < t->workers; w++) {
			t->callee[k].peer->close(t->callee[k].state[w]);
			set_free(t->callee[k].set[w]);
			free(t->callee[k].ns[w]);
		}
	pthread_barrier_destroy(&t->start);
	free(t);
}
