/* Counts this thread's packets that go to Go. run.sh links programs that include this so that the library's calls of Go
 * reach the functions below (the linker's --wrap). */
#ifndef EESP_TESTS_CGO_H
#define EESP_TESTS_CGO_H

#include "inside.h"

static __thread uint64_t cgo_packets;
static inline uint64_t direct_cgo_packets(void) { return cgo_packets; }

#define COUNT_CGO(name, parameters, arguments)                                                           \
	size_t __real_##name parameters;                                                                 \
	size_t __wrap_##name parameters;                                                                 \
	size_t __wrap_##name parameters                                                                  \
	{                                                                                                \
		cgo_packets += n;                                                                        \
		return __real_##name arguments;                                                          \
	}
COUNT_CGO(eespGoSealBurst, (uint64_t worker, uint64_t object, eesp_pkt *pkts, size_t n), (worker, object, pkts, n))
COUNT_CGO(eespGoSealTaken,
	  (uint64_t worker, uint64_t object, eesp_pkt *pkts, size_t n, uint64_t first, uint64_t serial),
	  (worker, object, pkts, n, first, serial))
COUNT_CGO(eespGoOpenBurst, (uint64_t worker, uint64_t object, eesp_pkt *pkts, size_t n), (worker, object, pkts, n))
COUNT_CGO(eespGoUDPSealBurst, (uint64_t worker, uint64_t object, eesp_udp *u, eesp_pkt *pkts, size_t n),
	  (worker, object, u, pkts, n))
COUNT_CGO(eespGoUDPOpenBurst, (uint64_t worker, uint64_t object, eesp_udp *u, eesp_pkt *pkts, size_t n),
	  (worker, object, u, pkts, n))
COUNT_CGO(eespGoProxyBurst, (uint64_t worker, uint64_t object, eesp_pkt *pkts, size_t n), (worker, object, pkts, n))

#endif
