/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcap_tunnel - sends a capture through an encrypted tunnel and back
 *
 * One gateway seals every IP packet of INPUT and writes OUTDIR/sealed.pcap:
 *
 *     stateless, psp, eesp    outer IP | UDP | header | ciphertext | ICV
 *     tss                     outer IP | entropy | header | ciphertext | ICV
 *
 * Another gateway, which shares only keys with the first, reads that file, opens
 * the packets, compares each with the original octet by octet, and writes
 * OUTDIR/opened.pcap. Keys change twice in mid-stream, but not for both gateways
 * at the same packet, so that some packets are opened with the previous key and
 * some with the next one.
 *
 * Where to look: the section of your profile has keys, senders and receivers;
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
#define MAX_INNER (MAX_DATAGRAM - IPV6_LEN - UDP_LEN - EESP_MAX_HEADER - EESP_MAX_PADDING - EESP_ICV_LEN)

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

/* ---- Captures: pcap and pcapng. docs/python.md has the rules in words --- */

#define MAGIC_MICROSECONDS 0xa1b2c3d4u
#define MAGIC_NANOSECONDS 0xa1b23c4du
#define LINKTYPE_RAW 101
#define SECOND 1000000000u
#define MAX_BLOCK (1u << 24)
#define MAX_INTERFACES 256
#define FAULTS_SHOWN 10
#define NO_NEXT_HEADER 59

enum block { SECTION = 0x0a0d0d0a, INTERFACE = 1, PACKET = 2, SIMPLE = 3, ENHANCED = 6 }; /* of pcapng */
#define SECTION_ORDER 0x1a2b3c4du
enum { END = 0, RESOLUTION = 9, OFFSET = 14 };

struct file_header {
	uint32_t magic;
	uint16_t major, minor;
	uint32_t zone, accuracy, max_frame, link;
};

struct frame_header {
	uint32_t seconds, fraction;
	uint32_t len, wire_len;
};

/* The places in frames of the field that says whether they are IP, and of the packet. */
static const struct link {
	uint32_t number;
	enum { ETHERTYPE, FAMILY, RAW } kind;
	uint32_t type_at, ip_at, version; /* version 0: of any */
} links[] = {
	{ 1, ETHERTYPE, 12, 14, 0 },   /* Ethernet */
	{ 113, ETHERTYPE, 14, 16, 0 }, /* Linux cooked */
	{ 276, ETHERTYPE, 0, 20, 0 },  /* Linux cooked, version 2 */
	{ 0, FAMILY, 0, 4, 0 },        /* loopback, in the byte order of the machine */
	{ 108, FAMILY, 0, 4, 0 },      /* loopback, in network byte order */
	{ LINKTYPE_RAW, RAW, 0, 0, 0 },
	{ 12, RAW, 0, 0, 0 },
	{ 14, RAW, 0, 0, 0 },
	{ 228, RAW, 0, 0, 4 },
	{ 229, RAW, 0, 0, 6 },
};

/* pcap has one of them, pcapng any number. */
struct interface {
	uint32_t number, max_frame; /* link type; 0: no limit */
	const struct link *link;    /* NULL: not supported */
	uint64_t units;             /* of time stamps, in a second; 0: more than 2^64 */
	int64_t offset;             /* seconds */
};

struct reader {
	const char *path;
	FILE *file;
	bool pcapng;
	bool swapped; /* the file, or this section, is in the other byte order */
	uint32_t interfaces;
	struct interface interface[MAX_INTERFACES];
	uint32_t max_len; /* longest IP packet wanted */
	bool again;       /* faults have been told */
	size_t frames, not_ip, unusable, malformed, clamped;
	bool ended; /* before the end of the file */
};

struct writer {
	char path[4096];
	FILE *file;
	bool pcapng;
	unsigned long long octets;
};

struct packet {
	uint8_t *buffer; /* BUFFER_LEN octets */
	uint8_t *ip;     /* the packet in it */
	uint32_t len;
	uint64_t time; /* ns since 1970 */
};

/* A record as it is in the file. */
struct record {
	const struct link *link;
	uint32_t len, wire_len;
	uint64_t time;
};

static uint16_t from_file16(const struct reader *r, const uint8_t *p)
{
	uint16_t v;
	memcpy(&v, p, sizeof v);
	return r->swapped ? __builtin_bswap16(v) : v;
}

