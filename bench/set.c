/* SPDX-License-Identifier: BSD-3-Clause */
/* The inputs, the same for all peers and on every run; and the reference outputs. */
#define _GNU_SOURCE
#include "bench.h"
#include <eesp.h>
#include <openssl/evp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

const char *work_name(enum work w)
{
	static const char *const names[WORKS] = { "derive",      "rekey-seal",  "rekey-open", "cached-seal",
						  "packet-seal", "packet-open", "proxy" };
	return names[w];
}

const char *contexts_name(enum contexts c)
{
	static const char *const names[CONTEXTS] = { "distinct", "equal", "zipf" };
	return names[c];
}

const char *profile_name(unsigned profile)
{
	static const char *const names[] = { "stateless", "psp", "tss", "eesp" };
	return names[profile];
}

const char *config_name(const struct config *c)
{
	return !c->careful ? "bare" : c->replay == TIMES ? "time" : c->replay == NO_REPLAY ? "no-replay" : "careful";
}

struct config work_of(unsigned profile, enum work work)
{
	struct config c;
	memset(&c, 0, sizeof c);
	c.work = work;
	c.profile = profile;
	c.aead = profile == EESP_PROFILE_TSS ? EESP_AEAD_AES_256_GCM : EESP_AEAD_AES_128_GCM;
	c.contexts = work == PACKET_SEAL && profile ? EQUAL : DISTINCT;
	return c;
}

enum work kernels_of(unsigned profile, enum work work)
{
	return profile == EESP_PROFILE_EESP ? CACHED_SEAL : work == PACKET_SEAL ? REKEY_SEAL : REKEY_OPEN;
}

int by_double(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

double now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC_RAW, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

void die(const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	fputs("bench: ", stderr);
	vfprintf(stderr, format, ap);
	fputc('\n', stderr);
	va_end(ap);
	exit(1);
}

void *must_alloc(size_t align, size_t size)
{
	size = (size + align - 1) / align * align;
	void *p = aligned_alloc(align, size ? size : align);
	if (!p)
		die("out of memory");
	if (align == HUGE_PAGE) /* where there are huge pages: what packet I/O frameworks use */
		madvise(p, size, MADV_HUGEPAGE);
	memset(p, 0, size);
	return p;
}

static uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static void fill(uint64_t *state, uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)next_random(state);
}

static const EVP_CIPHER *gcm_of(size_t key_len)
{
	return key_len == 16 ? EVP_aes_128_gcm() : EVP_aes_256_gcm();
}

void reference_ecb(const uint8_t key[32], const uint8_t *src, uint8_t *dst, size_t len)
{
	EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
	int n;
	if (!EVP_EncryptInit_ex(c, EVP_aes_256_ecb(), NULL, key, NULL) || !EVP_CIPHER_CTX_set_padding(c, 0) ||
	    !EVP_EncryptUpdate(c, dst, &n, src, (int)len))
		die("OpenSSL: AES-256-ECB failed");
	EVP_CIPHER_CTX_free(c);
}

void reference_seal(const uint8_t *key, size_t key_len, const uint8_t *nonce, const uint8_t *a, size_t a_len,
		    const uint8_t *src, size_t len, uint8_t *dst, uint8_t *tag)
{
	EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
	int n;
	if (!EVP_EncryptInit_ex(c, gcm_of(key_len), NULL, key, nonce) ||
	    !EVP_EncryptUpdate(c, NULL, &n, a, (int)a_len) || !EVP_EncryptUpdate(c, dst, &n, src, (int)len) ||
	    !EVP_EncryptFinal_ex(c, dst + len, &n) || !EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, TAG_LEN, tag))
		die("OpenSSL: AES-GCM failed");
	EVP_CIPHER_CTX_free(c);
}

