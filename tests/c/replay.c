/* SPDX-License-Identifier: BSD-3-Clause */
/* Replay protection: a receiver opens each packet once. */
#include "test.h"

#include <time.h>

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>

enum { N = 64, ROOM = EESP_MAX_SEALED_LEN(100) };

static eesp_group *group;
static uint8_t rooms[N][ROOM], copies[2 * N][ROOM];
static eesp_pkt run[N];

/* Seals packets 0 to n-1 and describes them in run. */
static void seal_run(eesp_sender *s, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		run[i] = packet(rooms[i] + EESP_MAX_HEADER, 100, EESP_MAX_HEADER, EESP_ICV_LEN);
		fill(run[i].data, i, 100);
	}
	SAME(eesp_seal_burst(s, run, n), n);
}

/* A copy of packet i of run, to open. */
static eesp_pkt copy_of(size_t i, uint8_t to[ROOM])
{
	memcpy(to, run[i].out, run[i].out_len);
	eesp_pkt p = packet(to, run[i].out_len, 0, 0);
	p.addr = run[i].addr;
	return p;
}

static eesp_replay_stats replay_stats(eesp_receiver *r)
{
	eesp_replay_stats s;
	memset(&s, CANARY, sizeof s);
	WORKS(eesp_receiver_replay_stats(r, &s));
	return s;
}

/* Each packet twice in one burst, then all of them again. */
static void duplicates(void)
{
	for (size_t v = 0; v < COUNT(all_v); v++) {
		eesp_sender *s = new_sender(group, all_v[v], EESP_SENDER_OPTIONS);
		eesp_receiver *r = new_replay_receiver(group, 64, 0);
		uint32_t header = eesp_sender_header_len(s);
		seal_run(s, N);
		for (int again = 0; again < 2; again++) {
			eesp_pkt p[2 * N];
			for (size_t i = 0; i < 2 * N; i++) {
				p[i] = copy_of(i / 2, copies[i]);
				p[i].out = copies;
				p[i].out_len = 5;
			}
			SAME(eesp_open_burst(r, p, 2 * N), again ? 0 : N);
			for (size_t i = 0; i < 2 * N; i++) {
				if (!again && i % 2 == 0) {
					SAME(p[i].status, EESP_OK);
					CHECK(p[i].out_len == 100 && filled(p[i].out, i / 2, 100));
					continue;
				}
				SAME(p[i].status, EESP_ERR_REPLAY);
				CHECK(p[i].out == NULL && p[i].out_len == 0);
				if (again) /* the duplicate was not decrypted */
					CHECK(memcmp(copies[i], run[i / 2].out, run[i / 2].out_len) == 0);
				else
					CHECK(!filled(copies[i] + header, i / 2, 100));
			}
		}
		eesp_replay_stats st = replay_stats(r);
		CHECK(st.windows == 1 && st.most == 4096 && st.duplicates == 3 * N && st.made == 1 &&
		      st.given_up == 0 && st.old == 0 && st.no_room == 0);
		eesp_stats all;
		WORKS(eesp_receiver_stats(r, &all));
		CHECK(all.packets[0] == N && all.packets[-EESP_ERR_REPLAY] == 3 * N && all.octets == 100 * N);
		eesp_receiver_free(r);
		eesp_sender_free(s);
	}
}

static void order(void)
{
	eesp_sender *s = new_sender(group, EESP_V_ID, 0);
	eesp_receiver *r = new_replay_receiver(group, 64, 0);
	seal_run(s, N);
	for (size_t i = N; i-- > 0;) { /* in reverse order: all are in the window */
		eesp_pkt p = copy_of(i, copies[0]);
		SAME(eesp_open_burst(r, &p, 1), 1);
	}
	eesp_pkt old = copy_of(0, copies[0]);
	seal_run(s, 1);
	eesp_pkt p = copy_of(0, copies[1]);
	SAME(eesp_open_burst(r, &p, 1), 1);
	SAME(eesp_open_burst(r, &old, 1), 0);
	SAME(old.status, EESP_ERR_REPLAY);
	SAME(replay_stats(r).old, 1);
	/* Forged packets far ahead do not move the window. */
	for (size_t i = 0; i < 10; i++) {
		seal_run(s, 1);
		p = copy_of(0, copies[0]);
		memset((uint8_t *)p.data + 10, 0xff, 6);
		SAME(eesp_open_burst(r, &p, 1), 0);
		SAME(p.status, EESP_ERR_AUTH);
		p = copy_of(0, copies[0]);
		SAME(eesp_open_burst(r, &p, 1), 1);
	}
	SAME(replay_stats(r).windows, 1);
	eesp_receiver_free(r);
	eesp_sender_free(s);
}

