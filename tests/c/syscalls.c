/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Runs the library under a seccomp filter made from the list in docs/dataplane.md
 * (syscalls.h, which run.sh writes): it needs no other system calls. Where a call may be
 * refused, the library returns a status. The program is not linked with the library,
 * whose path is its argument.
 */
#include "test.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>

enum { AT_LOAD = 1, LATER = 2, STATE = 4, TIME = 8, TEST_ITSELF = 16 };

static const struct { int when; long number; } listed[] = {
#include "syscalls.h"
	/* calls of the test itself */
	{ TEST_ITSELF, SYS_write }, { TEST_ITSELF, SYS_exit_group }, { TEST_ITSELF, SYS_rt_sigreturn },
};

static const char *path;
static void *lib;

static void load(void)
{
	lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!lib)
		test_fail(__FILE__, __LINE__, "dlopen", dlerror());
}

#define F(name) (*(__typeof__(&name) *)(void *)&(void *){ dlsym(lib, #name) })
#define OK(call)                                                               \
	do {                                                                   \
		int st_ = (int)(call);                                         \
		if (st_ != EESP_OK)                                            \
			test_fail(__FILE__, __LINE__, #call, F(eesp_last_error)()); \
	} while (0)

static void refused(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)context;
	char t[100];
	int n = snprintf(t, sizeof t, "FAIL system call %d, which docs/dataplane.md does not list\n", info->si_syscall);
	_exit(write(1, t, (size_t)n) == n ? 1 : 2);
}

static void apply(struct sock_filter *f, size_t n)
{
	struct sock_fprog p = { .len = (unsigned short)n, .filter = f };
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &p) == 0);
}

/* Allows only the calls that are listed for these times. */
static void only(int when)
{
	static struct sock_filter f[COUNT(listed) + 3];
	struct sigaction a = { .sa_sigaction = refused, .sa_flags = SA_SIGINFO };
	size_t n = 0;
	CHECK(sigaction(SIGSYS, &a, NULL) == 0);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	for (size_t i = 0; i < COUNT(listed); i++)
		if (listed[i].when & (when | TEST_ITSELF))
			f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)listed[i].number, 0,
							      0);
	for (size_t i = 1; i < n; i++) {
		CHECK(n - i <= 255);
		f[i].jt = (uint8_t)(n - i);
	}
	f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	apply(f, n);
}

/* This call fails with EPERM from now on. */
static void without(long number)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	apply(f, COUNT(f));
}

static struct { eesp_group *g, *psp; eesp_sender *s, *clock; eesp_receiver *r, *careful; } k;

static void set_up(void)
{
	eesp_sender_config c = EESP_SENDER_CONFIG_INIT;
	eesp_receiver_config rc = EESP_RECEIVER_CONFIG_INIT;
	eesp_group_config gc = EESP_GROUP_CONFIG_INIT;
	OK(F(eesp_group_new)(NULL, &k.g));
	OK(F(eesp_group_generate_root_key)(k.g, EESP_LEVEL_ZONE, root_id, 32));
	c.id = 7;
	c.flags = EESP_SENDER_OPTIONS;
	OK(F(eesp_sender_new)(k.g, &c, &k.clock));
	c.id = 8;
	c.counter_mode = EESP_COUNTER_EXPLICIT;
	OK(F(eesp_sender_new)(k.g, &c, &k.s));
	OK(F(eesp_receiver_new)(&k.g, 1, NULL, &k.r));
	rc.replay_window = 1024;
	OK(F(eesp_receiver_new)(&k.g, 1, &rc, &k.careful));
	gc.profile = EESP_PROFILE_PSP;
	OK(F(eesp_group_new)(&gc, &k.psp));
}

static void packets(eesp_sender *s)
{
	uint8_t room[2][EESP_MAX_SEALED_LEN(64)];
	eesp_pkt p[2];
	for (int i = 0; i < 2; i++)
		p[i] = packet(room[i] + EESP_MAX_HEADER, 64, EESP_MAX_HEADER, EESP_ICV_LEN);
	SAME(F(eesp_seal_burst)(s, p, 2), 2);
	for (int i = 0; i < 2; i++)
		p[i] = sealed(&p[i]);
	SAME(F(eesp_open_burst)(k.r, &p[0], 1), 1);
	SAME(F(eesp_open_burst)(k.careful, &p[1], 1), 1);
}

static void *of_a_thread(void *arg)
{
	OK(F(eesp_thread_init)());
	packets(k.s);
	return arg;
}

