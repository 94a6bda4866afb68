/* SPDX-License-Identifier: BSD-3-Clause */
/* The executor of plans for processors with AVX-512: direct.c, compiled with vectors of 64
 * octets for reading headers. */
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,bmi,bmi2")
#define WIDE
#include "direct.c"