/* The counters of one burst skip more than the width of the window, and longer packets come first. */
static void skipping(void)
{
	enum { HALF = 8, LONG = 100, SHORT = 40 };
	eesp_sender *s = new_sender(group, EESP_V_ID, EESP_SENDER_OPTIONS);
	eesp_receiver *r = new_replay_receiver(group, 64, 0);
	/* Several times, so that bursts take the fast path too. */
	for (int round = 0; round < 8; round++) {
		eesp_pkt p[2 * HALF];
		seal_run(s, HALF);
		for (size_t i = 0; i < HALF; i++)
			p[i] = copy_of(i, copies[i]);
		seal_run(s, N);
		seal_run(s, N);
		for (size_t i = 0; i < HALF; i++) {
			run[i] = packet(rooms[i] + EESP_MAX_HEADER, SHORT, EESP_MAX_HEADER, EESP_ICV_LEN);
			fill(run[i].data, i, SHORT);
		}
		SAME(eesp_seal_burst(s, run, HALF), HALF);
		for (size_t i = 0; i < HALF; i++)
			p[HALF + i] = copy_of(i, copies[HALF + i]);
		SAME(eesp_open_burst(r, p, 2 * HALF), 2 * HALF);
		for (size_t i = 0; i < 2 * HALF; i++) {
			SAME(p[i].status, EESP_OK);
			SAME(p[i].out_len, i < HALF ? LONG : SHORT);
			CHECK(filled(p[i].out, i % HALF, p[i].out_len));
		}
	}
	SAME(replay_stats(r).old, 0);
	eesp_receiver_free(r);
	eesp_sender_free(s);
}

/* Opens copies of packets from to from + n - 1 of run in one burst; all of them are new, or none. */
static void open_run(eesp_receiver *r, size_t from, size_t n, int fresh)
{
	eesp_pkt p[N];
	for (size_t i = 0; i < n; i++)
		p[i] = copy_of(from + i, copies[i]);
	SAME(eesp_open_burst(r, p, n), fresh ? n : 0);
	for (size_t i = 0; i < n; i++)
		SAME(p[i].status, fresh ? EESP_OK : EESP_ERR_REPLAY);
}

/* Bursts whose numbers follow each other: of one sender, of two, and of one with two addresses. */
static void consecutive(void)
{
	enum { LATE = 5, HALF = 16, ALL = 2 * HALF };
	eesp_receiver *r = new_replay_receiver(group, 64, 0);
	eesp_sender *s = new_sender(group, EESP_V_ID, 0), *t = new_sender(group, EESP_V_ID, 0);
	eesp_sender *by_address = new_sender(group, EESP_V_ID_SRC, 0);
	seal_run(s, 1); /* windows are there before what follows */
	open_run(r, 0, 1, 1);
	seal_run(t, 1);
	open_run(r, 0, 1, 1);
	eesp_pkt p[ALL];
	seal_run(s, HALF);
	for (size_t i = 0; i < HALF; i++)
		p[i] = copy_of(i, copies[i]);
	seal_run(t, ALL);
	for (size_t i = HALF; i < ALL; i++)
		p[i] = copy_of(i, copies[i]);
	SAME(eesp_open_burst(r, p, ALL), ALL);
	open_run(r, HALF, HALF, 0);
	open_run(r, 0, HALF, 1);
	/* It begins inside of a word, of which other numbers come later. */
	while (eesp_sender_next_tsc(s) % 16 != 0)
		seal_run(s, 1);
	seal_run(s, LATE + ALL);
	open_run(r, LATE, ALL, 1);
	open_run(r, 0, LATE, 1);
	open_run(r, 0, LATE + ALL, 0);
	for (int round = 0; round < 2; round++) {
		for (size_t i = 0; i < ALL; i++) {
			run[i] = packet(rooms[i] + EESP_MAX_HEADER, 100, EESP_MAX_HEADER, EESP_ICV_LEN);
			memset(&run[i].addr, i < HALF ? 1 : 2, sizeof run[i].addr);
		}
		SAME(eesp_seal_burst(by_address, run, ALL), ALL);
		open_run(r, 0, ALL, 1);
		open_run(r, HALF, HALF, 0);
		open_run(r, 0, ALL, 0);
	}
	eesp_receiver_free(r);
	eesp_sender_free(s);
	eesp_sender_free(t);
	eesp_sender_free(by_address);
}

/* Bursts of packets in any order, with copies, jumps and forgeries, of 1 to 24 contexts and 1 to 6 formats: each is
 * judged as if it came by itself. */
