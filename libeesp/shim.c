/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The C functions of include/eesp.h. They check what C can check (NULL, handles,
 * structures, forked children) and make one cgo call, or none for packets that the fast
 * path (direct.c) takes.
 */
#define _GNU_SOURCE /* secure_getenv */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "_cgo_export.h"
#include "shim.h"

/* A handle has the kind of an object, and its number in the table of that kind. The kind
 * is a magic number, to recognize handles of other kinds and most freed ones. */
enum { KIND_GROUP = 0x65735047, KIND_SENDER = 0x65735053, KIND_RECEIVER = 0x65735052, KIND_PROXY = 0x65735058,
	KIND_KDF = 0x6573504b, KIND_KEYSET = 0x65735059 };

struct eesp_group { uint32_t kind; uint64_t object; };
/* plan: Go sets it whenever keys change; NULL: all packets take the general path.
 * proxies: so many have the handle, and keep its memory when it is freed before them. */
struct eesp_sender { uint32_t kind, proxies; uint64_t object; void *plan; };
struct eesp_receiver { uint32_t kind, proxies; uint64_t object; void *plan; };
struct eesp_proxy { uint32_t kind; uint64_t object; struct eesp_receiver *receiver; struct eesp_sender *sender; };
struct eesp_kdf { uint32_t kind; uint64_t object; };
struct eesp_keyset { uint32_t kind; uint64_t object; };

/* These two also have the view for direct.c. */
struct kdf { struct eesp_kdf handle; struct eesp_kdf_view view; };
struct keyset { struct eesp_keyset handle; struct eesp_keyset_view view; };
#define VIEW(type, h) (&((struct type *)(uintptr_t)(h))->view)

/* The calling thread's worker (0: none yet), and whether it is in a call: then a call from
 * a signal handler is refused. */
static __thread struct own {
	uint64_t worker;
	int busy;
	struct eesp_worker_view view;
	struct times_reading reading;
	uint32_t flood, guess; /* see struct eesp_fast_path */
	char error[EESP_ERROR_TEXT];
} tls;

/* original points to a word that is 0 where the library cannot be used: in a second copy
 * (load.c), and in forked children. There a handler of pthread_atfork sets it. Where
 * handlers are not called (_Fork, clone) the kernel does: the page, like those of keys, is
 * empty in children. */
static volatile int here = 1, nowhere;
static volatile int *original = &here;
static pthread_key_t thread_key;
static int have_key;

static void in_child(void) { *original = 0; }

static void make_original(void)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	void *p = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED || madvise(p, page, MADV_WIPEONFORK) != 0)
		return; /* there will be no memory for keys either */
	*(int *)p = 1;
	original = p;
}

static void thread_ends(void *thread)
{
	uint64_t worker = tls.worker;
	tls.worker = 0; /* a later destructor of this thread may call the library: it gets a new one */
	if (*original)
		eespGoThreadDetach(worker);
}

__attribute__((constructor)) static void loaded(void)
{
	make_original();
	pthread_atfork(NULL, NULL, in_child);
	have_key = pthread_key_create(&thread_key, thread_ends) == 0;
	if (refused_copy() != NULL)
		original = &nowhere;
}

static eesp_status fail(eesp_status st, const char *text)
{
	size_t n = strnlen(text, sizeof tls.error - 1);
	memcpy(tls.error, text, n);
	tls.error[n] = 0;
	return st;
}

static eesp_status argument(const char *text) { return fail(EESP_ERR_ARGUMENT, text); }

/* Whether Go cannot be called: in forked children it does not run, and it cannot be called
 * from a signal handler that interrupted it. */
static inline int unusable(void) { return UNLIKELY(!*original || tls.busy); }

static eesp_status why_unusable(void)
{
	if (refused_copy() != NULL)
		return fail(EESP_ERR_UNSUPPORTED, refused_copy());
	if (!*original)
		return fail(EESP_ERR_FORKED, eesp_strerror(EESP_ERR_FORKED));
	return fail(EESP_ERR_UNSUPPORTED, "called from a signal handler during a burst");
}

/* Chooses the backend at the first call. Go's copy of the environment is from load time,
 * so secure_getenv is used here, which also ignores it in set-user-ID programs. */
static eesp_status ready(void)
{
	if (unusable())
		return why_unusable();
	return (eesp_status)eespGoReady(secure_getenv("EESP_BACKEND"), tls.error);
}

/* Whether there may be a fast path: EESP_DIRECT=0 turns it off. */
int may_be_direct(void)
{
	const char *v = secure_getenv("EESP_DIRECT");
	return v == NULL || strcmp(v, "0") != 0;
}

static eesp_status attach(void)
{
	eesp_status st = ready();
	if (st != EESP_OK)
		return st;
	if (!have_key)
		return fail(EESP_ERR_MEMORY, "no thread-specific key left");
	uint64_t worker = 0;
	st = (eesp_status)eespGoThreadAttach(&worker, &tls.view, tls.error);
	if (st == EESP_OK && pthread_setspecific(thread_key, &tls) != 0) {
		eespGoThreadDetach(worker);
		st = fail(EESP_ERR_MEMORY, "thread-specific data");
	}
	if (st == EESP_OK)
		tls.worker = worker;
	return st;
}

static inline eesp_status worker(void)
{
	if (unusable())
		return why_unusable();
	return LIKELY(tls.worker != 0) ? EESP_OK : attach();
}

/* The address of tls. It costs a call each time that the compiler wants it, so bursts ask once. */
static inline struct own *own(void)
{
	struct own *t = &tls;
	__asm__("" : "+r"(t));
	return t;
}

static int all_zero(const void *p, size_t n)
{
	const unsigned char *b = p;
	while (n > 0 && b[n - 1] == 0)
		n--;
	return n == 0;
}

/* Copies a caller's structure, which may be of another version. Fields that it lacks become
 * zero; fields that this library does not know must be zero. */
static eesp_status copied(void *to, size_t size, size_t least, const void *from)
{
	uint32_t n;
	memset(to, 0, size);
	if (from == NULL)
		return EESP_OK;
	memcpy(&n, from, sizeof n);
	if (n < least)
		return EESP_ERR_ARGUMENT;
	if (n > size) {
		if (n > 4096 || !all_zero((const char *)from + size, n - size))
			return EESP_ERR_UNSUPPORTED;
		n = (uint32_t)size;
	}
	memcpy(to, from, n);
	return EESP_OK;
}

