/* SPDX-License-Identifier: BSD-3-Clause */
/* libeesp.a in a program with another Go archive, which run.sh makes. */
#include "test.h"

int OtherGo(int n);

static void two_runtimes(void)
{
	struct kit k = new_kit(0, 0);
	for (int i = 0; i < 1000; i++) {
		SAME(one_packet(k.sender, k.receiver), EESP_OK);
		SAME(OtherGo(i), i + 1);
	}
	free_kit(&k);
}

int main(void)
{
	TEST(two_runtimes);
	return 0;
}
