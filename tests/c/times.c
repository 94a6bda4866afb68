/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Replay protection by time without cgo calls (libeesp/times.h) gives the same results as
 * Go, on two equal tables and on one table that both use. Linked with the library's
 * internal symbols, as direct.c is.
 */
#include "test.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "cgo.h"

enum { MANY = 32, LEN = 40, ROOM = EESP_MAX_SEALED_LEN(LEN), SECOND = 1 << 28, SLICES = 32, LINE = 8 };

static int possible; /* this backend and processor have kernels for C */

static uint64_t seed = 1;
static uint32_t any(uint32_t below)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(((seed >> 32) * below) >> 32);
}

static uint64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	return ((uint64_t)t.tv_sec << 28) + ((uint64_t)t.tv_nsec << 28) / 1000000000;
}

/* Forms of packets. */
static const struct form {
	const char *name;
	uint32_t profile;
	uint8_t v, held;
} forms[] = {
	{ "stateless", EESP_PROFILE_STATELESS, EESP_V_ID, 0 },
	{ "stateless, two addresses", EESP_PROFILE_STATELESS, EESP_V_LONG_ID_SRC_DST, 0 },
	{ "stateless, one address, data key", EESP_PROFILE_STATELESS, EESP_V_ID_SRC, 1 },
	{ "psp", EESP_PROFILE_PSP, 1, 0 },
	{ "psp, data key", EESP_PROFILE_PSP, 0, 1 },
};

/* A group of a form. Without timed it has the same keys, but senders that set any counter. */
static eesp_group *group_of(const struct form *f, int timed)
{
	eesp_group_config c = EESP_GROUP_CONFIG_INIT;
	eesp_group *g;
	uint8_t key[32] = { 5 };
	c.profile = f->profile;
	c.versions = f->profile == EESP_PROFILE_PSP ? 3 : 0;
	c.flags = timed ? EESP_GROUP_TIME : 0;
	WORKS(eesp_group_new(&c, &g));
	if (f->profile == EESP_PROFILE_PSP)
		WORKS(eesp_group_set_key(g, 0, key, sizeof key));
	else
		set_root_key(g, EESP_LEVEL_ZONE);
	return g;
}

static eesp_receiver_config by_time(void)
{
	eesp_receiver_config c = EESP_RECEIVER_CONFIG_INIT;
	c.replay_mode = EESP_REPLAY_TIME;
	c.flags = EESP_RECEIVER_CLOCK_TRUSTED;
	c.max_age_us = 10000000; /* the test may be stopped for some seconds */
	c.max_early_us = 2000000;
	c.max_rate = 2000;
	return c;
}

static struct eesp_times *times_of(eesp_receiver *r)
{
	const struct eesp_open_plan *w = *direct_open_plan(r);
	return w != NULL ? w->times : NULL;
}

/* Two receivers with their tables. Packets of the second all go to Go. */
static struct side {
	eesp_receiver *receiver;
	struct eesp_times *times;
	uint8_t room[MANY][ROOM];
	eesp_pkt p[MANY];
} side[2];

static eesp_data_key held_key;
static uint64_t begin; /* the floors */

static void new_sides(const struct form *f, eesp_group *timed)
{
	for (int i = 0; i < 2; i++) {
		eesp_receiver_config c = by_time();
		if (f->held)
			WORKS(eesp_receiver_new_with_key(&held_key, &c, &side[i].receiver));
		else
			WORKS(eesp_receiver_new(&timed, 1, &c, &side[i].receiver));
		side[i].times = times_of(side[i].receiver);
		CHECK(side[i].times != NULL);
	}
	struct eesp_times *a = side[0].times, *b = side[1].times;
	memcpy(b->seed, a->seed, sizeof a->seed);
	b->no_addr = a->no_addr;
	memcpy(b->tsc_seed, a->tsc_seed, sizeof a->tsc_seed);
	/* With this floor, the result does not depend on how long the test has run. */
	begin = now() - 5 * (uint64_t)SECOND;
	a->floor = b->floor = begin;
	a->most = b->most = 0;
	*direct_open_plan(side[1].receiver) = NULL;
}

