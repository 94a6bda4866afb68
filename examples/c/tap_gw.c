/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tap_gw - an encrypted tunnel between two hosts, with what Linux has built in
 *
 * A TUN device takes IP packets from the host; they are sealed in bursts, in
 * place, and sent to the peer in UDP datagrams with sendmmsg. What comes from
 * the peer with recvmmsg is opened and given to the TUN device.
 *
 *     UDP | Security Header | ciphertext | ICV
 *
 * To copy from: seal_from_tun and open_to_tun have the bursts, load_key and
 * rotate_key_file the root key. Signals are let in while waiting only (where a
 * handler interrupts a burst, the kernel saves registers with keys in them),
 * and the handler writes to a pipe.
 */
#define _GNU_SOURCE
#include <eesp.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#define MAX_BURST 64
#define MAX_PACKET 65535
#define MAX_DER 512
#define SOCKET_BUFFER (4 << 20)
#define UDP_LEN 8
#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)
#define REPLAY_WINDOW 4096
/* Packets are read behind the headroom that sealing may need. */
#define BUFFER_LEN EESP_MAX_SEALED_LEN(MAX_PACKET)

struct gateway {
	int tun, udp, signals;
	eesp_group *group;
	eesp_sender *sender;
	eesp_receiver *receiver;
	size_t burst;
	uint8_t *buffers;
	eesp_pkt pkt[MAX_BURST];
	struct iovec iov[MAX_BURST];
	struct mmsghdr msg[MAX_BURST];
	unsigned long long not_sent, not_delivered; /* refused by the kernel */
};

