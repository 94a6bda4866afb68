/* SPDX-License-Identifier: BSD-3-Clause */
/* No nonce is used twice with a key: in one process, and between processes by locks. See also restart.c. */
#include "test.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static eesp_group *group;
static unsigned engine_bits; /* of senders passed to seal_some */

/* Seals n packets, whose counters must follow one another. Returns the first Epoch | Counter. */
static uint64_t seal_some(eesp_sender *s, size_t n)
{
	static uint8_t room[64][EESP_MAX_SEALED_LEN(8)];
	eesp_pkt p[64];
	for (size_t i = 0; i < n; i++)
		p[i] = packet(room[i] + EESP_MAX_HEADER, 8, EESP_MAX_HEADER, EESP_ICV_LEN);
	SAME(eesp_seal_burst(s, p, n), n);
	for (size_t i = 1; i < n; i++)
		CHECK(p[i].tsc == p[0].tsc + (i << engine_bits));
	return p[0].tsc;
}

static void shared_counters(void)
{
	eesp_sender_config c = explicit_config(0);
	eesp_sender *a, *b;
	WORKS(eesp_sender_new(group, &c, &a));
	WORKS(eesp_sender_new(group, &c, &b));
	uint64_t first = (uint64_t)c.epoch << 48;
	CHECK(seal_some(a, 10) == first && seal_some(b, 5) == first + 10 && seal_some(a, 1) == first + 15);
	/* Another group with the same root keys has the same counters. */
	eesp_group *again = new_group(1, EESP_LEVELS_ZONE);
	eesp_sender *d;
	WORKS(eesp_sender_new(again, &c, &d));
	CHECK(seal_some(d, 1) == first + 16);
	/* Another configuration of the same counters is refused. */
	eesp_sender *x = NULL;
	c.start_counter = 1000;
	GIVES(EESP_ERR_EXISTS, eesp_sender_new(group, &c, &x));
	c.start_counter = 0, c.epoch++;
	GIVES(EESP_ERR_EXISTS, eesp_sender_new(group, &c, &x));
	c.epoch--, c.counter_mode = EESP_COUNTER_CLOCK, c.epoch = 0;
	GIVES(EESP_ERR_EXISTS, eesp_sender_new(group, &c, &x));
	/* Packets that are refused before they are sealed use no counters. */
	eesp_sender_free(a);
	eesp_sender_free(b);
	eesp_sender_free(d);
	eesp_group_free(again);
	/* Used counters stay used when the senders are freed. */
	c = explicit_config(0);
	c.id--;
	GIVES(EESP_ERR_EXISTS, eesp_sender_new(group, &c, &x));
	c.start_counter = 16;
	GIVES(EESP_ERR_EXISTS, eesp_sender_new(group, &c, &x));
	CHECK(x == NULL);
	c.start_counter = 17;
	WORKS(eesp_sender_new(group, &c, &x));
	eesp_sender_free(x);
}

/* Senders with the same data keys share counters, even if the root key was set after the
 * first sender was made, was set again, or is named in another way. */
static void shared_whatever_order(void)
{
	eesp_group *g = new_group(0, 0);
	eesp_sender_config c = EESP_SENDER_CONFIG_INIT;
	c.id = 77;
	c.counter_mode = EESP_COUNTER_EXPLICIT;
	eesp_sender *early, *late, *named;
	WORKS(eesp_sender_new(g, &c, &early));
	set_root_key(g, EESP_LEVEL_ZONE);
	WORKS(eesp_sender_new(g, &c, &late));
	set_root_key(g, EESP_LEVEL_USER);
	WORKS(eesp_group_set_default_levels(g, EESP_LEVELS_ZONE));
	c.levels = EESP_LEVELS_ZONE;
	WORKS(eesp_sender_new(g, &c, &named));
	uint64_t a = seal_some(early, 1), b = seal_some(late, 1), d = seal_some(named, 1);
	CHECK(a != b && a != d && b != d);
	eesp_sender_free(early);
	eesp_sender_free(late);
	eesp_sender_free(named);
	eesp_group_free(g);
}

