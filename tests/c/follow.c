/* SPDX-License-Identifier: BSD-3-Clause */
/* Whole rings, changing IDs, and groups that follow an agent. The test plays the agent. */
#include "test.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#define ZONE EESP_LEVEL_ZONE

static void ring(eesp_status want, eesp_group *g, uint64_t pre, uint64_t cur, uint64_t next, uint64_t floor)
{
	const uint64_t gen[3] = { pre, cur, next };
	uint8_t value[3][EESP_ROOT_KEY_LEN];
	for (int i = 0; i < 3; i++)
		root_value(value[i], 0, (int)gen[i]);
	GIVES(want, eesp_group_set_ring(g, ZONE, root_id, 16, gen, RING(value), floor));
}

static eesp_group *ring_group(uint64_t pre, uint64_t cur, uint64_t next)
{
	eesp_group *g = NULL;
	WORKS(eesp_group_new(NULL, &g));
	ring(EESP_OK, g, pre, cur, next, 0);
	return g;
}

/* ---- The agent ---- */

static const char *const path = "agent.sock";
static int listener = -1, link_fd = -1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint8_t state_seal = 1;
static uint64_t gens[3], sequence, floor_, done, next_id = 0x75000000;
static uint8_t last_code;
static uint8_t key_up[256], key_down[256]; /* in the form that clients get */
static int granted = -1;
static atomic_int follows;

static void put(uint8_t **p, uint64_t x, int octets)
{
	for (int i = octets - 1; i >= 0; i--)
		*(*p)++ = (uint8_t)(x >> 8 * i);
}

static void frame(int fd, int type, const uint8_t *fields, size_t n)
{
	uint8_t b[4096], *p = b;
	put(&p, n, 4);
	put(&p, (uint64_t)type, 2);
	put(&p, 1, 2);
	memcpy(p, fields, n);
	(void)!send(fd, b, n + 8, MSG_NOSIGNAL);
}

/* Sends the whole state of the group: see control/socket and internal/link. */
static void send_state(void)
{
	uint8_t b[1024], *p = b;
	put(&p, 1, 2), put(&p, 288, 2);
	memset(p, 0, 288);
	for (int i = 0; i < 3; i++)
		if (gens[i] != 0)
			root_value(p + 32 * i, 0, (int)gens[i]);
	p += 288;
	put(&p, 2, 2), put(&p, 16, 2), memset(p, 0x44, 16), p += 16;
	put(&p, 3, 2), put(&p, 3, 2), memcpy(p, "net", 3), p += 3;
	put(&p, 4, 2), put(&p, 8, 2), put(&p, sequence, 8);
	put(&p, 5, 2), put(&p, 28, 2), memset(p, 0, 28);
	p[3] = 1; /* ConnectionIDs */
	p[14] = 1; /* windows of 256 */
	p[19] = 32; /* contexts */
	p += 28;
	put(&p, 6, 2), put(&p, 72, 2), memset(p, 0, 72);
	memcpy(p + 4, root_id, 16);
	p += 32;
	put(&p, floor_, 8);
	for (int i = 0; i < 3; i++)
		put(&p, gens[i], 8);
	p += 8;
	put(&p, 7, 2), put(&p, 1, 2), *p++ = state_seal;
	frame(link_fd, 4, b, (size_t)(p - b));
}

static int whole(int fd, uint8_t *to, size_t n)
{
	while (n > 0) {
		ssize_t k = recv(fd, to, n, 0);
		if (k <= 0)
			return 0;
		to += k;
		n -= (size_t)k;
	}
	return 1;
}

/* Where a field is. */
static const uint8_t *field(const uint8_t *b, size_t n, int which)
{
	for (size_t at = 0; at + 4 <= n; at += 4 + ((size_t)b[at + 2] << 8 | b[at + 3]))
		if ((b[at] << 8 | b[at + 1]) == which)
			return b + at + 4;
	return NULL;
}

