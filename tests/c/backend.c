/* SPDX-License-Identifier: BSD-3-Clause */
/* The choice of a backend. A process chooses once, so most tests start new processes. */
#include "test.h"

static void environment_unknown(void)
{
	CHECK(setenv("EESP_BACKEND", "no-such-backend", 1) == 0); /* the library is loaded by now */
	eesp_group *g = NULL;
	GIVES(EESP_ERR_BACKEND, eesp_group_new(NULL, &g));
	CHECK(strstr(eesp_last_error(), "no-such-backend") && g == NULL);
	CHECK(eesp_backend_name() == NULL);
	GIVES(EESP_ERR_BACKEND, eesp_thread_init());
	/* Selecting a backend that exists ends the error. */
	WORKS(eesp_backend_select("generic"));
	WORKS(eesp_group_new(NULL, &g));
	eesp_group_free(g);
}

static void environment_known(void)
{
	CHECK(setenv("EESP_BACKEND", "generic", 1) == 0);
	struct kit k = new_kit(1, 0);
	CHECK(strcmp(eesp_backend_name(), "generic") == 0);
	SAME(one_packet(k.sender, k.receiver), EESP_OK);
	free_kit(&k);
}

static void environment_empty(void)
{
	CHECK(setenv("EESP_BACKEND", "", 1) == 0); /* as if it were not set */
	CHECK(eesp_backend_name() != NULL);
}

static const struct { const char *name; void (*run)(void); } modes[] = {
	{ "unknown", environment_unknown }, { "known", environment_known }, { "empty", environment_empty },
};

static void environment(void)
{
	for (size_t i = 0; i < COUNT(modes); i++)
		ends_well(start_self(modes[i].name));
}

static void names(void)
{
	size_t n = 0, supported = 0;
	for (; eesp_backend_at(n); n++) {
		CHECK(*eesp_backend_at(n));
		supported += (size_t)eesp_backend_supported(eesp_backend_at(n));
		for (size_t i = 0; i < n; i++)
			CHECK(strcmp(eesp_backend_at(i), eesp_backend_at(n)) != 0);
	}
	CHECK(n > 0 && supported > 0 && eesp_backend_at(SIZE_MAX) == NULL);
	CHECK(strcmp(eesp_backend_at(n - 1), "generic") == 0);
	SAME(eesp_backend_supported("generic"), 1);
	SAME(eesp_backend_supported(""), 0);
	SAME(eesp_backend_supported("auto"), 0);
	SAME(eesp_backend_supported("Generic"), 0);
}

/* Every backend opens what every other one seals. */
static void all_of_them(void)
{
	for (size_t i = 0; eesp_backend_at(i); i++)
		for (size_t j = 0; eesp_backend_at(j); j++) {
			if (!eesp_backend_supported(eesp_backend_at(i)) || !eesp_backend_supported(eesp_backend_at(j)))
				continue;
			for (uint32_t aead = 0; aead < 2; aead++) {
				WORKS(eesp_backend_select(eesp_backend_at(i)));
				CHECK(strcmp(eesp_backend_name(), eesp_backend_at(i)) == 0);
				eesp_group *a = new_group(aead, 7);
				eesp_sender *s = new_sender(a, EESP_V_ID, 0);
				WORKS(eesp_backend_select(eesp_backend_at(j)));
				eesp_group *b = new_group(aead, 7);
				eesp_receiver *r = new_receiver(b);
				SAME(one_packet(s, r), EESP_OK);
				eesp_sender_free(s);
				eesp_receiver_free(r);
				eesp_group_free(a);
				eesp_group_free(b);
			}
		}
}

static void selection(void)
{
	WORKS(eesp_backend_select("generic"));
	GIVES(EESP_ERR_BACKEND, eesp_backend_select("no-such-backend"));
	CHECK(strcmp(eesp_backend_name(), "generic") == 0); /* an error changes nothing */
	for (size_t i = 0; eesp_backend_at(i); i++)
		if (!eesp_backend_supported(eesp_backend_at(i)))
			GIVES(EESP_ERR_BACKEND, eesp_backend_select(eesp_backend_at(i)));
	WORKS(eesp_backend_select(NULL));
	const char *best = eesp_backend_name();
	WORKS(eesp_backend_select("generic"));
	WORKS(eesp_backend_select("auto"));
	CHECK(eesp_backend_name() == best);
	for (size_t i = 0; eesp_backend_at(i) != best; i++)
		CHECK(!eesp_backend_supported(eesp_backend_at(i)));
}

static void self_test(void)
{
	WORKS(eesp_self_test());
	WORKS(eesp_self_test());
}

int main(int argc, char **argv)
{
	for (size_t i = 0; i < COUNT(modes); i++)
		if (argc > 1 && strcmp(argv[1], modes[i].name) == 0) {
			modes[i].run();
			return 0;
		}
	TEST(environment);
	TEST(names);
	TEST(all_of_them);
	TEST(selection);
	TEST(self_test);
	return 0;
}
