/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Many threads use the same objects while keys rotate; threads start and end. With the
 * argument "unpin", the program is loaded while only one CPU is allowed, and allows all
 * CPUs again before the tests run.
 */
#include "test.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

enum { THREADS = 8, ROUNDS = 300, BURST = 40 };

static struct kit kit;
static atomic_uint rounds[THREADS];
static atomic_int running, rotations;

static void *traffic(void *arg)
{
	size_t me = (size_t)(uintptr_t)arg;
	static uint8_t room[THREADS][BURST][EESP_MAX_SEALED_LEN(100)];
	eesp_pkt p[BURST];
	for (unsigned round = 0; round < ROUNDS; round++) {
		for (size_t i = 0; i < BURST; i++) {
			p[i] = packet(room[me][i] + EESP_MAX_HEADER, 100, EESP_MAX_HEADER, EESP_ICV_LEN);
			fill(p[i].data, me + i, 100);
		}
		SAME(eesp_seal_burst(kit.sender, p, BURST), BURST);
		for (size_t i = 1; i < BURST; i++)
			CHECK(p[i].tsc == p[0].tsc + i);
		for (size_t i = 0; i < BURST; i++)
			p[i] = sealed(&p[i]);
		size_t good = eesp_open_burst(kit.receiver, p, BURST);
		for (size_t i = 0; i < BURST; i++) {
			SAME(p[i].status, EESP_OK);
			CHECK(filled(p[i].out, me + i, 100));
		}
		SAME(good, BURST);
		rounds[me] = round + 1;
		while (round == ROUNDS / 2 && rotations == 0)
			sched_yield();
	}
	running--;
	return NULL;
}

/* Rotates. Between two rotations every thread opens the packets that it sealed before the
 * first one, so that no packet needs a key that is gone. */
static void rotate(void)
{
	for (uint64_t index = 13; running > 0; index++) {
		unsigned seen[THREADS];
		WORKS(eesp_group_rotate(kit.group, EESP_LEVEL_ZONE, index, NULL));
		rotations++;
		for (int i = 0; i < THREADS; i++)
			seen[i] = rounds[i];
		for (int i = 0; i < THREADS; i++)
			while (rounds[i] < seen[i] + 2 && rounds[i] < ROUNDS)
				sched_yield();
	}
}

static void shared_objects(void)
{
	pthread_t t[THREADS];
	eesp_stats before, after;
	WORKS(eesp_sender_stats(kit.sender, &before));
	uint64_t tsc = eesp_sender_next_tsc(kit.sender);
	running = THREADS;
	for (size_t i = 0; i < THREADS; i++)
		CHECK(pthread_create(&t[i], NULL, traffic, (void *)(uintptr_t)i) == 0);
	rotate();
	for (size_t i = 0; i < THREADS; i++)
		CHECK(pthread_join(t[i], NULL) == 0);
	SAME(eesp_sender_next_tsc(kit.sender) - tsc, THREADS * ROUNDS * BURST);
	WORKS(eesp_sender_stats(kit.sender, &after));
	SAME(after.packets[0] - before.packets[0], THREADS * ROUNDS * BURST);
}

static void *comes_and_goes(void *arg)
{
	WORKS(eesp_thread_init());
	SAME(one_packet(kit.sender, kit.receiver), EESP_OK);
	return arg;
}

static void rounds_of_threads(int at_once, int times)
{
	pthread_t t[32];
	for (int i = 0; i < times; i++) {
		for (int k = 0; k < at_once; k++)
			CHECK(pthread_create(&t[k], NULL, comes_and_goes, NULL) == 0);
		for (int k = 0; k < at_once; k++)
			CHECK(pthread_join(t[k], NULL) == 0);
	}
}

/* When a thread ends, its memory is used again. */
static void memory_comes_back(void)
{
	rounds_of_threads(32, 1);
	rounds_of_threads(1, 10);
	long locked = proc_status("VmLck");
	CHECK(locked > 0);
	rounds_of_threads(1, 200);
	SAME(proc_status("VmLck"), locked);
	rounds_of_threads(32, 5);
	CHECK(proc_status("VmLck") <= locked + 512);
	CHECK(proc_status("Threads") < 64);
}

/* The destructor of a program's thread-specific data may run after the library's, and
 * call the library. */
static pthread_key_t key;
static atomic_int destroyed;

static void destructor(void *arg)
{
	(void)arg;
	SAME(one_packet(kit.sender, kit.receiver), EESP_OK);
	destroyed++;
}

static void *with_destructor(void *arg)
{
	CHECK(pthread_setspecific(key, arg) == 0);
	return comes_and_goes(arg);
}

static void late_call(void)
{
	pthread_t t[THREADS];
	CHECK(pthread_key_create(&key, destructor) == 0);
	rounds_of_threads(1, 5);
	long locked = proc_status("VmLck");
	for (int round = 0; round < 10; round++) {
		for (int i = 0; i < THREADS; i++)
			CHECK(pthread_create(&t[i], NULL, with_destructor, &key) == 0);
		for (int i = 0; i < THREADS; i++)
			CHECK(pthread_join(t[i], NULL) == 0);
	}
	SAME(destroyed, 10 * THREADS);
	CHECK(proc_status("VmLck") <= locked + 512); /* locked memory of those calls is used again too */
}

/* Threads make and free objects independently. */
static void *makes_objects(void *arg)
{
	for (int i = 0; i < 20; i++) {
		eesp_group *g = new_group(i & 1, 1);
		eesp_receiver *r = new_receiver(g);
		eesp_sender_config c = EESP_SENDER_CONFIG_INIT;
		c.id = 0x900000000 + (uint64_t)(uintptr_t)arg * 100 + (uint64_t)i;
		c.v = EESP_V_LONG_ID;
		c.counter_mode = EESP_COUNTER_EXPLICIT;
		eesp_sender *s;
		WORKS(eesp_sender_new(g, &c, &s));
		SAME(one_packet(s, r), EESP_OK);
		eesp_group_free(g);
		SAME(one_packet(s, r), EESP_OK);
		eesp_receiver_free(r);
		eesp_sender_free(s);
	}
	return NULL;
}

static void own_objects(void)
{
	pthread_t t[THREADS];
	for (size_t i = 0; i < THREADS; i++)
		CHECK(pthread_create(&t[i], NULL, makes_objects, (void *)(uintptr_t)i) == 0);
	for (size_t i = 0; i < THREADS; i++)
		CHECK(pthread_join(t[i], NULL) == 0);
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "unpin") == 0) {
		cpu_set_t all;
		CPU_ZERO(&all);
		for (int i = 0; i < CPU_SETSIZE; i++)
			CPU_SET(i, &all);
		CHECK(sched_setaffinity(0, sizeof all, &all) == 0);
	}
	kit = new_kit(0, 0);
	TEST(shared_objects);
	TEST(own_objects);
	TEST(memory_comes_back);
	TEST(late_call);
	free_kit(&kit);
	return 0;
}
