/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The library runs known answers of the fast path before it is used, and notices each kind of wrong answer. The program
 * is linked with the library's internal symbols, and the linker's --wrap puts the functions below in front of three of
 * them: they make answers wrong.
 */
#include "test.h"

#include <string.h>

#include "../../libeesp/known.h"

static int known_fault; /* which answer is wrong, as in known.h; KNOWN_MEMORY: there is none */

struct known *__real_known_new(void);
struct known *__wrap_known_new(void);
struct known *__wrap_known_new(void) { return known_fault == KNOWN_MEMORY ? NULL : __real_known_new(); }

size_t __real_direct_seal(const struct eesp_fast_path *fp, eesp_pkt *pkts, size_t n);
size_t __wrap_direct_seal(const struct eesp_fast_path *fp, eesp_pkt *pkts, size_t n);
size_t __wrap_direct_seal(const struct eesp_fast_path *fp, eesp_pkt *pkts, size_t n)
{
	size_t good = __real_direct_seal(fp, pkts, n);
	if (known_fault == KNOWN_SEAL && good == n)
		((uint8_t *)pkts[n - 1].out)[pkts[n - 1].out_len - 1] ^= 1;
	return good;
}

size_t __real_direct_open(const struct eesp_fast_path *fp, eesp_pkt *pkts, size_t n);
size_t __wrap_direct_open(const struct eesp_fast_path *fp, eesp_pkt *pkts, size_t n);
size_t __wrap_direct_open(const struct eesp_fast_path *fp, eesp_pkt *pkts, size_t n)
{
	size_t good = __real_direct_open(fp, pkts, n);
	for (size_t i = 0; i < n; i++)
		if (known_fault == KNOWN_FORGED && pkts[i].status == EESP_ERR_AUTH)
			pkts[i].status = EESP_ERR_REPLAY;
	if (known_fault == KNOWN_OPEN && good != 0 && pkts[n - 1].status == EESP_OK)
		*(uint8_t *)pkts[n - 1].out ^= 1;
	if (known_fault == KNOWN_CGO)
		++*fp->cgo_packets;
	return good;
}

static const struct {
	int fault;
	const char *says;
} faults[] = { { KNOWN_SEAL, ": seal" }, { KNOWN_OPEN, ": open" }, { KNOWN_FORGED, ": open what is forged" },
	       { KNOWN_CGO, ": calls Go" } };

/* Whether a backend of this machine has kernels for C. */
static int possible(void)
{
	const char *direct = getenv("EESP_DIRECT"), *name;
	int any = 0;
	for (size_t i = 0; (name = eesp_backend_at(i)) != NULL; i++)
		any |= strcmp(name, "generic") != 0 && eesp_backend_supported(name);
	return any && (direct == NULL || strcmp(direct, "0") != 0);
}

static int ends_with(const char *text, const char *end)
{
	size_t n = strlen(text), m = strlen(end);
	return n >= m && strcmp(text + n - m, end) == 0;
}

/* At first use, a wrong answer is an error of all that needs a backend. */
static void at_first_use(void)
{
	const char *asked = getenv("EESP_BACKEND");
	eesp_group *g;
	if (!possible() || (asked != NULL && strcmp(asked, "generic") == 0))
		return;
	known_fault = KNOWN_MEMORY; /* says nothing of the backend: there may be some later */
	SAME(eesp_group_new(NULL, &g), EESP_ERR_MEMORY);
	known_fault = KNOWN_SEAL;
	CHECK(eesp_backend_name() == NULL);
	CHECK(strstr(eesp_last_error(), "fast path") != NULL);
	SAME(eesp_group_new(NULL, &g), EESP_ERR_SELF_TEST);
	SAME(eesp_thread_init(), EESP_ERR_SELF_TEST);
	SAME(eesp_backend_select("auto"), EESP_ERR_SELF_TEST);
	WORKS(eesp_backend_select("generic")); /* it has no fast path */
	CHECK(strcmp(eesp_backend_name(), "generic") == 0);
}

/* A backend with wrong answers does not take the place of the one in use. */
static void selected_later(void)
{
	const char *first;
	size_t i = 0;
	if (!possible())
		return;
	while ((first = eesp_backend_at(i)) != NULL && !eesp_backend_supported(first))
		i++;
	known_fault = 0;
	WORKS(eesp_backend_select("generic"));
	known_fault = KNOWN_OPEN;
	SAME(eesp_self_test(), EESP_ERR_SELF_TEST); /* that of the first */
	SAME(eesp_backend_select(first), EESP_ERR_SELF_TEST);
	CHECK(strcmp(eesp_backend_name(), "generic") == 0);
	known_fault = 0;
	WORKS(eesp_self_test());
	WORKS(eesp_backend_select(first));
	CHECK(strcmp(eesp_backend_name(), first) == 0);
}

static void each_fault(void)
{
	for (size_t i = 0; i < COUNT(faults); i++) {
		known_fault = 0;
		WORKS(eesp_self_test());
		WORKS(eesp_backend_select("auto"));
		known_fault = faults[i].fault;
		if (!possible()) {
			WORKS(eesp_self_test());
			continue;
		}
		SAME(eesp_self_test(), EESP_ERR_SELF_TEST);
		CHECK(ends_with(eesp_last_error(), faults[i].says));
		known_fault = 0;
		WORKS(eesp_self_test());
	}
}

int main(void)
{
	TEST(at_first_use);
	TEST(each_fault);
	TEST(selected_later);
	return 0;
}
