/* SPDX-License-Identifier: BSD-3-Clause */
/* In a forked child every function returns an error, and none hangs. */
#include "test.h"

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>

static struct kit kit;
static eesp_proxy *proxy;
static eesp_data_key data_key;

static void every_function(void)
{
	uint8_t b[128] = { 0 };
	size_t n = sizeof b;
	uint64_t index[3] = { 1, 2, 3 };
	eesp_group *g = NULL;
	eesp_sender *s = NULL;
	eesp_receiver *r = NULL;
	eesp_proxy *p = NULL;
	eesp_root_key_info info;
	eesp_stats stats;
	eesp_replay_stats replay;
	eesp_udp udp = EESP_UDP_INIT;
	eesp_context x = { .levels = 1 };
	eesp_data_key key;
	eesp_sender_config sc = EESP_SENDER_CONFIG_INIT;
	CHECK(eesp_version() == EESP_VERSION && *eesp_version_string());
	CHECK(eesp_backend_name() == NULL && eesp_backend_at(0) == NULL);
	SAME(eesp_backend_supported("generic"), 0);
	GIVES(EESP_ERR_FORKED, eesp_backend_select("generic"));
	GIVES(EESP_ERR_FORKED, eesp_self_test());
	GIVES(EESP_ERR_FORKED, eesp_thread_init());
	CHECK(strcmp(eesp_last_error(), eesp_strerror(EESP_ERR_FORKED)) == 0);
	eesp_thread_keep_warm();
	GIVES(EESP_ERR_FORKED, eesp_group_new(NULL, &g));
	GIVES(EESP_ERR_FORKED, eesp_group_set_root_key_der(kit.group, 0, b, sizeof b));
	GIVES(EESP_ERR_FORKED, eesp_group_set_root_key(kit.group, 0, b, 16, index, RING(b)));
	GIVES(EESP_ERR_FORKED, eesp_group_generate_root_key(kit.group, 0, b, 16));
	GIVES(EESP_ERR_FORKED, eesp_group_get_root_key_der(kit.group, 0, b, &n));
	GIVES(EESP_ERR_FORKED, eesp_group_rotate(kit.group, 0, 30, NULL));
	GIVES(EESP_ERR_FORKED, eesp_group_remove_root_key(kit.group, 0));
	GIVES(EESP_ERR_FORKED, eesp_group_set_default_levels(kit.group, 1));
	GIVES(EESP_ERR_FORKED, eesp_group_get_root_key_info(kit.group, 0, &info));
	GIVES(EESP_ERR_FORKED, eesp_derive_keys(kit.group, &x, 1, b, 16));
	GIVES(EESP_ERR_FORKED, eesp_data_key_export(kit.group, &x, 0, &key));
	GIVES(EESP_ERR_FORKED, eesp_sender_new(kit.group, &sc, &s));
	GIVES(EESP_ERR_FORKED, eesp_sender_new_with_key(&data_key, &sc, &s));
	GIVES(EESP_ERR_FORKED, eesp_sender_stats(kit.sender, &stats));
	SAME(eesp_sender_header_len(kit.sender), 0);
	SAME(eesp_sender_next_tsc(kit.sender), 0);
	GIVES(EESP_ERR_FORKED, eesp_receiver_new(&kit.group, 1, NULL, &r));
	GIVES(EESP_ERR_FORKED, eesp_receiver_new_with_key(&data_key, NULL, &r));
	GIVES(EESP_ERR_FORKED, eesp_receiver_stats(kit.receiver, &stats));
	GIVES(EESP_ERR_FORKED, eesp_receiver_replay_stats(kit.receiver, &replay));
	GIVES(EESP_ERR_FORKED, eesp_proxy_new(kit.receiver, kit.sender, &p));
	CHECK(g == NULL && s == NULL && r == NULL && p == NULL && n == sizeof b && all_are(b, sizeof b, 0));
	for (int i = 0; i < 5; i++) {
		eesp_pkt k[3];
		for (int j = 0; j < 3; j++) {
			k[j] = packet(b, 64, 0, 0);
			k[j].out = b;
			k[j].out_len = 99;
		}
		SAME(i == 0   ? eesp_seal_burst(kit.sender, k, 3)
		     : i == 1 ? eesp_open_burst(kit.receiver, k, 3)
		     : i == 2 ? eesp_proxy_burst(proxy, k, 3)
		     : i == 3 ? eesp_udp_seal_burst(kit.sender, &udp, k, 3)
			      : eesp_udp_open_burst(kit.receiver, &udp, k, 3), 0);
		for (int j = 0; j < 3; j++)
			CHECK(k[j].status == EESP_ERR_FORKED && k[j].out == NULL && k[j].out_len == 0);
	}
	eesp_proxy_free(proxy);
	eesp_sender_free(kit.sender);
	eesp_receiver_free(kit.receiver);
	eesp_group_free(kit.group);
	eesp_data_key_wipe(&data_key);
	CHECK(all_are(&data_key, sizeof data_key, 0));
}

