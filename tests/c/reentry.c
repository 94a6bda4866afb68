/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A signal handler interrupts a burst of its thread: calls in it are refused, and the
 * burst goes on. The signal is sent to the thread, since one to the process could be
 * delivered to another thread, even one of the Go runtime.
 */
#include "test.h"

#include <pthread.h>
#include <signal.h>

enum { BURST = 256, LENGTH = 4096, LIMIT = 2000 };

static struct kit kit;
static eesp_data_key key;
static eesp_kdf *kdf;
static eesp_keyset *set;
static volatile sig_atomic_t in_burst, refused, other, stop;

#define REFUSED(call) GIVES(EESP_ERR_UNSUPPORTED, call)

/* All other functions that call Go. */
static void all_refused(void)
{
	static const uint64_t index[3] = { 1, 2, 3 };
	static const uint8_t value[3][EESP_ROOT_KEY_LEN] = { { 1 }, { 2 }, { 3 } };
	eesp_group_config gc = EESP_GROUP_CONFIG_INIT;
	eesp_sender_config sc = EESP_SENDER_CONFIG_INIT;
	eesp_root_key_info info;
	eesp_stats stats;
	eesp_context x = { .levels = 1 };
	eesp_group *g = NULL;
	eesp_sender *s = NULL;
	eesp_receiver *r = NULL;
	eesp_proxy *p = NULL;
	eesp_kdf *k = NULL;
	eesp_keyset *ks = NULL;
	uint8_t b[256];
	size_t n = sizeof b;
	REFUSED(eesp_thread_init());
	REFUSED(eesp_backend_select(NULL));
	REFUSED(eesp_self_test());
	REFUSED(eesp_group_new(&gc, &g));
	REFUSED(eesp_group_set_root_key_der(kit.group, 0, b, 100));
	REFUSED(eesp_group_set_root_key(kit.group, 0, root_id, 16, index, value));
	REFUSED(eesp_group_generate_root_key(kit.group, 1, root_id, 16));
	REFUSED(eesp_group_get_root_key_der(kit.group, 0, b, &n));
	REFUSED(eesp_group_rotate(kit.group, 0, 13, value[0]));
	REFUSED(eesp_group_remove_root_key(kit.group, 0));
	REFUSED(eesp_group_set_default_levels(kit.group, 0));
	REFUSED(eesp_group_get_root_key_info(kit.group, 0, &info));
	REFUSED(eesp_derive_keys(kit.group, &x, 1, b, 16));
	REFUSED(eesp_data_key_export(kit.group, &x, 0, &key));
	REFUSED(eesp_sender_new(kit.group, &sc, &s));
	REFUSED(eesp_sender_new_with_key(&key, &sc, &s));
	REFUSED(eesp_sender_stats(kit.sender, &stats));
	REFUSED(eesp_receiver_new(&kit.group, 1, NULL, &r));
	REFUSED(eesp_receiver_new_with_key(&key, NULL, &r));
	REFUSED(eesp_receiver_stats(kit.receiver, &stats));
	REFUSED(eesp_proxy_new(kit.receiver, kit.sender, &p));
	REFUSED(eesp_kdf_new(value[0], &k));
	REFUSED(eesp_kdf_derive(kdf, 0, b, 1, b, 16));
	REFUSED(eesp_keyset_new(0, value[0], 1, &ks));
	eesp_job j = { .src = b, .dst = b, .tag = b + 16, .len = 16 };
	SAME(eesp_kdf_seal(kdf, 0, b, &j, 1), 0);
	SAME(eesp_kdf_open(kdf, 0, b, &j, 1), 0);
	SAME(eesp_keyset_seal(set, &j, 1), 0);
	SAME(eesp_keyset_open(set, &j, 1), 0);
	SAME(eesp_sender_header_len(kit.sender), 0);
	SAME(eesp_sender_next_tsc(kit.sender), 0);
	CHECK(eesp_backend_name() == NULL && eesp_backend_at(0) == NULL && !eesp_backend_supported("generic"));
	eesp_thread_keep_warm();
	eesp_kdf_free(kdf); /* refused: main still uses them */
	eesp_keyset_free(set);
	eesp_group_free(kit.group);
	CHECK(!g && !s && !r && !p && !k && !ks && n == sizeof b);
}

