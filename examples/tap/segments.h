/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * segments.h - several packets in one, as Linux passes them
 *
 * With IFF_VNET_HDR a TUN device passes TCP and UDP segments of one flow as a single
 * long packet without checksums, and accepts such packets. The tunnel needs separate
 * packets: they are cut here on their way out, and joined on their way in. So the
 * kernel does its work once for many packets.
 */
#ifndef SEGMENTS_H
#define SEGMENTS_H

#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#define MAX_PACKET 65535
#ifndef VIRTIO_NET_HDR_GSO_UDP_L4 /* since Linux 6.2 */
#define VIRTIO_NET_HDR_GSO_UDP_L4 5
#endif
#define MAX_HEADERS 120 /* the most octets of IP without extensions, and TCP */

/* ---- Out: one long packet becomes many --------------------------------------- */

/*
 * A packet from the device. Its first octets are where the first segment will be sealed.
 * The others are in a second buffer, with room in front for octets from the first one that
 * do not belong to the first segment.
 */
struct cut {
	uint8_t headers[MAX_HEADERS];
	uint32_t l4, headers_len, size; /* where TCP or UDP begins, all headers, payload of a segment */
	bool v6, tcp;
	uint8_t *first;
	const uint8_t *rest;            /* payload from the second segment on */
	uint32_t payload, done;         /* octets of the whole payload, and of the part that was cut */
	uint32_t index;
};

/*
 * head: head_len octets of the packet; rest: the rest_len others, with room for
 * head_len octets in front. Returns the number of segments, 0: malformed.
 */
uint32_t cut_begin(struct cut *c, const struct virtio_net_hdr *h, uint8_t *head, uint32_t head_len, uint8_t *rest,
		   uint32_t rest_len);
/* Writes the next segment; the first one is in its place already. Returns its length. */
uint32_t cut_next(struct cut *c, uint8_t *to);

/* ---- In: many packets become a long one ----------------------------------------- */

#define MAX_RUN 64 /* packets */

struct run {
	uint8_t *first;
	uint32_t l4, headers_len, size; /* as above; of the first packet */
	uint32_t total;                 /* octets so far */
	uint32_t next_sequence;
	bool v6, tcp, closed;           /* closed: nothing may follow */
	bool udp_segments;              /* the device accepts them */
	unsigned count;                 /* packets; 0: empty */
	struct iovec iov[1 + MAX_RUN];  /* the header of the device, then payloads, the first with its headers */
	struct virtio_net_hdr header;
};

/* Adds a packet of len octets, which must stay until the run was written. false: it belongs to another run. */
bool run_add(struct run *r, uint8_t *ip, uint32_t len);
/*
 * A hash of a packet's flow, equal for both directions. A flow is what the kernel takes for
 * one: addresses, and ports of TCP and UDP except in fragments.
 */
uint32_t flow_hash(const uint8_t *ip, uint32_t len);
/* Puts the run into iov, whose number of elements it returns; the run is empty afterwards. */
int run_end(struct run *r);

#endif
