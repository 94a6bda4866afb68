/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * libipsec-mb with the calls that were fastest in version 1.3: the KDF as one
 * ECB job over the burst without checks, GCM by direct calls.
 * init_mb_mgr_auto takes the widest code the CPU has. With fresh keys and few
 * octets the AVX2 code can be faster, because it prepares fewer powers of H; so
 * that is measured beside it.
 */
#include "bench.h"

#if defined(__has_include)
#if __has_include(<intel-ipsec-mb.h>)
#define HAVE_IPSEC_MB 1
#endif
#endif

#ifdef HAVE_IPSEC_MB
#include <intel-ipsec-mb.h>
#include <stdlib.h>
#include <string.h>

struct state {
	struct set *s;
	IMB_MGR *mgr;
	uint32_t *enc, *dec;
	struct gcm_key_data *key; /* cached: of each context; else of each fresh one in the burst */
	struct gcm_context_data ctx;
	uint8_t *blocks, *keys;
	aes_gcm_pre_t pre;
	aes_gcm_enc_dec_t seal, open;
};

static void derive(struct state *st, const uint32_t *packets, size_t n, uint8_t *keys)
{
	kdf_blocks(st->s, packets, n, st->blocks);
	IMB_JOB *j;
	if (IMB_GET_NEXT_BURST(st->mgr, 1, &j) != 1)
		die("libipsec-mb: no job");
	j->cipher_mode = IMB_CIPHER_ECB;
	j->hash_alg = IMB_AUTH_NULL;
	j->cipher_direction = IMB_DIR_ENCRYPT;
	j->chain_order = IMB_ORDER_CIPHER_HASH;
	j->iv = NULL;
	j->iv_len_in_bytes = 0;
	j->cipher_start_src_offset_in_bytes = 0;
	j->enc_keys = st->enc;
	j->dec_keys = st->dec;
	j->key_len_in_bytes = 32;
	j->src = st->blocks;
	j->dst = keys;
	j->msg_len_to_cipher_in_bytes = n * st->s->key_len;
	if (IMB_SUBMIT_BURST_NOCHECK(st->mgr, 1, &j) != 1)
		die("libipsec-mb: ECB failed");
}

static void crypt_one(struct state *st, const struct gcm_key_data *key, size_t i)
{
	struct set *s = st->s;
	uint8_t *dst = slot(s, s->out, i);
	uint32_t len = s->len[i];
	if (s->c.work == REKEY_OPEN) {
		const uint8_t *src = slot(s, s->sealed, i);
		uint64_t want[2], tag[2];
		st->open(key, &st->ctx, dst, src, len, s->nonce + 12 * i, aad(s, i), AAD_LEN, (uint8_t *)tag, TAG_LEN);
		memcpy(want, src + len, TAG_LEN);
		if ((want[0] ^ tag[0]) | (want[1] ^ tag[1]))
			die("libipsec-mb: wrong tag");
	} else {
		st->seal(key, &st->ctx, dst, slot(s, s->plain, i), len, s->nonce + 12 * i, aad(s, i), AAD_LEN,
			 dst + len, TAG_LEN);
	}
}

static void pass(void *state)
{
	struct state *st = state;
	struct set *s = st->s;
	for (size_t b = 0; b < s->n; b += s->c.burst) {
		size_t end = b + s->c.burst;
		if (s->c.work == CACHED_SEAL) {
			for (size_t i = b; i < end; i++)
				crypt_one(st, &st->key[s->key[i]], i);
			continue;
		}
		if (s->c.work == DERIVE) {
			derive(st, s->fresh + b, s->c.burst, s->keys_out + b * s->key_len);
			continue;
		}
		derive(st, s->fresh + b, s->nfresh[b / s->c.burst], st->keys);
		for (size_t i = b; i < end; i++) {
			uint32_t u = s->which[i];
			/* One place for all keys stays in the nearest cache. */
			struct gcm_key_data *key = &st->key[s->c.contexts == DISTINCT ? 0 : u];
			if (s->fresh[b + u] == i)
				st->pre(st->keys + u * s->key_len, key);
			crypt_one(st, key, i);
		}
	}
}

