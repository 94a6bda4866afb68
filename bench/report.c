/* SPDX-License-Identifier: BSD-3-Clause */
/* Tables (Markdown that reads well in a terminal too), JSON, benchstat's format. */
#define _GNU_SOURCE
#include "bench.h"
#include <errno.h>
#include <eesp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>

static const char *aead_name(unsigned aead)
{
	return aead == EESP_AEAD_AES_128_GCM ? "aes-128-gcm" : "aes-256-gcm";
}

/* ---- Tables ---- */

enum dimension { BY_SIZE, BY_BURST, BY_CONTEXTS, BY_THREADS, BY_FLOWS, DIMENSIONS };

static size_t value_of(const struct config *c, enum dimension d)
{
	switch (d) {
	case BY_SIZE:
		return c->size == IMIX ? SIZE_MAX : c->size;
	case BY_BURST:
		return c->burst;
	case BY_CONTEXTS:
		return c->contexts;
	case BY_FLOWS:
		return c->flows;
	default:
		return c->threads;
	}
}

static bool same_but(const struct config *a, const struct config *b, enum dimension d)
{
	return a->work == b->work && a->aead == b->aead && a->profile == b->profile && a->careful == b->careful &&
	       a->replay == b->replay && (d == BY_SIZE || a->size == b->size) &&
	       (d == BY_FLOWS || a->flows == b->flows) && (d == BY_BURST || a->burst == b->burst) &&
	       (d == BY_CONTEXTS || a->contexts == b->contexts) && (d == BY_THREADS || a->threads == b->threads);
}

static void value_label(char *out, size_t room, size_t v, enum dimension d)
{
	if (d == BY_SIZE && v == SIZE_MAX)
		snprintf(out, room, "imix");
	else if (d == BY_CONTEXTS)
		snprintf(out, room, "%s", contexts_name((enum contexts)v));
	else if (d == BY_BURST)
		snprintf(out, room, "burst %zu", v);
	else if (d == BY_FLOWS)
		snprintf(out, room, v == 0 ? "32 senders" : v == 1 ? "1 flow" : "%zu flows", v);
	else if (d == BY_THREADS)
		snprintf(out, room, v == 1 ? "1 thread" : "%zu threads", v);
	else
		snprintf(out, room, "%zu", v);
}

static int by_value(const void *a, const void *b)
{
	size_t x = *(const size_t *)a, y = *(const size_t *)b;
	return x < y ? -1 : x > y;
}

static const struct result *find(const struct report *r, const struct config *like, enum dimension d, size_t v,
				 const struct peer *p)
{
	for (size_t i = 0; i < r->count; i++) {
		const struct result *x = &r->results[i];
		if (x->peer == p && same_but(&x->c, like, d) && value_of(&x->c, d) == v)
			return x;
	}
	return NULL;
}

static double quartile_spread(const struct result *x)
{
	/* ns is sorted by then. */
	return (x->ns[x->rounds * 3 / 4] - x->ns[x->rounds / 4]) / x->median * 100;
}

static void cell(FILE *f, const char *format, double v)
{
	char text[32];
	snprintf(text, sizeof text, format, v);
	fprintf(f, " %10s |", text);
}

static void ratio_row(const struct report *r, FILE *f, const struct config *like, enum dimension d,
		      const size_t *values, size_t nvalues, const struct peer *over, const struct peer *under)
{
	char label[64];
	snprintf(label, sizeof label, "%s %s : %s", over->name, over->backend, under->backend);
	fprintf(f, "| %-28s |", label);
	for (size_t v = 0; v < nvalues; v++) {
		const struct result *a = find(r, like, d, values[v], over), *b = find(r, like, d, values[v], under);
		if (a && b)
			cell(f, "%.2fx", a->median / b->median);
		else
			fprintf(f, " %10s |", "");
	}
	fprintf(f, " %8s |\n", "");
}

