/* SPDX-License-Identifier: BSD-3-Clause */
/* Memory that the executor (direct.c) and Go share: the structs of package
 * internal/plan, which documents their fields, replay.View, fresh.View and others.
 * layout.go compares the layouts at compile time. Not installed. */
#ifndef EESP_PLAN_H
#define EESP_PLAN_H

#include <stdint.h>

#define PLAN_HEADER 128
#define NONE 0x80

struct eesp_direct;

enum { TALLY_SEALED, TALLY_OPENED }; /* keys.Sealed, keys.Opened */
enum { USAGE_SEALED, USAGE_OPENED, USAGE_EXTRA }; /* keys.UsageWords */

/* keys.Shares: their number, and the places of those of a usage and a tally, in words. */
enum { SHARES = 4, USAGE_SHARES = 11, TALLY_SHARES = 17, REFUSED_WORDS = 64 };
struct eesp_share {
	uint64_t owner, n[9], padding[6];
};

#define FLAGS_FACTOR 0x85EBCA6Bu /* plan.AddLayout */

struct eesp_copy {
	int16_t from;
	uint8_t what, to;
};

struct eesp_split {
	uint64_t mask, engine_mask;
	uint8_t shift, padding[7];
};

struct eesp_layout {
	uint32_t word;
	uint32_t flags;
	uint16_t n, prefix;
	uint8_t vectors, copies, id_shift, flow_len, flow_desc, next_at, simple, numbers;
	int16_t id_at, source_at, tsc_at, probe_at, flow_at;
	uint8_t rekey_at, rekey_bits;
	uint64_t id_mask, probe_mask, rekey_mask, epoch_mask, id_need, id_never;
	uint64_t tsc_never;
	int16_t tail_at;
	uint8_t inner, unwrap, ages, least_more;
	int8_t missing;
	uint8_t moves;
	struct eesp_copy copy[2];
	uint8_t more_at, clear_at, clear_mask, all_clear;
	uint8_t mask[PLAN_HEADER], msg_source[16], msg_tail[16], nonce_source[16], nonce_more[16], nonce_tail[16];
	struct eesp_wide {
		uint64_t load, front, behind, picked, again, odd, whole, of_addr;
		int64_t at;
		uint8_t compared[64], pick[64], pick2[64], kept[64], pick_addr[64], usual[64];
		uint32_t lengths[4];
	} wide;
	uint16_t begin;
	uint8_t direction_mask, direction;
	int8_t who_at;
	uint8_t who_len;
	int8_t unusable;
	uint8_t keeps, probe_more;
};

enum { COPY_PACKET, COPY_DESC, COPY_PACKET_4 }; /* plan.CopySource */

/* plan.Unwrap. */
enum { UNWRAP_BARE, UNWRAP_INFO, UNWRAP_INFO_IP, UNWRAP_ONLY };

/* plan.Keeps. */
enum { KEEPS_NEVER, KEEPS_COUNTED, KEEPS_ALWAYS };

/* plan.Odd. */
enum { ODD_NONE, ODD_EXTENSION, ODD_KEYS, ODD_OPTIONS, ODD_DOMAIN };

/* keys.DomainState: after so many failures all packets are dropped. */
struct eesp_latch {
	uint64_t most, failures;
};

/* keys.Subs: octets of four keys; octets from one key to the next; and the place of
 * what is added to nonces. */
enum { SUB_QUAD = 2048 };
#if defined(__aarch64__)
enum { SUB_LANE = SUB_QUAD / 4, SUB_MASK = SUB_LANE - 16 };
#else
enum { SUB_LANE = 16, SUB_MASK = 15 * 64 };
#endif

struct eesp_pattern {
	uint8_t value[PLAN_HEADER], nonce[16], msg[16], nothing[16];
	uint64_t kind, nothing2; /* kind: part of a lane's who */
	uint8_t more[2][16];
	const uint8_t *master, *sub, *area;
	uint64_t name[2], hash;
	uint64_t *usage;
	uint32_t next;
	uint16_t batch;
	uint8_t blocks, key_len, counter, mask;
	uint16_t layout, stride;
	uint8_t most_clear, flow;
	const struct eesp_layout *form;
	uint8_t addr[32];
	const uint32_t *subs;
	uint64_t sub_count;
	uint64_t *tally;
	uint16_t epoch, age;
	uint32_t padding2;
	struct eesp_latch *latch;
	const struct eesp_pattern *previous;
};

enum { ANY, BARE, SUBS, SERIAL, KINDS }; /* plan.Kind */

/* replay.Sole. */
struct eesp_sole {
	uint64_t owner, padding[7], busy, padding2[7];
};

/* Octets from the beginning of a window. */
enum { WINDOW_ADDR = 32, WINDOW_TOP = 48, WINDOW_WORDS = 56 };

