/* What the shim and the Go side of the library share. Not installed. */
#ifndef EESP_SHIM_H
#define EESP_SHIM_H

#include "eesp.h"

#define EESP_ERROR_TEXT 256 /* octets of a thread's last error */

/* Kernels that C calls without a crossing: kernel.Direct. */
struct eesp_direct {
	uintptr_t derive, expand[2], powers[2], fresh[2][2], held[2][2], long_[2][2];
	uint32_t limit[2], begin[2], groups, group_octet, group_limit, long_least, litter_at, litter;
	uint32_t rows_at, at_once, key_bytes, long_at;
};

/* What a thread has for direct.c: burst.Room. Locked memory of keys, of halves
 * of keys, of few expanded keys, for kernels, and of KDF inputs; and the words by which Go knows that
 * keys are in use. */
struct eesp_room {
	uint8_t *keys, *halves, *area, *scratch, *msgs;
	uint64_t *active;
	const uint64_t *epoch, *waiting;
};

/* What an eesp_kdf or eesp_keyset is to C; direct is NULL for a backend that
 * only Go can call. */
struct eesp_kdf_view {
	const struct eesp_direct *direct;
	uint8_t *master, *counted; /* counted: two blocks */
};
struct eesp_keyset_view {
	const struct eesp_direct *direct;
	uint8_t *area;
	uint32_t n, aead;
};

/* profile.MsgForm, SealForm and OpenForm, and burst.SealWay and OpenWay: how the
 * packets of a sender are written, or those of a receiver look. */
struct eesp_msg_form {
	uint8_t key_len, blocks, fixed, padding[5];
	uint8_t msg[48];
};
struct eesp_seal_way {
	uint64_t number; /* 0: there is no way */
	void *const *cell;
	const void *snapshot;
	const struct eesp_direct *direct;
	uint64_t *next, *limit, engine, shift, *good, *octets;
	/* form: */
	const uint8_t *master, *sub;
	uint64_t id;
	uint32_t salt, len;
	struct eesp_msg_form msg;
	uint8_t header[128];
};
struct eesp_open_way {
	uint64_t number;
	void *const *cell;
	const void *snapshot;
	const struct eesp_direct *direct;
	uint64_t *good, *octets, *bad;
	/* form: */
	const uint8_t *master, *sub;
	uint32_t len, at;
	uint8_t word[4];
	struct eesp_msg_form msg;
	uint8_t opts[3 * (4 + 32) + 8];
};

#define LIKELY(c) __builtin_expect(!!(c), 1)
#define UNLIKELY(c) __builtin_expect(!!(c), 0)

#define CHUNK 32 /* most jobs of a kernel call */
#define WAYS 4	 /* burst.Ways */

/*
 * direct.c: the common cases without a crossing. Each returns 0, and has done
 * nothing, if the case is Go's, which does the same and more.
 */
int direct_derive(const struct eesp_room *room, const struct eesp_kdf_view *v, uint32_t aead, const uint8_t *contexts, size_t n,
		  uint8_t *keys);
int direct_rekey(const struct eesp_room *room, const struct eesp_kdf_view *v, uint32_t aead, const uint8_t *contexts,
		 eesp_job *jobs, size_t n, int seal, size_t *good);
int direct_keyed(const struct eesp_room *room, const struct eesp_keyset_view *v, eesp_job *jobs, size_t n, int seal, size_t *good);
/* Up to CHUNK packets. */
int direct_seal(const struct eesp_room *room, const struct eesp_seal_way *w, uint64_t number, eesp_pkt *pkts, size_t n, size_t *good);
int direct_open(const struct eesp_room *room, const struct eesp_open_way *w, uint64_t number, eesp_pkt *pkts, size_t n, size_t *good);

uint64_t direct_bursts(void); /* of this thread, that went that way */
void direct_forget(void);     /* ends this thread's ways */
struct eesp_seal_way *direct_way(const eesp_sender *sender);

#endif
