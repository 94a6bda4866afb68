/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcap_tunnel - sends a capture through an encrypted tunnel and back
 *
 * One gateway seals every IP packet of INPUT.pcap and writes OUTDIR/sealed.pcap:
 *
 *     outer IP | UDP | Security Header | ciphertext | ICV
 *
 * Another gateway, which has nothing in common with the first but root keys,
 * reads that file, opens the packets, compares each with the original octet by
 * octet, and writes OUTDIR/opened.pcap. Both rotate the root key in mid-stream,
 * but not at the same packet, so that some packets are opened with the
 * previous root key and some with the next one.
 *
 * To copy from: seal_capture and open_capture have the bursts, make_keys and
 * rotate_if_due the root keys; the rest is about captures and IP.
 */
#define _DEFAULT_SOURCE
#include <eesp.h>
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define IPV4_LEN 20
#define IPV6_LEN 40
#define UDP_LEN 8
#define MAX_BURST 256
#define MAX_FRAME 262144 /* longest record of a capture, as libpcap has it */
#define MAX_DATAGRAM 65535
/* The longest inner packet that fits into an outer one, whatever the header. */
#define MAX_INNER (MAX_DATAGRAM - IPV4_LEN - UDP_LEN - EESP_MAX_HEADER - EESP_ICV_LEN)

/*
 * A frame is read to HEADROOM octets behind the start of its buffer, and sealed
 * there: the Security Header and the outer headers go in front, the ICV behind.
 */
#define HEADROOM (IPV6_LEN + UDP_LEN + EESP_MAX_HEADER)
#define BUFFER_LEN (HEADROOM + MAX_FRAME + EESP_ICV_LEN)

/* The gateways' addresses (for documentation: RFC 5737, RFC 3849). */
static const uint8_t gateway4[2][4] = { { 192, 0, 2, 1 }, { 192, 0, 2, 2 } };
static const uint8_t gateway6[2][16] = { { 0x20, 0x01, 0x0d, 0xb8, [15] = 1 }, { 0x20, 0x01, 0x0d, 0xb8, [15] = 2 } };

