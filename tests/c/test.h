/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Shared by the tests of the C ABI. A program calls TEST for each of its tests. The first
 * check that fails prints its place and ends the program.
 */
#ifndef TEST_H
#define TEST_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <eesp.h>

#include <errno.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

_Noreturn static inline void test_fail(const char *file, int line, const char *what, const char *detail)
{
	printf("FAIL %s:%d: %s: %s\n", file, line, what, detail);
	fflush(stdout);
	_exit(1);
}

/* c holds. */
#define CHECK(c)                                                               \
	do {                                                                   \
		if (!(c))                                                      \
			test_fail(__FILE__, __LINE__, #c, "is not so");        \
	} while (0)

/* Two integers are equal. */
#define SAME(a, b)                                                                                       \
	do {                                                                                             \
		long long a_ = (long long)(a), b_ = (long long)(b);                                      \
		if (a_ != b_) {                                                                          \
			char t_[64];                                                                     \
			snprintf(t_, sizeof t_, "%lld, not %lld", a_, b_);                               \
			test_fail(__FILE__, __LINE__, #a, t_);                                           \
		}                                                                                        \
	} while (0)

/* A call returns a status. */
#define GIVES(want, call)                                                                                \
	do {                                                                                             \
		int s_ = (int)(call);                                                                    \
		if (s_ != (want)) {                                                                      \
			char t_[512];                                                                    \
			snprintf(t_, sizeof t_, "%d (%s; %s), not " #want, s_, eesp_strerror(s_),        \
				 eesp_last_error());                                                     \
			test_fail(__FILE__, __LINE__, #call, t_);                                        \
		}                                                                                        \
	} while (0)

#define WORKS(call) GIVES(EESP_OK, call)

#define TEST(f)                                                                \
	do {                                                                   \
		f();                                                           \
		printf("ok   %s: %s\n", test_program(__FILE__), #f);           \
		fflush(stdout);                                                \
	} while (0)

static inline const char *test_program(const char *file)
{
	const char *slash = strrchr(file, '/');
	return slash ? slash + 1 : file;
}

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const uint8_t all_v[] = { EESP_V_ID, EESP_V_ID_SRC, EESP_V_ID_SRC_DST,
				 EESP_V_LONG_ID, EESP_V_LONG_ID_SRC, EESP_V_LONG_ID_SRC_DST };

/* ---- Objects to test with ---- */

static const uint8_t root_id[] = "root key for tests, 32 octets ID";
#define ROOT_ID_LEN 32

/* C11 wants a cast where an array of arrays becomes const. */
#define RING(value) ((const uint8_t(*)[EESP_ROOT_KEY_LEN])(value))

static inline void root_value(uint8_t value[EESP_ROOT_KEY_LEN], int level, int generation)
{
	for (int i = 0; i < EESP_ROOT_KEY_LEN; i++)
		value[i] = (uint8_t)(37 * level + 101 * generation + 7 * i + 1);
}

/* Sets the root key of a level, with indices 10, 11 and 12. */
static inline void set_root_key(eesp_group *g, int level)
{
	const uint64_t index[3] = { 10, 11, 12 };
	uint8_t value[3][EESP_ROOT_KEY_LEN];
	for (int i = 0; i < 3; i++)
		root_value(value[i], level, i);
	WORKS(eesp_group_set_root_key(g, level, root_id, ROOT_ID_LEN, index, RING(value)));
}

/* A group with root keys at a set of levels; every call sets the same keys. */
static inline eesp_group *new_group(uint32_t aead, unsigned levels)
{
	eesp_group_config c = EESP_GROUP_CONFIG_INIT;
	eesp_group *g = NULL;
	c.aead = aead;
	WORKS(eesp_group_new(&c, &g));
	for (int l = 0; l < EESP_LEVEL_COUNT; l++)
		if (levels >> l & 1)
			set_root_key(g, l);
	return g;
}

/* The configuration of a sender that counts from 0, with an ID that no other one has. */
static inline eesp_sender_config explicit_config(uint8_t v)
{
	static uint64_t id = 1000;
	eesp_sender_config c = EESP_SENDER_CONFIG_INIT;
	c.id = ++id | (v & EESP_V_LONG_ID ? 0x0123456700000000u : 0);
	c.v = v;
	c.counter_mode = EESP_COUNTER_EXPLICIT;
	c.epoch = 3;
	return c;
}

static inline eesp_sender *new_sender(eesp_group *g, uint8_t v, uint32_t flags)
{
	eesp_sender_config c = explicit_config(v);
	eesp_sender *s = NULL;
	c.flags = flags;
	WORKS(eesp_sender_new(g, &c, &s));
	return s;
}

/* A group of profile psp with keys in both slots; every call sets the same keys. */
/* Writes the octets of a text in hexadecimal, and returns their number. */
static inline size_t unhex(uint8_t *to, const char *hex)
{
	size_t n = strlen(hex) / 2;
	for (size_t i = 0; i < n; i++) {
		unsigned x;
		CHECK(sscanf(hex + 2 * i, "%2x", &x) == 1);
		to[i] = (uint8_t)x;
	}
	return n;
}

static inline eesp_group *new_psp_group(void)
{
	eesp_group_config c = EESP_GROUP_CONFIG_INIT;
	eesp_group *g = NULL;
	uint8_t key[32];
	c.profile = EESP_PROFILE_PSP;
	WORKS(eesp_group_new(&c, &g));
	for (unsigned slot = 0; slot < 2; slot++) {
		memset(key, 0x30 + (int)slot, sizeof key);
		WORKS(eesp_group_set_key(g, slot, key, sizeof key));
	}
	return g;
}

static inline eesp_receiver *new_replay_receiver(eesp_group *g, uint32_t window, uint32_t contexts)
{
	eesp_receiver_config c = EESP_RECEIVER_CONFIG_INIT;
	eesp_receiver *r = NULL;
	c.replay_window = window;
	c.replay_contexts = contexts;
	WORKS(eesp_receiver_new(&g, 1, &c, &r));
	return r;
}

static inline eesp_receiver *new_receiver(eesp_group *g)
{
	eesp_receiver *r = NULL;
	WORKS(eesp_receiver_new(&g, 1, NULL, &r));
	return r;
}

/* A group with a sender and a receiver, for tests that only need objects that work. */
struct kit {
	eesp_group *group;
	eesp_sender *sender;
	eesp_receiver *receiver;
};

static inline struct kit new_kit(uint32_t aead, uint8_t v)
{
	struct kit k;
	k.group = new_group(aead, EESP_LEVELS_ZONE);
	k.sender = new_sender(k.group, v, EESP_SENDER_OPTIONS);
	k.receiver = new_receiver(k.group);
	return k;
}

static inline void free_kit(struct kit *k)
{
	eesp_sender_free(k->sender);
	eesp_receiver_free(k->receiver);
	eesp_group_free(k->group);
}

/* ---- Packets ---- */

/* Octet i of payload number x. */
static inline uint8_t pattern(size_t x, size_t i) { return (uint8_t)(x * 131 + i * 17 + (i >> 8) * 3 + 5); }

static inline void fill(void *to, size_t x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		((uint8_t *)to)[i] = pattern(x, i);
}

static inline int filled(const void *from, size_t x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (((const uint8_t *)from)[i] != pattern(x, i))
			return 0;
	return 1;
}

#define CANARY 0xC5

static inline int all_are(const void *from, size_t n, uint8_t octet)
{
	for (size_t i = 0; i < n; i++)
		if (((const uint8_t *)from)[i] != octet)
			return 0;
	return 1;
}

/* A packet of n octets in place, with headroom and tailroom. */
static inline eesp_pkt packet(void *data, uint32_t n, uint32_t headroom, uint32_t tailroom)
{
	eesp_pkt p;
	memset(&p, 0, sizeof p);
	p.data = data;
	p.len = n;
	p.headroom = headroom;
	p.tailroom = tailroom;
	for (int i = 0; i < 16; i++) {
		p.addr.src[i] = (uint8_t)(0x20 + i);
		p.addr.dst[i] = (uint8_t)(0x60 + i);
	}
	return p;
}

/* Describes the sealed packet of p, to open it. */
static inline eesp_pkt sealed(const eesp_pkt *p)
{
	eesp_pkt q = packet(p->out, p->out_len, 0, 0);
	q.addr = p->addr;
	return q;
}

/* Seals and opens one packet; returns the first status that is not EESP_OK. */
static inline int one_packet(eesp_sender *s, eesp_receiver *r)
{
	uint8_t room[EESP_MAX_SEALED_LEN(64)];
	eesp_pkt p = packet(room + EESP_MAX_HEADER, 64, EESP_MAX_HEADER, EESP_ICV_LEN);
	fill(p.data, 1, 64);
	if (eesp_seal_burst(s, &p, 1) != 1)
		return p.status ? p.status : EESP_ERR_INTERNAL;
	eesp_pkt q = sealed(&p);
	if (eesp_open_burst(r, &q, 1) != 1)
		return q.status ? q.status : EESP_ERR_INTERNAL;
	return q.out_len == 64 && filled(q.out, 1, 64) ? EESP_OK : EESP_ERR_INTERNAL;
}

/* ---- Processes ---- */

/* Waits for a process, which must end with status 0. */
static inline void ends_well(pid_t pid)
{
	int status;
	CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
		char t[64];
		snprintf(t, sizeof t, "process ended with wait status %#x", (unsigned)status);
		test_fail(__FILE__, __LINE__, "exit status 0", t);
	}
}

/* Whether an emulator makes the system calls. QEMU 7.2 ignores madvise and reports success. */
static inline int emulated(void)
{
	const char *runner = getenv("EESP_RUNNER");
	return runner && *runner;
}

/* The command that starts this program anew: the program, or the emulator in EESP_RUNNER
 * with its options and the program; then the arguments, up to NULL. */
static inline char **self_command(const char *const *arguments)
{
	static char words[1024], self[PATH_MAX], *argv[32];
	size_t n = 0;
	const char *runner = getenv("EESP_RUNNER");
	ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
	CHECK(len > 0);
	self[len] = 0;
	snprintf(words, sizeof words, "%s", runner ? runner : "");
	for (char *w = strtok(words, " "); w; w = strtok(NULL, " "))
		argv[n++] = w;
	for (argv[n++] = self; *arguments; arguments++) {
		CHECK(n < COUNT(argv) - 1);
		argv[n++] = (char *)*arguments;
	}
	argv[n] = NULL;
	return argv;
}

/* Starts this program anew with an argument. */
static inline pid_t start_self(const char *argument)
{
	char **argv = self_command((const char *[]){ argument, NULL });
	pid_t pid;
	fflush(stdout);
	CHECK(posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ) == 0);
	return pid;
}

/* Runs f in a child made by fork; a child that hangs is killed. */
static inline void in_child(void (*f)(void))
{
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		alarm(120);
		f();
		_exit(0);
	}
	ends_well(pid);
}

/* A number in /proc/self/status, in the unit of that file. */
static inline long proc_status(const char *name)
{
	char line[256];
	long n = -1;
	FILE *f = fopen("/proc/self/status", "r");
	CHECK(f != NULL);
	while (fgets(line, sizeof line, f))
		if (strncmp(line, name, strlen(name)) == 0 && line[strlen(name)] == ':')
			n = atol(line + strlen(name) + 1);
	fclose(f);
	CHECK(n >= 0);
	return n;
}

/* ---- Memory between pages without access ---- */

struct guarded {
	uint8_t *start, *end; /* of the memory between */
};

static inline struct guarded guarded(size_t n)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	n = (n + page - 1) / page * page;
	uint8_t *m = mmap(NULL, n + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(m != MAP_FAILED);
	CHECK(mprotect(m + page, n, PROT_READ | PROT_WRITE) == 0);
	memset(m + page, CANARY, n);
	return (struct guarded){ m + page, m + page + n };
}

/* Makes the memory read-only, or writable again. */
static inline void read_only(struct guarded g, int yes)
{
	CHECK(mprotect(g.start, (size_t)(g.end - g.start), yes ? PROT_READ : PROT_READ | PROT_WRITE) == 0);
}

/* A read-only copy of n octets, at the end of the memory. */
static inline const void *read_only_copy(const void *from, size_t n)
{
	struct guarded g = guarded(n ? n : 1);
	memcpy(g.end - n, from, n);
	read_only(g, 1);
	return g.end - n;
}

#endif
