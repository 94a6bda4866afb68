/* SPDX-License-Identifier: BSD-3-Clause */
/* OpenSSL through EVP: ciphers fetched once, contexts kept. */
#include "bench.h"
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

struct state {
	struct set *s;
	EVP_CIPHER *ecb, *gcm;
	EVP_CIPHER_CTX *kdf;
	EVP_CIPHER_CTX **ctx; /* one of each key that is kept */
	size_t nctx;
	uint8_t *blocks, *keys;
};

static void derive(struct state *st, const uint32_t *packets, size_t n, uint8_t *keys)
{
	size_t octets = n * st->s->key_len;
	kdf_blocks(st->s, packets, n, st->blocks);
	int len;
	if (EVP_EncryptUpdate(st->kdf, keys, &len, st->blocks, (int)octets) != 1)
		die("EVP_EncryptUpdate failed");
}

static void crypt_one(struct state *st, EVP_CIPHER_CTX *c, const uint8_t *key, size_t i)
{
	struct set *s = st->s;
	uint8_t *dst = slot(s, s->out, i);
	int len = (int)s->len[i], n, ok = 1;
	if (s->c.work == REKEY_OPEN) {
		uint8_t *src = slot(s, s->sealed, i);
		ok &= EVP_DecryptInit_ex2(c, NULL, key, s->nonce + 12 * i, NULL);
		ok &= EVP_DecryptUpdate(c, NULL, &n, aad(s, i), AAD_LEN);
		ok &= EVP_DecryptUpdate(c, dst, &n, src, len);
		ok &= EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, TAG_LEN, src + len);
		ok &= EVP_DecryptFinal_ex(c, dst + len, &n);
	} else {
		ok &= EVP_EncryptInit_ex2(c, NULL, key, s->nonce + 12 * i, NULL);
		ok &= EVP_EncryptUpdate(c, NULL, &n, aad(s, i), AAD_LEN);
		ok &= EVP_EncryptUpdate(c, dst, &n, slot(s, s->plain, i), len);
		ok &= EVP_EncryptFinal_ex(c, dst + len, &n);
		ok &= EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, TAG_LEN, dst + len);
	}
	if (!ok)
		die("OpenSSL: a packet failed");
}

static void pass(void *state)
{
	struct state *st = state;
	struct set *s = st->s;
	for (size_t b = 0; b < s->n; b += s->c.burst) {
		size_t end = b + s->c.burst;
		if (s->c.work == CACHED_SEAL) {
			for (size_t i = b; i < end; i++)
				crypt_one(st, st->ctx[s->key[i]], NULL, i);
			continue;
		}
		if (s->c.work == DERIVE) {
			derive(st, s->fresh + b, s->c.burst, s->keys_out + b * s->key_len);
			continue;
		}
		derive(st, s->fresh + b, s->nfresh[b / s->c.burst], st->keys);
		for (size_t i = b; i < end; i++) {
			uint32_t u = s->which[i];
			const uint8_t *key = st->keys + u * s->key_len;
			if (s->c.contexts == DISTINCT)
				crypt_one(st, st->ctx[0], key, i);
			else
				crypt_one(st, st->ctx[u], s->fresh[b + u] == i ? key : NULL, i);
		}
	}
}

static void *openssl_open(const struct peer *p, struct set *s)
{
	(void)p;
	struct state *st = must_alloc(64, sizeof *st);
	st->s = s;
	st->ecb = EVP_CIPHER_fetch(NULL, "AES-256-ECB", NULL);
	st->gcm = EVP_CIPHER_fetch(NULL, s->key_len == 16 ? "AES-128-GCM" : "AES-256-GCM", NULL);
	st->kdf = EVP_CIPHER_CTX_new();
	if (!st->ecb || !st->gcm || EVP_EncryptInit_ex2(st->kdf, st->ecb, s->kdf_key, NULL, NULL) != 1)
		die("OpenSSL: no AES");
	EVP_CIPHER_CTX_set_padding(st->kdf, 0);
	st->blocks = must_alloc(64, s->c.burst * 32);
	st->keys = must_alloc(64, s->c.burst * 32);
	st->nctx = s->c.work == CACHED_SEAL ? s->nkeys : s->c.burst;
	st->ctx = must_alloc(64, st->nctx * sizeof *st->ctx);
	for (size_t k = 0; k < st->nctx; k++) {
		const uint8_t *key = s->c.work == CACHED_SEAL ? s->keys + k * s->key_len : NULL;
		st->ctx[k] = EVP_CIPHER_CTX_new();
		if (!st->ctx[k] ||
		    EVP_CipherInit_ex2(st->ctx[k], st->gcm, key, NULL, s->c.work != REKEY_OPEN, NULL) != 1)
			die("OpenSSL: no AES-GCM");
	}
	return st;
}

static void openssl_close(void *state)
{
	struct state *st = state;
	for (size_t k = 0; k < st->nctx; k++)
		EVP_CIPHER_CTX_free(st->ctx[k]);
	EVP_CIPHER_CTX_free(st->kdf);
	EVP_CIPHER_free(st->ecb);
	EVP_CIPHER_free(st->gcm);
	free(st->ctx);
	free(st->blocks);
	free(st->keys);
	free(st);
}

const char *openssl_version(void)
{
	return OpenSSL_version(OPENSSL_VERSION);
}

size_t openssl_peers(struct peer *out, size_t room)
{
	if (room < 1)
		return 0;
	*out = (struct peer){
		.name = "openssl",
		.backend = "evp",
		.how = {
			[DERIVE] = "EVP_EncryptUpdate of AES-256-ECB over the burst, fetched cipher",
			[REKEY_SEAL] =
			"EVP_EncryptUpdate of AES-256-ECB over the burst; one context: EVP_EncryptInit_ex2(key, IV), "
				       "EVP_EncryptUpdate(AAD), EVP_EncryptUpdate, EVP_EncryptFinal_ex, GET_TAG",
			[REKEY_OPEN] =
			"EVP_EncryptUpdate of AES-256-ECB over the burst; one context: EVP_DecryptInit_ex2(key, IV), "
				       "EVP_DecryptUpdate(AAD), EVP_DecryptUpdate, SET_TAG, EVP_DecryptFinal_ex",
			[CACHED_SEAL] = "a context kept for each key: EVP_EncryptInit_ex2(IV), EVP_EncryptUpdate(AAD), "
					"EVP_EncryptUpdate, EVP_EncryptFinal_ex, GET_TAG",
		},
		.open = openssl_open,
		.pass = pass,
		.close = openssl_close,
	};
	return 1;
}
