/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tap_gw - encrypted tunnels between Linux hosts, with TUN devices and UDP sockets
 *
 * IP packets from a TUN device are sealed in bursts, in place, and sent to their peer in
 * UDP datagrams. Packets from peers are opened and written to the TUN device.
 *
 *     UDP | Security Header | ciphertext of the IP packet | ICV
 *
 * Each thread has a queue of the device and a socket, and takes both directions. Kernel
 * and gateway pass many packets at a time: segments of a TCP or UDP flow as one packet at
 * the device (segments.c), and datagrams as one at the socket (UDP_SEGMENT, UDP_GRO). To
 * copy from: seal_from_tun, send_batch, open_from_udp.
 */
#define _GNU_SOURCE
#include "gw.h"
#include "segments.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/udp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#define UDP_GRO 104
#endif
#ifndef TUN_F_USO4 /* since Linux 6.2 */
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

#define CALL 32           /* packets of a call of the library */
#define BATCH 64          /* packets that are sent together */
#define MESSAGES 8        /* of the socket, received together; each has up to 64 KiB of datagrams */
#define MAX_DATAGRAMS 128 /* in one message */
#define MAX_GSO_OCTETS 65000
#define MAX_GSO_DATAGRAMS 64
/* the most that TCP has in flight: with less, packets are lost while this thread waits for a CPU */
#define SOCKET_BUFFER (64 << 20)
/* The most octets that sealing needs in front of a packet. */
#define ROOM (EESP_MAX_HEADER + EESP_TSS_LEAD_IPV6)
#define TAIL (EESP_MAX_PADDING + EESP_ICV_LEN)

enum drop { DROP_MALFORMED, DROP_NO_PEER, DROP_NOT_IP, DROP_NOT_SENT, DROP_NOT_DELIVERED, DROP_COUNT };
static const char *const drop_names[DROP_COUNT] = {
	[DROP_MALFORMED] = "malformed, from the device",
	[DROP_NO_PEER] = "no peer has a route to there",
	[DROP_NOT_IP] = "no IP packet inside",
	[DROP_NOT_SENT] = "the kernel did not send it",
	[DROP_NOT_DELIVERED] = "the device did not take it",
};

struct worker {
	struct gw *gw;
	const struct tap *tap;
	unsigned index;
	pthread_t thread;
	int tun, in, out; /* in: peers send to it; out: each worker has another port, and so another flow */
	uint16_t out_port;
	bool gso; /* the kernel cuts datagrams; false if a device makes no checksums */
	_Atomic uint64_t drops[DROP_COUNT], bursts;
	struct gw_counts counts[GW_MAX_PEERS];
	/* Out. */
	struct gw_peer *last_peer; /* of last_route */
	uint8_t last_route[16];
	size_t batch;
	uint8_t *slots;   /* BATCH of them */
	uint8_t *surplus; /* octets that did not fit into a slot */
	eesp_pkt pkt[BATCH];
	struct gw_peer *peer[BATCH];
	struct iovec iov[BATCH];
	struct mmsghdr out_msg[BATCH];
	struct control {
		_Alignas(struct cmsghdr) uint8_t octets[CMSG_SPACE(sizeof(int))];
	} out_control[BATCH];
	/* In. */
	uint8_t *received; /* MESSAGES buffers */
	struct mmsghdr in_msg[MESSAGES];
	struct iovec in_iov[MESSAGES];
	struct sockaddr_storage from[MESSAGES];
	struct control in_control[MESSAGES];
	uint8_t *copies;   /* tss: packets with room for prefixes */
	eesp_pkt opened[CALL];
	struct run run;
};

/* The part of a configuration that only this program has. */
struct tap {
	struct gw_end end;
	char name[IFNAMSIZ];
	unsigned line;
	uint32_t mtu; /* 0: from the MTUs of the paths to peers */
	unsigned queues; /* 0: one for each CPU */
	bool udp_segments; /* the device takes them */
	size_t slot;     /* octets of a slot */
	int stop;        /* an eventfd, readable when threads are to end */
	struct sockaddr_storage address[GW_MAX_PEERS]; /* of peers */
	socklen_t address_len;
	struct worker *workers[GW_MAX_WORKERS];
};