static void table(const struct report *r, FILE *f, const struct config *like, enum dimension d)
{
	const struct peer *peers[16], *fastest = NULL;
	size_t npeers = 0, values[16], nvalues = 0;
	for (size_t i = 0; i < r->count; i++) {
		const struct result *x = &r->results[i];
		if (!same_but(&x->c, like, d))
			continue;
		size_t j = 0;
		while (j < npeers && peers[j] != x->peer)
			j++;
		if (j == npeers && npeers < 16)
			peers[npeers++] = x->peer;
		for (j = 0; j < nvalues && values[j] != value_of(&x->c, d);)
			j++;
		if (j == nvalues && nvalues < 16)
			values[nvalues++] = value_of(&x->c, d);
	}
	qsort(values, nvalues, sizeof *values, by_value);

	fprintf(f, "\n**%s", work_name(like->work));
	if (like->work >= PACKET_SEAL)
		fprintf(f, " %s, %s,", profile_name(like->profile), config_name(like));
	fprintf(f, " %s**", aead_name(like->aead));
	enum dimension all[] = { BY_SIZE, BY_BURST, BY_CONTEXTS, BY_THREADS, BY_FLOWS };
	for (size_t i = 0; i < DIMENSIONS; i++) {
		char label[32];
		value_label(label, sizeof label, value_of(like, all[i]), all[i]);
		if (all[i] != d && (all[i] != BY_FLOWS || like->flows))
			fprintf(f, ", %s%s", label, all[i] == BY_SIZE && like->size != IMIX ? " octets" : all[i] ==
				BY_CONTEXTS ? " contexts" : "");
	}
	fprintf(f, "; ns per %s\n\n| %-28s |", like->work == DERIVE ? "key" : "packet", "");
	for (size_t v = 0; v < nvalues; v++) {
		char label[32];
		value_label(label, sizeof label, values[v], d);
		fprintf(f, " %10s |", label);
	}
	fprintf(f, " %8s |\n|%.30s|", "spread", "------------------------------");
	for (size_t v = 0; v < nvalues; v++)
		fprintf(f, "-----------:|");
	fprintf(f, "---------:|\n");
	for (size_t j = 0; j < npeers; j++) {
		char label[64];
		double spread = 0;
		snprintf(label, sizeof label, "%s %s", peers[j]->name, peers[j]->backend);
		fprintf(f, "| %-28s |", label);
		for (size_t v = 0; v < nvalues; v++) {
			const struct result *x = find(r, like, d, values[v], peers[j]);
			if (x) {
				cell(f, x->median < 1000 ? "%.1f" : "%.0f", x->median);
				spread = quartile_spread(x) > spread ? quartile_spread(x) : spread;
			} else {
				fprintf(f, " %10s |", "");
			}
		}
		fprintf(f, " %6.1f %% |\n", spread);
		if (!fastest && !strcmp(peers[j]->name, "libeesp"))
			fastest = peers[j];
	}
	if (!fastest)
		return;
	for (int what = 0; what < 2 && like->work != DERIVE; what++) {
		char label[64];
		snprintf(label, sizeof label, "%s, %s", fastest->backend, what ? "GB/s" : "Mpps");
		fprintf(f, "| %-28s |", label);
		for (size_t v = 0; v < nvalues; v++) {
			const struct result *x = find(r, like, d, values[v], fastest);
			if (x)
				cell(f, "%.2f", what ? x->octets / x->median : 1000 / x->median);
			else
				fprintf(f, " %10s |", "");
		}
		fprintf(f, " %8s |\n", "");
	}
	for (size_t j = 0; j < npeers; j++)
		if (strcmp(peers[j]->name, "libeesp"))
			ratio_row(r, f, like, d, values, nvalues, peers[j], fastest);
	/* The narrower backends against the peer's best code. */
	for (size_t j = 0; j < npeers; j++) {
		if (strcmp(peers[j]->name, "ipsec-mb"))
			continue;
		for (size_t k = 0; k < npeers; k++)
			if (peers[k] != fastest && !strcmp(peers[k]->name, "libeesp") &&
			    strcmp(peers[k]->backend, "generic"))
				ratio_row(r, f, like, d, values, nvalues, peers[j], peers[k]);
		break;
	}
}

