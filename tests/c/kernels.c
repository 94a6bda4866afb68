/* SPDX-License-Identifier: BSD-3-Clause */
/* The kernels without packets: known answers, round trips, refusals, bounds. */
#include "test.h"

static const uint8_t kdf_key[] = "a key of 32 octets for the KDF..";
enum { MAX_JOBS = 100, LENGTH = 300 };

/* "derive/1" of testdata/vectors/stateless.json: its KDF input is a context. */
static void known_derivation(void)
{
	uint8_t key[32], context[16], want[16], got[16];
	eesp_kdf *k;
	unhex(key, "855400b93c6dc9c1de037fa4f39c5974f28af412ed92b1ec4168268c33391203");
	unhex(context, "0145000000000000efa994d700000080");
	unhex(want, "bcf0ee2ee8540c89c63a2963b637c3ed");
	context[0] = 0x77; /* set to 1 by the function */
	WORKS(eesp_kdf_new(key, &k));
	WORKS(eesp_kdf_derive(k, EESP_AEAD_AES_128_GCM, context, 1, got, 16));
	CHECK(memcmp(got, want, 16) == 0 && context[0] == 0x77);
	eesp_kdf_free(k);
}

/* Test cases 4 and 16 of the GCM specification. */
static void known_sealing(void)
{
	uint8_t keys[2][32], aad[20], text[60], got[60], tag[16], want[60], want_tag[16];
	unhex(keys[0], "feffe9928665731c6d6a8f9467308308");
	unhex(keys[1], "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308");
	unhex(aad, "feedfacedeadbeeffeedfacedeadbeefabaddad2");
	unhex(text, "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
		    "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39");
	static const char *const cipher[] = {
		"42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e"
		"21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091",
		"522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
		"8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662" };
	static const char *const tags[] = { "5bc94fbc3221a5db94fae95ae7121a47", "76fc6ece0f4e1768cddf8853bb2d551b" };
	for (uint32_t aead = 0; aead < 2; aead++) {
		eesp_keyset *s;
		WORKS(eesp_keyset_new(aead, keys[aead], 1, &s));
		eesp_job j = { .aad = aad, .aad_len = 20, .src = text, .dst = got, .tag = tag, .len = 60 };
		unhex(j.nonce, "cafebabefacedbaddecaf888");
		SAME(eesp_keyset_seal(s, &j, 1), 1);
		unhex(want, cipher[aead]);
		unhex(want_tag, tags[aead]);
		CHECK(memcmp(got, want, 60) == 0 && memcmp(tag, want_tag, 16) == 0);
		eesp_keyset_free(s);
	}
}

static uint8_t clear[MAX_JOBS][LENGTH], text[MAX_JOBS][LENGTH], tags[MAX_JOBS][16], contexts[MAX_JOBS][16];

static void jobs_of(eesp_job *j, size_t n, uint32_t keys, int in_place)
{
	for (size_t i = 0; i < n; i++) {
		fill(clear[i], i, LENGTH);
		fill(contexts[i], i / 3, 16);
		memcpy(text[i], clear[i], LENGTH);
		j[i] = (eesp_job){ .aad = clear[i], .aad_len = (uint32_t)(i % 40), .src = in_place ? text[i] : clear[i],
				   .dst = text[i], .tag = tags[i], .len = (uint32_t)(i * 37 % LENGTH),
				   .key = (uint32_t)i % keys };
		memcpy(j[i].nonce, &i, sizeof i);
	}
}

