/* What the shim and the Go side of the library share. Not installed. */
#ifndef EESP_SHIM_H
#define EESP_SHIM_H

#include "eesp.h"

#define EESP_ERROR_TEXT 256 /* octets of a thread's last error */

/* Kernels that C calls without a crossing: kernel.Direct. */
struct eesp_direct {
	uintptr_t derive, fresh[2][2], held[2][2], long_[2][2];
	uint32_t fresh_limit, held_limit, long_at, groups, group_limit, litter_at, litter;
};

/* A thread's locked memory: of keys, of halves of keys, and for kernels. */
struct eesp_room {
	uint8_t *keys, *halves, *scratch;
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

#endif
