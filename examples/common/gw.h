/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * gw.h - what the gateways have in common: tap_gw (../tap) and eesp_gw (../dpdk)
 *
 * A gateway has groups, which are keys at this end, and peers, which are gateways
 * at other ends. Both come from one configuration file (config.c; README.md has the
 * format), senders and receivers are made of them (ends.c), and a Unix socket
 * takes commands (control.c). What carries packets is the program's own.
 */
#ifndef GW_H
#define GW_H

#include <eesp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define GW_MAX_GROUPS 32
#define GW_MAX_PEERS 64
#define GW_MAX_ENDS 8
#define GW_MAX_ROUTES 16 /* of a peer */
#define GW_MAX_NAME 32
#define GW_MAX_PATH 1024
#define GW_MAX_WORKERS 64
#define GW_MAX_WORDS 40
#define GW_MAX_STRANGERS 16
#define GW_REPLAY_WINDOW 4096 /* if the configuration does not say */
#define GW_ENGINE_BITS 4
#define GW_MAX_SECRET 256     /* octets of a file with keys */

/* ---- Errors ----------------------------------------------------------------- */

extern const char *gw_program; /* the program's name, for messages */
__attribute__((format(printf, 1, 2), noreturn)) void die(const char *format, ...);

/* ---- Configuration (config.c) -------------------------------------------------- */

/* Where a group's keys come from. */
enum gw_keys {
	GW_KEYS_FILE, /* root-key and key statements, and commands */
	GW_KEYS_AGENT /* the agent of this host: parameters, keys and IDs */
};

/* By what packets are told that came before. */
enum gw_replay { GW_REPLAY_WINDOWS, GW_REPLAY_TIME, GW_REPLAY_OFF };

struct gw_group {
	char name[GW_MAX_NAME];
	unsigned line;
	eesp_group_config config;
	eesp_group *handle;
	enum gw_keys keys;
	bool has_id, has_slot[2], slot_known;
	unsigned slot;          /* that senders use */
	uint64_t id;            /* what this end sends under */
	uint8_t v;
	enum gw_replay replay;
	uint32_t replay_window; /* packets; 0: none */
	uint32_t replay_contexts; /* most windows; 0: the library's */
	uint32_t max_age_us, max_early_us; /* time; 0: the library's */
	uint64_t max_rate;
	char mark[GW_MAX_PATH]; /* time: of what was opened; "" = the clock is relied on */
	char state[GW_MAX_PATH]; /* counters are kept there; "" = by the clock */
	char spi_file[GW_MAX_PATH]; /* psp: the last SPI that was given out */
	/* workers count apart from each other, this many bits of them; eesp: Session IDs of their own */
	uint8_t engine_bits;
	eesp_sender *sender[GW_MAX_WORKERS]; /* for all peers, but those with a data key; made when first asked for */
};

struct gw_prefix {
	uint8_t address[16]; /* IPv4: ::ffff:a.b.c.d */
	uint8_t bits;        /* of 128 */
};

/* What happened to packets of one peer; each worker has its own. */
struct gw_counts {
	_Atomic uint64_t sealed, sealed_octets, opened, opened_octets;
	_Atomic uint64_t refused[EESP_STATUS_COUNT]; /* by status; 0: inside is another network than the peer's */
};

struct gw_peer {
	char name[GW_MAX_NAME];
	unsigned line, index;
	uint8_t address[16];
	struct gw_group *_Atomic send; /* NULL: with a data key */
	struct gw_group *receive;
	char send_key[GW_MAX_PATH];    /* file with a data key; "" = none */
	_Atomic(eesp_sender *) sender[GW_MAX_WORKERS]; /* what each worker seals packets to it with */
	struct gw_prefix routes[GW_MAX_ROUTES];
	size_t route_count;            /* 0: all */
	char port[GW_MAX_NAME];        /* which of the gateway's ports; "" = the only one */
	struct gw_end *end;            /* which that is */
	eesp_addr addr;                /* from here to it */
	void *own;                     /* the program's */
};

/* A port: a UDP socket's address, or a port of DPDK. */
struct gw_end {
	char name[GW_MAX_NAME];
	unsigned line;
	uint8_t address[16];   /* this end's */
	uint16_t udp_port;     /* 0: as the profile says */
	uint32_t profile;      /* of all its peers */
	uint32_t replay_window; /* that its receiver has */
	eesp_receiver *receiver; /* of all threads: a packet that comes again may come to another */
};

struct gw_line;
/* A statement of the configuration. */
struct gw_statement {
	const char *name;
	int min, max; /* how many words it has, its name included */
	bool once;
	void (*read)(struct gw_line *l);
	const char *usage;
};