static eesp_status versioned(void *to, size_t size, size_t least, const void *from)
{
	eesp_status st = copied(to, size, least, from);
	if (st == EESP_ERR_ARGUMENT)
		return argument("struct_size is too small: use the _INIT macro");
	if (st == EESP_ERR_UNSUPPORTED)
		return fail(st, "the structure has fields that this library does not know");
	return st;
}

#define CHECK(h, k, what)                                                      \
	do {                                                                   \
		if ((h) == NULL || (h)->kind != (k))                           \
			return argument(what ": NULL or not a valid handle");  \
	} while (0)

/* The handle of a new object. NULL: there is no memory for it, and the object was freed. */
static void *handle(uint32_t kind, uint64_t object, void (*free_object)(uint64_t))
{
	/* All kinds begin with kind and object. */
	union { struct eesp_group g; struct eesp_sender o; struct eesp_proxy p; struct kdf k; struct keyset s; } *any =
		calloc(1, sizeof *any);
	if (any == NULL) {
		free_object(object);
		fail(EESP_ERR_MEMORY, "out of memory");
		return NULL;
	}
	any->g.kind = kind;
	any->g.object = object;
	return any;
}

/* Frees the memory of a sender or receiver with its last holder: itself, or a proxy. */
static void let_go(uint32_t *proxies, void *h)
{
	if (__atomic_fetch_sub(proxies, 1, __ATOMIC_ACQ_REL) == 0)
		free(h);
}

/* ---- Status and library ---- */

EESP_API const char *eesp_strerror(int status)
{
	static const char *const text[EESP_STATUS_COUNT] = {
		/* statuses: begin */
		"success",
		"invalid argument",
		"authentication failed: wrong ICV",
		"replayed or too old packet",
		"no key for this packet",
		"packet too short",
		"header: unsupported Version",
		"header: unsupported V",
		"header: Reserved bits are not zero",
		"header: wrong length field",
		"header: offset out of range",
		"header: bad option",
		"not enough headroom, tailroom or destination space",
		"packet too long",
		"source and destination overlap",
		"counter space of this epoch is exhausted",
		"wall clock stepped back or too slow for this rate",
		"counter state file cannot be used",
		"reflected packet: own sending ID",
		"packet is not of this data key's context",
		"called in a forked child process",
		"self-test failed",
		"backend unknown or not supported by this CPU",
		"memory cannot be allocated or locked",
		"invalid root key",
		"exists already",
		"not found",
		"not supported",
		"internal error",
		"segments of a chained packet not usable",
		"epoch too old",
		"Session ID is not one of this SA's",
		"sequence number 0",
		"authentic packet with malformed Payload Info Header or padding",
		"no replay window left for this context",
		"outer IP or UDP header not as expected",
		"authentic dummy packet, discarded",
		"domain drops packets: too many were not authentic",
		"packet too old for the clock",
		"ahead of the clock",
		"no space left for packets of that time",
		"fenced: another machine has these IDs",
		"out of touch for too long to seal",
		"no agent, or the agent refuses",
		"timed out",
		"new Sub SA, while many such packets are forged",
		/* statuses: end */
	};
	return status <= 0 && status > -EESP_STATUS_COUNT ? text[-status] : "unknown status";
}

EESP_API const char *eesp_last_error(void) { return tls.error; }

EESP_API uint32_t eesp_version(void) { return EESP_VERSION; }

#define STR_(x) #x
#define STR(x) STR_(x)
EESP_API const char *eesp_version_string(void)
{
	return STR(EESP_VERSION_MAJOR) "." STR(EESP_VERSION_MINOR) "." STR(EESP_VERSION_PATCH);
}

EESP_API const char *eesp_backend_name(void) { return ready() == EESP_OK ? eespGoBackendName() : NULL; }

EESP_API const char *eesp_backend_at(size_t i) { return unusable() ? NULL : eespGoBackendAt(i); }

EESP_API int eesp_backend_supported(const char *name)
{
	return name != NULL && !unusable() && eespGoBackendSupported((char *)name);
}

EESP_API eesp_status eesp_backend_select(const char *name)
{
	if (unusable())
		return why_unusable();
	return (eesp_status)eespGoBackendSelect((char *)name, tls.error);
}

EESP_API eesp_status eesp_self_test(void)
{
	if (unusable())
		return why_unusable();
	return (eesp_status)eespGoSelfTest(tls.error);
}

EESP_API eesp_status eesp_thread_init(void) { return worker(); }

EESP_API void eesp_thread_keep_warm(void)
{
	if (worker() != EESP_OK)
		return;
	tls.busy = 1;
	eespGoKeepWarm(tls.worker);
	tls.busy = 0;
}

/* What sets up runs seldom: it is small rather than fast. */
#pragma GCC push_options
#pragma GCC optimize("Os")

/* ---- Groups ---- */

EESP_API eesp_status eesp_group_new(const eesp_group_config *config, eesp_group **group)
{
	eesp_group_config c;
	uint64_t object = 0;
	eesp_status st = versioned(&c, sizeof c, offsetof(eesp_group_config, draft), config);
	if (st != EESP_OK)
		return st;
	if (group == NULL)
		return argument("group: NULL");
	if (!all_zero(c.reserved, sizeof c.reserved) || !all_zero(c.reserved2, sizeof c.reserved2) || c.reserved3 != 0)
		return argument("eesp_group_config.reserved is not zero");
	if (c.struct_size <= offsetof(eesp_group_config, draft) && c.profile == EESP_PROFILE_EESP)
		c.draft = EESP_DRAFT_02; /* the only draft when the program was built */
	if (c.profile > EESP_PROFILE_EESP)
		return fail(EESP_ERR_UNSUPPORTED, "eesp_group_config.profile: unknown");
	if ((c.flags & ~(uint32_t)(EESP_GROUP_NO_SEQUENCE | EESP_GROUP_IV | EESP_GROUP_OPTIMIZED | EESP_GROUP_ALIGN8 |
				      EESP_GROUP_TIME | EESP_GROUP_NO_DIRECTION_BIT |
				     EESP_GROUP_TIME_LATE)) != 0)
		return argument("eesp_group_config.flags: unknown flag");
	if ((st = ready()) != EESP_OK)
		return st;
	st = (eesp_status)eespGoGroupNew(&c, &object, tls.error);
	if (st != EESP_OK)
		return st;
	eesp_group *g = handle(KIND_GROUP, object, eespGoGroupFree);
	if (g == NULL)
		return EESP_ERR_MEMORY;
	*group = g;
	return EESP_OK;
}