static uint32_t from_file(const struct reader *r, const uint8_t *p)
{
	uint32_t v;
	memcpy(&v, p, sizeof v);
	return r->swapped ? __builtin_bswap32(v) : v;
}

static uint64_t from_file64(const struct reader *r, const uint8_t *p)
{
	uint64_t v;
	memcpy(&v, p, sizeof v);
	return r->swapped ? __builtin_bswap64(v) : v;
}

/* Says what is wrong in a capture, once, for the first frames. */
__attribute__((format(printf, 2, 3))) static void fault(const struct reader *r, const char *format, ...)
{
	va_list args;
	size_t nth = r->malformed + r->ended;
	if (r->again || nth > FAULTS_SHOWN + 1)
		return;
	if (nth == FAULTS_SHOWN + 1) {
		fprintf(stderr, "pcap_tunnel: %s: more like that\n", r->path);
		return;
	}
	va_start(args, format);
	fprintf(stderr, "pcap_tunnel: %s: ", r->path);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
}

/* The rest of the file cannot be read. */
#define END_READING(r, what, ...) \
	((r)->ended = true, fault(r, what " in frame %zu, where reading ends", __VA_ARGS__, (r)->frames + 1), false)

/* Reads exactly len octets, or ends reading. */
static bool read_all(struct reader *r, void *to, size_t len)
{
	size_t got = fread(to, 1, len, r->file);
	if (ferror(r->file))
		die("%s: %s", r->path, strerror(errno));
	return got == len || END_READING(r, "cut short%s", "");
}

/* The same, but returns false without a fault if the file ends here. */
static bool read_head(struct reader *r, void *to, size_t len)
{
	int c = fgetc(r->file);
	if (c == EOF && !ferror(r->file))
		return false;
	return ungetc(c, r->file) != EOF && read_all(r, to, len);
}

static bool skip(struct reader *r, size_t len)
{
	uint8_t octets[256];
	for (size_t n; len != 0; len -= n) {
		n = len < sizeof octets ? len : sizeof octets;
		if (!read_all(r, octets, n))
			return false;
	}
	return true;
}

static const struct link *find_link(uint32_t number)
{
	for (size_t i = 0; i < sizeof links / sizeof links[0]; i++)
		if (links[i].number == number)
			return &links[i];
	return NULL;
}

__attribute__((noreturn)) static void unsupported(const struct reader *r, uint32_t link)
{
	char frame[40] = "";
	if (r->pcapng)
		snprintf(frame, sizeof frame, "frame %zu: ", r->frames + 1);
	die("%s: %slink type %u is not supported; Ethernet, raw IP, Linux cooked and loopback are", r->path, frame,
	    link);
}

/* Reads the file header, up to the first record. */
static void begin(struct reader *r)
{
	struct file_header h = { 0 };
	size_t got = fread(&h, 1, sizeof h, r->file);
	r->frames = r->not_ip = r->unusable = r->malformed = r->clamped = 0;
	r->ended = false;
	if (ferror(r->file))
		die("%s: %s", r->path, strerror(errno));
	if (got >= 12 && h.magic == SECTION) {
		/* the byte order's mark is behind the block's length */
		uint32_t order = (uint32_t)h.zone;
		if (order != SECTION_ORDER && order != __builtin_bswap32(SECTION_ORDER))
			die("%s: not a pcapng file: its first block is no section header", r->path);
		r->pcapng = true;
		if (fseek(r->file, 0, SEEK_SET) != 0)
			die("%s: %s", r->path, strerror(errno));
		return;
	}
	uint32_t other = __builtin_bswap32(h.magic);
	r->swapped = other == MAGIC_MICROSECONDS || other == MAGIC_NANOSECONDS;
	uint32_t magic = from_file(r, (const uint8_t *)&h.magic);
	if (got != sizeof h || (magic != MAGIC_MICROSECONDS && magic != MAGIC_NANOSECONDS))
		die("%s: neither a pcap nor a pcapng file", r->path);
	struct interface *i = &r->interface[0];
	/* the upper half says whether frames have a check sequence behind them */
	*i = (struct interface){ .number = from_file(r, (const uint8_t *)&h.link) & 0xffff,
				 .units = magic == MAGIC_NANOSECONDS ? SECOND : SECOND / 1000 };
	i->link = find_link(i->number);
	if (i->link == NULL)
		unsupported(r, i->number);
}