static void drop(struct worker *w, enum drop why, uint64_t n) { gw_count(&w->drops[why], n); }

/* ---- Out ------------------------------------------------------------------------- */

static uint8_t *slot(const struct worker *w, size_t i) { return w->slots + i * w->tap->slot; }

/* Seals the batch. A run of packets for one sender is one call, of at most CALL packets. */
static void seal_batch(struct worker *w)
{
	for (size_t at = 0, n; at < w->batch; at += n) {
		eesp_sender *sender = w->peer[at]->sender[w->index];
		for (n = 1; n < CALL && at + n < w->batch && w->peer[at + n]->sender[w->index] == sender; n++)
			;
		eesp_seal_burst(sender, &w->pkt[at], n);
	}
	for (size_t i = 0; i < w->batch; i++) {
		struct gw_counts *c = &w->counts[w->peer[i]->index];
		if (w->pkt[i].status == EESP_OK) {
			gw_count(&c->sealed, 1);
			gw_count(&c->sealed_octets, w->pkt[i].len);
		} else {
			gw_count(&c->refused[-w->pkt[i].status], 1);
		}
	}
}

/* Datagrams of one length to one peer are one message; the last one may be shorter. Returns the number of messages. */
static unsigned make_messages(struct worker *w)
{
	unsigned count = 0;
	size_t n = 0;
	const struct gw_peer *to = NULL;
	size_t octets = 0, each = 0;
	bool open = false; /* the last message may get more datagrams */
	for (size_t i = 0; i < w->batch; i++) {
		const eesp_pkt *p = &w->pkt[i];
		if (p->status != EESP_OK)
			continue;
		w->iov[n] = (struct iovec){ p->out, p->out_len };
		struct msghdr *m = &w->out_msg[count - open].msg_hdr;
		if (open && w->peer[i] == to && p->out_len <= each && octets + p->out_len <= MAX_GSO_OCTETS &&
		    m->msg_iovlen < MAX_GSO_DATAGRAMS) {
			m->msg_iovlen++;
			octets += p->out_len;
			open = p->out_len == each;
			struct cmsghdr *c = (struct cmsghdr *)w->out_control[count - 1].octets;
			*c = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(uint16_t)), .cmsg_level = SOL_UDP,
					       .cmsg_type = UDP_SEGMENT };
			const uint16_t size = (uint16_t)each;
			memcpy(CMSG_DATA(c), &size, sizeof size);
			m->msg_control = c;
			m->msg_controllen = CMSG_SPACE(sizeof(uint16_t));
			if (!open)
				to = NULL;
		} else {
			to = w->peer[i];
			w->out_msg[count++].msg_hdr = (struct msghdr){ .msg_name = (void *)&w->tap->address[to->index],
								       .msg_namelen = w->tap->address_len,
								       .msg_iov = &w->iov[n],
								       .msg_iovlen = 1 };
			octets = each = p->out_len;
			open = w->gso;
		}
		n++;
	}
	return count;
}

static void send_batch(struct worker *w)
{
	seal_batch(w);
	for (unsigned count = make_messages(w), at = 0; at < count;) {
		int sent = sendmmsg(w->out, w->out_msg + at, count - at, 0);
		if (sent > 0) {
			at += (unsigned)sent;
			continue;
		}
		/* The error is about the first message, which is lost unless it can be sent in another way. */
		const size_t datagrams = w->out_msg[at].msg_hdr.msg_iovlen;
		if (datagrams > 1 && (errno == EIO || errno == EINVAL)) {
			w->gso = false;
			const struct msghdr whole = w->out_msg[at].msg_hdr;
			for (size_t i = 0; i < datagrams; i++) {
				struct msghdr one = { .msg_name = whole.msg_name, .msg_namelen = whole.msg_namelen,
						      .msg_iov = whole.msg_iov + i, .msg_iovlen = 1 };
				if (sendmsg(w->out, &one, 0) < 0)
					drop(w, DROP_NOT_SENT, 1);
			}
		} else {
			drop(w, DROP_NOT_SENT, datagrams);
		}
		at++;
	}
	gw_count(&w->bursts, w->batch != 0);
	w->batch = 0;
}