/* Seals a packet with a time as counter, the held data key, and the header of another packet of its sender. */
static uint32_t seal_held(const struct form *f, const uint8_t *header, uint32_t n, uint64_t time, uint8_t *to)
{
	eesp_keyset *set;
	eesp_job j;
	uint32_t at = f->profile == EESP_PROFILE_PSP ? 8 : n - 8;
	memcpy(to, header, n);
	memset(&j, 0, sizeof j);
	j.nonce[3] = (uint8_t)held_key.id;
	for (int k = 0; k < 8; k++)
		to[at + (uint32_t)k] = j.nonce[4 + k] = (uint8_t)(time >> (56 - 8 * k));
	j.aad = to;
	j.aad_len = n;
	j.src = j.dst = to + n;
	j.len = LEN;
	j.tag = to + n + LEN;
	WORKS(eesp_keyset_new(EESP_AEAD_AES_128_GCM, held_key.key, 1, &set));
	SAME(eesp_keyset_seal(set, &j, 1), 1);
	eesp_keyset_free(set);
	return n + LEN + EESP_ICV_LEN;
}

/* Seals packet number x with a time as counter, and returns its length. */
static uint32_t seal_at(const struct form *f, eesp_group *plain, uint64_t time, size_t x, uint8_t *to)
{
	static uint32_t id = 100, header_len;
	static const struct form *of;
	static uint8_t header[EESP_MAX_HEADER];
	uint8_t room[ROOM];
	if (f->held && of == f) {
		fill(to + header_len, x, LEN);
		return seal_held(f, header, header_len, time, to);
	}
	eesp_sender_config c = EESP_SENDER_CONFIG_INIT;
	eesp_sender *s;
	c.counter_mode = EESP_COUNTER_EXPLICIT;
	c.start_counter = time & ((UINT64_C(1) << 48) - 1);
	if (!f->held || f->profile == EESP_PROFILE_PSP)
		c.epoch = (uint16_t)(time >> 48);
	if (f->held) {
		WORKS(eesp_sender_new_with_key(&held_key, &c, &s));
	} else {
		c.id = ++id;
		c.v = f->v;
		WORKS(eesp_sender_new(plain, &c, &s));
	}
	eesp_pkt p = packet(room + EESP_MAX_HEADER, LEN, EESP_MAX_HEADER, EESP_ICV_LEN);
	fill(p.data, x, LEN);
	SAME(eesp_seal_burst(s, &p, 1), 1);
	SAME(p.tsc, time);
	memcpy(to, p.out, p.out_len);
	header_len = eesp_sender_header_len(s);
	memcpy(header, to, header_len);
	of = f;
	eesp_sender_free(s);
	return p.out_len;
}

/* Fills the slice of a time in both tables, or most lines of it, with words of the packets'
 * cycle plus by. */
static void occupy(uint64_t time, int by, int all)
{
	for (int i = 0; i < 2; i++) {
		struct eesp_times *t = side[i].times;
		uint64_t n = time / t->slice, *w = t->words + n % SLICES * t->lines * LINE;
		for (uint64_t k = 0; k < t->lines * LINE; k++)
			if (all || k / LINE % 8 != 7)
				w[k] = (n / SLICES + (uint64_t)by) << 48 | (k + 1);
	}
}

/* Kinds of packets. */
static const struct kind {
	const char *name;
	int64_t from, to; /* ms from begin on; to 0: from is the number of a slice */
	int status;
} kinds[] = {
	{ "old", -100000, -20, EESP_ERR_STALE },
	{ "just above the floor", 0, 20, EESP_OK },
	{ "now", 5000, 5001, EESP_OK },
	{ "at any time", 3300, 4400, EESP_OK },
	{ "a full slice", 1, 0, EESP_ERR_FULL },
	{ "a slice that lives again", 2, 0, EESP_ERR_STALE },
	{ "a slice of old words", 3, 0, EESP_OK },
	{ "beyond the mark", 5700, 5900, EESP_ERR_STATE },
	{ "early", 100000, 200000, EESP_ERR_EARLY },
};