__attribute__((format(printf, 1, 2))) static void warn(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	fputs("tap_gw: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
}

#define die(...) (warn(__VA_ARGS__), exit(1))

static void check(eesp_status status, const char *what)
{
	if (status != EESP_OK)
		die("%s: %s (%s)", what, eesp_strerror(status), eesp_last_error());
}

/* ---- The root key and its file ------------------------------------------- */

/* Puts the root key of a file into the group, in place of the one there. */
static bool load_key(eesp_group *group, const char *path)
{
	uint8_t der[MAX_DER];
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t len = fd < 0 ? -1 : read(fd, der, sizeof der);
	bool good = false;
	if (len < 0 || fstat(fd, &st) != 0)
		warn("%s: %s", path, strerror(errno));
	else if ((st.st_mode & 077) != 0)
		warn("%s: open to others; chmod 600 it", path);
	else if (eesp_group_set_root_key_der(group, EESP_LEVEL_ZONE, der, (size_t)len) != EESP_OK)
		warn("%s: %s", path, eesp_last_error());
	else
		good = true;
	explicit_bzero(der, sizeof der);
	if (fd >= 0)
		close(fd);
	return good;
}

/* Writes the group's root key to a new file, which then takes the name. */
static void save_key(const eesp_group *group, const char *path, bool replace)
{
	uint8_t der[MAX_DER];
	size_t len = sizeof der;
	char temporary[4096];
	if ((size_t)snprintf(temporary, sizeof temporary, "%s.new", path) >= sizeof temporary)
		die("%s: the path is too long", path);
	check(eesp_group_get_root_key_der(group, EESP_LEVEL_ZONE, der, &len), "root key");
	int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		die("%s: %s", temporary, strerror(errno));
	bool good = write(fd, der, len) == (ssize_t)len && fsync(fd) == 0;
	explicit_bzero(der, sizeof der);
	good = close(fd) == 0 && good && (replace ? rename(temporary, path) : link(temporary, path)) == 0;
	int why = errno;
	if (!good || !replace)
		unlink(temporary);
	if (!good)
		die("%s: %s", path, strerror(why));
}

static void make_key_file(const char *path)
{
	eesp_group *group;
	uint8_t id[EESP_MIN_ROOT_KEY_ID];
	if (getrandom(id, sizeof id, 0) != sizeof id)
		die("no random numbers: %s", strerror(errno));
	check(eesp_group_new(NULL, &group), "group");
	check(eesp_group_generate_root_key(group, EESP_LEVEL_ZONE, id, sizeof id), "root key");
	save_key(group, path, false);
	eesp_group_free(group);
}

static void rotate_key_file(const char *path)
{
	eesp_group *group;
	eesp_root_key_info info;
	check(eesp_group_new(NULL, &group), "group");
	if (!load_key(group, path))
		exit(1);
	check(eesp_group_get_root_key_info(group, EESP_LEVEL_ZONE, &info), "root key");
	check(eesp_group_rotate(group, EESP_LEVEL_ZONE, info.index[2] + 1, NULL), "rotation");
	save_key(group, path, true);
	eesp_group_free(group);
}

/* ---- The tunnel ---------------------------------------------------------- */

static uint8_t *buffer(const struct gateway *g, size_t i)
{
	return g->buffers + i * BUFFER_LEN;
}

static void set_message(struct gateway *g, size_t i, void *data, size_t len)
{
	g->iov[i] = (struct iovec){ data, len };
	g->msg[i] = (struct mmsghdr){ .msg_hdr = { .msg_iov = &g->iov[i], .msg_iovlen = 1 } };
}

static void seal_from_tun(struct gateway *g)
{
	size_t n = 0, good = 0;
	for (; n < g->burst; n++) {
		uint8_t *payload = buffer(g, n) + EESP_MAX_HEADER;
		ssize_t len = read(g->tun, payload, MAX_PACKET);
		if (len < 0 && errno != EAGAIN && errno != EINTR)
			die("tunnel device: %s", strerror(errno));
		if (len <= 0)
			break;
		g->pkt[n] = (eesp_pkt){ .data = payload, .len = (uint32_t)len, .headroom = EESP_MAX_HEADER,
					.tailroom = EESP_ICV_LEN };
	}
	eesp_seal_burst(g->sender, g->pkt, n);
	for (size_t i = 0; i < n; i++)
		if (g->pkt[i].status == EESP_OK)
			set_message(g, good++, g->pkt[i].out, g->pkt[i].out_len);
	for (size_t at = 0; at < good;) {
		int sent = sendmmsg(g->udp, g->msg + at, (unsigned)(good - at), 0);
		if (sent < 0) { /* about the first of them, which is lost */
			g->not_sent++;
			sent = 1;
		}
		at += (size_t)sent;
	}
}

static void open_to_tun(struct gateway *g)
{
	for (size_t i = 0; i < g->burst; i++)
		set_message(g, i, buffer(g, i), BUFFER_LEN);
	int n = recvmmsg(g->udp, g->msg, (unsigned)g->burst, MSG_DONTWAIT, NULL);
	if (n < 0)
		return; /* nothing there, or what ICMP said of an earlier datagram */
	for (int i = 0; i < n; i++)
		g->pkt[i] = (eesp_pkt){ .data = g->iov[i].iov_base, .len = g->msg[i].msg_len };
	eesp_open_burst(g->receiver, g->pkt, (size_t)n);
	for (int i = 0; i < n; i++)
		if (g->pkt[i].status == EESP_OK && write(g->tun, g->pkt[i].out, g->pkt[i].out_len) < 0)
			g->not_delivered++;
}

static void print_stats(const struct gateway *g, bool all)
{
	eesp_stats sealed, opened;
	check(eesp_sender_stats(g->sender, &sealed), "statistics");
	check(eesp_receiver_stats(g->receiver, &opened), "statistics");
	unsigned long long refused = 0;
	for (int i = 1; i < EESP_STATUS_COUNT; i++)
		refused += sealed.packets[i] + opened.packets[i];
	printf("sealed %llu opened %llu refused %llu not-sent %llu not-delivered %llu\n",
	       (unsigned long long)sealed.packets[0], (unsigned long long)opened.packets[0], refused, g->not_sent,
	       g->not_delivered);
	for (int i = 1; all && i < EESP_STATUS_COUNT; i++)
		if (sealed.packets[i] + opened.packets[i] != 0)
			printf("refused %llu: %s\n", (unsigned long long)(sealed.packets[i] + opened.packets[i]),
			       eesp_strerror(-i));
}

static int signal_pipe[2];

static void on_signal(int number)
{
	int saved = errno;
	char c = (char)number;
	if (write(signal_pipe[1], &c, 1) < 0) {
		/* full: enough of them are waiting */
	}
	errno = saved;
}

static void forward(struct gateway *g, const char *key_path)
{
	struct pollfd fds[] = { { g->tun, POLLIN, 0 }, { g->udp, POLLIN, 0 }, { g->signals, POLLIN, 0 } };
	sigset_t none;
	sigemptyset(&none);
	for (char got = 0; got != SIGTERM && got != SIGINT;) {
		if (ppoll(fds, 3, NULL, &none) < 0) {
			if (errno != EINTR)
				die("ppoll: %s", strerror(errno));
			continue;
		}
		if (fds[0].revents != 0)
			seal_from_tun(g);
		if (fds[1].revents != 0)
			open_to_tun(g);
		if (fds[2].revents == 0 || read(g->signals, &got, 1) != 1)
			continue;
		if (got == SIGALRM)
			print_stats(g, false);
		if (got == SIGHUP && load_key(g->group, key_path))
			printf("root key read again\n");
	}
	print_stats(g, true);
}

/* ---- Setting up ---------------------------------------------------------- */

struct arguments {
	const char *key, *local, *peer, *port, *tun, *lock_dir;
	unsigned long id, aead, burst, replay_window;
	bool verbose;
};

static struct addrinfo *resolve(const char *address, const char *port)
{
	const struct addrinfo hints = { .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_DGRAM };
	struct addrinfo *found;
	int error = getaddrinfo(address, port, &hints, &found);
	if (error != 0)
		die("%s: %s", address, gai_strerror(error));
	return found;
}

/* Connected to the peer: the kernel passes on what comes from there only. */
static int open_udp(const struct arguments *a, bool *v6)
{
	struct addrinfo *local = resolve(a->local, a->port), *peer = resolve(a->peer, a->port);
	int size = SOCKET_BUFFER, fd = socket(peer->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (local->ai_family != peer->ai_family)
		die("%s and %s: one is IPv4, one IPv6", a->local, a->peer);
	if (fd < 0 || bind(fd, local->ai_addr, local->ai_addrlen) != 0)
		die("%s port %s: %s", a->local, a->port, strerror(errno));
	if (connect(fd, peer->ai_addr, peer->ai_addrlen) != 0)
		die("%s: %s", a->peer, strerror(errno));
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size) != 0)
		die("SO_RCVBUF: %s", strerror(errno));
	*v6 = peer->ai_family == AF_INET6;
	freeaddrinfo(local);
	freeaddrinfo(peer);
	return fd;
}