/* The peer that a packet from the device is for. */
static struct gw_peer *route(struct worker *w, const uint8_t *ip, uint32_t len)
{
	uint8_t source[16], destination[16];
	if (gw_ip(ip, len, source, destination) == 0)
		return NULL;
	if (w->last_peer == NULL || memcmp(destination, w->last_route, 16) != 0) {
		w->last_peer = gw_route(w->gw, &w->tap->end, destination);
		memcpy(w->last_route, destination, 16);
	}
	return w->last_peer;
}

/* Describes the packet in the next slot. */
static void add_to_batch(struct worker *w, struct gw_peer *p, uint32_t len)
{
	uint8_t *ip = slot(w, w->batch) + ROOM;
	w->peer[w->batch] = p;
	w->pkt[w->batch] = (eesp_pkt){ .data = ip, .len = len, .headroom = ROOM, .tailroom = TAIL, .addr = p->addr };
	if (p->end->profile == EESP_PROFILE_TSS) {
		const uint32_t header = eesp_sender_header_len(p->sender[w->index]);
		const bool v6 = gw_put_prefix(ip - header, &p->addr, w->out_port, p->end->udp_port) ==
				EESP_TSS_LEAD_IPV6;
		w->pkt[w->batch].flags = v6 ? EESP_PKT_IPV6 : 0;
	} else if (p->end->profile == EESP_PROFILE_PSP) {
		w->pkt[w->batch].next_header = ip[0] >> 4 == 4 ? IPPROTO_IPIP : IPPROTO_IPV6;
	}
	w->batch++;
}

/* Reads packets from the device, up to a batch. false: there are none. */
static bool seal_from_tun(struct worker *w)
{
	const uint32_t room = (uint32_t)w->tap->slot - ROOM - TAIL; /* the MTU */
	bool any = false;
	while (w->batch <= BATCH / 2) {
		struct virtio_net_hdr h;
		uint8_t *ip = slot(w, w->batch) + ROOM, *surplus = w->surplus + room;
		struct iovec iov[] = { { &h, sizeof h }, { ip, room }, { surplus, MAX_PACKET } };
		ssize_t n = readv(w->tun, iov, 3);
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			die("tunnel device %s: %s", w->tap->name, strerror(errno));
		if (n < (ssize_t)sizeof h)
			break;
		any = true;
		const uint32_t len = (uint32_t)n - (uint32_t)sizeof h, head = len < room ? len : room;
		struct gw_peer *p = route(w, ip, head);
		struct cut c;
		uint32_t segments = p == NULL ? 0 : cut_begin(&c, &h, ip, head, surplus, len - head);
		if (segments == 0)
			drop(w, p == NULL ? DROP_NO_PEER : DROP_MALFORMED, 1);
		for (uint32_t i = 0; i < segments; i++) {
			if (w->batch == BATCH)
				send_batch(w);
			add_to_batch(w, p, cut_next(&c, slot(w, w->batch) + ROOM));
		}
	}
	if (w->batch != 0)
		send_batch(w);
	return any;
}

/* ---- In ------------------------------------------------------------------------------ */

/* The length of each datagram in a message except the last. */
static uint32_t datagram_len(struct mmsghdr *m)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m->msg_hdr); c != NULL; c = CMSG_NXTHDR(&m->msg_hdr, c))
		if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO) {
			int size;
			memcpy(&size, CMSG_DATA(c), sizeof size);
			return size > 0 ? (uint32_t)size : m->msg_len;
		}
	return m->msg_len;
}

/*
 * Writes the run to the queue of its flow, not to that of this thread. The kernel passes packets of a flow to the
 * queue to which packets of the other direction were written last. If each thread wrote to its own queue, two
 * gateways could move a flow from queue to queue at each round trip. Since each queue sends from another port,
 * packets of the flow would overtake each other.
 */