static void any_order(void)
{
	enum { WIDTH = 64, SENDERS = 4, ADDRS = 6, POOL = 2048, BURST = 70, ROUNDS = 400 };
	static uint8_t pool[POOL][ROOM], room[BURST][ROOM];
	static eesp_pkt sealed[POOL];
	static uint8_t seen[POOL];
	static size_t context[POOL];
	static uint64_t number[POOL];
	for (size_t v = 0; v <= 2 * COUNT(all_v); v++) {
		/* one format and one context, one format and many contexts, or all formats */
		const size_t few = v % 2, formats = v / 2;
		eesp_sender *s[SENDERS];
		uint64_t top[SENDERS * ADDRS] = { 0 }, rng = 88172645463325252u + v;
		eesp_receiver *r = new_replay_receiver(group, WIDTH, 0);
		size_t base = 0, opened = 0, refused = 0;
		for (size_t i = 0; i < SENDERS; i++) {
			eesp_sender_config c = explicit_config(formats < COUNT(all_v) ? all_v[formats] : all_v[i]);
			c.flags = i % 2 ? EESP_SENDER_OPTIONS : 0;
			WORKS(eesp_sender_new(group, &c, &s[i]));
		}
		for (size_t i = 0; i < POOL; i++) {
			const size_t from = few ? 0 : i * 7 / 3 % SENDERS, addr = few ? 0 : i * 5 % ADDRS;
			eesp_pkt *p = &sealed[i];
			*p = packet(pool[i] + EESP_MAX_HEADER, 20, EESP_MAX_HEADER, EESP_ICV_LEN);
			memset(&p->addr, (int)addr, sizeof p->addr);
			number[i] = eesp_sender_next_tsc(s[from]);
			SAME(eesp_seal_burst(s[from], p, 1), 1);
			const uint8_t what = formats < COUNT(all_v) ? all_v[formats] : all_v[from];
			context[i] = from * ADDRS + ((what & ~EESP_V_LONG_ID) == EESP_V_ID ? 0 : addr);
			seen[i] = 0;
		}
		for (size_t round = 0; round < ROUNDS; round++) {
			eesp_pkt p[BURST];
			size_t from[BURST], n = 1 + round * 13 % BURST;
			uint8_t forged[BURST];
			for (size_t i = 0; i < n; i++) {
				rng ^= rng << 13, rng ^= rng >> 7, rng ^= rng << 17;
				const size_t kind = rng >> 60;
				from[i] = base + i;			      /* in order */
				if (kind < 2 && i != 0)			      /* once more in this burst */
					from[i] = from[(rng >> 8) % i];
				else if (kind < 4)			      /* any late one */
					from[i] = base + i - (base + i < 200 ? 0 : (rng >> 8) % 200);
				else if (kind == 4 && (rng >> 8) % 64 == 0)   /* a jump */
					base += 100;
				from[i] %= POOL;
				p[i] = packet(room[i], sealed[from[i]].out_len, 0, 0);
				memcpy(room[i], sealed[from[i]].out, p[i].len);
				p[i].addr = sealed[from[i]].addr;
				if ((forged[i] = kind == 5 && round % 3 == 0))
					room[i][p[i].len - 1] ^= 1;
			}
			base += n * (round % 4 != 0);
			const size_t good = eesp_open_burst(r, p, n);
			uint64_t last[SENDERS * ADDRS] = { 0 };
			size_t right = 0;
			for (size_t i = 0; i < n; i++) {
				uint64_t *most = &last[context[from[i]]];
				*most = !forged[i] && number[from[i]] > *most ? number[from[i]] : *most;
			}
			for (size_t i = 0; i < n; i++) {
				const size_t of = from[i];
				uint64_t *t = &top[context[of]];
				const uint64_t seq = number[of], end = last[context[of]];
				int old = seen[of] || (seq <= *t && *t - seq >= WIDTH);
				/* where the burst's formats are opened one after the other, others may come first */
				old |= p[i].status == EESP_ERR_REPLAY && end > seq && end - seq >= WIDTH;
				if (forged[i]) /* refused by its number or its ICV */
					CHECK(p[i].status == EESP_ERR_AUTH || (old && p[i].status == EESP_ERR_REPLAY));
				else
					SAME(p[i].status, old ? EESP_ERR_REPLAY : EESP_OK);
				if (forged[i] || old) {
					refused++;
					continue;
				}
				seen[of] = 1;
				*t = seq > *t ? seq : *t;
				right++;
			}
			SAME(good, right);
			opened += right;
		}
		CHECK(opened > 500 && refused > 500);
		eesp_receiver_free(r);
		for (size_t i = 0; i < SENDERS; i++)
			eesp_sender_free(s[i]);
	}
}