static void difference(const struct report *r, FILE *f, const char *text, enum work a, enum work b, size_t size,
		       size_t burst, bool as_ratio, double per)
{
	struct config x = { .work = a, .aead = EESP_AEAD_AES_128_GCM, .size = size, .burst = burst, .threads = 1 },
		      y = x;
	y.work = b;
	for (size_t i = 0; i < r->count; i++) {
		const struct peer *p = r->results[i].peer;
		if (strcmp(p->name, "libeesp"))
			continue;
		const struct result *ra = find(r, &x, BY_BURST, burst, p), *rb = find(r, &y, BY_BURST, burst, p);
		if (!ra || !rb)
			return;
		char label[32];
		value_label(label, sizeof label, value_of(&x, BY_SIZE), BY_SIZE);
		if (as_ratio)
			fprintf(f, "| %-44s | %6s | %5zu | %9.1f %% |\n", text, label, burst,
				(ra->median / rb->median - 1) * 100);
		else
			fprintf(f, "| %-44s | %6s | %5zu | %8.1f ns |\n", text, label, burst,
				(ra->median - rb->median) * per);
		return;
	}
}

static void differences(const struct report *r, FILE *f)
{
	static const size_t sizes[] = { 64, 256, 1420, 8942, IMIX };
	fprintf(f, "\n**What comes on top, fastest backend, aes-128-gcm, distinct contexts, 1 thread**\n\n"
		   "| %-44s | %6s | burst | difference  |\n|%.46s|-------:|------:|------------:|\n",
		"", "octets", "------------------------------------------------");
	for (size_t i = 0; i < 5; i++)
		difference(r, f, "rekey-open over rekey-seal", REKEY_OPEN, REKEY_SEAL, sizes[i], 32, true, 1);
	for (size_t i = 0; i < 5; i++)
		difference(r, f, "packet-seal over rekey-seal, per packet", PACKET_SEAL, REKEY_SEAL, sizes[i], 32,
			   false, 1);
	for (size_t i = 0; i < 5; i++)
		difference(r, f, "packet-open over rekey-open, per packet", PACKET_OPEN, REKEY_OPEN, sizes[i], 32,
			   false, 1);
	difference(r, f, "packet-seal over rekey-seal, per call", PACKET_SEAL, REKEY_SEAL, 64, 1, false, 1);
	difference(r, f, "packet-open over rekey-open, per call", PACKET_OPEN, REKEY_OPEN, 64, 1, false, 1);
}

static const struct result *one(const struct report *r, enum work work, unsigned aead, unsigned profile, bool careful,
				enum contexts contexts, size_t size, size_t burst)
{
	for (size_t i = 0; i < r->count; i++) {
		const struct config *c = &r->results[i].c;
		if (c->work == work && c->aead == aead && c->profile == profile && c->careful == careful &&
		    c->replay == WINDOWS && c->contexts == contexts && c->size == size && c->burst == burst &&
		    c->threads == 1 && !c->flows && !strcmp(r->results[i].peer->name, "libeesp"))
			return &r->results[i];
	}
	return NULL;
}

/* Whole packets beside the kernels that they rest on: a fresh key for each packet, or for eesp one expanded
 * beforehand. */