EESP_API void eesp_group_free(eesp_group *group)
{
	if (group == NULL || group->kind != KIND_GROUP || unusable())
		return;
	eespGoGroupFree(group->object);
	group->kind = 0;
	free(group);
}

EESP_API eesp_status eesp_group_set_root_key_der(eesp_group *group, int level, const uint8_t *der, size_t len)
{
	CHECK(group, KIND_GROUP, "group");
	if (der == NULL || len > 65536)
		return argument("der: NULL or too long");
	eesp_status st = ready();
	return st != EESP_OK ? st
			     : (eesp_status)eespGoGroupSetDER(group->object, level, (uint8_t *)der, len, tls.error);
}

EESP_API eesp_status eesp_group_set_root_key(eesp_group *group, int level, const uint8_t *id, size_t id_len,
					     const uint64_t index[3], const uint8_t value[3][EESP_ROOT_KEY_LEN])
{
	CHECK(group, KIND_GROUP, "group");
	if (id == NULL || index == NULL || value == NULL || id_len > 65536)
		return argument("id, index or value: NULL or too long");
	eesp_status st = ready();
	return st != EESP_OK ? st
			     : (eesp_status)eespGoGroupSetKey(group->object, level, (uint8_t *)id, id_len,
							      (uint64_t *)index, (uint8_t *)value, tls.error);
}

EESP_API eesp_status eesp_group_set_ring(eesp_group *group, int level, const uint8_t *id, size_t id_len,
					 const uint64_t generation[3], const uint8_t value[3][EESP_ROOT_KEY_LEN],
					 uint64_t floor)
{
	CHECK(group, KIND_GROUP, "group");
	if (id == NULL || generation == NULL || value == NULL || id_len > 65536)
		return argument("id, generation or value: NULL or too long");
	eesp_status st = ready();
	return st != EESP_OK
		       ? st
		       : (eesp_status)eespGoGroupSetRing(group->object, level, (uint8_t *)id, id_len,
							 (uint64_t *)generation, (uint8_t *)value, floor, tls.error);
}

EESP_API eesp_status eesp_group_wait(const eesp_group *group, uint32_t timeout_ms)
{
	CHECK(group, KIND_GROUP, "group");
	eesp_status st = ready();
	return st != EESP_OK ? st : (eesp_status)eespGoGroupWait(group->object, timeout_ms, 0, tls.error);
}

/* ---- Following ---- */

/* The thread that follows an agent; run is the number for eespGoFollowRun. It blocks all
 * signals except for those of faults. */
static void *follow(void *run)
{
	eespGoFollowRun((uint64_t)(uintptr_t)run);
	return NULL;
}

int start_follower(uint64_t run)
{
	pthread_t t;
	pthread_attr_t a;
	sigset_t every, mask;
	if (pthread_attr_init(&a) != 0)
		return -1;
	pthread_attr_setdetachstate(&a, PTHREAD_CREATE_DETACHED);
	sigfillset(&every);
	pthread_sigmask(SIG_SETMASK, &every, &mask);
	int failed = pthread_create(&t, &a, follow, (void *)(uintptr_t)run);
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	pthread_attr_destroy(&a);
	return failed;
}

EESP_API eesp_status eesp_group_follow(const char *name, const eesp_follow_config *config, eesp_group **group)
{
	eesp_follow_config c;
	uint64_t object = 0;
	eesp_status st = versioned(&c, sizeof c, sizeof c, config);
	if (st != EESP_OK)
		return st;
	if (name == NULL || group == NULL)
		return argument("name or group: NULL");
	if (!all_zero(c.reserved, sizeof c.reserved))
		return argument("eesp_follow_config.reserved is not zero");
	if ((c.flags & ~(uint32_t)(EESP_FOLLOW_WITHOUT_KEYS | EESP_FOLLOW_CLIENTS)) != 0)
		return argument("eesp_follow_config.flags: unknown flag");
	if ((st = ready()) != EESP_OK)
		return st;
	st = (eesp_status)eespGoGroupFollow((char *)name, &c, &object, tls.error);
	if (st != EESP_OK)
		return st;
	eesp_group *g = handle(KIND_GROUP, object, eespGoGroupFree);
	if (g == NULL)
		return EESP_ERR_MEMORY;
	*group = g;
	return EESP_OK;
}

EESP_API eesp_status eesp_follow_wait(const eesp_group *group, uint32_t timeout_ms)
{
	CHECK(group, KIND_GROUP, "group");
	eesp_status st = ready();
	return st != EESP_OK ? st : (eesp_status)eespGoGroupWait(group->object, timeout_ms, 1, tls.error);
}

EESP_API eesp_status eesp_group_follow_info(const eesp_group *group, eesp_follow_info *info)
{
	CHECK(group, KIND_GROUP, "group");
	if (info == NULL)
		return argument("info: NULL");
	eesp_status st = ready();
	return st != EESP_OK ? st : (eesp_status)eespGoGroupFollowInfo(group->object, info, tls.error);
}

EESP_API eesp_status eesp_follow_clients(const eesp_group *group, eesp_follow_client *clients, size_t *n)
{
	CHECK(group, KIND_GROUP, "group");
	if (n == NULL || (clients == NULL && *n != 0))
		return argument("clients or n: NULL");
	eesp_status st = ready();
	return st != EESP_OK ? st : (eesp_status)eespGoFollowClients(group->object, clients, n, tls.error);
}

