/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcap_tunnel - sends a capture through an encrypted tunnel and back
 *
 * One gateway seals every IP packet of INPUT.pcap and writes OUTDIR/sealed.pcap:
 *
 *     stateless, psp, eesp    outer IP | UDP | header | ciphertext | ICV
 *     tss                     outer IP | entropy | header | ciphertext | ICV
 *
 * Another gateway, which has nothing in common with the first but keys, reads
 * that file, opens the packets, compares each with the original octet by octet,
 * and writes OUTDIR/opened.pcap. Keys change twice in mid-stream, but not for
 * both gateways at the same packet, so that some packets are opened with the
 * previous key and some with the next one.
 *
 * To copy from: the section of your profile has keys, senders and receivers;
 * seal_capture and open_capture have the bursts. The rest is about captures.
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
#define MAX_INNER (MAX_DATAGRAM - IPV4_LEN - UDP_LEN - EESP_MAX_HEADER - EESP_MAX_PADDING - EESP_ICV_LEN)

/*
 * A frame is read to HEADROOM octets behind the start of its buffer, and sealed
 * there: all headers go in front, padding and the ICV behind.
 */
#define HEADROOM (IPV6_LEN + UDP_LEN + EESP_MAX_HEADER)
#define TAILROOM (EESP_MAX_PADDING + EESP_ICV_LEN)
#define BUFFER_LEN (HEADROOM + MAX_FRAME + TAILROOM)

/* The gateways' addresses (for documentation: RFC 5737). */
static const uint8_t gateway[2][4] = { { 192, 0, 2, 1 }, { 192, 0, 2, 2 } };

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

/* ---- Both ends of a tunnel ------------------------------------------------ */

#define ROTATIONS 2
#define KEYS (ROTATIONS + 1)
#define SUB_SAS 4

struct gateway {
	size_t rotate_at[ROTATIONS]; /* packets after which to rotate */
	size_t rotations;            /* that have been */
	size_t packets, bursts;
	size_t previous, next;       /* packets opened with a key that is not the current */
	double seconds;              /* in bursts */
};

/*
 * What the gateways have. In the real world they are two machines; a key server
 * (psp: the receiving gateway) hands out what is in keys over a protected channel.
 */
struct tunnel {
	uint32_t aead;
	struct gateway sending, receiving;
	struct {
		uint8_t value[KEYS][EESP_ROOT_KEY_LEN];
		uint8_t zone[256], user[256]; /* stateless: DER */
		size_t zone_len, user_len;
		eesp_data_key data[KEYS];     /* psp */
	} keys;
	eesp_group *from[KEYS], *to[KEYS]; /* the groups of both; eesp has one for each SA, others one */
	eesp_sender *sender[KEYS][SUB_SAS]; /* made when first needed; eesp has one for each Sub SA */
	eesp_receiver *receiver;
};

/* A packet format: how keys get to both ends, and change. */
struct profile {
	const char *name, *what;
	uint16_t port; /* UDP; 0: none */
	bool receiver_first; /* rotates before the sender does */
	void (*set_up)(struct tunnel *t);
	void (*rotate_sender)(struct tunnel *t, size_t nth);   /* nth: 1, 2 */
	void (*rotate_receiver)(struct tunnel *t, size_t nth);
	/* Which key a sealed packet is of: 0, 1 or 2, or only its lowest bit. */
	unsigned (*key_of)(const uint8_t *header);
	unsigned key_mask;
	/* The sender of the i-th burst. */
	eesp_sender *(*sender)(struct tunnel *t, size_t nth, size_t burst);
};

static eesp_group *new_group(const eesp_group_config *config)
{
	eesp_group *g;
	check(eesp_group_new(config, &g), "cannot make a group");
	return g;
}

static eesp_sender *new_sender(eesp_group *g, uint64_t id, uint8_t v, uint32_t flags)
{
	eesp_sender_config c = EESP_SENDER_CONFIG_INIT; /* counters follow the clock */
	eesp_sender *s;
	c.id = id;
	c.v = v;
	c.flags = flags;
	check(eesp_sender_new(g, &c, &s), "cannot make a sender");
	return s;
}

