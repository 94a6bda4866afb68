/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Keys are only in locked memory, which core dumps and forked children do not get, and
 * nowhere once the objects are freed. The test masks the secrets that it looks for, and
 * before the search unmaps the pages in which they were not masked.
 */
#include "test.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/resource.h>

#define MASK 0x5a

enum { PART = 16, MAX_PARTS = 64 };

static struct { char name[24]; uint8_t octets[PART]; } wanted[MAX_PARTS];
static size_t parts;
static int quiet;
static const char *only; /* the secrets to look for; NULL: all */

/* Remembers a secret, masked, in parts of 16 octets. Each part is looked for. */
static void remember(const char *name, const uint8_t *secret, size_t n)
{
	for (size_t at = 0; at < n; at += PART) {
		CHECK(parts < MAX_PARTS);
		snprintf(wanted[parts].name, sizeof wanted[parts].name, "%s+%zu", name, at);
		for (size_t i = 0; i < PART; i++)
			wanted[parts].octets[i] = secret[at + i] ^ MASK;
		parts++;
	}
}

enum { PAGE = 4096, CHUNK = 1 << 20 };

static uint8_t begins[1 << 16]; /* whether a part begins with these two octets */

static int is_part(size_t k, const uint8_t *p)
{
	for (size_t i = 0; i < PART; i++)
		if ((p[i] ^ MASK) != wanted[k].octets[i])
			return 0;
	return only == NULL || strncmp(wanted[k].name, only, strlen(only)) == 0;
}

/* How many parts of secrets are in b; where is for the report. Most pages are zero, and no part is. */
static size_t search(const uint8_t *b, size_t n, const char *where)
{
	size_t found = 0;
	for (size_t at = 0; at + PART <= n; at++) {
		if (at % PAGE == 0 && at + PAGE <= n && b[at] == 0 && memcmp(b + at, b + at + 1, PAGE - 1) == 0)
			at += PAGE - PART + 1;
		if (at + PART > n || !begins[b[at] << 8 | b[at + 1]])
			continue;
		for (size_t k = 0; k < parts; k++) {
			if (!is_part(k, b + at))
				continue;
			found++;
			if (!quiet)
				printf("     %s at offset %#zx of %s", wanted[k].name, at, where);
		}
	}
	return found;
}

/* Counts copies of secrets in all readable memory; with allow_locked, not in areas that
 * are locked and not dumped. */
static size_t copies(int allow_locked)
{
	char line[512], region[512] = "";
	unsigned long from = 0, to = 0, a, b;
	size_t found = 0;
	struct guarded room = guarded(CHUNK + PART); /* in its own mapping, which the search skips */
	uint8_t *buffer = room.start;
	int mem = open("/proc/self/mem", O_RDONLY);
	FILE *f = fopen("/proc/self/smaps", "r");
	CHECK(mem >= 0 && f != NULL);
	memset(begins, 0, sizeof begins);
	for (size_t k = 0; k < parts; k++)
		begins[(wanted[k].octets[0] ^ MASK) << 8 | (wanted[k].octets[1] ^ MASK)] = 1;
	while (fgets(line, sizeof line, f)) {
		char perms[8];
		if (sscanf(line, "%lx-%lx %7s", &a, &b, perms) == 3 && strchr("r-", perms[0]) && strlen(perms) == 4) {
			from = a, to = b;
			strcpy(region, line);
		}
		if (strncmp(line, "VmFlags:", 8) != 0)
			continue;
		int readable = strstr(line, " rd") != NULL;
		int locked = strstr(line, " lo") != NULL;
		if (locked && !emulated())
			CHECK(strstr(line, " dd") && strstr(line, " wf"));
		if (!readable || (locked && allow_locked) || from == (unsigned long)(uintptr_t)buffer ||
		    strstr(region, "[v"))
			continue;
		for (unsigned long at = from; at < to; at += CHUNK) {
			size_t n = to - at < CHUNK + PART ? to - at : CHUNK + PART;
			ssize_t k = pread(mem, buffer, n, (off_t)at);
			if (k > 0)
				found += search(buffer, (size_t)k, region);
			memset(buffer, 0, n);
		}
	}
	fclose(f);
	close(mem);
	munmap(buffer, (size_t)(room.end - room.start));
	return found;
}