static void engines(void)
{
	eesp_sender_config c = explicit_config(0);
	c.engine_bits = (uint8_t)(engine_bits = 2);
	for (uint32_t e = 0; e < 4; e++) {
		eesp_sender *s;
		c.engine = e;
		c.start_counter = 5;
		WORKS(eesp_sender_new(group, &c, &s));
		CHECK(seal_some(s, 3) == ((uint64_t)c.epoch << 48 | 5 << 2 | e));
		eesp_sender_free(s);
	}
	engine_bits = 0;
}

/* At the end of the counter space packets are refused: counters do not wrap. */
static void exhausted(void)
{
	for (int bits = 0; bits < 17; bits += 8) {
		eesp_sender_config c = explicit_config(0);
		c.engine_bits = (uint8_t)(engine_bits = (unsigned)bits);
		c.engine = bits ? (1u << bits) - 1 : 0;
		c.epoch = 0xfffe;
		c.start_counter = (UINT64_C(1) << (48 - bits)) - 10;
		eesp_sender *s;
		WORKS(eesp_sender_new(group, &c, &s));
		CHECK(seal_some(s, 4) == ((uint64_t)(c.epoch + 1) << 48) - (UINT64_C(10) << bits) + c.engine);
		uint8_t room[10][EESP_MAX_SEALED_LEN(8)];
		eesp_pkt p[10];
		memset(room, CANARY, sizeof room);
		for (int i = 0; i < 10; i++)
			p[i] = packet(room[i] + EESP_MAX_HEADER, 8, EESP_MAX_HEADER, EESP_ICV_LEN);
		SAME(eesp_seal_burst(s, p, 10), 6);
		for (int i = 0; i < 10; i++) {
			SAME(p[i].status, i < 6 ? EESP_OK : EESP_ERR_EXHAUSTED);
			CHECK(i < 6 ? p[i].tsc >> 48 == c.epoch : all_are(room[i], sizeof room[i], CANARY));
		}
		SAME(eesp_seal_burst(s, p, 10), 0);
		SAME(p[0].status, EESP_ERR_EXHAUSTED);
		eesp_sender_free(s);
	}
	engine_bits = 0;
}

/* In clock mode counters are as include/eesp.h says. */
static void by_the_clock(void)
{
	eesp_sender_config c = EESP_SENDER_CONFIG_INIT;
	c.id = 4711;
	time_t before = time(NULL);
	eesp_sender *s;
	WORKS(eesp_sender_new(group, &c, &s));
	uint64_t first = seal_some(s, 1);
	time_t after = time(NULL) + 2;
	uint64_t at = (uint64_t)before >> 20 & 0xffff;
	CHECK(first >> 48 == at || first >> 48 == at + 1);
	uint64_t second = (uint64_t)before >> 20 << 20 | (first & 0xffffffffffff) >> 28;
	CHECK(second >= (uint64_t)before && second <= (uint64_t)after);
	CHECK(eesp_sender_next_tsc(s) == first + 1);
	/* A sender that is a second behind the clock does not skip counters: other threads' packets stay
	 * within windows. */
	struct timespec some = { 1, 100000000 };
	nanosleep(&some, NULL);
	for (uint64_t next = first + 1; next < first + 6400; next += 64)
		CHECK(seal_some(s, 64) == next);
	eesp_sender_free(s);
	/* A new sender starts above. */
	WORKS(eesp_sender_new(group, &c, &s));
	CHECK(seal_some(s, 1) > first);
	eesp_sender_free(s);
	/* A fixed epoch that has ended. */
	eesp_sender_config f = EESP_SENDER_CONFIG_INIT;
	f.id = 4712;
	f.flags = EESP_SENDER_FIXED_EPOCH;
	f.epoch = 9;
	f.epoch_start_ns = ((int64_t)time(NULL) - (1 << 20)) * 1000000000;
	WORKS(eesp_sender_new(group, &f, &s));
	uint8_t room[EESP_MAX_SEALED_LEN(8)];
	eesp_pkt p = packet(room + EESP_MAX_HEADER, 8, EESP_MAX_HEADER, EESP_ICV_LEN);
	SAME(eesp_seal_burst(s, &p, 1), 0);
	SAME(p.status, EESP_ERR_EXHAUSTED);
	eesp_sender_free(s);
}