struct eesp_windows {
	const uint32_t *index;
	uint8_t *windows;
	uint64_t mask, stride, width, n, recip, shift, seed[8], no_addr;
	uint8_t padding[56];
	struct eesp_sole sole;
	uint64_t duplicate, old, full;
};

/* fresh.View. */
struct eesp_times {
	uint64_t seed[8], no_addr, tsc_seed[2];
	uint64_t *words;
	uint64_t lines, slice, age, early, span;
	uint8_t padding[56];
	uint64_t floor, limit, most, due, behind;
	uint8_t padding2[24];
	struct eesp_sole sole;
	uint64_t duplicate, stale, ahead, full;
	uint8_t padding3[32];
};

/* times.h: the last reading of the clock, in ticks (0: none), and the CPU's counter just before it. */
struct times_reading {
	uint64_t cycles, now;
};

/* replay.Key. */
struct eesp_flow {
	uint64_t who[4]; /* name of the key, ID, and Epoch, Kind and Engine */
	uint64_t addr[4];
};

/* burst.strangers. */
struct eesp_strangers {
	uint64_t spent, refused, asked;
};

/* profile.kept: a thread's keys that were derived from packets' contexts, expanded. */
enum { KEPT_PLACES = 32, KEPT_INPUT = 48, KEPT_CREDIT = 2048 };
struct eesp_kept {
	uint8_t *keys; /* as those of keys.Subs */
	uint32_t used; /* bits by place: its key was right for a packet, since they were cleared */
	int32_t credit, asleep;
	uint8_t padding[44];
	uint8_t first[256]; /* by hash: 1 + a place; 0: none */
	struct eesp_kept_of {
		uint8_t input[KEPT_INPUT]; /* of the KDF */
		uint16_t batch;
		uint8_t hash, next; /* next: as first */
		uint8_t padding[12];
	} of[KEPT_PLACES];
};

struct eesp_open_plan {
	const struct eesp_direct *direct;
	const struct eesp_layout *layouts;
	const struct eesp_pattern *patterns;
	const uint8_t *layout_by_word;
	const uint32_t *bucket;
	const uint64_t *own_ids;
	struct eesp_windows *windows;
	uint64_t *by;
	const uint8_t *tally_of;
	uint64_t *octets;
	uint64_t own_mask, own_free, own_some;
	struct eesp_split split;
	uint32_t word_mask, word_factor, bucket_shift;
	uint8_t kind, extras, expanded, wide;
	struct eesp_times *times;
	struct eesp_strangers *strangers;
	const struct eesp_open_plan *loose;
	struct eesp_share *shares;
	uint64_t *refused; /* REFUSED_WORDS for each share */
	struct eesp_kept *kept; /* one for each share */
	uint32_t odd, n_layouts;
	int8_t missing, missing_bare;
	uint8_t ahead, retries;
	uint32_t patterns_size;
	struct eesp_screen {
		int8_t first[256], second[256];
		uint8_t more[256];
		int8_t third[256];
		uint8_t third_at[256];
		uint8_t prefix[4];
		uint32_t zero;
		uint32_t least, first_at, name_at, name_mask;
		uint64_t n_names, n_domains;
		const uint32_t *names;
		const struct eesp_domain {
			uint32_t number, reflected;
			uint64_t *tally;
		} *domains;
	} screen;
};

#define LOOK_EVERY 4096 /* counter.LookEvery */
#define IDLE_NS 1000000000 /* counter.Idle */
#define LAG_S 60 /* counter.Lag */

struct eesp_counter {
	uint64_t engine, step;
	uint8_t shift, low, rate, padding[5];
	uint64_t time_lead; /* not 0: counters are times */
	int64_t *last;
	uint64_t *ahead, base, end;
	int64_t start;
};

/* profile.memo. */
struct eesp_memo {
	uint8_t block[16], other[16], encrypted[3][16], padding[48];
};

struct eesp_seal_plan {
	const struct eesp_direct *direct;
	uint64_t *next, *limit, *by, *octets;
	const uint8_t *master, *sub, *area;
	uint64_t *usage;
	uint64_t id;
	const uint8_t *salt;
	const struct eesp_seal_plan *other;
	uint64_t *tally;
	uint64_t serial;
	struct eesp_share *shares;
	struct eesp_memo *memo;
	uint64_t rekey_mask;
	struct eesp_counter counter;
	uint16_t n, prefix, flags, tsc_at;
	uint8_t next_at, blocks, key_len, fixed, epoch_at, copies, counter_at, key;
	struct eesp_copy copy[2];
	uint8_t inner, pad_mask, pad_at, again_at, wrap, mask, rekey_at, rekey_bits, from_prefix, alone, padding2[6];
	uint8_t nonce[16], msg[3][16], header[PLAN_HEADER];
	uint64_t of_packet, picked, of_epoch;
	uint8_t pick[64];
};

#endif