static void open_reader(struct reader *r, const char *path, uint32_t max_len)
{
	*r = (struct reader){ .path = path, .max_len = max_len, .file = fopen(path, "rb") };
	if (r->file == NULL)
		die("%s: %s", path, strerror(errno));
	begin(r);
}

/* Goes back to the first frame. */
static void rewind_reader(struct reader *r)
{
	if (fseek(r->file, 0, SEEK_SET) != 0)
		die("%s: %s", r->path, strerror(errno));
	r->again = true;
	begin(r);
}

/* The next record of pcap, its octets at frame. */
static bool read_pcap(struct reader *r, struct record *to, uint8_t *frame)
{
	struct frame_header h;
	const struct interface *i = &r->interface[0];
	if (!read_head(r, &h, sizeof h))
		return false;
	uint32_t fraction = from_file(r, (const uint8_t *)&h.fraction);
	to->link = i->link;
	to->len = from_file(r, (const uint8_t *)&h.len);
	to->wire_len = from_file(r, (const uint8_t *)&h.wire_len);
	if (to->len > MAX_FRAME)
		return END_READING(r, "a length of %u octets: damaged", to->len);
	if (!read_all(r, frame, to->len))
		return false;
	if (fraction >= i->units) {
		fraction = (uint32_t)i->units - 1;
		r->clamped++;
	}
	to->time = (uint64_t)from_file(r, (const uint8_t *)&h.seconds) * SECOND + fraction * (SECOND / i->units);
	return true;
}

/* An interface description of pcapng. What is behind the first options does not matter here. */
static bool read_interface(struct reader *r, uint32_t len)
{
	uint8_t body[512];
	uint32_t there = len < sizeof body ? len : (uint32_t)sizeof body;
	if (len < 8)
		return END_READING(r, "a short interface description%s: damaged", "");
	if (r->interfaces == MAX_INTERFACES)
		return END_READING(r, "more than %d interfaces", MAX_INTERFACES);
	if (!read_all(r, body, there) || !skip(r, len - there))
		return false;
	struct interface *i = &r->interface[r->interfaces++];
	*i = (struct interface){ .number = from_file16(r, body), .max_frame = from_file(r, body + 4),
				 .units = 1000000 };
	i->link = find_link(i->number);
	for (uint32_t at = 8; at + 4 <= there;) {
		uint32_t code = from_file16(r, body + at), size = from_file16(r, body + at + 2);
		const uint8_t *value = body + at + 4;
		if (code == END || at + 4 + size > there)
			break;
		if (code == RESOLUTION && size == 1) {
			unsigned power = *value & 0x7f;
			i->units = 1;
			for (unsigned n = 0; n < power; n++)
				if (__builtin_mul_overflow(i->units, *value & 0x80 ? 2 : 10, &i->units))
					i->units = 0;
		} else if (code == OFFSET && size == 8) {
			i->offset = (int64_t)from_file64(r, value);
		}
		at += 4 + (size + 3) / 4 * 4;
	}
	return true;
}

__extension__ typedef __int128 wide;

static uint64_t time_of(struct reader *r, const struct interface *i, uint64_t stamp)
{
	wide t = (wide)i->offset * SECOND;
	if (i->units != 0)
		t += (wide)stamp * SECOND / (wide)i->units;
	if (t >= 0 && t <= UINT64_MAX)
		return (uint64_t)t;
	r->clamped++;
	return t < 0 ? 0 : UINT64_MAX;
}

