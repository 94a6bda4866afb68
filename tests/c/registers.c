/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * No function returns with a key in a vector register: for example, the first call
 * through a lazily bound PLT would save it on the stack. The arguments are the names of
 * the functions that the library exports. Each of them is called here.
 */
#include "test.h"

#include <sys/random.h>

#define MASK 0x5a

enum { PART = 8, MOST = 4096, REGISTERS = 32 * 64 };

/* The secrets, masked, in parts of 8 octets; then the place for registers. */
static struct { const char *name; uint8_t octets[PART]; } wanted[MOST];
static size_t parts;
static uint8_t saved[REGISTERS] __attribute__((aligned(64)));
static const char *covered[MOST];
static size_t covers;

#define ALL(f) f(0) f(1) f(2) f(3) f(4) f(5) f(6) f(7) f(8) f(9) f(10) f(11) f(12) f(13) f(14) f(15)
#define MORE(f) f(16) f(17) f(18) f(19) f(20) f(21) f(22) f(23) f(24) f(25) f(26) f(27) f(28) f(29) f(30) f(31)
#if defined(__x86_64__)
#define ZMM(n) "vmovdqu64 %%zmm" #n ", " #n "*64(%0)\n"
#define YMM(n) "vmovdqu %%ymm" #n ", " #n "*64(%0)\n"
#define XMM(n) "movdqu %%xmm" #n ", " #n "*64(%0)\n"
static int wide; /* 0: SSE; 1: AVX; 2: AVX-512 */
static inline __attribute__((always_inline)) void save(void)
{
	if (wide == 2)
		__asm__ volatile(ALL(ZMM) MORE(ZMM)::"r"(saved) : "memory");
	else if (wide == 1)
		__asm__ volatile(ALL(YMM)::"r"(saved) : "memory");
	else
		__asm__ volatile(ALL(XMM)::"r"(saved) : "memory");
}
static void how_wide(void)
{
	wide = __builtin_cpu_supports("avx512f") ? 2 : __builtin_cpu_supports("avx") ? 1 : 0;
}
static void put(const uint8_t *p) { __asm__ volatile("movdqu (%0), %%xmm5" ::"r"(p) : "xmm5"); }
#define EACH(f) f(rbx) f(rbp) f(r12) f(r13) f(r14) f(r15)
#define PUSH(r) "push %" #r "\n"
#define SET(r) "mov $0x5a5a" ", %" #r "\n"
#define SEE(r) "xor %ecx, %ecx\ncmp $0x5a5a, %" #r "\nsetne %cl\nadd %rcx, %rax\n"
__asm__(".text\n.p2align 4\n.type keeps,@function\nkeeps:\n" EACH(PUSH) "sub $8, %rsp\n"
	"mov %rdi, %rax\nmov %rsi, %rdi\nmov %rdx, %rsi\nmov %rcx, %rdx\n" EACH(SET)
	"call *%rax\nxor %eax, %eax\n" EACH(SEE)
	"add $8, %rsp\npop %r15\npop %r14\npop %r13\npop %r12\npop %rbp\npop %rbx\nret\n.size keeps,.-keeps\n");