static uint64_t time_of(const struct kind *k, const struct eesp_times *t)
{
	const uint64_t ms = SECOND / 1000;
	if (k->to == 0) /* a slice for this kind */
		return ((begin + 1000 * ms) / t->slice + (uint64_t)k->from) * t->slice + any(1000000);
	return begin + (uint64_t)k->from * ms + ((uint64_t)any(1 << 30) * ((uint64_t)(k->to - k->from) * ms) >> 30);
}

static void as_the_general_path(void)
{
	uint64_t counts[COUNT(kinds)] = { 0 }, by_cgo = 0, all = 0, replays = 0;
	for (const struct form *f = forms; f < forms + COUNT(forms); f++) {
		eesp_group *plain = group_of(f, 0), *timed = group_of(f, 1);
		if (f->held) {
			eesp_context x = { .id = 77, .v = f->v };
			if (f->profile == EESP_PROFILE_STATELESS) {
				x.epoch = (uint16_t)(now() >> 48);
				memcpy(x.addr.src, packet(NULL, 0, 0, 0).addr.src, sizeof x.addr.src);
			}
			WORKS(eesp_data_key_export(plain, &x, 0, &held_key));
		}
		new_sides(f, timed);
		struct eesp_times *a = side[0].times, *b = side[1].times;
		a->limit = b->limit = begin + 5600 * (uint64_t)(SECOND / 1000);
		uint64_t newest = 0; /* of all packets that opened */
		occupy(time_of(&kinds[4], a), 0, 1);
		occupy(time_of(&kinds[5], a), 1, 1);
		occupy(time_of(&kinds[6], a), -1, 1);
		occupy(time_of(&kinds[2], a), 0, 0); /* packets find places some lines behind */
		for (int round = 0; round < (emulated() ? 4 : 30); round++) {
			size_t n = 1 + any(MANY), which[MANY], first[MANY];
			for (size_t i = 0; i < n; i++) {
				which[i] = any(COUNT(kinds));
				first[i] = i;
				if (i > 0 && any(4) == 0) { /* a copy of an earlier packet */
					size_t of = any((uint32_t)i);
					which[i] = which[of];
					first[i] = first[of];
					memcpy(side[0].room[i], side[0].room[of], ROOM);
					side[0].p[i] = side[0].p[of];
					side[0].p[i].data = side[0].room[i];
				} else {
					uint32_t len = seal_at(f, plain, time_of(&kinds[which[i]], a), first[i],
							       side[0].room[i]);
					side[0].p[i] = packet(side[0].room[i], len, 0, 0);
				}
			}
			uint8_t forged[MANY];
			for (size_t i = 0; i < n; i++)
				forged[i] = any(6) == 0;
			for (size_t i = 0; i < n; i++) {
				memcpy(side[1].room[i], side[0].room[i], ROOM);
				side[1].p[i] = side[0].p[i];
				side[1].p[i].data = side[1].room[i];
			}
			for (int i = 0; i < 2; i++) {
				struct side *x = &side[i];
				uint8_t kept[MANY][ROOM];
				memcpy(kept, x->room, sizeof kept);
				for (size_t k = 0; k < n; k++)
					if (forged[k])
						x->room[k][x->p[k].len - 1] ^= 1;
				uint64_t before = direct_cgo_packets();
				eesp_pkt q[MANY];
				memcpy(q, x->p, sizeof q);
				eesp_open_burst(x->receiver, q, n);
				if (i == 0)
					by_cgo += direct_cgo_packets() - before;
				int seen[MANY] = { 0 };
				for (size_t k = 0; k < n; k++) {
					const struct kind *kind = &kinds[which[k]];
					int early = kind->status == EESP_ERR_EARLY || kind->status == EESP_ERR_STATE ||
						    kind == &kinds[0];
					int want = early ? kind->status : forged[k] ? EESP_ERR_AUTH : kind->status;
					if (want == EESP_OK && seen[first[k]]++)
						want = EESP_ERR_REPLAY;
					SAME(q[k].status, want);
					newest = want == EESP_OK && q[k].tsc > newest ? q[k].tsc : newest;
					if (want == EESP_OK)
						CHECK(q[k].out_len == LEN && filled(q[k].out, first[k], LEN));
					else if (!early) /* the packet was decrypted */
						CHECK(q[k].out == NULL &&
						      all_are(x->room[k] + x->p[k].len - LEN - EESP_ICV_LEN, LEN, 0));
					counts[which[k]] += i == 0 && want == kind->status;
					replays += i == 0 && want == EESP_ERR_REPLAY;
				}
				/* All packets again, the forged ones mended: packets that opened do not open again. */
				memcpy(x->room, kept, sizeof kept);
				memcpy(q, x->p, sizeof q);
				eesp_open_burst(x->receiver, q, n);
				for (size_t k = 0; k < n; k++) {
					int want = kinds[which[k]].status;
					if (want == EESP_OK && seen[first[k]]++)
						want = EESP_ERR_REPLAY;
					SAME(q[k].status, want);
					newest = want == EESP_OK && q[k].tsc > newest ? q[k].tsc : newest;
				}
			}
			all += n;
			CHECK(a->floor == begin && b->floor == begin);
			CHECK(a->most >= newest && a->most == b->most);
			CHECK(memcmp(a->words, b->words, a->lines * SLICES * LINE * 8) == 0);
		}
		eesp_stats stats[2];
		eesp_replay_stats more[2];
		for (int i = 0; i < 2; i++) {
			WORKS(eesp_receiver_stats(side[i].receiver, &stats[i]));
			WORKS(eesp_receiver_replay_stats(side[i].receiver, &more[i]));
			eesp_receiver_free(side[i].receiver);
		}
		CHECK(memcmp(&stats[0], &stats[1], sizeof stats[0]) == 0);
		CHECK(memcmp(&more[0], &more[1], sizeof more[0]) == 0);
		CHECK(more[0].early > 0 && more[0].duplicates > 0 && more[0].old > 0 && more[0].no_room > 0);
		eesp_group_free(plain);
		eesp_group_free(timed);
	}
	printf("     %llu packets, each twice on both sides; %llu were Go's on the first one\n",
	       (unsigned long long)all, (unsigned long long)by_cgo);
	for (size_t i = 0; i < COUNT(kinds); i++)
		CHECK(counts[i] > 0);
	CHECK(replays > 0);
	SAME(by_cgo, 0);
}

