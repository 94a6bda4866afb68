/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Loading at run time: dlopen, dlclose, fork before loading, signal dispositions. The
 * program is not linked with the library, whose path is its argument. Each test has a
 * process of its own, in which it loads the library for the first time.
 */
#include "test.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <time.h>

static const char *path;
static void *lib;

static void load(void)
{
	lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!lib)
		test_fail(__FILE__, __LINE__, "dlopen", dlerror());
}

static void unload(void) { SAME(dlclose(lib), 0); }

/* The function of that name, with its type. POSIX allows the conversion. */
#define F(name) (*(__typeof__(&name) *)(void *)&(void *){ dlsym(lib, #name) })

/* Seals and opens one packet, by symbols of dlsym. */
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

/* The thread that loads the library may end. */
static void load_in_thread(void)
{
	pthread_t t;
	CHECK(pthread_create(&t, NULL, loads, NULL) == 0 && pthread_join(t, NULL) == 0);
	use();
	CHECK(pthread_create(&t, NULL, uses, NULL) == 0 && pthread_join(t, NULL) == 0);
}

/* ---- Signals ---- */

static void on_signal(int sig) { (void)sig; }

static int is_fault(int s) { return s == SIGSEGV || s == SIGBUS || s == SIGFPE; }

/* After loading, only the signals that the header names have another handler. The
 * program's handlers keep their flags. */
static void dispositions(void)
{
	struct sigaction before[65], after;
	struct sigaction mine = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	for (int s = 1; s < 65; s += 2)
		if (!is_fault(s))
			sigaction(s, &mine, NULL);
	for (int s = 1; s < 65; s++)
		sigaction(s, NULL, &before[s]);
	stack_t stack, stack_after;
	sigset_t mask, mask_after;
	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	CHECK(sigaltstack(NULL, &stack) == 0);
	load();
	CHECK(sigaltstack(NULL, &stack_after) == 0 && stack.ss_flags == stack_after.ss_flags &&
	      stack.ss_sp == stack_after.ss_sp);
	use();
	pthread_sigmask(SIG_SETMASK, NULL, &mask_after);
	for (int s = 1; s < 65; s++) {
		SAME(sigismember(&mask, s), sigismember(&mask_after, s));
		if (sigaction(s, NULL, &after) != 0)
			continue;
		if (is_fault(s))
			CHECK(after.sa_flags & SA_ONSTACK);
		else if (after.sa_handler != before[s].sa_handler ||
			 ((after.sa_flags ^ before[s].sa_flags) & ~0x04000000) != 0) {
			char t[64];
			snprintf(t, sizeof t, "signal %d: flags %#x, were %#x", s, (unsigned)after.sa_flags,
				 (unsigned)before[s].sa_flags);
			test_fail(__FILE__, __LINE__, "a handler that the header does not name", t);
		}
	}
}

static volatile sig_atomic_t handled, enough;

__attribute__((noinline)) static int deep(int n)
{
	volatile char frame[1024];
	memset((void *)(uintptr_t)frame, n, sizeof frame);
	return n > 0 ? deep(n - 1) + frame[3] : 0;
}

static void needs_stack(int sig)
{
	(void)sig;
#if defined(__x86_64__)
	deep(32);
#else
	deep(16); /* on a stack of 32 KiB */
#endif
	handled++;
}

static void *interrupts(void *thread)
{
	while (!enough && pthread_kill(*(pthread_t *)thread, SIGUSR1) == 0)
		;
	return NULL;
}

/* A handler that needs stack may interrupt calls that enter Go, as those of psp do here: 32 KiB on
 * amd64, without SA_ONSTACK, and 16 KiB with it on others. */
