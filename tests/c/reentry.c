/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A burst from a signal handler that interrupts a burst of its thread is
 * refused; the one that was interrupted goes on. The signal is sent to the
 * thread: one for the process may arrive at any, also at the Go runtime's.
 */
#include "test.h"

#include <pthread.h>
#include <signal.h>

enum { BURST = 256, LENGTH = 4096, LIMIT = 2000 };

static struct kit kit;
static volatile sig_atomic_t in_burst, refused, other, stop;

static void on_signal(int sig)
{
	(void)sig;
	if (!in_burst)
		return;
	uint8_t room[200];
	eesp_pkt p = packet(room + 64, 10, 64, 64);
	p.out = room;
	size_t good = eesp_seal_burst(kit.sender, &p, 1);
	if (good == 0 && p.status == EESP_ERR_UNSUPPORTED && p.out == NULL && p.out_len == 0)
		refused++;
	else if (good != 1) /* good: the burst had not begun, or had just ended */
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

static void burst_in_handler(void)
{
	static uint8_t room[BURST][EESP_MAX_SEALED_LEN(LENGTH)];
	static eesp_pkt p[BURST];
	struct sigaction mine = { .sa_handler = on_signal, .sa_flags = SA_ONSTACK | SA_RESTART };
	pthread_t me = pthread_self(), sending;
	WORKS(eesp_thread_init());
	CHECK(sigaction(SIGUSR1, &mine, NULL) == 0);
	CHECK(pthread_create(&sending, NULL, sends_signals, &me) == 0);
	for (int round = 0; round < LIMIT && refused < 20; round++) {
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
	CHECK(refused > 0);
}

int main(void)
{
	kit = new_kit(0, 0);
	TEST(burst_in_handler);
	free_kit(&kit);
	return 0;
}