/* Packets in segments. Each segment has memory of its own. */
static void chained(void)
{
	enum { SEGMENTS = 3 };
	eesp_sender *s = new_sender(group, EESP_V_LONG_ID, 0);
	eesp_receiver *r = new_replay_receiver(group, 128, 0);
	uint32_t header = eesp_sender_header_len(s);
	const size_t size[SEGMENTS] = { header + 33, 1, 66 + EESP_ICV_LEN };
	struct guarded g[2][SEGMENTS];
	for (int k = 0; k < 2; k++)
		for (int i = 0; i < SEGMENTS; i++)
			g[k][i] = guarded(size[i]);
	seal_run(s, 20);
	for (size_t n = 0; n < 20; n++) {
		eesp_iov iov[2][SEGMENTS];
		eesp_pkt p[2];
		for (int round = 0; round < 2; round++) {
			for (int k = 0; k < 2; k++) {
				const uint8_t *from = run[n].out;
				for (int i = 0; i < SEGMENTS; i++) {
					iov[k][i] = (eesp_iov){ (n & 1 ? g[k][i].end - size[i] : g[k][i].start),
								size[i] };
					memcpy(iov[k][i].base, from, size[i]);
					from += size[i];
				}
				SAME(from - (uint8_t *)run[n].out, run[n].out_len);
				p[k] = packet(NULL, 0, 0, 0);
				p[k].iov = iov[k];
				p[k].iov_count = SEGMENTS;
			}
			SAME(eesp_open_burst(r, p, 2), round == 0);
			if (round == 0) {
				SAME(p[0].status, EESP_OK);
				SAME(p[0].out_len, 100);
				uint8_t text[100];
				memcpy(text, (uint8_t *)iov[0][0].base + header, 33);
				memcpy(text + 33, iov[0][1].base, 1);
				memcpy(text + 34, iov[0][2].base, 66);
				CHECK(filled(text, n, 100));
			}
			for (int k = 1 - round; k < 2; k++) {
				SAME(p[k].status, EESP_ERR_REPLAY);
				CHECK(p[k].out == NULL && p[k].out_len == 0);
				if (round == 0)
					CHECK(all_are((uint8_t *)iov[k][0].base + header, 33, 0) &&
					      all_are(iov[k][1].base, 1, 0) && all_are(iov[k][2].base, 66, 0));
				else
					CHECK(memcmp(iov[k][0].base, run[n].out, size[0]) == 0 &&
					      memcmp(iov[k][2].base, (uint8_t *)run[n].out + size[0] + 1,
						     size[2]) == 0);
			}
		}
	}
	SAME(replay_stats(r).duplicates, 20 * 3);
	eesp_receiver_free(r);
	eesp_sender_free(s);
}

static void no_room(void)
{
	eesp_receiver *r = new_replay_receiver(group, 64, 2);
	for (int i = 0; i < 4; i++) {
		eesp_sender *s = new_sender(group, EESP_V_ID, EESP_SENDER_OPTIONS);
		SAME(one_packet(s, r), i < 2 ? EESP_OK : EESP_ERR_WINDOWS);
		eesp_sender_free(s);
	}
	eesp_replay_stats st = replay_stats(r);
	CHECK(st.windows == 2 && st.most == 2 && st.made == 2 && st.no_room == 2);
	/* When a key is wiped, its windows are freed. */
	eesp_group *g = new_group(0, EESP_LEVELS_ZONE);
	eesp_receiver *x = new_replay_receiver(g, 64, 1);
	for (uint64_t i = 0; i < 5; i++) {
		eesp_sender *s = new_sender(g, EESP_V_ID, EESP_SENDER_OPTIONS);
		SAME(one_packet(s, x), i == 0 ? EESP_OK : EESP_ERR_WINDOWS);
		SAME(one_packet(s, x), EESP_OK);
		WORKS(eesp_group_rotate(g, EESP_LEVEL_ZONE, 100 + 2 * i, NULL));
		WORKS(eesp_group_rotate(g, EESP_LEVEL_ZONE, 101 + 2 * i, NULL));
		eesp_sender_free(s);
	}
	st = replay_stats(x);
	CHECK(st.given_up == 4 && st.made == 5 && st.no_room == 4);
	eesp_receiver_free(x);
	eesp_receiver_free(r);
	eesp_group_free(g);
}

static void data_key_and_engines(void)
{
	eesp_context x = { .id = 0x7000, .levels = EESP_LEVELS_ZONE };
	eesp_data_key key;
	WORKS(eesp_data_key_export(group, &x, 0, &key));
	eesp_receiver_config rc = EESP_RECEIVER_CONFIG_INIT;
	rc.replay_window = 64;
	rc.engine_bits = 3;
	eesp_receiver *r;
	WORKS(eesp_receiver_new_with_key(&key, &rc, &r));
	for (uint32_t engine = 8; engine-- > 0;) {
		eesp_sender_config sc = EESP_SENDER_CONFIG_INIT;
		sc.counter_mode = EESP_COUNTER_EXPLICIT;
		sc.engine_bits = 3;
		sc.engine = engine;
		eesp_sender *s;
		WORKS(eesp_sender_new_with_key(&key, &sc, &s));
		seal_run(s, 3);
		for (size_t i = 0; i < 6; i++) {
			eesp_pkt p = copy_of(i / 2, copies[0]);
			SAME(eesp_open_burst(r, &p, 1), i % 2 == 0);
			SAME(p.status, i % 2 == 0 ? EESP_OK : EESP_ERR_REPLAY);
		}
		eesp_sender_free(s);
	}
	eesp_replay_stats st = replay_stats(r);
	CHECK(st.windows == 8 && st.duplicates == 24);
	eesp_receiver_free(r);
}