/* Uses everything, so often that the runtime collects garbage and allocates memory. */
static void use(void)
{
	set_up();
	for (int i = 0; i < 12; i++) {
		pthread_t t[6];
		for (size_t x = 0; x < COUNT(t); x++)
			CHECK(pthread_create(&t[x], NULL, of_a_thread, NULL) == 0);
		for (size_t x = 0; x < COUNT(t); x++)
			CHECK(pthread_join(t[x], NULL) == 0);
		packets(k.s);
		packets(k.clock);
	}
	for (uint64_t i = 3; i < 8000; i++)
		OK(F(eesp_group_rotate)(k.g, EESP_LEVEL_ZONE, i, NULL));
	for (int i = 0; i < 100; i++) {
		eesp_group *g[8];
		for (size_t x = 0; x < COUNT(g); x++) {
			OK(F(eesp_group_new)(NULL, &g[x]));
			OK(F(eesp_group_generate_root_key)(g[x], EESP_LEVEL_ZONE, root_id, 32));
		}
		for (size_t x = 0; x < COUNT(g); x++)
			F(eesp_group_free)(g[x]);
	}
	OK(F(eesp_group_rotate_key)(k.psp, NULL, 0, NULL));
	F(eesp_thread_keep_warm)();
	F(eesp_sender_free)(k.s);
	F(eesp_sender_free)(k.clock);
	F(eesp_receiver_free)(k.r);
	F(eesp_receiver_free)(k.careful);
	F(eesp_group_free)(k.psp);
	F(eesp_group_free)(k.g);
}

static void listed_is_enough_to_load(void)
{
	only(AT_LOAD | LATER);
	load();
	use();
}

static void listed_is_enough_later(void)
{
	load();
	only(LATER);
	use();
}

/* Makes a sender with a state file of that name, and with locks on its ID if there is a directory for them. */
static int of_a_file(const char *name, const char *locks, eesp_sender **s)
{
	eesp_sender_config c = EESP_SENDER_CONFIG_INIT;
	c.id = 9;
	c.counter_mode = EESP_COUNTER_RESERVED;
	c.flags = EESP_SENDER_OPTIONS;
	c.state_path = name;
	c.reserve_run = 32;
	c.lock_dir = locks;
	return F(eesp_sender_new)(k.g, &c, s);
}

/* The barrier that lets bursts announce themselves by plain stores: without it, or from the moment on at which it is
 * refused, they use locked operations. */
static void no_barrier(void)
{
	without(SYS_membarrier);
	load();
	use();
}

static void no_barrier_later(void)
{
	load();
	set_up();
	packets(k.s);
	without(SYS_membarrier);
	use();
}

static volatile sig_atomic_t barriers;

/* Instead of the barrier, which works without other threads in bursts. */
static void counted(int sig, siginfo_t *info, void *context)
{
	ucontext_t *u = context;
	(void)sig;
	(void)info;
	barriers++;
#if defined(__x86_64__)
	u->uc_mcontext.gregs[REG_RAX] = 0;
#else
	u->uc_mcontext.regs[0] = 0;
#endif
}

static void *opens(void *arg)
{
	eesp_pkt p = sealed(arg);
	SAME(F(eesp_open_burst)(k.careful, &p, 1), 1);
	return NULL;
}

/* No burst needs the barrier; a change of keys, and a second thread with a receiver's windows, may not do without. */
static void barrier_where_needed(void)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_membarrier, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sigaction a = { .sa_sigaction = counted, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	uint8_t room[EESP_MAX_SEALED_LEN(64)];
	pthread_t t;
	load();
	set_up();
	packets(k.s);
	if (syscall(SYS_membarrier, 1 << 3, 0, 0) != 0) /* MEMBARRIER_CMD_PRIVATE_EXPEDITED */
		return; /* not on this system: nothing to see */
	CHECK(sigaction(SIGSYS, &a, NULL) == 0);
	apply(f, COUNT(f));
	for (int i = 0; i < 1000; i++)
		packets(k.s);
	SAME(barriers, 0);
	eesp_pkt p = packet(room + EESP_MAX_HEADER, 64, EESP_MAX_HEADER, EESP_ICV_LEN);
	SAME(F(eesp_seal_burst)(k.s, &p, 1), 1);
	CHECK(pthread_create(&t, NULL, opens, &p) == 0 && pthread_join(t, NULL) == 0);
	CHECK(barriers > 0);
	int before = barriers;
	OK(F(eesp_group_rotate)(k.g, EESP_LEVEL_ZONE, 3, NULL));
	CHECK(barriers > before);
}

