/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A process that closes descriptors it did not open, can start few threads, or starts and
 * ends many. The library goes on working and does not grow.
 */
#include "test.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>

/* Packets on the fast path, packets that enter Go, and set-up, which makes garbage. */
static void work(int rounds)
{
	eesp_group *psp = new_psp_group();
	struct kit k = new_kit(0, EESP_V_ID);
	eesp_receiver *careful = new_replay_receiver(k.group, 1024, 16);
	eesp_sender_config c = EESP_SENDER_CONFIG_INIT;
	static uint64_t id;
	c.id = 100 + __atomic_add_fetch(&id, 1, __ATOMIC_RELAXED); /* in clock mode */
	c.flags = EESP_SENDER_OPTIONS;
	eesp_sender *clock = NULL;
	WORKS(eesp_sender_new(k.group, &c, &clock));
	for (int i = 0; i < rounds; i++) {
		SAME(one_packet(k.sender, k.receiver), EESP_OK);
		SAME(one_packet(k.sender, careful), EESP_OK);
		SAME(one_packet(clock, k.receiver), EESP_OK);
		WORKS(eesp_group_rotate_key(psp, NULL, 0, NULL));
		usleep(100);
	}
	eesp_sender_free(clock);
	eesp_receiver_free(careful);
	free_kit(&k);
	eesp_group_free(psp);
}

static int descriptors(void)
{
	int n = 0;
	DIR *d = opendir("/proc/self/fd");
	CHECK(d != NULL);
	while (readdir(d) != NULL)
		n++;
	closedir(d);
	return n;
}

static int before_use;

/* The library keeps no descriptors. */
static void none_kept(void)
{
	SAME(descriptors(), before_use);
	work(20);
	SAME(descriptors(), before_use);
}

/* A program closes all descriptors and uses their numbers again. */
static void all_closed(void)
{
	work(5);
	for (int fd = 3; fd < 64; fd++)
		close(fd);
	int fd[12];
	for (size_t i = 0; i < COUNT(fd); i++) {
		char name[] = "of-the-host-XXXXXX";
		fd[i] = mkstemp(name);
		CHECK(fd[i] >= 0 && unlink(name) == 0 && write(fd[i], "of the host", 11) == 11);
	}
	work(100);
	usleep(100000); /* the runtime's own thread looks at its descriptors, if it has any */
	work(100);
	for (size_t i = 0; i < COUNT(fd); i++) {
		char text[32];
		SAME(pread(fd[i], text, sizeof text, 0), 11);
		CHECK(memcmp(text, "of the host", 11) == 0);
	}
}

/* No descriptor is left. */
static void no_descriptors(void)
{
	struct rlimit none = { 3, 3 };
	CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
	work(100);
}

/* Whether there are at most n threads. Threads that were joined stay in the kernel's list for a moment. */
static int at_most_threads(long n)
{
	for (int i = 0; i < 1000 && proc_status("Threads") > n; i++)
		usleep(5000);
	return proc_status("Threads") <= n;
}

/* A state file that may not grow gives a status, if SIGXFSZ is ignored. */
static void no_file_size(void)
{
	struct rlimit none = { 0, 0 };
	eesp_group *g = new_group(0, EESP_LEVELS_ZONE);
	eesp_sender_config c = EESP_SENDER_CONFIG_INIT;
	eesp_sender *s = NULL;
	c.counter_mode = EESP_COUNTER_RESERVED;
	c.state_path = "too-large";
	c.flags = EESP_SENDER_OPTIONS;
	CHECK(signal(SIGXFSZ, SIG_IGN) != SIG_ERR && setrlimit(RLIMIT_FSIZE, &none) == 0);
	GIVES(EESP_ERR_STATE, eesp_sender_new(g, &c, &s));
	unlink("too-large");
}

enum { WORKERS = 6 };
static pthread_barrier_t ready_to_go, limited;

static void *works(void *arg)
{
	WORKS(eesp_thread_init());
	pthread_barrier_wait(&ready_to_go);
	pthread_barrier_wait(&limited);
	work(200);
	return arg;
}

/* No further thread can be created. Bursts and set-up go on: the runtime has started all
 * threads that it needs. */
static void no_more_threads(void)
{
	pthread_t t[WORKERS];
	if (geteuid() == 0)
		CHECK(setgid(65534) == 0 && setuid(65534) == 0);
	pthread_barrier_init(&ready_to_go, NULL, WORKERS + 1);
	pthread_barrier_init(&limited, NULL, WORKERS + 1);
	for (size_t i = 0; i < COUNT(t); i++)
		CHECK(pthread_create(&t[i], NULL, works, NULL) == 0);
	pthread_barrier_wait(&ready_to_go);
	long threads = proc_status("Threads");
	struct rlimit one = { 1, 1 };
	CHECK(setrlimit(RLIMIT_NPROC, &one) == 0);
	pthread_barrier_wait(&limited);
	for (size_t i = 0; i < COUNT(t); i++)
		CHECK(pthread_join(t[i], NULL) == 0);
	CHECK(at_most_threads(threads - WORKERS));
}