static void proxied(void)
{
	eesp_sender *s = new_sender(group, EESP_V_LONG_ID, 0), *out = new_sender(group, EESP_V_ID, 0);
	eesp_receiver *r = new_replay_receiver(group, 64, 0), *end = new_replay_receiver(group, 64, 0);
	eesp_proxy *proxy;
	WORKS(eesp_proxy_new(r, out, &proxy));
	seal_run(s, N);
	eesp_pkt p[2 * N];
	for (size_t i = 0; i < 2 * N; i++)
		p[i] = copy_of(i / 2, copies[i]);
	SAME(eesp_proxy_burst(proxy, p, 2 * N), N);
	for (size_t i = 0; i < 2 * N; i++) {
		SAME(p[i].status, i % 2 ? EESP_ERR_REPLAY : EESP_OK);
		if (i % 2)
			continue;
		eesp_pkt q = sealed(&p[i]);
		SAME(eesp_open_burst(end, &q, 1), 1);
		CHECK(filled(q.out, i / 2, 100));
	}
	eesp_proxy_free(proxy);
	eesp_receiver_free(r);
	eesp_receiver_free(end);
	eesp_sender_free(s);
	eesp_sender_free(out);
}

/* Each thread gets all packets: each packet opens once. */
enum { THREADS = 6, PACKETS = 3000 };

static struct {
	eesp_receiver *receiver;
	uint8_t (*rooms)[ROOM];
	uint32_t header;
	atomic_int opened[PACKETS];
} shared;

static void *opens_all(void *arg)
{
	size_t at = (size_t)(uintptr_t)arg * 7 % 13 + 1;
	uint8_t(*mine)[ROOM] = malloc(sizeof(uint8_t[40][ROOM]));
	CHECK(mine != NULL);
	for (size_t i = 0; i < PACKETS; i += at) {
		eesp_pkt p[40];
		if (at > PACKETS - i)
			at = PACKETS - i;
		uint32_t n = shared.header + 100 + EESP_ICV_LEN;
		for (size_t k = 0; k < at; k++) {
			memcpy(mine[k], shared.rooms[i + k] + EESP_MAX_HEADER - shared.header, n);
			p[k] = packet(mine[k], n, 0, 0);
		}
		size_t good = eesp_open_burst(shared.receiver, p, at);
		for (size_t k = 0; k < at; k++) {
			if (p[k].status == EESP_OK) {
				CHECK(filled(p[k].out, i + k, 100));
				shared.opened[i + k]++;
				good--;
			} else
				SAME(p[k].status, EESP_ERR_REPLAY);
		}
		SAME(good, 0);
	}
	free(mine);
	return NULL;
}

static void threads(void)
{
	eesp_group *psp = new_psp_group(), *groups[] = { group, psp };
	shared.rooms = malloc(sizeof(uint8_t[PACKETS][ROOM]));
	CHECK(shared.rooms != NULL);
	for (size_t g = 0; g < COUNT(groups); g++) {
		eesp_sender *s = new_sender(groups[g], EESP_V_ID, 0);
		shared.receiver = new_replay_receiver(groups[g], 4096, 0);
		shared.header = eesp_sender_header_len(s);
		for (size_t i = 0; i < PACKETS; i++) {
			eesp_pkt p = packet(shared.rooms[i] + EESP_MAX_HEADER, 100, shared.header, EESP_ICV_LEN);
			fill(p.data, i, 100);
			SAME(eesp_seal_burst(s, &p, 1), 1);
			shared.opened[i] = 0;
		}
		pthread_t t[THREADS];
		for (size_t i = 0; i < THREADS; i++)
			CHECK(pthread_create(&t[i], NULL, opens_all, (void *)(uintptr_t)i) == 0);
		for (size_t i = 0; i < THREADS; i++)
			CHECK(pthread_join(t[i], NULL) == 0);
		for (size_t i = 0; i < PACKETS; i++)
			SAME(shared.opened[i], 1);
		eesp_replay_stats st = replay_stats(shared.receiver);
		CHECK(st.windows == 1 && st.duplicates == (uint64_t)(THREADS - 1) * PACKETS);
		eesp_receiver_free(shared.receiver);
		eesp_sender_free(s);
	}
	free(shared.rooms);
	eesp_group_free(psp);
}

enum { ROUNDS = 300, OWNED = 48 };
static struct {
	eesp_receiver *receiver;
	eesp_pkt sealed[OWNED];
	pthread_barrier_t gate;
	atomic_int at, opened[OWNED];
	int from;
} second;

static void open_second(int i)
{
	uint8_t copy[ROOM];
	eesp_pkt p = second.sealed[i];
	memcpy(copy, p.out, p.out_len);
	p = packet(copy, p.out_len, 0, 0);
	if (eesp_open_burst(second.receiver, &p, 1) == 1)
		second.opened[i]++;
	else
		SAME(p.status, EESP_ERR_REPLAY);
}

static void *comes_later(void *arg)
{
	for (int round = 0; round < ROUNDS; round++) {
		pthread_barrier_wait(&second.gate);
		while (second.at < second.from)
			sched_yield();
		for (int i = second.from; i < OWNED; i++)
			open_second(i);
		pthread_barrier_wait(&second.gate);
	}
	return arg;
}