EESP_API eesp_status eesp_group_generate_root_key(eesp_group *group, int level, const uint8_t *id, size_t id_len)
{
	CHECK(group, KIND_GROUP, "group");
	if (id == NULL || id_len > 65536)
		return argument("id: NULL or too long");
	eesp_status st = ready();
	return st != EESP_OK ? st
			     : (eesp_status)eespGoGroupGenerate(group->object, level, (uint8_t *)id, id_len, tls.error);
}

EESP_API eesp_status eesp_group_get_root_key_der(const eesp_group *group, int level, uint8_t *der, size_t *len)
{
	CHECK(group, KIND_GROUP, "group");
	if (len == NULL)
		return argument("len: NULL");
	eesp_status st = ready();
	return st != EESP_OK ? st : (eesp_status)eespGoGroupGetDER(group->object, level, der, len, tls.error);
}

EESP_API eesp_status eesp_group_rotate(eesp_group *group, int level, uint64_t index,
				       const uint8_t value[EESP_ROOT_KEY_LEN])
{
	CHECK(group, KIND_GROUP, "group");
	eesp_status st = ready();
	return st != EESP_OK ? st
			     : (eesp_status)eespGoGroupRotate(group->object, level, index, (uint8_t *)value, tls.error);
}

EESP_API eesp_status eesp_group_remove_root_key(eesp_group *group, int level)
{
	CHECK(group, KIND_GROUP, "group");
	eesp_status st = ready();
	return st != EESP_OK ? st : (eesp_status)eespGoGroupRemove(group->object, level, tls.error);
}

EESP_API eesp_status eesp_group_set_default_levels(eesp_group *group, unsigned levels)
{
	CHECK(group, KIND_GROUP, "group");
	eesp_status st = ready();
	return st != EESP_OK ? st : (eesp_status)eespGoGroupDefault(group->object, levels, tls.error);
}

EESP_API eesp_status eesp_group_get_root_key_info(const eesp_group *group, int level, eesp_root_key_info *info)
{
	CHECK(group, KIND_GROUP, "group");
	if (info == NULL)
		return argument("info: NULL");
	eesp_status st = ready();
	return st != EESP_OK ? st : (eesp_status)eespGoGroupInfo(group->object, level, info, tls.error);
}

EESP_API eesp_status eesp_group_set_key(eesp_group *group, unsigned slot, const uint8_t *key, size_t key_len)
{
	CHECK(group, KIND_GROUP, "group");
	if (key == NULL || key_len > 64)
		return argument("key: NULL or too long");
	eesp_status st = ready();
	return st != EESP_OK ? st
			     : (eesp_status)eespGoGroupSetSlot(group->object, slot, (uint8_t *)key, key_len, tls.error);
}

EESP_API eesp_status eesp_group_use_key(eesp_group *group, unsigned slot)
{
	CHECK(group, KIND_GROUP, "group");
	eesp_status st = ready();
	return st != EESP_OK ? st : (eesp_status)eespGoGroupUseSlot(group->object, slot, tls.error);
}

EESP_API eesp_status eesp_group_rotate_key(eesp_group *group, const uint8_t *key, size_t key_len, unsigned *slot)
{
	unsigned which = 0;
	CHECK(group, KIND_GROUP, "group");
	if (key_len > 64 || (key == NULL) != (key_len == 0))
		return argument("key: NULL goes with key_len 0; or too long");
	eesp_status st = ready();
	if (st == EESP_OK)
		st = (eesp_status)eespGoGroupRotateSlot(group->object, (uint8_t *)key, key_len, &which, tls.error);
	if (st == EESP_OK && slot != NULL)
		*slot = which;
	return st;
}

EESP_API eesp_status eesp_group_remove_key(eesp_group *group, unsigned slot)
{
	CHECK(group, KIND_GROUP, "group");
	eesp_status st = ready();
	return st != EESP_OK ? st : (eesp_status)eespGoGroupRemoveSlot(group->object, slot, tls.error);
}

EESP_API eesp_status eesp_group_set_epoch(eesp_group *group, uint16_t epoch)
{
	CHECK(group, KIND_GROUP, "group");
	eesp_status st = ready();
	return st != EESP_OK ? st : (eesp_status)eespGoGroupSetEpoch(group->object, epoch, tls.error);
}

EESP_API eesp_status eesp_group_reset_latch(eesp_group *group)
{
	CHECK(group, KIND_GROUP, "group");
	eesp_status st = ready();
	return st != EESP_OK ? st : (eesp_status)eespGoGroupResetLatch(group->object, tls.error);
}

EESP_API eesp_status eesp_group_domain_stats(const eesp_group *group, eesp_domain_stats *stats)
{
	CHECK(group, KIND_GROUP, "group");
	if (stats == NULL)
		return argument("stats: NULL");
	eesp_status st = ready();
	return st != EESP_OK ? st : (eesp_status)eespGoGroupDomainStats(group->object, stats, tls.error);
}

EESP_API eesp_status eesp_group_usage(const eesp_group *group, int level, unsigned generation, eesp_usage *usage)
{
	CHECK(group, KIND_GROUP, "group");
	if (usage == NULL)
		return argument("usage: NULL");
	eesp_status st = ready();
	return st != EESP_OK ? st : (eesp_status)eespGoGroupUsage(group->object, level, generation, usage, tls.error);
}

EESP_API eesp_status eesp_group_alloc_spi(eesp_group *group, uint32_t first, uint32_t *spi)
{
	CHECK(group, KIND_GROUP, "group");
	if (spi == NULL)
		return argument("spi: NULL");
	eesp_status st = ready();
	return st != EESP_OK ? st : (eesp_status)eespGoGroupAllocSPI(group->object, first, spi, tls.error);
}

/* ---- Data keys ---- */

static eesp_status check_context(const eesp_context *c)
{
	if (!all_zero(c->reserved, sizeof c->reserved))
		return argument("eesp_context.reserved is not zero");
	return EESP_OK;
}