static void new_receiver(struct tunnel *t, size_t groups)
{
	/* It serves any number of senders; windows are all that it keeps of them. */
	eesp_receiver_config c = EESP_RECEIVER_CONFIG_INIT;
	c.replay_window = 1024;
	check(eesp_receiver_new(t->to, groups, &c, &t->receiver), "cannot make a receiver");
}

static eesp_sender *one_sender(struct tunnel *t, size_t nth, size_t burst)
{
	(void)nth, (void)burst;
	return t->sender[0][0];
}

/* ---- Profile stateless (draft -02): rings of root keys ---------------------- */

static void stateless_set_up(struct tunnel *t)
{
	static const uint8_t zone_id[16] = "zone of example", user_id[16] = "user of example";
	eesp_group_config config = EESP_GROUP_CONFIG_INIT;
	eesp_group *g = new_group(NULL);
	t->keys.zone_len = sizeof t->keys.zone;
	t->keys.user_len = sizeof t->keys.user;
	check(eesp_group_generate_root_key(g, EESP_LEVEL_ZONE, zone_id, sizeof zone_id), "cannot make a root key");
	check(eesp_group_generate_root_key(g, EESP_LEVEL_USER, user_id, sizeof user_id), "cannot make a root key");
	check(eesp_group_get_root_key_der(g, EESP_LEVEL_ZONE, t->keys.zone, &t->keys.zone_len), "cannot export a root key");
	check(eesp_group_get_root_key_der(g, EESP_LEVEL_USER, t->keys.user, &t->keys.user_len), "cannot export a root key");
	eesp_group_free(g);
	config.aead = t->aead;
	for (int i = 0; i < 2; i++) {
		g = *(i == 0 ? t->from : t->to) = new_group(&config);
		check(eesp_group_set_root_key_der(g, EESP_LEVEL_ZONE, t->keys.zone, t->keys.zone_len), "zone root key");
		check(eesp_group_set_root_key_der(g, EESP_LEVEL_USER, t->keys.user, t->keys.user_len), "user root key");
	}
	/*
	 * V: the source address of the outer packet enters the data key, so a
	 * datagram that turns up under another address does not open. Where a NAT
	 * rewrites addresses, use EESP_V_ID. Options tell which root keys were used.
	 */
	t->sender[0][0] = new_sender(t->from[0], 0x01020304, EESP_V_ID_SRC, EESP_SENDER_OPTIONS);
	new_receiver(t, 1);
}

static void stateless_rotate(struct tunnel *t, eesp_group *g, size_t nth)
{
	/* A generated ring has the indices 1 and 2. */
	check(eesp_group_rotate(g, EESP_LEVEL_ZONE, 2 + nth, t->keys.value[nth]), "cannot rotate");
}

static void stateless_rotate_sender(struct tunnel *t, size_t nth) { stateless_rotate(t, t->from[0], nth); }
static void stateless_rotate_receiver(struct tunnel *t, size_t nth) { stateless_rotate(t, t->to[0], nth); }

/* The zone's Root Key Index, in the header's first option. */
static unsigned stateless_key_of(const uint8_t *header) { return header[10] - 1u; }

/* ---- Profile psp: the receiver derives, the sender has its data key only --- */

/* What the receiving gateway does each time before it hands out a data key. */
static void psp_data_key(struct tunnel *t, eesp_group *g, size_t nth)
{
	eesp_context c = { .v = t->aead == EESP_AEAD_AES_128_GCM ? EESP_V_PSP_AES_128_GCM : EESP_V_PSP_AES_256_GCM };
	uint32_t spi;
	check(eesp_group_rotate_key(g, t->keys.value[nth], EESP_ROOT_KEY_LEN, NULL), "device key");
	check(eesp_group_alloc_spi(g, 1, &spi), "no SPI");
	c.id = spi;
	check(eesp_data_key_export(g, &c, 0, &t->keys.data[nth]), "cannot export a data key");
}

static void psp_rotate_sender(struct tunnel *t, size_t nth)
{
	eesp_sender_config c = EESP_SENDER_CONFIG_INIT;
	eesp_sender_free(t->sender[0][0]);
	check(eesp_sender_new_with_key(&t->keys.data[nth], &c, &t->sender[0][0]), "cannot make a sender");
}

