/* SPDX-License-Identifier: BSD-3-Clause */
/* Go's crypto/cipher, in a process of its own: gopeer/main.go. */
#define _GNU_SOURCE
#include "bench.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t child;
static FILE *to;
static FILE *from;
static char version[33];

static void put(const void *p, size_t n)
{
	if (fwrite(p, 1, n, to) != n)
		die("the Go peer is gone");
}

static void get(void *p, size_t n)
{
	if (fflush(to) || fread(p, 1, n, from) != n)
		die("the Go peer is gone");
}

const char *go_version(void)
{
	return version[0] ? version : "not there";
}

void go_setup(struct set *s)
{
	const uint32_t header[] = { s->c.work,          (uint32_t)s->key_len, (uint32_t)s->n, (uint32_t)s->c.burst,
				    (uint32_t)s->nkeys, s->c.threads,         AAD_LEN };
	put("S", 1);
	put(header, sizeof header);
	put(s->kdf_key, 32);
	put(s->k1, 16);
	put(s->keys, s->nkeys * s->key_len);
	put(s->context, 16 * s->n);
	put(s->nonce, 12 * s->n);
	put(s->fresh, 4 * s->n);
	put(s->nfresh, 4 * s->n);
	put(s->which, 4 * s->n);
	put(s->key, 4 * s->n);
	put(s->len, 4 * s->n);
	for (size_t i = 0; i < s->n; i++) {
		put(aad(s, i), AAD_LEN);
		if (s->c.work == REKEY_OPEN)
			put(slot(s, s->sealed, i), s->len[i] + TAG_LEN);
		else
			put(slot(s, s->plain, i), s->len[i]);
	}
}

void go_output(struct set *s)
{
	put("O", 1);
	if (s->c.work == DERIVE) {
		get(s->keys_out, s->n * s->key_len);
		return;
	}
	for (size_t i = 0; i < s->n; i++)
		get(slot(s, s->out, i), s->len[i] + (s->c.work == REKEY_OPEN ? 0 : TAG_LEN));
}

double go_round(unsigned passes)
{
	uint32_t n = passes;
	uint64_t ns;
	put("R", 1);
	put(&n, sizeof n);
	get(&ns, sizeof ns);
	return (double)ns;
}

void go_stop(void)
{
	if (!child)
		return;
	fclose(to);
	fclose(from);
	waitpid(child, NULL, 0);
	child = 0;
}

size_t go_peers(struct peer *out, size_t room, const char *program)
{
	int in[2], back[2];
	posix_spawn_file_actions_t actions;
	char *argv[] = { (char *)program, NULL };
	if (room < 1 || access(program, X_OK))
		return 0;
	if (pipe2(in, O_CLOEXEC) || pipe2(back, O_CLOEXEC))
		die("pipe: %s", strerror(errno));
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, in[0], 0);
	posix_spawn_file_actions_adddup2(&actions, back[1], 1);
	if (posix_spawn(&child, program, &actions, NULL, argv, environ))
		die("cannot run %s", program);
	posix_spawn_file_actions_destroy(&actions);
	close(in[0]);
	close(back[1]);
	signal(SIGPIPE, SIG_IGN);
	to = fdopen(in[1], "w");
	from = fdopen(back[0], "r");
	get(version, 32);
	*strchrnul(version, ' ') = 0;
	*out = (struct peer){
		.name = "go",
		.backend = "crypto/cipher",
		.how = {
			[DERIVE] = "crypto/aes Block.Encrypt",
			[REKEY_SEAL] =
			"crypto/aes Block.Encrypt; aes.NewCipher, cipher.NewGCM, Seal into a buffer kept; GOGC=400",
			[REKEY_OPEN] =
			"crypto/aes Block.Encrypt; aes.NewCipher, cipher.NewGCM, Open into a buffer kept; GOGC=400",
			[CACHED_SEAL] = "cipher.AEAD kept for each key: Seal into a buffer kept",
		},
		.remote = true,
	};
	return 1;
}