EESP_API eesp_status eesp_derive_keys(const eesp_group *group, const eesp_context *contexts, size_t n, uint8_t *keys,
				      size_t keys_len)
{
	CHECK(group, KIND_GROUP, "group");
	if (n != 0 && (contexts == NULL || keys == NULL))
		return argument("contexts or keys: NULL");
	if (n > SIZE_MAX / 64)
		return argument("n: too large");
	for (size_t i = 0; i < n; i++)
		if (UNLIKELY(check_context(&contexts[i]) != EESP_OK))
			return EESP_ERR_ARGUMENT;
	eesp_status st = worker();
	if (st != EESP_OK || n == 0)
		return st;
	tls.busy = 1;
	st = (eesp_status)eespGoDerive(tls.worker, group->object, (eesp_context *)contexts, n, keys, keys_len,
				       tls.error);
	tls.busy = 0;
	return st;
}

EESP_API eesp_status eesp_data_key_export(const eesp_group *group, const eesp_context *context, int with_options,
					  eesp_data_key *key)
{
	CHECK(group, KIND_GROUP, "group");
	if (context == NULL || key == NULL)
		return argument("context or key: NULL");
	eesp_status st = check_context(context);
	if (st == EESP_OK)
		st = worker();
	if (st != EESP_OK)
		return st;
	tls.busy = 1;
	st = (eesp_status)eespGoExport(tls.worker, group->object, (eesp_context *)context, with_options != 0, key,
				       tls.error);
	tls.busy = 0;
	return st;
}

EESP_API void eesp_data_key_wipe(eesp_data_key *key)
{
	if (key != NULL)
		explicit_bzero(key, sizeof *key);
}

static eesp_status check_key(const eesp_data_key *key)
{
	if (key == NULL)
		return argument("key: NULL");
	return EESP_OK;
}

/* ---- Senders ---- */

static eesp_status sender_config(eesp_sender_config *c, const eesp_sender_config *config)
{
	eesp_status st = versioned(c, sizeof *c, sizeof *c, config);
	if (st != EESP_OK)
		return st;
	if (c->reserved1 != 0 || c->reserved2 != 0 || c->reserved3 != 0 || !all_zero(c->reserved, sizeof c->reserved))
		return argument("eesp_sender_config: a reserved field is not zero");
	if (c->extra_len > 65536 || (c->extra == NULL) != (c->extra_len == 0))
		return argument("eesp_sender_config.extra: NULL goes with extra_len 0; or too long");
	if ((c->flags & ~(uint32_t)(EESP_SENDER_OPTIONS | EESP_SENDER_FIXED_EPOCH | EESP_SENDER_TIME |
				      EESP_SENDER_TIME_LATE | EESP_SENDER_NO_VC | EESP_SENDER_OFFSET_FROM_IV)) != 0)
		return argument("eesp_sender_config.flags: unknown flag");
	return ready();
}

static eesp_status new_sender(uint64_t object, eesp_sender **sender)
{
	eesp_sender *s = handle(KIND_SENDER, object, eespGoSenderFree);
	if (s == NULL)
		return EESP_ERR_MEMORY;
	if (may_be_direct())
		eespGoSenderPlan(object, &s->plan);
	*sender = s;
	return EESP_OK;
}

EESP_API eesp_status eesp_sender_new(eesp_group *group, const eesp_sender_config *config, eesp_sender **sender)
{
	eesp_sender_config c;
	uint64_t object = 0;
	CHECK(group, KIND_GROUP, "group");
	if (config == NULL || sender == NULL)
		return argument("config or sender: NULL");
	eesp_status st = sender_config(&c, config);
	if (st == EESP_OK)
		st = (eesp_status)eespGoSenderNew(group->object, &c, &object, tls.error);
	return st != EESP_OK ? st : new_sender(object, sender);
}

EESP_API eesp_status eesp_sender_new_with_key(const eesp_data_key *key, const eesp_sender_config *config,
					      eesp_sender **sender)
{
	eesp_sender_config c;
	uint64_t object = 0;
	eesp_status st = check_key(key);
	if (st != EESP_OK)
		return st;
	if (sender == NULL)
		return argument("sender: NULL");
	st = sender_config(&c, config);
	if (st == EESP_OK)
		st = (eesp_status)eespGoSenderNewKey((eesp_data_key *)key, &c, &object, tls.error);
	return st != EESP_OK ? st : new_sender(object, sender);
}

EESP_API eesp_status eesp_sender_new_to_client(const eesp_group *group, uint64_t down, eesp_sender **sender)
{
	uint64_t object = 0;
	CHECK(group, KIND_GROUP, "group");
	if (sender == NULL)
		return argument("sender: NULL");
	eesp_status st = ready();
	if (st == EESP_OK)
		st = (eesp_status)eespGoSenderNewToClient(group->object, down, &object, tls.error);
	return st != EESP_OK ? st : new_sender(object, sender);
}

EESP_API void eesp_sender_free(eesp_sender *sender)
{
	if (sender == NULL || sender->kind != KIND_SENDER || unusable())
		return;
	eespGoSenderFree(sender->object);
	sender->kind = 0;
	let_go(&sender->proxies, sender);
}

EESP_API eesp_status eesp_sender_set_id(eesp_sender *sender, uint64_t id)
{
	CHECK(sender, KIND_SENDER, "sender");
	eesp_status st = ready();
	return st != EESP_OK ? st : (eesp_status)eespGoSenderSetID(sender->object, id, tls.error);
}

EESP_API uint64_t eesp_sender_id(const eesp_sender *sender)
{
	if (sender == NULL || sender->kind != KIND_SENDER || unusable())
		return 0;
	return eespGoSenderID(sender->object);
}

EESP_API uint32_t eesp_sender_header_len(const eesp_sender *sender)
{
	if (sender == NULL || sender->kind != KIND_SENDER || worker() != EESP_OK)
		return 0;
	tls.busy = 1;
	uint32_t len = eespGoSenderHeaderLen(tls.worker, sender->object);
	tls.busy = 0;
	return len;
}

EESP_API uint64_t eesp_sender_next_tsc(const eesp_sender *sender)
{
	if (sender == NULL || sender->kind != KIND_SENDER || unusable())
		return 0;
	return eespGoSenderNext(sender->object);
}

EESP_API eesp_status eesp_sender_stats(const eesp_sender *sender, eesp_stats *stats)
{
	CHECK(sender, KIND_SENDER, "sender");
	if (stats == NULL)
		return argument("stats: NULL");
	eesp_status st = ready();
	return st != EESP_OK ? st : (eesp_status)eespGoSenderStats(sender->object, stats, tls.error);
}