/* Seals with one function and opens with the other. Some jobs are damaged. */
static void round_trips(void)
{
	static const size_t sizes[] = { 0, 1, 31, 32, 33, 100 };
	static uint8_t keys[MAX_JOBS * 32];
	eesp_kdf *k;
	WORKS(eesp_kdf_new(kdf_key, &k));
	for (uint32_t aead = 0; aead < 2; aead++)
		for (size_t x = 0; x < COUNT(sizes); x++)
			for (int way = 0; way < 4; way++) {
				size_t n = sizes[x], len = aead ? 32 : 16;
				eesp_job j[MAX_JOBS];
				eesp_keyset *s = NULL;
				jobs_of(j, n, MAX_JOBS, way & 1);
				WORKS(eesp_kdf_derive(k, aead, contexts[0], n, keys, n * len));
				if (n)
					WORKS(eesp_keyset_new(aead, keys, n, &s));
				for (size_t i = 0; i < n; i++)
					j[i].key = way & 2 ? 0 : (uint32_t)i;
				SAME(n == 0    ? 0
				     : way & 2 ? eesp_kdf_seal(k, aead, contexts[0], j, n)
					       : eesp_keyset_seal(s, j, n), n);
				for (size_t i = 0; i < n; i++) {
					CHECK(j[i].len < 16 || memcmp(text[i], clear[i], j[i].len) != 0);
					CHECK(memcmp(text[i] + j[i].len, clear[i] + j[i].len, LENGTH - j[i].len) == 0);
					j[i].src = text[i];
					j[i].key = way & 2 ? (uint32_t)i : 0;
					if (i % 5 == 4)
						tags[i][i % 16] ^= 1;
				}
				SAME(n == 0    ? 0
				     : way & 2 ? eesp_keyset_open(s, j, n)
					       : eesp_kdf_open(k, aead, contexts[0], j, n), n - n / 5);
				for (size_t i = 0; i < n; i++) {
					SAME(j[i].ok, i % 5 != 4);
					CHECK(j[i].ok ? memcmp(text[i], clear[i], j[i].len) == 0
						      : all_are(text[i], j[i].len, 0));
					CHECK(memcmp(text[i] + j[i].len, clear[i] + j[i].len, LENGTH - j[i].len) == 0);
				}
				eesp_keyset_free(s);
			}
	eesp_kdf_free(k);
}

/* Single jobs take other kernels than several. A derived key gives the same result as its
 * context; each opens what the other sealed, and no forged job. */
static void single_jobs(void)
{
	static uint8_t in[2100], out[2][2100], back[2100], tag[2][16];
	uint8_t context[16] = { 0 }, key[32];
	eesp_kdf *k;
	WORKS(eesp_kdf_new(kdf_key, &k));
	fill(in, 3, sizeof in);
	for (uint32_t aead = 0; aead < 2; aead++)
		for (uint32_t len = 0; len < sizeof in; len += len < 600 ? 1 : 7) {
			eesp_keyset *s;
			fill(context + 1, len, 15);
			WORKS(eesp_kdf_derive(k, aead, context, 1, key, aead ? 32 : 16));
			WORKS(eesp_keyset_new(aead, key, 1, &s));
			for (uint32_t aad = len % 3; aad <= 40; aad += 8 + len % 5) {
				eesp_job j = { .aad = in + 7, .aad_len = aad, .src = in, .dst = out[0], .tag = tag[0],
					       .len = len };
				memcpy(j.nonce, &len, sizeof len);
				SAME(eesp_kdf_seal(k, aead, context, &j, 1), 1);
				j.dst = out[1];
				j.tag = tag[1];
				SAME(eesp_keyset_seal(s, &j, 1), 1);
				CHECK(memcmp(out[0], out[1], len) == 0 && memcmp(tag[0], tag[1], 16) == 0);
				j.src = out[0];
				j.dst = back;
				SAME(eesp_kdf_open(k, aead, context, &j, 1), 1);
				CHECK(j.ok == 1 && memcmp(back, in, len) == 0);
				tag[1][len % 16] ^= 1;
				SAME(eesp_kdf_open(k, aead, context, &j, 1), 0);
				CHECK(j.ok == 0 && all_are(back, len, 0));
			}
			eesp_keyset_free(s);
		}
	eesp_kdf_free(k);
}

/* All buffers lie next to pages without access. */
static void guard_pages(void)
{
	struct guarded m = guarded(4096), t = guarded(16), d = guarded(sizeof(eesp_job));
	eesp_keyset *s;
	WORKS(eesp_keyset_new(1, read_only_copy(kdf_key, 32), 1, &s));
	eesp_kdf *k;
	WORKS(eesp_kdf_new(read_only_copy(kdf_key, 32), &k));
	const uint8_t *context = read_only_copy(kdf_key, 16), *aad[33];
	for (uint32_t n = 0; n < 33; n++)
		aad[n] = read_only_copy(kdf_key, n);
	for (uint32_t n = 0; n < 600; n = n < 270 ? n + 1 : n + 63)
		for (int end = 0; end < 2; end++)
			for (int with_kdf = 0; with_kdf < 2; with_kdf++) {
				memset(m.start, CANARY, 4096);
				uint8_t *b = end ? m.end - n : m.start;
				eesp_job *j = (eesp_job *)(void *)(end ? d.end - sizeof *j : d.start);
				*j = (eesp_job){ .aad = aad[n % 33], .aad_len = n % 33, .src = b, .dst = b, .len = n,
						 .tag = end ? t.end - 16 : t.start };
				fill(b, n, n);
				SAME(with_kdf ? eesp_kdf_seal(k, 1, context, j, 1) : eesp_keyset_seal(s, j, 1), 1);
				SAME(with_kdf ? eesp_kdf_open(k, 1, context, j, 1) : eesp_keyset_open(s, j, 1), 1);
				CHECK(j->ok == 1 && filled(b, n, n));
				CHECK(all_are(end ? m.start : m.start + n, 4096 - n, CANARY));
			}
	eesp_keyset_free(s);
	eesp_kdf_free(k);
}