#elif defined(__aarch64__)
#define V(n) "str q" #n ", [%0, #" #n "*16]\n"
static inline __attribute__((always_inline)) void save(void)
{
	__asm__ volatile(ALL(V) MORE(V)::"r"(saved) : "memory");
}
static void how_wide(void) {}
static void put(const uint8_t *p) { __asm__ volatile("ldr q5, [%0]" ::"r"(p) : "v5"); }
__asm__(".text\n.p2align 4\n.type keeps,%function\nkeeps:\n"
	"stp x29, x30, [sp, #-176]!\nmov x29, sp\n"
	"stp x19, x20, [sp, #16]\n"
	"stp x21, x22, [sp, #32]\n"
	"stp x23, x24, [sp, #48]\n"
	"stp x25, x26, [sp, #64]\n"
	"stp x27, x28, [sp, #80]\n"
	"stp d8, d9, [sp, #96]\n"
	"stp d10, d11, [sp, #112]\n"
	"stp d12, d13, [sp, #128]\n"
	"stp d14, d15, [sp, #144]\n"
	"mov x9, x0\nmov x0, x1\nmov x1, x2\nmov x2, x3\n"
#define SET(n, m) "mov x" #n ", #0x5a" #n "\nfmov d" #m ", x" #n "\n"
	SET(19, 8) SET(20, 9) SET(21, 10) SET(22, 11) SET(23, 12) SET(24, 13) SET(25, 14) SET(26, 15)
	"mov x27, #0x5a27\nmov x28, #0x5a28\n"
	"blr x9\n"
	"mov x0, #0\n"
#define SEE(n) "mov x9, #0x5a" #n "\ncmp x" #n ", x9\ncinc x0, x0, ne\n"
#define SEE_D(n, m) "mov x9, #0x5a" #n "\nfmov x10, d" #m "\ncmp x10, x9\ncinc x0, x0, ne\n"
	SEE(19) SEE(20) SEE(21) SEE(22) SEE(23) SEE(24) SEE(25) SEE(26) SEE(27) SEE(28)
	SEE_D(19, 8) SEE_D(20, 9) SEE_D(21, 10) SEE_D(22, 11) SEE_D(23, 12) SEE_D(24, 13) SEE_D(25, 14) SEE_D(26, 15)
	"mov x9, sp\ncmp x29, x9\ncinc x0, x0, ne\n"
	"ldp x19, x20, [sp, #16]\n"
	"ldp x21, x22, [sp, #32]\n"
	"ldp x23, x24, [sp, #48]\n"
	"ldp x25, x26, [sp, #64]\n"
	"ldp x27, x28, [sp, #80]\n"
	"ldp d8, d9, [sp, #96]\n"
	"ldp d10, d11, [sp, #112]\n"
	"ldp d12, d13, [sp, #128]\n"
	"ldp d14, d15, [sp, #144]\n"
	"ldp x29, x30, [sp], #176\nret\n.size keeps,.-keeps\n");
#else
#error "how are this architecture's vector registers saved?"
#endif

/* Calls f(a, b, c) with values in the registers that f must preserve, and returns how
 * many of them have changed. */
typedef size_t called(void *a, void *b, size_t c);
size_t keeps(called *f, void *a, void *b, size_t c);

static void remember(const char *name, const uint8_t *secret, size_t n)
{
	for (size_t at = 0; at + PART <= n; at += PART) {
		CHECK(parts < MOST);
		wanted[parts].name = name;
		for (size_t i = 0; i < PART; i++)
			wanted[parts].octets[i] = secret[at + i] ^ MASK;
		parts++;
	}
}

static const char *found(void)
{
	const char *name = NULL;
	for (size_t at = 0; at + PART <= sizeof saved; at++)
		for (size_t k = 0; k < parts && name == NULL; k++) {
			size_t i = 0;
			while (i < PART && (saved[at + i] ^ MASK) == wanted[k].octets[i])
				i++;
			if (i == PART)
				name = wanted[k].name;
		}
	memset(saved, 0, sizeof saved);
	return name;
}

static void look(const char *function)
{
	const char *name = found();
	if (name != NULL)
		test_fail(__FILE__, __LINE__, function, name);
	for (size_t i = 0; i < covers; i++)
		if (strcmp(covered[i], function) == 0)
			return;
	CHECK(covers < MOST);
	covered[covers++] = function;
}

