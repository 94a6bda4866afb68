/* SPDX-License-Identifier: BSD-3-Clause */
/* What the parts of the benchmark share. */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum work { DERIVE, REKEY_SEAL, REKEY_OPEN, CACHED_SEAL, PACKET_SEAL, PACKET_OPEN, PROXY, WORKS };
enum contexts { DISTINCT, EQUAL, ZIPF, CONTEXTS };

#define IMIX 0 /* as a size: 64, 594 and 1420 octets, 7:4:1, shuffled */
#define AAD_LEN 20
#define TAG_LEN 16
#define HUGE_PAGE (2u << 20) /* alignment of a huge page */
#define FRONT 64 /* octets in front of each payload: AAD or header, up to the payload */
#define BACK (TAG_LEN + 3) /* behind it: padding (eesp) and tag */
/* packets of a renewed set: a pass is long beside reading the clock, and its packets are in the first-level cache */
#define RENEWED 64
#define ZIPF_KEYS 64
#define MAX_ROUNDS 101
#define MAX_THREADS 64

enum replay { WINDOWS, TIMES, NO_REPLAY };

struct config {
	enum work work;
	unsigned aead; /* EESP_AEAD_x */
	size_t size;   /* octets, or IMIX */
	size_t burst;
	enum contexts contexts;
	unsigned threads;
	/* Of the packet works: */
	unsigned profile; /* EESP_PROFILE_x */
	bool careful;	  /* replay windows, own IDs, a second group, options: what SECURITY.md advises */
	enum replay replay; /* careful: by windows, by time, or not at all, for comparison */
	bool visited;	  /* opening: another thread has used the receiver before */
	size_t flows;	  /* opening: packets come from flows drawn at random out of so many; 0: as contexts says */
	size_t packets;	  /* in the set, at least; 0: as many as the work takes */
};

/*
 * A receiver with replay windows opens a packet once: new ones are sealed
 * before each pass, outside the time that is measured.
 */
static inline bool renewed(const struct config *c)
{
	return (c->work == PACKET_OPEN || c->work == PROXY) && (c->careful || c->flows);
}

/*
 * What one thread works on. All peers read the same inputs and write to the
 * same place: slots of FRONT octets, the payload and the tag.
 */
struct set {
	struct config c;
	size_t n; /* packets, a whole number of bursts */
	size_t key_len;
	size_t octets; /* payload of all n */
	uint8_t kdf_key[32];
	uint8_t k1[16];    /* CMAC subkey of kdf_key */
	size_t nkeys;      /* distinct contexts */
	uint8_t *keys;     /* their data keys, computed with OpenSSL */
	uint32_t *key;     /* of each packet: which context */
	uint32_t *fresh;   /* of each burst, from its first packet's place on: packets with a context new in it */
	uint32_t *nfresh;  /* of each burst: how many */
	uint32_t *which;   /* of each packet: which of its burst's fresh ones has its context */
	uint8_t *context;  /* of each packet: its KDF block, 16 octets */
	uint8_t *nonce;    /* of each packet: 12 octets */
	uint32_t *len;     /* of each packet */
	size_t stride;     /* from slot to slot */
	uint8_t *plain;    /* n slots */
	uint8_t *sealed;   /* n slots, sealed with OpenSSL */
	uint8_t *out;      /* n slots */
	uint8_t *keys_out; /* n keys, for DERIVE */
	void *memory;
};

static inline uint8_t *slot(const struct set *s, uint8_t *of, size_t i)
{
	return of + i * s->stride + FRONT;
}
static inline const uint8_t *aad(const struct set *s, size_t i)
{
	return slot(s, s->plain, i) - AAD_LEN;
}

/* The blocks whose AES-256-ECB is the data keys of these packets: context XOR K1. */
static inline void kdf_blocks(const struct set *s, const uint32_t *packets, size_t n, uint8_t *blocks)
{
	size_t per = s->key_len / 16;
	uint64_t k1[2], c[2];
	memcpy(k1, s->k1, 16);
	for (size_t i = 0; i < n; i++) {
		memcpy(c, s->context + 16 * packets[i], 16);
		c[0] ^= k1[0];
		c[1] ^= k1[1];
		for (size_t b = 0; b < per; b++) {
			uint8_t *x = blocks + 16 * (i * per + b);
			memcpy(x, c, 16);
			x[0] = (uint8_t)(b + 1) ^ s->k1[0];
		}
	}
}

