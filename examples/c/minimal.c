/* SPDX-License-Identifier: BSD-3-Clause */
/* minimal - seals one packet in place and opens it again. */
#include <eesp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check(int status)
{
	if (status != EESP_OK) {
		fprintf(stderr, "minimal: %s %s\n", eesp_strerror(status), eesp_last_error());
		exit(1);
	}
}

int main(void)
{
	static const uint8_t zone[16] = "example zone 01"; /* names the root key */
	eesp_sender_config config = EESP_SENDER_CONFIG_INIT;
	config.id = 7;
	config.flags = EESP_SENDER_OPTIONS; /* headers name the root key */

	eesp_group *group;
	eesp_sender *sender;
	eesp_receiver *receiver;
	check(eesp_group_new(NULL, &group));
	check(eesp_group_generate_root_key(group, EESP_LEVEL_ZONE, zone, sizeof zone));
	check(eesp_sender_new(group, &config, &sender));
	check(eesp_receiver_new(&group, 1, NULL, &receiver));

	uint8_t buf[EESP_MAX_SEALED_LEN(32)]; /* header | payload | ICV */
	uint8_t *payload = memcpy(buf + EESP_MAX_HEADER, "thirty-two octets to be sealed..", 32);
	eesp_pkt p = { .data = payload, .len = 32, .headroom = EESP_MAX_HEADER, .tailroom = EESP_ICV_LEN };
	eesp_seal_burst(sender, &p, 1); /* a burst of one; 32 at a time are faster */
	check(p.status);

	eesp_pkt q = { .data = p.out, .len = p.out_len };
	eesp_open_burst(receiver, &q, 1);
	check(q.status);
	printf("sealed 32 octets into %u, opened: %.*s\n", p.out_len, (int)q.out_len, (char *)q.out);

	eesp_receiver_free(receiver);
	eesp_sender_free(sender);
	eesp_group_free(group);
	return 0;
}
