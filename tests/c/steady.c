/* SPDX-License-Identifier: BSD-3-Clause */
/* Memory does not grow with bursts, nor with objects that are made and freed. */
#include "test.h"

#include <malloc.h>

/* HEAP_SLACK is for threads that the runtime starts meanwhile. One lost block of malloc (32 octets) a round would be
 * more: 115 KB in 3600 rounds of bursts, 28 KB in 900 rounds of objects. */
enum { BURST = 64, KIB_OF_SLACK = 4096, HEAP_SLACK = 16 << 10 };

static void bursts(void)
{
	struct kit k = new_kit(1, EESP_V_ID_SRC);
	static uint8_t room[BURST][EESP_MAX_SEALED_LEN(128)];
	eesp_pkt p[BURST];
	long rss = 0, locked = 0;
	size_t heap = 0;
	for (int round = 0; round < 4000; round++) {
		for (size_t i = 0; i < BURST; i++)
			p[i] = packet(room[i] + EESP_MAX_HEADER, 16, EESP_MAX_HEADER, EESP_ICV_LEN);
		SAME(eesp_seal_burst(k.sender, p, BURST), BURST);
		for (size_t i = 0; i < BURST; i++) {
			p[i] = sealed(&p[i]);
			if (round % 8 == 0 && i % 2) /* some packets are refused */
				((uint8_t *)p[i].data)[p[i].len - 1] ^= 1;
		}
		SAME(eesp_open_burst(k.receiver, p, BURST), round % 8 ? BURST : BURST / 2);
		if (round == 400) {
			rss = proc_status("VmRSS");
			locked = proc_status("VmLck");
			heap = mallinfo2().uordblks;
		}
	}
	CHECK(proc_status("VmRSS") < rss + KIB_OF_SLACK);
	SAME(proc_status("VmLck"), locked);
	CHECK(mallinfo2().uordblks < heap + HEAP_SLACK);
	free_kit(&k);
}

static void objects(void)
{
	long locked = 0;
	size_t heap = 0;
	for (int round = 0; round < 1000; round++) {
		eesp_group *g = new_group(round & 1, 7);
		eesp_receiver *r = new_receiver(g), *held;
		eesp_sender_config c = EESP_SENDER_CONFIG_INIT;
		eesp_sender *s;
		eesp_proxy *x;
		eesp_context context = { .id = 1 };
		eesp_data_key key;
		c.id = (uint64_t)round % 7;
		c.counter_mode = EESP_COUNTER_EXPLICIT;
		c.start_counter = (uint64_t)round;
		WORKS(eesp_sender_new(g, &c, &s));
		WORKS(eesp_proxy_new(r, s, &x));
		WORKS(eesp_data_key_export(g, &context, 1, &key));
		WORKS(eesp_receiver_new_with_key(&key, NULL, &held));
		WORKS(eesp_group_rotate(g, 0, 13, NULL));
		eesp_proxy_free(x);
		eesp_sender_free(s);
		eesp_receiver_free(r);
		eesp_receiver_free(held);
		eesp_group_free(g);
		if (round == 100) {
			locked = proc_status("VmLck");
			heap = mallinfo2().uordblks;
		}
	}
	CHECK(proc_status("VmLck") <= locked + 256);
	CHECK(mallinfo2().uordblks < heap + HEAP_SLACK);
}

int main(void)
{
	TEST(bursts);
	TEST(objects);
	return 0;
}