__attribute__((format(printf, 1, 2), noreturn)) static void die(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	fputs("pcap_tunnel: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(1);
}

static void check(eesp_status status, const char *what)
{
	if (status != EESP_OK)
		die("%s: %s (%s)", what, eesp_strerror(status), eesp_last_error());
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static void put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

/* ---- Captures: the classic pcap format ---------------------------------- */

#define MAGIC_MICROSECONDS 0xa1b2c3d4u
#define MAGIC_NANOSECONDS 0xa1b23c4du
#define MAGIC_PCAPNG 0x0a0d0d0au
#define LINKTYPE_RAW 101

struct file_header {
	uint32_t magic;
	uint16_t major, minor;
	uint32_t zone, accuracy, max_frame, link;
};

struct frame_header {
	uint32_t time[2]; /* seconds, and micro- or nanoseconds */
	uint32_t len, wire_len;
};

/* Where frames have their EtherType and the packet behind it. */
static const struct link {
	uint32_t number, type_at, ip_at;
} links[] = {
	{ LINKTYPE_RAW, 0, 0 },
	{ 1, 12, 14 },   /* Ethernet */
	{ 113, 14, 16 }, /* Linux cooked */
	{ 276, 0, 20 },  /* Linux cooked, version 2 */
};

struct reader {
	const char *path;
	FILE *file;
	uint32_t magic; /* tells the time stamps' unit */
	bool swapped;   /* the file is in the other byte order */
	const struct link *link;
	uint32_t max_len; /* longest IP packet wanted */
	size_t frames, not_ip, unusable;
};

struct writer {
	char path[4096];
	FILE *file;
	unsigned long long octets;
};

struct packet {
	uint8_t *buffer; /* BUFFER_LEN octets */
	uint8_t *ip;     /* the packet in it */
	uint32_t len;
	uint32_t time[2];
	int version; /* 4 or 6 */
};

static uint32_t from_file(const struct reader *r, uint32_t v)
{
	return r->swapped ? __builtin_bswap32(v) : v;
}

/* Reads exactly len octets. false: the file ended right before them. */
static bool read_all(struct reader *r, void *to, size_t len)
{
	size_t got = fread(to, 1, len, r->file);
	if (ferror(r->file))
		die("%s: %s", r->path, strerror(errno));
	if (got != 0 && got != len)
		die("%s: cut short in frame %zu", r->path, r->frames + 1);
	return got == len;
}

static void open_reader(struct reader *r, const char *path, uint32_t max_len)
{
	struct file_header h = { 0 };
	*r = (struct reader){ .path = path, .max_len = max_len, .file = fopen(path, "rb") };
	if (r->file == NULL)
		die("%s: %s", path, strerror(errno));
	size_t got = fread(&h, 1, sizeof h, r->file);
	if (ferror(r->file))
		die("%s: %s", path, strerror(errno));
	if (got >= sizeof h.magic && h.magic == MAGIC_PCAPNG)
		die("%s: a pcapng file; convert it: tcpdump -r FILE -w FILE.pcap", path);
	uint32_t other = __builtin_bswap32(h.magic);
	r->swapped = other == MAGIC_MICROSECONDS || other == MAGIC_NANOSECONDS;
	r->magic = from_file(r, h.magic);
	if (got != sizeof h || (r->magic != MAGIC_MICROSECONDS && r->magic != MAGIC_NANOSECONDS))
		die("%s: not a pcap file", path);
	for (size_t i = 0; i < sizeof links / sizeof links[0]; i++)
		if (links[i].number == (from_file(r, h.link) & 0xffff))
			r->link = &links[i];
	if (r->link == NULL)
		die("%s: link type %u; Ethernet, raw IP and Linux cooked are known", path, from_file(r, h.link));
}

/* Goes back to the first frame. */
static void rewind_reader(struct reader *r)
{
	if (fseek(r->file, sizeof(struct file_header), SEEK_SET) != 0)
		die("%s: %s", r->path, strerror(errno));
	r->frames = r->not_ip = r->unusable = 0;
}

/* Where the IP packet begins in a frame, len if there is none. */
static uint32_t find_ip(const struct link *link, const uint8_t *frame, uint32_t len)
{
	uint32_t type_at = link->type_at, at = link->ip_at;
	if (at >= len || link->number == LINKTYPE_RAW)
		return at < len && (frame[0] >> 4 == 4 || frame[0] >> 4 == 6) ? at : len;
	for (; at + 4 < len && (get16(frame + type_at) == 0x8100 || get16(frame + type_at) == 0x88a8); at += 4)
		type_at = at + 2; /* a VLAN tag */
	return get16(frame + type_at) == 0x0800 || get16(frame + type_at) == 0x86dd ? at : len;
}

/* Length of the IP packet at p as its header says, 0 if it is not all there. */
static uint32_t ip_len(const uint8_t *p, uint32_t len)
{
	uint32_t said = 0;
	if (len >= IPV4_LEN && p[0] >> 4 == 4 && get16(p + 2) >= IPV4_LEN)
		said = get16(p + 2);
	else if (len >= IPV6_LEN && p[0] >> 4 == 6)
		said = IPV6_LEN + (uint32_t)get16(p + 4);
	return said <= len ? said : 0;
}

/* Reads up to the next IP packet; counts what it passes over. false: the end. */
static bool read_packet(struct reader *r, struct packet *p)
{
	struct frame_header h;
	while (read_all(r, &h, sizeof h)) {
		uint8_t *frame = p->buffer + HEADROOM;
		uint32_t len = from_file(r, h.len);
		if (len > MAX_FRAME)
			die("%s: damaged: frame %zu has %u octets", r->path, r->frames + 1, len);
		if (len != 0 && !read_all(r, frame, len))
			die("%s: cut short in frame %zu", r->path, r->frames + 1);
		r->frames++;
		uint32_t at = find_ip(r->link, frame, len);
		p->ip = frame + at;
		p->len = ip_len(p->ip, len - at);
		if (at == len) {
			r->not_ip++;
		} else if (p->len == 0 || p->len > r->max_len) {
			r->unusable++;
		} else {
			p->version = p->ip[0] >> 4;
			p->time[0] = from_file(r, h.time[0]);
			p->time[1] = from_file(r, h.time[1]);
			return true;
		}
	}
	return false;
}

static void write_all(struct writer *w, const void *from, size_t len)
{
	if (fwrite(from, 1, len, w->file) != len)
		die("%s: %s", w->path, strerror(errno));
	w->octets += len;
}

/* Makes a capture of IP packets with the time stamps' unit of the input. */
static void open_writer(struct writer *w, const char *dir, const char *name, const struct reader *input)
{
	const struct file_header h = { input->magic, 2, 4, 0, 0, MAX_FRAME, LINKTYPE_RAW };
	struct stat in, out;
	w->octets = 0;
	if ((size_t)snprintf(w->path, sizeof w->path, "%s/%s", dir, name) >= sizeof w->path)
		die("%s: the path is too long", dir);
	if (stat(w->path, &out) == 0 && fstat(fileno(input->file), &in) == 0 && in.st_dev == out.st_dev &&
	    in.st_ino == out.st_ino)
		die("%s: this is the input", w->path);
	w->file = fopen(w->path, "wb");
	if (w->file == NULL)
		die("%s: %s", w->path, strerror(errno));
	write_all(w, &h, sizeof h);
}

static void write_packet(struct writer *w, const struct packet *p)
{
	const struct frame_header h = { { p->time[0], p->time[1] }, p->len, p->len };
	write_all(w, &h, sizeof h);
	write_all(w, p->ip, p->len);
}

static void close_writer(struct writer *w)
{
	if (fclose(w->file) != 0)
		die("%s: %s", w->path, strerror(errno));
}

/* ---- The outer headers -------------------------------------------------- */

/* Adds octets to an Internet checksum (RFC 1071), 16 bits at a time. */
static uint32_t sum(uint32_t s, const uint8_t *p, size_t len)
{
	for (; len > 1; p += 2, len -= 2)
		s += get16(p);
	return len ? s + (uint32_t)(p[0] << 8) : s;
}

static uint16_t fold(uint32_t s)
{
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return (uint16_t)~s;
}

/* Puts UDP and an outer header of the inner packet's IP version in front. */
static void add_outer(struct packet *p)
{
	uint32_t udp_len = UDP_LEN + p->len;
	uint8_t *udp = p->ip - UDP_LEN, *ip, *addr;
	size_t addr_len; /* of both addresses */
	put16(udp, EESP_UDP_PORT);
	put16(udp + 2, EESP_UDP_PORT);
	put16(udp + 4, udp_len);
	put16(udp + 6, 0);
	if (p->version == 4) {
		ip = udp - IPV4_LEN;
		/* version and length, don't fragment, hop limit, UDP */
		memcpy(ip, (const uint8_t[12]){ 0x45, [6] = 0x40, [8] = 64, [9] = 17 }, 12);
		put16(ip + 2, IPV4_LEN + udp_len);
		addr = memcpy(ip + 12, gateway4, addr_len = sizeof gateway4);
		put16(ip + 10, fold(sum(0, ip, IPV4_LEN)));
	} else {
		ip = udp - IPV6_LEN;
		memcpy(ip, (const uint8_t[8]){ 0x60, [6] = 17, [7] = 64 }, 8);
		put16(ip + 4, udp_len);
		addr = memcpy(ip + 8, gateway6, addr_len = sizeof gateway6);
	}
	uint16_t checksum = fold(sum(sum(udp_len + 17, addr, addr_len), udp, udp_len));
	put16(udp + 6, checksum == 0 ? 0xffff : checksum);
	p->len += (uint32_t)(p->ip - ip);
	p->ip = ip;
}

static void set_source(eesp_pkt *pkt, int version, const uint8_t *addr)
{
	if (version == 4)
		eesp_addr_from_ipv4(pkt->addr.src, addr);
	else
		memcpy(pkt->addr.src, addr, sizeof pkt->addr.src);
}

/* Finds what an outer packet carries and the address it is from. */
static bool strip_outer(const struct packet *p, eesp_pkt *pkt)
{
	uint32_t udp_at = p->version == 4 ? (p->ip[0] & 15u) * 4 : IPV6_LEN;
	const uint8_t *udp = p->ip + udp_at;
	if (udp_at < IPV4_LEN || udp_at + UDP_LEN > p->len || p->ip[p->version == 4 ? 9 : 6] != 17 ||
	    get16(udp + 2) != EESP_UDP_PORT || get16(udp + 4) != p->len - udp_at)
		return false;
	*pkt = (eesp_pkt){ .data = p->ip + udp_at + UDP_LEN, .len = p->len - udp_at - UDP_LEN };
	set_source(pkt, p->version, p->ip + (p->version == 4 ? 12 : 8));
	return true;
}

/* ---- Root keys ----------------------------------------------------------- */

#define ROTATIONS 2

/* What a key server would give to both gateways, over a protected channel. */
struct keys {
	uint8_t zone[256], user[256]; /* DER */
	size_t zone_len, user_len;
	uint64_t index[ROTATIONS]; /* of the zone's new root keys */
	uint8_t value[ROTATIONS][EESP_ROOT_KEY_LEN];
};

/* One end of the tunnel. */
struct gateway {
	eesp_group *group;
	eesp_root_key_info zone;     /* after the latest rotation */
	size_t rotate_at[ROTATIONS]; /* packets after which to rotate */
	size_t rotations;            /* that have been */
	size_t packets, bursts;
	size_t previous, next;       /* packets opened with a root key that is not the current */
	double seconds;              /* in bursts */
};

static void make_keys(struct keys *k)
{
	static const uint8_t zone_id[16] = "zone of example", user_id[16] = "user of example";
	eesp_group *g;
	k->zone_len = sizeof k->zone;
	k->user_len = sizeof k->user;
	check(eesp_group_new(NULL, &g), "cannot make a group");
	check(eesp_group_generate_root_key(g, EESP_LEVEL_ZONE, zone_id, sizeof zone_id), "cannot make a root key");
	check(eesp_group_generate_root_key(g, EESP_LEVEL_USER, user_id, sizeof user_id), "cannot make a root key");
	check(eesp_group_get_root_key_der(g, EESP_LEVEL_ZONE, k->zone, &k->zone_len), "cannot export a root key");
	check(eesp_group_get_root_key_der(g, EESP_LEVEL_USER, k->user, &k->user_len), "cannot export a root key");
	eesp_group_free(g);
	for (size_t i = 0; i < ROTATIONS; i++) {
		k->index[i] = 3 + i; /* a generated ring has the indices 1 and 2 */
		if (getentropy(k->value[i], sizeof k->value[i]) != 0)
			die("no random numbers: %s", strerror(errno));
	}
}

static void open_gateway(struct gateway *g, const struct keys *k, uint32_t aead)
{
	eesp_group_config config = EESP_GROUP_CONFIG_INIT;
	config.aead = aead;
	check(eesp_group_new(&config, &g->group), "cannot make a group");
	check(eesp_group_set_root_key_der(g->group, EESP_LEVEL_ZONE, k->zone, k->zone_len), "zone root key");
	check(eesp_group_set_root_key_der(g->group, EESP_LEVEL_USER, k->user, k->user_len), "user root key");
}

/* Rotates if it is time, and says how many packets there are to the next time. */
static size_t rotate_if_due(struct gateway *g, const struct keys *k)
{
	for (; g->rotations < ROTATIONS && g->packets >= g->rotate_at[g->rotations]; g->rotations++)
		check(eesp_group_rotate(g->group, EESP_LEVEL_ZONE, k->index[g->rotations], k->value[g->rotations]),
		      "cannot rotate");
	check(eesp_group_get_root_key_info(g->group, EESP_LEVEL_ZONE, &g->zone), "zone root key");
	return g->rotations < ROTATIONS ? g->rotate_at[g->rotations] - g->packets : SIZE_MAX;
}

/* ---- The tunnel ---------------------------------------------------------- */

struct burst {
	size_t max;
	struct packet packet[MAX_BURST];
	eesp_pkt pkt[MAX_BURST];
};

/* Reads packets for a burst, at most limit. */
static size_t fill_burst(struct burst *b, struct reader *from, size_t limit)
{
	size_t n = 0;
	while (n < b->max && n < limit && read_packet(from, &b->packet[n]))
		n++;
	return n;
}

static void seal_capture(struct gateway *g, const struct keys *k, struct burst *b, struct reader *from,
			 struct writer *to)
{
	/*
	 * V: the source address of the outer packet enters the data key, so a
	 * datagram that turns up under another address does not open. Where a NAT
	 * rewrites addresses, use EESP_V_ID. The counters follow the clock.
	 */
	eesp_sender_config config = EESP_SENDER_CONFIG_INIT;
	config.id = 0x01020304; /* of this gateway's sending direction */
	config.v = EESP_V_ID_SRC;
	config.flags = EESP_SENDER_OPTIONS; /* headers tell which root keys were used */
	eesp_sender *sender;
	check(eesp_sender_new(g->group, &config, &sender), "cannot make a sender");

	for (size_t n; (n = fill_burst(b, from, rotate_if_due(g, k))) != 0; g->packets += n, g->bursts++) {
		for (size_t i = 0; i < n; i++) {
			struct packet *p = &b->packet[i];
			b->pkt[i] = (eesp_pkt){ .data = p->ip, .len = p->len, .headroom = EESP_MAX_HEADER,
						.tailroom = EESP_ICV_LEN };
			set_source(&b->pkt[i], p->version, p->version == 4 ? gateway4[0] : gateway6[0]);
		}

		double start = now();
		eesp_seal_burst(sender, b->pkt, n);
		g->seconds += now() - start;

		for (size_t i = 0; i < n; i++) {
			struct packet *p = &b->packet[i];
			if (b->pkt[i].status != EESP_OK)
				die("%s: packet %zu is not sealed: %s", from->path, g->packets + i + 1,
				    eesp_strerror(b->pkt[i].status));
			p->ip = b->pkt[i].out;
			p->len = b->pkt[i].out_len;
			add_outer(p);
			write_packet(to, p);
		}
	}
	eesp_sender_free(sender);
}

static void open_capture(struct gateway *g, const struct keys *k, struct burst *b, struct reader *from,
			 struct reader *originals, struct packet *original, struct writer *to)
{
	/* It serves any number of senders, and keeps no state of them: a packet that comes twice opens twice. */
	eesp_receiver *receiver;
	check(eesp_receiver_new(&g->group, 1, NULL, &receiver), "cannot make a receiver");

	for (size_t n; (n = fill_burst(b, from, rotate_if_due(g, k))) != 0; g->packets += n, g->bursts++) {
		for (size_t i = 0; i < n; i++)
			if (!strip_outer(&b->packet[i], &b->pkt[i]))
				die("%s: packet %zu is none of the tunnel's", from->path, g->packets + i + 1);

		double start = now();
		eesp_open_burst(receiver, b->pkt, n);
		g->seconds += now() - start;

		for (size_t i = 0; i < n; i++) {
			struct packet *p = &b->packet[i];
			if (b->pkt[i].status != EESP_OK)
				die("%s: packet %zu does not open: %s", from->path, g->packets + i + 1,
				    eesp_strerror(b->pkt[i].status));
			/* The zone's Root Key Index: in the header's first option. */
			uint8_t index = ((const uint8_t *)b->pkt[i].data)[10];
			if (index == (uint8_t)g->zone.index[2])
				g->next++;
			else if (index != (uint8_t)g->zone.index[1])
				g->previous++;
			p->ip = b->pkt[i].out;
			p->len = b->pkt[i].out_len;
			if (!read_packet(originals, original) || original->len != p->len ||
			    memcmp(original->ip, p->ip, p->len) != 0)
				die("%s: packet %zu is not what was sealed", from->path, g->packets + i + 1);
			write_packet(to, p);
		}
	}
	if (read_packet(originals, original))
		die("%s: packet %zu is missing", from->path, g->packets + 1);
	eesp_receiver_free(receiver);
}

/* ---- The program --------------------------------------------------------- */

static const char usage[] = "usage: pcap_tunnel [--aead 128|256] [--burst N] INPUT.pcap OUTDIR\n";
static const char help[] =
	"Seals the IP packets of a capture into OUTDIR/sealed.pcap, opens them again into\n"
	"OUTDIR/opened.pcap, compares, and prints a summary.\n\n"
	"  --aead BITS  AES-GCM key size: 128 (default) or 256\n"
	"  --burst N    packets a call, 1 to 256 (default 32)\n"
	"  -h, --help   print this\n\n"
	"Packets/s is measured around the library's calls, on one core, without files.\n"
	"Exit status: 0 all packets came back as they were, 1 error, 2 wrong arguments.\n"
	"EESP_BACKEND in the environment names the backend.\n";

__attribute__((noreturn)) static void wrong_usage(const char *what)
{
	fprintf(stderr, "pcap_tunnel: %s\n%s", what, usage);
	exit(2);
}

struct arguments {
	uint32_t aead;
	size_t burst;
	const char *input, *dir;
};

static struct arguments parse_arguments(int argc, char **argv)
{
	static const struct option options[] = {
		{ "aead", required_argument, NULL, 'a' },
		{ "burst", required_argument, NULL, 'b' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct arguments a = { .aead = EESP_AEAD_AES_128_GCM, .burst = 32 };
	char *end;
	for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
		switch (c) {
		case 'a':
			if (strcmp(optarg, "128") != 0 && strcmp(optarg, "256") != 0)
				wrong_usage("--aead takes 128 or 256");
			a.aead = optarg[0] == '1' ? EESP_AEAD_AES_128_GCM : EESP_AEAD_AES_256_GCM;
			break;
		case 'b':
			a.burst = strtoul(optarg, &end, 10);
			if (*end != '\0' || a.burst < 1 || a.burst > MAX_BURST)
				wrong_usage("--burst takes a number from 1 to 256");
			break;
		case 'h':
			printf("%s%s", usage, help);
			exit(0);
		default:
			wrong_usage("wrong option");
		}
	}
	if (argc - optind != 2)
		wrong_usage("an input and an output directory are needed");
	a.input = argv[optind];
	a.dir = argv[optind + 1];
	return a;
}

static void print_work(const char *what, const struct gateway *g)
{
	printf("%-10s %zu packets in %zu bursts, %.0f packets/s\n", what, g->packets, g->bursts,
	       g->seconds > 0 ? (double)g->packets / g->seconds : 0);
}

int main(int argc, char **argv)
{
	struct arguments arg = parse_arguments(argc, argv);
	struct burst burst = { .max = arg.burst };
	uint8_t *memory = malloc((arg.burst + 1) * BUFFER_LEN);
	if (memory == NULL)
		die("%s", strerror(errno));
	for (size_t i = 0; i < arg.burst; i++)
		burst.packet[i].buffer = memory + i * BUFFER_LEN;
	struct packet original = { .buffer = memory + arg.burst * BUFFER_LEN };

	/* The first reading shows that the capture is sound, and how long it is. */
	struct reader input, sealed_input;
	size_t total = 0;
	unsigned long long octets = 0;
	open_reader(&input, arg.input, MAX_INNER);
	for (; read_packet(&input, &original); total++)
		octets += original.len;
	if (total == 0)
		die("%s: no IP packet in it", arg.input);
	printf("input      %s: %zu packets, %llu octets; ", arg.input, total, octets);
	printf("left out: %zu frames without IP, %zu cut or too long\n", input.not_ip, input.unusable);

	/* The sender is the first to rotate, the second time the receiver. */
	struct gateway sender = { .rotate_at = { total / 6 * 2, total / 6 * 5 } };
	struct gateway receiver = { .rotate_at = { total / 6 * 3, total / 6 * 4 } };
	struct keys keys;
	make_keys(&keys);
	open_gateway(&sender, &keys, arg.aead);
	open_gateway(&receiver, &keys, arg.aead);
	printf("backend    %s, AES-%s-GCM\n", eesp_backend_name(), arg.aead == EESP_AEAD_AES_128_GCM ? "128" : "256");

	struct writer sealed, opened;
	open_writer(&sealed, arg.dir, "sealed.pcap", &input);
	open_writer(&opened, arg.dir, "opened.pcap", &input);
	rewind_reader(&input);
	seal_capture(&sender, &keys, &burst, &input, &sealed);
	close_writer(&sealed);
	print_work("sealed", &sender);

	open_reader(&sealed_input, sealed.path, MAX_DATAGRAM + IPV6_LEN);
	rewind_reader(&input);
	open_capture(&receiver, &keys, &burst, &sealed_input, &input, &original, &opened);
	close_writer(&opened);
	print_work("opened", &receiver);
	printf("rotations  %zu; packets in flight: %zu opened with the next root key, %zu with the previous one\n",
	       receiver.rotations, receiver.next, receiver.previous);
	printf("compared   %zu packets, all equal to the originals\n", receiver.packets);
	printf("written    %s: %llu octets\n", sealed.path, sealed.octets);
	printf("           %s: %llu octets\n", opened.path, opened.octets);

	explicit_bzero(&keys, sizeof keys);
	eesp_group_free(sender.group);
	eesp_group_free(receiver.group);
	fclose(input.file);
	fclose(sealed_input.file);
	free(memory);
	if (fflush(stdout) != 0)
		die("standard output: %s", strerror(errno));
	return 0;
}