bool reference_open(const uint8_t *key, size_t key_len, const uint8_t *nonce, const uint8_t *a, size_t a_len,
		    const uint8_t *src, size_t len, uint8_t *dst, const uint8_t *tag)
{
	EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
	int n;
	uint8_t t[TAG_LEN];
	memcpy(t, tag, TAG_LEN);
	bool ok = EVP_DecryptInit_ex(c, gcm_of(key_len), NULL, key, nonce) &&
		  EVP_DecryptUpdate(c, NULL, &n, a, (int)a_len) && EVP_DecryptUpdate(c, dst, &n, src, (int)len) &&
		  EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, TAG_LEN, t) &&
		  EVP_DecryptFinal_ex(c, dst + len, &n) > 0;
	EVP_CIPHER_CTX_free(c);
	return ok;
}

/* RFC 4493: K1 is E(0) shifted left, reduced. */
static void subkey(const uint8_t key[32], uint8_t k1[16])
{
	uint8_t l[16] = { 0 };
	reference_ecb(key, l, l, 16);
	for (int i = 0; i < 16; i++)
		k1[i] = (uint8_t)(l[i] << 1 | (i < 15 ? l[i + 1] >> 7 : 0));
	k1[15] ^= l[0] >> 7 ? 0x87 : 0;
}

static void reference_keys(struct set *s, const uint8_t *contexts)
{
	size_t blocks = s->key_len / 16;
	for (size_t k = 0; k < s->nkeys; k++) {
		for (size_t b = 0; b < blocks; b++) {
			uint8_t x[16];
			memcpy(x, contexts + 16 * k, 16);
			x[0] = (uint8_t)(b + 1);
			for (int i = 0; i < 16; i++)
				x[i] ^= s->k1[i];
			reference_ecb(s->kdf_key, x, s->keys + (k * blocks + b) * 16, 16);
		}
	}
}

static size_t packets_of(const struct config *c)
{
	size_t least = c->packets ? c->packets : renewed(c) ? RENEWED : 32;
	if (c->size == IMIX) /* a multiple of 12, so that the mix is exact */
		return c->burst <= 32 ? 96 : 3 * c->burst;
	return c->burst <= least ? least : c->burst;
}

static void choose_lengths(struct set *s, uint64_t *rng)
{
	for (size_t i = 0; i < s->n; i++) {
		size_t m = i % 12;
		size_t mix = m < 7 ? 64 : m < 11 ? 594 : 1420;
		s->len[i] = (uint32_t)(s->c.size == IMIX ? mix : s->c.size);
	}
	if (s->c.size == IMIX) {
		for (size_t i = s->n - 1; i > 0; i--) {
			size_t j = next_random(rng) % (i + 1);
			uint32_t t = s->len[i];
			s->len[i] = s->len[j];
			s->len[j] = t;
		}
	}
}

static void choose_keys(struct set *s, uint64_t *rng)
{
	double weight[ZIPF_KEYS], total = 0;
	for (size_t k = 0; k < ZIPF_KEYS; k++)
		total += weight[k] = 1 / (double)(k + 1);
	for (size_t i = 0; i < s->n; i++) {
		uint32_t k = 0;
		if (s->c.contexts == DISTINCT) {
			k = (uint32_t)(i % s->nkeys);
		} else if (s->c.contexts == ZIPF) {
			double x = (double)(next_random(rng) >> 11) * 0x1p-53 * total;
			while (k + 1 < ZIPF_KEYS && x >= weight[k])
				x -= weight[k++];
		}
		s->key[i] = k;
		uint32_t *fresh = s->fresh + (i - i % s->c.burst);
		uint32_t *count = &s->nfresh[i / s->c.burst], u = 0;
		while (u < *count && (s->c.work == DERIVE || s->key[fresh[u]] != k))
			u++;
		if (u == *count)
			fresh[(*count)++] = (uint32_t)i;
		s->which[i] = u;
	}
}