/* ---- Reserved mode ---- */

static char state[] = "./state-XXXXXX";

static eesp_status reserved(uint64_t id, eesp_sender **s)
{
	eesp_sender_config c = EESP_SENDER_CONFIG_INIT;
	c.id = id;
	c.counter_mode = EESP_COUNTER_RESERVED;
	c.epoch = 3;
	c.reserve_run = 100;
	c.state_path = state;
	return eesp_sender_new(group, &c, s);
}

static void state_file(void)
{
	eesp_sender *s, *other = NULL;
	CHECK(close(mkstemp(state)) == 0 && unlink(state) == 0);
	WORKS(reserved(501, &s));
	struct stat st;
	CHECK(stat(state, &st) == 0 && (st.st_mode & 0777) == 0600 && st.st_size > 0);
	uint64_t first = seal_some(s, 64);
	CHECK(first == (UINT64_C(3) << 48));
	for (int i = 0; i < 10; i++) /* several runs */
		first = seal_some(s, 64);
	GIVES(EESP_ERR_STATE, reserved(502, &other)); /* one sender at a time */
	CHECK(other == NULL && strstr(eesp_last_error(), state));
	eesp_sender_free(s);
	GIVES(EESP_ERR_STATE, reserved(503, &other)); /* it belongs to its ID */
	CHECK(strstr(eesp_last_error(), "another ID"));
	WORKS(reserved(501, &s)); /* begins at the mark */
	CHECK(seal_some(s, 1) >= first + 64);

	/* If the file is removed or replaced while in use, the next write fails. */
	char away[sizeof state + 1];
	snprintf(away, sizeof away, "%s+", state);
	CHECK(rename(state, away) == 0);
	uint64_t sent = 0;
	eesp_pkt p;
	do {
		uint8_t room[EESP_MAX_SEALED_LEN(8)];
		p = packet(room + EESP_MAX_HEADER, 8, EESP_MAX_HEADER, EESP_ICV_LEN);
	} while (eesp_seal_burst(s, &p, 1) == 1 && ++sent < 1000);
	SAME(p.status, EESP_ERR_STATE);
	CHECK(rename(away, state) == 0);
	seal_some(s, 1);

	/* A forked child that goes on running has neither the lock nor the file. */
	int pipes[2];
	CHECK(pipe(pipes) == 0);
	pid_t child = fork();
	if (child == 0) {
		char c;
		close(pipes[1]);
		_exit(read(pipes[0], &c, 1) != 0);
	}
	eesp_sender_free(s);
	if (!emulated()) { /* emulators ignore MADV_DONTFORK */
		WORKS(reserved(501, &s));
		eesp_sender_free(s);
	}
	close(pipes[1]);
	close(pipes[0]);
	int status;
	CHECK(waitpid(child, &status, 0) == child && status == 0);

	/* Where a limit would end the process by a signal, sealing returns a status. */
	struct rlimit limit, none = { 0, 0 };
	CHECK(getrlimit(RLIMIT_FSIZE, &limit) == 0);
	none.rlim_max = limit.rlim_max;
	CHECK(setrlimit(RLIMIT_FSIZE, &none) == 0);
	GIVES(EESP_ERR_STATE, reserved(501, &other));
	CHECK(strstr(eesp_last_error(), "RLIMIT_FSIZE"));
	CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);

	/* With a damaged file there is no sender, and the file is not changed. */
	CHECK(truncate(state, 8) == 0);
	GIVES(EESP_ERR_STATE, reserved(501, &other));
	CHECK(stat(state, &st) == 0 && st.st_size == 8);
	CHECK(truncate(state, 0) == 0);
	GIVES(EESP_ERR_STATE, reserved(501, &other)); /* an empty file is not a new one */
	CHECK(stat(state, &st) == 0 && st.st_size == 0 && strstr(eesp_last_error(), "empty"));
	CHECK(unlink(state) == 0 && symlink("nothing", state) == 0);
	GIVES(EESP_ERR_STATE, reserved(504, &other)); /* symbolic links are not followed */
	CHECK(unlink(state) == 0 && mkdir(state, 0700) == 0);
	GIVES(EESP_ERR_STATE, reserved(504, &other));
	CHECK(rmdir(state) == 0 && other == NULL);
}