/* The next record of pcapng, its octets at frame; passes over blocks of other kinds. */
static bool read_pcapng(struct reader *r, struct record *to, uint8_t *frame)
{
	uint8_t head[8], body[20];
	const struct interface *from = NULL;
	while (read_head(r, head, sizeof head)) {
		uint32_t kind, had = 0;
		memcpy(&kind, head, sizeof kind);
		if (kind == SECTION) {
			uint32_t order;
			if (!read_all(r, &order, sizeof order))
				return false;
			if (order != SECTION_ORDER && order != __builtin_bswap32(SECTION_ORDER))
				return END_READING(r, "a section header without byte order%s: damaged", "");
			r->swapped = order != SECTION_ORDER;
			r->interfaces = 0;
			had = sizeof order;
		}
		kind = from_file(r, head);
		const uint32_t size = from_file(r, head + 4);
		if (size % 4 != 0 || size < 12 + had || size > MAX_BLOCK)
			return END_READING(r, "a block of %u octets: damaged", size);
		uint32_t left = size - 12 - had;
		const bool is_packet = kind == PACKET || kind == SIMPLE || kind == ENHANCED;
		if (kind == INTERFACE) {
			if (!read_interface(r, left))
				return false;
			left = 0;
		} else if (is_packet) {
			const uint32_t fixed = kind == SIMPLE ? 4 : 20;
			if (left < fixed)
				return END_READING(r, "a short block%s: damaged", "");
			if (!read_all(r, body, fixed))
				return false;
			left -= fixed;
			uint32_t number = kind == SIMPLE   ? 0
					  : kind == PACKET ? from_file16(r, body)
							   : from_file(r, body);
			if (number >= r->interfaces)
				return END_READING(r, "interface %u, which is not described: damaged", number);
			const struct interface *i = from = &r->interface[number];
			if (kind == SIMPLE) {
				to->len = to->wire_len = from_file(r, body);
				if (i->max_frame != 0 && to->len > i->max_frame)
					to->len = i->max_frame;
				to->time = 0;
			} else {
				to->len = from_file(r, body + 12);
				to->wire_len = from_file(r, body + 16);
			}
			if (to->len > left || to->len > MAX_FRAME)
				return END_READING(r, "a length of %u octets: damaged", to->len);
			if (i->link == NULL)
				unsupported(r, i->number);
			to->link = i->link;
			if (!read_all(r, frame, to->len))
				return false;
			left -= to->len;
		}
		if (!skip(r, left) || !read_all(r, head, 4))
			return false;
		if (from_file(r, head) != size)
			return END_READING(r, "a block with two lengths%s: damaged", "");
		if (is_packet) {
			if (kind != SIMPLE)
				to->time = time_of(r, from,
						   (uint64_t)from_file(r, body + 4) << 32 | from_file(r, body + 8));
			return true;
		}
	}
	return false;
}

static bool is_tag(uint32_t type) { return type == 0x8100 || type == 0x88a8 || type == 0x9100; }

/* Where the IP packet begins in a frame, and of which version it must be (0: of any). len: there is none. */
static uint32_t find_ip(const struct link *link, const uint8_t *frame, uint32_t len, uint32_t *version)
{
	uint32_t type_at = link->type_at, at = link->ip_at, type;
	*version = link->version;
	if (at >= len)
		return len;
	switch (link->kind) {
	case ETHERTYPE:
		for (; at + 4 < len && is_tag(get16(frame + type_at)); at += 4)
			type_at = at + 2;
		type = get16(frame + type_at);
		*version = type == 0x0800 ? 4 : 6;
		return type == 0x0800 || type == 0x86dd ? at : len;
	case FAMILY:
		type = frame[0] | frame[3]; /* in either byte order, of one octet */
		*version = type == 2 ? 4 : 6;
		return (frame[1] | frame[2]) == 0 && (frame[0] == 0 || frame[3] == 0) &&
		       (type == 2 || type == 24 || type == 28 || type == 30) ? at : len;
	default:
		return *version != 0 || frame[0] >> 4 == 4 || frame[0] >> 4 == 6 ? at : len;
	}
}

/*
 * Length of the IP packet at p, of which len octets are in the file and wire_len
 * were on the wire. 0: it is not all there, or malformed, which is told.
 */
static uint32_t ip_len(struct reader *r, const uint8_t *p, uint32_t len, uint32_t wire_len, uint32_t should)
{
	uint32_t version = p[0] >> 4, said;
	if (should != 0 && version != should) {
		r->malformed++;
		fault(r, "frame %zu: IP version %u in a frame of IPv%u", r->frames, version, should);
		return 0;
	}
	if (len < (version == 4 ? IPV4_LEN : IPV6_LEN))
		return r->unusable++, 0;
	if (version == 4) {
		said = get16(p + 2);
		if (said < IPV4_LEN) {
			r->malformed++;
			fault(r, "frame %zu: IPv4 total length %u%s", r->frames, said,
			      said == 0 ? ": BIG TCP, or a segment as it was before it was cut" : "");
			return 0;
		}
		const uint32_t header = (p[0] & 0xfu) * 4;
		if (header < IPV4_LEN || header > said) {
			r->malformed++;
			fault(r, "frame %zu: IPv4 header length %u", r->frames, header);
			return 0;
		}
	} else {
		said = IPV6_LEN + (uint32_t)get16(p + 4);
		if (said == IPV6_LEN && (len > said || wire_len > said) && p[6] != NO_NEXT_HEADER) {
			r->malformed++;
			fault(r, "frame %zu: IPv6 payload length 0: a jumbogram, or BIG TCP", r->frames);
			return 0;
		}
	}
	if (said > len || said > r->max_len)
		return r->unusable++, 0;
	return said;
}