/* The floor rises while a burst is committed: the write of its last word stops at a page that cannot be
 * written, and the handler raises the floor above half of the words before it. Their packets are stale,
 * as each would be on its own, whether one thread uses the table or several. Backends of older processors
 * commit and deliver one packet after the other: there, those before the last one are delivered before. */
static struct rise {
	struct eesp_times *times;
	uint64_t to;
	uint8_t *page;
	size_t len;
	volatile int stops;
} rise;

static void rises(int sig, siginfo_t *info, void *context)
{
	uint8_t *at = info->si_addr;
	(void)context;
	if (at < rise.page || at >= rise.page + rise.len || rise.stops++ != 0)
		signal(sig, SIG_DFL);
	__atomic_store_n(&rise.times->floor, rise.to, __ATOMIC_SEQ_CST);
	if (mprotect(rise.page, rise.len, PROT_READ | PROT_WRITE) != 0)
		abort();
}

static void floor_rises(void)
{
	const struct form *f = &forms[0];
	eesp_group *plain = group_of(f, 0), *timed = group_of(f, 1);
	struct sigaction a = { .sa_sigaction = rises, .sa_flags = SA_SIGINFO }, before;
	const uint64_t ms = SECOND / 1000, page = (uint64_t)sysconf(_SC_PAGESIZE);
	const char *backend = eesp_backend_name();
	const size_t stale = strcmp(backend, "vaes256") != 0 && strcmp(backend, "aesni") != 0 ? MANY / 2 : 0;
	CHECK(sigaction(SIGSEGV, &a, &before) == 0);
	for (int several = 0; several < 2; several++) {
		new_sides(f, timed);
		struct eesp_times *t = side[0].times;
		if (several)
			t->sole.owner = UINT64_MAX;
		for (size_t i = 0; i < MANY; i++) {
			uint64_t time = begin + (i + 1 == MANY ? 4500 : 100 + 10 * i) * ms;
			side[0].p[i] = packet(side[0].room[i], seal_at(f, plain, time, i, side[0].room[i]), 0, 0);
		}
		uintptr_t first = (uintptr_t)(t->words + (begin + 4500 * ms) / t->slice % SLICES * t->lines * LINE);
		rise.times = t;
		rise.to = begin + (100 + 10 * (MANY / 2)) * ms;
		rise.page = (uint8_t *)(first & ~(page - 1));
		rise.len = (size_t)(((first + t->lines * LINE * 8 + page - 1) & ~(page - 1)) - (uintptr_t)rise.page);
		rise.stops = 0;
		CHECK(mprotect(rise.page, rise.len, PROT_READ) == 0);
		uint64_t cgo = direct_cgo_packets();
		SAME(eesp_open_burst(side[0].receiver, side[0].p, MANY), MANY - stale);
		SAME(direct_cgo_packets(), cgo);
		SAME(rise.stops, 1);
		for (size_t i = 0; i < MANY; i++) {
			const eesp_pkt *p = &side[0].p[i];
			SAME(p->status, i < stale ? EESP_ERR_STALE : EESP_OK);
			if (i < stale)
				CHECK(p->out == NULL && all_are(side[0].room[i] + p->len - LEN - EESP_ICV_LEN, LEN, 0));
			else
				CHECK(filled(p->out, i, LEN));
		}
		eesp_replay_stats stats;
		WORKS(eesp_receiver_replay_stats(side[0].receiver, &stats));
		SAME(stats.old, stale);
		for (int i = 0; i < 2; i++)
			eesp_receiver_free(side[i].receiver);
	}
	CHECK(sigaction(SIGSEGV, &before, NULL) == 0);
	eesp_group_free(plain);
	eesp_group_free(timed);
}

