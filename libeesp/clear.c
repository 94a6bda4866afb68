/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Vector registers. Kernels, copies and Go code may leave keys in them. The next code that
 * saves registers would write these to memory that is not wiped; the dynamic linker does
 * so at the first call of a function. So registers are cleared each time Go returns to C,
 * before C calls any function. The fast path clears them only if it handled keys after the
 * last kernel: a kernel clears all registers that it wrote (internal/kerneltest), and before
 * it, C code keeps no key in a register that functions preserve.
 */
#include <stddef.h>
#include <stdint.h>

#include "shim.h"

#if defined(__x86_64__)
#include <cpuid.h>

static int wide; /* 0: SSE; 1: AVX; 2: AVX-512 as well */

__attribute__((constructor(101))) static void how_wide(void)
{
	/* Not __builtin_cpu_supports, which links 6 KB of tables of CPUs. */
	unsigned a, b = 0, c, d, state;
	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE) || !(c & bit_AVX))
		return;
	__asm__("xgetbv" : "=a"(state), "=d"(d) : "c"(0)); /* what the system saves */
	if ((state & 0x06) != 0x06)
		return;
	wide = 1;
	if ((state & 0xe6) == 0xe6 && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_AVX512F))
		wide = 2;
}

void clear_registers(void)
{
	if (UNLIKELY(wide == 0)) {
#define CLEAR(n) "pxor %xmm" #n ", %xmm" #n "\n"
		__asm__ volatile(CLEAR(0) CLEAR(1) CLEAR(2) CLEAR(3) CLEAR(4) CLEAR(5) CLEAR(6) CLEAR(7)
				 CLEAR(8) CLEAR(9) CLEAR(10) CLEAR(11) CLEAR(12) CLEAR(13) CLEAR(14) CLEAR(15));
#undef CLEAR
		return;
	}
	/* vzeroall is microcode on Zen 4, and takes three times as long. */
#define CLEAR(n) "vpxor %xmm0, %xmm0, %xmm" #n "\n"
	__asm__ volatile(CLEAR(0) CLEAR(1) CLEAR(2) CLEAR(3) CLEAR(4) CLEAR(5) CLEAR(6) CLEAR(7)
			 CLEAR(8) CLEAR(9) CLEAR(10) CLEAR(11) CLEAR(12) CLEAR(13) CLEAR(14) CLEAR(15) "vzeroupper\n");
#undef CLEAR
	if (wide == 2) {
#define CLEAR(n) "vpxord %zmm" #n ", %zmm" #n ", %zmm" #n "\n"
		__asm__ volatile(CLEAR(16) CLEAR(17) CLEAR(18) CLEAR(19) CLEAR(20) CLEAR(21) CLEAR(22) CLEAR(23)
				 CLEAR(24) CLEAR(25) CLEAR(26) CLEAR(27) CLEAR(28) CLEAR(29) CLEAR(30) CLEAR(31));
#undef CLEAR
	}
}

#elif defined(__aarch64__)

/* The caller's values in the low halves of v8 to v15 are kept. */
void clear_registers(void)
{
#define CLEAR(n) "movi v" #n ".2d, #0\n"
#define HALF(n) "fmov d" #n ", d" #n "\n"
	__asm__ volatile(CLEAR(0) CLEAR(1) CLEAR(2) CLEAR(3) CLEAR(4) CLEAR(5) CLEAR(6) CLEAR(7)
			 HALF(8) HALF(9) HALF(10) HALF(11) HALF(12) HALF(13) HALF(14) HALF(15)
			 CLEAR(16) CLEAR(17) CLEAR(18) CLEAR(19) CLEAR(20) CLEAR(21) CLEAR(22) CLEAR(23)
			 CLEAR(24) CLEAR(25) CLEAR(26) CLEAR(27) CLEAR(28) CLEAR(29) CLEAR(30) CLEAR(31));
}

#else

void clear_registers(void) {}

#endif

/* Functions that cgo exports call this instead of crosscall2, which enters Go (CFLAGS in
 * main.go). It is weak because cgo's trial link has another one. */
#undef crosscall2
extern void crosscall2(void (*function)(void *), void *arguments, int size, size_t context) __attribute__((weak));
__attribute__((weak)) void inner_crosscall2(void (*function)(void *), void *arguments, int size, size_t context)
{
	crosscall2(function, arguments, size, context);
	clear_registers();
}