/* ---- Receivers ---- */

static eesp_status receiver_config(eesp_receiver_config *c, const eesp_receiver_config *config)
{
	eesp_status st = versioned(c, sizeof *c, offsetof(eesp_receiver_config, heir_of), config);
	if (st != EESP_OK)
		return st;
	if (!all_zero(c->reserved1, sizeof c->reserved1) || !all_zero(c->reserved, sizeof c->reserved))
		return argument("eesp_receiver_config: a reserved field is not zero");
	if (c->heir_of != NULL && c->heir_of->kind != KIND_RECEIVER)
		return argument("eesp_receiver_config.heir_of: not a valid handle");
	if ((c->flags & ~(uint32_t)(EESP_RECEIVER_TRY_PREVIOUS | EESP_RECEIVER_CLOCK_TRUSTED)) != 0)
		return argument("eesp_receiver_config.flags: unknown flag");
	if (c->own_id_count != 0 && (c->own_ids == NULL || c->own_id_count > 1u << 20))
		return argument("eesp_receiver_config.own_ids: NULL or too many");
	return ready();
}

static uint64_t heir_of(const eesp_receiver_config *c) { return c->heir_of != NULL ? c->heir_of->object : 0; }

static eesp_status new_receiver(uint64_t object, eesp_receiver **receiver)
{
	eesp_receiver *r = handle(KIND_RECEIVER, object, eespGoReceiverFree);
	if (r == NULL)
		return EESP_ERR_MEMORY;
	if (may_be_direct())
		eespGoReceiverPlan(object, &r->plan);
	*receiver = r;
	return EESP_OK;
}

EESP_API eesp_status eesp_receiver_new(eesp_group *const *groups, size_t group_count,
				       const eesp_receiver_config *config, eesp_receiver **receiver)
{
	eesp_receiver_config c;
	uint64_t objects[EESP_MAX_GROUPS], object = 0;
	if (groups == NULL || receiver == NULL)
		return argument("groups or receiver: NULL");
	if (group_count == 0 || group_count > EESP_MAX_GROUPS)
		return argument("group_count: not 1 to EESP_MAX_GROUPS");
	for (size_t i = 0; i < group_count; i++) {
		CHECK(groups[i], KIND_GROUP, "groups");
		objects[i] = groups[i]->object;
	}
	eesp_status st = receiver_config(&c, config);
	if (st == EESP_OK)
		st = (eesp_status)eespGoReceiverNew(objects, group_count, &c, heir_of(&c), &object, tls.error);
	return st != EESP_OK ? st : new_receiver(object, receiver);
}

EESP_API eesp_status eesp_receiver_new_with_key(const eesp_data_key *key, const eesp_receiver_config *config,
						eesp_receiver **receiver)
{
	eesp_receiver_config c;
	uint64_t object = 0;
	eesp_status st = check_key(key);
	if (st != EESP_OK)
		return st;
	if (receiver == NULL)
		return argument("receiver: NULL");
	st = receiver_config(&c, config);
	if (st == EESP_OK)
		st = (eesp_status)eespGoReceiverNewKey((eesp_data_key *)key, &c, heir_of(&c), &object, tls.error);
	return st != EESP_OK ? st : new_receiver(object, receiver);
}

EESP_API void eesp_receiver_free(eesp_receiver *receiver)
{
	if (receiver == NULL || receiver->kind != KIND_RECEIVER || unusable())
		return;
	eespGoReceiverFree(receiver->object);
	receiver->kind = 0;
	let_go(&receiver->proxies, receiver);
}

EESP_API eesp_status eesp_receiver_set_own_ids(eesp_receiver *receiver, const uint64_t *ids, size_t n)
{
	CHECK(receiver, KIND_RECEIVER, "receiver");
	if (n != 0 && (ids == NULL || n > 1u << 20))
		return argument("ids: NULL or too many");
	eesp_status st = ready();
	return st != EESP_OK ? st
			     : (eesp_status)eespGoReceiverSetOwnIDs(receiver->object, (uint64_t *)ids, n, tls.error);
}

EESP_API eesp_status eesp_receiver_stats(const eesp_receiver *receiver, eesp_stats *stats)
{
	CHECK(receiver, KIND_RECEIVER, "receiver");
	if (stats == NULL)
		return argument("stats: NULL");
	eesp_status st = ready();
	return st != EESP_OK ? st : (eesp_status)eespGoReceiverStats(receiver->object, stats, tls.error);
}

EESP_API eesp_status eesp_receiver_replay_stats(const eesp_receiver *receiver, eesp_replay_stats *stats)
{
	CHECK(receiver, KIND_RECEIVER, "receiver");
	if (stats == NULL)
		return argument("stats: NULL");
	eesp_status st = ready();
	return st != EESP_OK ? st : (eesp_status)eespGoReceiverReplayStats(receiver->object, stats, tls.error);
}

/* ---- Proxies ---- */

EESP_API eesp_status eesp_proxy_new(eesp_receiver *receiver, eesp_sender *sender, eesp_proxy **proxy)
{
	uint64_t object = 0;
	CHECK(receiver, KIND_RECEIVER, "receiver");
	CHECK(sender, KIND_SENDER, "sender");
	if (proxy == NULL)
		return argument("proxy: NULL");
	eesp_status st = ready();
	if (st == EESP_OK)
		st = (eesp_status)eespGoProxyNew(receiver->object, sender->object, &object, tls.error);
	if (st != EESP_OK)
		return st;
	eesp_proxy *p = handle(KIND_PROXY, object, eespGoProxyFree);
	if (p == NULL)
		return EESP_ERR_MEMORY;
	p->receiver = receiver;
	p->sender = sender;
	__atomic_fetch_add(&receiver->proxies, 1, __ATOMIC_RELAXED);
	__atomic_fetch_add(&sender->proxies, 1, __ATOMIC_RELAXED);
	*proxy = p;
	return EESP_OK;
}