/* Only packets that come when a rare step is due go to Go. */
static void what_is_due(void)
{
	const struct form *f = &forms[0];
	eesp_group *plain = group_of(f, 0), *timed = group_of(f, 1);
	uint8_t room[ROOM];
	struct eesp_times *t;
	new_sides(f, timed);
	t = side[0].times;
#define OPEN(time, want, went)                                                                   \
	do {                                                                                     \
		eesp_pkt p = packet(room, seal_at(f, plain, time, 1, room), 0, 0);               \
		uint64_t cgos = direct_cgo_packets();                                              \
		eesp_open_burst(side[0].receiver, &p, 1);                                        \
		SAME(p.status, want);                                                            \
		SAME(direct_cgo_packets() - cgos, went);                                           \
	} while (0)
	OPEN(now(), EESP_OK, 0);
	t->due = 1; /* the sweep is due */
	OPEN(now(), EESP_OK, 1);
	CHECK(t->due > now());
	OPEN(now(), EESP_OK, 0);
	/* C moves the floor with the clock. */
	uint64_t was = t->floor = now() - 11 * (uint64_t)SECOND;
	t->due = UINT64_MAX;
	OPEN(was + 10, EESP_ERR_STALE, 0);
	CHECK(t->floor > was && t->floor <= now() - 10 * (uint64_t)SECOND);
	/* The clock was an hour ahead: all packets are refused for a second, then new ones are accepted. */
	uint64_t before = now() - 5;
	OPEN(before, EESP_OK, 0);
	t->floor += 3600 * (uint64_t)SECOND;
	OPEN(now(), EESP_ERR_STALE, 1);
	CHECK(t->behind != 0);
	t->behind = 1; /* since just after the machine started */
	OPEN(now(), EESP_ERR_STALE, 1);
	int status = EESP_ERR_STALE;
	for (int i = 0; i < 5000 && status == EESP_ERR_STALE; i++) { /* bursts of other threads may delay the reset */
		eesp_pkt p = packet(room, seal_at(f, plain, now() + SECOND, 1, room), 0, 0);
		eesp_open_burst(side[0].receiver, &p, 1);
		status = p.status;
		usleep(1000);
	}
	SAME(status, EESP_OK);
	OPEN(before, EESP_ERR_STALE, 0);
	for (int i = 0; i < 2; i++)
		eesp_receiver_free(side[i].receiver);
	eesp_group_free(plain);
	eesp_group_free(timed);
}