/* No thread can be created after loading: callers share the ones that there are. */
static void no_threads_for_callers(void)
{
	if (geteuid() == 0)
		CHECK(setgid(65534) == 0 && setuid(65534) == 0);
	struct rlimit one = { 1, 1 };
	CHECK(setrlimit(RLIMIT_NPROC, &one) == 0);
	WORKS(eesp_thread_init());
	work(50);
}

/* The library loads and works with the limits of docs/dataplane.md. */
static void under_limits(void)
{
	struct rlimit as;
	CHECK(getrlimit(RLIMIT_AS, &as) == 0 && as.rlim_cur == (rlim_t)3000000000);
	work(20);
}

static void documented_limits(void)
{
	const struct rlimit as = { 3000000000, 3000000000 }, data = { 256000000, 256000000 },
			    lock = { 1 << 20, 1 << 20 };
	CHECK(setrlimit(RLIMIT_AS, &as) == 0 && setrlimit(RLIMIT_DATA, &data) == 0 &&
	      setrlimit(RLIMIT_MEMLOCK, &lock) == 0);
	execl("/proc/self/exe", "host", "under_limits", (char *)NULL);
	CHECK(0);
}

static struct kit shared;
static pthread_barrier_t together;

static void *one_call(void *arg)
{
	SAME(one_packet(shared.sender, shared.receiver), EESP_OK);
	return arg;
}

/* Threads that start and end leave nothing behind. */
static void come_and_go(void)
{
	enum { WARM = 100, MANY = 1000 };
	long rss = 0, threads = 0;
	shared = new_kit(0, EESP_V_ID);
	for (int i = 0; i < WARM + MANY; i++) {
		pthread_t t;
		if (i == WARM)
			rss = proc_status("VmRSS"), threads = proc_status("Threads");
		CHECK(pthread_create(&t, NULL, one_call, NULL) == 0 && pthread_join(t, NULL) == 0);
	}
	CHECK(at_most_threads(threads));
	CHECK(proc_status("VmRSS") - rss < 4096);
	free_kit(&shared);
}

static void *all_at_once(void *arg)
{
	one_call(arg);
	pthread_barrier_wait(&together);
	return arg;
}

/* The runtime keeps the threads that it took for many callers, and takes no more. */
static void end_together(void)
{
	enum { MANY = 100 };
	static pthread_t t[MANY];
	shared = new_kit(0, EESP_V_ID);
	for (int round = 0; round < 3; round++) {
		pthread_barrier_init(&together, NULL, MANY);
		for (int i = 0; i < MANY; i++)
			CHECK(pthread_create(&t[i], NULL, all_at_once, NULL) == 0);
		for (int i = 0; i < MANY; i++)
			CHECK(pthread_join(t[i], NULL) == 0);
		/* How many of the runtime's threads wait at once depends on the load. */
		long cpus = sysconf(_SC_NPROCESSORS_CONF), bound = 24 + (cpus + 3 > 32 ? cpus + 3 : 32);
		CHECK(at_most_threads(bound));
	}
	free_kit(&shared);
}

/* The garbage of set-up is collected early. */
static void set_up_again_and_again(void)
{
	struct kit k = new_kit(0, EESP_V_ID);
	for (uint64_t i = 13; i < 20000; i++)
		WORKS(eesp_group_rotate(k.group, EESP_LEVEL_ZONE, i, NULL));
	/* It is 18 MiB when nothing else runs; how soon the collector gets a CPU depends on the load. */
	CHECK(proc_status("VmHWM") < 64 << 10);
	free_kit(&k);
}

#define ALONE(f)                                                               \
	do {                                                                   \
		ends_well(start_self(#f));                                     \
		printf("ok   %s: %s\n", test_program(__FILE__), #f);           \
	} while (0)
#define ONE(f)                                                                 \
	if (argc == 2 && strcmp(argv[1], #f) == 0) {                           \
		alarm(120);                                                     \
		f();                                                           \
		return 0;                                                      \
	}

int main(int argc, char **argv)
{
	before_use = descriptors();
	ONE(none_kept)
	ONE(all_closed)
	ONE(no_descriptors)
	ONE(no_file_size)
	ONE(documented_limits)
	ONE(under_limits)
	ONE(no_more_threads)
	ONE(no_threads_for_callers)
	ONE(come_and_go)
	ONE(end_together)
	ONE(set_up_again_and_again)
	CHECK(argc == 1);
	ALONE(none_kept);
	ALONE(all_closed);
	ALONE(no_descriptors);
	ALONE(no_file_size);
	if (!emulated()) { /* emulators have threads and limits of their own */
		ALONE(documented_limits);
		ALONE(no_more_threads);
		ALONE(no_threads_for_callers);
		ALONE(come_and_go);
		ALONE(end_together);
		ALONE(set_up_again_and_again);
	}
	return 0;
}