/* If one job is wrong, the whole burst is refused. */
static void refused(void)
{
	eesp_kdf *k;
	eesp_keyset *s;
	uint8_t out[64];
	WORKS(eesp_kdf_new(kdf_key, &k));
	WORKS(eesp_keyset_new(0, kdf_key, 2, &s));
	GIVES(EESP_ERR_ARGUMENT, eesp_kdf_new(NULL, &k));
	GIVES(EESP_ERR_ARGUMENT, eesp_kdf_new(kdf_key, NULL));
	memset(out, CANARY, sizeof out);
	GIVES(EESP_ERR_ARGUMENT, eesp_kdf_derive(NULL, 0, kdf_key, 1, out, 16));
	GIVES(EESP_ERR_ARGUMENT, eesp_kdf_derive(k, 0, NULL, 1, out, 16));
	GIVES(EESP_ERR_ARGUMENT, eesp_kdf_derive(k, 0, kdf_key, 1, NULL, 16));
	GIVES(EESP_ERR_ARGUMENT, eesp_kdf_derive(k, 0, kdf_key, 1, out, 15));
	GIVES(EESP_ERR_ARGUMENT, eesp_kdf_derive(k, 0, kdf_key, 1, out, 32));
	GIVES(EESP_ERR_ARGUMENT, eesp_kdf_derive(k, 2, kdf_key, 1, out, 16));
	GIVES(EESP_ERR_ARGUMENT, eesp_kdf_derive(k, 0, kdf_key, SIZE_MAX / 16 + 2, out, 16));
	GIVES(EESP_ERR_ARGUMENT, eesp_kdf_derive((void *)s, 0, kdf_key, 1, out, 16));
	eesp_keyset *none = (void *)out;
	GIVES(EESP_ERR_ARGUMENT, eesp_keyset_new(0, NULL, 1, &none));
	GIVES(EESP_ERR_ARGUMENT, eesp_keyset_new(0, kdf_key, 0, &none));
	GIVES(EESP_ERR_ARGUMENT, eesp_keyset_new(0, kdf_key, EESP_MAX_KEYSET + 1, &none));
	GIVES(EESP_ERR_ARGUMENT, eesp_keyset_new(0, kdf_key, SIZE_MAX, &none));
	GIVES(EESP_ERR_ARGUMENT, eesp_keyset_new(2, kdf_key, 1, &none));
	GIVES(EESP_ERR_ARGUMENT, eesp_keyset_new(0, kdf_key, 1, NULL));
	CHECK(none == (void *)out && all_are(out, sizeof out, CANARY));
	eesp_job j[3];
	static const char *const why[12] = { "key 2 of 2", "key 4294967295 of 2", "too large", "too large",
		"NULL", "NULL", "NULL", "NULL", "reserved", "overlap", "overlap", "overlap" };
	for (int bad = 0; bad < 12; bad++) {
		jobs_of(j, 3, 1, 1);
		switch (bad) {
		case 0: j[2].key = 2; break;
		case 1: j[2].key = UINT32_MAX; break;
		case 2: j[2].len = EESP_MAX_LEN + 1; break;
		case 3: j[2].aad_len = UINT32_MAX; break;
		case 4: j[2].tag = NULL; break;
		case 5: j[2].src = NULL; break;
		case 6: j[2].dst = NULL; break;
		case 7: j[2].aad = NULL; break;
		case 8: j[2].reserved[3] = 1; break;
		case 9: j[2].dst = text[2] + 1; break;
		case 10: j[2].dst = text[2] - 1; break;
		case 11: j[2].dst = text[2] + j[2].len - 1; break;
		}
		for (int i = 0; i < 3; i++)
			j[i].ok = 1;
		SAME(eesp_keyset_seal(s, j, 3), 0);
		CHECK(strstr(eesp_last_error(), "job 2: ") && strstr(eesp_last_error(), why[bad]));
		SAME(eesp_keyset_open(s, j, 3), 0);
		SAME(eesp_kdf_seal(k, 0, contexts[0], j, 3), 0);
		for (int i = 0; i < 3; i++) {
			CHECK(j[i].ok == 0);
			j[i].ok = 1;
		}
		SAME(eesp_kdf_open(k, 0, contexts[0], j, 3), 0);
		for (int i = 0; i < 3; i++)
			CHECK(j[i].ok == 0 && filled(text[i], (size_t)i, LENGTH));
	}
	for (int bad = 0; bad < 5; bad++) {
		jobs_of(j, 3, 1, 1);
		for (int i = 0; i < 3; i++)
			j[i].ok = 1;
		switch (bad) {
		case 0: SAME(eesp_kdf_open(k, 2, contexts[0], j, 3), 0); break;
		case 1: SAME(eesp_kdf_open(k, 0, NULL, j, 3), 0); break;
		case 2: SAME(eesp_kdf_open(NULL, 0, contexts[0], j, 3), 0); break;
		case 3: SAME(eesp_keyset_open((void *)k, j, 3), 0); break;
		case 4: SAME(eesp_keyset_open(NULL, j, 3), 0); break;
		}
		for (int i = 0; i < 3; i++)
			CHECK(j[i].ok == 0);
	}
	jobs_of(j, 3, 1, 1);
	SAME(eesp_kdf_seal(k, 2, contexts[0], j, 3), 0);
	SAME(eesp_kdf_seal(k, 0, NULL, j, 3), 0);
	SAME(eesp_kdf_seal(k, 0, contexts[0], NULL, 3), 0);
	SAME(eesp_keyset_seal(s, NULL, 3), 0);
	SAME(eesp_keyset_seal((void *)k, j, 3), 0);
	SAME(eesp_keyset_seal(NULL, j, 3), 0);
	SAME(eesp_kdf_open(NULL, 0, contexts[0], j, 3), 0);
	SAME(eesp_kdf_seal(k, 0, contexts[0], j, SIZE_MAX / 256 + 1), 0);
	SAME(eesp_kdf_open(k, 0, contexts[0], j, SIZE_MAX / 2), 0);
	SAME(eesp_keyset_seal(s, j, SIZE_MAX), 0);
	SAME(eesp_keyset_open(s, j, SIZE_MAX / 2), 0);
	CHECK(filled(text[0], 0, LENGTH));
	eesp_keyset_free((void *)k);
	eesp_kdf_free((void *)s);
	eesp_kdf_free(NULL);
	eesp_keyset_free(NULL);
	SAME(eesp_keyset_seal(s, j, 3), 3);
	SAME(eesp_kdf_seal(k, 0, contexts[0], j, 0), 0);
	eesp_keyset_free(s);
	eesp_kdf_free(k);
}