/* A thread uses its last reading of the clock for a short time. The results are those of
 * the clock itself. */
static void reading(void)
{
	enum { MS = SECOND / 1000 };
	const struct form *f = &forms[0];
	eesp_group *plain = group_of(f, 0), *timed = group_of(f, 1);
	struct times_reading *r = direct_reading();
	uint8_t room[2][ROOM];
	new_sides(f, timed);
	struct eesp_times *t = side[0].times;
	int kept = 0, passed = 0, old = 0;
	for (size_t i = 0; i < 200; i++) {
		/* 0: passes by any reading; 1: by the clock alone, 2: by the reading alone. */
		for (int kind = 0; kind < 3; kind++) {
			uint64_t before = now(), was, time = 0;
			for (size_t k = 0; k < 2; k++) {
				time = k == 0 || kind == 0 ? now()
				       : kind == 1         ? now() + t->early - MS / 4
							   : now() - t->age - MS / 4;
				uint32_t len = seal_at(f, plain, time, i, room[k]);
				side[0].p[k] = packet(room[k], len, 0, 0);
			}
			t->floor = now() - t->age - t->slice / 2;
			r->now = 0;
			SAME(eesp_open_burst(side[0].receiver, side[0].p, 1), 1);
			CHECK(r->now == 0 || r->now >= before);
			if (r->now == 0) /* the CPU's counter cannot be used */
				goto out;
			was = kind == 0 ? r->now : kind == 1 ? time - t->early - 1 : time + t->age;
			r->now = was;
			eesp_open_burst(side[0].receiver, side[0].p + 1, 1);
			SAME(side[0].p[1].status, kind == 2 ? EESP_ERR_STALE : EESP_OK);
			kept += kind == 0 && r->now == was;
			passed += kind == 1 && r->now > was;
			old += kind == 2 && r->now > was;
		}
	}
	CHECK(kept > 0 || emulated()); /* unless the thread was stopped each time */
	SAME(passed, 200);
	SAME(old, 200);
out:
	printf("     of 200 readings %d were used again, and the clock read in %d of 400 cases in which it matters\n",
	       kept, passed + old);
	for (int i = 0; i < 2; i++)
		eesp_receiver_free(side[i].receiver);
	eesp_group_free(plain);
	eesp_group_free(timed);
}

/* ---- Threads ---- */

enum { THREADS = 4, BURSTS = 60 };

static struct {
	eesp_group *group;
	eesp_sender *sender[2];
	eesp_receiver *receiver[2]; /* one table */
	uint8_t sealed[THREADS][BURSTS][MANY][ROOM];
	uint64_t tsc[THREADS][BURSTS][MANY], after[THREADS][BURSTS], before[THREADS][BURSTS];
	atomic_int opened[THREADS][BURSTS][MANY];
	atomic_int ready;
	uint32_t len;
} shared;