static void on_signal(int sig)
{
	(void)sig;
	if (!in_burst)
		return;
	uint8_t room[200];
	eesp_pkt p = packet(room + 64, 10, 64, 64);
	p.out = room;
	size_t good = eesp_seal_burst(kit.sender, &p, 1);
	if (good == 0 && p.status == EESP_ERR_UNSUPPORTED && p.out == NULL && p.out_len == 0) {
		refused++;
		all_refused();
	} else if (good != 1) /* 1: the burst had not begun, or had just ended */
		other++;
}

static void *sends_signals(void *thread)
{
	while (!stop) {
		CHECK(pthread_kill(*(pthread_t *)thread, SIGUSR1) == 0);
		usleep(500);
	}
	return NULL;
}

static void calls_in_handler(void)
{
	static uint8_t room[BURST][EESP_MAX_SEALED_LEN(LENGTH)];
	static eesp_pkt p[BURST];
	struct sigaction mine = { .sa_handler = on_signal, .sa_flags = SA_ONSTACK | SA_RESTART };
	pthread_t me = pthread_self(), sending;
	WORKS(eesp_thread_init());
	CHECK(sigaction(SIGUSR1, &mine, NULL) == 0);
	CHECK(pthread_create(&sending, NULL, sends_signals, &me) == 0);
	for (int round = 0; refused == 0 || (round < LIMIT && refused < 20); round++) {
		for (size_t i = 0; i < BURST; i++) {
			p[i] = packet(room[i] + EESP_MAX_HEADER, LENGTH, EESP_MAX_HEADER, EESP_ICV_LEN);
			fill(p[i].data, i, LENGTH);
		}
		in_burst = 1;
		size_t good = eesp_seal_burst(kit.sender, p, BURST);
		in_burst = 0;
		SAME(good, BURST);
		for (size_t i = 0; i < BURST; i++)
			p[i] = sealed(&p[i]);
		in_burst = 1;
		good = eesp_open_burst(kit.receiver, p, BURST);
		in_burst = 0;
		SAME(good, BURST);
		for (size_t i = 0; i < BURST; i++)
			CHECK(filled(p[i].out, i, LENGTH));
	}
	stop = 1;
	CHECK(pthread_join(sending, NULL) == 0);
	SAME(other, 0);
}

/* The same while keys are derived; the keys are right. */
static void derives_beside_handler(void)
{
	enum { KEYS = 4096 };
	static eesp_context contexts[KEYS];
	static uint8_t right[KEYS][16], keys[KEYS][16];
	pthread_t me = pthread_self(), sending;
	for (size_t i = 0; i < KEYS; i++)
		contexts[i] = (eesp_context){ .id = i, .levels = 1 };
	WORKS(eesp_derive_keys(kit.group, contexts, KEYS, right[0], sizeof right));
	refused = stop = 0;
	CHECK(pthread_create(&sending, NULL, sends_signals, &me) == 0);
	for (int round = 0; refused == 0 || (round < 20 * LIMIT && refused < 20); round++) {
		in_burst = 1;
		WORKS(eesp_derive_keys(kit.group, contexts, KEYS, keys[0], sizeof keys));
		in_burst = 0;
		CHECK(memcmp(keys, right, sizeof keys) == 0);
	}
	stop = 1;
	CHECK(pthread_join(sending, NULL) == 0);
	SAME(other, 0);
}

int main(void)
{
	eesp_context x = { .levels = 1 };
	kit = new_kit(0, 0);
	WORKS(eesp_data_key_export(kit.group, &x, 0, &key));
	WORKS(eesp_kdf_new(key.key, &kdf));
	WORKS(eesp_keyset_new(0, key.key, 1, &set));
	TEST(calls_in_handler);
	TEST(derives_beside_handler);
	uint8_t b[32] = { 0 };
	eesp_job j = { .src = b, .dst = b, .tag = b + 16, .len = 16 };
	SAME(eesp_kdf_seal(kdf, 0, b, &j, 1), 1);
	SAME(eesp_keyset_seal(set, &j, 1), 1);
	eesp_root_key_info info;
	WORKS(eesp_group_get_root_key_info(kit.group, 0, &info));
	eesp_keyset_free(set);
	eesp_kdf_free(kdf);
	free_kit(&kit);
	return 0;
}
