#ifndef EESP_TESTS_INSIDE_H
#define EESP_TESTS_INSIDE_H

/* Internals of the library, for tests that link it with its internal symbols. */
#include "../../libeesp/shim.h"

struct times_reading *direct_reading(void); /* this thread's */
/* Where plans are. */
void **direct_seal_plan(eesp_sender *sender);
void **direct_open_plan(eesp_receiver *receiver);

#endif