static void *seals(void *arg)
{
	size_t me = (size_t)(uintptr_t)arg;
	for (size_t b = 0; b < BURSTS; b++) {
		eesp_pkt p[MANY];
		uint8_t room[MANY][ROOM];
		for (size_t i = 0; i < MANY; i++) {
			p[i] = packet(room[i] + EESP_MAX_HEADER, LEN, EESP_MAX_HEADER, EESP_ICV_LEN);
			fill(p[i].data, i, LEN);
		}
		shared.before[me][b] = now();
		SAME(eesp_seal_burst(shared.sender[me % 2], p, MANY), MANY);
		shared.after[me][b] = now();
		for (size_t i = 0; i < MANY; i++) {
			memcpy(shared.sealed[me][b][i], p[i].out, p[i].out_len);
			shared.tsc[me][b][i] = p[i].tsc;
			shared.len = p[i].out_len;
		}
	}
	return NULL;
}

/* Opens the packets of all threads, in a different order in each thread. */
static void *opens(void *arg)
{
	size_t me = (size_t)(uintptr_t)arg, first = me * 7 % BURSTS;
	uint8_t room[MANY][ROOM];
	for (atomic_fetch_add(&shared.ready, 1); atomic_load(&shared.ready) < THREADS;)
		sched_yield();
	for (size_t x = 0; x < THREADS * BURSTS; x++) {
		size_t t = x % THREADS, b = (first * (me & 1) + x / THREADS) % BURSTS;
		eesp_pkt p[MANY];
		for (size_t i = 0; i < MANY; i++) {
			size_t k = (i * 5 + me) % MANY;
			memcpy(room[i], shared.sealed[t][b][k], ROOM);
			p[i] = packet(room[i], shared.len, 0, 0);
		}
		eesp_open_burst(shared.receiver[me / 2], p, MANY);
		for (size_t i = 0; i < MANY; i++) {
			if (p[i].status == EESP_OK)
				atomic_fetch_add(&shared.opened[t][b][(i * 5 + me) % MANY], 1);
			else
				SAME(p[i].status, EESP_ERR_REPLAY);
		}
	}
	return NULL;
}

static int less(const void *a, const void *b)
{
	uint64_t x, y;
	memcpy(&x, a, sizeof x);
	memcpy(&y, b, sizeof y);
	return x < y ? -1 : x > y;
}

/* Two threads seal in C and two in Go, with counters of one sender: each counter comes
 * once, and is the time. Then two threads open all packets in C and two in Go, on one
 * table: each packet opens once. */
static void threads(void)
{
	pthread_t t[THREADS];
	const uint64_t lead = SECOND / 500; /* 2 ms */
	shared.group = group_of(&forms[0], 1);
	eesp_receiver_config rc = by_time();
	rc.max_rate = 100000;
	rc.max_early_us = 5000;
	WORKS(eesp_receiver_new(&shared.group, 1, &rc, &shared.receiver[0]));
	rc.flags = 0;
	rc.heir_of = shared.receiver[0];
	WORKS(eesp_receiver_new(&shared.group, 1, &rc, &shared.receiver[1]));
	*direct_open_plan(shared.receiver[1]) = NULL;
	for (int i = 0; i < 2; i++) {
		eesp_sender_config sc = EESP_SENDER_CONFIG_INIT;
		sc.id = 88; /* below the IDs of as_the_general_path */
		sc.engine_bits = 2;
		sc.engine = 1;
		WORKS(eesp_sender_new(shared.group, &sc, &shared.sender[i]));
	}
	*direct_seal_plan(shared.sender[1]) = NULL;
	usleep(6000); /* for the first 5 ms receivers open nothing */
	uint64_t before = direct_cgo_packets();
	seals((void *)0); /* attaches this thread too */
	if (possible)
		SAME(direct_cgo_packets() - before, 0);
	for (size_t i = 0; i < THREADS; i++)
		CHECK(pthread_create(&t[i], NULL, seals, (void *)(uintptr_t)i) == 0);
	for (size_t i = 0; i < THREADS; i++)
		CHECK(pthread_join(t[i], NULL) == 0);
	for (size_t i = 0; i < THREADS; i++)
		for (size_t b = 0; b < BURSTS; b++)
			for (size_t k = 0; k < MANY; k++) {
				uint64_t tsc = shared.tsc[i][b][k];
				CHECK((tsc & 3) == 1 && tsc + 4 > shared.before[i][b] &&
				      tsc < shared.after[i][b] + lead);
				CHECK(k == 0 || tsc > shared.tsc[i][b][k - 1]);
			}
	uint64_t *all = &shared.tsc[0][0][0];
	static uint64_t sorted[THREADS * BURSTS * MANY];
	memcpy(sorted, all, sizeof sorted);
	qsort(sorted, COUNT(sorted), sizeof sorted[0], less);
	for (size_t i = 1; i < COUNT(sorted); i++)
		CHECK(sorted[i] != sorted[i - 1]);
	for (size_t i = 0; i < THREADS; i++)
		CHECK(pthread_create(&t[i], NULL, opens, (void *)(uintptr_t)i) == 0);
	for (size_t i = 0; i < THREADS; i++)
		CHECK(pthread_join(t[i], NULL) == 0);
	for (size_t i = 0; i < THREADS; i++)
		for (size_t b = 0; b < BURSTS; b++)
			for (size_t k = 0; k < MANY; k++)
				SAME(atomic_load(&shared.opened[i][b][k]), 1);
	for (int i = 0; i < 2; i++) {
		eesp_sender_free(shared.sender[i]);
		eesp_receiver_free(shared.receiver[i]);
	}
	eesp_group_free(shared.group);
}

