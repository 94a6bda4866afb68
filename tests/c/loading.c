/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Loading at run time: dlopen, dlclose, fork before it, signal dispositions.
 * Not linked with the library, whose path is the argument. Each test has a
 * process of its own, so that it can load the library for the first time.
 */
#include "test.h"

#include <dlfcn.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>

static const char *path;
static void *lib;

static void load(void)
{
	lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!lib)
		test_fail(__FILE__, __LINE__, "dlopen", dlerror());
}

static void unload(void) { SAME(dlclose(lib), 0); }

/* The function of that name, with its type. POSIX grants the conversion. */
#define F(name) (*(__typeof__(&name) *)(void *)&(void *){ dlsym(lib, #name) })

/* One packet, through symbols looked up. */
static void use(void)
{
	static uint64_t id = 1;
	uint8_t room[400];
	eesp_group *g;
	eesp_sender *s;
	eesp_receiver *r;
	eesp_sender_config c = EESP_SENDER_CONFIG_INIT;
	c.id = id++;
	CHECK(F(eesp_version)() == EESP_VERSION);
	SAME(F(eesp_group_new)(NULL, &g), EESP_OK);
	SAME(F(eesp_group_generate_root_key)(g, EESP_LEVEL_ZONE, root_id, 16), EESP_OK);
	SAME(F(eesp_sender_new)(g, &c, &s), EESP_OK);
	SAME(F(eesp_receiver_new)(&g, 1, NULL, &r), EESP_OK);
	eesp_pkt p = packet(room + 128, 100, 128, 128);
	fill(p.data, 1, 100);
	SAME(F(eesp_seal_burst)(s, &p, 1), 1);
	eesp_pkt q = sealed(&p);
	SAME(F(eesp_open_burst)(r, &q, 1), 1);
	CHECK(filled(q.out, 1, 100));
	F(eesp_sender_free)(s);
	F(eesp_receiver_free)(r);
	F(eesp_group_free)(g);
}

static int mapped(void)
{
	char line[1024];
	int found = 0;
	FILE *f = fopen("/proc/self/maps", "r");
	CHECK(f != NULL);
	while (fgets(line, sizeof line, f))
		found |= strstr(line, "libeesp.so") != NULL;
	fclose(f);
	return found;
}

static void open_and_close(void)
{
	CHECK(!mapped());
	for (int i = 0; i < 5; i++) {
		load();
		use();
		unload();
		CHECK(mapped());
	}
	load();
	use();
}

static void close_unused(void)
{
	load();
	unload();
	load();
	use();
}

static void fork_before_load(void)
{
	for (int i = 0; i < 2; i++) {
		fflush(stdout);
		pid_t pid = fork();
		if (pid == 0) {
			load();
			use();
			_exit(0);
		}
		ends_well(pid);
	}
	load();
	use();
}

static void *loads(void *arg)
{
	load();
	return arg;
}

static void *uses(void *arg)
{
	use();
	return arg;
}

/* The thread that loads it may end. */
static void load_in_thread(void)
{
	pthread_t t;
	CHECK(pthread_create(&t, NULL, loads, NULL) == 0 && pthread_join(t, NULL) == 0);
	use();
	CHECK(pthread_create(&t, NULL, uses, NULL) == 0 && pthread_join(t, NULL) == 0);
}

/* ---- Signals ---- */

static void on_signal(int sig) { (void)sig; }

/* Only the signals that the header names have another handler afterwards. */
static void dispositions(void)
{
	struct sigaction before[65], after;
	for (int s = 1; s < 65; s++)
		sigaction(s, NULL, &before[s]);
	struct sigaction mine = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	CHECK(sigaction(SIGINT, &mine, NULL) == 0 && sigaction(SIGUSR1, &mine, NULL) == 0);
	sigset_t mask, mask_after;
	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	load();
	use();
	pthread_sigmask(SIG_SETMASK, NULL, &mask_after);
	for (int s = 1; s < 65; s++) {
		SAME(sigismember(&mask, s), sigismember(&mask_after, s));
		if (sigaction(s, NULL, &after) != 0 || s == SIGINT || s == SIGUSR1)
			continue;
		int named = s == SIGSEGV || s == SIGBUS || s == SIGFPE || s == SIGURG || s == SIGPIPE;
		if (named)
			CHECK(after.sa_flags & SA_ONSTACK);
		else if (after.sa_handler != before[s].sa_handler) {
			char t[64];
			snprintf(t, sizeof t, "signal %d", s);
			test_fail(__FILE__, __LINE__, "a handler that the header does not name", t);
		}
	}
	CHECK(sigaction(SIGINT, NULL, &after) == 0 && after.sa_handler == on_signal);
	CHECK(sigaction(SIGUSR1, NULL, &after) == 0 && after.sa_handler == on_signal);
}