EESP_API void eesp_proxy_free(eesp_proxy *proxy)
{
	if (proxy == NULL || proxy->kind != KIND_PROXY || unusable())
		return;
	eespGoProxyFree(proxy->object);
	proxy->kind = 0;
	let_go(&proxy->receiver->proxies, proxy->receiver);
	let_go(&proxy->sender->proxies, proxy->sender);
	free(proxy);
}

#pragma GCC pop_options

/* ---- Bursts ---- */

static size_t refuse(eesp_pkt *pkts, size_t n, eesp_status st)
{
	for (size_t i = 0; i < n; i++) {
		pkts[i].status = st;
		pkts[i].out = NULL;
		pkts[i].out_len = 0;
		pkts[i].id = pkts[i].tsc = 0;
	}
	return 0;
}

/* More packets or jobs than fit in memory. */
#define MOST (SIZE_MAX / 256)

/* The frame of a burst: checks, then call. */
#define BURST(object, expected, call)                                          \
	do {                                                                   \
		if (UNLIKELY((object) == NULL || pkts == NULL || n == 0 || n > MOST)) \
			return 0;                                              \
		if (UNLIKELY((object)->kind != (expected)))                    \
			return refuse(pkts, n, EESP_ERR_ARGUMENT);             \
		struct own *const own_ = own();                                \
		if (UNLIKELY(!*original || own_->busy || own_->worker == 0)) { \
			eesp_status st_ = worker();                            \
			if (UNLIKELY(st_ != EESP_OK))                          \
				return refuse(pkts, n, st_);                   \
		}                                                              \
		size_t good_;                                                  \
		own_->busy = 1;                                                \
		good_ = call; /* kernels clear registers, and no key is read behind the last one */ \
		own_->busy = 0;                                                \
		return good_;                                                  \
	} while (0)

#define FAST_PATH(x)                                                                                        \
	(&(struct eesp_fast_path){ &own_->view, own_->worker, (x)->object, (void *const *)&(x)->plan,       \
				   &(uint64_t){ 0 }, &own_->reading, &own_->flood, &own_->guess, NULL })

EESP_API size_t eesp_seal_burst(eesp_sender *sender, eesp_pkt *pkts, size_t n)
{
	BURST(sender, KIND_SENDER, direct_seal(FAST_PATH(sender), pkts, n));
}

EESP_API size_t eesp_open_burst(eesp_receiver *receiver, eesp_pkt *pkts, size_t n)
{
	BURST(receiver, KIND_RECEIVER, direct_open(FAST_PATH(receiver), pkts, n));
}

/* Returns a copy of udp in this version, or NULL after refusing all packets. Bursts have no
 * error text. */
static const eesp_udp *udp_config(eesp_udp *u, const eesp_udp *udp, eesp_pkt *pkts, size_t n)
{
	const uint32_t known = EESP_UDP_ECN | EESP_UDP_DSCP | EESP_UDP_DSCP_BACK | EESP_UDP_CHECKSUM6;
	if (udp != NULL && copied(u, sizeof *u, sizeof *u, udp) == EESP_OK && u->reserved1 == 0 &&
	    (u->flags & ~known) == 0 && all_zero(u->reserved, sizeof u->reserved) && u->mode <= EESP_UDP_TRANSPORT)
		return u;
	refuse(pkts, n, EESP_ERR_ARGUMENT);
	return NULL;
}

static size_t udp_seal(const struct eesp_fast_path *fp, const eesp_udp *udp, eesp_pkt *pkts, size_t n)
{
	eesp_udp u;
	if (!udp_config(&u, udp, pkts, n))
		return 0;
	size_t good = direct_udp_seal(fp, &u, pkts, n);
	if (LIKELY(good != SIZE_MAX))
		return good;
	return eespGoUDPSealBurst(fp->worker, fp->object, &u, pkts, n);
}

static size_t udp_open(const struct eesp_fast_path *fp, const eesp_udp *udp, eesp_pkt *pkts, size_t n)
{
	eesp_udp u;
	if (!udp_config(&u, udp, pkts, n))
		return 0;
	size_t good = direct_udp_open(fp, &u, pkts, n);
	if (LIKELY(good != SIZE_MAX))
		return good;
	return eespGoUDPOpenBurst(fp->worker, fp->object, &u, pkts, n);
}

EESP_API size_t eesp_udp_seal_burst(eesp_sender *sender, const eesp_udp *udp, eesp_pkt *pkts, size_t n)
{
	BURST(sender, KIND_SENDER, udp_seal(FAST_PATH(sender), udp, pkts, n));
}

EESP_API size_t eesp_udp_open_burst(eesp_receiver *receiver, const eesp_udp *udp, eesp_pkt *pkts, size_t n)
{
	BURST(receiver, KIND_RECEIVER, udp_open(FAST_PATH(receiver), udp, pkts, n));
}

static size_t proxied(eesp_proxy *proxy, eesp_pkt *pkts, size_t n)
{
	/* freed before the proxy */
	if (UNLIKELY(proxy->receiver->kind != KIND_RECEIVER || proxy->sender->kind != KIND_SENDER))
		return refuse(pkts, n, EESP_ERR_ARGUMENT);
	struct own *const own_ = own();
	size_t good = direct_proxy(FAST_PATH(proxy->receiver), FAST_PATH(proxy->sender), pkts, n);
	if (LIKELY(good != SIZE_MAX))
		return good;
	return eespGoProxyBurst(tls.worker, proxy->object, pkts, n);
}

EESP_API size_t eesp_proxy_burst(eesp_proxy *proxy, eesp_pkt *pkts, size_t n)
{
	BURST(proxy, KIND_PROXY, proxied(proxy, pkts, n));
}

/* ---- Kernels without packets ---- */

static eesp_status check_aead(uint32_t aead)
{
	return aead > EESP_AEAD_AES_256_GCM ? argument("aead: unknown") : EESP_OK;
}