/* One thread opens packets, one a call, and at some moment another begins to open the same ones: the first no longer
 * uses the windows alone, at once. */
static void second_thread(void)
{
	eesp_sender *s = new_sender(group, EESP_V_ID, 0);
	pthread_t t;
	CHECK(pthread_barrier_init(&second.gate, NULL, 2) == 0);
	CHECK(pthread_create(&t, NULL, comes_later, NULL) == 0);
	for (int round = 0; round < ROUNDS; round++) {
		second.receiver = new_replay_receiver(group, 1024, 0);
		seal_run(s, OWNED);
		memcpy(second.sealed, run, sizeof second.sealed);
		for (int i = 0; i < OWNED; i++)
			second.opened[i] = 0;
		second.at = 0;
		second.from = 1 + round % (OWNED - 8);
		pthread_barrier_wait(&second.gate);
		for (int i = 0; i < OWNED; i++) {
			open_second(i);
			second.at = i + 1;
		}
		pthread_barrier_wait(&second.gate);
		for (int i = 0; i < OWNED; i++)
			SAME(second.opened[i], 1);
		eesp_receiver_free(second.receiver);
	}
	CHECK(pthread_join(t, NULL) == 0);
	CHECK(pthread_barrier_destroy(&second.gate) == 0);
	eesp_sender_free(s);
}

enum { BESIDE = 3 }; /* the packet that another thread opens meanwhile */
static struct {
	eesp_receiver *receiver;
	uint8_t *page;
	size_t len;
	sem_t begin, end;
	volatile int stops;
} meanwhile;

static void stopped(int sig, siginfo_t *info, void *context)
{
	uint8_t *at = info->si_addr;
	(void)context;
	if (at < meanwhile.page || at >= meanwhile.page + meanwhile.len || meanwhile.stops++ != 0)
		signal(sig, SIG_DFL);
	if (mprotect(meanwhile.page, meanwhile.len, PROT_READ | PROT_WRITE) != 0)
		abort();
	sem_post(&meanwhile.begin);
	while (sem_wait(&meanwhile.end) != 0)
		;
}

static void *opens_meanwhile(void *arg)
{
	uint8_t copy[ROOM];
	eesp_pkt p = copy_of(0, copy);
	SAME(eesp_open_burst(meanwhile.receiver, &p, 1), 1); /* so it is not alone any more */
	sem_post(&meanwhile.end);
	while (sem_wait(&meanwhile.begin) != 0)
		;
	p = copy_of(2 + BESIDE, copy);
	SAME(eesp_open_burst(meanwhile.receiver, &p, 1), 1);
	sem_post(&meanwhile.end);
	return arg;
}

/* Consecutive packets pass the check of their window. Before they are committed, while a kernel waits for a page to be
 * writable, another thread opens one of them: each is opened once. */