/* Makes the TUN device; its MTU is what the path to the peer leaves. */
static int open_tun(const char *name, int udp, bool v6, uint32_t header_len)
{
	struct ifreq ifr = { .ifr_flags = IFF_TUN | IFF_NO_PI };
	int mtu, fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	socklen_t len = sizeof mtu;
	memcpy(ifr.ifr_name, name, strlen(name)); /* shorter than IFNAMSIZ */
	if (fd < 0 || ioctl(fd, TUNSETIFF, &ifr) != 0)
		die("tunnel device %s: %s", name, strerror(errno));
	if (getsockopt(udp, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_MTU : IP_MTU, &mtu, &len) != 0)
		die("MTU of the path: %s", strerror(errno));
	mtu = mtu > MAX_PACKET ? MAX_PACKET : mtu;
	ifr.ifr_mtu = mtu - (v6 ? 40 : 20) - UDP_LEN - (int)header_len - EESP_ICV_LEN;
	if (ioctl(udp, SIOCSIFMTU, &ifr) != 0)
		die("tunnel device %s: MTU %d: %s", name, ifr.ifr_mtu, strerror(errno));
	printf("%s has MTU %d\n", name, ifr.ifr_mtu);
	return fd;
}

static void open_gateway(struct gateway *g, const struct arguments *a)
{
	eesp_group_config group = EESP_GROUP_CONFIG_INIT;
	group.aead = a->aead == 128 ? EESP_AEAD_AES_128_GCM : EESP_AEAD_AES_256_GCM;
	check(eesp_group_new(&group, &g->group), "group");
	if (!load_key(g->group, a->key))
		exit(1);

	/* Headers name the root key, so that packets under way open during a rotation. */
	eesp_sender_config sender = EESP_SENDER_CONFIG_INIT;
	sender.id = a->id;
	sender.flags = EESP_SENDER_OPTIONS;
	/* A second gateway that was started with this ID by mistake would repeat our nonces. */
	sender.lock_dir = a->lock_dir;
	if (a->lock_dir != NULL && mkdir(a->lock_dir, 0700) != 0 && errno != EEXIST)
		die("%s: %s (--lock-dir)", a->lock_dir, strerror(errno));
	check(eesp_sender_new(g->group, &sender, &g->sender), "sender");

	eesp_receiver_config receiver = EESP_RECEIVER_CONFIG_INIT;
	receiver.own_ids = &sender.id;
	receiver.own_id_count = 1;
	receiver.replay_window = (uint32_t)a->replay_window;
	check(eesp_receiver_new(&g->group, 1, &receiver, &g->receiver), "receiver");
	check(eesp_thread_init(), "thread");

	bool v6;
	g->burst = a->burst;
	g->buffers = malloc(g->burst * BUFFER_LEN);
	if (g->buffers == NULL || pipe2(signal_pipe, O_NONBLOCK | O_CLOEXEC) != 0)
		die("%s", strerror(errno));
	g->signals = signal_pipe[0];
	g->udp = open_udp(a, &v6);
	g->tun = open_tun(a->tun, g->udp, v6, eesp_sender_header_len(g->sender));

	static const int numbers[] = { SIGALRM, SIGHUP, SIGINT, SIGTERM };
	sigset_t blocked;
	sigemptyset(&blocked);
	for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
		sigaddset(&blocked, numbers[i]);
	if (pthread_sigmask(SIG_BLOCK, &blocked, NULL) != 0)
		die("signals cannot be blocked");
	const struct sigaction action = { .sa_handler = on_signal, .sa_mask = blocked,
					  .sa_flags = SA_ONSTACK | SA_RESTART };
	for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
		if (sigaction(numbers[i], &action, NULL) != 0)
			die("signals: %s", strerror(errno));
	const struct itimerval second = { { 1, 0 }, { 1, 0 } };
	if (a->verbose && setitimer(ITIMER_REAL, &second, NULL) != 0)
		die("timer: %s", strerror(errno));
	printf("ready, backend %s, AES-%lu-GCM\n", eesp_backend_name(), a->aead);
}