static void psp_rotate_receiver(struct tunnel *t, size_t nth)
{
	check(eesp_group_rotate_key(t->to[0], t->keys.value[nth], EESP_ROOT_KEY_LEN, NULL), "device key");
}

static void psp_set_up(struct tunnel *t)
{
	/*
	 * The capture is sealed as a whole before any of it is opened, so that all
	 * data keys are made here, by a group like that of the receiver.
	 */
	eesp_group_config config = EESP_GROUP_CONFIG_INIT;
	config.profile = EESP_PROFILE_PSP;
	config.aead = t->aead;
	eesp_group *g = new_group(&config);
	for (size_t i = 0; i < KEYS; i++)
		psp_data_key(t, g, i);
	eesp_group_free(g);
	t->to[0] = new_group(&config);
	psp_rotate_receiver(t, 0);
	psp_rotate_sender(t, 0);
	new_receiver(t, 1);
}

/* The SPI's top bit. */
static unsigned psp_key_of(const uint8_t *header) { return header[4] >> 7; }

/* ---- Profile tss: two association numbers ---------------------------------- */

static void tss_set_up(struct tunnel *t)
{
	eesp_group_config config = EESP_GROUP_CONFIG_INIT;
	config.profile = EESP_PROFILE_TSS;
	config.aead = t->aead;
	config.domain = 0x5d1;
	config.rekey_mask = 0xff00; /* a new key for every 256 packets */
	config.rekey_shift = 8;
	for (int i = 0; i < 2; i++) {
		eesp_group *g = *(i == 0 ? t->from : t->to) = new_group(&config);
		check(eesp_group_set_key(g, 0, t->keys.value[0], EESP_ROOT_KEY_LEN), "current key");
		check(eesp_group_set_key(g, 1, t->keys.value[1], EESP_ROOT_KEY_LEN), "next key");
	}
	t->sender[0][0] = new_sender(t->from[0], 0x01020304, EESP_V_TSS_SSI, 0);
	new_receiver(t, 1);
}

/* The key before gives way to the next one as soon as none of its packets is under way. */
static void tss_rotate_sender(struct tunnel *t, size_t nth)
{
	if (nth == 2)
		check(eesp_group_set_key(t->from[0], 0, t->keys.value[2], EESP_ROOT_KEY_LEN), "next key");
	check(eesp_group_use_key(t->from[0], nth % 2), "cannot rotate");
}

static void tss_rotate_receiver(struct tunnel *t, size_t nth)
{
	if (nth == 1)
		check(eesp_group_set_key(t->to[0], 0, t->keys.value[2], EESP_ROOT_KEY_LEN), "next key");
}

/* AN. */
static unsigned tss_key_of(const uint8_t *header) { return header[0] & 1; }

/* ---- Profile eesp: SAs with Sub SAs ---------------------------------------- */

#define EESP_SPI 0x1001

static void eesp_set_up(struct tunnel *t)
{
	eesp_group_config config = EESP_GROUP_CONFIG_INIT;
	config.profile = EESP_PROFILE_EESP;
	config.aead = t->aead;
	config.mode = EESP_SSKDF_HKDF_SHA2_256;
	config.encap = EESP_ENCAP_TUNNEL;
	config.sub_sas = SUB_SAS;
	for (size_t i = 0; i < KEYS; i++) {
		config.domain = EESP_SPI + (uint32_t)i;
		t->from[i] = new_group(&config);
		t->to[i] = new_group(&config);
		check(eesp_group_set_key(t->from[i], 0, t->keys.value[i], EESP_ROOT_KEY_LEN), "root key");
		/* The first SA is there, and the next one. */
		if (i < 2)
			check(eesp_group_set_key(t->to[i], 0, t->keys.value[i], EESP_ROOT_KEY_LEN), "root key");
		for (size_t j = 0; j < SUB_SAS; j++)
			t->sender[i][j] = new_sender(t->from[i], j, 0, 0);
	}
	new_receiver(t, KEYS);
}

static void eesp_rotate_sender(struct tunnel *t, size_t nth) { (void)t, (void)nth; }