/* Only one process of a host has an ID. A new process of this program stands for another one. */
static char locks[] = "./locks-XXXXXX";

/* begin: the start of a fixed epoch, in seconds; 0: epochs follow the clock. */
static eesp_status locked(eesp_group *g, uint64_t id, int64_t begin, unsigned rate, eesp_sender **s)
{
	eesp_sender_config c = EESP_SENDER_CONFIG_INIT;
	c.id = id;
	c.lock_dir = locks;
	if (begin != 0) {
		c.flags = EESP_SENDER_FIXED_EPOCH;
		c.epoch = 5;
		c.epoch_start_ns = begin * 1000000000;
		c.rate_log2 = (uint8_t)rate;
	}
	return eesp_sender_new(g, &c, s);
}

static void rotate_again(eesp_group *g, uint8_t i)
{
	uint8_t value[EESP_ROOT_KEY_LEN] = { 100, i };
	WORKS(eesp_group_rotate(g, EESP_LEVEL_ZONE, 13u + i, value));
}

/* The status that another process gets, whose group has rotated so many times. */
static eesp_status other_process(const char *id, const char *rotations, const char *begin, const char *rate)
{
	pid_t pid;
	int status;
	char *argv[] = { "nonce", locks, (char *)id, (char *)rotations, (char *)begin, (char *)rate, NULL };
	CHECK(posix_spawn(&pid, "/proc/self/exe", NULL, NULL, argv, environ) == 0);
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	return -WEXITSTATUS(status);
}

static int as_other_process(char **argv)
{
	eesp_sender *s;
	eesp_group *g = new_group(0, EESP_LEVELS_ZONE);
	strcpy(locks, argv[1]);
	for (int i = 0; i < atoi(argv[3]); i++)
		rotate_again(g, (uint8_t)i);
	/* the process ends without eesp_sender_free */
	return -locked(g, strtoull(argv[2], NULL, 0), atoll(argv[4]), (unsigned)atoi(argv[5]), &s);
}

static void one_process(void)
{
	eesp_sender *s;
	WORKS(locked(group, 601, 0, 0, &s));
	SAME(other_process("601", "0", "0", "0"), EESP_ERR_EXISTS);
	SAME(other_process("602", "0", "0", "0"), EESP_OK);
	SAME(syscall(SYS_close_range, 3u, ~0u, 0u), 0); /* a program that closes descriptors it did not open */
	SAME(other_process("601", "0", "0", "0"), EESP_ERR_EXISTS);
	pid_t child = fork();
	if (child == 0) {
		pause();
		_exit(0);
	}
	seal_some(s, 3);
	eesp_sender_free(s);
	SAME(other_process("601", "0", "0", "0"), EESP_OK);
	SAME(other_process("601", "0", "0", "0"), EESP_OK); /* that other process has ended, the child has not */
	CHECK(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child);
}

