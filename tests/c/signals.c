/* SPDX-License-Identifier: BSD-3-Clause */
/* Signals to the process are delivered to the program's threads, not to the library's. */
#include "test.h"

#include <pthread.h>
#include <signal.h>
#include <sys/signalfd.h>

static volatile sig_atomic_t on_thread;

static void note(int sig)
{
	(void)sig;
	on_thread = gettid() == getpid() ? 1 : 2;
}

/* A signal that all of the program's threads block waits for signalfd. */
static void waits_for_signalfd(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	CHECK(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
	int fd = signalfd(-1, &set, SFD_CLOEXEC);
	CHECK(fd >= 0);
	for (int i = 0; i < 100; i++) {
		struct signalfd_siginfo info;
		CHECK(kill(getpid(), SIGTERM) == 0); /* kills the process if another thread takes it */
		CHECK(read(fd, &info, sizeof info) == sizeof info && info.ssi_signo == SIGTERM);
	}
	close(fd);
}

/* A handler runs on one of the program's threads. */
static void handler_runs_here(void)
{
	struct sigaction a = { .sa_handler = note, .sa_flags = SA_ONSTACK };
	CHECK(sigaction(SIGUSR1, &a, NULL) == 0);
	for (int i = 0; i < 100; i++) {
		on_thread = 0;
		CHECK(kill(getpid(), SIGUSR1) == 0);
		while (on_thread == 0)
			usleep(10);
		SAME(on_thread, 1);
	}
}

/* The program's signal mask is not changed. */
static void mask_is_kept(void)
{
	sigset_t set;
	CHECK(pthread_sigmask(SIG_BLOCK, NULL, &set) == 0);
	for (int i = 1; i < 32; i++)
		CHECK(!sigismember(&set, i));
}

int main(void)
{
	TEST(mask_is_kept);
	WORKS(eesp_thread_init());
	TEST(handler_runs_here);
	TEST(waits_for_signalfd);
	return 0;
}
