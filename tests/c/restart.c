/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A sender is killed (SIGKILL) while it seals, many times. It writes each pair of ID and
 * Epoch | Counter to a pipe. No pair may come twice.
 */
#include "test.h"

#include <signal.h>

enum { KILLS = 40, BURST = 32, SENDERS = 2 };

struct used { uint64_t id, tsc; };

/* The process that is killed: two senders share one ID, as a process may do. */
_Noreturn static void sends(int clock, const char *state)
{
	eesp_group *g = new_group(0, EESP_LEVELS_ZONE);
	eesp_sender_config c = EESP_SENDER_CONFIG_INIT;
	eesp_sender *s[SENDERS];
	c.id = 7;
	/* below the rate of packets here: without a limit they would use the next process's counters */
	c.rate_log2 = 17;
	if (!clock) {
		c.rate_log2 = 0;
		c.counter_mode = EESP_COUNTER_RESERVED;
		c.state_path = state;
		c.reserve_run = 500;
	}
	for (int i = 0; i < SENDERS; i++)
		WORKS(eesp_sender_new(g, &c, &s[i]));
	static uint8_t room[BURST][EESP_MAX_SEALED_LEN(8)];
	for (unsigned burst = 0;; burst++) {
		eesp_pkt p[BURST];
		struct used u[BURST];
		for (size_t i = 0; i < BURST; i++)
			p[i] = packet(room[i] + EESP_MAX_HEADER, 8, EESP_MAX_HEADER, EESP_ICV_LEN);
		size_t good = eesp_seal_burst(s[burst % SENDERS], p, BURST);
		size_t n = 0;
		for (size_t i = 0; i < BURST; i++) {
			if (p[i].status != EESP_OK) {
				SAME(p[i].status, EESP_ERR_CLOCK); /* ahead of the clock: try later */
				continue;
			}
			const uint8_t *h = p[i].out; /* read from the packet, not from the descriptor */
			u[n].id = (uint64_t)h[4] << 24 | (uint64_t)h[5] << 16 | (uint64_t)h[6] << 8 | h[7];
			u[n].tsc = 0;
			for (int k = 8; k < 16; k++)
				u[n].tsc = u[n].tsc << 8 | h[k];
			n++;
		}
		SAME(n, good);
		if (n && write(STDOUT_FILENO, u, n * sizeof *u) != (ssize_t)(n * sizeof *u))
			_exit(1); /* the reader is gone */
	}
}

static int by_value(const void *a, const void *b)
{
	const struct used *x = a, *y = b;
	if (x->id != y->id)
		return x->id < y->id ? -1 : 1;
	return x->tsc < y->tsc ? -1 : x->tsc > y->tsc;
}

static void killed_often(const char *mode, const char *state)
{
	struct used *all = NULL;
	size_t n = 0, room = 0;
	for (int kill_no = 0; kill_no < KILLS; kill_no++) {
		int fd[2];
		pid_t pid;
		posix_spawn_file_actions_t actions;
		char **argv = self_command((const char *[]){ mode, state, NULL });
		CHECK(pipe(fd) == 0);
		posix_spawn_file_actions_init(&actions);
		posix_spawn_file_actions_adddup2(&actions, fd[1], STDOUT_FILENO);
		posix_spawn_file_actions_addclose(&actions, fd[0]);
		posix_spawn_file_actions_addclose(&actions, fd[1]);
		CHECK(posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ) == 0);
		posix_spawn_file_actions_destroy(&actions);
		close(fd[1]);
		/* Read some bursts, of a different number each time; after the kill, the rest of the pipe. */
		size_t want = (size_t)(1 + kill_no * 37 % 150) * BURST, got = 0;
		int alive = 1;
		for (;;) {
			if (n + 4096 > room) {
				room = 2 * room + 8192;
				all = realloc(all, room * sizeof *all);
				CHECK(all != NULL);
			}
			ssize_t k = read(fd[0], all + n, 4096 * sizeof *all);
			CHECK(k >= 0 && k % (ssize_t)sizeof *all == 0);
			if (k == 0)
				break;
			got += (size_t)k / sizeof *all;
			n += (size_t)k / sizeof *all;
			if (alive && got >= want) {
				CHECK(kill(pid, SIGKILL) == 0);
				alive = 0;
			}
		}
		close(fd[0]);
		int status;
		CHECK(waitpid(pid, &status, 0) == pid);
		CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && got >= want);
	}
	CHECK(n >= KILLS * BURST);
	qsort(all, n, sizeof *all, by_value);
	for (size_t i = 1; i < n; i++)
		CHECK(by_value(&all[i - 1], &all[i]) != 0);
	free(all);
}

static void killed_with_clock(void) { killed_often("clock", ""); }

static void killed_with_state_file(void)
{
	char dir[] = "./restart-XXXXXX", state[64], lock[80];
	CHECK(mkdtemp(dir) != NULL);
	snprintf(state, sizeof state, "%s/counter", dir);
	killed_often("reserved", state);
	snprintf(lock, sizeof lock, "%s.lock", state); /* left by the last process, which was killed */
	CHECK(unlink(lock) == 0 && unlink(state) == 0 && rmdir(dir) == 0);
}

int main(int argc, char **argv)
{
	if (argc == 3)
		sends(strcmp(argv[1], "clock") == 0, argv[2]);
	TEST(killed_with_clock);
	TEST(killed_with_state_file);
	return 0;
}