#define GOOD(f, ...)                                                           \
	do {                                                                   \
		int st_ = (int)f(__VA_ARGS__);                                 \
		save();                                                        \
		WORKS(st_);                                                    \
		look(#f);                                                      \
	} while (0)
#define ALL_OF(n, f, ...)                                                      \
	do {                                                                   \
		size_t good_ = f(__VA_ARGS__);                                 \
		save();                                                        \
		SAME(good_, n);                                                \
		look(#f);                                                      \
	} while (0)
#define ANY(f, ...)                                                            \
	do {                                                                   \
		(void)!f(__VA_ARGS__);                                         \
		save();                                                        \
		look(#f);                                                      \
	} while (0)
#define NONE(f, ...)                                                           \
	do {                                                                   \
		f(__VA_ARGS__);                                                \
		save();                                                        \
		look(#f);                                                      \
	} while (0)

/* The secrets, not masked. */
static struct plain {
	uint8_t value[3][EESP_ROOT_KEY_LEN], next[EESP_ROOT_KEY_LEN], slot[32], kdf[32], der[512], derived[32],
		keys[32 * 32];
	eesp_data_key key;
} *p;

static void finds_what_is_there(void)
{
	static const uint8_t nothing[16];
	put(p->next);
	save();
	CHECK(found() != NULL);
	put(nothing);
	save();
	CHECK(found() == NULL);
}

/* Remembers the values in DER. */
static void remember_der(const char *name)
{
	for (size_t i = 0; i + 34 <= sizeof p->der; i++)
		if (p->der[i] == 4 && p->der[i + 1] == 32)
			remember(name, p->der + i + 2, 32);
}

static void library(void)
{
	ANY(eesp_strerror, EESP_ERR_AUTH);
	ANY(eesp_last_error, );
	ANY(eesp_version, );
	ANY(eesp_version_string, );
	ANY(eesp_backend_name, );
	ANY(eesp_backend_at, 0);
	ANY(eesp_backend_supported, "generic");
	GOOD(eesp_backend_select, eesp_backend_name());
	GOOD(eesp_self_test, );
	GOOD(eesp_thread_init, );
	NONE(eesp_thread_keep_warm, );
}

enum { MANY = 40, LEN = 64 };
static uint8_t room[MANY][1024];
static eesp_pkt pkts[MANY];

static void prepare(size_t n)
{
	memset(pkts, 0, sizeof pkts);
	for (size_t i = 0; i < n; i++) {
		pkts[i] = packet(room[i] + 512, LEN, 512, 256);
		fill(pkts[i].data, i, LEN);
	}
}

static void take_over(size_t n)
{
	for (size_t i = 0; i < n; i++) {
		pkts[i] = sealed(&pkts[i]);
		pkts[i].headroom = 64; /* tss: the prefix */
	}
}

/* Bursts of one packet, of a few, and of many. */
static void bursts(eesp_sender *s, eesp_receiver *r)
{
	static const size_t sizes[] = { 1, 1, 1, 3, 16, 32, MANY };
	for (size_t i = 0; i < COUNT(sizes); i++) {
		prepare(sizes[i]);
		ALL_OF(sizes[i], eesp_seal_burst, s, pkts, sizes[i]);
		take_over(sizes[i]);
		ALL_OF(sizes[i], eesp_open_burst, r, pkts, sizes[i]);
	}
	prepare(1);
	ALL_OF(1, eesp_seal_burst, s, pkts, 1);
	take_over(1);
	((uint8_t *)pkts[0].data)[pkts[0].len - 1] ^= 1;
	ALL_OF(0, eesp_open_burst, r, pkts, 1);
}

static void groups(uint32_t aead)
{
	static const uint64_t index[3] = { 1, 2, 3 };
	const size_t key_len = aead ? 32 : 16;
	eesp_group_config gc = EESP_GROUP_CONFIG_INIT;
	eesp_sender_config sc = EESP_SENDER_CONFIG_INIT;
	eesp_root_key_info info;
	eesp_group *g, *h;
	eesp_sender *s, *keyed, *away;
	eesp_receiver *r, *careful, *opens;
	eesp_proxy *proxy;
	size_t len = sizeof p->der;
	gc.aead = aead;
	GOOD(eesp_group_new, &gc, &g);
	GOOD(eesp_group_set_root_key, g, EESP_LEVEL_ZONE, root_id, 32, index, RING(p->value));
	GOOD(eesp_group_get_root_key_der, g, EESP_LEVEL_ZONE, p->der, &len);
	GOOD(eesp_group_set_root_key_der, g, EESP_LEVEL_USER, p->der, len);
	GOOD(eesp_group_remove_root_key, g, EESP_LEVEL_USER);
	GOOD(eesp_group_rotate, g, EESP_LEVEL_ZONE, 4, p->next);
	GOOD(eesp_group_set_default_levels, g, EESP_LEVELS_ZONE);
	GOOD(eesp_group_get_root_key_info, g, EESP_LEVEL_ZONE, &info);
	GOOD(eesp_group_new, &gc, &h);
	GOOD(eesp_group_generate_root_key, h, EESP_LEVEL_ZONE, root_id, 32);
	GOOD(eesp_group_rotate, h, EESP_LEVEL_ZONE, 3, NULL);
	len = sizeof p->der;
	memset(p->der, 0, len);
	GOOD(eesp_group_get_root_key_der, h, EESP_LEVEL_ZONE, p->der, &len);
	remember_der("generated root key");

	const eesp_context context = { .id = 10 + aead, .epoch = 3 }, other = { .id = 20 + aead, .epoch = 3 };
	sc.id = context.id;
	sc.flags = EESP_SENDER_OPTIONS;
	sc.counter_mode = EESP_COUNTER_EXPLICIT;
	sc.epoch = 3;
	GOOD(eesp_derive_keys, g, &context, 1, p->derived, key_len);
	remember("derived key", p->derived, key_len);
	GOOD(eesp_derive_keys, g, &context, 1, p->derived, key_len);
	GOOD(eesp_data_key_export, g, &other, 1, &p->key);
	remember("exported key", p->key.key, key_len);
	GOOD(eesp_data_key_export, g, &other, 1, &p->key);
	GOOD(eesp_sender_new, g, &sc, &s);
	ANY(eesp_sender_header_len, s);
	ANY(eesp_sender_next_tsc, s);
	GOOD(eesp_receiver_new, &g, 1, NULL, &r);
	bursts(s, r);
	eesp_receiver_config rc = EESP_RECEIVER_CONFIG_INIT;
	rc.replay_window = 1024;
	GOOD(eesp_receiver_new, &g, 1, &rc, &careful);
	eesp_stats stats;
	eesp_replay_stats replays;
	GOOD(eesp_sender_stats, s, &stats);
	GOOD(eesp_receiver_stats, r, &stats);
	GOOD(eesp_receiver_replay_stats, careful, &replays);

	sc.id = 30 + aead;
	GOOD(eesp_sender_new, h, &sc, &away);
	GOOD(eesp_proxy_new, r, away, &proxy);
	prepare(3);
	ALL_OF(3, eesp_seal_burst, s, pkts, 3);
	for (int i = 0; i < 3; i++) {
		pkts[i] = sealed(&pkts[i]);
		pkts[i].headroom = pkts[i].tailroom = 128;
	}
	ALL_OF(3, eesp_proxy_burst, proxy, pkts, 3);
	NONE(eesp_proxy_free, proxy);

	sc = (eesp_sender_config)EESP_SENDER_CONFIG_INIT;
	sc.counter_mode = EESP_COUNTER_EXPLICIT;
	sc.start_counter = 100000;
	GOOD(eesp_sender_new_with_key, &p->key, &sc, &keyed);
	GOOD(eesp_receiver_new_with_key, &p->key, NULL, &opens);
	bursts(keyed, opens);
	NONE(eesp_data_key_wipe, &p->key);
	NONE(eesp_sender_free, keyed);
	NONE(eesp_receiver_free, opens);
	NONE(eesp_sender_free, away);
	NONE(eesp_sender_free, s);
	NONE(eesp_receiver_free, r);
	NONE(eesp_receiver_free, careful);
	NONE(eesp_group_free, h);
	NONE(eesp_group_free, g);
}

/* Profiles with keys in slots. */
static void slots(uint32_t profile)
{
	eesp_group_config gc = EESP_GROUP_CONFIG_INIT;
	eesp_sender_config sc = EESP_SENDER_CONFIG_INIT;
	eesp_group *g;
	eesp_sender *s;
	eesp_receiver *r;
	unsigned slot;
	uint32_t spi = 7;
	gc.profile = profile;
	gc.aead = profile == EESP_PROFILE_TSS ? EESP_AEAD_AES_256_GCM : EESP_AEAD_AES_128_GCM;
	if (profile == EESP_PROFILE_EESP) {
		gc.mode = EESP_SSKDF_HKDF_SHA2_256;
		gc.domain = 4711;
	}
	const size_t key_len = 32;
	GOOD(eesp_group_new, &gc, &g);
	GOOD(eesp_group_set_key, g, 0, p->slot, key_len);
	if (profile != EESP_PROFILE_EESP) {
		GOOD(eesp_group_rotate_key, g, p->next, key_len, &slot);
		GOOD(eesp_group_use_key, g, 0);
		GOOD(eesp_group_remove_key, g, 1);
	}
	eesp_usage usage;
	GOOD(eesp_group_usage, g, 0, EESP_GENERATION_CURRENT, &usage);
	if (profile == EESP_PROFILE_PSP)
		GOOD(eesp_group_alloc_spi, g, 7, &spi);
	if (profile == EESP_PROFILE_TSS) {
		eesp_domain_stats domain;
		GOOD(eesp_group_set_epoch, g, 3);
		GOOD(eesp_group_reset_latch, g);
		GOOD(eesp_group_domain_stats, g, &domain);
	}
	sc.id = spi;
	sc.v = profile == EESP_PROFILE_TSS ? EESP_V_TSS_SSI : 0;
	sc.counter_mode = EESP_COUNTER_EXPLICIT;
	GOOD(eesp_sender_new, g, &sc, &s);
	GOOD(eesp_receiver_new, &g, 1, NULL, &r);
	bursts(s, r);
	if (profile == EESP_PROFILE_PSP) {
		static const uint8_t ip[20 + 44] = { 0x45, 0, 0, 64, 0, 0, 0, 0, 64, 17, 0, 0,
						     10, 0, 0, 1, 10, 0, 0, 2 };
		eesp_udp u = EESP_UDP_INIT;
		u.addr.src[10] = u.addr.src[11] = u.addr.dst[10] = u.addr.dst[11] = 0xff;
		prepare(3);
		for (int i = 0; i < 3; i++)
			memcpy(pkts[i].data, ip, sizeof ip);
		ALL_OF(3, eesp_udp_seal_burst, s, &u, pkts, 3);
		take_over(3);
		ALL_OF(3, eesp_udp_open_burst, r, &u, pkts, 3);
	}
	NONE(eesp_sender_free, s);
	NONE(eesp_receiver_free, r);
	NONE(eesp_group_free, g);
}

static void psp(void) { slots(EESP_PROFILE_PSP); }
static void tss(void) { slots(EESP_PROFILE_TSS); }
static void eesp(void) { slots(EESP_PROFILE_EESP); }
/* Whole rings, and IDs that change, and with them keys and windows. */
static void rings(void)
{
	static const uint64_t generation[3] = { 0, 7, 8 }, own[1] = { 0x7001 };
	eesp_group *g;
	eesp_sender *s;
	eesp_receiver *r;
	eesp_sender_config sc = EESP_SENDER_CONFIG_INIT;
	eesp_receiver_config rc = EESP_RECEIVER_CONFIG_INIT;
	sc.id = 0x7000;
	sc.flags = EESP_SENDER_OPTIONS;
	rc.replay_window = 128;
	rc.own_ids = own;
	rc.own_id_count = 1;
	WORKS(eesp_group_new(NULL, &g));
	GOOD(eesp_group_set_ring, g, EESP_LEVEL_ZONE, (const uint8_t *)"zone of the ring", 16, generation,
	     RING(p->value), 7);
	WORKS(eesp_sender_new(g, &sc, &s));
	WORKS(eesp_receiver_new(&g, 1, &rc, &r));
	bursts(s, r);
	GOOD(eesp_sender_set_id, s, 0x7002);
	ANY(eesp_sender_id, s);
	GOOD(eesp_receiver_set_own_ids, r, own, 1);
	bursts(s, r);
	GOOD(eesp_group_wait, g, 1000);
	/* There is no agent here. Its keys would come to a thread of the library, not to the caller. */
	eesp_group *followed;
	eesp_follow_config fc = EESP_FOLLOW_CONFIG_INIT;
	eesp_follow_info info;
	fc.socket_path = "no-agent.sock";
	fc.timeout_ms = 1;
	ANY(eesp_group_follow, "net", &fc, &followed);
	ANY(eesp_follow_wait, g, 1);
	ANY(eesp_group_follow_info, g, &info);
	size_t clients = 0;
	eesp_sender *to;
	ANY(eesp_follow_clients, g, NULL, &clients);
	ANY(eesp_sender_new_to_client, g, 5, &to);
	eesp_receiver_free(r);
	eesp_sender_free(s);
	eesp_group_free(g);
}

static void stateless_128(void) { groups(EESP_AEAD_AES_128_GCM); }
static void stateless_256(void) { groups(EESP_AEAD_AES_256_GCM); }

static void kernels(void)
{
	enum { N = 32 };
	static uint8_t contexts[N][EESP_KDF_CONTEXT_LEN], tags[N][16], aad[20];
	eesp_kdf *kdf;
	for (size_t i = 0; i < N; i++)
		contexts[i][5] = (uint8_t)i;
	GOOD(eesp_kdf_new, p->kdf, &kdf);
	for (uint32_t aead = 0; aead < 2; aead++) {
		eesp_keyset *set;
		eesp_job j[N];
		memset(j, 0, sizeof j);
		for (size_t i = 0; i < N; i++)
			j[i] = (eesp_job){ .aad = aad, .aad_len = sizeof aad, .src = room[i], .dst = room[i],
					   .tag = tags[i], .len = 100 };
		WORKS(eesp_kdf_derive(kdf, aead, contexts[0], N, p->keys, N * (aead ? 32 : 16)));
		remember("derived by an eesp_kdf", p->keys, N * (aead ? 32 : 16));
		for (size_t n = 3; n <= N; n += N - 3) {
			GOOD(eesp_kdf_derive, kdf, aead, contexts[0], n, p->keys, n * (aead ? 32 : 16));
			ALL_OF(n, eesp_kdf_seal, kdf, aead, contexts[0], j, n);
			ALL_OF(n, eesp_kdf_open, kdf, aead, contexts[0], j, n);
		}
		GOOD(eesp_keyset_new, aead, p->keys, N, &set);
		for (size_t n = 3; n <= N; n += N - 3) {
			for (size_t i = 0; i < N; i++)
				j[i].key = (uint32_t)i;
			ALL_OF(n, eesp_keyset_seal, set, j, n);
			ALL_OF(n, eesp_keyset_open, set, j, n);
		}
		NONE(eesp_keyset_free, set);
	}
	NONE(eesp_kdf_free, kdf);
}

/* Changes registers that it must preserve if c is 0: the test must find that. */
static size_t spoils(void *a, void *b, size_t c)
{
	(void)a;
	(void)b;
#if defined(__x86_64__)
	if (c == 0)
		__asm__ volatile("inc %%rbx\ninc %%r15" ::: "memory");
#else
	if (c == 0)
		__asm__ volatile("add x19, x19, #1\nadd x28, x28, #1\nfmov d8, xzr\nfmov d15, xzr" ::: "memory");
#endif
	return c;
}

static size_t seals(void *a, void *b, size_t n) { return eesp_seal_burst(a, b, n); }
static size_t opens(void *a, void *b, size_t n) { return eesp_open_burst(a, b, n); }

/* Kernels change registers that C functions must preserve: the library restores them. */
static void preserved(void)
{
	static uint8_t buffer[MANY][4096];
	static const uint32_t lens[] = { 10, 64, 300, 2000 };
	static const size_t sizes[] = { 1, 2, 4, 32, MANY };
	eesp_group *g = new_group(EESP_AEAD_AES_128_GCM, EESP_LEVELS_ZONE);
	CHECK(keeps(spoils, NULL, NULL, 0) >= 2);
	SAME(keeps(spoils, NULL, NULL, 1), 0);
	eesp_sender *sealing = new_sender(g, 0, 0);
	eesp_receiver *opening = new_receiver(g);
	for (size_t l = 0; l < COUNT(lens); l++)
		for (size_t k = 0; k < COUNT(sizes); k++) {
			memset(pkts, 0, sizeof pkts);
			for (size_t i = 0; i < sizes[k]; i++) {
				pkts[i] = packet(buffer[i] + 512, lens[l], 512, 256);
				fill(pkts[i].data, i, lens[l]);
			}
			SAME(keeps(seals, sealing, pkts, sizes[k]), 0);
			for (size_t i = 0; i < sizes[k]; i++) {
				SAME(pkts[i].status, EESP_OK);
				pkts[i] = sealed(&pkts[i]);
			}
			SAME(keeps(opens, opening, pkts, sizes[k]), 0);
			for (size_t i = 0; i < sizes[k]; i++)
				SAME(pkts[i].status, EESP_OK);
		}
	eesp_sender_free(sealing);
	eesp_receiver_free(opening);
	eesp_group_free(g);
}

int main(int argc, char **argv)
{
	how_wide();
	p = mmap(NULL, sizeof *p, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(p != MAP_FAILED && getrandom(p, sizeof *p, 0) == sizeof *p);
	remember("root key", p->value[0], sizeof p->value);
	remember("rotated in", p->next, sizeof p->next);
	remember("key of a slot", p->slot, sizeof p->slot);
	remember("key of an eesp_kdf", p->kdf, sizeof p->kdf);
	TEST(finds_what_is_there);
	TEST(preserved);
	TEST(library);
	TEST(stateless_128);
	TEST(stateless_256);
	TEST(rings);
	TEST(psp);
	TEST(tss);
	TEST(eesp);
	TEST(kernels);
	for (int i = 1; i < argc; i++) {
		size_t k = 0;
		while (k < covers && strcmp(covered[k], argv[i]) != 0)
			k++;
		if (k == covers)
			test_fail(__FILE__, __LINE__, argv[i], "is exported, and not looked at here");
	}
	printf("     %d functions\n", argc - 1);
	return 0;
}