EESP_API eesp_status eesp_kdf_new(const uint8_t key[32], eesp_kdf **kdf)
{
	uint64_t object = 0;
	struct eesp_kdf_view view;
	if (key == NULL || kdf == NULL)
		return argument("key or kdf: NULL");
	eesp_status st = ready();
	if (st == EESP_OK)
		st = (eesp_status)eespGoKDFNew((uint8_t *)key, &object, &view, tls.error);
	if (st != EESP_OK)
		return st;
	eesp_kdf *k = handle(KIND_KDF, object, eespGoKDFFree);
	if (k == NULL)
		return EESP_ERR_MEMORY;
	*VIEW(kdf, k) = view;
	*kdf = k;
	return EESP_OK;
}

EESP_API void eesp_kdf_free(eesp_kdf *kdf)
{
	if (kdf == NULL || kdf->kind != KIND_KDF || unusable())
		return;
	eespGoKDFFree(kdf->object);
	kdf->kind = 0;
	free(kdf);
}

EESP_API eesp_status eesp_kdf_derive(const eesp_kdf *kdf, uint32_t aead, const uint8_t *contexts, size_t n,
				     uint8_t *keys, size_t keys_len)
{
	CHECK(kdf, KIND_KDF, "kdf");
	if (n != 0 && (contexts == NULL || keys == NULL))
		return argument("contexts or keys: NULL");
	eesp_status st = check_aead(aead);
	if (st != EESP_OK)
		return st;
	if (n > SIZE_MAX / 64 || keys_len != n * (aead == EESP_AEAD_AES_256_GCM ? 32 : 16))
		return argument("keys_len: not n times the length of a key");
	st = worker();
	if (st != EESP_OK || n == 0)
		return st;
	tls.busy = 1;
	if (!direct_derive(&tls.view, VIEW(kdf, kdf), aead, contexts, n, keys))
		st = (eesp_status)eespGoKDFDerive(tls.worker, kdf->object, aead, (uint8_t *)contexts, n, keys, keys_len,
						  tls.error);
	tls.busy = 0;
	return st;
}

/* No job to open keeps an "ok" from an earlier call. Kernels write it; this is for when none is called. */
static __attribute__((noinline, cold)) unsigned none_ok(eesp_job *jobs, size_t n, int open)
{
	for (size_t i = 0; open && jobs != NULL && i < n; i++)
		jobs[i].ok = 0;
	return 0;
}

/* The beginning of bursts of jobs. */
static unsigned jobs_ready(const void *object, uint32_t kind, uint32_t expected, eesp_job *jobs, size_t n, int open)
{
	if (n > SIZE_MAX / 256) {
		argument("n: too large");
		return 0;
	}
	if (object == NULL || kind != expected || (n != 0 && jobs == NULL)) {
		argument("a handle or pointer: NULL or not valid");
		return none_ok(jobs, n, open);
	}
	return (worker() == EESP_OK && n != 0) || none_ok(jobs, n, open);
}

static size_t kdf_burst(const eesp_kdf *kdf, uint32_t aead, const uint8_t *contexts, eesp_job *jobs, size_t n, int seal)
{
	if (!jobs_ready(kdf, kdf != NULL ? kdf->kind : 0, KIND_KDF, jobs, n, !seal))
		return 0;
	if (check_aead(aead) != EESP_OK)
		return none_ok(jobs, n, !seal);
	if (contexts == NULL) {
		argument("contexts: NULL");
		return none_ok(jobs, n, !seal);
	}
	size_t good;
	tls.busy = 1;
	if (!direct_rekey(&tls.view, VIEW(kdf, kdf), aead, contexts, jobs, n, seal, &good)) {
		none_ok(jobs, n, !seal);
		good = eespGoRekey(tls.worker, kdf->object, aead, (uint8_t *)contexts, jobs, n, seal, tls.error);
	}
	tls.busy = 0;
	return good;
}

EESP_API size_t eesp_kdf_seal(const eesp_kdf *kdf, uint32_t aead, const uint8_t *contexts, eesp_job *jobs, size_t n)
{
	return kdf_burst(kdf, aead, contexts, jobs, n, 1);
}

EESP_API size_t eesp_kdf_open(const eesp_kdf *kdf, uint32_t aead, const uint8_t *contexts, eesp_job *jobs, size_t n)
{
	return kdf_burst(kdf, aead, contexts, jobs, n, 0);
}

static size_t keyset_burst(const eesp_keyset *set, eesp_job *jobs, size_t n, int seal)
{
	if (!jobs_ready(set, set != NULL ? set->kind : 0, KIND_KEYSET, jobs, n, !seal))
		return 0;
	size_t good;
	tls.busy = 1;
	if (!direct_keyed(&tls.view, VIEW(keyset, set), jobs, n, seal, &good)) {
		none_ok(jobs, n, !seal);
		good = eespGoKeyed(tls.worker, set->object, jobs, n, seal, tls.error);
	}
	tls.busy = 0;
	return good;
}

EESP_API eesp_status eesp_keyset_new(uint32_t aead, const uint8_t *keys, size_t n, eesp_keyset **set)
{
	uint64_t object = 0;
	struct eesp_keyset_view view;
	if (keys == NULL || set == NULL)
		return argument("keys or set: NULL");
	if (n == 0 || n > EESP_MAX_KEYSET)
		return argument("n: not 1 to EESP_MAX_KEYSET");
	eesp_status st = check_aead(aead);
	if (st == EESP_OK)
		st = ready();
	if (st == EESP_OK)
		st = (eesp_status)eespGoKeysetNew(aead, (uint8_t *)keys, n, &object, &view, tls.error);
	if (st != EESP_OK)
		return st;
	eesp_keyset *k = handle(KIND_KEYSET, object, eespGoKeysetFree);
	if (k == NULL)
		return EESP_ERR_MEMORY;
	*VIEW(keyset, k) = view;
	*set = k;
	return EESP_OK;
}

EESP_API void eesp_keyset_free(eesp_keyset *set)
{
	if (set == NULL || set->kind != KIND_KEYSET || unusable())
		return;
	eespGoKeysetFree(set->object);
	set->kind = 0;
	free(set);
}

EESP_API size_t eesp_keyset_seal(const eesp_keyset *set, eesp_job *jobs, size_t n)
{
	return keyset_burst(set, jobs, n, 1);
}

EESP_API size_t eesp_keyset_open(const eesp_keyset *set, eesp_job *jobs, size_t n)
{
	return keyset_burst(set, jobs, n, 0);
}