static void *connection(void *arg)
{
	int fd = (int)(intptr_t)arg;
	uint8_t h[8], b[4096], out[256], *p;
	while (whole(fd, h, 8)) {
		size_t n = (size_t)h[2] << 8 | h[3];
		if (n > sizeof b || !whole(fd, b, n))
			break;
		pthread_mutex_lock(&lock);
		switch (h[5]) {
		case 1: /* HELLO */
			link_fd = fd;
			p = out;
			put(&p, 1, 2), put(&p, 2, 2), put(&p, 1, 2);
			frame(fd, 2, out, (size_t)(p - out));
			break;
		case 3: /* FOLLOW */
			follows++;
			sequence++;
			send_state();
			break;
		case 5: { /* DONE */
			const uint8_t *s = field(b, n, 2);
			done = 0;
			for (int i = 0; i < 8; i++)
				done = done << 8 | s[i];
			last_code = *field(b, n, 3);
			break;
		}
		case 11: { /* GRANTED */
			const uint8_t *up = field(b, n, 5), *down = field(b, n, 6);
			granted = *field(b, n, 3);
			if (up != NULL) {
				memcpy(key_up, up,
				       sizeof key_up < (size_t)(b + n - up) ? sizeof key_up : (size_t)(b + n - up));
				memcpy(key_down, down,
				       sizeof key_down < (size_t)(b + n - down) ? sizeof key_down
										: (size_t)(b + n - down));
			}
			break;
		}
		case 6: /* NEED_IDS: one */
			p = out;
			put(&p, 1, 2), put(&p, 16, 2), memset(p, 0x44, 16), p += 16;
			put(&p, 2, 2), put(&p, 8, 2), put(&p, ++next_id, 8);
			frame(fd, 7, out, (size_t)(p - out));
			break;
		}
		pthread_mutex_unlock(&lock);
	}
	close(fd);
	return NULL;
}

static void *accepts(void *unused)
{
	for (int fd; (fd = accept(listener, NULL, NULL)) >= 0;) {
		pthread_t t;
		CHECK(pthread_create(&t, NULL, connection, (void *)(intptr_t)fd) == 0);
		pthread_detach(t);
	}
	return unused;
}

static void start_agent(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	pthread_t t;
	strcpy(a.sun_path, path);
	unlink(path);
	listener = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK(bind(listener, (struct sockaddr *)&a, sizeof a) == 0 && listen(listener, 8) == 0);
	CHECK(pthread_create(&t, NULL, accepts, NULL) == 0);
	pthread_detach(t);
}

static void nap(void)
{
	struct timespec ms = { 0, 1000000 };
	nanosleep(&ms, NULL);
}

/* The agent sends a STATE with these generations, and the answer is want. */
static void step(uint64_t pre, uint64_t cur, uint64_t next, uint8_t seal, int want)
{
	pthread_mutex_lock(&lock);
	gens[0] = pre, gens[1] = cur, gens[2] = next;
	state_seal = seal;
	sequence++;
	send_state();
	pthread_mutex_unlock(&lock);
	for (int i = 0;; i++) {
		pthread_mutex_lock(&lock);
		int is = done == sequence, code = last_code;
		pthread_mutex_unlock(&lock);
		if (is) {
			SAME(code, want);
			return;
		}
		CHECK(i < 20000);
		nap();
	}
}

static eesp_group *followed(uint32_t flags)
{
	eesp_follow_config c = EESP_FOLLOW_CONFIG_INIT;
	eesp_group *g = NULL;
	c.socket_path = path;
	c.flags = flags;
	WORKS(eesp_group_follow("net", &c, &g));
	return g;
}

static eesp_sender *agents_sender(eesp_group *g)
{
	eesp_sender_config c = EESP_SENDER_CONFIG_INIT;
	eesp_sender *s = NULL;
	WORKS(eesp_sender_new(g, &c, &s));
	return s;
}

static eesp_follow_info info_of(eesp_group *g)
{
	eesp_follow_info i;
	memset(&i, CANARY, sizeof i);
	WORKS(eesp_group_follow_info(g, &i));
	return i;
}

/* ---- Tests ---- */