/* An implementation under test. */
struct peer {
	const char *name;
	const char *backend;
	const char *how[WORKS]; /* the calls used; NULL: does not do this work */
	void *(*open)(const struct peer *p, struct set *s);
	void (*pass)(void *state); /* all packets of the set, burst by burst */
	void (*renew)(void *state); /* before each pass of a renewed set */
	void (*close)(void *state);
	bool remote; /* in another process: remote_* instead */
	unsigned arg;
};

struct set *set_new(struct config c);
void set_free(struct set *s);
/* Octets of the outputs that differ from what they must be; clears them. */
size_t set_check(struct set *s);

const char *work_name(enum work w);
const char *contexts_name(enum contexts c);
const char *profile_name(unsigned profile);
const char *config_name(const struct config *c);
/* A work on a profile's packets, with the AEAD that is measured. A sender of psp, tss or eesp has one key, or one for
 * many packets. */
struct config work_of(unsigned profile, enum work work);
/* The kernels that a packet work rests on: a fresh key for each packet, or for eesp one expanded beforehand. */
enum work kernels_of(unsigned profile, enum work work);
int by_double(const void *a, const void *b); /* for qsort */
double now_ns(void);
void die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
void *must_alloc(size_t align, size_t size);

/* Peers append themselves; each returns how many it added. */
size_t eesp_peers(struct peer *out, size_t room, const char *only);
size_t ipsec_peers(struct peer *out, size_t room);
size_t openssl_peers(struct peer *out, size_t room);
size_t go_peers(struct peer *out, size_t room, const char *program);
/* Of a library that a user built elsewhere: the file is what bench/plugin.sh makes. */
size_t plugin_peers(struct peer *out, size_t room, const char *file);
/* The i-th plugin's file and version; NULL beyond the last. */
const char *plugin_at(size_t i, const char **version);

const char *ipsec_version(void);
const char *openssl_version(void);

void go_setup(struct set *s);
void go_output(struct set *s);
double go_round(unsigned passes);
void go_stop(void);
const char *go_version(void);

/* Seals or opens one packet the plain way, for reference. */
void reference_seal(const uint8_t *key, size_t key_len, const uint8_t *nonce, const uint8_t *a, size_t a_len,
		    const uint8_t *src, size_t len, uint8_t *dst, uint8_t *tag);
bool reference_open(const uint8_t *key, size_t key_len, const uint8_t *nonce, const uint8_t *a, size_t a_len,
		    const uint8_t *src, size_t len, uint8_t *dst, const uint8_t *tag);
void reference_ecb(const uint8_t key[32], const uint8_t *src, uint8_t *dst, size_t len);
/* Packets sealed by the library that do not open to what was sealed. */
size_t eesp_packets_check(void *state, struct set *s);

/* Results */
struct result {
	struct config c;
	const struct peer *peer;
	double octets; /* mean payload of a packet */
	unsigned rounds;
	double ns[MAX_ROUNDS]; /* per packet, of each round */
	double median, min, max;
};
struct tail {
	const struct peer *peer;
	struct config c;
	unsigned workers, gap_us;
	size_t calls;
	double p50, p99, p999, max;
	char note[96];
};
struct report {
	struct result *results;
	size_t count;
	struct tail *tails;
	size_t tail_count;
};
void report_tables(const struct report *r, FILE *f);
void report_write(const struct report *r, const char *dir);
void run_on_top(FILE *f, const struct peer *p, const char *profile, const char *only, unsigned rounds);
void run_windows(FILE *f, const struct peer *p, const char *profile, unsigned rounds);
void run_tails(struct report *r, struct peer *peers, size_t n, double scale);
struct tail_choice {
	const char *profile, *work; /* NULL: all */
	unsigned gap_us, rounds;
	double seconds; /* of each callee */
};
void run_tail_turns(FILE *f, const struct peer *peers, size_t n, const struct tail_choice *choice);
void pin(unsigned cpu); /* the calling thread, to the cpu-th of the process */
void unpin(void);
unsigned cpu_count(void);

#endif