static void careful_table(const struct report *r, FILE *f)
{
	static const struct {
		size_t size, burst;
	} columns[] = { { 64, 32 }, { 1420, 32 }, { 64, 1 } };
	bool any = false;
	for (unsigned profile = EESP_PROFILE_STATELESS; profile <= EESP_PROFILE_EESP; profile++) {
		for (enum work work = PACKET_SEAL; work <= PACKET_OPEN; work++) {
			const struct config like = work_of(profile, work);
			unsigned aead = like.aead;
			enum work under = kernels_of(profile, work);
			enum contexts contexts = like.contexts;
			if (!one(r, work, aead, profile, true, contexts, 64, 32))
				continue;
			if (!any)
				fprintf(f, "\n**Whole packets, careful and bare: ns per packet, "
					   "and what that is on top of the kernels**\n\n"
					   "| %-30s | %-11s | %18s | %18s | %18s |\n|:-------------------------------|"
					   ":------------|-------------------:|-------------------:"
					   "|-------------------:|\n",
					"", "kernels", "64, burst 32", "1420, burst 32", "64, burst 1");
			any = true;
			for (int careful = 1; careful >= 0; careful--) {
				char label[64];
				snprintf(label, sizeof label, "%s %s, %s", profile_name(profile), work_name(work),
					 careful ? "careful" : "bare");
				fprintf(f, "| %-30s | %-11s |", label, work_name(under));
				for (size_t k = 0; k < sizeof columns / sizeof *columns; k++) {
					const struct result *a = one(r, work, aead, profile, careful, contexts,
								     columns[k].size, columns[k].burst);
					const struct result *b = one(r, under, aead, 0, false, DISTINCT,
								     columns[k].size, columns[k].burst);
					char text[64] = "";
					if (a && b)
						snprintf(text, sizeof text, "%.1f (%+.1f)", a->median,
							 a->median - b->median);
					else if (a)
						snprintf(text, sizeof text, "%.1f", a->median);
					fprintf(f, " %18s |", text);
				}
				fprintf(f, "\n");
			}
		}
	}
	if (any)
		fprintf(f, "\nCareful: replay windows of 1024, own IDs, two groups (psp: one), options (stateless), "
			   "packets of 32 senders.\n");
}

static void tail_table(const struct report *r, FILE *f)
{
	if (!r->tail_count)
		return;
	fprintf(f, "\n**Time of one call, %s, bursts of %zu packets of %zu octets, after a gap without calls**\n\n",
		"aes-128-gcm (tss: aes-256-gcm)", r->tails[0].c.burst, r->tails[0].c.size);
	fprintf(f, "| %-44s | workers |   gap us |    calls |   median us |    99.9%% us |      max us |\n"
		   "|%.46s|--------:|---------:|---------:|------------:|------------:|------------:|\n",
		"", "----------------------------------------------");
	bool few = false;
	for (size_t i = 0; i < r->tail_count; i++) {
		const struct tail *t = &r->tails[i];
		char label[96];
		snprintf(label, sizeof label, "%s %s %s", t->peer->name, t->peer->backend, work_name(t->c.work));
		if (t->c.work >= PACKET_SEAL)
			snprintf(label + strlen(label), sizeof label - strlen(label), " %s %s",
				 profile_name(t->c.profile), config_name(&t->c));
		fprintf(f, "| %-44s | %7u | %8u | %7zu%s | %11.2f | %11.2f | %11.2f |\n", label, t->workers, t->gap_us,
			t->calls, t->note[0] ? "*" : " ", t->p50 / 1000, t->p999 / 1000, t->max / 1000);
		few |= t->note[0] != 0;
	}
	if (few)
		fprintf(f, "\n\\* fewer than 5000 calls: the 99.9th percentile rests on fewer than five of them.\n");
}

void report_tables(const struct report *r, FILE *f)
{
	careful_table(r, f);
	for (int d = BY_SIZE; d < DIMENSIONS; d++) {
		for (size_t i = 0; i < r->count; i++) {
			const struct config *c = &r->results[i].c;
			bool seen = false, varies = false;
			for (size_t j = 0; j < r->count; j++) {
				const struct config *o = &r->results[j].c;
				if (same_but(o, c, d)) {
					seen |= j < i;
					varies |= value_of(o, d) != value_of(c, d);
				}
			}
			if (!seen && (varies || (d == BY_SIZE && c->work == DERIVE)))
				table(r, f, c, d);
		}
	}
	differences(r, f);
	tail_table(r, f);
}

/* ---- Files ---- */

static FILE *create(const char *dir, const char *name)
{
	char path[4096];
	snprintf(path, sizeof path, "%s/%s", dir, name);
	FILE *f = fopen(path, "w");
	if (!f)
		die("%s: %s", path, strerror(errno));
	return f;
}

static void finish(FILE *f, const char *name)
{
	if (ferror(f) | fclose(f))
		die("%s could not be written", name);
}

static void string(FILE *f, const char *s)
{
	fputc('"', f);
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			fprintf(f, "\\%c", *s);
		else if ((unsigned char)*s < ' ')
			fprintf(f, "\\u%04x", *s);
		else
			fputc(*s, f);
	}
	fputc('"', f);
}