static const char usage[] =
	"usage: tap_gw --key FILE --id N --local ADDRESS --peer ADDRESS [--port N]\n"
	"              [--tun NAME] [--aead 128|256] [--burst N] [--replay-window N]\n"
	"              [--lock-dir DIR] [-v]\n"
	"       tap_gw --make-key FILE\n"
	"       tap_gw --rotate-key FILE\n";
static const char help[] =
	"An encrypted tunnel to a peer: a TUN device here, UDP to there.\n\n"
	"  --key FILE         root key (DER), the same at both ends; SIGHUP reads it again\n"
	"  --id N             DeviceID that this end sends under; the peer needs another\n"
	"  --local, --peer    the two ends' IP addresses; --port N for both\n"
	"                     (default " TEXT(EESP_UDP_PORT) ", which nobody is assigned)\n"
	"  --tun NAME         the device (default eesp0): give it an address and set it up\n"
	"  --aead BITS        AES-GCM key size: 128 (default) or 256\n"
	"  --burst N          packets a call at most, 1 to 64 (default 32)\n"
	"  --replay-window N  packets that may come out of order, 64 to 65536 (default 4096);\n"
	"                     what came before is refused; 0: no replay protection\n"
	"  --lock-dir DIR     where the ID is locked against a second gateway of this host\n"
	"                     (default /run/eesp); none: not\n"
	"  -v                 print statistics every second\n"
	"  --make-key FILE    write a new root key; the file must not exist\n"
	"  --rotate-key FILE  move its root keys on by one and make a new next one\n\n"
	"To rotate: --rotate-key, copy the file to the peer, SIGHUP both within one step.\n"
	"SIGTERM and SIGINT print statistics and end it. Exit status: 0 done, 1 error,\n"
	"2 wrong arguments. EESP_BACKEND in the environment names the backend.\n";

