/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which kernel takes which packets: C's decision (libeesp/kernels.h), with the cases with which internal/asm/vector
 * tests Go's. usage: choices FILE
 */
#include "test.h"

#if defined(__x86_64__)
#define call0 recorded /* kernels here only say which they are, and how many packets they were given */
#define NOINLINE __attribute__((noinline))
#include "../../libeesp/shim.h"

#include "../../libeesp/kernels.h"

enum { EXPAND = 1, POWERS, LONG, RAW, EXPANDED, ONE, NARROW, PAIR };
static const char *const names[] = { "", "", "", "long", "raw", "expanded", "one", "narrow", "pair" };

static char calls[1024];
static const eesp_job *next; /* the first job that no kernel was given */

void recorded(uintptr_t f, const void *a, const void *b, uintptr_t c, uintptr_t d, const void *e, const void *g)
{
	(void)a, (void)d, (void)e, (void)g;
	CHECK(f != 0);
	if (f == EXPAND || f == POWERS)
		return;
	CHECK(b == next);
	next += c;
	size_t n = strlen(calls);
	snprintf(calls + n, sizeof calls - n, "%s%s%zu", n ? " " : "", names[f], (size_t)c);
}

/* Reads "kernels NAME FIELDS". */
static void read_kernels(struct eesp_direct *d, const char *line)
{
	memset(d, 0, sizeof *d);
	SAME(sscanf(line, "kernels %*s %u %u %u %u %u %u %u %u %u %u %u %u %u %u %u %u %u %u %u",
		    &d->quads, &d->limit[0],
		    &d->limit[1], &d->begin[0], &d->begin[1], &d->alone[0], &d->alone[1], &d->quad_octet,
		    &d->partial_max, &d->long_least, &d->at_once, &d->one_limit, &d->one_aad, &d->pair_limit[0],
		    &d->pair_limit[1], &d->narrow_blocks[0], &d->narrow_blocks[1], &d->narrow_aad, &d->rest_limit), 19);
	d->key_bytes = 16; /* of the memory below */
	for (int aead = 0; aead < 2; aead++) {
		d->expand[aead] = EXPAND;
		d->powers[aead] = POWERS;
		for (int seal = 0; seal < 2; seal++) {
			d->long_[aead][seal] = LONG;
			d->raw[aead][seal] = RAW;
			d->expanded[aead][seal] = EXPANDED;
			d->one[aead][seal] = ONE;
			d->narrow[aead][seal] = NARROW;
			for (int mode = 0; mode < 2 && d->pair_limit[0] != 0; mode++)
				d->pair[mode][aead][seal] = PAIR;
		}
	}
}

static void choices(const char *file)
{
	static struct eesp_direct wide, narrow;
	static uint8_t scratch[64 << 10], keys[CHUNK * 32];
	const struct eesp_worker_view view = { .scratch = scratch };
	char line[2048];
	int cases = 0;
	FILE *f = fopen(file, "r");
	CHECK(f != NULL);
	while (fgets(line, sizeof line, f) != NULL) {
		char name[16], mode[16], lengths[1024];
		int key_len, at;
		eesp_job jobs[CHUNK];
		size_t n = 0;
		line[strcspn(line, "\n")] = '\0';
		if (sscanf(line, "kernels %15s", name) == 1)
			read_kernels(name[0] == 'w' ? &wide : &narrow, line);
		if (sscanf(line, "case %15s %d %15s %1023s = %n", name, &key_len, mode, lengths, &at) != 4)
			continue;
		memset(jobs, 0, sizeof jobs);
		for (char *word = strtok(lengths, ","); word != NULL; word = strtok(NULL, ",")) {
			CHECK(n < CHUNK && sscanf(word, "%u+%u", &jobs[n].len, &jobs[n].aad_len) >= 1);
			n++;
		}
		calls[0] = '\0';
		next = jobs;
		run(&view, name[0] == 'w' ? &wide : &narrow, key_len == 32, mode[0] == 's' ? SHARED : ONE_SHOT, 1, keys,
		    jobs, n);
		CHECK(next == jobs + n);
		if (strcmp(calls, line + at) != 0)
			test_fail(__FILE__, __LINE__, line, calls);
		cases++;
	}
	fclose(f);
	CHECK(cases > 200);

	/* Bodies with heads are for long kernels, whatever their length. */
	for (int with = -1; with < 4; with++) {
		eesp_job jobs[4] = { 0 };
		for (int i = 0; i < 4; i++) {
			jobs[i].len = 1024;
			jobs[i].reserved[0] = i == with ? 15 : 0;
		}
		calls[0] = '\0';
		next = jobs;
		run(&view, &wide, 0, SHARED, 1, keys, jobs, 4);
		CHECK(strcmp(calls, with < 0 ? "expanded4" : "long4") == 0);
	}
}
#endif

int main(int argc, char **argv)
{
	CHECK(argc == 2);
#if defined(__x86_64__)
	choices(argv[1]);
	printf("ok   choices.c: as internal/asm/vector chooses\n");
#else
	(void)argv;
#endif
	return 0;
}