static void rings(void)
{
	eesp_group *a = ring_group(0, 3, 0), *b = ring_group(0, 3, 0);
	eesp_sender *s = new_sender(a, EESP_V_ID, EESP_SENDER_OPTIONS);
	eesp_receiver *r = new_replay_receiver(b, 64, 16);
	WORKS(one_packet(s, r));
	ring(EESP_OK, b, 0, 3, 4, 0);
	WORKS(one_packet(s, r));
	ring(EESP_OK, a, 3, 4, 0, 0);
	WORKS(one_packet(s, r));
	ring(EESP_OK, b, 0, 4, 0, 0);
	WORKS(eesp_group_wait(b, 10000));
	WORKS(one_packet(s, r));
	ring(EESP_ERR_ROOT_KEY, b, 3, 4, 0, 0); /* below the floor, which holds for the process */
	ring(EESP_ERR_ROOT_KEY, b, 0, 5, 0, 6);
	ring(EESP_ERR_ROOT_KEY, b, 4, 0, 5, 0); /* no current one */
	ring(EESP_ERR_ROOT_KEY, b, 0, 5, 5 + 256, 0);
	ring(EESP_ERR_ROOT_KEY, a, 2, 3, 0, 0);
	eesp_root_key_info i;
	WORKS(eesp_group_get_root_key_info(b, ZONE, &i));
	CHECK(i.index[0] == 4 && i.index[1] == 4 && i.index[2] == 4 && i.has_previous == 0);
	GIVES(EESP_ERR_NOT_FOUND, eesp_group_rotate(b, ZONE, 9, NULL));
	size_t n = 0;
	GIVES(EESP_ERR_UNSUPPORTED, eesp_group_get_root_key_der(b, ZONE, NULL, &n));
	GIVES(EESP_ERR_ARGUMENT, eesp_group_set_ring(b, ZONE, NULL, 16, i.index, NULL, 0));
	GIVES(EESP_ERR_ARGUMENT, eesp_group_follow_info(b, &(eesp_follow_info){ 0 }));
	eesp_sender_free(s);
	eesp_receiver_free(r);
	eesp_group_free(a);
	eesp_group_free(b);
}

static atomic_int stop;
static atomic_ullong sealed_ok, behind, lost;
static eesp_sender *shared_sender;
static eesp_receiver *shared_receiver;

static atomic_ullong begun[2]; /* packets, by thread */

static void *traffic(void *thread)
{
	while (!stop) {
		(*(atomic_ullong *)thread)++;
		int st = one_packet(shared_sender, shared_receiver);
		if (st == EESP_OK)
			sealed_ok++;
		else if (st == EESP_ERR_REPLAY)
			behind++;
		else
			lost++;
	}
	return NULL;
}

/* Waits until packets that were sealed before this call have been opened. */
static void path_delay(void)
{
	for (int i = 0; i < 2; i++)
		for (unsigned long long was = begun[i]; begun[i] == was;)
			nap();
}

static void run_traffic(eesp_sender *s, eesp_receiver *r, pthread_t t[2])
{
	stop = 0;
	sealed_ok = behind = lost = 0;
	shared_sender = s;
	shared_receiver = r;
	for (int i = 0; i < 2; i++)
		CHECK(pthread_create(&t[i], NULL, traffic, &begun[i]) == 0);
}

static void end_traffic(pthread_t t[2])
{
	stop = 1;
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	SAME(lost, 0);
	CHECK(sealed_ok > 0);
	/* Packets of a thread that was kept from running may be too old. None is a duplicate. */
	eesp_replay_stats stats;
	WORKS(eesp_receiver_replay_stats(shared_receiver, &stats));
	SAME(stats.duplicates, 0);
	SAME(stats.old, behind);
}