/* Reads up to the next IP packet; counts what it passes over. false: the end. */
static bool read_packet(struct reader *r, struct packet *p)
{
	struct record record;
	uint8_t *frame = p->buffer + HEADROOM;
	while (!r->ended && (r->pcapng ? read_pcapng : read_pcap)(r, &record, frame)) {
		uint32_t version, at = find_ip(record.link, frame, record.len, &version);
		r->frames++;
		if (at == record.len) {
			r->not_ip++;
			continue;
		}
		p->ip = frame + at;
		p->len = ip_len(r, p->ip, record.len - at, record.wire_len < at ? 0 : record.wire_len - at, version);
		p->time = record.time;
		if (p->len != 0)
			return true;
	}
	return false;
}

static void write_all(struct writer *w, const void *from, size_t len)
{
	if (fwrite(from, 1, len, w->file) != len)
		die("%s: %s", w->path, strerror(errno));
	w->octets += len;
}

/* Makes a capture of IP packets, with nanoseconds. */
static void open_writer(struct writer *w, const char *dir, const char *name, bool pcapng, const struct reader *input)
{
	static const struct file_header pcap = { MAGIC_NANOSECONDS, 2, 4, 0, 0, MAX_FRAME, LINKTYPE_RAW };
	static const struct {
		uint32_t section, size, order;
		uint16_t major, minor;
		uint32_t len[2], size_again; /* of the section: unknown */
		uint32_t interface, its_size;
		uint16_t link, reserved;
		uint32_t max_frame;
		uint16_t resolution, one_octet;
		uint8_t nanoseconds, padding[3];
		uint32_t end, its_size_again;
	} pcapng_head = { SECTION, 28, SECTION_ORDER, 1, 0, { UINT32_MAX, UINT32_MAX }, 28,
			  INTERFACE, 32, LINKTYPE_RAW, 0, MAX_FRAME, RESOLUTION, 1, 9, { 0 }, END, 32 };
	struct stat in, out;
	w->octets = 0;
	w->pcapng = pcapng;
	if ((size_t)snprintf(w->path, sizeof w->path, "%s/%s.pcap%s", dir, name, pcapng ? "ng" : "") >= sizeof w->path)
		die("%s: the path is too long", dir);
	if (stat(w->path, &out) == 0 && fstat(fileno(input->file), &in) == 0 && in.st_dev == out.st_dev &&
	    in.st_ino == out.st_ino)
		die("%s: this is the input", w->path);
	w->file = fopen(w->path, "wb");
	if (w->file == NULL)
		die("%s: %s", w->path, strerror(errno));
	write_all(w, pcapng ? (const void *)&pcapng_head : &pcap, pcapng ? sizeof pcapng_head : sizeof pcap);
}

