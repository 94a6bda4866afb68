/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a careful packet costs on top of its kernel: the difference of two figures
 * that are much larger than it. Both are measured by turns, a pass at a time, and
 * each pass is compared with the one beside it: what slows the machine down for
 * longer than a pass is in both.
 */
#include "bench.h"
#include <eesp.h>
#include <stdlib.h>

enum { ROUNDS = 10000 };

/* Of the second of two passes: caches are warm. Packets that are opened but once need
 * two sets, and a receiver for each. */
static double pass_ns(const struct peer *p, void *const state[2], const struct config *c)
{
	for (int i = 0; renewed(c) && i < 2; i++)
		p->renew(state[i]);
	p->pass(state[0]);
	double begin = now_ns();
	p->pass(state[1]);
	return now_ns() - begin;
}

static void measure(FILE *f, const struct peer *p, struct config c, struct config under, unsigned rounds)
{
	static double top[ROUNDS], one[ROUNDS], both[ROUNDS];
	struct set *s = set_new(c), *t;
	double n = (double)s->n;
	under.packets = s->n;
	t = set_new(under);
	void *x[2] = { p->open(p, s) }, *y[2] = { p->open(p, t) };
	x[1] = renewed(&c) ? p->open(p, s) : x[0];
	y[1] = y[0];
	if (rounds > ROUNDS)
		rounds = ROUNDS;
	for (unsigned i = 0; i < rounds / 8 + 1; i++)
		pass_ns(p, x, &c), pass_ns(p, y, &under);
	for (unsigned i = 0; i < rounds; i++) {
		both[i] = pass_ns(p, x, &c) / n;
		one[i] = pass_ns(p, y, &under) / n;
		top[i] = both[i] - one[i];
	}
	qsort(top, rounds, sizeof *top, by_double);
	qsort(one, rounds, sizeof *one, by_double);
	qsort(both, rounds, sizeof *both, by_double);
	fprintf(f, "| %-9s | %-11s | %-7s | %6zu | %5zu | %-11s | %8.1f | %8.1f | %+7.1f | %+5.1f %+5.1f |\n",
		profile_name(c.profile), work_name(c.work), config_name(&c), c.size, c.burst, work_name(under.work),
		one[rounds / 2], both[rounds / 2], top[rounds / 2], top[rounds / 4], top[rounds * 3 / 4]);
	fflush(f);
	if (x[1] != x[0])
		p->close(x[1]);
	p->close(x[0]);
	p->close(y[0]);
	set_free(s);
	set_free(t);
}

void run_on_top(FILE *f, const struct peer *p, const char *only, const char *work_only, unsigned rounds)
{
	static const struct {
		size_t size, burst;
	} cases[] = { { 64, 32 }, { 1420, 32 }, { 64, 1 } };
	fprintf(f, "| profile   | work        | config  | octets | burst | kernel      |       ns |  careful |  on top "
		   "| quartiles   |\n"
		   "|:----------|:------------|:--------|-------:|------:|:------------|---------:|---------:|"
		   "--------:|:------------|\n");
	for (unsigned profile = EESP_PROFILE_STATELESS; profile <= EESP_PROFILE_EESP; profile++)
		for (size_t k = 0; k < sizeof cases / sizeof *cases; k++)
			for (enum work work = PACKET_SEAL; work <= PACKET_OPEN; work++) {
				struct config c = work_of(profile, work), kernel = c;
				c.size = kernel.size = cases[k].size;
				c.burst = kernel.burst = cases[k].burst;
				c.threads = kernel.threads = 1;
				c.careful = true;
				kernel.profile = 0;
				kernel.contexts = DISTINCT;
				kernel.work = kernels_of(profile, work);
				if ((!work_only || !strcmp(work_only, work_name(work))) &&
				    (!only || !strcmp(only, profile_name(profile))))
					measure(f, p, c, kernel, rounds);
			}
}

/* What windows add to packets that are careful otherwise. Each packet is opened once, so all are sealed before a pass;
 * its receivers' windows were used in the pass before. */
static void measure_windows(FILE *f, const struct peer *p, struct config c, unsigned rounds)
{
	static double added[ROUNDS], without[ROUNDS], with[ROUNDS];
	struct config none = c;
	none.replay = NO_REPLAY;
	none.visited = false;
	struct set *s = set_new(c), *t = set_new(none);
	void *x = p->open(p, s), *y = p->open(p, t);
	double n = (double)s->n;
	if (rounds > ROUNDS)
		rounds = ROUNDS;
	for (unsigned i = 0; i < rounds + rounds / 8 + 1; i++) {
		const unsigned at = i % rounds; /* the first ones warm up */
		double begin, middle;
		p->renew(x);
		begin = now_ns();
		p->pass(x);
		with[at] = (now_ns() - begin) / n;
		p->renew(y);
		middle = now_ns();
		p->pass(y);
		without[at] = (now_ns() - middle) / n;
		added[at] = with[at] - without[at];
	}
	qsort(added, rounds, sizeof *added, by_double);
	qsort(without, rounds, sizeof *without, by_double);
	qsort(with, rounds, sizeof *with, by_double);
	fprintf(f, "| %-9s | %6zu | %5zu | %-7s | %8.1f | %8.1f | %+7.1f | %+5.1f %+5.1f |\n", profile_name(c.profile),
		c.flows, c.burst, c.visited ? "several" : "one", without[rounds / 2], with[rounds / 2],
		added[rounds / 2], added[rounds / 4], added[rounds * 3 / 4]);
	fflush(f);
	p->close(x);
	p->close(y);
	set_free(s);
	set_free(t);
}

void run_windows(FILE *f, const struct peer *p, const char *only, unsigned rounds)
{
	static const struct {
		size_t flows, burst;
		bool visited;
	} cases[] = { { 1, 32, 0 },    { 32, 32, 0 },	 { 32, 32, 1 },	  { 32, 1, 0 },
		      { 1024, 32, 0 }, { 4096, 32, 0 }, { 4096, 32, 1 }, { 32768, 32, 0 } };
	fprintf(f, "| profile   |  flows | burst | threads |  without |     with |   added | quartiles   |\n"
		   "|:----------|-------:|------:|:--------|---------:|---------:|--------:|:------------|\n");
	for (unsigned profile = EESP_PROFILE_STATELESS; profile <= EESP_PROFILE_EESP; profile++)
		for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
			struct config c = work_of(profile, PACKET_OPEN);
			c.size = 64;
			c.burst = cases[k].burst;
			c.threads = 1;
			c.careful = true;
			c.flows = cases[k].flows;
			c.visited = cases[k].visited;
			if (profile != EESP_PROFILE_TSS && (!only || !strcmp(only, profile_name(profile))))
				measure_windows(f, p, c, rounds);
		}
}