/* IDs change while bursts run. A counter that came twice would be a replay. */
static void ids_change(void)
{
	eesp_group *g = ring_group(0, 7, 0);
	eesp_sender *s = new_sender(g, EESP_V_LONG_ID, EESP_SENDER_OPTIONS);
	eesp_receiver *r = new_replay_receiver(g, 65536, 128);
	pthread_t t[2];
	run_traffic(s, r, t);
	for (uint64_t id = 1; id <= 40; id++) {
		WORKS(eesp_sender_set_id(s, 0x7600000000 + id));
		SAME(eesp_sender_id(s), 0x7600000000 + id);
		nap();
	}
	end_traffic(t);
	eesp_stats stats;
	WORKS(eesp_sender_stats(s, &stats));
	SAME(stats.packets[0], sealed_ok + behind);
	const uint64_t own = eesp_sender_id(s);
	WORKS(eesp_receiver_set_own_ids(r, &own, 1));
	GIVES(EESP_ERR_REFLECTED, one_packet(s, r));
	WORKS(eesp_receiver_set_own_ids(r, NULL, 0));
	WORKS(one_packet(s, r));
	GIVES(EESP_ERR_ARGUMENT, eesp_receiver_set_own_ids(r, NULL, 1));
	GIVES(EESP_ERR_ARGUMENT, eesp_sender_set_id(NULL, 1));
	eesp_sender_free(s);
	eesp_receiver_free(r);
	eesp_group_free(g);
}

static void no_agent(void)
{
	eesp_follow_config c = EESP_FOLLOW_CONFIG_INIT;
	eesp_group *g = NULL;
	c.socket_path = "nobody.sock";
	c.timeout_ms = 30;
	GIVES(EESP_ERR_AGENT, eesp_group_follow("net", &c, &g));
	CHECK(g == NULL && strstr(eesp_last_error(), "nobody.sock") != NULL);
	GIVES(EESP_ERR_ARGUMENT, eesp_group_follow(NULL, &c, &g));
	GIVES(EESP_ERR_ARGUMENT, eesp_group_follow("", &c, &g));
	GIVES(EESP_ERR_ARGUMENT, eesp_group_follow("net", &c, NULL));
	c.flags = 0x80;
	GIVES(EESP_ERR_ARGUMENT, eesp_group_follow("net", &c, &g));
}

/* Following: parameters, ID, rotations under traffic, and sealing that the agent forbids. */
static void follow_agent(void)
{
	gens[1] = 10, floor_ = 10;
	start_agent();
	eesp_group *g = followed(0), *peer = NULL;
	eesp_sender *s = agents_sender(g);
	eesp_receiver *own = NULL;
	WORKS(eesp_receiver_new(&g, 1, NULL, &own));
	WORKS(eesp_follow_wait(g, 20000));
	SAME(eesp_sender_id(s), next_id);
	eesp_follow_info i = info_of(g);
	CHECK(i.connected == 1 && i.sealing == EESP_OK && i.ids == 1 && i.v == EESP_V_LONG_ID &&
	      i.replay_window == 256 && i.replay_contexts == 32);
	CHECK(i.generation[ZONE][0] == 0 && i.generation[ZONE][1] == 10 && i.generation[ZONE][2] == 0);
	GIVES(EESP_ERR_REFLECTED, one_packet(s, own));
	/* The other end is always one step ahead, as a rotation allows. */
	WORKS(eesp_group_new(NULL, &peer));
	ring(EESP_OK, peer, 0, 10, 11, 0);
	eesp_receiver *r = new_replay_receiver(peer, 65536, 64);
	pthread_t t[2];
	run_traffic(s, r, t);
	for (uint64_t n = 10; n < 20; n++) {
		ring(EESP_OK, peer, 0, n, n + 1, 0);
		step(0, n, n + 1, 1, 0);
		step(n, n + 1, 0, 1, 0); /* done: nothing is sealed with n any more */
		path_delay();
		ring(EESP_OK, peer, 0, n + 1, 0, 0);
		step(0, n + 1, 0, 1, 0);
	}
	end_traffic(t);
	SAME(info_of(g).generation[ZONE][1], 20);
	step(0, 19, 0, 1, 1); /* refused: the keys in force stay */
	WORKS(one_packet(s, r));
	CHECK(info_of(g).refused == 1 && strstr(info_of(g).problem, "floor") != NULL);
	GIVES(EESP_ERR_UNSUPPORTED, eesp_group_rotate(g, ZONE, 1, NULL));
	GIVES(EESP_ERR_UNSUPPORTED, eesp_sender_set_id(s, 1));

	step(0, 20, 0, 2, 0);
	GIVES(EESP_ERR_OUT_OF_TOUCH, one_packet(s, r));
	step(0, 20, 0, 0, 0);
	GIVES(EESP_ERR_NO_KEY, one_packet(s, r));
	step(0, 20, 0, 3, 0);
	GIVES(EESP_ERR_FENCED, one_packet(s, r));
	uint64_t was = eesp_sender_id(s);
	GIVES(EESP_ERR_FENCED, eesp_follow_wait(g, 10));
	step(0, 20, 0, 1, 0);
	WORKS(eesp_follow_wait(g, 20000));
	CHECK(eesp_sender_id(s) != was);
	WORKS(one_packet(s, r));
	eesp_sender_free(s);
	eesp_receiver_free(own);
	eesp_receiver_free(r);
	eesp_group_free(peer);
	eesp_group_free(g);
}

