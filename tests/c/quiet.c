/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Bursts on the fast path make no allocation, lock or system call. This program counts
 * allocations and locks with its own malloc and pthread functions. In seccomp's strict
 * mode the kernel ends a thread that makes a system call. Without kernels for the fast
 * path nothing is tested.
 */
#define _GNU_SOURCE
#include "test.h"

#include <dlfcn.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static _Thread_local int watched;
static _Thread_local unsigned allocations, locks;

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t),
	*__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

void *malloc(size_t n) { return allocations += watched, __libc_malloc(n); }
void *calloc(size_t n, size_t size) { return allocations += watched, __libc_calloc(n, size); }
void *realloc(void *p, size_t n) { return allocations += watched, __libc_realloc(p, n); }
void *aligned_alloc(size_t align, size_t n) { return allocations += watched, __libc_memalign(align, n); }
void free(void *p) { allocations += watched, __libc_free(p); }

#define LOCK(name, type)                                                       \
	static int (*other_##name)(type *);                                    \
	int name(type *x)                                                      \
	{                                                                      \
		locks += watched;                                              \
		if (!other_##name)                                             \
			*(void **)&other_##name = dlsym(RTLD_NEXT, #name);     \
		return other_##name(x);                                        \
	}
LOCK(pthread_mutex_lock, pthread_mutex_t)
LOCK(pthread_mutex_trylock, pthread_mutex_t)
LOCK(pthread_rwlock_rdlock, pthread_rwlock_t)
LOCK(pthread_rwlock_wrlock, pthread_rwlock_t)
LOCK(pthread_spin_lock, pthread_spinlock_t)

enum { MOST = 256, TEXT = 200, PREFIX = EESP_TSS_LEAD_IPV4 };

/* A profile in a careful configuration: windows, own IDs, a second group. */
struct profile {
	unsigned number;
	eesp_group *g[2];
	eesp_sender *s, *away;
	eesp_proxy *proxy;
	eesp_receiver *r;
};

static struct profile new_profile(unsigned number, int strict)
{
	static const uint64_t own[] = { 70, 71 };
	struct profile x = { .number = number };
	uint8_t key[32];
	for (uint32_t i = 0; i < 2; i++) {
		eesp_group_config c = EESP_GROUP_CONFIG_INIT;
		c.profile = number;
		if (number == EESP_PROFILE_TSS || number == EESP_PROFILE_EESP)
			c.domain = 0x010200 + i;
		if (number == EESP_PROFILE_TSS)
			c.aead = EESP_AEAD_AES_256_GCM;
		if (number == EESP_PROFILE_EESP)
			c.mode = EESP_SSKDF_HKDF_SHA2_256;
		if (number == EESP_PROFILE_PSP && i == 1)
			break;
		WORKS(eesp_group_new(&c, &x.g[i]));
		memset(key, (int)(0x30 + i), sizeof key);
		if (number == EESP_PROFILE_STATELESS)
			set_root_key(x.g[i], i ? EESP_LEVEL_USER : EESP_LEVEL_ZONE);
		else
			WORKS(eesp_group_set_key(x.g[i], 0, key, sizeof key));
	}
	eesp_sender_config sc = EESP_SENDER_CONFIG_INIT;
	sc.id = 40 + number + 4 * (unsigned)strict; /* no other ID: a process uses counters once */
	sc.counter_mode = EESP_COUNTER_EXPLICIT;
	if (number == EESP_PROFILE_TSS)
		sc.v = EESP_V_TSS_SSI;
	WORKS(eesp_sender_new(x.g[0], &sc, &x.s));
	sc.id += 100;
	WORKS(eesp_sender_new(x.g[0], &sc, &x.away));
	eesp_receiver_config rc = EESP_RECEIVER_CONFIG_INIT;
	rc.replay_window = 1024;
	rc.own_ids = own;
	rc.own_id_count = COUNT(own);
	WORKS(eesp_receiver_new(x.g, x.g[1] ? 2 : 1, &rc, &x.r));
	WORKS(eesp_proxy_new(x.r, x.away, &x.proxy));
	return x;
}

/* Makes the header an odd one: no sender here writes it. */
static void odd(const struct profile *x, uint8_t *h)
{
	if (x->number == EESP_PROFILE_STATELESS)
		h[3] = 0x11; /* 4 octets of the payload in clear, and not authenticated */
	else if (x->number == EESP_PROFILE_PSP)
		h[2] ^= 1; /* the same, authenticated */
	else
		memset(h + 8, 0, 8); /* no sequence number */
}

/* Passes n packets through a proxy, and opens the result. */
static int forwarded(struct profile *x, uint8_t room[][EESP_MAX_SEALED_LEN(TEXT) + PREFIX], eesp_pkt *p, eesp_pkt *q,
		     size_t n)
{
	static const eesp_addr addr = { .src = { [10] = 255, 255, 10, 0, 0, 1 },
					.dst = { [10] = 255, 255, 10, 0, 0, 2 } };
	const uint32_t prefix = x->number == EESP_PROFILE_TSS ? PREFIX : 0;
	for (size_t i = 0; i < n; i++) {
		p[i] = packet(room[i] + PREFIX + EESP_MAX_HEADER, TEXT, PREFIX + EESP_MAX_HEADER,
			      EESP_ICV_LEN + EESP_MAX_PADDING);
		fill(p[i].data, i, TEXT);
		p[i].next_header = 17;
	}
	if (eesp_seal_burst(x->s, p, n) != n)
		return 0;
	for (size_t i = 0; i < n; i++) {
		q[i] = packet(p[i].out, p[i].out_len, prefix, EESP_MAX_PADDING);
		q[i].out_addr = &addr;
	}
	if (eesp_proxy_burst(x->proxy, q, n) != n)
		return 0;
	for (size_t i = 0; i < n; i++) {
		p[i] = packet(q[i].out, q[i].out_len, prefix, 0);
		p[i].addr = addr;
	}
	if (eesp_open_burst(x->r, p, n) != n)
		return 0;
	for (size_t i = 0; i < n; i++)
		if (p[i].out_len != TEXT || !filled(p[i].out, i, TEXT))
			return 0;
	return 1;
}

/* Passes n packets through a tunnel in UDP. */
static int in_udp(struct profile *x, uint8_t room[][EESP_MAX_SEALED_LEN(TEXT) + PREFIX], eesp_pkt *p, eesp_pkt *q,
		  size_t n)
{
	eesp_udp u = EESP_UDP_INIT;
	if (x->number == EESP_PROFILE_TSS) /* there is no tunnel */
		return 1;
	u.addr = (eesp_addr){ .src = { 0x20, 1 }, .dst = { 0x20, 2 } };
	u.flags = EESP_UDP_ECN | EESP_UDP_CHECKSUM6;
	for (size_t i = 0; i < n; i++) {
		p[i] = packet(room[i] + EESP_MAX_HEADER, TEXT - 48, EESP_MAX_HEADER, EESP_ICV_LEN + EESP_MAX_PADDING);
		fill(p[i].data, i, p[i].len);
		memcpy(p[i].data, (const uint8_t[]){ 0x45, 0, 0, TEXT - 48 }, 4);
	}
	if (eesp_udp_seal_burst(x->s, &u, p, n) != n)
		return 0;
	for (size_t i = 0; i < n; i++)
		q[i] = packet(p[i].out, p[i].out_len, 0, 0);
	if (eesp_udp_open_burst(x->r, &u, q, n) != n)
		return 0;
	for (size_t i = 0; i < n; i++)
		if (q[i].out_len != TEXT - 48 || ((uint8_t *)q[i].out)[0] != 0x45)
			return 0;
	return 1;
}

/* Seals and opens n packets, of which a few are damaged or noise. Returns whether all statuses are as expected. */
static int burst(struct profile *x, size_t n)
{
	static uint8_t room[MOST][EESP_MAX_SEALED_LEN(TEXT) + PREFIX];
	static eesp_pkt p[MOST], q[MOST];
	for (size_t i = 0; i < n; i++) {
		p[i] = packet(room[i] + PREFIX + EESP_MAX_HEADER, TEXT - (uint32_t)(i % 3), PREFIX + EESP_MAX_HEADER,
			      EESP_ICV_LEN + EESP_MAX_PADDING);
		fill(p[i].data, i, p[i].len);
		p[i].next_header = 17;
	}
	if (eesp_seal_burst(x->s, p, n) != n)
		return 0;
	size_t wrong = 0;
	for (size_t i = 0; i < n; i++) {
		q[i] = packet(p[i].out, p[i].out_len, x->number == EESP_PROFILE_TSS ? PREFIX : 0, 0);
		if (i % 32 == 7)
			((uint8_t *)q[i].data)[q[i].len - 1] ^= 1;
		else if (i % 32 == 20)
			q[i].len = 3;
		else if (i % 32 == 9 && x->number != EESP_PROFILE_TSS)
			odd(x, q[i].data);
		else
			continue;
		wrong++;
	}
	if (eesp_open_burst(x->r, q, n) != n - wrong)
		return 0;
	for (size_t i = 0; i < n; i++) {
		int want = i % 32 == 7 ? EESP_ERR_AUTH : i % 32 == 20 ? EESP_ERR_SHORT : EESP_OK;
		if (i % 32 == 9 && x->number != EESP_PROFILE_TSS)
			want = x->number == EESP_PROFILE_EESP ? EESP_ERR_SEQUENCE : EESP_ERR_AUTH;
		if (q[i].status != want || (!want && (q[i].out_len != p[i].len || !filled(q[i].out, i, p[i].len))))
			return 0;
	}
	return forwarded(x, room, p, q, n) && in_udp(x, room, p, q, n);
}

static const size_t sizes[] = { 1, 2, 8, 31, 32, 33, MOST };

static int bursts(struct profile *x, int rounds)
{
	int good = 1;
	for (int i = 0; i < rounds; i++)
		for (size_t k = 0; k < COUNT(sizes); k++)
			good &= burst(x, sizes[k]);
	return good;
}

struct seen {
	struct profile *x;
	int strict, good;
	unsigned allocations, locks;
};

static void *watch(void *arg)
{
	struct seen *s = arg;
	s->good = bursts(s->x, 2); /* attaches the thread and makes the flow's window */
	watched = 1;
	if (s->strict && prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) != 0)
		s->good = 0;
	s->good &= bursts(s->x, 50);
	watched = 0;
	s->allocations = allocations;
	s->locks = locks;
	if (s->strict)
		syscall(SYS_exit, 0); /* ends the thread; strict mode allows no other call */
	return NULL;
}

static int fast; /* there is a fast path here */

static void with(int strict)
{
	for (unsigned number = 0; number < 4; number++) {
		struct profile x = new_profile(number, strict);
		struct seen s = { .x = &x, .strict = strict };
		pthread_t t;
		CHECK(pthread_create(&t, NULL, watch, &s) == 0);
		CHECK(pthread_join(t, NULL) == 0);
		CHECK(s.good);
		SAME(s.allocations, 0);
		SAME(s.locks, 0);
		eesp_proxy_free(x.proxy);
		eesp_receiver_free(x.r);
		eesp_sender_free(x.s);
		eesp_sender_free(x.away);
		for (int i = 0; i < 2; i++)
			eesp_group_free(x.g[i]);
	}
}

static void no_allocation_no_lock(void) { with(0); }
static void no_system_call(void)
{
	if (!fast || emulated()) {
		printf("     no_system_call: not here\n");
		return;
	}
	alarm(60); /* a thread that was ended inside the library may leave others waiting */
	with(1);
	alarm(0);
}

/* Allocations and locks are counted at all. */
static void counts(void)
{
	pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
	void *volatile block;
	watched = 1;
	block = malloc(1);
	free(block);
	pthread_mutex_lock(&m);
	watched = 0;
	pthread_mutex_unlock(&m);
	SAME(allocations, 2);
	SAME(locks, 1);
	eesp_kdf *kdf; /* the library's allocations too */
	uint8_t key[32] = { 1 };
	unsigned before = locks;
	watched = 1;
	WORKS(eesp_kdf_new(key, &kdf));
	eesp_kdf_free(kdf);
	watched = 0;
	CHECK(allocations > 2 || locks > before);
}

int main(void)
{
	const char *direct = getenv("EESP_DIRECT");
	fast = strcmp(eesp_backend_name(), "generic") != 0 && (!direct || strcmp(direct, "0") != 0);
	TEST(counts);
	TEST(no_allocation_no_lock);
	TEST(no_system_call);
	return 0;
}
