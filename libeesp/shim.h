/* What the shim and the Go side of the library share. Not installed. */
#ifndef EESP_SHIM_H
#define EESP_SHIM_H

#include "eesp.h"
#include "plan.h"

#define EESP_ERROR_TEXT 256 /* octets of a thread's last error */

/* Kernels that C calls itself: kernel.Direct. */
struct eesp_direct {
	uintptr_t derive, expand[2], powers[2], raw[2][2], expanded[2][2], long_[2][2];
	uint32_t limit[2], begin[2], quads, quad_octet, partial_max, long_least, residue_at, residue_len;
	uint32_t rows_at, at_once, key_bytes, long_at;
	uintptr_t one[2][2];
	uint32_t one_limit, one_aad;
	uintptr_t pair[2][2][2];
	uint32_t pair_limit[2], alone[2];
	uint64_t wide, one_blocks;
	uintptr_t fewer[2];
	uint32_t all_powers, head_least;
	uintptr_t brief[2][2][2];
};

/* What a thread has for direct.c: burst.WorkerView. Locked memory of keys, of halves
 * of keys, of few expanded keys, for kernels, and of KDF inputs; and the words by which Go knows that
 * keys are in use; and room for AAD that does not lie in one piece. */
enum { AAD_ROOM = PLAN_HEADER + 4 * 255 }; /* profile.MaxAAD */
struct eesp_worker_view {
	uint8_t *keys, *halves, *area, *scratch, *msgs;
	uint64_t *active;
	const uint64_t *epoch, *waiting;
	uint64_t number;
	uint8_t *aad; /* AAD_ROOM for each of a chunk */
	void *around; /* outer.c's; AROUND_ROOM octets */
};
enum { AROUND_ROOM = 12 << 10 };

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

void clear_registers(void); /* clear.c */

/* load.c */
const char *refused_copy(void); /* why this copy of the library is not to be used, or NULL */
int can_have_threads(int n);

#define LIKELY(c) __builtin_expect(!!(c), 1)
#define UNLIKELY(c) __builtin_expect(!!(c), 0)

#define CHUNK 32 /* most jobs of a kernel call */

/*
 * direct.c: the fast path: common cases that need no cgo call. Each returns 0, and has done
 * nothing, if the case is Go's, which does the same and more.
 */
int direct_derive(const struct eesp_worker_view *view, const struct eesp_kdf_view *v, uint32_t aead, const uint8_t *contexts, size_t n,
		  uint8_t *keys);
int direct_rekey(const struct eesp_worker_view *view, const struct eesp_kdf_view *v, uint32_t aead, const uint8_t *contexts,
		 eesp_job *jobs, size_t n, int seal, size_t *good);
int direct_keyed(const struct eesp_worker_view *view, const struct eesp_keyset_view *v, eesp_job *jobs, size_t n, int seal, size_t *good);

/* What a burst needs on the fast path: the thread's memory and worker, the
 * object's number, and the cell where its plan is. */
struct eesp_fast_path {
	const struct eesp_worker_view *view;
	uint64_t worker, object;
	void *const *plan;
	uint64_t *cgo_packets; /* packets that Go took */
	struct times_reading *reading; /* the thread's */
	uint32_t *flood; /* how many packets of the chunk before had to be refused, as a flood's are */
};
/* Bursts of any size; they return how many packets are good. */
size_t direct_seal(const struct eesp_fast_path *fp, eesp_pkt *pkts, size_t n);
size_t direct_open(const struct eesp_fast_path *fp, eesp_pkt *pkts, size_t n);

/* Where an object counts packets by status and octets; and counts packets, and octets, of either
 * less if that is below 0. */
struct eesp_counts {
	uint64_t *by, *octets;
	struct eesp_share *shares;
};
void direct_count(const struct eesp_worker_view *view, const struct eesp_counts *c, uint64_t packets, uint64_t octets);

/* What a sender's headers are like, or a receiver's (back: prefix, and next, which says that
 * there may be an extension); 0: there is no plan. */
struct eesp_front {
	struct eesp_counts counts;
	uint32_t header, tail, prefix; /* tail: most octets behind a payload */
	int next, dummies; /* headers say which protocol payloads are of; 59 is for dummy packets */
};
int direct_front(const struct eesp_fast_path *fp, struct eesp_front *f);
int direct_back(const struct eesp_fast_path *fp, struct eesp_front *f);

/* outer.c: proxies, and packets in UDP. They return how many packets are good, or SIZE_MAX, and have done nothing, if all are Go's. */
size_t direct_proxy(const struct eesp_fast_path *open, const struct eesp_fast_path *seal, eesp_pkt *pkts, size_t n);
size_t direct_udp_seal(const struct eesp_fast_path *fp, const eesp_udp *u, eesp_pkt *pkts, size_t n);
size_t direct_udp_open(const struct eesp_fast_path *fp, const eesp_udp *u, eesp_pkt *pkts, size_t n);

/* What up to CHUNK packets are done by, for each kind of plan. direct.c says which
 * those are. With WIDE defined it makes wide_executors, for plans that may be followed
 * with vectors of 64 octets. */
struct times_pass;
typedef size_t seal_executor(const struct eesp_worker_view *view, const struct eesp_seal_plan *w, eesp_pkt *pkts, size_t n, uint64_t first, size_t *stray);
typedef size_t open_executor(const struct eesp_fast_path *fp, const struct eesp_open_plan *w, eesp_pkt *pkts, size_t n, int alone,
			     struct times_pass *pass, size_t *stray);
struct eesp_executors {
	seal_executor *seal[2];
	open_executor *open[2][4];
};
extern const struct eesp_executors wide_executors;

/* Starts a thread that runs what eespGoFollowRun has under a number. */
int start_follower(uint64_t run);

#endif
