/* Shared by the C files and the Go side of the library. Not installed. */
#ifndef EESP_SHIM_H
#define EESP_SHIM_H

#include "eesp.h"
#include "plan.h"

#define EESP_ERROR_TEXT 256 /* octets of a thread's last error */

/* Kernels that C calls without a cgo call: kernel.Direct. */
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
	uintptr_t brief[2][2][2], narrow[2][2];
	uint32_t narrow_blocks[2], narrow_aad, rest_limit;
};

enum { AAD_ROOM = PLAN_HEADER + 4 * 255 }; /* profile.MaxAAD */

/* burst.WorkerView: a thread's locked memory for keys, halves of keys, expanded keys,
 * kernels' scratch and KDF inputs; the words that keep keys in use from being wiped
 * (keys.Reader); the worker's number; and memory for AAD that is not in one piece. */
struct eesp_worker_view {
	uint8_t *keys, *halves, *area, *scratch, *msgs;
	uint64_t *active;
	const uint64_t *epoch, *waiting;
	uint64_t number;
	uint8_t *aad; /* AAD_ROOM for each of a chunk */
	void *around; /* outer.c's; AROUND_ROOM octets */
	const uint64_t *plain; /* package barrier's word */
};
enum { AROUND_ROOM = 12 << 10 };

/* The parts of an eesp_kdf and of an eesp_keyset that direct.c uses. direct is NULL for a
 * backend that only Go can call. */
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
int may_be_direct(void);    /* shim.c */

/* load.c */
const char *refused_copy(void); /* why this copy of the library cannot be used, or NULL */
int can_have_threads(int n);

#define LIKELY(c) __builtin_expect(!!(c), 1)
#define UNLIKELY(c) __builtin_expect(!!(c), 0)

#define CHUNK 32 /* kernel.Chunk: the most jobs of a kernel call */

/*
 * direct.c: the fast path, for common cases, without a cgo call. A function that returns 0
 * has done nothing: then the caller calls Go, which handles all cases.
 */
int direct_derive(const struct eesp_worker_view *view, const struct eesp_kdf_view *v, uint32_t aead,
		  const uint8_t *contexts, size_t n, uint8_t *keys);
int direct_rekey(const struct eesp_worker_view *view, const struct eesp_kdf_view *v, uint32_t aead,
		 const uint8_t *contexts, eesp_job *jobs, size_t n, int seal, size_t *good);
int direct_keyed(const struct eesp_worker_view *view, const struct eesp_keyset_view *v, eesp_job *jobs, size_t n,
		 int seal, size_t *good);

/* What a burst needs on the fast path: the thread's memory and worker, the object's number, and where its plan is. */
struct eesp_fast_path {
	const struct eesp_worker_view *view;
	uint64_t worker, object;
	void *const *plan;
	uint64_t *cgo_packets; /* count of packets that went to Go, for known.c */
	struct times_reading *reading; /* the thread's last reading of the clock */
	uint32_t *flood; /* how many packets of the last chunk sift would have refused */
	uint32_t *guess; /* place of the pattern of the thread's last packet, in octets from patterns on; 0: none */
	struct eesp_held *held; /* not NULL: direct_open adds here what is counted later */
};
/* Packets that were opened, and their octets. */
struct eesp_held {
	uint64_t packets, octets;
};
/* Seal and open bursts of any size, and return how many packets are good. */
size_t direct_seal(const struct eesp_fast_path *fp, eesp_pkt *pkts, size_t n);
size_t direct_open(const struct eesp_fast_path *fp, eesp_pkt *pkts, size_t n);

/* The counts of an object: packets by status, and octets. direct_count adds to the counts of
 * good packets and of octets; negative numbers subtract. */
struct eesp_counts {
	uint64_t *by, *octets;
	struct eesp_share *shares;
};
void direct_count(const struct eesp_worker_view *view, const struct eesp_counts *c, uint64_t packets, uint64_t octets);

/* Describes headers, in octets: of a sender (direct_front), or of a receiver (direct_back:
 * only prefix, and next, which says that there may be an extension). Both functions return 0
 * if there is no plan. */
struct eesp_front {
	struct eesp_counts counts;
	uint32_t header, tail, prefix; /* tail: most octets behind a payload */
	int next, dummies; /* headers carry the payload's protocol; 59 means a dummy packet */
};
int direct_front(const struct eesp_fast_path *fp, struct eesp_front *f);
int direct_back(const struct eesp_fast_path *fp, struct eesp_front *f);

/* outer.c: proxies, and packets in UDP. They return how many packets are good. SIZE_MAX: they
 * have done nothing, and Go must take all packets. */
size_t direct_proxy(const struct eesp_fast_path *open, const struct eesp_fast_path *seal, eesp_pkt *pkts, size_t n);
size_t direct_udp_seal(const struct eesp_fast_path *fp, const eesp_udp *u, eesp_pkt *pkts, size_t n);
size_t direct_udp_open(const struct eesp_fast_path *fp, const eesp_udp *u, eesp_pkt *pkts, size_t n);

/* Functions that seal or open up to CHUNK packets, by kind of plan (direct.c). With WIDE
 * defined, direct.c makes wide_executors, for plans that have a wide form. */
struct times_pass;
typedef size_t seal_executor(const struct eesp_worker_view *view, const struct eesp_seal_plan *w, eesp_pkt *pkts,
			     size_t n, uint64_t first, size_t *stray);
typedef size_t open_executor(const struct eesp_fast_path *fp, const struct eesp_open_plan *w, eesp_pkt *pkts, size_t n,
			     int alone, struct times_pass *pass, size_t *stray);
struct eesp_executors {
	seal_executor *seal[2], *alone; /* alone: of one packet */
	open_executor *open[KINDS][4];
};
extern const struct eesp_executors wide_executors;

/* Starts a thread that calls eespGoFollowRun with a number. */
int start_follower(uint64_t run);

#endif
