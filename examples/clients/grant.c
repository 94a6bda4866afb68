/* SPDX-License-Identifier: BSD-3-Clause */
/* Gets data keys for a client, with OpenSSL: docs/control.md, "Clients outside". */
#include "grant.h"

#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fail(char error[256], const char *what, const char *why)
{
	snprintf(error, 256, "%s: %s", what, why);
	return -1;
}

/* Certificates of a cluster name their holder in a URI: eesp://CLUSTER/member/NAME. */
static int is_granter(SSL *ssl, const char *name)
{
	X509 *cert = SSL_get0_peer_certificate(ssl);
	GENERAL_NAMES *names = cert == NULL ? NULL : X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	char want[160];
	int n = snprintf(want, sizeof want, "/member/%s", name), found = 0;
	for (int i = 0; names != NULL && i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);
		if (g->type != GEN_URI)
			continue;
		const char *uri = (const char *)ASN1_STRING_get0_data(g->d.uniformResourceIdentifier);
		int len = ASN1_STRING_length(g->d.uniformResourceIdentifier);
		const int host = 7 + 32; /* eesp:// and the cluster's name */
		found |= len == host + n && memcmp(uri, "eesp://", 7) == 0 && memcmp(uri + host, want, (size_t)n) == 0;
	}
	GENERAL_NAMES_free(names);
	return found;
}

static uint64_t number(const uint8_t *b, size_t n)
{
	uint64_t x = 0;
	while (n-- > 0)
		x = x << 8 | *b++;
	return x;
}

/* Finds the field with a number in b. Fields are number u16 (with the top bit: readers must
 * know it), length u16, value. */
static const uint8_t *field(const uint8_t *b, size_t n, unsigned which, size_t *len)
{
	while (n >= 4) {
		size_t l = (size_t)number(b + 2, 2);
		if (l > n - 4)
			break;
		if ((number(b, 2) & 0x7fff) == which) {
			*len = l;
			return b + 4;
		}
		b += 4 + l;
		n -= 4 + l;
	}
	*len = 0;
	return NULL;
}

static uint64_t value(const uint8_t *b, size_t n, unsigned which)
{
	size_t len;
	const uint8_t *v = field(b, n, which, &len);
	return v != NULL && len <= 8 ? number(v, len) : 0;
}

/* Reads one direction: a list of one entry, with its length in front. */
static int direction(const uint8_t *b, size_t n, unsigned which, eesp_data_key *key)
{
	size_t len, key_len, options_len;
	const uint8_t *v = field(b, n, which, &len), *k, *o = field(b, n, 8, &options_len);
	memset(key, 0, sizeof *key);
	if (v == NULL || len < 2 || number(v, 2) != len - 2)
		return -1;
	v += 2;
	len -= 2;
	key->profile = (uint8_t)value(b, n, 7);
	key->id = key->profile == EESP_PROFILE_PSP ? value(v, len, 6) : value(v, len, 1);
	key->epoch = (uint16_t)value(v, len, 2);
	key->v = (uint8_t)value(v, len, 3);
	k = field(v, len, 5, &key_len);
	if (k == NULL || (key_len != 16 && key_len != 32) || options_len > sizeof key->options)
		return -1;
	key->key_len = (uint8_t)key_len;
	memcpy(key->key, k, key_len);
	if (o != NULL) {
		key->options_len = (uint8_t)options_len;
		memcpy(key->options, o, options_len);
	}
	return 0;
}

/* A client grant is "EESP", type 13, version 1, flags u16, length u32, fields. */
static int parse(const uint8_t *b, size_t n, struct grant *out)
{
	if (n < 12 || memcmp(b, "EESP\x0d\x01\0\0", 8) != 0 || number(b + 8, 4) != n - 12)
		return -1;
	b += 12;
	n -= 12;
	out->lease = (unsigned)value(b, n, 4);
	out->renew_after = (unsigned)value(b, n, 5);
	return direction(b, n, 2, &out->up) != 0 || direction(b, n, 3, &out->down) != 0 ? -1 : 0;
}

static int talk(SSL *ssl, const struct grant_from *from, const char *group, uint64_t renew, struct grant *out,
		char error[256])
{
	char body[160], request[512];
	uint8_t answer[8192];
	size_t n = 0;
	if (!is_granter(ssl, from->granter))
		return fail(error, from->addr, "another host than the granter");
	snprintf(body, sizeof body, "{\"group\":\"%s\",\"renew\":%llu}", group, (unsigned long long)renew);
	int len =
	snprintf(request, sizeof request, "POST /v1/grant HTTP/1.0\r\nHost: granter\r\nContent-Length: %zu\r\n\r\n%s",
		 strlen(body), body);
	if (SSL_write(ssl, request, len) != len)
		return fail(error, from->addr, "the connection broke");
	for (int got; n < sizeof answer - 1 && (got = SSL_read(ssl, answer + n, (int)(sizeof answer - 1 - n))) > 0;)
		n += (size_t)got;
	answer[n] = 0;
	char *end = strstr((char *)answer, "\r\n\r\n");
	int code = 0, result = -1;
	if (end == NULL || sscanf((char *)answer, "HTTP/%*s %d", &code) != 1)
		fail(error, from->addr, n == 0 ? "refused: is the certificate a client's?" : "no answer of a granter");
	else if (code != 200)
		fail(error, "refused", strtok(end + 4, "\n"));
	else if ((result = parse((uint8_t *)end + 4, n - (size_t)(end + 4 - (char *)answer), out)) != 0)
		fail(error, from->addr, "not a client grant");
	OPENSSL_cleanse(answer, sizeof answer);
	return result;
}

int grant_get(const struct grant_from *from, const char *group, uint64_t renew, struct grant *out, char error[256])
{
	char file[3][1024];
	int result = -1;
	for (int i = 0; i < 3; i++)
		snprintf(file[i], sizeof file[i], "%s/%s", from->dir,
			 i == 0 ? "ca.crt" : i == 1 ? "client.crt" : "client.key");
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	BIO *bio = NULL;
	SSL *ssl = NULL;
	if (ctx == NULL || !SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) ||
	    !SSL_CTX_load_verify_locations(ctx, file[0], NULL) ||
	    SSL_CTX_use_certificate_file(ctx, file[1], SSL_FILETYPE_PEM) != 1 ||
	    SSL_CTX_use_PrivateKey_file(ctx, file[2], SSL_FILETYPE_PEM) != 1) {
		fail(error, from->dir, "client.key, client.crt or ca.crt is missing or wrong");
	} else {
		SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
		bio = BIO_new_ssl_connect(ctx);
		BIO_get_ssl(bio, &ssl);
		BIO_set_conn_hostname(bio, from->addr);
		if (BIO_do_connect(bio) != 1) {
			long v = SSL_get_verify_result(ssl);
			fail(error, from->addr, v != X509_V_OK ? X509_verify_cert_error_string(v) : "no connection");
		} else {
			result = talk(ssl, from, group, renew, out, error);
		}
	}
	BIO_free_all(bio);
	SSL_CTX_free(ctx);
	return result;
}