__attribute__((noreturn)) static void wrong_usage(const char *what)
{
	fprintf(stderr, "tap_gw: %s\n%s", what, usage);
	exit(2);
}

static unsigned long number(const char *text, unsigned long least, unsigned long most, const char *complaint)
{
	char *end;
	errno = 0;
	unsigned long n = strtoul(text, &end, 0);
	if (errno != 0 || *text < '0' || *text > '9' || *end != '\0' || n < least || n > most)
		wrong_usage(complaint);
	return n;
}

int main(int argc, char **argv)
{
	enum { KEY = 256, ID, LOCAL, PEER, PORT, TUN, AEAD, BURST, WINDOW, LOCK_DIR, MAKE, ROTATE };
	static const struct option options[] = {
		{ "key", required_argument, NULL, KEY },       { "id", required_argument, NULL, ID },
		{ "local", required_argument, NULL, LOCAL },   { "peer", required_argument, NULL, PEER },
		{ "port", required_argument, NULL, PORT },     { "tun", required_argument, NULL, TUN },
		{ "aead", required_argument, NULL, AEAD },     { "burst", required_argument, NULL, BURST },
		{ "make-key", required_argument, NULL, MAKE }, { "rotate-key", required_argument, NULL, ROTATE },
		{ "replay-window", required_argument, NULL, WINDOW },
		{ "lock-dir", required_argument, NULL, LOCK_DIR }, { "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct arguments a = { .port = TEXT(EESP_UDP_PORT), .tun = "eesp0", .aead = 128, .burst = 32, .replay_window = REPLAY_WINDOW,
			       .lock_dir = "/run/eesp" };
	static const char window[] = "--replay-window takes 0, or a number from 64 to 65536";
	const char *make = NULL, *rotate = NULL;
	for (int c; (c = getopt_long(argc, argv, "vh", options, NULL)) != -1;) {
		switch (c) {
		case KEY: a.key = optarg; break;
		case ID: a.id = number(optarg, 1, UINT32_MAX, "--id takes a number from 1 to 4294967295"); break;
		case LOCAL: a.local = optarg; break;
		case PEER: a.peer = optarg; break;
		case PORT: number(a.port = optarg, 1, 65535, "--port takes a number from 1 to 65535"); break;
		case TUN: a.tun = optarg; break;
		case AEAD: a.aead = number(optarg, 128, 256, "--aead takes 128 or 256"); break;
		case BURST: a.burst = number(optarg, 1, MAX_BURST, "--burst takes a number from 1 to 64"); break;
		case LOCK_DIR: a.lock_dir = strcmp(optarg, "none") != 0 ? optarg : NULL; break;
		case WINDOW: a.replay_window = number(optarg, 0, 65536, window); break;
		case MAKE: make = optarg; break;
		case ROTATE: rotate = optarg; break;
		case 'v': a.verbose = true; break;
		case 'h': printf("%s\n%s", usage, help); return 0;
		default: wrong_usage("wrong option");
		}
	}
	if (a.aead != 128 && a.aead != 256)
		wrong_usage("--aead takes 128 or 256");
	if (a.replay_window != 0 && a.replay_window < 64)
		wrong_usage(window);
	if (strlen(a.tun) >= IFNAMSIZ || a.tun[0] == '\0')
		wrong_usage("--tun takes a name of 1 to 15 characters");
	if (optind != argc)
		wrong_usage("there are options only");
	if (make != NULL || rotate != NULL) {
		if ((make != NULL) + (rotate != NULL) + (a.key != NULL) != 1)
			wrong_usage("only one of --key, --make-key and --rotate-key");
		if (make != NULL)
			make_key_file(make);
		else
			rotate_key_file(rotate);
		return 0;
	}
	if (a.key == NULL || a.id == 0 || a.local == NULL || a.peer == NULL)
		wrong_usage("--key, --id, --local and --peer are needed");

	static struct gateway g;
	setvbuf(stdout, NULL, _IOLBF, 0);
	open_gateway(&g, &a);
	forward(&g, a.key);
	eesp_receiver_free(g.receiver);
	eesp_sender_free(g.sender);
	eesp_group_free(g.group);
	free(g.buffers);
	return 0;
}