/* After a pause a sender does not use old times. One that is too fast for its engine bits
 * gets EESP_ERR_CLOCK. Both paths do the same. */
static void pace(void)
{
	eesp_group *g = group_of(&forms[0], 1);
	enum { BURST = 1500 };
	static uint8_t room[BURST][ROOM];
	static eesp_pkt p[BURST];
	for (int way = 0; way < 2; way++) {
		eesp_sender_config c = EESP_SENDER_CONFIG_INIT;
		eesp_sender *s;
		c.id = 0x40000000 + (unsigned)way; /* as_the_general_path uses IDs from 100 on, with future times */
		c.engine_bits = 10; /* 524 counters in 2 ms */
		WORKS(eesp_sender_new(g, &c, &s));
		if (way)
			*direct_seal_plan(s) = NULL;
		for (int round = 0; round < 3; round++) {
			usleep(3000);
			uint64_t before = now();
			p[0] = packet(room[0] + EESP_MAX_HEADER, LEN, EESP_MAX_HEADER, EESP_ICV_LEN);
			SAME(eesp_seal_burst(s, p, 1), 1);
			CHECK(p[0].tsc + 1024 > before && p[0].tsc < now() + SECOND / 500);
		}
		for (int i = 0; i < BURST; i++)
			p[i] = packet(room[i] + EESP_MAX_HEADER, LEN, EESP_MAX_HEADER, EESP_ICV_LEN);
		usleep(3000);
		size_t n = eesp_seal_burst(s, p, BURST);
		SAME(n, 524);
		for (size_t i = 0; i < BURST; i++)
			SAME(p[i].status, i < n ? EESP_OK : EESP_ERR_CLOCK);
		eesp_sender_free(s);
	}
	eesp_group_free(g);
}

int main(void)
{
	const char *backend = eesp_backend_name();
	CHECK(backend);
	possible = strcmp(backend, "vaes512") == 0 || strcmp(backend, "vaes256") == 0 ||
		   strcmp(backend, "aesni") == 0 || strcmp(backend, "armv8") == 0;
	const char *direct = getenv("EESP_DIRECT");
	if (direct != NULL && strcmp(direct, "0") == 0)
		possible = 0;
	if (possible) {
		TEST(as_the_general_path);
		TEST(floor_rises);
		TEST(what_is_due);
		TEST(reading);
	} else {
		printf("     backend %s has no kernels for C, or may not: all packets are Go's\n", backend);
	}
	TEST(threads);
	TEST(pace);
	return 0;
}