/* Writes to a pipe that has no reader. */
static ssize_t broken_pipe(void)
{
	int fd[2];
	CHECK(pipe(fd) == 0 && close(fd[0]) == 0);
	ssize_t n = write(fd[1], "x", 1);
	close(fd[1]);
	return n;
}

/* A SIGPIPE that the program ignores stays ignored, also if it does so later. */
static void ignored_pipe(void)
{
	CHECK(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
	load();
	use();
	SAME(broken_pipe(), -1);
	SAME(errno, EPIPE);
	CHECK(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
	SAME(broken_pipe(), -1);
	use();
}

static void dies_of_pipe(void)
{
	load();
	use();
	broken_pipe();
}

static void faults_unhandled(void)
{
	CHECK(freopen("/dev/null", "w", stderr) != NULL);
	load();
	use();
	*(volatile uint8_t *)guarded(1).end = 1;
}

static int signal_of(void (*f)(void))
{
	int status;
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		f();
		_exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

/* Default actions are still taken. */
static void default_actions(void)
{
	SAME(signal_of(dies_of_pipe), SIGPIPE);
	SAME(signal_of(faults_unhandled), SIGSEGV);
}

static struct guarded hole;
static volatile sig_atomic_t faults;
static sigjmp_buf out;

static void on_fault(int sig, siginfo_t *info, void *context)
{
	(void)context;
	if (sig == SIGSEGV && info->si_addr == hole.end)
		faults++;
	siglongjmp(out, 1);
}

static void own_fault_handler(void)
{
	struct sigaction mine = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	CHECK(sigaction(SIGSEGV, &mine, NULL) == 0);
}

static void fault(int want)
{
	if (sigsetjmp(out, 1) == 0)
		*(volatile uint8_t *)hole.end = 1;
	SAME(faults, want);
}

static void own_stack(void)
{
	static uint8_t stack[65536];
	stack_t ss = { .ss_sp = stack, .ss_size = sizeof stack };
	CHECK(sigaltstack(&ss, NULL) == 0);
}

/* A program's SIGSEGV handler gets the program's faults, be it there before... */
static void fault_handler_before(void)
{
	hole = guarded(1);
	own_stack();
	own_fault_handler();
	fault(1);
	load();
	fault(2);
	use();
	fault(3);
	use();
}

/* ... or put in place after loading; and then the library works as before. */
static void fault_handler_after(void)
{
	hole = guarded(1);
	own_stack();
	load();
	use();
	own_fault_handler();
	fault(1);
	use();
	fault(2);
}

static void *own_stack_thread(void *arg)
{
	own_stack();
	use();
	fault(2);
	return arg;
}

static void fault_handler_in_threads(void)
{
	pthread_t t;
	hole = guarded(1);
	own_stack();
	own_fault_handler();
	load();
	fault(1);
	CHECK(pthread_create(&t, NULL, own_stack_thread, NULL) == 0 && pthread_join(t, NULL) == 0);
}

static void *raises(void *arg)
{
	SAME(raise(SIGUSR1), 0);
	return arg;
}

static volatile sig_atomic_t seen;
static void on_user(int sig) { seen += sig; }

/* Asynchronous signals reach the program's handlers. */
static void own_signals(void)
{
	load();
	use();
	struct sigaction mine = { .sa_handler = on_user, .sa_flags = SA_ONSTACK };
	CHECK(sigaction(SIGUSR1, &mine, NULL) == 0 && sigaction(SIGINT, &mine, NULL) == 0);
	pthread_t t;
	CHECK(pthread_create(&t, NULL, raises, NULL) == 0 && pthread_join(t, NULL) == 0);
	SAME(raise(SIGINT), 0);
	SAME(seen, SIGUSR1 + SIGINT);
}

#define ALONE(f)                                                               \
	do {                                                                   \
		in_child(f);                                                   \
		printf("ok   %s: %s\n", test_program(__FILE__), #f);           \
	} while (0)

int main(int argc, char **argv)
{
	CHECK(argc == 2);
	path = argv[1];
	ALONE(open_and_close);
	ALONE(close_unused);
	ALONE(fork_before_load);
	ALONE(load_in_thread);
	ALONE(dispositions);
	ALONE(fault_handler_before);
	ALONE(fault_handler_after);
	ALONE(fault_handler_in_threads);
	ALONE(own_signals);
	ALONE(ignored_pipe);
	ALONE(default_actions);
	return 0;
}
