/* SPDX-License-Identifier: BSD-3-Clause */
/* For direct.c: reads, writes, copies and compares octets of packets. */
#ifndef EESP_OCTETS_H
#define EESP_OCTETS_H

static inline uint64_t get64(const uint8_t *p)
{
	uint64_t x;
	memcpy(&x, p, 8);
	return __builtin_bswap64(x);
}

static inline void put64(uint8_t *p, uint64_t x)
{
	x = __builtin_bswap64(x);
	memcpy(p, &x, 8);
}

static inline void put32(uint8_t *p, uint32_t x)
{
	x = __builtin_bswap32(x);
	memcpy(p, &x, 4);
}

/* Reads an octet of a packet once. Another party may write to packets meanwhile, and a length must not change
 * between its check and its use. */
static inline uint8_t once(const uint8_t *p) { return *(const volatile uint8_t *)p; }

/* The same, of four octets. */
typedef uint32_t anywhere __attribute__((aligned(1), may_alias));
static inline uint32_t once32(const uint8_t *p) { return *(const volatile anywhere *)p; }

static inline uint64_t raw64(const void *p)
{
	uint64_t x;
	memcpy(&x, p, 8);
	return x;
}

typedef uint8_t v16 __attribute__((vector_size(16)));

typedef uint64_t two64 __attribute__((vector_size(16)));

static inline v16 load16(const void *p)
{
	v16 v;
	memcpy(&v, p, 16);
	return v;
}

/* Four octets as they lie in memory. */
static inline uint32_t word32(uint8_t a, uint8_t b, uint8_t c, uint8_t d)
{
	const uint8_t o[4] = { a, b, c, d };
	uint32_t x;
	memcpy(&x, o, 4);
	return x;
}

static inline void store16(void *p, v16 v) { memcpy(p, &v, 16); }

/* Copies whole blocks. memcpy of unknown lengths becomes string instructions, which
 * take as long as deriving some keys. */
static inline void blocks(uint8_t *to, const uint8_t *from, size_t n)
{
	for (size_t i = 0; i < n; i += 16)
		store16(to + i, load16(from + i));
}

/* Copies octets to a place that does not overlap them, or that begins in front of them. A call of
 * memcpy costs as much as copying a short packet. */
static inline void copy_forward(uint8_t *to, const uint8_t *from, size_t n)
{
#ifdef WIDE
	if (n <= 64) {
		const __mmask64 k = _bzhi_u64(UINT64_MAX, (unsigned)n);
		_mm512_mask_storeu_epi8(to, k, _mm512_maskz_loadu_epi8(k, from));
		return;
	}
	const __m512i last = _mm512_loadu_si512(from + n - 64); /* before "to" is written */
	size_t at = 0;
	for (; at + 64 < n; at += 64) {
		_mm512_storeu_si512(to + at, _mm512_loadu_si512(from + at));
		__asm__ volatile("" ::: "memory"); /* otherwise the compiler makes it a call */
	}
	_mm512_storeu_si512(to + n - 64, last);
#else
	memmove(to, from, n);
#endif
}

/* Octet i of the result is octet how[i] of v, or 0 where how[i] is NONE. Every
 * processor that has kernels has this instruction. */
#if defined(__x86_64__)
typedef char c16 __attribute__((vector_size(16)));
#ifdef WIDE /* the whole file is compiled for it */
#define EXECUTOR
#else
#define EXECUTOR __attribute__((target("ssse3")))
#endif
static inline EXECUTOR v16 pick(v16 v, v16 how) { return (v16)__builtin_ia32_pshufb128((c16)v, (c16)how); }
#elif defined(__aarch64__)
#include <arm_neon.h>
#define EXECUTOR
static inline v16 pick(v16 v, v16 how) { return (v16)vqtbl1q_u8((uint8x16_t)v, (uint8x16_t)how); }
#else
#define EXECUTOR
static inline v16 pick(v16 v, v16 how)
{
	v16 r = { 0 };
	for (int i = 0; i < 16; i++)
		r[i] = how[i] & NONE ? 0 : v[how[i] & 15];
	return r;
}
#endif

static inline int any16(v16 v)
{
#ifdef WIDE
	return !_mm_testz_si128((__m128i)v, (__m128i)v);
#elif defined(__x86_64__)
	return __builtin_ia32_pmovmskb128((c16)(v == 0)) != 0xffff;
#else
	uint64_t x[2];
	memcpy(x, &v, 16);
	return (x[0] | x[1]) != 0;
#endif
}

static inline int overlap(const void *a, uintptr_t an, const void *b, uintptr_t bn)
{
	return (uintptr_t)a < (uintptr_t)b + bn && (uintptr_t)b < (uintptr_t)a + an;
}

/* For pick: from 16 - n on, the octets of a block moved n places up; from 32 - n on,
 * those that come into the next block. */
static const uint8_t slide[48] = {
	NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE,
	0,    1,    2,    3,    4,    5,    6,    7,    8,    9,    10,   11,   12,   13,   14,   15,
	NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE,
};

/* Adds the first n octets of x, whose others are 0, to whole blocks at "to", from
 * octet "at" on. */
static inline EXECUTOR void add_at(uint8_t *to, size_t at, v16 x, size_t n)
{
	const uint8_t *how = slide + 16 - at % 16;
	to += at & ~(size_t)15;
	store16(to, load16(to) ^ pick(x, load16(how)));
	if (at % 16 + n > 16)
		store16(to + 16, load16(to + 16) ^ pick(x, load16(how + 16)));
}

/* The part of a counter that is in the KDF input; rekeyed adds it there. */
static inline uint32_t rekey_part(uint64_t tsc, uint64_t mask, unsigned bits)
{
	return __builtin_bswap32((uint32_t)((tsc & mask) >> bits));
}

static inline v16 rekey_of(uint64_t tsc, uint64_t mask, unsigned bits)
{
	typedef uint32_t four __attribute__((vector_size(16)));
	return (v16)(four){ rekey_part(tsc, mask, bits) };
}

static inline EXECUTOR void rekeyed(uint8_t *to, size_t at, uint64_t tsc, uint64_t mask, unsigned bits)
{
	add_at(to, at, rekey_of(tsc, mask, bits), 4);
}

#endif /* EESP_OCTETS_H */