struct gw {
	const char *path;
	const struct gw_statement *statements; /* the program's own; a nameless one ends them */
	void (*check)(struct gw *g);           /* what of these only the whole file tells; NULL: nothing */
	void *program;                         /* what they read into */
	struct gw_group groups[GW_MAX_GROUPS];
	struct gw_peer peers[GW_MAX_PEERS];
	struct gw_end *ends[GW_MAX_ENDS];
	size_t group_count, peer_count, end_count;
	char control[108]; /* path of the control socket; "" = none */
	char lock_dir[GW_MAX_PATH];
	char metrics[108]; /* path of a socket, or a port of 127.0.0.1; "" = none */
	void (*metrics_of_program)(struct gw *g, FILE *to); /* its own; NULL: none */
	unsigned stats; /* seconds between statistics on standard output; 0 = never */
	/* Senders that were replaced; freed at the end, since bursts may still use them. */
	size_t senders; /* of each peer: workers */
	eesp_sender *retired[16 * GW_MAX_WORKERS];
	size_t retired_count;
	/* Of workers, for the commands. */
	struct gw_counts (*counts[GW_MAX_WORKERS])[GW_MAX_PEERS];
	size_t worker_count;
	struct {
		pthread_mutex_t lock;
		struct gw_stranger {
			uint8_t address[16];
			uint64_t packets;
		} seen[GW_MAX_STRANGERS];
		size_t count;
		_Atomic uint64_t others; /* that have no place of their own */
	} strangers; /* addresses that are no peer's */
	time_t since;
};

/* The line being read. */
struct gw_line {
	struct gw *gw;
	unsigned number;
	int count;
	char *word[GW_MAX_WORDS];
};

struct gw_choice {
	const char *name;
	unsigned value;
};
extern const struct gw_choice gw_yes_no[];

/* Reads a configuration and makes its groups. Ends the program where it is wrong. */
void gw_read(struct gw *g, const char *path);
/* Says what is wrong with a line, and ends the program. */
__attribute__((format(printf, 3, 4), noreturn)) void gw_fail(const struct gw *g, unsigned line, const char *format,
							     ...);
/* Does so if status is none of success. */
void gw_check(const struct gw *g, unsigned line, eesp_status status);
#define gw_fail_line(l, ...) gw_fail((l)->gw, (l)->number, __VA_ARGS__)

/* For statements of a program's own. Behind a line's first words are pairs of key and value, each key once. */
bool gw_pair(const struct gw_line *l, int *at, const char **key, const char **value);
uint64_t gw_number(const struct gw_line *l, const char *key, const char *word, uint64_t min, uint64_t max);
unsigned gw_choose(const struct gw_line *l, const struct gw_choice *from, const char *key, const char *name);
void gw_copy(const struct gw_line *l, const char *key, char *to, size_t size, const char *word);
/* A name as metrics and telemetry can have it: it stands between quotation marks there. */
void gw_copy_name(const struct gw_line *l, const char *key, char to[GW_MAX_NAME], const char *word);
void gw_address(const struct gw_line *l, const char *key, const char *word, uint8_t address[16]);
/* Adds a port to the configuration. */
void gw_add_end(const struct gw_line *l, struct gw_end *e);

struct gw_group *gw_find_group(struct gw *g, const char *name);
struct gw_peer *gw_find_peer(struct gw *g, const char *name);
/* Number of a level, -1 if there is none of that name. */
int gw_level(const char *name);
const char *gw_level_name(int level);
const char *gw_profile_name(uint32_t profile);
/* An address as text; of IPv4 with dots. Returns to. */
#define GW_ADDRESS_TEXT 46
const char *gw_text(const uint8_t address[16], char to[GW_ADDRESS_TEXT]);

/* ---- Keys and their files (keys.c) ---------------------------------------------- */

/* Reads a file that only its owner may read; its length, or -1 with a message in why. */
int gw_read_secret(const char *path, uint8_t *to, size_t size, char why[GW_MAX_PATH]);
/* Makes such a file; one that is there is replaced whole, or is an error. -1 with errno set. */
int gw_write_secret(const char *path, const uint8_t *from, size_t len, bool replace);
/* Puts what a file has into a group: a level's ring (DER), a slot's key. false with a message in why. */
bool gw_load_root_key(struct gw_group *g, int level, const char *path, char why[GW_MAX_PATH]);
bool gw_load_key(struct gw_group *g, unsigned slot, const char *path, char why[GW_MAX_PATH]);
/*
 * The commands that need no gateway: check, make-key, make-secret, grant, and ctl.
 * Returns the exit status, or -1 if argv is none of them.
 */