static void write_run(struct worker *w)
{
	const uint64_t packets = w->run.count;
	if (packets != 0) {
		const int tun = w->tap->workers[flow_hash(w->run.first, w->run.total) % w->tap->queues]->tun;
		const int elements = run_end(&w->run);
		if (writev(tun, w->run.iov, elements) < 0)
			drop(w, DROP_NOT_DELIVERED, packets);
	}
}

/* Writes opened packets to the device. */
static void deliver(struct worker *w, struct gw_peer *p, size_t n)
{
	struct gw_counts *c = &w->counts[p->index];
	uint8_t source[16], destination[16];
	uint64_t good = 0, octets = 0;
	for (size_t i = 0; i < n; i++) {
		const eesp_pkt *o = &w->opened[i];
		if (o->status != EESP_OK) {
			gw_count(&c->refused[-o->status], 1);
			continue;
		}
		/* Octets in front of ioffset are not authenticated. */
		if (o->ioffset != 0 || gw_ip(o->out, o->out_len, source, destination) != o->out_len) {
			drop(w, DROP_NOT_IP, 1);
			continue;
		}
		if (!gw_is_inside(p, source)) {
			gw_count(&c->refused[0], 1);
			continue;
		}
		good++;
		octets += o->out_len;
		if (!run_add(&w->run, o->out, o->out_len)) {
			write_run(w);
			run_add(&w->run, o->out, o->out_len);
		}
	}
	gw_count(&c->opened, good);
	gw_count(&c->opened_octets, octets);
}

static void from_address(const struct sockaddr_storage *a, uint8_t address[16], uint16_t *port)
{
	if (a->ss_family == AF_INET) {
		const struct sockaddr_in *v4 = (const struct sockaddr_in *)a;
		eesp_addr_from_ipv4(address, &v4->sin_addr);
		*port = ntohs(v4->sin_port);
		return;
	}
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)a;
	memcpy(address, &v6->sin6_addr, 16);
	*port = ntohs(v6->sin6_port);
}

/* Opens the datagrams of one message. */
static void open_message(struct worker *w, size_t which)
{
	const struct gw_end *e = &w->tap->end;
	const uint32_t len = w->in_msg[which].msg_len, each = datagram_len(&w->in_msg[which]);
	uint8_t *at = w->in_iov[which].iov_base, source[16];
	uint16_t port;
	from_address(&w->from[which], source, &port);
	struct gw_peer *p = gw_peer_at(w->gw, e, source);
	if (p == NULL) {
		gw_stranger(w->gw, source, len == 0 ? 1 : (len + each - 1) / each);
		return;
	}
	eesp_addr addr; /* the addresses as the sender saw them */
	memcpy(addr.src, p->addr.dst, 16);
	memcpy(addr.dst, p->addr.src, 16);
	uint32_t done = 0, index = 0;
	do {
		size_t n = 0;
		do {
			const uint32_t one = len - done < each ? len - done : each;
			w->opened[n] = (eesp_pkt){ .data = at + done, .len = one, .addr = addr };
			if (e->profile == EESP_PROFILE_TSS && one <= w->tap->slot - ROOM) {
				/* The octets in front, where the prefix goes, belong to another packet. */
				uint8_t *copy = w->copies +
						(which * MAX_DATAGRAMS + index++ % MAX_DATAGRAMS) * w->tap->slot + ROOM;
				memcpy(copy, at + done, one);
				const uint32_t prefix = gw_put_prefix(copy, &addr, port, e->udp_port);
				w->opened[n].data = copy;
				w->opened[n].headroom = prefix;
				w->opened[n].flags = prefix == EESP_TSS_LEAD_IPV6 ? EESP_PKT_IPV6 : 0;
			}
			done += one;
		} while (++n < CALL && done < len);
		eesp_open_burst(e->receiver, w->opened, n);
		deliver(w, p, n);
	} while (done < len);
}