/* The agent asks for a pair of keys for a client, or changes its lease. */
static int grant(uint64_t up, uint64_t down, uint64_t ms, unsigned flags)
{
	uint8_t b[256], *p = b;
	put(&p, 1, 2), put(&p, 16, 2), memset(p, 0x44, 16), p += 16;
	put(&p, 2, 2), put(&p, 8, 2), put(&p, down, 8);
	put(&p, 3, 2), put(&p, 8, 2), put(&p, up, 8);
	put(&p, 4, 2), put(&p, 8, 2), put(&p, down, 8);
	put(&p, 5, 2), put(&p, 8, 2), put(&p, ms, 8);
	put(&p, 6, 2), put(&p, 6, 2), memcpy(p, "laptop", 6), p += 6;
	put(&p, 7, 2), put(&p, 2, 2), put(&p, flags, 2);
	pthread_mutex_lock(&lock);
	granted = -1;
	frame(link_fd, 10, b, (size_t)(p - b));
	pthread_mutex_unlock(&lock);
	for (int i = 0; i < 20000; i++) {
		pthread_mutex_lock(&lock);
		int is = granted;
		pthread_mutex_unlock(&lock);
		if (is >= 0)
			return is;
		nap();
	}
	return -1;
}

static eesp_data_key data_key(const uint8_t *b)
{
	eesp_data_key k;
	memset(&k, 0, sizeof k);
	for (int i = 0; i < 8; i++)
		k.id = k.id << 8 | b[i];
	k.v = b[10];
	k.profile = b[11];
	k.key_len = b[14];
	k.options_len = b[15];
	memcpy(k.key, b + 16, k.key_len);
	memcpy(k.options, b + 16 + k.key_len, k.options_len);
	return k;
}