int gw_tools(struct gw *g, int argc, char **argv);
void gw_print_tools(FILE *to);

/* ---- Senders and receivers (ends.c) ------------------------------------------------ */

/*
 * Makes them for all peers and ends. Ends the program where one cannot be had.
 * Workers that seal have counters of their own: those of one that waits for a CPU
 * would be behind the others' windows when its packets arrive.
 */
void gw_open(struct gw *g, size_t workers);
void gw_close(struct gw *g);
/* Makes the sender of a peer anew: with the data key of a file, or with another group. false with a message in why. */
bool gw_send_key(struct gw *g, struct gw_peer *p, const char *path, char why[GW_MAX_PATH]);
bool gw_send_group(struct gw *g, struct gw_peer *p, struct gw_group *group, char why[GW_MAX_PATH]);
/* Octets that sealing a packet for any peer of an end takes at most: prefix, header, padding, ICV. */
uint32_t gw_overhead(const struct gw *g, const struct gw_end *e);

/* What an IP packet says of itself: its octets, 0 if it is none; where it comes from and goes to. */
uint32_t gw_ip(const void *ip, uint32_t there, uint8_t source[16], uint8_t destination[16]);
/* The peer that a packet to that address goes to, of those at an end; NULL: none. */
struct gw_peer *gw_route(const struct gw *g, const struct gw_end *e, const uint8_t destination[16]);
/* Whether a packet from that address may come from the peer. */
bool gw_is_inside(const struct gw_peer *p, const uint8_t source[16]);
/* The peer that has the address; NULL: none. */
struct gw_peer *gw_peer_at(const struct gw *g, const struct gw_end *e, const uint8_t address[16]);
/* tss: writes the prefix of a packet right in front of header; returns its octets. */
uint32_t gw_put_prefix(uint8_t *header, const eesp_addr *addr, uint16_t source_port, uint16_t destination_port);

/* ---- Counting: each worker writes its own ----------------------------------------------- */

static inline void gw_count(_Atomic uint64_t *c, uint64_t n)
{
	atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n, memory_order_relaxed);
}
/* A packet from an address that is no peer's. */
void gw_stranger(struct gw *g, const uint8_t address[16], uint64_t packets);

/* ---- Commands (control.c) ----------------------------------------------------------------- */

struct gw_command {
	struct gw *gw;
	int count;
	char *word[GW_MAX_WORDS];
	FILE *answer;
};
/* A command of the program's own, beside the common ones. */
struct gw_verb {
	const char *name;
	int min, max; /* words */
	void (*run)(struct gw_command *c);
	const char *usage;
};
__attribute__((format(printf, 2, 3))) void gw_refuse(struct gw_command *c, const char *format, ...);

extern atomic_bool gw_stop;

/* A socket on which a gateway answers, at a path; of what, for messages: "" or "metrics: ". Ends the program if another
 * one answers there. */
int gw_listen(const char *what, const char *path);
/* Takes a connection, which may keep the gateway waiting for a second. -1: there is none. */
int gw_accept(int listener);
/* Reads what ends with end, and puts a zero behind it. false: that did not come, or not within size - 1 octets. */
bool gw_request(int fd, char *to, size_t size, const char *end);
/* Sends what was allocated, frees it, and ends the connection. */
void gw_answer(int fd, char *text, size_t len);

/* Makes the control socket, if one is configured: another gateway that has it ends the program. Returns it, or -1. */
int gw_control_open(struct gw *g);
/* Answers one client. verbs: the program's own; a nameless one ends them. */
void gw_control_serve(struct gw *g, int listener, const struct gw_verb *verbs);
void gw_control_close(struct gw *g, int listener);
/* What status says. */
void gw_show_status(struct gw_command *c);
/* Sends a command and prints the answer. Returns the exit status. */
int gw_control_client(const char *path, char *const *words, int count);
/* All workers' counts of a peer. */
struct gw_sums {
	uint64_t sealed, sealed_octets, opened, opened_octets, refused[EESP_STATUS_COUNT];
};
void gw_sum(const struct gw *g, const struct gw_peer *p, struct gw_sums *s);

/* ---- Metrics (metrics.c) ---------------------------------------------------------------------- */

/* Makes the socket on which they are served, if one is configured. Returns it, or -1. */
int gw_metrics_open(struct gw *g);
/* Answers one client. */
void gw_metrics_serve(struct gw *g, int listener);
void gw_metrics_close(struct gw *g, int listener);
/* Writes all of them. */
void gw_metrics(struct gw *g, FILE *to);
/* Begins one: for metrics_of_program. A counter's lines have _total behind its name. */
void gw_metric(FILE *to, const char *name, const char *type, const char *help);

#endif
