#ifndef EESP_TESTS_INSIDE_H
#define EESP_TESTS_INSIDE_H

/* Internals of the library, for tests that link it with its internal symbols. */
#include "../../libeesp/shim.h"

uint64_t direct_cgo_packets(void); /* packets of this thread that went to Go */
struct times_reading *direct_reading(void); /* this thread's */
/* Where plans are. */
void **direct_seal_plan(eesp_sender *sender);
void **direct_open_plan(eesp_receiver *receiver);

#endif