/* Receives up to MESSAGES messages from the socket. false: there are none. */
static bool open_from_udp(struct worker *w)
{
	for (size_t i = 0; i < MESSAGES; i++)
		w->in_msg[i].msg_hdr = (struct msghdr){ .msg_name = &w->from[i], .msg_namelen = sizeof w->from[i],
							.msg_iov = &w->in_iov[i], .msg_iovlen = 1,
							.msg_control = w->in_control[i].octets,
							.msg_controllen = sizeof w->in_control[i].octets };
	int n = recvmmsg(w->in, w->in_msg, MESSAGES, MSG_DONTWAIT, NULL);
	for (int i = 0; i < n; i++)
		open_message(w, (size_t)i);
	write_run(w); /* before the buffers of its packets are used again */
	gw_count(&w->bursts, n > 0);
	return n > 0;
}

static void *run(void *arg)
{
	struct worker *w = arg;
	struct pollfd fds[] = { { w->tun, POLLIN, 0 }, { w->in, POLLIN, 0 }, { w->tap->stop, POLLIN, 0 } };
	eesp_status status = eesp_thread_init();
	if (status != EESP_OK)
		die("thread: %s (%s)", eesp_strerror(status), eesp_last_error());
	while (poll(fds, 3, -1) >= 0 || errno == EINTR) {
		if (fds[2].revents != 0)
			return NULL;
		bool busy;
		do {
			busy = open_from_udp(w);
			busy |= seal_from_tun(w);
		} while (busy && !atomic_load_explicit(&gw_stop, memory_order_relaxed));
	}
	die("poll: %s", strerror(errno));
}

/* ---- Setting up --------------------------------------------------------------------------- */

static socklen_t socket_address(const uint8_t address[16], uint16_t port, struct sockaddr_storage *a)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	if (memcmp(address, mapped, sizeof mapped) == 0) {
		struct sockaddr_in *v4 = (struct sockaddr_in *)a;
		*v4 = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(port) };
		memcpy(&v4->sin_addr, address + 12, 4);
		return sizeof *v4;
	}
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)a;
	*v6 = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = htons(port) };
	memcpy(&v6->sin6_addr, address, 16);
	return sizeof *v6;
}

static int open_udp(const struct gw_end *e, uint16_t port)
{
	struct sockaddr_storage a;
	socklen_t len = socket_address(e->address, port, &a);
	char text[GW_ADDRESS_TEXT];
	const int on = 1, size = SOCKET_BUFFER;
	int fd = socket(a.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || (port != 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0) ||
	    bind(fd, (struct sockaddr *)&a, len) != 0)
		die("%s port %u: %s", gw_text(e->address, text), port, strerror(errno));
	/* Peers send many packets at once. Without the right to so much, the buffer is as large as allowed. */
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) != 0)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
	setsockopt(fd, SOL_UDP, UDP_GRO, &on, sizeof on);
	return fd;
}

