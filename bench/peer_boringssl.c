/* SPDX-License-Identifier: BSD-3-Clause */
/* BoringSSL and AWS-LC through EVP_AEAD, their fastest interface; only as a plugin (bench/plugin.sh). */
#include "bench.h"
#include <openssl/aead.h>
#include <openssl/cipher.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

struct state {
	struct set *s;
	EVP_CIPHER_CTX *kdf;
	const EVP_AEAD *aead;
	EVP_AEAD_CTX *ctx; /* cached: of each context; else of each fresh one in the burst */
	size_t nctx;
	uint8_t *blocks, *keys;
};

static void derive(struct state *st, const uint32_t *packets, size_t n, uint8_t *keys)
{
	int len;
	kdf_blocks(st->s, packets, n, st->blocks);
	if (EVP_EncryptUpdate(st->kdf, keys, &len, st->blocks, (int)(n * st->s->key_len)) != 1)
		die("EVP_EncryptUpdate failed");
}

static void key_in(struct state *st, EVP_AEAD_CTX *c, const uint8_t *key)
{
	if (!EVP_AEAD_CTX_init(c, st->aead, key, st->s->key_len, TAG_LEN, NULL))
		die("EVP_AEAD_CTX_init failed");
}

static void crypt_one(struct state *st, const EVP_AEAD_CTX *c, size_t i)
{
	struct set *s = st->s;
	uint8_t *dst = slot(s, s->out, i);
	size_t len = s->len[i], tag_len;
	int ok;
	if (s->c.work == REKEY_OPEN) {
		const uint8_t *src = slot(s, s->sealed, i);
		ok = EVP_AEAD_CTX_open_gather(c, dst, s->nonce + 12 * i, 12, src, len, src + len, TAG_LEN, aad(s, i),
					      AAD_LEN);
	} else {
		ok = EVP_AEAD_CTX_seal_scatter(c, dst, dst + len, &tag_len, TAG_LEN, s->nonce + 12 * i, 12,
					       slot(s, s->plain, i), len, NULL, 0, aad(s, i), AAD_LEN);
	}
	if (!ok)
		die("EVP_AEAD: a packet failed");
}

static void pass(void *state)
{
	struct state *st = state;
	struct set *s = st->s;
	for (size_t b = 0; b < s->n; b += s->c.burst) {
		size_t end = b + s->c.burst;
		if (s->c.work == DERIVE) {
			derive(st, s->fresh + b, s->c.burst, s->keys_out + b * s->key_len);
			continue;
		}
		if (s->c.work != CACHED_SEAL)
			derive(st, s->fresh + b, s->nfresh[b / s->c.burst], st->keys);
		for (size_t i = b; i < end; i++) {
			if (s->c.work == CACHED_SEAL) {
				crypt_one(st, &st->ctx[s->key[i]], i);
				continue;
			}
			uint32_t u = s->which[i];
			/* One place for all keys stays in the nearest cache; init needs no clean-up between, see
			 * aead.h. */
			EVP_AEAD_CTX *c = &st->ctx[s->c.contexts == DISTINCT ? 0 : u];
			if (s->fresh[b + u] == i)
				key_in(st, c, st->keys + u * s->key_len);
			crypt_one(st, c, i);
		}
	}
}

static void *boringssl_open(const struct peer *p, struct set *s)
{
	(void)p;
	struct state *st = must_alloc(64, sizeof *st);
	st->s = s;
	st->aead = s->key_len == 16 ? EVP_aead_aes_128_gcm() : EVP_aead_aes_256_gcm();
	st->kdf = EVP_CIPHER_CTX_new();
	if (!st->kdf || EVP_EncryptInit_ex(st->kdf, EVP_aes_256_ecb(), NULL, s->kdf_key, NULL) != 1)
		die("EVP_aes_256_ecb failed");
	EVP_CIPHER_CTX_set_padding(st->kdf, 0);
	st->blocks = must_alloc(64, s->c.burst * 32);
	st->keys = must_alloc(64, s->c.burst * 32);
	st->nctx = s->c.work == CACHED_SEAL ? s->nkeys : s->c.burst;
	st->ctx = must_alloc(64, st->nctx * sizeof *st->ctx);
	for (size_t k = 0; s->c.work == CACHED_SEAL && k < st->nctx; k++)
		key_in(st, &st->ctx[k], s->keys + k * s->key_len);
	return st;
}

static void boringssl_close(void *state)
{
	struct state *st = state;
	EVP_CIPHER_CTX_free(st->kdf);
	free(st->ctx);
	free(st->blocks);
	free(st->keys);
	free(st);
}

size_t boringssl_peers(struct peer *out, size_t room);
const char *boringssl_version(void);

const char *boringssl_version(void)
{
#ifdef OPENSSL_IS_AWSLC
	return awslc_version_string();
#else
	return "BoringSSL";
#endif
}

size_t boringssl_peers(struct peer *out, size_t room)
{
	if (room < 1)
		return 0;
	*out = (struct peer){
#ifdef OPENSSL_IS_AWSLC
		.name = "aws-lc",
#else
		.name = "boringssl",
#endif
		.backend = "evp_aead",
		.how = {
			[DERIVE] = "EVP_EncryptUpdate of AES-256-ECB over the burst",
			[REKEY_SEAL] =
			"EVP_EncryptUpdate of AES-256-ECB over the burst; EVP_AEAD_CTX_init, EVP_AEAD_CTX_seal_scatter",
			[REKEY_OPEN] =
			"EVP_EncryptUpdate of AES-256-ECB over the burst; EVP_AEAD_CTX_init, EVP_AEAD_CTX_open_gather",
			[CACHED_SEAL] = "a context kept for each key: EVP_AEAD_CTX_seal_scatter",
		},
		.open = boringssl_open,
		.pass = pass,
		.close = boringssl_close,
	};
	return 1;
}