static void eesp_rotate_receiver(struct tunnel *t, size_t nth)
{
	if (nth == 1) /* no packet of the first SA is under way any more */
		check(eesp_group_remove_key(t->to[0], 0), "root key");
	if (nth < 2)
		check(eesp_group_set_key(t->to[nth + 1], 0, t->keys.value[nth + 1], EESP_ROOT_KEY_LEN), "root key");
}

static unsigned eesp_key_of(const uint8_t *header) { return header[7] - (EESP_SPI & 0xffu); }

/* Each Sub SA has sequence numbers and a key of its own: one for each core, say. */
static eesp_sender *eesp_sender_of(struct tunnel *t, size_t nth, size_t burst)
{
	return t->sender[nth][burst % SUB_SAS];
}

static const struct profile profiles[] = {
	{ "stateless", "draft -02; root keys at two levels, context: ID and source address", EESP_UDP_PORT, false, stateless_set_up,
	  stateless_rotate_sender, stateless_rotate_receiver, stateless_key_of, 0xff, one_sender },
	{ "psp", "data keys that the receiver hands out", EESP_PSP_UDP_PORT, true, psp_set_up, psp_rotate_sender,
	  psp_rotate_receiver, psp_key_of, 1, one_sender },
	{ "tss", "cluster mode, a new key for every 256 packets", 0, false, tss_set_up, tss_rotate_sender,
	  tss_rotate_receiver, tss_key_of, 1, one_sender },
	{ "eesp", "draft -03, tunnel mode; four Sub SAs, HKDF-SHA-256", EESP_UDP_PORT, false, eesp_set_up, eesp_rotate_sender,
	  eesp_rotate_receiver, eesp_key_of, 0xff, eesp_sender_of },
};
#define PROFILES (sizeof profiles / sizeof profiles[0])

/* ---- tss is behind IP itself ----------------------------------------------- */

#define ENTROPY_LEN 4
#define TSS_PROTOCOL 253 /* for experiments (RFC 3692) */

/* Adds octets to an Internet checksum (RFC 1071), 16 bits at a time. */
static uint16_t checksum(const uint8_t *p, size_t len)
{
	uint32_t s = 0;
	for (; len > 1; p += 2, len -= 2)
		s += get16(p);
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return (uint16_t)~s;
}

/*
 * The last 8 octets of the IPv4 header, the addresses, and the entropy are what
 * tss authenticates in front of its header: they must be there before sealing.
 */
