// How a line is searched with vectors of 64 octets, for executors that have them.
//go:build cgo && (amd64 || arm64)

#if defined(__x86_64__)
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,bmi,bmi2")
#define WIDE
#include "times.h"

int wide_can(void) { return __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vl"); }
unsigned wide_stops(const uint64_t *line, uint64_t word) { return times_stops(line, word); }
#else
#include <stdint.h>

int wide_can(void) { return 0; }
unsigned wide_stops(const uint64_t *line, uint64_t word) { return 0; }
#endif