/* The longest packet of the device that fits the path to a peer. */
static uint32_t path_mtu(const struct gw *g, const struct tap *t, const struct gw_peer *p)
{
	const bool v6 = t->address[p->index].ss_family == AF_INET6;
	int mtu, fd = socket(t->address[p->index].ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof mtu;
	char text[GW_ADDRESS_TEXT];
	if (fd < 0 || connect(fd, (const struct sockaddr *)&t->address[p->index], t->address_len) != 0 ||
	    getsockopt(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_MTU : IP_MTU, &mtu, &len) != 0)
		die("path to %s: %s", gw_text(p->address, text), strerror(errno));
	close(fd);
	mtu = mtu > MAX_PACKET ? MAX_PACKET : mtu;
	return (uint32_t)mtu - (v6 ? 40 : 20) - 8 - gw_overhead(g, &t->end);
}

/* Opens a queue of the TUN device; the first one creates the device. */
static int open_tun(const struct gw *g, struct tap *t)
{
	struct ifreq ifr = { .ifr_flags = (short)(IFF_TUN | IFF_NO_PI | IFF_VNET_HDR |
						  (t->queues > 1 ? IFF_MULTI_QUEUE : 0)) };
	const unsigned offload = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6;
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	memcpy(ifr.ifr_name, t->name, strlen(t->name));
	if (fd < 0 || ioctl(fd, TUNSETIFF, &ifr) != 0)
		gw_fail(g, t->line, "tunnel device %s: %s", t->name, strerror(errno));
	t->udp_segments = ioctl(fd, TUNSETOFFLOAD, offload | TUN_F_USO4 | TUN_F_USO6) == 0;
	if (!t->udp_segments && ioctl(fd, TUNSETOFFLOAD, offload) != 0)
		gw_fail(g, t->line, "tunnel device %s: no offloads: %s", t->name, strerror(errno));
	return fd;
}

static void set_mtu(struct gw *g, struct tap *t)
{
	struct ifreq ifr = { 0 };
	uint32_t least = MAX_PACKET;
	for (size_t i = 0; i < g->peer_count && t->mtu == 0; i++) {
		uint32_t mtu = path_mtu(g, t, &g->peers[i]);
		least = mtu < least ? mtu : least;
	}
	t->mtu = t->mtu != 0 ? t->mtu : least;
	memcpy(ifr.ifr_name, t->name, strlen(t->name));
	ifr.ifr_mtu = (int)t->mtu;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || ioctl(fd, SIOCSIFMTU, &ifr) != 0)
		gw_fail(g, t->line, "tunnel device %s: MTU %u: %s", t->name, t->mtu, strerror(errno));
	close(fd);
	printf("%s has MTU %u\n", t->name, t->mtu);
}

static void *memory(size_t n)
{
	void *p = calloc(1, n);
	if (p == NULL)
		die("%s", strerror(errno));
	return p;
}

static void start_worker(struct gw *g, struct tap *t, unsigned index, int tun)
{
	struct worker *w = memory(sizeof *w);
	struct sockaddr_storage a;
	socklen_t len = sizeof a;
	uint8_t address[16];
	w->gw = g;
	w->tap = t;
	w->index = index;
	w->tun = tun;
	w->gso = true;
	w->in = open_udp(&t->end, t->end.udp_port);
	w->out = index == 0 ? w->in : open_udp(&t->end, 0);
	if (getsockname(w->out, (struct sockaddr *)&a, &len) != 0)
		die("getsockname: %s", strerror(errno));
	from_address(&a, address, &w->out_port);
	w->slots = memory(BATCH * t->slot);
	w->surplus = memory(t->slot + MAX_PACKET);
	w->received = memory((size_t)MESSAGES * MAX_PACKET);
	if (t->end.profile == EESP_PROFILE_TSS)
		w->copies = memory((size_t)MESSAGES * MAX_DATAGRAMS * t->slot);
	w->run.udp_segments = t->udp_segments;
	for (size_t i = 0; i < BATCH; i++)
		w->out_msg[i] = (struct mmsghdr){ 0 };
	for (size_t i = 0; i < MESSAGES; i++)
		w->in_iov[i] = (struct iovec){ w->received + i * MAX_PACKET, MAX_PACKET };
	t->workers[index] = w;
	g->counts[g->worker_count++] = &w->counts;
}

/* ---- Statements and commands that only tap_gw has --------------------------------------------- */

/* local ADDRESS [udp-port N] */
static void read_local(struct gw_line *l)
{
	struct tap *t = l->gw->program;
	const char *key, *value;
	snprintf(t->end.name, sizeof t->end.name, "local");
	t->end.line = l->number;
	gw_address(l, "local", l->word[1], t->end.address);
	for (int at = 2; gw_pair(l, &at, &key, &value);)
		if (strcmp(key, "udp-port") == 0)
			t->end.udp_port = (uint16_t)gw_number(l, key, value, 1, 65535);
		else
			gw_fail_line(l, "local has no '%s'", key);
	gw_add_end(l, &t->end);
}

/* tun NAME [mtu N] [queues N] */
static void read_tun(struct gw_line *l)
{
	struct tap *t = l->gw->program;
	const char *key, *value;
	t->line = l->number;
	gw_copy(l, "tun", t->name, sizeof t->name, l->word[1]);
	for (int at = 2; gw_pair(l, &at, &key, &value);)
		if (strcmp(key, "mtu") == 0)
			t->mtu = (uint32_t)gw_number(l, key, value, 68, MAX_PACKET);
		else if (strcmp(key, "queues") == 0)
			t->queues = (unsigned)gw_number(l, key, value, 1, GW_MAX_WORKERS);
		else
			gw_fail_line(l, "tun has no '%s'", key);
}