static void write_packet(struct writer *w, const struct packet *p)
{
	const uint64_t seconds = p->time / SECOND;
	if (!w->pcapng) {
		const struct frame_header h = { seconds < UINT32_MAX ? (uint32_t)seconds : UINT32_MAX,
						(uint32_t)(p->time % SECOND), p->len, p->len };
		write_all(w, &h, sizeof h);
		write_all(w, p->ip, p->len);
		return;
	}
	const uint32_t padding = -p->len % 4, size = 32 + p->len + padding;
	const uint32_t head[] = { ENHANCED, size, 0, (uint32_t)(p->time >> 32), (uint32_t)p->time, p->len, p->len };
	write_all(w, head, sizeof head);
	write_all(w, p->ip, p->len);
	write_all(w, &(uint32_t){ 0 }, padding);
	write_all(w, &size, sizeof size);
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
 * The state of both gateways. In the real world they are two machines; a key server
 * (psp: the receiving gateway) distributes the keys over a protected channel.
 */
struct tunnel {
	uint32_t aead;
	bool transport;  /* transport mode: behind the packets' own IP headers, not in a tunnel */
	bool *left_out;  /* packets of the input that transport mode does not support */
	size_t left;
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
	/* The number of the key that sealed a packet: 0, 1 or 2, or only its lowest bit. */
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

static eesp_sender *new_sender(eesp_group *g, uint64_t id, uint8_t v, uint32_t flags, uint8_t counter_mode)
{
	eesp_sender_config c = EESP_SENDER_CONFIG_INIT;
	eesp_sender *s;
	c.id = id;
	c.v = v;
	c.flags = flags;
	c.counter_mode = counter_mode;
	check(eesp_sender_new(g, &c, &s), "cannot make a sender");
	return s;
}

static void new_receiver(struct tunnel *t, size_t groups)
{
	/* It serves any number of senders, and keeps only windows for them. */
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
	check(eesp_group_get_root_key_der(g, EESP_LEVEL_ZONE, t->keys.zone, &t->keys.zone_len),
	      "cannot export a root key");
	check(eesp_group_get_root_key_der(g, EESP_LEVEL_USER, t->keys.user, &t->keys.user_len),
	      "cannot export a root key");
	eesp_group_free(g);
	config.aead = t->aead;
	for (int i = 0; i < 2; i++) {
		g = *(i == 0 ? t->from : t->to) = new_group(&config);
		check(eesp_group_set_root_key_der(g, EESP_LEVEL_ZONE, t->keys.zone, t->keys.zone_len), "zone root key");
		check(eesp_group_set_root_key_der(g, EESP_LEVEL_USER, t->keys.user, t->keys.user_len), "user root key");
	}
	/*
	 * V: the data key depends on the source address of the outer packet, so a
	 * datagram with another address does not open. Where a NAT rewrites addresses,
	 * use EESP_V_ID. Options name the root keys that were used.
	 */
	t->sender[0][0] = new_sender(t->from[0], 0x01020304, EESP_V_ID_SRC, EESP_SENDER_OPTIONS, EESP_COUNTER_CLOCK);
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

/* Makes a data key, as the receiving gateway does for each sender. */
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
	/* Under each key counters begin at 0: these keys are new. With keys that outlive a restart,
	 * use EESP_COUNTER_RESERVED. */
	t->sender[0][0] = new_sender(t->from[0], 0x01020304, EESP_V_TSS_SSI, 0, EESP_COUNTER_EXPLICIT);
	new_receiver(t, 1);
}

/* The third key takes the first one's place, of which no packet is in flight any more. */
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
	config.encap = t->transport ? EESP_ENCAP_TRANSPORT : EESP_ENCAP_TUNNEL;
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
			t->sender[i][j] = new_sender(t->from[i], j, 0, 0, EESP_COUNTER_CLOCK);
	}
	new_receiver(t, KEYS);
}

static void eesp_rotate_sender(struct tunnel *t, size_t nth) { (void)t, (void)nth; }

static void eesp_rotate_receiver(struct tunnel *t, size_t nth)
{
	if (nth == 1) /* none of the first SA's packets is in flight any more */
		check(eesp_group_remove_key(t->to[0], 0), "root key");
	if (nth < 2)
		check(eesp_group_set_key(t->to[nth + 1], 0, t->keys.value[nth + 1], EESP_ROOT_KEY_LEN), "root key");
}

static unsigned eesp_key_of(const uint8_t *header) { return header[7] - (EESP_SPI & 0xffu); }

/* Each Sub SA has its own sequence numbers and key. For example, each core has one. */
static eesp_sender *eesp_sender_of(struct tunnel *t, size_t nth, size_t burst)
{
	return t->sender[nth][burst % SUB_SAS];
}

