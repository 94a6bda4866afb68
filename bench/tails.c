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

static void *work(void *argument)
{
	struct worker *w = argument;
	const struct timespec gap = { 0, (long)w->gap_us * 1000 };
	prctl(PR_SET_TIMERSLACK, 1);
	if (w->renewed)
		w->peer->renew(w->state);
	w->peer->pass(w->state);
	pthread_barrier_wait(w->start);
	double end = now_ns() + w->seconds * 1e9, t = 0;
	while (w->calls < ROOM && t < end) {
		if (w->renewed)
			w->peer->renew(w->state);
		if (w->gap_us)
			nanosleep(&gap, NULL);
		double begin = now_ns();
		w->peer->pass(w->state);
		t = now_ns();
		w->ns[w->calls++] = (float)(t - begin);
	}
	return NULL;
}

static int by_ns(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;
	return x < y ? -1 : x > y;
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
#define CALL(peer, w, p, k) \
	{ peer, { .work = w, .aead = (p) == EESP_PROFILE_TSS ? EESP_AEAD_AES_256_GCM : EESP_AEAD_AES_128_GCM, \
		  .size = 64, .burst = 32, .threads = 1, .profile = p, .careful = k, \
		  .contexts = (p) && (w) == PACKET_SEAL ? EQUAL : DISTINCT } }
	static const struct {
		const char *peer;
		struct config c;
	} callees[] = {
		CALL("ipsec-mb", REKEY_SEAL, 0, false),
		CALL("libeesp", REKEY_SEAL, 0, false),
		CALL("libeesp", PACKET_SEAL, EESP_PROFILE_STATELESS, true),
		CALL("libeesp", PACKET_OPEN, EESP_PROFILE_STATELESS, true),
		CALL("libeesp", PACKET_SEAL, EESP_PROFILE_PSP, true),
		CALL("libeesp", PACKET_OPEN, EESP_PROFILE_PSP, true),
		CALL("libeesp", PACKET_SEAL, EESP_PROFILE_TSS, true),
		CALL("libeesp", PACKET_OPEN, EESP_PROFILE_TSS, true),
		CALL("libeesp", PACKET_SEAL, EESP_PROFILE_EESP, true),
		CALL("libeesp", PACKET_OPEN, EESP_PROFILE_EESP, true),
		CALL("libeesp", PROXY, EESP_PROFILE_STATELESS, true),
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
					r->tails[r->tail_count++] = measure(&peers[i], callees[k].c, workers,
									    gaps[g].gap_us, gaps[g].seconds * scale);
			}
		}
	}
}