static const struct gw_statement statements[] = {
	{ "local", 2, GW_MAX_WORDS, true, read_local, "ADDRESS [udp-port N]" },
	{ "tun", 2, GW_MAX_WORDS, true, read_tun, "NAME [mtu N] [queues N]" },
	{ 0 },
};

static void check_whole(struct gw *g)
{
	if (g->end_count == 0 || g->peer_count == 0)
		gw_fail(g, 1, "there is no statement %s", g->end_count == 0 ? "local" : "peer");
}

static void print_stats(const struct gw *g, FILE *to)
{
	const struct tap *t = g->program;
	uint64_t sealed = 0, opened = 0, refused = 0, bursts = 0, drops[DROP_COUNT] = { 0 };
	for (size_t i = 0; i < g->peer_count; i++) {
		struct gw_sums s;
		gw_sum(g, &g->peers[i], &s);
		sealed += s.sealed;
		opened += s.opened;
		for (int n = 0; n < EESP_STATUS_COUNT; n++)
			refused += s.refused[n];
	}
	for (size_t i = 0; i < g->worker_count; i++) {
		bursts += atomic_load(&t->workers[i]->bursts);
		for (int d = 0; d < DROP_COUNT; d++)
			drops[d] += atomic_load(&t->workers[i]->drops[d]);
	}
	fprintf(to, "sealed %llu opened %llu refused %llu bursts %llu", (unsigned long long)sealed,
		(unsigned long long)opened, (unsigned long long)refused, (unsigned long long)bursts);
	for (int d = 0; d < DROP_COUNT; d++)
		if (drops[d] != 0)
			fprintf(to, "\ndropped %llu: %s", (unsigned long long)drops[d], drop_names[d]);
	fputc('\n', to);
}

static void own_metrics(struct gw *g, FILE *to)
{
	const struct tap *t = g->program;
	uint64_t bursts = 0, n;
	for (size_t i = 0; i < g->worker_count; i++)
		bursts += atomic_load(&t->workers[i]->bursts);
	gw_metric(to, "eesp_gateway_bursts", "counter", "Times that packets were taken from the device or the socket; "
							"packets by bursts is how full they are.");
	fprintf(to, "eesp_gateway_bursts_total %llu\n", (unsigned long long)bursts);
	gw_metric(to, "eesp_gateway_dropped", "counter", "Packets that the gateway itself dropped, by reason.");
	for (int d = 0; d < DROP_COUNT; d++) {
		n = 0;
		for (size_t i = 0; i < g->worker_count; i++)
			n += atomic_load(&t->workers[i]->drops[d]);
		fprintf(to, "eesp_gateway_dropped_total{reason=\"%s\"} %llu\n", drop_names[d], (unsigned long long)n);
	}
}

static void show_stats(struct gw_command *c) { print_stats(c->gw, c->answer); }

static const struct gw_verb verbs[] = { { "stats", 1, 1, show_stats, "" }, { 0 } };

/* ---- Running ---------------------------------------------------------------------------------- */

static void start(struct gw *g, struct tap *t)
{
	if (t->queues == 0) {
		long cpus = sysconf(_SC_NPROCESSORS_ONLN);
		t->queues = cpus < 1 ? 1 : cpus > GW_MAX_WORKERS ? GW_MAX_WORKERS : (unsigned)cpus;
	}
	gw_open(g, t->queues);
	for (size_t i = 0; i < g->peer_count; i++)
		t->address_len = socket_address(g->peers[i].address, t->end.udp_port, &t->address[i]);
	int tuns[GW_MAX_WORKERS];
	for (unsigned i = 0; i < t->queues; i++)
		tuns[i] = open_tun(g, t);
	set_mtu(g, t);
	t->slot = (ROOM + t->mtu + TAIL + 63) / 64 * 64 + 64; /* not a power of 2: those share cache sets */
	t->stop = eventfd(0, EFD_CLOEXEC);
	for (unsigned i = 0; i < t->queues; i++)
		start_worker(g, t, i, tuns[i]);
	for (unsigned i = 0; i < t->queues; i++)
		if (pthread_create(&t->workers[i]->thread, NULL, run, t->workers[i]) != 0)
			die("no thread: %s", strerror(errno));
}