struct set *set_new(struct config c)
{
	struct set *s = must_alloc(64, sizeof *s);
	uint64_t rng = 1;
	s->c = c;
	s->n = packets_of(&c);
	s->key_len = c.aead == EESP_AEAD_AES_128_GCM ? 16 : 32;
	s->nkeys = c.contexts == DISTINCT ? (s->n < 32 || !renewed(&c) ? s->n : 32)
		   : c.contexts == EQUAL  ? 1
					  : ZIPF_KEYS;
	size_t longest = c.size == IMIX ? 1420 : c.size;
	s->stride = (FRONT + longest + BACK + 63) / 64 * 64;
	s->keys = must_alloc(64, s->nkeys * s->key_len);
	s->keys_out = must_alloc(64, s->n * s->key_len);
	s->key = must_alloc(64, s->n * sizeof *s->key);
	s->fresh = must_alloc(64, s->n * sizeof *s->fresh);
	s->nfresh = must_alloc(64, s->n * sizeof *s->nfresh);
	s->which = must_alloc(64, s->n * sizeof *s->which);
	s->len = must_alloc(64, s->n * sizeof *s->len);
	s->context = must_alloc(64, s->n * 16);
	s->nonce = must_alloc(64, s->n * 12);
	size_t region = (s->n * s->stride + 4095) / 4096 * 4096, apart = 2112;
	s->memory = must_alloc(HUGE_PAGE, 3 * region + apart);
	s->plain = s->memory;
	s->sealed = s->plain + region;
	/* Half a page apart from the sources: no false store-to-load conflicts. */
	s->out = s->sealed + region + apart;

	fill(&rng, s->kdf_key, sizeof s->kdf_key);
	subkey(s->kdf_key, s->k1);
	choose_lengths(s, &rng);
	choose_keys(s, &rng);
	uint8_t *contexts = must_alloc(64, s->nkeys * 16);
	for (size_t k = 0; k < s->nkeys; k++) {
		/* The KDF block of profile "stateless", V = 0: i (set when deriving), label, 0, ID, epoch, L. */
		uint8_t block[16] = { 0, 0x45, 0, 0, 0, 0, 0, 0, 0, 0, (uint8_t)(k >> 8), (uint8_t)k, 0, 9,
				      (uint8_t)(s->key_len * 8 >> 8), (uint8_t)(s->key_len * 8) };
		memcpy(contexts + 16 * k, block, 16);
	}
	reference_keys(s, contexts);
	fill(&rng, s->nonce, s->n * 12);
	for (size_t i = 0; i < s->n; i++) {
		uint32_t k = s->key[i];
		memcpy(s->context + 16 * i, contexts + 16 * k, 16);
		fill(&rng, slot(s, s->plain, i) - AAD_LEN, AAD_LEN + s->len[i]);
		uint8_t *dst = slot(s, s->sealed, i);
		reference_seal(s->keys + k * s->key_len, s->key_len, s->nonce + 12 * i, aad(s, i), AAD_LEN,
			       slot(s, s->plain, i), s->len[i], dst, dst + s->len[i]);
		s->octets += s->len[i];
	}
	free(contexts);
	return s;
}

void set_free(struct set *s)
{
	free(s->keys);
	free(s->keys_out);
	free(s->key);
	free(s->fresh);
	free(s->nfresh);
	free(s->which);
	free(s->len);
	free(s->context);
	free(s->nonce);
	free(s->memory);
	free(s);
}

static size_t differing(const uint8_t *a, const uint8_t *b, size_t n)
{
	size_t d = 0;
	for (size_t i = 0; i < n; i++)
		d += a[i] != b[i];
	return d;
}

size_t set_check(struct set *s)
{
	size_t bad = 0;
	for (size_t i = 0; i < s->n; i++) {
		const uint8_t *out = slot(s, s->out, i);
		switch (s->c.work) {
		case DERIVE:
			bad += differing(s->keys_out + i * s->key_len, s->keys + s->key[i] * s->key_len, s->key_len);
			break;
		case REKEY_SEAL:
		case CACHED_SEAL:
			bad += differing(out, slot(s, s->sealed, i), s->len[i] + TAG_LEN);
			break;
		default:
			bad += differing(out, slot(s, s->plain, i), s->len[i]);
		}
	}
	memset(s->keys_out, 0, s->n * s->key_len);
	memset(s->out, 0, s->n * s->stride);
	return bad;
}