static void child_is_refused(void)
{
	in_child(every_function);
	SAME(one_packet(kit.sender, kit.receiver), EESP_OK);
}

static void forks_again(void) { in_child(every_function); }

static void grandchild_is_refused(void) { in_child(forks_again); }

static void *in_thread(void *arg)
{
	every_function();
	return arg;
}

static void starts_thread(void)
{
	pthread_t t;
	CHECK(pthread_create(&t, NULL, in_thread, NULL) == 0 && pthread_join(t, NULL) == 0);
}

/* The same holds for a new thread of the child, which may end. */
static void childs_thread_is_refused(void) { in_child(starts_thread); }

/* The child's thread may end, although it has a worker. */
static void child_thread_may_end(void)
{
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		alarm(120);
		pthread_exit(NULL);
	}
	ends_well(pid);
}

static void child_may_exit(void)
{
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		alarm(120);
		exit(0); /* not _exit: with all handlers and destructors */
	}
	ends_well(pid);
}

static void executes(void)
{
	char **argv = self_command((const char *[]){ "one", NULL });
	execvp(argv[0], argv);
	_exit(127);
}

static void exec_in_child_works(void) { in_child(executes); }

static volatile int stop;

static void *keeps_busy(void *arg)
{
	while (!stop)
		SAME(one_packet(kit.sender, kit.receiver), EESP_OK);
	return arg;
}

static void *forks(void *arg)
{
	for (int i = 0; i < 10; i++)
		in_child(every_function);
	return arg;
}

/* One thread forks while another one runs bursts. */
static void fork_beside_bursts(void)
{
	pthread_t busy, t;
	CHECK(pthread_create(&busy, NULL, keeps_busy, NULL) == 0);
	CHECK(pthread_create(&t, NULL, forks, NULL) == 0 && pthread_join(t, NULL) == 0);
	stop = 1;
	CHECK(pthread_join(busy, NULL) == 0);
	SAME(one_packet(kit.sender, kit.receiver), EESP_OK);
}

/* Children that are made without the handlers of pthread_atfork must be refused too:
 * they have no keys, and would seal with zeros. */
static void unnoticed_child_is_refused(void)
{
	for (int how = 0; how < 2; how++) {
		fflush(stdout);
		pid_t pid = how ? (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) : _Fork();
		if (pid == 0) {
			alarm(120);
			every_function();
			_exit(0);
		}
		ends_well(pid);
	}
	SAME(one_packet(kit.sender, kit.receiver), EESP_OK);
}

static void first_use(void)
{
	eesp_group *g;
	GIVES(EESP_ERR_FORKED, eesp_group_new(NULL, &g));
}

/* The library is loaded, but not used before the fork. */
static void fork_before_use(void) { in_child(first_use); }

int main(int argc, char **argv)
{
	if (argc == 1)
		TEST(fork_before_use);
	kit = new_kit(0, 0);
	WORKS(eesp_proxy_new(kit.receiver, kit.sender, &proxy));
	eesp_context x = { .levels = 1 };
	WORKS(eesp_data_key_export(kit.group, &x, 0, &data_key));
	SAME(one_packet(kit.sender, kit.receiver), EESP_OK);
	if (argc > 1)
		return strcmp(argv[1], "one") != 0;
	TEST(child_is_refused);
	if (emulated())
		printf("     not unnoticed_child_is_refused: the emulator's madvise wipes nothing on fork\n");
	else
		TEST(unnoticed_child_is_refused);
	TEST(grandchild_is_refused);
	TEST(childs_thread_is_refused);
	TEST(child_thread_may_end);
	TEST(child_may_exit);
	TEST(exec_in_child_works);
	TEST(fork_beside_bursts);
	eesp_proxy_free(proxy);
	free_kit(&kit);
	return 0;
}