static void serve(struct gw *g, int listener, int metrics, int signals)
{
	struct pollfd fds[] = { { listener, POLLIN, 0 }, { signals, POLLIN, 0 }, { metrics, POLLIN, 0 } };
	const int second = 1000;
	time_t last = time(NULL);
	while (!atomic_load(&gw_stop)) {
		int n = poll(fds, 3, g->stats != 0 ? second : -1);
		if (n > 0 && fds[1].revents != 0)
			break;
		if (n > 0 && fds[0].revents != 0)
			gw_control_serve(g, listener, verbs);
		if (n > 0 && fds[2].revents != 0)
			gw_metrics_serve(g, metrics);
		if (g->stats != 0 && time(NULL) - last >= (time_t)g->stats) {
			print_stats(g, stdout);
			last = time(NULL);
		}
	}
}

static void stop(struct gw *g, struct tap *t)
{
	const uint64_t one = 1;
	atomic_store(&gw_stop, true);
	if (write(t->stop, &one, sizeof one) != sizeof one)
		die("eventfd: %s", strerror(errno));
	for (unsigned i = 0; i < t->queues; i++)
		pthread_join(t->workers[i]->thread, NULL);
	struct gw_command c = { .gw = g, .answer = stdout };
	gw_show_status(&c);
	print_stats(g, stdout);
	for (unsigned i = 0; i < t->queues; i++) {
		struct worker *w = t->workers[i];
		if (w->out != w->in)
			close(w->out);
		close(w->in);
		close(w->tun);
		free(w->copies);
		free(w->received);
		free(w->surplus);
		free(w->slots);
		free(w);
	}
	close(t->stop);
	gw_close(g);
}

static void print_usage(FILE *to)
{
	fprintf(to, "usage: %s CONFIG                   run: an encrypted tunnel to each peer of the configuration\n",
		gw_program);
	gw_print_tools(to);
}

int main(int argc, char **argv)
{
	static struct gw g;
	static struct tap t = { .name = "eesp0" };
	gw_program = "tap_gw";
	g.statements = statements;
	g.check = check_whole;
	g.metrics_of_program = own_metrics;
	g.program = &t;
	setvbuf(stdout, NULL, _IOLBF, 0);
	int done = gw_tools(&g, argc, argv);
	if (done >= 0)
		return done;
	if (argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
		print_usage(stdout);
		fputs("\nSIGTERM, SIGINT and the command stop print statistics and end the gateway. Exit status:\n"
		      "0 done, 1 error, 2 wrong arguments. EESP_BACKEND in the environment names the backend.\n",
		      stdout);
		return 0;
	}
	if (argc != 2 || argv[1][0] == '-') {
		print_usage(stderr);
		return 2;
	}
	gw_read(&g, argv[1]);
	/* Signals are read, not caught: a handler would interrupt bursts, and the kernel would save registers with
	 * keys. */
	sigset_t ending;
	sigemptyset(&ending);
	sigaddset(&ending, SIGTERM);
	sigaddset(&ending, SIGINT);
	sigaddset(&ending, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &ending, NULL);
	sigdelset(&ending, SIGHUP);
	int signals = signalfd(-1, &ending, SFD_CLOEXEC), listener = gw_control_open(&g),
	    metrics = gw_metrics_open(&g);
	start(&g, &t);
	printf("ready, backend %s, %u queues\n", eesp_backend_name(), t.queues);
	serve(&g, listener, metrics, signals);
	gw_metrics_close(&g, metrics);
	gw_control_close(&g, listener);
	stop(&g, &t);
	return 0;
}