/* The value of a field of /proc/cpuinfo, or "" */
static void cpuinfo(const char *field, char *out, size_t room)
{
	char line[8192];
	FILE *f = fopen("/proc/cpuinfo", "r");
	*out = 0;
	while (f && fgets(line, sizeof line, f)) {
		char *colon = strchr(line, ':');
		if (!colon || strncmp(line, field, strlen(field)))
			continue;
		colon += colon[1] == ' ' ? 2 : 1;
		colon[strcspn(colon, "\n")] = 0;
		snprintf(out, room, "%s", colon);
		break;
	}
	if (f)
		fclose(f);
}

static void cpu_name(char *out, size_t room)
{
	char model[256], family[32], number[32];
	cpuinfo("model name", model, sizeof model);
	cpuinfo("cpu family", family, sizeof family);
	cpuinfo("model\t", number, sizeof number);
	snprintf(out, room, "%s (family %s, model %s)", model[0] ? model : "unknown", family, number);
}

static void write_machine(FILE *f)
{
	static const char *const relevant[] = { "aes",      "pclmulqdq",  "avx",  "avx2",       "avx512f", "avx512bw",
						"avx512vl", "avx512vbmi", "vaes", "vpclmulqdq", "gfni",    "pmull" };
	char cpu[512], flags[8192];
	struct utsname u;
	cpu_name(cpu, sizeof cpu);
	cpuinfo("flags", flags, sizeof flags);
	if (!flags[0])
		cpuinfo("Features", flags, sizeof flags);
	uname(&u);
	fprintf(f, "{\"cpu\": ");
	string(f, cpu);
	fprintf(f, ", \"cpus\": %u, \"flags\": [", cpu_count());
	const char *comma = "";
	char *save = NULL;
	for (char *t = strtok_r(flags, " ", &save); t; t = strtok_r(NULL, " ", &save)) {
		for (size_t i = 0; i < sizeof relevant / sizeof *relevant; i++) {
			if (!strcmp(t, relevant[i])) {
				fprintf(f, "%s\"%s\"", comma, t);
				comma = ", ";
			}
		}
	}
	fprintf(f, "], \"kernel\": ");
	char kernel[256];
	snprintf(kernel, sizeof kernel, "%.64s %.64s %.64s", u.sysname, u.release, u.machine);
	string(f, kernel);
	fprintf(f, ", \"compiler\": ");
	string(f, "gcc " __VERSION__);
	fprintf(f, ", \"versions\": {\"libeesp\": ");
	string(f, eesp_version_string());
	fprintf(f, ", \"ipsec-mb\": ");
	string(f, ipsec_version());
	fprintf(f, ", \"openssl\": ");
	string(f, openssl_version());
	fprintf(f, ", \"go\": ");
	string(f, go_version());
	const char *version, *file;
	for (size_t i = 0; (file = plugin_at(i, &version)); i++) {
		fprintf(f, ", ");
		string(f, file);
		fprintf(f, ": ");
		string(f, version);
	}
	fprintf(f, "}}");
}

static void write_size(FILE *f, size_t size)
{
	if (size == IMIX)
		fprintf(f, "\"imix\"");
	else
		fprintf(f, "%zu", size);
}

/* Of the packet works: what kind of packets, and how they are looked at. */
static void write_kind(FILE *f, const struct config *c)
{
	if (c->work >= PACKET_SEAL)
		fprintf(f, "\"profile\": \"%s\", \"config\": \"%s\", \"flows\": %zu, ", profile_name(c->profile),
			config_name(c), c->flows);
}