static void clients(void)
{
	pthread_mutex_lock(&lock);
	gens[0] = gens[2] = 0, gens[1] = 30, state_seal = 1;
	pthread_mutex_unlock(&lock);
	eesp_group *g = followed(EESP_FOLLOW_CLIENTS);
	eesp_receiver *r = NULL, *cr = NULL;
	eesp_sender *s = NULL, *cs = NULL;
	WORKS(eesp_receiver_new(&g, 1, NULL, &r));
	eesp_follow_client c[2];
	size_t n = 2;
	WORKS(eesp_follow_clients(g, c, &n));
	SAME(n, 0);
	SAME(grant(0x79000001, 0x79000002, 3600000, 0), 0);
	n = 0;
	GIVES(EESP_ERR_ROOM, eesp_follow_clients(g, NULL, &n));
	SAME(n, 1);
	n = 2;
	WORKS(eesp_follow_clients(g, c, &n));
	CHECK(n == 1 && c[0].up == 0x79000001 && c[0].down == 0x79000002 && c[0].lease_ms > 3500000 &&
	      strcmp(c[0].name, "laptop") == 0);
	n = SIZE_MAX; /* careless: no limit */
	WORKS(eesp_follow_clients(g, c, &n));
	SAME(n, 1);
	GIVES(EESP_ERR_NOT_FOUND, eesp_sender_new_to_client(g, 0x79000001, &s));
	WORKS(eesp_sender_new_to_client(g, c[0].down, &s));
	GIVES(EESP_ERR_EXISTS, eesp_sender_new_to_client(g, c[0].down, &cs));
	eesp_data_key k = data_key(key_up);
	eesp_sender_config sc = EESP_SENDER_CONFIG_INIT;
	sc.counter_mode = EESP_COUNTER_EXPLICIT;
	WORKS(eesp_sender_new_with_key(&k, &sc, &cs));
	k = data_key(key_down);
	WORKS(eesp_receiver_new_with_key(&k, NULL, &cr));
	for (uint64_t m = 30; m < 33; m++) {
		WORKS(one_packet(cs, r));
		WORKS(one_packet(s, cr));
		step(0, m, m + 1, 1, 0);
		step(m, m + 1, 0, 1, 0);
		WORKS(one_packet(s, cr)); /* with the key that it has */
		if (m == 30)
			WORKS(one_packet(cs, r)); /* the group opens it with its previous key */
		step(0, m + 1, 0, 1, 0);
		if (m == 30) /* a real agent does not rotate further during a lease */
			GIVES(EESP_ERR_NO_KEY, one_packet(cs, r));
		eesp_sender_free(s);
		eesp_sender_free(cs);
		eesp_receiver_free(cr);
		uint64_t up = 0x79000001 + 2 * (m - 29);
		SAME(grant(up, up + 1, 3600000, 0), 0);
		WORKS(eesp_sender_new_to_client(g, up + 1, &s));
		k = data_key(key_up);
		WORKS(eesp_sender_new_with_key(&k, &sc, &cs));
		k = data_key(key_down);
		WORKS(eesp_receiver_new_with_key(&k, NULL, &cr));
	}
	SAME(grant(0, 0x79000002 + 6, 1, 1), 0); /* the lease ends */
	eesp_status st = EESP_OK;
	for (int i = 0; i < 20000 && st == EESP_OK; i++) {
		nap();
		st = one_packet(s, cr);
	}
	SAME(st, EESP_ERR_NO_KEY);
	GIVES(EESP_ERR_NO_KEY, one_packet(s, cr));
	eesp_sender_free(s);
	eesp_sender_free(cs);
	eesp_receiver_free(cr);
	eesp_receiver_free(r);
	eesp_group_free(g);
}

/* A program closes descriptors that it did not open, and uses their numbers. */
static void descriptor_closed(void)
{
	eesp_group *g = followed(EESP_FOLLOW_WITHOUT_KEYS);
	eesp_sender *s = agents_sender(g);
	eesp_receiver *r = NULL;
	eesp_group *peer = NULL;
	WORKS(eesp_group_new(NULL, &peer));
	ring(EESP_OK, peer, 0, 20, 0, 0);
	WORKS(eesp_receiver_new(&peer, 1, NULL, &r));
	WORKS(eesp_follow_wait(g, 20000));
	int before = follows, mine[2];
	for (int fd = 3; fd < 64; fd++) {
		struct sockaddr_un a;
		socklen_t n = sizeof a;
		memset(&a, 0, sizeof a);
		if (fd == listener || fd == link_fd)
			continue;
		if (getpeername(fd, (struct sockaddr *)&a, &n) == 0 && strcmp(a.sun_path, path) == 0) {
			CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, mine) == 0);
			CHECK(dup2(mine[0], fd) == fd); /* another file has the number now */
			close(mine[0]);
			mine[0] = fd;
			break;
		}
		CHECK(fd < 63);
	}
	for (int i = 0; follows == before; i++) {
		CHECK(i < 20000);
		nap();
	}
	WORKS(one_packet(s, r));
	step(0, 20, 21, 1, 0);
	ring(EESP_OK, peer, 0, 20, 21, 0);
	step(20, 21, 0, 1, 0);
	WORKS(one_packet(s, r));
	char c;
	CHECK(recv(mine[1], &c, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN); /* nothing was written to that file */
	CHECK(send(mine[1], "x", 1, 0) == 1 && recv(mine[0], &c, 1, MSG_DONTWAIT) == 1); /* nor read from it */
	/* Freeing the group drops the keys of clients that are left. */
	eesp_group_free(g);
	GIVES(EESP_ERR_NO_KEY, one_packet(s, r));
	eesp_sender_free(s);
	eesp_receiver_free(r);
	eesp_group_free(peer);
}

int main(void)
{
	TEST(rings);
	TEST(ids_change);
	TEST(no_agent);
	TEST(follow_agent);
	TEST(descriptor_closed);
	TEST(clients);
	return 0;
}