static void put_tss_lead(const eesp_pkt *p, uint32_t header)
{
	uint8_t *ip = (uint8_t *)p->data - header - ENTROPY_LEN - IPV4_LEN;
	/* version and length, don't fragment, hop limit */
	memcpy(ip, (const uint8_t[12]){ 0x45, [6] = 0x40, [8] = 64, [9] = TSS_PROTOCOL }, 12);
	put16(ip + 2, IPV4_LEN + ENTROPY_LEN + header + p->len + EESP_ICV_LEN);
	memcpy(ip + 12, gateway, sizeof gateway);
	put16(ip + 10, checksum(ip, IPV4_LEN));
	memcpy(ip + IPV4_LEN, p->data, p->len < ENTROPY_LEN ? 0 : ENTROPY_LEN); /* anything that tells flows apart */
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

/* Rotates if it is time, and says how many packets there are to the next time. */
static size_t rotate_if_due(struct tunnel *t, struct gateway *g, void (*rotate)(struct tunnel *t, size_t nth))
{
	for (; g->rotations < ROTATIONS && g->packets >= g->rotate_at[g->rotations]; g->rotations++)
		rotate(t, g->rotations + 1);
	return g->rotations < ROTATIONS ? g->rotate_at[g->rotations] - g->packets : SIZE_MAX;
}

static eesp_udp outer_headers(const struct profile *f)
{
	eesp_udp udp = EESP_UDP_INIT;
	udp.dst_port = f->port;
	eesp_addr_from_ipv4(udp.addr.src, gateway[0]);
	eesp_addr_from_ipv4(udp.addr.dst, gateway[1]);
	return udp;
}

static void seal_capture(struct tunnel *t, const struct profile *f, struct burst *b, struct reader *from,
			 struct writer *to)
{
	struct gateway *g = &t->sending;
	const eesp_udp udp = outer_headers(f);
	for (size_t n; (n = fill_burst(b, from, rotate_if_due(t, g, f->rotate_sender))) != 0; g->packets += n, g->bursts++) {
		eesp_sender *sender = f->sender(t, g->rotations, g->bursts);
		for (size_t i = 0; i < n; i++) {
			b->pkt[i] = (eesp_pkt){ .data = b->packet[i].ip, .len = b->packet[i].len, .headroom = HEADROOM,
						.tailroom = TAILROOM };
			if (f->port == 0)
				put_tss_lead(&b->pkt[i], eesp_sender_header_len(sender));
		}

		double start = now();
		if (f->port == 0)
			eesp_seal_burst(sender, b->pkt, n);
		else
			eesp_udp_seal_burst(sender, &udp, b->pkt, n);
		g->seconds += now() - start;

		for (size_t i = 0; i < n; i++) {
			struct packet *p = &b->packet[i];
			if (b->pkt[i].status != EESP_OK)
				die("%s: packet %zu is not sealed: %s", from->path, g->packets + i + 1,
				    eesp_strerror(b->pkt[i].status));
			uint32_t lead = f->port == 0 ? IPV4_LEN + ENTROPY_LEN : 0;
			p->ip = (uint8_t *)b->pkt[i].out - lead;
			p->len = b->pkt[i].out_len + lead;
			write_packet(to, p);
		}
	}
}

static void open_capture(struct tunnel *t, const struct profile *f, struct burst *b, struct reader *from,
			 struct reader *originals, struct packet *original, struct writer *to)
{
	struct gateway *g = &t->receiving;
	const eesp_udp udp = outer_headers(f);
	const uint32_t front = IPV4_LEN + (f->port == 0 ? ENTROPY_LEN : UDP_LEN);
	unsigned key[MAX_BURST];
	for (size_t n; (n = fill_burst(b, from, rotate_if_due(t, g, f->rotate_receiver))) != 0; g->packets += n, g->bursts++) {
		for (size_t i = 0; i < n; i++) {
			const struct packet *p = &b->packet[i];
			b->pkt[i] = (eesp_pkt){ .data = p->ip, .len = p->len };
			if (p->len < front + EESP_MIN_HEADER)
				die("%s: packet %zu is none of the tunnel's", from->path, g->packets + i + 1);
			if (f->port == 0) {
				if (p->ip[0] != 0x45 || p->ip[9] != TSS_PROTOCOL)
					die("%s: packet %zu is none of the tunnel's", from->path, g->packets + i + 1);
				b->pkt[i] = (eesp_pkt){ .data = p->ip + front, .len = p->len - front, .headroom = front };
			}
			key[i] = f->key_of(p->ip + front);
		}

		double start = now();
		if (f->port == 0)
			eesp_open_burst(t->receiver, b->pkt, n);
		else
			eesp_udp_open_burst(t->receiver, &udp, b->pkt, n);
		g->seconds += now() - start;

		for (size_t i = 0; i < n; i++) {
			struct packet *p = &b->packet[i];
			if (b->pkt[i].status != EESP_OK)
				die("%s: packet %zu does not open: %s", from->path, g->packets + i + 1,
				    eesp_strerror(b->pkt[i].status));
			if (key[i] == ((g->rotations + 1) & f->key_mask) && g->rotations < ROTATIONS && !f->receiver_first)
				g->next++;
			else if (key[i] != (g->rotations & f->key_mask))
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
}

/* ---- The program --------------------------------------------------------- */

static const char usage[] = "usage: pcap_tunnel [--profile NAME] [--aead 128|256] [--burst N] INPUT.pcap OUTDIR\n";
static const char help[] =
	"Seals the IP packets of a capture into OUTDIR/sealed.pcap, opens them again into\n"
	"OUTDIR/opened.pcap, compares, and prints a summary. OUTDIR has to be there.\n\n"
	"  --profile NAME  packet format: stateless (default: draft -02), psp, tss, eesp (-03)\n"
	"  --aead BITS     AES-GCM key size: 128 (default) or 256 (tss: always)\n"
	"  --burst N       packets a call, 1 to 256 (default 32)\n"
	"  -h, --help      print this\n\n"
	"Packets/s is measured around the library's calls, on one core, without files.\n"
	"Exit status: 0 all packets came back as they were, 1 error, 2 wrong arguments.\n"
	"EESP_BACKEND in the environment names the backend.\n";

__attribute__((noreturn)) static void wrong_usage(const char *what)
{
	fprintf(stderr, "pcap_tunnel: %s\n%s", what, usage);
	exit(2);
}

struct arguments {
	const struct profile *profile;
	uint32_t aead;
	size_t burst;
	const char *input, *dir;
};

static struct arguments parse_arguments(int argc, char **argv)
{
	static const struct option options[] = {
		{ "profile", required_argument, NULL, 'p' },
		{ "aead", required_argument, NULL, 'a' },
		{ "burst", required_argument, NULL, 'b' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct arguments a = { .profile = &profiles[0], .burst = 32 };
	const char *aead = NULL;
	char *end;
	for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
		switch (c) {
		case 'p':
			a.profile = NULL;
			for (size_t i = 0; i < PROFILES; i++)
				if (strcmp(optarg, profiles[i].name) == 0)
					a.profile = &profiles[i];
			if (a.profile == NULL)
				wrong_usage("--profile takes stateless, psp, tss or eesp");
			break;
		case 'a':
			aead = optarg;
			if (strcmp(aead, "128") != 0 && strcmp(aead, "256") != 0)
				wrong_usage("--aead takes 128 or 256");
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
	const bool tss = strcmp(a.profile->name, "tss") == 0;
	if (tss && aead != NULL && *aead == '1')
		wrong_usage("--profile tss goes with --aead 256");
	a.aead = tss || (aead != NULL && *aead == '2') ? EESP_AEAD_AES_256_GCM : EESP_AEAD_AES_128_GCM;
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

	/* One gateway is the first to rotate, the second time the other. */
	struct tunnel t = { .aead = arg.aead };
	const size_t sixth = total / 6;
	t.sending = (struct gateway){ .rotate_at = { sixth * 2, sixth * 5 } };
	t.receiving = (struct gateway){ .rotate_at = { sixth * 3, sixth * 4 } };
	if (arg.profile->receiver_first) {
		t.sending.rotate_at[0] = sixth * 3;
		t.receiving.rotate_at[0] = sixth * 2;
	}
	if (getentropy(t.keys.value, sizeof t.keys.value) != 0)
		die("no random numbers: %s", strerror(errno));
	arg.profile->set_up(&t);
	printf("profile    %s: %s\n", arg.profile->name, arg.profile->what);
	printf("backend    %s, AES-%s-GCM\n", eesp_backend_name(), arg.aead == EESP_AEAD_AES_128_GCM ? "128" : "256");

	struct writer sealed, opened;
	open_writer(&sealed, arg.dir, "sealed.pcap", &input);
	open_writer(&opened, arg.dir, "opened.pcap", &input);
	rewind_reader(&input);
	seal_capture(&t, arg.profile, &burst, &input, &sealed);
	close_writer(&sealed);
	print_work("sealed", &t.sending);

	open_reader(&sealed_input, sealed.path, MAX_DATAGRAM);
	rewind_reader(&input);
	open_capture(&t, arg.profile, &burst, &sealed_input, &input, &original, &opened);
	close_writer(&opened);
	print_work("opened", &t.receiving);
	printf("rotations  %zu; packets in flight: %zu opened with the next key, %zu with the previous one\n",
	       t.receiving.rotations, t.receiving.next, t.receiving.previous);
	printf("compared   %zu packets, all equal to the originals\n", t.receiving.packets);
	printf("written    %s: %llu octets\n", sealed.path, sealed.octets);
	printf("           %s: %llu octets\n", opened.path, opened.octets);

	explicit_bzero(&t.keys, sizeof t.keys);
	eesp_receiver_free(t.receiver);
	for (size_t i = 0; i < KEYS; i++) {
		for (size_t j = 0; j < SUB_SAS; j++)
			eesp_sender_free(t.sender[i][j]);
		eesp_group_free(t.from[i]);
		eesp_group_free(t.to[i]);
	}
	fclose(input.file);
	fclose(sealed_input.file);
	free(memory);
	if (fflush(stdout) != 0)
		die("standard output: %s", strerror(errno));
	return 0;
}