static void write_json(const struct report *r, const char *dir)
{
	FILE *f = create(dir, "results.json");
	fprintf(f, "{\"machine\": ");
	write_machine(f);
	fprintf(f, ",\n\"results\": [");
	for (size_t i = 0; i < r->count; i++) {
		const struct result *x = &r->results[i];
		fprintf(f, "%s\n{\"peer\": \"%s\", \"backend\": \"%s\", \"work\": \"%s\", \"aead\": \"%s\", \"size\": ",
			i ? "," : "", x->peer->name, x->peer->backend, work_name(x->c.work), aead_name(x->c.aead));
		write_size(f, x->c.size);
		fprintf(f, ", \"burst\": %zu, \"contexts\": \"%s\", \"threads\": %u, ", x->c.burst,
			contexts_name(x->c.contexts), x->c.threads);
		write_kind(f, &x->c);
		fprintf(f, "\"ns_median\": %.3f, \"ns_min\": %.3f, \"ns_max\": %.3f, \"rounds\": %u, "
			   "\"octets_mean\": %.2f, \"how\": ",
			x->median, x->min, x->max, x->rounds, x->octets);
		string(f, x->peer->how[x->c.work]);
		fprintf(f, "}");
	}
	fprintf(f, "\n],\n\"tails\": [");
	for (size_t i = 0; i < r->tail_count; i++) {
		const struct tail *t = &r->tails[i];
		fprintf(f, "%s\n{\"peer\": \"%s\", \"backend\": \"%s\", \"work\": \"%s\", \"aead\": \"%s\", \"size\": ",
			i ? "," : "", t->peer->name, t->peer->backend, work_name(t->c.work), aead_name(t->c.aead));
		write_size(f, t->c.size);
		fprintf(f, ", ");
		write_kind(f, &t->c);
		fprintf(f,
			"\"burst\": %zu, \"workers\": %u, \"gap_us\": %u, \"calls\": %zu, \"ns_median\": %.0f, "
			"\"ns_p99\": %.0f, \"ns_p999\": %.0f, \"ns_max\": %.0f, \"note\": ",
			t->c.burst, t->workers, t->gap_us, t->calls, t->p50, t->p99, t->p999, t->max);
		string(f, t->note);
		fprintf(f, ", \"how\": ");
		string(f, t->peer->how[t->c.work]);
		fprintf(f, "}");
	}
	fprintf(f, "\n]}\n");
	finish(f, "results.json");
}

/* One line a round, so that benchstat can tell noise from change. */
static void write_benchstat(const struct report *r, const char *dir)
{
	FILE *f = create(dir, "bench.txt");
	char cpu[512];
	struct utsname u;
	cpu_name(cpu, sizeof cpu);
	uname(&u);
	fprintf(f, "goos: linux\ngoarch: %s\npkg: libeesp/bench\ncpu: %s\n",
		strcmp(u.machine, "x86_64") ? u.machine : "amd64", cpu);
	for (size_t i = 0; i < r->count; i++) {
		const struct result *x = &r->results[i];
		char name[32] = "", size[32] = "imix";
		const char *w = work_name(x->c.work);
		size_t n = 0;
		for (bool upper = true; *w; w++) {
			if (*w != '-')
				name[n++] = (char)(upper ? *w - 'a' + 'A' : *w);
			upper = *w == '-';
		}
		if (x->c.size != IMIX)
			snprintf(size, sizeof size, "%zu", x->c.size);
		char kind[64] = "";
		if (x->c.work >= PACKET_SEAL)
			snprintf(kind, sizeof kind, "/profile=%s/config=%s/flows=%zu", profile_name(x->c.profile),
				 config_name(&x->c), x->c.flows);
		for (unsigned k = 0; k < x->rounds; k++)
			fprintf(f, "Benchmark%s/peer=%s/backend=%s/aead=%s/size=%s/burst=%zu/contexts=%s/threads=%u%s "
				   "1 %.3f ns/op %.3f GB/s\n",
				name, x->peer->name, x->peer->backend, aead_name(x->c.aead), size, x->c.burst,
				contexts_name(x->c.contexts), x->c.threads, kind, x->ns[k], x->octets / x->ns[k]);
	}
	finish(f, "bench.txt");
}

void report_write(const struct report *r, const char *dir)
{
	if (mkdir(dir, 0777) && errno != EEXIST)
		die("%s: %s", dir, strerror(errno));
	write_json(r, dir);
	write_benchstat(r, dir);
	FILE *f = create(dir, "tables.md");
	report_tables(r, f);
	finish(f, "tables.md");
}
