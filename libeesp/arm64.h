/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * For direct.c: calls kernels of backend armv8, and decides which kernel takes which
 * packets, as crypt of internal/asm/armv8 does. Not installed.
 */
#ifndef EESP_ARM64_H
#define EESP_ARM64_H

#include <string.h>

#include "shim.h"

/* Calls a function of the Go assembler's calling convention with six words on the stack,
 * above one word for the function. The function preserves only the stack pointer and x18.
 * It zeroes all vector registers, also the halves of v8 to v15 that belong to the caller. */
__attribute__((visibility("hidden"))) void call0(uintptr_t f, const void *a, const void *b, uintptr_t c, uintptr_t d,
						 const void *e, const void *g);
__asm__(".text\n.p2align 4\n.type call0,%function\ncall0:\n"
	".cfi_startproc\n"
	"sub sp, sp, #224\n.cfi_def_cfa_offset 224\n"
	"stp x29, x30, [sp, #64]\n.cfi_offset x29, -160\n.cfi_offset x30, -152\n"
	"add x29, sp, #64\n"
	"stp x19, x20, [sp, #80]\n.cfi_offset x19, -144\n.cfi_offset x20, -136\n"
	"stp x21, x22, [sp, #96]\n.cfi_offset x21, -128\n.cfi_offset x22, -120\n"
	"stp x23, x24, [sp, #112]\n.cfi_offset x23, -112\n.cfi_offset x24, -104\n"
	"stp x25, x26, [sp, #128]\n.cfi_offset x25, -96\n.cfi_offset x26, -88\n"
	"stp x27, x28, [sp, #144]\n.cfi_offset x27, -80\n.cfi_offset x28, -72\n"
	"stp d8, d9, [sp, #160]\n.cfi_offset d8, -64\n.cfi_offset d9, -56\n"
	"stp d10, d11, [sp, #176]\n.cfi_offset d10, -48\n.cfi_offset d11, -40\n"
	"stp d12, d13, [sp, #192]\n.cfi_offset d12, -32\n.cfi_offset d13, -24\n"
	"stp d14, d15, [sp, #208]\n.cfi_offset d14, -16\n.cfi_offset d15, -8\n"
	"stp x1, x2, [sp, #8]\n"
	"stp x3, x4, [sp, #24]\n"
	"stp x5, x6, [sp, #40]\n"
	"blr x0\n"
	"ldp x29, x30, [sp, #64]\n"
	"ldp x19, x20, [sp, #80]\n"
	"ldp x21, x22, [sp, #96]\n"
	"ldp x23, x24, [sp, #112]\n"
	"ldp x25, x26, [sp, #128]\n"
	"ldp x27, x28, [sp, #144]\n"
	"ldp d8, d9, [sp, #160]\n"
	"ldp d10, d11, [sp, #176]\n"
	"ldp d12, d13, [sp, #192]\n"
	"ldp d14, d15, [sp, #208]\n"
	"add sp, sp, #224\n.cfi_def_cfa_offset 0\n"
	"ret\n.cfi_endproc\n.size call0,.-call0\n");

enum { ONE_SHOT, SHARED }; /* kernel.Mode */

enum kind { LONG, SHORT, BRIEF }; /* of kernels */

/* Which kernel takes the first four of n jobs, which are in order of length. */
static inline enum kind kind_of(const eesp_job *j, size_t n, uint32_t limit, int brief)
{
	if (n < 4 || j[3].len > limit || (j[0].len + 31) / 32 != (j[3].len + 31) / 32)
		return LONG;
	return brief && (j[0].len + 31) / 32 == 2 ? BRIEF : SHORT;
}

/* How many of n jobs go to the next kernel, and its kind. */
static inline size_t next_kernel(const eesp_job *jobs, size_t n, uint32_t limit, int brief, enum kind *kind)
{
	size_t run;
	*kind = kind_of(jobs, n, limit, brief);
	if (*kind != LONG) {
		for (run = 4; kind_of(jobs + run, n - run, limit, brief) == *kind; run += 4)
			;
		return run;
	}
	for (run = 1; run < n && kind_of(jobs + run, n - run, limit, brief) == LONG; run++)
		;
	return run;
}

/* Runs jobs with keys in an area. In mode ONE_SHOT key i belongs to job i and has round
 * keys and H only; otherwise jobs have the numbers of their keys. */
static inline void run_area(const struct eesp_direct *d, int aead, int mode, int seal, uint8_t *area, eesp_job *jobs,
			    size_t n, const uint8_t *scratch)
{
	for (size_t at = 0, some; at < n; at += some) {
		eesp_job *j = jobs + at;
		enum kind kind;
		some = next_kernel(j, n - at, d->limit[mode], d->brief[mode][aead][seal] != 0, &kind);
		if (kind == BRIEF) {
			call0(d->brief[mode][aead][seal], area, j, some, 0, NULL, NULL);
		} else if (kind == SHORT) {
			if (mode == ONE_SHOT)
				call0(d->fewer[0], area, (const void *)some, 0, 0, NULL, NULL);
			call0(d->expanded[aead][seal], area, j, some, (uintptr_t)mode, scratch, NULL);
		} else {
			int all = mode == SHARED || j[some - 1].len >= d->all_powers;
			if (mode == ONE_SHOT)
				call0(all ? d->powers[aead] : d->fewer[1], area, (const void *)some, 0, 0, NULL, NULL);
			call0(d->long_[aead][seal], area, j, some, (uintptr_t)mode,
			      (const void *)(uintptr_t)(all ? 8 : 4), NULL);
		}
		if (mode == ONE_SHOT)
			area += some * d->key_bytes;
	}
}

/* Runs up to CHUNK jobs, in order of length. keys is raw keys in the same order, or an
 * area, by mode. */
static void run(const struct eesp_worker_view *view, const struct eesp_direct *d, int aead, int mode, int seal,
		const uint8_t *keys, eesp_job *jobs, size_t n)
{
	uint8_t *rows = view->scratch + d->rows_at, *scratch = view->scratch + d->long_at;
	if (mode == SHARED) {
		run_area(d, aead, mode, seal, (uint8_t *)(uintptr_t)keys, jobs, n, scratch);
		return;
	}
	for (size_t at = 0; at < n; at += d->at_once) {
		size_t some = n - at < d->at_once ? n - at : d->at_once;
		call0(d->expand[aead], rows, keys + at * (16u << aead), some, 0, NULL, NULL);
		run_area(d, aead, mode, seal, rows, jobs + at, some, scratch);
	}
	explicit_bzero(rows, ((n < d->at_once ? n : d->at_once) + 3) / 4 * 4 * d->key_bytes);
}

#endif