static eesp_kdf *the_kdf;
static eesp_keyset *the_set;

static void forked_functions(void)
{
	eesp_kdf *k = NULL;
	eesp_keyset *s = NULL;
	eesp_job j[2];
	jobs_of(j, 2, 1, 1);
	GIVES(EESP_ERR_FORKED, eesp_kdf_new(kdf_key, &k));
	GIVES(EESP_ERR_FORKED, eesp_keyset_new(0, kdf_key, 1, &s));
	GIVES(EESP_ERR_FORKED, eesp_kdf_derive(the_kdf, 0, kdf_key, 1, tags[0], 16));
	SAME(eesp_kdf_seal(the_kdf, 0, contexts[0], j, 2), 0);
	SAME(eesp_kdf_open(the_kdf, 0, contexts[0], j, 2), 0);
	SAME(eesp_keyset_seal(the_set, j, 2), 0);
	SAME(eesp_keyset_open(the_set, j, 2), 0);
	CHECK(strcmp(eesp_last_error(), eesp_strerror(EESP_ERR_FORKED)) == 0);
	CHECK(filled(text[0], 0, LENGTH));
	eesp_kdf_free(the_kdf);
	eesp_keyset_free(the_set);
}

static void in_forked_child(void)
{
	WORKS(eesp_kdf_new(kdf_key, &the_kdf));
	WORKS(eesp_keyset_new(0, kdf_key, 1, &the_set));
	in_child(forked_functions);
	eesp_kdf_free(the_kdf);
	eesp_keyset_free(the_set);
}

int main(void)
{
	TEST(known_derivation);
	TEST(known_sealing);
	TEST(round_trips);
	TEST(single_jobs);
	TEST(guard_pages);
	TEST(refused);
	TEST(in_forked_child);
	return 0;
}