static void handler_within_calls(void)
{
	struct sigaction mine = { .sa_handler = needs_stack, .sa_flags = SA_RESTART };
#if !defined(__x86_64__)
	mine.sa_flags |= SA_ONSTACK;
#endif
	pthread_t self = pthread_self(), t;
	eesp_group *g;
	eesp_sender *s;
	eesp_group_config gc = EESP_GROUP_CONFIG_INIT;
	eesp_sender_config c = EESP_SENDER_CONFIG_INIT;
	CHECK(sigaction(SIGUSR1, &mine, NULL) == 0);
	load();
	gc.profile = EESP_PROFILE_PSP;
	c.id = 7;
	c.counter_mode = EESP_COUNTER_EXPLICIT;
	SAME(F(eesp_group_new)(&gc, &g), EESP_OK);
	SAME(F(eesp_group_rotate_key)(g, NULL, 0, NULL), EESP_OK);
	SAME(F(eesp_sender_new)(g, &c, &s), EESP_OK);
	size_t (*seal)(eesp_sender *, eesp_pkt *, size_t) = F(eesp_seal_burst);
	CHECK(pthread_create(&t, NULL, interrupts, &self) == 0);
	/* On a busy machine the two threads seldom run at the same time: then fewer are enough. */
	for (int sealed = 0; handled < 2000 && (sealed < 200000 || handled < 20); sealed++) {
		uint8_t room[400];
		eesp_pkt p = packet(room + 128, 100, 128, 128);
		SAME(seal(s, &p, 1), 1);
	}
	enough = 1;
	CHECK(pthread_join(t, NULL) == 0);
}

/* SIGURG, which announces urgent data, is ignored by default: it interrupts no call. */
static void urgent_data(void)
{
	load();
	use();
	const struct timespec wait = { 0, 50000000 };
	pid_t pid = fork();
	if (pid == 0) {
		usleep(10000);
		_exit(kill(getppid(), SIGURG) != 0);
	}
	SAME(nanosleep(&wait, NULL), 0);
	ends_well(pid);
}

/* A second copy of the library is refused: it would have its own counters for the same keys. */
static void second_copy(void)
{
	char copy[] = "second-XXXXXX", octets[65536];
	int from = open(path, O_RDONLY), to = mkstemp(copy);
	ssize_t n;
	CHECK(from >= 0 && to >= 0);
	while ((n = read(from, octets, sizeof octets)) > 0)
		CHECK(write(to, octets, (size_t)n) == n);
	close(from);
	close(to);
	load();
	use();
	char file[sizeof copy + 2];
	snprintf(file, sizeof file, "./%s", copy);
	lib = dlopen(file, RTLD_NOW | RTLD_LOCAL);
	unlink(copy);
	CHECK(lib != NULL);
	eesp_group *g = NULL;
	eesp_pkt p = { 0 };
	SAME(F(eesp_group_new)(NULL, &g), EESP_ERR_UNSUPPORTED);
	CHECK(g == NULL && strstr(F(eesp_last_error)(), "another copy of libeesp") &&
	      strstr(F(eesp_last_error)(), path));
	SAME(F(eesp_thread_init)(), EESP_ERR_UNSUPPORTED);
	SAME(F(eesp_seal_burst)(NULL, &p, 1), 0);
	load();
	use();
}

/* ---- The environment ---- */

static char *self;