static void with_a_state_file(void)
{
	char name[64];
	snprintf(name, sizeof name, "state.%d", (int)getpid());
	load();
	set_up();
	only(LATER | STATE);
	eesp_sender *s;
	for (int i = 0; i < 2; i++) {
		OK(of_a_file(name, NULL, &s));
		for (int x = 0; x < 100; x++)
			packets(s);
		F(eesp_sender_free)(s);
	}
}

/* With a fixed epoch the directory also has a file with its start. */
static void with_a_lock_directory(void)
{
	eesp_sender_config c = EESP_SENDER_CONFIG_INIT;
	eesp_sender *s, *second = NULL;
	char name[] = "locks.XXXXXX";
	struct timespec t;
	load();
	set_up();
	CHECK(mkdtemp(name) != NULL && clock_gettime(CLOCK_REALTIME, &t) == 0);
	only(LATER | STATE);
	c.id = 10;
	c.flags = EESP_SENDER_OPTIONS | EESP_SENDER_FIXED_EPOCH;
	c.epoch = 1;
	c.epoch_start_ns = (int64_t)t.tv_sec * 1000000000 - 100;
	c.engine_bits = 1;
	c.lock_dir = name;
	for (int i = 0; i < 2; i++) {
		OK(F(eesp_sender_new)(k.g, &c, &s));
		packets(s);
		F(eesp_sender_free)(s);
		c.epoch_start_ns++;
		SAME(F(eesp_sender_new)(k.g, &c, &second), EESP_ERR_EXISTS);
		c.epoch_start_ns--;
	}
}

/* Each system call for files is refused in turn: the library returns a status, and seals nothing above the mark. */
static void files_refused(void)
{
	for (size_t i = 0; i < COUNT(listed); i++) {
		if (!(listed[i].when & STATE))
			continue;
		fflush(stdout);
		pid_t pid = fork();
		if (pid == 0) {
			char name[] = "files.XXXXXX", state[64];
			eesp_sender *s = NULL;
			alarm(120);
			CHECK(mkdtemp(name) != NULL);
			snprintf(state, sizeof state, "%s/state", name);
			load();
			set_up();
			packets(k.s);
			if (listed[i].number == SYS_write) /* the test needs it to say what is wrong */
				_exit(0);
			without(listed[i].number);
			int st = of_a_file(state, name, &s);
			if (st != EESP_OK) {
				SAME(st, EESP_ERR_STATE);
				CHECK(s == NULL && strlen(F(eesp_last_error)()) > 4);
			}
			packets(k.s);
			if (st == EESP_OK)
				packets(s);
			_exit(0);
		}
		ends_well(pid);
	}
}

/* If adjtimex cannot say whether the clock is right, there is no receiver, unless flags say to trust the clock. */
static void by_time(int when, uint32_t flags, int want)
{
	eesp_group_config gc = EESP_GROUP_CONFIG_INIT;
	eesp_receiver_config rc = EESP_RECEIVER_CONFIG_INIT;
	eesp_sender_config c = EESP_SENDER_CONFIG_INIT;
	eesp_group *g;
	eesp_sender *s;
	eesp_receiver *r;
	char mark[64];
	uint8_t room[EESP_MAX_SEALED_LEN(64)];
	snprintf(mark, sizeof mark, "mark.%d", (int)getpid());
	load();
	if (when)
		only(LATER | STATE | when);
	else
		without(SYS_adjtimex);
	gc.flags = EESP_GROUP_TIME;
	OK(F(eesp_group_new)(&gc, &g));
	OK(F(eesp_group_generate_root_key)(g, EESP_LEVEL_ZONE, root_id, 32));
	c.id = 11;
	c.flags = EESP_SENDER_OPTIONS;
	OK(F(eesp_sender_new)(g, &c, &s));
	rc.replay_mode = EESP_REPLAY_TIME;
	rc.flags = flags;
	rc.mark_path = when ? mark : NULL;
	SAME(F(eesp_receiver_new)(&g, 1, &rc, &r), want);
	if (want != EESP_OK)
		return;
	eesp_pkt q = { .status = EESP_ERR_STALE };
	for (int i = 0; i < 1000 && q.status == EESP_ERR_STALE; i++) { /* sent just after the receiver was made */
		struct timespec ms = { 0, 1000000 };
		nanosleep(&ms, NULL);
		eesp_pkt p = packet(room + EESP_MAX_HEADER, 64, EESP_MAX_HEADER, EESP_ICV_LEN);
		SAME(F(eesp_seal_burst)(s, &p, 1), 1);
		q = sealed(&p);
		F(eesp_open_burst)(r, &q, 1);
	}
	SAME(q.status, EESP_OK);
	F(eesp_receiver_free)(r);
	F(eesp_sender_free)(s);
	F(eesp_group_free)(g);
}
static void listed_is_enough_by_time(void) { by_time(TIME, EESP_RECEIVER_CLOCK_TRUSTED, EESP_OK); }
static void nobody_says_what_time_it_is(void) { by_time(0, 0, EESP_ERR_CLOCK); }
static void nobody_need_say_it(void) { by_time(0, EESP_RECEIVER_CLOCK_TRUSTED, EESP_OK); }