static void *ipsec_open(const struct peer *p, struct set *s)
{
	struct state *st = must_alloc(64, sizeof *st);
	st->s = s;
	st->mgr = alloc_mb_mgr(0);
	IMB_ARCH arch;
	if (!st->mgr)
		die("libipsec-mb: no manager");
	if (p->arg == IMB_ARCH_AVX2)
		init_mb_mgr_avx2(st->mgr);
	else
		init_mb_mgr_auto(st->mgr, &arch);
	if (imb_get_errno(st->mgr))
		die("libipsec-mb: %s", imb_get_strerror(imb_get_errno(st->mgr)));
	st->pre = s->key_len == 16 ? st->mgr->gcm128_pre : st->mgr->gcm256_pre;
	st->seal = s->key_len == 16 ? st->mgr->gcm128_enc : st->mgr->gcm256_enc;
	st->open = s->key_len == 16 ? st->mgr->gcm128_dec : st->mgr->gcm256_dec;
	st->enc = must_alloc(64, 16 * 15);
	st->dec = must_alloc(64, 16 * 15);
	IMB_AES_KEYEXP_256(st->mgr, s->kdf_key, st->enc, st->dec);
	st->blocks = must_alloc(64, s->c.burst * 32);
	st->keys = must_alloc(64, s->c.burst * 32);
	size_t nkeys = s->c.work == CACHED_SEAL ? s->nkeys : s->c.burst;
	st->key = must_alloc(64, nkeys * sizeof *st->key);
	for (size_t k = 0; s->c.work == CACHED_SEAL && k < nkeys; k++)
		st->pre(s->keys + k * s->key_len, &st->key[k]);
	return st;
}

static void ipsec_close(void *state)
{
	struct state *st = state;
	free_mb_mgr(st->mgr);
	free(st->enc);
	free(st->dec);
	free(st->blocks);
	free(st->keys);
	free(st->key);
	free(st);
}

const char *ipsec_version(void)
{
	return imb_get_version_str();
}

size_t ipsec_peers(struct peer *out, size_t room)
{
	static const char *const arch_names[IMB_ARCH_NUM] = { [IMB_ARCH_NOAESNI] = "noaesni",
							      [IMB_ARCH_SSE] = "sse",
							      [IMB_ARCH_AVX] = "avx",
							      [IMB_ARCH_AVX2] = "avx2",
							      [IMB_ARCH_AVX512] = "avx512" };
	IMB_MGR *mgr = alloc_mb_mgr(0);
	IMB_ARCH best = IMB_ARCH_NONE;
	if (!mgr)
		return 0;
	init_mb_mgr_auto(mgr, &best);
	free_mb_mgr(mgr);
	size_t n = 0;
	for (unsigned i = 0; i < 2 && n < room; i++) {
		IMB_ARCH arch = i ? IMB_ARCH_AVX2 : best;
		if (arch == IMB_ARCH_NONE || (i && best <= arch))
			continue;
		out[n++] = (struct peer){
			.name = "ipsec-mb",
			.backend = arch_names[arch],
			.how = {
				[DERIVE] = "one ECB job over the burst: IMB_GET_NEXT_BURST, IMB_SUBMIT_BURST_NOCHECK",
				[REKEY_SEAL] = "one ECB job over the burst (IMB_SUBMIT_BURST_NOCHECK); "
					       "IMB_AESx_GCM_PRE, IMB_AESx_GCM_ENC",
				[REKEY_OPEN] = "one ECB job over the burst (IMB_SUBMIT_BURST_NOCHECK); "
					       "IMB_AESx_GCM_PRE, IMB_AESx_GCM_DEC, "
					       "tags compared",
				[CACHED_SEAL] = "IMB_AESx_GCM_ENC, keys prepared with IMB_AESx_GCM_PRE",
			},
			.open = ipsec_open,
			.pass = pass,
			.close = ipsec_close,
			.arg = arch,
		};
	}
	return n;
}
#else
const char *ipsec_version(void)
{
	return "not there";
}

size_t ipsec_peers(struct peer *out, size_t room)
{
	(void)out;
	(void)room;
	return 0;
}
#endif