static const struct profile profiles[] = {
	{ "stateless", "draft -02; root keys at two levels, context: ID and source address", EESP_UDP_PORT, false,
	  stateless_set_up, stateless_rotate_sender, stateless_rotate_receiver, stateless_key_of, 0xff, one_sender },
	{ "psp", "data keys that the receiver hands out", EESP_PSP_UDP_PORT, true, psp_set_up, psp_rotate_sender,
	  psp_rotate_receiver, psp_key_of, 1, one_sender },
	{ "tss", "cluster mode, a new key for every 256 packets", 0, false, tss_set_up, tss_rotate_sender,
	  tss_rotate_receiver, tss_key_of, 1, one_sender },
	{ "eesp", "draft -03; four Sub SAs, HKDF-SHA-256", EESP_UDP_PORT, false, eesp_set_up, eesp_rotate_sender,
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
static void put_tss_prefix(const eesp_pkt *p, uint32_t header)
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

static eesp_udp outer_headers(const struct profile *f, bool transport)
{
	eesp_udp udp = EESP_UDP_INIT;
	udp.mode = transport ? EESP_UDP_TRANSPORT : EESP_UDP_TUNNEL;
	udp.dst_port = f->port;
	eesp_addr_from_ipv4(udp.addr.src, gateway[0]);
	eesp_addr_from_ipv4(udp.addr.dst, gateway[1]);
	return udp;
}

static void seal_capture(struct tunnel *t, const struct profile *f, struct burst *b, struct reader *from,
			 struct writer *to)
{
	struct gateway *g = &t->sending;
	const eesp_udp udp = outer_headers(f, t->transport);
	for (size_t n; (n = fill_burst(b, from, rotate_if_due(t, g, f->rotate_sender))) != 0;
	     g->packets += n, g->bursts++) {
		eesp_sender *sender = f->sender(t, g->rotations, g->bursts);
		for (size_t i = 0; i < n; i++) {
			b->pkt[i] = (eesp_pkt){ .data = b->packet[i].ip, .len = b->packet[i].len, .headroom = HEADROOM,
						.tailroom = TAILROOM };
			if (f->port == 0)
				put_tss_prefix(&b->pkt[i], eesp_sender_header_len(sender));
		}

		double start = now();
		if (f->port == 0)
			eesp_seal_burst(sender, b->pkt, n);
		else
			eesp_udp_seal_burst(sender, &udp, b->pkt, n);
		g->seconds += now() - start;

		for (size_t i = 0; i < n; i++) {
			struct packet *p = &b->packet[i];
			/* a fragment, extension headers */
			if (t->transport && b->pkt[i].status == EESP_ERR_UNSUPPORTED) {
				t->left_out[g->packets + i] = true;
				t->left++;
				continue;
			}
			if (b->pkt[i].status != EESP_OK)
				die("%s: packet %zu is not sealed: %s", from->path, g->packets + i + 1,
				    eesp_strerror(b->pkt[i].status));
			uint32_t prefix = f->port == 0 ? IPV4_LEN + ENTROPY_LEN : 0;
			p->ip = (uint8_t *)b->pkt[i].out - prefix;
			p->len = b->pkt[i].out_len + prefix;
			write_packet(to, p);
		}
	}
}

static bool next_original(const struct tunnel *t, struct reader *r, struct packet *p, size_t *nth)
{
	bool more;
	while ((more = read_packet(r, p)) && t->left_out != NULL && t->left_out[(*nth)++])
		;
	return more;
}

/* In transport mode the IPv4 checksum is computed again, and right even if it was wrong before. */
static bool same(const struct tunnel *t, struct packet *original, const struct packet *p)
{
	uint8_t *ip = original->ip;
	if (t->transport && ip[0] >> 4 == 4) {
		put16(ip + 10, 0);
		put16(ip + 10, checksum(ip, (ip[0] & 0xfu) * 4));
	}
	return original->len == p->len && memcmp(ip, p->ip, p->len) == 0;
}

static void open_capture(struct tunnel *t, const struct profile *f, struct burst *b, struct reader *from,
			 struct reader *originals, struct packet *original, struct writer *to)
{
	struct gateway *g = &t->receiving;
	const eesp_udp udp = outer_headers(f, t->transport);
	unsigned key[MAX_BURST];
	size_t nth = 0; /* of the originals */
	for (size_t n; (n = fill_burst(b, from, rotate_if_due(t, g, f->rotate_receiver))) != 0;
	     g->packets += n, g->bursts++) {
		for (size_t i = 0; i < n; i++) {
			const struct packet *p = &b->packet[i];
			b->pkt[i] = (eesp_pkt){ .data = p->ip, .len = p->len };
			const uint32_t ip_header = p->ip[0] >> 4 == 4 ? (p->ip[0] & 0xfu) * 4 : IPV6_LEN;
			const uint32_t front = ip_header + (f->port == 0 ? ENTROPY_LEN : UDP_LEN);
			if (p->len < front + EESP_MIN_HEADER)
				die("%s: packet %zu is not one of the tunnel's", from->path, g->packets + i + 1);
			if (f->port == 0) {
				if (p->ip[0] != 0x45 || p->ip[9] != TSS_PROTOCOL)
					die("%s: packet %zu is not one of the tunnel's", from->path,
					    g->packets + i + 1);
				b->pkt[i] = (eesp_pkt){ .data = p->ip + front, .len = p->len - front,
							.headroom = front };
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
			if (key[i] == ((g->rotations + 1) & f->key_mask) && g->rotations < ROTATIONS &&
			    !f->receiver_first)
				g->next++;
			else if (key[i] != (g->rotations & f->key_mask))
				g->previous++;
			p->ip = b->pkt[i].out;
			p->len = b->pkt[i].out_len;
			if (!next_original(t, originals, original, &nth) || !same(t, original, p))
				die("%s: packet %zu is not what was sealed", from->path, g->packets + i + 1);
			write_packet(to, p);
		}
	}
	if (next_original(t, originals, original, &nth))
		die("%s: packet %zu is missing", from->path, g->packets + 1);
}

/* ---- The program --------------------------------------------------------- */

static const char usage[] =
	"usage: pcap_tunnel [--profile NAME] [--transport] [--aead 128|256] [--burst N] [--pcapng] INPUT OUTDIR\n";
static const char help[] =
	"Seals the IP packets of a capture (pcap or pcapng) into OUTDIR/sealed.pcap, opens\n"
	"them again into OUTDIR/opened.pcap, compares, and prints a summary. OUTDIR has to\n"
	"be there.\n\n"
	"  --profile NAME  packet format: stateless (default: draft -02), psp, tss, eesp (-03)\n"
	"  --transport     behind the packets' own IP headers, not a tunnel: psp, eesp\n"
	"  --aead BITS     AES-GCM key size: 128 (default) or 256 (tss: always)\n"
	"  --burst N       packets a call, 1 to 256 (default 32)\n"
	"  --pcapng        write OUTDIR/sealed.pcapng and OUTDIR/opened.pcapng\n"
	"  -h, --help      print this\n\n"
	"Packets/s is measured around the library's calls, on one core, without files.\n"
	"Exit status: 0 all packets came back as they were, 1 error, or a frame of the\n"
	"capture was malformed (the others are sealed), 2 wrong arguments.\n"
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
	bool transport, pcapng;
	const char *input, *dir;
};

static struct arguments parse_arguments(int argc, char **argv)
{
	static const struct option options[] = {
		{ "profile", required_argument, NULL, 'p' },
		{ "transport", no_argument, NULL, 't' },
		{ "pcapng", no_argument, NULL, 'n' },
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
		case 't':
			a.transport = true;
			break;
		case 'n':
			a.pcapng = true;
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
	if (a.transport && strcmp(a.profile->name, "psp") != 0 && strcmp(a.profile->name, "eesp") != 0)
		wrong_usage("--transport goes with --profile psp or eesp");
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

	/* The first reading checks the capture, and counts its packets. */
	struct reader input, sealed_input;
	size_t total = 0;
	unsigned long long octets = 0;
	open_reader(&input, arg.input, MAX_INNER);
	for (; read_packet(&input, &original); total++)
		octets += original.len;
	const bool faults = input.malformed != 0 || input.ended;
	printf("input      %s: %zu packets, %llu octets; ", arg.input, total, octets);
	printf("left out: %zu frames without IP, %zu cut or too long", input.not_ip, input.unusable);
	if (input.malformed != 0)
		printf(", %zu malformed", input.malformed);
	printf("%s\n", input.clamped != 0 ? "; time stamps out of range were clamped" : "");

	/* One gateway is the first to rotate, the second time the other. */
	struct tunnel t = { .aead = arg.aead, .transport = arg.transport };
	if (arg.transport && (t.left_out = calloc(total + 1, sizeof *t.left_out)) == NULL)
		die("%s", strerror(errno));
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
	printf("profile    %s: %s%s\n", arg.profile->name, arg.profile->what, arg.transport ? "; transport mode" : "");
	printf("backend    %s, AES-%s-GCM\n", eesp_backend_name(), arg.aead == EESP_AEAD_AES_128_GCM ? "128" : "256");

	struct writer sealed, opened;
	open_writer(&sealed, arg.dir, "sealed", arg.pcapng, &input);
	open_writer(&opened, arg.dir, "opened", arg.pcapng, &input);
	rewind_reader(&input);
	seal_capture(&t, arg.profile, &burst, &input, &sealed);
	close_writer(&sealed);
	t.sending.packets -= t.left;
	print_work("sealed", &t.sending);
	if (t.left != 0)
		printf("           %zu fragments, or packets with extension headers, are not for transport mode\n",
		       t.left);

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
	free(t.left_out);
	if (fflush(stdout) != 0)
		die("standard output: %s", strerror(errno));
	return faults ? 1 : 0;
}