/* The search finds a copy. */
static void search_works(void)
{
	uint8_t *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(page != MAP_FAILED && getrandom(page + 100, PART, 0) == PART);
	remember("sample", page + 100, PART);
	quiet = 1;
	SAME(copies(0), 1);
	quiet = 0;
	munmap(page, 4096);
	SAME(copies(0), 0);
	parts = 0;
}

static struct {
	eesp_group *g[2];
	eesp_sender *s[4];
	eesp_receiver *r[4];
	eesp_kdf *kdf;
	eesp_keyset *set[2];
} live;

enum { JOBS = 32 };

/* The kernels without packets: whole and partial groups, short and long, in order of
 * length and not. */
static void use_jobs(uint32_t aead)
{
	static const uint32_t lengths[] = { 64, 700, 9000 };
	static uint8_t text[JOBS][9000 + EESP_ICV_LEN], aad[20], contexts[JOBS][EESP_KDF_CONTEXT_LEN];
	for (size_t i = 0; i < JOBS; i++)
		contexts[i][5] = (uint8_t)i;
	for (size_t x = 0; x < COUNT(lengths); x++)
		for (size_t n = 3; n <= JOBS; n += JOBS - 3)
			for (int uneven = 0; uneven < 2; uneven++) {
				eesp_job j[JOBS] = { 0 };
				for (size_t i = 0; i < n; i++)
					j[i] = (eesp_job){ .aad = aad, .aad_len = sizeof aad, .src = text[i],
							   .dst = text[i], .tag = text[i] + 9000,
							   .len = lengths[x] - (uneven ? (uint32_t)i : 0) };
				SAME(eesp_kdf_seal(live.kdf, aead, contexts[0], j, n), n);
				SAME(eesp_kdf_open(live.kdf, aead, contexts[0], j, n), n);
				for (size_t i = 0; i < n; i++)
					j[i].key = (uint32_t)i;
				SAME(eesp_keyset_seal(live.set[aead], j, n), n);
				SAME(eesp_keyset_open(live.set[aead], j, n), n);
			}
}

static void make_jobs(uint8_t *kdf_key, uint8_t *keys)
{
	static uint8_t contexts[JOBS][EESP_KDF_CONTEXT_LEN];
	for (size_t i = 0; i < JOBS; i++)
		contexts[i][5] = (uint8_t)i;
	CHECK(getrandom(kdf_key, 32, 0) == 32);
	remember("key of an eesp_kdf", kdf_key, 32);
	WORKS(eesp_kdf_new(kdf_key, &live.kdf));
	for (uint32_t aead = 0; aead < 2; aead++) {
		size_t len = aead ? 32 : 16;
		WORKS(eesp_kdf_derive(live.kdf, aead, contexts[0], JOBS, keys, JOBS * len));
		WORKS(eesp_keyset_new(aead, keys, JOBS, &live.set[aead]));
		for (size_t i = 0; i < JOBS; i += JOBS - 1)
			remember("derived by an eesp_kdf", keys + i * len, len);
	}
}

/* Packets that share a key, which is expanded for them. */
static void many_packets(eesp_sender *s, eesp_receiver *r, int only_seal)
{
	enum { MANY = 16 };
	static uint8_t room[MANY][EESP_MAX_SEALED_LEN(64)];
	eesp_pkt p[MANY];
	for (size_t i = 0; i < MANY; i++)
		p[i] = packet(room[i] + EESP_MAX_HEADER, 64, EESP_MAX_HEADER, EESP_ICV_LEN);
	SAME(eesp_seal_burst(s, p, MANY), MANY);
	if (only_seal)
		return;
	for (size_t i = 0; i < MANY; i++)
		p[i] = sealed(&p[i]);
	SAME(eesp_open_burst(r, p, MANY), MANY);
}