/* Locks follow the keys of the group. */
static void one_process_rotates(void)
{
	eesp_group *g = new_group(0, EESP_LEVELS_ZONE);
	eesp_sender *s, *t;
	WORKS(locked(g, 603, 0, 0, &s));
	for (uint8_t i = 0; i < 4; i++)
		rotate_again(g, i);
	SAME(other_process("603", "4", "0", "0"), EESP_ERR_EXISTS); /* the group had none of these keys at the start */
	SAME(other_process("603", "0", "0", "0"), EESP_OK);	      /* the group has none of these any more */
	seal_some(s, 3);
	eesp_sender_free(s);

	/* Another process may have locked the ID under keys that this one gets later. */
	WORKS(locked(g, 604, 0, 0, &t));
	char *argv[] = { "nonce", locks, "604", "9", "0", "0", "wait", NULL };
	int pipes[2];
	pid_t pid;
	char ready;
	posix_spawn_file_actions_t to;
	CHECK(pipe(pipes) == 0 && posix_spawn_file_actions_init(&to) == 0 &&
	      posix_spawn_file_actions_adddup2(&to, pipes[1], 1) == 0);
	CHECK(posix_spawn(&pid, "/proc/self/exe", &to, NULL, argv, environ) == 0);
	posix_spawn_file_actions_destroy(&to);
	CHECK(read(pipes[0], &ready, 1) == 1);
	close(pipes[0]);
	close(pipes[1]);
	for (uint8_t i = 4; i < 9; i++) {
		if (i < 6) /* its next key is not the other's yet */
			seal_some(t, 40);
		rotate_again(g, i);
	}
	eesp_pkt p[40];
	static uint8_t room[40][EESP_MAX_SEALED_LEN(8)];
	for (int again = 0; again < 2; again++) {
		for (int i = 0; i < 40; i++)
			p[i] = packet(room[i] + EESP_MAX_HEADER, 8, EESP_MAX_HEADER, EESP_ICV_LEN);
		SAME(eesp_seal_burst(t, p, 40), 0);
		for (int i = 0; i < 40; i++)
			SAME(p[i].status, EESP_ERR_EXISTS);
	}
	CHECK(kill(pid, SIGKILL) == 0 && waitpid(pid, NULL, 0) == pid);
	eesp_sender_free(t);
	WORKS(locked(g, 604, 0, 0, &t));
	seal_some(t, 3);
	eesp_sender_free(t);
	eesp_group_free(g);
}

/* Every process must use the same start and rate for a fixed epoch. */
static void one_epoch(void)
{
	eesp_sender *s = NULL;
	struct timespec now;
	char begin[32];
	clock_gettime(CLOCK_REALTIME, &now);
	snprintf(begin, sizeof begin, "%lld", (long long)now.tv_sec);
	SAME(other_process("605", "0", "1790000000", "24"), EESP_OK);
	SAME(other_process("605", "0", "1790000000", "24"), EESP_OK);
	SAME(other_process("605", "0", begin, "24"), EESP_ERR_EXISTS); /* another start */
	SAME(other_process("605", "0", "1790000000", "23"), EESP_ERR_EXISTS);
	SAME(other_process("606", "0", begin, "23"), EESP_OK);
	GIVES(EESP_ERR_EXISTS, locked(group, 605, now.tv_sec, 24, &s));
	CHECK(s == NULL && strstr(eesp_last_error(), "counters would repeat"));
	WORKS(locked(group, 605, 1790000000, 24, &s));
	seal_some(s, 3);
	eesp_sender_free(s);
}

int main(int argc, char **argv)
{
	if (argc == 6)
		return as_other_process(argv);
	if (argc == 7) {
		int st = as_other_process(argv);
		CHECK(st == 0 && write(1, "r", 1) == 1);
		pause();
	}
	group = new_group(0, EESP_LEVELS_ZONE);
	TEST(shared_counters);
	TEST(engines);
	TEST(exhausted);
	TEST(by_the_clock);
	TEST(state_file);
	if (!emulated()) {
		char file[300];
		CHECK(mkdtemp(locks));
		TEST(one_process);
		TEST(one_process_rotates);
		TEST(one_epoch);
		snprintf(file, sizeof file, "rm -r %s", locks);
		CHECK(system(file) == 0);
	}
	TEST(shared_whatever_order);
	eesp_group_free(group);
	return 0;
}