static void opened_meanwhile(void)
{
	enum { RUN = 8 };
	eesp_sender *s = new_sender(group, EESP_V_ID, 0);
	struct sigaction a = { .sa_sigaction = stopped, .sa_flags = SA_SIGINFO }, before;
	eesp_pkt p[RUN];
	uint8_t first[ROOM];
	pthread_t t;
	seal_run(s, 2 + RUN);
	meanwhile.receiver = new_replay_receiver(group, 1024, 0);
	CHECK(sem_init(&meanwhile.begin, 0, 0) == 0 && sem_init(&meanwhile.end, 0, 0) == 0);
	meanwhile.len = (size_t)sysconf(_SC_PAGESIZE);
	meanwhile.page = mmap(NULL, meanwhile.len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(meanwhile.page != MAP_FAILED);
	CHECK(pthread_create(&t, NULL, opens_meanwhile, NULL) == 0);
	while (sem_wait(&meanwhile.end) != 0)
		;
	p[0] = copy_of(1, first);
	SAME(eesp_open_burst(meanwhile.receiver, p, 1), 1);
	CHECK(sigaction(SIGSEGV, &a, &before) == 0);
	CHECK(mprotect(meanwhile.page, meanwhile.len, PROT_READ) == 0);
	for (size_t i = 0; i < RUN; i++) {
		p[i] = copy_of(2 + i, copies[i]);
		p[i].dst = meanwhile.page + 256 * i;
		p[i].dst_size = 100;
	}
	SAME(eesp_open_burst(meanwhile.receiver, p, RUN), RUN - 1);
	SAME(meanwhile.stops, 1);
	for (size_t i = 0; i < RUN; i++)
		SAME(p[i].status, i == BESIDE ? EESP_ERR_REPLAY : EESP_OK);
	CHECK(sigaction(SIGSEGV, &before, NULL) == 0);
	CHECK(pthread_join(t, NULL) == 0);
	CHECK(munmap(meanwhile.page, meanwhile.len) == 0);
	eesp_receiver_free(meanwhile.receiver);
	eesp_sender_free(s);
}

static void configurations(void)
{
	static const struct {
		uint32_t window, contexts;
		uint8_t engine_bits;
		int status;
	} c[] = {
		{ 0, 0, 0, EESP_OK }, { 64, 0, 0, EESP_OK }, { 65536, 5, 16, EESP_OK }, { 65, 1, 0, EESP_OK },
		{ 1, 0, 0, EESP_ERR_ARGUMENT }, { 63, 0, 0, EESP_ERR_ARGUMENT }, { 65537, 0, 0, EESP_ERR_ARGUMENT },
		{ UINT32_MAX, 0, 0, EESP_ERR_ARGUMENT }, { 64, UINT32_MAX, 0, EESP_ERR_ARGUMENT },
		{ 0, 9, 0, EESP_ERR_ARGUMENT },
		{ 64, 0, 17, EESP_ERR_ARGUMENT }, { 65536, 1u << 22, 0, EESP_ERR_ARGUMENT },
	};
	for (size_t i = 0; i < COUNT(c); i++) {
		eesp_receiver_config rc = EESP_RECEIVER_CONFIG_INIT;
		eesp_receiver *mark = (eesp_receiver *)(uintptr_t)0x5eed, *r = mark;
		rc.replay_window = c[i].window;
		rc.replay_contexts = c[i].contexts;
		rc.engine_bits = c[i].engine_bits;
		GIVES(c[i].status, eesp_receiver_new(&group, 1, read_only_copy(&rc, sizeof rc), &r));
		CHECK((r == mark) == (c[i].status != EESP_OK));
		if (r == mark)
			continue;
		eesp_replay_stats st = replay_stats(r);
		SAME(st.most, c[i].contexts ? c[i].contexts : c[i].window ? 4096 : 0);
		CHECK(st.windows == 0 && st.made == 0);
		eesp_receiver_free(r);
	}
	for (size_t i = 0; i < COUNT(((eesp_receiver_config *)0)->reserved1); i++) {
		eesp_receiver_config rc = EESP_RECEIVER_CONFIG_INIT;
		eesp_receiver *r = NULL;
		rc.replay_window = 64;
		rc.reserved1[i] = 1;
		GIVES(EESP_ERR_ARGUMENT, eesp_receiver_new(&group, 1, &rc, &r));
		CHECK(r == NULL);
	}
	eesp_receiver *r = new_replay_receiver(group, 64, 0);
	eesp_sender *s = new_sender(group, 0, 0);
	struct guarded m = guarded(sizeof(eesp_replay_stats));
	eesp_replay_stats *st = (eesp_replay_stats *)(void *)m.start;
	GIVES(EESP_ERR_ARGUMENT, eesp_receiver_replay_stats(NULL, st));
	GIVES(EESP_ERR_ARGUMENT, eesp_receiver_replay_stats(r, NULL));
	GIVES(EESP_ERR_ARGUMENT, eesp_receiver_replay_stats((void *)s, st));
	CHECK(all_are(m.start, (size_t)(m.end - m.start), CANARY));
	WORKS(eesp_receiver_replay_stats(r, st));
	CHECK(all_are(m.start + sizeof *st, (size_t)(m.end - m.start) - sizeof *st, CANARY));
	st = (eesp_replay_stats *)(void *)(m.end - sizeof *st);
	WORKS(eesp_receiver_replay_stats(r, st));
	eesp_receiver_free(r);
	eesp_sender_free(s);
}

/* Tables that are freed give all memory back. */
static void memory_comes_back(void)
{
	eesp_sender *s = new_sender(group, 0, 0);
	long before = 0;
	for (int i = 0; i < 60; i++) {
		eesp_receiver *r = new_replay_receiver(group, 65536, 4096);
		SAME(one_packet(s, r), EESP_OK);
		eesp_receiver_free(r);
		if (i == 5)
			before = proc_status("VmSize");
	}
	/* KiB: less than four tables. A thread that the Go runtime begins has some, 64 MiB in an emulator. */
	CHECK(proc_status("VmSize") < before + 500 * 1024);
	eesp_sender_free(s);
}

static eesp_receiver *parents;

static void in_forked_child(void)
{
	eesp_replay_stats st;
	memset(&st, CANARY, sizeof st);
	GIVES(EESP_ERR_FORKED, eesp_receiver_replay_stats(parents, &st));
	CHECK(all_are(&st, sizeof st, CANARY));
	eesp_pkt p = copy_of(0, copies[0]);
	SAME(eesp_open_burst(parents, &p, 1), 0);
	SAME(p.status, EESP_ERR_FORKED);
	eesp_receiver_free(parents);
}

static void forked(void)
{
	eesp_sender *s = new_sender(group, 0, 0);
	parents = new_replay_receiver(group, 64, 0);
	seal_run(s, 1);
	in_child(in_forked_child);
	eesp_pkt p = copy_of(0, copies[0]);
	SAME(eesp_open_burst(parents, &p, 1), 1); /* the child did not open it */
	SAME(replay_stats(parents).windows, 1);
	eesp_receiver_free(parents);
	eesp_sender_free(s);
}

/* By time: each packet opens once, also after a restart; an heir goes on with the table;
 * configurations that do not fit are refused. */
static void by_time(void)
{
	eesp_group_config gc = EESP_GROUP_CONFIG_INIT;
	eesp_group *g;
	gc.flags = EESP_GROUP_TIME;
	WORKS(eesp_group_new(&gc, &g));
	set_root_key(g, EESP_LEVEL_ZONE);
	eesp_sender_config sc = EESP_SENDER_CONFIG_INIT;
	eesp_sender *s;
	sc.id = 4242;
	WORKS(eesp_sender_new(g, &sc, &s));
	eesp_receiver_config rc = EESP_RECEIVER_CONFIG_INIT;
	eesp_receiver *r, *heir, *anew, *x = NULL;
	rc.replay_mode = EESP_REPLAY_TIME;
	rc.flags = EESP_RECEIVER_CLOCK_TRUSTED;
	rc.max_age_us = 5000000; /* the test may be stopped for a while */
	rc.max_early_us = 5000;
	rc.max_rate = 1000;
	WORKS(eesp_receiver_new(&g, 1, &rc, &r));
	uint8_t kept[EESP_MAX_SEALED_LEN(8)], room[EESP_MAX_SEALED_LEN(8)];
	uint32_t len = 0;
	int status = EESP_ERR_STALE;
	for (int i = 0; i < 5000 && status == EESP_ERR_STALE; i++) { /* for the first 5 ms nothing opens */
		eesp_pkt p = packet(kept + EESP_MAX_HEADER, 8, EESP_MAX_HEADER, EESP_ICV_LEN);
		SAME(eesp_seal_burst(s, &p, 1), 1);
		CHECK(p.tsc >> 28 <= (uint64_t)time(NULL) && p.tsc >> 28 >= (uint64_t)time(NULL) - 10);
		len = p.out_len;
		memmove(kept, p.out, len);
		memcpy(room, kept, len);
		eesp_pkt q = { .data = room, .len = len };
		eesp_open_burst(r, &q, 1);
		status = q.status;
		usleep(200);
	}
	SAME(status, EESP_OK);
#define AGAIN(receiver, want)                                     \
	do {                                                      \
		memcpy(room, kept, len);                          \
		eesp_pkt q = { .data = room, .len = len };        \
		SAME(eesp_open_burst(receiver, &q, 1), 0);        \
		SAME(q.status, want);                             \
	} while (0)
	AGAIN(r, EESP_ERR_REPLAY);
	WORKS(eesp_receiver_new(&g, 1, &rc, &anew));
	AGAIN(anew, EESP_ERR_STALE);
	rc.heir_of = r;
	WORKS(eesp_receiver_new(&g, 1, &rc, &heir));
	AGAIN(heir, EESP_ERR_REPLAY);
	eesp_receiver_free(r);
	AGAIN(heir, EESP_ERR_REPLAY);
	eesp_replay_stats st = replay_stats(heir);
	CHECK(st.duplicates == 3 && st.windows == 0 && st.no_room == 0 && st.early == 0);
	rc.heir_of = NULL;
	rc.replay_window = 64;
	GIVES(EESP_ERR_ARGUMENT, eesp_receiver_new(&g, 1, &rc, &x));
	rc.replay_window = 0;
	GIVES(EESP_ERR_ARGUMENT, eesp_receiver_new(&group, 1, &rc, &x)); /* counters of this group are not times */
	rc.replay_mode = 2;
	GIVES(EESP_ERR_ARGUMENT, eesp_receiver_new(&g, 1, &rc, &x));
	sc.counter_mode = EESP_COUNTER_EXPLICIT;
	sc.id++;
	eesp_sender *y = NULL;
	GIVES(EESP_ERR_ARGUMENT, eesp_sender_new(g, &sc, &y));
	/* An older structure, which ends before heir_of. */
	rc = (eesp_receiver_config)EESP_RECEIVER_CONFIG_INIT;
	rc.struct_size = 64;
	WORKS(eesp_receiver_new(&g, 1, &rc, &r));
	eesp_receiver_free(r);
	eesp_receiver_free(heir);
	eesp_receiver_free(anew);
	eesp_sender_free(s);
	eesp_group_free(g);
}

int main(void)
{
	group = new_group(EESP_AEAD_AES_128_GCM, EESP_LEVELS_ZONE);
	TEST(duplicates);
	TEST(order);
	TEST(skipping);
	TEST(consecutive);
	TEST(any_order);
	TEST(chained);
	TEST(no_room);
	TEST(data_key_and_engines);
	TEST(proxied);
	TEST(threads);
	TEST(second_thread);
	TEST(opened_meanwhile);
	TEST(configurations);
	TEST(memory_comes_back);
	TEST(forked);
	TEST(by_time);
	eesp_group_free(group);
	return 0;
}