/* Makes objects with random keys, calls all functions that use keys, and remembers the
 * keys. Keys that are not masked are in one mapping, which is unmapped at the end. */
static void use_keys(void)
{
	struct plain {
		uint8_t value[3][EESP_ROOT_KEY_LEN], next[EESP_ROOT_KEY_LEN], der[256], again[256], derived[2 * 32];
		uint8_t kdf_key[32], keys[JOBS * 32];
		eesp_data_key key;
	} *p = mmap(NULL, sizeof *p, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(p != MAP_FAILED);
	for (int x = 0; x < 2; x++) {
		char name[24];
		const uint64_t index[3] = { 1, 2, 3 };
		eesp_group_config c = EESP_GROUP_CONFIG_INIT;
		c.aead = (uint32_t)x;
		CHECK(getrandom(p, sizeof p->value + sizeof p->next, 0) == sizeof p->value + sizeof p->next);
		for (int i = 0; i < 3; i++) {
			snprintf(name, sizeof name, "root key %d.%d", x, i);
			remember(name, p->value[i], EESP_ROOT_KEY_LEN);
		}
		remember("rotated in", p->next, EESP_ROOT_KEY_LEN);
		WORKS(eesp_group_new(&c, &live.g[x]));
		WORKS(eesp_group_set_root_key(live.g[x], EESP_LEVEL_ZONE, root_id, 32, index, RING(p->value)));
		size_t len = sizeof p->der, again = sizeof p->again;
		WORKS(eesp_group_get_root_key_der(live.g[x], EESP_LEVEL_ZONE, p->der, &len));
		WORKS(eesp_group_set_root_key_der(live.g[x], EESP_LEVEL_USER, p->der, len));
		WORKS(eesp_group_get_root_key_der(live.g[x], EESP_LEVEL_USER, p->again, &again));
		CHECK(len == again && memcmp(p->der, p->again, len) == 0);
		WORKS(eesp_group_remove_root_key(live.g[x], EESP_LEVEL_USER));
		WORKS(eesp_group_rotate(live.g[x], EESP_LEVEL_ZONE, 4, p->next));

		/* The keys that the packets below use, and one to hold. */
		live.s[x] = new_sender(live.g[x], EESP_V_ID, EESP_SENDER_OPTIONS);
		live.r[x] = new_receiver(live.g[x]);
		uint64_t tsc = eesp_sender_next_tsc(live.s[x]);
		eesp_context k[2] = { { .id = 1 }, { .id = 99, .epoch = 5, .v = EESP_V_ID } };
		uint8_t room[200];
		eesp_pkt q = packet(room + 128, 8, 128, 16);
		SAME(eesp_seal_burst(live.s[x], &q, 1), 1);
		k[0].id = q.id;
		k[0].epoch = (uint16_t)(tsc >> 48);
		size_t key_len = x ? 32 : 16;
		WORKS(eesp_derive_keys(live.g[x], k, 2, p->derived, 2 * key_len));
		remember("data key in use", p->derived, key_len);
		WORKS(eesp_data_key_export(live.g[x], &k[1], 1, &p->key));
		CHECK(memcmp(p->key.key, p->derived + key_len, key_len) == 0);
		remember("exported data key", p->key.key, key_len);
		eesp_sender_config sc = EESP_SENDER_CONFIG_INIT;
		sc.counter_mode = EESP_COUNTER_EXPLICIT;
		WORKS(eesp_sender_new_with_key(&p->key, &sc, &live.s[2 + x]));
		WORKS(eesp_receiver_new_with_key(&p->key, NULL, &live.r[2 + x]));
	}
	make_jobs(p->kdf_key, p->keys);
	CHECK(munmap(p, sizeof *p) == 0);
	for (uint32_t aead = 0; aead < 2; aead++)
		use_jobs(aead);
}

/* When a burst has ended, its data keys are gone, from locked memory too: if bursts of
 * several objects take turns, and if bursts of one object follow one another. */
static void after_bursts(void)
{
	only = "data key in use";
	for (int i = 0; i < 200; i++)
		for (int x = 0; x < 4; x++)
			SAME(one_packet(live.s[x], live.r[x]), EESP_OK);
	SAME(copies(0), 0);
	for (int x = 0; x < 2; x++)
		for (int sealing = 0; sealing < 2; sealing++)
			for (int many = 0; many < 2; many++) {
				for (int i = 0; i < 3; i++) {
					uint8_t room[EESP_MAX_SEALED_LEN(64)];
					eesp_pkt p = packet(room + EESP_MAX_HEADER, 64, EESP_MAX_HEADER, EESP_ICV_LEN);
					if (many)
						many_packets(live.s[x], live.r[x], sealing);
					else if (sealing)
						SAME(eesp_seal_burst(live.s[x], &p, 1), 1);
					else
						SAME(one_packet(live.s[x], live.r[x]), EESP_OK);
				}
				SAME(copies(0), 0);
			}
	only = NULL;
}

/* Payloads that were sealed and opened are only in the caller's buffers. */
static void use_text(void)
{
	struct plain {
		uint8_t room[EESP_MAX_SEALED_LEN(64)];
	} *t = mmap(NULL, sizeof *t, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(t != MAP_FAILED && getrandom(t->room, sizeof t->room, 0) == sizeof t->room);
	remember("text", t->room + EESP_MAX_HEADER, 64);
	for (int x = 3; x >= 0; x--)
		for (int i = 0; i < 3; i++) {
			eesp_pkt p = packet(t->room + EESP_MAX_HEADER, 64, EESP_MAX_HEADER, EESP_ICV_LEN);
			SAME(eesp_seal_burst(live.s[x], &p, 1), 1);
			p = sealed(&p);
			SAME(eesp_open_burst(live.r[x], &p, 1), 1);
		}
	CHECK(munmap(t, sizeof *t) == 0);
}

static void forget(void)
{
	for (int i = 0; i < 4; i++) {
		eesp_sender_free(live.s[i]);
		eesp_receiver_free(live.r[i]);
	}
	for (int x = 0; x < 2; x++) {
		eesp_group_free(live.g[x]);
		eesp_keyset_free(live.set[x]);
	}
	eesp_kdf_free(live.kdf);
}

static void while_in_use(void)
{
	use_keys();
	CHECK(proc_status("VmLck") > 0);
	SAME(copies(1), 0);
	CHECK(parts > 20);
	use_text();
}

static void looks(void) { SAME(copies(0), 0); }

/* A forked child has no keys. */
static void in_forked_child(void) { in_child(looks); }

static void after_free(void)
{
	forget();
	SAME(copies(0), 0);
}

/* If no memory can be locked, that is an error: keys never are in other memory. */
static void cannot_lock(void)
{
	const struct rlimit none = { 0, 0 };
	eesp_group *g = NULL;
	if (geteuid() == 0) /* root may lock what it wants */
		CHECK(setgid(65534) == 0 && setuid(65534) == 0);
	CHECK(setrlimit(RLIMIT_MEMLOCK, &none) == 0);
	eesp_status st = eesp_group_new(NULL, &g);
	if (st == EESP_OK)
		st = eesp_group_generate_root_key(g, EESP_LEVEL_ZONE, root_id, 16);
	SAME(st, EESP_ERR_MEMORY);
	CHECK(strstr(eesp_last_error(), "RLIMIT_MEMLOCK"));
	GIVES(EESP_ERR_MEMORY, eesp_thread_init());
	SAME(proc_status("VmLck"), 0);
}

static void lock_limit(void) { ends_well(start_self("cannot lock")); }

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "cannot lock") == 0) {
		cannot_lock();
		return 0;
	}
	TEST(search_works);
	TEST(while_in_use);
	TEST(after_bursts);
	if (emulated())
		printf("     not in_forked_child: the emulator's madvise wipes nothing on fork\n");
	else
		TEST(in_forked_child);
	TEST(after_free);
	TEST(lock_limit);
	return 0;
}