/* Starts a process with this environment. */
static int with_environment(const char *program, char **env, const char *what)
{
	char *args[] = { (char *)(uintptr_t)program, (char *)(uintptr_t)path, (char *)(uintptr_t)what, NULL };
	int status;
	pid_t pid = fork();
	if (pid == 0) {
		CHECK(dup2(open("errors", O_RDWR | O_CREAT | O_TRUNC, 0666), 2) == 2);
		execve(program, args, env);
		_exit(77);
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	return status;
}

/* exit status: set-user-ID has no effect on this file system, or the user may not read the program */
enum { NOT_HERE = 42 };

static int access_as_is(const char *file) { return faccessat(AT_FDCWD, file, R_OK, AT_EACCESS); }

/* What such a process does. The program itself must see all variables. */
static int loads_there(const char *backend)
{
	CHECK(getenv("GODEBUG") != NULL && strncmp(getenv("GODEBUG"), "asyncpreemptoff=0", 17) == 0);
	load();
	CHECK(getenv("GODEBUG") != NULL && strncmp(getenv("GODEBUG"), "asyncpreemptoff=0", 17) == 0);
	const char *name = F(eesp_backend_name)();
	if (strcmp(backend, "none") == 0)
		return name != NULL;
	if (strcmp(backend, "any") != 0)
		return name == NULL || strcmp(name, backend) != 0;
	use();
	return name == NULL;
}

static void no_errors(void)
{
	struct stat st;
	CHECK(stat("errors", &st) == 0);
	SAME(st.st_size, 0);
	CHECK(unlink("errors") == 0);
}

/* The library reads EESP_BACKEND but not GODEBUG (inittrace would print something). */
static void environment(void)
{
	char *env[] = { "GODEBUG=asyncpreemptoff=0,inittrace=1", "EESP_BACKEND=generic", NULL };
	char *bad[] = { "GODEBUG=asyncpreemptoff=0,inittrace=1", "EESP_BACKEND=nonsense", NULL };
	SAME(with_environment(self, env, "generic"), 0);
	SAME(with_environment(self, bad, "none"), 0);
	no_errors();
}

/* In a set-user-ID program the library takes nothing from the environment. */
static void environment_setuid(void)
{
	char *env[] = { "GODEBUG=asyncpreemptoff=0,inittrace=1", "GOTRACEBACK=crash", "GOGC=nonsense",
			"EESP_BACKEND=nonsense", NULL };
	char octets[65536];
	ssize_t n;
	if (geteuid() != 0) {
		printf("     environment_setuid: not tested, only root can make such a program\n");
		return;
	}
	int from = open("/proc/self/exe", O_RDONLY), to = open("other-user", O_RDWR | O_CREAT | O_TRUNC, 0755);
	CHECK(from >= 0 && to >= 0);
	while ((n = read(from, octets, sizeof octets)) > 0)
		CHECK(write(to, octets, (size_t)n) == n);
	CHECK(fchown(to, 65534, 65534) == 0 && fchmod(to, 04755) == 0 && close(to) == 0);
	int status = with_environment("other-user", env, "any-setuid");
	unlink("other-user");
	if (WIFEXITED(status) && WEXITSTATUS(status) == NOT_HERE) {
		printf("     environment_setuid: not tested, this place has no setuid programs\n");
		return;
	}
	SAME(status, 0);
	no_errors();
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

/* If the program ignores SIGPIPE, it stays ignored, also if this is set after loading. */
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

/* Signals without a handler still have their default action. */
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

/* The program's SIGSEGV handler gets the program's faults if it was installed before loading. */
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

/* So it does if it was installed after loading, and the library works as before. */
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
	CHECK(argc >= 2);
	path = argv[1];
	self = argv[0];
	if (argc == 3 && strcmp(argv[2], "any-setuid") == 0) {
		if (getauxval(AT_SECURE) == 0 || access_as_is(path) != 0)
			return NOT_HERE;
		return loads_there("any");
	}
	if (argc == 3)
		return loads_there(argv[2]);
	ALONE(open_and_close);
	ALONE(close_unused);
	ALONE(fork_before_load);
	ALONE(load_in_thread);
	ALONE(dispositions);
	ALONE(handler_within_calls);
	ALONE(urgent_data);
	ALONE(second_copy);
	if (!emulated()) { /* they start programs */
		ALONE(environment);
		ALONE(environment_setuid);
	}
	ALONE(fault_handler_before);
	ALONE(fault_handler_after);
	ALONE(fault_handler_in_threads);
	ALONE(own_signals);
	ALONE(ignored_pipe);
	ALONE(default_actions);
	return 0;
}