/* The filter refuses calls at all. */
static void filter_refuses(void)
{
	pid_t pid = fork();
	if (pid == 0) {
		/* discards the report of the refused call */
		CHECK(freopen("/dev/null", "w", stdout) != NULL && dup2(fileno(stdout), 1) == 1);
		only(LATER);
		syscall(SYS_getppid);
		_exit(0);
	}
	int status;
	CHECK(waitpid(pid, &status, 0) == pid);
	SAME(status, 1 << 8);
}

static void no_locked_memory(void)
{
	eesp_group *g = NULL;
	load();
	OK(F(eesp_self_test)());
	without(SYS_mlock);
	int st = EESP_OK;
	for (int i = 0; i < 64 && st == EESP_OK; i++) {
		st = F(eesp_group_new)(NULL, &g);
		if (st == EESP_OK)
			st = F(eesp_group_generate_root_key)(g, EESP_LEVEL_ZONE, root_id, 32);
	}
	SAME(st, EESP_ERR_MEMORY);
}

static void no_random_numbers(void)
{
	load();
	set_up();
	without(SYS_getrandom);
	/* The vDSO of newer kernels gives random octets without a call. */
	int st = F(eesp_group_generate_root_key)(k.g, EESP_LEVEL_USER, root_id, 32);
	CHECK(st == EESP_OK || st == EESP_ERR_UNSUPPORTED);
	SAME(F(eesp_group_rotate)(k.g, EESP_LEVEL_ZONE, 3, NULL), st);
	SAME(F(eesp_group_rotate_key)(k.psp, NULL, 0, NULL), st);
	packets(k.s);
}

static void *waits_then_calls(void *gate)
{
	pthread_mutex_lock(gate);
	pthread_mutex_unlock(gate);
	return of_a_thread(gate);
}

static void no_threads(void)
{
	pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
	pthread_t t[6];
	load();
	set_up();
	pthread_mutex_lock(&gate);
	for (size_t x = 0; x < COUNT(t); x++)
		CHECK(pthread_create(&t[x], NULL, waits_then_calls, &gate) == 0);
	without(SYS_clone);
#ifdef SYS_clone3
	without(SYS_clone3);
#endif
	pthread_mutex_unlock(&gate);
	for (size_t x = 0; x < COUNT(t); x++)
		CHECK(pthread_join(t[x], NULL) == 0);
	for (uint64_t i = 3; i < 8000; i++)
		OK(F(eesp_group_rotate)(k.g, EESP_LEVEL_ZONE, i, NULL));
}

static void no_files(void)
{
	eesp_sender_config c = EESP_SENDER_CONFIG_INIT;
	eesp_sender *s = NULL;
	load();
	set_up();
	without(SYS_openat);
	c.id = 9;
	c.counter_mode = EESP_COUNTER_RESERVED;
	c.state_path = "no-state";
	c.flags = EESP_SENDER_OPTIONS;
	SAME(F(eesp_sender_new)(k.g, &c, &s), EESP_ERR_STATE);
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
	ALONE(filter_refuses);
	ALONE(listed_is_enough_to_load);
	ALONE(listed_is_enough_later);
	ALONE(with_a_state_file);
	ALONE(with_a_lock_directory);
	ALONE(files_refused);
	ALONE(listed_is_enough_by_time);
	ALONE(nobody_says_what_time_it_is);
	ALONE(nobody_need_say_it);
	ALONE(no_locked_memory);
	ALONE(no_random_numbers);
	ALONE(no_threads);
	ALONE(no_barrier);
	ALONE(no_barrier_later);
	ALONE(barrier_where_needed);
	ALONE(no_files);
	return 0;
}
